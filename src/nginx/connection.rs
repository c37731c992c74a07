//! Connections to servers, for tasks.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr::{self, addr_of_mut};
use std::task::{Context, Poll, Waker};

use ngx::ffi::{
    ngx_close_connection, ngx_connection_t, ngx_event_connect_peer, ngx_event_get_peer,
    ngx_event_t, ngx_handle_read_event, ngx_handle_write_event, ngx_int_t, ngx_log_t,
    ngx_peer_connection_t, ngx_str_t, NGX_AGAIN, NGX_DECLINED, NGX_LOG_EMERG, NGX_OK,
};
use ngx::log::ngx_cycle_log;
use thiserror::Error;

use super::conf;
use super::guard::guard;
use super::process;

/// How much is read at a time, in bytes. The buffer is on the stack of the reader, not in the
/// connection: thousands of them wait at a time.
const BUFFER: usize = 16 * 1024;

/// Why a connection did not do what was asked.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The server, or the way to it.
    #[error("{0}")]
    Peer(io::Error),
    /// This host: no descriptors, connections or memory.
    #[error("{0}")]
    Local(&'static str),
    /// nginx closes its connections, as the worker is to exit.
    #[error("the worker exits")]
    Exiting,
}

/// A connection to a server. Dropping it closes it.
pub struct Connection {
    state: Box<State>,
}

/// What nginx's connection refers to: it does not move.
struct State {
    connection: *mut ngx_connection_t,
    log: ngx_log_t,
    waker: Option<Waker>,
}

impl Connection {
    /// Connects to a socket address; `name` is for nginx's debug log.
    pub async fn connect(address: &[u8], name: &str) -> Result<Self, ConnectionError> {
        let mut this = Self::start(address, name)?;
        this.wait(|connection| {
            // SAFETY: the connection is open.
            unsafe { (*(*connection).write).ready() != 0 }
        })
        .await?;
        this.connected()?;
        Ok(this)
    }

    fn start(address: &[u8], name: &str) -> Result<Self, ConnectionError> {
        // SAFETY: in a worker the log of the cycle is valid, and what the copy points to is as well
        // for as long as this worker lives.
        let mut log = unsafe { *ngx_cycle_log().as_ref() };
        // nginx would report each refused connection and each full table. The verdict is what
        // counts, and it is logged when it changes.
        log.log_level = NGX_LOG_EMERG as usize;
        let mut state = Box::new(State { connection: ptr::null_mut(), log, waker: None });

        let mut name: ngx_str_t = conf::string(name.as_bytes());
        // SAFETY: an ngx_peer_connection_t of zeros is what nginx itself starts from.
        let mut peer: ngx_peer_connection_t = unsafe { mem::zeroed() };
        peer.sockaddr = address.as_ptr().cast_mut().cast();
        peer.socklen = address.len() as _;
        peer.name = &mut name;
        peer.get = Some(ngx_event_get_peer);
        peer.log = &mut state.log;

        // SAFETY: nginx only reads the address and the name, during the call. The log outlives the
        // connection: both are dropped with `state`, the connection first.
        let (code, error) =
            unsafe { (ngx_event_connect_peer(&mut peer), io::Error::last_os_error()) };
        match code as i32 {
            NGX_DECLINED if is_local(&error) => Err(ConnectionError::Local("no port to spare")),
            NGX_DECLINED => Err(ConnectionError::Peer(error)),
            code if code == NGX_OK as i32 || code == NGX_AGAIN => {
                let connection = peer.connection;
                state.connection = connection;
                // SAFETY: nginx just made the connection; nobody else uses it.
                unsafe {
                    (*connection).data = addr_of_mut!(*state).cast();
                    (*(*connection).read).handler = Some(on_event);
                    (*(*connection).write).handler = Some(on_event);
                    // So that a worker that exits closes it at once: it calls the read handler.
                    (*connection).set_idle(1);
                }
                Ok(Self { state })
            }
            _ => Err(ConnectionError::Local("no connection to spare")),
        }
    }

