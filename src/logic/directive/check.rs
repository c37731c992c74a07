//! `checkups_check`.

use super::{DirectiveError, Result, Word, MIN_INTERVAL};
use crate::logic::settings::{Check, HttpProbe, Mandatory, Probe, Time};

/// Parses the words after `checkups_check`: `TYPE [parameter=value ...]`, or `off`: then `None`.
///
/// `host` is the Host header of an HTTP check that has no `host=`.
///
/// # Errors
/// On an unknown type, on unknown or repeated parameters, and on values out of range.
pub fn check(words: &[&[u8]], host: &str) -> Result<Option<Check>> {
    const COMMON: &str = "interval=, jitter=, timeout=, fails=, passes= and port=";
    const HTTP: &str =
        "interval=, jitter=, timeout=, fails=, passes=, port=, uri=, method= and host=";

    let Some((kind, words)) = words.split_first() else {
        return Err(DirectiveError::CheckType { word: None });
    };
    let http = match *kind {
        b"tcp" => false,
        b"http" => true,
        b"off" => {
            return match words.first() {
                None => Ok(None),
                Some(word) => {
                    Err(DirectiveError::AfterOff { word: Word::new(word).text.to_string() })
                }
            }
        }
        other => {
            let word = String::from_utf8_lossy(other).into_owned();
            return Err(DirectiveError::CheckType { word: Some(word) });
        }
    };

    let (mut interval, mut jitter, mut timeout) = (None, None, None);
    let (mut fails, mut passes, mut port) = (None, None, None);
    let (mut uri, mut method, mut host_given) = (None, None, None);

    for word in words.iter().map(|word| Word::new(word)) {
        let name = word.parameter().map(|(name, _)| name);
        match name {
            Some("interval") => word.once(&mut interval, |w| w.time(MIN_INTERVAL))?,
            Some("jitter") => word.once(&mut jitter, |w| w.time(Time::seconds(0)))?,
            Some("timeout") => word.once(&mut timeout, |w| w.time(Time::milliseconds(1)))?,
            Some("fails") => word.once(&mut fails, |w| w.number(1, 1_000_000))?,
            Some("passes") => word.once(&mut passes, |w| w.number(1, 1_000_000))?,
            Some("port") => {
                word.once(&mut port, |w| Ok(w.number(1, u32::from(u16::MAX))? as u16))?;
            }
            Some("uri" | "method" | "host") if !http => {
                return Err(DirectiveError::NotForType {
                    word: word.text.to_string(),
                    kind: "tcp",
                    allowed: COMMON,
                });
            }
            Some("uri") => word.once(&mut uri, |w| w.uri())?,
            Some("method") => word.once(&mut method, |w| w.method())?,
            Some("host") => word.once(&mut host_given, |w| w.host())?,
            _ => return Err(word.unknown(if http { HTTP } else { COMMON })),
        }
    }

    let probe = if http {
        Probe::Http(HttpProbe {
            method: method.unwrap_or_else(|| "GET".to_owned()),
            uri: uri.unwrap_or_else(|| "/".to_owned()),
            host: host_given.unwrap_or_else(|| host.to_owned()),
        })
    } else {
        Probe::Tcp
    };
    Ok(Some(Check {
        probe,
        interval: interval.unwrap_or(Time::seconds(5)),
        jitter: jitter.unwrap_or(Time::seconds(0)),
        timeout: timeout.unwrap_or(Time::seconds(2)),
        fails: fails.unwrap_or(1),
        passes: passes.unwrap_or(1),
        port,
        down_interval: None,
        mandatory: Mandatory::Off,
        bind: None,
        proxy_protocol: false,
        tls: None,
        protected: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;

    fn check_error(line: &str) -> String {
        check(&words(line), "up").unwrap_err().to_string()
    }

    #[test]
    fn check_defaults() {
        let tcp = check(&words("tcp"), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&tcp).unwrap(),
            r#"{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        let http = check(&words("http"), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&http).unwrap(),
            r#"{"type":"http","method":"GET","uri":"/","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}"#
        );
        assert_eq!(check(&words("off"), "up"), Ok(None));
    }

    #[test]
    fn check_parameters() {
        let line = "http interval=1m timeout=100ms jitter=1s fails=3 passes=2 port=81 \
                    uri=/health?x=1 method=HEAD host=a.b";
        let check = check(&words(line), "up").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&check).unwrap(),
            r#"{"type":"http","method":"HEAD","uri":"/health?x=1","host":"a.b","interval":"60s","jitter":"1s","timeout":"100ms","fails":3,"passes":2,"port":81}"#
        );
    }

    #[test]
    fn check_errors_name_the_word_and_what_is_allowed() {
        for (line, error) in [
            ("", "missing type of check, allowed are tcp, http and off"),
            ("icmp", "unknown type \"icmp\" of check, allowed are tcp, http and off"),
            ("off interval=1s", "unexpected parameter \"interval=1s\" after \"off\""),
            (
                "tcp intervall=1s",
                "unknown parameter \"intervall=1s\", allowed are interval=, jitter=, timeout=, \
                 fails=, passes= and port=",
            ),
            (
                "http x",
                "unknown parameter \"x\", allowed are interval=, jitter=, timeout=, fails=, \
                 passes=, port=, uri=, method= and host=",
            ),
            (
                "tcp uri=/",
                "parameter \"uri=/\" is not for a check of type \"tcp\", allowed are interval=, \
                 jitter=, timeout=, fails=, passes= and port=",
            ),
            ("tcp fails=1 fails=1", "duplicate parameter \"fails=1\""),
            (
                "tcp interval=9ms",
                "invalid value in \"interval=9ms\", it must be a time from 10ms to 604800s, for \
                 example 5s or 500ms",
            ),
            (
                "tcp timeout=0",
                "invalid value in \"timeout=0\", it must be a time from 1ms to 604800s, for \
                 example 5s or 500ms",
            ),
            ("tcp fails=0", "invalid value in \"fails=0\", it must be a number from 1 to 1000000"),
            ("tcp passes=-1", "invalid value in \"passes=-1\", it must be a number from 1 to 1000000"),
            ("tcp port=65536", "invalid value in \"port=65536\", it must be a number from 1 to 65535"),
            (
                "http uri=x",
                "invalid value in \"uri=x\", it must be a path that begins with / and has no blanks",
            ),
            (
                "http method=get",
                "invalid value in \"method=get\", it must be a method in capital letters, for \
                 example GET or HEAD",
            ),
            ("http host=", "invalid value in \"host=\", it must be a host name without blanks"),
        ] {
            assert_eq!(check_error(line), error, "{line}");
        }
        assert!(check(&[b"http", b"uri=/\xff"], "up").is_err());
        assert!(check(&[b"http", b"uri=/a b"], "up").is_err());
        assert!(check(&[b"http", b"host=a\r\nb"], "up").is_err());
    }
}
