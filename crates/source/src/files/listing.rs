//! From URLs with patterns to the list of files.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use indexbuild_store::{file_url, is_readable};
use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::location::{LocalPlace, Location, Scheme};
use super::pinned::{file_at, local_stamp, object, objects, remote_stamp};
use super::stores::Stores;
use super::walk::{MATCHING, Walk, pattern_or, too_many};
use crate::error::SourceError;
use crate::snapshot::{FileStamp, Snapshot};

/// Row positions hold 24 bits of file number.
const MOST_FILES: usize = 1 << 24;

/// A file that matches, and what it is on this machine.
struct Listed {
    stamp: FileStamp,
    here: Option<Here>,
}

/// By which one file is known that has several names.
struct Here {
    path: PathBuf,
    /// Device and inode, and how many names it has.
    inode: (u64, u64),
    names: u64,
}

/// Of a key that the stores' clients cannot ask for.
const UNREADABLE: &str = "has an empty part, `.` or `..`, or a control character in it, and cannot be read; copy the object to another key, and name that";

/// All files that the URLs name, each once, sorted by URL.
pub(crate) fn list(urls: &[String], stores: &Stores) -> Result<Snapshot, SourceError> {
    let mut files = Vec::new();
    for url in urls {
        let before = files.len();
        match Location::parse(url)? {
            Location::Local(place) => {
                let here = local(url, &place, stores)?;
                files.extend(here.into_iter().map(|(path, metadata)| listed(path, &metadata)));
            }
            Location::Remote { scheme, base, key, pattern } => {
                let objects = match pattern {
                    Some(pattern) => matching(url, scheme, &base, &pattern, stores)?,
                    None => vec![one(url, scheme, &base, &key, stores)?],
                };
                files.extend(objects.into_iter().map(|stamp| Listed { stamp, here: None }));
            }
        }
        if files.len() == before {
            return Err(SourceError::NoFiles { url: url.clone() });
        }
        if files.len() > MOST_FILES {
            return Err(too_many(&urls.join(", "), MOST_FILES));
        }
    }
    if urls.is_empty() {
        return Err(SourceError::InvalidOptions {
            message: "the source has no urls; name at least one file".to_owned(),
        });
    }
    files.sort_unstable_by(|left, right| left.stamp.url.cmp(&right.stamp.url));
    files.dedup_by(|left, right| left.stamp.url == right.stamp.url);
    let files = each_once(files).into_iter().map(|file| file.stamp).collect();
    Ok(Snapshot { files })
}

fn listed(path: PathBuf, metadata: &Metadata) -> Listed {
    let stamp = local_stamp(&file_url(&path), metadata);
    let here = Here { path, inode: (metadata.dev(), metadata.ino()), names: metadata.nlink() };
    Listed { stamp, here: Some(here) }
}

/// Of the names of one file the first: rows that are read by two names would be in the index twice.
///
/// An inode alone proves nothing, as some network file systems make them up: the file has several names by its own word, or
/// both paths lead to one.
fn each_once(files: Vec<Listed>) -> Vec<Listed> {
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut once = files;
    once.retain(|file| {
        let Some(Here { path, inode, names }) = &file.here else { return true };
        match first.get(inode) {
            None => {
                first.insert(*inode, path.clone());
                true
            }
            Some(other) => *names < 2 && !lead_to_one(path, other),
        }
    });
    once
}

