//! Changes of clusters at run time: what somebody asks for, and what comes of it.

mod checks;
mod difference;
mod draft;
mod server;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::rc::Rc;

use serde::Serialize;
use serde_json::{Number, Value};

use self::draft::{
    ClusterDraft, Given, LevelDraft, Object, OriginalLevel, OriginalLevels, RollbackDraft,
};
use super::api::{Arguments, Method, Refusal, Resource};
use super::balance::Method as Balancing;
use super::directive::{self, Word};
use super::matching::Match;
use super::order;
use super::settings::{
    is_cluster_name, is_level_name, Balance, Check, Cluster, Level, Limits, Protected, Server,
    Statuses, Time, Timeouts, MAX_NAME,
};

pub use self::checks::{shown as shown_check, MAX_CHECKS};
pub use self::difference::{difference, Difference};
pub use self::draft::ServerDraft;

/// The most levels of a cluster.
const MAX_LEVELS: usize = 64;

/// The most servers of a cluster.
const MAX_SERVERS: usize = 10_000;

/// The largest weight, and the most connections, failures and tries that a change may say.
const MOST: u32 = 1_000_000;

/// What a change has to go with.
pub struct Surroundings<'a> {
    /// The settings of the cluster in the configuration; `None`: it has no block there.
    pub configured: Option<&'a Cluster>,
    /// What checks may be made of.
    pub checks: &'a dyn KnownChecks,
    /// Whether names can be looked up.
    pub has_resolver: bool,
    /// Whether there is a variable of this name.
    pub is_variable: &'a dyn Fn(&str) -> bool,
    /// Whether clients may stick to servers, by what names them.
    pub has_sticky: bool,
}

/// What checks may be made of.
pub trait KnownChecks {
    /// The check of this name by `checkups_check_define`, for this cluster.
    fn defined(&self, name: &str, cluster: &str) -> Option<Check>;

    /// The `checkups_match` block of this name.
    fn matching(&self, name: &str) -> Option<Rc<Match>>;

    /// Whether a check can use TLS without any file.
    fn has_tls(&self) -> bool;
}

/// Where a server is added.
#[derive(Debug)]
pub enum Target {
    /// To the level that the body names, or else to the first one.
    First,
    /// To the level of this name or number.
    Level(String),
    /// To the second level, which comes to be where there is none.
    Backup,
}

/// Which server is meant.
#[derive(Debug)]
pub enum Which {
    /// All lines of an address in a level, which keeps a server at least.
    Address {
        /// The address.
        server: String,
        /// The name or the number of the level; `None`: there is one level that has it.
        level: Option<String>,
    },
    /// That of this number. It may get another address, and may be the last one of its level.
    Id {
        /// The number.
        id: u32,
        /// Whether it is said to be in another level than the first one; it is not moved.
        is_backup: Option<bool>,
    },
}

/// What somebody wants changed of a cluster.
#[derive(Debug)]
pub enum Change {
    /// It is to be so, as far as anything is said.
    Put(Box<ClusterDraft>),
    /// It is not to be there.
    Delete,
    /// A level is to have one more server.
    AddServer {
        /// The level.
        level: Target,
        /// The server.
        draft: Box<ServerDraft>,
    },
    /// A server is to be different.
    PatchServer {
        /// The server.
        which: Which,
        /// What is to be different.
        draft: Box<ServerDraft>,
    },
    /// A server is not to be there.
    DeleteServer(Which),
    /// It is to be as it was at this version.
    Rollback(u64),
}

