//! The directives.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use ngx::ffi::{
    ngx_command_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_parse_size,
    ngx_str_t, ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_ANY, NGX_CONF_BLOCK, NGX_CONF_TAKE1,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET,
    NGX_HTTP_UPSTREAM_BACKUP, NGX_HTTP_UPSTREAM_CREATE, NGX_HTTP_UPSTREAM_DOWN,
    NGX_HTTP_UPSTREAM_FAIL_TIMEOUT, NGX_HTTP_UPSTREAM_MAX_CONNS, NGX_HTTP_UPSTREAM_MAX_FAILS,
    NGX_HTTP_UPSTREAM_WEIGHT, NGX_HTTP_UPS_CONF,
};
use ngx::http::{HttpModuleLocationConf, HttpModuleMainConf, NgxHttpCoreModule};
use ngx::ngx_string;

use super::blocks::upstream;
use super::expression::Expression;
use super::module::{
    LevelConf, LevelServers, LocationConf, MainConf, Module, ServerConf, UpstreamConf,
};
use super::wrong::Wrong;
use super::{api, balancer, blocks, checks, matches, stock};
use crate::logic::directive::{self, DirectiveError};
use crate::nginx::conf::{self, Conf};
use crate::nginx::guard::guard;
use crate::nginx::zone::min_size;
use crate::nginx::{paths, thread};
use crate::upstream::configuration::Zone;
use crate::upstream::state::Directory;

const SRV_CONF_OFFSET: ngx_uint_t = offset_of!(ngx_http_conf_ctx_t, srv_conf);

/// The table for nginx.
pub(super) static mut NGX_HTTP_CHECKUPS_COMMANDS: [ngx_command_t; 14] = [
    ngx_command_t {
        name: ngx_string!("checkups_zone"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(cmd_set_zone),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_cluster"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_cluster),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_level"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_BLOCK | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_level),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_level_from"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_level_from),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_order"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(cmd_set_order),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_balance"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_balance),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_fail_status"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(cmd_set_fail_status),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_server"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_server),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_check"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_check),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_check_define"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_check_define),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_state"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(cmd_set_state),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_match"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_BLOCK | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(matches::cmd_set_match),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_api"),
        type_: (NGX_HTTP_LOC_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_api),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t::empty(),
];

/// `checkups_zone NAME:SIZE`
unsafe extern "C" fn cmd_set_zone(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it with the main configuration, as the table asks.
        let (cf, configuration) =
            unsafe { (Conf::from_ptr(cf), &mut (*conf.cast::<MainConf>()).clusters) };
        if configuration.zone.is_some() {
            return cf.refuse("it is duplicate, there is one zone");
        }
        // NGX_CONF_TAKE1: there is one word.
        let word = cf.words()[1];
        let (name, size) = match directive::zone(word) {
            Ok((name, size)) => (name.to_owned(), size.to_owned()),
            Err(error) => return cf.refuse(error),
        };
        let mut text: ngx_str_t = conf::string(size.as_bytes());
        // SAFETY: nginx only reads the string.
        let bytes = unsafe { ngx_parse_size(&mut text) };
        let least = min_size();
        match usize::try_from(bytes) {
            Ok(size) if size >= least => {
                configuration.zone = Some(Zone { name, size });
                conf::OK
            }
            Ok(_) => cf.refuse(format_args!(
                "invalid size \"{size}\", it must be at least {}k",
                least / 1024
            )),
            Err(_) => cf.refuse(format_args!(
                "invalid size \"{size}\", it must be a number of bytes, or with k or m behind it"
            )),
        }
    })
}

/// The body of the handler of a directive in the `http` block.
///
/// # Safety
/// `cf` and `conf` are what nginx calls the handler with.
unsafe fn in_http(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    body: impl FnOnce(&mut Conf, &mut MainConf) -> Result<(), Wrong>,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it with the main configuration, as the table asks.
        let (cf, main) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<MainConf>()) };
        match body(cf, main) {
            Ok(()) => conf::OK,
            Err(Wrong::Because(reason)) => cf.refuse(reason),
            Err(Wrong::Logged) => super::module::FAILED,
        }
    })
}

