//! Safe wrappers over nginx. Nothing here knows of upstreams.

pub mod conf;
pub mod connection;
pub mod guard;
pub mod log;
pub mod pool;
pub mod process;
pub mod task;
pub mod tls;
mod turn;
pub mod zone;
