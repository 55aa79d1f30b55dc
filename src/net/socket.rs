//! Opening sockets the way a [`SocketSpec`] says, and steering datagrams to cores.

use super::raw;
use super::{FlowLabels, SocketSpec, TransmitStamps, flow_label};
use nix::sys::socket::{AddressFamily, SockFlag, SockaddrStorage, bind, connect, getsockname, socket};
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An open socket and what the worker must know about it.
#[derive(Debug)]
pub struct Socket {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Whether its family is IPv6 (an IPv4 peer is then written as IPv4-mapped).
    pub v6: bool,
    /// Whether it is connected: datagrams then need no address.
    pub connected: bool,
    /// The flow label of what is sent without an address.
    pub flow_label: u32,
    /// Local address, with the port the system chose.
    pub local: SocketAddr,
    /// Transmit stamps it was opened for.
    pub transmit_stamps: TransmitStamps,
    /// Whether ICMP errors are reported.
    pub icmp_errors: bool,
    /// Receive buffer the kernel granted, in bytes of its own accounting.
    pub granted_receive_buffer: usize,
    /// Whether addresses have a port: those of UDP.
    pub has_ports: bool,
    /// Whether what is received begins with an IPv4 header.
    pub ip_header: bool,
}

/// Destination addresses carry flow labels (linux/in6.h).
const IPV6_FLOWINFO_SEND: i32 = 33;
/// The kernel makes flow labels by itself (linux/in6.h).
const IPV6_AUTOFLOWLABEL: i32 = 70;

/// `SO_TIMESTAMPING` flags (linux/net_tstamp.h).
pub mod stamping {
    /// Stamp on transmit, by the driver.
    pub const TX_SOFTWARE: u32 = 1 << 1;
    /// Stamp on receive.
    pub const RX_SOFTWARE: u32 = 1 << 3;
    /// Report software stamps.
    pub const SOFTWARE: u32 = 1 << 4;
    /// Number the transmit stamps.
    pub const OPT_ID: u32 = 1 << 7;
    /// Transmit stamps come without the packet.
    pub const OPT_TSONLY: u32 = 1 << 11;
}

/// Sets a socket option to a plain value.
///
/// # Errors
/// The kernel's.
pub fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: setsockopt(2) reads `size_of::<T>()` bytes at the pointer, which the reference provides; `fd` is open.
    #[expect(unsafe_code, reason = "nix has no typed form of several of these options")]
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn on(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<()> {
    set_option(fd, level, name, &1i32)
}

/// Opens and binds a socket.
///
/// # Errors
/// The kernel's, with the address and the option that was refused.
pub fn open(spec: &SocketSpec) -> io::Result<Socket> {
    let v6 = spec.bind.is_ipv6();
    let v4_too = !v6 || spec.dual_stack;
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let (kind, protocol) = spec.transport.kind(v6);
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
    let raw = std::os::fd::AsFd::as_fd(&fd);
    let say = |what: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{}: {what}: {e}", spec.bind));

    raw::guard(&fd, v6, &spec.transport).map_err(say("packet filter"))?;
    if v6 {
        // a raw socket is of one family, and refuses the option
        if !spec.transport.is_raw() {
            set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &i32::from(!spec.dual_stack))
                .map_err(say("IPV6_V6ONLY"))?;
        }
        let class = i32::from(spec.traffic_class);
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class).map_err(say("IPV6_TCLASS"))?;
    }
    if v4_too {
        set_option(raw, libc::IPPROTO_IP, libc::IP_TOS, &i32::from(spec.traffic_class)).map_err(say("IP_TOS"))?;
    }
    // never in fragments: a probe shows what its size meets. What the kernel remembers of the path's MTU is not asked,
    // or only the first probe after an error would leave
    if v4_too {
        set_option(raw, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_PROBE)
            .map_err(say("IP_MTU_DISCOVER"))?;
    }
    if v6 {
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_PROBE)
            .map_err(say("IPV6_MTU_DISCOVER"))?;
        match spec.flow_labels {
            FlowLabels::System => {}
            FlowLabels::Own => on(raw, libc::IPPROTO_IPV6, IPV6_FLOWINFO_SEND).map_err(say("IPV6_FLOWINFO_SEND"))?,
            FlowLabels::Zero => {
                set_option(raw, libc::IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, &0i32).map_err(say("IPV6_AUTOFLOWLABEL"))?;
            }
        }
    }
    let reports = [
        (spec.receive_traffic_class, libc::IP_RECVTOS, libc::IPV6_RECVTCLASS, "receive traffic class"),
        (spec.receive_hop_limit, libc::IP_RECVTTL, libc::IPV6_RECVHOPLIMIT, "receive hop limit"),
        (spec.icmp_errors, libc::IP_RECVERR, libc::IPV6_RECVERR, "receive errors"),
    ];
    for (wanted, v4_option, v6_option, name) in reports {
        if wanted && v4_too {
            on(raw, libc::IPPROTO_IP, v4_option).map_err(say(name))?;
        }
        if wanted && v6 {
            on(raw, libc::IPPROTO_IPV6, v6_option).map_err(say(name))?;
        }
    }
    if spec.receive_destination {
        // an IPv6 socket reports the destination of IPv4 packets IPv4-mapped: one option serves both
        let (level, option) =
            if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
        on(raw, level, option).map_err(say("receive destination"))?;
    }
    if spec.reuse_port {
        on(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT).map_err(say("SO_REUSEPORT"))?;
    }
    on(raw, libc::SOL_SOCKET, libc::SO_RXQ_OVFL).map_err(say("SO_RXQ_OVFL"))?;
    // SO_RCVBUFFORCE goes beyond rmem_max and needs CAP_NET_ADMIN; without it SO_RCVBUF is clipped silently
    let asked = i32::try_from(spec.receive_buffer).unwrap_or(i32::MAX);
    set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &asked)
        .or_else(|_| set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, &asked))
        .map_err(say("SO_RCVBUF"))?;
    set_stamping(raw, spec.transmit_stamps).map_err(say("SO_TIMESTAMPING"))?;

    let has_ports = spec.transport == raw::Transport::Udp;
    // a raw socket's port would be taken for a protocol
    let bare = |address| if spec.transport.is_raw() { raw::with_port(address, 0) } else { address };
    let name = SockaddrStorage::from(bare(spec.bind));
    bind(fd.as_raw_fd(), &name).map_err(|e| say("bind")(e.into()))?;
    let local: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let port = socket_addr(&local).map_or(0, |local| local.port());
    let flow_label = match (spec.flow_labels, spec.connect) {
        // the port of a raw socket is none
        (FlowLabels::Own, Some(to)) if !spec.transport.is_raw() => flow_label(port, to),
        _ => 0,
    };
    let connected = spec.connect.is_some_and(|to| {
        let to = labelled(bare(to), flow_label);
        connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).is_ok()
    });
    let local: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let local = bare(socket_addr(&local).unwrap_or(spec.bind));
    let granted = nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::RcvBuf).unwrap_or(0);
    Ok(Socket {
        fd,
        v6,
        connected,
        flow_label,
        local,
        transmit_stamps: spec.transmit_stamps,
        icmp_errors: spec.icmp_errors,
        granted_receive_buffer: granted,
        has_ports,
        ip_header: spec.transport.has_ip_header(v6),
    })
}

