//! Clusters whose servers nginx has: those that nginx balances, of which checkups checks the servers, and
//! takes those out of use that fail; and those for which it looks names up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use ngx::ffi::NGX_LOG_WARN;
use thiserror::Error;

use super::configuration::Configuration;
use super::entry::Entry;
use super::plan::Listed;
use super::{names, worker};
use crate::logic::settings::Protected;
use crate::nginx::{log, process};
use crate::shm::cluster::{Cluster, Standing};
use crate::shm::statistics::Traffic;
use crate::shm::zone::Root;

/// The servers of an upstream, as nginx has them.
///
/// Where servers come and go nginx has a lock over them, which a worker that was killed may hold for
/// ever. What needs it gives up after a moment.
pub trait Peers {
    /// A number that changes with every server that comes or goes. `None`: none ever does.
    fn version(&self) -> Option<usize>;

    /// The servers that there are, level by level.
    ///
    /// # Errors
    /// Where the lock cannot be had.
    fn levels(&self) -> Result<Listed, Busy>;

    /// How nginx uses the servers, by their socket addresses.
    ///
    /// # Errors
    /// Where the lock cannot be had.
    fn loads(&self) -> Result<HashMap<Vec<u8>, Load>, Busy>;

    /// Whether a server that the operator has in use would be left in use: one for whose address the
    /// rule says that it is not to be out, or says nothing while it is not.
    ///
    /// # Errors
    /// Where the lock cannot be had.
    fn is_any_left(&self, is_out: Rule<'_>) -> Result<bool, Busy>;

    /// Takes the servers out of use for whose address the rule says so, and back into use where it says
    /// no. Where it says nothing, they stay as they are.
    ///
    /// Of all processes that nginx shares the servers with, one at a time is here.
    ///
    /// # Errors
    /// Where the lock cannot be had; some servers may follow the rule then, and others not.
    fn put(&self, is_out: Rule<'_>) -> Result<(), Busy>;
}

/// How nginx uses a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Requests at work on it; where the upstream has no `zone`, those of this worker.
    pub connections: u32,
    /// Whether failed requests have it out of use.
    pub is_failed: bool,
}

/// Whether the server of a socket address is to be out of use.
pub type Rule<'a> = &'a dyn Fn(&[u8]) -> Option<bool>;

/// Somebody else has nginx's lock.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("nginx's lock is taken")]
pub struct Busy;

/// What is known of the servers that nginx has.
pub struct Watch {
    peers: Box<dyn Peers>,
    /// What was last put into effect by this worker: see [`Cluster::changes`] and [`Peers::version`].
    applied: Cell<Option<(u64, Option<usize>)>>,
    /// The version of the servers that the records are of.
    listed: Cell<Option<usize>>,
    /// Whether it was reported that the records do not follow.
    reported: Cell<bool>,
    /// The servers of a generation, which has this number, by their addresses as text.
    by_name: RefCell<(u64, HashMap<Vec<u8>, usize>)>,
}

/// One try on a server that nginx has selected.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// What it came to.
    pub traffic: Traffic,
    /// For how long it took, in milliseconds.
    pub milliseconds: u64,
    /// Whether it failed.
    pub has_failed: bool,
}

impl Watch {
    /// Of these servers nothing is known yet.
    pub fn new(peers: Box<dyn Peers>) -> Self {
        Self {
            peers,
            applied: Cell::default(),
            listed: Cell::default(),
            reported: Cell::default(),
            by_name: RefCell::default(),
        }
    }

    /// The servers that there are. `None`: those of the settings, as none ever comes or goes, or as
    /// they cannot be had at the moment.
    pub fn levels(&self) -> Option<Listed> {
        self.is_changing().then(|| self.peers.levels().ok()).flatten()
    }

    /// How nginx uses the servers, by their socket addresses, as far as that can be had at the moment.
    pub fn loads(&self) -> HashMap<Vec<u8>, Load> {
        self.peers.loads().unwrap_or_default()
    }