/// `checkups_state DIRECTORY`
unsafe extern "C" fn cmd_set_state(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, main: &mut MainConf| {
        if main.clusters.state.is_some() {
            return Err("it is duplicate, there is one directory".into());
        }
        // NGX_CONF_TAKE1: there is one word.
        let name =
            String::from_utf8(cf.words()[1].to_vec()).map_err(|_| DirectiveError::NotText)?;
        if name.is_empty() {
            return Err("the name of a directory is missing".into());
        }
        let path = paths::add_path(cf, &name).map_err(|()| Wrong::Logged)?;
        thread::declare(cf).map_err(|()| Wrong::Logged)?;
        main.clusters.state = Some(Directory::new(path));
        main.clusters.needs_zone = true;
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_http(cf, conf, body) }
}

/// `checkups_check_define NAME TYPE [parameter=value ...]`
unsafe extern "C" fn cmd_set_check_define(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, main: &mut MainConf| {
        let (name, check) = directive::check_define(&cf.words()[1..])?;
        if let Some(other) = main.clusters.definitions.get(&name) {
            let position = &other.position;
            return Err(
                format!("duplicate name \"{name}\", it is that in {position} as well").into()
            );
        }
        let definition = checks::define(cf, check)?;
        main.clusters.definitions.insert(name, definition);
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_http(cf, conf, body) }
}

/// The body of the handler of a directive in an `upstream` block.
///
/// # Safety
/// `cf` and `conf` are what nginx calls the handler with.
unsafe fn in_upstream(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    body: impl FnOnce(&mut Conf, &mut UpstreamConf) -> Result<(), Wrong>,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it with the configuration of the block, as the table asks.
        let (cf, own) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<UpstreamConf>()) };
        // The words are others once a block was read.
        let name = String::from_utf8_lossy(cf.words()[0]).into_owned();
        let position = cf.position();
        match body(cf, own) {
            Ok(()) => return conf::OK,
            Err(Wrong::Because(reason)) => {
                cf.refuse_at(&position, format_args!("\"{name}\" directive: {reason}"));
            }
            Err(Wrong::Logged) => {}
        }
        super::module::FAILED
    })
}

/// Fills in what may be said once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Wrong> {
    if slot.is_some() {
        return Err("it is duplicate".into());
    }
    *slot = Some(value);
    Ok(())
}

/// Notes that the directive at hand means nothing without `checkups_cluster`.
fn needs_cluster(cf: &Conf, own: &mut UpstreamConf) {
    if own.needs_cluster.is_none() {
        let name = String::from_utf8_lossy(cf.words()[0]).into_owned();
        own.needs_cluster = Some((name, cf.position()));
    }
}

