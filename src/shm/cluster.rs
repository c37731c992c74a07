//! A cluster: the rotation that is in use, and what is decided over all its servers. How a server is
//! picked is in [`select`](super::select).

use std::alloc::Layout;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use lock_api::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::document::Document;
use super::epoch::Visit;
use super::fault;
use super::generation::{Generation, Peer};
use super::lock::OwnerLock;
use super::records::Copies;
use super::rotation::{LevelRotation, Rotation};
use super::select::Selected;
use super::server::Server;
use super::uses::{Use, Uses};
use super::verdict::Kept;
use super::worker::Slot;
use super::{Full, Slab};
use crate::logic::balance::sequence;
use crate::logic::health::{Finding, Health, Thresholds};
use crate::logic::status::State;

/// A cluster of the running configuration, or of one that draining workers still run.
#[repr(C)]
pub struct Cluster {
    lock: Mutex<OwnerLock, ()>,
    next: AtomicPtr<Cluster>,
    current: AtomicPtr<Rotation>,
    /// What the configuration that is being read makes of it; only the master looks at it.
    prepared: AtomicPtr<Rotation>,
    /// What is to replace the rotation when it is kept elsewhere, too; only who may change settings
    /// looks at it.
    reserved: AtomicPtr<Rotation>,
    /// What was replaced by the last rotation that was taken into use.
    replaced: AtomicPtr<Rotation>,
    /// The last configuration that has it; [`IN_USE`]: the running one has.
    removed_at: AtomicU64,
    /// What is kept in use although it fails its checks, by [`Kept::id`].
    kept: AtomicU64,
    /// A sum of what the checks leave in use, over the servers and their versions.
    in_use: AtomicU64,
    /// See [`Cluster::changes`].
    changes: AtomicU64,
    /// What the log said last of what is kept: see [`Kept::id`].
    announced: AtomicU64,
    /// See [`Generation::settings`], of the generation in use.
    settings: AtomicU64,
    /// Which workers refer to it although no configuration has it.
    uses: Uses,
    name: *const u8,
    name_length: u32,
    // The uses and the bytes of the name follow.
}

/// See [`Cluster::removed_at`].
const IN_USE: u64 = u64::MAX;

/// The lock of a cluster. Who has it may read and change what is not atomic.
pub struct Guard<'a> {
    cluster: &'a Cluster,
    _owner: MutexGuard<'a, OwnerLock, ()>,
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

/// Whether the checks leave an address in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They do.
    Used,
    /// They do not, as it fails them.
    Failed,
    /// They do not, as it has to pass them first.
    Awaited,
}

/// What the result of a check changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// The states of the server before and after, where they differ.
    pub server: Option<(State, State)>,
    /// What stays in use although it fails its checks, where that changed.
    pub kept: Option<Kept>,
    /// Servers left alone for failed requests are used again, as no other works.
    pub reinstated: bool,
    /// Whether other servers may be used than before.
    pub changes_use: bool,
}

/// What is known of a server by the requests to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Whether failed requests leave it in use.
    pub available: bool,
    /// The failures put it out of use just now.
    pub ejected: Option<Ejected>,
}

impl Cluster {
    /// Makes a cluster that has no servers yet, to stand before `next` in the list.
    pub(super) fn create(
        slab: &impl Slab,
        name: &str,
        next: *mut Self,
        slots: usize,
    ) -> Result<*mut Self, Full> {
        let (layout, uses_at) =
            Layout::new::<Self>().extend(Uses::layout(slots)?).map_err(|_| Full)?;
        let name_layout = Layout::array::<u8>(name.len()).map_err(|_| Full)?;
        let (layout, name_at) = layout.extend(name_layout).map_err(|_| Full)?;
        let cluster = slab.allocate(layout).ok_or(Full)?.cast::<Self>();
        // SAFETY: the memory holds a Self with the uses and the name behind it, and nobody else knows of
        // it yet.
        unsafe {
            let bytes = cluster.cast::<u8>().add(name_at);
            bytes.copy_from_nonoverlapping(NonNull::from(name).cast(), name.len());
            cluster.write(Self {
                lock: Mutex::new(()),
                next: AtomicPtr::new(next),
                current: AtomicPtr::new(ptr::null_mut()),
                prepared: AtomicPtr::new(ptr::null_mut()),
                reserved: AtomicPtr::new(ptr::null_mut()),
                replaced: AtomicPtr::new(ptr::null_mut()),
                removed_at: AtomicU64::new(0),
                kept: AtomicU64::new(Kept::NotNeeded.id()),
                in_use: AtomicU64::new(0),
                changes: AtomicU64::new(0),
                announced: AtomicU64::new(Kept::NotNeeded.id()),
                settings: AtomicU64::new(0),
                uses: Uses::write(cluster.cast::<u8>().add(uses_at).cast::<Use>(), slots),
                name: bytes.as_ptr(),
                name_length: name.len() as u32,
            });
        }
        Ok(cluster.as_ptr())
    }

