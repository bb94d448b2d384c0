//! Who speaks for a slot, tried from inside running containers, each with its own projected token.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use indexbuild_lifecycle::admission::{ONLY_THE_OPERATOR, Refusal};
use indexbuild_operator::objects::{self, Owner};
use indexbuild_testbed::{Cluster, Tools, objects as made, write_archive};
use serde_json::{Value, json};

use super::support::{NAMESPACE, SYSTEM, bind, small_build};

/// kubectl, and a program that waits.
const IMAGE: &str = "testbed.local/kubectl:1";
const TIME: &str = "2026-01-02T03:04:05Z";

struct Inside<'a> {
    tools: &'a Tools,
    cluster: &'a Cluster,
    record: String,
}

fn namespace_of(pod: &str) -> &'static str {
    if pod == "operator" { SYSTEM } else { NAMESPACE }
}

impl Inside<'_> {
    /// kubectl in the container of a pod, with the pod's token.
    fn kubectl(&self, pod: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        use std::io::Write as _;
        let mut command = self.cluster.command(self.tools.path("kubectl"));
        command.args(["exec", "-i", "-n", namespace_of(pod), pod, "--", "/kubectl", "-n", NAMESPACE]);
        command.arg("--cache-dir=/tmp/cache").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that was refused at once does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn create(&self, pod: &str, object: &Value, dry: bool) -> Result<String, String> {
        let mut arguments = vec!["create", "--validate=false", "-f", "-"];
        if dry {
            arguments.push("--dry-run=server");
        }
        self.kubectl(pod, &arguments, &object.to_string())
    }

    fn write(&self, who: &str, part: &Part, value: &Value) -> Result<String, String> {
        match part {
            Part::Status(field) => self.status(who, field, value, true),
            Part::Spec => self.spec(who, value, true),
        }
    }

    /// A change of a part of the record's status. kubectl would read the status first, which nobody needs to.
    fn status(&self, pod: &str, field: &str, value: &Value, dry: bool) -> Result<String, String> {
        let record = format!("/apis/indexbuild.dev/v1alpha1/namespaces/{NAMESPACE}/enginedirectories/{}", self.record);
        let path = format!("{record}/status{}", if dry { "?dryRun=All" } else { "" });
        let patch = json!({"status": {field: value}}).to_string();
        let place = format!("{}/{pod}", namespace_of(pod));
        let said = self.cluster.exec(&place, &["/workload", "patch", &path, &patch]).unwrap();
        if said.starts_with("200 ") { Ok(said) } else { Err(said) }
    }

    /// A change of the record's spec.
    fn spec(&self, pod: &str, more: &Value, dry: bool) -> Result<String, String> {
        let patch = json!({"spec": more}).to_string();
        let mut arguments = vec!["patch", "ed", &self.record, "--type=merge", "-p", &patch];
        if dry {
            arguments.push("--dry-run=server");
        }
        self.kubectl(pod, &arguments, "")
    }

    fn uid(&self, pod: &str) -> String {
        let pod = self.cluster.get(&["pod", pod, "-n", namespace_of(pod)]).unwrap();
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }
}

fn pod(name: &str, namespace: &str, account: &str) -> Value {
    let mut pod = made::pod(name, &["pause"]);
    pod["metadata"]["namespace"] = json!(namespace);
    pod["spec"]["serviceAccountName"] = json!(account);
    pod["spec"]["containers"][0]["image"] = json!(IMAGE);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "tmp", "mountPath": "/tmp"}]);
    pod["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
    pod
}

