//! The location of `checkups_api`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ptr;

use ngx::core::Buffer;
use ngx::core::Status;
use ngx::ffi::{
    ngx_chain_t, ngx_hash_key, ngx_http_finalize_request, ngx_http_get_variable,
    ngx_http_request_t, ngx_int_t, ngx_str_t, off_t, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_POST,
};
use ngx::http::{HTTPStatus, HttpModuleLocationConf, NgxHttpCoreModule, Request};
use serde::Serialize;

use super::body;
use super::module::{MainConf, Module};
use crate::logic::api::{
    self, is_json, segments, select_arguments, Refusal, Resource, ENDPOINTS, MAX_BODY,
};
use crate::logic::balance::ring;
use crate::logic::settings;
use crate::nginx::guard::guard;
use crate::nginx::{conf, process};
use crate::upstream::configuration::{Configuration, Entry};
use crate::upstream::peer::{report_ejection, select_once, Wish};
use crate::upstream::status::status;

/// The largest body that nginx reads for us. It is more than we take, so that a body that is too
/// large gets an answer of ours in most cases.
pub(super) const MAX_READ: usize = 16 * MAX_BODY;

/// Answers a request: nginx's content handler of the location.
pub(super) unsafe extern "C" fn handler(request: *mut ngx_http_request_t) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with a request at its content phase.
        let request = unsafe { Request::from_ngx_http_request(request) };
        #[cfg(feature = "development")]
        if let Some(status) = super::development::handle(request) {
            return status;
        }
        let segments = path(request.as_ref());
        let resource = segments.as_deref().and_then(Resource::at);
        let allow = resource.as_ref().map_or("", Resource::allow);
        let answered = match resource {
            None => Err(Refusal::PathNotFound),
            Some(Resource::Feedback { .. }) => match refuse_write(request) {
                // The body is read first; the answer comes from there.
                None => return body::read(request, Some(take_feedback)),
                Some(refusal) => Err(refusal),
            },
            Some(resource) => answer(request, &resource),
        };
        let discarded = request.discard_request_body();
        if discarded != Status::NGX_OK {
            return discarded;
        }
        finish(request, answered, allow)
    })
    .into()
}

/// Sends what came of a request. `allow` are the methods of its resource.
fn finish(request: &mut Request, answered: Result<String, Refusal>, allow: &str) -> Status {
    match answered {
        Ok(body) => respond(request, HTTPStatus::OK, &body),
        Err(refusal) => {
            let allow = match refusal {
                Refusal::MethodNotAllowed => Some(allow),
                Refusal::MethodDisabled => Some(""),
                _ => None,
            };
            if allow.is_some_and(|allow| request.add_header_out("Allow", allow).is_none()) {
                return Status::NGX_ERROR;
            }
            let status =
                HTTPStatus::from_u16(refusal.status()).unwrap_or(HTTPStatus::INTERNAL_SERVER_ERROR);
            let body = refusal.body(&request_id(request));
            respond(request, status, &body)
        }
    }
}

/// The answer to a request that changes nothing.
fn answer(request: &Request, resource: &Resource<'_>) -> Result<String, Refusal> {
    let inner: &ngx_http_request_t = request.as_ref();
    if inner.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
        return Err(Refusal::MethodNotAllowed);
    }
    let main = Module::main(inner).ok_or(Refusal::Internal)?;
    match resource {
        Resource::Root => json(&ENDPOINTS),
        Resource::Status => match status(&main.clusters) {
            Some(status) => json(&status),
            None => json(&crate::logic::status::Status::EMPTY),
        },
        Resource::Clusters => json(&all(&main.clusters)),
        Resource::Cluster(name) => json(&cluster(main, name)?.current_settings()),
        Resource::Select(name) => select(inner, balanced(main, name)?),
        Resource::Feedback { .. } => Err(Refusal::MethodNotAllowed),
    }
}

fn cluster<'a>(main: &'a MainConf, name: &str) -> Result<&'a Entry, Refusal> {
    main.clusters.cluster(name).ok_or(Refusal::ClusterNotFound)
}

/// A cluster whose servers checkups selects.
fn balanced<'a>(main: &'a MainConf, name: &str) -> Result<&'a Entry, Refusal> {
    let entry = cluster(main, name)?;
    Some(entry).filter(|entry| entry.watch.is_none()).ok_or(Refusal::BalancedByNginx)
}

fn all(configuration: &Configuration) -> BTreeMap<&str, Cow<'_, settings::Cluster>> {
    let clusters = configuration.clusters().iter();
    clusters.map(|entry| (entry.name(), entry.current_settings())).collect()
}

