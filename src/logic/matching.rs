//! `checkups_match`: what the answer to a check has to be like.
//!
//! A pattern becomes an automaton when the configuration is read. So each byte of an answer costs the
//! same, whatever the pattern and whoever answers; an answer is searched while it arrives, and need
//! not be kept. A pattern whose automaton would be too large is refused.

use std::error::Error;
use std::fmt;
use std::rc::Rc;

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::Anchored;
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::settings::Statuses;

/// The largest automaton of a pattern, in bytes.
const MAX_AUTOMATON: usize = 4 << 20;

/// The most memory to make one in, in bytes.
const MAX_WORK: usize = 16 << 20;

/// The longest text to look for, in bytes.
const MAX_TEXT: usize = 1024;

/// The longest name of a header in a message. With the words around it, it fits into what is kept
/// of a message.
const MAX_SHOWN: usize = 39;

/// The conditions of one `checkups_match` block. Two are equal if they are written alike.
#[derive(Clone, Debug)]
pub struct Match {
    name: String,
    written: Vec<String>,
    rules: Rules,
}

/// What a block says.
#[derive(Clone, Debug)]
pub enum Rules {
    /// For checks of type http and https.
    Http(HttpRules),
    /// For checks of type tcp.
    Tcp(TcpRules),
}

/// Conditions of an HTTP response: all of them have to hold, and nothing else has to. Without a
/// condition of the status any is good.
#[derive(Clone, Debug, Default)]
pub struct HttpRules {
    /// `status`.
    pub status: Option<StatusRule>,
    /// `header`.
    pub headers: Vec<HeaderRule>,
    /// `body`.
    pub bodies: Vec<BodyRule>,
}

/// Which statuses are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRule {
    /// The good ones; `None`: all.
    pub good: Option<Statuses>,
    /// The bad ones among them.
    pub bad: Statuses,
}

/// What a header has to be like.
#[derive(Clone, Debug)]
pub struct HeaderRule {
    /// Its name; upper and lower case are the same.
    pub name: String,
    /// The condition.
    pub test: HeaderTest,
}

/// A condition of a header. It may occur several times in a response: each has a value of its own.
#[derive(Clone, Debug)]
pub enum HeaderTest {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// One of its values is this.
    Is(Vec<u8>),
    /// None of its values is this; it may be absent.
    IsNot(Vec<u8>),
    /// This is in one of its values.
    Has(Pattern),
    /// This is in none of its values; it may be absent.
    HasNot(Pattern),
}

/// What the body has to be like.
#[derive(Clone, Debug)]
pub struct BodyRule {
    /// What is looked for.
    pub pattern: Pattern,
    /// Whether it has to be there, or must not.
    pub wanted: bool,
}

/// What is sent over a connection and what has to come back.
#[derive(Clone, Debug, Default)]
pub struct TcpRules {
    /// What is sent first.
    pub send: Option<Text>,
    /// What has to be in the answer.
    pub expect: Option<Expect>,
}

impl Match {
    /// A block of this name, with its lines as they are written.
    pub fn new(name: String, written: Vec<String>, rules: Rules) -> Self {
        Self { name, written, rules }
    }

    /// The name of the block.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is for checks of type http and https: it has `status`, `header` or `body`.
    pub fn is_for_http(&self) -> bool {
        matches!(self.rules, Rules::Http(_))
    }

    /// Whether it is for checks of type tcp: it has `send` or `expect`.
    pub fn is_for_tcp(&self) -> bool {
        matches!(self.rules, Rules::Tcp(_))
    }

    /// The conditions of a response; `None`: it is not for HTTP.
    pub fn http(&self) -> Option<&HttpRules> {
        match &self.rules {
            Rules::Http(rules) => Some(rules),
            Rules::Tcp(_) => None,
        }
    }

    /// What is sent and expected; `None`: it is not for checks of type tcp.
    pub fn tcp(&self) -> Option<&TcpRules> {
        match &self.rules {
            Rules::Http(_) => None,
            Rules::Tcp(rules) => Some(rules),
        }
    }
}

