//! The objects that the operator makes: deterministic, so that making them again changes nothing.

mod account;
mod build_file;
mod claim;
mod directory;
mod pod;
mod stage;

use std::collections::BTreeMap;

use indexbuild_api::{IndexBuild, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;

pub use account::{account_name, role, role_binding, service_account};
pub use build_file::{BUILD_KEY, build_file};
pub use claim::claim;
pub use directory::directory;
pub(crate) use pod::pod_digest;
pub use pod::{BadPodPart, Image, PodPlace, pod};
pub use stage::stage;

/// The build that owns an object: who it is, by UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Owner {
    #[must_use]
    pub fn of(build: &impl kube::ResourceExt) -> Self {
        Self {
            namespace: build.namespace().unwrap_or_default(),
            name: build.name_any(),
            uid: build.uid().unwrap_or_default(),
        }
    }

    /// The reference by which an object goes when its build goes.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: IndexBuild::api_version(&()).into_owned(),
            kind: IndexBuild::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        labels::of_build(&self.name, &self.uid)
    }

    /// Metadata of an object that goes when its build goes.
    fn owned(&self, name: String) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![self.reference()]), ..self.unowned(name) }
    }

    /// Metadata of an object that outlives its build until the operator removes it.
    fn unowned(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

fn with_label(mut metadata: ObjectMeta, key: &str, value: impl ToString) -> ObjectMeta {
    metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_string());
    metadata
}

#[cfg(test)]
pub(crate) mod tests {
    use indexbuild_check::check_build;

    use super::*;

    /// A build with everything that an executor's pod is made of.
    pub(crate) fn build(more: &str) -> IndexBuild {
        let text = format!(
            "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  source:\n    parquet: {{urls: ['s3://lake/orders/*.parquet'], credentials: {{secretName: lake}}, caSecret: {{name: lake-ca}}}}\n  indexes: [{{name: by_customer, columns: [{{name: customer_id}}]}}]\n  output: {{url: 's3://indexes/shop', credentials: {{secretName: out}}}}\n  parallelism: 4\n  volume: {{storageClassName: local, size: 5Gi}}\n{more}"
        );
        let mut build = check_build("build.yaml", &text).unwrap();
        build.metadata.uid = Some("0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e".to_owned());
        build.metadata.generation = Some(1);
        build
    }

    #[test]
    fn an_owner_reference_names_the_build_by_uid_and_blocks_no_deletion() {
        let reference = Owner::of(&build("")).reference();
        assert_eq!(reference.api_version, "indexbuild.dev/v1alpha1");
        assert_eq!(reference.kind, "IndexBuild");
        assert_eq!(reference.uid, "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e");
        assert_eq!(reference.block_owner_deletion, None);
    }
}
