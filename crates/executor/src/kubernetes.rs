//! The control plane as an executor in a pod sees it: the Kubernetes API.
//!
//! Every call has a short time limit of its own, and none is repeated here: the loop of the owner's life looks
//! again, after a pause, and a report that was lost is replaced by the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use indexbuild_api::{Claim, EngineDirectory, Report, names};
use indexbuild_lifecycle::frozen::digest;
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::Record;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::backoff::Pace;
use crate::control::{ContactError, ControlPlane, StageRead, WriteError};
use crate::livez::Heartbeat;
use crate::retry_after::Asked;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The name under which an owner writes.
const FIELD_MANAGER: &str = "indexbuild-executor";

/// Which slot of which build a process speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub build_name: String,
    pub build_uid: String,
    pub slot: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("no way to the Kubernetes API: {source}; this command is run in a pod that the operator made")]
pub struct NoApi {
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Makes a client; asked again when a token was refused.
type Connect = dyn Fn() -> Result<Client, NoApi> + Send + Sync;

/// Speaks to the API server for one slot.
pub struct KubernetesControl {
    place: Place,
    connect: Box<Connect>,
    client: RwLock<Client>,
    /// The token was refused: it is read anew before the next call.
    stale: AtomicBool,
    /// The version at which the record had no status yet, where that is how it was read last.
    bare: Mutex<Option<String>>,
    asked: Asked,
    heartbeat: Arc<Heartbeat>,
}

impl KubernetesControl {
    /// By the pod's own service account.
    pub fn in_pod(place: Place, heartbeat: Arc<Heartbeat>) -> Result<Self, NoApi> {
        Self::connecting(place, heartbeat, || {
            let config = Config::incluster().map_err(|error| NoApi { source: Box::new(error) })?;
            client(config)
        })
    }

    pub fn with(place: Place, heartbeat: Arc<Heartbeat>, config: Config) -> Result<Self, NoApi> {
        Self::connecting(place, heartbeat, move || client(config.clone()))
    }

    /// By a client that is made anew whenever the token of the one before was refused; see [`client`].
    ///
    /// # Errors
    /// [`NoApi`], where the first cannot be made.
    pub fn connecting(
        place: Place,
        heartbeat: Arc<Heartbeat>,
        connect: impl Fn() -> Result<Client, NoApi> + Send + Sync + 'static,
    ) -> Result<Self, NoApi> {
        let asked = Asked::default();
        let client = RwLock::new(asked.by(connect()?));
        Ok(Self {
            place,
            connect: Box::new(connect),
            client,
            stale: AtomicBool::new(false),
            bare: Mutex::default(),
            asked,
            heartbeat,
        })
    }

    fn client(&self) -> Client {
        if self.stale.swap(false, Ordering::Relaxed) {
            match (self.connect)() {
                // The former one's connections end with the last call by it.
                Ok(fresh) => {
                    *self.client.write().unwrap_or_else(PoisonError::into_inner) = self.asked.by(fresh);
                }
                Err(error) => tracing::warn!(%error, "the token cannot be read again"),
            }
        }
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn records(&self) -> Api<EngineDirectory> {
        Api::namespaced(self.client(), &self.place.namespace)
    }

    fn record_name(&self) -> String {
        let Place { namespace: _, build_name, build_uid, slot } = &self.place;
        names::directory(build_name, build_uid, *slot)
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ContactError> {
        let error = match timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => contact(&error),
            Err(_) => ContactError::Unreachable(format!("no answer within {CALL_LIMIT:?}")),
        };
        Err(self.noted(error))
    }

    /// A token that was refused is read again before the next call.
    fn noted(&self, error: ContactError) -> ContactError {
        if matches!(error, ContactError::Refused(_)) {
            self.stale.store(true, Ordering::Relaxed);
        }
        error
    }

    /// G4: a JSON patch that adds a value replaces the whole of it; a merge patch would mix two attempts. Nothing can be
    /// added to a status that is not there: then it is made, at the version that had none.
    async fn replace<T: Serialize + Sync>(&self, field: &str, value: &T) -> Result<(), WriteError> {
        let bare = self.bare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operations = match bare {
            None => json!([{"op": "add", "path": format!("/status/{field}"), "value": value}]),
            Some(version) => json!([
                {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                {"op": "add", "path": "/status", "value": {field: value}},
            ]),
        };
        let patch = serde_json::from_value(operations)
            .map_err(|error| ContactError::Unreachable(format!("the {field} cannot be written as JSON: {error}")))?;
        self.write(&Patch::Json(patch)).await
    }

    async fn write(&self, patch: &Patch<Value>) -> Result<(), WriteError> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let records = self.records();
        let name = self.record_name();
        let error = match timeout(CALL_LIMIT, records.patch_status(&name, &parameters, patch)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => refusal(&error),
            Err(_) => ContactError::Unreachable(format!("no answer within {CALL_LIMIT:?}")).into(),
        };
        Err(match error {
            WriteError::Contact(error) => self.noted(error).into(),
            other @ (WriteError::Refused(_) | WriteError::Conflict) => other,
        })
    }

    /// Watches until the record is another one than at `version`.
    async fn watch(&self, version: &str, seconds: u32) -> Result<(), ContactError> {
        let parameters = WatchParams::default()
            .fields(&format!("metadata.name={}", self.record_name()))
            .timeout(seconds)
            .disable_bookmarks();
        let failed = |error| self.noted(contact(&error));
        let mut changes = self.records().watch(&parameters, version).await.map_err(failed)?.boxed();
        while let Some(change) = changes.try_next().await.map_err(failed)? {
            match change {
                WatchEvent::Added(record) | WatchEvent::Modified(record) => {
                    if record.resource_version().as_deref() != Some(version) {
                        return Ok(());
                    }
                }
                WatchEvent::Deleted(_) => return Ok(()),
                WatchEvent::Error(status) => return Err(failed(kube::Error::Api(status))),
                WatchEvent::Bookmark(_) => {}
            }
        }
        Err(ContactError::Unreachable("the watch of the record ended before its time".to_owned()))
    }
}

/// A client without retries and patience of its own: a call that it repeats is a call that nobody paces.
///
/// # Errors
/// [`NoApi`]: a configuration that cannot be used.
pub fn client(mut config: Config) -> Result<Client, NoApi> {
    config.default_retry = false;
    config.connect_timeout = Some(CALL_LIMIT);
    config.read_timeout = None;
    config.write_timeout = Some(CALL_LIMIT);
    Client::try_from(config).map_err(|error| NoApi { source: Box::new(error) })
}

/// What a failed read says. 401 and 403 mean "unknown" as much as a timeout does.
fn contact(error: &kube::Error) -> ContactError {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => ContactError::Refused(status.message.clone()),
        kube::Error::Api(status) => ContactError::Unreachable(format!("{} ({})", status.message, status.code)),
        other => ContactError::Unreachable(other.to_string()),
    }
}

/// What a failed write says: that of an admission rule is final for this process, that of a missing right or a
/// refused token is not.
fn refusal(error: &kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else {
        return contact(error).into();
    };
    let by_admission =
        status.message.contains("ValidatingAdmissionPolicy") || status.message.contains("denied the request");
    match status.code {
        409 => WriteError::Conflict,
        403 if by_admission => WriteError::Refused(status.message.clone()),
        // Of the schema's own rules, or of a policy that names no reason.
        422 => WriteError::Refused(status.message.clone()),
        _ => contact(error).into(),
    }
}

#[async_trait]
impl ControlPlane for KubernetesControl {
    async fn record(&self) -> Result<Option<Record>, ContactError> {
        // The loop turns: each of its turns begins here.
        self.heartbeat.beat();
        let records = self.records();
        let name = self.record_name();
        let found = self.read(records.get_opt(&name)).await?;
        let bare = found.as_ref().filter(|directory| directory.status.is_none());
        *self.bare.lock().unwrap_or_else(PoisonError::into_inner) = bare.and_then(ResourceExt::resource_version);
        Ok(found.map(|directory| Record {
            version: directory.resource_version().unwrap_or_default(),
            spec: directory.spec,
            status: directory.status.unwrap_or_default(),
        }))
    }

