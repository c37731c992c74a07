//! Levels that are blocks of their own, and the servers in them.

use std::ffi::{c_char, c_void};
use std::ptr::{self, addr_of, addr_of_mut};

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{
    ngx_addr_t, ngx_array_create, ngx_array_push, ngx_array_t, ngx_command_t, ngx_conf_include,
    ngx_conf_parse, ngx_conf_t, ngx_http_upstream_module, ngx_http_upstream_server_t,
    ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_parse_url, ngx_uint_t, ngx_url_t,
    NGX_HTTP_UPSTREAM_BACKUP, NGX_OK,
};

use ngx::http::{HttpModuleServerConf, NgxHttpUpstreamModule};

use super::module::UpstreamConf;
use super::wrong::Wrong;
use crate::logic::directive::LevelDirective;
use crate::nginx::conf::{self, Conf};
use crate::nginx::guard::guard;
use crate::nginx::pool;

/// The block that is being read.
pub(super) fn upstream(cf: &mut Conf) -> Result<&'static mut ngx_http_upstream_srv_conf_t, Wrong> {
    // SAFETY: within an upstream block nginx has the context of that block.
    NgxHttpUpstreamModule::server_conf_mut(unsafe { &*cf.as_ptr() })
        .ok_or_else(|| "it must stand in an upstream block".into())
}

/// Looks whether the block may have a level like this, and takes `server` lines out of the question.
pub(super) fn check_level(
    cf: &mut Conf,
    own: &UpstreamConf,
    level: &LevelDirective,
) -> Result<(), Wrong> {
    if own.named_by.is_some() {
        return Err("it does not go with a cluster that is named by a variable".into());
    }
    if own.cluster.is_none() {
        return Err("it must stand behind \"checkups_cluster\"".into());
    }
    if let Some(other) = own.levels.iter().find(|other| other.level.name == level.name) {
        let (name, position) = (&level.name, &other.position);
        return Err(format!("duplicate level \"{name}\", it is that in {position} as well").into());
    }
    let upstream = upstream(cf)?;
    // SAFETY: the array is that of the block that is being read.
    let (servers, count) = unsafe { (upstream.servers, (*upstream.servers).nelts) };
    if own.levels.is_empty() && count == 0 {
        add_placeholder(cf, servers)?;
    }
    if has_servers(upstream) {
        return Err(MIXED.into());
    }
    Ok(())
}

/// The name of the server that stands for those of the levels.
static PLACEHOLDER: &[u8] = b"servers of levels";

/// nginx refuses a block without servers: one that is never used stands for those of the levels. A
/// balancing method that replaces ours takes it for a server, until we refuse that method.
pub(super) fn add_placeholder(cf: &mut Conf, servers: *mut ngx_array_t) -> Result<(), Wrong> {
    // SAFETY: the array is that of the block that is being read; structures of zeros are valid, and
    // what they refer to lives in the pool of the cycle.
    unsafe {
        let mut socket: libc::sockaddr_in = std::mem::zeroed();
        socket.sin_family = libc::AF_INET as libc::sa_family_t;
        let socket = pool::place(cf.pool(), socket).ok_or(Wrong::Logged)?;
        let mut address: ngx_addr_t = std::mem::zeroed();
        address.sockaddr = ptr::from_ref(socket).cast_mut().cast();
        address.socklen = size_of::<libc::sockaddr_in>() as _;
        address.name = conf::string(PLACEHOLDER);
        let address = pool::place(cf.pool(), address).ok_or(Wrong::Logged)?;

        let server = ngx_array_push(servers).cast::<ngx_http_upstream_server_t>();
        if server.is_null() {
            return Err(Wrong::Logged);
        }
        server.write(std::mem::zeroed());
        (*server).name = conf::string(PLACEHOLDER);
        (*server).addrs = ptr::from_ref(address).cast_mut();
        (*server).naddrs = 1;
        (*server).weight = 1;
        (*server).down = 1;
    }
    Ok(())
}

/// Why `server` lines and levels do not go together.
pub(super) const MIXED: &str =
    "\"server\" lines stand either in the upstream block or in its levels";

/// Whether there are `server` lines in a block that are in no level.
pub(super) fn has_servers(upstream: &ngx_http_upstream_srv_conf_t) -> bool {
    // SAFETY: nginx has read the block, and its servers live as long as the cycle.
    let servers: &[ngx_http_upstream_server_t] = unsafe { (*upstream.servers).as_slice() };
    servers.iter().any(|server| !ptr::eq(server.name.data, PLACEHOLDER.as_ptr()))
}

