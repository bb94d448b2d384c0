//! What the API server refuses is told in its own words, with the way out that is its own, and goes on by itself once that was
//! taken. Most of it comes as 403, as a missing right of the operator does.

use std::time::{Duration, Instant};

use indexbuild_api::{Condition, ConditionType, Phase, Reason};
use indexbuild_operator::TestSwitches;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scripted::bench::BUILD;
use crate::scripted::deputy::{Deputy, Order};
use crate::scripted::{Bench, Script};

const TOLD: Duration = Duration::from_secs(60);

/// What refuses the pod or the claim of a build, as it is told, and what ends that.
struct Refused {
    namespace: &'static str,
    /// In the namespace, before the build.
    objects: fn() -> Vec<Value>,
    spec: fn(&mut Value),
    reason: Reason,
    words: &'static [&'static str],
    /// What `kubectl` is told then; `{}` is a patch of the build.
    mended_by: Mend,
}

enum Mend {
    Kubectl(&'static [&'static str]),
    Edit(fn() -> Value),
}

const REFUSED: [Refused; 5] = [
    Refused {
        namespace: "limits",
        objects: || {
            vec![json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": "limits"},
                "spec": {"limits": [{"type": "Container", "max": {"memory": "200Mi"}}]}})]
        },
        spec: |_| {},
        reason: Reason::WaitingForPod,
        words: &["maximum memory usage per Container is 200Mi", "LimitRange", "spec.executor.resources"],
        mended_by: Mend::Edit(|| json!({"executor": {"resources": {"limits": {"memory": "160Mi"}}}})),
    },
    Refused {
        namespace: "claims",
        objects: || {
            vec![json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": "claims"},
                "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "512Mi"}}]}})]
        },
        spec: |_| {},
        reason: Reason::WaitingForVolume,
        words: &["maximum storage usage per PersistentVolumeClaim is 512Mi", "spec.volume.size"],
        mended_by: Mend::Kubectl(&["delete", "limitrange", "small", "-n", "claims"]),
    },
    Refused {
        namespace: "account",
        objects: Vec::new,
        spec: |spec| spec["executor"]["serviceAccountName"] = json!("mine"),
        reason: Reason::WaitingForPod,
        words: &["error looking up service account account/mine", "spec.executor.serviceAccountName"],
        mended_by: Mend::Kubectl(&["create", "serviceaccount", "mine", "-n", "account"]),
    },
    Refused {
        namespace: "priority",
        objects: Vec::new,
        spec: |spec| spec["executor"]["priorityClassName"] = json!("high"),
        reason: Reason::WaitingForPod,
        words: &["no PriorityClass with name high", "spec.executor.priorityClassName"],
        mended_by: Mend::Kubectl(&["create", "priorityclass", "high", "--value=10"]),
    },
    Refused {
        namespace: "policy",
        objects: || {
            let rule =
                json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
            let here = json!({"matchLabels": {"kubernetes.io/metadata.name": "policy"}});
            vec![
                json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                    "metadata": {"name": "no-pods"},
                    "spec": {"matchConstraints": {"resourceRules": [rule]},
                        "validations": [{"expression": "false", "message": "no pods on Sundays", "reason": "Forbidden"}]}}),
                json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                    "metadata": {"name": "no-pods"},
                    "spec": {"policyName": "no-pods", "validationActions": ["Deny"],
                        "matchResources": {"namespaceSelector": here}}}),
            ]
        },
        spec: |_| {},
        reason: Reason::WaitingForPod,
        words: &["no pods on Sundays", "as soon as that policy lets it pass"],
        mended_by: Mend::Kubectl(&["delete", "validatingadmissionpolicybinding", "no-pods"]),
    },
];

async fn stalled(bench: &Bench, namespace: &str) -> Option<Condition> {
    let build = bench.builds(namespace).get(BUILD).await.unwrap();
    build.status.and_then(|status| status.condition(ConditionType::Stalled).cloned())
}

