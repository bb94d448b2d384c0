//! Everything that was made and removed, by namespace: as the API server's own watches tell it, not as the operator
//! counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexbuild_api::{Epoch, IndexBuild, labels};
use kube::{Resource, ResourceExt as _};
use tokio::sync::Notify;

/// Kinds that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pod,
    Claim,
    Directory,
    Stage,
}

/// How many objects of each kind were made, and how many of them are gone again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub made: BTreeMap<Kind, usize>,
    pub gone: BTreeMap<Kind, usize>,
}

#[derive(Debug, Default)]
struct Book {
    /// Names by UID.
    made: BTreeMap<(Kind, String), String>,
    gone: BTreeSet<(Kind, String)>,
    /// For each build, slot and epoch, the UIDs of pods that were made for it.
    pods: BTreeMap<[String; 3], BTreeSet<String>>,
    /// The build as it is.
    build: Option<Arc<IndexBuild>>,
    /// Attempts that were really reported: work, epoch, nonce, digest.
    reported: BTreeSet<(String, Epoch, String, String)>,
}

/// The books of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<BTreeMap<String, Book>>,
    /// Told of every change.
    pub changed: Notify,
    /// Lists after the first one: what came and went meanwhile was not seen.
    gaps: Mutex<Vec<String>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Book>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit<T>(&self, namespace: &str, edit: impl FnOnce(&mut Book) -> T) -> T {
        let result = edit(self.lock().entry(namespace.to_owned()).or_default());
        self.changed.notify_waiters();
        result
    }

    /// An object is there.
    pub(crate) fn there<K: Resource>(&self, kind: Kind, object: &K) {
        let (Some(namespace), Some(uid)) = (object.namespace(), object.uid()) else { return };
        self.edit(&namespace, |book| {
            if kind == Kind::Pod {
                let label = |key: &str| object.labels().get(key).cloned().unwrap_or_default();
                let place = [label(labels::INSTANCE), label(labels::SLOT), label(labels::EPOCH)];
                book.pods.entry(place).or_default().insert(uid.clone());
            }
            book.made.insert((kind, uid), object.name_any());
        });
    }

    /// An object is gone.
    pub(crate) fn gone<K: Resource>(&self, kind: Kind, object: &K) {
        let (Some(namespace), Some(uid)) = (object.namespace(), object.uid()) else { return };
        self.edit(&namespace, |book| {
            book.made.insert((kind, uid.clone()), object.name_any());
            book.gone.insert((kind, uid));
        });
    }

    /// The build of a namespace, as it is now.
    pub(crate) fn build(&self, build: IndexBuild, there: bool) {
        let namespace = build.namespace().unwrap_or_default();
        self.edit(&namespace, |book| book.build = there.then(|| Arc::new(build)));
    }

    /// An attempt reported its result.
    pub(crate) fn reported(&self, namespace: &str, work: &str, epoch: Epoch, nonce: &str, digest: &str) {
        let entry = (work.to_owned(), epoch, nonce.to_owned(), digest.to_owned());
        self.edit(namespace, |book| book.reported.insert(entry));
    }

    /// A watch had to begin with a list again.
    pub(crate) fn gap(&self, what: &str) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
    }

    /// # Panics
    /// If something may have come and gone unseen.
    pub(crate) fn assert_whole(&self) {
        let gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(gaps.is_empty(), "the ledger's watches were interrupted: {gaps:?}");
    }

    /// The build, if it is there.
    pub(crate) fn read_build(&self, namespace: &str) -> Option<Arc<IndexBuild>> {
        self.lock().get(namespace)?.build.clone()
    }

    /// Names of objects that are there.
    pub(crate) fn left(&self, namespace: &str) -> Vec<String> {
        let books = self.lock();
        let Some(book) = books.get(namespace) else { return Vec::new() };
        let there = book.made.iter().filter(|(key, _)| !book.gone.contains(*key));
        there.map(|((kind, _), name)| format!("{kind:?} {name}")).collect()
    }

    /// How many objects of these kinds are there.
    pub(crate) fn count_left(&self, namespace: &str, kinds: &[Kind]) -> usize {
        let books = self.lock();
        let Some(book) = books.get(namespace) else { return 0 };
        book.made.keys().filter(|key| kinds.contains(&key.0) && !book.gone.contains(*key)).count()
    }

    /// What was made and removed.
    pub(crate) fn tally(&self, namespace: &str) -> Tally {
        let books = self.lock();
        let mut tally = Tally::default();
        if let Some(book) = books.get(namespace) {
            for (kind, _) in book.made.keys() {
                *tally.made.entry(*kind).or_default() += 1;
            }
            for (kind, _) in &book.gone {
                *tally.gone.entry(*kind).or_default() += 1;
            }
        }
        tally
    }

    /// Slots and epochs for which more than one pod was made (G10).
    pub(crate) fn duplicates(&self, namespace: &str) -> Vec<String> {
        let books = self.lock();
        let Some(book) = books.get(namespace) else { return Vec::new() };
        let twice = book.pods.iter().filter(|(_, uids)| uids.len() > 1);
        twice
            .map(|([build, slot, epoch], uids)| format!("{build} slot {slot}, epoch {epoch}: {} pods", uids.len()))
            .collect()
    }

    /// Whether this attempt reported this result.
    pub(crate) fn was_reported(&self, namespace: &str, work: &str, epoch: Epoch, nonce: &str, digest: &str) -> bool {
        let entry = (work.to_owned(), epoch, nonce.to_owned(), digest.to_owned());
        self.lock().get(namespace).is_some_and(|book| book.reported.contains(&entry))
    }
}
