//! Writes a table of long texts: `long_values <dictionary|plain> <rows> <bytes of a text> <file>`.
//!
//! `dictionary`: all rows of a row group name the one value of its dictionary, so that the file is next to nothing.
//! `plain`: each row has its text, in pages of one row. `make memory` builds indexes over such tables.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

const ROW_GROUP: i64 = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, rows, bytes, file] = arguments.as_slice() else {
        return Err("usage: long_values <dictionary|plain> <rows> <bytes of a text> <file>".into());
    };
    let (rows, bytes): (i64, usize) = (rows.parse()?, bytes.parse()?);
    let (dictionary, at_once) = match kind.as_str() {
        "dictionary" => (true, ROW_GROUP),
        "plain" => (false, 1),
        other => return Err(format!("{other:?} is neither dictionary nor plain").into()),
    };
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionary)
        .set_data_page_row_count_limit(if dictionary { 20_000 } else { 1 })
        .set_write_batch_size(usize::try_from(at_once)?)
        .set_max_row_group_row_count(Some(usize::try_from(ROW_GROUP)?))
        .build();
    let mut writer = None;
    let mut begin = 0;
    while begin < rows {
        let end = rows.min(begin + at_once);
        let text = format!("{begin:012}{}", "x".repeat(bytes.saturating_sub(12)));
        let texts: ArrayRef = if dictionary {
            let keys: Int32Array = (begin..end).map(|_| 0).collect();
            Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(vec![text])))?)
        } else {
            Arc::new(StringArray::from(vec![text]))
        };
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(begin..end));
        let batch = RecordBatch::try_from_iter([("id", ids), ("v", texts)])?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(ArrowWriter::try_new(File::create(file)?, batch.schema(), Some(properties.clone()))?),
        };
        writer.write(&batch)?;
        // Each row group has a dictionary of its own, and the writer keeps a row group in memory.
        if dictionary || writer.in_progress_size() > 32 << 20 {
            writer.flush()?;
        }
        begin = end;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}
