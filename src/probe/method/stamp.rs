//! STAMP as session-sender: RFC 8762, padded by an Extra Padding TLV of RFC 8972 §4.1.
//!
//! A probe is a template with the sequence number and T1 patched in. What a size asks beyond the base
//! packet becomes one Extra Padding TLV, four octets of header included; one to three octets more than
//! the base cannot be a TLV and are zeros, which a reflector sends back as they are (RFC 8762 §4.3).
//! A padding TLV alone needs no HMAC TLV in authenticated mode (RFC 8972 §4.8).

use super::{Reply, Unreadable, pattern};
use crate::probe::Seq;
use crate::probe::class::SentBack;
use crate::probe::shape::{Dscp, Shape, report_len};
use crate::time::Wall;
use crate::wire::stamp::tlv::{self, ClassOfService, Kind, flag};
use crate::wire::stamp::{ErrorEstimate, Mode, ReflectedPacket, Sender, SenderPacket, Signer, digest};

#[derive(Clone, Debug)]
pub struct Stamp {
    mode: Mode,
    clock: ErrorEstimate,
    template: Box<[u8]>,
    signer: Option<Signer>,
    /// The TLVs are more than padding, so that with a key they have a digest of their own.
    class_report: bool,
}

/// Octets of a Class of Service TLV, and of the TLVs' HMAC.
const CLASS_LEN: usize = tlv::HEADER_LEN + ClassOfService::LEN;
const HMAC_LEN: usize = tlv::HEADER_LEN + digest::LEN;

impl Stamp {
    pub fn new(shape: &Shape, ssid: u16) -> Stamp {
        let signer = shape.key.as_ref().map(|key| Signer::new(&key.0));
        let mode = if signer.is_some() { Mode::Authenticated } else { Mode::Open };
        let clock = ErrorEstimate::UNSYNCHRONISED;
        let mut template = vec![0; usize::from(shape.size).max(mode.base_len())].into_boxed_slice();
        if let Ok(mut packet) = SenderPacket::new_checked(&mut template[..], mode) {
            Sender { seq: 0, timestamp: 0, error_estimate: clock, ssid }.emit(&mut packet);
        }
        let (_, mut tail) = template.split_at_mut(mode.base_len());
        let room = usize::from(report_len(signer.is_some())) - mode.base_len();
        let class_report = shape.class_report && tail.len() >= room;
        if class_report {
            let (report, rest) = tail.split_at_mut(room);
            ask_for_class(report, shape.dscp);
            tail = rest;
        }
        pad(tail);
        Stamp { mode, clock, template, signer, class_report }
    }

    pub fn with_clock(mut self, clock: ErrorEstimate) -> Stamp {
        self.clock = clock;
        if let Ok(mut packet) = SenderPacket::new_checked(&mut self.template[..], self.mode) {
            packet.set_error_estimate(clock);
        }
        self
    }

    pub fn len(&self) -> usize {
        self.template.len()
    }

    #[inline]
    pub fn write(&self, seq: Seq, now: Wall, buf: &mut [u8]) -> usize {
        let Some(probe) = buf.get_mut(..self.template.len()) else { return 0 };
        probe.copy_from_slice(&self.template);
        if let Ok(mut packet) = SenderPacket::new_checked(&mut *probe, self.mode) {
            packet.set_seq(seq.0);
            packet.set_timestamp(self.clock.timestamp(now));
        }
        if let Some(signer) = &self.signer {
            signer.sign_base(probe);
            if self.class_report {
                let (_, tail) = probe.split_at_mut(self.mode.base_len());
                let (class, hmac) = tail.split_at_mut(CLASS_LEN);
                hmac[tlv::HEADER_LEN..HMAC_LEN].copy_from_slice(&signer.sign(&[&seq.0.to_be_bytes(), class]));
            }
        }
        probe.len()
    }

    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, Unreadable> {
        let reply = ReflectedPacket::new_checked(bytes, self.mode).map_err(|_| Unreadable::Malformed)?;
        if let Some(signer) = &self.signer
            && !signer.verify_base(bytes)
        {
            return Err(Unreadable::Unauthentic);
        }
        // An echo service sends the probe back as it was: zeros where a reflector copies T1 to. Its
        // sequence number would read as 0, its residence time as nothing.
        if reply.sender_timestamp() == 0 {
            return Err(Unreadable::Malformed);
        }
        let seq = Seq(reply.sender_seq());
        if !is_whole(bytes.get(self.mode.base_len()..).unwrap_or_default(), self.mode) {
            return Err(Unreadable::Corrupt(Some(seq)));
        }
        let estimate = reply.error_estimate();
        let instant = |raw| estimate.instant(raw).map_err(|_| Unreadable::Malformed);
        Ok(Reply {
            seq,
            reflector_seq: Some(reply.seq()),
            received: instant(reply.receive_timestamp())?,
            sent: instant(reply.timestamp())?,
        })
    }

