//! The times that a cluster sets for the requests to it.
//!
//! nginx has them in the settings of the location, which a request only refers to. So it refers to a
//! copy instead, in which they are others. There is one copy in a worker for each of those settings:
//! since 1.29.7 nginx uses a kept connection again only for requests with the very same settings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr;

use ngx::ffi::{ngx_http_upstream_conf_t, ngx_msec_t, ngx_palloc, ngx_pool_t};

use crate::logic::settings::{Limits, Time, Timeouts};

/// So many copies are kept at the most. There are as many as locations that proxy to such clusters,
/// unless a module makes settings for each request.
const MOST: usize = 4096;

type Settings = ngx_http_upstream_conf_t;

/// What is set: see [`settings`].
type Times = [Option<Time>; 4];

struct Copied {
    /// What the settings of the location were when they were copied.
    original: Settings,
    copy: Settings,
}

thread_local! {
    static COPIES: RefCell<HashMap<(*const Settings, Times), Box<Copied>>> = RefCell::default();
}

/// The settings for a request to a cluster with these times, in place of those of its location.
/// `None`: those of the location, as nothing is set, or there is no memory.
///
/// # Safety
/// `original` are the settings of a location, and `pool` is that of the request.
pub(super) unsafe fn settings(
    original: *const Settings,
    timeouts: Timeouts,
    limits: Limits,
    pool: *mut ngx_pool_t,
) -> Option<*mut Settings> {
    let times = [timeouts.connect, timeouts.send, timeouts.read, limits.tries_timeout];
    if times == [None; 4] {
        return None;
    }
    COPIES.with_borrow_mut(|copies| {
        // SAFETY: as the caller says; the settings are plain data of C, for which a copy does.
        unsafe {
            let key = (original, times);
            if let Some(known) = copies.get_mut(&key) {
                if is_same(&known.original, original) {
                    return Some(ptr::from_mut(&mut known.copy));
                }
            } else if copies.len() < MOST {
                let copied =
                    Copied { original: ptr::read(original), copy: changed(original, times) };
                let known = copies.entry(key).or_insert(Box::new(copied));
                return Some(ptr::from_mut(&mut known.copy));
            }
            // These are other settings at an address that was used before: they are not those of a
            // location, but of this request.
            let copy = ngx_palloc(pool, size_of::<Settings>()).cast::<Settings>();
            if copy.is_null() {
                return None;
            }
            copy.write(changed(original, times));
            Some(copy)
        }
    })
}

/// # Safety
/// Both are settings of nginx, which were allocated as zeros.
unsafe fn is_same(one: *const Settings, other: *const Settings) -> bool {
    // SAFETY: so many bytes are there, and none of them is undefined.
    unsafe { libc::memcmp(one.cast(), other.cast(), size_of::<Settings>()) == 0 }
}

/// # Safety
/// `original` are settings of nginx.
unsafe fn changed(original: *const Settings, times: Times) -> Settings {
    // SAFETY: they are plain data of C.
    let mut copy = unsafe { ptr::read(original) };
    let milliseconds = |time: Time| time.as_milliseconds() as ngx_msec_t;
    let [connect, send, read, tries] = times.map(|time| time.map(milliseconds));
    copy.connect_timeout = connect.unwrap_or(copy.connect_timeout);
    copy.send_timeout = send.unwrap_or(copy.send_timeout);
    copy.read_timeout = read.unwrap_or(copy.read_timeout);
    if let Some(tries) = tries {
        let own = Some(copy.next_upstream_timeout).filter(|&own| own != 0);
        copy.next_upstream_timeout = own.map_or(tries, |own| own.min(tries));
    }
    copy
}
