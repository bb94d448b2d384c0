//! Ids of works and names of stages: the one place that reads them and writes them.

use std::fmt;
use std::str::FromStr;

use crate::directory::WorkKind;

/// What a work's id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkId {
    /// `plan`
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
    /// `publish`
    Publish,
    /// `clean`
    Clean,
}

impl WorkId {
    /// The stage that the work belongs to; Clean's may be either of two.
    #[must_use]
    pub const fn stage(self) -> Option<StageName> {
        match self {
            Self::Plan => Some(StageName::Plan),
            Self::Encode { round: 0, number: _ } => Some(StageName::Encode),
            Self::Encode { round, number: _ } => Some(StageName::Repair(round)),
            Self::Sort { number: _ } => Some(StageName::Sort),
            Self::Publish => Some(StageName::Publish),
            Self::Clean => None,
        }
    }

    /// What is done in it.
    #[must_use]
    pub const fn kind(self) -> WorkKind {
        match self {
            Self::Plan => WorkKind::Plan,
            Self::Encode { .. } => WorkKind::Encode,
            Self::Sort { .. } => WorkKind::Sort,
            Self::Publish => WorkKind::Publish,
            Self::Clean => WorkKind::Clean,
        }
    }
}

/// A text that is no work's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no work's id: the control plane and this executor are of different versions")]
pub struct UnknownWork(pub String);

impl FromStr for WorkId {
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

impl fmt::Display for WorkId {
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

/// The name of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageName {
    /// `plan`: pins the source and cuts the index.
    Plan,
    /// `encode`: reads the table.
    Encode,
    /// `encode-r<round>`, from 1: encodes again what a Sort found damaged or missing.
    Repair(u32),
    /// `sort`
    Sort,
    /// `publish`: commits.
    Publish,
    /// `clean`: removes what is not needed, after the commit or after an abort. Frozen without a choice: given up.
    Clean,
    /// `clean-index`: removes a committed index whose build was deleted.
    CleanIndex,
}

/// A text that names no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no stage: the control plane and this executor are of different versions")]
pub struct UnknownStage(pub String);

impl FromStr for StageName {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "plan" => Self::Plan,
            "encode" => Self::Encode,
            "sort" => Self::Sort,
            "publish" => Self::Publish,
            "clean" => Self::Clean,
            "clean-index" => Self::CleanIndex,
            _ => {
                let round = name.strip_prefix("encode-r").and_then(|round| round.parse().ok());
                Self::Repair(round.ok_or_else(|| UnknownStage(name.to_owned()))?)
            }
        })
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Encode => "encode",
            Self::Repair(round) => return write!(f, "encode-r{round}"),
            Self::Sort => "sort",
            Self::Publish => "publish",
            Self::Clean => "clean",
            Self::CleanIndex => "clean-index",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_read_as_they_are_written() {
        for id in ["plan", "encode-0", "encode-17", "encode-r2-3", "sort-5", "publish", "clean"] {
            assert_eq!(id.parse::<WorkId>().unwrap().to_string(), id);
        }
        for id in ["", "encode", "encode-", "encode-x", "encode-r1", "sort--1", "plan-0"] {
            assert!(id.parse::<WorkId>().is_err(), "{id}");
        }
        for name in ["plan", "encode", "encode-r1", "encode-r12", "sort", "publish", "clean", "clean-index"] {
            assert_eq!(name.parse::<StageName>().unwrap().to_string(), name);
        }
        for name in ["", "encode-0", "encode-r", "encode-r1-0", "build", "sort-5"] {
            assert!(name.parse::<StageName>().is_err(), "{name}");
        }
    }
}
