//! What is sent next, and what is brought to safety meanwhile: the thread that owns an InfluxDB sink.
//!
//! It never waits for the server ([`Courier`] does), so that with a spool a summary is, about a second after it came,
//! stored by the server or synced to the disk, whatever the server does:
//!
//! - lines go from the queue in memory straight to the server, as long as it stores them within [`SAVE_AFTER`];
//! - what is older, and everything while the server is away, goes to the spool and out of memory; the batch of a
//!   request that hangs, too, and a late success settles it there;
//! - when the server is back, fresh lines go first, and after each request of them one record of the spool, the
//!   oldest: fresh lines wait for one request of the backlog at most, and neither starves.
//!
//! Not responsible for what an answer means ([`Delivery`]) nor for what is on the disk ([`Spool`]). Read
//! [`Shipper::turn`].

use super::batch::{Work, pack, times};
use super::courier::{Answer, Courier, Parcel, shorten};
use super::delivery::{Delivery, Lane, REFUSED_IN_ROW, Reply, Step};
use super::{Options, Policy};
use crate::probe::random::Random;
use crate::sink::queue::{Fate, Queue};
use crate::sink::spool::{Entry, Figures, Spool};
use crate::sink::{SinkError, Warning};
use crate::time::{Clock, SystemClock, Wall};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Age at which a line that is not stored is written to the spool.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(1);
/// Before the end of closing: what is not delivered by then is written to the spool.
const SAVE_MARGIN: Duration = Duration::from_secs(1);
/// After the disk refused something.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Records of the spool that are sent before older ones because they are fresh.
const FRESH_RECORDS: usize = 64;

/// What the thread does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for an event, or until the instant.
    Sleep(Option<Instant>),
    /// Ends.
    End,
}

/// Where the lines of the request under way are.
#[derive(Debug)]
enum Place {
    /// In the queue; their text.
    Memory(Vec<u8>),
    /// They were in the queue, and are a record of the spool now.
    Saved(Entry, Vec<u8>),
    /// In the record that is being delivered.
    Record,
}

/// The request under way.
#[derive(Debug)]
struct Request {
    place: Place,
    /// Numbers of its lines, in their lane.
    sent: Range<u64>,
    body: Arc<[u8]>,
    since: Instant,
    /// Its lines are fresh ones: the backlog's turn is next.
    fresh: bool,
}

/// Sends what is queued.
pub(in crate::sink) struct Shipper {
    policy: Policy,
    courier: Courier,
    delivery: Delivery,
    random: Random,
    spool: Option<Spool>,
    request: Option<Request>,
    /// The record that is being delivered, and the number of the next one's first line.
    work: Option<Work>,
    next_line: u64,
    /// Records that were written while the server was there, only slow.
    fresh: VecDeque<Entry>,
    backlogs_turn: bool,
    /// The last answer was that the server is away, busy, or denies.
    away: bool,
    pause: Option<Instant>,
    /// The disk refused something: left alone until then.
    disk_pause: Option<Instant>,
    closing: bool,
    /// What of the spool's figures is in the counters.
    published: Figures,
    warning: Warning,
    disk_warning: Warning,
    /// A warning has said that delivery fails.
    failing: bool,
}

impl Shipper {
    /// Opens the spool, if there is to be one, and starts the thread that makes requests.
    pub fn new(options: &Options, queue: &Arc<Queue>) -> Result<Shipper, SinkError> {
        let courier = Courier::start(options, queue.clone())?;
        let spool = options.spool.as_ref().map(|spool| Spool::open(spool, SystemClock.wall())).transpose()?;
        let mut shipper = Shipper::with(courier, options.policy, spool);
        shipper.welcome(queue);
        Ok(shipper)
    }

    pub(super) fn with(courier: Courier, policy: Policy, spool: Option<Spool>) -> Shipper {
        Shipper {
            policy,
            courier,
            delivery: Delivery::new(policy),
            random: Random::new(RandomState::new().hash_one(0)),
            spool,
            request: None,
            work: None,
            next_line: 0,
            fresh: VecDeque::new(),
            backlogs_turn: false,
            away: false,
            pause: None,
            disk_pause: None,
            closing: false,
            published: Figures::default(),
            warning: Warning::default(),
            disk_warning: Warning::default(),
            failing: false,
        }
    }

