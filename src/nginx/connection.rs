//! Connections to servers, for tasks.
//!
//! How a connection ends is our choice. Dropped, it is reset (`SO_LINGER` with a time of 0): the
//! verdict is there and nothing more is to be said, and so neither side keeps the port in
//! `TIME_WAIT`, of which thousands of checks a second would leave tens of thousands. What a server
//! still sends is thrown away. [`Connection::finish`] ends it the plain way instead: a reset could
//! overtake a farewell, and the server would take the end for a broken connection.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::mem::{self, offset_of, MaybeUninit};
use std::net::IpAddr;
use std::ptr::{self, addr_of_mut};
use std::task::{ready, Context, Poll, Waker};

use ngx::ffi::{
    ngx_close_connection, ngx_connection_t, ngx_event_actions, ngx_event_t, ngx_get_connection,
    ngx_handle_read_event, ngx_handle_write_event, ngx_int_t, ngx_io, ngx_log_t, ngx_nonblocking,
    NGX_AGAIN, NGX_LOG_EMERG, NGX_OK,
};
use ngx::log::ngx_cycle_log;
use thiserror::Error;

use super::guard::guard;
use super::process;
use super::tls::{self, Tls, TlsOptions};
use super::turn::Place;

/// How much is read at a time, in bytes. The buffer is on the stack of the reader, not in the
/// connection: thousands of them wait at a time.
const BUFFER: usize = 16 * 1024;

/// Why a connection did not do what was asked.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The server, or the way to it.
    #[error("{0}")]
    Peer(io::Error),
    /// TLS with the server: a few words, at most 63 bytes.
    #[error("{0}")]
    Tls(Cow<'static, str>),
    /// This host: no descriptors, connections or memory.
    #[error("{0}")]
    Local(&'static str),
    /// nginx closes its connections, as the worker is to exit.
    #[error("the worker exits")]
    Exiting,
}

/// Where to connect to.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions<'a> {
    /// The socket address, as the system has it.
    pub address: &'a [u8],
    /// The address to connect from. A server of another family is connected to without it.
    pub bind: Option<IpAddr>,
    /// Whether the first bytes are ours. Then they end the handshake of TCP, which spares a packet,
    /// and are sent without a wait where the server has answered already. That the connect failed is
    /// known when they are sent.
    pub begins: bool,
}

/// A connection to a server. Dropping it resets it.
pub struct Connection {
    state: Box<State>,
}

/// What nginx's connection refers to: it does not move.
struct State {
    connection: *mut ngx_connection_t,
    log: ngx_log_t,
    waker: Option<Waker>,
    /// A server that sends without an end would otherwise keep its reader, and with it the worker,
    /// for as long as it sends as fast as it is read.
    place: Place,
    tls: Option<tls::Stream>,
    /// Whether it ends the plain way.
    is_finished: bool,
}

/// A socket address of the internet.
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    /// An address without a port, and its length.
    fn new(ip: IpAddr) -> (Self, usize) {
        // SAFETY: both are structures of plain numbers, for which zeros are as good as any.
        let mut this: Self = unsafe { mem::zeroed() };
        match ip {
            IpAddr::V4(ip) => {
                // SAFETY: as above.
                let mut v4: libc::sockaddr_in = unsafe { mem::zeroed() };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
                this.v4 = v4;
                (this, size_of::<libc::sockaddr_in>())
            }
            IpAddr::V6(ip) => {
                // SAFETY: as above.
                let mut v6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_addr.s6_addr = ip.octets();
                this.v6 = v6;
                (this, size_of::<libc::sockaddr_in6>())
            }
        }
    }
}

/// The family of a socket address.
fn family(address: &[u8]) -> Option<i32> {
    let bytes = address.get(offset_of!(libc::sockaddr, sa_family)..)?;
    let bytes = bytes.first_chunk::<{ size_of::<libc::sa_family_t>() }>()?;
    Some(i32::from(libc::sa_family_t::from_ne_bytes(*bytes)))
}

