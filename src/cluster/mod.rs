//! A build on a cluster, as commands read it: by the user's own kubeconfig, and never more than is asked for.

mod operator;
mod ownership;
mod refusal;

pub(crate) use operator::no_operator;
pub(crate) use ownership::{Follow, ownership};
pub(crate) use refusal::said;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, Unreadable, apart, labels};
use indexbuild_operator::shallow::shallow_client;
use jiff::SignedDuration;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};

/// How long connecting may take, and how long the API server may be silent.
const CONNECT: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(60);

/// Which cluster, and which namespace of it. The names are kubectl's, and stand before or after a subcommand as there.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The build's namespace [default: the kubeconfig's]
    #[arg(short, long, value_name = "NAMESPACE", global = true)]
    pub namespace: Option<String>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// A cluster of the kubeconfig [default: the context's]
    #[arg(long, value_name = "NAME", global = true)]
    cluster: Option<String>,
    /// A user of the kubeconfig [default: the context's]
    #[arg(long, value_name = "NAME", global = true)]
    user: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Act as this user, a service account's name included
    #[arg(long = "as", value_name = "USER", global = true)]
    as_user: Option<String>,
    /// Act as a member of this group; may be repeated
    #[arg(long, value_name = "GROUP", global = true)]
    as_group: Vec<String>,
    /// Act as a user of this UID
    #[arg(long, value_name = "UID", global = true)]
    as_uid: Option<String>,
    /// How long the API server may be silent in one request: 5, 5s, 2m, 3h; 0: as long as it likes [default: 60s]
    #[arg(long, value_name = "TIME", global = true, value_parser = request_timeout)]
    request_timeout: Option<Duration>,
}

/// A time as kubectl takes it: a number of seconds, or numbers with their units.
fn request_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write a number of seconds, or 30s, 2m, 1h30m; 0 is no limit");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let known = |c: char| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's' | '.');
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(known) {
        return Err(wrong());
    }
    let time: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(time).map_err(|_| wrong())
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub client: Client,
    pub namespace: String,
    /// The API server's address, for messages.
    pub url: String,
}

/// Connects to the cluster and runs a command on it.
pub(crate) fn ask<T>(
    arguments: &ClusterArgs,
    what: impl AsyncFnOnce(Cluster) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async { what(Cluster::connect(arguments).await?).await })
}

impl ClusterArgs {
    /// The way to the cluster, as whom it is asked, and how long that may take.
    async fn config(&self) -> anyhow::Result<Config> {
        let Self { namespace: _, context, cluster, user, kubeconfig, as_user, as_group, as_uid, request_timeout } =
            self;
        let options = KubeConfigOptions { context: context.clone(), cluster: cluster.clone(), user: user.clone() };
        let chosen = context.is_some() || cluster.is_some() || user.is_some();
        let mut config = if let Some(file) = kubeconfig {
            let read = Kubeconfig::read_from(file)
                .with_context(|| format!("the kubeconfig {} cannot be read", file.display()))?;
            Config::from_custom_kubeconfig(read, &options)
                .await
                .with_context(|| format!("the kubeconfig {} cannot be used", file.display()))?
        } else if chosen {
            let named = [("context", context), ("cluster", cluster), ("user", user)];
            let named: Vec<String> =
                named.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))).collect();
            Config::from_kubeconfig(&options).await.with_context(|| {
                format!("{} of the kubeconfig cannot be used; `kubectl config view` lists all", named.join(", "))
            })?
        } else {
            Config::infer().await.context(
                "no access to a Kubernetes API: neither a kubeconfig (KUBECONFIG, ~/.kube/config) nor a service \
                 account of a pod was found; name one by --kubeconfig",
            )?
        };
        if as_user.is_none() && (as_uid.is_some() || !as_group.is_empty()) {
            bail!("requesting uid, groups or user-extra for impersonation without a user: give --as too");
        }
        if as_user.is_some() {
            // As with kubectl, all of it: who is somebody else has none of the groups that the kubeconfig may name.
            config.auth_info.impersonate.clone_from(as_user);
            config.auth_info.impersonate_groups = (!as_group.is_empty()).then(|| as_group.clone());
            config.auth_info.impersonate_uid.clone_from(as_uid);
        }
        let silence = match request_timeout {
            None => Some(READ),
            Some(Duration::ZERO) => None,
            Some(time) => Some(*time),
        };
        config.connect_timeout = Some(silence.map_or(CONNECT, |silence| silence.min(CONNECT)));
        config.read_timeout = silence;
        Ok(config)
    }
}

