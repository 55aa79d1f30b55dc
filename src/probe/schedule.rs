//! Which flow is due when: an absolute, open-loop schedule that never slides.
//!
//! Responsible for due times and for the order of flows. Not responsible for what happens when a
//! probe is sent late or not at all: the caller compares [`Due::at`] with its clock. Read
//! [`Schedule`] first.
//!
//! # Order of a cycle
//! Flows of one target stand next to each other in the list of flows. Sweeping the list in order
//! would send a burst to each target in turn and meet every periodic process of the network in the
//! same phase. So slot i of a cycle goes to flow (a·i + b) mod n, with a coprime to n: every flow
//! exactly once, without a table of 10^6 entries. a and b are drawn anew for every cycle. a is kept
//! only when it spreads: for every h up to [`SPREAD_SLOTS`], h·a mod n stays n / [`SPREAD_SHARE`] or
//! more from 0 on the ring of flows, so any few probes that follow each other go to distant flows.

use super::FlowId;
use super::random::Random;
use super::shape::Pacing;
use crate::time::Monotonic;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

/// Within how many slots flows keep their distance.
const SPREAD_SLOTS: u64 = 8;
/// The distance: the number of flows divided by this.
const SPREAD_SHARE: u64 = 24;
/// Draws of `a` before the nearest fitting number to n / golden ratio is taken.
const DRAWS: usize = 32;

/// One test's share on one worker.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The worker's flows it sweeps, by number or position (see [`Schedule::numbered`]).
    pub flows: Range<u32>,
    /// Cycles per second; a sweep without flows or with a rate that is not positive is left out.
    pub cycles_per_second: f64,
    /// When within the cycle.
    pub pacing: Pacing,
}

/// A probe that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which flow sends.
    pub flow: FlowId,
    /// When it should leave.
    pub at: Monotonic,
}

/// All sweeps of a worker, merged by due time. Taking a probe costs O(log sweeps) and no allocation.
#[derive(Debug)]
pub struct Schedule {
    /// In the order of the sweeps.
    lanes: Vec<Lane>,
    /// Flow numbers by position in the sweeps; empty while a flow's number is its position.
    flows: Vec<u32>,
    /// One entry per lane: its next due time and its position. Changed in place, never grown.
    heap: BinaryHeap<Reverse<(Monotonic, u32)>>,
}

impl Schedule {
    /// A schedule that starts at `start`; `seed` decides phases, orders and Poisson gaps.
    ///
    /// The first probe of a periodic sweep is due within one slot (1 / rate) of `start`, at random,
    /// so that collectors started together do not probe together.
    pub fn new(sweeps: &[Sweep], start: Monotonic, seed: u64) -> Schedule {
        let mut seeds = Random::new(seed);
        let lanes = (0..).zip(sweeps);
        let lanes = lanes.filter_map(|(i, sweep)| Lane::new(i, sweep, start, Random::new(seeds.bits()))).collect();
        let mut schedule = Schedule { lanes, flows: Vec::new(), heap: BinaryHeap::new() };
        schedule.merge();
        schedule
    }

    /// The same with flow numbers: the range of a sweep then names positions in `flows`.
    pub fn numbered(mut self, flows: Vec<u32>) -> Schedule {
        self.flows = flows;
        self
    }

    /// Lets sweeps go on where `former` is: of each pair, this one's second takes the due times and the order of the
    /// former one's first, which must have as many flows. The others begin anew.
    pub fn follow(&mut self, former: Schedule, pairs: &[(u32, u32)]) {
        for lane in former.lanes {
            let heir = pairs.iter().find(|(first, _)| *first == lane.sweep).map(|(_, second)| *second);
            let at = heir.and_then(|sweep| self.lanes.binary_search_by_key(&sweep, |lane| lane.sweep).ok());
            if let Some(own) = at.and_then(|at| self.lanes.get_mut(at))
                && own.flows == lane.flows
            {
                *own = Lane { sweep: own.sweep, first_flow: own.first_flow, ..lane };
            }
        }
        self.merge();
    }

    fn merge(&mut self) {
        self.heap = self.lanes.iter().enumerate().map(|(i, lane)| Reverse((lane.due, i as u32))).collect();
    }