    /// Whether servers come and go.
    pub fn is_changing(&self) -> bool {
        self.peers.version().is_some()
    }
}

impl Entry {
    /// Has nginx's servers be in use as the checks say. To be called before nginx selects one.
    ///
    /// No timer is in the way: a verdict is in effect with the next request of each worker. While
    /// nothing changes that costs a look at one number.
    #[inline]
    pub fn follow_verdicts(&self) {
        let (Some(watch), Some(cluster)) = (&self.watch, self.records.get()) else { return };
        if watch.applied.get() != Some((cluster.changes(), watch.peers.version())) {
            // Where it fails, it is done before the next request.
            let _ = self.apply_verdicts(watch, cluster);
        }
    }

    /// Counts a try on a server that nginx has selected, by its address as text, when the request is
    /// over.
    pub fn count(&self, name: &[u8], ended: Try) {
        let Some(watch) = &self.watch else { return };
        self.with_generation(|generation, _| {
            let mut by_name = watch.by_name.borrow_mut();
            if by_name.0 != generation.version() {
                let peers = generation.peers().iter().enumerate().rev();
                let names = peers.map(|(index, it)| (it.server.name().as_bytes().to_vec(), index));
                *by_name = (generation.version(), names.collect());
            }
            // One that is not there any more is of no interest.
            let Some(peer) = by_name.1.get(name).and_then(|index| generation.peers().get(*index))
            else {
                return;
            };
            let statistics = peer.server.statistics();
            statistics.select(process::now().saturating_sub(ended.milliseconds));
            statistics.end(ended.traffic, ended.milliseconds);
            if ended.has_failed {
                statistics.fail();
            }
        });
    }

    #[cold]
    fn apply_verdicts(&self, watch: &Watch, cluster: &Cluster) -> Result<(), Busy> {
        let current = self.current();
        let awaits_pass = current.settings.checks.iter().any(|check| !check.mandatory.is_off());
        // A server that the records do not have is one that nginx has just found, or, where this worker
        // is being replaced, one that the new configuration does not have.
        let unknown = (awaits_pass && worker::is_current()).then_some(true);
        cluster.consult(|standings| {
            let now = (cluster.changes(), watch.peers.version());
            let strict = |address: &[u8]| match standings.get(address) {
                Some(standing) => Some(*standing != Standing::Used),
                None => unknown,
            };
            // The records are judged by the servers that they are of. Where nginx has others by now,
            // those that fail may be all that is left.
            let lenient = |address: &[u8]| match standings.get(address) {
                Some(standing) => Some(*standing == Standing::Awaited),
                None => unknown,
            };
            let is_off = current.settings.protected == Protected::Off;
            if is_off || watch.peers.is_any_left(&strict)? {
                watch.peers.put(&strict)?;
            } else {
                watch.peers.put(&lenient)?;
            }
            watch.applied.set(Some(now));
            Ok(())
        })
    }

    /// Has the records be of the servers that nginx has. To be called in worker 0, again and again.
    pub fn follow_servers(&self, configuration: &Configuration) {
        let Some(watch) = self.of_nginx() else { return };
        let version = watch.peers.version();
        if version == watch.listed.get() || !worker::is_current() {
            return;
        }
        let Ok(listed) = watch.peers.levels() else { return };
        // Where somebody else changes settings, it is done the next time.
        let Some(_writing) = configuration.root().and_then(Root::try_write) else { return };
        let current = self.whole();
        if current.is_deleted {
            return;
        }
        match names::update(configuration, self, &current.settings, &listed) {
            Ok(()) => {
                watch.listed.set(version);
                watch.reported.set(false);
                self.follow_verdicts();
            }
            Err(full) if !watch.reported.replace(true) => log::write(
                NGX_LOG_WARN,
                format_args!(
                    "cluster \"{}\": {full}, servers that nginx has found are not checked, a larger \
                     size is wanted in checkups_zone",
                    self.name()
                ),
            ),
            Err(_) => {}
        }
    }
}
