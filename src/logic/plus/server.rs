//! A server as it is shown among the servers of an upstream: what the operator says of it.

use serde::Serialize;

use crate::logic::settings::{Server, Time};

/// A server, with all that is said of it, also where it is as usual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    id: u32,
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    weight: u32,
    max_conns: u32,
    max_fails: u32,
    fail_timeout: Time,
    slow_start: Time,
    route: String,
    backup: bool,
    down: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    drain: bool,
    /// The number of the name that the address was found by.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// That name.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl Shown {
    /// A server of the level at this place. `None`: it has no number yet.
    pub fn new(server: &Server, level: usize) -> Option<Self> {
        Some(Self {
            id: server.id?,
            server: server.server.clone(),
            service: server.service.clone(),
            weight: server.weight,
            max_conns: server.max_conns,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout,
            slow_start: server.slow_start,
            route: server.route.clone(),
            backup: level > 0,
            down: server.down,
            drain: server.drain,
            parent: None,
            host: None,
        })
    }

    /// The number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it has this number, or was found by the name that has it.
    pub fn belongs_to(&self, id: u32) -> bool {
        self.id == id || self.parent.as_ref().is_some_and(|parent| *parent == id.to_string())
    }

    /// Where this is a name, an address that was found by it, which has this number.
    pub fn address(&self, id: u32, address: &str) -> Self {
        Self {
            id,
            server: address.to_owned(),
            parent: Some(self.id.to_string()),
            host: Some(self.server.clone()),
            ..self.clone()
        }
    }

    /// The same of an address that nginx has found by this name.
    pub fn found_by(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let mut server = Server::new("10.0.0.1:80");
        assert_eq!(Shown::new(&server, 0), None);
        server.id = Some(3);
        let shown = |shown: Option<Shown>| serde_json::to_string(&shown.unwrap()).unwrap();
        assert_eq!(
            shown(Shown::new(&server, 0)),
            "{\"id\":3,\"server\":\"10.0.0.1:80\",\"weight\":1,\"max_conns\":0,\"max_fails\":1,\
             \"fail_timeout\":\"10s\",\"slow_start\":\"0s\",\"route\":\"\",\"backup\":false,\
             \"down\":false}"
        );
        server.drain = true;
        server.service = Some("http".to_owned());
        let name = Shown::new(&server, 1).unwrap();
        assert_eq!(
            shown(Some(name.address(4, "10.0.0.2:80"))),
            "{\"id\":4,\"server\":\"10.0.0.2:80\",\"service\":\"http\",\"weight\":1,\
             \"max_conns\":0,\"max_fails\":1,\"fail_timeout\":\"10s\",\"slow_start\":\"0s\",\
             \"route\":\"\",\"backup\":true,\"down\":false,\"drain\":true,\"parent\":\"3\",\
             \"host\":\"10.0.0.1:80\"}"
        );
    }
}
