//! The way of one request to a server: the callbacks that nginx has for it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

use ngx::ffi::{
    ngx_int_t, ngx_peer_connection_t, ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t, ngx_uint_t,
    NGX_BUSY, NGX_ERROR, NGX_LOG_WARN, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT,
};
use smallvec::SmallVec;

use super::configuration::Entry;
use super::subsystem::Subsystem;
use super::worker;
use crate::nginx::guard::guard;
use crate::nginx::{log, process};
use crate::shm::cluster::{Cluster, Outcome, Selected, Tried};
use crate::shm::server::Server;
use crate::shm::worker::Slot;
use crate::shm::zone::Root;

/// What a request knows of its tries. It lies in the pool of the request, and is dropped with it:
/// until then nginx refers to the names of the servers that the request went to.
pub struct Tries<S: Subsystem> {
    entry: &'static Entry,
    cluster: &'static Cluster,
    root: &'static Root,
    slot: &'static Slot,
    session: *mut S::Session,
    /// What nginx names in the log where no server is left.
    upstream: *mut ngx_str_t,
    visited: Visited,
    /// Whether the last server visited is at work on the request.
    at_work: bool,
    /// How many tries were left before this one, whatever servers there are.
    allowed: usize,
    subsystem: PhantomData<S>,
}

/// The servers that a request went to, each pinned.
#[derive(Default)]
struct Visited(SmallVec<[Visit; 4]>);

/// One try.
struct Visit {
    selected: Selected,
    /// Whether the server may not be tried again.
    done: bool,
}

impl Tried for Visited {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, level: usize, server: &Server) -> bool {
        self.0.iter().any(|visit| visit.done && visit.is_to(level, server))
    }
}

impl Visit {
    fn is_to(&self, level: usize, server: &Server) -> bool {
        self.selected.level() == level && ptr::eq(self.selected.server, server)
    }
}

impl<S: Subsystem> Drop for Tries<S> {
    fn drop(&mut self) {
        for visit in &self.visited.0 {
            Cluster::unpin(self.slot, visit.selected.server);
        }
    }
}

impl<S: Subsystem> Tries<S> {
    /// Prepares `peer` for a request: the callbacks, and how many servers it may try.
    ///
    /// # Safety
    /// `peer`, `session` and `pool` are those of a request that begins; `upstream` lives for as
    /// long as the request.
    ///
    /// # Errors
    /// Where there is no memory, or this process is none that handles requests.
    pub unsafe fn begin(
        peer: &mut ngx_peer_connection_t,
        session: *mut S::Session,
        pool: *mut ngx_pool_t,
        entry: &'static Entry,
        upstream: *mut ngx_str_t,
    ) -> Result<(), ()> {
        let ((root, slot), cluster) = (worker::place().ok_or(())?, entry.records.get().ok_or(())?);
        // SAFETY: the pool is valid; the memory that comes with the cleanup is aligned for any of
        // our types, and lives as long as the request.
        let tries = unsafe {
            let cleanup = ngx_pool_cleanup_add(pool, size_of::<Self>());
            let tries = cleanup.as_ref().ok_or(())?.data.cast::<Self>();
            tries.write(Self {
                entry,
                cluster,
                root,
                slot,
                session,
                upstream,
                visited: Visited::default(),
                at_work: false,
                allowed: 0,
                subsystem: PhantomData,
            });
            (*cleanup).handler = Some(end::<S>);
            tries
        };
        peer.data = tries.cast();
        peer.get = Some(get::<S>);
        peer.free = Some(free::<S>);
        peer.tries = entry.settings.tries.map_or(ngx_uint_t::MAX / 2, |tries| tries as ngx_uint_t);
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

    /// The cluster of the request.
    pub(super) fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// The server of the try at work.
    pub(super) fn server(&self) -> Option<&'static Server> {
        self.visited.0.last().filter(|_| self.at_work).map(|visit| visit.selected.server)
    }

    #[inline]
    fn get(&mut self, peer: &mut ngx_peer_connection_t) -> ngx_int_t {
        peer.set_cached(0);
        peer.connection = ptr::null_mut();

        // For the first try nginx may have lowered it, to proxy_next_upstream_tries.
        let most = peer.tries;
        self.allowed = most;
        let visit = self.root.visit(self.slot);
        let selected = self.cluster.select(self.slot, &visit, &self.visited, process::now, most);
        drop(visit);
        let Some(selected) = selected else {
            peer.name = self.upstream;
            return NGX_BUSY as ngx_int_t;
        };

        // nginx looks at `tries` before it retries: where it is 1, the answer of this server is the
        // one that the client gets. It is counted anew for each try: servers come and go.
        peer.tries = most.min(selected.choices as ngx_uint_t);
        let server = selected.server;
        let address = server.address();
        peer.sockaddr = address.as_ptr().cast_mut().cast();
        peer.socklen = address.len() as _;
        peer.name = ptr::from_ref(server.name_ref()).cast_mut().cast();
        self.visited.0.push(Visit { selected, done: false });
        self.at_work = true;
        NGX_OK as ngx_int_t
    }

    fn free(&mut self, peer: &mut ngx_peer_connection_t, state: ngx_uint_t) {
        if !std::mem::take(&mut self.at_work) {
            return;
        }
        let Some(visit) = self.visited.0.last_mut() else { return };
        let selected = visit.selected;

        let failed = state & NGX_PEER_FAILED as ngx_uint_t != 0;
        // SAFETY: nginx works on the request: it has just called us for it.
        let stale =
            failed && peer.cached() != 0 && unsafe { S::connection_was_stale(self.session) };
        // Where no server was left to choose from, 0 ends the request. Otherwise it is what the next try
        // is allowed. A stale connection was no try: nginx adds 1 itself.
        let left = self.allowed.saturating_sub(1);
        peer.tries = if stale || peer.tries > 1 { left } else { 0 };
        let outcome = if stale {
            Outcome::Unknown
        } else if failed {
            Outcome::Failure
        } else {
            // SAFETY: likewise.
            unsafe { S::outcome_of_answer(self.session) }
        };
        if state & (NGX_PEER_FAILED | NGX_PEER_NEXT) as ngx_uint_t != 0 {
            // Where only a kept connection was stale, the server may be tried once more. That ends:
            // each such try takes a connection out of the cache.
            visit.done = !stale;
        }
        let ejected = self.cluster.release(self.slot, &selected, outcome, process::now());
        if let Some(ejected) = ejected {
            log::write(
                NGX_LOG_WARN,
                format_args!(
                    "cluster \"{}\", server \"{}\": out of use for {}, failed requests: {}",
                    self.entry.settings.name,
                    selected.server.name(),
                    crate::logic::settings::Time::milliseconds(ejected.milliseconds),
                    ejected.failures,
                ),
            );
        }
    }
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
