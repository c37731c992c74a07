//! What is different between settings.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::checks::shown;
use crate::logic::settings::{Cluster, Level, Server};

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
    both(&mut found, "levels", &levels(before), &levels(after), level);
    if before.checks != after.checks {
        let all = |cluster: &Cluster| cluster.checks.iter().map(shown).collect::<Value>();
        let (before, after) = (all(before), all(after));
        found.push(Difference { path: "checks".to_owned(), before, after });
    }
    found
}

/// The levels, by their names, or else by their numbers.
fn levels(cluster: &Cluster) -> Vec<Known<'_, Level>> {
    let known = |(place, level)| (key(level, place), level);
    cluster.levels.iter().enumerate().map(known).collect()
}

fn key(level: &Level, place: usize) -> Cow<'_, str> {
    level.name.as_deref().map_or_else(|| (place + 1).to_string().into(), Cow::from)
}

/// The servers, by their addresses. Lines of equal address are told apart by their numbers.
fn servers(level: &Level) -> Vec<Known<'_, Server>> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let known = level.servers.iter().map(|server| {
        let address = &*server.server;
        let nth = seen.entry(address).or_default();
        *nth += 1;
        match *nth {
            1 => (address.into(), server),
            nth => (format!("{address}#{nth}").into(), server),
        }
    });
    known.collect()
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

/// An element of a list, and the name that it is known by.
type Known<'a, T> = (Cow<'a, str>, &'a T);

/// What is different between lists whose elements are known by names; `inner` compares elements that
/// both have. Of thousands of elements few are different: for the others nothing is copied.
fn both<T: Serialize + PartialEq>(
    found: &mut Vec<Difference>,
    path: &str,
    before: &[Known<'_, T>],
    after: &[Known<'_, T>],
    inner: impl Fn(&mut Vec<Difference>, &str, &T, &T),
) {
    let (of_before, of_after) = (by_name(before), by_name(after));
    let value = |element: &T| serde_json::to_value(element).unwrap_or_default();
    for (name, element) in before.iter().filter(|(name, _)| !of_after.contains_key(&**name)) {
        let path = format!("{path}/{name}");
        found.push(Difference { path, before: value(element), after: Value::Null });
    }
    for (name, element) in after {
        match of_before.get(&**name) {
            Some(other) if other == element => {}
            Some(other) => inner(found, &format!("{path}/{name}"), other, element),
            None => {
                let path = format!("{path}/{name}");
                found.push(Difference { path, before: Value::Null, after: value(element) });
            }
        }
    }
    let (before, after) = (common(before, &of_after), common(after, &of_before));
    if before != after {
        found.push(Difference {
            path: path.to_owned(),
            before: before.into(),
            after: after.into(),
        });
    }
}

fn by_name<'a, T>(list: &'a [Known<'_, T>]) -> HashMap<&'a str, &'a T> {
    list.iter().map(|(name, element)| (&**name, *element)).collect()
}

/// The names of those elements that the other list has, too.
fn common<'a, T>(list: &'a [Known<'_, T>], other: &HashMap<&str, &T>) -> Vec<&'a str> {
    let names = list.iter().map(|(name, _)| &**name);
    names.filter(|name| other.contains_key(name)).collect()
}

fn level(found: &mut Vec<Difference>, path: &str, before: &Level, after: &Level) {
    let path = format!("{path}/");
    members(found, &path, &object(&before.limits, &[]), &object(&after.limits, &[]));
    let path = format!("{path}servers");
    both(found, &path, &servers(before), &servers(after), |found, path, before, after| {
        let (before, after) = (object(before, &["server"]), object(after, &["server"]));
        members(found, &format!("{path}/"), &before, &after);
    });
}
