//! The role that pulls many collectors' summaries into one database.
//!
//! Responsible for asking every collector of a list once per interval, new ones by sequence and those of the first
//! LLAMA for their latest interval, and for handing every summary to the sinks once. Not responsible for delivery (see
//! [`crate::sink`]) nor for how its state is shown. A summary's way: [`turns`] gives a collector its turn → [`pull`]
//! asks ([`fetch`]) and understands ([`page`], [`upstream`], [`interval`]) → [`gate`] hands on, when there is room →
//! [`book`] stores the position once the sinks let go. Read [`Scraper`] first.

pub mod api;
pub mod book;
pub mod collector;
pub mod fetch;
pub mod fingerprint;
pub mod gate;
pub mod interval;
pub mod list;
pub mod metrics;
pub mod page;
pub mod positions;
pub mod pull;
pub mod timetable;
pub mod totals;
mod turns;
pub mod upstream;

use crate::history::{HistoryCounters, Writer};
use crate::http::api::Reason;
use crate::http::api::health::{Reading, Watch, history_readings, sink_readings};
use crate::http::recent::Recent;
use crate::sink::{SinkCounters, Sinks};
use crate::time::{Clock, SystemClock, Wall};
use book::Book;
use collector::{Collector, State, Status};
use crossbeam_channel::{Receiver, Sender, bounded};
use fetch::Fetcher;
use gate::{Gate, Room};
use list::{ListError, Source};
use pull::Follow;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use totals::Totals;

pub use turns::PULLERS;

/// How long stopping waits for requests under way.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How to pull.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which collectors.
    pub source: Source,
    /// Time between two turns of a collector.
    pub interval: Duration,
    /// File that remembers how far each has been pulled; without one a restart begins anew.
    pub positions: Option<PathBuf>,
    /// What the sinks may hold.
    pub room: Room,
    /// Where summaries are kept besides.
    pub history: Option<Keep>,
}

/// A history's ends that a scraper needs.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Takes summaries.
    pub writer: Writer,
    /// Says what became of them.
    pub counters: Arc<HistoryCounters>,
}

