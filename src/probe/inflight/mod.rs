//! The probes in flight: a ring indexed by sequence number, one loss threshold per ring.
//!
//! Responsible for turning departures, transmit stamps, replies, errors and the passing of time into
//! [`Record`]s, so that `sent` = `replied` + `lost` + `corrupted` + `refused` + `prohibited` + `time_exceeded` + `too_big` +
//! `unreachable` + `send_failed` + in flight holds after every call ([`InFlight::totals`]). Not responsible for bytes (see
//! [`super::method`]), nor for who may answer whom: the caller compares a reply's sender with
//! [`InFlight::flow_of`] first. Read [`InFlight`] and `slot::Slot` first.
//!
//! # Why a ring
//! Sequence numbers are one series over all flows, so a reply finds its probe by `seq & mask`: no
//! hash map. With one loss threshold, the order of sending is the order of expiry: a tail cursor
//! replaces a timer per probe. A slot is remembered after its probe has ended until the ring comes
//! round to it again; that is how late replies and duplicates are told from strangers.
//!
//! The series starts at a random number: a stateful reflector's own count starts at 0, a stateless
//! one copies ours, and that tells them apart.

mod slot;

use super::method::Reply;
use super::outcome::{Direction, Outcome, Record, Singleton};
use super::{FlowId, IntervalId, Seq};
use crate::time::{Delay, Monotonic, StampSource, Timestamp, Wall, nanos};
use slot::{
    ANSWERED_LATE, DIRECTED, FORWARD, FlowState, HAS_T2, HAS_T3, REVERSE, STAMP_ASKED, STAMP_CAME, Slot, Sources, State,
};
use std::time::Duration;

/// A probe at the moment it is handed to the network.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Its flow.
    pub flow: FlowId,
    /// The interval it belongs to.
    pub interval: IntervalId,
    /// When, for the loss threshold. Not before the departure before.
    pub at: Monotonic,
    /// When, as written into the packet (T1 until a kernel stamp comes).
    pub wall: Wall,
    /// Whether a kernel transmit stamp was asked for.
    pub stamped: bool,
    /// Generation of the wall clock; see [`InFlight::reply`].
    pub clock_epoch: u8,
}

/// What became of all probes of a ring; counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Probes that departed.
    pub sent: u64,
    /// Probes replied to within the loss threshold.
    pub replied: u64,
    /// Probes without an answer within the loss threshold.
    pub lost: u64,
    /// Probes whose reply came with a changed payload.
    pub corrupted: u64,
    /// Probes answered by ICMP port unreachable.
    pub refused: u64,
    /// Probes answered by an ICMP error that says forbidden.
    pub prohibited: u64,
    /// Probes answered by ICMP time exceeded.
    pub time_exceeded: u64,
    /// Probes larger than what a link carries.
    pub too_big: u64,
    /// Probes answered by another ICMP error.
    pub unreachable: u64,
    /// Probes the kernel did not take.
    pub send_failed: u64,
    /// Replies whose T2 and T3 cannot be true (T3 before T2, or farther apart than T1 and T4), and
    /// were measured as if they carried none.
    pub implausible_residence: u64,
}

impl Totals {
    /// Probes that have ended, one way or another.
    pub fn ended(&self) -> u64 {
        let reported = self.refused + self.prohibited + self.time_exceeded + self.too_big + self.unreachable;
        self.replied + self.lost + self.corrupted + reported + self.send_failed
    }
}

/// Probes that may be in flight at `probes_per_second`: those of a loss threshold, 200 ms of a held-up
/// reader's, and a batch.
pub fn room(probes_per_second: f64, loss_threshold: Duration) -> usize {
    let lasting = loss_threshold.as_secs_f64() + 0.2;
    (probes_per_second * lasting) as usize + 65 // `as` saturates
}

