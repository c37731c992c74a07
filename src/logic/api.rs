//! What the API is asked and what it answers, without the HTTP around it.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Serialize};

/// The largest body that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// The longest sentence on what is wrong with a body, in bytes.
pub const MAX_SENTENCE: usize = 400;

/// What is at a path below the location of `checkups_api`.
#[derive(Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The list of what there is.
    Root,
    /// The state of everything.
    Status,
    /// All clusters.
    Clusters,
    /// The cluster of this name.
    Cluster(&'a str),
    /// Its servers.
    Servers(&'a str),
    /// One of its servers.
    Server {
        /// The name of the cluster.
        cluster: &'a str,
        /// The address of the server.
        server: &'a str,
    },
    /// Earlier settings of it, to be taken up again.
    Rollback(&'a str),
    /// The selection of a server of the cluster of this name.
    Select(&'a str),
    /// What somebody who used a server has to say of it.
    Feedback {
        /// The name of the cluster.
        cluster: &'a str,
        /// The address of the server.
        server: &'a str,
    },
}

impl<'a> Resource<'a> {
    /// The resource at a path of these [`segments`]. `None`: nothing is there.
    pub fn at(segments: &'a [String]) -> Option<Self> {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if segments.contains(&"") {
            return None;
        }
        match segments[..] {
            [] => Some(Self::Root),
            ["status"] => Some(Self::Status),
            ["clusters"] => Some(Self::Clusters),
            ["clusters", name] => Some(Self::Cluster(name)),
            ["clusters", name, "select"] => Some(Self::Select(name)),
            ["clusters", name, "rollback"] => Some(Self::Rollback(name)),
            ["clusters", name, "servers"] => Some(Self::Servers(name)),
            ["clusters", cluster, "servers", server] => Some(Self::Server { cluster, server }),
            ["clusters", cluster, "servers", server, "feedback"] => {
                Some(Self::Feedback { cluster, server })
            }
            _ => None,
        }
    }

    /// The methods that it serves, as the header `Allow` has them.
    pub fn allow(&self) -> &'static str {
        match self {
            Self::Feedback { .. } | Self::Rollback(_) => "POST",
            Self::Cluster(_) => "GET, HEAD, PUT, DELETE",
            Self::Servers(_) => "GET, HEAD, POST",
            Self::Server { .. } => "GET, HEAD, PATCH, DELETE",
            Self::Root | Self::Status | Self::Clusters | Self::Select(_) => "GET, HEAD",
        }
    }
}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether it changes nothing.
    pub fn reads(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }

    /// Whether there is a body that counts.
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// The arguments of what reads or changes settings. Of several of one name the first counts, and
/// others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `dry_run`: whether it is only to be shown what would change.
    pub is_dry_run: bool,
    /// `level`: the name or the number of the level that is meant.
    pub level: Option<String>,
}

impl Arguments {
    /// Parses the arguments, decoded as those of a form.
    ///
    /// # Errors
    /// [`Refusal::ArgumentInvalid`]
    pub fn parse(args: &[u8]) -> Result<Self, Refusal> {
        let invalid = |sentence: &str| Refusal::ArgumentInvalid(sentence.to_owned());
        let is_dry_run = match argument(args, b"dry_run").as_deref() {
            None | Some(b"0") => false,
            Some(b"1") => true,
            Some(_) => return Err(invalid("\"dry_run\" must be 0 or 1")),
        };
        let level = argument(args, b"level").map(String::from_utf8).transpose();
        let level =
            level.map_err(|_| invalid("\"level\" must be the name or number of a level"))?;
        Ok(Self { is_dry_run, level })
    }
}

/// What has to hold of a cluster before it is changed: RFC 9110, section 13. The entity tag of a cluster
/// is its version in quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// `If-Match`
    matches: Option<Tags>,
    /// `If-None-Match`
    matches_none: Option<Tags>,
}

/// Versions, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl Tags {
    fn parse(value: &[u8]) -> Result<Self, Refusal> {
        let wrong =
            || Refusal::ArgumentInvalid("a precondition must be entity tags, or *".to_owned());
        let text = std::str::from_utf8(value).map_err(|_| wrong())?.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let tag = |tag: &str| {
            let tag = tag.trim();
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            let is_tag = strong.len() >= 2 && strong.starts_with('"') && strong.ends_with('"');
            is_tag.then(|| tag.to_owned()).ok_or_else(wrong)
        };
        text.split(',').map(tag).collect::<Result<_, _>>().map(Self::These)
    }

    fn have(&self, version: Option<u64>) -> bool {
        let Some(version) = version else { return false };
        match self {
            Self::Any => true,
            // A weak one equals none.
            Self::These(tags) => tags.iter().any(|tag| *tag == format!("\"{version}\"")),
        }
    }
}