    /// Sends until the queue is closed.
    pub fn run(mut self, queue: &Queue) {
        loop {
            let seen = queue.events();
            match self.turn(queue, Instant::now(), SystemClock.wall()) {
                Next::Sleep(until) => queue.sleep(seen, until),
                Next::End => break,
            }
        }
        if let Some(spool) = self.spool.as_ref().filter(|spool| spool.lines() > 0) {
            tracing::info!(
                sink = queue.counters().name(),
                "{} points wait in {}; the next run with this spool delivers them",
                spool.lines(),
                spool.directory().display()
            );
        }
    }

    #[cfg(test)]
    pub(super) fn spool(&mut self) -> Option<&mut Spool> {
        self.spool.as_mut()
    }

    /// Does all there is to do at `now` without waiting for anything but the disk.
    pub(super) fn turn(&mut self, queue: &Queue, now: Instant, wall: Wall) -> Next {
        if queue.deadline().is_some() && !std::mem::replace(&mut self.closing, true) {
            self.pause = None; // one attempt more, right after closing
        }
        self.pause = self.pause.filter(|until| *until > now);
        self.disk_pause = self.disk_pause.filter(|until| *until > now);
        if self.request.is_some()
            && let Some(answer) = self.courier.answer()
        {
            self.answered(queue, &answer, now, wall);
        }
        self.save(queue, now, wall);
        if self.request.is_none() && self.pause.is_none() && queue.deadline().is_none_or(|end| end > now) {
            self.send(queue, now, wall);
        }
        self.publish(queue);
        if self.is_finished(queue, now) { Next::End } else { Next::Sleep(self.next_instant(queue, now)) }
    }

    // ------------------------------------------------------------ to the disk

    /// Writes what must not stay in memory to the spool.
    fn save(&mut self, queue: &Queue, now: Instant, wall: Wall) {
        let Some(spool) = self.spool.as_mut().filter(|_| self.disk_pause.is_none()) else { return };
        let Some((_, came)) = queue.oldest() else { return };
        let old = now.saturating_duration_since(came) >= SAVE_AFTER;
        let ending = queue.deadline().is_some_and(|end| end.saturating_duration_since(now) <= SAVE_MARGIN);
        if !self.away && !old && !ending {
            return;
        }
        let mut append = |body: &[u8], lines: &Range<u64>, text: &[u8]| {
            let lines = u32::try_from(lines.end - lines.start).unwrap_or(u32::MAX);
            spool.append(body, lines, times(text, wall), wall)
        };
        let mut failed = None;
        // the lines of the request under way become a record of their own, which its answer settles
        self.request = self.request.take().map(|mut request| {
            if let Place::Memory(text) = request.place {
                request.place = match append(&request.body, &request.sent, &text) {
                    Ok(entry) => {
                        queue.end(Fate::Spooled);
                        Place::Saved(entry, text)
                    }
                    Err(error) => {
                        failed = Some(error);
                        Place::Memory(text)
                    }
                };
            }
            request
        });
        let mut text = Vec::new();
        // what comes while this writes is for the next turn
        let end = queue.oldest().map_or(0, |(first, _)| first) + queue.counters().queued.load(Relaxed);
        while failed.is_none() && queue.oldest().is_some_and(|(first, _)| first < end) {
            let lines = queue.begin(self.policy.batch_lines, self.policy.batch_bytes, &mut text);
            match pack(&text).and_then(|body| append(&body, &lines, &text)) {
                Ok(entry) => {
                    queue.end(Fate::Spooled);
                    if !self.away {
                        self.fresh.push_back(entry);
                    }
                }
                Err(error) => {
                    queue.end(Fate::Returned);
                    failed = Some(error);
                }
            }
        }
        let surplus = self.fresh.len().saturating_sub(FRESH_RECORDS);
        self.fresh.drain(..surplus);
        if let Some(error) = failed {
            self.disk_failed(queue, now, &error);
        }
    }

