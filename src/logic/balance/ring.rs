//! The ketama ring of nginx's `hash KEY consistent`.
//!
//! The points are those of ngx_http_upstream_hash_module.c (`ngx_http_upstream_update_chash`), so
//! that a key goes to the same server as with nginx: a member has 160 points for each unit of its
//! weight, each the CRC-32 of `HOST \0 PORT` and of the point before it.

/// How many points a member has for each unit of its weight.
pub const POINTS: usize = 160;

/// What stands on the ring: a server as it is written on its line.
///
/// Members that are equal (one name with several addresses) have the same points, and only the
/// first of them is on the ring. Which one of them is meant is for the caller to say. Where they
/// differ in weight alone, the first one has the points that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// See [`base`].
    pub base: u32,
    /// Its share of the keys.
    pub weight: u32,
}

/// What the points of a server are made from: the CRC-32 of `HOST \0 PORT`.
///
/// `server` is the word on its line: `HOST:PORT`, `HOST`, or `unix:PATH`.
pub fn base(server: &[u8]) -> u32 {
    let (host, port) = match server.split_at_checked(b"unix:".len()) {
        Some((prefix, path)) if prefix.eq_ignore_ascii_case(b"unix:") => (path, &[][..]),
        _ => {
            let digits = server.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            match server[..server.len() - digits].strip_suffix(b":") {
                Some(host) => (host, &server[server.len() - digits..]),
                None => (server, &[][..]),
            }
        }
    };
    let mut crc = crc32fast::Hasher::new();
    crc.update(host);
    crc.update(b"\0");
    crc.update(port);
    crc.finalize()
}

/// The place of a key on the ring.
pub fn key(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

/// The points of all members. They take 9 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Sorted. Of the points in one place all but the first are there for [`Ring::updated`] only.
    points: Vec<Point>,
    /// Where the points of each bucket begin, and behind them the number of all: a key is looked for
    /// in its bucket only.
    starts: Vec<u32>,
    /// The bucket of a hash is what is left of it after so many bits.
    shift: u32,
}

/// About how many points are in a bucket.
const PER_BUCKET: usize = 4;

impl Ring {
    /// The ring of these members.
    pub fn new(members: &[Member]) -> Self {
        Self::of(points(&distinct(members)))
    }

    fn of(points: Vec<Point>) -> Self {
        let buckets = (points.len() / PER_BUCKET).next_power_of_two();
        let shift = u32::BITS - buckets.trailing_zeros();
        let mut starts = Vec::with_capacity(buckets + 1);
        for (index, point) in points.iter().enumerate() {
            // Points of one bucket begin where the first of them is; empty ones before it, too.
            let bucket = point.hash().checked_shr(shift).unwrap_or(0) as usize;
            while starts.len() <= bucket {
                starts.push(index as u32);
            }
        }
        starts.resize(buckets + 1, points.len() as u32);
        Self { points, starts, shift }
    }

    /// The ring of the members `after`, where `self` is that of the members `before`.
    ///
    /// It is the one of [`Ring::new`], sooner where few members differ: only their points are
    /// made, in whatever order the members stand.
    pub fn updated(&self, before: &[Member], after: &[Member]) -> Self {
        let old = distinct(before);
        let mut new = distinct(after);

        let mut moved = vec![None; before.len()];
        for (member, index) in &old {
            let place = new.binary_search_by_key(member, |(member, _)| *member);
            moved[*index as usize] = place.ok().map(|place| new[place].1);
        }
        let kept = self.points.iter().filter_map(|point| {
            let index = moved.get(point.member()).copied().flatten()?;
            Some(Point::new(point.hash(), index))
        });
        new.retain(|(member, _)| old.binary_search_by_key(member, |(member, _)| *member).is_err());

        let mut points = merged(kept, &points(&new));
        // Members that changed places did so too where they share a point.
        for place in points.chunk_by_mut(Point::is_beside) {
            place.sort_unstable();
        }
        Self::of(points)
    }

    /// The members in the order in which they serve this [`key`], once around the ring: a member
    /// for each place that has a point, so most of them come again and again.
    pub fn walk(&self, key: u32) -> impl Iterator<Item = usize> + '_ {
        let bucket = key.checked_shr(self.shift).unwrap_or(0) as usize;
        let (first, last) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let before = self.points[first..last].iter().take_while(|point| point.hash() < key);
        let start = first + before.count();
        let (begin, end) = self.points.split_at(start);
        let around = end.chunk_by(Point::is_beside).chain(begin.chunk_by(Point::is_beside));
        around.map(|place| place[0].member())
    }
}

