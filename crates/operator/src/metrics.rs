//! What the operator counts, in the OpenMetrics text format. No names of objects and no error texts as labels: their
//! number has no bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use indexbuild_api::{DirectoryState, Phase, Reason, VolumeCounts};
use indexbuild_lifecycle::Action;
use indexbuild_lifecycle::world::Enforcement;
use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::server_time::ServerTime;

/// The type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All phases: a phase that no build is in is shown as 0, and not as a gap.
const PHASES: [Phase; 10] = [
    Phase::Pending,
    Phase::Planning,
    Phase::Encoding,
    Phase::Sorting,
    Phase::Publishing,
    Phase::Cleaning,
    Phase::Suspended,
    Phase::Aborting,
    Phase::Complete,
    Phase::Failed,
];

const STATES: [DirectoryState; 10] = [
    DirectoryState::Idle,
    DirectoryState::Starting,
    DirectoryState::Working,
    DirectoryState::Waiting,
    DirectoryState::Silent,
    DirectoryState::Stopping,
    DirectoryState::Suspended,
    DirectoryState::BackingOff,
    DirectoryState::Finished,
    DirectoryState::Tombstone,
];

const WATCHED: [&str; 6] = ["IndexBuild", "EngineDirectory", "Pod", "PersistentVolumeClaim", "ConfigMap", "Node"];

/// What a request does, in the words of the API's permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    Other,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Status(u16),
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileResult {
    /// Everything that was decided was done.
    Success,
    /// Something failed and is tried again.
    Error,
}

/// How a build has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuildEnd {
    Complete,
    Failed,
}

/// A label's value that is a name of a closed set, or a kind of the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(std::borrow::Cow<'static, str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0)
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(name.into())
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: Name),+ }
    )+};
}

