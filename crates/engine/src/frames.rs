//! How entries are laid out in runs and buffers; and the general ones, as frames.

/// An entry of more bytes is never copied on its way: a worker writes it to its run at once, as a piece of its own, and a sort
/// keeps it apart, in a file. Entries' contents and order do not depend on it.
pub(crate) const LONG_ENTRY: usize = 1 << 20;

/// How the entries of a piece are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceKind {
    /// The packed layout's `width` bytes each, big endian.
    Packed,
    /// Frames: `[u32 LE key length][key][u32 LE value length][value]`.
    General,
}

impl PieceKind {
    pub(crate) const BOTH: [Self; 2] = [Self::Packed, Self::General];
}

/// One entry within its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRef<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// The first frame of `bytes`; `None` when it is not whole.
#[inline]
pub(crate) fn first_frame(bytes: &[u8]) -> Option<FrameRef<'_>> {
    let (key_len, rest) = bytes.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let value = rest.get(..u32::from_le_bytes(*value_len) as usize)?;
    Some(FrameRef { bytes: &bytes[..8 + key.len() + value.len()], key, value })
}

/// The frames of `bytes`, up to the first that is not whole.
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet given out.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameRef<'a>> {
        let frame = first_frame(self.rest)?;
        self.rest = &self.rest[frame.bytes.len()..];
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexbuild_index::Frame;

    #[test]
    fn frames_are_read_as_the_index_writes_them_and_a_torn_one_is_not() {
        let mut bytes = Vec::new();
        let mut frame = Frame::new();
        for (key, value) in [(&b"key"[..], &b"v"[..]), (b"", b""), (b"k", b"a longer value")] {
            frame.set(key, value);
            bytes.extend_from_slice(frame.bytes());
        }
        let read: Vec<_> = Frames::new(&bytes).map(|frame| (frame.key.to_vec(), frame.value.to_vec())).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], (b"k".to_vec(), b"a longer value".to_vec()));
        let mut torn = Frames::new(&bytes[..bytes.len() - 1]);
        assert_eq!(torn.by_ref().count(), 2);
        assert!(!torn.rest().is_empty());
        assert!(first_frame(&[255; 12]).is_none());
    }
}
