//! When what was unlinked may be freed.
//!
//! A worker enters before it follows a pointer into the zone that somebody may replace, and leaves
//! when it is done with what it found, in the same callback. Who replaces a pointer advances the
//! epoch after that, and frees what it replaced when no worker is left that entered before. (Epoch
//! based reclamation: K. Fraser, "Practical lock-freedom", 2004, with one counter for all.)

#[cfg(loom)]
use loom::sync::atomic::{fence, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{fence, AtomicU64, Ordering};

/// Not within a visit.
const OUTSIDE: u64 = 0;

/// The counter of replacements, from 1 on.
#[repr(transparent)]
pub struct Epoch(AtomicU64);

/// Whether a worker is within a visit, and since which epoch.
#[repr(transparent)]
pub struct Presence(AtomicU64);

/// A visit: what a worker finds in the zone meanwhile is not freed before it is dropped.
pub struct Visit<'a>(&'a Presence);

impl Default for Epoch {
    /// The first epoch.
    fn default() -> Self {
        Self(AtomicU64::new(OUTSIDE + 1))
    }
}

impl Default for Presence {
    /// A worker that is not within a visit.
    fn default() -> Self {
        Self(AtomicU64::new(OUTSIDE))
    }
}

impl Epoch {
    /// To be called after something was unlinked: returns the last epoch in which it was found.
    pub fn advance(&self) -> u64 {
        // Pairs with the one in `enter`: either a visitor is seen by `is_over`, or it does not find
        // what was unlinked any more.
        fence(Ordering::SeqCst);
        self.0.fetch_add(1, Ordering::AcqRel)
    }
}

impl Presence {
    /// Begins a visit.
    #[inline]
    pub fn enter(&self, epoch: &Epoch) -> Visit<'_> {
        self.0.store(epoch.0.load(Ordering::Acquire), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Visit(self)
    }

    /// Whether what was found until `last` is not used by this worker any more.
    pub fn is_over(&self, last: u64) -> bool {
        let since = self.0.load(Ordering::Acquire);
        since == OUTSIDE || since > last
    }

    /// Ends the visit of a worker that died within it.
    pub fn clear(&self) {
        self.0.store(OUTSIDE, Ordering::Release);
    }
}

impl Drop for Visit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.clear();
    }
}

#[cfg(all(test, loom))]
mod model {
    //! Every interleaving of a visitor and of one who replaces what it visits.

    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::Arc;
    use loom::thread;

    /// What the visitor does before it follows the pointer.
    type Enter = fn(&Presence, &Epoch);

    struct World {
        epoch: Epoch,
        presence: Presence,
        current: AtomicUsize,
        freed: [AtomicUsize; 2],
    }

    fn explore(enter: Enter, advance: fn(&Epoch) -> u64) {
        loom::model(move || {
            let world = Arc::new(World {
                epoch: Epoch::default(),
                presence: Presence::default(),
                current: AtomicUsize::new(0),
                freed: [AtomicUsize::new(0), AtomicUsize::new(0)],
            });
            let visitor = {
                let world = world.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        enter(&world.presence, &world.epoch);
                        let found = world.current.load(Ordering::Acquire);
                        let freed = world.freed[found].load(Ordering::Acquire);
                        assert_eq!(freed, 0, "what was found is used after it was freed");
                        world.presence.clear();
                    }
                })
            };
            world.current.store(1, Ordering::Release);
            let last = advance(&world.epoch);
            if world.presence.is_over(last) {
                world.freed[0].store(1, Ordering::Release);
            }
            visitor.join().unwrap();
        });
    }

    fn enter(presence: &Presence, epoch: &Epoch) {
        std::mem::forget(presence.enter(epoch));
    }

    #[test]
    fn nothing_is_freed_under_a_visitor() {
        explore(enter, Epoch::advance);
    }

    /// The model finds what it is there to find: a visitor that does not make itself seen first.
    #[test]
    #[should_panic(expected = "used after it was freed")]
    fn a_visitor_without_a_fence_is_found() {
        explore(
            |presence, epoch| presence.0.store(epoch.0.load(Ordering::Acquire), Ordering::Relaxed),
            Epoch::advance,
        );
    }

    /// Likewise: one who looks for visitors before it has unlinked for all to see.
    #[test]
    #[should_panic(expected = "used after it was freed")]
    fn a_replacement_without_a_fence_is_found() {
        explore(enter, |epoch| epoch.0.fetch_add(1, Ordering::AcqRel));
    }
}