labels! {
    InPhase { phase }
    WithResult { result }
    OfAction { action }
    InState { state }
    OfClass { class }
    OfRequest { verb, kind, code }
    OfKind { kind }
    OfReason { reason }
}

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    builds: Family<InPhase, Gauge>,
    ended: Family<WithResult, Counter>,
    stalled: Family<OfReason, Gauge>,
    /// The reasons that builds were stalled for so far: those of none now are shown as 0, and not as a gap.
    stalled_for: Arc<Mutex<BTreeSet<Reason>>>,
    reconcile_duration: Histogram,
    reconciles: Family<WithResult, Counter>,
    reconcile_errors: Counter,
    actions: Family<OfAction, Counter>,
    slots: Family<InState, Gauge>,
    volumes: Family<OfClass, Gauge>,
    unreadable: Family<OfKind, Gauge>,
    leader: Gauge,
    ownership: Gauge,
    requests: Family<OfRequest, Counter>,
    start: Gauge<f64, AtomicU64>,
    clock: Gauge,
    left_behind: Family<OfReason, Counter>,
    /// The API server's clock, which its answers tell as they are counted.
    server_time: ServerTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from zero.
    #[must_use]
    pub fn new() -> Self {
        let mut this = Self {
            registry: Arc::default(),
            builds: Family::default(),
            reconcile_duration: Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0]),
            reconciles: Family::default(),
            reconcile_errors: Counter::default(),
            actions: Family::default(),
            slots: Family::default(),
            volumes: Family::default(),
            unreadable: Family::default(),
            ended: Family::default(),
            stalled: Family::default(),
            stalled_for: Arc::default(),
            leader: Gauge::default(),
            ownership: Gauge::default(),
            requests: Family::default(),
            start: Gauge::default(),
            clock: Gauge::default(),
            left_behind: Family::default(),
            server_time: ServerTime::default(),
        };
        let mut root = Registry::default();
        let ours = root.sub_registry_with_prefix("indexbuild");
        ours.register("builds", "Builds by phase", this.builds.clone());
        ours.register(
            "builds_ended",
            "Builds whose end this process has written: complete or failed; those that had ended before it began are in none",
            this.ended.clone(),
        );
        ours.register(
            "builds_stalled",
            "Builds that cannot go on without somebody's help, by the reason of their condition Stalled; failed ones are in none",
            this.stalled.clone(),
        );
        ours.register_with_unit(
            "reconcile_duration",
            "How long one pass over a build takes",
            Unit::Seconds,
            this.reconcile_duration.clone(),
        );
        ours.register("reconcile", "Passes over builds by result", this.reconciles.clone());
        ours.register("reconcile_errors", "Passes over builds that failed", this.reconcile_errors.clone());
        ours.register("actions", "Actions that were carried out", this.actions.clone());
        ours.register("slots", "Slots of all builds by state", this.slots.clone());
        ours.register(
            "volumes",
            "Volumes of all builds: held, of them stranded (no proof that the former owner is gone) and retained",
            this.volumes.clone(),
        );
        ours.register(
            "unreadable_objects",
            "Objects that are there and cannot be read, by kind; nothing is decided about their builds",
            this.unreadable.clone(),
        );
        ours.register("leader", "1 in the process that leads", this.leader.clone());
        ours.register(
            "ownership_enforced",
            "1 when the API server refuses reports from others than the owner, 0 when it does not, -1 when unknown",
            this.ownership.clone(),
        );
        ours.register("api_requests", "Requests to the Kubernetes API; code none: no answer", this.requests.clone());
        ours.register_with_unit(
            "api_clock_ahead",
            "How far the API server's clock, by which deadlines are judged, is ahead of this process's",
            Unit::Seconds,
            this.clock.clone(),
        );
        ours.register(
            "left_behind",
            "Builds that were let go though something of them stays that nobody looks after; the log and an event name the place",
            this.left_behind.clone(),
        );
        root.register_with_unit("process_start_time", "When the process began", Unit::Seconds, this.start.clone());
        this.registry = Arc::new(root);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        this.start.set(now.map_or(0.0, |time| time.as_secs_f64()));
        this.set_builds([]);
        this.set_slots([]);
        this.set_volumes(VolumeCounts::default());
        this.set_unreadable(&BTreeMap::new());
        this.set_leader(false);
        this.set_ownership(&Enforcement::Unknown { why: String::new() });
        for reason in [Reason::NamespaceDeleted, Reason::CleanupTimedOut] {
            drop(this.left_behind.get_or_create(&with_reason(reason)));
        }
        for end in [BuildEnd::Complete, BuildEnd::Failed] {
            drop(this.ended.get_or_create(&with_end(end)));
        }
        for result in [ReconcileResult::Success, ReconcileResult::Error] {
            drop(this.reconciles.get_or_create(&with_result(result)));
        }
        this
    }

    /// The phases of all builds, each build once.
    pub fn set_builds(&self, builds: impl IntoIterator<Item = Phase>) {
        let all: Vec<Phase> = builds.into_iter().collect();
        for phase in PHASES {
            let count = all.iter().filter(|other| **other == phase).count();
            self.builds.get_or_create(&InPhase { phase: phase_name(phase).into() }).set(whole(count));
        }
    }

    /// One build whose end was written.
    pub fn ended(&self, end: BuildEnd) {
        self.ended.get_or_create(&with_end(end)).inc();
    }

    /// Why builds are stalled, each build that is once.
    pub fn set_stalled(&self, builds: impl IntoIterator<Item = Reason>) {
        let all: Vec<Reason> = builds.into_iter().collect();
        let mut known = self.stalled_for.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(&all);
        for reason in known.iter() {
            let count = all.iter().filter(|other| *other == reason).count();
            self.stalled.get_or_create(&with_reason(*reason)).set(whole(count));
        }
    }

    /// The states of all slots, each slot once.
    pub fn set_slots(&self, slots: impl IntoIterator<Item = DirectoryState>) {
        let all: Vec<DirectoryState> = slots.into_iter().collect();
        for state in STATES {
            let count = all.iter().filter(|other| **other == state).count();
            self.slots.get_or_create(&InState { state: state_name(state).into() }).set(whole(count));
        }
    }

    /// The volumes of all builds together.
    pub fn set_volumes(&self, counts: VolumeCounts) {
        let VolumeCounts { held, stranded, retained } = counts;
        for (class, count) in [("held", held), ("stranded", stranded), ("retained", retained)] {
            self.volumes.get_or_create(&OfClass { class: class.into() }).set(i64::from(count));
        }
    }

    /// How many objects of each kind cannot be read.
    pub fn set_unreadable(&self, counts: &BTreeMap<String, usize>) {
        for kind in WATCHED {
            let count = counts.get(kind).copied().unwrap_or_default();
            self.unreadable.get_or_create(&OfKind { kind: kind.into() }).set(whole(count));
        }
    }

    /// One pass over a build.
    pub fn reconciled(&self, result: ReconcileResult, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
        self.reconciles.get_or_create(&with_result(result)).inc();
        if result == ReconcileResult::Error {
            self.reconcile_errors.inc();
        }
    }

    /// One action that was carried out.
    pub fn acted(&self, action: &Action) {
        self.actions.get_or_create(&OfAction { action: action.name().into() }).inc();
    }

    /// One build that was let go though something of it stays.
    pub fn left_behind(&self, reason: Reason) {
        self.left_behind.get_or_create(&with_reason(reason)).inc();
    }

    /// The API server's time now; `None`: none of its answers told it.
    pub(crate) fn server_time(&self) -> Option<Timestamp> {
        self.server_time.at(Instant::now())
    }

    /// An answer of the API server, which tells its time.
    pub(crate) fn answered(&self, headers: &HeaderMap) {
        if let Some(ahead) = self.server_time.note(headers, Instant::now(), Timestamp::now()) {
            self.clock.set(ahead.as_secs());
        }
    }

    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Whether reports are accepted from the owner alone.
    pub fn set_ownership(&self, enforcement: &Enforcement) {
        self.ownership.set(match enforcement {
            Enforcement::Enforced => 1,
            Enforcement::NotEnforced { .. } => 0,
            Enforcement::Unknown { .. } | Enforcement::Untried { .. } => -1,
        });
    }

    /// One request to the API. `kind` is a resource's plural, never the name of an object.
    pub fn api_request(&self, verb: Verb, kind: &str, code: Code) {
        let code = match code {
            Code::Status(status) => Name(status.to_string().into()),
            Code::None => "none".into(),
        };
        let labels = OfRequest { verb: verb_name(verb).into(), kind: Name(kind.to_owned().into()), code };
        self.requests.get_or_create(&labels).inc();
    }

    /// The reference of all metrics in Markdown, from what is registered: each with its kind, its labels and its meaning.
    pub fn reference(&self) -> Result<String, std::fmt::Error> {
        // Families that are empty until something happens show their labels too.
        self.reconciled(ReconcileResult::Success, Duration::ZERO);
        self.acted(&Action::AddFinalizer);
        self.set_stalled([Reason::WaitingForVolume]);
        self.api_request(Verb::Get, "-", Code::None);
        let text = self.text()?;
        let mut page = String::new();
        let rest = |line: &str, kind: &str| {
            let words = line.strip_prefix(kind)?;
            words.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        };
        let mut help = Vec::new();
        for line in text.lines() {
            if let Some((name, meaning)) = rest(line, "# HELP ") {
                help.push((name, meaning));
            }
        }
        for (name, meaning) in help {
            let kind = text.lines().filter_map(|line| rest(line, "# TYPE ")).find(|(other, _)| *other == name);
            let kind = kind.map(|(_, kind)| kind).unwrap_or_default();
            let shown = if kind == "counter" { format!("{name}_total") } else { name.clone() };
            let sample =
                text.lines().find(|line| line.strip_prefix(shown.as_str()).is_some_and(|rest| rest.starts_with('{')));
            let labels: Vec<&str> = sample
                .and_then(|line| line.split_once('{')?.1.split_once('}'))
                .map(|(labels, _)| labels.split(',').filter_map(|label| label.split('=').next()).collect())
                .unwrap_or_default();
            let labels: Vec<String> =
                labels.into_iter().filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
            let meaning = meaning.trim_end_matches('.');
            writeln!(page, "| `{shown}` | {kind} | {} | {meaning} |", labels.join(" "))?;
        }
        Ok(page)
    }

    /// All of it, as text of type [`CONTENT_TYPE`].
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn with_reason(reason: Reason) -> OfReason {
    OfReason { reason: Name(reason.to_string().into()) }
}

