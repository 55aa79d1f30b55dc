//! Tests of the responder: which packets are answered, how, and that no bytes make it panic.

use super::*;
use crate::wire::llama::{go, python};
use crate::wire::stamp::tlv;
use proptest::prelude::*;

const NOW: Monotonic = Monotonic(1_000_000_000_000);
const T2: Wall = Wall(1_700_000_000_000_000_100);
const T3: Wall = Wall(1_700_000_000_000_000_900);
const SECRET: &[u8] = b"secret";

fn keyed() -> Setup {
    Setup { signer: Some(Signer::new(SECRET)), ..Setup::default() }
}

fn probe(mode: Mode, seq: u32, tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; mode.base_len()];
    let value = Sender {
        seq,
        timestamp: 0xe8f5_9a80_4000_0000,
        error_estimate: ErrorEstimate::synchronised(1000),
        ssid: 0xbeef,
    };
    value.emit(&mut SenderPacket::new_checked(&mut bytes[..], mode).unwrap());
    if mode == Mode::Authenticated {
        Signer::new(SECRET).sign_base(&mut bytes);
    }
    bytes.extend_from_slice(tail);
    bytes
}

/// A probe of upstream's Go generation.
fn llama(tos: u8) -> Vec<u8> {
    let mut bytes = vec![0; go::USUAL_LEN];
    let sent = go::Sent { signature: *b"0123456789", tos, sent: 1_700_000_000_123_456_789 };
    sent.emit(&mut go::SentProbe::new_checked(&mut bytes[..]).unwrap());
    bytes
}

/// A probe of upstream's Python generation.
fn llama_python(tos: u8) -> Vec<u8> {
    let mut bytes = vec![0; python::LEN];
    let probe = python::Probe { tos, sent: 1_700_000_000_123.5, rcvd: 0.0, rtt: 0.0, lost: false };
    probe.emit(&mut python::Packet::new_sized(&mut bytes[..]).unwrap());
    bytes
}

/// One of each format that an open reflector answers.
fn one_of_each() -> [Vec<u8>; 3] {
    [probe(Mode::Open, 1, &[]), llama(0), llama_python(0)]
}

fn arrival(bytes: &[u8]) -> Arrival<'_> {
    Arrival {
        bytes,
        from: "192.0.2.1:40000".parse().unwrap(),
        to: Some("192.0.2.2".parse().unwrap()),
        local_port: 8100,
        received: T2,
        traffic_class: Some(0x2a), // AF11, ECN 2
        hop_limit: Some(61),
    }
}

/// The reply's bytes; the buffer behind them must stay as it was.
fn reply(responder: &mut Responder, now: Monotonic, arrival: &Arrival<'_>) -> Result<(Vec<u8>, u8), DropReason> {
    let mut out = vec![0xa5; 2000];
    let before = responder.dropped.total();
    let result = responder.respond(now, arrival, T3, &mut out);
    assert_eq!(responder.dropped.total() - before, u64::from(result.is_err()));
    let Reply { len, traffic_class } = result?;
    assert_eq!(len, arrival.bytes.len(), "as long as the probe");
    assert!(out[len..].iter().all(|&byte| byte == 0xa5), "writes past the reply");
    out.truncate(len);
    Ok((out, traffic_class))
}

fn seq_of(responder: &mut Responder, now: Monotonic, arrival: &Arrival<'_>) -> u32 {
    let (bytes, _) = reply(responder, now, arrival).unwrap();
    ReflectedPacket::new_checked(&bytes[..], Mode::Open).unwrap().seq()
}

#[test]
fn a_reply_says_what_the_reflector_saw() {
    for (setup, mode) in [(Setup::default(), Mode::Open), (keyed(), Mode::Authenticated)] {
        let (bytes, traffic_class) = reply(&mut Responder::new(setup), NOW, &arrival(&probe(mode, 42, &[]))).unwrap();
        assert_eq!(traffic_class, 0x28, "the probe's DSCP, without its ECN");
        if mode == Mode::Authenticated {
            assert!(Signer::new(SECRET).verify_base(&bytes));
        }
        let clock = ErrorEstimate::UNSYNCHRONISED;
        let expected = Reflected {
            seq: 42,
            timestamp: clock.timestamp(T3),
            error_estimate: clock,
            ssid: 0xbeef,
            receive_timestamp: clock.timestamp(T2),
            sender_seq: 42,
            sender_timestamp: 0xe8f5_9a80_4000_0000,
            sender_error_estimate: ErrorEstimate::synchronised(1000),
            sender_ttl: 61,
        };
        assert_eq!(Reflected::parse(&ReflectedPacket::new_checked(&bytes[..], mode).unwrap()), expected);
    }
}

