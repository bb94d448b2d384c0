//! What a file is, by its first bytes: a name says nothing for sure.

use crate::error::SourceError;

/// How a text is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "CSV",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// How other files begin that are taken for CSV now and then, none of them with what could be text, and what they are.
const REFUSED: [(&[u8], &str); 11] = [
    (b"\xfd7zXZ\x00", "it is compressed with xz, which is not supported; unpack it, or compress it with gzip or zstd"),
    (
        b"\x04\x22\x4d\x18",
        "it is compressed with lz4, which is not supported; unpack it, or compress it with gzip or zstd",
    ),
    (
        b"\xff\x06\x00\x00sNaPpY",
        "it is compressed with snappy, which is not supported; unpack it, or compress it with gzip or zstd",
    ),
    (b"PK\x03\x04", "it is a zip archive or a spreadsheet, which is not supported; unpack it, or save it as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive, which is not supported; unpack it"),
    (
        b"\x1f\x9d",
        "it is compressed with compress, which is not supported; unpack it, or compress it with gzip or zstd",
    ),
    (b"\xff\xfe\x00\x00", "it is UTF-32 text; make UTF-8 of it: iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "it is UTF-32 text; make UTF-8 of it: iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "it is UTF-16 text; make UTF-8 of it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "it is UTF-16 text; make UTF-8 of it: iconv -f UTF-16 -t UTF-8"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "it is a spreadsheet or document of an old Office; save it as CSV"),
];
const BZIP2: &str = "it is compressed with bzip2, which is not supported; unpack it, or compress it with gzip or zstd";

/// How the file that begins so is compressed.
///
/// # Errors
/// [`SourceError::Corrupt`], with what to do, where it is known to be no text.
pub(super) fn packing_of(url: &str, first: &[u8]) -> Result<Packing, SourceError> {
    let refused = |detail: &str| {
        Err(SourceError::Corrupt { url: url.to_owned(), format: "CSV", detail: detail.to_owned(), source: None })
    };
    if let [0x1f, 0x8b, 8, ..] = first {
        return Ok(Packing::Gzip);
    }
    // A frame, or one to be skipped, as pzstd writes before each.
    if let [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = first {
        return Ok(Packing::Zstd);
    }
    if let [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] = first
        && (rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90"))
    {
        return refused(BZIP2);
    }
    if let Some((_, what)) = REFUSED.iter().find(|(magic, _)| first.starts_with(magic)) {
        return refused(what);
    }
    let (even, odd): (Vec<_>, Vec<_>) = first.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
    let all_nul = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let no_nul = |bytes: &[u8]| !bytes.contains(&0);
    if even.len() > 1 && (all_nul(&even) && no_nul(&odd) || all_nul(&odd) && no_nul(&even)) {
        return refused(
            "it looks like UTF-16 text (every second byte is zero); make UTF-8 of it: iconv -f UTF-16LE -t UTF-8",
        );
    }
    Ok(Packing::None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_by_its_name_with_what_to_do() {
        for (first, parts) in [
            (&b"\xff\xfei\x00d\x00"[..], ["UTF-16", "iconv"]),
            (b"\xfe\xff\x00i\x00d", ["UTF-16", "iconv"]),
            (b"\xff\xfe\x00\x00i\x00\x00\x00", ["UTF-32", "iconv"]),
            (b"i\x00d\x00,\x00v\x00", ["UTF-16", "iconv"]),
            (b"\x00i\x00d\x00,\x00v", ["UTF-16", "iconv"]),
            (b"BZh51AY&SY\x00\x00", ["bzip2", "not supported"]),
            (b"BZh9\x17\x72\x45\x38\x50\x90\x00\x00", ["bzip2", "not supported"]),
            (b"\xfd7zXZ\x00\x00\x04", ["xz", "not supported"]),
            (b"\x04\x22\x4d\x18\x64", ["lz4", "not supported"]),
            (b"PK\x03\x04\x14\x00", ["zip archive", "not supported"]),
        ] {
            let message = packing_of("file:///t.csv", first).unwrap_err().to_string();
            for part in parts.iter().chain(&["file:///t.csv"]) {
                assert!(message.contains(part), "{part} in {message}");
            }
        }
    }

    #[test]
    fn text_is_text_whatever_it_begins_with() {
        for first in
            [&b""[..], b"BZh9,x\n1,2\n", b"PK,v\n", b"\xef\xbb\xbfid,v\n", b"id\n", b"PAR1,v\n", b"a\x00b\n", b"7z"]
        {
            assert_eq!(packing_of("t", first).unwrap(), Packing::None, "{first:?}");
        }
        assert_eq!(packing_of("t", b"\x1f\x8b\x08\x00").unwrap(), Packing::Gzip);
        assert_eq!(packing_of("t", b"\x28\xb5\x2f\xfd\x04").unwrap(), Packing::Zstd);
        assert_eq!(packing_of("t", b"\x50\x2a\x4d\x18\x04").unwrap(), Packing::Zstd);
    }
}
