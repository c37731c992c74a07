//! MySQL and MariaDB checks: the greeting of the server, and a login where there is a user.
//!
//! Without a user, the greeting is enough. The check takes its leave with a login as nobody, which the
//! server refuses: one that leaves without a word counts as an aborted connection, and a server blocks
//! a client that does so `max_connect_errors` times in a row (100, unless set), not only its checks.
//!
//! Not by the crate mysql_common: what a server can send makes it panic (a greeting whose
//! `auth_plugin_data_len` is 128 to 135, in builds with overflow checks; a public key that is cut
//! off), and it brings regular expressions, big numbers and zlib along, for three packets.

use std::borrow::Cow;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::text::{clean, failure};
use super::{Step, Verdict, CLOSED};
use crate::logic::settings::{self, Ssl};

/// The longest packet that is read. Those of a login are the texts of errors and less.
const MAX_PACKET: usize = 16 * 1024;

/// The most packets of a login. The longest that makes sense has six.
const MAX_PACKETS: u32 = 64;

/// The most bytes of the name of a plugin in a message.
const MAX_PLUGIN: usize = 24;

/// The longest packet that this client would take: what all clients say.
const CLIENT_MAX_PACKET: u32 = 1 << 24;

/// utf8mb4_general_ci, which MySQL has since 5.5.3 and MariaDB always: for the name of the user.
const COLLATION: u8 = 45;

/// The error that a server gives to a client without TLS where it wants it.
const ER_SECURE_TRANSPORT_REQUIRED: u16 = 3159;

const INVALID: &str = "invalid MySQL packet";
const NOT_A_GREETING: &str = "not a MySQL greeting";

/// What client and server can do.
mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
}

/// One check of a MySQL server.
#[derive(Debug)]
pub struct MysqlProbe {
    settings: settings::MysqlProbe,
    ssl: Ssl,
    state: State,
    received: Vec<u8>,
    packets: u32,
    /// The number of the next packet.
    sequence: u8,
    /// Whether TLS is there.
    secure: bool,
}

#[derive(Debug)]
enum State {
    /// The greeting is next.
    Greeting,
    /// TLS is being set up.
    Securing(Greeting),
    /// The answer to what the plugin sent.
    Login(Plugin),
}

/// What a greeting says, as far as a login needs it.
#[derive(Debug)]
struct Greeting {
    capabilities: u32,
    challenge: Challenge,
    /// The way of authentication that the server proposes.
    plugin: Option<Plugin>,
}

/// What a password is hashed with.
type Challenge = [u8; 20];

/// The ways of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    Native,
    CachingSha2,
}

