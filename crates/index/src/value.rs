//! A single value of a column: from text, to text, to JSON. The fast path never makes one.

use jiff::civil;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::definition::{ColumnType, TimeUnit};

/// A value of some column. What the number means is said by the column's [`ColumnType`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL, of any type.
    Null,
    /// A bool.
    Bool(bool),
    /// A signed integer; days of a date; units of a time or timestamp.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A float of either precision; single ones are held exactly.
    Float(f64),
    /// A decimal's digits as an integer: 12.50 with scale 2 is 1250.
    Decimal(i128),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Text that is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a value of type {expected}{hint}")]
pub struct ParseValueError {
    /// The text.
    pub text: String,
    /// The type.
    pub expected: ColumnType,
    /// What would be one.
    pub hint: &'static str,
}

impl Value {
    /// Reads a value as a person writes it: `true`, `-12`, `3.5`, `12.50`, `2026-01-31`,
    /// `23:59:59.5`, `2026-01-31T23:59:59Z`, plain text, hex for bytes. NULL has no text.
    ///
    /// # Errors
    /// [`ParseValueError`], with the type and an example.
    pub fn parse(text: &str, column_type: ColumnType) -> Result<Self, ParseValueError> {
        let error = |hint| ParseValueError { text: text.to_owned(), expected: column_type, hint };
        let int = |low: i64, high: i64| {
            let parsed = text.parse::<i64>().ok().filter(|value| (low..=high).contains(value));
            parsed.map(Self::Int).ok_or_else(|| error(""))
        };
        let uint = |high: u64| {
            text.parse::<u64>().ok().filter(|value| *value <= high).map(Self::UInt).ok_or_else(|| error(""))
        };
        match column_type {
            ColumnType::Bool => match text {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => Err(error("; write true or false")),
            },
            ColumnType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            ColumnType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            ColumnType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            ColumnType::Int64 => int(i64::MIN, i64::MAX),
            ColumnType::UInt8 => uint(u8::MAX.into()),
            ColumnType::UInt16 => uint(u16::MAX.into()),
            ColumnType::UInt32 => uint(u32::MAX.into()),
            ColumnType::UInt64 => uint(u64::MAX),
            ColumnType::Float32 => text.parse::<f32>().map(|value| Self::Float(value.into())).map_err(|_| error("")),
            ColumnType::Float64 => text.parse().map(Self::Float).map_err(|_| error("")),
            ColumnType::Decimal { precision, scale } => parse_decimal(text, precision, scale)
                .map(Self::Decimal)
                .ok_or_else(|| error("; it has too many digits, or is no number")),
            ColumnType::Date => text
                .parse::<civil::Date>()
                .ok()
                .map(|date| Self::Int(days_of(date)))
                .ok_or_else(|| error("; write 2026-01-31")),
            ColumnType::Time { unit } => text
                .parse::<civil::Time>()
                .ok()
                .and_then(|time| in_units(seconds_of(time).into(), time.subsec_nanosecond(), unit))
                .map(Self::Int)
                .ok_or_else(|| error("; write 23:59:59")),
            ColumnType::Timestamp { unit, utc } => {
                let parsed = if utc {
                    text.parse::<jiff::Timestamp>().ok()
                } else {
                    let civil = text.parse::<civil::DateTime>().ok();
                    civil.and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok())
                };
                let hint = if utc { "; write 2026-01-31T23:59:59Z" } else { "; write 2026-01-31T23:59:59" };
                parsed.and_then(|at| from_instant(at, unit)).map(Self::Int).ok_or_else(|| error(hint))
            }
            ColumnType::String => Ok(Self::String(text.to_owned())),
            ColumnType::Bytes => from_hex(text).map(Self::Bytes).ok_or_else(|| error("; write pairs of hex digits")),
        }
    }

    /// The value as a person reads it: what [`Value::parse`] takes, and `NULL`. A time that no
    /// calendar has is printed as its number.
    #[must_use]
    pub fn display(&self, column_type: ColumnType) -> String {
        match (self, column_type) {
            (Self::Null, _) => "NULL".to_owned(),
            (Self::Bool(value), _) => value.to_string(),
            (Self::Int(days), ColumnType::Date) => {
                date_of(*days).map_or_else(|| days.to_string(), |date| date.to_string())
            }
            (Self::Int(count), ColumnType::Time { unit }) => {
                time_of(*count, unit).map_or_else(|| count.to_string(), |time| time.to_string())
            }
            (Self::Int(count), ColumnType::Timestamp { unit, utc }) => match instant_of(*count, unit) {
                Some(at) if utc => at.to_string(),
                Some(at) => TimeZone::UTC.to_datetime(at).to_string(),
                None => count.to_string(),
            },
            (Self::Int(value), _) => value.to_string(),
            (Self::UInt(value), _) => value.to_string(),
            #[allow(clippy::cast_possible_truncation)] // A single-precision value is held exactly.
            (Self::Float(value), ColumnType::Float32) => (*value as f32).to_string(),
            (Self::Float(value), _) => value.to_string(),
            (Self::Decimal(digits), ColumnType::Decimal { scale, .. }) => display_decimal(*digits, scale),
            (Self::Decimal(digits), _) => digits.to_string(),
            (Self::String(text), _) => text.clone(),
            (Self::Bytes(bytes), _) => to_hex(bytes),
        }
    }

    /// The value as JSON: numbers where JSON has them exactly (floats that are not finite, decimals
    /// and integers beyond 2⁵³ are text), else the text of [`Value::display`].
    #[must_use]
    pub fn to_json(&self, column_type: ColumnType) -> serde_json::Value {
        const EXACT: i64 = 1 << 53;
        match (self, column_type) {
            (Self::Null, _) => serde_json::Value::Null,
            (Self::Bool(value), _) => json!(value),
            (Self::Int(value), ColumnType::Int8 | ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64)
                if (-EXACT..=EXACT).contains(value) =>
            {
                json!(value)
            }
            (Self::UInt(value), _) if *value <= EXACT.unsigned_abs() => json!(value),
            #[allow(clippy::cast_possible_truncation)] // A single-precision value is held exactly.
            (Self::Float(value), ColumnType::Float32) if value.is_finite() => json!(*value as f32),
            (Self::Float(value), _) if value.is_finite() => json!(value),
            (
                Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Decimal(_) | Self::String(_) | Self::Bytes(_),
                _,
            ) => json!(self.display(column_type)),
        }
    }
}

