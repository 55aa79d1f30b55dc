//! The shipper with a real spool, in simulated time, before a server that the test plays.

use super::batch::unpack;
use super::courier::{Answer, Courier, Parcel};
use super::delivery::{Policy, Reply};
use super::shipper::{Next, SAVE_AFTER, Shipper};
use crate::sink::queue::{Limits, Queue};
use crate::sink::spool::{Options, Spool};
use crate::sink::{SinkCounters, SinkSnapshot};
use crate::time::Wall;
use crossbeam_channel::{Receiver, Sender};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WALL: Wall = Wall(1_000_000_000_000_000_000);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const STORED: Reply = Reply::Stored;
const LATER: Reply = Reply::Later { retry_after: None };

/// A collector's sink, its disk and its server.
struct Play {
    directory: tempfile::TempDir,
    policy: Policy,
    begin: Instant,
    now: Duration,
    next_line: u64,
    queue: Arc<Queue>,
    shipper: Option<Shipper>,
    parcels: Receiver<Parcel>,
    answers: Sender<Answer>,
    /// The request under way, as its lines, and since when.
    under_way: Option<(Vec<u64>, Duration)>,
    /// Lines that the server has, in the order they came.
    stored: Vec<u64>,
    requests: usize,
    disk_full: bool,
    /// When the disk was last full.
    was_full: Option<Duration>,
}

impl Play {
    fn new(policy: Policy) -> Play {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Arc::new(Queue::new(Limits::default(), Arc::new(SinkCounters::new("test".into()))));
        let (_, parcels, answers) = Courier::by_hand();
        let mut play = Play {
            directory,
            policy,
            begin: Instant::now(),
            now: Duration::ZERO,
            next_line: 0,
            queue,
            shipper: None,
            parcels,
            answers,
            under_way: None,
            stored: Vec::new(),
            requests: 0,
            disk_full: false,
            was_full: None,
        };
        play.restart();
        play
    }

    /// The process is killed and started again. Gives the lines that were only in its memory.
    fn restart(&mut self) -> u64 {
        let lost = self.counters().queued;
        self.shipper = None; // the lock is given back
        self.queue = Arc::new(Queue::new(Limits::default(), Arc::new(SinkCounters::new("test".into()))));
        let (courier, parcels, answers) = Courier::by_hand();
        (self.parcels, self.answers, self.under_way) = (parcels, answers, None);
        let options = Options {
            directory: self.directory.path().join("spool"),
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(3600),
        };
        let mut spool = Spool::open(&options, WALL).expect("spool");
        spool.full = self.disk_full;
        self.shipper = Some(Shipper::with(courier, self.policy, Some(spool)));
        lost
    }

    fn counters(&self) -> SinkSnapshot {
        self.queue.counters().snapshot()
    }

    fn push(&mut self, lines: u64) {
        let numbers = self.next_line..self.next_line + lines;
        self.next_line += lines;
        let lines = numbers.map(|n| format!("m n={n}i {}\n", WALL.0 + n).into_bytes().into_boxed_slice()).collect();
        self.queue.push_at(lines, self.begin + self.now);
    }

    fn set_disk(&mut self, full: bool) {
        self.disk_full = full;
        if let Some(spool) = self.shipper.as_mut().and_then(Shipper::spool) {
            spool.full = full;
        }
    }

    /// One turn, and what holds after each.
    fn turn(&mut self) -> Next {
        let now = self.begin + self.now;
        let next = self.shipper.as_mut().expect("shipper").turn(&self.queue, now, WALL);
        if let Ok(parcel) = self.parcels.try_recv() {
            let text = String::from_utf8(unpack(&parcel.body).expect("gzip")).expect("text");
            let number = |line: &str| line.split_once("n=")?.1.split_once("i ")?.0.parse().ok();
            let lines: Vec<u64> = text.lines().map(|line| number(line).expect(line)).collect();
            assert!(self.under_way.replace((lines, self.now)).is_none(), "one request at a time");
            self.requests += 1;
        }
        let c = self.counters();
        assert_eq!(
            c.accepted + c.spool_found,
            c.delivered + c.refused + c.dropped + c.queued + c.spool_summaries + c.spool_damaged,
            "{c:?}"
        );
        if self.disk_full {
            self.was_full = Some(self.now);
        }
        // a second after a full disk it is tried again
        if self.was_full.is_none_or(|full| self.now > full + ms(1000))
            && let Some((_, came)) = self.queue.oldest()
        {
            assert!(now - came < SAVE_AFTER, "neither stored nor on the disk after a second: {c:?}");
        }
        next
    }

