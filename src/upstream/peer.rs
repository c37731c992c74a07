//! The way of one request to a server: the callbacks that nginx has for it.

use std::cell::RefCell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{self, fn_addr_eq};
use std::rc::Rc;

use ngx::ffi::{
    ngx_int_t, ngx_msec_t, ngx_peer_connection_t, ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t,
    ngx_uint_t, NGX_BUSY, NGX_ERROR, NGX_LOG_ERR, NGX_LOG_WARN, NGX_OK, NGX_PEER_FAILED,
    NGX_PEER_NEXT,
};
use smallvec::SmallVec;

use super::entry::{Current, Entry};
use super::subsystem::{Answer, Subsystem};
use super::worker;
use crate::logic::balance::ring::Ring;
use crate::logic::order;
use crate::logic::settings::{Limits, Time, MAX_NAME};
use crate::nginx::guard::guard;
use crate::nginx::{log, pool, process};
use crate::shm::cluster::{Cluster, Ejected, Outcome};
use crate::shm::generation::{Generation, Level};
use crate::shm::select::{Levels, Picked, Request, Selected};
use crate::shm::server::Server;
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// What a request wants of its cluster, as its variables say.
#[derive(Clone, Copy, Default)]
pub struct Wish<'a> {
    /// The value of `checkups_order`; empty: all levels in their order.
    pub order: &'a [u8],
    /// The hash of the key; `None`: it has none.
    pub key: Option<u32>,
}

/// What a request knows of its tries. It lies in the pool of the request, and is dropped with it:
/// until then nginx refers to the names of the servers that the request went to.
pub struct Tries<S: Subsystem> {
    entry: Rc<Entry>,
    /// What held when the request began.
    current: Rc<Current>,
    cluster: &'static Cluster,
    root: &'static Root,
    slot: &'static Slot,
    session: *mut S::Session,
    pool: *mut ngx_pool_t,
    /// What nginx names in the log where no server is left.
    upstream: *mut ngx_str_t,
    /// The value of the order has the lifetime of the pool.
    wish: Wish<'static>,
    /// What the location allows, in milliseconds; 0: no limit.
    next_timeout: ngx_msec_t,
    order: RefCell<Ordered>,
    visited: Visited,
    /// Whether the last server visited is at work on the request.
    at_work: bool,
    /// Whether no server was left in the end.
    found_none: bool,
    /// How many tries were left before this one, whatever servers there are.
    allowed: usize,
    /// Whether the location allows fewer tries than the cluster.
    is_limited_by_location: bool,
    subsystem: PhantomData<S>,
}

/// The levels that a request may go to, of the generation that its order was last looked up in.
#[derive(Default)]
struct Ordered {
    version: u64,
    levels: Option<Levels>,
}

/// The servers that a request went to, each pinned.
#[derive(Default)]
struct Visited(SmallVec<[Try; 4]>);

/// One try.
struct Try {
    selected: Selected,
    /// What is special of the level, in the pool of the request.
    level: Option<&'static LevelNote>,
    /// When it began, in monotonic milliseconds.
    at: u64,
    /// Whether the server may not be tried again.
    done: bool,
}

/// What is to be remembered of a level that has a name or limits.
#[derive(Clone, Copy)]
struct LevelNote {
    name: Option<&'static str>,
    /// See [`crate::shm::generation::Level::tries`].
    tries: u32,
    /// See [`crate::shm::generation::Level::tries_timeout`].
    timeout: u64,
}

impl Try {
    fn level_name(&self) -> Option<&'static str> {
        self.level.and_then(|level| level.name)
    }

    /// The level as a log shows it: by its name, or else by its number.
    fn shown_level(&self) -> String {
        match self.level_name() {
            Some(name) => format!("\"{name}\""),
            None => (self.selected.level() + 1).to_string(),
        }
    }

    /// The limit of the level because of which the request went on to the next try in another level, or
    /// to none, although there was another server in this one.
    fn cut_off(&self, next: Option<&Self>) -> Option<String> {
        let (note, others) = (self.level?, self.selected.others);
        if note.tries != 0 && others.beyond() && !others.here() {
            return Some(format!("level {} tries={}", self.shown_level(), note.tries));
        }
        let went_on = next.is_some_and(|next| next.selected.level() != self.selected.level());
        (note.timeout != 0 && others.here() && went_on).then(|| self.shown_timeout())
    }

    fn shown_timeout(&self) -> String {
        let timeout = Time::milliseconds(self.level_timeout());
        format!("level {} tries_timeout={timeout}", self.shown_level())
    }

    /// See [`crate::shm::generation::Level::tries_timeout`].
    fn level_timeout(&self) -> u64 {
        self.level.map_or(0, |level| level.timeout)
    }
}

