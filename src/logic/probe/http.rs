//! HTTP/1.1 checks. Without a condition of the body, and without keepalive, the head of the response
//! decides and the body is not read.

use std::rc::Rc;

use httparse::{ParserConfig, Response, Status};

use super::{Step, Verdict, CLOSED};
use crate::logic::matching::{BodySearch, Match};
use crate::logic::settings;

/// The longest head of a response, in bytes; and the longest trailers.
const MAX_HEAD: usize = 64 * 1024;

/// The most header lines of a response.
const MAX_HEADERS: usize = 256;

/// The most 1xx responses before the final one.
const MAX_INTERIM: u32 = 16;

/// The most of a body that is read, in bytes. What follows does not change the verdict.
pub const MAX_BODY: u64 = 256 * 1024;

/// The longest line before a chunk, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// What every response begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// The failure of what does not look like HTTP.
const INVALID: Verdict = Verdict::fail("invalid HTTP response");

/// The failure of a body that is not in chunks although the head says so.
const INVALID_CHUNK: Verdict = Verdict::fail("invalid chunk");

/// The failure of a body that is not as it should be.
const BODY: Verdict = Verdict::fail("body does not match");

/// One HTTP request and its response.
#[derive(Debug)]
pub struct HttpProbe {
    request: Vec<u8>,
    matching: Option<Rc<Match>>,
    /// Whether the request is such that its response has no body.
    is_head: bool,
    /// Whether the connection is to be used again.
    keepalive: bool,
    /// What has come of the head, and later of a line between chunks.
    buffer: Vec<u8>,
    interim: u32,
    /// `None`: the head is not complete.
    body: Option<Body>,
    reusable: bool,
}

/// A body that is being read.
#[derive(Debug)]
struct Body {
    framing: Framing,
    /// What it has to have; `None`: it is read only to get behind it.
    search: Option<BodySearch>,
    /// So many bytes of it were read.
    length: u64,
    /// Whether the connection is good for another request after it.
    persistent: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// It comes in chunks.
    Chunked(Chunked),
    /// The server closes the connection.
    Close,
}

/// What comes next in a body of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    /// A line with the size of a chunk.
    Size,
    /// So many bytes of a chunk, at least one.
    Data(u64),
    /// The end of the line after a chunk.
    DataEnd,
    /// Trailers or the blank line that ends all; so many bytes of them have come.
    Trailers(usize),
}

