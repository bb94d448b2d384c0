//! The journal of a build: a JSON line for each change, for the timeline.
//!
//! It decides nothing. A line that a crash tore is skipped.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use indexbuild_timeline::{Entry, SlotEvent};

/// The journal, open for more.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    entries: Vec<Entry>,
}

impl Journal {
    /// Reads what former runs of the build wrote, and goes on after it.
    #[must_use]
    pub(crate) fn open(path: &Path) -> Self {
        let text = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let entries = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file
            .and_then(|mut file| {
                // After a torn line, a new one begins.
                if !text.is_empty() && !text.ends_with('\n') {
                    file.write_all(b"\n")?;
                }
                Ok(file)
            })
            .map_err(|error| tracing::warn!(%error, path = %path.display(), "the timeline cannot be kept"))
            .ok();
        Self { file, entries }
    }

    pub(crate) fn add(&mut self, slot: u32, what: SlotEvent) {
        let at = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let entry = Entry { at, slot, what };
        if let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_vec(&entry)) {
            line.push(b'\n');
            // One write a line: it is whole, or it is the last.
            if let Err(error) = file.write_all(&line) {
                tracing::debug!(%error, "a line of the timeline was lost");
            }
        }
        self.entries.push(entry);
    }

    /// All entries, in the order they were made.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_goes_on_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timeline.jsonl");
        let mut journal = Journal::open(&path);
        journal.add(1, SlotEvent::Note { text: "first".to_owned() });
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"at\": 12, \"sl").unwrap();
        let mut journal = Journal::open(&path);
        journal.add(2, SlotEvent::Note { text: "second".to_owned() });
        let entries = Journal::open(&path).entries().to_vec();
        assert_eq!(entries.iter().map(|entry| entry.slot).collect::<Vec<_>>(), vec![1, 2]);
    }
}
