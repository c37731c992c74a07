//! Settings that are changed at run time.

use super::*;
use crate::shm::document::{Line, MAX_EARLIER};

fn lines(versions: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    versions.into_iter().map(|version| (version, format!("settings {version}"))).collect()
}

fn as_lines(lines: &[(u64, String)]) -> Vec<Line<'_>> {
    lines.iter().map(|(version, text)| Line { version: *version, text }).collect()
}

/// The versions that are kept of a cluster, the newest first.
fn kept(cluster: Used) -> Vec<u64> {
    let kept = cluster.documents().map(|document| {
        assert_eq!(document.text(), format!("settings {}", document.version()));
        document.version()
    });
    kept.collect()
}

impl Zone {
    /// Changes the settings of a cluster.
    fn change(&self, name: &str, plan: &Plan<'_>, new: &[(u64, String)]) -> Result<(), Full> {
        let plan = Plan { settings: new[0].0, ..plan.clone() };
        let documents = as_lines(new);
        let cluster = self.root.reserve(&self.heap, name, &plan, Documents::Next(&documents))?;
        self.root.publish_reserved(&self.heap, cluster, 1);
        Ok(())
    }
}

#[test]
fn in_a_full_zone_earlier_settings_make_room() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1), peer("B", 1)]]);
    let one = plan(&[vec![peer("A", 1)]]);
    for version in 1..9 {
        zone.change("api", &one, &lines([version])).unwrap();
    }
    zone.heap.left.set(Some(1));
    zone.change("api", &one, &lines([9])).unwrap();
    zone.verify();
    assert_eq!(kept(cluster), [9, 8]);
    // Those that were just replaced are kept, and are all that there is.
    zone.root.sweep(&zone.heap);
    zone.heap.left.set(Some(0));
    assert_eq!(zone.change("api", &one, &lines([10])), Err(Full));
    zone.verify();
    assert_eq!(kept(cluster), [9]);
    zone.heap.left.set(None);
    zone.change("api", &one, &lines([10])).unwrap();
    assert_eq!(kept(cluster), [10, 9]);
}

fn born() -> Plan<'static> {
    Plan { is_born: true, ..plan(&[vec![peer("A", 1)]]) }
}

#[test]
fn the_last_settings_are_kept() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    let plan = plan(&[vec![peer("A", 1)]]);
    assert!(kept(cluster).is_empty());
    zone.change("api", &plan, &lines([2, 1])).unwrap();
    assert_eq!(kept(cluster), [2, 1]);
    for version in 3..30 {
        zone.change("api", &plan, &lines([version])).unwrap();
        zone.verify();
    }
    let newest_first: Vec<u64> = (0..=MAX_EARLIER as u64).map(|age| 29 - age).collect();
    assert_eq!(kept(cluster), newest_first);
    let live = zone.heap.live();
    zone.change("api", &plan, &lines([30])).unwrap();
    zone.change("api", &plan, &lines([31])).unwrap();
    zone.root.sweep(&zone.heap);
    assert_eq!(zone.heap.live(), live);

    // Names that are looked up again change no settings.
    zone.root.update(&zone.heap, &cluster, &Plan { settings: 31, ..plan.clone() }).unwrap();
    assert_eq!((kept(cluster).len(), kept(cluster)[0]), (1 + MAX_EARLIER, 31));

    // The configuration has its own way.
    zone.configure(&[("api", &[vec![peer("A", 1)]])]);
    assert!(kept(cluster).is_empty());
    zone.root.sweep(&zone.heap);
    zone.verify();
}

#[test]
fn versions() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    let version = || cluster.lock().generation().unwrap().settings();
    let (first, levels) = (version(), [vec![peer("A", 1)]]);
    let configure = |base| {
        let plan = Plan { base, ..plan(&levels) };
        zone.root.prepare(&zone.heap, "api", &plan, Documents::None, None).unwrap();
        zone.root.commit(&zone.heap);
        version()
    };
    assert_eq!(configure(0), first);
    let second = configure(1);
    assert!(second > first);
    assert_eq!(configure(1), second);
    let third = zone.root.next_version();
    zone.change("api", &Plan { base: 1, ..plan(&levels) }, &lines([third])).unwrap();
    assert_eq!(version(), third);
    assert!(configure(1) > third, "the settings are others than before");
    zone.root.skip_versions(u64::MAX - 2);
    assert_eq!(zone.root.next_version(), u64::MAX - 1);
}