    /// The name.
    pub fn name(&self) -> &str {
        // SAFETY: `create` copied a str of this length there.
        unsafe {
            let bytes = slice::from_raw_parts(self.name, self.name_length as usize);
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// Refers to the record from a worker, although no configuration has it. The caller holds the
    /// slab.
    pub fn hold(&self, slot: &Slot) {
        if let Some(own) = self.uses.of(slot.index()) {
            own.pin();
        }
    }

    /// Refers to it no more.
    pub fn let_go(&self, slot: &Slot) {
        if let Some(own) = self.uses.of(slot.index()) {
            own.unpin();
        }
    }

    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// What is kept of its settings, the newest first. The caller holds the slab.
    pub fn documents(&self) -> impl Iterator<Item = &'static Document> {
        let guard = self.lock();
        Document::list(guard.generation().map_or(ptr::null(), Generation::documents))
    }

    /// The version of the settings in use.
    #[inline]
    pub fn settings(&self) -> u64 {
        self.settings.load(Ordering::Acquire)
    }

    /// Whether no configuration has it, and nothing needs it but those that refer to it.
    pub fn is_removed(&self) -> bool {
        self.removed_at().is_some()
    }

    /// The generation in use, for who is within a visit.
    #[inline]
    pub fn generation<'a>(&self, _visit: &'a Visit<'_>) -> Option<&'a Generation> {
        // SAFETY: what is found within a visit is not freed before it is over.
        unsafe { self.current().as_ref().map(Rotation::generation) }
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

    /// Whether every server in use has failed its checks.
    pub fn all_failed(&self) -> bool {
        self.kept.load(Ordering::Relaxed) != Kept::NotNeeded.id()
    }

    /// A number that grows whenever the checks leave other servers in use than before, or the servers
    /// are others.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Tells `body` how the addresses of its servers stand. Nothing of that changes meanwhile, and
    /// nobody else is told: the lock is held.
    pub fn consult<T>(&self, body: impl FnOnce(&HashMap<&[u8], Standing>) -> T) -> T {
        let guard = self.lock();
        let peers = guard.generation().map_or(&[][..], Generation::peers);
        let mut standings = HashMap::with_capacity(peers.len());
        // Lines of equal address share the verdict. One that the operator took out of use cannot be
        // kept: it has a say only where there is no other.
        let by_use = |in_use| peers.iter().filter(move |peer| peer.is_in_use() == in_use);
        for peer in by_use(true).chain(by_use(false)) {
            let standing = if !peer.is_out() || peer.server.is_kept() {
                Standing::Used
            } else if peer.server.may_be_kept() {
                Standing::Failed
            } else {
                Standing::Awaited
            };
            standings.entry(peer.server.address()).or_insert(standing);
        }
        body(&standings)
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
                server.statistics().fail();
                let mut guard = self.lock();
                // One that was removed meanwhile is of no interest any more.
                let peer = guard.penalize(selected)?;
                guard.count_failure(peer, now)
            }
        }
    }

    /// Takes in what somebody else says of the servers at an address, given as text: a request failed,
    /// or they are available. `None`: the cluster does not have it.
    pub fn feedback(&self, address: &str, failed: bool, now: u64) -> Option<Feedback> {
        let mut guard = self.lock();
        let mut taken = None;
        let mut seen: SmallVec<[*const Server; 4]> = SmallVec::new();
        let peers = guard.generation()?.peers().iter();
        for peer in peers.filter(|peer| peer.server.name() == address) {
            let server = peer.server;
            if seen.contains(&ptr::from_ref(server)) {
                continue;
            }
            seen.push(server);
            let ejected = if failed {
                guard.count_failure(peer, now)
            } else {
                if server.is_ejected(now) {
                    server.set_returned_at(now);
                }
                server.follow_use(now);
                guard.forgive(server);
                server.follow_use(now);
                None
            };
            let available = server.is_kept() || !server.is_ejected(now);
            let taken = taken.get_or_insert(Feedback { available: false, ejected: None });
            taken.available |= available;
            taken.ejected = taken.ejected.or(ejected);
        }
        taken
    }

