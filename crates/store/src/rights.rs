//! Which right a store's refusal is about, by the name that its administrator knows.

use std::error::Error;

use http::StatusCode;

use crate::answer::{asked_metadata, code_of, status_of};

/// What was asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An object, or that it is there.
    Read,
    List,
    Write,
    Delete,
}

/// Answers with 403 that are about a right, by their codes; the others are about the credentials themselves, or a quota. Some
/// have none: an answer to `HEAD` has no body.
const RIGHTS_CODES: [&str; 9] = [
    "AccessDenied",
    "AccessForbidden",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "Forbidden",
    "InsufficientAccountPermissions",
    "UnauthorizedAccess",
];

/// The right that is missing where a store refused what was asked of it at `url` (`s3://bucket/key`; of a list, its prefix):
/// in words that follow the store's own. `None` where the refusal is about something else.
#[must_use]
pub fn missing_right(url: &str, asked: Asked, error: &(dyn Error + 'static)) -> Option<String> {
    let refused = status_of(error) == Some(StatusCode::FORBIDDEN);
    // A machine's metadata service knows nothing of buckets.
    let about_rights =
        !asked_metadata(error) && code_of(error).is_none_or(|code| RIGHTS_CODES.contains(&code.as_str()));
    (refused && about_rights).then(|| right(url, asked)).flatten()
}

fn right(url: &str, asked: Asked) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let key = key.trim_end_matches('/');
    let names = Names::of(&scheme.to_ascii_lowercase())?;
    let Names { list, holder, .. } = names;
    Some(match asked {
        Asked::Read => format!(
            "the credentials lack the right {} for {key}; or there is no such object, and they lack {list} for {holder} {bucket}, without which a store says 403 and not 404",
            names.read
        ),
        Asked::List if key.is_empty() => format!("the credentials lack the right {list} for {holder} {bucket}"),
        Asked::List => format!("the credentials lack the right {list} for {holder} {bucket}, prefix {key}/"),
        Asked::Write => format!("the credentials lack the right {} for {key}", names.write),
        Asked::Delete => format!("the credentials lack the right {} for {key}", names.delete),
    })
}

struct Names {
    read: &'static str,
    list: &'static str,
    write: &'static str,
    delete: &'static str,
    /// What a list is of.
    holder: &'static str,
}

impl Names {
    fn of(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "s3" | "s3a" => Self {
                read: "s3:GetObject",
                list: "s3:ListBucket",
                write: "s3:PutObject",
                delete: "s3:DeleteObject",
                holder: "bucket",
            },
            "gs" => Self {
                read: "storage.objects.get",
                list: "storage.objects.list",
                write: "storage.objects.create (and storage.objects.delete to replace an object)",
                delete: "storage.objects.delete",
                holder: "bucket",
            },
            "az" | "azure" | "abfs" | "abfss" | "adl" => Self {
                read: "blobs/read (role Storage Blob Data Reader; SAS: r)",
                list: "blobs/read (role Storage Blob Data Reader; SAS: l)",
                write: "blobs/write (role Storage Blob Data Contributor; SAS: c and w)",
                delete: "blobs/delete (role Storage Blob Data Contributor; SAS: d)",
                holder: "container",
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_s_own_name_of_the_right_is_said_with_key_or_prefix() {
        for (scheme, read, list, write, delete) in [
            ("s3", "s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"),
            ("gs", "storage.objects.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete"),
            ("az", "Data Reader; SAS: r", "Data Reader; SAS: l", "blobs/write", "blobs/delete"),
        ] {
            let url = format!("{scheme}://lake/orders/a.csv");
            let said = right(&url, Asked::Read).unwrap();
            assert!(said.contains(read) && said.contains("orders/a.csv") && said.contains(list), "{said}");
            assert!(said.contains("no such object"), "both that it may be: {said}");
            let said = right(&url, Asked::List).unwrap();
            assert!(said.contains(list) && said.contains("lake, prefix orders/a.csv/"), "{said}");
            for (asked, name) in [(Asked::Write, write), (Asked::Delete, delete)] {
                let said = right(&url, asked).unwrap();
                assert!(said.contains(name) && said.ends_with("for orders/a.csv"), "{said}");
            }
        }
        assert!(right("s3://lake", Asked::List).unwrap().ends_with("for bucket lake"));
        assert_eq!(right("https://example.org/x", Asked::Read), None, "a web server has no such names");
    }
}
