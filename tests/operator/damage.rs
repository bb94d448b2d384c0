//! A run that is damaged on disk, and one in the store: a second round encodes just its splits again (I3).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::short::slow;
use crate::support::{NAMESPACE, World, holds, switch, text};

const ON_DISK: &str = "hurt-disk";
const IN_STORE: &str = "hurt-store";
/// The control: what is read is taken for what was sealed.
const TRUSTING: &str = "hurt-trusting";

pub(crate) fn builds(world: &World) -> Vec<Value> {
    let on_disk = slow(world, ON_DISK, 1, 600);
    let in_store = slow(world, IN_STORE, 2, 600);
    let mut trusting = slow(world, TRUSTING, 2, 600);
    trusting["spec"]["backoffLimit"] = json!(0);
    switch(&mut trusting, &json!({"runBytes": 1, "trustRuns": true}));
    vec![on_disk, in_store, trusting]
}

/// Flips a bit in a piece of a sealed run while the Encode goes on.
pub(crate) fn hurt(world: &World) {
    for name in [ON_DISK, IN_STORE, TRUSTING] {
        let record = world.at_work(NAMESPACE, name, 0, 2);
        let uid = text(&record, "/spec/buildUID");
        let run = format!("{}.run", world.witness.sealed(uid)[0].name);
        world.until(&format!("{run} is there to be damaged"), Duration::from_secs(60), |world| {
            let place =
                if name == ON_DISK { world.witness.on_volume(uid, &run) } else { world.witness.in_store(uid, &run) };
            let place = place.ok_or("it is not there yet")?;
            let mut bytes = std::fs::read(&place).map_err(|error| error.to_string())?;
            let at = bytes.len() / 4;
            bytes[at] ^= 0x10;
            std::fs::write(&place, bytes).map_err(|error| error.to_string())
        });
    }
}

pub(crate) fn check(world: &World) {
    for name in [ON_DISK, IN_STORE] {
        let uid = text(&world.read(name), "/metadata/uid").to_owned();
        let first = world.witness.sealed(&uid)[0].clone();
        world.complete(name, Duration::from_secs(120));
        let redone = world.witness.twice(&uid);
        world.say(&format!("{name}: splits {redone:?} encoded again, {} rows", world.witness.rebuilt(&uid)));
        assert_eq!(redone, first.splits.iter().copied().collect::<BTreeSet<_>>(), "{name}: just the damaged run's");
        let second = world.witness.sealed(&uid).into_iter().filter(|run| run.work == "encode-r1-0");
        let second: BTreeSet<u64> = second.flat_map(|run| run.splits).collect();
        assert_eq!(second, redone, "{name}: by a second round");
        world.assert_same_as_local(NAMESPACE, name);
    }
    let build = world.until("the control has ended", Duration::from_secs(120), |world| {
        let build = world.read(TRUSTING);
        if holds(&build, "Finished") { Ok(build) } else { Err(build["status"].to_string()) }
    });
    // I6 is the last line of defence: no index with a damaged entry is published.
    world.say(&format!("{TRUSTING}: {}", build["status"]["lastError"]));
    assert!(holds(&build, "Failed"), "the control: a damaged run spoils the build: {}", build["status"]);
}
