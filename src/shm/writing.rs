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
        // Only who has it may have a value of this type: its end gives the right back.
        self.0.try_take().then(|| Writing(self))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::lock;

    #[test]
    fn who_does_not_get_it_takes_it_from_nobody() {
        lock::set_own_id(std::process::id());
        let writer = Writer::default();
        let writing = writer.try_begin().unwrap();
        assert!(!writing.was_abandoned());
        assert!(writer.try_begin().is_none());
        assert!(writer.try_begin().is_none());
        drop(writing);
        assert!(writer.try_begin().is_some());
        assert!(writer.try_begin().is_some());
    }
}
