//! The numbers of servers, and what is counted of them.

use super::*;

/// The addresses of the cluster with their numbers; behind an address that was found by a name that of
/// the name.
fn numbers(cluster: &Cluster) -> String {
    let guard = cluster.lock();
    let peers = guard.generation().unwrap().peers().iter();
    let shown = peers.map(|peer| match peer.parent() {
        None => format!("{}{}", peer.server.name(), peer.id),
        Some(parent) => format!("{}{}<{parent}", peer.server.name(), peer.id),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn level(names: &[&'static str]) -> Vec<PeerPlan<'static>> {
    names.iter().map(|name| peer(name, 1)).collect()
}

#[test]
fn servers_keep_their_numbers() {
    let (zone, cluster) = Zone::with(&[level(&["A", "B", "A"]), level(&["C"])]);
    assert_eq!(numbers(&cluster), "A0 B1 A2 C3");
    let update = |levels: &[&[&'static str]]| {
        let levels: Vec<_> = levels.iter().map(|names| level(names)).collect();
        zone.root.update(&zone.heap, &cluster, &plan(&levels)).unwrap();
        numbers(&cluster)
    };
    assert_eq!(update(&[&["A", "D", "A"], &["C", "D"]]), "A0 D4 A2 C3 D5");
    // B is a new one by now.
    assert_eq!(update(&[&["B", "D"], &["C"]]), "B6 D4 C3");
    // To another level a number goes with its server, unless that stays there.
    assert_eq!(update(&[&["C", "D"], &["B"]]), "C3 D4 B6");
    assert_eq!(update(&[&["B", "C"], &["B", "C"]]), "B7 C3 B6 C8");
    assert_eq!(update(&[&[], &[]]), "");
    assert_eq!(update(&[&["B"]]), "B9");
}

#[test]
fn numbers_that_are_given() {
    let (zone, cluster) = Zone::with(&[level(&["A", "B"])]);
    let update = |peers: Vec<PeerPlan<'static>>| {
        zone.root.update(&zone.heap, &cluster, &plan(&[peers])).unwrap();
        numbers(&cluster)
    };
    let given = |name, id| PeerPlan { id: Some(id), ..peer(name, 1) };
    // Another address in the place of B.
    assert_eq!(update(vec![given("A", 0), given("C", 1)]), "A0 C1");
    assert_eq!(update(vec![given("A", 0), given("C", 1), given("D", 7)]), "A0 C1 D7");
    assert_eq!(update(level(&["C", "E"])), "C1 E8");
}

#[test]
fn names_have_numbers_too() {
    let (zone, cluster) = Zone::with(&[level(&["A"])]);
    let update = |peers: Vec<PeerPlan<'static>>| {
        zone.root.update(&zone.heap, &cluster, &plan(&[peers])).unwrap();
        numbers(&cluster)
    };
    let of = |name, found_by| PeerPlan { found_by, ..peer(name, 1) };
    let given = |peer, id| PeerPlan { id: Some(id), ..peer };
    let first =
        update(vec![given(peer("A", 1), 0), given(of("B", "n"), 1), given(of("C", "n"), 1)]);
    assert_eq!(first, "A0 B2<1 C3<1");
    assert_eq!(update(vec![peer("A", 1), of("C", "n"), of("D", "n")]), "A0 C3<1 D4<1");
    assert_eq!(update(vec![of("E", "m"), of("F", "m"), of("D", "n")]), "E6<5 F7<5 D4<1");
}

#[test]
fn an_address_that_is_found_is_another_server() {
    let (zone, cluster) = Zone::with(&[level(&["A"])]);
    let update = |peers: Vec<PeerPlan<'static>>| {
        zone.root.update(&zone.heap, &cluster, &plan(&[peers])).unwrap();
        numbers(&cluster)
    };
    let found = || PeerPlan { found_by: "n", id: Some(1), ..peer("A", 1) };
    let plain = |name| PeerPlan { id: Some(0), ..peer(name, 1) };
    assert_eq!(update(vec![plain("A"), found()]), "A0 A2<1");
    assert_eq!(update(vec![plain("B"), found()]), "B0 A2<1");
    assert_eq!(update(vec![plain("A"), found()]), "A0 A2<1");
    assert_eq!(update(vec![found()]), "A2<1");
}

#[test]
fn addresses_stay_with_the_names_that_they_were_found_by() {
    let (zone, cluster) = Zone::with(&[level(&["A"])]);
    let update = |peers: Vec<PeerPlan<'static>>| {
        zone.root.update(&zone.heap, &cluster, &plan(&[peers])).unwrap();
        numbers(&cluster)
    };
    let of = |name, found_by, id| PeerPlan { found_by, id: Some(id), ..peer(name, 1) };
    assert_eq!(update(vec![of("B", "m", 1), of("B", "n", 2), of("B", "o", 3)]), "B4<1 B5<2 B6<3");
    assert_eq!(update(vec![of("B", "n", 2), of("B", "o", 3)]), "B5<2 B6<3");
    assert_eq!(update(vec![of("C", "n", 2), of("B", "o", 3)]), "C7<2 B6<3");
    // Of another level, and in the place of a plain one.
    let levels = [level(&["B"]), vec![of("B", "o", 3), of("C", "n", 2)]];
    zone.root.update(&zone.heap, &cluster, &plan(&levels)).unwrap();
    assert_eq!(numbers(&cluster), "B8 B6<3 C7<2");
}

/// The addresses of the cluster with how many requests each got.
fn requests(cluster: &Cluster) -> String {
    let guard = cluster.lock();
    let peers = guard.generation().unwrap().peers().iter();
    let shown = peers
        .map(|peer| format!("{}:{}", peer.server.name(), peer.server.read_statistics(9).requests));
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn equal_lines_keep_what_is_their_own() {
    let given = |name, id| PeerPlan { id: Some(id), ..peer(name, 1) };
    let found = |name, found_by, id| PeerPlan { found_by, ..given(name, id) };
    let all = || vec![given("A", 0), given("A", 1), found("A", "n", 2), given("B", 3)];
    let before = || {
        let (zone, cluster) = Zone::with(&[all(), level(&["A"])]);
        for (peer, count) in cluster.lock().generation().unwrap().peers()[..4].iter().zip(1..) {
            (0..count).for_each(|_| peer.server.statistics().select(5));
        }
        assert_eq!(requests(&cluster), "A:1 A:2 A:3 B:4 A:1");
        (zone, cluster)
    };
    let changes = [
        // The first one goes; that of the second level is one of those that are left.
        (vec![given("A", 1), found("A", "n", 2)], "A:2 A:3 A:2"),
        (vec![found("A", "n", 2), given("A", 1), given("A", 0)], "A:3 A:2 A:1 A:1"),
        (vec![given("C", 0), given("A", 1), found("A", "n", 2)], "C:0 A:2 A:3 A:2"),
        (vec![given("B", 0), given("A", 1), given("B", 3)], "B:0 A:2 B:4 A:2"),
        (vec![found("A", "n", 2), given("A", 9)], "A:3 A:1 A:1"),
        // Where nothing says which is which it is the order.
        (level(&["A", "A"]), "A:1 A:2 A:1"),
    ];
    for (peers, expected) in changes {
        let (zone, cluster) = before();
        let next = plan(&[peers, level(&["A"])]);
        zone.root.update(&zone.heap, &cluster, &next).unwrap();
        assert_eq!(requests(&cluster), expected);
        let (zone, _) = before();
        let other = Zone::new();
        other.root.prepare(&other.heap, "api", &next, Documents::None, Some(zone.root)).unwrap();
        other.root.commit(&other.heap);
        assert_eq!(requests(other.root.cluster("api").unwrap()), expected, "another zone");
    }
}

#[test]
fn numbers_are_kept_in_another_zone() {
    let (zone, cluster) = Zone::with(&[level(&["A", "B"])]);
    zone.root.update(&zone.heap, &cluster, &plan(&[level(&["B", "C"])])).unwrap();
    let other = Zone::new();
    let next = plan(&[level(&["C", "D"])]);
    other.root.prepare(&other.heap, "api", &next, Documents::None, Some(zone.root)).unwrap();
    other.root.commit(&other.heap);
    assert_eq!(numbers(other.root.cluster("api").unwrap()), "C2 D3");
}

#[test]
fn what_is_counted_is_kept() {
    let (zone, cluster) = Zone::with(&[level(&["A"])]);
    let server = |cluster: &Cluster| cluster.lock().generation().unwrap().peers()[0].server;
    server(&cluster).statistics().select(5);
    zone.root.update(&zone.heap, &cluster, &plan(&[level(&["A", "B"])])).unwrap();
    assert_eq!(server(&cluster).read_statistics(9).requests, 1);
    let other = Zone::new();
    let next = plan(&[level(&["A"])]);
    other.root.prepare(&other.heap, "api", &next, Documents::None, Some(zone.root)).unwrap();
    other.root.commit(&other.heap);
    let kept = server(other.root.cluster("api").unwrap()).read_statistics(9);
    assert_eq!((kept.requests, kept.selected_at), (1, Some(5)));
    other.root.cluster("api").unwrap().reset_statistics(9);
    assert_eq!(server(other.root.cluster("api").unwrap()).read_statistics(9).requests, 0);
}

#[test]
fn time_out_of_use_is_counted() {
    let (_zone, cluster) = Zone::with(&[level(&["A", "B"])]);
    let server = cluster.lock().generation().unwrap().peers()[0].server;
    let read = |now| {
        let read = server.read_statistics(now);
        (read.downtime, read.down_since, read.unhealthy, read.unavailable)
    };
    let check = |failure, now| cluster.observe(server, (0, ONCE), found(failure), now, 1);
    check(None, 50);
    assert_eq!(read(60), (0, None, 0, 0));
    check(Some("x"), 100);
    check(Some("x"), 200);
    assert_eq!(read(250), (150, Some(100), 1, 0));
    check(None, 300);
    assert_eq!(read(400), (200, None, 1, 0));
    let checks = server.read_statistics(400);
    assert_eq!((checks.checks, checks.failed_checks, checks.last_passed), (4, 2, Some(true)));
    // For failed requests, until it is over by itself.
    cluster.feedback("A", true, 1000);
    assert_eq!(read(1500), (700, Some(1000), 1, 1));
    assert_eq!(read(60_000), (10_200, None, 1, 1));
    // A check fails long after that.
    check(Some("x"), 70_000);
    assert_eq!(read(70_100), (10_300, Some(70_000), 2, 1));
    cluster.reset_statistics(70_200);
    assert_eq!(read(70_300), (100, Some(70_200), 0, 0));
}

#[test]
fn time_out_of_use_is_over_before_its_time() {
    let (zone, cluster) = Zone::with(&[level(&["A", "B"])]);
    let servers = cluster.lock().generation().unwrap().peers();
    let [a, b] = [servers[0].server, servers[1].server];
    let check = |server, failure, now| {
        cluster.observe(server, (0, ONCE), found(failure), now, 1);
    };
    let downtime = |now| a.read_statistics(now).downtime;
    let failed = |failed, now| assert!(cluster.feedback("A", failed, now).is_some());
    // By a request that does not fail.
    failed(true, 1000);
    assert_eq!(downtime(1500), 500);
    failed(false, 2000);
    assert_eq!(downtime(9000), 1000);
    // By a check that is passed, whatever came first.
    failed(true, 10_000);
    check(a, Some("x"), 10_500);
    check(a, None, 11_000);
    assert_eq!(downtime(19_000), 2000);
    check(a, Some("x"), 20_000);
    failed(true, 20_500);
    check(a, None, 21_000);
    assert_eq!(downtime(29_000), 3000);
    // Where there is no other one.
    failed(true, 30_000);
    check(b, Some("x"), 31_000);
    assert_eq!(downtime(39_000), 4000);
    check(b, None, 39_500);
    // And by the operator, who has it out of use, which is something else.
    failed(true, 40_000);
    let no_longer = [
        PeerPlan { down: true, checked: false, ..peer("A", 1) },
        PeerPlan { drain: true, ..peer("A", 1) },
    ];
    for (it, now) in no_longer.into_iter().zip([41_000, 43_000]) {
        let cluster = zone.root.cluster("api").unwrap();
        for (peers, now) in [(vec![it, peer("B", 1)], now), (level(&["A", "B"]), now + 1000)] {
            let next = plan(&[peers]);
            zone.root.reserve(&zone.heap, "api", &next, Documents::None).unwrap();
            zone.root.publish_reserved(&zone.heap, cluster, now);
        }
    }
    assert_eq!((downtime(44_500), a.read_statistics(44_500).down_since), (6500, Some(44_000)));
}

#[test]
fn a_reset_after_the_time_out_of_use_is_over() {
    let (_zone, cluster) = Zone::with(&[level(&["A", "B"])]);
    let server = cluster.lock().generation().unwrap().peers()[0].server;
    cluster.feedback("A", true, 1000);
    cluster.reset_statistics(50_000);
    assert_eq!(server.read_statistics(60_000).downtime, 0);
    // Requests find it dead, and then the checks do.
    cluster.feedback("A", true, 100_000);
    let check = |failure, now| cluster.observe(server, (0, ONCE), found(failure), now, 1);
    check(Some("x"), 101_000);
    assert_eq!(server.read_statistics(200_000).downtime, 100_000);
    check(None, 200_000);
    assert_eq!(server.read_statistics(300_000).downtime, 100_000);
}

#[test]
fn a_server_that_has_to_pass_first_is_not_available() {
    let awaited = PeerPlan { awaits_pass: true, ..peer("A", 1) };
    let (_zone, cluster) = Zone::with(&[vec![awaited]]);
    let server = cluster.lock().generation().unwrap().peers()[0].server;
    cluster.follow_use(100);
    assert_eq!(server.read_statistics(150).down_since, Some(100));
    cluster.align(&[(1, true)]);
    cluster.observe(server, (0, ONCE), found(None), 160, 1);
    let read = server.read_statistics(200);
    assert_eq!((read.downtime, read.down_since, read.unhealthy), (60, None, 0));
}

#[test]
fn a_new_server_starts_slowly() {
    let slow = |name| PeerPlan { slow_start: 1000, ..peer(name, 1) };
    let (zone, cluster) = Zone::with(&[vec![slow("A")]]);
    let both = plan(&[vec![slow("A"), slow("B")]]);
    zone.root.reserve(&zone.heap, "api", &both, Documents::Same).unwrap();
    zone.root.publish_reserved(&zone.heap, &cluster, 5000);
    let shares = |now| {
        let guard = cluster.lock();
        let peers = guard.generation().unwrap().peers().iter();
        peers.map(|peer| peer.share(now)).collect::<Vec<_>>()
    };
    assert_eq!(shares(5000), [1000, 100]);
    assert_eq!(shares(5500), [1000, 550]);
    assert_eq!(shares(6000), [1000, 1000]);
    zone.root.reserve(&zone.heap, "api", &both, Documents::Same).unwrap();
    zone.root.publish_reserved(&zone.heap, &cluster, 5100);
    assert_eq!(shares(5500), [1000, 550]);
}
