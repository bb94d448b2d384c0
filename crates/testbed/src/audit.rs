//! The API server's own record of who called what: what a test compares with the permissions that were given.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::control_plane::audit_log;
use crate::error::{At as _, TestbedError};

/// One call that the API server answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiCall {
    /// `system:serviceaccount:<namespace>:<name>` for a pod's account; the impersonated user, where there is one.
    pub user: String,
    /// The pod whose token was used, if it was a pod's.
    pub pod: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core's.
    pub group: String,
    /// The resource in plural; empty for a path that is none, such as `/readyz`.
    pub resource: String,
    /// `status`, `log`, `eviction`, …, or empty.
    pub subresource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Empty for lists and watches.
    pub name: String,
    /// The request's path without what follows a question mark.
    pub path: String,
    pub code: u64,
    /// Whether authorization let it pass; what it let pass may have failed for another reason.
    pub allowed: bool,
}

impl Cluster {
    /// All calls so far, in the order in which they were answered.
    ///
    /// # Errors
    /// A cluster that was started without [`crate::Options::audit`]; a record that cannot be read.
    pub fn audit(&self) -> Result<Vec<ApiCall>, TestbedError> {
        let file = audit_log(self.logs());
        if !file.is_file() {
            let why = "no audit log: start the cluster with `audit: true` in its Options".to_owned();
            return Err(TestbedError::Unavailable(why));
        }
        Ok(calls(&fs::read_to_string(&file).at("read", &file)?)?)
    }
}

fn calls(text: &str) -> Result<Vec<ApiCall>, serde_json::Error> {
    // A watch is recorded when it begins and when it ends; it is one call.
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: Vec<ApiCall> = Vec::new();
    for line in text.split_inclusive('\n') {
        // The last line may still be on its way.
        if !line.ends_with('\n') {
            break;
        }
        let event: Value = serde_json::from_str(line)?;
        let id = event["auditID"].as_str().unwrap_or_default().to_owned();
        let call = call(&event);
        match known.get(&id).and_then(|place| found.get_mut(*place)) {
            Some(earlier) => *earlier = call,
            None => {
                known.insert(id, found.len());
                found.push(call);
            }
        }
    }
    Ok(found)
}

fn call(event: &Value) -> ApiCall {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (object, by) = (&event["objectRef"], &event["user"]);
    let user = if event["impersonatedUser"].is_object() { &event["impersonatedUser"] } else { by };
    ApiCall {
        user: text(&user["username"]),
        pod: text(&by["extra"]["authentication.kubernetes.io/pod-name"][0]),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        path: text(&event["requestURI"]).split('?').next().unwrap_or_default().to_owned(),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_watch_is_one_call_and_a_line_on_its_way_is_left_for_later() {
        let event = |id: &str, stage: &str, code: u64| {
            json!({
                "auditID": id, "stage": stage, "verb": "watch", "requestURI": "/api/v1/pods?watch=1",
                "user": {"username": "system:serviceaccount:a:b",
                    "extra": {"authentication.kubernetes.io/pod-name": ["b-0"]}},
                "objectRef": {"resource": "pods", "apiVersion": "v1"},
                "responseStatus": {"code": code}, "annotations": {"authorization.k8s.io/decision": "allow"},
            })
            .to_string()
        };
        let begun = event("1", "ResponseStarted", 200);
        let (ended, refused) = (event("1", "ResponseComplete", 200), event("2", "ResponseComplete", 403));
        let found = calls(&format!("{begun}\n{ended}\n{refused}\n{}", &begun[..30])).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].code, found[1].code), (200, 403));
        assert_eq!((found[0].pod.as_str(), found[0].path.as_str()), ("b-0", "/api/v1/pods"));
        assert!(found[0].allowed);
        assert!(calls("nonsense\n").is_err());
    }
}
