//! The location of `checkups_api`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ngx::core::Status;
use ngx::ffi::{
    ngx_http_finalize_request, ngx_http_request_t, ngx_http_run_posted_requests, ngx_int_t,
    ngx_list_part_t, ngx_table_elt_t, off_t, NGX_HTTP_DELETE, NGX_HTTP_GET, NGX_HTTP_HEAD,
    NGX_HTTP_PATCH, NGX_HTTP_POST, NGX_HTTP_PUT,
};
use ngx::http::{HTTPStatus, HttpModuleLocationConf, NgxHttpCoreModule, Request};

use super::answer::{finish, Answer};
use super::module::{MainConf, Module};
use super::{body, plus};
use crate::logic::api::{
    self, is_json, segments, select_arguments, serves, Arguments, Method, Precondition, Problem,
    Refusal, Resource, MAX_BODY,
};
use crate::logic::balance::ring;
use crate::logic::change::{self, Change};
use crate::logic::plus::place::{self, Place};
use crate::logic::plus::VERSIONS;
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

/// What a request asks for.
enum Asked<'a> {
    /// By our own interface.
    Own(Resource<'a>),
    /// By that of NGINX Plus.
    Plus(Place<'a>),
}

impl<'a> Asked<'a> {
    fn at(segments: &'a [String]) -> Result<Self, Problem> {
        if place::is_versioned(segments) {
            return Place::at(segments).map(Self::Plus).map_err(|refusal| refusal.problem());
        }
        let resource = Resource::at(segments);
        resource.map(Self::Own).ok_or_else(|| Refusal::PathNotFound.problem())
    }

    /// The methods that it serves, as the header `Allow` has them.
    fn allow(&self) -> &'static str {
        match self {
            Self::Own(resource) => resource.allow(),
            Self::Plus(place) => place.allow(),
        }
    }

    fn problem(&self, refusal: Refusal) -> Problem {
        match self {
            Self::Own(_) => refusal.problem(),
            Self::Plus(_) => plus::Refusal::from(refusal).problem(),
        }
    }

    fn answer(&self, request: &mut Request) -> Result<Answer, Problem> {
        match self {
            Self::Own(resource) => {
                answer(request.as_ref(), resource).map_err(|refusal| refusal.problem())
            }
            Self::Plus(place) => plus::answer(request, place).map_err(|refusal| refusal.problem()),
        }
    }
}

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
        let asked = segments.as_deref().map(Asked::at);
        let asked = asked.unwrap_or_else(|| Err(Refusal::PathNotFound.problem()));
        let allow = asked.as_ref().map_or("", Asked::allow);
        let method = method(request.as_ref()).filter(|method| serves(allow, *method));
        let answered = match (asked, method) {
            (Err(problem), _) => Err(problem),
            (Ok(asked), None) => Err(asked.problem(Refusal::MethodNotAllowed)),
            (Ok(asked), Some(method)) if method.reads() => asked.answer(request),
            (Ok(asked), Some(method)) => match refuse_write(request, &asked, method) {
                // The body is read first; the answer comes from there.
                None => return body::read(request, Some(take_body)),
                Some(refusal) => Err(asked.problem(refusal)),
            },
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

/// The answer to a request that changes nothing.
fn answer(request: &ngx_http_request_t, resource: &Resource<'_>) -> Result<Answer, Refusal> {
    let main = Module::main(request).ok_or(Refusal::Internal)?;
    let clusters = &main.clusters;
    match resource {
        Resource::Root => Answer::new(&VERSIONS),
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

/// The cluster of this name.
///
/// # Errors
/// Where there is none.
pub(super) fn cluster(main: &MainConf, name: &str) -> Result<Rc<Entry>, Refusal> {
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
fn refuse_write(request: &Request, asked: &Asked<'_>, method: Method) -> Option<Refusal> {
    let inner: &ngx_http_request_t = request.as_ref();
    let may_write =
        Module::location_conf(inner).and_then(|location| location.api).is_some_and(|api| api.write);
    // SAFETY: a header that is there lives as long as the request.
    let content_type =
        unsafe { inner.headers_in.content_type.as_ref().map(|header| conf::bytes(header.value)) };
    if !may_write {
        Some(Refusal::MethodDisabled)
    } else if method.has_body() && !is_json(content_type) && !may_be_untyped(inner, asked) {
        Some(Refusal::UnsupportedMediaType)
    } else if inner.headers_in.content_length_n > MAX_BODY as off_t {
        Some(Refusal::BodyTooLarge)
    } else {
        None
    }
}

/// Whether a body is taken that does not say that it is JSON. Clients of NGINX Plus send such; but so can a
/// page of another site, in whose name a browser sends the header `Origin`.
fn may_be_untyped(request: &ngx_http_request_t, asked: &Asked<'_>) -> bool {
    // SAFETY: the header is looked at during this call only.
    matches!(asked, Asked::Plus(_)) && unsafe { header(request, b"origin") }.is_none()
}

/// The body of a request was read that changes something.
unsafe extern "C" fn take_body(request: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls it with the request whose body it has read.
        let taken = unsafe { carry_out(request) };
        let answered = match taken {
            Ok(None) => return,
            Ok(Some(answer)) => Ok(answer),
            Err(problem) => Err(problem),
        };
        // SAFETY: likewise; reading the body took a reference to the request.
        unsafe { end(request, answered) }
    });
}

/// Answers a request whose body was read.
///
/// # Safety
/// It was not answered yet.
unsafe fn end(request: *mut ngx_http_request_t, answered: Result<Answer, Problem>) {
    // SAFETY: the request is there until the reference is given back that reading its body took.
    unsafe {
        let wrapped = Request::from_ngx_http_request(request);
        let status = finish(wrapped, answered, "");
        ngx_http_finalize_request(request, status.0);
    }
}

/// What comes of a request that changes something.
pub(super) enum Outcome {
    /// It is done.
    Done(Answer),
    /// This is to be changed.
    Change(Wanted),
}

/// A change, and how it is answered.
pub(super) struct Wanted {
    /// The name of the cluster.
    pub name: String,
    /// What is to be changed.
    pub change: Change,
    /// Whether it is only to be shown what would change.
    pub is_dry_run: bool,
    /// Makes the answer.
    pub answer: Box<Answering>,
}

/// Makes the answer of what came of a change.
type Answering = dyn FnOnce(Result<Done, Refusal>) -> Result<Answer, Problem>;

/// Carries out what a request wants changed. `None`: it is answered when it is done.
///
/// # Safety
/// The body of the request was read.
unsafe fn carry_out(request: *mut ngx_http_request_t) -> Result<Option<Answer>, Problem> {
    // SAFETY: as the caller says.
    let inner = unsafe { &*request };
    let segments = path(inner).ok_or_else(|| Refusal::PathNotFound.problem())?;
    let asked = Asked::at(&segments)?;
    let refused = |refusal: Refusal| asked.problem(refusal);
    let main = Module::main(inner).ok_or_else(|| refused(Refusal::Internal))?;
    let method = method(inner).ok_or_else(|| refused(Refusal::MethodNotAllowed))?;
    // SAFETY: as the caller says.
    let body = unsafe { body::bytes(request, MAX_BODY) };
    let body = body.ok_or_else(|| refused(Refusal::Internal))?;
    if body.len() > MAX_BODY {
        return Err(refused(Refusal::BodyTooLarge));
    }
    let outcome = match &asked {
        Asked::Own(resource) => {
            change(inner, main, resource, method, &body).map_err(|refusal| refusal.problem())
        }
        Asked::Plus(place) => {
            let arguments = arguments(inner).map_err(refused)?;
            plus::change(main, place, method, &arguments, &body)
                .map_err(|refusal| refusal.problem())
        }
    };
    let Wanted { name, change, is_dry_run, answer } = match outcome? {
        Outcome::Done(answer) => return Ok(Some(answer)),
        Outcome::Change(wanted) => wanted,
    };
    // SAFETY: headers live as long as the request.
    let precondition =
        unsafe { Precondition::parse(header(inner, b"if-match"), header(inner, b"if-none-match")) };
    let precondition = precondition.map_err(refused)?;

    // An answer that comes while nginx is still in the handler of the body is sent by nginx itself.
    let is_within = Rc::new(Cell::new(true));
    let was_within = Rc::clone(&is_within);
    let connection = inner.connection;
    let reply = move |done: Result<Done, Refusal>| {
        let answered = answer(done);
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

/// What a request by our own interface wants changed.
fn change(
    request: &ngx_http_request_t,
    main: &MainConf,
    resource: &Resource<'_>,
    method: Method,
    body: &[u8],
) -> Result<Outcome, Refusal> {
    if let Resource::Feedback { cluster, server } = resource {
        return feedback(main, cluster, server, body).map(Outcome::Done);
    }
    let arguments = arguments(request)?;
    let (name, change) = Change::parse(resource, method, &arguments, body)?;
    let is_dry_run = arguments.is_dry_run;
    let is_addition = method == Method::Post && matches!(resource, Resource::Servers(_));
    let answer = move |done: Result<Done, Refusal>| {
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
        answered.map_err(|refusal| refusal.problem())
    };
    Ok(Outcome::Change(Wanted { name, change, is_dry_run, answer: Box::new(answer) }))
}

/// The value of a header of a request.
///
/// # Safety
/// The result is used for no longer than the request lives.
unsafe fn header<'a>(request: &ngx_http_request_t, name: &[u8]) -> Option<&'a [u8]> {
    let mut part: *const ngx_list_part_t = &request.headers_in.headers.part;
    // SAFETY: the headers are a list of nginx, complete when the request is handled.
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
