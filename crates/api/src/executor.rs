//! The pods that executors run in: typed and small.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::raw::{RawObject, text_map};
use crate::source::SecretRef;

/// The memory of an executor that asks for none: 512 MiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 512 << 20;

/// A variable of each executor that sets it to nothing else: memory is given back soon after it is freed, so that what a
/// process holds is what it uses.
pub const ALLOCATOR: (&str, &str) =
    ("_RJEM_MALLOC_CONF", "background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0,narenas:4");

/// The most threads that one executor uses.
pub const MAX_THREADS: usize = 64;

/// The pods that executors run in.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorSpec {
    /// What a pod may use. A change holds from the next pod on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ExecutorResources>,
    /// The service account of the pods; made by the operator when absent. Name one for workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Labels of the nodes that pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods tolerate, beside unreachable and not-ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// A pod's affinity, passed on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<RawObject>,
    /// How pods spread over the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// The priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// The user and the group that pods run as. Absent: 65532 and 65532. Given: what it leaves out is left to the platform, as
    /// OpenShift's `restricted-v2` asks (`securityContext: {}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<ExecutorSecurityContext>,
    /// Variables of the executor's environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
}

impl ExecutorSpec {
    /// The one memory figure: what a pod may use, in bytes. Absent: 512 MiB.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> u64 {
        self.resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref())
            .and_then(|limits| limits.memory.as_ref())
            .map_or(DEFAULT_MEMORY_BYTES, Quantity::ceil)
    }

    /// How many threads work in an executor: its cores (requested; else its limit), rounded up; at least 1.
    #[must_use]
    pub fn threads(&self) -> usize {
        let cpu = |amounts: &Option<ResourceAmounts>| amounts.as_ref().and_then(|amounts| amounts.cpu.clone());
        let cores = self
            .resources
            .as_ref()
            .and_then(|resources| cpu(&resources.requests).or_else(|| cpu(&resources.limits)))
            .map_or(1, |cores| cores.ceil());
        usize::try_from(cores).unwrap_or(MAX_THREADS).clamp(1, MAX_THREADS)
    }
}

/// What a pod asks for and may use.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.limits) || !has(self.limits.memory) || quantity(string(self.limits.memory)).compareTo(quantity('128Mi')) >= 0")
        .message("limits.memory must be at least 128Mi: an executor's buffers need that much")
        .field_path(".limits.memory"),
    validation = Rule::new("!has(self.requests) || !has(self.requests.memory) || quantity(string(self.requests.memory)).compareTo(quantity(has(self.limits) && has(self.limits.memory) ? string(self.limits.memory) : '512Mi')) <= 0")
        .message("requests.memory must not exceed limits.memory (512Mi when absent): raise the limit")
        .field_path(".requests.memory"),
    validation = Rule::new("!has(self.requests) || !has(self.requests.cpu) || !has(self.limits) || !has(self.limits.cpu) || quantity(string(self.requests.cpu)).compareTo(quantity(string(self.limits.cpu))) <= 0")
        .message("requests.cpu must not exceed limits.cpu: raise the limit")
        .field_path(".requests.cpu")
)]
pub struct ExecutorResources {
    /// What the scheduler sets aside for a pod; `cpu` is also the number of threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What a pod may use at most; `memory` is the budget that all buffers are cut from (512Mi when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of processor and memory.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// Cores: `2`, `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes: `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// A taint that pods tolerate.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; absent: all, with the operator Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// How key and value are compared. Absent: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The taint's effect; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For how long a NoExecute taint is tolerated; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration matches a taint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The key is there.
    Exists,
    /// Key and value are equal.
    Equal,
}

/// What a taint does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods if there is another place.
    PreferNoSchedule,
    /// Running pods are evicted.
    NoExecute,
}

/// How pods spread over the cluster. The operator fills in the build's own labels where no selector is given.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpreadConstraint {
    /// The most that the numbers of pods in two domains may differ.
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: u32,
    /// The node label whose values are the domains.
    #[schemars(length(min = 1, max = 316))]
    pub topology_key: String,
    /// What happens when it cannot be met.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// The pods that count; absent: the build's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<RawObject>,
}

/// What happens to a pod that a spread constraint has no place for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It runs where it makes least harm.
    #[default]
    ScheduleAnyway,
}

/// Labels and annotations of the pods; the operator's own take precedence.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map")]
    pub annotations: BTreeMap<String, String>,
}

/// As whom pods run. Nothing of it gives them more than Pod Security's level restricted does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorSecurityContext {
    /// The user, which is never root; absent: the platform's or the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// The group that volumes and secrets are given to; absent: the platform's, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub fs_group: Option<i64>,
}

/// A variable of the executor's environment: a value, or a key of a secret.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.secret)")
        .message("exactly one of value and secret must be given: keep the one that the variable comes from"),
    validation = Rule::new("!self.name.startsWith('INDEXBUILD_') && self.name != 'POD_NAME' && self.name != 'POD_UID'")
        .message("POD_NAME, POD_UID and all that begins with INDEXBUILD_ are the operator's own: an executor that was told otherwise would speak for another pod, or misbehave as tests ask; leave the variable out, or name it otherwise")
        .field_path(".name")
)]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// The key of a secret that holds its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKeyRef>,
}

impl EnvVar {
    /// Whether the operator alone says what this variable is. A definition from before that rule has let it pass.
    #[must_use]
    pub fn is_the_operators(&self) -> bool {
        self.name.starts_with("INDEXBUILD_") || ["POD_NAME", "POD_UID"].contains(&self.name.as_str())
    }
}

/// A key of a secret in the build's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_threads_come_from_the_resources_or_have_a_default() {
        assert_eq!(ExecutorSpec::default().memory_limit_bytes(), 512 << 20);
        assert_eq!(ExecutorSpec::default().threads(), 1);
        let spec: ExecutorSpec = serde_json::from_value(serde_json::json!({
            "resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": 8, "memory": "256Mi"}}
        }))
        .unwrap();
        assert_eq!(spec.memory_limit_bytes(), 256 << 20);
        assert_eq!(spec.threads(), 2);
    }
}
