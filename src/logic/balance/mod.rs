//! The balancing algorithms.

pub mod round_robin;
pub mod sequence;
