//! The files of a table, and their states at the time of the plan.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The pinned list of files, sorted by URL. A file's number is its position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub files: Vec<FileStamp>,
}

impl Snapshot {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStamp {
    /// Its absolute URL, without patterns.
    pub url: String,
    /// Its length in bytes.
    pub size: u64,
    /// The store's etag as it gave it, if it gave one. The same one is spelled in several ways: see [`Self::same_state`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was last modified, RFC 3339; local files to the nanosecond. Plans of former versions have it only where there
    /// is no etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
}

impl FileStamp {
    /// Whether both describe the same state of a file.
    ///
    /// Size and etag decide; where one of the two has no etag (some stores give one only in lists, or only with an object),
    /// size and time.
    pub fn same_state(&self, other: &Self) -> bool {
        let Self { url: _, size, etag, mtime } = self;
        if *size != other.size {
            return false;
        }
        match (opaque_tag(etag.as_deref()), opaque_tag(other.etag.as_deref())) {
            (Some(one), Some(two)) => one == two,
            (None | Some(_), None) | (None, Some(_)) => match (mtime, &other.mtime) {
                (Some(one), Some(two)) if self.is_local() => one == two,
                (Some(one), Some(two)) => same_second(one, two),
                (None | Some(_), None) | (None, Some(_)) => false,
            },
        }
    }

    /// Whether it is a file of this machine, whose time has one clock and all its digits.
    fn is_local(&self) -> bool {
        self.url.starts_with("file://")
    }
}

/// The part of an etag that tells one state of an object from another: without the quotes, which some stores leave out in
/// lists but not in headers, and without `W/`, which a proxy may put before it. `None`: nothing is left.
pub(crate) fn opaque_tag(etag: Option<&str>) -> Option<&str> {
    let etag = etag?.trim();
    let strong = etag.strip_prefix("W/").unwrap_or(etag);
    Some(strong.trim_matches('"')).filter(|tag| !tag.is_empty())
}

/// Times in headers have whole seconds, those in lists of the same store have fractions.
fn same_second(one: &str, two: &str) -> bool {
    match (one.parse::<Timestamp>(), two.parse::<Timestamp>()) {
        (Ok(one), Ok(two)) => one.as_second() == two.as_second(),
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => one == two,
    }
}

/// The state in words: `123 bytes, etag "..."`.
impl fmt::Display for FileStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)?;
        if let Some(etag) = &self.etag {
            write!(f, ", etag {etag}")?;
        }
        if let Some(mtime) = &self.mtime {
            write!(f, ", modified {mtime}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64, etag: Option<&str>, mtime: Option<&str>) -> FileStamp {
        let own = |text: Option<&str>| text.map(str::to_owned);
        FileStamp { url: "s3://lake/t.parquet".to_owned(), size, etag: own(etag), mtime: own(mtime) }
    }

    const TIME: Option<&str> = Some("2026-01-01T10:00:00+00:00");
    const LATER: Option<&str> = Some("2026-01-01T10:00:01+00:00");

    fn same(one: &FileStamp, two: &FileStamp) -> bool {
        let same = one.same_state(two);
        assert_eq!(two.same_state(one), same);
        same
    }

    #[test]
    fn an_etag_is_the_same_in_each_spelling_and_another_one_in_none() {
        let spellings = ["\"0x8D\"", "0x8D", "W/\"0x8D\"", " \"0x8D\" "];
        for one in spellings {
            for two in spellings {
                // The time says nothing where both have an etag: a copy of the same content is the same.
                assert!(same(&stamp(1, Some(one), TIME), &stamp(1, Some(two), LATER)), "{one} and {two}");
                assert!(!same(&stamp(1, Some(one), TIME), &stamp(2, Some(two), TIME)), "of another size");
            }
            for other in ["\"0x8E\"", "0x8E", "W/\"0x8E\"", "\"0x8D\"-gzip", "\"w/0x8D\""] {
                assert!(!same(&stamp(1, Some(one), TIME), &stamp(1, Some(other), TIME)), "{one} and {other}");
            }
        }
    }

    #[test]
    fn where_one_answer_has_no_etag_size_and_time_decide() {
        for none in [None, Some(""), Some("\"\""), Some("W/\"\"")] {
            for other in [Some("\"0x8D\""), None] {
                assert!(same(&stamp(1, other, TIME), &stamp(1, none, TIME)), "{other:?} and {none:?}");
                assert!(!same(&stamp(1, other, TIME), &stamp(1, none, LATER)), "{other:?} and {none:?}, later");
                assert!(!same(&stamp(1, other, TIME), &stamp(2, none, TIME)), "{other:?} and {none:?}, longer");
            }
        }
    }

    #[test]
    fn a_list_that_has_fractions_of_a_second_agrees_with_a_header_that_has_none() {
        let (list, header) = (Some("2026-01-01T10:00:00.789+00:00"), Some("2026-01-01T10:00:00+00:00"));
        assert!(same(&stamp(1, None, list), &stamp(1, None, header)));
        assert!(!same(&stamp(1, None, list), &stamp(1, None, LATER)));
        // A local file has one clock, and each nanosecond counts.
        let local = |mtime| FileStamp { url: "file:///t.parquet".to_owned(), ..stamp(1, None, mtime) };
        assert!(same(&local(list), &local(list)));
        assert!(!same(&local(list), &local(header)));
    }

    /// Plans that are there already: an etag with quotes and no time, or a time and no etag.
    #[test]
    fn a_stamp_of_a_former_versions_plan_still_matches() {
        let former: FileStamp =
            serde_json::from_str(r#"{"url":"s3://lake/t.parquet","size":1,"etag":"\"0x8D\""}"#).unwrap();
        assert!(same(&former, &stamp(1, Some("\"0x8D\""), TIME)));
        assert!(same(&former, &stamp(1, Some("0x8D"), TIME)));
        assert!(!same(&former, &stamp(1, Some("\"0x8E\""), TIME)));
        assert!(!same(&former, &stamp(1, None, TIME)), "nothing but its size is known of both");
        let former: FileStamp =
            serde_json::from_str(r#"{"url":"s3://lake/t.parquet","size":1,"mtime":"2026-01-01T10:00:00+00:00"}"#)
                .unwrap();
        assert!(same(&former, &stamp(1, Some("\"0x8D\""), TIME)));
        assert!(!same(&former, &stamp(1, Some("\"0x8D\""), LATER)));
    }
}
