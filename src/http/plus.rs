//! The API of NGINX Plus: what it shows comes from the clusters, or from nginx itself, and what it changes
//! goes the way of all changes.

use ngx::http::{HTTPStatus, Request};
use serde::Serialize;

use super::answer::Answer;
use super::api::{cluster, Outcome, Wanted};
use super::module::{MainConf, Module};
use super::variables;
use crate::logic::api::{self, Arguments, Method};
use crate::logic::change::{Change, Which};
use crate::logic::plus::body;
use crate::logic::plus::fields::{Fields, Shape};
use crate::logic::plus::instance::{Connections, Requests};
use crate::logic::plus::place::{self, server_id, Place};
pub(super) use crate::logic::plus::refusal::Refusal;
use crate::logic::plus::server::Shown;
use crate::nginx::{conf, statistics};
use crate::upstream::entry::Entry;
use crate::upstream::plus;
use crate::upstream::writer::Done;

/// The answer to a request that changes nothing.
pub(super) fn answer(request: &mut Request, place: &Place<'_>) -> Result<Answer, Refusal> {
    let main = Module::main(request.as_ref()).ok_or(api::Refusal::Internal)?;
    let clusters = &main.clusters;
    // SAFETY: the arguments live as long as the request.
    let fields =
        Fields::parse(api::fields(unsafe { conf::bytes(request.as_ref().args) }).as_deref());
    match place {
        Place::Root(version) => Ok(Answer::new(&place::root(*version))?),
        Place::Http(version) => Ok(Answer::new(&place::http(*version))?),
        Place::Nginx => {
            // SAFETY: the value is used during this call only.
            let address =
                unsafe { variables::value(request.into(), "server_addr") }.unwrap_or_default();
            let address = String::from_utf8_lossy(address).into_owned();
            shown(&plus::instance(clusters, address), &fields, Shape::Object)
        }
        Place::Processes => shown(&plus::processes(clusters), &fields, Shape::Object),
        Place::Connections => shown(&connections(), &fields, Shape::Object),
        Place::Requests => shown(&requests(), &fields, Shape::Object),
        Place::Slabs => shown(&statistics::slabs(), &fields, Shape::Map),
        Place::Slab(name) => {
            let slab = statistics::slabs().remove(*name);
            let slab = slab.ok_or(Refusal::NotFound("SlabNotFound", "slab not found"))?;
            shown(&slab, &fields, Shape::Object)
        }
        Place::Workers => shown(&plus::workers(clusters), &fields, Shape::List),
        Place::Worker(id) => {
            let workers = plus::workers(clusters);
            let worker = workers.iter().find(|worker| worker.id.to_string() == *id);
            let worker = worker.ok_or(Refusal::NotFound("WorkerNotFound", "worker not found"))?;
            shown(worker, &fields, Shape::Object)
        }
        Place::Ssl => shown(&Nothing {}, &fields, Shape::Object),
        Place::Nothing => shown(&Nothing {}, &fields, Shape::Map),
        Place::Upstreams => shown(&plus::upstreams(clusters), &fields, Shape::Map),
        Place::Upstream(name) => {
            let entry = cluster(main, name)?;
            let version = entry.version();
            let upstream = plus::upstream(clusters, &entry);
            Ok(shown(&upstream, &fields, Shape::Object)?.of_version(version))
        }
        Place::Servers(name) => {
            let entry = cluster(main, name)?;
            let version = entry.version();
            Ok(Answer::new(&plus::servers(&entry))?.of_version(version))
        }
        Place::Server(name, id) => {
            let entry = cluster(main, name)?;
            let version = entry.version();
            let id = server_id(id)?;
            let servers = plus::servers(&entry);
            let server = servers.iter().find(|server| server.id() == id);
            let server = server.ok_or(Refusal::ServerNotFound(id))?;
            Ok(Answer::new(server)?.of_version(version))
        }
    }
}

/// What there is where nothing is counted.
#[derive(Serialize)]
struct Nothing {}

fn shown(value: &impl Serialize, fields: &Fields, shape: Shape) -> Result<Answer, Refusal> {
    let json = serde_json::to_string(value).and_then(|json| fields.of(json, shape));
    json.map(Answer::of).map_err(|_| api::Refusal::Internal.into())
}

