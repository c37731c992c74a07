//! The words of the `checkups_*` directives, parsed into settings.

use std::borrow::Cow;
use std::str;

use thiserror::Error;

use super::settings::{self, Check, HttpProbe, Probe, Time, MAX_NAME};

/// The size of the zone where no `checkups_zone` says otherwise.
pub const DEFAULT_ZONE_SIZE: usize = 4 << 20;

/// The name of the zone where no `checkups_zone` says otherwise.
pub const DEFAULT_ZONE_NAME: &str = "checkups";

/// The longest time that a parameter takes: a week.
const MAX_TIME: Time = Time::seconds(7 * 24 * 3600);

/// The shortest interval of checks.
const MIN_INTERVAL: Time = Time::milliseconds(10);

/// What is wrong with a directive, as a sentence for the operator: it names the word and what is
/// allowed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DirectiveError {
    /// A word that is none of the parameters.
    #[error("unknown parameter \"{word}\", allowed are {allowed}")]
    Unknown {
        /// The word.
        word: String,
        /// The parameters there are.
        allowed: &'static str,
    },
    /// A parameter whose value is out of range or not of its form.
    #[error("invalid value in \"{word}\", it must be {allowed}")]
    Value {
        /// The word.
        word: String,
        /// What the value may be.
        allowed: String,
    },
    /// A parameter that was given before.
    #[error("duplicate parameter \"{word}\"")]
    Duplicate {
        /// The word.
        word: String,
    },
    /// A parameter that this type of check does not have.
    #[error("parameter \"{word}\" is not for a check of type \"{kind}\", allowed are {allowed}")]
    NotForType {
        /// The word.
        word: String,
        /// The type of the check.
        kind: &'static str,
        /// The parameters it has.
        allowed: &'static str,
    },
    /// A name that no cluster can have.
    #[error(
        "invalid cluster name \"{name}\", it must be 1 to {MAX_NAME} letters, digits and the \
         characters . _ : -"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A name with a variable in it.
    #[error("\"{name}\": a cluster cannot be named by a variable")]
    Variable {
        /// The name.
        name: String,
    },
    /// The type of a check is missing or none of those there are.
    #[error("{} of check, allowed are tcp, http and off", match .word {
        Some(word) => format!("unknown type \"{word}\""),
        None => "missing type".to_owned(),
    })]
    CheckType {
        /// The word that should be the type.
        word: Option<String>,
    },
    /// `checkups_check off` with more words.
    #[error("unexpected parameter \"{word}\" after \"off\"")]
    AfterOff {
        /// The first of them.
        word: String,
    },
    /// The words of `checkups_zone` do not have the form `NAME:SIZE`.
    #[error("invalid zone \"{word}\", it must be NAME:SIZE, for example checkups:4m")]
    Zone {
        /// The word.
        word: String,
    },
}

type Result<T> = std::result::Result<T, DirectiveError>;

/// The parameters of `checkups_cluster`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClusterDirective {
    /// The name, where it is given.
    pub name: Option<String>,
    /// See [`settings::Cluster::tries`].
    pub tries: Option<u32>,
}

/// Parses the words after `checkups_cluster`: `[NAME] [tries=N]`.
///
/// # Errors
/// On unknown or repeated words, and on a name that is not allowed.
pub fn cluster(words: &[&[u8]]) -> Result<ClusterDirective> {
    const ALLOWED: &str = "one NAME and tries=";
    let mut directive = ClusterDirective::default();

    for word in words.iter().map(|word| Word::new(word)) {
        match word.parameter() {
            Some(("tries", _)) => word.once(&mut directive.tries, |w| w.number(1, 1_000_000))?,
            Some(_) => return Err(word.unknown(ALLOWED)),
            None => {
                word.once(&mut directive.name, |w| cluster_name(&w.text))?;
            }
        }
    }
    Ok(directive)
}

