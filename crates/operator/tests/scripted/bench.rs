//! A control plane, the scripted machine on it, and builds in namespaces of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexbuild_api::{ConditionStatus, ConditionType, EngineDirectory, IndexBuild, Phase, labels, names};
use indexbuild_faultproxy::{DenyList, Identity, KubeProxy, Upstream};
use indexbuild_lifecycle::world::Stage;
use indexbuild_operator::TestSwitches;
use indexbuild_testbed::{Cluster, Options, PortForward, tools_or_skip};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::deputy::{Deputy, Order, Tamper};
use super::ledger::{Kind, Tally};
use super::machine::{Machine, Script};
use super::{provisioner, release};

/// The name of every build: its namespace tells it apart.
pub(crate) const BUILD: &str = "orders";

/// Kinds that go with a build.
const ALL: [Kind; 4] = [Kind::Pod, Kind::Claim, Kind::Directory, Kind::Stage];

/// The control plane and the machine.
pub(crate) struct Bench {
    token: String,
    pub machine: Machine,
    pub admin: Client,
    upstream: Upstream,
    forward: Option<PortForward>,
    cluster: Option<Arc<Cluster>>,
}

/// A client by a configuration, with one try for each request.
pub(crate) fn client(mut config: Config) -> Client {
    config.default_retry = false;
    config.read_timeout = None;
    Client::try_from(config).unwrap()
}

