//! The floor: the fewest instructions that can measure a round trip with `sendmmsg` and `recvmmsg`.
//!
//! Responsible for the bare loops that the product is compared with, at both ends: a closed-loop
//! sender and a reflector that turns a probe into a reply. They keep no statistics, parse nothing and check nothing but that as many datagrams came back as were
//! sent. Not responsible for namespaces and cores: the caller puts the thread where it shall run.
//! Read [`closed_loop`] first.

#![expect(unsafe_code, reason = "raw system calls: any wrapper would be part of what is measured")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of an unauthenticated STAMP packet.
pub const PAYLOAD: usize = 44;
/// Datagrams per system call, at most.
pub const BATCH: usize = 64;
/// Bytes for the control messages of one datagram: `scm_timestamping` and `SO_RXQ_OVFL` fit.
const CONTROL: usize = 128;
/// After this long without a reply what is in flight is taken for lost.
const LOSS_THRESHOLD: Duration = Duration::from_millis(20);

/// How a bare sender is set up.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Sockets, each a source port of its own; batches go out by turns.
    pub sockets: usize,
    /// Connected sockets save the route look-up.
    pub connected: bool,
    /// Ask the kernel for receive timestamps (and read them).
    pub receive_stamps: bool,
    /// Probes in flight, at most.
    pub window: usize,
}

/// What a closed loop achieved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Achieved {
    /// Replies that came back.
    pub round_trips: u64,
    /// Probes that did not.
    pub lost: u64,
    /// How long it ran.
    pub elapsed: Duration,
}

/// What a bare reflector did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reflected {
    /// Datagrams sent back.
    pub replies: u64,
}

/// Sends to `target` for `duration`, a window of probes in flight, spinning.
///
/// # Errors
/// When a socket cannot be made or breaks.
pub fn closed_loop(sender: Sender, target: SocketAddrV4, duration: Duration) -> io::Result<Achieved> {
    let start = Instant::now();
    let mut sockets = Vec::with_capacity(sender.sockets);
    for _ in 0..sender.sockets {
        let socket = udp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        if sender.connected {
            connect(&socket, target)?;
        }
        if sender.receive_stamps {
            let flags = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
            set(&socket, libc::SO_TIMESTAMPING, flags.cast_signed())?;
        }
        sockets.push((socket, 0_usize, start));
    }
    let mut probes = Batch::new(if sender.connected { None } else { Some(target) }, false);
    let mut replies = Batch::new(None, sender.receive_stamps);
    let mut achieved = Achieved::default();
    let window = sender.window / sender.sockets;
    let batch = BATCH.min(window);
    let mut stamps = 0_u64;
    loop {
        let now = Instant::now();
        for (socket, in_flight, last_reply) in &mut sockets {
            while *in_flight + batch <= window {
                let sent = probes.send(socket, batch)?;
                *in_flight += sent;
                if sent < batch {
                    break;
                }
            }
            let received = replies.receive(socket, libc::MSG_DONTWAIT)?;
            if received > 0 {
                if sender.receive_stamps {
                    stamps += replies.stamped(received);
                }
                // a reply that came after the threshold was counted as lost
                let received = received.min(*in_flight);
                *in_flight -= received;
                achieved.round_trips += received as u64;
                *last_reply = now;
            } else if now - *last_reply > LOSS_THRESHOLD {
                achieved.lost += *in_flight as u64;
                *in_flight = 0;
                *last_reply = now;
            }
        }
        if now - start >= duration {
            achieved.elapsed = now - start;
            break;
        }
    }
    if sender.receive_stamps && stamps == 0 {
        return Err(io::Error::other("the kernel gave no receive timestamp"));
    }
    Ok(achieved)
}

/// A socket for [`reflect`], bound to `address`.
///
/// # Errors
/// When it cannot be made or bound.
pub fn reflector(address: SocketAddrV4) -> io::Result<OwnedFd> {
    udp(address)
}

/// Sends every datagram back to where it came from, as a reply, until `stop`; spins when `spin`, else sleeps in the kernel.
///
/// # Errors
/// When the socket breaks.
pub fn reflect(socket: &OwnedFd, spin: bool, stop: &AtomicBool) -> io::Result<Reflected> {
    let mut datagrams = Batch::new(Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), false);
    let mut reflected = Reflected::default();
    if !spin {
        // so that `stop` is seen
        let patience = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        set(socket, libc::SO_RCVTIMEO, patience)?;
    }
    let flags = if spin { libc::MSG_DONTWAIT } else { libc::MSG_WAITFORONE };
    while !stop.load(Ordering::Relaxed) {
        let received = datagrams.receive(socket, flags)?;
        for packet in &mut datagrams.payloads[..received] {
            answer(packet);
        }
        let mut sent = 0;
        while sent < received {
            sent += datagrams.send_range(socket, sent, received)?;
        }
        reflected.replies += received as u64;
    }
    Ok(reflected)
}