/// What a log or a variable says of one try.
pub struct Entered<'a> {
    /// The name of the cluster.
    pub cluster: &'a str,
    /// The name of the level, where it has one, and its number from 1 on; `None`: no server was left.
    pub level: Option<(Option<&'a str>, usize)>,
    /// The address of the server; `None`: none was left.
    pub server: Option<&'a str>,
    /// The number of the try in its cluster, from 1 on.
    pub number: usize,
}

/// A request at the moment at which it needs a server.
struct Asks<'a> {
    entry: &'a Entry,
    wish: &'a Wish<'a>,
    order: &'a RefCell<Ordered>,
    visited: &'a [Try],
    sticks_to: Option<&'a [u8]>,
}

impl Request for Asks<'_> {
    #[inline]
    fn is_plain(&self) -> bool {
        self.visited.is_empty() && self.wish.order.is_empty() && self.sticks_to.is_none()
    }

    #[inline]
    fn is_first(&self) -> bool {
        self.visited.is_empty()
    }

    fn levels(&self, generation: &Generation) -> Option<Levels> {
        if self.wish.order.is_empty() {
            return None;
        }
        let mut ordered = self.order.borrow_mut();
        if ordered.version != generation.version() {
            let levels = generation.levels();
            let name = |number: usize| levels[number].name();
            ordered.levels = order::levels(self.wish.order, levels.len(), name);
            ordered.version = generation.version();
        }
        ordered.levels.clone()
    }

    fn has_tried(&self, level: usize, server: &Server) -> bool {
        self.visited.iter().any(|visit| {
            visit.done && visit.selected.level() == level && ptr::eq(visit.selected.server, server)
        })
    }

    fn has_been_at(&self, server: &Server) -> bool {
        self.visited.iter().any(|visit| ptr::eq(visit.selected.server, server))
    }

    fn spent(&self, level: usize) -> (u32, u64) {
        let in_level = |visit: &&Try| visit.selected.level() == level;
        let tries = self.visited.iter().filter(in_level).filter(|visit| visit.done).count();
        let since = self.visited.iter().find(in_level).map_or(0, |visit| visit.at);
        (tries as u32, since)
    }

    fn sticks_to(&self) -> Option<&[u8]> {
        self.sticks_to
    }

    fn key(&self) -> Option<u32> {
        self.wish.key
    }

    fn with_ring<T>(
        &self,
        generation: &Generation,
        level: usize,
        walk: impl FnOnce(&Ring) -> T,
    ) -> T {
        walk(self.entry.rings.borrow_mut().of(generation, level))
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn now(&self) -> u64 {
        process::now()
    }
}

/// Selects a server as a request would, and sends nothing there: calls `found` with its address, and
/// the name and the number of its level from 1 on. `None`: no server may be used.
pub fn select_once<T>(
    entry: &Entry,
    wish: &Wish<'_>,
    found: impl FnOnce(&str, Option<&str>, usize) -> T,
) -> Option<T> {
    let ((root, slot), cluster) = (worker::place()?, entry.records.get()?);
    let visit = root.visit(slot);
    let order = RefCell::default();
    let asks = Asks { entry, wish, order: &order, visited: &[], sticks_to: None };
    let Picked { selected, level, .. } = cluster.select(slot, &visit, &asks)?;
    cluster.release(slot, &selected, Outcome::Unknown, process::now());
    let result = found(selected.server.name(), level.name(), selected.level() + 1);
    Cluster::unpin(slot, selected.server);
    Some(result)
}

impl<S: Subsystem> Drop for Tries<S> {
    fn drop(&mut self) {
        for visit in &self.visited.0 {
            Cluster::unpin(self.slot, visit.selected.server);
        }
    }
}

