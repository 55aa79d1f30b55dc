//! Sockets for probes that are not UDP: raw sockets for TCP SYNs and ICMP echoes, and ping sockets where raw ones
//! are not allowed.
//!
//! Responsible for what is special about them: the privilege they need, the packet filter that keeps other
//! people's packets out, the TCP ports held so that nobody else uses them, the IP header in front of what is
//! received. Not responsible for what the packets mean. Read [`Transport`] first, then [`guard`].
//!
//! Every raw socket is offered every packet of its protocol that comes to the host, so there is one per source
//! address and worker, not one per source port, and its filter runs before anything is copied.

use super::socket::set_option;
use crate::wire::icmp::{HEADER_LEN, Version};
use crate::wire::{ipv6, tcp};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, recv, socket,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the datagrams of a socket are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// UDP payloads.
    #[default]
    Udp,
    /// TCP segments from their header on, over a raw socket. What comes in is answers to SYNs from these source
    /// ports, which the caller should [`hold`].
    Tcp {
        /// Source ports.
        ports: Vec<u16>,
    },
    /// ICMP echo requests from their header on, over a raw socket. What comes in is replies with these identifiers.
    Echo {
        /// Identifiers.
        identifiers: Vec<u16>,
    },
    /// The same over a ping socket (icmp(7)), whose identifier is its local port: the kernel writes it.
    Ping,
    /// Nothing is sent, over a raw socket. What comes in is ICMP errors about segments from these TCP ports and echoes
    /// with these identifiers, and becomes [`super::Event::Quoted`].
    Quotes {
        /// Source ports and identifiers.
        numbers: Vec<u16>,
    },
}

impl Transport {
    /// The socket's type and protocol.
    pub(super) fn kind(&self, v6: bool) -> (SockType, Option<SockProtocol>) {
        let icmp = if v6 { SockProtocol::IcmpV6 } else { SockProtocol::Icmp };
        match self {
            Transport::Udp => (SockType::Datagram, None),
            Transport::Tcp { .. } => (SockType::Raw, Some(SockProtocol::Tcp)),
            Transport::Echo { .. } | Transport::Quotes { .. } => (SockType::Raw, Some(icmp)),
            Transport::Ping => (SockType::Datagram, Some(icmp)),
        }
    }

    /// The same with these source ports or identifiers, where it has any.
    pub fn with_ports(&self, numbers: Vec<u16>) -> Transport {
        match self {
            Transport::Tcp { .. } => Transport::Tcp { ports: numbers },
            Transport::Echo { .. } => Transport::Echo { identifiers: numbers },
            Transport::Quotes { .. } => Transport::Quotes { numbers },
            Transport::Udp | Transport::Ping => self.clone(),
        }
    }

    /// Whether it needs a raw socket.
    pub fn is_raw(&self) -> bool {
        matches!(self, Transport::Tcp { .. } | Transport::Echo { .. } | Transport::Quotes { .. })
    }

    /// Whether its packets have an IP header in front when they are received.
    pub(super) fn has_ip_header(&self, v6: bool) -> bool {
        self.is_raw() && !v6
    }
}

/// What the operating system lets this process do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// Raw sockets: `CAP_NET_RAW`.
    pub raw: bool,
    /// Ping sockets: `net.ipv4.ping_group_range`, for both families.
    pub ping: bool,
}

/// Tries both kinds of sockets.
pub fn privilege() -> Privilege {
    let can = |kind| socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).is_ok();
    Privilege { raw: can(SockType::Raw), ping: can(SockType::Datagram) }
}

/// What to do about a missing privilege.
pub const REMEDY: &str =
    "grant it by `scripts/grant-caps PROGRAM`, or AmbientCapabilities=CAP_NET_RAW in the systemd unit";

/// Port ranges a filter tells apart at most; beyond it the closest ones are joined, and what comes to the ports in
/// between is left to whoever reads the packets.
const FILTER_RANGES: usize = 64;

/// Packets taken off a socket that came before its filter, at most.
const FOREIGN_PACKETS: usize = 4096;