impl Bench {
    /// Starts all of it; `None`: there is no testbed here, which is reported.
    pub(crate) async fn start(test: &'static str, script: Script) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let started = tokio::task::spawn_blocking(move || {
            let tools = tools_or_skip(test)?;
            let options = Options { nodes: 0, ..Options::default() };
            let cluster = Cluster::start(&tools, options).unwrap_or_else(|error| panic!("{error}"));
            let crds = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("crds").is_dir());
            let crds = crds.unwrap().join("crds").display().to_string();
            cluster.kubectl(&["apply", "--server-side", "-f", &crds]).unwrap_or_else(|error| panic!("{error}"));
            cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).unwrap();
            cluster.apply(&provisioner::classes()).unwrap();
            release::install(&cluster, &tools, &["serviceaccount", "rbac", "policies", "lease"]);
            let (token, forward) = (release::token(&cluster), cluster.forward_api().unwrap());
            Some((cluster, token, forward))
        });
        let (cluster, token, forward) = started.await.unwrap()?;
        let kubeconfig = Kubeconfig::read_from(forward.kubeconfig()).unwrap();
        let upstream = upstream(&forward);
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let mut bare = config.clone();
        bare.auth_info = kube::config::AuthInfo::default();
        let admin = client(config);
        // What is established is served; while its storage begins, lists are refused (429).
        let start = Instant::now();
        loop {
            let builds = Api::<IndexBuild>::all(admin.clone()).list(&ListParams::default()).await;
            let records = Api::<EngineDirectory>::all(admin.clone()).list(&ListParams::default()).await;
            let Some(refused) = builds.err().or(records.err()) else { break };
            assert!(start.elapsed().as_secs() < 60, "the resources cannot be listed: {refused}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let machine = Machine::start(admin.clone(), client(bare), script).await;
        Some(Self { token, machine, admin, upstream, forward: Some(forward), cluster: Some(Arc::new(cluster)) })
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        self.cluster.as_ref().unwrap()
    }

    /// A kubeconfig for an operator outside, with the rights that the chart gives.
    pub(crate) fn kubeconfig(&self) -> String {
        let text = std::fs::read_to_string(self.forward.as_ref().unwrap().kubeconfig()).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": self.token});
        config.to_string()
    }

    /// The namespace of the chart's Lease.
    pub(crate) fn lease_namespace(&self) -> &'static str {
        release::NAMESPACE
    }

    /// Ends all of it.
    pub(crate) async fn end(self) {
        let Self { token: _, machine, admin, upstream: _, forward, cluster } = self;
        // Its watches end before the API server does.
        drop((machine, admin));
        tokio::task::spawn_blocking(move || drop((forward, cluster))).await.unwrap();
    }

    /// Lets anybody who may write ConfigMaps write those of builds: as on a cluster without the rule, or from before it.
    pub(crate) async fn unguard_stages(&self) {
        let cluster = Arc::clone(self.cluster());
        let taken = tokio::task::spawn_blocking(move || {
            cluster.kubectl(&["delete", "validatingadmissionpolicybinding", "indexbuild-stage"]).map(drop)
        });
        taken.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
        let trial: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "trial", "labels": {labels::STAGE: "plan"}}})).unwrap();
        let dry = PostParams { dry_run: true, field_manager: None };
        let start = Instant::now();
        // The API server takes it up a moment later.
        while let Err(error) = Api::namespaced(self.admin.clone(), "default").create(&dry, &trial).await {
            assert!(start.elapsed() < Duration::from_secs(30), "the rule about stages still holds: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A proxy before the API server that refuses what no operator may do.
    pub(crate) async fn proxy(&self) -> KubeProxy {
        let own_finalizers = [labels::FINALIZER.to_owned()].into();
        KubeProxy::start(self.upstream.clone(), DenyList { own_finalizers }).await.unwrap()
    }

    /// The way to the API server through a proxy, with the rights that the chart gives.
    pub(crate) async fn through(&self, proxy: &KubeProxy) -> Config {
        let kubeconfig = Kubeconfig::from_yaml(&proxy.kubeconfig(Some(&self.token))).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
    }

    /// Makes a namespace with Leases of its own, on which an operator has the chart's rights on its one.
    pub(crate) async fn namespace(&self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &namespace).await.map(|_: Namespace| ()).unwrap();
        let [role, binding] = release::lease_rights(name);
        let role: Role = serde_json::from_value(role).unwrap();
        let binding: RoleBinding = serde_json::from_value(binding).unwrap();
        Api::namespaced(self.admin.clone(), name).create(&PostParams::default(), &role).await.unwrap();
        Api::namespaced(self.admin.clone(), name).create(&PostParams::default(), &binding).await.unwrap();
    }

    /// Starts an operator for a namespace, through a proxy.
    pub(crate) async fn operator(
        &self,
        proxy: &KubeProxy,
        namespace: &str,
        lease: &str,
        tamper: Option<Tamper>,
    ) -> Deputy {
        Deputy::start(Order {
            config: self.through(proxy).await,
            namespaces: vec![namespace.to_owned()],
            lease_namespace: namespace.to_owned(),
            lease: lease.to_owned(),
            tamper,
            switches: TestSwitches::default(),
        })
    }

    /// Applies a build of so many slots.
    pub(crate) async fn build(
        &self,
        namespace: &str,
        name: &str,
        slots: u32,
        change: impl FnOnce(&mut serde_json::Value),
    ) {
        let mut build = json!({
            "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "source": {"parquet": {"urls": ["s3://lake/orders/*.parquet"]}},
                "rowId": {"columns": ["id"]},
                "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
                "output": {"url": "s3://indexes/shop"},
                "parallelism": slots,
                "volume": {"storageClassName": provisioner::CLASS, "size": "1Gi"},
                "disruption": {"replaceAfter": "15s", "orphanAfter": "10m"},
                "executor": {"resources": {"limits": {"memory": "256Mi"}}},
            },
        });
        change(&mut build);
        let build: IndexBuild = serde_json::from_value(build).unwrap();
        self.builds(namespace).create(&PostParams::default(), &build).await.unwrap();
    }

    /// The builds of a namespace.
    pub(crate) fn builds(&self, namespace: &str) -> Api<IndexBuild> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// Deletes the build.
    pub(crate) async fn delete(&self, namespace: &str, name: &str) {
        self.builds(namespace).delete(name, &DeleteParams::default()).await.map(drop).unwrap();
    }

    /// Whether the build is complete, and nothing of it is still on its way.
    pub(crate) fn is_settled(&self, namespace: &str) -> bool {
        let ledger = self.machine.ledger();
        let Some(build) = ledger.read_build(namespace) else { return false };
        let status = build.status.clone().unwrap_or_default();
        let complete = status.condition(ConditionType::Complete).map(|complete| complete.status);
        complete == Some(ConditionStatus::True)
            && status.phase == Some(Phase::Complete)
            && build.finalizers().is_empty()
            && ledger.count_left(namespace, &[Kind::Pod, Kind::Claim, Kind::Directory]) == 0
    }

    /// Whether the build is gone, with all that went with it.
    pub(crate) fn is_gone(&self, namespace: &str) -> bool {
        let ledger = self.machine.ledger();
        ledger.read_build(namespace).is_none() && ledger.count_left(namespace, &ALL) == 0
    }

    /// Waits for something that the ledger tells. `Err`: what was there at the deadline.
    pub(crate) async fn until(&self, within: Duration, holds: impl Fn(&Self) -> bool) -> Result<(), ()> {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > within {
                return Err(());
            }
            let changed = self.machine.ledger().changed.notified();
            let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
        }
        Ok(())
    }

    async fn list<K>(&self, namespace: &str) -> Vec<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let selected = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE));
        Api::<K>::namespaced(self.admin.clone(), namespace).list(&selected).await.unwrap().items
    }

    /// The records in a namespace as they stand, for a test that found one too many.
    pub(crate) async fn records(&self, namespace: &str) -> String {
        let records = self.list::<indexbuild_api::EngineDirectory>(namespace).await;
        records.iter().map(|record| serde_json::to_string(record).unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// Everything in a namespace that the operator made and that is still there.
    pub(crate) async fn objects(&self, namespace: &str) -> Vec<String> {
        fn name<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
            let name = object.name_any();
            let uid = object.labels().get(labels::BUILD_UID).cloned().unwrap_or_default();
            format!("{} {}", K::kind(&()), name.replace(indexbuild_api::names::short_uid(&uid), "UID"))
        }
        let mut all: Vec<String> = Vec::new();
        all.extend(self.list::<Pod>(namespace).await.iter().map(name));
        all.extend(self.list::<PersistentVolumeClaim>(namespace).await.iter().map(name));
        all.extend(self.list::<indexbuild_api::EngineDirectory>(namespace).await.iter().map(name));
        all.extend(self.list::<ConfigMap>(namespace).await.iter().map(name));
        all.extend(self.list::<ServiceAccount>(namespace).await.iter().map(name));
        all.extend(self.list::<Role>(namespace).await.iter().map(name));
        all.extend(self.list::<RoleBinding>(namespace).await.iter().map(name));
        all.sort();
        all
    }

    /// The end of a build, without what differs from run to run.
    pub(crate) async fn end_state(&self, namespace: &str) -> EndState {
        let ledger = self.machine.ledger();
        let build = ledger.read_build(namespace);
        let uid = build.as_ref().and_then(|build| build.uid()).unwrap_or_default();
        let mut stages = BTreeMap::new();
        let mut unreported = Vec::new();
        for map in self.list::<ConfigMap>(namespace).await {
            if !map.labels().contains_key(labels::STAGE) {
                continue;
            }
            let Stage { name, chosen } = serde_json::from_str(&map.data.unwrap()[names::STAGE_KEY]).unwrap();
            let works = chosen.iter().map(|chosen| {
                let indexbuild_api::Chosen { work_id, epoch, boot_nonce, digest, rows, entries, bytes, .. } = chosen;
                if !ledger.was_reported(namespace, work_id, *epoch, boot_nonce, digest) {
                    unreported.push(format!("{work_id} {epoch}-{boot_nonce} {digest}"));
                }
                format!("{work_id}: {rows} rows, {entries} entries, {bytes} bytes")
            });
            stages.insert(name, works.collect());
        }
        EndState {
            build: build.map(|build| describe(&build, &uid)),
            stages,
            unreported,
            tally: ledger.tally(namespace),
            duplicates: ledger.duplicates(namespace),
            objects: self.objects(namespace).await,
        }
    }
}

