//! Tasks on nginx's event loop.

use std::future::{poll_fn, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ngx::async_;
use ngx::ffi::{ngx_add_timer, ngx_cycle, ngx_del_timer, ngx_event_t, NGX_LOG_ALERT};

use super::log;

/// A task; dropping it ends it.
pub type Task = async_::Task<()>;

/// Starts a task. Where it panics, that is logged and the task ends.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    async_::spawn(async move {
        let mut future = pin!(future);
        poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))).unwrap_or_else(|_| {
                log::write(NGX_LOG_ALERT, format_args!("a task panicked, see above"));
                Poll::Ready(())
            })
        })
        .await;
    })
}

/// Waits for so many milliseconds. Does not keep a worker from exiting.
pub async fn sleep(milliseconds: u64) {
    async_::sleep(Duration::from_millis(milliseconds)).await;
}

/// Runs `future`, for so many milliseconds at the most: then it is dropped, and `None` returned.
pub async fn timeout<T>(milliseconds: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(milliseconds));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// For how long a worker is kept from exiting, in milliseconds.
const LONGEST: usize = 60_000;

/// Something is under way that a worker finishes before it exits gracefully, if it does not take too
/// long.
pub struct Busy(Box<ngx_event_t>);

impl Busy {
    /// It begins; it is over when this is dropped.
    pub fn begin() -> Self {
        // nginx prints the word behind the pointers as a descriptor, in debug logs.
        static IDENT: [usize; 4] = [0; 4];
        // SAFETY: an event of zeros is one that does nothing.
        let mut event: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
        event.data = std::ptr::addr_of!(IDENT).cast_mut().cast();
        event.handler = Some(nothing);
        // SAFETY: ngx_cycle is that of the worker. A worker waits for timers that are not cancelable;
        // the event stays where it is until its timer is deleted.
        unsafe {
            event.log = (*ngx_cycle).log;
            ngx_add_timer(&mut *event, LONGEST);
        }
        Self(event)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.timer_set() != 0 {
            // SAFETY: the timer was added by `begin`.
            unsafe { ngx_del_timer(&mut *self.0) }
        }
    }
}

/// It has taken too long: the worker may exit.
unsafe extern "C" fn nothing(_event: *mut ngx_event_t) {}
