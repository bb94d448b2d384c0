//! Faults that a run can be asked for, on the command line and from tests.
//!
//! They happen to the run from outside: nothing in the lifecycle or in an executor knows of them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use indexbuild_api::WorkKind;

/// One fault that a run is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `cut:<slot>:<for>[@<when>]`: for a time, no message passes between the parent and the process
    /// that the slot has then; neither side is told. A process that replaces it is not cut off.
    Cut {
        /// The slot whose process is cut off.
        slot: u32,
        lasts: Duration,
        when: When,
    },
    /// `kill:<slot>[@<when>]`: the slot's process gets SIGKILL.
    Kill {
        /// The slot whose process is killed.
        slot: u32,
        when: When,
    },
    /// `freeze:<slot>:<for>[@<when>]`: the slot's process is stopped (SIGSTOP) and goes on later.
    Freeze {
        /// The slot whose process is frozen.
        slot: u32,
        lasts: Duration,
        when: When,
    },
    /// `leak-engine:<slot>`: the slot's first process leaves an engine open after a Sort.
    LeakEngine { slot: u32 },
    /// `fail-write:<slot>:<n>`: the n-th durable write of the slot's first process fails, once.
    FailWrite {
        slot: u32,
        /// Counted from 0.
        write: u64,
    },
    /// `fill-disk:<slot>:<for>[@<when>]`: for a time, the slot's processes find no space left.
    FillDisk {
        /// The slot whose volume is full.
        slot: u32,
        lasts: Duration,
        when: When,
    },
    /// `kill-point:<slot|parent>:<n>`: the process kills itself (SIGKILL) at its n-th durable point.
    KillPoint {
        /// Which process; of a slot, the first.
        process: Process,
        /// Counted from 0; each durable step has a point before and one after it.
        point: u64,
    },
    /// `trace:<slot|parent>:<file>`: the process appends each durable point that it passes to a file.
    Trace {
        /// Which process; of a slot, the first.
        process: Process,
        file: PathBuf,
    },
}

/// Which process of a run a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Parent,
    /// A slot's first process.
    Slot(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As soon as the slot's process works.
    #[default]
    Working,
    /// As soon as the slot's process has a work of this kind in hand, that far.
    During {
        kind: WorkKind,
        /// 0 to 100, of that work.
        percent: u8,
    },
}

impl When {
    /// Whether a process that has this work in hand, so far (0 to 100), has come to the moment.
    pub fn is_now(self, kind: WorkKind, percent: u8) -> bool {
        match self {
            Self::Working => true,
            Self::During { kind: wanted, percent: from } => wanted == kind && percent >= from,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault \"{text}\": {what}; write {expected}")]
pub struct ParseFaultError {
    text: String,
    what: String,
    expected: String,
}

impl Fault {
    /// All forms of a fault, and what happens.
    pub const FORMS: [(&str, &str); 8] = [
        ("cut:<slot>:<for>[@<when>]", "no message passes between the slot's process and the run"),
        ("kill:<slot>[@<when>]", "the slot's process gets SIGKILL"),
        ("freeze:<slot>:<for>[@<when>]", "the slot's process is stopped, and goes on later"),
        ("leak-engine:<slot>", "the slot's first process leaves an engine open after a sort"),
        ("fail-write:<slot>:<n>", "the n-th durable write of the slot's first process fails, once"),
        ("fill-disk:<slot>:<for>[@<when>]", "the slot's processes find no space left"),
        ("kill-point:<slot|parent>:<n>", "the process kills itself at its n-th durable point"),
        ("trace:<slot|parent>:<file>", "the process lists the durable points that it passes"),
    ];
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let named = |form: &str| form.split(':').next().unwrap_or_default().to_owned();
        let Some((expected, _)) = Self::FORMS.iter().find(|(form, _)| named(form) == name) else {
            return Err(ParseFaultError {
                text: text.to_owned(),
                what: format!("there is no fault \"{name}\""),
                expected: format!("one of {}", Self::FORMS.map(|(form, _)| named(form)).join(", ")),
            });
        };
        let expected = (*expected).to_owned();
        parse(name, rest).map_err(|what| ParseFaultError { text: text.to_owned(), what, expected })
    }
}

