//! Upstreams that nginx balances: their servers are checked, and those that fail are out of use, by
//! what every balancer of nginx goes by.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::{self, addr_of, addr_of_mut, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use ngx::core::Status;
use ngx::ffi::{
    ngx_array_t, ngx_http_request_t, ngx_http_upstream_init_peer_pt, ngx_http_upstream_rr_peer_t,
    ngx_http_upstream_rr_peers_t, ngx_http_upstream_server_t, ngx_http_upstream_srv_conf_t,
    ngx_http_upstream_state_t, ngx_int_t, ngx_msec_t, ngx_pool_cleanup_add, ngx_uint_t,
    NGX_HTTP_UPSTREAM_CREATE,
};
use ngx::http::{HttpModuleMainConf, HttpModuleServerConf};

use super::balancer::{down_and_drain, settings, traffic};
use super::expression::Expressions;
use super::module::{Module, ServerConf, UpstreamConf};
use super::{blocks, checks};
use crate::logic::directive::{self, ServerDirective};
use crate::logic::settings::{
    Balance, Check, Cluster, Level, Limits, Protected, Server, ServerCheck, Statuses, Time,
    Timeouts,
};
use crate::nginx::conf::{self, Conf, Position};
use crate::nginx::guard::guard;
use crate::nginx::process;
use crate::shm::fault;
use crate::upstream::entry::{Configured, Entry};
use crate::upstream::plan::Listed;
use crate::upstream::watched::{Busy, Load, Peers, Rule, Try};

/// Our bit in `down` of a server of nginx, which leaves every server alone with any bit there.
///
/// nginx's own are the lowest ones: 1 is the operator's `down`, 8 is `drain`.
const OUT: usize = 1 << 30;

/// Has an upstream watched, if nginx balances it and it is to be checked.
///
/// # Errors
/// Where something does not fit; it was logged.
pub(super) fn watch(
    cf: &mut Conf,
    upstream: *mut ngx_http_upstream_srv_conf_t,
    own: &UpstreamConf,
) -> Result<(), ()> {
    // SAFETY: nginx has read all blocks.
    let block = unsafe { &*upstream };
    if own.cluster.is_some() || block.flags & NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t == 0 {
        return Ok(());
    }
    // SAFETY: the strings of the configuration live as long as the cycle.
    let (host, position) = unsafe {
        (
            String::from_utf8_lossy(conf::bytes(block.host)),
            Position::of_block(block.file_name, block.line),
        )
    };
    let checks = checks::of_upstream(cf, own, &host)
        .map_err(|(position, message)| cf.refuse_at(&position, message))?;
    let place = own.checks.position().unwrap_or(&position);
    if checks.is_empty() {
        return match own.servers.first() {
            None => Ok(()),
            Some(server) => {
                let message = "\"checkups_server\" directive: it must stand together with \
                               \"checkups_cluster\" or \"checkups_check\"";
                cf.refuse_at(&server.position, message);
                Err(())
            }
        };
    }
    let mut refuse = |position: &Position, message: &dyn std::fmt::Display| {
        cf.refuse_at(position, message);
    };

    let of_checks = |message: &dyn std::fmt::Display| {
        format!("\"checkups_check\" directive: upstream \"{host}\": {message}")
    };
    let (checks, tls): (Vec<_>, Vec<_>) = checks.into_iter().unzip();
    let name = directive::cluster_name(&host).map_err(|error| {
        let message = format_args!("{error}; or leave it alone by \"checkups_check off\"");
        refuse(place, &of_checks(&message));
    })?;
    let protected = protected(&checks).map_err(|message| refuse(place, &of_checks(&message)))?;
    if !is_of_nginx(block) {
        let message = "its balancing method is none of nginx's, checks cannot take servers out of \
                       use there; leave it alone by \"checkups_check off\"";
        refuse(place, &of_checks(&message));
        return Err(());
    }
    // SAFETY: nginx has read the block, and its servers live as long as the cycle.
    let lines: &[ngx_http_upstream_server_t] = unsafe { (*block.servers).as_slice() };
    let stock = Stock::new(upstream, lines, &own.servers);
    let (levels, addresses) = stock
        .of_lines(lines, &own.servers)
        .map_err(|message| refuse(place, &of_checks(&message)))?;
    for server in &own.servers {
        let is_there = |address| addresses.iter().flatten().any(|known| known == address);
        if !stock.resolves && !server.addresses.iter().any(is_there) {
            let address = &server.server.address;
            let message = format_args!(
                "\"checkups_server\" directive: there is no server \"{address}\" in the block"
            );
            refuse(&server.position, &message);
            return Err(());
        }
    }
    let settings = Cluster {
        name,
        version: 0,
        balance: Balance::Nginx,
        order: None,
        protected,
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        fail_status: Statuses::default(),
        levels,
        checks,
    };

    // SAFETY: the configuration is being read, and nobody else uses ours meanwhile.
    let Some(main) = Module::main_conf_mut(unsafe { &*cf.as_ptr() }) else { return Err(()) };
    if let Some(other) = main.clusters.cluster(&settings.name) {
        let message = of_checks(&format_args!(
            "duplicate cluster name, it is that of the upstream in {} as well",
            other.configured.as_ref().map_or(&position, |configured| &configured.position)
        ));
        cf.refuse_at(place, message);
        return Err(());
    }
    let configured = Configured::new(settings, addresses, tls, position);
    let entry = Entry::new(configured).watched(Box::new(stock));
    own.index.set(Some(main.clusters.add(entry)));
    main.expressions.push(Expressions::default());
    // Whatever nginx's modules have put here is called by ours: by now each has had its turn.
    // SAFETY: nginx uses the block when the configuration was read.
    unsafe {
        let init = &mut (*upstream).peer.init;
        own.original_init.set(*init);
        *init = Some(init_peer);
    }
    Ok(())
}

