//! Durations as people write them: `90s`, `5m`, `1h30m`, `250ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The pattern of a duration in the resources' schema. Hours, minutes, seconds, milliseconds, in that
/// order; the digits are bounded so that the API server's own `duration()` cannot overflow.
pub const DURATION_PATTERN: &str = "^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,8}ms)?$";

/// A length of time with the resolution of a millisecond; in YAML and JSON a string such as `90s`,
/// `5m`, `1h30m`, `250ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration {
    millis: u64,
}

impl Duration {
    /// A duration of so many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// A duration of so many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self { millis: seconds.saturating_mul(1_000) }
    }

    /// The duration in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The same, as the standard library's type.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(value: std::time::Duration) -> Self {
        Self { millis: u64::try_from(value.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl From<Duration> for std::time::Duration {
    fn from(value: Duration) -> Self {
        value.to_std()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.millis;
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            let count = left / millis;
            left %= millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Units from the longest to the shortest, which is also the only order they may be written in.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a duration: write hours, minutes, seconds and milliseconds in this order, as in 90s, 5m, 1h30m or 250ms"
)]
pub struct ParseDurationError {
    text: String,
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDurationError { text: text.to_owned() };
        let mut rest = text;
        let mut millis = 0_u64;
        let mut next_unit = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, after) = after.split_at(letters);
            let place = UNITS
                .iter()
                .position(|(name, _)| *name == unit)
                .filter(|place| *place >= next_unit)
                .ok_or_else(wrong)?;
            next_unit = place + 1;
            let part =
                number.parse::<u64>().ok().and_then(|count| count.checked_mul(UNITS[place].1)).ok_or_else(wrong)?;
            millis = millis.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        Ok(Self { millis })
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION_PATTERN, "minLength": 2, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_write_them() {
        for (text, millis, shown) in [
            ("90s", 90_000, "1m30s"),
            ("5m", 300_000, "5m"),
            ("250ms", 250, "250ms"),
            ("1h30m", 5_400_000, "1h30m"),
            ("0s", 0, "0s"),
            ("1s500ms", 1_500, "1s500ms"),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed.as_millis(), millis, "{text}");
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse::<Duration>().unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_examples() {
        for text in ["", "5", "m", "5x", "5m1h", "-5m", "1.5h", "5m5m", "99999999999999999999h", "5 m"] {
            let error = text.parse::<Duration>().unwrap_err();
            assert!(error.to_string().contains("90s"), "{text}: {error}");
        }
    }
}
