//! URLs: which store, and where in it.

use std::ffi::OsString;
use std::path::{Component, Path as LocalPath, PathBuf};

use glob::Pattern;
use indexbuild_store::{BadFileUrl, decoded_name, names_of_file_url};
use object_store::path::Path;

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

/// A URL taken apart: by its text, and as the pattern that it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A place on this machine.
    Local(LocalPlace),
    /// A place in a store.
    Remote {
        scheme: Scheme,
        /// `<scheme>://<authority>`
        base: String,
        /// As it is in the store, not percent-encoded.
        key: String,
        /// The text of the pattern that the key is, if it is one.
        pattern: Option<String>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalPlace {
    /// The absolute path, every letter of which stands for itself.
    pub(super) path: PathBuf,
    pub(super) names: Vec<Name>,
}

/// The name of a folder or file in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: OsString,
    /// The text of the pattern that it is, if it is one.
    pub(super) pattern: Option<String>,
}

const KNOWN: [&str; 6] = ["file", "s3", "gs", "az", "http", "https"];

impl Location {
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let invalid = |why: &str| SourceError::InvalidUrl { url: url.to_owned(), why: why.to_owned() };
        let Some((scheme, rest)) = url.split_once("://") else {
            if url.is_empty() {
                return Err(invalid("it is empty; give a path or a URL"));
            }
            return LocalPlace::of_path(url).map(Self::Local).map_err(|error| SourceError::from_io(url, error));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                let place = LocalPlace::of_url(url).map_err(|error| invalid(&error.to_string()))?;
                return Ok(Self::Local(place));
            }
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
        let pattern = is_pattern(key).then(|| key.to_owned());
        let (key, pattern) = match scheme {
            Scheme::S3 | Scheme::Gs | Scheme::Az => (key.to_owned(), pattern),
            Scheme::Http | Scheme::Https => {
                // A `?` in a URL of the web begins a query, so that it cannot stand for a letter of a name.
                if key.contains(['?', '#']) {
                    return Err(invalid(
                        "URLs with a query or fragment cannot be read; use one without (a signed URL: sign in by settings instead)",
                    ));
                }
                let decoded = |name: &str| {
                    Path::from_url_path(name).map(|name| name.to_string()).map_err(|error| invalid(&error.to_string()))
                };
                let names = key.split('/').map(|name| pattern_of(name, &decoded)).collect::<Result<Vec<_>, _>>()?;
                (decoded(key)?, pattern.map(|_| names.join("/")))
            }
        };
        Ok(Self::Remote { scheme, base: base.to_owned(), key, pattern })
    }
}

/// The path or key of a file's URL, as its folders are named there.
pub(crate) fn path_bytes(url: &str) -> Result<Vec<u8>, SourceError> {
    Ok(match Location::parse(url)? {
        Location::Local(place) => place.path.into_os_string().into_encoded_bytes(),
        Location::Remote { scheme: _, base: _, key, pattern: _ } => key.into_bytes(),
    })
}

impl LocalPlace {
    /// The place of a plain path. What it is relative to, the folder of this process, is no pattern.
    fn of_path(text: &str) -> std::io::Result<Self> {
        let here = if text.starts_with('/') { PathBuf::from("/") } else { std::path::absolute(".")? };
        let literal = |name: &std::ffi::OsStr| Name { name: name.to_owned(), pattern: None };
        let mut names: Vec<Name> = normal_names(&here).map(literal).collect();
        names.extend(
            text.split('/')
                .filter(|name| !name.is_empty() && *name != ".")
                .map(|name| Name { name: name.into(), pattern: is_pattern(name).then(|| name.to_owned()) }),
        );
        Ok(Self { path: here.join(text), names })
    }

