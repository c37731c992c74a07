//! The way of one request to a server: the callbacks that nginx has for it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

use ngx::ffi::{
    ngx_int_t, ngx_palloc, ngx_peer_connection_t, ngx_pool_t, ngx_str_t, ngx_uint_t, NGX_BUSY,
    NGX_ERROR, NGX_LOG_WARN, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT,
};

use super::configuration::Entry;
use super::subsystem::Subsystem;
use crate::nginx::guard::guard;
use crate::nginx::{log, process};
use crate::shm::cluster::{Cluster, Outcome, Selected};
use crate::shm::server::Server;

/// What a request knows of its tries. It lies in the pool of the request and is not dropped: there
/// is nothing to give back.
pub struct Tries<S: Subsystem> {
    entry: &'static Entry,
    session: *mut S::Session,
    pool: *mut ngx_pool_t,
    /// What nginx names in the log where no server is left.
    upstream: *mut ngx_str_t,
    selected: Option<Selected>,
    tried: *const Tried,
    subsystem: PhantomData<S>,
}

/// A server that the request went to, and those before.
struct Tried {
    server: *const Server,
    level: usize,
    /// Whether it may be tried once more: its connection was a kept one that had been closed.
    once_more: bool,
    next: *const Tried,
}

impl<S: Subsystem> Tries<S> {
    /// Prepares `peer` for a request: the callbacks, and how many servers it may try.
    ///
    /// # Safety
    /// `peer`, `session` and `pool` are those of a request that begins; `upstream` lives for as
    /// long as the request.
    ///
    /// # Errors
    /// Where there is no memory.
    pub unsafe fn begin(
        peer: &mut ngx_peer_connection_t,
        session: *mut S::Session,
        pool: *mut ngx_pool_t,
        entry: &'static Entry,
        upstream: *mut ngx_str_t,
    ) -> Result<(), ()> {
        // SAFETY: the pool is valid; what it gives is aligned for any of our types, and lives as
        // long as the request.
        let tries = unsafe {
            let tries = ngx_palloc(pool, size_of::<Self>()).cast::<Self>();
            if tries.is_null() {
                return Err(());
            }
            tries.write(Self {
                entry,
                session,
                pool,
                upstream,
                selected: None,
                tried: ptr::null(),
                subsystem: PhantomData,
            });
            tries
        };
        peer.data = tries.cast();
        peer.get = Some(get::<S>);
        peer.free = Some(free::<S>);
        peer.tries = entry.most_tries() as ngx_uint_t;
        #[cfg(ngx_feature = "ssl")]
        {
            peer.set_session = Some(super::session::set::<S>);
            peer.save_session = Some(super::session::save::<S>);
        }
        Ok(())
    }

    /// # Safety
    /// `data` is what `begin` set, of a request that nginx works on.
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
        self.selected.as_ref().map(|selected| selected.server)
    }

    fn records(&self) -> Option<&'static Cluster> {
        self.entry.records.get()
    }

    fn tried(&self) -> impl Iterator<Item = &Tried> {
        let mut next = self.tried;
        std::iter::from_fn(move || {
            // SAFETY: the list lies in the pool of the request.
            let tried = unsafe { next.as_ref() }?;
            next = tried.next;
            Some(tried)
        })
    }

    fn may_not_try(&self, level: usize, server: &Server) -> bool {
        // The newest entry for a server comes first, so that a second try settles it.
        self.tried()
            .find(|tried| tried.level == level && ptr::eq(tried.server, server))
            .is_some_and(|tried| !tried.once_more)
    }

    fn remember(&mut self, selected: &Selected, once_more: bool) {
        let once_more = once_more
            && !self.tried().any(|tried| {
                tried.level == selected.level && ptr::eq(tried.server, selected.server)
            });
        // SAFETY: the pool is that of the request.
        unsafe {
            let tried = ngx_palloc(self.pool, size_of::<Tried>()).cast::<Tried>();
            // Without memory the server may be tried again: the count of tries ends it.
            if !tried.is_null() {
                tried.write(Tried {
                    server: selected.server,
                    level: selected.level,
                    once_more,
                    next: self.tried,
                });
                self.tried = tried;
            }
        }
    }

    fn get(&mut self, peer: &mut ngx_peer_connection_t) -> ngx_int_t {
        peer.set_cached(0);
        peer.connection = ptr::null_mut();

        let most = peer.tries.max(1);
        let selected = self.records().and_then(|records| {
            let tried = |level: usize, server: &Server| self.may_not_try(level, server);
            records.select(tried, process::now(), most)
        });
        let Some(selected) = selected else {
            peer.name = self.upstream;
            return NGX_BUSY as ngx_int_t;
        };

        // nginx looks at `tries` before it retries: where it is 1, the answer of this server is the
        // one that the client gets.
        peer.tries = peer.tries.min(selected.choices as ngx_uint_t);
        let address = selected.server.address();
        peer.sockaddr = address.as_ptr().cast_mut().cast();
        peer.socklen = address.len() as _;
        peer.name = ptr::from_ref(selected.server.name_ref()).cast_mut().cast();
        self.selected = Some(selected);
        NGX_OK as ngx_int_t
    }

    fn free(&mut self, peer: &mut ngx_peer_connection_t, state: ngx_uint_t) {
        peer.tries = peer.tries.saturating_sub(1);
        let (Some(selected), Some(records)) = (self.selected.take(), self.records()) else {
            return;
        };

        let failed = state & NGX_PEER_FAILED as ngx_uint_t != 0;
        // SAFETY: nginx works on the request: it has just called us for it.
        let stale =
            failed && peer.cached() != 0 && unsafe { S::connection_was_stale(self.session) };
        let outcome = if stale {
            Outcome::Unknown
        } else if failed {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        if state & (NGX_PEER_FAILED | NGX_PEER_NEXT) as ngx_uint_t != 0 {
            self.remember(&selected, stale);
        }
        if let Some(ejected) = records.release(&selected, outcome, process::now()) {
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

impl Entry {
    /// How many servers a request to the cluster may try.
    fn most_tries(&self) -> usize {
        let servers = self.settings.levels.iter().map(|level| level.servers.len()).sum::<usize>();
        let tries = self.settings.tries.map_or(usize::MAX, |tries| tries as usize);
        servers.min(tries).max(1)
    }
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
