//! Plays a server that says anything, and looks at what a probe makes of it.

use fastrand::Rng;
use ngx_checkups::logic::probe::{Probe, Step, Verdict};
use ngx_checkups::logic::settings::Check;

use crate::{memory, split};

/// The most bytes of a message: what is kept of it.
const MAX_MESSAGE: usize = 63;

/// The longest piece in which bytes arrive: as the module reads them.
const MAX_PIECE: usize = 16 * 1024;

/// An endless server says so much more than a probe may keep ...
const MORE: usize = 64 * 1024;

/// ... in so many pieces at the most.
const MAX_PIECES: usize = 1000;

/// What is special of a protocol.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The most bytes of memory that a probe holds.
    pub memory: usize,
    /// Whether the server speaks once, at will. Where client and server take turns, a server that
    /// does not wait for its own may be refused for what arrives together.
    pub one_turn: bool,
}

/// How a check went.
struct Played {
    deeds: Vec<Deed>,
    /// How many bytes were fed.
    fed: usize,
    verdict: Verdict,
    details: Option<String>,
    /// Whether the connection may serve the next check.
    is_reusable: bool,
}

/// What a probe did when it had the bytes before this place. What it sent is told by its length:
/// what it makes up differs each time.
#[derive(Debug, PartialEq)]
enum Deed {
    Sent { place: usize, length: usize },
    Secured { place: usize, length: usize },
}

/// A server says something, then closes the connection. It is played several times, and whatever it
/// says, this must hold:
///
/// - The verdict, and what was sent before it, does not depend on how the bytes are cut.
/// - A closed connection ends the check.
/// - A message is short and has no control characters.
/// - A probe has a limit of the memory that it holds, even where the server never stops.
///
/// The first byte of `input` is for the cuts, and `0` for a server that never stops, too; the second
/// one chooses the check, the rest is what the server says.
///
/// # Panics
/// Where it does not hold.
pub fn talk(checks: &[Check], input: &[u8], rules: Rules) {
    let Some((seed, choice, said)) = split(input, checks.len()) else { return };
    let check = &checks[choice];
    let mut random = Rng::with_seed(u64::from(seed) << 32 | said.len() as u64);
    let longest = random.usize(1..=MAX_PIECE);

    // Byte by byte, it is seen when it is the server's turn. There its bytes are cut, and at random
    // between.
    let reference = play(check, said, rules, |_| 1);
    let turns: Vec<usize> = reference.deeds.iter().map(Deed::place).collect();
    let heard = if rules.one_turn { said } else { &said[..reference.fed] };
    let in_pieces = play(check, heard, rules, |place| {
        let length = random.usize(1..=longest);
        let next = turns.iter().find(|turn| **turn > place);
        next.map_or(length, |next| length.min(next - place))
    });
    assert_eq!(in_pieces.deeds, reference.deeds, "cut into pieces");
    assert_eq!(in_pieces.verdict, reference.verdict, "cut into pieces");
    assert_eq!(in_pieces.details, reference.details, "cut into pieces");
    // What comes behind the response is seen only if it arrives together with it.
    if reference.fed == heard.len() {
        assert_eq!(in_pieces.is_reusable, reference.is_reusable, "cut into pieces");
    }

    // A server that does not wait for its turn gets a verdict, too.
    play(check, said, rules, |_| usize::MAX);

    // This takes its time.
    if seed == 0 && !said.is_empty() {
        let tail = random.usize(1..=said.len());
        let one = play_endlessly(check, said, tail, longest, rules);
        if rules.one_turn {
            let other = play_endlessly(check, said, tail, random.usize(1..=MAX_PIECE), rules);
            if let (Some(one), Some(other)) = (one, other) {
                assert_eq!(one, other, "cut into pieces of another length");
            }
        }
    }
}

