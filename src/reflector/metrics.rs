//! What a reflector shows of itself over HTTP: metrics, and in short which build it is and whether it is well.
//!
//! Everything is read from what workers publish once a tick anyway: a scrape costs them nothing. Read [`router`].

use super::{Answered, DropReason, Options, Running, Totals};
use crate::http::answer;
use crate::http::api::health::{Reading, Watch};
use crate::http::api::{self, Reason};
use crate::http::metrics::page::{Labels, Page};
use crate::http::metrics::{self, process, server};
use crate::net::features::{Features, Io};
use crate::sink::rfc3339;
use crate::time::{Clock, SystemClock, Wall};
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use std::sync::Arc;

/// A number of a worker.
type Read = fn(&Totals) -> u64;

/// A metric of a worker: name, help, value.
type Row = (&'static str, &'static str, Read);

const COUNTERS: [Row; 10] = [
    ("llama_reflector_received_total", "Datagrams received: answered or dropped.", |t| t.received),
    ("llama_reflector_send_failed_total", "Replies that the kernel did not take.", |t| t.send_failed),
    ("llama_reflector_sessions_total", "Sessions begun (stateful only).", |t| t.notes.sessions),
    ("llama_reflector_sessions_full_total", "Packets answered statelessly: no room for their session.", |t| {
        t.notes.sessions_full
    }),
    ("llama_reflector_sources_forgotten_total", "Sources forgotten before their time: no room for another.", |t| {
        t.notes.sources_forgotten
    }),
    ("llama_local_drops_total", "Datagrams dropped by the sockets for want of buffer.", |t| t.network.local_drops),
    ("llama_receive_errors_total", "Receive calls that failed, and datagrams too long.", |t| {
        t.network.receive_errors + t.network.truncated
    }),
    ("llama_ring_overflows_total", "Overflows of the completion queue; nothing is lost.", |t| t.network.ring_overflows),
    ("llama_receives_rearmed_total", "Multishot receives armed again.", |t| t.network.rearmed),
    ("llama_unstamped_total", "Datagrams received without a kernel timestamp.", |t| t.network.unstamped),
];

/// What is noteworthy about replies: the values of the label `event`.
const EVENTS: [(&str, Read); 3] = [
    ("malformed_tlvs", |t| t.notes.malformed_tlvs),
    ("unauthentic_tlvs", |t| t.notes.unauthentic_tlvs),
    ("refused_dscps", |t| t.notes.refused_dscps),
];

/// Writes every worker's counters.
fn write_workers(page: &mut Page, workers: &[Totals]) {
    let workers: Vec<(Labels, &Totals)> =
        workers.iter().enumerate().map(|(n, totals)| (Labels::of(&[("worker", &n.to_string())]), totals)).collect();
    for (name, help, value) in COUNTERS {
        let mut family = page.counter(name, help);
        workers.iter().for_each(|(labels, totals)| _ = family.put(labels, value(totals)));
    }
    let mut family = page.counter("llama_reflector_replies_total", "Replies by format of the probe.");
    for (labels, totals) in &workers {
        for format in Answered::ALL {
            let name = format.name();
            let name = name.strip_prefix("replied_").unwrap_or(name);
            family.put(&labels.clone().with("format", name), totals.formats.of(format));
        }
    }
    let mut family = page.counter("llama_reflector_dropped_total", "Datagrams without a reply, by reason.");
    for (labels, totals) in &workers {
        for reason in DropReason::ALL {
            family.put(&labels.clone().with("reason", reason.name()), totals.dropped.of(reason));
        }
    }
    let mut family = page.counter("llama_reflector_noted_total", "Replies with something noteworthy about them.");
    for (labels, totals) in &workers {
        for (event, value) in EVENTS {
            family.put(&labels.clone().with("event", event), value(totals));
        }
    }
}

