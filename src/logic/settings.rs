//! What an operator sets: clusters, their levels and servers, and checks.
//!
//! These types are what the configuration is parsed into, what the API shows, and what the rest
//! of the code works by.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::balance::Method;

/// The longest name of a cluster or level, in bytes.
pub const MAX_NAME: usize = 128;

/// A duration that is shown as nginx writes it: `500ms`, `10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Which levels a request tries: a string with variables. `None`: all, in their order.
    pub order: Option<String>,
    /// What is used while every server has failed its checks.
    pub protected: Protected,
    /// How many servers a request may try, and for how long.
    #[serde(flatten)]
    pub limits: Limits,
    /// What holds for requests to the cluster in place of what their location says.
    #[serde(flatten)]
    pub timeouts: Timeouts,
    /// The statuses that count as failed requests, whatever else does.
    pub fail_status: Statuses,
    /// The levels, in the order in which they are tried. None of them is empty but perhaps the
    /// first.
    pub levels: Vec<Level>,
    /// The checks that a server has to pass.
    pub checks: Vec<Check>,
}

/// The balancing methods, as an operator writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Consistent hash of a string with variables.
    Hash(String),
    /// Consistent hash of the path of the request.
    UrlHash,
    /// Consistent hash of the address of the client.
    IpHash,
    /// Consistent hash of the header X-Hash-Key, or else of the path.
    HeaderHash,
    /// The fewest connections for the weight.
    LeastConn,
    /// Two at random, and of them the one with fewer connections for its weight.
    RandomTwo,
}

impl Balance {
    /// The method that it comes down to.
    pub fn method(&self) -> Method {
        match self {
            Self::RoundRobin => Method::RoundRobin,
            Self::Hash(_) | Self::UrlHash | Self::IpHash | Self::HeaderHash => Method::Hash,
            Self::LeastConn => Method::LeastConn,
            Self::RandomTwo => Method::RandomTwo,
        }
    }

    /// What is hashed: strings with variables, of which the first one counts that is not empty.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Hash(key) => vec![key],
            Self::UrlHash => vec!["$uri"],
            Self::IpHash => vec!["$remote_addr"],
            Self::HeaderHash => vec!["$http_x_hash_key", "$uri"],
            Self::RoundRobin | Self::LeastConn | Self::RandomTwo => Vec::new(),
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round_robin"),
            Self::Hash(key) => write!(f, "hash {key}"),
            Self::UrlHash => f.write_str("url_hash"),
            Self::IpHash => f.write_str("ip_hash"),
            Self::HeaderHash => f.write_str("header_hash"),
            Self::LeastConn => f.write_str("least_conn"),
            Self::RandomTwo => f.write_str("random two"),
        }
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is used of a cluster while every server has failed its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protected {
    /// All servers.
    #[default]
    All = 0,
    /// The least bad one.
    One = 1,
    /// None.
    Off = 2,
}

/// How many tries a request has, and for how long it may start another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// At least 1; `None`: as many as there are servers.
    pub tries: Option<u32>,
    /// From the first try on; `None`: for ever.
    pub tries_timeout: Option<Time>,
}

/// Times that a cluster sets for the requests to it; `None`: as their location says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// For the connection to be established.
    #[serde(rename = "connect_timeout")]
    pub connect: Option<Time>,
    /// Between two writes.
    #[serde(rename = "send_timeout")]
    pub send: Option<Time>,
    /// Between two reads.
    #[serde(rename = "read_timeout")]
    pub read: Option<Time>,
}

/// HTTP statuses, as ranges with both ends in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl Statuses {
    /// Whether this status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|&(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        }))
    }
}

/// Servers that are used while no server of an earlier level is left.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Level {
    /// The name; `None`: it has only its number.
    pub name: Option<String>,
    /// How many servers of the level a request may try, and for how long.
    #[serde(flatten)]
    pub limits: Limits,
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
    /// From the moment when it came back until it has its whole share again; 0: at once.
    pub slow_start: Time,
    /// Neither used nor checked.
    pub down: bool,
    /// Checked, but gets no new requests.
    pub drain: bool,
    /// As it is written: a name perhaps, and perhaps without a port. A consistent hash goes by it.
    #[serde(skip)]
    pub written: String,
    /// By what clients that stick to it name it; empty: not at all.
    #[serde(skip)]
    pub sticky: String,
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

/// Whether a level may have this name: that of a cluster, but not a number, which stands for the
/// place of a level.
pub fn is_level_name(name: &str) -> bool {
    is_cluster_name(name) && !name.bytes().all(|byte| byte.is_ascii_digit())
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
        assert!(is_level_name("dc1") && !is_level_name("1") && !is_level_name(""));
    }
}
