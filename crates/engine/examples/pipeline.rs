//! Encode and sort alone, without source and upload: where does a row's time go?
//!
//! ```text
//! cargo run --release -p indexbuild-engine --example pipeline -- [k|c] [rows] [threads] [memory MiB] [none|lz4|zstd] [folder]
//! ```
//! `k`: (id BIGINT, k INT) by k; `c`: a string of 119 digits and dashes. Rows are made on the way,
//! cheaply; the account `read` is that.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use indexbuild_engine::{
    Batches, BoxError, EncodeJob, InputBatch, InputRows, JobControl, Owner, PieceReader, RunInput, RunTable, SortJob,
    SplitReader, StepTimes, Volume, encode, open_handles, plan_index, sort,
};
use indexbuild_index::{
    ColumnType, Compression, Encoder, Entries, IndexDefinition, KeyColumn, Nulls, Order, RowId, RowPositions, Rows,
};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SPLIT_ROWS: u64 = 250_000;
const BATCH_ROWS: u64 = 8192;

fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[derive(Clone, Copy)]
enum Shape {
    K,
    C,
}

struct Rowset {
    shape: Shape,
    rows: u64,
}

impl Rowset {
    fn batch(&self, begin: u64, count: u64) -> Result<RecordBatch, BoxError> {
        let ids = begin..begin + count;
        let columns: Vec<(&str, ArrayRef)> = match self.shape {
            Shape::K => {
                let rows = self.rows;
                let k = ids.clone().map(|id| i32::try_from(mixed(id) % rows).unwrap_or(0));
                vec![("k", Arc::new(Int32Array::from_iter_values(k)))]
            }
            Shape::C => {
                let text = |id: u64| {
                    let mut bytes = [0u8; 120];
                    for (word, chunk) in bytes.chunks_exact_mut(8).enumerate() {
                        let digits = (mixed(id * 16 + word as u64) & 0x0707_0707_0707_0707) | 0x3030_3030_3030_3030;
                        chunk.copy_from_slice(&digits.to_le_bytes());
                    }
                    bytes.iter_mut().skip(11).step_by(12).for_each(|byte| *byte = b'-');
                    String::from_utf8_lossy(&bytes[..119]).into_owned()
                };
                vec![("c", Arc::new(StringArray::from_iter_values(ids.clone().map(text))))]
            }
        };
        let mut columns = columns;
        columns.push(("id", Arc::new(Int64Array::from_iter_values(ids.map(|id| i64::try_from(id).unwrap_or(0))))));
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

impl SplitReader for Rowset {
    fn read(&self, split: u32) -> Result<Batches<'_>, BoxError> {
        let begin = u64::from(split) * SPLIT_ROWS;
        let end = (begin + SPLIT_ROWS).min(self.rows);
        Ok(Box::new((begin..end).step_by(usize::try_from(BATCH_ROWS)?).map(move |at| {
            let batch = self.batch(at, BATCH_ROWS.min(end - at))?;
            Ok(InputBatch { batch, file: 0, rows: InputRows::From(at) })
        })))
    }
}

struct Files(Vec<File>);

impl PieceReader for Files {
    fn read_at(&self, run: usize, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        Ok(self.0[run].read_exact_at(buf, offset)?)
    }
}

fn peak_rss() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    line.trim_start_matches("VmHWM:").trim().to_owned()
}

