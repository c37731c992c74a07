//! The clusters of a configuration, and how they get into the zone.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::NonNull;

use ngx::ffi::{ngx_cycle_t, ngx_module_t, ngx_shm_zone_t, NGX_LOG_EMERG};
use thiserror::Error;

use super::rings::Rings;
use super::watched::{Peers, Watch};
use crate::logic::balance::ring;
use crate::logic::settings::{self, Check, Level};
use crate::logic::status::Usage;
use crate::nginx::conf::{Conf, Position};
use crate::nginx::tls::Tls;
use crate::nginx::zone::LockedSlab;
use crate::nginx::{log, process, zone};
use crate::shm::cluster::Cluster;
use crate::shm::document::Documents;
use crate::shm::generation::{LevelPlan, PeerPlan, Plan};
use crate::shm::lock;
use crate::shm::zone::Root;
use crate::shm::{Full, Slab};

/// The clusters of one configuration. It lives in the pool of its cycle. When the cycle is replaced,
/// its zone may be gone before it is dropped.
#[derive(Default)]
pub struct Configuration {
    /// What `checkups_zone` says.
    pub zone: Option<Zone>,
    clusters: Vec<Entry>,
    /// The cycle that it belongs to; set with the zone.
    cycle: Cell<Option<NonNull<ngx_cycle_t>>>,
    shared: Cell<Option<NonNull<ngx_shm_zone_t>>>,
    root: Cell<Option<&'static Root>>,
    /// See [`number`](Self::number).
    number: Cell<u64>,
}

/// A zone as the configuration names it.
#[derive(Debug)]
pub struct Zone {
    /// The name.
    pub name: String,
    /// The size in bytes.
    pub size: usize,
}

/// A cluster of the configuration.
pub struct Entry {
    /// What the operator set.
    pub settings: settings::Cluster,
    /// The socket addresses, level by level, as in the settings.
    pub addresses: Vec<Vec<Vec<u8>>>,
    /// What those of its checks need that use TLS, check by check.
    pub tls: Vec<Option<Tls>>,
    /// Where it is written.
    pub position: Position,
    /// Its records in the zone; set in every worker.
    pub records: Cell<Option<&'static Cluster>>,
    /// The rings of this worker.
    pub rings: RefCell<Rings>,
    /// The servers that nginx has, where nginx balances.
    pub watch: Option<Watch>,
}

/// Why the clusters do not get into the zone.
#[derive(Debug, Error)]
enum ZoneError {
    #[error("{0}, a larger size is wanted in checkups_zone")]
    Full(#[from] Full),
    #[error(
        "{0} while storing cluster \"{1}\" with its {2} servers, a larger size is wanted in \
         checkups_zone"
    )]
    FullAt(Full, String, usize),
    #[error("another version of the module made the zone, nginx must be restarted")]
    Foreign,
    #[error("the zone has no memory")]
    Unmapped,
}

impl Configuration {
    /// The clusters, in the order of the configuration.
    pub fn clusters(&self) -> &[Entry] {
        &self.clusters
    }

    /// The cluster of this name.
    pub fn cluster(&self, name: &str) -> Option<&Entry> {
        self.clusters.iter().find(|entry| entry.settings.name == name)
    }

    /// Adds a cluster, whose name is not used yet, and returns its index.
    pub fn add(&mut self, entry: Entry) -> usize {
        self.clusters.push(entry);
        self.clusters.len() - 1
    }