impl PartialEq for Match {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.written) == (&other.name, &other.written)
    }
}

impl HttpRules {
    /// Why the head of a response is not as it should be, in at most 63 bytes; `None`: it is.
    pub fn failure<'a, H>(&self, status: u16, headers: H) -> Option<String>
    where
        H: Iterator<Item = (&'a str, &'a [u8])> + Clone,
    {
        if self.status.as_ref().is_some_and(|rule| !rule.holds(status)) {
            return Some(format!("status {status}"));
        }
        let broken = self.headers.iter().find(|rule| !rule.holds(headers.clone()))?;
        // A header has no bytes in its name but those of ASCII.
        Some(match broken.name.get(..MAX_SHOWN) {
            Some(start) if start.len() < broken.name.len() => {
                format!("header \"{}...\" does not match", &start[..MAX_SHOWN - 3])
            }
            _ => format!("header \"{}\" does not match", broken.name),
        })
    }

    /// The search for what the body has to have; `None`: the body does not matter.
    pub fn body(&self) -> Option<BodySearch> {
        let searches = |rule: &BodyRule| (rule.pattern.search(), rule.wanted);
        let searches: Vec<_> = self.bodies.iter().map(searches).collect();
        (!searches.is_empty()).then_some(BodySearch(searches))
    }
}

impl StatusRule {
    fn holds(&self, status: u16) -> bool {
        self.good.as_ref().is_none_or(|good| good.contains(status)) && !self.bad.contains(status)
    }
}

impl HeaderRule {
    fn holds<'a>(&self, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> bool {
        let mut values = headers
            .filter(|(name, _)| name.eq_ignore_ascii_case(&self.name))
            .map(|(_, value)| value);
        match &self.test {
            HeaderTest::Present => values.next().is_some(),
            HeaderTest::Absent => values.next().is_none(),
            HeaderTest::Is(wanted) => values.any(|value| value == wanted),
            HeaderTest::IsNot(unwanted) => !values.any(|value| value == unwanted),
            HeaderTest::Has(pattern) => values.any(|value| pattern.is_in(value)),
            HeaderTest::HasNot(pattern) => !values.any(|value| pattern.is_in(value)),
        }
    }
}

/// The conditions of a body, while it arrives.
#[derive(Debug)]
pub struct BodySearch(Vec<(Search, bool)>);

impl BodySearch {
    /// Takes the next bytes of the body. `Some`: whatever follows, this is whether the body is as it
    /// should be.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<bool> {
        let mut holds = Some(true);
        for (search, wanted) in &mut self.0 {
            match search.feed(bytes) {
                Some(found) if found != *wanted => return Some(false),
                Some(_) => {}
                None => holds = None,
            }
        }
        holds
    }

    /// The body is over: whether it is as it should be.
    pub fn end(&self) -> bool {
        self.0.iter().all(|(search, wanted)| search.end() == *wanted)
    }
}

/// Bytes as an operator writes them: `\xHH` stands for the byte of that number and `\\` for a
/// backslash; all else stands for itself. It is shown as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    written: String,
    bytes: Vec<u8>,
}