    /// Lets time pass, with the turns that the shipper asked for.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for turn in 0.. {
            assert!(turn < 10_000, "no end of turns");
            let Next::Sleep(until) = self.turn() else { return };
            match until.map(|until| until - self.begin).filter(|until| *until <= end) {
                Some(until) => self.now = until,
                None => break,
            }
        }
        self.now = end;
        self.turn();
    }

    /// The server answers the request under way.
    fn answer(&mut self, reply: Reply) {
        if let Some((lines, _)) = self.under_way.take() {
            if reply == STORED {
                self.stored.extend(lines);
            }
            self.answers.send(Answer { reply, message: "said".into() }).expect("shipper");
            self.turn();
        }
    }

    /// A healthy server that refuses every `bad`-th line, and takes `time` for each request, until nothing waits.
    fn finish(&mut self, bad: u64, time: Duration) {
        for _ in 0..10_000 {
            self.pass(time);
            let Some((lines, _)) = &self.under_way else {
                let c = self.counters();
                if c.queued + c.spool_summaries == 0 {
                    return;
                }
                continue;
            };
            let refused = lines.iter().any(|line| line % bad == bad - 1);
            self.answer(if refused { Reply::Refused { lines: None } } else { STORED });
        }
        panic!("never finished: {:?}", self.counters());
    }

    fn refused_file(&self) -> BTreeSet<u64> {
        let text = std::fs::read_to_string(self.directory.path().join("spool/refused.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(object["message"], "said");
                let line = object["line"].as_str().expect("line").to_string();
                line["m n=".len()..].split_once('i').expect("number").0.parse().expect("number")
            })
            .collect()
    }
}

fn policy() -> Policy {
    Policy { batch_lines: 10, backoff: ms(200), backoff_max: ms(400), denied: ms(600), ..Policy::default() }
}