    /// The root of the zone, once the zone is initialised.
    pub fn root(&self) -> Option<&'static Root> {
        self.root.get()
    }

    /// The zone for locking its allocator.
    fn shared(&self) -> Option<&ngx_shm_zone_t> {
        // SAFETY: nginx keeps the structure in the cycle that this configuration belongs to.
        self.shared.get().map(|shared| unsafe { shared.as_ref() })
    }

    /// Runs `body` with the allocator of the zone locked.
    pub fn with_slab<T>(&self, body: impl FnOnce(&LockedSlab) -> T) -> Option<T> {
        // SAFETY: the zone of a configuration that runs is mapped, and nothing here holds the lock
        // while it calls others.
        let slab = unsafe { LockedSlab::lock(self.shared()?) }?;
        Some(body(&slab))
    }

    /// How full the zone is. `None`: there is none.
    pub fn usage(&self) -> Option<Usage> {
        let free = self.with_slab(LockedSlab::free_bytes)?;
        let shared = self.shared()?;
        // SAFETY: nginx keeps the name with the zone.
        let name = unsafe { String::from_utf8_lossy(crate::nginx::conf::bytes(shared.shm.name)) };
        Some(Usage { name: name.into_owned(), size: shared.shm.size, free })
    }

    /// Declares the zone to nginx: to be called when the whole configuration was read. Where no
    /// cluster uses it and none is configured, there is none.
    ///
    /// # Safety
    /// The configuration stays where it is for as long as the cycle.
    ///
    /// # Errors
    /// Where nginx refuses the zone; it logs why.
    pub unsafe fn declare_zone(
        &mut self,
        cf: &mut Conf,
        module: &'static ngx_module_t,
    ) -> Result<(), ()> {
        use crate::logic::directive::{DEFAULT_ZONE_NAME, DEFAULT_ZONE_SIZE};
        if self.zone.is_none() && self.clusters.is_empty() {
            return Ok(());
        }
        let (name, size) = match &self.zone {
            Some(zone) => (zone.name.as_str(), zone.size),
            None => (DEFAULT_ZONE_NAME, DEFAULT_ZONE_SIZE),
        };
        let data: *const Self = self;
        let data: *mut c_void = data.cast_mut().cast();
        let shared = zone::declare(cf, name, size, module, Some(init_zone), data).ok_or(())?;
        self.shared.set(Some(shared));
        // SAFETY: the configuration is being read for this cycle.
        self.cycle.set(NonNull::new(unsafe { (*cf.as_ptr()).cycle }));
        Ok(())
    }

    /// Prepares the records of all clusters in the zone. Runs in the master, before the listening
    /// sockets are bound: the reload may still fail.
    fn prepare(&self, zone: &ngx_shm_zone_t) -> Result<(), ZoneError> {
        lock::set_own_id(process::id());
        // SAFETY: nginx has just mapped it, and calls this from its init handler without the lock.
        let mut slab = unsafe { LockedSlab::lock(zone) }.ok_or(ZoneError::Unmapped)?;

        let root = match NonNull::new(slab.root()) {
            // SAFETY: a root is the only thing that this module ever stores there.
            Some(address) => unsafe { Root::at(address.cast()) }.ok_or(ZoneError::Foreign)?,
            None => {
                let root = Root::create(&slab, process::seconds())?;
                slab.set_root(std::ptr::from_ref(root).cast_mut().cast());
                root
            }
        };
        root.discard(&slab);
        root.sweep(&slab);

        self.prepare_records(root, &slab, root_to_replace(zone)).inspect_err(|_| {
            root.discard(&slab);
        })?;
        self.root.set(Some(root));
        Ok(())
    }

    /// `old` is the root of the zone that this one is to replace, where there is one.
    fn prepare_records(
        &self,
        root: &Root,
        slab: &LockedSlab,
        old: Option<&Root>,
    ) -> Result<(), ZoneError> {
        // First the slots: the records of servers have counters for each.
        if let Some(cycle) = self.cycle.get() {
            // SAFETY: zones are initialised when the whole configuration was read.
            let workers = unsafe { process::configured_workers(cycle.as_ptr()) };
            root.reserve_slots(slab, workers)?;
        }
        for entry in &self.clusters {
            entry.prepare(root, slab, old).map_err(|full| {
                let servers = entry.settings.levels.iter().map(|level| level.servers.len()).sum();
                ZoneError::FullAt(full, entry.settings.name.clone(), servers)
            })?;
        }
        Ok(())
    }

    /// Takes the prepared records into use. Runs in the master, when the new cycle cannot fail any
    /// more, before its workers start.
    pub fn commit(&self) {
        if let Some(root) = self.root() {
            self.with_slab(|slab| root.commit(slab));
            self.number.set(root.configuration());
        }
    }

    /// The number of the configuration in the zone; 0: its records were not taken into use.
    pub fn number(&self) -> u64 {
        self.number.get()
    }
}

impl Drop for Configuration {
    /// Where the cycle failed after its zone was prepared, what was prepared is thrown away. By then
    /// nginx has unmapped a zone that was made for that cycle, but one of the running cycle is there.
    fn drop(&mut self) {
        let (Some(root), Some(shared)) = (self.root(), self.shared()) else { return };
        if self.number() != 0 {
            return;
        }
        let running = zone::of_running_cycle(shared);
        // SAFETY: nginx keeps the structure in the running cycle.
        if running.is_some_and(|running| unsafe { running.as_ref() }.shm.addr == shared.shm.addr) {
            self.with_slab(|slab| root.discard(slab));
        }
    }
}

/// The root of the zone that the running cycle has under the same name, where that is another one.
fn root_to_replace(zone: &ngx_shm_zone_t) -> Option<&'static Root> {
    let running = zone::of_running_cycle(zone)?;
    // SAFETY: the zone of the running cycle is mapped until the new cycle runs, and the result is
    // used no longer than that; only its records are read, no lock of its allocator is taken.
    unsafe {
        let pool = NonNull::new(running.as_ref().shm.addr)?;
        if pool.as_ptr() == zone.shm.addr {
            return None;
        }
        let pool = pool.cast::<ngx::ffi::ngx_slab_pool_t>();
        Root::at(NonNull::new(pool.as_ref().data)?.cast())
    }
}

