//! Tests of the in-flight ring: every outcome, the loss direction, conservation.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const THRESHOLD: Duration = Duration::from_millis(1000);
/// Wall clock at monotonic 0.
const WALL_0: u64 = 1_700_000_000_000_000_000;

/// A ring with a memory of what it recorded, driven in milliseconds.
struct Bench {
    ring: InFlight,
    records: Vec<Record>,
}

fn kernel(ns: u64) -> Timestamp {
    Timestamp { wall: Wall(WALL_0 + ns), source: StampSource::Kernel }
}

impl Bench {
    fn new(capacity: usize, flows: usize, first: u32) -> Bench {
        Bench { ring: InFlight::new(capacity, flows, THRESHOLD, Seq(first), capacity), records: Vec::new() }
    }

    /// What was recorded since the last call.
    fn take(&mut self) -> Vec<Outcome> {
        self.records.drain(..).map(|record| record.outcome).collect()
    }

    fn depart(&mut self, flow: u32, at_ms: u64, stamped: bool) -> Seq {
        let probe = Departure {
            flow: FlowId(flow),
            interval: IntervalId((at_ms / 10_000) as u32),
            at: Monotonic(at_ms * MS),
            wall: Wall(WALL_0 + at_ms * MS),
            stamped,
            clock_epoch: 0,
        };
        self.ring.depart(probe, &mut |record| self.records.push(record))
    }

    fn transmitted(&mut self, seq: Seq, at_ns: u64) -> bool {
        self.ring.transmitted(seq, kernel(at_ns), &mut |record| self.records.push(record))
    }

    fn reply_with(&mut self, reply: Reply, at_ns: u64, epoch: u8) -> bool {
        self.ring.reply(&reply, kernel(at_ns), epoch, &mut |record| self.records.push(record))
    }

    fn reply(&mut self, seq: Seq, at_ms: u64) -> bool {
        self.reply_with(bare(seq), at_ms * MS, 0)
    }

    fn counted(&mut self, seq: Seq, reflector_seq: u32, at_ms: u64) -> Vec<Outcome> {
        assert!(self.reply_with(Reply { reflector_seq: Some(reflector_seq), ..bare(seq) }, at_ms * MS, 0));
        self.take()
    }

    fn fail(&mut self, seq: Seq, outcome: Outcome) -> bool {
        self.ring.fail(seq, outcome, &mut |record| self.records.push(record))
    }

    fn expire(&mut self, at_ms: u64) -> Vec<Outcome> {
        self.ring.expire(Monotonic(at_ms * MS), &mut |record| self.records.push(record));
        self.take()
    }
}

fn bare(seq: Seq) -> Reply {
    Reply { seq, reflector_seq: None, received: None, sent: None }
}

fn measured(outcomes: &[Outcome]) -> Option<Singleton> {
    outcomes.iter().find_map(|outcome| if let Outcome::Measured(singleton) = outcome { Some(*singleton) } else { None })
}

const REPLIED: Outcome = Outcome::Replied { reordered: false };
const FORWARD_LOSS: Outcome = Outcome::LossDirected(Direction::Forward);
const REVERSE_LOSS: Outcome = Outcome::LossDirected(Direction::Reverse);

#[test]
fn a_slot_is_one_cache_line() {
    assert_eq!(size_of::<Slot>(), 64);
    assert_eq!(size_of::<FlowState>(), 32);
    assert_eq!(InFlight::memory(1000, 10), 1024 * 64 + 320);
}

#[test]
fn an_unstamped_probe_is_measured_from_its_own_clock() {
    let mut bench = Bench::new(8, 1, 7);
    assert_eq!(bench.ring.next(), Some(Seq(7)));
    let seq = bench.depart(0, 0, false);
    assert_eq!((bench.ring.len(), bench.ring.flow_of(seq)), (1, Some(FlowId(0))));
    assert!(bench.reply(seq, 5));
    let outcomes = bench.take();
    assert_eq!(outcomes[..2], [Outcome::Sent, REPLIED]);
    let singleton = measured(&outcomes).expect("measured");
    assert_eq!((singleton.rtt, singleton.ipdv), (Delay(5 * MS as i64), None));
    assert_eq!((singleton.sent_by, singleton.received_by), (StampSource::User, StampSource::Kernel));
    assert!(bench.ring.is_empty());
}

