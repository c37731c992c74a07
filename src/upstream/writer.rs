//! Changes at run time: they are taken in, one after the other over all workers, kept where
//! `checkups_state` says so, put into use, and answered; in this order.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use ngx::ffi::NGX_LOG_NOTICE;

use super::configuration::Configuration;
use super::entry::Entry;
use super::state::{Directory, Wanted};
use super::{plan, worker};
use crate::logic::api::{Precondition, Refusal};
use crate::logic::change::{self, Change, Difference};
use crate::logic::settings::{Balance, Cluster, Server};
use crate::logic::stored::{self, Stored};
use crate::nginx::task::{sleep, spawn, Busy, Task};
use crate::nginx::{log, process, thread};
use crate::shm;
use crate::shm::document::{Documents, Line, MAX_EARLIER};
use crate::shm::generation::Plan;
use crate::shm::writing::Writing;
use crate::shm::zone::Root;

/// For how long a change waits for those of others, in milliseconds.
const PATIENCE: u64 = 10_000;

/// Why a worker changes nothing that runs an older configuration.
const REPLACED: &str = "this worker is being replaced by one of a newer configuration";

/// From one look whether others are done to the next, in milliseconds.
const LOOKS_APART: u64 = 1;

/// What somebody wants changed.
pub struct Order {
    /// The name of the cluster.
    pub name: String,
    /// What is to be changed.
    pub change: Change,
    /// What has to hold before.
    pub precondition: Precondition,
    /// Whether it is only to be shown what would change.
    pub is_dry_run: bool,
    /// To be told what came of it.
    pub reply: Box<dyn FnOnce(Result<Done, Refusal>)>,
}

/// What came of a change.
pub struct Done {
    /// The name of the cluster.
    pub name: String,
    /// The version that it has now.
    pub version: u64,
    /// Whether the cluster was not there before.
    pub is_new: bool,
    /// What is different.
    pub difference: Vec<Difference>,
    /// The server that was added, or that was changed by its number, and the place of its level.
    pub server: Option<Box<(Server, usize)>>,
}

/// The changes of this worker.
#[derive(Default)]
struct Queue {
    orders: RefCell<VecDeque<(Order, Resolved)>>,
    /// Works the queue off, while there is anything in it.
    task: RefCell<Option<Task>>,
    is_running: Cell<bool>,
    /// Changes whose names are being looked up, by numbers.
    lookups: RefCell<HashMap<u64, Task>>,
    next_lookup: Cell<u64>,
    /// The numbers of those that are over.
    looked_up: RefCell<Vec<u64>>,
}

/// The queue is being worked off, however that ends.
struct Running(Rc<Queue>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.set(false);
    }
}

/// The addresses that were found for names.
type Resolved = HashMap<(String, Option<String>), Vec<String>>;

thread_local! {
    static QUEUE: Rc<Queue> = Rc::default();
}

/// Has something changed.
pub fn submit(configuration: &'static Configuration, order: Order) {
    QUEUE.with(Rc::clone).submit(configuration, order);
}

/// The worker exits: what is not done yet is not answered.
pub fn stop() {
    let queue = QUEUE.with(Rc::clone);
    let (task, lookups) = (queue.task.take(), queue.lookups.take());
    drop((task, lookups));
    queue.orders.take();
}

/// Changes of one cluster that are put into use together.
struct Pending {
    name: String,
    entry: Option<Rc<Entry>>,
    /// What comes of them; `None`: it is deleted.
    settings: Option<Cluster>,
    version: u64,
    /// The number of the next server that is new.
    next_id: u32,
    /// The settings that came to be by them as text, the newest first, and perhaps those that the
    /// configuration has.
    lines: VecDeque<(u64, String)>,
    answers: Vec<(Order, Done)>,
}

