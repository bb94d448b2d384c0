//! `kubectl indexbuild report`: what a bug report needs, in one archive, and no secrets.

mod redact;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use indexbuild_api::{Guarded, IndexBuild, Unreadable, apart, labels};
use indexbuild_timeline::text;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, LogParams, ObjectList};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use self::redact::Redaction;
use crate::cluster::{Cluster, ClusterArgs, Follow, ask, ownership};

/// The most that is taken of one log.
const LOG_BYTES: i64 = 8 << 20;
/// The most lines that are taken of one log: its end.
const LOG_LINES: i64 = 20_000;

/// Collect objects, events and logs of a build into one archive for a bug report
#[derive(Debug, Args)]
#[command(after_help = "\
The archive holds the build, its records, pods, claims and frozen stages, the volumes and nodes that they name, events, the
logs of executors and of the operator, and the timeline. No Secret is read. Values of spec.executor.env, user names in
URLs and signatures of URLs are removed, from logs too. What may not be read is named in its README.txt.
Look through it before you share it: names of columns, files and machines are in it.

Examples:
  kubectl indexbuild report orders -n shop
  kubectl indexbuild report orders -n shop --out /tmp/orders.tar.gz")]
pub(super) struct ReportArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    /// The archive [default: indexbuild-NAMESPACE-BUILD.tar.gz in the current folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let ReportArgs { build, out, cluster } = args;
    let (name, files) = ask(&cluster, async |cluster: Cluster| {
        let build = cluster.build(&build).await?;
        let name = format!("indexbuild-{}-{}", cluster.namespace, build.name_any());
        Ok((name, collect(&cluster, &build).await))
    })?;
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    write(&path, &name, &files).with_context(|| format!("cannot write {}", path.display()))?;
    crate::output::text(&format!("{}\n", path.display()))?;
    crate::output::note("no Secret was read; look through the archive before you share it");
    Ok(ExitCode::SUCCESS)
}

/// The files of the archive, and what could not be read.
struct Files {
    redaction: Redaction,
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Files {
    fn add(&mut self, name: &str, text: &str) {
        self.files.push((name.to_owned(), self.redaction.text(text)));
    }

    /// Objects as YAML documents.
    fn objects<T: Serialize>(&mut self, name: &str, objects: &[T]) {
        let mut text = String::new();
        for object in objects {
            let value = serde_json::to_value(object).map(|value| self.redaction.object(value)).unwrap_or_default();
            match serde_saphyr::to_string(&value) {
                Ok(document) => text.push_str(&format!("---\n{document}")),
                Err(error) => self.missing.push(format!("an object of {name}: {error}")),
            }
        }
        self.add(name, &text);
    }

    /// As [`Self::read`]; objects that cannot be read are named among the missing.
    fn read_apart<T: Serialize>(&mut self, name: &str, what: anyhow::Result<(Vec<T>, Vec<Unreadable>)>) -> Vec<T> {
        let what = what.map(|(objects, unreadable)| {
            self.missing.extend(unreadable.iter().map(|one| format!("{name}: {one}")));
            objects
        });
        self.read(name, what)
    }

    fn read<T: Serialize>(&mut self, name: &str, what: anyhow::Result<Vec<T>>) -> Vec<T> {
        match what {
            Ok(objects) => {
                self.objects(name, &objects);
                objects
            }
            Err(error) => {
                self.missing.push(format!("{name}: {error:#}"));
                Vec::new()
            }
        }
    }
}

async fn collect(cluster: &Cluster, build: &IndexBuild) -> Vec<(String, String)> {
    let mut files = Files { redaction: Redaction::of(build), files: Vec::new(), missing: Vec::new() };
    files.objects("build.yaml", std::slice::from_ref(build));
    let records = cluster.records(build).await;
    files.read_apart("enginedirectories.yaml", records);
    let pods = cluster.objects::<Pod>(build, "pods").await;
    let pods = files.read_apart("pods.yaml", pods);
    let claims = cluster.objects::<PersistentVolumeClaim>(build, "claims").await;
    let claims = files.read_apart("persistentvolumeclaims.yaml", claims);
    // Only the build's ConfigMaps with frozen stages: the other one repeats the spec.
    let stages = cluster.objects::<ConfigMap>(build, "frozen stages").await.map(|(maps, unreadable)| {
        let stages = maps.into_iter().filter(|map| map.labels().contains_key(labels::STAGE));
        (stages.collect::<Vec<_>>(), unreadable)
    });
    files.read_apart("stages.yaml", stages);
    let events = events(cluster, build).await;
    files.read_apart("events.yaml", events);
    let nodes = nodes(cluster, &pods).await;
    files.read_apart("nodes.yaml", nodes);
    let volumes = volumes(cluster, &claims).await;
    files.read_apart("persistentvolumes.yaml", volumes);
    match ownership(cluster, build, Follow::No, |_| ()).await {
        Ok(timeline) => files.add("timeline.txt", &text(&timeline)),
        Err(error) => files.missing.push(format!("timeline.txt: {error:#}")),
    }
    for pod in &pods {
        log(cluster, &mut files, pod).await;
    }
    operators(cluster, &mut files).await;
    let server = cluster.client.apiserver_version().await.map(|version| version.git_version).unwrap_or_default();
    let missing = if files.missing.is_empty() { "nothing\n".to_owned() } else { files.missing.join("\n") + "\n" };
    let readme = format!(
        "indexbuild {}, Kubernetes {server}, collected at {}\n\nNo Secret was read; values of spec.executor.env and signatures of URLs are removed.\n\nWhat could not be read:\n{missing}",
        env!("CARGO_PKG_VERSION"),
        jiff::Timestamp::now(),
    );
    files.add("README.txt", &readme);
    files.files
}

/// The listed objects that can be read, and those that cannot.
fn listed<K>(
    cluster: &Cluster,
    what: &str,
    listed: kube::Result<ObjectList<Guarded<K>>>,
) -> anyhow::Result<(Vec<K>, Vec<Unreadable>)>
where
    K: kube::Resource<DynamicType = ()> + Clone,
{
    let (read, unreadable) = apart(listed.map_err(|error| cluster.failed(what, &error))?.items);
    Ok((read.into_iter().map(Arc::unwrap_or_clone).collect(), unreadable))
}

async fn events(cluster: &Cluster, build: &IndexBuild) -> anyhow::Result<(Vec<Event>, Vec<Unreadable>)> {
    let all = cluster.api::<Guarded<Event>>().list(&ListParams::default()).await;
    let (all, unreadable) = listed(cluster, "list events", all)?;
    // Names of all its objects begin with its own, and the first part of its UID.
    let uid = build.uid().unwrap_or_default();
    let prefix = format!("{}-{}", build.name_any(), indexbuild_api::names::short_uid(&uid));
    let ours = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        regarding.uid.as_deref() == Some(uid.as_str()) || regarding.name.is_some_and(|name| name.starts_with(&prefix))
    };
    Ok((all.into_iter().filter(ours).collect(), unreadable))
}