#[test]
fn the_stamp_may_come_before_or_after_the_reply() {
    let mut bench = Bench::new(8, 1, 0);
    let early = bench.depart(0, 0, true);
    assert!(bench.transmitted(early, MS));
    assert!(!bench.transmitted(early, 2 * MS), "the first stamp is the true one");
    bench.reply(early, 5);
    let singleton = measured(&bench.take()).expect("measured with the reply");
    assert_eq!((singleton.rtt, singleton.sent_by), (Delay(4 * MS as i64), StampSource::Kernel));

    let late = bench.depart(0, 10, true);
    bench.reply(late, 15);
    assert_eq!(bench.take(), [Outcome::Sent, REPLIED]);
    assert_eq!((bench.ring.len(), bench.ring.awaiting_stamps()), (0, 1));
    assert!(bench.transmitted(late, 12 * MS));
    let singleton = measured(&bench.take()).expect("measured with the stamp");
    assert_eq!((singleton.rtt, singleton.ipdv), (Delay(3 * MS as i64), Some(Delay(-(MS as i64)))));
    assert_eq!(bench.ring.awaiting_stamps(), 0);
    assert!(!bench.transmitted(Seq(99), 0), "unknown");
}

#[test]
fn a_stamp_that_never_comes_is_missing_and_never_mixed_in() {
    let mut bench = Bench::new(8, 1, 0);
    let seq = bench.depart(0, 0, true);
    bench.reply(seq, 5);
    bench.take();
    assert_eq!(bench.expire(999), []);
    assert_eq!(bench.expire(1000), [Outcome::StampMissing]);
    assert!(!bench.transmitted(seq, MS), "given up");
    assert_eq!(bench.take(), []);
}

#[test]
fn residence_is_removed_when_it_can_be_true() {
    let mut bench = Bench::new(16, 1, 0);
    let mut measure = |t2_ms: u64, t3_ms: u64| {
        let seq = bench.depart(0, 100, false);
        let (received, sent) = (Some(Wall(WALL_0 + t2_ms * MS)), Some(Wall(WALL_0 + t3_ms * MS)));
        bench.reply_with(Reply { received, sent, ..bare(seq) }, 110 * MS, 0);
        let singleton = measured(&bench.take()).expect("measured");
        (singleton, bench.ring.totals().implausible_residence)
    };
    let ms = |n: i64| Delay(n * MS as i64);
    let (s, implausible) = measure(103, 107);
    assert_eq!((s.rtt, s.residence, s.owd_forward, s.owd_reverse), (ms(6), ms(4), Some(ms(3)), Some(ms(3))));
    assert_eq!(implausible, 0);
    // a reflector whose clock is an hour behind: residence is fine, one-way delays are signed
    let (s, _) = measure(0, 4);
    assert_eq!((s.rtt, s.residence, s.owd_forward, s.owd_reverse), (ms(6), ms(4), Some(ms(-100)), Some(ms(106))));
    // all of the time spent there: not negative, not refused
    assert_eq!(measure(100, 110).0.rtt, ms(0));
    // backwards, or longer than the probe was away
    for (t2, t3) in [(107, 103), (100, 111)] {
        let (s, _) = measure(t2, t3);
        assert_eq!((s.rtt, s.residence, s.owd_forward, s.owd_reverse), (ms(10), ms(0), None, None));
    }
    assert_eq!(bench.ring.totals().implausible_residence, 2);
}

#[test]
fn a_clock_step_in_flight_discards_the_round_trip() {
    let mut bench = Bench::new(8, 1, 0);
    let seq = bench.depart(0, 0, true);
    assert!(bench.reply_with(bare(seq), 3_600_000 * MS, 1));
    assert_eq!(bench.take(), [Outcome::Sent, REPLIED, Outcome::ClockStepped]);
    assert!(!bench.transmitted(seq, MS));
    assert_eq!(bench.expire(1000), [], "nothing is missing");
    // back by less than anyone noticed: T4 before T1
    let seq = bench.depart(0, 2000, false);
    bench.reply(seq, 1999);
    assert_eq!(bench.take(), [Outcome::Sent, REPLIED, Outcome::ClockStepped]);
}

