//! TLS sessions with servers, kept per worker so that the next connection can resume one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use ngx::ffi::{
    ngx_int_t, ngx_peer_connection_t, ngx_ssl_get_session, ngx_ssl_set_session, SSL_SESSION_free,
    NGX_ERROR, NGX_OK, SSL_SESSION,
};

use super::peer::Tries;
use super::subsystem::Subsystem;
use crate::nginx::guard::guard;

/// A session that we hold.
struct Session(*mut SSL_SESSION);

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `save` got it with a reference of ours.
        unsafe { SSL_SESSION_free(self.0) }
    }
}

/// The most sessions that are kept.
const MOST: usize = 10_000;

thread_local! {
    /// The last session with each server, by cluster and address.
    static SESSIONS: RefCell<HashMap<(String, String), Session>> = RefCell::default();
}

/// Frees all sessions: to be called when the worker exits.
pub fn free_all() {
    SESSIONS.with_borrow_mut(HashMap::clear);
}

fn key<S: Subsystem>(tries: &Tries<S>) -> Option<(String, String)> {
    let cluster = tries.entry().name().to_owned();
    Some((cluster, tries.server()?.name().to_owned()))
}

/// Offers the server a session that it knows: nginx's `peer.set_session`.
pub(super) unsafe extern "C" fn set<S: Subsystem>(
    peer: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    guard(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls it with what `Tries::begin` has set, for a request it works on.
        let tries = unsafe { Tries::<S>::from_data(data) };
        let Some(key) = key(tries) else { return NGX_OK as ngx_int_t };
        SESSIONS.with_borrow(|sessions| match sessions.get(&key) {
            // SAFETY: the connection is one that nginx is about to start TLS on; OpenSSL takes a
            // reference of its own.
            Some(session) => unsafe { ngx_ssl_set_session((*peer).connection, session.0) },
            None => NGX_OK as ngx_int_t,
        })
    })
}

/// Keeps the session that was agreed on with the server: nginx's `peer.save_session`.
pub(super) unsafe extern "C" fn save<S: Subsystem>(
    peer: *mut ngx_peer_connection_t,
    data: *mut c_void,
) {
    guard((), || {
        // SAFETY: nginx calls it with what `Tries::begin` has set, for a request it works on.
        let tries = unsafe { Tries::<S>::from_data(data) };
        // SAFETY: the connection speaks TLS; a reference to the session comes with the result.
        let session = unsafe { ngx_ssl_get_session((*peer).connection) };
        if session.is_null() {
            return;
        }
        let session = Session(session);
        if let Some(key) = key(tries) {
            SESSIONS.with_borrow_mut(|sessions| {
                // Servers come and go: those of servers that are gone are not known to be.
                if sessions.len() >= MOST {
                    sessions.clear();
                }
                sessions.insert(key, session)
            });
        }
    });
}