/// A point on the ring: its place, and then the index of its member. They sort in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point(u64);

impl Point {
    fn new(hash: u32, member: u32) -> Self {
        Self(u64::from(hash) << 32 | u64::from(member))
    }

    fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn member(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    /// Whether both are in one place.
    fn is_beside(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

/// The members that differ, sorted, each with the index of the first that is like it.
fn distinct(members: &[Member]) -> Vec<(Member, u32)> {
    let mut distinct: Vec<_> = members.iter().copied().zip(0..).collect();
    distinct.sort_unstable();
    distinct.dedup_by_key(|(member, _)| *member);
    distinct
}

/// The points of these members, sorted.
fn points(members: &[(Member, u32)]) -> Vec<Point> {
    let count = members.iter().map(|(member, _)| member.weight as usize * POINTS).sum();
    let mut points = Vec::with_capacity(count);
    for (member, index) in members {
        let mut hash = 0u32;
        for _ in 0..member.weight as usize * POINTS {
            let mut crc = crc32fast::Hasher::new_with_initial(member.base);
            crc.update(&hash.to_le_bytes());
            hash = crc.finalize();
            points.push(Point::new(hash, *index));
        }
    }
    points.sort_unstable();
    points
}

/// Merges points that are sorted by their places.
fn merged(one: impl Iterator<Item = Point>, two: &[Point]) -> Vec<Point> {
    let mut merged = Vec::with_capacity(one.size_hint().1.unwrap_or(0) + two.len());
    let mut two = two.iter().copied().peekable();
    for point in one {
        while let Some(other) = two.next_if(|other| *other < point) {
            merged.push(other);
        }
        merged.push(point);
    }
    merged.extend(two);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `ngx_http_upstream_update_chash` and `ngx_http_upstream_find_chash_point`, word for word.
    mod nginx {
        fn crc32_update(crc: &mut u32, bytes: &[u8]) {
            for byte in bytes {
                *crc ^= u32::from(*byte);
                for _ in 0..8 {
                    *crc = if *crc & 1 != 0 { *crc >> 1 ^ 0xedb8_8320 } else { *crc >> 1 };
                }
            }
        }

        pub fn crc32_long(bytes: &[u8]) -> u32 {
            let mut crc = u32::MAX;
            crc32_update(&mut crc, bytes);
            crc ^ u32::MAX
        }

        fn base_hash(server: &[u8]) -> u32 {
            let (mut host, mut port) = (server, &b""[..]);
            if server.len() >= 5 && server[..5].eq_ignore_ascii_case(b"unix:") {
                host = &server[5..];
            } else {
                for j in 0..server.len() {
                    let c = server[server.len() - j - 1];
                    if c == b':' {
                        host = &server[..server.len() - j - 1];
                        port = &server[server.len() - j..];
                        break;
                    }
                    if !c.is_ascii_digit() {
                        break;
                    }
                }
            }
            let mut base_hash = u32::MAX;
            crc32_update(&mut base_hash, host);
            crc32_update(&mut base_hash, b"\0");
            crc32_update(&mut base_hash, port);
            base_hash
        }

        /// The points with the index of the first server that is written like theirs.
        pub fn points(servers: &[(&[u8], u32)]) -> Vec<(u32, usize)> {
            let mut points = Vec::new();
            for (server, weight) in servers {
                let first = servers.iter().position(|(other, _)| other == server).unwrap();
                let base_hash = base_hash(server);
                let mut prev_hash = [0; 4];
                for _ in 0..weight * 160 {
                    let mut hash = base_hash;
                    crc32_update(&mut hash, &prev_hash);
                    hash ^= u32::MAX;
                    points.push((hash, first));
                    prev_hash = hash.to_le_bytes();
                }
            }
            points.sort_by_key(|(hash, _)| *hash);
            points.dedup_by_key(|(hash, _)| *hash);
            points
        }

        pub fn walk(points: &[(u32, usize)], hash: u32) -> Vec<usize> {
            let (mut i, mut j) = (0, points.len());
            while i < j {
                let k = (i + j) / 2;
                if hash > points[k].0 {
                    i = k + 1;
                } else if hash < points[k].0 {
                    j = k;
                } else {
                    i = k;
                    break;
                }
            }
            (i..i + points.len()).map(|i| points[i % points.len()].1).collect()
        }
    }

    fn members(servers: &[(&[u8], u32)]) -> Vec<Member> {
        servers.iter().map(|&(server, weight)| Member { base: base(server), weight }).collect()
    }

    /// Like servers on the lines of a configuration: `NAMES` of them, each as often as it likes.
    fn any_members() -> impl Strategy<Value = Vec<Member>> {
        const NAMES: u32 = 12;
        let member = (0..NAMES, 1..4u32).prop_map(|(name, weight)| Member {
            base: base(format!("s{name}").as_bytes()),
            weight,
        });
        prop::collection::vec(member, 0..12)
    }

    #[test]
    fn known_values() {
        assert_eq!(key(b"123456789"), 0xcbf4_3926);
        assert_eq!(key(b""), 0);
        for (server, hashed) in [
            ("127.0.0.1:8081", "127.0.0.1\x008081"),
            ("example.com", "example.com\0"),
            ("example.com:", "example.com\0"),
            ("a:b:12", "a:b\x0012"),
            ("[::1]", "[::1]\0"),
            ("[::1]:80", "[::1]\x0080"),
            ("UNIX:/a.sock:80", "/a.sock:80\0"),
            ("unix:", "\0"),
            ("unix", "unix\0"),
            ("80", "80\0"),
            (":80", "\x0080"),
            ("a:8x", "a:8x\0"),
            ("", "\0"),
        ] {
            assert_eq!(base(server.as_bytes()), nginx::crc32_long(hashed.as_bytes()), "{server}");
        }
    }

    #[test]
    fn picks_of_nginx() {
        let servers: [(&[u8], u32); 6] = [
            (b"127.0.0.1:47081", 1),
            (b"127.0.0.1:47082", 3),
            (b"127.0.0.3:47083", 1),
            (b"unix:/tmp/D-nginx/a.sock", 2),
            (b"UNIX:/tmp/D-nginx/b.sock", 1),
            (b"127.0.0.2:47084", 4),
        ];
        let ring = Ring::new(&members(&servers));
        let pick = |n: u32| ring.walk(key(format!("k{n}").as_bytes())).next().unwrap();
        let picks: String = (0..70).map(|n| pick(n).to_string()).collect();
        // As nginx 1.22.1 sent the requests for k0, k1, ... with these servers.
        assert_eq!(picks, "5355151003412505405441113113551125101515154512441332021431513550135114");
    }

    #[test]
    fn nobody() {
        let empty = Ring::new(&[]);
        assert_eq!(empty.walk(0).next(), None);
        assert_eq!(empty.walk(7).count(), 0);
        let one = [Member { base: 7, weight: 1 }];
        assert_eq!(Ring::new(&one).walk(0).next(), Some(0));
        assert_eq!(Ring::new(&one).updated(&one, &[]), empty);
        assert_eq!(empty.updated(&[], &one), Ring::new(&one));
    }

    #[test]
    fn equal_members_count_once() {
        let member = Member { base: 7, weight: 2 };
        let ring = Ring::new(&[member; 3]);
        assert_eq!(ring.walk(0).collect::<Vec<_>>(), [0; 2 * POINTS]);
        let heavier = [member, Member { weight: 3, ..member }];
        let walk: Vec<_> = Ring::new(&heavier).walk(0).collect();
        assert_eq!(walk.iter().filter(|&&index| index == 0).count(), 2 * POINTS);
        assert_eq!(walk.len(), 3 * POINTS);
    }

    #[test]
    fn shares_are_roughly_the_weights() {
        const KEYS: u32 = 100_000;
        let names: Vec<_> = (0..8).map(|n| format!("10.0.0.{n}:80")).collect();
        let servers: Vec<_> = names.iter().map(String::as_bytes).zip(1..).collect();
        let ring = Ring::new(&members(&servers));
        let mut counts = [0; 8];
        for n in 0..KEYS {
            counts[ring.walk(key(&n.to_be_bytes())).next().unwrap()] += 1;
        }
        for (count, (_, weight)) in counts.into_iter().zip(servers) {
            let fair = f64::from(KEYS * weight) / 36.0;
            assert!((f64::from(count) / fair - 1.0).abs() < 0.25, "{count} of {fair}");
        }
    }

    proptest! {
        #[test]
        fn bases_are_those_of_nginx(server in "(?i:unix)?[a:1]{0,8}(:[0-9a]{0,3})?") {
            let expected = nginx::points(&[(server.as_bytes(), 1)]);
            let ring = Ring::new(&members(&[(server.as_bytes(), 1)]));
            prop_assert_eq!(ring.points.iter().map(|p| p.hash()).collect::<Vec<_>>(),
                expected.iter().map(|(hash, _)| *hash).collect::<Vec<_>>());
        }

        #[test]
        fn walks_are_those_of_nginx(
            weights in prop::collection::vec((0..20u32, 1..4u32), 1..8),
            keys in prop::collection::vec(any::<u32>(), 1..8),
        ) {
            let names: Vec<_> = weights.iter().map(|(n, _)| format!("10.0.0.{n}:80")).collect();
            let weights = weights.iter().map(|(_, weight)| *weight);
            let servers: Vec<_> = names.iter().map(String::as_bytes).zip(weights).collect();
            let points = nginx::points(&servers);
            let ring = Ring::new(&members(&servers));
            let edges = [0, u32::MAX, points[0].0, points[0].0 + 1, points[points.len() - 1].0];
            for key in keys.into_iter().chain(edges) {
                let walk = ring.walk(key).map(|index| {
                    // The same server on a line of another weight is a member of its own here.
                    servers.iter().position(|(server, _)| *server == servers[index].0).unwrap()
                });
                prop_assert_eq!(walk.collect::<Vec<_>>(), nginx::walk(&points, key));
            }
        }

        #[test]
        fn only_the_keys_of_a_removed_member_move(
            members in any_members(), removed: prop::sample::Index, key: u32,
        ) {
            prop_assume!(!members.is_empty());
            let removed = removed.index(members.len());
            // One weight for each name.
            let members: Vec<_> =
                members.iter().map(|m| Member { weight: m.base % 3 + 1, ..*m }).collect();
            let mut rest = members.clone();
            rest.remove(removed);
            let place = Ring::new(&members).walk(key).map(|index| members[index])
                .find(|member| rest.contains(member));
            prop_assert_eq!(Ring::new(&rest).walk(key).next().map(|index| rest[index]), place);
        }

        #[test]
        fn an_update_gives_the_new_ring(before in any_members(), other in any_members(),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut after: Vec<Member> = other;
            if !before.is_empty() {
                for pick in picks {
                    after.insert(pick.index(after.len() + 1), before[pick.index(before.len())]);
                }
            }
            prop_assert_eq!(Ring::new(&before).updated(&before, &after), Ring::new(&after));
        }

        #[test]
        fn points_that_members_share_stay_sorted(bases in prop::collection::vec(0..3u32, 0..6),
            weights in prop::collection::vec(1..4u32, 6),
        ) {
            let mut members: Vec<_> = bases.into_iter().zip(weights)
                .map(|(base, weight)| Member { base, weight }).collect();
            let before = members.clone();
            members.reverse();
            prop_assert_eq!(Ring::new(&before).updated(&before, &members), Ring::new(&members));
        }
    }

    /// Prints how long it takes: `cargo test --release ring::tests::time -- --ignored --nocapture`
    #[test]
    #[ignore = "measures, and asserts nothing"]
    #[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures")]
    fn time() {
        let members: Vec<_> = (0..1000u32)
            .map(|n| Member { base: base(format!("10.0.{n}.1:80").as_bytes()), weight: n % 5 + 1 })
            .collect();
        let mut changed = members.clone();
        changed[500] = Member { base: 7, weight: 3 };
        let ring = Ring::new(&members);
        let best = |run: &dyn Fn() -> usize| {
            (0..20)
                .map(|_| {
                    let start = std::time::Instant::now();
                    std::hint::black_box(run());
                    start.elapsed()
                })
                .min()
        };
        println!("points:  {}", ring.points.len());
        println!("new:     {:?}", best(&|| Ring::new(&members).points.len()));
        println!("updated: {:?}", best(&|| ring.updated(&members, &changed).points.len()));
        let first = |n: u32| ring.walk(n << 22).next().unwrap_or(0);
        println!("1024 picks: {:?}", best(&|| (0..1024).map(first).sum()));
        println!("a whole walk: {:?}", best(&|| ring.walk(7).sum()));
    }
}
