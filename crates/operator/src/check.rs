//! Is an installation sound? Asked of the API server alone, from a pod of its own (`helm test`) or from outside:
//! whether the resources are known, whether their rules and those about records hold, and whether an operator leads.
//! Nothing is written: what is created is created by dry runs.

use std::collections::BTreeMap;
use std::time::Duration;

use indexbuild_api::{EngineDirectory, EngineDirectorySpec, IndexBuild, labels};
use indexbuild_lifecycle::admission::{ONLY_THE_OPERATOR, ONLY_THE_OPERATOR_FREEZES};
use indexbuild_text::chain;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::time::Instant;

/// How often the Lease is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The name of what is created by dry run.
const NAME: &str = "indexbuild-check";

#[derive(Clone, Debug)]
pub struct Installation {
    pub namespace: String,
    pub lease_name: String,
    /// Whether the admission policies are meant to hold there.
    pub policies: bool,
    /// How long an operator has to show that it leads.
    pub within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    /// `Ok`: how it is. `Err`: what is wrong, and what to do.
    pub answer: Result<String, String>,
}

pub async fn check(client: &Client, installation: &Installation) -> Vec<Finding> {
    let Installation { namespace, lease_name, policies, within } = installation;
    let mut findings = vec![
        Finding { what: "the resources are known", answer: good_build(client, namespace).await },
        Finding { what: "a build that contradicts itself is refused", answer: bad_build(client, namespace).await },
    ];
    if *policies {
        findings.push(Finding {
            what: "a record of ownership by anybody else is refused",
            answer: foreign_record(client, namespace).await,
        });
        findings.push(Finding {
            what: "a frozen stage by anybody else is refused",
            answer: foreign_stage(client, namespace).await,
        });
    }
    let answer = leads(client, namespace, lease_name, *within).await;
    findings.push(Finding { what: "an operator leads", answer });
    findings
}

fn dry() -> PostParams {
    PostParams { dry_run: true, field_manager: None }
}

/// A build as a user would write it, from this source.
fn build(source: &serde_json::Value) -> Result<IndexBuild, String> {
    let build = json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild", "metadata": {"name": NAME},
        "spec": {
            "source": source,
            "indexes": [{"name": "by_a", "columns": [{"name": "a"}]}],
            "output": {"url": "s3://check/indexes"},
        },
    });
    serde_json::from_value(build).map_err(|error| format!("the build of this check is not one: {error}"))
}

async fn try_build(client: &Client, namespace: &str, source: &serde_json::Value) -> Result<Result<(), String>, String> {
    let builds = Api::<IndexBuild>::namespaced(client.clone(), namespace);
    match builds.create(&dry(), &build(source)?).await {
        Ok(_) => Ok(Ok(())),
        Err(Error::Api(status)) if status.code == 422 => Ok(Err(status.message.clone())),
        Err(Error::Api(status)) if status.code == 404 => {
            Err("the API server does not know IndexBuild: install the CRDs (crds.install, or crds/)".to_owned())
        }
        Err(error) => Err(said(&error)),
    }
}

async fn good_build(client: &Client, namespace: &str) -> Result<String, String> {
    let source = json!({"parquet": {"urls": ["s3://check/table/*.parquet"]}});
    match try_build(client, namespace, &source).await? {
        Ok(()) => Ok("a build would be accepted".to_owned()),
        Err(why) => Err(format!("a good build would be refused; are the CRDs of this version installed? {why}")),
    }
}

async fn bad_build(client: &Client, namespace: &str) -> Result<String, String> {
    let two = json!({"parquet": {"urls": ["s3://check/a"]}, "csv": {"urls": ["s3://check/b"], "header": true}});
    match try_build(client, namespace, &two).await? {
        Ok(()) => Err("a build with two sources would be accepted; are the CRDs of this version installed?".to_owned()),
        Err(why) => Ok(why),
    }
}

async fn foreign_record(client: &Client, namespace: &str) -> Result<String, String> {
    let spec = EngineDirectorySpec {
        build_name: NAME.to_owned(),
        build_uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        ..EngineDirectorySpec::default()
    };
    let records = Api::<EngineDirectory>::namespaced(client.clone(), namespace);
    match records.create(&dry(), &EngineDirectory::new(NAME, spec)).await {
        Ok(_) => Err("anybody with the right to create a record may make one: install the chart's admission policies \
                      with their bindings (admissionPolicies.create)"
            .to_owned()),
        Err(Error::Api(status)) if status.message.contains(ONLY_THE_OPERATOR) => Ok(status.message.clone()),
        Err(error) => Err(format!("refused, but not by the rule about it: {}", said(&error))),
    }
}

async fn foreign_stage(client: &Client, namespace: &str) -> Result<String, String> {
    let labels = BTreeMap::from([(labels::STAGE.to_owned(), "plan".to_owned())]);
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let stage = ConfigMap { metadata, immutable: Some(true), ..ConfigMap::default() };
    match Api::<ConfigMap>::namespaced(client.clone(), namespace).create(&dry(), &stage).await {
        Ok(_) => Err("anybody with the right to create a ConfigMap may freeze a stage: install the chart's admission \
                      policies with their bindings (admissionPolicies.create)"
            .to_owned()),
        Err(Error::Api(status)) if status.message.contains(ONLY_THE_OPERATOR_FREEZES) => Ok(status.message.clone()),
        Err(error) => Err(format!("refused, but not by the rule about it: {}", said(&error))),
    }
}

/// An operator leads that renews its Lease: seen by a change, not by comparing two machines' clocks.
async fn leads(client: &Client, namespace: &str, name: &str, within: Duration) -> Result<String, String> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    let mut first = None;
    let mut seen;
    loop {
        match leases.get_opt(name).await {
            Ok(Some(lease)) => {
                let spec = lease.spec.unwrap_or_default();
                let holder = spec.holder_identity.unwrap_or_default();
                seen = if holder.is_empty() {
                    format!("nobody holds Lease {namespace}/{name}")
                } else {
                    let renewed = (holder.clone(), spec.renew_time.map(|time| time.0));
                    match &first {
                        None => first = Some(renewed),
                        Some(before) if *before != renewed => return Ok(format!("{holder} renews its Lease")),
                        Some(_) => {}
                    }
                    format!("{holder} holds Lease {namespace}/{name}, and does not renew it")
                };
            }
            Ok(None) => seen = format!("there is no Lease {namespace}/{name}"),
            Err(error) => seen = said(&error),
        }
        if begun.elapsed() >= within {
            return Err(format!("{seen}, after {} s; look at the operator's pods and their log", within.as_secs()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("the API server said ({}): {}", status.code, status.message),
        other => chain(other),
    }
}