#[test]
fn the_dscp_asked_for_is_used_if_allowed() {
    let tail = [0x80, 4, 0, 4, 46 << 2, 0, 0, 0];
    let bytes = probe(Mode::Open, 1, &tail);
    for (dscps, traffic_class, reverse_path) in [(DscpSet::ALL, 46 << 2, 0), (DscpSet(!(1 << 46)), 0x28, 1)] {
        let mut responder = Responder::new(Setup { dscps, ..Setup::default() });
        let (bytes, used) = reply(&mut responder, NOW, &arrival(&bytes)).unwrap();
        assert_eq!(used, traffic_class);
        let class = tlv::ClassOfService::parse(&bytes[48..52]).unwrap();
        assert_eq!((class.wanted_dscp, class.received_dscp, class.received_ecn), (46, 10, 2));
        assert_eq!(class.reverse_path, reverse_path);
        assert_eq!(responder.notes.refused_dscps, u64::from(reverse_path));
    }
}

#[test]
fn with_a_key_only_authenticated_packets_are_answered_and_without_one_only_open_ones() {
    let open = probe(Mode::Open, 1, &[]);
    let long_open = probe(Mode::Open, 1, &[0; 200]);
    let authenticated = probe(Mode::Authenticated, 1, &[]);
    let mut forged = authenticated.clone();
    forged[3] ^= 1;
    let mut responder = Responder::new(keyed());
    assert!(reply(&mut responder, NOW, &arrival(&authenticated)).is_ok());
    assert_eq!(reply(&mut responder, NOW, &arrival(&open)), Err(DropReason::NotAuthenticated));
    assert_eq!(reply(&mut responder, NOW, &arrival(&long_open)), Err(DropReason::NotAuthenticated));
    assert_eq!(reply(&mut responder, NOW, &arrival(&forged)), Err(DropReason::Unauthentic));
    let mut responder = Responder::new(Setup::default());
    assert_eq!(reply(&mut responder, NOW, &arrival(&authenticated)), Err(DropReason::Unrecognised));
}

#[test]
fn upstreams_probes_come_back_as_they_came_in_the_class_they_ask_for() {
    for tos in 0..=255 {
        for bytes in [llama(tos), llama_python(tos)] {
            let mut responder = Responder::new(Setup::default());
            let class = tos & 0xfc; // ECN stays 00
            assert_eq!(reply(&mut responder, NOW, &arrival(&bytes)), Ok((bytes, class)));
        }
    }
}

#[test]
fn a_class_that_is_not_allowed_is_not_given_to_upstreams_probes() {
    let setup = Setup { dscps: DscpSet(!(1 << 46)), ..Setup::default() };
    let mut responder = Responder::new(setup);
    for bytes in [llama(46 << 2), llama_python(46 << 2)] {
        let (_, class) = reply(&mut responder, NOW, &arrival(&bytes)).unwrap();
        assert_eq!(class, 0x28, "the one it came with");
    }
    assert_eq!(responder.notes.refused_dscps, 2);
}

#[test]
fn replies_are_counted_by_format() {
    let mut responder = Responder::new(Setup::default());
    for (number, bytes) in one_of_each().iter().enumerate() {
        for _ in 0..=number {
            reply(&mut responder, NOW, &arrival(bytes)).unwrap();
        }
    }
    let bytes = llama(0);
    let other_reflector = Arrival { from: "192.0.2.1:862".parse().unwrap(), ..arrival(&bytes) };
    assert!(reply(&mut responder, NOW, &other_reflector).is_err(), "and is not counted as one");
    assert_eq!(Answered::ALL.map(|format| responder.replied.of(format)), [1, 2, 3]);
}

