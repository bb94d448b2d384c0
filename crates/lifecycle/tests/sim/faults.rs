//! What goes wrong, and what kubelets make of it.

use super::*;

impl Sim {
    pub(super) fn inject(&mut self) {
        let faults = self.faults;
        for index in 0..self.nodes.len() {
            if self.nodes[index].gone {
                continue;
            }
            if self.nodes[index].connected && self.rng.percent(faults.partition) {
                self.nodes[index].connected = false;
                self.nodes[index].changed_at = self.now;
                self.nodes[index].reconnect_at = self.now + self.rng.below(40_000);
                self.note(format!("partition of node {index}"));
                self.count("partition");
            } else if !self.nodes[index].connected && self.now >= self.nodes[index].reconnect_at {
                self.nodes[index].connected = true;
                self.nodes[index].changed_at = self.now;
            }
            if self.rng.percent(faults.reboot) {
                self.nodes[index].boot += 1;
                self.end_begun(index);
                self.note(format!("reboot of node {index}"));
                self.count("reboot");
            }
            if self.rng.percent(faults.node_gone) && self.nodes.iter().filter(|node| !node.gone).count() > 3 {
                self.lose_node(index);
                self.nodes[index].detached = true;
                self.note(format!("node {index} gone"));
                self.count("node gone");
            } else if self.rng.percent(faults.node_removed) && self.nodes.iter().filter(|node| !node.gone).count() > 3 {
                self.note(format!("node {index} removed"));
                self.remove_node(index);
                self.count("node removed");
            }
        }
        for index in 0..self.processes.len() {
            if !self.processes[index].alive {
                continue;
            }
            if self.rng.percent(faults.cut) && (self.has_registered(index) || self.processes[index].cut_until == 0) {
                // A process that finds no way at all is a failure, and no partition: that is for tests of their own.
                let longest = if self.has_registered(index) { 40_000 } else { 4_000 };
                self.processes[index].cut_until = self.now + self.rng.below(longest);
                self.note(format!("cut {}", self.processes[index].name));
                self.count("cut");
            }
            if self.rng.percent(faults.freeze) {
                self.processes[index].frozen_until = self.now + self.rng.below(40_000);
                self.count("freeze");
            }
            if self.rng.percent(faults.kill) {
                self.end_process(index, 137);
                self.note(format!("kill {}", self.processes[index].name));
                self.count("kill");
            }
            if self.rng.percent(faults.drain) {
                self.processes[index].deleting = true;
                self.note(format!("drain {}", self.processes[index].name));
                self.count("drain");
            }
        }
        if self.rng.percent(faults.lose_claim) {
            let names: Vec<String> = self.claims.keys().cloned().collect();
            if !names.is_empty() {
                let name = names[self.rng.below(names.len() as u64) as usize].clone();
                self.note(format!("claim {name} lost"));
                self.claims.get_mut(&name).unwrap().phase = ClaimPhase::Lost;
                self.count("claim lost");
            }
        }
        if self.rng.percent(faults.scale) {
            self.spec.parallelism = 1 + self.rng.below(4) as u32;
            self.note(format!("parallelism {}", self.spec.parallelism));
            self.count("scale");
        }
        if self.rng.percent(faults.forge) {
            let names = ["plan", "encode", "encode-r1", "sort", "publish", "clean", "clean-index"];
            let name = names[self.rng.below(names.len() as u64) as usize];
            let there: Vec<String> = self.stages.keys().cloned().collect();
            if self.rng.percent(50) || there.is_empty() {
                let frozen = self.stages.contains_key(name);
                self.forge(name);
                self.count(if frozen { "put in a stage's place" } else { "forged" });
            } else {
                let at = self.rng.below(there.len() as u64) as usize;
                self.remove_stage(&there[at]);
                self.count("removed");
            }
        }
        if self.rng.percent(faults.forge.saturating_mul(5)) {
            self.set_stages_right();
        }
        if self.rng.percent(faults.suspend) {
            self.spec.suspend = !self.spec.suspend;
            self.count("suspend");
        }
        if self.rng.percent(faults.away) {
            self.away_until = self.now + self.rng.below(8_000);
            self.count_anew();
            self.note("no operator");
            self.count("away");
        }
    }

    fn has_registered(&self, index: usize) -> bool {
        let Process { slot, uid, .. } = &self.processes[index];
        let claim = self.entries.get(slot).and_then(|entry| entry.status.claim.as_ref());
        claim.is_some_and(|claim| claim.pod_uid == *uid)
    }

    /// A machine is destroyed: its Node object goes, and what ran there.
    pub(super) fn lose_node(&mut self, index: usize) {
        self.nodes[index].gone = true;
        self.die(index, 137);
        for process in self.processes.iter_mut().filter(|process| process.node == index) {
            process.object = false;
        }
    }

    fn set_stages_right(&mut self) {
        self.strangers.clear();
        self.removed.clear();
    }

    /// Faults stop.
    pub(super) fn heal(&mut self) {
        self.spec.suspend = false;
        self.set_stages_right();
        for node in &mut self.nodes {
            node.connected = true;
        }
        for process in &mut self.processes {
            process.cut_until = 0;
            process.frozen_until = 0;
            process.starts_at = process.starts_at.min(self.now);
        }
    }

    /// A reboot ends what runs on a node; what has not begun there begins after it.
    pub(super) fn end_begun(&mut self, node: usize) {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.node == node && process.alive && process.starts_at <= self.now {
                self.end_process(index, 137);
            }
        }
    }

    pub(super) fn die(&mut self, node: usize, code: i32) {
        for index in 0..self.processes.len() {
            if self.processes[index].node == node && self.processes[index].alive {
                self.end_process(index, code);
            }
        }
    }

    pub(super) fn end_process(&mut self, index: usize, code: i32) {
        let process = &mut self.processes[index];
        process.alive = false;
        process.exit_code = code;
        process.open = None;
    }

    pub(super) fn kubelets(&mut self) {
        for index in 0..self.processes.len() {
            let node = &self.nodes[self.processes[index].node];
            if !node.connected || node.gone {
                continue;
            }
            let (now, wall) = (self.now, self.wall());
            let process = &mut self.processes[index];
            if !process.object {
                // A pod whose object vanished is torn down as an orphan.
                if process.alive && process.born + self.tick < now {
                    process.owner.stop_requested = true;
                }
                continue;
            }
            if process.deleting && !process.scheduled {
                (process.object, process.alive) = (false, false);
            } else if process.alive {
                if process.scheduled && process.starts_at <= now {
                    process.shown = PodState::Running;
                }
                if process.deleting {
                    process.owner.stop_requested = true;
                    if process.frozen_until > now + 5_000 {
                        // SIGKILL after the grace period.
                        process.alive = false;
                        process.exit_code = 137;
                        process.open = None;
                    }
                }
            } else if !matches!(process.shown, PodState::Terminated(_)) {
                process.shown = PodState::Terminated(Termination {
                    exit_code: process.exit_code,
                    finished_at: wall,
                    kubelet_written: true,
                    container_id_present: true,
                    restart_never: true,
                });
                process.remove_at = now + 1_000;
            } else if process.deleting && now >= process.remove_at {
                process.object = false;
            }
        }
    }
}