impl Entry {
    /// A cluster that is written at `position`.
    pub fn new(
        settings: settings::Cluster,
        addresses: Vec<Vec<Vec<u8>>>,
        tls: Vec<Option<Tls>>,
        position: Position,
    ) -> Self {
        let (records, rings) = (Cell::default(), RefCell::default());
        Self { settings, addresses, tls, position, records, rings, watch: None }
    }

    /// The same, where nginx balances, with these servers.
    pub fn watched(self, peers: Box<dyn Peers>) -> Self {
        Self { watch: Some(Watch::new(peers)), ..self }
    }

    /// What holds now: servers that nginx finds and loses are not in the settings.
    pub fn current_settings(&self) -> Cow<'_, settings::Cluster> {
        match self.watch.as_ref().and_then(Watch::levels) {
            Some((levels, _)) => Cow::Owned(settings::Cluster { levels, ..self.settings.clone() }),
            None => Cow::Borrowed(&self.settings),
        }
    }

    /// The name of the cluster.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What stands for each check: for what is asked, and whether it is mandatory. A record of a check
    /// is used again where both are the same.
    pub fn check_keys(&self) -> Vec<(u16, bool)> {
        let key = |check: &Check| {
            let text = serde_json::to_string(&check.question()).unwrap_or_default();
            let sum = crc32fast::hash(text.as_bytes());
            // 0 stands for no check.
            ((sum ^ sum >> 16) as u16).max(1)
        };
        self.settings.checks.iter().map(|check| (key(check), !check.mandatory.is_off())).collect()
    }

    fn prepare(&self, root: &Root, slab: &impl Slab, old: Option<&Root>) -> Result<(), Full> {
        // nginx initialises its zones before this one, which is declared last: where servers come and
        // go, those are there that it had before a reload.
        let current = self.watch.as_ref().and_then(Watch::levels);
        let plan = match &current {
            Some((levels, addresses)) => self.plan(levels, addresses),
            None => self.plan(&self.settings.levels, &self.addresses),
        };
        root.prepare(slab, &self.settings.name, &plan, Documents::None, old)
    }

    /// What is to be in the zone where the cluster has these levels, with these addresses.
    pub fn plan<'a>(&self, levels: &'a [Level], addresses: &'a [Vec<Vec<u8>>]) -> Plan<'a> {
        let checked = !self.settings.checks.is_empty();
        let awaits_pass = self.settings.checks.iter().any(|check| !check.mandatory.is_off());
        let peer = |(server, address): (&'a settings::Server, &'a Vec<u8>)| PeerPlan {
            name: &server.server,
            address,
            weight: server.weight,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout.as_milliseconds(),
            max_conns: server.max_conns,
            slow_start: server.slow_start.as_milliseconds(),
            down: server.down,
            drain: server.drain,
            checked: checked && !server.down && server.check.is_on,
            awaits_pass,
            ring: ring::base(server.written.as_bytes()),
            sticky: server.sticky.as_bytes(),
            found_by: if server.resolve { &server.server } else { "" },
        };
        let level = |(level, addresses): (&'a Level, &'a Vec<Vec<u8>>)| LevelPlan {
            name: level.name.as_deref().unwrap_or_default(),
            tries: level.limits.tries.unwrap_or(0),
            tries_timeout: level.limits.tries_timeout.map_or(0, settings::Time::as_milliseconds),
            peers: level.servers.iter().zip(addresses).map(peer).collect(),
        };
        Plan {
            method: self.settings.balance.method(),
            protected: self.settings.protected,
            is_ordered: self.settings.order.is_some(),
            levels: levels.iter().zip(addresses).map(level).collect(),
            ..Plan::default()
        }
    }
}

/// The init handler of the zone.
unsafe extern "C" fn init_zone(
    zone: *mut ngx_shm_zone_t,
    _data: *mut c_void,
) -> ngx::ffi::ngx_int_t {
    use crate::nginx::guard::guard;
    use ngx::core::Status;

    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with a zone of ours, whose data `declare_zone` has set.
        let (zone, configuration) = unsafe { (&*zone, &*(*zone).data.cast::<Configuration>()) };
        match configuration.prepare(zone) {
            Ok(()) => Status::NGX_OK,
            Err(error) => {
                // SAFETY: nginx has set the log of the zone; it is that of the cycle.
                unsafe {
                    let name = String::from_utf8_lossy(crate::nginx::conf::bytes(zone.shm.name));
                    let size = zone.shm.size;
                    let message = format_args!("zone \"{name}\" of {size} bytes: {error}");
                    log::write_to(zone.shm.log, NGX_LOG_EMERG, message);
                }
                Status::NGX_ERROR
            }
        }
    })
    .into()
}
