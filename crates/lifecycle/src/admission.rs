//! Who may change what in the record of ownership: the admission policy and the schema's rules, as pure
//! functions. A local run's parent asks them; to the API server's own policy they are the oracle.

use std::collections::BTreeMap;

use indexbuild_api::{
    Chosen, EngineDirectorySpec, EngineDirectoryStatus, FormerVolume, Grant, Release, Report, VolumeRef,
};

use crate::release;
use crate::world::Record;

/// The caller that is no pod of the build: the control plane itself.
pub const OPERATOR: &str = "";

/// What the API server says to anybody but the operator who makes a record, or writes a record's spec.
pub const ONLY_THE_OPERATOR: &str = "only the operator grants, chooses and condemns";

/// What the API server says to anybody but the operator who makes, changes or removes a frozen stage or a build's file.
pub const ONLY_THE_OPERATOR_FREEZES: &str = "only the operator freezes stages and writes a build's file";

/// What it says to whoever makes a frozen stage that can be changed afterwards, be it the operator.
pub const FROZEN_IS_IMMUTABLE: &str = "a frozen stage is immutable";

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("only the owner of the current grant may write status.claim and status.report")]
    NotOwner,
    #[error("only the operator may write this part of status")]
    NotOperator,
    #[error("a report speaks for the granted epoch and boot nonce")]
    StaleReport,
    #[error("only a volume's last owner says that it has released it, once")]
    ForeignRelease,
    #[error("a release stays as long as the record knows its owner")]
    ReleaseTakenBack,
    #[error("an owner that has released its volume says nothing more")]
    AfterRelease,
    #[error("a claim names its caller")]
    ForeignClaim,
    #[error("one boot nonce per pod: this pod has claimed already")]
    SecondClaim,
    #[error("a result is of the granted epoch and work")]
    StaleResult,
    #[error("a result, once reported, does not change within its epoch")]
    ResultChanged,
    #[error("the slot's identity is immutable")]
    Identity,
    #[error(
        "the epoch rises by one with every change of owner; within an epoch podUID, bootNonce and the machine are set once"
    )]
    Grant,
    /// A machine that nobody spoke of: it would be evidence about the wrong process.
    #[error("the machine is that of a bound process: a node of its pod, a boot id of its nonce, a systemUUID of both")]
    Machine,
    #[error("a change of work raises the epoch")]
    Work,
    /// There is work, and nobody to do it.
    #[error("work needs a grant")]
    WorkWithoutGrant,
    #[error("another volume has a higher generation; within a generation claimUID is set once")]
    Volume,
    #[error("a condemned volume stays condemned")]
    Pardon,
    #[error("nothing is granted on a condemned volume")]
    GrantOnCondemned,
    #[error("what was chosen for a work never changes")]
    Choice,
    #[error(
        "that a volume was attached is said in the write that binds the process, once, and goes with that process alone"
    )]
    Attached,
}

/// Whether the write of a status is allowed to a caller: the UID of the pod that its token names, or
/// [`OPERATOR`].
///
/// # Errors
/// The rule that refuses it.
pub fn review_status(record: &Record, new_status: &EngineDirectoryStatus, caller_pod_uid: &str) -> Result<(), Refusal> {
    let old = &record.status;
    let EngineDirectoryStatus { state, conditions, history, claim, report, released } = new_status;
    let grant = record.spec.grant.as_ref();
    let owner = !caller_pod_uid.is_empty() && grant.is_some_and(|grant| grant.pod_uid == caller_pod_uid);
    let claims = *claim != old.claim;
    let reports = *report != old.report;
    let decides = *state != old.state || *conditions != old.conditions || *history != old.history;

    if (claims || reports) && !owner {
        return Err(Refusal::NotOwner);
    }
    if decides && caller_pod_uid != OPERATOR {
        return Err(Refusal::NotOperator);
    }
    if (claims || reports) && old.released.contains_key(caller_pod_uid) {
        return Err(Refusal::AfterRelease);
    }
    review_released(record, released, caller_pod_uid)?;
    if reports && let (Some(report), Some(grant)) = (report, grant) {
        review_report(record, grant, report)?;
    }
    if reports
        && let Some(before) = &old.report
        && let (Some(result), Some(grant)) = (&before.result, grant)
        && before.epoch == grant.epoch
        && report.as_ref().and_then(|report| report.result.as_ref()) != Some(result)
    {
        return Err(Refusal::ResultChanged);
    }
    if claims {
        if claim.as_ref().is_some_and(|claim| claim.pod_uid != caller_pod_uid) {
            return Err(Refusal::ForeignClaim);
        }
        if let Some(before) = &old.claim
            && claim.as_ref().is_none_or(|claim| claim.pod_uid == before.pod_uid)
        {
            return Err(Refusal::SecondClaim);
        }
    }
    Ok(())
}

/// The word of an owner about its own volume: evidence, and so nobody else's, said once, and never taken back.
fn review_released(record: &Record, new: &BTreeMap<String, Release>, caller_pod_uid: &str) -> Result<(), Refusal> {
    let (spec, old) = (&record.spec, &record.status.released);
    let mut said = new.iter().filter(|(uid, release)| old.get(*uid) != Some(*release));
    let own = |uid: &String, release: &Release| {
        !old.contains_key(uid) && *uid == caller_pod_uid && release::may_say(spec, uid, release)
    };
    if !said.all(|(uid, release)| own(uid, release)) {
        return Err(Refusal::ForeignRelease);
    }
    if old.keys().any(|uid| !new.contains_key(uid) && release::concerns(spec, uid)) {
        return Err(Refusal::ReleaseTakenBack);
    }
    Ok(())
}

