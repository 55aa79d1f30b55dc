//! The probing core (schedule, in-flight ring, tally) over the simulated network, in the smallest loop that
//! joins them: what is reported must be what the links did.

use llama::net::sim::{Host, Jitter, Link, Loss, SimClock, SimNetwork, StampQuality, Truth, Way};
use llama::net::{Event, IcmpMeaning, Network, Outbox, Outgoing, SocketId, SocketSpec, TransmitStamps, Wait};
use llama::probe::inflight::{Departure, InFlight};
use llama::probe::method::Reply;
use llama::probe::outcome::{Outcome, Record};
use llama::probe::schedule::{Schedule, Sweep};
use llama::probe::shape::Pacing;
use llama::probe::{IntervalId, Seq};
use llama::summary::Counts;
use llama::summary::tally::{Layout, PathTally, Tally};
use llama::time::{Clock, Delay, Monotonic, Wall};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: Monotonic = Monotonic(5 * S);
const WALL: Wall = Wall(1_700_000_000 * S);

fn target() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 8100))
}

fn network(host: Host) -> (SimClock, SimNetwork) {
    let clock = SimClock::new(START, WALL);
    let mut socket = SocketSpec::new(SocketAddr::from(([0, 0, 0, 0], 0)));
    socket.transmit_stamps = TransmitStamps::All;
    let network = SimNetwork::new(1, &clock, &[socket], host);
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
        traffic_class: None,
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

/// The core's loop in its smallest form: one path, `flows` flows over one socket.
fn probe(host: Host, way: Way, stateful: bool, seconds: u64) -> (PathTally, Truth) {
    let flows = 4;
    let interval = IntervalId(0);
    let (clock, mut network) = network(host);
    let mut count = 0u32;
    network.peer(target(), way, move |arrival| {
        let mut answer = arrival.bytes.to_vec();
        let own = if stateful { count.to_be_bytes() } else { [answer[0], answer[1], answer[2], answer[3]] };
        count += 1;
        answer.extend(own);
        answer.extend(arrival.at.0.to_be_bytes());
        answer.extend(arrival.leaves.0.to_be_bytes());
        Some(answer)
    });
    let read = |bytes: &[u8]| {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let wall = |at: usize| Some(Wall(u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))));
        Reply { seq: Seq(number(0)), reflector_seq: Some(number(4)), received: wall(8), sent: wall(16) }
    };
    // the peer's count is one session: one flow when it matters
    let flows = if stateful { 1 } else { flows };
    let sweep = Sweep { flows: 0..flows, cycles_per_second: 400.0 / f64::from(flows), pacing: Pacing::Periodic };
    let mut schedule = Schedule::new(&[sweep], clock.monotonic(), 3);
    let threshold = Duration::from_millis(500);
    let mut ring = InFlight::new(1024, flows as usize, threshold, Seq(u32::MAX - 100), 512);
    let layout = Arc::new(Layout {
        flow_paths: vec![0; flows as usize],
        flows: (0..flows).collect(),
        paths: vec![0],
        stamped: vec![true],
    });
    let mut tally = Tally::new(&layout, 0);
    tally.open(interval);
    let mut record = |r: Record| tally.record(&r);
    let end = Monotonic(START.0 + seconds * S);
    let offset = |clock: &SimClock| clock.wall().0.wrapping_sub(clock.monotonic().0);
    let (mut epoch, mut last_offset) = (0, offset(&clock));
    loop {
        let now = clock.monotonic();
        while let Some(due) = schedule.take_due(now.min(Monotonic(end.0 - 1))) {
            let Some(seq) = ring.next() else {
                record(Record { flow: due.flow, interval, outcome: Outcome::NotSent });
                continue;
            };
            let wall = clock.wall();
            ring.depart(
                Departure { flow: due.flow, interval, at: now, wall, stamped: true, clock_epoch: epoch },
                &mut record,
            );
            send(&mut network, seq.0, &seq.0.to_be_bytes());
        }
        let until = schedule.next_due().filter(|due| *due < end).unwrap_or(Monotonic(now.0 + 10 * MS));
        network.wait(Wait::Until(until)).expect("never fails");
        if offset(&clock) != last_offset {
            (epoch, last_offset) = (epoch + 1, offset(&clock));
        }
        network.drain(|_, event| match event {
            Event::Received(r) => {
                ring.reply(&read(r.payload), r.at, epoch, &mut record);
            }
            Event::Transmitted { key, at, .. } => {
                ring.transmitted(Seq(key), at, &mut record);
            }
            Event::SendFailed { key, .. } => {
                ring.fail(Seq(key), Outcome::SendFailed, &mut record);
            }
            Event::TooBigHere { .. } => unreachable!("there is no interface here"),
            Event::Quoted { .. } => unreachable!("there are no routers here"),
            Event::Icmp { quoted, .. } => {
                let seq = Seq(u32::from_be_bytes(quoted[..4].try_into().expect("four bytes")));
                ring.fail(seq, Outcome::Refused, &mut record);
            }
        });
        ring.expire(clock.monotonic(), &mut record);
        if clock.monotonic().0 > end.0 + 2 * S {
            break;
        }
    }
    assert!(ring.is_empty() && ring.awaiting_stamps() == 0);
    let (_, path) = tally.paths().next().expect("something was counted");
    let counts = path.counts;
    assert_eq!(counts.sent, counts.replied + counts.unanswered() + counts.send_failed);
    (*path, network.truth())
}

