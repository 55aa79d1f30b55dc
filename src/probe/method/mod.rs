//! How a probe asks and what an answer says: probe values ↔ bytes.
//!
//! Responsible for turning a sequence number and an instant into a probe's bytes, and a reply's bytes
//! back into them. Not responsible for whether a reply was expected ([`super::inflight`]).
//! STAMP and upstream's formats have a file each; [`Method`] picks. Read [`Method`] first.

mod addressing;
mod icmp_echo;
mod llama;
mod pattern;
mod stamp;
mod tcp_syn;

pub use addressing::{Addressing, Arrived, Ports, Quote};

use super::Seq;
use super::class::SentBack;
use crate::probe::shape::{MethodKind, Shape};
use crate::time::Wall;
use crate::wire::icmp::Version;
use crate::wire::stamp::ErrorEstimate;
use crate::wire::tcp;

/// UDP's number in IP headers.
const UDP: u8 = 17;
/// Octets of UDP's header.
const UDP_HEADER_LEN: usize = 8;

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

/// How a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A reflector's reply.
    Reflected,
    /// TCP: something listens.
    SynAck,
    /// TCP: the host, or what stands before it, refuses the connection.
    Reset,
    /// ICMP echo reply.
    Echo,
}

/// A reply and how it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// How it answers.
    pub kind: AnswerKind,
    /// With which class it was sent back.
    pub sent_back: SentBack,
    /// The flow's ports as the reply has them, where the method's bytes hold them: they must be those of the
    /// probe's flow, since a raw socket's address has none.
    pub ports: Option<Ports>,
}

