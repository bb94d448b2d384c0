//! How long the values of a page are, read from the page before any of them is decoded.
//!
//! Only encodings in which a value can be longer than what is stored of it need to be looked at: a text of
//! `DELTA_BYTE_ARRAY` names the bytes that it has in common with the one before, so that a page of a kilobyte may hold
//! gigabytes.

/// Number and greatest length of the values of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    /// How many values the page says that it holds.
    pub(super) values: u64,
    /// The bytes of the longest one.
    pub(super) longest: u64,
}

/// The values of a `DELTA_BYTE_ARRAY` page: lengths of prefixes, then lengths of suffixes. `None`: it is damaged.
pub(super) fn of_delta_byte_array(data: &[u8]) -> Option<Lengths> {
    let mut prefixes = Deltas::new(data)?;
    let values = prefixes.left;
    let mut suffixes = Deltas::new(data.get(prefixes.clone().skip()?..)?)?;
    if suffixes.left != values {
        return None;
    }
    let mut longest = 0;
    while let (Some(prefix), Some(suffix)) = (prefixes.next()?, suffixes.next()?) {
        longest = longest.max(u64::try_from(prefix).ok()?.checked_add(u64::try_from(suffix).ok()?)?);
    }
    Some(Lengths { values, longest })
}

/// The values of a `DELTA_LENGTH_BYTE_ARRAY` page; none is longer than the page. `None`: it is damaged.
pub(super) fn of_delta_length_byte_array(data: &[u8]) -> Option<Lengths> {
    Some(Lengths { values: Deltas::new(data)?.left, longest: data.len() as u64 })
}

/// The values of a `PLAIN` page or dictionary: each with its length before it, in four bytes. `None`: it is damaged.
pub(super) fn of_plain(mut data: &[u8]) -> Option<Lengths> {
    let mut lengths = Lengths::default();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = u32::from_le_bytes(*length);
        data = rest.get(length as usize..)?;
        lengths.values += 1;
        lengths.longest = lengths.longest.max(u64::from(length));
    }
    data.is_empty().then_some(lengths)
}

/// The integers of a `DELTA_BINARY_PACKED` stream of 32-bit lengths, one by one.
#[derive(Clone)]
struct Deltas<'a> {
    data: &'a [u8],
    left: u64,
    /// The value before, or the first one.
    value: i32,
    begun: bool,
    miniblocks: usize,
    per_miniblock: usize,
    least: i32,
    widths: &'a [u8],
    /// The miniblock in hand, and how many of its values were read.
    packed: &'a [u8],
    width: usize,
    read: usize,
    /// Where the stream ends, as far as it was read.
    end: usize,
}

impl<'a> Deltas<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let block = usize::try_from(varint(data, &mut at)?).ok()?;
        let miniblocks = usize::try_from(varint(data, &mut at)?).ok()?;
        let left = varint(data, &mut at)?;
        let value = zigzag(varint(data, &mut at)?)?;
        let per_miniblock = block.checked_div(miniblocks)?;
        if per_miniblock == 0 || !per_miniblock.is_multiple_of(32) || per_miniblock.checked_mul(miniblocks)? != block {
            return None;
        }
        Some(Self {
            data,
            left,
            value,
            begun: false,
            miniblocks,
            per_miniblock,
            least: 0,
            widths: &[],
            packed: &[],
            width: 0,
            read: per_miniblock,
            end: at,
        })
    }

    /// The next value, if there is one. `None`: the stream ends too early, or is none.
    #[allow(clippy::option_option)] // Damage, and the end of the stream.
    fn next(&mut self) -> Option<Option<i32>> {
        if self.left == 0 {
            return Some(None);
        }
        self.left -= 1;
        if !self.begun {
            self.begun = true;
            return Some(Some(self.value));
        }
        if self.read == self.per_miniblock {
            self.miniblock()?;
        }
        let delta = unpack(self.packed, self.read, self.width)?;
        self.read += 1;
        self.value = self.value.wrapping_add(self.least).wrapping_add(delta);
        Some(Some(self.value))
    }

    fn skip(mut self) -> Option<usize> {
        let mut packed = self.left.saturating_sub(1);
        while packed > 0 {
            self.miniblock()?;
            packed = packed.saturating_sub(self.per_miniblock as u64);
        }
        Some(self.end)
    }

    /// Goes on to the next miniblock, and the next block if that was the last one of its block.
    fn miniblock(&mut self) -> Option<()> {
        if self.widths.is_empty() {
            let mut at = self.end;
            self.least = zigzag(varint(self.data, &mut at)?)?;
            self.widths = self.data.get(at..at.checked_add(self.miniblocks)?)?;
            self.end = at + self.miniblocks;
        }
        let (width, widths) = self.widths.split_first()?;
        self.widths = widths;
        self.width = usize::from(*width);
        if self.width > 32 {
            return None;
        }
        let bytes = self.width * self.per_miniblock / 8;
        // The last one need not be padded.
        let end = self.end.checked_add(bytes)?;
        self.packed = self.data.get(self.end..end.min(self.data.len()))?;
        self.end = end;
        self.read = 0;
        Some(())
    }
}

