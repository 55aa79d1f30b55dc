//! `/api/v1/summaries`: the latest interval, all that came after a sequence number, or a span of time.
//!
//! Read [`ReceivedPage`] for what a scraper gets.

use super::query::Parameters;
use super::{State, long_list};
use crate::http::answer::{Refusal, json_text};
use crate::http::recent::{Page, Range, Recent};
use crate::sink::record::{OwnedRecord, SummaryRecord};
use crate::summary::Summary;
use crate::time::Wall;
use axum::Router;
use axum::extract::{self, FromRef};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;

/// Summaries of one answer at most, and unless another limit is asked for.
pub const MOST_SUMMARIES: u64 = 20_000;

/// What `/api/v1/summaries?after=N` answers, as its reader sees it; [`OwnedRecord`] becomes a [`Summary`].
#[derive(Clone, Debug, Deserialize)]
pub struct ReceivedPage {
    /// Which process answered: when it is another than before, sequence numbers begin anew.
    pub instance: String,
    /// Sequence of the oldest summary kept there; 0 when none is.
    pub first: u64,
    /// Sequence of the newest.
    pub newest: u64,
    /// What to ask after next.
    pub next: u64,
    /// Summaries after N that are kept no more.
    pub lost: u64,
    /// The summaries, ascending.
    pub summaries: Vec<OwnedRecord>,
}

/// A summary and its sequence number.
type Numbered = (u64, Arc<Summary>);

fn write(numbered: &Numbered, histogram: bool, out: &mut Vec<u8>) {
    let (sequence, summary) = numbered;
    out.extend_from_slice(format!(r#"{{"sequence":{sequence},"#).as_bytes());
    let at = out.len();
    let record = match histogram {
        true => SummaryRecord::with_histogram(summary),
        false => SummaryRecord::from(&**summary),
    };
    // as in the sink of JSON lines: it cannot fail
    let _ = serde_json::to_writer(&mut *out, &record);
    out.remove(at); // the record's own brace
}

/// `head` is the object up to its list of summaries.
fn answer(head: String, summaries: Vec<Numbered>, histogram: bool) -> Response {
    let write = move |numbered: &Numbered, out: &mut Vec<u8>| write(numbered, histogram, out);
    json_text(long_list(&format!(r#"{head}"summaries":["#), summaries.into_iter(), write, "]}"))
}

impl FromRef<State> for Arc<Recent> {
    fn from_ref(state: &State) -> Arc<Recent> {
        Arc::clone(&state.recent)
    }
}

/// `GET /api/v1/summaries` alone, for a role that has no plan.
pub fn router(recent: Arc<Recent>) -> Router {
    Router::new().route("/api/v1/summaries", get(summaries)).with_state(recent)
}

/// `GET /api/v1/summaries`.
pub(super) async fn summaries(
    extract::State(recent): extract::State<Arc<Recent>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["after", "limit", "from", "to", "path", "histogram"])?;
    let limit = parameters.number("limit", 1..=MOST_SUMMARIES)?.unwrap_or(MOST_SUMMARIES) as usize;
    let histogram = parameters.flag("histogram")?;
    let instance = recent.instance();
    let after = parameters.number("after", 0..=u64::MAX)?;
    let (from, to, path) = (parameters.instant("from")?, parameters.instant("to")?, parameters.path("path")?);
    let ranged = from.is_some() || to.is_some() || path.is_some();
    match (after, ranged) {
        (Some(_), true) => {
            let error = "after and from, to, path do not go together";
            Err(Refusal::new(StatusCode::BAD_REQUEST, error, "ask by sequence or by time"))
        }
        (Some(after), false) => {
            let Page { instance, first, newest, next, lost, summaries } = recent.after(after, limit);
            let numbers = format!(r#""first":{first},"newest":{newest},"next":{next},"lost":{lost},"#);
            Ok(answer(format!(r#"{{"instance":"{instance}",{numbers}"#), summaries, histogram))
        }
        (None, true) => {
            let range = Range { from: from.unwrap_or(Wall(0)), to: to.unwrap_or(Wall(u64::MAX)), path };
            if range.to < range.from {
                let error = "to is before from";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, error, "give the earlier instant as from"));
            }
            let (summaries, more) = recent.range(&range, limit);
            Ok(answer(format!(r#"{{"instance":"{instance}","more":{more},"#), summaries, histogram))
        }
        (None, false) => {
            let latest = recent.latest();
            let more = latest.paths.len() > limit;
            let paths = latest.paths.iter().take(limit);
            let summaries = paths.map(|path| (path.sequence, Arc::clone(&path.summary))).collect();
            Ok(answer(format!(r#"{{"instance":"{instance}","more":{more},"#), summaries, histogram))
        }
    }
}
