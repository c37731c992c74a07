//! How each worker uses a server.
//!
//! Every worker has counters of its own, so that what a worker that died did not give back is known,
//! and none of them is written by two processes.

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{fence, AtomicU32};
#[cfg(not(loom))]
use std::sync::atomic::{fence, AtomicU32};

use super::{fault, Full, Slab};

/// The use that one worker makes of a server. Only that worker writes, and after its death who
/// clears its slot.
#[repr(C)]
#[derive(Default)]
pub struct Use {
    /// Requests at work on the server.
    connections: AtomicU32,
    /// Requests that still refer to the record of the server.
    pins: AtomicU32,
}

impl Use {
    fn change(counter: &AtomicU32, change: impl FnOnce(u32) -> u32) {
        counter.store(change(counter.load(Ordering::Relaxed)), Ordering::Release);
    }

    /// A request comes to the server.
    #[inline]
    pub fn begin(&self) {
        Self::change(&self.connections, |count| count + 1);
    }

    /// A request leaves the server.
    #[inline]
    pub fn end(&self) {
        Self::change(&self.connections, |count| count.saturating_sub(1));
    }

    /// Something begins to refer to the record.
    #[inline]
    pub fn pin(&self) {
        Self::change(&self.pins, |count| count + 1);
    }

    /// Something refers to the record no more.
    #[inline]
    pub fn unpin(&self) {
        Self::change(&self.pins, |count| count.saturating_sub(1));
    }

    #[cfg(any(test, feature = "development"))]
    pub(super) fn is_clear(&self) -> bool {
        self.connections.load(Ordering::Acquire) == 0 && self.pins.load(Ordering::Acquire) == 0
    }

    fn clear(&self) {
        self.connections.store(0, Ordering::Release);
        self.pins.store(0, Ordering::Release);
    }
}

/// The uses that all workers make of a server, by the indices of their slots.
#[repr(C)]
pub struct Uses {
    first: *const Use,
    length: u32,
    /// For the workers that there were no slots for when the server was made.
    more: AtomicPtr<Uses>,
}

impl Uses {
    /// The memory for so many uses.
    pub(super) fn layout(length: usize) -> Result<Layout, Full> {
        Layout::array::<Use>(length).map_err(|_| Full)
    }

