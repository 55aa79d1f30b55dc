//! What follows a base packet: TLVs of RFC 8972 §4.
//!
//! [`walk`] goes through a packet's tail, whatever its bytes; it takes at most one step per four octets.
//! Values understood here: [`ClassOfService`] and the HMAC's 16 octets. The other types have a name and
//! nothing more.

/// Bytes of a TLV's header.
pub const HEADER_LEN: usize = 4;

/// The flags octet of a TLV, RFC 8972 §4.
pub mod flag {
    /// U: not understood by the reflector. A sender sets it, a reflector that understands clears it.
    pub const UNRECOGNISED: u8 = 0x80;
    /// M: the length does not fit the type, or the packet.
    pub const MALFORMED: u8 = 0x40;
    /// I: the TLVs' HMAC could not be verified.
    pub const INTEGRITY: u8 = 0x20;
}

/// The type of a TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1: octets that only make the packet longer.
    ExtraPadding,
    /// 2: addresses and ports as seen by the reflector.
    Location,
    /// 3: how each side synchronises its clock and takes its stamps.
    TimestampInformation,
    /// 4: DSCP and ECN, wanted and seen.
    ClassOfService,
    /// 5: counters of in-profile packets.
    DirectMeasurement,
    /// 6: access network state.
    AccessReport,
    /// 7: number and true transmit time of the previous reply.
    FollowUpTelemetry,
    /// 8: digest over the sequence number and all TLVs before it.
    Hmac,
    /// Any other.
    Other(u8),
}

impl Kind {
    /// The type with this number.
    pub fn from_number(number: u8) -> Kind {
        match number {
            1 => Kind::ExtraPadding,
            2 => Kind::Location,
            3 => Kind::TimestampInformation,
            4 => Kind::ClassOfService,
            5 => Kind::DirectMeasurement,
            6 => Kind::AccessReport,
            7 => Kind::FollowUpTelemetry,
            8 => Kind::Hmac,
            other => Kind::Other(other),
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Kind::ExtraPadding => 1,
            Kind::Location => 2,
            Kind::TimestampInformation => 3,
            Kind::ClassOfService => 4,
            Kind::DirectMeasurement => 5,
            Kind::AccessReport => 6,
            Kind::FollowUpTelemetry => 7,
            Kind::Hmac => 8,
            Kind::Other(other) => other,
        }
    }

    /// Whether this program understands the type.
    pub fn is_understood(self) -> bool {
        matches!(self, Kind::ExtraPadding | Kind::ClassOfService | Kind::Hmac)
    }

    /// Whether a value of `len` octets can be of this type, as far as the type is understood.
    fn allows(self, len: usize) -> bool {
        match self {
            Kind::ClassOfService => len == ClassOfService::LEN,
            Kind::Hmac => len == super::digest::LEN,
            _ => true,
        }
    }
}

/// A TLV found in a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Where its header starts, in octets from the start of the tail.
    pub at: usize,
    /// The flags octet as received.
    pub flags: u8,
    /// The type.
    pub kind: Kind,
    /// The value; of a malformed TLV, all that is left of the tail.
    pub value: &'a [u8],
    /// The length runs past the end of the packet, or does not fit the type. It is the last one.
    pub malformed: bool,
}

/// Goes through the TLVs of a tail.
///
/// The walk ends before what cannot be a TLV: fewer than four octets, or a header of four zero octets.
/// The latter is padding by a sender that knows no TLVs; one that does sets flag U on every TLV, and type 0 is
/// reserved. After a malformed TLV nothing more can be told apart (RFC 8972 §4).
pub fn walk(tail: &[u8]) -> Walk<'_> {
    Walk { tail, at: 0 }
}

/// See [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    tail: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let at = self.at;
        let (header, rest) = self.tail.get(at..)?.split_first_chunk::<HEADER_LEN>()?;
        if *header == [0; HEADER_LEN] {
            self.at = self.tail.len();
            return None;
        }
        let [flags, number, high, low] = *header;
        let kind = Kind::from_number(number);
        let len = usize::from(u16::from_be_bytes([high, low]));
        let fitting = rest.get(..len).filter(|_| kind.allows(len));
        self.at = match fitting {
            Some(_) => at + HEADER_LEN + len,
            None => self.tail.len(),
        };
        Some(Tlv { at, flags, kind, value: fitting.unwrap_or(rest), malformed: fitting.is_none() })
    }
}

/// Writes a TLV's header, flags as a sender sets them: U and nothing else (RFC 8972 §4).
///
/// Bytes shorter than a header stay as they are.
pub fn emit_header(bytes: &mut [u8], kind: Kind, len: u16) {
    if let Some(header) = bytes.first_chunk_mut::<HEADER_LEN>() {
        let [high, low] = len.to_be_bytes();
        *header = [flag::UNRECOGNISED, kind.number(), high, low];
    }
}

/// The value of a Class of Service TLV, RFC 8972 §4.4 (and erratum 8199: ECN is the received one too).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassOfService {
    /// DSCP1: wanted on the reply; 0 to 63.
    pub wanted_dscp: u8,
    /// DSCP2: on the probe as the reflector received it; 0 to 63.
    pub received_dscp: u8,
    /// On the probe as the reflector received it; 0 to 3.
    pub received_ecn: u8,
    /// RP, 0 to 3: 1 when the reflector's policy does not allow the wanted DSCP.
    pub reverse_path: u8,
}

