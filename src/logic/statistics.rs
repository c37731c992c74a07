//! What is counted of the requests to a server: which place a status has among the counters, and what
//! the counters come down to.

/// How many different statuses of a server are counted one by one.
pub const MAX_CODES: usize = 8;

/// How many classes of statuses there are: 1xx to 5xx.
pub const CLASSES: usize = 5;

/// The place among the counters at which a status is looked for first.
///
/// 200, 301, 302, 304, 404 and 502 have places of their own.
#[inline]
pub fn home(status: u16) -> usize {
    usize::from(status >> 1) % MAX_CODES
}

/// The class of a status: 0 for 1xx. `None`: it is in none.
pub fn class(status: u16) -> Option<usize> {
    usize::from(status / 100).checked_sub(1).filter(|class| *class < CLASSES)
}

/// What was counted of a server. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How often it was selected for a request.
    pub requests: u64,
    /// The answers that had a status, class by class.
    pub classes: [u64; CLASSES],
    /// The same, status by status, in the order of the statuses.
    pub codes: Vec<(u16, u64)>,
    /// Those of further statuses.
    pub other_codes: u64,
    /// All answers that had a status.
    pub responses: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Tries that failed.
    pub fails: u64,
    /// How often failed tries put it out of use.
    pub unavailable: u64,
    /// Checks that were made.
    pub checks: u64,
    /// Those of them that it did not pass.
    pub failed_checks: u64,
    /// How often the checks put it out of use.
    pub unhealthy: u64,
    /// Whether it passed the last check; `None`: there was none.
    pub last_passed: Option<bool>,
    /// For how long it was not available in all, up to now.
    pub downtime: u64,
    /// When that began, as a monotonic time; `None`: it is available.
    pub down_since: Option<u64>,
    /// When it was last selected, as a monotonic time; `None`: never.
    pub selected_at: Option<u64>,
    /// The sum of the times until the header of an answer was there.
    pub header_time: u64,
    /// The sum of the times until the whole answer was there.
    pub response_time: u64,
}

impl Statistics {
    /// The mean of the times until the header was there. `None`: there were no answers.
    pub fn mean_header_time(&self) -> Option<u64> {
        self.header_time.checked_div(self.responses)
    }

    /// The mean of the times until the whole answer was there. `None`: there were no answers.
    pub fn mean_response_time(&self) -> Option<u64> {
        self.response_time.checked_div(self.responses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let expected =
            [(100, 0), (199, 0), (200, 1), (304, 2), (404, 3), (499, 3), (500, 4), (599, 4)];
        for (status, expected) in expected {
            assert_eq!(class(status), Some(expected), "{status}");
        }
        for status in [0, 1, 99, 600, 999, u16::MAX] {
            assert_eq!(class(status), None, "{status}");
        }
    }

    #[test]
    fn means() {
        let statistics =
            Statistics { responses: 3, header_time: 10, response_time: 20, ..Default::default() };
        assert_eq!(statistics.mean_header_time(), Some(3));
        assert_eq!(statistics.mean_response_time(), Some(6));
        assert_eq!(Statistics::default().mean_response_time(), None);
    }

    #[test]
    fn homes() {
        let homes: std::collections::HashSet<_> =
            [200, 301, 302, 304, 404, 502].into_iter().map(home).collect();
        assert_eq!(homes.len(), 6);
        assert!((0..=u16::MAX).all(|status| home(status) < MAX_CODES));
    }
}