    /// Uses in memory of the [`layout`](Self::layout).
    ///
    /// # Safety
    /// The memory is there for as long as the result.
    pub(super) unsafe fn write(memory: NonNull<Use>, length: usize) -> Self {
        for index in 0..length {
            // SAFETY: the memory has room for so many.
            unsafe { memory.add(index).write(Use::default()) }
        }
        Self {
            first: memory.as_ptr(),
            length: length as u32,
            more: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn here(&self) -> &[Use] {
        // SAFETY: `write` wrote so many.
        unsafe { slice::from_raw_parts(self.first, self.length as usize) }
    }

    fn more(&self) -> Option<&Self> {
        // SAFETY: null, or made by `extend`, and freed only with the server.
        unsafe { self.more.load(Ordering::Acquire).as_ref() }
    }

    fn blocks(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |uses| uses.more())
    }

    /// The use of the worker with the slot of this index. `None` only where `extend` was not called
    /// for it.
    #[inline]
    pub fn of(&self, slot: usize) -> Option<&Use> {
        match self.here().get(slot) {
            Some(found) => Some(found),
            None => self.more()?.of(slot - self.length as usize),
        }
    }

    /// Sees to it that there are uses for so many slots.
    pub(super) fn extend(&self, slab: &impl Slab, slots: usize) -> Result<(), Full> {
        let mut have = 0;
        let mut last = self;
        for block in self.blocks() {
            have += block.length as usize;
            last = block;
        }
        if have >= slots {
            return Ok(());
        }
        let length = slots - have;
        let (layout, uses_at) =
            Layout::new::<Self>().extend(Self::layout(length)?).map_err(|_| Full)?;
        let memory = slab.allocate(layout).ok_or(Full)?;
        // SAFETY: the memory has room for the block and its uses, and nobody else knows of it.
        unsafe {
            let block = memory.cast::<Self>();
            block.write(Self::write(memory.add(uses_at).cast(), length));
            last.more.store(block.as_ptr(), Ordering::Release);
        }
        Ok(())
    }

    /// Frees what [`extend`](Self::extend) has made.
    ///
    /// # Safety
    /// Nobody uses it any more.
    pub(super) unsafe fn free(&self, slab: &impl Slab) {
        let mut next = NonNull::new(self.more.load(Ordering::Acquire));
        while let Some(block) = next {
            // SAFETY: made by `extend`, and not freed yet.
            unsafe {
                next = NonNull::new(block.as_ref().more.load(Ordering::Acquire));
                slab.free(block.cast());
            }
        }
    }

    /// Gives back what a dead worker had.
    pub(super) fn clear(&self, slot: usize) {
        if let Some(found) = self.of(slot) {
            found.clear();
        }
    }

    /// Requests at work on the server, in all workers.
    #[inline]
    pub fn connections(&self) -> u32 {
        self.sum(|found| &found.connections)
    }

    /// Whether anything refers to the record of the server.
    pub(super) fn is_pinned(&self) -> bool {
        self.sum(|found| &found.pins) != 0
    }

    #[inline]
    fn sum(&self, counter: impl Fn(&Use) -> &AtomicU32) -> u32 {
        let mut sum = 0_u32;
        let mut next = Some(self);
        while let Some(block) = next {
            for found in block.here() {
                sum = sum.saturating_add(counter(found).load(Ordering::Acquire));
            }
            next = block.more();
        }
        sum
    }

    /// A request of the worker comes to the server, unless there are `most` there already (0: no
    /// limit). Whether it came.
    #[inline]
    pub fn begin_within(&self, own: &Use, most: u32) -> bool {
        own.begin();
        fault::point("begin");
        if most == 0 {
            return true;
        }
        // First be counted, then count: of two workers that come at once, one sees the other.
        fence(Ordering::SeqCst);
        if self.connections() <= most {
            return true;
        }
        own.end();
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shm::heap::Heap;

    fn uses(heap: &Heap, length: usize) -> Uses {
        let memory = heap.allocate(Uses::layout(length).unwrap()).unwrap();
        // SAFETY: the heap of the test lives on.
        unsafe { Uses::write(memory.cast(), length) }
    }

    #[test]
    fn counts_are_sums_and_a_dead_worker_gives_back() {
        let heap = Heap::default();
        let uses = uses(&heap, 2);
        assert!(uses.of(2).is_none());
        uses.extend(&heap, 5).unwrap();
        uses.extend(&heap, 3).unwrap();
        uses.extend(&heap, 6).unwrap();
        for slot in 0..6 {
            uses.of(slot).unwrap().begin();
            uses.of(slot).unwrap().pin();
        }
        assert!(uses.of(6).is_none());
        assert_eq!(uses.connections(), 6);
        uses.clear(0);
        uses.clear(5);
        uses.clear(6);
        assert_eq!(uses.connections(), 4);
        for slot in 1..5 {
            uses.of(slot).unwrap().end();
            assert!(uses.is_pinned());
            uses.of(slot).unwrap().unpin();
        }
        assert!(!uses.is_pinned());
        assert_eq!(uses.connections(), 0);
        let live = heap.live();
        // SAFETY: nobody uses them any more.
        unsafe { uses.free(&heap) };
        assert_eq!(heap.live(), live - 2);
    }

    #[test]
    fn the_limit_is_exact() {
        let heap = Heap::default();
        let uses = uses(&heap, 2);
        let own = [uses.of(0).unwrap(), uses.of(1).unwrap()];
        for (slot, came) in [(0, true), (1, true), (0, true), (1, false), (0, false)] {
            assert_eq!(uses.begin_within(own[slot], 3), came);
        }
        own[1].end();
        assert!(uses.begin_within(own[0], 3));
        assert!(uses.begin_within(own[0], 0));
        assert_eq!(uses.connections(), 4);
    }
}

#[cfg(all(test, loom))]
mod model {
    //! Every interleaving of two workers whose requests come to a server at once.

    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    struct Shared([Use; 2]);

    impl Shared {
        fn uses(&self) -> Uses {
            Uses { first: self.0.as_ptr(), length: 2, more: AtomicPtr::new(ptr::null_mut()) }
        }
    }

    /// Both come to a server that takes one at a time, by `come`, and stay.
    fn explore(come: fn(&Uses, &Use) -> bool) {
        loom::model(move || {
            let shared = Arc::new(Shared([Use::default(), Use::default()]));
            let other = {
                let shared = shared.clone();
                thread::spawn(move || come(&shared.uses(), &shared.0[1]))
            };
            let came = come(&shared.uses(), &shared.0[0]);
            assert!(!(other.join().unwrap() && came), "more than the limit");
        });
    }

    #[test]
    fn the_limit_holds() {
        explore(|uses, own| uses.begin_within(own, 1));
    }

    /// The model finds what it is there to find: a worker that counts before it is seen.
    #[test]
    #[should_panic(expected = "more than the limit")]
    fn counting_without_a_fence_is_found() {
        explore(|uses, own| {
            own.begin();
            uses.connections() <= 1
        });
    }
}
