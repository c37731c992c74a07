//! What is kept of a cluster that was changed at run time: a line of JSON in the zone, and a file of
//! such lines in the directory of `checkups_state`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::change::{restore_check, shown_check, Surroundings};
use super::settings::{
    is_cluster_name, Balance, Check, Cluster, Level, Limits, Protected, Server, ServerCheck,
    Source, Statuses, Time, Timeouts,
};

/// The format of the files.
const FORMAT: u64 = 1;

/// Behind the name of a cluster in that of its file.
const ENDING: &str = ".json";

/// What is kept of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The version of the settings.
    pub version: u64,
    /// The [`fingerprint`] of the block in the configuration that was changed; 0: the cluster came to be
    /// at run time.
    pub base: u64,
    /// The settings; `None`: the cluster was deleted.
    pub cluster: Option<Cluster>,
}

/// What a line says before the settings themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Head {
    /// See [`Stored::version`].
    pub version: u64,
    /// See [`Stored::base`].
    #[serde(deserialize_with = "hexadecimal")]
    pub base: u64,
}

/// Why a line cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StoredError {
    /// It is none.
    #[error("it is not what this version of the module keeps: {0}")]
    Foreign(String),
}

/// Why a file cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FileError {
    /// It was not made here.
    #[error("it is no file of checkups_state")]
    Foreign,
    /// Another version of the module made it.
    #[error("it has format {0}, this version of the module knows format {FORMAT}")]
    Format(u64),
    /// It is about another cluster.
    #[error("it is about the cluster \"{0}\"")]
    Name(String),
    /// What is in it is not what was written.
    #[error("it is damaged")]
    Damaged,
}

fn hexadecimal<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

/// The settings as they are kept: what is as it is by default is left out.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept<L> {
    #[serde(default = "round_robin", skip_serializing_if = "is_round_robin")]
    balance: Balance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    protected: Protected,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tries_timeout: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    send_timeout: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_timeout: Option<Time>,
    #[serde(default, skip_serializing_if = "is_default")]
    fail_status: Statuses,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Value>,
    levels: L,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptLevel<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tries_timeout: Option<Time>,
    servers: Vec<KeptServer<'a>>,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct KeptServer<'a> {
    server: Cow<'a, str>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    max_fails: u32,
    #[serde(default = "ten_seconds", skip_serializing_if = "is_ten_seconds")]
    fail_timeout: Time,
    #[serde(default, skip_serializing_if = "is_default")]
    max_conns: u32,
    #[serde(default = "at_once", skip_serializing_if = "is_at_once")]
    slow_start: Time,
    #[serde(default, skip_serializing_if = "is_default")]
    down: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    drain: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    resolve: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    unchecked: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_host: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sticky: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    addresses: Vec<Cow<'a, str>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn round_robin() -> Balance {
    Balance::RoundRobin
}

