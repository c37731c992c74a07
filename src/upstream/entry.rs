//! A cluster as a worker knows it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ngx::ffi::NGX_LOG_WARN;

use super::configuration::Configuration;
use super::plan;
use super::rings::Rings;
use super::watched::{Peers, Watch};
use super::worker;
use crate::logic::change::Surroundings;
use crate::logic::settings;
use crate::logic::stored::{self, Stored, StoredError};
use crate::nginx::conf::Position;
use crate::nginx::log;
use crate::nginx::tls::Tls;
use crate::shm::cluster::Cluster;
use crate::shm::generation::Generation;
use crate::shm::worker::Slot;

/// A cluster of the configuration, or one that came to be at run time.
pub struct Entry {
    name: String,
    /// What the configuration says of it; `None`: it came to be at run time.
    pub configured: Option<Configured>,
    /// Its records in the zone; set in every worker.
    pub records: Cell<Option<&'static Cluster>>,
    /// The rings of this worker.
    pub rings: RefCell<Rings>,
    /// The servers that nginx has, where nginx balances.
    pub watch: Option<Watch>,
    /// The servers that nginx has, where it looks names up, and we balance.
    follows: Option<Watch>,
    /// What held when somebody last looked.
    current: RefCell<Option<Rc<Current>>>,
    /// The same with the servers.
    whole: RefCell<Option<Rc<Current>>>,
    /// The slot from which the records are held, where no configuration has them.
    holder: Option<&'static Slot>,
}

/// What the configuration says of a cluster.
pub struct Configured {
    /// What the operator set.
    pub settings: settings::Cluster,
    /// The socket addresses, level by level, as in the settings.
    pub addresses: plan::Addresses,
    /// What those of its checks need that use TLS, check by check.
    pub tls: Vec<Option<Tls>>,
    /// Where it is written.
    pub position: Position,
    /// See [`stored::fingerprint`].
    pub fingerprint: u64,
    /// Its number among the clusters of the configuration.
    pub number: usize,
}

/// What holds of a cluster.
pub struct Current {
    /// The settings. Names that are looked up stand there as names. Where the cluster was changed at run
    /// time, they have their levels only where the whole was asked for: see [`Entry::whole`].
    pub settings: settings::Cluster,
    /// What those of its checks need that use TLS, check by check.
    pub tls: Vec<Option<Tls>>,
    /// Whether it was changed at run time.
    pub is_changed: bool,
    /// Whether it was deleted at run time.
    pub is_deleted: bool,
}

