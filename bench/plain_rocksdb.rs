//! What one would write without this project: read the table, put each entry into a RocksDB, flush and compact it. The
//! benchmark's lower bars: `plain` leaves RocksDB's options as they are, `bulk` takes those that its documentation
//! gives for bulk loading (no write-ahead log, vector memtable, no automatic compaction). Both compress by LZ4, as we do.
#![allow(clippy::expect_used, clippy::panic)]

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rocksdb::{DB, DBCompressionType, MemtableFactory, Options, WriteBatch, WriteOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| {
        arguments.next().unwrap_or_else(|| panic!("usage: plain_rocksdb plain|bulk TABLE COLUMN DB: {what} is missing"))
    };
    let bulk = match next("plain|bulk").as_str() {
        "plain" => false,
        "bulk" => true,
        other => panic!("{other} is neither plain nor bulk"),
    };
    let (table, column, database) = (next("TABLE"), next("COLUMN"), next("DB"));

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    if bulk {
        options.set_memtable_factory(MemtableFactory::Vector);
        options.set_allow_concurrent_memtable_write(false);
        options.set_write_buffer_size(64 << 20);
        options.set_max_write_buffer_number(4);
        options.set_disable_auto_compactions(true);
        options.set_level_zero_slowdown_writes_trigger(1 << 20);
        options.set_level_zero_stop_writes_trigger(1 << 20);
        options.set_max_background_jobs(2);
        options.set_max_subcompactions(2);
    }
    let db = DB::open(&options, database).expect("the database opens");
    let mut writing = WriteOptions::default();
    writing.disable_wal(bulk);

    let file = std::fs::File::open(&table).expect("the table opens");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let mask = ProjectionMask::columns(builder.parquet_schema(), [column.as_str(), "id"]);
    let reader = builder.with_projection(mask).with_batch_size(2048).build().expect("a reader");
    for batch in reader {
        let batch = batch.expect("a batch");
        let ids = batch.column_by_name("id").expect("the column id").as_primitive::<Int64Type>();
        let keys = batch.column_by_name(&column).expect("the key column");
        let mut writes = WriteBatch::default();
        let mut key = Vec::with_capacity(160);
        for row in 0..batch.num_rows() {
            key.clear();
            match keys.data_type() {
                DataType::Int64 => key.extend_from_slice(&keys.as_primitive::<Int64Type>().value(row).to_be_bytes()),
                DataType::Int32 => key.extend_from_slice(&keys.as_primitive::<Int32Type>().value(row).to_be_bytes()),
                DataType::Utf8 => key.extend_from_slice(keys.as_string::<i32>().value(row).as_bytes()),
                other => panic!("the benchmark's tables have no column of type {other}"),
            }
            key.extend_from_slice(&ids.value(row).to_be_bytes());
            writes.put(&key, b"\x01");
        }
        db.write_opt(writes, &writing).expect("written");
    }
    db.flush().expect("flushed");
    db.compact_range::<&[u8], &[u8]>(None, None);
}
