//! The floor for probes that need no agent: the fewest instructions that send SYNs or echoes over a raw socket and
//! take in the answers, with `sendmmsg` and `recvmmsg`.
//!
//! Responsible for the bare closed loop that the product is compared with. It keeps no statistics, asks for no timestamps and
//! looks at no answer; it only counts them. The other end is the target's kernel. Read [`closed_loop`] first.

#![expect(unsafe_code, reason = "raw system calls: any wrapper would be part of what is measured")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Packets per system call, at most.
pub const BATCH: usize = 64;
/// Bytes received of a packet: IP header and all.
const LONGEST: usize = 256;
/// After this long without an answer what is in flight is taken for lost.
const LOSS_THRESHOLD: Duration = Duration::from_millis(20);

/// What a closed loop achieved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Achieved {
    /// Answers that came back.
    pub round_trips: u64,
    /// Packets that none came for.
    pub lost: u64,
    /// How long it ran.
    pub elapsed: Duration,
}

/// Sends `probes` over and over to `target` over a raw socket of `protocol` for `duration`, with up to `window` in flight,
/// spinning.
///
/// # Errors
/// When a socket cannot be made or breaks.
pub fn closed_loop(
    protocol: i32,
    target: Ipv4Addr,
    probes: &[Vec<u8>; BATCH],
    window: usize,
    duration: Duration,
) -> io::Result<Achieved> {
    let socket = connected(protocol, target)?;
    let mut sent_from = probes.clone();
    let mut received_into = Box::new([[0_u8; LONGEST]; BATCH]);
    let mut sends = vectors(sent_from.iter_mut().map(Vec::as_mut_slice));
    let mut receives = vectors(received_into.iter_mut().map(<[u8; LONGEST]>::as_mut_slice));
    let (mut sends, mut receives) = (headers(&mut sends), headers(&mut receives));
    let mut achieved = Achieved::default();
    let start = Instant::now();
    let (mut in_flight, mut last_answer) = (0_usize, start);
    loop {
        let now = Instant::now();
        while in_flight + BATCH <= window {
            // SAFETY: BATCH headers, which point to vectors and packets that live as long as this function
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), sends.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT) };
            let sent = counted(sent)?;
            in_flight += sent;
            if sent < BATCH {
                break;
            }
        }
        // SAFETY: as above; no timeout is given
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                receives.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        // an answer that came after the threshold was counted as lost
        let received = counted(received)?.min(in_flight);
        if received > 0 {
            in_flight -= received;
            achieved.round_trips += received as u64;
            last_answer = now;
        } else if now - last_answer > LOSS_THRESHOLD {
            achieved.lost += in_flight as u64;
            in_flight = 0;
            last_answer = now;
        }
        if now - start >= duration {
            achieved.elapsed = now - start;
            return Ok(achieved);
        }
    }
}

fn vectors<'a>(packets: impl Iterator<Item = &'a mut [u8]>) -> Vec<libc::iovec> {
    packets.map(|packet| libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() }).collect()
}

fn headers(vectors: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    let header = |vector: &mut libc::iovec| {
        // SAFETY: all-zero bytes are a valid value of this C struct of integers and pointers
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header
    };
    vectors.iter_mut().map(header).collect()
}

/// The result of a call that counts packets; "nothing now" is 0.
fn counted(result: i32) -> io::Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(0),
        _ => Err(error),
    }
}

fn connected(protocol: i32, target: Ipv4Addr) -> io::Result<OwnedFd> {
    // SAFETY: no pointers
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was opened above and belongs to nobody else
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        let bytes = 8_i32 << 20;
        // SAFETY: `bytes` is live and of the length told
        let result = unsafe {
            libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const bytes).cast(), size_of::<i32>() as u32)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(target.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: `address` is a live sockaddr_in of the length told
    let result = unsafe { libc::connect(fd, (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
