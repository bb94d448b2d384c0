//! Paths as `file://` URLs, and back: one encoding for tables that are read and indexes that are written.
//!
//! A URL library cuts such a URL at `?` and `#`, takes `\` for `/` and `C|` for a drive, and puts a `/` behind a name that ends
//! in `x:`. Each of these is a letter of a file's name here; a place that is read as another one is an index in another folder.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

const SCHEME: &str = "file";

/// What is encoded in a name: as the URL standard has it for a part of a path, and `\`. Snapshots and manifests hold such URLs
/// and are compared letter by letter: this must not change.
const NAME: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'#')
    .add(b'?')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'%')
    .add(b'\\');

/// What is encoded where people read the URL that is made of their path: only what would mean something else.
const PATH: &AsciiSet = &CONTROLS.add(b'#').add(b'?').add(b'%').add(b'\\').add(b'*').add(b'[');

/// Why a text is no `file://` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFileUrl {
    #[error("a file URL is file:// and an absolute path, with three slashes, for example file:///data/t.parquet")]
    NoPath,
    #[error("%2F and %00 cannot be in the name of a file or folder")]
    BadName,
}

/// The URL of an absolute path, whatever bytes its names have.
#[must_use]
pub fn file_url(path: &Path) -> String {
    encoded(path, |name, url| url.extend(percent_encode(name, NAME)))
}

/// The URL of an absolute path, in which nothing is a pattern, and that reads as the path wherever it can.
#[must_use]
pub fn readable_file_url(path: &Path) -> String {
    encoded(path, |name, url| match std::str::from_utf8(name) {
        Ok(text) => {
            for letter in text.chars() {
                let mut bytes = [0; 4];
                let letter = letter.encode_utf8(&mut bytes);
                if letter.is_ascii() {
                    url.extend(percent_encode(letter.as_bytes(), PATH));
                } else {
                    url.push_str(letter);
                }
            }
        }
        Err(_) => url.extend(percent_encode(name, NAME)),
    })
}

fn encoded(path: &Path, push: impl Fn(&[u8], &mut String)) -> String {
    let mut url = format!("{SCHEME}://");
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => url.push_str("/.."),
            Component::Normal(name) => {
                url.push('/');
                push(name.as_bytes(), &mut url);
            }
        }
    }
    if url.ends_with("://") {
        url.push('/');
    }
    url
}

/// The path of a `file://` URL: percent-encoding is undone once, and every other letter stands for itself.
///
/// # Errors
/// [`BadFileUrl`]
pub fn path_of_file_url(url: &str) -> Result<PathBuf, BadFileUrl> {
    let mut path = PathBuf::from("/");
    for name in names_of_file_url(url)? {
        path.push(decoded_name(name)?);
    }
    Ok(path)
}

/// Whether this is a URL with the scheme of files, however it is spelled.
#[must_use]
pub fn is_file_url(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
}

/// The names in a `file://` URL's path, still encoded. `.` and `..` are followed, as in every URL.
///
/// # Errors
/// [`BadFileUrl::NoPath`]
pub fn names_of_file_url(url: &str) -> Result<Vec<&str>, BadFileUrl> {
    let (scheme, rest) = url.split_once("://").ok_or(BadFileUrl::NoPath)?;
    let (host, path) = rest.split_once('/').ok_or(BadFileUrl::NoPath)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || !(host.is_empty() || host.eq_ignore_ascii_case("localhost")) {
        return Err(BadFileUrl::NoPath);
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    Ok(names)
}

/// A name of a URL's path, decoded.
///
/// # Errors
/// [`BadFileUrl::BadName`]: it would be another path.
pub fn decoded_name(name: &str) -> Result<OsString, BadFileUrl> {
    let bytes: Vec<u8> = percent_decode_str(name).collect();
    if bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(BadFileUrl::BadName);
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each printable ASCII character, some beyond, and a byte that is no text, in a folder's and a file's name.
    fn names() -> Vec<OsString> {
        let mut names: Vec<OsString> =
            (b' '..=b'~').filter(|c| *c != b'/').map(|c| OsString::from_vec(vec![c])).collect();
        names.retain(|name| name != ".");
        names.extend(
            ["é", "日本", "🦀", "%41", "%2F", "%", "a:", "C|", "..x", "x..", "~", "\t", "\n", "**", "[a]"]
                .map(OsString::from),
        );
        names.push(OsString::from_vec(vec![b'a', 0xff, 0xfe]));
        names
    }

    #[test]
    fn a_path_is_the_same_path_after_the_way_through_a_url() {
        for name in names() {
            let path = Path::new("/data").join(&name).join(&name);
            for url in [file_url(&path), readable_file_url(&path)] {
                assert_eq!(path_of_file_url(&url).unwrap(), path, "{url}");
            }
        }
        assert_eq!(path_of_file_url(&file_url(Path::new("/"))).unwrap(), Path::new("/"));
    }

    #[test]
    fn a_path_without_special_letters_is_read_in_its_url() {
        assert_eq!(readable_file_url(Path::new("/home/é 1/日本/a+b")), "file:///home/é 1/日本/a+b");
        assert_eq!(readable_file_url(Path::new("/a#b/100%/[x]*?")), "file:///a%23b/100%25/%5Bx]%2A%3F");
    }

    #[test]
    fn a_url_is_decoded_once() {
        for (url, path) in [
            ("file:///a%20b", "/a b"),
            ("file:///%2541", "/%41"),
            ("file:///100%", "/100%"),
            ("FILE://localhost/x#y?z", "/x#y?z"),
            ("file:///a/./b/../c//d/", "/a/c/d"),
        ] {
            assert_eq!(path_of_file_url(url).unwrap(), Path::new(path), "{url}");
        }
        for url in ["file://host/x", "file:/x", "/x", "s3://b/x", "file://x"] {
            assert_eq!(path_of_file_url(url), Err(BadFileUrl::NoPath), "{url}");
        }
        for url in ["file:///a%2Fb", "file:///a%00"] {
            assert_eq!(path_of_file_url(url), Err(BadFileUrl::BadName), "{url}");
        }
    }
}
