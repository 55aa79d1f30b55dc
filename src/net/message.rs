//! Datagrams as the kernel's `msghdr` wants them, shared by the io_uring and the `sendmmsg` network.

use super::ancillary::{self, Control, Controls, SCM_TS_OPT_ID, Writer};
use super::socket::{Socket, stamping};
use super::{Outgoing, Received, SocketId, TransmitStamps, address, raw};
use crate::time::{StampSource, Timestamp, Wall};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Room for the control messages a received datagram can carry: three `timespec`s, traffic class,
/// hop limit, destination, drop counter.
pub const RECEIVE_CONTROL: usize = 64 + 24 + 24 + 40 + 24;

/// What the control messages of a received datagram say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reports {
    /// Receive stamp, hardware before software.
    pub at: Option<Timestamp>,
    /// Traffic-class byte.
    pub traffic_class: Option<u8>,
    /// TTL or hop limit.
    pub hop_limit: Option<u8>,
    /// Local address.
    pub to: Option<std::net::IpAddr>,
    /// Datagrams the socket has dropped since it was opened (modulo 2^32); absent while none.
    pub dropped: Option<u32>,
}

impl Reports {
    /// Reads the control messages of a received datagram.
    #[inline]
    pub fn read(control: &[u8]) -> Reports {
        let mut reports = Reports::default();
        for message in Controls(control) {
            match (message.level, message.kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => reports.at = stamp(&message),
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    reports.traffic_class = message.as_byte();
                }
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    reports.hop_limit = message.as_byte();
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    reports.to = ancillary::destination(&message);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => reports.dropped = message.as_u32(),
                _ => {}
            }
        }
        reports
    }

    /// Takes off the IPv4 header that a raw socket delivers, and reports what it says; `None` when it is cut short.
    #[inline]
    pub fn strip<'a>(&mut self, socket: &Socket, packet: &'a [u8]) -> Option<&'a [u8]> {
        if !socket.ip_header {
            return Some(packet);
        }
        let header = raw::ipv4(packet)?;
        self.traffic_class = Some(header.traffic_class);
        self.hop_limit = Some(header.hop_limit);
        self.to = Some(header.to);
        Some(header.payload)
    }

    /// The datagram these reports belong to; `now` stands in for a missing stamp.
    pub fn datagram<'a>(&self, socket: SocketId, from: SocketAddr, payload: &'a [u8], now: Wall) -> Received<'a> {
        Received {
            socket,
            from,
            to: self.to,
            payload,
            at: self.at.unwrap_or(Timestamp { wall: now, source: StampSource::User }),
            traffic_class: self.traffic_class,
            hop_limit: self.hop_limit,
        }
    }
}

/// The stamp in an `SCM_TIMESTAMPING` message: position 2 is the hardware's, position 0 software.
pub fn stamp(message: &Control<'_>) -> Option<Timestamp> {
    let hardware = message.as_wall(2).map(|wall| Timestamp { wall, source: StampSource::Hardware });
    hardware.or_else(|| message.as_wall(0).map(|wall| Timestamp { wall, source: StampSource::Kernel }))
}

/// Tells how many datagrams a socket dropped since the last report.
#[derive(Clone, Debug, Default)]
pub struct DropMeter(Vec<u32>);

impl DropMeter {
    /// A meter for these sockets.
    pub fn new(sockets: &[Socket]) -> DropMeter {
        DropMeter(sockets.iter().map(|socket| socket.carried.dropped).collect())
    }

    /// Gives the sockets what was reported of them, to carry to another network.
    pub fn carry(&self, sockets: &mut [Socket]) {
        for (socket, total) in sockets.iter_mut().zip(&self.0) {
            socket.carried.dropped = *total;
        }
    }

    /// New drops, from the socket's running total.
    pub fn update(&mut self, socket: SocketId, total: u32) -> u64 {
        let Some(last) = self.0.get_mut(usize::from(socket.0)) else { return 0 };
        let new = total.wrapping_sub(*last);
        *last = total;
        u64::from(new)
    }
}

