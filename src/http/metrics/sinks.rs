//! Metrics of the destinations of summaries, for every role that has some.

use super::page::{Labels, Page};
use crate::sink::{SinkCounters, SinkSnapshot};
use std::sync::Arc;

/// A number of a sink.
type Read = fn(&SinkSnapshot) -> u64;

/// A metric of one sink: name, help, value.
type Row = (&'static str, &'static str, Read);

const COUNTERS: [Row; 11] = [
    ("llama_sink_accepted_total", "Summaries given to the sink.", |s| s.accepted),
    ("llama_sink_attempts_total", "Requests or writes begun.", |s| s.attempts),
    ("llama_sink_attempts_failed_total", "Of the attempts: not successful, for whatever reason.", |s| {
        s.failed_attempts
    }),
    ("llama_sink_attempts_repeated_total", "Of the attempts: repeating a failed one.", |s| s.retried),
    ("llama_sink_spool_found_total", "Summaries found in the spool at the start.", |s| s.spool_found),
    ("llama_sink_spooled_total", "Summaries written to the spool.", |s| s.spooled),
    ("llama_sink_spool_delivered_total", "Of the delivered: out of the spool.", |s| s.spool_delivered),
    ("llama_sink_spool_dropped_total", "Of the dropped: out of the spool, for its size or their age.", |s| {
        s.spool_dropped
    }),
    ("llama_sink_spool_damaged_total", "Summaries in the spool that could not be read back.", |s| s.spool_damaged),
    ("llama_sink_spool_refused_total", "Of the refused: kept in the file of refused lines.", |s| s.spool_refused),
    ("llama_sink_spool_errors_total", "Writes to the spool that failed.", |s| s.spool_errors),
];

const GAUGES: [Row; 5] = [
    ("llama_sink_queued", "Summaries waiting in memory, the ones in the current attempt included.", |s| s.queued),
    ("llama_sink_queued_bytes", "Bytes of the summaries waiting in memory.", |s| s.queued_bytes),
    ("llama_sink_spool_queued", "Summaries waiting in the spool.", |s| s.spool_summaries),
    ("llama_sink_spool_bytes", "Bytes of the spool's segments.", |s| s.spool_bytes),
    ("llama_sink_spool_segments", "Segments of the spool.", |s| s.spool_segments),
];

/// What became of summaries: the values of the label `result`.
const RESULTS: [(&str, Read); 3] =
    [("delivered", |s| s.delivered), ("refused", |s| s.refused), ("dropped", |s| s.dropped)];

/// Writes the counters of all sinks; nothing when there is none.
pub fn write(page: &mut Page, sinks: &[Arc<SinkCounters>]) {
    let gone: Vec<bool> = sinks.iter().map(|sink| sink.is_gone()).collect();
    let sinks: Vec<(Labels, SinkSnapshot)> =
        sinks.iter().map(|sink| (Labels::of(&[("sink", sink.name())]), sink.snapshot())).collect();
    if sinks.is_empty() {
        return;
    }
    for (name, help, value) in COUNTERS {
        let mut family = page.counter(name, help);
        sinks.iter().for_each(|(labels, snapshot)| _ = family.put(labels, value(snapshot)));
    }
    let mut family = page.counter("llama_sink_summaries_total", "Summaries by what became of them.");
    for (labels, snapshot) in &sinks {
        for (result, value) in RESULTS {
            family.put(&labels.clone().with("result", result), value(snapshot));
        }
    }
    for (name, help, value) in GAUGES {
        let mut family = page.gauge(name, help);
        sinks.iter().for_each(|(labels, snapshot)| _ = family.put(labels, value(snapshot)));
    }
    let help = "Time of the oldest point in the spool, seconds since 1970; 0 when nothing waits there.";
    let mut family = page.gauge("llama_sink_spool_oldest_timestamp_seconds", help);
    sinks.iter().for_each(|(labels, snapshot)| _ = family.put(labels, snapshot.spool_oldest as f64 / 1e9));
    let mut family = page.gauge("llama_sink_gone", "1 when the sink will never take a summary again.");
    sinks.iter().zip(gone).for_each(|((labels, _), gone)| _ = family.put(labels, gone));
}
