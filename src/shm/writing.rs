//! Who changes settings: one process at a time, from the moment at which it looks at what they are
//! until what it made of them is in use.

use lock_api::RawMutex;

use super::lock::OwnerLock;

/// The right to change settings, which may be held while something is written to a disk.
#[repr(transparent)]
pub struct Writer(OwnerLock);

/// It is held until this is dropped.
pub struct Writing<'a>(&'a Writer);

impl Default for Writer {
    fn default() -> Self {
        Self(OwnerLock::INIT)
    }
}

impl Writer {
    /// Takes the right, unless another process has it that is alive.
    pub fn try_begin(&self) -> Option<Writing<'_>> {
        self.0.try_take().then_some(Writing(self))
    }
}

impl Writing<'_> {
    /// Whether the process that had it before died with it, and nobody was told so.
    pub fn was_abandoned(&self) -> bool {
        self.0 .0.was_abandoned()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // SAFETY: this process has it since `try_begin`.
        unsafe { self.0 .0.unlock() }
    }
}
