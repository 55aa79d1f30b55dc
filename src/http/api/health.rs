//! `/api/v1/health`: whether the role itself does all it should, and since when not.
//!
//! Responsible for telling what goes on now from what is past: a role gives readings of counters and
//! states, [`Watch`] remembers when each began. Read [`Watch`] first.

use super::query::Parameters;
use super::{Health, Reason, State};
use crate::history::HistoryCounters;
use crate::http::answer::{Refusal, json};
use crate::http::counters::{Counters, CountersSnapshot};
use crate::http::recent::RecentCounters;
use crate::sink::{SinkCounters, SinkSnapshot, rfc3339};
use crate::time::{Clock, SystemClock, Wall};
use axum::Extension;
use axum::extract;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A counter that has not grown for this long is past: 60 s.
const PAST_NS: u64 = 60_000_000_000;
const NS_PER_S: f64 = 1e9;

/// A value that is 0 while all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What, in one word.
    pub name: &'static str,
    /// What it means when it is not 0.
    pub meaning: String,
    /// How much.
    pub value: u64,
    /// Whether it counts since the start; else it is how many there are now.
    pub counts: bool,
}

impl Reading {
    /// A count since the start.
    pub fn count(name: &'static str, meaning: impl Into<String>, value: u64) -> Reading {
        Reading { name, meaning: meaning.into(), value, counts: true }
    }

    /// How many there are now.
    pub fn state(name: &'static str, meaning: impl Into<String>, value: u64) -> Reading {
        Reading { name, meaning: meaning.into(), value, counts: false }
    }
}

/// What is wrong with the destinations of a role, all together; the same names at every role.
pub fn sink_readings(sinks: &[Arc<SinkCounters>]) -> Vec<Reading> {
    let (mut failed, mut refused, mut dropped, mut gone) = (0, 0, 0, 0);
    let (mut spooled, mut spool_dropped, mut spool_damaged, mut spool_errors) = (0, 0, 0, 0);
    let mut last = Vec::new();
    for sink in sinks {
        let counters = sink.snapshot();
        failed += counters.failed_attempts;
        refused += counters.refused;
        dropped += counters.dropped;
        gone += u64::from(sink.is_gone());
        spooled += counters.spool_summaries;
        spool_dropped += counters.spool_dropped;
        spool_damaged += counters.spool_damaged;
        spool_errors += counters.spool_errors;
        last.extend(counters.last_error);
    }
    let failing = format!("destinations did not take summaries: {}", last.join("; "));
    vec![
        Reading::count("sink_failures", failing, failed),
        Reading::count("sink_refused", "destinations refused summaries for good", refused),
        Reading::count("sink_dropped", "summaries were dropped: a destination was away for too long", dropped),
        Reading::state("sinks_gone", "destinations will take no summary any more", gone),
        Reading::state("spooled", "summaries wait on disk: the database does not take them", spooled),
        Reading::count("spool_dropped", "summaries on disk grew too many or too old", spool_dropped),
        Reading::count("spool_damaged", "summaries on disk were damaged and set aside", spool_damaged),
        Reading::count("spool_errors", "the disk did not take summaries: they wait in memory", spool_errors),
    ]
}

/// What is wrong with the history of a role; the same names at every role.
pub fn history_readings(history: &HistoryCounters) -> Vec<Reading> {
    let counters = history.snapshot();
    let failing = match counters.last_error {
        Some(error) => format!("the disk did not take the history's summaries: {error}"),
        None => "the disk did not take the history's summaries".into(),
    };
    let damaged = counters.damaged_files + counters.damaged_blocks;
    vec![
        Reading::count("history_errors", failing, counters.errors),
        Reading::count(
            "history_dropped",
            "summaries did not reach the history: the disk was too slow",
            counters.dropped,
        ),
        Reading::state(
            "history_short",
            format!(
                "summaries are kept as they came for less than --history-age: {} MiB, its --history-max-bytes, are too few",
                counters.max_bytes >> 20
            ),
            counters.short.into(),
        ),
        Reading::count("history_damaged", "files or blocks of the history were damaged and left out", damaged),
    ]
}

/// Remembers since when each reading is not 0. To be shown readings once a second or so.
#[derive(Debug, Default)]
pub struct Watch(Mutex<BTreeMap<&'static str, Seen>>);

/// What is remembered of a reading.
#[derive(Clone, Copy, Debug)]
struct Seen {
    value: u64,
    /// When it began this time, and when it last grew (or was not 0).
    since: Wall,
    last: Wall,
}

impl Watch {
    /// Takes readings of an instant and gives those that are not 0 as reasons.
    pub fn observe(&self, now: Wall, readings: impl IntoIterator<Item = Reading>) -> Vec<Reason> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons = Vec::new();
        for Reading { name, meaning, value, counts } in readings {
            if value == 0 {
                seen.remove(name);
                continue;
            }
            let entry = seen.entry(name).or_insert(Seen { value: 0, since: now, last: now });
            if !counts || value > entry.value {
                if counts && now.0.saturating_sub(entry.last.0) > PAST_NS {
                    entry.since = now;
                }
                entry.last = now;
            }
            entry.value = value;
            let goes_on = now.0.saturating_sub(entry.last.0) <= PAST_NS;
            reasons.push(Reason { name, meaning, count: value, since: rfc3339(entry.since), now: goes_on });
        }
        reasons
    }
}