fn report(what: &str, rows: u64, threads: u64, stats: &StepTimes) {
    #[allow(clippy::cast_precision_loss)]
    let per_row = |nanos: u64| nanos as f64 / rows as f64;
    println!(
        "{what}: {:.2} M rows/s, wall {:.3} s",
        1000.0 / per_row(stats.wall).max(0.001),
        per_row(stats.wall) * rows as f64 / 1e9
    );
    for (step, nanos) in stats.steps() {
        println!("  {step:8} {:7.1} ns/row", per_row(nanos));
    }
    println!(
        "  threads' time {:.1} ns/row, CPU {:.1} ns/row; read {} MB, written {} MB, spilled {} MB; largest range {} of mean {}, cut again {}; peak RSS so far {}",
        per_row(stats.wall * threads),
        per_row(stats.cpu),
        stats.bytes_read / 1_000_000,
        stats.bytes_written / 1_000_000,
        stats.bytes_spilled / 1_000_000,
        stats.largest_range,
        stats.mean_range,
        stats.cut_again,
        peak_rss()
    );
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let shape = if argument(0, "k") == "c" { Shape::C } else { Shape::K };
    let rows: u64 = argument(1, if matches!(shape, Shape::K) { "10000000" } else { "3000000" }).parse()?;
    let threads: usize = argument(2, "2").parse()?;
    let memory: u64 = argument(3, "160").parse::<u64>()? << 20;
    let compression = match argument(4, "lz4").as_str() {
        "none" => Compression::None,
        "zstd" => Compression::Zstd,
        _ => Compression::Lz4,
    };
    let folder = PathBuf::from(argument(5, "."));
    let root = folder.join(format!(".pipeline-{}", std::process::id()));

    let column = |name: &str, column_type| KeyColumn {
        name: name.to_owned(),
        column_type,
        order: Order::Asc,
        nulls: Nulls::Last,
    };
    let definition = IndexDefinition {
        name: "pipeline".to_owned(),
        unique: false,
        columns: vec![match shape {
            Shape::K => column("k", ColumnType::Int32),
            Shape::C => column("c", ColumnType::String),
        }],
        row_id: RowId::Columns(vec![column("id", ColumnType::Int64)]),
        include: Vec::new(),
    };
    let reader = Rowset { shape, rows };
    let mut sample = Entries::default();
    let mut encoder = Encoder::new(Arc::new(definition.clone()))?;
    for part in 0..16 {
        let begin = rows / 16 * part;
        let batch = reader.batch(begin, 1024.min(rows - begin))?;
        encoder.encode(&batch, &RowPositions { file: 0, rows: Rows::From(begin) }, &mut sample)?;
    }
    let plan = plan_index(definition, &sample, rows, 0, 64 << 20, compression, 1)?;
    println!(
        "{rows} rows, {threads} threads, {} MiB; {} ranges, {} lanes",
        memory >> 20,
        plan.ranges(),
        plan.lanes.len()
    );

    let owner = |work: &str, epoch| Owner {
        build_uid: "build".to_owned(),
        work_id: work.to_owned(),
        inputs_digest: String::new(),
        epoch,
        boot_nonce: "nonce".to_owned(),
        pod_uid: "pod".to_owned(),
        pod_name: "pod".to_owned(),
    };
    let begun = Instant::now();
    let volume = Volume::open(&root, "build")?;
    let control = JobControl::new();
    let splits: Vec<u32> = (0..u32::try_from(rows.div_ceil(SPLIT_ROWS))?).collect();
    let attempt = volume.begin(&owner("encode-0", 1))?;
    let encoded = encode(EncodeJob {
        attempt: &attempt,
        indexes: std::slice::from_ref(&plan),
        splits: &splits,
        already: Vec::new(),
        reader: &reader,
        threads,
        memory,
        run_bytes: 1 << 30,
        control: &control,
        on_sealed: &|_| Ok(()),
    })?;
    report("encode", rows, threads as u64, &encoded.stats);

    let files: Vec<File> = encoded.runs.iter().map(|run| File::open(&run.path)).collect::<Result<_, _>>()?;
    let mut hash = indexbuild_index::SetHash::default();
    for (number, lane) in (0u32..).zip(plan.lanes.iter().copied()) {
        let mut runs = Vec::new();
        for (run, file) in encoded.runs.iter().zip(&files) {
            runs.push(RunInput {
                table: RunTable::read(file)?.only(0, number),
                splits: run.sidecar.splits.clone(),
                name: run.name.clone(),
            });
        }
        let attempt = volume.begin(&owner(&format!("sort-{number}"), 2 + u64::from(number)))?;
        let reader = Files(files.iter().map(File::try_clone).collect::<Result<_, _>>()?);
        let sorted = sort(SortJob {
            attempt: &attempt,
            index_plan: &plan,
            index: 0,
            lane,
            runs: &runs,
            reader: &reader,
            already: Vec::new(),
            threads,
            memory,
            control: &control,
            on_sealed: &|_| Ok(()),
        })?;
        report(&format!("sort, lane {number}"), sorted.entries, threads as u64, &sorted.stats);
        hash.merge(sorted.hash);
    }
    let wall = begun.elapsed();
    if hash != encoded.indexes[0].hash {
        return Err("what was sorted is not what was encoded".into());
    }
    #[allow(clippy::cast_precision_loss)]
    let throughput = rows as f64 / wall.as_secs_f64() / 1e6;
    println!(
        "encode + sort: {throughput:.2} M rows/s, {:.3} s; peak RSS {}; open handles {}",
        wall.as_secs_f64(),
        peak_rss(),
        open_handles()
    );
    fs::remove_dir_all(&root)?;
    Ok(())
}
