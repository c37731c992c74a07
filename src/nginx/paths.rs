//! Directories that nginx makes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ngx::ffi::{
    ngx_add_path, ngx_conf_full_name, ngx_int_t, ngx_path_t, ngx_pcalloc, NGX_ERROR, NGX_OK,
};

use super::conf::{self, Conf};
use super::{pool, process};

/// Has nginx make the directory of this name as it makes those of temporary files: relative to the
/// prefix, for the user of the workers alone, before the configuration is taken into use. Its parent
/// has to be there. With `nginx -t` nothing is made. To be called while the directive is read.
///
/// Returns the whole name. An error: nginx refused it and logged why, or there is no memory.
pub fn add_path(cf: &mut Conf, name: &str) -> Result<PathBuf, ()> {
    let stripped = name.trim_end_matches('/');
    let name = if stripped.is_empty() && !name.is_empty() { "/" } else { stripped };
    // nginx wants a zero behind the name, which it does not count.
    let with_zero = [name.as_bytes(), b"\0"].concat();
    // SAFETY: the pool is that of the cycle that is being made, and lives as long as that keeps the
    // path and its name. Zeros are what a path starts from.
    unsafe {
        let copied = pool::copy(cf.pool(), &with_zero).ok_or(())?;
        let mut full = conf::string(&copied[..name.len()]);
        let inner = cf.as_ptr();
        if ngx_conf_full_name((*inner).cycle, &mut full, 0) != NGX_OK as ngx_int_t {
            return Err(());
        }
        let found = PathBuf::from(OsStr::from_bytes(conf::bytes(full)));
        if process::is_test() {
            return Ok(found);
        }
        let mut path = ngx_pcalloc((*inner).pool, size_of::<ngx_path_t>()).cast::<ngx_path_t>();
        if path.is_null() {
            return Err(());
        }
        (*path).name = full;
        if let Some(file) = (*inner).conf_file.as_ref() {
            (*path).conf_file = file.file.name.data;
            (*path).line = file.line;
        }
        if ngx_add_path(inner, &mut path) == NGX_ERROR as ngx_int_t {
            return Err(());
        }
        Ok(found)
    }
}
