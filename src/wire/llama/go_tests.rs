//! Tests of the Go generation's codec, with prost as the oracle: what it decodes, refuses and encodes.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// The message as upstream describes it.
#[derive(Clone, PartialEq, Message)]
struct WithBytes {
    #[prost(bytes, tag = "1")]
    signature: Vec<u8>,
    #[prost(bytes, tag = "2")]
    tos: Vec<u8>,
    #[prost(uint64, tag = "3")]
    sent: u64,
    #[prost(uint64, tag = "4")]
    rcvd: u64,
    #[prost(uint64, tag = "5")]
    rtt: u64,
    #[prost(bool, tag = "6")]
    lost: bool,
    #[prost(bytes, tag = "7")]
    padding: Vec<u8>,
}

/// The same with the fork's `tos`; optional, to tell absent from 0.
#[derive(Clone, PartialEq, Message)]
struct WithVarint {
    #[prost(bytes, tag = "1")]
    signature: Vec<u8>,
    #[prost(uint64, optional, tag = "2")]
    tos: Option<u64>,
    #[prost(uint64, tag = "3")]
    sent: u64,
    #[prost(uint64, tag = "4")]
    rcvd: u64,
    #[prost(uint64, tag = "5")]
    rtt: u64,
    #[prost(bool, tag = "6")]
    lost: bool,
    #[prost(bytes, tag = "7")]
    padding: Vec<u8>,
}

impl WithBytes {
    fn value(&self) -> Probe<'_> {
        let WithBytes { signature, tos, sent, rcvd, rtt, lost, padding } = self;
        let tos = tos.first().copied();
        Probe { signature, tos, sent: *sent, rcvd: *rcvd, rtt: *rtt, lost: *lost, padding }
    }
}

impl WithVarint {
    fn value(&self) -> Probe<'_> {
        let WithVarint { signature, tos, sent, rcvd, rtt, lost, padding } = self;
        let tos = tos.map(|tos| tos as u8);
        Probe { signature, tos, sent: *sent, rcvd: *rcvd, rtt: *rtt, lost: *lost, padding }
    }
}

/// A collector's probe of class EF, sent 2023-11-14 22:13:20.123456789 UTC, with three octets of padding.
#[rustfmt::skip]
const SENT: [u8; 30] = [
    0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,                        // 1: signature
    0x12, 0x01, 0xb8,                                                 // 2: tos
    0x18, 0x95, 0x9a, 0x97, 0xec, 0xe3, 0x9f, 0xe7, 0xcb, 0x17,       // 3: sent
    0x3a, 0x03, 0x00, 0x00, 0x00,                                     // 7: padding
];

/// One with every field, as a collector has it in memory.
#[rustfmt::skip]
const FULL: [u8; 38] = [
    0x0a, 0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    0x12, 0x01, 0x28,
    0x18, 0x96, 0x01,                                                 // sent 150
    0x20, 0xac, 0x02,                                                 // 4: rcvd 300
    0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // 5: rtt, all 64 bits
    0x30, 0x01,                                                       // 6: lost
    0x3a, 0x02, 0xff, 0xfe,
];

const SIGNATURE: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
const INSTANT: u64 = 1_700_000_000_123_456_789;

fn full() -> Probe<'static> {
    Probe {
        signature: &SIGNATURE,
        tos: Some(0x28),
        sent: 150,
        rcvd: 300,
        rtt: u64::MAX,
        lost: true,
        padding: &[0xff, 0xfe],
    }
}

fn emitted(len: usize, sent: u64) -> Vec<u8> {
    let mut bytes = vec![0xa5; len];
    Sent { signature: SIGNATURE, tos: 0xb8, sent }.emit(&mut SentProbe::new_checked(&mut bytes[..]).unwrap());
    bytes
}

