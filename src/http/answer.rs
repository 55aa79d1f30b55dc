//! Answers: JSON values, long answers in pieces, and refusals with their remedy.
//!
//! Read [`Refusal`] first. [`finish`] is what every answer of a server passes: whatever a handler or the
//! router said, a refusal is JSON and nothing is cached.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes after which a piece of a long answer leaves; the last part of it may go beyond.
const PIECE: usize = 48 << 10;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request is not answered as asked, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// HTTP status, 400 to 599.
    #[serde(skip)]
    pub status: u16,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { status: status.as_u16(), error: error.into(), remedy: remedy.into() }
    }

    /// What is said of a status when nothing better is known.
    pub(super) fn of(status: StatusCode) -> Refusal {
        let remedy = match status.as_u16() {
            400 => "send an HTTP/1.1 request",
            404 => "GET /api/v1/ lists what there is",
            405 => "use a method of the Allow header",
            408 => "send the whole request sooner",
            413 => "send a smaller body; no endpoint needs one",
            414 | 431 => "send fewer or shorter header lines",
            500 => "this is a bug: please report it with the program's log",
            503 => "ask again later",
            _ => "see docs/api.md",
        };
        let error = status.canonical_reason().unwrap_or("refused").to_ascii_lowercase();
        Refusal::new(status, error, remedy)
    }

    /// The JSON object.
    pub(super) fn body(&self) -> Vec<u8> {
        // texts only: it cannot fail
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, JSON)], self.body()).into_response()
    }
}

/// An answer of JSON text.
pub fn json_text(text: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, JSON)], text.into()).into_response()
}

/// An answer of one value, built at once: for what is small.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(text),
        Err(_) => Refusal::of(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
    }
}

/// An answer that is built piece by piece as the client takes it, so that a long one neither fills memory
/// nor keeps other clients waiting: after each piece they have their turn.
pub struct Pieces<F> {
    next: F,
    yielded: bool,
}

impl<F: FnMut() -> Option<Vec<u8>> + Send + Unpin + 'static> Pieces<F> {
    /// `next` gives piece after piece, some 64 KiB each, then `None`.
    pub fn body(next: F) -> Body {
        Body::new(Pieces { next, yielded: true })
    }
}

/// A long text made of parts that are written when their turn comes, joined to pieces.
pub(super) fn joined(mut parts: impl Iterator<Item = Vec<u8>> + Send + Unpin + 'static) -> Body {
    Pieces::body(move || {
        let mut piece = parts.next()?;
        piece.reserve(PIECE.saturating_sub(piece.len()));
        while piece.len() < PIECE {
            let Some(part) = parts.next() else { break };
            piece.extend_from_slice(&part);
        }
        Some(piece)
    })
}

impl<F: FnMut() -> Option<Vec<u8>> + Unpin> HttpBody for Pieces<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.yielded = !this.yielded;
        if this.yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready((this.next)().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

/// Makes an answer ready to leave: every refusal is JSON, nothing is cached or guessed at.
pub(super) fn finish(mut response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && response.headers().get(CONTENT_TYPE) != Some(&JSON) {
        let allow = response.headers_mut().remove(axum::http::header::ALLOW);
        response = Refusal::of(status).into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(axum::http::header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
