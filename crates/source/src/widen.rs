//! The type that holds the values of two types unchanged, and arrays in it.

use std::cmp::Ordering;

use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// Decimals of more digits cannot be indexed.
const MOST_DIGITS: i16 = 38;

/// The least type that holds the values of both exactly; `None` if there is none.
///
/// Commutative and associative, refusals too: the files of a table have one widest type, in whatever order they are
/// listed (I10). An integer is therefore never made a float or a decimal: whether the type of three files would exist
/// would depend on which two of them came first.
pub(crate) fn widest(one: &DataType, two: &DataType) -> Option<DataType> {
    use DataType::{Binary, Date32, FixedSizeBinary, Float16, Float32, Float64, Null, Timestamp};
    let (one, two) = (plain(one), plain(two));
    if one.equals_datatype(two) {
        return Some(one.clone());
    }
    if let (Some(one), Some(two)) = (integer(one), integer(two)) {
        return widest_integer(one, two);
    }
    if let (Some(one), Some(two)) = (decimal(one), decimal(two)) {
        return widest_decimal(one, two);
    }
    if let (Some(one), Some(two)) = (time(one), time(two)) {
        return Some(time_of(finer(one, two)));
    }
    Some(match (one, two) {
        (Null, other) | (other, Null) => other.clone(),
        (Float16, wide @ (Float32 | Float64)) | (wide @ (Float32 | Float64), Float16) => wide.clone(),
        (Float32, Float64) | (Float64, Float32) => Float64,
        (Binary | FixedSizeBinary(_), Binary | FixedSizeBinary(_)) => Binary,
        // An instant and a clock's reading without a zone are different things, and only the latter has days.
        (Date32, clock @ Timestamp(_, None)) | (clock @ Timestamp(_, None), Date32) => clock.clone(),
        (Timestamp(one, zone), Timestamp(two, other)) if zone.is_some() == other.is_some() => {
            Timestamp(finer(*one, *two), zone.clone())
        }
        (one, two) if one.is_nested() && two.is_nested() => one.clone(),
        _ => return None,
    })
}

/// The type of the values, without the way in which Arrow holds them.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::LargeUtf8 | DataType::Utf8View => &DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => &DataType::Binary,
        other => other,
    }
}

/// Whether it is signed, and its bits.
fn integer(data_type: &DataType) -> Option<(bool, u8)> {
    Some(match data_type {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    })
}

fn widest_integer((one_signed, one): (bool, u8), (two_signed, two): (bool, u8)) -> Option<DataType> {
    let signed = one_signed || two_signed;
    // A signed type needs one bit more than an unsigned one, and the next size has it.
    let needed = |is_signed: bool, bits: u8| if signed && !is_signed { bits * 2 } else { bits };
    Some(match (signed, needed(one_signed, one).max(needed(two_signed, two))) {
        (true, 8) => DataType::Int8,
        (true, 16) => DataType::Int16,
        (true, 32) => DataType::Int32,
        (true, 64) => DataType::Int64,
        (false, 8) => DataType::UInt8,
        (false, 16) => DataType::UInt16,
        (false, 32) => DataType::UInt32,
        (false, 64) => DataType::UInt64,
        _ => return None,
    })
}

/// Digits before the point, and after it.
fn decimal(data_type: &DataType) -> Option<(i16, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => Some((i16::from(*precision) - i16::from(*scale), *scale)),
        _ => None,
    }
}

fn widest_decimal((one, one_scale): (i16, i8), (two, two_scale): (i16, i8)) -> Option<DataType> {
    let scale = one_scale.max(two_scale);
    let digits = one.max(two) + i16::from(scale);
    let precision = u8::try_from(digits).ok().filter(|_| (1..=MOST_DIGITS).contains(&digits))?;
    Some(DataType::Decimal128(precision, scale))
}

fn time(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Time32(unit) | DataType::Time64(unit) => Some(*unit),
        _ => None,
    }
}

