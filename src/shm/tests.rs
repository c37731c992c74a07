//! The zone as its users see it, on the heap.

use std::cell::RefCell;

use super::cluster::{Cluster, Ejected, Outcome, Selected};
use super::generation::PeerPlan;
use super::heap::Heap;
use super::lock;
use super::zone::Root;
use super::Full;
use crate::logic::health::{Health, Thresholds};
use crate::logic::status::State;

const ONCE: Thresholds = Thresholds { fails: 1, passes: 1 };

fn peer(name: &str, weight: u32) -> PeerPlan<'_> {
    PeerPlan {
        name,
        address: name.as_bytes(),
        weight,
        max_fails: 1,
        fail_timeout: 10_000,
        max_conns: 0,
        down: false,
        checked: true,
    }
}

struct Zone {
    heap: Heap,
    root: &'static Root,
}

impl Zone {
    fn new() -> Self {
        lock::set_own_id(std::process::id());
        let heap = Heap::default();
        let root = Root::create(&heap, 1).unwrap();
        root.reserve_slots(&heap, 2).unwrap();
        Self { heap, root }
    }

    fn with(levels: &[Vec<PeerPlan<'_>>]) -> (Self, &'static Cluster) {
        let zone = Self::new();
        zone.configure(&[("api", levels)]);
        let cluster = zone.root.cluster("api").unwrap();
        (zone, cluster)
    }

    fn configure(&self, clusters: &[(&str, &[Vec<PeerPlan<'_>>])]) {
        for (name, levels) in clusters {
            self.root.prepare(&self.heap, name, levels, None).unwrap();
        }
        self.root.commit(&self.heap);
    }
}

fn select(cluster: &Cluster) -> Option<Selected> {
    cluster.select(|_, _| false, 0, usize::MAX)
}

fn names(cluster: &Cluster, picks: usize) -> String {
    (0..picks)
        .map(|_| {
            let Some(selected) = select(cluster) else { return "-" };
            cluster.release(&selected, Outcome::Success, 0);
            selected.server.name()
        })
        .collect()
}

/// The servers that a request goes to where all fail, without marking any.
fn tries(cluster: &Cluster) -> String {
    let tried = RefCell::new(Vec::new());
    let mut names = String::new();
    while let Some(selected) = cluster.select(
        |level, server| tried.borrow().contains(&(level, server.name().to_owned())),
        0,
        usize::MAX,
    ) {
        names += &format!("{}{} ", selected.server.name(), selected.choices);
        tried.borrow_mut().push((selected.level, selected.server.name().to_owned()));
        cluster.release(&selected, Outcome::Unknown, 0);
    }
    names
}

fn check(cluster: &Cluster, name: &str, failure: Option<&str>) -> super::cluster::Observation {
    let server = cluster
        .lock()
        .generation()
        .unwrap()
        .peers()
        .iter()
        .find(|peer| peer.server.name() == name)
        .unwrap()
        .server;
    cluster.observe(server, failure, ONCE, 0, 5)
}

#[test]
fn the_order_is_smooth() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 5), peer("B", 1), peer("C", 1)]]);
    assert_eq!(names(cluster, 14), "AABACAAAABACAA");
}

#[test]
fn levels_are_tried_in_order_and_choices_counted() {
    let (_zone, cluster) = Zone::with(&[
        vec![peer("A", 1), peer("B", 1)],
        vec![peer("C", 1), peer("A", 1), PeerPlan { down: true, ..peer("D", 1) }],
    ]);
    assert_eq!(tries(cluster), "A4 B3 C2 A1 ");
    assert_eq!(cluster.select(|_, _| false, 0, 2).unwrap().choices, 2);
    assert_eq!(cluster.select(|_, _| true, 0, 2).map(|_| ()), None);
}

#[test]
fn equal_addresses_share_the_record_and_are_tried_once() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 2), peer("B", 1), peer("A", 1)]]);
    assert_eq!(names(cluster, 4), "ABAA");
    assert_eq!(tries(cluster), "A2 B1 ");
    check(cluster, "A", Some("status 500"));
    assert_eq!(names(cluster, 3), "BBB");
}

#[test]
fn max_conns_limits_the_requests_at_work() {
    let limited = PeerPlan { max_conns: 2, ..peer("A", 1) };
    let (_zone, cluster) = Zone::with(&[vec![limited], vec![peer("B", 1)]]);
    let held: Vec<Selected> = (0..3).map(|_| select(cluster).unwrap()).collect();
    assert_eq!(held.iter().map(|held| held.server.name()).collect::<String>(), "AAB");
    cluster.release(&held[1], Outcome::Success, 0);
    assert_eq!(select(cluster).unwrap().server.name(), "A");
}