impl Queue {
    fn submit(self: Rc<Self>, configuration: &'static Configuration, order: Order) {
        let names = names_to_find(configuration, &order);
        if names.is_empty() {
            return self.enqueue(configuration, order, Resolved::new());
        }
        let over = self.looked_up.take();
        let over: Vec<_> =
            over.iter().filter_map(|number| self.lookups.borrow_mut().remove(number)).collect();
        drop(over);
        let number = self.next_lookup.get();
        self.next_lookup.set(number + 1);
        let queue = Rc::clone(&self);
        let task = spawn(async move {
            let _busy = Busy::begin();
            match find(configuration, names).await {
                Ok(resolved) => Rc::clone(&queue).enqueue(configuration, order, resolved),
                Err(refusal) => (order.reply)(Err(refusal)),
            }
            queue.looked_up.borrow_mut().push(number);
        });
        self.lookups.borrow_mut().insert(number, task);
    }

    fn enqueue(
        self: Rc<Self>,
        configuration: &'static Configuration,
        order: Order,
        resolved: Resolved,
    ) {
        self.orders.borrow_mut().push_back((order, resolved));
        if self.is_running.replace(true) {
            return;
        }
        let running = Running(Rc::clone(&self));
        let task = spawn(async move {
            let _busy = Busy::begin();
            running.0.work_off(configuration).await;
        });
        // The task may be over by now; its handle is then replaced by the next.
        self.task.replace(Some(task));
    }

    async fn work_off(&self, configuration: &'static Configuration) {
        while !self.orders.borrow().is_empty() {
            let right = begin(configuration).await;
            let orders = self.orders.take();
            match right {
                Ok((root, writing)) => carry_out(configuration, root, &writing, orders).await,
                Err(why) => {
                    for (order, _) in orders {
                        (order.reply)(Err(Refusal::TryAgain(why)));
                    }
                }
            }
        }
    }
}

/// The names of a change whose addresses are not known.
fn names_to_find(configuration: &Configuration, order: &Order) -> Vec<Server> {
    if !order.change.may_bring_names() {
        return Vec::new();
    }
    let entry = configuration.find(&order.name);
    let current = entry.as_ref().map(|entry| entry.whole());
    let before = current.as_ref().filter(|current| !current.is_deleted);
    let around = surroundings(configuration, entry.as_deref());
    let applied =
        change::apply(before.map(|current| &current.settings), &order.name, &order.change, &around);
    // What is wrong with it is told when its turn comes.
    let Ok(Some(settings)) = applied else { return Vec::new() };
    let servers = settings.levels.into_iter().flat_map(|level| level.servers);
    servers.filter(|server| server.resolve && server.addresses.is_empty()).collect()
}

/// Looks names up.
async fn find(
    configuration: &'static Configuration,
    names: Vec<Server>,
) -> Result<Resolved, Refusal> {
    let mut resolved = Resolved::new();
    for server in names {
        let found = super::names::look_up(configuration, &server).await;
        let found = found
            .map_err(|error| Refusal::NameUnresolved(format!("\"{}\": {error}", server.server)))?;
        resolved.insert((server.server, server.service), found.texts);
    }
    Ok(resolved)
}

fn surroundings<'a>(
    configuration: &'a Configuration,
    entry: Option<&'a Entry>,
) -> change::Surroundings<'a> {
    let configured = entry.and_then(|entry| entry.configured.as_ref());
    configuration.surroundings(configured.map(|configured| &configured.settings))
}

/// Waits for the right to change settings.
///
/// # Errors
/// Why it cannot be had.
async fn begin(
    configuration: &'static Configuration,
) -> Result<(&'static Root, Writing<'static>), &'static str> {
    let root = configuration.root().ok_or("there is no zone")?;
    let end = process::now() + PATIENCE;
    let writing = loop {
        if root.is_superseded() {
            return Err(REPLACED);
        }
        if let Some(writing) = root.try_write() {
            break writing;
        }
        if process::now() > end {
            return Err("another change or a reload is under way");
        }
        sleep(LOOKS_APART).await;
    };
    let own = configuration.state.as_ref().map_or(0, Directory::identity);
    if root.is_superseded() || root.directory() != own {
        return Err(REPLACED);
    }
    if writing.was_abandoned() {
        configuration.with_slab(|slab| {
            root.clusters().for_each(|cluster| root.discard_reserved(slab, cluster));
        });
    }
    Ok((root, writing))
}

