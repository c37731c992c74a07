//! `checkups_cluster`, and what else is said of a cluster and its levels and servers.

use std::str;

use super::{DirectiveError, Result, Word};
use crate::logic::settings::{
    self, Balance, Limits, Protected, ServerCheck, Statuses, Time, Timeouts,
};

/// The shortest time of a limit.
const MIN_TIME: Time = Time::milliseconds(1);

/// The most tries.
const MAX_TRIES: u32 = 1_000_000;

/// The values of `protected=`.
pub(in crate::logic) const PROTECTED: [(&str, Protected); 4] = [
    ("all", Protected::All),
    ("one", Protected::One),
    ("on", Protected::One),
    ("off", Protected::Off),
];

/// The parameters of `checkups_cluster`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClusterDirective {
    /// The name, where it is given.
    pub name: Option<String>,
    /// A string with variables, whose value is the name: then the cluster is one of others, or one that
    /// comes to be at run time, and nothing else is said here.
    pub named_by: Option<String>,
    /// See [`settings::Cluster::limits`].
    pub limits: Limits,
    /// See [`settings::Cluster::timeouts`].
    pub timeouts: Timeouts,
    /// See [`settings::Cluster::protected`].
    pub protected: Protected,
}

/// Parses the words after `checkups_cluster`: `[NAME] [parameter=value ...]`.
///
/// # Errors
/// On unknown or repeated words, on values out of range, and on a name that is not allowed.
pub fn cluster(words: &[&[u8]]) -> Result<ClusterDirective> {
    const ALLOWED: &str = "one NAME, tries=, tries_timeout=, protected=, connect_timeout=, \
                           send_timeout= and read_timeout=";
    let mut directive = ClusterDirective::default();
    let mut protected = None;
    if let [word] = words {
        if word.contains(&b'$') {
            let text = str::from_utf8(word).map_err(|_| DirectiveError::NotText)?;
            directive.named_by = Some(text.to_owned());
            return Ok(directive);
        }
    }

    for word in words.iter().map(|word| Word::new(word)) {
        let timeouts = &mut directive.timeouts;
        match word.parameter().map(|(name, _)| name) {
            Some("tries" | "tries_timeout") => limit(&word, &mut directive.limits)?,
            Some("protected") => {
                word.once(&mut protected, |w| w.one_of(&PROTECTED, "all, one or off"))?;
            }
            Some("connect_timeout") => word.once(&mut timeouts.connect, |w| w.time(MIN_TIME))?,
            Some("send_timeout") => word.once(&mut timeouts.send, |w| w.time(MIN_TIME))?,
            Some("read_timeout") => word.once(&mut timeouts.read, |w| w.time(MIN_TIME))?,
            Some(_) => return Err(word.unknown(ALLOWED)),
            None => word.once(&mut directive.name, |w| cluster_name(&w.text))?,
        }
    }
    directive.protected = protected.unwrap_or_default();
    Ok(directive)
}

/// Takes in `tries=` or `tries_timeout=`.
fn limit(word: &Word<'_>, limits: &mut Limits) -> Result<()> {
    match word.parameter().map(|(name, _)| name) {
        Some("tries") => word.once(&mut limits.tries, |w| w.number(1, MAX_TRIES)),
        _ => word.once(&mut limits.tries_timeout, |w| w.time(MIN_TIME)),
    }
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

/// The parameters of `checkups_level`.
#[derive(Debug, PartialEq, Eq)]
pub struct LevelDirective {
    /// The name.
    pub name: String,
    /// See [`settings::Level::limits`].
    pub limits: Limits,
}

/// Parses the words after `checkups_level`: `NAME [tries=N] [tries_timeout=T]`.
///
/// # Errors
/// On unknown or repeated words, on values out of range, and on a name that is not allowed.
pub fn level(words: &[&[u8]]) -> Result<LevelDirective> {
    const ALLOWED: &str = "tries= and tries_timeout=";
    let (name, words) = level_name(words)?;
    let mut limits = Limits::default();
    for word in words.iter().map(|word| Word::new(word)) {
        match word.parameter().map(|(name, _)| name) {
            Some("tries" | "tries_timeout") => limit(&word, &mut limits)?,
            _ => return Err(word.unknown(ALLOWED)),
        }
    }
    Ok(LevelDirective { name, limits })
}

fn level_name<'a, 'b>(words: &'a [&'b [u8]]) -> Result<(String, &'a [&'b [u8]])> {
    let missing = DirectiveError::Missing { what: "the NAME of the level" };
    let (name, words) = words.split_first().ok_or(missing)?;
    let name = Word::new(name).text.into_owned();
    if settings::is_level_name(&name) {
        Ok((name, words))
    } else {
        Err(DirectiveError::LevelName { name })
    }
}

