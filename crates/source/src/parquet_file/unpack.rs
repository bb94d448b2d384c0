//! Unpacking pages: from all of their stored bytes or, where those do not fit beside the unpacked ones, as they are read.

use std::io::{self, BufRead, BufReader, Read};

use parquet::basic::Compression;

/// What a page is read through, where it is unpacked as it is read.
pub(super) const STEP: usize = 64 << 10;
/// The most bytes that a stream may look back at, to be unpacked as it is read: more would be kept a second time.
const MOST_HISTORY: u64 = 8 << 20;
/// Bytes of a frame's header in Zstandard that tell how far it looks back.
pub(super) const FRAME_HEADER: usize = 6;

/// Bytes that unpacking takes besides the unpacked ones, where a page is unpacked as it is read. `None`: it cannot be.
///
/// `begin`: the first bytes of what is packed.
pub(super) fn streaming_takes(codec: Compression, begin: &[u8]) -> Option<u64> {
    let step = 2 * STEP as u64;
    match codec {
        // These write where they look back.
        Compression::SNAPPY | Compression::LZ4_RAW => Some(step),
        Compression::GZIP(_) => Some(step + (256 << 10)),
        // A window of 16 MiB at most, and tables.
        Compression::BROTLI(_) => Some(step + (20 << 20)),
        Compression::ZSTD(_) => {
            let history = zstd_history(begin).filter(|bytes| *bytes <= MOST_HISTORY)?;
            Some(step + history + (1 << 20))
        }
        Compression::UNCOMPRESSED | Compression::LZ4 | Compression::LZO => None,
    }
}

/// How far a frame of Zstandard looks back; `None`: over all of it, or this is no frame.
fn zstd_history(begin: &[u8]) -> Option<u64> {
    let rest = begin.strip_prefix(&0xfd2f_b528_u32.to_le_bytes())?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 != 0 {
        return None;
    }
    let window = rest.first()?;
    let base = 1_u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}

/// Appends `size` unpacked bytes. The error is what is wrong with the packed ones.
pub(super) fn whole(codec: Compression, packed: &[u8], into: &mut Vec<u8>, size: usize) -> Result<(), String> {
    let begin = into.len();
    match codec {
        Compression::SNAPPY => {
            into.resize(begin + size, 0);
            let room = into.get_mut(begin..).unwrap_or_default();
            let found = snap::raw::Decoder::new().decompress(packed, room).map_err(|error| error.to_string())?;
            into.truncate(begin + found);
        }
        Compression::LZ4_RAW => lz4_block(packed, into, size)?,
        Compression::LZ4 => old_lz4(packed, into, size)?,
        Compression::ZSTD(_) => {
            into.resize(begin + size, 0);
            let room = into.get_mut(begin..).unwrap_or_default();
            let found = zstd::bulk::decompress_to_buffer(packed, room).map_err(|error| error.to_string())?;
            into.truncate(begin + found);
        }
        Compression::GZIP(_) | Compression::BROTLI(_) => return streamed(codec, packed, into, size),
        Compression::UNCOMPRESSED | Compression::LZO => return Err(format!("{codec} is not unpacked")),
    }
    filled(into, begin, size)
}

/// Appends `size` unpacked bytes, reading the packed ones as they are needed, to their end.
pub(super) fn streamed(codec: Compression, packed: impl Read, into: &mut Vec<u8>, size: usize) -> Result<(), String> {
    let begin = into.len();
    let mut packed = BufReader::with_capacity(STEP, packed);
    let most = size as u64 + 1;
    match codec {
        Compression::SNAPPY => snappy(&mut packed, into, size)?,
        Compression::LZ4_RAW => lz4(&mut packed, into, begin + size)?,
        // A page may be several members.
        Compression::GZIP(_) => read_to_end(flate2::bufread::MultiGzDecoder::new(&mut packed).take(most), into)?,
        Compression::BROTLI(_) => read_to_end(brotli::Decompressor::new(&mut packed, STEP).take(most), into)?,
        Compression::ZSTD(_) => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&mut packed).map_err(|error| error.to_string())?;
            // Another frame may look back further than the first.
            decoder.window_log_max(MOST_HISTORY.ilog2()).map_err(|error| error.to_string())?;
            read_to_end(decoder.take(most), into)?;
        }
        Compression::UNCOMPRESSED | Compression::LZ4 | Compression::LZO => {
            return Err(format!("{codec} is not unpacked as it is read"));
        }
    }
    // What follows would be missing in a checksum.
    io::copy(&mut packed, &mut io::sink()).map_err(|error| error.to_string())?;
    filled(into, begin, size)
}