/// Checks that a cluster may have this name.
///
/// # Errors
/// Where it is too long or has characters that are not allowed.
pub fn cluster_name(name: &str) -> Result<String> {
    let name = name.to_owned();
    if name.contains('$') {
        Err(DirectiveError::Variable { name })
    } else if settings::is_cluster_name(&name) {
        Ok(name)
    } else {
        Err(DirectiveError::Name { name })
    }
}

/// Splits the word after `checkups_zone` into the name and the size, which nginx's own parser of
/// sizes takes.
///
/// # Errors
/// Where there is no colon, or nothing before or after it.
pub fn zone(word: &[u8]) -> Result<(&str, &str)> {
    let error = || DirectiveError::Zone { word: String::from_utf8_lossy(word).into_owned() };
    match str::from_utf8(word).ok().and_then(|word| word.split_once(':')) {
        Some((name, size)) if !name.is_empty() && !size.is_empty() => Ok((name, size)),
        _ => Err(error()),
    }
}

/// Parses the words after `checkups_check`: `TYPE [parameter=value ...]`, or `off`: then `None`.
///
/// `host` is the Host header of an HTTP check that has no `host=`.
///
/// # Errors
/// On an unknown type, on unknown or repeated parameters, and on values out of range.
pub fn check(words: &[&[u8]], host: &str) -> Result<Option<Check>> {
    const COMMON: &str = "interval=, jitter=, timeout=, fails=, passes= and port=";
    const HTTP: &str =
        "interval=, jitter=, timeout=, fails=, passes=, port=, uri=, method= and host=";

    let Some((kind, words)) = words.split_first() else {
        return Err(DirectiveError::CheckType { word: None });
    };
    let http = match *kind {
        b"tcp" => false,
        b"http" => true,
        b"off" => {
            return match words.first() {
                None => Ok(None),
                Some(word) => {
                    Err(DirectiveError::AfterOff { word: Word::new(word).text.to_string() })
                }
            }
        }
        other => {
            let word = String::from_utf8_lossy(other).into_owned();
            return Err(DirectiveError::CheckType { word: Some(word) });
        }
    };

    let (mut interval, mut jitter, mut timeout) = (None, None, None);
    let (mut fails, mut passes, mut port) = (None, None, None);
    let (mut uri, mut method, mut host_given) = (None, None, None);

    for word in words.iter().map(|word| Word::new(word)) {
        let name = word.parameter().map(|(name, _)| name);
        match name {
            Some("interval") => word.once(&mut interval, |w| w.time(MIN_INTERVAL))?,
            Some("jitter") => word.once(&mut jitter, |w| w.time(Time::seconds(0)))?,
            Some("timeout") => word.once(&mut timeout, |w| w.time(Time::milliseconds(1)))?,
            Some("fails") => word.once(&mut fails, |w| w.number(1, 1_000_000))?,
            Some("passes") => word.once(&mut passes, |w| w.number(1, 1_000_000))?,
            Some("port") => {
                word.once(&mut port, |w| Ok(w.number(1, u32::from(u16::MAX))? as u16))?;
            }
            Some("uri" | "method" | "host") if !http => {
                return Err(DirectiveError::NotForType {
                    word: word.text.to_string(),
                    kind: "tcp",
                    allowed: COMMON,
                });
            }
            Some("uri") => word.once(&mut uri, |w| w.uri())?,
            Some("method") => word.once(&mut method, |w| w.method())?,
            Some("host") => word.once(&mut host_given, |w| w.host())?,
            _ => return Err(word.unknown(if http { HTTP } else { COMMON })),
        }
    }

    let probe = if http {
        Probe::Http(HttpProbe {
            method: method.unwrap_or_else(|| "GET".to_owned()),
            uri: uri.unwrap_or_else(|| "/".to_owned()),
            host: host_given.unwrap_or_else(|| host.to_owned()),
        })
    } else {
        Probe::Tcp
    };
    Ok(Some(Check {
        probe,
        interval: interval.unwrap_or(Time::seconds(5)),
        jitter: jitter.unwrap_or(Time::seconds(0)),
        timeout: timeout.unwrap_or(Time::seconds(2)),
        fails: fails.unwrap_or(1),
        passes: passes.unwrap_or(1),
        port,
    }))
}

