//! The checks as a change gives them.

use serde_json::{Map, Value};

use super::{invalid, Surroundings};
use crate::logic::api::Refusal;
use crate::logic::directive;
use crate::logic::settings::{Check, Cluster, Source, Ssl};

/// The most checks of a cluster.
pub const MAX_CHECKS: usize = 8;

/// What names a file.
const FILES: [&str; 5] = [
    "password_file",
    "ssl_trusted_certificate",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_protocols",
];

/// The checks of the cluster of this name. What looks as GET shows a check of `current`, or one of the
/// configuration, is that very check, with what is not shown of it.
pub(super) fn checks(
    values: &[Value],
    name: &str,
    current: Option<&Cluster>,
    around: &Surroundings<'_>,
) -> Result<Vec<Check>, Refusal> {
    if values.len() > MAX_CHECKS {
        return Err(invalid(format!("a cluster has at most {MAX_CHECKS} checks")));
    }
    let configured = around.configured.map_or(&[][..], |configured| &configured.checks);
    let known: Vec<&Check> =
        current.map_or(&[][..], |current| &current.checks).iter().chain(configured).collect();
    let mut found = Vec::new();
    for value in values {
        let same = known.iter().find(|check| shown(check) == *value);
        found.push(match (same, value) {
            (Some(check), _) => (*check).clone(),
            (None, Value::String(defined)) => self::defined(defined, name, around)?,
            (None, Value::Object(object)) => given(object, name, around)?,
            (None, _) => {
                return Err(invalid("a check must be an object, or the name of a defined one"))
            }
        });
    }
    Ok(found)
}

/// A check as GET shows it.
pub fn shown(check: &Check) -> Value {
    serde_json::to_value(check.shown()).unwrap_or_default()
}

/// The check that `checkups_check_define` has under this name.
pub(super) fn defined(
    check: &str,
    cluster: &str,
    around: &Surroundings<'_>,
) -> Result<Check, Refusal> {
    around.checks.defined(check, cluster).ok_or_else(|| {
        let shown: String = check.chars().take(100).collect();
        invalid(format!("no check {shown:?} is defined by checkups_check_define"))
    })
}

/// A check by its parameters: the same as those of the directive.
pub(super) fn given(
    object: &Map<String, Value>,
    cluster: &str,
    around: &Surroundings<'_>,
) -> Result<Check, Refusal> {
    let Some(Value::String(kind)) = object.get("type") else {
        return Err(invalid("a check needs a \"type\", which must be a string"));
    };
    let mut words = vec![kind.clone()];
    for (name, value) in object.iter().filter(|(name, _)| *name != "type") {
        words_of(name, value, &mut words)?;
    }
    let bytes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let wrong = |error: directive::DirectiveError| invalid(format!("check: {error}"));
    let parsed = directive::exact_check(&bytes).map_err(wrong)?;
    let directive = parsed.ok_or_else(|| invalid("a check cannot be \"off\" here"))?;
    let block = match &directive.matching {
        None => None,
        Some(name) => {
            let missing = || invalid(format!("there is no checkups_match {name:?}"));
            Some(around.checks.matching(name).ok_or_else(missing)?)
        }
    };
    let mut check = directive.complete(cluster, None, block.as_ref()).map_err(wrong)?;
    if !around.checks.has_tls() {
        if check.tls.as_ref().is_some_and(|tls| tls.ssl != Ssl::Auto) {
            return Err(invalid("check: this nginx has no TLS"));
        }
        check.tls = None;
    }
    let text = serde_json::to_string(object).map_err(|_| Refusal::Internal)?;
    check.source = Source::Given(text);
    Ok(check)
}

/// The words of the directive that a member of the object stands for.
fn words_of(name: &str, value: &Value, words: &mut Vec<String>) -> Result<(), Refusal> {
    if name.contains('=') {
        return Err(invalid(format!("unknown field {name:?} of a check")));
    }
    if FILES.contains(&name) && !value.is_null() {
        return Err(invalid(format!(
            "\"{name}\" stands in checkups_check_define only: the API names no files"
        )));
    }
    match (name, value) {
        (_, Value::Null) => {}
        ("mandatory", Value::Bool(false)) => {}
        ("mandatory", Value::Bool(true)) => words.push("mandatory".to_owned()),
        ("mandatory", Value::String(text)) => match text.as_str() {
            "off" => {}
            "on" => words.push("mandatory".to_owned()),
            "persistent" => words.extend(["mandatory", "persistent"].map(str::to_owned)),
            _ => return Err(invalid("\"mandatory\" must be off, on or persistent")),
        },
        ("headers", Value::Array(headers)) => {
            for header in headers {
                let Value::String(header) = header else {
                    return Err(invalid("\"headers\" must be an array of strings"));
                };
                if header.ends_with(": ***") {
                    return Err(invalid(format!(
                        "{header:?}: the value of this header is not shown, it has to be given"
                    )));
                }
                words.push(format!("header={header}"));
            }
        }
        ("headers" | "persistent" | "header" | "protected", _) => {
            return Err(invalid(format!("unknown field {name:?} of a check, or of another type")));
        }
        ("ssl", Value::String(text)) if text == "auto" => {}
        (_, Value::Bool(true)) => words.push(format!("{name}=on")),
        (_, Value::Bool(false)) => words.push(format!("{name}=off")),
        (_, Value::Number(number)) => words.push(format!("{name}={number}")),
        (_, Value::String(text)) => words.push(format!("{name}={text}")),
        (_, Value::Array(_) | Value::Object(_)) => {
            return Err(invalid(format!("{name:?} of a check must be a string or a number")));
        }
    }
    Ok(())
}
