//! Exit codes, the same for all commands.

/// It failed; the message says why.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage, or a file that is not valid.
pub(crate) const USAGE: u8 = 2;
/// Interrupted; the same command, given again, goes on.
pub(crate) const INTERRUPTED: u8 = 3;
/// Another process holds the state folder.
pub(crate) const HELD: u8 = 4;
