//! The bodies: a server as it is to be added, or what is to be different of one.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::Value;

use super::members::Members;
use super::refusal::Refusal;
use crate::logic::api;
use crate::logic::change::{Change, ServerDraft, Target, Which};

/// The port of a server without one.
const DEFAULT_PORT: u16 = 80;

/// What a POST wants changed: one server more.
///
/// # Errors
/// Where the body is not what it should be.
pub fn addition(body: &[u8]) -> Result<Change, Refusal> {
    let (mut draft, backup) = draft(body)?;
    let Some(server) = &mut draft.server else {
        return Err(Refusal::FormatInvalid("missing \"server\" argument".to_owned()));
    };
    if draft.service.is_none() {
        *server = with_port(server);
    }
    let level = if backup == Some(true) { Target::Backup } else { Target::Level("1".to_owned()) };
    Ok(Change::AddServer { level, draft: Box::new(draft) })
}

/// What a PATCH of the server of this number wants changed.
///
/// # Errors
/// Where the body is not what it should be.
pub fn modification(id: u32, body: &[u8]) -> Result<Change, Refusal> {
    let (mut draft, is_backup) = draft(body)?;
    if let Some(server) = &mut draft.server {
        *server = with_port(server);
    }
    Ok(Change::PatchServer { which: Which::Id { id, is_backup }, draft: Box::new(draft) })
}

fn draft(body: &[u8]) -> Result<(ServerDraft, Option<bool>), Refusal> {
    let Members::<Value>(members) =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data if is_json(body) => {
                Refusal::FormatInvalid("the body must be an object".to_owned())
            }
            _ => Refusal::NoJson(error.to_string()),
        })?;
    let mut draft = ServerDraft::default();
    let (mut backup, mut seen) = (None, HashSet::new());
    for (name, value) in members {
        if value.is_object() || value.is_array() {
            return Err(Refusal::FormatInvalid("nested object or list".to_owned()));
        }
        if !seen.insert(name.clone()) {
            return Err(refuse("more than one", &name));
        }
        match (name.as_str(), value) {
            ("server", Value::String(text)) => draft.server = Some(text),
            ("service", Value::String(text)) => draft.service = Some(text),
            ("fail_timeout", Value::String(text)) => draft.fail_timeout = Some(text),
            ("slow_start", Value::String(text)) => draft.slow_start = Some(text),
            ("route", Value::String(text)) => draft.route = Some(text),
            ("weight", Value::Number(number)) => draft.weight = Some(number),
            ("max_conns", Value::Number(number)) => draft.max_conns = Some(number),
            ("max_fails", Value::Number(number)) => draft.max_fails = Some(number),
            ("down", value) if flag(&value).is_some() => draft.down = flag(&value),
            ("drain", value) if flag(&value).is_some() => draft.drain = flag(&value),
            ("backup", value) if flag(&value).is_some() => backup = flag(&value),
            (known, _) if KNOWN.contains(&known) => return Err(refuse("invalid value of", known)),
            (unknown, _) => return Err(refuse("unknown", unknown)),
        }
    }
    Ok((draft, backup))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// A boolean, also as text: there are clients that send it so.
fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// The parameters that there are.
const KNOWN: [&str; 11] = [
    "server",
    "service",
    "weight",
    "max_conns",
    "max_fails",
    "fail_timeout",
    "slow_start",
    "route",
    "backup",
    "down",
    "drain",
];

fn refuse(what: &str, name: &str) -> Refusal {
    // The name may be of any length.
    api::Refusal::invalid(&format!("{what} parameter \"{name}\"")).into()
}

/// The address with a port. What is none is left as it is.
fn with_port(text: &str) -> String {
    let is_whole = text.starts_with("unix:") || text.parse::<SocketAddr>().is_ok();
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_bare = match in_brackets {
        Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        None => !text.is_empty() && !text.contains(':'),
    };
    if is_bare && !is_whole {
        format!("{text}:{DEFAULT_PORT}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:80"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("[::1]", "[::1]:80"),
            ("[::1]:81", "[::1]:81"),
            ("::1", "::1"),
            ("a.example", "a.example:80"),
            ("a.example:81", "a.example:81"),
            ("unix:/a.sock", "unix:/a.sock"),
            ("", ""),
            ("[x]", "[x]"),
            ("10.0.0.1:", "10.0.0.1:"),
        ] {
            assert_eq!(with_port(text), expected);
        }
    }

    fn refused(body: &str) -> (u16, &'static str, String) {
        let problem = addition(body.as_bytes()).unwrap_err().problem();
        (problem.status, problem.code, problem.text)
    }

    #[test]
    fn bodies() {
        let body = r#"{"server":"10.0.0.1","weight":2,"max_conns":3,"max_fails":0,"fail_timeout":"1m",
            "slow_start":"2s","route":"r","backup":true,"down":"false","drain":true}"#;
        let Ok(Change::AddServer { level: Target::Backup, draft }) = addition(body.as_bytes())
        else {
            panic!("it is refused");
        };
        assert_eq!(draft.server.as_deref(), Some("10.0.0.1:80"));
        assert_eq!((draft.down, draft.drain), (Some(false), Some(true)));
        let Ok(Change::PatchServer { which: Which::Id { id: 7, is_backup: None }, draft }) =
            modification(7, b"{}")
        else {
            panic!("it is refused");
        };
        assert_eq!(draft.server, None);
    }

    #[test]
    fn what_is_refused() {
        for (body, text) in [
            ("{}", "missing \"server\" argument"),
            ("[]", "the body must be an object"),
            ("1", "the body must be an object"),
            (r#"{"server":"a","id":1}"#, "unknown parameter \"id\""),
            (r#"{"server":"a","x":1}"#, "unknown parameter \"x\""),
            (r#"{"server":"a","weight":"1"}"#, "invalid value of parameter \"weight\""),
            (r#"{"server":"a","weight":null}"#, "invalid value of parameter \"weight\""),
            (r#"{"server":"a","down":"no"}"#, "invalid value of parameter \"down\""),
            (r#"{"server":"a","down":1}"#, "invalid value of parameter \"down\""),
            (r#"{"server":1}"#, "invalid value of parameter \"server\""),
            (r#"{"server":"a","weight":[1]}"#, "nested object or list"),
            (r#"{"server":{}}"#, "nested object or list"),
            (r#"{"server":"a","server":"a"}"#, "more than one parameter \"server\""),
        ] {
            assert_eq!(refused(body), (400, "UpstreamConfFormatError", text.to_owned()), "{body}");
        }
        for body in ["", "{", "{'server':1}", "server=a", "{} x", "[", "[1] x"] {
            let (status, code, _) = refused(body);
            assert_eq!((status, code), (415, "JsonError"), "{body}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert_eq!(refused(&deep).1, "JsonError");
        let long = format!("{{\"{}\":1}}", "x".repeat(10_000));
        assert_eq!(refused(&long).2.len(), api::MAX_SENTENCE);
    }
}
