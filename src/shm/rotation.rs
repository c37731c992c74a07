//! The orders in which the servers of a cluster take turns, level by level, for one generation and
//! one state of their health.

use std::alloc::Layout;
use std::collections::HashSet;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::generation::{Generation, Level, Peer};
use super::retired::{Kind, Link};
use super::verdict::Verdict;
use super::{Full, Slab};
use crate::logic::balance::sequence::{self, Place};
use crate::logic::balance::Method;

/// For how many rounds, and for how many picks at the least, the scan goes on where it keeps another
/// order than the rotation although nothing is unusual any more.
const PATIENCE: (u32, u32) = (8, 4096);

/// What a worker finds where a cluster points to: all that it takes to pick a server.
#[repr(C)]
pub struct Rotation {
    pub(super) link: Link,
    generation: *const Generation,
    levels: *const LevelRotation,
    levels_length: u32,
}

/// The order of one level.
#[repr(C)]
pub struct LevelRotation {
    order: *const u16,
    /// The length of the order; 0: there is none, and the classic scan picks.
    length: u32,
    /// The index of the first peer of the level.
    start: u32,
    /// How many peers take turns.
    members: u32,
    /// How many servers those are.
    servers: u32,
    /// For how many picks in a row the scan has picked what the order says.
    agreed: AtomicU32,
    /// For how many picks in a row the scan has found nothing unusual.
    calm: AtomicU32,
    /// See [`Place::rest`].
    rest: AtomicU32,
    /// See [`is_limited`](Self::is_limited).
    limited: bool,
    /// Whether the classic scan picks, as something is not as usual.
    disturbed: AtomicBool,
    /// Whether the order no longer fits the health of the servers.
    outdated: AtomicBool,
    /// How many picks there were: the place in the order.
    cursor: AtomicU64,
}

/// What goes into the order of one level.
struct Members {
    start: usize,
    /// The peers that take turns, as indices within the level.
    indices: Vec<u16>,
    weights: Vec<u32>,
    servers: usize,
    /// How long the order is; 0: there is none.
    length: usize,
    limited: bool,
}

impl Members {
    fn of(generation: &Generation, level: &Level, verdict: &Verdict) -> Self {
        let range = level.range();
        let peers = &generation.peers()[range.clone()];
        let used = || {
            peers.iter().enumerate().filter(|(index, peer)| verdict.uses(range.start + index, peer))
        };
        let servers: HashSet<_> = used().map(|(_, peer)| ptr::from_ref(peer.server)).collect();
        let (indices, weights): (Vec<u16>, Vec<u32>) = used()
            .filter_map(|(index, peer)| Some((u16::try_from(index).ok()?, peer.weight)))
            .unzip();
        // Where there is no sequence, or no room for it, the scan does as well, only slower.
        let all_fit = peers.len() <= sequence::MOST_PEERS;
        let length = sequence::length(&weights).filter(|_| all_fit).unwrap_or(0);
        Self {
            start: range.start,
            indices,
            weights,
            servers: servers.len(),
            length,
            limited: level.tries != 0
                || level.tries_timeout != 0
                || generation.method() != Method::RoundRobin
                    && peers.iter().any(|peer| peer.max_conns != 0),
        }
    }
}

impl Rotation {
    /// Makes the rotation over the servers of a generation that can be used by their health.
    ///
    /// # Errors
    /// Where the zone is full.
    pub(super) fn create(slab: &impl Slab, generation: &Generation) -> Result<*mut Self, Full> {
        let verdict = generation.judge();
        let mut levels: Vec<Members> = generation
            .levels()
            .iter()
            .map(|level| Members::of(generation, level, &verdict))
            .collect();
        let allocated = Self::allocate(slab, &levels).or_else(|Full| {
            for level in &mut levels {
                level.length = 0;
            }
            Self::allocate(slab, &levels)
        });
        let (memory, levels_at, orders_at) = allocated?;

        // SAFETY: the memory has room for a Self, the levels and the orders behind it, and nobody
        // else knows of it yet.
        unsafe {
            let first = memory.add(levels_at).cast::<LevelRotation>();
            let mut order = memory.add(orders_at).cast::<u16>();
            for (number, level) in levels.iter().enumerate() {
                for index in 0..level.length {
                    order.add(index).write(0);
                }
                let filled = slice::from_raw_parts_mut(order.as_ptr(), level.length);
                sequence::fill(&level.weights, filled);
                for slot in filled {
                    *slot = level.indices[usize::from(*slot)];
                }
                first.add(number).write(LevelRotation {
                    order: order.as_ptr(),
                    length: level.length as u32,
                    start: level.start as u32,
                    members: level.indices.len() as u32,
                    servers: level.servers as u32,
                    agreed: AtomicU32::new(0),
                    calm: AtomicU32::new(0),
                    rest: AtomicU32::new(0),
                    limited: level.limited,
                    // A level of which nothing can be used needs no scan to find that out.
                    disturbed: AtomicBool::new(level.length == 0 && level.servers > 0),
                    outdated: AtomicBool::new(false),
                    cursor: AtomicU64::new(0),
                });
                order = order.add(level.length);
            }
            memory.cast::<Self>().write(Self {
                link: Link::new(Kind::Rotation),
                generation,
                levels: first.as_ptr(),
                levels_length: levels.len() as u32,
            });
        }
        Ok(memory.cast().as_ptr())
    }

