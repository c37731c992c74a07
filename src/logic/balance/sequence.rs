//! The order of the smooth weighted round robin, computed once.
//!
//! Peers of equal weight form a group, whose members take turns in the order of their indices.
//! Between the groups the classic rule decides, for which the next member of each is enough: after
//! `t` picks the current weight of a peer is `weight x t - sum x times picked`, so that one can say
//! it without having followed the others.

use std::collections::BTreeMap;

use super::round_robin::SCALE;

/// The most steps (length x distinct weights) that may be spent on one sequence: about a
/// millisecond.
pub const MOST_STEPS: u64 = 1 << 20;

/// The most peers of a sequence: their indices have 16 bits.
pub const MOST_PEERS: usize = 1 << 16;

/// How often the sequence of these weights repeats: the sum of the weights divided by their greatest
/// common divisor. `None` where it would be too long to be worth it, or where there is no weight.
pub fn length(weights: &[u32]) -> Option<usize> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
    if divisor == 0 || weights.len() > MOST_PEERS {
        return None;
    }
    let mut distinct: Vec<u32> = weights.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let sum: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    (sum.checked_mul(distinct.len() as u64)? <= MOST_STEPS).then_some(sum as usize)
}

/// Fills `order` with one round of the classic algorithm over these weights, from a fresh start.
/// `order` has the [`length`] of the weights.
pub fn fill(weights: &[u32], order: &mut [u16]) {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut members: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    for (index, weight) in weights.iter().enumerate() {
        members.entry(weight / divisor).or_default().push(index as u16);
    }
    let sum: i64 = weights.iter().map(|weight| i64::from(weight / divisor)).sum();
    let mut groups: Vec<Group> = members
        .into_iter()
        .map(|(weight, members)| Group { rise: i64::from(weight), current: 0, turn: 0, members })
        .collect();

    for slot in order {
        let mut best: Option<usize> = None;
        for index in 0..groups.len() {
            groups[index].current += groups[index].rise;
            let candidate = &groups[index];
            let better = best.is_none_or(|best: usize| {
                let best: &Group = &groups[best];
                candidate.current > best.current
                    || (candidate.current == best.current && candidate.next() < best.next())
            });
            if better {
                best = Some(index);
            }
        }
        let Some(best) = best else { return };
        *slot = groups[best].next();
        groups[best].picked(sum);
    }
}

/// Peers of one weight.
struct Group {
    /// The weight, and by how much the current weight of each member rises a pick.
    rise: i64,
    /// The current weight of the next member.
    current: i64,
    /// Which member is next.
    turn: usize,
    members: Vec<u16>,
}

impl Group {
    fn next(&self) -> u16 {
        self.members[self.turn]
    }

    fn picked(&mut self, sum: i64) {
        self.turn += 1;
        // The members behind the one that was picked have been picked as often as it had been, until
        // the first one is next again.
        if self.turn == self.members.len() {
            self.turn = 0;
            self.current -= sum;
        }
    }
}

/// The current weights of the classic algorithm after `picks` picks of a round, in thousandths, given
/// to `set` peer by peer. `order` is that of the weights.
pub fn current_weights(
    weights: &[u32],
    order: &[u16],
    picks: usize,
    mut set: impl FnMut(usize, i64),
) {
    let mut picked = vec![0_i64; weights.len()];
    for &index in &order[..picks.min(order.len())] {
        picked[usize::from(index)] += 1;
    }
    let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    for (index, (&weight, &times)) in weights.iter().zip(&picked).enumerate() {
        set(index, (i64::from(weight) * picks as i64 - sum * times) * SCALE);
    }
}

/// The most steps (length x peers) that [`locate`] may take.
const MOST_LOCATE_STEPS: usize = 1 << 15;

/// After how many picks of a round the classic algorithm has the current weights `current`, in
/// thousandths, or those nearest to them, and whether they are the same. `None` where it would take too long to find out.
pub fn locate(weights: &[u32], order: &[u16], current: &[i64]) -> Option<(usize, bool)> {
    if order.len().checked_mul(weights.len())? > MOST_LOCATE_STEPS {
        return None;
    }
    let sum: i64 = weights.iter().map(|&weight| i64::from(weight) * SCALE).sum();
    // By how much each peer is ahead of the place that is looked at.
    let mut ahead = current.to_vec();
    let mut best: Option<(usize, u64)> = None;
    for (picks, &next) in order.iter().enumerate() {
        let distance = ahead.iter().map(|difference| difference.unsigned_abs()).sum();
        if best.is_none_or(|(_, least)| distance < least) {
            best = Some((picks, distance));
        }
        for (difference, &weight) in ahead.iter_mut().zip(weights) {
            *difference -= i64::from(weight) * SCALE;
        }
        ahead[usize::from(next)] += sum;
    }
    best.map(|(picks, distance)| (picks, distance == 0))
}

