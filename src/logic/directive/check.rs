//! `checkups_check`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use super::cluster::PROTECTED;
use super::{DirectiveError, Result, Word, MIN_INTERVAL};
use crate::logic::matching::{Expect, Match, Text};
use crate::logic::password::Password;
use crate::logic::settings::{
    is_cluster_name, without_port, Check, GrpcProbe, Header, HttpProbe, Mandatory, MysqlProbe,
    PostgresProbe, Probe, Protected, RedisProbe, Source, Ssl, TcpProbe, Time, Tls,
};

/// A type of check: its name, and the parameters that it has besides those of all types.
struct Kind {
    name: &'static str,
    parameters: &'static [&'static str],
}

const COMMON: &[&str] = &[
    "interval",
    "jitter",
    "timeout",
    "down_interval",
    "fails",
    "passes",
    "mandatory",
    "persistent",
    "port",
    "bind",
    "proxy_protocol",
    "protected",
    "ssl",
    "ssl_verify",
    "ssl_trusted_certificate",
    "ssl_name",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_protocols",
];
const HTTP: &[&str] = &["uri", "method", "host", "header", "body", "keepalive_time", "match"];
const DATABASE: &[&str] = &["user", "password", "password_file", "database"];

const KINDS: [Kind; 7] = [
    Kind { name: "tcp", parameters: &["send", "expect", "match"] },
    Kind { name: "http", parameters: HTTP },
    Kind { name: "https", parameters: HTTP },
    Kind { name: "grpc", parameters: &["service", "host"] },
    Kind { name: "redis", parameters: &["user", "password", "password_file"] },
    Kind { name: "mysql", parameters: DATABASE },
    Kind { name: "postgres", parameters: DATABASE },
];

/// The parameters that are words without a value.
const FLAGS: [&str; 2] = ["mandatory", "persistent"];

const ON_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];

/// A `checkups_check`. What is not in the words of the directive is filled in by [`complete`].
///
/// [`complete`]: Self::complete
#[derive(Clone, Debug, PartialEq)]
pub struct CheckDirective {
    check: Check,
    /// Whose only line is the password.
    pub password_file: Option<String>,
    /// The `checkups_match` block of this name says what the answer has to be like.
    pub matching: Option<String>,
}

impl CheckDirective {
    /// What is used where all servers fail, where the directive says it.
    pub fn protected(&self) -> Option<Protected> {
        self.check.protected
    }

    /// TLS, where the check may use it. The name is not filled in yet.
    pub fn tls(&self) -> Option<&Tls> {
        self.check.tls.as_ref()
    }

    /// The check of an upstream of this name. `password` is what stands in the
    /// [`password_file`](Self::password_file), `block` what [`matching`](Self::matching) names.
    ///
    /// # Errors
    /// Where the block is for checks of another type.
    pub fn complete(
        &self,
        upstream: &str,
        password: Option<&Password>,
        block: Option<&Rc<Match>>,
    ) -> Result<Check> {
        let mut check = self.check.clone();
        if let Some(block) = block {
            let (place, fits) = match &mut check.probe {
                Probe::Http(probe) => (&mut probe.matching, block.is_for_http()),
                Probe::Tcp(probe) => (&mut probe.matching, block.is_for_tcp()),
                _ => return Ok(check),
            };
            if !fits {
                return Err(DirectiveError::Match { name: block.name().to_owned() });
            }
            *place = Some(Rc::clone(block));
        }
        let given = match &mut check.probe {
            Probe::Http(HttpProbe { host, .. }) | Probe::Grpc(GrpcProbe { host, .. }) => {
                if host.is_empty() {
                    upstream.clone_into(host);
                }
                host.clone()
            }
            _ => upstream.to_owned(),
        };
        if let Some(tls) = check.tls.as_mut().filter(|tls| tls.name.is_empty()) {
            without_port(&given).clone_into(&mut tls.name);
        }
        if let Some(password) = password {
            let place = match &mut check.probe {
                Probe::Redis(probe) => &mut probe.password,
                Probe::Mysql(probe) => &mut probe.password,
                Probe::Postgres(probe) => &mut probe.password,
                Probe::Tcp(_) | Probe::Http(_) | Probe::Grpc(_) => return Ok(check),
            };
            *place = Some(password.clone());
        }
        Ok(check)
    }
}

