//! Metrics of the history, for every role that keeps one.

use super::page::{Labels, Page};
use crate::history::{HistoryCounters, HistorySnapshot};

/// A number of the history.
type Read = fn(&HistorySnapshot) -> u64;

/// A metric: name, help, value.
type Row = (&'static str, &'static str, Read);

const COUNTERS: [Row; 6] = [
    ("llama_history_added_total", "Summaries given to the history.", |s| s.added),
    ("llama_history_commits_total", "Transactions that brought summaries to the disk.", |s| s.commits),
    ("llama_history_errors_total", "Transactions that failed; they are tried again.", |s| s.errors),
    ("llama_history_damaged_files_total", "Damaged files set aside.", |s| s.damaged_files),
    ("llama_history_damaged_blocks_total", "Damaged blocks of entries, left out of answers.", |s| s.damaged_blocks),
    ("llama_history_evicted_total", "Entries deleted: too old, or the oldest beyond the limit of bytes.", |s| {
        s.evicted_age + s.evicted_bytes
    }),
];

const GAUGES: [Row; 7] = [
    ("llama_history_queued", "Summaries waiting for the disk.", |s| s.queued),
    ("llama_history_queued_bytes", "Bytes waiting for the disk.", |s| s.queued_bytes),
    ("llama_history_bytes", "Bytes of what is kept.", |s| s.bytes),
    ("llama_history_file_bytes", "Bytes the file takes on the disk.", |s| s.file_bytes),
    ("llama_history_max_bytes", "Bytes the history may take.", |s| s.max_bytes),
    ("llama_history_short", "1 while summaries are kept as they came for less than asked for.", |s| s.short.into()),
    ("llama_history_paths", "Paths known to the history.", |s| s.paths),
];

/// What became of summaries: the values of the label `result`.
const RESULTS: [(&str, Read); 3] =
    [("committed", |s| s.committed), ("dropped", |s| s.dropped), ("refused", |s| s.refused)];

/// Writes the counters of a history.
pub fn write(page: &mut Page, counters: &HistoryCounters) {
    let snapshot = counters.snapshot();
    for (name, help, value) in COUNTERS {
        page.counter(name, help).value(value(&snapshot));
    }
    let mut family = page.counter("llama_history_summaries_total", "Summaries by what became of them.");
    for (result, value) in RESULTS {
        family.put(&Labels::of(&[("result", result)]), value(&snapshot));
    }
    for (name, help, value) in GAUGES {
        page.gauge(name, help).value(value(&snapshot));
    }
    for (name, help, ns) in [
        (
            "llama_history_oldest_timestamp_seconds",
            "End of the oldest entry, seconds since 1970; 0 while there is none.",
            snapshot.oldest,
        ),
        (
            "llama_history_newest_timestamp_seconds",
            "End of the newest interval, seconds since 1970; 0 while there is none.",
            snapshot.newest,
        ),
    ] {
        page.gauge(name, help).value(ns as f64 / 1e9);
    }
}
