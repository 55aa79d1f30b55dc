//! What a collector shows of itself as metrics: its workers, its intervals, its plan, its reloads.
//!
//! Not responsible for paths ([`crate::http::metrics::paths`]) nor for how a page is written. Read [`Shown`].
//! Everything is read from counters that are kept anyway: a scrape costs the workers nothing.

use super::Collector;
use super::progress::{Intervals, LATENESS_BOUNDS_NS, Progress};
use crate::config::Plan;
use crate::http::api::CurrentPlan;
use crate::http::metrics::page::{Labels, Page};
use crate::net::features::{Features, Io, StampPath};
use crate::time::Wall;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How an attempt to reload the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new plan runs.
    Applied,
    /// There was nothing to change.
    Unchanged,
    /// The new configuration is wrong or cannot be applied; the old plan goes on.
    Refused,
}

/// Reloads since the start; whoever reloads counts here.
#[derive(Debug)]
pub struct ReloadCounters {
    results: [AtomicU64; 3],
    last_successful: AtomicBool,
    last_success_ns: AtomicU64,
}

impl ReloadCounters {
    /// No reload yet; the configuration of the start was loaded at `now`.
    pub fn new(now: Wall) -> ReloadCounters {
        ReloadCounters {
            results: Default::default(),
            last_successful: AtomicBool::new(true),
            last_success_ns: AtomicU64::new(now.0),
        }
    }

    /// Counts an attempt that ended at `now`.
    pub fn count(&self, result: ReloadResult, now: Wall) {
        self.results[result as usize].fetch_add(1, Relaxed);
        self.last_successful.store(result != ReloadResult::Refused, Relaxed);
        if result != ReloadResult::Refused {
            self.last_success_ns.store(now.0, Relaxed);
        }
    }

    fn write(&self, page: &mut Page) {
        page.gauge("llama_config_last_reload_successful", "1 when the last load of the configuration succeeded.")
            .value(self.last_successful.load(Relaxed));
        let help = "When a configuration was last loaded, seconds since 1970.";
        page.gauge("llama_config_last_reload_success_timestamp_seconds", help)
            .value(self.last_success_ns.load(Relaxed) as f64 / 1e9);
        let mut family = page.counter("llama_config_reloads_total", "Reloads by result.");
        for (name, count) in ["applied", "unchanged", "refused"].into_iter().zip(&self.results) {
            family.put(&Labels::of(&[("result", name)]), count.load(Relaxed));
        }
    }
}

/// What becomes of probes: the values of the label `outcome`.
const OUTCOMES: [(&str, fn(&Progress) -> u64); 10] = [
    ("sent", |p| p.sent.get()),
    ("replied", |p| p.replied.get()),
    ("lost", |p| p.lost.get()),
    ("refused", |p| p.refused.get()),
    ("unreachable", |p| p.unreachable.get()),
    ("send_failed", |p| p.send_failed.get()),
    ("not_sent", |p| p.not_sent.get()),
    ("late", |p| p.late.get()),
    ("duplicate", |p| p.duplicates.get()),
    ("reordered", |p| p.reordered.get()),
];

/// A metric of a worker: name, help, value.
type Row = (&'static str, &'static str, fn(&Progress) -> u64);

const COUNTERS: [Row; 13] = [
    ("llama_local_drops_total", "Datagrams dropped by the sockets for want of buffer.", |p| p.local_drops.get()),
    ("llama_receive_errors_total", "Receive calls that failed, and datagrams too long.", |p| p.receive_errors.get()),
    ("llama_ring_overflows_total", "Overflows of the completion queue; nothing is lost.", |p| p.ring_overflows.get()),
    ("llama_receives_rearmed_total", "Multishot receives armed again.", |p| p.rearmed.get()),
    ("llama_unstamped_total", "Datagrams received without a kernel timestamp.", |p| p.unstamped.get()),
    ("llama_stamps_missing_total", "Replied probes without a round trip: their transmit timestamp never came.", |p| {
        p.stamps_missing.get()
    }),
    ("llama_stamps_stray_total", "Transmit timestamps of no probe remembered, or second ones.", |p| {
        p.stray_stamps.get()
    }),
    ("llama_unreadable_total", "Datagrams received that are no reply.", |p| p.unreadable.get()),
    ("llama_unasked_total", "Replies and ICMP errors that belong to no probe, or come from elsewhere.", |p| {
        p.unasked.get()
    }),
    ("llama_implausible_residence_total", "Replies whose reflector's timestamps cannot be true.", |p| {
        p.implausible_residence.get()
    }),
    ("llama_clock_steps_total", "Steps of the wall clock, as the worker saw them.", |p| p.clock_steps.get()),
    ("llama_tallies_given_up_total", "Intervals a worker gave up: the summary thread fell behind.", |p| {
        p.given_up.get()
    }),
    ("llama_records_after_close_total", "Outcomes that came after their interval was closed, in no summary.", |p| {
        p.after_close.get()
    }),
];