impl Change {
    /// What a request asks for: the name of the cluster, and the change.
    ///
    /// # Errors
    /// Where the name is none, and where the body is not what it should be.
    pub fn parse(
        resource: &Resource<'_>,
        method: Method,
        arguments: &Arguments,
        body: &[u8],
    ) -> Result<(String, Self), Refusal> {
        let level = || arguments.level.clone();
        let (name, change) = match (resource, method) {
            (Resource::Cluster(name), Method::Put) => (*name, Self::Put(Box::new(parse(body)?))),
            (Resource::Cluster(name), Method::Delete) => (*name, Self::Delete),
            (Resource::Servers(name), Method::Post) => {
                let level = level().map_or(Target::First, Target::Level);
                (*name, Self::AddServer { level, draft: Box::new(parse(body)?) })
            }
            (Resource::Server { cluster, server }, Method::Patch) => {
                let which = Which::Address { server: (*server).to_owned(), level: level() };
                (*cluster, Self::PatchServer { which, draft: Box::new(parse(body)?) })
            }
            (Resource::Server { cluster, server }, Method::Delete) => {
                let which = Which::Address { server: (*server).to_owned(), level: level() };
                (*cluster, Self::DeleteServer(which))
            }
            (Resource::Rollback(name), Method::Post) => {
                let draft: RollbackDraft = parse(body)?;
                (*name, Self::Rollback(draft.version))
            }
            _ => return Err(Refusal::MethodNotAllowed),
        };
        if is_cluster_name(name) {
            Ok((name.to_owned(), change))
        } else {
            Err(Refusal::NameInvalid)
        }
    }
}