/// The ring.
///
/// # Loss direction
/// A stateful reflector counts the replies of a session. Between two replies of one flow, the flow
/// sent some probes and the reflector answered some: the difference was lost forward, the rest on the
/// way back. Exact when all of a gap went one way and nothing was reordered in it; in a mixed gap the
/// numbers are right and the earliest are taken to be the forward ones. A flow must be a session of
/// its own for the reflector: flows that differ by DSCP alone need different SSIDs.
/// Probes after a flow's last reply have no direction, nor have those of an outage so long that the ring
/// has come round to their slots before it ended.
#[derive(Debug)]
pub struct InFlight {
    slots: Vec<Slot>,
    flows: Vec<FlowState>,
    mask: u32,
    threshold_ns: u64,
    limit: usize,
    /// The next sequence number.
    head: u32,
    /// The oldest that the expiry cursor has not passed.
    tail: u32,
    waiting: usize,
    awaiting_stamps: usize,
    totals: Totals,
}

impl InFlight {
    /// A ring that remembers `capacity` probes (rounded up to a power of two) of `flows` flows; all memory
    /// (64 bytes per probe, 32 per flow) is taken here.
    ///
    /// At most `limit` probes (at most `capacity`) are in flight at a time. `capacity` beyond `limit` is how
    /// long ended probes are remembered: with twice the limit, replies that come up to one more loss
    /// threshold late are still seen as late. `first` should be random (see the module's head).
    pub fn new(capacity: usize, flows: usize, loss_threshold: Duration, first: Seq, limit: usize) -> InFlight {
        let capacity = InFlight::slots(capacity);
        InFlight {
            slots: vec![Slot::EMPTY; capacity],
            flows: vec![FlowState::NEW; flows],
            mask: capacity as u32 - 1,
            threshold_ns: nanos(loss_threshold),
            limit: limit.clamp(1, capacity),
            head: first.0,
            tail: first.0,
            waiting: 0,
            awaiting_stamps: 0,
            totals: Totals::default(),
        }
    }

    /// Moves all that `former` remembers, its place in the series and its counts into this ring, which must be new
    /// and have room for at least as many probes and flows; may as many be in flight as before, at least.
    ///
    /// Costs a copy of both tables: milliseconds with a hundred thousand probes remembered.
    pub fn succeed(&mut self, former: &InFlight) {
        debug_assert!(self.slots.len() >= former.slots.len() && self.flows.len() >= former.flows.len());
        for slot in former.slots.iter().filter(|slot| slot.state != State::Empty) {
            *self.slot_mut(slot.seq) = *slot;
        }
        for (flow, known) in self.flows.iter_mut().zip(&former.flows) {
            *flow = *known;
        }
        self.limit = self.limit.max(former.limit);
        self.head = former.head;
        self.tail = former.tail;
        self.waiting = former.waiting;
        self.awaiting_stamps = former.awaiting_stamps;
        self.totals = former.totals;
        self.check();
    }

    /// Allows `limit` probes in flight, if that is more than before and not more than the ring remembers.
    pub fn allow(&mut self, limit: usize) {
        self.limit = self.limit.max(limit.min(self.slots.len()));
    }

    /// Forgets what is known of a flow number, so that another flow can have it. Its probes must have ended.
    pub fn renumber(&mut self, flow: FlowId) {
        if let Some(state) = self.flows.get_mut(flow.0 as usize) {
            *state = FlowState::NEW;
        }
    }

    /// Probes it remembers, and flows it knows.
    pub fn room(&self) -> (usize, usize) {
        (self.slots.len(), self.flows.len())
    }

    /// Probes a ring asked for `capacity` remembers.
    pub fn slots(capacity: usize) -> usize {
        capacity.clamp(2, 1 << 30).next_power_of_two()
    }

    /// Bytes a ring takes.
    pub fn memory(capacity: usize, flows: usize) -> usize {
        InFlight::slots(capacity) * size_of::<Slot>() + flows * size_of::<FlowState>()
    }

    /// Probes in flight at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The sequence number the next probe will have; `None` while `limit` probes are in flight, or the slot
    /// it would take is still in flight.
    #[inline]
    pub fn next(&self) -> Option<Seq> {
        let free = self.waiting < self.limit && self.slot(self.head).state != State::Waiting;
        free.then_some(Seq(self.head))
    }

