//! The ways to select one of several servers.

pub mod ring;
pub mod round_robin;
pub mod sequence;
pub mod slow_start;

/// The balancing methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Smooth weighted round robin.
    #[default]
    RoundRobin,
    /// By a consistent hash.
    Hash,
    /// The fewest connections for the weight.
    LeastConn,
    /// The better one of two that are drawn at random by weight.
    RandomTwo,
}
