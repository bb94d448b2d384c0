//! Labels, annotations and the finalizer.

/// The API group.
pub const GROUP: &str = "indexbuild.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// `app.kubernetes.io/name`: always [`NAME_VALUE`].
pub const NAME: &str = "app.kubernetes.io/name";
/// The value of [`NAME`].
pub const NAME_VALUE: &str = "indexbuild";
/// `app.kubernetes.io/instance`: the build's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/component`: what the object is for.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The value of [`COMPONENT`] for executors' objects.
pub const COMPONENT_EXECUTOR: &str = "executor";
/// `app.kubernetes.io/managed-by`: always [`MANAGED_BY_VALUE`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "indexbuild-operator";
/// The UID of the build that an object belongs to: names can come back, UIDs cannot.
pub const BUILD_UID: &str = "indexbuild.dev/build-uid";
/// The slot that an object belongs to.
pub const SLOT: &str = "indexbuild.dev/slot";
/// The epoch that a pod was made for.
pub const EPOCH: &str = "indexbuild.dev/epoch";
/// The generation of a volume.
pub const VOLUME_GENERATION: &str = "indexbuild.dev/volume-generation";
/// The stage that a `ConfigMap` freezes.
pub const STAGE: &str = "indexbuild.dev/stage";
/// The annotation that makes the operator leave a build alone, when its value is [`RECONCILE_DISABLED`].
pub const RECONCILE: &str = "indexbuild.dev/reconcile";
/// The value of [`RECONCILE`] that stops.
pub const RECONCILE_DISABLED: &str = "disabled";
/// The annotation of a pod by which it is seen whether the build asks for another one by now.
pub const POD_DIGEST: &str = "indexbuild.dev/pod-digest";
/// The annotation of a record that names the Lease of the operator that made it, as `<namespace>/<name>`: whoever looks at a
/// build finds out by it whether an operator runs.
pub const OPERATOR_LEASE: &str = "indexbuild.dev/operator-lease";
/// The one finalizer, on `IndexBuild` only.
pub const FINALIZER: &str = "indexbuild.dev/cleanup";
/// The one field manager of the operator.
pub const FIELD_MANAGER: &str = "indexbuild-operator";

/// The labels of every object of a build.
#[must_use]
pub fn of_build(build_name: &str, build_uid: &str) -> std::collections::BTreeMap<String, String> {
    [
        (NAME, NAME_VALUE),
        (INSTANCE, build_name),
        (COMPONENT, COMPONENT_EXECUTOR),
        (MANAGED_BY, MANAGED_BY_VALUE),
        (BUILD_UID, build_uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
