//! The way from an `upstream` block to its cluster, and from a request to the block's.

use std::rc::Rc;

use ngx::core::Status;
use ngx::ffi::{
    ngx_addr_t, ngx_array_create, ngx_array_t, ngx_conf_t, ngx_http_request_t,
    ngx_http_upstream_init_round_robin, ngx_http_upstream_server_t, ngx_http_upstream_srv_conf_t,
    ngx_http_upstream_state_t, ngx_http_upstream_t, ngx_int_t, ngx_msec_t, ngx_str_t, ngx_uint_t,
    NGX_HTTP_LOCK, NGX_HTTP_PATCH, NGX_HTTP_POST, NGX_HTTP_UPSTREAM_CREATE,
    NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_HTTP_403, NGX_HTTP_UPSTREAM_FT_HTTP_404,
    NGX_HTTP_UPSTREAM_FT_HTTP_429, NGX_HTTP_UPSTREAM_FT_HTTP_500, NGX_HTTP_UPSTREAM_FT_HTTP_502,
    NGX_HTTP_UPSTREAM_FT_HTTP_503, NGX_HTTP_UPSTREAM_FT_HTTP_504,
    NGX_HTTP_UPSTREAM_FT_INVALID_HEADER, NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT,
    NGX_HTTP_UPSTREAM_FT_TIMEOUT,
};
use ngx::http::{HttpModule, HttpModuleMainConf, HttpModuleServerConf, NgxHttpUpstreamModule};

use super::expression::{Expression, Expressions};
use super::module::{LevelConf, LevelServers, MainConf, Module, ServerConf, UpstreamConf};
use super::{blocks, checks, stock, timeouts, variables};
use crate::logic::balance::ring;
use crate::logic::change::{self, MOST_ON_RING};
use crate::logic::directive::{self, ClusterDirective, Only};
use crate::logic::settings::{Balance, Check, Cluster, Level, Limits, Server, ServerCheck, Time};
use crate::nginx::conf::{self, Conf, Position};
use crate::nginx::guard::guard;
use crate::nginx::resolver::Resolver;
use crate::shm::cluster::Outcome;
use crate::shm::statistics::{Statistics, Traffic};
use crate::upstream::entry::{Configured, Current, Entry};
use crate::upstream::peer::{begin_unknown, Tries, Wish};
use crate::upstream::plan::Addresses;
use crate::upstream::subsystem::{Answer, Subsystem};
use crate::upstream::watched::Peers;

/// The http subsystem.
pub(super) struct Http;

impl Subsystem for Http {
    type Session = ngx_http_request_t;

    unsafe fn connection_was_stale(request: *mut ngx_http_request_t) -> bool {
        // SAFETY: the caller vouches for the request; it has an upstream while it is being proxied.
        unsafe {
            let upstream = &*(*request).upstream;
            // In nginx such a failure is the one of ngx_http_upstream_next() with FT_ERROR on a
            // cached connection. A timeout, or anything that the server said, is the server's.
            let answered =
                upstream.headers_in.status_n != 0 || upstream.buffer.last != upstream.buffer.pos;
            !upstream.peer.connection.is_null() && !timed_out(upstream) && !answered
        }
    }

    unsafe fn answer(request: *mut ngx_http_request_t, counts: impl Fn(u16) -> bool) -> Answer {
        // SAFETY: the caller vouches for the request; it has an upstream while it is being proxied,
        // which has a configuration, and a state since a server was selected.
        let (state, named) = unsafe {
            let upstream = &*(*request).upstream;
            (&*upstream.state, (*upstream.conf).next_upstream)
        };
        let traffic = traffic(state);
        if traffic.header_time.is_none() {
            // Nothing came, or not the whole header: the client has gone, perhaps.
            return Answer { outcome: Outcome::Unknown, is_refused: false };
        }
        let (condition, outcome) = match traffic.status {
            500 => (NGX_HTTP_UPSTREAM_FT_HTTP_500, Outcome::Failure),
            502 => (NGX_HTTP_UPSTREAM_FT_HTTP_502, Outcome::Failure),
            503 => (NGX_HTTP_UPSTREAM_FT_HTTP_503, Outcome::Failure),
            504 => (NGX_HTTP_UPSTREAM_FT_HTTP_504, Outcome::Failure),
            429 => (NGX_HTTP_UPSTREAM_FT_HTTP_429, Outcome::Failure),
            // As in ngx_http_upstream_next(): the next server is tried, but this one has not failed.
            403 => (NGX_HTTP_UPSTREAM_FT_HTTP_403, Outcome::Unknown),
            404 => (NGX_HTTP_UPSTREAM_FT_HTTP_404, Outcome::Unknown),
            _ => (0, Outcome::Success),
        };
        let is_refused = named & condition as ngx_uint_t != 0;
        let outcome = if counts(traffic.status) {
            Outcome::Failure
        } else if is_refused {
            outcome
        } else {
            Outcome::Success
        };
        Answer { outcome, is_refused }
    }

