//! One client's connection, from its first byte to its end, within the server's limits.
//!
//! Responsible for how long a client may take for each part of a request, for what it may send, and for
//! answering what is no request. Not responsible for what is answered. Read [`serve`], then [`Phase`].

use super::answer::{Refusal, finish};
use super::counters::Counters;
use super::server::Limits;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt;

/// Bytes a connection buffers in each direction at most, beside what the kernel holds.
const BUFFER: usize = 64 << 10;
/// From the end of a request's time, when it is answered with 408 or 503, to the end of the connection.
const GRACE: Duration = Duration::from_secs(1);
/// How the answers begin that hyper writes by itself when it cannot read a request.
const UNREADABLE: &[u8] = b"HTTP/1.1 4";
/// No such answer is longer; answers that passed [`finish`] are.
const UNREADABLE_BYTES: usize = 256;

/// The address of the client, in the extensions of every request; the server's [`Counters`] are there too.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Changes when the server stops; in the extensions of every request.
#[derive(Clone, Debug)]
pub(super) struct Stopping(pub watch::Receiver<bool>);

/// In the extensions of an answer that goes on as long as the client listens: its time is
/// [`Limits::stream_time`].
#[derive(Clone, Copy, Debug)]
pub(super) struct GoesOn;

/// What all connections of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub router: Router,
    pub limits: Limits,
    pub counters: Arc<Counters>,
    /// Changes when the server stops.
    pub stopping: watch::Receiver<bool>,
}

/// Where a connection stands; each phase has its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of a request is awaited or read.
    Head,
    /// Nothing of a next request has come.
    Idle,
    /// The body is read and the answer made.
    Request,
    /// The answer is written.
    Answer,
    /// An answer that goes on is written.
    Stream,
}

/// How long a connection has been where it stands.
#[derive(Debug)]
struct Progress {
    phase: Phase,
    since: Instant,
    /// Since when the client has taken nothing that is ready for it.
    stalled: Option<Instant>,
}

impl Progress {
    fn deadline(&self, limits: &Limits) -> Instant {
        let time = match self.phase {
            Phase::Head => limits.head_time,
            Phase::Idle => limits.idle_time,
            Phase::Request => limits.request_time + GRACE,
            Phase::Answer => limits.answer_time,
            Phase::Stream => limits.stream_time,
        };
        let deadline = self.since + time;
        self.stalled.map_or(deadline, |stalled| deadline.min(stalled + limits.stalled_time))
    }
}

/// [`Progress`], shared by the parts of one connection; all of them run in its one task.
#[derive(Clone)]
struct Watch(Arc<Mutex<Progress>>);

