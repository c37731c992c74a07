//! Addresses of names, by the `resolver` of the configuration.

use std::ffi::CStr;
use std::future::Future;
use std::mem::{self, offset_of, MaybeUninit};
use std::pin::Pin;
use std::ptr::{self, addr_of_mut, NonNull};
use std::slice;
use std::task::{Context, Poll, Waker};

use ngx::ffi::{
    ngx_delete_posted_event, ngx_event_t, ngx_int_t, ngx_msec_t, ngx_post_event,
    ngx_posted_next_events, ngx_resolve_name, ngx_resolve_name_done, ngx_resolve_start,
    ngx_resolver_ctx_t, ngx_resolver_strerror, ngx_resolver_t, ngx_sock_ntop, ngx_str_t, sockaddr,
    NGX_HTTP_MODULE, NGX_OK, NGX_RESOLVE_NXDOMAIN,
};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};
use ngx::log::ngx_cycle_log;
use thiserror::Error;

use super::conf::{self, Conf};
use super::guard::guard;
use super::process;

/// What nginx waits for an answer where nothing is said, in milliseconds.
const DEFAULT_TIMEOUT: ngx_msec_t = 30_000;

/// The longest name that DNS knows, in bytes.
const MAX_NAME: usize = 255;

/// The longest text of a socket address that nginx writes, that of a socket in a file aside.
const MAX_TEXT: usize = 64;

/// A resolver of the configuration. It is valid for as long as the cycle.
#[derive(Clone, Copy, Debug)]
pub struct Resolver {
    resolver: NonNull<ngx_resolver_t>,
    timeout: ngx_msec_t,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// At least one, each once; by priority, then by address. The same answer gives the same list.
    pub addresses: Vec<Found>,
    /// For how long that holds, in seconds; at least 1.
    pub valid_for: u64,
    /// The names that a service has servers at and that have no address now, each with the reason.
    pub unresolved: Vec<(String, ResolveError)>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The socket address, as the system has it.
    pub address: Vec<u8>,
    /// The same to read: `10.0.0.1:80`, `[::1]:80`.
    pub text: String,
    /// What the service says of it, where one was asked for.
    pub service: Option<Service>,
}

/// What an SRV record says of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name of the server.
    pub name: String,
    /// Those with the lowest number are to be used as long as one of them can be.
    pub priority: u16,
    /// The share among those of the same priority; may be 0.
    pub weight: u16,
}

/// Why a name stands for nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// There is no such name, or it has no addresses.
    #[error("Host not found")]
    NotFound,
    /// The name server did not say: what nginx calls it.
    #[error("{0}")]
    Failed(&'static str),
    /// No answer came within so many milliseconds.
    #[error("timed out after {}", Milliseconds(*.0))]
    TimedOut(u64),
    /// This host: no memory.
    #[error("no memory to spare for a resolver")]
    Local,
}

/// Milliseconds to read: `30s`, `1500ms`.
struct Milliseconds(u64);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            whole if whole % 1000 == 0 => write!(f, "{}s", whole / 1000),
            other => write!(f, "{other}ms"),
        }
    }
}

impl ResolveError {
    /// What a state of nginx's resolver stands for.
    fn of_state(state: ngx_int_t, timeout: ngx_msec_t) -> Self {
        match i32::try_from(state) {
            Ok(libc::ETIMEDOUT) => Self::TimedOut(timeout as u64),
            Ok(code) if code == NGX_RESOLVE_NXDOMAIN as i32 => Self::NotFound,
            _ => {
                // SAFETY: nginx returns one of its literals, for any number.
                let text = unsafe { CStr::from_ptr(ngx_resolver_strerror(state)) };
                Self::Failed(text.to_str().unwrap_or("Unknown error"))
            }
        }
    }
}

impl Resolver {
    /// That of the `http` block. To be called when the block was read, before its handler returns.
    /// `None`: it has none.
    pub fn of_http(cf: &mut Conf) -> Option<Self> {
        // SAFETY: the configuration is being read.
        let cf = unsafe { &*cf.as_ptr() };
        // Elsewhere the context is that of another kind of block.
        if cf.module_type != NGX_HTTP_MODULE as usize {
            return None;
        }
        let location = NgxHttpCoreModule::location_conf(cf)?;
        let resolver = NonNull::new(location.resolver)?;
        // SAFETY: it is made, in the pool of the cycle. nginx makes one without servers where none is
        // configured.
        if unsafe { resolver.as_ref() }.connections.nelts == 0 {
            return None;
        }
        let timeout = match location.resolver_timeout {
            ngx_msec_t::MAX => DEFAULT_TIMEOUT,
            timeout => timeout,
        };
        Some(Self { resolver, timeout })
    }

