//! A server on a thread of its own: accepts connections, bounds their number, ends in order.
//!
//! Not responsible for a single connection ([`super::connection`]) nor for what is answered. Read
//! [`Server`] and [`Limits`] first.

use super::connection::{self, Shared};
use super::counters::{Counters, CountersSnapshot};
use super::matrix::QUESTIONS_AT_ONCE;
use crate::net::thread;
use axum::Router;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub use super::connection::Peer;

/// How long stopping waits for answers under way.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Pause after the kernel could not hand a connection over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads for handlers that wait: a reload and a page of metrics, and the questions that are answered at once.
const BLOCKING_THREADS: usize = 2 + QUESTIONS_AT_ONCE;

/// What clients may use; what is beyond is refused or closed, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Bytes of a request's line and header lines.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// From the first byte of a request, or from accepting, until its head is there.
    pub head_time: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// From a request's head until its answer begins.
    pub request_time: Duration,
    /// For which a client may take nothing of its answer.
    pub stalled_time: Duration,
    /// For which a client may take its answer slowly.
    pub answer_time: Duration,
    /// For which a client may take an answer that goes on: a stream of events, which ends before.
    pub stream_time: Duration,
    /// Between an answer and the next request.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 16 << 10,
            headers: 100,
            head_time: Duration::from_secs(5),
            body_bytes: 64 << 10,
            request_time: Duration::from_secs(10),
            stalled_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(120),
            stream_time: Duration::from_secs(3660),
            idle_time: Duration::from_secs(30),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("{name}: cannot listen on {bind}: {source}; {remedy}")]
    Bind {
        /// The server's name.
        name: &'static str,
        /// The address.
        bind: SocketAddr,
        /// Why.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// No thread or no event queue for it.
    #[error("{name}: cannot start a thread: {source}")]
    Thread {
        /// The server's name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `bind` and answers by `router` until stopped. `name` stands in errors: the flag or key
    /// that asked for it.
    ///
    /// # Errors
    /// The address cannot be listened on, or there is no thread.
    pub fn start(bind: SocketAddr, router: Router, limits: Limits, name: &'static str) -> Result<Server, Error> {
        let cannot_bind = |source: io::Error| Error::Bind { name, bind, remedy: remedy(&source), source };
        let listener = TcpListener::bind(bind).map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        listener.set_nonblocking(true).map_err(cannot_bind)?;
        let cannot_start = |source| Error::Thread { name, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("llama-http-wait")
            .build()
            .map_err(cannot_start)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(cannot_start)?
        };
        let counters = Arc::new(Counters::default());
        let (stop, stopping) = watch::channel(false);
        let shared = Shared { router, limits, counters: Arc::clone(&counters), stopping };
        let thread = std::thread::Builder::new()
            .name("llama-http".into())
            .spawn(move || {
                thread::lower_priority();
                runtime.block_on(run(listener, shared));
                runtime.shutdown_timeout(STOP_WITHIN);
            })
            .map_err(cannot_start)?;
        Ok(Server { address, counters, stop, thread: Some(thread) })
    }

    /// Where it listens, with the port the system chose when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters, to be read at any time, also after its end.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Accepts no more, lets answers under way finish for a second, closes the rest.
    pub fn stop(mut self) -> CountersSnapshot {
        self.end();
        self.counters.snapshot()
    }

    fn end(&mut self) {
        let _ = self.stop.send(true); // fails when the thread has ended
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panics are those of a bug in accepting; there is nothing left to stop
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What to do about an address that cannot be listened on.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
        io::ErrorKind::AddrNotAvailable => "name an address of this host, or 0.0.0.0 or [::] for all of them",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE",
        _ => "choose another address",
    }
}

/// A connection's place among those allowed; given back when it ends, also by a panic.
struct Place(Arc<Counters>);

impl Drop for Place {
    fn drop(&mut self) {
        subtract(&self.0.open);
    }
}

fn subtract(counter: &AtomicU64) {
    counter.fetch_sub(1, Relaxed);
}

async fn run(listener: tokio::net::TcpListener, shared: Shared) {
    let counters = Arc::clone(&shared.counters);
    let mut stopping = shared.stopping.clone();
    let mut stopping = pin!(async move { stopping.wait_for(|stop| *stop).await.is_ok() });
    loop {
        let next = poll_fn(|cx| match stopping.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => listener.poll_accept(cx).map(Some),
        })
        .await;
        match next {
            None => break,
            Some(Err(_)) => {
                counters.accept_errors.fetch_add(1, Relaxed);
                sleep(ACCEPT_PAUSE).await;
            }
            Some(Ok(_)) if counters.open.load(Relaxed) >= shared.limits.connections as u64 => {
                counters.rejected.fetch_add(1, Relaxed);
            }
            Some(Ok((stream, peer))) => {
                counters.accepted.fetch_add(1, Relaxed);
                counters.open.fetch_add(1, Relaxed);
                let place = Place(Arc::clone(&counters));
                let _ = stream.set_nodelay(true); // only lets small answers leave sooner
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _place = place;
                    connection::serve(stream, peer, shared).await;
                });
            }
        }
    }
    drop(listener);
    let deadline = Instant::now() + STOP_WITHIN;
    while counters.open.load(Relaxed) > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
}
