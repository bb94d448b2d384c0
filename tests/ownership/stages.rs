//! Frozen stages and a build's file: the operator alone makes, changes and removes them; Kubernetes' own controllers remove
//! them with their build or their namespace.

use indexbuild_lifecycle::admission::{FROZEN_IS_IMMUTABLE, ONLY_THE_OPERATOR_FREEZES};
use indexbuild_testbed::Cluster;
use kube::Client;
use serde_json::{Value, json};

use super::support::{Caller, NAMESPACE, OPERATOR, allow_everything, bind, call, until_refused};
use super::{ADMINISTRATOR, THE_OPERATOR, with};

const POLICY: &str = "indexbuild-stage";
const EXECUTOR: &str = "system:serviceaccount:shop:executor";
const FORBIDDEN: Option<&str> = Some(ONLY_THE_OPERATOR_FREEZES);
/// Who removes what belongs to nobody any more, and what a namespace held.
const CONTROLLERS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

struct StageCase {
    what: &'static str,
    caller: Caller<'static>,
    method: &'static str,
    path: String,
    body: Value,
    refusal: Option<&'static str>,
}

fn maps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn one(name: &str) -> String {
    format!("{}/{name}", maps())
}

fn map(name: &str, labels: &Value, more: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    with(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"stage.json": "{}"}}), more)
}

fn staged() -> Value {
    json!({"indexbuild.dev/stage": "plan", "indexbuild.dev/build-uid": "0b7e1c9a"})
}

fn cases() -> Vec<StageCase> {
    let frozen = json!({"immutable": true});
    let mut all = Vec::new();
    let mut add = |what, caller, method, path: &str, mut body: Value, refusal| {
        // Of a delete with a body, the API server does not read the address.
        if method == "DELETE" {
            body["dryRun"] = json!(["All"]);
        }
        all.push(StageCase { what, caller, method, path: format!("{path}?dryRun=All"), body, refusal });
    };
    let made = |name: &str, labels: &Value| map(name, labels, &frozen);
    let of_build = json!({"indexbuild.dev/build-uid": "0b7e1c9a"});
    add("made by its label", ADMINISTRATOR, "POST", &maps(), made("any", &staged()), FORBIDDEN);
    add("made by the build's label", ADMINISTRATOR, "POST", &maps(), made("any", &of_build), FORBIDDEN);
    for name in ["plan", "encode", "encode-r12", "sort", "publish", "clean", "clean-index"] {
        let named = format!("orders-0b7e1c9a-{name}");
        add("made by its name", ADMINISTRATOR, "POST", &maps(), made(&named, &json!({})), FORBIDDEN);
    }
    for name in ["orders-0b7e1c9a-plans", "orders-0b7e1c9-plan", "orders-plan", "plan"] {
        add("made under another name", ADMINISTRATOR, "POST", &maps(), made(name, &json!({})), None);
    }
    let stage = one("stages-0b7e1c9a-plan");
    let file = one("stages-0b7e1c9a-build");
    let other = one("stages-other");
    let content = json!({"data": {"stage.json": "[]"}});
    add("changed", ADMINISTRATOR, "PATCH", &file, content.clone(), FORBIDDEN);
    add("made immutable", ADMINISTRATOR, "PATCH", &file, json!({"immutable": true}), FORBIDDEN);
    let unlabelled = json!({"metadata": {"labels": {"indexbuild.dev/build-uid": null}}});
    add("taken out of its build", ADMINISTRATOR, "PATCH", &stage, unlabelled, FORBIDDEN);
    let labelled = json!({"metadata": {"labels": staged()}});
    add("labelled afterwards", ADMINISTRATOR, "PATCH", &other, labelled, FORBIDDEN);
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "11111111-1111-1111-1111-111111111111"}]);
    let owned = json!({"metadata": {"ownerReferences": owner}});
    add("given an owner that is gone", ADMINISTRATOR, "PATCH", &stage, owned.clone(), FORBIDDEN);
    add("annotated", ADMINISTRATOR, "PATCH", &stage, json!({"metadata": {"annotations": {"a": "b"}}}), None);
    add("another one changed", ADMINISTRATOR, "PATCH", &other, content.clone(), None);
    add("another one removed", ADMINISTRATOR, "DELETE", &other, json!({}), None);
    for path in [&stage, &file] {
        add("removed", ADMINISTRATOR, "DELETE", path, json!({}), FORBIDDEN);
    }
    for user in CONTROLLERS {
        let caller = Caller { user, pod_uid: "" };
        add("removed by Kubernetes", caller, "DELETE", &stage, json!({}), None);
        add("orphaned by Kubernetes", caller, "PATCH", &stage, owned.clone(), None);
        add("changed by Kubernetes", caller, "PATCH", &file, content.clone(), FORBIDDEN);
        add("made by Kubernetes", caller, "POST", &maps(), made("any", &staged()), FORBIDDEN);
    }
    add("made by the operator", THE_OPERATOR, "POST", &maps(), made("any", &staged()), None);
    let changeable = map("any", &staged(), &json!({}));
    add("made changeable by the operator", THE_OPERATOR, "POST", &maps(), changeable, Some(FROZEN_IS_IMMUTABLE));
    add("the file changed by the operator", THE_OPERATOR, "PATCH", &file, content, None);
    all
}

pub(super) async fn nobody_but_the_operator_freezes_and_kubernetes_removes(client: &Client, cluster: &Cluster) {
    allow_everything(cluster, &[&[OPERATOR, EXECUTOR, ADMINISTRATOR.user], CONTROLLERS.as_slice()].concat());
    let frozen = json!({"immutable": true});
    let there = [
        (THE_OPERATOR, map("stages-0b7e1c9a-plan", &staged(), &frozen)),
        (THE_OPERATOR, map("stages-0b7e1c9a-build", &json!({"indexbuild.dev/build-uid": "0b7e1c9a"}), &json!({}))),
        (ADMINISTRATOR, map("stages-other", &json!({}), &json!({}))),
    ];
    for (caller, object) in there {
        call(client, caller, "POST", &maps(), &object).await.unwrap_or_else(|error| panic!("{object}: {error:?}"));
    }
    let cases = cases();
    let StageCase { caller, method, path, body, .. } = &cases[0];
    until_refused(client, true, *caller, method, path, body, POLICY).await;
    let mut wrong = Vec::new();
    for StageCase { what, caller, method, path, body, refusal } in &cases {
        let answer = call(client, *caller, method, path, body).await;
        let as_meant = match (&answer, refusal) {
            (Ok(_), None) => true,
            (Err((_, said)), Some(refusal)) => said.contains(POLICY) && said.contains(refusal),
            (Ok(_), Some(_)) | (Err(_), None) => false,
        };
        if !as_meant {
            let user = caller.user;
            wrong.push(format!("{what} by {user}: {method} {path} {body}\n  meant: {refusal:?}\n  answer: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The control: the same writes, all of them, without the binding.
    bind(cluster, POLICY, false);
    let StageCase { caller, method, path, body, .. } = &cases[0];
    until_refused(client, false, *caller, method, path, body, POLICY).await;
    for StageCase { what, caller, method, path, body, .. } in &cases {
        let answer = call(client, *caller, method, path, body).await;
        assert!(answer.is_ok(), "{what}: {method} {path} {body}: {answer:?}");
    }
    bind(cluster, POLICY, true);
}
