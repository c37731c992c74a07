//! Passwords of the checks, which neither status nor log may show.

use std::fmt;

use thiserror::Error;

/// The longest password, in bytes. MySQL takes 256; libpq, and so the tools of PostgreSQL, 1024 at
/// least.
pub const MAX_PASSWORD: usize = 1024;

/// A password. It is shown as asterisks and has no `Serialize`, so that whatever shows settings
/// cannot show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why something is no password. None of them says what stands there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PasswordError {
    /// There is nothing, or only the end of a line.
    #[error("the password is empty")]
    Empty,
    /// More than [`MAX_PASSWORD`].
    #[error("the password is longer than {MAX_PASSWORD} bytes")]
    Long,
    /// There is text behind the first line.
    #[error("there is more than one line")]
    Lines,
    /// A NUL, which ends strings in the protocols, or what is not UTF-8.
    #[error("the password is not text in UTF-8")]
    Text,
}

impl Password {
    /// A password as it stands in a directive.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub fn new(text: &[u8]) -> Result<Self, PasswordError> {
        match std::str::from_utf8(text) {
            _ if text.is_empty() => Err(PasswordError::Empty),
            _ if text.len() > MAX_PASSWORD => Err(PasswordError::Long),
            Ok(text) if !text.contains('\0') => Ok(Self(text.to_owned())),
            _ => Err(PasswordError::Text),
        }
    }

    /// The password in a file: its only line, without the end of the line.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub fn from_file(contents: &[u8]) -> Result<Self, PasswordError> {
        let line = contents.strip_suffix(b"\n").unwrap_or(contents);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= MAX_PASSWORD && line.contains(&b'\n') {
            return Err(PasswordError::Lines);
        }
        Self::new(line)
    }

    /// The password itself, for the server that is to have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::settings::{MysqlProbe, RedisProbe};

    #[test]
    fn files() {
        for (contents, password) in [
            (&b"secret"[..], Ok("secret")),
            (b"secret\n", Ok("secret")),
            (b"secret\r\n", Ok("secret")),
            (b" two words \n", Ok(" two words ")),
            ("Gr\u{fc}n".as_bytes(), Ok("Gr\u{fc}n")),
            (b"", Err(PasswordError::Empty)),
            (b"\n", Err(PasswordError::Empty)),
            (b"a\nb\n", Err(PasswordError::Lines)),
            (b"a\n\n", Err(PasswordError::Lines)),
            (b"a\0b", Err(PasswordError::Text)),
            (b"\xff", Err(PasswordError::Text)),
            (&[b'a'; MAX_PASSWORD + 1], Err(PasswordError::Long)),
        ] {
            let found = Password::from_file(contents);
            assert_eq!(found.as_ref().map(Password::expose), password.as_ref().map(|text| *text));
        }
        assert!(Password::new(&[b'a'; MAX_PASSWORD]).is_ok());
    }

    #[test]
    fn it_is_not_shown() {
        let password = Password::new(b"secret").unwrap();
        assert_eq!(format!("{password} {password:?} {password:#?}"), "*** *** ***");

        let user = Some("u".to_owned());
        let redis = RedisProbe { user: user.clone(), password: Some(password.clone()) };
        assert!(!format!("{redis:?}").contains("secret"));
        assert_eq!(serde_json::to_string(&redis).unwrap(), r#"{"user":"u"}"#);

        let mysql = MysqlProbe { user, password: Some(password), database: None };
        assert!(!format!("{mysql:?}").contains("secret"));
        assert_eq!(serde_json::to_string(&mysql).unwrap(), r#"{"user":"u","database":null}"#);
    }
}
