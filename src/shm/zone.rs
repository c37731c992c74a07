//! The root of the zone.

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

use super::cluster::Cluster;
use super::generation::{Generation, Plan};
use super::worker::Slot;
use super::{Full, Slab};

/// The first bytes of a zone of ours.
const MAGIC: u64 = u64::from_be_bytes(*b"checkups");

/// To be raised by every change of what lies in the zone: another image of the module may find a
/// zone that this one made.
const LAYOUT_VERSION: u64 = 1;

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
    /// Generations that wait to be freed.
    retired: AtomicPtr<Generation>,
    slots: AtomicPtr<Slot>,
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
                retired: AtomicPtr::new(ptr::null_mut()),
                slots: AtomicPtr::new(ptr::null_mut()),
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

    /// The clusters: those of the running configuration, and those that draining workers still
    /// use.
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
    /// to replace, where there is one.
    ///
    /// # Errors
    /// Where the zone is full. What was prepared then stays until [`discard`](Self::discard).
    pub fn prepare(
        &self,
        slab: &impl Slab,
        name: &str,
        plan: &Plan<'_>,
        old: Option<&Self>,
    ) -> Result<(), Full> {
        let cluster = match self.cluster(name) {
            Some(cluster) => cluster,
            None => {
                let created = Cluster::create(slab, name, self.clusters.load(Ordering::Relaxed))?;
                self.clusters.store(created, Ordering::Release);
                // SAFETY: it was just made, and is freed only by `discard` and `sweep`.
                unsafe { &*created }
            }
        };
        let predecessor = old.and_then(|old| old.cluster(name));
        let current = predecessor.unwrap_or(cluster).current();
        // SAFETY: only the master replaces and frees the current generation, and this is the master.
        let before = unsafe { current.as_ref() };
        let same_zone = predecessor.is_none();
        let generation = Generation::create(slab, plan, before, same_zone)?;
        cluster.prepared().store(generation, Ordering::Relaxed);
        if let Some(predecessor) = predecessor {
            cluster.copy_from(predecessor);
        }
        Ok(())
    }

    /// Sees to it that `workers` more workers find a slot.
    ///
    /// # Errors
    /// Where the zone is full.
    pub fn reserve_slots(&self, slab: &impl Slab, workers: usize) -> Result<(), Full> {
        let free = Slot::list(&self.slots).filter(|slot| !slot.is_taken()).count();
        for _ in free..workers {
            let slot = Slot::create(slab, self.slots.load(Ordering::Relaxed)).ok_or(Full)?;
            self.slots.store(slot, Ordering::Release);
        }
        Ok(())
    }

    /// Frees what was prepared for a configuration that was not taken into use after all.
    pub fn discard(&self, slab: &impl Slab) {
        for cluster in self.clusters() {
            let prepared = cluster.prepared().swap(ptr::null_mut(), Ordering::Relaxed);
            if !prepared.is_null() {
                // SAFETY: it was never published.
                unsafe { Generation::discard(slab, prepared) }
            }
        }
        // SAFETY: a cluster without a generation was made for that configuration; workers reach
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
            if cluster.prepared().load(Ordering::Relaxed).is_null() {
                cluster.remove(last);
                continue;
            }
            let before = cluster.publish();
            if let Some(generation) = NonNull::new(before) {
                // SAFETY: it was published before, and is freed by `sweep` only, which does not run
                // while the slab is held.
                unsafe { generation.as_ref() }.retire(last, self.retired.load(Ordering::Relaxed));
                self.retired.store(before, Ordering::Release);
            }
        }
        self.configuration.store(last + 1, Ordering::Release);
    }

    /// Takes a slot for a worker. `process` is its id, `number` its number, `now` in monotonic
    /// milliseconds. `None`: there is no free one.
    pub fn claim_slot(&self, process: u32, number: u32, now: u64) -> Option<&'static Slot> {
        Slot::list(&self.slots).find(|slot| slot.claim(process, number, self.configuration(), now))
    }

    /// The workers of the running configuration that have a slot, dead or alive.
    pub fn workers(&self) -> impl Iterator<Item = &'static Slot> + '_ {
        Slot::list(&self.slots)
            .filter(|slot| slot.seen() != 0 && slot.configuration() == self.configuration())
    }

    /// Frees what no live worker can use any more. The caller holds the slab, and makes sure that
    /// every worker has a slot.
    pub fn sweep(&self, slab: &impl Slab) {
        let oldest = Slot::list(&self.slots)
            .filter(|slot| slot.is_taken())
            .map(Slot::configuration)
            .min()
            .unwrap_or(u64::MAX)
            .min(self.configuration());

        let mut link = &self.retired;
        while let Some(generation) = NonNull::new(link.load(Ordering::Acquire)) {
            // SAFETY: what is in the list is freed only here, under the lock of the slab.
            let retired: &'static Generation = unsafe { generation.as_ref() };
            if retired.retired_at() < oldest {
                link.store(retired.next_retired().load(Ordering::Relaxed), Ordering::Release);
                // SAFETY: every worker that could have seen it is gone.
                unsafe { Generation::free(slab, generation.as_ptr()) }
            } else {
                link = retired.next_retired();
            }
        }
        // SAFETY: likewise.
        unsafe {
            self.free_clusters(slab, |cluster| {
                !cluster.current().is_null() && cluster.removed_at().is_some_and(|at| at < oldest)
            });
        }
    }

    /// # Safety
    /// Nobody uses the clusters that are `doomed`, nor their generations.
    unsafe fn free_clusters(&self, slab: &impl Slab, doomed: impl Fn(&Cluster) -> bool) {
        let mut link = &self.clusters;
        while let Some(address) = NonNull::new(link.load(Ordering::Acquire)) {
            // SAFETY: what is in the list was not freed.
            let cluster: &'static Cluster = unsafe { address.as_ref() };
            if doomed(cluster) {
                link.store(cluster.next().load(Ordering::Relaxed), Ordering::Release);
                // SAFETY: as the caller says.
                unsafe {
                    if !cluster.current().is_null() {
                        Generation::free(slab, cluster.current());
                    }
                    slab.free(address.cast());
                }
            } else {
                link = cluster.next();
            }
        }
    }
}
