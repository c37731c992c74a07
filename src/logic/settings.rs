//! What an operator sets: clusters, their levels and servers, and checks.
//!
//! These types are what the configuration is parsed into, what the API shows, and what the rest
//! of the code works by.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::balance::Method;
use super::matching::{Expect, Match, Text};
use super::password::Password;

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

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::directive::time(&text).ok_or_else(|| D::Error::custom("it must be a time"))
    }
}

/// A cluster: servers in levels, and how they are balanced and checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The name, unique in the zone.
    pub name: String,
    /// The number of these settings: no two that were ever in use have the same. 0: not in use yet.
    pub version: u64,
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
    #[serde(serialize_with = "shown_checks")]
    pub checks: Vec<Check>,
}

impl Cluster {
    /// The server of this number, and the place of its level.
    pub fn server(&self, id: u32) -> Option<(Server, usize)> {
        let mut levels = self.levels.iter().enumerate();
        levels.find_map(|(place, level)| {
            let mut servers = level.servers.iter();
            Some((servers.find(|server| server.id == Some(id))?.clone(), place))
        })
    }
}

/// Those that have a name are shown by it.
fn shown_checks<S: Serializer>(checks: &[Check], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(checks.iter().map(Check::shown))
}

/// A check as it is shown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ShownCheck<'a> {
    /// By the name that `checkups_check_define` gives it.
    Name(&'a str),
    /// By its parameters.
    Whole(&'a Check),
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
    /// nginx selects the servers, by whatever method of its own; checkups takes those out of use that
    /// fail their checks.
    Nginx,
}

impl Balance {
    /// The method that it comes down to.
    pub fn method(&self) -> Method {
        match self {
            Self::RoundRobin | Self::Nginx => Method::RoundRobin,
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
            Self::RoundRobin | Self::LeastConn | Self::RandomTwo | Self::Nginx => Vec::new(),
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
            Self::Nginx => f.write_str("nginx"),
        }
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it was shown, whatever the key of a hash is.
impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "round_robin" => Self::RoundRobin,
            "url_hash" => Self::UrlHash,
            "ip_hash" => Self::IpHash,
            "header_hash" => Self::HeaderHash,
            "least_conn" => Self::LeastConn,
            "random two" => Self::RandomTwo,
            "nginx" => Self::Nginx,
            other => match other.strip_prefix("hash ") {
                Some(key) => Self::Hash(key.to_owned()),
                None => return Err(D::Error::custom("it must be a balancing method")),
            },
        })
    }
}

/// What is used of a cluster while every server has failed its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
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

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        super::directive::fail_status(&words).map_err(D::Error::custom)
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
    /// Whether it is a name, whose addresses are looked up again and again while nginx runs.
    #[serde(skip_serializing_if = "is_false")]
    pub resolve: bool,
    /// The service of which the name has SRV records; `None`: it has addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What is different about its checks.
    #[serde(flatten)]
    pub check: ServerCheck,
    /// By what clients that stick to it name it, as the operator says; empty: nothing is said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// As it is written: a name perhaps, and perhaps without a port. A consistent hash goes by it.
    #[serde(skip)]
    pub written: String,
    /// By what clients that stick to it name it; empty: not at all.
    #[serde(skip)]
    pub sticky: String,
    /// The last known addresses, with ports, of one that is a name.
    #[serde(skip)]
    pub addresses: Vec<String>,
    /// The number that it has in its cluster for as long as it is there; `None`: it has none yet.
    #[serde(skip)]
    pub id: Option<u32>,
}

/// What is different about the checks of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerCheck {
    /// Whether it is checked at all.
    #[serde(rename = "check", skip_serializing_if = "is_true")]
    pub is_on: bool,
    /// The port that is checked; `None`: that of the check.
    #[serde(rename = "check_port", skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The host that is asked for; `None`: that of the check.
    #[serde(rename = "check_host", skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Default for ServerCheck {
    fn default() -> Self {
        Self { is_on: true, port: None, host: None }
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Where a check was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the configuration of the cluster: its number among the checks there.
    Configured(usize),
    /// By `checkups_check_define`, under this name.
    Defined(String),
    /// By a change at run time: the object that was sent, as JSON.
    Given(String),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Where it was set. It is not part of what is asked.
    #[serde(skip)]
    pub source: Source,
    /// The protocol and what is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// From the start of one check of a server to the start of the next.
    pub interval: Time,
    /// The same while the server is failed; `None`: as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_interval: Option<Time>,
    /// Up to this is added to the interval, at random.
    pub jitter: Time,
    /// For the whole check, from the connect on.
    pub timeout: Time,
    /// Failed checks in a row until the server counts as failed.
    pub fails: u32,
    /// Passed checks in a row until a failed server counts as up.
    pub passes: u32,
    /// Whether a server gets no requests before it has passed.
    #[serde(skip_serializing_if = "Mandatory::is_off")]
    pub mandatory: Mandatory,
    /// The port that is checked, where it is not the server's own.
    pub port: Option<u16>,
    /// The address that is connected from; `None`: as the system chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<IpAddr>,
    /// Whether the header of the PROXY protocol is sent first.
    #[serde(skip_serializing_if = "is_false")]
    pub proxy_protocol: bool,
    /// `None`: without TLS.
    #[serde(flatten)]
    pub tls: Option<Tls>,
    /// What is used where all servers fail; where nginx balances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<Protected>,
}

