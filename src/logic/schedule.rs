//! When the checks of a server are due. All times are milliseconds of one monotonic clock.

/// The longest time over which the first round is spread.
const FIRST_ROUND: u64 = 1000;

/// When the checks of one of `of` servers, the `index`th, are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: u64,
    jitter: u64,
    /// When the second check is due: from then on the checks of all servers are spread over the
    /// whole interval, and not only over the first round.
    second: Option<u64>,
}

impl Schedule {
    /// Starts at `now`, and returns with the schedule when the first check is due: the servers
    /// are spread over the shorter of `interval` and one second.
    ///
    /// `interval` is at least 1; up to `jitter` is added to it each time, at random.
    pub fn start(now: u64, index: usize, of: usize, interval: u64, jitter: u64) -> (Self, u64) {
        let share = |whole: u64| {
            (u128::from(whole) * index as u128 / (of.max(1) as u128)).min(u128::from(u64::MAX))
                as u64
        };
        let first = now + share(interval.min(FIRST_ROUND));
        let second = if interval > FIRST_ROUND {
            let even = now + share(interval);
            Some(if even > first { even } else { even + interval })
        } else {
            None
        };
        (Self { interval, jitter, second }, first)
    }

    /// When the next check is due after one that started at `started`, given a `random` number.
    /// `interval` is another one than at the start, where there is one for servers that are down.
    ///
    /// The time may have passed already, where a check took longer than the interval.
    pub fn next(&mut self, started: u64, interval: Option<u64>, random: u64) -> u64 {
        let late = if self.jitter == 0 { 0 } else { random % (self.jitter + 1) };
        let second = self.second.take();
        let next = match interval {
            Some(interval) => started + interval,
            None => second.unwrap_or(started + self.interval),
        };
        next + late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_spread_over_a_second_at_most() {
        let first =
            |interval| [0, 1, 2, 3].map(|n| Schedule::start(100, n, 4, interval, 0).1 - 100);
        assert_eq!(first(5000), [0, 250, 500, 750]);
        assert_eq!(first(1000), [0, 250, 500, 750]);
        assert_eq!(first(200), [0, 50, 100, 150]);
    }

    #[test]
    fn from_the_second_check_on_the_whole_interval_is_used() {
        let mut phases = Vec::new();
        for n in 0..5 {
            let (mut schedule, first) = Schedule::start(0, n, 5, 5000, 0);
            let second = schedule.next(first, None, 7);
            assert!(second > first && second - first <= 5000, "{first} {second}");
            phases.push(second % 5000);
            assert_eq!(schedule.next(second, None, 7), second + 5000);
        }
        assert_eq!(phases, [0, 1000, 2000, 3000, 4000]);
    }

    #[test]
    fn short_intervals_are_even_from_the_start() {
        let (mut schedule, first) = Schedule::start(0, 1, 2, 100, 0);
        assert_eq!(first, 50);
        assert_eq!(schedule.next(first, None, 9), 150);
        assert_eq!(schedule.next(170, None, 9), 270);
    }

    #[test]
    fn another_interval_counts_from_the_start_of_the_check() {
        let (mut schedule, first) = Schedule::start(0, 1, 2, 5000, 0);
        assert_eq!(schedule.next(first, Some(300), 7), first + 300);
        assert_eq!(schedule.next(1000, None, 7), 6000);
    }

    #[test]
    fn jitter_stays_in_its_range() {
        let (mut schedule, _) = Schedule::start(0, 0, 1, 100, 20);
        let late: Vec<u64> = (0..1000).map(|random| schedule.next(0, None, random) - 100).collect();
        assert_eq!((*late.iter().min().unwrap(), *late.iter().max().unwrap()), (0, 20));
        schedule.next(0, None, u64::MAX);
    }
}
