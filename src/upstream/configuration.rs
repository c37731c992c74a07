//! The clusters of a configuration, and how they get into the zone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use ngx::ffi::{ngx_cycle_t, ngx_module_t, ngx_shm_zone_t, NGX_LOG_EMERG, NGX_LOG_WARN};
use thiserror::Error;

use super::definition::Definition;
use super::entry::{Configured, Entry};
use super::kept::{Files, Kept, Taken};
use super::plan;
use super::state::Directory;
use super::watched::Watch;
use crate::logic::change::{KnownChecks, Surroundings};
use crate::logic::matching::Match;
use crate::logic::settings::{self, Check, Source};
use crate::logic::status::Usage;
use crate::logic::stored::{self, Stored};
use crate::nginx::conf::Conf;
use crate::nginx::log::CycleLog;
use crate::nginx::resolver::Resolver;
use crate::nginx::tls::Tls;
use crate::nginx::zone::LockedSlab;
use crate::nginx::{log, process, zone};
use crate::shm::document::Documents;
use crate::shm::generation::Plan;
use crate::shm::lock;
use crate::shm::worker::Slot;
use crate::shm::writing::Writing;
use crate::shm::zone::Root;
use crate::shm::Full;

/// For how long a reload waits for a change that is being written, in milliseconds.
const PATIENCE: u64 = 5000;

/// The clusters of one configuration. It lives in the pool of its cycle. When the cycle is replaced,
/// its zone may be gone before it is dropped.
#[derive(Default)]
pub struct Configuration {
    /// What `checkups_zone` says.
    pub zone: Option<Zone>,
    /// What `checkups_state` says.
    pub state: Option<Directory>,
    /// `checkups_match`.
    pub matches: Vec<Rc<Match>>,
    /// `checkups_check_define`.
    pub definitions: HashMap<String, Definition>,
    /// Whether clusters may come to be at run time.
    pub needs_zone: bool,
    /// What checks need that use TLS and come from no file; `None`: such checks cannot be made.
    pub plain_tls: Option<Tls>,
    /// What finds the addresses of names; `None`: names are not looked up.
    pub resolver: Option<Resolver>,
    /// Whether there is a variable of this name.
    pub is_variable: Option<IsVariable>,
    clusters: Vec<Rc<Entry>>,
    by_name: HashMap<String, usize>,
    /// The clusters that came to be at run time, as far as this worker knows of them.
    born: RefCell<HashMap<String, Rc<Entry>>>,
    /// See [`Root::births`], when this worker last looked at it.
    births: Cell<Option<u64>>,
    /// The cycle that it belongs to; set with the zone.
    cycle: Cell<Option<NonNull<ngx_cycle_t>>>,
    shared: Cell<Option<NonNull<ngx_shm_zone_t>>>,
    root: Cell<Option<&'static Root>>,
    /// The root of the zone that this one is to replace.
    replaces: Cell<Option<&'static Root>>,
    /// The right to change settings, from the moment at which the records are prepared until they are
    /// in use: no change is lost in between.
    writing: Cell<Option<Writing<'static>>>,
    /// What was taken over of changes at run time, and what was not.
    taken: RefCell<Taken>,
    /// See [`number`](Self::number).
    number: Cell<u64>,
    /// See [`loaded_at`](Self::loaded_at).
    loaded_at: Cell<i64>,
}

/// Tells whether there is a variable of some name.
pub type IsVariable = Box<dyn Fn(&str) -> bool>;

/// A zone as the configuration names it.
#[derive(Debug)]
pub struct Zone {
    /// The name.
    pub name: String,
    /// The size in bytes.
    pub size: usize,
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
    #[error("a change at run time has not been written for {} seconds, try again", PATIENCE / 1000)]
    Busy,
    #[error("the zone has no memory")]
    Unmapped,
}

impl Configuration {
    /// The clusters of the configuration, in its order.
    pub fn clusters(&self) -> &[Rc<Entry>] {
        &self.clusters
    }

