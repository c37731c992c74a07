//! The record of one server: what is known of an address, whatever configuration names it.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, AtomicU8, Ordering};

use smallvec::SmallVec;

use super::cluster::Guard;
use super::retired::{Kind, Link};
use super::statistics::Statistics;
use super::uses::Uses;
use super::worker::Slot;
use super::{Full, Slab};
use crate::logic::health::{Health, Record};
use crate::logic::passive::Failures;
use crate::logic::statistics;

/// The longest message of a failed check, in bytes; a longer one is cut.
pub const MAX_MESSAGE: usize = 63;

/// The most checks of a server.
pub const MAX_CHECKS: usize = 8;

/// What is known of one address of a cluster. Servers of equal address, in one level or in
/// several, share it; so do the configurations before and after a reload.
#[repr(C)]
pub struct Server {
    pub(super) link: Link,
    /// Whether the running configuration has it checked.
    checked: AtomicBool,
    /// Whether it gets new requests, as far as the operator is concerned.
    is_wanted: AtomicBool,
    /// That of all its checks together.
    health: AtomicU8,
    /// How many checks it has, and which of them are mandatory, as bits.
    checks: AtomicU8,
    mandatory: AtomicU8,
    /// Which of them have ever been passed, as bits.
    passed: AtomicU8,
    /// Whether it is not used before it has passed.
    awaits_pass: AtomicBool,
    /// Whether failures of requests are remembered: a look at this spares most successes the lock.
    failing: AtomicBool,
    /// When the verdict changed, in seconds since 1970.
    changed_at: AtomicI64,
    /// Until when failed requests keep it out of use, in monotonic milliseconds.
    ejected_until: AtomicU64,
    /// When it came back into use, in monotonic milliseconds; 0: it was never away.
    returned_at: AtomicU64,
    /// When it last was found to pass all checks, in monotonic milliseconds; 0: never.
    passed_at: AtomicU64,
    /// Check by check: see [`Record::to_bits`].
    records: [AtomicU64; MAX_CHECKS],
    /// What the server says of itself, of its length; null: nothing. Guarded like the message.
    details: AtomicPtr<Details>,
    /// Whether it stays in use although it has failed its checks, as all others have.
    kept: AtomicBool,
    /// Whether a generation that has it was taken into use.
    adopted: AtomicBool,
    uses: Uses,
    statistics: &'static Statistics,
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
    /// The check that the message is of.
    message_of: u8,
    message_length: u8,
    message: [u8; MAX_MESSAGE],
}

