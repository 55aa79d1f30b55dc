//! Metrics of the destinations of summaries, for every role that has some.

use super::page::{Labels, Page};
use crate::sink::{SinkCounters, SinkSnapshot};
use std::sync::Arc;

/// A metric of one sink: name, help, value.
type Row = (&'static str, &'static str, fn(&SinkSnapshot) -> u64);

const COUNTERS: [Row; 4] = [
    ("llama_sink_accepted_total", "Summaries given to the sink.", |s| s.accepted),
    ("llama_sink_attempts_total", "Requests or writes begun.", |s| s.attempts),
    ("llama_sink_attempts_failed_total", "Of the attempts: not successful, for whatever reason.", |s| {
        s.failed_attempts
    }),
    ("llama_sink_attempts_repeated_total", "Of the attempts: repeating a failed one.", |s| s.retried),
];

const GAUGES: [Row; 2] = [
    ("llama_sink_queued", "Summaries waiting in memory, the ones in the current attempt included.", |s| s.queued),
    ("llama_sink_queued_bytes", "Bytes of the summaries waiting in memory.", |s| s.queued_bytes),
];

/// What became of summaries: the values of the label `result`.
const RESULTS: [(&str, fn(&SinkSnapshot) -> u64); 3] =
    [("delivered", |s| s.delivered), ("refused", |s| s.refused), ("dropped", |s| s.dropped)];

/// Writes the counters of all sinks; nothing when there is none.
pub fn write(page: &mut Page, sinks: &[Arc<SinkCounters>]) {
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
}
