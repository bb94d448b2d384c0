//! The files of this machine that a pattern matches.
//!
//! The glob library gives its matches as text, and with that loses names that are none without a word; it follows `**` through
//! links, without end where a link leads to a folder above; and it cannot be stopped.

use std::collections::HashSet;
use std::fs::{self, DirEntry, FileType, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::location::Name;
use crate::error::SourceError;

pub(super) const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// How deep folders may be nested in each other below the first one that is listed.
const DEEPEST: usize = 128;

/// What stands between two `/` of the URL.
enum Part {
    Name(std::ffi::OsString),
    Pattern(Pattern),
    /// `**`: any folders, none too.
    Folders,
}

/// A folder that is still to be looked into, for the parts from `part` on.
struct Todo {
    folder: PathBuf,
    part: usize,
    depth: usize,
}

pub(super) struct Walk<'a> {
    url: &'a str,
    parts: Vec<Part>,
    most: usize,
    /// An error as soon as nobody wants the list any more.
    go_on: &'a dyn Fn() -> Result<(), SourceError>,
    todo: Vec<Todo>,
    /// Where several `**` lead to the same folder in many ways, it is looked into once.
    seen: Option<HashSet<(PathBuf, usize)>>,
    found: Vec<(PathBuf, Metadata)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        url: &'a str,
        names: &[Name],
        most: usize,
        go_on: &'a dyn Fn() -> Result<(), SourceError>,
    ) -> Result<Self, SourceError> {
        let mut parts: Vec<Part> = Vec::new();
        for Name { name, pattern } in names {
            let part = match pattern.as_deref() {
                None => Part::Name(name.clone()),
                Some("**") => Part::Folders,
                Some(pattern) => Part::Pattern(pattern_or(url, pattern)?),
            };
            if !matches!((parts.last(), &part), (Some(Part::Folders), Part::Folders)) {
                parts.push(part);
            }
        }
        let several = parts.iter().filter(|part| matches!(part, Part::Folders)).count() > 1;
        let seen = several.then(HashSet::new);
        Ok(Self { url, parts, most, go_on, todo: Vec::new(), seen, found: Vec::new() })
    }

    /// The files that match, each with its state, in no order; one that several ways lead to may be there several times.
    pub(super) fn files(mut self) -> Result<Vec<(PathBuf, Metadata)>, SourceError> {
        self.todo.push(Todo { folder: PathBuf::from("/"), part: 0, depth: 0 });
        while let Some(todo) = self.todo.pop() {
            (self.go_on)()?;
            if let Some(seen) = &mut self.seen
                && !seen.insert((todo.folder.clone(), todo.part))
            {
                continue;
            }
            self.look(todo)?;
        }
        Ok(self.found)
    }

    fn look(&mut self, Todo { folder, part, depth }: Todo) -> Result<(), SourceError> {
        let last = part + 1 == self.parts.len();
        let listed = self.parts.iter().take(part).any(|part| !matches!(part, Part::Name(_)));
        match self.parts.get(part) {
            None => Ok(()),
            Some(Part::Name(name)) => {
                let path = folder.join(name);
                if last {
                    return match fs::metadata(&path) {
                        Err(error) if is_absent(&error) && fs::symlink_metadata(&path).is_ok() => {
                            Err(self.leads_to_nothing(&path))
                        }
                        Err(error) if listed && is_absent(&error) => Ok(()),
                        Err(error) => Err(self.unreadable(&path, error)),
                        Ok(metadata) => self.found(path, metadata),
                    };
                }
                self.todo.push(Todo { folder: path, part: part + 1, depth });
                Ok(())
            }
            Some(Part::Pattern(_)) => {
                for entry in self.entries(&folder, listed)? {
                    // A name that is no text is matched too: what stands for its bytes matches `*` and `?`.
                    let name = entry.file_name();
                    let matches = matches!(self.parts.get(part), Some(Part::Pattern(pattern)) if pattern.matches_with(&name.to_string_lossy(), MATCHING));
                    if !matches {
                        continue;
                    }
                    let path = entry.path();
                    let Some((kind, linked)) = self.kind(&entry, &path, last)? else { continue };
                    if last {
                        self.file(path, kind, linked)?;
                    } else if kind.is_dir() {
                        self.push(path, part + 1, depth + 1)?;
                    }
                }
                Ok(())
            }
            Some(Part::Folders) => {
                if !last {
                    self.todo.push(Todo { folder: folder.clone(), part: part + 1, depth });
                }
                for entry in self.entries(&folder, listed || depth > 0)? {
                    let path = entry.path();
                    let kind = entry.file_type().map_err(|error| self.unreadable(&path, error))?;
                    // A link to a folder is not gone through: it may lead to one above.
                    if kind.is_dir() {
                        self.push(path, part, depth + 1)?;
                    } else if last && let Some((kind, linked)) = self.kind(&entry, &path, last)? {
                        self.file(path, kind, linked)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn push(&mut self, folder: PathBuf, part: usize, depth: usize) -> Result<(), SourceError> {
        if depth > DEEPEST {
            return Err(SourceError::TooLarge {
                url: format!("{} ({:?})", self.url, folder),
                what: format!("folders are nested more than {DEEPEST} deep"),
            });
        }
        self.todo.push(Todo { folder, part, depth });
        Ok(())
    }

    /// What a folder holds. One that a pattern led to and that is gone since, or is none, holds nothing.
    fn entries(&self, folder: &Path, listed: bool) -> Result<Vec<DirEntry>, SourceError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && !listed => {
                return Err(SourceError::NoFiles { url: self.url.to_owned() });
            }
            Err(error) if listed && is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.unreadable(folder, error)),
        };
        let mut all = Vec::new();
        for (number, entry) in entries.enumerate() {
            if number.is_multiple_of(1024) {
                (self.go_on)()?;
            }
            all.push(entry.map_err(|error| self.unreadable(folder, error))?);
        }
        Ok(all)
    }

    /// What an entry is, behind links, and whether it is one. `None`: it is gone since its folder was listed, or a link to
    /// nothing where a folder is looked for.
    fn kind(&self, entry: &DirEntry, path: &Path, last: bool) -> Result<Option<(FileType, bool)>, SourceError> {
        let kind = match entry.file_type() {
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.unreadable(path, error)),
            Ok(kind) => kind,
        };
        if !kind.is_symlink() {
            return Ok(Some((kind, false)));
        }
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some((metadata.file_type(), true))),
            Err(error) if !last && leads_nowhere(&error) => Ok(None),
            Err(error) if leads_nowhere(&error) => Err(self.leads_to_nothing(path)),
            Err(error) => Err(self.unreadable(path, error)),
        }
    }

    fn file(&mut self, path: PathBuf, kind: FileType, linked: bool) -> Result<(), SourceError> {
        if kind.is_dir() {
            return Ok(());
        }
        match fs::metadata(&path) {
            Ok(metadata) => self.found(path, metadata),
            Err(error) if !linked && is_absent(&error) => Ok(()),
            Err(error) => Err(self.unreadable(&path, error)),
        }
    }

    fn found(&mut self, path: PathBuf, metadata: Metadata) -> Result<(), SourceError> {
        if metadata.is_dir() {
            return Ok(());
        }
        if let Some(what) = no_file(metadata.file_type()) {
            return Err(SourceError::InvalidUrl {
                url: self.url.to_owned(),
                why: format!(
                    "{path:?} is {what}, which cannot be read as a file; write the URL so that it does not match"
                ),
            });
        }
        self.found.push((path, metadata));
        if self.found.len() > self.most {
            return Err(too_many(self.url, self.most));
        }
        Ok(())
    }

    fn leads_to_nothing(&self, path: &Path) -> SourceError {
        SourceError::InvalidUrl {
            url: self.url.to_owned(),
            why: format!("{path:?} is a link to nothing; correct or remove it"),
        }
    }

    fn unreadable(&self, path: &Path, error: Error) -> SourceError {
        // As Debug shows it: a name may hold what is no text, or line breaks.
        SourceError::from_io(&format!("{} (in {path:?})", self.url), error)
    }
}

/// What is no file although it stands where files do, and would be waited for without end.
pub(super) fn no_file(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("a named pipe (FIFO)")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("a device")
    } else {
        None
    }
}

pub(super) fn pattern_or(url: &str, pattern: &str) -> Result<Pattern, SourceError> {
    Pattern::new(pattern).map_err(|error| SourceError::InvalidUrl {
        url: url.to_owned(),
        why: format!("the pattern is not valid: {error}; for the letter itself write [[], [*] or [?]"),
    })
}

pub(super) fn too_many(url: &str, most: usize) -> SourceError {
    SourceError::TooLarge { url: url.to_owned(), what: format!("more than {most} files match, which is the limit") }
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn leads_nowhere(error: &Error) -> bool {
    is_absent(error) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
