//! The variables.

use std::ffi::{c_char, c_void};
use std::fmt::{self, Write};
use std::ptr::{self, fn_addr_eq};
use std::rc::Rc;

use ngx::ffi::{
    ngx_hash_find, ngx_hash_key, ngx_http_add_variable, ngx_http_core_main_conf_t,
    ngx_http_get_variable, ngx_http_request_t, ngx_http_variable_t, ngx_http_variable_value_t,
    ngx_int_t, ngx_pool_cleanup_add, ngx_str_t, ngx_uint_t, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE,
    NGX_HTTP_VAR_PREFIX, NGX_LOG_ERR, NGX_OK,
};

use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::balancer::{wish, Http};
use super::module::Module;
use crate::logic::api::Refusal;
use crate::nginx::conf::{self, Conf};
use crate::nginx::guard::guard;
use crate::nginx::{log, pool};
use crate::upstream::configuration::{Configuration, IsVariable};
use crate::upstream::entry::Entry;
use crate::upstream::peer::{select_once, Entered, Tries};

/// How the name of a variable begins that selects a server.
const SELECT: &str = "checkups_select_";

/// Writes what a variable shows of one try.
type Show = fn(&Entered<'_>, &mut String) -> fmt::Result;

/// The variables with one value a try. nginx hands the index of one to its handler.
const OF_TRIES: [(&str, Show); 4] = [
    ("checkups_cluster", |entered, out| out.write_str(entered.cluster)),
    ("checkups_level", |entered, out| match entered.level {
        Some((Some(name), _)) => out.write_str(name),
        Some((None, number)) => write!(out, "{number}"),
        None => out.write_str("-"),
    }),
    ("checkups_server", |entered, out| out.write_str(entered.server.unwrap_or("-"))),
    ("checkups_tries", |entered, out| write!(out, "{}", entered.number)),
];

/// Adds the variables, before the configuration is read.
pub(super) fn add(cf: &mut Conf) -> Result<(), ()> {
    for (index, (name, _)) in OF_TRIES.iter().enumerate() {
        add_one(cf, name, NGX_HTTP_VAR_NOCACHEABLE, of_tries, index)?;
    }
    add_one(cf, SELECT, NGX_HTTP_VAR_PREFIX, select, 0)
}

type Handler = unsafe extern "C" fn(
    *mut ngx_http_request_t,
    *mut ngx_http_variable_value_t,
    usize,
) -> ngx_int_t;

fn add_one(cf: &mut Conf, name: &str, flags: u32, handler: Handler, data: usize) -> Result<(), ()> {
    let mut name: ngx_str_t = conf::string(name.as_bytes());
    // SAFETY: the configuration is about to be read; nginx copies the name.
    unsafe {
        let variable = ngx_http_add_variable(cf.as_ptr(), &mut name, flags as ngx_uint_t);
        let variable = variable.as_mut().ok_or(())?;
        variable.get_handler = Some(handler);
        variable.data = data;
    }
    Ok(())
}

/// A variable with one value a try, separated as in nginx's `$upstream_addr`.
unsafe extern "C" fn of_tries(
    request: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    index: usize,
) -> ngx_int_t {
    guard(NGX_ERROR as ngx_int_t, || {
        let mut text = String::new();
        let Some((_, show)) = OF_TRIES.get(index) else { return NGX_ERROR as ngx_int_t };
        // SAFETY: nginx calls it with a request that it works on.
        unsafe {
            Tries::<Http>::of_session(request, (*request).pool, |tries| {
                for (number, entered) in tries.enumerate() {
                    if !text.is_empty() {
                        text.push_str(if number == 0 { " : " } else { ", " });
                    }
                    // Writing to a String does not fail.
                    let _ = show(&entered, &mut text);
                }
            });
            set(request, value, Some(&text).filter(|text| !text.is_empty()))
        }
    })
}

/// `$checkups_select_NAME`: selects a server of the cluster NAME, once a request.
unsafe extern "C" fn select(
    request: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    guard(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls it with a request that it works on, and for a prefix with the name of the
        // variable.
        let (inner, name) = unsafe { (&*request, conf::bytes(*(data as *const ngx_str_t))) };
        let name = name.get(SELECT.len()..).unwrap_or_default();
        let Some(main) = Module::main(inner) else { return NGX_ERROR as ngx_int_t };
        let found = match find(&main.clusters, name) {
            Some(entry) if entry.watch.is_none() => Ok(entry),
            Some(_) => Err(Refusal::BalancedByNginx.sentence().to_owned()),
            None => Err("unknown cluster".to_owned()),
        };
        let entry = match found {
            Ok(entry) => entry,
            Err(message) => {
                complain(inner, &String::from_utf8_lossy(name), &message);
                // SAFETY: likewise.
                return unsafe { set(request, value, None) };
            }
        };
        // SAFETY: the request has a pool; the wish is used during this call only.
        unsafe {
            let Some(selections) = Selections::of(request) else { return NGX_ERROR as ngx_int_t };
            let known = selections.0.iter().find(|(cluster, _)| cluster == entry.name());
            if let Some((_, selected)) = known {
                return set(request, value, selected.as_ref());
            }
            let wish = wish(request, main, &entry, &entry.current());
            let selected = select_once(&entry, &wish, |server, _, _| server.to_owned());
            if selected.is_none() {
                complain(inner, entry.name(), "no servers available");
            }
            let code = set(request, value, selected.as_ref());
            selections.0.push((entry.name().to_owned(), selected));
            code
        }
    })
}

