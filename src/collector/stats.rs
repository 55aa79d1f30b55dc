//! A collector's own state per interval: what its counters moved by since the last one.
//!
//! Not responsible for where it goes ([`crate::sink::stats`]). Read [`Meter`].

use super::progress::Progress;
use crate::sink::stats::Lateness;
use crate::sink::{CollectorStats, SinkSnapshot};
use crate::summary::{Statistics, Summary};
use std::sync::Arc;

/// Takes the differences from interval to interval.
#[derive(Debug)]
pub struct Meter {
    collector: String,
    last: Totals,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    sent: u64,
    replied: u64,
    lost: u64,
    not_sent: u64,
    send_failed: u64,
    local_drops: u64,
    unreadable: u64,
    unasked: u64,
    ring_overflows: u64,
    given_up: u64,
    clock_steps: u64,
    delivered: u64,
    refused: u64,
    dropped: u64,
}

impl Totals {
    fn of(workers: &[Arc<Progress>], sinks: &[SinkSnapshot]) -> Totals {
        let mut totals = Totals::default();
        for worker in workers {
            totals.sent += worker.sent.get();
            totals.replied += worker.replied.get();
            totals.lost += worker.unanswered();
            totals.not_sent += worker.not_sent.get();
            totals.send_failed += worker.send_failed.get();
            totals.local_drops += worker.local_drops.get();
            totals.unreadable += worker.unreadable.get();
            totals.unasked += worker.unasked.get();
            totals.ring_overflows += worker.ring_overflows.get();
            totals.given_up += worker.given_up.get();
            totals.clock_steps += worker.clock_steps.get();
        }
        for sink in sinks {
            totals.delivered += sink.delivered;
            totals.refused += sink.refused;
            totals.dropped += sink.dropped;
        }
        totals
    }
}

impl Meter {
    /// A meter of the collector with this name, whose counters start at 0.
    pub fn new(collector: &str) -> Meter {
        Meter { collector: collector.into(), last: Totals::default() }
    }

    /// A meter named as this host.
    pub fn of_this_host() -> Meter {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Meter::new(name.as_deref().unwrap_or("unknown"))
    }

    /// The state at the end of the interval of these summaries, which are not none, and what happened since the last
    /// one. Probes are counted by when they were sent or decided, not by the interval they belong to.
    pub fn read(&mut self, summaries: &[Summary], workers: &[Arc<Progress>], sinks: &[SinkSnapshot]) -> CollectorStats {
        let now = Totals::of(workers, sinks);
        let last = std::mem::replace(&mut self.last, now);
        // workers may have been replaced, which takes their counts with them
        let moved = |of: fn(&Totals) -> u64| of(&now).saturating_sub(of(&last));
        let lateness = summaries.iter().filter_map(|summary| summary.lateness.as_ref());
        CollectorStats {
            collector: self.collector.clone(),
            start: summaries.iter().map(|summary| summary.start).min().unwrap_or_default(),
            end: summaries.iter().map(|summary| summary.end).max().unwrap_or_default(),
            sent: moved(|t| t.sent),
            replied: moved(|t| t.replied),
            lost: moved(|t| t.lost),
            late: summaries.iter().map(|summary| summary.counts.late).sum(),
            not_sent: moved(|t| t.not_sent),
            send_failed: moved(|t| t.send_failed),
            local_drops: moved(|t| t.local_drops),
            unreadable: moved(|t| t.unreadable),
            unasked: moved(|t| t.unasked),
            ring_overflows: moved(|t| t.ring_overflows),
            given_up: moved(|t| t.given_up),
            clock_steps: moved(|t| t.clock_steps),
            lateness: lateness.fold(None, |worst, one| Some(worse(worst, one))),
            paths: summaries.len() as u64,
            flows: summaries.iter().map(|summary| u64::from(summary.flows)).sum(),
            suspect: summaries.iter().filter(|summary| !summary.suspect.is_empty()).count() as u64,
            delivered: moved(|t| t.delivered),
            refused: moved(|t| t.refused),
            dropped: moved(|t| t.dropped),
            queued: sinks.iter().map(|sink| sink.queued).sum(),
            spooled: sinks.iter().map(|sink| sink.spool_summaries).sum(),
        }
    }
}

/// Workers' samples cannot be joined any more: the worst of each value.
fn worse(worst: Option<Lateness>, one: &Statistics) -> Lateness {
    let worst = worst.unwrap_or(Lateness { mean: one.mean, p99: one.p99, max: one.max });
    Lateness { mean: worst.mean.max(one.mean), p99: worst.p99.max(one.p99), max: worst.max.max(one.max) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::shape::{Dscp, MethodKind};
    use crate::summary::{Counts, Path, Suspicion};
    use crate::time::Wall;

    fn summary(late: u64, lateness: i64, suspect: &[Suspicion]) -> Summary {
        Summary {
            path: Arc::new(Path {
                src: [10, 0, 0, 1].into(),
                dst: [10, 0, 0, 2].into(),
                method: MethodKind::Udp,
                dscp: Dscp(0),
                size: None,
                group: "g".into(),
                tags: Arc::default(),
            }),
            interval: 1,
            start: Wall(5),
            end: Wall(9),
            counts: Counts { late, ..Counts::default() },
            rtt: None,
            ipdv: None,
            owd_forward: None,
            owd_reverse: None,
            residence: None,
            rtt_histogram: vec![],
            sent_by: None,
            received_by: None,
            lateness: Some(Statistics {
                samples: 1,
                mean: lateness as f64,
                min: 0,
                p50: 0,
                p90: 0,
                p99: 10 - lateness,
                p999: 0,
                max: lateness,
            }),
            local_drops: 0,
            flows: 4,
            flows_with_loss: 0,
            worst_flows: vec![],
            reporter: None,
            seen: Default::default(),
            suspect: suspect.to_vec(),
        }
    }

    #[test]
    fn counts_are_of_the_interval_and_what_waits_is_of_its_end() {
        let workers = [Arc::new(Progress::default()), Arc::default()];
        let mut meter = Meter::new("here");
        workers[0].sent.add(10);
        workers[1].sent.add(5);
        let sinks = |delivered, queued| {
            [SinkSnapshot { delivered, queued, spool_summaries: 2 * queued, ..SinkSnapshot::default() }]
        };
        let first = meter.read(&[summary(1, 3, &[]), summary(2, 4, &[Suspicion::NotSent])], &workers, &sinks(7, 3));
        let expected = CollectorStats {
            collector: "here".into(),
            start: Wall(5),
            end: Wall(9),
            sent: 15,
            late: 3,
            lateness: Some(Lateness { mean: 4.0, p99: 7, max: 4 }),
            paths: 2,
            flows: 8,
            suspect: 1,
            delivered: 7,
            queued: 3,
            spooled: 6,
            ..CollectorStats::default()
        };
        assert_eq!(first, expected);
        workers[1].sent.add(1);
        workers[1].clock_steps.add(2);
        let second = meter.read(&[summary(0, 0, &[])], &workers, &sinks(9, 1));
        assert_eq!((second.sent, second.clock_steps, second.delivered, second.queued), (1, 2, 2, 1));
        // other workers: their counts begin anew
        assert_eq!(meter.read(&[summary(0, 0, &[])], &workers[..1], &sinks(9, 1)).sent, 0);
    }
}