#[derive(Serialize)]
struct HealthRecord {
    status: &'static str,
    reasons: Vec<Reason>,
    started: String,
    uptime_s: f64,
    interval_s: f64,
    paths: usize,
    flows: usize,
    probes_per_second: f64,
    features: BTreeMap<String, String>,
    summaries: SummariesRecord,
    sinks: Vec<SinkRecord>,
    http: HttpRecord,
}

#[derive(Serialize)]
struct HttpRecord {
    accepted: u64,
    open: u64,
    rejected: u64,
    timed_out: u64,
    accept_errors: u64,
    panics: u64,
    bytes: u64,
    answers: [u64; 5],
}

impl From<CountersSnapshot> for HttpRecord {
    fn from(c: CountersSnapshot) -> HttpRecord {
        HttpRecord {
            accepted: c.accepted,
            open: c.open,
            rejected: c.rejected,
            timed_out: c.timed_out,
            accept_errors: c.accept_errors,
            panics: c.panics,
            bytes: c.bytes,
            answers: c.answers,
        }
    }
}

/// What is kept to be asked for, as the API shows it.
#[derive(Debug, Serialize)]
pub struct SummariesRecord {
    held: u64,
    bytes: u64,
    evicted: u64,
}

/// A sink's counters as the API shows them.
#[derive(Debug, Serialize)]
pub struct SinkRecord {
    name: String,
    accepted: u64,
    delivered: u64,
    refused: u64,
    dropped: u64,
    queued: u64,
    queued_bytes: u64,
    attempts: u64,
    failed_attempts: u64,
    last_error: Option<String>,
}

impl From<RecentCounters> for SummariesRecord {
    fn from(kept: RecentCounters) -> SummariesRecord {
        SummariesRecord { held: kept.held, bytes: kept.bytes, evicted: kept.evicted }
    }
}

impl From<SinkSnapshot> for SinkRecord {
    fn from(s: SinkSnapshot) -> SinkRecord {
        SinkRecord {
            name: s.name,
            accepted: s.accepted,
            delivered: s.delivered,
            refused: s.refused,
            dropped: s.dropped,
            queued: s.queued,
            queued_bytes: s.queued_bytes,
            attempts: s.attempts,
            failed_attempts: s.failed_attempts,
            last_error: s.last_error,
        }
    }
}

/// `GET /api/v1/health`: always 200, so that whoever asks gets the reasons too.
pub(super) async fn health(
    extract::State(state): extract::State<State>,
    Extension(http): Extension<Arc<Counters>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let Health { reasons, features } = (state.health)();
    let plan = state.plan.get();
    let kept = state.recent.counters();
    let degraded = reasons.iter().any(|reason| reason.now);
    Ok(json(&HealthRecord {
        status: if degraded { "degraded" } else { "ok" },
        reasons,
        started: rfc3339(state.started),
        uptime_s: (SystemClock.wall().minus(state.started).0.max(0) as f64 / NS_PER_S * 1e3).round() / 1e3,
        interval_s: plan.interval.as_secs_f64(),
        paths: plan.paths.len(),
        flows: plan.flows.len(),
        probes_per_second: plan.rate(),
        features: features.into_iter().collect(),
        summaries: kept.into(),
        sinks: state.sinks.iter().map(|sink| sink.snapshot().into()).collect(),
        http: http.snapshot().into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Wall {
        Wall(seconds * 1_000_000_000)
    }

    #[test]
    fn counts_are_past_a_minute_after_they_stopped_growing() {
        let watch = Watch::default();
        let seen = |seconds, value| watch.observe(at(seconds), [Reading::count("drops", "", value)]);
        assert!(seen(0, 0).is_empty());
        let reason = &seen(10, 3)[0];
        assert_eq!((reason.count, reason.now, &*reason.since), (3, true, "1970-01-01T00:00:10.000000000Z"));
        assert!(seen(70, 3)[0].now);
        assert!(!seen(71, 3)[0].now);
        let reason = &seen(200, 4)[0];
        assert_eq!((reason.count, reason.now, &*reason.since), (4, true, "1970-01-01T00:03:20.000000000Z"));
        assert_eq!(seen(230, 5)[0].since, "1970-01-01T00:03:20.000000000Z");
    }

    #[test]
    fn states_are_over_when_they_are_over() {
        let watch = Watch::default();
        let seen = |seconds, value| watch.observe(at(seconds), [Reading::state("suspect", "", value)]);
        assert_eq!(seen(10, 3)[0].since, "1970-01-01T00:00:10.000000000Z");
        let reason = &seen(1000, 2)[0];
        assert_eq!((reason.count, reason.now, &*reason.since), (2, true, "1970-01-01T00:00:10.000000000Z"));
        assert!(seen(1001, 0).is_empty());
        assert_eq!(seen(1002, 1)[0].since, "1970-01-01T00:16:42.000000000Z");
    }
}
