//! Numbers in network order at fixed places, for the views of the packet formats.
//!
//! Not responsible for lengths: a view has checked before that the field is there.

use std::ops::Range;

#[inline]
pub fn read_u16(bytes: &[u8], field: &Range<usize>) -> u16 {
    let mut raw = [0; 2];
    raw.copy_from_slice(&bytes[field.clone()]);
    u16::from_be_bytes(raw)
}

#[inline]
pub fn read_u32(bytes: &[u8], field: &Range<usize>) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[field.clone()]);
    u32::from_be_bytes(raw)
}

#[inline]
pub fn read_u64(bytes: &[u8], field: &Range<usize>) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[field.clone()]);
    u64::from_be_bytes(raw)
}

#[inline]
pub fn write(bytes: &mut [u8], field: &Range<usize>, raw: &[u8]) {
    bytes[field.clone()].copy_from_slice(raw);
}

#[cfg(test)]
pub mod capture {
    /// The octets of a capture; blanks and line ends between them do not count.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap()).collect();
        assert_eq!(digits.len() % 2, 0, "half an octet");
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }
}
