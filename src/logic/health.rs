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
    /// The same, but the last check found that the server works, if not wholly.
    Unstable = 3,
    /// No check that is mandatory has been completed yet. Such a server is not used.
    Checking = 4,
}

impl Health {
    /// The state that was stored as a byte; what is not a state counts as unchecked.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Up,
            2 => Self::Failed,
            3 => Self::Unstable,
            4 => Self::Checking,
            _ => Self::Unchecked,
        }
    }

    /// Whether a server of this health is used whatever that of the others.
    #[inline]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Unchecked | Self::Up)
    }

    /// Whether checks have found that the server does not work, or not wholly.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Unstable)
    }

    /// The health of a server whose checks have these records, each with whether it is mandatory: all
    /// must pass. A check that was not made yet does not hide what another one found.
    pub fn of_all(records: impl IntoIterator<Item = (Record, bool)>) -> Self {
        let rank = |health| match health {
            Self::Unchecked => 0,
            Self::Up => 1,
            Self::Checking => 2,
            Self::Unstable => 3,
            Self::Failed => 4,
        };
        let of = |(record, mandatory): (Record, bool)| match record.health {
            Self::Unchecked if mandatory => Self::Checking,
            health => health,
        };
        records.into_iter().map(of).max_by_key(|health| rank(*health)).unwrap_or(Self::Unchecked)
    }
}

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The server passed.
    Pass,
    /// It works, but not wholly.
    Unstable,
    /// It failed.
    Fail,
}

/// How many results in a row change the state; both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failed checks in a row until a server counts as failed.
    pub fails: u32,
    /// Passed checks in a row until a failed server counts as up.
    pub passes: u32,
}

/// The state of one check of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The verdict; never [`Health::Checking`].
    pub health: Health,
    /// Failed checks in a row, counted on while the server stays failed (`fail_num`).
    pub fails: u32,
    /// Passed checks in a row while the server is failed.
    pub passes: u32,
}

/// The bits of each count in a stored record.
const COUNT_BITS: u32 = 20;

/// The highest count: more are not told apart.
pub const MAX_COUNT: u32 = (1 << COUNT_BITS) - 1;

impl Record {
    /// A server that was never checked.
    pub const NEW: Self = Self { health: Health::Unchecked, fails: 0, passes: 0 };

    /// Takes the result of one check in. What is unstable counts as failed, and says what it then is.
    /// Where the check is mandatory, no failure ends that it has not been passed yet.
    pub fn observe(&mut self, finding: Finding, thresholds: Thresholds, mandatory: bool) {
        let was_good = self.health.is_good();
        if finding == Finding::Pass {
            self.passes = if was_good { 0 } else { (self.passes + 1).min(MAX_COUNT) };
            if was_good || self.passes >= thresholds.passes {
                *self = Self { health: Health::Up, ..Self::NEW };
            }
        } else {
            self.passes = 0;
            self.fails = (self.fails + 1).min(MAX_COUNT);
            self.health = match finding {
                _ if was_good && self.fails < thresholds.fails => match self.health {
                    Health::Unchecked if mandatory => Health::Unchecked,
                    _ => Health::Up,
                },
                Finding::Unstable => Health::Unstable,
                _ => Health::Failed,
            };
        }
    }

    /// The record and what it is of, in one word.
    pub fn to_bits(self, key: u16) -> u64 {
        let counts = u64::from(self.fails.min(MAX_COUNT)) << COUNT_BITS
            | u64::from(self.passes.min(MAX_COUNT));
        u64::from(key) << 48 | u64::from(self.health as u8) << (2 * COUNT_BITS) | counts
    }

    /// What [`to_bits`](Self::to_bits) made.
    pub fn from_bits(bits: u64) -> (u16, Self) {
        let count = |shift: u32| (bits >> shift) as u32 & MAX_COUNT;
        let health = Health::from_byte((bits >> (2 * COUNT_BITS)) as u8);
        let record = Self { health, fails: count(COUNT_BITS), passes: count(0) };
        ((bits >> 48) as u16, record)
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
                let finding = match result {
                    b'+' => Finding::Pass,
                    b'~' => Finding::Unstable,
                    _ => Finding::Fail,
                };
                record.observe(finding, thresholds, false);
                assert_eq!(Record::from_bits(record.to_bits(77)), (77, record));
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
    fn what_is_unstable_counts_as_failed() {
        use Health::*;
        let thresholds = Thresholds { fails: 2, passes: 2 };
        assert_eq!(
            run(thresholds, "~~-~++"),
            [(Up, 1), (Unstable, 2), (Failed, 3), (Unstable, 4), (Unstable, 4), (Up, 0)]
        );
    }

    #[test]
    fn a_mandatory_check_is_not_passed_by_failing_less_than_often() {
        let mut record = Record::NEW;
        let thresholds = Thresholds { fails: 2, passes: 1 };
        for (finding, health) in [
            (Finding::Fail, Health::Unchecked),
            (Finding::Pass, Health::Up),
            (Finding::Fail, Health::Up),
            (Finding::Fail, Health::Failed),
        ] {
            record.observe(finding, thresholds, true);
            assert_eq!(record.health, health);
        }
    }

    #[test]
    fn counts_end_somewhere() {
        let mut record = Record { health: Health::Failed, fails: MAX_COUNT, passes: 0 };
        record.observe(Finding::Fail, Thresholds { fails: 1, passes: 1 }, false);
        assert_eq!(Record::from_bits(record.to_bits(u16::MAX)), (u16::MAX, record));
        assert_eq!(record.fails, MAX_COUNT);
    }

    #[test]
    fn all_checks_must_pass() {
        use Health::*;
        let of = |records: &[(Health, bool)]| {
            let record = |&(health, mandatory)| (Record { health, ..Record::NEW }, mandatory);
            Health::of_all(records.iter().map(record))
        };
        for (records, health) in [
            (&[][..], Unchecked),
            (&[(Up, false), (Up, true)], Up),
            (&[(Up, false), (Failed, false), (Unstable, false)], Failed),
            (&[(Up, false), (Unstable, false)], Unstable),
            (&[(Up, false), (Unchecked, false)], Up),
            (&[(Up, false), (Unchecked, true)], Checking),
            (&[(Failed, false), (Unchecked, true)], Failed),
            (&[(Unchecked, false)], Unchecked),
        ] {
            assert_eq!(of(records), health, "{records:?}");
        }
    }

    #[test]
    fn bytes() {
        for health in
            [Health::Unchecked, Health::Up, Health::Failed, Health::Unstable, Health::Checking]
        {
            assert_eq!(Health::from_byte(health as u8), health);
        }
        assert_eq!(Health::from_byte(77), Health::Unchecked);
    }
}
