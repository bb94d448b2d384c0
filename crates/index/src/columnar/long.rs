//! The entry of a row with long included texts, which are not copied into it.

use arrow_array::RecordBatch;

use super::{
    Arena, EncodeError, Encoder, RowPositions, RowWriter, bind_all, bind_included, check_positions, check_row_id,
    write_included,
};
use crate::codec::push_varint;

/// A text of fewer bytes is copied: a piece of its own costs more.
const SHORT: usize = 64 << 10;

/// An entry whose long texts still are those of the batch.
#[derive(Debug)]
pub struct LongEntry<'b> {
    /// Key and value, without the long texts.
    own: Vec<u8>,
    key_len: usize,
    /// The long texts of the value, each with the place in `own` before which it stands.
    texts: Vec<(usize, &'b [u8])>,
}

impl LongEntry<'_> {
    /// The stored key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.own.get(..self.key_len).unwrap_or_default()
    }

    /// Length of the stored value, in bytes.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.own.len() - self.key_len + self.texts.iter().map(|(_, text)| text.len()).sum::<usize>()
    }

    /// Gives out the bytes of the stored value, piece by piece.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn value_pieces<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut done = self.key_len;
        for (place, text) in &self.texts {
            take(self.own.get(done..*place).unwrap_or_default())?;
            take(text)?;
            done = *place;
        }
        take(self.own.get(done..).unwrap_or_default())
    }
}

impl Encoder {
    /// The entry of a batch's first row, as [`Encoder::encode`] makes it for an index without a packed form.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode_long<'b>(
        &mut self,
        batch: &'b RecordBatch,
        at: &RowPositions<'_>,
    ) -> Result<LongEntry<'b>, EncodeError> {
        let Self { def, packed: _, memos } = self;
        let context = super::Context { index: &def.name, at: *at };
        check_positions(def, at, batch.num_rows())?;
        let (key_memos, row_id_memos) = memos.split_at_mut(def.columns.len());
        let mut keys = bind_all(batch, &def.columns, key_memos, &context)?;
        let mut row_id = bind_all(batch, def.row_id_columns(), row_id_memos, &context)?;
        check_row_id(def, &row_id, at, batch.num_rows())?;
        let included = bind_included(batch, def, &context)?;
        let mut arena = Arena::default();
        RowWriter { def, context, at: *at }.write(0, &mut keys, &mut row_id, &[], &mut arena)?;
        let key_len = arena.entries.first().map_or(0, |entry| entry.key_len as usize);
        let (mut own, mut texts) = (arena.bytes, Vec::new());
        if !included.is_empty() {
            write_included(0, &included, &mut own, |text, own| {
                let bytes = text.get(0);
                push_varint(bytes.len(), own);
                if bytes.len() < SHORT {
                    own.extend_from_slice(bytes);
                } else {
                    texts.push((own.len(), bytes));
                }
            });
        }
        let entry = LongEntry { own, key_len, texts };
        if u32::try_from(entry.value_len()).is_err() {
            return Err(EncodeError::BufferTooLarge { index: def.name.clone() });
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::columnar::{Entries, Rows};
    use crate::definition::{ColumnType, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId};

    #[test]
    fn a_long_entry_has_the_bytes_of_one_that_is_copied() {
        let key =
            KeyColumn { name: "id".to_owned(), column_type: ColumnType::Int64, order: Order::Asc, nulls: Nulls::Last };
        let texts =
            ["a", "n", "b"].map(|name| IncludedColumn { name: name.to_owned(), column_type: ColumnType::String });
        for unique in [false, true] {
            let definition = IndexDefinition {
                name: "i".to_owned(),
                columns: vec![key.clone()],
                row_id: RowId::Position,
                unique,
                include: texts.to_vec(),
            };
            for (first, second) in [(SHORT, 3 * SHORT), (5, SHORT), (SHORT + 1, 0), (1, 2)] {
                let id: ArrayRef = Arc::new(Int64Array::from(vec![7]));
                let text = |text: Option<String>| Arc::new(StringArray::from(vec![text])) as ArrayRef;
                let batch = RecordBatch::try_from_iter_with_nullable([
                    ("id", id, true),
                    ("a", text(Some("x".repeat(first))), true),
                    ("n", text(None), true),
                    ("b", text(Some("y".repeat(second))), true),
                ])
                .unwrap();
                let at = RowPositions { file: 3, rows: Rows::From(9) };
                let mut encoder = Encoder::new(Arc::new(definition.clone())).unwrap();
                let mut copied = Entries::default();
                encoder.encode(&batch, &at, &mut copied).unwrap();
                let expected = copied.general.entries[0];
                let long = encoder.encode_long(&batch, &at).unwrap();
                let mut value = Vec::new();
                long.value_pieces(|piece| {
                    value.extend_from_slice(piece);
                    Ok::<_, ()>(())
                })
                .unwrap();
                assert_eq!(long.key(), copied.general.key(expected));
                assert_eq!(value, copied.general.value(expected));
                assert_eq!(long.value_len(), value.len());
            }
        }
    }
}
