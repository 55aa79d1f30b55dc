//! `/api/v1/events`: server-sent events that tell when there are new summaries to ask for.
//!
//! Responsible for streams that cost little and end: one look at the source serves all of them, and nobody looks while
//! nobody listens. Not responsible for what is new: whoever hears an event asks again. Read [`News`], then [`Listener`].

use super::answer::Refusal;
use super::api::query::Parameters;
use super::connection::{GoesOn, Stopping};
use super::matrix::{Shown, nothing_shown};
use crate::sink::rfc3339;
use crate::time::Wall;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// Streams at most.
pub const STREAMS: usize = 32;
/// How long a stream goes on; browsers come back by themselves.
const LIFE: Duration = Duration::from_secs(3600);
/// After so long without an event a comment tells that the stream is alive.
const COMMENT_AFTER: Duration = Duration::from_secs(15);
/// Between two looks at the source at least.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// Milliseconds after which a browser comes back.
const RETRY_MS: u32 = 2000;

/// The newest interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Newest {
    end: Option<Wall>,
    interval: Duration,
}

impl Newest {
    fn event(&self) -> String {
        let end = self.end.map_or("null".into(), |end| format!("\"{}\"", rfc3339(end)));
        format!("event: interval\ndata: {{\"newest\":{end},\"interval_s\":{:?}}}\n\n", self.interval.as_secs_f64())
    }
}

/// What listeners are told, and the place of each.
#[derive(Debug)]
pub(super) struct News {
    newest: watch::Sender<Newest>,
    places: Arc<Semaphore>,
    /// The longest time between two looks at the source.
    look: Duration,
    /// Whether somebody looks.
    looking: Mutex<bool>,
}

impl News {
    pub(super) fn new(look: Duration) -> News {
        let places = Arc::new(Semaphore::new(STREAMS));
        News { newest: watch::Sender::new(Newest::default()), places, look, looking: Mutex::new(false) }
    }

    /// Streams open now.
    pub(super) fn open(&self) -> usize {
        STREAMS - self.places.available_permits()
    }

    fn tell(&self, newest: Newest) {
        self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }

    /// How long to wait before the next look.
    fn pause(&self) -> Duration {
        (self.newest.borrow().interval / 2).min(self.look).max(LEAST_PAUSE)
    }

    /// Whether this one is to begin to look: nobody does yet.
    fn begins(&self) -> bool {
        !std::mem::replace(&mut *self.looking.lock().unwrap_or_else(PoisonError::into_inner), true)
    }

    /// Whether looking ends: nobody listens any more.
    fn ends(&self) -> bool {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        *looking = self.newest.receiver_count() > 0;
        !*looking
    }
}

/// Asks the source for its newest interval and tells everybody.
async fn look(shown: &Shown) -> Result<Newest, Refusal> {
    let newest = shown
        .ask(|shown| {
            let extent = shown.source().extent()?;
            Ok(Newest { end: extent.newest, interval: extent.interval })
        })
        .await?;
    shown.news().tell(newest);
    Ok(newest)
}

/// Looks again and again, until nobody listens.
async fn look_on(shown: Shown) {
    while !shown.news().ends() {
        sleep(shown.news().pause()).await;
        let _ = look(&shown).await; // one that fails is counted, and the next may succeed
    }
}

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(shown): State<Option<Shown>>,
    Extension(Stopping(stopping)): Extension<Stopping>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let shown = shown.ok_or_else(nothing_shown)?;
    Parameters::of(&uri, &[])?;
    let Ok(place) = Arc::clone(&shown.news().places).try_acquire_owned() else {
        shown.counters().streams_refused.fetch_add(1, Relaxed);
        let error = format!("{STREAMS} streams are open, no more are possible");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, "close another page, or ask without events"));
    };
    let told = look(&shown).await?;
    let newest = shown.news().newest.subscribe();
    if shown.news().begins() {
        tokio::spawn(look_on(shown.clone()));
    }
    let first = format!("retry: {RETRY_MS}\n\n{}", told.event());
    let listener = Listener { newest, stopping, told, end: Instant::now() + LIFE, _place: place };
    let next = Box::pin(async move { Some((Bytes::from(first), listener)) });
    let mut response = ([(CONTENT_TYPE, "text/event-stream")], Body::new(Events { next: Some(next) })).into_response();
    response.extensions_mut().insert(GoesOn);
    Ok(response)
}

/// One stream: what it was told last, and what ends it.
struct Listener {
    newest: watch::Receiver<Newest>,
    stopping: watch::Receiver<bool>,
    told: Newest,
    end: Instant,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// What the stream says next; `None` when it ends: the server stops, or its time is over.
    async fn next(mut self) -> Option<(Bytes, Listener)> {
        let until = self.end.min(Instant::now() + COMMENT_AFTER);
        let told = self.told;
        let heard = {
            let mut stopping = pin!(self.stopping.wait_for(|stop| *stop));
            let mut news = pin!(self.newest.wait_for(|newest| *newest != told));
            let either = poll_fn(|cx| match (stopping.as_mut().poll(cx), news.as_mut().poll(cx)) {
                (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(None),
                (_, Poll::Ready(Ok(newest))) => Poll::Ready(Some(*newest)),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            });
            timeout_at(until, either).await
        };
        let text = match heard {
            Ok(newest) => {
                self.told = newest?;
                self.told.event()
            }
            Err(_) if until == self.end => return None,
            Err(_) => ":\n\n".into(),
        };
        Some((text.into(), self))
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Listener)>> + Send>>;

/// A stream as the body of an answer.
struct Events {
    /// `None` once it has ended.
    next: Option<Next>,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(said) => {
                let (bytes, listener) = said.unzip();
                self.next = listener.map(|listener| Box::pin(listener.next()) as Next);
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}
