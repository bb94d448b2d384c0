//! Reads of Kubernetes objects, through one `kubectl proxy` that lives as long as its cluster.
//!
//! Tests ask again and again until something has come to pass, several times a second and for minutes: to start
//! a kubectl for each question took more of the machine than all that was asked about.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::Files;
use crate::error::{At as _, TestbedError};
use crate::namespace::{Namespace, Net};
use crate::process::Process;
use crate::tools::Tools;

/// A stopped API server answers nothing; kubectl, too, would wait for so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The resources that tests read: names, path and plural in the API, and whether they are in a namespace.
const RESOURCES: [(&[&str], &str, &str, bool); 16] = [
    (&["pods", "pod", "po"], "/api/v1", "pods", true),
    (&["persistentvolumeclaims", "persistentvolumeclaim", "pvc"], "/api/v1", "persistentvolumeclaims", true),
    (&["persistentvolumes", "persistentvolume", "pv"], "/api/v1", "persistentvolumes", false),
    (&["nodes", "node", "no"], "/api/v1", "nodes", false),
    (&["namespaces", "namespace", "ns"], "/api/v1", "namespaces", false),
    (&["events", "event", "ev"], "/api/v1", "events", true),
    (&["configmaps", "configmap", "cm"], "/api/v1", "configmaps", true),
    (&["secrets", "secret"], "/api/v1", "secrets", true),
    (&["serviceaccounts", "serviceaccount", "sa"], "/api/v1", "serviceaccounts", true),
    (&["leases", "lease"], "/apis/coordination.k8s.io/v1", "leases", true),
    (&["roles", "role"], "/apis/rbac.authorization.k8s.io/v1", "roles", true),
    (&["rolebindings", "rolebinding"], "/apis/rbac.authorization.k8s.io/v1", "rolebindings", true),
    (&["customresourcedefinitions", "crd"], "/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", false),
    (&["volumeattachments", "volumeattachment"], "/apis/storage.k8s.io/v1", "volumeattachments", false),
    (&["indexbuilds", "indexbuild", "ib"], "/apis/indexbuild.dev/v1alpha1", "indexbuilds", true),
    (&["enginedirectories", "enginedirectory", "ed"], "/apis/indexbuild.dev/v1alpha1", "enginedirectories", true),
];

pub(crate) fn socket(cluster: &Path) -> PathBuf {
    cluster.join("api.sock")
}

pub(crate) fn proxy(
    namespace: &Namespace,
    tools: &Tools,
    files: &Files,
    cluster: &Path,
    logs: &Path,
) -> Result<Process, TestbedError> {
    let mut command = namespace.command(&Net::Control, tools.path("kubectl"));
    command.env("KUBECONFIG", &files.admin).arg("proxy");
    command.arg(format!("--unix-socket={}", socket(cluster).display()));
    Process::start(command, "kubectl-proxy", logs)
}

/// The path of what `kubectl get` would be asked with these arguments; `None` where only kubectl knows.
pub(crate) fn path_of(arguments: &[&str]) -> Option<String> {
    let (mut names, mut namespace, mut everywhere, mut query) = (Vec::new(), "default", false, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "-n" | "--namespace" => namespace = rest.next()?,
            "-l" | "--selector" => query.push(format!("labelSelector={}", encoded(rest.next()?))),
            "--field-selector" => query.push(format!("fieldSelector={}", encoded(rest.next()?))),
            "-A" | "--all-namespaces" => everywhere = true,
            // An object that is not found is an error here; kubectl's empty answer is none, but is no JSON either.
            "--ignore-not-found" => {}
            name if !name.starts_with('-') => names.push(name),
            _ => return None,
        }
    }
    let (resource, name) = match names[..] {
        [resource] => (resource, None),
        [resource, name] => (resource, Some(name)),
        _ => return None,
    };
    let (_, group, plural, namespaced) = RESOURCES.iter().find(|(names, ..)| names.contains(&resource))?;
    let mut path = (*group).to_owned();
    if *namespaced && !everywhere {
        let _ = write!(path, "/namespaces/{namespace}");
    }
    let _ = write!(path, "/{plural}");
    if let Some(name) = name {
        let _ = write!(path, "/{name}");
    }
    if !query.is_empty() {
        let _ = write!(path, "?{}", query.join("&"));
    }
    Some(path)
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// One answer of the API server, as kubectl would print it: items of a list say what they are.
pub(crate) fn get(socket: &Path, path: &str) -> Result<Value, TestbedError> {
    let answer = ask(socket, path).at("ask the API server through", socket)?;
    let failed = |status: &str, output: &str| TestbedError::Command {
        command: format!("GET {path}"),
        status: status.to_owned(),
        output: output.to_owned(),
    };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(failed("no answer", &answer));
    };
    let status = head.lines().next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(failed(status, body));
    }
    let mut answer: Value = serde_json::from_str(body)?;
    let version = answer["apiVersion"].clone();
    let kind = answer["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    match (kind, answer["items"].as_array_mut()) {
        (Some(kind), Some(items)) => {
            for item in items {
                item["apiVersion"] = version.clone();
                item["kind"] = json!(kind);
                without_managers(item);
            }
        }
        _ => without_managers(&mut answer),
    }
    Ok(answer)
}

/// kubectl leaves out who wrote which field, too.
fn without_managers(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

fn ask(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // By HTTP/1.0 the answer comes in one piece, and the connection ends with it.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn arguments_of_kubectl_are_paths_of_the_api() {
        for (arguments, path) in [
            (&["pods"][..], "/api/v1/namespaces/default/pods"),
            (&["pvc", "c", "-n", "shop"], "/api/v1/namespaces/shop/persistentvolumeclaims/c"),
            (&["node", "node1", "--ignore-not-found"], "/api/v1/nodes/node1"),
            (&["ib", "-A"], "/apis/indexbuild.dev/v1alpha1/indexbuilds"),
            (
                &["ed", "-n", "a", "-l", "x.dev/y=1,z"],
                "/apis/indexbuild.dev/v1alpha1/namespaces/a/enginedirectories?labelSelector=x.dev%2Fy%3D1%2Cz",
            ),
        ] {
            assert_eq!(path_of(arguments).as_deref(), Some(path));
        }
        for arguments in [&["pods,pvc", "-A"][..], &["pods", "-o", "wide"], &["pods", "a", "b"], &["deployments"], &[]]
        {
            assert_eq!(path_of(arguments), None, "{arguments:?}");
        }
    }
}