/// Reads the block of a level: `server` lines, as nginx itself reads them.
pub(super) fn read_level(cf: &mut Conf) -> Result<*mut ngx_array_t, Wrong> {
    let upstream = upstream(cf)?;
    // SAFETY: the pool is that of the cycle.
    let servers =
        unsafe { ngx_array_create(cf.pool(), 4, size_of::<ngx_http_upstream_server_t>()) };
    if servers.is_null() {
        return Err(Wrong::Logged);
    }
    // nginx's handler of `server` appends to the array of the upstream, and takes the parameters that
    // the flags admit. No other directive of an upstream is legal within a level.
    let (servers_before, flags_before) = (upstream.servers, upstream.flags);
    upstream.servers = servers;
    upstream.flags &= !(NGX_HTTP_UPSTREAM_BACKUP as ngx_uint_t);
    // SAFETY: this is a handler that nginx called with the block open; what is changed is restored
    // however the parsing ends.
    let parsed = unsafe {
        let inner = cf.as_ptr();
        let (handler_before, conf_before) = ((*inner).handler, (*inner).handler_conf);
        (*inner).handler = Some(in_level);
        (*inner).handler_conf = ptr::from_mut(&mut *upstream).cast();
        let parsed = ngx_conf_parse(inner, ptr::null_mut());
        (*inner).handler = handler_before;
        (*inner).handler_conf = conf_before;
        parsed
    };
    upstream.servers = servers_before;
    upstream.flags = flags_before;
    if parsed != conf::OK {
        return Err(Wrong::Logged);
    }
    // SAFETY: it was created above.
    if unsafe { (*servers).nelts } == 0 {
        return Err("no servers are inside the level".into());
    }
    Ok(servers)
}

/// Handles what stands in the block of a level.
unsafe extern "C" fn in_level(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    upstream: *mut c_void,
) -> *mut c_char {
    guard(NGX_CONF_ERROR, || {
        // SAFETY: nginx calls it while it reads the block, with what `read_level` has set.
        let conf = unsafe { Conf::from_ptr(cf) };
        let words = conf.words();
        match (words[0], words.len()) {
            (b"include", 2) => {
                // SAFETY: likewise; what is included is handled here, too.
                unsafe { ngx_conf_include(cf, ptr::null_mut(), ptr::null_mut()) }
            }
            (b"server", 2..) => {
                // SAFETY: the table of nginx's module ends with a command without a name, and it has
                // a handler for `server`, which wants the configuration of the block.
                unsafe {
                    let mut command = (*addr_of!(ngx_http_upstream_module)).commands;
                    while (*command).name.len != 0 {
                        if conf::bytes((*command).name) == b"server" {
                            if let Some(set) = (*command).set {
                                return set(cf, command, upstream);
                            }
                        }
                        command = command.add(1);
                    }
                    conf.refuse("nginx does not know it")
                }
            }
            (b"include" | b"server", _) => conf.refuse("invalid number of arguments"),
            _ => conf.refuse("it is not allowed in a level, allowed are server and include"),
        }
    })
}

/// The socket addresses of a server that is written like this, as on a `server` line.
pub(super) fn resolve(cf: &mut Conf, address: &str) -> Result<Vec<Vec<u8>>, Wrong> {
    // SAFETY: an ngx_url_t of zeros is what nginx itself starts from; the text lives in the pool of
    // the cycle, and nginx fills in so many addresses.
    unsafe {
        let mut url: ngx_url_t = std::mem::zeroed();
        let text = pool::copy(cf.pool(), address.as_bytes()).ok_or(Wrong::Logged)?;
        url.url = conf::string(text);
        url.default_port = 80;
        if ngx_parse_url(cf.pool(), addr_of_mut!(url)) != NGX_OK as ngx_int_t {
            let reason = if url.err.is_null() {
                "invalid address".into()
            } else {
                std::ffi::CStr::from_ptr(url.err).to_string_lossy()
            };
            return Err(format!("{reason} in \"{address}\"").into());
        }
        Ok((0..url.naddrs).map(|index| socket_address(&*url.addrs.add(index))).collect())
    }
}

/// The bytes of a socket address.
pub(super) fn socket_address(address: &ngx_addr_t) -> Vec<u8> {
    // SAFETY: a valid address has so many bytes.
    unsafe {
        std::slice::from_raw_parts(address.sockaddr.cast::<u8>(), address.socklen as usize).to_vec()
    }
}
