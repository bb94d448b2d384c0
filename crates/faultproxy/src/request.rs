//! What a request to a Kubernetes API server asks for, read from its method, path and query alone.

use std::fmt;

/// The verb in the API server's own sense: `list` and `deletecollection` are verbs, `GET` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    /// `POST`.
    Create,
    /// `PUT`.
    Update,
    /// `PATCH`, server-side apply included.
    Patch,
    Delete,
    DeleteCollection,
    /// Not a request for a resource (`/readyz`, `/version`, discovery), or a method the API does not have.
    Other,
}

impl Verb {
    /// Whether the request may change something on the server.
    pub const fn mutates(self) -> bool {
        match self {
            Self::Create | Self::Update | Self::Patch | Self::Delete | Self::DeleteCollection => true,
            Self::Get | Self::List | Self::Watch | Self::Other => false,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "other",
        })
    }
}

/// One request, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Verb in the API server's sense.
    pub verb: Verb,
    /// API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// API version, `v1` say; empty for paths that are no resource.
    pub version: String,
    /// Plural resource name, `pods` say; empty for paths that are no resource.
    pub resource: String,
    /// `status`, `eviction`, `log` and so on.
    pub subresource: Option<String>,
    pub namespace: Option<String>,
    /// Name of the object, if the request is for one (for a watch also from `metadata.name=` in the field selector).
    pub name: Option<String>,
    /// Path and query as they were sent.
    pub target: String,
    /// What the deny-list found in it, query and body taken together.
    pub forbidden: Option<Forbidden>,
}

impl RequestInfo {
    /// `group/resource/subresource` without the parts that are empty: `pods`, `apps/deployments`, `pods/eviction`.
    pub fn kind(&self) -> String {
        let mut kind = String::new();
        if !self.group.is_empty() {
            kind.push_str(&self.group);
            kind.push('/');
        }
        kind.push_str(&self.resource);
        if let Some(sub) = &self.subresource {
            kind.push('/');
            kind.push_str(sub);
        }
        kind
    }

    /// A value of the query, decoded; the first one if there are several.
    pub fn query(&self, key: &str) -> Option<String> {
        query_value(&self.target, key)
    }

    /// Reads method, path and query.
    ///
    /// `target` is the path with its query, as in the request line.
    #[must_use]
    pub fn parse(method: &str, target: &str) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        let mut info = Self {
            verb: Verb::Other,
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: None,
            namespace: None,
            name: None,
            target: target.to_owned(),
            forbidden: None,
        };
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (group, version, mut rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return info,
        };
        // The old form `/api/v1/watch/pods` is a watch whatever the query says.
        let mut watch = false;
        if let ["watch", more @ ..] = rest {
            watch = true;
            rest = more;
        }
        // `namespaces/NAME`, `namespaces/NAME/status` and `namespaces/NAME/finalize` are the Namespace object itself.
        if let ["namespaces", namespace, resource, more @ ..] = rest
            && !(matches!(*resource, "status" | "finalize") && more.is_empty() && group.is_empty())
        {
            info.namespace = Some((*namespace).to_owned());
            info.resource = (*resource).to_owned();
            rest = more;
        } else if let [resource, more @ ..] = rest {
            info.resource = (*resource).to_owned();
            rest = more;
        } else {
            return info;
        }
        group.clone_into(&mut info.group);
        version.clone_into(&mut info.version);
        if let [name, more @ ..] = rest {
            info.name = Some((*name).to_owned());
            if !more.is_empty() {
                info.subresource = Some(more.join("/"));
            }
        }
        watch |= query_value(target, "watch").is_some_and(|v| v != "false" && v != "0");
        info.verb = match method {
            "GET" | "HEAD" if watch && info.subresource.is_none() => Verb::Watch,
            "GET" | "HEAD" if info.name.is_some() => Verb::Get,
            "GET" | "HEAD" => Verb::List,
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" if info.name.is_some() => Verb::Delete,
            "DELETE" => Verb::DeleteCollection,
            _ => Verb::Other,
        };
        if info.name.is_none() {
            info.name = query_value(target, "fieldSelector").and_then(|selector| {
                selector.split(',').find_map(|term| {
                    let value = term.strip_prefix("metadata.name=")?;
                    Some(value.strip_prefix('=').unwrap_or(value).to_owned())
                })
            });
        }
        info
    }
}