/// Which servers of another upstream make a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Those that are not `backup`.
    Primary,
    /// Those that are.
    Backup,
}

/// The parameters of `checkups_level_from`.
#[derive(Debug, PartialEq, Eq)]
pub struct LevelFromDirective {
    /// The level.
    pub level: LevelDirective,
    /// The name of the other upstream.
    pub upstream: String,
    /// Which of its servers; `None`: all.
    pub only: Option<Only>,
}

/// Parses the words after `checkups_level_from`: `NAME UPSTREAM [parameter=value ...]`.
///
/// # Errors
/// As [`level`], and where no upstream is named.
pub fn level_from(words: &[&[u8]]) -> Result<LevelFromDirective> {
    const ALLOWED: &str = "only=, tries= and tries_timeout=";
    const ONLY: [(&str, Only); 2] = [("primary", Only::Primary), ("backup", Only::Backup)];
    let (name, words) = level_name(words)?;
    let missing = DirectiveError::Missing { what: "the name of the other UPSTREAM" };
    let (upstream, words) = words.split_first().ok_or(missing)?;
    let upstream = Word::new(upstream).text.into_owned();
    let mut limits = Limits::default();
    let mut only = None;
    for word in words.iter().map(|word| Word::new(word)) {
        match word.parameter().map(|(name, _)| name) {
            Some("tries" | "tries_timeout") => limit(&word, &mut limits)?,
            Some("only") => word.once(&mut only, |w| w.one_of(&ONLY, "primary or backup"))?,
            _ => return Err(word.unknown(ALLOWED)),
        }
    }
    Ok(LevelFromDirective { level: LevelDirective { name, limits }, upstream, only })
}

/// Parses the words after `checkups_balance`.
///
/// # Errors
/// Where they are no method.
pub fn balance(words: &[&[u8]]) -> Result<Balance> {
    if words.iter().any(|word| str::from_utf8(word).is_err()) {
        return Err(DirectiveError::NotText);
    }
    let words: Vec<_> = words.iter().map(|word| Word::new(word).text).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words[..] {
        ["round_robin"] => Ok(Balance::RoundRobin),
        ["hash"] | ["hash", ""] => Err(DirectiveError::Missing { what: "the KEY of the hash" }),
        ["hash", key] => Ok(Balance::Hash(key.to_owned())),
        ["url_hash"] => Ok(Balance::UrlHash),
        ["ip_hash"] => Ok(Balance::IpHash),
        ["header_hash"] => Ok(Balance::HeaderHash),
        ["least_conn"] => Ok(Balance::LeastConn),
        ["random", "two"] => Ok(Balance::RandomTwo),
        _ => Err(DirectiveError::Method { words: words.join(" ") }),
    }
}

/// Parses the words after `checkups_fail_status`: statuses and ranges of them.
///
/// # Errors
/// Where a word is neither.
pub fn fail_status(words: &[&[u8]]) -> Result<Statuses> {
    let status = |text: &str| {
        let three = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| three && (100..=599).contains(status))
    };
    let ranges = words.iter().map(|word| {
        let word = Word::new(word);
        let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => Err(word.invalid("a status from 100 to 599, or two with - between them")),
        }
    });
    Ok(Statuses(ranges.collect::<Result<_>>()?))
}

/// The parameters of `checkups_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDirective {
    /// The address as it is written.
    pub address: String,
    /// See [`settings::Server::slow_start`].
    pub slow_start: Option<Time>,
    /// See [`settings::Server::drain`].
    pub drain: bool,
    /// See [`settings::Server::check`].
    pub check: ServerCheck,
}

impl ServerDirective {
    /// Whether it says anything that nginx's own balancers do not know.
    pub fn needs_cluster(&self) -> bool {
        self.slow_start.is_some() || self.drain
    }
}