/// Accepts a packet whole.
const ACCEPT: u32 = u32::MAX;
const REFUSE: u32 = 0;

const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;
const ECHO_REPLY: u32 = 0;
const ECHO_REPLY_V6: u32 = 129;

/// ICMP messages of these types reach a socket for quotes: unreachable, time exceeded, parameter problem.
const ERRORS: [u32; 3] = [3, 11, 12];
/// ICMPv6: unreachable, too big, time exceeded, parameter problem.
const ERRORS_V6: [u32; 4] = [1, 2, 3, 4];
/// Level and option, which libc lacks (linux/icmp.h, linux/icmpv6.h).
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// `jt` and `jf`: instructions skipped when the comparison of the accumulator with `k` is true or false.
fn jump(comparison: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jt, jf, k }
}

/// Loads from behind the IP header, which stands in front in IPv4 only.
fn load(size: u32, at: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | size | libc::BPF_IND, at)
}

/// Sets the index register to where the IP header ends.
fn skip_ip_header(v6: bool) -> libc::sock_filter {
    match v6 {
        true => statement(libc::BPF_LDX | libc::BPF_IMM, 0),
        false => statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
    }
}

/// Passes SYN-ACKs and RSTs to these ports.
fn tcp_filter(v6: bool, ports: &[u16]) -> Vec<libc::sock_filter> {
    let mut program = vec![
        skip_ip_header(v6),
        load(libc::BPF_B, TCP_FLAGS),
        // cheapest first: nearly all of a busy host's segments end here
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN | RST | ACK),
        jump(libc::BPF_JEQ, SYN | ACK, 2, 0),
        jump(libc::BPF_JSET, RST, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        load(libc::BPF_H, 2),
    ];
    in_ranges(ports, &mut program);
    program
}

/// Passes echo replies with these identifiers.
fn echo_filter(v6: bool, identifiers: &[u16]) -> Vec<libc::sock_filter> {
    let mut program = vec![
        skip_ip_header(v6),
        load(libc::BPF_B, 0),
        jump(libc::BPF_JEQ, if v6 { ECHO_REPLY_V6 } else { ECHO_REPLY }, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        load(libc::BPF_H, 4),
    ];
    in_ranges(identifiers, &mut program);
    program
}

/// Passes ICMP errors whose quoted packet is a TCP segment from one of these ports, or an echo with one of these
/// identifiers. What has IPv6 extension headers is not looked through: nothing here is sent with them.
fn quote_filter(v6: bool, numbers: &[u16]) -> Vec<libc::sock_filter> {
    let quote = HEADER_LEN as u32;
    let immediate = |value| statement(libc::BPF_LD | libc::BPF_IMM, value);
    let alu = |operation| move |k| statement(libc::BPF_ALU | operation | libc::BPF_K, k);
    let add_index = statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
    let to_index = statement(libc::BPF_MISC | libc::BPF_TAX, 0);
    let (protocol_at, icmp) = if v6 { (6, Version::V6.protocol()) } else { (9, Version::V4.protocol()) };
    let mut program = vec![skip_ip_header(v6)];
    // the quoted header's length
    match v6 {
        true => program.push(immediate(ipv6::HEADER_LEN as u32)),
        false => program.extend([load(libc::BPF_B, quote), alu(libc::BPF_AND)(0xf), alu(libc::BPF_LSH)(2)]),
    }
    program.extend([
        statement(libc::BPF_ST, 0),
        load(libc::BPF_B, quote + protocol_at),
        jump(libc::BPF_JEQ, tcp::PROTOCOL.into(), 4, 0),
        jump(libc::BPF_JEQ, icmp.into(), 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, REFUSE),
        immediate(4), // where an echo has its identifier
        statement(libc::BPF_JMP | libc::BPF_JA, 1),
        immediate(0), // where a segment has its source port
        add_index,
        to_index,
        statement(libc::BPF_LD | libc::BPF_MEM, 0),
        add_index,
        to_index,
        load(libc::BPF_H, quote),
    ]);
    in_ranges(numbers, &mut program);
    program
}

/// Refuses everything but ICMP errors, before the kernel copies it for this socket.
fn only_errors(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if !v6 {
        let refused = ERRORS.iter().fold(u32::MAX, |refused, kind| refused & !(1 << kind));
        return set_option(fd, SOL_RAW, ICMP_FILTER, &refused);
    }
    let mut refused = [u32::MAX; 8];
    ERRORS_V6.iter().for_each(|kind| refused[0] &= !(1 << kind));
    set_option(fd, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &refused)
}

/// Accepts when the accumulator is one of the numbers, else refuses.
fn in_ranges(numbers: &[u16], program: &mut Vec<libc::sock_filter>) {
    for (low, high) in ranges(numbers) {
        program.push(jump(libc::BPF_JGE, low.into(), 0, 2));
        program.push(jump(libc::BPF_JGT, high.into(), 1, 0));
        program.push(statement(libc::BPF_RET | libc::BPF_K, ACCEPT));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, REFUSE));
}

