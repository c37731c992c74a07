//! The lines of a `checkups_match` block, and the answers to which they apply.
//!
//! An input has a line of the block in each of its lines, with tabs between the words. Behind an
//! empty line comes the answer: a status as two bytes, headers, another empty line, a body.
#![no_main]

use fastrand::Rng;
use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::directive::MatchBlock;
use ngx_checkups::logic::matching::{HttpRules, Match, TcpRules};
use ngx_checkups::logic::probe::Verdict;
use ngx_checkups_fuzz::memory;
use ngx_checkups_fuzz::talk::check_message;

/// The most memory in which a line may be read: mostly that for the automaton of a pattern.
const MOST_WORK: usize = 64 << 20;

/// The most lines: an automaton takes its time.
const MOST_LINES: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((block, answer)) = at(input, b"\n\n") else { return };
    let Some(block) = read(block) else { return };
    if let Some(rules) = block.http() {
        http(rules, answer);
    }
    if let Some(rules) = block.tcp() {
        tcp(rules, answer);
    }
});

fn read(lines: &[u8]) -> Option<Match> {
    let mut block = MatchBlock::new(&[b"name"]).unwrap();
    for line in lines.split(|byte| *byte == b'\n').take(MOST_LINES) {
        let words: Vec<_> = line.split(|byte| *byte == b'\t').collect();
        let (taken, peak) = memory::peak_of(|| block.line(&words));
        assert!(peak <= MOST_WORK, "{peak} bytes of memory");
        if let Err(error) = taken {
            assert!(!error.to_string().is_empty());
            return None;
        }
    }
    Some(block.finish().unwrap())
}

fn http(rules: &HttpRules, answer: &[u8]) {
    let Some((status, answer)) = answer.split_first_chunk() else { return };
    let (head, body) = at(answer, b"\n\n").unwrap_or((answer, b""));
    let headers = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = at(line, b":")?;
        Some((std::str::from_utf8(name).ok()?, value))
    });
    if let Some(reason) = rules.failure(u16::from_be_bytes(*status), headers) {
        check_message(&Verdict::Fail(reason.into()));
    }

    let Some(mut whole) = rules.body() else { return };
    let whole = whole.feed(body).unwrap_or_else(|| whole.end());
    let each = rules.bodies.iter().all(|rule| rule.pattern.is_in(body) == rule.wanted);
    assert_eq!(whole, each, "each by itself");
    let mut in_pieces = rules.body().unwrap();
    let early = pieces(body).find_map(|piece| in_pieces.feed(piece));
    assert_eq!(early.unwrap_or_else(|| in_pieces.end()), whole, "cut into pieces");
}

fn tcp(rules: &TcpRules, answer: &[u8]) {
    let Some(expect) = &rules.expect else { return };
    let mut whole = expect.search();
    let whole = whole.feed(answer).unwrap_or_else(|| whole.end());
    let mut in_pieces = expect.search();
    let early = pieces(answer).find_map(|piece| in_pieces.feed(piece));
    assert_eq!(early.unwrap_or_else(|| in_pieces.end()), whole, "cut into pieces");
}

/// The bytes in pieces, often of one byte.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Rng::with_seed(bytes.len() as u64);
    std::iter::from_fn(move || {
        let length = random.usize(1..=3).pow(random.u32(0..3)).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What stands before and behind the first `mark`.
fn at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..place], &bytes[place + mark.len()..]))
}