#[test]
fn what_ended_upstreams_reflector_is_dropped_by_reason() {
    let good = llama(0x28);
    let longer_than_there_is = [&good[..25], &[0x3a, 0xff, 0xff, 0xff, 0x7f]].concat();
    let huge_varint = [&good[..15], &[0x18], &[0xff; 12][..]].concat();
    let cases = [
        ([&good[..12], &good[15..]].concat(), DropReason::EmptyTos),
        (longer_than_there_is, DropReason::FieldPastEnd),
        (good[..500].to_vec(), DropReason::FieldPastEnd),
        (huge_varint, DropReason::LongVarint),
        ([&good[..25], &[0x07]].concat(), DropReason::MalformedField),
        ([&[0x0a, 0x03, 1, 2, 3], &good[12..]].concat(), DropReason::WrongSignature),
        (llama_python(0)[..35].to_vec(), DropReason::WrongSize),
        ([&llama_python(0)[..], &[0; 30]].concat(), DropReason::WrongSize),
    ];
    let mut responder = Responder::new(Setup::default());
    for (bytes, reason) in cases {
        let before = responder.dropped.of(reason);
        assert_eq!(reply(&mut responder, NOW, &arrival(&bytes)), Err(reason), "{bytes:x?}");
        assert_eq!(responder.dropped.of(reason), before + 1);
    }
    assert_eq!(reply(&mut responder, NOW, &arrival(&good)), Ok((good, 0x28)), "and it lives");
}

#[test]
fn with_a_key_upstreams_probes_are_not_authenticated() {
    let mut responder = Responder::new(keyed());
    for bytes in &one_of_each() {
        assert_eq!(reply(&mut responder, NOW, &arrival(bytes)), Err(DropReason::NotAuthenticated), "{}", bytes.len());
    }
}

#[test]
fn forged_packets_use_up_nobodys_share() {
    let mut responder =
        Responder::new(Setup { rate: Some(Rate::per_second(1)), source_rate: Some(Rate::per_second(1)), ..keyed() });
    let good = probe(Mode::Authenticated, 1, &[]);
    let mut forged = good.clone();
    forged[100] ^= 1;
    for _ in 0..100 {
        assert_eq!(reply(&mut responder, NOW, &arrival(&forged)), Err(DropReason::Unauthentic));
    }
    assert!(reply(&mut responder, NOW, &arrival(&good)).is_ok());
}

#[test]
fn what_could_be_another_reflector_gets_nothing() {
    let mut responder = Responder::new(Setup { own_ports: vec![8100, 5000], ..Setup::default() });
    for bytes in &one_of_each() {
        for port in REFLECTOR_PORTS.into_iter().chain([5000]) {
            let from = SocketAddr::new("192.0.2.1".parse().unwrap(), port);
            let result = reply(&mut responder, NOW, &Arrival { from, ..arrival(bytes) });
            assert_eq!(result, Err(DropReason::OtherReflector), "port {port}");
        }
        let same_port = Arrival { from: "192.0.2.1:7777".parse().unwrap(), local_port: 7777, ..arrival(bytes) };
        assert_eq!(reply(&mut responder, NOW, &same_port), Err(DropReason::OtherReflector));
    }
}

#[test]
fn a_reply_is_never_answered() {
    for (setup, mode) in [(Setup::default(), Mode::Open), (keyed(), Mode::Authenticated)] {
        let mut responder = Responder::new(setup);
        let (bytes, _) = reply(&mut responder, NOW, &arrival(&probe(mode, 0, &[]))).unwrap();
        assert_eq!(reply(&mut responder, NOW, &arrival(&bytes)), Err(DropReason::Unrecognised));
    }
}

#[test]
fn only_single_hosts_are_answered() {
    let mut responder = Responder::new(Setup::default());
    let bytes = probe(Mode::Open, 1, &[]);
    for from in ["224.0.0.1:4000", "255.255.255.255:4000", "0.0.0.0:4000", "[ff02::1]:4000", "[::]:4000", "192.0.2.1:0"]
    {
        let arrival = Arrival { from: from.parse().unwrap(), ..arrival(&bytes) };
        assert_eq!(reply(&mut responder, NOW, &arrival), Err(DropReason::NotUnicast), "{from}");
    }
    let arrival = Arrival { to: Some("ff02::1".parse().unwrap()), ..arrival(&bytes) };
    assert_eq!(reply(&mut responder, NOW, &arrival), Err(DropReason::NotUnicast));
}

#[test]
fn a_stateful_reflector_counts_per_session() {
    let mut responder = Responder::new(Setup { sessions: 64, ..Setup::default() });
    let bytes = probe(Mode::Open, 1000, &[]);
    let mut other_ssid = bytes.clone();
    other_ssid[15] ^= 1;
    let first = arrival(&bytes);
    let sessions = [
        first,
        Arrival { from: "192.0.2.1:40001".parse().unwrap(), ..first },
        Arrival { from: "192.0.2.9:40000".parse().unwrap(), ..first },
        Arrival { from: "[2001:db8::1]:40000".parse().unwrap(), ..first },
        Arrival { to: Some("192.0.2.3".parse().unwrap()), ..first },
        Arrival { local_port: 862, ..first },
        Arrival { bytes: &other_ssid, ..first },
    ];
    for seq in 0..3 {
        for (number, session) in sessions.iter().enumerate() {
            assert_eq!(seq_of(&mut responder, NOW, session), seq, "session {number}");
        }
    }
    assert_eq!(responder.notes.sessions, 7);
}

