//! TLS with servers, by nginx's own OpenSSL.
//!
//! nginx makes the contexts, so that files are found and read as for its own directives. The
//! connections are OpenSSL's over memory: what is received is fed to it, and what it has to say is
//! taken from it. So nginx's connection remains a plain one, no more is decrypted at a time than was
//! fed, and what OpenSSL reports as an error is still there to be told: nginx's own functions write
//! it to the log and forget it.

use std::borrow::Cow;
use std::net::IpAddr;

use thiserror::Error;

#[cfg(ngx_feature = "ssl")]
pub use with::{Stream, Tls};
#[cfg(not(ngx_feature = "ssl"))]
pub use without::{Stream, Tls};

/// The most bytes of a reason: what is kept of a verdict's.
const MAX_REASON: usize = 63;

/// Why there is no TLS context.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A word that is not one of nginx's for the versions of the protocol.
    #[error("unknown TLS protocol \"{0}\"")]
    Protocol(String),
    /// nginx has logged what is wrong with the file, or that there is no memory.
    #[error("TLS cannot be set up, see above")]
    Refused,
    /// There is no OpenSSL in this nginx.
    #[cfg_attr(ngx_feature = "ssl", allow(dead_code))]
    #[error("nginx was built without TLS")]
    Absent,
}

/// A failure of TLS in a few words, for a verdict: at most 63 bytes.
pub type Reason = Cow<'static, str>;

/// What is asked of one TLS connection.
#[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub struct TlsOptions<'a> {
    /// The name that the server is told (unless it is an address, as the protocol has it), and that
    /// its certificate has to have.
    pub name: &'a str,
    /// Whether the certificate of the server has to be right.
    pub verify: bool,
    /// The one protocol that the server is offered over TLS; `None`: it is not told.
    pub protocol: Option<&'static str>,
}

/// What came of an attempt to read.
#[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// The server has closed the connection.
    Closed,
    /// More has to be fed first.
    Starved,
}

