//! A cluster: the rotation that is in use, and what is decided over all its servers.
//!
//! There are two ways to pick a server. As long as nothing is unusual, a worker takes the next turn
//! of the rotation: one atomic addition, whatever the number of servers. While the rotation is
//! disturbed - a server recovers from failures or is left alone for them, is at its limit of
//! connections, or was tried by the request already - the classic scan picks, under the lock of the
//! cluster. It takes over at the place where the rotation is, and hands back there when all is as
//! usual again.

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use lock_api::{Mutex, MutexGuard};

use super::epoch::Visit;
use super::fault;
use super::generation::{Generation, Peer};
use super::lock::OwnerLock;
use super::rotation::Rotation;
use super::server::Server;
use super::worker::Slot;
use super::{Full, Slab};
use crate::logic::balance::round_robin::{self, Turn};
use crate::logic::balance::sequence;
use crate::logic::health::{Health, Thresholds};
use crate::logic::status::State;

/// A cluster of the running configuration, or of one that draining workers still run.
#[repr(C)]
pub struct Cluster {
    lock: Mutex<OwnerLock, ()>,
    next: AtomicPtr<Cluster>,
    current: AtomicPtr<Rotation>,
    /// What the configuration that is being read makes of it; only the master looks at it.
    prepared: AtomicPtr<Rotation>,
    /// What was replaced by the last rotation that was taken into use.
    replaced: AtomicPtr<Rotation>,
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
    /// For comparison only: it may have been freed since.
    generation: *const Generation,
    peer: u32,
    level: u32,
    /// How many servers could have been selected, this one among them: at least 1, and exact up to
    /// the number asked for.
    pub choices: u32,
}

impl Selected {
    /// The number of the level of the server.
    pub fn level(&self) -> usize {
        self.level as usize
    }
}

/// What the classic way has picked.
struct Picked {
    level: usize,
    index: usize,
    /// Whether all peers that take turns could be picked, each with its whole weight.
    as_usual: bool,
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
                replaced: AtomicPtr::new(ptr::null_mut()),
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

    /// Selects the next server for a request, in the levels' order, within a visit of the worker.
    ///
    /// `tried` are the servers that the request went to, each with the number of its level; `now`
    /// gives monotonic milliseconds; the scan counts the choices up to `most`. The caller gives
    /// what it gets to [`release`](Self::release) in the end, and the record of the server is pinned
    /// until the caller gives it to [`unpin`](Self::unpin) after that.
    #[inline]
    pub fn select(
        &self,
        slot: &Slot,
        _visit: &Visit<'_>,
        tried: &impl Tried,
        now: impl FnOnce() -> u64,
        most: usize,
    ) -> Option<Selected> {
        // SAFETY: null, or a rotation that is not freed during the visit.
        let rotation = unsafe { self.current().as_ref() }?;
        if !rotation.is_disturbed() && tried.is_empty() {
            let generation = rotation.generation();
            let index = rotation.turn();
            fault::point("turn");
            let peer = &generation.peers()[index];
            if self.begin(slot, peer) {
                return Some(Selected {
                    server: peer.server,
                    generation,
                    peer: index as u32,
                    level: rotation.level() as u32,
                    choices: rotation.choices(),
                });
            }
        }
        self.select_by_scan(slot, tried, now(), most)
    }

    #[cold]
    #[inline(never)]
    fn select_by_scan(
        &self,
        slot: &Slot,
        tried: &impl Tried,
        now: u64,
        most: usize,
    ) -> Option<Selected> {
        self.lock().scan(slot, tried, now, most)
    }

    /// A request of the worker comes to a server whose turn it is, unless that has no room for it.
    #[inline]
    fn begin(&self, slot: &Slot, peer: &Peer) -> bool {
        if peer.max_conns == 0 {
            return peer.server.begin(slot, 0);
        }
        self.begin_within(slot, peer)
    }

    #[cold]
    fn begin_within(&self, slot: &Slot, peer: &Peer) -> bool {
        let came = peer.server.begin(slot, peer.max_conns);
        if peer.is_full() {
            // Only the scan knows how many servers are left to choose from now.
            self.lock().disturb();
        }
        came
    }

