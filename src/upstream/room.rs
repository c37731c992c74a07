//! How many connections the checks may have open.

use std::cell::Cell;
use std::rc::Rc;

/// The connections of the checks: of those that are under way, and those that stay open from one check
/// of a server to the next. Clients need connections, too.
pub struct Room {
    most: usize,
    taken: Cell<usize>,
    kept: Cell<usize>,
}

/// A connection that may be open. Dropping it gives it back.
pub struct Place {
    room: Rc<Room>,
    is_kept: bool,
}

impl Room {
    /// Of kept connections there are at most one part in so many: others must be able to begin.
    const KEPT_SHARE: usize = 2;

    /// Room for so many connections.
    pub fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { most, taken: Cell::new(0), kept: Cell::new(0) })
    }

    /// Whether no check can begin.
    pub fn is_full(&self) -> bool {
        self.taken.get() >= self.most
    }

    /// A place for a check that begins.
    pub fn begin(self: &Rc<Self>) -> Place {
        self.taken.set(self.taken.get() + 1);
        Place { room: Rc::clone(self), is_kept: false }
    }

    /// A place for a connection that stays open. `None`: there are enough of them.
    pub fn keep(self: &Rc<Self>) -> Option<Place> {
        if self.kept.get() >= self.most / Self::KEPT_SHARE {
            return None;
        }
        self.kept.set(self.kept.get() + 1);
        self.taken.set(self.taken.get() + 1);
        Some(Place { room: Rc::clone(self), is_kept: true })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.set(self.room.taken.get() - 1);
        if self.is_kept {
            self.room.kept.set(self.room.kept.get() - 1);
        }
    }
}
