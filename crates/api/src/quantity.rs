//! Sizes and amounts as Kubernetes writes them: `128Mi`, `50Gi`, `1G`, `500m`, `2`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The pattern of a quantity in the resources' schema: a plain or decimal number and a suffix.
pub const QUANTITY_PATTERN: &str = "^[0-9]{1,19}([.][0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$";

/// The largest quantity that the resources' schema takes: 1Ei. Sixteen of them are read, so that no sum of a few
/// overflows, and an object that was stored before there was a bound is read as far as it can be.
pub const MAX_QUANTITY: u64 = 1 << 60;

/// A text that is not a quantity, or one whose value does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not written like a quantity.
    #[error("\"{text}\" is not a quantity: write a number and a suffix, as in 512Mi, 50Gi, 1G, 500m or 2")]
    Syntax {
        /// What was written.
        text: String,
    },
    /// It is a quantity, but larger than 2^64.
    #[error("\"{text}\" is more than 16Ei: write a smaller quantity")]
    TooLarge {
        /// What was written.
        text: String,
    },
}

/// An amount of something: bytes, or cores. Compared by value: `1Gi` equals `1024Mi`.
#[derive(Clone)]
pub struct Quantity {
    text: String,
    nano: u128,
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// The text is not written like one, or its value does not fit in 64 bits.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let nano = parse_nano(text)?;
        Ok(Self { text: text.to_owned(), nano })
    }

    /// A whole number of bytes, written in the largest binary unit that leaves no rest.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        let mut text = bytes.to_string();
        for (suffix, unit) in [("Ki", 1_u64 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40)] {
            if bytes > 0 && bytes.is_multiple_of(unit) {
                text = format!("{}{suffix}", bytes / unit);
            }
        }
        Self { text, nano: u128::from(bytes) * NANO }
    }

    /// The value in whole units (bytes, cores), rounded up.
    #[must_use]
    pub fn ceil(&self) -> u64 {
        u64::try_from(self.nano.div_ceil(NANO)).unwrap_or(u64::MAX)
    }

    /// The quantity as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Reads a quantity and gives its value in whole units, rounded up: `parse_quantity("128Mi")` is 134217728 bytes.
///
/// # Errors
/// The text is not written like a quantity, or its value does not fit in 64 bits.
pub fn parse_quantity(text: &str) -> Result<u64, QuantityError> {
    Quantity::parse(text).map(|quantity| quantity.ceil())
}

const NANO: u128 = 1_000_000_000;

/// The value in billionths, so that `500m` and `1.5Gi` are exact.
fn parse_nano(text: &str) -> Result<u128, QuantityError> {
    let syntax = || QuantityError::Syntax { text: text.to_owned() };
    let too_large = || QuantityError::TooLarge { text: text.to_owned() };
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 19 || fraction.len() > 9 {
        return Err(syntax());
    }
    let whole: u128 = whole.parse().map_err(|_| syntax())?;
    let fraction: u128 = format!("{fraction:0<9}").parse().map_err(|_| syntax())?;
    let nano = whole * NANO + fraction;
    let scaled = match suffix {
        "m" => return Ok(nano.div_ceil(1_000)),
        "" => nano,
        _ => {
            let unit: u128 = match suffix {
                "k" => 1_000,
                "M" => 1_000_000,
                "G" => 1_000_000_000,
                "T" => 1_000_000_000_000,
                "P" => 1_000_000_000_000_000,
                "E" => 1_000_000_000_000_000_000,
                "Ki" => 1 << 10,
                "Mi" => 1 << 20,
                "Gi" => 1 << 30,
                "Ti" => 1 << 40,
                "Pi" => 1 << 50,
                "Ei" => 1 << 60,
                _ => return Err(syntax()),
            };
            nano.checked_mul(unit).ok_or_else(too_large)?
        }
    };
    if scaled.div_ceil(NANO) > u128::from(u64::MAX) {
        return Err(too_large());
    }
    Ok(scaled)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 512Mi or 2")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Quantity::parse(&value.to_string()).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                Quantity::parse(&value.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
            // A pattern does not reach a value that is written as a number, and these do not reach one that is
            // written as a text: the rule reaches both.
            "minimum": 0,
            "maximum": MAX_QUANTITY,
            "x-kubernetes-validations": [{
                "rule": "quantity(string(self)).compareTo(quantity('1Ei')) <= 0",
                "message": "a quantity must not be more than 1Ei: write a smaller one",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_decimal_and_binary_units() {
        for (text, value) in [
            ("128Mi", 134_217_728),
            ("50Gi", 53_687_091_200),
            ("1G", 1_000_000_000),
            ("512M", 512_000_000),
            ("2", 2),
            ("500m", 1),
            ("1.5Gi", 1_610_612_736),
            ("1k", 1_000),
        ] {
            assert_eq!(parse_quantity(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn quantities_are_compared_by_value() {
        assert_eq!(Quantity::parse("1Gi").unwrap(), Quantity::parse("1024Mi").unwrap());
        assert!(Quantity::parse("1G").unwrap() < Quantity::parse("1Gi").unwrap());
        assert_eq!(Quantity::from_bytes(512 << 20).as_str(), "512Mi");
        assert_eq!(Quantity::from_bytes(1_000).as_str(), "1000");
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_examples() {
        for text in ["", "Mi", "128mb", "1 Gi", "-1Gi", "1.Gi", "1..5", "12MiB"] {
            assert!(parse_quantity(text).unwrap_err().to_string().contains("512Mi"), "{text}");
        }
        assert!(matches!(parse_quantity("999999Ei"), Err(QuantityError::TooLarge { .. })));
    }
}
