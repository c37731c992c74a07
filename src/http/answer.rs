//! The answers of the API, on their way to the client.

use std::ptr;

use ngx::core::{Buffer, Status};
use ngx::ffi::ngx_chain_t;
use ngx::http::{HTTPStatus, Request};
use serde::Serialize;

use super::variables;
use crate::logic::api::{Problem, Refusal};
use crate::nginx::conf;

/// An answer that is no refusal.
pub(super) struct Answer {
    /// The HTTP status.
    pub status: HTTPStatus,
    /// Empty: there is none.
    pub body: String,
    /// The version of the cluster that it is about.
    pub version: Option<u64>,
}

impl Answer {
    /// A value, as JSON.
    pub(super) fn new(value: &impl Serialize) -> Result<Self, Refusal> {
        serde_json::to_string(value).map(Self::of).map_err(|_| Refusal::Internal)
    }

    /// A text that is JSON.
    pub(super) fn of(body: String) -> Self {
        Self { status: HTTPStatus::OK, body, version: None }
    }

    /// The same, about a cluster of this version.
    pub(super) fn of_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }
}

/// Sends what came of a request. `allow` are the methods that are served at its path.
pub(super) fn finish(
    request: &mut Request,
    answered: Result<Answer, Problem>,
    allow: &str,
) -> Status {
    let problem = match answered {
        Ok(Answer { status, body, version }) => {
            let tag = version.map(|version| format!("\"{version}\""));
            if tag.is_some_and(|tag| request.add_header_out("ETag", &tag).is_none()) {
                return Status::NGX_ERROR;
            }
            return respond(request, status, &body);
        }
        Err(problem) => problem,
    };
    let header = problem.header(allow);
    if header.is_some_and(|(name, value)| request.add_header_out(name, value).is_none()) {
        return Status::NGX_ERROR;
    }
    let status = HTTPStatus::from_u16(problem.status).unwrap_or(HTTPStatus::INTERNAL_SERVER_ERROR);
    let body = problem.body(&request_id(request));
    respond(request, status, &body)
}

/// The variable `$request_id`.
fn request_id(request: &mut Request) -> String {
    // SAFETY: the value is used during this call only.
    let value = unsafe { variables::value(request.into(), "request_id") };
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// Sends JSON.
pub(super) fn respond(request: &mut Request, status: HTTPStatus, body: &str) -> Status {
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
    let Some(mut buffer) = request.pool().create_buffer_from_str(body) else {
        return Status::NGX_ERROR;
    };
    buffer.set_last_buf(request.is_main());
    buffer.set_last_in_chain(true);
    let mut chain = ngx_chain_t { buf: buffer.as_ngx_buf_mut(), next: ptr::null_mut() };
    request.output_filter(&mut chain)
}
