//! The endpoints of the matrix: what many summaries say about groups of paths, over any time that is kept.
//!
//! Responsible for what can be asked, for how much at once, and for how it is written; `docs/api.md` documents it and
//! a test compares the two. Not responsible for where the numbers come from ([`crate::matrix::Source`]). A question's
//! way: [`question`] understands it → a thread that may wait asks the source → [`records`] names the figures. Read
//! [`Shown`] and [`router`] first.

mod cells;
mod extent;
mod flows;
mod paths;
mod question;
mod records;
mod series;
mod worst;

use super::answer::Refusal;
use super::api::{Endpoint, endpoint};
use super::events::{self, News};
use super::metrics::page::{Labels, Page};
use crate::matrix::{Source, SourceError};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions that are answered at once; others wait for their turn.
pub const QUESTIONS_AT_ONCE: usize = 2;
/// How long a question waits for its turn: less than the server gives an answer.
const TURN_WITHIN: Duration = Duration::from_secs(8);

/// Every endpoint of [`router`].
pub const ENDPOINTS: [Endpoint; 8] = [
    endpoint("GET", "/api/v1/matrix/extent", "what is kept, of which time, and what paths can be grouped by"),
    endpoint("GET", "/api/v1/matrix", "groups × groups of paths and their figures"),
    endpoint("GET", "/api/v1/matrix/paths", "paths and their figures, worst first"),
    endpoint("GET", "/api/v1/matrix/flows", "flows, worst first"),
    endpoint("GET", "/api/v1/matrix/series", "figures of paths, joined, step by step"),
    endpoint("GET", "/api/v1/matrix/flow", "one flow over time"),
    endpoint("GET", "/api/v1/matrix/probers", "how each prober itself did"),
    endpoint("GET", "/api/v1/events", "server-sent events: when there are new summaries"),
];

/// What clients did, since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    questions: AtomicU64,
    nanoseconds: AtomicU64,
    no_turn: AtomicU64,
    failed: AtomicU64,
    pub(super) streams_refused: AtomicU64,
}

/// A source of the matrix as it is shown; shared, cheap to clone.
#[derive(Clone)]
pub struct Shown(Arc<Inner>);

struct Inner {
    source: Arc<dyn Source>,
    role: &'static str,
    turns: Arc<Semaphore>,
    counters: Counters,
    news: News,
}

impl Shown {
    /// Shows `source` as that of `role`. While somebody listens for events it is asked for its newest interval
    /// twice per interval, and at least once per `look`.
    pub fn new(source: Arc<dyn Source>, role: &'static str, look: Duration) -> Shown {
        let turns = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        Shown(Arc::new(Inner { source, role, turns, counters: Counters::default(), news: News::new(look) }))
    }

    /// The source.
    pub(super) fn source(&self) -> &dyn Source {
        &*self.0.source
    }

    pub(super) fn news(&self) -> &News {
        &self.0.news
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Asks on a thread that may wait, when it is this question's turn.
    pub(super) async fn ask<A: Send + 'static>(
        &self,
        answer: impl FnOnce(&Shown) -> Result<A, Refusal> + Send + 'static,
    ) -> Result<A, Refusal> {
        let Ok(Ok(turn)) = timeout(TURN_WITHIN, Arc::clone(&self.0.turns).acquire_owned()).await else {
            self.0.counters.no_turn.fetch_add(1, Relaxed);
            let error = format!("{QUESTIONS_AT_ONCE} questions are being answered, for {TURN_WITHIN:?} already");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, "ask again later, or for a shorter time"));
        };
        let shown = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let begin = std::time::Instant::now();
            let answer = answer(&shown);
            let spent = crate::time::nanos(begin.elapsed());
            let counters = &shown.0.counters;
            counters.questions.fetch_add(1, Relaxed);
            counters.nanoseconds.fetch_add(spent, Relaxed);
            counters.failed.fetch_add(u64::from(answer.is_err()), Relaxed);
            drop(turn); // also when the client has gone: what was begun counts until its end
            answer
        });
        asked.await.unwrap_or_else(|_| Err(Refusal::of(StatusCode::INTERNAL_SERVER_ERROR)))
    }

    /// Writes what asking costs, for `/metrics`.
    pub fn write(&self, page: &mut Page) {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.0.counters;
        page.summary("llama_matrix_answer_duration_seconds", "Time spent on answering questions of the matrix.")
            .summary(&Labels::NONE, &[], load(&counters.nanoseconds) as f64 / 1e9, load(&counters.questions));
        page.counter("llama_matrix_failed_total", "Questions of the matrix that could not be answered.")
            .value(load(&counters.failed));
        let mut family =
            page.counter("llama_matrix_refused_total", "Questions and streams beyond what is possible at once.");
        family.put(&Labels::of(&[("what", "question")]), load(&counters.no_turn));
        family.put(&Labels::of(&[("what", "stream")]), load(&counters.streams_refused));
        page.gauge("llama_matrix_streams", "Streams of events open.").value(self.0.news.open());
    }
}

/// Every endpoint; without anything to show each says how to get it.
pub fn router(shown: Option<Shown>) -> Router {
    let handlers: [MethodRouter<Option<Shown>>; ENDPOINTS.len()] = [
        answering(extent::parse, extent::answer),
        answering(cells::parse, cells::answer),
        answering(paths::parse, paths::answer),
        answering(flows::parse, flows::answer),
        answering(series::parse, series::answer),
        answering(flows::parse_one, flows::answer_one),
        answering(paths::parse_probers, paths::answer_probers),
        get(events::events),
    ];
    let mut router = Router::new();
    for (endpoint, handler) in ENDPOINTS.iter().zip(handlers) {
        router = router.route(endpoint.path, handler);
    }
    router.with_state(shown)
}

/// The handler that understands a request by `parse` and answers it by `answer`, which may wait.
fn answering<Q: Send + 'static>(
    parse: fn(&Uri) -> Result<Q, Refusal>,
    answer: fn(Q, &Shown) -> Result<Response, Refusal>,
) -> MethodRouter<Option<Shown>> {
    get(move |State(shown): State<Option<Shown>>, uri: Uri| async move {
        let shown = shown.ok_or_else(nothing_shown)?;
        let question = parse(&uri)?;
        shown.ask(move |shown| answer(question, shown)).await
    })
}

/// The refusal where no history is kept.
pub(super) fn nothing_shown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no history is kept", "start with --history DIR")
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Refusal {
        let (status, remedy) = match &error {
            SourceError::Away(_) => (StatusCode::SERVICE_UNAVAILABLE, "ask again later"),
            SourceError::TooMuch(_) => (StatusCode::BAD_REQUEST, "ask for a shorter time or for fewer paths"),
            SourceError::Broken(_) => (StatusCode::SERVICE_UNAVAILABLE, "see the log of the program that answers"),
        };
        Refusal::new(status, error.to_string(), remedy)
    }
}
