//! The body of a request.

use ngx::core::Status;
use ngx::ffi::{
    ngx_buf_t, ngx_http_client_body_handler_pt, ngx_http_read_client_request_body,
    ngx_http_request_t, NGX_DONE, NGX_HTTP_SPECIAL_RESPONSE,
};
use ngx::http::Request;

/// Reads the body, and then calls `handler`, which finalizes the request. What it returns is for the
/// content handler to return.
pub(super) fn read(request: &mut Request, handler: ngx_http_client_body_handler_pt) -> Status {
    // SAFETY: the request is at its content phase, and its body was not read yet.
    let code = unsafe { ngx_http_read_client_request_body(request.into(), handler) };
    if code >= NGX_HTTP_SPECIAL_RESPONSE as isize {
        Status(code)
    } else {
        Status(NGX_DONE as isize)
    }
}

/// The body, up to one byte more than `most`. `None`: it could not be read from its file.
///
/// # Safety
/// The request is one whose body was read.
pub(super) unsafe fn bytes(request: *mut ngx_http_request_t, most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // SAFETY: the buffers are those of the body, in memory or in a file that is open.
    unsafe {
        let body = (*request).request_body.as_ref();
        let mut chain = body.map_or(std::ptr::null_mut(), |body| body.bufs);
        while let Some(link) = chain.as_ref() {
            append(&mut bytes, &*link.buf, most + 1)?;
            chain = link.next;
        }
    }
    Some(bytes)
}

/// Appends the content of a buffer, up to a length of `most` in all.
///
/// # Safety
/// The buffer is one of a body.
unsafe fn append(bytes: &mut Vec<u8>, buffer: &ngx_buf_t, most: usize) -> Option<()> {
    let room = most.saturating_sub(bytes.len());
    // SAFETY: a buffer in a file has an open file, and one in memory so many bytes.
    unsafe {
        if buffer.in_file() != 0 {
            let length = usize::try_from(buffer.file_last - buffer.file_pos).ok()?.min(room);
            let start = bytes.len();
            bytes.resize(start + length, 0);
            let (descriptor, place) = ((*buffer.file).fd, bytes[start..].as_mut_ptr().cast());
            let read = libc::pread(descriptor, place, length, buffer.file_pos);
            return (usize::try_from(read) == Ok(length)).then_some(());
        }
        let length = usize::try_from(buffer.last.offset_from(buffer.pos)).ok()?.min(room);
        bytes.extend_from_slice(std::slice::from_raw_parts(buffer.pos, length));
    }
    Some(())
}
