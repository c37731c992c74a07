//! The servers of a cluster by one configuration, and the rotation over them.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::collections::{HashMap, HashSet};
use std::ptr::{self, NonNull};
use std::slice;

use super::cluster::Guard;
use super::document::Document;
use super::matching::identify;
use super::records::{Copies, Records};
use super::retired::{Kind, Link};
use super::server::Server;
use super::verdict::Verdict;
use super::{Full, Slab};
use crate::logic::balance::round_robin::Turn;
use crate::logic::balance::slow_start;
use crate::logic::balance::Method;
use crate::logic::health::Health;
use crate::logic::settings::Protected;

/// What is to be in a generation.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// The balancing method.
    pub method: Method,
    /// See [`crate::logic::settings::Cluster::protected`].
    pub protected: Protected,
    /// Whether requests may choose among the levels.
    pub is_ordered: bool,
    /// The levels, in their order.
    pub levels: Vec<LevelPlan<'a>>,
    /// The version of the settings; 0: that of the generation before where that is of the same
    /// `base`, and else a new one.
    pub settings: u64,
    /// What stands for the block of the configuration that the settings are of, or were of before
    /// they were changed; 0: none does.
    pub base: u64,
    /// Whether the cluster came to be at run time.
    pub is_born: bool,
    /// Whether the cluster was deleted: it has no levels.
    pub is_deleted: bool,
}

/// What is to be said of one level.
#[derive(Clone, Debug, Default)]
pub struct LevelPlan<'a> {
    /// The name; empty: it has only its number.
    pub name: &'a str,
    /// How many of its servers a request may try; 0: no limit.
    pub tries: u32,
    /// For how long after the first try in the level a request may start another one there, in
    /// milliseconds; 0: no limit.
    pub tries_timeout: u64,
    /// The peers, in their order.
    pub peers: Vec<PeerPlan<'a>>,
}

/// What is to be said of one peer.
#[derive(Clone, Debug)]
pub struct PeerPlan<'a> {
    /// The address as text.
    pub name: &'a str,
    /// The socket address.
    pub address: &'a [u8],
    /// See [`crate::logic::settings::Server::weight`].
    pub weight: u32,
    /// See [`crate::logic::settings::Server::max_fails`].
    pub max_fails: u32,
    /// See [`crate::logic::settings::Server::fail_timeout`], in milliseconds.
    pub fail_timeout: u64,
    /// See [`crate::logic::settings::Server::max_conns`].
    pub max_conns: u32,
    /// See [`crate::logic::settings::Server::slow_start`], in milliseconds.
    pub slow_start: u64,
    /// See [`crate::logic::settings::Server::down`].
    pub down: bool,
    /// See [`crate::logic::settings::Server::drain`].
    pub drain: bool,
    /// Whether it is checked.
    pub checked: bool,
    /// Whether it has to pass before it is used.
    pub awaits_pass: bool,
    /// Where its points on a ring begin: see [`crate::logic::balance::ring::base`].
    pub ring: u32,
    /// By what clients that stick to it name it; empty: not at all.
    pub sticky: &'a [u8],
    /// The name that the address was found by at run time; empty: by none.
    pub found_by: &'a str,
    /// The number that it has in its cluster, or, where it was found by a name, the number of that;
    /// `None`: that of the same one in the generation before, or else a new one.
    pub id: Option<u32>,
}

/// One `server` of a level: what the configuration says of it.
#[repr(C)]
pub struct Peer {
    /// What is known of the address.
    pub server: &'static Server,
    /// See [`crate::logic::settings::Server::fail_timeout`], in milliseconds.
    pub fail_timeout: u64,
    /// See [`crate::logic::settings::Server::max_fails`].
    pub max_fails: u32,
    /// See [`crate::logic::settings::Server::max_conns`].
    pub max_conns: u32,
    /// See [`crate::logic::settings::Server::weight`].
    pub weight: u32,
    /// See [`crate::logic::settings::Server::slow_start`], in milliseconds.
    pub slow_start: u64,
    /// Where its points on a ring begin.
    pub ring: u32,
    /// See [`crate::logic::settings::Server::down`].
    pub down: bool,
    /// See [`crate::logic::settings::Server::drain`].
    pub drain: bool,
    /// Whether it is checked.
    pub(super) checked: bool,
    /// Whether it has to pass before it is used.
    awaits_pass: bool,
    /// Whether another peer of the level has the same points on a ring.
    pub shares_points: bool,
    sticky: *const u8,
    sticky_length: u32,
    found_by: *const u8,
    found_by_length: u32,
    /// The number of the server in its cluster, which it keeps for as long as it is there.
    pub id: u32,
    /// The number of the name that the address was found by.
    parent: u32,
    /// Where the same peer is in the generation before; `u32::MAX`: nowhere.
    origin: u32,
}

