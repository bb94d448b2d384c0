//! The list of files, and files that change under a build.

use std::fs;
use std::sync::Arc;

use arrow_array::Int64Array;
use parquet::file::properties::WriterProperties;
use tempfile::tempdir;

use super::parquet_tables::write;
use super::*;
use crate::Snapshot;

fn pin(spec: &TableSpec) -> Result<Snapshot, SourceError> {
    Table::pin(spec, &StoreOptions::default())
}

fn open(spec: &TableSpec, snapshot: &Snapshot) -> Result<Table, SourceError> {
    Table::open(spec, &StoreOptions::default(), snapshot)
}

fn file(path: &Path, rows: i64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(path, vec![("id", Arc::new(Int64Array::from_iter_values(0..rows)))], WriterProperties::default());
}

#[test]
fn patterns_plain_paths_and_urls_name_each_file_once_sorted_by_url() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    for name in ["b.parquet", "a 1.parquet", "deep/er/c.parquet", "x[1].parquet"] {
        file(&root.join(name), 1);
    }
    fs::write(root.join("note.txt"), "x").unwrap();
    let listed = |patterns: &[&str]| -> Vec<String> {
        let urls = patterns.iter().map(|pattern| pattern.replace("ROOT", root.to_str().unwrap())).collect();
        let snapshot = pin(&TableSpec::Parquet { urls }).unwrap();
        let prefix = format!("file://{}/", root.display());
        snapshot.files.iter().map(|file| file.url.strip_prefix(&prefix).unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&["ROOT/*.parquet", "file://ROOT/b.parquet"]), ["a%201.parquet", "b.parquet", "x[1].parquet"]);
    assert_eq!(listed(&["file://ROOT/**/?.parquet"]), ["b.parquet", "deep/er/c.parquet"]);
    assert_eq!(listed(&["file://ROOT/a%201.parquet"]), ["a%201.parquet"]);
    assert_eq!(listed(&["ROOT/x[1].parquet"]), ["x[1].parquet"], "a file of that very name is meant");
    assert_eq!(listed(&["ROOT/[ab]*.parquet"]), ["a%201.parquet", "b.parquet"]);
}

#[test]
fn a_snapshot_survives_json_and_pins_local_files_to_the_nanosecond() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    file(&path, 3);
    let snapshot = pin(&parquet_spec(&path)).unwrap();
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    let mtime = snapshot.files[0].mtime.as_deref().unwrap();
    let (_, fraction) = mtime.split_once('.').unwrap();
    assert_eq!(fraction.len(), "123456789Z".len(), "{mtime}");
    assert_eq!(snapshot.bytes(), fs::metadata(&path).unwrap().len());
}

#[test]
fn what_names_no_readable_file_is_refused_when_the_list_is_made() {
    let folder = tempdir().unwrap();
    let root = folder.path().display();
    let error = |url: String| pin(&TableSpec::Parquet { urls: vec![url] }).unwrap_err();
    assert!(matches!(error(format!("{root}/*.parquet")), SourceError::NoFiles { .. }));
    assert!(matches!(error(format!("{root}/none/*.parquet")), SourceError::NoFiles { .. }));
    assert!(matches!(error(format!("{root}/t.parquet")), SourceError::NoFiles { .. }));
    assert!(error(format!("file://{root}")).to_string().contains("it is a folder; add a pattern"));
    assert!(error(format!("{root}/[")).to_string().contains("pattern is not valid"));
    let unknown = error("hdfs://x/t.parquet".to_owned());
    assert!(matches!(&unknown, SourceError::UnknownScheme { known, .. } if known.len() == 6));
    assert!(!unknown.is_retryable());
    let none = pin(&TableSpec::Parquet { urls: vec![] }).unwrap_err().to_string();
    assert_eq!(none, "the source has no urls; name at least one file");
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_error_that_names_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("plain");
    fs::write(&path, "a file where a folder was meant").unwrap();
    let error = pin(&parquet_spec(&path.join("*.parquet"))).unwrap_err();
    assert!(matches!(&error, SourceError::Io { url, .. } if url.contains("/plain")), "{error}");
    // Access rights do not hold for root, so the refusal itself is made up here.
    let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = SourceError::from_io("file:///secret", refused);
    assert!(
        error.to_string().starts_with("file:///secret may not be read: permission denied; give the user"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[test]
fn a_file_that_changed_since_the_plan_is_named_with_what_it_was_and_is() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    file(&path, 3);
    let spec = parquet_spec(&path);
    let snapshot = pin(&spec).unwrap();
    open(&spec, &snapshot).unwrap();
    file(&path, 4);
    match open(&spec, &snapshot).unwrap_err() {
        SourceError::FileChanged { url, was, is } => {
            assert_eq!(url, snapshot.files[0].url);
            assert_eq!(was, snapshot.files[0].to_string());
            assert_ne!(was, is);
        }
        other => panic!("{other}"),
    }
    fs::remove_file(&path).unwrap();
    let error = open(&spec, &snapshot).unwrap_err();
    assert!(matches!(&error, SourceError::FileChanged { is, .. } if is == "gone"), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn a_file_that_changes_while_it_is_read_ends_the_read_with_an_error() {
    let folder = tempdir().unwrap();
    let columns = names(&["id"]);
    let parquet = folder.path().join("t.parquet");
    let csv = folder.path().join("t.csv");
    for (path, spec) in [(&parquet, parquet_spec(&parquet)), (&csv, csv_spec(&csv, CsvOptions::default()))] {
        let make = |rows: i64| {
            let text: String =
                std::iter::once("id\n".to_owned()).chain((0..rows).map(|row| format!("{row}\n"))).collect();
            if path == &parquet { file(path, rows) } else { fs::write(path, text).unwrap() }
        };
        // Before it is opened, and between two batches: replaced by a file of the same length, removed, cut off.
        make(1000);
        let reader = || {
            let table = table(&spec).unwrap();
            let split = table.splits(&columns).unwrap()[0].clone();
            (table, split)
        };
        let options = ReadOptions { batch_rows: 100, ..ReadOptions::default() };
        let changes: [&dyn Fn(); 3] = [
            &|| {
                let copy = path.with_extension("new");
                fs::copy(path, &copy).unwrap();
                fs::rename(&copy, path).unwrap();
            },
            &|| fs::remove_file(path).unwrap(),
            &|| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(40).unwrap(),
        ];
        for change in changes {
            make(1000);
            let (table, split) = reader();
            change();
            let error = read_split(&table, &split, &columns, &options).unwrap_err();
            assert!(matches!(error, SourceError::FileChanged { .. }), "{error}");

            make(1000);
            let (table, split) = reader();
            let mut batches = table.read(&split, &columns, &options).unwrap();
            batches.next().unwrap().unwrap();
            change();
            let last = batches.by_ref().last().unwrap();
            assert!(matches!(last, Err(SourceError::FileChanged { .. })), "{last:?}");
            assert!(batches.next().is_none());
        }
    }
}
