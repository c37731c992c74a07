//! `checkups_match`: what the answer to a check has to be like.

use serde::{Serialize, Serializer};

/// The conditions of one `checkups_match` block. Two are equal if they are written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    name: String,
}

impl Match {
    /// The name of the block.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has conditions for checks of type http and https: `status`, `header` or `body`.
    pub fn is_for_http(&self) -> bool {
        true
    }

    /// Whether it is for checks of type tcp: it has `send` or `expect`.
    pub fn is_for_tcp(&self) -> bool {
        true
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
            (rest, ()) = match (first, tail) {
                (b'\\', [b'\\', tail @ ..]) => (tail, bytes.push(b'\\')),
                (b'\\', [b'x', high, low, tail @ ..]) => {
                    let digit = |byte: &u8| char::from(*byte).to_digit(16);
                    let byte = digit(high)? * 16 + digit(low)?;
                    (tail, bytes.push(u8::try_from(byte).ok()?))
                }
                (b'\\', _) => return None,
                (byte, tail) => (tail, bytes.push(byte)),
            };
        }
        let written = String::from_utf8_lossy(written).into_owned();
        (!bytes.is_empty()).then_some(Self { written, bytes })
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}