    /// With which class a reply that [`Stamp::read`] accepts was sent back.
    #[inline]
    pub fn sent_back(&self, reply: &Reply, bytes: &[u8]) -> SentBack {
        let tail = bytes.get(self.mode.base_len()..).unwrap_or_default();
        self.reported(reply, tail).unwrap_or(SentBack::Mirrored)
    }

    /// The reflector's report; `None` without one to believe. Reflectors that know no TLVs leave our flag U standing
    /// (RFC 8972 §4).
    fn reported(&self, reply: &Reply, tail: &[u8]) -> Option<SentBack> {
        let (class, rest) = tail.split_at_checked(CLASS_LEN)?;
        let [flags, number, 0, len, value @ ..] = class else { return None };
        let understood = flags & (flag::UNRECOGNISED | flag::MALFORMED | flag::INTEGRITY) == 0;
        if !understood || *number != Kind::ClassOfService.number() || usize::from(*len) != ClassOfService::LEN {
            return None;
        }
        if let Some(signer) = &self.signer {
            let hmac = tlv::walk(rest).next().filter(|found| found.kind == Kind::Hmac)?;
            let digest = <&[u8; digest::LEN]>::try_from(hmac.value).ok()?;
            if !signer.verify(&[&reply.reflector_seq?.to_be_bytes(), class], digest) {
                return None;
            }
        }
        let said = ClassOfService::parse(value)?;
        let received = said.received_dscp << 2 | said.received_ecn;
        Some(SentBack::Reported { received, honoured: said.reverse_path == 0 })
    }

    pub fn read_quoted(&self, bytes: &[u8]) -> Option<Seq> {
        bytes.first_chunk::<4>().map(|seq| Seq(u32::from_be_bytes(*seq)))
    }
}

/// Fills in a Class of Service TLV that asks for a reply in the probe's own class, and the header of the TLVs' HMAC if
/// there is room for one.
fn ask_for_class(report: &mut [u8], dscp: Dscp) {
    let (class, hmac) = report.split_at_mut(CLASS_LEN);
    tlv::emit_header(class, Kind::ClassOfService, ClassOfService::LEN as u16);
    let asked = ClassOfService { wanted_dscp: dscp.0, ..ClassOfService::default() };
    class[tlv::HEADER_LEN..].copy_from_slice(&asked.emit());
    tlv::emit_header(hmac, Kind::Hmac, digest::LEN as u16);
}

/// Whether the padding in a reply's tail is what was sent; of padding that cannot be told to be ours, true.
///
/// A reflector may fill what it does not understand with octets of its own (RFC 8762 §4.3 lets TWAMP Light's do so),
/// zeros often; where the TLV's header has come back, its octets should have, too.
#[inline]
fn is_whole(mut tail: &[u8], mode: Mode) -> bool {
    if tail.get(1) == Some(&Kind::ClassOfService.number()) {
        tail = tail.get(CLASS_LEN..).unwrap_or_default();
        if mode == Mode::Authenticated {
            tail = tail.get(HMAC_LEN..).unwrap_or_default();
        }
    }
    let Some((header, value)) = tail.split_first_chunk::<{ tlv::HEADER_LEN }>() else { return true };
    let [_, number, high, low] = *header;
    let ours = number == Kind::ExtraPadding.number() && usize::from(u16::from_be_bytes([high, low])) == value.len();
    !ours || pattern::holds(value) || value.iter().all(|octet| *octet == 0)
}

