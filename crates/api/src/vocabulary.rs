//! Numbers that look alike and mean different things, each as a type of its own: none can be given where another is wanted.
//! What is written and its schema are those of the bare number.

use std::borrow::Cow;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What all of them have: to be made from the bare number and read as one, compared with one, and written as one.
macro_rules! number {
    ($name:ident, $number:ident) => {
        impl $name {
            /// The one of this number.
            #[must_use]
            pub const fn new(number: $number) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl From<$number> for $name {
            fn from(number: $number) -> Self {
                Self(number)
            }
        }

        impl PartialEq<$number> for $name {
            fn eq(&self, number: &$number) -> bool {
                self.0 == *number
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        // Not derived: that would describe every field by this type's own comment.
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                <$number as JsonSchema>::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$number as JsonSchema>::json_schema(generator)
            }
        }
    };
}

/// The fencing token of a slot: rises by one with every change of owner or work (G1), from 1.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(transparent)]
pub struct Epoch(u64);

number!(Epoch, u64);

impl Epoch {
    /// Before the first one: nothing was granted yet, or it is not known.
    pub const NONE: Self = Self(0);
    /// That of a slot's first owner.
    pub const FIRST: Self = Self(1);

    /// The one that follows; `None`: there is none.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }

    /// The one before; of none, none.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_written_read_shown_and_described_as_the_bare_one() {
        for number in [0, 1, 17, u64::MAX] {
            let epoch: Epoch = serde_json::from_value(json!(number)).unwrap();
            assert_eq!((epoch, json!(epoch)), (Epoch::new(number), json!(number)));
            assert_eq!((epoch.to_string(), format!("{epoch:?}")), (number.to_string(), number.to_string()));
            assert_eq!(number.to_string().parse(), Ok(epoch));
        }
        for other in [json!(-1), json!("1"), json!(null), json!(1.5)] {
            let error = |error: serde_json::Error| error.to_string();
            assert_eq!(
                serde_json::from_value::<Epoch>(other.clone()).map_err(error).unwrap_err(),
                serde_json::from_value::<u64>(other).map_err(error).unwrap_err()
            );
        }
        assert_eq!(schemars::schema_for!(Epoch), schemars::schema_for!(u64));
    }

    #[test]
    fn an_epoch_is_followed_by_the_next_one_until_there_is_none() {
        assert_eq!((Epoch::NONE.next(), Epoch::FIRST.next()), (Some(Epoch::FIRST), Some(Epoch::new(2))));
        assert_eq!((Epoch::new(2).before(), Epoch::NONE.before()), (Epoch::FIRST, Epoch::NONE));
        assert_eq!(Epoch::new(u64::MAX).next(), None);
    }
}
