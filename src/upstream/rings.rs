//! The rings of a cluster, for consistent hashes. Each worker makes its own, when it first needs them:
//! they are large, and the zone is small.

use crate::logic::balance::ring::{Member, Ring};
use crate::shm::generation::Generation;

/// The rings of one cluster in this worker, level by level.
#[derive(Default)]
pub struct Rings(Vec<Option<LevelRing>>);

struct LevelRing {
    /// Of the generation that it was last used for.
    version: u64,
    members: Vec<Member>,
    ring: Ring,
}

impl Rings {
    /// The ring of a level of a generation.
    pub fn of(&mut self, generation: &Generation, level: usize) -> &Ring {
        if self.0.len() <= level {
            self.0.resize_with(level + 1, || None);
        }
        let kept = &mut self.0[level];
        if kept.as_ref().is_none_or(|kept| kept.version != generation.version()) {
            *kept = Some(LevelRing::follow(kept.take(), generation, level));
        }
        &kept.as_ref().expect("it was just made").ring
    }
}

impl LevelRing {
    /// Only what has changed is made anew.
    fn follow(before: Option<Self>, generation: &Generation, level: usize) -> Self {
        let version = generation.version();
        let range = generation.levels().get(level).map_or(0..0, |level| level.range());
        let peers = generation.peers()[range].iter();
        let members: Vec<_> =
            peers.map(|peer| Member { base: peer.ring, weight: peer.weight }).collect();
        match before {
            Some(before) if before.members == members => Self { version, ..before },
            Some(before) => {
                let ring = before.ring.updated(&before.members, &members);
                Self { version, members, ring }
            }
            None => {
                let ring = Ring::new(&members);
                Self { version, members, ring }
            }
        }
    }
}
