//! What a worker does on its own account, apart from requests.

use std::cell::RefCell;

use ngx::ffi::NGX_LOG_ALERT;

use super::checker::Checker;
use super::configuration::Configuration;
use crate::nginx::task::{sleep, spawn, Task};
use crate::nginx::{log, process};
use crate::shm::lock;
use crate::shm::worker::Slot;

/// From one sign of life to the next, in milliseconds.
const HEARTBEAT: u64 = 1000;

/// For how long a process counts as alive after its last sign of life, in milliseconds.
pub const ALIVE: u64 = 3 * HEARTBEAT;

/// What runs in this worker.
struct Worker {
    slot: Option<&'static Slot>,
    _heartbeat: Task,
    _checker: Option<Checker>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// Starts what a worker runs: to be called once in every worker, when it starts.
pub fn start(configuration: &'static Configuration) {
    let Some(root) = configuration.root() else { return };
    lock::set_own_id(process::id());

    let slot = root.claim_slot(process::id(), process::worker(), process::now());
    if slot.is_none() {
        // Without a slot others cannot see that this worker uses what a reload removed.
        log::write(NGX_LOG_ALERT, format_args!("no slot is left for this worker in the zone"));
    }
    for entry in configuration.clusters() {
        entry.records.set(root.cluster(&entry.settings.name));
    }

    let heartbeat = spawn(async move {
        loop {
            if let Some(slot) = slot {
                slot.beat(process::now());
            }
            if process::runs_checks() && !process::is_exiting() {
                root.checker_beat(process::now());
                configuration.with_slab(|slab| root.sweep(slab));
            }
            sleep(HEARTBEAT).await;
        }
    });
    let checker = process::runs_checks().then(|| Checker::start(root, configuration));
    let worker = Worker { slot, _heartbeat: heartbeat, _checker: checker };
    WORKER.with_borrow_mut(|running| *running = Some(worker));
}

/// Ends what [`start`] started: to be called when the worker exits, before nginx looks for
/// connections that were left open.
pub fn stop() {
    let worker = WORKER.with_borrow_mut(Option::take);
    if let Some(slot) = worker.and_then(|worker| worker.slot) {
        slot.release();
    }
    #[cfg(ngx_feature = "ssl")]
    super::session::free_all();
}
