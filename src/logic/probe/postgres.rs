//! PostgreSQL checks: the answer to the request for TLS, and a login where there is a user.
//!
//! Without a user, any answer to the request passes. A server answers it while it starts up, too,
//! and one that has TLS logs that the client did not go on. A user without any rights is the better
//! check.

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256, SCRAM_SHA_256};
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;

use super::text::failure;
use super::{Step, Verdict, CLOSED};
use crate::logic::password::Password;
use crate::logic::settings::{self, Ssl};

/// The longest message that is read. Those of a login are the texts of errors and less.
const MAX_MESSAGE: usize = 16 * 1024;

/// The most messages of a login. PostgreSQL 17 has 20, most of them parameters.
const MAX_MESSAGES: u32 = 64;

/// The most iterations of SCRAM. The server says how many; PostgreSQL's own number is 4,096, which
/// takes milliseconds. Nothing else goes on in the worker meanwhile.
const MAX_ITERATIONS: u32 = 16_384;

const INVALID: &str = "invalid PostgreSQL message";
const NO_TLS: &str = "the server has no TLS";

/// One check of a PostgreSQL server.
pub struct PostgresProbe {
    settings: settings::PostgresProbe,
    ssl: Ssl,
    state: State,
    received: BytesMut,
    messages: u32,
}

enum State {
    /// One byte is next: whether there is TLS.
    Tls,
    /// TLS is being set up.
    Securing,
    /// The server says whether it wants a password, and how; then how it liked it.
    Login,
    /// The first answer of the server in SCRAM is next.
    Scram(ScramSha256),
    /// The second one is.
    ScramEnd(ScramSha256),
    /// The login is done; the server sends its parameters.
    Starting,
}

