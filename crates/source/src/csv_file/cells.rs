//! From the cells of a column to an Arrow array, in one tight loop per column.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use indexbuild_text::calendar::{self, Offset};
use indexbuild_text::{float32, float64};

use super::rows::{Cell, unescape_onto};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The cells of one column: every `stride`-th cell from `first` on.
pub(super) struct Column<'a> {
    pub(super) buffer: &'a [u8],
    pub(super) cells: &'a [Cell],
    pub(super) first: usize,
    pub(super) stride: usize,
    pub(super) nulls: &'a [Vec<u8>],
    pub(super) quote: u8,
}

/// Why a column could not be made.
pub(super) enum CellError {
    /// The cell of this row is no value of the type.
    Row(usize),
    Arrow(ArrowError),
}

impl From<ArrowError> for CellError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl Column<'_> {
    fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.cells.iter().skip(self.first).step_by(self.stride.max(1)).copied()
    }

    fn rows(&self) -> usize {
        self.cells.len() / self.stride.max(1)
    }

    #[inline]
    fn is_null(&self, cell: Cell, bytes: &[u8]) -> bool {
        !cell.quoted() && self.nulls.iter().any(|null| null == bytes)
    }

    pub(super) fn array(&self, data_type: &DataType) -> Result<ArrayRef, CellError> {
        match data_type {
            DataType::Boolean => self.bools(),
            DataType::Int8 => self.primitive::<Int8Type>(data_type, |bytes| signed(bytes)?.try_into().ok()),
            DataType::Int16 => self.primitive::<Int16Type>(data_type, |bytes| signed(bytes)?.try_into().ok()),
            DataType::Int32 => self.primitive::<Int32Type>(data_type, |bytes| signed(bytes)?.try_into().ok()),
            DataType::Int64 => self.primitive::<Int64Type>(data_type, signed),
            DataType::UInt8 => self.primitive::<UInt8Type>(data_type, |bytes| unsigned(bytes)?.try_into().ok()),
            DataType::UInt16 => self.primitive::<UInt16Type>(data_type, |bytes| unsigned(bytes)?.try_into().ok()),
            DataType::UInt32 => self.primitive::<UInt32Type>(data_type, |bytes| unsigned(bytes)?.try_into().ok()),
            DataType::UInt64 => self.primitive::<UInt64Type>(data_type, unsigned),
            DataType::Float32 => {
                self.primitive::<Float32Type>(data_type, |bytes| float32(std::str::from_utf8(bytes).ok()?))
            }
            DataType::Float64 => {
                self.primitive::<Float64Type>(data_type, |bytes| float64(std::str::from_utf8(bytes).ok()?))
            }
            DataType::Date32 => self.primitive::<Date32Type>(data_type, days),
            DataType::Time64(TimeUnit::Microsecond) => self.primitive::<Time64MicrosecondType>(data_type, time),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let with_zone = zone.is_some();
                self.primitive::<TimestampMicrosecondType>(data_type, |bytes| timestamp(bytes, with_zone))
            }
            DataType::Decimal128(precision, scale) => {
                let (precision, scale) = (u32::from(*precision), u32::from(scale.unsigned_abs()));
                self.primitive::<Decimal128Type>(data_type, |bytes| decimal(bytes, precision, scale))
            }
            DataType::Utf8 => self.strings(),
            DataType::Binary => {
                let (offsets, bytes, nulls) = self.texts()?;
                Ok(Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?))
            }
            other => Err(CellError::Arrow(ArrowError::NotYetImplemented(format!("CSV columns of type {other}")))),
        }
    }

    fn primitive<T: ArrowPrimitiveType>(
        &self,
        data_type: &DataType,
        parse: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> Result<ArrayRef, CellError> {
        let mut values = Vec::with_capacity(self.rows());
        let mut nulls = NullBufferBuilder::new(self.rows());
        for (row, cell) in self.cells().enumerate() {
            let bytes = cell.bytes(self.buffer);
            if self.is_null(cell, bytes) {
                values.push(T::Native::default());
                nulls.append_null();
            } else {
                values.push(parse(bytes).ok_or(CellError::Row(row))?);
                nulls.append_non_null();
            }
        }
        let array = PrimitiveArray::<T>::try_new(values.into(), nulls.finish())?;
        Ok(Arc::new(array.with_data_type(data_type.clone())))
    }

    fn bools(&self) -> Result<ArrayRef, CellError> {
        let mut values = BooleanBufferBuilder::new(self.rows());
        let mut nulls = NullBufferBuilder::new(self.rows());
        for (row, cell) in self.cells().enumerate() {
            let bytes = cell.bytes(self.buffer);
            let null = self.is_null(cell, bytes);
            values.append(if null { false } else { boolean(bytes).ok_or(CellError::Row(row))? });
            nulls.append(!null);
        }
        Ok(Arc::new(BooleanArray::new(values.finish(), nulls.finish())))
    }

    fn strings(&self) -> Result<ArrayRef, CellError> {
        let (offsets, bytes, nulls) = self.texts()?;
        // All cells are checked in one pass; which one is wrong is asked only when one is.
        match StringArray::try_new(offsets, bytes, nulls) {
            Ok(array) => Ok(Arc::new(array)),
            Err(error) => {
                let wrong = self.cells().position(|cell| std::str::from_utf8(cell.bytes(self.buffer)).is_err());
                Err(wrong.map_or(CellError::Arrow(error), CellError::Row))
            }
        }
    }

    fn texts(&self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>), CellError> {
        let length = self.cells().map(|cell| cell.bytes(self.buffer).len()).sum();
        let mut bytes: Vec<u8> = Vec::with_capacity(length);
        let mut ends: Vec<i32> = Vec::with_capacity(self.rows() + 1);
        ends.push(0);
        let mut nulls = NullBufferBuilder::new(self.rows());
        for (row, cell) in self.cells().enumerate() {
            let raw = cell.bytes(self.buffer);
            let null = self.is_null(cell, raw);
            if cell.escaped() {
                unescape_onto(raw, self.quote, &mut bytes);
            } else if !null {
                bytes.extend_from_slice(raw);
            }
            nulls.append(!null);
            // Buffers are shorter than 2^30 bytes.
            ends.push(i32::try_from(bytes.len()).map_err(|_| CellError::Row(row))?);
        }
        Ok((OffsetBuffer::new(ends.into()), bytes.into(), nulls.finish()))
    }
}

