//! The one call that is in RocksDB's C API and not in its Rust one. The only unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};

use rocksdb::{AsRawPtr, DB};

/// `DB::VerifyChecksum`: reads every block of every live file. The error is RocksDB's message.
pub(super) fn verify_checksum(db: &DB) -> Result<(), String> {
    let mut error: *mut c_char = std::ptr::null_mut();
    // SAFETY: the pointer is that of an open database, which `db` keeps open during the call;
    // `error` is a valid place for the message, which RocksDB allocates or leaves null.
    unsafe { librocksdb_sys::rocksdb_verify_checksum(db.as_raw_ptr(), &raw mut error) };
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: RocksDB wrote a message that ends with NUL and now belongs to us; it is read once and
    // freed once, by RocksDB's own deallocator.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        librocksdb_sys::rocksdb_free(error.cast::<c_void>());
        Err(message)
    }
}
