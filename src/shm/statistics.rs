//! What is counted of a server, by all workers together.
//!
//! Every counter is one atomic addition without any order: nobody waits for anybody, and a worker that
//! dies takes nothing with it.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicU8, Ordering};

use super::{Full, Slab};
use crate::logic::statistics::{self, CLASSES, MAX_CODES};

/// What one try came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The status of the answer, where there was one.
    pub status: u16,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Until the header was there, in milliseconds; `None`: there was no answer.
    pub header_time: Option<u64>,
}

/// No status is this one.
const NO_CODE: u16 = u16::MAX;

/// The counters of one server. Times are monotonic milliseconds.
#[repr(C)]
pub struct Statistics {
    /// The statuses that are counted one by one, each at its [home](statistics::home) or at the next
    /// place that was free; [`NO_CODE`]: none.
    codes: [AtomicU16; MAX_CODES],
    /// Whether there is no place for another one.
    is_full: AtomicBool,
    /// How often each of them came.
    counts: [AtomicU64; MAX_CODES],
    /// How often others came, class by class, and those that are in no class.
    others: [AtomicU64; CLASSES + 1],
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    fails: AtomicU64,
    unavailable: AtomicU64,
    checks: AtomicU64,
    failed_checks: AtomicU64,
    unhealthy: AtomicU64,
    /// 0: no check was made, 1: the last one failed, 2: it was passed.
    last_check: AtomicU8,
    downtime: AtomicU64,
    /// Since when it is not available; 0: it is.
    down_since: AtomicU64,
    /// Until when that was to last, when it was looked at last.
    down_until: AtomicU64,
    /// When it was last selected; 0: never.
    selected_at: AtomicU64,
    header_time: AtomicU64,
    response_time: AtomicU64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            codes: [const { AtomicU16::new(NO_CODE) }; MAX_CODES],
            is_full: AtomicBool::default(),
            counts: Default::default(),
            others: Default::default(),
            requests: AtomicU64::default(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
            fails: AtomicU64::default(),
            unavailable: AtomicU64::default(),
            checks: AtomicU64::default(),
            failed_checks: AtomicU64::default(),
            unhealthy: AtomicU64::default(),
            last_check: AtomicU8::default(),
            downtime: AtomicU64::default(),
            down_since: AtomicU64::default(),
            down_until: AtomicU64::default(),
            selected_at: AtomicU64::default(),
            header_time: AtomicU64::default(),
            response_time: AtomicU64::default(),
        }
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Statistics {
    pub(super) fn create(slab: &impl Slab) -> Result<&'static Self, Full> {
        let memory = slab.allocate(Layout::new::<Self>()).ok_or(Full)?.cast::<Self>();
        // SAFETY: the memory holds a Self, and nobody else knows of it yet. It stays until `free`, whose
        // caller vouches for no user being left.
        unsafe {
            memory.write(Self::default());
            Ok(memory.as_ref())
        }
    }

    /// Frees the counters.
    ///
    /// # Safety
    /// They came from `create`, and nobody uses them any more, in any process.
    pub(super) unsafe fn free(&'static self, slab: &impl Slab) {
        // SAFETY: as the caller says.
        unsafe { slab.free(NonNull::from(self).cast()) }
    }

    /// The server was selected for a request.
    #[inline]
    pub fn select(&self, now: u64) {
        add(&self.requests, 1);
        self.selected_at.store(now, Ordering::Relaxed);
    }

    /// A try ended, which took so many milliseconds.
    #[inline(always)]
    pub fn end(&self, traffic: Traffic, milliseconds: u64) {
        add(&self.sent, traffic.sent);
        add(&self.received, traffic.received);
        let Some(header_time) = traffic.header_time else { return };
        add(&self.header_time, header_time);
        add(&self.response_time, milliseconds);
        let home = statistics::home(traffic.status);
        if self.codes[home].load(Ordering::Relaxed) == traffic.status {
            add(&self.counts[home], 1);
        } else {
            self.count_elsewhere(traffic.status);
        }
    }

    /// Counts a status that is not at its home.
    #[cold]
    #[inline(never)]
    fn count_elsewhere(&self, status: u16) {
        add(self.counter(status), 1);
    }

    /// The counter of a status that is not at its home: one of its own, or else that of its class.
    fn counter(&self, status: u16) -> &AtomicU64 {
        let home = statistics::home(status);
        if self.take(home, status) {
            return &self.counts[home];
        }
        let is_it = |code: &AtomicU16| code.load(Ordering::Relaxed) == status;
        let known = self.codes.iter().position(is_it);
        let has_room = !self.is_full.load(Ordering::Relaxed);
        match known.or_else(|| has_room.then(|| self.new_place(status)).flatten()) {
            Some(place) => &self.counts[place],
            None => &self.others[statistics::class(status).unwrap_or(CLASSES)],
        }
    }

