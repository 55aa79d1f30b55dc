//! Tests of the simulator alone; the probing core over it is tested in `tests/core_over_sim.rs`.

use super::*;
use std::time::Duration;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: Monotonic = Monotonic(5 * S);
const WALL: Wall = Wall(1_700_000_000 * S);

fn target() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 8100))
}

fn socket() -> SocketSpec {
    let mut spec = SocketSpec::new(SocketAddr::from(([0, 0, 0, 0], 0)));
    spec.transmit_stamps = TransmitStamps::All;
    spec.receive_traffic_class = true;
    spec
}

fn network(host: Host) -> (SimClock, SimNetwork) {
    let clock = SimClock::new(START, WALL);
    let network = SimNetwork::new(1, &clock, &[socket()], host);
    (clock, network)
}

fn link(delay_ms: u64) -> Link {
    Link { delay_ns: delay_ms * MS, ..Link::default() }
}

fn way(forward_ms: u64, reverse_ms: u64) -> Way {
    Way { forward: link(forward_ms), reverse: link(reverse_ms), ..Way::default() }
}

fn send(network: &mut SimNetwork, key: u32, payload: &[u8]) {
    let datagram = Outgoing {
        socket: SocketId(0),
        to: target(),
        key,
        stamp: true,
        traffic_class: Some(0xb8),
        from: None,
        flow_label: 0,
    };
    network.outbox().send(&datagram, |buffer| {
        buffer[..payload.len()].copy_from_slice(payload);
        payload.len()
    });
}

/// A list of one range.
fn once(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

/// What is drained, in words.
fn drained(network: &mut SimNetwork) -> Vec<String> {
    let mut seen = Vec::new();
    network.drain(|_, event| {
        seen.push(match event {
            Event::Received(r) => {
                let text = String::from_utf8_lossy(r.payload);
                format!("{text} from {} class {:x?} at {}", r.from, r.traffic_class, r.at.wall.minus(WALL).0 / 1000)
            }
            Event::Transmitted { key, at, .. } => format!("stamp {key} at {}", at.wall.minus(WALL).0 / 1000),
            Event::SendFailed { key, errno, .. } => format!("failed {key} {errno}"),
            Event::TooBigHere { mtu, .. } => format!("too big for {mtu}"),
            Event::Icmp { meaning, quoted, .. } => format!("{meaning:?} {}", String::from_utf8_lossy(quoted)),
            Event::Quoted { packet, .. } => format!("{packet:?}"),
        });
    });
    seen
}

#[test]
fn a_datagram_goes_and_comes_back() {
    let (clock, mut network) = network(Host { send_delay_ns: 2_000, ..Host::default() });
    let mut way = way(3, 4);
    way.residence_ns = MS;
    way.clock_offset_ns = -(S as i64);
    way.forward.rewrite_class = Some(0x20);
    network.peer(target(), way, |arrival| {
        assert_eq!(arrival.at, WALL.plus(Delay(3 * MS as i64 + 2_000 - S as i64)));
        assert_eq!(arrival.leaves, arrival.at.plus(Delay(MS as i64)));
        assert_eq!((arrival.from.port(), arrival.traffic_class), (40_000, 0x20));
        Some(arrival.bytes.to_ascii_uppercase())
    });
    send(&mut network, 7, b"hello");
    network.wait(Wait::EventOrUntil(START.after(Duration::from_secs(9)))).expect("never fails");
    assert_eq!(drained(&mut network), ["stamp 7 at 2"]);
    network.wait(Wait::EventOrUntil(START.after(Duration::from_secs(9)))).expect("never fails");
    assert_eq!(clock.monotonic().0, START.0 + 8 * MS + 2_000);
    assert_eq!(drained(&mut network), ["HELLO from 198.51.100.1:8100 class Some(20) at 8002"]);
    network.wait(Wait::EventOrUntil(START.after(Duration::from_secs(9)))).expect("never fails");
    assert_eq!(clock.monotonic(), START.after(Duration::from_secs(9)), "nothing more: the deadline");
    assert_eq!(clock.wall(), WALL.plus(Delay(9 * S as i64)));
}

#[test]
fn waiting_does_not_stand_still_nor_end_early() {
    let (clock, mut network) = network(Host { stalls: once(20 * MS..50 * MS), ..Host::default() });
    network.peer(target(), way(1, 1), |arrival| Some(arrival.bytes.to_vec()));
    network.wait(Wait::No).expect("never fails");
    assert_eq!(clock.monotonic().0, START.0 + SPIN_NS);
    send(&mut network, 0, b"x");
    let at = |ms| Monotonic(START.0 + ms * MS);
    network.wait(Wait::Until(at(10))).expect("never fails");
    assert_eq!(clock.monotonic(), at(10));
    assert_eq!(drained(&mut network).len(), 2, "the stamp and the answer");
    network.wait(Wait::Until(at(30))).expect("never fails");
    assert_eq!(clock.monotonic(), at(50), "the prober was not scheduled");
}

#[test]
fn errors_failures_and_strays_come() {
    let (_, mut network) = network(Host { send_fails_every: Some(2), ..Host::default() });
    network.peer(target(), Way { icmp: Some(IcmpMeaning::Refused), ..way(1, 1) }, |_| None);
    network.inject(5 * MS, SocketId(0), SocketAddr::from(([203, 0, 113, 1], 1)), b"stray");
    send(&mut network, 1, b"one");
    send(&mut network, 2, b"two");
    network.wait(Wait::Until(START.after(Duration::from_secs(1)))).expect("never fails");
    let seen = ["failed 2 105", "stamp 1 at 0", "Refused one", "stray from 203.0.113.1:1 class Some(0) at 5000"];
    assert_eq!(drained(&mut network), seen);
}

#[test]
fn a_full_receive_buffer_drops_and_counts() {
    let (_, mut network) = network(Host { receive_buffer: 3, ..Host::default() });
    network.peer(target(), way(1, 1), |arrival| Some(arrival.bytes.to_vec()));
    for key in 0..10 {
        send(&mut network, key, b"x");
    }
    network.wait(Wait::Until(START.after(Duration::from_secs(1)))).expect("never fails");
    assert_eq!(drained(&mut network).iter().filter(|event| event.starts_with('x')).count(), 3);
    assert_eq!(network.counters().local_drops, 7);
}