    /// Finds the addresses of `host`, each with `port`; or those of a service, which has ports of its
    /// own: `http` stands for `_http._tcp`, what has a dot for itself. The name may be known already.
    ///
    /// A service takes up to twice the timeout. To be dropped before the worker exits; the questions
    /// for the servers of a service keep a worker from exiting until they time out.
    pub async fn resolve(
        &self,
        host: &str,
        service: Option<&str>,
        port: u16,
    ) -> Result<Resolved, ResolveError> {
        let service = service.unwrap_or_default();
        if host.is_empty() || host.len() + service.len() > MAX_NAME {
            return Err(ResolveError::NotFound);
        }
        Resolution::start(*self, host, service, port)?.await
    }
}

/// A question at work.
struct Resolution {
    state: NonNull<State>,
}

/// What nginx refers to: it does not move, and no reference to it is kept while nginx runs.
///
/// nginx goes on with its list of those who asked the same after it has called the handler of one,
/// and a task that went on at once could take others off that list by dropping their questions. So
/// the handler has the task woken in the next turn of the event loop.
#[repr(C)]
struct State {
    /// nginx takes what the `data` of an event points to for the start of a connection when it writes
    /// its debug log.
    ident: [usize; 4],
    event: ngx_event_t,
    /// Null: nginx is through with it.
    context: *mut ngx_resolver_ctx_t,
    /// nginx makes it lower case, in place.
    host: Vec<u8>,
    service: Vec<u8>,
    port: u16,
    timeout: ngx_msec_t,
    outcome: Option<Result<Resolved, ResolveError>>,
    waker: Option<Waker>,
}

impl Resolution {
    fn start(
        resolver: Resolver,
        host: &str,
        service: &str,
        port: u16,
    ) -> Result<Self, ResolveError> {
        // SAFETY: the resolver is valid in a worker of its cycle, and has servers.
        let context = unsafe { ngx_resolve_start(resolver.resolver.as_ptr(), ptr::null_mut()) };
        if context.is_null() {
            return Err(ResolveError::Local);
        }
        let state = Box::into_raw(Box::new(State {
            ident: [0; 4],
            // SAFETY: zeros are what nginx's events start from.
            event: unsafe { mem::zeroed() },
            context,
            host: host.to_ascii_lowercase().into_bytes(),
            service: service.to_ascii_lowercase().into_bytes(),
            port,
            timeout: resolver.timeout,
            outcome: None,
            waker: None,
        }));
        // SAFETY: both are new, and ours. The state outlives the context: the context is done with in
        // the handler, or when the state is dropped. The handler may be called before this returns;
        // no reference to the state is alive then. Where nginx fails, it has freed the context.
        unsafe {
            (*state).event.data = state.cast();
            (*state).event.handler = Some(on_turn);
            (*state).event.log = ngx_cycle_log().as_ptr();
            let [host, service] = [addr_of_mut!((*state).host), addr_of_mut!((*state).service)]
                .map(|bytes| {
                    let bytes = &mut *bytes;
                    ngx_str_t { len: bytes.len(), data: bytes.as_mut_ptr() }
                });
            (*context).name = host;
            (*context).service = service;
            (*context).timeout = resolver.timeout;
            (*context).set_cancelable(1);
            (*context).handler = Some(on_answer);
            (*context).data = state.cast();
            let this = Self { state: NonNull::new_unchecked(state) };
            if ngx_resolve_name(context) != NGX_OK as ngx_int_t {
                (*state).context = ptr::null_mut();
                return Err(ResolveError::Local);
            }
            Ok(this)
        }
    }
}

