//! What tests of the module need beyond the API: the zone is verified.

use ngx::core::Status;
use ngx::http::{HTTPStatus, Request};

use super::answer::respond;
use super::api::path;
use super::module::Module;

/// Answers what only tests ask for. `None`: it is not that.
pub(super) fn handle(request: &mut Request) -> Option<Status> {
    let inner: &ngx::ffi::ngx_http_request_t = request.as_ref();
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
    None
}