    /// What is kept in use although it fails its checks, where the log has not said so yet.
    pub fn announce(&self) -> Option<Kept> {
        // Asked after each check: to find out what is kept takes a look at every server.
        if self.announced.load(Ordering::Relaxed) == self.kept.load(Ordering::Relaxed) {
            return None;
        }
        let kept = self.lock().kept();
        let before = self.announced.swap(kept.id(), Ordering::Relaxed);
        (before != kept.id()).then_some(kept)
    }

    /// The caller of [`select`](Self::select) no longer refers to the record of the server.
    #[inline]
    pub fn unpin(slot: &Slot, server: &Server) {
        if let Some(own) = server.uses().of(slot.index()) {
            own.unpin();
        }
    }

    /// Has the statistics of its servers know which are unavailable, where nothing else told them:
    /// servers are made, and checks come and go, without a look at the clock.
    pub fn follow_use(&self, now: u64) {
        let guard = self.lock();
        let peers = guard.generation().map_or(&[][..], Generation::peers);
        peers.iter().for_each(|peer| peer.server.follow_use(now));
    }

    /// Begins the statistics of its servers anew.
    pub fn reset_statistics(&self, now: u64) {
        let guard = self.lock();
        let peers = guard.generation().map_or(&[][..], Generation::peers);
        for peer in peers {
            // What is over does not begin anew.
            peer.server.follow_use(now);
            peer.server.statistics().reset(now);
        }
    }

    /// Has the records of the checks of its servers be those of these checks, each a key that stands
    /// for what is asked and whether it is mandatory. Returns whether other servers may be used than
    /// before.
    pub fn align(&self, checks: &[(u16, bool)]) -> bool {
        let mut guard = self.lock();
        let Some(generation) = guard.generation() else { return false };
        let mut changed = false;
        for peer in generation.peers_to_check() {
            let server = peer.server;
            let before = server.health();
            server.align(&mut guard, checks);
            changed |= server.health() != before;
        }
        if changed {
            guard.judge();
        }
        changed
    }

    /// Takes in what a server says of itself. The caller holds the slab.
    ///
    /// # Errors
    /// Where the zone is full; then nothing has changed.
    pub fn set_details(
        &self,
        slab: &impl Slab,
        server: &'static Server,
        text: &str,
    ) -> Result<(), Full> {
        let mut guard = self.lock();
        for server in guard.servers_at(server) {
            server.set_details(slab, &mut guard, text)?;
        }
        Ok(())
    }

