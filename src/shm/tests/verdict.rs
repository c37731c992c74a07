//! What is used by health: checks, failed requests, and what is kept nevertheless.

use super::*;
use crate::logic::settings::Protected;
use crate::shm::cluster::{Feedback, Standing};

fn protected<'a>(protected: Protected, levels: &[Vec<PeerPlan<'a>>]) -> Plan<'a> {
    Plan { protected, ..plan(levels) }
}

#[test]
fn one_is_kept_by_its_last_success_then_by_failures_then_by_place() {
    let levels = [vec![peer("A", 1), peer("B", 1)], vec![peer("C", 1)]];
    let (zone, cluster) = Zone::of(&protected(Protected::One, &levels));
    zone.check_at(&cluster, "C", None, 100);
    zone.check_at(&cluster, "B", None, 200);
    for name in ["A", "B", "C"] {
        zone.check_at(&cluster, name, Some("x"), 300);
    }
    assert_eq!(names(cluster, 3), "BBB");
    // It stays, however the others fail.
    zone.check_at(&cluster, "B", Some("x"), 400);
    zone.check_at(&cluster, "B", Some("x"), 500);
    assert_eq!(names(cluster, 2), "BB");
    let state = |name: &str| {
        let guard = cluster.lock();
        let generation = guard.generation().unwrap();
        let peer = generation.peers().iter().find(|peer| peer.server.name() == name).unwrap();
        State::of(peer.server.health(), peer.server.is_kept())
    };
    assert_eq!(["A", "B", "C"].map(state), [State::Err, State::Unstable, State::Err]);
    let back = zone.check_at(&cluster, "C", None, 600);
    assert_eq!((back.server, back.kept), (Some((State::Err, State::Ok)), Some(Kept::NotNeeded)));
    assert_eq!(["A", "B", "C"].map(state), [State::Err, State::Err, State::Ok]);
    assert_eq!(names(cluster, 2), "CC");
}

#[test]
fn of_equals_the_first_with_the_fewest_failures_is_kept() {
    let levels = [vec![peer("A", 1), peer("B", 1), peer("C", 1)]];
    let (zone, cluster) = Zone::of(&protected(Protected::One, &levels));
    for name in ["A", "A", "B", "C"] {
        let kept = zone.check_at(&cluster, name, Some("x"), 300).kept;
        assert_eq!(kept.is_some(), name == "C");
    }
    assert_eq!(names(cluster, 2), "BB");
}

#[test]
fn another_is_kept_when_it_passes_a_check_or_the_one_is_gone() {
    let levels = [vec![peer("A", 1), peer("B", 1)]];
    let (zone, cluster) = Zone::of(&protected(Protected::One, &levels));
    zone.check_at(&cluster, "A", Some("x"), 100);
    zone.check_at(&cluster, "B", Some("x"), 100);
    assert_eq!(names(cluster, 2), "AA");
    let twice = Thresholds { fails: 1, passes: 2 };
    let b = cluster.lock().generation().unwrap().peers()[1].server;
    let passed = cluster.observe(b, (0, twice), found(None), 200, 5);
    assert_eq!(passed.server, Some((State::Err, State::Unstable)));
    assert_eq!(passed.kept, Some(Kept::One(b)));
    zone.root.refresh(&zone.heap, &cluster).unwrap();
    assert_eq!(names(cluster, 2), "BB");
    zone.configure_plans(&[("api", &protected(Protected::One, &[vec![peer("A", 1)]]))]);
    assert_eq!(names(cluster, 2), "AA");
}

#[test]
fn none_is_kept_where_the_operator_says_so() {
    let levels = [vec![peer("A", 1)], vec![peer("B", 1)]];
    let (zone, cluster) = Zone::of(&protected(Protected::Off, &levels));
    zone.check(&cluster, "A", Some("x"));
    assert_eq!(names(cluster, 2), "BB");
    let last = zone.check(&cluster, "B", Some("x"));
    assert_eq!((last.server, last.kept), (Some((State::Unchecked, State::Err)), Some(Kept::None)));
    assert_eq!(names(cluster, 2), "--");
    zone.check(&cluster, "B", None);
    assert_eq!(names(cluster, 2), "BB");
}

