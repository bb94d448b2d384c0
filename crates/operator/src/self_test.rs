//! Tries whether the API server refuses reports from others than the owner, by a dry-run report of the operator's own
//! on a real record, and stages that can be changed, by a dry-run one beside it. That a policy exists would say little: it
//! may match nothing, only warn, or have no binding.

use std::time::{Duration, Instant};

use indexbuild_api::{EngineDirectory, Epoch, Guarded, Report, StageName, labels};
use indexbuild_lifecycle::admission::{FROZEN_IS_IMMUTABLE, Refusal};
use indexbuild_lifecycle::world::Enforcement;
use indexbuild_text::bounded;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

/// How often an answer is looked at again: somebody may remove the policy, or its binding.
const AGAIN: Duration = Duration::from_secs(600);
/// How often while the answer is not the wanted one. A policy that was just installed takes effect after seconds.
const SOONER: Duration = Duration::from_secs(30);
/// How long the API server has for one try.
const TRYING: Duration = Duration::from_secs(10);
/// How many records are tried when one is gone already.
const CANDIDATES: usize = 3;
/// How much of the API server's words is passed on.
const LONGEST: usize = 512;

/// What it means where the rule about frozen stages does not hold.
const UNGUARDED_STAGES: &str = "The API server would have accepted a frozen stage that can be changed: whoever may write \
    ConfigMaps can make, change and remove those of builds. The operator believes none of it, and a build of which one is \
    gone or is another one stands still. Install the ValidatingAdmissionPolicies of the chart, with their bindings.";

const fn valid_for(answer: &Enforcement) -> Duration {
    match answer {
        Enforcement::Enforced => AGAIN,
        Enforcement::NotEnforced { .. } | Enforcement::Unknown { .. } | Enforcement::Untried { .. } => SOONER,
    }
}

/// What the API server said to the trial.
#[derive(Clone, Copy, Debug)]
enum Reply<'a> {
    /// It would have been written.
    Accepted,
    Refused {
        code: u16,
        message: &'a str,
    },
    /// No answer, or none of the API server's.
    Failed {
        why: &'a str,
    },
}

/// The trial, and its last answer.
#[derive(Debug)]
pub struct SelfTest {
    answer: Enforcement,
    at: Option<Instant>,
}

impl Default for SelfTest {
    fn default() -> Self {
        Self::new()
    }
}

impl SelfTest {
    #[must_use]
    pub fn new() -> Self {
        Self { answer: no_record(), at: None }
    }

    pub const fn answer(&self) -> &Enforcement {
        &self.answer
    }

    /// Whether it is time to try again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= valid_for(&self.answer))
    }

    /// Tries it on one of these records: only one that exists can be tried on. The API server looks an object up before
    /// it asks its policies, so a report to a record that is not there is answered by 404 and shows nothing; nor can a
    /// record be made for it by a dry run. So before the first build of a cluster the answer is unknown.
    pub async fn run<'a>(
        &mut self,
        client: &Client,
        records: impl IntoIterator<Item = &'a EngineDirectory>,
    ) -> &Enforcement {
        let mut answer = no_record();
        for record in records.into_iter().take(CANDIDATES) {
            match try_on(client, record).await {
                // The rest is tried where the first rule holds: one answer says what is missing.
                Some(Enforcement::Enforced) => {
                    answer = try_stage(client, record).await;
                    break;
                }
                Some(found) => {
                    answer = found;
                    break;
                }
                None => answer = Enforcement::Untried { why: gone(record) },
            }
        }
        // That a record was gone says nothing about the rule: what was found out before stands.
        if matches!(answer, Enforcement::Untried { .. }) && !matches!(self.answer, Enforcement::Untried { .. }) {
            answer = self.answer.clone();
        }
        if answer != self.answer {
            match &answer {
                Enforcement::Enforced => info!("reports from others than the owner are refused by the API server"),
                Enforcement::NotEnforced { message } => warn!(message, "ownership is not enforced"),
                Enforcement::Unknown { why } | Enforcement::Untried { why } => {
                    warn!(why, "it is not known whether ownership is enforced");
                }
            }
        }
        self.answer = answer;
        self.at = Some(Instant::now());
        &self.answer
    }
}

fn no_record() -> Enforcement {
    Enforcement::Untried {
        why: "Not tried yet: it is tried on the first EngineDirectory that exists, and there is none.".to_owned(),
    }
}

fn full_name(record: &EngineDirectory) -> String {
    format!("{}/{}", record.namespace().unwrap_or_default(), record.name_any())
}

fn gone(record: &EngineDirectory) -> String {
    format!("EngineDirectory {} was gone when it was to be tried on; it is tried again.", full_name(record))
}

