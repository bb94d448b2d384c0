//! A table in stores whose lists spell an object's etag in another way than its headers do.

use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};

use super::test_store::{StoreBehaviour, TestStore};
use super::*;
use crate::files::Stores;

/// How an answer spells an etag; `None`: it has none.
type Spelling = fn(&str) -> Option<String>;

const BARE: Spelling = |etag| Some(etag.to_owned());
const QUOTED: Spelling = |etag| Some(format!("\"{etag}\""));
const WEAK: Spelling = |etag| Some(format!("W/\"{etag}\""));
const EMPTY: Spelling = |_| Some(String::new());
const NONE: Spelling = |_| None;

/// One spelling in lists, and another with objects.
#[derive(Clone, Debug)]
struct Spelled {
    lists: Spelling,
    headers: Spelling,
}

fn spell(spelling: Spelling, mut meta: ObjectMeta) -> ObjectMeta {
    meta.e_tag = meta.e_tag.and_then(|etag| spelling(&etag));
    meta
}

impl StoreBehaviour for Spelled {
    fn listed(&self, meta: ObjectMeta) -> ObjectMeta {
        spell(self.lists, meta)
    }

    fn read(&self, meta: ObjectMeta) -> ObjectMeta {
        spell(self.headers, meta)
    }
}

const CSV: &str = "id,v\n1,a\n2,b\n";

struct Bucket {
    store: Arc<TestStore<Spelled>>,
    stores: Stores,
}

impl Bucket {
    fn new(lists: Spelling, headers: Spelling) -> Self {
        let store = Arc::new(TestStore::new(Spelled { lists, headers }));
        let client: Arc<dyn ObjectStore> = Arc::<TestStore<Spelled>>::clone(&store);
        let bucket = Self { store, stores: Stores::with([("az://lake".to_owned(), client)]) };
        bucket.put(CSV);
        bucket
    }

    fn put(&self, content: &'static str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.put(&Key::from("t.csv"), content.into())).unwrap();
    }

    /// Pins and reads all of the table that the URL names.
    fn read(&self, url: &str) -> Result<(Table, Vec<Row>), SourceError> {
        let spec = TableSpec::Csv { urls: vec![url.to_owned()], options: CsvOptions::default() };
        let snapshot = Table::pin_in(&spec, &self.stores)?;
        // As the executors have it: from the plan's text.
        let snapshot = serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
        let table = Table::open_in(&spec, &self.stores, &snapshot)?;
        let rows = read_all(&table, &names(&["id", "v"]))?;
        Ok((table, rows))
    }
}

#[test]
fn a_table_is_read_whichever_way_lists_and_headers_spell_an_etag() {
    for lists in [BARE, QUOTED, WEAK, EMPTY, NONE] {
        for headers in [BARE, QUOTED, WEAK, EMPTY, NONE] {
            let spelled = format!("lists {:?}, headers {:?}", lists("tag"), headers("tag"));
            let bucket = Bucket::new(lists, headers);
            for url in ["az://lake/*.csv", "az://lake/t.csv"] {
                let (_, rows) = bucket.read(url).unwrap_or_else(|error| panic!("{spelled}: {url}: {error}"));
                assert_eq!(rows.len(), 2, "{spelled}: {url}");
            }
        }
    }
}

/// The control: with each pair of spellings, an object that was put anew in the same length is another one.
#[test]
fn a_file_that_changes_is_noticed_whichever_way_its_etag_is_spelled() {
    for lists in [BARE, QUOTED, WEAK] {
        for headers in [BARE, QUOTED, WEAK] {
            let bucket = Bucket::new(lists, headers);
            let (table, _) = bucket.read("az://lake/*.csv").unwrap();
            bucket.put("id,v\n1,a\n2,c\n");
            let error = read_all(&table, &names(&["id", "v"])).unwrap_err();
            assert!(matches!(&error, SourceError::FileChanged { url, .. } if url == "az://lake/t.csv"), "{error}");
        }
    }
}
