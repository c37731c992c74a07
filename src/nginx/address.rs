//! Socket addresses, as nginx lays them out.

use std::net::SocketAddr;

/// The socket address of an IP address with its port, or of `unix:` and a path. `None`: the text is
/// neither.
///
/// To the byte what nginx makes of a `server` line, as servers are known by that.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    let address: SocketAddr = text.parse().ok()?;
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = (family as libc::sa_family_t).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes.extend_from_slice(&address.ip().octets());
            bytes.resize(size_of::<libc::sockaddr_in>(), 0);
        }
        SocketAddr::V6(address) => {
            // The flow comes first, and the scope last.
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&address.ip().octets());
            bytes.resize(size_of::<libc::sockaddr_in6>(), 0);
        }
    }
    Some(bytes)
}

fn unix(path: &str) -> Option<Vec<u8>> {
    let mut bytes = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes().to_vec();
    bytes.extend_from_slice(path.as_bytes());
    // A zero ends the path.
    let is_fit = !path.is_empty() && bytes.len() < size_of::<libc::sockaddr_un>();
    bytes.resize(size_of::<libc::sockaddr_un>(), 0);
    is_fit.then_some(bytes)
}
