//! What is checked: an address and what is asked of it, for all servers of that address.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::exchange::{self, KeptConnection, Outcome};
use super::room::{Place, Room};
use crate::logic::health::{Finding, Thresholds};
use crate::logic::probe::redis::RedisDetails;
use crate::logic::schedule::Schedule;
use crate::logic::settings::{Check, Probe};
use crate::nginx::connection::ConnectionError;
use crate::nginx::tls::Tls;
use crate::shm::cluster::Cluster;
use crate::shm::server::Server;
use crate::shm::worker::Slot;

/// What stands for an address and a check, however many clusters have both: the socket address, and
/// the number of the check among the different ones.
pub type Key = (Vec<u8>, usize);

/// The different checks, apart from what follows from their results. They have numbers.
#[derive(Default)]
pub struct Kinds {
    checks: Vec<Check>,
    /// The numbers of those that are shown alike: a password is not shown.
    by_text: HashMap<String, Vec<usize>>,
}

impl Kinds {
    fn number(&mut self, check: &Check) -> usize {
        let check = check.without_consequences();
        let text = serde_json::to_string(&check).unwrap_or_default();
        let numbers = self.by_text.entry(text).or_default();
        if let Some(number) = numbers.iter().find(|number| self.checks[**number] == check) {
            return *number;
        }
        self.checks.push(check);
        numbers.push(self.checks.len() - 1);
        self.checks.len() - 1
    }
}

/// A check of a server that a cluster wants.
pub struct Wanted {
    /// What it has in common with others.
    pub key: Key,
    /// The check, as it is for this server.
    pub check: Check,
    /// What it needs where it uses TLS.
    pub tls: Option<Tls>,
    /// Who wants it; taken out when it is found out what is checked already.
    pub consumer: Option<Consumer>,
}

impl Wanted {
    /// The check of a server for one that wants it.
    pub fn new(check: Check, tls: Option<Tls>, consumer: Consumer, kinds: &mut Kinds) -> Self {
        let mut address = consumer.server.address().to_vec();
        if let Some(port) = check.port {
            set_port(&mut address, port);
        }
        Self { key: (address, kinds.number(&check)), check, tls, consumer: Some(consumer) }
    }
}

/// A server of a cluster that wants to know the verdict of a check. Its record is pinned.
pub struct Consumer {
    slot: &'static Slot,
    /// The cluster.
    pub cluster: &'static Cluster,
    /// The server.
    pub server: &'static Server,
    /// The number of the check in the cluster.
    pub check: usize,
    /// How many results in a row count.
    pub thresholds: Thresholds,
    /// What a message begins with, where there is more than one check.
    label: Option<String>,
}

impl Consumer {
    /// Pins the record of the server. The caller holds the slab.
    pub fn new(
        slot: &'static Slot,
        cluster: &'static Cluster,
        server: &'static Server,
        number: usize,
        check: &Check,
        is_one_of_many: bool,
    ) -> Self {
        if let Some(own) = server.uses().of(slot.index()) {
            own.pin();
        }
        let thresholds = Thresholds { fails: check.fails, passes: check.passes };
        let label = is_one_of_many.then(|| label(check));
        Self { slot, cluster, server, check: number, thresholds, label }
    }

    /// The reason of a failure, as this server has it told.
    pub fn told<'a>(&self, reason: &'a str) -> Cow<'a, str> {
        match &self.label {
            Some(label) if !reason.is_empty() && !reason.starts_with(label.as_str()) => {
                format!("{label}: {reason}").into()
            }
            _ => reason.into(),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        Cluster::unpin(self.slot, self.server);
    }
}

/// The most bytes of a path in a message.
const MAX_PATH: usize = 24;