#[test]
fn lost_then_late_then_duplicate() {
    let mut bench = Bench::new(8, 1, 0);
    let seq = bench.depart(0, 0, false);
    assert_eq!(bench.ring.next_expiry(), Some(Monotonic(1000 * MS)));
    assert_eq!(bench.expire(999), [Outcome::Sent]);
    assert_eq!(bench.expire(1000), [Outcome::Lost]);
    assert_eq!(bench.expire(5000), []);
    assert!(bench.reply(seq, 1500) && bench.reply(seq, 1600));
    assert_eq!(bench.take(), [Outcome::Late, Outcome::Duplicate]);
}

#[test]
fn late_is_what_came_late_not_what_was_read_late() {
    let mut bench = Bench::new(8, 1, 0);
    let (a, b) = (bench.depart(0, 0, false), bench.depart(0, 1, false));
    bench.take();
    // both are read before expire, one of them came in time
    bench.reply(a, 1000);
    assert_eq!(bench.take(), [Outcome::Lost, Outcome::Late]);
    bench.reply(b, 1000);
    assert_eq!(bench.take()[0], Outcome::Replied { reordered: false });
    assert_eq!(bench.expire(3000), []);
}

#[test]
fn duplicates_are_told_until_the_slot_is_taken_again() {
    let mut bench = Bench::new(4, 1, u32::MAX);
    let seq = bench.depart(0, 0, false);
    assert_eq!(seq, Seq(u32::MAX), "and the series wraps");
    bench.reply(seq, 1);
    bench.take();
    bench.reply(seq, 2);
    assert_eq!(bench.take(), [Outcome::Duplicate]);
    for i in 0..4 {
        let next = bench.depart(0, 3 + i, false);
        assert_eq!(next.0, i as u32);
        bench.reply(next, 4 + i);
    }
    assert!(!bench.reply(seq, 9), "forgotten");
    assert_eq!(bench.ring.flow_of(seq), None);
}

#[test]
fn reordering_is_per_flow() {
    let mut bench = Bench::new(8, 2, 0);
    let (a1, b1, a2) = (bench.depart(0, 0, false), bench.depart(1, 0, false), bench.depart(0, 1, false));
    bench.take();
    bench.reply(a2, 5);
    bench.reply(b1, 6);
    bench.reply(a1, 7);
    let replied: Vec<_> = bench.take().into_iter().filter(|o| matches!(o, Outcome::Replied { .. })).collect();
    assert_eq!(replied, [REPLIED, REPLIED, Outcome::Replied { reordered: true }]);
}

#[test]
fn failures_end_a_probe_once() {
    for outcome in [Outcome::SendFailed, Outcome::Refused, Outcome::Unreachable] {
        let mut bench = Bench::new(8, 1, 0);
        let seq = bench.depart(0, 0, true);
        assert_eq!(bench.ring.newest_of(FlowId(0)), Some(seq));
        assert!(bench.fail(seq, outcome));
        assert!(!bench.fail(seq, outcome));
        assert_eq!(bench.take(), [Outcome::Sent, outcome]);
        assert_eq!((bench.ring.len(), bench.ring.newest_of(FlowId(0))), (0, None));
        bench.reply(seq, 5);
        assert_eq!(bench.take(), [Outcome::Late]);
        assert_eq!(bench.expire(2000), []);
        assert!(!bench.fail(Seq(77), outcome), "unknown");
    }
}

#[test]
fn a_class_is_told_once_whatever_else_becomes_of_the_probe() {
    let mut bench = Bench::new(8, 1, 100);
    assert!(!bench.ring.class_told(Seq(100)), "nothing departed");
    let told_first = bench.depart(0, 0, true);
    assert!(bench.ring.class_told(told_first));
    bench.transmitted(told_first, 1);
    bench.reply(told_first, 5);
    assert!(!bench.ring.class_told(told_first));
    let single = measured(&bench.take()).unwrap();
    assert_eq!((single.sent_by, single.received_by), (StampSource::Kernel, StampSource::Kernel));

    let told_after = bench.depart(0, 10, false);
    bench.fail(told_after, Outcome::Prohibited);
    assert!(bench.ring.class_told(told_after) && !bench.ring.class_told(told_after));
    assert!(!bench.ring.class_told(Seq(told_after.0 + 8)), "not of a probe that would have its slot");
}

