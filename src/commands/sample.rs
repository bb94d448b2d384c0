//! `indexbuild sample`: a table of any size to try things on, in the form that sysbench made common.

use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, bail};
use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use clap::{Args, ValueEnum};
use indexbuild_durable::DurableFile;
use indicatif::{ProgressBar, ProgressStyle};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::cleanup::RemovedBySignal;

/// Rows that are made and written at a time: what is in memory does not depend on the table's size.
const BATCH_ROWS: u64 = 1 << 16;
/// Batches that wait between the thread that makes them and the one that writes them.
const QUEUED_BATCHES: usize = 2;

const EXAMPLES: &str = "\
Examples:
  indexbuild sample --rows 1M --out table.parquet
  indexbuild sample --rows 10M --columns id,k --out keys.parquet
  indexbuild sample --rows 1M --files 4 --out table.parquet        table-1.parquet ... table-4.parquet
  indexbuild sample --rows 1M --skew 1.1 --out hot.csv             few values of k make up most rows
  indexbuild sample --rows 1M --duplicates 0.001 --nulls 0.01 --out bad.csv

The table's columns:
  id   BIGINT  1, 2, 3, ... up to --rows; never NULL
  k    BIGINT  uniform in 1 ..= rows, or skewed
  c    text    ten groups of eleven digits with dashes between, 119 characters
  pad  text    five such groups, 59 characters

A row depends on its number, --seed, --rows and the options about its content, not on --files or the format.";

/// Write a table to try things on: id, k, c and pad, as sysbench has them.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SampleArgs {
    /// How many rows; k, M and G stand for thousands, millions and billions
    #[arg(long, value_parser = parse_count)]
    rows: u64,
    /// The file to write; its ending, .parquet or .csv, says the format. A file of that name is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write so many files; each gets its number before the ending
    #[arg(long, default_value_t = 1, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: u32,
    /// The same seed gives the same table
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The columns, in this order
    #[arg(long, value_enum, value_delimiter = ',', default_value = "id,k,c,pad")]
    columns: Vec<Column>,
    /// Exponent of the Zipf distribution of k: 0 is uniform, 1 is strong, 2 is extreme; small values are frequent
    #[arg(long, default_value_t = 0.0, value_name = "EXPONENT", value_parser = parse_exponent)]
    skew: f64,
    /// The fraction of rows that repeat k, c and pad of an earlier row
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", value_parser = parse_fraction)]
    duplicates: f64,
    /// The fraction of NULLs in each of k, c and pad
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", value_parser = parse_fraction)]
    nulls: f64,
    /// Rows of a Parquet row group
    #[arg(long, default_value_t = 262_144, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    row_group_rows: u64,
}

/// A column of the table.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    K,
    C,
    Pad,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::K => "k",
            Self::C => "c",
            Self::Pad => "pad",
        }
    }

    fn field(self) -> Field {
        match self {
            Self::Id => Field::new(self.name(), DataType::Int64, false),
            Self::K => Field::new(self.name(), DataType::Int64, true),
            Self::C | Self::Pad => Field::new(self.name(), DataType::Utf8, true),
        }
    }
}

fn parse_count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let (digits, factor) = match digits.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']) {
        Some(rest) if digits.ends_with(['k', 'K']) => (rest, 1_000),
        Some(rest) if digits.ends_with(['m', 'M']) => (rest, 1_000_000),
        Some(rest) => (rest, 1_000_000_000),
        None => (digits.as_str(), 1),
    };
    let count = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
    // Row numbers are BIGINT.
    count
        .filter(|count| i64::try_from(*count).is_ok())
        .ok_or_else(|| format!("{text:?} is no number of rows; write for example 1000000 or 1M"))
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))
        .ok_or_else(|| format!("{text:?} is no fraction; write a number from 0 to 1, for example 0.01"))
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|exponent| (0.0..=10.0).contains(exponent))
        .ok_or_else(|| format!("{text:?} is no exponent; write a number from 0 to 10, for example 1.1"))
}

#[allow(clippy::needless_pass_by_value)] // as all commands: what was parsed is handed over
pub(crate) fn run(args: SampleArgs) -> anyhow::Result<()> {
    let format = Format::of(&args.out)?;
    if let Some(folder) = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    }
    let bar = ProgressBar::new(args.rows);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows, {eta} left") {
        bar.set_style(style);
    }
    let mut written = 0_u64;
    for (path, rows) in files(&args) {
        written += write_file(&args, format, &path, rows, &bar)
            .with_context(|| format!("{} was not written", path.display()))?;
    }
    bar.finish_and_clear();
    let names = match args.files {
        1 => args.out.display().to_string(),
        count => format!("{} ({count} files)", numbered(&args.out, "*").display()),
    };
    // The table is there, whoever reads this.
    let _ = writeln!(std::io::stderr(), "{names}: {} rows, {written} bytes", args.rows);
    Ok(())
}

