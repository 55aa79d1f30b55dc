//! Metrics of the HTTP server itself and of what it keeps to be asked for.

use super::page::{Labels, Page};
use crate::http::counters::{Counters, CountersSnapshot};
use crate::http::recent::Recent;
use std::sync::{Arc, OnceLock};

/// A server's counters, which are there once it has started: after the router that shows them was made.
pub type Started = Arc<OnceLock<Arc<Counters>>>;

/// A metric of the server: name, help, value.
type Row = (&'static str, &'static str, fn(&CountersSnapshot) -> u64);

const COUNTERS: [Row; 6] = [
    ("llama_http_connections_accepted_total", "Connections taken.", |c| c.accepted),
    ("llama_http_connections_rejected_total", "Connections closed at once: as many as allowed were open.", |c| {
        c.rejected
    }),
    ("llama_http_timeouts_total", "Connections closed and requests given up at a time limit.", |c| c.timed_out),
    ("llama_http_accept_errors_total", "Connections the kernel could not hand over.", |c| c.accept_errors),
    ("llama_http_panics_total", "Answers that ended in a bug.", |c| c.panics),
    ("llama_http_sent_bytes_total", "Bytes written to clients.", |c| c.bytes),
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Writes the counters of a server; nothing before it has started.
pub fn write(page: &mut Page, started: &Started) {
    let Some(counters) = started.get().map(|counters| counters.snapshot()) else { return };
    for (name, help, value) in COUNTERS {
        page.counter(name, help).value(value(&counters));
    }
    page.gauge("llama_http_connections_open", "Connections open now.").value(counters.open);
    let mut family = page.counter("llama_http_answers_total", "Answers by class of status.");
    for (class, count) in CLASSES.into_iter().zip(counters.answers) {
        family.put(&Labels::of(&[("status", class)]), count);
    }
}

/// Writes how much is kept of the newest summaries.
pub fn write_recent(page: &mut Page, recent: &Recent) {
    let counters = recent.counters();
    page.gauge("llama_recent_summaries", "Summaries kept to be asked for.").value(counters.held);
    page.gauge("llama_recent_bytes", "Bytes of the summaries kept to be asked for.").value(counters.bytes);
    page.counter("llama_recent_evicted_total", "Summaries that made room for newer ones.").value(counters.evicted);
}
