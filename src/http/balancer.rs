//! The way from an `upstream` block to its cluster, and from a request to the block's.

use ngx::core::Status;
use ngx::ffi::{
    ngx_addr_t, ngx_conf_t, ngx_http_request_t, ngx_http_upstream_init_round_robin,
    ngx_http_upstream_server_t, ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_uint_t,
    NGX_HTTP_UPSTREAM_FT_HTTP_403, NGX_HTTP_UPSTREAM_FT_HTTP_404, NGX_HTTP_UPSTREAM_FT_HTTP_429,
    NGX_HTTP_UPSTREAM_FT_HTTP_500, NGX_HTTP_UPSTREAM_FT_HTTP_502, NGX_HTTP_UPSTREAM_FT_HTTP_503,
    NGX_HTTP_UPSTREAM_FT_HTTP_504,
};
use ngx::http::{HttpModule, HttpModuleMainConf, HttpModuleServerConf, NgxHttpUpstreamModule};

use super::module::{Module, UpstreamConf};
use crate::logic::directive::{self, ClusterDirective};
use crate::logic::settings::{Balance, Check, Cluster, Level, Server, Time};
use crate::nginx::conf::{self, Conf, Position};
use crate::nginx::guard::guard;
use crate::shm::cluster::Outcome;
use crate::upstream::configuration::Entry;
use crate::upstream::peer::Tries;
use crate::upstream::subsystem::Subsystem;

/// The http subsystem.
struct Http;

impl Subsystem for Http {
    type Session = ngx_http_request_t;

    unsafe fn connection_was_stale(request: *mut ngx_http_request_t) -> bool {
        // SAFETY: the caller vouches for the request; it has an upstream while it is being proxied.
        unsafe {
            let upstream = &*(*request).upstream;
            let connection = upstream.peer.connection;
            if connection.is_null() {
                return false;
            }
            // In nginx such a failure is the one of ngx_http_upstream_next() with FT_ERROR on a
            // cached connection. A timeout, or anything that the server said, is the server's.
            let timed_out =
                (*(*connection).read).timedout() != 0 || (*(*connection).write).timedout() != 0;
            let answered =
                upstream.headers_in.status_n != 0 || upstream.buffer.last != upstream.buffer.pos;
            !timed_out && !answered
        }
    }

    unsafe fn outcome_of_answer(request: *mut ngx_http_request_t) -> Outcome {
        // SAFETY: the caller vouches for the request; it has an upstream while it is being proxied,
        // which has a configuration, and a state once a server was selected.
        let (status, named) = unsafe {
            let upstream = &*(*request).upstream;
            let Some(state) = upstream.state.as_ref() else { return Outcome::Unknown };
            (state.status, (*upstream.conf).next_upstream)
        };
        let (condition, outcome) = match status {
            500 => (NGX_HTTP_UPSTREAM_FT_HTTP_500, Outcome::Failure),
            502 => (NGX_HTTP_UPSTREAM_FT_HTTP_502, Outcome::Failure),
            503 => (NGX_HTTP_UPSTREAM_FT_HTTP_503, Outcome::Failure),
            504 => (NGX_HTTP_UPSTREAM_FT_HTTP_504, Outcome::Failure),
            429 => (NGX_HTTP_UPSTREAM_FT_HTTP_429, Outcome::Failure),
            // As in ngx_http_upstream_next(): the next server is tried, but this one has not failed.
            403 => (NGX_HTTP_UPSTREAM_FT_HTTP_403, Outcome::Unknown),
            404 => (NGX_HTTP_UPSTREAM_FT_HTTP_404, Outcome::Unknown),
            _ => return Outcome::Success,
        };
        if named & condition as ngx_uint_t != 0 {
            outcome
        } else {
            Outcome::Success
        }
    }
}

