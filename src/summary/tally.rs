//! What one worker counted in one interval.
//!
//! Responsible for adding up [`Record`]s: exact counts and sums per path, a histogram of round-trip times
//! per path, small counters per flow. Not responsible for what belongs to which interval (the worker
//! routes records) nor for merging workers (see [`super::interval`]). Read [`Tally`] first.

use super::histogram::Pages;
use super::{Counts, Seen};
use crate::probe::IntervalId;
use crate::probe::class::ClassChange;
use crate::probe::method::AnswerKind;
use crate::probe::outcome::{Direction, Outcome, Record, Singleton};
use crate::time::StampSource;
use hdrhistogram::Histogram;
use std::net::IpAddr;
use std::sync::Arc;

/// Which paths and flows a worker's tallies cover: shared by all its tallies.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Per flow of the worker: its path, as position in `paths`; [`Layout::NONE`] for a number without a flow.
    pub flow_paths: Vec<u32>,
    /// Per flow of the worker: its index in the plan; [`Layout::NONE`] for a number without a flow.
    pub flows: Vec<u32>,
    /// Per path of the worker: its index in the plan.
    pub paths: Vec<u32>,
    /// Per path of the worker: whether transmit stamps are asked for, of all or some of its probes. Then round
    /// trips whose T1 was taken in user space stay out of its delays. False when stamps are off or unavailable.
    pub stamped: Vec<bool>,
}

impl Layout {
    /// Stands for no path and no flow.
    pub const NONE: u32 = u32::MAX;
}

/// A sample of delays without its values, in ns: exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Size of the sample.
    pub samples: u64,
    /// Sum; of one-way delays between unsynchronised clocks more than an `i64` holds.
    pub sum: i128,
    /// Smallest; `i64::MAX` without a sample.
    pub min: i64,
    /// Largest; `i64::MIN` without a sample.
    pub max: i64,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments { samples: 0, sum: 0, min: i64::MAX, max: i64::MIN }
    }
}

impl Moments {
    /// Adds a value.
    #[inline]
    pub fn record(&mut self, value: i64) {
        self.samples += 1;
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds a sample.
    pub fn add(&mut self, other: &Moments) {
        self.samples += other.samples;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Mean and extremes; `None` without a sample.
    pub fn extremes(&self) -> Option<super::Extremes> {
        (self.samples > 0).then(|| super::Extremes {
            samples: self.samples,
            mean: self.sum as f64 / self.samples as f64,
            min: self.min,
            max: self.max,
        })
    }
}

/// What is counted of one path, but for its histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PathTally {
    /// Outcomes.
    pub counts: Counts,
    /// Round-trip times.
    pub rtt: Moments,
    /// Absolute differences of successive round-trip times of a flow.
    pub ipdv: Moments,
    /// One-way delays to the reflector.
    pub owd_forward: Moments,
    /// One-way delays back.
    pub owd_reverse: Moments,
    /// Residence times at the reflector.
    pub residence: Moments,
    /// Where T1 of `rtt` was taken: the farthest.
    pub sent_by: Option<StampSource>,
    /// Where T4 of `rtt` was taken: the farthest.
    pub received_by: Option<StampSource>,
    /// The node that sent the last ICMP error.
    pub reporter: Option<IpAddr>,
    /// What else was seen last.
    pub seen: Seen,
    touched: bool,
}

/// What is counted of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTally {
    /// Sum of the round-trip times, ns.
    pub rtt_sum: u64,
    /// Smallest round-trip time, ns; `u64::MAX` without one.
    pub rtt_min: u64,
    /// Largest round-trip time, ns.
    pub rtt_max: u64,
    /// Round trips.
    pub rtt_count: u32,
    /// Probes handed to the network, without those the kernel did not take.
    pub sent: u32,
    /// Of `sent`: lost, or answered by an ICMP error.
    pub unanswered: u32,
    /// Of those: lost forward.
    pub lost_forward: u32,
    /// Of those: lost on the way back.
    pub lost_reverse: u32,
    /// Probes whose DSCP was changed on the way to the reflector.
    pub dscp_changed_forward: u32,
    /// Replies whose DSCP was changed on the way back.
    pub dscp_changed_reverse: u32,
}

impl FlowTally {
    /// Round-trip time; `None` when none was measured.
    pub fn rtt(&self) -> Option<super::Extremes> {
        (self.rtt_count > 0).then(|| super::Extremes {
            samples: u64::from(self.rtt_count),
            mean: self.rtt_sum as f64 / f64::from(self.rtt_count),
            min: self.rtt_min as i64,
            max: self.rtt_max as i64,
        })
    }

