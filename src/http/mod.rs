//! The http subsystem: `ngx_http_checkups_module`.

mod answer;
mod api;
mod balancer;
mod blocks;
mod body;
mod checks;
#[cfg(feature = "development")]
mod development;
mod directives;
mod expression;
mod matches;
mod module;
mod plus;
mod stock;
mod timeouts;
mod variables;
mod wrong;