    /// Takes the probe `next()` named; records `Sent`. Only to be called after `next()` gave a number.
    ///
    /// When the slot's former probe still waits for its transmit stamp, that one ends as `StampMissing`.
    #[inline]
    pub fn depart(&mut self, probe: Departure, record: &mut impl FnMut(Record)) -> Seq {
        debug_assert!(self.next().is_some(), "no room: ask next() first");
        let seq = self.head;
        if seq.wrapping_sub(self.tail) > self.mask {
            self.pass(self.tail, record);
            self.tail = self.tail.wrapping_add(1);
        }
        self.head = seq.wrapping_add(1);
        let (mut prev, mut index) = (seq, 0);
        if let Some(flow) = self.flows.get_mut(probe.flow.0 as usize) {
            (prev, index) = (flow.newest, flow.next_index);
            flow.newest = seq;
            flow.next_index = index.wrapping_add(1);
        }
        let slot = self.slot_mut(seq);
        *slot = Slot {
            at: probe.at,
            t1: probe.wall,
            seq,
            flow: probe.flow.0,
            prev,
            index,
            interval: probe.interval.0,
            state: State::Waiting,
            flags: if probe.stamped { STAMP_ASKED } else { 0 },
            clock_epoch: probe.clock_epoch,
            sources: Sources::new(StampSource::User, StampSource::User),
            ..Slot::EMPTY
        };
        record(slot.record(Outcome::Sent));
        self.waiting += 1;
        self.totals.sent += 1;
        self.check();
        Seq(seq)
    }

    /// The transmit stamp of a probe; becomes its T1. Completes the round trip when the reply was faster.
    ///
    /// Returns false when it came to nothing: the probe is unknown, has ended, or has its stamp already (a
    /// packet that is turned round inside the host can be stamped twice; the first is the true one).
    #[inline]
    pub fn transmitted(&mut self, seq: Seq, at: Timestamp, record: &mut impl FnMut(Record)) -> bool {
        let slot = self.slot_mut(seq.0);
        if slot.seq != seq.0 || slot.has(STAMP_CAME) || !matches!(slot.state, State::Waiting | State::AwaitingStamp) {
            return false;
        }
        slot.flags |= STAMP_CAME;
        slot.t1 = at.wall;
        slot.sources = slot.sources.with_sent_by(at.source);
        if slot.state == State::AwaitingStamp {
            slot.state = State::Replied;
            self.awaiting_stamps -= 1;
            self.measure(seq.0, record);
        }
        true
    }

    /// A reply, received `at`.
    ///
    /// Received within the loss threshold of T1, it ends the probe as replied; then it is measured, at once
    /// or when the transmit stamp comes. Received later, it is late, and the probe lost, even when
    /// [`InFlight::expire`] has not been there yet: what counts is when the kernel received it, not when it
    /// was read. A reply to a probe that has failed counts as late as well: the probe had ended without one.
    ///
    /// `clock_epoch` is the wall clock's generation, changed by the caller whenever the clock has stepped. When
    /// it is not the departure's, or T4 is before T1, the probe is replied and not measured.
    ///
    /// Returns false when it answers no probe the ring remembers.
    pub fn reply(&mut self, reply: &Reply, at: Timestamp, clock_epoch: u8, record: &mut impl FnMut(Record)) -> bool {
        let seq = reply.seq.0;
        let threshold_ns = self.threshold_ns;
        let slot = self.slot_mut(seq);
        if slot.seq != seq || slot.state == State::Empty {
            return false;
        }
        let one_clock = slot.clock_epoch == clock_epoch;
        let elapsed = at.wall.minus(slot.t1).0;
        if slot.state == State::Waiting && one_clock && elapsed > 0 && elapsed as u64 >= threshold_ns {
            self.lose(seq, record);
        }
        let slot = self.slot_mut(seq);
        let (flow, index) = (slot.flow, slot.index);
        match slot.state {
            State::Empty => return false,
            State::Waiting => {
                let reordered =
                    self.flows.get(flow as usize).is_some_and(|flow| (index.wrapping_sub(flow.last_index) as i32) < 0);
                self.waiting -= 1;
                self.totals.replied += 1;
                let slot = self.slot_mut(seq);
                record(slot.record(Outcome::Replied { reordered }));
                slot.t4 = at.wall;
                slot.sources = slot.sources.with_received_by(at.source);
                if let Some(t2) = reply.received {
                    slot.t2 = t2;
                    slot.flags |= HAS_T2;
                }
                if let Some(t3) = reply.sent {
                    slot.t3 = t3;
                    slot.flags |= HAS_T3;
                }
                slot.state = State::Replied;
                if !one_clock {
                    record(slot.record(Outcome::ClockStepped));
                } else if slot.has(STAMP_ASKED) && !slot.has(STAMP_CAME) {
                    slot.state = State::AwaitingStamp;
                    self.awaiting_stamps += 1;
                } else {
                    self.measure(seq, record);
                }
                self.locate_losses(reply, flow, index, record);
            }
            State::AwaitingStamp | State::Replied => {
                record(slot.record(Outcome::Duplicate));
                self.count_duplicate(reply, flow, index);
            }
            State::Lost | State::Failed if slot.has(ANSWERED_LATE) => {
                record(slot.record(Outcome::Duplicate));
                self.count_duplicate(reply, flow, index);
            }
            State::Lost | State::Failed => {
                slot.flags |= ANSWERED_LATE;
                record(slot.record(Outcome::Late));
                self.locate_losses(reply, flow, index, record);
            }
        }
        self.check();
        true
    }

