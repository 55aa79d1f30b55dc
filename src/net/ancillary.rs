//! Control messages (cmsg(3)): a walker over what the kernel wrote and a writer for what it shall read.
//!
//! Both work on plain bytes: header = length u64, level i32, type i32; the next one starts at the
//! next multiple of 8. The kernel's values are in native byte order.

use crate::time::Wall;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 16;

/// `SCM_TS_OPT_ID`: the transmit stamp's key, per message (Linux 6.13).
pub const SCM_TS_OPT_ID: i32 = 81;

const fn aligned(n: usize) -> usize {
    (n + 7) & !7
}

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// `SOL_SOCKET`, `IPPROTO_IP`, …
    pub level: i32,
    /// Type within the level.
    pub kind: i32,
    /// Its data.
    pub data: &'a [u8],
}

/// Walks control messages; stops at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Controls<'a>(pub &'a [u8]);

impl<'a> Iterator for Controls<'a> {
    type Item = Control<'a>;

    #[inline]
    fn next(&mut self) -> Option<Control<'a>> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let [l0, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, k0, k1, k2, k3] = *header;
        let length = usize::try_from(u64::from_ne_bytes([l0, l1, l2, l3, l4, l5, l6, l7])).ok()?;
        if length < HEADER || length > self.0.len() {
            return None;
        }
        let data = &self.0[HEADER..length];
        self.0 = self.0.get(aligned(length)..).unwrap_or(&[]);
        Some(Control { level: i32::from_ne_bytes([v0, v1, v2, v3]), kind: i32::from_ne_bytes([k0, k1, k2, k3]), data })
    }
}

impl Control<'_> {
    /// The data as a native-endian `u32`.
    pub fn as_u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.data.first_chunk()?))
    }

    /// The first byte of the data (`IP_TOS` is one byte; `IPV6_TCLASS`, `IP_TTL` are a native `i32`).
    pub fn as_byte(&self) -> Option<u8> {
        match self.data.len() {
            1 => Some(self.data[0]),
            _ => self.as_u32().map(|v| v as u8),
        }
    }

    /// One `timespec` of the data, by position; `None` when it is zero ("no stamp").
    pub fn as_wall(&self, position: usize) -> Option<Wall> {
        let bytes = self.data.get(position * 16..position * 16 + 16)?;
        let seconds = u64::from_ne_bytes(*bytes.first_chunk()?);
        let ns = u64::from_ne_bytes(*bytes.last_chunk()?);
        let wall = seconds.wrapping_mul(1_000_000_000).wrapping_add(ns);
        (wall != 0).then_some(Wall(wall))
    }
}

/// Writes control messages one after the other into a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// A writer over an empty buffer.
    pub fn new(buffer: &'a mut [u8]) -> Writer<'a> {
        Writer { buffer, used: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Appends a message.
    ///
    /// # Panics
    /// When the buffer is too short: it is sized for all messages a datagram can have (`SEND_SPACE`).
    pub fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let room = &mut self.buffer[self.used..self.used + aligned(HEADER + data.len())];
        room[0..8].copy_from_slice(&((HEADER + data.len()) as u64).to_ne_bytes());
        room[8..12].copy_from_slice(&level.to_ne_bytes());
        room[12..16].copy_from_slice(&kind.to_ne_bytes());
        room[16..16 + data.len()].copy_from_slice(data);
        room[16 + data.len()..].fill(0);
        self.used += room.len();
    }

    /// The traffic class of this datagram.
    pub fn traffic_class(&mut self, v4: bool, class: u8) {
        let value = i32::from(class).to_ne_bytes();
        match v4 {
            true => self.push(libc::IPPROTO_IP, libc::IP_TOS, &value),
            false => self.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value),
        }
    }

    /// The source address of this datagram (`in_pktinfo`, `in6_pktinfo`; interface left to routing).
    pub fn source(&mut self, from: IpAddr) {
        match from {
            IpAddr::V4(ip) => {
                let mut info = [0u8; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(ip) => {
                let mut info = [0u8; 20];
                info[0..16].copy_from_slice(&ip.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }
}

/// Room for all control messages an outgoing datagram can carry: class, source, stamp flags, stamp key.
pub const SEND_SPACE: usize = 24 + 40 + 24 + 24;

/// The destination address in an `in_pktinfo` or `in6_pktinfo`.
pub fn destination(control: &Control<'_>) -> Option<IpAddr> {
    match (control.level, control.kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // ipi_ifindex, ipi_spec_dst, ipi_addr: the header's destination is the last
            let ip: [u8; 4] = control.data.get(8..12)?.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(ip)))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip = Ipv6Addr::from(*control.data.first_chunk::<16>()?);
            Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = [0xa5; SEND_SPACE];
        let mut writer = Writer::new(&mut buffer);
        writer.traffic_class(true, 0xb8);
        writer.source("2001:db8::1".parse().expect("valid"));
        writer.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &7u32.to_ne_bytes());
        let used = writer.len();
        let read: Vec<_> = Controls(&buffer[..used]).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].as_byte(), Some(0xb8));
        assert_eq!(destination(&read[1]), Some("2001:db8::1".parse().expect("valid")));
        assert_eq!((read[2].kind, read[2].as_u32()), (SCM_TS_OPT_ID, Some(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            for control in Controls(&bytes) {
                control.as_byte();
                control.as_wall(2);
                destination(&control);
            }
        }
    }
}