fn with_end(end: BuildEnd) -> WithResult {
    let name = match end {
        BuildEnd::Complete => "complete",
        BuildEnd::Failed => "failed",
    };
    WithResult { result: name.into() }
}

fn with_result(result: ReconcileResult) -> WithResult {
    let name = match result {
        ReconcileResult::Success => "success",
        ReconcileResult::Error => "error",
    };
    WithResult { result: name.into() }
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Planning => "Planning",
        Phase::Encoding => "Encoding",
        Phase::Sorting => "Sorting",
        Phase::Publishing => "Publishing",
        Phase::Cleaning => "Cleaning",
        Phase::Suspended => "Suspended",
        Phase::Aborting => "Aborting",
        Phase::Complete => "Complete",
        Phase::Failed => "Failed",
    }
}

const fn state_name(state: DirectoryState) -> &'static str {
    match state {
        DirectoryState::Idle => "Idle",
        DirectoryState::Starting => "Starting",
        DirectoryState::Working => "Working",
        DirectoryState::Waiting => "Waiting",
        DirectoryState::Silent => "Silent",
        DirectoryState::Stopping => "Stopping",
        DirectoryState::Suspended => "Suspended",
        DirectoryState::BackingOff => "BackingOff",
        DirectoryState::Finished => "Finished",
        DirectoryState::Tombstone => "Tombstone",
    }
}