/// The nodes' identities and conditions.
async fn nodes(cluster: &Cluster, pods: &[Pod]) -> anyhow::Result<(Vec<Value>, Vec<Unreadable>)> {
    let all = Api::<Guarded<Node>>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let (all, unreadable) = listed(cluster, "list nodes", all)?;
    let used = |name: &str| {
        pods.iter().any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(name)))
    };
    let said = all.into_iter().map(|node| {
        let status = node.status.clone().unwrap_or_default();
        json!({
            "name": node.name_any(),
            "runsItsPods": used(&node.name_any()),
            "taints": node.spec.as_ref().and_then(|spec| spec.taints.clone()),
            "unschedulable": node.spec.as_ref().and_then(|spec| spec.unschedulable),
            "conditions": status.conditions,
            "bootID": status.node_info.as_ref().map(|info| info.boot_id.clone()),
            "systemUUID": status.node_info.as_ref().map(|info| info.system_uuid.clone()),
            "kubelet": status.node_info.as_ref().map(|info| info.kubelet_version.clone()),
            "allocatable": status.allocatable,
        })
    });
    Ok((said.collect(), unreadable))
}

/// The volumes' owners and places, without how a driver reaches them.
async fn volumes(cluster: &Cluster, claims: &[PersistentVolumeClaim]) -> anyhow::Result<(Vec<Value>, Vec<Unreadable>)> {
    let all = Api::<Guarded<PersistentVolume>>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let (all, unreadable) = listed(cluster, "list persistentvolumes", all)?;
    let ours = |name: &str| {
        claims.iter().any(|claim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_deref() == Some(name)))
    };
    let said = all.into_iter().filter(|volume| ours(&volume.name_any())).map(|volume| {
        let spec = volume.spec.clone().unwrap_or_default();
        json!({
            "name": volume.name_any(),
            "claimRef": spec.claim_ref,
            "reclaimPolicy": spec.persistent_volume_reclaim_policy,
            "storageClassName": spec.storage_class_name,
            "capacity": spec.capacity,
            "nodeAffinity": spec.node_affinity,
            "status": volume.status,
        })
    });
    Ok((said.collect(), unreadable))
}

async fn log(cluster: &Cluster, files: &mut Files, pod: &Pod) {
    let namespace = pod.namespace().unwrap_or_else(|| cluster.namespace.clone());
    let name = pod.name_any();
    let parameters = LogParams {
        limit_bytes: Some(LOG_BYTES),
        tail_lines: Some(LOG_LINES),
        timestamps: true,
        ..LogParams::default()
    };
    match Api::<Pod>::namespaced(cluster.client.clone(), &namespace).logs(&name, &parameters).await {
        Ok(log) => files.add(&format!("logs/{name}.log"), &log),
        Err(error) => files.missing.push(format!("the log of pod {namespace}/{name}: {error}")),
    }
}

/// The operator's pods, as the chart labels them, wherever they are.
async fn operators(cluster: &Cluster, files: &mut Files) {
    let select = format!("{}={},{}=operator", labels::NAME, labels::NAME_VALUE, labels::COMPONENT);
    let pods = Api::<Guarded<Pod>>::all(cluster.client.clone()).list(&ListParams::default().labels(&select)).await;
    let listed = listed(cluster, "list the operator's pods", pods);
    let pods = files.read_apart("operator-pods.yaml", listed);
    if pods.is_empty() {
        files.missing.push(format!("the operator's log: no pod has the labels {select}"));
    }
    for pod in &pods {
        log(cluster, files, pod).await;
    }
}

fn write(path: &std::path::Path, name: &str, files: &[(String, String)]) -> std::io::Result<()> {
    let file = std::fs::File::create(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    for (file, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{name}/{file}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}
