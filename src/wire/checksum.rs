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
        Sum::ZERO.add_bytes(bytes)
    }

    /// The sum that a checksum stands for: that of the words it covers, itself left out.
    ///
    /// With [`Sum::remove_u16`] and [`Sum::add_u16`] this is equation 3 of RFC 1624: HC' = ~(~HC + ~m + m').
    #[inline]
    pub fn resume(checksum: u16) -> Sum {
        Sum(u64::from(!checksum))
    }

    /// Adds octets. An odd number of them must be the last to be added.
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
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
            IpAddr::V6(address) => sum.add_bytes(&address.octets()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §1 to the letter: word by word, the carry added at once.
    fn by_the_book(words: &[u8]) -> u16 {
        let add = |sum: u16, word: &[u8]| {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        };
        !words.chunks(2).fold(0, add)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: 0x5555 becomes 0x3285 under a checksum of 0xdd2f; equation 2 would give 0xffff
        assert_eq!(Sum::resume(0xdd2f).remove_u16(0x5555).add_u16(0x3285).checksum(), 0x0000);
    }

    #[test]
    fn an_odd_octet_is_followed_by_zero() {
        assert_eq!(Sum::of(&[1, 2, 3]), Sum::of(&[1, 2, 3, 0]));
        assert_eq!(Sum::of(&[1, 2, 3, 4, 5]), Sum::of(&[1, 2, 3, 4, 5, 0]));
    }

    #[test]
    fn the_longest_packet_of_the_largest_words_is_no_overflow() {
        assert_eq!(Sum::of(&[0xff; 65_536]).checksum(), 0);
        assert_eq!(Sum(u64::MAX).folded(), 0xffff);
    }

    #[test]
    fn a_pseudo_header_is_its_octets() {
        let (from, to) = ("192.0.2.1".parse::<IpAddr>().unwrap(), "198.51.100.2".parse::<IpAddr>().unwrap());
        let octets = [192, 0, 2, 1, 198, 51, 100, 2, 0, 6, 0, 24];
        assert_eq!(Sum::ZERO.add_addresses(from, to).add_protocol(6, 24).checksum(), by_the_book(&octets));

        let (from, to) = ("2001:db8::1".parse::<IpAddr>().unwrap(), "2001:db8:f::ff02".parse::<IpAddr>().unwrap());
        let mut octets = Vec::new();
        octets.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        octets.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 2]);
        octets.extend([0, 1, 0, 2, 0, 0, 0, 58]);
        assert_eq!(Sum::ZERO.add_addresses(from, to).add_protocol(58, 65_538).checksum(), by_the_book(&octets));
    }

    proptest! {
        #[test]
        fn any_octets_sum_as_by_the_book(octets in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..50) {
            prop_assert_eq!(Sum::of(&octets).checksum(), by_the_book(&octets));
            let (first, rest) = octets.split_at((at * 2).min(octets.len() & !1));
            prop_assert_eq!(Sum::of(first).add_bytes(rest).checksum(), by_the_book(&octets));
        }

        #[test]
        fn a_checksum_makes_it_right_and_a_flipped_bit_wrong(
            mut octets in proptest::collection::vec(any::<u8>(), 2..100), bit in 0usize..800,
        ) {
            octets[..2].fill(0);
            let checksum = Sum::of(&octets).checksum();
            octets[..2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(Sum::of(&octets).is_right());
            let bit = bit % (8 * octets.len());
            octets[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Sum::of(&octets).is_right());
        }

        #[test]
        fn an_update_is_as_good_as_a_new_sum(
            mut octets in proptest::collection::vec(any::<u8>(), 8..100), short: u16, long: u32,
        ) {
            octets[0] |= 1; // of zeros alone, +0 and −0 are told apart by nothing
            let old = by_the_book(&octets);
            let was = (u16::from_be_bytes([octets[2], octets[3]]),
                u32::from_be_bytes([octets[4], octets[5], octets[6], octets[7]]));
            octets[2..4].copy_from_slice(&short.to_be_bytes());
            octets[4..8].copy_from_slice(&long.to_be_bytes());
            let sum = Sum::resume(old).remove_u16(was.0).add_u16(short).remove_u32(was.1).add_u32(long);
            prop_assert_eq!(sum.checksum(), by_the_book(&octets));
        }
    }
}
