//! The bodies of changes, as they are sent: what is in them, and of which types. What they mean is
//! found out later.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

/// A member that may be absent, null, or there.
pub type Given<T> = Option<Option<T>>;

/// A whole cluster, or some of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterDraft {
    pub name: Option<String>,
    /// What GET shows: it does not count.
    #[serde(rename = "version")]
    pub _version: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    pub balance: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub order: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub protected: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub tries: Given<Number>,
    #[serde(default, deserialize_with = "given")]
    pub tries_timeout: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub connect_timeout: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub send_timeout: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub read_timeout: Given<String>,
    #[serde(default, deserialize_with = "given")]
    pub fail_status: Given<Vec<String>>,
    pub levels: Option<Vec<Object<LevelDraft>>>,
    /// The levels in the shape of lua-resty-checkups.
    pub cluster: Option<OriginalLevels>,
    #[serde(default, deserialize_with = "given")]
    pub checks: Given<Vec<Value>>,
}

/// A level.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelDraft {
    pub name: Option<String>,
    pub tries: Option<Number>,
    pub tries_timeout: Option<String>,
    pub servers: Vec<Object<ServerDraft>>,
}

/// A server, or what is to be changed of one: see [`crate::logic::settings::Server`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerDraft {
    /// The address, or a name.
    pub server: Option<String>,
    /// `weight`
    pub weight: Option<Number>,
    /// `max_conns`
    pub max_conns: Option<Number>,
    /// `max_fails`
    pub max_fails: Option<Number>,
    /// `fail_timeout`
    pub fail_timeout: Option<String>,
    /// `slow_start`
    pub slow_start: Option<String>,
    /// `down`
    pub down: Option<bool>,
    /// `drain`
    pub drain: Option<bool>,
    /// What GET shows of a name.
    pub resolve: Option<bool>,
    /// `service`
    pub service: Option<String>,
    /// Whether it is checked.
    pub check: Option<bool>,
    /// `check_port`
    #[serde(default, deserialize_with = "given")]
    pub check_port: Given<Number>,
    /// `check_host`
    #[serde(default, deserialize_with = "given")]
    pub check_host: Given<String>,
    /// `route`
    pub route: Option<String>,
    /// What `GET clusters/NAME/servers` shows.
    pub level: Option<Value>,
}

/// Levels in the shape of lua-resty-checkups: one after the other, or by their names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "an array of levels, or an object of them by name")]
pub enum OriginalLevels {
    InOrder(Vec<OriginalLevel>),
    ByName(std::collections::BTreeMap<String, OriginalLevel>),
}

/// A level in the shape of lua-resty-checkups.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginalLevel {
    pub servers: Vec<OriginalServer>,
}

/// A server in the shape of lua-resty-checkups.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginalServer {
    pub host: String,
    pub port: u16,
    pub weight: Option<Number>,
    pub max_fails: Option<Number>,
    /// In seconds.
    pub fail_timeout: Option<Number>,
}

impl OriginalServer {
    /// The same as it is written here.
    pub fn draft(&self) -> ServerDraft {
        let Self { host, port, .. } = self;
        let is_bare = host.contains(':') && !host.starts_with('[') && !host.starts_with("unix:");
        let server = if is_bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        ServerDraft {
            server: Some(server),
            weight: self.weight.clone(),
            max_fails: self.max_fails.clone(),
            fail_timeout: self.fail_timeout.as_ref().map(Number::to_string),
            ..ServerDraft::default()
        }
    }
}

/// The body of a rollback.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackDraft {
    pub version: u64,
}

fn given<'de, D, T>(deserializer: D) -> Result<Given<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// What is written as an object. serde takes an array of the values for a structure, too.
#[derive(Clone, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Parses a body that is an object.
///
/// # Errors
/// What is wrong, and where.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(body).map(|object| object.0)
}
