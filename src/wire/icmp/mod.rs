//! ICMP of both families: echo, and errors with the packet they quote. RFC 792, RFC 4443, RFC 4884.
//!
//! Both have the same layout and differ in numbers ([`Version`]) and in the checksum: ICMPv6 covers a pseudo
//! header, ICMP does not. Not responsible for whose probe an error ends ([`crate::probe::method`]). Read
//! [`Echo`] and [`IcmpError`] first.

mod echo;
mod error;
mod quoted;

pub use echo::{Echo, EchoKind, EchoMessage};
pub use error::{IcmpError, IcmpMeaning};
pub use quoted::Quoted;

use std::net::IpAddr;

/// Bytes before the data of an echo, and before the quoted packet of an error.
pub const HEADER_LEN: usize = 8;

/// Which ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// ICMP, over IPv4.
    V4,
    /// ICMPv6.
    V6,
}

impl Version {
    /// The one that hosts with this address speak.
    pub const fn of(address: IpAddr) -> Version {
        match address {
            IpAddr::V4(_) => Version::V4,
            IpAddr::V6(_) => Version::V6,
        }
    }

    /// Its number in IP headers.
    pub const fn protocol(self) -> u8 {
        match self {
            Version::V4 => 1,
            Version::V6 => 58,
        }
    }
}

/// The bytes are not such a message, or fewer than its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this kind")]
pub struct NotOne;