#[test]
fn a_server_that_is_well_costs_no_disk() {
    let mut play = Play::new(policy());
    for _ in 0..20 {
        play.push(15);
        play.pass(ms(100));
        play.answer(STORED);
        play.pass(ms(100));
        play.answer(STORED);
    }
    let c = play.counters();
    assert_eq!((c.delivered, c.spooled, c.attempts, c.failed_attempts), (300, 0, 40, 0), "{c:?}");
    assert_eq!(play.stored, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_request_that_hangs_is_saved_and_settled_when_it_succeeds_late() {
    let mut play = Play::new(policy());
    play.push(25);
    play.pass(ms(999));
    assert_eq!((play.counters().queued, play.counters().spooled), (25, 0));
    play.pass(ms(1));
    let c = play.counters();
    assert_eq!((c.queued, c.spooled, c.spool_summaries, c.spool_segments), (0, 25, 25, 1), "{c:?}");
    assert_eq!(c.spool_oldest, WALL.0);
    play.pass(ms(20_000));
    play.answer(STORED);
    let c = play.counters();
    assert_eq!((c.delivered, c.spool_delivered, c.spool_summaries), (10, 10, 15), "{c:?}");
    assert_eq!(play.under_way.as_ref().expect("the next").0, (10..20).collect::<Vec<_>>());
    play.finish(u64::MAX, ms(10));
    assert_eq!(
        play.stored,
        (0..25).skip(1).fold(vec![0], |mut all, n| {
            all.push(n);
            all
        })
    );
    assert_eq!((play.counters().spool_bytes, play.counters().spool_oldest), (0, 0));
}

#[test]
fn while_the_server_is_away_fresh_lines_go_to_the_disk_at_once() {
    for reply in [LATER, Reply::Denied] {
        let mut play = Play::new(policy());
        play.push(5);
        play.pass(ms(10));
        play.answer(reply);
        let c = play.counters();
        assert_eq!((c.queued, c.spool_summaries), (0, 5), "{c:?}");
        play.push(5);
        play.turn();
        let c = play.counters();
        assert_eq!((c.queued, c.spool_summaries), (0, 10), "{c:?}");
        // the probe is the oldest batch
        play.pass(ms(600));
        assert_eq!(play.under_way.as_ref().expect("a probe").0, [0, 1, 2, 3, 4]);
        play.finish(u64::MAX, ms(10));
        assert_eq!(play.stored, (0..10).collect::<Vec<_>>());
        assert_eq!(play.counters().retried, 1);
    }
}

#[test]
fn fresh_lines_wait_for_one_request_of_the_backlog_however_slow_the_server() {
    for request in [300, 1500] {
        let mut play = Play::new(policy());
        play.push(10);
        play.pass(ms(1));
        play.answer(LATER);
        for _ in 0..60 {
            play.push(10);
            play.turn();
        }
        assert_eq!(play.counters().spool_summaries, 610);
        let backlog = play.next_line;
        // back again, but `request` ms for each
        play.pass(ms(400));
        play.answer(STORED);
        let (mut before, mut rounds) = (0, 0);
        while play.stored.len() < 610 {
            rounds += 1;
            assert!(rounds < 500, "the backlog starves");
            let fresh = play.next_line;
            play.push(5);
            let stored = play.stored.len();
            while !play.stored.contains(&fresh) {
                play.pass(ms(request));
                play.answer(STORED);
            }
            let old = play.stored[stored..].iter().filter(|line| **line < backlog).count();
            // the request that was under way, and one more when that had been of fresh lines
            assert!(old <= 20, "{old} lines of the backlog before fresh ones");
            before = before.max(old);
            play.pass(ms(request));
            play.answer(STORED);
        }
        assert!(before > 0);
        let old: Vec<_> = play.stored.iter().copied().filter(|line| *line < backlog).collect();
        assert!(old.is_sorted(), "the backlog goes in order");
    }
}

#[test]
fn a_full_disk_leaves_lines_in_memory_and_is_tried_again() {
    let mut play = Play::new(policy());
    play.set_disk(true);
    play.push(12);
    play.pass(ms(5));
    play.answer(LATER);
    play.pass(ms(4000));
    let c = play.counters();
    assert_eq!((c.queued, c.spool_summaries), (12, 0));
    assert!(c.spool_errors >= 4 && c.last_error.expect("error").contains("free some space"));
    play.set_disk(false);
    play.pass(ms(1000));
    let c = play.counters();
    assert_eq!((c.queued, c.spool_summaries), (0, 12), "{c:?}");
    play.finish(u64::MAX, ms(10));
    // a full disk does not keep lines from a server that is well
    play.set_disk(true);
    play.push(3);
    play.finish(u64::MAX, ms(2000));
    assert_eq!(play.stored, (0..15).collect::<Vec<_>>());
}

#[test]
fn refused_lines_of_a_record_are_set_aside_and_cost_no_others() {
    let mut play = Play::new(policy());
    play.push(95);
    play.pass(ms(10));
    play.answer(LATER);
    play.finish(7, ms(1));
    let c = play.counters();
    let bad: BTreeSet<u64> = (0..95).filter(|n| n % 7 == 6).collect();
    assert_eq!((c.refused, c.spool_refused, c.delivered), (13, 13, 82), "{c:?}");
    assert_eq!(play.refused_file(), bad);
    assert_eq!(play.stored, (0..95).filter(|n| n % 7 != 6).collect::<Vec<_>>());
    // too large at once: smaller ones
    play.push(20);
    play.pass(ms(10));
    play.answer(LATER);
    play.pass(ms(400));
    play.answer(Reply::TooLarge);
    assert_eq!(play.under_way.as_ref().expect("smaller").0.len(), 5);
    play.finish(u64::MAX, ms(1));
    assert_eq!(play.counters().delivered, 102);
}

#[test]
fn closing_saves_what_the_server_does_not_take_in_time() {
    // it hangs
    let mut play = Play::new(policy());
    play.push(12);
    play.turn();
    play.queue.close(play.begin + ms(5000));
    play.pass(ms(5000));
    assert!(play.now <= ms(1000), "{:?}", play.now);
    assert_eq!((play.counters().queued, play.counters().spool_summaries), (0, 12));
    // it is slow: a second is kept for the disk
    let mut play = Play::new(policy());
    play.push(30);
    play.turn();
    play.queue.close(play.begin + ms(1500));
    play.pass(ms(400));
    play.answer(STORED);
    play.pass(ms(100));
    assert_eq!((play.counters().queued, play.counters().spool_summaries, play.stored.len()), (0, 20, 10));
    // it is away: one attempt more, then the end
    let mut play = Play::new(Policy { backoff: ms(60_000), backoff_max: ms(60_000), ..policy() });
    play.push(12);
    play.turn();
    play.answer(LATER);
    play.queue.close(play.begin + ms(5000));
    assert!(matches!(play.turn(), Next::Sleep(_)));
    assert_eq!(play.requests, 2);
    play.answer(LATER);
    assert_eq!(play.turn(), Next::End);
    // it is well: the backlog goes, too
    play.restart();
    play.queue.close(play.begin + ms(5000));
    play.finish(u64::MAX, ms(10));
    assert_eq!((play.turn(), play.stored.len()), (Next::End, 12));
    // no time at all
    play.restart();
    play.push(7);
    play.queue.close(play.begin + play.now);
    assert_eq!((play.turn(), play.counters().spool_summaries), (Next::End, 7));
}

#[derive(Clone, Debug)]
enum Happening {
    Push(u64),
    Pass(u64),
    Answer(Reply),
    /// As a server that refuses every 11th line would.
    AnswerWell,
    Disk(bool),
    Kill,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1u64..40).prop_map(Happening::Push),
        6 => prop_oneof![1u64..300, 300u64..4000].prop_map(Happening::Pass),
        5 => Just(Happening::AnswerWell),
        3 => prop_oneof![
            Just(LATER),
            Just(Reply::Denied),
            Just(Reply::TooLarge),
            Just(Reply::Later { retry_after: Some(ms(3000)) }),
        ].prop_map(Happening::Answer),
        1 => any::<bool>().prop_map(Happening::Disk),
        1 => Just(Happening::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// [`Play::turn`] checks after every turn that all lines are accounted for, and none is at risk for long.
    #[test]
    fn no_line_is_lost_whatever_happens(happenings in proptest::collection::vec(happening(), 1..60)) {
        let mut play = Play::new(policy());
        let mut at_risk = 0;
        for happening in happenings {
            match happening {
                Happening::Push(lines) => play.push(lines),
                Happening::Pass(time) => play.pass(ms(time)),
                Happening::Answer(reply) => play.answer(reply),
                Happening::AnswerWell => {
                    let bad = play.under_way.as_ref().is_some_and(|(lines, _)| lines.iter().any(|n| n % 11 == 10));
                    play.answer(if bad { Reply::Refused { lines: None } } else { STORED });
                }
                Happening::Disk(full) => play.set_disk(full),
                Happening::Kill => at_risk += play.restart(),
            }
            play.turn();
        }
        play.set_disk(false);
        play.finish(11, ms(20));
        let mut arrived: BTreeSet<u64> = play.stored.iter().copied().collect();
        arrived.extend(play.refused_file());
        let lost = (0..play.next_line).filter(|line| !arrived.contains(line)).count() as u64;
        prop_assert!(lost <= at_risk, "{lost} lost, {at_risk} were in memory of a killed process");
        // one too large by itself is given up; that happens to good lines only when the test answers so
        prop_assert!(play.stored.iter().all(|line| *line < play.next_line));
    }
}