impl MysqlProbe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::MysqlProbe, ssl: Ssl) -> Self {
        Self {
            settings: settings.clone(),
            ssl,
            state: State::Greeting,
            received: Vec::new(),
            packets: 0,
            sequence: 0,
            secure: false,
        }
    }

    /// What to do once the connection is there.
    pub fn connected(&mut self) -> Step {
        Step::Receive
    }

    /// What to do once TLS is there.
    pub fn secured(&mut self) -> Step {
        self.secure = true;
        match std::mem::replace(&mut self.state, State::Greeting) {
            State::Securing(greeting) => self.log_in(&greeting),
            _ => fail(INVALID),
        }
    }

    /// Takes bytes of the server; none: it closed the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return fail(CLOSED);
        }
        self.received.extend_from_slice(bytes);
        loop {
            let packet = match self.packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Step::Receive,
                Err(reason) => return fail(reason),
            };
            let step = match self.state {
                State::Greeting => self.greeted(&packet),
                State::Login(plugin) => self.answered(plugin, &packet),
                // Bytes from before TLS must not be taken for bytes of the TLS connection.
                State::Securing(_) => fail(INVALID),
            };
            match step {
                Step::Receive => {}
                Step::StartTls(_) if !self.received.is_empty() => return fail(INVALID),
                step => return step,
            }
        }
    }

    /// Takes the next packet off what was received.
    fn packet(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        let Some((&[a, b, c, sequence], rest)) = self.received.split_first_chunk() else {
            return Ok(None);
        };
        let greeting = matches!(self.state, State::Greeting);
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > MAX_PACKET {
            return Err(if greeting { NOT_A_GREETING } else { "MySQL packet too large" });
        }
        let Some(packet) = rest.get(..length) else { return Ok(None) };
        let packet = packet.to_vec();
        self.received.drain(..4 + length);
        self.sequence = sequence.wrapping_add(1);
        self.packets += 1;
        if self.packets > MAX_PACKETS {
            return Err("too many MySQL packets");
        }
        Ok(Some(packet))
    }

    fn greeted(&mut self, packet: &[u8]) -> Step {
        let greeting = match packet {
            [0xff, error @ ..] => return refused(error),
            [10, greeting @ ..] => Greeting::parse(greeting),
            _ => None,
        };
        let Some(greeting) = greeting else { return fail(NOT_A_GREETING) };

        let offered = greeting.can(capability::SSL);
        let secure = match self.ssl {
            Ssl::On if !offered => return fail("the server has no TLS"),
            Ssl::On => true,
            // Whether the server wants TLS, or the user, or the password, is known too late: the
            // answer to a login without it is the end of the connection.
            Ssl::Auto => offered && self.settings.user.is_some(),
            Ssl::Off => false,
        };
        let can_log_in =
            greeting.can(capability::PROTOCOL_41) && greeting.can(capability::SECURE_CONNECTION);
        match self.settings.user {
            Some(_) if !can_log_in => return fail("the server is too old for a login"),
            None if !can_log_in => return Step::Done(Verdict::Pass),
            _ => {}
        }
        if secure {
            let request = self.begin_answer(&greeting, true);
            let request = self.wrap(&request);
            self.state = State::Securing(greeting);
            return Step::StartTls(request);
        }
        self.log_in(&greeting)
    }

    /// Answers the greeting.
    fn log_in(&mut self, greeting: &Greeting) -> Step {
        let user = self.settings.user.as_deref().unwrap_or_default();
        // Where the server proposes something else, it says once more, for this user, what it wants.
        let plugin = greeting.plugin.unwrap_or(Plugin::Native);
        let mut answer = self.begin_answer(greeting, self.secure);
        answer.extend_from_slice(user.as_bytes());
        answer.push(0);
        let proof = plugin.proof(self.password(), &greeting.challenge);
        answer.push(proof.len() as u8);
        answer.extend_from_slice(&proof);
        if let Some(database) = self.database() {
            answer.extend_from_slice(database.as_bytes());
            answer.push(0);
        }
        if greeting.can(capability::PLUGIN_AUTH) {
            answer.extend_from_slice(plugin.name());
            answer.push(0);
        }
        self.state = State::Login(plugin);
        let answer = self.wrap(&answer);
        match self.settings.user {
            Some(_) => Step::Send(answer),
            None => Step::Farewell(answer, Verdict::Pass),
        }
    }

    /// What the answer to the greeting begins with, and the request for TLS consists of: the same in
    /// both, as MariaDB goes by the first of them, and MySQL by the second.
    fn begin_answer(&self, greeting: &Greeting, secure: bool) -> Vec<u8> {
        let mut capabilities = capability::LONG_PASSWORD
            | capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | greeting.capabilities & capability::PLUGIN_AUTH;
        if secure {
            capabilities |= capability::SSL;
        }
        if self.database().is_some() {
            capabilities |= capability::CONNECT_WITH_DB;
        }
        let mut answer = Vec::new();
        answer.extend_from_slice(&capabilities.to_le_bytes());
        answer.extend_from_slice(&CLIENT_MAX_PACKET.to_le_bytes());
        answer.push(COLLATION);
        answer.extend_from_slice(&[0; 23]);
        answer
    }

    /// The database to log in to.
    fn database(&self) -> Option<&str> {
        self.settings.user.as_ref().and(self.settings.database.as_deref())
    }

    /// Takes an answer to the login.
    fn answered(&mut self, plugin: Plugin, packet: &[u8]) -> Step {
        match (packet, plugin) {
            ([0x00, ..], _) => {
                // COM_QUIT, or else the server counts and logs an aborted connection.
                self.sequence = 0;
                Step::Farewell(self.wrap(&[0x01]), Verdict::Pass)
            }
            ([0xff, error @ ..], _) => refused(error),
            // Without a name: the way of authentication of MySQL 4.0.
            ([0xfe], _) => unsupported(b"mysql_old_password"),
            ([0xfe, switch @ ..], _) => {
                let (name, data) = until_nul(switch);
                let Some(plugin) = Plugin::of_name(name) else { return unsupported(name) };
                let Some(challenge) = data.first_chunk() else { return fail(INVALID) };
                self.state = State::Login(plugin);
                let proof = plugin.proof(self.password(), challenge);
                Step::Send(self.wrap(&proof))
            }
            // The server knows the password, and a last packet follows.
            ([0x01, 0x03], Plugin::CachingSha2) => Step::Receive,
            // It knows only a hash that this proof cannot be held against, and wants the password.
            ([0x01, 0x04], Plugin::CachingSha2) if self.secure => {
                let password = [self.password(), b"\0"].concat();
                Step::Send(self.wrap(&password))
            }
            ([0x01, 0x04], Plugin::CachingSha2) => fail("the server wants the password, over TLS"),
            _ => fail(INVALID),
        }
    }

    fn password(&self) -> &[u8] {
        self.settings.password.as_ref().map_or(&[], |password| password.expose().as_bytes())
    }

    /// The packet with this content.
    fn wrap(&mut self, content: &[u8]) -> Vec<u8> {
        // Settings and proofs are by far shorter than the 16 MB that fit into the length.
        let [a, b, c, _] = (content.len() as u32).to_le_bytes();
        let packet = [&[a, b, c, self.sequence], content].concat();
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

impl Greeting {
    /// What follows the version of the protocol.
    fn parse(greeting: &[u8]) -> Option<Self> {
        let (_version, rest) = split_at_nul(greeting)?;
        let (_connection, rest) = rest.split_first_chunk::<4>()?;
        let (challenge_start, rest) = rest.split_first_chunk::<8>()?;
        let (_filler, rest) = rest.split_first()?;
        let (low, rest) = rest.split_first_chunk()?;
        let low = u32::from(u16::from_le_bytes(*low));

        let mut challenge = Challenge::default();
        challenge[..8].copy_from_slice(challenge_start);
        let mut greeting = Self { capabilities: low, challenge, plugin: None };
        // Servers before 4.1 end here.
        if rest.is_empty() {
            return Some(greeting);
        }
        let (_collation_and_status, rest) = rest.split_first_chunk::<3>()?;
        let (high, rest) = rest.split_first_chunk()?;
        greeting.capabilities |= u32::from(u16::from_le_bytes(*high)) << 16;
        let (&challenge_length, rest) = rest.split_first()?;
        let (_reserved, rest) = rest.split_first_chunk::<10>()?;
        if greeting.can(capability::SECURE_CONNECTION) {
            let length = usize::from(challenge_length).saturating_sub(8).max(13);
            let (challenge_end, rest) = rest.split_at_checked(length)?;
            greeting.challenge[8..].copy_from_slice(&challenge_end[..12]);
            if greeting.can(capability::PLUGIN_AUTH) {
                // Some servers leave the NUL at the end out.
                greeting.plugin = Plugin::of_name(until_nul(rest).0);
            }
        }
        Some(greeting)
    }

    fn can(&self, capability: u32) -> bool {
        self.capabilities & capability != 0
    }
}

impl Plugin {
    const ALL: [Self; 2] = [Self::Native, Self::CachingSha2];

    fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Native => b"mysql_native_password",
            Self::CachingSha2 => b"caching_sha2_password",
        }
    }

    /// The proof that the password is known. An empty one has none.
    fn proof(self, password: &[u8], challenge: &Challenge) -> Vec<u8> {
        match self {
            _ if password.is_empty() => Vec::new(),
            Self::Native => {
                let once = Sha1::digest(password);
                let twice = Sha1::digest(once);
                let mask = Sha1::new().chain_update(challenge).chain_update(twice).finalize();
                xor(&once, &mask)
            }
            Self::CachingSha2 => {
                let once = Sha256::digest(password);
                let twice = Sha256::digest(once);
                let mask = Sha256::new().chain_update(twice).chain_update(challenge).finalize();
                xor(&once, &mask)
            }
        }
    }
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..nul], &bytes[nul + 1..]))
}