/// The cluster that `$checkups_select_NAME` is about.
fn find(clusters: &Configuration, name: &[u8]) -> Option<Rc<Entry>> {
    let exact = std::str::from_utf8(name).ok().and_then(|name| clusters.find(name));
    let configured = || {
        let mut entries = clusters.clusters().iter();
        entries.find(|entry| is_named(entry.name(), name)).cloned()
    };
    let any = || clusters.all().into_iter().find(|entry| is_named(entry.name(), name));
    exact.or_else(configured).or_else(any)
}

/// The value of the variable of this name for a request. `None`: it has none, or there is no such
/// variable.
///
/// # Safety
/// The result is used for no longer than the request lives.
pub(super) unsafe fn value(request: *mut ngx_http_request_t, name: &str) -> Option<&'static [u8]> {
    let mut text: ngx_str_t = conf::string(name.as_bytes());
    // SAFETY: nginx only reads the name; the value lives as long as the request.
    unsafe {
        let key = ngx_hash_key(text.data, text.len);
        let value = ngx_http_get_variable(request, &mut text, key);
        let value = value.as_ref().filter(|value| value.not_found() == 0)?;
        Some(std::slice::from_raw_parts(value.data, value.len() as usize))
            .filter(|_| !value.data.is_null())
    }
}

/// What tells whether there is a variable of some name, in the workers.
pub(super) fn known(cf: &mut Conf) -> Option<IsVariable> {
    // SAFETY: the http block was just read, and nginx has its context.
    let core = NgxHttpCoreModule::main_conf(unsafe { &*cf.as_ptr() })?;
    let core = ptr::from_ref(core);
    // SAFETY: it lives as long as the cycle, and so does who asks.
    Some(Box::new(move |name| unsafe { is_known(&*core, name) }))
}

/// Whether there is a variable of this name.
///
/// # Safety
/// The http block was read to its end.
pub(super) unsafe fn is_known(core: &ngx_http_core_main_conf_t, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // SAFETY: nginx has made the hash and the array of prefixes when it had read the block; it writes
    // to neither.
    unsafe {
        let hash = ptr::from_ref(&core.variables_hash).cast_mut();
        let text = name.as_ptr().cast_mut();
        if !ngx_hash_find(hash, ngx_hash_key(text, name.len()), text, name.len()).is_null() {
            return true;
        }
        let prefixes: &[ngx_http_variable_t] = core.prefix_variables.as_slice();
        prefixes.iter().any(|prefix| {
            let prefix = conf::bytes(prefix.name);
            name.len() > prefix.len() && name.as_bytes().starts_with(prefix)
        })
    }
}

