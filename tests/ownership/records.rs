//! Records: what may follow what, in spec and status, by whom.

use indexbuild_api::{
    Attached, Chosen, Claim, Condition, EngineDirectorySpec, EngineDirectoryStatus, Epoch, FormerVolume, Grant,
    OwnerChange, Past, Release, Report, VolumeRef, Work, WorkResult,
};
use indexbuild_lifecycle::admission::{self, ONLY_THE_OPERATOR, Refusal};
use indexbuild_lifecycle::world::Record;
use indexbuild_testbed::Cluster;
use kube::Client;
use serde_json::{Value, json};

use super::support::{Caller, NAMESPACE, bind, call, until_refused};
use super::{ADMINISTRATOR, THE_OPERATOR};

const OWNER: Caller<'static> = Caller { user: "system:serviceaccount:shop:executor", pod_uid: "pod-b" };
const FORMER: Caller<'static> = Caller { user: "system:serviceaccount:shop:executor", pod_uid: "pod-a" };
const TIME: &str = "2026-01-02T03:04:05Z";

fn all() -> String {
    format!("/apis/indexbuild.dev/v1alpha1/namespaces/{NAMESPACE}/enginedirectories")
}

fn one(name: &str, rest: &str) -> String {
    format!("{}/{name}{rest}", all())
}

fn record(name: &str, spec: &EngineDirectorySpec) -> Value {
    json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "EngineDirectory",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

fn work(id: &str) -> Work {
    serde_json::from_value(json!({"id": id, "kind": "Encode", "inputsDigest": "d"})).unwrap()
}

fn chosen(id: &str, digest: &str) -> Chosen {
    Chosen { work_id: id.to_owned(), epoch: Epoch::new(2), digest: digest.to_owned(), ..Chosen::default() }
}

fn grant(epoch: u64, pod_uid: &str, nonce: &str) -> Grant {
    Grant {
        epoch: Epoch::new(epoch),
        pod_name: format!("orders-e{epoch}"),
        pod_uid: pod_uid.to_owned(),
        boot_nonce: nonce.to_owned(),
        ..Grant::default()
    }
}

fn spec(grant: Option<Grant>) -> EngineDirectorySpec {
    EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: "0b7e1c9a".to_owned(),
        work: grant.is_some().then(|| work("encode-1")),
        volume: Some(VolumeRef { claim_name: "orders-v2".to_owned(), generation: 2, ..VolumeRef::default() }),
        grant,
        ..EngineDirectorySpec::default()
    }
}

fn attached(node: &str) -> Option<Attached> {
    Some(Attached { driver: "ebs.csi.aws.com".to_owned(), volume: "pv-1".to_owned(), node: node.to_owned() })
}

fn former(condemned: bool) -> FormerVolume {
    FormerVolume {
        claim_name: "orders-v1".to_owned(),
        claim_uid: "c1".to_owned(),
        condemned,
        ..FormerVolume::default()
    }
}

/// Whether the API server and the lifecycle agree about a write, in words too.
fn differ(what: &str, answer: &super::support::Answer, oracle: Result<(), Refusal>) -> Option<String> {
    let agrees = match (answer, &oracle) {
        (Ok(_), Ok(())) => true,
        (Err((_, said)), Err(refusal)) => said.contains(&refusal.to_string()),
        (Ok(_), Err(_)) | (Err(_), Ok(())) => false,
    };
    (!agrees).then(|| format!("{what}\n  the API server: {answer:?}\n  the lifecycle: {oracle:?}"))
}