impl<S: Subsystem> Tries<S> {
    /// Prepares `peer` for a request: the callbacks, and how many servers it may try. `next_timeout`
    /// is for how long the location allows it to try another one, in milliseconds; 0: no limit.
    ///
    /// # Safety
    /// `peer`, `session` and `pool` are those of a request that begins; `upstream` and what the wish
    /// refers to live for as long as the request.
    ///
    /// # Errors
    /// Where there is no memory, or this process is none that handles requests.
    pub unsafe fn begin(
        peer: &mut ngx_peer_connection_t,
        session: *mut S::Session,
        pool: *mut ngx_pool_t,
        (entry, current): (Rc<Entry>, Rc<Current>),
        upstream: *mut ngx_str_t,
        wish: Wish<'static>,
        next_timeout: ngx_msec_t,
    ) -> Result<(), ()> {
        let ((root, slot), cluster) = (worker::place().ok_or(())?, entry.records.get().ok_or(())?);
        let most = most_tries(&current);
        // SAFETY: the pool is valid; the memory that comes with the cleanup is aligned for any of
        // our types, and lives as long as the request.
        let tries = unsafe {
            let cleanup = ngx_pool_cleanup_add(pool, size_of::<Self>());
            let tries = cleanup.as_ref().ok_or(())?.data.cast::<Self>();
            tries.write(Self {
                entry,
                current,
                cluster,
                root,
                slot,
                session,
                pool,
                upstream,
                wish,
                next_timeout,
                order: RefCell::default(),
                visited: Visited::default(),
                at_work: false,
                found_none: false,
                allowed: 0,
                is_limited_by_location: false,
                subsystem: PhantomData,
            });
            (*cleanup).handler = Some(end::<S>);
            tries
        };
        peer.data = tries.cast();
        peer.get = Some(get::<S>);
        peer.free = Some(free::<S>);
        peer.tries = most;
        #[cfg(ngx_feature = "ssl")]
        {
            peer.set_session = Some(super::session::set::<S>);
            peer.save_session = Some(super::session::save::<S>);
        }
        Ok(())
    }

    /// # Safety
    /// `data` is what `begin` set, of a request that nginx works on.
    #[inline]
    pub(super) unsafe fn from_data<'a>(data: *mut c_void) -> &'a mut Self {
        // SAFETY: as the caller says; nginx calls one callback of a request at a time.
        unsafe { &mut *data.cast() }
    }

    /// Gives all tries of a request to `see`, cluster by cluster in the order in which the request
    /// came to them.
    ///
    /// # Safety
    /// `session` is one that nginx works on, and `pool` is its pool.
    pub unsafe fn of_session(
        session: *mut S::Session,
        pool: *mut ngx_pool_t,
        mut see: impl FnMut(&mut dyn Iterator<Item = Entered<'_>>),
    ) {
        let mut found: SmallVec<[&Self; 4]> = SmallVec::new();
        // SAFETY: the cleanups are in the pool; one with our handler has our data. A subrequest has
        // the pool of the request.
        unsafe {
            let mut next = (*pool).cleanup.cast_const();
            while let Some(cleanup) = next.as_ref() {
                let ours: unsafe extern "C" fn(*mut c_void) = end::<S>;
                if cleanup.handler.is_some_and(|handler| fn_addr_eq(handler, ours)) {
                    let tries = &*cleanup.data.cast::<Self>();
                    if ptr::eq(tries.session, session) {
                        found.push(tries);
                    }
                }
                next = cleanup.next;
            }
        }
        for tries in found.iter().rev() {
            see(&mut tries.entered());
        }
    }

    fn entered(&self) -> impl Iterator<Item = Entered<'_>> {
        let cluster = self.entry.name();
        let visited = self.visited.0.iter().enumerate().map(move |(index, visit)| Entered {
            cluster,
            level: Some((visit.level_name(), visit.selected.level() + 1)),
            server: Some(visit.selected.server.name()),
            number: index + 1,
        });
        let number = self.visited.0.len() + 1;
        let none = Entered { cluster, level: None, server: None, number };
        visited.chain(self.found_none.then_some(none))
    }

