//! A single value of a column: from text, to text, to JSON. The fast path never makes one.

use indexbuild_text::calendar::{self, Offset};
use indexbuild_text::{bounded, float32, float64, print_float32, print_float64};
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
#[error("{} is not a value of type {expected}{hint}", shown(.text))]
pub struct ParseValueError {
    /// The text.
    pub text: String,
    /// The type.
    pub expected: ColumnType,
    /// What would be one.
    pub hint: String,
}

/// A text in an error: of any length, with whatever characters.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let text = bounded(text, LONGEST);
    if text.chars().any(is_unprintable) { json_text(&text) } else { format!("`{text}`") }
}

impl Value {
    /// Reads a value as a person writes it: `true`, `-12`, `3.5`, `12.50`, `2026-01-31`, `23:59:59.5`,
    /// `2026-01-31T23:59:59Z`, plain text, hex or a UUID for bytes; `NULL`. In quotes, as JSON writes a text, it is never
    /// NULL: `"NULL"`, `"a\u0000b"`. A text is a value as a whole or not at all.
    ///
    /// # Errors
    /// [`ParseValueError`], with the type and an example.
    pub fn parse(text: &str, column_type: ColumnType) -> Result<Self, ParseValueError> {
        let error = |text: &str, hint: String| ParseValueError { text: text.to_owned(), expected: column_type, hint };
        if text == NULL {
            return Ok(Self::Null);
        }
        if !text.starts_with(QUOTE) {
            return Self::parse_plain(text, column_type).map_err(|hint| error(text, hint));
        }
        // The parser of JSON lets blanks follow.
        let unquoted = if text.ends_with(QUOTE) { serde_json::from_str::<String>(text).ok() } else { None };
        let Some(unquoted) = unquoted else {
            let hint = "; a text that begins with a quote is written as JSON writes it, with nothing after the closing \
                        quote: \"a\\\"b\", \"a\\u0000b\"";
            return Err(error(text, hint.to_owned()));
        };
        Self::parse_plain(&unquoted, column_type).map_err(|hint| error(&unquoted, hint))
    }

    /// A value from its text without quotes; else what would be one.
    fn parse_plain(text: &str, column_type: ColumnType) -> Result<Self, String> {
        let int = |low: i64, high: i64| {
            let parsed = text.parse::<i64>().ok().filter(|value| (low..=high).contains(value));
            parsed.map(Self::Int).ok_or_else(|| format!("; write a whole number from {low} to {high}"))
        };
        let uint = |high: u64| {
            let parsed = text.parse::<u64>().ok().filter(|value| *value <= high);
            parsed.map(Self::UInt).ok_or_else(|| format!("; write a whole number from 0 to {high}"))
        };
        let float = |parsed: Option<f64>| {
            parsed
                .map(Self::Float)
                .ok_or_else(|| "; write a number in its range, as 1.5 or 1.5e3, or one of inf, -inf and NaN".to_owned())
        };
        let found = |count: Option<i64>, hint: &str| count.map(Self::Int).ok_or_else(|| hint.to_owned());
        match column_type {
            ColumnType::Bool => match text {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => Err("; write true or false".to_owned()),
            },
            ColumnType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            ColumnType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            ColumnType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            ColumnType::Int64 => int(i64::MIN, i64::MAX),
            ColumnType::UInt8 => uint(u8::MAX.into()),
            ColumnType::UInt16 => uint(u16::MAX.into()),
            ColumnType::UInt32 => uint(u32::MAX.into()),
            ColumnType::UInt64 => uint(u64::MAX),
            ColumnType::Float32 => float(float32(text).map(f64::from)),
            ColumnType::Float64 => float(float64(text)),
            ColumnType::Decimal { precision, scale } => parse_decimal(text, precision, scale)
                .map(Self::Decimal)
                .ok_or_else(|| "; it has too many digits, or is no number".to_owned()),
            ColumnType::Date => found(
                calendar::parse_date(text.as_bytes()).filter(|days| i32::try_from(*days).is_ok()),
                "; write 2026-01-31, or a year before 0001 or after 9999 with its sign: +10000-01-31",
            ),
            ColumnType::Time { unit } => {
                let narrow = column_type.width() == Some(4);
                let count = calendar::parse_time(text.as_bytes(), unit.per_second());
                found(
                    count.filter(|count| !narrow || i32::try_from(*count).is_ok()),
                    match unit {
                        TimeUnit::Second => "; write 23:59:59",
                        TimeUnit::Millisecond => "; write 23:59:59.123",
                        TimeUnit::Microsecond => "; write 23:59:59.123456",
                        TimeUnit::Nanosecond => "; write 23:59:59.123456789",
                    },
                )
            }
            ColumnType::Timestamp { unit, utc } => {
                let offset = if utc { Offset::Always } else { Offset::Never };
                let count = calendar::parse_timestamp(text.as_bytes(), unit.per_second(), offset);
                found(
                    count,
                    if utc {
                        "; write 2026-01-31T23:59:59Z, or with another offset: 2026-02-01T00:59:59+01:00"
                    } else {
                        "; write 2026-01-31T23:59:59, without an offset: the column has none"
                    },
                )
            }
            ColumnType::String => Ok(Self::String(text.to_owned())),
            ColumnType::Bytes => from_hex(text)
                .or_else(|| from_uuid(text))
                .map(Self::Bytes)
                .ok_or_else(|| "; write pairs of hex digits, or a UUID as 8-4-4-4-12 of them".to_owned()),
        }
    }