type Change<T> = (&'static str, fn(&mut T));

fn spec_changes() -> Vec<Change<EngineDirectorySpec>> {
    fn on_grant(spec: &mut EngineDirectorySpec, change: impl FnOnce(&mut Grant)) {
        if let Some(grant) = &mut spec.grant {
            change(grant);
        }
    }
    fn on_volume(spec: &mut EngineDirectorySpec, change: impl FnOnce(&mut VolumeRef)) {
        if let Some(volume) = &mut spec.volume {
            change(volume);
        }
    }
    vec![
        ("nothing", |_| {}),
        ("another build", |spec| spec.build_name = "other".to_owned()),
        ("another UID", |spec| spec.build_uid = "ffff".to_owned()),
        ("another slot", |spec| spec.slot = 7),
        ("no grant", |spec| {
            spec.grant = None;
            spec.work = None;
        }),
        ("work without a grant", |spec| {
            spec.grant = None;
            spec.work = Some(work("encode-1"));
        }),
        ("a first grant", |spec| {
            spec.grant.get_or_insert_with(|| grant(1, "", ""));
        }),
        ("the next epoch", |spec| on_grant(spec, |grant| *grant = self::grant(grant.epoch.get() + 1, "", ""))),
        ("the epoch after the next", |spec| {
            on_grant(spec, |grant| *grant = self::grant(grant.epoch.get() + 2, "", ""));
        }),
        ("the epoch before", |spec| on_grant(spec, |grant| grant.epoch = grant.epoch.before())),
        ("a pod", |spec| on_grant(spec, |grant| grant.pod_uid = "pod-b".to_owned())),
        ("another pod", |spec| on_grant(spec, |grant| grant.pod_uid = "pod-c".to_owned())),
        ("no pod any more", |spec| on_grant(spec, |grant| grant.pod_uid = String::new())),
        ("a nonce", |spec| on_grant(spec, |grant| grant.boot_nonce = "n".to_owned())),
        ("another nonce", |spec| on_grant(spec, |grant| grant.boot_nonce = "m".to_owned())),
        ("a node", |spec| on_grant(spec, |grant| grant.node_name = "node1".to_owned())),
        ("another node", |spec| on_grant(spec, |grant| grant.node_name = "node2".to_owned())),
        ("no node any more", |spec| on_grant(spec, |grant| grant.node_name = String::new())),
        ("a kernel", |spec| on_grant(spec, |grant| grant.boot_id = "b1".to_owned())),
        ("another kernel", |spec| on_grant(spec, |grant| grant.boot_id = "b2".to_owned())),
        ("a machine", |spec| on_grant(spec, |grant| grant.system_uuid = "m1".to_owned())),
        ("another machine", |spec| on_grant(spec, |grant| grant.system_uuid = "m2".to_owned())),
        ("a machine at once", |spec| {
            on_grant(spec, |grant| {
                (grant.node_name, grant.boot_id, grant.system_uuid) = ("node1".into(), "b1".into(), "m1".into());
            });
        }),
        ("another owner with the machine of the one before", |spec| {
            on_grant(spec, |grant| {
                grant.epoch = grant.epoch.next().unwrap();
                (grant.pod_uid, grant.boot_nonce) = (String::new(), String::new());
            });
        }),
        ("the next work of the same process", |spec| {
            on_grant(spec, |grant| grant.epoch = grant.epoch.next().unwrap());
            spec.work = Some(work("encode-2"));
        }),
        ("another past", |spec| spec.past = Past { first_epoch: Epoch::new(3), ..spec.past }),
        ("another pod's name", |spec| on_grant(spec, |grant| grant.pod_name = "other".to_owned())),
        ("attached", |spec| on_grant(spec, |grant| grant.attached = attached("node-1"))),
        ("attached elsewhere", |spec| on_grant(spec, |grant| grant.attached = attached("node-2"))),
        ("not attached", |spec| on_grant(spec, |grant| grant.attached = None)),
        ("a nonce, attached", |spec| {
            on_grant(spec, |grant| (grant.boot_nonce, grant.attached) = ("n".to_owned(), attached("node-1")));
        }),
        ("the next work of the process", |spec| {
            on_grant(spec, |grant| grant.epoch = grant.epoch.next().unwrap());
            spec.work = Some(work("encode-2"));
        }),
        ("the next process, attached", |spec| {
            on_grant(spec, |grant| {
                *grant = Grant { attached: attached("node-1"), ..self::grant(grant.epoch.get() + 1, "", "") };
            });
        }),
        ("a former volume, attached", |spec| {
            spec.former_volumes = vec![FormerVolume { attached: attached("node-1"), ..former(true) }];
        }),
        ("a former volume, attached elsewhere", |spec| {
            spec.former_volumes = vec![FormerVolume { attached: attached("node-2"), ..former(true) }];
        }),
        ("other work", |spec| spec.work = Some(work("encode-2"))),
        ("other inputs", |spec| spec.work = Some(Work { inputs_digest: "e".to_owned(), ..work("encode-1") })),
        ("no work", |spec| spec.work = None),
        ("other work in the next epoch", |spec| {
            on_grant(spec, |grant| *grant = self::grant(grant.epoch.get() + 1, "", ""));
            spec.work = Some(work("encode-2"));
        }),
        ("the next volume", |spec| {
            let next = VolumeRef { claim_name: "orders-v3".to_owned(), generation: 3, ..VolumeRef::default() };
            spec.volume = Some(next);
        }),
        ("the volume before", |spec| on_volume(spec, |volume| volume.generation -= 1)),
        ("another claim", |spec| on_volume(spec, |volume| volume.claim_name = "other".to_owned())),
        ("the claim's UID", |spec| on_volume(spec, |volume| volume.claim_uid = "c2".to_owned())),
        ("another claim's UID", |spec| on_volume(spec, |volume| volume.claim_uid = "c9".to_owned())),
        ("condemned", |spec| on_volume(spec, |volume| volume.condemned = true)),
        ("pardoned", |spec| on_volume(spec, |volume| volume.condemned = false)),
        ("a former volume", |spec| spec.former_volumes = vec![former(false)]),
        ("a former volume, condemned", |spec| spec.former_volumes = vec![former(true)]),
        ("no former volume", |spec| spec.former_volumes.clear()),
        ("a choice", |spec| spec.chosen = vec![chosen("encode-1", "a")]),
        ("another choice", |spec| spec.chosen = vec![chosen("encode-1", "b")]),
        ("one more choice", |spec| spec.chosen.push(chosen("encode-9", "z"))),
        ("no choice", |spec| spec.chosen.clear()),
    ]
}

fn old_specs() -> Vec<(&'static str, EngineDirectorySpec)> {
    let condemned = |mut spec: EngineDirectorySpec| {
        spec.volume = spec.volume.map(|volume| VolumeRef { condemned: true, claim_uid: "c2".to_owned(), ..volume });
        spec
    };
    let bound = spec(Some(grant(4, "pod-b", "n")));
    vec![
        ("nobody", spec(None)),
        ("granted", spec(Some(grant(4, "", "")))),
        ("with-a-pod", spec(Some(grant(4, "pod-b", "")))),
        ("with-a-process", bound.clone()),
        ("with-a-machine", {
            let grant = bound.grant.clone().unwrap();
            let (node_name, boot_id, system_uuid) = ("node1".to_owned(), "b1".to_owned(), "m1".to_owned());
            EngineDirectorySpec { grant: Some(Grant { node_name, boot_id, system_uuid, ..grant }), ..bound.clone() }
        }),
        ("attached", spec(Some(Grant { attached: attached("node-1"), ..grant(4, "pod-b", "n") }))),
        (
            "with-a-former-volume-attached",
            EngineDirectorySpec {
                former_volumes: vec![FormerVolume { attached: attached("node-1"), ..former(true) }],
                ..bound.clone()
            },
        ),
        ("condemned", condemned(bound.clone())),
        ("condemned-and-free", EngineDirectorySpec { work: None, ..condemned(bound.clone()) }),
        (
            "with-a-past",
            EngineDirectorySpec {
                former_volumes: vec![former(true)],
                chosen: vec![chosen("encode-1", "a"), chosen("encode-2", "b")],
                ..bound
            },
        ),
    ]
}

/// G1's shape, G2, G3, G7: the schema's rules.
pub(super) async fn specs_follow_each_other_by_the_rules_of_the_lifecycle(client: &Client) {
    let mut wrong = Vec::new();
    let mut refusals = std::collections::BTreeSet::new();
    for (name, old) in old_specs() {
        let made = call(client, THE_OPERATOR, "POST", &all(), &record(name, &old)).await.unwrap();
        for (what, change) in spec_changes() {
            let mut new = old.clone();
            change(&mut new);
            let mut body = record(name, &new);
            body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
            let answer = call(client, THE_OPERATOR, "PUT", &one(name, "?dryRun=All"), &body).await;
            let oracle = admission::review_spec(&old, &new);
            refusals.extend(oracle.err().map(|refusal| refusal.to_string()));
            wrong.extend(differ(&format!("{name}: {what}"), &answer, oracle));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refusals.len() >= 9, "each rule was tried: {refusals:?}");
}

fn report(epoch: u64, nonce: &str, result: Option<WorkResult>) -> Report {
    Report {
        epoch: Epoch::new(epoch),
        boot_nonce: nonce.to_owned(),
        renew_time: TIME.to_owned(),
        rows: Some(5),
        result,
        ..Report::default()
    }
}

fn result(work: &str, epoch: u64, digest: &str) -> WorkResult {
    WorkResult {
        work_id: work.to_owned(),
        epoch: Epoch::new(epoch),
        digest: digest.to_owned(),
        ..WorkResult::default()
    }
}

fn claim(pod_uid: &str, nonce: &str) -> Option<Claim> {
    Some(Claim { pod_uid: pod_uid.to_owned(), boot_nonce: nonce.to_owned(), boot_id: "b1".to_owned() })
}

fn old_records() -> Vec<(&'static str, Record)> {
    let with = |spec, status| Record { spec, status, version: String::new() };
    let said = |report| EngineDirectoryStatus {
        claim: claim("pod-b", "n"),
        report: Some(report),
        ..EngineDirectoryStatus::default()
    };
    let bound = || spec(Some(grant(4, "pod-b", "n")));
    vec![
        ("silent-nobody", with(spec(None), EngineDirectoryStatus::default())),
        ("silent-granted", with(spec(Some(grant(4, "", ""))), EngineDirectoryStatus::default())),
        ("silent-with-a-pod", with(spec(Some(grant(4, "pod-b", ""))), EngineDirectoryStatus::default())),
        (
            "claimed-by-the-one-before",
            with(
                spec(Some(grant(4, "pod-b", ""))),
                EngineDirectoryStatus { claim: claim("pod-a", "k"), ..EngineDirectoryStatus::default() },
            ),
        ),
        ("reported", with(bound(), said(report(4, "n", None)))),
        ("done", with(bound(), said(report(4, "n", Some(result("encode-1", 4, "d")))))),
        ("done-before", with(bound(), said(report(3, "n", Some(result("encode-0", 3, "c")))))),
        ("with-a-former-owner", with(after_another(), said(report(4, "n", None)))),
        (
            "released",
            with(
                after_another(),
                EngineDirectoryStatus {
                    released: [release("pod-b", 4, "n", "orders-v2"), release("pod-0", 1, "o", "orders-v0")].into(),
                    ..said(report(4, "n", None))
                },
            ),
        ),
        (
            "released-by-the-former-owner",
            with(
                after_another(),
                EngineDirectoryStatus {
                    released: [release("pod-a", 2, "k", "orders-v1")].into(),
                    ..said(report(4, "n", None))
                },
            ),
        ),
    ]
}

fn release(pod_uid: &str, epoch: u64, nonce: &str, claim_name: &str) -> (String, Release) {
    (
        pod_uid.to_owned(),
        Release { epoch: Epoch::new(epoch), boot_nonce: nonce.to_owned(), claim_name: claim_name.to_owned() },
    )
}

/// The slot of `pod-b`, which was `pod-a`'s.
fn after_another() -> EngineDirectorySpec {
    let volume = FormerVolume {
        pod_name: "orders-e2".to_owned(),
        pod_uid: "pod-a".to_owned(),
        boot_nonce: "k".to_owned(),
        epoch: Epoch::new(2),
        ..former(false)
    };
    EngineDirectorySpec { former_volumes: vec![volume], ..spec(Some(grant(4, "pod-b", "n"))) }
}

fn status_changes() -> Vec<Change<EngineDirectoryStatus>> {
    vec![
        ("nothing", |_| {}),
        ("the state", |status| status.state = indexbuild_api::DirectoryState::Working),
        ("a condition", |status| {
            let condition = json!({"type": "Ready", "status": "True", "reason": "Pending", "message": "m",
                "lastTransitionTime": TIME, "observedGeneration": 1});
            status.conditions = vec![serde_json::from_value::<Condition>(condition).unwrap()];
        }),
        ("the history", |status| {
            let change = json!({"epoch": 4, "podName": "p", "reason": "FirstOwner", "time": TIME});
            status.history = vec![serde_json::from_value::<OwnerChange>(change).unwrap()];
        }),
        ("a claim of the owner", |status| status.claim = claim("pod-b", "n")),
        ("a claim of the owner with another kernel", |status| {
            status.claim = claim("pod-b", "n").map(|said| Claim { boot_id: "b2".to_owned(), ..said });
        }),
        ("a second claim of the owner", |status| status.claim = claim("pod-b", "o")),
        ("a claim of the former owner", |status| status.claim = claim("pod-a", "k2")),
        ("no claim", |status| status.claim = None),
        ("a report", |status| status.report = Some(Report { rows: Some(9), ..report(4, "n", None) })),
        ("a report with the result so far", |status| {
            status.report = Some(Report { rows: Some(9), ..report(4, "n", Some(result("encode-1", 4, "d"))) });
        }),
        ("a report without a nonce", |status| status.report = Some(report(4, "", None))),
        ("a report of the epoch before", |status| {
            status.report = Some(Report { rows: Some(9), ..report(3, "n", None) });
        }),
        ("a report of the epoch to come", |status| status.report = Some(report(5, "n", None))),
        ("a report of another process", |status| status.report = Some(report(4, "o", None))),
        ("another result", |status| status.report = Some(report(4, "n", Some(result("encode-1", 4, "e"))))),
        ("a result of the epoch before", |status| {
            status.report = Some(report(4, "n", Some(result("encode-1", 3, "d"))));
        }),
        ("a result of other work", |status| status.report = Some(report(4, "n", Some(result("encode-7", 4, "d"))))),
        ("no report", |status| status.report = None),
        ("a release of the owner", |status| status.released.extend([release("pod-b", 4, "n", "orders-v2")])),
        ("a release of the epoch before", |status| status.released.extend([release("pod-b", 3, "n", "orders-v2")])),
        ("a release of the epoch to come", |status| status.released.extend([release("pod-b", 5, "n", "orders-v2")])),
        ("a release of another process", |status| status.released.extend([release("pod-b", 4, "o", "orders-v2")])),
        ("a release of another volume", |status| status.released.extend([release("pod-b", 4, "n", "orders-v1")])),
        ("a release of the former owner", |status| status.released.extend([release("pod-a", 2, "k", "orders-v1")])),
        ("a release of the former owner's, of now", |status| {
            status.released.extend([release("pod-a", 4, "k", "orders-v2")]);
        }),
        ("two releases", |status| {
            status.released.extend([release("pod-a", 2, "k", "orders-v1"), release("pod-b", 4, "n", "orders-v2")]);
        }),
        ("no release any more", |status| status.released.clear()),
        ("what concerns nobody is forgotten", |status| drop(status.released.remove("pod-0"))),
        ("a release and a report", |status| {
            status.released.extend([release("pod-b", 4, "n", "orders-v2")]);
            status.report = Some(Report { rows: Some(9), ..report(4, "n", None) });
        }),
        ("a report and the state", |status| {
            status.report = Some(Report { rows: Some(9), ..report(4, "n", None) });
            status.state = indexbuild_api::DirectoryState::Working;
        }),
    ]
}

/// Who speaks for a slot: the policy `owner`.
pub(super) async fn statuses_follow_each_other_by_the_rules_of_the_lifecycle(client: &Client, cluster: &Cluster) {
    // What is there first may be whatever a test wants.
    bind(cluster, "indexbuild-owner", false);
    let mut made = Vec::new();
    for (name, old) in old_records() {
        let object = call(client, THE_OPERATOR, "POST", &all(), &record(name, &old.spec)).await.unwrap();
        let mut body = object.clone();
        body["status"] = json!(old.status);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let object = if old.status == EngineDirectoryStatus::default() {
            object
        } else {
            loop {
                match call(client, ADMINISTRATOR, "PUT", &one(name, "/status"), &body).await {
                    Ok(object) => break object,
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{name}: {error:?}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        made.push((name, old, object));
    }
    bind(cluster, "indexbuild-owner", true);
    let trial = json!({"status": {"report": Report { rows: Some(77), ..report(4, "n", None) }}});
    let words = Refusal::NotOwner.to_string();
    let place = one("reported", "/status?dryRun=All");
    until_refused(client, true, ADMINISTRATOR, "PATCH", &place, &trial, &words).await;

    let mut wrong = Vec::new();
    let mut refusals = std::collections::BTreeSet::new();
    let mut accepted = 0;
    for (name, old, object) in &made {
        for (what, change) in status_changes() {
            let mut new = old.status.clone();
            change(&mut new);
            let mut body = object.clone();
            body["status"] = json!(new);
            // A person without a pod is nobody to the lifecycle: neither owner nor operator.
            let callers =
                [(THE_OPERATOR, admission::OPERATOR), (OWNER, "pod-b"), (FORMER, "pod-a"), (ADMINISTRATOR, "nobody")];
            for (caller, oracles) in callers {
                let oracle = admission::review_status(old, &new, oracles);
                let answer = call(client, caller, "PUT", &one(name, "/status?dryRun=All"), &body).await;
                accepted += usize::from(answer.is_ok());
                refusals.extend(oracle.err().map(|refusal| refusal.to_string()));
                wrong.extend(differ(&format!("{name}: {what}, by {caller:?}"), &answer, oracle));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refusals.len(), 10, "each rule was tried: {refusals:?}");
    assert!(accepted > 50, "{accepted}");
}

/// Only the operator grants: the policy `grant`, and the same writes without its binding.
pub(super) async fn nobody_but_the_operator_writes_a_spec(client: &Client, cluster: &Cluster) {
    let writes = || {
        [
            ("POST", format!("{}?dryRun=All", all()), record("by-hand", &spec(None))),
            ("PATCH", one("reported", "?dryRun=All"), json!({"spec": {"failedAttempts": 3}})),
            ("PATCH", one("reported", "?dryRun=All"), json!({"spec": {"chosen": [chosen("encode-1", "f")]}})),
        ]
    };
    for caller in [ADMINISTRATOR, OWNER, FORMER] {
        for (method, path, body) in writes() {
            let (code, said) = call(client, caller, method, &path, &body).await.expect_err(&path);
            assert_eq!(code, 403, "{said}");
            assert!(said.contains(ONLY_THE_OPERATOR), "{said}");
        }
        let label = json!({"metadata": {"labels": {"team": "search"}}});
        call(client, caller, "PATCH", &one("reported", "?dryRun=All"), &label)
            .await
            .expect("who labels decides nothing");
    }
    for (method, path, body) in writes() {
        call(client, THE_OPERATOR, method, &path, &body).await.expect("the operator grants");
    }
    // The control.
    bind(cluster, "indexbuild-grant", false);
    let [(method, path, body), ..] = writes();
    until_refused(client, false, OWNER, method, &path, &body, ONLY_THE_OPERATOR).await;
    call(client, OWNER, method, &path, &body).await.expect("without the binding anybody grants");
    bind(cluster, "indexbuild-grant", true);
    until_refused(client, true, OWNER, method, &path, &body, ONLY_THE_OPERATOR).await;
}
