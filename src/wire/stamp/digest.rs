//! HMAC-SHA-256 cut to 128 bits: RFC 8762 §4.4, and over TLVs RFC 8972 §4.8.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;

/// Bytes of a digest on the wire.
pub const LEN: usize = 16;
/// What the base packet's digest covers.
const COVERED: Range<usize> = 0..96;
/// Where it stands.
const HMAC: Range<usize> = 96..112;

/// A key, ready to sign: the keyed state is built once and cloned per packet.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// A signer for a key of any length (RFC 2104 §2: longer than a block is hashed first).
    pub fn new(key: &[u8]) -> Signer {
        let mut block = [0; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Signer(Hmac::new(&block.into()))
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut state = self.0.clone();
        for part in parts {
            state.update(part);
        }
        state
    }

    /// The digest of the parts, one after the other.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; LEN] {
        let mut digest = [0; LEN];
        digest.copy_from_slice(&self.over(parts).finalize().into_bytes()[..LEN]);
        digest
    }

    /// Whether `digest` is that of the parts; takes the same time wherever they differ.
    pub fn verify(&self, parts: &[&[u8]], digest: &[u8; LEN]) -> bool {
        self.over(parts).verify_truncated_left(digest).is_ok()
    }

    /// Fills in the digest of an authenticated base packet. Bytes shorter than one stay as they are.
    pub fn sign_base(&self, packet: &mut [u8]) {
        if packet.len() >= HMAC.end {
            let digest = self.sign(&[&packet[COVERED]]);
            packet[HMAC].copy_from_slice(&digest);
        }
    }

    /// Whether the bytes start with an authenticated base packet whose digest fits.
    pub fn verify_base(&self, packet: &[u8]) -> bool {
        match packet.get(HMAC).map(<&[u8; LEN]>::try_from) {
            Some(Ok(digest)) => self.verify(&[&packet[COVERED]], digest),
            _ => false,
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_test_case_2() {
        let signer = Signer::new(b"Jefe");
        let expected = [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7];
        assert_eq!(signer.sign(&[b"what do ya want ", b"for nothing?"]), expected);
    }

    #[test]
    fn rfc_4231_test_case_6_key_longer_than_a_block() {
        let signer = Signer::new(&[0xaa; 131]);
        let expected = [0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f, 0x0d, 0x8a, 0x26, 0xaa, 0xcb, 0xf5, 0xb7, 0x7f];
        assert_eq!(signer.sign(&[b"Test Using Larger Than Block-Size Key - Hash Key First"]), expected);
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_what_follows_is_not_covered() {
        let signer = Signer::new(b"secret");
        let mut packet = [0x5a; 120];
        signer.sign_base(&mut packet);
        assert!(signer.verify_base(&packet));
        for bit in 0..112 * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(!signer.verify_base(&packet), "bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        packet[112] ^= 1;
        assert!(signer.verify_base(&packet));
        assert!(!Signer::new(b"other").verify_base(&packet));
    }

    #[test]
    fn short_packets_are_neither_signed_nor_believed() {
        let signer = Signer::new(b"secret");
        for len in 0..112 {
            let mut packet = vec![0xa5; len];
            signer.sign_base(&mut packet);
            assert!(packet.iter().all(|&b| b == 0xa5));
            assert!(!signer.verify_base(&packet));
        }
    }

    #[test]
    fn a_signer_does_not_print_its_key() {
        assert_eq!(format!("{:?}", Signer::new(b"secret")), "Signer(…)");
    }
}