/// The value at a place among values of `width` bits, the lowest bits first.
fn unpack(packed: &[u8], at: usize, width: usize) -> Option<i32> {
    let (first, shift) = (at * width / 8, at * width % 8);
    let mut wide = [0; 8];
    let bytes = (shift + width).div_ceil(8);
    wide.get_mut(..bytes)?.copy_from_slice(packed.get(first..first + bytes)?);
    // At most 32 bits are left.
    #[allow(clippy::cast_possible_truncation)]
    let value = (u64::from_le_bytes(wide) >> shift & ((1 << width) - 1)) as u32;
    Some(value.cast_signed())
}

fn varint(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: u64) -> Option<i32> {
    let half = i64::try_from(value >> 1).ok()?;
    i32::try_from(if value & 1 == 0 { half } else { -half - 1 }).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use parquet::basic::Encoding;
    use parquet::column::page::Page;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;

    use super::*;

    /// The only page that the library makes of these values.
    fn page(values: &[Vec<u8>], encoding: Encoding) -> Bytes {
        let schema = Arc::new(parse_message_type("message m { required binary v; }").unwrap());
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_dictionary_enabled(false)
            .set_encoding(encoding)
            .set_data_page_size_limit(usize::MAX)
            .set_data_page_row_count_limit(usize::MAX)
            .build();
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(value.clone())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let mut pages = reader.get_row_group(0).unwrap().get_column_page_reader(0).unwrap();
        match pages.get_next_page().unwrap().unwrap() {
            Page::DataPageV2 { buf, encoding: found, .. } => {
                assert_eq!(found, encoding);
                buf
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_longest_value_is_known_before_any_is_decoded(
            values in prop::collection::vec(prop::collection::vec(0_u8..2, 0..90), 1..700),
        ) {
            let longest = values.iter().map(Vec::len).max().unwrap() as u64;
            let expected = Lengths { values: values.len() as u64, longest };
            prop_assert_eq!(of_delta_byte_array(&page(&values, Encoding::DELTA_BYTE_ARRAY)), Some(expected));
            prop_assert_eq!(of_plain(&page(&values, Encoding::PLAIN)), Some(expected));
            let bounded = of_delta_length_byte_array(&page(&values, Encoding::DELTA_LENGTH_BYTE_ARRAY)).unwrap();
            prop_assert_eq!(bounded.values, expected.values);
            prop_assert!(bounded.longest >= longest);
        }

        #[test]
        fn damage_is_no_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (of_delta_byte_array(&data), of_delta_length_byte_array(&data), of_plain(&data));
        }
    }

    #[test]
    fn prefixes_count_where_nothing_of_a_value_is_stored() {
        let values = vec![vec![b'x'; 100_000]; 5_000];
        let page = page(&values, Encoding::DELTA_BYTE_ARRAY);
        assert!(page.len() < 110_000, "{}", page.len());
        assert_eq!(of_delta_byte_array(&page), Some(Lengths { values: 5_000, longest: 100_000 }));
    }
}