#[test]
fn take_apart() {
    let mut left = Fields { left: &FULL };
    assert_eq!((left.key(), left.bytes()), (Ok((1, Wire::Bytes)), Ok(&SIGNATURE[..])));
    assert_eq!((left.key(), left.bytes()), (Ok((2, Wire::Bytes)), Ok(&[0x28][..])));
    assert_eq!((left.key(), left.varint()), (Ok((3, Wire::Varint)), Ok(150)));
    assert_eq!((left.key(), left.varint()), (Ok((4, Wire::Varint)), Ok(300)));
    assert_eq!((left.key(), left.varint()), (Ok((5, Wire::Varint)), Ok(u64::MAX)));
    assert_eq!((left.key(), left.varint()), (Ok((6, Wire::Varint)), Ok(1)));
    assert_eq!((left.key(), left.bytes()), (Ok((7, Wire::Bytes)), Ok(&[0xff, 0xfe][..])));
    assert_eq!((left.left, left.key()), (&[][..], Err(Undecodable::Truncated)));
}

#[test]
fn build() {
    let mut bytes = [0xa5; 30];
    let mut packet = SentProbe::new_checked(&mut bytes[..]).unwrap();
    packet.set_frame();
    packet.set_signature(&SIGNATURE);
    packet.set_tos(0xb8);
    packet.set_sent(INSTANT);
    assert_eq!(bytes, SENT);
}

#[test]
fn parse() {
    assert_eq!(Probe::parse(&FULL), Ok(full()));
    assert_eq!(WithBytes::decode(&FULL[..]).unwrap().value(), full(), "prost reads the same");
    let sent = Probe { signature: &SIGNATURE, tos: Some(0xb8), sent: INSTANT, padding: &[0; 3], ..Probe::default() };
    assert_eq!(Probe::parse(&SENT), Ok(sent));
    assert_eq!(Probe::parse(&[]), Ok(Probe::default()), "a message may be empty");
}

#[test]
fn emit() {
    assert_eq!(emitted(30, INSTANT), SENT);
    let of_upstream = WithBytes {
        signature: SIGNATURE.to_vec(),
        tos: vec![0xb8],
        sent: INSTANT,
        padding: vec![0; PADDING],
        ..WithBytes::default()
    };
    assert_eq!(emitted(USUAL_LEN, INSTANT), of_upstream.encode_to_vec(), "byte for byte what a Go collector sends");
}

#[test]
fn every_length_is_met_exactly() {
    for len in SentProbe::<&[u8]>::LEAST_LEN..2000 {
        let bytes = emitted(len, INSTANT);
        let read = WithBytes::decode(&bytes[..]).unwrap();
        assert_eq!((&read.signature[..], &read.tos[..], read.sent), (&SIGNATURE[..], &[0xb8][..], INSTANT));
        assert!(read.padding.iter().all(|&byte| byte == 0) && read.padding.len() + 30 > len, "{len}");
        // an encoder leaves an empty padding out, and never takes two octets for a length of 127
        assert_eq!(read.encode_to_vec() == bytes, len != 27 && len != 155, "{len}");
        assert_eq!(Probe::parse(&bytes), Ok(read.value()), "{len}");
    }
    let most = SentProbe::<&[u8]>::MOST_LEN;
    assert_eq!(WithBytes::decode(&emitted(most, 1)[..]).unwrap().padding.len(), 0x3fff);
    for len in [0, 26, most + 1] {
        assert!(SentProbe::new_checked(vec![0; len]).is_err(), "{len}");
    }
}

