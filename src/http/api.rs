//! The location of `checkups_api`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr;
use std::rc::Rc;

use ngx::core::Buffer;
use ngx::core::Status;
use ngx::ffi::{
    ngx_chain_t, ngx_http_finalize_request, ngx_http_request_t, ngx_http_run_posted_requests,
    ngx_int_t, ngx_list_part_t, ngx_table_elt_t, off_t, NGX_HTTP_DELETE, NGX_HTTP_GET,
    NGX_HTTP_HEAD, NGX_HTTP_PATCH, NGX_HTTP_POST, NGX_HTTP_PUT,
};
use ngx::http::{HTTPStatus, HttpModuleLocationConf, NgxHttpCoreModule, Request};
use serde::Serialize;

use super::module::{MainConf, Module};
use super::{body, variables};
use crate::logic::api::{
    self, is_json, segments, select_arguments, Arguments, Method, Precondition, Refusal, Resource,
    ENDPOINTS, MAX_BODY,
};
use crate::logic::balance::ring;
use crate::logic::change::{self, Change};
use crate::logic::settings;
use crate::nginx::guard::guard;
use crate::nginx::{conf, process};
use crate::upstream::configuration::Configuration;
use crate::upstream::entry::Entry;
use crate::upstream::peer::{report_ejection, select_once, Wish};
use crate::upstream::status::status;
use crate::upstream::writer::{self, Done, Order};

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
        let answered = match (resource, method(request.as_ref())) {
            (None, _) => Err(Refusal::PathNotFound),
            (Some(resource), Some(method)) if resource.serves(method) && method.reads() => {
                answer(request.as_ref(), &resource)
            }
            (Some(resource), Some(method)) if resource.serves(method) => {
                match refuse_write(request, method) {
                    // The body is read first; the answer comes from there.
                    None => return body::read(request, Some(take_body)),
                    Some(refusal) => Err(refusal),
                }
            }
            _ => Err(Refusal::MethodNotAllowed),
        };
        let discarded = request.discard_request_body();
        if discarded != Status::NGX_OK {
            return discarded;
        }
        finish(request, answered, allow)
    })
    .into()
}

/// The method of a request. `None`: none that anything here serves.
fn method(request: &ngx_http_request_t) -> Option<Method> {
    match request.method as u32 {
        NGX_HTTP_GET => Some(Method::Get),
        NGX_HTTP_HEAD => Some(Method::Head),
        NGX_HTTP_POST => Some(Method::Post),
        NGX_HTTP_PUT => Some(Method::Put),
        NGX_HTTP_PATCH => Some(Method::Patch),
        NGX_HTTP_DELETE => Some(Method::Delete),
        _ => None,
    }
}

/// An answer that is no refusal.
struct Answer {
    status: HTTPStatus,
    body: String,
    /// The version of the cluster that it is about.
    version: Option<u64>,
}

impl Answer {
    fn new(value: &impl Serialize) -> Result<Self, Refusal> {
        let body = serde_json::to_string(value).map_err(|_| Refusal::Internal)?;
        Ok(Self { status: HTTPStatus::OK, body, version: None })
    }

    /// The same, about a cluster of this version.
    fn of_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }
}

/// Sends what came of a request. `allow` are the methods of its resource.
fn finish(request: &mut Request, answered: Result<Answer, Refusal>, allow: &str) -> Status {
    let refusal = match answered {
        Ok(Answer { status, body, version }) => {
            let tag = version.map(|version| format!("\"{version}\""));
            if tag.is_some_and(|tag| request.add_header_out("ETag", &tag).is_none()) {
                return Status::NGX_ERROR;
            }
            return respond(request, status, &body);
        }
        Err(refusal) => refusal,
    };
    let header = match &refusal {
        Refusal::MethodNotAllowed => Some(("Allow", allow)),
        Refusal::MethodDisabled if allow.starts_with("GET") => Some(("Allow", "GET, HEAD")),
        Refusal::MethodDisabled => Some(("Allow", "")),
        Refusal::TryAgain(_) => Some(("Retry-After", "1")),
        _ => None,
    };
    if header.is_some_and(|(name, value)| request.add_header_out(name, value).is_none()) {
        return Status::NGX_ERROR;
    }
    let status =
        HTTPStatus::from_u16(refusal.status()).unwrap_or(HTTPStatus::INTERNAL_SERVER_ERROR);
    let body = refusal.body(&request_id(request));
    respond(request, status, &body)
}