    /// The place of a `file://` URL: what is percent-encoded stands for itself.
    fn of_url(url: &str) -> Result<Self, BadFileUrl> {
        let mut path = PathBuf::from("/");
        let mut names = Vec::new();
        for encoded in names_of_file_url(url)? {
            let name = decoded_name(encoded)?;
            path.push(&name);
            let lossy = |part: &str| decoded_name(part).map(|part| part.to_string_lossy().into_owned());
            let pattern = is_pattern(encoded).then(|| pattern_of(encoded, &lossy)).transpose()?;
            names.push(Name { name, pattern });
        }
        Ok(Self { path, names })
    }

    pub(super) fn is_pattern(&self) -> bool {
        self.names.iter().any(|name| name.pattern.is_some())
    }
}

fn normal_names(path: &LocalPath) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    })
}

/// The pattern that an encoded name is. What `%2A`, `%3F` and `%5B` encode is no part of a pattern.
fn pattern_of<E>(encoded: &str, decoded: &dyn Fn(&str) -> Result<String, E>) -> Result<String, E> {
    let mut pattern = String::new();
    let mut rest = encoded;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        // A letter beyond ASCII is several encoded bytes, which are decoded as one.
        let length = from
            .as_bytes()
            .chunks(3)
            .take_while(
                |bytes| matches!(bytes, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
            )
            .count()
            * 3;
        pattern.push_str(before);
        let (encoded, after) = from.split_at(length);
        if encoded.is_empty() {
            pattern.push('%');
            rest = from.get(1..).unwrap_or_default();
        } else {
            pattern.push_str(&Pattern::escape(&decoded(encoded)?));
            rest = after;
        }
    }
    pattern.push_str(rest);
    Ok(pattern)
}

/// Whether a key or name is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use indexbuild_store::file_url;

    use super::*;

    fn local(url: &str) -> LocalPlace {
        match Location::parse(url).unwrap() {
            Location::Local(place) => place,
            other @ Location::Remote { .. } => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_local_url_names_the_path_it_was_made_from() {
        for path in ["/data/t.parquet", "/a b/100%/x?.csv", "/täble/#1/[x]*.csv", "/a\\b/C|/x:"] {
            let path = PathBuf::from(path);
            assert_eq!(local(&file_url(&path)).path, path);
        }
    }

    #[test]
    fn what_is_encoded_stands_for_itself_and_the_rest_is_a_pattern() {
        let patterns =
            |url: &str| -> Vec<Option<String>> { local(url).names.into_iter().map(|name| name.pattern).collect() };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(patterns("file:///a%5B1%5D/b*"), [None, text("b*")]);
        assert_eq!(patterns("file:///%2A*%3F"), [text("[*]*[?]")]);
        assert_eq!(patterns("file:///%C3%A9?/100%*"), [text("é?"), text("100%*")]);
        assert_eq!(patterns("/a%5B1%5D/b*"), [None, text("b*")], "a plain path has no encoding");
        assert_eq!(local("/a%5B1%5D/b*").path, PathBuf::from("/a%5B1%5D/b*"));
    }

    #[test]
    fn keys_of_buckets_are_taken_literally_and_those_of_web_servers_decoded() {
        let parsed = |url: &str| match Location::parse(url).unwrap() {
            Location::Remote { base, key, pattern, scheme: _ } => (base, key, pattern),
            Location::Local(place) => (String::new(), place.path.display().to_string(), None),
        };
        let own = str::to_owned;
        let pattern = Some(own("a%20b/*.parquet"));
        assert_eq!(parsed("s3://lake/a%20b/*.parquet"), (own("s3://lake"), own("a%20b/*.parquet"), pattern));
        assert_eq!(parsed("https://host:81/a%20b.csv"), (own("https://host:81"), own("a b.csv"), None));
        assert_eq!(parsed("https://host/x%5B1%5D.csv"), (own("https://host"), own("x[1].csv"), None));
        let pattern = Some(own("[[]1[]]/*.csv"));
        assert_eq!(parsed("https://host/%5B1%5D/*.csv"), (own("https://host"), own("[1]/*.csv"), pattern));
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
            ("file:///a%2Fb.csv", "%2F"),
            ("", "empty"),
        ] {
            let message = Location::parse(url).unwrap_err().to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
    }
}