impl Precondition {
    /// By the values of the headers `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// [`Refusal::ArgumentInvalid`]
    pub fn parse(if_match: Option<&[u8]>, if_none_match: Option<&[u8]>) -> Result<Self, Refusal> {
        Ok(Self {
            matches: if_match.map(Tags::parse).transpose()?,
            matches_none: if_none_match.map(Tags::parse).transpose()?,
        })
    }

    /// Looks at a cluster of this version; `None`: it is not there.
    ///
    /// # Errors
    /// [`Refusal::PreconditionFailed`]
    pub fn check(&self, version: Option<u64>) -> Result<(), Refusal> {
        let holds = self.matches.as_ref().is_none_or(|tags| tags.have(version))
            && !self.matches_none.as_ref().is_some_and(|tags| tags.have(version));
        holds.then_some(()).ok_or(Refusal::PreconditionFailed)
    }
}

/// The segments of a path below a location, decoded. One slash at the end makes none of its own.
/// `None`: the path is not below the location, or it is not text.
///
/// `uri` is the path as nginx decoded and normalised it, `unparsed` the one that was asked for,
/// with its arguments, and `location` the prefix that the location has, with or without a slash at
/// its end. A slash that was sent as `%2F` is part of its segment. That cannot be told where nginx
/// did more than to decode the path (`//`, `..`, a rewrite): then all slashes separate.
pub fn segments(uri: &[u8], unparsed: &[u8], location: &[u8]) -> Option<Vec<String>> {
    let raw = unparsed.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut segments: Vec<Cow<[u8]>> =
        parts(raw).map(|segment| percent_decode(segment).into()).collect();
    if segments.join(&b'/') != uri {
        segments = parts(uri).map(Cow::from).collect();
    }

    let mut below = segments.into_iter();
    // nginx takes /apistatus for the location /api too.
    for part in parts(location.strip_suffix(b"/").unwrap_or(location)) {
        below.next().filter(|segment| **segment == *part)?;
    }
    let mut below: Vec<String> =
        below.map(|segment| String::from_utf8(segment.into_owned()).ok()).collect::<Option<_>>()?;
    if below.last().is_some_and(String::is_empty) {
        below.pop();
    }
    Some(below)
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// What a POST to [`Resource::Feedback`] says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Feedback {
    /// Whether a request to the server failed.
    pub failed: bool,
}

/// Parses the body of a POST to [`Resource::Feedback`].
///
/// # Errors
/// [`Refusal::BodyInvalid`] with what is wrong, and where.
pub fn feedback(body: &[u8]) -> Result<Feedback, Refusal> {
    // serde takes an array of the values for the object.
    let feedback = if body.trim_ascii_start().starts_with(b"[") {
        Err(serde_json::Error::invalid_type(Unexpected::Seq, &"an object"))
    } else {
        serde_json::from_slice(body)
    };
    feedback.map_err(|error| Refusal::invalid(&error.to_string()))
}

/// Whether a header `Content-Type` says that the body is JSON.
pub fn is_json(content_type: Option<&[u8]>) -> bool {
    let media_type = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    media_type
        .is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}

/// The argument `fields`.
pub fn fields(args: &[u8]) -> Option<Vec<u8>> {
    argument(args, b"fields")
}

/// The arguments `key` and `order` of [`Resource::Select`], decoded as those of a form: `+` is a
/// blank. Of several of one name the first counts.
pub fn select_arguments(args: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (argument(args, b"key"), argument(args, b"order"))
}

fn argument(args: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    args.split(|byte| *byte == b'&').find_map(|argument| {
        let mut sides = argument.splitn(2, |byte| *byte == b'=').map(form_decoded);
        (sides.next()? == name).then(|| sides.next().unwrap_or_default())
    })
}

fn form_decoded(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&text).collect()
}