    #[inline(always)]
    unsafe fn count(request: *mut ngx_http_request_t, statistics: &Statistics, milliseconds: u64) {
        // SAFETY: as above. A try is at work, and nginx has made a state for it before it asked for the
        // server (ngx_http_upstream_connect()).
        let state = unsafe { &*(*(*request).upstream).state };
        let traffic = traffic(state);
        statistics.end(traffic, milliseconds);
    }

    unsafe fn may_be_retried(request: *mut ngx_http_request_t) -> bool {
        const NOT_IDEMPOTENT: ngx_uint_t =
            (NGX_HTTP_POST | NGX_HTTP_LOCK | NGX_HTTP_PATCH) as ngx_uint_t;
        // SAFETY: as above. As in ngx_http_upstream_next().
        unsafe {
            let upstream = &*(*request).upstream;
            let named =
                |condition: u32| (*upstream.conf).next_upstream & condition as ngx_uint_t != 0;
            let is_repeatable = upstream.request_sent() == 0
                || (*request).method & NOT_IDEMPOTENT == 0
                || named(NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT);
            // An answer with a status was looked at before: only one that is named comes here.
            let is_named = upstream.headers_in.status_n != 0
                || if timed_out(upstream) {
                    named(NGX_HTTP_UPSTREAM_FT_TIMEOUT)
                } else {
                    named(NGX_HTTP_UPSTREAM_FT_ERROR | NGX_HTTP_UPSTREAM_FT_INVALID_HEADER)
                };
            is_repeatable && is_named
        }
    }
}

/// What a try came to.
#[inline(always)]
pub(super) fn traffic(state: &ngx_http_upstream_state_t) -> Traffic {
    Traffic {
        status: state.status as u16,
        sent: state.bytes_sent as u64,
        received: state.bytes_received as u64,
        // The status may be there before the header is, which may turn out to be none.
        header_time: (state.header_time != ngx_msec_t::MAX).then_some(state.header_time as u64),
    }
}

/// Whether the connection to the server has timed out.
///
/// # Safety
/// The upstream is one of a request that nginx works on.
unsafe fn timed_out(upstream: &ngx_http_upstream_t) -> bool {
    // SAFETY: a connection that is there is open, with its events.
    unsafe {
        upstream.peer.connection.as_ref().is_some_and(|connection| {
            (*connection.read).timedout() != 0 || (*connection.write).timedout() != 0
        })
    }
}

/// Makes a cluster of an upstream block: nginx's `init_upstream`.
pub(super) unsafe extern "C" fn init_upstream(
    cf: *mut ngx_conf_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls this with a block that it has read; both are used during this call only.
        let (cf, upstream) = unsafe { (Conf::from_ptr(cf), &mut *upstream) };
        match add_cluster(cf, upstream) {
            Ok(()) => Status::NGX_OK,
            Err(()) => Status::NGX_ERROR,
        }
    })
    .into()
}

/// The servers of one level, as nginx has read them.
struct LevelLines {
    name: Option<String>,
    limits: Limits,
    servers: Vec<ngx_http_upstream_server_t>,
}

