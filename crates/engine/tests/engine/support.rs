//! A small table, and its way through Encode and Sort.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use indexbuild_engine::{
    Attempt, Batches, BoxError, EncodeJob, EncodeOutcome, EngineError, IndexPlan, InputBatch, InputRows, JobControl,
    Lane, Owner, PieceReader, RunInput, RunTable, SealedRange, SealedRun, SortJob, SortOutcome, SplitReader, Volume,
    encode, sort,
};
use indexbuild_index::{
    ColumnType, Compression, DecodedEntry, Encoder, Entries, Frame, IndexDefinition, KeyColumn, Nulls, Order, RowId,
    RowPositions, Rows, decode_entry,
};

/// A row: k, c, id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub k: Option<i32>,
    pub c: Option<String>,
    pub id: i64,
}

/// Rows in splits, with a fault.
pub(crate) struct Table {
    pub rows: Vec<Row>,
    pub split_rows: usize,
    pub batch_rows: usize,
    /// Reading this split fails at its second batch.
    pub fails_at: Option<u32>,
    /// Rows that were read.
    pub read: AtomicU64,
    /// Called before each batch.
    pub before_batch: Box<dyn Fn(u32) + Sync + Send>,
}

pub(crate) fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Table {
    pub(crate) fn of(rows: Vec<Row>) -> Self {
        Self {
            rows,
            split_rows: 1500,
            batch_rows: 400,
            fails_at: None,
            read: AtomicU64::new(0),
            before_batch: Box::new(|_| {}),
        }
    }

    /// Rows without any order: some NULLs, some equal keys, texts with common prefixes.
    pub(crate) fn mixed(count: u64) -> Self {
        Self::of(
            (0..count)
                .map(|id| {
                    let random = mixed(id);
                    Row {
                        k: (!random.is_multiple_of(17))
                            .then(|| i32::try_from(random % (count / 2 + 1)).unwrap() - 5000),
                        c: (!random.is_multiple_of(13))
                            .then(|| format!("customer-{:08}-{}", random % count, "x".repeat((random % 40) as usize))),
                        id: i64::try_from(id).unwrap(),
                    }
                })
                .collect(),
        )
    }

    pub(crate) fn splits(&self) -> Vec<u32> {
        (0..u32::try_from(self.rows.len().div_ceil(self.split_rows)).unwrap()).collect()
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(rows.iter().map(|row| row.k).collect::<Int32Array>())),
        ("c", Arc::new(rows.iter().map(|row| row.c.as_deref()).collect::<StringArray>())),
        ("id", Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>())),
    ];
    assert!(columns.iter().all(|(_, column)| column.len() == rows.len()));
    RecordBatch::try_from_iter(columns).unwrap()
}

impl SplitReader for Table {
    fn read(&self, split: u32) -> Result<Batches<'_>, BoxError> {
        let begin = split as usize * self.split_rows;
        let rows = &self.rows[begin..self.rows.len().min(begin + self.split_rows)];
        Ok(Box::new(rows.chunks(self.batch_rows).enumerate().map(move |(number, rows)| {
            (self.before_batch)(split);
            if self.fails_at == Some(split) && number == 1 {
                return Err("the source is gone".into());
            }
            self.read.fetch_add(rows.len() as u64, Ordering::SeqCst);
            let at = (begin + number * self.batch_rows) as u64;
            let rows_at = if split.is_multiple_of(2) {
                InputRows::From(at)
            } else {
                InputRows::Each((at..at + rows.len() as u64).collect())
            };
            Ok(InputBatch { batch: batch(rows), file: 0, rows: rows_at })
        })))
    }
}

/// Reads runs from their files.
pub(crate) struct Files(pub Vec<File>);

impl PieceReader for Files {
    fn read_at(&self, run: usize, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        Ok(self.0[run].read_exact_at(buf, offset)?)
    }
}

pub(crate) fn column(name: &str, column_type: ColumnType, order: Order, nulls: Nulls) -> KeyColumn {
    KeyColumn { name: name.to_owned(), column_type, order, nulls }
}

pub(crate) fn id_column() -> RowId {
    RowId::Columns(vec![column("id", ColumnType::Int64, Order::Asc, Nulls::Last)])
}

pub(crate) fn on_k(order: Order, nulls: Nulls) -> IndexDefinition {
    IndexDefinition {
        name: "by_k".to_owned(),
        unique: false,
        columns: vec![column("k", ColumnType::Int32, order, nulls)],
        row_id: id_column(),
        include: Vec::new(),
    }
}

pub(crate) fn on_c() -> IndexDefinition {
    IndexDefinition {
        name: "by_c".to_owned(),
        columns: vec![column("c", ColumnType::String, Order::Asc, Nulls::Last)],
        row_id: RowId::Position,
        ..on_k(Order::Asc, Nulls::Last)
    }
}

