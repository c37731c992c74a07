//! The order in which the servers of a cluster take turns, for one generation and one state of
//! their health.

use std::alloc::Layout;
use std::collections::HashSet;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::generation::{Generation, Peer};
use super::retired::{Kind, Link};
use super::{Full, Slab};
use crate::logic::balance::sequence::{self, Place};

/// For how many rounds, and for how many picks at the least, the scan goes on where it keeps another
/// order than the rotation although nothing is unusual any more.
const PATIENCE: (u32, u32) = (8, 4096);

/// What a worker finds where a cluster points to: all that it takes to pick a server.
#[repr(C)]
pub struct Rotation {
    pub(super) link: Link,
    generation: *const Generation,
    order: *const u16,
    /// The length of the order; 0: there is none, and the classic scan picks.
    length: u32,
    /// The number of the level that the order is of.
    level: u32,
    /// The index of the first peer of that level.
    start: u32,
    /// How many servers can be used, in all levels.
    choices: u32,
    /// Whether the classic scan picks, as something is not as usual.
    disturbed: AtomicBool,
    /// How many peers take turns.
    members: u32,
    /// For how many picks in a row the scan has picked what the order says.
    agreed: AtomicU32,
    /// For how many picks in a row the scan has found nothing unusual.
    calm: AtomicU32,
    /// Whether the order no longer fits the health of the servers.
    outdated: AtomicBool,
    /// How many picks there were: the place in the order.
    cursor: AtomicU64,
    /// See [`Place::rest`].
    rest: AtomicU32,
}

impl Rotation {
    /// Makes the rotation over the servers of a generation that can be used by their health.
    ///
    /// # Errors
    /// Where the zone is full.
    pub(super) fn create(slab: &impl Slab, generation: &Generation) -> Result<*mut Self, Full> {
        let failed = generation.failed_servers();
        let all_failed = generation.have_all_failed(&failed);
        let usable = |peer: &Peer| {
            !peer.down && (all_failed || !failed.contains(&ptr::from_ref(peer.server)))
        };

        let peers = generation.peers();
        let mut choices = 0;
        let mut found = None;
        for (level, range) in generation.levels().enumerate() {
            let servers: HashSet<_> = peers[range.clone()]
                .iter()
                .filter(|peer| usable(peer))
                .map(|peer| ptr::from_ref(peer.server))
                .collect();
            choices += servers.len();
            if !servers.is_empty() && found.is_none() {
                found = Some((level, range));
            }
        }
        let (level, range) = found.unwrap_or((0, 0..0));
        let start = range.start;
        let all_fit = range.len() <= sequence::MOST_PEERS;
        let (members, weights): (Vec<u16>, Vec<u32>) = range
            .filter(|&index| usable(&peers[index]))
            .filter_map(|index| Some((u16::try_from(index - start).ok()?, peers[index].weight)))
            .unzip();
        // Where there is no sequence, or no room for it, the scan does as well, only slower.
        let length = sequence::length(&weights).filter(|_| all_fit).unwrap_or(0);
        let (memory, length) = match Self::allocate(slab, length) {
            Ok(memory) => (memory, length),
            Err(Full) => (Self::allocate(slab, 0)?, 0),
        };

        // SAFETY: the memory has room for a Self and the order behind it, and nobody else knows of
        // it yet.
        unsafe {
            let order = memory.cast::<Self>().add(1).cast::<u16>();
            for index in 0..length {
                order.add(index).write(0);
            }
            let filled = slice::from_raw_parts_mut(order.as_ptr(), length);
            sequence::fill(&weights, filled);
            for slot in filled {
                *slot = members[usize::from(*slot)];
            }
            memory.cast::<Self>().write(Self {
                link: Link::new(Kind::Rotation),
                generation,
                order: order.as_ptr(),
                length: length as u32,
                level: level as u32,
                start: start as u32,
                choices: choices as u32,
                disturbed: AtomicBool::new(length == 0),
                members: members.len() as u32,
                agreed: AtomicU32::new(0),
                calm: AtomicU32::new(0),
                outdated: AtomicBool::new(false),
                cursor: AtomicU64::new(0),
                rest: AtomicU32::new(0),
            });
        }
        Ok(memory.cast().as_ptr())
    }

