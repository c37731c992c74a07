//! The http subsystem: `ngx_http_checkups_module`.

mod api;
mod balancer;
#[cfg(feature = "development")]
mod development;
mod directives;
mod module;