fn until_nul(bytes: &[u8]) -> (&[u8], &[u8]) {
    split_at_nul(bytes).unwrap_or((bytes, &[]))
}

fn fail(reason: impl Into<Cow<'static, str>>) -> Step {
    Step::Done(Verdict::Fail(reason.into()))
}

/// The verdict by a packet of an error, without its first byte.
fn refused(error: &[u8]) -> Step {
    let Some((code, text)) = error.split_first_chunk() else { return fail(INVALID) };
    if u16::from_le_bytes(*code) == ER_SECURE_TRANSPORT_REQUIRED {
        return fail("the server demands TLS");
    }
    // Before the greeting there is no state in it.
    let text = match text {
        [b'#', _, _, _, _, _, text @ ..] => text,
        text => text,
    };
    Step::Done(failure("mysql", text))
}

fn unsupported(plugin: &[u8]) -> Step {
    fail(format!("mysql: plugin {} is not supported", clean(plugin, MAX_PLUGIN)))
}

#[cfg(test)]
mod tests {
    use super::super::play::{hex, play, play_all, Played, Talk};
    use super::*;
    use crate::logic::password::Password;
    use proptest::prelude::*;

    /// Two logins of this probe to MariaDB 10.11.19, the first one with `ssl=off`.
    const MARIADB: &str =
        "640000000a352e352e352d31302e31312e31392d4d6172696144422d302b64656231327531\
        008c00000061482725262e543e00feff080200ff81150000000000001d0000007863655145487844283d3a4900\
        6d7973716c5f6e61746976655f70617373776f726400";
    const MARIADB_TLS: &str =
        "640000000a352e352e352d31302e31312e31392d4d6172696144422d302b646562313275\
        31008d000000375d4e5029763c6500feff080200ff81150000000000001d000000685c734d673e41696c632d54\
        006d7973716c5f6e61746976655f70617373776f726400";
    const MARIADB_OK: &str = "0700000200000002000000";
    const MARIADB_TLS_OK: &str = "0700000300000002000000";

