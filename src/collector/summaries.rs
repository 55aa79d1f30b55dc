//! The summary thread: takes closed tallies, merges them interval by interval, hands summaries on and
//! gives the tallies back. Another plan is told here before a tally of it can come.

use super::ledger::{Closed, Segment, Timetable};
use super::outfit::Port;
use super::progress::Intervals;
use super::roster::Roster;
use crate::config::Plan;
use crate::probe::IntervalId;
use crate::summary::interval::{FlowAddress, Merger, Span};
use crate::summary::tally::{Layout, Tally};
use crate::summary::{Path, Summary, Suspicion};
use crate::time::{Clock, Delay, Monotonic, SystemClock, Wall};
use crossbeam_channel::{Receiver, Sender};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the tallies are of from some interval on.
pub struct Coverage {
    paths: Vec<Arc<Path>>,
    layouts: Vec<Arc<Layout>>,
    address: Box<dyn Fn(u32) -> FlowAddress + Send>,
}

impl Coverage {
    /// What workers with these rosters cover; `ports` are each worker's.
    pub fn new(plan: &Arc<Plan>, rosters: &[Roster], ports: &[Vec<Port>]) -> Coverage {
        let mut local_of: Vec<SocketAddr> = plan.sources.iter().map(|source| source.bind).collect();
        for (roster, ports) in rosters.iter().zip(ports) {
            for (source, port) in roster.share.sources.iter().zip(ports) {
                local_of[*source as usize] = port.local;
            }
        }
        let paths = plan.paths.iter().cloned().map(Arc::new).collect();
        let plan = Arc::clone(plan);
        let address = move |flow: u32| {
            let flow = plan.flows[flow as usize];
            let mut source = local_of[flow.source as usize];
            if source.ip().is_unspecified() {
                source.set_ip(plan.paths[flow.path as usize].src);
            }
            let target = plan.targets[flow.target as usize].address;
            FlowAddress { source, target, dscp: plan.shapes[flow.shape as usize].dscp }
        };
        let layouts = rosters.iter().map(|roster| Arc::clone(&roster.layout)).collect();
        Coverage { paths, layouts, address: Box::new(address) }
    }
}

impl std::fmt::Debug for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coverage").field("paths", &self.paths.len()).finish_non_exhaustive()
    }
}

/// What the thread needs.
pub struct Summaries {
    merger: Merger,
    timetable: Timetable,
    /// Other plans, each with its first interval.
    changes: Receiver<(Segment, Coverage)>,
    /// When sending ends, if that is known.
    end: Monotonic,
    intervals: Arc<Intervals>,
}

impl Summaries {
    /// For what is covered at first; what comes by `changes` is covered later.
    pub fn new(
        coverage: Coverage,
        timetable: Timetable,
        changes: Receiver<(Segment, Coverage)>,
        duration: Option<Duration>,
        intervals: Arc<Intervals>,
    ) -> Summaries {
        let start = timetable.last().start;
        let end = duration.map_or(Monotonic(u64::MAX), |duration| start.after(duration));
        let Coverage { paths, layouts, address } = coverage;
        Summaries { merger: Merger::new(paths, layouts, address), timetable, changes, end, intervals }
    }

    /// Lists up to `flows` flows per summary in place of the few worst.
    pub fn listing(mut self, flows: usize) -> Summaries {
        self.merger = self.merger.listing(flows);
        self
    }

    /// Runs until every worker is gone.
    pub fn run(mut self, closed: &Receiver<Closed>, backs: &[Sender<Tally>], mut deliver: impl FnMut(Vec<Summary>)) {
        for closed in closed {
            self.intervals.taken.add(1);
            self.look_for_change(closed.interval);
            let span = self.span(closed.interval);
            let summaries = match closed.tally {
                Some(mut tally) => {
                    let summaries = self.merger.add(&tally, span);
                    self.intervals.displaced.add(tally.histograms().displaced());
                    // of the plan before it is of use until the plan changes
                    if self.merger.is_current(&tally) || SystemClock.monotonic() < self.timetable.last().start {
                        tally.clear();
                        if let Some(back) = backs.get(usize::from(closed.worker)) {
                            let _ = back.try_send(tally); // the worker is gone, or has as many as it can use
                        }
                    }
                    summaries
                }
                None => self.merger.dropped(closed.worker, closed.interval, span),
            };
            if let Some(summaries) = summaries {
                self.close_before(closed.interval, &mut deliver);
                self.hand_on(summaries, &mut deliver);
            }
        }
        self.close_before(IntervalId(u32::MAX), &mut deliver);
    }

    fn look_for_change(&mut self, closed: IntervalId) {
        for (segment, Coverage { paths, layouts, address }) in self.changes.try_iter() {
            let needed = self.merger.waiting().next().map_or(closed, |oldest| oldest.min(closed));
            self.timetable.push(segment, needed);
            self.merger.change(segment.first, paths, layouts, address);
        }
    }

    /// Closes older intervals that a worker skipped: it was held up for a whole interval, or gave a tally up.
    fn close_before(&mut self, interval: IntervalId, deliver: &mut impl FnMut(Vec<Summary>)) {
        let older: Vec<IntervalId> = self.merger.waiting().filter(|waiting| *waiting < interval).collect();
        for waiting in older {
            let span = self.span(waiting);
            if let Some(summaries) = self.merger.close(waiting, span) {
                self.hand_on(summaries, deliver);
            }
        }
    }

    /// Hands an interval's summaries on, and counts it.
    fn hand_on(&self, summaries: Vec<Summary>, deliver: &mut impl FnMut(Vec<Summary>)) {
        let Some(end) = summaries.first().map(|summary| summary.end) else { return };
        let incomplete = summaries.iter().any(|summary| summary.suspect.contains(&Suspicion::TallyDropped));
        deliver(summaries);
        self.intervals.incomplete.add(incomplete.into());
        self.intervals.last_end_ns.set(end.0);
        self.intervals.closed.add(1);
    }

    /// When an interval was, in wall time as the clock is now; the last one ends when sending ended.
    fn span(&self, interval: IntervalId) -> Span {
        let (now, wall) = (SystemClock.monotonic(), SystemClock.wall());
        let end = self.timetable.end(interval).min(self.end).min(now);
        let start = self.timetable.start(interval).min(end);
        let at = |instant: Monotonic| -> Wall { wall.plus(Delay(-(now.since(instant) as i64))) };
        Span { start: at(start), end: at(end) }
    }
}
