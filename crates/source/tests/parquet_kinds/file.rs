//! A Parquet file as its parts: pages and footer, to be changed and put together again.

use super::thrift::{Value, bytes_of, i64, parse};

/// A file of one row group with one column.
pub(crate) struct File {
    pub(crate) footer: Value,
    /// Header and stored bytes of each page, the dictionary first.
    pub(crate) pages: Vec<(Value, Vec<u8>)>,
}

impl File {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (_, footer) = split(bytes);
        let (mut footer, _) = parse(footer);
        let meta = column(&mut footer, 0).get(3);
        let (compressed, mut at) = (usize::try_from(meta.get(7).int()).unwrap(), 4);
        let end = at + compressed;
        let mut pages = Vec::new();
        while at < end {
            let (mut header, length) = parse(&bytes[at..]);
            let stored = usize::try_from(header.get(3).int()).unwrap();
            let begin = at + length;
            pages.push((header, bytes[begin..begin + stored].to_vec()));
            at = begin + stored;
        }
        Self { footer, pages }
    }

    /// The file's bytes, with lengths and places that fit; `last` changes what the footer then says.
    pub(crate) fn bytes(mut self, last: impl FnOnce(&mut Value, &File)) -> Vec<u8> {
        let mut bytes = b"PAR1".to_vec();
        let mut data = None;
        for (header, stored) in &mut self.pages {
            header.set(3, super::thrift::i32(i64::try_from(stored.len()).unwrap()));
            if header.get(1).int() != 2 {
                data.get_or_insert(bytes.len());
            }
            bytes.extend(bytes_of(header));
            bytes.extend(&*stored);
        }
        let length = i64::try_from(bytes.len() - 4).unwrap();
        let mut footer = self.footer.clone();
        let chunk = column(&mut footer, 0);
        // Indexes of pages would lie elsewhere now.
        (4..=7).for_each(|index| chunk.remove(index));
        let meta = chunk.get(3);
        meta.set(7, i64(length));
        meta.set(9, i64(i64::try_from(data.unwrap_or(4)).unwrap()));
        if data == Some(4) {
            meta.remove(11);
        } else {
            meta.set(11, i64(4));
        }
        last(&mut footer, &self);
        with_footer(&bytes, &footer)
    }
}

/// What is before a footer, and the footer.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let tail = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap()) as usize;
    (&bytes[..tail - length], &bytes[tail - length..tail])
}

fn with_footer(before: &[u8], footer: &Value) -> Vec<u8> {
    let footer = bytes_of(footer);
    [before, &footer, &u32::try_from(footer.len()).unwrap().to_le_bytes(), b"PAR1"].concat()
}

/// The same file with another footer.
pub(crate) fn change_footer(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (before, footer) = split(bytes);
    let (mut footer, _) = parse(footer);
    change(&mut footer);
    with_footer(before, &footer)
}

/// A column's chunk in the first row group.
pub(crate) fn column(footer: &mut Value, number: usize) -> &mut Value {
    &mut footer.get(4).elements()[0].get(1).elements()[number]
}
