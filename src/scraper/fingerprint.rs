//! A 64-bit fingerprint that stays the same across versions and machines, since it is stored in a file.
//!
//! FNV-1a with SplitMix64's last step, so that texts that differ in little differ in all bits. Not for secrets.

/// A fingerprint under way.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of nothing yet.
    pub fn new() -> Fingerprint {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in a part; its length too, so that no part runs into the next.
    pub fn take(mut self, part: &[u8]) -> Fingerprint {
        for byte in part.iter().chain(&(part.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// The 64 bits.
    pub fn bits(self) -> u64 {
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let of = |parts: &[&str]| parts.iter().fold(Fingerprint::new(), |f, part| f.take(part.as_bytes())).bits();
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["", "a"]), of(&["a", ""]));
        assert_ne!(of(&[]), of(&[""]));
        // a stored value must mean the same tomorrow
        assert_eq!(of(&["host1:5000"]), 16_636_773_794_036_979_917);
    }
}
