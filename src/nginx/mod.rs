//! Safe wrappers over nginx. Nothing here knows of upstreams.

pub mod address;
pub mod conf;
pub mod connection;
pub mod guard;
pub mod log;
pub mod paths;
pub mod pool;
pub mod process;
pub mod resolver;
pub mod statistics;
pub mod task;
pub mod thread;
pub mod tls;
mod turn;
pub mod zone;
