//! HTTP/2 over our connections, by the crate h2, whose futures are polled by the task of the check.
//! There is no runtime: h2 wants the traits of tokio for input and output, and no more.
//!
//! What a hostile server can make it hold is bounded by what it is given to read: no more than
//! [`MOST_RECEIVED`] bytes in a check. Header blocks, frames and windows are no larger than a health
//! check wants them, and pushed responses are refused.

use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::io;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::logic::probe::{Verdict, CLOSED};
use crate::nginx::connection::{Connection, ConnectionError};

/// The most bytes that are read in one check. Whoever sends more pings, settings, interim responses
/// or pieces of them is not about to give an answer.
const MOST_RECEIVED: usize = 256 * 1024;

/// The most bytes of a header block, of a frame, and of a body that was not yet read.
const MOST_AT_ONCE: u32 = 16 * 1024;

/// The failure of a server that sends more.
const TOO_MUCH: Verdict = Verdict::fail("HTTP/2: the server sends too much");

/// Why there is no response.
pub enum Failure {
    /// The server is to blame.
    Verdict(Verdict),
    /// The connection failed.
    Connection(ConnectionError),
}

/// What happened below h2, which keeps no more of it than a text.
#[derive(Default)]
struct Below {
    error: Cell<Option<ConnectionError>>,
    is_too_much: Cell<bool>,
}

/// The connection as h2 wants it.
struct Adapter {
    connection: Connection,
    left: usize,
    below: Rc<Below>,
}

impl Adapter {
    fn fail(&self, error: ConnectionError) -> io::Error {
        self.below.error.set(Some(error));
        io::ErrorKind::Other.into()
    }
}

impl AsyncRead for Adapter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.below.is_too_much.set(true);
            return Poll::Ready(Err(io::ErrorKind::Other.into()));
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // SAFETY: bytes are only written there.
        let room = unsafe { buffer.unfilled_mut() };
        let length = room.len().min(self.left);
        let read = ready!(self.connection.poll_read(context, &mut room[..length]));
        let length = read.map_err(|error| self.fail(error))?;
        self.left -= length;
        // SAFETY: so many bytes were written.
        unsafe { buffer.assume_init(length) };
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adapter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(self.connection.poll_write(context, bytes));
        Poll::Ready(written.map_err(|error| self.fail(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.connection.poll_flush(context));
        Poll::Ready(flushed.map_err(|error| self.fail(error)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Begins HTTP/2 on a connection, and has `talk` make its requests. The connection is reset when
/// `talk` is done.
pub async fn run<T, F>(
    connection: Connection,
    talk: impl FnOnce(SendRequest<Bytes>) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, h2::Error>>,
{
    let below = Rc::new(Below::default());
    let adapter = Adapter { connection, left: MOST_RECEIVED, below: below.clone() };
    converse(adapter, talk).await.map_err(|error| match below.error.take() {
        Some(error) => Failure::Connection(error),
        None if below.is_too_much.get() => Failure::Verdict(TOO_MUCH),
        None => Failure::Verdict(verdict(error.as_ref())),
    })
}

/// An error without words: the server has closed the connection.
async fn converse<T, F>(
    adapter: Adapter,
    talk: impl FnOnce(SendRequest<Bytes>) -> F,
) -> Result<T, Option<h2::Error>>
where
    F: Future<Output = Result<T, h2::Error>>,
{
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(MOST_AT_ONCE)
        .max_frame_size(MOST_AT_ONCE)
        .max_header_list_size(MOST_AT_ONCE)
        .max_send_buffer_size(MOST_AT_ONCE as usize)
        .handshake(adapter)
        .await?;
    let mut talk = pin!(talk(sender));
    poll_fn(|context| {
        // A request is sent by polling the connection, and so is a response received.
        if let Poll::Ready(result) = talk.as_mut().poll(context) {
            return Poll::Ready(result.map_err(Some));
        }
        let ended = Pin::new(&mut connection).poll(context);
        if let Poll::Ready(result) = talk.as_mut().poll(context) {
            return Poll::Ready(result.map_err(Some));
        }
        ended.map(|result| Err(result.err()))
    })
    .await
}

/// What an error of HTTP/2 says of the server.
fn verdict(error: Option<&h2::Error>) -> Verdict {
    match error.and_then(h2::Error::reason) {
        Some(h2::Reason::NO_ERROR) => Verdict::fail("HTTP/2: the server ended the connection"),
        Some(reason) => Verdict::Fail(format!("HTTP/2: {}", reason.description()).into()),
        // The rest is of input and output, and that went well below: the server has closed the
        // connection.
        None => Verdict::fail(CLOSED),
    }
}