impl ClassOfService {
    /// Octets of the value.
    pub const LEN: usize = 4;

    /// Reads a value; `None` when it is not four octets. The reserved 16 bits are ignored.
    pub fn parse(value: &[u8]) -> Option<ClassOfService> {
        let raw = u32::from_be_bytes(value.try_into().ok()?);
        Some(ClassOfService {
            wanted_dscp: (raw >> 26) as u8,
            received_dscp: (raw >> 20) as u8 & 0x3f,
            received_ecn: (raw >> 18) as u8 & 0x03,
            reverse_path: (raw >> 16) as u8 & 0x03,
        })
    }

    /// The four octets; what is too big for a field loses its upper bits.
    pub fn emit(self) -> [u8; ClassOfService::LEN] {
        let raw = u32::from(self.wanted_dscp & 0x3f) << 26
            | u32::from(self.received_dscp & 0x3f) << 20
            | u32::from(self.received_ecn & 0x03) << 18
            | u32::from(self.reverse_path & 0x03) << 16;
        raw.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const TAIL: [u8; 42] = [
        0x80, 0x04, 0x00, 0x04, 0xb8, 0x00, 0x00, 0x00, // class of service: EF wanted
        0x80, 0xf0, 0x00, 0x00,                         // experimental, empty
        0x80, 0x08, 0x00, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        0x80, 0x01, 0x00, 0x03, 0xaa, 0xbb, 0xcc,       // extra padding
        0x80, 0x01, 0x00,                               // three octets are no TLV
    ];

    #[test]
    fn take_apart() {
        let found: Vec<_> = walk(&TAIL).map(|tlv| (tlv.at, tlv.kind, tlv.value.len(), tlv.malformed)).collect();
        assert_eq!(
            found,
            [
                (0, Kind::ClassOfService, 4, false),
                (8, Kind::Other(0xf0), 0, false),
                (12, Kind::Hmac, 16, false),
                (32, Kind::ExtraPadding, 3, false),
            ]
        );
    }

    #[test]
    fn build() {
        let mut bytes = [0xa5; 6];
        emit_header(&mut bytes, Kind::ExtraPadding, 0x0102);
        assert_eq!(bytes, [0x80, 0x01, 0x01, 0x02, 0xa5, 0xa5]);
        let mut short = [0xa5; 3];
        emit_header(&mut short, Kind::ExtraPadding, 0);
        assert_eq!(short, [0xa5; 3]);
    }

    #[test]
    fn parse() {
        // DSCP1 46, DSCP2 10, ECN 1, RP 2
        let value = ClassOfService { wanted_dscp: 46, received_dscp: 10, received_ecn: 1, reverse_path: 2 };
        assert_eq!(ClassOfService::parse(&[0xb8, 0xa6, 0xff, 0xff]), Some(value));
        assert_eq!(ClassOfService::parse(&[0xb8, 0xa6, 0xff]), None);
    }

    #[test]
    fn emit() {
        let value = ClassOfService { wanted_dscp: 46, received_dscp: 10, received_ecn: 1, reverse_path: 2 };
        assert_eq!(value.emit(), [0xb8, 0xa6, 0, 0]);
    }

    #[test]
    fn a_length_past_the_end_or_of_the_wrong_size_is_malformed_and_the_last() {
        for tail in [
            &[0x80, 0x01, 0xff, 0xff, 0, 0, 0, 0][..],
            &[0x80, 0x01, 0x00, 0x01][..],
            &[0x80, 0x04, 0x00, 0x03, 1, 2, 3, 0x80, 0x01, 0x00, 0x00][..],
            &[0x80, 0x08, 0x00, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16][..],
        ] {
            let found: Vec<_> = walk(tail).collect();
            assert_eq!(found.len(), 1, "{tail:x?}");
            assert!(found[0].malformed);
            assert_eq!(found[0].value, &tail[4..]);
        }
    }

    #[test]
    fn zeros_are_padding() {
        assert_eq!(walk(&[0; 1000]).count(), 0);
        let mut tail = TAIL;
        tail[8..12].fill(0);
        assert_eq!(walk(&tail).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_in_order_and_within_bounds(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut end = 0;
            for tlv in walk(&tail) {
                prop_assert_eq!(tlv.at, end);
                end = tlv.at + HEADER_LEN + tlv.value.len();
                prop_assert!(end <= tail.len());
                prop_assert_eq!(Kind::from_number(tlv.kind.number()), tlv.kind);
            }
        }

        #[test]
        fn class_of_service_there_and_back(raw: [u8; 2]) {
            let octets = [raw[0], raw[1], 0, 0];
            prop_assert_eq!(ClassOfService::parse(&octets).unwrap().emit(), octets);
        }

        #[test]
        fn what_was_written_is_found(values in proptest::collection::vec((9u8..=255, 0usize..20), 0..10)) {
            let mut tail = Vec::new();
            for &(number, len) in &values {
                let at = tail.len();
                tail.resize(at + HEADER_LEN + len, 0xa5);
                emit_header(&mut tail[at..], Kind::from_number(number), len as u16);
            }
            let found: Vec<_> = walk(&tail).map(|tlv| (tlv.kind.number(), tlv.value.len())).collect();
            prop_assert_eq!(found, values);
        }
    }
}
