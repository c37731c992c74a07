//! What tests of the module need beyond the API: clusters are changed, and the zone is verified.

use std::net::SocketAddr;

use ngx::core::Status;
use ngx::ffi::{ngx_http_finalize_request, ngx_http_request_t, NGX_HTTP_PUT};
use ngx::http::{HTTPStatus, Request};
use serde::Deserialize;

use super::api::{path, respond};
use super::body;
use super::module::Module;
use crate::logic::api::{Resource, MAX_BODY};
use crate::logic::settings::{self, Time};
use crate::nginx::guard::guard;

/// The body of a PUT.
#[derive(Deserialize)]
struct Body {
    levels: Vec<Level>,
}

#[derive(Deserialize)]
struct Level {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Server {
    server: String,
    weight: u32,
    max_fails: u32,
    max_conns: u32,
    down: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { server: String::new(), weight: 1, max_fails: 1, max_conns: 0, down: false }
    }
}

/// Answers what only tests ask for. `None`: it is not that.
pub(super) fn handle(request: &mut Request) -> Option<Status> {
    let inner: &ngx_http_request_t = request.as_ref();
    let segments = path(inner)?;
    if segments == ["verify"] {
        let configuration = &Module::main(inner)?.clusters;
        let verified = configuration.with_slab(|_| configuration.root()?.verify().err())?;
        let (status, text) = match verified {
            None => (HTTPStatus::OK, "consistent".to_owned()),
            Some(wrong) => (HTTPStatus::INTERNAL_SERVER_ERROR, wrong),
        };
        return Some(respond(request, status, &text));
    }
    if inner.method & NGX_HTTP_PUT as usize == 0 {
        return None;
    }
    Some(body::read(request, Some(change)))
}

/// The body of a PUT is there.
unsafe extern "C" fn change(request: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls it with the request whose body it has read.
        let (body, request) =
            unsafe { (body::bytes(request, MAX_BODY), Request::from_ngx_http_request(request)) };
        let (status, text) = match apply(request, &body.unwrap_or_default()) {
            Ok(()) => (HTTPStatus::OK, "{}".to_owned()),
            Err(text) => (HTTPStatus::BAD_REQUEST, text),
        };
        let status = respond(request, status, &text);
        // SAFETY: reading the body took a reference to the request, which this gives back.
        unsafe { ngx_http_finalize_request(request.into(), status.0) }
    });
}

fn apply(request: &Request, body: &[u8]) -> Result<(), String> {
    let inner: &ngx_http_request_t = request.as_ref();
    let configuration = &Module::main(inner).ok_or("no configuration")?.clusters;
    let segments = path(inner).unwrap_or_default();
    let Some(Resource::Cluster(name)) = Resource::at(&segments) else {
        return Err("no cluster".to_owned());
    };
    let entry = configuration.cluster(name).ok_or("unknown cluster")?;
    let cluster = entry.records.get().ok_or("no records")?;
    let root = configuration.root().ok_or("no zone")?;
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;

    let mut addresses = Vec::new();
    for level in &body.levels {
        let level = level.servers.iter().map(|server| socket_address(&server.server));
        addresses.push(level.collect::<Result<Vec<_>, _>>()?);
    }
    let levels: Vec<_> = body.levels.into_iter().map(settings::Level::from).collect();
    let plan = entry.plan(&levels, &addresses);
    let updated = configuration.with_slab(|slab| root.update(slab, cluster, &plan));
    updated.ok_or("no zone")?.map_err(|full| full.to_string())
}

impl From<Level> for settings::Level {
    fn from(level: Level) -> Self {
        let servers = level.servers.into_iter().map(|server| settings::Server {
            weight: server.weight,
            max_fails: server.max_fails,
            fail_timeout: Time::seconds(10),
            max_conns: server.max_conns,
            slow_start: Time::seconds(0),
            down: server.down,
            drain: false,
            resolve: false,
            service: None,
            check: settings::ServerCheck::default(),
            written: server.server.clone(),
            sticky: String::new(),
            server: server.server,
        });
        Self { servers: servers.collect(), ..Default::default() }
    }
}

/// The socket address of an IPv4 address with its port.
fn socket_address(text: &str) -> Result<Vec<u8>, String> {
    let SocketAddr::V4(address) = text.parse().map_err(|_| format!("no address: {text}"))? else {
        return Err(format!("no IPv4 address: {text}"));
    };
    let mut bytes = (libc::AF_INET as libc::sa_family_t).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes.extend_from_slice(&address.ip().octets());
    bytes.resize(size_of::<libc::sockaddr_in>(), 0);
    Ok(bytes)
}
