//! The errors: what checkups refuses, in the words of the API of NGINX Plus.

use crate::logic::api::{self, Method, Problem};

/// Where the errors are described.
const HREF: &str = "https://nginx.org/en/docs/http/ngx_http_api_module.html";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For a reason that there is without this API as well; a request of this method, where it matters.
    Of(api::Refusal, Option<Method>),
    /// This version is not served.
    UnknownVersion,
    /// There is nothing of this kind: the code and the text.
    NotFound(&'static str, &'static str),
    /// The number of a server is none.
    ServerIdInvalid,
    /// There is no server of this number.
    ServerNotFound(u32),
    /// The server of this number is an address that was found by a name.
    ServerImmutable(u32),
    /// The body is no JSON, for this reason.
    NoJson(String),
    /// The body has not the form that is wanted, for this reason.
    FormatInvalid(String),
}

impl From<api::Refusal> for Refusal {
    fn from(refusal: api::Refusal) -> Self {
        Self::Of(refusal, None)
    }
}

impl Refusal {
    /// The answer to it.
    pub fn problem(&self) -> Problem {
        let (status, code, text) = match self {
            Self::Of(refusal, method) => return of(refusal, *method),
            Self::UnknownVersion => (404, "UnknownVersion", "unknown version".to_owned()),
            Self::NotFound(code, text) => (404, *code, (*text).to_owned()),
            Self::ServerIdInvalid => (400, "UpstreamBadServerId", "invalid server ID".to_owned()),
            Self::ServerNotFound(id) => {
                (404, "UpstreamServerNotFound", format!("server with ID \"{id}\" does not exist"))
            }
            Self::ServerImmutable(id) => (
                400,
                "UpstreamServerImmutable",
                format!("server \"{id}\" is immutable, it was found by a name"),
            ),
            Self::NoJson(text) => (415, "JsonError", text.clone()),
            Self::FormatInvalid(text) => (400, "UpstreamConfFormatError", text.clone()),
        };
        Problem { status, code, text, href: HREF }
    }
}

fn of(refusal: &api::Refusal, method: Option<Method>) -> Problem {
    use api::Refusal as Own;
    let (status, code, text) = match refusal {
        Own::ClusterNotFound | Own::NameInvalid => {
            (404, "UpstreamNotFound", Some("upstream not found"))
        }
        Own::BalancedByNginx => (400, "UpstreamStatic", Some("upstream is static")),
        Own::FollowsNginx if method == Some(Method::Post) => (400, "UpstreamStatic", None),
        Own::FollowsNginx | Own::AddressImmutable => (400, "UpstreamServerImmutable", None),
        Own::ServerExists => (409, "EntryExists", Some("the upstream has this server already")),
        Own::NoResolver => (400, "UpstreamConfNoResolver", None),
        Own::NameUnresolved(_) => (400, "UpstreamBadAddress", None),
        Own::ZoneFull => (400, "UpstreamOutOfMemory", None),
        Own::BodyInvalid(_) => (400, "UpstreamConfFormatError", None),
        Own::MemberInvalid(member, _) => (400, of_member(member), None),
        other => {
            let problem = other.problem();
            (problem.status, problem.code, None)
        }
    };
    let text = text.map_or_else(|| refusal.problem().text, str::to_owned);
    Problem { status, code, text, href: HREF }
}

/// The code for a wrong value of a member.
fn of_member(member: &str) -> &'static str {
    match member {
        "server" => "UpstreamBadAddress",
        "weight" => "UpstreamBadWeight",
        "max_conns" => "UpstreamBadMaxConns",
        "max_fails" => "UpstreamBadMaxFails",
        "fail_timeout" => "UpstreamBadFailTimeout",
        "slow_start" => "UpstreamBadSlowStart",
        "route" => "UpstreamBadRoute",
        "service" => "UpstreamBadService",
        _ => "UpstreamConfFormatError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Refusal as Own;

    #[test]
    fn codes() {
        let member = |name| Own::MemberInvalid(name, "x".to_owned());
        for (refusal, status, code) in [
            (Own::PathNotFound, 404, "PathNotFound"),
            (Own::ClusterNotFound, 404, "UpstreamNotFound"),
            (Own::NameInvalid, 404, "UpstreamNotFound"),
            (Own::MethodDisabled, 405, "MethodDisabled"),
            (Own::BalancedByNginx, 400, "UpstreamStatic"),
            (Own::ServerExists, 409, "EntryExists"),
            (Own::BodyTooLarge, 413, "BodyTooLarge"),
            (Own::NoResolver, 400, "UpstreamConfNoResolver"),
            (Own::ZoneFull, 400, "UpstreamOutOfMemory"),
            (Own::TryAgain("x"), 503, "TryAgain"),
            (Own::StateNotKept("x".to_owned()), 507, "StateNotKept"),
            (member("server"), 400, "UpstreamBadAddress"),
            (member("weight"), 400, "UpstreamBadWeight"),
            (member("max_conns"), 400, "UpstreamBadMaxConns"),
            (member("max_fails"), 400, "UpstreamBadMaxFails"),
            (member("fail_timeout"), 400, "UpstreamBadFailTimeout"),
            (member("slow_start"), 400, "UpstreamBadSlowStart"),
            (member("route"), 400, "UpstreamBadRoute"),
            (member("service"), 400, "UpstreamBadService"),
        ] {
            let problem = Refusal::from(refusal).problem();
            assert_eq!((problem.status, problem.code), (status, code));
            assert!(!problem.text.is_empty() && problem.href == HREF);
        }
        for (method, code) in
            [(Method::Post, "UpstreamStatic"), (Method::Patch, "UpstreamServerImmutable")]
        {
            assert_eq!(Refusal::Of(Own::FollowsNginx, Some(method)).problem().code, code);
        }
    }

    #[test]
    fn texts() {
        let text = |refusal: Refusal| refusal.problem().text;
        assert_eq!(text(Own::ClusterNotFound.into()), "upstream not found");
        assert_eq!(text(Refusal::ServerNotFound(7)), "server with ID \"7\" does not exist");
        assert_eq!(text(Refusal::FormatInvalid("a".to_owned())), "a");
    }
}