fn describe(build: &IndexBuild, uid: &str) -> Vec<String> {
    let status = build.status.clone().unwrap_or_default();
    let mut lines: Vec<String> = status
        .conditions
        .iter()
        // When it was tried last is a matter of time.
        .filter(|condition| condition.condition_type != ConditionType::OwnershipEnforced)
        .map(|condition| format!("{:?}={:?} {:?}", condition.condition_type, condition.status, condition.reason))
        .collect();
    lines.sort();
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    lines.push(format!("phase {} {}", text(&status.phase), text(&status.progress)));
    lines.push(format!("rows {:?}, entries {:?}, bytes {:?}", status.rows, status.entries, status.bytes));
    lines.push(format!("failed attempts {:?}, last error {:?}", status.failed_attempts, status.last_error));
    lines.push(format!("volumes {:?}", status.volumes));
    let namespace = build.namespace().unwrap_or_default();
    let manifest =
        status.manifest.map(|manifest| (manifest.url.replace(uid, "UID").replace(&namespace, "NS"), manifest.entries));
    lines.push(format!("manifest {manifest:?}"));
    lines.push(format!("finalizers {:?}", build.finalizers()));
    lines
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndState {
    pub build: Option<Vec<String>>,
    pub stages: BTreeMap<String, Vec<String>>,
    /// Choices that no owner ever reported.
    pub unreported: Vec<String>,
    pub tally: Tally,
    pub duplicates: Vec<String>,
    pub objects: Vec<String>,
}

/// The API server as the proxies see it.
fn upstream(forward: &PortForward) -> Upstream {
    let kubeconfig: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(forward.kubeconfig()).unwrap()).unwrap();
    let ca = kubeconfig.pointer("/clusters/0/cluster/certificate-authority").unwrap().as_str().unwrap();
    Upstream {
        url: format!("https://{}", forward.address()),
        ca_pem: Some(std::fs::read_to_string(ca).unwrap()),
        identity: Identity::PassThrough,
    }
}
