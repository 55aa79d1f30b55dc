//! How a probe asks and what an answer says: probe values ↔ bytes.
//!
//! Responsible for turning a sequence number and an instant into a probe's bytes, and a reply's bytes
//! back into them. Not responsible for whether a reply was expected ([`super::inflight`]).
//! STAMP and upstream's formats have a file each; [`Method`] picks. Read [`Method`] first.

mod llama;
mod stamp;

use super::Seq;
use crate::probe::shape::{MethodKind, Shape};
use crate::time::Wall;
use crate::wire::stamp::ErrorEstimate;

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
    /// Shorter than the format, a field out of its range, another collector's, or our own probe sent back as it was
    /// where that is no reply.
    Malformed,
    /// The HMAC does not fit.
    Unauthentic,
}

/// A ready method: the shape's template and, with a key, its HMAC state.
///
/// Any method can read the replies to another one's probes when both have the same kind and key.
#[derive(Clone, Debug)]
pub struct Method(Format);

#[derive(Clone, Debug)]
enum Format {
    Stamp(stamp::Stamp),
    Llama(llama::Llama),
    LlamaPython(llama::LlamaPython),
}

impl Method {
    /// Prepares the method for probes of this shape; `ssid` is the STAMP session-sender identifier.
    ///
    /// A stateful reflector counts replies per source address, port and `ssid`: flows that share a socket and a
    /// target need different ones for their directions of loss to be told apart.
    pub fn new(shape: &Shape, ssid: u16) -> Method {
        match shape.method {
            MethodKind::Udp => Method(Format::Stamp(stamp::Stamp::new(shape, ssid))),
            MethodKind::Llama => Method(Format::Llama(llama::Llama::new(shape))),
            MethodKind::LlamaPython => Method(Format::LlamaPython(llama::LlamaPython::new(shape))),
        }
    }

    /// The same, with probes that say how good the local clock is; unsynchronised unless told. Upstream's have no
    /// room for it.
    pub fn with_clock(self, clock: ErrorEstimate) -> Method {
        match self.0 {
            Format::Stamp(stamp) => Method(Format::Stamp(stamp.with_clock(clock))),
            Format::Llama(_) | Format::LlamaPython(_) => self,
        }
    }

    /// Bytes of a probe: the shape's size, or the format's least when that is more.
    pub fn len(&self) -> usize {
        match &self.0 {
            Format::Stamp(stamp) => stamp.len(),
            Format::Llama(llama) => llama.len(),
            Format::LlamaPython(llama) => llama.len(),
        }
    }

    /// Never: a probe has bytes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the probe into `buf` and returns its length; 0, and nothing written, when `buf` is shorter
    /// than [`Method::len`].
    #[inline]
    pub fn write(&self, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        match &self.0 {
            Format::Stamp(stamp) => stamp.write(seq, now, buf),
            Format::Llama(llama) => llama.write(seq, now, buf),
            Format::LlamaPython(llama) => llama.write(seq, now, buf),
        }
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// What the bytes are instead; with a key, nothing in them is believed before the HMAC fits.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, Unreadable> {
        match &self.0 {
            Format::Stamp(stamp) => stamp.read(bytes),
            Format::Llama(llama) => llama.read(bytes),
            Format::LlamaPython(llama) => llama.read(bytes),
        }
    }

    /// The sequence number in the start of one of our own probes, as quoted by an ICMP error.
    pub fn read_quoted(&self, bytes: &[u8]) -> Option<Seq> {
        match &self.0 {
            Format::Stamp(stamp) => stamp.read_quoted(bytes),
            Format::Llama(llama) => llama.read_quoted(bytes),
            Format::LlamaPython(llama) => llama.read_quoted(bytes),
        }
    }
}