    /// Of MySQL 8.0.42: its greeting, and what it sends to a client that names another plugin. The
    /// proofs for "secret" are by the formulas of MySQL's documentation, computed elsewhere.
    const MYSQL: &str =
        "4a0000000a382e302e343200330000005d2e754d7f1e420f00ffffff0200ffdf1500000000\
        000000000000566c16157b481844482f4c050063616368696e675f736861325f70617373776f726400";
    const MYSQL_SWITCH: &str =
        "2c000002fe63616368696e675f736861325f70617373776f7264005d2e754d7f1e42\
        0f566c16157b481844482f4c0500";
    const SHA2_PROOF: &str = "c589a98615afe9ec2df554665d8388e72b4f0706a737e0db79d1444dce1ddb43";
    const NATIVE_PROOF: &str = "60a8e8027e056cc7548545371a62d5c7538b6364";

    impl Talk for MysqlProbe {
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

    fn probe(words: &str) -> MysqlProbe {
        let word = |name: &str| {
            let mut words = words.split(' ').filter_map(|word| word.strip_prefix(name));
            words.next().map(str::to_owned)
        };
        let settings = settings::MysqlProbe {
            user: word("user="),
            password: word("password=").map(|word| Password::new(word.as_bytes()).unwrap()),
            database: word("database="),
        };
        let ssl = match word("ssl=").as_deref() {
            Some("on") => Ssl::On,
            Some("off") => Ssl::Off,
            _ => Ssl::Auto,
        };
        MysqlProbe::new(&settings, ssl)
    }

    fn played(words: &str, turns: &[&str]) -> Played {
        let turns: Vec<_> = turns.iter().map(|turn| hex(turn)).collect();
        let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
        play_all(|| probe(words), &turns)
    }

    fn sent(packets: &[&str]) -> Vec<Option<Vec<u8>>> {
        packets.iter().map(|packet| (*packet != "TLS").then(|| hex(packet))).collect()
    }

    fn passed(packets: &[&str]) -> Played {
        Played { sent: sent(packets), end: Step::Done(Verdict::Pass) }
    }