/// `checkups_cluster [NAME] [parameter=value ...]`
unsafe extern "C" fn cmd_set_cluster(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let parsed = directive::cluster(&cf.words()[1..])?;
        if let Some(text) = &parsed.named_by {
            let name = Expression::compile(cf, text).map_err(|()| Wrong::Logged)?;
            own.named_by = Some(name);
        }
        once(&mut own.cluster, (parsed, cf.position()))?;
        let upstream = upstream(cf)?;
        if upstream.peer.init_upstream.is_some() {
            return Err("the block has a balancing method already: put \"checkups_cluster\" before \
                        \"keepalive\", and remove other methods (ip_hash, least_conn, hash, random)"
                .into());
        }
        upstream.peer.init_upstream = Some(balancer::init_upstream);
        upstream.flags = (NGX_HTTP_UPSTREAM_CREATE
            | NGX_HTTP_UPSTREAM_WEIGHT
            | NGX_HTTP_UPSTREAM_MAX_CONNS
            | NGX_HTTP_UPSTREAM_MAX_FAILS
            | NGX_HTTP_UPSTREAM_FAIL_TIMEOUT
            | NGX_HTTP_UPSTREAM_DOWN
            | NGX_HTTP_UPSTREAM_BACKUP) as ngx_uint_t;
        #[cfg(ngx_upstream_resolve)]
        {
            upstream.flags |= ngx::ffi::NGX_HTTP_UPSTREAM_MODIFY as ngx_uint_t;
        }
        if own.named_by.is_some() {
            blocks::add_placeholder(cf, upstream.servers)?;
        }
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_check TYPE [parameter=value ...]`
unsafe extern "C" fn cmd_set_check(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let parsed = directive::check(&cf.words()[1..])?;
        own.checks.add(cf, parsed)
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_balance METHOD`
unsafe extern "C" fn cmd_set_balance(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let balance = directive::balance(&cf.words()[1..])?;
        let keys = balance.keys().into_iter().map(|key| Expression::compile(cf, key));
        let keys = keys.collect::<Result<Vec<_>, ()>>().map_err(|()| Wrong::Logged)?;
        needs_cluster(cf, own);
        once(&mut own.balance, (balance, keys, cf.position()))
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_order STRING`
unsafe extern "C" fn cmd_set_order(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        // NGX_CONF_TAKE1: there is one word.
        let text =
            String::from_utf8(cf.words()[1].to_vec()).map_err(|_| DirectiveError::NotText)?;
        let expression = Expression::compile(cf, &text).map_err(|()| Wrong::Logged)?;
        needs_cluster(cf, own);
        once(&mut own.order, (text, expression, cf.position()))
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_fail_status STATUS ...`
unsafe extern "C" fn cmd_set_fail_status(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let statuses = directive::fail_status(&cf.words()[1..])?;
        needs_cluster(cf, own);
        once(&mut own.fail_status, statuses)
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_server ADDRESS [parameter ...]`
unsafe extern "C" fn cmd_set_server(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let server = directive::server(&cf.words()[1..])?;
        // A name whose addresses nginx finds while it runs may have none yet.
        let addresses = if stock::finds(upstream(cf)?, &server.address) {
            Vec::new()
        } else {
            blocks::resolve(cf, &server.address)?
        };
        let is_known = |address| own.servers.iter().any(|other| other.addresses.contains(address));
        if addresses.iter().any(is_known) {
            return Err(format!("it is duplicate for server \"{}\"", server.address).into());
        }
        if server.needs_cluster() {
            needs_cluster(cf, own);
        }
        own.servers.push(ServerConf { server, addresses, position: cf.position() });
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_level NAME [parameter=value ...] { ... }`
unsafe extern "C" fn cmd_set_level(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let level = directive::level(&cf.words()[1..])?;
        let position = cf.position();
        blocks::check_level(cf, own, &level)?;
        let servers = blocks::read_level(cf)?;
        own.levels.push(LevelConf { level, servers: LevelServers::Own(servers), position });
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_level_from NAME UPSTREAM [parameter=value ...]`
unsafe extern "C" fn cmd_set_level_from(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |cf: &mut Conf, own: &mut UpstreamConf| {
        let directive::LevelFromDirective { level, upstream, only } =
            directive::level_from(&cf.words()[1..])?;
        let position = cf.position();
        blocks::check_level(cf, own, &level)?;
        own.levels.push(LevelConf { level, servers: LevelServers::Of(upstream, only), position });
        Ok(())
    };
    // SAFETY: as of nginx.
    unsafe { in_upstream(cf, conf, body) }
}

/// `checkups_api [write=on|off]`
unsafe extern "C" fn cmd_set_api(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it within a location, whose context it has, with its configuration.
        let (cf, own) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<LocationConf>()) };
        let parsed = match directive::api(&cf.words()[1..]) {
            Ok(parsed) => parsed,
            Err(error) => return cf.refuse(error),
        };
        // SAFETY: likewise.
        let location: Option<&mut ngx_http_core_loc_conf_t> =
            NgxHttpCoreModule::location_conf_mut(unsafe { &*cf.as_ptr() });
        let Some(location) = location else { return cf.refuse("it must stand in a location") };
        if location.handler.is_some() {
            return cf.refuse("it is duplicate, or another directive answers in this location");
        }
        if !is_prefix(location) {
            return cf.refuse(
                "it must stand in a location that is given by a prefix: not by \"=\", a regular \
                 expression or a name",
            );
        }
        // SAFETY: likewise.
        let main = Module::main_conf_mut(unsafe { &*cf.as_ptr() });
        if let Some(main) = main.filter(|_| parsed.write) {
            main.clusters.needs_zone = true;
        }
        location.handler = Some(api::handler);
        own.api = Some(parsed);
        conf::OK
    })
}

/// Whether a location is given by a prefix: only then what follows it is a path of the API.
fn is_prefix(location: &ngx_http_core_loc_conf_t) -> bool {
    #[cfg(ngx_feature = "pcre")]
    if !location.regex.is_null() {
        return false;
    }
    location.exact_match() == 0 && location.named() == 0
}