#[test]
fn drained_servers_are_not_among_all() {
    let drained = PeerPlan { drain: true, ..peer("D", 1) };
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), drained]]);
    let last = zone.check(&cluster, "A", Some("x"));
    assert_eq!(last.kept, Some(Kept::All));
    assert_eq!(names(cluster, 2), "AA");
}

#[test]
fn feedback_counts_and_clears() {
    let twice = |name| PeerPlan { max_fails: 2, ..peer(name, 1) };
    let (_zone, cluster) = Zone::with(&[vec![twice("A"), twice("B")]]);
    let ejected = Ejected { failures: 2, milliseconds: 10_000 };
    let said = |name, failed, now| cluster.feedback(name, failed, now);
    assert_eq!(said("A", true, 1), Some(Feedback { available: true, ejected: None }));
    assert_eq!(said("A", true, 2), Some(Feedback { available: false, ejected: Some(ejected) }));
    assert_eq!(said("A", true, 3), Some(Feedback { available: false, ejected: None }));
    assert_eq!(names(cluster, 2), "BB");
    // The last one is never put out of use.
    for now in 4..8 {
        assert_eq!(said("B", true, now), Some(Feedback { available: true, ejected: None }));
    }
    assert_eq!(said("A", false, 9), Some(Feedback { available: true, ejected: None }));
    assert_eq!(names(cluster, 4).matches('A').count(), 2);
    assert_eq!(said("C", true, 10), None);
}

#[test]
fn a_server_that_was_put_out_of_use_starts_slowly() {
    let slow = PeerPlan { slow_start: 10_000, fail_timeout: 1000, ..peer("A", 1) };
    let (_zone, cluster) = Zone::with(&[vec![slow, peer("B", 1)]]);
    let a = cluster.pick(0).unwrap();
    assert!(cluster.release(&a, Outcome::Failure, 5000).is_some());
    let share = |now| {
        let picks = (0..1100).filter(|_| {
            let selected = cluster.pick(now).unwrap();
            cluster.release(&selected, Outcome::Success, now);
            selected.server.name() == "A"
        });
        picks.count()
    };
    assert_eq!(share(5999), 0);
    assert!((99..=101).contains(&share(6000)));
    assert!((548..=552).contains(&share(16_000)));
}

#[test]
fn a_first_check_that_passes_ends_the_time_out_of_use() {
    let slow = PeerPlan { slow_start: 1000, fail_timeout: 60_000, ..peer("A", 1) };
    let (zone, cluster) = Zone::with(&[vec![slow, peer("B", 1)]]);
    let a = cluster.pick(0).unwrap();
    assert!(cluster.release(&a, Outcome::Failure, 5000).is_some());
    zone.check_at(&cluster, "A", None, 6000);
    let picks = (0..100).filter(|_| {
        let selected = cluster.pick(7000).unwrap();
        cluster.release(&selected, Outcome::Success, 7000);
        selected.server.name() == "A"
    });
    assert!((49..=51).contains(&picks.count()));
}

/// Checks the first server of a cluster with one of its checks.
fn observe(
    (zone, cluster): (&Zone, &Cluster),
    check: usize,
    finding: Finding,
) -> Option<(State, State)> {
    let server = cluster.lock().generation().unwrap().peers()[0].server;
    let reason = if finding == Finding::Pass { String::new() } else { format!("by {check}") };
    let observation = cluster.observe(server, (check, ONCE), (finding, &reason), 100, 5);
    if observation.changes_use {
        zone.root.refresh(&zone.heap, cluster).unwrap();
    }
    observation.server
}

fn message(cluster: &Cluster) -> String {
    let mut guard = cluster.lock();
    let server = guard.generation().unwrap().peers()[0].server;
    server.message(&mut guard).to_owned()
}

#[test]
fn all_checks_of_a_server_must_pass() {
    use Finding::{Fail, Pass};
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    cluster.align(&[(7, false), (8, false)]);
    assert_eq!(observe((&zone, &cluster), 0, Pass), Some((State::Unchecked, State::Ok)));
    assert_eq!(observe((&zone, &cluster), 1, Fail), Some((State::Ok, State::Err)));
    assert_eq!(message(&cluster), "by 1");
    assert_eq!(observe((&zone, &cluster), 0, Fail), None);
    assert_eq!(message(&cluster), "by 0");
    assert_eq!(observe((&zone, &cluster), 1, Fail), None);
    assert_eq!(message(&cluster), "by 0");
    assert_eq!(observe((&zone, &cluster), 0, Pass), None);
    assert_eq!(message(&cluster), "");
    assert_eq!(observe((&zone, &cluster), 1, Pass), Some((State::Err, State::Ok)));
}