    fn fed(words: &str, bytes: &[u8]) -> Step {
        let mut probe = probe(words);
        assert_eq!(probe.connected(), Step::Receive);
        probe.feed(bytes)
    }

    #[test]
    fn the_greeting_alone() {
        for (greeting, name) in [(MARIADB, NATIVE), (MARIADB_TLS, NATIVE), (MYSQL, SHA2)] {
            // Nobody, without a password.
            let length = 34 + name.len() as u8 / 2;
            let nobody = format!("{}0000{name}", answer(length, 1, "01820800"));
            assert_eq!(played("database=d", &[greeting]), passed(&[&nobody]));
            assert_eq!(fed("", &hex(greeting)[..20]), Step::Receive);
        }
        // Of MySQL 3.23, which has nothing behind the first half of the capabilities.
        let old = [b"\x1f\0\0\0\x0a3.23.58\0\x01\0\0\0ABCDEFGH\0\x2c\0\x08\x02\0", &[0; 4][..]];
        assert_eq!(fed("", &old.concat()[..4 + 0x1f]), fail(NOT_A_GREETING));
        let old = b"\x18\0\0\0\x0a3.23.58\0\x01\0\0\0ABCDEFGH\0\x2c\0";
        assert_eq!(fed("", old), Step::Done(Verdict::Pass));
        assert_eq!(fed("user=u", old), fail("the server is too old for a login"));
    }

    /// The first of the bytes of an answer to a greeting, as hexadecimal digits.
    fn answer(length: u8, sequence: u8, capabilities: &str) -> String {
        format!("{length:02x}0000{sequence:02x}{capabilities}000000012d{}", "00".repeat(23))
    }

    const NATIVE: &str = "6d7973716c5f6e61746976655f70617373776f726400";
    const SHA2: &str = "63616368696e675f736861325f70617373776f726400";
    const QUIT: &str = "0100000001";

    #[test]
    fn native_password() {
        let proof = "14bac1337333213e7d36613675027cb3676582d514";
        let login = answer(0x4f, 1, "09820800") + "6e00" + proof + "6400" + NATIVE;
        assert_eq!(
            played("user=n password=secret database=d ssl=off", &[MARIADB, MARIADB_OK]),
            passed(&[&login, QUIT])
        );

        let tls = answer(0x20, 1, "098a0800");
        let proof = "14db2e55b73a4fca7e5fc377f8e8ac10097048dc3e";
        let login = answer(0x4f, 2, "098a0800") + "6e00" + proof + "6400" + NATIVE;
        for ssl in ["on", "auto"] {
            let words = format!("user=n password=secret database=d ssl={ssl}");
            assert_eq!(
                played(&words, &[MARIADB_TLS, MARIADB_TLS_OK]),
                passed(&[&tls, "TLS", &login, QUIT])
            );
        }

        let login = answer(0x39, 1, "01820800") + "6e00" + "00" + NATIVE;
        assert_eq!(
            played("user=n ssl=off", &[MARIADB, MARIADB_OK]),
            passed(&[&login, QUIT]),
            "an empty password"
        );
    }

    #[test]
    fn caching_sha2_password() {
        let login = |sequence, capabilities| {
            answer(0x5c, sequence, capabilities) + "726f6f740020" + SHA2_PROOF + SHA2
        };
        // The server has the password in its cache.
        let cached = "0200000201030700000300000002000000";
        let plain = login(1, "01820800");
        assert_eq!(
            played("user=root password=secret ssl=off", &[MYSQL, cached]),
            passed(&[&plain, QUIT])
        );
        // It has not, and takes the password itself over TLS.
        let (tls, secure) = (answer(0x20, 1, "018a0800"), login(2, "018a0800"));
        assert_eq!(
            played("user=root password=secret", &[MYSQL, "020000030104", "0700000500000002000000"]),
            passed(&[&tls, "TLS", &secure, "0700000473656372657400", QUIT])
        );
        assert_eq!(
            played("user=root password=secret ssl=off", &[MYSQL, "020000020104"]),
            Played { sent: sent(&[&plain]), end: fail("the server wants the password, over TLS") }
        );
        // An empty one has no proof, and needs none.
        let empty = answer(0x3c, 1, "01820800") + "726f6f7400" + "00" + SHA2;
        assert_eq!(
            played("user=root ssl=off", &[MYSQL, "0700000200000002000000"]),
            passed(&[&empty, QUIT])
        );
    }