impl Text {
    /// The bytes that are written like this. `None`: nothing is written, or a backslash is followed
    /// by something else.
    pub fn new(written: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(written.len());
        let mut rest = written;
        while let Some((&first, tail)) = rest.split_first() {
            let (byte, tail) = match (first, tail) {
                (b'\\', [b'\\', tail @ ..]) => (b'\\', tail),
                (b'\\', [b'x', high, low, tail @ ..]) => {
                    let digit = |byte: &u8| char::from(*byte).to_digit(16);
                    (u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, tail)
                }
                (b'\\', _) => return None,
                other => other,
            };
            bytes.push(byte);
            rest = tail;
        }
        (!bytes.is_empty()).then(|| Self { written: shown(written), bytes })
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is written, as text: where it is none, its bytes are written as an operator could.
fn shown(written: &[u8]) -> String {
    let escaped = |byte: &u8| match byte {
        0..=127 => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    match std::str::from_utf8(written) {
        Ok(text) => text.to_owned(),
        Err(_) => written.iter().map(escaped).collect(),
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

/// What has to be in the answer over a connection. Two are equal if they are written alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expect(Pattern);

impl Expect {
    /// An answer that has this text somewhere.
    ///
    /// # Errors
    /// Where the text is too long.
    pub fn text(text: &Text) -> Result<Self, PatternError> {
        Pattern::text(text).map(Self)
    }

    /// An answer that has this pattern somewhere. `None`: even no answer at all would have it.
    pub fn pattern(pattern: Pattern) -> Option<Self> {
        (!pattern.is_in(b"")).then_some(Self(pattern))
    }

    /// Begins to look for it.
    pub fn search(&self) -> Search {
        self.0.search()
    }
}

/// Why a pattern is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// It is not what the syntax admits.
    #[error("{0}")]
    Syntax(String),
    /// It is about characters that are not of ASCII, in a class or by their properties.
    #[error("it is about bytes, and cannot have classes or properties of Unicode")]
    Unicode,
    /// A text of more than [`MAX_TEXT`] bytes.
    #[error("it is longer than {MAX_TEXT} bytes")]
    Long,
    /// Its automaton has too many states.
    #[error("too many ways to match it, write .* in place of counts such as .{{0,100}}")]
    Large,
}

/// What is looked for in bytes. Two are equal if they are written alike.
#[derive(Clone)]
pub struct Pattern {
    written: Rc<str>,
    automaton: Rc<ByteAutomaton>,
}

struct ByteAutomaton {
    table: DFA<Vec<u32>>,
    start: StateID,
}

impl Pattern {
    /// A regular expression in the syntax of the crate `regex`. It is about bytes, as those of
    /// nginx are: `.` is any byte but the end of a line, and `\w`, `\d` and `\s` are of ASCII.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn regex(written: &str, ignore_case: bool) -> Result<Self, PatternError> {
        let tilde = if ignore_case { "~*" } else { "~" };
        Self::new(written, ignore_case, format!("{tilde} {written}"))
    }

    fn text(text: &Text) -> Result<Self, PatternError> {
        if text.bytes.len() > MAX_TEXT {
            return Err(PatternError::Long);
        }
        let escaped: String = text.bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        Self::new(&escaped, false, text.written.clone())
    }

    fn new(pattern: &str, ignore_case: bool, written: String) -> Result<Self, PatternError> {
        let syntax = syntax::Config::new().unicode(false).utf8(false).case_insensitive(ignore_case);
        let nfa = thompson::Config::new()
            .utf8(false)
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(MAX_AUTOMATON));
        let table = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_AUTOMATON))
            .determinize_size_limit(Some(MAX_WORK));
        let table = dense::Builder::new()
            .syntax(syntax)
            .thompson(nfa)
            .configure(table)
            .build(pattern)
            .map_err(|error| syntax_error(&error))?;
        let start = start::Config::new().anchored(Anchored::No);
        let start = table.start_state(&start).map_err(|_| PatternError::Large)?;
        Ok(Self { written: written.into(), automaton: Rc::new(ByteAutomaton { table, start }) })
    }

    /// Begins to look for it.
    pub fn search(&self) -> Search {
        Search { automaton: self.automaton.clone(), state: self.automaton.start, found: None }
    }

    /// Whether it is in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let mut search = self.search();
        search.feed(bytes).unwrap_or_else(|| search.end())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.written).finish()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

/// The parser shows the pattern with a mark below it; its last line says what is wrong.
fn syntax_error(error: &dense::BuildError) -> PatternError {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let last = text.lines().last().unwrap_or_default();
    match last.strip_prefix("error: ") {
        _ if last.contains("Unicode") => PatternError::Unicode,
        Some(reason) => PatternError::Syntax(reason.to_owned()),
        // Only the parser begins like this; what comes after it complains of size.
        None => PatternError::Large,
    }
}

