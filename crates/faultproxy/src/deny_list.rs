//! The deny-list: what no controller may do is found in a request before it is forwarded. No I/O.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::request::{Forbidden, OUT_OF_SERVICE, RequestInfo, Verb};

/// What the deny-list lets pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    /// Finalizers that the client under test owns and so may remove.
    pub own_finalizers: BTreeSet<String>,
}

/// Whether this write can only be judged with the present object beside it.
pub(crate) fn needs_current(info: &RequestInfo) -> bool {
    matches!(info.verb, Verb::Update | Verb::Patch) && info.subresource.is_none() && info.name.is_some()
}

/// Judges one request by its query, its body and the present object.
///
/// `content_type` is the header's value. `current` is needed when [`needs_current`] says so, and is `None` when there
/// is no such object.
#[must_use]
pub(crate) fn judge(
    list: &DenyList,
    info: &RequestInfo,
    content_type: &str,
    body: &[u8],
    current: Option<&Value>,
) -> Option<Forbidden> {
    let deletes = matches!(info.verb, Verb::Delete | Verb::DeleteCollection);
    let resource = (info.group.as_str(), info.resource.as_str());
    if deletes && resource == ("storage.k8s.io", "volumeattachments") {
        return Some(Forbidden::VolumeAttachmentDelete);
    }
    if !info.verb.mutates() {
        return None;
    }
    let pods = resource == ("", "pods");
    let removes_pods = pods && (deletes || info.subresource.as_deref() == Some("eviction"));
    if removes_pods && info.query("gracePeriodSeconds").is_some_and(|s| s.trim().parse() == Ok(0_i64)) {
        return Some(Forbidden::ForceDelete);
    }
    let guarded = removes_pods || matches!(resource, ("", "nodes" | "persistentvolumes"));
    let Some(body) = parse(body) else {
        // Protobuf and the like. An update of anything may strip a finalizer, so it is judged as guarded if there is one.
        let has_finalizers = current.is_some_and(|c| !finalizers(c).is_empty());
        return (guarded || (needs_current(info) && has_finalizers)).then_some(Forbidden::Unreadable);
    };
    if removes_pods {
        let zero = |options: &Value| options.get("gracePeriodSeconds").is_some_and(|s| s.as_i64() == Some(0));
        if zero(&body) || body.get("deleteOptions").is_some_and(zero) {
            return Some(Forbidden::ForceDelete);
        }
    }
    if !matches!(info.verb, Verb::Create | Verb::Update | Verb::Patch) {
        return None;
    }
    if info.subresource.as_deref() == Some("finalize") && resource == ("", "namespaces") {
        return Some(Forbidden::FinalizerStripped("kubernetes (of a namespace)".into()));
    }
    if info.subresource.is_none() && resource == ("", "nodes") {
        let there = current.is_some_and(puts_taint);
        if !there && puts_taint(&body) {
            return Some(Forbidden::OutOfServiceTaint);
        }
    }
    let current = current.filter(|_| needs_current(info))?;
    let write = Write::of(info, content_type);
    for name in finalizers(current) {
        if !list.own_finalizers.contains(&name) && write.strips_finalizer(info, &body, current, &name) {
            return Some(Forbidden::FinalizerStripped(name));
        }
    }
    if resource == ("", "persistentvolumes")
        && current.pointer("/spec/claimRef").is_some_and(|c| !c.is_null())
        && write.removes_claim(info, &body, current)
    {
        return Some(Forbidden::ClaimRefRemoved);
    }
    None
}

