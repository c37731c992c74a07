//! The workers that use the zone.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::epoch::Presence;
use super::lock::is_alive;
use super::Slab;

/// Nobody has the slot.
const FREE: u64 = 0;

/// The place of one worker process. Slots are never freed, but used again.
#[repr(C)]
pub struct Slot {
    next: AtomicPtr<Slot>,
    index: u32,
    presence: Presence,
    process: AtomicU64,
    number: AtomicU32,
    configuration: AtomicU64,
    seen: AtomicU64,
}

impl Slot {
    pub(super) fn create(slab: &impl Slab, index: u32, next: *mut Self) -> Option<*mut Self> {
        let slot = slab.allocate(Layout::new::<Self>())?.cast::<Self>();
        // SAFETY: the memory holds a Self, and nobody else knows of it yet.
        unsafe { slot.write(Self { next: AtomicPtr::new(next), index, ..Self::detached(0) }) }
        Some(slot.as_ptr())
    }

    /// The slot of a worker that runs this configuration, which is in no zone, and has counters in
    /// no server.
    pub(super) fn detached(configuration: u64) -> Self {
        Self {
            next: AtomicPtr::new(std::ptr::null_mut()),
            index: u32::MAX,
            presence: Presence::default(),
            process: AtomicU64::new(FREE),
            number: AtomicU32::new(0),
            configuration: AtomicU64::new(configuration),
            seen: AtomicU64::new(0),
        }
    }

    /// The slots from `head` on.
    pub(super) fn list(head: &AtomicPtr<Self>) -> impl Iterator<Item = &'static Self> {
        let mut next = NonNull::new(head.load(Ordering::Acquire));
        std::iter::from_fn(move || {
            // SAFETY: slots live as long as the zone.
            let slot: &'static Self = unsafe { next?.as_ref() };
            next = NonNull::new(slot.next.load(Ordering::Acquire));
            Some(slot)
        })
    }

    /// Takes the slot for a process, unless another has it. A slot whose process died is taken only
    /// after it was freed.
    ///
    /// `configuration` is the number of the configuration that the worker runs; `number` is that of
    /// the worker in it.
    pub(super) fn claim(&self, process: u64, number: u32, configuration: u64, now: u64) -> bool {
        if self
            .process
            .compare_exchange(FREE, process, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.number.store(number, Ordering::Relaxed);
        self.configuration.store(configuration, Ordering::Relaxed);
        self.seen.store(now, Ordering::Release);
        true
    }

    /// Whether a process has it that died.
    pub(super) fn is_orphaned(&self) -> bool {
        let process = self.process.load(Ordering::Relaxed);
        process != FREE && !is_alive(process)
    }

    /// Frees the slot of a process that died, or that ends.
    pub(super) fn free(&self) {
        self.presence.clear();
        self.seen.store(0, Ordering::Relaxed);
        self.process.store(FREE, Ordering::Release);
    }

    /// Where the worker has its counters.
    #[inline]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Whether the worker is within a visit.
    #[inline]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Whether a live process has it.
    pub fn is_taken(&self) -> bool {
        let process = self.process.load(Ordering::Relaxed);
        process != FREE && is_alive(process)
    }

    /// The id of the process that has it, or had it.
    pub fn process(&self) -> u32 {
        // The upper half of its identity is when it started.
        self.process.load(Ordering::Relaxed) as u32
    }

    /// The number of the worker among those of its configuration.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// The number of the configuration that it runs.
    pub fn configuration(&self) -> u64 {
        self.configuration.load(Ordering::Relaxed)
    }

    /// When it gave its last sign of life, in monotonic milliseconds.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// A sign of life.
    pub fn beat(&self, now: u64) {
        self.seen.store(now, Ordering::Relaxed);
    }
}