fn add_cluster(cf: &mut Conf, upstream: &mut ngx_http_upstream_srv_conf_t) -> Result<(), ()> {
    let Some(own) = Module::server_conf_mut(upstream) else { return Err(()) };
    let Some((directive, position)) = &own.cluster else { return Err(()) };
    let lines = match level_lines(cf, upstream, own) {
        Ok(lines) => lines,
        Err((position, message)) => {
            cf.refuse_at(&position, message);
            return Err(());
        }
    };

    // nginx's own balancer first: it refuses what cannot be an upstream, and `zone` and the like look
    // for its peers.
    if !own.levels.is_empty() {
        let all: Vec<_> = lines.iter().flat_map(|level| &level.servers).copied().collect();
        upstream.servers = array(cf, &all)?;
    }
    // SAFETY: the block is one that nginx has read.
    unsafe {
        if ngx_http_upstream_init_round_robin(cf.as_ptr(), upstream) != Status::NGX_OK.0 {
            return Err(());
        }
    }
    upstream.peer.init = Some(init_peer);
    own.is_installed.set(true);
    if own.named_by.is_some() {
        return check_named(upstream, own).map_err(|message| {
            cf.refuse_at(position, format_args!("\"checkups_cluster\" directive: {message}"));
        });
    }

    // SAFETY: the configuration is being read, and nobody else uses ours meanwhile.
    let Some(main) = Module::main_conf_mut(unsafe { &*cf.as_ptr() }) else { return Err(()) };
    // SAFETY: nginx has read the block, and its strings live as long as the cycle.
    let host = String::from_utf8_lossy(unsafe { conf::bytes(upstream.host) });
    let checks = checks::of_upstream(cf, own, &host)
        .map_err(|(position, message)| cf.refuse_at(&position, message))?;
    let (checks, tls) = checks.into_iter().unzip();
    let found = follow(upstream, own).map_err(|(position, message)| {
        cf.refuse_at(&position, message);
    })?;
    let built = read(upstream, own, directive, lines, checks);
    let (settings, addresses) = built.map_err(|message| {
        cf.refuse_at(position, format_args!("\"checkups_cluster\" directive: {message}"));
    })?;
    if let Some((text, _, position)) = &own.order {
        if !change::finds_level(Some(text), &settings.levels) {
            let message = format!(
                "\"checkups_order\" directive: there is no level of \"{text}\" in the block"
            );
            cf.refuse_at(position, message);
            return Err(());
        }
    }
    if let Some((balance, _, position)) = &own.balance {
        if let Some(sum) = change::too_much_for_ring(balance, &settings.levels) {
            let message = format!(
                "\"checkups_balance\" directive: the weights of a level add up to {sum}, with a hash \
                 they may to {MOST_ON_RING}"
            );
            cf.refuse_at(position, message);
            return Err(());
        }
    }
    for server in &own.servers {
        let is_there = |address| server.addresses.contains(address);
        if found.is_none() && !addresses.iter().flatten().any(is_there) {
            let message = format!(
                "\"checkups_server\" directive: there is no server \"{}\" in the block",
                server.server.address
            );
            cf.refuse_at(&server.position, message);
            return Err(());
        }
    }
    if let Some(other) = main.clusters.cluster(&settings.name) {
        let message = format!(
            "\"checkups_cluster\" directive: duplicate cluster name \"{}\", it is that of the upstream in {} as well",
            settings.name,
            other.configured.as_ref().map_or(position, |configured| &configured.position)
        );
        cf.refuse_at(position, message);
        return Err(());
    }
    let expressions = Expressions {
        order: own.order.take().map(|(_, expression, _)| expression),
        keys: own.balance.take().map_or(Vec::new(), |(_, keys, _)| keys),
    };
    let configured = Configured::new(settings, addresses, tls, position.clone());
    let entry = Entry::new(configured).following(found);
    own.index.set(Some(main.clusters.add(entry)));
    main.expressions.push(expressions);
    Ok(())
}

/// The servers that nginx finds for names while it runs, where the block has such.
///
/// # Errors
/// Where they are in a level, which nginx does not know of: where, and what.
fn follow(
    upstream: &mut ngx_http_upstream_srv_conf_t,
    own: &UpstreamConf,
) -> Result<Option<Box<dyn Peers>>, (Position, String)> {
    // SAFETY: nginx has read the block, and its servers live as long as the cycle.
    let lines: &[ngx_http_upstream_server_t] = unsafe { (*upstream.servers).as_slice() };
    let found = stock::found_by_nginx(upstream, lines, &own.servers);
    match (own.levels.first(), found) {
        (Some(level), Some(_)) => {
            let name = level_directive(level);
            let message = format!("\"{name}\" directive: \"resolve\" does not go with levels");
            Err((level.position.clone(), message))
        }
        (_, found) => Ok(found),
    }
}

