//! `checkups_match` and the conditions in its block.

use std::str;

use thiserror::Error;

use super::cluster::fail_status;
use super::{DirectiveError, Result, Word};
use crate::logic::matching::{
    BodyRule, Expect, HeaderRule, HeaderTest, HttpRules, Match, Pattern, PatternError, Rules,
    StatusRule, TcpRules, Text,
};
use crate::logic::settings::{is_cluster_name, is_token, Statuses, MAX_NAME};

/// What is wrong with a `checkups_match` block or with a condition in it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MatchError {
    /// A name that no block can have.
    #[error(
        "invalid name \"{name}\", it must be 1 to {MAX_NAME} letters, digits and the characters . \
         _ : -"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A word that begins no condition.
    #[error("unknown condition \"{word}\", allowed are status, header, body, send and expect")]
    Unknown {
        /// The word.
        word: String,
    },
    /// A condition of another form.
    #[error("invalid condition \"{line}\", it must be {allowed}")]
    Form {
        /// The condition.
        line: String,
        /// The forms there are.
        allowed: &'static str,
    },
    /// A condition that was given before, or another of which there is one.
    #[error("duplicate condition \"{line}\"")]
    Duplicate {
        /// The condition.
        line: String,
    },
    /// What is looked for cannot be.
    #[error("invalid {what} \"{word}\": {reason}")]
    Pattern {
        /// Whether it is a text or a regular expression.
        what: &'static str,
        /// The text or the regular expression.
        word: String,
        /// What is wrong with it.
        reason: PatternError,
    },
    /// A condition that says nothing.
    #[error("invalid regular expression \"{word}\": it matches even without an answer")]
    Always {
        /// The regular expression.
        word: String,
    },
    /// Conditions for checks of different types.
    #[error(
        "condition \"{line}\" is for another type of check than those before it: send and expect \
         are for tcp, status, header and body are for http and https"
    )]
    Mixed {
        /// The condition.
        line: String,
    },
    /// A block without conditions.
    #[error("there are no conditions in it, allowed are status, header, body, send and expect")]
    Empty,
}

/// A `checkups_match` block that is being read.
#[derive(Debug)]
pub struct MatchBlock {
    name: String,
    written: Vec<String>,
    http: HttpRules,
    tcp: TcpRules,
}

impl MatchBlock {
    /// Begins a block by the words after `checkups_match`: `NAME`.
    ///
    /// # Errors
    /// Where there is not one name, or it is not allowed.
    pub fn new(words: &[&[u8]]) -> Result<Self> {
        let [name] = words else {
            return Err(DirectiveError::Missing { what: "the NAME of the match" });
        };
        let name = Word::new(name).text.into_owned();
        if !is_cluster_name(&name) {
            return Err(MatchError::Name { name }.into());
        }
        let (http, tcp) = (HttpRules::default(), TcpRules::default());
        Ok(Self { name, written: Vec::new(), http, tcp })
    }

    /// The name of the block.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the words of a line in the block:
    ///
    /// - `status [STATUS ...] [! STATUS ...]`: one of the first ones, and none of the last ones;
    /// - `header [!] NAME`, `header NAME =|!=|~|~*|!~|!~* VALUE`;
    /// - `body ~|~*|!~|!~* REGEX`;
    /// - `send TEXT`;
    /// - `expect TEXT`, `expect ~|~* REGEX`.
    ///
    /// # Errors
    /// Where it is no condition, or does not go together with those before it.
    pub fn line(&mut self, words: &[&[u8]]) -> Result<()> {
        let line = Line { words };
        let (kind, rest) = match words {
            [kind, rest @ ..] => (*kind, rest),
            [] => (&b""[..], words),
        };
        let is_http = match kind {
            b"status" | b"header" | b"body" => true,
            b"send" | b"expect" => false,
            other => {
                let word = String::from_utf8_lossy(other).into_owned();
                return Err(MatchError::Unknown { word }.into());
            }
        };
        if self.is_http().is_some_and(|before| before != is_http) {
            return Err(MatchError::Mixed { line: line.shown() }.into());
        }
        if self.written.contains(&line.escaped()) {
            return Err(line.duplicate());
        }
        match kind {
            b"status" => line.once(&mut self.http.status, status(&line, rest)?)?,
            b"header" => self.http.headers.push(header(&line, rest)?),
            b"body" => self.http.bodies.push(body(&line, rest)?),
            b"send" => line.once(&mut self.tcp.send, send(&line, rest)?)?,
            _ => line.once(&mut self.tcp.expect, expect(&line, rest)?)?,
        }
        self.written.push(line.escaped());
        Ok(())
    }

