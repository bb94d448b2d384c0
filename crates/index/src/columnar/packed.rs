//! Entries of fixed width as one integer each.
//!
//! ```text
//! byte of the u128, big endian
//! 0        16 - width                                                 16
//! │ zeros  │ body of column 1 │ body of column 2 │ … │ bodies of row id │
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::{ENCODING_VERSION, FLAG_VALUE};
use crate::definition::{IndexDefinition, RowId};
use crate::digest::Frame;

const LENGTH: usize = 4;
const POSITION_BYTES: usize = 8;

/// How an index's entries stand in a `u128`: the bodies of the key columns and of the row id,
/// big-endian and in that order, without the bytes that are the same in every entry (version,
/// flags); right-aligned to [`PackedLayout::width`] bytes. The numeric order is that of the stored
/// (key, row id). An entry with NULL in a key column has no packed form.
#[derive(Clone, Debug)]
pub struct PackedLayout {
    /// Only clones share it: by it a frame knows that it holds this template.
    id: u64,
    width: usize,
    /// Bits of the row id, when it is not part of the stored key.
    apart: u32,
    key_len: usize,
    /// The frame of every entry, but for its bodies.
    template: Vec<u8>,
    /// Where the bodies go.
    pieces: Vec<Piece>,
    /// The stored key byte by byte: a constant, or the next byte of the packed entry.
    pattern: Vec<Option<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// From this byte of the 16.
    from: usize,
    /// To this byte of the frame.
    to: usize,
    length: usize,
}

impl PackedLayout {
    /// The layout, if the index has one.
    pub(super) fn of(def: &IndexDefinition) -> Option<Self> {
        if !def.include.is_empty() {
            return None;
        }
        let keys: Vec<usize> = def.columns.iter().map(|column| column.column_type.width()).collect::<Option<_>>()?;
        let row_id = match &def.row_id {
            RowId::Position => vec![POSITION_BYTES],
            RowId::Columns(columns) => {
                columns.iter().map(|column| column.column_type.width()).collect::<Option<_>>()?
            }
        };
        let row_id_width: usize = row_id.iter().sum();
        let width = keys.iter().sum::<usize>() + row_id_width;
        if width > 16 {
            return None;
        }
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let mut layout = Self {
            id: SERIAL.fetch_add(1, Ordering::Relaxed),
            width,
            apart: if def.unique { u32::try_from(row_id_width * 8).ok()? } else { 0 },
            key_len: 0,
            template: vec![0; LENGTH],
            pieces: Vec::new(),
            pattern: Vec::new(),
        };
        layout.template.push(ENCODING_VERSION);
        let mut from = 16 - width;
        for length in &keys {
            layout.template.push(FLAG_VALUE);
            layout.piece(&mut from, *length);
        }
        if def.unique {
            layout.end_key()?;
        }
        for length in &row_id {
            if def.row_id != RowId::Position {
                layout.template.push(FLAG_VALUE);
            }
            layout.piece(&mut from, *length);
        }
        if !def.unique {
            layout.end_key()?;
        }
        let value = LENGTH + layout.key_len + LENGTH;
        let value_len = u32::try_from(layout.template.len() - value).ok()?;
        layout.template[value - LENGTH..value].copy_from_slice(&value_len.to_le_bytes());
        let key = &layout.template[LENGTH..LENGTH + layout.key_len];
        layout.pattern = key.iter().map(|byte| Some(*byte)).collect();
        for Piece { from: _, to, length } in &layout.pieces {
            for at in to - LENGTH..to - LENGTH + length {
                if let Some(byte) = layout.pattern.get_mut(at) {
                    *byte = None;
                }
            }
        }
        Some(layout)
    }

    fn piece(&mut self, from: &mut usize, length: usize) {
        self.pieces.push(Piece { from: *from, to: self.template.len(), length });
        self.template.resize(self.template.len() + length, 0);
        *from += length;
    }

    /// The key ends and the value begins.
    fn end_key(&mut self) -> Option<()> {
        self.key_len = self.template.len() - LENGTH;
        let length = u32::try_from(self.key_len).ok()?;
        self.template[..LENGTH].copy_from_slice(&length.to_le_bytes());
        self.template.extend_from_slice(&[0; LENGTH]);
        self.template.push(ENCODING_VERSION);
        Some(())
    }

    /// Bytes used, 1 to 16: what a run stores per entry, the least significant ones.
    #[must_use]
    #[inline]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Writes the stored key and value of an entry.
    #[inline]
    pub fn expand(&self, packed: u128, frame: &mut Frame) {
        let bodies = packed.to_be_bytes();
        let bytes = frame.start_from(self.id, &self.template, self.key_len);
        for Piece { from, to, length } in &self.pieces {
            match length {
                8 => bytes[*to..*to + 8].copy_from_slice(&bodies[*from..*from + 8]),
                4 => bytes[*to..*to + 4].copy_from_slice(&bodies[*from..*from + 4]),
                _ => bytes[*to..*to + *length].copy_from_slice(&bodies[*from..*from + *length]),
            }
        }
    }

    /// The least packed number whose stored key is at least `stored_key`, which may be a whole key, a
    /// part of one, or any other bytes; `None` when every packed key is less.
    #[must_use]
    pub fn lower_bound(&self, stored_key: &[u8]) -> Option<u128> {
        // `bound` is the prefix that was read so far, of `taken` bytes.
        let mut bound = 0u128;
        let mut taken = 0;
        let key_bytes = self.width - self.apart as usize / 8;
        let at_least = |bound: u128, taken: usize| shift_left(bound, (self.width - taken) * 8);
        let above = |bound: u128, taken: usize| {
            if taken == 0 {
                return None;
            }
            let next = bound.checked_add(1)?;
            if taken < 16 && next >> (taken * 8) != 0 { None } else { Some(at_least(next, taken)) }
        };
        for (at, byte) in stored_key.iter().enumerate() {
            match self.pattern.get(at) {
                None => return above(bound, key_bytes),
                Some(None) => {
                    bound = bound << 8 | u128::from(*byte);
                    taken += 1;
                }
                Some(Some(constant)) if byte < constant => break,
                Some(Some(constant)) if byte > constant => return above(bound, taken),
                Some(Some(_)) => {}
            }
        }
        Some(at_least(bound, taken))
    }
}

/// A shift by 128 is 0.
fn shift_left(number: u128, bits: usize) -> u128 {
    u32::try_from(bits).ok().and_then(|bits| number.checked_shl(bits)).unwrap_or(0)
}
