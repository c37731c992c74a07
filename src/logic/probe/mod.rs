//! The protocols of the checks, without input or output: a probe says what to send, is fed what
//! arrives, and comes to a verdict.

pub mod grpc;
pub mod http;
pub mod mysql;
pub mod postgres;
pub mod proxy_protocol;
pub mod redis;
mod resp;
pub mod tcp;
mod text;

use std::borrow::Cow;

use super::settings::{self, Check, Ssl};

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server passed.
    Pass,
    /// The server works, but not wholly, and why: it is used only while no other passes.
    Unstable(Cow<'static, str>),
    /// The server failed, and why: a few words for status and log.
    Fail(Cow<'static, str>),
}

impl Verdict {
    /// A failure with a fixed reason.
    pub const fn fail(reason: &'static str) -> Self {
        Self::Fail(Cow::Borrowed(reason))
    }
}

/// What is to be done next for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes, then wait for more of the server's. There may be a password in them.
    Send(Vec<u8>),
    /// Wait for more bytes.
    Receive,
    /// Send these bytes, if any, then make the connection a TLS one, then call `secured`.
    StartTls(Vec<u8>),
    /// The check is over.
    Done(Verdict),
    /// The check is over. These bytes say so to the server, as far as they can be sent at once; what
    /// becomes of them does not change the verdict.
    Farewell(Vec<u8>, Verdict),
}

/// The failure of a server that closes the connection too early.
pub const CLOSED: &str = "closed before the response was complete";

/// One check of one server, from the moment on that the connection is there; with TLS from the start,
/// that one. gRPC is not among them: what speaks HTTP/2 wants the connection itself.
#[derive(Debug)]
pub enum Probe {
    /// A connection, and what is said over it.
    Tcp(tcp::TcpProbe),
    /// One HTTP request.
    Http(http::HttpProbe),
    /// Redis.
    Redis(redis::RedisProbe),
    /// MySQL.
    Mysql(mysql::MysqlProbe),
    /// PostgreSQL.
    Postgres(postgres::PostgresProbe),
}

impl Probe {
    /// A new probe by these settings. `None`: a protocol that is spoken elsewhere.
    pub fn new(check: &Check) -> Option<Self> {
        let ssl = check.tls.as_ref().map_or(Ssl::Off, |tls| tls.ssl);
        Some(match &check.probe {
            settings::Probe::Tcp(settings) => Self::Tcp(tcp::TcpProbe::new(settings)),
            settings::Probe::Http(settings) => Self::Http(http::HttpProbe::new(settings)),
            settings::Probe::Redis(settings) => Self::Redis(redis::RedisProbe::new(settings)),
            settings::Probe::Mysql(settings) => Self::Mysql(mysql::MysqlProbe::new(settings, ssl)),
            settings::Probe::Postgres(settings) => {
                Self::Postgres(postgres::PostgresProbe::new(settings, ssl))
            }
            settings::Probe::Grpc(_) => return None,
        })
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        match self {
            Self::Tcp(probe) => probe.connected(),
            Self::Http(probe) => probe.connected(),
            Self::Redis(probe) => probe.connected(),
            Self::Mysql(probe) => probe.connected(),
            Self::Postgres(probe) => probe.connected(),
        }
    }

    /// What to do once TLS is there that was asked for by [`Step::StartTls`].
    pub fn secured(&mut self) -> Step {
        match self {
            Self::Mysql(probe) => probe.secured(),
            Self::Postgres(probe) => probe.secured(),
            Self::Tcp(_) | Self::Http(_) | Self::Redis(_) => Step::Receive,
        }
    }

    /// Takes bytes of the server; none: it closed the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Tcp(probe) => probe.feed(bytes),
            Self::Http(probe) => probe.feed(bytes),
            Self::Redis(probe) => probe.feed(bytes),
            Self::Mysql(probe) => probe.feed(bytes),
            Self::Postgres(probe) => probe.feed(bytes),
        }
    }

    /// Whether the connection may serve the next check; to be asked when the check is over. It may
    /// where the check passed and the response ended as it had said.
    pub fn is_reusable(&self) -> bool {
        match self {
            Self::Http(probe) => probe.is_reusable(),
            _ => false,
        }
    }

    /// What the server says of itself, for the status; to be asked when the check is over.
    pub fn details(&self) -> Option<&redis::RedisDetails> {
        match self {
            Self::Redis(probe) => probe.details(),
            _ => None,
        }
    }
}

/// Plays a server that says what is written down.
#[cfg(test)]
mod play {
    use super::Step;

    /// The probes that talk more than once.
    pub trait Talk {
        fn connected(&mut self) -> Step;
        fn secured(&mut self) -> Step;
        fn feed(&mut self, bytes: &[u8]) -> Step;
    }

    /// What a probe sent, with `None` where TLS began, and where it ended: in `Receive`, if what
    /// the server said was not enough.
    #[derive(Debug, PartialEq)]
    pub struct Played {
        pub sent: Vec<Option<Vec<u8>>>,
        pub end: Step,
    }

    /// The server says the first of `turns` at once (after what the probe sends at once, if it
    /// does), and the next one each time that the probe has sent something. Its bytes arrive in one piece, but for places that are a `cut`, counted from
    /// the first byte of all turns.
    pub fn play(probe: &mut impl Talk, turns: &[&[u8]], cut: impl Fn(usize) -> bool) -> Played {
        let mut sent = Vec::new();
        let mut said = Vec::new();
        let mut fed = 0;
        let mut turns = turns.iter();
        let mut say = |said: &mut Vec<u8>| {
            said.extend_from_slice(turns.next().copied().unwrap_or_default());
        };
        let mut step = probe.connected();
        if let Step::Send(bytes) = step {
            sent.push(Some(bytes));
            step = Step::Receive;
        }
        say(&mut said);
        loop {
            step = match step {
                Step::Send(bytes) => {
                    sent.push(Some(bytes));
                    say(&mut said);
                    Step::Receive
                }
                Step::StartTls(bytes) => {
                    sent.extend((!bytes.is_empty()).then_some(Some(bytes)));
                    sent.push(None);
                    probe.secured()
                }
                Step::Receive if fed == said.len() => return Played { sent, end: Step::Receive },
                Step::Receive => {
                    let end = (fed + 1..said.len()).find(|place| cut(*place)).unwrap_or(said.len());
                    let bytes = &said[fed..end];
                    fed = end;
                    probe.feed(bytes)
                }
                Step::Farewell(bytes, verdict) => {
                    sent.push(Some(bytes));
                    return Played { sent, end: Step::Done(verdict) };
                }
                Step::Done(verdict) => return Played { sent, end: Step::Done(verdict) },
            };
        }
    }

    /// The bytes that these digits say.
    pub fn hex(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The same, and again with the bytes cut at each place, and at all of them.
    pub fn play_all<T: Talk>(new: impl Fn() -> T, turns: &[&[u8]]) -> Played {
        let played = play(&mut new(), turns, |_| false);
        for place in 1..turns.iter().map(|turn| turn.len()).sum() {
            assert_eq!(play(&mut new(), turns, |at| at == place), played, "cut at {place}");
        }
        assert_eq!(play(&mut new(), turns, |_| true), played, "byte by byte");
        played
    }
}
