//! The record of one server: what is known of an address, whatever configuration names it.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicU8, Ordering};

use super::cluster::Guard;
use super::retired::{Kind, Link};
use super::uses::Uses;
use super::worker::Slot;
use super::{Full, Slab};
use crate::logic::health::{Health, Record};
use crate::logic::passive::Failures;

/// The longest message of a failed check, in bytes; a longer one is cut.
pub const MAX_MESSAGE: usize = 63;

/// What is known of one address of a cluster. Servers of equal address, in one level or in
/// several, share it; so do the configurations before and after a reload.
#[repr(C)]
pub struct Server {
    pub(super) link: Link,
    /// Whether the running configuration has it checked.
    checked: AtomicBool,
    health: AtomicU8,
    fails: AtomicU32,
    passes: AtomicU32,
    /// Whether failures of requests are remembered: a look at this spares most successes the lock.
    failing: AtomicBool,
    /// When the verdict changed, in seconds since 1970.
    changed_at: AtomicI64,
    /// Until when failed requests keep it out of use, in monotonic milliseconds.
    ejected_until: AtomicU64,
    /// When it came back into use, in monotonic milliseconds; 0: it was never away.
    returned_at: AtomicU64,
    /// When it last passed a check, in monotonic milliseconds; 0: never.
    passed_at: AtomicU64,
    /// Whether it stays in use although it has failed its checks, as all others have.
    kept: AtomicBool,
    /// Whether a generation that has it was taken into use.
    adopted: AtomicBool,
    uses: Uses,
    guarded: UnsafeCell<Guarded>,
    name: Name,
    address: *const u8,
    address_length: u32,
    // The uses, the bytes of the socket address and those of the name follow.
}

/// What only the owner of the lock of the cluster reads and writes.
#[repr(C)]
struct Guarded {
    failures: Failures,
    message_length: u8,
    message: [u8; MAX_MESSAGE],
}

/// A string as nginx has it, which keeps a pointer to that of its peer until it wrote the log.
#[repr(C)]
pub struct Name {
    length: usize,
    bytes: *const u8,
}

// SAFETY: the address and the name never change once the record is made; all else is atomic, or reached only
// through a `Guard` of the cluster's lock.
unsafe impl Sync for Server {}

