//! Columns of varying width: strings and bytes, plain or as dictionaries.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    StringArray, StringViewArray,
};
use arrow_schema::DataType;

use crate::codec::{ESCAPED, TERMINATOR, push_varint};

/// A batch's column.
pub(super) enum Text<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedSizeBinary(&'a FixedSizeBinaryArray),
    Dictionary { keys: Vec<usize>, values: Box<Text<'a>>, array: &'a ArrayRef },
}

/// The last dictionary's values, encoded: each is encoded for its first row, and copied for all others.
/// Readers return the same dictionary with many batches.
#[derive(Debug, Default)]
pub(super) struct DictionaryCache {
    values: Option<ArrayRef>,
    /// Per value of the dictionary, where its body is in `bytes`; nowhere yet when empty (no body is).
    spans: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

impl DictionaryCache {
    /// Forgets another dictionary's values.
    pub(super) fn prepare(&mut self, text: &Text<'_>) {
        let Text::Dictionary { array, .. } = text else {
            return;
        };
        let same = self.values.as_ref().is_some_and(|known| {
            Arc::ptr_eq(known, array) || known.len() == array.len() && known.to_data().ptr_eq(&array.to_data())
        });
        if !same {
            self.values = Some(Arc::clone(array));
            self.bytes.clear();
            self.spans.clear();
            self.spans.resize(array.len(), (0, 0));
        }
    }
}

impl<'a> Text<'a> {
    /// The column; `None` when the array holds neither strings nor bytes.
    pub(super) fn of(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Utf8 => Self::Utf8(array.as_string_opt()?),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string_opt()?),
            DataType::Utf8View => Self::Utf8View(array.as_string_view_opt()?),
            DataType::Binary => Self::Binary(array.as_binary_opt()?),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary_opt()?),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view_opt()?),
            DataType::FixedSizeBinary(_) => Self::FixedSizeBinary(array.as_fixed_size_binary_opt()?),
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary_opt()?;
                let array = dictionary.values();
                // Arrow panics on the keys of an empty dictionary; all its rows are NULL.
                let keys = if array.is_empty() { vec![0; dictionary.len()] } else { dictionary.normalized_keys() };
                Self::Dictionary { keys, values: Box::new(Self::of(array.as_ref())?), array }
            }
            _ => return None,
        })
    }

    /// The bytes of a row that is not NULL.
    #[inline]
    pub(super) fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Self::Utf8(array) => array.value(row).as_bytes(),
            Self::LargeUtf8(array) => array.value(row).as_bytes(),
            Self::Utf8View(array) => array.value(row).as_bytes(),
            Self::Binary(array) => array.value(row),
            Self::LargeBinary(array) => array.value(row),
            Self::BinaryView(array) => array.value(row),
            Self::FixedSizeBinary(array) => array.value(row),
            Self::Dictionary { keys, values, .. } => values.get(keys[row]),
        }
    }

    /// Writes a row's body in a key.
    #[inline]
    pub(super) fn write_escaped(&self, row: usize, descending: bool, cache: &mut DictionaryCache, out: &mut Vec<u8>) {
        let Self::Dictionary { keys, values, .. } = self else {
            escape(self.get(row), descending, out);
            return;
        };
        let key = keys[row];
        let (mut from, mut to) = cache.spans[key];
        if from == to {
            from = cache.bytes.len();
            escape(values.get(key), descending, &mut cache.bytes);
            to = cache.bytes.len();
            cache.spans[key] = (from, to);
        }
        out.extend_from_slice(&cache.bytes[from..to]);
    }

    /// Writes a row's length and bytes, for a value.
    #[inline]
    pub(super) fn write_counted(&self, row: usize, out: &mut Vec<u8>) {
        let bytes = self.get(row);
        push_varint(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

#[inline]
fn escape(bytes: &[u8], descending: bool, out: &mut Vec<u8>) {
    let start = out.len();
    match memchr::memchr(0, bytes) {
        None => out.extend_from_slice(bytes),
        Some(first) => escape_zeros(bytes, first, out),
    }
    out.extend_from_slice(&TERMINATOR);
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

#[cold]
fn escape_zeros(bytes: &[u8], first: usize, out: &mut Vec<u8>) {
    let mut copied = 0;
    for zero in std::iter::once(first).chain(memchr::memchr_iter(0, &bytes[first + 1..]).map(|at| at + first + 1)) {
        out.extend_from_slice(&bytes[copied..=zero]);
        out.push(ESCAPED);
        copied = zero + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
}
