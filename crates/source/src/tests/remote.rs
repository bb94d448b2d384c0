//! Files in an object store: the same code as for S3, over a store in memory.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::properties::WriterProperties;
use tempfile::tempdir;

use super::differing_files::{build_reads, rules};
use super::parquet_tables::write;
use super::*;
use crate::MissingColumns;
use crate::files::Stores;

struct Bucket {
    store: Arc<InMemory>,
    stores: Stores,
}

impl Bucket {
    fn new() -> Self {
        let store = Arc::new(InMemory::new());
        let client: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        Self { store, stores: Stores::with([("s3://lake".to_owned(), client)]) }
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.put(&Key::parse(key).unwrap(), bytes.into())).unwrap();
    }

    fn delete(&self, key: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.delete(&Key::parse(key).unwrap())).unwrap();
    }

    fn table(&self, spec: &TableSpec) -> Result<Table, SourceError> {
        let snapshot = Table::pin_in(spec, &self.stores)?;
        assert!(snapshot.files.iter().all(|file| file.etag.is_some() && file.mtime.is_some()));
        Table::open_in(spec, &self.stores, &snapshot)
    }
}

/// Large enough for several blocks of read-ahead.
fn parquet(rows: i64, salt: i64) -> Vec<u8> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let ids: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row.wrapping_mul(6_364_136_223_846_793_005) ^ salt)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:0100}"))));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(70_000))
        .set_data_page_size_limit(100_000)
        .build();
    write(&path, vec![("id", ids), ("v", texts)], properties);
    fs::read(path).unwrap()
}

fn spec(url: &str) -> TableSpec {
    TableSpec::Parquet { urls: vec![url.to_owned()] }
}

#[test]
fn parquet_objects_are_listed_by_pattern_and_read_in_blocks() {
    let bucket = Bucket::new();
    let bytes = parquet(150_000, 1);
    bucket.put("orders/day=1/a.parquet", bytes.clone());
    bucket.put("orders/day=2/a%20b.parquet", parquet(10, 2));
    bucket.put("orders/day=2/note.txt", b"x".to_vec());
    bucket.put("other/a.parquet", b"not read".to_vec());
    let table = bucket.table(&spec("s3://lake/orders/day=*/*.parquet")).unwrap();
    let columns = names(&["v", "id"]);
    let rows = read_sized(&table, &columns, 1, &ReadOptions::default()).unwrap();
    assert_eq!(rows.len(), 150_010);

    // The same as from a disk.
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    let local = read_all(&super::table(&parquet_spec(&path)).unwrap(), &columns).unwrap();
    assert_eq!(rows[..150_000], local);
    assert_eq!(rows[150_009].0, 1);
}

#[test]
fn folders_of_objects_are_columns_and_an_object_without_a_column_that_is_used_is_named() {
    let bucket = Bucket::new();
    bucket.put("t/at=10%3A30/c=__HIVE_DEFAULT_PARTITION__/a.parquet", parquet(2, 0));
    bucket.put("t/at=11%3A00/c=x/b.parquet", parquet(1, 0));
    let table = bucket.table(&spec("s3://lake/t/*/*/*.parquet")).unwrap();
    let fail = rules(MissingColumns::Fail, &[("at", "time")]);
    let (_, rows) = build_reads(&table, &["at", "c"], &fail).unwrap();
    assert_eq!(rows, [["10:30:00", "NULL"], ["10:30:00", "NULL"], ["11:00:00", "x"]]);

    bucket.put("t/at=12%3A00/other/c.parquet", parquet(1, 0));
    let table = bucket.table(&spec("s3://lake/t/*/*/*.parquet")).unwrap();
    let error = build_reads(&table, &["at", "c"], &fail).unwrap_err().to_string();
    assert!(error.contains("s3://lake/t/at=12%3A00/other/c.parquet has no column \"c\""), "{error}");
    let (_, rows) = build_reads(&table, &["c"], &rules(MissingColumns::Null, &[])).unwrap();
    assert_eq!(rows.concat(), ["NULL", "NULL", "x", "NULL"]);
}

