//! What the operator sees: the tree of `status`, in the shape of `get_status()` of
//! lua-resty-checkups.

use std::collections::BTreeMap;

use serde::ser::{SerializeMap, Serializer};
use serde::Serialize;
use serde_json::Value;

use super::health::Health;

/// The whole of `status`.
#[derive(Debug)]
pub struct Status {
    /// The clusters, each under `cls:` and its name.
    pub clusters: Vec<Cluster>,
    /// When the last check ended, local time; `None` before the first.
    pub last_check_time: Option<String>,
    /// Whether worker 0 runs the checks.
    pub checkup_timer_alive: bool,
    /// When the state in shared memory began, local time; `None` where there is none.
    pub start_time: Option<String>,
    /// How often the configuration was changed since then.
    pub shd_config_version: u64,
    /// The workers: those of the running configuration, and those of others that still have requests
    /// at work.
    pub workers: Vec<Worker>,
    /// How full the zone is; `None`: there is none.
    pub zone: Option<Usage>,
}

/// One worker.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// Its number among those of its configuration.
    pub number: u32,
    /// Its process.
    pub process: u32,
    /// Whether it gives signs of life.
    pub is_alive: bool,
    /// Which configuration it runs, as `shd_config_version` counts.
    pub version: u64,
}

/// How full the zone is.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// How many of them are free, counting whole pages only.
    pub free: usize,
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The name.
    pub name: String,
    /// The levels, in the order in which they are tried.
    pub levels: Vec<Level>,
}

/// One level.
#[derive(Debug)]
pub struct Level {
    /// The name; `None`: it has only its number.
    pub name: Option<String>,
    /// The servers, in the order of the configuration.
    pub servers: Vec<Server>,
}

/// One server of a level.
#[derive(Debug)]
pub struct Server {
    /// The address.
    pub address: String,
    /// What the checks say; `None` where the server is not checked.
    pub checked: Option<Checked>,
    /// See [`super::settings::Server::weight`].
    pub weight: u32,
    /// See [`super::settings::Server::max_fails`].
    pub max_fails: u32,
    /// See [`super::settings::Server::fail_timeout`], in seconds.
    pub fail_timeout: u64,
}

/// What the checks say of a server.
#[derive(Debug)]
pub struct Checked {
    /// The state.
    pub state: State,
    /// Failed checks in a row.
    pub fail_num: u32,
    /// When the state changed, local time; `None`: never.
    pub lastmodified: Option<String>,
    /// Why the last check failed.
    pub msg: Option<String>,
    /// What the server says of itself: an object, whose members are shown with the others.
    pub details: Option<Value>,
}

/// The state of a checked server, in the words of lua-resty-checkups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The checks pass, or have not failed often enough.
    Ok,
    /// The checks fail, and the server is out of use.
    Err,
    /// The checks fail, but so do those of every other server: it stays in use.
    Unstable,
    /// No check has ended yet.
    Unchecked,
    /// The same, and a check is mandatory: the server is not used.
    Checking,
}

impl Status {
    /// Nothing at all: what is there where no cluster is configured.
    pub const EMPTY: Self = Self {
        clusters: Vec::new(),
        last_check_time: None,
        checkup_timer_alive: false,
        start_time: None,
        shd_config_version: 0,
        workers: Vec::new(),
        zone: None,
    };
}

impl State {
    /// The state of a server of this health, which is kept in use whatever its health, or not.
    pub fn of(health: Health, kept: bool) -> Self {
        match health {
            Health::Unchecked => Self::Unchecked,
            Health::Up => Self::Ok,
            Health::Failed | Health::Unstable if kept => Self::Unstable,
            Health::Failed | Health::Unstable => Self::Err,
            Health::Checking => Self::Checking,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Err => "err",
            Self::Unstable => "unstable",
            Self::Unchecked => "unchecked",
            Self::Checking => "checking",
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for cluster in &self.clusters {
            map.serialize_entry(&format!("cls:{}", cluster.name), cluster)?;
        }
        map.serialize_entry("last_check_time", &self.last_check_time)?;
        map.serialize_entry("checkup_timer_alive", &self.checkup_timer_alive)?;
        map.serialize_entry("start_time", &self.start_time)?;
        map.serialize_entry("conf_hash", &None::<String>)?;
        map.serialize_entry("shd_config_version", &self.shd_config_version)?;
        map.serialize_entry("config_timer", &Timers(self))?;
        map.serialize_entry("workers", &self.workers)?;
        map.serialize_entry("zone", &self.zone)?;
        map.end()
    }
}

/// As lua-resty-checkups shows it: an array of levels, or an object where they have names.
impl Serialize for Cluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let level = |level| LevelOf { cluster: self, level };
        let levels = || self.levels.iter();
        if levels().any(|level| level.name.is_some()) {
            serializer.collect_map(levels().map(|found| (&found.name, level(found))))
        } else {
            serializer.collect_seq(levels().map(level))
        }
    }
}

/// A level, which is an empty object where it is empty, as in lua-resty-checkups.
struct LevelOf<'a> {
    cluster: &'a Cluster,
    level: &'a Level,
}

impl Serialize for LevelOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let servers = &self.level.servers;
        if servers.is_empty() {
            return serializer.serialize_map(Some(0))?.end();
        }
        serializer
            .collect_seq(servers.iter().map(|server| ServerOf { cluster: self.cluster, server }))
    }
}

struct ServerOf<'a> {
    cluster: &'a Cluster,
    server: &'a Server,
}