    /// When the next probe is due; `None` when there is nothing to send.
    #[inline]
    pub fn next_due(&self) -> Option<Monotonic> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next probe, when it is due at `now` or earlier.
    #[inline]
    pub fn take_due(&mut self, now: Monotonic) -> Option<Due> {
        let mut top = self.heap.peek_mut()?;
        let Reverse((at, index)) = *top;
        if at > now {
            return None;
        }
        let Some(lane) = self.lanes.get_mut(index as usize) else {
            PeekMut::pop(top); // cannot be: the heap holds positions of `lanes`
            return None;
        };
        let position = lane.take();
        top.0.0 = lane.due;
        // an empty table, or one of all positions
        let flow = FlowId(self.flows.get(position as usize).copied().unwrap_or(position));
        Some(Due { flow, at })
    }
}

/// A sweep on its way.
#[derive(Debug)]
struct Lane {
    /// Which sweep.
    sweep: u32,
    first_flow: u32,
    flows: u64,
    pacing: Pacing,
    /// Mean gap, in 2^-64 ns.
    step: u128,
    mean_gap_ns: f64,
    /// What slots are counted from: start and phase.
    origin: u64,
    /// The next slot, counted from the start.
    slot: u64,
    /// Sum of the gaps so far, in 2^-64 ns; Poisson only.
    elapsed: u128,
    due: Monotonic,
    /// Slots of this cycle already taken.
    taken: u64,
    /// The order of this cycle: position of the next flow, and the step to the one after.
    position: u64,
    stride: u64,
    random: Random,
}

impl Lane {
    fn new(number: u32, sweep: &Sweep, start: Monotonic, mut random: Random) -> Option<Lane> {
        let flows = u64::from(sweep.flows.end.saturating_sub(sweep.flows.start));
        let rate = flows as f64 * sweep.cycles_per_second;
        let mean_gap_ns = 1e9 / rate;
        // a gap of 100 years would overflow the fixed point; "never" says the same
        if !(rate > 0.0 && rate.is_finite() && mean_gap_ns < 3e18) {
            return None;
        }
        let step = fixed(mean_gap_ns);
        let phase = match sweep.pacing {
            Pacing::Periodic => (mean_gap_ns * random.unit()) as u64,
            Pacing::Poisson => 0,
        };
        let mut lane = Lane {
            sweep: number,
            first_flow: sweep.flows.start,
            flows,
            pacing: sweep.pacing,
            step,
            mean_gap_ns,
            origin: start.0.saturating_add(phase),
            slot: 0,
            elapsed: 0,
            due: Monotonic::default(),
            taken: 0,
            position: 0,
            stride: 1,
            random,
        };
        lane.position = lane.random.below(flows);
        lane.reorder();
        lane.set_due();
        Some(lane)
    }

    /// The position of the flow of the slot that is due; moves on to the next slot.
    #[inline]
    fn take(&mut self) -> u32 {
        let flow = self.first_flow + self.position as u32;
        self.taken += 1;
        if self.taken == self.flows {
            self.taken = 0;
            self.reorder();
        } else {
            self.position += self.stride;
            if self.position >= self.flows {
                self.position -= self.flows;
            }
        }
        self.slot += 1;
        self.set_due();
        flow
    }

    /// Due time of `slot`: from its number, so that rounding never adds up.
    #[inline]
    fn set_due(&mut self) {
        let elapsed = match self.pacing {
            Pacing::Periodic => u128::from(self.slot).saturating_mul(self.step),
            Pacing::Poisson => {
                let gap = fixed(self.mean_gap_ns * self.random.exponential());
                self.elapsed = self.elapsed.saturating_add(gap);
                self.elapsed
            }
        };
        self.due = Monotonic(self.origin.saturating_add((elapsed >> 64) as u64));
    }

    /// Draws the order of the next cycle. Its first flow keeps the distance to the last one's too.
    fn reorder(&mut self) {
        let n = self.flows;
        let near = n / SPREAD_SHARE;
        let away = near + self.random.below(n - 2 * near);
        self.position = (self.position + away) % n;
        self.stride = stride(n, &mut self.random);
    }
}

/// Nanoseconds as a fixed-point number, in 2^-64 ns.
#[inline]
fn fixed(ns: f64) -> u128 {
    (ns * 2f64.powi(64)) as u128
}

