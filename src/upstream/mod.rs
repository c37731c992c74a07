//! What every subsystem does with its upstreams: the clusters of a configuration, the way from a
//! request to a server, the checks, and what the operator sees.

pub mod checker;
pub mod configuration;
pub mod definition;
pub mod entry;
mod exchange;
mod grpc;
mod http2;
mod kept;
mod names;
pub mod peer;
pub mod plan;
pub mod plus;
mod rings;
mod room;
#[cfg(ngx_feature = "ssl")]
pub mod session;
pub mod state;
pub mod status;
pub mod subsystem;
mod target;
pub mod watched;
pub mod worker;
pub mod writer;
