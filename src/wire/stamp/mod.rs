//! STAMP test packets: RFC 8762 base packets, RFC 8972 session identifier and TLVs.
//!
//! A packet is a base packet ([`SenderPacket`] one way, [`ReflectedPacket`] back), of one size and two
//! layouts per [`Mode`], and after it the *tail*: TLVs ([`tlv`]) or plain padding. Views check the
//! length once; the small values [`Sender`] and [`Reflected`] are what a view says, emitted and parsed
//! whole. Timestamps are raw 64-bit values here; the error estimate next to them tells their format.
//! Not responsible for deciding which packets are answered. Read [`Sender`] first.

pub mod digest;
mod error_estimate;
mod reflected;
mod sender;
pub mod tlv;

pub use digest::Signer;
pub use error_estimate::ErrorEstimate;
pub use reflected::{Reflected, ReflectedPacket};
pub use sender::{Sender, SenderPacket};

use super::octets::{read_u16, read_u32, read_u64, write};

/// Whether base packets carry an HMAC; agreed on beforehand, not visible in the packet (RFC 8762 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Unauthenticated.
    Open,
    /// Authenticated: the base packet ends in a keyed HMAC.
    Authenticated,
}

impl Mode {
    /// Bytes of a base packet, either way.
    pub const fn base_len(self) -> usize {
        match self {
            Mode::Open => 44,
            Mode::Authenticated => 112,
        }
    }
}

/// The bytes are fewer than a base packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fewer bytes than a base packet")]
pub struct TooShort;