/// A number coprime to `n` that spreads neighbours (see the module's head); 1 for n ≤ 2.
fn stride(n: u64, random: &mut Random) -> u64 {
    if n <= 2 {
        return 1;
    }
    for _ in 0..DRAWS {
        let a = 1 + random.below(n - 1);
        if spreads(a, n) && coprime(a, n) {
            return a;
        }
    }
    // multiples of the golden ratio spread best; n − 1 is coprime, so the search ends
    let golden = (n as f64 * 0.618_033_988_75) as u64;
    (golden.max(1)..n).find(|&a| coprime(a, n)).unwrap_or(1)
}

fn spreads(a: u64, n: u64) -> bool {
    let near = n / SPREAD_SHARE;
    (1..=SPREAD_SLOTS.min(n - 1)).all(|h| {
        let to = (h * a) % n;
        to.min(n - to) >= near
    })
}

fn coprime(mut a: u64, mut b: u64) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVER: Monotonic = Monotonic(u64::MAX);

    fn sweep(flows: Range<u32>, cycles_per_second: f64, pacing: Pacing) -> Sweep {
        Sweep { flows, cycles_per_second, pacing }
    }

    fn take(schedule: &mut Schedule, count: usize) -> Vec<Due> {
        (0..count).map(|_| schedule.take_due(EVER).expect("sweeps never end")).collect()
    }

    proptest! {
        #[test]
        fn every_cycle_visits_every_flow_once(n in 1u32..3000, first in 0u32..1000, seed: u64, poisson: bool) {
            let pacing = if poisson { Pacing::Poisson } else { Pacing::Periodic };
            let mut schedule = Schedule::new(&[sweep(first..first + n, 2.0, pacing)], Monotonic(0), seed);
            for _ in 0..4 {
                let mut seen: Vec<u32> = take(&mut schedule, n as usize).iter().map(|due| due.flow.0).collect();
                seen.sort_unstable();
                prop_assert!(seen.into_iter().eq(first..first + n));
            }
        }

        #[test]
        fn periodic_slots_are_where_they_belong(
            n in 1u32..1_000_000, cps in 0.01f64..1000.0, start in 0u64..1 << 50, seed: u64, ahead in 0u64..1 << 40,
        ) {
            let mut schedule = Schedule::new(&[sweep(0..n, cps, Pacing::Periodic)], Monotonic(start), seed);
            let gap = 1e9 / (f64::from(n) * cps);
            let first = schedule.next_due().expect("one sweep");
            prop_assert!(first.0 >= start && (first.0 - start) as f64 <= gap + 1.0);
            // long after the start, no slot may have moved
            let ahead = ahead.min((1e17 / gap) as u64);
            schedule.lanes[0].slot = ahead;
            schedule.lanes[0].set_due();
            schedule.heap.clear();
            schedule.heap.push(Reverse((schedule.lanes[0].due, 0)));
            for (i, due) in take(&mut schedule, 100).iter().enumerate() {
                let exact = (ahead as f64 + i as f64) * gap;
                let off = (due.at.0 - first.0) as f64 - exact;
                prop_assert!(off.abs() <= 2.0 + exact * 1e-15, "slot {} is off by {off} ns", ahead + i as u64);
            }
        }

        #[test]
        fn sweeps_are_merged_by_time(
            sweeps in prop::collection::vec((1u32..50, 0.1f64..500.0, any::<bool>()), 0..12), seed: u64,
        ) {
            let mut first = 0;
            let sweeps: Vec<Sweep> = sweeps.into_iter().map(|(n, cps, poisson)| {
                first += n;
                sweep(first - n..first, cps, if poisson { Pacing::Poisson } else { Pacing::Periodic })
            }).collect();
            let mut schedule = Schedule::new(&sweeps, Monotonic(77), seed);
            prop_assert_eq!(schedule.next_due().is_none(), sweeps.is_empty());
            let mut last = Monotonic(77);
            while let Some(at) = schedule.next_due() {
                if at > Monotonic(1_000_000_000) {
                    break;
                }
                prop_assert_eq!(schedule.take_due(Monotonic(at.0 - 1)), None);
                let due = schedule.take_due(at).expect("due now");
                prop_assert!(due.at == at && at >= last);
                last = at;
            }
        }
    }

    #[test]
    fn a_sweep_that_goes_on_does_not_notice() {
        let start = Monotonic(1_000);
        let [kept, ended] = [sweep(0..7, 3.0, Pacing::Periodic), sweep(7..9, 50.0, Pacing::Poisson)];
        let kept_alone = |due: &[Due]| -> Vec<Due> { due.iter().filter(|due| due.flow.0 < 7).copied().collect() };
        let mut undisturbed = Schedule::new(&[kept.clone(), ended.clone()], start, 5);
        let expected = kept_alone(&take(&mut undisturbed, 4_000));

        let mut former = Schedule::new(&[kept.clone(), ended], start, 5);
        let mut seen = kept_alone(&take(&mut former, 100));
        let now = Monotonic(former.next_due().expect("sweeps never end").0 - 1);
        // behind a sweep that is new, with another place in the list and the numbers it had
        let new = sweep(0..3, 9.0, Pacing::Periodic);
        let mut changed = Schedule::new(&[new, sweep(3..10, 3.0, Pacing::Periodic)], now, 6)
            .numbered([[7, 9, 12].as_slice(), &[0, 1, 2, 3, 4, 5, 6]].concat());
        changed.follow(former, &[(0, 1)]);
        let after = take(&mut changed, 1_000);
        assert!(after.iter().all(|due| due.at >= now && (due.flow.0 <= 7 || [9, 12].contains(&due.flow.0))));
        seen.extend(kept_alone(&after));
        assert!(seen.len() > 300);
        assert_eq!(seen, expected[..seen.len()]);
    }

    #[test]
    fn the_rate_is_exact_in_the_long_run() {
        // 3 flows, 7 cycles/s: 21 probes/s does not divide a second in whole nanoseconds
        let mut schedule = Schedule::new(&[sweep(0..3, 7.0, Pacing::Periodic)], Monotonic(0), 1);
        let mut count = 0;
        while schedule.take_due(Monotonic(1000 * 1_000_000_000 - 1)).is_some() {
            count += 1;
        }
        assert_eq!(count, 21_000);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let mut schedule = Schedule::new(&[sweep(0..100, 10.0, Pacing::Poisson)], Monotonic(0), 42);
        let due = take(&mut schedule, 100_001);
        let gaps: Vec<f64> = due.windows(2).map(|w| (w[1].at.0 - w[0].at.0) as f64 / 1e6).collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // mean 1 ms and variance 1 ms²; standard errors 0.3 % and 0.9 %
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.03, "variance {variance}");
        // and no memory: half the gaps are below ln 2
        let below = gaps.iter().filter(|&&g| g < std::f64::consts::LN_2).count() as f64 / n;
        assert!((below - 0.5).abs() < 0.005, "median {below}");
    }

    #[test]
    fn cycles_differ_and_neighbours_are_far_apart() {
        let n = 4800;
        let mut schedule = Schedule::new(&[sweep(0..n, 1.0, Pacing::Periodic)], Monotonic(0), 3);
        let cycles: Vec<Vec<u32>> =
            (0..5).map(|_| take(&mut schedule, n as usize).iter().map(|due| due.flow.0).collect()).collect();
        for pair in cycles.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        let all: Vec<u32> = cycles.concat();
        for pair in all.windows(2) {
            let apart = pair[0].abs_diff(pair[1]);
            assert!(apart.min(n - apart) >= n / 24, "{pair:?}");
        }
    }

    #[test]
    fn a_million_flows_need_no_table() {
        let mut schedule = Schedule::new(&[sweep(0..1_000_000, 1.0, Pacing::Periodic)], Monotonic(0), 9);
        let mut seen = vec![false; 1_000_000];
        for due in take(&mut schedule, 1_000_000) {
            assert!(!std::mem::replace(&mut seen[due.flow.0 as usize], true));
        }
    }

    #[test]
    fn sweeps_without_flows_or_rate_are_left_out() {
        let none = [
            sweep(5..5, 1.0, Pacing::Periodic),
            sweep(0..5, 0.0, Pacing::Periodic),
            sweep(0..5, f64::NAN, Pacing::Poisson),
            sweep(0..5, -1.0, Pacing::Periodic),
        ];
        assert_eq!(Schedule::new(&none, Monotonic(0), 0).next_due(), None);
    }
}