fn is_round_robin(balance: &Balance) -> bool {
    *balance == Balance::RoundRobin
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

fn ten_seconds() -> Time {
    Time::seconds(10)
}

fn is_ten_seconds(time: &Time) -> bool {
    *time == ten_seconds()
}

fn at_once() -> Time {
    Time::seconds(0)
}

fn is_at_once(time: &Time) -> bool {
    *time == at_once()
}

impl<'a> KeptServer<'a> {
    fn of(server: &'a Server) -> Self {
        let borrowed = |text: &'a String| Cow::Borrowed(text.as_str());
        Self {
            server: borrowed(&server.server),
            weight: server.weight,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout,
            max_conns: server.max_conns,
            slow_start: server.slow_start,
            down: server.down,
            drain: server.drain,
            resolve: server.resolve,
            service: server.service.as_ref().map(borrowed),
            unchecked: !server.check.is_on,
            check_port: server.check.port,
            check_host: server.check.host.as_ref().map(borrowed),
            route: Some(borrowed(&server.route)).filter(|it| !it.is_empty()),
            written: Some(borrowed(&server.written)).filter(|it| *it != server.server),
            sticky: Some(borrowed(&server.sticky)).filter(|it| !it.is_empty()),
            addresses: server.addresses.iter().map(borrowed).collect(),
        }
    }

    fn server(self) -> Server {
        let owned = |text: Option<Cow<'a, str>>| text.map(Cow::into_owned);
        Server {
            weight: self.weight,
            max_fails: self.max_fails,
            fail_timeout: self.fail_timeout,
            max_conns: self.max_conns,
            slow_start: self.slow_start,
            down: self.down,
            drain: self.drain,
            resolve: self.resolve,
            service: owned(self.service),
            check: ServerCheck {
                is_on: !self.unchecked,
                port: self.check_port,
                host: owned(self.check_host),
            },
            route: owned(self.route).unwrap_or_default(),
            written: self.written.unwrap_or_else(|| self.server.clone()).into_owned(),
            sticky: owned(self.sticky).unwrap_or_default(),
            addresses: self.addresses.into_iter().map(Cow::into_owned).collect(),
            id: None,
            server: self.server.into_owned(),
        }
    }
}

impl<'a> KeptLevel<'a> {
    fn of(level: &'a Level) -> Self {
        Self {
            name: level.name.as_deref().map(Cow::Borrowed),
            tries: level.limits.tries,
            tries_timeout: level.limits.tries_timeout,
            servers: level.servers.iter().map(KeptServer::of).collect(),
        }
    }

    fn level(self) -> Level {
        Level {
            name: self.name.map(Cow::into_owned),
            limits: Limits { tries: self.tries, tries_timeout: self.tries_timeout },
            servers: self.servers.into_iter().map(KeptServer::server).collect(),
        }
    }
}

impl<'a> Kept<Vec<KeptLevel<'a>>> {
    fn of(cluster: &'a Cluster, check: impl Fn(&Check) -> Value) -> Self {
        Self {
            balance: cluster.balance.clone(),
            order: cluster.order.clone(),
            protected: cluster.protected,
            tries: cluster.limits.tries,
            tries_timeout: cluster.limits.tries_timeout,
            connect_timeout: cluster.timeouts.connect,
            send_timeout: cluster.timeouts.send,
            read_timeout: cluster.timeouts.read,
            fail_status: cluster.fail_status.clone(),
            checks: cluster.checks.iter().map(check).collect(),
            levels: cluster.levels.iter().map(KeptLevel::of).collect(),
        }
    }
}

impl<L> Kept<L> {
    /// The cluster of this name without its levels, and what is wrong with its checks.
    fn cluster(
        self,
        name: &str,
        version: u64,
        around: &Surroundings<'_>,
    ) -> (Cluster, L, Vec<String>) {
        let (mut checks, mut warnings) = (Vec::new(), Vec::new());
        for value in &self.checks {
            match check(value, name, around) {
                Ok(check) => checks.push(check),
                Err(warning) => warnings.push(warning),
            }
        }
        let cluster = Cluster {
            name: name.to_owned(),
            version,
            balance: self.balance,
            order: self.order,
            protected: self.protected,
            limits: Limits { tries: self.tries, tries_timeout: self.tries_timeout },
            timeouts: Timeouts {
                connect: self.connect_timeout,
                send: self.send_timeout,
                read: self.read_timeout,
            },
            fail_status: self.fail_status,
            levels: Vec::new(),
            checks,
        };
        (cluster, self.levels, warnings)
    }
}

/// A line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Whole<C> {
    version: u64,
    base: String,
    cluster: Option<C>,
}

impl<C> Whole<C> {
    fn base(&self) -> Result<u64, StoredError> {
        let wrong = |_| StoredError::Foreign("its base is no number".to_owned());
        u64::from_str_radix(&self.base, 16).map_err(wrong)
    }
}

/// What stands for the settings of a block: others have another, and 0 is none.
///
/// What is as it is by default does not count, so that what a later version of the module adds to the
/// settings changes nothing. Names count as they are written, and not what nginx found for them when it
/// started; passwords do not count.
pub fn fingerprint(configured: &Cluster) -> u64 {
    let mut settings = Kept::of(configured, shown_check);
    for level in &mut settings.levels {
        let mut servers: Vec<KeptServer<'_>> = Vec::new();
        for mut server in std::mem::take(&mut level.servers) {
            let written = server.written.take();
            let is_found = written.is_some();
            server.server = written.unwrap_or(server.server);
            server.sticky = None;
            if !is_found || servers.last() != Some(&server) {
                servers.push(server);
            }
        }
        level.servers = servers;
    }
    let text = serde_json::to_string(&settings).unwrap_or_default();
    let sum = Sha256::digest(text.as_bytes());
    let first = sum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    first.max(1)
}

/// The line for what is kept.
pub fn to_line(stored: &Stored) -> String {
    let whole = Whole {
        version: stored.version,
        base: format!("{:016x}", stored.base),
        cluster: stored.cluster.as_ref().map(|cluster| Kept::of(cluster, kept_check)),
    };
    serde_json::to_string(&whole).unwrap_or_default()
}