    #[test]
    fn another_plugin() {
        let cached = "0200000401030700000500000002000000";
        let words = "user=root password=secret ssl=off";
        // Once more, by the same plugin: what the server sends when the client named another one.
        let first = answer(0x5c, 1, "01820800") + "726f6f740020" + SHA2_PROOF + SHA2;
        let again = format!("20000003{SHA2_PROOF}");
        assert_eq!(played(words, &[MYSQL, MYSQL_SWITCH, cached]), passed(&[&first, &again, QUIT]));
        let native = MYSQL_SWITCH.replace(SHA2, NATIVE);
        let again = format!("14000003{NATIVE_PROOF}");
        assert_eq!(
            played(words, &[MYSQL, &native, "0700000400000002000000"]),
            passed(&[&first, &again, QUIT])
        );
        // Of MariaDB, for a user by ed25519; and of MySQL 4.0.
        let ed25519 =
            "30000002fe636c69656e745f656432353531390063f50855614d2d1bb6dc60c93bf71b2936c7095846\
             247abfa8066e2423e6e966";
        for (switch, reason) in [
            (ed25519, "mysql: plugin client_ed25519 is not supported"),
            ("01000002fe", "mysql: plugin mysql_old_password is not supported"),
            ("02000002fe00", "mysql: plugin  is not supported"),
            ("17000002fe6d7973716c5f6e61746976655f70617373776f726400", INVALID),
        ] {
            assert_eq!(played(words, &[MYSQL, switch]).end, fail(reason));
        }
        let (greeting, switch) = (hex(MYSQL), hex(MYSQL_SWITCH));
        let mut turns = vec![&switch[..]; 100];
        turns[0] = &greeting;
        let mut probe = probe(words);
        assert_eq!(play(&mut probe, &turns, |_| false).end, fail("too many MySQL packets"));
    }

    #[test]
    fn tls() {
        let without = MARIADB.replace("00feff0802", "00fef70802");
        assert_eq!(played("ssl=on", &[&without]).end, fail("the server has no TLS"));
        assert_eq!(played("user=n ssl=on", &[&without]).end, fail("the server has no TLS"));
        assert_eq!(played("user=n", &[&without, MARIADB_OK]).end, Step::Done(Verdict::Pass));
        let nobody = format!("{}0000{NATIVE}", answer(0x38, 2, "018a0800"));
        assert_eq!(
            played("ssl=on database=d", &[MARIADB]),
            passed(&[&answer(0x20, 1, "018a0800"), "TLS", &nobody])
        );
        // Bytes before TLS.
        let early = [hex(MARIADB), hex(MARIADB_OK)].concat();
        assert_eq!(fed("user=n", &early), fail(INVALID));
        let mut probe = probe("user=n");
        assert!(matches!(probe.feed(&hex(MARIADB)), Step::StartTls(_)));
        assert_eq!(probe.feed(&hex(MARIADB_OK)), fail(INVALID));
        assert_eq!(self::probe("user=n").secured(), fail(INVALID));
    }

    fn error(sequence: u8, code: u16, text: &str) -> Vec<u8> {
        let [low, high] = code.to_le_bytes();
        let length = text.len() as u8 + 3;
        [&[length, 0, 0, sequence, 0xff, low, high], text.as_bytes()].concat()
    }

    #[test]
    fn errors() {
        for (code, text, reason) in [
            (1040, "Too many connections", "mysql: Too many connections"),
            (1040, "#08004Too many connections", "mysql: Too many connections"),
            (
                1129,
                "Host '192.0.2.2' is blocked because of many connection errors; unblock with ...",
                "mysql: Host '192.0.2.2' is blocked because of many conn",
            ),
            (
                1045,
                "#28000Access denied for user 'n'@'localhost' (using password: YES)",
                "mysql: Access denied for user 'n'@'localhost' (using pa",
            ),
            (
                3159,
                "#HY000Connections using insecure transport are prohibited",
                "the server demands TLS",
            ),
            (1, "", "mysql: an error without words"),
        ] {
            assert_eq!(fed("", &error(0, code, text)), fail(reason));
            let words = "user=n ssl=off";
            let turns = [&hex(MARIADB)[..], &error(2, code, text)];
            let played = play_all(|| probe(words), &turns);
            assert_eq!(played.end, fail(reason));
        }
        assert_eq!(fed("", &[2, 0, 0, 0, 0xff, 1]), fail(INVALID));
    }