#[test]
fn the_limit_and_a_full_ring_stop_the_sender() {
    let mut ring = InFlight::new(8, 1, THRESHOLD, Seq(0), 3);
    let mut sink = |_: Record| {};
    let probe = Departure {
        flow: FlowId(0),
        interval: IntervalId(0),
        at: Monotonic(0),
        wall: Wall(WALL_0),
        stamped: false,
        clock_epoch: 0,
    };
    for _ in 0..3 {
        ring.depart(probe, &mut sink);
    }
    assert_eq!(ring.next(), None, "limit");
    ring.expire(Monotonic(1000 * MS), &mut sink);
    assert_eq!(ring.next(), Some(Seq(3)));

    // seven of eight are replied; the ring comes round to the one that is not
    let mut bench = Bench::new(8, 1, 0);
    let seqs: Vec<Seq> = (0..8).map(|i| bench.depart(0, i, false)).collect();
    for &seq in &seqs[1..] {
        bench.reply(seq, 8);
    }
    assert_eq!((bench.ring.len(), bench.ring.next()), (1, None));
    bench.reply(seqs[0], 9);
    assert_eq!(bench.ring.next(), Some(Seq(8)));
}

#[test]
fn a_slot_that_waits_for_its_stamp_gives_way() {
    let mut bench = Bench::new(2, 1, 0);
    let first = bench.depart(0, 0, true);
    bench.depart(0, 1, true);
    bench.reply(first, 2);
    bench.take();
    bench.depart(0, 3, true);
    assert_eq!(bench.take(), [Outcome::StampMissing, Outcome::Sent]);
    assert_eq!(bench.ring.awaiting_stamps(), 0);
}

#[test]
fn a_larger_ring_takes_over_all_that_is_known() {
    // the series wraps between the probes, and the smaller ring has come round once
    let mut bench = Bench::new(8, 2, u32::MAX - 9);
    for at in 0..4 {
        let seq = bench.depart(0, at, false);
        bench.reply(seq, at + 1);
    }
    let measured_before = bench.depart(0, 100, false);
    bench.reply(measured_before, 105);
    let lost = bench.depart(1, 110, false);
    assert_eq!(bench.expire(1_500).last(), Some(&Outcome::Lost));
    let awaiting = bench.depart(1, 2_000, true);
    bench.reply(awaiting, 2_001);
    let waiting: Vec<Seq> = (0..3).map(|at| bench.depart(0, 2_010 + at, false)).collect();
    let before = (bench.ring.totals(), bench.ring.len(), bench.ring.next_expiry());
    bench.take();

    let mut larger = InFlight::new(32, 5, THRESHOLD, Seq(77), 2);
    larger.succeed(&bench.ring);
    bench.ring = larger;
    assert_eq!((bench.ring.totals(), bench.ring.len(), bench.ring.next_expiry()), before);
    assert_eq!(bench.ring.room(), (32, 5));
    // the series goes on, with as many in flight as the smaller ring allowed; more only when told
    let more: Vec<Seq> = (0..5).map(|at| bench.depart(4, 2_020 + at, false)).collect();
    assert_eq!(more[0].0, waiting[2].0.wrapping_add(1));
    assert_eq!(bench.ring.next(), None);
    bench.ring.allow(9);
    assert!(bench.ring.next().is_some());
    bench.take();

    bench.reply(waiting[0], 2_020);
    let ipdv = measured(&bench.take()).expect("measured").ipdv;
    assert_eq!(ipdv, Some(Delay(5 * MS as i64)), "compared with the round trip before: 10 ms and 5 ms");
    bench.reply(waiting[2], 2_030);
    bench.reply(waiting[1], 2_031);
    assert!(bench.take().contains(&Outcome::Replied { reordered: true }));
    assert!(bench.transmitted(awaiting, 2_000 * MS + 500));
    assert!(measured(&bench.take()).is_some());
    bench.reply(lost, 2_040);
    assert_eq!(bench.take(), [Outcome::Late]);
    bench.reply(measured_before, 2_041);
    assert_eq!(bench.take(), [Outcome::Duplicate]);
    assert_eq!(bench.expire(9_000), vec![Outcome::Lost; 5]);
    assert!(bench.ring.is_empty());

    // a number given to another flow compares with nothing
    bench.ring.renumber(FlowId(0));
    let first = bench.depart(0, 10_000, false);
    bench.reply(first, 10_001);
    assert_eq!(measured(&bench.take()).expect("measured").ipdv, None);
}