impl HttpProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::HttpProbe) -> Self {
        Self {
            request: request(settings),
            matching: settings.matching.clone(),
            is_head: settings.method == "HEAD",
            keepalive: settings.keepalive_time.is_some(),
            buffer: Vec::new(),
            interim: 0,
            body: None,
            reusable: false,
        }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        Step::Send(std::mem::take(&mut self.request))
    }

    /// See [`super::Probe::feed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        let step = match &mut self.body {
            None if bytes.is_empty() => Step::Done(Verdict::fail(CLOSED)),
            None => self.feed_head(bytes),
            Some(body) => body.feed(&mut self.buffer, bytes, self.keepalive),
        };
        if let (Step::Done(Verdict::Pass), Some(body)) = (&step, &self.body) {
            self.reusable = body.persistent;
        }
        step
    }

    /// See [`super::Probe::is_reusable`].
    pub fn is_reusable(&self) -> bool {
        self.reusable
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Step {
        let mut unseen = self.buffer.len();
        self.buffer.extend_from_slice(bytes);

        loop {
            let start = &self.buffer[..self.buffer.len().min(VERSION.len())];
            if !VERSION.starts_with(start) {
                return Step::Done(INVALID);
            }
            // The parser starts from the first byte each time: were it called for every arrival,
            // a head that comes byte by byte would cost the square of its length.
            match head_ends(&self.buffer, unseen) {
                Some(length) if length <= MAX_HEAD => {}
                None if self.buffer.len() < MAX_HEAD => return Step::Receive,
                _ => return Step::Done(Verdict::fail("response head too large")),
            }
            match self.parse() {
                Head::Final(length, judged) => {
                    let mut body = match judged {
                        Ok(Some(body)) => body,
                        Ok(None) => return Step::Done(Verdict::Pass),
                        Err(verdict) => return Step::Done(verdict),
                    };
                    let head = std::mem::take(&mut self.buffer);
                    let step = body.begin(&mut self.buffer, &head[length..], self.keepalive);
                    self.body = Some(body);
                    return step;
                }
                Head::Interim(length) => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Step::Done(Verdict::fail("too many interim responses"));
                    }
                    self.buffer.drain(..length);
                    unseen = 0;
                }
                Head::Invalid => return Step::Done(INVALID),
            }
        }
    }

    fn parse(&self) -> Head {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        match ParserConfig::default().parse_response(&mut response, &self.buffer) {
            Ok(Status::Complete(length)) => match response.code {
                Some(100..=199) => Head::Interim(length),
                Some(status) => Head::Final(length, self.judge(status, &response)),
                None => Head::Invalid,
            },
            // There is a blank line: what the parser finds incomplete is no head.
            Ok(Status::Partial) | Err(_) => Head::Invalid,
        }
    }

    /// Whether the head is as it should be, and which body is to be read before more can be said.
    fn judge(&self, status: u16, response: &Response<'_, '_>) -> Result<Option<Body>, Verdict> {
        let rules = self.matching.as_ref().and_then(|matching| matching.http());
        let failure = match rules {
            Some(rules) => {
                let headers = response.headers.iter().map(|header| (header.name, header.value));
                rules.failure(status, headers)
            }
            None if (200..=399).contains(&status) => None,
            None => Some(format!("status {status}")),
        };
        if let Some(reason) = failure {
            return Err(Verdict::Fail(reason.into()));
        }
        let search = rules.and_then(|rules| rules.body());
        if search.is_none() && !self.keepalive {
            return Ok(None);
        }
        let framing = if self.is_head || matches!(status, 204 | 304) {
            Framing::Length(0)
        } else {
            framing(response)?
        };
        let persistent = self.keepalive && is_persistent(response);
        Ok(Some(Body { framing, search, length: 0, persistent }))
    }
}

/// The bytes of the request. What checkups would say by itself stands in its usual place, or else
/// what the operator says instead.
fn request(settings: &settings::HttpProbe) -> Vec<u8> {
    const USER_AGENT: &str = concat!("checkups/", env!("CARGO_PKG_VERSION"));
    let own = [("Host", settings.host.as_str()), ("User-Agent", USER_AGENT), ("Accept", "*/*")];
    let mut request = String::with_capacity(256);
    for part in [&settings.method, " ", &settings.uri, " HTTP/1.1\r\n"] {
        request.push_str(part);
    }
    let mut add = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            request.push_str(part);
        }
    };
    for (name, value) in own {
        let mut given = settings.headers.iter().filter(|header| header.is(name)).peekable();
        if given.peek().is_none() {
            add(name, value);
        }
        given.for_each(|header| add(header.name(), header.value()));
    }
    let is_own = |header: &settings::Header| own.iter().any(|(name, _)| header.is(name));
    for header in settings.headers.iter().filter(|header| !is_own(header)) {
        add(header.name(), header.value());
    }
    if settings.keepalive_time.is_none() {
        add("Connection", "close");
    }
    if let Some(body) = &settings.body {
        add("Content-Length", &body.len().to_string());
    }
    request.push_str("\r\n");
    request.push_str(settings.body.as_deref().unwrap_or_default());
    request.into_bytes()
}

/// Where the first blank line ends that ends after `from`.
fn head_ends(head: &[u8], from: usize) -> Option<usize> {
    let mut from = from.saturating_sub(3);
    loop {
        let line = from + head[from..].iter().position(|byte| *byte == b'\n')? + 1;
        match &head[line..] {
            [b'\n', ..] => return Some(line + 1),
            [b'\r', b'\n', ..] => return Some(line + 2),
            _ => from = line,
        }
    }
}

