//! What the API is asked and what it answers, without the HTTP around it.

use serde::Serialize;

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
}

/// What can be asked at the root.
pub const ENDPOINTS: [&str; 2] = ["status", "clusters/"];

impl<'a> Resource<'a> {
    /// The resource at `path`, with or without slashes at its ends. `None`: nothing is there.
    pub fn at(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        match path.split_once('/') {
            None if path.is_empty() => Some(Self::Root),
            None if path == "status" => Some(Self::Status),
            None if path == "clusters" => Some(Self::Clusters),
            Some(("clusters", name)) if !name.is_empty() && !name.contains('/') => {
                Some(Self::Cluster(name))
            }
            _ => None,
        }
    }
}

/// Why a request to the API is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is at this path.
    PathNotFound,
    /// There is no cluster of this name.
    ClusterNotFound,
    /// The method is not served here.
    MethodNotAllowed,
    /// Something failed on our side.
    Internal,
}

impl Refusal {
    /// The HTTP status, the code and the sentence.
    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::PathNotFound => (404, "PathNotFound", "path not found"),
            Self::ClusterNotFound => (404, "ClusterNotFound", "cluster not found"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed", "method not allowed"),
            Self::Internal => (500, "InternalError", "internal error"),
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// The body, in the shape of the API of NGINX Plus. `request_id` is that of the request,
    /// `href` the place in the reference.
    pub fn body(self, request_id: &str) -> String {
        let (status, code, text) = self.parts();
        let body = Body {
            error: Error { status, text, code },
            request_id,
            href: "docs/reference.md#checkups_api",
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Error,
    request_id: &'a str,
    href: &'static str,
}

#[derive(Serialize)]
struct Error {
    status: u16,
    text: &'static str,
    code: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, resource) in [
            ("", Some(Resource::Root)),
            ("/", Some(Resource::Root)),
            ("status", Some(Resource::Status)),
            ("/status/", Some(Resource::Status)),
            ("clusters", Some(Resource::Clusters)),
            ("clusters/", Some(Resource::Clusters)),
            ("clusters/api", Some(Resource::Cluster("api"))),
            ("clusters/api/", Some(Resource::Cluster("api"))),
            ("clusters//", None),
            ("clusters/api/servers", None),
            ("statuses", None),
            ("//status", None),
        ] {
            assert_eq!(Resource::at(path), resource, "{path}");
        }
    }
}
