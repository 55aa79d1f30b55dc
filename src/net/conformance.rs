//! What every [`Network`] must do, run on loopback over each of them.

use super::features::{Features, Io, IoChoice};
use super::socket::{self, Socket};
use super::*;
use crate::time::{Clock, StampSource, SystemClock};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
use std::os::fd::AsRawFd;
use std::time::Duration;

const LIMITS: Limits = Limits { batch: 16, buffers: 64, datagram: 128 };

fn open(spec: SocketSpec) -> Socket {
    socket::open(&spec).expect("opens")
}

fn loopback() -> SocketSpec {
    SocketSpec::new("127.0.0.1:0".parse().expect("valid"))
}

/// Runs `check` over io_uring and over `sendmmsg`, with the sockets made by `sockets`.
fn over_each(sockets: impl Fn() -> Vec<Socket>, check: impl Check) {
    for choice in [IoChoice::Uring, IoChoice::Mmsg] {
        let features = Features::detect(choice).expect("this machine has both");
        match features.io {
            Io::Uring => {
                let mut ring = uring::open_ring(&LIMITS).expect("opens");
                let mut network = uring::UringNetwork::new(&mut ring, sockets(), &LIMITS, &features).expect("starts");
                check.check(&mut network);
            }
            Io::Mmsg => {
                check.check(&mut mmsg::MmsgNetwork::new(sockets(), &LIMITS, &features).expect("starts"));
            }
        }
    }
}

trait Check {
    fn check<N: Network>(&self, network: &mut N);
}

#[derive(Debug, Default)]
struct Seen {
    payloads: Vec<(u16, Vec<u8>, StampSource, Option<u8>)>,
    stamps: Vec<u32>,
    failures: Vec<(u32, i32)>,
    icmp: Vec<(SocketAddr, IcmpMeaning, Vec<u8>)>,
    quoted: Vec<(SocketAddr, u8, Vec<u8>)>,
}

/// Waits and drains until `enough`, for two seconds at most.
fn collect<N: Network>(network: &mut N, enough: impl Fn(&Seen) -> bool) -> Seen {
    let mut seen = Seen::default();
    let end = SystemClock.monotonic().after(Duration::from_secs(2));
    while !enough(&seen) && SystemClock.monotonic() < end {
        let soon = SystemClock.monotonic().after(Duration::from_millis(10));
        network.wait(Wait::EventOrUntil(soon)).expect("the network works");
        network.drain(|_, event| match event {
            Event::Received(r) => {
                seen.payloads.push((r.socket.0, r.payload.to_vec(), r.at.source, r.traffic_class));
            }
            Event::Transmitted { key, .. } => seen.stamps.push(key),
            Event::SendFailed { key, errno, .. } => seen.failures.push((key, errno)),
            Event::Quoted { to, packet, .. } => seen.quoted.push((to, packet.traffic_class, packet.upper.to_vec())),
            Event::TooBigHere { .. } => {} // loopback carries whatever UDP can be
            Event::Icmp { to, meaning, quoted, .. } => seen.icmp.push((to, meaning, quoted.to_vec())),
        });
    }
    seen
}

fn datagram(socket: u16, to: SocketAddr, key: u32) -> Outgoing {
    Outgoing { socket: SocketId(socket), to, key, stamp: true, traffic_class: None, from: None, flow_label: 0 }
}

fn number(key: u32) -> impl FnOnce(&mut [u8]) -> usize {
    move |buffer| {
        buffer[..4].copy_from_slice(&key.to_be_bytes());
        4
    }
}