    /// The end of the block.
    ///
    /// # Errors
    /// Where there was no condition.
    pub fn finish(self) -> Result<Match> {
        let rules = match self.is_http() {
            Some(true) => Rules::Http(self.http),
            Some(false) => Rules::Tcp(self.tcp),
            None => return Err(MatchError::Empty.into()),
        };
        Ok(Match::new(self.name, self.written, rules))
    }

    /// Whether its conditions are for HTTP; `None`: there are none.
    fn is_http(&self) -> Option<bool> {
        let is_tcp = self.tcp.send.is_some() || self.tcp.expect.is_some();
        (!self.written.is_empty()).then_some(!is_tcp)
    }
}

/// A line of a block.
struct Line<'a> {
    words: &'a [&'a [u8]],
}

impl Line<'_> {
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.words.join(&b' ')).into_owned()
    }

    /// The same where no two lines may look alike.
    fn escaped(&self) -> String {
        self.words.join(&b' ').escape_ascii().to_string()
    }

    fn form(&self, allowed: &'static str) -> DirectiveError {
        MatchError::Form { line: self.shown(), allowed }.into()
    }

    fn duplicate(&self) -> DirectiveError {
        MatchError::Duplicate { line: self.shown() }.into()
    }

    fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<()> {
        if slot.is_some() {
            return Err(self.duplicate());
        }
        *slot = Some(value);
        Ok(())
    }
}

fn status(line: &Line<'_>, words: &[&[u8]]) -> Result<StatusRule> {
    const ALLOWED: &str = "\"status\" with statuses or ranges, a \"!\" before those that are bad";
    let sign = words.iter().position(|word| *word == b"!");
    let (good, bad) = words.split_at(sign.unwrap_or(words.len()));
    let bad = bad.get(1..).unwrap_or_default();
    if sign.is_some() == bad.is_empty() || good.is_empty() && bad.is_empty() {
        return Err(line.form(ALLOWED));
    }
    let good = if good.is_empty() { None } else { Some(fail_status(good)?) };
    let bad = if bad.is_empty() { Statuses::default() } else { fail_status(bad)? };
    Ok(StatusRule { good, bad })
}

fn header(line: &Line<'_>, words: &[&[u8]]) -> Result<HeaderRule> {
    const ALLOWED: &str = "\"header NAME\", \"header ! NAME\", or \"header NAME OPERATOR VALUE\" \
                           with an operator of =, !=, ~, ~*, !~ and !~*";
    let (name, test) = match *words {
        [b"!", name] => (name, HeaderTest::Absent),
        [name] => (name, HeaderTest::Present),
        [name, b"=", value] => (name, HeaderTest::Is(value.to_vec())),
        [name, b"!=", value] => (name, HeaderTest::IsNot(value.to_vec())),
        [name, operator, value] => match pattern(operator, value) {
            Some((pattern, true)) => (name, HeaderTest::Has(pattern?)),
            Some((pattern, false)) => (name, HeaderTest::HasNot(pattern?)),
            None => return Err(line.form(ALLOWED)),
        },
        _ => return Err(line.form(ALLOWED)),
    };
    match str::from_utf8(name) {
        Ok(name) if is_token(name) && name != "!" => Ok(HeaderRule { name: name.to_owned(), test }),
        _ => Err(line.form(ALLOWED)),
    }
}

fn body(line: &Line<'_>, words: &[&[u8]]) -> Result<BodyRule> {
    const ALLOWED: &str = "\"body OPERATOR REGEX\" with an operator of ~, ~*, !~ and !~*";
    let found = match *words {
        [operator, regex] => pattern(operator, regex),
        _ => None,
    };
    let (pattern, wanted) = found.ok_or_else(|| line.form(ALLOWED))?;
    Ok(BodyRule { pattern: pattern?, wanted })
}

fn send(line: &Line<'_>, words: &[&[u8]]) -> Result<Text> {
    match words {
        [word] => text(word),
        _ => Err(line.form("\"send TEXT\"")),
    }
}

fn expect(line: &Line<'_>, words: &[&[u8]]) -> Result<Expect> {
    const ALLOWED: &str = "\"expect TEXT\", \"expect ~ REGEX\" or \"expect ~* REGEX\"";
    match *words {
        [word] => {
            let text = text(word)?;
            Expect::text(&text).map_err(|reason| wrong("text", word, reason))
        }
        [operator, word] => match pattern(operator, word) {
            Some((pattern, true)) => {
                let always = || MatchError::Always { word: Word::new(word).text.into_owned() };
                Ok(Expect::pattern(pattern?).ok_or_else(always)?)
            }
            _ => Err(line.form(ALLOWED)),
        },
        _ => Err(line.form(ALLOWED)),
    }
}

