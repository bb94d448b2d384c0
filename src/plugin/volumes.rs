//! `kubectl indexbuild volumes`.

use std::process::ExitCode;

use clap::Args;
use indexbuild_api::{EngineDirectory, FormerVolume, Retention, Unreadable, VolumeRef, VolumeState};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde::Serialize;

use super::Output;
use super::table::table;
use crate::cluster::{Cluster, ClusterArgs, ask, note_unreadable};

/// Show the volumes of a build, who had them, and what holds them; of a deleted build, those that are left
#[derive(Debug, Args)]
#[command(after_help = "\
A volume that is Stranded had an owner that nothing proves to be gone: it is kept until the kubelet of its node reports the
pod terminated, its process finds its way back and releases the volume, the node is rebooted, its Node object is removed
and the volume detached, or somebody who knows that the machine is down puts the taint
node.kubernetes.io/out-of-service on it and the volume is detached. The build does not wait for it. A detach counts of drivers of the chart's evidence.detachingDrivers alone; docs/failure-modes.md says more.

WHEN DELETED is what becomes of a volume once the build is deleted and its last owner proved gone. A volume that is
Retained is one that a deleted build asked to keep: nothing uses it, and `kubectl delete pvc` removes it.

Examples:
  kubectl indexbuild volumes orders -n shop
  kubectl indexbuild volumes orders -n shop -o json")]
pub(super) struct VolumesArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// One volume of a build.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    /// Absent: its claim belongs to the build, but no record knows it.
    slot: Option<u32>,
    claim: String,
    state: String,
    /// The pod that has it, or had it last.
    owner: String,
    node: String,
    claim_phase: String,
    volume: String,
    capacity: String,
    /// Whether it is about to be deleted.
    condemned: bool,
    /// What becomes of it when the build is deleted; empty where nothing says so.
    when_deleted: String,
}

