//! What attaches a build's volumes to nodes, as the API server has it now. It decides twice: that a volume was attached
//! stands in the grant of the process that is bound then, and that it is not any more can prove that process gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexbuild_api::{Attached, EngineDirectory, Guarded, apart};
use indexbuild_lifecycle::world::AttachmentView;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::error::is_status;

#[derive(Clone, Debug, Default)]
pub(crate) struct VolumeAttachments {
    /// The volumes that are attached.
    pub seen: Vec<AttachmentView>,
    /// The nodes to which something attaches a volume of the build, or is about to, or is not done with it. One that cannot
    /// be read may be of any node.
    pub nodes: Nodes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// Of all that there is.
    Known(BTreeSet<String>),
    /// Something cannot be read.
    Unknown,
}

impl Default for Nodes {
    fn default() -> Self {
        Self::Known(BTreeSet::new())
    }
}

impl Nodes {
    pub(crate) fn contains(&self, node: &str) -> bool {
        match self {
            Self::Known(nodes) => nodes.contains(node),
            Self::Unknown => true,
        }
    }
}

/// Whether a process has registered that its grant does not name yet: the pass that binds it says whether its volume is
/// attached.
pub(crate) fn is_to_be_bound(directory: &EngineDirectory) -> bool {
    let claim = directory.status.as_ref().and_then(|status| status.claim.as_ref());
    directory.spec.grant.as_ref().zip(claim).is_some_and(|(grant, claim)| {
        grant.boot_nonce.is_empty() && !grant.pod_uid.is_empty() && grant.pod_uid == claim.pod_uid
    })
}

