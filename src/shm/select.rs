//! The way from a request to a server.
//!
//! A request tries the levels in an order of its own, or in theirs. Within a level the method of the
//! cluster picks.
//!
//! **Round robin** has two ways. As long as nothing is unusual, a worker takes the next turn of the
//! rotation: one atomic addition, whatever the number of servers. While the level is disturbed - a
//! server recovers from failures or is left alone for them, has not its whole share yet, is at its
//! limit of connections, or the request has tried one already - the classic scan picks, under the
//! lock of the cluster. It takes over at the place where the rotation is, and hands back there when
//! all is as usual again.
//!
//! **A hash** walks along a ring, and **random two** draws from the order of the rotation; neither
//! takes a lock. **Least connections** compares all servers, under the lock of the cluster: otherwise
//! two workers would find the same server.

use std::ptr;

use smallvec::SmallVec;

use super::cluster::{Cluster, Guard};
use super::epoch::Visit;
use super::fault;
use super::generation::{Generation, Level, Peer};
use super::rotation::{LevelRotation, Rotation};
use super::server::Server;
use super::worker::Slot;
use crate::logic::balance::ring::Ring;
use crate::logic::balance::round_robin::{self, Turn};
use crate::logic::balance::{sequence, slow_start, Method};

/// Numbers of levels, in the order in which they are tried.
pub type Levels = SmallVec<[u16; 8]>;

/// After so many misses on a ring it is made sure that there is a server to be found at all.
const MISSES: usize = 64;

/// How often a server is drawn before the rotation decides. As in nginx
/// (ngx_http_upstream_get_random2_peer).
const DRAWS: usize = 20;

/// A request, by what matters for the selection of a server.
pub trait Request {
    /// Whether it is the first try of a request that wants nothing special: any level in their
    /// order, any server.
    fn is_plain(&self) -> bool;

    /// Whether it is the first try of a request.
    fn is_first(&self) -> bool;

    /// The levels that it may go to, in this order; `None`: all, in their order.
    fn levels(&self, generation: &Generation) -> Option<Levels>;

    /// Whether it was at this server already, for the level of this number.
    fn has_tried(&self, level: usize, server: &Server) -> bool;

    /// Whether it was at this server already, in any level.
    fn has_been_at(&self, server: &Server) -> bool;

    /// How many tries it had in the level of this number, and when the first was, in monotonic
    /// milliseconds.
    fn spent(&self, level: usize) -> (u32, u64);

    /// Which server it sticks to, by [`Peer::sticky`].
    fn sticks_to(&self) -> Option<&[u8]>;

    /// The hash of its key; `None`: it has none.
    fn key(&self) -> Option<u32>;

    /// Gives the ring of a level to `walk`.
    fn with_ring<T>(
        &self,
        generation: &Generation,
        level: usize,
        walk: impl FnOnce(&Ring) -> T,
    ) -> T;

    /// A random number.
    fn random(&self) -> u64;

    /// Monotonic milliseconds.
    fn now(&self) -> u64;
}

/// A server that was selected for a try.
#[derive(Clone, Copy)]
pub struct Selected {
    /// The server.
    pub server: &'static Server,
    /// Of the generation that it was selected from, which may have been freed since.
    version: u64,
    peer: u32,
    level: u32,
    /// Which others could be selected for the next try.
    pub others: Others,
}

/// A selection, with what the configuration says: for the visit in which it was made.
pub struct Picked<'a> {
    /// What is to be kept of it.
    pub selected: Selected,
    /// The level of the server.
    pub level: &'a Level,
    /// The server in that level.
    pub peer: &'a Peer,
}

/// Which servers could be selected for the next try, besides the one that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others(u8);

impl Others {
    const HERE: u8 = 1;
    const LATER: u8 = 2;
    const BEYOND: u8 = 4;

    fn new(here: bool, later: bool, beyond: bool) -> Self {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        Self(bit(here, Self::HERE) | bit(later, Self::LATER) | bit(beyond, Self::BEYOND))
    }