fn parse(name: &str, rest: &str) -> Result<Fault, String> {
    // A trace's file may hold any character.
    if name == "trace" {
        let (process, file) = rest.split_once(':').ok_or("the file is missing")?;
        if file.is_empty() {
            return Err("the file is missing".to_owned());
        }
        return Ok(Fault::Trace { process: process.parse()?, file: PathBuf::from(file) });
    }
    let (place, when) = match rest.split_once('@') {
        Some((place, when)) => (place, Some(when)),
        None => (rest, None),
    };
    let fields: Vec<&str> = place.split(':').collect();
    let moment = || when.map_or(Ok(When::Working), str::parse);
    let now = |fault: Fault| if when.is_some() { Err("it has no @<when>".to_owned()) } else { Ok(fault) };
    match (name, fields.as_slice()) {
        ("cut", [slot, lasts]) => Ok(Fault::Cut { slot: number(slot)?, lasts: duration(lasts)?, when: moment()? }),
        ("kill", [slot]) => Ok(Fault::Kill { slot: number(slot)?, when: moment()? }),
        ("freeze", [slot, lasts]) => {
            Ok(Fault::Freeze { slot: number(slot)?, lasts: duration(lasts)?, when: moment()? })
        }
        ("fill-disk", [slot, lasts]) => {
            Ok(Fault::FillDisk { slot: number(slot)?, lasts: duration(lasts)?, when: moment()? })
        }
        ("leak-engine", [slot]) => now(Fault::LeakEngine { slot: number(slot)? }),
        ("fail-write", [slot, write]) => now(Fault::FailWrite { slot: number(slot)?, write: number(write)? }),
        ("kill-point", [process, point]) => now(Fault::KillPoint { process: process.parse()?, point: number(point)? }),
        (_, _) => Err("it has too few or too many parts".to_owned()),
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a number"))
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<indexbuild_api::Duration>().map(Into::into).map_err(|error| error.to_string())
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "parent" => Ok(Self::Parent),
            slot => number(slot).map(Self::Slot),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, percent) = text.split_once(':').unwrap_or((text, "0%"));
        let kind = KINDS
            .into_iter()
            .find(|known| kind_name(*known) == kind)
            .ok_or_else(|| format!("\"{kind}\" is no kind of work ({})", KINDS.map(kind_name).join(", ")))?;
        let percent = percent
            .strip_suffix('%')
            .and_then(|digits| digits.parse().ok())
            .filter(|percent| *percent <= 100)
            .ok_or_else(|| format!("\"{percent}\" is not a share such as 50%"))?;
        Ok(Self::During { kind, percent })
    }
}

const KINDS: [WorkKind; 5] = [WorkKind::Plan, WorkKind::Encode, WorkKind::Sort, WorkKind::Publish, WorkKind::Clean];

/// What people call a kind of work.
pub(crate) const fn kind_name(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Plan => "plan",
        WorkKind::Encode => "encode",
        WorkKind::Sort => "sort",
        WorkKind::Publish => "publish",
        WorkKind::Clean => "clean",
        WorkKind::Other(_) => "other",
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Working => Ok(()),
            Self::During { kind, percent } => write!(f, "@{}:{percent}%", kind_name(*kind)),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => f.write_str("parent"),
            Self::Slot(slot) => write!(f, "{slot}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |lasts: &Duration| indexbuild_api::Duration::from(*lasts);
        match self {
            Self::Cut { slot, lasts, when } => write!(f, "cut:{slot}:{}{when}", shown(lasts)),
            Self::Kill { slot, when } => write!(f, "kill:{slot}{when}"),
            Self::Freeze { slot, lasts, when } => write!(f, "freeze:{slot}:{}{when}", shown(lasts)),
            Self::LeakEngine { slot } => write!(f, "leak-engine:{slot}"),
            Self::FailWrite { slot, write } => write!(f, "fail-write:{slot}:{write}"),
            Self::FillDisk { slot, lasts, when } => write!(f, "fill-disk:{slot}:{}{when}", shown(lasts)),
            Self::KillPoint { process, point } => write!(f, "kill-point:{process}:{point}"),
            Self::Trace { process, file } => write!(f, "trace:{process}:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in [
            "cut:1:2s",
            "cut:1:1s500ms@encode:50%",
            "kill:0",
            "kill:0@sort:0%",
            "freeze:2:300ms@publish:0%",
            "leak-engine:1",
            "fail-write:0:17",
            "fill-disk:0:1s@encode:0%",
            "kill-point:parent:12",
            "kill-point:3:0",
            "trace:parent:/tmp/a:b@c",
            "trace:0:points",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!(
            "cut:0:1m@sort".parse::<Fault>().unwrap(),
            Fault::Cut {
                slot: 0,
                lasts: Duration::from_secs(60),
                when: When::During { kind: WorkKind::Sort, percent: 0 }
            }
        );
    }

    #[test]
    fn each_form_is_understood() {
        for (form, _) in Fault::FORMS {
            let parts = [("[@<when>]", "@sort:5%"), ("<slot|parent>", "parent"), ("<slot>", "1"), ("<for>", "2s")];
            let text = parts.iter().fold(form.to_owned(), |text, (part, value)| text.replace(part, value));
            let text = text.replace("<n>", "3").replace("<file>", "/t");
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_form_it_should_have() {
        for (text, part) in [
            ("cut", "cut:<slot>:<for>[@<when>]"),
            ("cut:x:1s", "\"x\" is not a number"),
            ("cut:0:1", "90s"),
            ("cut:0:1s@lunch", "no kind of work"),
            ("cut:0:1s@encode:150%", "not a share"),
            ("leak-engine:0@encode", "no @<when>"),
            ("explode:0", "one of cut, kill"),
            ("trace:parent:", "the file is missing"),
            ("kill-point:parent:-1", "not a number"),
        ] {
            let message = text.parse::<Fault>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_moment_is_met_by_its_own_kind_of_work_alone_and_not_before_its_share() {
        let when: When = "encode:50%".parse().unwrap();
        assert!(!when.is_now(WorkKind::Encode, 49));
        assert!(when.is_now(WorkKind::Encode, 50));
        assert!(!when.is_now(WorkKind::Sort, 90));
        assert!(When::Working.is_now(WorkKind::Plan, 0));
    }
}
