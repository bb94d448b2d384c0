//! URLs: which store, and where in it.

use std::path::PathBuf;

use object_store::path::Path;
use url::Url;

use crate::error::SourceError;

/// The schemes of object stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    S3,
    Gs,
    Az,
    Http,
    Https,
}

/// A URL taken apart. The key or path may still be a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// An absolute path on this machine.
    Local(PathBuf),
    /// A place in a store.
    Remote {
        scheme: Scheme,
        /// `<scheme>://<authority>`
        base: String,
        /// As it is in the store, not percent-encoded.
        key: String,
    },
}

const KNOWN: [&str; 6] = ["file", "s3", "gs", "az", "http", "https"];

impl Location {
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let invalid = |why: &str| SourceError::InvalidUrl { url: url.to_owned(), why: why.to_owned() };
        let Some((scheme, rest)) = url.split_once("://") else {
            if url.is_empty() {
                return Err(invalid("it is empty; give a path or a URL"));
            }
            return std::path::absolute(url).map(Self::Local).map_err(|error| SourceError::from_io(url, error));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "file" => return local(url, rest).map(Self::Local),
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => {
                return Err(SourceError::UnknownScheme {
                    url: url.to_owned(),
                    known: KNOWN.iter().map(|scheme| format!("{scheme}://")).collect(),
                });
            }
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(invalid("it names no bucket or host; write it between :// and the next /"));
        }
        if key.is_empty() || key.ends_with('/') {
            return Err(invalid("it names a folder; add a pattern such as *.parquet"));
        }
        let (base, _) = url.split_at(url.len() - key.len() - 1);
        let key = match scheme {
            Scheme::S3 | Scheme::Gs | Scheme::Az => key.to_owned(),
            Scheme::Http | Scheme::Https => {
                if key.contains(['?', '#']) {
                    return Err(invalid(
                        "URLs with a query or fragment cannot be read; use one without (a signed URL: sign in by settings instead)",
                    ));
                }
                Path::from_url_path(key).map_err(|error| invalid(&error.to_string()))?.to_string()
            }
        };
        Ok(Self::Remote { scheme, base: base.to_owned(), key })
    }
}

/// The path or key of a file's URL, as its folders are named there.
pub(crate) fn path_bytes(url: &str) -> Result<Vec<u8>, SourceError> {
    Ok(match Location::parse(url)? {
        Location::Local(path) => path.into_os_string().into_encoded_bytes(),
        Location::Remote { scheme: _, base: _, key } => key.into_bytes(),
    })
}

/// The path of a `file://` URL; percent-encoding is undone, pattern characters stay.
fn local(url: &str, rest: &str) -> Result<PathBuf, SourceError> {
    let invalid = || SourceError::InvalidUrl {
        url: url.to_owned(),
        why: "a file URL is file:// and an absolute path, for example file:///data/t.parquet".to_owned(),
    };
    let encoded = format!("file://{}", rest.replace('?', "%3F").replace('#', "%23"));
    Url::parse(&encoded).map_err(|_| invalid())?.to_file_path().map_err(|()| invalid())
}

/// The URL of a local file, such that [`Location::parse`] gives back the path.
pub(super) fn local_url(path: &std::path::Path) -> String {
    Url::from_file_path(path).map_or_else(|()| format!("file://{}", path.display()), String::from)
}

/// Whether a key or path is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_local_url_names_the_path_it_was_made_from() {
        for path in ["/data/t.parquet", "/a b/100%/x?.csv", "/täble/#1/[x]*.csv"] {
            let path = PathBuf::from(path);
            assert_eq!(Location::parse(&local_url(&path)).unwrap(), Location::Local(path));
        }
    }

    #[test]
    fn keys_of_buckets_are_taken_literally_and_those_of_web_servers_decoded() {
        let key = |url: &str| match Location::parse(url).unwrap() {
            Location::Remote { base, key, .. } => (base, key),
            Location::Local(path) => (String::new(), path.display().to_string()),
        };
        assert_eq!(key("s3://lake/a%20b/*.parquet"), ("s3://lake".to_owned(), "a%20b/*.parquet".to_owned()));
        assert_eq!(key("https://host:81/a%20b.csv"), ("https://host:81".to_owned(), "a b.csv".to_owned()));
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_the_list_of_known_ones() {
        let message = Location::parse("hdfs://x/y").unwrap_err().to_string();
        assert_eq!(
            message,
            "hdfs://x/y: unknown URL scheme; known are file://, s3://, gs://, az://, http://, https://"
        );
    }

    #[test]
    fn urls_that_name_no_file_are_refused_with_what_to_write() {
        for (url, part) in [
            ("s3://lake", "names a folder"),
            ("s3://lake/orders/", "names a folder"),
            ("s3:///orders.csv", "no bucket"),
            ("https://host/t.csv?signature=x", "query"),
            ("file://host/t.csv", "absolute path"),
            ("", "empty"),
        ] {
            let message = Location::parse(url).unwrap_err().to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
    }
}