    /// The value as a person reads it: what [`Value::parse`] takes. A text that would be taken for another value, or
    /// whose ends cannot be seen, is in quotes.
    #[must_use]
    pub fn display(&self, column_type: ColumnType) -> String {
        match (self, column_type) {
            (Self::String(text), _) if needs_quotes(text) => json_text(text),
            (Self::Bytes(bytes), _) if bytes.is_empty() => "\"\"".to_owned(),
            (Self::Null, _) => NULL.to_owned(),
            (
                Self::Bool(_)
                | Self::Int(_)
                | Self::UInt(_)
                | Self::Float(_)
                | Self::Decimal(_)
                | Self::String(_)
                | Self::Bytes(_),
                _,
            ) => self.plain(column_type),
        }
    }

    /// Its text without quotes; NULL has none.
    fn plain(&self, column_type: ColumnType) -> String {
        match (self, column_type) {
            (Self::Null, _) => String::new(),
            (Self::Bool(value), _) => value.to_string(),
            (Self::Int(days), ColumnType::Date) => calendar::print_date(*days),
            (Self::Int(count), ColumnType::Time { unit }) => calendar::print_time(*count, unit.per_second()),
            (Self::Int(count), ColumnType::Timestamp { unit, utc }) => {
                calendar::print_timestamp(*count, unit.per_second(), utc)
            }
            (Self::Int(value), _) => value.to_string(),
            (Self::UInt(value), _) => value.to_string(),
            #[allow(clippy::cast_possible_truncation)] // A single-precision value is held exactly.
            (Self::Float(value), ColumnType::Float32) => print_float32(*value as f32),
            (Self::Float(value), _) => print_float64(*value),
            (Self::Decimal(digits), ColumnType::Decimal { scale, .. }) => display_decimal(*digits, scale),
            (Self::Decimal(digits), _) => digits.to_string(),
            (Self::String(text), _) => text.clone(),
            (Self::Bytes(bytes), _) => to_hex(bytes),
        }
    }

    /// The value as JSON: numbers where JSON has them exactly (floats that are not finite, decimals and integers beyond
    /// 2⁵³ are text), else text as it is, without the quotes of [`Value::display`]. As JSON prints it, with JSON's quotes,
    /// [`Value::parse`] takes it; only NULL is `null` there.
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
            // Of a single-precision one the number that is written like it: 0.1, not 0.10000000149011612.
            (Self::Float(value), ColumnType::Float32) if value.is_finite() => {
                json!(float64(&self.plain(column_type)).unwrap_or(*value))
            }
            (Self::Float(value), _) if value.is_finite() => json!(value),
            (
                Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Decimal(_) | Self::String(_) | Self::Bytes(_),
                _,
            ) => json!(self.plain(column_type)),
        }
    }
}

/// How NULL is written.
const NULL: &str = "NULL";
/// What a text as JSON writes it begins and ends with.
const QUOTE: char = '"';