/// What is used where all servers fail: one of the lines may say it.
fn protected(checks: &[Check]) -> Result<Protected, &'static str> {
    let mut said = checks.iter().filter_map(|check| check.protected);
    let first = said.next();
    if said.any(|other| Some(other) != first) {
        return Err("its checks differ in \"protected=\", which is about all of them together");
    }
    Ok(first.unwrap_or_default())
}

/// Whether the servers of a block are where nginx's own balancers have them. Another balancer may keep
/// what it likes there.
fn is_of_nginx(upstream: &ngx_http_upstream_srv_conf_t) -> bool {
    let peers = upstream.peer.data.cast::<ngx_http_upstream_rr_peers_t>();
    // SAFETY: whatever there is lies in the pool of the cycle; nginx's structure has the address of the
    // name of its upstream.
    !peers.is_null()
        && peers.is_aligned()
        && unsafe { ptr::eq((*peers).name, addr_of!(upstream.host)) }
        && upstream.peer.init.is_some()
}

/// Prepares a request for its tries: nginx's `peer.init`.
unsafe extern "C" fn init_peer(
    request: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    let found: Option<(ngx_http_upstream_init_peer_pt, &'static Rc<Entry>)> = guard(None, || {
        // SAFETY: nginx calls it with a request that it begins to proxy, and the block for it.
        let (request, upstream) = unsafe { (&*request, &*upstream) };
        let own = Module::server_conf(upstream)?;
        let entry = Module::main(request)?.clusters.clusters().get(own.index.get()?)?;
        Some((own.original_init.get(), entry))
    });
    let Some((Some(original), entry)) = found else { return Status::NGX_ERROR.into() };
    guard((), || entry.follow_verdicts());
    // SAFETY: the request is one that nginx begins to proxy.
    guard((), || unsafe { Counting::begin(request, entry) });
    // SAFETY: these are its arguments.
    let code = unsafe { original(request, upstream) };
    if entry.watch.as_ref().is_some_and(|watch| watch.is_changing()) {
        // The request may select among servers that have come meanwhile.
        guard((), || entry.follow_verdicts());
    }
    code
}

