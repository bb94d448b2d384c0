//! What the control plane sees of the simulated world.

use super::*;

impl Sim {
    pub(crate) fn world(&self) -> World {
        let slots = self
            .entries
            .values()
            .map(|entry| SlotView {
                record: Record {
                    spec: entry.spec.clone(),
                    status: entry.status.clone(),
                    version: entry.version.to_string(),
                },
                report_age: self.now.saturating_sub(entry.report_seen),
                progress_age: self.now.saturating_sub(entry.progress_seen),
                grant_age: self.now.saturating_sub(entry.grant_seen),
                longest_interval: entry.spec.renew_interval.as_millis(),
            })
            .collect();
        let pods = self
            .processes
            .iter()
            .filter(|process| process.object)
            .map(|process| PodView {
                name: process.name.clone(),
                uid: process.uid.clone(),
                slot: process.slot,
                epoch: process.epoch,
                node: process.scheduled.then(|| self.nodes[process.node].name.clone()),
                deleting: process.deleting,
                disrupted: false,
                foreign: false,
                own_exit: None,
                as_asked: Some(true),
                suited: Vec::new(),
                state: process.shown.clone(),
            })
            .collect();
        let nodes = self
            .nodes
            .iter()
            .map(|node| NodeView {
                name: node.name.clone(),
                boot_id: format!("boot-{}", node.boot),
                system_uuid: format!("machine-{}", node.name),
                ready: if node.connected { NodeReady::True } else { NodeReady::Unknown },
                readiness_age: self.now - node.changed_at,
                out_of_service: node.out_of_service,
                gone: node.gone,
                volumes_detached: node.detached,
                cordoned: false,
                pressed: false,
            })
            .collect();
        if self.released {
            // What looks after records that outlived their build knows nothing else of it.
            let build = BuildView::gone(UID.to_owned(), "orders".to_owned(), "shop".to_owned());
            let (now, wall) = (self.now, self.wall());
            return World {
                platform: indexbuild_lifecycle::Platform::Kubernetes,
                now,
                wall,
                build,
                slots,
                pods,
                claims: self.claims(),
                nodes,
                attachments: self.attachments(),
                stages: vec![],
                frozen: Frozen::default(),
                hindrances: vec![],
                enforcement: None,
            };
        }
        let build = BuildView {
            uid: UID.to_owned(),
            name: "orders".to_owned(),
            namespace: "shop".to_owned(),
            generation: 1,
            spec: self.spec.clone(),
            status: self.status(),
            deleting: self.deleting_since.is_some(),
            deletion_age: self.deleting_since.map_or(0, |since| self.now - since),
            deletion_unseen: 0,
            namespace_ends: false,
            active_age: self.active_age(),
            finalizer: self.finalizer,
            reconcile_disabled: false,
            timeouts: self.timeouts,
            share: Share::default(),
            percent_per_second: None,
            gone: false,
        };
        let records: Vec<_> = self.records().collect();
        let (stages, frozen) = sort_out(&build, &records, &self.stage_objects());
        World {
            platform: indexbuild_lifecycle::Platform::Kubernetes,
            now: self.now,
            wall: self.wall(),
            build,
            slots,
            pods,
            claims: self.claims(),
            nodes,
            attachments: self.attachments(),
            stages,
            frozen,
            hindrances: vec![],
            enforcement: None,
        }
    }
}
