//! A build on a cluster, as commands read it: by the user's own kubeconfig, and never more than is asked for.

mod ownership;

pub use ownership::{Follow, ownership};

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indexbuild_api::{EngineDirectory, IndexBuild, labels};
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};

/// How long connecting may take, and how long the API server may be silent.
const CONNECT: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(60);

/// Which cluster, and which namespace of it
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The build's namespace [default: the kubeconfig's]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// The API server's address, for messages.
    pub url: String,
}

/// Runs what asks a cluster.
pub fn ask<T>(arguments: &ClusterArgs, what: impl AsyncFnOnce(Cluster) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async { what(Cluster::connect(arguments).await?).await })
}

impl Cluster {
    async fn connect(arguments: &ClusterArgs) -> anyhow::Result<Self> {
        let ClusterArgs { namespace, context, kubeconfig } = arguments;
        let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
        let mut config = match (kubeconfig, context) {
            (Some(file), _) => {
                let read = Kubeconfig::read_from(file)
                    .with_context(|| format!("the kubeconfig {} cannot be read", file.display()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .with_context(|| format!("the kubeconfig {} cannot be used", file.display()))?
            }
            (None, Some(name)) => Config::from_kubeconfig(&options).await.with_context(|| {
                format!("context {name} of the kubeconfig cannot be used; `kubectl config get-contexts` lists them")
            })?,
            (None, None) => Config::infer().await.context(
                "no access to a Kubernetes API: neither a kubeconfig (KUBECONFIG, ~/.kube/config) nor a service \
                 account of a pod was found; name one by --kubeconfig",
            )?,
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(READ);
        // A failed command says so; it is not tried for minutes.
        config.default_retry = false;
        let namespace = namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).with_context(|| format!("the configuration for {url} cannot be used"))?;
        Ok(Self { client, namespace, url })
    }

    /// The API of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What a failed call is about, and what to do next.
    pub fn failed(&self, doing: &str, error: kube::Error) -> anyhow::Error {
        let next = match &error {
            kube::Error::Api(status) if status.code == 403 => {
                "; ask an administrator of the cluster for that permission"
            }
            kube::Error::Api(status) if status.code == 401 => "; sign in again",
            kube::Error::Api(status) if status.code == 404 => {
                "; is indexbuild installed there (`kubectl get crd indexbuilds.indexbuild.dev`)?"
            }
            kube::Error::Api(_) => "",
            _ => "; is the API server reachable (`kubectl version`)?",
        };
        let message = format!("cannot {doing} at {}: {error}{next}", self.url);
        anyhow::Error::new(error).context(message)
    }

    /// A build; one that is not there is an error that says where it was looked for.
    pub async fn build(&self, name: &str) -> anyhow::Result<IndexBuild> {
        match self.find_build(name).await? {
            Some(build) => Ok(build),
            None => self.no_build(name).await,
        }
    }

    /// A build, if it is there.
    pub async fn find_build(&self, name: &str) -> anyhow::Result<Option<IndexBuild>> {
        let found = self.api::<IndexBuild>().get_opt(name).await;
        found.map_err(|error| self.failed(&format!("read build {name} of namespace {}", self.namespace), error))
    }

    /// The error of a build that is not there.
    pub async fn no_build<T>(&self, name: &str) -> anyhow::Result<T> {
        // 404 is also what a cluster without the definition says.
        self.builds(false).await?;
        bail!(
            "there is no build {name} in namespace {}; `kubectl get indexbuilds --all-namespaces` lists all, -n names another namespace",
            self.namespace
        )
    }

    /// All builds of the namespace, or of all.
    pub async fn builds(&self, everywhere: bool) -> anyhow::Result<Vec<IndexBuild>> {
        let api = if everywhere { Api::all(self.client.clone()) } else { self.api::<IndexBuild>() };
        let listed = api.list(&ListParams::default()).await;
        listed.map(|list| list.items).map_err(|error| self.failed("list builds", error))
    }

    /// Objects of a build, by its UID: a name can come back.
    pub async fn objects<K>(&self, build: &IndexBuild, what: &str) -> anyhow::Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let ours = format!("{}={}", labels::BUILD_UID, build.uid().unwrap_or_default());
        self.labelled(&ours, &build.name_any(), what).await
    }

    /// Objects of all builds that had a name, those that are gone included.
    pub async fn objects_of_name<K>(&self, name: &str, what: &str) -> anyhow::Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        self.labelled(&format!("{}={name},{}", labels::INSTANCE, labels::BUILD_UID), name, what).await
    }

    async fn labelled<K>(&self, labels: &str, build: &str, what: &str) -> anyhow::Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let listed = self.api::<K>().list(&ListParams::default().labels(labels)).await;
        let mut items = listed.map_err(|error| self.failed(&format!("list {what} of build {build}"), error))?.items;
        items.sort_by_key(kube::ResourceExt::name_any);
        Ok(items)
    }

    /// The records of a build, by slot.
    pub async fn records(&self, build: &IndexBuild) -> anyhow::Result<Vec<EngineDirectory>> {
        let mut records: Vec<EngineDirectory> = self.objects(build, "the enginedirectories").await?;
        records.sort_by_key(|record| record.spec.slot);
        Ok(records)
    }
}
