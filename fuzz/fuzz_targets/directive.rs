//! The words of the directives. An input has a word in each line; the first one names the directive.
#![no_main]

use std::fmt::Debug;
use std::str;

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::directive::{self, DirectiveError};
use ngx_checkups::logic::probe::{Probe, Step};
use ngx_checkups::logic::settings::{
    is_cluster_name, is_level_name, is_token, Check, Probe as Protocol,
};

fuzz_target!(|input: &[u8]| {
    let mut words = input.split(|byte| *byte == b'\n');
    let name = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    match name {
        b"check" => {
            let check = directive::check(&words);
            passwords_are_kept(&words, &format!("{check:?}"));
            if let Some(Some(check)) = accepted(check) {
                let check = check.complete("upstream.name", None, None).unwrap();
                passwords_are_kept(&words, &serde_json::to_string(&check).unwrap());
                requests_are_whole(&check);
            }
        }
        b"cluster" => {
            if let Some(cluster) = accepted(directive::cluster(&words)) {
                assert!(cluster.name.is_none_or(|name| is_cluster_name(&name)));
            }
        }
        b"level" => {
            if let Some(level) = accepted(directive::level(&words)) {
                assert!(is_level_name(&level.name));
            }
        }
        b"level_from" => {
            if let Some(from) = accepted(directive::level_from(&words)) {
                assert!(is_level_name(&from.level.name));
            }
        }
        b"balance" => drop(accepted(directive::balance(&words))),
        b"fail_status" => {
            if let Some(statuses) = accepted(directive::fail_status(&words)) {
                assert_eq!(statuses.0.len(), words.len());
                for (first, last) in statuses.0 {
                    assert!(100 <= first && first <= last && last <= 599);
                }
            }
        }
        b"server" => drop(accepted(directive::server(&words))),
        b"api" => drop(accepted(directive::api(&words))),
        b"zone" => drop(words.first().and_then(|word| accepted(directive::zone(word)))),
        _ => {}
    }
});

/// What was parsed, if it was. A refusal has a reason.
fn accepted<T: Debug>(result: Result<T, DirectiveError>) -> Option<T> {
    result.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// A password is not in what is shown. It is told by a text that nothing else has.
fn passwords_are_kept(words: &[&[u8]], shown: &str) {
    const SECRET: &str = "@@@@@@@@";
    let mut with_it = words
        .iter()
        .filter(|word| word.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    if with_it.all(|word| word.starts_with(b"password=")) {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

/// What an operator writes cannot become more than he sees: a request has the lines that it should.
fn requests_are_whole(check: &Check) {
    let (Protocol::Http(_), Some(mut probe)) = (&check.probe, Probe::new(check)) else { return };
    let Step::Send(request) = probe.connected() else { panic!("no request") };
    let request = str::from_utf8(&request).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next().unwrap().split(' ').count(), 3);
    let mut length = 0;
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        assert!(is_token(name), "{name:?}");
        assert!(!value.chars().any(|c| c.is_ascii_control() && c != '\t'), "{value:?}");
        if name.eq_ignore_ascii_case("Content-Length") {
            length = value.parse().unwrap();
        }
    }
    assert_eq!(body.len(), length);
}
