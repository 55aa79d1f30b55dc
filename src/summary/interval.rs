//! From the workers' tallies of an interval to one [`Summary`] per path.
//!
//! Responsible for waiting until every worker has delivered, for joining what they counted, and for
//! marking an interval in which the prober itself fell short. Not responsible for when an interval ends
//! (the workers and their caller know) nor for keeping summaries. Read [`Merger`] first.
//!
//! Percentiles come straight from the merged counts (see [`Buckets`]): one pass over the buckets that
//! occur, some dozens per path. Filling a full-range histogram per path to ask it four questions would
//! cost a second of CPU per interval with 25 000 paths.

use super::histogram::Buckets;
use super::tally::{FlowTally, Layout, PathTally, Tally, lateness_histogram};
use super::{FlowSummary, Path, Statistics, Summary, Suspicion, WORST_FLOWS};
use crate::probe::IntervalId;
use crate::probe::shape::Dscp;
use crate::time::Wall;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

/// Transmit stamps that may be missing, per replied probe, before the interval is suspect: 1 in so many.
const STAMPS_MISSED_ONE_IN: u64 = 1000;

/// What a flow is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowAddress {
    /// Local address and port.
    pub source: SocketAddr,
    /// Remote address and port.
    pub target: SocketAddr,
    /// Class.
    pub dscp: Dscp,
}

/// When an interval began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub start: Wall,
    /// The first instant after it.
    pub end: Wall,
}

/// Joins the tallies of all workers, interval by interval.
pub struct Merger {
    /// What the intervals are of, oldest first, each with its first interval; never empty.
    plans: Vec<(IntervalId, Coverage)>,
    worst: usize,
    open: BTreeMap<IntervalId, Open>,
    newest_closed: Option<IntervalId>,
}

/// What the tallies of an interval cover together.
struct Coverage {
    paths: Vec<Arc<Path>>,
    address: Box<dyn Fn(u32) -> FlowAddress + Send>,
    layouts: Vec<Arc<Layout>>,
    /// Per path of the plan: its flows, and the position in `teams` of the workers that probe it.
    flows_of: Vec<u32>,
    team_of: Vec<u32>,
    /// Distinct sets of workers that probe a path together.
    teams: Vec<Vec<u16>>,
}

/// An interval that waits for workers.
struct Open {
    paths: Vec<PathMerge>,
    workers: Vec<Option<WorkerPart>>,
    missing: usize,
}

#[derive(Clone, Default)]
struct PathMerge {
    tally: PathTally,
    buckets: Buckets,
    flows_with_loss: u32,
    /// Worst first; index in the plan and counters.
    worst: Vec<(u32, FlowTally)>,
}

enum WorkerPart {
    Dropped,
    Counted { lateness: Histogram<u32>, local_drops: u64, clock_stepped: bool },
}

/// What a set of workers contributes to the summaries of its paths.
#[derive(Clone, Default)]
struct Team {
    lateness: Option<Statistics>,
    local_drops: u64,
    clock_stepped: bool,
    dropped: bool,
}

impl Coverage {
    fn new(
        paths: Vec<Arc<Path>>,
        layouts: Vec<Arc<Layout>>,
        address: impl Fn(u32) -> FlowAddress + Send + 'static,
    ) -> Coverage {
        let mut flows_of = vec![0; paths.len()];
        let mut workers_of: Vec<Vec<u16>> = vec![Vec::new(); paths.len()];
        for (worker, layout) in layouts.iter().enumerate() {
            for path in &layout.paths {
                if let Some(workers) = workers_of.get_mut(*path as usize) {
                    workers.push(worker as u16);
                }
            }
            for path in layout.flow_paths.iter().filter_map(|&path| layout.paths.get(path as usize)) {
                if let Some(flows) = flows_of.get_mut(*path as usize) {
                    *flows += 1;
                }
            }
        }
        let mut numbers: HashMap<Vec<u16>, u32> = HashMap::new();
        let mut teams = Vec::new();
        let team_of = workers_of
            .into_iter()
            .map(|workers| {
                *numbers.entry(workers).or_insert_with_key(|workers| {
                    teams.push(workers.clone());
                    teams.len() as u32 - 1
                })
            })
            .collect();
        Coverage { paths, address: Box::new(address), layouts, flows_of, team_of, teams }
    }
}