    /// Whether there is any.
    #[inline]
    pub fn is_some(self) -> bool {
        self.0 & (Self::HERE | Self::LATER) != 0
    }

    /// One of the same level.
    pub fn here(self) -> bool {
        self.0 & Self::HERE != 0
    }

    /// One of a later level. It is looked at only where there is none of the same level, or where the
    /// time of that may run out.
    pub fn later(self) -> bool {
        self.0 & Self::LATER != 0
    }

    /// One of the same level, if that allowed more tries.
    pub fn beyond(self) -> bool {
        self.0 & Self::BEYOND != 0
    }
}

impl Selected {
    /// The number of the level of the server, from 0 on.
    #[inline]
    pub fn level(&self) -> usize {
        self.level as usize
    }

    /// The index of the peer in the generation that it was selected from.
    pub(super) fn peer(&self) -> usize {
        self.peer as usize
    }

    /// Whether it was selected from this generation.
    pub(super) fn is_of(&self, generation: &Generation) -> bool {
        generation.version() == self.version
    }
}

impl Cluster {
    /// Selects the next server for a request, within a visit of the worker. The caller gives what it
    /// gets to [`release`](Self::release) in the end, and the record of the server is pinned until
    /// the caller gives it to [`unpin`](Self::unpin) after that.
    #[inline(always)]
    pub fn select<'a>(
        &self,
        slot: &Slot,
        _visit: &'a Visit<'_>,
        request: &impl Request,
    ) -> Option<Picked<'a>> {
        // SAFETY: null, or a rotation that is not freed during the visit.
        let rotation: &'a Rotation = unsafe { self.current().as_ref() }?;
        let selection = Selection { cluster: self, slot, request, rotation };
        if rotation.generation().method() == Method::RoundRobin && request.is_plain() {
            if let Some(selected) = selection.take_turn() {
                return Some(selected);
            }
        }
        selection.select()
    }
}

/// One selection, from one rotation.
struct Selection<'a, 'v, R: Request> {
    cluster: &'a Cluster,
    slot: &'a Slot,
    request: &'a R,
    rotation: &'v Rotation,
}

/// A level at its place in the order of the request.
#[derive(Clone, Copy)]
struct At<'a> {
    number: usize,
    level: &'a Level,
    turns: &'a LevelRotation,
}

