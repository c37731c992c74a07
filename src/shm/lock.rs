//! A lock that no dead process holds.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// Nobody holds the lock.
const FREE: u32 = 0;

/// How often a contender looks at the lock before it gives up the processor.
const SPINS: u32 = 1000;

/// How often a contender gives up the processor before it asks whether the owner is alive.
const YIELDS: u32 = 50;

/// A mutex whose state is the id of the process that holds it, so that the next one can see that
/// the owner is dead and take over. For short critical sections of single-threaded processes.
///
/// A process that took over from a dead one finds what that one left half done:
/// [`was_abandoned`](Self::was_abandoned) tells.
#[repr(C)]
pub struct OwnerLock {
    owner: AtomicU32,
    abandoned: AtomicBool,
}

impl OwnerLock {
    /// Whether the present owner took over from a dead process and was not told so before.
    pub fn was_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) && self.abandoned.swap(false, Ordering::Relaxed)
    }

    fn take(&self, from: u32) -> Result<u32, u32> {
        self.owner.compare_exchange(from, own_id(), Ordering::Acquire, Ordering::Relaxed)
    }

    #[cold]
    fn wait(&self) {
        loop {
            for _ in 0..YIELDS {
                for _ in 0..SPINS {
                    if self.owner.load(Ordering::Relaxed) == FREE && self.take(FREE).is_ok() {
                        return;
                    }
                    hint::spin_loop();
                }
                thread::yield_now();
            }
            let owner = self.owner.load(Ordering::Relaxed);
            if owner != FREE && !is_alive(owner) && self.take(owner).is_ok() {
                self.abandoned.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}

// SAFETY: `owner` changes from FREE (or a dead owner) to an id by one compare-and-exchange only, so
// that there is one owner at a time, and back to FREE by that owner.
unsafe impl lock_api::RawMutex for OwnerLock {
    #[allow(clippy::declare_interior_mutable_const)] // the trait asks for a constant
    const INIT: Self = Self { owner: AtomicU32::new(FREE), abandoned: AtomicBool::new(false) };

    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if self.take(FREE).is_err() {
            self.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.take(FREE).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.owner.store(FREE, Ordering::Release);
    }
}

static OWN_ID: AtomicU32 = AtomicU32::new(FREE);

/// Tells the locks the id of this process. To be called once in every process, before it locks
/// anything and after the last fork.
pub fn set_own_id(id: u32) {
    OWN_ID.store(id, Ordering::Relaxed);
}

/// The id of this process.
pub fn own_id() -> u32 {
    OWN_ID.load(Ordering::Relaxed)
}

/// Whether there is a process of this id. A zombie counts: its parent has yet to learn of its
/// death, and only then the id can be used again.
pub fn is_alive(id: u32) -> bool {
    let Ok(id) = libc::pid_t::try_from(id) else { return false };
    // SAFETY: signal 0 is not delivered; the call only looks whether it could be.
    id > 0
        && (unsafe { libc::kill(id, 0) } == 0
            || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_api::RawMutex;
    use std::process::Command;

    fn dead_id() -> u32 {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn liveness() {
        assert!(is_alive(std::process::id()));
        assert!(is_alive(1));
        assert!(!is_alive(dead_id()));
        assert!(!is_alive(0));
        assert!(!is_alive(u32::MAX));
    }

    #[test]
    fn a_dead_owner_is_relieved() {
        set_own_id(std::process::id());
        let lock = OwnerLock::INIT;
        lock.lock();
        assert!(!lock.try_lock());
        // SAFETY: it is locked by this thread.
        unsafe { lock.unlock() };
        assert!(!lock.was_abandoned());

        lock.owner.store(dead_id(), Ordering::Relaxed);
        assert!(!lock.try_lock());
        lock.lock();
        assert!(lock.was_abandoned());
        assert!(!lock.was_abandoned());
        // SAFETY: it is locked by this thread.
        unsafe { lock.unlock() };
        assert!(lock.try_lock());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "threads stand for processes here")]
    fn one_owner_at_a_time() {
        set_own_id(std::process::id());
        let counter = lock_api::Mutex::<OwnerLock, u64>::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        *counter.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), 40_000);
    }
}