/// The tries of a request, which are counted when it is over.
struct Counting {
    entry: &'static Rc<Entry>,
    /// What nginx notes of each try.
    states: *const ngx_array_t,
    /// The number of the first one that may be in this upstream.
    first: usize,
}

impl Counting {
    /// # Safety
    /// The request is one that nginx begins to proxy.
    unsafe fn begin(request: *mut ngx_http_request_t, entry: &'static Rc<Entry>) {
        // SAFETY: by now nginx has made the array, in the pool of the request. The memory that comes with
        // the cleanup is aligned for any of our types. Where there is none, nothing is counted.
        unsafe {
            let states = (*request).upstream_states.cast_const();
            let (Some(array), Some(cleanup)) = (
                states.as_ref(),
                ngx_pool_cleanup_add((*request).pool, size_of::<Self>()).as_mut(),
            ) else {
                return;
            };
            cleanup.data.cast::<Self>().write(Self { entry, states, first: array.nelts });
            cleanup.handler = Some(count);
        }
    }
}

/// Counts the tries of a request that is over: nginx's cleanup of its pool.
unsafe extern "C" fn count(data: *mut c_void) {
    guard((), || {
        // SAFETY: `begin` has written it. The pool is freed after its cleanups, and nginx has the names
        // of servers there, or in memory that lives as long as the configuration.
        unsafe {
            let Counting { entry, states, first } = &*data.cast::<Counting>();
            let states: &[ngx_http_upstream_state_t] = (**states).as_slice();
            let of_upstream = states.get(*first..).unwrap_or_default();
            // Where nginx goes on in another upstream, there is an empty one in between.
            let end = of_upstream.iter().position(|state| state.peer.is_null());
            let of_upstream = &of_upstream[..end.unwrap_or(of_upstream.len())];
            for (number, state) in of_upstream.iter().enumerate() {
                let is_last = number + 1 == of_upstream.len();
                entry.count(conf::bytes(*state.peer), ended(state, is_last));
            }
        }
    });
}

/// What came of a try. nginx goes on after one that failed, and after 403 and 404; where it has no other
/// server, it notes a status of its own.
fn ended(state: &ngx_http_upstream_state_t, is_last: bool) -> Try {
    let traffic = traffic(state);
    let has_failed = match traffic.header_time {
        Some(_) => !is_last && !matches!(traffic.status, 403 | 404),
        // nginx's own; another one is the beginning of an answer that the client did not wait for.
        None => !is_last || matches!(traffic.status, 502 | 504),
    };
    let is_known = state.response_time != ngx_msec_t::MAX;
    let milliseconds = if is_known { state.response_time as u64 } else { 0 };
    Try { traffic, milliseconds, has_failed }
}

/// The servers that nginx has of a block whose names it looks up while it runs. `None`: there are no
/// such names.
pub(super) fn found_by_nginx(
    upstream: *mut ngx_http_upstream_srv_conf_t,
    lines: &[ngx_http_upstream_server_t],
    servers: &[ServerConf],
) -> Option<Box<dyn Peers>> {
    let stock = Stock::new(upstream, lines, servers);
    stock.resolves.then(|| Box::new(stock) as _)
}

/// What a `checkups_server` says.
struct Different {
    directive: ServerDirective,
    addresses: Vec<Vec<u8>>,
}

/// The servers of an upstream that nginx balances.
struct Stock {
    /// nginx puts its peers elsewhere when it initialises its zones.
    upstream: NonNull<ngx_http_upstream_srv_conf_t>,
    /// Whether servers come and go as names are resolved.
    resolves: bool,
    different: Vec<Different>,
}

impl Stock {
    fn new(
        upstream: *mut ngx_http_upstream_srv_conf_t,
        lines: &[ngx_http_upstream_server_t],
        servers: &[ServerConf],
    ) -> Self {
        let different = servers.iter().map(|more| Different {
            directive: more.server.clone(),
            addresses: more.addresses.clone(),
        });
        Self {
            // SAFETY: it is the address of a block.
            upstream: unsafe { NonNull::new_unchecked(upstream) },
            resolves: lines.iter().any(is_resolved),
            different: different.collect(),
        }
    }