#[test]
fn an_idle_session_starts_anew() {
    let setup = Setup { sessions: 64, session_idle: Duration::from_secs(10), ..Setup::default() };
    let mut responder = Responder::new(setup);
    let bytes = probe(Mode::Open, 1000, &[]);
    let later = |seconds| NOW.after(Duration::from_secs(seconds));
    assert_eq!(seq_of(&mut responder, later(0), &arrival(&bytes)), 0);
    assert_eq!(seq_of(&mut responder, later(10), &arrival(&bytes)), 1);
    assert_eq!(seq_of(&mut responder, later(21), &arrival(&bytes)), 0);
}

#[test]
fn a_full_session_table_answers_as_a_stateless_reflector() {
    let mut responder = Responder::new(Setup { sessions: 8, ..Setup::default() });
    let bytes = probe(Mode::Open, 1000, &[]);
    let from = |port: u16| Arrival { from: SocketAddr::new("192.0.2.1".parse().unwrap(), port), ..arrival(&bytes) };
    for port in 0..8 {
        assert_eq!(seq_of(&mut responder, NOW, &from(40000 + port)), 0);
    }
    assert_eq!(seq_of(&mut responder, NOW, &from(40008)), 1000);
    assert_eq!(seq_of(&mut responder, NOW, &from(40003)), 1, "known sessions go on");
    assert_eq!((responder.notes.sessions, responder.notes.sessions_full), (8, 1));
}

#[test]
fn a_noisy_source_is_limited_alone() {
    let mut responder = Responder::new(Setup {
        rate: Some(Rate::per_second(1000)), // 100 at once
        source_rate: Some(Rate::per_second(10)),
        ..Setup::default()
    });
    let [stamp, llama, python] = one_of_each();
    let bytes = stamp.clone();
    let noisy = arrival(&bytes);
    // whatever its format
    let formats = [&stamp, &llama, &python];
    let answered =
        (0..500).filter(|at| reply(&mut responder, NOW, &Arrival { bytes: formats[at % 3], ..noisy }).is_ok()).count();
    assert_eq!(answered, 10);
    assert_eq!(responder.dropped.of(DropReason::SourceRateLimit), 490);
    let quiet = Arrival { from: "192.0.2.77:40000".parse().unwrap(), ..noisy };
    assert!(reply(&mut responder, NOW, &quiet).is_ok());
    assert!(reply(&mut responder, NOW.after(Duration::from_millis(100)), &noisy).is_ok());
}

#[test]
fn an_ipv6_source_is_its_64_bit_prefix() {
    let mut responder = Responder::new(Setup { source_rate: Some(Rate::per_second(1)), ..Setup::default() });
    let bytes = probe(Mode::Open, 1, &[]);
    let from = |from: &str| Arrival { from: from.parse().unwrap(), ..arrival(&bytes) };
    assert!(reply(&mut responder, NOW, &from("[2001:db8:0:1::1]:4000")).is_ok());
    assert!(reply(&mut responder, NOW, &from("[2001:db8:0:1::2]:4000")).is_err());
    assert!(reply(&mut responder, NOW, &from("[2001:db8:0:2::1]:4000")).is_ok());
}

#[test]
fn above_the_common_limit_nothing_is_answered() {
    let mut responder = Responder::new(Setup { rate: Some(Rate::per_second(100)), ..Setup::default() });
    let formats = one_of_each();
    for host in 0..=255 {
        let from = SocketAddr::new(IpAddr::from([192, 0, 2, host]), 40000);
        let _ = reply(&mut responder, NOW, &Arrival { from, ..arrival(&formats[usize::from(host) % 3]) });
    }
    assert_eq!(responder.dropped.of(DropReason::RateLimit), 256 - 16);
}