/// The files and the rows of each, counted from 0.
fn files(args: &SampleArgs) -> Vec<(PathBuf, Range<u64>)> {
    let first_of = |file: u32| {
        let first = u128::from(args.rows) * u128::from(file) / u128::from(args.files);
        u64::try_from(first).unwrap_or(args.rows)
    };
    let width = args.files.to_string().len();
    (0..args.files)
        .map(|file| {
            let path = match args.files {
                1 => args.out.clone(),
                _ => numbered(&args.out, &format!("{:0width$}", file + 1)),
            };
            (path, first_of(file)..first_of(file + 1))
        })
        .collect()
}

fn numbered(out: &Path, number: &str) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{number}.{ending}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
}

impl Format {
    fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            _ => bail!("--out {}: the format is not known; let the name end in .parquet or .csv", path.display()),
        }
    }
}

/// Writes one file and gives its length.
fn write_file(
    args: &SampleArgs,
    format: Format,
    path: &Path,
    rows: Range<u64>,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let generator = RowGenerator::new(args);
    let file = DurableFile::create(path)?;
    let _by_signal = RemovedBySignal::new(file.temporary());
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(QUEUED_BATCHES);
        scope.spawn({
            let generator = &generator;
            move || {
                let mut first = rows.start;
                while first < rows.end {
                    let end = rows.end.min(first + BATCH_ROWS);
                    // The writer is gone after an error of its own.
                    if sender.send(generator.batch(first..end)).is_err() {
                        break;
                    }
                    first = end;
                }
            }
        });
        match format {
            Format::Parquet => write_parquet(args, &generator.schema, file, &batches, bar),
            Format::Csv => write_csv(&generator.schema, file, &batches, bar),
        }
    })
}

type Batches = Receiver<Result<RecordBatch, arrow_schema::ArrowError>>;

fn write_parquet(
    args: &SampleArgs,
    schema: &SchemaRef,
    file: DurableFile,
    batches: &Batches,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let row_group_rows = usize::try_from(args.row_group_rows)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        // Every value is another one: a dictionary would only be given up later.
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(row_group_rows));
    for column in [Column::C, Column::Pad] {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column.name()), EnabledStatistics::None);
    }
    let mut writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.build()))?;
    for batch in batches {
        let batch = batch?;
        writer.write(&batch)?;
        bar.inc(batch.num_rows() as u64);
    }
    let file = writer.into_inner()?;
    seal(file)
}

fn write_csv(schema: &SchemaRef, file: DurableFile, batches: &Batches, bar: &ProgressBar) -> anyhow::Result<u64> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    writeln!(writer, "{}", names.join(","))?;
    let mut text = Vec::new();
    for batch in batches {
        let batch = batch?;
        text.clear();
        let columns: Vec<Cells<'_>> = batch.columns().iter().map(Cells::of).collect();
        for row in 0..batch.num_rows() {
            for (number, column) in columns.iter().enumerate() {
                if number > 0 {
                    text.push(b',');
                }
                column.push(row, &mut text);
            }
            text.push(b'\n');
        }
        writer.write_all(&text)?;
        bar.inc(batch.num_rows() as u64);
    }
    let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    seal(file)
}

fn seal(file: DurableFile) -> anyhow::Result<u64> {
    let length = file.file()?.metadata()?.len();
    file.seal()?;
    Ok(length)
}

/// A column as CSV cells. No value needs quotes; NULL is the empty cell.
enum Cells<'a> {
    Numbers(&'a arrow_array::Int64Array),
    Texts(&'a arrow_array::StringArray),
}

impl<'a> Cells<'a> {
    fn of(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Int64 => Self::Numbers(array.as_primitive::<Int64Type>()),
            _ => Self::Texts(array.as_string::<i32>()),
        }
    }

    fn push(&self, row: usize, text: &mut Vec<u8>) {
        match self {
            Self::Numbers(array) if array.is_valid(row) => push_number(array.value(row).unsigned_abs(), text),
            Self::Texts(array) if array.is_valid(row) => text.extend_from_slice(array.value(row).as_bytes()),
            Self::Numbers(_) | Self::Texts(_) => {}
        }
    }
}

