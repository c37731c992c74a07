//! What changes come to.

use super::*;
use crate::logic::stored::{self, Stored};
use proptest::prelude::*;

struct Nothing;

impl KnownChecks for Nothing {
    fn defined(&self, name: &str, cluster: &str) -> Option<Check> {
        let directive = directive::check(&[b"tcp", b"interval=7s"]).unwrap().unwrap();
        let mut check = directive.complete(cluster, None, None).unwrap();
        check.source = super::super::settings::Source::Defined(name.to_owned());
        (name == "known").then_some(check)
    }

    fn matching(&self, _name: &str) -> Option<Rc<Match>> {
        None
    }

    fn has_tls(&self) -> bool {
        true
    }
}

fn is_variable(name: &str) -> bool {
    name == "request_uri"
}

fn around(configured: Option<&Cluster>) -> Surroundings<'_> {
    Surroundings {
        configured,
        checks: &Nothing,
        has_resolver: true,
        is_variable: &is_variable,
        has_sticky: false,
    }
}

fn put(current: Option<&Cluster>, body: &str) -> Result<Cluster, Refusal> {
    let resource = Resource::Cluster("api");
    let (name, change) =
        Change::parse(&resource, Method::Put, &Arguments::default(), body.as_bytes())?;
    apply(current, &name, &change, &around(None)).map(Option::unwrap)
}

fn api() -> Cluster {
    put(
        None,
        r#"{"levels":[{"servers":[{"server":"10.0.0.1:80","weight":5},{"server":"[::1]:80"}]},
            {"name":"b","servers":[{"server":"unix:/a.sock"},{"server":"10.0.0.1:80"}]}],
            "checks":["known",{"type":"http","uri":"/x","headers":["A: b"]}]}"#,
    )
    .unwrap()
}

fn sentence(body: &str) -> String {
    put(Some(&api()), body).unwrap_err().sentence().to_owned()
}

#[test]
fn what_get_shows_changes_nothing() {
    let before = Cluster { version: 7, ..api() };
    let shown = serde_json::to_string(&before).unwrap();
    let after = put(Some(&before), &shown).unwrap();
    assert_eq!(after, before);
    assert_eq!(difference(Some(&before), Some(&after)), []);
}

#[test]
fn only_what_is_said_changes() {
    let before = api();
    let after = put(Some(&before), r#"{"balance":"hash $request_uri","tries":3}"#).unwrap();
    let shown: Vec<_> = difference(Some(&before), Some(&after))
        .iter()
        .map(|it| format!("{} {} {}", it.path, it.before, it.after))
        .collect();
    assert_eq!(shown, [r#"balance "round_robin" "hash $request_uri""#, "tries null 3"]);
    let again = put(Some(&after), r#"{"balance":null,"tries":null}"#).unwrap();
    assert_eq!(again, before);
}

#[test]
fn the_shape_of_lua_resty_checkups() {
    let body = r#"{"cluster":[{"servers":[{"host":"10.0.0.1","port":80,"weight":3,
        "max_fails":2,"fail_timeout":30},{"host":"::1","port":81}]}]}"#;
    let cluster = put(None, body).unwrap();
    let servers = &cluster.levels[0].servers;
    assert_eq!((servers[0].server.as_str(), servers[0].weight), ("10.0.0.1:80", 3));
    assert_eq!(servers[0].fail_timeout, Time::seconds(30));
    assert_eq!(servers[1].server, "[::1]:81");
    let named = put(None, r#"{"cluster":{"dc":{"servers":[{"host":"a.b","port":80}]}}}"#).unwrap();
    assert_eq!(named.levels[0].name.as_deref(), Some("dc"));
    assert!(named.levels[0].servers[0].resolve);
    for body in [
        r#"{"cluster":[{"servers":[{"host":"10.0.0.1"}]}]}"#,
        r#"{"cluster":[{"servers":[{"port":1}]}]}"#,
        r#"{"cluster":[{"servers":[]}]}"#,
        r#"{"cluster":[]}"#,
        r#"{"cluster":1}"#,
    ] {
        assert_eq!(put(None, body).unwrap_err().problem().status, 400, "{body}");
    }
}

