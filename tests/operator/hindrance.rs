//! What hinders a build from outside is told within half a minute; when the cause is gone the build goes on, without
//! an edit to it (I5).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::operator::OperatorOptions;
use crate::support::{NAMESPACE, World, message};

/// Within which the condition says so.
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

pub(crate) fn start(world: &mut World) {
    world.namespace(POOR);
    world.namespace(UNSEEN);
    world.start_operator(OperatorOptions::of(POOR, 8081));
    world.start_operator(OperatorOptions { image: IMAGE.to_owned(), ..OperatorOptions::of(UNSEEN, 8082) });
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods", "namespace": POOR},
        "spec": {"hard": {"pods": "0"}},
    });
    world.cluster.apply(&[quota]).unwrap();
    let made = HINDERED.map(|(namespace, name, _)| {
        let mut build = world.build(name, "small", 1);
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
    world.cluster.apply(&made).unwrap();
}

pub(crate) fn check(world: &World) {
    let start = Instant::now();
    for (namespace, name, expected) in HINDERED {
        world.until(&format!("what hinders {name} is told"), TOLD.saturating_sub(start.elapsed()), |world| {
            let build = world.read_in(namespace, name);
            let said = [message(&build, "Ready"), message(&build, "Stalled")];
            if said.iter().all(|said| expected.iter().all(|part| said.contains(part))) {
                Ok(())
            } else {
                Err(said.join("\n"))
            }
        });
        world.say(&format!("{name} is told after {:.1} s", start.elapsed().as_secs_f64()));
    }
    mend(world);
    for (namespace, name, _) in HINDERED {
        world.complete_in(namespace, name, Duration::from_secs(120));
        world.say(&format!("{name} went on by itself"));
        world.assert_same_as_local(namespace, name);
        let build = world.read_in(namespace, name);
        assert_eq!(build["metadata"]["generation"], 1, "nobody edited it");
    }
}

fn mend(world: &World) {
    let more = json!({"spec": {"hard": {"pods": "10"}}}).to_string();
    world.kubectl(&["patch", "resourcequota", "no-pods", "-n", POOR, "--type=merge", "-p", &more]);
    let folder = world.cluster.volume_folder("node1", "slow-1").unwrap();
    let mut class = indexbuild_testbed::objects::local_storage_class();
    class["metadata"]["name"] = json!("slow");
    let mut volume: Value = indexbuild_testbed::objects::local_volume("slow-1", "node1", &folder, "Retain");
    volume["spec"]["storageClassName"] = json!("slow");
    world.cluster.apply(&[class, volume]).unwrap();
    let (_, key, secret) = world.cluster.object_store();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nowhere", "namespace": NAMESPACE},
        "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
    });
    world.cluster.apply(&[secret]).unwrap();
    world.import(IMAGE);
    world.kubectl(&["label", "node", "node2", "disk=fast"]);
    world.say("all causes are gone");
}