/// Looks whether anything is said of the clusters in a block that only names them.
fn check_named(upstream: &ngx_http_upstream_srv_conf_t, own: &UpstreamConf) -> Result<(), String> {
    let directive = if blocks::has_servers(upstream) {
        "server"
    } else if own.checks.position().is_some() {
        "checkups_check"
    } else if let Some((name, _)) = &own.needs_cluster {
        name
    } else {
        return Ok(());
    };
    Err(format!(
        "it names the clusters by a variable, \"{directive}\" does not go with that: it is said of \
         each cluster"
    ))
}

/// What nginx has read of each level.
///
/// # Errors
/// Where something is wrong: where, and what.
fn level_lines(
    cf: &mut Conf,
    upstream: &ngx_http_upstream_srv_conf_t,
    own: &UpstreamConf,
) -> Result<Vec<LevelLines>, (Position, String)> {
    if own.levels.is_empty() {
        // SAFETY: nginx has read the block, and its servers live as long as the cycle.
        let servers: &[ngx_http_upstream_server_t] = unsafe { (*upstream.servers).as_slice() };
        let (backup, primary): (Vec<_>, Vec<_>) =
            servers.iter().copied().partition(|server| server.backup() != 0);
        let level = |servers| LevelLines { name: None, limits: Limits::default(), servers };
        let mut levels = vec![level(primary)];
        levels.extend(Some(backup).filter(|backup| !backup.is_empty()).map(level));
        return Ok(levels);
    }
    if blocks::has_servers(upstream) {
        let first = own.levels[0].position.clone();
        let name = level_directive(&own.levels[0]);
        return Err((first, format!("\"{name}\" directive: {}", blocks::MIXED)));
    }
    let lines = |level: &LevelConf| {
        let servers = match &level.servers {
            // SAFETY: `read_level` made the array in the pool of the cycle.
            LevelServers::Own(servers) => unsafe { (**servers).as_slice().to_vec() },
            LevelServers::Of(name, only) => {
                servers_of(cf, name, *only).map_err(|message| (level.position.clone(), message))?
            }
        };
        let directive::LevelDirective { name, limits } = &level.level;
        Ok(LevelLines { name: Some(name.clone()), limits: *limits, servers })
    };
    own.levels.iter().map(lines).collect()
}

fn level_directive(level: &LevelConf) -> &'static str {
    match level.servers {
        LevelServers::Own(_) => "checkups_level",
        LevelServers::Of(..) => "checkups_level_from",
    }
}

/// The servers of another upstream.
fn servers_of(
    cf: &mut Conf,
    name: &str,
    only: Option<Only>,
) -> Result<Vec<ngx_http_upstream_server_t>, String> {
    let wrong =
        |what: &str| format!("\"checkups_level_from\" directive: upstream \"{name}\" {what}");
    let found = upstreams(cf).iter().find(|upstream| {
        // SAFETY: nginx has read all blocks.
        let upstream = unsafe { &***upstream };
        let is_block = upstream.flags & NGX_HTTP_UPSTREAM_CREATE as ngx_uint_t != 0;
        // SAFETY: likewise.
        is_block && unsafe { conf::bytes(upstream.host) }.eq_ignore_ascii_case(name.as_bytes())
    });
    // SAFETY: likewise.
    let Some(upstream) = found.map(|upstream| unsafe { &**upstream }) else {
        return Err(wrong("is not there"));
    };
    if Module::server_conf(upstream).is_some_and(|own| !own.levels.is_empty()) {
        return Err(wrong("has levels of its own"));
    }
    // SAFETY: likewise; its servers live as long as the cycle.
    let servers: &[ngx_http_upstream_server_t] = unsafe { (*upstream.servers).as_slice() };
    let mut servers: Vec<_> = servers
        .iter()
        .copied()
        .filter(|server| match only {
            None => true,
            Some(Only::Primary) => server.backup() == 0,
            Some(Only::Backup) => server.backup() != 0,
        })
        .collect();
    if servers.is_empty() {
        return Err(wrong("has no such servers"));
    }
    for server in &mut servers {
        server.set_backup(0);
    }
    Ok(servers)
}

