//! A build on a cluster, as commands read it: by the user's own kubeconfig, and never more than is asked for.

mod ownership;

pub(crate) use ownership::{Follow, ownership};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, Unreadable, apart, labels};
use indexbuild_operator::shallow::shallow_client;
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
pub(crate) struct ClusterArgs {
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
        // A command that fails says so at once, instead of retrying for minutes.
        config.default_retry = false;
        let namespace = namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
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

    /// The error of a failed call, with what to do next.
    pub(crate) fn failed(&self, doing: &str, error: kube::Error) -> anyhow::Error {
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
        let found =
            found.map_err(|error| self.failed(&format!("read build {name} of namespace {}", self.namespace), error))?;
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
        listed.map(|list| list.items).map_err(|error| self.failed("list builds", error))
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
        let mut items = listed.map_err(|error| self.failed(&format!("list {what} of build {build}"), error))?.items;
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
