//! What a worker does on its own account, apart from requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ngx::ffi::{NGX_LOG_ALERT, NGX_LOG_WARN};

use super::checker::Checker;
use super::configuration::Configuration;
use crate::nginx::task::{sleep, spawn, Task};
use crate::nginx::{log, process};
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
    checker: Option<Rc<Checker>>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// The root of the zone, and the slot of this worker in it.
    static PLACE: Cell<Option<(&'static Root, &'static Slot)>> = const { Cell::new(None) };
}

/// The root of the zone, and the slot of this worker in it. `None` before [`start`].
#[inline]
pub fn place() -> Option<(&'static Root, &'static Slot)> {
    PLACE.get()
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
    PLACE.set(Some((root, slot)));
    for entry in configuration.clusters() {
        entry.records.set(root.cluster(&entry.settings.name));
    }

    let checker =
        process::runs_checks().then(|| Rc::new(Checker::start(root, slot, configuration)));
    let heartbeat = spawn(beat(configuration, root, slot, checker.clone()));
    let worker = Worker { configuration, _heartbeat: heartbeat, checker };
    WORKER.with_borrow_mut(|running| *running = Some(worker));
}

/// Gives signs of life, and sees to what has to be seen to now and then.
async fn beat(
    configuration: &'static Configuration,
    root: &'static Root,
    slot: &'static Slot,
    checker: Option<Rc<Checker>>,
) {
    let mut room = Room::default();
    loop {
        slot.beat(process::now());
        if let Some(checker) = checker.as_ref().filter(|_| !process::is_exiting()) {
            root.checker_beat(process::now());
            configuration.with_slab(|slab| {
                root.reap();
                root.sweep(slab);
            });
            configuration.clusters().iter().for_each(|entry| entry.follow_servers(configuration));
            checker.follow();
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
    if let Some(checker) = &worker.checker {
        checker.stop();
    }
    let configuration = worker.configuration;
    drop(worker);
    if let Some((root, slot)) = PLACE.take() {
        configuration.with_slab(|_| root.release_slot(slot));
    }
    #[cfg(ngx_feature = "ssl")]
    super::session::free_all();
}
