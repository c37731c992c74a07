//! Memory of a pool of nginx.

use std::ptr::NonNull;

use ngx::ffi::{ngx_palloc, ngx_pnalloc, ngx_pool_t};

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

/// Puts a value into the pool, where it is never dropped. `None`: there is no memory.
///
/// # Safety
/// As of [`copy`].
pub unsafe fn place<'a, T: Copy>(pool: *mut ngx_pool_t, value: T) -> Option<&'a T> {
    const { assert!(align_of::<T>() <= align_of::<usize>()) };
    // SAFETY: the pool is valid; ngx_palloc aligns for any word.
    unsafe {
        let memory = NonNull::new(ngx_palloc(pool, size_of::<T>()))?.cast::<T>();
        memory.write(value);
        Some(memory.as_ref())
    }
}

/// A copy of bytes as a string of nginx that lies in the pool itself. `None`: there is no memory, or
/// there are no bytes.
///
/// # Safety
/// As of [`copy`].
#[cfg(ngx_upstream_sid)]
pub unsafe fn copy_string(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<*mut ngx::ffi::ngx_str_t> {
    use ngx::ffi::ngx_str_t;
    if bytes.is_empty() {
        return None;
    }
    // SAFETY: as of the caller.
    unsafe {
        let copied = copy(pool, bytes)?;
        let string: &ngx_str_t = place(pool, super::conf::string(copied))?;
        Some(std::ptr::from_ref(string).cast_mut())
    }
}
