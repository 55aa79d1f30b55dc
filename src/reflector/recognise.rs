//! What kind of packet arrived on a reflector's port; see [`recognise`].
//!
//! One port serves every format, told apart per packet by its bytes alone.

use super::counters::DropReason;
use crate::wire::llama::{SIGNATURE_LEN, go, python};
use crate::wire::stamp::{Mode, SenderPacket};

/// A packet a reflector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A STAMP (or TWAMP Light) sender's test packet.
    Stamp(Mode),
    /// A probe of upstream's Go generation.
    Llama {
        /// The traffic-class byte it asks for.
        tos: u8,
    },
    /// A probe of upstream's Python generation.
    LlamaPython {
        /// The traffic-class byte it asks for.
        tos: u8,
    },
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
/// # Order
/// STAMP first, by its length and 28 zeros: what is answered most costs least, and no STAMP packet can be taken for
/// anything else. Then the first octet picks one of upstream's formats. A probe of the Go generation never
/// has those zeros: behind its signature (to octet 12) and `tos` (three octets) comes at 15 the key of a field and at 16
/// what an encoder never writes as zero, the length or the number of a field that is there; without `tos`, or with the
/// fork's short one, octet 16 lies within `sent`. One of the Python generation is shorter than STAMP's.
///
/// # Errors
/// Why the packet is none of the kinds.
#[inline]
pub fn recognise(bytes: &[u8], keyed: bool) -> Result<Kind, DropReason> {
    let mode = if keyed { Mode::Authenticated } else { Mode::Open };
    match SenderPacket::new_checked(bytes, mode) {
        Ok(packet) if packet.rest_is_zero() => Ok(Kind::Stamp(mode)),
        found => {
            let other = if found.is_ok() { DropReason::Unrecognised } else { DropReason::TooShort };
            if keyed { Err(without_key(bytes).unwrap_or(other)) } else { upstream(bytes, other) }
        }
    }
}

/// Why a listener with a key refuses what it would answer without one.
pub(super) fn without_key(bytes: &[u8]) -> Option<DropReason> {
    recognise(bytes, false).is_ok().then_some(DropReason::NotAuthenticated)
}

/// A packet that is no STAMP packet: upstream's, or refused as `other`.
fn upstream(bytes: &[u8], other: DropReason) -> Result<Kind, DropReason> {
    const GO: u8 = go::START[0];
    const PYTHON: u8 = python::SIGNATURE[0];
    match bytes.first() {
        Some(&GO) => go(bytes, other),
        Some(&PYTHON) if bytes.starts_with(&python::SIGNATURE) => {
            let packet = python::Packet::new_checked(bytes).map_err(|_| DropReason::WrongSize)?;
            Ok(Kind::LlamaPython { tos: packet.tos() })
        }
        _ => Err(other),
    }
}

