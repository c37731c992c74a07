//! What a server says over a bare connection, and what is expected of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::settings::Check;
use ngx_checkups_fuzz::checks;
use ngx_checkups_fuzz::talk::{talk, Rules};

/// What is sent; of the answer nothing is kept.
const RULES: Rules = Rules { memory: 16 * 1024, one_turn: true };

thread_local! {
    static CHECKS: Vec<Check> = checks(&[
        ("tcp", &[]),
        ("tcp send=x", &[]),
        ("tcp expect=220", &[]),
        (r"tcp send=PING\x0d\x0a expect=+PONG\x0d\x0a", &[]),
        ("tcp", &["expect ~ ^220[-+]"]),
        ("tcp", &["send x", "expect ~ foo$"]),
        ("tcp", &[r"expect ~ \bok\b|x{3,5}y\z"]),
        ("tcp", &[r"expect ~* (?m)^a+$|[^a-z]{4}q"]),
    ]);
}

fuzz_target!(|input: &[u8]| {
    CHECKS.with(|checks| talk(checks, input, RULES));
});
