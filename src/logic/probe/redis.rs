//! Redis checks, for all that speaks its protocol: AUTH, where a user or a password is given, PING,
//! and two sections of INFO. PING decides; of INFO only a replica without its master does.
//!
//! Replies may come in RESP2 or RESP3, whichever the server speaks by itself: the check does not
//! ask (`HELLO 3` is an error for servers before Redis 6).

use std::mem;

use serde::Serialize;

use super::resp::{self, Reply};
use super::text::{clean, failure};
use super::{Step, Verdict, CLOSED};
use crate::logic::password::Password;
use crate::logic::settings;

/// The most replies: four are asked for, others may come in between.
const MAX_REPLIES: u32 = 64;

/// The longest value of a field of INFO that is kept: that of a host name.
const MAX_VALUE: usize = 255;

/// The longest error of INFO that is kept.
const MAX_ERROR: usize = 63;

const INVALID: &str = "invalid Redis reply";

/// What the server says of itself: `replication` and `redis_version` of its entry in the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedisDetails {
    /// Of `INFO replication`.
    pub replication: Replication,
    /// Of `INFO server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_version: Option<String>,
}

/// The fields of `INFO replication`, in the words of the server, as far as it has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replication {
    /// `master` or `slave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The master of a replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_host: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_port: Option<String>,
    /// `up` or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_link_status: Option<String>,
    /// Where it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_link_down_since_seconds: Option<String>,
    /// The time since the master was heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_last_io_seconds_ago: Option<String>,
    /// Why there is nothing to say, or not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
}

/// One check of a Redis server.
#[derive(Debug)]
pub struct RedisProbe {
    user: Option<String>,
    password: Option<Password>,
    awaited: Awaited,
    received: Vec<u8>,
    replies: u32,
    details: Option<RedisDetails>,
}

/// The command whose reply is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Auth,
    Ping,
    Replication,
    Server,
}

impl RedisProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::RedisProbe) -> Self {
        Self {
            user: settings.user.clone(),
            password: settings.password.clone(),
            awaited: Awaited::Ping,
            received: Vec::new(),
            replies: 0,
            details: None,
        }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        let mut request = Vec::new();
        let password = self.password.as_ref().map(Password::expose);
        match (&self.user, password) {
            (None, None) => {}
            (None, Some(password)) => command(&mut request, &["AUTH", password]),
            // A user may be one whom any password fits.
            (Some(user), password) => {
                command(&mut request, &["AUTH", user, password.unwrap_or_default()]);
            }
        }
        self.awaited = if request.is_empty() { Awaited::Ping } else { Awaited::Auth };
        command(&mut request, &["PING"]);
        Step::Send(request)
    }

    /// Takes bytes of the server; none: it closed the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return self.give_up(CLOSED);
        }
        self.received.extend_from_slice(bytes);
        let received = mem::take(&mut self.received);
        let mut used = 0;
        let step = loop {
            match resp::reply(&received[used..]) {
                Ok(Some((reply, length))) => {
                    used += length;
                    self.replies += 1;
                    if self.replies > MAX_REPLIES {
                        break self.give_up("too many Redis replies");
                    }
                    if let Some(step) = self.take(reply) {
                        break step;
                    }
                }
                Ok(None) => break Step::Receive,
                Err(resp::Error::Invalid) => break self.give_up(INVALID),
                Err(resp::Error::TooLarge) => break self.give_up("Redis reply too large"),
            }
        };
        self.received = received;
        self.received.drain(..used);
        step
    }

    /// What the server says of itself, once the check has passed, or found it unstable.
    pub fn details(&self) -> Option<&RedisDetails> {
        self.details.as_ref()
    }

    fn take(&mut self, reply: Reply<'_>) -> Option<Step> {
        match (self.awaited, reply) {
            (_, Reply::Unasked) => None,
            (Awaited::Auth | Awaited::Ping, Reply::Error(words)) => {
                Some(Step::Done(failure("redis", words)))
            }
            (Awaited::Auth, Reply::Text(b"OK")) => {
                self.awaited = Awaited::Ping;
                None
            }
            (Awaited::Auth, _) => Some(Step::Done(Verdict::fail("unexpected reply to AUTH"))),
            (Awaited::Ping, Reply::Text(b"PONG")) => {
                // Not sent with PING: a proxy may close the connection at a command that it does
                // not know, and take the PONG with it.
                self.awaited = Awaited::Replication;
                self.details = Some(RedisDetails::default());
                let mut request = Vec::new();
                command(&mut request, &["INFO", "replication"]);
                command(&mut request, &["INFO", "server"]);
                Some(Step::Send(request))
            }
            (Awaited::Ping, _) => Some(Step::Done(Verdict::fail("unexpected reply to PING"))),
            (Awaited::Replication, reply) => {
                self.awaited = Awaited::Server;
                let replication = &mut self.details.get_or_insert_default().replication;
                match reply {
                    Reply::Text(text) => replication.read(text),
                    Reply::Error(words) => replication.fail(words),
                    _ => replication.fail(INVALID.as_bytes()),
                }
                None
            }
            (Awaited::Server, reply) => {
                let details = self.details.get_or_insert_default();
                match reply {
                    Reply::Text(text) => {
                        details.redis_version = fields(text)
                            .find(|(name, _)| *name == b"redis_version")
                            .map(|(_, value)| clean(value, MAX_VALUE));
                    }
                    Reply::Error(words) => details.replication.fail(words),
                    _ => details.replication.fail(INVALID.as_bytes()),
                }
                Some(self.finish())
            }
        }
    }

    /// What comes of a server that says nothing more that makes sense: once PING is answered, only
    /// the details are missing.
    fn give_up(&mut self, reason: &'static str) -> Step {
        match &mut self.details {
            None => Step::Done(Verdict::fail(reason)),
            Some(details) => {
                details.replication.fail(reason.as_bytes());
                self.finish()
            }
        }
    }

    fn finish(&self) -> Step {
        let cut_off = self.details.as_ref().is_some_and(|details| details.replication.is_cut_off());
        Step::Done(if cut_off {
            Verdict::Unstable("master link status: down".into())
        } else {
            Verdict::Pass
        })
    }
}