/// Bytes as hex, two digits each.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hex, two digits each; `None` when it is not that.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let written = i128::try_from(fraction.len()).ok()?;
    let unscaled: i128 = digits.parse().ok()?;
    let shifted = shift_decimal(unscaled, i32::from(scale) - i32::try_from(written).ok()?)?;
    let fits = shifted.unsigned_abs() < 10u128.checked_pow(precision.into())?;
    fits.then_some(if negative { -shifted } else { shifted })
}

/// `digits` × 10^`by`; `None` when that overflows or loses a digit.
pub(crate) fn shift_decimal(digits: i128, by: i32) -> Option<i128> {
    if digits == 0 {
        return Some(0);
    }
    let power = 10i128.checked_pow(by.unsigned_abs())?;
    if by >= 0 {
        digits.checked_mul(power)
    } else if digits % power == 0 {
        Some(digits / power)
    } else {
        None
    }
}

fn display_decimal(digits: i128, scale: i8) -> String {
    let sign = if digits < 0 { "-" } else { "" };
    let magnitude = digits.unsigned_abs().to_string();
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        let zeros = if digits == 0 { 0 } else { places };
        return format!("{sign}{magnitude}{}", "0".repeat(zeros));
    }
    let padded = format!("{magnitude:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

fn days_of(date: civil::Date) -> i64 {
    date.duration_since(EPOCH).as_hours() / 24
}

fn date_of(days: i64) -> Option<civil::Date> {
    EPOCH.checked_add(jiff::SignedDuration::from_hours(days.checked_mul(24)?)).ok()
}

fn seconds_of(time: civil::Time) -> i32 {
    i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second())
}

/// `None` when the unit is too coarse for it, or it overflows.
fn in_units(seconds: i64, nanoseconds: i32, unit: TimeUnit) -> Option<i64> {
    let per_second = unit.per_second();
    let nanoseconds_each = 1_000_000_000 / per_second;
    let nanoseconds = i64::from(nanoseconds);
    if nanoseconds % nanoseconds_each != 0 {
        return None;
    }
    // i128: the seconds alone may overflow where the sum with a negative part does not.
    let units = i128::from(seconds) * i128::from(per_second) + i128::from(nanoseconds / nanoseconds_each);
    i64::try_from(units).ok()
}