/// Makes a cluster of an upstream block: nginx's `init_upstream`.
pub(super) unsafe extern "C" fn init_upstream(
    cf: *mut ngx_conf_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // nginx's own balancer first: it refuses what cannot be an upstream, and `zone` and the like
        // look for its peers.
        // SAFETY: nginx calls this with a block that it has read.
        unsafe {
            if ngx_http_upstream_init_round_robin(cf, upstream) != Status::NGX_OK.0 {
                return Status::NGX_ERROR;
            }
            (*upstream).peer.init = Some(init_peer);
        }
        // SAFETY: likewise; both are used during this call only.
        let (cf, upstream) = unsafe { (Conf::from_ptr(cf), &*upstream) };
        match add_cluster(cf, upstream) {
            Ok(()) => Status::NGX_OK,
            Err(()) => Status::NGX_ERROR,
        }
    })
    .into()
}

fn add_cluster(cf: &mut Conf, upstream: &ngx_http_upstream_srv_conf_t) -> Result<(), ()> {
    let Some(own) = Module::server_conf(upstream) else { return Err(()) };
    let Some((directive, position)) = &own.cluster else { return Err(()) };
    // SAFETY: the configuration is being read, and nobody else uses ours meanwhile.
    let Some(configuration) = Module::main_conf_mut(unsafe { &*cf.as_ptr() }) else {
        return Err(());
    };

    let check = own.check.as_ref().and_then(|(check, _)| check.as_ref());
    let built = read(upstream, directive, check);
    let (settings, addresses) = built.map_err(|message| cf.refuse_at(position, message))?;
    if let Some(other) = configuration.cluster(&settings.name) {
        let message = format!(
            "duplicate cluster name \"{}\", it is that of the upstream in {} as well",
            settings.name, other.position
        );
        cf.refuse_at(position, message);
        return Err(());
    }
    let entry =
        Entry { settings, addresses, position: position.clone(), records: Default::default() };
    own.index.set(Some(configuration.add(entry)));
    Ok(())
}

/// Socket addresses, level by level.
type Addresses = Vec<Vec<Vec<u8>>>;

/// The settings of a block.
fn read(
    upstream: &ngx_http_upstream_srv_conf_t,
    directive: &ClusterDirective,
    check: Option<&Check>,
) -> Result<(Cluster, Addresses), String> {
    // SAFETY: nginx has read the block, and its strings and servers live as long as the cycle.
    let (host, servers) = unsafe {
        (conf::bytes(upstream.host), (*upstream.servers).as_slice::<ngx_http_upstream_server_t>())
    };
    let name = match &directive.name {
        Some(name) => name.clone(),
        None => directive::cluster_name(&String::from_utf8_lossy(host)).map_err(|error| {
            format!("{error}; give the cluster another name than the upstream's: \"checkups_cluster NAME\"")
        })?,
    };

    let mut levels = vec![Level::default(), Level::default()];
    let mut addresses: Addresses = vec![Vec::new(), Vec::new()];
    for server in servers {
        refuse_resolve(server)?;
        let level = usize::from(server.backup() != 0);
        for index in 0..server.naddrs {
            // SAFETY: a server has so many addresses.
            let address = unsafe { &*server.addrs.add(index) };
            levels[level].servers.push(settings(server, address)?);
            addresses[level].push(socket_address(address));
        }
    }
    if levels[1].servers.is_empty() {
        levels.pop();
        addresses.pop();
    }
    let cluster = Cluster {
        name,
        balance: Balance::RoundRobin,
        tries: directive.tries,
        levels,
        checks: check.cloned().into_iter().collect(),
    };
    Ok((cluster, addresses))
}

/// Servers whose addresses come and go while nginx runs are not followed.
fn refuse_resolve(_server: &ngx_http_upstream_server_t) -> Result<(), String> {
    #[cfg(ngx_upstream_resolve)]
    if _server.host.len != 0 {
        // SAFETY: the strings of the configuration live as long as the cycle.
        let name = unsafe { String::from_utf8_lossy(conf::bytes(_server.name)) };
        return Err(format!("server \"{name}\": \"resolve\" does not go with checkups_cluster"));
    }
    Ok(())
}