impl Change {
    /// Whether a server that it brings may be a name.
    pub fn may_bring_names(&self) -> bool {
        let is_name =
            |draft: &ServerDraft| draft.server.as_deref().is_some_and(server::may_be_name);
        match self {
            Self::Put(draft) => {
                let levels = draft.levels.iter().flatten();
                let mut servers = levels.flat_map(|level| &level.0.servers);
                draft.cluster.is_some() || servers.any(|server| is_name(&server.0))
            }
            Self::AddServer { draft, .. } => is_name(draft),
            Self::Delete | Self::PatchServer { .. } | Self::DeleteServer(_) | Self::Rollback(_) => {
                false
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    draft::parse(body).map_err(invalid)
}

/// A body that is not what it should be, for this reason.
fn invalid(reason: impl Display) -> Refusal {
    Refusal::invalid(&reason.to_string())
}

/// The same of a member of a server.
fn of_member(member: &'static str, reason: impl Display) -> Refusal {
    Refusal::invalid_member(member, &reason.to_string())
}

fn number(name: &'static str, number: &Number, least: u32, most: u32) -> Result<u32, Refusal> {
    let number = Word::new(format!("{name}={number}").as_bytes()).number(least, most);
    number.map_err(|error| of_member(name, error))
}

fn time(name: &'static str, text: &str, least: Time) -> Result<Time, Refusal> {
    let time = Word::new(format!("{name}={text}").as_bytes()).time(least);
    time.map_err(|error| of_member(name, error))
}

/// What comes of a change of the cluster of this name, which has the settings `current`; `None`: there
/// is none. The version is left as it is. `Ok(None)`: it is deleted. Not for [`Change::Rollback`].
///
/// # Errors
/// Why it is refused.
pub fn apply(
    current: Option<&Cluster>,
    name: &str,
    change: &Change,
    around: &Surroundings<'_>,
) -> Result<Option<Cluster>, Refusal> {
    if current.is_some_and(|current| current.balance == Balance::Nginx) {
        return Err(Refusal::BalancedByNginx);
    }
    let mut after = match change {
        Change::Put(draft) => put(current, name, draft, around)?,
        _ => current.cloned().ok_or(Refusal::ClusterNotFound)?,
    };
    match change {
        Change::Put(_) => {}
        Change::Delete => return Ok(None),
        Change::Rollback(_) => return Err(Refusal::Internal),
        Change::AddServer { level, draft } => {
            let place = place_to_add(&mut after, level, draft)?;
            let server = server::whole(draft, around)?;
            let level = after.levels.get_mut(place).ok_or(Refusal::LevelNotFound)?;
            if level.servers.iter().any(|other| is_same(other, &server)) {
                return Err(Refusal::ServerExists);
            }
            level.servers.push(server);
        }
        Change::PatchServer { which: Which::Address { server, level }, draft } => {
            refuse_address(server, draft)?;
            let place = place_of_server(&after, server, level.as_deref())?;
            let servers = after.levels[place].servers.iter_mut();
            for found in servers.filter(|other| is_called(other, server)) {
                server::patch(found, draft, around)?;
            }
        }
        Change::PatchServer { which: Which::Id { id, is_backup }, draft } => {
            let (level, place) = place_of_id(&after, *id)?;
            let servers = &mut after.levels[level].servers;
            if is_backup.is_some_and(|is_backup| is_backup != (level > 0)) {
                return Err(invalid("\"backup\" of a server cannot be changed"));
            }
            if draft.service.is_some() && draft.service != servers[place].service {
                return Err(invalid("\"service\" of a server cannot be changed"));
            }
            if let Some(text) = &draft.server {
                replace_address(servers, place, text, around)?;
            }
            server::patch(&mut servers[place], draft, around)?;
        }
        Change::DeleteServer(Which::Address { server, level }) => {
            let place = place_of_server(&after, server, level.as_deref())?;
            let servers = &mut after.levels[place].servers;
            servers.retain(|other| !is_called(other, server));
            if servers.is_empty() {
                return Err(Refusal::LastServer);
            }
        }
        Change::DeleteServer(Which::Id { id, .. }) => {
            let (level, place) = place_of_id(&after, *id)?;
            after.levels[level].servers.remove(place);
            let is_spare = |level: &Level| level.servers.is_empty() && level.name.is_none();
            while after.levels.len() > 1 && after.levels.last().is_some_and(is_spare) {
                after.levels.pop();
            }
        }
    }
    check(&after)?;
    Ok(Some(after))
}

/// Where a server is added.
fn place_to_add(
    cluster: &mut Cluster,
    level: &Target,
    draft: &ServerDraft,
) -> Result<usize, Refusal> {
    let of_body = match &draft.level {
        None => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) => return Err(invalid("\"level\" must be the name or number of a level")),
    };
    let named = match level {
        Target::First => of_body.as_ref(),
        Target::Level(level) => Some(level),
        Target::Backup => {
            cluster.levels.resize_with(cluster.levels.len().max(2), Level::default);
            return Ok(1);
        }
    };
    named.map_or(Ok(0), |level| place_of(cluster, level).ok_or(Refusal::LevelNotFound))
}

/// Gives a server of a level another address, unless it has that.
fn replace_address(
    servers: &mut [Server],
    place: usize,
    text: &str,
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    let mut server = servers[place].clone();
    // A name with a service has no port; clients add that which is meant where there is none.
    let bare = text.strip_suffix(":80").filter(|_| server.service.is_some());
    if is_called(&server, text) || bare.is_some_and(|name| is_called(&server, name)) {
        return Ok(());
    }
    if server.resolve {
        return Err(Refusal::AddressImmutable);
    }
    server::readdress(&mut server, text, around)?;
    if server.server != servers[place].server {
        if servers.iter().any(|other| is_same(other, &server)) {
            return Err(Refusal::ServerExists);
        }
        servers[place] = server;
    }
    Ok(())
}

/// The level and the place in it of the server of this number.
fn place_of_id(cluster: &Cluster, id: u32) -> Result<(usize, usize), Refusal> {
    let mut levels = cluster.levels.iter().enumerate();
    let found = levels.find_map(|(level, it)| {
        let place = it.servers.iter().position(|server| server.id == Some(id))?;
        Some((level, place))
    });
    found.ok_or(Refusal::ServerNotFound)
}

/// Numbers the servers that have no number yet, from `next` on, and returns the one behind the last.
/// Of two with one number the first has it.
pub fn number_servers(cluster: &mut Cluster, mut next: u32) -> u32 {
    let mut taken = HashSet::new();
    for server in cluster.levels.iter_mut().flat_map(|level| &mut level.servers) {
        if server.id.is_none_or(|id| !taken.insert(id)) {
            server.id = Some(next);
            next += 1;
        }
    }
    next
}

/// A check that is kept by its parameters.
pub(super) fn restore_check(
    object: &serde_json::Map<String, Value>,
    cluster: &str,
    around: &Surroundings<'_>,
) -> Result<Check, Refusal> {
    checks::given(object, cluster, around)
}

/// The address of a server cannot be changed.
fn refuse_address(server: &str, draft: &ServerDraft) -> Result<(), Refusal> {
    let is_other = draft.server.as_deref().is_some_and(|other| other != server);
    if is_other || draft.service.is_some() || draft.resolve.is_some() || draft.level.is_some() {
        return Err(invalid(
            "\"server\", \"service\", \"resolve\" and \"level\" of a server cannot be changed",
        ));
    }
    Ok(())
}

fn is_called(server: &Server, text: &str) -> bool {
    server.server == text
}

fn is_same(server: &Server, other: &Server) -> bool {
    (&server.server, &server.service) == (&other.server, &other.service)
}

/// The place of the level of this name, or else of this number.
fn place_of(cluster: &Cluster, level: &str) -> Option<usize> {
    let named = cluster.levels.iter().position(|found| found.name.as_deref() == Some(level));
    let numbered = || {
        let number: usize = level.parse().ok()?;
        number.checked_sub(1).filter(|place| *place < cluster.levels.len())
    };
    named.or_else(numbered)
}

/// The place of the level that has a server.
fn place_of_server(cluster: &Cluster, server: &str, level: Option<&str>) -> Result<usize, Refusal> {
    let has =
        |place: &usize| cluster.levels[*place].servers.iter().any(|other| is_called(other, server));
    if let Some(level) = level {
        let place = place_of(cluster, level).ok_or(Refusal::LevelNotFound)?;
        return Some(place).filter(has).ok_or(Refusal::ServerNotFound);
    }
    let mut places = (0..cluster.levels.len()).filter(has);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(Refusal::ServerAmbiguous),
        (None, _) => Err(Refusal::ServerNotFound),
    }
}

impl Cluster {
    /// A cluster of this name without any servers, as it is where nothing is said.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 0,
            balance: Balance::RoundRobin,
            order: None,
            protected: Protected::All,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            fail_status: Statuses::default(),
            levels: Vec::new(),
            checks: Vec::new(),
        }
    }
}

