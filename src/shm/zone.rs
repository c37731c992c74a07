//! The root of the zone.

use std::alloc::Layout;
#[cfg(any(test, feature = "development"))]
use std::collections::HashSet;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::cluster::Cluster;
use super::document::{Document, Documents, MAX_EARLIER};
use super::epoch::{Epoch, Visit};
use super::fault;
use super::generation::{Generation, Plan};
use super::retired::{Kind, Link};
use super::rotation::Rotation;
use super::server::Server;
use super::worker::Slot;
use super::writing::{Writer, Writing};
use super::{Full, Slab};

/// The first bytes of a zone of ours.
const MAGIC: u64 = u64::from_be_bytes(*b"checkups");

/// To be raised by every change of what lies in the zone: another image of the module may find a
/// zone that this one made.
const LAYOUT_VERSION: u64 = 6;

/// The first number of a zone is by its age; see [`Root::next_version`].
const VERSIONS_A_SECOND: u64 = 1_000_000;

/// Where everything in the zone is found from.
#[repr(C)]
pub struct Root {
    magic: u64,
    layout_version: u64,
    /// When the zone was made, in seconds since 1970.
    started_at: i64,
    /// When the last check ended, in seconds since 1970; 0: never.
    checked_at: AtomicI64,
    /// When the checker gave its last sign of life, in monotonic milliseconds; 0: never.
    checker_seen: AtomicU64,
    /// The number of the running configuration, from 1 on; 0: none was taken into use yet.
    configuration: AtomicU64,
    clusters: AtomicPtr<Cluster>,
    epoch: Epoch,
    /// The cluster in which something was replaced that is not retired yet.
    unfinished: AtomicPtr<Cluster>,
    /// What was replaced and waits to be freed.
    retired: AtomicPtr<Link>,
    slots: AtomicPtr<Slot>,
    slots_length: AtomicU32,
    /// Whether what nobody uses is freed; see [`detached_slot`](Self::detached_slot).
    is_swept: AtomicBool,
    /// The last number that a generation or settings were given.
    versions: AtomicU64,
    /// How often a cluster came to be at run time.
    births: AtomicU64,
    writer: Writer,
    /// Whether another zone has taken the place of this one.
    is_superseded: AtomicBool,
    /// See [`earlier`](Self::earlier).
    earlier: AtomicU64,
    /// What stands for the directory in which settings are kept; 0: there is none.
    directory: AtomicU64,
    /// The last configuration of which workers have started, and how many of them have.
    started: AtomicU64,
    /// See [`respawned`](Self::respawned).
    respawned: AtomicU64,
    /// See [`clock_offset`](Self::clock_offset).
    clock_offset: AtomicI64,
}

