//! A build that is deleted in each of its stages: its pods are gone long before their grace period would end them, and
//! nothing is left (I9).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Fixture, NAMESPACE, message, switch, text};

/// Half of a pod's grace period, which an executor that heeds nothing takes. On a machine of its own it is 4 s, beside
/// another cluster up to 9 s.
const GONE: Duration = Duration::from_secs(15);

const STAGES: [&str; 4] = ["Plan", "Encode", "Sort", "Publish"];

pub(crate) fn run(fixture: &Fixture) {
    let name = |stage: &str| format!("deleted-in-{}", stage.to_lowercase());
    let made = STAGES.map(|stage| {
        let mut build = fixture.build(&name(stage), "orders", 2);
        switch(&mut build, &json!({"standStillIn": stage}));
        build
    });
    fixture.cluster.apply(&made).unwrap();
    let mut done = fixture.build("deleted-when-done", "small", 1);
    done["spec"]["output"]["deletionPolicy"] = json!("Delete");
    // An output that never was: said, and no clean-up looks for what cannot be there.
    let mut nowhere = fixture.build("deleted-without-bucket", "small", 1);
    nowhere["spec"]["output"]["url"] = json!("s3://no-such-bucket/shop");
    fixture.cluster.apply(&[done, nowhere]).unwrap();
    for stage in STAGES {
        let name = name(stage);
        fixture.until(&format!("{name} is there"), Duration::from_secs(60), |fixture| {
            let records = fixture.slots(NAMESPACE, &name);
            let there = records.iter().any(|record| {
                record["spec"]["work"]["kind"] == stage && !text(record, "/spec/grant/bootNonce").is_empty()
            });
            if there {
                Ok(())
            } else {
                Err(format!("{:?}", records.iter().map(|one| &one["spec"]["work"]).collect::<Vec<&Value>>()))
            }
        });
        delete(fixture, &name);
    }
    fixture.complete("deleted-when-done", Duration::from_secs(60));
    delete(fixture, "deleted-when-done");
    fixture.until("a missing bucket is told", Duration::from_secs(60), |fixture| {
        let said = message(&fixture.read("deleted-without-bucket"), "Stalled");
        let told = said.starts_with("\"WaitingForStore\"")
            && said.contains("s3://no-such-bucket/")
            && said.contains("does not exist; create it");
        if told { Ok(()) } else { Err(said) }
    });
    delete(fixture, "deleted-without-bucket");
}

fn delete(fixture: &Fixture, name: &str) {
    let uid = text(&fixture.read(name), "/metadata/uid").to_owned();
    let start = Instant::now();
    fixture.kubectl(&["delete", "ib", name, "--wait=false"]);
    fixture.until(&format!("the pods of {name} are gone"), Duration::from_secs(60), |fixture| {
        let pods = fixture.pods(NAMESPACE, name);
        let left: Vec<_> = pods.iter().map(|pod| text(pod, "/metadata/name").to_owned()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("pods {left:?}")) }
    });
    let took = start.elapsed();
    fixture.assert_gone(NAMESPACE, name, &uid, Duration::from_secs(20));
    fixture.say(&format!(
        "{name}: pods gone after {:.1} s, all of it after {:.1} s",
        took.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ));
    assert!(took <= GONE, "the pods of {name} were gone after {took:?}");
}