/// Whether a text, written as it is, would be another value, an option of a command, or not be seen where it ends.
fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text == NULL
        || text.starts_with([QUOTE, '-'])
        || text.chars().any(|c| c.is_whitespace() || is_unprintable(c))
}

/// Characters that a terminal obeys, or shows nothing of; YAML does not allow some of them.
const fn is_unprintable(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// A text in quotes, as JSON writes it, in characters that can be seen.
fn json_text(text: &str) -> String {
    printable_json(&json!(text))
}

/// A JSON document in one line. What cannot be seen is escaped: JSON itself escapes controls below the blank alone.
#[must_use]
pub fn printable_json(document: &serde_json::Value) -> String {
    use std::fmt::Write;
    let text = document.to_string();
    if !text.chars().any(is_unprintable) {
        return text;
    }
    // Outside of its texts and names JSON has none of them.
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        if is_unprintable(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
        escaped
    })
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

/// Bytes of a UUID in its usual form.
fn from_uuid(text: &str) -> Option<Vec<u8>> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    if lengths.eq([8, 4, 4, 4, 12]) { from_hex(&groups.concat()) } else { None }
}

/// Exactly: a digit that the scale has no place for is refused, not rounded away.
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
    // Without zeros at either end: with them, a number that fits may have more digits than 128 bits hold.
    let significant = digits.trim_end_matches('0');
    let zeros = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let exponent = i32::try_from(zeros).ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let shifted = shift_decimal(significant.parse().ok()?, exponent.checked_add(scale.into())?)?;
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
            (
                ColumnType::Timestamp { unit: micro, utc: true },
                "+10000-01-01T00:00:00Z",
                Value::Int(253_402_300_800_000_000),
            ),
            (ColumnType::Time { unit: micro }, "24:00:00", Value::Int(86_400_000_000)),
            (ColumnType::Float64, "1e300", Value::Float(1e300)),
            (ColumnType::Int8, "NULL", Value::Null),
            (ColumnType::String, "NULL", Value::Null),
            (ColumnType::String, "Smith,John", Value::String("Smith,John".into())),
            (ColumnType::String, "null", Value::String("null".into())),
            (ColumnType::String, "C:\\a", Value::String("C:\\a".into())),
            (ColumnType::String, "\"a b\"", Value::String("a b".into())),
            (ColumnType::String, "\"\"", Value::String(String::new())),
            (ColumnType::String, "\"NULL\"", Value::String("NULL".into())),
            (ColumnType::String, "\"a\\u0000b\"", Value::String("a\0b".into())),
            (ColumnType::String, "\"\\u0085\\n\"", Value::String("\u{85}\n".into())),
            (ColumnType::String, "\"\\\"a\\\"\"", Value::String("\"a\"".into())),
            (ColumnType::String, "\"-o\"", Value::String("-o".into())),
            (ColumnType::Bytes, "00ff", Value::Bytes(vec![0, 255])),
            (ColumnType::Bytes, "\"\"", Value::Bytes(Vec::new())),
        ] {
            assert_eq!(Value::parse(text, column_type).unwrap(), value, "{column_type}");
            assert_eq!(value.display(column_type), text, "{column_type}");
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_the_same_value() {
        let uuid: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
        for (column_type, text, value) in [
            (ColumnType::String, "", Value::String(String::new())),
            (ColumnType::String, "a b", Value::String("a b".into())),
            (ColumnType::String, "a\0b", Value::String("a\0b".into())),
            (ColumnType::String, "\"\\ud83d\\ude00\\/\"", Value::String("😀/".into())),
            (ColumnType::Int32, "\"-5\"", Value::Int(-5)),
            (ColumnType::Int32, "+007", Value::Int(7)),
            (ColumnType::Date, "\"2026-01-31\"", Value::Int(20_484)),
            (ColumnType::Bytes, "", Value::Bytes(Vec::new())),
            (ColumnType::Bytes, "00FF", Value::Bytes(vec![0, 255])),
            (ColumnType::Bytes, "00112233-4455-6677-8899-aabbccddeeff", Value::Bytes(uuid.clone())),
            (ColumnType::Bytes, "00112233-4455-6677-8899-AABBCCDDEEFF", Value::Bytes(uuid)),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "1.500", Value::Decimal(150)),
            (ColumnType::Decimal { precision: 2, scale: -2 }, "1200.0", Value::Decimal(12)),
            (ColumnType::Decimal { precision: 3, scale: 5 }, ".00123", Value::Decimal(123)),
        ] {
            assert_eq!(Value::parse(text, column_type).unwrap(), value, "{text} as {column_type}");
        }
        let zeros = "0".repeat(60);
        let long = ColumnType::Decimal { precision: 38, scale: 2 };
        assert_eq!(Value::parse(&format!("{zeros}1.5{zeros}"), long).unwrap(), Value::Decimal(150));
    }

    #[test]
    fn text_that_is_no_value_of_the_type_is_refused() {
        let second = TimeUnit::Second;
        let (plain, instant) =
            (ColumnType::Timestamp { unit: second, utc: false }, ColumnType::Timestamp { unit: second, utc: true });
        for (column_type, text) in [
            (ColumnType::Bool, "true "),
            (ColumnType::Bool, "\"NULL\""),
            (ColumnType::Int32, "5 "),
            (ColumnType::Int32, "5x"),
            (ColumnType::Int32, "5.0"),
            (ColumnType::Int64, "9223372036854775808"),
            (ColumnType::UInt64, "18446744073709551616"),
            (ColumnType::Float64, "1e400"),
            (ColumnType::Float64, "1.5 "),
            (ColumnType::Float64, "1,5"),
            (ColumnType::Float32, "1e39"),
            (ColumnType::Float32, "-1e39"),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "1.5x"),
            (ColumnType::Decimal { precision: 4, scale: 2 }, "1e2"),
            (ColumnType::Decimal { precision: 2, scale: -2 }, "1250"),
            (ColumnType::Date, "2024-01-02T23:59"),
            (ColumnType::Date, "2024-01-02 "),
            (ColumnType::Date, "+5881580-07-12"),
            (ColumnType::Time { unit: second }, "2024-01-02T23:59:00"),
            (ColumnType::Time { unit: second }, "23:59:00Z"),
            // Beyond the 32 bits of seconds.
            (ColumnType::Time { unit: second }, "596523:14:08"),
            (plain, "2024-01-02T10:00:00+01:00"),
            (plain, "2024-01-02T10:00:00Z"),
            (plain, "2024-01-02T10:00:00 "),
            (plain, "2024-01-02T10:00:60"),
            (instant, "2024-01-02T10:00:00"),
            (instant, "2024-01-02"),
            (instant, "2024-01-02T10:00:00Zx"),
            (ColumnType::String, "\"a\" "),
            (ColumnType::String, "\"a\"b"),
            (ColumnType::String, "\"a\"\"b\""),
            (ColumnType::String, "\"a"),
            (ColumnType::String, "\""),
            (ColumnType::String, "\"\\x41\""),
            (ColumnType::String, "\"\\ud800\""),
            (ColumnType::Bytes, "00 "),
            (ColumnType::Bytes, "0x00"),
            (ColumnType::Bytes, "00112233-4455-6677-8899-aabbccddeef"),
            (ColumnType::Bytes, "00112233-44556677-8899-aabbccddeeff"),
            (ColumnType::Bytes, "{00112233-4455-6677-8899-aabbccddeeff}"),
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
            let error = Value::parse(text, column_type).expect_err(text);
            assert!(error.to_string().contains(&column_type.to_string()), "{error}");
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        assert_eq!(Value::Int(1 << 60).to_json(ColumnType::Int64), json!("1152921504606846976"));
        assert_eq!(Value::Int(-7).to_json(ColumnType::Int64), json!(-7));
        assert_eq!(Value::Float(f64::NAN).to_json(ColumnType::Float64), json!("NaN"));
        assert_eq!(Value::Float(0.1f32.into()).to_json(ColumnType::Float32), json!(0.1));
        assert_eq!(Value::String("NULL".into()).to_json(ColumnType::String), json!("NULL"));
        assert_eq!(printable_json(&json!({"a\u{85}": "\u{feff}é\n"})), "{\"a\\u0085\":\"\\ufeffé\\n\"}");
        assert_eq!(Value::Int(0).to_json(ColumnType::Date), json!("1970-01-01"));
    }
}
