//! A server as a change gives it.

use std::net::SocketAddr;

use super::draft::ServerDraft;
use super::{invalid, number, of_member, time, Surroundings, MOST};
use crate::logic::api::Refusal;
use crate::logic::directive::Word;
use crate::logic::settings::{Server, ServerCheck, Time};

/// The most bytes of the path of a unix socket: there is a zero behind it.
const MAX_PATH: usize = 107;

/// The most bytes of a route, as in NGINX Plus.
const MAX_ROUTE: usize = 32;

/// The most bytes of a host name.
const MAX_HOST: usize = 253;

/// What a server is known by.
struct Address {
    text: String,
    is_name: bool,
}

impl Server {
    /// A server as nginx has it where nothing is said but the address.
    pub fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            weight: 1,
            max_fails: 1,
            fail_timeout: Time::seconds(10),
            max_conns: 0,
            slow_start: Time::seconds(0),
            down: false,
            drain: false,
            resolve: false,
            service: None,
            check: ServerCheck::default(),
            route: String::new(),
            written: server.to_owned(),
            sticky: String::new(),
            addresses: Vec::new(),
            id: None,
        }
    }
}

/// A server that a change gives wholly.
pub(super) fn whole(draft: &ServerDraft, around: &Surroundings<'_>) -> Result<Server, Refusal> {
    let text = draft.server.as_deref().ok_or_else(|| invalid("a server needs \"server\""))?;
    let address = address(text, draft.service.is_some())?;
    if address.is_name && !around.has_resolver {
        return Err(Refusal::NoResolver);
    }
    if draft.resolve == Some(true) && !address.is_name {
        return Err(invalid(format!("server \"{text}\": \"resolve\" is for names")));
    }
    if draft.resolve == Some(false) && address.is_name {
        return Err(invalid(format!("server \"{text}\": a name is looked up again and again")));
    }
    if draft.service.is_some() && !address.is_name {
        return Err(of_member("server", format!("server \"{text}\": \"service\" is for names")));
    }
    let mut server = Server::new(&address.text);
    server.resolve = address.is_name;
    server.service = draft.service.as_deref().map(service).transpose()?;
    patch(&mut server, draft, around)?;
    server.sticky = sticky(&server, around);
    Ok(server)
}

/// By what clients that stick to a server name it, where they do.
fn sticky(server: &Server, around: &Surroundings<'_>) -> String {
    if !around.has_sticky {
        String::new()
    } else if server.route.is_empty() {
        format!("{:x}", md5::compute(&server.server))
    } else {
        server.route.clone()
    }
}

/// Gives a server another address; it may be none that is a name.
pub(super) fn readdress(
    server: &mut Server,
    text: &str,
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    let address = address(text, false)?;
    if address.is_name {
        return Err(of_member("server", format!("server {text:?}: a name cannot take its place")));
    }
    server.written.clone_from(&address.text);
    server.server = address.text;
    server.sticky = sticky(server, around);
    Ok(())
}

/// Changes what a draft says of a server, but for its address.
pub(super) fn patch(
    server: &mut Server,
    draft: &ServerDraft,
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    if let Some(route) = &draft.route {
        if route.len() > MAX_ROUTE || route.chars().any(char::is_control) {
            let sentence = format!("\"route\" is at most {MAX_ROUTE} bytes, none of them control");
            return Err(of_member("route", sentence));
        }
        server.route.clone_from(route);
        server.sticky = sticky(server, around);
    }
    if let Some(weight) = &draft.weight {
        server.weight = number("weight", weight, 1, MOST)?;
    }
    if let Some(most) = &draft.max_conns {
        server.max_conns = number("max_conns", most, 0, MOST)?;
    }
    if let Some(most) = &draft.max_fails {
        server.max_fails = number("max_fails", most, 0, MOST)?;
    }
    if let Some(text) = &draft.fail_timeout {
        server.fail_timeout = time("fail_timeout", text, Time::seconds(0))?;
    }
    if let Some(text) = &draft.slow_start {
        server.slow_start = time("slow_start", text, Time::seconds(0))?;
    }
    server.down = draft.down.unwrap_or(server.down);
    server.drain = draft.drain.unwrap_or(server.drain);
    server.check.is_on = draft.check.unwrap_or(server.check.is_on);
    if let Some(port) = &draft.check_port {
        let port = port.as_ref().map(|port| number("check_port", port, 1, u16::MAX.into()));
        server.check.port = port.transpose()?.map(|port| port as u16);
    }
    if let Some(host) = &draft.check_host {
        let host = host.as_ref().map(|host| {
            let word = format!("check_host={host}");
            Word::new(word.as_bytes()).host().map_err(invalid)
        });
        server.check.host = host.transpose()?;
    }
    Ok(())
}

/// Whether a text looks like a name.
pub(super) fn may_be_name(text: &str) -> bool {
    !text.starts_with("unix:") && text.parse::<SocketAddr>().is_err()
}

/// The address or name that a text is, as it is written here.
fn address(text: &str, has_service: bool) -> Result<Address, Refusal> {
    let wrong = |what: &str| {
        let shown: String = text.chars().take(100).collect();
        of_member("server", format!("server {shown:?}: {what}"))
    };
    let fixed = |text: String| Ok(Address { text, is_name: false });
    if let Some(path) = text.strip_prefix("unix:") {
        let is_fit = path.starts_with('/')
            && path.len() <= MAX_PATH
            && !path.contains(|c: char| c.is_control() || c == ':');
        return if is_fit {
            fixed(text.to_owned())
        } else {
            Err(wrong("behind \"unix:\" there must be a path of at most 107 bytes"))
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let is_scoped = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
        return match address.port() {
            0 => Err(wrong("the port must be from 1 to 65535")),
            _ if is_scoped => Err(wrong("an address has no zone")),
            _ => fixed(address.to_string()),
        };
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=MAX_HOST).contains(&host.len())
        && host.bytes().all(is_fit)
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !host.starts_with(['.', '-'])
        && !host.contains("..");
    match port {
        None if has_service && is_name => Ok(Address { text: text.to_owned(), is_name: true }),
        None => Err(wrong("it has no port")),
        Some(port) => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || port.parse::<u16>().map_or(true, |port| port == 0) {
                Err(wrong("the port must be from 1 to 65535"))
            } else if has_service {
                Err(wrong("with \"service\" there is no port"))
            } else if is_name {
                let port = port.trim_start_matches('0');
                Ok(Address { text: format!("{host}:{port}"), is_name: true })
            } else {
                Err(wrong("it is neither an address nor a name"))
            }
        }
    }
}

fn service(text: &str) -> Result<String, Refusal> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(is_fit) {
        Ok(text.to_owned())
    } else {
        let sentence = "\"service\" must be the name of a service, for example http";
        Err(of_member("service", sentence))
    }
}