/// Parses the words after `checkups_server`: `ADDRESS [slow_start=T] [drain] [check=off]
/// [check_port=N] [check_host=NAME]`.
///
/// # Errors
/// On unknown or repeated words, on values out of range, and where there is no address.
pub fn server(words: &[&[u8]]) -> Result<ServerDirective> {
    const ALLOWED: &str = "slow_start=, drain, check=, check_port= and check_host=";
    let missing = DirectiveError::Missing { what: "the ADDRESS of the server" };
    let (address, words) = words.split_first().ok_or(missing)?;
    let address = Word::new(address).text.into_owned();
    let (mut slow_start, mut drain) = (None, None);
    let (mut check, mut check_port, mut check_host) = (None, None, None);
    for word in words.iter().map(|word| Word::new(word)) {
        match word.parameter().map(|(name, _)| name) {
            Some("slow_start") => word.once(&mut slow_start, |w| w.time(Time::seconds(0)))?,
            None if word.text == "drain" => word.once(&mut drain, |_| Ok(()))?,
            Some("check") => {
                let values = [("on", true), ("off", false)];
                word.once(&mut check, |w| w.one_of(&values, "on or off"))?;
            }
            Some("check_port") => word.once(&mut check_port, Word::port)?,
            Some("check_host") => word.once(&mut check_host, Word::host)?,
            _ => return Err(word.unknown(ALLOWED)),
        }
    }
    let check = ServerCheck { is_on: check.unwrap_or(true), port: check_port, host: check_host };
    Ok(ServerDirective { address, slow_start, drain: drain.is_some(), check })
}

/// The parameters of `checkups_api`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiDirective {
    /// Whether it changes anything.
    pub write: bool,
}