/// An array of nginx.
fn array(cf: &mut Conf, servers: &[ngx_http_upstream_server_t]) -> Result<*mut ngx_array_t, ()> {
    // SAFETY: the pool is that of the cycle; the array has room for so many.
    unsafe {
        let size = size_of::<ngx_http_upstream_server_t>();
        let array = ngx_array_create(cf.pool(), servers.len(), size);
        let memory = array.as_mut().map_or(std::ptr::null_mut(), |array| {
            array.nelts = servers.len();
            array.elts.cast::<ngx_http_upstream_server_t>()
        });
        if memory.is_null() {
            return Err(());
        }
        memory.copy_from_nonoverlapping(servers.as_ptr(), servers.len());
        Ok(array)
    }
}

/// The settings of a block.
fn read(
    upstream: &ngx_http_upstream_srv_conf_t,
    own: &UpstreamConf,
    directive: &ClusterDirective,
    lines: Vec<LevelLines>,
    checks: Vec<Check>,
) -> Result<(Cluster, Addresses), String> {
    // SAFETY: nginx has read the block, and its strings live as long as the cycle.
    let host = unsafe { conf::bytes(upstream.host) };
    let name = match &directive.name {
        Some(name) => name.clone(),
        None => directive::cluster_name(&String::from_utf8_lossy(host)).map_err(|error| {
            format!("{error}; give the cluster another name than the upstream's: \"checkups_cluster NAME\"")
        })?,
    };
    let balance = own.balance.as_ref().map_or(Balance::RoundRobin, |(balance, ..)| balance.clone());

    let (mut levels, mut addresses) = (Vec::new(), Vec::new());
    for LevelLines { name, limits, servers: lines } in lines {
        let mut level = Level { name, limits, servers: Vec::new() };
        let mut level_addresses = Vec::new();
        for server in &lines {
            if stock::is_resolved(server) {
                // They come and go: nginx has them.
                continue;
            }
            for index in 0..server.naddrs {
                // SAFETY: a server has so many addresses.
                let address = unsafe { &*server.addrs.add(index) };
                let bytes = blocks::socket_address(address);
                let more = own.servers.iter().find(|more| more.addresses.contains(&bytes));
                level.servers.push(settings(server, address, more)?);
                level_addresses.push(bytes);
            }
        }
        levels.push(level);
        addresses.push(level_addresses);
    }
    let cluster = Cluster {
        name,
        version: 0,
        balance,
        order: own.order.as_ref().map(|(text, ..)| text.clone()),
        protected: directive.protected,
        limits: directive.limits,
        timeouts: directive.timeouts,
        fail_status: own.fail_status.clone().unwrap_or_default(),
        levels,
        checks,
    };
    Ok((cluster, addresses))
}

/// The settings of a server by its line, and by what else is said of it.
pub(super) fn settings(
    server: &ngx_http_upstream_server_t,
    address: &ngx_addr_t,
    more: Option<&ServerConf>,
) -> Result<Server, String> {
    // SAFETY: the names live as long as the cycle.
    let (name, written) = unsafe { (conf::bytes(address.name), conf::bytes(server.name)) };
    let name = String::from_utf8_lossy(name).into_owned();
    let number = |what: &str, value: usize| {
        u32::try_from(value).map_err(|_| format!("server \"{name}\": {what}={value} is too large"))
    };
    let more = more.map(|more| &more.server);
    let (down, drain) = down_and_drain(server.down);
    Ok(Server {
        weight: number("weight", server.weight)?,
        max_fails: number("max_fails", server.max_fails)?,
        max_conns: number("max_conns", server.max_conns)?,
        fail_timeout: Time::seconds(server.fail_timeout.unsigned_abs()),
        slow_start: more.and_then(|more| more.slow_start).unwrap_or(Time::seconds(0)),
        down,
        drain: drain || more.is_some_and(|more| more.drain),
        resolve: false,
        service: None,
        check: more.map_or_else(ServerCheck::default, |more| more.check.clone()),
        route: route(server),
        written: String::from_utf8_lossy(written).into_owned(),
        sticky: sticky(server, &name),
        addresses: Vec::new(),
        id: None,
        server: name,
    })
}