    /// The cluster of the request.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The server of the try at work.
    pub(super) fn server(&self) -> Option<&'static Server> {
        self.visited.0.last().filter(|_| self.at_work).map(|visit| visit.selected.server)
    }

    #[inline]
    fn get(&mut self, peer: &mut ngx_peer_connection_t) -> ngx_int_t {
        peer.set_cached(0);
        peer.connection = ptr::null_mut();

        let most = peer.tries;
        if self.visited.0.is_empty() {
            // For the first try nginx may have lowered it, to proxy_next_upstream_tries.
            self.is_limited_by_location = most < most_tries(&self.current);
        }
        self.allowed = most;
        let visit = self.root.visit(self.slot);
        // SAFETY: nginx has set the hint for this call.
        let sticks_to = unsafe { hint(peer) };
        let asks = Asks {
            entry: &self.entry,
            wish: &self.wish,
            order: &self.order,
            visited: &self.visited.0,
            sticks_to,
        };
        let Some(picked) = self.cluster.select(self.slot, &visit, &asks) else {
            self.found_none = true;
            peer.name = self.upstream;
            let why =
                if self.current.is_deleted { "it was deleted" } else { "no servers available" };
            self.complain(peer, format_args!("{why}"));
            return NGX_BUSY as ngx_int_t;
        };
        let began = self.enter(peer, &picked);
        let selected = picked.selected;
        drop(visit);

        // nginx looks at `tries` before it retries: where it is 1, the answer of this server is the
        // one that the client gets. It is looked at anew for each try: servers come and go.
        peer.tries = if selected.others.is_some() { most } else { most.min(1) };
        let server = selected.server;
        let address = server.address();
        peer.sockaddr = address.as_ptr().cast_mut().cast();
        peer.socklen = address.len() as _;
        peer.name = ptr::from_ref(server.name_ref()).cast_mut().cast();
        server.statistics().select(began.at);
        self.at_work = true;
        self.visited.0.push(began);
        NGX_OK as ngx_int_t
    }

    /// What is to be remembered of a try that begins.
    #[inline]
    fn enter(&self, peer: &mut ngx_peer_connection_t, picked: &Picked<'_>) -> Try {
        let Picked { selected, level, .. } = *picked;
        #[cfg(ngx_upstream_sid)]
        // SAFETY: the pool is that of the request, and outlives the try.
        if let Some(sid) = unsafe { pool::copy_string(self.pool, picked.peer.sticky()) } {
            peer.sid = sid;
        }
        #[cfg(not(ngx_upstream_sid))]
        let _ = peer;
        let level = if level.is_plain() { None } else { self.note(level) };
        Try { selected, level, at: process::now(), done: false }
    }

    #[cold]
    fn note(&self, level: &Level) -> Option<&'static LevelNote> {
        let (tries, timeout) = (level.tries, level.tries_timeout);
        // SAFETY: the pool is that of the request, and outlives the try.
        unsafe {
            let name = level.name().and_then(|name| pool::copy_str(self.pool, name));
            pool::place(self.pool, LevelNote { name, tries, timeout })
        }
    }

    fn free(&mut self, peer: &mut ngx_peer_connection_t, state: ngx_uint_t) {
        if !std::mem::take(&mut self.at_work) {
            return;
        }
        let Some(visit) = self.visited.0.last_mut() else { return };
        let (selected, at) = (visit.selected, visit.at);

        let failed = state & NGX_PEER_FAILED as ngx_uint_t != 0;
        // SAFETY: nginx works on the request: it has just called us for it.
        let stale =
            failed && peer.cached() != 0 && unsafe { S::connection_was_stale(self.session) };
        let counts = |status| self.current.settings.fail_status.contains(status);
        let answer = if stale {
            Answer { outcome: Outcome::Unknown, is_refused: false }
        } else if failed {
            Answer { outcome: Outcome::Failure, is_refused: true }
        } else {
            // SAFETY: likewise.
            unsafe { S::answer(self.session, counts) }
        };
        if state & (NGX_PEER_FAILED | NGX_PEER_NEXT) as ngx_uint_t != 0 {
            // Where only a kept connection was stale, the server may be tried once more. That ends:
            // each such try takes a connection out of the cache.
            visit.done = !stale;
        }
        // Where no server was left to choose from, 0 ends the request. Otherwise it is what the next
        // try is allowed. A stale connection was no try: nginx adds 1 itself.
        let left = self.allowed.saturating_sub(1);
        let level_is_over = !stale && self.level_is_over(peer);
        let is_over = !stale && (peer.tries <= 1 || level_is_over);
        peer.tries = if is_over { 0 } else { left };
        if answer.is_refused {
            self.explain(peer, level_is_over);
        }

        let now = process::now();
        // SAFETY: nginx works on the request: it has just called us for it, and for this server.
        unsafe {
            S::count(self.session, selected.server.statistics(), now.wrapping_sub(at));
        }
        let ejected = self.cluster.release(self.slot, &selected, answer.outcome, now);
        if let Some(ejected) = ejected {
            report_ejection(self.entry.name(), selected.server.name(), ejected);
        }
    }

    /// Whether the time of the level is over, and there is no other level.
    fn level_is_over(&self, peer: &ngx_peer_connection_t) -> bool {
        let Some(last) = self.visited.0.last() else { return false };
        if last.level_timeout() == 0 {
            return false;
        }
        let level = last.selected.level();
        let first = self.visited.0.iter().find(|visit| visit.selected.level() == level);
        let since = first.map_or(last.at, |first| first.at);
        peer.tries > 1
            && !last.selected.others.later()
            && process::now().saturating_sub(since) >= last.level_timeout()
    }

    /// Logs which limit ends the request after a failed try, where it is one.
    fn explain(&self, peer: &ngx_peer_connection_t, level_is_over: bool) {
        // SAFETY: nginx works on the request: it has just called us for it.
        if !unsafe { S::may_be_retried(self.session) } {
            return;
        }
        if let Some(limit) = self.limit(peer, level_is_over) {
            let tries = self.visited.0.len();
            self.complain(peer, format_args!("no further try after {tries}: {limit}"));
        }
    }

    /// The limit that keeps the request from another try. `None`: none does.
    fn limit(&self, peer: &ngx_peer_connection_t, level_is_over: bool) -> Option<String> {
        let last = self.visited.0.last()?;
        let Limits { tries, tries_timeout } = self.current.settings.limits;
        if !last.selected.others.is_some() {
            // Is there one in a level that allowed no more tries, or no more time?
            let next = self.visited.0.iter().skip(1).map(Some).chain([None]);
            let mut visited: SmallVec<[_; 8]> = self.visited.0.iter().zip(next).collect();
            visited.reverse();
            return visited.into_iter().find_map(|(visit, next)| visit.cut_off(next));
        }
        if self.allowed <= 1 {
            return match tries {
                Some(tries) if !self.is_limited_by_location => Some(format!("tries={tries}")),
                _ => Some("proxy_next_upstream_tries".to_owned()),
            };
        }
        let elapsed = process::now().saturating_sub(peer.start_time as u64);
        let own = tries_timeout.map_or(u64::MAX, Time::as_milliseconds);
        let location = Some(self.next_timeout as u64).filter(|&own| own != 0).unwrap_or(u64::MAX);
        if elapsed >= own.min(location) {
            return match tries_timeout {
                Some(timeout) if own <= location => Some(format!("tries_timeout={timeout}")),
                _ => Some("proxy_next_upstream_timeout".to_owned()),
            };
        }
        level_is_over.then(|| last.shown_timeout())
    }

    /// Writes a line to the log of the request.
    #[cold]
    fn complain(&self, peer: &ngx_peer_connection_t, message: std::fmt::Arguments<'_>) {
        let name = self.entry.name();
        // SAFETY: nginx has set it to the log of the client's connection.
        unsafe {
            log::write_to(peer.log, NGX_LOG_ERR, format_args!("cluster \"{name}\": {message}"));
        }
    }
}