/// An outgoing datagram: header, address, control messages; its payload stands in [`SendQueue`].
#[repr(C, align(64))]
struct Slot {
    header: libc::msghdr,
    payload: libc::iovec,
    name: [u8; address::MAX_LEN],
    control: ControlSpace,
    socket: SocketId,
    key: u32,
}

/// Control messages start at multiples of 8 (CMSG_ALIGN).
#[repr(C, align(8))]
struct ControlSpace([u8; ancillary::SEND_SPACE]);

/// A batch of outgoing datagrams in memory that does not move, written once and read by the kernel.
pub struct SendQueue {
    slots: Box<[Slot]>,
    payloads: Box<[u8]>,
    datagram: usize,
    used: usize,
    /// Whether the key travels with the datagram (`SCM_TS_OPT_ID`); else the kernel numbers stamps itself.
    key_per_message: bool,
}

impl std::fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendQueue({} of {})", self.used, self.slots.len())
    }
}

impl SendQueue {
    /// Room for `slots` datagrams of up to `datagram` payload bytes.
    pub fn new(slots: usize, datagram: usize, key_per_message: bool) -> SendQueue {
        let mut payloads = vec![0u8; slots * datagram].into_boxed_slice();
        let slots = payloads
            .chunks_exact_mut(datagram)
            .map(|payload| Slot {
                header: empty_header(),
                payload: libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: 0 },
                name: [0; address::MAX_LEN],
                control: ControlSpace([0; ancillary::SEND_SPACE]),
                socket: SocketId(0),
                key: 0,
            })
            .collect();
        SendQueue { slots, payloads, datagram, used: 0, key_per_message }
    }

    /// Datagrams queued.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no other one fits.
    pub fn is_full(&self) -> bool {
        self.used == self.slots.len()
    }

    /// Forgets all; their memory is written again.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Writes a datagram into the next slot and returns its position. The queue must not be full.
    #[inline]
    pub fn push(&mut self, datagram: &Outgoing, socket: &Socket, write: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let position = self.used;
        self.used += 1;
        let slot = &mut self.slots[position];
        let start = position * self.datagram;
        let length = write(&mut self.payloads[start..start + self.datagram]).min(self.datagram);
        slot.payload.iov_len = length;
        slot.socket = datagram.socket;
        slot.key = datagram.key;
        // another flow label travels with the address
        slot.header.msg_namelen = match socket.connected && datagram.flow_label == socket.flow_label {
            true => 0,
            false => {
                // raw IPv6 sockets take a port for a protocol
                let to = if socket.has_ports { datagram.to } else { raw::with_port(datagram.to, 0) };
                address::encode(to, datagram.flow_label, socket.v6, &mut slot.name) as libc::socklen_t
            }
        };
        let mut controls = Writer::new(&mut slot.control.0);
        if let Some(class) = datagram.traffic_class {
            controls.traffic_class(datagram.to.is_ipv4(), class);
        }
        if let Some(from) = datagram.from {
            controls.source(from);
        }
        let stamped = socket.transmit_stamps.covers(datagram);
        if stamped && socket.transmit_stamps == TransmitStamps::Asked {
            controls.push(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &stamping::TX_SOFTWARE.to_ne_bytes());
        }
        if stamped && self.key_per_message {
            controls.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &datagram.key.to_ne_bytes());
        }
        slot.header.msg_controllen = controls.len();
        position
    }

    /// The header of a queued datagram with its pointers set; valid until the slot is written again.
    pub fn header(&mut self, position: usize) -> &libc::msghdr {
        let slot = &mut self.slots[position];
        slot.header.msg_name = match slot.header.msg_namelen {
            0 => std::ptr::null_mut(),
            _ => slot.name.as_mut_ptr().cast(),
        };
        slot.header.msg_iov = &raw mut slot.payload;
        slot.header.msg_iovlen = 1;
        slot.header.msg_control = match slot.header.msg_controllen {
            0 => std::ptr::null_mut(),
            _ => slot.control.0.as_mut_ptr().cast(),
        };
        &slot.header
    }

    /// Whether a queued datagram carries control messages.
    pub fn has_control(&self, position: usize) -> bool {
        self.slots[position].header.msg_controllen != 0
    }

    /// Payload of a queued datagram.
    pub fn payload(&self, position: usize) -> &[u8] {
        let start = position * self.datagram;
        &self.payloads[start..start + self.slots[position].payload.iov_len]
    }

    /// Address bytes of a queued datagram; none on a connected socket.
    pub fn name(&self, position: usize) -> &[u8] {
        let slot = &self.slots[position];
        &slot.name[..slot.header.msg_namelen as usize]
    }

    /// Socket and key of a queued datagram.
    pub fn identity(&self, position: usize) -> (SocketId, u32) {
        (self.slots[position].socket, self.slots[position].key)
    }
}

