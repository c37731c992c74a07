//! One check of one server, over its connection.

use std::io;

use crate::logic::probe::redis::RedisDetails;
use crate::logic::probe::{Probe, Step, Verdict};
use crate::logic::settings::Check;
use crate::nginx::connection::{Connection, ConnectionError};

/// Asks a server. `name` is for nginx's debug log.
///
/// # Errors
/// Where that is no verdict: for trouble of this host, or as the worker exits.
pub async fn ask(
    address: &[u8],
    name: &str,
    check: &Check,
) -> Result<(Verdict, Option<RedisDetails>), ConnectionError> {
    match exchange(address, name, check).await {
        Err(ConnectionError::Peer(error)) => Ok((Verdict::Fail(reason(&error).into()), None)),
        result => result,
    }
}

async fn exchange(
    address: &[u8],
    name: &str,
    check: &Check,
) -> Result<(Verdict, Option<RedisDetails>), ConnectionError> {
    let mut connection = Connection::connect(address, name).await?;
    let Some(mut probe) = Probe::new(check) else {
        return Err(ConnectionError::Local("no such check"));
    };
    let mut step = probe.connected();
    loop {
        step = match step {
            Step::Send(bytes) => {
                connection.send(&bytes).await?;
                Step::Receive
            }
            Step::Receive => connection.receive(|bytes| probe.feed(bytes)).await?,
            Step::StartTls(_) => return Err(ConnectionError::Local("no TLS")),
            Step::Done(verdict) | Step::Farewell(_, verdict) => {
                return Ok((verdict, probe.details().cloned()))
            }
        }
    }
}

/// An error of the operating system in a few words: "connection refused".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
