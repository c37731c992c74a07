//! What is to be in the zone where a cluster has certain settings.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::logic::balance::ring;
use crate::logic::settings::{self, Cluster, Level, Server};
use crate::nginx::address;
use crate::shm::generation::{Generation, LevelPlan, Peer, PeerPlan, Plan};

/// Socket addresses, level by level, server by server.
pub type Addresses = Vec<Vec<Vec<u8>>>;

/// Levels, and the socket addresses of their servers.
pub type Listed = (Vec<Level>, Addresses);

/// The plan for a cluster whose servers are these.
pub fn plan<'a>(settings: &Cluster, (levels, addresses): (&'a [Level], &'a Addresses)) -> Plan<'a> {
    let checked = !settings.checks.is_empty();
    let awaits_pass = settings.checks.iter().any(|check| !check.mandatory.is_off());
    let peer = |(server, address): (&'a Server, &'a Vec<u8>)| PeerPlan {
        name: &server.server,
        address,
        weight: server.weight,
        max_fails: server.max_fails,
        fail_timeout: server.fail_timeout.as_milliseconds(),
        max_conns: server.max_conns,
        slow_start: server.slow_start.as_milliseconds(),
        down: server.down,
        drain: server.drain,
        checked: checked && !server.down && server.check.is_on,
        awaits_pass,
        ring: ring::base(server.written.as_bytes()),
        sticky: server.sticky.as_bytes(),
        found_by: if server.resolve { &server.written } else { "" },
        id: server.id,
    };
    let level = |(level, addresses): (&'a Level, &'a Vec<Vec<u8>>)| LevelPlan {
        name: level.name.as_deref().unwrap_or_default(),
        tries: level.limits.tries.unwrap_or(0),
        tries_timeout: level.limits.tries_timeout.map_or(0, settings::Time::as_milliseconds),
        peers: level.servers.iter().zip(addresses).map(peer).collect(),
    };
    Plan {
        method: settings.balance.method(),
        protected: settings.protected,
        is_ordered: settings.order.is_some(),
        levels: levels.iter().zip(addresses).map(level).collect(),
        settings: settings.version,
        ..Plan::default()
    }
}

/// The servers of settings that were made at run time: each name is replaced by the addresses that
/// `found` has for it, or else by the last known ones.
pub fn list(settings: &Cluster, found: impl Fn(&Server) -> Vec<String>) -> Listed {
    let mut listed = Listed::default();
    for level in &settings.levels {
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        let mut add = |server: Server| {
            if let Some(address) = address::parse(&server.server) {
                servers.push(server);
                addresses.push(address);
            }
        };
        for server in &level.servers {
            if !server.resolve {
                add(server.clone());
                continue;
            }
            let mut texts = found(server);
            if texts.is_empty() {
                texts.clone_from(&server.addresses);
            }
            for text in texts {
                let written = known_as(server).into_owned();
                add(Server { server: text, written, addresses: Vec::new(), ..server.clone() });
            }
        }
        listed.0.push(Level { servers, ..level.clone() });
        listed.1.push(addresses);
    }
    listed
}

/// Gives the servers of a cluster the numbers that they have in the zone.
pub fn number(levels: &mut [Level], generation: &Generation) {
    for (level, found) in levels.iter_mut().zip(generation.levels()) {
        let peers = &generation.peers()[found.range()];
        if !number_in_order(&mut level.servers, peers) {
            number_by_name(&mut level.servers, peers);
        }
    }
}

/// The same of a level, where its servers are those of the generation, one by one. Returns whether they
/// are.
fn number_in_order(servers: &mut [Server], peers: &[Peer]) -> bool {
    let mut peers = peers.iter().peekable();
    for server in servers {
        let name = server.resolve.then(|| known_as(server).into_owned());
        let is_it = |peer: &Peer| match &name {
            Some(name) => peer.found_by() == name,
            None => peer.parent().is_none() && peer.server.name() == server.server,
        };
        let Some(peer) = peers.next_if(|peer| is_it(peer)) else { return false };
        server.id = Some(peer.parent().unwrap_or(peer.id));
        while server.resolve && peers.next_if(|peer| is_it(peer)).is_some() {}
    }
    peers.next().is_none()
}

/// The same where nginx has found others by now.
fn number_by_name(servers: &mut [Server], peers: &[Peer]) {
    let mut addresses: HashMap<(&str, usize), u32> = HashMap::new();
    let mut names: HashMap<&str, u32> = HashMap::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for peer in peers {
        match peer.parent() {
            Some(parent) => drop(names.insert(peer.found_by(), parent)),
            None => {
                let nth = seen.entry(peer.server.name()).or_default();
                addresses.insert((peer.server.name(), *nth), peer.id);
                *nth += 1;
            }
        }
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for server in servers {
        server.id = if server.resolve {
            names.get(&*known_as(server)).copied()
        } else {
            let nth = seen.entry(server.server.clone()).or_default();
            *nth += 1;
            addresses.get(&(server.server.as_str(), *nth - 1)).copied()
        };
    }
}

/// What a server is known by, and all the addresses of a name.
pub fn known_as(server: &Server) -> Cow<'_, str> {
    match &server.service {
        Some(service) => format!("{} service={service}", server.server).into(),
        None => server.server.as_str().into(),
    }
}

/// The addresses that a generation has for a name.
pub fn found_before(generation: Option<&Generation>, server: &Server) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let name = known_as(server);
    for peer in generation.map_or(&[][..], Generation::peers) {
        let address = peer.server.name();
        if peer.found_by() == name && !found.iter().any(|known| known == address) {
            found.push(address.to_owned());
        }
    }
    found
}
