//! What a gRPC server says of its health. HTTP/2 itself is read by the crate h2.
//!
//! An input has in its first lines the status of HTTP, Content-Type, grpc-status and grpc-message, of
//! which those that are empty are not there, and then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::probe::grpc::{request, Response};
use ngx_checkups::logic::probe::Verdict;
use ngx_checkups_fuzz::talk::check_message;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let http_status = line().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let mut owned = || line().map(<[u8]>::to_vec);
    let response = Response {
        http_status: http_status.unwrap_or(200),
        content_type: owned(),
        status: owned(),
        message: owned(),
        body: owned().unwrap_or_default(),
    };

    let verdict = response.verdict();
    check_message(&verdict);
    if let Some(early) = response.head_verdict() {
        assert_eq!(early, verdict);
    }
    if verdict == Verdict::Pass {
        assert_eq!((response.http_status, response.status.as_deref()), (200, Some(&b"0"[..])));
    }
    // Servers write the field if it is not 0, and nothing else.
    if let ([0, 0, 0, 0, 2, 8, status], Some(b"0"), None) =
        (&response.body[..], response.status.as_deref(), response.head_verdict())
    {
        assert_eq!(verdict == Verdict::Pass, *status == 1);
    }

    let service = String::from_utf8_lossy(&response.body);
    let request = request(&service);
    let (prefix, message) = request.split_first_chunk::<5>().unwrap();
    assert_eq!(*prefix, (message.len() as u64).to_be_bytes()[3..]);
    assert!(message.ends_with(service.as_bytes()));
});