    /// The cluster of this name in the configuration.
    pub fn cluster(&self, name: &str) -> Option<&Rc<Entry>> {
        self.by_name.get(name).map(|number| &self.clusters[*number])
    }

    /// The cluster of this name, also where it came to be at run time.
    pub fn find(&self, name: &str) -> Option<Rc<Entry>> {
        if let Some(entry) = self.cluster(name) {
            return Some(Rc::clone(entry));
        }
        self.follow_births();
        self.born.borrow().get(name).cloned()
    }

    /// All clusters, also those that came to be at run time; the deleted ones among them.
    pub fn all(&self) -> Vec<Rc<Entry>> {
        self.follow_births();
        self.clusters.iter().chain(self.born.borrow().values()).map(Rc::clone).collect()
    }

    /// Adds a cluster, whose name is not used yet, and returns its number.
    pub fn add(&mut self, mut entry: Entry) -> usize {
        let number = self.clusters.len();
        if let Some(configured) = &mut entry.configured {
            configured.number = number;
        }
        self.by_name.insert(entry.name().to_owned(), number);
        self.clusters.push(Rc::new(entry));
        number
    }

    /// Gets to know the clusters that have come to be at run time.
    fn follow_births(&self) {
        let (Some(root), Some(slot)) = (self.root(), super::worker::slot()) else { return };
        let births = Some(root.births());
        if births == self.births.get() {
            return;
        }
        self.with_slab(|_| self.meet(root, slot));
        self.births.set(births);
    }

    /// The caller holds the slab.
    fn meet(&self, root: &'static Root, slot: &'static Slot) {
        let mut born = self.born.borrow_mut();
        for records in root.clusters().filter(|records| !records.is_removed()) {
            let is_born = records.lock().generation().is_some_and(|found| found.is_born());
            if is_born && !born.contains_key(records.name()) {
                born.insert(records.name().to_owned(), Rc::new(Entry::born(records, slot)));
            }
        }
    }

    /// Forgets the clusters that came to be at run time and were deleted.
    pub fn forget_deleted(&self) {
        let is_there = |entry: &Rc<Entry>| entry.records.get().is_some_and(|it| !it.is_removed());
        self.born.borrow_mut().retain(|_, entry| is_there(entry));
    }

    /// Forgets all clusters that came to be at run time: the worker exits.
    pub fn forget_all(&self) {
        self.born.take();
    }