#[test]
fn what_is_refused() {
    let server = |members: &str| {
        sentence(&format!(r#"{{"levels":[{{"servers":[{{"server":"1.2.3.4:5"{members}}}]}}]}}"#))
    };
    for (members, part) in [
        (r#","weight":0"#, r#"invalid value in "weight=0", it must be a number from 1 to 1000000"#),
        (r#","weight":-1"#, r#""weight=-1""#),
        (r#","weight":1.5"#, r#""weight=1.5""#),
        (r#","weight":1e300"#, r#""weight=1e+300""#),
        (r#","weight":"1""#, r#"invalid type: string "1", expected a JSON number"#),
        (r#","weight":NaN"#, "expected value"),
        (r#","max_conns":99999999"#, r#""max_conns=99999999""#),
        (r#","fail_timeout":10"#, "invalid type: integer `10`, expected a string"),
        (r#","fail_timeout":"x""#, r#"invalid value in "fail_timeout=x", it must be a time"#),
        (r#","down":1"#, "expected a boolean"),
        (r#","colour":1"#, "unknown field `colour`"),
        (r#","weight":1,"weight":2"#, "duplicate field `weight`"),
        (r#","check_port":65536"#, r#""check_port=65536""#),
        (r#","level":1"#, "unknown field \"level\""),
        (r#","resolve":true"#, "\"resolve\" is for names"),
    ] {
        let sentence = server(members);
        assert!(sentence.contains(part), "{members}: {sentence}");
    }
    for (text, part) in [
        ("10.0.0.1", "it has no port"),
        ("10.0.0.1:0", "the port must be from 1 to 65535"),
        ("10.0.0.1:65536", "the port must be"),
        ("10.0.0.1:+1", "the port must be"),
        ("10.0.0.256:80", "neither an address nor a name"),
        ("[::1]", "the port must be"),
        ("a b:80", "neither an address nor a name"),
        ("", "it has no port"),
        ("unix:", "behind \"unix:\""),
        ("unix:a", "behind \"unix:\""),
        ("http://a:80", "neither an address nor a name"),
        ("..:80", "neither an address nor a name"),
    ] {
        let sentence =
            sentence(&format!(r#"{{"levels":[{{"servers":[{{"server":"{text}"}}]}}]}}"#));
        assert!(sentence.contains(part), "{text}: {sentence}");
    }
    let deep = format!("{}{}", r#"{"checks":"#, "[".repeat(10_000));
    for (body, part) in [
        ("", "EOF"),
        ("[]", "invalid type: sequence, expected an object"),
        ("null", "expected an object"),
        ("{\"levels\":[[]]}", "invalid type: sequence, expected an object"),
        ("{\"levels\":[]}", "a cluster needs a level"),
        ("{\"levels\":[{\"servers\":[]}]}", "level \"1\" has no servers"),
        ("{\"levels\":[{}]}", "missing field `servers`"),
        ("{\"levels\":[{\"servers\":[{}]}]}", "a server needs \"server\""),
        (
            r#"{"levels":[{"servers":[{"server":"1.2.3.4:5"},{"server":"1.2.3.4:05"}]}]}"#,
            "server \"1.2.3.4:5\" is twice in level \"1\"",
        ),
        (r#"{"x":1}"#, "unknown field `x`, expected one of `name`"),
        (r#"{"name":"other"}"#, "\"name\" must be \"api\""),
        (r#"{"balance":"hash $nothing"}"#, "there is no variable \"$nothing\""),
        (r#"{"balance":"hash a$request_uri"}"#, "must be one variable"),
        (r#"{"balance":"nginx"}"#, "unknown method"),
        (r#"{"balance":"ip_hash x"}"#, "unknown method"),
        (r#"{"order":"a"}"#, "checkups_order"),
        (r#"{"protected":"maybe"}"#, "all, one or off"),
        (r#"{"tries":0}"#, "\"tries=0\""),
        (r#"{"fail_status":["5xx"]}"#, "a status from 100 to 599"),
        (r#"{"checks":["unknown"]}"#, "no check \"unknown\" is defined"),
        (r#"{"checks":[{}]}"#, "a check needs a \"type\""),
        (r#"{"checks":[{"type":"ftp"}]}"#, "unknown type \"ftp\""),
        (r#"{"checks":[{"type":"tcp","uri":"/"}]}"#, "not for a check of type"),
        (
            r#"{"checks":[{"type":"https","ssl_trusted_certificate":"/etc/passwd"}]}"#,
            "stands in checkups_check_define only",
        ),
        (r#"{"checks":[{"type":"redis","password_file":"/etc/passwd"}]}"#, "names no files"),
        (r#"{"checks":[{"type":"redis","password_file=/etc/passwd":"x"}]}"#, "unknown field"),
        (r#"{"checks":[{"type":"http","headers":["Cookie: ***"]}]}"#, "it has to be given"),
        (r#"{"checks":[{"type":"https"}]}"#, "ssl_verify=off"),
        (r#"{"checks":1}"#, "expected a sequence"),
        (&deep, "recursion limit"),
    ] {
        let sentence = sentence(body);
        assert!(sentence.contains(part), "{}: {sentence}", &body[..body.len().min(80)]);
    }
    assert_eq!(
        put(None, "{}").unwrap_err().sentence(),
        "a new cluster needs \"levels\" with servers"
    );
    let level = r#"{"levels":[{"name":"1","servers":[{"server":"1.2.3.4:5"}]}]}"#;
    assert_eq!(put(None, level), Err(Refusal::NameInvalid));
}

#[test]
fn values_of_checks_arrive_as_they_are() {
    let body = r#"{"checks":[{"type":"http","headers":["X: \"a b"],"body":"\"x y","uri":"/a"}]}"#;
    let cluster = put(Some(&api()), body).unwrap();
    let shown = serde_json::to_value(&cluster).unwrap();
    assert_eq!(shown["checks"][0]["headers"][0], "X: \"a b");
    assert_eq!(shown["checks"][0]["body"], "\"x y");
}

#[test]
fn secrets_stay() {
    let body = r#"{"checks":[{"type":"redis","password":"secret"},
        {"type":"http","headers":["Authorization: Basic x"]}]}"#;
    let before = put(Some(&api()), body).unwrap();
    let shown = serde_json::to_string(&before).unwrap();
    assert!(!shown.contains("secret") && !shown.contains("Basic"), "{shown}");
    let after = put(Some(&before), &shown).unwrap();
    assert_eq!(after.checks, before.checks);
    // What is kept has them.
    let line = stored::to_line(&Stored { version: 1, base: 0, cluster: Some(before) });
    assert!(line.contains("secret") && line.contains("Basic x"));
}

#[test]
fn servers_of_a_cluster() {
    let before = api();
    let change = |method, resource: &Resource<'_>, level: Option<&str>, body: &str| {
        let arguments = Arguments { level: level.map(str::to_owned), ..Arguments::default() };
        let (name, change) = Change::parse(resource, method, &arguments, body.as_bytes())?;
        apply(Some(&before), &name, &change, &around(None)).map(Option::unwrap)
    };
    let of = |server| Resource::Server { cluster: "api", server };
    let added = change(
        Method::Post,
        &Resource::Servers("api"),
        Some("b"),
        r#"{"server":"10.0.0.9:80","weight":3}"#,
    );
    let found = difference(Some(&before), Some(&added.unwrap()));
    assert_eq!(found[0].path, "levels/b/servers/10.0.0.9:80");
    assert!(found.len() == 1 && found[0].before.is_null());
    let patched = change(Method::Patch, &of("10.0.0.1:80"), Some("1"), r#"{"weight":6}"#).unwrap();
    let found = difference(Some(&before), Some(&patched));
    assert_eq!((found.len(), found[0].path.as_str()), (1, "levels/1/servers/10.0.0.1:80/weight"));
    let gone = change(Method::Delete, &of("10.0.0.1:80"), Some("b"), "").unwrap();
    assert_eq!(gone.levels[1].servers.len(), 1);
    for (method, server, level, body, refusal) in [
        (Method::Patch, "10.0.0.1:80", None, "{}", Refusal::ServerAmbiguous),
        (Method::Delete, "10.0.0.2:80", None, "", Refusal::ServerNotFound),
        (Method::Delete, "[::1]:80", Some("b"), "", Refusal::ServerNotFound),
        (Method::Delete, "[::1]:80", Some("c"), "", Refusal::LevelNotFound),
        (Method::Delete, "[::1]:80", Some("3"), "", Refusal::LevelNotFound),
    ] {
        assert_eq!(change(method, &of(server), level, body), Err(refusal), "{server}");
    }
    let exists = change(Method::Post, &Resource::Servers("api"), None, r#"{"server":"[::1]:80"}"#);
    assert_eq!(exists, Err(Refusal::ServerExists));
    let other = change(Method::Patch, &of("[::1]:80"), None, r#"{"server":"10.0.0.1:81"}"#);
    assert_eq!(other.unwrap_err().problem().status, 400);
    let one = put(None, r#"{"levels":[{"servers":[{"server":"10.0.0.1:80"}]}]}"#).unwrap();
    let (name, delete) =
        Change::parse(&of("10.0.0.1:80"), Method::Delete, &Arguments::default(), b"").unwrap();
    assert_eq!(apply(Some(&one), &name, &delete, &around(None)), Err(Refusal::LastServer));
}

#[test]
fn lines_of_equal_address_of_the_configuration_stay() {
    let mut before = api();
    let server = before.levels[0].servers[0].clone();
    before.levels[0].servers.push(Server { weight: 7, ..server });
    let shown = serde_json::to_string(&before).unwrap();
    assert_eq!(put(Some(&before), &shown).unwrap(), before);
    let three = r#"{"levels":[{"servers":[{"server":"10.0.0.1:80"},{"server":"10.0.0.1:80"},
        {"server":"10.0.0.1:80"}]}]}"#;
    assert_eq!(put(Some(&before), three).unwrap_err().problem().status, 400);
}

#[test]
fn names_need_a_resolver() {
    let body = br#"{"levels":[{"servers":[{"server":"a.example:80"}]}]}"#;
    let (name, change) =
        Change::parse(&Resource::Cluster("x"), Method::Put, &Arguments::default(), body).unwrap();
    let without = Surroundings { has_resolver: false, ..around(None) };
    assert_eq!(apply(None, &name, &change, &without), Err(Refusal::NoResolver));
    let name_of = Resource::Cluster("a/b");
    let parsed = Change::parse(&name_of, Method::Put, &Arguments::default(), body);
    assert_eq!(parsed.unwrap_err(), Refusal::NameInvalid);
}

#[test]
fn what_is_the_same_keeps_what_is_known_of_it() {
    let mut before = api();
    before.levels[0].servers[0].written = "backend".to_owned();
    let body = r#"{"levels":[{"servers":[{"server":"10.0.0.1:80"},{"server":"10.0.0.3:80"}]}]}"#;
    let after = put(Some(&before), body).unwrap();
    assert_eq!(after.levels[0].servers[0].written, "backend");
    assert_eq!(after.levels[0].servers[1].written, "10.0.0.3:80");
}

/// The servers of each level with their numbers.
fn numbers(cluster: &Cluster) -> String {
    let server = |server: &Server| {
        let id = server.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        format!("{}={id}", server.server.trim_end_matches(":80").trim_start_matches("10.0.0."))
    };
    let level = |level: &Level| level.servers.iter().map(server).collect::<Vec<_>>().join(" ");
    cluster.levels.iter().map(level).collect::<Vec<_>>().join(" | ")
}

/// A cluster whose levels have these servers, numbered.
fn numbered(levels: &[&[u8]]) -> Cluster {
    let mut cluster = Cluster::empty("api");
    for servers in levels {
        let servers = servers.iter().map(|last| Server::new(&format!("10.0.0.{last}:80")));
        cluster.levels.push(Level { servers: servers.collect(), ..Level::default() });
    }
    number_servers(&mut cluster, 0);
    cluster
}

/// A body that gives the levels these servers.
fn levels_of(levels: &[&[u8]]) -> String {
    let server = |last: &u8| format!("{{\"server\":\"10.0.0.{last}:80\"}}");
    let level = |servers: &&[u8]| {
        let servers: Vec<_> = servers.iter().map(server).collect();
        format!("{{\"servers\":[{}]}}", servers.join(","))
    };
    let levels: Vec<_> = levels.iter().map(level).collect();
    format!("{{\"levels\":[{}]}}", levels.join(","))
}

#[test]
fn servers_keep_their_numbers() {
    let before = numbered(&[&[1, 2], &[3]]);
    assert_eq!(numbers(&before), "1=0 2=1 | 3=2");
    for (levels, expected) in [
        (&[&[2, 1][..], &[3]][..], "2=1 1=0 | 3=2"),
        (&[&[1, 4, 2], &[3]], "1=0 4=? 2=1 | 3=2"),
        // To another level, and in two of them.
        (&[&[1, 3], &[2]], "1=0 3=2 | 2=1"),
        (&[&[3, 1], &[3, 1]], "3=? 1=0 | 3=2 1=?"),
        (&[&[9]], "9=?"),
    ] {
        let mut after = put(Some(&before), &levels_of(levels)).unwrap();
        assert_eq!(numbers(&after), expected);
        let next = number_servers(&mut after, 3);
        assert_eq!(next as usize, 3 + expected.matches('?').count());
        let mut forgotten = after.clone();
        let servers = forgotten.levels.iter_mut().flat_map(|level| &mut level.servers);
        servers.for_each(|server| server.id = None);
        renumber(&after, &mut forgotten);
        assert_eq!(forgotten, after);
    }
}

fn by_number(current: &Cluster, change: &Change) -> Result<Cluster, Refusal> {
    apply(Some(current), "api", change, &around(None)).map(Option::unwrap)
}

fn patch_number(id: u32, is_backup: Option<bool>, draft: ServerDraft) -> Change {
    Change::PatchServer { which: Which::Id { id, is_backup }, draft: Box::new(draft) }
}

#[test]
fn a_server_by_its_number() {
    let before = numbered(&[&[1, 2], &[1]]);
    let weight = || ServerDraft { weight: Some(7.into()), ..ServerDraft::default() };
    let after = by_number(&before, &patch_number(2, Some(true), weight())).unwrap();
    let weights: Vec<_> =
        after.levels.iter().flat_map(|it| &it.servers).map(|it| it.weight).collect();
    assert_eq!(weights, [1, 1, 7]);
    let address =
        |text: &str| ServerDraft { server: Some(text.to_owned()), ..ServerDraft::default() };
    let after = by_number(&before, &patch_number(0, None, address("10.0.0.9:80"))).unwrap();
    assert_eq!(numbers(&after), "9=0 2=1 | 1=2");
    assert_eq!(after.levels[0].servers[0].written, "10.0.0.9:80");
    assert_eq!(by_number(&before, &patch_number(0, None, address("10.0.0.1:80"))).unwrap(), before);
    for (change, refusal) in [
        (patch_number(3, None, weight()), Refusal::ServerNotFound),
        (patch_number(0, None, address("10.0.0.2:80")), Refusal::ServerExists),
        (
            patch_number(0, Some(true), weight()),
            Refusal::BodyInvalid("\"backup\" of a server cannot be changed".to_owned()),
        ),
        (
            patch_number(0, None, address("a.example:80")),
            Refusal::MemberInvalid(
                "server",
                "server \"a.example:80\": a name cannot take its place".to_owned(),
            ),
        ),
    ] {
        assert_eq!(by_number(&before, &change), Err(refusal));
    }
}

#[test]
fn a_name_by_its_number() {
    let mut before = numbered(&[&[1]]);
    let server = &mut before.levels[0].servers[0];
    server.server = "a.example".to_owned();
    server.service = Some("http".to_owned());
    server.resolve = true;
    let address =
        |text: &str| ServerDraft { server: Some(text.to_owned()), ..ServerDraft::default() };
    // The client knows it without a port, and 80 was added.
    assert_eq!(
        by_number(&before, &patch_number(0, None, address("a.example:80"))).unwrap(),
        before
    );
    let other = by_number(&before, &patch_number(0, None, address("b.example:80")));
    assert_eq!(other, Err(Refusal::AddressImmutable));
}

#[test]
fn levels_come_and_go_with_their_servers() {
    let delete = |id| Change::DeleteServer(Which::Id { id, is_backup: None });
    let add = |level, last: u8| {
        let server = Some(format!("10.0.0.{last}:80"));
        Change::AddServer { level, draft: Box::new(ServerDraft { server, ..Default::default() }) }
    };
    let one = numbered(&[&[1]]);
    let empty = by_number(&one, &delete(0)).unwrap();
    assert_eq!(numbers(&empty), "");
    assert_eq!(empty.levels.len(), 1);
    // What GET shows of it is taken, a level that is new needs a server.
    let shown = serde_json::to_string(&empty).unwrap();
    assert_eq!(put(Some(&empty), &shown).unwrap(), empty);
    assert!(put(Some(&one), &levels_of(&[&[]])).is_err());
    assert!(put(Some(&empty), &levels_of(&[&[], &[]])).is_err());
    let two = by_number(&one, &add(Target::Backup, 2)).unwrap();
    assert_eq!(numbers(&two), "1=0 | 2=?");
    assert_eq!(numbers(&by_number(&two, &add(Target::Backup, 3)).unwrap()), "1=0 | 2=? 3=?");
    let mut two = two;
    number_servers(&mut two, 1);
    assert_eq!(by_number(&two, &delete(1)).unwrap(), one);
    let backup_only = by_number(&two, &delete(0)).unwrap();
    assert_eq!(numbers(&backup_only), " | 2=1");
    // A level with a name stays.
    two.levels[1].name = Some("dc2".to_owned());
    assert_eq!(by_number(&two, &delete(1)).unwrap().levels.len(), 2);
}

#[test]
fn routes() {
    let sticky = Surroundings { has_sticky: true, ..around(None) };
    let before = numbered(&[&[1]]);
    let route = |text: &str| {
        let draft = ServerDraft { route: Some(text.to_owned()), ..ServerDraft::default() };
        let change = patch_number(0, None, draft);
        apply(Some(&before), "api", &change, &sticky).map(Option::unwrap)
    };
    let server = |cluster: Cluster| cluster.levels[0].servers[0].clone();
    let found = server(route("a").unwrap());
    assert_eq!((found.route.as_str(), found.sticky.as_str()), ("a", "a"));
    let found = server(route("").unwrap());
    assert_eq!(found.sticky, format!("{:x}", md5::compute("10.0.0.1:80")));
    assert_eq!(server(route(&"x".repeat(32)).unwrap()).route.len(), 32);
    for text in ["x".repeat(33), "a\nb".to_owned()] {
        assert!(matches!(route(&text), Err(Refusal::MemberInvalid("route", _))));
    }
}

fn servers_strategy() -> impl Strategy<Value = Vec<(u8, u32, bool, String)>> {
    prop::collection::vec((any::<u8>(), 1..100u32, any::<bool>(), "[a-z]{1,3}"), 1..6)
}

proptest! {
    #[test]
    fn what_is_kept_comes_back(
        levels in prop::collection::vec(servers_strategy(), 1..4),
        base: u64,
        version: u64,
    ) {
        let mut cluster = api();
        cluster.version = version;
        cluster.levels = levels.iter().map(|servers| Level {
            servers: servers.iter().map(|(last, weight, down, name)| {
                let mut server = Server::new(&format!("10.0.0.{last}:80"));
                server.weight = *weight;
                server.down = *down;
                if *down {
                    server.server = format!("{name}.x:80");
                    server.resolve = true;
                    server.addresses = vec!["10.1.1.1:80".to_owned()];
                    server.written = server.server.clone();
                }
                server.sticky.clone_from(name);
                server.route = if *weight > 50 { name.clone() } else { String::new() };
                server
            }).collect(),
            ..Level::default()
        }).collect();
        let stored = Stored { version, base, cluster: Some(cluster) };
        let line = stored::to_line(&stored);
        prop_assert_eq!(stored::head(&line), Some(stored::Head { version, base }));
        let (again, warnings) = stored::from_line(&line, "api", &around(None)).unwrap();
        prop_assert_eq!(again, stored);
        prop_assert!(warnings.is_empty());
    }

    #[test]
    fn no_body_panics(body: Vec<u8>) {
        let _ = put(Some(&api()), &String::from_utf8_lossy(&body));
    }

    #[test]
    fn no_json_panics(
        name in "levels|servers|server|checks|weight|balance|cluster|type|host|port",
        value in "[0-9]{1,30}|\"[ -~]{0,20}\"|null|true|\\[\\]|\\{\\}",
    ) {
        for body in [
            format!(r#"{{"{name}":{value}}}"#),
            format!(r#"{{"levels":[{{"servers":[{{"server":"1.2.3.4:5","{name}":{value}}}]}}]}}"#),
            format!(r#"{{"checks":[{{"type":"http","{name}":{value}}}]}}"#),
            format!(r#"{{"levels":[{{"servers":[{{"server":{value}}}]}}]}}"#),
        ] {
            if let Ok(cluster) = put(Some(&api()), &body) {
                prop_assert!(difference(Some(&cluster), Some(&cluster)).is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused(at: prop::sample::Index, bit in 0..8u32, cut: prop::sample::Index) {
        let line = stored::to_line(&Stored { version: 5, base: 9, cluster: Some(api()) });
        let deleted = stored::to_line(&Stored { version: 4, base: 9, cluster: None });
        let file = stored::to_file("api", &[&line, &deleted]);
        prop_assert_eq!(stored::from_file("api", &file).unwrap(), vec![line, deleted]);
        let mut wrong = file.clone();
        let at = at.index(file.len());
        wrong[at] ^= 1 << bit;
        prop_assert!(stored::from_file("api", &wrong).is_err(), "{at} {bit}");
        prop_assert!(stored::from_file("api", &file[..cut.index(file.len())]).is_err());
        prop_assert!(stored::from_file("other", &file).is_err());
    }
}

#[test]
fn fingerprints() {
    let cluster = api();
    let print = stored::fingerprint(&cluster);
    assert_eq!(stored::fingerprint(&Cluster { version: 5, ..cluster.clone() }), print);
    let mut other = cluster.clone();
    other.levels[0].servers[0].weight = 6;
    assert_ne!(stored::fingerprint(&other), print);
    // A name for which nginx finds other addresses is the same name.
    let named = |addresses: &[&str]| {
        let servers = addresses
            .iter()
            .map(|address| Server { written: "backend:80".to_owned(), ..Server::new(address) });
        let level = Level { servers: servers.collect(), ..Level::default() };
        stored::fingerprint(&Cluster { levels: vec![level], ..cluster.clone() })
    };
    assert_eq!(named(&["10.0.0.1:80", "10.0.0.2:80"]), named(&["10.0.0.3:80"]));
    let twice = |count| {
        let servers = vec![Server::new("10.0.0.1:80"); count];
        let level = Level { servers, ..Level::default() };
        stored::fingerprint(&Cluster { levels: vec![level], ..cluster.clone() })
    };
    assert_ne!(twice(1), twice(2));
}
