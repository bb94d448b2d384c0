//! Volumes: each claim is bound to a volume of its own at once, and a volume whose claim is gone is removed. By the
//! same writes as the volume controller's, which finds nothing left to do.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
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

/// Binds a claim to a new volume. What is done already is left as it is.
pub async fn bind(client: &Client, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    let uid = claim.uid().unwrap_or_default();
    let volume = volume_name(&uid);
    let spec = claim.spec.clone().unwrap_or_default();
    let capacity = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let object: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": volume, "labels": {"scripted": "yes"}, "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
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
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let bound = json!({"metadata": {"uid": uid, "annotations": {
        "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}},
        "spec": {"volumeName": volume}});
    claims.patch(&name, &PatchParams::default(), &Patch::Merge(bound)).await?;
    let status = json!({"metadata": {"uid": uid},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": capacity}});
    claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let status = json!({"status": {"phase": "Bound"}});
    volumes.patch_status(&volume, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
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