/// Why a request to the API is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is at this path.
    PathNotFound,
    /// There is no cluster of this name.
    ClusterNotFound,
    /// The cluster has no server of this address.
    ServerNotFound,
    /// The method is not served here: see [`Resource::allow`].
    MethodNotAllowed,
    /// The method changes something, and the location does not let it.
    MethodDisabled,
    /// The body is of another type than JSON.
    UnsupportedMediaType,
    /// The body is larger than [`MAX_BODY`].
    BodyTooLarge,
    /// The body is not what it should be, for this reason.
    BodyInvalid(String),
    /// The same of a member of a server, which has this name.
    MemberInvalid(&'static str, String),
    /// The arguments or the headers of the request are not what they should be, for this reason.
    ArgumentInvalid(String),
    /// No cluster or level can have this name.
    NameInvalid,
    /// A server is a name, and there is nothing to look it up with.
    NoResolver,
    /// A name has no addresses, for this reason.
    NameUnresolved(String),
    /// The cluster has no such level.
    LevelNotFound,
    /// The settings of this version are not kept.
    VersionNotFound,
    /// The level has the server already.
    ServerExists,
    /// More than one level has the server.
    ServerAmbiguous,
    /// The servers of the cluster are those that nginx finds for names.
    FollowsNginx,
    /// The server is a name, or an address that was found by one.
    AddressImmutable,
    /// A level would be without servers.
    LastServer,
    /// What `If-Match` or `If-None-Match` says does not hold.
    PreconditionFailed,
    /// Others change something, or a reload is under way, for this reason.
    TryAgain(&'static str),
    /// The zone has no room.
    ZoneFull,
    /// The change could not be written, for this reason.
    StateNotKept(String),
    /// No server of the cluster may be used.
    NoServersAvailable,
    /// The cluster is an upstream without `checkups_cluster`, whose servers nginx selects.
    BalancedByNginx,
    /// Something failed on our side.
    Internal,
}

/// As much of a sentence as is shown.
fn shortened(sentence: &str) -> String {
    let mut ends = (0..=MAX_SENTENCE.min(sentence.len())).rev();
    let end = ends.find(|&end| sentence.is_char_boundary(end));
    sentence[..end.unwrap_or(0)].to_owned()
}

impl Refusal {
    /// A body that is not what it should be. The reason may repeat what was sent.
    pub fn invalid(reason: &str) -> Self {
        Self::BodyInvalid(shortened(reason))
    }

    /// The same of a member of a server.
    pub fn invalid_member(member: &'static str, reason: &str) -> Self {
        Self::MemberInvalid(member, shortened(reason))
    }

    /// The HTTP status, the code and the sentence.
    fn parts(&self) -> (u16, &'static str, &str) {
        match self {
            Self::PathNotFound => (404, "PathNotFound", "path not found"),
            Self::ClusterNotFound => (404, "ClusterNotFound", "cluster not found"),
            Self::ServerNotFound => (404, "ServerNotFound", "server not found"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed", "method not allowed"),
            Self::MethodDisabled => {
                (405, "MethodDisabled", "method is disabled: checkups_api has no write=on")
            }
            Self::UnsupportedMediaType => {
                (415, "UnsupportedMediaType", "the body must be application/json")
            }
            Self::BodyTooLarge => (413, "BodyTooLarge", "the body is larger than 1048576 bytes"),
            Self::BodyInvalid(reason) | Self::MemberInvalid(_, reason) => {
                (400, "BodyInvalid", reason)
            }
            Self::ArgumentInvalid(reason) => (400, "ArgumentInvalid", reason),
            Self::NameInvalid => (
                400,
                "NameInvalid",
                "a name must be 1 to 128 letters, digits and the characters . _ : -, and that of a \
                 level no number",
            ),
            Self::NoResolver => (
                400,
                "NoResolver",
                "a server that is a name needs \"resolver\" in the http block of the configuration",
            ),
            Self::NameUnresolved(reason) => (400, "NameUnresolved", reason),
            Self::LevelNotFound => (404, "LevelNotFound", "level not found"),
            Self::VersionNotFound => (404, "VersionNotFound", "version not found"),
            Self::ServerExists => (409, "ServerExists", "the level has this server already"),
            Self::ServerAmbiguous => (
                409,
                "ServerAmbiguous",
                "more than one level has this server: say which with ?level=",
            ),
            Self::FollowsNginx => (
                409,
                "FollowsNginx",
                "nginx finds the servers of this cluster, by \"resolve\" in its upstream",
            ),
            Self::AddressImmutable => {
                (400, "AddressImmutable", "the address of a name cannot be changed")
            }
            Self::LastServer => (409, "LastServer", "a level needs a server"),
            Self::PreconditionFailed => {
                (412, "PreconditionFailed", "the cluster has another version")
            }
            Self::TryAgain(reason) => (503, "TryAgain", reason),
            Self::ZoneFull => {
                (507, "ZoneFull", "the zone is full, a larger size is wanted in checkups_zone")
            }
            Self::StateNotKept(reason) => (507, "StateNotKept", reason),
            Self::BalancedByNginx => (
                409,
                "BalancedByNginx",
                "nginx selects the servers of this cluster, as its upstream has no checkups_cluster",
            ),
            Self::NoServersAvailable => (503, "NoServersAvailable", "no servers available"),
            Self::Internal => (500, "InternalError", "internal error"),
        }
    }

    /// What is wrong, for people.
    pub fn sentence(&self) -> &str {
        self.parts().2
    }

    /// The answer to it.
    pub fn problem(&self) -> Problem {
        let (status, code, text) = self.parts();
        Problem { status, code, text: text.to_owned(), href: "docs/reference.md#checkups_api" }
    }
}

/// The answer to a request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, for programs.
    pub code: &'static str,
    /// What is wrong, for people.
    pub text: String,
    /// Where more is said of it.
    pub href: &'static str,
}

impl Problem {
    /// The body, in the shape of the API of NGINX Plus. `request_id` is that of the request.
    pub fn body(&self, request_id: &str) -> String {
        let Self { status, code, text, href } = self;
        let body = Body { error: Error { status: *status, text, code }, request_id, href };
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The header that goes with it. `allow` are the methods that are served at the path.
    pub fn header<'a>(&self, allow: &'a str) -> Option<(&'static str, &'a str)> {
        match self.code {
            "MethodNotAllowed" => Some(("Allow", allow)),
            "MethodDisabled" if allow.starts_with("GET") => Some(("Allow", "GET, HEAD")),
            "MethodDisabled" => Some(("Allow", "")),
            "TryAgain" => Some(("Retry-After", "1")),
            _ => None,
        }
    }
}

/// Whether a method is among those of a header `Allow`.
pub fn serves(allow: &str, method: Method) -> bool {
    allow.split(", ").any(|name| name == method.name())
}

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
    request_id: &'a str,
    href: &'static str,
}