/// What a request knows of its cluster where there is none.
#[derive(Clone, Copy)]
struct Unknown {
    name: &'static str,
    upstream: *mut ngx_str_t,
}

/// Prepares `peer` for a request to a cluster that there is not: no server is selected.
///
/// # Safety
/// `peer` and `pool` are those of a request that begins; `upstream` lives for as long as the request.
///
/// # Errors
/// Where there is no memory.
pub unsafe fn begin_unknown(
    peer: &mut ngx_peer_connection_t,
    pool: *mut ngx_pool_t,
    name: &[u8],
    upstream: *mut ngx_str_t,
) -> Result<(), ()> {
    // A client may have named it: what it sent is not written to the log as it is.
    let end = name.len().min(MAX_NAME);
    let shown = name[..end].escape_ascii().to_string();
    // SAFETY: the pool is that of the request, and outlives its tries.
    let unknown = unsafe {
        let name = pool::copy_str(pool, &shown).ok_or(())?;
        pool::place(pool, Unknown { name, upstream }).ok_or(())?
    };
    peer.data = ptr::from_ref(unknown).cast_mut().cast();
    peer.get = Some(get_unknown);
    peer.free = Some(free_unknown);
    peer.tries = 1;
    Ok(())
}

/// Selects no server: nginx's `peer.get`.
unsafe extern "C" fn get_unknown(peer: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    guard(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls it with what `begin_unknown` has set, for a request it works on, whose
        // log it has set.
        unsafe {
            let (peer, unknown) = (&mut *peer, &*data.cast::<Unknown>());
            peer.set_cached(0);
            peer.connection = ptr::null_mut();
            peer.name = unknown.upstream;
            let message = format_args!("cluster \"{}\": unknown cluster", unknown.name);
            log::write_to(peer.log, NGX_LOG_ERR, message);
        }
        NGX_BUSY as ngx_int_t
    })
}