const GAUGES: [Row; 2] = [
    ("llama_probes_in_flight", "Probes whose fate is open.", |p| p.in_flight.get()),
    ("llama_probes_in_flight_limit", "Probes that may be in flight.", |p| p.in_flight_limit.get()),
];

/// A running collector, as its metrics see it.
#[derive(Debug)]
pub struct Shown {
    workers: Vec<(Labels, Arc<Progress>)>,
    intervals: Arc<Intervals>,
    features: Features,
    plan: CurrentPlan,
    reloads: Arc<ReloadCounters>,
}

impl Shown {
    /// The metrics of `collector`, which runs `plan`; they stay readable after its end.
    pub fn new(collector: &Collector, plan: CurrentPlan, reloads: Arc<ReloadCounters>) -> Shown {
        let labelled = |(number, progress): (usize, &Arc<Progress>)| {
            (Labels::of(&[("worker", &number.to_string())]), Arc::clone(progress))
        };
        Shown {
            workers: collector.progress().iter().enumerate().map(labelled).collect(),
            intervals: Arc::clone(collector.intervals()),
            features: collector.features.clone(),
            plan,
            reloads,
        }
    }

    /// Writes all of it.
    pub fn write(&self, page: &mut Page) {
        self.write_workers(page);
        self.write_intervals(page);
        write_plan(&self.plan.get(), page);
        self.reloads.write(page);
        self.write_features(page);
    }

    fn write_workers(&self, page: &mut Page) {
        let mut family = page.counter("llama_probes_total", "Probes by what became of them; see the documentation.");
        for (labels, progress) in &self.workers {
            for (outcome, value) in OUTCOMES {
                family.put(&labels.clone().with("outcome", outcome), value(progress));
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = page.counter(name, help);
            self.workers.iter().for_each(|(labels, progress)| _ = family.put(labels, value(progress)));
        }
        for (name, help, value) in GAUGES {
            let mut family = page.gauge(name, help);
            self.workers.iter().for_each(|(labels, progress)| _ = family.put(labels, value(progress)));
        }
        let bounds = LATENESS_BOUNDS_NS.map(|ns| ns as f64 / 1e9);
        let mut family = page.histogram("llama_send_lateness_seconds", "How late probes left: from due to sent.");
        for (labels, progress) in &self.workers {
            let (buckets, sum_ns) = progress.lateness.read();
            family.histogram(labels, &bounds, &buckets, sum_ns as f64 / 1e9);
        }
    }

    fn write_intervals(&self, page: &mut Page) {
        let intervals = &self.intervals;
        page.counter("llama_intervals_closed_total", "Intervals whose summaries were handed on.")
            .value(intervals.closed.get());
        page.counter("llama_intervals_incomplete_total", "Of the closed: without some worker's counts.")
            .value(intervals.incomplete.get());
        page.gauge("llama_last_interval_end_timestamp_seconds", "End of the last interval closed; 0 before the first.")
            .value(intervals.last_end_ns.get() as f64 / 1e9);
        let help = "Round trips counted at the edge of a histogram because its pages were used up.";
        page.counter("llama_histogram_displaced_total", help).value(intervals.displaced.get());
        // taken is read first: what is handed over in between makes the queue look longer, not negative
        let taken = intervals.taken.get();
        let handed: u64 = self.workers.iter().map(|(_, progress)| progress.handed_over.get()).sum();
        page.gauge("llama_tallies_queued", "Workers' tallies waiting for the summary thread.")
            .value(handed.saturating_sub(taken));
        page.gauge("llama_tallies_queued_limit", "Tallies that may wait.")
            .value(super::TALLIES_WAITING * self.workers.len());
    }

    fn write_features(&self, page: &mut Page) {
        let io = match self.features.io {
            Io::Uring => "io_uring",
            Io::Mmsg => "mmsg",
        };
        let stamps = match self.features.stamps {
            StampPath::UringCommand => "ring",
            StampPath::ErrorQueue => "error_queue",
            StampPath::User => "user",
        };
        page.gauge("llama_network_info", "Always 1; the labels say how datagrams and transmit timestamps go.")
            .put(&Labels::of(&[("io", io), ("transmit_stamps", stamps)]), 1u64);
    }
}

fn write_plan(plan: &Plan, page: &mut Page) {
    page.gauge("llama_interval_seconds", "Length of an interval.").value(plan.interval.as_secs_f64());
    page.gauge("llama_planned_probes_per_second", "Probes per second of all tests.").value(plan.rate());
    page.gauge("llama_paths", "Paths probed.").value(plan.paths.len());
    page.gauge("llama_flows", "Flows probed.").value(plan.flows.len());
    page.gauge("llama_targets", "Targets probed.").value(plan.targets.len());
    page.gauge("llama_sockets", "Sockets probed from.").value(plan.sources.len());
}