/// What a server says of itself: a text, whose bytes follow.
#[repr(C)]
struct Details {
    capacity: u32,
    length: u32,
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
        let statistics = Statistics::create(slab)?;
        let Some(memory) = slab.allocate(layout) else {
            // SAFETY: it was just made.
            unsafe { statistics.free(slab) };
            return Err(Full);
        };
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
                is_wanted: AtomicBool::new(true),
                health: AtomicU8::new(Health::Unchecked as u8),
                checks: AtomicU8::new(1),
                mandatory: AtomicU8::new(0),
                passed: AtomicU8::new(0),
                awaits_pass: AtomicBool::new(false),
                failing: AtomicBool::new(false),
                changed_at: AtomicI64::new(0),
                ejected_until: AtomicU64::new(0),
                returned_at: AtomicU64::new(0),
                passed_at: AtomicU64::new(0),
                records: [const { AtomicU64::new(0) }; MAX_CHECKS],
                details: AtomicPtr::new(ptr::null_mut()),
                kept: AtomicBool::new(false),
                adopted: AtomicBool::new(false),
                uses: Uses::write(memory.add(uses_at).cast(), slots),
                statistics,
                guarded: UnsafeCell::new(Guarded {
                    failures: Failures::default(),
                    message_of: 0,
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
            server.statistics.free(slab);
            if let Some(details) = NonNull::new(server.details.load(Ordering::Relaxed)) {
                slab.free(details.cast());
            }
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

    /// The verdict of all checks together.
    #[inline]
    pub fn health(&self) -> Health {
        Health::from_byte(self.health.load(Ordering::Relaxed))
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// How many checks it has.
    fn count(&self) -> usize {
        usize::from(self.checks.load(Ordering::Relaxed)).min(MAX_CHECKS)
    }

    /// The records of its checks, with the keys of these.
    fn records(&self) -> impl Iterator<Item = (u16, Record)> + '_ {
        self.records[..self.count()]
            .iter()
            .map(|record| Record::from_bits(record.load(Ordering::Relaxed)))
    }

    /// What one of its checks says.
    pub(super) fn record(&self, check: usize) -> Record {
        self.records().nth(check).map_or(Record::NEW, |(_, record)| record)
    }

    /// Whether one of its checks has to be passed before it is used.
    pub(super) fn is_mandatory(&self, check: usize) -> bool {
        self.mandatory.load(Ordering::Relaxed) & 1 << check != 0
    }

    /// Stores what one of its checks says, and returns what all of them say together; that is not
    /// stored yet.
    pub(super) fn set_record(&self, check: usize, record: Record) -> Health {
        if let Some(place) = self.records[..self.count()].get(check) {
            let (key, _) = Record::from_bits(place.load(Ordering::Relaxed));
            place.store(record.to_bits(key), Ordering::Relaxed);
        }
        self.health_of_all()
    }

    fn health_of_all(&self) -> Health {
        let records = self.records().enumerate();
        Health::of_all(records.map(|(index, (_, record))| (record, self.is_mandatory(index))))
    }

    /// Whether each of its checks has passed the last time that it was made; of those that were never
    /// made only a mandatory one counts.
    pub(super) fn passed_all(&self) -> bool {
        self.records().enumerate().all(|(index, (_, record))| match record.health {
            Health::Unchecked => !self.is_mandatory(index),
            _ => record.fails == 0 || record.passes > 0,
        })
    }

    /// Failed checks in a row: of the check that has most.
    pub fn fails(&self) -> u32 {
        self.records().map(|(_, record)| record.fails).max().unwrap_or(0)
    }

    /// Has the records be those of these checks, each a key and whether it is mandatory. What is known
    /// of a check stays, wherever it is now; a new one begins with what is known of the server. The
    /// caller holds the lock of the cluster.
    pub(super) fn align(&self, guard: &mut Guard<'_>, checks: &[(u16, bool)]) {
        let mut before: SmallVec<[Option<(u16, Record)>; MAX_CHECKS]> =
            self.records().map(Some).collect();
        let new = match self.health() {
            Health::Checking => Record::NEW,
            health => Record { health, ..Record::NEW },
        };
        let message_of = usize::from(self.guarded(guard).message_of);
        let (mut said_by, mut first_new) = (None, None);
        let passed_before = self.passed.load(Ordering::Relaxed);
        let (mut mandatory, mut passed) = (0, 0);
        for (index, &(key, is_mandatory)) in checks.iter().take(MAX_CHECKS).enumerate() {
            // Equal checks are told apart by their order.
            let known = before.iter().position(|one| one.is_some_and(|(other, _)| other == key));
            let record = known.and_then(|place| before[place].take()).map_or(new, |(_, one)| one);
            if known == Some(message_of) {
                said_by = Some(index);
            }
            if known.is_none() && first_new.is_none() {
                first_new = Some(index);
            }
            self.records[index].store(record.to_bits(key), Ordering::Relaxed);
            mandatory |= u8::from(is_mandatory) << index;
            let was_passed =
                known.map_or(self.may_be_kept(), |place| passed_before & 1 << place != 0);
            passed |= u8::from(was_passed) << index;
        }
        self.checks.store(checks.len().min(MAX_CHECKS) as u8, Ordering::Relaxed);
        self.mandatory.store(mandatory, Ordering::Relaxed);
        self.passed.store(passed, Ordering::Relaxed);
        if checks.is_empty() {
            return;
        }
        // What the server was held for by a check that is gone needs no longer hold.
        self.set_health(self.health_of_all());
        // Where it holds until a new check has passed, so does the message of that which is gone.
        match said_by.or(first_new.filter(|_| !self.health().is_good())) {
            Some(index) => self.guarded(guard).message_of = index as u8,
            None => self.clear_message(guard),
        }
    }

    /// Forgets what the checks say. The caller holds the lock of the cluster.
    pub(super) fn forget_checks(&self, guard: &mut Guard<'_>) {
        for record in &self.records {
            record.store(0, Ordering::Relaxed);
        }
        self.passed.store(0, Ordering::Relaxed);
        self.set_health(Health::Unchecked);
        self.set_changed_at(0);
        self.set_passed_at(0);
        self.clear_message(guard);
    }

    /// Whether it may be kept in use although it fails its checks: not where it has to pass first, and
    /// has never passed what is mandatory.
    pub(super) fn may_be_kept(&self) -> bool {
        let (mandatory, passed) =
            (self.mandatory.load(Ordering::Relaxed), self.passed.load(Ordering::Relaxed));
        // Before its records are those of its checks nothing is known to be mandatory.
        let has_passed = mandatory != 0 && passed & mandatory == mandatory;
        has_passed || self.passed_at() != 0 || !self.awaits_pass.load(Ordering::Relaxed)
    }

    /// One of its checks was passed.
    pub(super) fn set_passed(&self, check: usize) {
        if check < MAX_CHECKS {
            self.passed.fetch_or(1 << check, Ordering::Relaxed);
        }
    }

    /// Whether it has to pass before it is used.
    pub(super) fn set_awaits_pass(&self, awaits: bool) {
        self.awaits_pass.store(awaits, Ordering::Relaxed);
        match self.health() {
            Health::Unchecked if awaits => self.set_health(Health::Checking),
            Health::Checking if !awaits => self.set_health(Health::Unchecked),
            _ => {}
        }
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

    pub(super) fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
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

    /// When it last was found to pass all checks, in monotonic milliseconds; 0: never.
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
        self.is_kept() || (self.health().is_good() && !self.is_ejected(now))
    }

    /// Whether requests may go to it, as far as the checks are concerned.
    #[inline]
    pub fn passes_checks(&self) -> bool {
        self.is_kept() || self.health().is_good()
    }

    /// How the workers use it.
    #[inline]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// What is counted of it.
    #[inline]
    pub fn statistics(&self) -> &'static Statistics {
        self.statistics
    }

    /// What was counted of it until `now`.
    pub fn read_statistics(&self, now: u64) -> statistics::Statistics {
        self.statistics.read(self.out_until(), now)
    }

    /// Until when checks or failed requests have it out of use, be it kept or not: see
    /// [`Statistics::follow`]. What the operator has out of use is not theirs.
    fn out_until(&self) -> u64 {
        if !self.is_wanted.load(Ordering::Relaxed) {
            0
        } else if self.is_checked() && !self.health().is_good() {
            u64::MAX
        } else {
            self.ejected_until.load(Ordering::Relaxed)
        }
    }

    /// Has the statistics know for how long it is unavailable. To be called before and after each change
    /// of that; where one was missed, the next call finds out.
    pub(super) fn follow_use(&self, now: u64) {
        self.statistics.follow(self.out_until(), now);
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

    /// Takes in why one of the checks failed; empty: it passed. Of several that fail, the first one is
    /// heard.
    pub(super) fn set_message(&self, guard: &mut Guard<'_>, check: usize, message: &str) {
        let of = usize::from(self.guarded(guard).message_of);
        if message.is_empty() {
            if of == check {
                self.clear_message(guard);
            }
            return;
        }
        if of < check && self.guarded(guard).message_length > 0 && self.record(of).fails > 0 {
            return;
        }
        let mut length = message.len().min(MAX_MESSAGE);
        while !message.is_char_boundary(length) {
            length -= 1;
        }
        let guarded = self.guarded(guard);
        guarded.message[..length].copy_from_slice(&message.as_bytes()[..length]);
        guarded.message_length = length as u8;
        guarded.message_of = check as u8;
    }

    fn clear_message(&self, guard: &mut Guard<'_>) {
        self.guarded(guard).message_length = 0;
    }

    /// What the server says of itself; empty: nothing.
    pub fn details<'a>(&'a self, _guard: &'a mut Guard<'_>) -> &'a str {
        // SAFETY: null, or what `set_details` made; who has the lock of the cluster is the only one that
        // reads or writes its bytes, and it holds a str of that length.
        unsafe {
            let details = self.details.load(Ordering::Relaxed);
            let Some(header) = details.as_ref() else { return "" };
            let bytes = slice::from_raw_parts(details.add(1).cast::<u8>(), header.length as usize);
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// Replaces what the server says of itself. The caller holds the slab.
    ///
    /// # Errors
    /// Where the zone is full; then nothing has changed.
    pub(super) fn set_details(
        &self,
        slab: &impl Slab,
        _guard: &mut Guard<'_>,
        text: &str,
    ) -> Result<(), Full> {
        let length = u32::try_from(text.len()).map_err(|_| Full)?;
        let before = self.details.load(Ordering::Relaxed);
        // SAFETY: null, or what was made below.
        let capacity = unsafe { before.as_ref() }.map_or(0, |header| header.capacity);
        let mut place = before;
        if capacity < length {
            // A number in it may have one digit more the next time.
            let capacity = (length + length / 8).next_multiple_of(64);
            let size = size_of::<Details>() + capacity as usize;
            let layout = Layout::from_size_align(size, align_of::<Details>()).map_err(|_| Full)?;
            let memory = slab.allocate(layout).ok_or(Full)?.cast::<Details>();
            // SAFETY: the memory is for it, and nobody else knows of it.
            unsafe { memory.write(Details { capacity, length: 0 }) };
            place = memory.as_ptr();
            self.details.store(place, Ordering::Relaxed);
            if let Some(before) = NonNull::new(before) {
                // SAFETY: it was made here; readers need the lock, which the caller has.
                unsafe { slab.free(before.cast()) };
            }
        }
        // SAFETY: as above; there is room for so many bytes. A place of null has room for none, and
        // then there are none.
        unsafe {
            if let Some(header) = place.as_mut() {
                header.length = 0;
                place.add(1).cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
                header.length = length;
            }
        }
        Ok(())
    }

    /// Takes over the verdict of the checks on another server of the same address.
    pub(super) fn set_verdict_of(&self, other: &Self) {
        for (own, other) in self.records.iter().zip(&other.records) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.checks.store(other.checks.load(Ordering::Relaxed), Ordering::Relaxed);
        self.mandatory.store(other.mandatory.load(Ordering::Relaxed), Ordering::Relaxed);
        self.passed.store(other.passed.load(Ordering::Relaxed), Ordering::Relaxed);
        self.awaits_pass.store(other.awaits_pass.load(Ordering::Relaxed), Ordering::Relaxed);
        self.set_health(other.health());
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
        self.statistics.copy_from(other.statistics);
        let failures = other.guarded(theirs).failures;
        self.failing.store(!failures.is_empty(), Ordering::Relaxed);
        let of = usize::from(other.guarded(theirs).message_of);
        self.guarded(guard).failures = failures;
        self.set_message(guard, of, other.message(theirs));
    }
}