/// The words of one directive, parsed.
#[derive(Default)]
struct Given {
    interval: Option<Time>,
    jitter: Option<Time>,
    timeout: Option<Time>,
    down_interval: Option<Time>,
    fails: Option<u32>,
    passes: Option<u32>,
    mandatory: Option<()>,
    persistent: Option<()>,
    port: Option<u16>,
    bind: Option<IpAddr>,
    proxy_protocol: Option<bool>,
    protected: Option<Protected>,
    ssl: Option<bool>,
    ssl_verify: Option<bool>,
    ssl_trusted_certificate: Option<String>,
    ssl_name: Option<String>,
    ssl_certificate: Option<String>,
    ssl_certificate_key: Option<String>,
    ssl_protocols: Option<Vec<String>>,
    uri: Option<String>,
    method: Option<String>,
    host: Option<String>,
    headers: Vec<Header>,
    body: Option<String>,
    keepalive_time: Option<Time>,
    matching: Option<String>,
    send: Option<Text>,
    expect: Option<Expect>,
    service: Option<String>,
    user: Option<String>,
    password: Option<Password>,
    password_file: Option<String>,
    database: Option<String>,
}

/// Parses the words after `checkups_check`: `TYPE [parameter=value ...]`, or `off`: then `None`.
///
/// # Errors
/// On an unknown type, on unknown or repeated parameters, on values out of range, and on parameters
/// that do not go together.
pub fn check(words: &[&[u8]]) -> Result<Option<CheckDirective>> {
    let words = quoted_values(words)?;
    let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
    exact_check(&words)
}

/// The same for words that are as they are meant: quotes are part of them.
///
/// # Errors
/// As [`check`].
pub fn exact_check(words: &[&[u8]]) -> Result<Option<CheckDirective>> {
    let Some((kind, words)) = words.split_first() else {
        return Err(DirectiveError::CheckType { word: None });
    };
    if *kind == b"off" {
        return match words.first() {
            None => Ok(None),
            Some(word) => {
                Err(DirectiveError::AfterOff { word: Word::new(word).shown().into_owned() })
            }
        };
    }
    let kind = KINDS.iter().find(|known| known.name.as_bytes() == *kind).ok_or_else(|| {
        DirectiveError::CheckType { word: Some(Word::new(kind).shown().into_owned()) }
    })?;

    let mut given = Given::default();
    for word in words.iter().map(|word| Word::new(word)) {
        let name = match word.parameter() {
            Some((name, _)) if !FLAGS.contains(&name) => Some(name),
            None => FLAGS.into_iter().find(|flag| *flag == word.text),
            _ => None,
        };
        match name {
            Some(name) if kind.has(name) => given.take(name, &word)?,
            Some(name) if KINDS.iter().any(|kind| kind.has(name)) => {
                return Err(DirectiveError::NotForType {
                    word: word.shown().into_owned(),
                    kind: kind.name,
                    allowed: kind.allowed(),
                });
            }
            _ => return Err(word.unknown(kind.allowed())),
        }
    }
    given.directive(kind).map(Some)
}

/// Parses the words after `checkups_check_define`: `NAME TYPE [parameter=value ...]`.
///
/// # Errors
/// As [`check`], and where the name is missing or not allowed.
pub fn check_define(words: &[&[u8]]) -> Result<(String, CheckDirective)> {
    let missing = DirectiveError::Missing { what: "the NAME of the check" };
    let (name, words) = words.split_first().ok_or(missing)?;
    let name = Word::new(name).text.into_owned();
    if !is_cluster_name(&name) {
        return Err(DirectiveError::CheckName { name });
    }
    match check(words)? {
        Some(directive) if directive.protected().is_some() => Err(DirectiveError::Unknown {
            word: "protected=".to_owned(),
            allowed: "those of a cluster's checks".to_owned(),
        }),
        Some(directive) => Ok((name, directive)),
        None => Err(DirectiveError::DefinedOff),
    }
}