    /// Has a place be that of a status, where it is free. Returns whether it is.
    fn take(&self, place: usize, status: u16) -> bool {
        let code = &self.codes[place];
        if code.load(Ordering::Relaxed) != NO_CODE {
            return false;
        }
        let taken = code.compare_exchange(NO_CODE, status, Ordering::Relaxed, Ordering::Relaxed);
        // Another worker may have been faster, for the same status perhaps.
        taken.map_or_else(|found| found == status, |_| true)
    }

    /// A place for a status whose home is another's. `None`: there is none.
    #[cold]
    fn new_place(&self, status: u16) -> Option<usize> {
        let home = statistics::home(status);
        let mut places = (home..home + MAX_CODES).map(|place| place % MAX_CODES);
        let place = places.find(|place| self.take(*place, status));
        self.is_full.store(place.is_none(), Ordering::Relaxed);
        place
    }

    /// A try failed.
    pub fn fail(&self) {
        add(&self.fails, 1);
    }

    /// Failed tries put the server out of use.
    pub(super) fn become_unavailable(&self) {
        add(&self.unavailable, 1);
    }

    /// A check was made.
    pub(super) fn check(&self, is_passed: bool) {
        add(&self.checks, 1);
        add(&self.failed_checks, u64::from(!is_passed));
        self.last_check.store(1 + u8::from(is_passed), Ordering::Relaxed);
    }

    /// The checks put the server out of use.
    pub(super) fn become_unhealthy(&self) {
        add(&self.unhealthy, 1);
    }

    /// Takes in at `now` until when the server is not available: a time that is over where it is, and
    /// `u64::MAX` where nobody knows. To be called before and after each change of that; but nobody tells
    /// when such a time is over.
    pub(super) fn follow(&self, until: u64, now: u64) {
        let since = self.down_since.load(Ordering::Relaxed);
        if until > now {
            if since == 0 {
                self.down_since.store(now.max(1), Ordering::Relaxed);
            }
            self.down_until.store(until, Ordering::Relaxed);
        } else if since != 0 {
            let end = self.down_until.load(Ordering::Relaxed).min(now);
            self.down_since.store(0, Ordering::Relaxed);
            add(&self.downtime, end.saturating_sub(since));
        }
    }

