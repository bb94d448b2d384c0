//! Lists without the keys that cannot be read.
//!
//! The library's paths have no empty part, no `.` and no `..`, and no slash at an end. One key `x//y` beside those that are
//! wanted made it refuse the whole list, and `x/`, the mark that consoles make for a folder, came out as an object `x` that is
//! not there. Such keys are taken out of a list's answer before the library sees it.

use http::{Method, Uri, request};
use object_store::path::Path;
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;

/// Keys that are named in a log, of one page of a list.
const NAMED: usize = 3;

/// Whether a request asks for a page of a list: by S3 and GCS, or by Azure.
pub(crate) fn is_list(parts: &request::Parts) -> bool {
    parts.method == Method::GET && asks_for_list(&parts.uri)
}

fn asks_for_list(uri: &Uri) -> bool {
    let has = |wanted: &str| uri.query().unwrap_or_default().split('&').any(|pair| pair == wanted);
    has("list-type=2") || (has("comp=list") && has("restype=container"))
}

/// Whether an object of this key can be asked for by it.
#[must_use]
pub fn is_readable(key: &str) -> bool {
    Path::parse(key).is_ok_and(|path| path.as_ref() == key)
}

/// A list's answer without the entries of keys that cannot be read. As it is, where it is nothing that is understood: then the
/// library says so.
pub(crate) fn readable(answer: bytes::Bytes) -> bytes::Bytes {
    let Some(entries) = std::str::from_utf8(&answer).ok().and_then(entries) else {
        return answer;
    };
    let unreadable: Vec<_> = entries.into_iter().filter(|(_, key)| !is_readable(key)).collect();
    if unreadable.is_empty() {
        return answer;
    }
    let mut kept = Vec::with_capacity(answer.len());
    let mut at = 0;
    for (place, _) in &unreadable {
        kept.extend_from_slice(answer.get(at..place.start).unwrap_or_default());
        at = place.end;
    }
    kept.extend_from_slice(answer.get(at..).unwrap_or_default());
    // Marks of folders are as common as they are empty of meaning.
    let objects: Vec<&str> = unreadable
        .iter()
        .map(|(_, key)| key.as_str())
        .filter(|key| !key.ends_with('/') || key.contains("//"))
        .collect();
    if !objects.is_empty() {
        let named: Vec<_> = objects.iter().take(NAMED).collect();
        tracing::warn!(
            keys = objects.len(),
            ?named,
            "passed over: a key with an empty part, `.`, `..` or a control character in it cannot be read; copy such objects to other keys"
        );
    }
    kept.into()
}

/// The objects of a list's answer: where each stands in it, and its key.
fn entries(answer: &str) -> Option<Vec<(std::ops::Range<usize>, String)>> {
    let mut reader = Reader::from_str(answer);
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Of the object that is being read: where it begins, how deep it stands, where its key begins, and the key.
    let mut entry: Option<(usize, usize)> = None;
    let (mut key_from, mut key) = (None, None);
    loop {
        let from = position(&reader)?;
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                depth += 1;
                match (tag.name().as_ref(), entry) {
                    (b"Contents" | b"Blob", None) => entry = Some((from, depth)),
                    (b"Key" | b"Name", Some((_, at))) if depth == at + 1 && key.is_none() => {
                        key_from = Some(position(&reader)?);
                    }
                    _ => {}
                }
            }
            Event::End(_) => {
                if let (Some(start), Some((_, at))) = (key_from, entry)
                    && depth == at + 1
                {
                    key = Some(unescape(answer.get(start..from)?).ok()?.into_owned());
                    key_from = None;
                }
                if let Some((start, at)) = entry
                    && depth == at
                {
                    if let Some(key) = key.take() {
                        found.push((start..position(&reader)?, key));
                    }
                    entry = None;
                }
                depth = depth.checked_sub(1)?;
            }
            // One that is cut off is the library's to refuse.
            Event::Eof => return (depth == 0).then_some(found),
            _ => {}
        }
    }
}

fn position(reader: &Reader<&[u8]>) -> Option<usize> {
    usize::try_from(reader.buffer_position()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_loses_the_keys_that_cannot_be_read_and_no_other() {
        let s3 = |key: &str| format!("<Contents><Owner><ID>x//y</ID></Owner><Key>{key}</Key><Size>3</Size></Contents>");
        let azure = |key: &str| format!("<Blob><Name>{key}</Name><Properties><Name>x//y</Name></Properties></Blob>");
        let cases = [
            ("a/b.parquet", true),
            ("a/b c+d&amp;e&#233;.parquet", true),
            ("...", true),
            ("a/_temporary/.b", true),
            ("x//y", false),
            ("/x", false),
            ("x/./y", false),
            ("x/../y", false),
            ("year=2024/", false),
            ("x/&#9;y", false),
            ("x&#x2f;/y", false),
        ];
        for of in [&s3 as &dyn Fn(&str) -> String, &azure] {
            let all: String = cases.iter().map(|(key, _)| of(key)).collect();
            let kept: String = cases.iter().filter(|(_, kept)| *kept).map(|(key, _)| of(key)).collect();
            let whole = |entries: &str| {
                format!("<?xml version=\"1.0\"?>\n<List a=\"b\"><Prefix>p//</Prefix>{entries}<Next>t</Next></List>")
            };
            assert_eq!(readable(whole(&all).into()), whole(&kept));
            assert_eq!(readable(whole(&kept).into()), whole(&kept));
        }
        for none in ["", "no list", "<List><Contents><Key>x//y</Key></List>", "{}"] {
            assert_eq!(readable(none.to_owned().into()), none);
        }
    }

    #[test]
    fn pages_of_lists_are_told_from_other_requests() {
        let is_list = |method: &str, uri: &str| {
            let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
            is_list(&request.into_parts().0)
        };
        for (method, uri, expected) in [
            ("GET", "http://h/b?list-type=2&prefix=x", true),
            ("GET", "http://h/b?prefix=x&list-type=2", true),
            ("GET", "http://h/c?restype=container&comp=list", true),
            ("GET", "http://h/b/list-type=2", false),
            ("GET", "http://h/b/k", false),
            ("PUT", "http://h/b?list-type=2", false),
        ] {
            assert_eq!(is_list(method, uri), expected, "{method} {uri}");
        }
    }
}