/// What parses a line of what is kept.
type Parse = fn(&str, &str, &Surroundings<'_>) -> Result<(Stored, Vec<String>), StoredError>;

impl Configured {
    /// A cluster that is written at `position`.
    pub fn new(
        settings: settings::Cluster,
        addresses: plan::Addresses,
        tls: Vec<Option<Tls>>,
        position: Position,
    ) -> Self {
        let fingerprint = stored::fingerprint(&settings);
        Self { settings, addresses, tls, position, fingerprint, number: 0 }
    }
}

impl Entry {
    /// A cluster of the configuration.
    pub fn new(configured: Configured) -> Self {
        Self {
            name: configured.settings.name.clone(),
            configured: Some(configured),
            records: Cell::default(),
            rings: RefCell::default(),
            watch: None,
            follows: None,
            current: RefCell::default(),
            whole: RefCell::default(),
            holder: None,
        }
    }

    /// A cluster that came to be at run time. Its records are held from this slot. The caller holds the
    /// slab.
    pub fn born(records: &'static Cluster, slot: &'static Slot) -> Self {
        records.hold(slot);
        Self {
            name: records.name().to_owned(),
            configured: None,
            records: Cell::new(Some(records)),
            rings: RefCell::default(),
            watch: None,
            follows: None,
            current: RefCell::default(),
            whole: RefCell::default(),
            holder: Some(slot),
        }
    }

    /// The same, where nginx balances, with these servers.
    pub fn watched(mut self, peers: Box<dyn Peers>) -> Self {
        self.watch = Some(Watch::new(peers));
        self
    }

    /// The same, where nginx finds these servers while it runs.
    pub fn following(mut self, peers: Option<Box<dyn Peers>>) -> Self {
        self.follows = peers.map(Watch::new);
        self
    }

    /// The servers that nginx has, where they count.
    pub fn of_nginx(&self) -> Option<&Watch> {
        self.watch.as_ref().or(self.follows.as_ref())
    }

    /// Whether its servers are those that nginx finds while it runs.
    pub fn is_following(&self) -> bool {
        self.follows.is_some()
    }

    /// The name of the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds now, as far as requests need it: perhaps without the servers, which the zone has for
    /// them. While nothing changes that costs a look at one number.
    #[inline]
    pub fn current(&self) -> Rc<Current> {
        self.look(&self.current, stored::options_from_line)
    }

    /// The version of what holds now.
    pub fn version(&self) -> u64 {
        self.records.get().map_or(0, Cluster::settings)
    }

    /// What holds now, with all servers.
    pub fn whole(&self) -> Rc<Current> {
        self.look(&self.whole, stored::from_line)
    }

    #[inline]
    fn look(&self, known: &RefCell<Option<Rc<Current>>>, parse: Parse) -> Rc<Current> {
        let version = self.version();
        match &*known.borrow() {
            Some(current) if current.settings.version == version => return Rc::clone(current),
            _ => {}
        }
        let current = Rc::new(self.read(version, parse));
        known.replace(Some(Rc::clone(&current)));
        current
    }

    #[cold]
    fn read(&self, version: u64, parse: Parse) -> Current {
        let found = self.with_generation(|generation, configuration| {
            let mut current = self
                .of(generation, configuration, parse)
                .unwrap_or_else(|| self.as_configured(generation.settings()));
            plan::number(&mut current.settings.levels, generation);
            current
        });
        found.unwrap_or_else(|| self.as_configured(version))
    }

    /// Gives the generation in use to `body`. `None`: there is none.
    pub fn with_generation<T>(
        &self,
        body: impl FnOnce(&Generation, &'static Configuration) -> T,
    ) -> Option<T> {
        let ((root, slot), configuration) = worker::place().zip(worker::configuration())?;
        let visit = root.visit(slot);
        let generation = self.records.get()?.generation(&visit)?;
        Some(body(generation, configuration))
    }

    fn as_configured(&self, version: u64) -> Current {
        match &self.configured {
            Some(configured) => Current {
                settings: settings::Cluster { version, ..configured.settings.clone() },
                tls: configured.tls.clone(),
                is_changed: false,
                is_deleted: false,
            },
            None => Current::deleted(&self.name, version),
        }
    }

    /// What holds by a generation. `None`: what the configuration says.
    fn of(
        &self,
        generation: &Generation,
        configuration: &Configuration,
        parse: Parse,
    ) -> Option<Current> {
        let document = generation.document()?;
        let configured = self.configured.as_ref();
        let around = configuration.surroundings(configured.map(|configured| &configured.settings));
        let version = generation.settings();
        match parse(document.text(), &self.name, &around) {
            Ok((stored, warnings)) => {
                for warning in warnings {
                    let name = &self.name;
                    log::write(NGX_LOG_WARN, format_args!("cluster \"{name}\": {warning}"));
                }
                let Some(settings) = stored.cluster else {
                    return Some(Current::deleted(&self.name, version));
                };
                let tls = configuration.tls_of(&settings.checks, configured);
                let settings = settings::Cluster { version, ..settings };
                Some(Current { settings, tls, is_changed: true, is_deleted: false })
            }
            Err(error) => {
                // Another worker has written it: it is of another version of the module.
                let name = &self.name;
                log::write(NGX_LOG_WARN, format_args!("cluster \"{name}\": {error}"));
                Some(Current::deleted(&self.name, version))
            }
        }
    }

    /// The settings that hold now: servers that nginx finds and loses are not in those of the
    /// configuration.
    pub fn shown_settings(&self) -> settings::Cluster {
        let current = self.whole();
        let found = self.of_nginx().filter(|_| !current.is_deleted).and_then(Watch::levels);
        match found {
            Some((mut levels, _)) => {
                self.with_generation(|generation, _| plan::number(&mut levels, generation));
                settings::Cluster { levels, ..current.settings.clone() }
            }
            None => current.settings.clone(),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let (Some(slot), Some(records)) = (self.holder, self.records.get()) {
            records.let_go(slot);
        }
    }
}

impl Current {
    fn deleted(name: &str, version: u64) -> Self {
        Self {
            settings: settings::Cluster { version, ..settings::Cluster::empty(name) },
            tls: Vec::new(),
            is_changed: true,
            is_deleted: true,
        }
    }

    /// What stands for each check: for what is asked, and whether it is mandatory. A record of a check
    /// is used again where both are the same.
    pub fn check_keys(&self) -> Vec<(u16, bool)> {
        let key = |check: &settings::Check| {
            let text = serde_json::to_string(&check.question()).unwrap_or_default();
            let sum = crc32fast::hash(text.as_bytes());
            // 0 stands for no check.
            ((sum ^ sum >> 16) as u16).max(1)
        };
        let checks = self.settings.checks.iter();
        checks.map(|check| (key(check), !check.mandatory.is_off())).collect()
    }
}