impl Merger {
    /// A merger for the plan's `paths` and one layout per worker (a worker's number is its position).
    /// `address` names a flow by its index in the plan.
    pub fn new(
        paths: Vec<Arc<Path>>,
        layouts: Vec<Arc<Layout>>,
        address: impl Fn(u32) -> FlowAddress + Send + 'static,
    ) -> Merger {
        Merger {
            plans: vec![(IntervalId(0), Coverage::new(paths, layouts, address))],
            worst: WORST_FLOWS,
            open: BTreeMap::new(),
            newest_closed: None,
        }
    }

    /// From interval `first` on the tallies are of another plan. To be called before a tally of such an interval comes.
    pub fn change(
        &mut self,
        first: IntervalId,
        paths: Vec<Arc<Path>>,
        layouts: Vec<Arc<Layout>>,
        address: impl Fn(u32) -> FlowAddress + Send + 'static,
    ) {
        // a plan whose last interval is closed is not asked for any more
        let needed = self.waiting().next().or(self.newest_closed).unwrap_or_default();
        let ended = self.plans.windows(2).take_while(|pair| pair[1].0 <= needed).count();
        self.plans.drain(..ended);
        self.plans.push((first, Coverage::new(paths, layouts, address)));
    }

    /// Whether a tally covers the newest plan: then its worker can use it again.
    pub fn is_current(&self, tally: &Tally) -> bool {
        let layouts = self.plans.last().map(|(_, plan)| &plan.layouts);
        let layout = layouts.and_then(|layouts| layouts.get(usize::from(tally.worker())));
        layout.is_some_and(|layout| Arc::ptr_eq(layout, tally.layout()))
    }

    /// Lists up to `flows` flows per summary in place of [`WORST_FLOWS`].
    pub fn listing(mut self, flows: usize) -> Merger {
        self.worst = flows;
        self
    }

    /// Adds a worker's tally; the last of its interval brings the summaries, one per path of the plan.
    ///
    /// Tallies of closed intervals, unknown workers and second ones of a worker are ignored.
    pub fn add(&mut self, tally: &Tally, span: Span) -> Option<Vec<Summary>> {
        let interval = tally.interval();
        let worst = self.worst;
        let open = self.opened(interval)?;
        let part = open.workers.get_mut(usize::from(tally.worker()))?;
        if part.is_some() {
            return None;
        }
        *part = Some(WorkerPart::Counted {
            lateness: tally.lateness().clone(),
            local_drops: tally.dropped_locally(),
            clock_stepped: tally.saw_clock_step(),
        });
        open.missing -= 1;
        let layout = tally.layout();
        for (position, counted) in tally.paths() {
            let Some(path) = layout.paths.get(position as usize) else { continue };
            let Some(merge) = open.paths.get_mut(*path as usize) else { continue };
            merge.tally.add(counted);
            merge.buckets.add(tally.histograms().counts(position));
        }
        for ((flow, index), position) in tally.flows().iter().zip(&layout.flows).zip(&layout.flow_paths) {
            if flow.sent == 0 {
                continue;
            }
            let Some(path) = layout.paths.get(*position as usize) else { continue };
            let Some(merge) = open.paths.get_mut(*path as usize) else { continue };
            merge.flows_with_loss += u32::from(flow.unanswered > 0);
            list_flow(&mut merge.worst, worst, *index, flow);
        }
        self.finished(interval, span)
    }

    /// Notes that a worker could not deliver its tally; like [`Merger::add`], it may complete the interval.
    pub fn dropped(&mut self, worker: u16, interval: IntervalId, span: Span) -> Option<Vec<Summary>> {
        let open = self.opened(interval)?;
        let part = open.workers.get_mut(usize::from(worker))?;
        if part.is_some() {
            return None;
        }
        *part = Some(WorkerPart::Dropped);
        open.missing -= 1;
        self.finished(interval, span)
    }