fn time_of(count: i64, unit: TimeUnit) -> Option<civil::Time> {
    let per_second = unit.per_second();
    let nanoseconds = i32::try_from((count % per_second) * (1_000_000_000 / per_second)).ok()?;
    let seconds = i32::try_from(count / per_second).ok()?;
    let part = |value: i32| i8::try_from(value).ok();
    civil::Time::new(part(seconds / 3600)?, part(seconds / 60 % 60)?, part(seconds % 60)?, nanoseconds).ok()
}

fn from_instant(at: jiff::Timestamp, unit: TimeUnit) -> Option<i64> {
    in_units(at.as_second(), at.subsec_nanosecond(), unit)
}

fn instant_of(count: i64, unit: TimeUnit) -> Option<jiff::Timestamp> {
    let per_second = unit.per_second();
    let nanoseconds = i32::try_from((count % per_second) * (1_000_000_000 / per_second)).ok()?;
    jiff::Timestamp::new(count / per_second, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_every_type_reads_and_prints_as_the_same_value() {
        let micro = TimeUnit::Microsecond;
        for (column_type, text, value) in [
            (ColumnType::Bool, "true", Value::Bool(true)),
            (ColumnType::Int8, "-128", Value::Int(-128)),
            (ColumnType::UInt64, "18446744073709551615", Value::UInt(u64::MAX)),
            (ColumnType::Float32, "0.1", Value::Float(0.1f32.into())),
            (ColumnType::Float64, "-2.5", Value::Float(-2.5)),
            (ColumnType::Decimal { precision: 12, scale: 2 }, "-0.05", Value::Decimal(-5)),
            (ColumnType::Decimal { precision: 5, scale: -3 }, "12000", Value::Decimal(12)),
            (ColumnType::Date, "1969-12-31", Value::Int(-1)),
            (ColumnType::Date, "2026-01-31", Value::Int(20_484)),
            (ColumnType::Time { unit: TimeUnit::Millisecond }, "00:00:01.5", Value::Int(1_500)),
            (ColumnType::Timestamp { unit: micro, utc: true }, "1969-12-31T23:59:59.5Z", Value::Int(-500_000)),
            (ColumnType::Timestamp { unit: TimeUnit::Second, utc: false }, "1970-01-02T00:00:00", Value::Int(86_400)),
            (ColumnType::String, "a b", Value::String("a b".into())),
            (ColumnType::Bytes, "00ff", Value::Bytes(vec![0, 255])),
        ] {
            assert_eq!(Value::parse(text, column_type).unwrap(), value, "{column_type}");
            assert_eq!(value.display(column_type), text, "{column_type}");
        }
        assert_eq!(
            Value::Int(i64::MAX).display(ColumnType::Timestamp { unit: micro, utc: true }),
            i64::MAX.to_string()
        );
    }

    #[test]
    fn text_that_is_no_value_of_the_type_is_refused() {
        let second = TimeUnit::Second;
        for (column_type, text) in [
            (ColumnType::Bool, "yes"),
            (ColumnType::Int8, "128"),
            (ColumnType::UInt8, "-1"),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "100.00"),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "1.005"),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "."),
            (ColumnType::Date, "31.1.2026"),
            (ColumnType::Timestamp { unit: second, utc: true }, "2026-01-31T00:00:00.5Z"),
            (ColumnType::Bytes, "0"),
            (ColumnType::Bytes, "+1"),
        ] {
            let error = Value::parse(text, column_type).unwrap_err();
            assert!(error.to_string().contains(&column_type.to_string()), "{error}");
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        assert_eq!(Value::Int(1 << 60).to_json(ColumnType::Int64), json!("1152921504606846976"));
        assert_eq!(Value::Int(-7).to_json(ColumnType::Int64), json!(-7));
        assert_eq!(Value::Float(f64::NAN).to_json(ColumnType::Float64), json!("NaN"));
        assert_eq!(Value::Int(0).to_json(ColumnType::Date), json!("1970-01-01"));
    }
}
