//! Smooth weighted round robin.
//!
//! The algorithm of nginx (`ngx_http_upstream_get_peer` in ngx_http_upstream_round_robin.c) as
//! lua-resty-checkups has it in `round_robin.lua`: a failure halves the effective weight, and each
//! pick gives one of it back.

use super::slow_start::WHOLE;

/// Current weights are in thousandths of a weight, as shares are: see [`pick`].
pub const SCALE: i64 = WHOLE as i64;

/// The place of one peer in the rotation.
///
/// It lies in shared memory, hence the fixed layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    current: i64,
    effective: u32,
    weight: u32,
}

impl Turn {
    /// A peer of this `weight` (at least 1) that has never been picked and never failed.
    pub fn new(weight: u32) -> Self {
        Self { current: 0, effective: weight.max(1), weight: weight.max(1) }
    }

    /// The configured weight.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The same place in the rotation for a peer whose weight may have changed.
    ///
    /// A peer that was recovering goes on recovering, one that was whole stays whole.
    pub fn carried_to(&self, weight: u32) -> Self {
        let whole = Self::new(weight);
        let effective = if self.effective < self.weight {
            self.effective.min(whole.weight)
        } else {
            whole.weight
        };
        Self { current: self.current, effective, ..whole }
    }

    /// A try on this peer failed: its share is halved (rounded up) until picks give it back.
    pub fn penalize(&mut self) {
        self.effective = self.effective.div_ceil(2);
    }

    /// The peer passed its checks again: nothing is held against it any more.
    pub fn forgive(&mut self) {
        self.effective = self.weight;
    }

    /// The current weight.
    pub fn current(&self) -> i64 {
        self.current
    }

    /// Puts the peer to a place in the rotation.
    pub fn set_current(&mut self, current: i64) {
        self.current = current;
    }

    /// Whether failures still lower its share.
    pub fn is_recovering(&self) -> bool {
        self.effective < self.weight
    }
}

/// Picks the next of `turns` among those that have a `share`, and moves the rotation on.
///
/// Every current weight of those rises by the effective weight times the share (in thousandths:
/// [`WHOLE`] but for slow starts), an effective weight below the weight recovers by one, the highest
/// current weight wins (the first on a tie) and falls by the sum of all that rose. `None`, and
/// nothing moved, where nobody has a share.
pub fn pick(turns: &mut [Turn], mut share: impl FnMut(usize) -> Option<u32>) -> Option<usize> {
    let mut best: Option<(usize, i64)> = None;
    let mut total = 0;

    for (index, turn) in turns.iter_mut().enumerate() {
        let Some(share) = share(index) else { continue };
        let rise = i64::from(turn.effective) * i64::from(share);
        turn.current += rise;
        total += rise;
        if turn.effective < turn.weight {
            turn.effective += 1;
        }
        if best.is_none_or(|(_, highest)| turn.current > highest) {
            best = Some((index, turn.current));
        }
    }

    let (index, _) = best?;
    turns[index].current -= total;
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32], picks: usize) -> Vec<usize> {
        let mut turns: Vec<_> = weights.iter().map(|&weight| Turn::new(weight)).collect();
        (0..picks).map(|_| pick(&mut turns, |_| Some(WHOLE)).unwrap()).collect()
    }

    fn letters(names: &str, order: &[usize]) -> String {
        order.iter().map(|&index| names.as_bytes()[index] as char).collect()
    }

    #[test]
    fn known_orders() {
        assert_eq!(letters("ABCE", &order(&[1, 4, 3, 6], 28)), "EBCEBEACEBECBEEBCEBEACEBECBE");
        assert_eq!(letters("ABC", &order(&[1, 2, 3], 12)), "CBACBCCBACBC");
        assert_eq!(letters("ABC", &order(&[5, 1, 1], 7)), "AABACAA");
        assert_eq!(letters("ABC", &order(&[1, 1, 1], 6)), "ABCABC");
    }

    #[test]
    fn nobody_eligible_moves_nothing() {
        let mut turns = vec![Turn::new(3), Turn::new(2)];
        let before = turns.clone();
        assert_eq!(pick(&mut turns, |_| None), None);
        assert_eq!(pick(&mut [], |_| Some(WHOLE)), None);
        assert_eq!(turns, before);
    }

    #[test]
    fn a_failure_halves_and_picks_give_back() {
        let mut turn = Turn::new(5);
        let mut seen = Vec::new();
        for _ in 0..4 {
            turn.penalize();
            seen.push(turn.effective);
        }
        assert_eq!(seen, [3, 2, 1, 1]);
        let mut turns = [turn];
        for expected in [2, 3, 4, 5, 5] {
            pick(&mut turns, |_| Some(WHOLE));
            assert_eq!(turns[0].effective, expected);
        }
    }

    #[test]
    fn shares_are_exact_over_a_round() {
        let weights = [7, 3, 1, 10, 4];
        let mut counts = [0; 5];
        for index in order(&weights, 25 * 4) {
            counts[index] += 1;
        }
        assert_eq!(counts, [28, 12, 4, 40, 16]);
    }

    #[test]
    fn shares_are_those_of_slow_starts() {
        let mut turns = vec![Turn::new(2), Turn::new(1)];
        let share = |index| Some(if index == 0 { 250 } else { WHOLE });
        let picked: Vec<_> = (0..6).map(|_| pick(&mut turns, share).unwrap()).collect();
        assert_eq!(picked, [1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn carried_weights() {
        let mut turn = Turn::new(8);
        assert_eq!(turn.carried_to(3), Turn::new(3));
        turn.penalize();
        assert_eq!(turn.carried_to(16).effective, 4);
        assert_eq!(turn.carried_to(2).effective, 2);
        turn.forgive();
        assert_eq!(turn, Turn::new(8));
    }
}
