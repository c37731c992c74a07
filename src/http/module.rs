//! The module as nginx sees it.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::ptr::{addr_of, addr_of_mut};

use ngx::core::Status;
use ngx::ffi::{
    ngx_array_t, ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_http_request_t,
    ngx_http_upstream_init_peer_pt, ngx_int_t, ngx_module_t, ngx_uint_t, off_t, NGX_HTTP_MODULE,
};
use ngx::http::{
    HttpModule, HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf, Merge,
    MergeConfigError, NgxHttpCoreModule,
};

use super::checks::Checks;
use super::expression::{Expression, Expressions};
use super::{api, balancer, directives, variables};
use crate::logic::directive::{
    ApiDirective, ClusterDirective, LevelDirective, Only, ServerDirective,
};
use crate::logic::settings::{Balance, Statuses};
use crate::nginx::conf::{self, Conf, Position};
use crate::nginx::guard::guard;
use crate::nginx::log::CycleLog;
use crate::nginx::process;
use crate::upstream::configuration::Configuration;
use crate::upstream::worker;

/// What the `http` block says.
#[derive(Default)]
pub(super) struct MainConf {
    /// The clusters.
    pub clusters: Configuration,
    /// What their requests depend on, cluster by cluster.
    pub expressions: Vec<Expressions>,
    /// Where the `checkups_match` blocks are written, one by one.
    pub match_positions: Vec<Position>,
}

/// What one `upstream` block says. The `http` block has one as well, for what upstreams inherit.
#[derive(Default)]
pub(super) struct UpstreamConf {
    /// `checkups_cluster`.
    pub cluster: Option<(ClusterDirective, Position)>,
    /// The name of the cluster, where it is by variables.
    pub named_by: Option<Expression>,
    /// Whether requests to the block come to us.
    pub is_installed: Cell<bool>,
    /// `checkups_check`.
    pub checks: Checks,
    /// `checkups_balance`, and the strings that make the key of a hash.
    pub balance: Option<(Balance, Vec<Expression>, Position)>,
    /// `checkups_order`.
    pub order: Option<(String, Expression, Position)>,
    /// `checkups_fail_status`.
    pub fail_status: Option<Statuses>,
    /// `checkups_level` and `checkups_level_from`.
    pub levels: Vec<LevelConf>,
    /// `checkups_server`.
    pub servers: Vec<ServerConf>,
    /// The first directive that means nothing without `checkups_cluster`, and where it stands.
    pub needs_cluster: Option<(String, Position)>,
    /// The index of the cluster in the configuration, once the block is nginx's balancer, or is
    /// watched.
    pub index: Cell<Option<usize>>,
    /// What nginx had for requests to begin with, where the block is watched.
    pub original_init: Cell<ngx_http_upstream_init_peer_pt>,
}

impl Merge for UpstreamConf {
    // The directives are legal in upstream blocks only, which inherit nothing.
    fn merge(&mut self, _prev: &Self) -> Result<(), MergeConfigError> {
        Ok(())
    }
}

/// A level of an `upstream` block.
pub(super) struct LevelConf {
    /// What the directive says.
    pub level: LevelDirective,
    /// Where its servers are.
    pub servers: LevelServers,
    /// Where it is written.
    pub position: Position,
}

/// Where the servers of a level are.
pub(super) enum LevelServers {
    /// In the block of the level.
    Own(*mut ngx_array_t),
    /// In the `upstream` block of this name.
    Of(String, Option<Only>),
}

/// A `checkups_server`.
pub(super) struct ServerConf {
    /// What the directive says.
    pub server: ServerDirective,
    /// The socket addresses that it is about.
    pub addresses: Vec<Vec<u8>>,
    /// Where it is written.
    pub position: Position,
}

/// What one location says.
#[derive(Default)]
pub(super) struct LocationConf {
    /// `checkups_api`.
    pub api: Option<ApiDirective>,
}

/// The module.
pub(super) struct Module;

impl HttpModule for Module {
    fn module() -> &'static ngx_module_t {
        // SAFETY: nginx writes to it only while it reads the configuration, at the very beginning.
        unsafe { &*addr_of!(ngx_http_checkups_module) }
    }

    unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
        guard(Status::NGX_ERROR, || {
            // SAFETY: this is a handler that nginx called with it.
            match variables::add(unsafe { Conf::from_ptr(cf) }) {
                Ok(()) => Status::NGX_OK,
                Err(()) => Status::NGX_ERROR,
            }
        })
        .into()
    }

    unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
        guard(Status::NGX_ERROR, || {
            // SAFETY: this is a handler that nginx called with it.
            let cf = unsafe { Conf::from_ptr(cf) };
            match balancer::complete(cf) {
                Ok(()) => Status::NGX_OK,
                Err(()) => Status::NGX_ERROR,
            }
        })
        .into()
    }
}