/// A place in a round: so many picks, and so many 2^32nds of one. Picks are whole, but a place that
/// is taken over into a round of another length is not, and were the rest forgotten each time, every
/// change would set the round back a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whole picks.
    pub picks: u64,
    /// The rest.
    pub rest: u32,
}

impl Place {
    /// The place at the same fraction of a round of `to` picks that this one is at in one of `from`.
    pub fn at_same_fraction(self, from: usize, to: usize) -> Self {
        if from == 0 {
            return Self { picks: 0, rest: 0 };
        }
        let within = (u128::from(self.picks % from as u64) << 32) | u128::from(self.rest);
        let place = within * to as u128 / from as u128;
        // A place that was cut off before, and would have been whole, is whole.
        let next = (place + (1 << 16)) >> 32;
        if next > place >> 32 {
            return Self { picks: next as u64, rest: 0 };
        }
        Self { picks: (place >> 32) as u64, rest: place as u32 }
    }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::balance::round_robin::{pick, Turn};
    use crate::logic::balance::slow_start::WHOLE;
    use proptest::prelude::*;

    fn sequence(weights: &[u32]) -> Vec<u16> {
        let mut order = vec![0; length(weights).unwrap()];
        fill(weights, &mut order);
        order
    }

    fn classic(weights: &[u32], picks: usize) -> (Vec<u16>, Vec<Turn>) {
        let mut turns: Vec<_> = weights.iter().map(|&weight| Turn::new(weight)).collect();
        let order = (0..picks).map(|_| pick(&mut turns, |_| Some(WHOLE)).unwrap() as u16).collect();
        (order, turns)
    }

    #[test]
    fn lengths() {
        assert_eq!(length(&[]), None);
        assert_eq!(length(&[5, 1, 1]), Some(7));
        assert_eq!(length(&[10, 20, 30]), Some(6));
        assert_eq!(length(&[7; 1000]), Some(1000));
        assert_eq!(length(&[1, u32::MAX]), None);
        assert_eq!(length(&[1; MOST_PEERS + 1]), None);
    }

    #[test]
    fn fractions() {
        let at = |picks, from, to| Place { picks, rest: 0 }.at_same_fraction(from, to);
        assert_eq!(at(0, 7, 100), Place { picks: 0, rest: 0 });
        assert_eq!(at(7 * 5 + 3, 7, 14), Place { picks: 6, rest: 0 });
        assert_eq!(at(1, 2, 1), Place { picks: 0, rest: 1 << 31 });
        assert_eq!(at(1, 2, 1).at_same_fraction(1, 2), Place { picks: 1, rest: 0 });
        assert_eq!(at(3, 7, 6).at_same_fraction(6, 7), Place { picks: 3, rest: 0 });
        assert_eq!(at(6, 0, 3), Place { picks: 0, rest: 0 });
        assert_eq!(at(6, 7, 0), Place { picks: 0, rest: 0 });
    }

    #[test]
    fn nearest_places() {
        let weights = [5, 1, 1];
        let order = sequence(&weights);
        assert_eq!(locate(&weights, &order, &[0, 0, 0]), Some((0, true)));
        assert_eq!(locate(&weights, &order, &[-2000, 1000, 1000]), Some((1, true)));
        assert_eq!(locate(&weights, &order, &[-2100, 1100, 1000]), Some((1, false)));
        assert_eq!(locate(&[1; 200], &[0; 200], &[0; 200]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_order_is_the_classic_one(weights in prop::collection::vec(1_u32..=12, 1..40)) {
            let order = sequence(&weights);
            prop_assert_eq!(&order, &classic(&weights, order.len()).0);
        }

        #[test]
        fn the_order_is_the_classic_one_for_uneven_weights(
            weights in prop::collection::vec(prop_oneof![1_u32..=3, 50_u32..=200], 1..12),
        ) {
            let order = sequence(&weights);
            prop_assert_eq!(&order, &classic(&weights, order.len()).0);
        }

        #[test]
        fn every_position_means_the_classic_weights(
            weights in prop::collection::vec(1_u32..=9, 1..12),
            position in 0.0..1.0,
        ) {
            let order = sequence(&weights);
            let picks = (order.len() as f64 * position) as usize;
            let (_, mut turns) = classic(&weights, picks);
            let mut positioned: Vec<_> = weights.iter().map(|&weight| Turn::new(weight)).collect();
            current_weights(&weights, &order, picks, |index, current| {
                positioned[index].set_current(current);
            });
            let current: Vec<_> = turns.iter().map(Turn::current).collect();
            prop_assert_eq!(locate(&weights, &order, &current), Some((picks, true)));
            for _ in 0..order.len() {
                prop_assert_eq!(pick(&mut turns, |_| Some(WHOLE)), pick(&mut positioned, |_| Some(WHOLE)));
            }
        }
    }
}
