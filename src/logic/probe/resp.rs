//! Replies of Redis, in RESP2 and RESP3.
//!
//! Not by the crate redis-protocol: its decoder calls itself for each array in an array, without a
//! limit (32 kB of `*1\r\n` overflow the stack of a worker), and takes 64 kB of memory for each.

/// The longest string in a reply. A section of INFO has under 2 kB, and 70 bytes for each replica.
pub const MAX_STRING: usize = 64 * 1024;

/// The longest line: an error, or a number.
pub const MAX_LINE: usize = 1024;

/// The longest array, in bytes. Only what comes unasked is one.
pub const MAX_ARRAY: usize = 4096;

/// A whole reply, as far as a check tells replies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A string, in any of its forms.
    Text(&'a [u8]),
    /// An error.
    Error(&'a [u8]),
    /// What the server says unasked: not the reply to a command.
    Unasked,
    /// A number, a null, an array.
    Other,
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// They have another form.
    Invalid,
    /// One of the limits.
    TooLarge,
}

/// The reply that these bytes begin with, and its length; `None`: more bytes are wanted, and there
/// are less than [`MAX_STRING`] and a line now.
pub fn reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Error> {
    let Some(first) = item(bytes)? else { return Ok(None) };
    if first.items == 0 {
        return Ok(Some((first.reply, first.length)));
    }
    // Item by item, however deep it stands: only how many are to come has to be known.
    let array = &bytes[..bytes.len().min(MAX_ARRAY)];
    let (mut items, mut length) = (first.items, first.length);
    while items > 0 {
        let Some(next) = array.get(length..).map(item).transpose()?.flatten() else {
            return if array.len() == MAX_ARRAY { Err(Error::TooLarge) } else { Ok(None) };
        };
        length += next.length;
        items = items - 1 + next.items;
        if items > MAX_ARRAY {
            return Err(Error::TooLarge);
        }
    }
    Ok(Some((first.reply, length)))
}

/// A line, and what belongs to it but for the items of an array.
struct Item<'a> {
    reply: Reply<'a>,
    length: usize,
    /// How many items follow.
    items: usize,
}

fn item(bytes: &[u8]) -> Result<Option<Item<'_>>, Error> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"+-$=!:,#_(*~>%|".contains(&kind) {
        return Err(Error::Invalid);
    }
    let window = &rest[..rest.len().min(MAX_LINE)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == MAX_LINE { Err(Error::TooLarge) } else { Ok(None) };
    };
    let line = &rest[..end];
    let length = 1 + end + 2;
    let item = |reply, items| Ok(Some(Item { reply, length, items }));

    match kind {
        b'+' => item(Reply::Text(line), 0),
        b'-' => item(Reply::Error(line), 0),
        // A null, as RESP2 has it.
        b'$' | b'*' if line == b"-1" => item(Reply::Other, 0),
        b'$' | b'=' | b'!' => {
            let size = number(line)?;
            if size > MAX_STRING {
                return Err(Error::TooLarge);
            }
            let Some(string) = bytes.get(length..length + size + 2) else { return Ok(None) };
            let Some(string) = string.strip_suffix(b"\r\n") else { return Err(Error::Invalid) };
            let reply = match kind {
                b'$' => Reply::Text(string),
                b'!' => Reply::Error(string),
                // It says first in three letters what kind of text it is.
                _ => Reply::Text(string.get(4..).ok_or(Error::Invalid)?),
            };
            Ok(Some(Item { reply, length: length + size + 2, items: 0 }))
        }
        b'*' | b'~' => item(Reply::Other, number(line)?),
        b'%' => item(Reply::Other, 2 * number(line)?),
        b'>' => item(Reply::Unasked, number(line)?),
        // Attributes of what comes next.
        b'|' => item(Reply::Unasked, 2 * number(line)?),
        _ => item(Reply::Other, 0),
    }
}

