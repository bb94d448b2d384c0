//! How many rows a batch may have.

use arrow_schema::DataType;
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::ColumnDescriptor;

use crate::spec::ReadOptions;

/// The limits of one reader's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) rows: usize,
    /// Bytes at most, unless a single row takes more.
    pub(super) batch: u64,
    /// Bytes of a row at most.
    pub(super) row: u64,
    /// Bytes that every row takes at least.
    fixed: u64,
}

/// How many of the rows at hand make a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Rows(usize),
    /// Not even the first row fits, which takes this many bytes.
    TooLarge(u64),
}

impl Limits {
    /// `fixed`: by column, what it takes in every row.
    pub(super) fn new(fixed: &[u64], options: &ReadOptions) -> Self {
        let ReadOptions { batch_rows, batch_bytes, row_budget, page_budget: _ } = *options;
        // Offsets of texts have 31 bits.
        let row = row_budget.min(i32::MAX as u64);
        let batch = batch_bytes.min(row);
        let fixed = fixed.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes)).max(1);
        // The other half is for texts.
        let fitting = usize::try_from(batch / 2 / fixed).unwrap_or(usize::MAX);
        Self { rows: batch_rows.min(fitting).max(1), batch, row, fixed }
    }

    /// The bytes of every row, if they are more than a row may have.
    pub(super) fn every_row_too_large(&self) -> Option<u64> {
        (self.fixed > self.row).then_some(self.fixed)
    }

    /// As many of `at_hand` rows as a batch may have. Row n has `texts(n)` bytes of text.
    pub(super) fn fit(&self, at_hand: usize, texts: impl Fn(usize) -> u64) -> Fit {
        let mut bytes = 0_u64;
        for row in 0..at_hand.min(self.rows) {
            let of_row = texts(row).saturating_add(self.fixed);
            bytes = bytes.saturating_add(of_row);
            match row {
                0 if of_row > self.row => return Fit::TooLarge(of_row),
                0 => {}
                _ if bytes > self.batch => return Fit::Rows(row),
                _ => {}
            }
        }
        Fit::Rows(at_hand.min(self.rows))
    }
}

/// Whether values of a type lie in the pages, as views, until they are copied into a batch.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// The bytes that a column takes in every row of a batch, as it is decoded and as it is given out: NULL or not, and
/// besides the bytes of texts.
pub(super) fn fixed_bytes(data_type: &DataType, column: &ColumnDescriptor) -> u64 {
    // A level and a bit that says whether it is NULL.
    const LEVELS: u64 = 3;
    // A view, and an offset.
    const TEXT: u64 = 16 + 4;
    let stored = match column.physical_type() {
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::BYTE_ARRAY => TEXT,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0),
    };
    LEVELS + stored + data_type.primitive_width().unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Fit, Limits};
    use crate::spec::ReadOptions;

    fn limits(batch_rows: usize, batch_bytes: u64, row_budget: u64) -> Limits {
        Limits::new(&[4, 6], &ReadOptions { batch_rows, batch_bytes, row_budget, page_budget: 1 })
    }

    #[test]
    fn a_batch_ends_before_the_row_that_does_not_fit() {
        let limits = limits(1000, 1000, 5000);
        assert_eq!(limits.rows, 50, "rows alone take half a batch at most");
        assert_eq!(limits.fit(7, |_| 0), Fit::Rows(7));
        assert_eq!(limits.fit(70, |_| 0), Fit::Rows(50));
        assert_eq!(limits.fit(70, |_| 90), Fit::Rows(10));
        assert_eq!(limits.fit(70, |row| if row == 3 { 4000 } else { 90 }), Fit::Rows(3));
        assert_eq!(limits.fit(70, |row| if row == 0 { 4990 } else { 90 }), Fit::Rows(1), "a row alone may be longer");
        assert_eq!(limits.fit(70, |row| if row == 0 { 4991 } else { 90 }), Fit::TooLarge(5001));
        assert_eq!(limits.fit(0, |_| 0), Fit::Rows(0));
    }

    #[test]
    fn rows_that_are_too_large_whatever_is_in_them_are_known_at_once() {
        assert_eq!(limits(1, 1000, 10).every_row_too_large(), None);
        assert_eq!(limits(1, 1000, 9).every_row_too_large(), Some(10));
    }

    proptest! {
        #[test]
        fn batches_hold_every_row_once_and_never_more_than_their_bytes(
            texts in prop::collection::vec(0_u64..400, 1..200),
            batch_rows in 1_usize..100,
            batch_bytes in 1_u64..1000,
        ) {
            let limits = limits(batch_rows, batch_bytes, 500);
            let mut at = 0;
            while at < texts.len() {
                let Fit::Rows(rows) = limits.fit(texts.len() - at, |row| texts[at + row]) else {
                    panic!("no row is that large");
                };
                let bytes: u64 = texts[at..at + rows].iter().map(|text| text + 10).sum();
                prop_assert!((1..=batch_rows).contains(&rows));
                prop_assert!(rows == 1 || bytes <= batch_bytes, "{rows} rows of {bytes} bytes");
                at += rows;
            }
        }
    }
}
