//! What passes a namespace's devices, frame by frame, as a packet socket sees it.

use super::netns::Namespace;
use super::thread::spawn_in;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Bytes of frames that may wait to be read.
const BUFFER: usize = 32 << 20;

/// A running capture; stops when dropped.
#[derive(Debug)]
pub struct Frames {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Vec<Vec<u8>>>>,
}

/// A packet that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// The traffic-class byte.
    pub traffic_class: u8,
    /// What it carries.
    pub kind: Kind,
    /// The whole frame.
    pub frame: Vec<u8>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment.
    Tcp {
        /// Source and destination port.
        ports: (u16, u16),
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// The flags SYN, ACK, RST.
        flags: (bool, bool, bool),
    },
    /// ICMP of either family: its type.
    Icmp(u8),
    /// A UDP datagram: source and destination port.
    Udp(u16, u16),
}

impl Frames {
    /// Starts to capture in a namespace; returns when it captures.
    pub fn start(namespace: &Namespace) -> Frames {
        let opened = spawn_in(namespace, None, || -> OwnedFd {
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
            setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).unwrap();
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
            fd
        });
        let fd = opened.join().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut frames = Vec::new();
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                        Ok(length) => frames.push(buffer[..length].to_vec()),
                        // nothing for a while: what was sent before the stop has been read
                        Err(_) if stop.load(Ordering::Relaxed) => return frames,
                        Err(_) => {}
                    }
                }
            }
        });
        Frames { stop, reader: Some(reader) }
    }

    /// Ends the capture and gives every frame seen, in order.
    pub fn stop_raw(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.take().unwrap().join().unwrap()
    }

    /// Ends the capture and gives the TCP, ICMP and UDP packets seen, in order.
    pub fn stop(self) -> Vec<Packet> {
        self.stop_raw().iter().filter_map(|frame| packet(frame)).collect()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn packet(frame: &[u8]) -> Option<Packet> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (from, to, traffic_class): (IpAddr, IpAddr, u8) = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), header.slice()[1])
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), header.traffic_class())
        }
        _ => return None,
    };
    let kind = match sliced.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => Kind::Tcp {
            ports: (tcp.source_port(), tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: (tcp.syn(), tcp.ack(), tcp.rst()),
        },
        TransportSlice::Icmpv4(icmp) => Kind::Icmp(icmp.type_u8()),
        TransportSlice::Icmpv6(icmp) => Kind::Icmp(icmp.type_u8()),
        TransportSlice::Udp(udp) => Kind::Udp(udp.source_port(), udp.destination_port()),
        TransportSlice::Igmp(_) => return None,
    };
    Some(Packet { from, to, traffic_class, kind, frame: frame.to_vec() })
}

impl Packet {
    /// Whether every checksum in it is right, IPv4's header's included; by etherparse's reckoning.
    pub fn checksums_are_right(&self) -> bool {
        let sliced = SlicedPacket::from_ethernet(&self.frame).unwrap();
        let transport = sliced.transport.as_ref().unwrap();
        match sliced.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let of_header = header.to_header().calc_header_checksum() == header.header_checksum();
                let (from, to) = (header.source(), header.destination());
                of_header
                    && match transport {
                        TransportSlice::Tcp(tcp) => tcp.calc_checksum_ipv4(from, to) == Ok(tcp.checksum()),
                        TransportSlice::Icmpv4(icmp) => {
                            icmp.checksum() == icmp.icmp_type().calc_checksum(icmp.payload())
                        }
                        TransportSlice::Udp(udp) => {
                            udp.to_header().calc_checksum_ipv4_raw(from, to, udp.payload()) == Ok(udp.checksum())
                        }
                        _ => false,
                    }
            }
            NetSlice::Ipv6(ip) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                match transport {
                    TransportSlice::Tcp(tcp) => tcp.calc_checksum_ipv6(from, to) == Ok(tcp.checksum()),
                    TransportSlice::Icmpv6(icmp) => icmp.is_checksum_valid(from, to),
                    TransportSlice::Udp(udp) => {
                        udp.to_header().calc_checksum_ipv6_raw(from, to, udp.payload()) == Ok(udp.checksum())
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }
}
