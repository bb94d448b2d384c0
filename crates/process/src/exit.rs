//! The end of a process whose other threads are still at work.
#![allow(unsafe_code)] // The one call of C that ends a process and nothing else.

/// Ends the process here and now, with nothing run at its end.
///
/// [`std::process::exit`] has the C library destroy what its libraries keep, RocksDB's too, while other threads still use
/// it: a command that was asked to end died of SIGSEGV instead, and one that ends because a close hangs might hang once more.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: it touches no memory of this process, and does not return.
    unsafe { libc::_exit(code) }
}
