//! Volumes: each claim has a volume of its own at once, and a volume whose claim is gone is removed. The real volume
//! controller binds the two: a claim that says that it is bound before that controller has heard of the volume is
//! `Lost` to it for a moment.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// The class of volumes that stay with their machine.
pub(crate) const CLASS: &str = "scripted";
/// The class of volumes of the network, of the driver [`DETACHES`].
pub(crate) const NETWORK: &str = "scripted-network";
/// The class of volumes of the network, of the driver [`PRETENDS`].
pub(crate) const SHARED: &str = "scripted-shared";
/// A driver whose detach cuts the node off, as operators of these tests are told.
pub(crate) const DETACHES: &str = "detaches.example.com";
/// A driver of which they are told nothing.
pub(crate) const PRETENDS: &str = "pretends.example.com";

/// The classes.
pub(crate) fn classes() -> [serde_json::Value; 3] {
    [CLASS, NETWORK, SHARED].map(|name| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        })
    })
}

fn volume_name(claim_uid: &str) -> String {
    format!("pv-{claim_uid}")
}

/// Makes a volume for a claim. One that is there already is left as it is.
pub(crate) async fn bind(client: &Client, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    let uid = claim.uid().unwrap_or_default();
    let volume = volume_name(&uid);
    let spec = claim.spec.clone().unwrap_or_default();
    let capacity = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let class = spec.storage_class_name.unwrap_or_default();
    let mut object = json!({
        "metadata": {"name": volume, "labels": {"scripted": "yes"}},
        "spec": {
            "capacity": capacity, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace, "uid": uid},
        },
    });
    let driver = match class.as_str() {
        NETWORK => Some(DETACHES),
        SHARED => Some(PRETENDS),
        _ => None,
    };
    if let Some(driver) = driver {
        object["spec"]["csi"] = json!({"driver": driver, "volumeHandle": volume});
    } else {
        object["spec"]["local"] = json!({"path": "/volumes/scripted"});
        object["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}});
    }
    let object: PersistentVolume = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match volumes.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// What attaches a volume of the network to a node, whole: the attacher has said so. Nothing attaches any other.
pub(crate) async fn attach(client: &Client, claim: &PersistentVolumeClaim, node: &str) -> Result<(), kube::Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let driver = match spec.storage_class_name.as_deref() {
        Some(NETWORK) => DETACHES,
        Some(SHARED) => PRETENDS,
        _ => return Ok(()),
    };
    let name = attachment(&spec.volume_name.clone().unwrap_or_default(), node);
    let object: VolumeAttachment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"attacher": driver, "nodeName": node, "source": {"persistentVolumeName": spec.volume_name}},
    }))
    .map_err(kube::Error::SerdeError)?;
    let all: Api<VolumeAttachment> = Api::all(client.clone());
    match all.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    let said = Patch::Merge(json!({"status": {"attached": true}}));
    all.patch_status(&name, &PatchParams::default(), &said).await.map(drop)
}

/// The name of what attaches a volume to a node.
pub(crate) fn attachment(volume: &str, node: &str) -> String {
    format!("{volume}-{node}")
}

/// Removes the volume of a claim that is gone.
pub(crate) async fn reclaim(client: &Client, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let name = volume_name(&claim.uid().unwrap_or_default());
    match volumes.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}