impl fmt::Display for RequestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.target)
    }
}

fn query_value(target: &str, key: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == key).map(|(_, v)| v.into_owned())
}

/// Which requests a rule is about. Empty fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestMatch {
    verbs: Vec<Verb>,
    mutating: bool,
    resource: Option<(String, String)>,
    namespace: Option<String>,
    name: Option<String>,
}

impl RequestMatch {
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Every request that may change something.
    #[must_use]
    pub fn mutating() -> Self {
        Self { mutating: true, ..Self::default() }
    }

    /// Requests of one verb. Called again on the result of [`RequestMatch::or_verb`], it starts anew.
    #[must_use]
    pub fn verb(verb: Verb) -> Self {
        Self { verbs: vec![verb], ..Self::default() }
    }

    /// Requests of this verb too.
    #[must_use]
    pub fn or_verb(mut self, verb: Verb) -> Self {
        self.verbs.push(verb);
        self
    }

    /// Only this resource: group (empty for core) and plural name, with its subresources.
    #[must_use]
    pub fn resource(mut self, group: &str, resource: &str) -> Self {
        self.resource = Some((group.to_owned(), resource.to_owned()));
        self
    }

    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only the object of this name. A create bears its name in the body and is not matched by name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whether a request is meant.
    pub fn matches(&self, info: &RequestInfo) -> bool {
        let Self { verbs, mutating, resource, namespace, name } = self;
        (verbs.is_empty() || verbs.contains(&info.verb))
            && (!mutating || info.verb.mutates())
            && resource.as_ref().is_none_or(|(g, r)| *g == info.group && *r == info.resource)
            && namespace.as_ref().is_none_or(|n| info.namespace.as_ref() == Some(n))
            && name.as_ref().is_none_or(|n| info.name.as_ref() == Some(n))
    }
}

