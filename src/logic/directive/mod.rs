//! The words of the `checkups_*` directives, parsed into settings.

mod check;
mod cluster;
mod matching;

use std::borrow::Cow;
use std::str;

use thiserror::Error;

use super::password::PasswordError;
use super::settings::{Time, MAX_NAME};

pub use check::{check, check_define, exact_check, CheckDirective};
pub(super) use cluster::PROTECTED;
pub use cluster::{
    api, balance, cluster, cluster_name, fail_status, level, level_from, server, ApiDirective,
    ClusterDirective, LevelDirective, LevelFromDirective, Only, ServerDirective,
};
pub use matching::{MatchBlock, MatchError};

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
        allowed: String,
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
        allowed: String,
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
    /// A name that no level can have.
    #[error(
        "invalid level name \"{name}\", it must be 1 to {MAX_NAME} letters, digits and the characters \
         . _ : -, and not a number: a number stands for the place of a level"
    )]
    LevelName {
        /// The name.
        name: String,
    },
    /// A name that no check can have.
    #[error(
        "invalid name of a check \"{name}\", it must be 1 to {MAX_NAME} letters, digits and the \
         characters . _ : -"
    )]
    CheckName {
        /// The name.
        name: String,
    },
    /// A balancing method that there is not.
    #[error(
        "unknown method \"{words}\", allowed are round_robin, hash KEY, url_hash, ip_hash, \
         header_hash, least_conn and random two"
    )]
    Method {
        /// What stands there.
        words: String,
    },
    /// Words that are not UTF-8.
    #[error("it must be UTF-8")]
    NotText,
    /// A directive without what it is about.
    #[error("{what} is missing")]
    Missing {
        /// What it is about.
        what: &'static str,
    },
    /// A name with a variable in it, where there is more to say.
    #[error(
        "\"{name}\" stands alone: what else there is to say is said of the clusters that it names"
    )]
    Variable {
        /// The name.
        name: String,
    },
    /// The type of a check is missing or none of those there are.
    #[error("{} of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off", match .word {
        Some(word) => format!("unknown type \"{word}\""),
        None => "missing type".to_owned(),
    })]
    CheckType {
        /// The word that should be the type.
        word: Option<String>,
    },
    /// `checkups_check_define NAME off`
    #[error("\"off\" is no check that could have a name")]
    DefinedOff,
    /// `checkups_check off` with more words.
    #[error("unexpected parameter \"{word}\" after \"off\"")]
    AfterOff {
        /// The first of them.
        word: String,
    },
    /// A value whose quotes do not end.
    #[error("no end of the quotes in \"{word}\"; put them around the whole parameter")]
    Unquoted {
        /// The first word of it.
        word: String,
    },
    /// Parameters of which only one may be given.
    #[error("\"{one}\" and \"{other}\" do not go together")]
    Together {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A parameter that means nothing without another.
    #[error("\"{one}\" needs \"{other}\"")]
    Without {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A block of conditions for checks of another type.
    #[error("checkups_match \"{name}\" is for checks of another type")]
    Match {
        /// Its name.
        name: String,
    },
    /// Certificates are to be verified, and none is trusted.
    #[error(
        "\"ssl_trusted_certificate=\" is missing: the certificate of the server cannot be verified \
         without; \"ssl_verify=off\" does without"
    )]
    NothingTrusted,
    /// What is no password.
    #[error("{0}")]
    Password(PasswordError),
    /// A `checkups_match` block that is not as it should be.
    #[error(transparent)]
    Condition(#[from] MatchError),
    /// The words of `checkups_zone` do not have the form `NAME:SIZE`.
    #[error("invalid zone \"{word}\", it must be NAME:SIZE, for example checkups:4m")]
    Zone {
        /// The word.
        word: String,
    },
}

type Result<T> = std::result::Result<T, DirectiveError>;

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

/// One word of a directive. What is not UTF-8 in it is replaced, by what no parameter admits.
pub(super) struct Word<'a> {
    text: Cow<'a, str>,
}

impl<'a> Word<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { text: String::from_utf8_lossy(bytes) }
    }

    fn parameter(&self) -> Option<(&str, &str)> {
        self.text.split_once('=')
    }

    fn value(&self) -> &str {
        self.parameter().map_or("", |(_, value)| value)
    }

    /// The word for a message, without a password, also where that word is misspelt.
    fn shown(&self) -> Cow<'_, str> {
        let is_secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            !["passes", "password_file"].contains(&name.as_str())
                && (name.starts_with("pass") || name.starts_with("pwd"))
        };
        match self.parameter() {
            Some((name, _)) if is_secret(name) => format!("{name}=***").into(),
            // Perhaps the name is missing, or stands together with the value.
            Some(("header", value)) if !value.contains(':') => "header=***".into(),
            _ => Cow::Borrowed(&self.text),
        }
    }

    fn once<T>(&self, slot: &mut Option<T>, parse: impl FnOnce(&Self) -> Result<T>) -> Result<()> {
        if slot.is_some() {
            return Err(DirectiveError::Duplicate { word: self.shown().into_owned() });
        }
        *slot = Some(parse(self)?);
        Ok(())
    }

    fn unknown(&self, allowed: impl Into<String>) -> DirectiveError {
        DirectiveError::Unknown { word: self.shown().into_owned(), allowed: allowed.into() }
    }

    fn invalid(&self, allowed: impl Into<String>) -> DirectiveError {
        DirectiveError::Value { word: self.shown().into_owned(), allowed: allowed.into() }
    }

    pub(super) fn number(&self, least: u32, most: u32) -> Result<u32> {
        digits(self.value())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.invalid(format!("a number from {least} to {most}")))
    }

    pub(super) fn time(&self, least: Time) -> Result<Time> {
        time(self.value()).filter(|time| (least..=MAX_TIME).contains(time)).ok_or_else(|| {
            self.invalid(format!("a time from {least} to {MAX_TIME}, for example 5s or 500ms"))
        })
    }

    pub(super) fn one_of<T: Copy>(&self, values: &[(&str, T)], allowed: &str) -> Result<T> {
        let found = values.iter().find(|(name, _)| *name == self.value());
        found.map(|&(_, value)| value).ok_or_else(|| self.invalid(allowed))
    }

    fn port(&self) -> Result<u16> {
        Ok(self.number(1, u32::from(u16::MAX))? as u16)
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

    pub(super) fn host(&self) -> Result<String> {
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
pub(super) fn time(text: &str) -> Option<Time> {
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

    /// The words of a line.
    pub fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes).collect()
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
    fn zones() {
        assert_eq!(zone(b"checkups:8m"), Ok(("checkups", "8m")));
        for bad in ["checkups", ":8m", "checkups:", ""] {
            assert!(zone(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