impl<'v, R: Request> Selection<'_, 'v, R> {
    fn generation(&self) -> &'v Generation {
        self.rotation.generation()
    }

    /// The usual way: the next turn in the first level that has servers.
    #[inline(always)]
    fn take_turn(&self) -> Option<Picked<'v>> {
        let levels = self.rotation.levels();
        let mut number = 0;
        let turns = loop {
            let turns = levels.get(number)?;
            if turns.servers() > 0 {
                break turns;
            }
            number += 1;
        };
        if turns.is_disturbed() {
            return None;
        }
        let index = self.turn(turns)?;
        let at = At { number, level: self.generation().levels().get(number)?, turns };
        let others = if turns.servers() > 1 && !turns.is_limited() {
            Others(Others::HERE | Others::BEYOND)
        } else {
            self.look_for_others(&at, index, None, number, self.request.now())
        };
        Some(self.picked(at, index, others))
    }

    #[inline(always)]
    fn picked(&self, at: At<'v>, index: usize, others: Others) -> Picked<'v> {
        let generation = self.generation();
        let peer = &generation.peers()[index];
        let selected = Selected {
            server: peer.server,
            version: generation.version(),
            peer: index as u32,
            level: at.number as u32,
            others,
        };
        Picked { selected, level: at.level, peer }
    }

    /// Takes the next turn of a level that is not disturbed.
    #[inline(always)]
    fn turn(&self, turns: &LevelRotation) -> Option<usize> {
        let index = turns.turn();
        fault::point("turn");
        self.begin(index).then_some(index)
    }

    #[cold]
    fn begin_within(&self, peer: &Peer) -> bool {
        let came = peer.server.begin(self.slot, peer.max_conns);
        if peer.is_full() {
            // Only the scan knows which servers are left to choose from now.
            self.cluster.lock().disturb();
        }
        came
    }

    /// Every other way.
    #[inline(never)]
    fn select(&self) -> Option<Picked<'v>> {
        let order = self.request.levels(self.generation());
        let now = self.request.now();
        let count = order.as_ref().map_or(self.generation().levels().len(), Levels::len);
        // Written out: by an iterator each pick takes some 50 instructions more.
        let mut place = 0;
        while place < count {
            let number = order.as_ref().map_or(place, |order| usize::from(order[place]));
            if let Some(at) = self.at(number).filter(|at| self.is_allowed(at, 0, now)) {
                if let Some(index) = self.pick(&at, now) {
                    let others = self.others_of(&at, index, order.as_ref(), place, now);
                    return Some(self.picked(at, index, others));
                }
            }
            place += 1;
        }
        None
    }

    #[inline]
    fn at(&self, number: usize) -> Option<At<'v>> {
        let level = self.generation().levels().get(number)?;
        Some(At { number, level, turns: self.rotation.levels().get(number)? })
    }

    /// The levels that the request may still go to, from a place in its order on.
    #[inline]
    fn in_order<'a>(
        &'a self,
        order: Option<&'a Levels>,
        first: usize,
        now: u64,
    ) -> impl Iterator<Item = At<'v>> + 'a {
        let count = order.map_or(self.generation().levels().len(), Levels::len);
        (first..count).filter_map(move |place| {
            let number = order.map_or(place, |order| usize::from(order[place]));
            self.at(number).filter(|at| self.is_allowed(at, 0, now))
        })
    }

    #[inline(always)]
    fn others_of(
        &self,
        at: &At<'_>,
        index: usize,
        order: Option<&Levels>,
        place: usize,
        now: u64,
    ) -> Others {
        if self.is_usual(at) {
            return Others(Others::HERE | Others::BEYOND);
        }
        self.look_for_others(at, index, order, place, now)
    }

    #[inline(never)]
    fn look_for_others(
        &self,
        at: &At<'_>,
        picked: usize,
        order: Option<&Levels>,
        place: usize,
        now: u64,
    ) -> Others {
        let beyond = self.has_other(at, picked, now);
        let here = beyond && self.is_allowed(at, 1, now);
        let later = (!here || at.level.tries_timeout != 0)
            && self.in_order(order, place + 1, now).any(|at| self.has_any(&at, now));
        Others::new(here, later, beyond)
    }

    /// Whether there are others for sure: nothing is unusual, and the request is at its first try.
    #[inline]
    fn is_usual(&self, at: &At<'_>) -> bool {
        let turns = at.turns;
        turns.servers() > 1
            && !turns.is_disturbed()
            && !turns.is_limited()
            && self.request.is_first()
    }

    /// Whether the request may try another server of the level, after `more` tries than it had.
    fn is_allowed(&self, at: &At<'_>, more: u32, now: u64) -> bool {
        let Level { tries, tries_timeout, .. } = *at.level;
        if tries == 0 && tries_timeout == 0 {
            return true;
        }
        let (spent, since) = self.request.spent(at.number);
        (tries == 0 || spent + more < tries)
            && (tries_timeout == 0 || spent == 0 || now.saturating_sub(since) < tries_timeout)
    }

    /// Whether the request may be sent to a peer of the level.
    #[inline]
    fn is_eligible(&self, at: &At<'_>, peer: &Peer, now: u64) -> bool {
        !peer.drain && self.accepts(at, peer, now)
    }

    /// Whether a peer takes the request in, one perhaps that sticks to it.
    #[inline]
    fn accepts(&self, at: &At<'_>, peer: &Peer, now: u64) -> bool {
        !peer.down
            && (peer.server.is_usable(now) || self.failed_only_here(peer))
            && !peer.is_full()
            && !self.request.has_tried(at.number, peer.server)
    }

    /// Whether a peer is out of use for failed requests only, and this request was there in another
    /// level: it may be its own failure, and it may try the server once in each level.
    #[cold]
    fn failed_only_here(&self, peer: &Peer) -> bool {
        peer.server.health().is_good() && self.request.has_been_at(peer.server)
    }

    fn has_any(&self, at: &At<'_>, now: u64) -> bool {
        self.peers(at).iter().any(|peer| self.is_eligible(at, peer, now))
    }

    fn has_other(&self, at: &At<'_>, picked: usize, now: u64) -> bool {
        let picked = &self.generation().peers()[picked];
        self.peers(at)
            .iter()
            .any(|peer| !ptr::eq(peer.server, picked.server) && self.is_eligible(at, peer, now))
    }

    fn peers(&self, at: &At<'_>) -> &'v [Peer] {
        &self.generation().peers()[at.level.range()]
    }

    #[inline]
    fn begin(&self, index: usize) -> bool {
        let peer = &self.generation().peers()[index];
        if peer.max_conns == 0 {
            return peer.server.begin(self.slot, 0);
        }
        self.begin_within(peer)
    }

    /// The server of the level that the request sticks to, by its index. One that is drained takes
    /// such requests.
    fn pick_sticky(&self, at: &At<'_>, name: &[u8], now: u64) -> Option<usize> {
        let found = self
            .peers(at)
            .iter()
            .position(|peer| peer.sticky() == name && self.accepts(at, peer, now))?;
        let index = at.level.range().start + found;
        self.begin(index).then_some(index)
    }

    /// The index of a peer of the level to which the request has come: of the one that it sticks to, or
    /// else by the method of the cluster.
    fn pick(&self, at: &At<'_>, now: u64) -> Option<usize> {
        let stuck = self.request.sticks_to().and_then(|name| self.pick_sticky(at, name, now));
        if stuck.is_some() {
            return stuck;
        }
        match self.generation().method() {
            Method::RoundRobin => self.pick_in_turn(at, now),
            Method::Hash => match self.request.key() {
                Some(key) => self.pick_on_ring(at, key, now),
                None => self.pick_in_turn(at, now),
            },
            Method::LeastConn => self.locked(now).pick_least_connections(at),
            Method::RandomTwo => {
                self.pick_at_random(at, now).or_else(|| self.pick_in_turn(at, now))
            }
        }
    }

    fn pick_in_turn(&self, at: &At<'_>, now: u64) -> Option<usize> {
        if at.turns.servers() > 0 && !at.turns.is_disturbed() && self.request.is_first() {
            if let Some(index) = self.turn(at.turns) {
                return Some(index);
            }
        }
        self.locked(now).scan(at)
    }

    fn pick_on_ring(&self, at: &At<'_>, key: u32, now: u64) -> Option<usize> {
        let start = at.level.range().start;
        let peers = self.peers(at);
        if peers.len() < 2 {
            return self.pick_in_turn(at, now);
        }
        self.request.with_ring(self.generation(), at.number, |ring| {
            let mut misses = 0;
            for member in ring.walk(key) {
                let peer = &peers[member];
                let index = start + member;
                if peer.shares_points {
                    let picked = self.locked(now).pick_sharing(at, peer.ring);
                    if picked.is_some() {
                        return picked;
                    }
                } else if self.is_eligible(at, peer, now) && self.begin(index) {
                    return Some(index);
                }
                misses += 1;
                if misses == MISSES && !self.has_any(at, now) {
                    return None;
                }
            }
            None
        })
    }

    fn pick_at_random(&self, at: &At<'_>, now: u64) -> Option<usize> {
        if at.turns.servers() < 2 {
            return None;
        }
        let peers = self.generation().peers();
        let mut first: Option<(usize, Load)> = None;
        let mut lot: Option<u64> = None;
        for _ in 0..DRAWS {
            let index = self.draw(at)?;
            let peer = &peers[index];
            let is_first = |(first, _): &(usize, Load)| ptr::eq(peers[*first].server, peer.server);
            if first.as_ref().is_some_and(is_first) || !self.is_eligible(at, peer, now) {
                continue;
            }
            let share = peer.share(now);
            if share < slow_start::WHOLE {
                let lot = *lot.get_or_insert_with(|| self.request.random());
                if is_left_out(lot, index, share) {
                    continue;
                }
            }
            let load = Load::of(peer, share);
            let Some((other, other_load)) = &first else {
                first = Some((index, load));
                continue;
            };
            // The one that was drawn first on a tie: then servers without load get their shares by
            // weight. nginx takes the other one, and with that gives the heaviest the fewest.
            let index = if load.is_less_than(other_load) { index } else { *other };
            return self.begin(index).then_some(index);
        }
        None
    }

    /// A peer of the level, drawn by weight.
    fn draw(&self, at: &At<'_>) -> Option<usize> {
        let random = self.request.random();
        at.turns.draw(random).or_else(|| {
            // There is no order where it would be too long.
            let peers = self.peers(at);
            let sum: u64 = peers.iter().map(|peer| u64::from(peer.weight)).sum();
            let mut left = random % sum.max(1);
            let index = peers.iter().position(|peer| {
                let weight = u64::from(peer.weight);
                let found = left < weight;
                left = left.saturating_sub(weight);
                found
            })?;
            Some(at.level.range().start + index)
        })
    }

    fn locked(&self, now: u64) -> Locked<'_, 'v, R> {
        Locked { guard: self.cluster.lock(), selection: self, now }
    }
}