fn put(
    current: Option<&Cluster>,
    name: &str,
    draft: &ClusterDraft,
    around: &Surroundings<'_>,
) -> Result<Cluster, Refusal> {
    if draft.name.as_ref().is_some_and(|other| other != name) {
        return Err(invalid(format!("\"name\" must be {name:?}, as in the path")));
    }
    let configured = around.configured;
    let mut after = current.cloned().unwrap_or_else(|| Cluster {
        order: configured.and_then(|configured| configured.order.clone()),
        ..Cluster::empty(name)
    });
    if let Some(text) = &draft.balance {
        after.balance = match text {
            Some(text) => balance(text, current, around)?,
            None => Balance::RoundRobin,
        };
    }
    if let Some(order) = &draft.order {
        if *order != after.order {
            return Err(invalid("\"order\" is set by checkups_order in the configuration only"));
        }
    }
    if let Some(text) = &draft.protected {
        let word = format!("protected={}", text.as_deref().unwrap_or("all"));
        after.protected = Word::new(word.as_bytes())
            .one_of(&directive::PROTECTED, "all, one or off")
            .map_err(invalid)?;
    }
    limits(&mut after.limits, &draft.tries, &draft.tries_timeout)?;
    let Timeouts { connect, send, read } = &mut after.timeouts;
    for (name, place, given) in [
        ("connect_timeout", connect, &draft.connect_timeout),
        ("send_timeout", send, &draft.send_timeout),
        ("read_timeout", read, &draft.read_timeout),
    ] {
        if let Some(text) = given {
            *place = at_least_a_moment(name, text.as_deref())?;
        }
    }
    if let Some(words) = &draft.fail_status {
        let words: Vec<&[u8]> = words.iter().flatten().map(String::as_bytes).collect();
        after.fail_status = directive::fail_status(&words).map_err(invalid)?;
    }
    let levels = match (&draft.levels, &draft.cluster) {
        (Some(levels), None) => Some(levels.iter().map(|level| level.0.clone()).collect()),
        (None, Some(original)) => Some(of_original(original)),
        (Some(_), Some(_)) => return Err(invalid("\"levels\" and \"cluster\" mean the same")),
        (None, None) if current.is_none() => {
            return Err(invalid("a new cluster needs \"levels\" with servers"));
        }
        (None, None) => None,
    };
    if let Some(levels) = levels {
        after.levels = self::levels(&levels, current, around)?;
    }
    if let Some(values) = &draft.checks {
        let values = values.as_deref().unwrap_or_default();
        after.checks = checks::checks(values, name, current, around)?;
    }
    Ok(after)
}