/// Parses the words after `checkups_api`: `[write=on|off]`.
///
/// # Errors
/// On anything else.
pub fn api(words: &[&[u8]]) -> Result<ApiDirective> {
    let mut write = None;
    for word in words.iter().map(|word| Word::new(word)) {
        match word.parameter().map(|(name, _)| name) {
            Some("write") => {
                let values = [("on", true), ("off", false)];
                word.once(&mut write, |w| w.one_of(&values, "on or off"))?;
            }
            _ => return Err(word.unknown("write=")),
        }
    }
    Ok(ApiDirective { write: write.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;

    #[test]
    fn clusters() {
        let named = |name: Option<&str>, tries| ClusterDirective {
            name: name.map(str::to_owned),
            limits: Limits { tries, tries_timeout: None },
            ..Default::default()
        };
        assert_eq!(cluster(&words("")), Ok(named(None, None)));
        assert_eq!(cluster(&words("api tries=2")), Ok(named(Some("api"), Some(2))));
        assert_eq!(cluster(&words("tries=2")), Ok(named(None, Some(2))));
        let line = "tries_timeout=1500ms protected=on connect_timeout=1s send_timeout=2s \
                    read_timeout=3s";
        let by_variable = cluster(&words("svc-$arg_name")).unwrap();
        assert_eq!(by_variable.named_by.as_deref(), Some("svc-$arg_name"));
        let all = cluster(&words(line)).unwrap();
        assert_eq!(all.limits.tries_timeout, Some(Time::milliseconds(1500)));
        assert_eq!(all.protected, Protected::One);
        let [connect, send, read] = [1, 2, 3].map(|n| Some(Time::seconds(n)));
        assert_eq!(all.timeouts, Timeouts { connect, send, read });
        for (line, error) in [
            ("a b", "duplicate parameter \"b\""),
            ("tries=1 tries=2", "duplicate parameter \"tries=2\""),
            ("tries=0", "invalid value in \"tries=0\", it must be a number from 1 to 1000000"),
            (
                "x=1",
                "unknown parameter \"x=1\", allowed are one NAME, tries=, tries_timeout=, \
                 protected=, connect_timeout=, send_timeout= and read_timeout=",
            ),
            ("protected=", "invalid value in \"protected=\", it must be all, one or off"),
            (
                "read_timeout=0",
                "invalid value in \"read_timeout=0\", it must be a time from 1ms to 604800s, for \
                 example 5s or 500ms",
            ),
            (
                "$a tries=1",
                "\"$a\" stands alone: what else there is to say is said of the clusters that it names",
            ),
            (
                "a/b",
                "invalid cluster name \"a/b\", it must be 1 to 128 letters, digits and the \
                 characters . _ : -",
            ),
        ] {
            assert_eq!(cluster(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
        assert!(cluster(&[b"caf\xe9"]).is_err());
    }

    #[test]
    fn levels() {
        let parsed = level(&words("dc1 tries=2 tries_timeout=1s")).unwrap();
        let limits = Limits { tries: Some(2), tries_timeout: Some(Time::seconds(1)) };
        assert_eq!(parsed, LevelDirective { name: "dc1".to_owned(), limits });
        for (line, error) in [
            ("", "the NAME of the level is missing"),
            (
                "2",
                "invalid level name \"2\", it must be 1 to 128 letters, digits and the characters . \
                 _ : -, and not a number: a number stands for the place of a level",
            ),
            ("a b", "unknown parameter \"b\", allowed are tries= and tries_timeout="),
        ] {
            assert_eq!(level(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn levels_from() {
        let parsed = level_from(&words("dc1 other only=backup tries=2")).unwrap();
        assert_eq!(parsed.only, Some(Only::Backup));
        assert_eq!((parsed.upstream.as_str(), parsed.level.limits.tries), ("other", Some(2)));
        for (line, error) in [
            ("dc1", "the name of the other UPSTREAM is missing"),
            ("dc1 x only=y", "invalid value in \"only=y\", it must be primary or backup"),
            ("a b c", "unknown parameter \"c\", allowed are only=, tries= and tries_timeout="),
        ] {
            assert_eq!(level_from(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn balances() {
        for line in [
            "round_robin",
            "hash $request_uri",
            "url_hash",
            "ip_hash",
            "header_hash",
            "least_conn",
            "random two",
        ] {
            assert_eq!(balance(&words(line)).unwrap().to_string(), line);
        }
        assert_eq!(
            balance(&words("hash")).unwrap_err().to_string(),
            "the KEY of the hash is missing"
        );
        assert_eq!(balance(&[b"hash", b"\xff"]).unwrap_err().to_string(), "it must be UTF-8");
        for line in ["", "hash $a consistent", "random", "random two least_conn", "least_time"] {
            let error = format!(
                "unknown method \"{line}\", allowed are round_robin, hash KEY, url_hash, ip_hash, \
                 header_hash, least_conn and random two"
            );
            assert_eq!(balance(&words(line)).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn statuses() {
        let statuses = fail_status(&words("500 502-504")).unwrap();
        assert_eq!(serde_json::to_string(&statuses).unwrap(), r#"["500","502-504"]"#);
        let found: Vec<u16> = (100..600).filter(|&status| statuses.contains(status)).collect();
        assert_eq!(found, [500, 502, 503, 504]);
        for word in ["50", "600", "99", "504-502", "5xx", "", "+500", "500-", "!404"] {
            let error = format!(
                "invalid value in \"{word}\", it must be a status from 100 to 599, or two with - \
                 between them"
            );
            assert_eq!(fail_status(&[word.as_bytes()]).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn servers() {
        let parsed = server(&words("10.0.0.1:80 drain slow_start=30s")).unwrap();
        let address = "10.0.0.1:80".to_owned();
        let slow_start = Some(Time::seconds(30));
        let check = ServerCheck::default();
        assert_eq!(parsed, ServerDirective { address, slow_start, drain: true, check });
        let parsed = server(&words("a check=off check_port=81 check_host=b.c")).unwrap();
        let check = ServerCheck { is_on: false, port: Some(81), host: Some("b.c".to_owned()) };
        assert_eq!(parsed.check, check);
        assert!(!parsed.needs_cluster());
        for (line, error) in [
            ("", "the ADDRESS of the server is missing"),
            ("a drain drain", "duplicate parameter \"drain\""),
            ("a b", "unknown parameter \"b\", allowed are slow_start=, drain, check=, check_port= and check_host="),
            ("a weight=2", "unknown parameter \"weight=2\", allowed are slow_start=, drain, check=, check_port= and check_host="),
        ] {
            assert_eq!(server(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn apis() {
        assert_eq!(api(&words("")), Ok(ApiDirective { write: false }));
        assert_eq!(api(&words("write=on")), Ok(ApiDirective { write: true }));
        for (line, error) in [
            ("write=yes", "invalid value in \"write=yes\", it must be on or off"),
            ("on", "unknown parameter \"on\", allowed are write="),
            ("write=on write=on", "duplicate parameter \"write=on\""),
        ] {
            assert_eq!(api(&words(line)).unwrap_err().to_string(), error, "{line}");
        }
    }
}
