//! Checks of what a server says over a bare connection: something is sent, something is expected,
//! both or neither.

use super::{Step, Verdict};
use crate::logic::matching::{Expect, Search, Text};
use crate::logic::settings;

/// The most of an answer that is looked at, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// The failure of an answer in which there is not, and will not be, what is expected.
const UNEXPECTED: Verdict = Verdict::fail("answer does not match");

/// A connection, and what is said over it.
#[derive(Debug)]
pub struct TcpProbe {
    send: Option<Vec<u8>>,
    expect: Option<Search>,
    /// So many bytes of the answer were looked at.
    seen: usize,
}

impl TcpProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::TcpProbe) -> Self {
        let rules = settings.matching.as_ref().and_then(|matching| matching.tcp());
        let send = rules.map_or(&settings.send, |rules| &rules.send).as_ref();
        let expect = rules.map_or(&settings.expect, |rules| &rules.expect).as_ref();
        Self {
            send: send.map(Text::bytes).map(<[u8]>::to_vec),
            expect: expect.map(Expect::search),
            seen: 0,
        }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        match (self.send.take(), &self.expect) {
            (None, None) => Step::Done(Verdict::Pass),
            (None, Some(_)) => Step::Receive,
            (Some(bytes), Some(_)) => Step::Send(bytes),
            (Some(bytes), None) => Step::Farewell(bytes, Verdict::Pass),
        }
    }

    /// See [`super::Probe::feed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        let Some(search) = &mut self.expect else { return Step::Done(Verdict::Pass) };
        let looked_at = &bytes[..bytes.len().min(MAX_ANSWER - self.seen)];
        self.seen += looked_at.len();
        match search.feed(looked_at) {
            Some(true) => Step::Done(Verdict::Pass),
            Some(false) => Step::Done(UNEXPECTED),
            None if !bytes.is_empty() && self.seen < MAX_ANSWER => Step::Receive,
            None if search.end() => Step::Done(Verdict::Pass),
            None if bytes.is_empty() => {
                Step::Done(Verdict::fail("closed before the expected answer"))
            }
            None => Step::Done(UNEXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::matching::{Match, Pattern, Rules, TcpRules};
    use proptest::prelude::*;
    use std::rc::Rc;

    const PASS: Step = Step::Done(Verdict::Pass);

    fn probe(send: Option<&str>, expect: Option<&str>) -> TcpProbe {
        let text = |text: &str| Text::new(text.as_bytes()).unwrap();
        let expect = expect.map(|expect| Expect::text(&text(expect)).unwrap());
        TcpProbe::new(&settings::TcpProbe { send: send.map(text), expect, matching: None })
    }

    fn matching(expect: &str) -> TcpProbe {
        let expect = Expect::pattern(Pattern::regex(expect, false).unwrap());
        let rules = TcpRules { send: Text::new(b"x"), expect };
        let matching = Match::new("m".to_owned(), Vec::new(), Rules::Tcp(rules));
        let matching = Some(Rc::new(matching));
        TcpProbe::new(&settings::TcpProbe { matching, ..Default::default() })
    }

    fn play(probe: &mut TcpProbe, pieces: &[&[u8]]) -> Step {
        let mut steps = pieces.iter().map(|piece| probe.feed(piece));
        steps.find(|step| *step != Step::Receive).unwrap_or(Step::Receive)
    }

    #[test]
    fn what_is_sent() {
        assert_eq!(probe(None, None).connected(), PASS);
        assert_eq!(probe(None, Some("a")).connected(), Step::Receive);
        assert_eq!(probe(Some("a"), Some("b")).connected(), Step::Send(b"a".to_vec()));
        let farewell = Step::Farewell(b"a\0".to_vec(), Verdict::Pass);
        assert_eq!(probe(Some(r"a\x00"), None).connected(), farewell);
        assert_eq!(matching("a").connected(), Step::Send(b"x".to_vec()));
    }

    #[test]
    fn what_is_expected() {
        let closed = Step::Done(Verdict::fail("closed before the expected answer"));
        let other = Step::Done(UNEXPECTED);
        let text = || probe(None, Some("PONG"));
        assert_eq!(play(&mut text(), &[b"+PONG"]), PASS);
        assert_eq!(play(&mut text(), &[b"+PO", b"NG"]), PASS);
        assert_eq!(play(&mut text(), &[b"+PO", b"NX"]), Step::Receive);
        assert_eq!(play(&mut text(), &[b"+PO", b""]), closed);
        assert_eq!(play(&mut text(), &[b""]), closed);
        let almost = [&vec![b'x'; MAX_ANSWER - 4][..], b"PONG"].concat();
        let late = [&vec![b'x'; MAX_ANSWER - 3][..], b"PONG"].concat();
        assert_eq!(play(&mut text(), &[&almost]), PASS);
        assert_eq!(play(&mut text(), &[&late]), other);
        assert_eq!(play(&mut text(), &late.chunks(1).collect::<Vec<_>>()), other);

        assert_eq!(play(&mut matching("^220 "), &[b"220", b" "]), PASS);
        assert_eq!(play(&mut matching("^220 "), &[b"554 no"]), other);
        assert_eq!(play(&mut matching("ok$"), &[b"ok"]), Step::Receive);
        assert_eq!(play(&mut matching("ok$"), &[b"ok", b""]), PASS);
        assert_eq!(play(&mut matching("ok$"), &[b"ok.", b""]), closed);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_verdict(
            bytes in prop::collection::vec(prop::sample::select(b"20 \r\n\xff".as_slice()), 1..30),
            cut in any::<prop::sample::Index>(),
            expect in prop::sample::select(vec!["^220", "20$", "(?m)2$", r"2\b", r"\xff\xff", "0.+2"]),
        ) {
            let whole = play(&mut matching(expect), &[&bytes, b""]);
            prop_assert!(matches!(whole, Step::Done(_)));
            let (start, end) = bytes.split_at(cut.index(bytes.len()));
            let pieces: Vec<_> = [start, end].into_iter().filter(|part| !part.is_empty()).collect();
            let split = play(&mut matching(expect), &[&pieces[..], &[b""]].concat());
            prop_assert_eq!(&split, &whole);
            let single: Vec<_> = bytes.chunks(1).chain([&b""[..]]).collect();
            prop_assert_eq!(&play(&mut matching(expect), &single), &whole);
        }
    }
}