    async fn changed(&self, version: &str, within: Duration) -> Result<(), ContactError> {
        let seconds = u32::try_from(within.as_secs().saturating_add(1)).unwrap_or(60);
        timeout(within, self.watch(version, seconds)).await.unwrap_or(Ok(()))
    }

    async fn claim(&self, claim: Claim) -> Result<(), WriteError> {
        self.replace("claim", &claim).await
    }

    async fn report(&self, report: Report) -> Result<(), WriteError> {
        self.replace("report", &report).await
    }

    /// A merge patch: it makes the map where there is none yet, and leaves alone what others have said in it.
    async fn release(&self, word: LastWord) -> Result<(), WriteError> {
        let LastWord { pod_uid, release, outdated } = word;
        let forgotten = outdated.into_iter().map(|uid| (uid, Value::Null));
        let said: Map<String, Value> = forgotten.chain([(pod_uid, json!(release))]).collect();
        self.write(&Patch::Merge(json!({"status": {"released": said}}))).await
    }

    async fn stage(&self, name: &str) -> Result<Option<StageRead>, ContactError> {
        let Place { namespace, build_name, build_uid, slot: _ } = &self.place;
        let maps: Api<ConfigMap> = Api::namespaced(self.client(), namespace);
        let map_name = names::config_map(build_name, build_uid, name);
        let Some(map) = self.read(maps.get_opt(&map_name)).await? else {
            return Ok(None);
        };
        let text =
            map.data.as_ref().and_then(|data| data.get(names::STAGE_KEY)).map(String::as_str).unwrap_or_default();
        serde_json::from_str(text)
            .map(|stage| Some(StageRead { stage, digest: Some(digest(text)) }))
            .map_err(|error| ContactError::Unreachable(format!("ConfigMap {map_name} holds no frozen stage: {error}")))
    }

    fn pace(&self) -> Pace {
        Pace::API_SERVER
    }

    fn hold_off(&self) -> Duration {
        self.asked.left()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn said(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn a_refused_token_says_no_more_than_a_timeout() {
        for code in [401, 403] {
            assert!(matches!(contact(&said(code, "no")), ContactError::Refused(_)));
        }
        for code in [404, 429, 500, 503, 504] {
            assert!(matches!(contact(&said(code, "no")), ContactError::Unreachable(_)), "{code}");
        }
    }

    #[test]
    fn a_rule_that_refuses_a_write_is_told_from_a_right_that_is_missing() {
        let policy = "enginedirectories \"x\" is forbidden: ValidatingAdmissionPolicy 'owner' with binding 'owner' denied request: only the owner";
        let rights = "enginedirectories \"x\" is forbidden: User \"u\" cannot patch resource";
        assert!(matches!(refusal(&said(403, policy)), WriteError::Refused(_)));
        assert!(matches!(refusal(&said(422, policy)), WriteError::Refused(_)));
        assert!(matches!(refusal(&said(403, rights)), WriteError::Contact(ContactError::Refused(_))));
        assert!(matches!(refusal(&said(401, "Unauthorized")), WriteError::Contact(ContactError::Refused(_))));
        assert_eq!(refusal(&said(409, "changed")), WriteError::Conflict);
        assert!(matches!(refusal(&said(503, "busy")), WriteError::Contact(ContactError::Unreachable(_))));
    }
}
