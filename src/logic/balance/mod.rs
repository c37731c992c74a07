//! The balancing algorithms.

pub mod round_robin;