/// Whether the line of a server has `down`, and whether it has `drain`, which nginx keeps in the same
/// place.
#[cfg(ngx_upstream_sid)]
pub(super) fn down_and_drain(down: usize) -> (bool, bool) {
    const DRAINING: usize = 8;
    (down & !DRAINING != 0, down & DRAINING != 0)
}

#[cfg(not(ngx_upstream_sid))]
pub(super) fn down_and_drain(down: usize) -> (bool, bool) {
    (down != 0, false)
}

/// The `route` of the line of a server.
#[cfg(ngx_upstream_sid)]
fn route(server: &ngx_http_upstream_server_t) -> String {
    // SAFETY: the strings of the configuration live as long as the cycle.
    String::from_utf8_lossy(unsafe { conf::bytes(server.sid) }).into_owned()
}

#[cfg(not(ngx_upstream_sid))]
fn route(_server: &ngx_http_upstream_server_t) -> String {
    String::new()
}

/// By what clients that stick to a server name it: as ngx_http_upstream_init_round_robin_sid().
#[cfg(ngx_upstream_sid)]
fn sticky(server: &ngx_http_upstream_server_t, address: &str) -> String {
    Some(route(server))
        .filter(|route| !route.is_empty())
        .unwrap_or_else(|| format!("{:x}", md5::compute(address)))
}

#[cfg(not(ngx_upstream_sid))]
fn sticky(_server: &ngx_http_upstream_server_t, _address: &str) -> String {
    String::new()
}

/// All upstreams of the configuration that is being read.
fn upstreams(cf: &mut Conf) -> &'static [*mut ngx_http_upstream_srv_conf_t] {
    // SAFETY: the http block is being read or was just read, and nginx has its context; it has an array
    // of pointers to upstreams.
    unsafe {
        let main = NgxHttpUpstreamModule::main_conf(&*cf.as_ptr());
        main.map_or(&[], |main| main.upstreams.as_slice())
    }
}

/// Looks at all upstreams when the whole configuration was read, and declares the zone.
///
/// # Errors
/// Where something does not fit; it was logged.
pub(super) fn complete(cf: &mut Conf) -> Result<(), ()> {
    for upstream in upstreams(cf) {
        // SAFETY: nginx has read all blocks, and they live as long as the cycle.
        let Some(own) = Module::server_conf(unsafe { &**upstream }) else { continue };
        check_block(cf, own)?;
        stock::watch(cf, *upstream, own)?;
    }
    variables::check(cf)?;
    checks::look_at_definitions(cf)?;

    // SAFETY: the configuration is being read, and nobody else uses ours meanwhile.
    let Some(main) = Module::main_conf_mut(unsafe { &*cf.as_ptr() }) else {
        return Ok(());
    };
    main.clusters.resolver = Resolver::of_http(cf);
    main.clusters.is_variable = variables::known(cf);
    if main.clusters.needs_zone {
        main.clusters.plain_tls = checks::plain_tls(cf);
    }
    // SAFETY: nginx allocated it in the pool of the cycle, where it stays.
    unsafe { main.clusters.declare_zone(cf, Module::module()) }
}

fn check_block(cf: &mut Conf, own: &UpstreamConf) -> Result<(), ()> {
    let (position, message) = match (&own.cluster, &own.needs_cluster) {
        (Some((_, position)), _) if !own.is_installed.get() => (
            position,
            "\"checkups_cluster\" directive: a balancing method behind it replaces it, remove that \
             method (ip_hash, least_conn, hash, random)"
                .to_owned(),
        ),
        (None, Some((name, position))) => (
            position,
            format!("\"{name}\" directive: it must stand together with \"checkups_cluster\""),
        ),
        _ => return Ok(()),
    };
    cf.refuse_at(position, message);
    Err(())
}