    /// Closes an interval now; workers that have not delivered count as dropped. `None` when nothing of it
    /// has come.
    pub fn close(&mut self, interval: IntervalId, span: Span) -> Option<Vec<Summary>> {
        let open = self.open.get_mut(&interval)?;
        open.missing = 0;
        self.finished(interval, span)
    }

    /// Intervals that wait for workers, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = IntervalId> + '_ {
        self.open.keys().copied()
    }

    fn opened(&mut self, interval: IntervalId) -> Option<&mut Open> {
        let (_, plan) = self.plans.iter().rfind(|(first, _)| *first <= interval)?;
        let (paths, workers) = (plan.paths.len(), plan.layouts.len());
        if self.newest_closed >= Some(interval) && !self.open.contains_key(&interval) {
            return None;
        }
        Some(self.open.entry(interval).or_insert_with(|| Open {
            paths: vec![PathMerge::default(); paths],
            workers: (0..workers).map(|_| None).collect(),
            missing: workers,
        }))
    }

    fn finished(&mut self, interval: IntervalId, span: Span) -> Option<Vec<Summary>> {
        if self.open.get(&interval)?.missing > 0 {
            return None;
        }
        let open = self.open.remove(&interval)?;
        self.newest_closed = self.newest_closed.max(Some(interval));
        let (_, plan) = self.plans.iter().rfind(|(first, _)| *first <= interval)?;
        let teams: Vec<Team> = plan.teams.iter().map(|team| Team::new(team, &open.workers)).collect();
        let summaries = open.paths.into_iter().enumerate().filter_map(|(index, mut merge)| {
            keep_worst(&mut merge.worst, self.worst);
            let path = Arc::clone(plan.paths.get(index)?);
            let team = plan.team_of.get(index).and_then(|&team| teams.get(team as usize))?;
            let flows = plan.flows_of.get(index).copied()?;
            Some(plan.summary(path, interval, span, merge, team, flows))
        });
        Some(summaries.collect())
    }
}

