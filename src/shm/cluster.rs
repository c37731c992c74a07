//! A cluster: the generation that is in use, and what is decided over all its servers.

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use lock_api::{Mutex, MutexGuard};

use super::generation::{Generation, Peer};
use super::lock::OwnerLock;
use super::server::Server;
use super::{Full, Slab};
use crate::logic::balance::round_robin;
use crate::logic::health::{Health, Thresholds};
use crate::logic::status::State;

/// A cluster of the running configuration, or of one that draining workers still run.
#[repr(C)]
pub struct Cluster {
    lock: Mutex<OwnerLock, ()>,
    next: AtomicPtr<Cluster>,
    current: AtomicPtr<Generation>,
    /// What the configuration that is being read makes of it; only the master looks at it.
    prepared: AtomicPtr<Generation>,
    /// The last configuration that has it; [`IN_USE`]: the running one has.
    removed_at: AtomicU64,
    /// Whether every server in use has failed its checks.
    all_failed: AtomicBool,
    name_length: u32,
    // The bytes of the name follow.
}

/// See [`Cluster::removed_at`].
const IN_USE: u64 = u64::MAX;

/// The lock of a cluster. Who has it may read and change what is not atomic.
pub struct Guard<'a> {
    cluster: &'a Cluster,
    _owner: MutexGuard<'a, OwnerLock, ()>,
}

/// A server that was selected for a try.
#[derive(Clone, Copy)]
pub struct Selected {
    /// The server.
    pub server: &'static Server,
    /// The number of its level.
    pub level: usize,
    /// How many servers could have been selected, up to the number asked for; at least 1.
    pub choices: usize,
    max_fails: u32,
    fail_timeout: u64,
    peer: usize,
    /// For comparison only: it may have been freed since.
    generation: *const Generation,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Success,
    /// The server failed.
    Failure,
    /// Nothing is to be learnt from it.
    Unknown,
}

/// A server is left alone because requests to it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// How many of them.
    pub failures: u32,
    /// For how long, in milliseconds, which is also the time within which they failed.
    pub milliseconds: u64,
}

/// What the result of a check changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The states of the server before and after, where they differ.
    pub server: Option<(State, State)>,
    /// Whether every server has failed its checks now, where that changed.
    pub all_failed: Option<bool>,
    /// Servers left alone for failed requests are used again, as no other works.
    pub reinstated: bool,
}

impl Cluster {
    /// Makes a cluster that has no servers yet, to stand before `next` in the list.
    pub(super) fn create(slab: &impl Slab, name: &str, next: *mut Self) -> Result<*mut Self, Full> {
        let layout = Layout::from_size_align(size_of::<Self>() + name.len(), align_of::<Self>())
            .map_err(|_| Full)?;
        let cluster = slab.allocate(layout).ok_or(Full)?.cast::<Self>();
        // SAFETY: the memory holds a Self and the name behind it, and nobody else knows of it yet.
        unsafe {
            cluster.write(Self {
                lock: Mutex::new(()),
                next: AtomicPtr::new(next),
                current: AtomicPtr::new(ptr::null_mut()),
                prepared: AtomicPtr::new(ptr::null_mut()),
                removed_at: AtomicU64::new(0),
                all_failed: AtomicBool::new(false),
                name_length: name.len() as u32,
            });
            let bytes = cluster.add(1).cast::<u8>();
            bytes.copy_from_nonoverlapping(NonNull::from(name).cast(), name.len());
        }
        Ok(cluster.as_ptr())
    }

    /// The name.
    pub fn name(&self) -> &str {
        // SAFETY: `create` copied a str of this length right behind the record.
        unsafe {
            std::str::from_utf8_unchecked(slice::from_raw_parts(
                ptr::from_ref(self).add(1).cast(),
                self.name_length as usize,
            ))
        }
    }