/// What must hold of a cluster as a whole.
fn check(cluster: &Cluster) -> Result<(), Refusal> {
    let servers: usize = cluster.levels.iter().map(|level| level.servers.len()).sum();
    if servers > MAX_SERVERS {
        return Err(invalid(format!("a cluster has at most {MAX_SERVERS} servers")));
    }
    if let Some(sum) = too_much_for_ring(&cluster.balance, &cluster.levels) {
        return Err(invalid(format!(
            "the weights of a level add up to {sum}, with a hash they may to {MOST_ON_RING}"
        )));
    }
    if !finds_level(cluster.order.as_deref(), &cluster.levels) {
        return Err(invalid("checkups_order of the configuration names none of the levels"));
    }
    Ok(())
}

/// The most that the weights of a level may add up to where a ring is made of them: each unit has 160
/// points of 8 bytes in every worker.
pub const MOST_ON_RING: u64 = 20_000;

/// What the weights of a level add up to, where that is too much for a ring.
pub fn too_much_for_ring(balance: &Balance, levels: &[Level]) -> Option<u64> {
    let weight = |level: &Level| level.servers.iter().map(|server| u64::from(server.weight)).sum();
    let most: u64 = levels.iter().map(weight).max().unwrap_or(0);
    (balance.method() == Balancing::Hash && most > MOST_ON_RING).then_some(most)
}

/// Whether an order finds a level. One without variables that names none would leave no server to any
/// request.
pub fn finds_level(order: Option<&str>, levels: &[Level]) -> bool {
    let Some(text) = order.filter(|text| !text.contains('$')) else { return true };
    let name = |number: usize| levels[number].name.as_deref();
    order::levels(text.as_bytes(), levels.len(), name).is_none_or(|found| !found.is_empty())
}

fn balance(
    text: &str,
    current: Option<&Cluster>,
    around: &Surroundings<'_>,
) -> Result<Balance, Refusal> {
    let known = current.into_iter().chain(around.configured);
    for balance in known.map(|cluster| &cluster.balance) {
        if *balance != Balance::Nginx && balance.to_string() == text {
            return Ok(balance.clone());
        }
    }
    let words: Vec<&[u8]> = text.splitn(2, ' ').map(str::as_bytes).collect();
    let words = if words.first() == Some(&&b"random"[..]) {
        text.split(' ').map(str::as_bytes).collect()
    } else {
        words
    };
    let balance = directive::balance(&words).map_err(invalid)?;
    let Balance::Hash(key) = &balance else { return Ok(balance) };
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let variable = key
        .strip_prefix('$')
        .filter(|name| (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_fit));
    match variable {
        Some(name) if (around.is_variable)(name) => Ok(balance),
        Some(name) => Err(invalid(format!("\"balance\": there is no variable \"${name}\""))),
        None => {
            Err(invalid("\"balance\": the key of a hash must be one variable, as $request_uri"))
        }
    }
}

fn limits(
    limits: &mut Limits,
    tries: &Given<Number>,
    timeout: &Given<String>,
) -> Result<(), Refusal> {
    if let Some(tries) = tries {
        let tries = tries.as_ref().map(|tries| number("tries", tries, 1, MOST));
        limits.tries = tries.transpose()?;
    }
    if let Some(text) = timeout {
        limits.tries_timeout = at_least_a_moment("tries_timeout", text.as_deref())?;
    }
    Ok(())
}

fn at_least_a_moment(name: &'static str, text: Option<&str>) -> Result<Option<Time>, Refusal> {
    text.map(|text| time(name, text, Time::milliseconds(1))).transpose()
}

