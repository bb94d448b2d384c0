//! A run that is damaged on disk, and one in the store: a second round encodes just its splits again (I3).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::short_timers::slow;
use crate::support::{Fixture, NAMESPACE, holds, switch, text};

const ON_DISK: &str = "hurt-disk";
const IN_STORE: &str = "hurt-store";
/// The control: what is read is taken for what was sealed.
const TRUSTING: &str = "hurt-trusting";

pub(crate) fn builds(fixture: &Fixture) -> Vec<Value> {
    let on_disk = slow(fixture, ON_DISK, 1, 600);
    let in_store = slow(fixture, IN_STORE, 2, 600);
    let mut trusting = slow(fixture, TRUSTING, 2, 600);
    trusting["spec"]["backoffLimit"] = json!(0);
    switch(&mut trusting, &json!({"runBytes": 1, "trustRuns": true}));
    vec![on_disk, in_store, trusting]
}

/// Flips a bit in a piece of a sealed run while the Encode goes on.
pub(crate) fn hurt(fixture: &Fixture) {
    for name in [ON_DISK, IN_STORE, TRUSTING] {
        let record = fixture.at_work(NAMESPACE, name, 0, 2);
        let uid = text(&record, "/spec/buildUID");
        let run = format!("{}.run", fixture.watcher.sealed(uid)[0].name);
        fixture.until(&format!("{run} is there to be damaged"), Duration::from_secs(60), |fixture| {
            let place = if name == ON_DISK {
                fixture.watcher.on_volume(uid, &run)
            } else {
                fixture.watcher.in_store(uid, &run)
            };
            let place = place.ok_or("it is not there yet")?;
            let mut bytes = std::fs::read(&place).map_err(|error| error.to_string())?;
            let at = bytes.len() / 4;
            bytes[at] ^= 0x10;
            std::fs::write(&place, bytes).map_err(|error| error.to_string())
        });
    }
}

pub(crate) fn check(fixture: &Fixture) {
    for name in [ON_DISK, IN_STORE] {
        let uid = text(&fixture.read(name), "/metadata/uid").to_owned();
        let first = fixture.watcher.sealed(&uid)[0].clone();
        fixture.complete(name, Duration::from_secs(120));
        let redone = fixture.watcher.twice(&uid);
        fixture.say(&format!("{name}: splits {redone:?} encoded again, {} rows", fixture.watcher.rebuilt(&uid)));
        assert_eq!(redone, first.splits.iter().copied().collect::<BTreeSet<_>>(), "{name}: just the damaged run's");
        let second = fixture.watcher.sealed(&uid).into_iter().filter(|run| run.work == "encode-r1-0");
        let second: BTreeSet<u64> = second.flat_map(|run| run.splits).collect();
        assert_eq!(second, redone, "{name}: by a second round");
        fixture.assert_same_as_local(NAMESPACE, name);
    }
    let build = fixture.until("the control has ended", Duration::from_secs(120), |fixture| {
        let build = fixture.read(TRUSTING);
        if holds(&build, "Finished") { Ok(build) } else { Err(build["status"].to_string()) }
    });
    // I6 is the last line of defence: no index with a damaged entry is published.
    fixture.say(&format!("{TRUSTING}: {}", build["status"]["lastError"]));
    assert!(holds(&build, "Failed"), "the control: a damaged run spoils the build: {}", build["status"]);
}
