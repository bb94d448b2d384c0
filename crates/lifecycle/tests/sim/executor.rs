//! Executors: they do what `owner::next` says.

use super::*;

impl Sim {
    pub(super) fn executor(&mut self, index: usize, faulty: bool) {
        let now = self.now;
        let node = &self.nodes[self.processes[index].node];
        let reachable = node.connected && self.processes[index].cut_until <= now;
        let process = &mut self.processes[index];
        let begun = process.scheduled && process.starts_at <= now && process.born + self.tick <= now;
        if !process.alive || !begun || process.frozen_until > now {
            return;
        }
        if process.boots.1.is_none() {
            process.boots.1 = Some(node.boot);
            if process.boots.0 != node.boot {
                self.counts.entry("begun after a reboot").and_modify(|count| *count += 1).or_insert(1);
            }
        }
        if process.leaves.is_some() {
            return self.linger(index);
        }
        let slot = process.slot;
        let record = self.entries.get(&slot).map(|entry| Record {
            spec: entry.spec.clone(),
            status: entry.status.clone(),
            version: entry.version.to_string(),
        });
        // A pod object that is gone: its token is refused.
        let refused = !process.object;
        let seen = match (&record, reachable) {
            (_, false) => Seen::Unreachable,
            (_, true) if refused => Seen::Refused,
            (None, true) => Seen::Absent,
            (Some(record), true) => Seen::Record(record),
        };
        if matches!(seen, Seen::Record(_)) {
            process.owner.last_contact = now;
        }
        let step = owner::next(&process.owner, seen, now);
        // What it may say at its end, where it can reach the API server.
        let OwnerState { pod_uid, boot_nonce, .. } = &process.owner;
        let word = record
            .as_ref()
            .filter(|_| reachable && !refused)
            .and_then(|record| LastWord::of(record, pod_uid, boot_nonce));
        match step {
            Step::Wait => {}
            Step::Claim => {
                let boot_id = match process.boots.1 {
                    Some(boot) if !process.sandboxed => format!("boot-{boot}"),
                    Some(_) | None => format!("guest-{}", process.uid),
                };
                let (pod_uid, boot_nonce) = (process.owner.pod_uid.clone(), process.owner.boot_nonce.clone());
                let claim = Claim { pod_uid, boot_nonce, boot_id };
                let caller = process.uid.clone();
                process.owner.claimed = true;
                self.send(Message::Claim(slot, caller, claim), faulty);
            }
            Step::Start { epoch, work } => self.start(index, epoch, work, faulty),
            Step::GoOn => self.work(index),
            Step::Report => {
                self.work(index);
                if self.report(index, faulty) {
                    self.leave(index, word, 10, faulty);
                }
            }
            Step::GiveWay(owner::GiveWayReason::Orphaned) | Step::Exit(owner::ExitReason::Orphaned) => {
                self.end_process(index, 11);
            }
            Step::GiveWay(_) | Step::Exit(_) => {
                let text = format!("{} ends: {step:?}", self.processes[index].name);
                self.note(text);
                self.leave(index, word, 0, faulty);
            }
        }
    }

    /// A process ends in peace: everything is closed first, and its last word is that it has released its volume. A
    /// mutant says so while it works on.
    fn leave(&mut self, index: usize, word: Option<LastWord>, code: i32, faulty: bool) {
        let mute = self.processes[index].mute || (faulty && self.rng.percent(self.faults.mute));
        let slot = self.processes[index].slot;
        let Some(word) = word.filter(|_| !mute) else {
            self.count("ended without a word");
            return self.end_process(index, code);
        };
        if self.writes_after_release {
            self.processes[index].leaves = Some(code);
            self.processes[index].todo = 20;
        } else {
            self.end_process(index, code);
        }
        self.note(format!("{} has released {:?}", self.processes[index].name, word.release));
        self.send(Message::Release(slot, word), faulty);
    }

    /// What a mutant does after its last word.
    fn linger(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.todo = process.todo.saturating_sub(1);
        if process.todo == 0 {
            let code = process.leaves.unwrap_or_default();
            self.end_process(index, code);
        }
    }

    pub(super) fn send(&mut self, message: Message, faulty: bool) {
        let late = faulty && self.rng.percent(self.faults.late);
        let at = if late { self.now + self.rng.below(15_000) } else { self.now };
        self.messages.push((at, message));
        if !late {
            self.deliver();
        }
    }

