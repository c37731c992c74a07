//! The border between nginx and us: no panic crosses it.

use std::panic::{catch_unwind, AssertUnwindSafe};

use ngx::ffi::NGX_LOG_ALERT;

use super::log;

/// Runs the body of a callback. Where it panics, that is logged, and `fallback` is returned.
///
/// To be the whole body of every function that nginx calls: a panic that leaves an `extern "C"`
/// function aborts the process.
pub fn guard<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    // What the body changed before it panicked stays as it is: shared memory is valid at every
    // step, and a configuration that was being read is thrown away by the fallback.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        report();
        fallback
    })
}

#[cold]
#[inline(never)]
fn report() {
    log::write(NGX_LOG_ALERT, format_args!("a callback panicked, see above"));
}