/// The answer to a request that changes nothing.
fn answer(request: &ngx_http_request_t, resource: &Resource<'_>) -> Result<Answer, Refusal> {
    let main = Module::main(request).ok_or(Refusal::Internal)?;
    let clusters = &main.clusters;
    match resource {
        Resource::Root => Answer::new(&ENDPOINTS),
        Resource::Status => match status(clusters) {
            Some(status) => Answer::new(&status),
            None => Answer::new(&crate::logic::status::Status::EMPTY),
        },
        Resource::Clusters => Answer::new(&all(clusters)),
        Resource::Cluster(name) => {
            let settings = cluster(main, name)?.shown_settings();
            Ok(Answer::new(&settings)?.of_version(settings.version))
        }
        Resource::Servers(name) => {
            let settings = cluster(main, name)?.shown_settings();
            Ok(Answer::new(&change::servers(&settings))?.of_version(settings.version))
        }
        Resource::Server { cluster: name, server } => {
            let settings = cluster(main, name)?.shown_settings();
            let arguments = arguments(request)?;
            let found = change::server(&settings, server, arguments.level.as_deref())?;
            Ok(Answer::new(&found)?.of_version(settings.version))
        }
        Resource::Select(name) => {
            let entry = balanced(main, name)?;
            select(request, &entry)
        }
        Resource::Feedback { .. } | Resource::Rollback(_) => Err(Refusal::MethodNotAllowed),
    }
}

fn arguments(request: &ngx_http_request_t) -> Result<Arguments, Refusal> {
    // SAFETY: the arguments live as long as the request.
    Arguments::parse(unsafe { conf::bytes(request.args) })
}

fn cluster(main: &MainConf, name: &str) -> Result<Rc<Entry>, Refusal> {
    let entry = main.clusters.find(name).ok_or(Refusal::ClusterNotFound)?;
    Some(entry).filter(|entry| !entry.current().is_deleted).ok_or(Refusal::ClusterNotFound)
}

/// A cluster whose servers checkups selects.
fn balanced(main: &MainConf, name: &str) -> Result<Rc<Entry>, Refusal> {
    let entry = cluster(main, name)?;
    Some(entry).filter(|entry| entry.watch.is_none()).ok_or(Refusal::BalancedByNginx)
}

fn all(configuration: &Configuration) -> BTreeMap<String, settings::Cluster> {
    let entries = configuration.all().into_iter();
    let entries = entries.filter(|entry| !entry.current().is_deleted);
    entries.map(|entry| (entry.name().to_owned(), entry.shown_settings())).collect()
}

/// Selects a server as for a request with the key and the order that the arguments say.
fn select(request: &ngx_http_request_t, entry: &Entry) -> Result<Answer, Refusal> {
    // SAFETY: the arguments live as long as the request.
    let (key, order) = select_arguments(unsafe { conf::bytes(request.args) });
    let key = key.filter(|key| !key.is_empty()).map(|key| ring::key(&key));
    let wish = Wish { order: order.as_deref().unwrap_or_default(), key };
    let selected = select_once(entry, &wish, |server, name, number| {
        Answer::new(&api::Selected::new(entry.name(), name, number, server))
    });
    selected.ok_or(Refusal::NoServersAvailable)?
}

/// Why a request may not change anything, before its body is read.
fn refuse_write(request: &Request, method: Method) -> Option<Refusal> {
    let inner: &ngx_http_request_t = request.as_ref();
    let may_write =
        Module::location_conf(inner).and_then(|location| location.api).is_some_and(|api| api.write);
    // SAFETY: a header that is there lives as long as the request.
    let content_type =
        unsafe { inner.headers_in.content_type.as_ref().map(|header| conf::bytes(header.value)) };
    if !may_write {
        Some(Refusal::MethodDisabled)
    } else if method.has_body() && !is_json(content_type) {
        Some(Refusal::UnsupportedMediaType)
    } else if inner.headers_in.content_length_n > MAX_BODY as off_t {
        Some(Refusal::BodyTooLarge)
    } else {
        None
    }
}

/// The body of a request was read that changes something.
unsafe extern "C" fn take_body(request: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls it with the request whose body it has read.
        let body = unsafe { body::bytes(request, MAX_BODY) };
        let taken = match body {
            None => Err(Refusal::Internal),
            Some(body) if body.len() > MAX_BODY => Err(Refusal::BodyTooLarge),
            // SAFETY: likewise.
            Some(body) => unsafe { carry_out(request, &body) },
        };
        let answered = match taken {
            Ok(None) => return,
            Ok(Some(answer)) => Ok(answer),
            Err(refusal) => Err(refusal),
        };
        // SAFETY: likewise; reading the body took a reference to the request.
        unsafe { end(request, answered) }
    });
}

