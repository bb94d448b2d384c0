//! Thrift's compact protocol, as far as page headers and footers need it: numbers are read, all else is passed over.
//!
//! The library reads footers into types of its own, which have no place for what it does not know, and page headers not at
//! all for those who use it from outside.

use parquet::errors::{ParquetError, Result as ParquetResult};

/// The kinds of values, as they stand in a field's first byte.
pub(super) mod kind {
    pub(in crate::parquet_file) const TRUE: u8 = 1;
    pub(in crate::parquet_file) const FALSE: u8 = 2;
    pub(in crate::parquet_file) const BYTE: u8 = 3;
    pub(in crate::parquet_file) const I16: u8 = 4;
    pub(in crate::parquet_file) const I32: u8 = 5;
    pub(in crate::parquet_file) const I64: u8 = 6;
    pub(in crate::parquet_file) const DOUBLE: u8 = 7;
    pub(in crate::parquet_file) const BINARY: u8 = 8;
    pub(in crate::parquet_file) const LIST: u8 = 9;
    pub(in crate::parquet_file) const SET: u8 = 10;
    pub(in crate::parquet_file) const MAP: u8 = 11;
    pub(in crate::parquet_file) const STRUCT: u8 = 12;
    pub(in crate::parquet_file) const UUID: u8 = 13;
}

/// Structs inside one another at most: damage must not use up the stack.
const DEEPEST: u8 = 32;

/// Where bytes come from, one after the other.
pub(super) trait Octets {
    fn octet(&mut self) -> ParquetResult<u8>;
    fn pass(&mut self, bytes: u64) -> ParquetResult<()>;
}

impl Octets for &[u8] {
    fn octet(&mut self) -> ParquetResult<u8> {
        let (first, rest) = self.split_first().ok_or_else(ended)?;
        *self = rest;
        Ok(*first)
    }

    fn pass(&mut self, bytes: u64) -> ParquetResult<()> {
        *self = usize::try_from(bytes).ok().and_then(|bytes| self.get(bytes..)).ok_or_else(ended)?;
        Ok(())
    }
}

fn ended() -> ParquetError {
    ParquetError::EOF("it ends in the middle".to_owned())
}

pub(super) struct Compact<O>(pub(super) O);

impl<O: Octets> Compact<O> {
    /// The kind of a struct's next field, whose number `number` becomes; `None` at the struct's end.
    pub(super) fn field(&mut self, number: &mut i16) -> ParquetResult<Option<u8>> {
        let first = self.0.octet()?;
        let kind = first & 0x0f;
        if kind == 0 {
            return Ok(None);
        }
        *number = match first >> 4 {
            0 => i16::try_from(self.integer()?).map_err(|_| broken("a field has no number"))?,
            step => number.checked_add(i16::from(step)).ok_or_else(|| broken("a field has no number"))?,
        };
        Ok(Some(kind))
    }

    /// A number of 16, 32 or 64 bits.
    pub(super) fn integer(&mut self) -> ParquetResult<i64> {
        let value = self.varint()?;
        // Two's complement, with the sign in the lowest bit.
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// How many elements a list has, and of which kind they are.
    pub(super) fn list(&mut self) -> ParquetResult<(u64, u8)> {
        let first = self.0.octet()?;
        let count = match first >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Ok((count, first & 0x0f))
    }

    /// Passes over the value of a field.
    pub(super) fn pass(&mut self, kind: u8) -> ParquetResult<()> {
        self.pass_within(kind, DEEPEST)
    }

    fn pass_within(&mut self, kind: u8, depth: u8) -> ParquetResult<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| broken("its structs are too deep"))?;
        match kind {
            // The kind is the value.
            kind::TRUE | kind::FALSE => Ok(()),
            kind::BYTE => self.0.pass(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(drop),
            kind::DOUBLE => self.0.pass(8),
            kind::UUID => self.0.pass(16),
            kind::BINARY => {
                let length = self.varint()?;
                self.0.pass(length)
            }
            kind::LIST | kind::SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.pass_element(kind, depth))
            }
            kind::MAP => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.0.octet()?;
                (0..count).try_for_each(|_| {
                    self.pass_element(kinds >> 4, depth)?;
                    self.pass_element(kinds & 0x0f, depth)
                })
            }
            kind::STRUCT => {
                let mut number = 0;
                while let Some(kind) = self.field(&mut number)? {
                    self.pass_within(kind, depth)?;
                }
                Ok(())
            }
            other => Err(broken(&format!("there is no kind {other} of values"))),
        }
    }

    fn pass_element(&mut self, kind: u8, depth: u8) -> ParquetResult<()> {
        match kind {
            // In a list it has a byte of its own.
            kind::TRUE | kind::FALSE => self.0.pass(1),
            other => self.pass_within(other, depth),
        }
    }

    fn varint(&mut self) -> ParquetResult<u64> {
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = self.0.octet()?;
            value |= u64::from(byte & 0x7f).checked_shl(7 * place).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("a number has too many bytes"))
    }
}

impl<'a> Compact<&'a [u8]> {
    /// The bytes of a text.
    pub(super) fn binary(&mut self) -> ParquetResult<&'a [u8]> {
        let length = self.varint()?;
        let bytes = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (bytes, rest) = bytes.ok_or_else(ended)?;
        self.0 = rest;
        Ok(bytes)
    }
}

pub(super) fn broken(detail: &str) -> ParquetError {
    ParquetError::General(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_and_all_else_is_passed_over() {
        // 1: i32 -3, 2: true, 3: binary "ab", 4: list of 2 bools, 7: map {1: 2}, 8: struct {}, 40 (by its number): i64 150.
        let bytes: &[u8] = &[
            0x15, 0x05, 0x11, 0x18, 2, b'a', b'b', 0x19, 0x21, 1, 2, 0x3b, 1, 0x55, 2, 4, 0x1c, 0, 0x06, 80, 0xac,
            0x02, 0,
        ];
        let mut thrift = Compact(bytes);
        let (mut number, mut found) = (0, Vec::new());
        while let Some(kind) = thrift.field(&mut number).unwrap() {
            if matches!(kind, kind::I32 | kind::I64) {
                found.push((number, thrift.integer().unwrap()));
            } else {
                thrift.pass(kind).unwrap();
            }
        }
        assert_eq!(found, [(1, -3), (40, 150)]);
        assert!(thrift.0.is_empty());
    }

    #[test]
    fn structs_without_end_are_refused() {
        let deep = vec![0x1c; 10_000];
        assert!(Compact(deep.as_slice()).pass(kind::STRUCT).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Compact(bytes.as_slice()).pass(kind::STRUCT);
        }
    }
}