    fn disk_failed(&mut self, queue: &Queue, now: Instant, error: &std::io::Error) {
        self.disk_pause = Some(now + DISK_PAUSE);
        let directory = self.spool.as_ref().map(|spool| spool.directory().display().to_string()).unwrap_or_default();
        let text = format!(
            "spool: cannot use {directory}: {error}; points wait in memory, free some space or repair the disk, \
             writing goes on by itself"
        );
        self.disk_warning.say(queue.counters(), &text);
        queue.counters().note(text);
    }

    // ------------------------------------------------------------ to the server

    /// Begins the next request, if there is something to send.
    fn send(&mut self, queue: &Queue, now: Instant, wall: Wall) {
        let backlog_first = self.away || self.backlogs_turn;
        let request = if backlog_first {
            self.of_spool(queue, false, now, wall).or_else(|| self.of_memory(queue, now))
        } else {
            let fresh = self.of_spool(queue, true, now, wall).or_else(|| self.of_memory(queue, now));
            fresh.or_else(|| self.of_spool(queue, false, now, wall))
        };
        let Some(mut request) = request else { return };
        queue.counters().attempts.fetch_add(1, Relaxed);
        let lane = if matches!(request.place, Place::Record) { Lane::Spool } else { Lane::Memory };
        if self.delivery.is_retry(lane) {
            queue.counters().retried.fetch_add(1, Relaxed);
        }
        let left = queue.deadline().map_or(self.policy.request, |end| end.saturating_duration_since(now));
        let limit = left.clamp(Duration::from_millis(1), self.policy.request);
        request.since = now;
        let sent = self.courier.send(Parcel { body: request.body.clone(), limit });
        self.request = Some(request);
        if !sent {
            self.answered(queue, &Answer::no_thread(), now, wall);
        }
    }

    /// A request of the oldest lines in memory.
    fn of_memory(&mut self, queue: &Queue, now: Instant) -> Option<Request> {
        let (first, _) = queue.oldest()?;
        let mut text = Vec::new();
        let sent = queue.begin(self.delivery.lines(Lane::Memory, first), self.policy.batch_bytes, &mut text);
        match pack(&text) {
            Ok(body) => Some(Request { place: Place::Memory(text), sent, body, since: now, fresh: true }),
            Err(_) => {
                queue.end(Fate::Returned);
                None
            }
        }
    }

    /// A request of a record of the spool: of the one under way, the oldest, or the oldest that is `fresh`.
    fn of_spool(&mut self, queue: &Queue, fresh: bool, now: Instant, wall: Wall) -> Option<Request> {
        let spool = self.spool.as_mut()?;
        if self.work.as_ref().is_some_and(|work| !spool.waits(&work.entry)) {
            self.work = None; // dropped to make room
        }
        loop {
            // a record that was begun is ended before another is: it counts as backlog
            if self.work.is_some() && fresh {
                return None;
            }
            let work = match &mut self.work {
                Some(work) => work,
                none => {
                    let found = if fresh {
                        let entry = self.fresh.pop_front()?;
                        spool.read(&entry).map(|body| Some((entry, body)))
                    } else {
                        spool.front(wall).map(|found| found.map(|(entry, body)| (entry, Some(body))))
                    };
                    match found {
                        Ok(Some((entry, Some(body)))) => {
                            self.fresh.retain(|fresh| *fresh != entry);
                            let first = self.next_line;
                            self.next_line += entry.lines();
                            none.insert(Work::new(entry, body, first))
                        }
                        Ok(Some((_, None))) => continue, // settled meanwhile, or damaged
                        Ok(None) => return None,
                        Err(error) => {
                            self.disk_failed(queue, now, &error);
                            return None;
                        }
                    }
                }
            };
            match work.piece(self.delivery.lines(Lane::Spool, work.lines().start)) {
                Ok((sent, body)) => return Some(Request { place: Place::Record, sent, body, since: now, fresh }),
                Err(_) => {
                    let lines = work.lines();
                    spool.damage(&work.entry, lines.end - lines.start);
                    self.work = None;
                }
            }
        }
    }

