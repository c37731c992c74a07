//! Work that may block, in the threads of nginx's pool `default`.
//!
//! nginx starts the threads of a worker with it, and waits for the work at hand where the worker
//! exits: what was begun is always done. What is to follow it in the event loop comes to nothing
//! then. So that a worker which is to exit after its requests does not do that to them, a timer keeps
//! it while work is at hand.

use std::panic::{catch_unwind, AssertUnwindSafe};

use thiserror::Error;

use super::conf::Conf;

/// The work panicked: what and where is in the error log, where nginx's standard error goes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("work in a thread panicked")]
pub struct Panicked;

fn in_place<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // Whatever the work has changed is dropped with it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

/// Has the workers of this configuration start their threads: 32, unless there is a directive
/// `thread_pool default`. To be called while the configuration is read. An error: there is no memory.
///
/// With the event methods `select` and `poll` nginx's workers do not start then, as with `aio
/// threads`; nginx logs why.
pub fn declare(cf: &mut Conf) -> Result<(), ()> {
    #[cfg(ngx_feature = "threads")]
    return pool::declare(cf);
    #[cfg(not(ngx_feature = "threads"))]
    {
        _ = cf;
        Ok(())
    }
}

/// Has [`run`] use the threads from now on, where they were [declared](declare). To be called once in
/// every worker, when it starts. Before, work is done in place.
pub fn start() {
    #[cfg(ngx_feature = "threads")]
    pool::start();
}

/// Has [`run`] use the threads no more. To be called when the worker exits: they are gone by then.
pub fn stop() {
    #[cfg(ngx_feature = "threads")]
    pool::stop();
}

/// Does the work in a thread, and waits for it. It begins when the future is first polled; where that
/// is dropped, the work goes on all the same, and what it returns is dropped in the event loop.
///
/// Where there are no threads, or tens of thousands of others wait for one, it is done in place.
pub async fn run<T, W>(work: W) -> Result<T, Panicked>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    #[cfg(ngx_feature = "threads")]
    return match pool::post(work) {
        Ok(waiting) => waiting.await,
        Err(work) => in_place(work),
    };
    #[cfg(not(ngx_feature = "threads"))]
    in_place(work)
}

#[cfg(ngx_feature = "threads")]
mod pool {
    use std::cell::{Cell, RefCell};
    use std::ffi::c_void;
    use std::future::Future;
    use std::mem;
    use std::pin::Pin;
    use std::ptr::{self, addr_of_mut, NonNull};
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use ngx::ffi::{
        ngx_add_timer, ngx_cycle, ngx_cycle_t, ngx_del_timer, ngx_event_t, ngx_int_t, ngx_log_t,
        ngx_thread_pool_add, ngx_thread_pool_get, ngx_thread_pool_t, ngx_thread_task_post,
        ngx_thread_task_t, NGX_LOG_ALERT, NGX_OK,
    };
    use ngx::log::ngx_cycle_log;

    use super::{in_place, Panicked};
    use crate::nginx::conf::{self, Conf};
    use crate::nginx::guard::guard;
    use crate::nginx::log;

    /// For how long work keeps a worker that is to exit, in milliseconds: as nginx's own does.
    const LONGEST: usize = 60_000;

    thread_local! {
        /// The pool, and the cycle that started its threads. Where there is no master, a reload makes
        /// a cycle whose pools have none.
        static POOL: Cell<Option<(*mut ngx_cycle_t, NonNull<ngx_thread_pool_t>)>> =
            const { Cell::new(None) };
    }

    pub fn declare(cf: &mut Conf) -> Result<(), ()> {
        // SAFETY: the configuration is being read, from a file. Without a name nginx takes its own.
        let pool = unsafe { ngx_thread_pool_add(cf.as_ptr(), ptr::null_mut()) };
        NonNull::new(pool).map(|_| ()).ok_or(())
    }

    pub fn start() {
        let mut name = conf::string(b"default");
        // SAFETY: in a worker the cycle is complete, and nginx only compares the name.
        unsafe {
            let cycle = ngx_cycle.cast::<ngx_cycle_t>();
            POOL.set(NonNull::new(ngx_thread_pool_get(cycle, &mut name)).map(|pool| (cycle, pool)));
        }
    }

    pub fn stop() {
        POOL.set(None);
    }

    fn current() -> Option<NonNull<ngx_thread_pool_t>> {
        let (cycle, pool) = POOL.get()?;
        // SAFETY: a plain pointer of this process, which is only compared.
        (cycle == unsafe { ngx_cycle.cast() }).then_some(pool)
    }

