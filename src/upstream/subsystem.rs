//! What differs between the subsystems of nginx.

use crate::shm::cluster::Outcome;

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

    /// How the try ended that nginx takes for a success: it does so on the last permitted try,
    /// whatever the server answered.
    ///
    /// # Safety
    /// `session` is one that nginx works on at the moment.
    unsafe fn outcome_of_answer(session: *mut Self::Session) -> Outcome;
}