impl Connection {
    /// Connects.
    pub async fn connect(options: ConnectOptions<'_>) -> Result<Self, ConnectionError> {
        let mut this = Self::start(options)?;
        if options.begins {
            return Ok(this);
        }
        poll_fn(|context| {
            this.check_open()?;
            // SAFETY: the connection is open.
            match unsafe { (*(*this.state.connection).write).ready() } {
                0 => this.suspend(context),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await?;
        this.connected()?;
        Ok(this)
    }

    /// Begins to connect. No event is asked for before the first wait.
    ///
    /// Not by nginx's `ngx_event_connect_peer`: with that nothing can be said of the socket before
    /// it connects, and all events are asked for each time.
    fn start(options: ConnectOptions<'_>) -> Result<Self, ConnectionError> {
        let ConnectOptions { address, bind, begins } = options;
        // SAFETY: in a worker the log of the cycle is valid, and what the copy points to is as well
        // for as long as this worker lives.
        let mut log = unsafe { *ngx_cycle_log().as_ref() };
        // nginx would report each refused connection and each full table. The verdict is what
        // counts, and it is logged when it changes.
        log.log_level = NGX_LOG_EMERG as usize;
        let mut state = Box::new(State {
            connection: ptr::null_mut(),
            log,
            waker: None,
            place: Place::default(),
            tls: None,
            is_finished: false,
        });

        let own_family = family(address).unwrap_or(libc::AF_UNSPEC);
        // SAFETY: the call takes no memory.
        let fd = unsafe { libc::socket(own_family, libc::SOCK_STREAM, 0) };
        if fd == -1 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                // A system without IPv6, say: that does not pass.
                Some(libc::EAFNOSUPPORT) => ConnectionError::Peer(error),
                _ => ConnectionError::Local("no descriptor to spare"),
            });
        }
        // SAFETY: the socket is open. The log outlives the connection: both are dropped with
        // `state`, the connection first.
        let connection = unsafe { ngx_get_connection(fd, &mut state.log) };
        if connection.is_null() {
            // SAFETY: the socket is open, and nobody else has it.
            unsafe { libc::close(fd) };
            return Err(ConnectionError::Local("no connection to spare"));
        }
        state.connection = connection;
        // SAFETY: nginx just made the connection; nobody else uses it. Its functions are set before
        // a worker starts.
        unsafe {
            (*connection).type_ = libc::SOCK_STREAM;
            (*connection).recv = ngx_io.recv;
            (*connection).send = ngx_io.send;
            (*connection).data = addr_of_mut!(*state).cast();
            for event in [(*connection).read, (*connection).write] {
                (*event).log = &mut state.log;
                (*event).handler = Some(on_event);
            }
            // So that sending is tried before it is waited for.
            (*(*connection).write).set_ready(u32::from(begins));
            // So that a worker that exits closes it at once: it calls the read handler.
            (*connection).set_idle(1);
        }
        let this = Self { state };

        // SAFETY: the socket is open.
        if unsafe { ngx_nonblocking(fd) } == -1 {
            return Err(ConnectionError::Local("no connection to spare"));
        }
        #[cfg(target_os = "linux")]
        if begins {
            this.set_option(libc::IPPROTO_TCP, libc::TCP_QUICKACK, &libc::c_int::from(false));
        }
        let is_of_family =
            |ip: &IpAddr| own_family == if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        if let Some(ip) = bind.filter(is_of_family) {
            this.bind(ip)?;
        }
        // SAFETY: the kernel reads the address, and only during the call.
        let code = unsafe { libc::connect(fd, address.as_ptr().cast(), address.len() as _) };
        let error = io::Error::last_os_error();
        match code {
            -1 if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                // Elsewhere it is an error to send before the server has answered.
                if !cfg!(target_os = "linux") {
                    // SAFETY: the connection is open.
                    unsafe { (*(*connection).write).set_ready(0) };
                }
                Ok(this)
            }
            -1 if is_local(&error) => Err(ConnectionError::Local("no port to spare")),
            // From an address of the loopback there is no way to another host.
            -1 if bind.is_some() && error.raw_os_error() == Some(libc::EINVAL) => {
                Err(ConnectionError::Local("there is no way from the address of bind="))
            }
            -1 => Err(ConnectionError::Peer(error)),
            _ => {
                // SAFETY: the connection is open.
                unsafe { (*(*connection).write).set_ready(1) };
                Ok(this)
            }
        }
    }

    /// Has it connect from this address.
    fn bind(&self, ip: IpAddr) -> Result<(), ConnectionError> {
        // The port is chosen when the server is known: each may then have all of them.
        #[cfg(target_os = "linux")]
        self.set_option(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &libc::c_int::from(true));
        let (address, length) = Address::new(ip);
        // SAFETY: the socket is open, and the address is as long as that.
        let code = unsafe {
            let fd = (*self.state.connection).fd;
            libc::bind(fd, ptr::from_ref(&address).cast(), length as libc::socklen_t)
        };
        match code {
            -1 if is_unbindable(&io::Error::last_os_error()) => {
                Err(ConnectionError::Local("the address of bind= is not to be had"))
            }
            -1 => Err(ConnectionError::Local("no connection to spare")),
            _ => Ok(()),
        }
    }

    /// Sets an option that the socket can do without: one of another family does not know it.
    fn set_option<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) {
        // SAFETY: the socket is open; the kernel reads so many bytes.
        unsafe {
            libc::setsockopt(
                (*self.state.connection).fd,
                level,
                name,
                ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            );
        }
    }

    /// Whether nginx still lets connections work.
    fn check_open(&self) -> Result<(), ConnectionError> {
        // SAFETY: the connection is open until it is dropped.
        if unsafe { (*self.state.connection).close() } != 0 || process::is_exiting() {
            Err(ConnectionError::Exiting)
        } else {
            Ok(())
        }
    }

    /// Has the task woken at the next event.
    fn suspend<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T, ConnectionError>> {
        self.rearm()?;
        match &mut self.state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
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
        Ok(())
    }

    /// Asks for the events that are of interest and were not asked for yet.
    fn rearm(&mut self) -> Result<(), ConnectionError> {
        let connection = self.state.connection;
        // SAFETY: the connection is open. Both kinds of events can be asked for at once only where
        // none is asked for yet, and where the event method has a function for it.
        let armed = unsafe {
            let (read, write) = ((*connection).read, (*connection).write);
            let is_new = (*read).active() == 0 && (*write).active() == 0;
            match ngx_event_actions.add_conn.filter(|_| is_new && (*write).ready() == 0) {
                Some(add) => add(connection) == NGX_OK as ngx_int_t,
                None => Self::rearm_each(read, write),
            }
        };
        if armed {
            Ok(())
        } else {
            Err(ConnectionError::Local("no event to spare"))
        }
    }

    /// # Safety
    /// The events are those of an open connection.
    unsafe fn rearm_each(read: *mut ngx_event_t, write: *mut ngx_event_t) -> bool {
        // SAFETY: as of the caller.
        unsafe {
            ngx_handle_read_event(read, 0) == NGX_OK as ngx_int_t
                && ngx_handle_write_event(write, 0) == NGX_OK as ngx_int_t
        }
    }

    /// Makes it a TLS connection. What the server sent in clear before, and was not received, fails
    /// the handshake.
    pub async fn start_tls(
        &mut self,
        tls: &Tls,
        options: TlsOptions<'_>,
    ) -> Result<(), ConnectionError> {
        // SAFETY: the stream is dropped with `state`, before the connection is closed.
        let stream = unsafe { tls::Stream::new(tls, &options, self.state.connection) };
        let Some(stream) = stream else {
            return Err(ConnectionError::Local("no memory to spare for TLS"));
        };
        self.state.tls = Some(stream);
        poll_fn(|context| self.poll_handshake(context)).await?;
        match &self.state.tls {
            Some(stream) if options.verify => {
                stream.verify(options.name).map_err(ConnectionError::Tls)
            }
            _ => Ok(()),
        }
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            let Some(stream) = &mut self.state.tls else { return Poll::Ready(Ok(())) };
            let step = stream.handshake();
            // An alert says to the server why it failed. If it cannot be sent, no matter.
            let sent = self.poll_flush(context);
            match step.map_err(ConnectionError::Tls)? {
                true => return sent,
                false => {
                    if let Poll::Ready(result) = sent {
                        result?;
                    }
                    ready!(self.poll_feed(context))?;
                }
            }
        }
    }

    /// Receives what is there for TLS, or waits for it.
    fn poll_feed(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
        let length = ready!(self.poll_read_raw(context, &mut buffer))?;
        if let Some(stream) = &mut self.state.tls {
            match length {
                0 => stream.feed_end(),
                // SAFETY: so many bytes were written.
                _ => stream.feed(unsafe { initialized(&buffer, length) }),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| self.poll_write(context, bytes)).await?;
            bytes = &bytes[sent..];
        }
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Waits for bytes, and gives them to `take`; none: the server closed the connection.
    pub async fn receive<T>(
        &mut self,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ConnectionError> {
        let mut take = Some(take);
        poll_fn(|context| {
            let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
            let length = ready!(self.poll_read(context, &mut buffer))?;
            let take = take.take().expect("polled to the end once only");
            // SAFETY: so many bytes were written.
            Poll::Ready(Ok(take(unsafe { initialized(&buffer, length) })))
        })
        .await
    }

    /// Reads what is there into `buffer`, which must not be empty, or waits for it. The result is
    /// how many bytes it wrote; 0: the server closed the connection.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Poll<Result<usize, ConnectionError>> {
        loop {
            let Some(stream) = &mut self.state.tls else {
                return self.poll_read_raw(context, buffer);
            };
            let read = stream.read(buffer);
            // There may be an answer of TLS itself. That the server does not take it now does not
            // keep us from reading; if it cannot be sent at all, reading says so as well.
            let _ = self.poll_flush(context);
            match read.map_err(ConnectionError::Tls)? {
                tls::Read::Bytes(length) => return Poll::Ready(Ok(length)),
                tls::Read::Closed => return Poll::Ready(Ok(0)),
                tls::Read::Starved => ready!(self.poll_feed(context))?,
            }
        }
    }

    fn poll_read_raw(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Poll<Result<usize, ConnectionError>> {
        let connection = self.state.connection;
        loop {
            self.check_open()?;
            // SAFETY: the connection is open.
            if unsafe { (*(*connection).read).ready() } == 0 {
                return self.suspend(context);
            }
            let Some(allowance) = self.state.place.allowance(context.waker()) else {
                self.rearm()?;
                return Poll::Pending;
            };
            let length = buffer.len().min(allowance);
            // SAFETY: the connection is open, nginx has set its receive function, and it writes no
            // more than it is told.
            let (code, error) = unsafe {
                let receive = (*connection).recv.expect("every connection can receive");
                let code = receive(connection, buffer.as_mut_ptr().cast(), length);
                (code, io::Error::last_os_error())
            };
            match usize::try_from(code) {
                Ok(length) => {
                    self.state.place.spend(length);
                    return Poll::Ready(Ok(length));
                }
                Err(_) if code == NGX_AGAIN as isize => {}
                Err(_) => return Poll::Ready(Err(ConnectionError::Peer(error))),
            }
        }
    }

    /// Sends the first of `bytes`, of which there must be some, or waits until it can. The result is
    /// how many. With TLS they may not have left before [`Self::poll_flush`] says so.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, ConnectionError>> {
        loop {
            if self.state.tls.is_none() {
                return self.poll_write_raw(context, bytes);
            }
            ready!(self.poll_flush(context))?;
            let Some(stream) = &mut self.state.tls else { continue };
            if let Some(length) = stream.write(bytes).map_err(ConnectionError::Tls)? {
                // What does not leave now goes with the next write or flush.
                if let Poll::Ready(Err(error)) = self.poll_flush(context) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(length));
            }
            ready!(self.poll_feed(context))?;
        }
    }

    /// Sends what is left to be sent, or waits until it can.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        // While the state has none, the stream is here: the bytes are sent from where they are.
        let Some(mut stream) = self.state.tls.take() else { return Poll::Ready(Ok(())) };
        let result = loop {
            let unsent = stream.unsent();
            if unsent.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match self.poll_write_raw(context, unsent) {
                Poll::Ready(Ok(length)) => stream.sent(length),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.state.tls = Some(stream);
        match result {
            Poll::Ready(Err(error @ ConnectionError::Peer(_))) => {
                Poll::Ready(Err(self.last_words().unwrap_or(error)))
            }
            result => result,
        }
    }

    /// The alert of a server that has closed the connection, if there is one: it tells more than
    /// that sending failed. A server that does not like the certificate of its client says so after
    /// the handshake, and a request may be on its way by then.
    fn last_words(&mut self) -> Option<ConnectionError> {
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
        loop {
            match self.state.tls.as_mut()?.read(&mut buffer) {
                Ok(tls::Read::Bytes(_)) => {}
                Ok(tls::Read::Closed) => return None,
                Err(reason) => return Some(ConnectionError::Tls(reason)),
                Ok(tls::Read::Starved) => match self.poll_feed(&mut context) {
                    Poll::Ready(Ok(())) => {}
                    _ => return None,
                },
            }
        }
    }

    fn poll_write_raw(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, ConnectionError>> {
        let connection = self.state.connection;
        loop {
            self.check_open()?;
            // SAFETY: the connection is open.
            if unsafe { (*(*connection).write).ready() } == 0 {
                return self.suspend(context);
            }
            // SAFETY: the connection is open, and nginx has set its send function.
            let (code, error) = unsafe {
                let send = (*connection).send.expect("every connection can send");
                let code = send(connection, bytes.as_ptr().cast_mut(), bytes.len());
                (code, io::Error::last_os_error())
            };
            match usize::try_from(code) {
                Ok(0) => {}
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(_) if code == NGX_AGAIN as isize => {}
                Err(_) => return Poll::Ready(Err(ConnectionError::Peer(error))),
            }
        }
    }

    /// Sends a farewell as far as it can be sent at once, and closes the connection so that the
    /// server gets to read it.
    pub fn finish(mut self, farewell: &[u8]) {
        let mut context = Context::from_waker(Waker::noop());
        if !farewell.is_empty() && self.poll_write(&mut context, farewell).is_ready() {
            if let Some(stream) = &mut self.state.tls {
                stream.close();
            }
            let _ = self.poll_flush(&mut context);
        }
        self.state.is_finished = true;
    }

    /// Whether a connection that was idle can be used again: it is open, and nothing has come that
    /// was not asked for.
    pub fn is_fresh(&mut self) -> bool {
        let state = &mut *self.state;
        let is_drained = match &mut state.tls {
            Some(stream) => stream.is_drained() && stream.unsent().is_empty(),
            None => true,
        };
        let mut byte = 0u8;
        // SAFETY: the socket is open; the kernel writes no more than one byte.
        let code = unsafe {
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            libc::recv((*state.connection).fd, addr_of_mut!(byte).cast(), 1, flags)
        };
        let is_silent =
            code == -1 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        is_drained && is_silent && self.check_open().is_ok()
    }

    /// The socket address of our end; `None`: it has none.
    pub fn local_address(&self) -> Option<Vec<u8>> {
        // SAFETY: zeros are an address, of no family.
        let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: the socket is open, and the kernel writes no more than there is room for.
        unsafe {
            let fd = (*self.state.connection).fd;
            if libc::getsockname(fd, addr_of_mut!(address).cast(), &mut length) == -1 {
                return None;
            }
            let length = usize::try_from(length).ok()?.min(size_of_val(&address));
            let bytes = std::slice::from_raw_parts(ptr::from_ref(&address).cast::<u8>(), length);
            Some(bytes.to_vec())
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.tls = None;
        // SAFETY: it is open, and nobody uses it afterwards; with it go its events, so that the
        // handler is not called again.
        unsafe {
            if !self.state.is_finished {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // If it fails, the connection ends the plain way.
                self.set_option(libc::SOL_SOCKET, libc::SO_LINGER, &linger);
            }
            ngx_close_connection(self.state.connection);
        }
    }
}

/// # Safety
/// The first `length` bytes were written.
unsafe fn initialized(buffer: &[MaybeUninit<u8>], length: usize) -> &[u8] {
    let buffer = &buffer[..length];
    // SAFETY: as of the caller; the layout is the same.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), buffer.len()) }
}

/// Whether a connect failed for want of something on this host.
fn is_local(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether binding fails with this.
fn is_unbindable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EACCES | libc::EINVAL)
    )
}

/// The handler of both events.
unsafe extern "C" fn on_event(event: *mut ngx_event_t) {
    guard((), || {
        // SAFETY: nginx calls it for open connections only, and ours refer to their state.
        let (connection, state) = unsafe {
            let connection = (*event).data.cast::<ngx_connection_t>();
            (connection, &mut *(*connection).data.cast::<State>())
        };
        state.place.renew();
        match state.waker.take() {
            // Last: the task runs at once and may drop the connection.
            Some(waker) => waker.wake(),
            // Nobody waits: a connection that is kept. Where the worker is to exit, which may take
            // as long as a client stays, the server is told now; the descriptor goes with the task.
            // SAFETY: the connection is open.
            None if unsafe { (*connection).close() } != 0 => unsafe {
                libc::shutdown((*connection).fd, libc::SHUT_RDWR);
            },
            // Some event methods would report the same event again and again. That asking them not
            // to may fail is no matter: who uses the connection next asks again.
            // SAFETY: the connection is open.
            None => unsafe {
                ngx_handle_read_event((*connection).read, 0);
                ngx_handle_write_event((*connection).write, 0);
            },
        }
    });
}