    /// Waits until `ready`, or until the worker is to exit.
    async fn wait(
        &mut self,
        ready: impl Fn(*mut ngx_connection_t) -> bool,
    ) -> Result<(), ConnectionError> {
        poll_fn(|context| self.poll(context, &ready)).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        ready: impl Fn(*mut ngx_connection_t) -> bool,
    ) -> Poll<Result<(), ConnectionError>> {
        // SAFETY: the connection is open until it is dropped.
        if unsafe { (*self.state.connection).close() } != 0 || process::is_exiting() {
            Poll::Ready(Err(ConnectionError::Exiting))
        } else if ready(self.state.connection) {
            Poll::Ready(Ok(()))
        } else {
            self.state.waker = Some(context.waker().clone());
            Poll::Pending
        }
    }

    /// Looks how the connect ended.
    fn connected(&mut self) -> Result<(), ConnectionError> {
        let mut error: libc::c_int = 0;
        let mut length = mem::size_of_val(&error) as libc::socklen_t;
        // SAFETY: the socket is open; the kernel writes an int.
        let code = unsafe {
            libc::getsockopt(
                (*self.state.connection).fd,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                addr_of_mut!(error).cast(),
                &mut length,
            )
        };
        if code == -1 {
            return Err(ConnectionError::Peer(io::Error::last_os_error()));
        }
        if error != 0 {
            return Err(ConnectionError::Peer(io::Error::from_raw_os_error(error)));
        }
        self.rearm()
    }

    /// Asks for the events that are still of interest, for event methods that need it.
    fn rearm(&mut self) -> Result<(), ConnectionError> {
        // SAFETY: the connection is open.
        let armed = unsafe {
            let connection = self.state.connection;
            ngx_handle_read_event((*connection).read, 0) == NGX_OK as ngx_int_t
                && ngx_handle_write_event((*connection).write, 0) == NGX_OK as ngx_int_t
        };
        if armed {
            Ok(())
        } else {
            Err(ConnectionError::Local("no event to spare"))
        }
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            let connection = self.state.connection;
            // SAFETY: the connection is open, and nginx has set its send function.
            let (code, error) = unsafe {
                let send = (*connection).send.expect("every connection can send");
                let code = send(connection, bytes.as_ptr().cast_mut(), bytes.len());
                (code, io::Error::last_os_error())
            };
            match usize::try_from(code) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) if code == NGX_AGAIN as isize => {
                    self.rearm()?;
                    self.wait(|connection| {
                        // SAFETY: the connection is open.
                        unsafe { (*(*connection).write).ready() != 0 }
                    })
                    .await?;
                }
                Err(_) => return Err(ConnectionError::Peer(error)),
            }
        }
        Ok(())
    }

    /// Waits for bytes, and gives them to `take`; none: the server closed the connection.
    pub async fn receive<T>(
        &mut self,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ConnectionError> {
        let mut take = Some(take);
        poll_fn(|context| loop {
            let ready = |connection: *mut ngx_connection_t| {
                // SAFETY: the connection is open.
                unsafe { (*(*connection).read).ready() != 0 }
            };
            match self.poll(context, ready) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
            let connection = self.state.connection;
            // SAFETY: the connection is open, nginx has set its receive function, and it writes no
            // more than it is told.
            let (code, error) = unsafe {
                let receive = (*connection).recv.expect("every connection can receive");
                let code = receive(connection, buffer.as_mut_ptr().cast(), BUFFER);
                (code, io::Error::last_os_error())
            };
            match usize::try_from(code) {
                Ok(length) => {
                    // SAFETY: nginx wrote so many bytes.
                    let bytes =
                        unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), length) };
                    let take = take.take().expect("polled to the end once only");
                    return Poll::Ready(Ok(take(bytes)));
                }
                Err(_) if code == NGX_AGAIN as isize => {
                    if let Err(error) = self.rearm() {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(_) => return Poll::Ready(Err(ConnectionError::Peer(error))),
            }
        })
        .await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody uses it afterwards; with it go its events, so that the
        // handler is not called again.
        unsafe { ngx_close_connection(self.state.connection) }
    }
}

/// Whether a connect failed for want of something on this host.
fn is_local(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM))
}

/// The handler of both events.
unsafe extern "C" fn on_event(event: *mut ngx_event_t) {
    guard((), || {
        // SAFETY: nginx calls it for open connections only, and ours refer to their state.
        let state =
            unsafe { &mut *(*(*event).data.cast::<ngx_connection_t>()).data.cast::<State>() };
        // Last: the task runs at once and may drop the connection.
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    });
}
