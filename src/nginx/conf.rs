//! Directives: their words, their place in the files, and their refusal.

use std::ffi::{c_char, CStr, CString, OsStr};
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::slice;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    ngx_conf_full_name, ngx_conf_t, ngx_int_t, ngx_pool_t, ngx_str_t, NGX_LOG_EMERG, NGX_OK,
};

use super::log;

/// The value that a directive handler returns when all is well.
pub const OK: *mut c_char = std::ptr::null_mut();

/// The bytes of an nginx string.
///
/// # Safety
/// The string is valid, and so it stays for `'a`.
pub unsafe fn bytes<'a>(string: ngx_str_t) -> &'a [u8] {
    if string.len == 0 {
        return &[];
    }
    // SAFETY: a valid nginx string that is not empty has so many bytes.
    unsafe { slice::from_raw_parts(string.data, string.len) }
}

/// An nginx string over bytes that live for as long as it is used. nginx writes to none of the
/// strings that it is given here.
pub fn string(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// Where a directive stands.
#[derive(Clone, Debug)]
pub struct Position {
    file: String,
    line: usize,
}

impl Position {
    /// The place that nginx has kept of a block.
    ///
    /// # Safety
    /// `file` is a string of nginx that ends with a zero, or null.
    pub unsafe fn of_block(file: *const u8, line: usize) -> Self {
        let file = if file.is_null() {
            "-".to_owned()
        } else {
            // SAFETY: as the caller says.
            unsafe { CStr::from_ptr(file.cast()) }.to_string_lossy().into_owned()
        };
        Self { file, line }
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The configuration that is being read. Never made: it is what nginx's `ngx_conf_t` is seen as.
#[repr(transparent)]
pub struct Conf(ngx_conf_t);

impl Conf {
    /// # Safety
    /// `cf` is what nginx calls a handler with; the result is used during that call only.
    pub unsafe fn from_ptr<'a>(cf: *mut ngx_conf_t) -> &'a mut Self {
        // SAFETY: the layout is the same, and the handler is the only one that uses it meanwhile.
        unsafe { &mut *cf.cast() }
    }

    /// What nginx calls it.
    pub fn as_ptr(&mut self) -> *mut ngx_conf_t {
        &mut self.0
    }

    /// The pool of the cycle.
    pub fn pool(&self) -> *mut ngx_pool_t {
        self.0.pool
    }

    /// The words of the directive, its name first.
    pub fn words(&self) -> Vec<&[u8]> {
        // SAFETY: while a handler runs, args is an array of valid strings.
        unsafe { (*self.0.args).as_slice::<ngx_str_t>().iter().map(|word| bytes(*word)).collect() }
    }

    /// Where the reader is: in a handler, at the directive.
    pub fn position(&self) -> Position {
        // SAFETY: conf_file is null where the configuration does not come from a file, and valid
        // otherwise.
        unsafe {
            match self.0.conf_file.as_ref() {
                Some(file) => Position {
                    file: String::from_utf8_lossy(bytes(file.file.name)).into_owned(),
                    line: file.line,
                },
                None => Position { file: "-".to_owned(), line: 0 },
            }
        }
    }

    /// The whole name of a file that is named relative to the configuration. `None`: there is no
    /// memory.
    pub fn full_name(&mut self, name: &str) -> Option<PathBuf> {
        // nginx wants a zero behind the name, which it does not count.
        let bytes = CString::new(name).ok()?;
        let mut full = string(bytes.as_bytes());
        // SAFETY: the cycle is the one that is being made; nginx leaves the string alone, or puts
        // another in its place that lives in the pool of the cycle.
        unsafe {
            let code = ngx_conf_full_name(self.0.cycle, &mut full, 1);
            (code == NGX_OK as ngx_int_t)
                .then(|| PathBuf::from(OsStr::from_bytes(self::bytes(full))))
        }
    }

    /// Refuses the directive that is being handled: the message goes to the log with the directive
    /// and its place.
    pub fn refuse(&mut self, message: impl Display) -> *mut c_char {
        let name = String::from_utf8_lossy(self.words()[0]).into_owned();
        let position = self.position();
        self.refuse_at(&position, format_args!("\"{name}\" directive: {message}"));
        NGX_CONF_ERROR
    }

    /// Refuses what stands at `position`, after it was read.
    pub fn refuse_at(&mut self, position: &Position, message: impl Display) {
        // SAFETY: the log is valid while the configuration is read.
        unsafe {
            log::write_to(self.0.log, NGX_LOG_EMERG, format_args!("{message} in {position}"));
        }
    }
}
