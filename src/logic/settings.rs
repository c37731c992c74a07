//! What an operator sets: clusters, their levels and servers, and checks.
//!
//! These types are what the configuration is parsed into, what the API shows, and what the rest
//! of the code works by.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The longest name of a cluster, in bytes.
pub const MAX_NAME: usize = 128;

/// A duration that is shown as nginx writes it: `500ms`, `10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    /// A time of so many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A time of so many milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The whole milliseconds.
    pub fn as_milliseconds(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_milliseconds() {
            milliseconds if milliseconds % 1000 == 0 => write!(f, "{}s", milliseconds / 1000),
            milliseconds => write!(f, "{milliseconds}ms"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A cluster: servers in levels, and how they are balanced and checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The name, unique in the zone.
    pub name: String,
    /// The balancing method.
    pub balance: Balance,
    /// How many servers a request may try at the most; `None`: all of them.
    pub tries: Option<u32>,
    /// The levels, in the order in which they are tried. None of them is empty but perhaps the
    /// first.
    pub levels: Vec<Level>,
    /// The checks that a server has to pass.
    pub checks: Vec<Check>,
}

/// The balancing methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
}

/// Servers that are used while no server of an earlier level is left.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Level {
    /// The servers, in the order of the configuration.
    pub servers: Vec<Server>,
}

/// One server of a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Server {
    /// The address with the port, or `unix:` and a path.
    pub server: String,
    /// The weight, at least 1.
    pub weight: u32,
    /// Failures within `fail_timeout` until the server is left alone; 0: never.
    pub max_fails: u32,
    /// The window of `max_fails`, and how long the server is then left alone.
    pub fail_timeout: Time,
    /// Requests at a time, over all workers; 0: no limit.
    pub max_conns: u32,
    /// Neither used nor checked.
    pub down: bool,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The protocol and what is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// From the start of one check of a server to the start of the next.
    pub interval: Time,
    /// Up to this is added to the interval, at random.
    pub jitter: Time,
    /// For the whole check, from the connect on.
    pub timeout: Time,
    /// Failed checks in a row until the server counts as failed.
    pub fails: u32,
    /// Passed checks in a row until a failed server counts as up.
    pub passes: u32,
    /// The port that is checked, where it is not the server's own.
    pub port: Option<u16>,
}

/// The protocol of a check and what is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted.
    Tcp,
    /// A request is answered with a status of 200 to 399.
    Http(HttpProbe),
}

/// What an HTTP check asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpProbe {
    /// The request method.
    pub method: String,
    /// The request target, from the slash on.
    pub uri: String,
    /// The value of the Host header.
    pub host: String,
}

/// Whether a cluster may have this name: 1 to [`MAX_NAME`] letters, digits and `._:-`.
pub fn is_cluster_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_nginx_writes_them() {
        for (time, shown) in [
            (Time::seconds(0), "0s"),
            (Time::seconds(90), "90s"),
            (Time::milliseconds(1500), "1500ms"),
            (Time::milliseconds(2000), "2s"),
        ] {
            assert_eq!(time.to_string(), shown);
        }
    }

    #[test]
    fn names() {
        for good in ["a", "api", "api.example.com", "10.0.0.1:80", "_x-Y"] {
            assert!(is_cluster_name(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "$x", &"x".repeat(MAX_NAME + 1)] {
            assert!(!is_cluster_name(bad), "{bad}");
        }
        assert!(is_cluster_name(&"x".repeat(MAX_NAME)));
    }
}