/// The address with a flow label, which travels in network order.
fn labelled(address: SocketAddr, flow_label: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if flow_label != 0 => {
            SocketAddrV6::new(*v6.ip(), v6.port(), flow_label.to_be(), v6.scope_id()).into()
        }
        other => other,
    }
}

/// Turns receive stamps on, and transmit stamps as asked.
///
/// # Errors
/// The kernel's.
pub fn set_stamping(fd: BorrowedFd<'_>, transmit: TransmitStamps) -> io::Result<()> {
    let receive = stamping::RX_SOFTWARE | stamping::SOFTWARE;
    // OPT_TSONLY is mandatory: without it each stamp keeps its packet in the receive buffer
    let flags = match transmit {
        TransmitStamps::None => receive,
        TransmitStamps::Asked => receive | stamping::OPT_ID | stamping::OPT_TSONLY,
        TransmitStamps::All => receive | stamping::OPT_ID | stamping::OPT_TSONLY | stamping::TX_SOFTWARE,
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &flags)
}

pub(super) fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

/// Steers the datagrams of a `SO_REUSEPORT` group to the socket whose position equals that of the
/// receiving CPU in `cpus`; others go to position CPU modulo the group's size.
///
/// Attach it to any socket of the group after all are bound; positions are the order of binding.
///
/// # Errors
/// The kernel's.
pub fn steer_by_cpu(fd: BorrowedFd<'_>, cpus: &[usize]) -> io::Result<()> {
    const LOAD_CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, LOAD_CPU)];
    for (position, cpu) in cpus.iter().enumerate() {
        program.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: *cpu as u32,
        });
        program.push(statement(libc::BPF_RET | libc::BPF_K, position as u32));
    }
    program.push(statement(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, cpus.len().max(1) as u32));
    program.push(statement(libc::BPF_RET | libc::BPF_A, 0));
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_port_is_known_after_opening() {
        let socket = open(&SocketSpec::new("127.0.0.1:0".parse().expect("valid"))).expect("opens");
        assert_ne!(socket.local.port(), 0);
        assert!(socket.granted_receive_buffer > 0);
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = open(&SocketSpec::new("127.0.0.1:0".parse().expect("valid"))).expect("opens");
        let error = open(&SocketSpec::new(first.local)).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.local.to_string()), "{error}");
    }
}
