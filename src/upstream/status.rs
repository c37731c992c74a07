//! What the zone says, as the tree of `status`.

use std::cmp::Reverse;

use super::configuration::Configuration;
use super::worker::ALIVE;
use crate::logic::status::{Checked, Cluster, Level, Server, State, Status, Worker};
use crate::nginx::process;
use crate::shm;
use crate::shm::generation::Peer;
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// The state of all clusters. `None`: there is no zone.
pub fn status(configuration: &Configuration) -> Option<Status> {
    let root = configuration.root()?;
    // With the slab held no cluster is freed under our eyes.
    let mut clusters: Vec<_> =
        configuration.with_slab(|_| root.clusters().filter_map(cluster).collect())?;
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let now = process::now();
    Some(Status {
        clusters,
        last_check_time: root.checked_at().map(process::local_time),
        checkup_timer_alive: is_alive(root.checker_seen(), now),
        start_time: Some(process::local_time(root.started_at())),
        shd_config_version: root.configuration().saturating_sub(1),
        workers: workers(root, now),
        zone: configuration.usage(),
    })
}

fn is_alive(seen: u64, now: u64) -> bool {
    seen != 0 && now.saturating_sub(seen) < ALIVE
}

/// The workers, those of the newest configuration first, by number.
fn workers(root: &Root, now: u64) -> Vec<Worker> {
    let worker = |slot: &Slot| Worker {
        number: slot.number(),
        process: slot.process(),
        is_alive: slot.is_taken() && is_alive(slot.seen(), now),
        version: slot.configuration().saturating_sub(1),
    };
    let mut workers: Vec<_> = root.workers().map(worker).collect();
    workers.sort_by_key(|worker| (Reverse(worker.version), worker.number, worker.process));
    workers
}

/// `None`: a cluster of a configuration that is not in use yet, or one that was deleted.
fn cluster(cluster: &shm::cluster::Cluster) -> Option<Cluster> {
    let mut guard = cluster.lock();
    let generation = guard.generation().filter(|it| !it.is_deleted())?;
    let mut server = |peer: &Peer| {
        let state = State::of(peer.server.health(), peer.server.is_kept());
        let checked = !peer.down && peer.server.is_checked() && state != State::Unchecked;
        let message = peer.server.message(&mut guard).to_owned();
        let details = serde_json::from_str(peer.server.details(&mut guard)).ok();
        Server {
            address: peer.server.name().to_owned(),
            checked: checked.then(|| Checked {
                state,
                fail_num: peer.server.fails(),
                lastmodified: Some(peer.server.changed_at())
                    .filter(|&at| at != 0)
                    .map(process::local_time),
                msg: Some(message).filter(|message| !message.is_empty()),
                details,
            }),
            weight: peer.weight,
            max_fails: peer.max_fails,
            fail_timeout: peer.fail_timeout / 1000,
        }
    };
    let levels = generation
        .levels()
        .iter()
        .map(|level| Level {
            name: level.name().map(str::to_owned),
            servers: generation.peers()[level.range()].iter().map(&mut server).collect(),
        })
        .collect();
    Some(Cluster { name: cluster.name().to_owned(), levels })
}