fn number(line: &[u8]) -> Result<usize, Error> {
    let digits = std::str::from_utf8(line).ok().filter(|_| line.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or(Error::Invalid)?;
    if digits.len() > 9 {
        return Err(Error::TooLarge);
    }
    digits.parse().map_err(|_| Error::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8], expected: Reply<'_>) {
        assert_eq!(reply(bytes), Ok(Some((expected, bytes.len()))), "{bytes:?}");
        for end in 0..bytes.len() {
            assert_eq!(reply(&bytes[..end]), Ok(None), "{bytes:?} up to {end}");
        }
        assert_eq!(reply(&[bytes, b"+x"].concat()), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn kinds() {
        whole(b"+PONG\r\n", Reply::Text(b"PONG"));
        whole(b"+\r\n", Reply::Text(b""));
        whole(b"-ERR no\r\n", Reply::Error(b"ERR no"));
        whole(b"$5\r\na\r\nb\n\r\n", Reply::Text(b"a\r\nb\n"));
        whole(b"$0\r\n\r\n", Reply::Text(b""));
        whole(b"$-1\r\n", Reply::Other);
        whole(b"*-1\r\n", Reply::Other);
        whole(b":-17\r\n", Reply::Other);
        whole(b"=15\r\ntxt:role:master\r\n", Reply::Text(b"role:master"));
        whole(b"!6\r\nERR no\r\n", Reply::Error(b"ERR no"));
        for scalar in ["_\r\n", "#t\r\n", ",inf\r\n", "(123456789012345678901234567890\r\n"] {
            whole(scalar.as_bytes(), Reply::Other);
        }
        whole(b"*0\r\n", Reply::Other);
        whole(b"*2\r\n*1\r\n+a\r\n$1\r\nb\r\n", Reply::Other);
        whole(b"~1\r\n:1\r\n", Reply::Other);
        whole(b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n", Reply::Other);
        whole(b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", Reply::Unasked);
        whole(b"|1\r\n+ttl\r\n:3600\r\n", Reply::Unasked);
    }

    #[test]
    fn nonsense() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"\n",
            b"\x15\x03\x03",
            b"$\xff\r\n",
            b"$-2\r\n",
            b"$+1\r\n",
            b"$1x\r\n",
            b"$?\r\n",
            b"*?\r\n",
            b"$1\r\nabc",
            b"=3\r\ntxt\r\n",
            b"*1\r\nx",
        ] {
            assert_eq!(reply(bytes), Err(Error::Invalid), "{bytes:?}");
        }
    }

    #[test]
    fn limits() {
        let too_large = Err(Error::TooLarge);
        assert_eq!(reply(&[b'+'; MAX_LINE]), Ok(None));
        assert_eq!(reply(&[b'+'; MAX_LINE + 1]), too_large);
        assert_eq!(reply(format!("${MAX_STRING}\r\n").as_bytes()), Ok(None));
        assert_eq!(reply(format!("${}\r\n", MAX_STRING + 1).as_bytes()), too_large);
        for line in ["$9999999999", "*18446744073709551616", "%9223372036854775807"] {
            assert_eq!(reply(format!("{line}\r\n").as_bytes()), too_large, "{line}");
        }
        assert_eq!(reply(b"%999999999\r\n*999999999\r\n"), too_large);
        for nested in ["*1\r\n", ">1\r\n", "|1\r\n+\r\n", "%1\r\n:1\r\n", "*2\r\n:1\r\n"] {
            assert_eq!(reply(nested.repeat(100_000).as_bytes()), too_large, "{nested}");
        }
    }

    proptest! {
        #[test]
        fn what_is_not_whole_stays_below_the_limit(
            lines in prop::collection::vec(
                (prop::sample::select(b"*>%|~$=!+-:_#,(".to_vec()), "[0-9]{0,6}|[a-z]{0,30}"),
                0..40,
            ),
        ) {
            let bytes: Vec<u8> = lines
                .into_iter()
                .flat_map(|(kind, rest)| [&[kind][..], rest.as_bytes(), b"\r\n"].concat())
                .collect();
            match reply(&bytes) {
                Ok(None) => prop_assert!(bytes.len() < MAX_STRING + MAX_LINE + 5),
                Ok(Some((_, length))) => prop_assert!((1..=bytes.len()).contains(&length)),
                Err(_) => {}
            }
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = reply(&bytes);
        }
    }
}
