//! The sizes in a page header, read before the page is.

/// The (uncompressed, compressed) size of a page in bytes, from the first bytes of its header.
///
/// A page header is a Thrift struct in compact protocol whose first fields are `1: i32 type`, `2: i32 uncompressed_page_size`,
/// `3: i32 compressed_page_size`. The decoder allocates these sizes unchecked, so they are checked first.
/// `None`: these bytes are no such header; the decoder will say why.
pub(super) fn sizes(header: &[u8]) -> Option<(u64, u64)> {
    const I32: u8 = 5;
    let mut at = 0;
    let mut fields = [0_i64; 3];
    for field in &mut fields {
        // One byte: how far the field's number is from the one before, and its type.
        if *header.get(at)? != (1 << 4 | I32) {
            return None;
        }
        at += 1;
        let (value, length) = varint(header.get(at..)?)?;
        at += length;
        *field = zigzag(value)?;
    }
    let [_, uncompressed, compressed] = fields;
    Some((u64::try_from(uncompressed).ok()?, u64::try_from(compressed).ok()?))
}

/// The most bytes that [`sizes`] looks at: three fields of one byte and a varint of up to five.
pub(super) const SIZES_LENGTH: usize = 18;

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn zigzag(value: u64) -> Option<i64> {
    let half = i64::try_from(value >> 1).ok()?;
    Some(if value & 1 == 0 { half } else { -half - 1 })
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn the_sizes_of_a_page_header_are_read_from_its_first_fields() {
        // type DATA_PAGE (0), 300 bytes uncompressed, 100 compressed, then a struct.
        assert_eq!(sizes(&[0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0xc8, 0x01, 0x2c]), Some((300, 100)));
        // The largest i32.
        assert_eq!(sizes(&[0x15, 0x04, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x02]), Some((2_147_483_647, 1)));
    }

    #[test]
    fn bytes_that_are_no_page_header_have_no_sizes() {
        assert_eq!(sizes(&[]), None);
        assert_eq!(sizes(&[0x15, 0x00, 0x15]), None);
        assert_eq!(sizes(&[0x18, 0x00, 0x15, 0xd8, 0x04, 0x15, 0xc8, 0x01]), None);
        assert_eq!(sizes(&[0x15, 0x00, 0x15, 0x01, 0x15, 0x00]), None, "a negative size");
    }
}
