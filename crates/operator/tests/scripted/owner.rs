//! A scripted owner: lives one pod's life as an executor does. What it may do next is said by the same pure function
//! that the executor asks; it writes by the same patches, with its own pod's token. Only its works are make-believe.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use indexbuild_api::{Claim, EngineDirectory, Epoch, Report, Work, WorkKind, WorkResult, names};
use indexbuild_lifecycle::owner::{Current, OwnerState, Seen, Step, next};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::Record;
use indexbuild_operator::views;
use kube::api::{GetParams, Patch, PatchParams};
use kube::{Client, Resource as _, ResourceExt as _};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

use super::machine::{Records, Script};
use super::store::Commit;

/// Rows of each Encode.
pub(crate) const ROWS: u64 = 1_000;
/// The name under which an executor writes.
const FIELD_MANAGER: &str = "indexbuild-executor";

/// Which slot a process speaks for, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub namespace: String,
    pub build_name: String,
    pub build_uid: String,
    pub slot: u32,
    pub pod_uid: String,
    /// Of the kernel that it runs on.
    pub boot_id: String,
    /// Bound to the pod.
    pub token: String,
}

struct Attempt {
    epoch: Epoch,
    work: Work,
    begun: Instant,
    result: Option<WorkResult>,
    reported_at: Option<Instant>,
    outcome_reported: bool,
}

/// One process.
pub(crate) struct Owner<'a> {
    pub place: Place,
    /// Without an identity of its own: the token is put on each request.
    pub client: Client,
    pub records: &'a Records,
    pub script: &'a Script,
}