fn time_of(unit: TimeUnit) -> DataType {
    match unit {
        TimeUnit::Second | TimeUnit::Millisecond => DataType::Time32(unit),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => DataType::Time64(unit),
    }
}

fn finer(one: TimeUnit, two: TimeUnit) -> TimeUnit {
    let fineness = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    match fineness(one).cmp(&fineness(two)) {
        Ordering::Less => two,
        Ordering::Equal | Ordering::Greater => one,
    }
}

/// Whether an index takes values of both types for the same: they are held in another way only. Decimals are rescaled
/// where they are encoded, which also tells of one that lies about its digits.
pub(crate) fn alike(held: &DataType, wanted: &DataType) -> bool {
    let (held, wanted) = (plain(held), plain(wanted));
    match (held, wanted) {
        (DataType::Timestamp(one, zone), DataType::Timestamp(two, other)) => {
            one == two && zone.is_some() == other.is_some()
        }
        (DataType::FixedSizeBinary(_), DataType::Binary) | (DataType::Float16, DataType::Float32) => true,
        _ => held.equals_datatype(wanted) || decimal(held).is_some() && decimal(wanted).is_some(),
    }
}

/// Why an array has no counterpart in a wider type.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// The value of this row is outside its range.
    Row(usize),
    Arrow(ArrowError),
}

