//! The endpoints of a collector: upstream's, and our own under `/api/v1/`.
//!
//! Responsible for what is asked and how it is written; `docs/api.md` documents it and a test compares the
//! two. Not responsible for serving ([`super::server`]). Read [`State`] and [`router`] first.

use super::answer::Refusal;
use super::recent::Recent;
use crate::config::Plan;
use crate::sink::SinkCounters;
use crate::time::Wall;
use axum::Router;
use axum::routing::get;
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

/// Every endpoint.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/status", get(|| async { "ok" }))
        .fallback(|| async { Refusal::of(axum::http::StatusCode::NOT_FOUND) })
        .with_state(state)
}
