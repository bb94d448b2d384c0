//! A store that is away for a while, or refuses: who reads with patience reads on as if nothing had happened, in the midst
//! of a file too, and nothing is read twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use indexbuild_store::Fault;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::odd_store::{OddStore, Oddity};
use super::*;
use crate::files::Stores;
use crate::{Failure, Patience, StoreOptions, Verdict};

/// Every second request is refused, as by a store whose policy comes and goes.
#[derive(Clone, Debug, Default)]
struct Refusing(Arc<AtomicU64>);

impl Oddity for Refusing {
    fn refuses(&self) -> object_store::Result<()> {
        if self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return Err(object_store::Error::PermissionDenied { path: "t".to_owned(), source: "403".into() });
        }
        Ok(())
    }
}

/// Asks again at once, and counts.
#[derive(Debug, Default)]
struct Counting {
    failures: AtomicU32,
    answers: AtomicU32,
}

impl Patience for Counting {
    fn settings(&self) -> Result<StoreOptions, SourceError> {
        // The store is made elsewhere: it stays as it is.
        Err(SourceError::Internal { url: "s3://lake".to_owned(), detail: "nothing is opened".to_owned() })
    }

    fn waits(&self) -> bool {
        true
    }

    fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn silent(&self, _: &str) {}

    fn failed(&self, failure: &Failure<'_>) -> Verdict {
        assert_eq!((failure.fault, failure.tries), (Fault::Refused, 0));
        self.failures.fetch_add(1, Ordering::Relaxed);
        Verdict::AgainAsIs
    }
}

fn csv() -> String {
    let mut text = "id,v\n".to_owned();
    for row in 0..200_000 {
        text.push_str(&format!("{row},text {row}\n"));
    }
    text
}

fn stores(patience: Option<Arc<dyn Patience>>) -> Stores {
    let store = Arc::new(OddStore::<Refusing>::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.put(&Key::from("t.csv"), csv().into())).unwrap();
    let client: Arc<dyn ObjectStore> = store;
    match patience {
        Some(patience) => Stores::patient_with(patience, [("s3://lake".to_owned(), client)]),
        None => Stores::with([("s3://lake".to_owned(), client)]),
    }
}

fn spec() -> SourceSpec {
    SourceSpec::Csv { urls: vec!["s3://lake/*.csv".to_owned()], options: CsvOptions::default() }
}

#[test]
fn a_store_that_refuses_now_and_then_is_read_to_the_end_each_row_once() {
    let patience = Arc::new(Counting::default());
    let stores = stores(Some(Arc::<Counting>::clone(&patience)));
    let snapshot = Table::pin_in(&spec(), &stores).unwrap();
    let table = Table::open_in(&spec(), &stores, &snapshot).unwrap();
    let rows = read_sized(&table, &names(&["id"]), 500_000, &ReadOptions::default()).unwrap();
    assert_eq!(rows.len(), 200_000);
    for (row, (_, _, cells)) in rows.iter().enumerate() {
        assert_eq!(cells[..], [row.to_string()]);
    }
    let failures = patience.failures.load(Ordering::Relaxed);
    assert!(failures > 3, "{failures}: the list, the head, and reads in the midst of the file");
    assert!(patience.answers.load(Ordering::Relaxed) >= failures);
}

/// The control: without patience, the first refusal is the error.
#[test]
fn without_patience_the_first_refusal_ends_it_control() {
    let error = Table::pin_in(&spec(), &stores(None)).unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error}");
}
