//! Line numbers, and lengths of rows, counted only when an error needs one.

use super::rows::Dialect;
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

/// Where in a row a byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    CellBegin,
    Cell,
    Quoted,
    AfterQuote,
}

/// The bytes of the row that begins at `start`, up to `end` at most.
pub(super) fn row_length(text: &Text, dialect: &Dialect, start: u64, end: u64) -> Result<u64, SourceError> {
    let mut window = text.window(start, Some(end), BLOCK)?;
    let (mut at, mut place) = (start, In::CellBegin);
    while at < end {
        let block = window.at(at, 1)?;
        if block.is_empty() {
            break;
        }
        for (byte, count) in block.iter().zip(0..) {
            let quote = dialect.quote == Some(*byte);
            place = match place {
                In::Quoted if quote => In::AfterQuote,
                In::Quoted => In::Quoted,
                In::CellBegin | In::AfterQuote if quote => In::Quoted,
                In::CellBegin | In::Cell | In::AfterQuote => match *byte {
                    b'\n' | b'\r' => return Ok(at + count - start),
                    byte if byte == dialect.delimiter => In::CellBegin,
                    _ => In::Cell,
                },
            };
        }
        at += block.len() as u64;
    }
    Ok(at - start)
}
