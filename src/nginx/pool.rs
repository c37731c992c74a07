//! Memory of a pool of nginx.

use std::ptr::NonNull;

use ngx::ffi::{ngx_pnalloc, ngx_pool_t};

/// A copy of bytes. `None`: there is no memory.
///
/// # Safety
/// The pool is valid, and outlives the result.
pub unsafe fn copy<'a>(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<&'a [u8]> {
    // SAFETY: the pool is valid; what it gives has room for the bytes, and nobody else knows of it.
    unsafe {
        let memory = NonNull::new(ngx_pnalloc(pool, bytes.len().max(1)))?.cast::<u8>();
        memory.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        Some(std::slice::from_raw_parts(memory.as_ptr(), bytes.len()))
    }
}

/// A copy of a text. `None`: there is no memory.
///
/// # Safety
/// As of [`copy`].
pub unsafe fn copy_str<'a>(pool: *mut ngx_pool_t, text: &str) -> Option<&'a str> {
    // SAFETY: as of the caller; the copy of a str is one.
    unsafe { copy(pool, text.as_bytes()).map(|bytes| std::str::from_utf8_unchecked(bytes)) }
}

/// A copy of bytes as a string of nginx that lies in the pool itself. `None`: there is no memory, or
/// there are no bytes.
///
/// # Safety
/// As of [`copy`].
#[cfg(ngx_upstream_sid)]
pub unsafe fn copy_string(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<*mut ngx::ffi::ngx_str_t> {
    use ngx::ffi::{ngx_palloc, ngx_str_t};
    if bytes.is_empty() {
        return None;
    }
    // SAFETY: the pool is valid; ngx_palloc aligns for any type.
    unsafe {
        let copied = copy(pool, bytes)?;
        let string = NonNull::new(ngx_palloc(pool, size_of::<ngx_str_t>()))?.cast::<ngx_str_t>();
        string.write(super::conf::string(copied));
        Some(string.as_ptr())
    }
}
