//! What a MySQL or MariaDB server says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::settings::Check;
use ngx_checkups_fuzz::checks;
use ngx_checkups_fuzz::talk::{talk, Rules};

/// 64 packets, each in a piece of its own and before its turn, as they grow.
const RULES: Rules = Rules { memory: 3200 * 1024, one_turn: false };

thread_local! {
    static CHECKS: Vec<Check> = checks(&[
        ("mysql ssl=off", &[]),
        ("mysql", &[]),
        ("mysql ssl=on ssl_verify=off", &[]),
        ("mysql user=user password=secret database=database ssl=off", &[]),
        ("mysql user=user password=secret database=database ssl_verify=off", &[]),
        ("mysql user=user password=secret database=database ssl=on ssl_verify=off", &[]),
        ("mysql user=user ssl=off", &[]),
    ]);
}

fuzz_target!(|input: &[u8]| {
    CHECKS.with(|checks| talk(checks, input, RULES));
});
