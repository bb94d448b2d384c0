//! Row groups as splits.

use arrow_schema::DataType;
use parquet::file::metadata::RowGroupMetaData;

use super::footer::Footer;
use super::leaves::{Leaf, find};
use crate::error::SourceError;
use crate::split::LARGEST_SPLIT;

/// Neighbouring row groups of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowGroupRange {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// The row groups of a file, with the bytes of the needed columns.
pub(crate) fn row_groups(url: &str, footer: &Footer, columns: &[String]) -> Result<Vec<RowGroupRange>, SourceError> {
    let needed = columns.iter().map(|column| find(url, &footer.leaves, column)).collect::<Result<Vec<_>, _>>()?;
    let pieces = footer.metadata().row_groups().iter().zip(0..).map(|(group, first)| RowGroupRange {
        first,
        count: 1,
        rows: u64::try_from(group.num_rows()).unwrap_or(0),
        bytes: needed.iter().map(|leaf| column_bytes(group, leaf)).fold(0, u64::saturating_add),
    });
    Ok(pieces.collect())
}

/// Neighbouring row groups together until they have at least `target` bytes. A row group is never split, and one that is
/// large stands alone.
pub(crate) fn group(row_groups: Vec<RowGroupRange>, target: u64) -> Vec<RowGroupRange> {
    let mut pieces: Vec<RowGroupRange> = Vec::new();
    for next in row_groups {
        match pieces.last_mut() {
            Some(last) if last.bytes < target && last.bytes.saturating_add(next.bytes) <= LARGEST_SPLIT => {
                last.count += next.count;
                last.rows += next.rows;
                last.bytes += next.bytes;
            }
            _ => pieces.push(next),
        }
    }
    pieces
}

/// The bytes of a column in memory, as far as the footer tells: encoded sizes say little about repeated values.
pub(super) fn column_bytes(group: &RowGroupMetaData, leaf: &Leaf) -> u64 {
    let Some(column) = leaf.column.and_then(|at| group.columns().get(at)) else { return 0 };
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let encoded = u64::try_from(column.uncompressed_size()).unwrap_or(0);
    let decoded = match &leaf.data_type {
        DataType::Boolean => rows / 8,
        DataType::FixedSizeBinary(width) => rows.saturating_mul(u64::try_from(*width).unwrap_or(0)),
        other => match other.primitive_width() {
            Some(width) => rows.saturating_mul(width as u64),
            None => column.unencoded_byte_array_data_bytes().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        },
    };
    encoded.max(decoded)
}

#[cfg(test)]
mod tests {
    use super::{RowGroupRange, group};

    #[test]
    fn small_row_groups_are_read_together_and_large_ones_alone() {
        const MIB: u64 = 1 << 20;
        let pieces = |bytes: &[u64]| {
            bytes
                .iter()
                .zip(0..)
                .map(|(bytes, first)| RowGroupRange { first, count: 1, rows: 10, bytes: bytes * MIB })
                .collect()
        };
        let grouped = |bytes: &[u64]| -> Vec<(u32, u32)> {
            group(pieces(bytes), 4 * MIB).iter().map(|piece| (piece.first, piece.count)).collect()
        };
        assert_eq!(grouped(&[]), []);
        assert_eq!(grouped(&[1, 1, 1, 1, 1]), [(0, 4), (4, 1)]);
        assert_eq!(grouped(&[5, 100, 3, 3]), [(0, 1), (1, 1), (2, 2)]);
        assert_eq!(grouped(&[1, 64, 1]), [(0, 1), (1, 1), (2, 1)], "no split grows beyond 64 MiB by grouping");
    }
}