fn of_original(original: &OriginalLevels) -> Vec<LevelDraft> {
    let level = |name: Option<&String>, level: &OriginalLevel| LevelDraft {
        name: name.cloned(),
        servers: level.servers.iter().map(|server| Object(server.draft())).collect(),
        ..LevelDraft::default()
    };
    match original {
        OriginalLevels::InOrder(levels) => levels.iter().map(|it| level(None, it)).collect(),
        OriginalLevels::ByName(levels) => {
            levels.iter().map(|(name, it)| level(Some(name), it)).collect()
        }
    }
}

fn levels(
    drafts: &[LevelDraft],
    current: Option<&Cluster>,
    around: &Surroundings<'_>,
) -> Result<Vec<Level>, Refusal> {
    if drafts.is_empty() {
        return Err(invalid("a cluster needs a level with servers"));
    }
    if drafts.len() > MAX_LEVELS {
        return Err(invalid(format!("a cluster has at most {MAX_LEVELS} levels")));
    }
    let known = Known::of(current);
    let mut names = HashSet::new();
    let mut levels: Vec<Level> = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        let shown = draft.name.clone().unwrap_or_else(|| (place + 1).to_string());
        if let Some(name) = &draft.name {
            if !is_level_name(name) {
                return Err(Refusal::NameInvalid);
            }
            if !names.insert(name) {
                return Err(invalid(format!("level {name:?} is there twice")));
            }
        }
        let draft_name = draft.name.as_deref();
        if draft.servers.is_empty() && !known.has_empty(draft_name, place) {
            return Err(invalid(format!("level {shown:?} has no servers")));
        }
        let mut level = Level { name: draft.name.clone(), ..Level::default() };
        let (tries, timeout) = (Some(draft.tries.clone()), Some(draft.tries_timeout.clone()));
        limits(&mut level.limits, &tries, &timeout)?;
        let mut seen: HashMap<_, usize> = HashMap::new();
        for draft in &draft.servers {
            if draft.0.level.is_some() {
                return Err(invalid("unknown field \"level\" of a server"));
            }
            let mut server = server::whole(&draft.0, around)?;
            // A configuration may have it more than once, and what GET shows of it is taken.
            let times = seen.entry((server.server.clone(), server.service.clone())).or_insert(0);
            *times += 1;
            if *times > known.times(draft_name, place, &server).max(1) {
                let text = &server.server;
                return Err(invalid(format!("server {text:?} is twice in level {shown:?}")));
            }
            let stays = known.in_level(draft_name, place, &server, *times - 1);
            if let Some(before) = stays.or_else(|| known.anywhere(&server).next()) {
                server.written.clone_from(&before.written);
                server.addresses.clone_from(&before.addresses);
                if server.route == before.route {
                    server.sticky.clone_from(&before.sticky);
                }
            }
            level.servers.push(server);
        }
        levels.push(level);
    }
    keep_numbers(&known, &mut levels);
    Ok(levels)
}

/// Has the servers that were there before keep their numbers.
pub fn renumber(before: &Cluster, after: &mut Cluster) {
    keep_numbers(&Known::of(Some(before)), &mut after.levels);
}

fn keep_numbers(known: &Known<'_>, levels: &mut [Level]) {
    let (mut taken, mut others) = (HashSet::new(), Vec::new());
    for (place, level) in levels.iter_mut().enumerate() {
        let mut seen: HashMap<_, usize> = HashMap::new();
        for (index, server) in level.servers.iter_mut().enumerate() {
            let nth = seen.entry((server.server.clone(), server.service.clone())).or_default();
            let before = known.in_level(level.name.as_deref(), place, server, *nth);
            *nth += 1;
            server.id = before.and_then(|before| before.id);
            match server.id {
                Some(id) => drop(taken.insert(id)),
                None => others.push((place, index)),
            }
        }
    }
    // To another level it goes only where the server is not in its own any more.
    for (place, index) in others {
        let server = &mut levels[place].servers[index];
        let id = known.anywhere(server).filter_map(|before| before.id).find(|id| taken.insert(*id));
        server.id = id;
    }
}

/// What a server is known by: the name of its level, or else the place of that, and what is written.
type ServerKey<'a> = (Option<&'a str>, usize, &'a str, Option<&'a str>);

