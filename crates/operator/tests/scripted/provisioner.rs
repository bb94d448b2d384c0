//! Volumes: each claim has a volume of its own at once, and a volume whose claim is gone is removed. The real volume
//! controller binds the two: a claim that says that it is bound before that controller has heard of the volume is
//! `Lost` to it for a moment.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// The class of all volumes.
pub const CLASS: &str = "scripted";

/// The class.
pub fn class() -> serde_json::Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume_name(claim_uid: &str) -> String {
    format!("pv-{claim_uid}")
}

/// Makes a volume for a claim. One that is there already is left as it is.
pub async fn bind(client: &Client, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    let uid = claim.uid().unwrap_or_default();
    let volume = volume_name(&uid);
    let spec = claim.spec.clone().unwrap_or_default();
    let capacity = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let object: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": volume, "labels": {"scripted": "yes"}},
        "spec": {
            "capacity": capacity, "accessModes": ["ReadWriteOnce"], "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace, "uid": uid},
            "local": {"path": "/volumes/scripted"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}},
        },
    }))
    .map_err(kube::Error::SerdeError)?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match volumes.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Removes the volume of a claim that is gone.
pub async fn reclaim(client: &Client, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let name = volume_name(&claim.uid().unwrap_or_default());
    match volumes.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}
