//! Turns what nginx-sys found out about the nginx it was built against into `cfg`s:
//! `ngx_feature = "..."`, `ngx_os = "..."`, and one name per ability that came with a version.
//!
//! cargo passes the `DEP_NGINX_*` variables only while nginx-sys is a direct dependency with the
//! glue compiled in; without them (plain `cargo test`) every `cfg` below is merely unset.
#![allow(clippy::disallowed_macros, reason = "a build script speaks to cargo on stdout")]

use std::path::Path;
use std::{env, fs};

/// Abilities of nginx that no macro tells, and the first version (as in `nginx_version`) with each.
const SINCE: &[(&str, u64)] = &[
    // `resolve` and `service` in an http upstream's server lines; peers in a zone come and go.
    ("ngx_upstream_resolve", 1_027_003),
    // `sticky`: a peer has a sid, and `pc->hint` names the one that is wanted.
    ("ngx_upstream_sid", 1_029_006),
    // `keepalive` may stand before the balancer, and is on by default.
    ("ngx_upstream_keepalive_default", 1_029_007),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    list("ngx_feature", "DEP_NGINX_FEATURES");
    list("ngx_os", "DEP_NGINX_OS");
    abilities();

    // A module's undefined symbols are nginx's own and are found at dlopen. ELF linkers allow that
    // in a shared object by default, Apple's has to be told.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        println!("cargo::rustc-link-arg-cdylib=-undefined");
        println!("cargo::rustc-link-arg-cdylib=dynamic_lookup");
    }
}

/// `name = "..."` for each word in the variable; what else it could hold is in `<variable>_CHECK`.
fn list(name: &str, variable: &str) {
    let known = env::var(format!("{variable}_CHECK")).unwrap_or_else(|_| "any()".into());
    println!("cargo::rustc-check-cfg=cfg({name}, values({known}))");

    let found = env::var(variable).unwrap_or_default();
    for word in found.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        println!("cargo::rustc-cfg={name}=\"{word}\"");
    }
}

/// Whether the peers of this nginx can have a sid: it may be built without.
fn has_sid() -> bool {
    let Ok(folder) = env::var("DEP_NGINX_BUILD_DIR") else { return true };
    let config = Path::new(&folder).join("ngx_auto_config.h");
    println!("cargo::rerun-if-changed={}", config.display());
    let config = fs::read_to_string(config).unwrap_or_default();
    let defines = |name: &str| {
        config.lines().any(|line| line.split_whitespace().take(2).eq(["#define", name]))
    };
    defines("NGX_HTTP_UPSTREAM_SID") || defines("NGX_COMPAT")
}

fn abilities() {
    let version: u64 = match env::var("DEP_NGINX_VERSION_NUMBER") {
        Ok(number) => number.trim().parse().expect("DEP_NGINX_VERSION_NUMBER is a number"),
        Err(_) => 0,
    };
    for (name, since) in SINCE {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if version >= *since && (*name != "ngx_upstream_sid" || has_sid()) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
