//! Servers that are given by names: their addresses are looked up again and again, and come and go as
//! servers. In worker 0 only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ngx::ffi::{NGX_LOG_NOTICE, NGX_LOG_WARN};
use thiserror::Error;

use super::configuration::Configuration;
use super::entry::Entry;
use super::{plan, worker};
use crate::logic::settings::{self, Server};
use crate::nginx::log;
use crate::nginx::resolver::{Found, ResolveError};
use crate::nginx::task::{sleep, spawn, Task};
use crate::shm::generation::Plan;
use crate::shm::Full;

/// After how many seconds a name is looked up again that was not found.
const AGAIN: u64 = 5;

/// The longest time for which an answer is taken to hold, in seconds.
const LONGEST: u64 = 3600;

/// For how many milliseconds who has new addresses waits for the right to change servers, before it
/// looks again.
const LOOKS_APART: u64 = 5;

/// Why a name has no addresses.
#[derive(Debug, Error)]
pub enum NameError {
    /// There is nothing to look it up with.
    #[error("no \"resolver\" is configured in the http block")]
    NoResolver,
    /// It was not found.
    #[error(transparent)]
    NotFound(#[from] ResolveError),
    /// It was found without an address that can be used.
    #[error("it has no addresses")]
    Empty,
}

/// What was found for a name.
pub struct Addresses {
    /// The addresses with ports, in an order that depends on them only.
    pub texts: Vec<String>,
    /// For how many seconds that holds, at least 1.
    pub valid_for: u64,
}

/// Looks a server up that is a name. Of several priorities that a service has, the best one counts.
///
/// # Errors
/// Where there is no resolver, and where the name has no addresses.
pub async fn look_up(
    configuration: &'static Configuration,
    server: &Server,
) -> Result<Addresses, NameError> {
    let resolver = configuration.resolver.as_ref().ok_or(NameError::NoResolver)?;
    let (host, port) = match server.server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(0)),
        None => (server.server.as_str(), 0),
    };
    let resolved = resolver.resolve(host, server.service.as_deref(), port).await?;
    let priority = |found: &Found| found.service.as_ref().map_or(0, |service| service.priority);
    let best = resolved.addresses.iter().map(priority).min();
    let best = resolved.addresses.into_iter().filter(|found| Some(priority(found)) == best);
    let mut texts: Vec<_> = best.map(|found| found.text).collect();
    texts.sort();
    texts.dedup();
    if texts.is_empty() {
        return Err(NameError::Empty);
    }
    Ok(Addresses { texts, valid_for: resolved.valid_for.clamp(1, LONGEST) })
}

/// The name of a cluster, and a server of it that is a name.
type Key = (String, String, Option<String>);

/// The names that are looked up.
pub struct Names {
    configuration: &'static Configuration,
    tasks: RefCell<HashMap<Key, Task>>,
}

impl Names {
    /// Nothing is looked up yet.
    pub fn new(configuration: &'static Configuration) -> Self {
        Self { configuration, tasks: RefCell::default() }
    }

    /// Has those names looked up that the clusters have now, and no others.
    pub fn follow(&self) {
        let mut wanted: HashMap<Key, (Rc<Entry>, Server)> = HashMap::new();
        for entry in self.configuration.all() {
            let current = entry.whole();
            let servers = current.settings.levels.iter().flat_map(|level| &level.servers);
            for server in servers.filter(|server| server.resolve) {
                let key = (entry.name().into(), server.server.clone(), server.service.clone());
                wanted.insert(key, (Rc::clone(&entry), server.clone()));
            }
        }
        let mut gone = Vec::new();
        let mut tasks = self.tasks.borrow_mut();
        for key in
            tasks.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect::<Vec<_>>()
        {
            gone.extend(tasks.remove(&key));
        }
        wanted.retain(|key, _| !tasks.contains_key(key));
        drop(tasks);
        // Nothing is borrowed while tasks run or end.
        drop(gone);
        for (key, (entry, server)) in wanted {
            let task = spawn(keep_looking_up(self.configuration, entry, server));
            self.tasks.borrow_mut().insert(key, task);
        }
    }

    /// Ends all that is under way.
    pub fn stop(&self) {
        let tasks = self.tasks.take();
        drop(tasks);
    }
}

async fn keep_looking_up(configuration: &'static Configuration, entry: Rc<Entry>, server: Server) {
    let name = entry.name().to_owned();
    let (mut is_missing, mut is_full) = (false, false);
    while worker::is_current() {
        let wait = match look_up(configuration, &server).await {
            Ok(found) => {
                is_missing = false;
                match take_in(configuration, &entry, &server, &found.texts).await {
                    Ok(()) => is_full = false,
                    Err(full) if !std::mem::replace(&mut is_full, true) => log::write(
                        NGX_LOG_WARN,
                        format_args!(
                            "cluster \"{name}\": {full}, the new addresses of \"{}\" are not used, a \
                             larger size is wanted in checkups_zone",
                            server.server
                        ),
                    ),
                    Err(_) => {}
                }
                found.valid_for
            }
            Err(error) => {
                if !std::mem::replace(&mut is_missing, true) {
                    log::write(
                        NGX_LOG_WARN,
                        format_args!(
                            "cluster \"{name}\", server \"{}\": {error}, the last known addresses stay",
                            server.server
                        ),
                    );
                }
                AGAIN
            }
        };
        sleep(wait * 1000).await;
    }
}

/// Has the addresses of a name be these.
async fn take_in(
    configuration: &'static Configuration,
    entry: &Entry,
    server: &Server,
    texts: &[String],
) -> Result<(), Full> {
    loop {
        let Some(root) = configuration.root().filter(|_| worker::is_current()) else {
            return Ok(());
        };
        let Some(records) = entry.records.get() else { return Ok(()) };
        let mut before = plan::found_before(records.lock().generation(), server);
        before.sort();
        if before == texts {
            return Ok(());
        }
        let Some(_writing) = root.try_write() else {
            sleep(LOOKS_APART).await;
            continue;
        };
        let current = entry.whole();
        let is_same =
            |other: &Server| (&other.server, &other.service) == (&server.server, &server.service);
        let listed = plan::list(&current.settings, |other| {
            if is_same(other) {
                texts.to_vec()
            } else {
                plan::found_before(records.lock().generation(), other)
            }
        });
        update(configuration, entry, &current.settings, &listed)?;
        log::write(
            NGX_LOG_NOTICE,
            format_args!(
                "cluster \"{}\": \"{}\" has the addresses {}",
                entry.name(),
                server.server,
                texts.join(", ")
            ),
        );
        worker::follow();
        return Ok(());
    }
}

/// Has a cluster have other servers, by the settings that it has. The caller has the right to.
pub fn update(
    configuration: &Configuration,
    entry: &Entry,
    settings: &settings::Cluster,
    (levels, addresses): &plan::Listed,
) -> Result<(), Full> {
    let (Some(root), Some(records)) = (configuration.root(), entry.records.get()) else {
        return Ok(());
    };
    let configured = entry.configured.as_ref();
    let plan = Plan {
        base: configured.map_or(0, |configured| configured.fingerprint),
        is_born: configured.is_none(),
        ..plan::plan(settings, (levels, addresses))
    };
    configuration.with_slab(|slab| root.update(slab, records, &plan)).unwrap_or(Ok(()))
}
