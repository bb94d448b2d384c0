//! Builds that something outside blocks: their status names it within half a minute, and they go on when it is gone,
//! without an edit to them (I5).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, holds, message};

/// The time within which the condition names the cause.
const TOLD: Duration = Duration::from_secs(30);
/// An image that no node has, at first.
const IMAGE: &str = "testbed.local/indexbuild:later";
/// A namespace whose quota is used up.
const POOR: &str = "poor";
/// A namespace whose operator has an image that no node has.
const UNSEEN: &str = "unseen";

/// A build, what hinders it, and what its conditions have to name.
const HINDERED: [(&str, &str, &[&str]); 5] = [
    (POOR, "quota", &["exceeded quota", "no-pods"]),
    (NAMESPACE, "class", &["slow"]),
    (NAMESPACE, "secret", &["nowhere"]),
    (UNSEEN, "image", &[IMAGE]),
    (NAMESPACE, "selector", &["fits on no node"]),
];

/// A build whose pod fits on no node until its selector is edited.
const EDITED: &str = "edited";
/// Its patience: a pod that never ran outlives it.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn start(fixture: &mut Fixture) {
    fixture.namespace(POOR);
    fixture.namespace(UNSEEN);
    fixture.start_operator(OperatorOptions::of(POOR, 8081));
    fixture.start_operator(OperatorOptions { image: IMAGE.to_owned(), ..OperatorOptions::of(UNSEEN, 8082) });
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods", "namespace": POOR},
        "spec": {"hard": {"pods": "0"}},
    });
    fixture.cluster.apply(&[quota]).unwrap();
    let made = HINDERED.map(|(namespace, name, _)| {
        let mut build = fixture.build(name, "small", 1);
        build["metadata"]["namespace"] = json!(namespace);
        let spec = &mut build["spec"];
        match name {
            "class" => spec["volume"]["storageClassName"] = json!("slow"),
            "secret" => spec["source"]["parquet"]["credentials"]["secretName"] = json!("nowhere"),
            "selector" => spec["executor"]["nodeSelector"] = json!({"disk": "fast"}),
            _ => {}
        }
        build
    });
    fixture.cluster.apply(&made).unwrap();
    let mut edited = fixture.build(EDITED, "small", 1);
    edited["spec"]["executor"]["nodeSelector"] = json!({"disk": "none"});
    edited["spec"]["disruption"] = json!({"replaceAfter": "15s", "orphanAfter": "60s"});
    fixture.cluster.apply(&[edited]).unwrap();
}

/// The one pod of the build that is edited, and its claim.
fn waiting(fixture: &Fixture) -> (Value, Value) {
    let (pods, claims) = (fixture.pods(NAMESPACE, EDITED), fixture.claims(NAMESPACE, EDITED));
    assert_eq!((pods.len(), claims.len()), (1, 1), "{pods:?} {claims:?}");
    (pods[0]["metadata"]["uid"].clone(), claims[0]["metadata"]["uid"].clone())
}

/// A pod that never ran is not replaced for patience alone, is told all the time, and follows an edit at once.
fn edit(fixture: &Fixture) {
    fixture.until("what hinders it is told", TOLD, |fixture| {
        let said = message(&fixture.read(EDITED), "Stalled");
        if said.contains("fits on no node") { Ok(()) } else { Err(said) }
    });
    let (before, start) = (waiting(fixture), Instant::now());
    while start.elapsed() < PATIENCE * 3 {
        let build = fixture.read(EDITED);
        assert!(
            holds(&build, "Stalled") && message(&build, "Stalled").contains("fits on no node"),
            "{}",
            build["status"]
        );
        assert_eq!(waiting(fixture), before, "the same pod and the same claim");
        std::thread::sleep(Duration::from_secs(1));
    }
    let patch = json!({"spec": {"executor": {"nodeSelector": null}}}).to_string();
    fixture.kubectl(&["patch", "ib", EDITED, "--type=merge", "-p", &patch]);
    fixture.until("another pod is made at once", PATIENCE, |fixture| {
        let pods = fixture.pods(NAMESPACE, EDITED);
        let another = pods.iter().any(|pod| pod["metadata"]["uid"] != before.0);
        if another { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    });
    fixture.complete(EDITED, Duration::from_secs(60));
    fixture.say("a pod that never ran was waited for, and followed an edit at once");
}

pub(crate) fn check(fixture: &Fixture) {
    let start = Instant::now();
    for (namespace, name, expected) in HINDERED {
        fixture.until(&format!("what hinders {name} is told"), TOLD.saturating_sub(start.elapsed()), |fixture| {
            let build = fixture.read_in(namespace, name);
            let said = [message(&build, "Ready"), message(&build, "Stalled")];
            if said.iter().all(|said| expected.iter().all(|part| said.contains(part))) {
                Ok(())
            } else {
                Err(said.join("\n"))
            }
        });
        fixture.say(&format!("{name} is told after {:.1} s", start.elapsed().as_secs_f64()));
    }
    edit(fixture);
    mend(fixture);
    for (namespace, name, _) in HINDERED {
        fixture.complete_in(namespace, name, Duration::from_secs(120));
        fixture.say(&format!("{name} went on by itself"));
        fixture.assert_same_as_local(namespace, name);
        let build = fixture.read_in(namespace, name);
        assert_eq!(build["metadata"]["generation"], 1, "nobody edited it");
    }
}

fn mend(fixture: &Fixture) {
    let more = json!({"spec": {"hard": {"pods": "10"}}}).to_string();
    fixture.kubectl(&["patch", "resourcequota", "no-pods", "-n", POOR, "--type=merge", "-p", &more]);
    let folder = fixture.cluster.volume_folder("node1", "slow-1").unwrap();
    let mut class = indexbuild_testbed::objects::local_storage_class();
    class["metadata"]["name"] = json!("slow");
    let mut volume: Value = indexbuild_testbed::objects::local_volume("slow-1", "node1", &folder, "Retain");
    volume["spec"]["storageClassName"] = json!("slow");
    fixture.cluster.apply(&[class, volume]).unwrap();
    let (_, key, secret) = fixture.cluster.object_store();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nowhere", "namespace": NAMESPACE},
        "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
    });
    fixture.cluster.apply(&[secret]).unwrap();
    fixture.import(IMAGE);
    fixture.kubectl(&["label", "node", "node2", "disk=fast"]);
    fixture.say("all causes are gone");
}