fn push_number(mut number: u64, text: &mut Vec<u8>) {
    let first = text.len();
    loop {
        text.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = text.get_mut(first..) {
        digits.reverse();
    }
}

/// Makes rows: each is a function of its number.
struct RowGenerator {
    rows: u64,
    seed: u64,
    skew: f64,
    duplicates: u128,
    nulls: u128,
    columns: Vec<Column>,
    schema: SchemaRef,
}

/// The independent random numbers of a row. Groups of digits have the numbers from `C` and `PAD` on.
mod stream {
    pub(super) const K: u64 = 1;
    pub(super) const DUPLICATE: u64 = 2;
    pub(super) const ORIGINAL: u64 = 3;
    pub(super) const NULL_K: u64 = 4;
    pub(super) const NULL_C: u64 = 5;
    pub(super) const NULL_PAD: u64 = 6;
    pub(super) const C: u64 = 16;
    pub(super) const PAD: u64 = 32;
}

const C_GROUPS: u64 = 10;
const PAD_GROUPS: u64 = 5;
const GROUP_DIGITS: u64 = 11;

impl RowGenerator {
    fn new(args: &SampleArgs) -> Self {
        let fields: Vec<Field> = args.columns.iter().map(|column| column.field()).collect();
        // A fraction as a bound below which a random number of 64 bits falls that often.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bound = |fraction: f64| (fraction * 2_f64.powi(64)) as u128;
        Self {
            rows: args.rows,
            seed: mixed(args.seed),
            skew: args.skew,
            duplicates: bound(args.duplicates),
            nulls: bound(args.nulls),
            columns: args.columns.clone(),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    fn batch(&self, rows: Range<u64>) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let originals: Vec<u64> = rows.clone().map(|row| self.original(row)).collect();
        let columns = self
            .columns
            .iter()
            .map(|column| match column {
                Column::Id => {
                    let ids = rows.clone().map(|row| i64::try_from(row + 1).unwrap_or(i64::MAX));
                    Arc::new(arrow_array::Int64Array::from_iter_values(ids)) as ArrayRef
                }
                Column::K => self.keys(rows.clone(), &originals),
                Column::C => self.texts(rows.clone(), &originals, stream::NULL_C, stream::C, C_GROUPS),
                Column::Pad => self.texts(rows.clone(), &originals, stream::NULL_PAD, stream::PAD, PAD_GROUPS),
            })
            .collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    fn random(&self, row: u64, stream: u64) -> u64 {
        mixed(mixed(self.seed ^ row).wrapping_add(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn is_null(&self, row: u64, stream: u64) -> bool {
        self.nulls > 0 && u128::from(self.random(row, stream)) < self.nulls
    }

    /// The row whose values this one has: itself, unless it repeats an earlier one.
    fn original(&self, mut row: u64) -> u64 {
        // Each step goes to an earlier row, and the first row repeats none: this ends.
        while row > 0 && u128::from(self.random(row, stream::DUPLICATE)) < self.duplicates {
            row = below(self.random(row, stream::ORIGINAL), row);
        }
        row
    }

    fn keys(&self, rows: Range<u64>, originals: &[u64]) -> ArrayRef {
        let mut keys = Int64Builder::with_capacity(originals.len());
        for (row, original) in rows.zip(originals) {
            let key = i64::try_from(self.key(*original)).unwrap_or(i64::MAX);
            keys.append_option((!self.is_null(row, stream::NULL_K)).then_some(key));
        }
        Arc::new(keys.finish())
    }

    fn key(&self, row: u64) -> u64 {
        let random = self.random(row, stream::K);
        if self.skew == 0.0 {
            return 1 + below(random, self.rows);
        }
        // The inverse of the continuous distribution whose density falls as x^-skew on 1 ..= rows + 1.
        #[allow(clippy::cast_precision_loss)]
        let (share, end) = ((random >> 11) as f64 / 2_f64.powi(53), (self.rows + 1) as f64);
        let place = if (self.skew - 1.0).abs() < 1e-9 {
            end.powf(share)
        } else {
            let exponent = 1.0 - self.skew;
            (share * (end.powf(exponent) - 1.0) + 1.0).powf(1.0 / exponent)
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (place as u64).clamp(1, self.rows)
    }

    fn texts(&self, rows: Range<u64>, originals: &[u64], nulls: u64, stream: u64, groups: u64) -> ArrayRef {
        let length = groups * (GROUP_DIGITS + 1) - 1;
        let bytes = usize::try_from(length).unwrap_or_default() * originals.len();
        let mut texts = StringBuilder::with_capacity(originals.len(), bytes);
        let mut text = String::new();
        for (row, original) in rows.zip(originals) {
            if self.is_null(row, nulls) {
                texts.append_null();
                continue;
            }
            text.clear();
            for group in 0..groups {
                if group > 0 {
                    text.push('-');
                }
                push_group(below(self.random(*original, stream + group), 10_u64.pow(11)), &mut text);
            }
            texts.append_value(&text);
        }
        Arc::new(texts.finish())
    }
}

/// Eleven digits.
fn push_group(number: u64, text: &mut String) {
    let mut digits = [b'0'; 11];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

/// A random number of 64 bits as one in `0..end`.
fn below(random: u64, end: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(end)) >> 64).unwrap_or_default()
}

/// The finaliser of `SplitMix64`: every bit of the result depends on every bit of the argument.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        sample: SampleArgs,
    }

    fn args(text: &str) -> SampleArgs {
        Cli::try_parse_from(std::iter::once("sample").chain(text.split(' '))).unwrap().sample
    }

    fn csv(folder: &Path, options: &str) -> Vec<String> {
        let out = folder.join("t.csv");
        let args = args(&format!("--out {} {options}", out.display()));
        let paths: Vec<PathBuf> = files(&args).into_iter().map(|(path, _)| path).collect();
        run(args).unwrap();
        let mut lines = Vec::new();
        for path in paths {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().skip(1).map(str::to_owned));
        }
        lines
    }

    #[test]
    fn rows_have_the_shape_that_sysbench_gives_them() {
        let folder = tempfile::tempdir().unwrap();
        let lines = csv(folder.path(), "--rows 1000");
        assert_eq!(lines.len(), 1000);
        for (line, id) in lines.iter().zip(1..) {
            let cells: Vec<&str> = line.split(',').collect();
            let [row, k, c, pad] = cells[..] else { panic!("{line}") };
            assert_eq!(row.parse::<u64>().unwrap(), id);
            assert!((1..=1000).contains(&k.parse::<u64>().unwrap()));
            assert_eq!((c.len(), pad.len()), (119, 59));
            for text in [c, pad] {
                assert!(
                    text.split('-').all(|group| group.len() == 11 && group.bytes().all(|byte| byte.is_ascii_digit()))
                );
            }
        }
        let texts: HashSet<&str> = lines.iter().map(|line| line.split(',').nth(2).unwrap()).collect();
        assert_eq!(texts.len(), 1000);
    }

    #[test]
    fn a_row_depends_neither_on_the_number_of_files_nor_on_the_columns_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let options = "--rows 70000 --columns k,id --skew 1 --duplicates 0.1 --nulls 0.1";
        let one = csv(folder.path(), options);
        assert_eq!(one, csv(folder.path(), &format!("{options} --files 7")));
        let wide = csv(folder.path(), &options.replace("k,id", "id,c,k"));
        let keys = |lines: &[String], at: usize| -> Vec<String> {
            lines.iter().map(|line| line.split(',').nth(at).unwrap().to_owned()).collect()
        };
        assert_eq!(keys(&one, 0), keys(&wide, 2));
        assert_ne!(one, csv(folder.path(), &format!("{options} --seed 43")));
    }

    #[test]
    fn skew_duplicates_and_nulls_are_as_frequent_as_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let lines = csv(folder.path(), "--rows 20000 --columns k,c --skew 1 --nulls 0.25 --duplicates 0.5");
        let nulls = lines.iter().filter(|line| line.starts_with(',')).count();
        assert!((4_600..5_400).contains(&nulls), "{nulls} of 20000 with 0.25");
        let texts: Vec<&str> =
            lines.iter().filter_map(|line| line.split(',').nth(1)).filter(|c| !c.is_empty()).collect();
        let distinct = texts.iter().collect::<HashSet<_>>().len();
        assert!((7_500..11_000).contains(&distinct), "{distinct} distinct of {}", texts.len());
        let ones = csv(folder.path(), "--rows 20000 --columns k --skew 1").iter().filter(|line| *line == "1").count();
        // With exponent 1 the first value has ln 2 / ln 20001 of all rows.
        assert!((1_250..1_550).contains(&ones), "{ones} of 20000");
    }

    #[test]
    fn parquet_and_csv_hold_the_same_table() {
        let folder = tempfile::tempdir().unwrap();
        let options = "--rows 3000 --columns id,k --nulls 0.1 --row-group-rows 700";
        let lines = csv(folder.path(), options);
        let path = folder.path().join("t.parquet");
        run(args(&format!("--out {} {options}", path.display()))).unwrap();
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap())
                .unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 5);
        let mut rows = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let (ids, keys) =
                (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
            for (id, key) in ids.iter().zip(keys) {
                rows.push(format!("{},{}", id.unwrap(), key.map(|key| key.to_string()).unwrap_or_default()));
            }
        }
        assert_eq!(rows, lines);
    }

    #[test]
    fn numbers_of_rows_may_be_short_and_nonsense_is_refused() {
        assert_eq!(parse_count("10M"), Ok(10_000_000));
        assert_eq!(parse_count("1_500k"), Ok(1_500_000));
        assert!(parse_count("-1").is_err() && parse_count("99999999999G").is_err() && parse_count("M").is_err());
        assert!(parse_fraction("1.5").is_err() && parse_exponent("nan").is_err());
        let error = run(args("--rows 1 --out t.txt")).unwrap_err().to_string();
        assert!(error.contains(".parquet or .csv"), "{error}");
        assert!(!Path::new("t.txt").exists());
    }
}
