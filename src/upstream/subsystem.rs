//! What differs between the subsystems of nginx.

use crate::shm::cluster::Outcome;
use crate::shm::statistics::Statistics;

/// A subsystem that has upstreams.
pub trait Subsystem {
    /// What a server is selected for: a request, or a session.
    type Session;

    /// Whether the try on a kept connection, which failed, failed only because the server had
    /// closed the connection before: then nothing is to be learnt of the server.
    ///
    /// # Safety
    /// `session` is one that nginx works on at the moment.
    unsafe fn connection_was_stale(session: *mut Self::Session) -> bool;

    /// What the server said on a try that nginx takes for a success: it does so on the last permitted
    /// try, whatever the server answered. `counts` says which statuses are failures of this cluster
    /// besides those that nginx knows of.
    ///
    /// # Safety
    /// `session` is one that nginx works on at the moment, and a server was selected for the try.
    unsafe fn answer(session: *mut Self::Session, counts: impl Fn(u16) -> bool) -> Answer;

    /// Counts what the try came to that ends now, after so many milliseconds.
    ///
    /// # Safety
    /// `session` is one that nginx works on at the moment, and a server was selected for the try.
    unsafe fn count(session: *mut Self::Session, statistics: &Statistics, milliseconds: u64);

    /// Whether nginx would try another server after a failed try, if it were allowed to.
    ///
    /// # Safety
    /// `session` is one that nginx works on at the moment.
    unsafe fn may_be_retried(session: *mut Self::Session) -> bool;
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the try ended.
    pub outcome: Outcome,
    /// Whether it is one that nginx is told to try the next server after.
    pub is_refused: bool,
}
