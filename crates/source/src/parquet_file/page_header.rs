//! What stands before a page: its sizes, how it is encoded, its checksum.

use parquet::basic::Encoding;
use parquet::errors::Result as ParquetResult;

use super::thrift::{Compact, Octets, broken, kind};

/// A page's header. Statistics are passed over: they may be as long as the values themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: PageKind,
    /// Bytes of the page, unpacked and as it is stored.
    pub(super) unpacked: u64,
    pub(super) stored: u64,
    /// CRC-32 of the stored bytes.
    pub(super) checksum: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    Dictionary {
        values: u32,
        encoding: i64,
    },
    Data {
        values: u32,
        encoding: i64,
        definition: i64,
        repetition: i64,
    },
    DataV2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: i64,
        /// Bytes of levels before the values; they are never packed.
        definition: u32,
        repetition: u32,
        packed: bool,
    },
    /// An index, or what a later version of the format may bring: not of interest.
    Other,
}

/// Reads a header.
pub(super) fn read<O: Octets>(thrift: &mut Compact<O>) -> ParquetResult<Header> {
    let (mut kind, mut unpacked, mut stored, mut checksum) = (None, None, None, None);
    let mut data = [None; 8];
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        match (number, field) {
            (1, kind::I32) => kind = Some(thrift.integer()?),
            (2, kind::I32) => unpacked = Some(thrift.integer()?),
            (3, kind::I32) => stored = Some(thrift.integer()?),
            // A number with a sign in Thrift, and its bits here.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            (4, kind::I32) => checksum = Some(thrift.integer()? as u32),
            (5 | 7 | 8, kind::STRUCT) => data = numbers(thrift)?,
            (_, other) => thrift.pass(other)?,
        }
    }
    let size = |size: Option<i64>, what: &str| {
        let size = size.and_then(|size| i32::try_from(size).ok()).and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| broken(&format!("the header of a page has no {what}")))
    };
    let count = |at: usize, what: &str| {
        let count = data.get(at).copied().flatten().and_then(|count: i64| u32::try_from(count).ok());
        count.ok_or_else(|| broken(&format!("the header of a page has no {what}")))
    };
    let code = |at: usize| data.get(at).copied().flatten().unwrap_or(-1);
    let kind = match kind.ok_or_else(|| broken("the header of a page has no kind"))? {
        0 => PageKind::Data {
            values: count(1, "number of values")?,
            encoding: code(2),
            definition: code(3),
            repetition: code(4),
        },
        2 => PageKind::Dictionary { values: count(1, "number of values")?, encoding: code(2) },
        3 => PageKind::DataV2 {
            values: count(1, "number of values")?,
            nulls: count(2, "number of NULLs")?,
            rows: count(3, "number of rows")?,
            encoding: code(4),
            definition: count(5, "length of levels")?,
            repetition: count(6, "length of levels")?,
            packed: code(7) != 0,
        },
        _ => PageKind::Other,
    };
    Ok(Header { kind, unpacked: size(unpacked, "size")?, stored: size(stored, "size")?, checksum })
}

/// The numbers of a struct, by their fields.
fn numbers<O: Octets>(thrift: &mut Compact<O>) -> ParquetResult<[Option<i64>; 8]> {
    let mut found = [None; 8];
    let mut number = 0;
    while let Some(field) = thrift.field(&mut number)? {
        let value = match field {
            kind::I32 => Some(thrift.integer()?),
            kind::TRUE => Some(1),
            kind::FALSE => Some(0),
            other => {
                thrift.pass(other)?;
                None
            }
        };
        if let Some(place) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
            *place = value;
        }
    }
    Ok(found)
}

/// An encoding by its number in the format. `None`: the format had none of that number when this was written.
pub(super) fn encoding(code: i64) -> Option<Encoding> {
    #[allow(deprecated)] // Files of old have it.
    Some(match code {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        4 => Encoding::BIT_PACKED,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> ParquetResult<Header> {
        read(&mut Compact(bytes))
    }

    #[test]
    fn a_header_is_read_whatever_its_statistics() {
        // DATA_PAGE, 300 bytes unpacked, 100 stored, checksum -1; 7 values, PLAIN, RLE, RLE; statistics of a text "ab".
        let bytes = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0xc8, 0x01, 0x15, 0x01, 0x1c, 0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6,
            0x1c, 0x18, 2, b'a', b'b', 0, 0, 0,
        ];
        let kind = PageKind::Data { values: 7, encoding: 0, definition: 3, repetition: 3 };
        assert_eq!(of(&bytes).unwrap(), Header { kind, unpacked: 300, stored: 100, checksum: Some(u32::MAX) });
    }

    #[test]
    fn the_second_version_says_what_is_packed_by_saying_nothing() {
        // DATA_PAGE_V2, sizes 9 and 9; 4 values, 1 NULL, 4 rows, PLAIN, levels of 2 and 0 bytes; and then is_compressed.
        let begin = [0x15, 6, 0x15, 18, 0x15, 18, 0x5c, 0x15, 8, 0x15, 2, 0x15, 8, 0x15, 0, 0x15, 4, 0x15, 0];
        for (end, expected) in [([0_u8].as_slice(), true), (&[0x11, 0], true), (&[0x12, 0], false)] {
            let header = of(&[begin.as_slice(), end, &[0]].concat()).unwrap();
            assert!(
                matches!(header.kind, PageKind::DataV2 { packed, definition: 2, nulls: 1, .. } if packed == expected)
            );
        }
    }

    #[test]
    fn a_header_without_sizes_is_refused_and_an_unknown_kind_is_not() {
        assert!(of(&[]).is_err());
        assert!(of(&[0x15, 0, 0x15, 2, 0]).is_err());
        assert!(of(&[0x15, 2, 0x15, 1, 0x15, 0, 0]).is_err(), "a negative size");
        assert_eq!(
            of(&[0x15, 20, 0x15, 2, 0x15, 4, 0]).unwrap(),
            Header { kind: PageKind::Other, unpacked: 1, stored: 2, checksum: None }
        );
    }
}
