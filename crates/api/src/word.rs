//! A word that this version does not know.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// The longest word of a closed set, in bytes. A word that a later version adds is not longer: an older process cannot carry
/// it, and so cannot read the object that it stands in.
pub const LONGEST_WORD: usize = 31;

/// A word of a closed set that a later version has, and this one has not. It is carried as it is: one process must not make
/// the object unreadable to another by saying something new, and whoever writes the object back says the same.
///
/// It holds its text itself, so that what holds it stays as small and as freely copied as a word that is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word {
    text: [u8; LONGEST_WORD],
    length: u8,
}

impl Word {
    /// `None`: it is longer than any word may be.
    fn new(word: &str) -> Option<Self> {
        let mut text = [0; LONGEST_WORD];
        text.get_mut(..word.len())?.copy_from_slice(word.as_bytes());
        Some(Self { text, length: u8::try_from(word.len()).ok()? })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a word of at most {LONGEST_WORD} bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Word, E> {
                Word::new(text).ok_or_else(|| E::custom(format!("a word of more than {LONGEST_WORD} bytes")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_written_as_it_was_read_and_one_that_is_too_long_is_not_read() {
        let longest = "é".repeat(LONGEST_WORD / 2) + "x";
        for text in ["Throttled", "", longest.as_str()] {
            let word: Word = serde_json::from_value(json!(text)).unwrap();
            assert_eq!((json!(word), word.to_string()), (json!(text), text.to_owned()));
        }
        for other in [json!(longest + "x"), json!(7), json!(null)] {
            serde_json::from_value::<Word>(other).unwrap_err();
        }
    }
}