impl Check {
    /// How it is shown.
    pub fn shown(&self) -> ShownCheck<'_> {
        match &self.source {
            Source::Defined(name) => ShownCheck::Name(name),
            Source::Configured(_) | Source::Given(_) => ShownCheck::Whole(self),
        }
    }

    /// The check of a server of which this is different.
    pub fn of_server(&self, server: &ServerCheck) -> Self {
        let mut check = self.clone();
        check.port = server.port.or(check.port);
        if let Some(new) = &server.host {
            let host = match &mut check.probe {
                Probe::Http(probe) => Some(&mut probe.host),
                Probe::Grpc(probe) => Some(&mut probe.host),
                _ => None,
            };
            if let Some(host) = host {
                // A name that was given apart stays.
                let tls = check.tls.as_mut();
                if let Some(tls) = tls.filter(|tls| tls.name == without_port(host)) {
                    without_port(new).clone_into(&mut tls.name);
                }
                new.clone_into(host);
            }
        }
        check
    }

    /// What is asked of a server, apart from when and from what follows from the answer.
    pub fn question(&self) -> Self {
        Self {
            interval: Time::seconds(0),
            down_interval: None,
            jitter: Time::seconds(0),
            timeout: Time::seconds(0),
            ..self.without_consequences()
        }
    }

    /// The check apart from what follows from its results.
    pub fn without_consequences(&self) -> Self {
        Self {
            source: Source::Configured(0),
            fails: 1,
            passes: 1,
            mandatory: Mandatory::Off,
            protected: None,
            ..self.clone()
        }
    }

    /// Whether TLS comes before anything else: MySQL and PostgreSQL begin in clear.
    pub fn begins_with_tls(&self) -> bool {
        let is_on = self.tls.as_ref().is_some_and(|tls| tls.ssl == Ssl::On);
        is_on && !matches!(self.probe, Probe::Mysql(_) | Probe::Postgres(_))
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a server gets no requests before it has passed its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mandatory {
    /// A new server is used at once.
    #[default]
    Off,
    /// A new server is used when it has passed.
    On,
    /// The same, as the operator wrote `persistent` behind it.
    Persistent,
}

impl Mandatory {
    /// Whether a new server is used at once.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// The protocol of a check and what is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted, and the server answers as it should.
    Tcp(TcpProbe),
    /// A request is answered as it should.
    Http(HttpProbe),
    /// The health service of gRPC says that it serves.
    Grpc(GrpcProbe),
    /// A Redis server answers PING.
    Redis(RedisProbe),
    /// A MySQL server greets, and lets the user in.
    Mysql(MysqlProbe),
    /// A PostgreSQL server answers, and lets the user in.
    Postgres(PostgresProbe),
}

/// What an HTTP check asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpProbe {
    /// The request method.
    pub method: String,
    /// The request target, from the slash on.
    pub uri: String,
    /// The value of the Host header, unless `headers` has one.
    pub host: String,
    /// Further headers of the request. They replace those that checkups would send by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The body of the request; `None`: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// For how long one connection serves one check after another; `None`: each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<Time>,
    /// What the response has to be like; `None`: its status is 200 to 399.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "match_name")]
    pub matching: Option<Rc<Match>>,
}

/// What a check of a connection sends and waits for. It has either a match, or a text of its own to
/// send or to expect.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TcpProbe {
    /// What is sent first; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<Text>,
    /// What has to be in the answer; `None`: no answer is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// The block that says both.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "match_name")]
    pub matching: Option<Rc<Match>>,
}

/// A match is shown by its name.
fn match_name<S: Serializer>(
    matching: &Option<Rc<Match>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match matching {
        Some(matching) => serializer.serialize_some(matching.name()),
        None => serializer.serialize_none(),
    }
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: String,
}

