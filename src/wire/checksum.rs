//! The Internet checksum: RFC 1071, its update in place of RFC 1624, and pseudo headers.
//!
//! [`Sum`] is the one's complement sum before its last step. Adding to it and taking from it costs an
//! addition, so the sum of what never changes is made once and the rest is added per packet.

use std::net::IpAddr;

/// A one's complement sum of 16-bit words, not yet folded.
///
/// Room for 2^32 words and more; a packet has at most 2^15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum of these octets, the first one high; an odd last one is followed by a zero (RFC 1071 §1).
    pub fn of(bytes: &[u8]) -> Sum {
        Sum::ZERO.add(bytes)
    }

    /// The sum that a checksum stands for: that of the words it covers, itself left out.
    ///
    /// With [`Sum::remove_u16`] and [`Sum::add_u16`] this is equation 3 of RFC 1624: HC' = ~(~HC + ~m + m').
    #[inline]
    pub fn resume(checksum: u16) -> Sum {
        Sum(u64::from(!checksum))
    }

    /// Adds octets. An odd number of them must be the last to be added.
    pub fn add(self, bytes: &[u8]) -> Sum {
        // 2^16 is 1 modulo 2^16 - 1, so a 32-bit word counts as its two halves
        let (words, rest) = bytes.as_chunks::<4>();
        let sum = words.iter().fold(self.0, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Sum(sum + u64::from(u32::from_be_bytes(last)))
    }

    /// Adds a word.
    #[inline]
    pub fn add_u16(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// Adds two words.
    #[inline]
    pub fn add_u32(self, words: u32) -> Sum {
        Sum(self.0 + u64::from(words))
    }

    /// Takes a word out: adds its complement (RFC 1624 §3).
    #[inline]
    pub fn remove_u16(self, word: u16) -> Sum {
        self.add_u16(!word)
    }

    /// Takes two words out.
    #[inline]
    pub fn remove_u32(self, words: u32) -> Sum {
        self.add_u32(!words)
    }

    /// Adds both addresses of a pseudo header; of two families, each its own words.
    pub fn add_addresses(self, source: IpAddr, destination: IpAddr) -> Sum {
        let add = |sum: Sum, address: IpAddr| match address {
            IpAddr::V4(address) => sum.add_u32(address.to_bits()),
            IpAddr::V6(address) => sum.add(&address.octets()),
        };
        add(add(self, source), destination)
    }

    /// Adds the rest of a pseudo header: protocol, and length of what follows the IP header, in octets.
    ///
    /// The fields are placed differently in RFC 9293 §3.1 (IPv4) and RFC 8200 §8.1 (IPv6); the sum is the same.
    #[inline]
    pub fn add_protocol(self, protocol: u8, len: u32) -> Sum {
        self.add_u16(u16::from(protocol)).add_u32(len)
    }

    /// The sum in 16 bits.
    #[inline]
    pub fn folded(self) -> u16 {
        // 64 bits fold into 33, then 18, then 17, then 16
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum: what makes the sum of all words, itself included, come out as −0.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether the words, a right checksum among them, were added.
    #[inline]
    pub fn is_right(self) -> bool {
        self.folded() == 0xffff
    }
}