    /// The flow a remembered probe belongs to: who may answer it.
    #[inline]
    pub fn flow_of(&self, seq: Seq) -> Option<FlowId> {
        let slot = self.slot(seq.0);
        (slot.seq == seq.0 && slot.state != State::Empty).then_some(FlowId(slot.flow))
    }

    /// The interval a remembered probe belongs to.
    pub fn interval_of(&self, seq: Seq) -> Option<IntervalId> {
        self.flow_of(seq)?;
        Some(IntervalId(self.slot(seq.0).interval))
    }

    /// An ICMP error told in which class a remembered probe reached the error's sender: to be believed if true, which it
    /// is once for each probe, however often and by whomever it is told.
    pub fn class_told(&mut self, seq: Seq) -> bool {
        self.flow_of(seq).is_some() && self.slot_mut(seq.0).sources.tell_class()
    }

    /// The number of the last probe that departed.
    pub fn newest(&self) -> Seq {
        Seq(self.head.wrapping_sub(1))
    }

    /// The newest probe of a flow, when it is still in flight: whom an ICMP error without payload means.
    pub fn newest_of(&self, flow: FlowId) -> Option<Seq> {
        let newest = self.flows.get(flow.0 as usize)?.newest;
        let slot = self.slot(newest);
        (slot.seq == newest && slot.flow == flow.0 && slot.state == State::Waiting).then_some(Seq(newest))
    }

    /// A send that failed, an ICMP error, or a changed reply: ends the probe with `outcome` (`SendFailed`, `Corrupted`,
    /// `Refused`, `Prohibited`, `TimeExceeded`, `TooBig` or `Unreachable`) if it is in flight. Returns false when it is not, or for another outcome.
    pub fn fail(&mut self, seq: Seq, outcome: Outcome, record: &mut impl FnMut(Record)) -> bool {
        if self.slot(seq.0).seq != seq.0 || self.slot(seq.0).state != State::Waiting {
            return false;
        }
        match outcome {
            Outcome::SendFailed => self.totals.send_failed += 1,
            Outcome::Corrupted => self.totals.corrupted += 1,
            Outcome::Refused => self.totals.refused += 1,
            Outcome::Prohibited => self.totals.prohibited += 1,
            Outcome::TimeExceeded => self.totals.time_exceeded += 1,
            Outcome::TooBig => self.totals.too_big += 1,
            Outcome::Unreachable => self.totals.unreachable += 1,
            _ => {
                debug_assert!(false, "{outcome:?} is no failure");
                return false;
            }
        }
        self.waiting -= 1;
        let slot = self.slot_mut(seq.0);
        slot.state = State::Failed;
        record(slot.record(outcome));
        self.check();
        true
    }

