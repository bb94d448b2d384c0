//! Who owned what: collected from records, pods and events, once or until a build ends.

use std::sync::Arc;
use std::time::Duration;

use indexbuild_api::{ConditionStatus, ConditionType, Guarded, IndexBuild, apart, labels};
use indexbuild_executor::backoff::{Pace, later};
use indexbuild_text::one_line;
use indexbuild_timeline::cluster::{OwnershipHistory, PodEnd, SlotWarning};
use indexbuild_timeline::{Timeline, timeline_until};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;

use super::Cluster;

/// How often a build that is followed is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether to read once, or until the build has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    No,
    /// Changes that records forget meanwhile are kept.
    UntilItEnds,
}

/// Who owned what in a build. Warnings are told through `say`.
pub(crate) async fn ownership(
    cluster: &Cluster,
    build: &IndexBuild,
    follow: Follow,
    say: impl Fn(&str),
) -> anyhow::Result<Timeline> {
    let mut history = OwnershipHistory::default();
    let mut build = build.clone();
    let uid = build.uid();
    let mut failures = 0_u32;
    loop {
        let collected = collect(cluster, &build, &mut history).await;
        match (collected, follow) {
            (Ok(()), Follow::No) => break,
            (Ok(()), Follow::UntilItEnds) => failures = 0,
            // A build is followed for hours: that must outlive a restart of the API server.
            (Err(error), Follow::UntilItEnds) if failures < 60 => {
                tracing::debug!(%error, "a read failed");
                failures += 1;
            }
            (Err(error), _) => return Err(error),
        }
        if has_ended(&build) {
            break;
        }
        let pause = if failures == 0 { INTERVAL } else { later(Pace::API_SERVER.reads.after(failures)) };
        tokio::time::sleep(pause).await;
        match cluster.api::<Guarded<IndexBuild>>().get_opt(&build.name_any()).await {
            // A build that cannot be read for a while is followed as it was last.
            Ok(Some(now)) if now.uid() == uid => {
                if let Ok(now) = now.read() {
                    build = Arc::unwrap_or_clone(now);
                }
            }
            Ok(_) => {
                say("the build was deleted meanwhile");
                break;
            }
            Err(error) if failures >= 60 => return Err(cluster.failed("read the build", &error)),
            Err(_) => failures += 1,
        }
    }
    for (slot, epoch) in history.incomplete() {
        say(&format!("slot {slot}: what was before epoch {epoch} is not remembered any more"));
    }
    let ended = build.status.as_ref().and_then(|status| status.finish_time.clone());
    let end = ended.and_then(|time| time.parse().ok()).unwrap_or_else(jiff::Timestamp::now);
    Ok(timeline_until(&history.entries(), u64::try_from(end.as_millisecond()).unwrap_or(0)))
}

/// Whether the build has ended, and nothing of it is left to do.
fn has_ended(build: &IndexBuild) -> bool {
    let holds = |condition_type, wanted: ConditionStatus| {
        let status = build.status.as_ref();
        status.and_then(|status| status.condition(condition_type)).is_some_and(|condition| condition.status == wanted)
    };
    let finished = holds(ConditionType::Finished, ConditionStatus::True);
    finished && holds(ConditionType::Reconciling, ConditionStatus::False)
}

async fn collect(cluster: &Cluster, build: &IndexBuild, history: &mut OwnershipHistory) -> anyhow::Result<()> {
    let (records, unreadable) = cluster.records(build).await?;
    for record in &records {
        history.add_record(record);
    }
    for one in &unreadable {
        tracing::debug!("{one}");
    }
    // A reader who may not see pods or events sees the owners alone.
    match cluster.objects::<Pod>(build, "pods").await {
        Ok((pods, _)) => pods.iter().filter_map(end_of).for_each(|end| history.add_pod_end(end)),
        Err(error) => tracing::debug!(%error, "pods are not read"),
    }
    let about = ListParams::default().fields(&format!("regarding.uid={}", build.uid().unwrap_or_default()));
    match cluster.api::<Guarded<Event>>().list(&about).await {
        Ok(events) => apart(events.items)
            .0
            .iter()
            .filter_map(|event| warning(event))
            .for_each(|warning| history.add_warning(warning)),
        Err(error) => tracing::debug!(%error, "events are not read"),
    }
    Ok(())
}

/// The end of a pod, as its kubelet reported it.
fn end_of(pod: &Pod) -> Option<PodEnd> {
    let slot = pod.labels().get(labels::SLOT)?.parse().ok()?;
    let ended = pod.status.as_ref()?.container_statuses.as_ref()?.iter().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        Some((ended.finished_at.as_ref()?.0.to_string(), ended.exit_code, ended.reason.clone().unwrap_or_default()))
    });
    let (at, code, reason) = ended?;
    let how = match (code, reason.as_str()) {
        (0, _) => "its process ended".to_owned(),
        (code, "" | "Error") => format!("its process ended with exit code {code}"),
        (code, reason) => format!("its process ended with exit code {code} ({reason})"),
    };
    Some(PodEnd { slot, pod: pod.name_any(), at, how })
}

/// A warning about a slot.
fn warning(event: &Event) -> Option<SlotWarning> {
    if event.type_.as_deref() != Some("Warning") {
        return None;
    }
    let text = one_line(event.note.as_deref()?);
    let (_, rest) = text.split_once("slot ")?;
    let slot = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let at = event.event_time.as_ref().map(|time| time.0.to_string())?;
    Some(SlotWarning { slot, at, text: format!("{}: {text}", event.reason.clone().unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_of_a_pod_is_what_its_kubelet_wrote_and_nothing_else() {
        let pod = |state| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "o-1-e1", "labels": {labels::SLOT: "1"}},
                "spec": {"containers": []},
                "status": {"phase": "Failed", "containerStatuses": [{"name": "executor", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 0, "state": state}]},
            }))
            .unwrap()
        };
        let ended =
            pod(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}}));
        assert_eq!(end_of(&ended).unwrap().how, "its process ended with exit code 137 (OOMKilled)");
        assert_eq!(end_of(&pod(json!({"running": {}}))), None, "a phase alone proves nothing");
    }

    #[test]
    fn a_warning_is_shown_with_the_slot_that_it_names() {
        let event = |kind: &str, note: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "type": kind, "reason": "OwnerReplaced", "note": note,
                "eventTime": "2026-01-01T00:00:00.000000Z"}))
            .unwrap()
        };
        assert_eq!(warning(&event("Warning", "pod p (slot 12, epoch 3) was silent")).unwrap().slot, 12);
        assert_eq!(warning(&event("Normal", "pod p (slot 12, epoch 3) was silent")), None);
        assert_eq!(warning(&event("Warning", "the build is let go")), None);
    }
}
