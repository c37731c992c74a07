//! How servers are selected: methods, levels, limits.

use super::*;
use crate::logic::balance::Method;

fn by<'a>(method: Method, levels: &[Vec<PeerPlan<'a>>]) -> Plan<'a> {
    Plan { method, ..plan(levels) }
}

fn in_order(order: &[u16]) -> Asks {
    Asks { order: Some(order.to_vec()), ..Asks::default() }
}

fn name(cluster: Used, asks: &Asks) -> String {
    let Some(selected) = cluster.select(asks) else { return "-".to_owned() };
    cluster.release(&selected, Outcome::Success, asks.now);
    selected.server.name().to_owned()
}

#[test]
fn a_request_may_order_the_levels() {
    let levels = [vec![peer("A", 2), peer("B", 1)], vec![peer("C", 1)], vec![peer("A", 1)]];
    let (_zone, cluster) = Zone::with(&levels);
    assert_eq!(tries_of(cluster, in_order(&[1, 0])), "C+ A+ B");
    assert_eq!(tries_of(cluster, in_order(&[2, 0, 1])), "A+ B+ A+ C");
    assert_eq!(tries_of(cluster, in_order(&[])), "");
    assert_eq!(tries_of(cluster, in_order(&[7, 1])), "C");
    // One level has one order, whichever way a request comes to it.
    let (_zone, cluster) = Zone::with(&levels);
    let orders = [&[0, 1][..], &[0], &[0, 2]];
    let picked: String =
        (0..6).map(|n| name(cluster, &in_order(orders[n % orders.len()]))).collect();
    assert_eq!(picked.matches('A').count(), 4);
    assert!(!cluster.is_disturbed());
}

#[test]
fn a_request_tries_a_server_once_in_each_level_whatever_its_failure_did() {
    let (_zone, cluster) =
        Zone::with(&[vec![peer("A", 1)], vec![peer("A", 1)], vec![peer("B", 1)]]);
    let mut asks = in_order(&[0, 1]);
    for more in [true, false] {
        let selected = cluster.select(&asks).unwrap();
        assert_eq!((selected.server.name(), selected.others.is_some()), ("A", more));
        asks.went_to(&selected);
        cluster.release(&selected, Outcome::Failure, 0);
    }
    assert!(cluster.select(&asks).is_none());
    assert_eq!(name(cluster, &in_order(&[0, 2])), "B");
}

#[test]
fn where_levels_are_chosen_the_last_of_a_level_is_not_put_out_of_use() {
    let levels = [vec![peer("A", 1)], vec![peer("B", 1), peer("C", 1)]];
    let (_zone, cluster) = Zone::of(&Plan { is_ordered: true, ..plan(&levels) });
    let fail = |level| {
        let selected = cluster.select(&in_order(&[level])).unwrap();
        cluster.release(&selected, Outcome::Failure, 0).is_some()
    };
    assert_eq!([fail(0), fail(1), fail(1)], [false, true, false]);
    let (_zone, cluster) = Zone::with(&levels);
    let first = cluster.pick(0).unwrap();
    assert!(cluster.release(&first, Outcome::Failure, 0).is_some());
}

#[test]
fn a_full_server_of_another_level_is_no_other() {
    let full = PeerPlan { max_conns: 1, ..peer("B", 1) };
    let (_zone, cluster) = Zone::with(&[vec![peer("A", 1)], vec![full]]);
    assert!(cluster.pick(0).unwrap().others.later());
    let _held = cluster.select(&in_order(&[1])).unwrap();
    assert!(!cluster.pick(0).unwrap().others.is_some());
}

#[test]
fn a_level_limits_tries() {
    let mut limited = plan(&[vec![peer("A", 1), peer("B", 1), peer("C", 1)], vec![peer("D", 1)]]);
    limited.levels[0].tries = 2;
    let (_zone, cluster) = Zone::of(&limited);
    assert_eq!(tries(cluster), "A+ B+ D");
    limited.levels[0].tries = 1;
    limited.levels.pop();
    let (_zone, cluster) = Zone::of(&limited);
    let first = cluster.pick(0).unwrap();
    assert!(!first.others.is_some() && first.others.beyond());
    assert_eq!(tries(cluster), "B");
}

#[test]
fn a_level_limits_time() {
    let mut limited = plan(&[vec![peer("A", 1), peer("B", 1)], vec![peer("C", 1)]]);
    limited.levels[0].tries_timeout = 1000;
    let (_zone, cluster) = Zone::of(&limited);
    let mut asks = Asks::at(5000);
    let first = cluster.select(&asks).unwrap();
    assert!(first.others.here() && first.others.later());
    asks.went_to(&first);
    asks.now = 5999;
    assert_eq!(name(cluster, &asks), "B");
    asks.now = 6000;
    assert_eq!(name(cluster, &asks), "C");
}

