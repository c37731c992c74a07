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
    use std::cell::Cell;
    use std::cell::LazyCell;

    thread_local! {
        static ODDS: LazyCell<Vec<(String, u64)>> = const { LazyCell::new(|| {
            let variable = std::env::var("CHECKUPS_FAULT").unwrap_or_default();
            let odds = variable.split(',').filter_map(|word| word.split_once('='));
            odds.filter_map(|(name, odds)| Some((name.to_owned(), odds.parse().ok()?))).collect()
        }) };
        static STATE: Cell<u64> = const { Cell::new(0) };
    }

    fn random() -> u64 {
        let own = || u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut state = STATE.get();
        if state == 0 {
            state = own() | 1;
        }
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        state
    }

    pub fn point(name: &str) {
        let odds = ODDS.with(|odds| odds.iter().find(|(n, _)| n == name).map(|(_, odds)| *odds));
        if odds.is_some_and(|odds| random() % odds.max(1) == 0) {
            // SAFETY: it ends this process, as it is meant to.
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
    }
}
