//! What is used of a cluster by the health of its servers.

use std::cmp::Reverse;
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
    /// Those that work, if not wholly.
    Unstable,
    /// None: no server has passed its first check, which is mandatory.
    Awaited,
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
            Self::Unstable => f.write_str("Unstable"),
            Self::Awaited => f.write_str("Awaited"),
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
            Self::Unstable => 3,
            Self::Awaited => 4,
            Self::One(server) => ptr::from_ref(server).addr() as u64,
        }
    }

    /// Whether it keeps this server, which is in use.
    pub(super) fn keeps(self, server: &Server) -> bool {
        match self {
            Self::NotNeeded | Self::None | Self::Awaited => false,
            Self::All => server.may_be_kept(),
            Self::Unstable => server.health() == Health::Unstable && server.may_be_kept(),
            // Lines of equal address in one level have records of their own.
            Self::One(kept) => kept.address() == server.address(),
        }
    }
}

/// What is used of a generation.
pub(super) struct Verdict {
    /// Of each peer whether the checks have it out of use. It is written down, as the checks go on.
    out: Vec<bool>,
    pub kept: Kept,
}

impl Verdict {
    pub(super) fn of(generation: &Generation) -> Self {
        let out: Vec<bool> = generation.peers().iter().map(Peer::is_out).collect();
        let mut in_use =
            generation.peers().iter().zip(&out).filter(|(peer, _)| peer.is_in_use()).peekable();
        let all_are_out = in_use.peek().is_some() && in_use.all(|(_, out)| *out);
        let kept = if all_are_out { kept_of_failed(generation) } else { Kept::NotNeeded };
        Self { out, kept }
    }

    /// Whether a peer of the generation, which has this index, may be used by its health.
    pub(super) fn uses(&self, index: usize, peer: &Peer) -> bool {
        peer.is_in_use() && (!self.out[index] || self.kept.keeps(peer.server))
    }
}

/// What stays in use where no server passes its checks.
fn kept_of_failed(generation: &Generation) -> Kept {
    let has = |health| generation.servers_in_use().any(|server| server.health() == health);
    let keepable = || generation.servers_in_use().filter(|server| server.may_be_kept());
    if keepable().any(|server| server.health() == Health::Unstable) {
        return Kept::Unstable;
    }
    if keepable().next().is_none() && has(Health::Checking) {
        return Kept::Awaited;
    }
    match generation.protected() {
        Protected::All if keepable().next().is_some() => Kept::All,
        Protected::One => least_bad(generation).map_or(Kept::None, Kept::One),
        Protected::All | Protected::Off => Kept::None,
    }
}

/// The server that stays in use where all have failed: with the most recent passed check, then with
/// the fewest failed ones, then the first. The one that was chosen before stays it until another has
/// passed a check more recently: otherwise each check would move all requests.
fn least_bad(generation: &Generation) -> Option<&'static Server> {
    let keepable = || generation.servers_in_use().filter(|server| server.may_be_kept());
    let mut kept = keepable().filter(|server| server.is_kept());
    let before = kept.next().filter(|before| kept.all(|other| ptr::eq(other, *before)));
    let best = keepable()
        .enumerate()
        .min_by_key(|(index, server)| (Reverse(server.passed_at()), server.fails(), *index))
        .map(|(_, server)| server)?;
    Some(before.filter(|before| before.passed_at() >= best.passed_at()).unwrap_or(best))
}