/// Whether a slow start leaves a peer with this share out of a request, whose `lot` is a random number:
/// for one request the answer stays the same, however often the peer is drawn.
#[cold]
fn is_left_out(lot: u64, index: usize, share: u32) -> bool {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4).
    let mixed = (lot ^ index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    mixed % u64::from(slow_start::WHOLE) >= u64::from(share)
}

/// The connections of a server for its weight.
struct Load {
    connections: u64,
    weight: u64,
}

impl Load {
    #[inline]
    fn of(peer: &Peer, share: u32) -> Self {
        Self {
            connections: u64::from(peer.server.uses().connections()),
            weight: u64::from(peer.weight) * u64::from(share),
        }
    }

    fn is_less_than(&self, other: &Self) -> bool {
        // Weights have 42 bits with the share: there is room for 4 million connections.
        self.connections.saturating_mul(other.weight)
            < other.connections.saturating_mul(self.weight)
    }
}

/// A selection that has the lock of the cluster. The rotation may have been replaced before it got
/// the lock. That is no harm: the selection began before that, and what it uses is not freed during
/// the visit.
struct Locked<'a, 'v, R: Request> {
    guard: Guard<'a>,
    selection: &'a Selection<'a, 'v, R>,
    now: u64,
}

impl<R: Request> Locked<'_, '_, R> {
    /// Takes a turn of the smooth order among the peers of the level that are `wanted`, as the
    /// classic algorithm does, and has the request come to that one. Returns its index, and how many
    /// could have been picked.
    fn take_turn(
        &mut self,
        at: &At<'_>,
        wanted: impl Fn(usize, &Peer) -> bool,
    ) -> Option<(usize, usize)> {
        let (selection, now) = (self.selection, self.now);
        let peers = selection.peers(at);
        // A worker that takes turns may take the last connection of the server that is picked here:
        // then that one is full, and another is picked.
        for _ in 0..=peers.len() {
            let mut found = 0;
            let turns = &mut selection.generation().turns(&mut self.guard)[at.level.range()];
            let member = round_robin::pick(turns, |member| {
                fault::point("scan");
                let peer = &peers[member];
                let wanted = wanted(member, peer);
                found += usize::from(wanted);
                wanted.then(|| peer.share(now))
            })?;
            let index = at.level.range().start + member;
            if self.begin(index) {
                return Some((index, found));
            }
        }
        None
    }

