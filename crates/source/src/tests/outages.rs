//! A store that is away for a while, or refuses: who reads with a retry policy reads on as if nothing had happened, in the midst
//! of a file too, and nothing is read twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use indexbuild_store::Fault;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::test_store::{StoreBehaviour, TestStore};
use super::*;
use crate::files::Stores;
use crate::{FailedRequest, Retry, RetryPolicy, StoreOptions};

/// Every second request is refused, as by a store whose policy comes and goes.
#[derive(Clone, Debug, Default)]
struct Refusing(Arc<AtomicU64>);

impl StoreBehaviour for Refusing {
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

impl RetryPolicy for Counting {
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

    fn slow(&self, _: &str) {}

    fn failed(&self, failure: &FailedRequest<'_>) -> Retry {
        assert_eq!((failure.fault, failure.tries), (Fault::Refused, 0));
        self.failures.fetch_add(1, Ordering::Relaxed);
        Retry::SameClient
    }
}

fn csv() -> String {
    let mut text = "id,v\n".to_owned();
    for row in 0..200_000 {
        text.push_str(&format!("{row},text {row}\n"));
    }
    text
}

fn stores(policy: Option<Arc<dyn RetryPolicy>>) -> Stores {
    let store = Arc::new(TestStore::<Refusing>::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.put(&Key::from("t.csv"), csv().into())).unwrap();
    let client: Arc<dyn ObjectStore> = store;
    match policy {
        Some(policy) => Stores::with_policy_and_clients(policy, [("s3://lake".to_owned(), client)]),
        None => Stores::with([("s3://lake".to_owned(), client)]),
    }
}

fn spec() -> TableSpec {
    TableSpec::Csv { urls: vec!["s3://lake/*.csv".to_owned()], options: CsvOptions::default() }
}

#[test]
fn a_store_that_refuses_now_and_then_is_read_to_the_end_each_row_once() {
    let policy = Arc::new(Counting::default());
    let stores = stores(Some(Arc::<Counting>::clone(&policy)));
    let snapshot = Table::pin_in(&spec(), &stores).unwrap();
    let table = Table::open_in(&spec(), &stores, &snapshot).unwrap();
    let rows = read_sized(&table, &names(&["id"]), 500_000, &ReadOptions::default()).unwrap();
    assert_eq!(rows.len(), 200_000);
    for (row, (_, _, cells)) in rows.iter().enumerate() {
        assert_eq!(cells[..], [row.to_string()]);
    }
    let failures = policy.failures.load(Ordering::Relaxed);
    assert!(failures > 3, "{failures}: the list, the head, and reads in the midst of the file");
    assert!(policy.answers.load(Ordering::Relaxed) >= failures);
}

/// The control: without a retry policy, the first refusal is the error.
#[test]
fn without_a_retry_policy_the_first_refusal_ends_it_control() {
    let error = Table::pin_in(&spec(), &stores(None)).unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error}");
}
