//! A failed call in the words of kubectl, whose users these are: one line, and nothing of how the error is kept.

use indexbuild_text::{chain, one_line};
use kube::core::Status;

/// What the API server said, or why it said nothing.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => from_server(status),
        // Below it stands what was tried, with each cause once.
        kube::Error::Service(source) => {
            format!("Unable to connect to the server: {}", one_line(&chain(source.as_ref())))
        }
        kube::Error::HyperError(source) => format!("Unable to connect to the server: {}", one_line(&chain(source))),
        kube::Error::Auth(source) => format!("Unable to sign in to the server: {}", one_line(&chain(source))),
        kube::Error::SerdeError(source) => format!("the server's answer is not understood: {source}"),
        other => one_line(&chain(other)),
    }
}

fn from_server(status: &Status) -> String {
    let Status { message, reason, code, .. } = status;
    let message = one_line(message);
    let message = if message.is_empty() { format!("HTTP {code}") } else { message };
    match reason.as_str() {
        "" => format!("Error from server: {message}"),
        reason => format!("Error from server ({}): {message}", one_line(reason)),
    }
}

/// What to do next about it.
pub(crate) const fn next_step(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            403 => "; ask an administrator of the cluster for that permission",
            401 => "; sign in again",
            404 => "; is indexbuild installed there (`kubectl get crd indexbuilds.indexbuild.dev`)?",
            _ => "",
        },
        _ => "; is the API server reachable (`kubectl version`)?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> kube::Error {
        let status = Status { code, reason: reason.to_owned(), message: message.to_owned(), ..Status::default() };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn a_refusal_is_a_line_as_kubectl_prints_it_and_shows_nothing_of_how_it_is_kept() {
        let denied = r#"indexbuilds.indexbuild.dev is forbidden: User "jane" cannot list resource "indexbuilds""#;
        for (error, expected) in [
            (status(403, "Forbidden", denied), format!("Error from server (Forbidden): {denied}")),
            (status(404, "NotFound", "not\nfound"), "Error from server (NotFound): not found".to_owned()),
            (status(500, "", "boom"), "Error from server: boom".to_owned()),
            (status(502, "", ""), "Error from server: HTTP 502".to_owned()),
        ] {
            assert_eq!(said(&error), expected);
            assert!(error.to_string().contains("Status {"), "the control: what kube says itself");
        }
        assert!(next_step(&status(403, "", "")).contains("permission") && next_step(&status(409, "", "")).is_empty());
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_its_causes_once() {
        let source = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "tcp connect error: refused");
        let told = said(&kube::Error::Service(Box::new(source)));
        assert_eq!(told, "Unable to connect to the server: tcp connect error: refused");
    }
}
