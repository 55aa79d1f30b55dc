//! Prometheus metrics: `GET /metrics`.
//!
//! Responsible for writing a page at each scrape from what others count anyway, and for what a scrape costs.
//! Not responsible for serving ([`super`]) nor for a role's own metrics: those are [`Source`]s, which the roles
//! hand over (`docs/metrics.md` lists all of them). Read [`router`], then [`page::Page`].

pub mod history;
pub mod page;
pub mod paths;
pub mod process;
pub mod server;
pub mod sinks;
pub mod tags;

use super::answer::Refusal;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use page::{Format, Labels, Page};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Writes some families; called at every scrape, on a thread of the HTTP side. Two sources never write the same
/// name.
pub type Source = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Pages that may exist at a time, being written or sent: a page of 10 000 paths with two tags each has 20 MB.
const MAX_PAGES: usize = 4;

/// What scraping itself costs.
#[derive(Debug, Default)]
struct Cost {
    scrapes: AtomicU64,
    nanoseconds: AtomicU64,
    refused: AtomicU64,
}

/// What the handler needs.
struct Metrics {
    sources: Vec<Source>,
    cost: Cost,
    pages: Arc<Semaphore>,
}

/// A page and its place among the pages that may exist, freed when the last byte is sent or given up.
struct Sent {
    text: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Serves `GET /metrics` made of `sources`, in this order, and of what scraping costs.
///
/// Answers text format 0.0.4 or OpenMetrics 1.0 as the `Accept` header asks, and 503 while [`MAX_PAGES`] pages
/// are under way.
pub fn router(sources: Vec<Source>) -> Router {
    let pages = Arc::new(Semaphore::new(MAX_PAGES));
    let metrics = Arc::new(Metrics { sources, cost: Cost::default(), pages });
    Router::new().route("/metrics", get(scrape)).with_state(metrics)
}

async fn scrape(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&metrics.pages).try_acquire_owned() else {
        metrics.cost.refused.fetch_add(1, Relaxed);
        let error = format!("{MAX_PAGES} scrapes are under way, no more are possible");
        let remedy = "scrape less often, or from fewer servers";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, remedy).into_response();
    };
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    // tens of milliseconds with many paths: other answers do not wait for it
    let written = tokio::task::spawn_blocking(move || metrics.page(format)).await;
    match written {
        Ok(text) => {
            let content_type = HeaderValue::from_static(format.content_type());
            let body = Body::from(Bytes::from_owner(Sent { text, _place: place }));
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(), // a source's bug
    }
}

impl Metrics {
    /// The whole page as of now.
    fn page(&self, format: Format) -> String {
        let begin = Instant::now();
        let mut page = Page::new(format);
        for source in &self.sources {
            source(&mut page);
        }
        let spent = crate::time::nanos(begin.elapsed());
        let nanoseconds = self.cost.nanoseconds.fetch_add(spent, Relaxed) + spent;
        let scrapes = self.cost.scrapes.fetch_add(1, Relaxed) + 1;
        let name = "llama_metrics_scrape_duration_seconds";
        page.summary(name, "Time spent on writing pages of metrics, this one included.").summary(
            &Labels::NONE,
            &[],
            nanoseconds as f64 / 1e9,
            scrapes,
        );
        page.counter("llama_metrics_scrapes_refused_total", "Scrapes refused because too many were under way.")
            .value(self.cost.refused.load(Relaxed));
        page.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use tower::ServiceExt;

    fn ask(router: &Router, accept: Option<&str>) -> Response {
        let mut request = Request::get("/metrics");
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(router.clone().oneshot(request.body(Body::empty()).unwrap())).unwrap()
    }

    fn text(response: Response) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(axum::body::to_bytes(response.into_body(), usize::MAX)).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_scrape_writes_all_sources_and_its_own_cost() {
        let router = router(vec![
            Box::new(|page| page.gauge("llama_a", "A.").value(1u64)),
            Box::new(|page| page.gauge("llama_b", "B.").value(2u64)),
        ]);
        let response = ask(&router, None);
        assert_eq!(response.headers()[header::CONTENT_TYPE], Format::Text.content_type());
        let page = text(response);
        assert!(page.contains("\nllama_a 1\n") && page.contains("\nllama_b 2\n"), "{page}");
        assert!(page.contains("\nllama_metrics_scrape_duration_seconds_count 1\n"), "{page}");
        let response = ask(&router, Some("application/openmetrics-text"));
        assert_eq!(response.headers()[header::CONTENT_TYPE], Format::OpenMetrics.content_type());
        let page = text(response);
        assert!(page.ends_with("# EOF\n") && page.contains("_count 2\n"), "{page}");
    }

    #[test]
    fn pages_are_bounded_and_a_refusal_is_counted() {
        let router = router(vec![]);
        let held: Vec<Response> = (0..MAX_PAGES).map(|_| ask(&router, None)).collect();
        assert!(held.iter().all(|response| response.status() == StatusCode::OK));
        let refused = ask(&router, None);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(text(refused).contains("remedy"));
        drop(held);
        let page = text(ask(&router, None));
        assert!(page.contains("llama_metrics_scrapes_refused_total 1\n"), "{page}");
    }
}
