//! HTTP/1.1 checks. The head of the response decides; the body is not read.

use httparse::{ParserConfig, Response, Status};

use super::{Step, Verdict};
use crate::logic::settings;

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The most header lines of a response.
const MAX_HEADERS: usize = 256;

/// The most 1xx responses before the final one.
const MAX_INTERIM: u32 = 16;

/// What every response begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// One HTTP request and its response.
#[derive(Debug)]
pub struct HttpProbe {
    request: Vec<u8>,
    head: Vec<u8>,
    interim: u32,
}

impl HttpProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::HttpProbe) -> Self {
        let request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: checkups/{}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            settings.method,
            settings.uri,
            settings.host,
            env!("CARGO_PKG_VERSION"),
        );
        Self { request: request.into_bytes(), head: Vec::new(), interim: 0 }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        Step::Send(std::mem::take(&mut self.request))
    }

    /// See [`super::Probe::feed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::Done(Verdict::fail("closed before the response was complete"));
        }
        let mut unseen = self.head.len();
        self.head.extend_from_slice(bytes);

        loop {
            // The parser starts from the first byte each time: were it called for every arrival,
            // a head that comes byte by byte would cost the square of its length.
            if !ends_a_head(&self.head, unseen) {
                return self.incomplete();
            }
            match parse(&self.head) {
                Head::Final(200..=399) => return Step::Done(Verdict::Pass),
                Head::Final(status) => {
                    return Step::Done(Verdict::Fail(format!("status {status}").into()))
                }
                Head::Interim(length) => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Step::Done(Verdict::fail("too many interim responses"));
                    }
                    self.head.drain(..length);
                    unseen = 0;
                }
                Head::Partial => return self.incomplete(),
                Head::Invalid => return Step::Done(Verdict::fail("invalid HTTP response")),
            }
        }
    }

    fn incomplete(&self) -> Step {
        let start = &self.head[..self.head.len().min(VERSION.len())];
        if !VERSION.starts_with(start) {
            Step::Done(Verdict::fail("invalid HTTP response"))
        } else if self.head.len() >= MAX_HEAD {
            Step::Done(Verdict::fail("response head too large"))
        } else {
            Step::Receive
        }
    }
}

/// Whether a blank line ends at or after `from`.
fn ends_a_head(head: &[u8], from: usize) -> bool {
    let window = &head[from.saturating_sub(3)..];
    window.windows(2).any(|pair| pair == b"\n\n")
        || window.windows(3).any(|triple| triple == b"\n\r\n")
}

enum Head {
    /// A complete head with this status.
    Final(u16),
    /// A 1xx response of so many bytes.
    Interim(usize),
    /// More bytes are wanted.
    Partial,
    /// Not HTTP.
    Invalid,
}

fn parse(head: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    match ParserConfig::default().parse_response(&mut response, head) {
        Ok(Status::Complete(length)) => match response.code {
            Some(100..=199) => Head::Interim(length),
            Some(status) => Head::Final(status),
            None => Head::Invalid,
        },
        Ok(Status::Partial) => Head::Partial,
        Err(_) => Head::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> HttpProbe {
        HttpProbe::new(&settings::HttpProbe {
            method: "GET".to_owned(),
            uri: "/up?a=1".to_owned(),
            host: "api".to_owned(),
            headers: Vec::new(),
            body: None,
            keepalive_time: None,
            matching: None,
        })
    }

    fn verdict(chunks: &[&[u8]]) -> Step {
        let mut probe = probe();
        for chunk in chunks {
            if let Step::Done(verdict) = probe.feed(chunk) {
                return Step::Done(verdict);
            }
        }
        Step::Receive
    }

    fn failed(reason: &'static str) -> Step {
        Step::Done(Verdict::fail(reason))
    }

    #[test]
    fn the_request() {
        let request = String::from_utf8(std::mem::take(&mut probe().request)).unwrap();
        assert_eq!(
            request,
            concat!(
                "GET /up?a=1 HTTP/1.1\r\nHost: api\r\nUser-Agent: checkups/",
                env!("CARGO_PKG_VERSION"),
                "\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            )
        );
    }

    #[test]
    fn statuses() {
        for status in [200, 204, 301, 399] {
            let head = format!("HTTP/1.1 {status} X\r\n\r\n");
            assert_eq!(verdict(&[head.as_bytes()]), Step::Done(Verdict::Pass), "{status}");
        }
        for status in [400, 404, 500, 503, 999] {
            let head = format!("HTTP/1.1 {status} X\r\n\r\n");
            let reason = format!("status {status}").into();
            assert_eq!(verdict(&[head.as_bytes()]), Step::Done(Verdict::Fail(reason)));
        }
        assert_eq!(verdict(&[b"HTTP/1.0 200 OK\n\n"]), Step::Done(Verdict::Pass));
    }

    #[test]
    fn the_whole_head_is_wanted() {
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\nA: b\r\n"]), Step::Receive);
        let closed = failed("closed before the response was complete");
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\nA: b\r\n", b""]), closed);
        assert_eq!(verdict(&[b""]), closed);
    }

    #[test]
    fn byte_by_byte() {
        let head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        let mut probe = probe();
        for byte in &head[..head.len() - 1] {
            assert_eq!(probe.feed(&[*byte]), Step::Receive);
        }
        assert_eq!(probe.feed(b"\n"), Step::Done(Verdict::Pass));
    }

    #[test]
    fn interim_responses() {
        let one = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let last = b"HTTP/1.1 503 X\r\n\r\n";
        let reason = Verdict::Fail("status 503".into());
        assert_eq!(verdict(&[&[&one[..], &one[..], &last[..]].concat()]), Step::Done(reason));
        let endless = one.repeat(100);
        assert_eq!(verdict(&[&endless]), failed("too many interim responses"));
    }

    #[test]
    fn nonsense() {
        let invalid = failed("invalid HTTP response");
        for bytes in [&b"SSH-2.0-x\r\n"[..], b"\0\0\0", b"HTTP/2 200\r\n\r\n", b"H\0"] {
            assert_eq!(verdict(&[bytes]), invalid, "{bytes:?}");
        }
        assert_eq!(verdict(&[b"HTTP/1.1 x OK\r\n\r\n"]), invalid);
        let many = b"A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\n", &many, b"\r\n"]), invalid);
        let large = vec![b'a'; MAX_HEAD];
        assert_eq!(
            verdict(&[b"HTTP/1.1 200 OK\r\nA: ", &large]),
            failed("response head too large")
        );
    }
}