    // ------------------------------------------------------------ from the server

    /// Takes the answer to the request under way.
    fn answered(&mut self, queue: &Queue, answer: &Answer, now: Instant, wall: Wall) {
        let Some(request) = self.request.take() else { return };
        let reply = &answer.reply;
        let lane = if matches!(request.place, Place::Record) { Lane::Spool } else { Lane::Memory };
        let step = self.delivery.after(lane, &request.sent, reply, self.random.unit());
        self.away = matches!(reply, Reply::Later { .. } | Reply::Denied);
        self.backlogs_turn = request.fresh;
        if self.away {
            self.fresh.clear(); // backlog like all the rest
        }
        let refused = self.refused_lines(&request, step);
        self.report(queue, answer, step, &refused);
        if let Some(spool) = self.spool.as_mut().filter(|_| !refused.is_empty()) {
            let kept = spool.set_aside(wall, &answer.message, &refused);
            queue.counters().spool_refused.fetch_add(kept, Relaxed);
        }
        let pause = match step {
            Step::Delivered => Duration::ZERO,
            Step::Refused(pause) | Step::Again(pause) => pause,
        };
        self.pause = (!pause.is_zero()).then(|| now + pause);
        self.settle(queue, request, step);
    }

    /// The lines that an answer refused for good.
    fn refused_lines(&mut self, request: &Request, step: Step) -> Vec<u8> {
        match (&request.place, step) {
            (Place::Memory(text) | Place::Saved(_, text), Step::Refused(_)) => text.clone(),
            (Place::Record, Step::Refused(_)) => {
                let text = self.work.as_mut().and_then(|work| work.text(&request.sent).ok());
                text.map(<[u8]>::to_vec).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Carries out what an answer leads to.
    fn settle(&mut self, queue: &Queue, request: Request, step: Step) {
        let counters = queue.counters();
        let lines = request.sent.end - request.sent.start;
        let count = |settled: u64| match step {
            Step::Delivered => {
                counters.delivered.fetch_add(settled, Relaxed);
                counters.spool_delivered.fetch_add(settled, Relaxed);
            }
            _ => {
                counters.refused.fetch_add(settled, Relaxed);
            }
        };
        match (request.place, self.spool.as_mut()) {
            (Place::Memory(_), _) => queue.end(match step {
                Step::Delivered => Fate::Delivered,
                Step::Refused(_) => Fate::Refused,
                Step::Again(_) => Fate::Returned,
            }),
            (Place::Saved(entry, _), _) if matches!(step, Step::Again(_)) => {
                if !self.away {
                    self.fresh.push_front(entry);
                }
            }
            (Place::Saved(entry, _), Some(spool)) => {
                count(spool.settle(&entry, lines));
                spool.finish(&entry);
            }
            (Place::Record, _) if matches!(step, Step::Again(_)) => {}
            (Place::Record, Some(spool)) => {
                let Some(work) = &mut self.work else { return };
                count(spool.settle(&work.entry, lines));
                if work.settle(request.sent.end) {
                    spool.finish(&work.entry);
                    self.work = None;
                }
            }
            (_, None) => {}
        }
    }

    /// Says what an answer means to whoever reads the log.
    fn report(&mut self, queue: &Queue, answer: &Answer, step: Step, refused: &[u8]) {
        if answer.reply == Reply::Stored {
            if std::mem::take(&mut self.failing) {
                tracing::info!(sink = queue.counters().name(), "delivering again");
                self.warning = Warning::default();
            }
            return;
        }
        let one = refused.iter().filter(|byte| **byte == b'\n').count() <= 1;
        let what = match step {
            Step::Refused(_) if one => {
                format!("{}; refused line: {}", answer.message, shorten(&String::from_utf8_lossy(refused)))
            }
            _ => answer.message.clone(),
        };
        let what = match step {
            Step::Refused(_) if self.delivery.refuses_all() => format!(
                "{REFUSED_IN_ROW} lines or more in a row were refused and none was stored, now one is tried about every \
                 {} s; check what answers and what it wants: {what}",
                self.policy.denied.as_secs()
            ),
            _ => what,
        };
        // while a refused batch is being cut the server is well; only its end is worth a line
        if !matches!((&answer.reply, step), (Reply::Refused { .. } | Reply::TooLarge, Step::Again(_))) {
            self.warning.say(queue.counters(), &what);
            self.failing |= matches!(step, Step::Again(_));
        }
        queue.counters().failed(what);
    }

    // ------------------------------------------------------------ around it

    /// What an earlier run left.
    fn welcome(&mut self, queue: &Queue) {
        self.publish(queue);
        if let Some(spool) = self.spool.as_ref().filter(|spool| spool.lines() > 0) {
            let (lines, directory) = (spool.lines(), spool.directory().display());
            tracing::info!(sink = queue.counters().name(), "{lines} points of an earlier run wait in {directory}");
        }
    }

    /// Brings the spool's state into the counters.
    fn publish(&mut self, queue: &Queue) {
        let Some(spool) = &self.spool else { return };
        let (counters, now) = (queue.counters(), spool.figures());
        let before = std::mem::replace(&mut self.published, now);
        counters.spool_found.store(now.found, Relaxed);
        counters.spool_damaged.store(now.damaged, Relaxed);
        counters.spool_dropped.store(now.dropped, Relaxed);
        counters.dropped.fetch_add(now.dropped - before.dropped, Relaxed);
        counters.spool_errors.store(now.errors, Relaxed);
        counters.spool_bytes.store(spool.bytes(), Relaxed);
        counters.spool_segments.store(spool.segments(), Relaxed);
        counters.spool_oldest.store(spool.oldest().unwrap_or(0), Relaxed);
        // last: who waits for it finds the others as they are
        counters.spool_summaries.store(spool.lines(), Relaxed);
        let directory = spool.directory().display();
        if now.damaged > before.damaged {
            let text = format!(
                "spool: {} points in {directory} cannot be read back; segments with damage in their middle are set \
                 aside as *.damaged",
                now.damaged - before.damaged
            );
            self.disk_warning.say(counters, &text);
            counters.note(text);
        } else if now.dropped > before.dropped {
            let text = format!(
                "spool: the {} oldest points in {directory} are dropped; allow it more bytes or a higher age",
                now.dropped - before.dropped
            );
            self.disk_warning.say(counters, &text);
            counters.note(text);
        }
    }

    /// Whether the queue is closed and nothing more can be done in the time that is left.
    fn is_finished(&self, queue: &Queue, now: Instant) -> bool {
        let Some(deadline) = queue.deadline() else { return false };
        if now >= deadline {
            return true;
        }
        if queue.oldest().is_some() {
            return false;
        }
        let Some(spool) = &self.spool else { return true };
        match &self.request {
            // what it brings is on the disk already
            Some(request) => now.saturating_duration_since(request.since) >= SAVE_AFTER,
            None => spool.lines() == 0 || self.away || self.disk_pause.is_some(),
        }
    }

    /// When there is something to do again if nothing happens.
    fn next_instant(&self, queue: &Queue, now: Instant) -> Option<Instant> {
        let deadline = queue.deadline();
        let spooling = self.spool.is_some();
        let came = queue.oldest().map(|(_, came)| came).filter(|_| spooling);
        let since = self.request.as_ref().filter(|_| deadline.is_some()).map(|request| request.since);
        let instants = [
            self.pause,
            self.disk_pause,
            came.map(|came| came + SAVE_AFTER),
            since.map(|since| since + SAVE_AFTER),
            deadline,
            deadline.and_then(|end| end.checked_sub(SAVE_MARGIN)).filter(|_| spooling),
        ];
        instants.into_iter().flatten().filter(|instant| *instant > now).min()
    }
}
