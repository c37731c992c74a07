//! checkups: health checks, balancing and runtime changes for the upstreams of stock nginx.
//!
//! The map, in the order in which one may use another:
//!
//! - [`logic`]: what is decided, without nginx
//! - [`shm`]: what the workers share
//! - `nginx`: safe wrappers over nginx
//! - `upstream`: what every subsystem does with its upstreams
//! - `http`: the http subsystem

pub mod logic;
pub mod shm;

#[cfg(feature = "nginx")]
mod nginx;
#[cfg(feature = "nginx")]
mod upstream;

#[cfg(feature = "http")]
mod http;
