//! The types of CSV columns by name.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};

use crate::error::SourceError;

/// The Arrow type that a type's name stands for.
pub(crate) fn by_name(column: &str, name: &str) -> Result<DataType, SourceError> {
    let unknown = || {
        SourceError::UnsupportedType {
        column: column.to_owned(),
        data_type: name.to_owned(),
        hint: "use bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, decimal(p,s) with p up to 38, date, time, timestamp, timestamptz, string or bytes".to_owned(),
    }
    };
    Ok(match name.trim() {
        "bool" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        "string" => DataType::Utf8,
        "bytes" => DataType::Binary,
        other => {
            let arguments =
                other.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(unknown)?;
            let (precision, scale) = arguments.split_once(',').ok_or_else(unknown)?;
            let precision: u8 = precision.trim().parse().map_err(|_| unknown())?;
            let scale: i8 = scale.trim().parse().map_err(|_| unknown())?;
            if precision == 0 || precision > 38 || scale < 0 || scale.unsigned_abs() > precision {
                return Err(unknown());
            }
            DataType::Decimal128(precision, scale)
        }
    })
}

/// The type in words, for an error about a cell.
pub(crate) fn describe(data_type: &DataType) -> String {
    let text = match data_type {
        DataType::Boolean => "a bool (true, false, t, f, 1 or 0)",
        DataType::Int8 => "an int8 (-128 to 127)",
        DataType::Int16 => "an int16 (-32768 to 32767)",
        DataType::Int32 => "an int32 (-2147483648 to 2147483647)",
        DataType::Int64 => "an int64 (a whole number of 64 bits)",
        DataType::UInt8 => "a uint8 (0 to 255)",
        DataType::UInt16 => "a uint16 (0 to 65535)",
        DataType::UInt32 => "a uint32 (0 to 4294967295)",
        DataType::UInt64 => "a uint64 (a whole number of 64 bits, not negative)",
        DataType::Float32 => "a float32 (such as 1.5e3, in its range; beyond it only inf and -inf, written so)",
        DataType::Float64 => "a float64 (such as 1.5e3, in its range; beyond it only inf and -inf, written so)",
        DataType::Date32 => "a date (such as 2024-12-31, or +10000-12-31)",
        DataType::Time64(_) => "a time (such as 23:59:59.123456, at most six digits after the point)",
        DataType::Timestamp(_, None) => {
            "a timestamp (such as 2024-12-31 23:59:59.123456, without offset, at most six digits after the point)"
        }
        DataType::Timestamp(_, Some(_)) => {
            "a timestamptz (such as 2024-12-31 23:59:59.123456+01:00, UTC if without offset, at most six digits after the point)"
        }
        DataType::Utf8 => "valid UTF-8 text",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            return format!("a decimal({precision},{scale}) ({precision} digits, {scale} of them after the point)");
        }
        other => return format!("a {other}"),
    };
    text.to_owned()
}