/// An array in a type that [`widest`] gave for its own.
pub(crate) fn widened(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, Misfit> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let made = cast_with_options(array, wanted, &options).map_err(Misfit::Arrow)?;
    // A time beyond the range of a finer unit becomes NULL: a value must not.
    if made.logical_null_count() != array.logical_null_count() {
        let lost = (0..array.len()).find(|row| array.is_valid(*row) && made.is_null(*row));
        return Err(
            lost.map_or_else(|| Misfit::Arrow(ArrowError::ComputeError("NULLs were lost".to_owned())), Misfit::Row)
        );
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{Date32Array, DictionaryArray, Int64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;

    fn utc() -> Option<Arc<str>> {
        Some(Arc::from("UTC"))
    }

    fn types() -> Vec<DataType> {
        use DataType::*;
        let mut types = vec![
            Null,
            Boolean,
            Int8,
            Int16,
            Int32,
            Int64,
            UInt8,
            UInt16,
            UInt32,
            UInt64,
            Float16,
            Float32,
            Float64,
            Utf8,
            LargeUtf8,
            Utf8View,
            Binary,
            BinaryView,
            FixedSizeBinary(4),
            FixedSizeBinary(16),
            Date32,
            DataType::new_list(Int32, true),
            DataType::new_list(Int32, false),
            Dictionary(Box::new(Int32), Box::new(Utf8)),
            Decimal256(40, 2),
        ];
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            types.extend([time_of(unit), Timestamp(unit, None), Timestamp(unit, utc())]);
        }
        for (precision, scale) in [(1, 0), (9, 9), (10, 2), (18, 0), (38, 0), (38, 38), (5, -3)] {
            types.push(Decimal128(precision, scale));
        }
        types
    }

    #[test]
    fn two_types_have_the_least_one_that_holds_both_or_none() {
        use DataType::*;
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        for (one, two, expected) in [
            (Int8, Int16, Some(Int16)),
            (Int32, Int64, Some(Int64)),
            (UInt8, Int8, Some(Int16)),
            (UInt16, Int8, Some(Int32)),
            (UInt32, Int32, Some(Int64)),
            (UInt32, Int64, Some(Int64)),
            (UInt64, UInt8, Some(UInt64)),
            (UInt64, Int8, None),
            (UInt64, Int64, None),
            (Float32, Float64, Some(Float64)),
            (Float16, Float64, Some(Float64)),
            (Int8, Float64, None),
            (Int64, Decimal128(38, 0), None),
            (Decimal32(9, 2), Decimal64(12, 4), Some(Decimal128(12, 4))),
            (Decimal64(10, 0), Decimal64(10, 5), Some(Decimal128(15, 5))),
            (Decimal32(5, 2), Decimal32(5, 4), Some(Decimal128(7, 4))),
            (Decimal128(38, 0), Decimal32(3, 1), None),
            (Decimal256(40, 2), Decimal32(3, 1), None),
            (Date32, Timestamp(Millisecond, None), Some(Timestamp(Millisecond, None))),
            (Date32, Timestamp(Millisecond, utc()), None),
            (Timestamp(Second, None), Timestamp(Nanosecond, None), Some(Timestamp(Nanosecond, None))),
            (Timestamp(Millisecond, utc()), Timestamp(Microsecond, utc()), Some(Timestamp(Microsecond, utc()))),
            (Timestamp(Microsecond, None), Timestamp(Microsecond, utc()), None),
            (Time32(Millisecond), Time64(Nanosecond), Some(Time64(Nanosecond))),
            (Utf8View, LargeUtf8, Some(Utf8)),
            (Dictionary(Box::new(Int8), Box::new(LargeUtf8)), Utf8, Some(Utf8)),
            (FixedSizeBinary(4), FixedSizeBinary(4), Some(FixedSizeBinary(4))),
            (FixedSizeBinary(4), FixedSizeBinary(8), Some(Binary)),
            (Utf8, Binary, None),
            (Utf8, Int32, None),
            (Boolean, Int8, None),
            (Null, Decimal32(5, 2), Some(Decimal32(5, 2))),
            (Null, Dictionary(Box::new(Int8), Box::new(Utf8)), Some(Utf8)),
            (DataType::new_list(Int32, true), Int32, None),
        ] {
            assert_eq!(widest(&one, &two), expected, "{one} and {two}");
        }
    }

    #[test]
    fn the_widest_type_of_three_does_not_depend_on_their_order() {
        let types = types();
        let join = |one: &Option<DataType>, two: &DataType| one.as_ref().and_then(|one| widest(one, two));
        // Of lists only that they are lists is known.
        let shown =
            |of: Option<DataType>| of.map(|of| if of.is_nested() { "a list".to_owned() } else { of.to_string() });
        for one in &types {
            for two in &types {
                assert_eq!(shown(widest(one, two)), shown(widest(two, one)), "{one} and {two}");
                for three in &types {
                    let left = join(&widest(one, two), three);
                    let right = join(&widest(two, three), one);
                    assert_eq!(shown(left), shown(right), "{one}, {two} and {three}");
                }
            }
        }
    }

    #[test]
    fn a_value_beyond_the_wider_type_s_range_is_named_and_null_stays_null() {
        let far = 9_300_000_000_000_000_i64; // 2264, in microseconds
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, Some(1), Some(far)]));
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert!(matches!(widened(&array, &nanoseconds), Err(Misfit::Row(2))));
        let made = widened(&array.slice(0, 2), &nanoseconds).unwrap();
        assert_eq!(made.logical_null_count(), 1);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(i32::MAX), None]));
        assert!(matches!(widened(&days, &nanoseconds), Err(Misfit::Row(1))));
        assert!(widened(&days, &DataType::Timestamp(TimeUnit::Second, None)).is_ok());
        let texts: DictionaryArray<Int32Type> = [None::<&str>, None].into_iter().collect();
        assert!(alike(texts.data_type(), &DataType::Utf8));
    }

    proptest! {
        #[test]
        fn a_whole_number_is_the_same_in_every_wider_type(values in prop::collection::vec(any::<Option<i8>>(), 0..20)) {
            let narrow: ArrayRef = Arc::new(values.iter().copied().collect::<arrow_array::Int8Array>());
            let wide: ArrayRef = Arc::new(values.iter().map(|value| value.map(i64::from)).collect::<Int64Array>());
            prop_assert_eq!(&widened(&narrow, &DataType::Int64).unwrap(), &wide);
        }
    }
}
