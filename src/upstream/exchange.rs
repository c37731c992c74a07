//! One check of one server: the connection, what comes before the protocol, and the protocol.

use std::cell::Cell;

use super::grpc;
use crate::logic::probe::redis::RedisDetails;
use crate::logic::probe::{proxy_protocol, Probe, Step, Verdict};
use crate::logic::settings::{self, Check};
use crate::nginx::connection::{ConnectOptions, Connection, ConnectionError};
use crate::nginx::process;
use crate::nginx::tls::{Tls, TlsOptions};

/// What HTTP/2 is called where TLS begins.
const HTTP2: &str = "h2";

/// A connection that is open from one check to the next.
pub struct KeptConnection {
    connection: Connection,
    /// When it was opened, by [`process::now`].
    opened_at: u64,
}

/// What came of a check: whether the server passed, and what it says of itself.
pub type Outcome = (Verdict, Option<RedisDetails>);

/// Asks the server at a socket address. `tls` is that of the check, if it has one. Where the check keeps its connection,
/// `kept` is where it is kept from one check of the server to the next.
///
/// When this is dropped before it is done, so is the connection.
///
/// # Errors
/// Where that is no verdict: for trouble of this host, or as the worker exits.
pub async fn ask(
    address: &[u8],
    check: &Check,
    tls: Option<&Tls>,
    kept: &mut Option<KeptConnection>,
) -> Result<Outcome, ConnectionError> {
    let exchange = Exchange { address, check, tls };
    match exchange.run(kept).await {
        Err(ConnectionError::Peer(error)) => Ok((Verdict::Fail(reason(&error).into()), None)),
        Err(ConnectionError::Tls(reason)) => Ok((Verdict::Fail(reason), None)),
        result => result,
    }
}

struct Exchange<'a> {
    address: &'a [u8],
    check: &'a Check,
    tls: Option<&'a Tls>,
}

/// How a talk over a connection that was kept ended.
enum Again {
    /// With a verdict.
    Done(Box<Outcome>),
    /// The server had closed the connection meanwhile, or did so before it answered.
    Stale,
}

impl Exchange<'_> {
    async fn run(&self, kept: &mut Option<KeptConnection>) -> Result<Outcome, ConnectionError> {
        if let Some(old) = self.reusable(kept.take()) {
            match self.talk_again(old, kept).await? {
                Again::Done(outcome) => return Ok(*outcome),
                Again::Stale => {}
            }
        }
        let opened_at = process::now();
        let connection = self.open().await?;
        if let settings::Probe::Grpc(settings) = &self.check.probe {
            let is_secure = self.check.begins_with_tls();
            return Ok((grpc::check(connection, settings, is_secure).await?, None));
        }
        let new = KeptConnection { connection, opened_at };
        self.talk(new, kept, &Cell::new(false)).await
    }

    /// For how long a connection may be used, in milliseconds. `None`: for one check.
    fn keepalive_time(&self) -> Option<u64> {
        match &self.check.probe {
            settings::Probe::Http(settings) => {
                settings.keepalive_time.map(settings::Time::as_milliseconds)
            }
            _ => None,
        }
    }

    fn reusable(&self, old: Option<KeptConnection>) -> Option<KeptConnection> {
        let (mut old, time) = (old?, self.keepalive_time()?);
        let is_young = process::now().saturating_sub(old.opened_at) < time;
        (is_young && old.connection.is_fresh()).then_some(old)
    }

    /// Connects, and does what comes before the protocol.
    async fn open(&self) -> Result<Connection, ConnectionError> {
        let address = self.address;
        let options = ConnectOptions { address, bind: self.check.bind, begins: self.begins() };
        let mut connection = Connection::connect(options).await?;
        if self.check.proxy_protocol {
            let own = connection.local_address().unwrap_or_default();
            connection.send(&proxy_protocol::header(&own, address)).await?;
        }
        if self.check.begins_with_tls() {
            self.start_tls(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Whether the first bytes on the connection are ours.
    fn begins(&self) -> bool {
        self.check.proxy_protocol
            || self.check.begins_with_tls()
            // Of TCP it is to be known that it connects, whatever is said then.
            || !matches!(self.check.probe, settings::Probe::Tcp(_) | settings::Probe::Mysql(_))
    }

    async fn start_tls(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let (Some(tls), Some(settings)) = (self.tls, &self.check.tls) else {
            return Err(ConnectionError::Local("no TLS"));
        };
        let is_grpc = matches!(self.check.probe, settings::Probe::Grpc(_));
        let options = TlsOptions {
            name: &settings.name,
            verify: settings.verify,
            protocol: is_grpc.then_some(HTTP2),
        };
        connection.start_tls(tls, options).await
    }

    /// Talks over a connection that has served a check before. The server may close such a
    /// connection at any time, which says nothing about it.
    async fn talk_again(
        &self,
        old: KeptConnection,
        kept: &mut Option<KeptConnection>,
    ) -> Result<Again, ConnectionError> {
        let is_answered = Cell::new(false);
        match self.talk(old, kept, &is_answered).await {
            Err(ConnectionError::Peer(_) | ConnectionError::Tls(_)) if !is_answered.get() => {
                Ok(Again::Stale)
            }
            // The server closed it without a word.
            Ok(_) if !is_answered.get() => Ok(Again::Stale),
            result => result.map(|outcome| Again::Done(Box::new(outcome))),
        }
    }

    /// Has the probe talk with the server until it comes to a verdict. `is_answered` is set when the
    /// first byte comes.
    async fn talk(
        &self,
        open: KeptConnection,
        kept: &mut Option<KeptConnection>,
        is_answered: &Cell<bool>,
    ) -> Result<Outcome, ConnectionError> {
        let KeptConnection { mut connection, opened_at } = open;
        let Some(mut probe) = Probe::new(self.check) else {
            return Err(ConnectionError::Local("no such check"));
        };
        let mut step = probe.connected();
        let verdict = loop {
            step = match step {
                Step::Send(bytes) => {
                    connection.send(&bytes).await?;
                    Step::Receive
                }
                Step::Receive => {
                    connection
                        .receive(|bytes| {
                            is_answered.set(is_answered.get() || !bytes.is_empty());
                            probe.feed(bytes)
                        })
                        .await?
                }
                Step::StartTls(bytes) => {
                    if !bytes.is_empty() {
                        connection.send(&bytes).await?;
                    }
                    self.start_tls(&mut connection).await?;
                    probe.secured()
                }
                Step::Done(verdict) => {
                    if self.keepalive_time().is_some() && probe.is_reusable() {
                        *kept = Some(KeptConnection { connection, opened_at });
                    }
                    break verdict;
                }
                Step::Farewell(bytes, verdict) => {
                    connection.finish(&bytes);
                    break verdict;
                }
            };
        };
        Ok((verdict, probe.details().cloned()))
    }
}

/// An error of the operating system in a few words: "connection refused".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
