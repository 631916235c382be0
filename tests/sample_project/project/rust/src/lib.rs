//! The Rust part of the sample project, behind a C interface.
//!
//! The crate `tokenizer` turns text into token ids and back; `checksum` is the CRC-32 that guards them. Every function
//! here takes a pointer and a length, never allocates on behalf of the caller, and accepts a null pointer with length 0.

// Before edition 2024 an unsafe function's body is one unsafe block; a compiler of 2022 warns of blocks inside it.
#![deny(unsafe_op_in_unsafe_fn)]

use std::slice;

use mlc_sample_checksum::crc32;
use mlc_sample_tokenizer::{decode, encode};

/// Bytes of a C caller.
///
/// # Safety
/// `data` must be readable for `len` bytes, or `len` must be 0.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        &[]
    } else {
        unsafe { slice::from_raw_parts(data, len) }
    }
}

/// Copies as much of `values` as fits and returns how much there was, so that a caller may ask for the size first.
///
/// # Safety
/// `out` must be writable for `capacity` elements, or `capacity` must be 0.
unsafe fn copy_out<T: Copy>(values: &[T], out: *mut T, capacity: usize) -> usize {
    let count = values.len().min(capacity);
    if count > 0 {
        unsafe { slice::from_raw_parts_mut(out, count) }.copy_from_slice(&values[..count]);
    }
    values.len()
}

/// CRC-32 (IEEE 802.3) of `len` bytes.
///
/// # Safety
/// `data` must be readable for `len` bytes, or `len` must be 0.
#[no_mangle]
pub unsafe extern "C" fn mlc_sample_rust_crc32(data: *const u8, len: usize) -> u32 {
    crc32(unsafe { bytes(data, len) })
}

/// Encodes `len` bytes of text; writes at most `capacity` ids and returns how many there are.
///
/// # Safety
/// `text` must be readable for `len` bytes and `out` writable for `capacity` ids (either may be 0).
#[no_mangle]
pub unsafe extern "C" fn mlc_sample_rust_encode(text: *const u8, len: usize, out: *mut u32, capacity: usize) -> usize {
    let ids = encode(unsafe { bytes(text, len) });
    unsafe { copy_out(&ids, out, capacity) }
}

/// Decodes `len` ids; writes at most `capacity` bytes and returns how many there are. Unknown ids decode to nothing.
///
/// # Safety
/// `ids` must be readable for `len` ids and `out` writable for `capacity` bytes (either may be 0).
#[no_mangle]
pub unsafe extern "C" fn mlc_sample_rust_decode(ids: *const u32, len: usize, out: *mut u8, capacity: usize) -> usize {
    let ids = if len == 0 {
        &[]
    } else {
        unsafe { slice::from_raw_parts(ids, len) }
    };
    unsafe { copy_out(&decode(ids), out, capacity) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_asked_first_and_nothing_is_written() {
        let text = b"the model";
        let needed = unsafe { mlc_sample_rust_encode(text.as_ptr(), text.len(), std::ptr::null_mut(), 0) };
        assert_eq!(needed, encode(text).len());
    }

    #[test]
    fn null_with_length_zero_is_empty() {
        assert_eq!(unsafe { mlc_sample_rust_crc32(std::ptr::null(), 0) }, 0);
    }
}