/// Takes the quotes from values that stand in quotes: `header="X: a b"`. nginx knows quotes only around
/// a whole word (`"header=X: a b"`), and ends this one at each blank; so what belongs together is put
/// together again, with one blank between.
fn quoted_values<'a>(words: &[&'a [u8]]) -> Result<Vec<Cow<'a, [u8]>>> {
    let mut found = Vec::with_capacity(words.len());
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let begins = word.windows(2).position(|pair| pair == b"=\"" || pair == b"='");
        let equals = word.iter().position(|byte| *byte == b'=');
        let Some(equals) = equals.filter(|_| begins == equals) else {
            found.push(Cow::Borrowed(word));
            continue;
        };
        let (name, quoted) = word.split_at(equals + 1);
        let (quote, mut value) = (quoted[0], quoted[1..].to_vec());
        while value.last() != Some(&quote) {
            let next = words.next().ok_or_else(|| DirectiveError::Unquoted {
                word: Word::new(word).shown().into_owned(),
            })?;
            value.push(b' ');
            value.extend_from_slice(next);
        }
        value.pop();
        found.push(Cow::Owned([name, &value].concat()));
    }
    Ok(found)
}

impl Kind {
    fn has(&self, name: &str) -> bool {
        COMMON.contains(&name) || self.parameters.contains(&name)
    }

    /// The parameters, for a message.
    fn allowed(&self) -> String {
        let names = self.parameters.iter().chain(COMMON).map(|name| {
            let sign = if FLAGS.contains(name) { "" } else { "=" };
            format!("{name}{sign}")
        });
        let mut names: Vec<_> = names.collect();
        let last = names.pop().unwrap_or_default();
        format!("{} and {last}", names.join(", "))
    }
}

impl Given {
    fn take(&mut self, name: &str, word: &Word<'_>) -> Result<()> {
        match name {
            "interval" => word.once(&mut self.interval, |w| w.time(MIN_INTERVAL)),
            "jitter" => word.once(&mut self.jitter, |w| w.time(Time::seconds(0))),
            "timeout" => word.once(&mut self.timeout, |w| w.time(Time::milliseconds(1))),
            "down_interval" => word.once(&mut self.down_interval, |w| w.time(MIN_INTERVAL)),
            "fails" => word.once(&mut self.fails, |w| w.number(1, 1_000_000)),
            "passes" => word.once(&mut self.passes, |w| w.number(1, 1_000_000)),
            "mandatory" => word.once(&mut self.mandatory, |_| Ok(())),
            "persistent" => word.once(&mut self.persistent, |_| Ok(())),
            "port" => word.once(&mut self.port, Word::port),
            "bind" => word.once(&mut self.bind, |w| {
                w.value().parse().map_err(|_| w.invalid("an IP address without a port"))
            }),
            "proxy_protocol" => word.once(&mut self.proxy_protocol, on_or_off),
            "protected" => {
                word.once(&mut self.protected, |w| w.one_of(&PROTECTED, "all, one or off"))
            }
            "ssl" => word.once(&mut self.ssl, on_or_off),
            "ssl_verify" => word.once(&mut self.ssl_verify, on_or_off),
            "ssl_trusted_certificate" => word.once(&mut self.ssl_trusted_certificate, file),
            "ssl_name" => word.once(&mut self.ssl_name, Word::host),
            "ssl_certificate" => word.once(&mut self.ssl_certificate, file),
            "ssl_certificate_key" => word.once(&mut self.ssl_certificate_key, file),
            "ssl_protocols" => word.once(&mut self.ssl_protocols, protocols),
            "uri" => word.once(&mut self.uri, Word::uri),
            "method" => word.once(&mut self.method, Word::method),
            "host" => word.once(&mut self.host, Word::host),
            "header" => {
                let header = Header::new(word.value()).ok_or_else(|| {
                    word.invalid(
                        "\"Name: value\", and not Connection, Content-Length or Transfer-Encoding",
                    )
                })?;
                if header.is("Host") && self.headers.iter().any(|other| other.is("Host")) {
                    return Err(DirectiveError::Duplicate { word: word.shown().into_owned() });
                }
                self.headers.push(header);
                Ok(())
            }
            "body" => word.once(&mut self.body, |w| Ok(w.value().to_owned())),
            "keepalive_time" => {
                word.once(&mut self.keepalive_time, |w| w.time(Time::milliseconds(1)))
            }
            "match" => word.once(&mut self.matching, |w| match w.value() {
                "" => Err(w.invalid("the name of a checkups_match block")),
                name => Ok(name.to_owned()),
            }),
            "send" => word.once(&mut self.send, text),
            "expect" => word.once(&mut self.expect, |w| {
                Expect::text(&text(w)?).map_err(|_| w.invalid("a shorter text"))
            }),
            "service" => word.once(&mut self.service, |w| {
                let service = w.value();
                let fits = service.len() <= 255 && !service.contains(char::is_control);
                fits.then(|| service.to_owned())
                    .ok_or_else(|| w.invalid("the name of a service, at most 255 bytes"))
            }),
            "user" => word.once(&mut self.user, name_of_user),
            "database" => word.once(&mut self.database, name_of_user),
            "password" => word.once(&mut self.password, |w| {
                Password::new(w.value().as_bytes()).map_err(DirectiveError::Password)
            }),
            "password_file" => word.once(&mut self.password_file, file),
            // Not reached: `Kind::has` knows no other name.
            _ => Err(word.unknown("none")),
        }
    }

