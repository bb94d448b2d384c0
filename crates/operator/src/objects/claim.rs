//! The claim of a slot's volume.

use std::collections::BTreeMap;

use indexbuild_api::{IndexBuild, labels};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Owner, with_label};

/// A claim. It has no owner reference: a volume goes when its owner is proved gone (I4), not when the build goes.
pub fn claim(build: &IndexBuild, owner: &Owner, slot: u32, generation: u32, name: String) -> PersistentVolumeClaim {
    let volume = build.spec.volume_or_default();
    let metadata = with_label(owner.unowned(name), labels::SLOT, slot);
    PersistentVolumeClaim {
        metadata: with_label(metadata, labels::VOLUME_GENERATION, generation),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: volume.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(volume.size.as_str().to_owned()))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::build;
    use super::*;

    /// I4.
    #[test]
    fn a_claim_outlives_its_build_until_the_operator_removes_it() {
        let build = build("");
        let claim = claim(&build, &Owner::of(&build), 2, 5, "orders-0b7e1c9a-2-v5".to_owned());
        assert_eq!(claim.metadata.owner_references, None);
        let view = crate::views::claim(&PersistentVolumeClaim {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                uid: Some("u".to_owned()),
                ..claim.metadata.clone()
            },
            ..claim.clone()
        })
        .unwrap();
        assert_eq!((view.slot, view.generation), (2, 5));
        let spec = claim.spec.unwrap();
        assert_eq!(spec.storage_class_name.as_deref(), Some("local"));
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "5Gi");
    }
}
