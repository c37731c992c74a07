//! What a Redis server says: replies in RESP2 and RESP3, and sections of INFO.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::settings::Check;
use ngx_checkups_fuzz::checks;
use ngx_checkups_fuzz::talk::{talk, Rules};

/// The longest string with its line, as it grows, and the details.
const RULES: Rules = Rules { memory: 256 * 1024, one_turn: false };

thread_local! {
    static CHECKS: Vec<Check> = checks(&[
        ("redis", &[]),
        ("redis user=user password=secret", &[]),
    ]);
}

fuzz_target!(|input: &[u8]| {
    CHECKS.with(|checks| talk(checks, input, RULES));
});
