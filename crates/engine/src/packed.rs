//! Packed entries between their `width` bytes in files and the integers that are sorted.

use crate::buffers::Buffers;
use crate::route::Router;

/// Calls `$function::<W>` with the width as a constant: the copies become single moves.
macro_rules! by_width {
    ($width:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $width {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            6 => $function::<6>($($argument),*),
            7 => $function::<7>($($argument),*),
            8 => $function::<8>($($argument),*),
            9 => $function::<9>($($argument),*),
            10 => $function::<10>($($argument),*),
            11 => $function::<11>($($argument),*),
            12 => $function::<12>($($argument),*),
            13 => $function::<13>($($argument),*),
            14 => $function::<14>($($argument),*),
            15 => $function::<15>($($argument),*),
            _ => $function::<16>($($argument),*),
        }
    };
}

/// Appends each entry to its destination's buffer.
pub(crate) fn scatter(width: usize, entries: &[u128], router: &Router, buffers: &mut Buffers) {
    fn scatter_width<const W: usize>(entries: &[u128], router: &Router, buffers: &mut Buffers) {
        if router.destinations() == 1 {
            buffers.push_all_packed::<W>(router.packed(0), entries);
        } else {
            for entry in entries {
                buffers.push_packed::<W>(router.packed(*entry), *entry);
            }
        }
    }
    by_width!(width, scatter_width(entries, router, buffers));
}

/// Appends the entries that `bytes` holds, whole ones only.
pub(crate) fn unpack(width: usize, bytes: &[u8], entries: &mut Vec<u128>) {
    fn unpack_width<const W: usize>(bytes: &[u8], entries: &mut Vec<u128>) {
        entries.extend(bytes.as_chunks::<W>().0.iter().map(widen::<W>));
    }
    by_width!(width, unpack_width(bytes, entries));
}

/// As [`unpack`] for a width of 8 at most: half the memory to sort.
pub(crate) fn unpack_short(width: usize, bytes: &[u8], entries: &mut Vec<u64>) {
    fn unpack_width<const W: usize>(bytes: &[u8], entries: &mut Vec<u64>) {
        // The width is at most 8: no bits are lost.
        entries.extend(bytes.as_chunks::<W>().0.iter().map(|entry| widen::<W>(entry) as u64));
    }
    by_width!(width, unpack_width(bytes, entries));
}

#[inline]
fn widen<const W: usize>(entry: &[u8; W]) -> u128 {
    let mut wide = [0; 16];
    wide[16 - W..].copy_from_slice(entry);
    u128::from_be_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::PieceKind;
    use crate::route::Cut;

    #[test]
    fn entries_of_every_width_come_back_from_the_destination_they_belong_to() {
        for width in 1..=16usize {
            let most = if width == 16 { u128::MAX } else { (1 << (8 * width)) - 1 };
            let entries: Vec<u128> = (0..=200).map(|part| most / 200 * part).collect();
            let cuts = [most / 3, most / 2].map(|packed| Cut { packed: Some(packed), key: vec![], value: vec![] });
            let router = Router::new(&cuts, 0);
            let mut buffers = Buffers::new(3, 1 << 16);
            scatter(width, &entries, &router, &mut buffers);
            let mut back = Vec::new();
            for destination in 0..3 {
                let before = back.len();
                for chunk in buffers.take(destination, PieceKind::Packed) {
                    unpack(width, &chunk.bytes, &mut back);
                }
                assert!(back[before..].iter().all(|entry| router.packed(*entry) == destination));
            }
            assert_eq!(back, entries, "width {width}");
            if width <= 8 {
                let mut short = Vec::new();
                let bytes: Vec<u8> =
                    entries.iter().flat_map(|entry| entry.to_be_bytes()[16 - width..].to_vec()).collect();
                unpack_short(width, &bytes, &mut short);
                assert!(short.iter().map(|entry| u128::from(*entry)).eq(entries.iter().copied()));
            }
        }
    }
}