struct Delivers;
impl Check for Delivers {
    fn check<N: Network>(&self, network: &mut N) {
        // receive stamps start a moment after they are asked for: wait for that outside the count
        let to = network.local_addresses()[1];
        let warm = SystemClock.monotonic().after(Duration::from_millis(60));
        network.wait(Wait::Until(warm)).expect("the network works");
        for key in 0..50 {
            network.outbox().send(&datagram(0, to, key), number(key));
        }
        let seen = collect(network, |seen| seen.payloads.len() >= 50 && seen.stamps.len() >= 50);
        let expected: Vec<Vec<u8>> = (0u32..50).map(|key| key.to_be_bytes().to_vec()).collect();
        let got: Vec<Vec<u8>> = seen.payloads.iter().map(|p| p.1.clone()).collect();
        assert_eq!(got, expected, "in order, each once");
        assert!(seen.payloads.iter().all(|p| p.0 == 1 && p.2 == StampSource::Kernel && p.3 == Some(0xb8)));
        let mut stamps = seen.stamps;
        stamps.sort_unstable();
        assert_eq!(stamps, (0..50).collect::<Vec<_>>(), "each stamped once");
        assert_eq!(seen.failures, []);
        assert_eq!(network.counters().local_drops, 0);
    }
}

#[test]
fn datagrams_arrive_with_class_and_stamps() {
    let sockets = || {
        vec![
            open(SocketSpec { transmit_stamps: TransmitStamps::All, traffic_class: 0xb8, ..loopback() }),
            open(SocketSpec { receive_traffic_class: true, ..loopback() }),
        ]
    };
    over_each(sockets, Delivers);
}

struct Samples;
impl Check for Samples {
    fn check<N: Network>(&self, network: &mut N) {
        let to = network.local_addresses()[1];
        for key in 100..110 {
            network.outbox().send(&Outgoing { stamp: key % 5 == 0, ..datagram(0, to, key) }, number(key));
        }
        let seen = collect(network, |seen| seen.payloads.len() >= 10 && seen.stamps.len() >= 2);
        assert_eq!(seen.stamps, [100, 105]);
    }
}

#[test]
fn only_those_that_ask_are_stamped() {
    let sockets = || vec![open(SocketSpec { transmit_stamps: TransmitStamps::Asked, ..loopback() }), open(loopback())];
    over_each(sockets, Samples);
}