enum Head {
    /// A complete head of so many bytes, and what it comes to.
    Final(usize, Result<Option<Body>, Verdict>),
    /// A 1xx response of so many bytes.
    Interim(usize),
    /// Not HTTP.
    Invalid,
}

/// The values of a header, wherever it occurs.
fn values<'a>(
    response: &'a Response<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> + Clone {
    let headers = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    headers.map(|header| header.value)
}

/// The members of a header that is a list.
fn members<'a>(
    response: &'a Response<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> + Clone {
    let members = values(response, name).flat_map(|value| value.split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// How the end of the body is known, where the status does not say that there is none.
fn framing(response: &Response<'_, '_>) -> Result<Framing, Verdict> {
    let mut lengths = values(response, "Content-Length");
    let mut codings = members(response, "Transfer-Encoding");
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if let Some(coding) = codings.clone().last() {
        return if lengths.next().is_some() {
            Err(Verdict::fail("Content-Length and Transfer-Encoding"))
        } else if codings.clone().filter(|coding| is_chunked(coding)).count() > 1 {
            Err(Verdict::fail("invalid Transfer-Encoding"))
        } else if is_chunked(coding) {
            Ok(Framing::Chunked(Chunked::Size))
        } else if codings.any(is_chunked) {
            Err(Verdict::fail("invalid Transfer-Encoding"))
        } else {
            Ok(Framing::Close)
        };
    }
    let Some(length) = lengths.next() else { return Ok(Framing::Close) };
    if lengths.any(|other| other != length) {
        return Err(Verdict::fail("conflicting Content-Length"));
    }
    let digits = std::str::from_utf8(length).ok().filter(|digits| !digits.starts_with('+'));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Framing::Length(length)),
        None => Err(Verdict::fail("invalid Content-Length")),
    }
}

/// Whether the server means to keep the connection.
fn is_persistent(response: &Response<'_, '_>) -> bool {
    let options = members(response, "Connection");
    let says = |option: &[u8]| options.clone().any(|o| o.eq_ignore_ascii_case(option));
    !says(b"close") && (response.version == Some(1) || says(b"keep-alive"))
}

impl Body {
    /// Takes what has come with the head, which may be nothing.
    fn begin(&mut self, line: &mut Vec<u8>, bytes: &[u8], keepalive: bool) -> Step {
        let wanted = match self.framing {
            Framing::Length(0) => {
                self.persistent &= bytes.is_empty();
                return Step::Done(self.verdict());
            }
            // Is it long, or without an end of its own, then a new connection is cheaper.
            Framing::Length(length) => self.search.is_some() || length <= MAX_BODY,
            Framing::Close => self.search.is_some(),
            Framing::Chunked(_) => true,
        };
        if !wanted {
            self.persistent = false;
            Step::Done(Verdict::Pass)
        } else if bytes.is_empty() {
            Step::Receive
        } else {
            self.feed(line, bytes, keepalive)
        }
    }

    /// Takes bytes of the server; none: it closed the connection. `line` is what has come of a line
    /// between chunks.
    fn feed(&mut self, line: &mut Vec<u8>, mut bytes: &[u8], keepalive: bool) -> Step {
        let over = if !bytes.is_empty() {
            self.read(line, &mut bytes, keepalive)
        } else if self.framing == Framing::Close {
            Err(self.verdict())
        } else {
            Err(Verdict::fail(CLOSED))
        };
        match over {
            Ok(false) => Step::Receive,
            Ok(true) => {
                self.persistent &= bytes.is_empty();
                Step::Done(self.verdict())
            }
            Err(verdict) => {
                self.persistent = false;
                Step::Done(verdict)
            }
        }
    }

