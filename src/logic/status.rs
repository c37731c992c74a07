//! What the operator sees: the tree of `status`, in the shape of `get_status()` of
//! lua-resty-checkups.

use serde::ser::{SerializeMap, Serializer};
use serde::Serialize;

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
    /// Each worker of the running configuration, and whether it gives signs of life.
    pub workers: Vec<(u32, bool)>,
    /// How full the zone is; `None`: there is none.
    pub zone: Option<Usage>,
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
    pub levels: Vec<Vec<Server>>,
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
    /// When the state changed, local time.
    pub lastmodified: String,
    /// Why the last check failed.
    pub msg: Option<String>,
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
    /// The state of a server of this health in a cluster where every server has failed or not.
    pub fn of(health: Health, all_failed: bool) -> Self {
        match health {
            Health::Unchecked => Self::Unchecked,
            Health::Up => Self::Ok,
            Health::Failed if all_failed => Self::Unstable,
            Health::Failed => Self::Err,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Err => "err",
            Self::Unstable => "unstable",
            Self::Unchecked => "unchecked",
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for cluster in &self.clusters {
            let levels: Vec<_> =
                cluster.levels.iter().map(|servers| LevelOf { cluster, servers }).collect();
            map.serialize_entry(&format!("cls:{}", cluster.name), &levels)?;
        }
        map.serialize_entry("last_check_time", &self.last_check_time)?;
        map.serialize_entry("checkup_timer_alive", &self.checkup_timer_alive)?;
        map.serialize_entry("start_time", &self.start_time)?;
        map.serialize_entry("conf_hash", &None::<String>)?;
        map.serialize_entry("shd_config_version", &self.shd_config_version)?;
        map.serialize_entry("config_timer", &Workers(&self.workers))?;
        map.serialize_entry("zone", &self.zone)?;
        map.end()
    }
}

/// A level, which is an empty object where it is empty, as in lua-resty-checkups.
struct LevelOf<'a> {
    cluster: &'a Cluster,
    servers: &'a [Server],
}

impl Serialize for LevelOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.servers.is_empty() {
            return serializer.serialize_map(Some(0))?.end();
        }
        serializer.collect_seq(
            self.servers.iter().map(|server| ServerOf { cluster: self.cluster, server }),
        )
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
            }
        }
        map.serialize_entry("weight", &server.weight)?;
        map.serialize_entry("max_fails", &server.max_fails)?;
        map.serialize_entry("fail_timeout", &server.fail_timeout)?;
        map.end()
    }
}

struct Workers<'a>(&'a [(u32, bool)]);

impl Serialize for Workers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(worker, alive)| {
            (format!("worker-{worker}"), if *alive { "alive" } else { "dead" })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str, checked: Option<Checked>) -> Server {
        Server { address: address.to_owned(), checked, weight: 10, max_fails: 3, fail_timeout: 10 }
    }

    #[test]
    fn the_shape_of_get_status() {
        let now = "2026-01-02 03:04:05".to_owned();
        let checked = |state, fail_num, msg: Option<&str>| Checked {
            state,
            fail_num,
            lastmodified: now.clone(),
            msg: msg.map(str::to_owned),
        };
        let status = Status {
            clusters: vec![
                Cluster {
                    name: "api".to_owned(),
                    levels: vec![
                        vec![
                            server("127.0.0.1:1", Some(checked(State::Ok, 0, None))),
                            server("127.0.0.1:2", Some(checked(State::Err, 2, Some("status 503")))),
                        ],
                        vec![server("127.0.0.1:3", None)],
                    ],
                },
                Cluster { name: "off".to_owned(), levels: vec![vec![]] },
            ],
            last_check_time: None,
            checkup_timer_alive: true,
            start_time: Some(now.clone()),
            shd_config_version: 0,
            workers: vec![(0, true), (1, false)],
            zone: Some(Usage { name: "checkups".to_owned(), size: 65536, free: 4096 }),
        };
        let expected = concat!(
            r#"{"cls:api":[[{"server":"api:127.0.0.1:1","status":"ok","fail_num":0,"#,
            r#""lastmodified":"2026-01-02 03:04:05","msg":null,"weight":10,"max_fails":3,"#,
            r#""fail_timeout":10},{"server":"api:127.0.0.1:2","status":"err","fail_num":2,"#,
            r#""lastmodified":"2026-01-02 03:04:05","msg":"status 503","weight":10,"max_fails":3,"#,
            r#""fail_timeout":10}],[{"server":"api:127.0.0.1:3","status":"unchecked","weight":10,"#,
            r#""max_fails":3,"fail_timeout":10}]],"cls:off":[{}],"last_check_time":null,"#,
            r#""checkup_timer_alive":true,"start_time":"2026-01-02 03:04:05","conf_hash":null,"#,
            r#""shd_config_version":0,"config_timer":{"worker-0":"alive","worker-1":"dead"},"#,
            r#""zone":{"name":"checkups","size":65536,"free":4096}}"#
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), expected);
    }

    #[test]
    fn states() {
        for (health, all_failed, word) in [
            (Health::Unchecked, false, "unchecked"),
            (Health::Unchecked, true, "unchecked"),
            (Health::Up, false, "ok"),
            (Health::Failed, false, "err"),
            (Health::Failed, true, "unstable"),
        ] {
            assert_eq!(State::of(health, all_failed).as_str(), word);
        }
    }
}