    fn directive(self, kind: &Kind) -> Result<CheckDirective> {
        let tls = self.tls(kind)?;
        let Self { user, password, .. } = self;
        if password.is_some() && self.password_file.is_some() {
            return Err(DirectiveError::Together { one: "password=", other: "password_file=" });
        }
        if self.matching.is_some() && (self.send.is_some() || self.expect.is_some()) {
            let other = if self.send.is_some() { "send=" } else { "expect=" };
            return Err(DirectiveError::Together { one: "match=", other });
        }
        let has_password = password.is_some() || self.password_file.is_some();
        if has_password && user.is_none() && kind.name != "redis" {
            return Err(DirectiveError::Without { one: "password", other: "user=" });
        }
        if self.database.is_some() && user.is_none() {
            return Err(DirectiveError::Without { one: "database=", other: "user=" });
        }
        let mandatory = match (self.mandatory, self.persistent) {
            (None, None) => Mandatory::Off,
            (Some(()), None) => Mandatory::On,
            (Some(()), Some(())) => Mandatory::Persistent,
            (None, Some(())) => {
                return Err(DirectiveError::Without { one: "persistent", other: "mandatory" })
            }
        };
        let probe = match kind.name {
            "tcp" => Probe::Tcp(TcpProbe { send: self.send, expect: self.expect, matching: None }),
            "grpc" => Probe::Grpc(GrpcProbe {
                service: self.service.unwrap_or_default(),
                host: self.host.unwrap_or_default(),
            }),
            "redis" => Probe::Redis(RedisProbe { user, password }),
            "mysql" => Probe::Mysql(MysqlProbe { user, password, database: self.database }),
            "postgres" => {
                Probe::Postgres(PostgresProbe { user, password, database: self.database })
            }
            _ => Probe::Http(HttpProbe {
                method: self.method.unwrap_or_else(|| "GET".to_owned()),
                uri: self.uri.unwrap_or_else(|| "/".to_owned()),
                host: self.host.unwrap_or_default(),
                headers: self.headers,
                body: self.body,
                keepalive_time: self.keepalive_time,
                matching: None,
            }),
        };
        let check = Check {
            source: Source::Configured(0),
            probe,
            interval: self.interval.unwrap_or(Time::seconds(5)),
            down_interval: self.down_interval,
            jitter: self.jitter.unwrap_or(Time::seconds(0)),
            timeout: self.timeout.unwrap_or(Time::seconds(2)),
            fails: self.fails.unwrap_or(1),
            passes: self.passes.unwrap_or(1),
            mandatory,
            port: self.port,
            bind: self.bind,
            proxy_protocol: self.proxy_protocol.unwrap_or_default(),
            tls,
            protected: self.protected,
        };
        Ok(CheckDirective { check, password_file: self.password_file, matching: self.matching })
    }

