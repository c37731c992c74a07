//! The loop of the checks. It runs in worker 0 only.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ngx::ffi::{NGX_LOG_NOTICE, NGX_LOG_WARN};

use super::configuration::Configuration;
use super::entry::{Current, Entry};
use super::plan;
use super::room::{Place, Room};
use super::target::{Consumer, Kinds, Target, Wanted};
use super::watched::Watch;
use crate::logic::health::Finding;
use crate::logic::probe::redis::RedisDetails;
use crate::logic::probe::Verdict;
use crate::logic::schedule::Schedule;
use crate::logic::status::State;
use crate::nginx::connection::ConnectionError;
use crate::nginx::task::{sleep, spawn, timeout, Task};
use crate::nginx::{log, process};
use crate::shm::cluster::{Cluster, Observation};
use crate::shm::generation::Generation;
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

/// Checks are begun at multiples of so many milliseconds: several at once cost less than each for itself,
/// as the worker need not wake up for each. Few enough that no request notices.
const TICK: u64 = 4;

/// How late a timer may be, in milliseconds. Where one is later, this worker was held up: what the
/// checks found meanwhile is not known to be the servers' fault.
const LATE: u64 = 100;

/// For how long a check that timed out is still heard, in milliseconds: for a turn of nginx's loop.
const TO_READ: u64 = 1;

/// How often in a row the result of a check may be thrown away for that.
const MOST_VOIDED: u32 = 2;

/// The running checks.
pub struct Checker {
    dispatcher: RefCell<Option<Task>>,
    state: Rc<Loop>,
}

struct Loop {
    root: &'static Root,
    slot: &'static Slot,
    configuration: &'static Configuration,
    /// The clusters that nginx balances, by their records.
    watched: HashMap<*const Cluster, Rc<Entry>>,
    /// What is checked, by numbers that are not used again.
    targets: RefCell<HashMap<u64, Rc<Target>>>,
    /// The different checks that there are.
    kinds: RefCell<Kinds>,
    next_number: Cell<u64>,
    /// The versions of the clusters that the targets are from.
    versions: RefCell<Vec<(*const Cluster, u64)>>,
    /// The versions of the settings that they are by.
    settings: RefCell<HashMap<*const Cluster, u64>>,
    /// The checks that are not under way: when they are due, and whose. Those of targets that are
    /// gone are skipped.
    queue: RefCell<BinaryHeap<Reverse<(u64, u64)>>>,
    /// The checks that are under way, by target.
    running: RefCell<HashMap<u64, Task>>,
    room: Rc<Room>,
    /// When the checks that are under way time out, and whose they are.
    deadlines: RefCell<BTreeSet<(u64, u64)>>,
    /// Until when the dispatcher sleeps.
    wakes_at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// The last turn of nginx's loop in which a timer was looked at: its time, and by how much the
    /// latest of them was late, in milliseconds.
    lateness: Cell<(u64, u64)>,
    /// When it was reported that checks give no verdict for local trouble.
    reported_at: Cell<Option<u64>>,
}

/// A check that is under way. However it ends, the next one is queued.
struct UnderWay {
    state: Rc<Loop>,
    number: u64,
    target: Rc<Target>,
    started: u64,
    place: Option<Place>,
}

impl UnderWay {
    fn deadline(&self) -> (u64, u64) {
        (self.started + self.target.check.timeout.as_milliseconds(), self.number)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let due = self.target.next(self.started, process::random());
        let state = &self.state;
        let was_full = state.room.is_full();
        self.place.take();
        state.deadlines.borrow_mut().remove(&self.deadline());
        state.queue.borrow_mut().push(Reverse((due, self.number)));
        if was_full || due < state.wakes_at.get() {
            state.wake();
        }
    }
}