/// A text that stands by itself, as an array of one row; `None`: it is no value of the type.
pub(crate) fn value_of(text: &[u8], data_type: &DataType) -> Option<ArrayRef> {
    let data_type = match data_type {
        // Decimals of all widths are encoded alike.
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            &DataType::Decimal128(*precision, *scale)
        }
        other => other,
    };
    let cells = [Cell::all_of(text)];
    Column { buffer: text, cells: &cells, first: 0, stride: 1, nulls: &[], quote: 0 }.array(data_type).ok()
}

fn boolean(bytes: &[u8]) -> Option<bool> {
    match bytes {
        b"1" | b"t" | b"T" => Some(true),
        b"0" | b"f" | b"F" => Some(false),
        _ if bytes.eq_ignore_ascii_case(b"true") => Some(true),
        _ if bytes.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// Digits that certainly fit into 64 bits.
const SAFE_DIGITS: usize = 18;

#[inline]
fn few_digits(digits: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // At most SAFE_DIGITS of them: this cannot overflow.
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(value)
}

#[inline]
fn unsigned(bytes: &[u8]) -> Option<u64> {
    if (1..=SAFE_DIGITS).contains(&bytes.len())
        && let Some(value) = few_digits(bytes)
    {
        return Some(value);
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[inline]
fn signed(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        _ => (false, bytes),
    };
    if (1..=SAFE_DIGITS).contains(&digits.len())
        && let Some(value) = few_digits(digits)
    {
        let value = value.cast_signed();
        return Some(if negative { value.wrapping_neg() } else { value });
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Exactly: a digit that the scale has no place for is refused, not rounded away.
fn decimal(bytes: &[u8], precision: u32, scale: u32) -> Option<i128> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, bytes),
    };
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(at) => (digits.get(..at)?, digits.get(at + 1..)?),
        None => (digits, [].as_slice()),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(scale as usize));
    if rest.iter().any(|byte| *byte != b'0') {
        return None;
    }
    let mut value = 0_i128;
    let missing = (scale as usize).checked_sub(kept.len())?;
    for byte in whole.iter().chain(kept).chain(std::iter::repeat_n(&b'0', missing)) {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
    }
    if value >= 10_i128.checked_pow(precision)? {
        return None;
    }
    Some(if negative { -value } else { value })
}

fn days(bytes: &[u8]) -> Option<i32> {
    i32::try_from(calendar::parse_date(bytes)?).ok()
}

fn time(bytes: &[u8]) -> Option<i64> {
    calendar::parse_time(bytes, MICROS_PER_SECOND)
}

/// Microseconds since 1970-01-01 00:00, in UTC if with a zone.
fn timestamp(bytes: &[u8], with_zone: bool) -> Option<i64> {
    let offset = if with_zone { Offset::OrUtc } else { Offset::Never };
    calendar::parse_timestamp(bytes, MICROS_PER_SECOND, offset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_parse_to_their_limits_and_not_beyond() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("007", Some(7)),
            ("+5", Some(5)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            (" 1", None),
            ("--1", None),
        ] {
            assert_eq!(signed(text.as_bytes()), value, "{text}");
        }
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), None);
        assert_eq!(unsigned(b"-1"), None);
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        for (text, value) in [
            ("12.34", Some(1234)),
            ("-12.3", Some(-1230)),
            ("12.3400", Some(1234)),
            ("12.341", None),
            (".5", Some(50)),
            ("5.", Some(500)),
            (".", None),
            ("", None),
            ("99999.99", Some(9_999_999)),
            ("100000", None),
            ("1e3", None),
            ("1.2.3", None),
        ] {
            assert_eq!(decimal(text.as_bytes(), 7, 2), value, "{text}");
        }
        assert_eq!(decimal("9".repeat(38).as_bytes(), 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(decimal("9".repeat(39).as_bytes(), 38, 0), None);
    }

    #[test]
    fn dates_and_times_are_exact_or_refused() {
        for (text, value) in [
            ("1970-01-02", Some(1)),
            ("1969-12-31", Some(-1)),
            ("9999-12-31", Some(2_932_896)),
            ("+10000-01-01", Some(2_932_897)),
            ("-0001-12-31", Some(-719_529)),
            ("+5881580-07-11", Some(i32::MAX)),
            ("-5877641-06-23", Some(i32::MIN)),
            ("+5881580-07-12", None),
            ("-5877641-06-22", None),
            ("2023-02-29", None),
            ("2024-1-1", None),
            ("2024-01-01 ", None),
            ("2024-01-01T00:00", None),
        ] {
            assert_eq!(days(text.as_bytes()), value, "{text}");
        }
        for (text, value) in [
            ("01:02", Some(3_720_000_000)),
            ("23:59:59.9", Some(86_399_900_000)),
            ("23:59:59.1234560", Some(86_399_123_456)),
            ("23:59:59.1234561", None),
            ("24:00:00", Some(86_400_000_000)),
            ("-00:00:01", Some(-1_000_000)),
            ("2562047788:00:54.775807", Some(i64::MAX)),
            ("2562047788:00:54.775808", None),
            ("23:59:60", None),
            ("23:59:59 ", None),
            ("2024-01-01T23:59", None),
        ] {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
        for (text, with_zone, value) in [
            ("1970-01-01 00:00:01.5", false, Some(1_500_000)),
            ("1970-01-01T00:00:01Z", false, None),
            ("1970-01-01T01:00:00+01:00", false, None),
            ("1970-01-01T01:00:00+01:00", true, Some(0)),
            ("1970-01-01 00:00:00-0130", true, Some(5_400_000_000)),
            ("1970-01-01 00:00:00 UTC", true, Some(0)),
            ("1970-01-02", true, Some(86_400_000_000)),
            ("9999-12-31", false, Some(253_402_214_400_000_000)),
            ("9999-12-31", true, Some(253_402_214_400_000_000)),
            ("9999-12-31T23:59:59.999999-23:59", true, Some(253_402_387_139_999_999)),
            ("+294247-01-10T04:00:54.775807", false, Some(i64::MAX)),
            ("-290308-12-21T19:59:05.224192Z", true, Some(i64::MIN)),
            ("+294247-01-10T04:00:54.775808", false, None),
            ("1970-01-01 00:00:00x", true, None),
        ] {
            assert_eq!(timestamp(text.as_bytes(), with_zone), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_timestamp_is_what_jiff_makes_of_it(micros in -62_167_219_200_000_000_i64..253_402_207_200_000_000) {
            let stamp = jiff::Timestamp::from_microsecond(micros).unwrap();
            prop_assert_eq!(timestamp(format!("{stamp:.6}").as_bytes(), true), Some(micros));
        }

        #[test]
        fn a_whole_number_is_what_the_standard_library_makes_of_it(text in "[-+]?[0-9]{0,21}|[0-9a -]{0,5}") {
            prop_assert_eq!(signed(text.as_bytes()), text.parse().ok());
            prop_assert_eq!(unsigned(text.as_bytes()), text.parse().ok());
        }
    }
}
