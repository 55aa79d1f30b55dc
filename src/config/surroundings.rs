//! What a plan needs to know about the host it runs on: names and routes.
//!
//! An argument, so that tests need neither a DNS nor a network. Read [`Surroundings`] first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};

/// Names and routes of a host.
pub trait Surroundings: Sync {
    /// The addresses of a host name, the preferred first.
    ///
    /// # Errors
    /// The name has no address, or nobody could be asked.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// The local address that packets to `to` leave with when their socket is bound to none.
    ///
    /// # Errors
    /// There is no route.
    fn source_address(&self, to: IpAddr) -> io::Result<IpAddr>;

    /// The same for a link-local address in a zone.
    ///
    /// # Errors
    /// There is no such interface, or it has no link-local address.
    fn source_address_in(&self, to: IpAddr, zone: u32) -> io::Result<IpAddr> {
        let IpAddr::V6(to) = to else { return self.source_address(to) };
        local_address(SocketAddrV6::new(to, 9, 0, zone).into())
    }

    /// The number of an interface, by name or number.
    ///
    /// # Errors
    /// There is none of this name.
    fn zone(&self, name: &str) -> io::Result<u32> {
        match name.parse::<u32>() {
            Ok(number) => Ok(number),
            Err(_) => Ok(nix::net::if_::if_nametoindex(name)?),
        }
    }
}

/// Connects a UDP socket and reads its local address; nothing is sent.
fn local_address(to: SocketAddr) -> io::Result<IpAddr> {
    let wildcard: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((wildcard, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// The system's resolver and routing table.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Surroundings for System {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut addresses: Vec<IpAddr> = (host, 0).to_socket_addrs()?.map(|a| a.ip().to_canonical()).collect();
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|&ip| seen.insert(ip));
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
        }
        Ok(addresses)
    }

    /// By the address a connected UDP socket gets. The class of the probes is
    /// not part of the question, so routes that depend on it are not seen. A socket per question: a
    /// second `connect` would keep the first one's address.
    fn source_address(&self, to: IpAddr) -> io::Result<IpAddr> {
        local_address((to, 9).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(System.source_address(loopback).unwrap(), loopback);
        assert!(System.resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
    }
}
