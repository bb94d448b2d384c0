//! Volumes, the faults of single pods and nodes, and what tests ask at their end: on one cluster, one after the
//! other, each with its opposite as control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indexbuild_testbed::{Cluster, Direction, From, Options, Reclaim, Tools, objects, tools_or_skip};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn wait_for(cluster: &Cluster, what: &str, holds: impl Fn(&Cluster) -> bool) {
    let waited =
        cluster.wait(what, SOON, |cluster| Ok(if holds(cluster) { Ok(()) } else { Err("not yet".to_owned()) }));
    waited.unwrap_or_else(|error| panic!("{error}"));
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

/// Whether a file grows within two seconds; its writer writes five times a second.
fn grows(file: &Path) -> bool {
    let (before, start) = (size(file), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        if size(file) > before {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn volumes_pods_and_nodes_break_as_asked_and_are_mended() {
    let Some(tools) = tools_or_skip("volumes, faults, assertions") else { return };
    let start = Instant::now();
    let cluster = Cluster::start(&tools, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    println!("three nodes after {:.1} s; clocks: {}", start.elapsed().as_secs_f64(), cluster.clocks());
    for (name, part) in [
        ("a door on loopback", door as fn(&Cluster, &Tools)),
        ("Released volumes", released_volumes),
        ("a frozen and a killed container", containers),
        ("a pod cut off alone", one_pod),
        ("a full volume", full_volume),
        ("cordon, drain, taint", maintenance),
        ("the assertions", assertions),
    ] {
        let start = Instant::now();
        part(&cluster, &tools);
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

fn door(cluster: &Cluster, tools: &Tools) {
    let door = cluster.door().unwrap();
    let nodes = |kubeconfig: &Path| {
        let mut command = Command::new(tools.path("kubectl"));
        let output = command.args(["get", "nodes", "-o", "name", "--request-timeout=5s"]).env("KUBECONFIG", kubeconfig);
        String::from_utf8(output.output().unwrap().stdout).unwrap().lines().count()
    };
    assert_eq!(nodes(door.kubeconfig()), 3);
    let kubeconfig = door.kubeconfig().to_owned();
    drop(door);
    assert_eq!(nodes(&kubeconfig), 0, "the door is closed");
}

/// Delete: emptied and offered anew. Retain: Released, with its content, until somebody decides.
fn released_volumes(cluster: &Cluster, _: &Tools) {
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

fn containers(cluster: &Cluster, _: &Tools) {
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

fn one_pod(cluster: &Cluster, _: &Tools) {
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
        cluster.cut_pod("alone", From::Store, direction).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(!more("alone", 3), "it is cut off: {direction:?}");
        assert!(more("beside", 20), "its neighbour is not");
        cluster.heal("node3").unwrap();
        assert!(more("alone", 20), "healed");
    }
    cluster.cut_pod("alone", From::Api, Direction::Both).unwrap();
    assert!(more("alone", 20), "the object store is another address");
    cluster.heal("node3").unwrap();
    delete(cluster, &["pod/alone", "pod/beside"]);
}

fn full_volume(cluster: &Cluster, _: &Tools) {
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
    cluster.empty_filler("node1", "small").unwrap();
    fs::write(folder.join("more"), vec![0_u8; 100_000]).unwrap();
    assert!(cluster.fill_volume("node1", "other").is_err(), "a folder of the machine's disk is never filled");
    delete(cluster, &["pod/small", "pod/late"]);
}

fn maintenance(cluster: &Cluster, _: &Tools) {
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

fn assertions(cluster: &Cluster, _: &Tools) {
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
