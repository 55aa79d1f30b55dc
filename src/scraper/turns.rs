//! Threads that pull, and the one that says whose turn it is.
//!
//! Two lanes: collectors whose latest pull failed wait in one of their own, which only half of the threads serve, so
//! that a site that is down delays nobody else. A collector is in a lane once at most; both are bounded by the number
//! of collectors. Read [`schedule`] and [`work`].

use super::Shared;
use super::collector::Collector;
use super::list::{Address, MAX_COLLECTORS, Source, Stamp};
use super::pull::{Follow, Tools, Turn, pull};
use super::timetable::Timetable;
use crate::time::{Clock, SystemClock};
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

/// Threads that pull: requests under way at most.
pub const PULLERS: usize = 16;
/// Between looks at the file of collectors, the positions and the clock.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of an answer whose buffer is kept between turns.
const KEPT_BUFFER: usize = 2 << 20;

/// Where collectors wait for a thread.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    well: Sender<Arc<Collector>>,
    unwell: Sender<Arc<Collector>>,
}

/// The threads' ends of the lanes.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    well: Receiver<Arc<Collector>>,
    unwell: Receiver<Arc<Collector>>,
}

/// Both ends of both lanes.
pub(super) fn lanes() -> (Lanes, Waiting) {
    // those that left the list may still be in a lane
    let (well, of_well) = bounded(2 * MAX_COLLECTORS);
    let (unwell, of_unwell) = bounded(2 * MAX_COLLECTORS);
    (Lanes { well, unwell }, Waiting { well: of_well, unwell: of_unwell })
}

impl Lanes {
    /// Puts a collector that is marked busy at the end of its lane.
    fn put(&self, collector: Arc<Collector>) {
        let lane = if collector.is_unwell() { &self.unwell } else { &self.well };
        if let Err(error) = lane.try_send(collector) {
            error.into_inner().busy.store(false, Release);
        }
    }
}

/// Says whose turn it is, until `stop` disconnects. Reads the list again when it changed, or is `asked` to.
pub(super) fn schedule(shared: &Shared, source: &Source, lanes: &Lanes, asked: &Receiver<()>, stop: &Receiver<()>) {
    let pause = shared.pause.as_nanos() as u64;
    let mut table = Timetable::new(pause);
    let mut roster: HashMap<usize, Arc<Collector>> = HashMap::new();
    let mut next_number = 0;
    let start = SystemClock.monotonic().0;
    // an instant at which a whole number of intervals has passed since 1970
    let epoch = start + pause - SystemClock.wall().0 % pause;
    let mut enlist = |collector: &Arc<Collector>, table: &mut Timetable, roster: &mut HashMap<_, _>| {
        table.add(next_number, &collector.address.to_string(), epoch, SystemClock.monotonic().0);
        roster.insert(next_number, Arc::clone(collector));
        next_number += 1;
    };
    for collector in shared.collectors().iter() {
        enlist(collector, &mut table, &mut roster);
    }
    let mut stamp = source.stamp();
    // nobody asks for a typed list: its channel is disconnected, which would be ready at all times
    let nobody = never();
    let of_file = if matches!(source, Source::File(_)) { asked } else { &nobody };
    loop {
        let now = SystemClock.monotonic().0;
        while let Some(number) = table.take_due(now) {
            let Some(collector) = roster.get(&number) else { continue };
            if collector.busy.swap(true, AcqRel) {
                shared.totals.overruns.fetch_add(1, Relaxed);
            } else {
                lanes.put(Arc::clone(collector));
            }
        }
        shared.totals.skipped.store(table.skipped, Relaxed);
        let wait = Duration::from_nanos(table.next().unwrap_or(u64::MAX).saturating_sub(now)).min(LOOK);
        let again = select! {
            recv(stop) -> _ => return,
            recv(of_file) -> _ => true,
            default(wait) => false,
        };
        shared.gate.settle();
        if let Some(collectors) = read_again(shared, source, &mut stamp, again) {
            roster.retain(|number, collector| {
                let stays = collectors.iter().any(|other| Arc::ptr_eq(other, collector));
                if !stays {
                    collector.gone.store(true, Relaxed);
                    table.remove(*number);
                }
                stays
            });
            for collector in &collectors {
                if !roster.values().any(|other| Arc::ptr_eq(other, collector)) {
                    enlist(collector, &mut table, &mut roster);
                }
            }
            shared.gate.book().keep(|address| collectors.iter().any(|collector| collector.address == *address));
            shared.replace(collectors);
        }
    }
}

/// The collectors of a file that changed, or is to be read `again` in any case; those that stay are the same as before.
fn read_again(shared: &Shared, source: &Source, stamp: &mut Option<Stamp>, again: bool) -> Option<Vec<Arc<Collector>>> {
    let now = source.stamp();
    // while it is being replaced there may be no file for a moment
    if !again && (now.is_none() || now == *stamp) {
        return None;
    }
    *stamp = now.or(*stamp);
    let listed = match source.read() {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!("the list of collectors was read again and is wrong, the old one stays: {error}");
            shared.totals.lists_refused.fetch_add(1, Relaxed);
            return None;
        }
    };
    listed.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let before = shared.collectors();
    let known: HashMap<&Address, &Arc<Collector>> = before.iter().map(|c| (&c.address, c)).collect();
    let wall = SystemClock.wall();
    let of = |address: Address| match known.get(&address) {
        Some(collector) => Arc::clone(collector),
        None => Arc::new(Collector::new(address, Follow::default(), wall)),
    };
    let collectors: Vec<Arc<Collector>> = listed.collectors.into_iter().map(of).collect();
    let stay = collectors.iter().filter(|collector| known.contains_key(&collector.address)).count();
    tracing::info!(
        "the list of collectors was read again: {} now, {} new, {} gone",
        collectors.len(),
        collectors.len() - stay,
        before.len() - stay
    );
    Some(collectors)
}

/// Pulls whoever waits, until `stop` disconnects. Only some threads serve those that are `unwell`.
pub(super) fn work(shared: &Shared, lanes: &Lanes, waiting: &Waiting, unwell: bool, stop: &Receiver<()>) {
    let none = never();
    let of_unwell = if unwell { &waiting.unwell } else { &none };
    let fetcher = Arc::clone(&shared.fetcher);
    let mut body = Vec::new();
    loop {
        let collector = select! {
            recv(stop) -> _ => return,
            recv(waiting.well) -> collector => collector,
            recv(of_unwell) -> collector => collector,
        };
        let Ok(collector) = collector else { return };
        if !collector.is_listed() {
            continue;
        }
        let mut tools = Tools { fetcher: &fetcher, gate: &shared.gate, body: &mut body, pause: shared.pause };
        let (at, begin) = (SystemClock.wall(), SystemClock.monotonic());
        let turn = pull(&collector, &mut tools);
        let took = Duration::from_nanos(SystemClock.monotonic().0.saturating_sub(begin.0));
        if collector.is_listed() {
            collector.lock().pulled(&collector.address, at, took, turn.as_ref().err());
        }
        shared.totals.turn(took, turn.as_ref().err());
        if body.capacity() > KEPT_BUFFER {
            body = Vec::new();
        }
        if turn == Ok(Turn::More) && collector.is_listed() {
            lanes.put(collector);
        } else {
            collector.busy.store(false, Release);
        }
    }
}
