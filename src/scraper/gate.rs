//! The one way into the sinks: one pull at a time, only while there is room, and with its position entered.
//!
//! Summaries that find no room stay where they are, at a new collector, and are pulled later; so the sinks' queues
//! drop nothing because a scraper catches up. Points of the first LLAMA would be gone by then: they are taken always.
//! Read [`Gate`].

use super::book::{Book, Mark};
use super::list::Address;
use super::positions::Position;
use crate::history::{Measured, Writer};
use crate::http::recent::Recent;
use crate::sink::influx::Point;
use crate::sink::{Limits, SinkCounters, Sinks};
use crate::summary::Summary;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What sinks may hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Limits of every sink's queue, of which half is used by pulling.
    pub limits: Limits,
    /// Bytes of the spool, if there is one, of which nine tenths are used by pulling.
    pub spool_bytes: Option<u64>,
}

/// A sink has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// Between two warnings about positions that cannot be stored.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Sinks, recent summaries and positions behind one lock.
#[derive(Debug)]
pub struct Gate {
    /// `None` once closed.
    sinks: Mutex<Option<Sinks>>,
    counters: Vec<Arc<SinkCounters>>,
    room: Room,
    recent: Option<Arc<Recent>>,
    history: Option<Writer>,
    book: Book,
    put_off: AtomicU64,
    warned: Mutex<Option<Instant>>,
}

impl Gate {
    /// Into `sinks`, which have this `room`, `recent` and `history`.
    pub fn new(sinks: Sinks, room: Room, recent: Option<Arc<Recent>>, history: Option<Writer>, book: Book) -> Gate {
        Gate {
            counters: sinks.counters(),
            sinks: Mutex::new(Some(sinks)),
            room,
            recent,
            history,
            book,
            put_off: AtomicU64::new(0),
            warned: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sinks>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters of the sinks.
    pub fn counters(&self) -> &[Arc<SinkCounters>] {
        &self.counters
    }

    /// The positions.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Whether summaries are kept to be asked for.
    pub fn keeps_recent(&self) -> bool {
        self.recent.is_some()
    }

    /// Whether there is a history.
    pub fn keeps_history(&self) -> bool {
        self.history.is_some()
    }

    /// Pages that were put off because a sink had no room.
    pub fn put_off(&self) -> u64 {
        self.put_off.load(Relaxed)
    }

    /// Whether every sink has room for more.
    pub fn has_room(&self) -> bool {
        let room = self.counters.iter().all(|sink| {
            let counters = sink.snapshot();
            let Limits { summaries, bytes } = self.room.limits;
            counters.queued <= summaries as u64 / 2
                && counters.queued_bytes <= bytes as u64 / 2
                && self.room.spool_bytes.is_none_or(|most| counters.spool_bytes <= most / 10 * 9)
        });
        if !room {
            self.put_off.fetch_add(1, Relaxed);
        }
        room
    }

    /// Hands summaries on, and enters the position that holds once they have left the queues.
    ///
    /// # Errors
    /// There is no room, or the gate is closed: nothing was taken.
    pub fn summaries(&self, from: &Address, summaries: Vec<Summary>, position: Position) -> Result<(), NoRoom> {
        let sinks = self.lock();
        let Some(sinks) = sinks.as_ref().filter(|_| self.has_room()) else { return Err(NoRoom) };
        sinks.deliver(&summaries);
        if let Some(history) = &self.history {
            history.add(&summaries);
        }
        self.book.enter(from, position, Mark::given(&self.counters));
        if let Some(recent) = &self.recent {
            recent.add(summaries);
        }
        Ok(())
    }

    /// Hands points of the first LLAMA on, to the history as `measured`. `interval` is fingerprint and time of the
    /// interval they are of; it is stored before they leave, so that after a crash the same interval gets the same time.
    pub fn points(&self, from: &Address, points: &[Point], measured: Vec<Measured>, interval: Option<(u64, u64)>) {
        let position = |sure| interval.map(|(fingerprint, time)| Position::Interval { fingerprint, time, sure });
        if let Some(unsure) = position(false) {
            self.say(self.book.store(from, unsure));
        }
        let sinks = self.lock();
        let Some(sinks) = sinks.as_ref() else { return };
        sinks.deliver_points(points);
        if let Some(history) = &self.history {
            history.add_measured(measured);
        }
        if let Some(sure) = position(true) {
            self.book.enter(from, sure, Mark::given(&self.counters));
        }
    }

    /// Stores the positions whose summaries have left the queues.
    pub fn settle(&self) {
        let settled = {
            let _nobody_delivers = self.lock();
            Mark::settled(&self.counters)
        };
        self.book.settle(&settled);
        self.say(self.book.save());
    }

    /// Whether nothing that is delivered will be read.
    pub fn all_gone(&self) -> bool {
        self.lock().as_ref().is_some_and(Sinks::all_gone)
    }

    /// Closes the gate for good and gives the sinks back.
    pub fn close(&self) -> Option<Sinks> {
        self.lock().take()
    }

    fn say(&self, stored: std::io::Result<()>) {
        let Err(error) = stored else { return };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            let path = self.book.path().unwrap_or(std::path::Path::new("positions"));
            tracing::warn!(
                "{}: positions cannot be stored: {error}; pulling goes on, a restart would pull some summaries again",
                path.display()
            );
        }
    }
}