/// Sends a datagram at once by sendmsg(2); each call uses up one ICMP error that waits on the socket.
///
/// # Errors
/// The errno, after at most three tries.
pub fn send_now(fd: &OwnedFd, header: &libc::msghdr) -> Result<(), i32> {
    let mut errno = 0;
    for _ in 0..3 {
        // SAFETY: sendmsg(2) reads what the header points to: name, payload and control messages of one
        // slot, which the borrow keeps in place and unwritten.
        #[expect(unsafe_code, reason = "the header is shared with the ring and sendmmsg")]
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), header, libc::MSG_DONTWAIT) };
        if sent >= 0 {
            return Ok(());
        }
        errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        if !may_be_icmp(errno) {
            break;
        }
    }
    Err(errno)
}

/// A `msghdr` of zeros.
pub fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr is plain data (pointers and integers) for which all zeros is a valid value: null pointers, lengths 0.
    #[expect(unsafe_code, reason = "msghdr has private padding fields on some C libraries, so no literal")]
    unsafe {
        std::mem::zeroed()
    }
}

/// Whether an errno of a send or receive call may come from an ICMP error that an earlier datagram
/// met, reported once on whatever call is next (ip(7), IP_RECVERR).
pub fn may_be_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EPROTO
            | libc::EOPNOTSUPP
            | libc::EACCES
            | libc::EMSGSIZE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{SocketSpec, socket};

    #[test]
    fn a_queued_datagram_carries_what_was_asked() {
        let socket = socket::open(&SocketSpec {
            transmit_stamps: TransmitStamps::Asked,
            ..SocketSpec::new("127.0.0.1:0".parse().expect("valid"))
        })
        .expect("opens");
        let mut queue = SendQueue::new(2, 64, true);
        let datagram = Outgoing {
            socket: SocketId(0),
            to: "127.0.0.1:9".parse().expect("valid"),
            key: 7,
            stamp: true,
            traffic_class: Some(0xb8),
            from: None,
            flow_label: 0,
        };
        let at = queue.push(&datagram, &socket, |buffer| {
            buffer[..3].copy_from_slice(b"abc");
            3
        });
        assert_eq!(queue.payload(at), b"abc");
        assert_eq!(queue.header(at).msg_controllen, 72);
        let controls: Vec<_> = Controls(&queue.slots[at].control.0[..72]).map(|c| (c.kind, c.as_u32())).collect();
        assert_eq!(controls[0], (libc::IP_TOS, Some(0xb8)));
        assert_eq!(controls[1], (libc::SO_TIMESTAMPING, Some(stamping::TX_SOFTWARE)));
        assert_eq!(controls[2], (SCM_TS_OPT_ID, Some(7)));
        let plain = Outgoing { stamp: false, traffic_class: None, ..datagram };
        let at = queue.push(&plain, &socket, |_| 0);
        assert!(!queue.has_control(at));
        assert!(queue.is_full());
    }

    #[test]
    fn drops_are_counted_from_a_running_total_that_wraps() {
        let mut meter = DropMeter(vec![0]);
        assert_eq!(meter.update(SocketId(0), 5), 5);
        assert_eq!(meter.update(SocketId(0), 5), 0);
        meter.update(SocketId(0), u32::MAX);
        assert_eq!(meter.update(SocketId(0), 1), 2);
    }
}
