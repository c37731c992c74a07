//! gRPC checks: the messages of `grpc.health.v1.Health/Check` and what its answer means. HTTP/2
//! itself is spoken elsewhere.

use percent_encoding::percent_decode;

use super::text::{clean, failure};
use super::Verdict;

/// What is called.
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// The type of requests and responses.
pub const CONTENT_TYPE: &str = "application/grpc";

/// The most bytes of a response's body. Two are enough for all there is to say.
pub const MAX_BODY: usize = 16 * 1024;

/// The length of what stands before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The failure of a response that is not as the protocol has it.
const INVALID: Verdict = Verdict::fail("grpc: invalid response");

/// The body of the request: whether a service is fit to serve; an empty name stands for the server
/// as a whole.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        // Field 1, a string.
        message.push(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    body
}

/// A response, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status of HTTP.
    pub http_status: u16,
    /// The header Content-Type.
    pub content_type: Option<Vec<u8>>,
    /// What stands in grpc-status: behind the body, or before it where there is none.
    pub status: Option<Vec<u8>>,
    /// What stands in grpc-message.
    pub message: Option<Vec<u8>>,
    /// The body. Where it is larger than [`MAX_BODY`], what follows it need not be known.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether its head is one of gRPC; if it is not, that is the verdict, and its body does not
    /// matter.
    pub fn head_verdict(&self) -> Option<Verdict> {
        let is_grpc = self.content_type.as_ref().is_some_and(|content_type| {
            let rest = content_type.get(CONTENT_TYPE.len()..);
            content_type
                .get(..CONTENT_TYPE.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()))
                && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        });
        match self.http_status {
            200 if is_grpc => None,
            200 => Some(Verdict::fail("grpc: not a gRPC response")),
            status => Some(Verdict::Fail(format!("status {status}").into())),
        }
    }

    /// What the whole response means.
    pub fn verdict(&self) -> Verdict {
        if let Some(verdict) = self.head_verdict() {
            return verdict;
        }
        match self.status.as_deref() {
            Some(b"0") => self.serving(),
            Some(b"5") => Verdict::fail("grpc: unknown service"),
            Some(b"12") => Verdict::fail("grpc: no health service"),
            Some(status) => self.failure(status),
            None => INVALID,
        }
    }

    /// The failure that a status other than the usual ones is.
    fn failure(&self, status: &[u8]) -> Verdict {
        // There are 17 of them, and servers may have their own.
        if !(1..=3).contains(&status.len()) || !status.iter().all(u8::is_ascii_digit) {
            return INVALID;
        }
        let message: Vec<u8> = self.message.iter().flat_map(|text| percent_decode(text)).collect();
        if clean(&message, 1).is_empty() {
            let status = String::from_utf8_lossy(status);
            return Verdict::Fail(format!("grpc: status {status}").into());
        }
        failure("grpc", &message)
    }

    /// What the message of a call that went well means.
    fn serving(&self) -> Verdict {
        match self.message_status() {
            Some(1) => Verdict::Pass,
            Some(2) => Verdict::fail("grpc: not serving"),
            Some(3) => Verdict::fail("grpc: unknown service"),
            Some(0) => Verdict::fail("grpc: status unknown"),
            _ => INVALID,
        }
    }

    /// The field `status` of the one message; where it is left out, it is 0. `None`: the body is not
    /// such a message, or it is compressed, which it was not asked to be.
    fn message_status(&self) -> Option<u64> {
        let (prefix, message) = self.body.split_first_chunk::<PREFIX>()?;
        let [0, length @ ..] = prefix else { return None };
        if u32::from_be_bytes(*length) as usize != message.len() {
            return None;
        }
        let mut rest = message;
        let mut status = 0;
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            match (tag >> 3, tag & 7) {
                (0, _) => return None,
                (1, 0) => status = take_varint(&mut rest)?,
                (1, _) => return None,
                // Fields that may be added one day.
                (_, 0) => {
                    take_varint(&mut rest)?;
                }
                (_, 1) => rest = rest.get(8..)?,
                (_, 2) => {
                    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                    rest = rest.get(length..)?;
                }
                (_, 5) => rest = rest.get(4..)?,
                _ => return None,
            }
        }
        Some(status)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a number from the start of `bytes`. `None`: there is none, or it is too long.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(status: &str, message: &str, body: &[u8]) -> Response {
        Response {
            http_status: 200,
            content_type: Some(b"application/grpc".to_vec()),
            status: (!status.is_empty()).then(|| status.into()),
            message: (!message.is_empty()).then(|| message.into()),
            body: body.to_vec(),
        }
    }

    fn body(message: &[u8]) -> Vec<u8> {
        [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    #[test]
    fn requests() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), *b"\0\0\0\0\x04\x0a\x02ab");
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn messages() {
        for (message, verdict) in [
            (&[8, 1][..], Verdict::Pass),
            (&[8, 2], Verdict::fail("grpc: not serving")),
            (&[8, 3], Verdict::fail("grpc: unknown service")),
            (&[8, 0], Verdict::fail("grpc: status unknown")),
            (&[], Verdict::fail("grpc: status unknown")),
            // The last one counts, and fields that are not known are skipped.
            (&[8, 2, 8, 1], Verdict::Pass),
            (&[0x12, 1, b'x', 8, 0x81, 0, 0x18, 0xff, 1, 0x25, 1, 2, 3, 4], Verdict::Pass),
            (&[0x29, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1], Verdict::Pass),
            (&[8, 4], INVALID),
            (&[8], INVALID),
            (&[8, 0x80], INVALID),
            (&[0, 1], INVALID),
            (&[0x0a, 1, 1], INVALID),
            (&[0x0b], INVALID),
            (&[0x12, 2, 1], INVALID),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], INVALID),
            (&[8, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], INVALID),
            (&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], INVALID),
        ] {
            assert_eq!(response("0", "", &body(message)).verdict(), verdict, "{message:?}");
        }
        for body in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8, 1],
            &[0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(response("0", "", body).verdict(), INVALID, "{body:?}");
        }
    }

    #[test]
    fn statuses() {
        let fail = |reason: &'static str| Verdict::fail(reason);
        for (status, message, verdict) in [
            ("5", "x", fail("grpc: unknown service")),
            ("12", "", fail("grpc: no health service")),
            ("16", "", fail("grpc: status 16")),
            ("14", "no%20way%0a!", fail("grpc: no way!")),
            ("2", "%00%0a", fail("grpc: status 2")),
            ("", "", INVALID),
            ("x", "", INVALID),
            ("-1", "", INVALID),
            ("1000", "", INVALID),
        ] {
            assert_eq!(response(status, message, b"").verdict(), verdict, "{status} {message}");
        }
    }

    #[test]
    fn heads() {
        let head = |http_status, content_type: Option<&str>| {
            let content_type = content_type.map(|text| text.as_bytes().to_vec());
            Response { http_status, content_type, ..Response::default() }.head_verdict()
        };
        for good in ["application/grpc", "application/grpc+proto", "Application/gRPC; a=b"] {
            assert_eq!(head(200, Some(good)), None);
        }
        for bad in [None, Some(""), Some("text/html"), Some("application/grpc-web")] {
            assert_eq!(head(200, bad), Some(Verdict::fail("grpc: not a gRPC response")));
        }
        assert_eq!(head(502, Some("text/html")), Some(Verdict::fail("status 502")));
        assert_eq!(head(502, None), Some(Verdict::fail("status 502")));
    }

    proptest! {
        #[test]
        fn any_answer(
            status in prop::collection::vec(any::<u8>(), 0..5),
            message in prop::collection::vec(any::<u8>(), 0..200),
            body in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let response = Response {
                status: Some(status),
                message: Some(message),
                body,
                ..response("", "", b"")
            };
            if let Verdict::Fail(reason) = response.verdict() {
                prop_assert!(reason.len() <= 63);
                prop_assert!(!reason.chars().any(char::is_control));
            }
        }

        #[test]
        fn any_message(message in prop::collection::vec(any::<u8>(), 0..40)) {
            response("0", "", &body(&message)).verdict();
        }

        #[test]
        fn numbers(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