/// Fills the tail with one Extra Padding TLV, if its header fits.
fn pad(tail: &mut [u8]) {
    let Some((header, value)) = tail.split_at_mut_checked(tlv::HEADER_LEN) else { return };
    // a size is u16, so the rest of it fits the TLV's length
    tlv::emit_header(header, tlv::Kind::ExtraPadding, value.len() as u16);
    pattern::fill(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::method::Method;
    use crate::probe::shape::{Dscp, Key, MethodKind, StampPolicy};
    use crate::wire::stamp::Reflected;
    use proptest::prelude::*;
    use std::sync::Arc;

    const NOW: Wall = Wall(1_700_000_000_123_456_789);

    fn method(size: u16, key: Option<&[u8]>) -> Method {
        let shape = Shape {
            port_name: "test".into(),
            method: MethodKind::Udp,
            dscp: Dscp(0),
            size,
            stamps: StampPolicy::Off,
            key: key.map(|key| Arc::new(Key(key.to_vec()))),
            class_report: false,
        };
        Method::new(&shape, 0xbeef)
    }

    fn probe(method: &Method, seq: u32) -> Vec<u8> {
        let mut buf = vec![0xa5; 2000];
        let len = method.write(Seq(seq), NOW, &mut buf);
        assert!(buf[len..].iter().all(|&byte| byte == 0xa5), "writes past the probe");
        buf.truncate(len);
        buf
    }

    /// A reply as a reflector 100 ns and 300 ns later would give it.
    fn reply(probe: &[u8], key: Option<&[u8]>, estimate: ErrorEstimate) -> Vec<u8> {
        let mode = if key.is_some() { Mode::Authenticated } else { Mode::Open };
        let asked = Sender::parse(&SenderPacket::new_checked(probe, mode).unwrap());
        let mut bytes = probe.to_vec();
        Reflected {
            seq: 7,
            timestamp: estimate.timestamp(Wall(NOW.0 + 300)),
            error_estimate: estimate,
            ssid: asked.ssid,
            receive_timestamp: estimate.timestamp(Wall(NOW.0 + 100)),
            sender_seq: asked.seq,
            sender_timestamp: asked.timestamp,
            sender_error_estimate: asked.error_estimate,
            sender_ttl: 64,
        }
        .emit(&mut ReflectedPacket::new_checked(&mut bytes[..], mode).unwrap());
        if let Some(key) = key {
            Signer::new(key).sign_base(&mut bytes);
        }
        bytes
    }

    #[test]
    fn a_probe_says_what_it_shall() {
        let probe = probe(&method(44, None), 42);
        assert_eq!(probe.len(), 44);
        let packet = SenderPacket::new_checked(&probe[..], Mode::Open).unwrap();
        assert!(packet.rest_is_zero());
        let said = Sender::parse(&packet);
        assert_eq!((said.seq, said.ssid, said.error_estimate), (42, 0xbeef, ErrorEstimate::UNSYNCHRONISED));
        assert_eq!(said.error_estimate.instant(said.timestamp), Ok(Some(NOW)));
    }

    #[test]
    fn a_vouched_clock_is_told() {
        let clock = ErrorEstimate::synchronised(1_000);
        let probe = probe(&method(44, None).with_clock(clock), 1);
        assert_eq!(Sender::parse(&SenderPacket::new_checked(&probe[..], Mode::Open).unwrap()).error_estimate, clock);
    }

    #[test]
    fn every_size_is_met_by_zeros_or_one_padding_tlv() {
        for (key, base) in [(None, 44), (Some(&b"secret"[..]), 112)] {
            for size in 0..300 {
                let probe = probe(&method(size, key), 1);
                assert_eq!(probe.len(), usize::from(size).max(base));
                let tail = &probe[base..];
                if tail.len() < 4 {
                    assert!(tail.iter().all(|&byte| byte == 0));
                } else {
                    let tlvs: Vec<_> = tlv::walk(tail).collect();
                    assert_eq!(tlvs.len(), 1);
                    assert_eq!(tlvs[0].kind, tlv::Kind::ExtraPadding);
                    assert_eq!((tlvs[0].value.len(), tlvs[0].malformed), (tail.len() - 4, false));
                }
            }
        }
    }

    /// A method that asks for reports, of class EF.
    fn asking(size: u16, key: Option<&[u8]>) -> Method {
        let shape = Shape {
            port_name: "test".into(),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size,
            stamps: StampPolicy::Off,
            key: key.map(|key| Arc::new(Key(key.to_vec()))),
            class_report: true,
        };
        Method::new(&shape, 0xbeef)
    }

    /// As a reflector of ours answers that received the probe with this byte, and refuses the class or not.
    fn answered(probe: &[u8], key: Option<&[u8]>, received: u8, refuses: bool) -> Vec<u8> {
        use crate::reflector::responder::{Arrival, DscpSet, Responder, Setup};
        let dscps = if refuses { DscpSet(1) } else { DscpSet::ALL };
        let mut responder = Responder::new(Setup { signer: key.map(Signer::new), dscps, ..Setup::default() });
        let arrival = Arrival {
            bytes: probe,
            from: ([192, 0, 2, 1], 40_000).into(),
            to: None,
            local_port: 862,
            received: NOW,
            traffic_class: Some(received),
            hop_limit: None,
        };
        let mut out = vec![0xa5; probe.len()];
        let reply = responder.respond(crate::time::Monotonic(0), &arrival, NOW, &mut out).unwrap();
        assert_eq!(reply.len, probe.len());
        out
    }

    fn sent_back(method: &Method, bytes: &[u8]) -> SentBack {
        let ip = std::net::Ipv4Addr::LOCALHOST.into();
        method.read_answer(&crate::probe::method::Arrived { from: ip, to: ip }, bytes).unwrap().sent_back
    }

    #[test]
    fn a_report_is_asked_for_where_there_is_room() {
        for (key, room) in [(None, 52), (Some(&b"secret"[..]), 140)] {
            assert_eq!(report_len(key.is_some()), room);
            for size in room - 10..room + 20 {
                let bytes = probe(&asking(size, key), 1);
                let base = if key.is_some() { 112 } else { 44 };
                let found: Vec<_> = tlv::walk(&bytes[base..]).map(|found| found.kind).collect();
                assert_eq!(found.contains(&Kind::ClassOfService), size >= room, "{size}");
                assert_eq!(found.contains(&Kind::Hmac), key.is_some() && size >= room, "{size}");
                assert_eq!(bytes.len(), usize::from(size).max(base));
            }
        }
    }

    #[test]
    fn what_a_reflector_reports_is_read() {
        for key in [None, Some(&b"secret"[..])] {
            for size in [140, 143, 144, 500] {
                let method = asking(size, key);
                let bytes = probe(&method, 42);
                for (received, refuses) in [(46 << 2, false), (0, false), (8 << 2 | 3, true)] {
                    let reply = answered(&bytes, key, received, refuses);
                    let expected = SentBack::Reported { received, honoured: !refuses };
                    assert_eq!(sent_back(&method, &reply), expected, "{size} {received}");
                }
            }
        }
    }

    #[test]
    fn a_report_that_is_none_or_forged_is_not_believed() {
        let method = asking(60, None);
        let plain = reply(&probe(&method, 42), None, ErrorEstimate::UNSYNCHRONISED);
        assert_eq!(sent_back(&method, &plain), SentBack::Mirrored, "flag U stands: it was not understood");
        assert_eq!(sent_back(&method, &plain[..44]), SentBack::Mirrored, "cut off by a reflector that knows no TLVs");
        let key = Some(&b"secret"[..]);
        let method = asking(200, key);
        let good = answered(&probe(&method, 42), key, 46 << 2, false);
        for at in [116, 117, 118, 119, 124, 139] {
            let mut forged = good.clone();
            forged[at] ^= 4;
            assert_eq!(sent_back(&method, &forged), SentBack::Mirrored, "octet {at}");
        }
        assert!(matches!(sent_back(&method, &good), SentBack::Reported { .. }));
    }

    #[test]
    fn a_changed_octet_of_padding_is_noticed_and_padding_of_others_is_not() {
        for (key, asks) in [(None, false), (None, true), (Some(&b"secret"[..]), false), (Some(&b"secret"[..]), true)] {
            let method = if asks { asking(300, key) } else { method(300, key) };
            let good = answered(&probe(&method, 42), key, 0, false);
            assert!(method.read(&good).is_ok());
            for at in good.len() - 150..good.len() {
                let mut bytes = good.clone();
                bytes[at] ^= 0x10;
                assert_eq!(method.read(&bytes), Err(Unreadable::Corrupt(Some(Seq(42)))), "octet {at}");
            }
            let mut zeroed = good.clone();
            zeroed[good.len() - 140..].fill(0);
            assert_eq!(method.read(&zeroed), Err(Unreadable::Corrupt(Some(Seq(42)))), "not all of it");
            let base = if key.is_some() { 112 } else { 44 };
            let mut others = good.clone();
            others[base..].fill(0);
            assert!(method.read(&others).is_ok(), "a reflector that pads with zeros");
            others[base..].fill(0x5a);
            assert!(method.read(&others).is_ok(), "a reflector that pads with octets of its own");
        }
    }

    #[test]
    fn a_short_buffer_gets_nothing() {
        let mut buf = [0xa5; 43];
        assert_eq!(method(44, None).write(Seq(1), NOW, &mut buf), 0);
        assert_eq!(buf, [0xa5; 43]);
    }

    #[test]
    fn replies_in_both_timestamp_formats() {
        for key in [None, Some(&b"secret"[..])] {
            let method = method(200, key);
            for ptp in [false, true] {
                let estimate = ErrorEstimate { ptp, ..ErrorEstimate::UNSYNCHRONISED };
                let read = method.read(&reply(&probe(&method, 42), key, estimate));
                let expected = Reply {
                    seq: Seq(42),
                    reflector_seq: Some(7),
                    received: Some(Wall(NOW.0 + 100)),
                    sent: Some(Wall(NOW.0 + 300)),
                };
                assert_eq!(read, Ok(expected));
            }
        }
    }

    #[test]
    fn missing_reflector_stamps_are_none() {
        let method = method(44, None);
        let mut bytes = reply(&probe(&method, 42), None, ErrorEstimate::UNSYNCHRONISED);
        bytes[4..12].fill(0);
        bytes[16..24].fill(0);
        let read = method.read(&bytes).unwrap();
        assert_eq!((read.received, read.sent, read.seq), (None, None, Seq(42)));
    }

    #[test]
    fn our_own_probe_sent_back_is_no_reply() {
        for key in [None, Some(&b"secret"[..])] {
            let method = method(200, key);
            assert_eq!(method.read(&probe(&method, 0)), Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn replies_that_are_none() {
        let open = method(44, None);
        let good = reply(&probe(&open, 42), None, ErrorEstimate::UNSYNCHRONISED);
        for len in 0..44 {
            assert_eq!(open.read(&good[..len]), Err(Unreadable::Malformed));
        }
        let ptp = ErrorEstimate { ptp: true, ..ErrorEstimate::UNSYNCHRONISED };
        let mut bytes = reply(&probe(&open, 42), None, ptp);
        bytes[20..24].fill(0xff); // nanoseconds of T2
        assert_eq!(open.read(&bytes), Err(Unreadable::Malformed));

        let keyed = method(112, Some(b"secret"));
        let mut bytes = reply(&probe(&keyed, 42), Some(b"secret"), ErrorEstimate::UNSYNCHRONISED);
        assert!(keyed.read(&bytes).is_ok());
        assert_eq!(keyed.read(&bytes[..111]), Err(Unreadable::Malformed));
        assert_eq!(method(112, Some(b"other")).read(&bytes), Err(Unreadable::Unauthentic));
        bytes[48] ^= 1;
        assert_eq!(keyed.read(&bytes), Err(Unreadable::Unauthentic));
    }

    #[test]
    fn a_quote_of_four_octets_is_enough() {
        for key in [None, Some(&b"secret"[..])] {
            let method = method(200, key);
            let probe = probe(&method, 0x0102_0304);
            for len in 0..probe.len() {
                assert_eq!(method.read_quoted(&probe[..len]), (len >= 4).then_some(Seq(0x0102_0304)));
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = method(44, None).read(&bytes);
            let _ = method(112, Some(b"secret")).read(&bytes);
            let _ = method(44, None).read_quoted(&bytes);
        }

        #[test]
        fn every_sequence_number_comes_back(seq: u32, size in 44u16..1500, keyed: bool) {
            let key = keyed.then_some(&b"secret"[..]);
            let method = method(size, key);
            let read = method.read(&reply(&probe(&method, seq), key, ErrorEstimate::UNSYNCHRONISED)).unwrap();
            prop_assert_eq!(read.seq, Seq(seq));
        }
    }
}