/// What a request wants of a cluster.
///
/// # Safety
/// The result is used for no longer than the request lives.
pub(super) unsafe fn wish(
    request: *mut ngx_http_request_t,
    main: &MainConf,
    entry: &Entry,
    current: &Current,
) -> Wish<'static> {
    let configured = entry.configured.as_ref();
    let expressions = configured.and_then(|configured| main.expressions.get(configured.number));
    // SAFETY: as the caller says.
    let order = expressions
        .and_then(|expressions| expressions.order.as_ref())
        .and_then(|order| unsafe { order.value(request) })
        .unwrap_or_default();
    let is_as_configured =
        configured.is_some_and(|it| it.settings.balance == current.settings.balance);
    let key = match expressions {
        Some(Expressions { keys, .. }) if is_as_configured => {
            // SAFETY: likewise.
            let mut keys = keys.iter().filter_map(|key| unsafe { key.value(request) });
            keys.find(|key| !key.is_empty())
        }
        _ => {
            let names = current.settings.balance.keys();
            let names = names.iter().filter_map(|key| key.strip_prefix('$'));
            // SAFETY: likewise.
            let mut keys = names.filter_map(|name| unsafe { variables::value(request, name) });
            keys.find(|key| !key.is_empty())
        }
    };
    Wish { order, key: key.map(ring::key) }
}

/// The cluster that requests to a block go to, by its name. `Err`: the name, where there is none.
///
/// # Safety
/// The result is used for no longer than the request lives.
unsafe fn named(
    request: *mut ngx_http_request_t,
    main: &MainConf,
    name: &Expression,
) -> Result<Rc<Entry>, &'static [u8]> {
    // SAFETY: as the caller says.
    let name = unsafe { name.value(request) }.unwrap_or_default();
    let found = std::str::from_utf8(name).ok().and_then(|name| main.clusters.find(name));
    let found = found.filter(|entry| entry.watch.is_none() && !entry.current().is_deleted);
    found.ok_or(name)
}

/// Prepares a request for its tries: nginx's `peer.init`.
unsafe extern "C" fn init_peer(
    request: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with a request that it begins to proxy, and the block for it.
        let (inner, upstream) = unsafe { (&mut *request, &mut *upstream) };
        let (Some(main), Some(own)) = (Module::main(inner), Module::server_conf(upstream)) else {
            return Status::NGX_ERROR;
        };
        // SAFETY: a request that is proxied has an upstream.
        let proxied = unsafe { &mut *inner.upstream };
        let entry = match &own.named_by {
            // SAFETY: the name is used during this call only.
            Some(name) => unsafe { named(request, main, name) },
            None => {
                let index = own.index.get().unwrap_or(usize::MAX);
                main.clusters.clusters().get(index).cloned().ok_or(&[][..])
            }
        };
        // SAFETY: the peer, the pool and the settings are the request's, which has an upstream now;
        // the name is the configuration's, which the request keeps alive.
        let begun = unsafe {
            match entry {
                Ok(entry) => begin(request, proxied, main, entry, &mut upstream.host),
                Err(name) => begin_unknown(&mut proxied.peer, inner.pool, name, &mut upstream.host),
            }
        };
        match begun {
            Ok(()) => Status::NGX_OK,
            Err(()) => Status::NGX_ERROR,
        }
    })
    .into()
}

/// # Safety
/// The request is one that nginx begins to proxy; `upstream` lives for as long as it.
unsafe fn begin(
    request: *mut ngx_http_request_t,
    proxied: &mut ngx_http_upstream_t,
    main: &MainConf,
    entry: Rc<Entry>,
    upstream: *mut ngx_str_t,
) -> Result<(), ()> {
    let current = entry.current();
    let settings = &current.settings;
    // SAFETY: as the caller says.
    unsafe {
        let pool = (*request).pool;
        let next_timeout = (*proxied.conf).next_upstream_timeout;
        let own = timeouts::settings(proxied.conf, settings.timeouts, settings.limits, pool);
        if let Some(own) = own {
            proxied.conf = own;
        }
        let wish = wish(request, main, &entry, &current);
        let peer = &mut proxied.peer;
        Tries::<Http>::begin(peer, request, pool, (entry, current), upstream, wish, next_timeout)
    }
}