struct Refused;
impl Check for Refused {
    fn check<N: Network>(&self, network: &mut N) {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("binds");
        // a full batch: every other send meets the error of the send before it
        for key in 0..16 {
            network.outbox().send(&datagram(0, closed, key), number(key));
        }
        let seen = collect(network, |seen| seen.icmp.len() + seen.failures.len() >= 16);
        assert_eq!(seen.failures, [], "another datagram's error is not a failure to send");
        assert_eq!(seen.icmp.len(), 16);
        assert!(seen.icmp.iter().all(|(to, meaning, _)| *to == closed && *meaning == IcmpMeaning::Refused));
        let mut quoted: Vec<_> = seen.icmp.iter().map(|i| i.2.clone()).collect();
        quoted.sort();
        assert_eq!(quoted, (0u32..16).map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
        // and the socket still works
        let own = network.local_addresses()[0];
        network.outbox().send(&datagram(0, own, 99), number(99));
        assert_eq!(collect(network, |seen| !seen.payloads.is_empty()).payloads.len(), 1);
    }
}

#[test]
fn each_refused_datagram_is_reported_once() {
    over_each(|| vec![open(SocketSpec { icmp_errors: true, ..loopback() })], Refused);
}

/// Sends ICMP errors to a socket for quotes of the same host.
struct Quotes {
    host: IpAddr,
    /// From the ICMP header on.
    errors: Vec<Vec<u8>>,
}
impl Check for Quotes {
    fn check<N: Network>(&self, network: &mut N) {
        for (key, error) in (0..).zip(&self.errors) {
            let datagram = Outgoing { stamp: false, ..datagram(0, SocketAddr::new(self.host, 0), key) };
            network.outbox().send(&datagram, |buffer| {
                buffer[..error.len()].copy_from_slice(error);
                error.len()
            });
        }
        let seen = collect(network, |seen| seen.quoted.len() >= 2);
        let to = SocketAddr::new(self.host, 0);
        let upper = |length: usize| [&[0, 7, 1, 0xbb, 0, 0, 0, 42][..], &vec![0; length]].concat();
        assert_eq!(seen.quoted, [(to, 0x2b, upper(0)), (to, 0xb8, upper(8))]);
        assert_eq!((seen.payloads, seen.failures), (vec![], vec![]));
        let counters = network.counters();
        assert_eq!((counters.truncated, counters.local_drops, counters.receive_errors), (0, 0, 0));
    }
}

/// An ICMP error about a TCP segment from a port, with a class, and with some bytes more than eight of it quoted.
fn error_about(host: IpAddr, port: u16, class: u8, more: usize) -> Vec<u8> {
    let mut quoted = match host {
        IpAddr::V4(ip) => {
            let mut header = vec![0x45, class, 0, 200, 0, 0, 0, 0, 9, 6, 0, 0];
            header.extend([ip.octets(), ip.octets()].concat());
            header
        }
        IpAddr::V6(ip) => {
            let mut header = vec![0x60 | class >> 4, class << 4, 0, 0, 0, 200, 6, 9];
            header.extend([ip.octets(), ip.octets()].concat());
            header
        }
    };
    quoted.extend(port.to_be_bytes());
    quoted.extend([1, 0xbb, 0, 0, 0, 42]);
    quoted.resize(quoted.len() + more, 0);
    let mut error = vec![if host.is_ipv4() { 3 } else { 1 }, 1, 0, 0, 0, 0, 0, 0];
    error.extend(quoted);
    let checksum = crate::wire::checksum::Sum::of(&error).checksum(); // of ICMPv6 the kernel makes it
    error[2..4].copy_from_slice(&checksum.to_be_bytes());
    error
}

#[test]
fn what_errors_quote_of_our_packets_is_told_and_nothing_else() {
    for host in [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)] {
        // ours, another's, ours
        let mut errors = vec![error_about(host, 7, 0x2b, 0), error_about(host, 8, 0, 0), error_about(host, 7, 0xb8, 8)];
        let mut echo = error_about(host, 7, 0, 0);
        echo[0] = 0;
        errors.insert(1, echo);
        if host.is_ipv4() {
            let mut damaged = error_about(host, 7, 0, 0);
            damaged[9] ^= 4;
            errors.insert(1, damaged);
        }
        let sockets = || {
            let raw = |transport, ip| open(SocketSpec { transport, ..SocketSpec::new(SocketAddr::new(ip, 0)) });
            let all: IpAddr = if host.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let sockets = vec![
                raw(raw::Transport::Echo { identifiers: Vec::new() }, host),
                raw(raw::Transport::Quotes { numbers: vec![7] }, all),
            ];
            // longer than what a network here sends, and than what it takes in
            let (long, to) = (error_about(host, 7, 0, 400), SockaddrStorage::from(SocketAddr::new(host, 0)));
            sendto(sockets[0].fd.as_raw_fd(), &long, &to, MsgFlags::empty()).expect("sends");
            sockets
        };
        over_each(sockets, Quotes { host, errors });
    }
}

struct Fails;
impl Check for Fails {
    fn check<N: Network>(&self, network: &mut N) {
        // 192.0.2.1 from a socket bound to loopback: the kernel refuses at once
        let nowhere = "192.0.2.1:9".parse().expect("valid");
        network.outbox().send(&datagram(0, nowhere, 5), number(5));
        let seen = collect(network, |seen| !seen.failures.is_empty());
        assert_eq!(seen.failures.len(), 1);
        assert_eq!(seen.failures[0].0, 5);
    }
}

#[test]
fn a_datagram_the_kernel_refuses_is_a_failure_with_its_key() {
    over_each(|| vec![open(loopback())], Fails);
}