impl PostgresProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::PostgresProbe, ssl: Ssl) -> Self {
        Self {
            settings: settings.clone(),
            ssl,
            state: State::Tls,
            received: BytesMut::new(),
            messages: 0,
        }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        if self.ssl == Ssl::Off && self.settings.user.is_some() {
            return self.log_in();
        }
        self.state = State::Tls;
        send(|request| {
            frontend::ssl_request(request);
            Ok(())
        })
    }

    /// What to do once TLS is there.
    pub fn secured(&mut self) -> Step {
        match self.state {
            State::Securing if self.settings.user.is_some() => self.log_in(),
            State::Securing => Step::Done(Verdict::Pass),
            _ => fail(INVALID),
        }
    }

    /// Takes bytes of the server; none: it closed the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return match self.received.strip_prefix(b"E") {
                Some(text) if is_bare(text) => Step::Done(failure("postgres", text)),
                _ => fail(CLOSED),
            };
        }
        self.received.extend_from_slice(bytes);
        if matches!(self.state, State::Tls) && self.received[0] != b'E' {
            return self.offered();
        }
        loop {
            let message = match self.message() {
                Ok(Some(message)) => message,
                Ok(None) => return Step::Receive,
                Err(step) => return step,
            };
            match self.take(&message) {
                Step::Receive => {}
                step => return step,
            }
        }
    }

    /// Takes the byte that says whether there is TLS.
    fn offered(&mut self) -> Step {
        let offered = match self.received.split_to(1)[0] {
            b'S' => true,
            b'N' => false,
            _ => return fail(INVALID),
        };
        // Bytes from before TLS must not be taken for bytes of the TLS connection.
        if !self.received.is_empty() {
            return fail(INVALID);
        }
        match (self.ssl, &self.settings.user) {
            (Ssl::On, _) if !offered => fail(NO_TLS),
            (Ssl::On, _) | (Ssl::Auto, Some(_)) if offered => {
                self.state = State::Securing;
                Step::StartTls(Vec::new())
            }
            (_, None) => Step::Done(Verdict::Pass),
            (_, Some(_)) => self.log_in(),
        }
    }

    fn log_in(&mut self) -> Step {
        self.state = State::Login;
        let user = self.settings.user.iter().map(|user| ("user", user.as_str()));
        let database = self.settings.database.iter().map(|name| ("database", name.as_str()));
        let parameters = user.chain(database).chain([("application_name", "checkups")]);
        send(|message| frontend::startup_message(parameters, message))
    }

    /// Takes the next message off what was received, or comes to the end of the check.
    fn message(&mut self) -> Result<Option<Message>, Step> {
        // A server that cannot even start a process for the connection says so in bare text.
        if let Some(text) = self.received.strip_prefix(b"E").filter(|text| is_bare(text)) {
            let text = &text[..text.len().min(MAX_MESSAGE)];
            return match text.iter().position(|byte| *byte == 0) {
                Some(end) => Err(Step::Done(failure("postgres", &text[..end]))),
                None if text.len() == MAX_MESSAGE => Err(fail(INVALID)),
                None => Ok(None),
            };
        }
        // Looked at first, as the parser takes memory for whatever length there is.
        match Header::parse(&self.received) {
            Ok(Some(header)) if header.len() as usize > MAX_MESSAGE => {
                return Err(fail("PostgreSQL message too large"));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(_) => return Err(fail(INVALID)),
        }
        match Message::parse(&mut self.received) {
            Ok(Some(message)) => {
                self.messages += 1;
                if self.messages > MAX_MESSAGES {
                    return Err(fail("too many PostgreSQL messages"));
                }
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(_) => Err(fail(INVALID)),
        }
    }

    fn take(&mut self, message: &Message) -> Step {
        match (&mut self.state, message) {
            (_, Message::ErrorResponse(error)) => refused(error),
            (_, Message::NoticeResponse(_)) => Step::Receive,

            (State::Login, Message::AuthenticationOk) => {
                self.state = State::Starting;
                Step::Receive
            }
            (State::Login, Message::AuthenticationCleartextPassword) => {
                self.with_password(|_, password| {
                    send(|message| frontend::password_message(password, message))
                })
            }
            (State::Login, Message::AuthenticationMd5Password(body)) => {
                self.with_password(|probe, password| {
                    let user = probe.settings.user.as_deref().unwrap_or_default();
                    let hash = md5_hash(user.as_bytes(), password, body.salt());
                    send(|message| frontend::password_message(hash.as_bytes(), message))
                })
            }
            (State::Login, Message::AuthenticationSasl(body)) => {
                match body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256)) {
                    Ok(true) => {}
                    Ok(false) => return fail("the server wants another SASL than SCRAM-SHA-256"),
                    Err(_) => return fail(INVALID),
                }
                self.with_password(|probe, password| {
                    // The certificate of the server, which could be bound to it, is not known here.
                    let scram = ScramSha256::new(password, ChannelBinding::unsupported());
                    let step = send(|message| {
                        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), message)
                    });
                    probe.state = State::Scram(scram);
                    step
                })
            }
            (
                State::Login,
                Message::AuthenticationGss
                | Message::AuthenticationKerberosV5
                | Message::AuthenticationScmCredential
                | Message::AuthenticationSspi,
            ) => fail("the server wants another authentication"),

            (State::Scram(_), Message::AuthenticationSaslContinue(body)) => {
                let State::Scram(mut scram) = std::mem::replace(&mut self.state, State::Login)
                else {
                    return fail(INVALID);
                };
                if iterations(body.data()).is_none_or(|number| number > MAX_ITERATIONS) {
                    return fail("more SCRAM iterations than a check may take");
                }
                if scram.update(body.data()).is_err() {
                    return fail(INVALID);
                }
                let step = send(|message| frontend::sasl_response(scram.message(), message));
                self.state = State::ScramEnd(scram);
                step
            }
            (State::ScramEnd(scram), Message::AuthenticationSaslFinal(body)) => {
                if scram.finish(body.data()).is_err() {
                    return fail("the server does not know the password itself");
                }
                self.state = State::Login;
                Step::Receive
            }

            (State::Starting, Message::ReadyForQuery(_)) => {
                let mut message = BytesMut::new();
                frontend::terminate(&mut message);
                Step::Farewell(message.to_vec(), Verdict::Pass)
            }
            (State::Starting, Message::ParameterStatus(_) | Message::BackendKeyData(_)) => {
                Step::Receive
            }
            _ => fail(INVALID),
        }
    }

    fn with_password(&mut self, then: impl FnOnce(&mut Self, &[u8]) -> Step) -> Step {
        match self.settings.password.clone() {
            Some(password) => then(self, Password::expose(&password).as_bytes()),
            None => fail("the server wants a password"),
        }
    }
}