    /// What was counted until `now`; see [`follow`](Self::follow).
    pub(super) fn read(&self, until: u64, now: u64) -> statistics::Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let code = |code: &AtomicU16| code.load(Ordering::Relaxed);
        let codes = self.codes.iter().zip(&self.counts);
        let codes = codes.map(|(status, count)| (code(status), read(count)));
        let mut codes: Vec<_> =
            codes.filter(|(status, count)| *status != NO_CODE && *count != 0).collect();
        codes.sort_unstable();
        codes.dedup_by(|next, one| {
            // Where a reset came in between, a status may have two.
            let is_same = next.0 == one.0;
            one.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        let (mut classes, mut responses) = ([0; CLASSES], 0);
        for (status, count) in &codes {
            responses += count;
            if let Some(class) = statistics::class(*status) {
                classes[class] += count;
            }
        }
        let mut other_codes = 0;
        for (class, counter) in self.others.iter().enumerate() {
            let count = read(counter);
            other_codes += count;
            if let Some(place) = classes.get_mut(class) {
                *place += count;
            }
        }
        let since = read(&self.down_since);
        let is_down = until > now;
        let end = if is_down { now } else { read(&self.down_until).min(now) };
        let lasted = if since == 0 { 0 } else { end.saturating_sub(since) };
        statistics::Statistics {
            requests: read(&self.requests),
            classes,
            codes,
            other_codes,
            responses: responses + other_codes,
            sent: read(&self.sent),
            received: read(&self.received),
            fails: read(&self.fails),
            unavailable: read(&self.unavailable),
            checks: read(&self.checks),
            failed_checks: read(&self.failed_checks),
            unhealthy: read(&self.unhealthy),
            last_passed: match self.last_check.load(Ordering::Relaxed) {
                0 => None,
                last => Some(last == 2),
            },
            downtime: read(&self.downtime) + lasted,
            down_since: is_down.then_some(if since == 0 { now } else { since }),
            selected_at: Some(read(&self.selected_at)).filter(|at| *at != 0),
            header_time: read(&self.header_time),
            response_time: read(&self.response_time),
        }
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        let Self { counts, others, .. } = self;
        let single = [
            &self.requests,
            &self.sent,
            &self.received,
            &self.fails,
            &self.unavailable,
            &self.checks,
            &self.failed_checks,
            &self.unhealthy,
            &self.downtime,
            &self.down_since,
            &self.down_until,
            &self.selected_at,
            &self.header_time,
            &self.response_time,
        ];
        counts.iter().chain(others).chain(single)
    }

    /// Begins anew at `now`. What is counted at the same moment may come to either side.
    pub(super) fn reset(&self, now: u64) {
        let [since, until, selected_at] = [&self.down_since, &self.down_until, &self.selected_at]
            .map(|it| it.load(Ordering::Relaxed));
        self.codes.iter().for_each(|code| code.store(NO_CODE, Ordering::Relaxed));
        self.is_full.store(false, Ordering::Relaxed);
        self.counters().for_each(|counter| counter.store(0, Ordering::Relaxed));
        self.last_check.store(0, Ordering::Relaxed);
        self.selected_at.store(selected_at, Ordering::Relaxed);
        if since != 0 {
            self.down_since.store(now, Ordering::Relaxed);
            self.down_until.store(until, Ordering::Relaxed);
        }
    }

    /// Takes over what was counted of the same server in another zone.
    pub(super) fn copy_from(&self, other: &Self) {
        for (own, other) in self.codes.iter().zip(&other.codes) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (own, other) in self.counters().zip(other.counters()) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.last_check.store(other.last_check.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    fn answer(status: u16) -> Traffic {
        Traffic { status, sent: 10, received: 20, header_time: Some(3) }
    }

    #[test]
    fn requests_are_counted() {
        let statistics = Statistics::default();
        for status in [200, 404, 200, 502, 200] {
            statistics.select(7);
            statistics.end(answer(status), 5);
        }
        statistics.select(9);
        statistics.end(Traffic { header_time: None, ..answer(0) }, 1000);
        statistics.fail();
        let read = statistics.read(UP, 100);
        assert_eq!(read.requests, 6);
        assert_eq!(read.codes, [(200, 3), (404, 1), (502, 1)]);
        assert_eq!((read.classes, read.responses, read.other_codes), ([0, 3, 0, 1, 1], 5, 0));
        assert_eq!((read.sent, read.received, read.fails), (60, 120, 1));
        assert_eq!((read.mean_header_time(), read.mean_response_time()), (Some(3), Some(5)));
        assert_eq!(read.selected_at, Some(9));
        statistics.reset(200);
        let after = statistics.read(UP, 300);
        assert_eq!(after, statistics::Statistics { selected_at: Some(9), ..Default::default() });
    }

    #[test]
    fn more_statuses_than_counters() {
        let statistics = Statistics::default();
        for status in 200..212 {
            for _ in 0..2 {
                statistics.end(answer(status), 0);
            }
        }
        for status in [301, 404, 503, 999] {
            statistics.end(answer(status), 0);
        }
        let read = statistics.read(UP, 0);
        assert_eq!(read.codes, (200..208).map(|status| (status, 2)).collect::<Vec<_>>());
        assert_eq!((read.other_codes, read.responses), (12, 28));
        assert_eq!(read.classes, [0, 24, 1, 1, 1]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "threads stand for processes here")]
    fn workers_at_once_lose_nothing() {
        let statistics = Statistics::default();
        thread::scope(|scope| {
            for worker in 0..4_u16 {
                let statistics = &statistics;
                scope.spawn(move || {
                    for number in 0..3000_u16 {
                        statistics.select(1);
                        statistics.end(answer(200 + (number + worker) % 7), 1);
                    }
                });
            }
        });
        let read = statistics.read(UP, 0);
        assert_eq!((read.requests, read.responses, read.other_codes), (12_000, 12_000, 0));
        assert_eq!(read.codes.len(), 7);
    }

    const UP: u64 = 0;
    const FAILED: u64 = u64::MAX;

    #[test]
    fn time_out_of_use() {
        let statistics = Statistics::default();
        let read = |until, now| {
            let read = statistics.read(until, now);
            (read.downtime, read.down_since)
        };
        statistics.follow(UP, 10);
        assert_eq!(read(UP, 20), (0, None));
        statistics.follow(180, 100);
        statistics.follow(180, 150);
        assert_eq!(read(180, 160), (60, Some(100)));
        // It came back by itself, and nobody has looked since.
        assert_eq!(read(180, 500), (80, None));
        statistics.follow(180, 500);
        assert_eq!(read(180, 600), (80, None));
        statistics.follow(FAILED, 600);
        statistics.reset(650);
        assert_eq!(read(FAILED, 700), (50, Some(650)));
        statistics.follow(UP, 700);
        // Nobody has taken it in yet.
        assert_eq!(read(FAILED, 800), (50, Some(800)));
        let other = Statistics::default();
        other.check(true);
        other.check(false);
        other.copy_from(&statistics);
        assert_eq!(other.read(UP, 800), statistics.read(UP, 800));
    }

    #[test]
    fn time_out_of_use_that_ends_early() {
        let statistics = Statistics::default();
        for now in [1000, 2000] {
            statistics.follow(60_000, now);
            assert_eq!(statistics.read(UP, now + 100).downtime, now / 10);
            statistics.follow(UP, now + 100);
            assert_eq!(statistics.read(UP, 90_000).downtime, now / 10);
        }
    }

    #[test]
    fn checks_find_out_what_requests_have() {
        let statistics = Statistics::default();
        statistics.follow(2000, 1000);
        statistics.follow(FAILED, 1500);
        statistics.follow(2000, 9000);
        assert_eq!(statistics.read(2000, 9500).downtime, 8000);
        // The checks are gone, and the rest of the time holds.
        let statistics = Statistics::default();
        statistics.follow(FAILED, 1000);
        statistics.follow(FAILED, 2000);
        statistics.follow(3000, 2500);
        assert_eq!(statistics.read(3000, 9500).downtime, 2000);
    }
}
