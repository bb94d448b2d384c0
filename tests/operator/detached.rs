//! One folder is seen from two nodes, by a CSI driver that detaches by doing nothing. One node crashes, and another one is
//! cut off and writes on; somebody vouches by the taint that both are down, and the volumes are detached. That proves the
//! owners gone where the administrator says so of the driver. The control: he says it of a driver of which it is not true.

use std::time::Duration;

use indexbuild_testbed::{Direction, Options, Peer, Tools};
use serde_json::{Value, json};

use crate::partition::{claim_of, writes_on};
use crate::short_timers::{SMALL, slow};
use crate::support::operator_process::OperatorOptions;
use crate::support::seal_watcher::SealWatcher;
use crate::support::{Fixture, NAMESPACE, history, message, prefer, text};

/// The driver whose detach the operator takes for proof. Of a machine that has crashed that is right, whatever it does.
const LISTED: &str = "listed.testbed.local";
/// The same driver under a name that the operator was not told.
const OTHER: &str = "other.testbed.local";

const CRASHED: &str = "node4";
const CUT: &str = "node2";

/// Kubernetes deletes the pods of a node with the taint by force after some 20 s, and detaches their volumes then.
const DETACHED: Duration = Duration::from_secs(150);

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 4, ..Options::default() }, 0);
    // Files of 2,000 rows: work for longer than a detach takes.
    fixture.table("small", 2 * SMALL, 20, &["--columns", "id,k"]);
    let mut folders = Vec::new();
    for (driver, name) in [(LISTED, "listed"), (OTHER, "other")] {
        fixture.cluster.start_csi_driver(driver).unwrap();
        for number in 1..=4 {
            folders.push(fixture.cluster.offer_csi_volume(driver, &format!("{name}-{number}")).unwrap());
        }
    }
    fixture.watcher = SealWatcher::of(fixture.cluster.bucket("indexes").unwrap(), folders);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080).believing(LISTED));
    let builds = [("crashed", LISTED, CRASHED), ("held", OTHER, CUT), ("believed", LISTED, CUT)];
    let made = builds.map(|(name, driver, node)| {
        let mut build = slow(&fixture, name, 1, 100);
        build["spec"]["volume"]["storageClassName"] = json!(driver);
        // Patience that no detach outlasts, but for the one that must not be believed.
        let replace_after = if name == "held" { "25s" } else { "240s" };
        build["spec"]["disruption"] = json!({"replaceAfter": replace_after, "orphanAfter": "600s"});
        prefer(&mut build, node);
        build
    });
    fixture.cluster.apply(&made).unwrap();
    let [crashed, held, believed] = builds.map(|(name, driver, node)| {
        let record = fixture.at_work(NAMESPACE, name, 0, 1);
        let attached = json!({"driver": driver, "volume": volume_of(&fixture, &record), "node": node});
        assert_eq!(record["spec"]["grant"]["attached"], attached, "{name}: the write that bound it says so");
        record
    });

    fixture.cluster.crash_node(CRASHED).unwrap();
    fixture.cluster.cut(CUT, Peer::Api, Direction::Both).unwrap();
    for node in [CRASHED, CUT] {
        fixture.kubectl(&["taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]);
    }
    fixture.say(&format!("{CRASHED} has crashed, {CUT} is cut off; the taint says that both are down"));
    is_detached(&fixture, &crashed, CRASHED);
    is_rebound(&fixture, "crashed", &crashed);
    is_detached(&fixture, &held, CUT);
    is_held(&fixture, &held);
    is_detached(&fixture, &believed, CUT);
    is_rebound(&fixture, "believed", &believed);
    writes_on(&fixture, &believed);
    fixture.say("the control: where such a detach is believed, two owners have one volume, and the former one writes");

    fixture.cluster.heal(CUT).unwrap();
    for (name, ..) in builds {
        let faster = json!({"spec": {"rowsPerSecond": 100_000}}).to_string();
        fixture.kubectl(&["patch", "ib", name, "--type=merge", "-p", &faster]);
    }
    for (name, record) in [("crashed", &crashed), ("held", &held)] {
        fixture.complete(name, Duration::from_secs(180));
        fixture.assert_same_as_local(NAMESPACE, name);
        let rebuilt = fixture.watcher.rebuilt(text(record, "/spec/buildUID"));
        fixture.say(&format!("{name}: {rebuilt} rows rebuilt"));
        assert!(name == "held" || rebuilt == 0, "what was sealed on the detached volume is taken over: {rebuilt}");
    }
    fixture.assert_within_rights();
    fixture.say("done");
}

fn volume_of(fixture: &Fixture, record: &Value) -> String {
    let claim = claim_of(fixture, NAMESPACE, record).unwrap_or_default();
    text(&claim, "/spec/volumeName").to_owned()
}

/// As Kubernetes' own controllers and the attacher say.
fn is_detached(fixture: &Fixture, record: &Value, node: &str) {
    let volume = text(record, "/spec/grant/attached/volume");
    fixture.until(&format!("{volume} is detached from {node}"), DETACHED, |fixture| {
        let all = fixture.cluster.get(&["volumeattachments"]).map_err(|error| error.to_string())?;
        let left = all["items"].as_array().into_iter().flatten().find(|attachment| {
            let spec = &attachment["spec"];
            spec["nodeName"] == node && spec["source"]["persistentVolumeName"] == volume
        });
        left.map_or(Ok(()), |left| Err(left.to_string()))
    });
}

fn is_rebound(fixture: &Fixture, name: &str, before: &Value) {
    fixture.until(&format!("{name} has a new owner on the same volume"), Duration::from_secs(90), |fixture| {
        let now = fixture.slots(NAMESPACE, name)[0].clone();
        let another = now["spec"]["grant"]["podName"] != before["spec"]["grant"]["podName"];
        let same = now["spec"]["volume"] == before["spec"]["volume"];
        let bound = !text(&now, "/spec/grant/bootNonce").is_empty();
        if another && same && bound { Ok(()) } else { Err(format!("{} {:?}", now["spec"], history(&now))) }
    });
    assert!(history(&fixture.slots(NAMESPACE, name)[0]).contains(&"Rebound".to_owned()));
}

/// I4: its owner writes on, so the volume is nobody else's, and is not deleted; people are told why, and what helps.
fn is_held(fixture: &Fixture, before: &Value) {
    let now = fixture.until("the owner that is cut off is replaced", Duration::from_secs(60), |fixture| {
        let now = fixture.slots(NAMESPACE, "held")[0].clone();
        if history(&now).iter().any(|reason| reason == "Replaced") { Ok(now) } else { Err(now["spec"].to_string()) }
    });
    writes_on(fixture, before);
    let former = &now["spec"]["formerVolumes"][0];
    assert_eq!(former["state"], "Stranded");
    assert_eq!(former["attached"], before["spec"]["grant"]["attached"]);
    assert_ne!(now["spec"]["volume"]["claimName"], before["spec"]["volume"]["claimName"]);
    fixture.until("the held volume's driver is told", Duration::from_secs(30), |fixture| {
        let said = message(&fixture.read("held"), "VolumesHeld");
        let told = format!("its driver {OTHER} is not in the chart's evidence.detachingDrivers");
        if said.contains(&told) { Ok(()) } else { Err(said) }
    });
    let claim = claim_of(fixture, NAMESPACE, before).unwrap();
    assert_eq!(claim["metadata"]["deletionTimestamp"], Value::Null, "{claim}");
}