impl Server {
    /// Makes the record of a server that nothing is known of, for as many workers as have `slots`.
    /// `address` is its socket address.
    ///
    /// # Errors
    /// Where the zone is full.
    pub(super) fn create(
        slab: &impl Slab,
        address: &[u8],
        name: &str,
        slots: usize,
    ) -> Result<&'static Self, Full> {
        let bytes = Layout::array::<u8>(address.len() + name.len()).map_err(|_| Full)?;
        let (layout, uses_at) =
            Layout::new::<Self>().extend(Uses::layout(slots)?).map_err(|_| Full)?;
        let (layout, address_at) = layout.extend(bytes).map_err(|_| Full)?;
        let memory = slab.allocate(layout).ok_or(Full)?;
        // SAFETY: the memory holds all that was laid out, and nobody else knows of it yet. It stays
        // until it is freed by `free`, whose caller vouches for no user being left.
        unsafe {
            let server = memory.cast::<Self>();
            let address_bytes = memory.add(address_at);
            let name_bytes = address_bytes.add(address.len());
            address_bytes.copy_from_nonoverlapping(NonNull::from(address).cast(), address.len());
            name_bytes.copy_from_nonoverlapping(NonNull::from(name).cast(), name.len());
            server.write(Self {
                link: Link::new(Kind::Server),
                checked: AtomicBool::new(false),
                health: AtomicU8::new(Health::Unchecked as u8),
                fails: AtomicU32::new(0),
                passes: AtomicU32::new(0),
                failing: AtomicBool::new(false),
                changed_at: AtomicI64::new(0),
                ejected_until: AtomicU64::new(0),
                returned_at: AtomicU64::new(0),
                passed_at: AtomicU64::new(0),
                kept: AtomicBool::new(false),
                adopted: AtomicBool::new(false),
                uses: Uses::write(memory.add(uses_at).cast(), slots),
                guarded: UnsafeCell::new(Guarded {
                    failures: Failures::default(),
                    message_length: 0,
                    message: [0; MAX_MESSAGE],
                }),
                name: Name { length: name.len(), bytes: name_bytes.as_ptr() },
                address: address_bytes.as_ptr(),
                address_length: address.len() as u32,
            });
            Ok(server.as_ref())
        }
    }

    /// Frees the record.
    ///
    /// # Safety
    /// Nobody uses it any more, in any process.
    pub(super) unsafe fn free(slab: &impl Slab, server: &'static Self) {
        // SAFETY: it came from `create`; the rest is the caller's.
        unsafe {
            server.uses.free(slab);
            slab.free(NonNull::from(server).cast());
        }
    }

    /// The socket address.
    pub fn address(&self) -> &[u8] {
        // SAFETY: `create` copied so many bytes there.
        unsafe { slice::from_raw_parts(self.address, self.address_length as usize) }
    }

    /// The address as text.
    pub fn name(&self) -> &str {
        // SAFETY: `create` copied a str there.
        unsafe {
            std::str::from_utf8_unchecked(slice::from_raw_parts(self.name.bytes, self.name.length))
        }
    }

    /// The address as text, in the form that nginx keeps a pointer to.
    pub fn name_ref(&self) -> &Name {
        &self.name
    }

    /// What the checks say.
    pub fn record(&self) -> Record {
        Record {
            health: self.health(),
            fails: self.fails.load(Ordering::Relaxed),
            passes: self.passes.load(Ordering::Relaxed),
        }
    }

    /// The verdict of the checks.
    pub fn health(&self) -> Health {
        Health::from_byte(self.health.load(Ordering::Relaxed))
    }

    pub(super) fn set_record(&self, record: Record) {
        self.fails.store(record.fails, Ordering::Relaxed);
        self.passes.store(record.passes, Ordering::Relaxed);
        self.health.store(record.health as u8, Ordering::Relaxed);
    }

    /// When the verdict changed, in seconds since 1970.
    pub fn changed_at(&self) -> i64 {
        self.changed_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_changed_at(&self, seconds: i64) {
        self.changed_at.store(seconds, Ordering::Relaxed);
    }

    /// Whether the running configuration has it checked.
    pub fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    pub(super) fn set_checked(&self, checked: bool) {
        self.checked.store(checked, Ordering::Relaxed);
    }

    /// Whether failed requests keep it out of use at `now`, in monotonic milliseconds.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Whether failed requests have ever put it out of use, and nothing has lifted that.
    pub(super) fn was_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) != 0
    }

    pub(super) fn eject(&self, until: u64) {
        self.ejected_until.store(until, Ordering::Relaxed);
    }

    /// When it came back into use, in monotonic milliseconds; 0: it was never away.
    #[inline]
    pub(super) fn returned_at(&self) -> u64 {
        self.returned_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_returned_at(&self, now: u64) {
        self.returned_at.store(now, Ordering::Relaxed);
    }

    /// When it last passed a check, in monotonic milliseconds; 0: never.
    pub(super) fn passed_at(&self) -> u64 {
        self.passed_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_passed_at(&self, now: u64) {
        self.passed_at.store(now, Ordering::Relaxed);
    }

    /// Whether it stays in use although it has failed its checks, as all others have.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    pub(super) fn set_kept(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Whether requests may go to it, as far as its health is concerned. Where it is kept, nothing is
    /// held against it.
    #[inline]
    pub(super) fn is_usable(&self, now: u64) -> bool {
        self.is_kept() || (self.health() != Health::Failed && !self.is_ejected(now))
    }

    /// How the workers use it.
    #[inline]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// A request of the worker comes to the server, unless there are `most` there already, and pins
    /// the record. Whether it came.
    #[inline]
    pub(super) fn begin(&self, slot: &Slot, most: u32) -> bool {
        let Some(own) = self.uses.of(slot.index()) else { return true };
        let came = self.uses.begin_within(own, most);
        if came {
            own.pin();
        }
        came
    }

    /// A request of the worker leaves the server; the record stays pinned.
    #[inline]
    pub(super) fn end(&self, slot: &Slot) {
        if let Some(own) = self.uses.of(slot.index()) {
            own.end();
        }
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.adopted.load(Ordering::Relaxed)
    }

    pub(super) fn adopt(&self) {
        self.adopted.store(true, Ordering::Relaxed);
    }

    fn guarded<'a>(&'a self, _guard: &'a mut Guard<'_>) -> &'a mut Guarded {
        // SAFETY: a Guard is the lock of the cluster that the record belongs to, and it is borrowed
        // for as long as the result lives.
        unsafe { &mut *self.guarded.get() }
    }

    /// Whether failures of requests are remembered.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Counts a failed request; see [`Failures::add`].
    pub(super) fn add_failure(
        &self,
        guard: &mut Guard<'_>,
        now: u64,
        max_fails: u32,
        fail_timeout: u64,
    ) -> bool {
        let failures = &mut self.guarded(guard).failures;
        let enough = failures.add(now, max_fails, fail_timeout);
        self.failing.store(!failures.is_empty(), Ordering::Relaxed);
        enough
    }

    /// Forgets the failures of requests.
    pub(super) fn clear_failures(&self, guard: &mut Guard<'_>) {
        self.guarded(guard).failures.clear();
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Why the last check failed; empty where it did not.
    pub fn message<'a>(&'a self, guard: &'a mut Guard<'_>) -> &'a str {
        let guarded = self.guarded(guard);
        let length = usize::from(guarded.message_length).min(MAX_MESSAGE);
        std::str::from_utf8(&guarded.message[..length]).unwrap_or_default()
    }

    pub(super) fn set_message(&self, guard: &mut Guard<'_>, message: &str) {
        let mut length = message.len().min(MAX_MESSAGE);
        while !message.is_char_boundary(length) {
            length -= 1;
        }
        let guarded = self.guarded(guard);
        guarded.message[..length].copy_from_slice(&message.as_bytes()[..length]);
        guarded.message_length = length as u8;
    }

    /// Takes over the verdict of the checks on another server of the same address.
    pub(super) fn set_verdict_of(&self, other: &Self) {
        self.set_record(other.record());
        self.set_changed_at(other.changed_at());
        self.set_passed_at(other.passed_at());
    }

    /// Takes over what is known of the same server in another zone.
    pub(super) fn copy_from(&self, guard: &mut Guard<'_>, other: &Self, theirs: &mut Guard<'_>) {
        self.set_verdict_of(other);
        self.set_checked(other.is_checked());
        self.eject(other.ejected_until.load(Ordering::Relaxed));
        self.set_returned_at(other.returned_at());
        self.set_kept(other.is_kept());
        let failures = other.guarded(theirs).failures;
        self.failing.store(!failures.is_empty(), Ordering::Relaxed);
        self.guarded(guard).failures = failures;
        self.set_message(guard, other.message(theirs));
    }
}