    /// Takes in what a check found, and why where the server has not passed.
    ///
    /// `check` is its number among those of the cluster, `now` in monotonic milliseconds, `seconds`
    /// since 1970.
    pub fn observe(
        &self,
        server: &'static Server,
        (check, thresholds): (usize, Thresholds),
        (finding, reason): (Finding, &str),
        now: u64,
        seconds: i64,
    ) -> Observation {
        let mut guard = self.lock();
        let kept_before = self.kept.load(Ordering::Relaxed);
        let health_before = server.health();
        let state_before = State::of(health_before, server.is_kept());

        let mut record = server.record(check);
        record.observe(finding, thresholds, server.is_mandatory(check));
        let same = guard.servers_at(server);
        let mut health = health_before;
        // A line that was added has no verdict yet.
        let mut changed = false;
        for server in &same {
            server.follow_use(now);
            server.statistics().check(finding == Finding::Pass);
            health = server.set_record(check, record);
            if finding == Finding::Pass {
                server.set_passed(check);
                if server.passed_all() {
                    server.set_passed_at(now);
                }
            }
            fault::point("observe");
            changed |= server.health() != health;
            if health.is_bad() && !server.health().is_bad() {
                server.statistics().become_unhealthy();
            }
            server.set_health(health);
            server.follow_use(now);
            server.set_message(&mut guard, check, reason);
        }
        if !changed && (finding != Finding::Pass || kept_before == Kept::NotNeeded.id()) {
            return Observation::default();
        }

        if changed {
            for server in same {
                server.set_changed_at(seconds);
                if health == Health::Up {
                    if !health_before.is_good() || server.is_ejected(now) {
                        server.set_returned_at(now);
                    }
                    guard.forgive(server);
                    server.follow_use(now);
                }
            }
        }
        let kept = guard.judge();
        let state = State::of(health, server.is_kept());
        Observation {
            server: (state != state_before).then_some((state_before, state)),
            kept: (kept.id() != kept_before).then_some(kept),
            changes_use: changed || kept.id() != kept_before,
            reinstated: changed && !guard.works(now) && guard.reinstate(now),
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

    pub(super) fn reserved(&self) -> &AtomicPtr<Rotation> {
        &self.reserved
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
        // What is unusual may be in a level that is at another place now.
        let is_unusual =
            |rotation: &Rotation| rotation.levels().iter().any(LevelRotation::is_unusual);
        let was_unusual = old.is_some_and(is_unusual) || is_unusual(new);
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
        self.settings.store(generation.settings(), Ordering::Release);
        guard.judge();
        // The scan knows the time, and hands back at once where all that is over.
        let may_be_unusual = |peer: &Peer| {
            peer.server.was_ejected() || peer.server.returned_at() != 0 || peer.is_full()
        };
        if was_unusual || generation.peers().iter().any(may_be_unusual) {
            guard.disturb();
        }
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

    /// Marks that nothing needs it any more but those that refer to it.
    pub(super) fn abandon(&self) {
        self.removed_at.store(0, Ordering::Relaxed);
    }

    /// The last configuration that has it, where it is not the running one.
    pub(super) fn removed_at(&self) -> Option<u64> {
        Some(self.removed_at.load(Ordering::Relaxed)).filter(|&at| at != IN_USE)
    }

    /// Takes over what is known of the servers of the same cluster in another zone, into a
    /// generation that is not in use yet.
    pub(super) fn copy_servers(&self, generation: &Generation, copies: &Copies, other: &Self) {
        let mut guard = self.lock();
        let mut theirs = other.lock();
        if let Some(before) = theirs.generation() {
            for (server, known) in copies {
                server.copy_from(&mut guard, known, &mut theirs);
            }
            generation.carry_turns(before, &mut theirs);
        }
    }
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
            for level in rotation.levels() {
                level.set_disturbed(true);
            }
        }
        self.judge();
    }

    /// Has the scan pick from now on in all levels.
    pub(super) fn disturb(&mut self) {
        let Some(rotation) = self.rotation() else { return };
        for level in rotation.levels() {
            self.disturb_level(rotation, level);
        }
    }

    /// Has the scan pick from now on in this level. It starts at the place where the rotation is.
    pub(super) fn disturb_level(&mut self, rotation: &Rotation, level: &LevelRotation) {
        if level.is_disturbed() {
            return;
        }
        let generation = rotation.generation();
        let (members, weights, order) = level.by_member(generation);
        let position = level.position();
        let turns = &mut generation.turns(self)[level.start()..];
        sequence::current_weights(&weights, &order, position, |member, current| {
            turns[usize::from(members[member])].set_current(current);
        });
        level.begin_scan();
    }

    /// The order no longer fits the health of the servers: the scan picks for good.
    pub(super) fn give_up_order(&mut self) {
        self.disturb();
        if let Some(rotation) = self.rotation() {
            rotation.give_up_order();
        }
    }

    /// Halves the share of a server. `None` where the cluster does not have it any more.
    fn penalize(&mut self, selected: &Selected) -> Option<&'static Peer> {
        let generation = self.generation()?;
        let peers = generation.peers();
        let level = selected.level();
        let index = if selected.is_of(generation) {
            selected.peer()
        } else {
            let mut range = generation.levels().get(level)?.range();
            range.find(|&index| ptr::eq(peers[index].server, selected.server))?
        };
        let rotation = self.rotation()?;
        let level = rotation.levels().get(level)?;
        self.disturb_level(rotation, level);
        level.depart();
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

    /// Counts a failed request to a server. Returns that it is left alone from now on, where its
    /// failures have become enough for that.
    fn count_failure(&mut self, peer: &Peer, now: u64) -> Option<Ejected> {
        let Peer { server, max_fails, fail_timeout, .. } = *peer;
        if server.is_ejected(now)
            || self.cluster.all_failed()
            || fail_timeout == 0
            || !server.add_failure(self, now, max_fails, fail_timeout)
            || !self.works_without(server, now)
        {
            return None;
        }
        fault::point("eject");
        self.disturb();
        server.statistics().become_unavailable();
        server.follow_use(now);
        server.eject(now + fail_timeout);
        server.follow_use(now);
        server.set_returned_at(now + fail_timeout);
        Some(Ejected { failures: max_fails, milliseconds: fail_timeout })
    }

    /// Whether another server than this can be used: in each level that has it, where requests may be
    /// bound to a level.
    fn works_without(&self, server: &Server, now: u64) -> bool {
        let Some(generation) = self.generation() else { return false };
        let works = |peers: &[Peer]| {
            peers.iter().any(|peer| {
                peer.is_in_use() && !ptr::eq(peer.server, server) && peer.server.is_usable(now)
            })
        };
        if !generation.is_ordered() {
            return works(generation.peers());
        }
        let levels = generation.levels().iter().map(|level| &generation.peers()[level.range()]);
        let has = |peer: &Peer| peer.is_in_use() && ptr::eq(peer.server, server);
        let mut with = levels.filter(|peers| peers.iter().any(has));
        with.all(works)
    }

    /// The records of the servers that have the address of this one. Those that are in one level are
    /// servers of their own, but they are checked once.
    fn servers_at(&self, server: &'static Server) -> SmallVec<[&'static Server; 4]> {
        let mut found: SmallVec<[&'static Server; 4]> = SmallVec::new();
        found.push(server);
        let repeating = self.generation().filter(|generation| generation.has_repeats());
        let peers = repeating.map_or(&[][..], Generation::peers);
        for peer in peers.iter().filter(|peer| peer.server.address() == server.address()) {
            if !found.iter().any(|known| ptr::eq(*known, peer.server)) {
                found.push(peer.server);
            }
        }
        found
    }

    /// What is kept in use although it fails its checks.
    pub fn kept(&self) -> Kept {
        let Some(generation) = self.generation().filter(|_| self.cluster.all_failed()) else {
            return Kept::NotNeeded;
        };
        generation.judge().kept
    }

    /// Has the servers used that may be by their health, and those that are kept nevertheless.
    fn judge(&mut self) -> Kept {
        let Some(generation) = self.generation() else { return Kept::NotNeeded };
        let kept = generation.judge().kept;
        for peer in generation.peers().iter().filter(|peer| !peer.is_in_use()) {
            peer.server.set_kept(false);
        }
        for server in generation.servers_in_use() {
            server.set_kept(kept.keeps(server));
        }
        self.cluster.kept.store(kept.id(), Ordering::Relaxed);
        let in_use = sum_of_use(generation);
        if self.cluster.in_use.load(Ordering::Relaxed) != in_use {
            // In this order: where a process dies in between, the number grows once more.
            self.cluster.changes.fetch_add(1, Ordering::Release);
            self.cluster.in_use.store(in_use, Ordering::Relaxed);
        }
        kept
    }

    /// Uses the servers again that are left alone for failed requests, but not those that have failed
    /// their checks. Returns whether there were any.
    fn reinstate(&mut self, now: u64) -> bool {
        let Some(generation) = self.generation() else { return false };
        let mut found = false;
        for server in generation.servers_in_use() {
            if server.health().is_good() && server.is_ejected(now) {
                server.follow_use(now);
                server.eject(0);
                server.follow_use(now);
                server.set_returned_at(0);
                found = true;
            }
        }
        found
    }

    /// Whether any server can be used.
    fn works(&self, now: u64) -> bool {
        self.generation().is_some_and(|generation| {
            generation.servers_in_use().any(|server| server.is_usable(now))
        })
    }
}

/// A sum of what the checks leave in use of a generation.
fn sum_of_use(generation: &Generation) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(generation.version());
    for peer in generation.peers() {
        hasher.write_u8(u8::from(peer.is_out() && !peer.server.is_kept()));
    }
    hasher.finish()
}
