//! The workers that use the zone.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::lock::is_alive;
use super::Slab;

/// Nobody has the slot.
const FREE: u32 = 0;

/// The place of one worker process. Slots are never freed, but used again.
#[repr(C)]
pub struct Slot {
    next: AtomicPtr<Slot>,
    process: AtomicU32,
    number: AtomicU32,
    configuration: AtomicU64,
    seen: AtomicU64,
}

impl Slot {
    pub(super) fn create(slab: &impl Slab, next: *mut Self) -> Option<*mut Self> {
        let slot = slab.allocate(Layout::new::<Self>())?.cast::<Self>();
        // SAFETY: the memory holds a Self, and nobody else knows of it yet.
        unsafe {
            slot.write(Self {
                next: AtomicPtr::new(next),
                process: AtomicU32::new(FREE),
                number: AtomicU32::new(0),
                configuration: AtomicU64::new(0),
                seen: AtomicU64::new(0),
            });
        }
        Some(slot.as_ptr())
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

    /// Takes the slot for a process, unless a live one has it.
    ///
    /// `configuration` is the number of the configuration that the worker runs; `number` is that of
    /// the worker in it.
    pub(super) fn claim(&self, process: u32, number: u32, configuration: u64, now: u64) -> bool {
        let owner = self.process.load(Ordering::Relaxed);
        if self.is_taken()
            || self
                .process
                .compare_exchange(owner, process, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        self.number.store(number, Ordering::Relaxed);
        self.configuration.store(configuration, Ordering::Relaxed);
        self.seen.store(now, Ordering::Release);
        true
    }

    /// Gives the slot back, at the end of the process that has it.
    pub fn release(&self) {
        self.process.store(FREE, Ordering::Release);
    }

    /// Whether a live process has it.
    pub fn is_taken(&self) -> bool {
        let process = self.process.load(Ordering::Relaxed);
        process != FREE && is_alive(process)
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