impl Cluster {
    async fn connect(arguments: &ClusterArgs) -> anyhow::Result<Self> {
        let mut config = arguments.config().await?;
        // A command that fails says so at once, instead of retrying for minutes.
        config.default_retry = false;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let client = shallow_client(config).with_context(|| format!("the configuration for {url} cannot be used"))?;
        Ok(Self { client, namespace, url })
    }

    /// The API of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The error of a failed call, in one line, with what to do next.
    pub(crate) fn failed(&self, doing: &str, error: &kube::Error) -> anyhow::Error {
        anyhow::anyhow!("{}; cannot {doing} at {}{}", said(error), self.url, refusal::next_step(error))
    }

    /// A build; one that is not there, or that cannot be read, is an error that says where it was looked for, or why.
    pub(crate) async fn build(&self, name: &str) -> anyhow::Result<IndexBuild> {
        match self.find_build(name).await? {
            Some(build) => Ok(build),
            None => self.no_build(name).await,
        }
    }

    /// A build, if it is there. One that cannot be read is an error.
    pub(crate) async fn find_build(&self, name: &str) -> anyhow::Result<Option<IndexBuild>> {
        let found = self.api::<Guarded<IndexBuild>>().get_opt(name).await;
        let found = found
            .map_err(|error| self.failed(&format!("read build {name} of namespace {}", self.namespace), &error))?;
        match found.map(|build| build.read()).transpose() {
            Ok(build) => Ok(build.map(Arc::unwrap_or_clone)),
            Err(unreadable) => bail!(
                "{unreadable}; `kubectl edit indexbuild {name} -n {0}` corrects it, `kubectl delete indexbuild {name} -n {0}` gives it up",
                self.namespace
            ),
        }
    }

    /// The error of a build that is not there.
    pub(crate) async fn no_build<T>(&self, name: &str) -> anyhow::Result<T> {
        // 404 is also what a cluster without the definition says.
        self.builds(false).await?;
        bail!(
            "there is no build {name} in namespace {}; `kubectl get indexbuilds --all-namespaces` lists all, -n names another namespace",
            self.namespace
        )
    }

    /// All builds of the namespace, or of all, whether or not each can be read.
    pub(crate) async fn builds(&self, everywhere: bool) -> anyhow::Result<Vec<Guarded<IndexBuild>>> {
        let api = if everywhere { Api::all(self.client.clone()) } else { self.api::<Guarded<IndexBuild>>() };
        let listed = api.list(&ListParams::default()).await;
        listed.map(|list| list.items).map_err(|error| self.failed("list builds", &error))
    }

    /// Objects of a build, by its UID: a name can come back. Those that cannot be read are told by name.
    pub(crate) async fn objects<K>(&self, build: &IndexBuild, what: &str) -> anyhow::Result<(Vec<K>, Vec<Unreadable>)>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let ours = format!("{}={}", labels::BUILD_UID, build.uid().unwrap_or_default());
        self.labelled(&ours, &build.name_any(), what).await
    }

    /// Objects of all builds that had a name, those that are gone included, and those that cannot be read.
    pub(crate) async fn objects_of_name<K>(&self, name: &str, what: &str) -> anyhow::Result<(Vec<K>, Vec<Unreadable>)>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        self.labelled(&format!("{}={name},{}", labels::INSTANCE, labels::BUILD_UID), name, what).await
    }

    async fn labelled<K>(&self, labels: &str, build: &str, what: &str) -> anyhow::Result<(Vec<K>, Vec<Unreadable>)>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let listed = self.api::<Guarded<K>>().list(&ListParams::default().labels(labels)).await;
        let mut items = listed.map_err(|error| self.failed(&format!("list {what} of build {build}"), &error))?.items;
        items.sort_by_key(kube::ResourceExt::name_any);
        let (read, unreadable) = apart(items);
        Ok((read.into_iter().map(Arc::unwrap_or_clone).collect(), unreadable))
    }

    /// The records of a build, by slot, and those that cannot be read.
    pub(crate) async fn records(&self, build: &IndexBuild) -> anyhow::Result<(Vec<EngineDirectory>, Vec<Unreadable>)> {
        let (mut records, unreadable) = self.objects::<EngineDirectory>(build, "the enginedirectories").await?;
        records.sort_by_key(|record| record.spec.slot);
        Ok((records, unreadable))
    }
}

