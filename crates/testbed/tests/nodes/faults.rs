//! Volumes, the faults of single pods and nodes, and what tests ask at their end: on one cluster, one after the
//! other, each with its opposite as control.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indexbuild_testbed::{
    BaseImage, Cluster, Direction, ImageBuilder, ImageSpec, Options, Peer, Reclaim, Tools, condition, objects, or_skip,
    tools_or_skip,
};
use serde_json::{Value, json};

use super::{SOON, grows};

fn wait_for(cluster: &Cluster, what: &str, holds: impl Fn(&Cluster) -> bool) {
    super::wait_for(cluster, what, SOON, holds);
}

fn object(cluster: &Cluster, kind: &str, name: &str) -> Value {
    cluster.get(&[kind, name, "--ignore-not-found"]).unwrap_or(Value::Null)
}

fn phase(cluster: &Cluster, kind: &str, name: &str) -> String {
    object(cluster, kind, name)["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

fn running(cluster: &Cluster, name: &str) {
    wait_for(cluster, &format!("pod {name} runs"), |cluster| phase(cluster, "pod", name) == "Running");
}

fn delete(cluster: &Cluster, what: &[&str]) {
    for what in what {
        cluster.kubectl(&["delete", what, "--timeout=30s"]).unwrap();
    }
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

pub(crate) fn run() {
    let Some(tools) = tools_or_skip("volumes, faults, assertions") else { return };
    let start = Instant::now();
    let mut cluster = Cluster::start(&tools, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    println!("three nodes after {:.1} s; clocks: {}", start.elapsed().as_secs_f64(), cluster.clocks());
    for (name, part) in [
        ("a forward on loopback", forward as fn(&mut Cluster, &Tools)),
        ("an image from a Dockerfile, and commands inside it", images),
        ("Released volumes", released_volumes),
        ("a frozen and a killed container", containers),
        ("a pod cut off alone", one_pod),
        ("a full volume", full_volume),
        ("cordon, drain, taint", maintenance),
        ("one direction of a node's packets", one_way),
        ("a stopped and a frozen kubelet", kubelets),
        ("a Node object that is gone", node_object),
        ("no API server", no_api_server),
        ("the assertions", assertions),
    ] {
        let start = Instant::now();
        part(&mut cluster, &tools);
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

fn forward(cluster: &mut Cluster, tools: &Tools) {
    let forward = cluster.forward_api().unwrap();
    let nodes = |kubeconfig: &Path| {
        let mut command = Command::new(tools.path("kubectl"));
        let output = command.args(["get", "nodes", "-o", "name", "--request-timeout=5s"]).env("KUBECONFIG", kubeconfig);
        String::from_utf8(output.output().unwrap().stdout).unwrap().lines().count()
    };
    assert_eq!(nodes(forward.kubeconfig()), 3);
    let kubeconfig = forward.kubeconfig().to_owned();
    drop(forward);
    assert_eq!(nodes(&kubeconfig), 0, "the forward is closed");
}

/// Delete: emptied and offered anew. Retain: Released, with its content, until somebody decides.
fn released_volumes(cluster: &mut Cluster, _: &Tools) {
    let _provisioner = cluster.provisioner().unwrap();
    let folders = [("thrown", Reclaim::Delete), ("kept", Reclaim::Retain)].map(|(name, reclaim)| {
        let folder = cluster.offer_volume("node1", name, reclaim).unwrap();
        assert_eq!(object(cluster, "pvc", name), Value::Null);
        let pod = objects::with_claim(objects::pod(name, &["write", "/data/lines"]), name);
        cluster.apply(&[objects::claim(name, name), pod]).unwrap();
        folder
    });
    for name in ["thrown", "kept"] {
        running(cluster, name);
    }
    let [thrown, kept] = folders.map(|folder| folder.join("lines"));
    assert!(grows(&thrown) && grows(&kept));
    let uid = |name: &str| object(cluster, "pv", name)["metadata"]["uid"].clone();
    let before = (uid("thrown"), uid("kept"));
    for name in ["thrown", "kept"] {
        assert_eq!(phase(cluster, "pv", name), "Bound");
        delete(cluster, &[&format!("pod/{name}"), &format!("pvc/{name}")]);
    }
    wait_for(cluster, "the volume with policy Delete is offered anew", |cluster| {
        phase(cluster, "pv", "thrown") == "Available"
    });
    assert!(!thrown.exists(), "it is empty");
    wait_for(cluster, "the volume with policy Retain is Released", |cluster| {
        phase(cluster, "pv", "kept") == "Released"
    });
    assert!(size(&kept) > 0, "its content is there");
    assert_ne!(uid("thrown"), before.0, "another object");
    assert_eq!(uid("kept"), before.1, "the same object");
}

/// Two stages: what the first would have built comes from a folder. The container has no shell that a test could use, and
/// a program that its image lacks still speaks to the API server with the pod's token.
fn images(cluster: &mut Cluster, tools: &Tools) {
    let Some(images) = or_skip("an image from a Dockerfile", ImageBuilder::find()) else { return };
    let based = images.base("docker.io/library/debian:bookworm-slim", BaseImage::Debian, &["ca-certificates"]);
    based.unwrap_or_else(|error| panic!("{error}"));
    let based = images.base("testbed.local/bare:1", BaseImage::Bare, &["libc6"]);
    based.unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().unwrap();
    let (context, built) = (folder.path().join("context"), folder.path().join("built"));
    fs::create_dir(&context).unwrap();
    fs::create_dir(&built).unwrap();
    fs::copy(tools.path("workload"), built.join("workload")).unwrap();
    fs::write(context.join("greeting"), "hello").unwrap();
    let dockerfile = context.join("Dockerfile");
    let text = "FROM rust:1 AS builder\nRUN cargo build --release\n\
        FROM docker.io/library/debian:bookworm-slim\nARG WORDS=none\n\
        RUN echo \"$WORDS\" > /words && chmod 644 /words\nCOPY greeting /greeting\n\
        COPY --from=builder /workload /usr/local/bin/workload\n\
        USER 65532:65532\nENTRYPOINT [\"/usr/local/bin/workload\"]\n";
    fs::write(&dockerfile, text).unwrap();
    let spec = ImageSpec {
        dockerfile: &dockerfile,
        context: &context,
        contexts: &[("builder", &built)],
        arguments: &[("WORDS", "good morning")],
        tag: "testbed.local/tried:1",
    };
    let first = cluster.build_image(&spec).unwrap_or_else(|error| panic!("{error}"));
    let start = Instant::now();
    assert_eq!(images.build(&spec).unwrap(), first, "the same content, the same archive");
    println!("  the second time: {:.1} s", start.elapsed().as_secs_f64());
    fs::write(context.join("greeting"), "good night").unwrap();
    assert_ne!(images.build(&spec).unwrap(), first, "other content");
    fs::write(&dockerfile, "FROM docker.io/library/unknown:1\n").unwrap();
    let refused = images.build(&spec).unwrap_err().to_string();
    assert!(refused.contains("unknown:1"), "nothing is pulled: {refused}");

    // What an image without a shell is built on: nothing is run, the files are there.
    let bare = "FROM testbed.local/bare:1\nCOPY --from=builder /workload /workload\nENTRYPOINT [\"/workload\"]\n";
    fs::write(&dockerfile, bare).unwrap();
    cluster
        .build_image(&ImageSpec { tag: "testbed.local/bare-tried:1", ..spec })
        .unwrap_or_else(|error| panic!("{error}"));

    cluster.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})]).unwrap();
    for name in ["node1", "node2", "node3"] {
        let mut pod = objects::on_node(objects::pod(name, &["pause"]), name);
        let image = if name == "node3" { "testbed.local/bare-tried:1" } else { spec.tag };
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod["metadata"]["namespace"] = json!("elsewhere");
        cluster.apply(&[pod]).unwrap();
    }
    for name in ["node1", "node2", "node3"] {
        wait_for(cluster, &format!("the image runs on {name}"), |cluster| {
            cluster.get(&["pod", "-n", "elsewhere", name]).is_ok_and(|pod| pod["status"]["phase"] == "Running")
        });
    }
    assert_eq!(cluster.exec("elsewhere/node1", &["cat", "/greeting", "/words"]).unwrap(), "hellogood morning\n");
    assert!(cluster.exec("elsewhere/node3", &["sh", "-c", "true"]).is_err(), "it has no shell");
    let passwd = cluster.exec("elsewhere/node3", &["/workload", "read", "/etc/passwd"]).unwrap();
    assert!(passwd.contains("nonroot:x:65532:"), "{passwd}");
    let path = "/api/v1/namespaces/elsewhere/configmaps/none";
    let inside = cluster.run_inside("elsewhere/node2", &tools.path("workload"), &["patch", path, "{}"]).unwrap();
    assert!(inside.starts_with("403 ") && inside.contains("system:serviceaccount:elsewhere:default"), "{inside}");
    cluster.cut("node2", Peer::Api, Direction::Both).unwrap();
    assert!(cluster.exec("elsewhere/node2", &["true"]).is_err(), "the kubelet cannot be reached");
    let words = cluster.run_inside("elsewhere/node2", &tools.path("workload"), &["read", "/words"]).unwrap();
    assert_eq!(words, "good morning\n", "a container can");
    cluster.heal("node2").unwrap();
    delete(cluster, &["namespace/elsewhere"]);
}

fn one_way(cluster: &mut Cluster, _: &Tools) {
    // What the kubelet says does not arrive; what the API server asks it does.
    cluster.cut("node1", Peer::Api, Direction::Outgoing).unwrap();
    cluster.cut("node2", Peer::Store, Direction::Incoming).unwrap();
    wait_for(cluster, "a node that is not heard is Unknown", |cluster| ready(cluster, "node1") == "Unknown");
    assert_eq!(ready(cluster, "node2"), "True", "it lacks the object store alone");
    cluster.heal("node1").unwrap();
    cluster.heal("node2").unwrap();
    wait_for(cluster, "healed", |cluster| ready(cluster, "node1") == "True");
}

fn kubelets(cluster: &mut Cluster, _: &Tools) {
    let files = ["node1", "node2"].map(|node| {
        let name = format!("on-{node}");
        let folder = cluster.offer_volume(node, &name, Reclaim::Retain).unwrap();
        let mut pod = objects::with_claim(objects::pod(&name, &["write", "/data/lines"]), &name);
        pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        cluster.apply(&[objects::claim(&name, &name), pod]).unwrap();
        running(cluster, &name);
        folder.join("lines")
    });
    cluster.stop_kubelet("node1").unwrap();
    cluster.freeze_kubelet("node2", true).unwrap();
    for node in ["node1", "node2"] {
        wait_for(cluster, &format!("{node} is Unknown"), |cluster| ready(cluster, node) == "Unknown");
    }
    assert!(files.iter().all(|file| grows(file)), "containers need no kubelet");
    assert_eq!(ready(cluster, "node3"), "True");
    cluster.start_kubelet("node1").unwrap();
    cluster.freeze_kubelet("node2", false).unwrap();
    for node in ["node1", "node2"] {
        wait_for(cluster, &format!("{node} is back"), |cluster| ready(cluster, node) == "True");
    }
    assert!(files.iter().all(|file| grows(file)), "the same containers");
    for name in ["on-node1", "on-node2"] {
        assert_eq!(object(cluster, "pod", name)["status"]["containerStatuses"][0]["restartCount"], 0);
    }
    delete(cluster, &["pod/on-node1", "pod/on-node2"]);
}

fn node_object(cluster: &mut Cluster, _: &Tools) {
    let before = object(cluster, "node", "node3")["metadata"]["uid"].clone();
    cluster.delete_node_object("node3").unwrap();
    wait_for(cluster, "the object is gone", |cluster| object(cluster, "node", "node3") == Value::Null);
    assert_eq!(ready(cluster, "node1"), "True");
    cluster.stop_kubelet("node3").unwrap();
    cluster.start_kubelet("node3").unwrap();
    wait_for(cluster, "a kubelet that starts registers its node", |cluster| ready(cluster, "node3") == "True");
    assert_ne!(object(cluster, "node", "node3")["metadata"]["uid"], before, "another object");
}

fn no_api_server(cluster: &mut Cluster, _: &Tools) {
    let folder = cluster.offer_volume("node1", "through", Reclaim::Retain).unwrap();
    let pod = objects::with_claim(objects::pod("through", &["write", "/data/lines"]), "through");
    cluster.apply(&[objects::claim("through", "through"), pod]).unwrap();
    running(cluster, "through");
    cluster.stop_api_server();
    assert!(cluster.kubectl(&["get", "nodes"]).is_err());
    assert!(grows(&folder.join("lines")), "pods need no API server");
    cluster.start_api_server().unwrap();
    assert_eq!(phase(cluster, "pod", "through"), "Running", "what was stored is there");
    assert!(grows(&folder.join("lines")));
    delete(cluster, &["pod/through"]);
}

fn ready(cluster: &Cluster, node: &str) -> String {
    condition(&object(cluster, "node", node), "Ready").to_owned()
}

fn containers(cluster: &mut Cluster, _: &Tools) {
    let files = ["sleeper", "awake"].map(|name| {
        let folder = cluster.offer_volume("node2", name, Reclaim::Retain).unwrap();
        let pod = objects::with_claim(objects::pod(name, &["write", "/data/lines"]), name);
        cluster.apply(&[objects::claim(name, name), pod]).unwrap();
        folder.join("lines")
    });
    running(cluster, "sleeper");
    running(cluster, "awake");
    let [sleeper, awake] = files;
    assert!(grows(&sleeper) && grows(&awake));
    cluster.freeze_container("sleeper", true).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!grows(&sleeper), "frozen");
    assert!(grows(&awake), "the other is not");
    assert_eq!(phase(cluster, "pod", "sleeper"), "Running", "nobody noticed");
    cluster.freeze_container("sleeper", false).unwrap();
    assert!(grows(&sleeper), "it goes on");
    cluster.kill_container("sleeper").unwrap();
    wait_for(cluster, "the killed pod has failed", |cluster| phase(cluster, "pod", "sleeper") == "Failed");
    let state = &object(cluster, "pod", "sleeper")["status"]["containerStatuses"][0]["state"];
    assert_eq!(state["terminated"]["exitCode"], 137, "{state}");
    assert!(!grows(&sleeper) && grows(&awake));
    assert!(cluster.kill_container("sleeper").is_err(), "there is nothing left to kill");
    delete(cluster, &["pod/sleeper", "pod/awake"]);
}

fn one_pod(cluster: &mut Cluster, _: &Tools) {
    let bucket = cluster.bucket("one").unwrap();
    let (url, access, secret) = cluster.object_store();
    let to = |place: &str| format!("{}/one/{place}", url.replace("://", &format!("://{access}:{secret}@")));
    for name in ["alone", "beside"] {
        cluster.apply(&[objects::on_node(objects::pod(name, &["put-each", &to(name)]), "node3")]).unwrap();
    }
    let count = |name: &str| fs::read_dir(bucket.join(name)).map_or(0, Iterator::count);
    let more = |name: &str, within: u64| {
        let (before, start) = (count(name), Instant::now());
        while start.elapsed() < Duration::from_secs(within) && count(name) == before {
            std::thread::sleep(Duration::from_millis(50));
        }
        count(name) > before
    };
    running(cluster, "alone");
    running(cluster, "beside");
    assert!(more("alone", 20) && more("beside", 20));
    for direction in [Direction::Both, Direction::Outgoing] {
        cluster.cut_pod("alone", Peer::Store, direction).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(!more("alone", 3), "it is cut off: {direction:?}");
        assert!(more("beside", 20), "its neighbour is not");
        cluster.heal("node3").unwrap();
        assert!(more("alone", 20), "healed");
    }
    cluster.cut_pod("alone", Peer::Api, Direction::Both).unwrap();
    assert!(more("alone", 20), "the object store is another address");
    cluster.heal("node3").unwrap();
    delete(cluster, &["pod/alone", "pod/beside"]);
}

fn full_volume(cluster: &mut Cluster, _: &Tools) {
    let folder = cluster.offer_small_volume("node1", "small", 1).unwrap();
    let pod = objects::with_claim(objects::pod("small", &["write", "/data/lines"]), "small");
    cluster.apply(&[objects::claim("small", "small"), pod]).unwrap();
    running(cluster, "small");
    assert!(grows(&folder.join("lines")));
    cluster.fill_volume("node1", "small").unwrap();
    // The first writer has room for some lines in its file's last page; a new file has none.
    cluster.apply(&[objects::with_claim(objects::pod("late", &["write", "/data/late"]), "small")]).unwrap();
    wait_for(cluster, "the late writer found no room", |cluster| phase(cluster, "pod", "late") == "Failed");
    let log = cluster.kubectl(&["logs", "late"]).unwrap();
    assert!(log.contains("no space left on device"), "{log}");
    cluster.unfill_volume("node1", "small").unwrap();
    fs::write(folder.join("more"), vec![0_u8; 100_000]).unwrap();
    assert!(cluster.fill_volume("node1", "other").is_err(), "a folder of the machine's disk is never filled");
    delete(cluster, &["pod/small", "pod/late"]);
}

fn maintenance(cluster: &mut Cluster, _: &Tools) {
    cluster.apply(&[objects::on_node(objects::pod("moved", &["pause"]), "node2")]).unwrap();
    cluster.apply(&[objects::on_node(objects::pod("stays", &["pause"]), "node3")]).unwrap();
    running(cluster, "moved");
    running(cluster, "stays");
    cluster.drain("node2", 60).unwrap();
    assert_eq!(object(cluster, "pod", "moved"), Value::Null);
    assert_eq!(phase(cluster, "pod", "stays"), "Running");
    cluster.apply(&[objects::on_node(objects::pod("late", &["pause"]), "node2")]).unwrap();
    wait_for(cluster, "no node takes the pod", |cluster| {
        let pod = object(cluster, "pod", "late");
        pod["status"]["conditions"][0]["reason"] == "Unschedulable"
    });
    cluster.cordon("node2", false).unwrap();
    running(cluster, "late");
    cluster.taint_out_of_service("node2").unwrap();
    wait_for(cluster, "the taint drives the pod away", |cluster| object(cluster, "pod", "late") == Value::Null);
    assert_eq!(phase(cluster, "pod", "stays"), "Running");
    cluster.untaint_out_of_service("node2").unwrap();
    assert!(cluster.untaint_out_of_service("node2").is_err(), "it is gone");
    delete(cluster, &["pod/stays"]);
}

fn assertions(cluster: &mut Cluster, _: &Tools) {
    let kinds = ["configmaps", "pods"];
    let before = cluster.objects(&kinds).unwrap();
    let quiet = cluster.writes_within(&kinds, Duration::from_secs(3)).unwrap();
    assert!(quiet.is_empty(), "{quiet:?}");
    let seen = std::thread::scope(|scope| {
        let watching = scope.spawn(|| cluster.writes_within(&kinds, Duration::from_secs(4)).unwrap());
        std::thread::sleep(Duration::from_millis(2500));
        cluster.kubectl(&["create", "configmap", "brief"]).unwrap();
        cluster.kubectl(&["delete", "configmap", "brief"]).unwrap();
        watching.join().unwrap()
    });
    assert!(seen.len() == 2 && seen.iter().all(|line| line.contains("brief")), "a write undone is seen too: {seen:?}");
    cluster.nothing_left_over(&kinds, &before, SOON).unwrap();
    cluster.kubectl(&["create", "configmap", "left"]).unwrap();
    let left = cluster.nothing_left_over(&kinds, &before, Duration::from_millis(500)).unwrap_err().to_string();
    assert!(left.contains("ConfigMap default/left"), "{left}");
    let folder = left.lines().find_map(|line| line.strip_prefix("logs: ")).unwrap();
    assert!(Path::new(folder).join("etcd.log").exists(), "the failure names the logs: {folder}");
    fs::remove_dir_all(folder).unwrap();
}