#[derive(Serialize)]
struct Error<'a> {
    status: u16,
    text: &'a str,
    code: &'static str,
}

/// The answer to a selection.
#[derive(Debug, Serialize)]
pub struct Selected<'a> {
    cluster: &'a str,
    level: LevelId<'a>,
    server: &'a str,
}

/// A level by its name, or else by its number.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum LevelId<'a> {
    Name(&'a str),
    Number(usize),
}

impl<'a> Selected<'a> {
    /// A server of a level with this name, where it has one, and this number from 1 on.
    pub fn new(cluster: &'a str, name: Option<&'a str>, number: usize, server: &'a str) -> Self {
        Self { cluster, level: name.map_or(LevelId::Number(number), LevelId::Name), server }
    }
}

/// The answer to a feedback.
#[derive(Debug, Serialize)]
pub struct Taken<'a> {
    /// The address of the server.
    pub server: &'a str,
    /// Whether failed requests leave it in use.
    pub available: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{percent_encode, NON_ALPHANUMERIC};
    use proptest::prelude::*;

    fn below(uri: &str, unparsed: &str, location: &str) -> Option<Vec<String>> {
        segments(uri.as_bytes(), unparsed.as_bytes(), location.as_bytes())
    }

    #[test]
    fn paths() {
        for (path, resource) in [
            ("", Some(Resource::Root)),
            ("/", Some(Resource::Root)),
            ("//", None),
            ("/status", Some(Resource::Status)),
            ("/status/", Some(Resource::Status)),
            ("/status//", None),
            ("//status", None),
            ("/statuses", None),
            ("status", None),
            ("/clusters", Some(Resource::Clusters)),
            ("/clusters/", Some(Resource::Clusters)),
            ("/clusters//", None),
            ("/clusters/api", Some(Resource::Cluster("api"))),
            ("/clusters/api/", Some(Resource::Cluster("api"))),
            ("/clusters/api/servers", Some(Resource::Servers("api"))),
            ("/clusters/api/servers/", Some(Resource::Servers("api"))),
            ("/clusters/api/rollback", Some(Resource::Rollback("api"))),
            ("/clusters/api/rollback/1", None),
            ("/clusters/api/select", Some(Resource::Select("api"))),
            ("/clusters/select", Some(Resource::Cluster("select"))),
            ("/clusters//select", None),
            ("/clusters/api/select/x", None),
            (
                "/clusters/api/servers/127.0.0.1:80/feedback",
                Some(Resource::Feedback { cluster: "api", server: "127.0.0.1:80" }),
            ),
            (
                "/clusters/api/servers/127.0.0.1:80",
                Some(Resource::Server { cluster: "api", server: "127.0.0.1:80" }),
            ),
            ("/clusters/api/servers//feedback", None),
            ("/clusters/api/servers/unix:/a/feedback", None),
        ] {
            for location in ["/api", "/api/", "/", "/a/b"] {
                let uri = format!("{}{path}", location.trim_end_matches('/'));
                if location == "/" && path.is_empty() {
                    continue;
                }
                let segments = below(&uri, &format!("{uri}?x=/y"), location);
                let found = segments.as_deref().and_then(Resource::at);
                assert_eq!(found, resource, "{path} below {location}");
            }
        }
    }

    #[test]
    fn what_is_encoded() {
        let unix = "/api/clusters/a/servers/unix:/a.sock/feedback";
        let raw = "/%61pi/clusters/a/servers/unix:%2fa.sock/feedback?a%2F=/";
        let segments = ["clusters", "a", "servers", "unix:/a.sock", "feedback"];
        let separate = ["clusters", "a", "servers", "unix:", "a.sock", "feedback"];
        assert_eq!(below(unix, raw, "/api").unwrap(), segments);
        // What nginx did to it besides cannot be told from %2F.
        for raw in ["/api//clusters/a/servers/unix:%2fa.sock/feedback", "/elsewhere", ""] {
            assert_eq!(below(unix, raw, "/api").unwrap(), separate);
        }
        assert_eq!(below("/api/[::1]:80", "/api/%5B::1%5D:80", "/api/").unwrap(), ["[::1]:80"]);
        assert_eq!(below("/api/a+b %", "/api/a+b%20%25", "/api").unwrap(), ["a+b %"]);
        assert_eq!(below("/api/\u{e9}", "/api/%C3%A9", "/api").unwrap(), ["\u{e9}"]);
        assert_eq!(below("/api/a?b", "/api/a%3Fb?c", "/api").unwrap(), ["a?b"]);
        assert_eq!(below("/api/", "/api/%2F", "/api").unwrap(), [""; 0]);
        assert_eq!(below("/api//", "/api/%2F", "/api").unwrap(), ["/"]);
        assert_eq!(super::segments(b"/api/\xff", b"/api/%ff", b"/api"), None);
        assert_eq!(super::segments(b"/api/\xff", b"/other", b"/api"), None);
    }

    #[test]
    fn what_is_not_below() {
        assert_eq!(below("/apistatus", "/apistatus", "/api"), None);
        assert_eq!(below("/api%2Fstatus", "/api%2Fstatus", "/api"), None);
        assert_eq!(below("/api/status", "/api%2Fstatus", "/api"), None);
        assert_eq!(below("/a", "/a", "/a/b"), None);
        assert_eq!(below("/other", "/api/status", "/api"), None);
        assert_eq!(below("/api", "/api", "^/api"), None);
        assert_eq!(below("", "", "/api"), None);
    }

    #[test]
    fn methods() {
        assert_eq!(Resource::Root.allow(), "GET, HEAD");
        assert_eq!(Resource::Select("a").allow(), "GET, HEAD");
        assert_eq!(Resource::Feedback { cluster: "a", server: "b" }.allow(), "POST");
    }

    #[test]
    fn bodies_of_feedback() {
        assert_eq!(feedback(b"{\"failed\":true}"), Ok(Feedback { failed: true }));
        assert_eq!(feedback(b" {\n\"failed\" : false } \n"), Ok(Feedback { failed: false }));
        for (body, sentence) in [
            ("{\"failed\":1}", "invalid type: integer `1`, expected a boolean at line 1 column 11"),
            ("{}", "missing field `failed` at line 1 column 2"),
            ("{\"x\":1}", "unknown field `x`, expected `failed` at line 1 column 4"),
            ("{\"failed\":true,\"failed\":true}", "duplicate field `failed` at line 1 column 23"),
            ("{\"failed\":true} 1", "trailing characters at line 1 column 17"),
            ("{\"failed\":true", "EOF while parsing an object at line 1 column 14"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[true]", "invalid type: sequence, expected an object"),
            ("\n[", "invalid type: sequence, expected an object"),
            ("true", "invalid type: boolean `true`, expected an object at line 1 column 4"),
            ("null", "invalid type: null, expected an object at line 1 column 4"),
            ("failed=true", "expected ident at line 1 column 3"),
            ("not JSON", "expected ident at line 1 column 2"),
        ] {
            let refusal = Refusal::BodyInvalid(sentence.to_owned());
            assert_eq!(feedback(body.as_bytes()), Err(refusal), "{body}");
        }
        assert!(feedback(b"{\"failed\xff\":true}").is_err());
    }

    #[test]
    fn types_of_bodies() {
        for json in ["application/json", "Application/JSON ; charset=utf-8", " application/json;"] {
            assert!(is_json(Some(json.as_bytes())), "{json}");
        }
        for other in ["", ";", "text/json", "application/json5", "text/plain; application/json"] {
            assert!(!is_json(Some(other.as_bytes())), "{other}");
        }
        assert!(!is_json(None));
    }

    #[test]
    fn arguments_of_select() {
        let of = |args: &str| {
            let (key, order) = select_arguments(args.as_bytes());
            let text =
                |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
            (text(key), text(order))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(""), (None, None));
        assert_eq!(of("key=a&order=b"), (some("a"), some("b")));
        assert_eq!(of("order=dc1%2C+2&x&key=%2Fa%3d=%26"), (some("/a==&"), some("dc1, 2")));
        assert_eq!(of("key=1&key=2&orders=x&%6frder=3"), (some("1"), some("3")));
        assert_eq!(of("key&order="), (some(""), some("")));
        assert_eq!(of("&&=key&KEY=x"), (None, None));
        assert_eq!(select_arguments(b"key=%ff%0").0, Some(b"\xff%0".to_vec()));
    }

    #[test]
    fn refusals() {
        for (refusal, status, code, text) in [
            (Refusal::PathNotFound, 404, "PathNotFound", "path not found"),
            (Refusal::ServerNotFound, 404, "ServerNotFound", "server not found"),
            (
                Refusal::MethodDisabled,
                405,
                "MethodDisabled",
                "method is disabled: checkups_api has no write=on",
            ),
            (
                Refusal::UnsupportedMediaType,
                415,
                "UnsupportedMediaType",
                "the body must be application/json",
            ),
            (
                Refusal::BodyTooLarge,
                413,
                "BodyTooLarge",
                &format!("the body is larger than {MAX_BODY} bytes"),
            ),
            (Refusal::BodyInvalid("\"".to_owned()), 400, "BodyInvalid", "\\\""),
            (Refusal::NoServersAvailable, 503, "NoServersAvailable", "no servers available"),
        ] {
            let problem = refusal.problem();
            assert_eq!(problem.status, status);
            let body = format!(
                "{{\"error\":{{\"status\":{status},\"text\":\"{text}\",\"code\":\"{code}\"}},\
                 \"request_id\":\"id\",\"href\":\"docs/reference.md#checkups_api\"}}"
            );
            assert_eq!(problem.body("id"), body);
        }
    }

    proptest! {
        #[test]
        fn segments_come_back(wanted in prop::collection::vec(".{1,5}", 0..5), slash: bool) {
            let path = |segments: &[String]| {
                let slash = if slash { "/" } else { "" };
                format!("/api/{}{slash}", segments.join("/"))
            };
            let encoded: Vec<_> = wanted.iter()
                .map(|segment| percent_encode(segment.as_bytes(), NON_ALPHANUMERIC).to_string())
                .collect();
            prop_assume!(!(slash && wanted.is_empty()));
            prop_assert_eq!(below(&path(&wanted), &path(&encoded), "/api"), Some(wanted));
        }

        #[test]
        fn no_path_panics(uri: Vec<u8>, unparsed: Vec<u8>, location: Vec<u8>) {
            if let Some(segments) = segments(&uri, &unparsed, &location) {
                Resource::at(&segments);
            }
        }
    }
}
