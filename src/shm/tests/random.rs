//! Whatever happens in whatever order: what must always hold.

use super::*;
use crate::logic::balance::Method;
use crate::logic::settings::Protected;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A request comes, with this key and this order of levels.
    Select { key: Option<u8>, order: Option<Vec<u16>> },
    /// One of the requests at work ends like this, or goes on to the next server.
    End { which: usize, failed: bool, goes_on: bool },
    /// The check of a server ends.
    Check { server: u8, passed: bool },
    /// Somebody says something of a server.
    Feedback { server: u8, failed: bool },
    /// The cluster is changed.
    Update(Shape),
    /// So many milliseconds pass.
    Pass(u64),
}

/// The number of a name, the weight, the limit of connections, and whether the server is down, and
/// drained.
type Line = (u8, u32, u32, bool, bool);

/// What a cluster is made of.
#[derive(Clone, Debug)]
struct Shape {
    method: u8,
    protected: u8,
    is_ordered: bool,
    levels: Vec<Vec<Line>>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let server =
        (0_u8..6, 1_u32..5, 0_u32..4, prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let levels = prop::collection::vec(prop::collection::vec(server, 1..5), 1..4);
    (0_u8..4, 0_u8..3, any::<bool>(), levels).prop_map(|(method, protected, is_ordered, levels)| {
        Shape { method, protected, is_ordered, levels }
    })
}

fn events() -> impl Strategy<Value = Event> {
    let order = prop::option::of(prop::collection::vec(0_u16..5, 0..4));
    prop_oneof![
        8 => (prop::option::of(any::<u8>()), order)
            .prop_map(|(key, order)| Event::Select { key, order }),
        8 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, failed, goes_on)| Event::End { which, failed, goes_on }),
        3 => (0_u8..6, any::<bool>()).prop_map(|(server, passed)| Event::Check { server, passed }),
        1 => (0_u8..6, any::<bool>())
            .prop_map(|(server, failed)| Event::Feedback { server, failed }),
        1 => shapes().prop_map(Event::Update),
        2 => (0_u64..3000).prop_map(Event::Pass),
    ]
}

const NAMES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

impl Shape {
    fn plan(&self) -> Plan<'static> {
        let peer = |&(server, weight, max_conns, down, drain): &Line| {
            let name = NAMES[usize::from(server)];
            let slow_start = if server % 2 == 0 { 500 } else { 0 };
            let checked = server < 4 && !down;
            let more = PeerPlan { max_conns, slow_start, ..peer(name, weight) };
            PeerPlan { max_fails: 2, fail_timeout: 1000, down, drain, checked, ..more }
        };
        let levels: Vec<_> =
            self.levels.iter().map(|level| level.iter().map(peer).collect()).collect();
        Plan {
            method: [Method::RoundRobin, Method::Hash, Method::LeastConn, Method::RandomTwo]
                [usize::from(self.method)],
            protected: [Protected::All, Protected::One, Protected::Off]
                [usize::from(self.protected)],
            is_ordered: self.is_ordered,
            ..plan(&levels)
        }
    }
}

/// Whether any server may take the request, looked at one by one.
fn may_be_sent(cluster: Used, asks: &Asks) -> bool {
    let guard = cluster.lock();
    let generation = guard.generation().unwrap();
    let all: Vec<u16> = (0..generation.levels().len() as u16).collect();
    let levels = asks.order.as_ref().unwrap_or(&all).iter().map(|level| usize::from(*level));
    let mut levels = levels.filter(|level| *level < generation.levels().len());
    levels.any(|number| {
        let peers = &generation.peers()[generation.levels()[number].range()];
        peers.iter().any(|peer| {
            peer.is_in_use()
                && peer.server.is_usable(asks.now)
                && (peer.max_conns == 0 || peer.server.uses().connections() < peer.max_conns)
                && !asks.has_tried(number, peer.server)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_request_finds_a_server_where_there_is_one_and_only_a_fit_one(
        shape in shapes(),
        events in prop::collection::vec(events(), 1..120),
    ) {
        let (zone, cluster) = Zone::of(&shape.plan());
        let live = zone.heap.live();
        let mut now = 1000;
        let mut at_work: Vec<(Selected, Asks)> = Vec::new();
        for event in events {
            match event {
                Event::Pass(milliseconds) => now += milliseconds,
                Event::Update(shape) => {
                    zone.root.update(&zone.heap, &cluster, &shape.plan()).unwrap();
                }
                Event::Check { server, passed } => {
                    let name = NAMES[usize::from(server)];
                    let found = {
                        let guard = cluster.lock();
                        let generation = guard.generation().unwrap();
                        let mut checked = generation.peers_to_check().map(|peer| peer.server);
                        checked.any(|known| known.name() == name && known.is_checked())
                    };
                    if found {
                        zone.check_at(&cluster, name, (!passed).then_some("x"), now);
                    }
                }
                Event::Feedback { server, failed } => {
                    cluster.feedback(NAMES[usize::from(server)], failed, now);
                }
                Event::Select { key, order } => {
                    let key = key.map(|key| key.to_string());
                    let seed = Cell::new(now ^ at_work.len() as u64);
                    let asks = Asks { key, order, now, seed, ..Asks::default() };
                    send(cluster, asks, &mut at_work)?;
                }
                Event::End { which, failed, goes_on } if !at_work.is_empty() => {
                    let (selected, mut asks) = at_work.swap_remove(which % at_work.len());
                    let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                    cluster.release(&selected, outcome, now);
                    asks.now = now;
                    asks.went_to(&selected);
                    if goes_on {
                        send(cluster, asks, &mut at_work)?;
                    }
                }
                Event::End { .. } => {}
            }
            zone.root.sweep(&zone.heap);
            zone.verify();
        }
        for (selected, _) in at_work {
            cluster.release(&selected, Outcome::Success, now);
        }
        zone.root.update(&zone.heap, &cluster, &shape.plan()).unwrap();
        zone.root.sweep(&zone.heap);
        prop_assert_eq!(zone.heap.live(), live);
    }
}

fn send(
    cluster: Used,
    asks: Asks,
    at_work: &mut Vec<(Selected, Asks)>,
) -> Result<(), TestCaseError> {
    let expected = may_be_sent(cluster, &asks);
    let Some(selected) = cluster.select(&asks) else {
        prop_assert!(!expected, "there is a server for {:?}", asks.order);
        return Ok(());
    };
    let guard = cluster.lock();
    let generation = guard.generation().unwrap();
    let level = &generation.levels()[selected.level()];
    let found = generation.peers()[level.range()]
        .iter()
        .find(|peer| ptr::eq(peer.server, selected.server) && peer.is_in_use());
    prop_assert!(found.is_some(), "{} is not in use", selected.server.name());
    let most = found.unwrap().max_conns;
    let connections = selected.server.uses().connections();
    drop(guard);
    prop_assert!(!asks.has_tried(selected.level(), selected.server), "it was tried");
    let is_fit = selected.server.is_usable(asks.now) || asks.has_been_at(selected.server);
    prop_assert!(is_fit, "{} is out of use", selected.server.name());
    prop_assert!(expected || asks.has_been_at(selected.server), "none is to be used");
    // A server that is in two levels, or that was changed, may have had more before.
    prop_assert!(most == 0 || connections <= most, "{connections} instead of {most}");
    at_work.push((selected, asks));
    Ok(())
}
