//! The directives.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use ngx::ffi::{
    ngx_command_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_parse_size,
    ngx_str_t, ngx_uint_t, NGX_CONF_ANY, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET,
    NGX_HTTP_UPSTREAM_BACKUP, NGX_HTTP_UPSTREAM_CREATE, NGX_HTTP_UPSTREAM_DOWN,
    NGX_HTTP_UPSTREAM_FAIL_TIMEOUT, NGX_HTTP_UPSTREAM_MAX_CONNS, NGX_HTTP_UPSTREAM_MAX_FAILS,
    NGX_HTTP_UPSTREAM_WEIGHT, NGX_HTTP_UPS_CONF,
};
use ngx::http::{
    HttpModuleLocationConf, HttpModuleServerConf, NgxHttpCoreModule, NgxHttpUpstreamModule,
};
use ngx::ngx_string;

use super::module::UpstreamConf;
use super::{api, balancer};
use crate::logic::directive;
use crate::nginx::conf::{self, Conf};
use crate::nginx::guard::guard;
use crate::nginx::zone::min_size;
use crate::upstream::configuration::{Configuration, Zone};

const SRV_CONF_OFFSET: ngx_uint_t = offset_of!(ngx_http_conf_ctx_t, srv_conf);

/// The table for nginx.
pub(super) static mut NGX_HTTP_CHECKUPS_COMMANDS: [ngx_command_t; 5] = [
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
        name: ngx_string!("checkups_check"),
        type_: (NGX_HTTP_UPS_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(cmd_set_check),
        conf: SRV_CONF_OFFSET,
        offset: 0,
        post: std::ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("checkups_api"),
        type_: (NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS) as ngx_uint_t,
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
            unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<Configuration>()) };
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

/// `checkups_cluster [NAME] [tries=N]`
unsafe extern "C" fn cmd_set_cluster(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it with the configuration of the block, as the table asks.
        let (cf, own) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<UpstreamConf>()) };
        if own.cluster.is_some() {
            return cf.refuse("it is duplicate");
        }
        let parsed = match directive::cluster(&cf.words()[1..]) {
            Ok(parsed) => parsed,
            Err(error) => return cf.refuse(error),
        };
        // SAFETY: within an upstream block nginx has the context of that block.
        let Some(upstream) = NgxHttpUpstreamModule::server_conf_mut(unsafe { &*cf.as_ptr() })
        else {
            return cf.refuse("it must stand in an upstream block");
        };
        if upstream.peer.init_upstream.is_some() {
            return cf.refuse(
                "the block has a balancing method already: put \"checkups_cluster\" before \
                 \"keepalive\", and remove other methods (ip_hash, least_conn, hash, random)",
            );
        }
        upstream.peer.init_upstream = Some(balancer::init_upstream);
        upstream.flags = (NGX_HTTP_UPSTREAM_CREATE
            | NGX_HTTP_UPSTREAM_WEIGHT
            | NGX_HTTP_UPSTREAM_MAX_CONNS
            | NGX_HTTP_UPSTREAM_MAX_FAILS
            | NGX_HTTP_UPSTREAM_FAIL_TIMEOUT
            | NGX_HTTP_UPSTREAM_DOWN
            | NGX_HTTP_UPSTREAM_BACKUP) as ngx_uint_t;
        own.cluster = Some((parsed, cf.position()));
        conf::OK
    })
}

/// `checkups_check TYPE [parameter=value ...]`
unsafe extern "C" fn cmd_set_check(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it with the configuration of the block, as the table asks.
        let (cf, own) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<UpstreamConf>()) };
        if own.check.is_some() {
            return cf.refuse("it is duplicate, an upstream has one check");
        }
        // SAFETY: within an upstream block nginx has the context of that block.
        let Some(upstream) = NgxHttpUpstreamModule::server_conf(unsafe { &*cf.as_ptr() }) else {
            return cf.refuse("it must stand in an upstream block");
        };
        // SAFETY: the name lives as long as the cycle.
        let host = unsafe { conf::bytes(upstream.host) };
        match directive::check(&cf.words()[1..], &String::from_utf8_lossy(host)) {
            Ok(check) => {
                own.check = Some((check, cf.position()));
                conf::OK
            }
            Err(error) => cf.refuse(error),
        }
    })
}

/// `checkups_api`
unsafe extern "C" fn cmd_set_api(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    guard(super::module::FAILED, || {
        // SAFETY: nginx calls it within a location, whose context it has.
        let cf = unsafe { Conf::from_ptr(cf) };
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
        location.handler = Some(api::handler);
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