pub(super) fn run(args: VolumesArgs) -> anyhow::Result<ExitCode> {
    let VolumesArgs { build, output, cluster } = args;
    let volumes = ask(&cluster, async |cluster: Cluster| {
        let Some(found) = cluster.find_build(&build).await? else {
            let (records, unread_records) =
                cluster.objects_of_name::<EngineDirectory>(&build, "the enginedirectories").await?;
            let (claims, unread_claims) =
                cluster.objects_of_name::<PersistentVolumeClaim>(&build, "the claims").await?;
            if records.is_empty() && claims.is_empty() && unread_records.is_empty() && unread_claims.is_empty() {
                return cluster.no_build(&build).await;
            }
            crate::output::note(&format!("there is no build {build} any more; this is what it left"));
            note_unreadable(&unread_records);
            note_unreadable(&unread_claims);
            return Ok(volumes(&records, &claims, &unread_claims, Build::Gone));
        };
        let (records, unread_records) = cluster.records(&found).await?;
        let (claims, unread_claims) = cluster.objects::<PersistentVolumeClaim>(&found, "the claims").await?;
        note_unreadable(&unread_records);
        note_unreadable(&unread_claims);
        Ok(volumes(&records, &claims, &unread_claims, Build::There))
    })?;
    output.write(&volumes, |volumes, _| {
        let head =
            ["slot", "claim", "state", "owner", "node", "claim is", "volume", "size", "condemned", "when deleted"];
        table(&head, volumes.iter().map(row))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the build that volumes are of is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    There,
    Gone,
}

fn volumes(
    records: &[EngineDirectory],
    claims: &[PersistentVolumeClaim],
    unread: &[Unreadable],
    build: Build,
) -> Vec<Volume> {
    let mut all = Vec::new();
    for record in records {
        let slot = Some(record.spec.slot);
        let when_deleted = match (record.spec.after_build, build) {
            (Some(after), _) => after.volumes.to_string(),
            // Then the operator does not know it either, and deletes nothing.
            (None, Build::Gone) => Retention::Retain.to_string(),
            (None, Build::There) => String::new(),
        };
        if let Some(VolumeRef { claim_name, claim_uid: _, generation: _, condemned }) = &record.spec.volume {
            let grant = record.spec.grant.clone().unwrap_or_default();
            let state = if grant.boot_nonce.is_empty() { VolumeState::Idle } else { VolumeState::Owned };
            all.push(Volume {
                slot,
                claim: claim_name.clone(),
                state: state.to_string(),
                owner: grant.pod_name,
                node: grant.node_name,
                condemned: *condemned,
                when_deleted: when_deleted.clone(),
                ..Volume::default()
            });
        }
        for former in &record.spec.former_volumes {
            let FormerVolume { claim_name, condemned, pod_name, node_name, state, .. } = former;
            all.push(Volume {
                slot,
                claim: claim_name.clone(),
                state: state.to_string(),
                owner: pod_name.clone(),
                node: node_name.clone(),
                condemned: *condemned,
                when_deleted: when_deleted.clone(),
                ..Volume::default()
            });
        }
    }
    for name in claims.iter().map(kube::ResourceExt::name_any).chain(unread.iter().map(|claim| claim.name.clone())) {
        if !all.iter().any(|volume| volume.claim == name) {
            let (state, when_deleted) = match build {
                Build::There => ("Unrecorded", String::new()),
                Build::Gone => ("Retained", Retention::Retain.to_string()),
            };
            all.push(Volume { claim: name, state: state.to_owned(), when_deleted, ..Volume::default() });
        }
    }
    for volume in &mut all {
        let claim = claims.iter().find(|claim| claim.name_any() == volume.claim);
        let status = claim.and_then(|claim| claim.status.clone()).unwrap_or_default();
        volume.claim_phase = match claim {
            None if unread.iter().any(|claim| claim.name == volume.claim) => "cannot be read".to_owned(),
            None => "not there".to_owned(),
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => "Terminating".to_owned(),
            Some(_) => status.phase.unwrap_or_else(|| "Pending".to_owned()),
        };
        volume.volume = claim.and_then(|claim| claim.spec.as_ref()?.volume_name.clone()).unwrap_or_default();
        let capacity = status.capacity.unwrap_or_default();
        volume.capacity = capacity.get("storage").map(|size| size.0.clone()).unwrap_or_default();
    }
    all
}

fn row(volume: &Volume) -> Vec<String> {
    let Volume { slot, claim, state, owner, node, claim_phase, volume, capacity, condemned, when_deleted } = volume;
    let shown = |text: &String| if text.is_empty() { "<none>".to_owned() } else { text.clone() };
    vec![
        super::table::or_none(*slot),
        claim.clone(),
        state.clone(),
        shown(owner),
        shown(node),
        claim_phase.clone(),
        shown(volume),
        shown(capacity),
        if *condemned { "yes" } else { "no" }.to_owned(),
        shown(when_deleted),
    ]
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{AfterBuild, Duration, EngineDirectorySpec};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_help_tells_what_would_prove_that_a_former_owner_is_gone() {
        let help = VolumesArgs::augment_args(clap::Command::new("volumes")).render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = format!("it is kept until {}.", indexbuild_lifecycle::EvidenceKind::awaited(true));
        assert!(help.contains(&told), "{told}: {help}");
    }

    fn claim(name: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}))
        .unwrap()
    }

    fn record(after_build: Option<AfterBuild>) -> EngineDirectory {
        let spec = EngineDirectorySpec {
            slot: 3,
            volume: Some(VolumeRef { claim_name: "o-3-v2".to_owned(), ..VolumeRef::default() }),
            former_volumes: vec![FormerVolume {
                claim_name: "o-3-v1".to_owned(),
                pod_name: "o-3-e1".to_owned(),
                node_name: "node2".to_owned(),
                state: VolumeState::Stranded,
                ..FormerVolume::default()
            }],
            after_build,
            ..EngineDirectorySpec::default()
        };
        EngineDirectory::new("o-3", spec)
    }

    fn shown(found: &[Volume]) -> Vec<[&str; 4]> {
        found
            .iter()
            .map(|one| [&one.claim, &one.state, &one.claim_phase, &one.when_deleted].map(String::as_str))
            .collect()
    }

    #[test]
    fn present_former_and_unrecorded_volumes_are_shown_with_their_claims() {
        let after = AfterBuild { volumes: Retention::Delete, replace_after: Duration::from_secs(600) };
        let claims = [claim("o-3-v1"), claim("o-9-v1")];
        let unread = Unreadable::of(&claim("o-9-v2"), "?".to_owned());
        let found = volumes(&[record(Some(after))], &claims, &[unread], Build::There);
        assert_eq!(
            shown(&found),
            [
                ["o-3-v2", "Idle", "not there", "Delete"],
                ["o-3-v1", "Stranded", "Bound", "Delete"],
                ["o-9-v1", "Unrecorded", "Bound", ""],
                ["o-9-v2", "Unrecorded", "cannot be read", ""]
            ]
        );
        assert_eq!(found[1].node, "node2");
    }

    #[test]
    fn what_a_deleted_build_left_is_shown_as_kept_where_nothing_says_that_it_goes() {
        let claims = [claim("o-3-v1"), claim("o-9-v1")];
        assert_eq!(
            shown(&volumes(&[record(None)], &claims, &[], Build::Gone)),
            [
                ["o-3-v2", "Idle", "not there", "Retain"],
                ["o-3-v1", "Stranded", "Bound", "Retain"],
                ["o-9-v1", "Retained", "Bound", "Retain"]
            ]
        );
    }
}