#[test]
fn a_drained_server_takes_only_those_that_stick_to_it() {
    let drained = PeerPlan { drain: true, ..peer("A", 5) };
    let (_zone, cluster) = Zone::with(&[vec![drained, peer("B", 1)], vec![peer("C", 1)]]);
    assert_eq!(names(cluster, 3), "BBB");
    let stuck = |to: &str| Asks { sticks_to: Some(to.to_owned()), ..Asks::default() };
    assert_eq!(name(cluster, &stuck("A")), "A");
    // As in nginx, while the first level works no other is looked at.
    assert_eq!(name(cluster, &stuck("C")), "B");
    assert_eq!(name(cluster, &stuck("Z")), "B");
    assert_eq!(tries_of(cluster, stuck("A")), "A+ B+ C");
}

#[test]
fn keys_stay_with_their_servers() {
    let servers: Vec<String> = (0..6).map(|n| format!("10.0.0.{n}:80")).collect();
    let level = |down: Option<usize>| {
        let peers = servers.iter().enumerate();
        vec![peers
            .map(|(n, name)| PeerPlan { down: Some(n) == down, ..peer(name, 1 + n as u32 % 3) })
            .collect()]
    };
    let keys: Vec<String> = (0..2000).map(|n| format!("key-{n}")).collect();
    let go = |cluster: Used| -> Vec<String> {
        keys.iter().map(|key| name(cluster, &Asks::of_key(key))).collect()
    };
    let (zone, cluster) = Zone::of(&by(Method::Hash, &level(None)));
    let before = go(cluster);
    assert_eq!(before, go(cluster));
    zone.root.update(&zone.heap, &cluster, &by(Method::Hash, &level(Some(4)))).unwrap();
    let after = go(cluster);
    let moved: Vec<_> =
        before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!(!moved.is_empty() && moved.iter().all(|(before, _)| **before == servers[4]));
    // A server that fails its checks keeps its points in the same way.
    zone.root.update(&zone.heap, &cluster, &by(Method::Hash, &level(None))).unwrap();
    zone.check(&cluster, &servers[4], Some("x"));
    assert_eq!(go(cluster), after);
    // A request that was there goes on to the next server of its ring.
    let mut asks = Asks::of_key("key-1");
    let first = cluster.select(&asks).unwrap();
    asks.went_to(&first);
    assert_ne!(name(cluster, &asks), first.server.name());
    assert_eq!(tries_of(cluster, Asks::of_key("key-1")).split(' ').count(), 5);
}

#[test]
fn without_a_key_servers_take_turns() {
    let (_zone, cluster) =
        Zone::of(&by(Method::Hash, &[vec![peer("A", 2), peer("B", 1)], vec![peer("C", 1)]]));
    assert_eq!(names(cluster, 6), "ABAABA");
}

#[test]
fn the_addresses_of_one_name_share_its_keys() {
    let same = |name| PeerPlan { ring: 7, ..peer(name, 1) };
    let (_zone, cluster) = Zone::of(&by(Method::Hash, &[vec![same("A"), peer("B", 1), same("C")]]));
    let key = (0..).map(|n| n.to_string()).find(|key| name(cluster, &Asks::of_key(key)) != "B");
    let key = key.unwrap();
    let mut found: Vec<_> = (0..4).map(|_| name(cluster, &Asks::of_key(&key))).collect();
    found.sort();
    assert_eq!(found, ["A", "A", "C", "C"]);
}