    /// Locks the cluster.
    #[inline]
    pub fn lock(&self) -> Guard<'_> {
        let mut guard = Guard { cluster: self, _owner: self.lock.lock() };
        // SAFETY: only the flag of the lock is looked at; it is neither locked nor unlocked.
        if unsafe { self.lock.raw() }.was_abandoned() {
            guard.repair();
        }
        guard
    }

    /// Whether every server in use has failed its checks: then all stay in use.
    pub fn all_failed(&self) -> bool {
        self.all_failed.load(Ordering::Relaxed)
    }

    /// Selects the next server for a request, in the levels' order.
    ///
    /// `tried` tells whether the request may not go to a server of a level (by its number) again;
    /// `now` is in monotonic milliseconds; the other choices are counted up to `most`. The caller
    /// gives what it gets to [`release`](Self::release) in the end.
    pub fn select(
        &self,
        tried: impl Fn(usize, &Server) -> bool,
        now: u64,
        most: usize,
    ) -> Option<Selected> {
        let mut guard = self.lock();
        let generation = guard.generation()?;
        let peers = generation.peers();
        let all_failed = self.all_failed();
        let eligible = |level: usize, peer: &Peer| {
            !peer.down
                && is_usable(peer.server, all_failed, now)
                && (peer.max_conns == 0 || peer.server.connections() < peer.max_conns)
                && !tried(level, peer.server)
        };

        let mut picked = None;
        let mut choices = 0;
        for (level, range) in generation.levels().enumerate() {
            let start = range.start;
            if picked.is_none() {
                let turns = &mut generation.turns(&mut guard)[range.clone()];
                picked = round_robin::pick(turns, |index| eligible(level, &peers[start + index]))
                    .map(|index| (level, start + index));
            }
            if picked.is_some() {
                let level_peers = &peers[range];
                choices += level_peers
                    .iter()
                    .enumerate()
                    .filter(|(index, peer)| {
                        eligible(level, peer)
                            && !(peer.repeated
                                && level_peers[..*index].iter().any(|earlier| {
                                    ptr::eq(earlier.server, peer.server) && eligible(level, earlier)
                                }))
                    })
                    .take(most.saturating_sub(choices))
                    .count();
                if choices >= most {
                    break;
                }
            }
        }

        let (level, index) = picked?;
        let peer = &peers[index];
        peer.server.connect();
        Some(Selected {
            server: peer.server,
            level,
            choices: choices.max(1),
            max_fails: peer.max_fails,
            fail_timeout: peer.fail_timeout,
            peer: index,
            generation,
        })
    }

    /// Takes in how the try on a selected server ended, at `now` in monotonic milliseconds.
    ///
    /// Returns that the server is left alone from now on, where its failures have become enough for
    /// that. The last working server of a cluster never is.
    pub fn release(&self, selected: &Selected, outcome: Outcome, now: u64) -> Option<Ejected> {
        let server = selected.server;
        server.disconnect();
        match outcome {
            Outcome::Unknown => None,
            Outcome::Success => {
                if server.is_failing() {
                    server.clear_failures(&mut self.lock());
                }
                None
            }
            Outcome::Failure => {
                let mut guard = self.lock();
                guard.penalize(selected);
                if server.is_ejected(now) {
                    return None;
                }
                let Selected { max_fails, fail_timeout, .. } = *selected;
                if !server.add_failure(&mut guard, now, max_fails, fail_timeout)
                    || !guard.works_without(server, now)
                {
                    return None;
                }
                server.eject(now + fail_timeout);
                Some(Ejected { failures: max_fails, milliseconds: fail_timeout })
            }
        }
    }

    /// Takes in the result of a check: passed, or failed with this message.
    ///
    /// `now` is in monotonic milliseconds, `seconds` since 1970.
    pub fn observe(
        &self,
        server: &'static Server,
        failure: Option<&str>,
        thresholds: Thresholds,
        now: u64,
        seconds: i64,
    ) -> Observation {
        let mut guard = self.lock();
        let before = self.all_failed();
        let state_before = State::of(server.health(), before);

        let mut record = server.record();
        let changed = record.observe(failure.is_none(), thresholds).is_some();
        server.set_record(record);
        server.set_message(&mut guard, failure.unwrap_or_default());
        if !changed {
            return Observation::default();
        }

        server.set_changed_at(seconds);
        if record.health == Health::Up {
            guard.forgive(server);
        }
        let all_failed = guard.update_all_failed();
        // All stay in use, or none that works is left but those that only requests failed on.
        let last_resort = (all_failed && !before) || !guard.works(now);
        Observation {
            server: Some((state_before, State::of(record.health, all_failed))),
            all_failed: (all_failed != before).then_some(all_failed),
            reinstated: last_resort && guard.reinstate(now),
        }
    }

    pub(super) fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }

    pub(super) fn current(&self) -> *mut Generation {
        self.current.load(Ordering::Acquire)
    }

    pub(super) fn prepared(&self) -> &AtomicPtr<Generation> {
        &self.prepared
    }

    /// Takes the prepared generation into use. Returns the one before, which may be null.
    pub(super) fn publish(&self) -> *mut Generation {
        let mut guard = self.lock();
        let prepared = self.prepared.swap(ptr::null_mut(), Ordering::Relaxed);
        let before = self.current();
        // SAFETY: both are null or generations of this cluster, which nobody frees yet.
        let (new, old) = unsafe { (prepared.as_ref(), before.as_ref()) };
        if let Some(new) = new {
            if let Some(old) = old {
                new.carry_turns(old, &mut guard);
            }
            new.adopt_servers(&mut guard);
        }
        self.current.store(prepared, Ordering::Release);
        self.removed_at.store(IN_USE, Ordering::Relaxed);
        guard.update_all_failed();
        before
    }

    /// Marks that the configuration after `last` does not have it, unless that was so before.
    pub(super) fn remove(&self, last: u64) {
        let _ =
            self.removed_at.compare_exchange(IN_USE, last, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The last configuration that has it, where it is not the running one.
    pub(super) fn removed_at(&self) -> Option<u64> {
        Some(self.removed_at.load(Ordering::Relaxed)).filter(|&at| at != IN_USE)
    }

    /// Takes over what is known of the same cluster in another zone, into the prepared generation.
    pub(super) fn copy_from(&self, other: &Self) {
        let mut guard = self.lock();
        let mut theirs = other.lock();
        // SAFETY: it was prepared by this process, and nobody else knows of it.
        let prepared = unsafe { self.prepared.load(Ordering::Relaxed).as_ref() };
        if let (Some(prepared), Some(before)) = (prepared, theirs.generation()) {
            prepared.copy_servers(before, &mut guard, &mut theirs);
            prepared.carry_turns(before, &mut theirs);
        }
    }
}

/// Whether requests may go to a server, as far as its health is concerned.
fn is_usable(server: &Server, all_failed: bool, now: u64) -> bool {
    (all_failed || server.health() != Health::Failed) && !server.is_ejected(now)
}

impl Guard<'_> {
    /// The generation that is in use.
    pub fn generation(&self) -> Option<&'static Generation> {
        // SAFETY: it is freed only after a later one was published and every worker is gone that
        // may have seen it; 'static stands for that.
        unsafe { self.cluster.current().as_ref() }
    }

    /// Puts right what a process left half done when it died with the lock.
    #[cold]
    fn repair(&mut self) {
        if let Some(generation) = self.generation() {
            generation.turns(self).iter_mut().for_each(round_robin::Turn::rewind);
        }
        self.update_all_failed();
    }

    fn penalize(&mut self, selected: &Selected) {
        let Some(generation) = self.generation() else { return };
        let index = if ptr::eq(generation, selected.generation) {
            Some(selected.peer)
        } else {
            let range = generation.levels().nth(selected.level).unwrap_or_default();
            range.clone().find(|&index| ptr::eq(generation.peers()[index].server, selected.server))
        };
        if let Some(index) = index {
            generation.turns(self)[index].penalize();
        }
    }

    /// The server works again: nothing of its failures is held against it.
    fn forgive(&mut self, server: &Server) {
        server.eject(0);
        server.clear_failures(self);
        let Some(generation) = self.generation() else { return };
        for (index, peer) in generation.peers().iter().enumerate() {
            if ptr::eq(peer.server, server) {
                generation.turns(self)[index].forgive();
            }
        }
    }

    /// Whether another server than this can be used.
    fn works_without(&self, server: &Server, now: u64) -> bool {
        let all_failed = self.cluster.all_failed();
        self.generation().is_some_and(|generation| {
            generation
                .servers_in_use()
                .any(|other| !ptr::eq(other, server) && is_usable(other, all_failed, now))
        })
    }

    fn update_all_failed(&mut self) -> bool {
        let all_failed = self.generation().is_some_and(|generation| {
            let mut servers = generation.servers_in_use().peekable();
            servers.peek().is_some() && servers.all(|server| server.health() == Health::Failed)
        });
        self.cluster.all_failed.store(all_failed, Ordering::Relaxed);
        all_failed
    }

    /// Uses the servers again that are left alone for failed requests, as far as their checks admit
    /// them. Returns whether there were any.
    fn reinstate(&mut self, now: u64) -> bool {
        let all_failed = self.cluster.all_failed();
        let Some(generation) = self.generation() else { return false };
        let mut found = false;
        for server in generation.servers_in_use() {
            if (all_failed || server.health() != Health::Failed) && server.is_ejected(now) {
                server.eject(0);
                found = true;
            }
        }
        found
    }

    /// Whether any server can be used.
    fn works(&self, now: u64) -> bool {
        let all_failed = self.cluster.all_failed();
        self.generation().is_some_and(|generation| {
            generation.servers_in_use().any(|server| is_usable(server, all_failed, now))
        })
    }
}
