//! The simulated world steered by hand: what happens is said, step by step, and nothing is left to chance.

use indexbuild_api::{DisruptionSpec, Reason, names, renew_interval};

use super::*;

/// What becomes of a process, or of its pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PodFault {
    Crash(i32),
    Evicted,
    Unreachable,
    Back,
    /// Its object is removed by force; its process runs on.
    Removed,
    /// Its process will not say that it has released its volume.
    Mute,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeFault {
    Silent,
    Back,
    /// Its machine is destroyed, and its Node object removed.
    Gone,
    /// What was attached to it is not any more.
    Detached,
    /// Its machine is back after a boot.
    Rebooted,
    /// Somebody who knows that the machine is down says so by the taint, and its pods' objects go.
    OutOfService,
}

/// The name of a pod or claim of the build, by its end: `0-e3`, `1-v2`.
fn name(end: &str) -> String {
    format!("{}-{end}", names::executor_account("orders", UID))
}

impl Sim {
    /// A build of so many slots with the clocks that a spec without any has.
    pub(crate) fn by_hand(parallelism: u32, backoff_limit: u32) -> Self {
        let DisruptionSpec { replace_after, orphan_after } = DisruptionSpec::default();
        let mut sim = Self::new(0, parallelism, backoff_limit, Faults::NONE);
        sim.by_hand = true;
        sim.driver = Some(Driver::Detaches);
        sim.tick = 1_000;
        sim.timeouts = Timeouts {
            renew_interval: renew_interval(parallelism).as_millis(),
            replace_after: replace_after.as_millis(),
            orphan_after: orphan_after.as_millis(),
        };
        sim.spec.volume = None;
        "s3://indexes".clone_into(&mut sim.spec.output.url);
        sim
    }

    /// Time passes; the operator does not look.
    pub(crate) fn unobserved(&mut self) {
        self.now += self.tick;
        self.live(false);
    }

    /// Time passes, and the operator looks and acts.
    pub(crate) fn observed(&mut self) -> (World, Decision) {
        self.unobserved();
        let (world, decision) = self.decide();
        self.execute(decision.clone(), usize::MAX, false);
        self.conclude(&world, decision.status.clone(), decision.end);
        (world, decision)
    }

    /// The driver that all volumes have from now on.
    pub(crate) fn volumes_of(&mut self, driver: Driver) {
        self.driver = Some(driver);
    }

    pub(crate) fn retention(&mut self) -> &mut VolumeRetention {
        let volume = self.spec.volume.get_or_insert_default();
        volume.retention.get_or_insert_default()
    }

    pub(crate) fn is_alive(&self, pod_uid: &str) -> bool {
        self.processes.iter().any(|process| process.alive && process.uid == pod_uid)
    }

    fn worker(&self, work_id: &str) -> Result<usize, String> {
        let works = |process: &Process| {
            process.alive
                && process.todo > 0
                && process.owner.current.as_ref().is_some_and(|current| current.work_id == work_id)
        };
        let granted = |process: &Process| {
            let grant = self.entries.get(&process.slot).and_then(|entry| entry.spec.grant.as_ref());
            grant.is_some_and(|grant| grant.pod_uid == process.uid)
        };
        // Where a former owner works at it too, unseen, the present one is meant.
        let present = self.processes.iter().position(|process| works(process) && granted(process));
        present.or_else(|| self.processes.iter().position(works)).ok_or_else(|| format!("nobody works at {work_id}"))
    }

    /// Whoever works at it has done it.
    pub(crate) fn seal(&mut self, work_id: &str) -> Result<(), String> {
        let index = self.worker(work_id)?;
        self.processes[index].todo = 0;
        self.end_work(index);
        Ok(())
    }

    pub(crate) fn fail(&mut self, work_id: &str, error: WorkError) -> Result<(), String> {
        let index = self.worker(work_id)?;
        let process = &mut self.processes[index];
        (process.todo, process.outcome) = (0, Some(Err(error)));
        Ok(())
    }

