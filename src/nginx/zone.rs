//! Shared zones of nginx.

use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr::NonNull;

use ngx::ffi::{
    ngx_cycle, ngx_list_part_t, ngx_module_t, ngx_shared_memory_add, ngx_shm_zone_init_pt,
    ngx_shm_zone_t, ngx_shmtx_force_unlock, ngx_shmtx_t, ngx_shmtx_trylock, ngx_shmtx_unlock,
    ngx_slab_alloc_locked, ngx_slab_free_locked, ngx_slab_pool_t,
};

use super::conf::{self, Conf};
use crate::shm::lock::is_alive;
use crate::shm::Slab;

/// The smallest zone, in pages: with fewer, nginx's allocator has no room for anything.
const MIN_PAGES: usize = 8;

/// The smallest size of a zone, in bytes.
pub fn min_size() -> usize {
    // SAFETY: nginx sets it at its start.
    MIN_PAGES * unsafe { std::ptr::addr_of!(ngx::ffi::ngx_pagesize).read() }
}

/// Declares a zone. `None`: nginx refused it, and logged why.
pub fn declare(
    cf: &mut Conf,
    name: &str,
    size: usize,
    module: &'static ngx_module_t,
    init: ngx_shm_zone_init_pt,
    data: *mut c_void,
) -> Option<NonNull<ngx_shm_zone_t>> {
    let tag = std::ptr::from_ref(module).cast_mut().cast();
    // SAFETY: nginx keeps the name: a copy in the pool of the configuration lives as long.
    unsafe {
        let pool = (*cf.as_ptr()).pool;
        let bytes = NonNull::new(ngx::ffi::ngx_pnalloc(pool, name.len()).cast::<u8>())?;
        bytes.copy_from_nonoverlapping(NonNull::from(name).cast(), name.len());
        let mut name = conf::string(std::slice::from_raw_parts(bytes.as_ptr(), name.len()));
        let mut zone = NonNull::new(ngx_shared_memory_add(cf.as_ptr(), &mut name, size, tag))?;
        zone.as_mut().init = init;
        zone.as_mut().data = data;
        Some(zone)
    }
}

/// The zone that the running cycle has under the name of `zone`. While a new cycle is prepared, that
/// is the one before, at the very start a stub without zones.
pub fn of_running_cycle(zone: &ngx_shm_zone_t) -> Option<NonNull<ngx_shm_zone_t>> {
    // SAFETY: ngx_cycle is valid from the beginning of main() on, and its list of zones is a valid
    // nginx list.
    unsafe {
        let mut part: *const ngx_list_part_t = &(*ngx_cycle).shared_memory.part;
        while let Some(current) = part.as_ref() {
            let zones = current.elts.cast::<ngx_shm_zone_t>();
            for index in 0..current.nelts {
                let candidate = zones.add(index);
                if (*candidate).tag == zone.tag
                    && conf::bytes((*candidate).shm.name) == conf::bytes(zone.shm.name)
                {
                    return NonNull::new(candidate);
                }
            }
            part = current.next;
        }
    }
    None
}

/// How often a contender looks at the mutex before it gives up the processor.
const SPINS: u32 = 1000;

/// How often a contender gives up the processor before it asks whether the owner is alive.
const YIELDS: u32 = 50;

/// Locks a mutex of nginx, whose state is the id of its owner.
///
/// Not by `ngx_shmtx_lock`: the master releases the mutex of a worker that died only when it learns of
/// the death, which it does not while it prepares a configuration, and it needs the mutex for that.
///
/// # Safety
/// The mutex is valid, only this function locks it, and this process does not hold it.
unsafe fn lock_mutex(mutex: &mut ngx_shmtx_t) {
    loop {
        for _ in 0..YIELDS {
            for _ in 0..SPINS {
                // SAFETY: valid, as the caller says.
                if unsafe { ngx_shmtx_trylock(mutex) } != 0 {
                    return;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        // SAFETY: the state is a word of the zone, which others change by atomic operations. The mutex
        // is released only if the dead process still has it, by compare and exchange.
        unsafe {
            let owner = std::ptr::read_volatile(mutex.lock) as u32;
            if owner != 0 && !is_alive(u64::from(owner)) {
                ngx_shmtx_force_unlock(mutex, owner as _);
            }
        }
    }
}

/// The allocator of a zone, locked.
pub struct LockedSlab {
    pool: NonNull<ngx_slab_pool_t>,
}

impl LockedSlab {
    /// Locks the allocator of a zone.
    ///
    /// # Safety
    /// The zone is mapped, and stays so while the result lives; this process does not hold the lock
    /// already.
    pub unsafe fn lock(zone: &ngx_shm_zone_t) -> Option<Self> {
        let mut pool = NonNull::new(zone.shm.addr)?.cast::<ngx_slab_pool_t>();
        // SAFETY: a mapped zone begins with its allocator.
        unsafe {
            lock_mutex(&mut pool.as_mut().mutex);
            // A full zone is reported by us, with what did not fit.
            pool.as_mut().set_log_nomem(0);
        }
        Some(Self { pool })
    }

    /// How many bytes are free, counting whole pages only.
    pub fn free_bytes(&self) -> usize {
        // SAFETY: mapped and locked; nginx sets the size of a page at its start.
        unsafe { self.pool.as_ref().pfree * std::ptr::addr_of!(ngx::ffi::ngx_pagesize).read() }
    }

    /// What was stored by [`set_root`](Self::set_root); null before.
    pub fn root(&self) -> *mut c_void {
        // SAFETY: mapped, as `lock` was told.
        unsafe { self.pool.as_ref().data }
    }

    /// Stores where everything in the zone is found from.
    pub fn set_root(&mut self, root: *mut c_void) {
        // SAFETY: mapped and locked.
        unsafe { self.pool.as_mut().data = root }
    }
}

impl Drop for LockedSlab {
    fn drop(&mut self) {
        // SAFETY: mapped, and locked by this process.
        unsafe { ngx_shmtx_unlock(&mut self.pool.as_mut().mutex) }
    }
}

// SAFETY: the memory lies in the zone, which all processes of this nginx map at the same address.
// nginx's allocator aligns what is smaller than a page to its size rounded up to a power of two, and
// the rest to pages.
unsafe impl Slab for LockedSlab {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let size = layout.size().max(layout.align());
        // SAFETY: locked.
        NonNull::new(unsafe { ngx_slab_alloc_locked(self.pool.as_ptr(), size) }.cast())
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: locked; the rest is the caller's.
        unsafe { ngx_slab_free_locked(self.pool.as_ptr(), memory.as_ptr().cast()) }
    }
}