/// A build, its executors' account and role as the operator makes them, the pods, and a stranger who may do all.
fn start<'a>(tools: &'a Tools, cluster: &'a Cluster) -> (Inside<'a>, Owner) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let (kubectl, workload) = (tools.path("kubectl"), tools.path("workload"));
    let files: [(&Path, &str); 2] = [(&kubectl, "/kubectl"), (&workload, "/workload")];
    write_archive(&archive, IMAGE, &files, &["/workload"]).unwrap();
    cluster.import_image(&archive).unwrap();
    cluster.apply(&[small_build("orders")]).unwrap();
    let build: indexbuild_api::IndexBuild =
        serde_json::from_value(cluster.get(&["ib", "orders", "-n", NAMESPACE]).unwrap()).unwrap();
    let owner = Owner::of(&build);
    let account = objects::account_name(&build, &owner);
    let all = [
        serde_json::to_value(objects::service_account(&build, &owner)).unwrap(),
        serde_json::to_value(objects::role(&owner, 0..1, &["plan".to_owned()])).unwrap(),
        serde_json::to_value(objects::role_binding(&build, &owner)).unwrap(),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger", "namespace": NAMESPACE}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "stranger", "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": NAMESPACE}],
        }),
        pod("operator", SYSTEM, "indexbuild-operator"),
        pod("stale", NAMESPACE, &account),
        pod("owner", NAMESPACE, &account),
        pod("stranger", NAMESPACE, "stranger"),
    ];
    cluster.apply(&all).unwrap();
    for (namespace, pods) in [(SYSTEM, &["pod/operator"][..]), (NAMESPACE, &["pod/stale", "pod/owner", "pod/stranger"])]
    {
        let mut arguments = vec!["wait", "--for=condition=Ready", "--timeout=60s", "-n", namespace];
        arguments.extend_from_slice(pods);
        cluster.kubectl(&arguments).unwrap();
    }
    let record = indexbuild_api::names::directory(&owner.name, &owner.uid, 0);
    (Inside { tools, cluster, record }, owner)
}

fn report(epoch: u64, nonce: &str, rows: u64, result: Option<(&str, u64, &str)>) -> Value {
    // What is absent is taken away.
    let mut report = json!({"epoch": epoch, "bootNonce": nonce, "renewTime": TIME, "rows": rows, "result": null});
    if let Some((work, epoch, digest)) = result {
        report["result"] = json!({"workId": work, "epoch": epoch, "digest": digest});
    }
    report
}

fn granted(epoch: u64, pod_uid: &str, nonce: &str, work: &str) -> Value {
    json!({
        "grant": {"epoch": epoch, "podName": format!("orders-e{epoch}"), "podUID": pod_uid, "bootNonce": nonce},
        "work": {"id": work, "kind": "Encode", "inputsDigest": "d"},
    })
}

/// The life of two owners: the former claims, reports and is replaced; the present one is at work.
fn two_owners(inside: &Inside<'_>, owner: &Owner) {
    let (stale, present) = (inside.uid("stale"), inside.uid("owner"));
    let record = json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "EngineDirectory",
        "metadata": {"name": inside.record, "namespace": NAMESPACE},
        "spec": {"buildName": owner.name, "buildUID": owner.uid, "slot": 0},
    });
    let refused = inside.create("stranger", &record, true).expect_err("nobody else makes records");
    assert!(refused.contains(ONLY_THE_OPERATOR), "{refused}");
    inside.create("operator", &record, false).expect("the operator makes records");
    inside.spec("operator", &granted(1, &stale, "", "encode-0"), false).expect("the operator grants");
    inside.status("operator", "state", &json!("Working"), false).expect("the operator says what it decides");
    inside
        .status("stale", "claim", &json!({"podUID": stale, "bootNonce": "n1"}), false)
        .expect("the first owner claims");
    inside.spec("operator", &granted(1, &stale, "n1", "encode-0"), false).expect("its process is bound");
    inside.status("stale", "report", &report(1, "n1", 5, None), false).expect("the first owner reports");
    inside.spec("operator", &granted(2, &present, "", "encode-1"), false).expect("the operator grants anew");
    inside
        .status("owner", "claim", &json!({"podUID": present, "bootNonce": "n2"}), false)
        .expect("the next one claims");
    inside.spec("operator", &granted(2, &present, "n2", "encode-1"), false).expect("its process is bound");
    let done = report(2, "n2", 9, Some(("encode-1", 2, "digest")));
    inside.status("owner", "report", &done, false).expect("the present owner reports its result");
}

