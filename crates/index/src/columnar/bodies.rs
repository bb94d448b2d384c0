//! Fixed-width columns: all bodies of a batch at once, as integers.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use super::{Context, EncodeError};
use crate::definition::{ColumnType, TimeUnit};
use crate::value::{Value, shift_decimal};

/// Whether bodies stand in keys or in values.
#[derive(Clone, Copy)]
pub(super) enum BodyUse {
    /// A key: made to sort as unsigned integers, complemented when descending.
    Key { descending: bool },
    /// An included column: the value's own bits.
    Plain,
}

/// The bodies of a batch's rows, each in the least significant bytes. Those of NULLs mean nothing.
pub(super) enum Bodies {
    Narrow(Vec<u64>),
    Wide(Vec<u128>),
}

/// Why there are none.
pub(super) enum BodiesError {
    Type { expected: ColumnType, actual: String },
    Decimal { expected: ColumnType, row: usize, digits: i128, actual: ColumnType },
}

impl BodiesError {
    pub(super) fn explain(self, column: &str, context: &Context<'_>) -> EncodeError {
        let index = context.index.to_owned();
        let column = column.to_owned();
        match self {
            Self::Type { expected, actual } => EncodeError::WrongType { index, column, expected, actual },
            Self::Decimal { expected, row, digits, actual } => EncodeError::DecimalDoesNotFit {
                index,
                column,
                file: context.at.file,
                row: context.at.of(row),
                value: Value::Decimal(digits).display(actual),
                expected,
            },
        }
    }
}

impl Bodies {
    pub(super) fn of(
        array: &dyn Array,
        column_type: ColumnType,
        form: BodyUse,
        nulls: Option<&NullBuffer>,
    ) -> Result<Self, BodiesError> {
        let failed = || BodiesError::Type { expected: column_type, actual: array.data_type().to_string() };
        if let ColumnType::Decimal { .. } = column_type {
            return decimals(array, column_type, form, nulls);
        }
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            // Once per value of the dictionary; a row then costs a look-up.
            let Self::Narrow(values) = Self::of(dictionary.values().as_ref(), column_type, form, None)? else {
                return Err(failed());
            };
            if values.is_empty() {
                return Ok(Self::Narrow(vec![0; array.len()]));
            }
            return Ok(Self::Narrow(dictionary.normalized_keys().into_iter().map(|key| values[key]).collect()));
        }
        narrow(array, column_type, form).map(Self::Narrow).ok_or_else(failed)
    }

    #[inline]
    pub(super) fn write(&self, row: usize, width: usize, out: &mut Vec<u8>) {
        match self {
            Self::Narrow(bodies) => {
                let body = bodies[row];
                match width {
                    8 => out.extend_from_slice(&body.to_be_bytes()),
                    4 => out.extend_from_slice(&body.to_be_bytes()[4..]),
                    _ => out.extend_from_slice(&body.to_be_bytes()[8 - width..]),
                }
            }
            Self::Wide(bodies) => out.extend_from_slice(&bodies[row].to_be_bytes()[16 - width..]),
        }
    }

    /// Puts each body into the row's packed entry.
    #[inline]
    pub(super) fn pack(&self, shift: usize, packed: &mut [u128]) {
        match self {
            Self::Narrow(bodies) => {
                packed.iter_mut().zip(bodies).for_each(|(packed, body)| *packed |= u128::from(*body) << shift);
            }
            Self::Wide(bodies) => {
                packed.iter_mut().zip(bodies).for_each(|(packed, body)| *packed |= *body << shift);
            }
        }
    }
}

/// All bits of a body.
const fn all_bits(width: usize) -> u64 {
    u64::MAX >> (64 - width * 8)
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, body: impl Fn(T::Native) -> u64) -> Option<Vec<u64>> {
    let array = array.as_primitive_opt::<T>()?;
    Some(array.values().iter().map(|value| body(*value)).collect())
}