impl Serialize for ServerOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let server = self.server;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("server", &format!("{}:{}", self.cluster.name, server.address))?;
        match &server.checked {
            None => map.serialize_entry("status", &State::Unchecked)?,
            Some(checked) => {
                map.serialize_entry("status", &checked.state)?;
                map.serialize_entry("fail_num", &checked.fail_num)?;
                map.serialize_entry("lastmodified", &checked.lastmodified)?;
                map.serialize_entry("msg", &checked.msg)?;
                for (name, value) in checked.details.iter().filter_map(Value::as_object).flatten() {
                    map.serialize_entry(name, value)?;
                }
            }
        }
        map.serialize_entry("weight", &server.weight)?;
        map.serialize_entry("max_fails", &server.max_fails)?;
        map.serialize_entry("fail_timeout", &server.fail_timeout)?;
        map.end()
    }
}

/// For each worker of the running configuration whether it is alive. One that was replaced after its
/// death has the number of the one that replaced it: the live one counts.
struct Timers<'a>(&'a Status);

impl Serialize for Timers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut timers = BTreeMap::new();
        let current = self.0.shd_config_version;
        for worker in self.0.workers.iter().filter(|worker| worker.version == current) {
            *timers.entry(worker.number).or_default() |= worker.is_alive;
        }
        serializer.collect_map(
            timers.into_iter().map(|(number, is_alive): (u32, bool)| {
                (format!("worker-{number}"), word(is_alive))
            }),
        )
    }
}

fn word(is_alive: bool) -> &'static str {
    if is_alive {
        "alive"
    } else {
        "dead"
    }
}

impl Serialize for Worker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("worker", &self.number)?;
        map.serialize_entry("pid", &self.process)?;
        map.serialize_entry("status", word(self.is_alive))?;
        map.serialize_entry("config_version", &self.version)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str, checked: Option<Checked>) -> Server {
        Server { address: address.to_owned(), checked, weight: 10, max_fails: 3, fail_timeout: 10 }
    }

    fn level(name: Option<&str>, servers: Vec<Server>) -> Level {
        Level { name: name.map(str::to_owned), servers }
    }

    #[test]
    fn the_shape_of_get_status() {
        let now = "2026-01-02 03:04:05".to_owned();
        let checked = |state, fail_num, msg: Option<&str>| Checked {
            details: msg.map(|_| serde_json::json!({"redis_version": "7.0.15"})),
            state,
            fail_num,
            lastmodified: Some(now.clone()),
            msg: msg.map(str::to_owned),
        };
        let status = Status {
            clusters: vec![
                Cluster {
                    name: "api".to_owned(),
                    levels: vec![
                        level(
                            None,
                            vec![
                                server("127.0.0.1:1", Some(checked(State::Ok, 0, None))),
                                server(
                                    "127.0.0.1:2",
                                    Some(checked(State::Err, 2, Some("status 503"))),
                                ),
                            ],
                        ),
                        level(None, vec![server("127.0.0.1:3", None)]),
                    ],
                },
                Cluster { name: "off".to_owned(), levels: vec![level(None, vec![])] },
                Cluster {
                    name: "geo".to_owned(),
                    levels: vec![
                        level(Some("dc1"), vec![server("127.0.0.1:4", None)]),
                        level(Some("dc2"), vec![]),
                    ],
                },
            ],
            last_check_time: None,
            checkup_timer_alive: true,
            start_time: Some(now.clone()),
            shd_config_version: 3,
            workers: vec![
                Worker { number: 0, process: 20, is_alive: true, version: 3 },
                Worker { number: 1, process: 21, is_alive: false, version: 3 },
                Worker { number: 0, process: 10, is_alive: true, version: 2 },
            ],
            zone: Some(Usage { name: "checkups".to_owned(), size: 65536, free: 4096 }),
        };
        let expected = concat!(
            r#"{"cls:api":[[{"server":"api:127.0.0.1:1","status":"ok","fail_num":0,"#,
            r#""lastmodified":"2026-01-02 03:04:05","msg":null,"weight":10,"max_fails":3,"#,
            r#""fail_timeout":10},{"server":"api:127.0.0.1:2","status":"err","fail_num":2,"#,
            r#""lastmodified":"2026-01-02 03:04:05","msg":"status 503","redis_version":"7.0.15","weight":10,"max_fails":3,"#,
            r#""fail_timeout":10}],[{"server":"api:127.0.0.1:3","status":"unchecked","weight":10,"#,
            r#""max_fails":3,"fail_timeout":10}]],"cls:off":[{}],"#,
            r#""cls:geo":{"dc1":[{"server":"geo:127.0.0.1:4","status":"unchecked","weight":10,"#,
            r#""max_fails":3,"fail_timeout":10}],"dc2":{}},"last_check_time":null,"#,
            r#""checkup_timer_alive":true,"start_time":"2026-01-02 03:04:05","conf_hash":null,"#,
            r#""shd_config_version":3,"config_timer":{"worker-0":"alive","worker-1":"dead"},"#,
            r#""workers":[{"worker":0,"pid":20,"status":"alive","config_version":3},"#,
            r#"{"worker":1,"pid":21,"status":"dead","config_version":3},"#,
            r#"{"worker":0,"pid":10,"status":"alive","config_version":2}],"#,
            r#""zone":{"name":"checkups","size":65536,"free":4096}}"#
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), expected);
    }

    #[test]
    fn states() {
        for (health, kept, word) in [
            (Health::Unchecked, false, "unchecked"),
            (Health::Unchecked, true, "unchecked"),
            (Health::Up, false, "ok"),
            (Health::Failed, false, "err"),
            (Health::Failed, true, "unstable"),
            (Health::Unstable, true, "unstable"),
            (Health::Unstable, false, "err"),
            (Health::Checking, false, "checking"),
        ] {
            assert_eq!(State::of(health, kept).as_str(), word);
        }
    }
}
