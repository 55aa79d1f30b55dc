//! The socket's error queue (ip(7) `IP_RECVERR`, `SO_TIMESTAMPING`): ICMP errors with the datagram
//! they quote, and transmit stamps where nothing else collects them.

use super::ancillary::{Control, Controls};
use super::message::{empty_header, stamp};
use super::socket::Socket;
use super::stamp_keys::StampKeys;
use super::{Event, IcmpMeaning, SocketId, address};
use crate::time::Timestamp;
use crate::wire::icmp::Version;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `SO_EE_ORIGIN_*` (linux/errqueue.h).
const ORIGIN_LOCAL: u8 = 1;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
const ORIGIN_TIMESTAMPING: u8 = 4;
/// Length of a `sock_extended_err`; the offender's address follows it.
const EXTENDED_ERROR: usize = 16;

/// One entry of the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A transmit stamp and its key.
    Stamp {
        /// The kernel's or our number of the datagram.
        key: u32,
        /// When it left.
        at: Timestamp,
    },
    /// The MTU of this host's own interface, for a datagram that was longer.
    Mtu {
        /// Where the datagram was going.
        to: IpAddr,
        /// Bytes with the IP header.
        mtu: u32,
    },
    /// An ICMP error.
    Icmp {
        /// Where the quoted datagram was going.
        to: SocketAddr,
        /// Who sent the error.
        reporter: Option<IpAddr>,
        /// What it means.
        meaning: IcmpMeaning,
        /// Start of the quoted UDP payload.
        quoted: &'a [u8],
    },
}

/// Buffers for one read; reused.
#[derive(Debug)]
pub struct Reader {
    payload: [u8; 256],
    name: [u8; address::MAX_LEN],
    control: Aligned,
}

/// An entry in a reader's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    socket: SocketId,
    sizes: Sizes,
}

/// How much of each buffer one read filled.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    payload: usize,
    name: usize,
    control: usize,
}

#[repr(C, align(8))]
#[derive(Debug)]
struct Aligned([u8; 512]);

impl Default for Reader {
    fn default() -> Reader {
        Reader { payload: [0; 256], name: [0; address::MAX_LEN], control: Aligned([0; 512]) }
    }
}

impl Reader {
    /// Takes one entry off the socket's error queue into the buffers; `None` when it is empty.
    fn take(&mut self, fd: BorrowedFd<'_>) -> Option<Sizes> {
        self.receive(fd).ok()
    }