impl Peer {
    /// Whether as many requests are at work on the server as may be.
    pub(super) fn is_full(&self) -> bool {
        self.max_conns != 0 && self.server.uses().connections() >= self.max_conns
    }

    /// Whether it gets new requests, as far as the operator is concerned.
    #[inline]
    pub fn is_in_use(&self) -> bool {
        !self.down && !self.drain
    }

    /// By what clients that stick to it name it; empty: not at all.
    pub fn sticky(&self) -> &[u8] {
        // SAFETY: `Generation::create` copied so many bytes there.
        unsafe { slice::from_raw_parts(self.sticky, self.sticky_length as usize) }
    }

    /// The name that the address was found by at run time; empty: by none.
    pub fn found_by(&self) -> &str {
        // SAFETY: `Generation::create` copied a str of this length there.
        unsafe {
            let bytes = slice::from_raw_parts(self.found_by, self.found_by_length as usize);
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// The number of the name that the address was found by at run time; `None`: by none.
    pub fn parent(&self) -> Option<u32> {
        Some(self.parent).filter(|_| self.found_by_length > 0)
    }

    /// Whether the checks have it out of use, unless it is kept. What an earlier generation knows of a
    /// server that this one does not have checked does not count.
    pub(super) fn is_out(&self) -> bool {
        let health = self.server.health();
        self.checked && (!health.is_good() || (self.awaits_pass && health == Health::Unchecked))
    }

    /// Its share at `now`, in thousandths of the weight.
    #[inline]
    pub(super) fn share(&self, now: u64) -> u32 {
        if self.slow_start == 0 {
            return slow_start::WHOLE;
        }
        slow_start::share(self.server.returned_at(), self.slow_start, now)
    }

    /// Whether it does not have its whole share yet at `now`.
    pub(super) fn is_slow(&self, now: u64) -> bool {
        slow_start::is_slow(self.server.returned_at(), self.slow_start, now)
    }
}

/// One level: what the configuration says of it.
#[repr(C)]
pub struct Level {
    /// See [`LevelPlan::tries_timeout`].
    pub tries_timeout: u64,
    /// See [`LevelPlan::tries`].
    pub tries: u32,
    /// The index of the first peer, and the one behind the last.
    start: u32,
    end: u32,
    name_length: u32,
    name: *const u8,
}

impl Level {
    /// The name; `None`: it has only its number.
    pub fn name(&self) -> Option<&str> {
        // SAFETY: `Generation::create` copied a str of this length there.
        let name = unsafe {
            let bytes = slice::from_raw_parts(self.name, self.name_length as usize);
            std::str::from_utf8_unchecked(bytes)
        };
        Some(name).filter(|name| !name.is_empty())
    }

    /// Whether it has neither a name nor limits.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.name_length == 0 && self.tries == 0 && self.tries_timeout == 0
    }

    /// Where its peers are among those of the generation.
    #[inline]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The servers of a cluster by one configuration. But for the turns and the links nothing in it
/// ever changes.
#[repr(C)]
pub struct Generation {
    pub(super) link: Link,
    /// The number of the generation, of all that were made in the zone.
    pub(super) version: u64,
    /// The number of the one before, that the origins of the peers are of; 0: there is none.
    before: u64,
    /// See [`Plan::settings`].
    pub(super) settings: u64,
    /// See [`Plan::base`].
    base: u64,
    /// What is kept of the settings; null: they are those of the configuration.
    documents: *const Document,
    peers: *const Peer,
    turns: *const UnsafeCell<Turn>,
    levels: *const Level,
    /// No server of the cluster has ever had this number, or a higher one.
    next_id: u32,
    peers_length: u32,
    levels_length: u32,
    method: Method,
    protected: Protected,
    ordered: bool,
    /// See [`has_repeats`](Self::has_repeats).
    repeats: bool,
    /// See [`Plan::is_born`].
    born: bool,
    /// See [`Plan::is_deleted`].
    deleted: bool,
}

struct Layouts {
    whole: Layout,
    peers: usize,
    turns: usize,
    levels: usize,
    texts: usize,
}

impl Generation {
    fn layouts(plan: &Plan<'_>) -> Result<Layouts, std::alloc::LayoutError> {
        let peers = || plan.levels.iter().flat_map(|level| &level.peers);
        let texts = plan.levels.iter().map(|level| level.name.len()).sum::<usize>()
            + peers().map(|peer| peer.sticky.len() + peer.found_by.len()).sum::<usize>();
        let count = peers().count();
        let (whole, peers_at) = Layout::new::<Self>().extend(Layout::array::<Peer>(count)?)?;
        let (whole, turns_at) = whole.extend(Layout::array::<UnsafeCell<Turn>>(count)?)?;
        let (whole, levels_at) = whole.extend(Layout::array::<Level>(plan.levels.len())?)?;
        let (whole, texts_at) = whole.extend(Layout::array::<u8>(texts)?)?;
        Ok(Layouts { whole, peers: peers_at, turns: turns_at, levels: levels_at, texts: texts_at })
    }

    /// Makes a generation by `plan`. Peers that `before` has, the generation before of the same
    /// cluster, are related to those. Where it is in the same zone, its servers are used again; else
    /// what they know is to be copied to those that come with the result.
    ///
    /// # Errors
    /// Where the zone is full; then nothing is left behind.
    pub(super) fn create(
        slab: &impl Slab,
        plan: &Plan<'_>,
        before: Option<&Self>,
        same_zone: bool,
        slots: usize,
        documents: *const Document,
    ) -> Result<(*mut Self, Copies), Full> {
        let layouts = Self::layouts(plan).map_err(|_| Full)?;
        let memory = slab.allocate(layouts.whole).ok_or(Full)?;
        let generation = memory.cast::<Self>();

        let known = before.map_or(&[][..], Self::peers);
        let (identities, next_id) = identify(plan, before);
        let mut records = Records::new(known, same_zone);

        // SAFETY: the memory has room for all that `layouts` lays out, and nobody else knows of it.
        // Every element is written before the references to the arrays are handed out.
        unsafe {
            let peers = memory.add(layouts.peers).cast::<Peer>();
            let turns = memory.add(layouts.turns).cast::<UnsafeCell<Turn>>();
            let levels = memory.add(layouts.levels).cast::<Level>();
            let mut texts = memory.add(layouts.texts);
            let mut keep = |text: &[u8]| {
                let place = texts;
                place.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len());
                texts = texts.add(text.len());
                place.as_ptr().cast_const()
            };
            generation.write(Self {
                link: Link::new(Kind::Generation),
                version: 0,
                before: before.map_or(0, Self::version),
                settings: plan.settings,
                base: plan.base,
                documents,
                peers: peers.as_ptr(),
                turns: turns.as_ptr(),
                levels: levels.as_ptr(),
                next_id: 0,
                peers_length: 0,
                levels_length: plan.levels.len() as u32,
                method: plan.method,
                protected: plan.protected,
                ordered: plan.is_ordered,
                repeats: false,
                born: plan.is_born,
                deleted: plan.is_deleted,
            });
            let mut index = 0;
            for (number, level_plan) in plan.levels.iter().enumerate() {
                let mut sharers: HashMap<u32, usize> = HashMap::new();
                for peer_plan in &level_plan.peers {
                    *sharers.entry(peer_plan.ring).or_default() += 1;
                }
                let start = index;
                let identities = &identities[start..start + level_plan.peers.len()];
                let chosen = records.of_level(number, level_plan, identities, known);
                let planned = level_plan.peers.iter().zip(identities).zip(chosen);
                for ((peer_plan, identity), chosen) in planned {
                    let server = match records.made(chosen) {
                        Some(server) => server,
                        None => {
                            let (address, name) = (peer_plan.address, peer_plan.name);
                            let created = Server::create(slab, address, name, slots);
                            let Ok(server) = created else {
                                (*generation.as_ptr()).peers_length = index as u32;
                                Self::discard(slab, generation.as_ptr());
                                return Err(Full);
                            };
                            // A further line of an address has the verdict of the checks at once.
                            if let Some(equal) = records.equal(address) {
                                server.set_verdict_of(equal);
                            }
                            server.set_awaits_pass(peer_plan.checked && peer_plan.awaits_pass);
                            records.make(chosen, server);
                            server
                        }
                    };
                    let origin = identity.before.filter(|_| identity.stays);
                    peers.add(index).write(Peer {
                        server,
                        fail_timeout: peer_plan.fail_timeout,
                        max_fails: peer_plan.max_fails,
                        max_conns: peer_plan.max_conns,
                        weight: peer_plan.weight.max(1),
                        slow_start: peer_plan.slow_start,
                        ring: peer_plan.ring,
                        down: peer_plan.down,
                        drain: peer_plan.drain,
                        checked: peer_plan.checked,
                        awaits_pass: peer_plan.checked && peer_plan.awaits_pass,
                        shares_points: sharers.get(&peer_plan.ring).is_some_and(|&n| n > 1),
                        sticky: keep(peer_plan.sticky),
                        sticky_length: peer_plan.sticky.len() as u32,
                        found_by: keep(peer_plan.found_by.as_bytes()),
                        found_by_length: peer_plan.found_by.len() as u32,
                        id: identity.id,
                        parent: identity.parent,
                        origin: origin.map_or(u32::MAX, |index| index as u32),
                    });
                    turns.add(index).write(UnsafeCell::new(Turn::new(peer_plan.weight)));
                    index += 1;
                }
                levels.add(number).write(Level {
                    tries_timeout: level_plan.tries_timeout,
                    tries: level_plan.tries,
                    start: start as u32,
                    end: index as u32,
                    name_length: level_plan.name.len() as u32,
                    name: keep(level_plan.name.as_bytes()),
                });
            }
            (*generation.as_ptr()).peers_length = index as u32;
            (*generation.as_ptr()).next_id = next_id;
            (*generation.as_ptr()).repeats = records.repeat();
        }
        Ok((generation.as_ptr(), records.copies()))
    }

    /// Frees a generation that was never taken into use, and the servers made for it.
    ///
    /// # Safety
    /// `generation` came from `create`, and no other process knows of it.
    pub(super) unsafe fn discard(slab: &impl Slab, generation: *mut Self) {
        // SAFETY: it is valid until it is freed. Nobody knows of the servers made for it either.
        unsafe {
            let servers: HashSet<*const Server> =
                (*generation).peers().iter().map(|peer| ptr::from_ref(peer.server)).collect();
            for server in servers {
                if !(*server).is_adopted() {
                    Server::free(slab, &*server);
                }
            }
            Self::free(slab, generation);
        }
    }

    /// Frees a generation, but not its servers.
    ///
    /// # Safety
    /// `generation` came from `create`, and nobody uses it any more.
    pub(super) unsafe fn free(slab: &impl Slab, generation: *mut Self) {
        // SAFETY: as the caller says.
        unsafe { slab.free(NonNull::new_unchecked(generation).cast()) }
    }

    /// The servers that `other` does not have, each once.
    pub(super) fn servers_not_in<'a>(
        &'a self,
        other: Option<&Self>,
    ) -> impl Iterator<Item = &'static Server> + 'a {
        let mut known: HashSet<*const Server> = other
            .into_iter()
            .flat_map(Self::peers)
            .map(|peer| ptr::from_ref(peer.server))
            .collect();
        self.peers()
            .iter()
            .map(|peer| peer.server)
            .filter(move |server| known.insert(ptr::from_ref(*server)))
    }

