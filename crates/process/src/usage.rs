use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// Peak resident set, in bytes (`VmHWM`).
    pub peak_rss: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
}

/// Reads what a live process has used so far; `None` when it is gone.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    let peak_rss = peak_rss_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come state, ppid, ...: utime and stime are
    // the 12th and 13th field from there, in ticks of 10 ms on every Linux.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(Usage { peak_rss, cpu_ms: (ticks(11) + ticks(12)) * 10 })
}

/// This process's peak resident set, in bytes; 0 where the kernel does not say it.
#[must_use]
pub fn peak_rss() -> u64 {
    fs::read_to_string("/proc/self/status").ok().as_deref().and_then(peak_rss_in).unwrap_or(0)
}

/// Processor time of this process so far, all threads together.
#[must_use]
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn peak_rss_in(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_at_least_what_is_touched() {
        let before = peak_rss();
        assert!(before > 1 << 20, "{before}");
        let touched = vec![7u8; 64 << 20];
        assert!(touched.iter().step_by(4096).all(|byte| *byte == 7));
        assert!(peak_rss() >= 64 << 20);
    }

    #[test]
    fn a_process_sees_of_itself_what_others_see() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = cpu_time();
        assert!(usage(own).is_some_and(|usage| usage.peak_rss > 1 << 20));
        assert!(cpu_time() >= before);
    }
}
