//! How a probe asks and what an answer says: probe values ↔ bytes.

use super::Seq;
use crate::probe::shape::Shape;
use crate::time::Wall;

/// What a reply says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Sequence number of the probe it answers.
    pub seq: Seq,
    /// The reflector's own sequence number (equal to `seq` from a stateless one).
    pub reflector_seq: Option<u32>,
    /// T2, when the reflector received the probe.
    pub received: Option<Wall>,
    /// T3, when the reflector sent the reply.
    pub sent: Option<Wall>,
}

/// Why bytes are not a reply; counted, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Shorter than the format, or a field out of its range.
    Malformed,
    /// The HMAC does not fit.
    Unauthentic,
}

/// A ready method: the shape's template and, with a key, its HMAC state.
#[derive(Clone, Debug)]
pub struct Method;

impl Method {
    /// Prepares the method for probes of this shape; `ssid` is the STAMP session-sender identifier.
    pub fn new(_shape: &Shape, _ssid: u16) -> Method {
        todo!()
    }

    /// Writes the probe into `buf` (at least the shape's size) and returns its length.
    pub fn write(&self, _seq: Seq, _now: Wall, _buf: &mut [u8]) -> usize {
        todo!()
    }

    /// Reads a reply.
    pub fn read(&self, _bytes: &[u8]) -> Result<Reply, Unreadable> {
        todo!()
    }

    /// The sequence number in the start of one of our own probes, as quoted by an ICMP error.
    pub fn read_quoted(&self, _bytes: &[u8]) -> Option<Seq> {
        todo!()
    }
}