/// What tells a check from others of the same server.
fn label(check: &Check) -> String {
    let mut label = match &check.probe {
        Probe::Tcp(_) => "tcp".to_owned(),
        // Not what may be a secret, nor so much that no room is left for the reason.
        Probe::Http(probe) => {
            let path = probe.uri.split('?').next().unwrap_or_default();
            match path.get(..MAX_PATH) {
                Some(cut) if path.len() > MAX_PATH => format!("{cut}..."),
                _ => path.to_owned(),
            }
        }
        Probe::Grpc(probe) if probe.service.is_empty() => "grpc".to_owned(),
        Probe::Grpc(probe) => probe.service.clone(),
        Probe::Redis(_) => "redis".to_owned(),
        Probe::Mysql(_) => "mysql".to_owned(),
        Probe::Postgres(_) => "postgres".to_owned(),
    };
    if let Some(port) = check.port {
        label.insert_str(0, &format!(":{port} "));
    }
    label
}

/// An address that is checked.
pub struct Target {
    /// What it is known by.
    pub key: Key,
    /// What is asked, and when.
    pub check: Check,
    /// Who wants to know.
    pub consumers: RefCell<Vec<Consumer>>,
    /// What the check needs where it uses TLS.
    tls: Option<Tls>,
    /// The connection that is open from one check to the next.
    kept: RefCell<Option<(KeptConnection, Place)>>,
    /// How many results in a row were thrown away.
    pub voided: Cell<u32>,
    schedule: RefCell<Schedule>,
    /// What a Redis server said last of its version.
    redis_version: RefCell<Option<String>>,
}

impl Target {
    /// A target for these servers, which have its address.
    pub fn new(wanted: Wanted, consumers: Vec<Consumer>, schedule: Schedule) -> Self {
        Self {
            key: wanted.key,
            check: wanted.check,
            tls: wanted.tls,
            kept: RefCell::default(),
            consumers: RefCell::new(consumers),
            voided: Cell::new(0),
            schedule: RefCell::new(schedule),
            redis_version: RefCell::default(),
        }
    }

    /// One check. Where there is room, its connection stays open for the next one.
    pub async fn ask(&self, room: &Rc<Room>) -> Result<Outcome, ConnectionError> {
        // Its place is that of the check from now on.
        let mut kept = self.kept.take().map(|(connection, _)| connection);
        let outcome = exchange::ask(&self.key.0, &self.check, self.tls.as_ref(), &mut kept).await;
        self.kept.replace(kept.and_then(|connection| Some((connection, room.keep()?))));
        outcome
    }

    /// Closes the connection that is open from one check to the next.
    pub fn hang_up(&self) {
        self.kept.take();
    }

    /// When the next check is due after one that started at `started`, given a `random` number.
    pub fn next(&self, started: u64, random: u64) -> u64 {
        let is_down = || self.consumers.borrow().iter().all(|one| !one.server.health().is_good());
        let interval = self.check.down_interval.filter(|_| is_down());
        let interval = interval.map(|interval| interval.as_milliseconds());
        self.schedule.borrow_mut().next(started, interval, random)
    }

    /// What the status shows of what the server says of itself. `None`: it stays as it is.
    ///
    /// Of a server that failed only the version is known, and that it has no replication to show.
    pub fn shown_details(
        &self,
        finding: Finding,
        details: Option<&RedisDetails>,
    ) -> Option<String> {
        if !matches!(self.check.probe, Probe::Redis(_)) {
            return None;
        }
        let mut version = self.redis_version.borrow_mut();
        match details {
            Some(details) if finding != Finding::Fail => {
                version.clone_from(&details.redis_version);
                serde_json::to_string(details).ok()
            }
            _ => {
                let mut shown = serde_json::json!({ "replication": null });
                if let Some(version) = &*version {
                    shown["redis_version"] = version.clone().into();
                }
                Some(shown.to_string())
            }
        }
    }
}

/// Replaces the port of an internet address.
fn set_port(address: &mut [u8], port: u16) {
    // In sockaddr_in and sockaddr_in6 alike the port stands right behind the family, in network
    // order; a unix socket has none.
    let family = libc::sa_family_t::from_ne_bytes([address[0], address[1]]);
    if i32::from(family) == libc::AF_INET || i32::from(family) == libc::AF_INET6 {
        address[2..4].copy_from_slice(&port.to_be_bytes());
    }
}