#[allow(clippy::cast_sign_loss)] // Two's complement is what is wanted.
fn narrow(array: &dyn Array, column_type: ColumnType, form: BodyUse) -> Option<Vec<u64>> {
    let width = column_type.width()?;
    let (complement, sign, normal) = match form {
        BodyUse::Key { descending: true } => (all_bits(width), 1 << (width * 8 - 1), true),
        BodyUse::Key { descending: false } => (0, 1 << (width * 8 - 1), true),
        BodyUse::Plain => (0, 0, false),
    };
    // Integers: one exclusive-or flips the sign and complements.
    let flip = sign ^ complement;
    let i32_body = |value: i32| u64::from(value as u32) ^ flip;
    let i64_body = |value: i64| value as u64 ^ flip;
    let f32_body = |value: f32| {
        if !normal {
            return u64::from(value.to_bits());
        }
        let value = if value.is_nan() { f32::NAN.abs() } else { value + 0.0 };
        let bits = value.to_bits();
        u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }) ^ complement
    };
    let f64_body = |value: f64| {
        if !normal {
            return value.to_bits();
        }
        // −0 + 0 is +0.
        let value = if value.is_nan() { f64::NAN.abs() } else { value + 0.0 };
        let bits = value.to_bits();
        (if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }) ^ complement
    };
    match column_type {
        ColumnType::Bool => {
            let array = array.as_boolean_opt()?;
            Some(array.values().iter().map(|value| u64::from(value) ^ complement).collect())
        }
        ColumnType::Int8 => primitive::<Int8Type>(array, |value| u64::from(value as u8) ^ flip),
        ColumnType::Int16 => primitive::<Int16Type>(array, |value| u64::from(value as u16) ^ flip),
        ColumnType::Int32 => primitive::<Int32Type>(array, i32_body),
        ColumnType::Int64 => primitive::<Int64Type>(array, i64_body),
        ColumnType::UInt8 => primitive::<UInt8Type>(array, |value| u64::from(value) ^ complement),
        ColumnType::UInt16 => primitive::<UInt16Type>(array, |value| u64::from(value) ^ complement),
        ColumnType::UInt32 => primitive::<UInt32Type>(array, |value| u64::from(value) ^ complement),
        ColumnType::UInt64 => primitive::<UInt64Type>(array, |value| value ^ complement),
        ColumnType::Float32 if *array.data_type() == DataType::Float16 => {
            primitive::<Float16Type>(array, |value| f32_body(value.to_f32()))
        }
        ColumnType::Float32 => primitive::<Float32Type>(array, f32_body),
        ColumnType::Float64 => primitive::<Float64Type>(array, f64_body),
        ColumnType::Date => primitive::<Date32Type>(array, i32_body),
        ColumnType::Time { unit } => match unit {
            TimeUnit::Second => primitive::<Time32SecondType>(array, i32_body),
            TimeUnit::Millisecond => primitive::<Time32MillisecondType>(array, i32_body),
            TimeUnit::Microsecond => primitive::<Time64MicrosecondType>(array, i64_body),
            TimeUnit::Nanosecond => primitive::<Time64NanosecondType>(array, i64_body),
        },
        ColumnType::Timestamp { unit, utc: _ } => match unit {
            TimeUnit::Second => primitive::<TimestampSecondType>(array, i64_body),
            TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(array, i64_body),
            TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(array, i64_body),
            TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(array, i64_body),
        },
        ColumnType::Decimal { .. } | ColumnType::String | ColumnType::Bytes => None,
    }
}

/// A decimal column's digits; those of a dictionary spread over its rows, since only a value that a
/// row has may be complained about.
fn digits(array: &dyn Array) -> Option<Vec<i128>> {
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        let values = digits(dictionary.values().as_ref())?;
        if values.is_empty() {
            return Some(vec![0; array.len()]);
        }
        return Some(dictionary.normalized_keys().into_iter().map(|key| values[key]).collect());
    }
    match array.data_type() {
        DataType::Decimal32(..) => {
            Some(array.as_primitive_opt::<Decimal32Type>()?.values().iter().map(|value| i128::from(*value)).collect())
        }
        DataType::Decimal64(..) => {
            Some(array.as_primitive_opt::<Decimal64Type>()?.values().iter().map(|value| i128::from(*value)).collect())
        }
        DataType::Decimal128(..) => Some(array.as_primitive_opt::<Decimal128Type>()?.values().to_vec()),
        _ => None,
    }
}

fn decimals(
    array: &dyn Array,
    column_type: ColumnType,
    form: BodyUse,
    nulls: Option<&NullBuffer>,
) -> Result<Bodies, BodiesError> {
    let failed = || BodiesError::Type { expected: column_type, actual: array.data_type().to_string() };
    let actual = ColumnType::from_arrow(array.data_type()).map_err(|_| failed())?;
    let (ColumnType::Decimal { precision, scale }, ColumnType::Decimal { scale: written, .. }) = (column_type, actual)
    else {
        return Err(failed());
    };
    let width = column_type.width().ok_or_else(failed)?;
    let limit = 10u128.checked_pow(precision.into()).ok_or_else(failed)?;
    let by = i32::from(scale) - i32::from(written);
    let mask = u128::MAX >> (128 - width * 8);
    let flip = match form {
        BodyUse::Key { descending } => 1 << (width * 8 - 1) ^ if descending { mask } else { 0 },
        BodyUse::Plain => 0,
    };
    let mut bodies = digits(array).ok_or_else(failed)?;
    for (row, digits) in bodies.iter_mut().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let rescaled = if by == 0 { Some(*digits) } else { shift_decimal(*digits, by) };
        let fitting = rescaled.filter(|digits| digits.unsigned_abs() < limit);
        let Some(fitting) = fitting else {
            return Err(BodiesError::Decimal { expected: column_type, row, digits: *digits, actual });
        };
        *digits = fitting;
    }
    let body = |digits: &i128| digits.cast_unsigned() & mask ^ flip;
    Ok(if width == 16 {
        Bodies::Wide(bodies.iter().map(body).collect())
    } else {
        #[allow(clippy::cast_possible_truncation)] // Masked to 8 bytes or fewer.
        Bodies::Narrow(bodies.iter().map(|digits| body(digits) as u64).collect())
    })
}
