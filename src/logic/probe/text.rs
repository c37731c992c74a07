//! What a server says, made fit for status and log.

use super::Verdict;

/// The most bytes of a server's words in a verdict. With the name of the protocol before them they
/// fit into what is kept of a message.
const MAX_WORDS: usize = 48;

/// A failure in the words of the server.
pub(super) fn failure(protocol: &str, words: &[u8]) -> Verdict {
    let words = clean(words, MAX_WORDS);
    let words = if words.is_empty() { "an error without words" } else { &words };
    Verdict::Fail(format!("{protocol}: {words}").into())
}

/// The first `most` bytes of a text without control characters, and not cut within a character.
pub(super) fn clean(text: &[u8], most: usize) -> String {
    // What is not UTF-8 becomes three bytes for one; and a server may begin with many control
    // characters, which are not worth a look at all of its text.
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * most)]);
    let mut clean = String::with_capacity(most);
    for character in text.chars().filter(|character| !character.is_control()) {
        if clean.len() + character.len_utf8() > most {
            break;
        }
        clean.push(character);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        for (words, shown) in [
            (&b"NOAUTH Authentication required."[..], "x: NOAUTH Authentication required."),
            (b"a\r\nb\x1b[2Jc\0", "x: ab[2Jc"),
            (b"", "x: an error without words"),
            (b"\n \n", "x: an error without words"),
            (b"Zugriff f\xfcr", "x: Zugriff f\u{fffd}r"),
        ] {
            assert_eq!(failure("x", words), Verdict::Fail(shown.into()));
        }
        let long = "\u{e4}".repeat(100);
        let Verdict::Fail(message) = failure("postgres", long.as_bytes()) else { unreachable!() };
        assert_eq!(message, format!("postgres: {}", "\u{e4}".repeat(24)));
    }

    proptest! {
        #[test]
        fn any_bytes(words in prop::collection::vec(any::<u8>(), 0..500)) {
            let Verdict::Fail(message) = failure("postgres", &words) else { unreachable!() };
            prop_assert!(message.len() <= 63);
            prop_assert!(!message.chars().any(char::is_control));
        }
    }
}
