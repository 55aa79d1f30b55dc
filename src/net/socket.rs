//! Opening sockets the way a [`SocketSpec`] says, changing them while they are open, and steering datagrams
//! to cores.

use super::raw;
use super::stamp_keys::Counted;
use super::{FlowLabels, SocketSpec, TransmitStamps, flow_label};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, socket};
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
    /// Whether what is received is ICMP errors for what they quote.
    pub quotes: bool,
    /// What it was opened or changed to be like.
    pub spec: SocketSpec,
    /// What its last network knew.
    pub carried: Carried,
}

/// What one network hands the next one with a socket, because the kernel counts on.
#[derive(Debug, Default)]
pub struct Carried {
    /// The kernel's total of datagrams dropped, as far as it has been reported.
    pub dropped: u32,
    /// Keys of stamps that the kernel numbers itself.
    pub keys: Option<Counted>,
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

impl Socket {
    /// Makes an open socket like `spec`, as far as that can be done without losing its port: class, transmit
    /// stamps, flow labels, receive buffer, ports that a raw one lets in, and whether a UDP one is connected. One that is to send to
    /// more than the address it is connected to is unconnected, and one that is unconnected stays so.
    ///
    /// # Errors
    /// The kernel's, with the address and the option that was refused.
    pub fn adapt(&mut self, spec: &SocketSpec) -> io::Result<()> {
        let fd = self.fd.as_fd();
        let say =
            |what: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{}: {what}: {e}", spec.bind));
        if spec.traffic_class != self.spec.traffic_class {
            set_class(fd, self.v6, !self.v6 || spec.dual_stack, spec.traffic_class).map_err(say("traffic class"))?;
        }
        if spec.receive_buffer > self.spec.receive_buffer {
            set_receive_buffer(fd, spec.receive_buffer).map_err(say("SO_RCVBUF"))?;
        }
        if spec.transmit_stamps != self.transmit_stamps {
            set_stamping(fd, spec.transmit_stamps).map_err(say("SO_TIMESTAMPING"))?;
            if self.transmit_stamps == TransmitStamps::None {
                self.carried.keys = None; // the kernel begins at 0
            }
            self.transmit_stamps = spec.transmit_stamps;
        }
        if spec.transport != self.spec.transport {
            raw::refit(&self.fd, self.v6, &spec.transport).map_err(say("packet filter"))?;
        }
        let relabelled = self.v6 && spec.flow_labels != self.spec.flow_labels;
        if relabelled {
            set_flow_labels(fd, spec.flow_labels).map_err(say("flow labels"))?;
        }
        if self.connected && spec.connect != self.spec.connect {
            disconnect(fd).map_err(say("disconnect"))?;
            self.connected = false;
        }
        if let (true, true, Some(to)) = (self.connected, relabelled, spec.connect) {
            self.flow_label = label(spec, self.local.port(), to);
            let to = SockaddrStorage::from(labelled(to, self.flow_label));
            connect(fd.as_raw_fd(), &to).map_err(|e| say("connect")(e.into()))?;
        }
        self.spec = SocketSpec { bind: self.spec.bind, ..spec.clone() };
        Ok(())
    }
}

/// Lets a connected socket send to any address again. Its port stays when it was bound by number.
fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: connect(2) reads `size_of::<sockaddr>()` bytes at the pointer, which `nobody` provides; `fd` is open.
    #[expect(unsafe_code, reason = "nix has no address without a family")]
    let result =
        unsafe { libc::connect(fd.as_raw_fd(), &raw const nobody, size_of::<libc::sockaddr>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_class(fd: BorrowedFd<'_>, v6: bool, v4_too: bool, class: u8) -> io::Result<()> {
    if v6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &i32::from(class))?;
    }
    if v4_too {
        set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, &i32::from(class))?;
    }
    Ok(())
}

/// For an IPv6 socket. What the system would do by itself is not asked for again once it was refused.
fn set_flow_labels(fd: BorrowedFd<'_>, labels: FlowLabels) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IPV6, IPV6_FLOWINFO_SEND, &i32::from(labels == FlowLabels::Own))?;
    match labels {
        FlowLabels::Zero => set_option(fd, libc::IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, &0i32),
        FlowLabels::System | FlowLabels::Own => Ok(()),
    }
}

/// The flow label of what a connected socket sends.
fn label(spec: &SocketSpec, port: u16, to: SocketAddr) -> u32 {
    match spec.flow_labels {
        // the port of a raw socket is none
        FlowLabels::Own if !spec.transport.is_raw() => flow_label(port, to),
        _ => 0,
    }
}

