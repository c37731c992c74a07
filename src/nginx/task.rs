//! Tasks on nginx's event loop.

use std::future::{poll_fn, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ngx::async_;
use ngx::ffi::NGX_LOG_ALERT;

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