fn go(bytes: &[u8], other: DropReason) -> Result<Kind, DropReason> {
    let begins_well = bytes.starts_with(&go::START);
    match go::Probe::parse(bytes) {
        Ok(probe) if !begins_well || probe.signature.len() != SIGNATURE_LEN => Err(DropReason::WrongSignature),
        Ok(probe) => probe.tos.map(|tos| Kind::Llama { tos }).ok_or(DropReason::EmptyTos),
        Err(_) if !begins_well => Err(other),
        Err(go::Undecodable::Truncated) => Err(DropReason::FieldPastEnd),
        Err(go::Undecodable::LongVarint) => Err(DropReason::LongVarint),
        Err(go::Undecodable::Malformed) => Err(DropReason::MalformedField),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::llama::go::{Sent, SentProbe};
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

    /// A probe of the Go generation as any encoder writes it: fields in order, defaults left out.
    fn llama(signature: &[u8], tos: &[u8], sent: u64, rest: &[u8], padding: usize) -> Vec<u8> {
        let mut bytes = [&[0x0a, signature.len() as u8], signature, tos].concat();
        if sent > 0 {
            bytes.push(0x18);
            prost::encoding::encode_varint(sent, &mut bytes);
        }
        bytes.extend_from_slice(rest);
        if padding > 0 {
            bytes.push(0x3a);
            prost::encoding::encode_varint(padding as u64, &mut bytes);
            bytes.resize(bytes.len() + padding, 0);
        }
        bytes
    }

    fn usual() -> Vec<u8> {
        llama(&[7; 10], &[0x12, 1, 0xb8], 1_700_000_000_123_456_789, &[], 1000)
    }

    fn python(tail: &[u8; 26]) -> Vec<u8> {
        [&b"__llama__\0"[..], tail].concat()
    }

    #[test]
    fn upstreams_probes_are_recognised() {
        assert_eq!(recognise(&usual(), false), Ok(Kind::Llama { tos: 0xb8 }));
        let fork = llama(&[7; 10], &[0x10, 0xb8, 1], 1_700_000_000_123_456_789, &[], 1000);
        assert_eq!(recognise(&fork, false), Ok(Kind::Llama { tos: 0xb8 }));
        assert_eq!(recognise(&python(&[0x28; 26]), false), Ok(Kind::LlamaPython { tos: 0x28 }));
        let mut ours = [0; 200];
        let sent = Sent { signature: [0; 10], tos: 0, sent: 0 };
        sent.emit(&mut SentProbe::new_checked(&mut ours[..]).unwrap());
        assert_eq!(recognise(&ours, false), Ok(Kind::Llama { tos: 0 }));
    }

    #[test]
    fn a_listener_with_a_key_refuses_upstreams_probes() {
        let short = llama(&[7; 10], &[0x12, 1, 0], 1, &[], 0);
        for bytes in [short, python(&[0; 26]), llama(&[7; 10], &[0x12, 1, 0], 1, &[], 40)] {
            assert_eq!(recognise(&bytes, true), Err(DropReason::NotAuthenticated), "{bytes:x?}");
        }
        // zeros where an authenticated packet has them: its missing digest tells it (see the responder)
        assert_eq!(recognise(&usual(), true), Ok(Kind::Stamp(Mode::Authenticated)));
        assert_eq!(without_key(&usual()), Some(DropReason::NotAuthenticated));
    }

    #[test]
    fn what_is_nearly_upstreams_has_its_reason() {
        const NOW: u64 = 1_700_000_000_123_456_789;
        let good = usual();
        let cases = [
            ("no tos", llama(&[7; 10], &[], NOW, &[], 1000), DropReason::EmptyTos),
            ("empty tos", llama(&[7; 10], &[0x12, 0], NOW, &[], 1000), DropReason::EmptyTos),
            ("signature alone", llama(&[7; 10], &[], 0, &[], 0), DropReason::EmptyTos),
            ("cut in the padding", good[..good.len() - 1].to_vec(), DropReason::FieldPastEnd),
            ("cut in the signature", good[..11].to_vec(), DropReason::FieldPastEnd),
            ("padding of 2^63", [&good[..25], &[0x3a], &[0xff; 8][..], &[0x7f, 0]].concat(), DropReason::FieldPastEnd),
            ("rtt of 11 octets", [&good[..25], &[0x28], &[0xff; 10][..], &[1]].concat(), DropReason::LongVarint),
            ("rtt above 64 bits", [&good[..25], &[0x28], &[0xff; 9][..], &[2]].concat(), DropReason::LongVarint),
            ("field 0", [&good[..25], &[0, 0]].concat(), DropReason::MalformedField),
            ("reserved type", [&good[..25], &[0x47]].concat(), DropReason::MalformedField),
            ("sent as octets", [&good[..15], &[0x1a, 1, 1]].concat(), DropReason::MalformedField),
            ("long signature", llama(&[7; 11], &[0x12, 1, 0], NOW, &[], 20), DropReason::WrongSignature),
            ("short signature", llama(&[7; 9], &[0x12, 1, 0], NOW, &[], 20), DropReason::WrongSignature),
            ("empty signature", llama(&[], &[0x12, 1, 0], NOW, &[], 20), DropReason::WrongSignature),
            ("a second signature", [&good[..], &[0x0a, 1, 7]].concat(), DropReason::WrongSignature),
            ("python, cut", python(&[1; 26])[..35].to_vec(), DropReason::WrongSize),
            ("python, longer", [&python(&[1; 26])[..], &[1; 30]].concat(), DropReason::WrongSize),
            ("python, signature alone", b"__llama__\0".to_vec(), DropReason::WrongSize),
            ("python, another signature", [&b"__llama_!\0"[..], &[1; 26]].concat(), DropReason::TooShort),
            ("text", b"\nis there anybody out there, or is there nobody?".to_vec(), DropReason::Unrecognised),
        ];
        for (case, bytes, reason) in cases {
            assert_eq!(recognise(&bytes, false), Err(reason), "{case}: {bytes:x?}");
            assert!(recognise(&bytes, true).is_err() || bytes.len() >= 112, "{case}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), keyed: bool) {
            let _ = recognise(&bytes, keyed);
        }

        #[test]
        fn no_bytes_behind_a_good_start_panic(
            start in 0usize..3, tail in proptest::collection::vec(any::<u8>(), 0..200), keyed: bool,
        ) {
            let starts = [&go::START[..], &python::SIGNATURE, &[0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 1, 0]];
            let _ = recognise(&[starts[start], &tail].concat(), keyed);
        }

        #[test]
        fn every_stamp_packet_is_one(
            seq: u32, timestamp: u64, estimate: u16, ssid: u16, like_go: bool, keyed: bool,
            tail in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mode = if keyed { Mode::Authenticated } else { Mode::Open };
            let seq = if like_go { 0x0a0a_0000 | seq >> 16 } else { seq };
            let error_estimate = ErrorEstimate::from_bits(estimate);
            let mut bytes = vec![0; mode.base_len()];
            Sender { seq, timestamp, error_estimate, ssid }
                .emit(&mut SenderPacket::new_checked(&mut bytes[..], mode).unwrap());
            if keyed {
                Signer::new(b"secret").sign_base(&mut bytes);
            }
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(recognise(&bytes, keyed), Ok(Kind::Stamp(mode)));
            if keyed && timestamp >> 32 != 0 {
                // one that is signed passes as none of the open kinds
                prop_assert!(recognise(&bytes, false).is_err());
            }
        }

        #[test]
        fn every_probe_of_the_go_generation_is_one(
            signature: [u8; 10], tos: u8, fork: bool, sent in 1u64.., rcvd: u64, rtt: u64, lost: bool,
            padding in 0usize..1400,
        ) {
            let mut field = vec![0x12, 1, tos];
            if fork {
                field = vec![0x10];
                prost::encoding::encode_varint(tos.into(), &mut field);
            }
            let mut rest = Vec::new();
            for (key, value) in [(0x20, rcvd), (0x28, rtt), (0x30, lost.into())] {
                if value > 0 {
                    rest.push(key);
                    prost::encoding::encode_varint(value, &mut rest);
                }
            }
            let bytes = llama(&signature, &field, sent, &rest, padding);
            prop_assert_eq!(recognise(&bytes, false), Ok(Kind::Llama { tos }));
        }

        #[test]
        fn every_probe_of_the_python_generation_is_one(tail: [u8; 26]) {
            prop_assert_eq!(recognise(&python(&tail), false), Ok(Kind::LlamaPython { tos: tail[0] }));
        }
    }
}
