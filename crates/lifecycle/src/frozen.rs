//! Which objects are believed to be frozen stages.
//!
//! A stage decides which results count, and its object can be made by anybody who may make such objects. So what a stage
//! holds is said by its digest in the build's status first, by compare-and-set, and the object is made after that (G2): one
//! with another content is somebody else's, whatever its name, labels and owner are (G6).

use indexbuild_api::{EngineDirectorySpec, FrozenStage, StageName, names};
use sha2::{Digest as _, Sha256};

use crate::world::{BuildView, Frozen, Stage, Unproved};

/// An object under the name of a stage of the build, as it was read. Anybody may have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageObject {
    pub name: String,
    /// What it holds as a stage's text, if it holds anything.
    pub text: Option<String>,
    /// Whether it looks as the operator makes them: immutable, and owned by this very build. That can be copied.
    pub well_formed: bool,
}

/// The digest by which a stage's text is known.
#[must_use]
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Stage {
    /// How it is written.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// As [`FrozenStage`]; `None`: it cannot be written.
    #[must_use]
    pub fn frozen(&self) -> Option<FrozenStage> {
        let text = self.text().ok()?;
        Some(FrozenStage { name: self.name.clone(), digest: digest(&text) })
    }
}

impl Frozen {
    /// Of stages that nobody else can write: all that are there are believed.
    #[must_use]
    pub fn own(said: Option<&[FrozenStage]>, stages: &[Stage]) -> Self {
        let all = || stages.iter().filter_map(Stage::frozen).collect();
        let there = |said: &&FrozenStage| stages.iter().any(|stage| stage.name == said.name);
        let lost = said.unwrap_or_default().iter().filter(|said| !there(said)).cloned().collect();
        Self { unsaid: said.is_none().then(all), lost, unproved: Vec::new() }
    }
}

/// Of the objects under names of stages, the stages that are believed, and what else is known.
///
/// A build that an older operator began has no list of them, and its records hold choices no more: once, its objects are
/// believed by what they look like, where no record contradicts, and the list is written. A build that nobody began to
/// work on yet gets an empty list, so that none of that holds for it.
#[must_use]
pub fn sort_out(build: &BuildView, records: &[&EngineDirectorySpec], objects: &[StageObject]) -> (Vec<Stage>, Frozen) {
    let prefix = names::config_map(&build.name, &build.uid, "");
    let named = objects.iter().filter_map(|object| {
        let stage = object.name.strip_prefix(&prefix)?;
        // `encode-r01` can be read as a stage, and is the name of none.
        let is_name = stage.parse::<StageName>().is_ok_and(|name| name.to_string() == stage);
        is_name.then(|| Unproved { stage: stage.to_owned(), object: object.name.clone(), holds: holds(object, stage) })
    });
    let said = build.status.as_ref().and_then(|status| status.frozen_stages.as_ref());
    let begun = build.finalizer || build.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let (mut stages, mut frozen) = (Vec::new(), Frozen::default());
    let mut old = Vec::new();
    for unproved in named {
        let said_digest = said.and_then(|said| said.iter().find(|said| said.name == unproved.stage));
        let proved = match (&unproved.holds, said, said_digest) {
            (Some((_, digest)), Some(_), Some(said)) => *digest == said.digest,
            (Some((stage, digest)), None, _) => {
                let looks = objects.iter().any(|object| object.name == unproved.object && object.well_formed);
                let believed = begun && looks && is_uncontradicted(stage, records);
                if believed {
                    old.push(FrozenStage { name: stage.name.clone(), digest: digest.clone() });
                }
                believed
            }
            (None, _, _) | (Some(_), Some(_), None) => false,
        };
        match unproved.holds {
            Some((stage, _)) if proved => stages.push(stage),
            holds => frozen.unproved.push(Unproved { holds, ..unproved }),
        }
    }
    let believed = |said: &&FrozenStage| stages.iter().any(|stage: &Stage| stage.name == said.name);
    frozen.lost = said.into_iter().flatten().filter(|said| !believed(said)).cloned().collect();
    frozen.unsaid = said.is_none().then_some(old);
    (stages, frozen)
}

fn holds(object: &StageObject, name: &str) -> Option<(Stage, String)> {
    let text = object.text.as_deref()?;
    let stage: Stage = serde_json::from_str(text).ok()?;
    (stage.name == name).then(|| (stage, digest(text)))
}

/// Whether no record has made another choice for a work of the stage.
fn is_uncontradicted(stage: &Stage, records: &[&EngineDirectorySpec]) -> bool {
    stage.chosen.iter().all(|entry| {
        let mut choices = records.iter().flat_map(|record| &record.chosen).filter(|one| one.work_id == entry.work_id);
        let none = choices.clone().next().is_none();
        none || choices.any(|one| one == entry)
    })
}