fn review_report(record: &Record, grant: &Grant, report: &Report) -> Result<(), Refusal> {
    if report.epoch != grant.epoch || report.boot_nonce != grant.boot_nonce {
        return Err(Refusal::StaleReport);
    }
    // G3: a result counts only for the epoch, process and work of the grant in the same object.
    if let Some(result) = &report.result
        && (result.epoch != grant.epoch || record.spec.work.as_ref().is_none_or(|work| work.id != result.work_id))
    {
        return Err(Refusal::StaleResult);
    }
    Ok(())
}

/// Whether a record's spec may follow another one, whoever writes it.
///
/// # Errors
/// The rule that refuses it.
pub fn review_spec(old: &EngineDirectorySpec, new: &EngineDirectorySpec) -> Result<(), Refusal> {
    if old.build_uid != new.build_uid || old.build_name != new.build_name || old.slot != new.slot {
        return Err(Refusal::Identity);
    }
    review_grant(old.grant.as_ref(), new.grant.as_ref())?;
    if let Some(grant) = &new.grant {
        review_machine(grant)?;
    }
    if let (Some(before), Some(after)) = (&old.grant, &new.grant)
        && old.work != new.work
        && before.epoch.next() != Some(after.epoch)
    {
        return Err(Refusal::Work);
    }
    if new.work.is_some() && new.grant.is_none() {
        return Err(Refusal::WorkWithoutGrant);
    }
    if let (Some(before), Some(after)) = (&old.volume, &new.volume) {
        review_volume(before, after)?;
        let epoch = |grant: Option<&Grant>| grant.map(|grant| grant.epoch);
        if after.generation == before.generation
            && before.condemned
            && new.grant.is_some()
            && epoch(old.grant.as_ref()) != epoch(new.grant.as_ref())
        {
            return Err(Refusal::GrantOnCondemned);
        }
    }
    review_attached(old.grant.as_ref(), new.grant.as_ref())?;
    review_former(&old.former_volumes, &new.former_volumes)?;
    review_chosen(&old.chosen, &new.chosen)
}

fn review_grant(old: Option<&Grant>, new: Option<&Grant>) -> Result<(), Refusal> {
    let Some(old) = old else {
        return Ok(());
    };
    let Some(new) = new else {
        return Err(Refusal::Grant);
    };
    let risen = old.epoch.next() == Some(new.epoch);
    let once = |before: &str, after: &str| before.is_empty() || before == after;
    let filled_in = old.epoch == new.epoch
        && old.pod_name == new.pod_name
        && once(&old.pod_uid, &new.pod_uid)
        && once(&old.boot_nonce, &new.boot_nonce)
        && once(&old.node_name, &new.node_name)
        && once(&old.boot_id, &new.boot_id)
        && once(&old.system_uuid, &new.system_uuid);
    if risen || filled_in { Ok(()) } else { Err(Refusal::Grant) }
}

fn review_machine(grant: &Grant) -> Result<(), Refusal> {
    let Grant { epoch: _, pod_name: _, pod_uid, boot_nonce, node_name, boot_id, system_uuid, attached: _ } = grant;
    let spoken_for = (node_name.is_empty() || !pod_uid.is_empty())
        && (boot_id.is_empty() || !boot_nonce.is_empty())
        && (system_uuid.is_empty() || !(node_name.is_empty() || boot_id.is_empty()));
    if spoken_for { Ok(()) } else { Err(Refusal::Machine) }
}

/// Said later, or of another process, it would be false evidence: what is attached now was attached for somebody else.
fn review_attached(old: Option<&Grant>, new: Option<&Grant>) -> Result<(), Refusal> {
    let Some((new, attached)) = new.and_then(|new| new.attached.as_ref().map(|attached| (new, attached))) else {
        return Ok(());
    };
    let holds = old.is_some_and(|old| match &old.attached {
        Some(before) => attached == before && new.pod_uid == old.pod_uid && new.boot_nonce == old.boot_nonce,
        None => old.epoch == new.epoch && old.boot_nonce.is_empty() && !new.boot_nonce.is_empty(),
    });
    if holds { Ok(()) } else { Err(Refusal::Attached) }
}

fn review_volume(old: &VolumeRef, new: &VolumeRef) -> Result<(), Refusal> {
    if new.generation > old.generation {
        return Ok(());
    }
    let same = new.generation == old.generation
        && new.claim_name == old.claim_name
        && (old.claim_uid.is_empty() || old.claim_uid == new.claim_uid);
    if !same {
        return Err(Refusal::Volume);
    }
    if old.condemned && !new.condemned { Err(Refusal::Pardon) } else { Ok(()) }
}

fn review_former(old: &[FormerVolume], new: &[FormerVolume]) -> Result<(), Refusal> {
    let pardoned = old.iter().filter(|before| before.condemned).any(|before| {
        new.iter().any(|after| {
            after.claim_name == before.claim_name && after.claim_uid == before.claim_uid && !after.condemned
        })
    });
    if pardoned {
        return Err(Refusal::Pardon);
    }
    let altered = old.iter().any(|before| {
        new.iter().any(|after| {
            let same_owner = after.claim_name == before.claim_name
                && after.claim_uid == before.claim_uid
                && after.pod_uid == before.pod_uid;
            same_owner && after.attached.is_some() && after.attached != before.attached
        })
    });
    if altered { Err(Refusal::Attached) } else { Ok(()) }
}

fn review_chosen(old: &[Chosen], new: &[Chosen]) -> Result<(), Refusal> {
    let changed = old.iter().any(|before| new.iter().any(|after| after.work_id == before.work_id && after != before));
    if changed { Err(Refusal::Choice) } else { Ok(()) }
}
