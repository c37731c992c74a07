//! The records that the servers of a generation use.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ptr;

use smallvec::SmallVec;

use super::generation::{LevelPlan, Peer, PeerPlan};
use super::matching::Identity;
use super::server::Server;

/// Servers, each with the one of another zone that it takes over from.
pub(super) type Copies = Vec<(&'static Server, &'static Server)>;

#[derive(Default)]
struct Record {
    /// That of the generation before.
    before: Option<&'static Server>,
    /// The one that is used here; `None`: none is yet.
    made: Option<&'static Server>,
    /// The last level that has it.
    level: Option<usize>,
}

/// The records of a generation that is being made. Lines of equal address in one level are servers of
/// their own, as in nginx; those in different levels are the same.
pub(super) struct Records<'a> {
    all: Vec<Record>,
    by_address: HashMap<&'a [u8], SmallVec<[usize; 1]>>,
    by_server: HashMap<*const Server, usize>,
}

impl<'a> Records<'a> {
    /// Those of the generation before, which lies in the same zone or is only to be copied from.
    pub(super) fn new(before: &'a [Peer], same_zone: bool) -> Self {
        let by_server = HashMap::with_capacity(before.len());
        let by_address = HashMap::with_capacity(before.len());
        let mut records = Self { all: Vec::with_capacity(before.len()), by_address, by_server };
        for peer in before {
            let server = peer.server;
            if !records.by_server.contains_key(&ptr::from_ref(server)) {
                let made = Some(server).filter(|_| same_zone);
                let record = Record { before: Some(server), made, level: None };
                let index = records.add(server.address(), record);
                records.by_server.insert(server, index);
            }
        }
        records
    }

    fn add(&mut self, address: &'a [u8], record: Record) -> usize {
        self.all.push(record);
        let index = self.all.len() - 1;
        self.by_address.entry(address).or_default().push(index);
        index
    }

    /// The places of those of the next level. What a peer was before it stays, as long as no more servers
    /// come of that than the level with the most lines of an address has.
    pub(super) fn of_level(
        &mut self,
        number: usize,
        level: &LevelPlan<'a>,
        identities: &[Identity],
        before: &[Peer],
    ) -> Vec<usize> {
        // How many lines of an address the levels before this one have too few of.
        let mut more: HashMap<&[u8], isize> = HashMap::with_capacity(level.peers.len());
        for peer in &level.peers {
            *more.entry(peer.address).or_insert_with(|| -self.used(peer.address)) += 1;
        }
        let here = Some(number);
        let mut stay = |(peer, identity): (&PeerPlan<'a>, &Identity)| {
            let server: *const Server = before[identity.before?].server;
            let index = *self.by_server.get(&server)?;
            let more = more.get_mut(peer.address)?;
            let record = &mut self.all[index];
            let is_new = record.level.is_none();
            if record.level == here || (is_new && *more <= 0) {
                return None;
            }
            *more -= isize::from(is_new);
            record.level = here;
            Some(index)
        };
        let stay: Vec<Option<usize>> = level.peers.iter().zip(identities).map(&mut stay).collect();
        let chosen = level.peers.iter().zip(stay).map(|(peer, stays)| {
            stays.unwrap_or_else(|| {
                let known = self.by_address.get(peer.address).into_iter().flatten().copied();
                let free = known.filter(|index| self.all[*index].level != here);
                let best = |index: &usize| (self.all[*index].level.is_some(), Reverse(*index));
                let index = free.max_by_key(best);
                let index = index.unwrap_or_else(|| self.add(peer.address, Record::default()));
                self.all[index].level = here;
                index
            })
        });
        chosen.collect()
    }

    /// How many of this address the levels so far have.
    fn used(&self, address: &[u8]) -> isize {
        let known = self.by_address.get(address).into_iter().flatten();
        known.filter(|index| self.all[**index].level.is_some()).count() as isize
    }

    /// Whether any of those that are used have an address in common.
    pub(super) fn repeat(&self) -> bool {
        self.by_address.keys().any(|address| self.used(address) > 1)
    }

    /// The server at a place, if it is there.
    pub(super) fn made(&self, place: usize) -> Option<&'static Server> {
        self.all[place].made
    }

    /// The server of a place was made.
    pub(super) fn make(&mut self, place: usize, server: &'static Server) {
        self.all[place].made = Some(server);
    }

    /// Another server of this address.
    pub(super) fn equal(&self, address: &[u8]) -> Option<&'static Server> {
        self.by_address.get(address)?.iter().find_map(|index| self.all[*index].made)
    }

    /// What those know that are in another zone, and those that are to know it.
    pub(super) fn copies(self) -> Copies {
        let pairs = self.all.into_iter().filter_map(|it| Some((it.made?, it.before?)));
        pairs.filter(|(made, before)| !ptr::eq(*made, *before)).collect()
    }
}