    /// Memory for all, and where in it the levels and the orders are.
    fn allocate(slab: &impl Slab, levels: &[Members]) -> Result<(NonNull<u8>, usize, usize), Full> {
        let length = levels.iter().map(|level| level.length).sum();
        let records = Layout::array::<LevelRotation>(levels.len()).map_err(|_| Full)?;
        let orders = Layout::array::<u16>(length).map_err(|_| Full)?;
        let (layout, levels_at) = Layout::new::<Self>().extend(records).map_err(|_| Full)?;
        let (layout, orders_at) = layout.extend(orders).map_err(|_| Full)?;
        Ok((slab.allocate(layout).ok_or(Full)?, levels_at, orders_at))
    }

    /// The generation whose servers take turns.
    #[inline]
    pub fn generation(&self) -> &'static Generation {
        // SAFETY: a generation is retired together with its last rotation, so that whoever may use
        // this one may use the generation as well; 'static stands for that.
        unsafe { &*self.generation }
    }

    /// The orders of the levels of the generation.
    #[inline]
    pub fn levels(&self) -> &[LevelRotation] {
        // SAFETY: `create` wrote so many.
        unsafe { slice::from_raw_parts(self.levels, self.levels_length as usize) }
    }

    /// Whether the scan picks in any level.
    #[cfg(test)]
    pub(super) fn is_disturbed(&self) -> bool {
        self.levels().iter().any(LevelRotation::is_disturbed)
    }

    /// The order no longer fits the health of the servers.
    pub(super) fn give_up_order(&self) {
        for level in self.levels() {
            level.outdated.store(true, Ordering::Relaxed);
            level.set_disturbed(true);
        }
    }

    /// Goes on where the rotation before is: at the same fraction of a round, and by the scan where
    /// that one is disturbed.
    pub(super) fn go_on_from(&self, before: &Self) {
        for (level, before) in self.levels().iter().zip(before.levels()) {
            level.go_on_from(before);
        }
    }

    /// Looks whether the orders fit the peers.
    ///
    /// # Errors
    /// What does not fit.
    #[cfg(any(test, feature = "development"))]
    pub(super) fn verify(&self) -> Result<(), String> {
        let generation = self.generation();
        for (level, rotation) in generation.levels().iter().zip(self.levels()) {
            let (members, weights, order) = rotation.by_member(generation);
            let length = sequence::length(&weights).unwrap_or(0);
            let mut expected = vec![0; length];
            sequence::fill(&weights, &mut expected);
            let (start, count) = (level.range().start, rotation.members());
            if rotation.length > 0 && (rotation.start() != start || members.len() != count) {
                return Err("the order has other peers than the level".to_owned());
            }
            if rotation.length > 0 && order != expected {
                return Err("the order is not that of the weights".to_owned());
            }
        }
        Ok(())
    }
}

impl LevelRotation {
    /// The peers that take turns, in their order, as indices within the level.
    pub(super) fn order(&self) -> &[u16] {
        // SAFETY: `create` wrote so many.
        unsafe { slice::from_raw_parts(self.order, self.length as usize) }
    }

    /// The peers that take turns, as indices within the level, their weights, and the order as
    /// indices into these.
    pub(super) fn by_member(&self, generation: &Generation) -> (Vec<u16>, Vec<u32>, Vec<u16>) {
        let peers: &[Peer] = &generation.peers()[self.start()..];
        let mut places: Vec<Option<u16>> = vec![None; peers.len()];
        for &index in self.order() {
            places[usize::from(index)] = Some(0);
        }
        let mut members = Vec::with_capacity(self.members());
        for (index, place) in places.iter_mut().enumerate() {
            if let Some(place) = place {
                *place = members.len() as u16;
                members.push(index as u16);
            }
        }
        let weights = members.iter().map(|&index| peers[usize::from(index)].weight).collect();
        let order = self.order().iter().filter_map(|&index| places[usize::from(index)]).collect();
        (members, weights, order)
    }