/// How much to work with: nothing here may show in the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub lanes: u32,
    pub threads: usize,
    pub memory: u64,
    pub run_bytes: u64,
}

pub(crate) const PLENTY: Means = Means { lanes: 1, threads: 1, memory: 64 << 20, run_bytes: 1 << 30 };
pub(crate) const TINY: Means = Means { lanes: 2, threads: 2, memory: 256 << 10, run_bytes: 64 << 10 };

/// Cuts an index at quantiles of all its keys.
pub(crate) fn plan(definition: IndexDefinition, table: &Table, ranges: usize, lanes: u32) -> IndexPlan {
    let mut keys = stored_keys(&definition, table);
    keys.sort();
    keys.dedup();
    let mut boundaries: Vec<String> = (1..ranges)
        .filter_map(|range| keys.get(range * keys.len() / ranges))
        .map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    boundaries.dedup();
    let ranges = u32::try_from(boundaries.len()).unwrap() + 1;
    let lanes = lanes.min(ranges);
    let lanes = (0..lanes)
        .map(|lane| Lane {
            first_range: lane * ranges / lanes,
            ranges: (lane + 1) * ranges / lanes - lane * ranges / lanes,
        })
        .collect();
    IndexPlan {
        definition,
        boundaries,
        lanes,
        target_file_bytes: 50_000,
        compression: Compression::Lz4,
        bloom_bits_per_key: 0,
    }
}

fn stored_keys(definition: &IndexDefinition, table: &Table) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(Arc::new(definition.clone())).unwrap();
    let mut entries = Entries::default();
    encoder.encode(&batch(&table.rows), &RowPositions { file: 0, rows: Rows::From(0) }, &mut entries).unwrap();
    let mut frame = Frame::new();
    let packed = entries.packed.iter().map(|entry| {
        encoder.packed().unwrap().expand(*entry, &mut frame);
        frame.key().to_vec()
    });
    let general = entries.general.entries.iter().map(|entry| entries.general.key(*entry).to_vec());
    packed.chain(general).collect()
}

/// A volume in a temporary folder, and epochs.
pub(crate) struct Place {
    pub folder: tempfile::TempDir,
    pub volume: Volume,
    epochs: AtomicU32,
}

impl Default for Place {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let volume = Volume::open(folder.path(), "build").unwrap();
        Self { folder, volume, epochs: AtomicU32::new(0) }
    }
}

impl Place {
    pub(crate) fn owner(&self, work: &str) -> Owner {
        let epoch = self.epochs.fetch_add(1, Ordering::SeqCst) + 1;
        Owner {
            build_uid: "build".to_owned(),
            work_id: work.to_owned(),
            inputs_digest: "inputs".to_owned(),
            epoch: u64::from(epoch),
            boot_nonce: format!("nonce{epoch}"),
            pod_uid: "pod".to_owned(),
            pod_name: "pod".to_owned(),
        }
    }

    pub(crate) fn begin(&self, work: &str) -> Attempt {
        self.volume.begin(&self.owner(work)).unwrap()
    }
}

pub(crate) type OnRun<'a> = &'a (dyn Fn(&SealedRun) -> Result<(), BoxError> + Sync);
pub(crate) type OnRange<'a> = &'a (dyn Fn(&SealedRange) -> Result<(), BoxError> + Sync);

pub(crate) fn encode_with(
    attempt: &Attempt,
    plans: &[IndexPlan],
    table: &Table,
    means: Means,
    already: Vec<SealedRun>,
    control: &JobControl,
    on_sealed: OnRun<'_>,
) -> Result<EncodeOutcome, EngineError> {
    encode(EncodeJob {
        attempt,
        indexes: plans,
        splits: &table.splits(),
        already,
        reader: table,
        threads: means.threads,
        memory: means.memory,
        run_bytes: means.run_bytes,
        control,
        on_sealed,
    })
}

pub(crate) fn inputs(runs: &[SealedRun]) -> (Vec<RunInput>, Files) {
    let files: Vec<File> = runs.iter().map(|run| File::open(&run.path).unwrap()).collect();
    let inputs = runs
        .iter()
        .zip(&files)
        .map(|(run, file)| RunInput {
            table: RunTable::read(file).unwrap(),
            splits: run.sidecar.splits.clone(),
            name: run.name.clone(),
        })
        .collect();
    (inputs, Files(files))
}

/// A lane to sort.
pub(crate) struct LaneJob<'a> {
    pub attempt: &'a Attempt,
    pub plan: &'a IndexPlan,
    pub lane: usize,
    pub runs: &'a [SealedRun],
    pub already: Vec<SealedRange>,
    pub means: Means,
}

