//! The endpoints of a collector: upstream's, and our own under `/api/v1/`.
//!
//! Responsible for what is asked and how it is written; `docs/api.md` documents it and a test compares the
//! two. Not responsible for serving ([`super::server`]). Read [`State`] and [`router`] first.

pub mod health;
mod paths;
pub(super) mod query;
mod reload;
pub mod summaries;
mod upstream;

pub use paths::build;

use super::answer::{Refusal, joined, json};
use super::matrix;
use super::recent::Recent;
use crate::config::Plan;
use crate::sink::SinkCounters;
use crate::time::Wall;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{Html, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde::Serialize;
use std::sync::{Arc, PoisonError, RwLock};

/// The plan that runs now; replaced by a reload.
#[derive(Clone, Debug)]
pub struct CurrentPlan(Arc<RwLock<Arc<Plan>>>);

impl CurrentPlan {
    /// The plan of the start.
    pub fn new(plan: Arc<Plan>) -> CurrentPlan {
        CurrentPlan(Arc::new(RwLock::new(plan)))
    }

    /// The plan as it is now.
    pub fn get(&self) -> Arc<Plan> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another plan from now on.
    pub fn set(&self, plan: Arc<Plan>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = plan;
    }
}

/// Why something in the prober falls short, and how often.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// What, in one word.
    pub name: &'static str,
    /// What it means.
    pub meaning: String,
    /// How often since the start; for what is a state, how many now.
    pub count: u64,
    /// When it began this time, RFC 3339.
    pub since: String,
    /// Whether it went on within the last minute.
    pub now: bool,
}

/// How the role itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    /// What falls short, or did.
    pub reasons: Vec<Reason>,
    /// What the kernel lets the role do, by name.
    pub features: Vec<(String, String)>,
}

/// Why a reload was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The new configuration is wrong; the old one goes on.
    Configuration(String),
    /// It cannot be done now.
    Busy(String),
}

/// Reloads the configuration and says what changed. May wait.
pub type Reload = Arc<dyn Fn() -> Result<serde_json::Value, Refused> + Send + Sync>;

/// What a role hands over to be shown.
#[derive(Clone)]
pub struct State {
    /// The newest summaries.
    pub recent: Arc<Recent>,
    /// What is probed.
    pub plan: CurrentPlan,
    /// How the role is doing.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Reloads the configuration, where the role can.
    pub reload: Option<Reload>,
    /// Whether hosts other than this one may reload.
    pub remote_reload: bool,
    /// The destinations.
    pub sinks: Vec<Arc<SinkCounters>>,
    /// When the role started.
    pub started: Wall,
}

/// An endpoint, as `/api/v1/` lists it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Endpoint {
    /// HTTP method; HEAD goes where GET does.
    pub method: &'static str,
    /// Its path; braces stand for a value.
    pub path: &'static str,
    /// What it gives.
    pub what: &'static str,
}

pub(super) const fn endpoint(method: &'static str, path: &'static str, what: &'static str) -> Endpoint {
    Endpoint { method, path, what }
}

/// Every endpoint of [`router`]; those of the matrix are listed with them.
pub const ENDPOINTS: [Endpoint; 12] = [
    endpoint("GET", "/", "links to the endpoints"),
    endpoint("GET", "/status", "ok, while the program runs (as upstream)"),
    endpoint("GET", "/influxdata", "the latest interval per source and destination (as upstream's Go generation)"),
    endpoint("GET", "/latency", "the latest interval per source and destination (as upstream's Python generation)"),
    endpoint("GET", "/api/v1/", "this list"),
    endpoint("GET", "/api/v1/summaries", "summaries: latest, after=N, or from=, to=, path="),
    endpoint("GET", "/api/v1/paths", "every path with its latest loss and round-trip time"),
    endpoint("GET", "/api/v1/paths/{id}/flows", "the flows of a path in the latest interval, worst first"),
    endpoint("GET", "/api/v1/targets", "every target and what probes it"),
    endpoint("GET", "/api/v1/health", "whether the prober itself does all it should, and since when not"),
    endpoint("GET", "/api/v1/build", "version and build"),
    endpoint("POST", "/api/v1/reload", "reads the configuration again; from this host only, unless allowed"),
];

/// Every endpoint.
pub fn router(state: State) -> Router {
    let handlers: [MethodRouter<State>; ENDPOINTS.len()] = [
        get(|| async { Html(index(all())) }),
        get(|| async { "ok" }),
        get(upstream::influxdata),
        get(upstream::latency),
        get(|| async { list(all()) }),
        get(summaries::summaries),
        get(paths::paths),
        get(paths::flows),
        get(paths::targets),
        get(health::health),
        get(paths::build),
        post(reload::reload).layer(Extension(reload::Gate::default())),
    ];
    let mut router = Router::new();
    for (endpoint, handler) in ENDPOINTS.iter().zip(handlers) {
        router = router.route(endpoint.path, handler);
    }
    router.fallback(|| async { Refusal::of(StatusCode::NOT_FOUND) }).with_state(state)
}

/// Every endpoint of a role that keeps a history.
fn all() -> impl Iterator<Item = Endpoint> {
    ENDPOINTS.into_iter().chain(matrix::ENDPOINTS)
}

/// The endpoints of a program that shows a matrix and nothing else.
pub fn matrix_alone(shown: matrix::Shown) -> Router {
    let alone = || {
        ENDPOINTS.into_iter().filter(|endpoint| ["/", "/status", "/api/v1/", "/api/v1/build"].contains(&endpoint.path))
    };
    let all = move || alone().chain(matrix::ENDPOINTS);
    Router::new()
        .route("/", get(move || async move { Html(index(all())) }))
        .route("/status", get(|| async { "ok" }))
        .route("/api/v1/", get(move || async move { list(all()) }))
        .route("/api/v1/build", get(paths::build))
        .fallback(|| async { Refusal::of(StatusCode::NOT_FOUND) })
        .merge(matrix::router(Some(shown)))
}

/// `GET /api/v1/`.
fn list(endpoints: impl Iterator<Item = Endpoint>) -> Response {
    #[derive(Serialize)]
    struct List {
        endpoints: Vec<Endpoint>,
    }
    json(&List { endpoints: endpoints.collect() })
}

/// `GET /`: for people who come by a browser.
fn index(endpoints: impl Iterator<Item = Endpoint>) -> String {
    let item = |endpoint: Endpoint| match endpoint {
        Endpoint { method: "GET", path, what } if !path.contains('{') => {
            format!("<li><a href=\"{path}\">{path}</a>: {what}</li>\n")
        }
        Endpoint { method, path, what } => format!("<li>{method} {path}: {what}</li>\n"),
    };
    let items: String = endpoints.filter(|endpoint| endpoint.path != "/").map(item).collect();
    format!("<!doctype html>\n<meta charset=\"utf-8\">\n<title>LLAMA</title>\n<h1>LLAMA</h1>\n<ul>\n{items}</ul>\n")
}

/// A long JSON text, built as the client takes it: `head`, the items with commas between, `tail`.
fn long_list<T: Send + Unpin + 'static>(
    head: &str,
    items: impl Iterator<Item = T> + Send + Unpin + 'static,
    write: impl Fn(&T, &mut Vec<u8>) + Send + Unpin + 'static,
    tail: &'static str,
) -> Body {
    let head = std::iter::once(head.as_bytes().to_vec());
    let items = items.enumerate().map(move |(position, item)| {
        let mut text = if position == 0 { Vec::new() } else { vec![b','] };
        write(&item, &mut text);
        text
    });
    joined(head.chain(items).chain(std::iter::once(tail.as_bytes().to_vec())))
}
