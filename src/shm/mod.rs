//! The shared zone: its layout, and what is read and changed in it.
//!
//! Every process of one nginx maps the zone at the same address, so what lies in it refers to each
//! other by pointers. Nothing in it refers to anything outside. What more than one process may
//! change is atomic, or guarded by the lock of its cluster.
//!
//! Who does what, when:
//! - The master prepares the records for a configuration when the zone is initialised, before the
//!   listening sockets are bound ([`zone::Root::prepare`]); it takes them into use when nothing can
//!   fail any more ([`zone::Root::commit`]). Preparing what is then not taken into use changes
//!   nothing that a worker sees.
//! - Workers pick, within a visit ([`zone::Root::visit`], [`select`]), and report
//!   ([`cluster::Cluster::release`]).
//! - Worker 0 stores the verdicts of the checks ([`cluster::Cluster::observe`]), and has the order of
//!   the servers follow them ([`zone::Root::refresh`]).
//! - Who changes a cluster holds the allocator of the zone; who changes what its workers share, its
//!   lock. The allocator comes first.
//! - What was replaced is freed ([`zone::Root::sweep`]): an order and a list of servers when no worker
//!   is left in a visit in which it may have found them, the record of a server when no request
//!   refers to it any more, a cluster when the last worker that knows it is gone.

pub mod cluster;
pub mod document;
pub mod epoch;
pub mod fault;
pub mod generation;
pub mod lock;
mod matching;
mod records;
pub mod retired;
pub mod rotation;
pub mod select;
pub mod server;
pub mod statistics;
pub mod uses;
pub mod verdict;
pub mod worker;
pub mod writing;
pub mod zone;

#[cfg(test)]
mod tests;

use std::alloc::Layout;
use std::ptr::NonNull;

use thiserror::Error;

/// The zone has no room for what was to be stored in it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the zone is full")]
pub struct Full;

/// An allocator of memory of the zone, held exclusively.
///
/// # Safety
/// What `allocate` returns is valid for the layout until it is freed, and lies in memory that
/// every process of this nginx maps at the same address.
pub unsafe trait Slab {
    /// Memory for `layout`, with any content; `None` where the zone is full.
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `memory` came from `allocate` of the same zone, and nobody uses it any more.
    unsafe fn free(&self, memory: NonNull<u8>);
}

#[cfg(test)]
pub(crate) mod heap {
    //! The heap as a zone.

    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    /// Counts what it gives out, and can be told to be full.
    #[derive(Default)]
    pub struct Heap {
        live: RefCell<HashMap<usize, Layout>>,
        pub left: Cell<Option<usize>>,
    }

    impl Heap {
        pub fn live(&self) -> usize {
            self.live.borrow().len()
        }
    }

    // SAFETY: plain heap memory, used by the one process of a test.
    unsafe impl Slab for Heap {
        fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
            if let Some(left) = self.left.get() {
                self.left.set(Some(left.checked_sub(1)?));
            }
            // SAFETY: no layout of ours has size zero.
            let memory = NonNull::new(unsafe { std::alloc::alloc(layout) })?;
            self.live.borrow_mut().insert(memory.as_ptr() as usize, layout);
            Some(memory)
        }

        unsafe fn free(&self, memory: NonNull<u8>) {
            let layout = self.live.borrow_mut().remove(&(memory.as_ptr() as usize)).unwrap();
            self.left.set(self.left.get().map(|left| left + 1));
            // SAFETY: it was allocated above by this layout.
            unsafe { std::alloc::dealloc(memory.as_ptr(), layout) }
        }
    }
}