struct DualStack;
impl Check for DualStack {
    fn check<N: Network>(&self, network: &mut N) {
        let port = network.local_addresses()[0].port();
        for (key, ip) in [(1, "127.0.0.3"), (2, "::1")] {
            let to = SocketAddr::new(ip.parse().expect("valid"), port);
            let from = if to.is_ipv4() { 1 } else { 2 };
            network.outbox().send(&Outgoing { stamp: false, ..datagram(from, to, key) }, number(key));
        }
        let mut replied = 0;
        let mut answers = Vec::new();
        let end = SystemClock.monotonic().after(Duration::from_secs(2));
        while answers.len() < 2 && SystemClock.monotonic() < end {
            let soon = SystemClock.monotonic().after(Duration::from_millis(10));
            network.wait(Wait::EventOrUntil(soon)).expect("the network works");
            network.drain(|outbox, event| {
                let Event::Received(r) = event else { return };
                if r.socket == SocketId(0) {
                    assert_eq!(r.hop_limit, Some(64));
                    replied += 1;
                    let reply = Outgoing {
                        to: r.from,
                        from: r.to,
                        traffic_class: Some(0x28),
                        stamp: false,
                        ..datagram(0, r.from, 0)
                    };
                    outbox.send(&reply, number(7));
                } else {
                    answers.push((r.from.ip(), r.traffic_class));
                }
            });
        }
        assert_eq!(replied, 2);
        answers.sort();
        let ip = |s: &str| s.parse::<IpAddr>().expect("valid");
        assert_eq!(answers, [(ip("127.0.0.3"), Some(0x28)), (ip("::1"), Some(0x28))], "from the address asked");
    }
}

#[test]
fn a_dual_stack_socket_answers_from_the_address_it_was_asked_at() {
    let sockets = || {
        vec![
            open(SocketSpec {
                dual_stack: true,
                receive_destination: true,
                receive_hop_limit: true,
                ..SocketSpec::new("[::]:0".parse().expect("valid"))
            }),
            open(SocketSpec { receive_traffic_class: true, ..loopback() }),
            open(SocketSpec { receive_traffic_class: true, ..SocketSpec::new("[::1]:0".parse().expect("valid")) }),
        ]
    };
    over_each(sockets, DualStack);
}

#[test]
fn a_port_is_free_as_soon_as_its_network_is_gone() {
    let features = Features::detect(IoChoice::Uring).expect("this machine has it");
    let first = open(loopback());
    let address = first.local;
    let mut ring = uring::open_ring(&LIMITS).expect("opens");
    let network = uring::UringNetwork::new(&mut ring, vec![first], &LIMITS, &features).expect("starts");
    drop(network);
    drop(ring);
    for round in 0..20 {
        let socket = socket::open(&SocketSpec::new(address)).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let mut ring = uring::open_ring(&LIMITS).expect("opens");
        drop(uring::UringNetwork::new(&mut ring, vec![socket], &LIMITS, &features).expect("starts"));
    }
}

