//! What is different between settings.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::checks::shown;
use crate::logic::settings::{Cluster, Level};

/// One thing that is different.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Which: `balance`, or `levels/1/servers/10.0.0.1:80/weight`.
    pub path: String,
    /// What it was; null: it was not there.
    pub before: Value,
    /// What it is; null: it is not there.
    pub after: Value,
}

/// What is different in `after`. `None`: the cluster is not there.
pub fn difference(before: Option<&Cluster>, after: Option<&Cluster>) -> Vec<Difference> {
    let (before, after) = match (before, after) {
        (None, None) => return Vec::new(),
        (Some(before), Some(after)) => (before, after),
        (before, after) => {
            let whole = |cluster: Option<&Cluster>| {
                cluster.map_or(Value::Null, |it| object(it, &["name", "version"]).into())
            };
            let (before, after) = (whole(before), whole(after));
            return vec![Difference { path: "cluster".to_owned(), before, after }];
        }
    };
    let mut found = Vec::new();
    if !have_same_options(before, after) {
        members(&mut found, "", &options(before), &options(after));
    }
    let levels = |cluster: &Cluster| -> Vec<(String, Level)> {
        let levels = cluster.levels.iter().cloned().enumerate();
        levels.map(|(place, level)| (key(&level, place), level)).collect()
    };
    both(&mut found, "levels", &levels(before), &levels(after), level);
    if before.checks != after.checks {
        let all = |cluster: &Cluster| cluster.checks.iter().map(shown).collect::<Value>();
        let (before, after) = (all(before), all(after));
        found.push(Difference { path: "checks".to_owned(), before, after });
    }
    found
}

/// What a level is known by: its name, or else its number.
fn key(level: &Level, place: usize) -> String {
    level.name.clone().unwrap_or_else(|| (place + 1).to_string())
}

/// The members of an object but for some.
fn object(value: &impl Serialize, without: &[&str]) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(mut object)) => {
            without.iter().for_each(|name| drop(object.remove(*name)));
            object
        }
        _ => Map::new(),
    }
}

/// The options, without what costs the most to look at.
fn without_lists(cluster: &Cluster) -> Cluster {
    let fail_status = cluster.fail_status.clone();
    let (balance, order) = (cluster.balance.clone(), cluster.order.clone());
    let Cluster { protected, limits, timeouts, .. } = *cluster;
    Cluster { balance, order, protected, limits, timeouts, fail_status, ..Cluster::empty("") }
}

fn have_same_options(before: &Cluster, after: &Cluster) -> bool {
    without_lists(before) == without_lists(after)
}

fn options(cluster: &Cluster) -> Map<String, Value> {
    object(&without_lists(cluster), &["name", "version", "levels", "checks"])
}

fn members(
    found: &mut Vec<Difference>,
    prefix: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let of = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        let (before, after) = (of(before), of(after));
        if before != after {
            found.push(Difference { path: format!("{prefix}{name}"), before, after });
        }
    }
}

/// What is different between lists whose elements are known by names; `inner` compares elements that
/// both have.
fn both<T: Serialize + PartialEq>(
    found: &mut Vec<Difference>,
    path: &str,
    before: &[(String, T)],
    after: &[(String, T)],
    inner: impl Fn(&mut Vec<Difference>, &str, &T, &T),
) {
    let by_name = |list: &[(String, T)]| -> BTreeMap<String, usize> {
        list.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect()
    };
    let (of_before, of_after) = (by_name(before), by_name(after));
    let value = |element: &T| serde_json::to_value(element).unwrap_or_default();
    for (name, element) in before.iter().filter(|(name, _)| !of_after.contains_key(name)) {
        let path = format!("{path}/{name}");
        found.push(Difference { path, before: value(element), after: Value::Null });
    }
    for (name, element) in after {
        let path = format!("{path}/{name}");
        match of_before.get(name) {
            Some(index) if before[*index].1 == *element => {}
            Some(index) => inner(found, &path, &before[*index].1, element),
            None => found.push(Difference { path, before: Value::Null, after: value(element) }),
        }
    }
    let common = |list: &[(String, T)], other: &BTreeMap<String, usize>| -> Vec<String> {
        let names = list.iter().map(|(name, _)| name);
        names.filter(|name| other.contains_key(*name)).cloned().collect()
    };
    let (before, after) = (common(before, &of_after), common(after, &of_before));
    if before != after {
        found.push(Difference {
            path: path.to_owned(),
            before: before.into(),
            after: after.into(),
        });
    }
}

fn level(found: &mut Vec<Difference>, path: &str, before: &Level, after: &Level) {
    let options = |level: &Level| object(level, &["name", "servers"]);
    members(found, &format!("{path}/"), &options(before), &options(after));
    // Lines of equal address are told apart by their numbers.
    let servers = |level: &Level| {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut listed = Vec::new();
        for server in &level.servers {
            let nth = seen.entry(server.server.clone()).or_default();
            *nth += 1;
            let known_as = match *nth {
                1 => server.server.clone(),
                nth => format!("{}#{nth}", server.server),
            };
            listed.push((known_as, server.clone()));
        }
        listed
    };
    both(
        found,
        &format!("{path}/servers"),
        &servers(before),
        &servers(after),
        |found, path, b, a| {
            members(found, &format!("{path}/"), &object(b, &["server"]), &object(a, &["server"]));
        },
    );
}