/// Selects a server as for a request with the key and the order that the arguments say.
fn select(request: &ngx_http_request_t, entry: &Entry) -> Result<String, Refusal> {
    // SAFETY: the arguments live as long as the request.
    let (key, order) = select_arguments(unsafe { conf::bytes(request.args) });
    let key = key.filter(|key| !key.is_empty()).map(|key| ring::key(&key));
    let wish = Wish { order: order.as_deref().unwrap_or_default(), key };
    let selected = select_once(entry, &wish, |server, name, number| {
        json(&api::Selected::new(entry.name(), name, number, server))
    });
    selected.ok_or(Refusal::NoServersAvailable)?
}

/// Why a request may not change anything, before its body is read.
fn refuse_write(request: &Request) -> Option<Refusal> {
    let inner: &ngx_http_request_t = request.as_ref();
    let may_write =
        Module::location_conf(inner).and_then(|location| location.api).is_some_and(|api| api.write);
    // SAFETY: a header that is there lives as long as the request.
    let content_type =
        unsafe { inner.headers_in.content_type.as_ref().map(|header| conf::bytes(header.value)) };
    if inner.method & NGX_HTTP_POST as usize == 0 {
        Some(Refusal::MethodNotAllowed)
    } else if !may_write {
        Some(Refusal::MethodDisabled)
    } else if !is_json(content_type) {
        Some(Refusal::UnsupportedMediaType)
    } else if inner.headers_in.content_length_n > MAX_BODY as off_t {
        Some(Refusal::BodyTooLarge)
    } else {
        None
    }
}

/// The body of a feedback was read.
unsafe extern "C" fn take_feedback(request: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls it with the request whose body it has read.
        let (body, request) =
            unsafe { (body::bytes(request, MAX_BODY), Request::from_ngx_http_request(request)) };
        let answered = match body {
            None => Err(Refusal::Internal),
            Some(body) if body.len() > MAX_BODY => Err(Refusal::BodyTooLarge),
            Some(body) => feedback(request.as_ref(), &body),
        };
        let status = finish(request, answered, "");
        // SAFETY: reading the body took a reference to the request, which this gives back.
        unsafe { ngx_http_finalize_request(request.into(), status.0) }
    });
}

fn feedback(request: &ngx_http_request_t, body: &[u8]) -> Result<String, Refusal> {
    let segments = path(request).ok_or(Refusal::PathNotFound)?;
    let Some(Resource::Feedback { cluster: name, server }) = Resource::at(&segments) else {
        return Err(Refusal::PathNotFound);
    };
    let failed = api::feedback(body)?.failed;
    let main = Module::main(request).ok_or(Refusal::Internal)?;
    let records = balanced(main, name)?.records.get().ok_or(Refusal::Internal)?;
    let taken = records.feedback(server, failed, process::now()).ok_or(Refusal::ServerNotFound)?;
    if let Some(ejected) = taken.ejected {
        report_ejection(name, server, ejected);
    }
    json(&api::Taken { server, available: taken.available })
}

fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|_| Refusal::Internal)
}

/// The path below the location, in its segments. `None`: one that is not text is none of ours.
pub(super) fn path(request: &ngx_http_request_t) -> Option<Vec<String>> {
    let location = NgxHttpCoreModule::location_conf(request)?;
    // SAFETY: the strings live as long as the request.
    unsafe {
        let (uri, unparsed) = (conf::bytes(request.uri), conf::bytes(request.unparsed_uri));
        segments(uri, unparsed, conf::bytes(location.name))
    }
}

/// The variable `$request_id`.
fn request_id(request: &mut Request) -> String {
    const NAME: &[u8] = b"request_id";
    let mut name: ngx_str_t = conf::string(NAME);
    // SAFETY: nginx only reads the name; the value lives as long as the request.
    unsafe {
        let key = ngx_hash_key(name.data, name.len);
        let value = ngx_http_get_variable(request.into(), &mut name, key);
        match value.as_ref() {
            Some(value) if value.not_found() == 0 => {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            }
            _ => String::new(),
        }
    }
}

pub(super) fn respond(request: &mut Request, status: HTTPStatus, body: &str) -> Status {
    let Some(mut buffer) = request.pool().create_buffer_from_str(body) else {
        return Status::NGX_ERROR;
    };
    request.set_status(status);
    request.set_content_length_n(body.len());
    request.as_mut().headers_out.content_type = conf::string(b"application/json");
    request.as_mut().headers_out.content_type_len = "application/json".len();
    if request.add_header_out("Cache-Control", "no-store").is_none() {
        return Status::NGX_ERROR;
    }
    let sent = request.send_header();
    if sent == Status::NGX_ERROR || sent.0 > Status::NGX_OK.0 || request.header_only() {
        return sent;
    }
    buffer.set_last_buf(request.is_main());
    buffer.set_last_in_chain(true);
    let mut chain = ngx_chain_t { buf: buffer.as_ngx_buf_mut(), next: ptr::null_mut() };
    request.output_filter(&mut chain)
}
