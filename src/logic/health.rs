//! What the checks say of one server: the state and how it changes.

/// The verdict of the checks on a server.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No check has been completed yet, or there is none. Such a server is used.
    Unchecked = 0,
    /// The checks pass.
    Up = 1,
    /// `fails` checks in a row failed, and since then not `passes` in a row passed.
    Failed = 2,
}

impl Health {
    /// The state that was stored as a byte; what is not a state counts as unchecked.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Up,
            2 => Self::Failed,
            _ => Self::Unchecked,
        }
    }
}

/// How many results in a row change the state; both at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Failed checks in a row until a server counts as failed.
    pub fails: u32,
    /// Passed checks in a row until a failed server counts as up.
    pub passes: u32,
}

/// The state of the checks of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The verdict.
    pub health: Health,
    /// Failed checks in a row, counted on while the server stays failed (`fail_num`).
    pub fails: u32,
    /// Passed checks in a row while the server is failed.
    pub passes: u32,
}

impl Record {
    /// A server that was never checked.
    pub const NEW: Self = Self { health: Health::Unchecked, fails: 0, passes: 0 };

    /// Takes the result of one check in. Returns the state before, where it changed.
    #[must_use]
    pub fn observe(&mut self, passed: bool, thresholds: Thresholds) -> Option<Health> {
        let before = self.health;
        if passed {
            self.passes = if before == Health::Failed { self.passes.saturating_add(1) } else { 0 };
            if before != Health::Failed || self.passes >= thresholds.passes {
                *self = Self { health: Health::Up, ..Self::NEW };
            }
        } else {
            self.passes = 0;
            self.fails = self.fails.saturating_add(1);
            self.health = if before == Health::Failed || self.fails >= thresholds.fails {
                Health::Failed
            } else {
                Health::Up
            };
        }
        (self.health != before).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(thresholds: Thresholds, results: &str) -> Vec<(Health, u32)> {
        let mut record = Record::NEW;
        results
            .bytes()
            .map(|result| {
                let before = record.health;
                let changed = record.observe(result == b'+', thresholds);
                assert_eq!(changed, (record.health != before).then_some(before));
                (record.health, record.fails)
            })
            .collect()
    }

    #[test]
    fn one_is_enough_by_default() {
        use Health::*;
        let thresholds = Thresholds { fails: 1, passes: 1 };
        assert_eq!(run(thresholds, "+--+"), [(Up, 0), (Failed, 1), (Failed, 2), (Up, 0)]);
        assert_eq!(run(thresholds, "-"), [(Failed, 1)]);
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        use Health::*;
        let thresholds = Thresholds { fails: 3, passes: 2 };
        assert_eq!(
            run(thresholds, "--+---+-++-"),
            [
                (Up, 1),
                (Up, 2),
                (Up, 0),
                (Up, 1),
                (Up, 2),
                (Failed, 3),
                (Failed, 3),
                (Failed, 4),
                (Failed, 4),
                (Up, 0),
                (Up, 1)
            ]
        );
    }

    #[test]
    fn bytes() {
        for health in [Health::Unchecked, Health::Up, Health::Failed] {
            assert_eq!(Health::from_byte(health as u8), health);
        }
        assert_eq!(Health::from_byte(77), Health::Unchecked);
    }
}
