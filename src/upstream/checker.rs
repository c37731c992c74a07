//! The loop of the checks. It runs in worker 0 only.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ngx::ffi::{NGX_LOG_NOTICE, NGX_LOG_WARN};

use super::configuration::{Configuration, Entry};
use crate::logic::health::Thresholds;
use crate::logic::probe::{Probe, Step, Verdict};
use crate::logic::schedule::Schedule;
use crate::logic::settings::Check;
use crate::logic::status::State;
use crate::nginx::connection::{Connection, ConnectionError};
use crate::nginx::task::{sleep, spawn, timeout, Task};
use crate::nginx::{log, process};
use crate::shm::cluster::{Cluster, Observation};
use crate::shm::generation::Generation;
use crate::shm::server::Server;
use crate::shm::verdict::Kept;
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// The share of the worker's connections that checks may take: one in so many.
const CONNECTIONS_SHARE: usize = 2;

/// For how long local trouble is not reported again, in milliseconds: it may come and go with every
/// connection of a client.
const REPORTS_APART: u64 = 60_000;

/// How long the loop sleeps where nothing is due, in milliseconds.
const IDLE: u64 = 60_000;

/// The running checks.
pub struct Checker {
    dispatcher: RefCell<Option<Task>>,
    state: Rc<Loop>,
}

struct Loop {
    root: &'static Root,
    slot: &'static Slot,
    configuration: &'static Configuration,
    /// What is checked, by numbers that are not used again.
    targets: RefCell<HashMap<u64, Rc<Target>>>,
    next_number: Cell<u64>,
    /// The versions of the clusters that the targets are from, in the order of the configuration.
    versions: RefCell<Vec<u64>>,
    /// The checks that are not under way: when they are due, and whose. Those of targets that are
    /// gone are skipped.
    queue: RefCell<BinaryHeap<Reverse<(u64, u64)>>>,
    /// The checks that are under way, by target.
    running: RefCell<HashMap<u64, Task>>,
    in_flight: Cell<usize>,
    most_in_flight: usize,
    /// Until when the dispatcher sleeps.
    wakes_at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// When it was reported that checks cannot be made for local trouble.
    reported_at: Cell<Option<u64>>,
}

/// A check that is under way. However it ends, the next one is queued.
struct UnderWay {
    state: Rc<Loop>,
    number: u64,
    target: Rc<Target>,
    started: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let due = self.target.schedule.borrow_mut().next(self.started, process::random());
        let state = &self.state;
        let was_full = state.in_flight.get() >= state.most_in_flight;
        state.in_flight.set(state.in_flight.get() - 1);
        state.queue.borrow_mut().push(Reverse((due, self.number)));
        if was_full || due < state.wakes_at.get() {
            state.wake();
        }
    }
}

/// One server that is checked. Its record is pinned.
struct Target {
    slot: &'static Slot,
    cluster: &'static Cluster,
    server: &'static Server,
    check: &'static Check,
    /// Where its port is not the server's own.
    address: Vec<u8>,
    schedule: RefCell<Schedule>,
}

impl Drop for Target {
    fn drop(&mut self) {
        Cluster::unpin(self.slot, self.server);
    }
}

impl Checker {
    /// Starts the checks of a configuration.
    pub fn start(
        root: &'static Root,
        slot: &'static Slot,
        configuration: &'static Configuration,
    ) -> Self {
        let state = Rc::new(Loop {
            root,
            slot,
            configuration,
            targets: RefCell::default(),
            next_number: Cell::new(0),
            versions: RefCell::new(vec![0; configuration.clusters().len()]),
            queue: RefCell::default(),
            running: RefCell::default(),
            in_flight: Cell::new(0),
            most_in_flight: (process::connections() / CONNECTIONS_SHARE).max(1),
            wakes_at: Cell::new(0),
            waker: RefCell::new(None),
            reported_at: Cell::new(None),
        });
        // A worker that died may have stored a verdict, and not seen to the rotation.
        for cluster in configuration.clusters().iter().filter_map(|entry| entry.records.get()) {
            state.refresh(cluster);
        }
        state.follow();
        Self { dispatcher: RefCell::new(Some(spawn(state.clone().dispatch()))), state }
    }

    /// Follows the clusters where their servers have changed. Those that remain are checked as
    /// before.
    pub fn follow(&self) {
        self.state.follow();
    }

    /// Ends the checks; what was under way gives no verdict.
    pub fn stop(&self) {
        self.dispatcher.take();
        // Each task refers to the loop, which holds the tasks.
        let running = self.state.running.take();
        drop(running);
        self.state.targets.take();
    }
}

