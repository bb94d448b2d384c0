//! The immutable `ConfigMap` of a frozen stage.

use std::collections::BTreeMap;

use indexbuild_api::{labels, names};
use indexbuild_lifecycle::Stage;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{Owner, with_label};

/// A frozen stage. Made once, never changed (G6): the API server itself refuses to change it.
///
/// # Errors
/// It cannot be written as JSON.
pub fn stage(owner: &Owner, stage: &Stage) -> Result<ConfigMap, serde_json::Error> {
    let name = names::config_map(&owner.name, &owner.uid, &stage.name);
    Ok(ConfigMap {
        metadata: with_label(owner.owned(name), labels::STAGE, &stage.name),
        immutable: Some(true),
        data: Some(BTreeMap::from([(names::STAGE_KEY.to_owned(), stage.text()?)])),
        binary_data: None,
    })
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Chosen, Epoch};

    use super::super::tests::build;
    use super::*;

    /// G6.
    #[test]
    fn a_frozen_stage_is_immutable_and_reads_back_as_it_was() {
        let build = build("");
        let frozen = Stage {
            name: "encode".to_owned(),
            chosen: vec![Chosen { work_id: "encode-0".to_owned(), epoch: Epoch::new(3), ..Chosen::default() }],
        };
        let map = stage(&Owner::of(&build), &frozen).unwrap();
        assert_eq!(map.immutable, Some(true));
        assert_eq!(map.metadata.name.as_deref(), Some("orders-0b7e1c9a-encode"));
        let view = crate::views::stage(&map, &Owner::of(&build));
        assert!(view.well_formed);
        assert_eq!(indexbuild_lifecycle::frozen::digest(&view.text.unwrap()), frozen.frozen().unwrap().digest);
    }
}
