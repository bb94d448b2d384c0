//! Whether an operator runs, by the age of its Lease. What builds say of themselves stays as it was while none does, and looks
//! as if all were well.
//!
//! Who may not read the Lease is told nothing of it: that is no fault of his, and of no build.

use http::{Request, header};
use indexbuild_api::{EngineDirectory, Guarded, labels};
use indexbuild_text::one_line;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, ResourceExt as _};

use super::Cluster;

/// What is added to the Lease's own length: answers bear whole seconds, and a successor takes its time.
const SLACK: SignedDuration = SignedDuration::from_secs(10);
/// Where the Lease does not say how long it holds.
const USUAL_LENGTH: i32 = 15;
/// The labels of the chart's Lease.
const CHARTS_LEASE: &str = "app.kubernetes.io/component=operator";
/// So many records are asked for the Lease of who made them.
const RECORDS: u32 = 5;

/// Says that no operator runs, if the user may know it and it is so. `named`: its Lease, as `<namespace>/<name>`, where the
/// user has said; else it is looked for.
pub(crate) async fn no_operator(cluster: &Cluster, named: Option<&str>) -> Option<String> {
    let place = match named {
        Some(named) => named.to_owned(),
        None => find(cluster).await?,
    };
    let (lease, now) = read(cluster, &place).await?;
    absence(&place, lease.spec.as_ref(), now)
}

/// The Lease that the records of the namespace name; else the only one in the cluster that the chart has made.
async fn find(cluster: &Cluster) -> Option<String> {
    let some = ListParams::default().limit(RECORDS);
    let records = cluster.api::<Guarded<EngineDirectory>>().list(&some).await.ok();
    let named = records.and_then(|records| {
        records.items.iter().find_map(|record| record.annotations().get(labels::OPERATOR_LEASE).cloned())
    });
    if named.is_some() {
        return named;
    }
    let of_chart = format!("{}={},{CHARTS_LEASE}", labels::NAME, labels::NAME_VALUE);
    let leases = Api::<Guarded<Lease>>::all(cluster.client.clone());
    let found = leases.list(&ListParams::default().labels(&of_chart)).await.ok()?.items;
    match found.as_slice() {
        [one] => Some(format!("{}/{}", one.namespace()?, one.name_any())),
        _ => None,
    }
}

/// A Lease and the API server's time: this machine's own may be hours off.
async fn read(cluster: &Cluster, place: &str) -> Option<(Lease, Timestamp)> {
    let (namespace, name) = place.split_once('/')?;
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if !is_name(namespace) || !is_name(name) {
        return None;
    }
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
    let request = Request::get(path).header(header::ACCEPT, "application/json").body(Body::empty()).ok()?;
    let answer = cluster.client.send(request).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let told = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let told = told.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    let body = answer.into_body().collect_bytes().await.ok()?;
    Some((serde_json::from_slice(&body).ok()?, told.unwrap_or_else(Timestamp::now)))
}

/// What is to be said of a Lease that nobody holds at this time.
fn absence(place: &str, spec: Option<&LeaseSpec>, now: Timestamp) -> Option<String> {
    const MEANS: &str = "nothing is decided about builds until one runs, and what they show is as it was then; executors work on meanwhile";
    let look = format!("`kubectl get pods -n {}` shows what became of it", place.split('/').next().unwrap_or_default());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let Some(renewed) = renewed else {
        return Some(format!("no operator has run yet, by its Lease {place}: {MEANS}; {look}"));
    };
    let holder = spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty());
    let seconds =
        spec.and_then(|spec| spec.lease_duration_seconds).filter(|seconds| *seconds > 1).unwrap_or(USUAL_LENGTH);
    let age = now.duration_since(renewed);
    if age <= SignedDuration::from_secs(seconds.into()) + SLACK {
        // One that has just been given up is taken by the next within that time.
        return None;
    }
    let since = Timestamp::from_second(renewed.as_second()).unwrap_or(renewed);
    let by = holder.map(|holder| format!(" by {}", one_line(&holder))).unwrap_or_default();
    Some(format!(
        "no operator runs since {since} ({} ago): its Lease {place} was renewed last then{by}; {MEANS}; {look}",
        for_people(age)
    ))
}

fn for_people(age: SignedDuration) -> String {
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(renewed: Option<&str>, holder: Option<&str>) -> LeaseSpec {
        let renewed = renewed.map(|time| format!("2026-01-01T12:{time}.000000Z"));
        serde_json::from_value(json!({"renewTime": renewed, "holderIdentity": holder, "leaseDurationSeconds": 15}))
            .unwrap()
    }

    #[test]
    fn a_lease_that_is_old_says_since_when_no_operator_runs_and_a_fresh_one_says_nothing() {
        let now: Timestamp = "2026-01-01T12:10:00Z".parse().unwrap();
        let told = |spec: Option<LeaseSpec>| absence("builds/operator", spec.as_ref(), now);
        for (fresh, why) in
            [("09:58", "renewed a moment ago"), ("09:36", "its successor has that long"), ("10:30", "ahead")]
        {
            assert_eq!(told(Some(lease(Some(fresh), Some("a")))), None, "{why}");
        }
        let gone = told(Some(lease(Some("08:00"), Some("pod-a")))).unwrap();
        for part in
            ["no operator runs since 2026-01-01T12:08:00Z (2 min ago)", "builds/operator", "by pod-a", "-n builds"]
        {
            assert!(gone.contains(part), "{part}: {gone}");
        }
        let given_up = told(Some(lease(Some("08:00"), Some("")))).unwrap();
        assert!(given_up.contains("no operator runs since") && !given_up.contains(" by "), "{given_up}");
        for never in [None, Some(lease(None, None))] {
            assert!(told(never).unwrap().starts_with("no operator has run yet"));
        }
    }
}