/// The taint with which an administrator, and nobody else, says that a node is off.
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What no controller may do: a request of this kind fails the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// A pod deleted or evicted with a grace period of zero: the object goes while the process may still write.
    ForceDelete,
    /// A finalizer taken from an object, one that the deny-list does not allow to be taken.
    FinalizerStripped(String),
    /// The out-of-service taint put on a node.
    OutOfServiceTaint,
    /// A volume's `claimRef` (or the UID in it) removed: whoever claims it next gets somebody's data.
    ClaimRefRemoved,
    /// A volume's attachment deleted by hand: the volume may be attached twice.
    VolumeAttachmentDelete,
    /// A write to a guarded kind whose body cannot be read (protobuf, say), and so cannot be cleared.
    Unreadable,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForceDelete => f.write_str("force delete of a pod (gracePeriodSeconds=0)"),
            Self::FinalizerStripped(name) => write!(f, "finalizer {name} stripped"),
            Self::OutOfServiceTaint => write!(f, "taint {OUT_OF_SERVICE} put on a node"),
            Self::ClaimRefRemoved => f.write_str("claimRef of a persistent volume removed"),
            Self::VolumeAttachmentDelete => f.write_str("delete of a VolumeAttachment"),
            Self::Unreadable => f.write_str("write to a guarded kind with a body that cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_path_is_read_as_the_api_server_reads_it() {
        type Named = Option<&'static str>;
        // method, target, verb, kind, version, namespace, name
        let table: &[(&str, &str, Verb, &str, &str, Named, Named)] = &[
            ("GET", "/api/v1/pods", Verb::List, "pods", "v1", None, None),
            ("GET", "/api/v1/pods?watch=true", Verb::Watch, "pods", "v1", None, None),
            ("GET", "/api/v1/pods?watch=1&resourceVersion=3", Verb::Watch, "pods", "v1", None, None),
            ("GET", "/api/v1/pods?watch=false", Verb::List, "pods", "v1", None, None),
            ("GET", "/api/v1/pods?watch=0", Verb::List, "pods", "v1", None, None),
            ("GET", "/api/v1/watch/pods", Verb::Watch, "pods", "v1", None, None),
            ("GET", "/api/v1/namespaces/a/pods/b", Verb::Get, "pods", "v1", Some("a"), Some("b")),
            ("GET", "/api/v1/namespaces/a/pods/b/log?follow=true", Verb::Get, "pods/log", "v1", Some("a"), Some("b")),
            ("POST", "/api/v1/namespaces/a/pods", Verb::Create, "pods", "v1", Some("a"), None),
            ("POST", "/api/v1/namespaces/a/pods/b/eviction", Verb::Create, "pods/eviction", "v1", Some("a"), Some("b")),
            (
                "PUT",
                "/apis/apps/v1/namespaces/a/deployments/d/status",
                Verb::Update,
                "apps/deployments/status",
                "v1",
                Some("a"),
                Some("d"),
            ),
            (
                "PATCH",
                "/apis/indexbuild.dev/v1alpha1/namespaces/a/indexbuilds/i?fieldManager=m",
                Verb::Patch,
                "indexbuild.dev/indexbuilds",
                "v1alpha1",
                Some("a"),
                Some("i"),
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods/b?gracePeriodSeconds=0",
                Verb::Delete,
                "pods",
                "v1",
                Some("a"),
                Some("b"),
            ),
            ("DELETE", "/api/v1/namespaces/a/pods", Verb::DeleteCollection, "pods", "v1", Some("a"), None),
            (
                "DELETE",
                "/apis/storage.k8s.io/v1/volumeattachments/x",
                Verb::Delete,
                "storage.k8s.io/volumeattachments",
                "v1",
                None,
                Some("x"),
            ),
            ("GET", "/api/v1/namespaces", Verb::List, "namespaces", "v1", None, None),
            ("GET", "/api/v1/namespaces/a", Verb::Get, "namespaces", "v1", None, Some("a")),
            ("PUT", "/api/v1/namespaces/a/finalize", Verb::Update, "namespaces/finalize", "v1", None, Some("a")),
            ("PATCH", "/api/v1/namespaces/a/status", Verb::Patch, "namespaces/status", "v1", None, Some("a")),
            (
                "GET",
                "/api/v1/namespaces/a/services/s/proxy/x/y",
                Verb::Get,
                "services/proxy/x/y",
                "v1",
                Some("a"),
                Some("s"),
            ),
            (
                "GET",
                "/api/v1/pods?watch=true&fieldSelector=metadata.name%3Dp",
                Verb::Watch,
                "pods",
                "v1",
                None,
                Some("p"),
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=spec.nodeName%3Dn%2Cmetadata.name%3D%3Dp",
                Verb::List,
                "pods",
                "v1",
                None,
                Some("p"),
            ),
            ("GET", "/readyz", Verb::Other, "", "", None, None),
            ("GET", "/apis", Verb::Other, "", "", None, None),
            ("GET", "/apis/apps/v1", Verb::Other, "", "", None, None),
            ("GET", "/api/v1", Verb::Other, "", "", None, None),
            ("POST", "/version", Verb::Other, "", "", None, None),
            ("OPTIONS", "/api/v1/pods", Verb::Other, "pods", "v1", None, None),
        ];
        for (method, target, verb, kind, version, namespace, name) in table {
            let info = RequestInfo::parse(method, target);
            let line = format!("{method} {target}");
            assert_eq!(info.verb, *verb, "{line}");
            assert_eq!(info.kind(), *kind, "{line}");
            assert_eq!(info.version, *version, "{line}");
            assert_eq!(info.namespace.as_deref(), *namespace, "{line}");
            assert_eq!(info.name.as_deref(), *name, "{line}");
        }
    }

    #[test]
    fn each_field_of_a_match_can_refuse_on_its_own() {
        let info = RequestInfo::parse("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/status");
        let full = RequestMatch::verb(Verb::Patch).resource("apps", "deployments").namespace("a").name("d");
        assert!(full.matches(&info));
        assert!(RequestMatch::any().matches(&info));
        assert!(RequestMatch::mutating().matches(&info));
        assert!(RequestMatch::verb(Verb::Get).or_verb(Verb::Patch).matches(&info));
        assert!(!RequestMatch::verb(Verb::Get).matches(&info));
        assert!(!full.clone().resource("", "deployments").matches(&info));
        assert!(!full.clone().resource("apps", "replicasets").matches(&info));
        assert!(!full.clone().namespace("b").matches(&info));
        assert!(!full.name("e").matches(&info));
        assert!(!RequestMatch::mutating().matches(&RequestInfo::parse("GET", "/api/v1/pods")));
    }
}
