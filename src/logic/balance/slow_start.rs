//! The share of a server that came back a short time ago.

/// A whole share.
pub const WHOLE: u32 = 1000;

/// The share to begin with.
const LEAST: u64 = 100;

/// The share, in thousandths of the weight, of a server that came back at `since`: it rises evenly
/// from a tenth to the whole over `slow_start`. All times are milliseconds of one monotonic clock;
/// a `since` of 0 stands for a server that was never away.
pub fn share(since: u64, slow_start: u64, now: u64) -> u32 {
    if !is_slow(since, slow_start, now) {
        return WHOLE;
    }
    let elapsed = now.saturating_sub(since);
    (LEAST + (u64::from(WHOLE) - LEAST) * elapsed / slow_start) as u32
}

/// Whether the server does not have its whole share yet.
pub fn is_slow(since: u64, slow_start: u64, now: u64) -> bool {
    since != 0 && slow_start != 0 && now < since.saturating_add(slow_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (since, slow_start, now, expected) in [
            (0, 1000, 500, 1000),
            (5000, 0, 5000, 1000),
            (5000, 1000, 5000, 100),
            (5000, 1000, 4000, 100),
            (5000, 1000, 5500, 550),
            (5000, 1000, 5999, 999),
            (5000, 1000, 6000, 1000),
            (u64::MAX, u64::MAX, 1, 100),
        ] {
            assert_eq!(share(since, slow_start, now), expected, "{since} {slow_start} {now}");
        }
    }
}