    pub(crate) fn advance(&mut self, work_id: &str, progress: f64) -> Result<(), String> {
        let index = self.worker(work_id)?;
        self.processes[index].progress = progress;
        Ok(())
    }

    /// The work does not advance any more, or again; its owner may say for what it waits.
    pub(crate) fn hold_up(&mut self, work_id: &str, stuck: bool, waiting: Option<ReportedWait>) -> Result<(), String> {
        let index = self.worker(work_id)?;
        (self.processes[index].stuck, self.processes[index].waiting) = (stuck, waiting);
        Ok(())
    }

    pub(crate) fn pod_fault(&mut self, pod: &str, fault: PodFault) -> Result<(), String> {
        let found = self.processes.iter().position(|process| process.name == name(pod));
        let index = found.ok_or_else(|| format!("there is no pod {pod}"))?;
        match fault {
            PodFault::Crash(code) => self.end_process(index, code),
            PodFault::Evicted => self.processes[index].deleting = true,
            PodFault::Unreachable => self.processes[index].cut_until = u64::MAX,
            PodFault::Back => self.processes[index].cut_until = 0,
            PodFault::Removed => self.processes[index].object = false,
            PodFault::Mute => self.processes[index].mute = true,
        }
        Ok(())
    }

    pub(crate) fn node_fault(&mut self, node: &str, fault: NodeFault) -> Result<(), String> {
        let found = self.nodes.iter().position(|known| known.name == node);
        let index = found.ok_or_else(|| format!("there is no node {node}"))?;
        match fault {
            NodeFault::Silent => self.nodes[index].connected = false,
            NodeFault::Back => self.nodes[index].connected = true,
            NodeFault::Gone => self.lose_node(index),
            NodeFault::Detached => self.nodes[index].detached = true,
            NodeFault::Rebooted => {
                self.end_begun(index);
                self.nodes[index].boot += 1;
                self.nodes[index].connected = true;
            }
            NodeFault::OutOfService => {
                self.die(index, 137);
                self.nodes[index].out_of_service = true;
                self.processes.iter_mut().filter(|process| process.node == index).for_each(|process| {
                    process.object = false;
                });
            }
        }
        Ok(())
    }

    /// What a volume's claim says from now on.
    pub(crate) fn claim_becomes(&mut self, claim: &str, phase: ClaimPhase) -> Result<(), String> {
        let found = self.claims.get_mut(&name(claim));
        found.ok_or_else(|| format!("there is no volume {claim}"))?.phase = phase;
        Ok(())
    }

    /// Whether volumes are found for claims; those that wait get one.
    pub(crate) fn claims_bind(&mut self, bind: bool) {
        self.claims_bind = bind;
        if bind {
            for claim in self.claims.values_mut().filter(|claim| claim.phase == ClaimPhase::Pending) {
                claim.phase = ClaimPhase::Bound;
            }
            self.processes.iter_mut().for_each(|process| process.scheduled = true);
        }
    }

    /// Whether containers wait before they begin; those that did begin.
    pub(crate) fn containers_wait(&mut self, wait: bool) {
        self.containers_wait = wait;
        if !wait {
            self.processes.iter_mut().for_each(|process| process.starts_at = process.starts_at.min(self.now));
        }
    }

    /// Somebody deletes the record of a slot by hand.
    pub(crate) fn remove_record(&mut self, slot: u32) -> Result<(), String> {
        self.highest.remove(&slot);
        self.entries.remove(&slot).map(drop).ok_or_else(|| format!("slot {slot} has no record"))
    }

    /// How an owner says that it waits for a store.
    pub(crate) fn outage(needs_help: bool) -> ReportedWait {
        ReportedWait {
            reason: Reason::WaitingForStore,
            message: "cannot write to s3://indexes: 503 Service Unavailable".to_owned(),
            needs_help,
        }
    }
}
