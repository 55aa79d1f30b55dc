//! A host that relays frames between its two devices by a program, which may change them on the way.
//!
//! Neither a switch nor a router: it has no addresses, the hosts at its two sides are neighbours of each other. Checksums
//! that a device was to fill in are filled in here, after the change, so that they are right.

use super::netns::Namespace;
use super::thread::spawn_in;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// `sll_pkttype` of frames this host has sent itself (packet(7)).
const OUTGOING: u8 = 4;

/// A running relay; stops when dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays between the devices `left` and `right` of a namespace. `change` gets the UDP payload of every datagram and
    /// whether it goes from left to right. Returns when frames are relayed.
    pub fn start(
        namespace: &Namespace,
        left: &str,
        right: &str,
        mut change: impl FnMut(&mut [u8], bool) + Send + 'static,
    ) -> Relay {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::channel();
        let names = [left.to_owned(), right.to_owned()];
        let thread = spawn_in(namespace, None, {
            let stop = Arc::clone(&stop);
            move || {
                let fd =
                    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
                setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20)).unwrap();
                setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
                let devices = names.map(|name| {
                    let mut all = getifaddrs().unwrap().filter(|device| device.interface_name == name);
                    all.find_map(|device| device.address?.as_link_addr().copied()).unwrap()
                });
                ready.send(()).unwrap();
                let mut frame = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut frame) else { continue };
                    let side = devices.iter().position(|device| device.ifindex() == from.ifindex());
                    let Some(side) = side.filter(|_| from.pkttype() != OUTGOING) else { continue };
                    pass(&mut frame[..length], &mut |payload| change(payload, side == 0));
                    // a frame that the other side does not take is lost, as on any wire
                    let _ = sendto(fd.as_raw_fd(), &frame[..length], &devices[1 - side], MsgFlags::empty());
                }
            }
        });
        started.recv().unwrap();
        Relay { stop, thread: Some(thread) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Changes the payload of a UDP datagram, and makes its checksum right.
fn pass(frame: &mut [u8], change: &mut impl FnMut(&mut [u8])) {
    let place = |part: &[u8], whole: &[u8]| part.as_ptr().addr() - whole.as_ptr().addr();
    let Some((header, length)) = SlicedPacket::from_ethernet(frame).ok().and_then(|packet| match packet.transport {
        Some(TransportSlice::Udp(udp)) => Some((place(udp.slice(), frame), udp.payload().len())),
        _ => None,
    }) else {
        return;
    };
    change(&mut frame[header + 8..header + 8 + length]);
    let checksum = checksum(frame);
    frame[header + 6..header + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// The checksum that a UDP datagram should have.
fn checksum(frame: &[u8]) -> u16 {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { unreachable!("it was one before") };
    match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            udp.to_header().calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload())
        }
        NetSlice::Ipv6(ip) => {
            udp.to_header().calc_checksum_ipv6_raw(ip.header().source(), ip.header().destination(), udp.payload())
        }
        _ => unreachable!("UDP is over IP"),
    }
    .unwrap()
}