    /// Declares lost what departed a loss threshold or more before `now`, and gives up the transmit stamps
    /// that have not come by then. To be called after the replies that are there have been taken.
    pub fn expire(&mut self, now: Monotonic, record: &mut impl FnMut(Record)) {
        while self.tail != self.head {
            let slot = self.slot(self.tail);
            if now.0 < slot.at.0.saturating_add(self.threshold_ns) {
                break;
            }
            self.pass(self.tail, record);
            self.tail = self.tail.wrapping_add(1);
        }
        self.check();
    }

    /// When [`InFlight::expire`] has something to do next; `None` when no departure is left.
    pub fn next_expiry(&self) -> Option<Monotonic> {
        (self.tail != self.head).then(|| Monotonic(self.slot(self.tail).at.0.saturating_add(self.threshold_ns)))
    }

    /// Probes in flight.
    #[inline]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nothing is in flight.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Replied probes whose transmit stamp may still come: not in flight, but not measured either.
    #[inline]
    pub fn awaiting_stamps(&self) -> usize {
        self.awaiting_stamps
    }

    /// What became of the probes so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    // The mask keeps the position inside the ring, whose length is mask + 1 and never changes.
    #[inline]
    fn slot(&self, seq: u32) -> &Slot {
        &self.slots[(seq & self.mask) as usize]
    }

    #[inline]
    fn slot_mut(&mut self, seq: u32) -> &mut Slot {
        &mut self.slots[(seq & self.mask) as usize]
    }

    #[inline]
    fn check(&self) {
        debug_assert_eq!(self.totals.sent, self.totals.ended() + self.waiting as u64, "probes are not conserved");
    }

    /// The expiry cursor passes a probe.
    fn pass(&mut self, seq: u32, record: &mut impl FnMut(Record)) {
        match self.slot(seq).state {
            State::Waiting => self.lose(seq, record),
            State::AwaitingStamp => {
                self.awaiting_stamps -= 1;
                let slot = self.slot_mut(seq);
                slot.state = State::Replied;
                record(slot.record(Outcome::StampMissing));
            }
            State::Empty | State::Replied | State::Lost | State::Failed => {}
        }
    }

    fn lose(&mut self, seq: u32, record: &mut impl FnMut(Record)) {
        self.waiting -= 1;
        self.totals.lost += 1;
        let slot = self.slot_mut(seq);
        slot.state = State::Lost;
        record(slot.record(Outcome::Lost));
        tell_direction(slot, record);
    }

    /// The round trip of a replied probe whose T1 is settled.
    #[inline]
    fn measure(&mut self, seq: u32, record: &mut impl FnMut(Record)) {
        let slot = *self.slot(seq);
        let round = slot.t4.minus(slot.t1);
        if round.0 < 0 {
            // both were taken by one clock: it has stepped and nobody has noticed yet
            record(slot.record(Outcome::ClockStepped));
            return;
        }
        let mut t2 = slot.has(HAS_T2).then_some(slot.t2);
        let mut t3 = slot.has(HAS_T3).then_some(slot.t3);
        let mut residence = Delay(0);
        if let (Some(received), Some(sent)) = (t2, t3) {
            let stay = sent.minus(received);
            if (0..=round.0).contains(&stay.0) {
                residence = stay;
            } else {
                self.totals.implausible_residence += 1;
                (t2, t3) = (None, None);
            }
        }
        let rtt = round - residence;
        let sent_by = slot.sources.sent_by();
        let mut ipdv = None;
        if let Some(flow) = self.flows.get_mut(slot.flow as usize) {
            // never between stamps of different kinds: the difference would be the host's. With one probe in
            // N stamped, the stamped ones are compared with each other.
            if flow.last_sent_by == Some(sent_by) {
                ipdv = Some(rtt - flow.last_rtt);
            }
            if flow.last_sent_by.is_none_or(|last| sent_by <= last) {
                flow.last_rtt = rtt;
                flow.last_sent_by = Some(sent_by);
            }
        }
        record(slot.record(Outcome::Measured(Singleton {
            seq: Seq(slot.seq),
            sent: slot.t1,
            rtt,
            residence,
            owd_forward: t2.map(|t2| t2.minus(slot.t1)),
            owd_reverse: t3.map(|t3| slot.t4.minus(t3)),
            ipdv,
            sent_by,
            received_by: slot.sources.received_by(),
        })));
    }

