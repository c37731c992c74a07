//! `checkups_match`: a block of conditions.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;

use ngx::core::NGX_CONF_ERROR;
use ngx::ffi::{ngx_command_t, ngx_conf_include, ngx_conf_parse, ngx_conf_t};

use super::module::{MainConf, FAILED};
use crate::logic::directive::MatchBlock;
use crate::nginx::conf::{self, Conf};
use crate::nginx::guard::guard;

/// `checkups_match NAME { ... }`
pub(super) unsafe extern "C" fn cmd_set_match(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard(FAILED, || {
        // SAFETY: nginx calls it with the main configuration, as the table asks.
        let (cf, main) = unsafe { (Conf::from_ptr(cf), &mut *conf.cast::<MainConf>()) };
        let mut block = match MatchBlock::new(&cf.words()[1..]) {
            Ok(block) => block,
            Err(error) => return cf.refuse(error),
        };
        let mut known = main.clusters.matches.iter().zip(&main.match_positions);
        if let Some((_, position)) = known.find(|(other, _)| other.name() == block.name()) {
            let name = block.name();
            return cf.refuse(format_args!(
                "duplicate name \"{name}\", it is that in {position} as well"
            ));
        }
        let position = cf.position();
        if !read(cf, &mut block) {
            return FAILED;
        }
        match block.finish() {
            Ok(matching) => {
                main.clusters.matches.push(Rc::new(matching));
                main.match_positions.push(position);
                conf::OK
            }
            Err(error) => {
                cf.refuse_at(&position, format_args!("\"checkups_match\" directive: {error}"));
                FAILED
            }
        }
    })
}

/// Reads the lines of a block. Where it fails, it is logged why.
fn read(cf: &mut Conf, block: &mut MatchBlock) -> bool {
    // SAFETY: this is a handler that nginx called with the block open; what is changed is restored
    // however the parsing ends, and the handler uses `block` during the parsing only.
    unsafe {
        let inner = cf.as_ptr();
        let (handler_before, conf_before) = ((*inner).handler, (*inner).handler_conf);
        (*inner).handler = Some(in_match);
        (*inner).handler_conf = ptr::from_mut(block).cast();
        let parsed = ngx_conf_parse(inner, ptr::null_mut());
        (*inner).handler = handler_before;
        (*inner).handler_conf = conf_before;
        parsed == conf::OK
    }
}

/// Handles a line of a block.
unsafe extern "C" fn in_match(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    block: *mut c_void,
) -> *mut c_char {
    guard(NGX_CONF_ERROR, || {
        // SAFETY: nginx calls it while it reads the block, with what `read` has set.
        let (conf, block) = unsafe { (Conf::from_ptr(cf), &mut *block.cast::<MatchBlock>()) };
        let words = conf.words();
        match (words[0], words.len()) {
            (b"include", 2) => {
                // SAFETY: likewise; what is included is handled here, too. `block` is not used
                // from here on.
                unsafe { ngx_conf_include(cf, ptr::null_mut(), ptr::null_mut()) }
            }
            (b"include", _) => conf.refuse("invalid number of arguments"),
            _ => match block.line(&words) {
                Ok(()) => conf::OK,
                Err(error) => conf.refuse(error),
            },
        }
    })
}
