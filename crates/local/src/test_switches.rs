//! What the faults that a run is asked for make of its processes' test switches: those that a process is born with.

use std::path::PathBuf;

use indexbuild_durable::test_switches::{FAULTS, Faults, SWITCHES, from_environment};
use indexbuild_executor::TestSwitches;

use crate::requested_fault::{Fault, Process};

/// What the durable steps of a process suffer; of a slot, those of its first one.
pub(crate) fn suffered_by(process: Process, faults: &[Fault]) -> Faults {
    let mut found = Faults::default();
    for fault in faults {
        match fault {
            Fault::KillPoint { process: of, point } if *of == process => found.kill_at = Some(*point),
            Fault::Trace { process: of, file } if *of == process => found.trace = Some(file.clone()),
            Fault::FailWrite { slot, write } if process == Process::Slot(*slot) => found.fail_write = Some(*write),
            Fault::KillPoint { .. }
            | Fault::Trace { .. }
            | Fault::FailWrite { .. }
            | Fault::Cut { .. }
            | Fault::Kill { .. }
            | Fault::Freeze { .. }
            | Fault::LeakEngine { .. }
            | Fault::FillDisk { .. } => {}
        }
    }
    found
}

/// The variables that tell a slot's next process what it suffers. `faults`: those that it is born with;
/// `no_space_while`: the file that stands while its disk is full, if that is to happen.
pub(crate) fn variables(slot: u32, faults: &[Fault], no_space_while: Option<PathBuf>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let suffers = Faults { no_space_while, ..suffered_by(Process::Slot(slot), faults) };
    if suffers != Faults::default()
        && let Ok(text) = serde_json::to_string(&suffers)
    {
        variables.push((FAULTS.to_owned(), text));
    }
    if faults.contains(&Fault::LeakEngine { slot }) {
        // On top of what the environment asks for.
        let switches: TestSwitches = from_environment(SWITCHES).unwrap_or_default();
        if let Ok(text) = serde_json::to_string(&switches.leaking_the_engine()) {
            variables.push((SWITCHES.to_owned(), text));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_suffers_only_the_points_that_were_asked_for_it() {
        let faults: Vec<Fault> = ["kill-point:1:5", "trace:parent:/t", "fail-write:1:2", "cut:1:1s"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let slot = suffered_by(Process::Slot(1), &faults);
        assert_eq!((slot.kill_at, slot.fail_write, slot.trace), (Some(5), Some(2), None));
        assert_eq!(suffered_by(Process::Parent, &faults).trace, Some(PathBuf::from("/t")));
        assert_eq!(suffered_by(Process::Slot(0), &faults), Faults::default());
    }
}