    /// The servers by the lines of the block, without those that nginx finds while it runs.
    fn of_lines(
        &self,
        lines: &[ngx_http_upstream_server_t],
        more: &[ServerConf],
    ) -> Result<Listed, String> {
        let mut listed = Listed::default();
        for is_backup in [false, true] {
            let (mut level, mut addresses) = (Level::default(), Vec::new());
            let wanted = |line: &&ngx_http_upstream_server_t| {
                (line.backup() != 0) == is_backup && !is_resolved(line)
            };
            for line in lines.iter().filter(wanted) {
                for index in 0..line.naddrs {
                    // SAFETY: a server has so many addresses.
                    let address = unsafe { &*line.addrs.add(index) };
                    let bytes = blocks::socket_address(address);
                    let more = more.iter().find(|more| more.addresses.contains(&bytes));
                    level.servers.push(settings(line, address, more)?);
                    addresses.push(bytes);
                }
            }
            add_level(&mut listed, level, addresses);
        }
        Ok(listed)
    }

    /// Runs `body` with each list of servers that nginx has, the backup servers last. Where servers come
    /// and go, none does meanwhile.
    fn each_list(
        &self,
        mut body: impl FnMut(*mut ngx_http_upstream_rr_peers_t),
    ) -> Result<(), Busy> {
        // SAFETY: the block lives as long as the configuration, and so do the lists of its servers.
        unsafe {
            let mut next =
                (*self.upstream.as_ptr()).peer.data.cast::<ngx_http_upstream_rr_peers_t>();
            while !next.is_null() {
                let _locked = if self.resolves { ReadLock::of(next)? } else { None };
                body(next);
                next = (*next).next;
            }
        }
        Ok(())
    }

    /// What a `checkups_server` says of a server.
    fn different(&self, address: &[u8], written: &str) -> Option<&ServerDirective> {
        let is_it = |different: &&Different| {
            different.directive.address == written
                || different.addresses.iter().any(|known| known == address)
        };
        self.different.iter().find(is_it).map(|different| &different.directive)
    }

    /// # Safety
    /// nginx does not free the peer meanwhile.
    unsafe fn settings(&self, peer: *const ngx_http_upstream_rr_peer_t) -> Server {
        // SAFETY: as the caller says; nginx changes nothing of what is read here but the bits of `down`.
        unsafe {
            let text = |bytes| String::from_utf8_lossy(conf::bytes(bytes)).into_owned();
            let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let (down, drain) = down_and_drain((*peer).down & !OUT);
            let written = text((*peer).server);
            let more = self.different(address_of(peer), &written);
            let server = text((*peer).name);
            #[cfg(ngx_upstream_sid)]
            let sticky = text((*peer).sid);
            #[cfg(not(ngx_upstream_sid))]
            let sticky = String::new();
            let is_own = format!("{:x}", md5::compute(&server)) == sticky;
            Server {
                route: if is_own { String::new() } else { sticky.clone() },
                server,
                weight: number((*peer).weight.unsigned_abs()),
                max_fails: number((*peer).max_fails),
                fail_timeout: Time::seconds((*peer).fail_timeout.unsigned_abs()),
                max_conns: number((*peer).max_conns),
                slow_start: more.and_then(|more| more.slow_start).unwrap_or(Time::seconds(0)),
                down,
                drain: drain || more.is_some_and(|more| more.drain),
                resolve: false,
                service: None,
                check: more.map_or_else(ServerCheck::default, |more| more.check.clone()),
                written,
                sticky,
                addresses: Vec::new(),
                id: None,
            }
        }
    }
}

