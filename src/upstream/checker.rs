//! The loop of the checks. It runs in worker 0 only.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
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
use crate::shm::server::Server;
use crate::shm::zone::Root;

/// The share of the worker's connections that checks may take: one in so many.
const CONNECTIONS_SHARE: usize = 2;

/// How long the loop sleeps where nothing is due, in milliseconds.
const IDLE: u64 = 60_000;

/// The running checks. Dropping it ends them; what was under way gives no verdict.
pub struct Checker {
    _dispatcher: Task,
    state: Rc<Loop>,
}

struct Loop {
    root: &'static Root,
    targets: Vec<Target>,
    /// The checks that are not under way: when they are due, and whose.
    queue: RefCell<BinaryHeap<Reverse<(u64, usize)>>>,
    /// The checks that are under way, by target.
    running: RefCell<Vec<Option<Task>>>,
    in_flight: Cell<usize>,
    most_in_flight: usize,
    /// Until when the dispatcher sleeps.
    wakes_at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// Whether the last check that could not be made for local trouble was reported.
    in_trouble: Cell<bool>,
}

/// One server that is checked.
struct Target {
    cluster: &'static Cluster,
    server: &'static Server,
    check: &'static Check,
    /// Where its port is not the server's own.
    address: Vec<u8>,
    schedule: RefCell<Schedule>,
}

impl Checker {
    /// Starts the checks of a configuration.
    pub fn start(root: &'static Root, configuration: &'static Configuration) -> Self {
        let found: Vec<_> = configuration.clusters().iter().flat_map(checked_servers).collect();
        let now = process::now();
        let mut queue = BinaryHeap::with_capacity(found.len());
        let mut targets = Vec::with_capacity(found.len());
        let count = found.len();
        for (index, (cluster, server, check)) in found.into_iter().enumerate() {
            let (schedule, due) = Schedule::start(
                now,
                index,
                count,
                check.interval.as_milliseconds(),
                check.jitter.as_milliseconds(),
            );
            queue.push(Reverse((due, index)));
            let mut address = server.address().to_vec();
            if let Some(port) = check.port {
                set_port(&mut address, port);
            }
            targets.push(Target {
                cluster,
                server,
                check,
                address,
                schedule: RefCell::new(schedule),
            });
        }
        let state = Rc::new(Loop {
            root,
            targets,
            queue: RefCell::new(queue),
            running: RefCell::new((0..count).map(|_| None).collect()),
            in_flight: Cell::new(0),
            most_in_flight: (process::connections() / CONNECTIONS_SHARE).max(1),
            wakes_at: Cell::new(0),
            waker: RefCell::new(None),
            in_trouble: Cell::new(false),
        });
        Self { _dispatcher: spawn(state.clone().dispatch()), state }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        // Each task refers to the loop, which holds the tasks.
        self.state.running.take();
    }
}

/// The servers of a cluster that are checked, each once, with the check.
fn checked_servers(entry: &Entry) -> Vec<(&'static Cluster, &'static Server, &'static Check)> {
    let (Some(cluster), Some(check)) = (entry.records.get(), entry.settings.checks.first()) else {
        return Vec::new();
    };
    // SAFETY: the configuration of a worker lives as long as the worker.
    let check: &'static Check = unsafe { &*ptr::from_ref(check) };
    let guard = cluster.lock();
    let mut seen = HashSet::new();
    guard
        .generation()
        .into_iter()
        .flat_map(|generation| generation.servers_in_use())
        .filter(|server| seen.insert(ptr::from_ref(*server)))
        .map(|server| (cluster, server, check))
        .collect()
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
    /// Starts each check when it is due.
    async fn dispatch(self: Rc<Self>) {
        while !process::is_exiting() {
            let now = process::now();
            let next = self.queue.borrow().peek().map(|Reverse((due, _))| *due);
            let room = self.in_flight.get() < self.most_in_flight;
            match next {
                Some(due) if due <= now && room => {
                    let popped = self.queue.borrow_mut().pop();
                    if let Some(Reverse((_, index))) = popped {
                        self.begin(index);
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

    fn begin(self: &Rc<Self>, index: usize) {
        self.in_flight.set(self.in_flight.get() + 1);
        // The task may be over when `spawn` returns; its handle is then replaced by the next.
        let task = spawn(self.clone().check(index));
        self.running.borrow_mut()[index] = Some(task);
    }

    async fn check(self: Rc<Self>, index: usize) {
        let target = &self.targets[index];
        let started = process::now();
        let milliseconds = target.check.timeout.as_milliseconds();
        match timeout(milliseconds, target.probe()).await {
            Some(Ok(verdict)) => self.settle(target, &verdict),
            None => {
                let message = format!("timed out after {}", target.check.timeout);
                self.settle(target, &Verdict::Fail(message.into()));
            }
            Some(Err(ConnectionError::Exiting)) => return,
            Some(Err(error)) => self.report_trouble(&error),
        }
        self.end(index, started);
    }

    /// Queues the next check of a target whose check ended.
    fn end(&self, index: usize, started: u64) {
        let due = self.targets[index].schedule.borrow_mut().next(started, process::random());
        let was_full = self.in_flight.get() >= self.most_in_flight;
        self.in_flight.set(self.in_flight.get() - 1);
        self.queue.borrow_mut().push(Reverse((due, index)));
        if was_full || due < self.wakes_at.get() {
            self.wakes_at.set(0);
            let waker = self.waker.borrow_mut().take();
            // Last, and with nothing borrowed: the dispatcher runs at once.
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn settle(&self, target: &Target, verdict: &Verdict) {
        self.in_trouble.set(false);
        let failure = match verdict {
            Verdict::Pass => None,
            Verdict::Fail(reason) => Some(reason.as_ref()),
        };
        let thresholds = Thresholds { fails: target.check.fails, passes: target.check.passes };
        let (now, seconds) = (process::now(), process::seconds());
        let observation = target.cluster.observe(target.server, failure, thresholds, now, seconds);
        self.root.set_checked_at(seconds);
        self.root.checker_beat(now);
        target.report(&observation, failure);
    }

    fn report_trouble(&self, error: &ConnectionError) {
        if !self.in_trouble.replace(true) {
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
        let mut probe = Probe::new(&self.check.probe);
        connection.send(probe.request()).await?;
        let mut step = probe.sent();
        loop {
            match step {
                Step::Done(verdict) => return Ok(verdict),
                Step::Receive => step = connection.receive(|bytes| probe.feed(bytes)).await?,
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
        match observation.all_failed {
            None => {}
            Some(true) => log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": every server has failed its checks, all stay in use as \
                     unstable"
                ),
            ),
            Some(false) => log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": a server works again, those that fail their checks are \
                     out of use"
                ),
            ),
        }
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
