//! Which server of a generation is which one of the generation before.
//!
//! What is known of a server, and its number, are its own for as long as it is there. The settings mostly
//! say the number of each. Where they do not, as in a configuration that was just read, it is the level
//! and the address that tell, and lines of equal address are told apart by their order.

use std::collections::HashMap;
use std::hash::Hash;

use super::generation::{Generation, Peer, PeerPlan, Plan};

/// Which server a peer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Its number.
    pub id: u32,
    /// That of the name that its address was found by.
    pub parent: u32,
    /// Where it is among the peers of the generation before, with the same address.
    pub before: Option<usize>,
    /// Whether it is in the same level there.
    pub stays: bool,
}

/// Which servers the peers of `plan` are, level by level in their order, and a number that no server
/// has, nor a higher one.
pub(super) fn identify(plan: &Plan<'_>, before: Option<&Generation>) -> (Vec<Identity>, u32) {
    let mut matching = Matching::new(plan, before);
    matching.by_number();
    matching.find_parents();
    matching.by_key(
        |it| match it.is_found() {
            true => Place::Name(it.parent),
            false => Place::Level(it.level),
        },
        |peer, level| peer.parent().map_or(Place::Level(level), Place::Name),
    );
    matching.by_key(|it| it.is_found().then_some(it.parent), |peer, _| peer.parent());
    matching.identities()
}

/// What a level is known by over changes: its name, or else its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum LevelKey<'a> {
    Name(&'a str),
    Place(usize),
}

impl<'a> LevelKey<'a> {
    fn of(name: Option<&'a str>, place: usize) -> Self {
        name.filter(|name| !name.is_empty()).map_or(Self::Place(place), Self::Name)
    }
}

/// Where an address is looked for: in a level, or among those of the name of this number.
#[derive(PartialEq, Eq, Hash)]
enum Place<'a> {
    Level(LevelKey<'a>),
    Name(u32),
}

/// A peer of the plan.
struct Planned<'a> {
    plan: &'a PeerPlan<'a>,
    level: LevelKey<'a>,
    /// The number of the name that it was found by.
    parent: u32,
    /// Whether it is known which one of the generation before it is.
    is_known: bool,
    before: Option<usize>,
}

impl Planned<'_> {
    fn is_found(&self) -> bool {
        !self.plan.found_by.is_empty()
    }
}

struct Matching<'a> {
    /// The peers of the generation before, and the level of each.
    peers: &'a [Peer],
    levels: Vec<LevelKey<'a>>,
    /// Which of them are peers of the plan, too.
    taken: Vec<bool>,
    planned: Vec<Planned<'a>>,
    next: u32,
}

impl<'a> Matching<'a> {
    fn new(plan: &'a Plan<'a>, before: Option<&'a Generation>) -> Self {
        let peers = before.map_or(&[][..], Generation::peers);
        let mut levels = Vec::with_capacity(peers.len());
        for (number, level) in before.into_iter().flat_map(Generation::levels).enumerate() {
            levels.resize(level.range().end, LevelKey::of(level.name(), number));
        }
        let mut planned = Vec::new();
        for (number, level) in plan.levels.iter().enumerate() {
            let key = LevelKey::of(Some(level.name), number);
            planned.extend(level.peers.iter().map(|plan| Planned {
                plan,
                level: key,
                parent: 0,
                is_known: false,
                before: None,
            }));
        }
        let above = planned.iter().filter_map(|it| it.plan.id).max().map_or(0, |most| most + 1);
        let next = before.map_or(0, Generation::next_id).max(above);
        Self { peers, levels, taken: vec![false; peers.len()], planned, next }
    }

    /// Finds those whose number the plan says, with whatever address.
    fn by_number(&mut self) {
        if !self.planned.iter().any(|it| it.plan.id.is_some() && !it.is_found()) {
            return;
        }
        let plain = self.peers.iter().enumerate().filter(|(_, peer)| peer.parent().is_none());
        let by_number: HashMap<u32, usize> = plain.map(|(index, peer)| (peer.id, index)).collect();
        for it in self.planned.iter_mut().filter(|it| !it.is_found()) {
            let Some(&index) = it.plan.id.and_then(|id| by_number.get(&id)) else { continue };
            if self.taken[index] {
                continue;
            }
            self.taken[index] = true;
            it.is_known = true;
            it.before =
                Some(index).filter(|_| self.peers[index].server.address() == it.plan.address);
        }
    }

    /// Gives the names their numbers.
    fn find_parents(&mut self) {
        if !self.planned.iter().any(Planned::is_found) {
            return;
        }
        let known = self.peers.iter().zip(&self.levels);
        let mut names: HashMap<(LevelKey<'a>, &str), u32> = known
            .filter_map(|(peer, level)| Some(((*level, peer.found_by()), peer.parent()?)))
            .collect();
        for it in self.planned.iter_mut().filter(|it| it.is_found()) {
            let parent = names.entry((it.level, it.plan.found_by));
            it.parent = it.plan.id.unwrap_or_else(|| {
                *parent.or_insert_with(|| {
                    self.next += 1;
                    self.next - 1
                })
            });
        }
    }

    /// Finds those that are not known yet by their addresses, at what these keys say.
    fn by_key<K: Eq + Hash>(
        &mut self,
        of_planned: impl Fn(&Planned<'a>) -> K,
        of_peer: impl Fn(&'a Peer, LevelKey<'a>) -> K,
    ) {
        if self.planned.iter().all(|it| it.is_known) {
            return;
        }
        let mut left: HashMap<(K, &[u8]), Vec<usize>> = HashMap::new();
        for (index, peer) in self.peers.iter().enumerate().rev().filter(|(it, _)| !self.taken[*it])
        {
            let key = (of_peer(peer, self.levels[index]), peer.server.address());
            left.entry(key).or_default().push(index);
        }
        for it in self.planned.iter_mut().filter(|it| !it.is_known) {
            let found = left.get_mut(&(of_planned(it), it.plan.address)).and_then(Vec::pop);
            if let Some(index) = found {
                self.taken[index] = true;
                it.is_known = true;
                it.before = Some(index);
            }
        }
    }

    fn identities(mut self) -> (Vec<Identity>, u32) {
        let mut each = Vec::with_capacity(self.planned.len());
        for it in &self.planned {
            let given = it.plan.id.filter(|_| !it.is_found());
            let id = given.or_else(|| it.before.map(|index| self.peers[index].id));
            let stays = it.before.is_some_and(|index| self.levels[index] == it.level);
            let id = id.unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            each.push(Identity { id, parent: it.parent, before: it.before, stays });
        }
        (each, self.next)
    }
}
