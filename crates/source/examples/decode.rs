//! How fast columns are decoded: `decode <url> <column,column,...> [threads]`.
//!
//! Prints rows and megabytes per second of wall time, over all threads, the best of three rounds. With `indexbuild sample`
//! for the input, this is where the figures of docs/sources.md come from.

use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indexbuild_source::{CsvColumn, CsvOptions, ReadOptions, SourceError, StoreOptions, Table, TableSpec};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(columns)) = (arguments.next(), arguments.next()) else {
        return Err("usage: decode <url> <column,column,...> [threads]".into());
    };
    let threads: usize = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let columns: Vec<String> = columns.split(',').map(str::to_owned).collect();
    let spec = if url.ends_with(".csv") {
        let number = |name: &str| CsvColumn { name: name.to_owned(), column_type: "int64".to_owned() };
        let numbers = ["id", "k"].into_iter().filter(|name| columns.iter().any(|column| column == name)).map(number);
        let options = CsvOptions { columns: numbers.collect(), ..CsvOptions::default() };
        TableSpec::Csv { urls: vec![url], options }
    } else {
        TableSpec::Parquet { urls: vec![url] }
    };
    let settings = StoreOptions::default();
    let snapshot = Table::pin(&spec, &settings)?;
    let table = Table::open(&spec, &settings, &snapshot)?;
    let began = Instant::now();
    let splits = table.splits(&columns)?;
    println!("{} splits of {} files, made in {:.1?}", splits.len(), snapshot.files.len(), began.elapsed());

    let mut best: Option<(Duration, u64, u64)> = None;
    for _ in 0..3 {
        let (next, rows, bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let work = || -> Result<(), SourceError> {
            while let Some(split) = splits.get(next.fetch_add(1, Ordering::Relaxed)) {
                for batch in table.read(split, &columns, &ReadOptions::default())? {
                    let batch = batch?.batch;
                    rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    bytes.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let began = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result.map_err(Box::<dyn Error>::from),
                Err(_) => Err("a thread panicked".into()),
            })
        })?;
        let round = (began.elapsed(), rows.into_inner(), bytes.into_inner());
        best = Some(best.map_or(round, |best| best.min(round)));
    }
    if let Some((time, rows, bytes)) = best {
        let seconds = time.as_secs_f64();
        println!(
            "{rows} rows in {time:.2?}: {:.1} M rows/s, {:.0} MB/s of arrays, {threads} threads",
            rows as f64 / seconds / 1e6,
            bytes as f64 / seconds / 1e6
        );
    }
    Ok(())
}
