//! Values of settings as a client can take them.
//!
//! A secret that was made on another machine often ends in a line break, which no header of a request may hold: the library
//! panicked when it signed.

/// A setting's value that no request can carry. Its value is not told: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} holds {what} (character {at} of {length}); write it again, in one line and as plain text (UTF-8)")]
pub struct BadValue {
    name: String,
    what: &'static str,
    /// Its place, from 1.
    at: usize,
    length: usize,
}

/// A value without what stands around it by accident: blanks, line breaks, a byte order mark.
#[must_use]
pub fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}')
}

/// A setting's value as it can be used.
///
/// # Errors
/// [`BadValue`], which names the setting, where something stands within it that no header may hold.
pub(crate) fn usable<'a>(name: &str, value: &'a str) -> Result<&'a str, BadValue> {
    let value = trimmed(value);
    let lower = name.to_ascii_lowercase();
    // A JSON document has line breaks of its own.
    if lower.contains("service_account_key") {
        return Ok(value);
    }
    // Names of files, and the key that only signs, may be in any language.
    let any_text = ["file", "path", "service_account", "application_credentials", "secret"];
    let any_text = any_text.iter().any(|part| lower.contains(part));
    let bad = |c: &char| c.is_control() || *c == char::REPLACEMENT_CHARACTER || (!any_text && !c.is_ascii());
    match value.chars().enumerate().find(|(_, c)| bad(c)) {
        None => Ok(value),
        Some((at, c)) => {
            let what = match c {
                '\n' | '\r' => "a line break in its midst",
                c if c.is_control() => "a control character in its midst",
                char::REPLACEMENT_CHARACTER => "bytes that are no text",
                _ => "a character that is not ASCII",
            };
            Err(BadValue { name: name.to_ascii_uppercase(), what, at: at + 1, length: value.chars().count() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_a_value_goes_and_what_stands_within_is_refused_by_the_settings_name() {
        for end in ["", "\n", "\r\n", "\r", " ", "\t\n", "\u{feff}", "\0"] {
            for name in ["aws_access_key_id", "AWS_SESSION_TOKEN", "azure_storage_account_key", "endpoint"] {
                assert_eq!(usable(name, &format!("{end}abc+/={end}")), Ok("abc+/="), "{name} {end:?}");
            }
        }
        for (name, value, what) in [
            ("aws_access_key_id", "AK\nIA", Some("line break")),
            ("aws_session_token", "AK\rIA\n", Some("line break")),
            ("aws_secret_access_key", "a\0b\0", Some("control character")),
            ("aws_secret_access_key", "schlüssel", None),
            ("azure_storage_account_name", "kontö", Some("not ASCII")),
            ("aws_secret_access_key", "a\u{fffd}b", Some("no text")),
            ("google_service_account_key", "{\n \"type\": \"é\"\r\n}\n", None),
            ("google_service_account", "/données/clé.json", None),
            ("region", "eu-\u{200b}west", Some("not ASCII")),
            ("endpoint", "http://a\nb", Some("line break")),
        ] {
            match (usable(name, value), what) {
                (Ok(_), None) => {}
                (Err(error), Some(what)) => {
                    let said = error.to_string();
                    assert!(said.contains(what) && said.contains(&name.to_ascii_uppercase()), "{said}");
                    assert!(!said.contains(value), "it may be a secret: {said}");
                }
                (outcome, _) => panic!("{name} {value:?}: {outcome:?}"),
            }
        }
    }
}
