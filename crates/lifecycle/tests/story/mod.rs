//! A story in lines: one without indentation says what happens, the indented ones below it what is decided then.

mod tell;

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{Retention, WorkError, WorkErrorReason};
use indexbuild_lifecycle::world::ClaimPhase;

use crate::sim::Sim;
use crate::sim::by_hand::{NodeFault, PodFault};
use crate::sim::disks::Driver;
use tell::Teller;

/// The operator rests once it has found nothing to do so often, a second apart.
const RESTS: usize = 3;
/// A step that does not come to rest in so many seconds is told so far.
const LONGEST: usize = 60;

#[derive(Clone)]
struct Story {
    sim: Sim,
    teller: Teller,
    /// Records that are there and cannot be read: then the observer gives the operator no world to decide about.
    unreadable: BTreeSet<u32>,
    /// No operator runs.
    away: bool,
}

/// The script with what is decided now in place of what is told in it.
pub(crate) fn retell(script: &str) -> Result<String, String> {
    let mut told = String::new();
    let mut story: Option<Story> = None;
    let mut marks: BTreeMap<String, Story> = BTreeMap::new();
    for (number, line) in (1..).zip(script.lines()).filter(|(_, line)| !line.starts_with(' ')) {
        told.push_str(line);
        told.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let before = told.clone();
        let at = |what: String| format!("line {number}: {what}, after\n{before}");
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut story) {
            (["build", settings @ ..], story) => *story = Some(begin(settings).map_err(at)?),
            (_, None) => return Err(at("a story begins with `build`".to_owned())),
            (["mark", name], Some(story)) => {
                marks.insert((*name).to_owned(), story.clone());
                continue;
            }
            (["back", "to", name], story) => {
                *story = Some(marks.get(*name).cloned().ok_or_else(|| at("there is no such mark".to_owned()))?);
                continue;
            }
            (words, Some(story)) => story.happens(words).map_err(at)?,
        }
        if let Some(story) = &mut story {
            let lines = match words.as_slice() {
                ["show"] => story.teller.show(&story.sim),
                ["time", length] => {
                    let seconds = seconds(length).map_err(at)?;
                    story.passes(seconds, false)
                }
                _ => story.passes(LONGEST, true),
            };
            for line in lines {
                told.push_str(&format!("  {line}\n"));
            }
        }
    }
    Ok(told)
}

fn begin(settings: &[&str]) -> Result<Story, String> {
    let mut sim = Sim::by_hand(2, 6);
    sim.plan_works = (2, 2);
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| format!("{setting} is no setting"))?;
        match key {
            "slots" => sim.spec.parallelism = number(value)?,
            "encode" => sim.plan_works.0 = number(value)?,
            "sort" => sim.plan_works.1 = number(value)?,
            "volumes" if value == "none" => sim.claims_bind(false),
            "containers" if value == "wait" => sim.containers_wait(true),
            "driver" => sim.volumes_of(driver(value)?),
            "backoffLimit" => sim.spec.backoff_limit = Some(number(value)?),
            "backoffLimitPerWork" => sim.spec.backoff_limit_per_work = number(value)?,
            "whenPublished" => sim.retention().when_published = retention(value)?,
            "whenFailed" => sim.retention().when_failed = retention(value)?,
            "whenDeleted" => sim.retention().when_deleted = retention(value)?,
            _ => return Err(format!("{key} is no setting")),
        }
    }
    let teller = Teller::new(sim.now);
    Ok(Story { sim, teller, unreadable: BTreeSet::new(), away: false })
}