#[test]
fn more_sources_than_places_are_counted_and_still_answered() {
    let mut responder =
        Responder::new(Setup { source_rate: Some(Rate::per_second(1)), sources: 8, ..Setup::default() });
    let bytes = probe(Mode::Open, 1, &[]);
    for host in 0..100 {
        let from = SocketAddr::new(IpAddr::from([192, 0, 2, host]), 40000);
        assert!(reply(&mut responder, NOW, &Arrival { from, ..arrival(&bytes) }).is_ok());
    }
    assert_eq!(responder.notes.sources_forgotten, 92);
}

#[test]
fn longer_than_can_be_sent_gets_nothing() {
    let mut responder = Responder::new(Setup { longest: 100, ..Setup::default() });
    assert!(reply(&mut responder, NOW, &arrival(&probe(Mode::Open, 1, &[0; 56]))).is_ok());
    assert_eq!(reply(&mut responder, NOW, &arrival(&probe(Mode::Open, 1, &[0; 57]))), Err(DropReason::TooLong));
}

#[test]
fn a_short_out_buffer_gets_nothing() {
    let mut responder = Responder::new(Setup::default());
    for bytes in one_of_each() {
        let mut out = vec![0xa5; bytes.len() - 1];
        assert_eq!(responder.respond(NOW, &arrival(&bytes), T3, &mut out).unwrap().len, 0);
        assert!(out.iter().all(|&byte| byte == 0xa5));
    }
}

/// Packets meant to hurt: each gets a reply of its own length, or a counted drop. Never a panic.
#[test]
fn hostile_packets() {
    let header = |number: u8, len: u16| [0x80, number, (len >> 8) as u8, len as u8];
    let tails: Vec<(&str, Vec<u8>)> = vec![
        ("length past the end", header(1, 1).to_vec()),
        ("largest length", header(1, u16::MAX).to_vec()),
        ("largest length, some value", [&header(9, u16::MAX)[..], &[1; 100]].concat()),
        ("zero-length TLVs, many", header(0xf0, 0).repeat(350)),
        ("zero-length padding, many", header(1, 0).repeat(350)),
        ("zero-length reserved type, many", header(0, 0).repeat(350)),
        ("class of service, many", [0x80, 4, 0, 4, 0xff, 0xff, 0xff, 0xff].repeat(170)),
        ("class of service, wrong lengths", [header(4, 0), header(4, 3), [0; 4]].concat()),
        ("digests, many", [&header(8, 16)[..], &[0x55; 16]].concat().repeat(60)),
        ("digest without value", header(8, 0).to_vec()),
        ("digest cut short", [&header(8, 16)[..], &[0x55; 15]].concat()),
        ("class of service behind a digest", [&header(8, 16)[..], &[0; 16], &header(4, 4), &[0xff; 4]].concat()),
        ("all flags", [0xff; 400].to_vec()),
        ("TLV in TLV", [&header(2, 8)[..], &header(1, u16::MAX), &header(1, 0)].concat()),
    ];
    for (setup, mode) in [(Setup::default(), Mode::Open), (keyed(), Mode::Authenticated)] {
        let mut responder = Responder::new(Setup { sessions: 8, longest: 2000, ..setup });
        for (case, tail) in &tails {
            let whole = probe(mode, 7, tail);
            assert!(reply(&mut responder, NOW, &arrival(&whole)).is_ok(), "{case}");
            for len in 0..whole.len() {
                let answered = reply(&mut responder, NOW, &arrival(&whole[..len])).is_ok();
                assert_eq!(answered, len >= mode.base_len(), "{case}, first {len} octets");
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_answered_at_their_length_or_counted(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), with_key: bool,
    ) {
        let mut responder = Responder::new(if with_key { keyed() } else { Setup::default() });
        let _ = reply(&mut responder, NOW, &arrival(&bytes));
    }

    #[test]
    fn damaged_probes_are_answered_at_their_length_or_counted(
        which in 0usize..3, at: usize, with: u8, len: usize, with_key: bool,
    ) {
        let mut bytes = one_of_each()[which].clone();
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(len % (bytes.len() + 1));
        let mut responder = Responder::new(if with_key { keyed() } else { Setup::default() });
        let _ = reply(&mut responder, NOW, &arrival(&bytes));
    }

    #[test]
    fn random_tails_are_answered_at_their_length(
        tail in proptest::collection::vec(any::<u8>(), 0..300), with_key: bool,
    ) {
        let (setup, mode) = if with_key { (keyed(), Mode::Authenticated) } else { (Setup::default(), Mode::Open) };
        prop_assert!(reply(&mut Responder::new(setup), NOW, &arrival(&probe(mode, 1, &tail))).is_ok());
    }
}
