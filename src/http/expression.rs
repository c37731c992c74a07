//! Strings with variables, in the configuration.

use std::ptr::addr_of_mut;

use ngx::ffi::{
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value,
    ngx_http_complex_value_t, ngx_http_request_t, ngx_int_t, ngx_str_t, NGX_OK,
};

use crate::nginx::conf::{self, Conf};
use crate::nginx::pool;

/// A string with variables.
pub(super) struct Expression(ngx_http_complex_value_t);

impl Expression {
    /// Compiles a string. nginx logs what is wrong with it.
    pub(super) fn compile(cf: &mut Conf, text: &str) -> Result<Self, ()> {
        // SAFETY: the pool is that of the cycle, which the configuration does not outlive.
        let text = unsafe { pool::copy(cf.pool(), text.as_bytes()) }.ok_or(())?;
        let mut text: ngx_str_t = conf::string(text);
        // SAFETY: structures of zeros are what nginx itself starts from; it fills `value` in, which
        // refers to the text.
        unsafe {
            let mut value: ngx_http_complex_value_t = std::mem::zeroed();
            let mut compile: ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = cf.as_ptr();
            compile.value = addr_of_mut!(text);
            compile.complex_value = addr_of_mut!(value);
            if ngx_http_compile_complex_value(addr_of_mut!(compile)) != NGX_OK as ngx_int_t {
                return Err(());
            }
            Ok(Self(value))
        }
    }

    /// The value for a request. `None`: there is no memory.
    ///
    /// # Safety
    /// The result is used for no longer than the request lives.
    pub(super) unsafe fn value<'a>(&self, request: *mut ngx_http_request_t) -> Option<&'a [u8]> {
        let mut value = conf::string(b"");
        let expression: *const ngx_http_complex_value_t = &self.0;
        // SAFETY: the request is one that nginx works on; nginx does not write to the expression.
        unsafe {
            let code = ngx_http_complex_value(request, expression.cast_mut(), &mut value);
            (code == NGX_OK as ngx_int_t).then(|| conf::bytes(value))
        }
    }
}

/// What the clusters of requests depend on.
#[derive(Default)]
pub(super) struct Expressions {
    /// `checkups_order`.
    pub order: Option<Expression>,
    /// The key of the hash: the first that is not empty counts.
    pub keys: Vec<Expression>,
}
