//! The build as its executors read it: a file in their pods, so that they need no permission on builds.

use std::collections::BTreeMap;

use indexbuild_api::{IndexBuild, names};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::json;

use super::Owner;

/// The key, and the file's name.
pub const BUILD_KEY: &str = "build.json";

/// The name of the build's `ConfigMap`, in place of a stage's.
pub(super) const BUILD: &str = "build";

/// The `ConfigMap` with the build: what identifies it, and its spec.
pub fn build_file(build: &IndexBuild, owner: &Owner) -> ConfigMap {
    let metadata = json!({
        "name": owner.name,
        "namespace": owner.namespace,
        "uid": owner.uid,
        "generation": build.metadata.generation,
        "creationTimestamp": build.creation_timestamp(),
    });
    let text = json!({
        "apiVersion": "indexbuild.dev/v1alpha1",
        "kind": "IndexBuild",
        "metadata": metadata,
        "spec": build.spec,
    });
    ConfigMap {
        metadata: owner.owned(names::config_map(&owner.name, &owner.uid, BUILD)),
        data: Some(BTreeMap::from([(BUILD_KEY.to_owned(), text.to_string())])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::build;
    use super::*;

    #[test]
    fn an_executor_reads_the_same_build_that_the_user_applied() {
        let build = build("  rowsPerSecond: 5000\n");
        let map = build_file(&build, &Owner::of(&build));
        let read: IndexBuild = serde_json::from_str(&map.data.unwrap()[BUILD_KEY]).unwrap();
        assert_eq!(read.spec, build.spec);
        assert_eq!(read.uid(), build.uid());
    }
}