#[derive(Debug)]
enum Part {
    Status(&'static str),
    Spec,
}

/// Who writes what, and which refusal it meets.
struct Attempt {
    who: &'static str,
    part: Part,
    value: Value,
    told: String,
}

fn attempts(inside: &Inside<'_>) -> Vec<Attempt> {
    let not_owner = Refusal::NotOwner.to_string();
    let (stale, present, stranger, operator) =
        (inside.uid("stale"), inside.uid("owner"), inside.uid("stranger"), inside.uid("operator"));
    let claim = |pod: &str, nonce: &str| json!({"podUID": pod, "bootNonce": nonce});
    let mut all = Vec::new();
    for (who, own_uid) in [("stale", &stale), ("stranger", &stranger), ("operator", &operator)] {
        all.extend([
            (who, Part::Status("claim"), claim(own_uid, "n9"), not_owner.clone()),
            (who, Part::Status("claim"), claim(&present, "n9"), not_owner.clone()),
            (who, Part::Status("report"), report(1, "n1", 6, None), not_owner.clone()),
            (who, Part::Status("report"), report(1, "n1", 6, Some(("encode-0", 1, "late"))), not_owner.clone()),
            (who, Part::Status("report"), report(2, "n2", 10, Some(("encode-1", 2, "digest"))), not_owner.clone()),
            (who, Part::Status("report"), report(2, "n2", 10, Some(("encode-1", 2, "forged"))), not_owner.clone()),
        ]);
    }
    let decides = Refusal::NotOperator.to_string();
    for who in ["stale", "stranger", "owner"] {
        all.push((who, Part::Status("state"), json!("Finished"), decides.clone()));
    }
    let history = json!([{"epoch": 2, "podName": "p", "reason": "Replaced", "time": TIME}]);
    all.push(("owner", Part::Status("history"), history, decides));
    // The owner itself is held to its epoch, its process and its word.
    for (value, refusal) in [
        (report(1, "n2", 10, None), Refusal::StaleReport),
        (report(2, "n1", 10, None), Refusal::StaleReport),
        (report(2, "n2", 10, Some(("encode-1", 1, "digest"))), Refusal::StaleResult),
        (report(2, "n2", 10, Some(("encode-0", 2, "digest"))), Refusal::StaleResult),
        (report(2, "n2", 10, Some(("encode-1", 2, "other"))), Refusal::ResultChanged),
        (report(2, "n2", 10, None), Refusal::ResultChanged),
    ] {
        all.push(("owner", Part::Status("report"), value, refusal.to_string()));
    }
    all.push(("owner", Part::Status("claim"), claim(&present, "n3"), Refusal::SecondClaim.to_string()));
    let another_kernel = json!({"podUID": present, "bootNonce": "n2", "bootID": "another"});
    all.push(("owner", Part::Status("claim"), another_kernel, Refusal::SecondClaim.to_string()));
    all.push(("owner", Part::Status("claim"), claim(&stranger, "n2"), Refusal::ForeignClaim.to_string()));
    all.push(("stranger", Part::Spec, granted(3, &stranger, "", "encode-1"), ONLY_THE_OPERATOR.to_owned()));
    all.push(("stranger", Part::Spec, json!({"failedAttempts": 9}), ONLY_THE_OPERATOR.to_owned()));
    all.into_iter().map(|(who, part, value, told)| Attempt { who, part, value, told }).collect()
}

pub(super) fn each_is_refused_what_is_not_its_own_and_with_the_binding_removed_it_succeeds(
    tools: &Tools,
    cluster: &Cluster,
) {
    let (inside, owner) = start(tools, cluster);
    two_owners(&inside, &owner);
    let attempts = attempts(&inside);
    let mut wrong = Vec::new();
    for Attempt { who, part, value, told } in &attempts {
        match inside.write(who, part, value) {
            Err(said) if said.contains(told) => {}
            answer => wrong.push(format!("{who} writes {part:?} {value}\n  meant: {told}\n  answer: {answer:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The control: without the bindings each of these writes is accepted.
    for policy in ["indexbuild-owner", "indexbuild-grant"] {
        bind(cluster, policy, false);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for Attempt { who, part, value, told } in &attempts {
        // The API server takes it up after a moment.
        while let Err(said) = inside.write(who, part, value) {
            assert!(said.contains(told) && Instant::now() < deadline, "{who} writes {part:?} {value}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