/// The server says it in pieces. `piece` says how long they are, by the place in `said`.
fn play(check: &Check, said: &[u8], rules: Rules, mut piece: impl FnMut(usize) -> usize) -> Played {
    let mut said = said.to_vec();
    let (played, peak) = memory::peak_of(|| {
        let mut probe = Probe::new(check).unwrap();
        let mut deeds = Vec::new();
        let mut place = 0;
        let mut step = probe.connected();
        loop {
            step = match step {
                Step::Send(bytes) => {
                    deeds.push(Deed::Sent { place, length: bytes.len() });
                    insert_nonce(&bytes, &mut said[place..]);
                    Step::Receive
                }
                Step::StartTls(bytes) => {
                    deeds.push(Deed::Secured { place, length: bytes.len() });
                    probe.secured()
                }
                Step::Receive => {
                    let end = place.saturating_add(piece(place)).min(said.len());
                    let bytes = &said[place..end];
                    place = end;
                    let step = probe.feed(bytes);
                    let over = matches!(step, Step::Done(_) | Step::Farewell(..));
                    assert!(over || !bytes.is_empty(), "not over when closed: {step:?}");
                    step
                }
                Step::Done(verdict) | Step::Farewell(_, verdict) => {
                    check_message(&verdict);
                    let details = probe.details();
                    let details = details.map(|details| serde_json::to_string(details).unwrap());
                    let is_reusable = probe.is_reusable();
                    assert!(!is_reusable || verdict == Verdict::Pass);
                    return Played { deeds, fed: place, verdict, details, is_reusable };
                }
            };
        }
    });
    assert!(peak <= rules.memory, "{peak} bytes of memory");
    played
}

/// The server says it in pieces of one length, whatever it is asked, then the last `tail` bytes again
/// and again, and does not close the connection. `None`: the check went on for as long as is played.
fn play_endlessly(
    check: &Check,
    said: &[u8],
    tail: usize,
    length: usize,
    rules: Rules,
) -> Option<Verdict> {
    // From each place up to the end of the first repetition there is a piece.
    let again = said[said.len() - tail..].repeat(length / tail + 2);
    let stream = [said, &again].concat();
    let (verdict, peak) = memory::peak_of(|| {
        let mut probe = Probe::new(check).unwrap();
        let mut place = 0;
        let mut fed = 0;
        let mut step = probe.connected();
        while fed < (rules.memory + MORE).min(length * MAX_PIECES) {
            step = match step {
                Step::StartTls(_) => probe.secured(),
                Step::Send(_) | Step::Receive => {
                    let piece = &stream[place..place + length];
                    fed += length;
                    place += length;
                    if place > said.len() {
                        place = said.len() + (place - said.len()) % tail;
                    }
                    probe.feed(piece)
                }
                Step::Done(verdict) | Step::Farewell(_, verdict) => {
                    check_message(&verdict);
                    return Some(verdict);
                }
            };
        }
        None
    });
    assert!(peak <= rules.memory, "{peak} bytes of memory");
    verdict
}

impl Deed {
    fn place(&self) -> usize {
        let (Self::Sent { place, .. } | Self::Secured { place, .. }) = self;
        *place
    }
}

/// In SCRAM a server has to repeat what the client made up, in its next message. As many `@` stand
/// for it there, and there only: it must not get to where a verdict may depend on it.
fn insert_nonce(sent: &[u8], to_say: &mut [u8]) {
    let Some(start) = sent.windows(2).position(|pair| pair == b"r=") else { return };
    let nonce = sent[start + 2..].split(|byte| *byte == b',').next().unwrap_or_default();
    if let [b'R', _, _, _, _, 0, 0, 0, 11, b'r', b'=', rest @ ..] = to_say {
        let place = rest.get_mut(..nonce.len());
        if let Some(place) = place.filter(|place| place.iter().all(|byte| *byte == b'@')) {
            place.copy_from_slice(nonce);
        }
    }
}

/// What a message has to be like, whatever it was made from.
///
/// # Panics
/// Where it is not.
pub fn check_message(verdict: &Verdict) {
    let (Verdict::Fail(message) | Verdict::Unstable(message)) = verdict else { return };
    assert!(!message.is_empty(), "no message");
    assert!(message.len() <= MAX_MESSAGE, "too long: {message:?}");
    assert!(!message.chars().any(char::is_control), "control characters: {message:?}");
}