/// Waits until what stalls a build is told so.
async fn told(bench: &Bench, refused: &Refused) {
    let start = Instant::now();
    loop {
        let said = stalled(bench, refused.namespace).await;
        let holds = said.as_ref().is_some_and(|said| {
            said.reason == refused.reason && refused.words.iter().all(|word| said.message.contains(word))
        });
        if holds {
            let said = said.unwrap().message;
            assert!(!said.contains("the operator's role"), "it is not to blame: {said}");
            println!("{}: {said}", refused.namespace);
            return;
        }
        assert!(start.elapsed() < TOLD, "{}: {said:?}", refused.namespace);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_told_by_its_own_words_and_way_out_and_goes_on_once_that_was_taken() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("what the API server refuses", script).await else { return };
    for Refused { namespace, objects, .. } in &REFUSED {
        bench.namespace(namespace).await;
        let (cluster, objects) = (bench.cluster().clone(), objects());
        // What some of the namespaces lack is what refuses there.
        if !objects.is_empty() {
            tokio::task::spawn_blocking(move || cluster.apply(&objects).unwrap()).await.unwrap();
        }
    }
    // A policy takes effect a moment after it was written.
    let probe: Pod = serde_json::from_value(json!({"metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "probe", "image": "i"}]}}))
    .unwrap();
    let dry = PostParams { dry_run: true, field_manager: None };
    let start = Instant::now();
    let pods = Api::<Pod>::namespaced(bench.admin.clone(), "policy");
    while !pods.create(&dry, &probe).await.is_err_and(|error| error.to_string().contains("Sundays")) {
        assert!(start.elapsed() < TOLD, "the policy does not take effect");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let proxy = bench.proxy().await;
    let operator = Deputy::start(Order {
        config: bench.through(&proxy).await,
        namespaces: REFUSED.iter().map(|refused| refused.namespace.to_owned()).collect(),
        lease_namespace: REFUSED[0].namespace.to_owned(),
        lease: "lease".to_owned(),
        tamper: None,
        switches: TestSwitches::default(),
    });
    for Refused { namespace, spec, .. } in &REFUSED {
        bench.build(namespace, BUILD, 1, |build| spec(&mut build["spec"])).await;
    }
    for refused in &REFUSED {
        told(&bench, refused).await;
    }
    for Refused { namespace, mended_by, .. } in &REFUSED {
        match mended_by {
            Mend::Kubectl(arguments) => {
                let (cluster, arguments) = (bench.cluster().clone(), *arguments);
                tokio::task::spawn_blocking(move || cluster.kubectl(arguments).unwrap()).await.unwrap();
            }
            Mend::Edit(spec) => {
                let patch = Patch::Merge(json!({"spec": spec()}));
                bench.builds(namespace).patch(BUILD, &PatchParams::default(), &patch).await.unwrap();
            }
        }
    }
    for Refused { namespace, .. } in &REFUSED {
        let start = Instant::now();
        loop {
            let build = bench.builds(namespace).get(BUILD).await.unwrap();
            let status = build.status.unwrap_or_default();
            if status.phase == Some(Phase::Complete) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(90), "{namespace}: {:?}", status.conditions);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    drop(operator);
    bench.end().await;
}

/// Executors meet the level restricted, so that no build of ours is refused by it; what a webhook adds to a pod may be.
#[tokio::test(flavor = "multi_thread")]
async fn pod_security_refuses_in_the_words_that_are_known_and_takes_an_executors_pod() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("Pod Security", script).await else { return };
    bench.namespace("restricted").await;
    let label = ["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"];
    let cluster = bench.cluster().clone();
    tokio::task::spawn_blocking(move || cluster.kubectl(&label).unwrap()).await.unwrap();
    let privileged: Pod = serde_json::from_value(json!({"metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "probe", "image": "i", "securityContext": {"privileged": true}}]}}))
    .unwrap();
    let dry = PostParams { dry_run: true, field_manager: None };
    let pods = Api::<Pod>::namespaced(bench.admin.clone(), "restricted");
    // The namespace has its default account, and its label is seen, a moment after they were made.
    let start = Instant::now();
    while !pods.create(&dry, &privileged).await.is_err_and(|error| error.to_string().contains("violates PodSecurity")) {
        assert!(start.elapsed() < TOLD, "Pod Security does not refuse a privileged pod");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let proxy = bench.proxy().await;
    let operator = bench.operator(&proxy, "restricted", "lease", None).await;
    // As OpenShift's restricted-v2 wants it.
    bench.build("restricted", BUILD, 1, |build| build["spec"]["executor"]["securityContext"] = json!({})).await;
    bench.until(Duration::from_secs(90), |bench| bench.is_settled("restricted")).await.unwrap();
    drop(operator);
    bench.end().await;
}