// SAFETY: create_main_conf, which is the trait's own, makes this type.
unsafe impl HttpModuleMainConf for Module {
    type MainConf = MainConf;
}

// SAFETY: create_srv_conf, which is the trait's own, makes this type.
unsafe impl HttpModuleServerConf for Module {
    type ServerConf = UpstreamConf;
}

// SAFETY: create_loc_conf, which is the trait's own, makes this type.
unsafe impl HttpModuleLocationConf for Module {
    type LocationConf = LocationConf;
}

impl Module {
    /// What the `http` block says that a request is in.
    pub(super) fn main(request: &ngx_http_request_t) -> Option<&'static MainConf> {
        Self::main_conf(request)
    }
}

static NGX_HTTP_CHECKUPS_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(Module::preconfiguration),
    postconfiguration: Some(Module::postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(create_srv_conf),
    merge_srv_conf: None,
    create_loc_conf: Some(create_loc_conf),
    merge_loc_conf: Some(merge_loc_conf),
};

/// nginx's description of the module; its name is that of the file.
#[allow(non_upper_case_globals)]
pub(super) static mut ngx_http_checkups_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(NGX_HTTP_CHECKUPS_MODULE_CTX) as _,
    commands: addr_of_mut!(directives::NGX_HTTP_CHECKUPS_COMMANDS) as _,
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

ngx::ngx_modules!(ngx_http_checkups_module);

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        // SAFETY: nginx calls it with a valid configuration.
        unsafe { Module::create_main_conf(cf) }
    })
}

unsafe extern "C" fn create_srv_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        // SAFETY: nginx calls it with a valid configuration.
        unsafe { Module::create_srv_conf(cf) }
    })
}

unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        // SAFETY: nginx calls it with a valid configuration.
        unsafe { Module::create_loc_conf(cf) }
    })
}

/// Nothing is inherited but by `limit_except` and `if`, which are locations of their own for nginx. nginx's limit
/// of the body must not come before that of the API, which answers with an error of its own.
unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    guard(FAILED, || {
        // SAFETY: nginx calls it with the configurations that `create_loc_conf` made, and with that of
        // the location as the context.
        let (cf, parent, own) =
            unsafe { (&*cf, &*parent.cast::<LocationConf>(), &mut *child.cast::<LocationConf>()) };
        let Some(location) = NgxHttpCoreModule::location_conf_mut(cf) else { return FAILED };
        if location.noname() != 0 && own.api.is_none() {
            own.api = parent.api;
        }
        if location.lmt_excpt() != 0 && location.handler.is_none() && own.api.is_some() {
            location.handler = Some(api::handler);
        }
        if own.api.is_some() {
            location.client_max_body_size = api::MAX_READ as off_t;
        }
        conf::OK
    })
}

/// The configuration of a cycle. `None`: it has no `http` block.
///
/// # Safety
/// `cycle` is what nginx calls a handler with.
unsafe fn configuration(cycle: *mut ngx_cycle_t) -> Option<&'static Configuration> {
    // SAFETY: the configuration lives as long as its cycle: in a worker, as long as the worker. In
    // the master the result is used during the call only.
    Some(&Module::main_conf(unsafe { cycle.as_ref() }?)?.clusters)
}

/// The new cycle cannot fail any more: takes its clusters into use.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with the new cycle.
        if let Some(configuration) = unsafe { configuration(cycle) } {
            // SAFETY: likewise; nginx opens the files of a cycle before.
            let log = unsafe { CycleLog::new(&*cycle) };
            configuration.commit(&log);
        }
        Status::NGX_OK
    })
    .into()
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // A worker that cannot start is not started again: whatever goes wrong here, it serves.
    guard((), || {
        // SAFETY: nginx calls it with the cycle that this process runs.
        if let Some(configuration) = unsafe { configuration(cycle) } {
            if process::handles_requests() {
                worker::start(configuration);
            }
        }
    });
    Status::NGX_OK.into()
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard((), worker::stop);
}

/// What a handler of a directive returns where nginx itself failed and said why.
pub(super) const FAILED: *mut c_char = ngx::core::NGX_CONF_ERROR;