impl Watch {
    fn start() -> Watch {
        Watch(Arc::new(Mutex::new(Progress { phase: Phase::Head, since: Instant::now(), stalled: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut progress = self.lock();
        (progress.phase, progress.since) = (phase, Instant::now());
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Shared) {
    let watch = Watch::start();
    let stream = Guarded { stream, watch: watch.clone(), shared: shared.clone(), replaced: None };
    let service = {
        let (watch, shared) = (watch.clone(), shared.clone());
        service_fn(move |request| respond(request, peer, watch.clone(), shared.clone()))
    };
    let connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_headers(shared.limits.headers)
        .max_header_size(shared.limits.head_bytes)
        .max_buf_size(BUFFER.max(2 * shared.limits.head_bytes))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopping = shared.stopping.clone();
    let mut stopping = pin!(async move { stopping.wait_for(|stop| *stop).await.is_ok() });
    let mut alarm = pin!(sleep_until(watch.lock().deadline(&shared.limits)));
    let mut told = false;
    let in_time = poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if !told && stopping.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            // every phase begins in the poll above, so the alarm is never set for one that has passed
            let deadline = watch.lock().deadline(&shared.limits);
            if deadline != alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            return alarm.as_mut().poll(cx).map(|()| false);
        }
    })
    .await;
    if !in_time {
        shared.counters.timed_out.fetch_add(1, Relaxed);
    }
}

/// Answers one request.
async fn respond(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    watch: Watch,
    shared: Shared,
) -> Result<Response, Infallible> {
    watch.enter(Phase::Request);
    let mut has_body = false;
    let answer = async {
        let (parts, body) = request.into_parts();
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            has_body = true;
            let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            Body::from(read(body, length, shared.limits.body_bytes).await?)
        };
        has_body = false;
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(Arc::clone(&shared.counters));
        request.extensions_mut().insert(Stopping(shared.stopping.clone()));
        shared.router.clone().oneshot(request).await.map_err(|never| match never {})
    };
    let response = match timeout(shared.limits.request_time, caught(answer)).await {
        Ok(Some(Ok(response))) => response,
        // the rest of the request is not read
        Ok(Some(Err(refusal))) => closing(refusal),
        Ok(None) => {
            shared.counters.panics.fetch_add(1, Relaxed);
            Refusal::of(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Err(_) => {
            shared.counters.timed_out.fetch_add(1, Relaxed);
            let status = if has_body { StatusCode::REQUEST_TIMEOUT } else { StatusCode::SERVICE_UNAVAILABLE };
            closing(Refusal::of(status))
        }
    };
    let response = finish(response);
    shared.counters.answered(response.status().as_u16());
    let goes_on = response.extensions().get::<GoesOn>().is_some();
    watch.enter(if goes_on { Phase::Stream } else { Phase::Answer });
    Ok(response.map(|body| Body::new(Watched { body, watch })))
}

/// A refusal after which the connection ends.
fn closing(refusal: Refusal) -> Response {
    let mut response = refusal.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The whole body, when it is no longer than allowed.
async fn read(mut body: Incoming, length: Option<u64>, limit: usize) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        let error = format!("the body is larger than {limit} bytes");
        Refusal { error, ..Refusal::of(StatusCode::PAYLOAD_TOO_LARGE) }
    };
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut taken = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::of(StatusCode::BAD_REQUEST))?;
        let Ok(data) = frame.into_data() else { continue };
        if taken.len() + data.len() > limit {
            return Err(too_large());
        }
        taken.extend_from_slice(&data);
    }
    Ok(taken)
}

/// What the future gives, `None` when it panics.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// An answer's body that tells when it is done.
struct Watched {
    body: Body,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.enter(Phase::Idle);
    }
}

/// The client's stream: notes when bytes of a next request come and when the client takes no answer, and
/// gives a body to the answers that hyper writes by itself.
struct Guarded {
    stream: TcpStream,
    watch: Watch,
    shared: Shared,
    /// An answer written in place of hyper's, how far it is written, and the length of hyper's.
    replaced: Option<(Vec<u8>, usize, usize)>,
}

impl Guarded {
    /// Our own answer in place of one that hyper writes when it cannot read a request; those have no body
    /// and pass no handler.
    fn replacement(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let head = self.watch.lock().phase == Phase::Head;
        if !head || answer.len() > UNREADABLE_BYTES || !answer.starts_with(UNREADABLE) || !answer.ends_with(b"\r\n\r\n")
        {
            return None;
        }
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        let refusal = Refusal::of(StatusCode::from_u16(status).ok()?);
        let (body, reason) = (refusal.body(), refusal.error.as_str());
        self.shared.counters.answered(status);
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
             x-content-type-options: nosniff\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        Some([head.as_bytes(), &body].concat())
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let mut progress = self.watch.lock();
        match &written {
            Poll::Pending => {
                progress.stalled.get_or_insert_with(Instant::now);
            }
            Poll::Ready(result) => {
                progress.stalled = None;
                self.shared.counters.bytes.fetch_add(*result.as_ref().unwrap_or(&0) as u64, Relaxed);
            }
        }
        written
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.watch.lock().phase == Phase::Idle {
            self.watch.enter(Phase::Head);
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replaced.is_none() {
            this.replaced = this.replacement(bytes).map(|answer| (answer, 0, bytes.len()));
        }
        let Some((answer, mut at, length)) = this.replaced.take() else { return this.write(cx, bytes) };
        while at < answer.len() {
            match this.write(cx, &answer[at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => at += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.replaced = Some((answer, at, length));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // nobody reads while an answer goes on: a client that has gone is seen here, not when something is written
        if self.watch.lock().phase == Phase::Stream {
            let mut byte = [0];
            match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
