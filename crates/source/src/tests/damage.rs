//! Damaged Parquet files: an error that names the file, never a panic.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::tempdir;

use super::parquet_tables::write;
use super::*;

fn sound(path: &Path, compression: Compression) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..500).map(|row| row * 7919 % 500)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..500).map(|row| format!("text {}", row % 40))));
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(200)).build();
    write(path, vec![("id", ids), ("v", texts)], properties);
    fs::read(path).unwrap()
}

fn read(path: &Path) -> Result<usize, SourceError> {
    let table = table(&parquet_spec(path))?;
    read_all(&table, &all_columns(&table)).map(|rows| rows.len())
}

#[test]
fn a_truncated_file_or_one_of_another_format_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let bytes = sound(&path, Compression::SNAPPY);
    assert_eq!(read(&path).unwrap(), 500);
    for content in [&bytes[..0], &bytes[..7], &bytes[..bytes.len() / 2], &bytes[..bytes.len() - 1], b"id,v\n1,2\n3,4\n"]
    {
        fs::write(&path, content).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(&error, SourceError::Corrupt { url, .. } if url.ends_with("/t.parquet")), "{error}");
        assert!(error.to_string().contains("is damaged or not a Parquet file"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_page_that_was_overwritten_is_an_error_that_names_the_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let mut bytes = sound(&path, Compression::SNAPPY);
    bytes[4..40].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let error = read(&path).unwrap_err();
    assert!(matches!(&error, SourceError::Corrupt { url, .. } if url.ends_with("/t.parquet")), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Not every flipped bit can be noticed: Parquet need not have checksums. But none may take the process down.
    #[test]
    fn damage_anywhere_is_an_error_or_other_values_but_never_a_panic(
        at in any::<prop::sample::Index>(),
        bits in 1_u8..,
        more in any::<prop::sample::Index>(),
        packed: bool,
    ) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let mut bytes = sound(&path, if packed { Compression::SNAPPY } else { Compression::UNCOMPRESSED });
        *at.get_mut(&mut bytes) ^= bits;
        *more.get_mut(&mut bytes) = bits;
        fs::write(&path, bytes).unwrap();
        if let Err(error) = read(&path) {
            prop_assert!(!error.is_retryable(), "{}", error);
        }
    }
}