#[test]
fn ipdv_compares_stamps_of_one_kind() {
    let mut bench = Bench::new(16, 1, 0);
    let mut ipdv = |stamped: bool, rtt_ms: u64| {
        let seq = bench.depart(0, 0, stamped);
        if stamped {
            bench.transmitted(seq, 0);
        }
        bench.reply(seq, rtt_ms);
        measured(&bench.take()).and_then(|s| s.ipdv).map(|d| d.0 / MS as i64)
    };
    let seen = [ipdv(true, 5), ipdv(false, 50), ipdv(false, 60), ipdv(true, 7), ipdv(true, 4)];
    assert_eq!(seen, [None, None, None, Some(2), Some(-3)]);
}

#[test]
fn a_stateful_reflector_tells_the_direction() {
    let mut bench = Bench::new(32, 1, 1_000_000);
    let seqs: Vec<Seq> = (0..10).map(|i| bench.depart(0, i, false)).collect();
    bench.take();
    bench.counted(seqs[0], 0, 20);
    // 1 and 2 never reached it
    assert_eq!(bench.counted(seqs[3], 1, 20)[0], REPLIED);
    // 4 and 5 did, their replies were lost
    assert_eq!(bench.counted(seqs[6], 4, 20)[0], REPLIED);
    // one of 7 and 8: the earlier is taken to be the forward one
    assert_eq!(bench.counted(seqs[9], 6, 20)[0], REPLIED);
    let expected = [FORWARD_LOSS, FORWARD_LOSS, REVERSE_LOSS, REVERSE_LOSS, FORWARD_LOSS, REVERSE_LOSS];
    let expected: Vec<Outcome> = expected.into_iter().flat_map(|direction| [Outcome::Lost, direction]).collect();
    assert_eq!(bench.expire(2000), expected);
}

#[test]
fn the_direction_of_a_probe_already_lost_is_told_once() {
    let mut bench = Bench::new(32, 1, 1_000_000);
    let (a, b) = (bench.depart(0, 0, false), bench.depart(0, 1, false));
    bench.counted(a, 0, 2);
    assert_eq!(bench.expire(1500), [Outcome::Lost]);
    let c = bench.depart(0, 2000, false);
    let outcomes = bench.counted(c, 2, 2001);
    assert_eq!(outcomes.last(), Some(&REVERSE_LOSS));
    bench.reply(b, 2002);
    let d = bench.depart(0, 2003, false);
    let more = [bench.take(), bench.counted(d, 3, 2004)].concat();
    assert!(more.iter().all(|outcome| !matches!(outcome, Outcome::LossDirected(_))), "{more:?}");
}

#[test]
fn losses_before_the_first_reply_have_a_direction_in_a_fresh_session() {
    let mut bench = Bench::new(32, 2, 1_000_000);
    let seqs: Vec<Seq> = (0..3).map(|i| bench.depart(0, i, false)).collect();
    bench.counted(seqs[2], 1, 5);
    assert_eq!(bench.expire(2000), [Outcome::Lost, FORWARD_LOSS, Outcome::Lost, REVERSE_LOSS]);
    // an old session counts on from where it was: nothing is known
    let seqs: Vec<Seq> = (0..3).map(|i| bench.depart(1, 2000 + i, false)).collect();
    bench.counted(seqs[2], 4711, 2005);
    assert_eq!(bench.expire(4000), [Outcome::Lost, Outcome::Lost]);
}

#[test]
fn a_stateless_reflector_tells_no_direction() {
    let mut bench = Bench::new(32, 1, 1_000_000);
    let seqs: Vec<Seq> = (0..6).map(|i| bench.depart(0, i, false)).collect();
    for &i in &[0, 2, 5] {
        bench.counted(seqs[i], seqs[i].0, 10);
    }
    assert_eq!(bench.expire(2000), [Outcome::Lost; 3]);
}