#[test]
fn tos_is_read_in_both_types() {
    let tos = |field: &[u8]| Probe::parse(field).map(|probe| probe.tos);
    assert_eq!(tos(&[0x12, 1, 0]), Ok(Some(0)), "a zero that is there");
    assert_eq!(tos(&[0x12, 2, 0xb8, 9]), Ok(Some(0xb8)), "the first of several, as upstream takes it");
    assert_eq!(tos(&[0x10, 0xb8, 0x01]), Ok(Some(0xb8)), "the fork's");
    assert_eq!(tos(&[0x10, 0]), Ok(Some(0)));
    assert_eq!(tos(&[0x12, 0]), Ok(None));
    assert_eq!(tos(&[0x12, 1, 4, 0x10, 8]), Ok(Some(8)), "the last, whatever its type");
    assert_eq!(tos(&[0x12, 1, 4, 0x12, 0]), Ok(None), "the last, though it is empty");
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    use Undecodable::{LongVarint, Malformed, Truncated};
    let cases: &[(&[u8], Undecodable)] = &[
        (&FULL[..5], Truncated),
        (&[0x0a], Truncated),
        (&[0x0a, 0x80], Truncated),
        (&[0x0a, 0x0b, 1, 2, 3], Truncated),
        (&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Truncated), // a length of 2^64 − 1
        (&[0x41, 1, 2, 3], Truncated),                                                    // unknown, eight octets
        (&[0x45, 1, 2, 3], Truncated),                                                    // unknown, four octets
        (&[0x43, 0x08], Truncated),                                                       // in a group
        (&[0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], LongVarint),
        (&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], LongVarint), // 2^65
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], LongVarint), // as a key
        (&[0x08, 0x01], Malformed),                                                        // signature as a varint
        (&[0x1a, 0x01, 0x01], Malformed),                                                  // sent as octets
        (&[0x13, 0x14], Malformed),                                                        // tos as a group
        (&[0x00, 0x00], Malformed),                                                        // field 0
        (&[0x46, 0x00], Malformed),                                                        // reserved types
        (&[0x47, 0x00], Malformed),
        (&[0x44], Malformed),                               // end of no group
        (&[0x43, 0x4c], Malformed),                         // end of another
        (&[0x80, 0x80, 0x80, 0x80, 0x10, 0x00], Malformed), // a key above 32 bits
    ];
    for (bytes, error) in cases {
        assert_eq!(Probe::parse(bytes), Err(*error), "{bytes:x?}");
        assert!(WithBytes::decode(*bytes).is_err() && WithVarint::decode(*bytes).is_err(), "prost: {bytes:x?}");
    }
}

#[test]
fn groups_are_skipped_as_deep_as_prost_does() {
    for depth in [1, 2, 50, 99, 100, 101, 200] {
        for inner in [&[][..], &[0x08, 0x01], &[0x0d, 1, 2, 3, 4], &[0x0a, 1, 0]] {
            let bytes = [&[0x43].repeat(depth)[..], inner, &[0x44].repeat(depth), &SENT].concat();
            let ours = Probe::parse(&bytes);
            assert_eq!(ours.is_ok(), WithBytes::decode(&bytes[..]).is_ok(), "{depth} groups, in them {inner:x?}");
        }
    }
}

/// What any decoder must give for these bytes, or `None` when it must refuse them. prost knows one type per field: of a
/// message that mixes both types of `tos`, which no encoder writes, it says nothing.
fn oracle(bytes: &[u8]) -> Option<(Option<u8>, WithVarint)> {
    if let Ok(read) = WithVarint::decode(bytes) {
        return Some((read.tos.map(|tos| tos as u8), read));
    }
    let WithBytes { signature, tos, sent, rcvd, rtt, lost, padding } = WithBytes::decode(bytes).ok()?;
    Some((tos.first().copied(), WithVarint { signature, tos: None, sent, rcvd, rtt, lost, padding }))
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (Probe::parse(bytes), oracle(bytes)) {
        (Ok(ours), Some((tos, theirs))) => prop_assert_eq!(ours, Probe { tos, ..theirs.value() }),
        (Err(_), None) => {}
        (Ok(_), None) => {
            // only because of the two types: with either taken out both agree
            let of_type = |wanted: u8| {
                let (mut left, mut kept) = (Fields { left: bytes }, Vec::new());
                while !left.left.is_empty() {
                    let from = left.left;
                    let key = left.key().unwrap();
                    match key {
                        (number, Wire::Group) => left.skip_group(number).unwrap(),
                        (_, wire) => left.skip(wire).unwrap(),
                    }
                    let field = &from[..from.len() - left.left.len()];
                    if key.0 != 2 || key.1 == if wanted == 0x10 { Wire::Varint } else { Wire::Bytes } {
                        kept.extend_from_slice(field);
                    }
                }
                kept
            };
            let (varint, octets) = (of_type(0x10), of_type(0x12));
            prop_assert!(varint.len() < bytes.len() && octets.len() < bytes.len(), "prost refuses {:x?}", bytes);
            prop_assert!(WithVarint::decode(&varint[..]).is_ok() && WithBytes::decode(&octets[..]).is_ok());
        }
        (Err(error), Some(theirs)) => prop_assert!(false, "{error}, but prost reads {theirs:?} in {bytes:x?}"),
    }
    Ok(())
}

