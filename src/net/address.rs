//! Socket addresses as the kernel's bytes: `sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a `sockaddr_in6`, the longer of the two.
pub const MAX_LEN: usize = 28;
const V4_LEN: usize = 16;

/// Writes `address`, an IPv6 one with the flow label; on an IPv6 socket (`v6`) an IPv4 address is written as IPv4-mapped.
/// Returns the length.
pub fn encode(address: SocketAddr, flow_label: u32, v6: bool, out: &mut [u8; MAX_LEN]) -> usize {
    match address {
        SocketAddr::V4(a) if !v6 => {
            out[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[2..4].copy_from_slice(&a.port().to_be_bytes());
            out[4..8].copy_from_slice(&a.ip().octets());
            out[8..16].fill(0);
            V4_LEN
        }
        SocketAddr::V4(a) => encode_v6(a.ip().to_ipv6_mapped(), a.port(), 0, 0, out),
        SocketAddr::V6(a) => encode_v6(*a.ip(), a.port(), flow_label, a.scope_id(), out),
    }
}

fn encode_v6(ip: Ipv6Addr, port: u16, flowinfo: u32, scope: u32, out: &mut [u8; MAX_LEN]) -> usize {
    out[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    out[2..4].copy_from_slice(&port.to_be_bytes());
    out[4..8].copy_from_slice(&flowinfo.to_be_bytes());
    out[8..24].copy_from_slice(&ip.octets());
    out[24..28].copy_from_slice(&scope.to_ne_bytes());
    MAX_LEN
}

/// Reads an address; IPv4-mapped comes out as IPv4. `None` when it is neither family or too short.
pub fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    if family == libc::AF_INET as u16 {
        let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        return Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port)));
    }
    if family != libc::AF_INET6 as u16 {
        return None;
    }
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?);
    let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        // flow information of a received packet says nothing about whom to answer: left out, so
        // that addresses compare
        None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mapped_addresses_come_back_as_ipv4() {
        let mut out = [0xa5; MAX_LEN];
        let address: SocketAddr = "192.0.2.7:8100".parse().expect("valid");
        assert_eq!(encode(address, 0, true, &mut out), MAX_LEN);
        assert_eq!(decode(&out), Some(address));
        assert_eq!(encode(address, 0, false, &mut out), V4_LEN);
        assert_eq!(decode(&out[..V4_LEN]), Some(address));
    }

    proptest! {
        #[test]
        fn addresses_survive(ip: u128, port: u16, scope: u32) {
            let ip = Ipv6Addr::from(ip);
            prop_assume!(ip.to_ipv4_mapped().is_none());
            let address = SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope));
            let mut out = [0xa5; MAX_LEN];
            let len = encode(address, 0, false, &mut out);
            prop_assert_eq!(decode(&out[..len]), Some(address));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }
}