#[test]
fn csv_objects_are_scanned_split_and_read() {
    let bucket = Bucket::new();
    let mut text = "id,v\n".to_owned();
    for row in 0..300_000 {
        text.push_str(&format!("{row},\"a \"\"quoted\"\"\ntext {row}\"\n"));
    }
    bucket.put("t.csv", text.into_bytes());
    let spec = TableSpec::Csv { urls: vec!["s3://lake/t.csv".to_owned()], options: CsvOptions::default() };
    let table = bucket.table(&spec).unwrap();
    let columns = names(&["v", "id"]);
    assert!(table.splits(&columns).unwrap().len() > 1);
    let rows = read_sized(&table, &columns, 3_000_000, &ReadOptions::default()).unwrap();
    assert_eq!(rows.len(), 300_000);
    for (row, (_, _, cells)) in rows.iter().enumerate() {
        assert_eq!(cells[..], [format!("a \"quoted\"\ntext {row}"), row.to_string()]);
    }
}

#[test]
fn an_object_that_changes_is_noticed_at_the_next_read() {
    let bucket = Bucket::new();
    let key = "t.parquet";
    bucket.put(key, parquet(150_000, 1));
    let spec = spec("s3://lake/t.parquet");
    let columns = names(&["v"]);
    let table = bucket.table(&spec).unwrap();
    let split = table.splits(&columns).unwrap()[0].clone();
    let mut batches = table.read(&split, &columns, &ReadOptions::default()).unwrap();
    batches.next().unwrap().unwrap();
    // Of the same length.
    bucket.put(key, parquet(150_000, 2));
    let error = batches.find_map(Result::err).unwrap();
    assert!(matches!(&error, SourceError::FileChanged { url, .. } if url == "s3://lake/t.parquet"), "{error}");

    let table = bucket.table(&spec).unwrap();
    bucket.delete(key);
    let error = read_split(&table, &split, &columns, &ReadOptions::default()).unwrap_err();
    assert!(matches!(&error, SourceError::FileChanged { is, .. } if is == "gone"), "{error}");
    let error = bucket.table(&spec).unwrap_err();
    assert!(matches!(&error, SourceError::NoFiles { url } if url == "s3://lake/t.parquet"), "{error}");
}

#[test]
fn remote_tables_are_read_from_within_another_runtime_too() {
    let bucket = Bucket::new();
    bucket.put("t.parquet", parquet(10, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async {
        let table = bucket.table(&spec("s3://lake/t.parquet")).unwrap();
        read_all(&table, &names(&["id"])).unwrap().len()
    });
    assert_eq!(rows, 10);
}

#[test]
fn settings_that_no_store_knows_are_refused() {
    let settings = StoreOptions {
        extra: [("aws_acess_key".to_owned(), "x".to_owned())].into(),
        region: Some("eu".to_owned()),
        ..StoreOptions::default()
    };
    let error = Table::pin(&spec("s3://lake/t.parquet"), &settings).unwrap_err();
    assert!(matches!(&error, SourceError::Settings { url, .. } if url == "s3://lake"), "{error}");
    assert!(error.to_string().contains("aws_acess_key"), "{error}");
}

/// The library panics where a request is signed for an address that is none.
#[test]
fn an_endpoint_that_is_none_is_refused_by_name() {
    for url in ["s3://lake/t.parquet", "gs://lake/t.parquet", "az://lake/t.parquet"] {
        for endpoint in ["http://two words:9000", "http://", "ftp://store:9000", "store"] {
            let mut settings = StoreOptions { endpoint: Some(endpoint.to_owned()), ..StoreOptions::default() };
            if url.starts_with("az") {
                settings.extra.insert("azure_storage_account_name".to_owned(), "lake".to_owned());
            }
            let spec = TableSpec::Parquet { urls: vec![url.to_owned()] };
            let Err(error) = Table::pin_in(&spec, &Stores::new(&settings)) else { panic!("{endpoint} is asked") };
            let said = error.to_string();
            assert!(matches!(error, SourceError::Settings { .. }), "{url}: {said}");
            assert!(said.contains(&format!("`{endpoint}` is no endpoint")), "{url}: {said}");
        }
    }
}