/// A field as an encoder may write it, or nearly so: known and unknown numbers, all wire types, long varints.
fn any_field() -> impl Strategy<Value = Vec<u8>> {
    let varint = prop_oneof![
        any::<u64>().prop_map(|value| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(value, &mut bytes);
            bytes
        }),
        vec(0x80u8..=0xff, 0..12).prop_flat_map(|head| (Just(head), 0u8..4)).prop_map(|(mut head, last)| {
            head.push(last);
            head
        }),
    ];
    let octets = vec(any::<u8>(), 0..20).prop_map(|value| [&[value.len() as u8][..], &value].concat());
    let value = prop_oneof![4 => varint, 4 => octets, 1 => vec(any::<u8>(), 0..10)];
    let key = prop_oneof![
        6 => prop_oneof![Just(0x0au8), Just(0x12), Just(0x10), Just(0x18), Just(0x20), Just(0x28), Just(0x30), Just(0x3a)],
        1 => any::<u8>(),
        1 => prop_oneof![Just(0x43u8), Just(0x44), Just(0x40), Just(0x42)],
    ];
    (key, value).prop_map(|(key, value)| [&[key][..], &value].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_prost_reads_them(bytes in vec(any::<u8>(), 0..60)) {
        agree(&bytes)?;
    }

    #[test]
    fn any_fields_are_read_as_prost_reads_them(fields in vec(any_field(), 0..8)) {
        agree(&fields.concat())?;
    }

    #[test]
    fn a_damaged_probe_is_read_as_prost_reads_it(at in 0usize..38, with: u8, len in 0usize..=38) {
        let mut bytes = FULL;
        bytes[at] = with;
        agree(&bytes[..len])?;
    }

    #[test]
    fn what_prost_writes_is_read(
        signature in vec(any::<u8>(), 0..12), tos in vec(any::<u8>(), 0..3), number: Option<u64>,
        sent: u64, rcvd: u64, rtt: u64, lost: bool, padding in vec(any::<u8>(), 0..200),
    ) {
        let with_bytes =
            WithBytes { signature: signature.clone(), tos, sent, rcvd, rtt, lost, padding: padding.clone() };
        let bytes = with_bytes.encode_to_vec();
        prop_assert_eq!(Probe::parse(&bytes), Ok(with_bytes.value()));
        let with_varint = WithVarint { signature, tos: number, sent, rcvd, rtt, lost, padding };
        let bytes = with_varint.encode_to_vec();
        prop_assert_eq!(Probe::parse(&bytes), Ok(with_varint.value()));
    }

    #[test]
    fn what_we_write_prost_reads(signature: [u8; 10], tos: u8, sent in 0..1u64 << 63, len in 27usize..3000) {
        let mut bytes = vec![0xa5; len];
        Sent { signature, tos, sent }.emit(&mut SentProbe::new_checked(&mut bytes[..]).unwrap());
        let read = WithBytes::decode(&bytes[..]).unwrap();
        prop_assert_eq!((&read.signature[..], &read.tos[..], read.sent), (&signature[..], &[tos][..], sent));
        prop_assert_eq!((read.rcvd, read.rtt, read.lost), (0, 0, false));
        prop_assert!(read.padding.iter().all(|&byte| byte == 0));
    }
}
