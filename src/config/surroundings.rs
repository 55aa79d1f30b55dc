//! What a plan needs to know about the host it runs on: names and routes.
//!
//! An argument, so that tests need neither a DNS nor a network. Read [`Surroundings`] first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};

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

    /// Connects a UDP socket and reads its local address; nothing is sent. The class of the probes is
    /// not part of the question, so routes that depend on it are not seen. A socket per question: a
    /// second `connect` would keep the first one's address.
    fn source_address(&self, to: IpAddr) -> io::Result<IpAddr> {
        let wildcard: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((wildcard, 0))?;
        socket.connect((to, 9))?;
        Ok(socket.local_addr()?.ip())
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