/// Tries it on one record; `None` when that is gone.
async fn try_on(client: &Client, record: &EngineDirectory) -> Option<Enforcement> {
    let name = record.name_any();
    let api: Api<Guarded<EngineDirectory>> = match record.namespace() {
        Some(namespace) => Api::namespaced(client.clone(), &namespace),
        None => return None,
    };
    let patch = Patch::Merge(json!({"status": {"report": trial(record, Timestamp::now())}}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let tried = tokio::time::timeout(TRYING, api.patch_status(&name, &params, &patch)).await;
    let words;
    let reply = match &tried {
        Ok(Ok(_)) => Reply::Accepted,
        Ok(Err(Error::Api(status))) if status.code == 404 => return None,
        Ok(Err(Error::Api(status))) => Reply::Refused { code: status.code, message: &status.message },
        Ok(Err(error)) => {
            words = error.to_string();
            Reply::Failed { why: &words }
        }
        Err(_) => Reply::Failed { why: "no answer within 10 s" },
    };
    Some(classify(reply, &full_name(record)))
}

/// Tries whether the rule about frozen stages holds beside a record: one that can be changed is refused to the operator too.
async fn try_stage(client: &Client, record: &EngineDirectory) -> Enforcement {
    let namespace = record.namespace().unwrap_or_default();
    let mut labels = labels::of_build(&record.spec.build_name, &record.spec.build_uid);
    labels.insert(labels::STAGE.to_owned(), StageName::Plan.to_string());
    let name = format!("{}-trial", record.name_any());
    let metadata = ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
    let trial = Guarded::readable(ConfigMap { metadata, ..ConfigMap::default() });
    let api: Api<Guarded<ConfigMap>> = Api::namespaced(client.clone(), &namespace);
    let parameters = PostParams { dry_run: true, field_manager: None };
    let tried = tokio::time::timeout(TRYING, api.create(&parameters, &trial)).await;
    match tried {
        Ok(Ok(_)) => Enforcement::NotEnforced { message: UNGUARDED_STAGES.to_owned() },
        Ok(Err(Error::Api(status))) if status.message.contains(FROZEN_IS_IMMUTABLE) => Enforcement::Enforced,
        Ok(Err(Error::Api(status))) => {
            let said = bounded(&status.message, LONGEST);
            let why = format!(
                "A trial of the rule about frozen stages in namespace {namespace} was refused, but not by that rule. The API \
                 server said ({}): {said}",
                status.code
            );
            Enforcement::Unknown { why }
        }
        Ok(Err(error)) => Enforcement::Unknown { why: unanswered(&error.to_string()) },
        Err(_) => Enforcement::Unknown { why: unanswered("no answer within 10 s") },
    }
}

fn unanswered(why: &str) -> String {
    format!("A trial was not answered; it is repeated: {}", bounded(why, LONGEST))
}

/// A report that breaks no rule but the one about owners: else another refusal would come first.
fn trial(record: &EngineDirectory, now: Timestamp) -> Report {
    let grant = record.spec.grant.clone().unwrap_or_default();
    let said = record.status.as_ref().and_then(|status| status.report.clone());
    let current = said.filter(|report| report.epoch == grant.epoch && report.boot_nonce == grant.boot_nonce);
    let fresh =
        || Report { epoch: grant.epoch.max(Epoch::FIRST), boot_nonce: grant.boot_nonce.clone(), ..Report::default() };
    Report { renew_time: now.to_string(), ..current.unwrap_or_else(fresh) }
}

/// What a reply says about the rule.
fn classify(reply: Reply<'_>, record: &str) -> Enforcement {
    match reply {
        Reply::Accepted => Enforcement::NotEnforced {
            message: format!(
                "The API server would have accepted a report about EngineDirectory {record} from the operator, which \
                 is not its owner: a former owner that comes back is not stopped by the API server either, only by its \
                 own checks. Install the ValidatingAdmissionPolicies of the chart, with their bindings."
            ),
        },
        Reply::Refused { code, message } => {
            let said = bounded(message, LONGEST);
            if message.contains(&Refusal::NotOwner.to_string()) {
                Enforcement::Enforced
            } else if code == 403 && message.contains("cannot patch resource") {
                let why = format!(
                    "Not tried: the operator lacks the permission to patch enginedirectories/status. Grant it, as the \
                     chart's role does. The API server said: {said}"
                );
                Enforcement::Unknown { why }
            } else if (400..500).contains(&code) && code != 409 && code != 429 {
                let why = format!(
                    "A trial report about EngineDirectory {record} was refused, but not by the rule about owners, \
                     which therefore is not known to hold. The API server said ({code}): {said}"
                );
                Enforcement::Unknown { why }
            } else {
                Enforcement::Unknown { why: format!("A trial was not answered; it is repeated. HTTP {code}: {said}") }
            }
        }
        Reply::Failed { why } => Enforcement::Unknown { why: unanswered(why) },
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{EngineDirectorySpec, EngineDirectoryStatus, Grant, WorkResult};
    use indexbuild_lifecycle::admission::{OPERATOR, review_status};
    use indexbuild_lifecycle::world::Record;

    use super::*;

    const BY_POLICY: &str = "enginedirectories.indexbuild.dev \"orders-0123abcd-0\" is forbidden: \
        ValidatingAdmissionPolicy 'indexbuild-owner' with binding 'indexbuild-owner' denied request: only the owner of \
        the current grant may write status.claim and status.report";

    fn refused(code: u16, message: &str) -> Enforcement {
        classify(Reply::Refused { code, message }, "shop/orders-0123abcd-0")
    }

    #[test]
    fn only_the_refusal_of_the_rule_about_owners_counts_as_enforced() {
        assert_eq!(refused(403, BY_POLICY), Enforcement::Enforced);
        assert_eq!(refused(422, BY_POLICY), Enforcement::Enforced, "a policy may name another reason than Forbidden");
        for (code, message) in [
            (
                403,
                "enginedirectories.indexbuild.dev \"a\" is forbidden: User \"x\" cannot patch resource \"enginedirectories/status\" in API group \"indexbuild.dev\"",
            ),
            (
                403,
                "ValidatingAdmissionPolicy 'indexbuild-owner' with binding 'indexbuild-owner' denied request: expression 'x' resulted in error: no such key: grant",
            ),
            (403, "ValidatingAdmissionPolicy 'other' with binding 'other' denied request: not on Sundays"),
            (400, "admission webhook \"x.example.com\" denied the request: dry run is not supported"),
            (422, "EngineDirectory.indexbuild.dev \"a\" is invalid: status.report.epoch: Invalid value: 0"),
            (401, "Unauthorized"),
            (409, "the object has been modified"),
            (429, "too many requests"),
            (500, "internal error"),
            (503, "unavailable"),
        ] {
            let answer = refused(code, message);
            assert!(
                matches!(&answer, Enforcement::Unknown { why } if why.contains(message)),
                "{code} {message}: {answer:?}"
            );
        }
        let lacks = refused(403, "User \"x\" cannot patch resource \"enginedirectories/status\"");
        assert!(matches!(lacks, Enforcement::Unknown { why } if why.contains("Grant it")));
    }

    #[test]
    fn an_accepted_trial_says_what_that_means_and_a_silence_says_nothing() {
        let Enforcement::NotEnforced { message } = classify(Reply::Accepted, "shop/a") else { panic!("accepted") };
        assert!(message.contains("shop/a") && message.contains("Install"), "{message}");
        let silent = classify(Reply::Failed { why: "connection refused" }, "shop/a");
        assert!(matches!(silent, Enforcement::Unknown { .. }));
    }

    #[test]
    fn the_answer_is_looked_at_again_and_sooner_while_it_is_not_the_wanted_one() {
        let mut test = SelfTest::new();
        let now = Instant::now();
        assert!(test.is_due(now));
        for (answer, seconds) in [
            (Enforcement::Enforced, 600),
            (Enforcement::NotEnforced { message: String::new() }, 30),
            (Enforcement::Unknown { why: String::new() }, 30),
        ] {
            test = SelfTest { answer, at: Some(now) };
            assert!(!test.is_due(now + Duration::from_secs(seconds - 1)));
            assert!(test.is_due(now + Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn the_trial_breaks_the_rule_about_owners_and_no_other() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let grant = |nonce: &str| Grant { epoch: Epoch::new(4), boot_nonce: nonce.to_owned(), ..Grant::default() };
        let report = |epoch| Report {
            epoch,
            boot_nonce: "n".to_owned(),
            renew_time: "2020-01-01T00:00:00Z".to_owned(),
            result: Some(WorkResult { work_id: "w".to_owned(), epoch, ..WorkResult::default() }),
            ..Report::default()
        };
        for (grant, said) in [
            (None, None),
            (Some(grant("")), None),
            (Some(grant("n")), None),
            (Some(grant("n")), Some(report(Epoch::new(4)))),
            (Some(grant("n")), Some(report(Epoch::new(3)))),
            (Some(grant("m")), Some(report(Epoch::new(4)))),
        ] {
            let spec = EngineDirectorySpec { grant: grant.clone(), ..EngineDirectorySpec::default() };
            let mut directory = EngineDirectory::new("a", spec.clone());
            let status = EngineDirectoryStatus { report: said, ..EngineDirectoryStatus::default() };
            directory.status = Some(status.clone());
            let trial = trial(&directory, now);
            assert!(trial.epoch >= Epoch::new(1), "the schema's bound");
            assert_ne!(Some(&trial), status.report.as_ref(), "what changes nothing is not refused");
            if let Some(grant) = &grant {
                assert_eq!((trial.epoch, &trial.boot_nonce), (grant.epoch, &grant.boot_nonce));
            }
            let record = Record { spec, status: status.clone(), ..record() };
            let new = EngineDirectoryStatus { report: Some(trial), ..status };
            assert_eq!(review_status(&record, &new, OPERATOR), Err(Refusal::NotOwner));
        }
    }

    fn record() -> Record {
        Record::default()
    }

    #[tokio::test]
    async fn without_a_record_nothing_is_asked_and_nothing_is_claimed() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let mut test = SelfTest::new();
        assert_eq!(test.run(&client, []).await, &no_record());
        assert!(!test.is_due(Instant::now()));
    }
}
