//! What kind of packet arrived on a reflector's port; see [`recognise`].
//!
//! One port serves every format, told apart per packet by its bytes alone.

use super::counters::DropReason;
use crate::wire::stamp::{Mode, SenderPacket};

/// A packet a reflector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A STAMP (or TWAMP Light) sender's test packet.
    Stamp(Mode),
}

/// The kind of a packet; `keyed` says whether the listener has a key.
///
/// A listener with a key takes authenticated STAMP and nothing else: an open packet that it answered would
/// let anybody past the key. A listener without one cannot check authenticated packets; they do not pass as open
/// ones either, as the T1 of an authenticated packet stands where an open one has zeros.
///
/// Octets that must be zero are ignored on receipt by RFC 8762 §4.2.1. Here they decide: they tell formats apart on
/// one port, and in a *reply* they are T2, so that a reply sent to a reflector is never answered. The price
/// is a TWAMP Light sender that pads with other than zeros. Nor is one answered whose packets are shorter than the
/// base packet: RFC 8762 §4.6 would have the reply be longer than the probe, and ours never is.
///
/// # Errors
/// Why the packet is none of the kinds.
#[inline]
pub fn recognise(bytes: &[u8], keyed: bool) -> Result<Kind, DropReason> {
    let mode = if keyed { Mode::Authenticated } else { Mode::Open };
    match SenderPacket::new_checked(bytes, mode) {
        Ok(packet) if packet.rest_is_zero() => Ok(Kind::Stamp(mode)),
        Ok(_) if keyed && is_open(bytes) => Err(DropReason::NotAuthenticated),
        Ok(_) => Err(DropReason::Unrecognised),
        Err(_) if keyed && is_open(bytes) => Err(DropReason::NotAuthenticated),
        Err(_) => Err(DropReason::TooShort),
    }
}

fn is_open(bytes: &[u8]) -> bool {
    matches!(SenderPacket::new_checked(bytes, Mode::Open), Ok(packet) if packet.rest_is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stamp::{ErrorEstimate, Reflected, ReflectedPacket, Sender, Signer};
    use proptest::prelude::*;

    fn sender(mode: Mode, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(mode.base_len())];
        let value =
            Sender { seq: 1, timestamp: 0xe8f5_9a80_4000_0000, error_estimate: ErrorEstimate::UNSYNCHRONISED, ssid: 9 };
        value.emit(&mut SenderPacket::new_checked(&mut bytes[..], mode).unwrap());
        if mode == Mode::Authenticated {
            Signer::new(b"secret").sign_base(&mut bytes);
        }
        bytes
    }

    fn reply(mode: Mode) -> Vec<u8> {
        let mut bytes = vec![0; mode.base_len()];
        let value = Reflected {
            seq: 0,
            timestamp: 1,
            error_estimate: ErrorEstimate::UNSYNCHRONISED,
            ssid: 0,
            receive_timestamp: 1,
            sender_seq: 0,
            sender_timestamp: 0,
            sender_error_estimate: ErrorEstimate::from_bits(0),
            sender_ttl: 0,
        };
        value.emit(&mut ReflectedPacket::new_checked(&mut bytes[..], mode).unwrap());
        bytes
    }

    #[test]
    fn no_kind_passes_as_another() {
        let open = sender(Mode::Open, 44);
        let long_open = sender(Mode::Open, 200);
        let keyed = sender(Mode::Authenticated, 112);
        assert_eq!(recognise(&open, false), Ok(Kind::Stamp(Mode::Open)));
        assert_eq!(recognise(&long_open, false), Ok(Kind::Stamp(Mode::Open)));
        assert_eq!(recognise(&keyed, false), Err(DropReason::Unrecognised));
        assert_eq!(recognise(&keyed, true), Ok(Kind::Stamp(Mode::Authenticated)));
        assert_eq!(recognise(&open, true), Err(DropReason::NotAuthenticated));
    }

    #[test]
    fn replies_are_never_answered() {
        assert_eq!(recognise(&reply(Mode::Open), false), Err(DropReason::Unrecognised));
        assert_eq!(recognise(&reply(Mode::Authenticated), true), Err(DropReason::Unrecognised));
    }

    #[test]
    fn truncated_packets_are_too_short() {
        let open = sender(Mode::Open, 44);
        let keyed = sender(Mode::Authenticated, 112);
        for len in 0..44 {
            assert_eq!(recognise(&open[..len], false), Err(DropReason::TooShort));
            assert_eq!(recognise(&open[..len], true), Err(DropReason::TooShort));
        }
        for len in 0..112 {
            assert_eq!(recognise(&keyed[..len], true), Err(DropReason::TooShort));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), keyed: bool) {
            let _ = recognise(&bytes, keyed);
        }
    }
}