impl Root {
    /// Makes the root of a new zone, `now` in seconds since 1970.
    ///
    /// # Errors
    /// Where the zone has no room for it.
    pub fn create(slab: &impl Slab, now: i64) -> Result<&'static Self, Full> {
        let root = slab.allocate(Layout::new::<Self>()).ok_or(Full)?.cast::<Self>();
        // SAFETY: the memory holds a Self, nobody else knows of it yet, and it is never freed.
        unsafe {
            root.write(Self {
                magic: MAGIC,
                layout_version: LAYOUT_VERSION,
                started_at: now,
                checked_at: AtomicI64::new(0),
                checker_seen: AtomicU64::new(0),
                configuration: AtomicU64::new(0),
                clusters: AtomicPtr::new(ptr::null_mut()),
                epoch: Epoch::default(),
                unfinished: AtomicPtr::new(ptr::null_mut()),
                retired: AtomicPtr::new(ptr::null_mut()),
                slots: AtomicPtr::new(ptr::null_mut()),
                slots_length: AtomicU32::new(0),
                is_swept: AtomicBool::new(true),
                // No number is used twice, over a restart neither: fewer than a million are used in a
                // second.
                versions: AtomicU64::new(now.unsigned_abs().saturating_mul(VERSIONS_A_SECOND)),
                births: AtomicU64::new(0),
                writer: Writer::default(),
                is_superseded: AtomicBool::new(false),
                earlier: AtomicU64::new(0),
                directory: AtomicU64::new(0),
                started: AtomicU64::new(0),
                respawned: AtomicU64::new(0),
                clock_offset: AtomicI64::new(0),
            });
            Ok(root.as_ref())
        }
    }

    /// The root at this address, if it is one that this version of the module understands.
    ///
    /// # Safety
    /// `address` points to two readable words at least, and to a whole root where they are those
    /// of one; the zone stays mapped for as long as the result is used.
    pub unsafe fn at(address: NonNull<u8>) -> Option<&'static Self> {
        let words = address.cast::<[u64; 2]>();
        // SAFETY: the caller vouches for two words, and for the rest where they are right.
        unsafe { (words.read() == [MAGIC, LAYOUT_VERSION]).then(|| address.cast().as_ref()) }
    }

    /// When the zone was made, in seconds since 1970.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    /// When the last check ended, in seconds since 1970; `None` before the first.
    pub fn checked_at(&self) -> Option<i64> {
        Some(self.checked_at.load(Ordering::Relaxed)).filter(|&at| at != 0)
    }

    /// A check ended, at this time in seconds since 1970.
    pub fn set_checked_at(&self, seconds: i64) {
        self.checked_at.store(seconds, Ordering::Relaxed);
    }

    /// When the checker gave its last sign of life, in monotonic milliseconds; 0: never.
    pub fn checker_seen(&self) -> u64 {
        self.checker_seen.load(Ordering::Relaxed)
    }

    /// A sign of life of the checker.
    pub fn checker_beat(&self, now: u64) {
        self.checker_seen.store(now, Ordering::Relaxed);
    }

    /// The number of the running configuration, from 1 on.
    pub fn configuration(&self) -> u64 {
        self.configuration.load(Ordering::Acquire)
    }

    /// A number for settings that no others ever had.
    pub fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The last number that was given.
    pub fn last_version(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    /// No number up to this one is given any more.
    pub fn skip_versions(&self, last: u64) {
        self.versions.fetch_max(last, Ordering::Relaxed);
    }

    /// Grows with every cluster that comes to be at run time.
    #[inline]
    pub fn births(&self) -> u64 {
        self.births.load(Ordering::Acquire)
    }

    /// Takes the right to change settings. `None`: another process has it, for now.
    pub fn try_write(&self) -> Option<Writing<'_>> {
        self.writer.try_begin()
    }

    /// Whether another zone has taken the place of this one: nothing is to be changed here any more.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::Acquire)
    }

    /// This zone, which is new, takes the place of another one: what is counted from the start of nginx
    /// on goes on here.
    pub fn supersede(&self, old: &Self) {
        old.is_superseded.store(true, Ordering::Release);
        self.earlier.store(old.earlier() + old.configuration(), Ordering::Relaxed);
        self.respawned.store(old.respawned(), Ordering::Relaxed);
    }

    /// How many configurations ran in the zones whose place this one has taken.
    pub fn earlier(&self) -> u64 {
        self.earlier.load(Ordering::Relaxed)
    }

    /// What stands for the directory in which settings are kept; 0: there is none.
    pub fn directory(&self) -> u64 {
        self.directory.load(Ordering::Acquire)
    }

    /// See [`directory`](Self::directory).
    pub fn set_directory(&self, directory: u64) {
        self.directory.store(directory, Ordering::Release);
    }

    /// What is added to a monotonic time to get the one since 1970, both in milliseconds: what is found `now`
    /// by two clocks. They are read apart, and each may be about to come to the next millisecond: a
    /// difference of one is none, so that the same moment is always shown alike.
    pub fn clock_offset(&self, now: i64) -> i64 {
        let known = self.clock_offset.load(Ordering::Relaxed);
        if now.abs_diff(known) <= 1 {
            return known;
        }
        self.clock_offset.store(now, Ordering::Relaxed);
        now
    }

    /// A worker starts, of the configuration of this number, which has so many.
    pub fn start_worker(&self, configuration: u64, workers: usize) {
        let next = |started: u64| match started >> 32 {
            last if last == configuration => Some(started + 1),
            last if last < configuration => Some(configuration << 32 | 1),
            _ => None,
        };
        let started = self.started.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let before = started.ok().filter(|started| started >> 32 == configuration);
        if before.is_some_and(|started| started as u32 as usize >= workers) {
            self.respawned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many workers were started in place of one that died.
    pub fn respawned(&self) -> u64 {
        self.respawned.load(Ordering::Relaxed)
    }

    /// The clusters: those of the running configuration, those that came to be at run time, and those
    /// that draining workers still use.
    ///
    /// The caller holds the slab, or is a worker that has a slot and uses only clusters of its own
    /// configuration: others may be freed at any time.
    pub fn clusters(&self) -> impl Iterator<Item = &'static Cluster> {
        let mut next = NonNull::new(self.clusters.load(Ordering::Acquire));
        std::iter::from_fn(move || {
            // SAFETY: as the caller holds the slab, or as the worker's slot keeps it.
            let cluster: &'static Cluster = unsafe { next?.as_ref() };
            next = NonNull::new(cluster.next().load(Ordering::Acquire));
            Some(cluster)
        })
    }

    /// The cluster of this name; the same holds as for [`clusters`](Self::clusters).
    pub fn cluster(&self, name: &str) -> Option<&'static Cluster> {
        self.clusters().find(|cluster| cluster.name() == name)
    }

    /// Prepares the records of one cluster for the configuration that is being read. Nothing of it
    /// is seen by any worker before [`commit`](Self::commit). `old` is the zone that this one is
    /// to replace, where there is one. The caller has the right to change settings.
    ///
    /// # Errors
    /// Where the zone is full. What was prepared then stays until [`discard`](Self::discard).
    pub fn prepare(
        &self,
        slab: &impl Slab,
        name: &str,
        plan: &Plan<'_>,
        documents: Documents<'_>,
        old: Option<&Self>,
    ) -> Result<(), Full> {
        let cluster = self.find_or_create(slab, name)?;
        let predecessor = old.and_then(|old| old.cluster(name));
        let rotation = self.create_rotation(slab, plan, documents, cluster, predecessor)?;
        cluster.prepared().store(rotation, Ordering::Relaxed);
        Ok(())
    }

    fn find_or_create(&self, slab: &impl Slab, name: &str) -> Result<&'static Cluster, Full> {
        if let Some(cluster) = self.cluster(name) {
            return Ok(cluster);
        }
        let slots = self.slots_length.load(Ordering::Relaxed) as usize;
        let created = Cluster::create(slab, name, self.clusters.load(Ordering::Relaxed), slots)?;
        self.clusters.store(created, Ordering::Release);
        // SAFETY: it was just made, and is freed only by `discard` and `sweep`.
        Ok(unsafe { &*created })
    }

    /// A new generation with its rotation, for a cluster. `predecessor` is the same cluster in the
    /// zone that this one is to replace.
    fn create_rotation(
        &self,
        slab: &impl Slab,
        plan: &Plan<'_>,
        documents: Documents<'_>,
        cluster: &Cluster,
        predecessor: Option<&Cluster>,
    ) -> Result<*mut Rotation, Full> {
        let current = predecessor.unwrap_or(cluster).current();
        // SAFETY: in this zone it is replaced only by who holds the slab, as we do; in the one that
        // this is to replace, what is in use stays mapped while the master prepares.
        let before = unsafe { current.as_ref() };
        let slots = self.slots_length.load(Ordering::Relaxed) as usize;
        let same_zone = predecessor.is_none();
        let before_it = before.map(Rotation::generation);
        let known = before_it.filter(|_| same_zone).map_or(ptr::null(), Generation::documents);
        let documents = match documents {
            Documents::None => ptr::null_mut(),
            Documents::Same => known.cast_mut(),
            Documents::Next(lines) => Document::create(slab, lines, known.cast_mut())?,
            Documents::New(lines) => Document::create(slab, lines, ptr::null_mut())?,
        };
        let (generation, copies) = Generation::create(
            slab, plan, before_it, same_zone, slots, documents,
        )
        .inspect_err(|_| {
            // SAFETY: nobody else knows of those that were just made.
            unsafe { Document::discard(slab, documents) }
        })?;
        // SAFETY: it was just made, and nobody else knows of it.
        let made = unsafe {
            (*generation).version = self.next_version();
            if plan.settings == 0 {
                let same = before_it.filter(|before| {
                    documents.is_null() && before.document().is_none() && before.base() == plan.base
                });
                (*generation).settings =
                    same.map_or_else(|| self.next_version(), Generation::settings);
            }
            &*generation
        };
        if let Some(predecessor) = predecessor {
            cluster.copy_servers(made, &copies, predecessor);
        }
        let rotation = Rotation::create(slab, made).inspect_err(|_| {
            // SAFETY: likewise.
            unsafe { Generation::discard(slab, generation) };
            // SAFETY: likewise.
            unsafe { Document::discard(slab, documents) }
        })?;
        if let Some(before) = before.filter(|_| !same_zone) {
            // SAFETY: likewise.
            unsafe { (*rotation).go_on_from(before) }
        }
        Ok(rotation)
    }

    /// Sees to it that `workers` more workers find a slot, and their counters in all servers, also in
    /// those of a configuration that is being prepared. The caller holds the slab.
    ///
    /// # Errors
    /// Where the zone is full.
    pub fn reserve_slots(&self, slab: &impl Slab, workers: usize) -> Result<(), Full> {
        self.reap();
        let have = self.slots_length.load(Ordering::Relaxed) as usize;
        let free = self.slots().filter(|slot| !slot.is_taken()).count();
        // As many again for the workers of the next configuration: the counters for those that come
        // first lie in the records of the servers, those for later ones beside them.
        let wanted = if free < workers { have + 2 * workers - free } else { have };
        let all = |cluster| servers(cluster).chain(prepared(cluster));
        for server in self.clusters().flat_map(all) {
            server.uses().extend(slab, wanted)?;
        }
        for cluster in self.clusters() {
            cluster.uses().extend(slab, wanted)?;
        }
        for index in have..wanted {
            let first = self.slots.load(Ordering::Relaxed);
            let slot = Slot::create(slab, index as u32, first).ok_or(Full)?;
            self.slots.store(slot, Ordering::Release);
            self.slots_length.store(index as u32 + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Frees what was prepared for a configuration that was not taken into use after all.
    pub fn discard(&self, slab: &impl Slab) {
        for cluster in self.clusters() {
            // SAFETY: it was never published.
            unsafe { discard_rotation(slab, cluster.prepared()) }
        }
        // SAFETY: a cluster without a rotation was made for that configuration; workers reach
        // clusters by the configuration they run, which is none that has it.
        unsafe { self.free_clusters(slab, |cluster| cluster.current().is_null()) }
    }

    /// Takes what was prepared into use. Clusters that were not prepared are removed: they stay
    /// until the last worker that may use them is gone.
    ///
    /// The caller holds the slab, although nothing is allocated: a worker may be in `sweep`.
    pub fn commit(&self, _slab: &impl Slab) {
        let last = self.configuration();
        for cluster in self.clusters() {
            let prepared = cluster.prepared().swap(ptr::null_mut(), Ordering::Relaxed);
            if prepared.is_null() {
                cluster.remove(last);
            } else {
                self.publish(cluster, prepared);
                cluster.keep();
            }
        }
        self.configuration.store(last + 1, Ordering::Release);
    }

    /// Replaces the servers of a cluster, all at once; the settings are what they were. The caller has
    /// the right to change settings.
    ///
    /// # Errors
    /// Where the zone is full; then nothing has changed.
    pub fn update(&self, slab: &impl Slab, cluster: &Cluster, plan: &Plan<'_>) -> Result<(), Full> {
        let rotation = self
            .make_room(slab, || self.create_rotation(slab, plan, Documents::Same, cluster, None))?;
        self.publish(cluster, rotation);
        self.sweep(slab);
        Ok(())
    }

    fn make_room<T>(
        &self,
        slab: &impl Slab,
        create: impl Fn() -> Result<T, Full>,
    ) -> Result<T, Full> {
        self.sweep(slab);
        create().or_else(|_| {
            self.reap();
            self.sweep(slab);
            create()
        })
    }

    /// Makes all that it takes to change the settings of a cluster, which need not be there yet, and
    /// changes nothing. The caller has the right to change settings, and keeps it until it has called
    /// [`publish_reserved`](Self::publish_reserved) or [`discard_reserved`](Self::discard_reserved).
    ///
    /// # Errors
    /// Where the zone is full; then nothing is reserved.
    pub fn reserve(
        &self,
        slab: &impl Slab,
        name: &str,
        plan: &Plan<'_>,
        documents: Documents<'_>,
    ) -> Result<&'static Cluster, Full> {
        let create = || {
            self.make_room(slab, || {
                let cluster = self.find_or_create(slab, name)?;
                Ok((cluster, self.create_rotation(slab, plan, documents, cluster, None)?))
            })
        };
        // A change that makes the cluster smaller needs room, too.
        let made = create().or_else(|full| {
            let cluster = self.cluster(name).filter(|cluster| self.forget_earlier(cluster));
            cluster.ok_or(full).and_then(|_| create())
        });
        let (cluster, rotation) = made?;
        cluster.reserved().store(rotation, Ordering::Release);
        fault::point("reserve");
        Ok(cluster)
    }

    /// Retires what is kept of the earlier settings of a cluster. Returns whether there was any.
    fn forget_earlier(&self, cluster: &Cluster) -> bool {
        let guard = cluster.lock();
        let first = guard.generation().map_or(ptr::null(), Generation::documents);
        let kept: Vec<_> = Document::list(first).collect();
        let [newest, earlier @ ..] = &kept[..] else { return false };
        // First cut off: nobody goes on with this for one that dies in between, who loses their memory.
        newest.cut();
        let last = self.epoch.advance();
        earlier.iter().for_each(|it| self.retire(ptr::from_ref(*it).cast(), last));
        !earlier.is_empty()
    }

    /// Takes into use what was reserved, at `now` in monotonic milliseconds: a server that is new among
    /// others does not have its whole share at once where it starts slowly.
    pub fn publish_reserved(&self, slab: &impl Slab, cluster: &Cluster, now: u64) {
        let rotation = cluster.reserved().load(Ordering::Acquire);
        // SAFETY: null, or made in this zone, and not in use yet.
        let Some(new) = (unsafe { rotation.as_ref() }) else { return };
        // SAFETY: it is replaced only by who holds the slab, as we do.
        let before = unsafe { cluster.current().as_ref() }.map(Rotation::generation);
        let is_live = |generation: &Generation| !generation.is_deleted();
        let (was_there, is_there) = (before.is_some_and(is_live), is_live(new.generation()));
        let is_born = new.generation().is_born();
        for peer in new.generation().peers().iter().filter(|_| was_there) {
            if peer.slow_start != 0 && !peer.server.is_adopted() {
                peer.server.set_returned_at(now);
            }
        }
        self.publish(cluster, rotation);
        cluster.follow_use(now);
        if is_born && is_there {
            cluster.keep();
            if !was_there {
                self.births.fetch_add(1, Ordering::Release);
            }
        } else if is_born {
            cluster.abandon();
        }
        self.sweep(slab);
    }

    /// Throws away what was reserved for a cluster, by whom ever.
    pub fn discard_reserved(&self, slab: &impl Slab, cluster: &Cluster) {
        // Who reserved it may have died when it was in use already.
        self.finish();
        // SAFETY: it was never published, and who reserved it is the caller, or is dead.
        unsafe { discard_rotation(slab, cluster.reserved()) }
        if cluster.current().is_null() && cluster.prepared().load(Ordering::Acquire).is_null() {
            cluster.abandon();
        }
    }

    /// Has the rotation of a cluster follow the health of its servers, which has changed.
    ///
    /// # Errors
    /// Where the zone is full. Then the scan picks, which looks at the health itself.
    pub fn refresh(&self, slab: &impl Slab, cluster: &Cluster) -> Result<(), Full> {
        self.sweep(slab);
        // SAFETY: it is replaced only by who holds the slab, as we do.
        let Some(before) = (unsafe { cluster.current().as_ref() }) else { return Ok(()) };
        match Rotation::create(slab, before.generation()) {
            Ok(rotation) => {
                self.publish(cluster, rotation);
                self.sweep(slab);
                Ok(())
            }
            Err(full) => {
                cluster.lock().give_up_order();
                Err(full)
            }
        }
    }

    /// Takes a rotation into use, and retires what it replaces. The caller holds the slab.
    fn publish(&self, cluster: &Cluster, rotation: *mut Rotation) {
        cluster.replaced().store(cluster.current(), Ordering::Release);
        self.unfinished.store(ptr::from_ref(cluster).cast_mut(), Ordering::Release);
        // SAFETY: it was made in this zone, and is not in use yet.
        unsafe { cluster.publish(rotation) };
        fault::point("retire");
        self.finish();
    }

    /// What is left of a publication by a process that dies within it.
    #[cfg(test)]
    pub(super) fn die_before_publication(&self, cluster: &Cluster) {
        cluster.replaced().store(cluster.current(), Ordering::Release);
        self.unfinished.store(ptr::from_ref(cluster).cast_mut(), Ordering::Release);
    }

    /// Retires what the last publication replaced: that of this process, or one that a process did
    /// not live to finish. The caller holds the slab.
    fn finish(&self) {
        // SAFETY: null, or a cluster, which is not freed before it is finished.
        let Some(cluster) = (unsafe { self.unfinished.load(Ordering::Acquire).as_ref() }) else {
            return;
        };
        let (before, current) = (cluster.replaced().load(Ordering::Acquire), cluster.current());
        // What was reserved is in use: it is no longer to be thrown away.
        let _ = cluster.reserved().compare_exchange(
            current,
            ptr::null_mut(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        // SAFETY: the one is in use, or null where a process died before a new cluster had any; the other
        // may be null, or is freed by `sweep` only, once it is in the list.
        let (new, old) = unsafe { (current.as_ref(), before.as_ref()) };
        let Some(new) = new.map(Rotation::generation) else {
            return self.unfinished.store(ptr::null_mut(), Ordering::Release);
        };
        Document::adopt(new.documents());
        if let Some(old) = old.filter(|_| before != current) {
            let last = self.epoch.advance();
            let generation = old.generation();
            if !ptr::eq(generation, new) {
                // Removed by an update while a reload was prepared that has them.
                self.unlink(
                    |link| new.peers().iter().any(|peer| ptr::eq(link, &peer.server.link)),
                    |_| {},
                );
                for server in generation.servers_not_in(Some(new)) {
                    self.retire(ptr::from_ref(server).cast(), last);
                }
                self.retire_documents(generation, new, last);
                self.retire(ptr::from_ref(generation).cast(), last);
            }
            self.retire(before.cast_const().cast(), last);
        }
        self.unfinished.store(ptr::null_mut(), Ordering::Release);
    }

    /// Retires what was kept of earlier settings, where there is more than is to be kept.
    fn retire_documents(&self, old: &Generation, new: &Generation, last: u64) {
        let kept: Vec<_> = Document::list(new.documents()).collect();
        let is_kept = |document: &&Document| kept.iter().any(|other| ptr::eq(*other, *document));
        for document in Document::list(old.documents()).filter(|document| !is_kept(document)) {
            self.retire(ptr::from_ref(document).cast(), last);
        }
        // First listed, then cut off: one that dies in between has not lost them.
        for document in kept.iter().skip(1 + MAX_EARLIER) {
            self.retire(ptr::from_ref(*document).cast(), last);
        }
        if let Some(oldest) = kept.get(MAX_EARLIER) {
            oldest.cut();
        }
    }

    /// Puts a record into the list of those that wait to be freed. `link` is its address.
    fn retire(&self, link: *const Link, last: u64) {
        // SAFETY: it is a record that begins with its link, and is freed by `sweep` only.
        let retired = unsafe { &*link };
        if retired.retired_at() != 0 {
            // A process retired it that did not live to finish.
            return;
        }
        // In this order: one that dies in between loses the record, and does not list it twice.
        retired.set_retired_at(last);
        retired.next.store(self.retired.load(Ordering::Relaxed), Ordering::Relaxed);
        self.retired.store(link.cast_mut(), Ordering::Release);
    }

    /// Takes the records that `wanted` says out of the list, and gives each to `take` right after.
    fn unlink(&self, wanted: impl Fn(&Link) -> bool, take: impl Fn(NonNull<Link>)) {
        let mut place = &self.retired;
        while let Some(address) = NonNull::new(place.load(Ordering::Acquire)) {
            // SAFETY: what is in the list was not freed.
            let link: &'static Link = unsafe { address.as_ref() };
            if wanted(link) {
                place.store(link.next.load(Ordering::Relaxed), Ordering::Release);
                link.set_retired_at(0);
                take(address);
            } else {
                place = &link.next;
            }
        }
    }

    /// Whether a configuration that is being prepared has this server.
    fn is_prepared(&self, server: &Server) -> bool {
        self.clusters().any(|cluster| {
            // SAFETY: what is prepared is freed only by who holds the slab, as the caller does.
            let prepared = unsafe { cluster.prepared().load(Ordering::Acquire).as_ref() };
            prepared.is_some_and(|rotation| {
                rotation.generation().peers().iter().any(|peer| ptr::eq(peer.server, server))
            })
        })
    }

    /// A visit of the worker that has `slot`: what it finds in the zone is not freed meanwhile.
    #[inline]
    pub fn visit<'a>(&self, slot: &'a Slot) -> Visit<'a> {
        slot.presence().enter(&self.epoch)
    }

    fn slots(&self) -> impl Iterator<Item = &'static Slot> {
        Slot::list(&self.slots)
    }

    /// Takes a slot for a worker. `process` is its identity, `number` its number, `configuration` that
    /// of what it runs, `now` in monotonic milliseconds. The caller holds the slab. `None`: there is
    /// no free one.
    pub fn claim_slot(
        &self,
        process: u64,
        number: u32,
        configuration: u64,
        now: u64,
    ) -> Option<&'static Slot> {
        self.reap();
        self.slots().find(|slot| slot.claim(process, number, configuration, now))
    }

    /// A slot outside the zone, for a worker that found none in it. Such a worker serves, but
    /// nobody sees what it uses: nothing is freed from now on, and its connections are not counted.
    pub fn detached_slot(&self) -> &'static Slot {
        self.is_swept.store(false, Ordering::Relaxed);
        Box::leak(Box::new(Slot::detached(self.configuration())))
    }

    /// Gives the slot of a process back that ends. The caller holds the slab.
    pub fn release_slot(&self, slot: &Slot) {
        for server in self.all_servers() {
            fault::point("give back");
            server.uses().clear(slot.index());
        }
        for cluster in self.clusters() {
            cluster.uses().clear(slot.index());
        }
        slot.free();
    }

    /// Gives back what dead workers had. The caller holds the slab.
    pub fn reap(&self) {
        for slot in self.slots().filter(|slot| slot.is_orphaned()) {
            self.release_slot(slot);
        }
    }

    /// The workers that have a slot: those of the running configuration, dead or alive, and of others
    /// those that are alive.
    pub fn workers(&self) -> impl Iterator<Item = &'static Slot> + '_ {
        self.slots().filter(|slot| {
            let is_current = slot.configuration() == self.configuration();
            slot.seen() != 0 && (is_current || slot.is_taken())
        })
    }

    /// All servers that a worker may refer to.
    fn all_servers(&self) -> impl Iterator<Item = &'static Server> {
        let mut waiting = Vec::new();
        let mut next = NonNull::new(self.retired.load(Ordering::Acquire));
        while let Some(address) = next {
            // SAFETY: what is in the list was not freed; a link of that kind is in a server.
            unsafe {
                if address.as_ref().kind() == Kind::Server {
                    waiting.push(address.cast::<Server>().as_ref());
                }
                next = NonNull::new(address.as_ref().next.load(Ordering::Acquire));
            }
        }
        self.clusters().flat_map(servers).chain(waiting)
    }

    /// Frees what no live worker can use any more. The caller holds the slab, and makes sure that
    /// every worker has a slot.
    pub fn sweep(&self, slab: &impl Slab) {
        self.finish();
        if !self.is_swept.load(Ordering::Relaxed) {
            return;
        }
        let over = |last| self.slots().all(|slot| slot.presence().is_over(last));
        let doomed = |link: &Link| {
            over(link.retired_at())
                && (link.kind() != Kind::Server || {
                    // SAFETY: a link of that kind is in a server.
                    let server = unsafe { &*ptr::from_ref(link).cast::<Server>() };
                    !server.uses().is_pinned() && !self.is_prepared(server)
                })
        };
        self.unlink(doomed, |address| {
            fault::point("sweep");
            // SAFETY: nobody finds it any more, nobody who found it is still in that visit, and no
            // request refers to it where it is a server.
            unsafe {
                match address.as_ref().kind() {
                    Kind::Server => Server::free(slab, address.cast::<Server>().as_ref()),
                    Kind::Generation | Kind::Rotation | Kind::Document => {
                        slab.free(address.cast());
                    }
                }
            }
        });

        if self.clusters().all(|cluster| cluster.removed_at().is_none()) {
            return;
        }
        let oldest = self
            .slots()
            .filter(|slot| slot.is_taken())
            .map(Slot::configuration)
            .min()
            .unwrap_or(u64::MAX)
            .min(self.configuration());
        // SAFETY: the workers that could use them are gone, and no other refers to them.
        unsafe {
            self.free_clusters(slab, |cluster| {
                cluster.removed_at().is_some_and(|at| at < oldest)
                    && !cluster.uses().is_pinned()
                    && cluster.reserved().load(Ordering::Acquire).is_null()
                    && cluster.prepared().load(Ordering::Acquire).is_null()
            });
        }
    }

    /// Looks whether all that lies in the zone fits together. The caller holds the slab.
    ///
    /// # Errors
    /// What does not fit.
    #[cfg(any(test, feature = "development"))]
    pub fn verify(&self) -> Result<(), String> {
        const MOST: usize = 10_000_000;
        let mut waiting = HashSet::new();
        let mut next = NonNull::new(self.retired.load(Ordering::Acquire));
        while let Some(address) = next {
            if !waiting.insert(address) || waiting.len() > MOST {
                return Err("the list of what waits to be freed has a loop".to_owned());
            }
            // SAFETY: what is in the list was not freed.
            let link = unsafe { address.as_ref() };
            if link.retired_at() == 0 {
                return Err("what is in use waits to be freed".to_owned());
            }
            next = NonNull::new(link.next.load(Ordering::Acquire));
        }
        for cluster in self.clusters() {
            let guard = cluster.lock();
            let Some(rotation) = guard.rotation() else { continue };
            let name = cluster.name();
            rotation.verify().map_err(|wrong| format!("cluster {name}: {wrong}"))?;
            for document in Document::list(rotation.generation().documents()) {
                if waiting.contains(&NonNull::from(&document.link)) {
                    return Err(format!("cluster {name}: its settings wait to be freed"));
                }
            }
            for server in rotation.generation().servers_not_in(None) {
                if waiting.contains(&NonNull::from(&server.link)) {
                    return Err(format!("cluster {name}: {} waits to be freed", server.name()));
                }
                for slot in self.slots().filter(|slot| !slot.is_taken() && !slot.is_orphaned()) {
                    if server.uses().of(slot.index()).is_some_and(|found| !found.is_clear()) {
                        return Err(format!("{}: a free slot holds it", server.name()));
                    }
                }
            }
        }
        Ok(())
    }

    /// # Safety
    /// Nobody uses the clusters that are `doomed`, nor what is in them.
    unsafe fn free_clusters(&self, slab: &impl Slab, doomed: impl Fn(&Cluster) -> bool) {
        let mut link = &self.clusters;
        while let Some(address) = NonNull::new(link.load(Ordering::Acquire)) {
            // SAFETY: what is in the list was not freed.
            let cluster: &'static Cluster = unsafe { address.as_ref() };
            if !doomed(cluster) {
                link = cluster.next();
                continue;
            }
            link.store(cluster.next().load(Ordering::Relaxed), Ordering::Release);
            // SAFETY: as the caller says.
            unsafe {
                if let Some(rotation) = NonNull::new(cluster.current()) {
                    let generation = rotation.as_ref().generation();
                    let servers: Vec<_> = generation.servers_not_in(None).collect();
                    for server in servers {
                        Server::free(slab, server);
                    }
                    Document::free_all(slab, generation.documents());
                    Generation::free(slab, ptr::from_ref(generation).cast_mut());
                    slab.free(rotation.cast());
                }
                cluster.uses().free(slab);
                slab.free(address.cast());
            }
        }
    }
}

