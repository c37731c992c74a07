//! The location of `checkups_api`.

use std::collections::BTreeMap;
use std::ptr;

use ngx::core::Buffer;
use ngx::core::Status;
use ngx::ffi::{
    ngx_chain_t, ngx_hash_key, ngx_http_get_variable, ngx_http_request_t, ngx_int_t, ngx_str_t,
    NGX_HTTP_GET, NGX_HTTP_HEAD,
};
use ngx::http::{
    HTTPStatus, HttpModuleLocationConf, HttpModuleMainConf, NgxHttpCoreModule, Request,
};
use serde::Serialize;

use super::module::Module;
use crate::logic::api::{Refusal, Resource, ENDPOINTS};
use crate::logic::settings;
use crate::nginx::conf;
use crate::nginx::guard::guard;
use crate::upstream::configuration::Configuration;
use crate::upstream::status::status;

/// Answers a request: nginx's content handler of the location.
pub(super) unsafe extern "C" fn handler(request: *mut ngx_http_request_t) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with a request at its content phase.
        let request = unsafe { Request::from_ngx_http_request(request) };
        #[cfg(feature = "development")]
        if let Some(status) = super::development::handle(request) {
            return status;
        }
        let discarded = request.discard_request_body();
        if discarded != Status::NGX_OK {
            return discarded;
        }
        match answer(request) {
            Ok(body) => respond(request, HTTPStatus::OK, &body),
            Err(refusal) => {
                if refusal == Refusal::MethodNotAllowed
                    && request.add_header_out("Allow", "GET, HEAD").is_none()
                {
                    return Status::NGX_ERROR;
                }
                let status = HTTPStatus::from_u16(refusal.status())
                    .unwrap_or(HTTPStatus::INTERNAL_SERVER_ERROR);
                let body = refusal.body(&request_id(request));
                respond(request, status, &body)
            }
        }
    })
    .into()
}

fn answer(request: &Request) -> Result<String, Refusal> {
    let inner: &ngx_http_request_t = request.as_ref();
    let resource = Resource::at(path(inner)).ok_or(Refusal::PathNotFound)?;
    if inner.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
        return Err(Refusal::MethodNotAllowed);
    }
    let configuration = Module::main_conf(inner).ok_or(Refusal::Internal)?;
    match resource {
        Resource::Root => json(&ENDPOINTS),
        Resource::Status => match status(configuration) {
            Some(status) => json(&status),
            None => json(&crate::logic::status::Status::EMPTY),
        },
        Resource::Clusters => json(&all(configuration)),
        Resource::Cluster(name) => {
            let entry = configuration.cluster(name).ok_or(Refusal::ClusterNotFound)?;
            json(&entry.settings)
        }
    }
}

fn all(configuration: &Configuration) -> BTreeMap<&str, &settings::Cluster> {
    let settings = configuration.clusters().iter().map(|entry| &entry.settings);
    settings.map(|settings| (settings.name.as_str(), settings)).collect()
}

fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|_| Refusal::Internal)
}

/// The path below the location; one that is not text is none of ours.
pub(super) fn path(request: &ngx_http_request_t) -> &str {
    let location = NgxHttpCoreModule::location_conf(request);
    // SAFETY: the strings live as long as the request.
    let (uri, prefix) = unsafe {
        let prefix = location.map_or(&[][..], |location| conf::bytes(location.name));
        (conf::bytes(request.uri), prefix)
    };
    // nginx takes /apistatus for the location /api too.
    uri.strip_prefix(prefix)
        .filter(|path| prefix.ends_with(b"/") || path.is_empty() || path.starts_with(b"/"))
        .and_then(|path| std::str::from_utf8(path).ok())
        .unwrap_or("\u{fffd}")
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
