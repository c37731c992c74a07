//! The error log.

use std::fmt;
use std::marker::PhantomData;

use ngx::ffi::{ngx_cycle_t, ngx_log_t, ngx_uint_t};
use ngx::log::ngx_cycle_log;
use ngx::ngx_log_error;

use super::process;

/// Writes a line to the log of the running cycle, at one of the `NGX_LOG_*` levels.
pub fn write(level: u32, message: fmt::Arguments<'_>) {
    // SAFETY: the log of the cycle is looked up for each line and not kept, so that it is that of
    // a live cycle.
    unsafe { write_to(ngx_cycle_log().as_ptr(), level, message) }
}

/// Where it is told what becomes of a cycle that is about to run.
pub struct CycleLog<'a> {
    log: *mut ngx_log_t,
    of_cycle: PhantomData<&'a ngx_cycle_t>,
}

impl<'a> CycleLog<'a> {
    /// The log of that cycle: at a start, what [`write()`] writes goes to standard error alone. Where a
    /// configuration is tested only, that is the place.
    ///
    /// # Safety
    /// The log files of the cycle are open.
    pub unsafe fn new(cycle: &'a ngx_cycle_t) -> Self {
        let log = if process::is_test() { ngx_cycle_log().as_ptr() } else { cycle.log };
        Self { log, of_cycle: PhantomData }
    }

    /// Writes a line, at one of the `NGX_LOG_*` levels.
    pub fn write(&self, level: u32, message: fmt::Arguments<'_>) {
        // SAFETY: the log is that of the cycle, which lives, and whose files are open, as the caller of
        // `new` has promised; or that of the one before, which lives until the new one runs.
        unsafe { write_to(self.log, level, message) }
    }
}

/// Writes a line to `log`.
///
/// # Safety
/// `log` is the log of something that lives: of the cycle, a configuration or a connection.
pub unsafe fn write_to(log: *mut ngx_log_t, level: u32, message: fmt::Arguments<'_>) {
    ngx_log_error!(level as ngx_uint_t, log, "checkups: {}", message);
}