    /// What the future and the end of the work have in common, both in the event loop.
    struct Slot<T> {
        outcome: Cell<Option<Result<T, Panicked>>>,
        waker: RefCell<Option<Waker>>,
    }

    /// What the thread works on. It is nobody's but the thread's and nginx's from when it is posted
    /// until nginx says that it is done: no reference to it is made, only to its parts.
    #[repr(C)]
    struct Job<T, W> {
        /// nginx takes what the `data` of an event points to for the start of a connection when it
        /// writes its debug log.
        ident: [usize; 4],
        task: ngx_thread_task_t,
        /// The thread's.
        work: Option<W>,
        /// The thread's until the work is done.
        outcome: Option<Result<T, Panicked>>,
        /// The event loop's: a thread does not touch it.
        slot: Rc<Slot<T>>,
    }

    /// Waits for work that is at hand.
    pub struct Waiting<T> {
        slot: Rc<Slot<T>>,
    }

    impl<T> Future for Waiting<T> {
        type Output = Result<T, Panicked>;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            if let Some(outcome) = self.slot.outcome.take() {
                return Poll::Ready(outcome);
            }
            match &mut *self.slot.waker.borrow_mut() {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        }
    }

    /// Has a thread do the work. `Err`: no thread will, here it is back.
    pub fn post<T, W>(work: W) -> Result<Waiting<T>, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let Some(pool) = current() else { return Err(work) };
        let slot = Rc::new(Slot { outcome: Cell::new(None), waker: RefCell::new(None) });
        // SAFETY: zeros are what nginx's tasks start from.
        let task: ngx_thread_task_t = unsafe { mem::zeroed() };
        let (work, outcome) = (Some(work), None);
        let job = Job { ident: [0; 4], task, work, outcome, slot: slot.clone() };
        let job = Box::into_raw(Box::new(job));
        // SAFETY: the job stays at its place until `done` takes it back, which nginx calls in the
        // event loop after the thread is through with it, or never where the worker exits before:
        // then it stays for good. The threads of the pool run, as `start` was called in this cycle.
        // From the post on only the event in it is used here, of which the thread knows nothing.
        unsafe {
            let task = addr_of_mut!((*job).task);
            (*task).ctx = job.cast();
            (*task).handler = Some(work_on::<T, W>);
            let event = addr_of_mut!((*task).event);
            (*event).data = job.cast();
            (*event).handler = Some(done::<T, W>);
            (*event).log = ngx_cycle_log().as_ptr();
            if ngx_thread_task_post(pool.as_ptr(), task) != NGX_OK as ngx_int_t {
                // It is in no queue.
                let Job { work: Some(work), .. } = *Box::from_raw(job) else { unreachable!() };
                return Err(work);
            }
            ngx_add_timer(event, LONGEST);
        }
        Ok(Waiting { slot })
    }

    /// Does the work, in a thread.
    unsafe extern "C" fn work_on<T, W: FnOnce() -> T>(data: *mut c_void, _log: *mut ngx_log_t) {
        let job = data.cast::<Job<T, W>>();
        // SAFETY: nginx calls it once with the job that was posted, whose work and outcome are this
        // thread's meanwhile. Both may be sent to another thread, as `post` demands. No panic gets
        // out: dropping `None` has none.
        unsafe {
            let work = (*addr_of_mut!((*job).work)).take();
            *addr_of_mut!((*job).outcome) = work.map(in_place);
        }
    }

    /// The work is done, or takes long. In the event loop.
    unsafe extern "C" fn done<T, W>(event: *mut ngx_event_t) {
        guard((), || {
            // SAFETY: nginx calls it with the event of a job that was posted.
            unsafe {
                if (*event).timedout() != 0 {
                    (*event).set_timedout(0);
                    log::write(
                        NGX_LOG_ALERT,
                        format_args!("work in a thread takes longer than {} s", LONGEST / 1000),
                    );
                    return;
                }
                if (*event).timer_set() != 0 {
                    ngx_del_timer(event);
                }
            }
            // SAFETY: the thread is through with the job, and nginx has taken it off its list, so that
            // it is ours again.
            let job = unsafe { Box::from_raw((*event).data.cast::<Job<T, W>>()) };
            let Job { slot, outcome, .. } = *job;
            slot.outcome.set(outcome);
            let waker = slot.waker.borrow_mut().take();
            // With nothing borrowed: the task runs at once.
            if let Some(waker) = waker {
                waker.wake();
            }
        });
    }
}