/// The numbers as at most [`FILTER_RANGES`] ranges, ascending, both ends included.
fn ranges(numbers: &[u16]) -> Vec<(u16, u16)> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    // the widest gaps stay
    let mut gaps: Vec<usize> = (1..sorted.len()).filter(|at| sorted[*at] - sorted[at - 1] > 1).collect();
    gaps.sort_by_key(|at| std::cmp::Reverse(sorted[*at] - sorted[at - 1]));
    gaps.truncate(FILTER_RANGES - 1);
    gaps.sort_unstable();
    let starts = std::iter::once(0).chain(gaps.iter().copied());
    let ends = gaps.iter().copied().chain(std::iter::once(sorted.len()));
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| (sorted[start], sorted[end - 1])).collect()
}

fn attach(fd: BorrowedFd<'_>, mut program: Vec<libc::sock_filter>) -> io::Result<()> {
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &header)
}

/// A port held by a TCP socket that is bound and neither listens nor connects: nobody else gets it, and the kernel, which
/// knows of no connection there, answers a SYN-ACK with the RST that closes the target's half.
#[derive(Debug)]
pub struct Held {
    _fd: OwnedFd,
    /// The address held.
    pub local: SocketAddr,
}

/// Holds a TCP port; port 0 lets the system choose.
///
/// # Errors
/// The port is taken, or the address is none of this host's; with the address.
pub fn hold(address: SocketAddr) -> io::Result<Held> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1i32)?;
    }
    let say = |e: Errno| io::Error::new(io::Error::from(e).kind(), format!("TCP port {address}: {e}"));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).map_err(say)?;
    let local: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let local = super::socket::socket_addr(&local).unwrap_or(address);
    Ok(Held { _fd: fd, local })
}

