//! What a collector shows of itself as metrics: its workers, its intervals, its plan, its reloads.
//!
//! Not responsible for paths ([`crate::http::metrics::paths`]) nor for how a page is written. Read [`Metrics`].
//! Everything is read from counters that are kept anyway: a scrape costs the workers nothing.

use super::Collector;
use super::progress::{Intervals, LATENESS_BOUNDS_NS, Progress};
use crate::config::Plan;
use crate::http::api::CurrentPlan;
use crate::http::metrics::page::{Labels, Page};
use crate::http::metrics::paths::Paths;
use crate::http::metrics::{self, process, server};
use crate::http::recent::Recent;
use crate::http::server::Server;
use crate::net::features::{Features, Io, StampPath};
use crate::sink::SinkCounters;
use crate::time::Wall;
use axum::Router;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

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

    /// Whether the last attempt did not refuse the configuration.
    pub fn last_successful(&self) -> bool {
        self.last_successful.load(Relaxed)
    }

    fn write(&self, page: &mut Page) {
        page.gauge("llama_config_last_reload_successful", "1 when the last load of the configuration succeeded.")
            .value(self.last_successful());
        let help = "When a configuration was last loaded, seconds since 1970.";
        page.gauge("llama_config_last_reload_success_timestamp_seconds", help)
            .value(self.last_success_ns.load(Relaxed) as f64 / 1e9);
        let mut family = page.counter("llama_config_reloads_total", "Reloads by result.");
        for (name, count) in ["applied", "unchanged", "refused"].into_iter().zip(&self.results) {
            family.put(&Labels::of(&[("result", name)]), count.load(Relaxed));
        }
    }
}

/// A number of a worker.
type Read = fn(&Progress) -> u64;

/// What becomes of probes: the values of the label `outcome`.
const OUTCOMES: [(&str, Read); 10] = [
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
type Row = (&'static str, &'static str, Read);

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

/// What a role hands over and what its metrics are made of.
#[derive(Debug)]
pub struct Metrics {
    /// Every interval's summaries are to be added here.
    pub paths: Paths,
    /// Every reload is to be counted here.
    pub reloads: ReloadCounters,
    plan: CurrentPlan,
    running: OnceLock<Running>,
    server: server::Started,
}

/// A collector that runs, or has run: its counters stay readable.
#[derive(Debug)]
struct Running {
    workers: Vec<(Labels, Arc<Progress>)>,
    intervals: Arc<Intervals>,
    features: Features,
}

impl Metrics {
    /// The metrics of a collector that will run `plan`, whose configuration was loaded at `now`.
    pub fn new(plan: CurrentPlan, now: Wall) -> Metrics {
        Metrics {
            paths: Paths::default(),
            reloads: ReloadCounters::new(now),
            plan,
            running: OnceLock::new(),
            server: server::Started::default(),
        }
    }

    /// From now on `collector`'s counters are shown.
    pub fn running(&self, collector: &Collector) {
        let labelled = |(number, progress): (usize, &Arc<Progress>)| {
            (Labels::of(&[("worker", &number.to_string())]), Arc::clone(progress))
        };
        self.running.get_or_init(|| Running {
            workers: collector.progress().iter().enumerate().map(labelled).collect(),
            intervals: Arc::clone(collector.intervals()),
            features: collector.features.clone(),
        });
    }

    /// From now on `server`'s counters are shown.
    pub fn served_by(&self, server: &Server) {
        self.server.get_or_init(|| server.counters());
    }

    /// Serves `/metrics`, with those of `sinks`, of what is kept in `recent`, and `further` ones.
    pub fn router(
        self: &Arc<Metrics>,
        sinks: Vec<Arc<SinkCounters>>,
        recent: Arc<Recent>,
        further: Option<metrics::Source>,
    ) -> Router {
        let metrics = Arc::clone(self);
        let own: metrics::Source = Box::new(move |page| {
            process::write_build(page, "collector");
            metrics.write(page);
            metrics::sinks::write(page, &sinks);
            server::write(page, &metrics.server);
            server::write_recent(page, &recent);
            process::write(page);
        });
        metrics::router([Some(own), further].into_iter().flatten().collect())
    }

    /// Writes what is the collector's own.
    fn write(&self, page: &mut Page) {
        if let Some(running) = self.running.get() {
            running.write_workers(page);
            running.write_intervals(page);
            running.write_features(page);
        }
        write_plan(&self.plan.get(), page);
        self.reloads.write(page);
        self.paths.write(page);
    }
}

impl Running {
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
        page.counter("llama_percentiles_displaced_total", help).value(intervals.displaced.get());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::page::Format;

    #[test]
    fn a_refused_reload_is_shown_until_one_succeeds() {
        let reloads = ReloadCounters::new(Wall(1_000_000_000));
        let page = || {
            let mut page = Page::new(Format::Text);
            reloads.write(&mut page);
            page.finish()
        };
        let has = |line: &str| {
            let page = page();
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        };
        has("llama_config_last_reload_successful 1");
        reloads.count(ReloadResult::Refused, Wall(2_000_000_000));
        has("llama_config_last_reload_successful 0");
        has("llama_config_last_reload_success_timestamp_seconds 1");
        has("llama_config_reloads_total{result=\"refused\"} 1");
        reloads.count(ReloadResult::Unchanged, Wall(3_000_000_000));
        reloads.count(ReloadResult::Applied, Wall(4_000_000_000));
        has("llama_config_last_reload_successful 1");
        has("llama_config_last_reload_success_timestamp_seconds 4");
        has("llama_config_reloads_total{result=\"applied\"} 1");
        has("llama_config_reloads_total{result=\"unchanged\"} 1");
    }
}
