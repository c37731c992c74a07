//! The servers of a cluster by one configuration, and the rotation over them.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::collections::{HashMap, HashSet};
use std::ptr::{self, NonNull};
use std::slice;

use super::cluster::Guard;
use super::retired::{Kind, Link};
use super::server::Server;
use super::{Full, Slab};
use crate::logic::balance::round_robin::Turn;
use crate::logic::health::{Health, Record};

/// What is to be in a generation: its levels, each with its peers.
pub type Plan<'a> = [Vec<PeerPlan<'a>>];

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
    /// See [`crate::logic::settings::Server::down`].
    pub down: bool,
    /// Whether it is checked.
    pub checked: bool,
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
    /// See [`crate::logic::settings::Server::down`].
    pub down: bool,
    /// Whether it is checked.
    checked: bool,
    /// Whether an earlier peer of the level has the same address.
    pub repeated: bool,
    /// Where the same peer is in the generation before; `u32::MAX`: nowhere.
    origin: u32,
}

impl Peer {
    /// Whether as many requests are at work on the server as may be.
    pub(super) fn is_full(&self) -> bool {
        self.max_conns != 0 && self.server.uses().connections() >= self.max_conns
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
    peers: *const Peer,
    turns: *const UnsafeCell<Turn>,
    /// For each level, the number of the peers in it and before it.
    level_ends: *const u32,
    peers_length: u32,
    levels_length: u32,
}

struct Layouts {
    whole: Layout,
    peers: usize,
    turns: usize,
    level_ends: usize,
}

impl Generation {
    fn layouts(peers: usize, levels: usize) -> Result<Layouts, std::alloc::LayoutError> {
        let (whole, peers_at) = Layout::new::<Self>().extend(Layout::array::<Peer>(peers)?)?;
        let (whole, turns_at) = whole.extend(Layout::array::<UnsafeCell<Turn>>(peers)?)?;
        let (whole, level_ends_at) = whole.extend(Layout::array::<u32>(levels)?)?;
        Ok(Layouts { whole, peers: peers_at, turns: turns_at, level_ends: level_ends_at })
    }