    /// See [`Selection::begin_within`], which takes the lock.
    fn begin(&mut self, index: usize) -> bool {
        let selection = self.selection;
        let peer = &selection.generation().peers()[index];
        let came = peer.server.begin(selection.slot, peer.max_conns);
        if peer.is_full() {
            self.guard.disturb();
        }
        came
    }

    /// The classic way to pick a server.
    fn scan(&mut self, at: &At<'_>) -> Option<usize> {
        let (selection, turns, now) = (self.selection, at.turns, self.now);
        self.guard.disturb_level(selection.rotation, turns);
        let recovering = self.turns(at).iter().any(Turn::is_recovering);
        let slow = selection.peers(at).iter().any(|peer| peer.is_slow(now));
        let (index, found) = self.take_turn(at, |_, peer| selection.is_eligible(at, peer, now))?;
        if found == turns.members() && !recovering && !slow {
            let locate = || self.locate(at);
            let agreed = turns.agree(index - turns.start(), locate);
            turns.set_disturbed(!agreed || !self.is_calm(at));
        } else {
            turns.depart();
        }
        Some(index)
    }

    fn turns(&mut self, at: &At<'_>) -> &mut [Turn] {
        &mut self.selection.generation().turns(&mut self.guard)[at.level.range()]
    }

    /// Where in the order the scan is.
    fn locate(&mut self, at: &At<'_>) -> Option<(usize, bool)> {
        let (members, weights, order) = at.turns.by_member(self.selection.generation());
        let turns = self.turns(at);
        let current: Vec<i64> =
            members.iter().map(|&index| turns[usize::from(index)].current()).collect();
        sequence::locate(&weights, &order, &current)
    }

