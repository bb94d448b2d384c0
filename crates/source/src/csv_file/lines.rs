//! Line numbers, counted only when an error needs one.

use super::text::Text;
use crate::error::SourceError;

const BLOCK: usize = 1 << 20;

/// The line, from 1, in which the byte at `at` is.
pub(super) fn line_of(text: &Text, at: u64) -> Result<u64, SourceError> {
    let mut window = text.window(0, Some(at), BLOCK)?;
    let (mut line, mut done) = (1, 0);
    while done < at {
        let block = window.at(done, 1)?;
        line += memchr::memchr_iter(b'\n', &block).count() as u64;
        done += block.len() as u64;
    }
    Ok(line)
}