impl<'a> LaneJob<'a> {
    /// The plan's first lane, with nothing taken over.
    pub(crate) fn first(attempt: &'a Attempt, plan: &'a IndexPlan, runs: &'a [SealedRun], means: Means) -> Self {
        Self { attempt, plan, lane: 0, runs, already: Vec::new(), means }
    }
}

pub(crate) fn sort_with(
    job: LaneJob<'_>,
    control: &JobControl,
    on_sealed: OnRange<'_>,
) -> Result<SortOutcome, EngineError> {
    let LaneJob { attempt, plan, lane, runs, already, means } = job;
    let (runs, reader) = inputs(runs);
    sort(SortJob {
        attempt,
        index_plan: plan,
        index: 0,
        lane: plan.lanes[lane],
        runs: &runs,
        reader: &reader,
        already,
        threads: means.threads,
        memory: means.memory,
        control,
        on_sealed,
    })
}

/// What an index is, whatever it was made with.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    /// Range, first key, last key, entries, digests of the entries and of the bytes.
    pub files: Vec<(u32, String, String, u64, [String; 2])>,
    pub hash: String,
    pub entries: u64,
    pub duplicates: indexbuild_engine::Duplicates,
}

pub(crate) fn content(outcomes: &[SortOutcome]) -> Content {
    let mut hash = indexbuild_index::SetHash::default();
    let mut duplicates = indexbuild_engine::Duplicates::default();
    let mut files = Vec::new();
    for outcome in outcomes {
        hash.merge(outcome.hash);
        duplicates.count += outcome.duplicates.count;
        duplicates.pairs.extend(outcome.duplicates.pairs.iter().cloned());
        for range in &outcome.ranges {
            for sst in &range.files {
                files.push((
                    range.range,
                    sst.first_key.clone(),
                    sst.last_key.clone(),
                    sst.entries,
                    [sst.content_digest.clone(), sst.file_digest.clone()],
                ));
            }
        }
    }
    duplicates.pairs.truncate(indexbuild_engine::MOST_PAIRS);
    let entries = outcomes.iter().map(|outcome| outcome.entries).sum();
    Content { files, hash: hash.hex(), entries, duplicates }
}

/// Builds one index from begin to end.
pub(crate) fn build(
    definition: &IndexDefinition,
    table: &Table,
    ranges: usize,
    means: Means,
) -> (Content, Vec<SortOutcome>, Place) {
    let place = Place::default();
    let plan = plan(definition.clone(), table, ranges, means.lanes);
    let control = JobControl::new();
    let attempt = place.begin("encode-0");
    let encoded =
        encode_with(&attempt, std::slice::from_ref(&plan), table, means, Vec::new(), &control, &|_| Ok(())).unwrap();
    assert_eq!(encoded.rows, table.rows.len() as u64);
    assert_eq!(encoded.indexes[0].entries, encoded.rows);
    assert!(encoded.missing.is_empty());
    let mut outcomes = Vec::new();
    for lane in 0..plan.lanes.len() {
        let attempt = place.begin(&format!("sort-{lane}"));
        let job = LaneJob { attempt: &attempt, plan: &plan, lane, runs: &encoded.runs, already: Vec::new(), means };
        let outcome = sort_with(job, &control, &|_| Ok(())).unwrap();
        assert_eq!(outcome.check.unwrap().entries, outcome.entries, "RocksDB counts what was written");
        assert_eq!(fs::read_dir(attempt.spill_dir()).unwrap().count(), 0, "spill files are gone once they are sorted");
        outcomes.push(outcome);
    }
    let content = content(&outcomes);
    if content.duplicates.count == 0 {
        // I6.
        assert_eq!(content.hash, encoded.indexes[0].hash.hex(), "Encode and Sort saw the same entries");
    }
    assert_eq!(content.entries + content.duplicates.count, encoded.rows);
    (content, outcomes, place)
}

/// The index's entries in the order in which RocksDB gives them.
pub(crate) fn entries(definition: &IndexDefinition, outcomes: &[SortOutcome]) -> Vec<DecodedEntry> {
    let folder = tempfile::tempdir().unwrap();
    let db = rocksdb::DB::open_default(folder.path()).unwrap();
    let files: Vec<PathBuf> = outcomes
        .iter()
        .flat_map(|outcome| outcome.ranges.iter().flat_map(|range| range.files.iter().map(|sst| sst.path.clone())))
        .collect();
    if !files.is_empty() {
        db.ingest_external_file(files).unwrap();
    }
    db.iterator(rocksdb::IteratorMode::Start)
        .map(|entry| {
            let (key, value) = entry.unwrap();
            decode_entry(definition, &key, &value).unwrap()
        })
        .collect()
}

pub(crate) fn flip_byte(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}