    /// What is used of it while its servers are as they are.
    pub(super) fn judge(&self) -> Verdict {
        Verdict::of(self)
    }

    /// The number of the generation: no two in the zone have the same.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version of the settings that it is of.
    #[inline]
    pub fn settings(&self) -> u64 {
        self.settings
    }

    /// See [`Plan::base`].
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The number of the next server that is new: none has ever had it, or a higher one.
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Whether the cluster came to be at run time.
    pub fn is_born(&self) -> bool {
        self.born
    }

    /// Whether the cluster was deleted at run time.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn documents(&self) -> *const Document {
        self.documents
    }

    /// What is kept of the settings; `None`: they are those of the configuration.
    pub fn document(&self) -> Option<&Document> {
        // SAFETY: null, or a document that is freed after the last generation that is of it.
        unsafe { self.documents.as_ref() }
    }

    /// All peers, level by level.
    pub fn peers(&self) -> &[Peer] {
        // SAFETY: `create` wrote so many of them.
        unsafe { slice::from_raw_parts(self.peers, self.peers_length as usize) }
    }

    /// The levels, in their order.
    #[inline]
    pub fn levels(&self) -> &[Level] {
        // SAFETY: `create` wrote so many of them.
        unsafe { slice::from_raw_parts(self.levels, self.levels_length as usize) }
    }

    /// The balancing method.
    #[inline]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Whether servers have an address in common.
    pub(super) fn has_repeats(&self) -> bool {
        self.repeats
    }

    /// Whether requests may choose among the levels.
    pub(super) fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// See [`crate::logic::settings::Cluster::protected`].
    pub(super) fn protected(&self) -> Protected {
        self.protected
    }

    /// The rotation over all peers.
    pub(super) fn turns<'a>(&'a self, _guard: &'a mut Guard<'_>) -> &'a mut [Turn] {
        // SAFETY: `create` wrote so many of them; UnsafeCell has the layout of what it holds. A
        // Guard is the lock of the cluster that the generation belongs to, and it is borrowed for
        // as long as the result lives.
        unsafe {
            slice::from_raw_parts_mut(UnsafeCell::raw_get(self.turns), self.peers_length as usize)
        }
    }

    /// The servers that get new requests, as far as the operator is concerned.
    pub fn servers_in_use(&self) -> impl Iterator<Item = &'static Server> + '_ {
        self.peers().iter().filter(|peer| peer.is_in_use()).map(|peer| peer.server)
    }

    /// The peers that are checked.
    pub fn peers_to_check(&self) -> impl Iterator<Item = &Peer> {
        self.peers().iter().filter(|peer| peer.checked)
    }

    /// Takes over the places in the rotation of the generation before.
    pub(super) fn carry_turns(&self, before: &Self, guard: &mut Guard<'_>) {
        if before.version != self.before {
            // Updated while a reload was prepared, which knows another one.
            return;
        }
        for (index, peer) in self.peers().iter().enumerate() {
            if let Some(turn) = before.turns(guard).get(peer.origin as usize).copied() {
                let own = &mut self.turns(guard)[index];
                *own = turn.carried_to(own.weight());
            }
        }
    }

    /// Makes this the generation that its servers belong to, and has them checked as it says.
    pub(super) fn adopt_servers(&self, guard: &mut Guard<'_>) {
        for peer in self.peers() {
            peer.server.adopt();
            peer.server.set_checked(false);
        }
        for peer in self.peers().iter().filter(|peer| !peer.is_in_use()) {
            peer.server.set_wanted(false);
        }
        self.servers_in_use().for_each(|server| server.set_wanted(true));
        for peer in self.peers().iter().filter(|peer| peer.checked) {
            peer.server.set_checked(true);
            peer.server.set_awaits_pass(peer.awaits_pass);
        }
        for peer in self.peers().iter().filter(|peer| !peer.server.is_checked()) {
            peer.server.set_awaits_pass(false);
            peer.server.forget_checks(guard);
        }
    }
}
