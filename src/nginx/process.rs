//! The process that we are in, and its time.

use std::mem::MaybeUninit;
use std::ptr::addr_of;

use ngx::ffi;

/// Whether this process handles requests: a worker, or the one process where there is no master.
pub fn handles_requests() -> bool {
    is(ffi::NGX_PROCESS_WORKER) || is(ffi::NGX_PROCESS_SINGLE)
}

/// Whether this process runs the checks: worker 0, or the one process where there is no master.
pub fn runs_checks() -> bool {
    handles_requests() && worker() == 0
}

fn is(kind: u32) -> bool {
    // SAFETY: nginx sets it before any module runs in the process.
    unsafe { addr_of!(ffi::ngx_process).read() == kind as ffi::ngx_uint_t }
}

/// Whether the configuration is only tested: nothing is to be changed outside.
pub fn is_test() -> bool {
    // SAFETY: nginx sets it at its start.
    unsafe { addr_of!(ffi::ngx_test_config).read() != 0 }
}

/// The number of this worker; 0 where there is no master.
pub fn worker() -> u32 {
    // SAFETY: nginx sets it before any module runs in the process.
    unsafe { addr_of!(ffi::ngx_worker).read() as u32 }
}

/// The id of this process.
pub fn id() -> u32 {
    // SAFETY: nginx sets it right after each fork.
    unsafe { addr_of!(ffi::ngx_pid).read() as u32 }
}

/// Whether this worker is to end, after the requests at work or at once.
pub fn is_exiting() -> bool {
    // SAFETY: plain globals of this single-threaded process; signal handlers write some of them.
    unsafe {
        addr_of!(ffi::ngx_exiting).read() != 0
            || addr_of!(ffi::ngx_quit).read_volatile() != 0
            || addr_of!(ffi::ngx_terminate).read_volatile() != 0
    }
}

/// The most connections that this worker may have.
pub fn connections() -> usize {
    // SAFETY: in a worker the cycle is complete.
    unsafe { (*ffi::ngx_cycle).connection_n }
}

/// How many workers the configuration asks for that `cycle` is made from.
///
/// # Safety
/// The configuration of `cycle` was read to its end.
pub unsafe fn configured_workers(cycle: *const ffi::ngx_cycle_t) -> usize {
    // SAFETY: the core module has its configuration in every cycle, at its index.
    unsafe {
        let index = (*addr_of!(ffi::ngx_core_module)).index;
        let core = (*cycle).conf_ctx.add(index).read().cast::<ffi::ngx_core_conf_t>();
        usize::try_from((*core).worker_processes).unwrap_or(1).max(1)
    }
}

/// How many workers the running configuration asks for.
pub fn workers() -> usize {
    // SAFETY: in a worker the cycle is complete.
    unsafe { configured_workers(ffi::ngx_cycle) }
}

/// The monotonic time in milliseconds, the same in all processes, as of the last event.
pub fn now() -> u64 {
    // SAFETY: nginx updates it between events, in this thread.
    unsafe { addr_of!(ffi::ngx_current_msec).read() as u64 }
}

/// The time in seconds since 1970, as of the last event.
pub fn seconds() -> i64 {
    // SAFETY: nginx updates it between events; the cached time it points to stays valid.
    unsafe { (*addr_of!(ffi::ngx_cached_time).read()).sec }
}

/// The time in milliseconds since 1970, as of the last event.
pub fn milliseconds() -> i64 {
    // SAFETY: nginx updates it between events; the cached time it points to stays valid.
    unsafe {
        let time = *addr_of!(ffi::ngx_cached_time).read();
        time.sec * 1000 + time.msec as i64
    }
}

/// A time in milliseconds since 1970 in the format ISO 8601: `2026-01-02T03:04:05.678Z`.
pub fn iso_time(milliseconds: i64) -> String {
    let mut tm = MaybeUninit::<ffi::ngx_tm_t>::zeroed();
    // SAFETY: nginx fills in the structure, of plain numbers.
    let tm = unsafe {
        ffi::ngx_gmtime(milliseconds.div_euclid(1000), tm.as_mut_ptr());
        tm.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        tm.tm_year,
        tm.tm_mon,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        milliseconds.rem_euclid(1000)
    )
}

/// What is added to a monotonic time in milliseconds to get the one since 1970, as of the last event.
pub fn clock_offset() -> i64 {
    milliseconds().saturating_sub(i64::try_from(now()).unwrap_or(i64::MAX))
}

/// A random number of at least 31 bits. nginx seeds the generator in every worker.
pub fn random() -> u64 {
    // SAFETY: no arguments, no memory of ours.
    unsafe { ffi::random() as u64 }
}

/// A time in seconds since 1970 as local time: `2026-01-02 03:04:05`.
pub fn local_time(seconds: i64) -> String {
    let mut tm = MaybeUninit::<ffi::ngx_tm_t>::zeroed();
    // SAFETY: nginx fills in the structure, of plain numbers.
    let tm = unsafe {
        ffi::ngx_localtime(seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    // Unlike C's localtime, nginx counts months from 1 and gives the whole year.
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec
    )
}