impl Header {
    /// The headers that say how the request is framed: they are not for an operator to set.
    const OWN: [&'static str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];

    /// The most bytes of a header.
    const MAX: usize = 4096;

    /// A header as it is written: `Name: value`. `None`: it is not of that form, or it is one of
    /// Connection, Content-Length and Transfer-Encoding.
    pub fn new(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let is_fit = text.len() <= Self::MAX
            && is_token(name)
            && !value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
            && !Self::OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        is_fit.then(|| Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// The name, as it is written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is its name: upper and lower case are the same.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether its value proves who asks.
    fn is_secret(&self) -> bool {
        const SECRETS: [&str; 5] = ["auth", "token", "key", "secret", "cookie"];
        let name = self.name.to_ascii_lowercase();
        SECRETS.iter().any(|secret| name.contains(secret))
    }

    /// The value, without blanks around it. It may be empty.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

/// What proves who asks is not shown.
impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_secret() {
            serializer.collect_str(&format_args!("{}: ***", self.name))
        } else {
            serializer.collect_str(self)
        }
    }
}

/// Whether a header may have this name.
pub fn is_token(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_fit)
}

/// What a gRPC check asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrpcProbe {
    /// The name of the service; empty: the server as a whole.
    pub service: String,
    /// The authority of the request.
    pub host: String,
}

/// What a Redis check asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedisProbe {
    /// The user of the ACL; `None`: the default one.
    pub user: Option<String>,
    /// `None`, and no user: without authentication.
    #[serde(skip)]
    pub password: Option<Password>,
}

/// What a MySQL check asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MysqlProbe {
    /// Who logs in; `None`: the greeting of the server is enough.
    pub user: Option<String>,
    /// `None`: an empty one.
    #[serde(skip)]
    pub password: Option<Password>,
    /// The database to log in to; `None`: none.
    pub database: Option<String>,
}

/// What a PostgreSQL check asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PostgresProbe {
    /// Who logs in; `None`: the answer to the request for TLS is enough.
    pub user: Option<String>,
    /// `None`: the server may not ask for one.
    #[serde(skip)]
    pub password: Option<Password>,
    /// The database to log in to; `None`: the one that has the name of the user.
    pub database: Option<String>,
}

/// TLS of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Whether it is used.
    pub ssl: Ssl,
    /// Whether the certificate of the server has to be right.
    #[serde(rename = "ssl_verify")]
    pub verify: bool,
    /// The name that the server is asked for, and that its certificate has to have.
    #[serde(rename = "ssl_name")]
    pub name: String,
    /// The file with the certificates that are trusted.
    #[serde(rename = "ssl_trusted_certificate", skip_serializing_if = "Option::is_none")]
    pub trusted_certificate: Option<String>,
    /// The file with the certificate of the client.
    #[serde(rename = "ssl_certificate", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The file with its key.
    #[serde(rename = "ssl_certificate_key", skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<String>,
    /// The versions of the protocol, in the words of nginx; empty: those of nginx's default.
    #[serde(rename = "ssl_protocols", skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
}

/// Whether a check uses TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ssl {
    /// Where the protocol has both on one port: if the server offers it and there is a user to
    /// authenticate.
    #[default]
    Auto,
    /// Always: a server without it fails.
    On,
    /// Never.
    Off,
}

/// The host of what may have a port behind it.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
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
    fn headers() {
        for (text, name, value) in [
            ("X-Test: a b", "X-Test", "a b"),
            ("x:", "x", ""),
            ("Host:\t[::1]:80 ", "Host", "[::1]:80"),
            ("Authorization: Basic \u{e4}", "Authorization", "Basic \u{e4}"),
        ] {
            let header = Header::new(text).unwrap();
            assert_eq!((header.name(), header.value()), (name, value));
            assert!(header.is(&name.to_uppercase()));
            assert_eq!(header.to_string(), format!("{name}: {value}"));
        }
        let secret = Header::new("authorization: Bearer abc").unwrap();
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""authorization: ***""#);
        let long = format!("X: {}", "x".repeat(5000));
        for text in [
            "",
            "X",
            ": a",
            "X : a",
            "X Y: a",
            "X: a\r\nY: b",
            "X: \0",
            "\u{e4}: a",
            "connection: close",
            "Content-length: 1",
            "Transfer-Encoding: chunked",
            &long,
        ] {
            assert_eq!(Header::new(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_without_ports() {
        for (host, name) in
            [("a", "a"), ("a:1", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1")]
        {
            assert_eq!(without_port(host), name);
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
