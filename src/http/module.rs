//! The module as nginx sees it.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::ptr::{addr_of, addr_of_mut};

use ngx::core::Status;
use ngx::ffi::{
    ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t,
    NGX_HTTP_MODULE,
};
use ngx::http::{
    HttpModule, HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf, Merge,
    MergeConfigError,
};

use super::{balancer, directives};
use crate::logic::directive::ClusterDirective;
use crate::logic::settings::Check;
use crate::nginx::conf::{Conf, Position};
use crate::nginx::guard::guard;
use crate::nginx::process;
use crate::upstream::configuration::Configuration;
use crate::upstream::worker;

/// What one `upstream` block says.
#[derive(Default)]
pub(super) struct UpstreamConf {
    /// `checkups_cluster`.
    pub cluster: Option<(ClusterDirective, Position)>,
    /// `checkups_check`.
    pub check: Option<(Option<Check>, Position)>,
    /// The index of the cluster in the configuration, once the block is nginx's balancer.
    pub index: Cell<Option<usize>>,
}

impl Merge for UpstreamConf {
    // The directives are legal in upstream blocks only, which inherit nothing.
    fn merge(&mut self, _prev: &Self) -> Result<(), MergeConfigError> {
        Ok(())
    }
}

/// The module.
pub(super) struct Module;

impl HttpModule for Module {
    fn module() -> &'static ngx_module_t {
        // SAFETY: nginx writes to it only while it reads the configuration, at the very beginning.
        unsafe { &*addr_of!(ngx_http_checkups_module) }
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
    type MainConf = Configuration;
}

// SAFETY: create_srv_conf, which is the trait's own, makes this type.
unsafe impl HttpModuleServerConf for Module {
    type ServerConf = UpstreamConf;
}

// SAFETY: there is no location configuration, so that nobody gets a wrong one.
unsafe impl HttpModuleLocationConf for Module {
    type LocationConf = ();
}

static NGX_HTTP_CHECKUPS_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(Module::postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(create_srv_conf),
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
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

/// The configuration of a cycle. `None`: it has no `http` block.
///
/// # Safety
/// `cycle` is what nginx calls a handler with.
unsafe fn configuration(cycle: *mut ngx_cycle_t) -> Option<&'static Configuration> {
    // SAFETY: the configuration lives as long as its cycle: in a worker, as long as the worker. In
    // the master the result is used during the call only.
    Module::main_conf(unsafe { cycle.as_ref() }?)
}

/// The new cycle cannot fail any more: takes its clusters into use.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard(Status::NGX_ERROR, || {
        // SAFETY: nginx calls it with the new cycle.
        if let Some(configuration) = unsafe { configuration(cycle) } {
            configuration.commit();
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
