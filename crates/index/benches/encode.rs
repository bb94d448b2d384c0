//! What encoding costs per row. `cargo bench -p indexbuild-index`; `cargo test` runs none of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use indexbuild_index::{
    ColumnType, ContentDigest, Encoder, Entries, Frame, IndexDefinition, KeyColumn, Nulls, Order, RowId, RowPositions,
    Rows, SetHash, entry_hash,
};
use rustix::time::{ClockId, clock_gettime};

const BATCH: usize = 8192;

fn column(name: &str, column_type: ColumnType) -> KeyColumn {
    KeyColumn { name: name.into(), column_type, order: Order::Asc, nulls: Nulls::Last }
}

/// CPU time of the process: what else the machine does must not count.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

/// The median of five, in nanoseconds of CPU per row.
fn measure(name: &str, rows: usize, mut act: impl FnMut()) {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = cpu();
            act();
            cpu() - start
        })
        .collect();
    times.sort();
    println!("{name:44} {:7.1} ns/row", times[2].as_secs_f64() * 1e9 / rows as f64);
}

fn main() {
    let mut state = 42u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let k = Arc::new(Int32Array::from_iter_values((0..BATCH).map(|_| (random() % 10_000_000) as i32))) as ArrayRef;
    let id = Arc::new(Int64Array::from_iter_values(0..BATCH as i64)) as ArrayRef;
    let text = |random: &mut dyn FnMut() -> u64| {
        (0..12).map(|_| format!("{:09}-", random() % 1_000_000_000)).collect::<String>()
    };
    let c = Arc::new(StringArray::from_iter_values((0..BATCH).map(|_| text(&mut random)))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("k", k), ("id", id), ("c", c)]).unwrap();
    let rows = 1_000 * BATCH;
    for (name, columns, row_id, times) in [
        ("int32 by position, packed", vec![column("k", ColumnType::Int32)], RowId::Position, 1_000),
        (
            "int32, rowId int64, packed",
            vec![column("k", ColumnType::Int32)],
            RowId::Columns(vec![column("id", ColumnType::Int64)]),
            1_000,
        ),
        ("string of 120, by position, arena", vec![column("c", ColumnType::String)], RowId::Position, 100),
    ] {
        let def = IndexDefinition { name: name.into(), unique: false, columns, row_id, include: Vec::new() };
        let mut encoder = Encoder::new(Arc::new(def)).unwrap();
        let mut entries = Entries::default();
        measure(name, times * BATCH, || {
            for number in 0..times {
                entries.clear();
                let at = RowPositions { file: 0, rows: Rows::From((number * BATCH) as u64) };
                encoder.encode(&batch, &at, &mut entries).unwrap();
                black_box(&entries);
            }
        });
        let mut frame = Frame::new();
        if let Some(layout) = encoder.packed() {
            measure("  expand", rows, || {
                for _ in 0..1_000 {
                    for packed in &entries.packed {
                        layout.expand(*packed, &mut frame);
                        black_box(frame.bytes());
                    }
                }
            });
            measure("  expand, hash, content digest", rows, || {
                let mut hash = SetHash::default();
                let mut content = ContentDigest::new();
                for _ in 0..1_000 {
                    for packed in &entries.packed {
                        layout.expand(*packed, &mut frame);
                        hash.add(entry_hash(frame.bytes()));
                        content.push(&frame);
                    }
                }
                black_box((hash, content.finish()));
            });
        }
    }
}