    fn allocate(slab: &impl Slab, length: usize) -> Result<NonNull<u8>, Full> {
        let order = Layout::array::<u16>(length).map_err(|_| Full)?;
        let (layout, _) = Layout::new::<Self>().extend(order).map_err(|_| Full)?;
        slab.allocate(layout).ok_or(Full)
    }

    /// The generation whose servers take turns.
    #[inline]
    pub fn generation(&self) -> &'static Generation {
        // SAFETY: a generation is retired together with its last rotation, so that whoever may use
        // this one may use the generation as well; 'static stands for that.
        unsafe { &*self.generation }
    }

    /// The peers of the level that take turns, in their order, as indices within the level.
    pub(super) fn order(&self) -> &[u16] {
        // SAFETY: `create` wrote so many.
        unsafe { slice::from_raw_parts(self.order, self.length as usize) }
    }

    /// The peers that take turns, as indices within the level, their weights, and the order as
    /// indices into these.
    pub(super) fn by_member(&self) -> (Vec<u16>, Vec<u32>, Vec<u16>) {
        let peers = &self.generation().peers()[self.start()..];
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

    /// Looks whether the order fits the peers.
    ///
    /// # Errors
    /// What does not fit.
    #[cfg(any(test, feature = "development"))]
    pub(super) fn verify(&self) -> Result<(), String> {
        let range = self.generation().levels().nth(self.level()).unwrap_or_default();
        let (members, weights, order) = self.by_member();
        let length = sequence::length(&weights).unwrap_or(0);
        let mut expected = vec![0; length];
        sequence::fill(&weights, &mut expected);
        if self.length > 0 && (self.start() != range.start || members.len() != self.members()) {
            return Err("the order has other peers than the level".to_owned());
        }
        if self.length > 0 && order != expected {
            return Err("the order is not that of the weights".to_owned());
        }
        Ok(())
    }

    /// The number of the level that the order is of.
    #[inline]
    pub fn level(&self) -> usize {
        self.level as usize
    }

    /// The index of the first peer of the level.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    /// How many servers can be used, in all levels.
    #[inline]
    pub fn choices(&self) -> u32 {
        self.choices
    }

    /// Whether the classic scan has to pick.
    #[inline]
    pub fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// Where there is no order, the rotation stays disturbed.
    pub(super) fn set_disturbed(&self, disturbed: bool) {
        let disturbed = disturbed || self.length == 0 || self.outdated.load(Ordering::Relaxed);
        self.disturbed.store(disturbed, Ordering::Relaxed);
    }

    /// The order no longer fits the health of the servers.
    pub(super) fn give_up_order(&self) {
        self.outdated.store(true, Ordering::Relaxed);
        self.set_disturbed(true);
    }

    /// Takes a turn: the index of the peer whose turn it is. To be called only where the rotation
    /// was not disturbed.
    #[inline]
    pub fn turn(&self) -> usize {
        let picks = self.cursor.fetch_add(1, Ordering::Relaxed);
        let position = (picks % u64::from(self.length)) as usize;
        // SAFETY: the position is less than the length.
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

    /// How many peers take turns.
    pub(super) fn members(&self) -> usize {
        self.members as usize
    }

    /// How many picks there were since the round began.
    pub(super) fn position(&self) -> usize {
        (self.cursor.load(Ordering::Relaxed) % u64::from(self.length.max(1))) as usize
    }

    /// Goes on where the rotation before is: at the same fraction of a round, and by the scan where
    /// that one is disturbed.
    pub(super) fn go_on_from(&self, before: &Self) {
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