#[test]
fn a_restarted_reflector_is_taken_up_again() {
    let mut bench = Bench::new(32, 1, 1_000_000);
    let seqs: Vec<Seq> = (0..6).map(|i| bench.depart(0, i, false)).collect();
    bench.take();
    bench.counted(seqs[0], 500, 10);
    bench.counted(seqs[2], 0, 10); // restarted: 1 is unknown
    bench.counted(seqs[5], 1, 10); // 3 and 4 went forward
    assert_eq!(bench.expire(2000), [Outcome::Lost, Outcome::Lost, FORWARD_LOSS, Outcome::Lost, FORWARD_LOSS]);
}

#[test]
fn failed_and_doubled_probes_do_not_disturb_the_direction() {
    let mut bench = Bench::new(32, 1, 1_000_000);
    let seqs: Vec<Seq> = (0..7).map(|i| bench.depart(0, i, false)).collect();
    bench.counted(seqs[0], 0, 10);
    bench.counted(seqs[0], 1, 10); // doubled on its way: the reflector counted twice
    bench.fail(seqs[1], Outcome::SendFailed);
    bench.counted(seqs[3], 2, 10); // 2 went forward; 1 never left
    bench.fail(seqs[5], Outcome::Refused);
    bench.counted(seqs[6], 4, 10); // 4 was answered
    bench.take();
    assert_eq!(bench.expire(2000), [Outcome::Lost, FORWARD_LOSS, Outcome::Lost, REVERSE_LOSS]);
}

#[derive(Clone, Debug)]
enum Step {
    Depart { flow: u32, stamped: bool },
    Transmitted(usize),
    Reply { probe: usize, reflector: Option<u32>, epoch: u8, residence_ms: u64 },
    Stranger(u32),
    Fail(usize, u8),
    Pass { ms: u64, expire: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u32..3, any::<bool>()).prop_map(|(flow, stamped)| Step::Depart { flow, stamped }),
        3 => (0usize..40).prop_map(Step::Transmitted),
        6 => (0usize..40, prop::option::of(0u32..60), prop::bool::weighted(0.1), 0u64..20)
            .prop_map(|(probe, reflector, stepped, residence_ms)| Step::Reply {
                probe, reflector, epoch: u8::from(stepped), residence_ms,
            }),
        1 => any::<u32>().prop_map(Step::Stranger),
        1 => (0usize..40, 0u8..3).prop_map(|(probe, how)| Step::Fail(probe, how)),
        3 => (0u64..400, any::<bool>()).prop_map(|(ms, expire)| Step::Pass { ms, expire }),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever happens in whatever order: probes are conserved, each ends exactly once, and none is
    /// lost before its time.
    #[test]
    fn probes_are_conserved(steps in steps(), first: u32, log_capacity in 1u32..6) {
        let mut bench = Bench::new(1 << log_capacity, 3, first);
        let mut now = 0;
        // by number since the start: when sent, outcomes that end it, measured-or-not
        let mut probes: Vec<(u64, Vec<Outcome>, u32)> = Vec::new();
        let pick = |back: usize, len: usize| Seq(first.wrapping_add(len.saturating_sub(1 + back) as u32));
        for step in steps {
            let subject = match step {
                Step::Depart { flow, stamped } => {
                    if bench.ring.next().is_some() {
                        prop_assert_eq!(bench.ring.next(), Some(Seq(first.wrapping_add(probes.len() as u32))));
                        bench.depart(flow, now, stamped);
                        probes.push((now, Vec::new(), 0));
                    }
                    None
                }
                Step::Transmitted(back) => {
                    let seq = pick(back, probes.len());
                    bench.transmitted(seq, now * MS + 1);
                    Some(seq)
                }
                Step::Reply { probe, reflector, epoch, residence_ms } => {
                    let seq = pick(probe, probes.len());
                    let received = Some(Wall(WALL_0));
                    let sent = Some(Wall(WALL_0 + residence_ms * MS));
                    let reply = Reply { seq, reflector_seq: reflector, received, sent };
                    bench.reply_with(reply, now * MS + 2, epoch);
                    Some(seq)
                }
                Step::Stranger(seq) => {
                    bench.reply(Seq(seq), now);
                    Some(Seq(seq))
                }
                Step::Fail(back, how) => {
                    let outcome = [Outcome::SendFailed, Outcome::Refused, Outcome::Unreachable][how as usize];
                    let seq = pick(back, probes.len());
                    bench.fail(seq, outcome);
                    Some(seq)
                }
                Step::Pass { ms, expire } => {
                    now += ms;
                    if expire {
                        bench.ring.expire(Monotonic(now * MS), &mut |record| bench.records.push(record));
                    }
                    None
                }
            };
            for outcome in bench.take() {
                if let Outcome::Measured(singleton) = outcome {
                    prop_assert!(singleton.rtt.0 >= 0 && singleton.residence.0 >= 0);
                }
                // records of the ring carry no sequence number; what concerns one probe is checked by it
                let Some(seq) = subject else { continue };
                let number = seq.0.wrapping_sub(first) as usize;
                match outcome {
                    Outcome::Replied { .. } | Outcome::Lost | Outcome::SendFailed | Outcome::Refused
                    | Outcome::Unreachable => {
                        if outcome == Outcome::Lost {
                            prop_assert!(now - probes[number].0 >= 1000, "lost after {} ms", now - probes[number].0);
                        }
                        probes[number].1.push(outcome);
                    }
                    Outcome::Measured(_) | Outcome::StampMissing | Outcome::ClockStepped => probes[number].2 += 1,
                    _ => {}
                }
            }
            for (_, ends, settled) in &probes {
                prop_assert!(ends.len() <= 1 && *settled <= 1);
            }
            let totals = bench.ring.totals();
            prop_assert_eq!(totals.sent, probes.len() as u64);
            prop_assert_eq!(totals.sent, totals.ended() + bench.ring.len() as u64);
        }
        bench.expire(now + 1000);
        prop_assert!(bench.ring.is_empty() && bench.ring.awaiting_stamps() == 0);
        prop_assert_eq!(bench.ring.totals().ended(), probes.len() as u64);
        prop_assert_eq!(bench.ring.next_expiry(), None);
    }