    /// Takes in how the try on a selected server ended, at `now` in monotonic milliseconds.
    ///
    /// Returns that the server is left alone from now on, where its failures have become enough for
    /// that. The last working server of a cluster never is, and none is while all have failed their
    /// checks.
    pub fn release(
        &self,
        slot: &Slot,
        selected: &Selected,
        outcome: Outcome,
        now: u64,
    ) -> Option<Ejected> {
        let server = selected.server;
        server.end(slot);
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
                // One that was removed meanwhile is of no interest any more.
                let peer = guard.penalize(selected)?;
                if server.is_ejected(now) || self.all_failed() {
                    return None;
                }
                let Peer { max_fails, fail_timeout, .. } = *peer;
                if fail_timeout == 0
                    || !server.add_failure(&mut guard, now, max_fails, fail_timeout)
                    || !guard.works_without(server, now)
                {
                    return None;
                }
                fault::point("eject");
                guard.disturb();
                server.eject(now + fail_timeout);
                Some(Ejected { failures: max_fails, milliseconds: fail_timeout })
            }
        }
    }

    /// The caller of [`select`](Self::select) no longer refers to the record of the server.
    #[inline]
    pub fn unpin(slot: &Slot, server: &Server) {
        if let Some(own) = server.uses().of(slot.index()) {
            own.unpin();
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
        fault::point("observe");
        server.set_message(&mut guard, failure.unwrap_or_default());
        if !changed {
            return Observation::default();
        }

        server.set_changed_at(seconds);
        if record.health == Health::Up {
            guard.forgive(server);
        }
        let all_failed = guard.update_all_failed();
        Observation {
            server: Some((state_before, State::of(record.health, all_failed))),
            all_failed: (all_failed != before).then_some(all_failed),
            reinstated: !guard.works(now) && guard.reinstate(now),
        }
    }

    pub(super) fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }

    #[inline]
    pub(super) fn current(&self) -> *mut Rotation {
        self.current.load(Ordering::Acquire)
    }

    pub(super) fn prepared(&self) -> &AtomicPtr<Rotation> {
        &self.prepared
    }

    /// Takes a rotation into use: that of a new generation, or of the same one by another state of
    /// health. The caller holds the slab.
    ///
    /// # Safety
    /// The rotation was made in the same zone, and is not in use yet.
    pub(super) unsafe fn publish(&self, rotation: *mut Rotation) {
        let mut guard = self.lock();
        let before = self.current();
        // SAFETY: the first is the caller's; the second is null, or not freed yet, as only who holds
        // the slab frees it.
        let (new, old) = unsafe { (&*rotation, before.as_ref()) };
        let generation = new.generation();
        if let Some(old) = old {
            new.go_on_from(old);
            if !ptr::eq(generation, old.generation()) {
                generation.carry_turns(old.generation(), &mut guard);
            }
        }
        if old.is_none_or(|old| !ptr::eq(generation, old.generation())) {
            generation.adopt_servers(&mut guard);
        }
        fault::point("publish");
        self.current.store(rotation, Ordering::Release);
        guard.update_all_failed();
    }

    /// The running configuration has it.
    pub(super) fn keep(&self) {
        self.removed_at.store(IN_USE, Ordering::Relaxed);
    }

    pub(super) fn replaced(&self) -> &AtomicPtr<Rotation> {
        &self.replaced
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

    /// Takes over what is known of the servers of the same cluster in another zone, into a
    /// generation that is not in use yet.
    pub(super) fn copy_servers(&self, generation: &Generation, other: &Self) {
        let mut guard = self.lock();
        let mut theirs = other.lock();
        if let Some(before) = theirs.generation() {
            generation.copy_servers(before, &mut guard, &mut theirs);
            generation.carry_turns(before, &mut theirs);
        }
    }
}

/// The servers that a request went to and may not go to again.
pub trait Tried {
    /// Whether there are none.
    fn is_empty(&self) -> bool;

    /// Whether this server is among them, for the level of this number.
    fn contains(&self, level: usize, server: &Server) -> bool;
}

/// Whether requests may go to a server, as far as its health is concerned. Where all have failed
/// their checks, nothing is held against any of them.
fn is_usable(server: &Server, all_failed: bool, now: u64) -> bool {
    all_failed || (server.health() != Health::Failed && !server.is_ejected(now))
}