/// Makes a fresh raw socket let in nothing but its answers; leaves others as they are.
///
/// # Errors
/// The filter refused.
pub(super) fn guard(fd: &OwnedFd, v6: bool, transport: &Transport) -> io::Result<()> {
    if !transport.is_raw() {
        return Ok(());
    }
    if matches!(transport, Transport::Quotes { .. }) {
        only_errors(fd.as_fd(), v6)?;
    }
    refit(fd, v6, transport)?;
    // a raw socket takes packets from its first moment on
    let mut byte = [0];
    for _ in 0..FOREIGN_PACKETS {
        match recv(fd.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Makes a raw socket let in the answers of `transport` from now on; in one step, so that none is missed that both let
/// in. Leaves others as they are.
///
/// # Errors
/// The filter refused.
pub(super) fn refit(fd: &OwnedFd, v6: bool, transport: &Transport) -> io::Result<()> {
    match transport {
        Transport::Udp | Transport::Ping => Ok(()),
        Transport::Tcp { ports } => attach(fd.as_fd(), tcp_filter(v6, ports)),
        Transport::Echo { identifiers } => attach(fd.as_fd(), echo_filter(v6, identifiers)),
        Transport::Quotes { numbers } => attach(fd.as_fd(), quote_filter(v6, numbers)),
    }
}

/// The address with another port; the zone stays.
pub fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// What the header of a received IPv4 packet says, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ipv4<'a> {
    pub(super) traffic_class: u8,
    pub(super) hop_limit: u8,
    pub(super) to: IpAddr,
    pub(super) payload: &'a [u8],
}

/// Takes the IPv4 header off a packet as a raw socket delivers it; `None` when it is cut short.
#[inline]
pub(super) fn ipv4(packet: &[u8]) -> Option<Ipv4<'_>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let payload = packet.get(usize::from(header[0] & 0x0f) * 4..)?;
    let [.., a, b, c, d] = *header;
    let to = Ipv4Addr::new(a, b, c, d).into();
    Some(Ipv4 { traffic_class: header[1], hop_limit: header[8], to, payload })
}

/// Bytes an IPv4 header has at most.
pub const LONGEST_IP_HEADER: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a filter says to a packet: the part of the classic machine that is used here.
    fn run(program: &[libc::sock_filter], packet: &[u8]) -> u32 {
        let (mut a, mut x, mut kept, mut at) = (0u32, 0u32, 0u32, 0usize);
        let byte = |at: u32| packet.get(at as usize).copied().map(u32::from);
        loop {
            let op = program[at];
            at += 1;
            let code = u32::from(op.code);
            let skip = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
            match code {
                c if c == libc::BPF_LDX | libc::BPF_IMM => x = op.k,
                c if c == libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH => match byte(op.k) {
                    Some(b) => x = 4 * (b & 0xf),
                    None => return REFUSE,
                },
                c if c == libc::BPF_LD | libc::BPF_B | libc::BPF_IND => match byte(x + op.k) {
                    Some(b) => a = b,
                    None => return REFUSE,
                },
                c if c == libc::BPF_LD | libc::BPF_H | libc::BPF_IND => match (byte(x + op.k), byte(x + op.k + 1)) {
                    (Some(high), Some(low)) => a = high << 8 | low,
                    _ => return REFUSE,
                },
                c if c == libc::BPF_LD | libc::BPF_IMM => a = op.k,
                c if c == libc::BPF_ST => kept = a,
                c if c == libc::BPF_LD | libc::BPF_MEM => a = kept,
                c if c == libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X => a += x,
                c if c == libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K => a <<= op.k,
                c if c == libc::BPF_MISC | libc::BPF_TAX => x = a,
                c if c == libc::BPF_JMP | libc::BPF_JA => at += op.k as usize,
                c if c == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => a &= op.k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += skip(a == op.k),
                c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += skip(a >= op.k),
                c if c == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => at += skip(a > op.k),
                c if c == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => at += skip(a & op.k != 0),
                c if c == libc::BPF_RET | libc::BPF_K => return op.k,
                other => panic!("{other:#x} is not used here"),
            }
        }
    }

    fn segment(v6: bool, to: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[2..4].copy_from_slice(&to.to_be_bytes());
        segment[13] = flags;
        if v6 {
            return segment;
        }
        let mut packet = vec![0; 24]; // one word of options
        packet[0] = 0x46;
        packet.extend(segment);
        packet
    }

    #[test]
    fn only_answers_to_our_ports_pass() {
        for v6 in [false, true] {
            let program = tcp_filter(v6, &[40_000, 40_001, 50_000]);
            let passes = |to, flags| run(&program, &segment(v6, to, flags)) == ACCEPT;
            for flags in [0x12, 0x14, 0x04, 0x52, 0xd2] {
                assert!(passes(40_000, flags) && passes(40_001, flags) && passes(50_000, flags), "{flags:#x}");
                assert!(!passes(39_999, flags) && !passes(40_002, flags) && !passes(50_001, flags), "{flags:#x}");
            }
            for flags in [0x02, 0x10, 0x18, 0x11, 0x00] {
                assert!(!passes(40_000, flags), "{flags:#x}");
            }
        }
    }

    #[test]
    fn only_echo_replies_with_our_identifiers_pass() {
        let program = echo_filter(true, &[7, 9]);
        let passes = |kind: u8, id: u8| run(&program, &[kind, 0, 0, 0, 0, id, 0, 0]) == ACCEPT;
        assert!(passes(129, 7) && passes(129, 9) && !passes(129, 8) && !passes(128, 7) && !passes(1, 7));
        let v4 = echo_filter(false, &[7]);
        let mut packet = vec![0x45];
        packet.extend([0; 19]);
        packet.extend([0, 0, 0, 0, 0, 7, 0, 0]);
        assert_eq!(run(&v4, &packet), ACCEPT);
        packet[20] = 8;
        assert_eq!(run(&v4, &packet), REFUSE);
    }

    #[test]
    fn only_errors_about_our_packets_pass() {
        for (v6, echo) in [(false, 1), (true, 58)] {
            let program = quote_filter(v6, &[7, 9]);
            let about = |protocol: u8, options: u8, at: usize, number: u8| {
                let mut packet = if v6 { Vec::new() } else { [&[0x46][..], &[0; 23]].concat() };
                packet.extend([0; HEADER_LEN]);
                let mut quoted = if v6 { vec![0; 40] } else { vec![0; 20 + 4 * usize::from(options)] };
                quoted[0] = if v6 { 0x60 } else { 0x45 + options };
                quoted[if v6 { 6 } else { 9 }] = protocol;
                packet.extend(quoted);
                let mut upper = [0; 8];
                upper[at + 1] = number;
                packet.extend(upper);
                packet
            };
            let passes = |packet: &[u8]| run(&program, packet) == ACCEPT;
            for options in [0, 10] {
                for number in [7, 9] {
                    assert!(passes(&about(6, options, 0, number)) && passes(&about(echo, options, 4, number)));
                    assert!(!passes(&about(6, options, 2, number)), "a port of the target's");
                    assert!(!passes(&about(17, options, 0, number)), "a UDP datagram");
                }
                assert!(!passes(&about(6, options, 0, 8)) && !passes(&about(echo, options, 4, 8)));
            }
            let whole = about(echo, 0, 4, 7);
            (0..whole.len() - 2).for_each(|len| assert!(!passes(&whole[..len]), "{len}"));
        }
    }

    #[test]
    fn an_ip_header_is_taken_off_with_its_options() {
        let mut packet = segment(false, 1, 2);
        packet[1] = 0xb8;
        packet[8] = 63;
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        let read = ipv4(&packet).expect("whole");
        assert_eq!((read.traffic_class, read.hop_limit, read.payload.len()), (0xb8, 63, 20));
        assert_eq!(read.to, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(ipv4(&packet[..22]), None);
    }

    #[test]
    fn a_held_port_is_nobody_elses() {
        let held = hold("127.0.0.1:0".parse().expect("valid")).expect("holds");
        assert_ne!(held.local.port(), 0);
        let taken = std::net::TcpListener::bind(held.local).expect_err("held");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    proptest! {
        #[test]
        fn ranges_hold_all_numbers_and_few_more(numbers in proptest::collection::vec(0u16.., 0..200)) {
            let ranges = ranges(&numbers);
            prop_assert!(ranges.len() <= FILTER_RANGES);
            prop_assert!(ranges.windows(2).all(|two| two[0].1 < two[1].0));
            for number in &numbers {
                prop_assert!(ranges.iter().any(|(low, high)| (low..=high).contains(&number)));
            }
            if numbers.len() <= FILTER_RANGES {
                let held: u32 = ranges.iter().map(|(low, high)| u32::from(high - low) + 1).sum();
                let distinct: std::collections::BTreeSet<u16> = numbers.iter().copied().collect();
                prop_assert_eq!(held as usize, distinct.len());
            }
        }

        #[test]
        fn no_packet_breaks_a_filter_or_the_header(packet: Vec<u8>) {
            run(&tcp_filter(false, &[1, 5]), &packet);
            run(&echo_filter(true, &[1, 5]), &packet);
            ipv4(&packet);
        }
    }
}