/// Looks at the variables that the configuration has, when all of it was read.
///
/// # Errors
/// Where one is about a cluster that it does not go with; it was logged.
pub(super) fn check(cf: &mut Conf) -> Result<(), ()> {
    // SAFETY: the http block was just read, and nginx has its context.
    let (main, core) = unsafe {
        let inner = &*cf.as_ptr();
        (Module::main_conf(inner), NgxHttpCoreModule::main_conf(inner))
    };
    let (Some(main), Some(core)) = (main, core) else { return Ok(()) };
    // SAFETY: nginx has made it an array of these when it began with the block.
    let variables: &[ngx_http_variable_t] = unsafe { core.variables.as_slice() };
    for variable in variables {
        // SAFETY: the names live as long as the cycle.
        let name = unsafe { conf::bytes(variable.name) };
        let Some(name) = name.strip_prefix(SELECT.as_bytes()) else { continue };
        let found = find(&main.clusters, name).filter(|entry| entry.watch.is_some());
        if let Some(configured) = found.as_ref().and_then(|entry| entry.configured.as_ref()) {
            let message = format_args!(
                "\"${SELECT}{}\": {}; it is that of the upstream",
                String::from_utf8_lossy(name),
                Refusal::BalancedByNginx.sentence()
            );
            cf.refuse_at(&configured.position, message);
            return Err(());
        }
    }
    Ok(())
}

/// What was selected for a request, by the names of the clusters. nginx keeps values of variables
/// only for those who look them up by an index; a script looks them up by name.
#[derive(Default)]
struct Selections(Vec<(String, Option<String>)>);

impl Selections {
    /// Those of a request, subrequests among it. `None`: there is no memory.
    ///
    /// # Safety
    /// The request is one that nginx works on; the result is used during the call only.
    unsafe fn of<'a>(request: *mut ngx_http_request_t) -> Option<&'a mut Self> {
        // SAFETY: subrequests have the pool of the request. What has our handler has our data, and it
        // lives as long as the pool.
        unsafe {
            let pool = (*request).pool;
            let mut next = (*pool).cleanup;
            while let Some(cleanup) = next.as_mut() {
                let ours: unsafe extern "C" fn(*mut c_void) = forget;
                if cleanup.handler.is_some_and(|handler| fn_addr_eq(handler, ours)) {
                    return Some(&mut *cleanup.data.cast());
                }
                next = cleanup.next;
            }
            let cleanup = ngx_pool_cleanup_add(pool, size_of::<Self>()).as_mut()?;
            cleanup.data.cast::<Self>().write(Self::default());
            cleanup.handler = Some(forget);
            Some(&mut *cleanup.data.cast())
        }
    }
}

/// The request is over: nginx's cleanup of its pool.
unsafe extern "C" fn forget(selections: *mut c_void) {
    // SAFETY: `Selections::of` has written it, and nginx calls this once.
    guard((), || unsafe { selections.cast::<Selections>().drop_in_place() });
}

/// Whether a variable with this name is about this cluster. nginx takes names of variables in small
/// letters, and there are only letters, digits and `_` in them: every other character is a `_`.
fn is_named(cluster: &str, name: &[u8]) -> bool {
    let as_variable = |byte: u8| match byte.to_ascii_lowercase() {
        byte if byte.is_ascii_alphanumeric() => byte,
        _ => b'_',
    };
    cluster.len() == name.len() && cluster.bytes().zip(name).all(|(a, &b)| as_variable(a) == b)
}

fn complain(request: &ngx_http_request_t, cluster: &str, message: &str) {
    // SAFETY: a request has the log of its connection.
    unsafe {
        let log = (*request.connection).log;
        log::write_to(log, NGX_LOG_ERR, format_args!("cluster \"{cluster}\": {message}"));
    }
}

/// Sets the value of a variable; `None`: it has none.
///
/// # Safety
/// Both are what nginx calls a handler with.
unsafe fn set(
    request: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    text: Option<&String>,
) -> ngx_int_t {
    // SAFETY: as the caller says; the copy lives as long as the request.
    unsafe {
        let value = &mut *value;
        value.set_no_cacheable(0);
        match text {
            None => value.set_not_found(1),
            Some(text) => {
                let Some(copy) = pool::copy((*request).pool, text.as_bytes()) else {
                    return NGX_ERROR as ngx_int_t;
                };
                value.data = copy.as_ptr().cast_mut().cast::<c_char>().cast();
                value.set_len(copy.len() as u32);
                value.set_valid(1);
                value.set_not_found(0);
            }
        }
    }
    NGX_OK as ngx_int_t
}