fn settings(server: &ngx_http_upstream_server_t, address: &ngx_addr_t) -> Result<Server, String> {
    // SAFETY: the name of the address lives as long as the cycle.
    let name = unsafe { String::from_utf8_lossy(conf::bytes(address.name)) }.into_owned();
    let number = |what: &str, value: usize| {
        u32::try_from(value).map_err(|_| format!("server \"{name}\": {what}={value} is too large"))
    };
    Ok(Server {
        weight: number("weight", server.weight)?,
        max_fails: number("max_fails", server.max_fails)?,
        max_conns: number("max_conns", server.max_conns)?,
        fail_timeout: Time::seconds(server.fail_timeout.unsigned_abs()),
        down: server.down != 0,
        server: name,
    })
}

fn socket_address(address: &ngx_addr_t) -> Vec<u8> {
    // SAFETY: a valid address has so many bytes.
    unsafe {
        std::slice::from_raw_parts(address.sockaddr.cast::<u8>(), address.socklen as usize).to_vec()
    }
}

/// Looks at all upstreams when the whole configuration was read, and declares the zone.
///
/// # Errors
/// Where something does not fit; it was logged.
pub(super) fn complete(cf: &mut Conf) -> Result<(), ()> {
    // SAFETY: postconfiguration runs within the http block, whose context nginx has.
    let main = NgxHttpUpstreamModule::main_conf(unsafe { &*cf.as_ptr() });
    let upstreams: &[*mut ngx_http_upstream_srv_conf_t] = match main {
        // SAFETY: an array of pointers to upstreams, which nginx has read.
        Some(main) => unsafe { main.upstreams.as_slice() },
        None => &[],
    };
    for upstream in upstreams {
        // SAFETY: likewise.
        let Some(own) = Module::server_conf(unsafe { &**upstream }) else { continue };
        check_block(cf, own)?;
    }

    // SAFETY: the configuration is being read, and nobody else uses ours meanwhile.
    let Some(configuration) = Module::main_conf_mut(unsafe { &*cf.as_ptr() }) else {
        return Ok(());
    };
    // SAFETY: nginx allocated it in the pool of the cycle, where it stays.
    unsafe { configuration.declare_zone(cf, Module::module()) }
}

fn check_block(cf: &mut Conf, own: &UpstreamConf) -> Result<(), ()> {
    let refuse = |cf: &mut Conf, position: &Position, message: &str| {
        cf.refuse_at(position, message);
        Err(())
    };
    match (&own.cluster, &own.check) {
        (Some((_, position)), _) if own.index.get().is_none() => refuse(
            cf,
            position,
            "\"checkups_cluster\" directive: a balancing method behind it replaces it, remove that \
             method (ip_hash, least_conn, hash, random)",
        ),
        (None, Some((_, position))) => refuse(
            cf,
            position,
            "\"checkups_check\" directive: it must stand together with \"checkups_cluster\"",
        ),
        _ => Ok(()),
    }
}

/// Prepares a request for its tries: nginx's `peer.init`.
unsafe extern "C" fn init_peer(
    request: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with a request that it begins to proxy, and the block for it.
        let (request, upstream) = unsafe { (&mut *request, &mut *upstream) };
        let entry = Module::main_conf(request).and_then(|configuration| {
            let index = Module::server_conf(upstream)?.index.get()?;
            configuration.clusters().get(index)
        });
        let Some(entry) = entry else { return Status::NGX_ERROR };
        // SAFETY: the peer and the pool are the request's; the name is the configuration's, which
        // the request keeps alive.
        let begun = unsafe {
            let peer = &mut (*request.upstream).peer;
            Tries::<Http>::begin(peer, request, request.pool, entry, &mut upstream.host)
        };
        match begun {
            Ok(()) => Status::NGX_OK,
            Err(()) => Status::NGX_ERROR,
        }
    })
    .into()
}