    #[test]
    fn closed() {
        assert_eq!(fed("", b""), fail(CLOSED));
        let mut probe = probe("user=n ssl=off");
        assert!(matches!(probe.feed(&hex(MARIADB)), Step::Send(_)));
        assert_eq!(probe.feed(b""), fail(CLOSED));
    }

    #[test]
    fn nonsense() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\xff\xff\xff\0",
            b"\0\0\0\0",
            b"\x01\0\0\0\x0a",
            b"\x02\0\0\0\x09x",
        ] {
            assert_eq!(fed("", bytes), fail(NOT_A_GREETING), "{bytes:?}");
        }
        // Cut off within, but for where a server before 4.1 ends.
        let greeting = hex(MYSQL);
        for length in (1..52).filter(|length| *length != 23) {
            let cut = [&[length, 0, 0, 0], &greeting[4..][..usize::from(length)]].concat();
            assert_eq!(fed("", &cut), fail(NOT_A_GREETING), "{length}");
        }
        // With another length of the challenge than the 21 bytes that it has.
        for (length, ends) in
            [(0, false), (20, false), (43, false), (44, true), (135, true), (255, true)]
        {
            let mut greeting = greeting.clone();
            assert_eq!(std::mem::replace(&mut greeting[32], length), 21);
            let end = fed("user=u ssl=off", &greeting);
            assert_eq!(end == fail(NOT_A_GREETING), ends, "{length}: {end:?}");
        }
        for (packet, reason) in [
            ("00000002", INVALID),
            ("01000002ab", INVALID),
            ("0a0000020a", CLOSED),
            ("020000020103", INVALID),
            ("02000002fe63", "mysql: plugin c is not supported"),
            ("014000020a", "MySQL packet too large"),
        ] {
            let mut probe = probe("user=n ssl=off");
            let end = match play(&mut probe, &[&hex(MARIADB), &hex(packet)], |_| false).end {
                Step::Receive => probe.feed(b""),
                end => end,
            };
            assert_eq!(end, fail(reason), "{packet}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(
            turns in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            every in 1_usize..50,
        ) {
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            play(&mut probe("user=u password=x"), &turns, |at| at % every == 0);
        }

        #[test]
        fn any_content(
            packets in prop::collection::vec(
                (prop::sample::select(vec![0_u8, 1, 2, 10, 0xfe, 0xff]), prop::collection::vec(any::<u8>(), 0..80)),
                0..5,
            ),
            greeted: bool,
            words in prop::sample::select(vec!["", "user=u", "user=u password=x ssl=off", "ssl=on"]),
            every in 1_usize..50,
        ) {
            let wrap = |(kind, content): (u8, Vec<u8>)| {
                [&[content.len() as u8 + 1, 0, 0, 0, kind], &content[..]].concat()
            };
            let mut turns: Vec<_> = packets.into_iter().map(wrap).collect();
            if greeted {
                turns.insert(0, hex(MYSQL));
            }
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            play(&mut probe(words), &turns, |at| at % every == 0);
        }

        #[test]
        fn a_login_with_bytes_changed(
            changes in prop::collection::vec((0.0..1.0, any::<u8>()), 0..4),
            ssl in prop::sample::select(vec!["on", "off"]),
        ) {
            let mut turns = [hex(MYSQL), hex(MYSQL_SWITCH), hex("020000040104"), hex(MARIADB_OK)];
            let length: usize = turns.iter().map(Vec::len).sum();
            for (place, byte) in changes {
                let place = (length as f64 * place) as usize;
                *turns.iter_mut().flatten().nth(place).unwrap() = byte;
            }
            let turns: Vec<_> = turns.iter().map(Vec::as_slice).collect();
            let words = format!("user=root password=secret ssl={ssl}");
            play(&mut probe(&words), &turns, |_| false);
        }
    }
}
