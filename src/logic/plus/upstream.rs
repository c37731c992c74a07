//! An upstream as it is shown: its servers, how they are, and what was counted of them.

use serde::{Serialize, Serializer};

use crate::logic::health::Health;
use crate::logic::statistics::{Statistics, CLASSES};

/// The classes of statuses.
const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What stands for the statuses that are not counted one by one.
const OTHER: &str = "other";

/// An upstream.
#[derive(Debug, Serialize)]
pub struct Upstream {
    /// The servers, level by level.
    pub peers: Vec<Peer>,
    /// Idle connections: nginx does not tell.
    pub keepalive: u32,
    /// Servers that were removed and have requests: they are not counted.
    pub zombies: u32,
    /// The name of the shared zone.
    pub zone: String,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is used.
    Up,
    /// It gets no new requests, as the operator says.
    Draining,
    /// It is not used, as the operator says.
    Down,
    /// Failed requests have it out of use.
    Unavail,
    /// It has to pass a check before it is used.
    Checking,
    /// It fails its checks.
    Unhealthy,
}

/// What the state of a server follows from.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// See [`crate::logic::settings::Server::down`].
    pub is_down: bool,
    /// See [`crate::logic::settings::Server::drain`].
    pub is_drained: bool,
    /// The verdict of the checks; [`Health::Unchecked`] without any.
    pub health: Health,
    /// Whether failed requests have it out of use.
    pub is_ejected: bool,
}

impl Condition {
    /// The state. What the operator says comes first.
    pub fn state(self) -> State {
        match self {
            Self { is_down: true, .. } => State::Down,
            Self { is_drained: true, .. } => State::Draining,
            Self { health: Health::Checking, .. } => State::Checking,
            Self { health, .. } if health.is_bad() => State::Unhealthy,
            Self { is_ejected: true, .. } => State::Unavail,
            _ => State::Up,
        }
    }
}

/// A server of an upstream.
#[derive(Debug, Serialize)]
pub struct Peer {
    /// The number.
    pub id: u32,
    /// The address.
    pub server: String,
    /// See [`crate::logic::settings::Server::service`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// As it is written in the configuration, or in a change.
    pub name: String,
    /// Whether it is in another level than the first.
    pub backup: bool,
    /// See [`crate::logic::settings::Server::weight`].
    pub weight: u32,
    /// How it is.
    pub state: State,
    /// Requests at work on it.
    pub active: u32,
    /// See [`crate::logic::settings::Server::max_conns`].
    pub max_conns: u32,
    /// What was counted.
    #[serde(flatten)]
    pub counted: Counted,
}

/// What was counted of a server. Times are milliseconds, and moments ISO 8601.
#[derive(Debug, Serialize)]
pub struct Counted {
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    header_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_time: Option<u64>,
    responses: Responses,
    sent: u64,
    received: u64,
    fails: u64,
    unavail: u64,
    health_checks: HealthChecks,
    downtime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    downstart: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selected: Option<String>,
}

#[derive(Debug)]
struct Responses {
    classes: [u64; CLASSES],
    codes: Codes,
    total: u64,
}

impl Serialize for Responses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in CLASS_NAMES.iter().zip(self.classes) {
            map.serialize_entry(name, &count)?;
        }
        map.serialize_entry("codes", &self.codes)?;
        map.serialize_entry("total", &self.total)?;
        map.end()
    }
}

#[derive(Debug)]
struct Codes {
    codes: Vec<(u16, u64)>,
    others: u64,
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let codes = self.codes.iter().map(|(code, count)| (code.to_string(), *count));
        let others = Some((OTHER.to_owned(), self.others)).filter(|_| self.others > 0);
        serializer.collect_map(codes.chain(others))
    }
}

#[derive(Debug, Serialize)]
struct HealthChecks {
    checks: u64,
    fails: u64,
    unhealthy: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_passed: Option<bool>,
}

impl Counted {
    /// `shown` turns a monotonic time into a moment.
    pub fn new(statistics: Statistics, shown: impl Fn(u64) -> String) -> Self {
        Self {
            requests: statistics.requests,
            header_time: statistics.mean_header_time(),
            response_time: statistics.mean_response_time(),
            responses: Responses {
                classes: statistics.classes,
                total: statistics.responses,
                codes: Codes { codes: statistics.codes, others: statistics.other_codes },
            },
            sent: statistics.sent,
            received: statistics.received,
            fails: statistics.fails,
            unavail: statistics.unavailable,
            health_checks: HealthChecks {
                checks: statistics.checks,
                fails: statistics.failed_checks,
                unhealthy: statistics.unhealthy,
                last_passed: statistics.last_passed,
            },
            downtime: statistics.downtime,
            downstart: statistics.down_since.map(&shown),
            selected: statistics.selected_at.map(&shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let up =
            Condition { is_down: false, is_drained: false, health: Health::Up, is_ejected: false };
        for (condition, state) in [
            (up, State::Up),
            (Condition { health: Health::Unchecked, ..up }, State::Up),
            (Condition { is_ejected: true, ..up }, State::Unavail),
            (Condition { is_ejected: true, health: Health::Failed, ..up }, State::Unhealthy),
            (Condition { health: Health::Unstable, ..up }, State::Unhealthy),
            (Condition { health: Health::Checking, ..up }, State::Checking),
            (Condition { health: Health::Failed, is_drained: true, ..up }, State::Draining),
            (Condition { is_drained: true, is_down: true, ..up }, State::Down),
        ] {
            assert_eq!(condition.state(), state);
        }
    }

    #[test]
    fn peers() {
        let peer = |statistics| Peer {
            id: 0,
            server: "10.0.0.1:80".to_owned(),
            service: None,
            name: "a:80".to_owned(),
            backup: false,
            weight: 5,
            state: State::Unhealthy,
            active: 1,
            max_conns: 0,
            counted: Counted::new(statistics, |at| format!("at {at}")),
        };
        let json = |peer| serde_json::to_string(&peer).unwrap();
        assert_eq!(
            json(peer(Statistics::default())),
            "{\"id\":0,\"server\":\"10.0.0.1:80\",\"name\":\"a:80\",\"backup\":false,\"weight\":5,\
             \"state\":\"unhealthy\",\"active\":1,\"max_conns\":0,\"requests\":0,\"responses\":\
             {\"1xx\":0,\"2xx\":0,\"3xx\":0,\"4xx\":0,\"5xx\":0,\"codes\":{},\"total\":0},\
             \"sent\":0,\"received\":0,\"fails\":0,\"unavail\":0,\"health_checks\":\
             {\"checks\":0,\"fails\":0,\"unhealthy\":0},\"downtime\":0}"
        );
        let statistics = Statistics {
            requests: 4,
            classes: [0, 2, 0, 1, 0],
            codes: vec![(200, 2), (404, 1)],
            other_codes: 1,
            responses: 4,
            header_time: 8,
            response_time: 16,
            last_passed: Some(false),
            downtime: 7,
            down_since: Some(1),
            selected_at: Some(2),
            ..Statistics::default()
        };
        let json = json(peer(statistics));
        for part in [
            "\"requests\":4,\"header_time\":2,\"response_time\":4,",
            "\"2xx\":2,\"3xx\":0,\"4xx\":1,\"5xx\":0,\"codes\":{\"200\":2,\"404\":1,\"other\":1},\
             \"total\":4}",
            "\"last_passed\":false},\"downtime\":7,\"downstart\":\"at 1\",\"selected\":\"at 2\"}",
        ] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
    }
}
