//! What a worker does on its own account, apart from requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ngx::ffi::{NGX_LOG_ALERT, NGX_LOG_WARN};

use super::checker::Checker;
use super::configuration::Configuration;
use super::names::Names;
use super::writer;
use crate::nginx::task::{sleep, spawn, Task};
use crate::nginx::{log, process, thread};
use crate::shm::lock;
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// From one sign of life to the next, in milliseconds.
const HEARTBEAT: u64 = 1000;

/// For how long a process counts as alive after its last sign of life, in milliseconds.
pub const ALIVE: u64 = 3 * HEARTBEAT;

/// What runs in this worker.
struct Worker {
    configuration: &'static Configuration,
    _heartbeat: Task,
    of_zero: Option<Rc<OfZero>>,
}

/// What only worker 0 does.
struct OfZero {
    checker: Checker,
    names: Names,
    /// When it last followed the clusters, in monotonic milliseconds.
    followed_at: Cell<u64>,
}

/// For how long worker 0 does not follow the clusters again, in milliseconds: it may take a while, and
/// they may be changed again and again.
const FOLLOWS_APART: u64 = 100;

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// The root of the zone, and the slot of this worker in it.
    static PLACE: Cell<Option<(&'static Root, &'static Slot)>> = const { Cell::new(None) };
    static CONFIGURATION: Cell<Option<&'static Configuration>> = const { Cell::new(None) };
}

/// The root of the zone, and the slot of this worker in it. `None` before [`start`].
#[inline]
pub fn place() -> Option<(&'static Root, &'static Slot)> {
    PLACE.get()
}

/// The slot of this worker. `None` before [`start`].
pub fn slot() -> Option<&'static Slot> {
    PLACE.get().map(|(_, slot)| slot)
}

/// What this worker runs. `None` before [`start`].
pub fn configuration() -> Option<&'static Configuration> {
    CONFIGURATION.get()
}

/// Whether no newer configuration was taken into use than that of this worker.
pub fn is_current() -> bool {
    PLACE.get().is_some_and(|(root, slot)| root.configuration() == slot.configuration())
}

/// Follows the clusters at once where they have changed, if this is worker 0 and has not done so just
/// now; it does so every second anyway.
pub fn follow() {
    let of_zero = WORKER.with_borrow(|worker| worker.as_ref()?.of_zero.clone());
    if let Some(of_zero) = of_zero.filter(|_| !process::is_exiting()) {
        if process::now().saturating_sub(of_zero.followed_at.get()) >= FOLLOWS_APART {
            of_zero.follow();
        }
    }
}

impl OfZero {
    fn follow(&self) {
        self.followed_at.set(process::now());
        self.checker.follow();
        self.names.follow();
    }
}

/// Starts what a worker runs: to be called once in every worker, when it starts.
pub fn start(configuration: &'static Configuration) {
    let Some(root) = configuration.root() else { return };
    lock::set_own_id(process::id());
    // All workers are copies of the master, and would draw the same numbers.
    fastrand::seed(process::random());

    let (number, now) = (process::worker(), process::now());
    let claim = || root.claim_slot(lock::own_id(), number, configuration.number(), now);
    let slot = configuration
        .with_slab(|slab| {
            // The master saw to it that there are enough. But where the next reload comes before a
            // worker has got this far, its slot counts as free for those of that one, too.
            claim().or_else(|| root.reserve_slots(slab, 1).ok().and_then(|()| claim()))
        })
        .flatten();
    let slot = slot.unwrap_or_else(|| {
        log::write(NGX_LOG_ALERT, format_args!("no slot is left for this worker in the zone"));
        root.detached_slot()
    });
    root.start_worker(configuration.number(), process::workers());
    thread::start();
    PLACE.set(Some((root, slot)));
    CONFIGURATION.set(Some(configuration));
    for entry in configuration.clusters() {
        entry.records.set(root.cluster(entry.name()));
    }

    let of_zero = process::runs_checks().then(|| {
        let checker = Checker::start(root, slot, configuration);
        let names = Names::new(configuration);
        Rc::new(OfZero { checker, names, followed_at: Cell::default() })
    });
    let heartbeat = spawn(beat(configuration, root, slot, of_zero.clone()));
    let worker = Worker { configuration, _heartbeat: heartbeat, of_zero };
    WORKER.with_borrow_mut(|running| *running = Some(worker));
}

/// Gives signs of life, and sees to what has to be seen to now and then.
async fn beat(
    configuration: &'static Configuration,
    root: &'static Root,
    slot: &'static Slot,
    of_zero: Option<Rc<OfZero>>,
) {
    let mut room = Room::default();
    loop {
        slot.beat(process::now());
        configuration.forget_deleted();
        if let Some(of_zero) = of_zero.as_ref().filter(|_| !process::is_exiting()) {
            root.checker_beat(process::now());
            configuration.with_slab(|slab| {
                root.reap();
                root.sweep(slab);
            });
            configuration.clusters().iter().for_each(|entry| entry.follow_servers(configuration));
            of_zero.follow();
            room.look(configuration);
        }
        sleep(HEARTBEAT).await;
    }
}

/// Whether the zone has room to spare.
#[derive(Default)]
struct Room {
    /// Whether it was reported that it has little.
    reported: bool,
}

impl Room {
    /// A zone with less than one part in so many free is reported.
    const LITTLE: usize = 10;

    fn look(&mut self, configuration: &Configuration) {
        let Some(usage) = configuration.usage() else { return };
        let little = usage.free < usage.size / Self::LITTLE;
        if little && !self.reported {
            log::write(
                NGX_LOG_WARN,
                format_args!(
                    "zone \"{}\": {} of {} bytes are free, a larger size is wanted in checkups_zone",
                    usage.name, usage.free, usage.size
                ),
            );
        }
        self.reported = little;
    }
}

/// Ends what [`start`] started: to be called when the worker exits, before nginx looks for
/// connections that were left open.
pub fn stop() {
    let Some(worker) = WORKER.with_borrow_mut(Option::take) else { return };
    if let Some(of_zero) = &worker.of_zero {
        of_zero.checker.stop();
        of_zero.names.stop();
    }
    writer::stop();
    thread::stop();
    let configuration = worker.configuration;
    drop(worker);
    configuration.forget_all();
    if let Some((root, slot)) = PLACE.take() {
        configuration.with_slab(|_| root.release_slot(slot));
    }
    #[cfg(ngx_feature = "ssl")]
    super::session::free_all();
}
