//! Upstream's collectors and reflectors, both generations, as the other end: emulated from what they are
//! known to send and to do, with prost and hand-made bytes instead of the codec under test.
//!
//! Needs root (network namespaces). The packet filter tells which class packets really had, and how many
//! were lost.

#![allow(clippy::unwrap_used, reason = "tests")]

mod collectors;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod reflectors;

use common::process::Finished;
use nix::sys::socket::{setsockopt, sockopt};
use prost::Message;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A generation's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Go,
    Python,
}

impl Generation {
    /// The port its reflectors listen on when not told.
    fn port(self) -> u16 {
        match self {
            Generation::Go => 8100,
            Generation::Python => 60_000,
        }
    }
}

/// The Go generation's message.
#[derive(Clone, PartialEq, Message)]
struct GoProbe {
    #[prost(bytes, tag = "1")]
    signature: Vec<u8>,
    #[prost(bytes, tag = "2")]
    tos: Vec<u8>,
    #[prost(uint64, tag = "3")]
    sent: u64,
    #[prost(uint64, tag = "4")]
    rcvd: u64,
    #[prost(uint64, tag = "5")]
    rtt: u64,
    #[prost(bool, tag = "6")]
    lost: bool,
    #[prost(bytes, tag = "7")]
    padding: Vec<u8>,
}

/// Sets the whole traffic-class byte of what a socket sends from now on, as upstream does.
fn set_tos(socket: &UdpSocket, tos: u8) {
    match socket.local_addr().unwrap() {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Tos, &i32::from(tos)).unwrap(),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6TClass, &i32::from(tos)).unwrap(),
    }
}

/// A bound socket whose calls end soon enough to look at a stop flag or a deadline.
fn socket(address: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(address, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// What nftables calls the class `dscp` without ECN, in packets to or from `address`.
fn class(address: IpAddr, dscp: u8) -> String {
    let family = if address.is_ipv4() { "ip" } else { "ip6" };
    format!("{family} dscp {dscp} {family} ecn not-ect")
}

fn with_port(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// A number out of the totals that a reflector prints in the end; 0 when it has no line.
fn total(end: &Finished, name: &str) -> u64 {
    let number = |line: &str| line.trim().strip_prefix(name)?.split_whitespace().next()?.parse().ok();
    end.stdout.lines().find_map(number).unwrap_or(0)
}
