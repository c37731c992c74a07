//! What is kept of a cluster that was changed at run time: a line of JSON in the zone, and a file of
//! such lines in the directory of `checkups_state`.

use serde::Deserialize;
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::change::{parse_draft, restore, restore_check, shown_check, KeptDraft, Surroundings};
use super::settings::{is_cluster_name, Check, Cluster, Server, Source};

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

/// What stands for the settings of a block: others have another, and 0 is none.
///
/// What is as it is by default does not count, so that what a later version of the module adds to the
/// settings changes nothing. Names count as they are written, and not what nginx found for them when it
/// started; passwords do not count.
pub fn fingerprint(configured: &Cluster) -> u64 {
    let mut settings = compact(configured);
    for (level, value) in configured.levels.iter().zip(levels_of(&mut settings)) {
        let mut servers = Vec::new();
        for (server, value) in level.servers.iter().zip(servers_of(value)) {
            let mut value = value.take();
            value["server"] = server.written.clone().into();
            if servers.last() != Some(&value) || server.written == server.server {
                servers.push(value);
            }
        }
        value["servers"] = servers.into();
    }
    settings["checks"] = configured.checks.iter().map(shown_check).collect();
    let sum = Sha256::digest(settings.to_string().as_bytes());
    let first = sum.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    first.max(1)
}

/// The settings without what is as it is by default.
fn compact(cluster: &Cluster) -> Value {
    let as_value = |cluster: &Cluster| serde_json::to_value(cluster).unwrap_or_default();
    let mut settings = as_value(cluster);
    prune(&mut settings, &as_value(&Cluster::empty("")));
    if let Value::Object(members) = &mut settings {
        members.remove("name");
        members.remove("version");
        members.remove("checks");
    }
    let default = serde_json::to_value(Server::new("")).unwrap_or_default();
    for level in levels_of(&mut settings) {
        if let Value::Object(members) = level {
            members.retain(|_, value| !value.is_null());
        }
        for server in servers_of(level) {
            prune(server, &default);
            if let Value::Object(members) = server {
                // A name is seen to be one.
                members.remove("resolve");
            }
        }
    }
    settings
}

fn prune(value: &mut Value, default: &Value) {
    if let (Value::Object(members), Value::Object(default)) = (value, default) {
        members.retain(|name, value| name == "levels" || default.get(name) != Some(value));
    }
}

fn levels_of(settings: &mut Value) -> impl Iterator<Item = &mut Value> {
    settings.get_mut("levels").and_then(Value::as_array_mut).into_iter().flatten()
}

fn servers_of(level: &mut Value) -> impl Iterator<Item = &mut Value> {
    level.get_mut("servers").and_then(Value::as_array_mut).into_iter().flatten()
}

/// The line for what is kept.
pub fn to_line(stored: &Stored) -> String {
    let cluster = stored.cluster.as_ref().map(|cluster| {
        let mut settings = compact(cluster);
        for (level, value) in cluster.levels.iter().zip(levels_of(&mut settings)) {
            for (server, value) in level.servers.iter().zip(servers_of(value)) {
                let Value::Object(members) = value else { continue };
                if server.written != server.server {
                    members.insert("written".to_owned(), server.written.clone().into());
                }
                if !server.sticky.is_empty() {
                    members.insert("sticky".to_owned(), server.sticky.clone().into());
                }
                if !server.addresses.is_empty() {
                    members.insert("addresses".to_owned(), server.addresses.clone().into());
                }
            }
        }
        if !cluster.checks.is_empty() {
            settings["checks"] = cluster.checks.iter().map(kept_check).collect();
        }
        settings
    });
    json!({"version": stored.version, "base": format!("{:016x}", stored.base), "cluster": cluster})
        .to_string()
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
    let foreign = |error: String| StoredError::Foreign(error);
    let head: Head = serde_json::from_str(line).map_err(|error| foreign(error.to_string()))?;
    let mut whole: Value =
        serde_json::from_str(line).map_err(|error| foreign(error.to_string()))?;
    let Head { version, base } = head;
    let mut settings = whole.get_mut("cluster").map(Value::take).unwrap_or_default();
    if settings.is_null() {
        return Ok((Stored { version, base, cluster: None }, Vec::new()));
    }
    let mut more = Vec::new();
    for level in levels_of(&mut settings) {
        for server in servers_of(level) {
            more.push(More::taken_from(server));
        }
    }
    let checks = settings.as_object_mut().and_then(|members| members.remove("checks"));
    let draft: KeptDraft =
        parse_draft(settings.to_string().as_bytes()).map_err(|error| foreign(error.to_string()))?;
    let mut cluster =
        restore(name, &draft, around).map_err(|refusal| foreign(refusal.sentence().to_owned()))?;
    cluster.version = version;
    let servers = cluster.levels.iter_mut().flat_map(|level| &mut level.servers);
    for (server, more) in servers.zip(more) {
        more.give_to(server);
    }
    let mut warnings = Vec::new();
    for value in checks.as_ref().and_then(Value::as_array).into_iter().flatten() {
        match check(value, name, around) {
            Ok(check) => cluster.checks.push(check),
            Err(warning) => warnings.push(warning),
        }
    }
    Ok((Stored { version, base, cluster: Some(cluster) }, warnings))
}

/// What is kept of a server besides what a change may say.
#[derive(Default)]
struct More {
    written: Option<String>,
    sticky: Option<String>,
    addresses: Vec<String>,
}

impl More {
    fn taken_from(server: &mut Value) -> Self {
        let Value::Object(members) = server else { return Self::default() };
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (written, sticky) = (text("written"), text("sticky"));
        let addresses = members.remove("addresses");
        let addresses = addresses.as_ref().and_then(Value::as_array).into_iter().flatten();
        let addresses = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        Self { written, sticky, addresses }
    }

    fn give_to(self, server: &mut Server) {
        if let Some(written) = self.written {
            server.written = written;
        }
        server.sticky = self.sticky.unwrap_or_default();
        server.addresses = self.addresses;
    }
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