impl Future for Resolution {
    type Output = Result<Resolved, ResolveError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the state lives as long as this; nginx does not run meanwhile.
        let state = unsafe { &mut *self.state.as_ptr() };
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Resolution {
    fn drop(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: it was made by `start`, nobody else drops it, and after these lines nginx knows of
        // it no more. Its context is either at work, or null.
        unsafe {
            let context = (*state).context;
            if !context.is_null() {
                ngx_resolve_name_done(context);
            }
            if (*state).event.posted() != 0 {
                ngx_delete_posted_event(addr_of_mut!((*state).event));
            }
            drop(Box::from_raw(state));
        }
    }
}

/// nginx has an answer.
unsafe extern "C" fn on_answer(context: *mut ngx_resolver_ctx_t) {
    guard((), || {
        // SAFETY: nginx calls it once, with a context that `start` made, whose state lives until the
        // context is done with. What was found is copied before that.
        unsafe {
            let state = (*context).data.cast::<State>();
            let outcome = outcome(&*context, (*state).port, (*state).timeout);
            (*state).context = ptr::null_mut();
            ngx_resolve_name_done(context);
            (*state).outcome = Some(outcome);
            if (*state).waker.is_some() {
                let event = addr_of_mut!((*state).event);
                ngx_post_event(event, addr_of_mut!(ngx_posted_next_events));
            }
        }
    });
}

/// Has the task go on.
unsafe extern "C" fn on_turn(event: *mut ngx_event_t) {
    guard((), || {
        // SAFETY: the event was posted, and would not be any more if its state were dropped. The task
        // that is woken may drop the state: it is used no more.
        let waker = unsafe { (*(*event).data.cast::<State>()).waker.take() };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
}

/// What nginx found.
///
/// # Safety
/// nginx has just called the handler of the context.
unsafe fn outcome(
    context: &ngx_resolver_ctx_t,
    port: u16,
    timeout: ngx_msec_t,
) -> Result<Resolved, ResolveError> {
    let ok = NGX_OK as ngx_int_t;
    // SAFETY: nginx has so many servers.
    let servers = unsafe { items(context.srvs, context.nsrvs) };
    if context.state != ok {
        // nginx says of a service that it is not there as soon as one of its servers is not, even if
        // another may be there, and only did not answer in time.
        let mut states = servers.iter().map(|server| server.state);
        let other = states.find(|state| ![ok, NGX_RESOLVE_NXDOMAIN as ngx_int_t].contains(state));
        return Err(ResolveError::of_state(other.unwrap_or(context.state), timeout));
    }
    let (mut addresses, mut unresolved) = (Vec::new(), Vec::new());
    if context.service.len == 0 {
        // SAFETY: nginx has so many addresses.
        for found in unsafe { items(context.addrs, context.naddrs) } {
            // SAFETY: each is valid.
            addresses.extend(unsafe { copy(found.sockaddr, found.socklen, Some(port), None) });
        }
    }
    // Not the addresses of the context: those of a priority at which all weights are 0 are missing
    // there, with null in their places.
    for server in servers {
        // SAFETY: nginx has a name and so many addresses for each.
        let (name, found) =
            unsafe { (conf::bytes(server.name), items(server.addrs, server.naddrs)) };
        let name = String::from_utf8_lossy(name);
        if server.state != ok {
            let error = ResolveError::of_state(server.state, timeout);
            unresolved.push((name.into_owned(), error));
            continue;
        }
        for address in found {
            let (priority, weight) = (server.priority, server.weight);
            let service = Service { name: name.clone().into_owned(), priority, weight };
            // SAFETY: each is valid, and has the port of its server.
            let found = unsafe { copy(address.sockaddr, address.socklen, None, Some(service)) };
            addresses.extend(found);
        }
    }
    // nginx turns the list by a random number of places.
    let priority = |found: &Found| found.service.as_ref().map_or(0, |service| service.priority);
    addresses.sort_by(|one, other| {
        let service = |found: &Found| found.service.as_ref().map(|it| (it.name.clone(), it.weight));
        (priority(one), &one.address)
            .cmp(&(priority(other), &other.address))
            .then_with(|| service(one).cmp(&service(other)))
    });
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|found| seen.insert(found.address.clone()));
    unresolved.sort_by(|one: &(String, _), other| one.0.cmp(&other.0));

    if addresses.is_empty() {
        return Err(ResolveError::NotFound);
    }
    let valid_for = u64::try_from(context.valid.saturating_sub(process::seconds())).unwrap_or(0);
    Ok(Resolved { addresses, valid_for: valid_for.max(1), unresolved })
}

/// A list of nginx's, which may be null where it is empty.
///
/// # Safety
/// There are so many, for as long as `'a`.
unsafe fn items<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(first, count) }
}

/// A copy of an address, with `port` where that is given. `None`: it is not of the internet.
///
/// # Safety
/// The address is as long as that.
unsafe fn copy(
    address: *const sockaddr,
    length: libc::socklen_t,
    port: Option<u16>,
    service: Option<Service>,
) -> Option<Found> {
    let length = length as usize;
    if address.is_null() || length > size_of::<libc::sockaddr_storage>() {
        return None;
    }
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    // SAFETY: the address is as long as that, and there is room for it. Plain numbers.
    let mut storage = unsafe {
        ptr::copy_nonoverlapping(address.cast::<u8>(), storage.as_mut_ptr().cast(), length);
        storage.assume_init()
    };
    let port_at = match i32::from(storage.ss_family) {
        libc::AF_INET => offset_of!(libc::sockaddr_in, sin_port),
        libc::AF_INET6 => offset_of!(libc::sockaddr_in6, sin6_port),
        _ => return None,
    };
    let mut text = [0; MAX_TEXT];
    // SAFETY: the storage has room for a port in that place, for any address, and nginx writes no
    // more of the text than there is room for.
    let (address, text) = unsafe {
        let bytes: *mut u8 = addr_of_mut!(storage).cast();
        if let Some(port) = port {
            bytes.add(port_at).cast::<[u8; 2]>().write(port.to_be_bytes());
        }
        let written = ngx_sock_ntop(bytes.cast(), length as _, text.as_mut_ptr(), text.len(), 1);
        (slice::from_raw_parts(bytes, length).to_vec(), &text[..written.min(MAX_TEXT)])
    };
    Some(Found { address, text: String::from_utf8_lossy(text).into_owned(), service })
}
