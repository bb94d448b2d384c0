#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::definition::Compression;
use crate::testing::{Entry, write_sst};

fn entries(count: u32, from: u32) -> Vec<Entry> {
    (from..from + count).map(|n| (format!("key{n:08}").into_bytes(), b"value".to_vec())).collect()
}

/// The gauge counts for the whole process; tests that open databases take turns where they read it.
pub(crate) static GAUGE: std::sync::RwLock<()> = std::sync::RwLock::new(());

#[test]
fn ingested_files_are_counted_and_left_where_they_are() {
    let _turn = GAUGE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let paths = [folder.path().join("a.sst"), folder.path().join("b.sst")];
        write_sst(&paths[0], &entries(1000, 0), compression);
        write_sst(&paths[1], &entries(500, 1000), compression);
        let db = CheckDb::open(&folder.path().join(format!("{compression:?}"))).unwrap();
        db.ingest(&[]).unwrap();
        db.ingest(&paths).unwrap();
        let DbCounts { entries, deletions, files } = db.counts().unwrap();
        assert_eq!((entries, deletions, files), (1500, 0, 2));
        db.verify_checksums().unwrap();
        db.close();
        assert!(paths.iter().all(|path| path.exists()));
        let left: Vec<_> = fs::read_dir(folder.path().join(format!("{compression:?}"))).unwrap().collect();
        assert!(left.iter().all(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("staging")));
    }
}

#[test]
fn files_that_overlap_are_refused() {
    let _turn = GAUGE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("a.sst"), folder.path().join("b.sst")];
    write_sst(&paths[0], &entries(1000, 0), Compression::Lz4);
    write_sst(&paths[1], &entries(1000, 999), Compression::Lz4);
    let db = CheckDb::open(&folder.path().join("db")).unwrap();
    assert!(matches!(db.ingest(&paths), Err(DbError::Refused { .. })));
    db.ingest(&paths[..1]).unwrap();
    assert!(matches!(db.ingest(&paths[1..]), Err(DbError::Refused { .. })));
    assert_eq!(db.counts().unwrap().entries, 1000);
}

#[test]
fn a_flipped_byte_is_found_by_its_blocks_checksum() {
    let _turn = GAUGE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sst");
    write_sst(&path, &entries(100_000, 0), Compression::None);
    let sound = CheckDb::open(&folder.path().join("sound")).unwrap();
    sound.ingest(std::slice::from_ref(&path)).unwrap();
    sound.verify_checksums().unwrap();
    sound.close();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let damaged = CheckDb::open(&folder.path().join("damaged")).unwrap();
    damaged.ingest(&[path]).unwrap();
    assert!(matches!(damaged.verify_checksums(), Err(DbError::Corrupt { .. })));
}

/// The incident's two messages, each its own error (pingcap/tidb#58776); I7: the gauge tells a leak.
#[test]
fn i7_a_database_that_is_open_is_told_apart_by_who_has_it_open() {
    const HELD: &str = "INDEXBUILD_INDEX_TEST_HELD_DATABASE";
    if let Some(path) = std::env::var_os(HELD) {
        // The second process.
        let error = CheckDb::open(Path::new(&path)).unwrap_err();
        assert!(matches!(&error, DbError::LockHeldByAnotherProcess { .. }), "{error}");
        assert!(error.to_string().contains("Resource temporarily unavailable"), "{error}");
        return;
    }
    let _alone = GAUGE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine");
    let before = open_handles();
    let leaked = CheckDb::open(&path).unwrap();
    assert_eq!(open_handles(), before + 1);
    for _ in 0..3 {
        let error = CheckDb::open(&path).unwrap_err();
        assert!(matches!(&error, DbError::LockHeldByThisProcess { .. }), "{error}");
        assert!(error.to_string().contains("lock hold by current process"), "{error}");
    }
    let second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sst::tests::i7_a_database_that_is_open_is_told_apart_by_who_has_it_open", "--nocapture"])
        .env(HELD, &path)
        .output()
        .unwrap();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(String::from_utf8_lossy(&second.stdout).contains("1 passed"), "the second process ran the test");
    leaked.close();
    assert_eq!(open_handles(), before);
    CheckDb::open(&path).unwrap();
    assert_eq!(open_handles(), before);
}
