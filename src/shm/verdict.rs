//! What is used of a cluster by the health of its servers.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ptr;

use super::generation::{Generation, Peer};
use super::server::Server;
use crate::logic::health::Health;
use crate::logic::settings::Protected;

/// What stays in use although it has failed its checks, as every server has that is in use.
#[derive(Clone, Copy)]
pub enum Kept {
    /// There is another one: those that have failed are out of use.
    NotNeeded,
    /// All servers.
    All,
    /// The least bad one.
    One(&'static Server),
    /// None.
    None,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => ptr::eq(*a, *b),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("NotNeeded"),
            Self::All => f.write_str("All"),
            Self::One(server) => write!(f, "One({})", server.name()),
            Self::None => f.write_str("None"),
        }
    }
}

impl Kept {
    /// A number that stands for it.
    pub(super) fn id(self) -> u64 {
        match self {
            Self::NotNeeded => 0,
            Self::All => 1,
            Self::None => 2,
            Self::One(server) => ptr::from_ref(server).addr() as u64,
        }
    }

    /// Whether it keeps this server, which is in use.
    pub(super) fn keeps(self, server: &Server) -> bool {
        match self {
            Self::NotNeeded | Self::None => false,
            Self::All => true,
            // Lines of equal address in one level have records of their own.
            Self::One(kept) => kept.address() == server.address(),
        }
    }
}

/// What is used of a generation.
pub(super) struct Verdict {
    failed: HashSet<*const Server>,
    pub kept: Kept,
}

impl Verdict {
    pub(super) fn of(generation: &Generation) -> Self {
        // What an earlier generation knows of servers that this one does not have checked does not
        // count.
        let failed: HashSet<_> = generation
            .peers()
            .iter()
            .filter(|peer| peer.checked && peer.server.health() == Health::Failed)
            .map(|peer| ptr::from_ref(peer.server))
            .collect();
        let mut in_use = generation.servers_in_use().peekable();
        let all_failed =
            in_use.peek().is_some() && in_use.all(|server| failed.contains(&ptr::from_ref(server)));
        let kept = match generation.protected() {
            _ if !all_failed => Kept::NotNeeded,
            Protected::All => Kept::All,
            Protected::One => least_bad(generation).map_or(Kept::None, Kept::One),
            Protected::Off => Kept::None,
        };
        Self { failed, kept }
    }

    /// Whether a peer may be used by its health.
    pub(super) fn uses(&self, peer: &Peer) -> bool {
        peer.is_in_use()
            && (!self.failed.contains(&ptr::from_ref(peer.server)) || self.kept.keeps(peer.server))
    }
}

/// The server that stays in use where all have failed: with the most recent passed check, then with
/// the fewest failed ones, then the first. The one that was chosen before stays it until another has
/// passed a check more recently: otherwise each check would move all requests.
fn least_bad(generation: &Generation) -> Option<&'static Server> {
    let mut kept = generation.servers_in_use().filter(|server| server.is_kept());
    let before = kept.next().filter(|before| kept.all(|other| ptr::eq(other, *before)));
    let best = generation
        .servers_in_use()
        .enumerate()
        .min_by_key(|(index, server)| (Reverse(server.passed_at()), server.record().fails, *index))
        .map(|(_, server)| server)?;
    Some(before.filter(|before| before.passed_at() >= best.passed_at()).unwrap_or(best))
}