impl Peers for Stock {
    fn version(&self) -> Option<usize> {
        #[cfg(ngx_upstream_resolve)]
        if self.resolves {
            // SAFETY: the block lives as long as the configuration. Where names are resolved there is a
            // zone; before it is initialised the pointer is null.
            let version = unsafe {
                let peers = (*self.upstream.as_ptr()).peer.data;
                let config = (*peers.cast::<ngx_http_upstream_rr_peers_t>()).config;
                let read = |config: NonNull<_>| {
                    AtomicUsize::from_ptr(config.as_ptr()).load(Ordering::Acquire)
                };
                NonNull::new(config).map_or(0, read)
            };
            return Some(version);
        }
        None
    }

    fn levels(&self) -> Result<Listed, Busy> {
        let mut listed = Listed::default();
        self.each_list(|peers| {
            let (mut level, mut addresses) = (Level::default(), Vec::new());
            // SAFETY: nginx frees no peer meanwhile.
            for peer in unsafe { peers_of(peers) } {
                // SAFETY: likewise.
                unsafe {
                    level.servers.push(self.settings(peer));
                    addresses.push(address_of(peer).to_vec());
                }
            }
            add_level(&mut listed, level, addresses);
        })?;
        Ok(listed)
    }

    fn loads(&self) -> Result<HashMap<Vec<u8>, Load>, Busy> {
        let mut loads: HashMap<Vec<u8>, Load> = HashMap::new();
        self.each_list(|peers| {
            // SAFETY: nginx frees no peer meanwhile.
            for peer in unsafe { peers_of(peers) } {
                // SAFETY: likewise; the numbers are words that others change meanwhile.
                let (address, load) = unsafe { (address_of(peer), load(&*peer)) };
                let sum = loads.entry(address.to_vec()).or_default();
                sum.connections += load.connections;
                sum.is_failed |= load.is_failed;
            }
        })?;
        Ok(loads)
    }

    fn is_any_left(&self, is_out: Rule<'_>) -> Result<bool, Busy> {
        let mut is_left = false;
        self.each_list(|peers| {
            // SAFETY: nginx frees no peer meanwhile.
            is_left |= unsafe { peers_of(peers) }.any(|peer| {
                // SAFETY: likewise.
                unsafe { down_by(peer, is_out) == 0 }
            });
        })?;
        Ok(is_left)
    }

    fn put(&self, is_out: Rule<'_>) -> Result<(), Busy> {
        self.each_list(|peers| {
            // SAFETY: nginx frees no peer meanwhile. Other processes read these words, and but for us
            // only those write them that add or remove peers.
            unsafe {
                let wanted = move || peers_of(peers).map(|peer| (peer, down_by(peer, is_out)));
                // The number of servers that a request may try. Whoever dies on the way leaves one that
                // is too high, which does no harm, and the next one puts it right.
                let count = wanted().filter(|(_, down)| *down == 0).count();
                let tries = AtomicUsize::from_ptr(addr_of_mut!((*peers).tries));
                if tries.load(Ordering::Relaxed) < count {
                    tries.store(count, Ordering::Relaxed);
                }
                for (peer, down) in wanted() {
                    let place = AtomicUsize::from_ptr(addr_of_mut!((*peer).down));
                    if down & OUT != 0 {
                        place.fetch_or(OUT, Ordering::Relaxed);
                    } else {
                        place.fetch_and(!OUT, Ordering::Relaxed);
                    }
                    fault::point("put");
                }
                tries.store(count, Ordering::Relaxed);
            }
        })
    }
}

/// A level of a list of nginx. Only the first one may be without servers.
fn add_level((levels, addresses): &mut Listed, level: Level, its: Vec<Vec<u8>>) {
    if levels.is_empty() || !level.servers.is_empty() {
        levels.push(level);
        addresses.push(its);
    }
}

/// Whether a line of the block has a server of this name whose addresses are found while nginx runs.
pub(super) fn finds(upstream: &ngx_http_upstream_srv_conf_t, name: &str) -> bool {
    // SAFETY: nginx reads the block, and its strings live as long as the cycle.
    let lines: &[ngx_http_upstream_server_t] = unsafe { (*upstream.servers).as_slice() };
    // SAFETY: likewise.
    lines
        .iter()
        .any(|line| is_resolved(line) && unsafe { conf::bytes(line.name) } == name.as_bytes())
}