impl Checker {
    /// Starts the checks of a configuration.
    pub fn start(
        root: &'static Root,
        slot: &'static Slot,
        configuration: &'static Configuration,
    ) -> Self {
        let watched = configuration.clusters().iter().filter(|entry| entry.watch.is_some());
        let state = Rc::new(Loop {
            root,
            slot,
            configuration,
            watched: watched
                .filter_map(|entry| Some((entry.records.get()? as _, Rc::clone(entry))))
                .collect(),
            targets: RefCell::default(),
            kinds: RefCell::default(),
            next_number: Cell::new(0),
            versions: RefCell::default(),
            settings: RefCell::default(),
            queue: RefCell::default(),
            running: RefCell::default(),
            room: Room::new((process::connections() / CONNECTIONS_SHARE).max(1)),
            deadlines: RefCell::default(),
            wakes_at: Cell::new(0),
            waker: RefCell::new(None),
            lateness: Cell::default(),
            reported_at: Cell::new(None),
        });
        // A worker that died may have stored a verdict, and not seen to the rotation.
        for cluster in configuration.all().iter().filter_map(|entry| entry.records.get()) {
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

/// A cluster and the version of its servers; 0: it has none.
fn version(entry: &Rc<Entry>) -> Option<(*const Cluster, u64)> {
    let records = entry.records.get()?;
    Some((ptr::from_ref(records), records.lock().generation().map_or(0, Generation::version)))
}

impl Loop {
    /// See [`Checker::follow`].
    fn follow(&self) {
        let clusters = self.configuration.all();
        let mut versions: Vec<_> = clusters.iter().filter_map(version).collect();
        versions.sort_unstable();
        if *self.versions.borrow() == versions {
            return;
        }
        let current: Vec<_> = clusters.iter().map(|entry| entry.whole()).collect();
        let by_cluster = clusters.iter().zip(&current).filter_map(|(entry, current)| {
            Some((ptr::from_ref(entry.records.get()?), current.settings.version))
        });
        self.settings.replace(by_cluster.collect());
        // While the slab is held no record is freed, and those that are found here are pinned.
        let wanted = self.configuration.with_slab(|_| {
            let mut kinds = self.kinds.borrow_mut();
            let entries = clusters.iter().zip(&current);
            entries.flat_map(|(entry, its)| wanted(entry, its, self.slot, &mut kinds)).collect()
        });
        let Some(wanted) = wanted else { return };
        *self.versions.borrow_mut() = versions;
        for (entry, current) in clusters.iter().zip(&current) {
            let Some(cluster) = entry.records.get() else { continue };
            if cluster.align(&current.check_keys()) {
                self.refresh(cluster);
            }
            cluster.follow_use(process::now());
            announce(cluster);
        }
        self.take(wanted);
        self.wake();
    }

    /// Checks what is wanted, and nothing else.
    fn take(&self, wanted: Vec<Wanted>) {
        let mut targets = self.targets.borrow_mut();
        let known: HashMap<_, _> =
            targets.iter().map(|(number, target)| (target.key.clone(), *number)).collect();
        let mut consumers: HashMap<u64, Vec<Consumer>> = HashMap::new();
        let mut new: Vec<(Wanted, Vec<Consumer>)> = Vec::new();
        let mut places = HashMap::new();
        for mut wanted in wanted {
            let Some(consumer) = wanted.consumer.take() else { continue };
            match known.get(&wanted.key) {
                Some(number) => consumers.entry(*number).or_default().push(consumer),
                None => {
                    let place = *places.entry(wanted.key.clone()).or_insert_with(|| {
                        new.push((wanted, Vec::new()));
                        new.len() - 1
                    });
                    new[place].1.push(consumer);
                }
            }
        }
        targets.retain(|number, target| match consumers.remove(number) {
            Some(consumers) => {
                target.consumers.replace(consumers);
                true
            }
            None => false,
        });

        let (now, count) = (process::now(), new.len());
        for (index, (wanted, consumers)) in new.into_iter().enumerate() {
            let (schedule, due) = Schedule::start(
                now,
                index,
                count,
                wanted.check.interval.as_milliseconds(),
                wanted.check.jitter.as_milliseconds(),
            );
            let number = self.next_number.get();
            self.next_number.set(number + 1);
            targets.insert(number, Rc::new(Target::new(wanted, consumers, schedule)));
            self.queue.borrow_mut().push(Reverse((due, number)));
        }
    }

    /// Has the rotation of a cluster follow the verdicts, or else the servers that nginx has.
    fn refresh(&self, cluster: &Cluster) {
        if let Some(entry) = self.watched.get(&ptr::from_ref(cluster)) {
            return entry.follow_verdicts();
        }
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
            self.lateness(now);
            let next = self.queue.borrow().peek().map(|Reverse((due, _))| *due);
            let room = !self.room.is_full();
            match next {
                Some(due) if due <= now && room => {
                    let popped = self.queue.borrow_mut().pop();
                    if let Some(Reverse((_, number))) = popped {
                        self.begin(number);
                    }
                }
                Some(due) if room => self.wait_until(due.next_multiple_of(TICK)).await,
                _ => self.wait_until(now + IDLE).await,
            }
        }
        // The worker may have requests for hours yet: it keeps neither connections nor records.
        let targets = self.targets.take();
        targets.values().for_each(|target| target.hang_up());
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
        let place = self.room.begin();
        // The task may be over when `spawn` returns; its handle is then replaced by the next.
        let task = spawn(self.clone().check(number, target, place));
        self.running.borrow_mut().insert(number, task);
    }

    async fn check(self: Rc<Self>, number: u64, target: Rc<Target>, place: Place) {
        let (started, place) = (process::now(), Some(place));
        let under_way = UnderWay { state: self, number, target, started, place };
        let UnderWay { state, target, .. } = &under_way;
        state.deadlines.borrow_mut().insert(under_way.deadline());
        let milliseconds = target.check.timeout.as_milliseconds();
        let mut asking = pin!(target.ask(&state.room));
        let mut answer = timeout(milliseconds, asking.as_mut()).await;
        let late = state.lateness(process::now());
        if answer.is_none() {
            // Where this worker was stopped, its timers are due before it reads what has come in time.
            answer = timeout(TO_READ, asking).await;
        }
        match answer {
            Some(Ok((verdict, details))) => {
                state.conclude(&under_way, &verdict, details.as_ref(), late);
            }
            None => {
                let message = format!("timed out after {}", target.check.timeout);
                state.conclude(&under_way, &Verdict::Fail(message.into()), None, late);
            }
            Some(Err(ConnectionError::Exiting)) => {}
            Some(Err(error)) => state.report_trouble(format_args!(
                "{error} in this worker: checks cannot be made and give no verdict"
            )),
        }
    }

    /// Takes in what a check found, unless it is not known to be the server's fault: where a timer was
    /// `late` by so many milliseconds when it ended.
    fn conclude(
        &self,
        UnderWay { number, target, .. }: &UnderWay,
        verdict: &Verdict,
        details: Option<&RedisDetails>,
        late: u64,
    ) {
        if !self.is_current() {
            return;
        }
        if self.has_changed(target) {
            // The check may be one that was removed meanwhile.
            self.follow();
            if !self.targets.borrow().contains_key(number) {
                return;
            }
        }
        let voided = target.voided.get();
        if *verdict != Verdict::Pass && late > LATE && voided < MOST_VOIDED {
            target.voided.set(voided + 1);
            return self.report_trouble(format_args!(
                "this worker was held up for {late}ms: what failed meanwhile gives no verdict"
            ));
        }
        target.voided.set(0);
        self.settle(target, verdict, details);
    }

    /// By how much the timer is late that is due first, in milliseconds, or another one was that has
    /// been due in this turn of nginx's loop: what they kept waiting is over by now, but not what came
    /// of it.
    fn lateness(&self, now: u64) -> u64 {
        let deadline = self.deadlines.borrow().first().map(|(deadline, _)| *deadline);
        let wakes_at = Some(self.wakes_at.get()).filter(|&at| at != 0);
        let first = deadline.into_iter().chain(wakes_at).min();
        let late = first.map_or(0, |first| now.saturating_sub(first));
        let late = match self.lateness.get() {
            (turn, before) if turn == now => late.max(before),
            _ => late,
        };
        self.lateness.set((now, late));
        late
    }

    /// Whether the settings of a cluster that wants to know of the target are others by now.
    fn has_changed(&self, target: &Target) -> bool {
        let settings = self.settings.borrow();
        target.consumers.borrow().iter().any(|consumer| {
            let known = settings.get(&ptr::from_ref(consumer.cluster));
            known.is_some_and(|known| *known != consumer.cluster.settings())
        })
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

    fn settle(&self, target: &Target, verdict: &Verdict, details: Option<&RedisDetails>) {
        let (finding, reason) = match verdict {
            Verdict::Pass => (Finding::Pass, ""),
            Verdict::Unstable(reason) => (Finding::Unstable, reason.as_ref()),
            Verdict::Fail(reason) => (Finding::Fail, reason.as_ref()),
        };
        let (now, seconds) = (process::now(), process::seconds());
        let shown = target.shown_details(finding, details);
        for consumer in target.consumers.borrow().iter() {
            let reason = consumer.told(reason);
            let observation = consumer.cluster.observe(
                consumer.server,
                (consumer.check, consumer.thresholds),
                (finding, &reason),
                now,
                seconds,
            );
            if let Some(text) = &shown {
                // What does not fit is shown the next time.
                let _ = self
                    .configuration
                    .with_slab(|slab| consumer.cluster.set_details(slab, consumer.server, text));
            }
            if observation.changes_use {
                self.refresh(consumer.cluster);
            }
            report(consumer, &observation, &reason);
        }
        self.root.set_checked_at(seconds);
        self.root.checker_beat(now);
    }

    /// Logs that checks give no verdict; not again and again.
    fn report_trouble(&self, trouble: std::fmt::Arguments<'_>) {
        let now = process::now();
        if self.reported_at.get().is_none_or(|at| now.saturating_sub(at) >= REPORTS_APART) {
            self.reported_at.set(Some(now));
            log::write(NGX_LOG_WARN, trouble);
        }
    }
}

/// What is to be asked of the servers of a cluster, one for each address and check. The records are
/// pinned; the caller holds the slab.
fn wanted(entry: &Entry, current: &Current, slot: &'static Slot, kinds: &mut Kinds) -> Vec<Wanted> {
    let Some(cluster) = entry.records.get() else { return Vec::new() };
    let checks = &current.settings.checks;
    let (found, levels) = (entry.of_nginx().and_then(Watch::levels), &current.settings.levels);
    let different: HashMap<_, _> = found
        .as_ref()
        .map_or(levels, |(levels, _)| levels)
        .iter()
        .flat_map(|level| &level.servers)
        .map(|server| (plan::known_as(server), &server.check))
        .collect();
    let mut seen = HashSet::new();
    let guard = cluster.lock();
    let servers = guard
        .generation()
        .into_iter()
        .flat_map(|generation| generation.peers_to_check())
        .filter(|peer| seen.insert(peer.server.address()));
    let mut found = Vec::new();
    for peer in servers {
        let server = peer.server;
        let known_as = Some(peer.found_by()).filter(|name| !name.is_empty());
        let known_as = known_as.unwrap_or_else(|| server.name());
        for (index, (check, tls)) in checks.iter().zip(&current.tls).enumerate() {
            let check = match different.get(known_as) {
                Some(different) => check.of_server(different),
                None => check.clone(),
            };
            let consumer = Consumer::new(slot, cluster, server, index, &check, checks.len() > 1);
            found.push(Wanted::new(check, *tls, consumer, kinds));
        }
    }
    found
}

fn report(consumer: &Consumer, observation: &Observation, reason: &str) {
    let name = consumer.cluster.name();
    match observation.server {
        // Before its first check a server is used as if it had passed.
        None | Some((State::Unchecked, State::Ok)) => {}
        Some((from, to)) => log::write(
            NGX_LOG_NOTICE,
            format_args!(
                "cluster \"{name}\", server \"{}\": from {} to {}: {}",
                consumer.server.name(),
                from.as_str(),
                to.as_str(),
                if reason.is_empty() { "check passed" } else { reason },
            ),
        ),
    }
    announce(consumer.cluster);
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
        Kept::Unstable => "those that work, if not wholly, stay in use as unstable".to_owned(),
        Kept::Awaited => {
            return log::write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": no server has passed its first check, none is used"
                ),
            )
        }
    };
    log::write(
        NGX_LOG_NOTICE,
        format_args!("cluster \"{name}\": every server has failed its checks, {what}"),
    );
}