/// Makes a probe its own valid STAMP reply with a residence time of 0 (RFC 8762 §4.3.1): copies the
/// sender's sequence number (to 24), timestamp (to 28, and to 16 as the receive timestamp) and error estimate (to 36).
///
/// With it a real collector can be at the other end, and the floor does the same work.
fn answer(packet: &mut [u8; PAYLOAD]) {
    packet.copy_within(0..4, 24);
    packet.copy_within(4..12, 28);
    packet.copy_within(4..12, 16);
    packet.copy_within(12..14, 36);
}

/// The arrays one `sendmmsg` or `recvmmsg` works on. Boxed: the headers point into the other arrays.
struct Batch {
    headers: Box<[libc::mmsghdr; BATCH]>,
    names: Box<[libc::sockaddr_in; BATCH]>,
    vectors: Box<[libc::iovec; BATCH]>,
    payloads: Box<[[u8; PAYLOAD]; BATCH]>,
    controls: Box<[Control; BATCH]>,
    named: bool,
    controlled: bool,
}

#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL]);

impl Batch {
    /// Addresses go with the datagrams when `to` is given; control messages are read when `controlled`.
    fn new(to: Option<SocketAddrV4>, controlled: bool) -> Batch {
        // SAFETY: all-zero bytes are a valid value of this C struct of integers and pointers
        let header: libc::mmsghdr = unsafe { zeroed() };
        let mut payloads = Box::new([[0_u8; PAYLOAD]; BATCH]);
        let mut names = Box::new([to.map_or(raw(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), raw); BATCH]);
        let mut controls = Box::new([Control([0; CONTROL]); BATCH]);
        let mut vectors = Box::new([libc::iovec { iov_base: std::ptr::null_mut(), iov_len: PAYLOAD }; BATCH]);
        let mut headers = Box::new([header; BATCH]);
        for i in 0..BATCH {
            vectors[i].iov_base = payloads[i].as_mut_ptr().cast();
            let message = &mut headers[i].msg_hdr;
            message.msg_iov = &raw mut vectors[i];
            message.msg_iovlen = 1;
            if to.is_some() {
                message.msg_name = (&raw mut names[i]).cast();
                message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            }
            if controlled {
                message.msg_control = controls[i].0.as_mut_ptr().cast();
                message.msg_controllen = CONTROL;
            }
        }
        Batch { headers, names, vectors, payloads, controls, named: to.is_some(), controlled }
    }

    fn send(&mut self, socket: &OwnedFd, count: usize) -> io::Result<usize> {
        self.send_range(socket, 0, count)
    }

    fn send_range(&mut self, socket: &OwnedFd, from: usize, to: usize) -> io::Result<usize> {
        debug_assert!(self.names.len() == BATCH && self.vectors.len() == BATCH && to <= BATCH);
        let messages = &mut self.headers[from..to];
        // SAFETY: `messages` is a live slice of that length, its headers point into the boxes of `self`
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, libc::MSG_DONTWAIT)
        };
        counted(sent)
    }

    fn receive(&mut self, socket: &OwnedFd, flags: i32) -> io::Result<usize> {
        if self.controlled {
            for header in self.headers.iter_mut() {
                header.msg_hdr.msg_controllen = CONTROL;
            }
        }
        if self.named {
            for header in self.headers.iter_mut() {
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            }
        }
        // SAFETY: the headers are BATCH many and point into the boxes of `self`; no timeout is given
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut())
        };
        counted(received)
    }

    /// How many of the first `count` datagrams received carry a timestamp.
    fn stamped(&self, count: usize) -> u64 {
        let mut stamped = 0;
        for i in 0..count {
            let seconds = self.controls[i].0[16..24].iter().any(|byte| *byte != 0);
            stamped += u64::from(self.headers[i].msg_hdr.msg_controllen > 16 && seconds);
        }
        stamped
    }
}

/// The result of a call that counts datagrams; "nothing now" is 0.
fn counted(result: i32) -> io::Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ECONNREFUSED) => Ok(0),
        _ => Err(error),
    }
}

fn udp(bind: SocketAddrV4) -> io::Result<OwnedFd> {
    // SAFETY: no pointers
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was opened above and belongs to nobody else
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        set(&socket, option, 8 << 20)?;
    }
    let address = raw(bind);
    // SAFETY: `address` is a live sockaddr_in of the length told
    let result = unsafe { libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn connect(socket: &OwnedFd, to: SocketAddrV4) -> io::Result<()> {
    let address = raw(to);
    // SAFETY: `address` is a live sockaddr_in of the length told
    let result = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of level `SOL_SOCKET`.
fn set<T>(socket: &OwnedFd, option: i32, value: T) -> io::Result<()> {
    // SAFETY: `value` is live and of the length told
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), size_of::<T>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}
