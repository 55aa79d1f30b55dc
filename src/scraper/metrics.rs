//! The scraper's own metrics, for `/metrics`; `docs/scraper.md` documents them.
//!
//! A series per collector, of which there are 4096 at most; never one per path.

use super::View;
use super::collector::{State, Status};
use super::fetch::Failure;
use super::totals::DURATIONS;
use crate::http::metrics::page::{Labels, Page};
use crate::time::{Clock, SystemClock};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A metric of one collector: name, help, value.
type Row = (&'static str, &'static str, fn(&Status) -> u64);

const OF_COLLECTORS: [Row; 7] = [
    ("llama_scraper_summaries_total", "Summaries (points, of the first LLAMA's) pulled.", |s| s.summaries),
    ("llama_scraper_summaries_missed_total", "Summaries a collector had dropped before they were pulled.", |s| {
        s.missed
    }),
    ("llama_scraper_summaries_unreadable_total", "Summaries that were not understood and left out.", |s| s.unreadable),
    ("llama_scraper_points_without_path_total", "Points that name no path, left out of the history.", |s| {
        s.without_path
    }),
    ("llama_scraper_collector_restarts_total", "Restarts of a collector that were noticed.", |s| s.restarts),
    ("llama_scraper_collector_failures_total", "Pulls of a collector that failed.", |s| s.failures),
    ("llama_scraper_received_bytes_total", "Bytes of a collector's answers, unpacked.", |s| s.bytes),
];

/// Writes all of them.
pub fn write(page: &mut Page, view: &View) {
    let now = SystemClock.wall();
    let collectors = view.collectors();
    let all: Vec<(Labels, Status)> = (collectors.iter())
        .map(|collector| (Labels::of(&[("collector", &collector.address.to_string())]), collector.status()))
        .collect();

    let states = view.states(now);
    let mut family = page.gauge("llama_scraper_collectors", "Collectors by how they do.");
    for (state, name) in State::ALL {
        family.put(&Labels::of(&[("state", name)]), states[state as usize]);
    }
    let mut family = page.gauge("llama_scraper_collector_up", "1 while a collector answers as it should.");
    all.iter().for_each(|(labels, status)| _ = family.put(labels, !status.failing && status.pulls > 0));
    let mut family = page.gauge("llama_scraper_collector_lag_seconds", "Age of a collector's newest summary.");
    for (labels, status) in &all {
        if let Some(lag) = status.lag(now) {
            family.put(labels, lag.as_secs_f64());
        }
    }
    let mut family = page.gauge("llama_scraper_collector_interval_seconds", "A collector's interval, as far as known.");
    for (labels, status) in &all {
        if let Some(interval) = status.interval {
            family.put(labels, interval.as_secs_f64());
        }
    }
    for (name, help, value) in OF_COLLECTORS {
        let mut family = page.counter(name, help);
        all.iter().for_each(|(labels, status)| _ = family.put(labels, value(status)));
    }

    let totals = view.totals();
    let load = |counter: &AtomicU64| counter.load(Relaxed);
    let mut family = page.counter("llama_scraper_pulls_total", "Pulls by result.");
    family.put(&Labels::of(&[("result", "ok")]), load(&totals.fine));
    for (kind, count) in Failure::KINDS.into_iter().zip(&totals.failed) {
        family.put(&Labels::of(&[("result", kind)]), load(count));
    }
    let counts: Vec<u64> = totals.durations.iter().map(load).collect();
    page.histogram("llama_scraper_pull_duration_seconds", "How long pulls took, failed ones too.").histogram(
        &Labels::NONE,
        &DURATIONS,
        &counts,
        load(&totals.duration_ns) as f64 / 1e9,
    );
    let (writes, failed) = view.position_writes();
    for (name, help, value) in [
        (
            "llama_scraper_pulls_overrun_total",
            "Turns left out: the collector's last was still under way.",
            load(&totals.overruns),
        ),
        ("llama_scraper_pulls_skipped_total", "Turns left out: their time had passed.", load(&totals.skipped)),
        ("llama_scraper_pulls_put_off_total", "Pages put off because a sink had no room.", view.put_off()),
        (
            "llama_scraper_lists_refused_total",
            "Changed lists of collectors that were wrong.",
            load(&totals.lists_refused),
        ),
        ("llama_scraper_position_writes_total", "Writes of the file of positions begun.", writes),
        ("llama_scraper_position_writes_failed_total", "Writes of the file of positions that failed.", failed),
    ] {
        page.counter(name, help).value(value);
    }
}