/// JSON, or the YAML that a server-side apply may be; an empty body is null.
fn parse(body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return Some(Value::Null);
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    let text = std::str::from_utf8(body).ok().filter(|t| !t.contains('\0'))?;
    serde_saphyr::from_str::<Value>(text).ok().filter(|v| v.is_object() || v.is_array())
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn finalizers(object: &Value) -> Vec<String> {
    object.pointer("/metadata/finalizers").map(strings).unwrap_or_default()
}

/// Whether the taint stands anywhere in a body, except where a strategic merge patch deletes it or a JSON patch tests for it.
fn puts_taint(body: &Value) -> bool {
    match body {
        Value::Object(map) => {
            if map.get("$patch").and_then(Value::as_str) == Some("delete")
                || map.get("op").and_then(Value::as_str).is_some_and(|op| op == "test" || op == "remove")
            {
                return false;
            }
            map.get("key").and_then(Value::as_str) == Some(OUT_OF_SERVICE)
                || map.values().any(|v| v.as_str() == Some(OUT_OF_SERVICE) && map.contains_key("op"))
                || map.values().any(puts_taint)
        }
        Value::Array(items) => items.iter().any(puts_taint),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[derive(Clone, Copy)]
enum Write {
    Put,
    Merge,
    Strategic,
    JsonPatch,
    Apply,
}

impl Write {
    fn of(info: &RequestInfo, content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match (info.verb, kind) {
            (Verb::Patch, "application/json-patch+json") => Self::JsonPatch,
            (Verb::Patch, "application/strategic-merge-patch+json") => Self::Strategic,
            (Verb::Patch, "application/apply-patch+yaml" | "application/apply-patch+cbor") => Self::Apply,
            (Verb::Patch, _) => Self::Merge,
            _ => Self::Put,
        }
    }

    fn strips_finalizer(self, info: &RequestInfo, body: &Value, current: &Value, name: &str) -> bool {
        let listed = |list: &Value| list.as_array().is_some_and(|l| l.iter().any(|v| v.as_str() == Some(name)));
        let absent_as_a_value = |body: &Value| match body.get("metadata") {
            Some(Value::Null) => true,
            None => false,
            Some(metadata) => metadata.get("finalizers").is_some_and(|l| !listed(l)),
        };
        match self {
            Self::Put => !body.pointer("/metadata/finalizers").is_some_and(listed),
            Self::Merge => absent_as_a_value(body),
            Self::Strategic => {
                let Some(metadata) = body.get("metadata") else { return false };
                let replaced = [body, metadata]
                    .iter()
                    .any(|o| matches!(o.get("$patch").and_then(Value::as_str), Some("replace" | "delete")));
                metadata.is_null()
                    || metadata.get("finalizers").is_some_and(Value::is_null)
                    || metadata.get("$deleteFromPrimitiveList/finalizers").is_some_and(listed)
                    || (replaced && !metadata.get("finalizers").is_some_and(listed))
            }
            Self::JsonPatch => !patched_finalizers(body, finalizers(current)).iter().any(|f| f == name),
            Self::Apply => {
                !body.pointer("/metadata/finalizers").is_some_and(listed)
                    && owned_by(info, current, &|fields| {
                        fields
                            .get("f:metadata")
                            .and_then(|m| m.get("f:finalizers"))
                            .is_some_and(|f| f.get(format!("v:\"{name}\"")).is_some())
                    })
            }
        }
    }

    fn removes_claim(self, info: &RequestInfo, body: &Value, current: &Value) -> bool {
        let gone = |v: Option<&Value>| v.is_none_or(Value::is_null);
        // An absent field is removal in a PUT, and nothing at all in a patch.
        let nulled = |body: &Value| {
            ["/spec", "/spec/claimRef", "/spec/claimRef/uid"]
                .iter()
                .any(|p| body.pointer(p).is_some_and(Value::is_null))
        };
        let had_uid = !gone(current.pointer("/spec/claimRef/uid"));
        match self {
            Self::Put => gone(body.pointer("/spec/claimRef")) || (had_uid && gone(body.pointer("/spec/claimRef/uid"))),
            Self::Merge => nulled(body),
            Self::Strategic => {
                let replaces = |v: Option<&Value>| {
                    v.and_then(|v| v.get("$patch")).and_then(Value::as_str).is_some_and(|p| p != "merge")
                };
                nulled(body)
                    || replaces(body.pointer("/spec/claimRef"))
                    || (replaces(body.get("spec")) && gone(body.pointer("/spec/claimRef/uid")))
            }
            Self::JsonPatch => body.as_array().into_iter().flatten().any(|op| {
                let path = op.get("path").and_then(Value::as_str).unwrap_or_default();
                let from = op.get("from").and_then(Value::as_str).unwrap_or_default();
                let inside = |p: &str| matches!(p, "/spec" | "/spec/claimRef" | "/spec/claimRef/uid");
                match op.get("op").and_then(Value::as_str) {
                    Some("remove") => inside(path),
                    Some("move") => inside(from),
                    Some("add" | "replace") => {
                        let value = op.get("value").unwrap_or(&Value::Null);
                        match path {
                            "/spec" => gone(value.pointer("/claimRef/uid")),
                            "/spec/claimRef" => gone(value.get("uid")),
                            "/spec/claimRef/uid" => value.is_null(),
                            _ => false,
                        }
                    }
                    _ => false,
                }
            }),
            Self::Apply => {
                (gone(body.pointer("/spec/claimRef/uid")))
                    && owned_by(info, current, &|fields| {
                        fields.get("f:spec").and_then(|s| s.get("f:claimRef")).is_some_and(|c| c.get("f:uid").is_some())
                    })
            }
        }
    }
}

/// Whether the applying manager owns a field: then, and only then, leaving it out of an apply removes it.
fn owned_by(info: &RequestInfo, current: &Value, field: &dyn Fn(&Value) -> bool) -> bool {
    let manager = info.query("fieldManager").unwrap_or_default();
    let entries = current.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(manager.as_str())
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
            && entry.get("fieldsV1").is_some_and(field)
    })
}

/// The finalizers after a JSON patch.
fn patched_finalizers(patch: &Value, mut list: Vec<String>) -> Vec<String> {
    let at = |object: Option<&Value>, pointer: &str| {
        object.and_then(|v| v.pointer(pointer)).map(strings).unwrap_or_default()
    };
    for op in patch.as_array().into_iter().flatten() {
        let text = |key: &str| op.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("op");
        let value = op.get("value");
        if name == "move" {
            list = removed(list, text("from"));
        }
        match (name, text("path")) {
            ("remove", path) => list = removed(list, path),
            ("add" | "replace", "") => list = at(value, "/metadata/finalizers"),
            ("add" | "replace", "/metadata") => list = at(value, "/finalizers"),
            ("add" | "replace", "/metadata/finalizers") => list = at(value, ""),
            ("add" | "replace", path) => {
                let Some(index) = path.strip_prefix("/metadata/finalizers/") else { continue };
                let Some(value) = value.and_then(Value::as_str) else { continue };
                match index.parse::<usize>() {
                    Ok(i) if name == "replace" && i < list.len() => value.clone_into(&mut list[i]),
                    Ok(i) if name == "add" && i <= list.len() => list.insert(i, value.to_owned()),
                    Ok(_) => {}
                    Err(_) => list.push(value.to_owned()),
                }
            }
            // A copy or move onto the list replaces it by something that is not looked into: nothing is kept.
            ("copy" | "move", "" | "/metadata" | "/metadata/finalizers") => list.clear(),
            _ => {}
        }
    }
    list
}

fn removed(mut list: Vec<String>, path: &str) -> Vec<String> {
    match path {
        "" | "/metadata" | "/metadata/finalizers" => list.clear(),
        _ => {
            if let Some(i) = path.strip_prefix("/metadata/finalizers/").and_then(|i| i.parse::<usize>().ok())
                && i < list.len()
            {
                list.remove(i);
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JSON: &str = "application/json";
    const MERGE: &str = "application/merge-patch+json";
    const STRATEGIC: &str = "application/strategic-merge-patch+json";
    const PATCH: &str = "application/json-patch+json";
    const APPLY: &str = "application/apply-patch+yaml";
    const POD: &str = "/api/v1/namespaces/a/pods/p";
    const PV: &str = "/api/v1/persistentvolumes/v";
    const NODE: &str = "/api/v1/nodes/n";

    fn verdict(method: &str, target: &str, content: &str, body: &Value, current: &Value) -> Option<Forbidden> {
        let list = DenyList { own_finalizers: BTreeSet::from(["own".to_owned()]) };
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let current = (!current.is_null()).then_some(current);
        judge(&list, &RequestInfo::parse(method, target), content, &body, current)
    }

    #[test]
    fn a_force_delete_is_found_in_query_and_body() {
        let none = Value::Null;
        let force = Some(Forbidden::ForceDelete);
        let zero = json!({"gracePeriodSeconds": 0});
        let query = format!("{POD}?gracePeriodSeconds=0");
        let all = "/api/v1/namespaces/a/pods";
        assert_eq!(verdict("DELETE", &query, JSON, &none, &none), force);
        assert_eq!(verdict("DELETE", POD, JSON, &zero, &none), force);
        assert_eq!(verdict("DELETE", all, JSON, &zero, &none), force);
        assert_eq!(verdict("DELETE", &format!("{all}?gracePeriodSeconds=0"), JSON, &none, &none), force);
        let eviction = json!({"deleteOptions": {"gracePeriodSeconds": 0}});
        assert_eq!(verdict("POST", &format!("{POD}/eviction"), JSON, &eviction, &none), force);

        assert_eq!(verdict("DELETE", POD, JSON, &none, &none), None);
        assert_eq!(verdict("DELETE", POD, JSON, &json!({"gracePeriodSeconds": 1}), &none), None);
        assert_eq!(verdict("DELETE", &format!("{POD}?gracePeriodSeconds=30"), JSON, &none, &none), None);
        assert_eq!(verdict("DELETE", "/api/v1/namespaces/a/configmaps/c", JSON, &zero, &none), None);
        assert_eq!(verdict("POST", &format!("{POD}/eviction"), JSON, &json!({}), &none), None);
        assert_eq!(verdict("GET", &query, JSON, &none, &none), None);
    }

    #[test]
    fn an_attachment_is_never_deleted_but_may_be_read() {
        let one = "/apis/storage.k8s.io/v1/volumeattachments/x";
        let all = "/apis/storage.k8s.io/v1/volumeattachments";
        for target in [one, all] {
            assert_eq!(
                verdict("DELETE", target, JSON, &Value::Null, &Value::Null),
                Some(Forbidden::VolumeAttachmentDelete)
            );
            assert_eq!(verdict("GET", target, JSON, &Value::Null, &Value::Null), None);
        }
    }

    #[test]
    fn each_way_to_strip_a_finalizer_is_found() {
        let current = json!({"metadata": {"finalizers": ["own", "theirs"], "managedFields": [
            {"manager": "m", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"theirs\"": {}}}}},
            {"manager": "other", "operation": "Update", "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"theirs\"": {}}}}},
        ]}});
        let stripped = Some(Forbidden::FinalizerStripped("theirs".into()));
        let by_m = format!("{POD}?fieldManager=m");
        let by_other = format!("{POD}?fieldManager=other");
        let bad = [
            ("PUT", POD, JSON, json!({"metadata": {}})),
            ("PUT", POD, JSON, json!({"metadata": {"finalizers": ["own"]}})),
            ("PUT", POD, JSON, json!({})),
            ("PATCH", POD, MERGE, json!({"metadata": {"finalizers": null}})),
            ("PATCH", POD, MERGE, json!({"metadata": {"finalizers": []}})),
            ("PATCH", POD, MERGE, json!({"metadata": {"finalizers": ["own"]}})),
            ("PATCH", POD, MERGE, json!({"metadata": null})),
            ("PATCH", POD, STRATEGIC, json!({"metadata": {"finalizers": null}})),
            ("PATCH", POD, STRATEGIC, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["theirs"]}})),
            ("PATCH", POD, STRATEGIC, json!({"metadata": {"$patch": "replace", "finalizers": ["own"]}})),
            ("PATCH", POD, PATCH, json!([{"op": "remove", "path": "/metadata/finalizers"}])),
            ("PATCH", POD, PATCH, json!([{"op": "remove", "path": "/metadata/finalizers/1"}])),
            ("PATCH", POD, PATCH, json!([{"op": "replace", "path": "/metadata/finalizers", "value": ["own"]}])),
            ("PATCH", POD, PATCH, json!([{"op": "replace", "path": "/metadata/finalizers/1", "value": "x"}])),
            ("PATCH", POD, PATCH, json!([{"op": "add", "path": "/metadata/finalizers", "value": null}])),
            (
                "PATCH",
                POD,
                PATCH,
                json!([{"op": "remove", "path": "/metadata/finalizers/0"}, {"op": "remove", "path": "/metadata/finalizers/0"}]),
            ),
            (
                "PATCH",
                POD,
                PATCH,
                json!([{"op": "move", "from": "/metadata/finalizers/1", "path": "/metadata/labels/x"}]),
            ),
            ("PATCH", POD, PATCH, json!([{"op": "copy", "from": "/metadata/x", "path": "/metadata/finalizers"}])),
            ("PATCH", POD, PATCH, json!([{"op": "replace", "path": "/metadata", "value": {"finalizers": []}}])),
            ("PATCH", POD, PATCH, json!([{"op": "replace", "path": "", "value": {}}])),
            ("PATCH", &by_m, APPLY, json!({"metadata": {"name": "p"}})),
        ];
        for (method, target, content, body) in bad {
            assert_eq!(verdict(method, target, content, &body, &current), stripped, "{method} {content} {body}");
            assert_eq!(verdict(method, target, content, &body, &Value::Null), None, "no object: {body}");
            let own = json!({"metadata": {"finalizers": ["own"]}});
            assert_eq!(verdict(method, target, content, &body, &own), None, "own: {body}");
        }
        let good = [
            ("PUT", POD, JSON, json!({"metadata": {"finalizers": ["theirs"]}})),
            ("PATCH", POD, MERGE, json!({"metadata": {"labels": {"a": "b"}}})),
            ("PATCH", POD, MERGE, json!({"metadata": {"finalizers": ["theirs", "more"]}})),
            ("PATCH", POD, STRATEGIC, json!({"metadata": {"finalizers": ["more"]}})),
            ("PATCH", POD, STRATEGIC, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["own"]}})),
            ("PATCH", POD, STRATEGIC, json!({"spec": {}})),
            ("PATCH", POD, PATCH, json!([{"op": "remove", "path": "/metadata/finalizers/0"}])),
            ("PATCH", POD, PATCH, json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "x"}])),
            ("PATCH", POD, PATCH, json!([{"op": "add", "path": "/metadata/finalizers/0", "value": "x"}])),
            ("PATCH", POD, PATCH, json!([{"op": "replace", "path": "/spec/x", "value": 1}])),
            ("PATCH", &by_m, APPLY, json!({"metadata": {"finalizers": ["theirs"]}})),
            ("PATCH", &by_other, APPLY, json!({"metadata": {"name": "p"}})),
        ];
        for (method, target, content, body) in good {
            assert_eq!(verdict(method, target, content, &body, &current), None, "{method} {content} {body}");
        }
        let status = format!("{POD}/status");
        assert_eq!(verdict("PUT", &status, JSON, &json!({"status": {}}), &current), None);
        assert!(verdict("PUT", "/api/v1/namespaces/a/finalize", JSON, &json!({"spec": {}}), &Value::Null).is_some());
    }

    #[test]
    fn the_out_of_service_taint_is_found_unless_it_was_there_or_goes() {
        let taint = json!({"key": OUT_OF_SERVICE, "effect": "NoExecute"});
        let with = json!({"spec": {"taints": [taint]}});
        let bad = Some(Forbidden::OutOfServiceTaint);
        let empty = json!({"spec": {}});
        assert_eq!(verdict("PUT", NODE, JSON, &with, &empty), bad);
        assert_eq!(verdict("PATCH", NODE, MERGE, &with, &empty), bad);
        assert_eq!(verdict("PATCH", NODE, STRATEGIC, &with, &empty), bad);
        assert_eq!(verdict("PATCH", NODE, APPLY, &with, &Value::Null), bad);
        assert_eq!(verdict("POST", "/api/v1/nodes", JSON, &with, &Value::Null), bad);
        let add = |value: Value, path: &str| json!([{"op": "add", "path": path, "value": value}]);
        assert_eq!(verdict("PATCH", NODE, PATCH, &add(taint.clone(), "/spec/taints/-"), &empty), bad);
        let other = json!({"spec": {"taints": [{"key": "other"}]}});
        assert_eq!(verdict("PATCH", NODE, PATCH, &add(json!(OUT_OF_SERVICE), "/spec/taints/0/key"), &other), bad);

        assert_eq!(verdict("PUT", NODE, JSON, &with, &with), None);
        assert_eq!(verdict("PUT", NODE, JSON, &empty, &with), None);
        assert_eq!(verdict("PUT", NODE, JSON, &other, &empty), None);
        let delete = json!({"spec": {"taints": [{"key": OUT_OF_SERVICE, "$patch": "delete"}]}});
        assert_eq!(verdict("PATCH", NODE, STRATEGIC, &delete, &empty), None);
        let tested = json!([{"op": "test", "path": "/spec/taints/0", "value": taint}]);
        assert_eq!(verdict("PATCH", NODE, PATCH, &tested, &empty), None);
    }

    #[test]
    fn each_way_to_free_a_released_volume_is_found() {
        let current = json!({"spec": {"claimRef": {"name": "c", "uid": "u"}}, "metadata": {"managedFields": [
            {"manager": "m", "operation": "Apply", "fieldsV1": {"f:spec": {"f:claimRef": {"f:uid": {}}}}}]}});
        let bad = Some(Forbidden::ClaimRefRemoved);
        let by_m = format!("{PV}?fieldManager=m");
        let op = |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
        let cases = [
            ("PUT", PV, JSON, json!({"spec": {}})),
            ("PUT", PV, JSON, json!({"spec": {"claimRef": null}})),
            ("PUT", PV, JSON, json!({"spec": {"claimRef": {"name": "c"}}})),
            ("PATCH", PV, MERGE, json!({"spec": {"claimRef": null}})),
            ("PATCH", PV, MERGE, json!({"spec": {"claimRef": {"uid": null}}})),
            ("PATCH", PV, MERGE, json!({"spec": null})),
            ("PATCH", PV, STRATEGIC, json!({"spec": {"claimRef": null}})),
            ("PATCH", PV, STRATEGIC, json!({"spec": {"claimRef": {"$patch": "delete"}}})),
            ("PATCH", PV, STRATEGIC, json!({"spec": {"$patch": "replace"}})),
            ("PATCH", PV, PATCH, op("remove", "/spec/claimRef", Value::Null)),
            ("PATCH", PV, PATCH, op("remove", "/spec/claimRef/uid", Value::Null)),
            ("PATCH", PV, PATCH, op("replace", "/spec/claimRef", Value::Null)),
            ("PATCH", PV, PATCH, op("replace", "/spec/claimRef", json!({"name": "d"}))),
            ("PATCH", PV, PATCH, op("replace", "/spec", json!({}))),
            ("PATCH", PV, PATCH, json!([{"op": "move", "from": "/spec/claimRef", "path": "/metadata/x"}])),
            ("PATCH", &by_m, APPLY, json!({"spec": {}})),
        ];
        for (method, target, content, body) in cases {
            assert_eq!(verdict(method, target, content, &body, &current), bad, "{method} {content} {body}");
            assert_eq!(verdict(method, target, content, &body, &json!({"spec": {}})), None, "free: {body}");
        }
        let good = [
            ("PUT", PV, JSON, json!({"spec": {"claimRef": {"name": "c", "uid": "u"}}})),
            ("PATCH", PV, MERGE, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})),
            ("PATCH", PV, STRATEGIC, json!({"spec": {"capacity": {}}})),
            ("PATCH", PV, PATCH, op("replace", "/spec/persistentVolumeReclaimPolicy", json!("Retain"))),
            ("PATCH", PV, APPLY, json!({"spec": {}})),
        ];
        for (method, target, content, body) in good {
            assert_eq!(verdict(method, target, content, &body, &current), None, "{method} {content} {body}");
        }
    }

    #[test]
    fn an_apply_in_yaml_is_read_and_a_body_that_cannot_be_read_is_not_cleared() {
        let list = DenyList::default();
        let yaml = format!("spec:\n  taints:\n  - key: {OUT_OF_SERVICE}\n    effect: NoExecute\n");
        let node = RequestInfo::parse("PATCH", NODE);
        assert_eq!(judge(&list, &node, APPLY, yaml.as_bytes(), None), Some(Forbidden::OutOfServiceTaint));
        let protobuf = b"k8s\x00\x0a\x0c\x0a\x02v1";
        let content = "application/vnd.kubernetes.protobuf";
        let put = |target| RequestInfo::parse("PUT", target);
        assert_eq!(judge(&list, &put(NODE), content, protobuf, None), Some(Forbidden::Unreadable));
        let plain = "/api/v1/namespaces/a/configmaps/c";
        assert_eq!(judge(&list, &put(plain), content, protobuf, None), None);
        let current = json!({"metadata": {"finalizers": ["x"]}});
        assert_eq!(judge(&list, &put(plain), content, protobuf, Some(&current)), Some(Forbidden::Unreadable));
    }
}