/// Why a scraper did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of collectors is wrong.
    #[error(transparent)]
    List(#[from] ListError),
    /// The file of positions cannot be used.
    #[error("{path}: positions cannot be stored: {source}; name a directory that exists and is writable")]
    Positions {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another scraper stores its positions in the file.
    #[error("{0}: another scraper stores its positions there; end it, or give each its own --positions FILE")]
    Locked(PathBuf),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    pause: Duration,
    fetcher: Arc<Fetcher>,
    gate: Gate,
    totals: Totals,
    collectors: Mutex<Arc<Vec<Arc<Collector>>>>,
    started: Wall,
    recent: Option<Arc<Recent>>,
    history: Option<Arc<HistoryCounters>>,
    watch: Watch,
}

impl Shared {
    fn collectors(&self) -> Arc<Vec<Arc<Collector>>> {
        Arc::clone(&self.collectors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, collectors: Vec<Arc<Collector>>) {
        *self.collectors.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(collectors);
    }
}

/// What can be seen of a scraper from any thread.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

impl View {
    /// The collectors as they are listed now.
    pub fn collectors(&self) -> Arc<Vec<Arc<Collector>>> {
        self.0.collectors()
    }

    /// Collectors by [`State::ALL`] at `now`.
    pub fn states(&self, now: Wall) -> [u64; State::ALL.len()] {
        let mut counts = [0; State::ALL.len()];
        for collector in self.collectors().iter() {
            counts[collector.status().state(now, self.0.pause) as usize] += 1;
        }
        counts
    }

    /// Time between two turns of a collector.
    pub fn pause(&self) -> Duration {
        self.0.pause
    }

    /// Counts of all collectors together.
    pub fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// Pages that were put off because a sink had no room.
    pub fn put_off(&self) -> u64 {
        self.0.gate.put_off()
    }

    /// Writes of the file of positions begun, and those of them that failed.
    pub fn position_writes(&self) -> (u64, u64) {
        self.0.gate.book().writes()
    }

    /// Counters of the sinks.
    pub fn sinks(&self) -> &[Arc<SinkCounters>] {
        self.0.gate.counters()
    }

    /// The newest summaries of all collectors.
    pub fn recent(&self) -> Option<&Arc<Recent>> {
        self.0.recent.as_ref()
    }

    /// When the scraper started.
    pub fn started(&self) -> Wall {
        self.0.started
    }

    /// Everything that is not as it should be, and since when. To be asked once a second or so.
    pub fn reasons(&self, now: Wall) -> Vec<Reason> {
        let [down, lagging, _, _] = self.states(now);
        let sum = |of: fn(&Status) -> u64| self.collectors().iter().map(|collector| of(&collector.status())).sum();
        let (_, failed_writes) = self.position_writes();
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let readings = [
            Reading::state("collectors_down", "collectors do not answer as they should", down),
            Reading::state("collectors_lagging", "collectors have nothing new, or more than can be taken", lagging),
            Reading::count(
                "summaries_missed",
                "collectors dropped summaries before they were pulled",
                sum(|s| s.missed),
            ),
            Reading::count("summaries_unreadable", "summaries were not understood and left out", sum(|s| s.unreadable)),
            Reading::count("pulls_put_off", "sinks had no room: pulling waits for them", self.put_off()),
            Reading::count(
                "turns_overrun",
                "a collector's turn took longer than an interval",
                load(&self.0.totals.overruns),
            ),
            Reading::count(
                "lists_refused",
                "the list of collectors changed and was wrong",
                load(&self.0.totals.lists_refused),
            ),
            Reading::count("position_writes_failed", "positions could not be stored", failed_writes),
        ];
        let of_history = self.0.history.iter().flat_map(|history| history_readings(history));
        self.0.watch.observe(now, readings.into_iter().chain(sink_readings(self.sinks())).chain(of_history))
    }

    /// Whether there are sinks and none of them will ever take anything again.
    pub fn all_gone(&self) -> bool {
        self.0.gate.all_gone()
    }
}

/// A running scraper.
#[derive(Debug)]
pub struct Scraper {
    shared: Arc<Shared>,
    /// Disconnecting it stops the threads.
    stop: Sender<()>,
    /// A request to read the list again; `None` when it was typed.
    again: Option<Sender<()>>,
    /// Disconnects when the last thread has ended.
    ended: Receiver<()>,
}

impl Scraper {
    /// Reads the list and the positions, and begins to pull. What is pulled is added to `recent` as well.
    ///
    /// # Errors
    /// The list is wrong, the file of positions cannot be used, no thread can be started.
    pub fn start(options: Options, sinks: Sinks, recent: Option<Arc<Recent>>) -> Result<Scraper, Error> {
        let listed = options.source.read()?;
        listed.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (book, stored) = Book::open(options.positions.clone()).map_err(|source| {
            let path = options.positions.unwrap_or_default();
            match source.kind() {
                io::ErrorKind::WouldBlock => Error::Locked(path),
                _ => Error::Positions { path, source },
            }
        })?;
        let started = SystemClock.wall();
        let of = |address: list::Address| {
            let follow = Follow::from(stored.get(&address));
            Arc::new(Collector::new(address, follow, started))
        };
        let collectors: Vec<_> = listed.collectors.into_iter().map(of).collect();
        book.keep(|address| collectors.iter().any(|collector| collector.address == *address));
        let (writer, history) = options.history.map(|keep| (keep.writer, keep.counters)).unzip();
        let shared = Arc::new(Shared {
            pause: options.interval,
            fetcher: Arc::new(Fetcher::new(options.interval)),
            gate: Gate::new(sinks, options.room, recent.clone(), writer, book),
            history,
            totals: Totals::default(),
            collectors: Mutex::new(Arc::new(collectors)),
            started,
            recent,
            watch: Watch::default(),
        });
        let (stop, stopping) = bounded::<()>(0);
        let (ending, ended) = bounded::<()>(0);
        let (lanes, waiting) = turns::lanes();
        for number in 0..PULLERS {
            let (shared, lanes, waiting) = (Arc::clone(&shared), lanes.clone(), waiting.clone());
            let (stopping, ending) = (stopping.clone(), ending.clone());
            std::thread::Builder::new().name("llama-pull".into()).spawn(move || {
                turns::work(&shared, &lanes, &waiting, number % 2 == 0, &stopping);
                drop(ending);
            })?;
        }
        // a second request while one waits asks for nothing more
        let (again, asked) = bounded::<()>(1);
        let again = matches!(options.source, Source::File(_)).then_some(again);
        let of_schedule = Arc::clone(&shared);
        std::thread::Builder::new().name("llama-scraper".into()).spawn(move || {
            turns::schedule(&of_schedule, &options.source, &lanes, &asked, &stopping);
            drop(ending);
        })?;
        Ok(Scraper { shared, stop, again, ended })
    }

    /// What can be seen of it, also after its end.
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }

    /// Reads the file of collectors again at once; false when the list was typed and there is nothing to read.
    pub fn read_list_again(&self) -> bool {
        if let Some(again) = &self.again {
            let _ = again.try_send(()); // full: it is asked for already
        }
        self.again.is_some()
    }

    /// Ends pulling, lets the sinks deliver what waits for at most `within`, stores the positions, and names the sinks
    /// that could not deliver all. A request under way is waited for a second and then left behind: it delivers nothing.
    pub fn stop(self, within: Duration) -> Vec<crate::sink::Leftover> {
        drop(self.stop);
        let _ = self.ended.recv_timeout(STOP_WITHIN); // disconnected or not: the gate decides
        let left = self.shared.gate.close().map(|sinks| sinks.close(within)).unwrap_or_default();
        self.shared.gate.settle();
        left
    }
}
