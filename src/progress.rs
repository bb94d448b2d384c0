//! Progress on standard error: bars on a terminal, a line every few seconds otherwise.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indexbuild_local::{Progress, ProgressSink, SlotProgress};
use indexbuild_text::{bytes, count};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// All bars of this process: whoever else writes to the terminal suspends them meanwhile.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// The sink that fits where standard error goes.
pub(crate) fn sink(quiet: bool) -> Box<dyn ProgressSink> {
    if quiet {
        Box::new(Waits { waits: false })
    } else if io::stderr().is_terminal() {
        Box::new(Bars::new())
    } else {
        Box::new(Lines { last: None, last_text: String::new() })
    }
}

struct Bars {
    overall: ProgressBar,
    slots: Vec<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let overall = bars().add(ProgressBar::new(100));
        overall.set_style(style("{elapsed:>4} {bar:32.cyan/dim} {percent:>3}%  {msg}"));
        Self { overall, slots: Vec::new() }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌")
}

impl ProgressSink for Bars {
    fn show(&mut self, progress: &Progress) {
        self.overall.set_position(u64::from(progress.percent));
        self.overall.set_message(overall(progress));
        while self.slots.len() < progress.slots.len() {
            let bar = bars().add(ProgressBar::new(100));
            bar.set_style(style("       {bar:20.green/dim} {percent:>3}%  {msg:.dim}"));
            self.slots.push(bar);
        }
        for (bar, slot) in self.slots.iter().zip(&progress.slots) {
            bar.set_position(u64::from(slot.percent));
            bar.set_message(of_slot(slot));
        }
    }

    fn say(&mut self, message: &str, warning: bool) {
        bars().suspend(|| say(message, warning));
    }

    fn finish(&mut self) {
        for bar in self.slots.iter().chain([&self.overall]) {
            bar.finish_and_clear();
            bars().remove(bar);
        }
    }
}

/// No progress; a line when the run begins to wait for something, and one when it goes on: a silence without end looks the
/// same as work.
struct Waits {
    waits: bool,
}

impl Waits {
    fn change(&mut self, progress: &Progress) -> Option<String> {
        let waiting = progress.slots.iter().find_map(|slot| slot.waiting.as_ref());
        if waiting.is_some() == self.waits {
            return None;
        }
        self.waits = waiting.is_some();
        Some(waiting.map_or_else(|| "the run goes on".to_owned(), |waiting| format!("the run waits: {waiting}")))
    }
}

impl ProgressSink for Waits {
    fn show(&mut self, progress: &Progress) {
        if let Some(change) = self.change(progress) {
            say(&change, false);
        }
    }

    fn say(&mut self, _: &str, _: bool) {}

    fn insist(&mut self, message: &str) {
        say(message, true);
    }
}

struct Lines {
    last: Option<Instant>,
    last_text: String,
}

impl ProgressSink for Lines {
    fn show(&mut self, progress: &Progress) {
        // Short builds need no lines at all.
        let due = self.last.map_or(progress.elapsed >= LINE_EVERY, |last| last.elapsed() >= LINE_EVERY);
        if !due {
            return;
        }
        let mut text = format!("{:>3}%  {}", progress.percent, overall(progress));
        for slot in progress.slots.iter().filter(|slot| slot.work.is_some() || slot.silent.is_some()) {
            let _ = write!(text, " | {}", of_slot(slot));
        }
        self.last = Some(Instant::now());
        if text != self.last_text {
            let _ = writeln!(io::stderr(), "{:>6}s  {text}", progress.elapsed.as_secs());
            self.last_text = text;
        }
    }

    fn say(&mut self, message: &str, warning: bool) {
        say(message, warning);
    }
}

fn say(message: &str, warning: bool) {
    let kind = if warning { "warning" } else { "note" };
    let _ = writeln!(io::stderr(), "{kind}: {message}");
}

fn overall(progress: &Progress) -> String {
    let mut text = format!("{}", progress.phase);
    if let Some((stage, done, total)) = &progress.works {
        let _ = write!(text, " ({stage} {done}/{total})");
    }
    let _ = write!(text, "  {} rows  {}", count(progress.rows), bytes(progress.bytes));
    if let Some(eta) = progress.eta.filter(|eta| eta.as_secs() > 0) {
        let _ = write!(text, "  {} left", indexbuild_api::Duration::from_secs(eta.as_secs()));
    }
    text
}

fn of_slot(slot: &SlotProgress) -> String {
    let mut text = format!("slot {}", slot.slot);
    match &slot.work {
        Some((work, _)) => {
            let _ = write!(text, " {work}");
            if let Some(step) = &slot.step {
                let _ = write!(text, " {step}");
            }
            let _ = write!(text, "  {} rows  {}", count(slot.rows), bytes(slot.bytes));
        }
        None => text.push_str(" idle"),
    }
    if let Some(silent) = slot.silent {
        let _ = write!(text, "  silent for {} s", silent.as_secs());
    }
    if let Some(waiting) = &slot.waiting {
        let _ = write!(text, "  waits: {waiting}");
    }
    text
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Phase, WorkKind};

    use super::*;

    #[test]
    fn a_quiet_run_says_once_that_it_waits_and_once_that_it_goes_on() {
        let of = |waiting: Option<&str>| Progress {
            slots: vec![SlotProgress {
                slot: 0,
                work: None,
                step: None,
                percent: 0,
                rows: 0,
                bytes: 0,
                silent: None,
                waiting: waiting.map(str::to_owned),
            }],
            ..Progress::default()
        };
        let mut sink = Waits { waits: false };
        assert_eq!(sink.change(&of(None)), None);
        assert_eq!(sink.change(&of(Some("no space"))).as_deref(), Some("the run waits: no space"));
        assert_eq!(sink.change(&of(Some("no space"))), None);
        assert_eq!(sink.change(&of(Some("still no space"))), None);
        assert_eq!(sink.change(&of(None)).as_deref(), Some("the run goes on"));
        assert_eq!(sink.change(&of(None)), None);
    }

    #[test]
    fn a_line_says_how_far_the_whole_and_each_slot_is() {
        let slot = SlotProgress {
            slot: 1,
            work: Some(("encode-3".to_owned(), WorkKind::Encode)),
            step: Some("read".to_owned()),
            percent: 40,
            rows: 1_200_000,
            bytes: 3 << 20,
            silent: Some(Duration::from_secs(4)),
            waiting: None,
        };
        assert_eq!(of_slot(&slot), "slot 1 encode-3 read  1,200,000 rows  3.0 MiB  silent for 4 s");
        let progress = Progress {
            phase: Phase::Encoding,
            percent: 30,
            rows: 5,
            bytes: 10,
            works: Some(("encode".to_owned(), 2, 8)),
            eta: Some(Duration::from_secs(75)),
            elapsed: Duration::from_secs(10),
            slots: vec![slot],
        };
        assert_eq!(overall(&progress), "Encoding (encode 2/8)  5 rows  10 B  1m15s left");
    }
}
