//! Names of objects in the output store, and of works.
//!
//! All paths are relative to the build's prefix, `<output.url>/<namespace>/<name>/<build UID>/`.

pub use indexbuild_index::manifest::{LATEST, MANIFEST};

use std::fmt;
use std::str::FromStr;

/// The plan: created once, if absent.
pub const PLAN: &str = "plan.json";
/// The last object of an attempt.
pub const RESULT: &str = "result.json";
pub const ATTEMPTS: &str = "attempts";

pub fn work_prefix(work_id: &str) -> String {
    format!("{ATTEMPTS}/{work_id}")
}

pub fn attempt_prefix(work_id: &str, epoch: u64, boot_nonce: &str) -> String {
    format!("{ATTEMPTS}/{work_id}/{epoch}-{boot_nonce}")
}

pub fn result_path(work_id: &str, epoch: u64, boot_nonce: &str) -> String {
    format!("{}/{RESULT}", attempt_prefix(work_id, epoch, boot_nonce))
}

/// What a work's id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkName {
    Plan,
    /// `encode-<number>` (round 0), `encode-r<round>-<number>`
    Encode {
        /// 0: the plan's works; later rounds repair what a Sort found damaged or missing.
        round: u32,
        /// Which of the round's works.
        number: u32,
    },
    /// `sort-<number>`
    Sort {
        /// Which of the plan's Sort works.
        number: u32,
    },
    Publish,
    Clean,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no work's id: the control plane and this executor are of different versions")]
pub struct UnknownWork(pub String);

impl FromStr for WorkName {
    type Err = UnknownWork;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownWork(id.to_owned());
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        match id {
            "plan" => return Ok(Self::Plan),
            "publish" => return Ok(Self::Publish),
            "clean" => return Ok(Self::Clean),
            _ => {}
        }
        if let Some(rest) = id.strip_prefix("encode-r") {
            let (round, of_round) = rest.split_once('-').ok_or_else(unknown)?;
            return Ok(Self::Encode { round: number(round)?, number: number(of_round)? });
        }
        if let Some(rest) = id.strip_prefix("encode-") {
            return Ok(Self::Encode { round: 0, number: number(rest)? });
        }
        if let Some(rest) = id.strip_prefix("sort-") {
            return Ok(Self::Sort { number: number(rest)? });
        }
        Err(unknown())
    }
}

impl fmt::Display for WorkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => f.write_str("plan"),
            Self::Encode { round: 0, number } => write!(f, "encode-{number}"),
            Self::Encode { round, number } => write!(f, "encode-r{round}-{number}"),
            Self::Sort { number } => write!(f, "sort-{number}"),
            Self::Publish => f.write_str("publish"),
            Self::Clean => f.write_str("clean"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in ["plan", "encode-0", "encode-17", "encode-r2-3", "sort-5", "publish", "clean"] {
            assert_eq!(id.parse::<WorkName>().unwrap().to_string(), id);
        }
        for id in ["", "encode", "encode-", "encode-x", "encode-r1", "sort--1", "plan-0"] {
            assert!(id.parse::<WorkName>().is_err(), "{id}");
        }
    }
}
