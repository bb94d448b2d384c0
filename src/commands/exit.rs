//! Exit codes, the same for all commands.

use std::process::ExitCode;

/// It failed; the message says why.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage, or a file that is not valid.
pub(crate) const USAGE: u8 = 2;
/// Interrupted; the same command, given again, goes on.
pub(crate) const INTERRUPTED: u8 = 3;
/// Another process holds the state folder.
pub(crate) const HELD: u8 = 4;
/// Whoever read the output has gone: what a shell says of a program that SIGPIPE ended (128 + 13).
pub(crate) const READER_GONE: u8 = 141;

/// Tells why a command failed, and gives its exit code.
pub(crate) fn of(error: &anyhow::Error) -> ExitCode {
    if crate::output::reader_is_gone(error) {
        return ExitCode::from(READER_GONE);
    }
    crate::output::error(error);
    ExitCode::from(FAILED)
}
