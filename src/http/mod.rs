//! The http subsystem: `ngx_http_checkups_module`.

mod api;
mod balancer;
mod directives;
mod module;