/// Whether the addresses of a server are found while nginx runs.
pub(super) fn is_resolved(_line: &ngx_http_upstream_server_t) -> bool {
    #[cfg(ngx_upstream_resolve)]
    return _line.host.len != 0;
    #[cfg(not(ngx_upstream_resolve))]
    false
}

/// # Safety
/// nginx frees no peer of the list while the result is used.
unsafe fn peers_of(
    peers: *mut ngx_http_upstream_rr_peers_t,
) -> impl Iterator<Item = *mut ngx_http_upstream_rr_peer_t> {
    // SAFETY: as the caller says; the list ends with a null pointer.
    unsafe {
        let first = Some((*peers).peer).filter(|peer| !peer.is_null());
        std::iter::successors(first, |peer| Some((**peer).next).filter(|next| !next.is_null()))
    }
}

/// # Safety
/// nginx does not free the peer while the result is used.
unsafe fn address_of<'a>(peer: *const ngx_http_upstream_rr_peer_t) -> &'a [u8] {
    // SAFETY: the address of a peer has so many bytes, which do not change.
    unsafe { slice::from_raw_parts((*peer).sockaddr.cast::<u8>(), (*peer).socklen as usize) }
}

/// How nginx uses a peer. That it is out of use for failed requests is as in
/// ngx_http_upstream_get_peer().
fn load(peer: &ngx_http_upstream_rr_peer_t) -> Load {
    let is_failed = peer.max_fails != 0
        && peer.fails >= peer.max_fails
        && process::seconds().saturating_sub(peer.checked) <= peer.fail_timeout;
    Load { connections: u32::try_from(peer.conns).unwrap_or(u32::MAX), is_failed }
}

/// What `down` of a peer is to be by the rule.
///
/// # Safety
/// nginx does not free the peer meanwhile.
unsafe fn down_by(peer: *mut ngx_http_upstream_rr_peer_t, is_out: Rule<'_>) -> usize {
    // SAFETY: as the caller says.
    let (down, address) = unsafe {
        let place = AtomicUsize::from_ptr(addr_of_mut!((*peer).down));
        (place.load(Ordering::Relaxed), address_of(peer))
    };
    match is_out(address) {
        Some(true) => down | OUT,
        Some(false) => down & !OUT,
        None => down,
    }
}

/// nginx's lock of a list of peers, for reading.
///
/// Who dies with it leaves nginx without those who wait to write: it is held for a walk over the list
/// at a time, as nginx itself does with each request, and only where servers come and go.
struct ReadLock(*mut ngx_http_upstream_rr_peers_t);

impl ReadLock {
    /// How often it is looked at before the processor is given up, and how often that.
    const SPINS: u32 = 2000;
    const YIELDS: u32 = 50;

    /// # Safety
    /// The list outlives the result.
    unsafe fn of(peers: *mut ngx_http_upstream_rr_peers_t) -> Result<Option<Self>, Busy> {
        // As ngx_rwlock_rlock(), which waits for ever.
        const WRITING: usize = usize::MAX;
        // SAFETY: as the caller says; the word is changed by atomic operations only.
        let word = unsafe { AtomicUsize::from_ptr(addr_of_mut!((*peers).rwlock).cast()) };
        for _ in 0..Self::YIELDS {
            for _ in 0..Self::SPINS {
                let is_taken = word
                    .fetch_update(Ordering::Acquire, Ordering::Relaxed, |readers| {
                        (readers != WRITING).then(|| readers + 1)
                    })
                    .is_ok();
                if is_taken {
                    return Ok(Some(Self(peers)));
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        Err(Busy)
    }
}

impl Drop for ReadLock {
    fn drop(&mut self) {
        // SAFETY: as `of` was told; one of the readers is this.
        unsafe {
            let word = AtomicUsize::from_ptr(addr_of_mut!((*self.0).rwlock).cast());
            word.fetch_sub(1, Ordering::Release);
        }
    }
}
