//! Points at which a test has workers kill themselves.

/// A point within something that must not be left half done for ever. With the feature
/// `development` the process may die here by SIGKILL, as the environment variable `CHECKUPS_FAULT`
/// says: `NAME=N` for one in so many passes, several with commas between them.
#[inline(always)]
pub fn point(name: &str) {
    #[cfg(feature = "development")]
    development::point(name);
    #[cfg(not(feature = "development"))]
    let _ = name;
}

#[cfg(feature = "development")]
mod development {
    use std::cell::RefCell;

    /// What the variable says, for the process that read it: a worker does not go by what the master
    /// read before it was forked.
    #[derive(Default)]
    struct Odds {
        process: u32,
        odds: Vec<(String, u64)>,
        random: u64,
    }

    thread_local! {
        static ODDS: RefCell<Odds> = RefCell::default();
    }

    impl Odds {
        fn read(process: u32) -> Self {
            let variable = std::env::var("CHECKUPS_FAULT").unwrap_or_default();
            let odds = variable.split(',').filter_map(|word| word.split_once('='));
            Self {
                process,
                odds: odds.filter_map(|(name, n)| Some((name.into(), n.parse().ok()?))).collect(),
                random: u64::from(process).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            }
        }

        /// xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        fn random(&mut self) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random
        }
    }

    pub fn point(name: &str) {
        let dies = ODDS.with_borrow_mut(|odds| {
            let process = std::process::id();
            if odds.process != process {
                *odds = Odds::read(process);
            }
            let found =
                odds.odds.iter().find(|(other, _)| other == name).map(|(_, one_in)| *one_in);
            found.is_some_and(|one_in| odds.random() % one_in.max(1) == 0)
        });
        if dies {
            // SAFETY: it ends this process, as it is meant to.
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
    }
}