    /// Takes the first reply to probe `index` of a flow: tells which way the unanswered probes since the
    /// highest reply so far were lost.
    #[inline]
    fn locate_losses(&mut self, reply: &Reply, flow: u32, index: u32, record: &mut impl FnMut(Record)) {
        let Some(state) = self.flows.get_mut(flow as usize) else { return };
        let gap = index.wrapping_sub(state.last_index).wrapping_sub(1);
        if gap > i32::MAX as u32 {
            return; // overtaken: not the highest
        }
        let Some(count) = reply.reflector_seq else {
            state.last_index = index;
            return;
        };
        let answered = count.wrapping_sub(state.last_reflector).wrapping_sub(1);
        if count != reply.seq.0 {
            state.stateful = true;
        }
        let known = state.stateful && answered <= gap;
        if !known {
            // the reflector restarted, or is not stateful: begin again from here
            state.stateful = count != reply.seq.0;
        }
        state.last_index = index;
        state.last_reflector = count;
        if known && gap > 0 {
            self.direct(reply.seq.0, gap, answered, record);
        }
    }

    /// Of the `gap` probes of the flow before `seq`, `answered` reached the reflector.
    ///
    /// The walk ends at the first slot that was overwritten; over all flows no outage makes it longer than
    /// the ring.
    #[cold]
    fn direct(&mut self, seq: u32, gap: u32, answered: u32, record: &mut impl FnMut(Record)) {
        // probes that failed did not reach the reflector, and are not lost either
        let mut failed = 0;
        let mut at = seq;
        for _ in 0..gap {
            let Some(prev) = self.before(at) else { break };
            failed += u32::from(self.slot(prev).state == State::Failed);
            at = prev;
        }
        if answered > gap - failed {
            return;
        }
        let mut reverse_left = answered;
        let mut at = seq;
        for _ in 0..gap {
            let Some(prev) = self.before(at) else { break };
            let slot = self.slot_mut(prev);
            if slot.state != State::Failed {
                if reverse_left > 0 {
                    reverse_left -= 1;
                    slot.flags |= REVERSE;
                } else {
                    slot.flags |= FORWARD;
                }
                tell_direction(slot, record);
            }
            at = prev;
        }
    }

    /// The probe before `seq` in its flow, when the ring still remembers it.
    fn before(&self, seq: u32) -> Option<u32> {
        let slot = self.slot(seq);
        let prev = self.slot(slot.prev);
        let fits = prev.state != State::Empty
            && prev.seq == slot.prev
            && prev.flow == slot.flow
            && prev.index.wrapping_add(1) == slot.index;
        fits.then_some(slot.prev)
    }

    /// One more reply to a probe: when the probe was doubled on its way, the reflector counted it twice.
    fn count_duplicate(&mut self, reply: &Reply, flow: u32, index: u32) {
        let (Some(state), Some(count)) = (self.flows.get_mut(flow as usize), reply.reflector_seq) else { return };
        if state.stateful && index == state.last_index && (count.wrapping_sub(state.last_reflector) as i32) > 0 {
            state.last_reflector = count;
        }
    }
}

/// Reports the direction of a lost probe, once both are known.
fn tell_direction(slot: &mut Slot, record: &mut impl FnMut(Record)) {
    if slot.state != State::Lost || slot.has(DIRECTED) || !slot.has(FORWARD | REVERSE) {
        return;
    }
    slot.flags |= DIRECTED;
    let direction = if slot.has(FORWARD) { Direction::Forward } else { Direction::Reverse };
    record(slot.record(Outcome::LossDirected(direction)));
}

#[cfg(test)]
mod tests;