impl Guard<'_> {
    /// The rotation that is in use.
    pub(super) fn rotation(&self) -> Option<&'static Rotation> {
        // SAFETY: whoever replaces it needs the lock, and frees it only when no worker is left that
        // may have found it; 'static stands for that.
        unsafe { self.cluster.current().as_ref() }
    }

    /// The generation that is in use.
    pub fn generation(&self) -> Option<&'static Generation> {
        self.rotation().map(Rotation::generation)
    }

    /// Puts right what a process left half done when it died with the lock.
    #[cold]
    fn repair(&mut self) {
        if let Some(rotation) = self.rotation() {
            for turn in rotation.generation().turns(self) {
                turn.set_current(0);
            }
            rotation.set_disturbed(true);
        }
        self.update_all_failed();
    }

    /// Has the scan pick from now on. It starts at the place where the rotation is.
    fn disturb(&mut self) {
        let Some(rotation) = self.rotation() else { return };
        if rotation.is_disturbed() {
            return;
        }
        let (members, weights, order) = rotation.by_member();
        let position = rotation.position();
        let turns = &mut rotation.generation().turns(self)[rotation.start()..];
        sequence::current_weights(&weights, &order, position, |member, current| {
            turns[usize::from(members[member])].set_current(current);
        });
        rotation.begin_scan();
    }

    /// The order no longer fits the health of the servers: the scan picks for good.
    pub(super) fn give_up_order(&mut self) {
        self.disturb();
        if let Some(rotation) = self.rotation() {
            rotation.give_up_order();
        }
    }

    /// The classic way to pick a server; see [`Cluster::select`].
    fn scan(&mut self, slot: &Slot, tried: &impl Tried, now: u64, most: usize) -> Option<Selected> {
        self.disturb();
        let rotation = self.rotation()?;
        let generation = rotation.generation();
        let peers = generation.peers();
        let all_failed = self.cluster.all_failed();
        let eligible = |level: usize, peer: &Peer| {
            !peer.down
                && is_usable(peer.server, all_failed, now)
                && !peer.is_full()
                && !tried.contains(level, peer.server)
        };

        // A worker that takes turns may take the last connection of the server that is picked here:
        // then that one is full, and another is picked.
        let attempts = peers.len() + 1;
        let (picked, choices) = (0..attempts).find_map(|_| {
            let Some(picked) = self.pick(rotation, eligible) else { return Some(None) };
            let choices = generation.count(picked.level, eligible, most);
            let peer = &peers[picked.index];
            peer.server.begin(slot, peer.max_conns).then_some(Some((picked, choices)))
        })??;

        if picked.as_usual {
            let locate = || self.locate(rotation);
            let agreed = rotation.agree(picked.index - rotation.start(), locate);
            rotation.set_disturbed(!agreed || !self.is_calm(rotation, now));
        } else {
            rotation.depart();
        }
        Some(Selected {
            server: peers[picked.index].server,
            generation,
            peer: picked.index as u32,
            level: picked.level as u32,
            choices: choices.max(1) as u32,
        })
    }

    /// One turn of the first level that has an eligible peer.
    fn pick(
        &mut self,
        rotation: &Rotation,
        eligible: impl Fn(usize, &Peer) -> bool,
    ) -> Option<Picked> {
        let generation = rotation.generation();
        generation.levels().enumerate().find_map(|(level, range)| {
            let peers = &generation.peers()[range.clone()];
            let turns = &mut generation.turns(self)[range.clone()];
            let recovering = turns.iter().any(Turn::is_recovering);
            let mut found = 0;
            let index = round_robin::pick(turns, |index| {
                fault::point("scan");
                let eligible = eligible(level, &peers[index]);
                found += usize::from(eligible);
                eligible
            })?;
            let as_usual = level == rotation.level() && found == rotation.members() && !recovering;
            Some(Picked { level, index: range.start + index, as_usual })
        })
    }

    /// Where in the order the scan is.
    fn locate(&mut self, rotation: &Rotation) -> Option<(usize, bool)> {
        let (members, weights, order) = rotation.by_member();
        let turns = &rotation.generation().turns(self)[rotation.start()..];
        let current: Vec<i64> =
            members.iter().map(|&index| turns[usize::from(index)].current()).collect();
        sequence::locate(&weights, &order, &current)
    }

    /// Whether nothing is unusual, as far as the rotation is concerned.
    fn is_calm(&mut self, rotation: &Rotation, now: u64) -> bool {
        let generation = rotation.generation();
        let range = generation.levels().nth(rotation.level()).unwrap_or_default();
        !generation.turns(self)[range].iter().any(Turn::is_recovering)
            && !generation
                .peers()
                .iter()
                .any(|peer| !peer.down && (peer.server.is_ejected(now) || peer.is_full()))
    }

    /// Halves the share of a server. `None` where the cluster does not have it any more.
    fn penalize(&mut self, selected: &Selected) -> Option<&'static Peer> {
        let generation = self.generation()?;
        let peers = generation.peers();
        let index = if ptr::eq(generation, selected.generation) {
            selected.peer as usize
        } else {
            let mut range = generation.levels().nth(selected.level())?;
            range.find(|&index| ptr::eq(peers[index].server, selected.server))?
        };
        self.disturb();
        self.rotation()?.depart();
        fault::point("penalize");
        generation.turns(self)[index].penalize();
        Some(&peers[index])
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
        let all_failed = self
            .generation()
            .is_some_and(|generation| generation.have_all_failed(&generation.failed_servers()));
        self.cluster.all_failed.store(all_failed, Ordering::Relaxed);
        all_failed
    }

    /// Uses the servers again that are left alone for failed requests, but not those that have failed
    /// their checks. Returns whether there were any.
    fn reinstate(&mut self, now: u64) -> bool {
        let Some(generation) = self.generation() else { return false };
        let mut found = false;
        for server in generation.servers_in_use() {
            if server.health() != Health::Failed && server.is_ejected(now) {
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