    /// Makes a generation by `plan`. Peers that `before` has, the generation before of the same
    /// cluster, are related to those; where it is in the same zone, its servers are used again.
    ///
    /// # Errors
    /// Where the zone is full; then nothing is left behind.
    pub(super) fn create(
        slab: &impl Slab,
        plan: &Plan<'_>,
        before: Option<&Self>,
        same_zone: bool,
        slots: usize,
    ) -> Result<*mut Self, Full> {
        let count = plan.iter().map(Vec::len).sum();
        let layouts = Self::layouts(count, plan.len()).map_err(|_| Full)?;
        let memory = slab.allocate(layouts.whole).ok_or(Full)?;
        let generation = memory.cast::<Self>();

        let mut known: HashMap<&[u8], &'static Server> = HashMap::new();
        let mut origins: HashMap<(usize, &[u8], usize), u32> = HashMap::new();
        if let Some(before) = before {
            let mut seen: HashMap<(usize, &[u8]), usize> = HashMap::new();
            for (level, index, peer) in before.places() {
                let address = peer.server.address();
                if same_zone {
                    known.insert(address, peer.server);
                }
                let nth = seen.entry((level, address)).or_default();
                origins.insert((level, address, *nth), index as u32);
                *nth += 1;
            }
        }

        // SAFETY: the memory has room for all that `layouts` lays out, and nobody else knows of it.
        // Every element is written before the references to the arrays are handed out.
        unsafe {
            let peers = memory.add(layouts.peers).cast::<Peer>();
            let turns = memory.add(layouts.turns).cast::<UnsafeCell<Turn>>();
            let level_ends = memory.add(layouts.level_ends).cast::<u32>();
            generation.write(Self {
                link: Link::new(Kind::Generation),
                version: 0,
                before: before.map_or(0, Self::version),
                peers: peers.as_ptr(),
                turns: turns.as_ptr(),
                level_ends: level_ends.as_ptr(),
                peers_length: 0,
                levels_length: plan.len() as u32,
            });

            let mut index = 0;
            for (level, peer_plans) in plan.iter().enumerate() {
                let mut seen: HashMap<&[u8], usize> = HashMap::new();
                for peer_plan in peer_plans {
                    let server = match known.get(peer_plan.address) {
                        Some(server) => *server,
                        None => {
                            let (address, name) = (peer_plan.address, peer_plan.name);
                            let created = Server::create(slab, address, name, slots);
                            let Ok(server) = created else {
                                (*generation.as_ptr()).peers_length = index as u32;
                                Self::discard(slab, generation.as_ptr());
                                return Err(Full);
                            };
                            known.insert(server.address(), server);
                            server
                        }
                    };
                    let nth = seen.entry(peer_plan.address).or_default();
                    let origin = origins.get(&(level, peer_plan.address, *nth));
                    peers.add(index).write(Peer {
                        server,
                        fail_timeout: peer_plan.fail_timeout,
                        max_fails: peer_plan.max_fails,
                        max_conns: peer_plan.max_conns,
                        weight: peer_plan.weight.max(1),
                        down: peer_plan.down,
                        checked: peer_plan.checked,
                        repeated: *nth > 0,
                        origin: origin.copied().unwrap_or(u32::MAX),
                    });
                    turns.add(index).write(UnsafeCell::new(Turn::new(peer_plan.weight)));
                    *nth += 1;
                    index += 1;
                }
                level_ends.add(level).write(index as u32);
            }
            (*generation.as_ptr()).peers_length = index as u32;
        }
        Ok(generation.as_ptr())
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

    /// The servers that have failed their checks, as far as this generation has them checked: what
    /// an earlier one knows of others does not count.
    pub(super) fn failed_servers(&self) -> HashSet<*const Server> {
        self.peers()
            .iter()
            .filter(|peer| peer.checked && peer.server.health() == Health::Failed)
            .map(|peer| ptr::from_ref(peer.server))
            .collect()
    }

    /// Whether every server in use is among these, which have failed their checks.
    pub(super) fn have_all_failed(&self, failed: &HashSet<*const Server>) -> bool {
        let mut servers = self.servers_in_use().peekable();
        servers.peek().is_some() && servers.all(|server| failed.contains(&ptr::from_ref(server)))
    }

    /// The number of the generation: no two in the zone have the same.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All peers, level by level.
    pub fn peers(&self) -> &[Peer] {
        // SAFETY: `create` wrote so many of them.
        unsafe { slice::from_raw_parts(self.peers, self.peers_length as usize) }
    }

    /// For each level where its peers are among [`peers`](Self::peers).
    pub fn levels(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        // SAFETY: `create` wrote so many of them.
        let ends = unsafe { slice::from_raw_parts(self.level_ends, self.levels_length as usize) };
        let mut start = 0;
        ends.iter().map(move |&end| std::mem::replace(&mut start, end as usize)..end as usize)
    }

    /// All peers, each with its level and its index.
    fn places(&self) -> impl Iterator<Item = (usize, usize, &Peer)> {
        let peers = self.peers();
        self.levels()
            .enumerate()
            .flat_map(move |(level, range)| range.map(move |index| (level, index, &peers[index])))
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

    /// How many servers are eligible in this level and those behind it, exact up to `most`. Servers
    /// of equal address count once in a level.
    pub(super) fn count(
        &self,
        first: usize,
        eligible: impl Fn(usize, &Peer) -> bool,
        most: usize,
    ) -> usize {
        self.levels()
            .enumerate()
            .skip(first)
            .flat_map(|(level, range)| range.clone().map(move |index| (level, range.start, index)))
            .filter(|&(level, start, index)| {
                let peer = &self.peers()[index];
                let earlier = if peer.repeated { &self.peers()[start..index] } else { &[] };
                eligible(level, peer)
                    && !earlier.iter().any(|earlier| {
                        ptr::eq(earlier.server, peer.server) && eligible(level, earlier)
                    })
            })
            .take(most)
            .count()
    }

    /// The servers that are in use: those of the peers that are not `down`.
    pub fn servers_in_use(&self) -> impl Iterator<Item = &'static Server> + '_ {
        self.peers().iter().filter(|peer| !peer.down).map(|peer| peer.server)
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

    /// Takes over what is known of the servers that are also in `before`, of another zone.
    pub(super) fn copy_servers(
        &self,
        before: &Self,
        guard: &mut Guard<'_>,
        theirs: &mut Guard<'_>,
    ) {
        let known: HashMap<&[u8], &Server> =
            before.peers().iter().map(|peer| (peer.server.address(), peer.server)).collect();
        for peer in self.peers() {
            if let Some(server) = known.get(peer.server.address()) {
                peer.server.copy_from(guard, server, theirs);
            }
        }
    }

    /// Makes this the generation that its servers belong to, and has them checked as it says.
    pub(super) fn adopt_servers(&self, guard: &mut Guard<'_>) {
        for peer in self.peers() {
            peer.server.adopt();
            peer.server.set_checked(false);
        }
        for peer in self.peers().iter().filter(|peer| peer.checked) {
            peer.server.set_checked(true);
        }
        for peer in self.peers().iter().filter(|peer| !peer.server.is_checked()) {
            peer.server.set_record(Record::NEW);
            peer.server.set_changed_at(0);
            peer.server.set_message(guard, "");
        }
    }
}
