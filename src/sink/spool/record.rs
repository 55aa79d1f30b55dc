//! The bytes of a segment file: its header, and the records after it. Pure.
//!
//! ```text
//! segment  magic "LLAMASPL" · version u32 · number u64 · crc32 of these 20 bytes · record …
//! record   magic "LREC" · mark u32 · body bytes u32 · lines u32 · oldest u64 · newest u64 · crc32 of the body
//!          · crc32 of all before but the mark · body
//! ```
//!
//! Numbers are little-endian, times nanoseconds since 1970. A body is what is sent: lines of line protocol, gzip. The
//! mark is 0 while the record waits and `DONE` when it is settled; it is written over in place, which needs no room
//! on a full disk, and no single wrong byte turns one into the other. Read [`Header`].

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 24;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 40;
/// Where a record's mark begins.
pub(super) const MARK_AT: u64 = 4;
/// The mark of a record that is settled.
pub(super) const DONE: [u8; 4] = *b"DONE";

/// Version of the format that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"LLAMASPL";
/// How every record begins.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"LREC";

/// What stands at the beginning of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A segment that can be read.
    Known,
    /// A segment of another version, whole.
    Unknown(u32),
    /// Too short, or not what a segment begins with.
    Damaged,
}

/// The header of segment `number`.
pub(super) fn segment_header(number: u64) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the beginning of a segment file.
pub(super) fn segment_start(bytes: &[u8]) -> Start {
    let Some(bytes) = bytes.get(..SEGMENT_HEADER) else { return Start::Damaged };
    if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 20) != crc32fast::hash(&bytes[..20]) {
        return Start::Damaged;
    }
    match u32_at(bytes, 8) {
        VERSION => Start::Known,
        other => Start::Unknown(other),
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the body.
    pub length: u32,
    /// Lines in it.
    pub lines: u32,
    /// Time of its oldest point.
    pub oldest: u64,
    /// Time of its newest point.
    pub newest: u64,
    /// Checksum of the body.
    pub crc: u32,
}

impl Header {
    /// The header's bytes, with the mark of a record that waits.
    pub(super) fn bytes(&self) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lines.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.newest.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header and whether the record is settled; `None` when it is none, or damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Header, bool)> {
        let bytes = bytes.first_chunk::<RECORD_HEADER>()?;
        if bytes[..4] != RECORD_MAGIC || u32_at(bytes, 36) != checksum(bytes) {
            return None;
        }
        let header = Header {
            length: u32_at(bytes, 8),
            lines: u32_at(bytes, 12),
            oldest: u64_at(bytes, 16),
            newest: u64_at(bytes, 24),
            crc: u32_at(bytes, 32),
        };
        Some((header, bytes[4..8] == DONE))
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

/// Where in `bytes` the next whole header begins, from `from` on.
pub(super) fn next_header(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let found = rest.windows(RECORD_MAGIC.len()).enumerate();
    found.filter(|(_, window)| **window == RECORD_MAGIC).map(|(at, _)| from + at).find(|&at| {
        let header = Header::parse(&bytes[at..]);
        header.is_some_and(|(header, _)| header.record_bytes() <= (bytes.len() - at) as u64)
    })
}

/// Of a record's header without its mark.
fn checksum(bytes: &[u8; RECORD_HEADER]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..4]);
    hasher.update(&bytes[8..36]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { length: 3, lines: 2, oldest: 5, newest: 7, crc: 11 };

    #[test]
    fn a_header_survives_its_bytes_and_its_mark() {
        let mut bytes = HEADER.bytes();
        assert_eq!(Header::parse(&bytes), Some((HEADER, false)));
        bytes[4..8].copy_from_slice(&DONE);
        assert_eq!(Header::parse(&bytes), Some((HEADER, true)));
        assert_eq!(Header::parse(&bytes[..39]), None);
    }

    #[test]
    fn no_wrong_byte_goes_unseen_and_none_settles_a_record() {
        for at in 0..RECORD_HEADER {
            for flip in 1..=255 {
                let mut bytes = HEADER.bytes();
                bytes[at] ^= flip;
                let expected = (4..8).contains(&at).then_some((HEADER, false));
                assert_eq!(Header::parse(&bytes), expected, "byte {at} ^ {flip}");
            }
        }
    }

    #[test]
    fn segments_tell_another_version_from_damage() {
        let header = segment_header(9);
        assert_eq!(segment_start(&header), Start::Known);
        assert_eq!(segment_start(&header[..23]), Start::Damaged);
        for at in 0..SEGMENT_HEADER {
            let mut wrong = header;
            wrong[at] ^= 1;
            assert_eq!(segment_start(&wrong), Start::Damaged, "byte {at}");
        }
        let mut newer = header;
        newer[8] = 2;
        let crc = crc32fast::hash(&newer[..20]);
        newer[20..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(segment_start(&newer), Start::Unknown(2));
    }

    #[test]
    fn the_next_header_is_found_behind_damage() {
        let mut bytes = b"LRECLREC no headers ".to_vec();
        let at = bytes.len();
        bytes.extend(HEADER.bytes());
        bytes.extend(b"abc");
        assert_eq!(next_header(&bytes, 0), Some(at));
        assert_eq!(next_header(&bytes, at + 1), None);
        bytes.pop();
        assert_eq!(next_header(&bytes, 0), None, "its body is cut off");
        assert_eq!(next_header(&bytes, 9999), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0usize..200) {
            let _ = (segment_start(&bytes), Header::parse(&bytes), next_header(&bytes, from));
        }
    }
}