    /// The verdict where no more is read of the body.
    fn verdict(&self) -> Verdict {
        match &self.search {
            Some(search) if !search.end() => BODY,
            _ => Verdict::Pass,
        }
    }

    /// Reads on, and says whether the body is over. What is left of `bytes` stands behind it.
    ///
    /// # Errors
    /// The verdict, where it does not take the end of the body; or there will be none.
    fn read(
        &mut self,
        line: &mut Vec<u8>,
        bytes: &mut &[u8],
        keepalive: bool,
    ) -> Result<bool, Verdict> {
        while !bytes.is_empty() {
            match self.framing {
                Framing::Length(left) => {
                    let left = left - self.read_data(left, bytes, keepalive)?;
                    self.framing = Framing::Length(left);
                    if left == 0 {
                        return Ok(true);
                    }
                }
                Framing::Close => {
                    self.read_data(u64::MAX, bytes, keepalive)?;
                }
                Framing::Chunked(Chunked::Data(left)) => {
                    let left = left - self.read_data(left, bytes, keepalive)?;
                    let next = if left == 0 { Chunked::DataEnd } else { Chunked::Data(left) };
                    self.framing = Framing::Chunked(next);
                }
                Framing::Chunked(part) => {
                    if !read_line(line, bytes, part)? {
                        return Ok(false);
                    }
                    let Some(next) = part.after(line)? else { return Ok(true) };
                    line.clear();
                    self.framing = Framing::Chunked(next);
                }
            }
            if self.length >= MAX_BODY {
                return Err(self.verdict());
            }
        }
        Ok(false)
    }

    /// Reads up to so many bytes of the body itself, and says how many.
    fn read_data(&mut self, most: u64, bytes: &mut &[u8], keepalive: bool) -> Result<u64, Verdict> {
        let most = most.min(MAX_BODY - self.length);
        let length = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
        let (data, rest) = bytes.split_at(length);
        *bytes = rest;
        self.length += length as u64;
        match self.search.as_mut().and_then(|search| search.feed(data)) {
            Some(false) => Err(BODY),
            Some(true) if !keepalive => Err(Verdict::Pass),
            _ => Ok(length as u64),
        }
    }
}