/// A try ended that never was: nginx's `peer.free`.
unsafe extern "C" fn free_unknown(
    _peer: *mut ngx_peer_connection_t,
    _data: *mut c_void,
    _state: ngx_uint_t,
) {
}

/// How many tries a request to the cluster has.
fn most_tries(current: &Current) -> ngx_uint_t {
    current.settings.limits.tries.map_or(ngx_uint_t::MAX / 2, |tries| tries as ngx_uint_t)
}

/// What the request is to stick to.
///
/// # Safety
/// `peer` is one that nginx wants a server for.
#[cfg(ngx_upstream_sid)]
unsafe fn hint<'a>(peer: &ngx_peer_connection_t) -> Option<&'a [u8]> {
    // SAFETY: null, or a string that is valid during the call.
    let hint = unsafe { peer.hint.as_ref().map(|hint| crate::nginx::conf::bytes(*hint)) };
    hint.filter(|hint| !hint.is_empty())
}

/// # Safety
/// None is needed here.
#[cfg(not(ngx_upstream_sid))]
unsafe fn hint<'a>(_peer: &ngx_peer_connection_t) -> Option<&'a [u8]> {
    None
}

/// Logs that failed requests put a server out of use.
pub fn report_ejection(cluster: &str, server: &str, ejected: Ejected) {
    log::write(
        NGX_LOG_WARN,
        format_args!(
            "cluster \"{cluster}\", server \"{server}\": out of use for {}, failed requests: {}",
            Time::milliseconds(ejected.milliseconds),
            ejected.failures,
        ),
    );
}

/// The request is over: nginx's cleanup of its pool.
unsafe extern "C" fn end<S: Subsystem>(data: *mut c_void) {
    // SAFETY: `begin` has written it, and nginx calls this once.
    guard((), || unsafe { data.cast::<Tries<S>>().drop_in_place() });
}

/// Selects a server: nginx's `peer.get`.
unsafe extern "C" fn get<S: Subsystem>(
    peer: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    guard(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls it with what `begin` has set, for a request it works on.
        let (tries, peer) = unsafe { (Tries::<S>::from_data(data), &mut *peer) };
        tries.get(peer)
    })
}

/// A try ended: nginx's `peer.free`.
unsafe extern "C" fn free<S: Subsystem>(
    peer: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    guard((), || {
        // SAFETY: nginx calls it with what `begin` has set, for a request it works on.
        let (tries, peer) = unsafe { (Tries::<S>::from_data(data), &mut *peer) };
        tries.free(peer, state);
    });
}
