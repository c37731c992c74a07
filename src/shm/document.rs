//! What is kept of the settings of a cluster that was changed at run time, as text: those in use, and
//! before them those that it had, which a rollback takes up again.

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::retired::{Kind, Link};
use super::{Full, Slab};

/// How many earlier settings of a cluster are kept.
pub const MAX_EARLIER: usize = 10;

/// Settings as text. Once it is in use nothing in it changes but what it follows.
#[repr(C)]
pub struct Document {
    pub(super) link: Link,
    version: u64,
    previous: AtomicPtr<Document>,
    /// Whether it was ever in use.
    adopted: AtomicBool,
    length: u32,
    // The bytes of the text follow.
}

/// The text of settings, and their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The version.
    pub version: u64,
    /// The text.
    pub text: &'a str,
}

/// What the documents of a generation are to be.
#[derive(Clone, Copy, Debug, Default)]
pub enum Documents<'a> {
    /// There are none: the settings are those of the configuration.
    #[default]
    None,
    /// Those that the cluster has.
    Same,
    /// These, the newest first, and behind them those that the cluster has.
    Next(&'a [Line<'a>]),
    /// These alone, the newest first.
    New(&'a [Line<'a>]),
}

impl Document {
    /// Makes documents of these lines, with `behind` behind the last. Returns the first.
    ///
    /// # Errors
    /// Where the zone is full; then nothing is left behind.
    pub(super) fn create(
        slab: &impl Slab,
        lines: &[Line<'_>],
        behind: *mut Self,
    ) -> Result<*mut Self, Full> {
        let mut first = behind;
        for line in lines.iter().rev() {
            match Self::create_one(slab, line, first) {
                Ok(document) => first = document,
                Err(full) => {
                    // SAFETY: nobody else knows of those that were just made.
                    unsafe { Self::discard(slab, first) }
                    return Err(full);
                }
            }
        }
        Ok(first)
    }

    fn create_one(
        slab: &impl Slab,
        line: &Line<'_>,
        previous: *mut Self,
    ) -> Result<*mut Self, Full> {
        let size = size_of::<Self>() + line.text.len();
        let layout = Layout::from_size_align(size, align_of::<Self>()).map_err(|_| Full)?;
        let length = u32::try_from(line.text.len()).map_err(|_| Full)?;
        let document = slab.allocate(layout).ok_or(Full)?.cast::<Self>();
        // SAFETY: the memory holds a Self and the text behind it, and nobody else knows of it yet.
        unsafe {
            document.write(Self {
                link: Link::new(Kind::Document),
                version: line.version,
                previous: AtomicPtr::new(previous),
                adopted: AtomicBool::new(false),
                length,
            });
            let bytes = document.add(1).cast::<u8>();
            bytes.copy_from_nonoverlapping(NonNull::from(line.text).cast(), line.text.len());
        }
        Ok(document.as_ptr())
    }

    /// Frees those from `first` on that were never in use.
    ///
    /// # Safety
    /// `first` is null, or came from `create`, and nobody else knows of what was never in use.
    pub(super) unsafe fn discard(slab: &impl Slab, first: *mut Self) {
        let mut next = NonNull::new(first);
        while let Some(document) = next {
            // SAFETY: it was not freed; what it follows was there before it.
            unsafe {
                if document.as_ref().adopted.load(Ordering::Relaxed) {
                    return;
                }
                next = NonNull::new(document.as_ref().previous.load(Ordering::Acquire));
                slab.free(document.cast());
            }
        }
    }

    /// Frees all from `first` on.
    ///
    /// # Safety
    /// Nobody uses them any more.
    pub(super) unsafe fn free_all(slab: &impl Slab, first: *const Self) {
        let mut next = NonNull::new(first.cast_mut());
        while let Some(document) = next {
            // SAFETY: as the caller says.
            unsafe {
                next = NonNull::new(document.as_ref().previous.load(Ordering::Acquire));
                slab.free(document.cast());
            }
        }
    }

    /// Those from `first` on, which is null where there are none. The caller holds the slab.
    pub(super) fn list(first: *const Self) -> impl Iterator<Item = &'static Self> {
        // SAFETY: what is in the list is freed only by who holds the slab, as the caller does.
        let first: Option<&'static Self> = unsafe { first.as_ref() };
        // SAFETY: likewise.
        std::iter::successors(first, |document| unsafe {
            document.previous.load(Ordering::Acquire).as_ref()
        })
    }

    /// Takes those from `first` on into use. The caller holds the slab.
    pub(super) fn adopt(first: *const Self) {
        for document in Self::list(first) {
            if document.adopted.swap(true, Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Has nothing come behind this one any more. The caller holds the slab.
    pub(super) fn cut(&self) {
        self.previous.store(ptr::null_mut(), Ordering::Release);
    }

    /// The version of the settings.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The text.
    pub fn text(&self) -> &str {
        // SAFETY: `create_one` copied a str of this length right behind the record.
        unsafe {
            let bytes = ptr::from_ref(self).add(1).cast();
            std::str::from_utf8_unchecked(slice::from_raw_parts(bytes, self.length as usize))
        }
    }
}