#[test]
fn records_follow_their_checks() {
    use Finding::{Fail, Pass};
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let health = || cluster.lock().generation().unwrap().peers()[0].server.health();
    cluster.align(&[(7, false), (8, false)]);
    observe((&zone, &cluster), 0, Pass);
    observe((&zone, &cluster), 1, Fail);
    // At another place.
    assert!(!cluster.align(&[(8, false), (7, false)]));
    assert_eq!(observe((&zone, &cluster), 1, Pass), None);
    assert_eq!(message(&cluster), "by 1");
    assert_eq!(observe((&zone, &cluster), 0, Pass), Some((State::Err, State::Ok)));
    assert_eq!(message(&cluster), "");
    observe((&zone, &cluster), 0, Fail);
    // A check that is new begins with what is known of the server.
    assert!(!cluster.align(&[(9, false)]));
    assert_eq!((health(), message(&cluster).as_str()), (Health::Failed, "by 0"));
    assert!(!cluster.align(&[(9, false), (10, false)]));
    assert_eq!(observe((&zone, &cluster), 0, Pass), None);
    observe((&zone, &cluster), 1, Fail);
    assert_eq!(message(&cluster), "by 1");
    // The one that failed is gone.
    assert!(cluster.align(&[(9, false)]));
    assert_eq!((health(), message(&cluster).as_str()), (Health::Up, ""));
    // Equal ones are told apart by their order.
    assert!(!cluster.align(&[(9, false), (9, false)]));
    observe((&zone, &cluster), 1, Fail);
    assert!(!cluster.align(&[(9, false), (9, false)]));
    assert_eq!(observe((&zone, &cluster), 0, Pass), None);
    assert_eq!(observe((&zone, &cluster), 1, Pass), Some((State::Err, State::Ok)));
}

#[test]
fn what_is_unstable_is_used_while_no_other_passes() {
    use Finding::{Fail, Pass, Unstable};
    let levels = [vec![peer("A", 1), peer("B", 1)]];
    let (zone, cluster) = Zone::of(&protected(Protected::Off, &levels));
    assert_eq!(observe((&zone, &cluster), 0, Unstable), Some((State::Unchecked, State::Err)));
    assert_eq!(names(cluster, 2), "BB");
    assert_eq!(zone.check_at(&cluster, "B", Some("x"), 300).kept, Some(Kept::Unstable));
    assert_eq!(names(cluster, 2), "AA");
    assert_eq!(observe((&zone, &cluster), 0, Fail), Some((State::Unstable, State::Err)));
    assert!(cluster.lock().kept() == Kept::None);
    assert_eq!(observe((&zone, &cluster), 0, Pass), Some((State::Err, State::Ok)));
    assert_eq!(names(cluster, 2), "AA");
}

#[test]
fn a_server_that_has_to_pass_first_is_not_used_before() {
    use Finding::{Fail, Pass};
    let awaited = |name| PeerPlan { awaits_pass: true, ..peer(name, 1) };
    let (zone, cluster) = Zone::with(&[vec![awaited("A"), awaited("B")]]);
    cluster.align(&[(7, true)]);
    assert!(cluster.lock().kept() == Kept::Awaited);
    assert!(cluster.pick(100).is_none());
    // Not even where all fail.
    zone.check(&cluster, "B", Some("x"));
    assert_eq!(observe((&zone, &cluster), 0, Fail), Some((State::Checking, State::Err)));
    assert!(cluster.lock().kept() == Kept::None);
    assert_eq!(observe((&zone, &cluster), 0, Pass), Some((State::Err, State::Ok)));
    assert_eq!(names(cluster, 2), "AA");
    // From now on it is as any other.
    assert_eq!(observe((&zone, &cluster), 0, Fail), Some((State::Ok, State::Unstable)));
    assert_eq!(names(cluster, 2), "AA");
    // A reload asks no server again that has passed.
    zone.configure(&[("api", &[vec![awaited("A"), awaited("C")]])]);
    assert_eq!(names(cluster, 2), "AA");
}

