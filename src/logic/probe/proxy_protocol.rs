//! The header of the PROXY protocol, version 1: it tells a server who the client is, before anything
//! else. A check speaks for itself, as its own client.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The header of a connection from one socket address to another, as the system has them. What is
/// not of the internet, or not of one family, is unknown to the protocol.
pub fn header(source: &[u8], destination: &[u8]) -> Vec<u8> {
    match (parse(source), parse(destination)) {
        (Some((source, source_port)), Some((destination, port)))
            if source.is_ipv4() == destination.is_ipv4() =>
        {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {source} {destination} {source_port} {port}\r\n").into_bytes()
        }
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// The internet address and the port of a socket address.
fn parse(address: &[u8]) -> Option<(IpAddr, u16)> {
    let family = chunk::<{ size_of::<libc::sa_family_t>() }>(
        address,
        offset_of!(libc::sockaddr, sa_family),
    )?;
    match i32::from(libc::sa_family_t::from_ne_bytes(family)) {
        libc::AF_INET => {
            let port = chunk(address, offset_of!(libc::sockaddr_in, sin_port))?;
            let ip: [u8; 4] = chunk(address, offset_of!(libc::sockaddr_in, sin_addr))?;
            Some((Ipv4Addr::from(ip).into(), u16::from_be_bytes(port)))
        }
        libc::AF_INET6 => {
            let port = chunk(address, offset_of!(libc::sockaddr_in6, sin6_port))?;
            let ip: [u8; 16] = chunk(address, offset_of!(libc::sockaddr_in6, sin6_addr))?;
            Some((Ipv6Addr::from(ip).into(), u16::from_be_bytes(port)))
        }
        _ => None,
    }
}

/// So many bytes from a place on.
fn chunk<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn family(family: i32) -> Vec<u8> {
        let mut bytes = vec![0; offset_of!(libc::sockaddr, sa_family)];
        bytes.extend((family as libc::sa_family_t).to_ne_bytes());
        bytes
    }

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        [&family(libc::AF_INET)[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    fn v6(ip: Ipv6Addr, port: u16) -> Vec<u8> {
        let ip = ip.octets();
        [&family(libc::AF_INET6)[..], &port.to_be_bytes(), &[9; 4], &ip, &[0; 4]].concat()
    }

    fn header_of(source: &[u8], destination: &[u8]) -> String {
        String::from_utf8(header(source, destination)).unwrap()
    }

    #[test]
    fn headers() {
        let (a, b) = (v4([127, 0, 0, 1], 40000), v4([10, 1, 2, 255], 80));
        assert_eq!(header_of(&a, &b), "PROXY TCP4 127.0.0.1 10.1.2.255 40000 80\r\n");
        let (c, d) = (v6(Ipv6Addr::LOCALHOST, 1), v6("2001:db8::a".parse().unwrap(), 65535));
        assert_eq!(header_of(&c, &d), "PROXY TCP6 ::1 2001:db8::a 1 65535\r\n");

        let unix = [&family(libc::AF_UNIX)[..], b"/run/x\0"].concat();
        for (source, destination) in
            [(&family(libc::AF_UNIX), &unix), (&a, &c), (&c, &b), (&Vec::new(), &b), (&a, &unix)]
        {
            assert_eq!(header_of(source, destination), "PROXY UNKNOWN\r\n");
        }
    }

    #[test]
    fn the_longest_header() {
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let header = header(&v6(long, 65535), &v6(long, 65535));
        // The protocol's own bound for a line, with the zero that it counts.
        assert!(header.len() < 107, "{}", header.len());
    }

    proptest! {
        #[test]
        fn any_bytes(
            source in prop::collection::vec(any::<u8>(), 0..40),
            destination in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let header = header(&source, &destination);
            prop_assert!(header.starts_with(b"PROXY ") && header.ends_with(b"\r\n"));
        }

        #[test]
        fn cut_short(length in 0..16usize) {
            let (a, b) = (v4([127, 0, 0, 1], 40000), v4([10, 1, 2, 255], 80));
            let is_whole = length >= 8;
            let is_known = header_of(&a[..length], &b).contains("TCP4");
            prop_assert_eq!(is_known, is_whole);
        }
    }
}
