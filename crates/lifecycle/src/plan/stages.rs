//! Stages and their works: which come next, what they read, which of their results count.

use std::collections::BTreeSet;

use indexbuild_api::{
    Chosen, EngineDirectorySpec, FrozenStage, IndexBuildSpec, RunLocation, StageName, Work, WorkId, WorkKind,
};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use crate::world::{Stage, World};

/// The stage that pins the source and cuts the index.
pub const PLAN: &str = "plan";
/// The stage that reads the table.
pub const ENCODE: &str = "encode";
pub const SORT: &str = "sort";
pub const PUBLISH: &str = "publish";
/// The stage that removes what is not needed, after the commit or after an abort. Frozen without a choice: given up.
pub const CLEAN: &str = "clean";
/// The stage that removes a committed index whose build was deleted.
pub const CLEAN_INDEX: &str = "clean-index";
/// The id of a Clean work, in either stage.
pub const CLEAN_WORK: &str = "clean";

/// The name of a repair round's stage, from 1.
#[must_use]
pub(super) fn repair_stage(round: u32) -> String {
    StageName::Repair(round).to_string()
}

#[must_use]
pub(super) fn repair_work(round: u32) -> String {
    WorkId::Encode { round, number: 0 }.to_string()
}

/// The round of a repair work's id.
#[must_use]
pub(super) fn repair_round(work_id: &str) -> Option<u32> {
    match work_id.parse().ok()? {
        WorkId::Encode { round, number: _ } => (round > 0).then_some(round),
        WorkId::Plan | WorkId::Sort { .. } | WorkId::Publish | WorkId::Clean => None,
    }
}

/// The stage that a work id belongs to, `clean` aside, which may belong to two.
fn stage_of(work_id: &str) -> Option<String> {
    work_id.parse::<WorkId>().ok()?.stage().map(|stage| stage.to_string())
}

fn works_of(of: fn(u32) -> WorkId, count: u32) -> Vec<String> {
    (0..count).map(|number| of(number).to_string()).collect()
}

/// The records that are of this build, and not of another one that had its name.
fn records(world: &World) -> impl Iterator<Item = &EngineDirectorySpec> {
    world.slots.iter().map(|slot| &slot.record.spec).filter(|spec| spec.build_uid == world.build.uid)
}

/// What is known of the stages, and of the choices that are not frozen yet.
#[derive(Debug)]
pub(super) struct Stages<'w> {
    world: &'w World,
    /// The Clean stage that is meant now: [`CLEAN`] or [`CLEAN_INDEX`].
    clean: &'static str,
    /// Whether a slot's own volume is to stay as it is when it cleans.
    keeps_volumes: bool,
    /// Works that are chosen in a record, by this observation or by an earlier one.
    in_records: BTreeSet<&'w str>,
    /// Encode and Sort works, once the plan is frozen.
    counts: Option<(u32, u32)>,
}

impl<'w> Stages<'w> {
    pub(super) fn of(world: &'w World, clean: &'static str, keeps_volumes: bool) -> Self {
        let chosen = records(world).flat_map(|spec| &spec.chosen);
        let in_records = chosen.map(|chosen| chosen.work_id.as_str()).collect();
        let planned = world.stage(PLAN).and_then(|stage| stage.chosen.first());
        let counts = planned.and_then(|plan| Some((plan.encode_works?, plan.sort_works?)));
        Self { world, clean, keeps_volumes, in_records, counts }
    }

    pub(super) fn frozen(&self, name: &str) -> bool {
        self.world.is_frozen(name)
    }

    /// Whether the plan is there and does not say how many works there are: nothing can follow.
    pub(super) fn plan_is_unusable(&self) -> bool {
        self.world.stage(PLAN).is_some() && self.counts.is_none()
    }

    /// The number of the last repair round that is frozen; 0 where there was none.
    pub(super) fn rounds(&self) -> u32 {
        (1..).take_while(|round| self.frozen(&repair_stage(*round))).last().unwrap_or(0)
    }

    /// Whether a work has a result that counts, or can have none any more because its stage is frozen.
    pub(super) fn done(&self, work_id: &str) -> bool {
        if work_id == CLEAN_WORK {
            return self.frozen(self.clean) || (self.clean == CLEAN && self.in_records.contains(CLEAN_WORK));
        }
        self.in_records.contains(work_id) || stage_of(work_id).is_some_and(|stage| self.frozen(&stage))
    }

    /// Whether a choice in a record is not needed there any more: its stage is frozen, and the object that holds it is
    /// there (G2). Until then the object can be made from the records.
    pub(super) fn is_frozen(&self, chosen: &Chosen) -> bool {
        if let Some(stage) = stage_of(&chosen.work_id) {
            return self.world.stage(&stage).is_some();
        }
        match self.said(chosen) {
            // Nobody reads what a Clean chose: where its object is not to be made any more, or somebody else's stands in
            // its place, that its digest is said is enough. A record is never held for it for ever.
            Some(said) => {
                let build = &self.world.build;
                build.deleting || build.gone || self.world.frozen.unproved.iter().any(|other| other.stage == said.name)
            }
            None => {
                self.world.stages.iter().any(|stage| stage.chosen.contains(chosen))
                    || (chosen.work_id == CLEAN_WORK && self.frozen(self.clean))
            }
        }
    }