    /// What is recorded adds up to what is counted, and every replied probe is settled exactly once.
    #[test]
    fn records_add_up(steps in steps()) {
        let mut bench = Bench::new(16, 3, 5);
        let mut now = 0;
        for step in steps {
            let last = |back: usize, sent: u64| Seq(5u32.wrapping_add((sent as u32).saturating_sub(1 + back as u32)));
            let sent = bench.ring.totals().sent;
            match step {
                Step::Depart { flow, stamped } => {
                    if bench.ring.next().is_some() {
                        bench.depart(flow, now, stamped);
                    }
                }
                Step::Transmitted(back) => { bench.transmitted(last(back, sent), now * MS); }
                Step::Reply { probe, reflector, epoch, .. } => {
                    let seq = last(probe, sent);
                    bench.reply_with(Reply { reflector_seq: reflector, ..bare(seq) }, now * MS, epoch);
                }
                Step::Stranger(seq) => { bench.reply(Seq(seq), now); }
                Step::Fail(back, _) => { bench.fail(last(back, sent), Outcome::Refused); }
                Step::Pass { ms, .. } => {
                    now += ms;
                    bench.ring.expire(Monotonic(now * MS), &mut |record| bench.records.push(record));
                }
            }
        }
        bench.ring.expire(Monotonic((now + 1000) * MS), &mut |record| bench.records.push(record));
        let outcomes = bench.take();
        let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count() as u64;
        let totals = bench.ring.totals();
        prop_assert_eq!(count(|o| *o == Outcome::Sent), totals.sent);
        let replied = count(|o| matches!(o, Outcome::Replied { .. }));
        prop_assert_eq!(replied, totals.replied);
        prop_assert_eq!(count(|o| *o == Outcome::Lost), totals.lost);
        prop_assert_eq!(count(|o| *o == Outcome::Refused), totals.refused);
        let settled =
            count(|o| matches!(o, Outcome::Measured(_) | Outcome::StampMissing | Outcome::ClockStepped));
        prop_assert_eq!(settled, replied);
        prop_assert!(count(|o| matches!(o, Outcome::LossDirected(_))) <= totals.lost);
        prop_assert!(count(|o| *o == Outcome::Late) <= totals.lost + totals.refused);
    }
}