fn text(word: &[u8]) -> Result<Text> {
    let allowed = "a text, in which \\xHH is a byte and \\\\ a backslash";
    Text::new(word).ok_or_else(|| Word::new(word).invalid(allowed))
}

/// The regular expression behind an operator, and whether it has to match. `None`: there is no such
/// operator.
fn pattern(operator: &[u8], regex: &[u8]) -> Option<(Result<Pattern>, bool)> {
    let (ignore_case, wanted) = match operator {
        b"~" => (false, true),
        b"~*" => (true, true),
        b"!~" => (false, false),
        b"!~*" => (true, false),
        _ => return None,
    };
    let pattern = match str::from_utf8(regex) {
        Ok(text) => Pattern::regex(text, ignore_case)
            .map_err(|reason| wrong("regular expression", regex, reason)),
        Err(_) => Err(DirectiveError::NotText),
    };
    Some((pattern, wanted))
}

fn wrong(what: &'static str, word: &[u8], reason: PatternError) -> DirectiveError {
    let word = Word::new(word).text.into_owned();
    MatchError::Pattern { what, word, reason }.into()
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;
    use proptest::prelude::*;

    fn parse(lines: &[&[&[u8]]]) -> Result<Match> {
        let mut block = MatchBlock::new(&[b"m"])?;
        for line in lines {
            block.line(line)?;
        }
        block.finish()
    }

    fn parsed(lines: &[&str]) -> Result<Match> {
        let lines: Vec<_> = lines.iter().map(|line| words(line)).collect();
        parse(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn error(lines: &[&str]) -> String {
        parsed(lines).unwrap_err().to_string()
    }

    #[test]
    fn names() {
        assert_eq!(MatchBlock::new(&[b"a.b"]).unwrap().name(), "a.b");
        let error = MatchBlock::new(&[b"a/b"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid name \"a/b\", it must be 1 to 128 letters, digits and the characters . _ : -"
        );
        let error = MatchBlock::new(&[]).unwrap_err().to_string();
        assert_eq!(error, "the NAME of the match is missing");
    }

    #[test]
    fn statuses() {
        for (line, good) in [
            ("status 200", &[200][..]),
            ("status 200-202 500", &[200, 201, 202, 500]),
            ("status 300-304 ! 301-303", &[300, 304]),
        ] {
            let matching = parsed(&[line]).unwrap();
            let rules = matching.http().unwrap();
            let found =
                (100..1000).filter(|status| rules.failure(*status, [].into_iter()).is_none());
            assert_eq!(found.collect::<Vec<u16>>(), good, "{line}");
        }
        let matching = parsed(&["status ! 500-599"]).unwrap();
        let failure = |status| matching.http().unwrap().failure(status, [].into_iter());
        assert_eq!((failure(404), failure(503)), (None, Some("status 503".to_owned())));
    }

    #[test]
    fn http_conditions() {
        let lines = [
            "header X = a",
            "header X != b",
            "header x ~ ^.$",
            "header X !~ c",
            "header X ~* A",
            "header X !~* B",
            "header X",
            "header ! Y",
            "body ~ ok",
            "body ~* FINE",
            "body !~ error",
        ];
        let matching = parsed(&lines).unwrap();
        assert!(matching.is_for_http() && !matching.is_for_tcp());
        let rules = matching.http().unwrap();
        let headers = [("X", &b"a"[..])];
        assert_eq!(rules.failure(500, headers.into_iter()), None);
        for headers in [&[("X", &b"c"[..])][..], &[("X", b"a"), ("y", b"")], &[]] {
            assert!(rules.failure(200, headers.iter().copied()).is_some());
        }
        let mut body = rules.body().unwrap();
        body.feed(b"ok, fine");
        assert!(body.end());
    }

    #[test]
    fn tcp_conditions() {
        let matching = parse(&[&[b"send", b"a\r\n\\x00"], &[b"expect", b"~", b"^b c"]]).unwrap();
        assert!(matching.is_for_tcp() && !matching.is_for_http());
        let rules = matching.tcp().unwrap();
        assert_eq!(rules.send.as_ref().unwrap().bytes(), b"a\r\n\0");
        let expect = |matching: &Match, bytes| {
            matching.tcp().unwrap().expect.as_ref().unwrap().search().feed(bytes)
        };
        assert_eq!(expect(&matching, b"b c"), Some(true));
        assert_eq!(expect(&matching, b"xb c"), Some(false));
        let matching = parse(&[&[b"expect", b"\\xff"]]).unwrap();
        assert_eq!(expect(&matching, b"a\xff"), Some(true));
        let matching = parse(&[&[b"expect", b"~*", b"A\xc3\xa4"]]).unwrap();
        assert_eq!(expect(&matching, b"a\xc3\xa4"), Some(true));
    }

    #[test]
    fn blocks_are_equal_if_they_are_written_alike() {
        assert_eq!(parsed(&["status 200"]), parsed(&["status 200"]));
        assert_ne!(parsed(&["status 200"]), parsed(&["status 201"]));
        assert_ne!(parse(&[&[b"send", b"\xe4"]]), parse(&[&[b"send", b"\xe5"]]));
    }

    #[test]
    fn errors_name_the_condition_and_what_is_allowed() {
        const STATUS: &str =
            "\"status\" with statuses or ranges, a \"!\" before those that are bad";
        const HEADER: &str = "\"header NAME\", \"header ! NAME\", or \"header NAME OPERATOR \
                              VALUE\" with an operator of =, !=, ~, ~*, !~ and !~*";
        const BODY: &str = "\"body OPERATOR REGEX\" with an operator of ~, ~*, !~ and !~*";
        const EXPECT: &str = "\"expect TEXT\", \"expect ~ REGEX\" or \"expect ~* REGEX\"";
        for (line, allowed) in [
            ("status", STATUS),
            ("status !", STATUS),
            ("status 200 !", STATUS),
            ("header", HEADER),
            ("header !", HEADER),
            ("header X:", HEADER),
            ("header X ==", HEADER),
            ("header X == a", HEADER),
            ("header X = a b", HEADER),
            ("header ! = a", HEADER),
            ("body", BODY),
            ("body ok", BODY),
            ("body = ok", BODY),
            ("send", "\"send TEXT\""),
            ("send a b", "\"send TEXT\""),
            ("expect", EXPECT),
            ("expect !~ a", EXPECT),
        ] {
            assert_eq!(
                error(&[line]),
                format!("invalid condition \"{line}\", it must be {allowed}")
            );
        }
        for (lines, text) in [
            (&[][..], "there are no conditions in it, allowed are status, header, body, send and \
                       expect"),
            (
                &["state 200"],
                "unknown condition \"state\", allowed are status, header, body, send and expect",
            ),
            (
                &["status 600"],
                "invalid value in \"600\", it must be a status from 100 to 599, or two with - \
                 between them",
            ),
            (
                &["status ! 200 ! 300"],
                "invalid value in \"!\", it must be a status from 100 to 599, or two with - between \
                 them",
            ),
            (&["status 200", "status 201"], "duplicate condition \"status 201\""),
            (&["header X = a", "header X = b", "header X = a"], "duplicate condition \"header X = a\""),
            (&["body ~ a", "body ~ a"], "duplicate condition \"body ~ a\""),
            (&["expect a", "expect b"], "duplicate condition \"expect b\""),
            (
                &["body ~ a(b"],
                "invalid regular expression \"a(b\": unclosed group",
            ),
            (
                &["header X ~ (a)\\1"],
                "invalid regular expression \"(a)\\1\": backreferences are not supported",
            ),
            (
                &["expect ~ .*"],
                "invalid regular expression \".*\": it matches even without an answer",
            ),
            (
                &["send a\\b"],
                "invalid value in \"a\\b\", it must be a text, in which \\xHH is a byte and \\\\ a \
                 backslash",
            ),
            (
                &["status 200", "send a"],
                "condition \"send a\" is for another type of check than those before it: send and \
                 expect are for tcp, status, header and body are for http and https",
            ),
            (
                &["expect a", "body ~ a"],
                "condition \"body ~ a\" is for another type of check than those before it: send and \
                 expect are for tcp, status, header and body are for http and https",
            ),
        ] {
            assert_eq!(error(lines), text, "{lines:?}");
        }
        let long = [b'a'; 1025];
        let text = parse(&[&[b"expect", &long]]).unwrap_err().to_string();
        assert!(text.ends_with("\": it is longer than 1024 bytes"), "{text}");
        let text = parse(&[&[b"body", b"~", b"\xe4"]]).unwrap_err().to_string();
        assert_eq!(text, "it must be UTF-8");
        assert!(parse(&[&[b"header", b"\xe4"]]).is_err() && parse(&[&[b"send", b""]]).is_err());
    }

    proptest! {
        #[test]
        fn any_words(
            kind in prop::sample::select(vec!["status", "header", "body", "send", "expect", "x"]),
            rest in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                prop::sample::select(vec!["!", "=", "~", "!~*", "200", "X"]).prop_map(Vec::from),
            ], 0..4),
        ) {
            let mut line = vec![kind.as_bytes()];
            line.extend(rest.iter().map(Vec::as_slice));
            if let Err(error) = parse(&[&line]) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