/// Writes what the reflector may do, and how.
fn write_limits(page: &mut Page, options: &Options, features: &Features) {
    let help = "Packets per second answered at most; absent without a limit.";
    let limits = [("all", options.max_pps), ("source", options.max_pps_per_source)];
    if limits.iter().any(|(_, limit)| limit.is_some()) {
        let mut family = page.gauge("llama_reflector_packets_per_second_limit", help);
        for (scope, limit) in limits {
            if let Some(limit) = limit {
                family.put(&Labels::of(&[("scope", scope)]), limit);
            }
        }
    }
    if options.stateful {
        page.gauge("llama_reflector_sessions_limit", "Sessions that each worker remembers.").value(options.sessions);
    }
    let io = match features.io {
        Io::Uring => "io_uring",
        Io::Mmsg => "mmsg",
    };
    page.gauge("llama_network_info", "Always 1; the labels say how datagrams and transmit timestamps go.")
        .put(&Labels::of(&[("io", io), ("transmit_stamps", "none")]), 1u64);
}

/// What a reflector cannot help: name, meaning, how often.
const TROUBLES: [Row; 4] = [
    ("local_drops", "datagrams dropped by full sockets: give it more cores", |t| t.network.local_drops),
    ("send_failed", "replies the kernel did not take", |t| t.send_failed),
    ("receive_errors", "receive calls that failed", |t| t.network.receive_errors),
    ("sessions_full", "packets answered statelessly for want of room", |t| t.notes.sessions_full),
];

/// Whether the reflector is well, and since when not.
#[derive(Debug)]
pub struct Health {
    running: Running,
    started: Wall,
    watch: Watch,
}

#[derive(Serialize)]
struct HealthRecord {
    status: &'static str,
    reasons: Vec<Reason>,
    started: String,
    uptime_s: f64,
}

impl Health {
    /// The health of a reflector that started now.
    pub fn new(running: Running) -> Health {
        Health { running, started: SystemClock.wall(), watch: Watch::default() }
    }

    /// Looks at the counters; once a second or so, so that it is known when a trouble began.
    pub fn look(&self) -> Vec<Reason> {
        let totals = self.running.totals();
        let readings = TROUBLES.map(|(name, meaning, value)| Reading::count(name, meaning, value(&totals)));
        self.watch.observe(SystemClock.wall(), readings)
    }

    fn answer(&self) -> Response {
        let reasons = self.look();
        let status = if reasons.iter().any(|reason| reason.now) { "degraded" } else { "ok" };
        let uptime_ns = SystemClock.wall().minus(self.started).0.max(0);
        answer::json(&HealthRecord {
            status,
            reasons,
            started: rfc3339(self.started),
            uptime_s: (uptime_ns / 1_000_000) as f64 / 1e3,
        })
    }
}

/// Serves `/metrics`, `/api/v1/health` and `/api/v1/build` of a running reflector; `started` is filled with the
/// counters of the server that does.
pub fn router(health: Arc<Health>, options: &Options, features: &Features, started: server::Started) -> Router {
    let (options, features, running) = (options.clone(), features.clone(), health.running.clone());
    let of_role: metrics::Source = Box::new(move |page| {
        process::write_build(page, "reflector");
        write_workers(page, &running.workers());
        write_limits(page, &options, &features);
    });
    let of_server: metrics::Source = Box::new(move |page| server::write(page, &started));
    metrics::router(vec![of_role, of_server, Box::new(process::write)])
        .route("/api/v1/health", get(move || async move { health.answer() }))
        .route("/api/v1/build", get(api::build))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::page::Format;

    #[test]
    fn every_number_a_reflector_counts_is_shown() {
        let totals = Totals::all_different();
        let mut page = Page::new(Format::Text);
        write_workers(&mut page, &[totals]);
        let page = page.finish();
        let shown: Vec<u64> = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        // the two errors of receiving are one metric, and replies are the sum of their formats
        let joined = totals.network.receive_errors + totals.network.truncated;
        assert!(shown.contains(&joined), "{page}");
        for (name, value) in totals.entries() {
            let elsewhere = ["replied", "truncated", "receive_errors"].contains(&name);
            assert!(elsewhere || shown.contains(&value), "{name} is not on the page:\n{page}");
        }
    }
}