/// Sends a hundred datagrams from one socket to another while the network they belong to is closed and made anew
/// over them, a third socket is added and a fourth is dropped: each arrives once, in order, and is stamped once.
#[test]
fn nothing_is_lost_when_a_network_follows_another_over_the_same_sockets() {
    for choice in [IoChoice::Uring, IoChoice::Mmsg] {
        for key_per_message in [true, false] {
            let features = Features { key_per_message, ..Features::detect(choice).expect("this machine has both") };
            let stamped = SocketSpec { transmit_stamps: TransmitStamps::All, ..loopback() };
            let mut sockets = vec![open(loopback()), open(stamped.clone()), open(loopback())];
            let (to, from) = (sockets[2].local, sockets[1].local);
            let (mut payloads, mut stamps) = (Vec::new(), Vec::new());
            let mut key = 0;
            for round in 0..5 {
                let mut take = |event: Event<'_>| match event {
                    Event::Received(r) => payloads.push((r.at.source, r.payload.to_vec())),
                    Event::Transmitted { key, .. } => stamps.push(key),
                    other => panic!("{choice:?}: {other:?}"),
                };
                // the sender's number changes: 1, then 0
                let sender = if round == 0 { 1 } else { 0 };
                let mut send = |network: &mut dyn FnMut(&Outgoing)| {
                    for _ in 0..20 {
                        network(&datagram(sender, to, key));
                        key += 1;
                    }
                };
                let warm = SystemClock.monotonic().after(Duration::from_millis(if round == 0 { 60 } else { 0 }));
                match features.io {
                    Io::Uring => {
                        let mut ring = uring::open_ring(&LIMITS).expect("opens");
                        let mut network =
                            uring::UringNetwork::new(&mut ring, sockets, &LIMITS, &features).expect("starts");
                        network.wait(Wait::Until(warm)).expect("works");
                        send(&mut |d| network.outbox().send(d, number(d.key)));
                        sockets = network.close(&mut take).expect("ends").0;
                    }
                    Io::Mmsg => {
                        let mut network = mmsg::MmsgNetwork::new(sockets, &LIMITS, &features).expect("starts");
                        network.wait(Wait::Until(warm)).expect("works");
                        send(&mut |d| network.outbox().send(d, number(d.key)));
                        sockets = network.close(&mut take).0;
                    }
                }
                if round == 0 {
                    sockets.remove(0);
                    sockets.push(open(loopback()));
                }
                assert_eq!(sockets[0].local, from);
            }
            let seen = match features.io {
                Io::Uring => {
                    let mut ring = uring::open_ring(&LIMITS).expect("opens");
                    let mut last = uring::UringNetwork::new(&mut ring, sockets, &LIMITS, &features).expect("starts");
                    // stamps are looked for while some are due
                    last.outbox().send(&datagram(0, to, 100), number(100));
                    collect(&mut last, |seen| payloads.len() + seen.payloads.len() > 100 && seen.stamps.contains(&100))
                }
                Io::Mmsg => {
                    let mut last = mmsg::MmsgNetwork::new(sockets, &LIMITS, &features).expect("starts");
                    last.outbox().send(&datagram(0, to, 100), number(100));
                    collect(&mut last, |seen| payloads.len() + seen.payloads.len() > 100 && seen.stamps.contains(&100))
                }
            };
            payloads.extend(seen.payloads.into_iter().map(|(_, payload, source, _)| (source, payload)));
            stamps.extend(seen.stamps);
            let expected: Vec<_> = (0u32..=100).map(|key| (StampSource::Kernel, key.to_be_bytes().to_vec())).collect();
            assert_eq!(payloads, expected, "{features}");
            stamps.sort_unstable();
            assert_eq!(stamps, (0..=100).collect::<Vec<_>>(), "{features}");
        }
    }
}

#[test]
fn more_sockets_than_the_queues_hold_are_given_back() {
    let features = Features::detect(IoChoice::Uring).expect("this machine has it");
    let stamped = SocketSpec { transmit_stamps: TransmitStamps::All, ..loopback() };
    let mut sockets: Vec<Socket> = (0..300).map(|_| open(stamped.clone())).collect();
    let to = sockets[0].local;
    let limits = Limits { batch: 16, buffers: 16, datagram: 64 };
    for round in 0..3 {
        let mut ring = uring::open_ring(&limits).expect("opens");
        let mut network = uring::UringNetwork::new(&mut ring, sockets, &limits, &features).expect("starts");
        for socket in 1..300 {
            network.outbox().send(&datagram(socket, to, u32::from(socket)), number(u32::from(socket)));
        }
        let (mut payloads, mut stamps) = (0, 0);
        let mut take = |event: Event<'_>| match event {
            Event::Received(r) if !r.payload.is_empty() => payloads += 1,
            Event::Transmitted { key, .. } if key != 0 => stamps += 1,
            _ => {}
        };
        // what does not fit into the buffers waits in the socket: a few more rounds fetch it
        let end = SystemClock.monotonic().after(Duration::from_secs(2));
        sockets = network.close(&mut take).expect("ends").0;
        while SystemClock.monotonic() < end && (payloads < 299 || stamps < 299) {
            let mut ring = uring::open_ring(&limits).expect("opens");
            let mut network = uring::UringNetwork::new(&mut ring, sockets, &limits, &features).expect("starts");
            network.outbox().send(&datagram(0, to, 0), |_| 0);
            let mut rest = |event: Event<'_>| match event {
                Event::Received(r) if !r.payload.is_empty() => payloads += 1,
                Event::Transmitted { key, .. } if key != 0 => stamps += 1,
                _ => {}
            };
            sockets = network.close(&mut rest).expect("ends").0;
        }
        assert_eq!((sockets.len(), payloads, stamps), (300, 299, 299), "round {round}");
    }
}
