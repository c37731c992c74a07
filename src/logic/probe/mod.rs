//! The protocols of the checks, without input or output: a probe says what to send, is fed what
//! arrives, and comes to a verdict.

pub mod http;

use std::borrow::Cow;

use super::settings;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server passed.
    Pass,
    /// The server failed, and why: a few words for status and log.
    Fail(Cow<'static, str>),
}

impl Verdict {
    /// A failure with a fixed reason.
    pub const fn fail(reason: &'static str) -> Self {
        Self::Fail(Cow::Borrowed(reason))
    }
}

/// What is to be done next for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more bytes.
    Receive,
    /// The check is over.
    Done(Verdict),
}

/// One check of one server, from the moment on that the connection is there.
#[derive(Debug)]
pub enum Probe {
    /// The connection is all that is asked.
    Tcp,
    /// One HTTP request.
    Http(http::HttpProbe),
}

impl Probe {
    /// A new probe by these settings.
    pub fn new(settings: &settings::Probe) -> Self {
        match settings {
            settings::Probe::Tcp => Self::Tcp,
            settings::Probe::Http(settings) => Self::Http(http::HttpProbe::new(settings)),
        }
    }

    /// What to send once connected; empty: nothing.
    pub fn request(&self) -> &[u8] {
        match self {
            Self::Tcp => &[],
            Self::Http(probe) => probe.request(),
        }
    }

    /// What to do after the request was sent.
    pub fn sent(&self) -> Step {
        match self {
            Self::Tcp => Step::Done(Verdict::Pass),
            Self::Http(_) => Step::Receive,
        }
    }

    /// Takes bytes of the server; none: it closed the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Tcp => Step::Done(Verdict::Pass),
            Self::Http(probe) => probe.feed(bytes),
        }
    }
}
