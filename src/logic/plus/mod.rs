//! The REST API of NGINX Plus, as far as it is about upstreams: what it is asked and what it answers.
//! Its description is at <https://nginx.org/en/docs/http/ngx_http_api_module.html>.

pub mod body;
pub mod fields;
pub mod instance;
mod members;
pub mod place;
pub mod refusal;
pub mod server;
pub mod upstream;

/// The versions of the API that are served.
pub const VERSIONS: [u32; 6] = [4, 5, 6, 7, 8, 9];
