//! The error log.

use std::fmt;

use ngx::ffi::{ngx_log_t, ngx_uint_t};
use ngx::log::ngx_cycle_log;
use ngx::ngx_log_error;

/// Writes a line to the log of the running cycle, at one of the `NGX_LOG_*` levels.
pub fn write(level: u32, message: fmt::Arguments<'_>) {
    // SAFETY: the log of the cycle is looked up for each line and not kept, so that it is that of
    // a live cycle.
    unsafe { write_to(ngx_cycle_log().as_ptr(), level, message) }
}

/// Writes a line to `log`.
///
/// # Safety
/// `log` is the log of something that lives: of the cycle, a configuration or a connection.
pub unsafe fn write_to(log: *mut ngx_log_t, level: u32, message: fmt::Arguments<'_>) {
    ngx_log_error!(level as ngx_uint_t, log, "checkups: {}", message);
}
