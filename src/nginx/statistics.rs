//! What nginx itself counts.

use std::ffi::CStr;
use std::ptr::addr_of;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use ngx::ffi::{
    ngx_atomic_t, ngx_cycle, ngx_list_part_t, ngx_pagesize, ngx_parent, ngx_shm_zone_t,
    ngx_slab_pool_t, ngx_slab_stat_t, NGINX_VERSION,
};

use super::conf;
use crate::logic::plus::instance::{Pages, Slab, Slabs, Slot, Slots};

/// The version of nginx.
pub fn version() -> String {
    NGINX_VERSION.to_string_lossy().into_owned()
}

/// The id of the process that has started this one.
pub fn parent() -> u32 {
    // SAFETY: nginx sets it before each fork.
    unsafe { addr_of!(ngx_parent).read() as u32 }
}

/// What `stub_status` shows.
#[derive(Clone, Copy, Debug)]
pub struct Stub {
    /// Connections that were accepted.
    pub accepted: usize,
    /// Those that were handled.
    pub handled: usize,
    /// Requests.
    pub requests: usize,
    /// Connections of clients, the idle ones as well.
    pub active: usize,
    /// Those that wait for a request.
    pub waiting: usize,
    /// Requests whose header is being read.
    pub reading: usize,
    /// Requests that are worked on.
    pub writing: usize,
}

/// What `stub_status` shows. `None`: nginx was built without it.
pub fn stub() -> Option<Stub> {
    Some(Stub {
        accepted: counter(c"ngx_stat_accepted")?,
        handled: counter(c"ngx_stat_handled")?,
        requests: counter(c"ngx_stat_requests")?,
        active: counter(c"ngx_stat_active")?,
        waiting: counter(c"ngx_stat_waiting")?,
        reading: counter(c"ngx_stat_reading")?,
        writing: counter(c"ngx_stat_writing")?,
    })
}

/// A counter of nginx, by the name of the pointer to it.
///
/// It is looked up in the nginx that runs, as that need not be the one that the module was built with: a
/// module that refers to it could not be loaded where it is not there.
fn counter(name: &CStr) -> Option<usize> {
    // SAFETY: nginx defines these names as pointers to its counters, of which it has one memory from its
    // start on, shared by all processes; before, they point to a word of its own. The names are in the
    // executable itself, which is never unloaded.
    unsafe {
        let place = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).cast::<*mut ngx_atomic_t>();
        let counter = place.as_ref()?.cast::<usize>();
        (!counter.is_null()).then(|| AtomicUsize::from_ptr(counter).load(Ordering::Relaxed))
    }
}

/// The shared zones of nginx, by their names.
pub fn slabs() -> Slabs {
    let mut slabs = Slabs::new();
    // SAFETY: the list of zones of a cycle that runs is complete, and its zones are mapped.
    unsafe {
        let mut part: *const ngx_list_part_t = &(*ngx_cycle).shared_memory.part;
        while let Some(current) = part.as_ref() {
            let zones = current.elts.cast::<ngx_shm_zone_t>();
            for zone in slice::from_raw_parts(zones, current.nelts) {
                let name = String::from_utf8_lossy(conf::bytes(zone.shm.name)).into_owned();
                slabs.insert(name, slab(zone.shm.addr.cast()));
            }
            part = current.next;
        }
    }
    slabs
}

/// # Safety
/// `pool` is the allocator of a zone that is mapped.
unsafe fn slab(pool: *const ngx_slab_pool_t) -> Slab {
    // SAFETY: an allocator has so many slots with their statistics, which do not move. Others change the
    // numbers meanwhile: each is a word, and is read once.
    unsafe {
        let read = |number: *const usize| number.read_volatile();
        let page = addr_of!(ngx_pagesize).read();
        let total = usize::try_from((*pool).last.offset_from((*pool).pages)).unwrap_or(0);
        let free = read(addr_of!((*pool).pfree));
        let least = (*pool).min_shift;
        // As in ngx_slab_init(): the sizes are powers of two, and the largest is half a page.
        let count = page.trailing_zeros() as usize - least;
        let slot = |number: usize| {
            let stat: *const ngx_slab_stat_t = (*pool).stats.add(number);
            let used = read(addr_of!((*stat).used));
            let slot = Slot {
                used,
                free: read(addr_of!((*stat).total)).saturating_sub(used),
                reqs: read(addr_of!((*stat).reqs)),
                fails: read(addr_of!((*stat).fails)),
            };
            (1 << (least + number), slot)
        };
        Slab {
            pages: Pages { used: total.saturating_sub(free), free },
            slots: Slots((0..count).map(slot).collect()),
        }
    }
}
