//! How much the connections of tasks read in one turn of the event loop.
//!
//! A worker has requests to serve, and bytes cost time: the handshake of a TLS server, and most of
//! all one that goes on for ever with messages of nothing. So what is read in one turn is bounded, over all connections
//! and for each. Who wants more waits in a queue, and goes on in a later turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::ptr::addr_of_mut;
use std::task::Waker;

use ngx::ffi::{ngx_event_t, ngx_post_event, ngx_posted_next_events};
use ngx::log::ngx_cycle_log;

use super::guard::guard;

/// The most bytes that are read in one turn; as it may begin with what an earlier one left, up to
/// twice as many.
const MOST: usize = 32 * 1024;

/// The most bytes that one connection reads in one turn.
const MOST_OF_ONE: usize = 16 * 1024;

/// The place of a connection in the queue.
#[derive(Debug)]
pub struct Place {
    /// The number that it drew; 0: none.
    number: u64,
    /// How much it may still read before it waits again.
    left: usize,
}

struct Queue {
    /// What may still be read in this turn.
    left: Cell<usize>,
    /// Those who wait, by the order of their numbers.
    waiting: RefCell<VecDeque<Waker>>,
    /// The number that was drawn last.
    drawn: Cell<u64>,
    /// The number that was called last.
    called: Cell<u64>,
    /// What nginx calls at the end of the next turn.
    event: RefCell<Box<TurnEvent>>,
}

/// An event that is posted. nginx takes what its `data` points to for the start of a connection when
/// it writes its debug log.
#[repr(C)]
struct TurnEvent {
    ident: [usize; 4],
    event: ngx_event_t,
}

thread_local! {
    static QUEUE: Queue = Queue {
        left: Cell::new(MOST),
        waiting: RefCell::default(),
        drawn: Cell::new(0),
        called: Cell::new(0),
        // SAFETY: zeros are what nginx's events start from.
        event: RefCell::new(Box::new(unsafe { mem::zeroed() })),
    };
}

impl Place {
    /// How many bytes may be read now. `None`: the task waits, and is woken when it may read.
    pub fn allowance(&mut self, waker: &Waker) -> Option<usize> {
        QUEUE.with(|queue| {
            if self.number > queue.called.get() {
                return None;
            }
            let is_called = self.number != 0 && self.number == queue.called.get();
            let allowance = self.left.min(queue.left.get());
            if allowance > 0 && (is_called || queue.waiting.borrow().is_empty()) {
                return Some(allowance);
            }
            self.left = MOST_OF_ONE;
            self.number = queue.drawn.get() + 1;
            queue.drawn.set(self.number);
            queue.waiting.borrow_mut().push_back(waker.clone());
            queue.post();
            None
        })
    }

    /// Notes that so many bytes were read.
    pub fn spend(&mut self, length: usize) {
        self.left = self.left.saturating_sub(length);
        QUEUE.with(|queue| {
            let left = queue.left.get().saturating_sub(length);
            queue.left.set(left);
            // Where little is read, turns are not counted: that alone would keep the loop from
            // sleeping.
            if left < MOST / 2 {
                queue.post();
            }
        });
    }

    /// Begins anew, as an event is at hand for the connection. Who waits keeps its place.
    pub fn renew(&mut self) {
        self.left = MOST_OF_ONE;
    }
}

impl Default for Place {
    fn default() -> Self {
        Self { number: 0, left: MOST_OF_ONE }
    }
}

impl Queue {
    /// Has the event called in the next turn.
    fn post(&self) {
        let mut event = self.event.borrow_mut();
        let this: *mut TurnEvent = &mut **event;
        // SAFETY: the event is at this place for as long as this thread is there, and nginx's queue
        // is for this thread to change.
        unsafe {
            (*this).event.data = this.cast();
            (*this).event.handler = Some(on_turn);
            (*this).event.log = ngx_cycle_log().as_ptr();
            ngx_post_event(addr_of_mut!((*this).event), addr_of_mut!(ngx_posted_next_events));
        }
    }

    /// A new turn: those who wait go on, as far as there is room.
    fn turn(&self) {
        self.left.set(MOST);
        // Who is called and wants more draws another number.
        let last = self.drawn.get();
        while self.left.get() > 0 && self.called.get() < last {
            self.called.set(self.called.get() + 1);
            let waker = self.waiting.borrow_mut().pop_front();
            // With nothing borrowed: the task runs at once.
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        if self.called.get() < self.drawn.get() {
            self.post();
        }
    }
}

unsafe extern "C" fn on_turn(_: *mut ngx_event_t) {
    guard((), || QUEUE.with(Queue::turn));
}