    /// The index of the first peer of the level.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    /// How many peers take turns.
    #[inline]
    pub(super) fn members(&self) -> usize {
        self.members as usize
    }

    /// How many servers take turns.
    #[inline]
    pub(super) fn servers(&self) -> u32 {
        self.servers
    }

    /// Whether the level limits the tries of a request, or its servers may be full without that this
    /// rotation is disturbed.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whether the classic scan has to pick.
    #[inline]
    pub fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// Whether the classic scan picks for another reason than that there is no order.
    pub(super) fn is_unusual(&self) -> bool {
        self.is_disturbed() && self.length > 0
    }

    /// Where there is no order, it stays disturbed; where no server takes turns, there is nothing to
    /// disturb.
    pub(super) fn set_disturbed(&self, disturbed: bool) {
        let disturbed = (disturbed || self.length == 0) && self.servers > 0;
        let outdated = self.outdated.load(Ordering::Relaxed);
        self.disturbed.store(disturbed || outdated, Ordering::Relaxed);
    }

    /// Takes a turn: the index of the peer whose turn it is. To be called only where there are
    /// members, and the rotation was not disturbed.
    #[inline]
    pub fn turn(&self) -> usize {
        let picks = self.cursor.fetch_add(1, Ordering::Relaxed);
        self.at((picks % u64::from(self.length)) as usize)
    }

    /// The index of a peer, drawn by `random` from the order: so each is drawn by its weight.
    /// `None`: there is no order.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        let length = u64::from(self.length);
        (length > 0).then(|| self.at((random % length) as usize))
    }

    #[inline]
    fn at(&self, position: usize) -> usize {
        // SAFETY: the callers give a position below the length.
        self.start() + usize::from(unsafe { *self.order.add(position) })
    }

    /// The scan begins, at the place where the rotation is.
    pub(super) fn begin_scan(&self) {
        self.agreed.store(self.length, Ordering::Relaxed);
        self.calm.store(0, Ordering::Relaxed);
        self.set_disturbed(true);
    }

    /// The scan picks, or something happened, that the order does not know.
    pub(super) fn depart(&self) {
        self.agreed.store(0, Ordering::Relaxed);
        self.calm.store(0, Ordering::Relaxed);
    }

    /// The scan has picked a peer of the level, by its index in it, as if nothing were unusual.
    /// `locate` finds the place where the scan is now, and whether it is there exactly.
    ///
    /// Returns whether the rotation can go on from here: the scan has picked for a whole round what
    /// the order says, or it seems to keep another order for good.
    pub(super) fn agree(
        &self,
        index: usize,
        locate: impl FnOnce() -> Option<(usize, bool)>,
    ) -> bool {
        let agreed = self.agreed.load(Ordering::Relaxed);
        let calm = self.calm.load(Ordering::Relaxed).saturating_add(1);
        self.calm.store(calm, Ordering::Relaxed);

        let is_next = self.order().get(self.position()).copied().map(usize::from) == Some(index);
        let agreed = if agreed > 0 && is_next {
            self.cursor.fetch_add(1, Ordering::Relaxed);
            agreed.saturating_add(1)
        } else if let Some((place, exact)) = locate() {
            self.cursor.store(place as u64, Ordering::Relaxed);
            self.rest.store(0, Ordering::Relaxed);
            if exact {
                self.length
            } else {
                1
            }
        } else {
            self.cursor.fetch_add(1, Ordering::Relaxed);
            u32::from(is_next)
        };
        self.agreed.store(agreed, Ordering::Relaxed);
        agreed >= self.length || calm >= self.length.saturating_mul(PATIENCE.0).max(PATIENCE.1)
    }

    /// How many picks there were since the round began.
    pub(super) fn position(&self) -> usize {
        (self.cursor.load(Ordering::Relaxed) % u64::from(self.length.max(1))) as usize
    }

    fn go_on_from(&self, before: &Self) {
        let place = Place {
            picks: before.cursor.load(Ordering::Relaxed),
            rest: before.rest.load(Ordering::Relaxed),
        }
        .at_same_fraction(before.length as usize, self.length as usize);
        self.cursor.store(place.picks, Ordering::Relaxed);
        self.rest.store(place.rest, Ordering::Relaxed);
        self.set_disturbed(before.is_disturbed());
    }
}
