//! The paths.

use super::refusal::Refusal;
use super::VERSIONS;
use crate::logic::api;

/// What is at a path below the location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// `N/`: what there is in this version.
    Root(u32),
    /// `nginx`
    Nginx,
    /// `processes`
    Processes,
    /// `connections`
    Connections,
    /// `slabs/`: all shared zones.
    Slabs,
    /// One of them.
    Slab(&'a str),
    /// `http/`: what there is below it in this version.
    Http(u32),
    /// `http/requests`
    Requests,
    /// `http/upstreams/`: all clusters.
    Upstreams,
    /// One of them.
    Upstream(&'a str),
    /// Its servers.
    Servers(&'a str),
    /// One of them, by its number as it stands in the path.
    Server(&'a str, &'a str),
    /// `workers/`
    Workers,
    /// One of them, by its number as it stands in the path.
    Worker(&'a str),
    /// `ssl`
    Ssl,
    /// What checkups has nothing of.
    Nothing,
}

/// A list of things that checkups has nothing of.
struct Empty {
    /// The path below the version.
    path: &'static [&'static str],
    /// The first version that has it.
    since: u32,
    /// The code of the error for an element of it, and the text.
    code: &'static str,
    text: &'static str,
}

const EMPTY: [Empty; 7] = [
    Empty::new(&["resolvers"], 5, "ResolverZoneNotFound", "resolver zone not found"),
    Empty::new(&["http", "server_zones"], 4, "ServerZoneNotFound", "server zone not found"),
    Empty::new(&["http", "location_zones"], 5, "LocationZoneNotFound", "location zone not found"),
    Empty::new(&["http", "caches"], 4, "CacheNotFound", "cache not found"),
    Empty::new(&["http", "limit_conns"], 6, "LimitConnNotFound", "limit_conn not found"),
    Empty::new(&["http", "limit_reqs"], 6, "LimitReqNotFound", "limit_req not found"),
    Empty::new(&["http", "keyvals"], 4, "KeyvalNotFound", "keyval not found"),
];

impl Empty {
    const fn new(
        path: &'static [&'static str],
        since: u32,
        code: &'static str,
        text: &'static str,
    ) -> Self {
        Self { path, since, code, text }
    }
}

/// The first version that has `workers`.
const WORKERS_SINCE: u32 = 9;

/// Whether a path of these segments begins with the number of a version: whatever is behind it.
pub fn is_versioned(segments: &[String]) -> bool {
    let is_number =
        |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    segments.first().is_some_and(is_number)
}

impl<'a> Place<'a> {
    /// The place at a path of these [segments](api::segments), of which the first is the version.
    ///
    /// # Errors
    /// Where there is none.
    pub fn at(segments: &'a [String]) -> Result<Self, Refusal> {
        let mut segments = segments.iter().map(String::as_str);
        let text = segments.next().unwrap_or_default();
        let mut versions = VERSIONS.iter().copied();
        let version = versions.find(|version| version.to_string() == text);
        let version = version.ok_or(Refusal::UnknownVersion)?;
        let path: Vec<&str> = segments.collect();
        if path.contains(&"") {
            return Err(api::Refusal::PathNotFound.into());
        }
        for empty in EMPTY.iter().filter(|empty| version >= empty.since) {
            match path.strip_prefix(empty.path) {
                Some([]) => return Ok(Self::Nothing),
                Some([_]) => return Err(Refusal::NotFound(empty.code, empty.text)),
                _ => {}
            }
        }
        match path[..] {
            [] => Ok(Self::Root(version)),
            ["nginx"] => Ok(Self::Nginx),
            ["processes"] => Ok(Self::Processes),
            ["connections"] => Ok(Self::Connections),
            ["slabs"] => Ok(Self::Slabs),
            ["slabs", name] => Ok(Self::Slab(name)),
            ["http"] => Ok(Self::Http(version)),
            ["http", "requests"] => Ok(Self::Requests),
            ["http", "upstreams"] => Ok(Self::Upstreams),
            ["http", "upstreams", name] => Ok(Self::Upstream(name)),
            ["http", "upstreams", name, "servers"] => Ok(Self::Servers(name)),
            ["http", "upstreams", name, "servers", id] => Ok(Self::Server(name, id)),
            ["ssl"] => Ok(Self::Ssl),
            ["workers"] if version >= WORKERS_SINCE => Ok(Self::Workers),
            ["workers", id] if version >= WORKERS_SINCE => Ok(Self::Worker(id)),
            _ => Err(api::Refusal::PathNotFound.into()),
        }
    }

    /// The methods that it serves, as the header `Allow` has them.
    pub fn allow(&self) -> &'static str {
        match self {
            Self::Upstream(_) => "GET, HEAD, DELETE",
            Self::Servers(_) => "GET, HEAD, POST",
            Self::Server(..) => "GET, HEAD, PATCH, DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// What there is in a version.
pub fn root(version: u32) -> Vec<&'static str> {
    let mut names = vec!["nginx", "processes", "connections", "slabs", "http"];
    names.extend(empty(version, &[]));
    names.push("ssl");
    names.extend(Some("workers").filter(|_| version >= WORKERS_SINCE));
    names
}

/// What there is below `http` in a version.
pub fn http(version: u32) -> Vec<&'static str> {
    let mut names = vec!["requests", "upstreams"];
    names.extend(empty(version, &["http"]));
    names
}

fn empty(version: u32, below: &'static [&str]) -> impl Iterator<Item = &'static str> {
    EMPTY.iter().filter(move |empty| version >= empty.since).filter_map(move |empty| {
        let (name, folder) = empty.path.split_last()?;
        (folder == below).then_some(*name)
    })
}

/// The number of a server as it stands in a path.
///
/// # Errors
/// Where it is none.
pub fn server_id(text: &str) -> Result<u32, Refusal> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(Refusal::ServerIdInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Result<String, (u16, &'static str)> {
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        assert!(is_versioned(&segments));
        let place = Place::at(&segments).map(|place| format!("{place:?}"));
        place.map_err(|refusal| {
            let problem = refusal.problem();
            (problem.status, problem.code)
        })
    }

    #[test]
    fn paths() {
        for (path, place) in [
            ("9", "Root(9)"),
            ("4", "Root(4)"),
            ("8/nginx", "Nginx"),
            ("9/slabs", "Slabs"),
            ("9/slabs/a", "Slab(\"a\")"),
            ("9/http", "Http(9)"),
            ("9/http/requests", "Requests"),
            ("9/http/upstreams", "Upstreams"),
            ("9/http/upstreams/a", "Upstream(\"a\")"),
            ("9/http/upstreams/a/servers", "Servers(\"a\")"),
            ("9/http/upstreams/a/servers/x", "Server(\"a\", \"x\")"),
            ("9/http/caches", "Nothing"),
            ("5/resolvers", "Nothing"),
            ("9/workers/0", "Worker(\"0\")"),
        ] {
            assert_eq!(at(path).as_deref(), Ok(place), "{path}");
        }
        for (path, code) in [
            ("3", "UnknownVersion"),
            ("10/nginx", "UnknownVersion"),
            ("99999999999", "UnknownVersion"),
            ("9/stream", "PathNotFound"),
            ("9/stream/upstreams", "PathNotFound"),
            ("9/http/", "PathNotFound"),
            ("9//nginx", "PathNotFound"),
            ("9/nginx/x", "PathNotFound"),
            ("9/http/upstreams/a/b", "PathNotFound"),
            ("9/http/upstreams/a/servers/1/x", "PathNotFound"),
            ("9/http/caches/x", "CacheNotFound"),
            ("9/http/caches/x/y", "PathNotFound"),
            ("4/resolvers", "PathNotFound"),
            ("5/http/limit_reqs", "PathNotFound"),
            ("8/workers", "PathNotFound"),
        ] {
            assert_eq!(at(path), Err((404, code)), "{path}");
        }
        for other in ["status", "clusters", "", "v9", "-1"] {
            assert!(!is_versioned(&[other.to_owned()]), "{other}");
        }
    }

    #[test]
    fn lists() {
        let common = ["nginx", "processes", "connections", "slabs", "http"];
        assert_eq!(root(4), [&common[..], &["ssl"]].concat());
        assert_eq!(root(8), [&common[..], &["resolvers", "ssl"]].concat());
        assert_eq!(root(9), [&common[..], &["resolvers", "ssl", "workers"]].concat());
        assert_eq!(http(4), ["requests", "upstreams", "server_zones", "caches", "keyvals"]);
        assert_eq!(http(9).len(), 8);
    }

    #[test]
    fn numbers() {
        assert_eq!(server_id("0"), Ok(0));
        assert_eq!(server_id("4294967295"), Ok(u32::MAX));
        for text in ["", "-1", "+1", "1a", "4294967296", "0x1"] {
            assert_eq!(server_id(text), Err(Refusal::ServerIdInvalid), "{text}");
        }
    }
}