impl Replication {
    fn read(&mut self, info: &[u8]) {
        for (name, value) in fields(info) {
            let field = match name {
                b"role" => &mut self.role,
                b"master_host" => &mut self.master_host,
                b"master_port" => &mut self.master_port,
                b"master_link_status" => &mut self.master_link_status,
                b"master_link_down_since_seconds" => &mut self.master_link_down_since_seconds,
                b"master_last_io_seconds_ago" => &mut self.master_last_io_seconds_ago,
                _ => continue,
            };
            *field = Some(clean(value, MAX_VALUE));
        }
    }

    /// Keeps the first reason why something is missing.
    fn fail(&mut self, words: &[u8]) {
        self.err.get_or_insert_with(|| clean(words, MAX_ERROR));
    }

    /// Whether it is a replica that does not hear its master.
    fn is_cut_off(&self) -> bool {
        matches!(self.role.as_deref(), Some("slave" | "replica"))
            && self.master_link_status.as_deref() == Some("down")
    }
}

/// The lines `name:value` of a section of INFO.
fn fields(info: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    info.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

/// Appends a command, as an array of strings, so that nothing in a word can end it.
fn command(request: &mut Vec<u8>, words: &[&str]) {
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::play::{play, play_all, Played, Talk};
    use super::*;
    use proptest::prelude::*;

    /// Of Redis 7.0.15.
    const MASTER: &[u8] = b"$28\r\n# Replication\r\nrole:master\r\n\r\n";
    const SERVER: &[u8] = b"$42\r\n# Server\r\nredis_version:7.0.15\r\nos:Linux\r\n\r\n";

    impl Talk for RedisProbe {
        fn connected(&mut self) -> Step {
            self.connected()
        }

        fn secured(&mut self) -> Step {
            unreachable!("TLS is there from the start, or not at all")
        }

        fn feed(&mut self, bytes: &[u8]) -> Step {
            self.feed(bytes)
        }
    }

    fn probe_of(user: Option<&str>, password: Option<&str>) -> RedisProbe {
        RedisProbe::new(&settings::RedisProbe {
            user: user.map(str::to_owned),
            password: password.map(|password| Password::new(password.as_bytes()).unwrap()),
        })
    }

    fn probe() -> RedisProbe {
        probe_of(None, None)
    }

    fn failed(reason: &'static str) -> Step {
        Step::Done(Verdict::fail(reason))
    }

    fn bulk(text: &str) -> Vec<u8> {
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    fn end(turns: &[&[u8]]) -> Step {
        play_all(probe, turns).end
    }

    /// The details after PONG and these replies.
    fn details(replies: &[u8]) -> (Step, RedisDetails) {
        let mut probe = probe();
        let Played { end, .. } = play(&mut probe, &[b"+PONG\r\n", replies], |_| false);
        (end, probe.details().unwrap().clone())
    }

    #[test]
    fn without_authentication() {
        let played = play_all(probe, &[b"+PONG\r\n", &[MASTER, SERVER].concat()]);
        assert_eq!(
            played,
            Played {
                sent: vec![
                    Some(b"*1\r\n$4\r\nPING\r\n".to_vec()),
                    Some(
                        b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
                            .to_vec()
                    ),
                ],
                end: Step::Done(Verdict::Pass),
            }
        );
    }

    #[test]
    fn authentication() {
        let request = |user, password| match probe_of(user, password).connected() {
            Step::Send(request) => String::from_utf8(request).unwrap(),
            step => panic!("{step:?}"),
        };
        let ping = "*1\r\n$4\r\nPING\r\n";
        assert_eq!(
            request(None, Some("a b\r\nQUIT")),
            format!("*2\r\n$4\r\nAUTH\r\n$9\r\na b\r\nQUIT\r\n{ping}")
        );
        assert_eq!(
            request(Some("u"), Some("\u{e4}")),
            format!("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$2\r\n\u{e4}\r\n{ping}")
        );
        assert_eq!(
            request(Some("u"), None),
            format!("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$0\r\n\r\n{ping}")
        );

        let end = |replies: &[u8]| {
            play_all(|| probe_of(None, Some("x")), &[replies, &[MASTER, SERVER].concat()]).end
        };
        assert_eq!(end(b"+OK\r\n+PONG\r\n"), Step::Done(Verdict::Pass));
        assert_eq!(
            end(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH x\r\n"),
            failed("redis: WRONGPASS invalid username-password pair or user")
        );
        assert_eq!(
            end(b"-ERR AUTH <password> called without any password configured\r\n+PONG\r\n"),
            failed("redis: ERR AUTH <password> called without any password")
        );
        assert_eq!(end(b"+QUEUED\r\n"), failed("unexpected reply to AUTH"));
        assert_eq!(end(b":1\r\n"), failed("unexpected reply to AUTH"));
    }

    #[test]
    fn errors_of_ping() {
        for (reply, reason) in [
            (
                &b"-NOAUTH Authentication required.\r\n"[..],
                "redis: NOAUTH Authentication required.",
            ),
            (
                b"-LOADING Redis is loading the dataset in memory\r\n",
                "redis: LOADING Redis is loading the dataset in memory",
            ),
            (b"-ERR max number of clients reached\r\n", "redis: ERR max number of clients reached"),
            (b"!8\r\nERR\x1b\r\nno\r\n", "redis: ERRno"),
            (b"-\r\n", "redis: an error without words"),
            (b"+OK\r\n", "unexpected reply to PING"),
            (b"_\r\n", "unexpected reply to PING"),
            (b"*1\r\n+PONG\r\n", "unexpected reply to PING"),
        ] {
            assert_eq!(end(&[reply]), failed(reason));
        }
    }

    #[test]
    fn replicas() {
        let replica = "# Replication\r\nrole:slave\r\nmaster_host:10.9.9.9\r\nmaster_port:6379\r\n\
             master_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\n\
             master_link_down_since_seconds:17\r\nconnected_slaves:0\r\n";
        let (end, found) = details(&[&bulk(replica)[..], SERVER].concat());
        assert_eq!(end, Step::Done(Verdict::Unstable("master link status: down".into())));
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            concat!(
                r#"{"replication":{"role":"slave","master_host":"10.9.9.9","master_port":"6379","#,
                r#""master_link_status":"down","master_link_down_since_seconds":"17","#,
                r#""master_last_io_seconds_ago":"-1"},"redis_version":"7.0.15"}"#
            )
        );

        let up = replica.replace("down\r\n", "up\r\n");
        assert_eq!(details(&[&bulk(&up)[..], SERVER].concat()).0, Step::Done(Verdict::Pass));
        // Something else may have a link that is down.
        let other = replica.replace("slave", "sentinel");
        assert_eq!(details(&[&bulk(&other)[..], SERVER].concat()).0, Step::Done(Verdict::Pass));
        // What there is counts, even where the rest is missing.
        let (end, found) = details(&[&bulk(replica)[..], b"-ERR no\r\n"].concat());
        assert_eq!(end, Step::Done(Verdict::Unstable("master link status: down".into())));
        assert_eq!(found.replication.err.as_deref(), Some("ERR no"));
        assert_eq!(found.redis_version, None);
    }

    #[test]
    fn without_info_it_passes() {
        for (replies, err) in [
            (
                &b"-NOPERM this user has no permissions to run the 'info' command\r\n-NOPERM\r\n"[..],
                "NOPERM this user has no permissions to run the 'info' command",
            ),
            (b":1\r\n:1\r\n", INVALID),
            (b"$-1\r\n$-1\r\n", INVALID),
            (b"$65530\r\n", CLOSED),
            (b"nonsense", INVALID),
        ] {
            let mut probe = probe();
            let mut end = play(&mut probe, &[b"+PONG\r\n", replies], |_| false).end;
            if end == Step::Receive {
                end = probe.feed(b"");
            }
            assert_eq!(end, Step::Done(Verdict::Pass));
            assert_eq!(probe.details().unwrap().replication.err.as_deref(), Some(err));
        }
    }

    #[test]
    fn resp3() {
        let verbatim = |text: &str| format!("=15\r\ntxt:{text}\r\n").into_bytes();
        let push = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n";
        let info = [push, &verbatim("role:master")[..], push, SERVER].concat();
        let pong = [&push[..], b"+PONG\r\n"].concat();
        let mut probe = probe();
        assert_eq!(play(&mut probe, &[&pong, &info], |_| true).end, Step::Done(Verdict::Pass));
        let details = probe.details().unwrap();
        assert_eq!(details.replication.role.as_deref(), Some("master"));
        assert_eq!(details.redis_version.as_deref(), Some("7.0.15"));
        assert_eq!(end(&[&pong, &info]), Step::Done(Verdict::Pass));
        // With attributes, which say something of the reply.
        let attributes = b"|1\r\n+ttl\r\n:3600\r\n+PONG\r\n";
        assert!(matches!(probe_after(attributes), Step::Send(_)));
    }

    fn probe_after(bytes: &[u8]) -> Step {
        let mut probe = probe();
        probe.connected();
        probe.feed(bytes)
    }

    #[test]
    fn closed() {
        assert_eq!(probe_after(b""), failed(CLOSED));
        let mut probe = probe();
        probe.connected();
        assert_eq!(probe.feed(b"+PON"), Step::Receive);
        assert_eq!(probe.feed(b""), failed(CLOSED));
        assert_eq!(probe.details(), None);
    }

    #[test]
    fn nonsense() {
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\x15\x03\x03", b"$x\r\n", b"\n"] {
            assert_eq!(probe_after(bytes), failed(INVALID), "{bytes:?}");
        }
        assert_eq!(probe_after(&b">0\r\n".repeat(1000)), failed("too many Redis replies"));
        assert_eq!(probe_after(&[b'+'; 2000]), failed("Redis reply too large"));
        assert_eq!(probe_after(b"$16777216\r\n"), failed("Redis reply too large"));
    }

    #[test]
    fn memory_is_bounded() {
        for start in ["+", "$65536\r\n", ">9999\r\n", "%99\r\n*1\r\n"] {
            let mut probe = probe();
            probe.connected();
            let mut end = probe.feed(start.as_bytes());
            let mut fed = start.len();
            while end == Step::Receive {
                assert!(probe.received.len() < 66_000);
                end = probe.feed(&[b'_'; 100]);
                fed += 100;
                assert!(fed < 70_000);
            }
            assert!(matches!(end, Step::Done(Verdict::Fail(_))), "{end:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(
            turns in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            pong: bool,
            every in 1_usize..50,
        ) {
            let mut turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            if pong {
                turns.insert(0, b"+PONG\r\n");
            }
            play(&mut probe(), &turns, |at| at % every == 0);
        }

        #[test]
        fn any_resp(
            turn in prop::collection::vec(
                (prop::sample::select(b"*>%|~$=!+-:_#,(;.H".to_vec()), "[0-9?-]{0,3}|[a-z]{3}:[a-z]*"),
                0..40,
            ),
            every in 1_usize..50,
        ) {
            let turn: Vec<u8> = turn
                .into_iter()
                .flat_map(|(kind, rest)| [&[kind][..], rest.as_bytes(), b"\r\n"].concat())
                .collect();
            play(&mut probe(), &[&turn], |at| at % every == 0);
            play(&mut probe(), &[b"+PONG\r\n", &turn], |at| at % every == 0);
        }
    }
}