    /// What a change of a cluster has to go with, which has these settings in the configuration.
    pub fn surroundings<'a>(
        &'a self,
        configured: Option<&'a settings::Cluster>,
    ) -> Surroundings<'a> {
        Surroundings {
            configured,
            checks: self,
            has_resolver: self.resolver.is_some(),
            is_variable: self.is_variable.as_deref().unwrap_or(&|_| true),
            has_sticky: cfg!(ngx_upstream_sid),
        }
    }

    /// What those of the checks need that use TLS, of a cluster that is configured so.
    pub fn tls_of(&self, checks: &[Check], configured: Option<&Configured>) -> Vec<Option<Tls>> {
        let tls = |check: &Check| match &check.source {
            Source::Configured(number) => *configured?.tls.get(*number)?,
            Source::Defined(name) => self.definitions.get(name)?.tls,
            Source::Given(_) => check.tls.as_ref().and(self.plain_tls),
        };
        checks.iter().map(tls).collect()
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
        if self.zone.is_none() && self.clusters.is_empty() && !self.needs_zone {
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
        let lock_slab = || {
            // SAFETY: nginx has just mapped it, and calls this from its init handler without the lock.
            unsafe { LockedSlab::lock(zone) }.ok_or(ZoneError::Unmapped)
        };
        let mut slab = lock_slab()?;
        let (root, is_new) = match NonNull::new(slab.root()) {
            Some(address) => {
                // SAFETY: a root is the only thing that this module ever stores there.
                let root = unsafe { Root::at(address.cast()) };
                (root.ok_or(ZoneError::Foreign)?, false)
            }
            None => {
                let root = Root::create(&slab, process::seconds())?;
                slab.set_root(std::ptr::from_ref(root).cast_mut().cast());
                (root, true)
            }
        };
        // The worker that we may wait for wants the slab before it is done.
        drop(slab);
        let replaces = root_to_replace(zone);
        // Not in a new zone: nobody else knows of it, and where the cycle fails it is gone before us.
        if let Some(in_use) = replaces.or(Some(root).filter(|_| !is_new)) {
            self.writing.set(Some(wait_for_writing(in_use)?));
        }
        let files = self.state.as_ref().map(Files::read);
        let slab = lock_slab()?;
        self.replaces.set(replaces);
        root.discard(&slab);
        root.sweep(&slab);

        self.prepare_records(root, &slab, replaces, files).inspect_err(|_| {
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
        files: Option<Files>,
    ) -> Result<(), ZoneError> {
        // First the slots: the records of servers have counters for each.
        if let Some(cycle) = self.cycle.get() {
            // SAFETY: zones are initialised when the whole configuration was read.
            let workers = unsafe { process::configured_workers(cycle.as_ptr()) };
            root.reserve_slots(slab, workers)?;
        }
        let mut taken = Taken::look(root, old, files);
        root.skip_versions(taken.last_version());
        for entry in &self.clusters {
            let kept = taken.of_block(entry);
            self.prepare_one(root, slab, old, entry.name(), Some(entry), kept.as_ref())?;
        }
        for kept in taken.of_no_block() {
            self.prepare_one(root, slab, old, &kept.name, None, Some(&kept))?;
        }
        self.taken.replace(taken);
        Ok(())
    }

    /// Prepares the records of one cluster: by what is kept of changes at run time, or else by what the
    /// configuration says.
    fn prepare_one(
        &self,
        root: &Root,
        slab: &LockedSlab,
        old: Option<&Root>,
        name: &str,
        entry: Option<&Rc<Entry>>,
        kept: Option<&Kept>,
    ) -> Result<(), ZoneError> {
        let configured = entry.and_then(|entry| entry.configured.as_ref());
        let base = configured.map_or(0, |configured| configured.fingerprint);
        let full = |servers: usize| move |full| ZoneError::FullAt(full, name.to_owned(), servers);
        if let Some((kept, stored)) =
            kept.and_then(|kept| Some((kept, self.read(kept, configured)?)))
        {
            let records = old.unwrap_or(root).cluster(name);
            let lines = kept.lines();
            let documents = if kept.is_in_zone { Documents::Same } else { Documents::New(&lines) };
            let Some(settings) = stored.cluster else {
                let plan = deleted(&stored, base);
                return root.prepare(slab, name, &plan, documents, old).map_err(full(0));
            };
            let settings = settings::Cluster { version: stored.version, ..settings };
            let of_nginx = entry.and_then(|entry| entry.of_nginx()).and_then(Watch::levels);
            let (levels, addresses) = of_nginx.unwrap_or_else(|| {
                plan::list(&settings, |server| {
                    let guard = records.map(|records| records.lock());
                    plan::found_before(guard.and_then(|guard| guard.generation()), server)
                })
            });
            let plan = Plan {
                base,
                is_born: configured.is_none(),
                ..plan::plan(&settings, (&levels, &addresses))
            };
            let servers = addresses.iter().map(Vec::len).sum();
            return root.prepare(slab, name, &plan, documents, old).map_err(full(servers));
        }
        let Some((entry, configured)) = entry.zip(configured) else { return Ok(()) };
        // nginx initialises its zones before this one, which is declared last: where servers come and
        // go, those are there that it had before a reload.
        let current = entry.of_nginx().and_then(Watch::levels);
        let settings = &configured.settings;
        let (levels, addresses) = match &current {
            Some((levels, addresses)) => (levels, addresses),
            None => (&settings.levels, &configured.addresses),
        };
        let plan = Plan { base, ..plan::plan(settings, (levels, addresses)) };
        let servers = addresses.iter().map(Vec::len).sum();
        root.prepare(slab, name, &plan, Documents::None, old).map_err(full(servers))
    }

    /// The settings that are kept of a cluster. `None`: they cannot be read, which was logged.
    fn read(&self, kept: &Kept, configured: Option<&Configured>) -> Option<Stored> {
        let around = self.surroundings(configured.map(|configured| &configured.settings));
        let name = &kept.name;
        match stored::from_line(&kept.lines.first()?.1, name, &around) {
            Ok((stored, warnings)) => {
                for warning in warnings {
                    log::write(NGX_LOG_WARN, format_args!("cluster \"{name}\": {warning}"));
                }
                Some(stored)
            }
            Err(error) => {
                log::write(
                    NGX_LOG_WARN,
                    format_args!(
                        "cluster \"{name}\": what was changed at run time is lost: {error}"
                    ),
                );
                None
            }
        }
    }

    /// Takes the prepared records into use. Runs in the master, when the new cycle cannot fail any
    /// more, before its workers start; and where a configuration is tested only. `log` is that of the new
    /// cycle.
    pub fn commit(&self, log: &CycleLog<'_>) {
        let Some(root) = self.root() else { return };
        self.with_slab(|slab| root.commit(slab));
        self.number.set(root.configuration());
        self.loaded_at.set(process::milliseconds());
        root.set_directory(self.state.as_ref().map_or(0, Directory::identity));
        if let Some(old) = self.replaces.get() {
            root.supersede(old);
        }
        let taken = self.taken.take();
        taken.report(log);
        if !process::is_test() {
            if let Some(directory) = &self.state {
                taken.tidy(directory, log);
            }
        }
        self.writing.set(None);
    }

    /// When it was taken into use, in milliseconds since 1970.
    pub fn loaded_at(&self) -> i64 {
        self.loaded_at.get()
    }

    /// Its number among all that ran since nginx started, from 1 on, whatever zones there were.
    pub fn load(&self) -> u64 {
        self.root().map_or(0, Root::earlier) + self.number()
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
        // Of the running cycle, too: it goes on.
        self.writing.set(None);
        let running = zone::of_running_cycle(shared);
        // SAFETY: nginx keeps the structure in the running cycle.
        if running.is_some_and(|running| unsafe { running.as_ref() }.shm.addr == shared.shm.addr) {
            self.with_slab(|slab| root.discard(slab));
        }
    }
}

/// What a deleted cluster is in the zone.
fn deleted(stored: &Stored, base: u64) -> Plan<'static> {
    Plan { settings: stored.version, base, is_born: base == 0, is_deleted: true, ..Plan::default() }
}

/// Waits until nobody else changes settings. What one has left behind that died is thrown away when the
/// next change begins.
#[expect(clippy::disallowed_methods, reason = "the master has no event loop, and waits here")]
fn wait_for_writing(root: &'static Root) -> Result<Writing<'static>, ZoneError> {
    for _ in 0..PATIENCE {
        if let Some(writing) = root.try_write() {
            return Ok(writing);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(ZoneError::Busy)
}

impl KnownChecks for Configuration {
    fn defined(&self, name: &str, cluster: &str) -> Option<Check> {
        // That it can be completed was looked at when the configuration was read.
        let mut check = self.definitions.get(name)?.complete(cluster, &self.matches).ok()?;
        check.source = Source::Defined(name.to_owned());
        Some(check)
    }

    fn matching(&self, name: &str) -> Option<Rc<Match>> {
        self.matches.iter().find(|block| block.name() == name).cloned()
    }

    fn has_tls(&self) -> bool {
        self.plain_tls.is_some()
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
