//! What an HTTP server says: heads, bodies with a length, in chunks, or until it closes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::settings::Check;
use ngx_checkups_fuzz::checks;
use ngx_checkups_fuzz::talk::{talk, Rules};

/// The longest head, as it grows, with its headers as the parser has them.
const RULES: Rules = Rules { memory: 256 * 1024, one_turn: true };

/// The status and headers, as a block has them.
const HEAD: [&str; 6] = [
    "status 200-299 404 ! 204-205",
    "header Content-Type = text/html",
    "header X-Name ~* ^[a-c]",
    "header X-Name !~ d$",
    "header Y != no",
    "header ! A-Name-Of-Which-No-More-Than-The-Start-Fits-Into-A-Message",
];

/// What has to be in a body, and what must not be.
const BODY: [&str; 2] = [r"body ~* hello|^a+b$", r"body !~ err\b|x{3,}\z"];

/// What must not be in a body.
const CLEAN: [&str; 1] = [r"body !~* wor[lk]d"];

thread_local! {
    static CHECKS: Vec<Check> = checks(&[
        ("http", &[]),
        ("http keepalive_time=5s", &[]),
        ("http method=HEAD keepalive_time=5s", &[]),
        ("http", &BODY),
        ("http keepalive_time=5s", &BODY),
        ("http", &HEAD),
        ("http", &CLEAN),
        ("http keepalive_time=5s", &CLEAN),
    ]);
}

fuzz_target!(|input: &[u8]| {
    CHECKS.with(|checks| talk(checks, input, RULES));
});