impl Owner<'_> {
    fn record_name(&self) -> String {
        names::directory(&self.place.build_name, &self.place.build_uid, self.place.slot)
    }

    async fn send(&self, mut request: http::Request<Vec<u8>>) -> Result<EngineDirectory, kube::Error> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.place.token)).unwrap();
        request.headers_mut().insert(AUTHORIZATION, bearer);
        self.client.request(request).await
    }

    fn requests(&self) -> kube::core::Request {
        kube::core::Request::new(EngineDirectory::url_path(&(), Some(&self.place.namespace)))
    }

    async fn read(&self) -> Result<EngineDirectory, kube::Error> {
        self.send(self.requests().get(&self.record_name(), &GetParams::default()).unwrap()).await
    }

    /// G4: the whole value is replaced.
    async fn replace<T: Serialize>(&self, field: &str, value: &T) -> Result<EngineDirectory, kube::Error> {
        let operations = json!([{"op": "add", "path": format!("/status/{field}"), "value": value}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.requests().patch_subresource("status", &self.record_name(), &parameters, &patch).unwrap();
        self.send(request).await
    }

    /// Lives until there is nothing left to do, or the pod is asked to stop. Returns the exit code.
    pub(crate) async fn live(&self, mut stop: watch::Receiver<bool>) -> i32 {
        let boot_nonce = uuid::Uuid::new_v4().to_string();
        let mut state = OwnerState {
            pod_uid: self.place.pod_uid.clone(),
            boot_nonce: boot_nonce.clone(),
            orphan_after: 3_600_000,
            last_contact: 0,
            claimed: false,
            current: None,
            stop_requested: false,
        };
        let born = Instant::now();
        let mut changes = self.records.subscribe(&self.place.namespace, &self.record_name());
        let mut newest: Option<EngineDirectory> = None;
        // The first look is by its own right; a role that was just made may take a moment to count.
        while newest.is_none() && !*stop.borrow() {
            match self.read().await {
                Ok(found) => newest = Some(found),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let mut attempt: Option<Attempt> = None;
        loop {
            let watched = changes.borrow_and_update().clone();
            newest = newer(newest, watched.as_deref().cloned());
            state.stop_requested = *stop.borrow_and_update();
            let now = u64::try_from(born.elapsed().as_millis()).unwrap();
            let record: Option<Record> = newest.as_ref().map(views::record);
            state.last_contact = now;
            let seen = record.as_ref().map_or(Seen::Absent, Seen::Record);
            let interval = record.as_ref().map_or(Duration::from_secs(1), |record| record.spec.renew_interval.to_std());
            match next(&state, seen, now) {
                Step::Wait | Step::GoOn => {}
                Step::Claim if state.claimed => {}
                Step::Claim => {
                    let claim = Claim {
                        pod_uid: state.pod_uid.clone(),
                        boot_nonce: boot_nonce.clone(),
                        boot_id: self.place.boot_id.clone(),
                    };
                    if let Ok(written) = self.replace("claim", &claim).await {
                        state.claimed = true;
                        self.script.written.claims.fetch_add(1, Ordering::Relaxed);
                        newest = newer(newest, Some(written));
                    }
                }
                Step::Start { epoch, work } => {
                    state.claimed = true;
                    state.current = Some(Current { epoch, work_id: work.id.clone() });
                    self.script.begin(&self.place.namespace, &self.place.build_uid, work.kind);
                    attempt = Some(Attempt {
                        epoch,
                        work,
                        begun: Instant::now(),
                        result: None,
                        reported_at: None,
                        outcome_reported: false,
                    });
                    continue;
                }
                Step::Report => {
                    if let Some(attempt) = attempt.as_mut()
                        && let Some(written) = self.report_if_due(attempt, &boot_nonce, interval).await
                    {
                        newest = newer(newest, Some(written));
                        continue;
                    }
                }
                Step::GiveWay(_) | Step::Exit(_) => {
                    self.release(&boot_nonce).await;
                    return 0;
                }
            }
            let wait = self.pause(attempt.as_ref(), interval);
            tokio::select! {
                _ = changes.changed() => {}
                _ = stop.changed() => {}
                () = self.script.released.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The last word, by the record as it is now.
    async fn release(&self, boot_nonce: &str) {
        if self.script.is_mute(&self.place.build_name) {
            return;
        }
        let Ok(record) = self.read().await else { return };
        let Some(word) = LastWord::of(&views::record(&record), &self.place.pod_uid, boot_nonce) else { return };
        let LastWord { pod_uid, release, outdated } = word;
        let forgotten = outdated.into_iter().map(|uid| (uid, json!(null)));
        let said: serde_json::Map<_, _> = forgotten.chain([(pod_uid, json!(release))]).collect();
        let patch = Patch::Merge(json!({"status": {"released": said}}));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.requests().patch_subresource("status", &self.record_name(), &parameters, &patch).unwrap();
        if let Err(error) = self.send(request).await {
            eprintln!("{}: the last word was not taken: {error}", self.record_name());
        }
    }

    /// How long until there is something to do.
    fn pause(&self, attempt: Option<&Attempt>, interval: Duration) -> Duration {
        let least = Duration::from_millis(5);
        let Some(attempt) = attempt else { return interval };
        let renew = attempt.reported_at.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()));
        if attempt.result.is_none() && !self.script.is_held(&self.place.namespace, attempt.work.kind) {
            return renew.min(self.script.pace.saturating_sub(attempt.begun.elapsed())).max(least);
        }
        renew.max(least)
    }

    async fn report_if_due(
        &self,
        attempt: &mut Attempt,
        boot_nonce: &str,
        interval: Duration,
    ) -> Option<EngineDirectory> {
        let Place { namespace, build_uid, .. } = &self.place;
        let worked = attempt.begun.elapsed() >= self.script.pace;
        if attempt.result.is_none()
            && attempt.reported_at.is_some()
            && worked
            && !self.script.is_held(namespace, attempt.work.kind)
        {
            attempt.result = Some(self.result(attempt, boot_nonce, build_uid));
        }
        let news = attempt.result.is_some() && !attempt.outcome_reported;
        let due = attempt.reported_at.is_none_or(|at| at.elapsed() >= interval);
        if !news && !due {
            return None;
        }
        let rows = attempt.result.as_ref().map_or(0, |result| result.rows);
        let share = attempt.begun.elapsed().as_secs_f64() / (1.0 + self.script.pace.as_secs_f64());
        let progress = if attempt.result.is_some() { 1.0 } else { share.min(0.4) };
        let report = Report {
            epoch: attempt.epoch,
            boot_nonce: boot_nonce.to_owned(),
            renew_time: jiff::Timestamp::now().to_string(),
            progress: Some((progress * 1_000.0).round() / 1_000.0),
            rows: Some(rows),
            bytes: Some(rows * 20),
            step: Some(if attempt.result.is_some() { "done" } else { "working" }.to_owned()),
            waiting: None,
            result: attempt.result.clone(),
            error: None,
            ending: false,
        };
        attempt.reported_at = Some(Instant::now());
        let written = &self.script.written;
        if news { &written.results } else { &written.heartbeats }.fetch_add(1, Ordering::Relaxed);
        let written = self.replace("report", &report).await.ok()?;
        if let Some(result) = &attempt.result
            && !attempt.outcome_reported
        {
            attempt.outcome_reported = true;
            let WorkResult { work_id, epoch, digest, .. } = result;
            self.records.ledger.reported(namespace, work_id, *epoch, boot_nonce, digest);
        }
        Some(written)
    }

    /// A result as an executor's would be: the digest is that of this attempt's bytes, but a commit's is the commit's.
    fn result(&self, attempt: &Attempt, boot_nonce: &str, build_uid: &str) -> WorkResult {
        let Attempt { epoch, work, .. } = attempt;
        let own = format!("{:032x}", xxh3_128(format!("{build_uid}/{}/{epoch}-{boot_nonce}", work.id).as_bytes()));
        let Script { encode_works, sort_works, .. } = self.script;
        let total = ROWS * u64::from(*encode_works);
        let nothing =
            WorkResult { work_id: work.id.clone(), epoch: *epoch, digest: own.clone(), ..WorkResult::default() };
        match work.kind {
            WorkKind::Plan => {
                WorkResult { encode_works: Some(*encode_works), sort_works: Some(*sort_works), ..nothing }
            }
            WorkKind::Encode => WorkResult { rows: ROWS, entries: ROWS, bytes: ROWS * 20, ..nothing },
            WorkKind::Sort => {
                let entries = total / u64::from(*sort_works);
                WorkResult { entries, bytes: entries * 16, ..nothing }
            }
            WorkKind::Publish => match self.script.store.publish(build_uid, &own) {
                Commit::Manifest(digest) => {
                    WorkResult { digest, rows: total, entries: total, bytes: total * 16, ..nothing }
                }
                // A Publish behind a tombstone publishes nothing; the operator revoked it long before.
                Commit::Tombstone => nothing,
            },
            WorkKind::Other(kind) => unreachable!("no operator grants a work of kind {kind}"),
            WorkKind::Clean => {
                if work.removes_index {
                    self.script.store.remove(build_uid);
                    return nothing;
                }
                match self.script.store.abort(build_uid) {
                    Commit::Manifest(_) => {
                        WorkResult { committed: true, rows: total, entries: total, bytes: total * 16, ..nothing }
                    }
                    Commit::Tombstone => nothing,
                }
            }
        }
    }
}

/// The one with the higher version: a watch may lag behind the answer to a write.
fn newer(one: Option<EngineDirectory>, other: Option<EngineDirectory>) -> Option<EngineDirectory> {
    let version = |object: &EngineDirectory| object.resource_version().and_then(|text| text.parse::<u64>().ok());
    match (one, other) {
        (Some(one), Some(other)) if one.uid() == other.uid() && version(&one) > version(&other) => Some(one),
        (_, Some(other)) => Some(other),
        (one, None) => one,
    }
}
