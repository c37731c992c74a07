//! Passive health: counting the failures of real requests.

/// How many moments a window remembers.
const SLOTS: usize = 8;

/// The failures of one server within the last `fail_timeout`.
///
/// The window slides by time. It is exact for a `max_fails` of up to 8. Beyond that a slot stands
/// for several failures and leaves the window with the first of them, so that up to an eighth of
/// `max_fails` may be forgotten early.
///
/// It lies in shared memory, hence the fixed layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    /// When the first failure of a slot was, in milliseconds.
    since: [u64; SLOTS],
    /// How many failures a slot holds; slots without any are free.
    count: [u32; SLOTS],
}

impl Failures {
    /// Counts a failure at `now`. True where it is the `max_fails`th within `fail_timeout`: then
    /// the server is to be left alone, and the count starts afresh.
    ///
    /// Times are milliseconds of one monotonic clock. A `max_fails` of 0 never gives true.
    #[must_use]
    pub fn add(&mut self, now: u64, max_fails: u32, fail_timeout: u64) -> bool {
        if max_fails == 0 {
            return false;
        }
        let mut newest = 0;
        let mut free = None;
        let mut total: u32 = 1;
        for slot in 0..SLOTS {
            if now.saturating_sub(self.since[slot]) > fail_timeout {
                self.count[slot] = 0;
            }
            if self.count[slot] == 0 {
                free = Some(slot);
                continue;
            }
            total = total.saturating_add(self.count[slot]);
            if self.count[newest] == 0 || self.since[slot] >= self.since[newest] {
                newest = slot;
            }
        }
        if total >= max_fails {
            self.clear();
            return true;
        }
        let per_slot = max_fails.div_ceil(SLOTS as u32);
        match free {
            Some(free) if self.count[newest] == 0 || self.count[newest] >= per_slot => {
                self.since[free] = now;
                self.count[free] = 1;
            }
            _ => self.count[newest] += 1,
        }
        false
    }

    /// Forgets all failures.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether no failure is remembered (those that left the window may still be).
    pub fn is_empty(&self) -> bool {
        self.count == [0; SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: [u64; 0] = [];

    /// Feeds failures at these times and returns at which ones the server was given up.
    fn given_up(times: &[u64], max_fails: u32, fail_timeout: u64) -> Vec<u64> {
        let mut failures = Failures::default();
        times.iter().copied().filter(|&now| failures.add(now, max_fails, fail_timeout)).collect()
    }

    #[test]
    fn off_and_at_once() {
        assert_eq!(given_up(&[1, 2, 3], 0, 10_000), NEVER);
        assert_eq!(given_up(&[1, 2, 3], 1, 10_000), [1, 2, 3]);
        assert_eq!(given_up(&[1, 2, 3, 4], 2, 10_000), [2, 4]);
    }

    #[test]
    fn the_window_slides() {
        assert_eq!(given_up(&[0, 700, 1400, 2100], 3, 1000), NEVER);
        assert_eq!(given_up(&[0, 700, 1400, 1600], 3, 1000), [1600]);
        assert_eq!(given_up(&[0, 1000], 2, 1000), [1000]);
        assert_eq!(given_up(&[0, 1001], 2, 1000), NEVER);
    }

    #[test]
    fn exact_up_to_eight() {
        for max_fails in 1..=8 {
            let within: Vec<u64> = (0..u64::from(max_fails)).map(|n| 5000 + n * 10).collect();
            assert_eq!(given_up(&within, max_fails, 10 * 7), [*within.last().unwrap()]);
            let apart: Vec<u64> = (0..50).map(|n| n * 100).collect();
            if max_fails > 1 {
                assert_eq!(given_up(&apart, max_fails, 100 * u64::from(max_fails) - 101), NEVER);
            }
        }
    }

    #[test]
    fn many_at_once_are_all_counted() {
        for max_fails in [9, 10, 16, 17, 100, 1000] {
            let times = vec![42; max_fails as usize];
            let mut failures = Failures::default();
            for (n, &now) in times.iter().enumerate() {
                assert_eq!(failures.add(now, max_fails, 1000), n + 1 == max_fails as usize);
            }
            assert!(failures.is_empty());
        }
    }

    #[test]
    fn cleared() {
        let mut failures = Failures::default();
        assert!(!failures.add(1, 2, 1000));
        assert!(!failures.is_empty());
        failures.clear();
        assert!(failures.is_empty());
        assert!(!failures.add(2, 2, 1000));
        assert!(failures.add(3, 2, 1000));
    }
}