#[test]
fn failures_eject_but_never_the_last() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1)], vec![peer("B", 1)]]);
    let a = select(cluster).unwrap();
    let ejected = Ejected { failures: 1, milliseconds: 10_000 };
    assert_eq!(cluster.release(&a, Outcome::Failure, 100), Some(ejected));
    let pick = |now| cluster.select(|_, _| false, now, 9).unwrap();
    let b = pick(10_099);
    assert_eq!(b.server.name(), "B");
    assert_eq!(cluster.release(&b, Outcome::Failure, 10_099), None);
    assert_eq!(pick(10_099).server.name(), "B");
    assert_eq!(pick(10_100).server.name(), "A");
}

#[test]
fn a_success_clears_the_failures() {
    let twice = |name| PeerPlan { max_fails: 2, ..peer(name, 1) };
    let (_zone, cluster) = Zone::with(&[vec![twice("A")], vec![twice("B")]]);
    for (outcome, ejected) in [
        (Outcome::Failure, false),
        (Outcome::Success, false),
        (Outcome::Failure, false),
        (Outcome::Unknown, false),
        (Outcome::Failure, true),
    ] {
        let a = select(cluster).unwrap();
        assert_eq!(a.server.name(), "A");
        assert_eq!(cluster.release(&a, outcome, 1).is_some(), ejected);
    }
    assert_eq!(cluster.select(|_, _| false, 2, 9).unwrap().server.name(), "B");
}

#[test]
fn checks_take_out_and_bring_back() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    assert_eq!(check(cluster, "A", None).server, Some((State::Unchecked, State::Ok)));
    assert_eq!(check(cluster, "A", None).server, None);
    let failed = check(cluster, "A", Some("status 503"));
    assert_eq!((failed.server, failed.all_failed), (Some((State::Ok, State::Err)), None));
    assert_eq!(names(cluster, 3), "BBB");
    let last = check(cluster, "B", Some("connection refused"));
    assert_eq!(last.server, Some((State::Unchecked, State::Unstable)));
    assert_eq!(last.all_failed, Some(true));
    assert_eq!(names(cluster, 4).matches('A').count(), 2);
    let back = check(cluster, "B", None);
    assert_eq!((back.server, back.all_failed), (Some((State::Unstable, State::Ok)), Some(false)));
    assert_eq!(names(cluster, 2), "BB");
}

#[test]
fn a_passed_check_forgives() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 4), peer("B", 1)]]);
    let a = select(cluster).unwrap();
    assert!(cluster.release(&a, Outcome::Failure, 1).is_some());
    assert_eq!(names(cluster, 2), "BB");
    check(cluster, "A", Some("x"));
    check(cluster, "A", None);
    assert_eq!(names(cluster, 5).matches('A').count(), 4);
}

#[test]
fn ejected_servers_return_when_the_checks_leave_no_other() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let a = select(cluster).unwrap();
    assert!(cluster.release(&a, Outcome::Failure, 0).is_some());
    let failed = check(cluster, "B", Some("x"));
    assert!(failed.reinstated);
    assert_eq!(failed.all_failed, None);
    assert_eq!(names(cluster, 2), "AA");
}

#[test]
fn messages_are_cut_at_a_character() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    let long = "é".repeat(100);
    check(cluster, "A", Some(&long));
    let mut guard = cluster.lock();
    let server = guard.generation().unwrap().peers()[0].server;
    assert_eq!(server.message(&mut guard), "é".repeat(31));
}

#[test]
fn a_reload_keeps_what_is_known() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 5), peer("B", 1), peer("C", 1)]]);
    assert_eq!(names(cluster, 3), "AAB");
    check(cluster, "C", Some("status 500"));
    zone.configure(&[("api", &[vec![peer("A", 5), peer("B", 1), peer("C", 1), peer("D", 1)]])]);
    assert_eq!(zone.root.configuration(), 2);
    let c = cluster.lock().generation().unwrap().peers()[2].server;
    assert_eq!((c.record().health, c.record().fails, c.changed_at()), (Health::Failed, 1, 5));
    assert_eq!(c.message(&mut cluster.lock()), "status 500");
    // Unchecked from now on: what the checks said no longer holds.
    let unchecked = PeerPlan { checked: false, ..peer("C", 1) };
    zone.configure(&[("api", &[vec![peer("A", 5), unchecked]])]);
    assert_eq!((c.record().health, c.changed_at()), (Health::Unchecked, 0));
    assert_eq!(c.message(&mut cluster.lock()), "");
}