#[test]
fn what_is_thrown_away_leaves_nothing_behind() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    zone.change("api", &plan(&[vec![peer("A", 1)]]), &lines([2, 1])).unwrap();
    zone.root.sweep(&zone.heap);
    let live = zone.heap.live();
    let plan = plan(&[vec![peer("A", 1), peer("B", 1)]]);
    let lines = lines([4, 3]);
    let documents = as_lines(&lines);
    zone.root.reserve(&zone.heap, "api", &plan, Documents::Next(&documents)).unwrap();
    assert_eq!(tries(cluster), "A");
    zone.root.discard_reserved(&zone.heap, &cluster);
    assert_eq!((zone.heap.live(), kept(cluster)), (live, vec![2, 1]));

    for room in 0..7 {
        zone.heap.left.set(Some(room));
        let full = zone.root.reserve(&zone.heap, "api", &plan, Documents::Next(&documents));
        // Where there is no room, it is tried twice.
        zone.heap.left.set(None);
        match full {
            // The earlier settings were given up for it, and nothing else.
            Err(Full) => {
                assert_eq!((zone.heap.live(), kept(cluster)), (live - 1, vec![2]), "{room}")
            }
            Ok(cluster) => zone.root.discard_reserved(&zone.heap, cluster),
        }
    }
}

#[test]
fn clusters_come_and_go_at_run_time() {
    let (mut zone, _) = Zone::with(&[vec![peer("A", 1)]]);
    zone.renew_worker();
    let live = zone.heap.live();
    let births = zone.root.births();
    zone.change("new", &born(), &lines([1])).unwrap();
    assert_eq!(zone.root.births(), births + 1);
    let cluster = zone.used("new");
    assert_eq!(tries(cluster), "A");
    zone.change("new", &born(), &lines([2])).unwrap();
    assert_eq!(zone.root.births(), births + 1);

    let deleted = Plan { is_born: true, is_deleted: true, ..Plan::default() };
    cluster.hold(zone.slot);
    zone.change("new", &deleted, &lines([3])).unwrap();
    assert_eq!(tries(cluster), "");
    zone.root.sweep(&zone.heap);
    // It may come to be again while a worker still refers to it.
    zone.change("new", &born(), &lines([4])).unwrap();
    assert_eq!((tries(cluster), zone.root.births()), ("A".to_owned(), births + 2));
    zone.change("new", &deleted, &lines([5])).unwrap();
    zone.root.sweep(&zone.heap);
    assert!(zone.root.cluster("new").is_some());
    cluster.let_go(zone.slot);
    zone.root.sweep(&zone.heap);
    assert!(zone.root.cluster("new").is_none());
    assert_eq!(zone.heap.live(), live);
}

#[test]
fn what_a_dead_process_had_reserved_is_thrown_away_unless_it_is_in_use() {
    let (zone, cluster) = Zone::with(&[vec![peer("A", 1)]]);
    let plan = plan(&[vec![peer("A", 1), peer("B", 1)]]);
    let lines = lines([2, 1]);
    let documents = as_lines(&lines);
    let live = zone.heap.live();
    for name in ["api", "new"] {
        zone.root.reserve(&zone.heap, name, &plan, Documents::Next(&documents)).unwrap();
        // It died when it was about to put it into use.
        zone.root.die_before_publication(&zone.used(name));
        zone.root.sweep(&zone.heap);
        zone.root.discard_reserved(&zone.heap, &zone.used(name));
    }
    zone.root.sweep(&zone.heap);
    assert_eq!((tries(cluster), kept(cluster)), ("A".to_owned(), vec![]));
    // Of the cluster that never was, the record is left until every worker knows a configuration.
    assert_eq!(zone.heap.live(), live + 1);

    zone.root.reserve(&zone.heap, "api", &plan, Documents::Next(&documents)).unwrap();
    zone.root.publish_reserved(&zone.heap, &cluster, 1);
    zone.root.discard_reserved(&zone.heap, &cluster);
    assert_eq!((tries(cluster), kept(cluster)), ("A+ B".to_owned(), vec![2, 1]));
}

#[test]
fn one_process_writes_at_a_time() {
    let (zone, _) = Zone::with(&[vec![peer("A", 1)]]);
    let writing = zone.root.try_write().unwrap();
    assert!(!writing.was_abandoned());
    assert!(zone.root.try_write().is_none());
    drop(writing);
    assert!(zone.root.try_write().is_some());
}