/// Why bytes are not a reply; counted, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Shorter than the format, a field out of its range, another collector's, or our own probe sent back as it was
    /// where that is no reply.
    Malformed,
    /// The HMAC does not fit.
    Unauthentic,
    /// A reply that was changed on its way; to the probe with this number, where that part is whole.
    Corrupt(Option<Seq>),
    /// TCP: an ACK alone, from a host that takes the probe for part of an older connection. It is there, but this
    /// answers no probe.
    OldConnection,
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
    TcpSyn(tcp_syn::TcpSyn),
    IcmpEcho(icmp_echo::IcmpEcho),
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
            MethodKind::TcpSyn => Method(Format::TcpSyn(tcp_syn::TcpSyn::new())),
            MethodKind::Icmp => Method(Format::IcmpEcho(icmp_echo::IcmpEcho::new(shape))),
        }
    }

    /// The same, with probes that say how good the local clock is; unsynchronised unless told. Only STAMP has room
    /// for it.
    pub fn with_clock(self, clock: ErrorEstimate) -> Method {
        match self.0 {
            Format::Stamp(stamp) => Method(Format::Stamp(stamp.with_clock(clock))),
            _ => self,
        }
    }

    /// Bytes of a probe as [`Method::write_for`] writes it: over UDP the shape's size, or the format's least when
    /// that is more; of ICMP, 8 more, since a size is what UDP's or ICMP's header of 8 octets is followed by; of
    /// TCP, the header.
    pub fn len(&self) -> usize {
        match &self.0 {
            Format::Stamp(stamp) => stamp.len(),
            Format::Llama(llama) => llama.len(),
            Format::LlamaPython(llama) => llama.len(),
            Format::TcpSyn(_) => tcp_syn::LEN,
            Format::IcmpEcho(echo) => echo.len(),
        }
    }

    /// Bytes of a probe behind the IP header.
    pub fn len_with_header(&self) -> usize {
        match &self.0 {
            Format::TcpSyn(_) | Format::IcmpEcho(_) => self.len(),
            Format::Stamp(_) | Format::Llama(_) | Format::LlamaPython(_) => UDP_HEADER_LEN + self.len(),
        }
    }

    /// Never: a probe has bytes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes a UDP payload into `buf` and returns its length; 0, and nothing written, when `buf` is shorter
    /// than [`Method::len`], or the method is not over UDP.
    #[inline]
    pub fn write(&self, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        match &self.0 {
            Format::Stamp(stamp) => stamp.write(seq, now, buf),
            Format::Llama(llama) => llama.write(seq, now, buf),
            Format::LlamaPython(llama) => llama.write(seq, now, buf),
            Format::TcpSyn(_) | Format::IcmpEcho(_) => 0,
        }
    }

    /// Writes what follows the header that the kernel makes, UDP's or IP's, for a flow with these addresses, into `buf`
    /// and returns its length; 0, and nothing written, when `buf` is shorter than [`Method::len`].
    #[inline]
    pub fn write_for(&self, addressing: &Addressing, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        match &self.0 {
            Format::TcpSyn(syn) => syn.write(addressing, seq, buf),
            Format::IcmpEcho(echo) => echo.write(addressing, seq, buf),
            _ => self.write(seq, now, buf),
        }
    }

    /// Reads a reply in a UDP payload.
    ///
    /// # Errors
    /// What the bytes are instead; with a key, nothing in them is believed before the HMAC fits. Of methods that are
    /// not over UDP, always [`Unreadable::Malformed`].
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, Unreadable> {
        match &self.0 {
            Format::Stamp(stamp) => stamp.read(bytes),
            Format::Llama(llama) => llama.read(bytes),
            Format::LlamaPython(llama) => llama.read(bytes),
            Format::TcpSyn(_) | Format::IcmpEcho(_) => Err(Unreadable::Malformed),
        }
    }

    /// Reads an answer that came in: a UDP payload, or from the TCP or ICMP header on.
    ///
    /// # Errors
    /// What the bytes are instead, as [`Method::read`].
    #[inline]
    pub fn read_answer(&self, arrived: &Arrived, bytes: &[u8]) -> Result<Answer, Unreadable> {
        match &self.0 {
            Format::TcpSyn(syn) => syn.read(arrived, bytes),
            Format::IcmpEcho(echo) => echo.read(Version::of(arrived.from), bytes),
            Format::Stamp(stamp) => {
                let reply = stamp.read(bytes)?;
                Ok(Answer {
                    kind: AnswerKind::Reflected,
                    ports: None,
                    sent_back: stamp.sent_back(&reply, bytes),
                    reply,
                })
            }
            Format::Llama(_) | Format::LlamaPython(_) => Ok(Answer {
                reply: self.read(bytes)?,
                kind: AnswerKind::Reflected,
                sent_back: SentBack::AsAsked,
                ports: None,
            }),
        }
    }

    /// The sequence number in the start of one of our own UDP payloads, as quoted by an ICMP error.
    pub fn read_quoted(&self, bytes: &[u8]) -> Option<Seq> {
        match &self.0 {
            Format::Stamp(stamp) => stamp.read_quoted(bytes),
            Format::Llama(llama) => llama.read_quoted(bytes),
            Format::LlamaPython(llama) => llama.read_quoted(bytes),
            Format::TcpSyn(_) | Format::IcmpEcho(_) => None,
        }
    }

    /// The number in IP headers of what its probes are.
    pub fn protocol(&self, version: Version) -> u8 {
        match &self.0 {
            Format::TcpSyn(_) => tcp::PROTOCOL,
            Format::IcmpEcho(_) => version.protocol(),
            Format::Stamp(_) | Format::Llama(_) | Format::LlamaPython(_) => UDP,
        }
    }

    /// Which probe an ICMP error quotes; `bytes` are the quoted UDP payload, or start at the quoted TCP or ICMP header.
    ///
    /// Eight octets of TCP or ICMP are enough. Of ICMP they hold but the low half of the probe's number: then it is the
    /// newest with that half, `newest` being the last number sent.
    pub fn read_quote(&self, bytes: &[u8], newest: Seq) -> Option<Quote> {
        match &self.0 {
            Format::TcpSyn(syn) => syn.read_quote(bytes),
            Format::IcmpEcho(echo) => echo.read_quote(bytes, newest),
            _ => Some(Quote { seq: self.read_quoted(bytes)?, ports: None }),
        }
    }
}