#[test]
fn details_are_kept_and_freed() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("A", 1)]]);
    let server = |index: usize| cluster.lock().generation().unwrap().peers()[index].server;
    for text in ["short", "", &"long ".repeat(100), "short"] {
        cluster.set_details(&zone.heap, server(0), text).unwrap();
        for index in [0, 1] {
            assert_eq!(server(index).details(&mut cluster.lock()), text);
        }
    }
    zone.heap.left.set(Some(0));
    assert!(cluster.set_details(&zone.heap, server(0), &"x".repeat(2000)).is_err());
    assert_eq!(server(0).details(&mut cluster.lock()), "short");
    zone.heap.left.set(None);
}

#[test]
fn standings_follow_the_checks_and_changes_are_counted() {
    let drained = PeerPlan { drain: true, ..peer("C", 1) };
    let levels = [vec![peer("A", 1), peer("B", 1)], vec![drained, peer("A", 1)]];
    let (zone, cluster) = Zone::of(&plan(&levels));
    let standing = |name: &str| cluster.consult(|known| known.get(name.as_bytes()).copied());
    let all = || ["A", "B", "C"].map(|name| standing(name).unwrap());
    let first = cluster.changes();
    assert_eq!((all(), standing("D")), ([Standing::Used; 3], None));
    for name in ["A", "B", "C"] {
        zone.check(&cluster, name, None);
    }
    assert_eq!(cluster.changes(), first, "the same are in use");

    zone.check(&cluster, "A", Some("x"));
    assert_eq!(all(), [Standing::Failed, Standing::Used, Standing::Used]);
    let second = cluster.changes();
    assert!(second > first);
    zone.check(&cluster, "A", Some("y"));
    assert_eq!(cluster.changes(), second);
    // One that is drained is not kept: it is not in use.
    zone.check(&cluster, "C", Some("x"));
    zone.check(&cluster, "B", Some("x"));
    assert_eq!(all(), [Standing::Used, Standing::Used, Standing::Failed]);
    zone.check(&cluster, "B", None);
    assert_eq!(all(), [Standing::Failed, Standing::Used, Standing::Failed]);

    // What was, and is again, was something else in between.
    let third = cluster.changes();
    zone.check(&cluster, "A", None);
    zone.check(&cluster, "A", Some("x"));
    assert!(cluster.changes() > third);
    let fourth = cluster.changes();
    zone.configure_plans(&[("api", &plan(&levels))]);
    assert!(cluster.changes() > fourth, "other servers");
    assert_eq!(standing("A"), Some(Standing::Failed));
}

#[test]
fn what_has_to_pass_first_stands_apart() {
    let awaited = |name| PeerPlan { awaits_pass: true, ..peer(name, 1) };
    let (zone, cluster) = Zone::of(&plan(&[vec![awaited("A"), awaited("B")]]));
    let all = || {
        cluster.consult(|known| ["A", "B"].map(|name| known.get(name.as_bytes()).copied().unwrap()))
    };
    assert_eq!(all(), [Standing::Awaited; 2]);
    zone.check_at(&cluster, "A", None, 100);
    assert_eq!(all(), [Standing::Used, Standing::Awaited]);
    zone.check_at(&cluster, "A", Some("x"), 100);
    assert_eq!(all(), [Standing::Used, Standing::Awaited], "it is kept");
    zone.check_at(&cluster, "B", None, 100);
    assert_eq!(all(), [Standing::Failed, Standing::Used]);
}

#[test]
fn what_is_mandatory_is_passed_whatever_else_fails() {
    use Finding::{Fail, Pass};
    for (mandatory, other) in [(0, 1), (1, 0)] {
        let awaited = |name| PeerPlan { awaits_pass: true, ..peer(name, 1) };
        let (zone, cluster) = Zone::with(&[vec![awaited("A")]]);
        cluster.align(&[(7, mandatory == 0), (8, mandatory == 1)]);
        observe((&zone, &cluster), other, Fail);
        assert!(cluster.lock().kept() == Kept::None);
        observe((&zone, &cluster), mandatory, Pass);
        assert!(cluster.lock().kept() == Kept::All);
        assert_eq!(names(cluster, 1), "A");
        observe((&zone, &cluster), mandatory, Fail);
        assert_eq!(names(cluster, 1), "A");
    }
}