/// Names the objects that cannot be read and so are not shown.
pub(crate) fn note_unreadable(unreadable: &[Unreadable]) {
    for one in unreadable {
        crate::output::note(&format!("{one}; it is not shown, and nothing is decided about its build"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::{Value, json};

    use super::*;

    fn build(name: &str, size: &str) -> Value {
        json!({
            "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {
                "source": {"parquet": {"urls": ["s3://lake/a"]}},
                "indexes": [{"name": "a", "columns": [{"name": "b"}]}],
                "output": {"url": "s3://indexes/s"},
                "volume": {"size": size},
            },
        })
    }

    /// An API server that has these builds, asked one time after the other.
    fn serve(builds: Vec<Value>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match connection.read(&mut piece).unwrap() {
                        0 => break,
                        length => request.extend_from_slice(&piece[..length]),
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
                let named = builds.iter().find(|build| path.ends_with(build["metadata"]["name"].as_str().unwrap()));
                let list = json!({"apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuildList", "metadata": {}, "items": builds});
                let body = named.unwrap_or(&list).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn a_time_is_read_as_kubectl_reads_it() {
        for (text, seconds) in [("0", 0), ("5", 5), ("5s", 5), ("2m", 120), ("1h30m", 5_400)] {
            assert_eq!(request_timeout(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "s", "-5s", "five", "5 s", "5d", "P1D"] {
            assert!(request_timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Status {
            #[command(flatten)]
            cluster: ClusterArgs,
        },
    }

    /// kubectl takes them anywhere, and a cluster's name, a user and a time without a limit change what is connected to.
    #[test]
    fn the_flags_of_kubectl_are_taken_before_and_after_the_subcommand_and_decide_whom_the_server_sees() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "one", "cluster": {"server": "http://one:1"}}, {"name": "two", "cluster": {"server": "http://two:2"}}],
            "users": [{"name": "x", "user": {"token": "x"}}, {"name": "y", "user": {"token": "y", "as": "other", "as-groups": ["theirs"]}}],
            "contexts": [{"name": "a", "context": {"cluster": "one", "user": "x", "namespace": "shop"}}],
        });
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = |before: &str, after: &str| {
            let words = format!("program --kubeconfig {} {before} status {after}", file.display());
            let program: Program = clap::Parser::try_parse_from(words.split_whitespace()).unwrap();
            let Sub::Status { cluster } = program.command;
            assert_eq!(format!("{:?}", program.cluster), format!("{cluster:?}"), "the same on both sides");
            runtime.block_on(cluster.config())
        };
        let plain = config("", "").unwrap();
        assert_eq!((plain.cluster_url.host(), plain.read_timeout), (Some("one"), Some(READ)));
        assert_eq!(plain.auth_info.impersonate, None);
        let flags = "--cluster two --user y --as jane --as-group a --as-group b --as-uid 7 --request-timeout 0";
        for (before, after) in [(flags, ""), ("", flags)] {
            let config = config(before, after).unwrap();
            assert_eq!((config.cluster_url.host(), config.read_timeout), (Some("two"), None));
            let auth = config.auth_info;
            assert_eq!((auth.impersonate.as_deref(), auth.impersonate_uid.as_deref()), (Some("jane"), Some("7")));
            assert_eq!(auth.impersonate_groups.unwrap_or_default(), ["a", "b"]);
        }
        assert!(config("", "--as-group a").unwrap_err().to_string().contains("--as"));
        assert_eq!(config("--request-timeout 2s", "").unwrap().connect_timeout, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_build_that_cannot_be_read_is_named_and_hinders_no_look_at_another() {
        let deep = (0..200).fold(json!(1), |inner, _| json!({"f:a": inner}));
        let mut nested = build("nested", "10Gi");
        nested["metadata"]["managedFields"] = json!([{"fieldsV1": deep}]);
        let url = serve(vec![build("bad", "100Ei"), build("good", "10Gi"), nested]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = Config::new(url.parse().unwrap());
            // The control: a client that does not cut, of one that has no guard.
            let plain = Client::try_from(config.clone()).unwrap();
            Api::<IndexBuild>::all(plain).list(&ListParams::default()).await.expect_err("100Ei, and 200 levels");
            let cluster = Cluster { client: shallow_client(config).unwrap(), namespace: "shop".to_owned(), url };
            let (read, unreadable) = apart(cluster.builds(false).await.unwrap());
            assert_eq!(read.iter().map(|build| build.name_any()).collect::<Vec<_>>(), ["good", "nested"]);
            assert_eq!(unreadable.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["bad"]);
            assert_eq!(cluster.build("good").await.unwrap().name_any(), "good");
            let said = cluster.build("bad").await.unwrap_err().to_string();
            for part in ["IndexBuild shop/bad cannot be read", "100Ei", "kubectl edit indexbuild bad -n shop"] {
                assert!(said.contains(part), "{said}");
            }
        });
    }
}