/// Reads them. `None`: they may not be read, and nothing is known.
pub(crate) async fn live(
    client: &Client,
    directories: &[Arc<EngineDirectory>],
    claims: &[Arc<PersistentVolumeClaim>],
) -> Result<Option<VolumeAttachments>, kube::Error> {
    let listed = Api::<Guarded<VolumeAttachment>>::all(client.clone()).list(&ListParams::default()).await;
    let (attachments, unreadable) = match listed {
        Ok(attachments) => apart::<VolumeAttachment>(attachments.items),
        Err(error) if is_status(&error, 403) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found = of_volumes(&attachments, directories, claims);
    if !unreadable.is_empty() {
        found.nodes = Nodes::Unknown;
    }
    Ok(Some(found))
}

fn of_volumes(
    attachments: &[Arc<VolumeAttachment>],
    directories: &[Arc<EngineDirectory>],
    claims: &[Arc<PersistentVolumeClaim>],
) -> VolumeAttachments {
    let volume_of = |claim: &PersistentVolumeClaim| claim.spec.as_ref()?.volume_name.clone();
    let bound: BTreeMap<String, String> =
        claims.iter().filter_map(|claim| Some((volume_of(claim)?, claim.name_any()))).collect();
    // A claim that is gone, or cannot be read, hides no volume.
    let recorded: BTreeSet<&str> = directories
        .iter()
        .flat_map(|directory| {
            let former = directory.spec.former_volumes.iter().filter_map(|volume| volume.attached.as_ref());
            directory.spec.grant.iter().filter_map(|grant| grant.attached.as_ref()).chain(former)
        })
        .map(|attached| attached.volume.as_str())
        .collect();
    let mut seen = Vec::new();
    let mut nodes = BTreeSet::new();
    for attachment in attachments {
        let Some(volume) = attachment.spec.source.persistent_volume_name.as_deref() else {
            continue;
        };
        let claim = bound.get(volume);
        if claim.is_none() && !recorded.contains(volume) {
            continue;
        }
        let node = &attachment.spec.node_name;
        nodes.insert(node.clone());
        let attached = attachment.status.as_ref().is_some_and(|status| status.attached);
        // One that is being taken back may be detached before anybody says so.
        if let Some(claim) = claim.filter(|_| attached && attachment.metadata.deletion_timestamp.is_none()) {
            seen.push(AttachmentView {
                claim: claim.clone(),
                attached: Attached {
                    driver: attachment.spec.attacher.clone(),
                    volume: volume.to_owned(),
                    node: node.clone(),
                },
            });
        }
    }
    VolumeAttachments { seen, nodes: Nodes::Known(nodes) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DRIVER: &str = "ebs.csi.aws.com";

    fn attachment(volume: &str, node: &str, more: &Value) -> Arc<VolumeAttachment> {
        let mut object = json!({
            "metadata": {"name": format!("{volume}-{node}")},
            "spec": {"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": volume}},
            "status": {"attached": true},
        });
        for (field, value) in more.as_object().unwrap() {
            for (key, value) in value.as_object().unwrap() {
                object[field][key] = value.clone();
            }
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn claim(name: &str, volume: Option<&str>) -> Arc<PersistentVolumeClaim> {
        let object = json!({"metadata": {"name": name}, "spec": {"volumeName": volume}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn record(grant: &Value, claim: Option<&Value>) -> EngineDirectory {
        let object = json!({
            "metadata": {"name": "orders-0"},
            "spec": {"buildName": "orders", "buildUID": "u", "slot": 0, "grant": grant},
            "status": {"claim": claim},
        });
        serde_json::from_value(object).unwrap()
    }

    fn found(attachments: &[Arc<VolumeAttachment>]) -> VolumeAttachments {
        of_volumes(attachments, &[], &[claim("v1", Some("pv-1")), claim("v2", None)])
    }

    /// What is not whole attaches a volume as far as a lost node is concerned, and not as far as its owner is.
    #[test]
    fn what_is_attached_is_seen_by_its_claim_and_what_is_not_whole_holds_its_node_all_the_same() {
        let nothing = json!({});
        let all = found(&[attachment("pv-1", "n1", &nothing), attachment("pv-9", "n2", &nothing)]);
        let attached = Attached { driver: DRIVER.to_owned(), volume: "pv-1".to_owned(), node: "n1".to_owned() };
        assert_eq!(all.seen, [AttachmentView { claim: "v1".to_owned(), attached }]);
        assert!(all.nodes.contains("n1") && !all.nodes.contains("n2"), "another build's volume");
        let partial = [
            json!({"status": {"attached": false}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ];
        for partial in partial {
            let all = found(&[attachment("pv-1", "n1", &partial)]);
            assert!(all.seen.is_empty(), "{partial}");
            assert!(all.nodes.contains("n1"), "{partial}");
        }
        assert!(Nodes::Unknown.contains("n1"), "what cannot be read may be of any node");
    }

    /// A claim may be gone, or be another one's by its labels, while its volume is still attached.
    #[test]
    fn a_volume_that_a_record_names_holds_its_node_without_its_claim() {
        let attached = json!({"driver": DRIVER, "volume": "pv-7", "node": "n1"});
        let grant = json!({"epoch": 1, "podName": "p", "podUID": "u", "bootNonce": "n", "attached": attached});
        let all = [attachment("pv-7", "n1", &json!({}))];
        let found = of_volumes(&all, &[Arc::new(record(&grant, None))], &[]);
        assert!(found.nodes.contains("n1") && found.seen.is_empty(), "{found:?}");
        assert!(!of_volumes(&all, &[], &[]).nodes.contains("n1"), "the control: nothing of this build's");
    }

    #[test]
    fn they_are_read_for_a_process_that_has_registered_and_is_not_bound() {
        let grant = |uid: &str, nonce: &str| json!({"epoch": 1, "podName": "p", "podUID": uid, "bootNonce": nonce});
        let claim = json!({"podUID": "u", "bootNonce": "n"});
        assert!(is_to_be_bound(&record(&grant("u", ""), Some(&claim))));
        assert!(!is_to_be_bound(&record(&grant("u", "n"), Some(&claim))), "it is bound");
        assert!(!is_to_be_bound(&record(&grant("v", ""), Some(&claim))), "the one before registered");
        assert!(!is_to_be_bound(&record(&grant("u", ""), None)), "nobody has");
    }
}
