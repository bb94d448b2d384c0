//! Writes a table whose averages say little: `long_values <kind> <rows> <bytes of a text> <file>`. `make memory` builds
//! indexes over such tables.
//!
//! - `dictionary`: all rows of a row group name the one value of its dictionary, so that the file is next to nothing.
//! - `plain`: each row has its text, in pages of one row.
//! - `page`: all texts, which hardly pack, in one page, packed by Snappy.
//! - `rare`: one text of 256 is that long, the others are short.
//! - `columns`: 24 columns `v0` to `v23`, each with a dictionary of 200 such texts.
//! - `groups`: each row is a row group.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

const ROW_GROUP: i64 = 8192;
const COLUMNS: usize = 24;
const DICTIONARY: i64 = 200;
/// One of so many texts is long, where most are short.
const RARE: i64 = 256;

/// Names and values of columns.
type Columns = Vec<(String, ArrayRef)>;
/// Makes the columns of so many rows from one on, with values of a size.
type MakeColumns = fn(i64, i64, usize) -> Result<Columns, Box<dyn Error>>;

struct Kind {
    /// Rows that are written at once.
    at_once: i64,
    /// Whether those are a row group.
    is_group: bool,
    properties: fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
    /// The columns besides the first, of the rows from one on.
    columns: MakeColumns,
}

fn kind(name: &str, rows: i64) -> Option<Kind> {
    let in_pages_of_one: fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder =
        |properties| properties.set_dictionary_enabled(false).set_data_page_row_count_limit(1);
    Some(match name {
        "dictionary" => Kind {
            at_once: ROW_GROUP,
            is_group: true,
            properties: |properties| properties,
            columns: |begin, end, bytes| Ok(vec![("v".to_owned(), by_dictionary(begin, end, 1, bytes)?)]),
        },
        "plain" => Kind {
            at_once: 1,
            is_group: false,
            properties: in_pages_of_one,
            columns: |begin, _, bytes| Ok(vec![("v".to_owned(), texts([text(begin, bytes)]))]),
        },
        "page" => Kind {
            at_once: rows,
            is_group: true,
            properties: |properties| {
                properties
                    .set_dictionary_enabled(false)
                    .set_data_page_row_count_limit(usize::MAX)
                    .set_data_page_size_limit(usize::MAX)
                    .set_compression(Compression::SNAPPY)
            },
            columns: |begin, end, bytes| {
                Ok(vec![("v".to_owned(), texts((begin..end).map(|row| random_text(row, bytes))))])
            },
        },
        "rare" => Kind {
            at_once: 1,
            is_group: false,
            // A page ends after 1 MiB, which a long text reaches alone.
            properties: |properties| properties.set_dictionary_enabled(false),
            columns: |begin, _, bytes| {
                let bytes = if begin % RARE == RARE / 2 { bytes } else { 12 };
                Ok(vec![("v".to_owned(), texts([text(begin, bytes)]))])
            },
        },
        "columns" => Kind {
            at_once: ROW_GROUP,
            is_group: true,
            properties: |properties| properties,
            columns: |begin, end, bytes| {
                (0..COLUMNS)
                    .map(|column| Ok((format!("v{column}"), by_dictionary(begin, end, DICTIONARY, bytes)?)))
                    .collect()
            },
        },
        "groups" => Kind {
            at_once: 1,
            is_group: true,
            properties: |properties| properties,
            columns: |begin, _, bytes| Ok(vec![("v".to_owned(), texts([text(begin, bytes)]))]),
        },
        _ => return None,
    })
}

fn text(row: i64, bytes: usize) -> String {
    format!("{row:012}{}", "x".repeat(bytes.saturating_sub(12)))
}

fn random_text(row: i64, bytes: usize) -> String {
    let mut state = row.cast_unsigned();
    let filling = (0..bytes.saturating_sub(12) / 8).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:08x}", state >> 32)
    });
    format!("{row:012}{}", filling.collect::<String>())
}

fn texts(texts: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn by_dictionary(begin: i64, end: i64, values: i64, bytes: usize) -> Result<ArrayRef, Box<dyn Error>> {
    let keys: Int32Array = (begin..end).map(|row| i32::try_from((row - begin) % values).ok()).collect();
    let values = texts((begin..begin + values).map(|row| text(row, bytes)));
    Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, rows, bytes, file] = arguments.as_slice() else {
        return Err("usage: long_values <kind> <rows> <bytes of a text> <file>".into());
    };
    let (rows, bytes): (i64, usize) = (rows.parse()?, bytes.parse()?);
    let Kind { at_once, is_group, properties, columns } =
        kind(name, rows).ok_or_else(|| format!("{name:?} is no kind of table"))?;
    let properties = properties(
        WriterProperties::builder()
            .set_write_batch_size(usize::try_from(at_once)?)
            .set_max_row_group_row_count(Some(usize::try_from(at_once.max(ROW_GROUP))?)),
    )
    .build();
    let mut writer = None;
    let mut begin = 0;
    while begin < rows {
        let end = rows.min(begin + at_once);
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(begin..end));
        let all = std::iter::once(("id".to_owned(), ids)).chain(columns(begin, end, bytes)?);
        let batch = RecordBatch::try_from_iter(all)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(ArrowWriter::try_new(File::create(file)?, batch.schema(), Some(properties.clone()))?),
        };
        writer.write(&batch)?;
        // The writer keeps a row group in memory.
        if is_group || writer.in_progress_size() > 32 << 20 {
            writer.flush()?;
        }
        begin = end;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}