/// The servers that a cluster had.
struct Known<'a> {
    by_level: HashMap<ServerKey<'a>, Vec<&'a Server>>,
    anywhere: HashMap<(&'a str, Option<&'a str>), Vec<&'a Server>>,
    levels: &'a [Level],
}

impl<'a> Known<'a> {
    fn of(current: Option<&'a Cluster>) -> Self {
        let mut by_level: HashMap<_, Vec<_>> = HashMap::new();
        let mut anywhere: HashMap<_, Vec<_>> = HashMap::new();
        let levels = current.map_or(&[][..], |current| &current.levels);
        for (place, level) in levels.iter().enumerate() {
            for server in &level.servers {
                let key = Self::key(level.name.as_deref(), place, server);
                by_level.entry(key).or_default().push(server);
                anywhere.entry((key.2, key.3)).or_default().push(server);
            }
        }
        Self { by_level, anywhere, levels }
    }

    fn key<'b>(level: Option<&'b str>, place: usize, server: &'b Server) -> ServerKey<'b> {
        let place = if level.is_some() { 0 } else { place };
        (level, place, &server.server, server.service.as_deref())
    }

    /// How often its level had it.
    fn times(&self, level: Option<&str>, place: usize, server: &Server) -> usize {
        self.by_level.get(&Self::key(level, place, server)).map_or(0, Vec::len)
    }

    /// The same server in its level, of several this one.
    fn in_level(
        &self,
        level: Option<&str>,
        place: usize,
        server: &Server,
        nth: usize,
    ) -> Option<&'a Server> {
        self.by_level.get(&Self::key(level, place, server))?.get(nth).copied()
    }

    /// The same server in any level.
    fn anywhere<'b>(&'b self, server: &'b Server) -> impl Iterator<Item = &'a Server> + 'b {
        let found = self.anywhere.get(&(server.server.as_str(), server.service.as_deref()));
        found.into_iter().flatten().copied()
    }

    /// Whether the level is there, and has no servers.
    fn has_empty(&self, name: Option<&str>, place: usize) -> bool {
        let mut levels = self.levels.iter().enumerate();
        let is_it = |(number, level): (usize, &Level)| match name {
            Some(_) => level.name.as_deref() == name,
            None => level.name.is_none() && number == place,
        };
        levels.any(|it| is_it(it) && it.1.servers.is_empty())
    }
}

/// A server, with the level that it is in.
#[derive(Debug, Serialize)]
pub struct OfLevel<'a> {
    level: Value,
    #[serde(flatten)]
    server: &'a Server,
}

/// The servers of a cluster, level by level.
pub fn servers(cluster: &Cluster) -> Vec<OfLevel<'_>> {
    cluster.levels.iter().enumerate().flat_map(|(place, level)| of(place, level)).collect()
}

fn of(place: usize, level: &Level) -> impl Iterator<Item = OfLevel<'_>> {
    let shown = level.name.clone().map_or_else(|| Value::from(place + 1), Value::from);
    level.servers.iter().map(move |server| OfLevel { level: shown.clone(), server })
}

/// The server of this address, in this level where it is said.
///
/// # Errors
/// Where there is none, and where several levels have it.
pub fn server<'a>(
    cluster: &'a Cluster,
    server: &str,
    level: Option<&str>,
) -> Result<OfLevel<'a>, Refusal> {
    let place = place_of_server(cluster, server, level)?;
    let mut servers = of(place, &cluster.levels[place]);
    servers.find(|found| is_called(found.server, server)).ok_or(Refusal::ServerNotFound)
}

/// The answer to a change.
#[derive(Debug, Serialize)]
pub struct Reply<'a> {
    /// The name of the cluster.
    pub name: &'a str,
    /// The version that it has now; where nothing was changed, what it had.
    pub version: u64,
    /// Whether nothing was changed, as it was only to be shown what would be different.
    #[serde(rename = "dry_run", skip_serializing_if = "is_false")]
    pub is_dry_run: bool,
    /// What is different.
    pub difference: &'a [Difference],
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
