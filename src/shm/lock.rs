//! A lock that no dead process holds.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Nobody holds the lock.
const FREE: u64 = 0;

/// How often a contender looks at the lock before it gives up the processor.
const SPINS: u32 = 1000;

/// How often a contender gives up the processor before it asks whether the owner is alive.
const YIELDS: u32 = 50;

/// A mutex whose state is the identity of the process that holds it, so that the next one can see that
/// the owner is dead and take over. For short critical sections of single-threaded processes.
///
/// A process that took over from a dead one finds what that one left half done:
/// [`was_abandoned`](Self::was_abandoned) tells.
#[repr(C)]
pub struct OwnerLock {
    owner: AtomicU64,
    abandoned: AtomicBool,
}

impl OwnerLock {
    /// Whether the present owner took over from a dead process and was not told so before.
    pub fn was_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) && self.abandoned.swap(false, Ordering::Relaxed)
    }

    /// Takes the lock where it is free, or its owner is dead. Does not wait.
    pub fn try_take(&self) -> bool {
        match self.take(FREE) {
            Ok(_) => true,
            Err(owner) => owner != FREE && !is_alive(owner) && self.take_over(owner),
        }
    }

    fn take_over(&self, owner: u64) -> bool {
        let is_ours = self.take(owner).is_ok();
        if is_ours {
            self.abandoned.store(true, Ordering::Relaxed);
        }
        is_ours
    }

    fn take(&self, from: u64) -> Result<u64, u64> {
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
            if owner != FREE && !is_alive(owner) && self.take_over(owner) {
                return;
            }
        }
    }
}

// SAFETY: `owner` changes from FREE (or a dead owner) to an id by one compare-and-exchange only, so
// that there is one owner at a time, and back to FREE by that owner.
unsafe impl lock_api::RawMutex for OwnerLock {
    #[allow(clippy::declare_interior_mutable_const)] // the trait asks for a constant
    const INIT: Self = Self { owner: AtomicU64::new(FREE), abandoned: AtomicBool::new(false) };

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

static OWN_ID: AtomicU64 = AtomicU64::new(FREE);

/// Tells the locks which process this is, by its id. To be called once in every process, before it
/// locks anything and after the last fork.
pub fn set_own_id(process: u32) {
    let start = stat(process).map_or(0, |(_, start)| start);
    OWN_ID.store(u64::from(start) << 32 | u64::from(process), Ordering::Relaxed);
}

/// This process: its id in the lower half, and in the upper one what is known of its start, so that a
/// later process with the same id is not taken for it.
pub fn own_id() -> u64 {
    OWN_ID.load(Ordering::Relaxed)
}

/// Whether the process that was identified so still runs. A zombie does not: its parent may be
/// waiting for what it holds, and then never learns of its death.
pub fn is_alive(id: u64) -> bool {
    let (start, process) = ((id >> 32) as u32, id as u32);
    let Ok(pid) = libc::pid_t::try_from(process) else { return false };
    // SAFETY: signal 0 is not delivered; the call only looks whether it could be.
    let exists = pid > 0
        && (unsafe { libc::kill(pid, 0) } == 0
            || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH));
    // Where the system does not tell more, what exists is alive.
    exists
        && stat(process).is_none_or(|(state, started)| {
            !matches!(state, b'Z' | b'X') && (start == 0 || start == started)
        })
}

/// The state of a process and the lower half of the time of its start, as Linux tells them.
fn stat(process: u32) -> Option<(u8, u32)> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    // The name of the program may have blanks and parentheses in it.
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let text = std::str::from_utf8(stat.get(behind_name..)?).ok()?;
    let mut fields = text.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    // proc(5) counts from 1: the state is field 3, the start field 22.
    let start: u64 = fields.nth(18)?.parse().ok()?;
    Some((state, start as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_api::RawMutex;
    use std::process::Command;

    fn dead_id() -> u64 {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id().into()
    }

    #[test]
    fn liveness() {
        set_own_id(std::process::id());
        assert!(is_alive(own_id()));
        assert!(is_alive(1));
        assert!(!is_alive(dead_id()));
        assert!(!is_alive(0));
        assert!(!is_alive(u64::from(u32::MAX)));
    }

    #[test]
    fn another_process_of_the_same_id_is_not_the_owner() {
        set_own_id(std::process::id());
        assert_eq!(own_id() as u32, std::process::id());
        assert!(!is_alive(own_id() ^ 1 << 40));
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = Command::new("true").spawn().unwrap();
        while stat(child.id()).is_some_and(|(state, _)| state != b'Z') {
            thread::yield_now();
        }
        assert!(!is_alive(child.id().into()));
        child.wait().unwrap();
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