/// A pattern that is looked for in bytes while they arrive.
pub struct Search {
    automaton: Rc<ByteAutomaton>,
    state: StateID,
    found: Option<bool>,
}

impl Search {
    /// Takes the next bytes. `Some`: whatever follows, this is whether the pattern is in them.
    ///
    /// What it comes to does not depend on how the bytes are split: the end of the pieces is not the
    /// end that `$` and `\z` mean.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<bool> {
        if self.found.is_some() {
            return self.found;
        }
        let table = &self.automaton.table;
        let mut state = self.state;
        for byte in bytes {
            state = table.next_state(state, *byte);
            if table.is_special_state(state) {
                if table.is_match_state(state) {
                    self.found = Some(true);
                    return self.found;
                }
                if table.is_dead_state(state) || table.is_quit_state(state) {
                    self.found = Some(false);
                    return self.found;
                }
            }
        }
        self.state = state;
        // The automaton says that it has found something when it sees what comes behind it, as that
        // may matter to `$` or `\b`. A server that has said all may be waiting for us: if none of
        // those is at stake, there is no need to see more. They tell apart: the end, the ends of
        // lines, what is part of a word, and the rest.
        let ends = table.is_match_state(table.next_eoi_state(state));
        let goes_on = |byte: &u8| table.is_match_state(table.next_state(state, *byte));
        if ends && b"\n\r_ ".iter().all(goes_on) {
            self.found = Some(true);
        }
        self.found
    }

    /// There are no more bytes: whether the pattern is in them.
    pub fn end(&self) -> bool {
        let table = &self.automaton.table;
        self.found.unwrap_or_else(|| table.is_match_state(table.next_eoi_state(self.state)))
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("found", &self.found).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn regex(written: &str) -> Pattern {
        Pattern::regex(written, false).unwrap()
    }

    #[test]
    fn texts() {
        for (written, bytes) in [
            (&b"PING\r\n"[..], &b"PING\r\n"[..]),
            (br"\x00\xfF\x41b", b"\0\xffAb"),
            (br"\\x41", br"\x41"),
            (b"\xe4", b"\xe4"),
        ] {
            assert_eq!(Text::new(written).unwrap().bytes(), bytes);
        }
        for written in [&b""[..], br"\", br"a\n", br"\x4", br"\x4g", br"\xx41"] {
            assert_eq!(Text::new(written), None);
        }
        let text = Text::new(br"\x41\xff").unwrap();
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""\\x41\\xff""#);
        assert_eq!(Text::new(b"a\\x41\xe4").unwrap().written, r"a\x41\xe4");
        let expect = Expect::text(&text).unwrap();
        assert_eq!(serde_json::to_string(&expect).unwrap(), r#""\\x41\\xff""#);
    }

    #[test]
    fn a_text_may_be_long() {
        let long: Vec<u8> = (0..1024_u32).map(|at| (at * 7 % 251) as u8 | 0x80).collect();
        let pattern = Pattern::text(&Text::new(&long).unwrap()).unwrap();
        assert!(pattern.is_in(&[b"xx", &long[..], b"yy"].concat()));
        assert!(!pattern.is_in(&long[1..]));
        let error = Expect::text(&Text::new(&[b'a'; 1025]).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1024 bytes");
    }

    #[test]
    fn patterns() {
        for (written, bytes, is_in) in [
            ("ok", &b"it is ok"[..], true),
            ("OK", b"ok", false),
            ("^ok$", b"ok", true),
            ("^ok$", b"ok\n", false),
            ("(?m)^ok$", b"a\nok\nb", true),
            (r"\bok\b", b"not ok.", true),
            (r"\bok\b", b"token", false),
            ("a.b", b"a\nb", false),
            ("(?s)a.b", b"a\nb", true),
            ("a.b", b"a\xffb", true),
            (r"\xff", b"\xff", true),
            ("\u{e4}", b"\xc3\xa4", true),
            (r"\d{3}", b"12 345", true),
            (r#""status"\s*:\s*"(up|ok)""#, b"{\"status\" : \"up\"}", true),
            ("", b"", true),
        ] {
            assert_eq!(regex(written).is_in(bytes), is_in, "{written}");
        }
        assert!(Pattern::regex("ok", true).unwrap().is_in(b"OK"));
        assert!(!regex("^$").is_in(b"x") && Expect::pattern(regex(".*")).is_none());
        assert!(Expect::pattern(regex("^.")).is_some());
    }

    #[test]
    fn pattern_errors_have_one_line() {
        const UNICODE: &str = "it is about bytes, and cannot have classes or properties of Unicode";
        const LARGE: &str =
            "too many ways to match it, write .* in place of counts such as .{0,100}";
        for (written, error) in [
            ("a(b", "unclosed group"),
            ("[a", "unclosed character class"),
            ("*", "repetition operator missing expression"),
            (r"(a)\1", "backreferences are not supported"),
            ("(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
            (r"\pL", UNICODE),
            ("[\u{e4}]", UNICODE),
            (r"(?u)\bx", UNICODE),
            ("<title>.{0,50}</title>", LARGE),
            ("((a{100}){100}){100}", LARGE),
        ] {
            let found = Pattern::regex(written, false).unwrap_err().to_string();
            assert_eq!(found, error, "{written}");
        }
    }

    #[test]
    fn a_search_ends_as_soon_as_it_can() {
        let found = |written, bytes: &[u8]| regex(written).search().feed(bytes);
        assert_eq!(found("^220", b"220"), Some(true));
        assert_eq!(found("^220", b"22"), None);
        assert_eq!(found("^220", b"23"), Some(false));
        assert_eq!(found("220", b"23"), None);
        assert_eq!(found("ok$", b"ok"), None);
        assert_eq!(found(r"ok\b", b"ok"), None);
        assert_eq!(found(r"ok\b", b"ok."), Some(true));
        assert_eq!(found("(?m)ok$", b"ok"), None);
        assert_eq!(found("(?m)ok$", b"ok\n"), Some(true));
    }

    fn headers() -> Vec<(&'static str, &'static [u8])> {
        vec![
            ("Content-Type", b"text/html"),
            ("X-Node", b"a"),
            ("x-node", b"b1"),
            ("X-Raw", b"\xff"),
        ]
    }

    #[test]
    fn header_rules() {
        use HeaderTest::{Absent, Has, HasNot, Is, IsNot, Present};
        for (name, test, holds) in [
            ("content-type", Present, true),
            ("X", Present, false),
            ("X", Absent, true),
            ("X-NODE", Absent, false),
            ("Content-Type", Is(b"text/html".to_vec()), true),
            ("Content-Type", Is(b"text".to_vec()), false),
            ("X-Node", Is(b"b1".to_vec()), true),
            ("X-Node", IsNot(b"b1".to_vec()), false),
            ("X-Node", IsNot(b"c".to_vec()), true),
            ("X", Is(b"".to_vec()), false),
            ("X", IsNot(b"a".to_vec()), true),
            ("X-Node", Has(regex(r"^b\d$")), true),
            ("X-Node", HasNot(regex(r"\d")), false),
            ("X-Node", HasNot(regex("c")), true),
            ("X", Has(regex("")), false),
            ("X", HasNot(regex("")), true),
            ("X-Raw", Has(regex(r"\xff")), true),
        ] {
            let rule = HeaderRule { name: name.to_owned(), test };
            assert_eq!(rule.holds(headers().into_iter()), holds, "{rule:?}");
        }
    }

    #[test]
    fn failures() {
        let statuses = |ranges: &[(u16, u16)]| Statuses(ranges.to_vec());
        let header = |name: &str| HeaderRule { name: name.to_owned(), test: HeaderTest::Present };
        let status =
            StatusRule { good: Some(statuses(&[(200, 399)])), bad: statuses(&[(301, 303)]) };
        let rules = HttpRules {
            status: Some(status),
            headers: vec![header("X-Node"), header("X-Other")],
            bodies: Vec::new(),
        };
        let failure = |status| rules.failure(status, headers().into_iter());
        assert_eq!(failure(302).as_deref(), Some("status 302"));
        assert_eq!(failure(503).as_deref(), Some("status 503"));
        assert_eq!(failure(200).as_deref(), Some("header \"X-Other\" does not match"));

        let bad = StatusRule { good: None, bad: statuses(&[(500, 599)]) };
        let rules = HttpRules { status: Some(bad), ..Default::default() };
        assert_eq!(rules.failure(404, headers().into_iter()), None);
        assert_eq!(rules.failure(500, headers().into_iter()).as_deref(), Some("status 500"));

        let long = HttpRules { headers: vec![header(&"x".repeat(40))], ..Default::default() };
        let message = long.failure(200, headers().into_iter()).unwrap();
        assert_eq!(message, format!("header \"{}...\" does not match", "x".repeat(36)));
        let fits = HttpRules { headers: vec![header(&"x".repeat(39))], ..Default::default() };
        assert_eq!(fits.failure(200, headers().into_iter()).unwrap().len(), 63);
        assert_eq!(message.len(), 63);
    }

    #[test]
    fn bodies() {
        let body = |written, wanted| BodyRule { pattern: regex(written), wanted };
        let rules = HttpRules {
            bodies: vec![body("ok", true), body("error", false)],
            ..Default::default()
        };
        let mut search = rules.body().unwrap();
        assert_eq!(search.feed(b"it is o"), None);
        assert!(!search.end());
        assert_eq!(search.feed(b"k"), None);
        assert!(search.end());
        assert_eq!(search.feed(b", no err"), None);
        assert_eq!(search.feed(b"or"), Some(false));
        assert!(HttpRules::default().body().is_none());
        let rules = HttpRules { bodies: vec![body("ok", true)], ..Default::default() };
        assert_eq!(rules.body().unwrap().feed(b"ok"), Some(true));
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same(
            bytes in prop::collection::vec(prop::sample::select(b"ab \n\r_.".as_slice()), 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            pattern in prop::sample::select(vec![
                "ab", "^ab", "ab$", r"\bab\b", r"a\B", "(?m)^ab$", "(?mR)^ab$", "a|b$", r"(?s)a.*b",
                r"\Aa", r"b\z", "a\\b|a_", "(?:a|b)\\b{end}", "", "(?i)AB",
            ]),
        ) {
            let pattern = regex(pattern);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut search = pattern.search();
            let mut found = None;
            for pair in cuts.windows(2) {
                let now = search.feed(&bytes[pair[0]..pair[1]]);
                prop_assert!(found.is_none() || now == found);
                found = now;
            }
            let whole = pattern.is_in(&bytes);
            prop_assert_eq!(search.end(), whole);
            prop_assert!(found.is_none_or(|found| found == whole));
        }

        #[test]
        fn any_text_is_found(
            text in prop::collection::vec(1_u8.., 1..20),
            before in prop::collection::vec(any::<u8>(), 0..20),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let written: Vec<u8> =
                text.iter().flat_map(|byte| format!("\\x{byte:02X}").into_bytes()).collect();
            let expect = Expect::text(&Text::new(&written).unwrap()).unwrap();
            let mut search = expect.search();
            search.feed(&before);
            prop_assert_eq!(search.feed(&text), Some(true));
            let bytes = [before, text.clone(), after].concat();
            let (start, end) = bytes.split_at(text.len() - 1);
            let holds = bytes.windows(text.len()).any(|window| window == text);
            let mut search = expect.search();
            search.feed(start);
            search.feed(end);
            prop_assert_eq!(search.end(), holds);
        }
    }
}