    fn tls(&self, kind: &Kind) -> Result<Option<Tls>> {
        let may_be_auto = matches!(kind.name, "mysql" | "postgres");
        let ssl = match (self.ssl, kind.name) {
            (Some(false), "https") => {
                return Err(DirectiveError::Together { one: "https", other: "ssl=off" })
            }
            (Some(true), _) | (None, "https") => Ssl::On,
            (None, _) if may_be_auto => Ssl::Auto,
            (Some(false) | None, _) => Ssl::Off,
        };
        if ssl == Ssl::Off {
            let given = [
                ("ssl_verify=", self.ssl_verify.is_some()),
                ("ssl_trusted_certificate=", self.ssl_trusted_certificate.is_some()),
                ("ssl_name=", self.ssl_name.is_some()),
                ("ssl_certificate=", self.ssl_certificate.is_some()),
                ("ssl_certificate_key=", self.ssl_certificate_key.is_some()),
                ("ssl_protocols=", self.ssl_protocols.is_some()),
            ];
            let first = given.into_iter().find(|(_, given)| *given);
            return match first {
                Some((one, _)) => Err(DirectiveError::Without { one, other: "ssl=on" }),
                None => Ok(None),
            };
        }
        // TLS that the operator has not asked for is better unverified than not there.
        let trusts = self.ssl_trusted_certificate.is_some();
        let verify = self.ssl_verify.unwrap_or(ssl == Ssl::On || trusts);
        if verify && !trusts {
            return Err(DirectiveError::NothingTrusted);
        }
        match (&self.ssl_certificate, &self.ssl_certificate_key) {
            (Some(_), None) => {
                let (one, other) = ("ssl_certificate=", "ssl_certificate_key=");
                return Err(DirectiveError::Without { one, other });
            }
            (None, Some(_)) => {
                let (one, other) = ("ssl_certificate_key=", "ssl_certificate=");
                return Err(DirectiveError::Without { one, other });
            }
            _ => {}
        }
        Ok(Some(Tls {
            ssl,
            verify,
            name: self.ssl_name.clone().unwrap_or_default(),
            trusted_certificate: self.ssl_trusted_certificate.clone(),
            certificate: self.ssl_certificate.clone(),
            certificate_key: self.ssl_certificate_key.clone(),
            protocols: self.ssl_protocols.clone().unwrap_or_default(),
        }))
    }
}

fn on_or_off(word: &Word<'_>) -> Result<bool> {
    word.one_of(&ON_OFF, "on or off")
}

fn text(word: &Word<'_>) -> Result<Text> {
    Text::new(word.value().as_bytes())
        .ok_or_else(|| word.invalid("a text, in which \\xHH is a byte and \\\\ a backslash"))
}

fn file(word: &Word<'_>) -> Result<String> {
    match word.value() {
        "" => Err(word.invalid("the name of a file")),
        name => Ok(name.to_owned()),
    }
}

fn name_of_user(word: &Word<'_>) -> Result<String> {
    let name = word.value();
    if (1..=255).contains(&name.len()) && !name.contains(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(word.invalid("a name of 1 to 255 bytes"))
    }
}