#[test]
fn a_reload_goes_on_where_the_rotation_was() {
    let levels = [vec![peer("A", 5), peer("B", 1), peer("C", 1)]];
    let (zone, cluster) = Zone::with(&levels);
    assert_eq!(names(cluster, 3), "AAB");
    zone.configure(&[("api", &levels)]);
    assert_eq!(names(cluster, 4), "ACAA");
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let live = zone.heap.live();
    let plan = [vec![peer("A", 1), peer("X", 1)], vec![peer("Y", 1)]];
    zone.root.prepare(&zone.heap, "api", &plan, None).unwrap();
    zone.root.prepare(&zone.heap, "new", &plan, None).unwrap();
    assert_eq!(names(cluster, 2), "AB");
    zone.root.discard(&zone.heap);
    assert_eq!(zone.heap.live(), live);
    assert_eq!(names(cluster, 2), "AB");
    assert!(zone.root.cluster("new").is_none());
}

#[test]
fn a_full_zone_refuses_and_leaves_nothing_behind() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let live = zone.heap.live();
    let plan = [vec![peer("A", 1), peer("X", 1), peer("Y", 1), peer("Z", 1)]];
    for room in 0..6 {
        zone.heap.left.set(Some(room));
        let new = zone.root.prepare(&zone.heap, "new", &plan, None);
        assert_eq!(new, Err(Full), "{room}");
        if room < 4 {
            zone.heap.left.set(Some(room));
            assert_eq!(zone.root.prepare(&zone.heap, "api", &plan, None), Err(Full), "{room}");
        }
        zone.root.discard(&zone.heap);
        assert_eq!(zone.heap.live(), live);
    }
    assert_eq!(names(cluster, 2), "AB");
}

#[test]
fn what_was_removed_is_freed_when_the_last_worker_is_gone() {
    let (zone, _) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let live = zone.heap.live();
    zone.configure(&[("api", &[vec![peer("A", 1)]]), ("other", &[vec![peer("B", 1)]])]);
    // The process of the slot is this one: alive until it gives the slot back.
    zone.root.sweep(&zone.heap);
    let old = zone.root.claim_slot(std::process::id(), 0, 1).unwrap();
    zone.configure(&[("api", &[vec![peer("A", 1), peer("C", 1)]])]);
    let with_old = zone.heap.live();
    zone.root.sweep(&zone.heap);
    assert_eq!(zone.heap.live(), with_old);
    assert!(zone.root.cluster("other").is_some());
    old.release();
    zone.root.sweep(&zone.heap);
    assert!(zone.root.cluster("other").is_none());
    assert_eq!(zone.heap.live(), live);
}

#[test]
fn a_thousand_reloads_leak_nothing() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    let live = zone.heap.live();
    for round in 0..1000 {
        let name = format!("S{round}");
        zone.configure(&[("api", &[vec![peer(&name, 1), peer("B", 1)], vec![peer(&name, 1)]])]);
        zone.root.sweep(&zone.heap);
    }
    zone.configure(&[("api", &[vec![peer("A", 1)]])]);
    zone.root.sweep(&zone.heap);
    assert_eq!(zone.heap.live(), live);
    assert_eq!(names(cluster, 1), "A");
}

#[test]
fn another_zone_takes_over_what_is_known() {
    let levels = [vec![peer("A", 5), peer("B", 1), peer("C", 1)]];
    let (old, cluster) = Zone::with(&levels);
    assert_eq!(names(cluster, 3), "AAB");
    check(cluster, "C", Some("status 500"));
    let new = Zone::new();
    new.root.prepare(&new.heap, "api", &levels, Some(old.root)).unwrap();
    new.root.commit(&new.heap);
    let carried = new.root.cluster("api").unwrap();
    let c = carried.lock().generation().unwrap().peers()[2].server;
    assert_eq!((c.record().health, c.changed_at()), (Health::Failed, 5));
    assert_eq!(c.message(&mut carried.lock()), "status 500");
    check(carried, "C", None);
    assert_eq!(names(carried, 4).matches('A').count(), 3);
}

#[test]
fn workers_have_slots() {
    let (zone, _) = Zone::with(&[vec![peer("A", 1)]]);
    let own = std::process::id();
    let slots: Vec<_> = (0..2).map(|n| zone.root.claim_slot(own, n, 7).unwrap()).collect();
    assert!(zone.root.claim_slot(own, 2, 7).is_none());
    assert_eq!(zone.root.workers().map(|slot| slot.number()).sum::<u32>(), 1);
    slots[0].release();
    slots[1].beat(9);
    assert_eq!(zone.root.claim_slot(own, 5, 8).unwrap().number(), 5);
    zone.root.reserve_slots(&zone.heap, 3).unwrap();
    assert!(zone.root.claim_slot(own, 6, 8).is_some());
}

#[test]
fn all_are_used_where_all_have_failed_whatever_requests_said() {
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let a = select(cluster).unwrap();
    assert!(cluster.release(&a, Outcome::Failure, 0).is_some());
    check(cluster, "A", Some("x"));
    let last = check(cluster, "B", Some("x"));
    assert_eq!((last.all_failed, last.reinstated), (Some(true), true));
    assert_eq!(names(cluster, 2).matches('A').count(), 1);
}