/// By what its detach does.
fn driver(word: &str) -> Result<Driver, String> {
    Ok(match word {
        "detaches" => Driver::Detaches,
        "pretends" => Driver::Pretends,
        "mounts" => Driver::Mounts,
        _ => return Err(format!("no driver {word}")),
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn retention(text: &str) -> Result<Retention, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// `30s`, `2m`, `1h`.
fn seconds(text: &str) -> Result<usize, String> {
    let (count, unit) = [('s', 1), ('m', 60), ('h', 3_600)]
        .into_iter()
        .find_map(|(letter, unit)| text.strip_suffix(letter).map(|count| (count, unit)))
        .ok_or_else(|| format!("{text} is no time"))?;
    number::<usize>(count).map(|count| count * unit)
}

impl Story {
    fn happens(&mut self, words: &[&str]) -> Result<(), String> {
        let sim = &mut self.sim;
        match words {
            ["show"] | ["time", _] => {}
            ["executor", "seals", work] => sim.seal(work)?,
            ["executor", "fails", work, reason, how @ ..] => sim.fail(work, error(reason, how)?)?,
            ["executor", "is", "at", percent, "of", work] => {
                sim.advance(work, number::<f64>(percent.trim_end_matches('%'))? / 100.0)?;
            }
            ["executor", "hangs", "at", work] => sim.hold_up(work, true, None)?,
            ["executor", "waits", "for", "the", "store", "at", work] => {
                sim.hold_up(work, true, Some(Sim::outage(false)))?;
            }
            ["executor", "is", "refused", "by", "the", "store", "at", work] => {
                sim.hold_up(work, true, Some(Sim::outage(true)))?;
            }
            ["executor", "goes", "on", "at", work] => sim.hold_up(work, false, None)?,
            ["pod", pod, "crashes", code] => sim.pod_fault(pod, PodFault::Crash(number(code)?))?,
            ["pod", pod, fault] => sim.pod_fault(pod, pod_fault(fault)?)?,
            ["node", node, fault] => sim.node_fault(node, node_fault(fault)?)?,
            ["volume", volume, "lost"] => sim.claim_becomes(volume, ClaimPhase::Lost)?,
            ["volumes", "are", "found"] => sim.claims_bind(true),
            ["containers", "begin"] => sim.containers_wait(false),
            ["record", slot, "removed"] => sim.remove_record(number(slot)?)?,
            ["record", slot, "unreadable"] => {
                self.unreadable.insert(number(slot)?);
            }
            ["record", slot, "readable"] => {
                self.unreadable.remove(&number(slot)?);
            }
            ["operator", "away"] => self.away = true,
            // One that starts begins to count anew.
            ["operator", "back"] => {
                self.away = false;
                sim.count_anew();
            }
            ["stage", stage, "forged"] => sim.forge(stage),
            ["stage", stage, "removed"] => sim.remove_stage(stage),
            ["stage", stage, "put", "back"] => sim.set_stage_right(stage),
            ["slots", slots] => sim.spec.parallelism = number(slots)?,
            ["pause"] => sim.spec.suspend = true,
            ["resume"] => sim.spec.suspend = false,
            ["delete"] => sim.deleting_since = Some(sim.now),
            _ => return Err("nothing of that kind can happen".to_owned()),
        }
        Ok(())
    }

    /// A pass each second: so many, or until the operator rests.
    fn passes(&mut self, most: usize, until_rest: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut idle = 0;
        for _ in 0..most {
            if self.away || !self.unreadable.is_empty() {
                self.sim.unobserved();
                idle += 1;
            } else {
                let (world, decision) = self.sim.observed();
                idle = if decision.actions.is_empty() { idle + 1 } else { 0 };
                lines.extend(self.teller.pass(&world, &decision));
            }
            if until_rest && idle == RESTS {
                break;
            }
        }
        if lines.is_empty() {
            let decides = !self.away && self.unreadable.is_empty();
            lines.push(if decides { "nothing" } else { "nothing is decided" }.to_owned());
        }
        lines
    }
}

fn error(reason: &str, how: &[&str]) -> Result<WorkError, String> {
    let reason: WorkErrorReason = serde_json::from_value(reason.into()).map_err(|error| error.to_string())?;
    let (retryable, damaged_splits) = match how {
        [] => (true, Vec::new()),
        ["for", "good"] => (false, Vec::new()),
        ["in", "splits", splits @ ..] => {
            (true, splits.iter().map(|split| number(split)).collect::<Result<Vec<_>, _>>()?)
        }
        _ => return Err("an attempt fails, or fails `for good`, or `in splits` 1 2 3".to_owned()),
    };
    Ok(WorkError { reason, message: "as it was told to".to_owned(), retryable, damaged_splits })
}

fn pod_fault(word: &str) -> Result<PodFault, String> {
    Ok(match word {
        "evicted" => PodFault::Evicted,
        "unreachable" => PodFault::Unreachable,
        "back" => PodFault::Back,
        "removed" => PodFault::Removed,
        "mute" => PodFault::Mute,
        _ => return Err(format!("no pod is ever {word}")),
    })
}

fn node_fault(word: &str) -> Result<NodeFault, String> {
    Ok(match word {
        "silent" => NodeFault::Silent,
        "back" => NodeFault::Back,
        "gone" => NodeFault::Gone,
        "detached" => NodeFault::Detached,
        "rebooted" => NodeFault::Rebooted,
        "out-of-service" => NodeFault::OutOfService,
        _ => return Err(format!("no node is ever {word}")),
    })
}