fn read_to_end(mut unpacked: impl Read, into: &mut Vec<u8>) -> Result<(), String> {
    unpacked.read_to_end(into).map(drop).map_err(|error| error.to_string())
}

fn filled(into: &[u8], begin: usize, size: usize) -> Result<(), String> {
    match into.len() - begin {
        found if found == size => Ok(()),
        found => Err(format!("it should unpack to {size} bytes, and does to {found} or more")),
    }
}

fn lz4_block(packed: &[u8], into: &mut Vec<u8>, size: usize) -> Result<(), String> {
    let begin = into.len();
    into.resize(begin + size, 0);
    let room = into.get_mut(begin..).unwrap_or_default();
    let found = lz4_flex::block::decompress_into(packed, room).map_err(|error| error.to_string())?;
    into.truncate(begin + found);
    Ok(())
}

/// The codec `LZ4` of old: blocks framed as Hadoop does; or the frames of LZ4, or one block, which other writers made of it.
fn old_lz4(packed: &[u8], into: &mut Vec<u8>, size: usize) -> Result<(), String> {
    let begin = into.len();
    if hadoop_blocks(packed, into, begin + size).is_some_and(|()| into.len() == begin + size) {
        return Ok(());
    }
    into.truncate(begin);
    let frames = lz4_flex::frame::FrameDecoder::new(packed).take(size as u64 + 1);
    if read_to_end(frames, into).is_ok() && into.len() == begin + size {
        return Ok(());
    }
    into.truncate(begin);
    lz4_block(packed, into, size)
}