    /// Whether nothing is unusual, as far as the rotation is concerned.
    fn is_calm(&mut self, at: &At<'_>) -> bool {
        let now = self.now;
        let peers = self.selection.generation().peers();
        !self.turns(at).iter().any(Turn::is_recovering)
            && !self.selection.peers(at).iter().any(|peer| peer.is_slow(now))
            && !peers
                .iter()
                .any(|peer| peer.is_in_use() && (peer.server.is_ejected(now) || peer.is_full()))
    }

    /// One of the peers that have the same points on the ring: the addresses of one name.
    fn pick_sharing(&mut self, at: &At<'_>, ring: u32) -> Option<usize> {
        let (selection, now) = (self.selection, self.now);
        let sharing = |_, peer: &Peer| peer.ring == ring && selection.is_eligible(at, peer, now);
        self.take_turn(at, sharing).map(|(index, _)| index)
    }

    /// The peer with the fewest connections for its weight; of several, the next in the smooth order.
    fn pick_least_connections(&mut self, at: &At<'_>) -> Option<usize> {
        // A request that sticks to a server takes no lock, and may fill the one that is picked here.
        (0..=self.selection.peers(at).len())
            .map_while(|_| self.try_least_connections(at))
            .find_map(|index| index)
    }

    /// `None`: there is no peer; `Some(None)`: the one that was picked is full now.
    fn try_least_connections(&mut self, at: &At<'_>) -> Option<Option<usize>> {
        let (selection, now) = (self.selection, self.now);
        let peers = selection.peers(at);
        let mut least: Option<Load> = None;
        // Those with the least load are marked by how often a lesser one was found.
        let mut found = 0_u32;
        let mut marks: SmallVec<[u32; 64]> = SmallVec::from_elem(0, peers.len());
        let mut ties = 0;
        let mut last = 0;
        for (member, (peer, mark)) in peers.iter().zip(&mut marks).enumerate() {
            if !selection.is_eligible(at, peer, now) {
                continue;
            }
            let load = Load::of(peer, peer.share(now));
            match &least {
                Some(least) if least.is_less_than(&load) => continue,
                Some(least) if !load.is_less_than(least) => {}
                _ => {
                    least = Some(load);
                    found += 1;
                    ties = 0;
                }
            }
            *mark = found;
            ties += 1;
            last = member;
        }
        match ties {
            0 => None,
            1 => {
                let index = at.level.range().start + last;
                Some(self.begin(index).then_some(index))
            }
            _ => {
                let tied = |member: usize, peer: &Peer| marks[member] == found && !peer.is_full();
                Some(self.take_turn(at, tied).map(|(index, _)| index))
            }
        }
    }
}