    const EMPTY: FlowTally = FlowTally {
        rtt_sum: 0,
        rtt_min: u64::MAX,
        rtt_max: 0,
        rtt_count: 0,
        sent: 0,
        unanswered: 0,
        lost_forward: 0,
        lost_reverse: 0,
        dscp_changed_forward: 0,
        dscp_changed_reverse: 0,
    };
}

/// Largest lateness told apart, ns: 60 s.
const LATENESS_MAX: u64 = 60_000_000_000;

/// Counters of one worker and one interval. Allocated at start, reused for ever.
#[derive(Debug)]
pub struct Tally {
    layout: Arc<Layout>,
    worker: u16,
    interval: IntervalId,
    paths: Vec<PathTally>,
    /// Positions of the paths that have counted something.
    touched: Vec<u32>,
    histograms: Pages,
    flows: Vec<FlowTally>,
    lateness: Histogram<u32>,
    local_drops: u64,
    clock_stepped: bool,
    clean: bool,
}

impl Tally {
    /// An empty tally; all memory is allocated here.
    pub fn new(layout: &Arc<Layout>, worker: u16) -> Tally {
        let paths = layout.paths.len();
        Tally {
            layout: Arc::clone(layout),
            worker,
            interval: IntervalId::default(),
            paths: vec![PathTally::default(); paths],
            touched: Vec::with_capacity(paths),
            histograms: Pages::new(paths),
            flows: vec![FlowTally::EMPTY; layout.flows.len()],
            lateness: lateness_histogram(),
            local_drops: 0,
            clock_stepped: false,
            clean: true,
        }
    }

    /// Bytes a tally of this layout takes.
    pub fn memory(layout: &Layout) -> usize {
        let paths = layout.paths.len();
        size_of::<Tally>()
            + paths * (size_of::<PathTally>() + size_of::<u32>())
            + Pages::memory(paths)
            + layout.flows.len() * size_of::<FlowTally>()
            + lateness_histogram().distinct_values() * size_of::<u32>()
    }

    /// Empties it for a new interval. Costs nothing after [`Tally::clear`].
    pub fn open(&mut self, interval: IntervalId) {
        self.clear();
        self.interval = interval;
        self.clean = false;
    }

    /// Empties it. With 10^6 flows this takes milliseconds: whoever merged the tally should call it before it
    /// goes back to its worker.
    pub fn clear(&mut self) {
        if self.clean {
            return;
        }
        for path in self.touched.drain(..) {
            if let Some(tally) = self.paths.get_mut(path as usize) {
                *tally = PathTally::default();
            }
            self.histograms.clear_path(path);
        }
        self.histograms.clear_pool();
        self.flows.fill(FlowTally::EMPTY);
        self.lateness.reset();
        self.local_drops = 0;
        self.clock_stepped = false;
        self.clean = true;
    }

    /// The interval it counts.
    pub fn interval(&self) -> IntervalId {
        self.interval
    }