#[test]
fn a_sound_network_measures_its_delay() {
    let way = Way { residence_ns: MS, clock_offset_ns: 7 * S as i64, ..way(2, 3) };
    let host = Host { send_delay_ns: 40_000, ..Host::default() };
    let (path, truth) = probe(host, way, false, 10);
    assert_eq!(path.counts, Counts { sent: 4000, replied: 4000, ..Counts::default() });
    assert_eq!(truth.answered, 4000);
    // from the wire: neither the host's 40 µs nor the residence shows
    assert_eq!((path.rtt.samples, path.rtt.min, path.rtt.max), (4000, 5 * MS as i64, 5 * MS as i64));
    assert_eq!((path.residence.min, path.residence.max), (MS as i64, MS as i64));
    assert_eq!((path.owd_forward.min, path.owd_reverse.max), (7_002 * MS as i64, -6_997 * MS as i64));
    assert_eq!((path.ipdv.samples, path.ipdv.max), (3996, 0));
}

#[test]
fn loss_is_counted_as_the_links_drop() {
    let mut way = way(2, 3);
    way.forward.loss = Loss::Random(0.03);
    way.reverse.loss = Loss::Every(50);
    let (path, truth) = probe(Host::default(), way, false, 20);
    assert!(truth.dropped_forward > 100 && truth.dropped_reverse > 100);
    assert_eq!(path.counts.lost, truth.dropped_forward + truth.dropped_reverse);
    assert_eq!((path.counts.lost_forward, path.counts.lost_reverse), (0, 0));
}

#[test]
fn a_stateful_peer_tells_both_directions() {
    let mut way = way(2, 3);
    way.forward.loss = Loss::Every(7);
    way.reverse.loss = Loss::Every(50);
    way.reverse.outages = once(5 * S..7 * S);
    let (path, truth) = probe(Host::default(), way, true, 20);
    assert!(truth.dropped_forward > 1000 && truth.dropped_reverse > 700);
    assert_eq!(path.counts.lost_forward, truth.dropped_forward);
    assert_eq!(path.counts.lost_reverse, truth.dropped_reverse);
    assert_eq!(path.counts.lost, path.counts.lost_forward + path.counts.lost_reverse);
}

#[test]
fn duplicates_and_overtaking_are_not_loss() {
    let mut way = way(2, 3);
    way.forward.duplicate_every = Some(10);
    way.reverse.hold_every = Some((20, 100 * MS));
    let (path, truth) = probe(Host::default(), way, false, 20);
    assert_eq!((path.counts.lost, path.counts.duplicates), (0, truth.doubled));
    assert!(path.counts.reordered > 300, "{}", path.counts.reordered);
}

#[test]
fn late_replies_stay_lost() {
    let mut way = way(2, 3);
    way.reverse.hold_every = Some((100, 600 * MS));
    let (path, _) = probe(Host::default(), way, false, 20);
    assert_eq!((path.counts.lost, path.counts.late), (80, 80));
}

#[test]
fn withheld_late_and_double_stamps() {
    let stamps = StampQuality { delay_ns: 20 * MS, missing_every: Some(100), twice_every: Some(3) };
    let (path, truth) = probe(Host { stamps, ..Host::default() }, way(2, 3), false, 20);
    assert_eq!((path.counts.stamps_missing, truth.stamps_withheld), (80, 80));
    assert_eq!((path.rtt.samples, path.rtt.min, path.rtt.max), (7920, 5 * MS as i64, 5 * MS as i64));
}

#[test]
fn clock_steps_cost_round_trips_and_never_show_in_them() {
    let hour = 3600 * S as i64;
    let clock_steps = vec![(5 * S + 1, Delay(hour)), (9 * S + 1, Delay(-2 * hour))];
    let (path, _) = probe(Host { clock_steps, ..Host::default() }, way(20, 30), false, 20);
    // those in flight at the two steps: 50 ms at 400 probes/s, and the edges
    assert!((40..=50).contains(&path.counts.clock_stepped), "{}", path.counts.clock_stepped);
    assert_eq!((path.counts.lost, path.counts.replied), (0, 8000));
    assert_eq!((path.rtt.min, path.rtt.max), (50 * MS as i64, 50 * MS as i64));
}

#[test]
fn a_stalled_prober_does_not_blame_the_network() {
    let host = Host { stalls: once(5 * S..7 * S), ..Host::default() };
    let (path, _) = probe(host, way(2, 3), false, 20);
    assert_eq!((path.rtt.min, path.rtt.max), (5 * MS as i64, 5 * MS as i64));
    // 512 fit into flight at once of the 800 that were due; the answers had been there in time
    assert_eq!((path.counts.lost, path.counts.late), (0, 0));
    assert_eq!(path.counts.sent + path.counts.not_sent, 8000);
    assert!(path.counts.not_sent > 200, "{}", path.counts.not_sent);
}

#[test]
fn refused_and_not_sent_are_no_loss() {
    let refused = Way { icmp: Some(IcmpMeaning::Refused), ..way(1, 1) };
    let host = Host { send_fails_every: Some(4), ..Host::default() };
    let (path, _) = probe(host, refused, false, 10);
    assert_eq!(path.counts, Counts { sent: 4000, refused: 3000, send_failed: 1000, ..Counts::default() });
}

#[test]
fn one_seed_is_one_story() {
    let story = || {
        let mut way = way(2, 3);
        way.forward.loss = Loss::Random(0.1);
        way.forward.jitter = Jitter::Exponential(MS);
        way.reverse.jitter = Jitter::Uniform(5 * MS);
        probe(Host::default(), way, false, 5)
    };
    assert_eq!(story(), story());
    assert!(story().0.counts.reordered > 0);
}