fn lead_to_one(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn local(url: &str, place: &LocalPlace, stores: &Stores) -> Result<Vec<(PathBuf, Metadata)>, SourceError> {
    if !place.is_pattern() {
        return Ok(vec![(place.path.clone(), file_at(url, &place.path)?)]);
    }
    let go_on = || stores.go_on(url);
    // A file whose name holds pattern characters may be meant literally.
    let literal = std::fs::metadata(&place.path).is_ok_and(|metadata| !metadata.is_dir());
    let files = match Walk::new(url, &place.names, MOST_FILES, &go_on) {
        Ok(walk) => walk.files(),
        Err(_) if literal => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    match files {
        Ok(files) if literal && files.is_empty() => Ok(vec![(place.path.clone(), file_at(url, &place.path)?)]),
        // Which of the two is meant nobody can know, and the rows of the other would be lost without a word.
        Ok(files) if literal && files.iter().all(|(path, _)| *path != place.path) => Err(SourceError::InvalidUrl {
            url: url.to_owned(),
            why: format!(
                "it is the name of a file, and a pattern that matches others, such as {:?}; for the file write [[] for its [, for the others rename it",
                files.first().map_or(Path::new(""), |(path, _)| path.as_path())
            ),
        }),
        other => other,
    }
}

/// A key, or a pattern, with parts that no client can ask for.
fn refuse_unreadable(url: &str, scheme: Scheme, key: &str) -> Result<(), SourceError> {
    if matches!(scheme, Scheme::S3 | Scheme::Gs | Scheme::Az) && !is_readable(key) {
        let why = format!("the key {key:?} {UNREADABLE}");
        return Err(SourceError::InvalidUrl { url: url.to_owned(), why });
    }
    Ok(())
}

fn one(url: &str, scheme: Scheme, base: &str, key: &str, stores: &Stores) -> Result<FileStamp, SourceError> {
    refuse_unreadable(url, scheme, key)?;
    let bucket = stores.bucket(scheme, base)?;
    let path =
        Key::parse(key).map_err(|error| SourceError::InvalidUrl { url: url.to_owned(), why: error.to_string() })?;
    let meta = object(url, &bucket, &path)?;
    Ok(remote_stamp(&stamp_url(scheme, base, &meta.location), &meta))
}

fn matching(
    url: &str,
    scheme: Scheme,
    base: &str,
    pattern: &str,
    stores: &Stores,
) -> Result<Vec<FileStamp>, SourceError> {
    refuse_unreadable(url, scheme, pattern)?;
    let bucket = stores.bucket(scheme, base)?;
    let folder = pattern
        .find(['*', '?', '['])
        .and_then(|first| pattern.get(..first))
        .and_then(|literal| literal.rsplit_once('/'))
        .map(|(folder, _)| Key::parse(folder))
        .transpose()
        .map_err(|error| SourceError::InvalidUrl { url: url.to_owned(), why: error.to_string() })?;
    let pattern = pattern_or(url, pattern)?;
    let listed = objects(url, &bucket, folder.as_ref())?;
    let folders = folders(&listed);
    let mut files = Vec::new();
    for meta in &listed {
        let key = meta.location.as_ref();
        if pattern.matches_with(key, MATCHING) && !(meta.size == 0 && marks_folder(key, &folders)) {
            files.push(remote_stamp(&stamp_url(scheme, base, &meta.location), meta));
        }
    }
    Ok(files)
}

/// The folders in which something stands.
fn folders(listed: &[ObjectMeta]) -> HashSet<&str> {
    let mut folders = HashSet::new();
    for meta in listed {
        let mut key = meta.location.as_ref();
        while let Some((folder, _)) = key.rsplit_once('/')
            && folders.insert(folder)
        {
            key = folder;
        }
    }
    folders
}

/// Whether an empty object only says that there is a folder: Hadoop's by its name, and those of Azure's hierarchical namespaces
/// by what stands in it. Marks that end in a slash are in no list.
fn marks_folder(key: &str, folders: &HashSet<&str>) -> bool {
    key.ends_with("_$folder$") || folders.contains(key)
}

fn stamp_url(scheme: Scheme, base: &str, key: &Key) -> String {
    match scheme {
        Scheme::S3 | Scheme::Gs | Scheme::Az => format!("{base}/{key}"),
        // Keys of web servers are decoded when a URL is taken apart.
        Scheme::Http | Scheme::Https => {
            let encoded = key.as_ref().replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
            format!("{base}/{encoded}")
        }
    }
}