fn protocols(word: &Word<'_>) -> Result<Vec<String>> {
    const ALLOWED: [&str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let names: Vec<_> = word.value().split_ascii_whitespace().collect();
    if names.is_empty() || names.iter().any(|name| !ALLOWED.contains(name)) {
        return Err(
            word.invalid("some of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3, with blanks between")
        );
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;
    use crate::logic::settings::ServerCheck;

    fn parsed(line: &str) -> Check {
        check(&words(line)).unwrap().unwrap().complete("up", None, None).unwrap()
    }

    fn json(line: &str) -> String {
        serde_json::to_string(&parsed(line)).unwrap()
    }

    fn check_error(words: &[&[u8]]) -> String {
        check(words).unwrap_err().to_string()
    }

    #[test]
    fn check_defaults() {
        assert_eq!(
            json("tcp"),
            r#"{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        assert_eq!(
            json("http"),
            r#"{"type":"http","method":"GET","uri":"/","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        assert_eq!(check(&words("off")), Ok(None));
    }

    #[test]
    fn check_parameters() {
        let line = "http interval=1m timeout=100ms jitter=1s fails=3 passes=2 port=81 \
                    uri=/health?x=1 method=HEAD host=a.b down_interval=10s mandatory persistent \
                    bind=::1 proxy_protocol=on protected=off";
        assert_eq!(
            json(line),
            r#"{"type":"http","method":"HEAD","uri":"/health?x=1","host":"a.b","interval":"60s","down_interval":"10s","jitter":"1s","timeout":"100ms","fails":3,"passes":2,"mandatory":"persistent","port":81,"bind":"::1","proxy_protocol":true,"protected":"off"}"#
        );
        assert_eq!(
            json("grpc service=a.B"),
            r#"{"type":"grpc","service":"a.B","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
    }

    #[test]
    fn quotes_around_values() {
        for (line, uri) in [
            ("http uri=\"/a\"", "/a"),
            ("http uri='/a'", "/a"),
            ("http uri=/a=\"b\"", "/a=\"b\""),
            ("http uri=/\"", "/\""),
        ] {
            let Probe::Http(probe) = parsed(line).probe else { panic!() };
            assert_eq!(probe.uri, uri, "{line}");
        }
        let line = "http header=\"X: a b\" body='' header='Y: \"'";
        let Probe::Http(probe) = parsed(line).probe else { panic!() };
        let headers: Vec<_> = probe.headers.iter().map(ToString::to_string).collect();
        assert_eq!(headers, ["X: a b", "Y: \""]);
        assert_eq!(probe.body.as_deref(), Some(""));
        assert_eq!(
            check_error(&words("http header=\"X: a b")),
            "no end of the quotes in \"header=\"X:\"; put them around the whole parameter"
        );
        assert!(!check_error(&words("redis password=\"sec ret")).contains("sec"));
    }

    #[test]
    fn tls() {
        let tls = |line: &str| parsed(line).tls;
        assert_eq!(tls("http"), None);
        assert_eq!(tls("mysql ssl=off"), None);
        let https = tls("https host=a.b:8443 ssl_trusted_certificate=ca.pem").unwrap();
        assert_eq!((https.ssl, https.verify, https.name.as_str()), (Ssl::On, true, "a.b"));
        assert_eq!(tls("http ssl=on host=a.b:8443 ssl_trusted_certificate=ca.pem"), Some(https));
        let auto = tls("mysql").unwrap();
        assert_eq!((auto.ssl, auto.verify, auto.name.as_str()), (Ssl::Auto, false, "up"));
        assert!(tls("postgres ssl_trusted_certificate=ca.pem").unwrap().verify);
        assert!(!tls("redis ssl=on ssl_verify=off").unwrap().verify);
        let words: [&[u8]; 3] = [b"https", b"ssl_verify=off", b"ssl_protocols=TLSv1.2 TLSv1.3"];
        let both = check(&words).unwrap().unwrap().complete("up", None, None).unwrap().tls.unwrap();
        assert_eq!(both.protocols, ["TLSv1.2", "TLSv1.3"]);
    }

    #[test]
    fn checks_of_one_server() {
        let line = "https ssl_verify=off host=a:1 port=80";
        let of = |line: &str, port, host: Option<&str>| {
            let host = host.map(str::to_owned);
            let check = parsed(line).of_server(&ServerCheck { is_on: true, port, host });
            let Probe::Http(probe) = check.probe else { panic!() };
            (check.port, probe.host, check.tls.unwrap().name)
        };
        let words = |port, host: &str, name: &str| (Some(port), host.to_owned(), name.to_owned());
        assert_eq!(of(line, None, None), words(80, "a:1", "a"));
        assert_eq!(of(line, Some(81), Some("b:2")), words(81, "b:2", "b"));
        let named = format!("{line} ssl_name=c");
        assert_eq!(of(&named, None, Some("b")), words(80, "b", "c"));
    }

    #[test]
    fn passwords() {
        let with = check(&words("redis password=secret")).unwrap().unwrap();
        assert!(!format!("{with:?}").contains("secret"));
        let shown = serde_json::to_string(&with.complete("up", None, None).unwrap()).unwrap();
        assert!(!shown.contains("secret") && !shown.contains("password"));
        let file = check(&words("mysql user=u password_file=p")).unwrap().unwrap();
        assert_eq!(file.password_file.as_deref(), Some("p"));
        let password = Password::new(b"secret").unwrap();
        let Probe::Mysql(probe) = file.complete("up", Some(&password), None).unwrap().probe else {
            panic!()
        };
        assert_eq!(probe.password, Some(password));
        for line in [
            "redis password=secret password=secret",
            "tcp password=secret",
            "password=secret redis",
            "redis passwd=secret",
            "redis PASSWORD=secret",
        ] {
            assert!(!check_error(&words(line)).contains("secret"));
        }
    }

    #[test]
    fn check_errors_name_the_word_and_what_is_allowed() {
        const COMMON: &str = "interval=, jitter=, timeout=, down_interval=, fails=, passes=, \
                              mandatory, persistent, port=, bind=, proxy_protocol=, protected=, \
                              ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, \
                              ssl_certificate=, ssl_certificate_key=";
        const TYPES: &str = "allowed are tcp, http, https, grpc, redis, mysql, postgres and off";
        for (line, error) in [
            ("", format!("missing type of check, {TYPES}")),
            ("icmp", format!("unknown type \"icmp\" of check, {TYPES}")),
            (
                "tcp intervall=1s",
                format!(
                    "unknown parameter \"intervall=1s\", allowed are send=, expect=, match=, {COMMON} and ssl_protocols="
                ),
            ),
            (
                "tcp uri=/",
                format!(
                    "parameter \"uri=/\" is not for a check of type \"tcp\", allowed are send=, \
                     expect=, match=, {COMMON} and ssl_protocols="
                ),
            ),
        ] {
            assert_eq!(check_error(&words(line)), error, "{line}");
        }
        for (line, error) in [
            ("off interval=1s", "unexpected parameter \"interval=1s\" after \"off\""),
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
            ("tcp bind=a:80", "invalid value in \"bind=a:80\", it must be an IP address without a port"),
            ("tcp persistent", "\"persistent\" needs \"mandatory\""),
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
            ("http ssl_name=a", "\"ssl_name=\" needs \"ssl=on\""),
            ("https ssl=off", "\"https\" and \"ssl=off\" do not go together"),
            (
                "https",
                "\"ssl_trusted_certificate=\" is missing: the certificate of the server cannot be \
                 verified without; \"ssl_verify=off\" does without",
            ),
            (
                "https ssl_verify=off ssl_certificate=a",
                "\"ssl_certificate=\" needs \"ssl_certificate_key=\"",
            ),
            (
                "https ssl_verify=off ssl_protocols=SSLv3",
                "invalid value in \"ssl_protocols=SSLv3\", it must be some of TLSv1, TLSv1.1, \
                 TLSv1.2 and TLSv1.3, with blanks between",
            ),
            ("mysql password=x", "\"password\" needs \"user=\""),
            ("redis password=x password_file=y", "\"password=\" and \"password_file=\" do not go together"),
            ("redis password=", "the password is empty"),
        ] {
            assert_eq!(check_error(&words(line)), error, "{line}");
        }
        assert!(check(&[b"http", b"uri=/\xff"]).is_err());
        assert!(check(&[b"http", b"uri=/a b"]).is_err());
        assert!(check(&[b"http", b"host=a\r\nb"]).is_err());
    }
}