    /// Counts one record; records of unknown flows are ignored. Whether it belongs to this interval is for the
    /// caller to decide: replies later than their own interval's closing have to be counted somewhere.
    #[inline]
    pub fn record(&mut self, record: &Record) {
        let position = record.flow.0 as usize;
        let Some(&path) = self.layout.flow_paths.get(position) else { return };
        let (Some(tally), Some(flow)) = (self.paths.get_mut(path as usize), self.flows.get_mut(position)) else {
            return;
        };
        if !tally.touched {
            tally.touched = true;
            self.touched.push(path); // never beyond its capacity: once per path
        }
        let counts = &mut tally.counts;
        match record.outcome {
            Outcome::Sent => {
                counts.sent += 1;
                flow.sent += 1;
            }
            Outcome::Replied { reordered } => {
                counts.replied += 1;
                counts.reordered += u64::from(reordered);
            }
            Outcome::AnsweredBy(AnswerKind::SynAck) => counts.syn_acks += 1,
            Outcome::AnsweredBy(AnswerKind::Reset) => counts.resets += 1,
            Outcome::AnsweredBy(AnswerKind::Reflected | AnswerKind::Echo) => {}
            Outcome::Measured(singleton) => {
                let stamped = self.layout.stamped.get(path as usize).copied().unwrap_or(false);
                if tally.measured(&singleton, stamped) {
                    let rtt = u64::try_from(singleton.rtt.0).unwrap_or(0);
                    flow.rtt_count += 1;
                    flow.rtt_sum += rtt;
                    flow.rtt_min = flow.rtt_min.min(rtt);
                    flow.rtt_max = flow.rtt_max.max(rtt);
                    self.histograms.record(path, rtt);
                }
            }
            Outcome::StampMissing => counts.stamps_missing += 1,
            Outcome::ClockStepped => counts.clock_stepped += 1,
            Outcome::Lost => {
                counts.lost += 1;
                flow.unanswered += 1;
            }
            Outcome::LossDirected(Direction::Forward) => {
                counts.lost_forward += 1;
                flow.lost_forward += 1;
            }
            Outcome::LossDirected(Direction::Reverse) => {
                counts.lost_reverse += 1;
                flow.lost_reverse += 1;
            }
            Outcome::Late => counts.late += 1,
            Outcome::Duplicate => counts.duplicates += 1,
            Outcome::ClassReported => counts.class_reports += 1,
            Outcome::ClassChanged(change) => tally.class_changed(&change, flow),
            Outcome::Corrupted => {
                counts.corrupted += 1;
                flow.unanswered += 1;
            }
            Outcome::Refused => {
                counts.refused += 1;
                flow.unanswered += 1;
            }
            Outcome::Prohibited => {
                counts.prohibited += 1;
                flow.unanswered += 1;
            }
            Outcome::TimeExceeded => {
                counts.time_exceeded += 1;
                flow.unanswered += 1;
            }
            Outcome::TooBig => {
                counts.too_big += 1;
                flow.unanswered += 1;
            }
            Outcome::MtuTold(mtu) => tally.seen.mtu = Some(mtu),
            Outcome::Unreachable => {
                counts.unreachable += 1;
                flow.unanswered += 1;
            }
            Outcome::Reported(by) => tally.reporter = Some(by),
            Outcome::SendFailed => {
                counts.send_failed += 1;
                flow.sent = flow.sent.saturating_sub(1);
            }
            Outcome::NotSent => counts.not_sent += 1,
        }
    }

    /// Counts how late a probe was handed to the network.
    #[inline]
    pub fn sent_late_by(&mut self, lateness_ns: u64) {
        self.lateness.saturating_record(lateness_ns);
    }

    /// Adds datagrams that the worker's sockets dropped.
    pub fn local_drops(&mut self, datagrams: u64) {
        self.local_drops += datagrams;
    }

    /// Notes that the wall clock stepped in this interval.
    pub fn clock_stepped(&mut self) {
        self.clock_stepped = true;
    }

    /// What it covers.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The worker it belongs to.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// The paths that counted something: position in [`Layout::paths`] and counters.
    pub fn paths(&self) -> impl Iterator<Item = (u32, &PathTally)> {
        self.touched.iter().filter_map(|&path| self.paths.get(path as usize).map(|tally| (path, tally)))
    }

    /// All flows, by position in [`Layout::flows`].
    pub fn flows(&self) -> &[FlowTally] {
        &self.flows
    }

    /// The histograms of round-trip times, by position in [`Layout::paths`].
    pub fn histograms(&self) -> &Pages {
        &self.histograms
    }

    /// How late probes were handed to the network, ns.
    pub fn lateness(&self) -> &Histogram<u32> {
        &self.lateness
    }

    /// Datagrams the worker's sockets dropped.
    pub fn dropped_locally(&self) -> u64 {
        self.local_drops
    }

    /// Whether the wall clock stepped.
    pub fn saw_clock_step(&self) -> bool {
        self.clock_stepped
    }
}

impl PathTally {
    /// Adds what another tally counted of the same path.
    pub fn add(&mut self, other: &PathTally) {
        self.counts += &other.counts;
        self.rtt.add(&other.rtt);
        self.ipdv.add(&other.ipdv);
        self.owd_forward.add(&other.owd_forward);
        self.owd_reverse.add(&other.owd_reverse);
        self.residence.add(&other.residence);
        self.sent_by = self.sent_by.max(other.sent_by);
        self.received_by = self.received_by.max(other.received_by);
        self.reporter = other.reporter.or(self.reporter);
        self.seen = self.seen.followed_by(other.seen);
    }

    #[cold]
    fn class_changed(&mut self, change: &ClassChange, flow: &mut FlowTally) {
        let counts = &mut self.counts;
        counts.dscp_changed_forward += u64::from(change.forward.is_some());
        counts.dscp_changed_reverse += u64::from(change.reverse.is_some());
        counts.dscp_changed_either += u64::from(change.either.is_some());
        counts.ecn_marked_forward += u64::from(change.marked_forward);
        counts.ecn_marked_reverse += u64::from(change.marked_reverse);
        flow.dscp_changed_forward += u32::from(change.forward.is_some());
        flow.dscp_changed_reverse += u32::from(change.reverse.is_some());
        self.seen = self.seen.followed_by(Seen {
            dscp_forward: change.forward,
            dscp_reverse: change.reverse,
            dscp_either: change.either,
            mtu: None,
        });
    }

