//! The operator on real clusters: builds that become pods with volumes, and what becomes of them when nodes, the API
//! server or the object store are cut off. Scenarios share clusters where they do not disturb each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

#[path = "operator/away.rs"]
mod away;
#[path = "operator/cut.rs"]
mod cut;
#[path = "operator/damage.rs"]
mod damage;
#[path = "operator/deletion.rs"]
mod deletion;
#[path = "operator/hindrance.rs"]
mod hindrance;
#[path = "operator/incident.rs"]
mod incident;
#[path = "operator/limit.rs"]
mod limit;
#[path = "operator/majority.rs"]
mod majority;
#[path = "operator/outage.rs"]
mod outage;
#[path = "operator/resize.rs"]
mod resize;
#[path = "operator/restart.rs"]
mod restart;
#[path = "operator/short.rs"]
mod short;
#[path = "operator/mod.rs"]
mod support;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use indexbuild_testbed::tools_or_skip;

/// Each has a cluster to itself. The incident has the machine too, as it measures time to a few seconds.
static MACHINE: RwLock<()> = RwLock::new(());

/// Of the others, one at a time is busy; what only waits runs beside it.
static BUSY: Mutex<()> = Mutex::new(());

/// A turn to be busy.
fn busy() -> MutexGuard<'static, ()> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the first to be busy is: the next one runs while its API server is away.
static FIRST: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// For so long the next one waits for the first to begin: it may not have been asked for.
const BEGINS: Duration = Duration::from_secs(2);

#[test]
fn a_hindrance_is_told_deletion_leaves_nothing_and_executors_outlast_the_api_server_i5_i9() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let turn = busy();
    *FIRST.0.lock().unwrap() = true;
    FIRST.1.notify_all();
    let Some(tools) = tools_or_skip("hindrances, deletion, and an API server that is away") else { return };
    away::run(&tools, turn);
}

#[test]
fn the_incident_on_real_nodes_loses_no_row_and_hardly_any_time_i1_i7_i10_g9() {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let Some(tools) = tools_or_skip("the incident on real nodes") else { return };
    incident::run(&tools);
}

#[test]
fn owners_that_end_are_cut_off_or_return_lose_no_sealed_work_and_no_volume_is_destroyed_without_proof_i3_i4_i9() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    drop(FIRST.1.wait_timeout_while(FIRST.0.lock().unwrap(), BEGINS, |begun| !*begun).unwrap());
    let _turn = busy();
    let Some(tools) = tools_or_skip("disruptions at short clocks") else { return };
    short::run(&tools);
}

#[test]
fn a_store_that_is_away_or_refuses_is_waited_for_told_and_never_counted_i5() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let Some(tools) = tools_or_skip("an object store that is away") else { return };
    outage::run(&tools);
}