/// Frees a rotation that was never taken into use, with all that was made for it.
///
/// # Safety
/// Nobody else looks at what is stored there.
unsafe fn discard_rotation(slab: &impl Slab, place: &AtomicPtr<Rotation>) {
    if let Some(rotation) = NonNull::new(place.swap(ptr::null_mut(), Ordering::AcqRel)) {
        // SAFETY: as the caller says.
        unsafe {
            let generation = ptr::from_ref(rotation.as_ref().generation());
            let documents = rotation.as_ref().generation().documents();
            slab.free(rotation.cast());
            Generation::discard(slab, generation.cast_mut());
            Document::discard(slab, documents.cast_mut());
        }
    }
}

/// The servers of a cluster, each once.
fn servers(cluster: &'static Cluster) -> impl Iterator<Item = &'static Server> {
    // SAFETY: who holds the slab keeps it from being replaced and freed.
    let rotation = unsafe { cluster.current().as_ref() };
    rotation.map(|rotation| rotation.generation().servers_not_in(None)).into_iter().flatten()
}

/// Those that a configuration has for it which is being prepared, each once.
fn prepared(cluster: &'static Cluster) -> impl Iterator<Item = &'static Server> {
    // SAFETY: what is prepared is freed only by who holds the slab, as the caller does.
    let rotation = unsafe { cluster.prepared().load(Ordering::Acquire).as_ref() };
    rotation.map(|rotation| rotation.generation().servers_not_in(None)).into_iter().flatten()
}