/// The address that a name is, with or without brackets.
#[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
fn as_address(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

/// What is said of a certificate for someone else.
#[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
fn wrong_name(name: &str) -> Reason {
    let reason = format!("TLS: the certificate is not for \"{name}\"");
    match reason.len() {
        0..=MAX_REASON => reason.into(),
        _ => "TLS: the certificate is for another name".into(),
    }
}

#[cfg(ngx_feature = "ssl")]
mod with {
    use std::ffi::{c_char, c_int, c_long, CStr, CString};
    use std::fmt;
    use std::mem::MaybeUninit;
    use std::ptr::{self, addr_of, NonNull};

    use ngx::ffi::{
        ngx_array_t, ngx_connection_t, ngx_pcalloc, ngx_pool_cleanup_add, ngx_ssl_certificate,
        ngx_ssl_cleanup_ctx, ngx_ssl_connection_index, ngx_ssl_create, ngx_ssl_t,
        ngx_ssl_trusted_certificate, ngx_str_t, BIO_ctrl, BIO_ctrl_pending, BIO_free, BIO_new,
        BIO_read, BIO_s_mem, BIO_write, ERR_clear_error, ERR_peek_error, ERR_reason_error_string,
        NGX_SSL_SSLv2, NGX_SSL_SSLv3, NGX_SSL_TLSv1, NGX_SSL_TLSv1_1, NGX_SSL_TLSv1_2,
        NGX_SSL_TLSv1_3, SSL_ctrl, SSL_do_handshake, SSL_free, SSL_get0_param, SSL_get_error,
        SSL_get_peer_cert_chain, SSL_get_verify_result, SSL_has_pending, SSL_new, SSL_read,
        SSL_set_alpn_protos, SSL_set_bio, SSL_set_connect_state, SSL_set_ex_data, SSL_shutdown,
        SSL_write, TLSEXT_NAMETYPE_host_name, X509_VERIFY_PARAM_set1_host,
        X509_VERIFY_PARAM_set1_ip_asc, X509_verify_cert_error_string, BIO,
        BIO_C_SET_BUF_MEM_EOF_RETURN, NGX_OK, SSL, SSL_CTRL_MODE, SSL_CTRL_SET_TLSEXT_HOSTNAME,
        SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
        SSL_MODE_ENABLE_PARTIAL_WRITE, X509_V_ERR_HOSTNAME_MISMATCH,
        X509_V_ERR_IP_ADDRESS_MISMATCH, X509_V_OK,
    };

    use super::{as_address, wrong_name, Read, Reason, TlsError, TlsOptions, MAX_REASON};
    use crate::logic::settings;
    use crate::nginx::conf::{self, Conf};
    use crate::nginx::pool;

    /// How many certificates may stand between that of the server and one that is trusted. nginx's
    /// own default of 1 refuses chains that are in use; OpenSSL's of 100 would have a hostile server
    /// say how many signatures are looked at.
    const DEPTH: isize = 5;

    /// The words of nginx for the versions of the protocol.
    const PROTOCOLS: [(&str, u32); 6] = [
        ("SSLv2", NGX_SSL_SSLv2),
        ("SSLv3", NGX_SSL_SSLv3),
        ("TLSv1", NGX_SSL_TLSv1),
        ("TLSv1.1", NGX_SSL_TLSv1_1),
        ("TLSv1.2", NGX_SSL_TLSv1_2),
        ("TLSv1.3", NGX_SSL_TLSv1_3),
    ];

    /// What is used where no versions are named: in every version of nginx the same.
    const DEFAULT_PROTOCOLS: u32 = NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3;

    /// The most bytes that become TLS records at a time.
    const MAX_WRITE: usize = 16 * 1024;

    /// What the TLS connections of a check have in common: certificates, and versions of the
    /// protocol. It is valid for as long as the cycle that it was made for.
    #[derive(Clone, Copy)]
    pub struct Tls(NonNull<ngx_ssl_t>);

    impl fmt::Debug for Tls {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tls")
        }
    }

    impl Tls {
        /// Makes it while the configuration is read. Files are relative to the folder of nginx's
        /// configuration, and are read now. What is wrong with one nginx says in the log.
        pub fn create(cf: &mut Conf, settings: &settings::Tls) -> Result<Self, TlsError> {
            let protocols = protocols(&settings.protocols)?;
            let certificate = settings.certificate.as_ref().map(|certificate| {
                (certificate, settings.certificate_key.as_ref().unwrap_or(certificate))
            });
            let cf = cf.as_ptr();
            // SAFETY: while a directive is handled, the pool of the cycle and its log are valid.
            // What is allocated there is of zeros, as nginx expects it, and lives as long as the
            // cycle; the cleanup is registered before anything can fail that is to be undone.
            unsafe {
                let memory = ngx_pcalloc((*cf).pool, size_of::<ngx_ssl_t>());
                let ssl = NonNull::new(memory.cast::<ngx_ssl_t>()).ok_or(TlsError::Refused)?;
                let this = ssl.as_ptr();
                (*this).log = (*cf).log;

                let cleanup = ngx_pool_cleanup_add((*cf).pool, 0);
                if cleanup.is_null() || is_refused(ngx_ssl_create(this, protocols, ptr::null_mut()))
                {
                    return Err(TlsError::Refused);
                }
                (*cleanup).handler = Some(ngx_ssl_cleanup_ctx);
                (*cleanup).data = memory;

                if let Some((certificate, key)) = certificate {
                    let mut certificate = file(cf, certificate)?;
                    let mut key = file(cf, key)?;
                    let passwords: *mut ngx_array_t = ptr::null_mut();
                    let code = ngx_ssl_certificate(cf, this, &mut certificate, &mut key, passwords);
                    if is_refused(code) {
                        return Err(TlsError::Refused);
                    }
                }
                if let Some(trusted) = &settings.trusted_certificate {
                    let mut trusted = file(cf, trusted)?;
                    if is_refused(ngx_ssl_trusted_certificate(cf, this, &mut trusted, DEPTH)) {
                        return Err(TlsError::Refused);
                    }
                }
                Ok(Self(ssl))
            }
        }
    }

    fn is_refused(code: isize) -> bool {
        code != NGX_OK as isize
    }

    /// A file's name as nginx wants it: with a zero behind it, in memory that outlives the context.
    ///
    /// # Safety
    /// The pool of `cf` is valid.
    unsafe fn file(cf: *mut ngx::ffi::ngx_conf_t, name: &str) -> Result<ngx_str_t, TlsError> {
        let name = CString::new(name).map_err(|_| TlsError::Refused)?;
        // SAFETY: as of the caller.
        let copy = unsafe { pool::copy((*cf).pool, name.as_bytes_with_nul()) };
        let copy = copy.ok_or(TlsError::Refused)?;
        Ok(conf::string(&copy[..copy.len() - 1]))
    }

    fn protocols(words: &[String]) -> Result<usize, TlsError> {
        let mut mask = 0;
        for word in words {
            match PROTOCOLS.iter().find(|(name, _)| name == word) {
                Some((_, bit)) => mask |= bit,
                None => return Err(TlsError::Protocol(word.clone())),
            }
        }
        Ok(if words.is_empty() { DEFAULT_PROTOCOLS } else { mask } as usize)
    }

    /// One TLS connection, without input and output. OpenSSL's queue of errors is empty before and
    /// after each call: nginx would take what is left there for its own.
    pub struct Stream {
        ssl: NonNull<SSL>,
        /// What was received and not yet decrypted. It belongs to `ssl`.
        input: *mut BIO,
        /// What is to be sent. It belongs to `ssl`.
        output: *mut BIO,
        /// The same, as far as it was taken from there.
        unsent: Vec<u8>,
    }

    impl Stream {
        /// A new one. `None`: there is no memory, or the name cannot be one.
        ///
        /// # Safety
        /// `connection` outlives it; nginx's callbacks look at its log.
        pub unsafe fn new(
            tls: &Tls,
            options: &TlsOptions<'_>,
            connection: *mut ngx_connection_t,
        ) -> Option<Self> {
            let name = CString::new(options.name).ok()?;
            let address = as_address(options.name);
            // SAFETY: the context is that of a live cycle. Both ends are handed over to the
            // connection, which from then on frees them.
            unsafe {
                let ssl = NonNull::new(SSL_new(tls.0.as_ref().ctx))?;
                let (input, output) = (BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
                if input.is_null() || output.is_null() {
                    BIO_free(input);
                    BIO_free(output);
                    SSL_free(ssl.as_ptr());
                    ERR_clear_error();
                    return None;
                }
                SSL_set_bio(ssl.as_ptr(), input, output);
                let this = Self { ssl, input, output, unsent: Vec::new() };
                let ready = this.prepare(options, &name, address.is_some(), connection);
                ERR_clear_error();
                ready.then_some(this)
            }
        }

        /// # Safety
        /// As of [`Self::new`].
        unsafe fn prepare(
            &self,
            options: &TlsOptions<'_>,
            name: &CStr,
            is_address: bool,
            connection: *mut ngx_connection_t,
        ) -> bool {
            let ssl = self.ssl.as_ptr();
            let name = name.as_ptr();
            // SAFETY: OpenSSL copies what it is given, but for the connection.
            unsafe {
                SSL_set_connect_state(ssl);
                let index = addr_of!(ngx_ssl_connection_index).read();
                let mut ready = SSL_set_ex_data(ssl, index, connection.cast()) == 1;

                // What could not be sent whole is offered again from another place, and perhaps
                // with more behind it.
                let mode = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
                SSL_ctrl(ssl, SSL_CTRL_MODE as c_int, mode as c_long, ptr::null_mut());

                if !is_address && !options.name.is_empty() {
                    ready &= SSL_ctrl(
                        ssl,
                        SSL_CTRL_SET_TLSEXT_HOSTNAME as c_int,
                        TLSEXT_NAMETYPE_host_name as c_long,
                        name.cast_mut().cast(),
                    ) == 1;
                }
                if options.verify {
                    let parameters = SSL_get0_param(ssl);
                    ready &= match is_address {
                        true => {
                            let bare = options.name.trim_matches(['[', ']']);
                            let bare = CString::new(bare).unwrap_or_default();
                            X509_VERIFY_PARAM_set1_ip_asc(parameters, bare.as_ptr()) == 1
                        }
                        // Without a name OpenSSL would take any.
                        false if options.name.is_empty() => false,
                        false => {
                            let length = options.name.len();
                            X509_VERIFY_PARAM_set1_host(parameters, name, length) == 1
                        }
                    };
                }
                if let Some(protocol) = options.protocol {
                    let mut list = vec![protocol.len() as u8];
                    list.extend_from_slice(protocol.as_bytes());
                    // Unlike the others it returns 0 when all is well.
                    ready &= SSL_set_alpn_protos(ssl, list.as_ptr(), list.len() as _) == 0;
                }
                ready
            }
        }

        /// Goes on with the handshake as far as it was fed. True: it is done. However it ends, there
        /// may be something to be sent.
        pub fn handshake(&mut self) -> Result<bool, Reason> {
            // SAFETY: the connection is valid until it is dropped.
            let code = unsafe { SSL_do_handshake(self.ssl.as_ptr()) };
            match self.outcome(code) {
                Ok(Read::Bytes(_)) => Ok(true),
                Ok(Read::Starved) => Ok(false),
                Ok(Read::Closed) => Err("TLS: closed during the handshake".into()),
                Err(reason) => Err(reason),
            }
        }

        /// Whether the certificate of the server is right, by its issuers, its times and its name;
        /// to be asked after the handshake.
        pub fn verify(&self, name: &str) -> Result<(), Reason> {
            // SAFETY: the connection is valid until it is dropped; the text of an error is a
            // constant.
            unsafe {
                // Without a certificate there is nothing that could be wrong with it.
                if SSL_get_peer_cert_chain(self.ssl.as_ptr()).is_null() {
                    return Err("TLS: the server has no certificate".into());
                }
                match SSL_get_verify_result(self.ssl.as_ptr()) {
                    code if code == X509_V_OK as c_long => Ok(()),
                    code if code == X509_V_ERR_HOSTNAME_MISMATCH as c_long
                        || code == X509_V_ERR_IP_ADDRESS_MISMATCH as c_long =>
                    {
                        Err(wrong_name(name))
                    }
                    code => Err(reason(X509_verify_cert_error_string(code))),
                }
            }
        }

        /// Reads what is there decrypted.
        pub fn read(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Result<Read, Reason> {
            let length = c_int::try_from(buffer.len()).unwrap_or(c_int::MAX);
            // SAFETY: the connection is valid until it is dropped; so many bytes may be written.
            let code = unsafe { SSL_read(self.ssl.as_ptr(), buffer.as_mut_ptr().cast(), length) };
            self.outcome(code)
        }

        /// Makes the first of `bytes` into something to be sent, and says how many. `None`: more has
        /// to be fed first.
        pub fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reason> {
            let bytes = &bytes[..bytes.len().min(MAX_WRITE)];
            if bytes.is_empty() {
                return Ok(Some(0));
            }
            // SAFETY: the connection is valid until it is dropped; so many bytes are read.
            let code = unsafe {
                SSL_write(self.ssl.as_ptr(), bytes.as_ptr().cast(), bytes.len() as c_int)
            };
            match self.outcome(code)? {
                Read::Bytes(length) => Ok(Some(length)),
                Read::Starved => Ok(None),
                Read::Closed => Err("TLS: closed".into()),
            }
        }

        /// Ends what is sent.
        pub fn close(&mut self) {
            // SAFETY: the connection is valid until it is dropped.
            let code = unsafe { SSL_shutdown(self.ssl.as_ptr()) };
            // It may say that the other side has not ended yet, or that it has: no matter.
            let _ = self.outcome(code);
        }

        /// Takes what was received.
        pub fn feed(&mut self, bytes: &[u8]) {
            let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            // SAFETY: the input lives with the connection. It grows as needed; where there is no
            // memory for it, the records do not fit together, which fails.
            unsafe {
                BIO_write(self.input, bytes.as_ptr().cast(), length);
                ERR_clear_error();
            }
        }

        /// Takes that there will be no more.
        pub fn feed_end(&mut self) {
            // SAFETY: the input lives with the connection. It will say that it is at its end, where
            // it has said until now that more may come.
            unsafe {
                BIO_ctrl(self.input, BIO_C_SET_BUF_MEM_EOF_RETURN as c_int, 0, ptr::null_mut());
            }
        }

        /// What is to be sent.
        pub fn unsent(&mut self) -> &[u8] {
            // SAFETY: the output lives with the connection; the buffer has so many bytes of room,
            // of which it writes the first.
            unsafe {
                let length = BIO_ctrl_pending(self.output);
                if length > 0 {
                    self.unsent.reserve(length);
                    let room = self.unsent.spare_capacity_mut();
                    let room_length = c_int::try_from(room.len().min(length)).unwrap_or(c_int::MAX);
                    let code = BIO_read(self.output, room.as_mut_ptr().cast(), room_length);
                    let read = usize::try_from(code).unwrap_or(0);
                    self.unsent.set_len(self.unsent.len() + read);
                }
            }
            &self.unsent
        }

        /// Takes that so many bytes of it were sent.
        pub fn sent(&mut self, length: usize) {
            if length == self.unsent.len() {
                // Most connections say little more after the handshake, and many are kept.
                self.unsent = Vec::new();
            } else {
                self.unsent.drain(..length);
            }
        }

        /// Whether nothing was received that was not read.
        pub fn is_drained(&self) -> bool {
            // SAFETY: the connection and its input are valid until it is dropped.
            unsafe { SSL_has_pending(self.ssl.as_ptr()) == 0 && BIO_ctrl_pending(self.input) == 0 }
        }

        /// What came of a call, by what it returned. The memory takes all that is to be sent, so
        /// that only input can be wanted.
        fn outcome(&mut self, code: c_int) -> Result<Read, Reason> {
            if let Ok(length @ 1..) = usize::try_from(code) {
                return Ok(Read::Bytes(length));
            }
            // SAFETY: the connection is valid, and the call was the last one that used OpenSSL.
            unsafe {
                let kind = SSL_get_error(self.ssl.as_ptr(), code);
                let error = ERR_peek_error();
                let result = match kind as u32 {
                    SSL_ERROR_WANT_READ => Ok(Read::Starved),
                    SSL_ERROR_ZERO_RETURN => Ok(Read::Closed),
                    // So some versions say that the input ended within a record.
                    _ if error == 0 => Ok(Read::Closed),
                    _ => Err(reason(ERR_reason_error_string(error))),
                };
                ERR_clear_error();
                result
            }
        }
    }

    impl Drop for Stream {
        fn drop(&mut self) {
            // SAFETY: nobody uses it afterwards; both ends go with it.
            unsafe { SSL_free(self.ssl.as_ptr()) }
        }
    }

    /// The words of OpenSSL behind ours, as far as there is room.
    ///
    /// # Safety
    /// `words` is null or a text that ends with a zero.
    unsafe fn reason(words: *const c_char) -> Reason {
        if words.is_null() {
            return "TLS: handshake failed".into();
        }
        // SAFETY: as of the caller.
        let words = unsafe { CStr::from_ptr(words) }.to_string_lossy();
        let mut reason = format!("TLS: {words}");
        let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
        reason.into()
    }
}

#[cfg(not(ngx_feature = "ssl"))]
mod without {
    use std::mem::MaybeUninit;

    use ngx::ffi::ngx_connection_t;

    use super::{Read, Reason, TlsError, TlsOptions};
    use crate::logic::settings;
    use crate::nginx::conf::Conf;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub enum Tls {}

    impl Tls {
        /// Refuses.
        pub fn create(_: &mut Conf, _: &settings::Tls) -> Result<Self, TlsError> {
            Err(TlsError::Absent)
        }
    }

    /// There is none.
    pub enum Stream {}

    #[allow(missing_docs, reason = "as of the module with TLS, and none of it can be called")]
    impl Stream {
        pub unsafe fn new(tls: &Tls, _: &TlsOptions<'_>, _: *mut ngx_connection_t) -> Option<Self> {
            match *tls {}
        }

        pub fn handshake(&mut self) -> Result<bool, Reason> {
            match *self {}
        }

        pub fn verify(&self, _: &str) -> Result<(), Reason> {
            match *self {}
        }

        pub fn read(&mut self, _: &mut [MaybeUninit<u8>]) -> Result<Read, Reason> {
            match *self {}
        }

        pub fn write(&mut self, _: &[u8]) -> Result<Option<usize>, Reason> {
            match *self {}
        }

        pub fn close(&mut self) {
            match *self {}
        }

        pub fn feed(&mut self, _: &[u8]) {
            match *self {}
        }

        pub fn feed_end(&mut self) {
            match *self {}
        }

        pub fn unsent(&mut self) -> &[u8] {
            match *self {}
        }

        pub fn sent(&mut self, _: usize) {
            match *self {}
        }

        pub fn is_drained(&self) -> bool {
            match *self {}
        }
    }
}
