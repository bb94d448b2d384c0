//! The one memory figure, divided.
//!
//! `spec.executor.resources.limits.memory` is what a pod may use, as its cgroup measures it. Every
//! buffer of an executor is cut from it here, and nowhere else, so that the sum can be read in one
//! table. The content of an index never depends on it (I10): a smaller budget means smaller
//! batches, more cuts of over-full ranges and more, smaller runs; never other entries or other files.
//!
//! | part | size | at 256 MiB, 2 threads |
//! |---|---|---|
//! | fixed: the program's pages, the runtime, the plan, what an allocator keeps for itself | 56 MiB | 56 |
//! | upload: two parts of 8 MiB in flight | 16 MiB | 16 |
//! | *left* | limit − fixed − upload | 184 |
//! | slack: what a buffer's growth and a cache of freed pages take | 1/10 of what is left | 18 |
//! | **Encode**, per thread: the pages of a file, of all columns together | 2 × the largest page, which is left ÷ (8 × threads), 4 to 64 MiB | 2 × 23 |
//! | Encode, per thread: a batch as it is read | the largest row, left ÷ (16 × threads), 1 to 64 MiB; a batch of more rows takes 4 MiB at most | 2 × 6 |
//! | Encode: entries waiting to be spilled (three quarters), and a batch as it is encoded | the rest | 108 |
//! | **Sort**, per thread: what is read ahead of a piece | 2 windows of 1 or 2 MiB | 2 × 4 |
//! | Sort, per thread: RocksDB's file writer | 6 MiB | 2 × 6 |
//! | Sort: the RocksDB that checks the files | 12 MiB | 12 |
//! | Sort: entries being scattered and sorted, and the keys of Bloom filters (`spec.output.bloomBitsPerKey`) | the rest | 134 |
//!
//! A file whose pages, or a row whose values, need more than that ([`Needs`]) are read by one thread, which leaves less for
//! entries: as long as 12 MiB are left for those, or 8 beside a long row. A long text is in memory as a page, and perhaps in a dictionary or in a batch
//! (CSV) besides; from there it goes straight to the run. In a Sort one entry of more than 1 MiB is in memory at a time, twice,
//! which other entries make room for (`engine`, `leaving_room`).
//!
//! Encode and Sort never run at once in one process. Threads are as many as the table has room for,
//! at most those asked for.

const MIB: u64 = 1 << 20;
const FIXED: u64 = 56 * MIB;
const UPLOAD: u64 = 16 * MIB;
const WRITER: u64 = 6 * MIB;
const ENGINE: u64 = 12 * MIB;
/// The least that a thread can work with, in either stage, with its share of the buffers.
const LEAST_PER_THREAD: u64 = 20 * MIB;

/// What is left beside pages at least: for a batch of several rows as it is read, and for entries.
const BESIDE_PAGES: u64 = 12 * MIB;
/// And beside a long row, which fills those pages alone.
const BESIDE_A_ROW: u64 = 8 * MIB;

/// What a table was found to need at once, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// All pages that must be in memory.
    pub pages: u64,
    /// The largest row.
    pub row: u64,
}

impl Needs {
    /// The larger of both, each.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { pages: self.pages.max(other.pages), row: self.row.max(other.row) }
    }

    /// With the pages that come with such a row, and those of other columns: it may be in a dictionary when another one
    /// follows in a page, or be copied out of a file that has no pages.
    fn settled(self) -> Self {
        self.and(Self { pages: 8 * MIB + 2 * self.row, row: 0 })
    }

    /// What is left of the limit at least, without slack.
    fn usable(self) -> u64 {
        // At its peak a process has a long value four times, as was measured; what is fixed leaves room for two of 16 MiB.
        let of_row = Self { pages: 0, ..self }.settled().pages.max((4 * self.row).saturating_sub(32 * MIB));
        (self.pages + BESIDE_PAGES).max(of_row + BESIDE_A_ROW)
    }

    /// The least limit of an executor's memory that suffices.
    pub(crate) fn limit(self) -> u64 {
        let left = self.usable().saturating_mul(10).div_ceil(9);
        (FIXED + UPLOAD + left).next_multiple_of(MIB).max(128 * MIB)
    }
}

/// A process's memory, divided; all sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub threads: usize,
    /// The largest page of a Parquet file that can be read.
    pub page: u64,
    /// What a batch of several rows may take as it is read.
    pub batch: u64,
    /// What the values of one row may take.
    pub row: u64,
    /// What entries may take while they wait to be spilled.
    pub encode: u64,
    /// What one window of read-ahead takes.
    pub window: u64,
    pub windows: usize,
    /// What entries may take while they are scattered and sorted.
    pub sort: u64,
}

impl Budget {
    /// Divides `limit` bytes among what `threads` threads need. A limit under 128 MiB (which no
    /// spec may ask for) is treated as one.
    #[must_use]
    pub(crate) fn new(limit: u64, threads: usize) -> Self {
        let left = limit.max(128 * MIB) - FIXED - UPLOAD;
        let room = usize::try_from(left / LEAST_PER_THREAD).unwrap_or(usize::MAX);
        let threads = threads.clamp(1, room.max(1));
        let many = threads as u64;
        let usable = left - left / 10;
        let page = (left / (8 * many)).clamp(4 * MIB, 64 * MIB);
        let row = (left / (16 * many)).clamp(MIB, 64 * MIB);
        let window = if left / many >= 48 * MIB { 2 * MIB } else { MIB };
        let windows = 2 * threads;
        let encode = usable.saturating_sub(many * (2 * page + row)).max(4 * MIB);
        // Of a quarter of a thread's entries, half: the buffer of the encoded row may be copied as it grows.
        let row = row.min(encode / (8 * many));
        let batch = row.min(4 * MIB);
        let sort = usable.saturating_sub(many * (2 * window + WRITER) + ENGINE).max(4 * MIB);
        Self { threads, page, batch, row, encode, window, windows, sort }
    }