fn connections() -> Connections {
    let Some(stub) = statistics::stub() else { return Connections::default() };
    Connections {
        accepted: Some(stub.accepted),
        dropped: Some(stub.accepted.saturating_sub(stub.handled)),
        active: Some(stub.active.saturating_sub(stub.waiting)),
        idle: Some(stub.waiting),
    }
}

fn requests() -> Requests {
    let Some(stub) = statistics::stub() else { return Requests::default() };
    Requests { total: Some(stub.requests), current: Some(stub.reading + stub.writing) }
}

/// What a request wants changed.
pub(super) fn change(
    main: &MainConf,
    place: &Place<'_>,
    method: Method,
    arguments: &Arguments,
    body: &[u8],
) -> Result<Outcome, Refusal> {
    let (Place::Upstream(name) | Place::Servers(name) | Place::Server(name, _)) = place else {
        return Err(api::Refusal::MethodNotAllowed.into());
    };
    let entry = cluster(main, name)?;
    if entry.watch.is_some() {
        return Err(api::Refusal::BalancedByNginx.into());
    }
    let (change, id) = match (place, method) {
        (Place::Upstream(_), Method::Delete) => {
            if !arguments.is_dry_run {
                plus::reset(&entry);
            }
            let nothing = Answer::of(String::new());
            return Ok(Outcome::Done(Answer { status: HTTPStatus::NO_CONTENT, ..nothing }));
        }
        (Place::Servers(_), Method::Post) => (body::addition(body)?, None),
        (Place::Server(_, id), Method::Patch) => {
            let id = changeable(&entry, method, id)?;
            (body::modification(id, body)?, Some(id))
        }
        (Place::Server(_, id), Method::Delete) => {
            let id = changeable(&entry, method, id)?;
            (Change::DeleteServer(Which::Id { id, is_backup: None }), Some(id))
        }
        _ => return Err(api::Refusal::MethodNotAllowed.into()),
    };
    let is_dry_run = arguments.is_dry_run;
    let answer = move |done: Result<Done, api::Refusal>| {
        let answered = done.map_err(|refusal| refused(refusal, method, id));
        let answered = answered.and_then(|done| match id.filter(|_| method == Method::Delete) {
            Some(id) => removed(&entry, id, &done),
            None => changed(&done, method == Method::Post && !is_dry_run),
        });
        answered.map_err(|refusal| refusal.problem())
    };
    let name = (*name).to_owned();
    Ok(Outcome::Change(Wanted { name, change, is_dry_run, answer: Box::new(answer) }))
}

/// The number of a server that can be changed.
fn changeable(entry: &Entry, method: Method, id: &str) -> Result<u32, Refusal> {
    let id = server_id(id)?;
    if !entry.is_following() && entry.whole().settings.server(id).is_some() {
        return Ok(id);
    }
    let is_there = plus::servers(entry).iter().any(|server| server.id() == id);
    Err(match is_there {
        false => Refusal::ServerNotFound(id),
        true if entry.is_following() => Refusal::Of(api::Refusal::FollowsNginx, Some(method)),
        // What is there nevertheless was found by a name.
        true => Refusal::ServerImmutable(id),
    })
}

fn refused(refusal: api::Refusal, method: Method, id: Option<u32>) -> Refusal {
    match (refusal, id) {
        (api::Refusal::ServerNotFound, Some(id)) => Refusal::ServerNotFound(id),
        (refusal, _) => Refusal::Of(refusal, Some(method)),
    }
}

/// The answer where a server was removed: those that are left.
fn removed(entry: &Entry, id: u32, done: &Done) -> Result<Answer, Refusal> {
    let mut servers = plus::servers(entry);
    // It is still there where nothing is to be changed.
    servers.retain(|server| !server.belongs_to(id));
    Ok(Answer::new(&servers)?.of_version(done.version))
}

/// The answer to another change: the server.
fn changed(done: &Done, is_created: bool) -> Result<Answer, Refusal> {
    let server = done.server.as_deref();
    let server = server.and_then(|(server, level)| Shown::new(server, *level));
    let answer = Answer::new(&server.ok_or(api::Refusal::Internal)?)?.of_version(done.version);
    let status = if is_created { HTTPStatus::CREATED } else { HTTPStatus::OK };
    Ok(Answer { status, ..answer })
}
