//! What the scraper serves: the state of its collectors, its health, and the newest summaries of all of them.
//!
//! Not responsible for serving: see [`crate::http::server`]. `docs/scraper.md` documents it. Read [`router`].

use super::View;
use super::collector::{State, StatusRecord};
use crate::http::answer::{Refusal, json};
use crate::http::api::health::{SinkRecord, SummariesRecord};
use crate::http::api::{Endpoint, Reason, summaries};
use crate::http::matrix;
use crate::sink::rfc3339;
use crate::time::{Clock, SystemClock};
use axum::Router;
use axum::extract;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use std::collections::BTreeMap;

/// Every endpoint but `/metrics`, which the role adds.
pub const ENDPOINTS: [(&str, &str); 5] = [
    ("/status", "ok, while the program runs"),
    ("/api/v1/", "this list"),
    ("/api/v1/collectors", "every collector and how it does"),
    ("/api/v1/health", "whether all is well, and since when not"),
    ("/api/v1/summaries", "the newest summaries of all collectors: after=N, or from=, to=, path="),
];

#[derive(Serialize)]
struct Health {
    status: &'static str,
    reasons: Vec<Reason>,
    started: String,
    uptime_s: f64,
    interval_s: f64,
    collectors: BTreeMap<&'static str, u64>,
    summaries: Option<SummariesRecord>,
    sinks: Vec<SinkRecord>,
}

/// The endpoints of a scraper.
pub fn router(view: View) -> Router {
    let recent = view.recent().map(|recent| summaries::router(recent.clone()));
    let router = Router::new()
        .route("/", get(list))
        .route("/status", get(|| async { "ok" }))
        .route("/api/v1/", get(list))
        .route("/api/v1/collectors", get(collectors))
        .route("/api/v1/health", get(health))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "not found", "GET /api/v1/ lists what there is") })
        .with_state(view);
    match recent {
        Some(recent) => router.merge(recent),
        None => router,
    }
}

async fn list() -> Response {
    let endpoint = |(path, what)| Endpoint { method: "GET", path, what };
    let endpoints: Vec<Endpoint> = ENDPOINTS.into_iter().map(endpoint).chain(matrix::ENDPOINTS).collect();
    json(&BTreeMap::from([("endpoints", endpoints)]))
}

async fn collectors(extract::State(view): extract::State<View>) -> Response {
    let now = SystemClock.wall();
    let record = |collector: &std::sync::Arc<_>| StatusRecord::of(collector, now, view.pause());
    let records: Vec<StatusRecord> = view.collectors().iter().map(record).collect();
    json(&BTreeMap::from([("collectors", records)]))
}

async fn health(extract::State(view): extract::State<View>) -> Response {
    let now = SystemClock.wall();
    let reasons = view.reasons(now);
    let degraded = reasons.iter().any(|reason| reason.now);
    let states = view.states(now);
    json(&Health {
        status: if degraded { "degraded" } else { "ok" },
        reasons,
        started: rfc3339(view.started()),
        uptime_s: now.0.saturating_sub(view.started().0) as f64 / 1e9,
        interval_s: view.pause().as_secs_f64(),
        collectors: State::ALL.into_iter().map(|(state, name)| (name, states[state as usize])).collect(),
        summaries: view.recent().map(|recent| recent.counters().into()),
        sinks: view.sinks().iter().map(|sink| sink.snapshot().into()).collect(),
    })
}