    /// Divides `limit` bytes for a table of such needs, which one thread reads. `None`: they do not fit.
    pub(crate) fn with_needs(limit: u64, needs: Needs) -> Option<Self> {
        let usual = Self::new(limit, 1);
        let left = limit.max(128 * MIB) - FIXED - UPLOAD;
        let usable = left - left / 10;
        if usable < needs.usable() {
            return None;
        }
        let pages = needs.settled().pages.max((2 * usual.page).min(usable.saturating_sub(BESIDE_PAGES)));
        let rest = usable - pages;
        let batch = (rest / 4).min(4 * MIB);
        // One that is longer than a batch is counted among the pages.
        Some(Self { page: pages.div_ceil(2), batch, row: needs.row.max(batch), encode: rest - batch, ..usual })
    }

    /// Rows per batch at most, for rows of `row_bytes` bytes on average: as many as the batch's share
    /// of the memory holds, and never so many that giving way waits long for the batch in hand. The
    /// average is a guess; the reader counts what it decodes, and ends a batch earlier.
    pub(crate) fn batch_rows(&self, row_bytes: u64) -> usize {
        let rows = self.batch / row_bytes.max(1);
        usize::try_from(rows.clamp(16, 32_768)).unwrap_or(16)
    }
}

/// How large a run may grow, in bytes: large enough that a Sort reads few pieces, small enough that
/// a kill costs little and that the volume holds it. The figure has no effect on the index.
pub(crate) fn run_bytes(estimated_total: u64, free_on_volume: u64) -> u64 {
    (estimated_total / 64).clamp(64 * MIB, 1024 * MIB).min((free_on_volume / 8).max(8 * MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_exceed_the_limit() {
        for limit in [128, 160, 256, 512, 1024, 4096, 65_536].map(|mib| mib * MIB) {
            for threads in [1, 2, 3, 8, 64] {
                let budget = Budget::new(limit, threads);
                let many = budget.threads as u64;
                assert!(budget.threads >= 1 && budget.threads <= threads);
                let encode = FIXED + UPLOAD + many * (2 * budget.page + budget.row) + budget.encode;
                let sort =
                    FIXED + UPLOAD + many * WRITER + budget.windows as u64 * budget.window + ENGINE + budget.sort;
                assert!(encode <= limit, "encode at {limit}, {threads} threads: {encode}, {budget:?}");
                assert!(sort <= limit, "sort at {limit}, {threads} threads: {sort}, {budget:?}");
            }
        }
    }

    #[test]
    fn the_named_limit_is_the_least_that_suffices_and_is_never_exceeded() {
        for pages in [0, 1, 20, 96, 500, 2_000] {
            for row in [0, 1, 16, 300] {
                let needs = Needs { pages: pages * MIB + 7, row: row * MIB };
                let limit = needs.limit();
                let budget = Budget::with_needs(limit, needs).unwrap();
                assert!(2 * budget.page >= needs.pages && budget.row >= needs.row, "{needs:?}: {budget:?}");
                assert!(
                    FIXED + UPLOAD + 2 * budget.page + budget.batch + budget.encode <= limit,
                    "{needs:?}: {budget:?}"
                );
                assert!(budget.encode >= 6 * MIB && budget.threads == 1, "{needs:?}: {budget:?}");
                if limit > 128 * MIB {
                    assert_eq!(Budget::with_needs(limit - 2 * MIB, needs), None, "{needs:?}");
                }
            }
        }
        for pages in [21_000_000, 38_000_000] {
            let value = Needs { pages, row: 17_070_000 };
            assert_eq!(value.limit(), 128 * MIB, "values of 16 MB, in a dictionary too or not");
        }
        let page = Needs { pages: 100_000_000, row: 0 };
        assert!(page.limit() <= 256 * MIB, "a page of 100 MB needs {} MiB", page.limit() / MIB);
    }

    #[test]
    fn two_threads_have_room_to_work_in_256_mib() {
        let budget = Budget::new(256 * MIB, 2);
        assert_eq!(budget.threads, 2);
        assert!(budget.encode >= 100 * MIB && budget.sort >= 100 * MIB, "{budget:?}");
    }

    #[test]
    fn a_quarter_of_the_entries_memory_holds_the_largest_row_as_it_is_encoded() {
        for limit in [128, 160, 256, 512, 1024, 4096, 65_536].map(|mib| mib * MIB) {
            for threads in [1, 2, 3, 8, 64] {
                let budget = Budget::new(limit, threads);
                // Twice: a buffer that grows is copied into one of twice its size.
                assert!(budget.encode / budget.threads as u64 / 4 >= 2 * budget.row, "{limit}, {threads}: {budget:?}");
            }
        }
    }

    #[test]
    fn wide_rows_come_in_small_batches() {
        let budget = Budget::new(256 * MIB, 2);
        assert_eq!(budget.batch_rows(8), 32_768);
        assert!(budget.batch_rows(1 << 20) <= 16);
    }
}
