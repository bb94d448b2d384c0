//! The trial of the rule about owners, and events, against a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use indexbuild_api::{EngineDirectory, EngineDirectorySpec, Epoch, Grant, IndexBuild, Reason, labels};
use indexbuild_lifecycle::action::Event;
use indexbuild_lifecycle::admission::{FROZEN_IS_IMMUTABLE, Refusal};
use indexbuild_lifecycle::world::Enforcement as Answer;
use indexbuild_operator::client::client_for;
use indexbuild_operator::events::Announcer;
use indexbuild_operator::metrics::Metrics;
use indexbuild_operator::self_test::SelfTest;
use indexbuild_testbed::{Cluster, Options, PortForward, tools_or_skip};
use k8s_openapi::api::events::v1::Event as Published;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

const NAMESPACE: &str = "default";

fn cluster(test: &str) -> Option<(Cluster, PortForward)> {
    let tools = tools_or_skip(test)?;
    let options = Options { nodes: 0, ..Options::default() };
    let cluster = Cluster::start(&tools, options).unwrap_or_else(|error| panic!("{error}"));
    let crds: Vec<Value> = indexbuild_api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    // Too large for the annotation of a client-side apply.
    for crd in crds {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        let file = std::env::temp_dir().join(format!("{}-{name}.json", std::process::id()));
        std::fs::write(&file, crd.to_string()).unwrap();
        let created = cluster.kubectl(&["create", "-f", &file.display().to_string()]);
        std::fs::remove_file(&file).unwrap();
        created.unwrap_or_else(|error| panic!("{error}"));
        cluster.kubectl(&["wait", "--for=condition=Established", &format!("crd/{name}")]).unwrap();
    }
    let forward = cluster.forward_api().unwrap();
    Some((cluster, forward))
}

