//! What the zone says, in the shapes of the API of NGINX Plus.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ptr;

use super::configuration::Configuration;
use super::entry::Entry;
use super::watched::Watch;
use crate::logic::health::Health;
use crate::logic::plus::instance::{Instance, Processes, Worker};
use crate::logic::plus::server::Shown;
use crate::logic::plus::upstream::{Condition, Counted, Peer, Upstream};
use crate::logic::settings::{Cluster, Server};
use crate::nginx::{process, statistics};
use crate::shm;
use crate::shm::generation::{self, Generation};
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// All clusters by their names.
pub fn upstreams(configuration: &Configuration) -> BTreeMap<String, Upstream> {
    let zone = zone(configuration);
    let entries = configuration.all().into_iter();
    let entries = entries.filter(|entry| !entry.current().is_deleted);
    entries.map(|entry| (entry.name().to_owned(), shown(configuration, &entry, &zone))).collect()
}

/// One cluster.
pub fn upstream(configuration: &Configuration, entry: &Entry) -> Upstream {
    shown(configuration, entry, &zone(configuration))
}

fn zone(configuration: &Configuration) -> String {
    configuration.usage().map(|usage| usage.name).unwrap_or_default()
}

fn shown(configuration: &Configuration, entry: &Entry, zone: &str) -> Upstream {
    let settings = entry.shown_settings();
    let of = |generation: &Generation| peers(configuration, entry, &settings, generation);
    let peers = entry.with_generation(|generation, _| of(generation)).unwrap_or_default();
    Upstream { peers, keepalive: 0, zombies: 0, zone: zone.to_owned() }
}

fn peers(
    configuration: &Configuration,
    entry: &Entry,
    settings: &Cluster,
    generation: &Generation,
) -> Vec<Peer> {
    let servers = settings.levels.iter().flat_map(|level| &level.servers);
    let by_id: HashMap<u32, &Server> =
        servers.filter_map(|server| Some((server.id?, server))).collect();
    let mut loads = entry.watch.as_ref().map(Watch::loads).unwrap_or_default();
    let now = process::now();
    let mut seen: HashSet<*const shm::server::Server> = HashSet::new();
    let mut peers = Vec::with_capacity(generation.peers().len());
    for (place, level) in generation.levels().iter().enumerate() {
        for peer in &generation.peers()[level.range()] {
            // What is counted of an address that is in two levels is counted once.
            if !seen.insert(ptr::from_ref(peer.server)) {
                continue;
            }
            let server = by_id.get(&peer.parent().unwrap_or(peer.id)).copied();
            // What nginx has of all lines of an address is shown of the first.
            let load = loads.get_mut(peer.server.address());
            let (connections, is_failed) = load
                .map_or((0, false), |load| (std::mem::take(&mut load.connections), load.is_failed));
            let address = peer.server.name();
            let name = match server {
                Some(server) if server.resolve => &server.server,
                Some(server) => &server.written,
                None => address,
            };
            peers.push(Peer {
                id: peer.id,
                server: address.to_owned(),
                service: server.and_then(|server| server.service.clone()),
                name: name.to_owned(),
                backup: place > 0,
                weight: peer.weight,
                state: condition(peer, is_failed, now).state(),
                active: peer.server.uses().connections() + connections,
                max_conns: peer.max_conns,
                counted: Counted::new(peer.server.read_statistics(now), |at| {
                    moment(configuration, at)
                }),
            });
        }
    }
    peers
}

fn condition(peer: &generation::Peer, is_failed: bool, now: u64) -> Condition {
    let server = peer.server;
    let health = if server.is_checked() { server.health() } else { Health::Unchecked };
    Condition {
        is_down: peer.down,
        is_drained: peer.drain,
        health,
        is_ejected: is_failed || (server.is_ejected(now) && !server.is_kept()),
    }
}

/// A monotonic time in the format ISO 8601.
fn moment(configuration: &Configuration, monotonic: u64) -> String {
    let now = process::clock_offset();
    let offset = configuration.root().map_or(now, |root| root.clock_offset(now));
    process::iso_time(offset.saturating_add_unsigned(monotonic))
}

/// The servers of a cluster, each name with the addresses that were found by it.
pub fn servers(entry: &Entry) -> Vec<Shown> {
    let settings = entry.shown_settings();
    let found = entry.with_generation(|generation, _| {
        let mut found: HashMap<u32, Vec<(u32, String)>> = HashMap::new();
        for peer in generation.peers() {
            if let Some(parent) = peer.parent() {
                let address = (peer.id, peer.server.name().to_owned());
                found.entry(parent).or_default().push(address);
            }
        }
        found
    });
    let found = found.unwrap_or_default();
    let mut servers = Vec::new();
    for (level, it) in settings.levels.iter().enumerate() {
        for server in &it.servers {
            let Some(shown) = Shown::new(server, level) else { continue };
            let addresses = found.get(&shown.id()).into_iter().flatten();
            let addresses: Vec<_> =
                addresses.map(|(id, address)| shown.address(*id, address)).collect();
            let is_found = entry.is_following() && server.written != server.server;
            servers.push(if is_found { shown.found_by(&server.written) } else { shown });
            servers.extend(addresses);
        }
    }
    servers
}

/// Begins the statistics of the servers of a cluster anew.
pub fn reset(entry: &Entry) {
    if let Some(records) = entry.records.get() {
        records.reset_statistics(process::now());
    }
}

/// nginx itself, at this address.
pub fn instance(configuration: &Configuration, address: String) -> Instance {
    Instance {
        version: statistics::version(),
        build: "",
        address,
        generation: configuration.load(),
        load_timestamp: process::iso_time(configuration.loaded_at()),
        timestamp: process::iso_time(process::milliseconds()),
        pid: process::id(),
        ppid: statistics::parent(),
    }
}

/// Its processes.
pub fn processes(configuration: &Configuration) -> Processes {
    Processes { respawned: configuration.root().map_or(0, Root::respawned) }
}

/// The workers of the running configuration, by their numbers.
pub fn workers(configuration: &Configuration) -> Vec<Worker> {
    let Some(root) = configuration.root() else { return Vec::new() };
    let is_current = |slot: &&Slot| slot.is_taken() && slot.configuration() == root.configuration();
    let worker =
        |slot: &Slot| Worker { id: slot.number(), pid: slot.process(), ..Worker::default() };
    let mut workers: Vec<_> = root.workers().filter(is_current).map(worker).collect();
    workers.sort_by_key(|worker| (worker.id, worker.pid));
    workers
}