/// Adds what has come to a line, and says whether it is complete.
fn read_line(line: &mut Vec<u8>, bytes: &mut &[u8], part: Chunked) -> Result<bool, Verdict> {
    let most = match part {
        Chunked::Trailers(length) => MAX_HEAD - length,
        _ => MAX_CHUNK_LINE,
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (start, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
    *bytes = rest;
    if line.len() + start.len() > most {
        return Err(match part {
            Chunked::Trailers(_) => Verdict::fail("response trailers too large"),
            _ => INVALID_CHUNK,
        });
    }
    line.extend_from_slice(start);
    Ok(end.is_some())
}

impl Chunked {
    /// What comes after this line; `None`: nothing.
    fn after(self, line: &[u8]) -> Result<Option<Self>, Verdict> {
        match self {
            // The parser takes a line without a number for a zero.
            Self::Size if line[0].is_ascii_hexdigit() => match httparse::parse_chunk_size(line) {
                Ok(Status::Complete((_, 0))) => Ok(Some(Self::Trailers(0))),
                Ok(Status::Complete((_, size))) => Ok(Some(Self::Data(size))),
                _ => Err(INVALID_CHUNK),
            },
            Self::DataEnd if line == b"\r\n" => Ok(Some(Self::Size)),
            Self::Trailers(_) if line == b"\r\n" => Ok(None),
            Self::Trailers(length) if line.ends_with(b"\r\n") => {
                Ok(Some(Self::Trailers(length + line.len())))
            }
            _ => Err(INVALID_CHUNK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::matching::{BodyRule, HttpRules, Pattern, Rules, StatusRule};
    use crate::logic::settings::{Header, Statuses, Time};
    use proptest::prelude::*;

    fn settings() -> settings::HttpProbe {
        settings::HttpProbe {
            method: "GET".to_owned(),
            uri: "/up?a=1".to_owned(),
            host: "api".to_owned(),
            headers: Vec::new(),
            body: None,
            keepalive_time: None,
            matching: None,
        }
    }

    fn matching(rules: HttpRules) -> Option<Rc<Match>> {
        Some(Rc::new(Match::new("m".to_owned(), Vec::new(), Rules::Http(rules))))
    }

    /// A probe that wants a body with "ok" and without "error".
    fn with_body(keepalive: bool) -> HttpProbe {
        let rule = |written, wanted| {
            let pattern = Pattern::regex(written, false).unwrap();
            BodyRule { pattern, wanted }
        };
        let bodies = vec![rule("ok", true), rule("error", false)];
        HttpProbe::new(&settings::HttpProbe {
            keepalive_time: keepalive.then_some(Time::seconds(60)),
            matching: matching(HttpRules { bodies, ..Default::default() }),
            ..settings()
        })
    }

    /// A probe that keeps the connection.
    fn with_keepalive() -> HttpProbe {
        let keepalive_time = Some(Time::seconds(60));
        HttpProbe::new(&settings::HttpProbe { keepalive_time, ..settings() })
    }

    /// Where the probe ends with these pieces, and whether the connection may be used again. Each piece
    /// is fed whole, and again byte by byte: the verdict has to be the same. Whether there is something
    /// behind the response is known only if it comes together with the end.
    fn play(new: impl Fn() -> HttpProbe, pieces: &[&[u8]]) -> (Step, bool) {
        let run = |pieces: Vec<&[u8]>| {
            let mut probe = new();
            for piece in pieces {
                let step = probe.feed(piece);
                assert!(probe.buffer.capacity() <= 4 * MAX_HEAD);
                if step != Step::Receive {
                    return (step, probe.is_reusable());
                }
            }
            (Step::Receive, probe.is_reusable())
        };
        let whole = run(pieces.to_vec());
        let bytes = pieces.iter().flat_map(|piece| match piece.len() {
            0 => vec![*piece],
            _ => piece.chunks(1).collect(),
        });
        assert_eq!(run(bytes.collect()).0, whole.0, "byte by byte");
        whole
    }

    fn verdict(pieces: &[&[u8]]) -> Step {
        play(|| HttpProbe::new(&settings()), pieces).0
    }

    fn failed(reason: &'static str) -> Step {
        Step::Done(Verdict::fail(reason))
    }

    const PASS: Step = Step::Done(Verdict::Pass);

    fn sent(settings: &settings::HttpProbe) -> String {
        match HttpProbe::new(settings).connected() {
            Step::Send(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_request() {
        assert_eq!(
            sent(&settings()),
            concat!(
                "GET /up?a=1 HTTP/1.1\r\nHost: api\r\nUser-Agent: checkups/",
                env!("CARGO_PKG_VERSION"),
                "\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_request_with_headers_and_a_body() {
        let headers = ["X-A: 1", "user-agent: me", "x-a: 2", "Host: other", "Accept:"];
        let headers = headers.map(|header| Header::new(header).unwrap()).to_vec();
        let all = settings::HttpProbe {
            method: "POST".to_owned(),
            headers,
            body: Some("{\"a\": \"\u{e4}\"}".to_owned()),
            keepalive_time: Some(Time::seconds(1)),
            ..settings()
        };
        assert_eq!(
            sent(&all),
            "POST /up?a=1 HTTP/1.1\r\nHost: other\r\nuser-agent: me\r\nAccept: \r\nX-A: 1\r\n\
             x-a: 2\r\nContent-Length: 11\r\n\r\n{\"a\": \"\u{e4}\"}"
        );
        let empty = settings::HttpProbe { body: Some(String::new()), ..settings() };
        assert!(sent(&empty).ends_with("\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn statuses() {
        for status in [200, 204, 301, 399] {
            let head = format!("HTTP/1.1 {status} X\r\n\r\n");
            assert_eq!(verdict(&[head.as_bytes()]), PASS, "{status}");
        }
        for status in [400, 404, 500, 503, 999] {
            let head = format!("HTTP/1.1 {status} X\r\n\r\n");
            let reason = format!("status {status}").into();
            assert_eq!(verdict(&[head.as_bytes()]), Step::Done(Verdict::Fail(reason)));
        }
        assert_eq!(verdict(&[b"HTTP/1.0 200 OK\n\n"]), PASS);
        assert_eq!(verdict(&[b"HTTP/1.1 200\r\n\r\n"]), PASS);
    }

    #[test]
    fn a_match_takes_the_place_of_the_usual_statuses() {
        let new = |status| {
            let rules = HttpRules { status, ..Default::default() };
            let matching = matching(rules);
            move || {
                HttpProbe::new(&settings::HttpProbe { matching: matching.clone(), ..settings() })
            }
        };
        let good = Some(Statuses(vec![(404, 404)]));
        let only_404 = new(Some(StatusRule { good, bad: Statuses::default() }));
        assert_eq!(play(&only_404, &[b"HTTP/1.1 404 X\r\n\r\n"]).0, PASS);
        assert_eq!(play(&only_404, &[b"HTTP/1.1 200 X\r\n\r\n"]).0, failed("status 200"));
        assert_eq!(play(new(None), &[b"HTTP/1.1 500 X\r\n\r\n"]).0, PASS);
    }

    #[test]
    fn the_whole_head_is_wanted() {
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\nA: b\r\n"]), Step::Receive);
        let closed = failed("closed before the response was complete");
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\nA: b\r\n", b""]), closed);
        assert_eq!(verdict(&[b""]), closed);
    }

    #[test]
    fn the_head_is_enough() {
        for head in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(play(|| HttpProbe::new(&settings()), &[head]), (PASS, false));
        }
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
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"\0\0\0",
            b"HTTP/2 200\r\n\r\n",
            b"H\0",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 \n\n",
            b"HTTP/1.\n\n",
        ] {
            assert_eq!(verdict(&[bytes]), invalid, "{bytes:?}");
        }
        assert_eq!(verdict(&[b"HTTP/1.1 x OK\r\n\r\n"]), invalid);
        let many = b"A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\n", &many, b"\r\n"]), invalid);
    }

    #[test]
    fn large_heads() {
        let large = failed("response head too large");
        let value = vec![b'a'; 2 * MAX_HEAD];
        assert_eq!(verdict(&[b"HTTP/1.1 200 OK\r\nA: ", &value]), large);
        let head = |length| {
            let start = b"HTTP/1.1 200 OK\r\nA: ";
            [&start[..], &value[..length - start.len() - 4], b"\r\n\r\n"].concat()
        };
        assert_eq!(verdict(&[&head(MAX_HEAD)]), PASS);
        assert_eq!(verdict(&[&head(MAX_HEAD + 1)]), large);
        assert_eq!(verdict(&[&head(MAX_HEAD + 20_000)]), large);
    }

    #[test]
    fn bodies() {
        let bad = failed("body does not match");
        let closed = failed("closed before the response was complete");
        let (length, chunked): (&[u8], &[u8]) = (
            b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: Chunked\r\n\r\n",
        );
        let close: &[u8] = b"HTTP/1.1 200 X\r\n\r\n";
        for (pieces, end) in [
            (&[length, b"it ok"][..], PASS),
            (&[length, b"is ok", b"and more"], PASS),
            (&[length, b"not k"], bad.clone()),
            (&[length, b"error"], bad.clone()),
            (&[length, b"ok", b""], closed.clone()),
            (&[length], Step::Receive),
            (&[close, b"ok and more", b""], PASS),
            (&[close, b"ok and more"], Step::Receive),
            (&[close, b"ok and err", b"or"], bad.clone()),
            (&[close, b""], bad.clone()),
            (&[chunked, b"1\r\no\r\n4;x=y\r\nk.  \r\n0\r\nA: b\r\n\r\n"], PASS),
            (&[chunked, b"A \r\nit is ok..\r\n00\r\n\r\n"], PASS),
            (&[chunked, b"1\r\no\r\n1\r\nx\r\n0\r\n\r\n"], bad.clone()),
            (&[chunked, b"2\r\nok\r\n0\r\n"], Step::Receive),
            (&[chunked, b"2\r\nok\r\n", b""], closed.clone()),
            (&[chunked, b"0\r\n\r\n"], bad.clone()),
            (&[b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", b"it ok"], bad.clone()),
            (&[b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n"], bad.clone()),
            (&[b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\nok"], bad.clone()),
            (&[b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip\r\n\r\nok", b""], PASS),
            (&[b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], PASS),
            (&[b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"], PASS),
        ] {
            assert_eq!(play(|| with_body(false), pieces), (end, false), "{pieces:?}");
        }
    }

    #[test]
    fn a_head_request_has_no_body() {
        let settings = settings::HttpProbe {
            method: "HEAD".to_owned(),
            keepalive_time: Some(Time::seconds(60)),
            ..settings()
        };
        let head = b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(play(|| HttpProbe::new(&settings), &[head]), (PASS, true));
    }

    #[test]
    fn wrong_lengths() {
        for (headers, reason) in [
            ("Content-Length: 2\r\nContent-Length: 3", "conflicting Content-Length"),
            ("Content-Length: +2", "invalid Content-Length"),
            ("Content-Length: -2", "invalid Content-Length"),
            ("Content-Length:", "invalid Content-Length"),
            ("Content-Length: 2, 2", "invalid Content-Length"),
            ("Content-Length: 99999999999999999999", "invalid Content-Length"),
            (
                "Content-Length: 2\r\nTransfer-Encoding: chunked",
                "Content-Length and Transfer-Encoding",
            ),
            ("Transfer-Encoding: chunked, gzip", "invalid Transfer-Encoding"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "invalid Transfer-Encoding",
            ),
        ] {
            let head = format!("HTTP/1.1 200 X\r\n{headers}\r\n\r\n");
            for new in [with_keepalive, || with_body(false)] {
                assert_eq!(play(new, &[head.as_bytes()]), (failed(reason), false), "{headers}");
            }
        }
    }

    #[test]
    fn wrong_chunks() {
        let long = [&b"1;"[..], &[b'x'; MAX_CHUNK_LINE]].concat();
        for chunks in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"1\n",
            b"1\r\nabc\r\n",
            b"1\r\na\n",
            b"10000000000000000\r\n",
            b"0\r\nA: b\n",
            b"0\r\n\n",
            &long,
        ] {
            let head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
            let end = play(with_keepalive, &[head, chunks]);
            assert_eq!(end, (failed("invalid chunk"), false), "{chunks:?}");
        }
    }

    #[test]
    fn large_bodies() {
        let most = MAX_BODY as usize;
        let body = |ends: &[u8]| {
            let mut body = vec![b'x'; most];
            body[most - ends.len()..].copy_from_slice(ends);
            body
        };
        let bad = failed("body does not match");
        let lengths = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", most * 40);
        let exact = format!("HTTP/1.1 200 X\r\nContent-Length: {most}\r\n\r\n");
        let chunked =
            format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", most + 9);
        let heads = [lengths.as_str(), &chunked, "HTTP/1.1 200 X\r\n\r\n"].map(str::as_bytes);
        for head in heads {
            let (good, late) = (body(b"ok"), body(b"o"));
            assert_eq!(play(|| with_body(true), &[head, &good]), (PASS, false));
            assert_eq!(play(|| with_body(true), &[head, &late, b"k"]), (bad.clone(), false));
        }
        assert_eq!(play(|| with_body(true), &[exact.as_bytes(), &body(b"ok")]), (PASS, true));
        // Only for the sake of the next request, it is not worth to read that much.
        assert_eq!(play(with_keepalive, &[heads[0]]), (PASS, false));
        assert_eq!(play(with_keepalive, &[heads[1]]).0, Step::Receive);
        assert_eq!(play(with_keepalive, &[heads[1], &body(b"")]), (PASS, false));
    }

    #[test]
    fn large_trailers() {
        let head: &[u8] = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let trailers = b"A: b\r\n".repeat(MAX_HEAD / 6 + 1);
        let large = (failed("response trailers too large"), false);
        assert_eq!(play(with_keepalive, &[head, &trailers]), large);
        assert_eq!(play(with_keepalive, &[head, &[b'a'; MAX_HEAD + 1]]), large);
        let fit = b"A: b\r\n".repeat(MAX_HEAD / 6 - 1);
        assert_eq!(play(with_keepalive, &[head, &fit, b"\r\n"]), (PASS, true));
    }

    #[test]
    fn connections_that_may_be_used_again() {
        for (response, reusable) in [
            ("HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nxx", true),
            ("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 204 X\r\n\r\n", true),
            ("HTTP/1.1 100 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n", true),
            ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", true),
            ("HTTP/1.0 200 X\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nxx", true),
            ("HTTP/1.1 200 X\r\nConnection: a, CLOSE\r\nContent-Length: 2\r\n\r\nxx", false),
            ("HTTP/1.0 200 X\r\nContent-Length: 2\r\n\r\nxx", false),
            ("HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nxxx", false),
            ("HTTP/1.1 204 X\r\n\r\nx", false),
            ("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nx", false),
            ("HTTP/1.1 200 X\r\n\r\nxx", false),
        ] {
            let end = play(with_keepalive, &[response.as_bytes()]);
            assert_eq!(end, (PASS, reusable), "{response}");
        }
        let failed = play(with_keepalive, &[b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"]);
        assert_eq!(failed, (Step::Done(Verdict::Fail("status 500".into())), false));
        let ok = b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\n ok ";
        assert_eq!(play(|| with_body(true), &[ok]), (PASS, true));
        assert_eq!(play(|| HttpProbe::new(&settings()), &[ok]), (PASS, false));
    }

    /// A response that may be right, and may be broken in many ways.
    fn response() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"HTTP/1.1 100 X\n\n",
            b"Content-Length: 7\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"3\r\nok \r\n",
            b"5\r\nerr",
            b"or\r\n",
            b"0\r\n",
            b"ok",
            b"error",
            b"\0",
            b"\xff",
        ]);
        let parts = prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat());
        let start = prop::sample::select(vec![
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 103 X\r\n\r\nHTTP/1.0 404 X\r\n",
            b"",
        ]);
        (start, parts).prop_map(|(start, parts)| [start, &parts].concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_verdict(
            mut response in response(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            close in any::<bool>(),
            which in 0..4,
        ) {
            response.push(b'\n');
            let new = || match which {
                0 => HttpProbe::new(&settings()),
                1 => with_keepalive(),
                2 => with_body(false),
                _ => with_body(true),
            };
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(response.len())).collect();
            cuts.extend([0, response.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<_> =
                cuts.windows(2).map(|pair| &response[pair[0]..pair[1]]).collect();
            let mut whole = vec![&response[..]];
            if close {
                pieces.push(b"");
                whole.push(b"");
            }
            let (verdict, reusable) = play(new, &pieces);
            prop_assert_eq!(&verdict, &play(new, &whole).0);
            prop_assert!(!reusable || verdict == PASS);
            prop_assert!(!close || verdict != Step::Receive);
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            for start in ["", "HTTP/1.1 200 ", "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"] {
                let (end, reusable) = play(|| with_body(true), &[start.as_bytes(), &bytes, b""]);
                prop_assert!(matches!(end, Step::Done(_)) && !reusable);
            }
        }
    }
}
