//! What fills probes up to their size, and tells on return whether a bit of it has changed.
//!
//! Pseudo-random, so that a link that compresses does not make long probes short (RFC 8972 §4.1 recommends
//! it), the same in every probe, and a matter of position alone: whoever reads needs not know the size.

/// Octets of the longest datagram there is.
const LEN: usize = 1 << 16;

static PATTERN: [u8; LEN] = octets();

const fn octets() -> [u8; LEN] {
    let mut octets = [0; LEN];
    let mut state = 0x9e37_79b9_u32; // xorshift32, any seed but 0
    let mut at = 0;
    while at < LEN {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        octets[at] = (state >> 24) as u8;
        at += 1;
    }
    octets
}

/// Fills the octets with the pattern's start; at most 65 536.
pub fn fill(octets: &mut [u8]) {
    let len = octets.len().min(LEN);
    octets[..len].copy_from_slice(&PATTERN[..len]);
}

/// Whether the octets are the pattern's start, each of them.
#[inline]
pub fn holds(octets: &[u8]) -> bool {
    PATTERN.starts_with(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_holds_until_any_bit_flips() {
        let mut octets = [0xa5; 1400];
        fill(&mut octets);
        assert!(holds(&octets));
        for len in [0, 1, 1399] {
            assert!(holds(&octets[..len]), "a matter of position alone");
        }
        for bit in 0..octets.len() * 8 {
            octets[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&octets), "bit {bit}");
            octets[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn pieces_in_a_wrong_place_are_noticed() {
        let mut octets = vec![0; 9000];
        fill(&mut octets);
        for offset in (8..9000).step_by(8) {
            assert!(!holds(&octets[offset..]), "as a fragment from {offset}");
        }
    }

    #[test]
    fn the_longest_is_filled_and_more_is_not_held() {
        let mut octets = vec![0; LEN + 1];
        fill(&mut octets);
        assert!(holds(&octets[..LEN]));
        assert!(!holds(&octets));
        assert!(PATTERN.iter().any(|octet| *octet != 0));
    }
}