    /// Whether a frozen Clean can be made from this choice alone, and is still to be made: its record stays that long.
    pub(super) fn makes_a_clean(&self, chosen: &Chosen) -> bool {
        chosen.work_id == CLEAN_WORK && self.said(chosen).is_some() && !self.is_frozen(chosen)
    }

    /// The stage that holds this choice of a Clean alone, where only its digest is known.
    fn said(&self, chosen: &Chosen) -> Option<&'w FrozenStage> {
        let alone = |name: &str| Stage { name: name.to_owned(), chosen: vec![chosen.clone()] }.frozen();
        self.world.frozen.lost.iter().find(|lost| alone(&lost.name).as_ref() == Some(lost))
    }

    /// What a frozen stage holds, made anew from the choices that the records still have: exactly what its digest is of.
    pub(super) fn made_again(&self, frozen: &FrozenStage) -> Option<Stage> {
        let (encode, sort) = self.counts.unwrap_or_default();
        let works = match frozen.name.parse().ok()? {
            StageName::Plan => vec![PLAN.to_owned()],
            StageName::Encode => works_of(|number| WorkId::Encode { round: 0, number }, encode),
            StageName::Repair(round) => vec![repair_work(round)],
            StageName::Sort => works_of(|number| WorkId::Sort { number }, sort),
            StageName::Publish => vec![PUBLISH.to_owned()],
            StageName::Clean | StageName::CleanIndex => {
                // Given up, or done: by whom is in the digest alone.
                let choices = self.choices(CLEAN_WORK).map(|chosen| vec![chosen.clone()]).chain([Vec::new()]);
                let mut stages = choices.map(|chosen| Stage { name: frozen.name.clone(), chosen });
                return stages.find(|stage| stage.frozen().as_ref() == Some(frozen));
            }
        };
        let chosen = works.iter().map(|work| self.choice(work)).collect::<Option<Vec<_>>>()?;
        let stage = Stage { name: frozen.name.clone(), chosen };
        (stage.frozen().as_ref() == Some(frozen)).then_some(stage)
    }

    /// Whether an object that nothing vouched for yet holds what was chosen for a stage that is about to be frozen: each of
    /// its entries stands in a record.
    pub(super) fn offered(&self, ready: &Stage) -> Option<FrozenStage> {
        let unproved = self.world.frozen.unproved.iter().find(|unproved| unproved.stage == ready.name)?;
        let (stage, digest) = unproved.holds.as_ref()?;
        let works = |stage: &Stage| stage.chosen.iter().map(|chosen| chosen.work_id.clone()).collect::<Vec<_>>();
        let chosen = |entry: &Chosen| self.choices(&entry.work_id).any(|chosen| chosen == entry);
        let proved = works(stage) == works(ready) && stage.chosen.iter().all(chosen);
        proved.then(|| FrozenStage { name: ready.name.clone(), digest: digest.clone() })
    }

    /// The choice of the commit: frozen, or still in its record.
    pub(super) fn publication(&self) -> Option<Chosen> {
        let frozen = self.world.stage(PUBLISH).and_then(|stage| stage.chosen.first());
        frozen.cloned().or_else(|| self.choice(PUBLISH).filter(|_| self.frozen(PUBLISH)))
    }

    /// The stage that is worked on, and the ids of all its works.
    pub(super) fn current(&self) -> (&'static str, Vec<String>) {
        let (encode, sort) = self.counts.unwrap_or_default();
        if !self.frozen(PLAN) {
            (PLAN, vec![PLAN.to_owned()])
        } else if !self.frozen(ENCODE) {
            (ENCODE, works_of(|number| WorkId::Encode { round: 0, number }, encode))
        } else if !self.frozen(SORT) {
            (SORT, works_of(|number| WorkId::Sort { number }, sort))
        } else {
            (PUBLISH, vec![PUBLISH.to_owned()])
        }
    }

    /// A stage whose works are all chosen in records, ready to be frozen. Choices are read from the records as
    /// observed, never from what this pass is about to write: record first, then the immutable `ConfigMap` (G2).
    /// A stage that exists is never made again (G6).
    pub(super) fn ready(&self, running: bool) -> Option<Stage> {
        let round = self.rounds().saturating_add(1);
        if running && let Some(chosen) = self.choice(&repair_work(round)) {
            return Some(Stage { name: repair_stage(round), chosen: vec![chosen] });
        }
        let (name, works) = self.current();
        if name != PUBLISH && (!running || self.plan_is_unusable()) {
            return None;
        }
        if self.frozen(name) {
            return None;
        }
        let chosen = works.iter().map(|work| self.choice(work)).collect::<Option<Vec<_>>>()?;
        Some(Stage { name: name.to_owned(), chosen })
    }

    /// The Clean stage, if its work is chosen.
    pub(super) fn ready_clean(&self) -> Option<Stage> {
        if self.frozen(self.clean) {
            return None;
        }
        let chosen = self.clean_choice()?;
        Some(Stage { name: self.clean.to_owned(), chosen: vec![chosen] })
    }

    pub(super) const fn clean_name(&self) -> &'static str {
        self.clean
    }

    fn clean_choice(&self) -> Option<Chosen> {
        let frozen_elsewhere = |chosen: &Chosen| {
            self.said(chosen).is_some() || self.world.stages.iter().any(|stage| stage.chosen.contains(chosen))
        };
        self.choices(CLEAN_WORK).find(|chosen| !frozen_elsewhere(chosen)).cloned()
    }

    /// The choice for a work: of several (two operators with stale reads can make two), that of the lowest
    /// slot; whatever is frozen first is the truth.
    fn choice(&self, work_id: &str) -> Option<Chosen> {
        self.choices(work_id).next().cloned()
    }

    fn choices(&self, work_id: &str) -> impl Iterator<Item = &'w Chosen> {
        let mut slots: Vec<_> = records(self.world).collect();
        slots.sort_by_key(|spec| spec.slot);
        let work_id = work_id.to_owned();
        slots.into_iter().flat_map(|spec| &spec.chosen).filter(move |chosen| chosen.work_id == work_id)
    }

    /// Makes a work of its id: what it reads, and the digest of that. `splits`: of a repair round.
    pub(super) fn work(&self, id: &str, splits: &[u32]) -> Work {
        let repairs = (1..=self.rounds()).map(repair_stage);
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (kind, inputs) = match id {
            PLAN => (WorkKind::Plan, Vec::new()),
            PUBLISH => {
                let inputs = named(&[PLAN, ENCODE]).into_iter().chain(repairs).chain(named(&[SORT])).collect();
                (WorkKind::Publish, inputs)
            }
            CLEAN_WORK => {
                let frozen = [PLAN, ENCODE, SORT, PUBLISH].into_iter().filter(|name| self.frozen(name));
                (WorkKind::Clean, frozen.map(str::to_owned).collect())
            }
            _ if matches!(id.parse(), Ok(WorkId::Sort { .. })) => {
                (WorkKind::Sort, named(&[PLAN, ENCODE]).into_iter().chain(repairs).collect())
            }
            _ => (WorkKind::Encode, named(&[PLAN])),
        };
        let spec = &self.world.build.spec;
        let runs = if spec.parallelism == 1 { RunLocation::Volume } else { RunLocation::Store };
        let inputs_digest = self.digest(spec, &inputs, splits);
        // Whether it is committed or not: a commit may have been made unseen.
        let removes_index = kind == WorkKind::Clean && self.world.build.index_goes();
        let keeps_volume = kind == WorkKind::Clean && self.keeps_volumes;
        let input_digests = self.input_digests(&inputs);
        Work {
            id: id.to_owned(),
            kind,
            inputs_digest,
            runs,
            splits: splits.to_vec(),
            inputs,
            input_digests,
            removes_index,
            keeps_volume,
        }
    }

    /// What an executor is to find in each of the stages that it reads. None, where one is not said.
    fn input_digests(&self, inputs: &[String]) -> Vec<String> {
        let status = self.world.build.status.as_ref();
        let said = status.and_then(|status| status.frozen_stages.as_deref()).unwrap_or_default();
        let digest = |name: &String| said.iter().find(|said| said.name == *name).map(|said| said.digest.clone());
        inputs.iter().map(digest).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// The digest of what a work reads: a pure function of what cannot change, so that parallelism, memory
    /// and patience never enter (I10).
    fn digest(&self, spec: &IndexBuildSpec, inputs: &[String], splits: &[u32]) -> String {
        let stages: Vec<_> = inputs.iter().filter_map(|name| self.world.stage(name)).collect();
        let mut what = json!({
            "build": self.world.build.uid,
            "source": spec.source,
            "rowId": spec.row_id,
            "indexes": spec.indexes,
            "output": spec.output.url,
            "compression": spec.output.compression,
            "targetFileSize": spec.output.target_file_bytes(),
            "stages": stages,
            "splits": splits,
        });
        // Only where it is set: a build that an older version began without it goes on with its digests.
        if spec.output.bloom_bits_per_key() > 0 {
            what["bloomBitsPerKey"] = spec.output.bloom_bits_per_key().into();
        }
        format!("{:032x}", xxh3_128(what.to_string().as_bytes()))
    }

    /// Encode results that are on a volume alone.
    pub(super) fn on_volume(&self) -> impl Iterator<Item = &'w Chosen> {
        let encodes = |stage: &&Stage| matches!(stage.name.parse(), Ok(StageName::Encode | StageName::Repair(_)));
        self.world.stages.iter().filter(encodes).flat_map(|stage| &stage.chosen).filter(|chosen| chosen.on_volume)
    }
}