impl fmt::Debug for PostgresProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SCRAM keeps what can be used in place of the password.
        f.debug_struct("PostgresProbe").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whether this is what follows the first byte of an error without a length: text. A length begins
/// with a zero.
fn is_bare(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| *byte != 0)
}

/// The number of iterations in the server's first message: `r=NONCE,s=SALT,i=NUMBER`.
fn iterations(message: &[u8]) -> Option<u32> {
    let last = message.rsplit(|byte| *byte == b',').next()?;
    std::str::from_utf8(last.strip_prefix(b"i=")?).ok()?.parse().ok()
}

/// The verdict by an error: its message, without severity, code and place.
fn refused(error: &ErrorResponseBody) -> Step {
    let mut fields = error.fields();
    while let Ok(Some(field)) = fields.next() {
        if field.type_() == b'M' {
            return Step::Done(failure("postgres", field.value_bytes()));
        }
    }
    Step::Done(failure("postgres", b""))
}

fn fail(reason: impl Into<Cow<'static, str>>) -> Step {
    Step::Done(Verdict::Fail(reason.into()))
}

/// Sends what is written. It cannot be written if there is a NUL in a name or a password.
fn send(write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Step {
    let mut message = BytesMut::new();
    match write(&mut message) {
        Ok(()) => Step::Send(message.to_vec()),
        Err(_) => fail("a name or the password cannot be sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::play::{hex, play, play_all, Played, Talk};
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use base64::Engine;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    const SSL_REQUEST: &str = "0000000804d2162f";
    const TERMINATE: &str = "5800000004";
    const OK: &str = "520000000800000000";

    /// Of PostgreSQL 15.18, which was in recovery.
    const STARTING_UP: &[u8] =
        b"E\x00\x00\x00hSFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting \
        up\x00Fpostmaster.c\x00L2415\x00RProcessStartupPacket\x00\x00";

    /// What PostgreSQL 15.18 sends after a login, in short.
    const READY: &[u8] =
        b"S\x00\x00\x00\x19client_encoding\x00UTF8\x00S\x00\x00\x00\x17DateStyle\x00ISO, MDY\x00\
        K\x00\x00\x00\x0c\x00\x00\x0b\xb8\x12\x34\x56\x78Z\x00\x00\x00\x05I";

    impl Talk for PostgresProbe {
        fn connected(&mut self) -> Step {
            self.connected()
        }

        fn secured(&mut self) -> Step {
            self.secured()
        }

        fn feed(&mut self, bytes: &[u8]) -> Step {
            self.feed(bytes)
        }
    }

    fn probe(words: &str) -> PostgresProbe {
        let word = |name: &str| {
            let mut words = words.split(' ').filter_map(|word| word.strip_prefix(name));
            words.next().map(str::to_owned)
        };
        let settings = settings::PostgresProbe {
            user: word("user="),
            password: word("password=").map(|word| Password::new(word.as_bytes()).unwrap()),
            database: word("database="),
        };
        let ssl = match word("ssl=").as_deref() {
            Some("on") => Ssl::On,
            Some("off") => Ssl::Off,
            _ => Ssl::Auto,
        };
        PostgresProbe::new(&settings, ssl)
    }

    fn played(words: &str, turns: &[&[u8]]) -> Played {
        play_all(|| probe(words), turns)
    }

    fn passed(messages: &[&[u8]]) -> Played {
        let sent = messages.iter().map(|message| (*message != b"TLS").then(|| message.to_vec()));
        Played { sent: sent.collect(), end: Step::Done(Verdict::Pass) }
    }

    fn startup(words: &str) -> Vec<u8> {
        let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
        for word in words.split(' ').chain(["application_name", "checkups"]) {
            message.extend_from_slice(word.as_bytes());
            message.push(0);
        }
        message.push(0);
        message[3] = message.len() as u8;
        message
    }

    fn message(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32 + 4).to_be_bytes();
        [&[tag], &length[..], content].concat()
    }

    fn failed(words: &str, turns: &[&[u8]], reason: &'static str) {
        assert_eq!(played(words, turns).end, fail(reason), "{words}");
    }

    #[test]
    fn the_request_for_tls_alone() {
        let request = hex(SSL_REQUEST);
        for answer in [b"S", b"N"] {
            assert_eq!(played("", &[answer]), passed(&[&request]));
            assert_eq!(played("ssl=off", &[answer]), passed(&[&request]));
        }
        assert_eq!(played("ssl=on", &[b"S"]), passed(&[&request, b"TLS"]));
        failed("ssl=on", &[b"N"], NO_TLS);
        for answer in [&b"X"[..], b"\0", b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-x\r\n"] {
            let mut probe = probe("");
            probe.connected();
            assert_eq!(probe.feed(answer), fail(INVALID));
        }
    }

    #[test]
    fn tls() {
        let (request, startup) = (hex(SSL_REQUEST), startup("user u"));
        let ready = [&hex(OK)[..], READY].concat();
        let terminate = hex(TERMINATE);
        for words in ["user=u", "user=u ssl=on"] {
            assert_eq!(
                played(words, &[b"S", &ready]),
                passed(&[&request, b"TLS", &startup, &terminate])
            );
        }
        assert_eq!(played("user=u", &[b"N", &ready]), passed(&[&request, &startup, &terminate]));
        assert_eq!(played("user=u ssl=off", &[&ready]), passed(&[&startup, &terminate]));
        failed("user=u ssl=on", &[b"N", &ready], NO_TLS);

        // Bytes before TLS.
        let mut early = probe("user=u");
        early.connected();
        assert_eq!(early.feed(&[b"S", &ready[..]].concat()), fail(INVALID));
        let mut early = probe("user=u");
        early.connected();
        assert_eq!(early.feed(b"S"), Step::StartTls(Vec::new()));
        assert_eq!(early.feed(&ready), fail(INVALID));
        assert_eq!(probe("user=u").secured(), fail(INVALID));
    }

    #[test]
    fn logins() {
        let ready = [&hex(OK)[..], READY].concat();
        let terminate = hex(TERMINATE);
        assert_eq!(
            played("user=u database=d ssl=off", &[&ready]),
            passed(&[&startup("user u database d"), &terminate])
        );
        // With a password in clear.
        let clear = hex("520000000800000003");
        let words = "user=u password=secret ssl=off";
        let password = message(b'p', b"secret\0");
        assert_eq!(
            played(words, &[&clear, &ready]),
            passed(&[&startup("user u"), &password, &terminate])
        );
        // With MD5, as PostgreSQL 15.18 took it.
        let md5 = hex("520000000c00000005f3758c3c");
        let password = message(b'p', b"md51fef8afd343a628e9477ba10c19844e5\0");
        assert_eq!(
            played("user=md5user password=secret ssl=off", &[&md5, &ready]),
            passed(&[&startup("user md5user"), &password, &terminate])
        );
        for wanted in [&clear, &md5, &message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")] {
            failed("user=u ssl=off", &[wanted], "the server wants a password");
        }
        for other in [2, 6, 7, 9] {
            let other = message(b'R', &[0, 0, 0, other]);
            failed(words, &[&other], "the server wants another authentication");
        }
        failed(
            words,
            &[&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0OAUTHBEARER\0\0")],
            "the server wants another SASL than SCRAM-SHA-256",
        );
        // What is out of order.
        for early in [READY, b"Z\0\0\0\x05I", b"R\0\0\0\x0c\0\0\0\x0cv=AA"] {
            failed(words, &[early], INVALID);
        }
        let twice = [hex(OK), hex(OK)].concat();
        failed(words, &[&twice], INVALID);
        failed("user=a\0b ssl=off", &[], "a name or the password cannot be sent");
    }

    #[test]
    fn errors() {
        let words = "user=u ssl=off";
        failed(words, &[STARTING_UP], "postgres: the database system is starting up");
        let late = [&hex(OK)[..], STARTING_UP].concat();
        failed(words, &[&late], "postgres: the database system is starting up");
        // To the request for TLS, too; and as a server says it that cannot start a process.
        failed("", &[STARTING_UP], "postgres: the database system is starting up");
        let bare = b"Ecould not fork new process for connection: Cannot allocate memory\n\0";
        failed("", &[bare], "postgres: could not fork new process for connection: Canno");
        failed(words, &[bare], "postgres: could not fork new process for connection: Canno");
        let mut probe = probe("");
        probe.connected();
        assert_eq!(probe.feed(b"Eno mem"), Step::Receive);
        assert_eq!(probe.feed(b"ory"), Step::Receive);
        assert_eq!(probe.feed(b""), fail("postgres: no memory"));

        failed(words, &[&message(b'E', b"SFATAL\0\0")], "postgres: an error without words");
        failed(words, &[&message(b'E', b"M")], "postgres: an error without words");
        let notice = [&message(b'N', b"SNOTICE\0Mhello\0\0")[..], STARTING_UP].concat();
        failed(words, &[&notice], "postgres: the database system is starting up");
    }

    #[test]
    fn closed() {
        for words in ["", "user=u", "user=u ssl=off"] {
            let mut probe = probe(words);
            probe.connected();
            assert_eq!(probe.feed(b""), fail(CLOSED));
        }
        let mut probe = probe("user=u ssl=off");
        probe.connected();
        assert_eq!(probe.feed(&STARTING_UP[..20]), Step::Receive);
        assert_eq!(probe.feed(b""), fail(CLOSED));
    }

    #[test]
    fn limits() {
        let words = "user=u ssl=off";
        for length in [16_385_u32, 1 << 24, i32::MAX as u32] {
            let header = [&b"S"[..], &length.to_be_bytes()].concat();
            failed(words, &[&header], "PostgreSQL message too large");
        }
        for length in [0_u32, 3, u32::MAX, 1 << 31] {
            let header = [&b"S"[..], &length.to_be_bytes()].concat();
            failed(words, &[&header], INVALID);
        }
        let notice = message(b'N', b"SNOTICE\0\0").repeat(100);
        let mut endless = probe(words);
        endless.connected();
        assert_eq!(endless.feed(&notice), fail("too many PostgreSQL messages"));
        let mut endless = probe("");
        endless.connected();
        let mut end = endless.feed(b"E");
        let mut fed = 1;
        while end == Step::Receive {
            end = endless.feed(&[b'x'; 1000]);
            fed += 1000;
            assert!(fed < 20_000);
        }
        assert_eq!(end, fail(INVALID));
        for unknown in [message(b'v', &[0; 8]), message(b'R', &[0, 0, 0, 99]), message(b'R', &[])] {
            failed(words, &[&unknown], INVALID);
        }
    }

    fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
        let pad = |byte: u8| {
            let mut pad = [byte; 64];
            pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
            pad
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }

    fn xor(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|at| left[at] ^ right[at])
    }

    /// A login to a server that knows this password, with bytes in pieces of this size. It says this
    /// number of iterations, and makes two.
    fn scram(password: &str, pieces: usize, iterations: &str, honest: bool) -> Step {
        let mut probe = probe("user=u password=secret ssl=off");
        let feed = |probe: &mut PostgresProbe, bytes: &[u8]| {
            let mut pieces = bytes.chunks(pieces).map(|piece| probe.feed(piece));
            pieces.find(|step| *step != Step::Receive).unwrap_or(Step::Receive)
        };
        let sent = |step| match step {
            Step::Send(message) => String::from_utf8(message[5..].to_vec()).unwrap(),
            step => panic!("{step:?}"),
        };
        probe.connected();
        let mechanisms = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let first = sent(feed(&mut probe, &message(b'R', mechanisms)));
        let first = first.split_once("n,,").unwrap().1.to_owned();
        let nonce = first.strip_prefix("n=,r=").unwrap();

        let server_first = format!("r={nonce}xyz,s={},i={iterations}", STANDARD.encode("salt"));
        let answer = [&b"\0\0\0\x0b"[..], server_first.as_bytes()].concat();
        let step = feed(&mut probe, &message(b'R', &answer));
        if !matches!(step, Step::Send(_)) {
            return step;
        }
        let last = sent(step);
        let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
        assert_eq!(without_proof, format!("c=biws,r={nonce}xyz"));

        let once = hmac(password.as_bytes(), b"salt\0\0\0\x01");
        let salted = xor(once, hmac(password.as_bytes(), &once));
        let stored = Sha256::digest(hmac(&salted, b"Client Key"));
        let text = format!("{first},{server_first},{without_proof}");
        let proof = STANDARD.decode(proof).unwrap().try_into().unwrap();
        let client = xor(proof, hmac(&stored, text.as_bytes()));
        if Sha256::digest(client) != stored {
            let error = b"SFATAL\0Mpassword authentication failed for user \"u\"\0\0";
            return feed(&mut probe, &message(b'E', error));
        }
        let key = if honest { hmac(&salted, b"Server Key") } else { [0; 32] };
        let signature = STANDARD.encode(hmac(&key, text.as_bytes()));
        let last = [&b"\0\0\0\x0cv="[..], signature.as_bytes()].concat();
        feed(&mut probe, &[&message(b'R', &last)[..], &hex(OK), READY].concat())
    }

    #[test]
    fn scram_sha_256() {
        for pieces in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(
                scram("secret", pieces, "2", true),
                Step::Farewell(hex(TERMINATE), Verdict::Pass)
            );
            assert_eq!(
                scram("other", pieces, "2", true),
                fail("postgres: password authentication failed for user \"u\"")
            );
            assert_eq!(
                scram("secret", pieces, "2", false),
                fail("the server does not know the password itself")
            );
        }
        for many in ["16385", "4294967295", "4294967296", "-1", "", "2,m=x"] {
            assert_eq!(
                scram("secret", 100, many, true),
                fail("more SCRAM iterations than a check may take")
            );
        }
    }

    #[test]
    fn it_is_not_shown() {
        let mut probe = probe("user=u password=secret");
        probe.connected();
        assert!(!format!("{probe:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_bytes(
            turns in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            words in prop::sample::select(vec!["", "user=u", "user=u password=x ssl=off"]),
            every in 1_usize..50,
        ) {
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            play(&mut probe(words), &turns, |at| at % every == 0);
        }

        #[test]
        fn any_content(
            messages in prop::collection::vec(
                (
                    prop::sample::select(b"REEEKNSZAC1v".to_vec()),
                    prop::option::of(0_u8..13),
                    prop::collection::vec(any::<u8>(), 0..60),
                ),
                0..6,
            ),
            every in 1_usize..50,
        ) {
            let turns: Vec<_> = messages
                .into_iter()
                .map(|(tag, kind, mut content)| {
                    if let Some(kind) = kind {
                        content.splice(..0, [0, 0, 0, kind]);
                    }
                    message(tag, &content)
                })
                .collect();
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            play(&mut probe("user=u password=x ssl=off"), &turns, |at| at % every == 0);
        }

        #[test]
        fn a_login_with_bytes_changed(
            changes in prop::collection::vec((0.0..1.0, any::<u8>()), 0..4),
        ) {
            let mut turns = [
                b"N".to_vec(),
                hex("520000000c00000005f3758c3c"),
                [&hex(OK)[..], READY].concat(),
                STARTING_UP.to_vec(),
            ];
            let length: usize = turns.iter().map(Vec::len).sum();
            for (place, byte) in changes {
                let place = (length as f64 * place) as usize;
                *turns.iter_mut().flatten().nth(place).unwrap() = byte;
            }
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            play(&mut probe("user=u password=secret"), &turns, |_| false);
        }
    }
}