impl Coverage {
    fn summary(
        &self,
        path: Arc<Path>,
        interval: IntervalId,
        span: Span,
        merge: PathMerge,
        team: &Team,
        flows: u32,
    ) -> Summary {
        let tally = merge.tally;
        let worst_flows = merge.worst.iter().map(|(index, flow)| {
            let FlowAddress { source, target, dscp } = (self.address)(*index);
            FlowSummary {
                source,
                target,
                dscp,
                sent: u64::from(flow.sent),
                lost: u64::from(flow.unanswered),
                lost_forward: u64::from(flow.lost_forward),
                lost_reverse: u64::from(flow.lost_reverse),
                dscp_changed_forward: u64::from(flow.dscp_changed_forward),
                dscp_changed_reverse: u64::from(flow.dscp_changed_reverse),
                rtt: flow.rtt(),
            }
        });
        Summary {
            path,
            interval: interval.0,
            start: span.start,
            end: span.end,
            counts: tally.counts,
            rtt: rtt_statistics(&tally, &merge.buckets),
            ipdv: tally.ipdv.extremes(),
            owd_forward: tally.owd_forward.extremes(),
            owd_reverse: tally.owd_reverse.extremes(),
            residence: tally.residence.extremes(),
            rtt_histogram: merge.buckets.values(),
            sent_by: tally.sent_by,
            received_by: tally.received_by,
            lateness: team.lateness,
            local_drops: team.local_drops,
            flows,
            flows_with_loss: merge.flows_with_loss,
            worst_flows: worst_flows.collect(),
            reporter: tally.reporter,
            seen: tally.seen,
            suspect: suspicions(&tally, team),
        }
    }
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting: Vec<IntervalId> = self.waiting().collect();
        f.debug_struct("Merger").field("plans", &self.plans.len()).field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Team {
    fn new(workers: &[u16], parts: &[Option<WorkerPart>]) -> Team {
        let mut team = Team::default();
        let mut all = lateness_histogram();
        for worker in workers {
            match parts.get(usize::from(*worker)) {
                Some(Some(WorkerPart::Counted { lateness, local_drops, clock_stepped })) => {
                    // fails only for histograms of different bounds
                    let added = all.add(lateness);
                    debug_assert!(added.is_ok());
                    team.local_drops += local_drops;
                    team.clock_stepped |= clock_stepped;
                }
                _ => team.dropped = true,
            }
        }
        team.lateness = (!all.is_empty()).then(|| {
            let at = |quantile| all.value_at_quantile(quantile) as i64;
            Statistics {
                samples: all.len(),
                mean: all.mean(),
                min: all.min() as i64,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: all.max() as i64,
            }
        });
        team
    }
}

/// Why the numbers may be the prober's own doing.
fn suspicions(tally: &PathTally, team: &Team) -> Vec<Suspicion> {
    let counts = &tally.counts;
    let found = [
        (team.local_drops > 0, Suspicion::LocalDrops),
        (counts.not_sent > 0, Suspicion::NotSent),
        (counts.stamps_missing * STAMPS_MISSED_ONE_IN > counts.replied, Suspicion::StampsLost),
        (team.clock_stepped || counts.clock_stepped > 0, Suspicion::ClockStep),
        (team.dropped, Suspicion::TallyDropped),
    ];
    found.into_iter().filter_map(|(true_of_it, suspicion)| true_of_it.then_some(suspicion)).collect()
}

/// Exact mean and extremes, percentiles from the histogram and inside the extremes. When the pool of pages was
/// empty for the whole path, the mean stands in for the median and the largest value for the rest.
fn rtt_statistics(tally: &PathTally, buckets: &Buckets) -> Option<Statistics> {
    let exact = tally.rtt.extremes()?;
    let [p50, p90, p99, p999] = match buckets.total() {
        0 => [exact.mean as i64, exact.max, exact.max, exact.max],
        _ => buckets.percentiles([0.5, 0.9, 0.99, 0.999]).map(|p| (p as i64).clamp(exact.min, exact.max)),
    };
    Some(Statistics { samples: exact.samples, mean: exact.mean, min: exact.min, p50, p90, p99, p999, max: exact.max })
}

/// Most unanswered first, then slowest on average.
fn badness(flow: &FlowTally) -> (u32, u64) {
    (flow.unanswered, flow.rtt_sum / u64::from(flow.rtt_count.max(1)))
}

/// Lists a flow that may be one of the `most` worst. A long list is only sorted when it has grown twice as
/// long: inserting each flow in its place would move half the list for each.
fn list_flow(list: &mut Vec<(u32, FlowTally)>, most: usize, index: u32, flow: &FlowTally) {
    // the first `most` are in order as soon as there are as many
    let last = most.checked_sub(1).and_then(|last| list.get(last));
    if last.is_some_and(|(_, last)| badness(last) >= badness(flow)) {
        return;
    }
    list.push((index, *flow));
    if list.len() == most || list.len() >= 2 * most {
        keep_worst(list, most);
    }
}

/// Keeps the `most` worst flows, worst first.
fn keep_worst(list: &mut Vec<(u32, FlowTally)>, most: usize) {
    list.sort_by_key(|(_, flow)| std::cmp::Reverse(badness(flow)));
    list.truncate(most);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::FlowId;
    use crate::probe::outcome::{Direction, Outcome, Record, Singleton};
    use crate::probe::shape::MethodKind;
    use crate::time::{Delay, StampSource};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SPAN: Span = Span { start: Wall(1_000), end: Wall(2_000) };
    const INTERVAL: IntervalId = IntervalId(4);

    fn paths(count: u8) -> Vec<Arc<Path>> {
        let path = |i| Path {
            src: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dst: IpAddr::V4(Ipv4Addr::new(127, 0, 1, i)),
            method: MethodKind::Udp,
            dscp: Dscp(0),
            size: None,
            group: "g".to_owned(),
            tags: Arc::default(),
        };
        (0..count).map(|i| Arc::new(path(i))).collect()
    }

    fn address(flow: u32) -> FlowAddress {
        FlowAddress {
            source: SocketAddr::from(([127, 0, 0, 1], flow as u16)),
            target: SocketAddr::from(([127, 0, 1, 0], 8100)),
            dscp: Dscp(0),
        }
    }

    /// A worker's share of flows that are dealt to paths in turn.
    fn layout(flows: &[u32], paths: u32) -> Arc<Layout> {
        Arc::new(Layout {
            flow_paths: flows.iter().map(|flow| flow % paths).collect(),
            flows: flows.to_vec(),
            paths: (0..paths).collect(),
            stamped: vec![true; paths as usize],
        })
    }

    fn round_trip(rtt: i64) -> Outcome {
        Outcome::Measured(Singleton {
            seq: crate::probe::Seq(0),
            sent: crate::time::Wall(0),
            rtt: Delay(rtt),
            residence: Delay(rtt / 10),
            owd_forward: Some(Delay(rtt / 3 - 1000)),
            owd_reverse: Some(Delay(rtt / 4)),
            ipdv: (rtt % 2 == 0).then_some(Delay(-rtt / 5)),
            sent_by: StampSource::Kernel,
            received_by: StampSource::Kernel,
        })
    }

    fn tally(layout: &Arc<Layout>, worker: u16, records: &[(u32, Outcome)]) -> Tally {
        let mut tally = Tally::new(layout, worker);
        tally.open(INTERVAL);
        for &(flow, outcome) in records {
            tally.record(&Record { flow: FlowId(flow), interval: INTERVAL, outcome });
        }
        tally
    }

    #[test]
    fn an_interval_is_whole_when_every_worker_has_delivered() {
        let layouts = vec![layout(&[0], 1), layout(&[1], 1)];
        let mut merger = Merger::new(paths(1), layouts.clone(), address);
        let first = tally(&layouts[0], 0, &[(0, Outcome::Sent), (0, Outcome::Lost)]);
        let second = tally(&layouts[1], 1, &[(0, Outcome::Sent), (0, round_trip(1_000_000))]);
        assert!(merger.add(&first, SPAN).is_none());
        assert!(merger.add(&first, SPAN).is_none(), "a second one of a worker");
        assert_eq!(merger.waiting().collect::<Vec<_>>(), [INTERVAL]);
        let summaries = merger.add(&second, SPAN).expect("whole");
        assert_eq!(merger.waiting().count(), 0);
        assert!(merger.add(&second, SPAN).is_none() && merger.waiting().count() == 0, "closed");
        let summary = &summaries[0];
        assert_eq!((summary.interval, summary.start, summary.end), (4, SPAN.start, SPAN.end));
        assert_eq!((summary.counts.sent, summary.counts.lost), (2, 1));
        assert_eq!((summary.flows, summary.flows_with_loss), (2, 1));
        let listed: Vec<u16> = summary.worst_flows.iter().map(|flow| flow.source.port()).collect();
        assert_eq!(listed, [0, 1]);
        let rtt = summary.rtt.expect("one round trip");
        assert_eq!((rtt.samples, rtt.mean, rtt.p50, rtt.max), (1, 1e6, 1_000_000, 1_000_000));
        assert_eq!(summary.suspect, []);
    }

    #[test]
    fn what_the_prober_did_wrong_is_said() {
        let layouts = vec![layout(&[0, 1], 1), layout(&[2], 1)];
        let merger = || Merger::new(paths(1), layouts.clone(), address);
        let suspect = |merger: &mut Merger, first: &Tally, second: &Tally| {
            merger.add(first, SPAN);
            merger.add(second, SPAN).expect("whole")[0].suspect.clone()
        };
        let fine = tally(&layouts[1], 1, &[]);
        let mut drops = tally(&layouts[0], 0, &[]);
        drops.local_drops(1);
        assert_eq!(suspect(&mut merger(), &drops, &fine), [Suspicion::LocalDrops]);
        let mut stepped = tally(&layouts[0], 0, &[(0, Outcome::NotSent)]);
        stepped.clock_stepped();
        assert_eq!(suspect(&mut merger(), &stepped, &fine), [Suspicion::NotSent, Suspicion::ClockStep]);
        // one missing stamp in 1000 replies passes, two do not
        let mut records = vec![(0, Outcome::Replied { reordered: false }); 1000];
        records.push((0, Outcome::StampMissing));
        assert_eq!(suspect(&mut merger(), &tally(&layouts[0], 0, &records), &fine), []);
        records.push((0, Outcome::StampMissing));
        assert_eq!(suspect(&mut merger(), &tally(&layouts[0], 0, &records), &fine), [Suspicion::StampsLost]);
        // dropped, and never delivered
        let mut short = merger();
        short.add(&fine, SPAN);
        let summaries = short.dropped(0, INTERVAL, SPAN).expect("whole");
        assert_eq!(summaries[0].suspect, [Suspicion::TallyDropped]);
        let mut short = merger();
        short.add(&fine, SPAN);
        let summaries = short.close(INTERVAL, SPAN).expect("closed");
        assert_eq!(summaries[0].suspect, [Suspicion::TallyDropped]);
        assert!(short.close(IntervalId(99), SPAN).is_none());
    }

    #[test]
    fn another_plan_has_its_own_paths_and_layouts() {
        let (old, new) = (vec![layout(&[0, 1], 1)], vec![layout(&[0, 1, 2], 3)]);
        let mut merger = Merger::new(paths(1), old.clone(), address);
        let fine = [(0, Outcome::Sent), (1, Outcome::Sent)];
        let before = tally(&old[0], 0, &fine);
        let mut after = Tally::new(&new[0], 0);
        after.open(IntervalId(INTERVAL.0 + 1));
        after.record(&Record { flow: FlowId(2), interval: after.interval(), outcome: Outcome::Sent });
        assert!(merger.is_current(&before) && !merger.is_current(&after));
        merger.change(after.interval(), paths(3), new.clone(), address);
        assert!(!merger.is_current(&before) && merger.is_current(&after));
        assert_eq!(merger.add(&before, SPAN).expect("whole").len(), 1);
        let later = merger.add(&after, SPAN).expect("whole");
        assert_eq!(
            later.iter().map(|summary| (summary.flows, summary.counts.sent)).collect::<Vec<_>>(),
            [(1, 0), (1, 0), (1, 1)]
        );
        merger.change(IntervalId(9), paths(1), old.clone(), address);
        assert_eq!(merger.plans.len(), 2, "the first plan is over");
    }

    #[test]
    fn lateness_and_drops_are_of_the_workers_that_probe_the_path() {
        // worker 0 probes path 0, worker 1 probes path 1
        let only = |path: u32| {
            Arc::new(Layout { flow_paths: vec![0], flows: vec![path], paths: vec![path], stamped: vec![false] })
        };
        let layouts = vec![only(0), only(1)];
        let mut merger = Merger::new(paths(2), layouts.clone(), address);
        let mut late = tally(&layouts[0], 0, &[(0, Outcome::Sent)]);
        late.sent_late_by(5_000_000);
        late.local_drops(7);
        merger.add(&late, SPAN);
        let summaries = merger.add(&tally(&layouts[1], 1, &[(0, Outcome::Sent)]), SPAN).expect("whole");
        let lateness = summaries[0].lateness.expect("one probe");
        assert!((lateness.p50 - 5_000_000).abs() < 50_000 && lateness.samples == 1);
        assert_eq!((summaries[0].local_drops, summaries[1].local_drops), (7, 0));
        assert_eq!(summaries[1].lateness, None);
        assert_eq!((summaries[0].path.dst, summaries[1].path.dst), (paths(2)[0].dst, paths(2)[1].dst));
    }

    #[test]
    fn the_worst_flows_lead() {
        let flows: Vec<u32> = (0..100).collect();
        let layouts = vec![layout(&flows, 1)];
        let mut records = Vec::new();
        for flow in 0..100 {
            records.push((flow, Outcome::Sent));
            match flow {
                50 => records.push((flow, Outcome::Refused)),
                70 => records.extend([(flow, Outcome::Sent), (flow, Outcome::Lost), (flow, Outcome::Lost)]),
                _ => records.push((flow, round_trip(1000 + i64::from(flow)))),
            }
        }
        let mut merger = Merger::new(paths(1), layouts.clone(), address).listing(5);
        let summaries = merger.add(&tally(&layouts[0], 0, &records), SPAN).expect("whole");
        let worst: Vec<(u16, u64)> = summaries[0].worst_flows.iter().map(|f| (f.source.port(), f.lost)).collect();
        assert_eq!(worst, [(70, 2), (50, 1), (99, 0), (98, 0), (97, 0)]);
        assert_eq!(summaries[0].flows_with_loss, 2);
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Sent),
            any::<bool>().prop_map(|reordered| Outcome::Replied { reordered }),
            (1i64..1 << 35).prop_map(round_trip),
            (1_000_000i64..1_100_000).prop_map(round_trip),
            Just(Outcome::Lost),
            Just(Outcome::LossDirected(Direction::Forward)),
            Just(Outcome::LossDirected(Direction::Reverse)),
            Just(Outcome::Late),
            Just(Outcome::Duplicate),
            Just(Outcome::Refused),
            Just(Outcome::NotSent),
        ]
    }

    proptest! {
        /// Three workers with a share of the flows each find what one with all of them finds.
        #[test]
        fn the_split_among_workers_does_not_show(
            records in prop::collection::vec((0u32..12, outcome()), 0..400),
            worker_of in prop::collection::vec(0u16..3, 12),
        ) {
            let all: Vec<u32> = (0..12).collect();
            let whole = vec![layout(&all, 2)];
            let mut merger = Merger::new(paths(2), whole.clone(), address).listing(12);
            let at_once = merger.add(&tally(&whole[0], 0, &records), SPAN).expect("whole");

            let shares: Vec<Vec<u32>> = (0..3)
                .map(|worker| all.iter().copied().filter(|&flow| worker_of[flow as usize] == worker).collect())
                .collect();
            let layouts: Vec<Arc<Layout>> = shares.iter().map(|share| layout(share, 2)).collect();
            let mut merger = Merger::new(paths(2), layouts.clone(), address).listing(12);
            let mut split = None;
            for (worker, share) in shares.iter().enumerate() {
                let own: Vec<(u32, Outcome)> = records.iter().filter_map(|(flow, outcome)| {
                    Some((share.iter().position(|mine| mine == flow)? as u32, *outcome))
                }).collect();
                split = merger.add(&tally(&layouts[worker], worker as u16, &own), SPAN);
            }
            let mut split = split.expect("whole");
            let mut at_once = at_once;
            for summary in split.iter_mut().chain(&mut at_once) {
                // flows that are equally bad have no order
                summary.worst_flows.sort_by_key(|flow| flow.source);
            }
            prop_assert_eq!(format!("{at_once:?}"), format!("{split:?}"));
        }

        #[test]
        fn percentiles_are_those_of_the_values(mut values in prop::collection::vec(1i64..1 << 36, 1..300)) {
            let layouts = vec![layout(&[0], 1)];
            let records: Vec<(u32, Outcome)> = values.iter().map(|&rtt| (0, round_trip(rtt))).collect();
            let mut merger = Merger::new(paths(1), layouts.clone(), address);
            let summaries = merger.add(&tally(&layouts[0], 0, &records), SPAN).expect("whole");
            let rtt = summaries[0].rtt.expect("at least one");
            values.sort_unstable();
            prop_assert_eq!((rtt.min, rtt.max), (values[0], values[values.len() - 1]));
            for (per_mille, found) in [(500, rtt.p50), (900, rtt.p90), (990, rtt.p99), (999, rtt.p999)] {
                let exact = values[(per_mille * values.len()).div_ceil(1000) - 1];
                prop_assert!((found - exact).abs() as f64 <= exact as f64 / 128.0 + 0.5, "{found} for {exact}");
            }
        }
    }
}
