//! A failure in words that do not change from one try to the next.
//!
//! Who waits for a store says what it answered. A text with a running time or a request's number in it would be another
//! one at each try: it would be written anew each time, and look like progress.

use std::error::Error;

use http::StatusCode;
use indexbuild_text::{bounded, causes};

/// What the library's own retries add around an answer: method, URL and how long it took.
const RETRIES: &str = "Error performing ";
const STATUS: &str = "status code: ";
const BATCH: &str = "ulk delete request failed";
/// The longest part of an answer that is told, in bytes.
const LONGEST: usize = 300;
/// Where cloud machines ask for credentials when nobody gave them any.
const METADATA: [&str; 3] = ["169.254.169.254", "metadata.google.internal", "169.254.170.2"];

/// What was answered, or what the way to the store said instead.
#[must_use]
pub fn answer(error: &(dyn Error + 'static)) -> String {
    let parts = parts(error);
    if asked_metadata(error) {
        return "no credentials were given, and this machine's metadata service gives none".to_owned();
    }
    let whole = parts.join(": ");
    let Some(status) = status_in(&whole) else {
        return in_a_line(&whole);
    };
    let said = match (element(&whole, "Code"), element(&whole, "Message")) {
        (Some(code), Some(message)) => format!("{status}: {code}: {message}"),
        (Some(code), None) => format!("{status}: {code}"),
        (None, _) => {
            let body = whole.split_once(&format!("{STATUS}{status}")).map_or("", |(_, body)| body);
            match body.trim_matches([':', ' ', '\n', '\r']) {
                "" => status.to_string(),
                body => format!("{status}: {body}"),
            }
        }
    };
    in_a_line(&said)
}

/// The messages of an error and of all that caused it, from the first that says what was answered; each once.
fn parts(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for error in causes(error) {
        let text = error.to_string();
        // What follows says the same without the time that the retries took.
        if text.contains(RETRIES) && error.source().is_some() {
            all.clear();
        } else {
            // An outer message often ends with that of its cause.
            if let Some(last) = all.last_mut()
                && let Some(outer) = last.strip_suffix(&text)
            {
                *last = outer.trim_end_matches([':', ' ']).to_owned();
            }
            all.push(text);
        }
    }
    all.retain(|part| !part.is_empty());
    all.dedup();
    all
}

/// Whether somebody who had no credentials asked the machine for some.
pub(crate) fn asked_metadata(error: &(dyn Error + 'static)) -> bool {
    says(error, &METADATA)
}

/// Whether any of the words stands in the error or in what caused it.
pub(crate) fn says(error: &(dyn Error + 'static), words: &[&str]) -> bool {
    causes(error).map(ToString::to_string).any(|text| words.iter().any(|word| text.contains(word)))
}

/// The status that the store answered with, if it answered at all.
pub(crate) fn status_of(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    status_in(&parts(error).join(": "))
}

/// The error code in the answer's body.
pub(crate) fn code_of(error: &(dyn Error + 'static)) -> Option<String> {
    element(&parts(error).join(": "), "Code").map(ToOwned::to_owned)
}

/// Whether the answer's body has one of these error codes.
pub(crate) fn has_code(error: &(dyn Error + 'static), codes: &[&str]) -> bool {
    code_of(error).is_some_and(|code| codes.contains(&code.as_str()))
}

fn status_in(text: &str) -> Option<StatusCode> {
    // Azure deletes in batches, whose parts have statuses of their own.
    let of_part = || text.split_once(BATCH)?.1.split_once("(code: ");
    let (_, rest) = text.split_once(STATUS).or_else(of_part)?;
    StatusCode::from_bytes(rest.get(..3)?.as_bytes()).ok()
}

/// The text of an XML element, as stores write their errors.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim()).filter(|inner| !inner.is_empty())
}

fn in_a_line(text: &str) -> String {
    bounded(&text.split_whitespace().collect::<Vec<_>>().join(" "), LONGEST)
}