/// Answers a request whose body was read.
///
/// # Safety
/// It was not answered yet.
unsafe fn end(request: *mut ngx_http_request_t, answered: Result<Answer, Refusal>) {
    // SAFETY: the request is there until the reference is given back that reading its body took.
    unsafe {
        let wrapped = Request::from_ngx_http_request(request);
        let status = finish(wrapped, answered, "");
        ngx_http_finalize_request(request, status.0);
    }
}

/// Carries out what a request wants changed. `None`: it is answered when it is done.
///
/// # Safety
/// The body of the request was read.
unsafe fn carry_out(
    request: *mut ngx_http_request_t,
    body: &[u8],
) -> Result<Option<Answer>, Refusal> {
    // SAFETY: as the caller says.
    let inner = unsafe { &*request };
    let segments = path(inner).ok_or(Refusal::PathNotFound)?;
    let resource = Resource::at(&segments).ok_or(Refusal::PathNotFound)?;
    let main = Module::main(inner).ok_or(Refusal::Internal)?;
    if let Resource::Feedback { cluster, server } = resource {
        return feedback(main, cluster, server, body).map(Some);
    }
    let method = method(inner).ok_or(Refusal::MethodNotAllowed)?;
    let arguments = arguments(inner)?;
    let (name, change) = Change::parse(&resource, method, &arguments, body)?;
    let is_dry_run = arguments.is_dry_run;
    let is_addition = method == Method::Post && matches!(resource, Resource::Servers(_));
    // SAFETY: headers live as long as the request.
    let precondition = unsafe {
        Precondition::parse(header(inner, b"if-match"), header(inner, b"if-none-match"))?
    };

    // An answer that comes while nginx is still in the handler of the body is sent by nginx itself.
    let is_within = Rc::new(Cell::new(true));
    let was_within = Rc::clone(&is_within);
    let connection = inner.connection;
    let reply = move |done: Result<Done, Refusal>| {
        let answered = done.and_then(|done| {
            let reply = change::Reply {
                name: &done.name,
                version: done.version,
                is_dry_run,
                difference: &done.difference,
            };
            let is_created = !is_dry_run && (done.is_new || is_addition);
            let status = if is_created { HTTPStatus::CREATED } else { HTTPStatus::OK };
            Ok(Answer { status, ..Answer::new(&reply)?.of_version(done.version) })
        });
        // SAFETY: the reference that reading the body took is given back here only, and nothing else
        // ends a request whose reading is blocked, as nginx has left it.
        unsafe {
            end(request, answered);
            if !was_within.get() {
                ngx_http_run_posted_requests(connection);
            }
        }
    };
    let order = Order { name, change, precondition, is_dry_run, reply: Box::new(reply) };
    writer::submit(&main.clusters, order);
    is_within.set(false);
    Ok(None)
}

/// The value of a header of a request.
///
/// # Safety
/// The result is used for no longer than the request lives.
unsafe fn header<'a>(request: &ngx_http_request_t, name: &[u8]) -> Option<&'a [u8]> {
    let mut part: *const ngx_list_part_t = &request.headers_in.headers.part;
    // SAFETY: the headers are a list of nginx, complete when the body is read.
    unsafe {
        while let Some(current) = part.as_ref() {
            let headers = current.elts.cast::<ngx_table_elt_t>();
            for index in 0..current.nelts {
                let header = &*headers.add(index);
                if conf::bytes(header.key).eq_ignore_ascii_case(name) {
                    return Some(conf::bytes(header.value));
                }
            }
            part = current.next;
        }
    }
    None
}

fn feedback(main: &MainConf, name: &str, server: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let failed = api::feedback(body)?.failed;
    let records = balanced(main, name)?.records.get().ok_or(Refusal::Internal)?;
    let taken = records.feedback(server, failed, process::now()).ok_or(Refusal::ServerNotFound)?;
    if let Some(ejected) = taken.ejected {
        report_ejection(name, server, ejected);
    }
    Answer::new(&api::Taken { server, available: taken.available })
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
    // SAFETY: the value is used during this call only.
    let value = unsafe { variables::value(request.into(), "request_id") };
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

pub(super) fn respond(request: &mut Request, status: HTTPStatus, body: &str) -> Status {
    let Some(mut buffer) = request.pool().create_buffer_from_str(body) else {
        return Status::NGX_ERROR;
    };
    request.set_status(status);
    request.set_content_length_n(body.len());
    request.as_mut().headers_out.content_type = conf::string(b"application/json");
    request.as_mut().headers_out.content_type_len = "application/json".len();
    // What If-Match says was looked at before the change, and is about the version before it.
    request.as_mut().set_disable_not_modified(1);
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