/// One word of a directive. What is not UTF-8 in it is replaced, by what no parameter admits.
struct Word<'a> {
    text: Cow<'a, str>,
}

impl<'a> Word<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { text: String::from_utf8_lossy(bytes) }
    }

    fn parameter(&self) -> Option<(&str, &str)> {
        self.text.split_once('=')
    }

    fn value(&self) -> &str {
        self.parameter().map_or("", |(_, value)| value)
    }

    fn once<T>(&self, slot: &mut Option<T>, parse: impl FnOnce(&Self) -> Result<T>) -> Result<()> {
        if slot.is_some() {
            return Err(DirectiveError::Duplicate { word: self.text.to_string() });
        }
        *slot = Some(parse(self)?);
        Ok(())
    }

    fn unknown(&self, allowed: &'static str) -> DirectiveError {
        DirectiveError::Unknown { word: self.text.to_string(), allowed }
    }

    fn invalid(&self, allowed: impl Into<String>) -> DirectiveError {
        DirectiveError::Value { word: self.text.to_string(), allowed: allowed.into() }
    }

    fn number(&self, least: u32, most: u32) -> Result<u32> {
        digits(self.value())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.invalid(format!("a number from {least} to {most}")))
    }

    fn time(&self, least: Time) -> Result<Time> {
        time(self.value()).filter(|time| (least..=MAX_TIME).contains(time)).ok_or_else(|| {
            self.invalid(format!("a time from {least} to {MAX_TIME}, for example 5s or 500ms"))
        })
    }

    fn uri(&self) -> Result<String> {
        let uri = self.value();
        if uri.starts_with('/') && uri.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(uri.to_owned())
        } else {
            Err(self.invalid("a path that begins with / and has no blanks"))
        }
    }

    fn method(&self) -> Result<String> {
        let method = self.value();
        if !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(method.to_owned())
        } else {
            Err(self.invalid("a method in capital letters, for example GET or HEAD"))
        }
    }

    fn host(&self) -> Result<String> {
        let host = self.value();
        if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(host.to_owned())
        } else {
            Err(self.invalid("a host name without blanks"))
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Parses a time as `ngx_parse_time` does: numbers with the units `w d h m s ms`, from the largest
/// to the smallest and each once, or a bare number of seconds. (Without the months and years.)
fn time(text: &str) -> Option<Time> {
    const UNITS: [(&str, u64); 6] = [
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];

    let mut rest = text;
    let mut units = &UNITS[..];
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_ends = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(unit_ends);
        let unit = if unit.is_empty() && tail.is_empty() { "s" } else { unit };
        let index = units.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(digits(number)?.checked_mul(units[index].1)?)?;
        units = &units[index + 1..];
        rest = tail.trim_start_matches(' ');
    }
    Some(Time::milliseconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes).collect()
    }

    fn check_error(line: &str) -> String {
        check(&words(line), "up").unwrap_err().to_string()
    }

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("5", 5000),
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("1w1d", 691_200_000),
            ("1m 5", 65_000),
        ] {
            assert_eq!(time(text), Some(Time::milliseconds(milliseconds)), "{text}");
        }
        for text in
            ["", "s", "-1", "1x", "1s1m", "1s1s", "1.5s", "99999999999999999999", "ms", "1sm"]
        {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn check_defaults() {
        let tcp = check(&words("tcp"), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&tcp).unwrap(),
            r#"{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        let http = check(&words("http"), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&http).unwrap(),
            r#"{"type":"http","method":"GET","uri":"/","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        assert_eq!(check(&words("off"), "up"), Ok(None));
    }

    #[test]
    fn check_parameters() {
        let line = "http interval=1m timeout=100ms jitter=1s fails=3 passes=2 port=81 \
                    uri=/health?x=1 method=HEAD host=a.b";
        let check = check(&words(line), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&check).unwrap(),
            r#"{"type":"http","method":"HEAD","uri":"/health?x=1","host":"a.b","interval":"60s","jitter":"1s","timeout":"100ms","fails":3,"passes":2,"port":81}"#
        );
    }

    #[test]
    fn check_errors_name_the_word_and_what_is_allowed() {
        for (line, error) in [
            ("", "missing type of check, allowed are tcp, http and off"),
            ("icmp", "unknown type \"icmp\" of check, allowed are tcp, http and off"),
            ("off interval=1s", "unexpected parameter \"interval=1s\" after \"off\""),
            (
                "tcp intervall=1s",
                "unknown parameter \"intervall=1s\", allowed are interval=, jitter=, timeout=, \
                 fails=, passes= and port=",
            ),
            (
                "http x",
                "unknown parameter \"x\", allowed are interval=, jitter=, timeout=, fails=, \
                 passes=, port=, uri=, method= and host=",
            ),
            (
                "tcp uri=/",
                "parameter \"uri=/\" is not for a check of type \"tcp\", allowed are interval=, \
                 jitter=, timeout=, fails=, passes= and port=",
            ),
            ("tcp fails=1 fails=1", "duplicate parameter \"fails=1\""),
            (
                "tcp interval=9ms",
                "invalid value in \"interval=9ms\", it must be a time from 10ms to 604800s, for \
                 example 5s or 500ms",
            ),
            (
                "tcp timeout=0",
                "invalid value in \"timeout=0\", it must be a time from 1ms to 604800s, for \
                 example 5s or 500ms",
            ),
            ("tcp fails=0", "invalid value in \"fails=0\", it must be a number from 1 to 1000000"),
            ("tcp passes=-1", "invalid value in \"passes=-1\", it must be a number from 1 to 1000000"),
            ("tcp port=65536", "invalid value in \"port=65536\", it must be a number from 1 to 65535"),
            (
                "http uri=x",
                "invalid value in \"uri=x\", it must be a path that begins with / and has no blanks",
            ),
            (
                "http method=get",
                "invalid value in \"method=get\", it must be a method in capital letters, for \
                 example GET or HEAD",
            ),
            ("http host=", "invalid value in \"host=\", it must be a host name without blanks"),
        ] {
            assert_eq!(check_error(line), error, "{line}");
        }
        assert!(check(&[b"http", b"uri=/\xff"], "up").is_err());
        assert!(cluster(&[b"caf\xe9"]).is_err());
        assert!(check(&[b"http", b"uri=/a b"], "up").is_err());
        assert!(check(&[b"http", b"host=a\r\nb"], "up").is_err());
    }

    #[test]
    fn clusters() {
        let named =
            |name: Option<&str>, tries| ClusterDirective { name: name.map(str::to_owned), tries };
        assert_eq!(cluster(&words("")), Ok(named(None, None)));
        assert_eq!(cluster(&words("api tries=2")), Ok(named(Some("api"), Some(2))));
        assert_eq!(cluster(&words("tries=2")), Ok(named(None, Some(2))));
        for (line, error) in [
            ("a b", "duplicate parameter \"b\""),
            ("tries=1 tries=2", "duplicate parameter \"tries=2\""),
            ("tries=0", "invalid value in \"tries=0\", it must be a number from 1 to 1000000"),
            ("x=1", "unknown parameter \"x=1\", allowed are one NAME and tries="),
            ("$a", "\"$a\": a cluster cannot be named by a variable"),
            (
                "a/b",
                "invalid cluster name \"a/b\", it must be 1 to 128 letters, digits and the \
                 characters . _ : -",
            ),
        ] {
            assert_eq!(cluster(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn zones() {
        assert_eq!(zone(b"checkups:8m"), Ok(("checkups", "8m")));
        for bad in ["checkups", ":8m", "checkups:", ""] {
            assert!(zone(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