/// `SO_RCVBUFFORCE` goes beyond `rmem_max` and needs `CAP_NET_ADMIN`; without it `SO_RCVBUF` is clipped silently.
fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let asked = i32::try_from(bytes).unwrap_or(i32::MAX);
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &asked)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &asked))
}

/// Binds to a port of the system's choice, but by its number: a socket bound to port 0 would lose its port
/// when it is connected and unconnected again (`SOCK_BINDPORT_LOCK` in the kernel).
fn bind_by_number(fd: &OwnedFd, family: AddressFamily, spec: &SocketSpec) -> io::Result<()> {
    // chosen by a socket that shares nothing; only then may the two share it
    let chooser = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if spec.bind.is_ipv6() {
        set_option(chooser.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &i32::from(!spec.dual_stack))?;
    }
    bind(chooser.as_raw_fd(), &SockaddrStorage::from(spec.bind))?;
    let chosen: SockaddrStorage = getsockname(chooser.as_raw_fd())?;
    let Some(chosen) = socket_addr(&chosen) else { return Err(io::Error::from(io::ErrorKind::AddrNotAvailable)) };
    on(chooser.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    on(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(chosen))?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &0i32)
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
    let raw = fd.as_fd();
    let say = |what: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{}: {what}: {e}", spec.bind));

    raw::guard(&fd, v6, &spec.transport).map_err(say("packet filter"))?;
    // a raw socket is of one family, and refuses the option
    if v6 && !spec.transport.is_raw() {
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &i32::from(!spec.dual_stack))
            .map_err(say("IPV6_V6ONLY"))?;
    }
    set_class(raw, v6, v4_too, spec.traffic_class).map_err(say("traffic class"))?;
    // never in fragments: a probe shows what its size meets. What the kernel remembers of the path's MTU is not asked,
    // or only the first probe after an error would leave
    if v4_too {
        set_option(raw, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_PROBE)
            .map_err(say("IP_MTU_DISCOVER"))?;
    }
    if v6 {
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_PROBE)
            .map_err(say("IPV6_MTU_DISCOVER"))?;
        set_flow_labels(raw, spec.flow_labels).map_err(say("flow labels"))?;
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
    set_receive_buffer(raw, spec.receive_buffer).map_err(say("SO_RCVBUF"))?;
    set_stamping(raw, spec.transmit_stamps).map_err(say("SO_TIMESTAMPING"))?;

    let has_ports = spec.transport == raw::Transport::Udp;
    // a raw socket's port would be taken for a protocol
    let bare = |address| if spec.transport.is_raw() { raw::with_port(address, 0) } else { address };
    if spec.connect.is_some() && spec.bind.port() == 0 && has_ports {
        bind_by_number(&fd, family, spec).map_err(say("bind"))?;
    } else {
        bind(fd.as_raw_fd(), &SockaddrStorage::from(bare(spec.bind))).map_err(|e| say("bind")(e.into()))?;
    }
    let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let port = socket_addr(&bound).map_or(0, |local| local.port());
    let flow_label = spec.connect.map_or(0, |to| label(spec, port, to));
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
        spec: spec.clone(),
        carried: Carried::default(),
        has_ports,
        ip_header: spec.transport.has_ip_header(v6),
        quotes: matches!(spec.transport, raw::Transport::Quotes { .. }),
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
    fn a_socket_keeps_its_chosen_port_when_it_is_unconnected() {
        let first = open(&SocketSpec::new("127.0.0.1:0".parse().expect("valid"))).expect("opens");
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let spec = SocketSpec { connect: Some(first.local), ..SocketSpec::new(bind.parse().expect("valid")) };
            let mut socket = open(&spec).expect("opens");
            assert!(socket.connected && socket.local.port() != first.local.port());
            let shared = SocketSpec::new(SocketAddr::new(spec.bind.ip(), socket.local.port()));
            assert_eq!(open(&shared).expect_err("not shared").kind(), io::ErrorKind::AddrInUse);
            socket.adapt(&SocketSpec { connect: None, traffic_class: 0xb8, ..spec }).expect("changes");
            let name: SockaddrStorage = getsockname(socket.fd.as_raw_fd()).expect("bound");
            let now = socket_addr(&name).expect("an IP address");
            assert_eq!((socket.connected, now.port()), (false, socket.local.port()), "{bind}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = open(&SocketSpec::new("127.0.0.1:0".parse().expect("valid"))).expect("opens");
        let error = open(&SocketSpec::new(first.local)).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.local.to_string()), "{error}");
    }
}