async fn client(forward: &PortForward, impersonate: Option<&str>, metrics: &Metrics) -> Client {
    let kubeconfig = Kubeconfig::read_from(forward.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = impersonate.map(str::to_owned);
    client_for(config, metrics).unwrap()
}

/// A policy of this name for these objects, with its binding.
fn policy(name: &str, rule: &Value, expression: &str, message: &str) -> [Value; 2] {
    let group = "admissionregistration.k8s.io/v1";
    [
        json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": expression, "message": message, "reason": "Forbidden"}]}}),
        json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    ]
}

fn rule_about_owners() -> [Value; 2] {
    let uid = "request.userInfo.extra['authentication.kubernetes.io/pod-uid'][0]";
    let owner = format!(
        "has(oldObject.spec.grant) && 'authentication.kubernetes.io/pod-uid' in request.userInfo.extra && {uid} == \
         oldObject.spec.grant.podUID"
    );
    let reported = "(has(object.status.report) ? object.status.report.renewTime : '') != \
                    (has(oldObject.status) && has(oldObject.status.report) ? oldObject.status.report.renewTime : '')";
    let rule = json!({"apiGroups": ["indexbuild.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["enginedirectories/status"]});
    policy("owner", &rule, &format!("!({reported}) || ({owner})"), &Refusal::NotOwner.to_string())
}

fn rule_about_stages() -> [Value; 2] {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let stage = format!("has(object.metadata.labels) && '{}' in object.metadata.labels", labels::STAGE);
    let frozen = "has(object.immutable) && object.immutable";
    policy("stage", &rule, &format!("!({stage}) || ({frozen})"), FROZEN_IS_IMMUTABLE)
}

/// Tries until the answer is as wanted: a policy takes effect, and ends, a moment after it was written.
async fn becomes(client: &Client, record: &EngineDirectory, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let start = Instant::now();
    loop {
        let mut test = SelfTest::new();
        let answer = test.run(client, [record]).await;
        if wanted(answer) {
            return answer.clone();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn kubectl(cluster: &std::sync::Arc<Cluster>, arguments: &'static [&'static str]) {
    let cluster = std::sync::Arc::clone(cluster);
    tokio::task::spawn_blocking(move || cluster.kubectl(arguments).unwrap()).await.unwrap();
}

async fn apply(cluster: &std::sync::Arc<Cluster>, objects: [Value; 2]) {
    let cluster = std::sync::Arc::clone(cluster);
    tokio::task::spawn_blocking(move || cluster.apply(&objects).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_found_enforced_only_while_they_are_and_each_message_is_an_event() {
    let test = "the trial of the rule about owners, and events";
    let Some((cluster, forward)) = tokio::task::spawn_blocking(move || cluster(test)).await.unwrap() else { return };
    let cluster = std::sync::Arc::new(cluster);
    let metrics = Metrics::new();
    let admin = client(&forward, None, &metrics).await;

    let records: Api<EngineDirectory> = Api::namespaced(admin.clone(), NAMESPACE);
    let grant = Grant { epoch: Epoch::new(1), pod_name: "orders-0123abcd-0-1".to_owned(), ..Grant::default() };
    let spec = EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: "0123abcd-0000-4000-8000-000000000000".to_owned(),
        grant: Some(grant),
        ..EngineDirectorySpec::default()
    };
    let record = EngineDirectory::new("orders-0123abcd-0", spec);
    let mut record_there = record.clone();
    record_there.metadata.namespace = Some(NAMESPACE.to_owned());

    // A report to a record that is not there shows nothing.
    let missing = becomes(&admin, &record_there, |_| true).await;
    assert!(matches!(&missing, Answer::Untried { why } if why.contains("gone")), "{missing:?}");

    let record = records.create(&PostParams::default(), &record).await.unwrap();
    let open = becomes(&admin, &record, |_| true).await;
    assert!(matches!(open, Answer::NotEnforced { .. }), "{open:?}");
    // With one rule of two: what is still missing is said.
    apply(&cluster, rule_about_owners()).await;
    let stages =
        |answer: &Answer| matches!(answer, Answer::NotEnforced { message } if message.contains("frozen stage"));
    becomes(&admin, &record, stages).await;
    apply(&cluster, rule_about_stages()).await;
    becomes(&admin, &record, |answer| *answer == Answer::Enforced).await;

    // Who may not write at all learns nothing about the rule.
    let stranger = client(&forward, Some("stranger"), &metrics).await;
    let forbidden = becomes(&stranger, &record, |_| true).await;
    assert!(matches!(&forbidden, Answer::Unknown { why } if why.contains("permission")), "{forbidden:?}");

    // A policy without a binding exists, and holds nobody off.
    kubectl(&cluster, &["delete", "validatingadmissionpolicybinding", "owner"]).await;
    becomes(&admin, &record, |answer| matches!(answer, Answer::NotEnforced { .. })).await;
    let after = records.get("orders-0123abcd-0").await.unwrap();
    assert!(after.status.and_then(|status| status.report).is_none(), "the trial left something behind");

    let build: IndexBuild = serde_json::from_value(json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
        "metadata": {"name": "orders", "namespace": NAMESPACE, "uid": "0123abcd-0000-4000-8000-000000000000"},
        "spec": {
            "source": {"parquet": {"urls": ["s3://lake/orders.parquet"]}},
            "indexes": [{"name": "by_customer", "columns": [{"name": "customer_id"}]}],
            "output": {"url": "s3://indexes/shop"},
            "volume": {"size": "1Gi"},
        },
    }))
    .unwrap();
    let about = |message: String| Event { reason: Reason::OwnerSilent, warning: true, message };
    let announcer = Announcer::new(admin.clone(), "operator-1");
    let said = [about("slot 1 is silent".to_owned()), about("slot 2 is silent".to_owned()), about("é".repeat(4000))];
    announcer.publish(&build, &said).await;
    announcer.publish(&build, &said).await;
    let published: Api<Published> = Api::namespaced(admin.clone(), NAMESPACE);
    let ours = ListParams::default().fields("reportingController=indexbuild-operator");
    let mut notes: Vec<String> =
        published.list(&ours).await.unwrap().into_iter().filter_map(|event| event.note).collect();
    notes.sort();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(notes[..2], ["slot 1 is silent", "slot 2 is silent"]);
    assert!(notes[2].len() <= 1024 && notes[2].ends_with('…'));
    let text = metrics.text().unwrap();
    let created = r#"indexbuild_api_requests_total{verb="create",kind="events",code="201"} 3"#;
    assert!(text.contains(created), "{text}");

    tokio::task::spawn_blocking(move || drop((forward, cluster))).await.unwrap();
}