    /// The entry in the buffers; `None` when it is neither a stamp nor an ICMP error.
    fn entry(&self, sizes: Sizes) -> Option<Entry<'_>> {
        parse(&self.payload[..sizes.payload], &self.name[..sizes.name], &self.control.0[..sizes.control])
    }

    /// What an entry that was taken means; `None` when it is for nobody.
    pub fn event(&self, taken: Taken, keys: &StampKeys) -> Option<Event<'_>> {
        let socket = taken.socket;
        Some(match self.entry(taken.sizes)? {
            Entry::Stamp { key, at } => Event::Transmitted { socket, key: keys.key(socket, key)?, at },
            Entry::Mtu { to, mtu } => Event::TooBigHere { socket, to, mtu },
            Entry::Icmp { to, reporter, meaning, quoted } => Event::Icmp { socket, to, reporter, meaning, quoted },
        })
    }

    fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<Sizes> {
        let mut payload = libc::iovec { iov_base: self.payload.as_mut_ptr().cast(), iov_len: self.payload.len() };
        let mut header = empty_header();
        header.msg_name = self.name.as_mut_ptr().cast();
        header.msg_namelen = self.name.len() as libc::socklen_t;
        header.msg_iov = &raw mut payload;
        header.msg_iovlen = 1;
        header.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_controllen = self.control.0.len();
        // SAFETY: recvmsg(2) wants pointers with their true lengths, live for the call: all point into
        // `self` or this frame and are borrowed mutably here.
        #[expect(unsafe_code, reason = "nix's recvmsg decodes fewer control messages than occur here")]
        let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        match usize::try_from(result) {
            Ok(payload) => Ok(Sizes { payload, name: header.msg_namelen as usize, control: header.msg_controllen }),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// Which of a worker's sockets may have something on their error queues.
#[derive(Debug)]
pub struct ErrorQueues {
    /// Per socket: reads left before its queue is given up as empty; 0 when it is not in `pending`.
    rounds: Vec<u8>,
    pending: Vec<SocketId>,
    /// Where the round of reads stands in `pending`.
    position: usize,
}

/// Times a queue is read in vain before a stamp that was expected there is given up.
const STAMP_ROUNDS: u8 = 64;

impl ErrorQueues {
    /// Queues of this many sockets, all empty.
    pub fn new(sockets: usize) -> ErrorQueues {
        ErrorQueues { rounds: vec![0; sockets], pending: Vec::with_capacity(sockets), position: 0 }
    }

    /// A call on the socket reported an error: its queue holds more about it.
    pub fn flag(&mut self, socket: SocketId) {
        self.look(socket, 1);
    }

    /// A stamp will come by the error queue, now or within the next reads.
    pub fn expect_stamp(&mut self, socket: SocketId) {
        self.look(socket, STAMP_ROUNDS);
    }

    fn look(&mut self, socket: SocketId, rounds: u8) {
        let Some(left) = self.rounds.get_mut(usize::from(socket.0)) else { return };
        if *left == 0 {
            self.pending.push(socket);
        }
        *left = rounds.max(*left);
    }

    /// Takes the next entry, in a round over all queues that may hold one, into the reader's buffers;
    /// `None` ends the round. [`Reader::event`] tells what it is.
    pub fn next(&mut self, reader: &mut Reader, sockets: &[Socket]) -> Option<Taken> {
        while let Some(&socket) = self.pending.get(self.position) {
            let index = usize::from(socket.0);
            // bounded: a socket's error queue is limited by its receive buffer
            if let Some(sizes) = sockets.get(index).and_then(|socket| reader.take(socket.fd.as_fd())) {
                return Some(Taken { socket, sizes });
            }
            self.rounds[index] = self.rounds[index].saturating_sub(1);
            if self.rounds[index] == 0 {
                self.pending.swap_remove(self.position);
            } else {
                self.position += 1;
            }
        }
        self.position = 0;
        None
    }
}

fn parse<'a>(quoted: &'a [u8], name: &[u8], control: &[u8]) -> Option<Entry<'a>> {
    let mut at = None;
    let mut error = None;
    for message in Controls(control) {
        match (message.level, message.kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => at = stamp(&message),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => error = Some(message),
            _ => {}
        }
    }
    let error = error?;
    let fields: &[u8; EXTENDED_ERROR] = error.data.first_chunk()?;
    let [e0, e1, e2, e3, origin, kind, code, _, i0, i1, i2, i3, d0, d1, d2, d3] = *fields;
    let errno = i32::from_ne_bytes([e0, e1, e2, e3]);
    let info = u32::from_ne_bytes([i0, i1, i2, i3]);
    if origin == ORIGIN_TIMESTAMPING {
        return Some(Entry::Stamp { key: u32::from_ne_bytes([d0, d1, d2, d3]), at: at? });
    }
    let meaning = match origin {
        ORIGIN_LOCAL if errno == libc::EMSGSIZE => {
            return Some(Entry::Mtu { to: address::decode(name)?.ip(), mtu: info });
        }
        ORIGIN_ICMP => IcmpMeaning::of(Version::V4, kind, code, info)?,
        ORIGIN_ICMP6 => IcmpMeaning::of(Version::V6, kind, code, info)?,
        _ => return None,
    };
    Some(Entry::Icmp { to: address::decode(name)?, reporter: reporter(&error), meaning, quoted })
}

fn reporter(error: &Control<'_>) -> Option<IpAddr> {
    // the offender's sockaddr stands behind the fixed part; family AF_UNSPEC when there is none
    let ip = address::decode(error.data.get(EXTENDED_ERROR..)?)?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{SocketSpec, socket};
    use proptest::prelude::*;

    #[test]
    fn a_closed_port_is_refused_and_its_probe_quoted() {
        let closed = {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
            socket.local_addr().expect("bound")
        };
        let sender =
            socket::open(&SocketSpec { icmp_errors: true, ..SocketSpec::new("127.0.0.1:0".parse().expect("valid")) })
                .expect("opens");
        let fd = std::net::UdpSocket::from(sender.fd.try_clone().expect("clones"));
        fd.send_to(b"who is there", closed).expect("sends");
        // loopback delivers the error before send returns
        let mut reader = Reader::default();
        let sizes = reader.take(sender.fd.as_fd()).expect("an error is queued");
        let entry = reader.entry(sizes).expect("it is one of ours");
        assert_eq!(
            entry,
            Entry::Icmp {
                to: closed,
                reporter: Some("127.0.0.1".parse().expect("valid")),
                meaning: IcmpMeaning::Refused,
                quoted: b"who is there",
            }
        );
        assert!(reader.take(sender.fd.as_fd()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(quoted: Vec<u8>, name: Vec<u8>, control: Vec<u8>) {
            parse(&quoted, &name, &control);
        }
    }
}