/// The servers of a cluster that are checked, one for each address, with the check.
fn checked_servers(
    entry: &'static Entry,
) -> Vec<(&'static Cluster, &'static Server, &'static Check)> {
    let (Some(cluster), Some(check)) = (entry.records.get(), entry.settings.checks.first()) else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let guard = cluster.lock();
    guard
        .generation()
        .into_iter()
        .flat_map(|generation| generation.servers_to_check())
        .filter(|server| seen.insert(server.address()))
        .map(|server| (cluster, server, check))
        .collect()
}

/// The version of a cluster's servers; 0: it has none.
fn version(entry: &Entry) -> u64 {
    let generation = entry.records.get().and_then(|cluster| cluster.lock().generation());
    generation.map_or(0, Generation::version)
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

impl Loop {
    /// See [`Checker::follow`].
    fn follow(&self) {
        let clusters = self.configuration.clusters();
        let versions: Vec<u64> = clusters.iter().map(version).collect();
        if *self.versions.borrow() == versions {
            return;
        }
        // While the slab is held no record is freed, and those that are found here are pinned.
        let new = self.configuration.with_slab(|_| {
            let wanted: Vec<_> = clusters.iter().flat_map(checked_servers).collect();
            let keys: HashSet<_> =
                wanted.iter().map(|(_, server, _)| ptr::from_ref(*server)).collect();
            let mut targets = self.targets.borrow_mut();
            targets.retain(|_, target| keys.contains(&ptr::from_ref(target.server)));
            let known: HashSet<_> =
                targets.values().map(|target| ptr::from_ref(target.server)).collect();
            let new: Vec<_> = wanted
                .into_iter()
                .filter(|(_, server, _)| !known.contains(&ptr::from_ref(*server)))
                .collect();
            for (_, server, _) in &new {
                if let Some(own) = server.uses().of(self.slot.index()) {
                    own.pin();
                }
            }
            new
        });
        let Some(new) = new else { return };
        *self.versions.borrow_mut() = versions;
        clusters.iter().filter_map(|entry| entry.records.get()).for_each(announce);

        let (now, count) = (process::now(), new.len());
        for (index, (cluster, server, check)) in new.into_iter().enumerate() {
            let (schedule, due) = Schedule::start(
                now,
                index,
                count,
                check.interval.as_milliseconds(),
                check.jitter.as_milliseconds(),
            );
            let mut address = server.address().to_vec();
            if let Some(port) = check.port {
                set_port(&mut address, port);
            }
            let number = self.next_number.get();
            self.next_number.set(number + 1);
            let schedule = RefCell::new(schedule);
            let target = Target { slot: self.slot, cluster, server, check, address, schedule };
            self.targets.borrow_mut().insert(number, Rc::new(target));
            self.queue.borrow_mut().push(Reverse((due, number)));
        }
        self.wake();
    }

    /// Has the rotation of a cluster follow the verdicts.
    fn refresh(&self, cluster: &Cluster) {
        let refreshed = self.configuration.with_slab(|slab| self.root.refresh(slab, cluster));
        if let Some(Err(full)) = refreshed {
            log::write(
                NGX_LOG_WARN,
                format_args!(
                    "cluster \"{}\": {full}, its servers are picked the slow way, a larger size is \
                     wanted in checkups_zone",
                    cluster.name()
                ),
            );
        }
    }

    /// Starts each check when it is due.
    async fn dispatch(self: Rc<Self>) {
        while !process::is_exiting() && self.is_current() {
            let now = process::now();
            let next = self.queue.borrow().peek().map(|Reverse((due, _))| *due);
            let room = self.in_flight.get() < self.most_in_flight;
            match next {
                Some(due) if due <= now && room => {
                    let popped = self.queue.borrow_mut().pop();
                    if let Some(Reverse((_, number))) = popped {
                        self.begin(number);
                    }
                }
                Some(due) if room => self.wait_until(due).await,
                _ => self.wait_until(now + IDLE).await,
            }
        }
    }

    /// Sleeps until `due`, or until something changed that the dispatcher has to look at.
    async fn wait_until(&self, due: u64) {
        self.wakes_at.set(due);
        let mut sleep = pin!(sleep(due.saturating_sub(process::now())));
        poll_fn(|context| {
            if self.wakes_at.get() == 0 {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            sleep.as_mut().poll(context)
        })
        .await;
    }

    fn begin(self: &Rc<Self>, number: u64) {
        let Some(target) = self.targets.borrow().get(&number).cloned() else {
            self.running.borrow_mut().remove(&number);
            return;
        };
        self.in_flight.set(self.in_flight.get() + 1);
        // The task may be over when `spawn` returns; its handle is then replaced by the next.
        let task = spawn(self.clone().check(number, target));
        self.running.borrow_mut().insert(number, task);
    }

    async fn check(self: Rc<Self>, number: u64, target: Rc<Target>) {
        let under_way = UnderWay { state: self, number, target, started: process::now() };
        let UnderWay { state, target, .. } = &under_way;
        let milliseconds = target.check.timeout.as_milliseconds();
        match timeout(milliseconds, target.probe()).await {
            Some(Ok(verdict)) => state.settle(target, &verdict),
            None => {
                let message = format!("timed out after {}", target.check.timeout);
                state.settle(target, &Verdict::Fail(message.into()));
            }
            Some(Err(ConnectionError::Exiting)) => {}
            Some(Err(error)) => state.report_trouble(&error),
        }
    }

    /// Has the dispatcher look what is due.
    fn wake(&self) {
        self.wakes_at.set(0);
        let waker = self.waker.borrow_mut().take();
        // Last, and with nothing borrowed: the dispatcher runs at once.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether no newer configuration was taken into use: the checks are for its worker 0 then.
    fn is_current(&self) -> bool {
        self.slot.configuration() == self.root.configuration()
    }

    fn settle(&self, target: &Target, verdict: &Verdict) {
        if !self.is_current() {
            return;
        }
        let failure = match verdict {
            Verdict::Pass => None,
            Verdict::Unstable(reason) | Verdict::Fail(reason) => Some(reason.as_ref()),
        };
        let thresholds = Thresholds { fails: target.check.fails, passes: target.check.passes };
        let (now, seconds) = (process::now(), process::seconds());
        let observation = target.cluster.observe(target.server, failure, thresholds, now, seconds);
        if observation.changes_use {
            self.refresh(target.cluster);
        }
        self.root.set_checked_at(seconds);
        self.root.checker_beat(now);
        target.report(&observation, failure);
    }

    fn report_trouble(&self, error: &ConnectionError) {
        let now = process::now();
        if self.reported_at.get().is_none_or(|at| now.saturating_sub(at) >= REPORTS_APART) {
            self.reported_at.set(Some(now));
            log::write(
                NGX_LOG_WARN,
                format_args!("{error} in this worker: checks cannot be made and give no verdict"),
            );
        }
    }
}

impl Target {
    /// One check.
    async fn probe(&self) -> Result<Verdict, ConnectionError> {
        match self.exchange().await {
            Err(ConnectionError::Peer(error)) => Ok(Verdict::Fail(reason(&error).into())),
            result => result,
        }
    }

    async fn exchange(&self) -> Result<Verdict, ConnectionError> {
        let mut connection = Connection::connect(&self.address, self.server.name()).await?;
        let Some(mut probe) = Probe::new(self.check) else {
            return Err(ConnectionError::Local("no such check"));
        };
        let mut step = probe.connected();
        loop {
            step = match step {
                Step::Send(bytes) => {
                    connection.send(&bytes).await?;
                    Step::Receive
                }
                Step::Receive => connection.receive(|bytes| probe.feed(bytes)).await?,
                Step::StartTls(_) => return Err(ConnectionError::Local("no TLS")),
                Step::Done(verdict) | Step::Farewell(_, verdict) => return Ok(verdict),
            }
        }
    }

    fn report(&self, observation: &Observation, failure: Option<&str>) {
        let name = self.cluster.name();
        match observation.server {
            // Before its first check a server is used as if it had passed.
            None | Some((State::Unchecked, State::Ok)) => {}
            Some((from, to)) => log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\", server \"{}\": from {} to {}: {}",
                    self.server.name(),
                    from.as_str(),
                    to.as_str(),
                    failure.unwrap_or("check passed"),
                ),
            ),
        }
        announce(self.cluster);
        if observation.reinstated {
            log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": no working server is left, those out of use for failed \
                     requests are used again"
                ),
            );
        }
    }
}

/// Logs what is kept in use although it fails its checks, where that has changed.
fn announce(cluster: &Cluster) {
    let Some(kept) = cluster.announce() else { return };
    let name = cluster.name();
    let what = match kept {
        Kept::NotNeeded => {
            return log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": a server works again, those that fail their checks are \
                     out of use"
                ),
            )
        }
        Kept::All => "all stay in use as unstable".to_owned(),
        Kept::One(server) => format!("server \"{}\" stays in use as unstable", server.name()),
        Kept::None => "none is used".to_owned(),
    };
    log::write(
        NGX_LOG_NOTICE,
        format_args!("cluster \"{name}\": every server has failed its checks, {what}"),
    );
}

/// An error of the operating system in a few words: "connection refused".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