/// Each block with its unpacked and its packed length before it. A first length may be that of several blocks.
fn hadoop_blocks(mut packed: &[u8], into: &mut Vec<u8>, end: usize) -> Option<()> {
    while let Some((unpacked, rest)) = packed.split_first_chunk() {
        let unpacked_to = into.len().checked_add(u32::from_be_bytes(*unpacked) as usize).filter(|to| *to <= end)?;
        packed = rest;
        while into.len() < unpacked_to {
            let (length, rest) = packed.split_first_chunk()?;
            let (block, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let before = into.len();
            lz4_block(block, into, unpacked_to - before).ok()?;
            if into.len() == before {
                return None;
            }
            packed = rest;
        }
    }
    packed.is_empty().then_some(())
}

/// Snappy without frames: its library wants all of the packed bytes at once.
fn snappy(packed: &mut impl BufRead, into: &mut Vec<u8>, size: usize) -> Result<(), String> {
    let mut length = 0_u64;
    for place in 0.. {
        let byte = octet(packed)?.ok_or_else(ended)?;
        length |= u64::from(byte & 0x7f).checked_shl(7 * place).unwrap_or(0);
        match byte & 0x80 {
            0 => break,
            _ if place >= 5 => return Err("its length has too many bytes".to_owned()),
            _ => {}
        }
    }
    if length != size as u64 {
        return Err(format!("it should unpack to {size} bytes, and says that it does to {length}"));
    }
    let begin = into.len();
    let end = begin + size;
    while let Some(tag) = octet(packed)? {
        let upper = usize::from(tag >> 2);
        match tag & 3 {
            0 => {
                let length = if upper < 60 { upper } else { number(packed, upper - 59)? };
                literal(packed, into, length.saturating_add(1), end)?;
            }
            1 => {
                let offset = usize::from(tag >> 5) << 8 | number(packed, 1)?;
                repeat(into, begin, offset, (upper & 7) + 4, end)?;
            }
            wide => {
                let offset = number(packed, if wide == 2 { 2 } else { 4 })?;
                repeat(into, begin, offset, upper + 1, end)?;
            }
        }
    }
    Ok(())
}

/// A block of LZ4, up to `end` bytes of `into`.
fn lz4(packed: &mut impl BufRead, into: &mut Vec<u8>, end: usize) -> Result<(), String> {
    let begin = into.len();
    while let Some(token) = octet(packed)? {
        let length = long(packed, usize::from(token >> 4))?;
        literal(packed, into, length, end)?;
        // The last sequence has no match.
        if packed.fill_buf().map_err(|error| error.to_string())?.is_empty() {
            return Ok(());
        }
        let offset = number(packed, 2)?;
        let length = long(packed, usize::from(token & 15))?;
        repeat(into, begin, offset, length.saturating_add(4), end)?;
    }
    Ok(())
}

/// A length of four bits, which goes on in bytes if all of them are set.
fn long(packed: &mut impl BufRead, begin: usize) -> Result<usize, String> {
    let mut length = begin;
    if begin == 15 {
        loop {
            let byte = number(packed, 1)?;
            length = length.saturating_add(byte);
            if byte < 255 {
                break;
            }
        }
    }
    Ok(length)
}

fn literal(packed: &mut impl BufRead, into: &mut Vec<u8>, length: usize, end: usize) -> Result<(), String> {
    if length > end - into.len() {
        return Err("it unpacks to more bytes than its header says".to_owned());
    }
    let wanted = into.len() + length;
    packed.take(length as u64).read_to_end(into).map_err(|error| error.to_string())?;
    if into.len() == wanted { Ok(()) } else { Err(ended()) }
}

/// Appends what was `offset` bytes before, once more; it may reach into what is appended.
fn repeat(into: &mut Vec<u8>, begin: usize, offset: usize, length: usize, end: usize) -> Result<(), String> {
    if offset == 0 || offset > into.len() - begin {
        return Err("it refers to bytes before its first".to_owned());
    }
    if length > end - into.len() {
        return Err("it unpacks to more bytes than its header says".to_owned());
    }
    let from = into.len() - offset;
    let mut left = length;
    while left > 0 {
        // What was appended before is there to be copied, too: each round has at least as many.
        let count = left.min(into.len() - from);
        into.extend_from_within(from..from + count);
        left -= count;
    }
    Ok(())
}

fn octet(packed: &mut impl BufRead) -> Result<Option<u8>, String> {
    let byte = packed.fill_buf().map_err(|error| error.to_string())?.first().copied();
    packed.consume(usize::from(byte.is_some()));
    Ok(byte)
}

/// A number of so many bytes, the lowest first.
fn number(packed: &mut impl BufRead, bytes: usize) -> Result<usize, String> {
    let mut value = 0;
    for place in 0..bytes {
        value |= usize::from(octet(packed)?.ok_or_else(ended)?) << (8 * place);
    }
    Ok(value)
}

fn ended() -> String {
    "it ends in the middle".to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parquet::basic::{BrotliLevel, GzipLevel, ZstdLevel};
    use proptest::prelude::*;

    use super::*;

    fn codecs() -> [Compression; 6] {
        [
            Compression::SNAPPY,
            Compression::LZ4_RAW,
            Compression::LZ4,
            Compression::ZSTD(ZstdLevel::default()),
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
        ]
    }

    fn pack(codec: Compression, bytes: &[u8]) -> Vec<u8> {
        match codec {
            Compression::SNAPPY => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Compression::LZ4_RAW => lz4_flex::block::compress(bytes),
            Compression::LZ4 => {
                let mut packed = Vec::new();
                for block in bytes.chunks(1000) {
                    let of_block = lz4_flex::block::compress(block);
                    packed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
                    packed.extend_from_slice(&u32::try_from(of_block.len()).unwrap().to_be_bytes());
                    packed.extend_from_slice(&of_block);
                }
                packed
            }
            Compression::ZSTD(_) => zstd::bulk::compress(bytes, 3).unwrap(),
            Compression::GZIP(_) => {
                // Two members.
                let (first, second) = bytes.split_at(bytes.len() / 3);
                let member = |bytes: &[u8]| {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                    encoder.write_all(bytes).unwrap();
                    encoder.finish().unwrap()
                };
                [member(first), member(second)].concat()
            }
            _ => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22);
                encoder.write_all(bytes).unwrap();
                encoder.into_inner()
            }
        }
    }

    /// Repetitive in places, so that there is something to look back at.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = (prop::collection::vec(any::<u8>(), 1..300), 1_usize..80);
        prop::collection::vec(piece, 0..20)
            .prop_map(|pieces| pieces.into_iter().flat_map(|(bytes, times)| bytes.repeat(times)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]

        #[test]
        fn what_the_libraries_packed_is_unpacked_at_once_and_as_it_is_read(content in content()) {
            for codec in codecs() {
                let packed = pack(codec, &content);
                let mut found = b"levels".to_vec();
                whole(codec, &packed, &mut found, content.len()).unwrap();
                prop_assert_eq!(&found[6..], &content, "{}", codec);
                if codec != Compression::LZ4 {
                    let mut found = b"levels".to_vec();
                    streamed(codec, packed.as_slice(), &mut found, content.len()).unwrap();
                    prop_assert_eq!(&found[6..], &content, "{}", codec);
                }
                prop_assert!(whole(codec, &packed, &mut Vec::new(), content.len() + 1).is_err(), "{}", codec);
            }
        }

        #[test]
        fn damage_is_an_error_and_takes_no_more_than_the_page(
            content in content(),
            at in any::<prop::sample::Index>(),
            bits in 1_u8..,
        ) {
            for codec in codecs() {
                let mut packed = pack(codec, &content);
                if !packed.is_empty() {
                    *at.get_mut(&mut packed) ^= bits;
                }
                for in_steps in [false, true] {
                    let mut found = Vec::new();
                    let _ = if in_steps {
                        streamed(codec, packed.as_slice(), &mut found, content.len())
                    } else {
                        whole(codec, &packed, &mut found, content.len())
                    };
                    prop_assert!(found.len() <= content.len() + 1, "{}", codec);
                }
            }
        }
    }

    #[test]
    fn lz4_of_old_is_framed_in_three_ways() {
        let content = b"abcdefgh".repeat(1000);
        let mut frames = lz4_flex::frame::FrameEncoder::new(Vec::new());
        frames.write_all(&content).unwrap();
        // One length for two blocks.
        let halves = content.split_at(5000);
        let [first, second] = [halves.0, halves.1].map(lz4_flex::block::compress);
        let mut two = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        for block in [first, second] {
            two.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
            two.extend_from_slice(&block);
        }
        for packed in
            [pack(Compression::LZ4, &content), two, frames.finish().unwrap(), lz4_flex::block::compress(&content)]
        {
            let mut found = Vec::new();
            whole(Compression::LZ4, &packed, &mut found, content.len()).unwrap();
            assert_eq!(found, content);
        }
    }

    #[test]
    fn how_far_zstandard_looks_back_is_known_from_its_first_bytes() {
        let content: Vec<u8> =
            (0..5_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let codec = codecs()[3];
        let large = zstd::bulk::compress(&content, 3).unwrap();
        let takes = streaming_takes(codec, &large[..FRAME_HEADER]).unwrap();
        assert!((2 << 20..6 << 20).contains(&takes), "{takes}");
        let small = zstd::bulk::compress(&content[..1000], 3).unwrap();
        assert_eq!(streaming_takes(codec, &small[..FRAME_HEADER]), None, "all of it is one window");
    }
}