    /// Adds a round trip; false when its T1 is of a worse kind than the path's others.
    #[inline]
    fn measured(&mut self, singleton: &Singleton, stamped: bool) -> bool {
        // these two do not depend on T1
        if let Some(delay) = singleton.owd_reverse {
            self.owd_reverse.record(delay.0);
            self.residence.record(singleton.residence.0);
        }
        if stamped && singleton.sent_by == StampSource::User {
            return false;
        }
        self.rtt.record(singleton.rtt.0);
        if let Some(delay) = singleton.owd_forward {
            self.owd_forward.record(delay.0);
        }
        if let Some(difference) = singleton.ipdv {
            self.ipdv.record(difference.0.saturating_abs());
        }
        self.sent_by = self.sent_by.max(Some(singleton.sent_by));
        self.received_by = self.received_by.max(Some(singleton.received_by));
        true
    }
}

/// From 1 µs to 60 s, two digits: 14 KB.
pub(super) fn lateness_histogram() -> Histogram<u32> {
    // fails only for bounds that are not in order or more than five digits
    Histogram::new_with_bounds(1_000, LATENESS_MAX, 2).unwrap_or_else(|_| unreachable!("constant bounds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::FlowId;
    use crate::probe::shape::Dscp;
    use crate::time::Delay;

    fn layout() -> Arc<Layout> {
        Arc::new(Layout {
            flow_paths: vec![0, 0, 1],
            flows: vec![10, 11, 12],
            paths: vec![5, 6],
            stamped: vec![true, false],
        })
    }

    fn singleton(rtt: i64, sent_by: StampSource) -> Singleton {
        Singleton {
            seq: crate::probe::Seq(0),
            sent: crate::time::Wall(0),
            rtt: Delay(rtt),
            residence: Delay(7),
            owd_forward: Some(Delay(-rtt)),
            owd_reverse: Some(Delay(3)),
            ipdv: Some(Delay(-4)),
            sent_by,
            received_by: StampSource::Kernel,
        }
    }

    fn tally_of(records: &[(u32, Outcome)]) -> Tally {
        let mut tally = Tally::new(&layout(), 3);
        tally.open(IntervalId(9));
        for &(flow, outcome) in records {
            tally.record(&Record { flow: FlowId(flow), interval: IntervalId(9), outcome });
        }
        tally
    }

    #[test]
    fn a_flow_takes_56_bytes() {
        assert!(size_of::<FlowTally>() <= 56);
    }

    #[test]
    fn every_outcome_has_its_counter() {
        let tally = tally_of(&[
            (0, Outcome::Sent),
            (1, Outcome::Sent),
            (0, Outcome::Replied { reordered: true }),
            (0, Outcome::AnsweredBy(AnswerKind::SynAck)),
            (0, Outcome::AnsweredBy(AnswerKind::Reset)),
            (0, Outcome::StampMissing),
            (0, Outcome::ClockStepped),
            (1, Outcome::Lost),
            (1, Outcome::LossDirected(Direction::Forward)),
            (1, Outcome::LossDirected(Direction::Reverse)),
            (1, Outcome::Late),
            (0, Outcome::Duplicate),
            (0, Outcome::Corrupted),
            (0, Outcome::Refused),
            (0, Outcome::Prohibited),
            (0, Outcome::TimeExceeded),
            (0, Outcome::TooBig),
            (0, Outcome::MtuTold(1400)),
            (0, Outcome::ClassReported),
            (
                0,
                Outcome::ClassChanged(ClassChange {
                    forward: Some(Dscp(0)),
                    reverse: Some(Dscp(8)),
                    either: Some(Dscp(10)),
                    marked_forward: true,
                    marked_reverse: true,
                }),
            ),
            (0, Outcome::ClassChanged(ClassChange { marked_reverse: true, ..ClassChange::default() })),
            (0, Outcome::Unreachable),
            (0, Outcome::Reported([192, 0, 2, 9].into())),
            (0, Outcome::SendFailed),
            (0, Outcome::NotSent),
            (99, Outcome::Sent),
        ]);
        let one_each = Counts {
            sent: 2,
            replied: 1,
            syn_acks: 1,
            resets: 1,
            lost: 1,
            lost_forward: 1,
            lost_reverse: 1,
            late: 1,
            duplicates: 1,
            reordered: 1,
            corrupted: 1,
            refused: 1,
            prohibited: 1,
            time_exceeded: 1,
            too_big: 1,
            unreachable: 1,
            send_failed: 1,
            not_sent: 1,
            clock_stepped: 1,
            stamps_missing: 1,
            class_reports: 1,
            dscp_changed_forward: 1,
            dscp_changed_reverse: 1,
            dscp_changed_either: 1,
            ecn_marked_forward: 1,
            ecn_marked_reverse: 2,
        };
        let paths: Vec<(u32, Counts)> = tally.paths().map(|(path, tally)| (path, tally.counts)).collect();
        assert_eq!(paths, [(0, one_each)]);
        assert_eq!(tally.paths().next().and_then(|(_, path)| path.reporter), Some([192, 0, 2, 9].into()));
        assert_eq!((tally.flows()[0].sent, tally.flows()[0].unanswered), (0, 6));
        assert_eq!((tally.flows()[0].dscp_changed_forward, tally.flows()[0].dscp_changed_reverse), (1, 1));
        let last = Seen {
            dscp_forward: Some(Dscp(0)),
            dscp_reverse: Some(Dscp(8)),
            dscp_either: Some(Dscp(10)),
            mtu: Some(1400),
        };
        assert_eq!(tally.paths().next().map(|(_, path)| path.seen), Some(last));
        assert_eq!((tally.flows()[1].sent, tally.flows()[1].unanswered), (1, 1));
        assert_eq!((tally.flows()[1].lost_forward, tally.flows()[1].lost_reverse), (1, 1));
    }

    #[test]
    fn user_stamps_stay_out_of_stamped_paths() {
        let tally = tally_of(&[
            (0, Outcome::Measured(singleton(1_000_000, StampSource::Kernel))),
            (1, Outcome::Measured(singleton(9_000_000, StampSource::User))),
            (2, Outcome::Measured(singleton(5_000_000, StampSource::User))),
        ]);
        let paths: Vec<&PathTally> = tally.paths().map(|(_, tally)| tally).collect();
        assert_eq!((paths[0].rtt.samples, paths[0].rtt.max), (1, 1_000_000));
        assert_eq!((paths[0].residence.samples, paths[0].owd_reverse.samples), (2, 2));
        assert_eq!((paths[0].owd_forward.min, paths[0].ipdv.max), (-1_000_000, 4));
        assert_eq!(paths[0].sent_by, Some(StampSource::Kernel));
        assert_eq!((paths[1].rtt.max, paths[1].sent_by), (5_000_000, Some(StampSource::User)));
        assert_eq!(tally.histograms().counts(0).count(), 1);
        assert_eq!((tally.flows()[1].rtt_count, tally.flows()[2].rtt_count), (0, 1));
    }

    #[test]
    fn opening_leaves_nothing_behind() {
        let mut tally = tally_of(&[
            (0, Outcome::Sent),
            (0, Outcome::Measured(singleton(1000, StampSource::Kernel))),
            (2, Outcome::Lost),
        ]);
        tally.sent_late_by(5_000);
        tally.sent_late_by(u64::MAX);
        tally.local_drops(3);
        tally.clock_stepped();
        assert_eq!((tally.lateness().len(), tally.dropped_locally(), tally.saw_clock_step()), (2, 3, true));
        tally.open(IntervalId(10));
        assert_eq!(tally.interval(), IntervalId(10));
        assert_eq!(tally.paths().count(), 0);
        assert_eq!((tally.lateness().len(), tally.dropped_locally(), tally.saw_clock_step()), (0, 0, false));
        assert!(tally.flows().iter().all(|flow| *flow == FlowTally::EMPTY));
        tally.record(&Record { flow: FlowId(0), interval: IntervalId(10), outcome: Outcome::Sent });
        let (_, path) = tally.paths().next().expect("touched again");
        assert_eq!((path.counts.sent, path.rtt), (1, Moments::default()));
        assert_eq!(tally.histograms().counts(0).count(), 0);
    }

    #[test]
    fn memory_is_near_a_kilobyte_per_path() {
        let paths = 25_000;
        let layout = Layout {
            flow_paths: (0..paths).collect(),
            flows: (0..paths).collect(),
            paths: (0..paths).collect(),
            stamped: vec![false; paths as usize],
        };
        let per_path = Tally::memory(&layout) / paths as usize;
        assert!(per_path < 1800, "{per_path} bytes");
    }
}
