//! What tests of the module need beyond the API: clusters are changed, and the zone is verified.

use std::net::SocketAddr;

use ngx::core::Status;
use ngx::ffi::{
    ngx_chain_t, ngx_http_finalize_request, ngx_http_read_client_request_body, ngx_http_request_t,
    NGX_DONE, NGX_HTTP_PUT, NGX_HTTP_SPECIAL_RESPONSE,
};
use ngx::http::{HTTPStatus, HttpModuleMainConf, Request};
use serde::Deserialize;

use super::api::{path, respond};
use super::module::Module;
use crate::logic::api::Resource;
use crate::nginx::guard::guard;
use crate::shm::generation::PeerPlan;
use crate::upstream::configuration::Configuration;

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
    if path(inner).trim_start_matches('/') == "verify" {
        let configuration = Module::main_conf(inner)?;
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
    request.as_mut().set_request_body_in_single_buf(1);
    // SAFETY: the request is at its content phase, and its body was not read yet.
    let code = unsafe { ngx_http_read_client_request_body(request.into(), Some(change)) };
    Some(if code >= NGX_HTTP_SPECIAL_RESPONSE as isize {
        Status(code)
    } else {
        Status(NGX_DONE as isize)
    })
}

/// The body of a PUT is there.
unsafe extern "C" fn change(request: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls it with the request whose body it has read.
        let (request, body) = unsafe {
            let body = (*request).request_body.as_ref().map_or(Vec::new(), |body| read(body.bufs));
            (Request::from_ngx_http_request(request), body)
        };
        let (status, text) = match apply(request, &body) {
            Ok(()) => (HTTPStatus::OK, "{}".to_owned()),
            Err(text) => (HTTPStatus::BAD_REQUEST, text),
        };
        let status = respond(request, status, &text);
        // SAFETY: reading the body took a reference to the request, which this gives back.
        unsafe { ngx_http_finalize_request(request.into(), status.0) }
    });
}

/// # Safety
/// The chain is that of a request body.
unsafe fn read(mut chain: *mut ngx_chain_t) -> Vec<u8> {
    let mut bytes = Vec::new();
    // SAFETY: the buffers of a body are in memory, or of no length where they are in a file.
    unsafe {
        while let Some(link) = chain.as_ref() {
            let length = usize::try_from((*link.buf).last.offset_from((*link.buf).pos));
            bytes.extend_from_slice(std::slice::from_raw_parts(
                (*link.buf).pos,
                length.unwrap_or_default(),
            ));
            chain = link.next;
        }
    }
    bytes
}

fn apply(request: &Request, body: &[u8]) -> Result<(), String> {
    let inner: &ngx_http_request_t = request.as_ref();
    let configuration: &Configuration = Module::main_conf(inner).ok_or("no configuration")?;
    let Some(Resource::Cluster(name)) = Resource::at(path(inner)) else {
        return Err("no cluster".to_owned());
    };
    let entry = configuration.cluster(name).ok_or("unknown cluster")?;
    let cluster = entry.records.get().ok_or("no records")?;
    let root = configuration.root().ok_or("no zone")?;
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let checked = !entry.settings.checks.is_empty();

    let mut addresses = Vec::new();
    for server in body.levels.iter().flat_map(|level| &level.servers) {
        addresses.push(socket_address(&server.server)?);
    }
    let mut address = addresses.iter();
    let plan: Vec<Vec<PeerPlan<'_>>> = body
        .levels
        .iter()
        .map(|level| {
            let servers = level.servers.iter().zip(&mut address);
            servers
                .map(|(server, address)| PeerPlan {
                    name: &server.server,
                    address,
                    weight: server.weight,
                    max_fails: server.max_fails,
                    fail_timeout: 10_000,
                    max_conns: server.max_conns,
                    down: server.down,
                    checked: checked && !server.down,
                })
                .collect()
        })
        .collect();
    let updated = configuration.with_slab(|slab| root.update(slab, cluster, &plan));
    updated.ok_or("no zone")?.map_err(|full| full.to_string())
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
