//! What was replaced, and waits until nobody uses it any more.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicU8, Ordering};

/// What a record is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A [`super::rotation::Rotation`].
    Rotation = 1,
    /// A [`super::generation::Generation`].
    Generation = 2,
    /// A [`super::server::Server`].
    Server = 3,
    /// A [`super::document::Document`].
    Document = 4,
}

/// The place of a record in the list of those that wait. It stands first in each of them, so that
/// the record is found from it.
#[repr(C)]
pub struct Link {
    pub(super) next: AtomicPtr<Link>,
    at: AtomicU64,
    kind: AtomicU8,
}

impl Link {
    /// A record of this kind, in use.
    pub fn new(kind: Kind) -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            at: AtomicU64::new(0),
            kind: AtomicU8::new(kind as u8),
        }
    }

    /// What the record is.
    pub fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Relaxed) {
            1 => Kind::Rotation,
            2 => Kind::Generation,
            3 => Kind::Server,
            _ => Kind::Document,
        }
    }

    /// The last epoch in which it could be found; 0: it is in use.
    pub fn retired_at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    pub(super) fn set_retired_at(&self, epoch: u64) {
        self.at.store(epoch, Ordering::Relaxed);
    }
}