/// Where a check comes from.
fn kept_check(check: &Check) -> Value {
    match &check.source {
        Source::Configured(number) => json!({ "configured": number }),
        Source::Defined(name) => name.clone().into(),
        Source::Given(text) => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// What a line says before the settings themselves. `None`: it is none.
pub fn head(line: &str) -> Option<Head> {
    serde_json::from_str(line).ok()
}

/// What a line keeps of the cluster of this name. Checks that there are not any more are left out; of
/// them the sentences tell.
///
/// # Errors
/// Where it is no line of [`to_line`].
pub fn from_line(
    line: &str,
    name: &str,
    around: &Surroundings<'_>,
) -> Result<(Stored, Vec<String>), StoredError> {
    let whole: Whole<Kept<Vec<KeptLevel<'_>>>> = parse(line)?;
    let (version, base) = (whole.version, whole.base()?);
    let Some(kept) = whole.cluster else {
        return Ok((Stored { version, base, cluster: None }, Vec::new()));
    };
    let (mut cluster, levels, warnings) = kept.cluster(name, version, around);
    cluster.levels = levels.into_iter().map(KeptLevel::level).collect();
    Ok((Stored { version, base, cluster: Some(cluster) }, warnings))
}

/// The same without the levels, which cost the most.
///
/// # Errors
/// As [`from_line`].
pub fn options_from_line(
    line: &str,
    name: &str,
    around: &Surroundings<'_>,
) -> Result<(Stored, Vec<String>), StoredError> {
    let whole: Whole<Kept<&RawValue>> = parse(line)?;
    let (version, base) = (whole.version, whole.base()?);
    let Some(kept) = whole.cluster else {
        return Ok((Stored { version, base, cluster: None }, Vec::new()));
    };
    let (cluster, _, warnings) = kept.cluster(name, version, around);
    Ok((Stored { version, base, cluster: Some(cluster) }, warnings))
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, StoredError> {
    serde_json::from_str(line).map_err(|error| StoredError::Foreign(error.to_string()))
}

fn check(value: &Value, cluster: &str, around: &Surroundings<'_>) -> Result<Check, String> {
    let missing = || format!("a check is left out that is not there any more: {value}");
    match value {
        Value::String(name) => around.checks.defined(name, cluster).ok_or_else(missing),
        Value::Object(object) => match object.get("configured").and_then(Value::as_u64) {
            Some(number) => {
                let checks = around.configured.map_or(&[][..], |configured| &configured.checks);
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                checks.get(number).cloned().ok_or_else(missing)
            }
            None => restore_check(object, cluster, around)
                .map_err(|refusal| format!("a check is left out: {}", refusal.sentence())),
        },
        _ => Err(missing()),
    }
}

/// The name of the file of a cluster.
pub fn file_name(cluster: &str) -> String {
    format!("{cluster}{ENDING}")
}

/// The name of the cluster of a file. `None`: it is of none.
pub fn name_of_file(file: &str) -> Option<String> {
    file.strip_suffix(ENDING).filter(|name| is_cluster_name(name)).map(str::to_owned)
}

/// The first line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHead {
    checkups_state: u64,
    name: String,
    crc32: u32,
}

/// The file for a cluster, of these lines, the newest first.
pub fn to_file(name: &str, lines: &[&str]) -> Vec<u8> {
    let mut body = String::new();
    for line in lines {
        body.push_str(line);
        body.push('\n');
    }
    let crc32 = crc32fast::hash(body.as_bytes());
    let mut file = json!({"checkups_state": FORMAT, "name": name, "crc32": crc32}).to_string();
    file.push('\n');
    file.push_str(&body);
    file.into_bytes()
}

/// The version of the settings that a file is about. `None`: it is no file as they are written.
pub fn version_of_file(contents: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(contents).ok()?.lines().nth(1)?;
    head(line).map(|head| head.version)
}

/// The lines of the file of a cluster, the newest first: one at least.
///
/// # Errors
/// Where it is not the file as it was written.
pub fn from_file(name: &str, contents: &[u8]) -> Result<Vec<String>, FileError> {
    let text = std::str::from_utf8(contents).map_err(|_| FileError::Foreign)?;
    let (first, body) = text.split_once('\n').ok_or(FileError::Foreign)?;
    let members: Map<String, Value> =
        serde_json::from_str(first).map_err(|_| FileError::Foreign)?;
    let format = members.get("checkups_state").and_then(Value::as_u64).ok_or(FileError::Foreign)?;
    if format != FORMAT {
        return Err(FileError::Format(format));
    }
    let head: FileHead = serde_json::from_str(first).map_err(|_| FileError::Damaged)?;
    if head.checkups_state != FORMAT || crc32fast::hash(body.as_bytes()) != head.crc32 {
        return Err(FileError::Damaged);
    }
    if head.name != name {
        return Err(FileError::Name(head.name));
    }
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    // It was written like this, by whom ever.
    let is_whole = !lines.is_empty() && lines.iter().all(|line| self::head(line).is_some());
    is_whole.then_some(lines).ok_or(FileError::Damaged)
}