/// Carries out changes. `_writing` is the right to.
async fn carry_out(
    configuration: &'static Configuration,
    root: &'static Root,
    _writing: &Writing<'static>,
    orders: VecDeque<(Order, Resolved)>,
) {
    let mut pending: Vec<Pending> = Vec::new();
    for (order, resolved) in orders {
        match take_in(configuration, root, &mut pending, &order, resolved) {
            Ok((place, done)) => pending[place].answers.push((order, done)),
            Err(Answer::Refused(refusal)) => (order.reply)(Err(refusal)),
            Err(Answer::Unchanged(done)) => (order.reply)(Ok(done)),
        }
    }
    let mut reserved: Vec<(Pending, &'static shm::cluster::Cluster)> = Vec::new();
    for pending in pending.into_iter().filter(|pending| !pending.answers.is_empty()) {
        match reserve(configuration, root, &pending) {
            Some(cluster) => reserved.push((pending, cluster)),
            None => pending.refuse(&Refusal::ZoneFull),
        }
    }
    let kept = keep(configuration, &reserved).await;
    let mut changed = Vec::new();
    for ((pending, cluster), kept) in reserved.into_iter().zip(kept) {
        configuration.with_slab(|slab| match &kept {
            Ok(()) => {
                root.publish_reserved(slab, cluster, process::now());
                // The checks may have found something since the order was made. Where there is no
                // room for another one, the scan picks.
                let _ = root.refresh(slab, cluster);
            }
            Err(_) => root.discard_reserved(slab, cluster),
        });
        match kept {
            Ok(()) => changed.push(pending),
            Err(error) => pending.refuse(&Refusal::StateNotKept(error)),
        }
    }
    for pending in changed {
        pending.report();
        for (order, done) in pending.answers {
            (order.reply)(Ok(done));
        }
    }
    worker::follow();
}

/// How a change is answered that changes nothing.
enum Answer {
    Refused(Refusal),
    Unchanged(Done),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Finds out what comes of a change, and adds it to what is pending: returns where, and the answer.
fn take_in(
    configuration: &'static Configuration,
    root: &'static Root,
    pending: &mut Vec<Pending>,
    order: &Order,
    mut resolved: Resolved,
) -> Result<(usize, Done), Answer> {
    let entry = configuration.find(&order.name);
    if !is_as_known(configuration, root, &order.name, entry.as_deref()) {
        return Err(Refusal::TryAgain(REPLACED).into());
    }
    let current = entry.as_ref().map(|entry| entry.whole());
    let place = pending.iter().position(|pending| pending.name == order.name);
    let before = match place {
        Some(place) => pending[place].settings.clone(),
        None => current.as_deref().filter(|it| !it.is_deleted).map(|it| it.settings.clone()),
    };
    let version = before.as_ref().map(|before| before.version);
    order.precondition.check(version)?;
    let around = surroundings(configuration, entry.as_deref());
    let mut after = match &order.change {
        Change::Rollback(version) => {
            let before = before.as_ref().ok_or(Refusal::ClusterNotFound)?;
            if before.balance == Balance::Nginx {
                return Err(Refusal::BalancedByNginx.into());
            }
            let lines = place.map(|place| &pending[place].lines);
            let earlier =
                earlier(configuration, entry.as_deref(), before, lines, *version, &around)?;
            earlier.map(|mut earlier| {
                change::renumber(before, &mut earlier);
                earlier
            })
        }
        change => change::apply(before.as_ref(), &order.name, change, &around)?,
    };
    for server in after.iter_mut().flat_map(|it| &mut it.levels).flat_map(|it| &mut it.servers) {
        let found = resolved.remove(&(server.server.clone(), server.service.clone()));
        if let Some(found) = found.filter(|_| server.resolve && server.addresses.is_empty()) {
            server.addresses = found;
        }
    }
    let levels = |cluster: &Option<Cluster>| cluster.as_ref().map(|it| it.levels.clone());
    let is_following = entry.as_ref().is_some_and(|entry| entry.is_following());
    if is_following && before.is_some() && after.is_some() && levels(&before) != levels(&after) {
        return Err(Refusal::FollowsNginx.into());
    }
    let difference = change::difference(before.as_ref(), after.as_ref());
    let (name, is_new) = (order.name.clone(), before.is_none());
    let mut next_id = match place {
        Some(place) => pending[place].next_id,
        None => next_id(configuration, root, &name),
    };
    let server = match &order.change {
        Change::AddServer { .. } => Some(next_id),
        Change::PatchServer { which: change::Which::Id { id, .. }, .. } => Some(*id),
        _ => None,
    };
    if let Some(after) = &mut after {
        next_id = change::number_servers(after, next_id);
    }
    let server = server.and_then(|id| after.as_ref()?.server(id)).map(Box::new);
    if order.is_dry_run || difference.is_empty() {
        let version = version.unwrap_or_default();
        return Err(Answer::Unchanged(Done { name, version, is_new: false, difference, server }));
    }

    let version = root.next_version();
    if let Some(after) = &mut after {
        after.version = version;
    }
    let base =
        entry.as_ref().and_then(|entry| entry.configured.as_ref()).map_or(0, |c| c.fingerprint);
    let line = |version, cluster: Option<&Cluster>| {
        (version, stored::to_line(&Stored { version, base, cluster: cluster.cloned() }))
    };
    let place = place.unwrap_or_else(|| {
        let as_configured = current.filter(|current| !current.is_changed && base != 0);
        let lines = as_configured.map(|it| line(it.settings.version, Some(&it.settings)));
        let lines = lines.into_iter().collect();
        pending.push(Pending {
            name: name.clone(),
            entry,
            settings: None,
            version,
            next_id,
            lines,
            answers: Vec::new(),
        });
        pending.len() - 1
    });
    let pending = &mut pending[place];
    pending.next_id = next_id;
    pending.lines.push_front(line(version, after.as_ref()));
    pending.lines.truncate(1 + MAX_EARLIER);
    (pending.settings, pending.version) = (after, version);
    Ok((place, Done { name, version, is_new, difference, server }))
}

/// The number of the next server of a cluster that is new.
fn next_id(configuration: &Configuration, root: &Root, name: &str) -> u32 {
    let of_zone = configuration.with_slab(|_| {
        let guard = root.cluster(name)?.lock();
        Some(guard.generation()?.next_id())
    });
    of_zone.flatten().unwrap_or(0)
}

/// Whether the block of a cluster is the one that this worker knows of, or there is none as it knows. A
/// newer configuration may have been taken into use since.
fn is_as_known(
    configuration: &Configuration,
    root: &Root,
    name: &str,
    entry: Option<&Entry>,
) -> bool {
    let known = entry.and_then(|entry| entry.configured.as_ref()).map(|known| known.fingerprint);
    let in_use = configuration.with_slab(|_| {
        let records = root.cluster(name).filter(|records| !records.is_removed())?;
        let generation = records.lock().generation()?;
        Some(generation.base()).filter(|_| !generation.is_born())
    });
    in_use.flatten() == known
}

/// The settings that a cluster had earlier.
fn earlier(
    configuration: &Configuration,
    entry: Option<&Entry>,
    current: &Cluster,
    pending: Option<&VecDeque<(u64, String)>>,
    version: u64,
    around: &change::Surroundings<'_>,
) -> Result<Option<Cluster>, Refusal> {
    if version == current.version {
        return Ok(Some(current.clone()));
    }
    let of_pending = pending.into_iter().flatten().find(|(other, _)| *other == version);
    let records = entry.and_then(|entry| entry.records.get());
    let kept = || {
        configuration.with_slab(|_| {
            let mut documents = records?.documents();
            documents.find(|it| it.version() == version).map(|it| it.text().to_owned())
        })?
    };
    let line = of_pending.map(|(_, line)| line.clone()).or_else(kept);
    let line = line.ok_or(Refusal::VersionNotFound)?;
    match stored::from_line(&line, &current.name, around) {
        Ok((stored, _)) => Ok(stored.cluster),
        Err(_) => Err(Refusal::VersionNotFound),
    }
}

/// Makes all that it takes to put a change into use. `None`: the zone is full.
fn reserve(
    configuration: &Configuration,
    root: &Root,
    pending: &Pending,
) -> Option<&'static shm::cluster::Cluster> {
    let configured = pending.entry.as_ref().and_then(|entry| entry.configured.as_ref());
    let base = configured.map_or(0, |configured| configured.fingerprint);
    let records = pending.entry.as_ref().and_then(|entry| entry.records.get());
    let of_nginx = pending.entry.as_ref().and_then(|entry| entry.of_nginx()?.levels());
    let listed = pending.settings.as_ref().map(|settings| {
        of_nginx.clone().unwrap_or_else(|| {
            plan::list(settings, |server| {
                let guard = records.map(|records| records.lock());
                plan::found_before(guard.and_then(|guard| guard.generation()), server)
            })
        })
    });
    let of_servers = match (&pending.settings, &listed) {
        (Some(settings), Some((levels, addresses))) => plan::plan(settings, (levels, addresses)),
        _ => Plan { is_deleted: true, ..Plan::default() },
    };
    let (settings, is_born) = (pending.version, configured.is_none());
    let plan = Plan { settings, base, is_born, ..of_servers };
    let lines: Vec<Line<'_>> =
        pending.lines.iter().map(|(version, text)| Line { version: *version, text }).collect();
    let documents = Documents::Next(&lines);
    configuration.with_slab(|slab| root.reserve(slab, &pending.name, &plan, documents).ok())?
}

/// Has changes on disk, where `checkups_state` says so.
async fn keep(
    configuration: &'static Configuration,
    reserved: &[(Pending, &'static shm::cluster::Cluster)],
) -> Vec<Result<(), String>> {
    let Some(directory) = configuration.state.as_ref().filter(|_| !reserved.is_empty()) else {
        return reserved.iter().map(|_| Ok(())).collect();
    };
    let mut files: Vec<(u64, Wanted)> = Vec::new();
    for (pending, cluster) in reserved {
        let is_configured = pending.entry.as_ref().is_some_and(|entry| entry.configured.is_some());
        // Of a block it has to be known that it was deleted.
        let contents = (pending.settings.is_some() || is_configured).then(|| {
            let earlier = configuration.with_slab(|_| {
                cluster.documents().map(|document| document.text().to_owned()).collect::<Vec<_>>()
            });
            let new = pending.lines.iter().map(|(_, line)| line.as_str());
            let earlier = earlier.iter().flatten().map(String::as_str);
            let lines: Vec<&str> = new.chain(earlier).take(1 + MAX_EARLIER).collect();
            stored::to_file(&pending.name, &lines)
        });
        files.push((pending.version, (stored::file_name(&pending.name), contents)));
    }
    let directory = directory.clone();
    let written = thread::run(move || write(&directory, files)).await;
    written.unwrap_or_else(|panicked| reserved.iter().map(|_| Err(panicked.to_string())).collect())
}

/// Writes files that are about settings of these versions. One that is newer already stays: while nginx is
/// replaced by another (USR2), both run.
fn write(directory: &Directory, files: Vec<(u64, Wanted)>) -> Vec<Result<(), String>> {
    let is_newer = |(version, (name, _)): &(u64, Wanted)| {
        let found = directory.contents(name).and_then(|it| stored::version_of_file(&it));
        found.is_some_and(|found| found >= *version)
    };
    let newer: Vec<bool> = files.iter().map(is_newer).collect();
    let wanted = files.into_iter().zip(&newer).filter(|(_, is_newer)| !**is_newer);
    let wanted: Vec<Wanted> = wanted.map(|((_, wanted), _)| wanted).collect();
    let mut written = directory.write(&wanted).into_iter();
    let mut result = |is_newer: bool| match is_newer {
        true => Err("another nginx has written newer settings of this cluster".to_owned()),
        false => written.next().unwrap_or(Ok(())).map_err(|error| error.to_string()),
    };
    newer.into_iter().map(&mut result).collect()
}

impl Pending {
    fn refuse(self, refusal: &Refusal) {
        for (order, _) in self.answers {
            (order.reply)(Err(refusal.clone()));
        }
    }

    fn report(&self) {
        let (name, version) = (&self.name, self.version);
        let what = if self.settings.is_none() {
            "deleted"
        } else if self.answers.first().is_some_and(|(_, done)| done.is_new) {
            "created"
        } else {
            "changed"
        };
        log::write(
            NGX_LOG_NOTICE,
            format_args!("cluster \"{name}\": {what} at run time, version {version}"),
        );
    }
}
