//! Observe: from the parent's state to the lifecycle's view of the world.

use std::time::{Duration, Instant};

use indexbuild_api::{Retention, VolumeRetention};
use indexbuild_lifecycle::Platform;
use indexbuild_lifecycle::observer::Observer;
use indexbuild_lifecycle::world::{
    Attachments, BuildView, ClaimPhase, ClaimView, Frozen, Millis, NodeReady, NodeView, PodState, PodView, Share,
    Stage, Termination, Timeouts, World,
};

use crate::build::StoredBuild;
use crate::hub::{Hub, State};
use crate::pods::Pod;

/// What a run is told beside the build: it changes nothing that is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSettings {
    pub timeouts: Timeouts,
    /// The build pauses: the run was interrupted.
    pub suspend: bool,
    /// Volumes stay at the end.
    pub keep_volumes: bool,
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Everything that is observed, at this moment.
pub(crate) fn observe(
    hub: &Hub,
    state: &State,
    build: &StoredBuild,
    settings: &RunSettings,
    observer: &mut Observer,
    started: Instant,
) -> World {
    let at = Instant::now();
    let now = millis(at - started);
    let mut spec = build.spec.clone();
    spec.suspend |= settings.suspend;
    if settings.keep_volumes {
        let mut volume = spec.volume_or_default();
        volume.retention = Some(VolumeRetention {
            when_published: Retention::Retain,
            when_failed: Retention::Retain,
            when_deleted: Retention::Retain,
        });
        spec.volume = Some(volume);
    }
    let stages: Vec<Stage> = state.stages.values().cloned().collect();
    let wall = jiff::Timestamp::now();
    // When it was given up is written nowhere: each run gives that its whole time.
    let (deletion_age, deletion_unseen) = observer.deletion(build.deleting, None, now);
    let start = build.status.as_ref().and_then(|status| status.start_time.as_deref());
    let since = |start: &str| Millis::try_from(wall.duration_since(start.parse().ok()?).as_millis()).ok();
    let started = start.and_then(since);
    World {
        platform: Platform::OneMachine,
        now,
        wall: wall.to_string(),
        build: BuildView {
            uid: build.uid.clone(),
            name: build.name.clone(),
            namespace: build.namespace.clone(),
            generation: build.generation,
            spec,
            status: build.status.clone(),
            deleting: build.deleting,
            deletion_age,
            deletion_unseen,
            namespace_ends: false,
            active_age: observer.active(start, started, now),
            finalizer: build.finalizer,
            reconcile_disabled: false,
            timeouts: settings.timeouts,
            share: Share::default(),
            percent_per_second: observer.percent_per_second(now),
            gone: false,
        },
        slots: observer.slots(state.records.slots().filter_map(|slot| state.records.get(slot)).collect(), now),
        pods: state.pods.iter().map(|pod| pod_view(hub, state, pod, at)).collect(),
        claims: claims(state),
        nodes: vec![NodeView {
            name: hub.node.name.clone(),
            boot_id: hub.node.boot_id.clone(),
            system_uuid: hub.node.system_uuid.clone(),
            ready: NodeReady::True,
            readiness_age: 0,
            out_of_service: false,
            gone: false,
            volumes_detached: false,
            cordoned: false,
            pressed: false,
        }],
        attachments: Attachments::default(),
        frozen: Frozen::own(build.status.as_ref().and_then(|status| status.frozen_stages.as_deref()), &stages),
        stages,
        hindrances: Vec::new(),
        enforcement: None,
    }
}

/// A pod that is cut off looks as it did when it was last heard of: nobody is told that it ended.
fn pod_view(hub: &Hub, state: &State, pod: &Pod, now: Instant) -> PodView {
    let cut = state.injector.cut_until(&pod.file.uid, now).is_some();
    let pod_state = match &pod.ended {
        Some(ended) if !cut => PodState::Terminated(Termination {
            exit_code: ended.code,
            finished_at: ended.at.clone(),
            // This process reaped it, or took the lock that it held for its life; it is never
            // started again.
            kubelet_written: true,
            container_id_present: true,
            restart_never: true,
        }),
        Some(_) | None => PodState::Running,
    };
    PodView {
        name: pod.file.name.clone(),
        uid: pod.file.uid.clone(),
        slot: pod.file.slot,
        epoch: pod.file.epoch,
        node: Some(hub.node.name.clone()),
        // No kubelet removes what is left of a process that was told to end and did: it is removed like any other.
        deleting: pod.deleting && !matches!(pod_state, PodState::Terminated(_)),
        // No kubelet ends a process here: one that ends in peace was told to, by this one or by whoever stopped them all, and
        // nobody else has a word to say about why.
        disrupted: pod.ended.as_ref().is_none_or(|ended| ended.code == 0),
        foreign: false,
        own_exit: None,
        as_asked: Some(true),
        suited: Vec::new(),
        state: pod_state,
    }
}

fn claims(state: &State) -> Vec<ClaimView> {
    state
        .volumes
        .iter()
        .map(|volume| ClaimView {
            name: volume.name.clone(),
            uid: volume.uid.clone(),
            slot: volume.slot,
            generation: volume.generation,
            phase: ClaimPhase::Bound,
            foreign: false,
            nodes: None,
            outdated: false,
        })
        .collect()
}