    pub(super) fn start(&mut self, index: usize, epoch: Epoch, work: indexbuild_api::Work, faulty: bool) {
        let (volume, nonce) = (self.processes[index].claim_uid.clone(), self.processes[index].owner.boot_nonce.clone());
        self.processes[index].open = None;
        // I2, I4: nobody else who lives holds an attempt on this volume.
        for (other, process) in self.processes.iter().enumerate() {
            assert!(
                other == index || process.claim_uid != volume || process.open.is_none(),
                "two processes on volume {volume}: {} and {}\n{}",
                process.name,
                self.processes[index].name,
                self.log.join("\n")
            );
        }
        // G9: a new directory, always.
        assert!(
            self.directories.insert((volume.clone(), epoch, nonce.clone())),
            "directory {epoch}-{nonce} exists on {volume}"
        );
        let fails = faulty && self.rng.percent(self.faults.fail);
        let permanent = faulty && work.kind != WorkKind::Clean && self.rng.percent(self.faults.permanent);
        let damaged = faulty && work.kind == WorkKind::Sort && self.rng.percent(self.faults.damage);
        let error = |reason, retryable, splits: Vec<u32>| WorkError {
            reason,
            message: "injected".to_owned(),
            retryable,
            damaged_splits: splits,
        };
        let result = WorkResult {
            work_id: work.id.clone(),
            epoch,
            digest: format!("{}-{epoch}-{nonce}", work.id),
            rows: 10,
            entries: 10,
            bytes: 100,
            on_volume: work.kind == WorkKind::Encode && work.runs == indexbuild_api::RunLocation::Volume,
            encode_works: (work.kind == WorkKind::Plan).then_some(self.plan_works.0),
            sort_works: (work.kind == WorkKind::Plan).then_some(self.plan_works.1),
            committed: false,
            finished: None,
        };
        // Runs that were on a volume which is gone are damage to whoever reads them.
        let missing = work.kind == WorkKind::Sort && {
            let encodes: Vec<_> = self.stages.values().filter(|stage| stage.name.starts_with("encode")).collect();
            let repaired = encodes.iter().any(|stage| stage.name != "encode");
            let lost = encodes.iter().flat_map(|stage| &stage.chosen).any(|chosen| {
                chosen.on_volume
                    && !self.directories.contains(&(volume.clone(), chosen.epoch, chosen.boot_nonce.clone()))
            });
            lost && !repaired
        };
        let outcome = if permanent {
            self.permanent_injected = true;
            Err(error(WorkErrorReason::DuplicateKey, false, Vec::new()))
        } else if damaged || missing {
            self.count("damage");
            Err(error(WorkErrorReason::DamagedInput, true, vec![3, 1, 3]))
        } else if fails {
            self.count("fail");
            Err(error(WorkErrorReason::Internal, true, Vec::new()))
        } else {
            Ok(result)
        };
        let todo = if self.by_hand { 1 } else { 1 + self.rng.below(8) };
        let process = &mut self.processes[index];
        process.open = Some((epoch, nonce));
        process.owner.current = Some(Current { epoch, work_id: work.id.clone() });
        process.todo = todo;
        (process.progress, process.rows, process.stuck, process.waiting) = (0.0, 0, false, None);
        process.outcome = Some(outcome);
        process.work = Some(work);
        process.sent = false;
        let text =
            format!("{} starts {} at epoch {epoch}", process.name, process.owner.current.as_ref().unwrap().work_id);
        self.note(text);
    }

    pub(super) fn work(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.todo == 0 {
            return;
        }
        if self.by_hand {
            process.rows += u64::from(!process.stuck);
            return;
        }
        process.todo -= 1;
        if process.todo == 0 {
            self.end_work(index);
        }
    }

    /// The work in hand has come to its end, whatever that is.
    pub(super) fn end_work(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let Some(work) = process.work.clone() else {
            return;
        };
        if matches!(process.outcome, Some(Err(_)) | None) {
            return;
        }
        // The store is reached from anywhere: a partition from the control plane is none from the store.
        match work.kind {
            WorkKind::Publish => match &self.manifest {
                None => {
                    let inputs = work.inputs.iter().filter_map(|name| self.stages.get(name).cloned()).collect();
                    self.manifest = Some(Manifest::Committed(inputs));
                }
                Some(Manifest::Committed(_)) => {}
                Some(Manifest::Tombstone) => {
                    process.outcome = Some(Err(WorkError {
                        reason: WorkErrorReason::Tombstoned,
                        message: "a tombstone is there".to_owned(),
                        retryable: false,
                        damaged_splits: Vec::new(),
                    }));
                }
            },
            // G5: tombstone first, and only where nothing was committed.
            WorkKind::Clean => {
                let standing = self.manifest.get_or_insert(Manifest::Tombstone);
                if let Some(Ok(result)) = &mut process.outcome {
                    result.committed = matches!(standing, Manifest::Committed(_));
                }
            }
            WorkKind::Plan | WorkKind::Encode | WorkKind::Sort | WorkKind::Other(_) => {}
        }
    }

    /// Whether its process ends, as its work has failed, and that was said.
    pub(super) fn report(&mut self, index: usize, faulty: bool) -> bool {
        let process = &self.processes[index];
        let Some(current) = process.owner.current.clone() else {
            return false;
        };
        let (progress, rows) = if self.by_hand {
            (process.progress, process.rows)
        } else {
            (1.0 / (1.0 + process.todo as f64), 100 - process.todo)
        };
        let mut report = Report {
            epoch: current.epoch,
            boot_nonce: process.owner.boot_nonce.clone(),
            renew_time: self.wall(),
            progress: Some(progress),
            rows: Some(rows),
            waiting: process.waiting.clone(),
            ..Report::default()
        };
        let mut exits = false;
        if process.todo == 0 {
            match &process.outcome {
                Some(Ok(result)) => report.result = Some(result.clone()),
                Some(Err(error)) => {
                    report.error = Some(error.clone());
                    report.ending = true;
                    exits = process.sent;
                }
                None => {}
            }
        }
        let (slot, caller) = (process.slot, process.uid.clone());
        self.processes[index].sent |= report.error.is_some();
        self.send(Message::Report(slot, caller, Box::new(report)), faulty);
        exits
    }
}
