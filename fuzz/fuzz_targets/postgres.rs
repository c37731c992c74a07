//! What a PostgreSQL server says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::settings::Check;
use ngx_checkups_fuzz::checks;
use ngx_checkups_fuzz::talk::{talk, Rules};

/// 64 messages, each in a piece of its own and before its turn, as they grow.
const RULES: Rules = Rules { memory: 3200 * 1024, one_turn: false };

thread_local! {
    static CHECKS: Vec<Check> = checks(&[
        ("postgres ssl=off", &[]),
        ("postgres", &[]),
        ("postgres ssl=on ssl_verify=off", &[]),
        ("postgres user=user password=secret database=database ssl=off", &[]),
        ("postgres user=user password=secret database=database ssl_verify=off", &[]),
        ("postgres user=user password=secret database=database ssl=on ssl_verify=off", &[]),
        ("postgres user=user ssl=off", &[]),
    ]);
}

fuzz_target!(|input: &[u8]| {
    CHECKS.with(|checks| talk(checks, input, RULES));
});