#[test]
fn two_are_drawn_by_weight() {
    let (_zone, cluster) =
        Zone::of(&by(Method::RandomTwo, &[vec![peer("A", 8), peer("B", 1), peer("C", 1)]]));
    let asks = Asks::default();
    let picks: String = (0..4000).map(|_| name(cluster, &asks)).collect();
    // On a tie the one that is drawn first wins: each has its share where nothing is at work.
    let share = picks.matches('A').count();
    assert!((3100..3300).contains(&share), "{share}");
    // Of two that are drawn the one with fewer connections for its weight gets the request: A has
    // room for eight times as many.
    let held: Vec<_> = (0..300).map(|_| cluster.select(&asks).unwrap()).collect();
    let on_a = held.iter().filter(|held| held.server.name() == "A").count();
    assert!((200..=280).contains(&on_a), "{on_a}");
    assert_eq!(tries_of(cluster, Asks::default()).split(' ').count(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Requests come and go, of several workers: each goes to the server that has the fewest
    /// connections for its weight, and ties take turns as in nginx
    /// (ngx_http_upstream_get_least_conn_peer).
    #[test]
    fn least_connections_are_exact_over_all_workers(
        weights in prop::collection::vec(1_u32..=5, 1..8),
        steps in prop::collection::vec((0_usize..3, 0_usize..10), 1..300),
    ) {
        let letters: Vec<String> = ('A'..).take(weights.len()).map(String::from).collect();
        let level: Vec<_> =
            letters.iter().zip(&weights).map(|(name, &weight)| peer(name, weight)).collect();
        let (zone, cluster) = Zone::of(&by(Method::LeastConn, &[level]));
        let more = (1..3).map(|number| zone.root.claim_slot(lock::own_id(), number, 1, 1).unwrap());
        let workers: Vec<_> = std::iter::once(zone.slot).chain(more).collect();
        let mut held: Vec<(usize, Selected)> = Vec::new();
        let mut connections = vec![0_u32; weights.len()];
        let mut current = vec![0_i64; weights.len()];
        for (worker, action) in steps {
            if action < 4 && !held.is_empty() {
                let (worker, selected) = held.swap_remove(action % held.len());
                cluster.cluster.release(workers[worker], &selected, Outcome::Success, 0);
                Cluster::unpin(workers[worker], selected.server);
                let index = usize::from(selected.server.name().as_bytes()[0] - b'A');
                connections[index] -= 1;
                continue;
            }
            let visit = zone.root.visit(workers[worker]);
            let selected = cluster.cluster.select(workers[worker], &visit, &Asks::default()).unwrap().selected;
            drop(visit);
            let load = |index: usize| f64::from(connections[index]) / f64::from(weights[index]);
            let least = (0..weights.len()).map(load).fold(f64::MAX, f64::min);
            let tied: Vec<usize> = (0..weights.len()).filter(|&index| load(index) <= least).collect();
            let expected = if let [only] = tied[..] { only } else {
                for &index in &tied {
                    current[index] += i64::from(weights[index]);
                }
                let best = tied.iter().copied().reduce(|best, index| {
                    if current[index] > current[best] { index } else { best }
                });
                let best = best.unwrap();
                current[best] -= tied.iter().map(|&index| i64::from(weights[index])).sum::<i64>();
                best
            };
            prop_assert_eq!(selected.server.name(), letters[expected].as_str());
            connections[expected] += 1;
            held.push((worker, selected));
        }
        for (worker, selected) in held {
            cluster.cluster.release(workers[worker], &selected, Outcome::Success, 0);
            Cluster::unpin(workers[worker], selected.server);
        }
    }

    /// A server that came back gets the share that it has at the time, whichever worker picks, and
    /// its whole share in the end.
    #[test]
    fn a_slow_start_gives_the_share_of_the_time(
        weight in 1_u32..=20,
        others in prop::collection::vec(1_u32..=20, 1..5),
        percent in 0_u64..=100,
    ) {
        const SLOW: u64 = 10_000;
        let letters: Vec<String> = ('B'..).take(others.len()).map(String::from).collect();
        let mut level = vec![PeerPlan { slow_start: SLOW, ..peer("A", weight) }];
        level.extend(letters.iter().zip(&others).map(|(name, &weight)| peer(name, weight)));
        let (zone, cluster) = Zone::with(&[level]);
        let second = zone.root.claim_slot(lock::own_id(), 1, 1, 1).unwrap();
        zone.check_at(&cluster, "A", Some("x"), 1000);
        zone.check_at(&cluster, "A", None, 2000);
        let now = 2000 + SLOW * percent / 100;
        let rounds = 2000;
        let mut picked = 0;
        for round in 0..rounds {
            let slot = if round % 2 == 0 { zone.slot } else { second };
            let visit = zone.root.visit(slot);
            let selected = cluster.cluster.select(slot, &visit, &Asks::at(now)).unwrap().selected;
            drop(visit);
            cluster.cluster.release(slot, &selected, Outcome::Success, now);
            Cluster::unpin(slot, selected.server);
            picked += u32::from(selected.server.name() == "A");
        }
        let share = f64::from(weight) * (0.1 + 0.9 * percent as f64 / 100.0);
        let due = f64::from(rounds) * share / (share + f64::from(others.iter().sum::<u32>()));
        prop_assert!((f64::from(picked) - due).abs() <= 3.0, "{picked} instead of {due}");
        prop_assert_eq!(cluster.is_disturbed(), percent < 100);
    }
}