const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::List => "list",
        Verb::Watch => "watch",
        Verb::Create => "create",
        Verb::Update => "update",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
        Verb::DeleteCollection => "deletecollection",
        Verb::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_name_its_labels_and_its_number() {
        let metrics = Metrics::new();
        metrics.set_builds([Phase::Sorting, Phase::Sorting, Phase::Failed]);
        metrics.set_slots([DirectoryState::Working, DirectoryState::Silent]);
        metrics.set_volumes(VolumeCounts { held: 3, stranded: 1, retained: 2 });
        metrics.set_unreadable(&BTreeMap::from([("Pod".to_owned(), 2)]));
        metrics.reconciled(ReconcileResult::Success, Duration::from_millis(20));
        metrics.reconciled(ReconcileResult::Error, Duration::from_secs(2));
        metrics.acted(&Action::AddFinalizer);
        metrics.left_behind(Reason::NamespaceDeleted);
        metrics.ended(BuildEnd::Failed);
        metrics.set_stalled([Reason::WaitingForVolume, Reason::MissingPermission]);
        metrics.set_stalled([Reason::MissingPermission, Reason::MissingPermission]);
        metrics.set_leader(true);
        metrics.set_ownership(&Enforcement::NotEnforced { message: String::new() });
        metrics.api_request(Verb::Patch, "enginedirectories/status", Code::Status(409));
        metrics.api_request(Verb::Watch, "pods", Code::None);
        let text = metrics.text().unwrap();
        for line in [
            r#"indexbuild_builds{phase="Sorting"} 2"#,
            r#"indexbuild_builds{phase="Failed"} 1"#,
            r#"indexbuild_builds{phase="Pending"} 0"#,
            r#"indexbuild_slots{state="Silent"} 1"#,
            r#"indexbuild_slots{state="Idle"} 0"#,
            r#"indexbuild_volumes{class="held"} 3"#,
            r#"indexbuild_volumes{class="stranded"} 1"#,
            r#"indexbuild_volumes{class="retained"} 2"#,
            "indexbuild_reconcile_duration_seconds_count 2",
            r#"indexbuild_reconcile_duration_seconds_bucket{le="0.05"} 1"#,
            r#"indexbuild_reconcile_total{result="success"} 1"#,
            r#"indexbuild_reconcile_total{result="error"} 1"#,
            "indexbuild_reconcile_errors_total 1",
            r#"indexbuild_actions_total{action="AddFinalizer"} 1"#,
            r#"indexbuild_unreadable_objects{kind="Pod"} 2"#,
            r#"indexbuild_unreadable_objects{kind="IndexBuild"} 0"#,
            r#"indexbuild_left_behind_total{reason="NamespaceDeleted"} 1"#,
            r#"indexbuild_left_behind_total{reason="CleanupTimedOut"} 0"#,
            r#"indexbuild_builds_ended_total{result="failed"} 1"#,
            r#"indexbuild_builds_ended_total{result="complete"} 0"#,
            r#"indexbuild_builds_stalled{reason="MissingPermission"} 2"#,
            r#"indexbuild_builds_stalled{reason="WaitingForVolume"} 0"#,
            "indexbuild_leader 1",
            "indexbuild_ownership_enforced 0",
            r#"indexbuild_api_requests_total{verb="patch",kind="enginedirectories/status",code="409"} 1"#,
            r#"indexbuild_api_requests_total{verb="watch",kind="pods",code="none"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_there_no_more_is_shown_as_none() {
        let metrics = Metrics::new();
        metrics.set_builds([Phase::Sorting]);
        metrics.set_builds([Phase::Complete]);
        assert!(metrics.text().unwrap().contains(r#"indexbuild_builds{phase="Sorting"} 0"#));
    }

    #[test]
    fn every_phase_and_state_is_listed_once() {
        let phases: std::collections::BTreeSet<&str> = PHASES.into_iter().map(phase_name).collect();
        assert_eq!(phases.len(), PHASES.len());
        let states: std::collections::BTreeSet<&str> = STATES.into_iter().map(state_name).collect();
        assert_eq!(states.len(), STATES.len());
        for (name, schema) in [("phase", &phases), ("state", &states)] {
            assert!(crd_enum(name).iter().all(|value| schema.contains(value.as_str())), "{name}");
        }
    }

    /// The values that the CRDs' schemas allow for a status field.
    fn crd_enum(field: &str) -> Vec<String> {
        let found: Vec<String> = indexbuild_api::crds()
            .iter()
            .map(|crd| serde_json::to_value(crd).unwrap())
            .filter_map(|crd| {
                let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
                status["properties"][field]["enum"].as_array().cloned()
            })
            .flatten()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        assert!(found.len() >= 10, "{field}: {found:?}");
        found
    }
}
