//! The probes in flight: a ring indexed by sequence number, one loss threshold per ring.

use super::method::Reply;
use super::outcome::Record;
use super::{FlowId, IntervalId, Seq};
use crate::time::{Monotonic, Timestamp, Wall};
use std::time::Duration;

/// A probe at the moment it is handed to the network.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Its flow.
    pub flow: FlowId,
    /// The interval it belongs to.
    pub interval: IntervalId,
    /// When, for the loss threshold.
    pub at: Monotonic,
    /// When, as written into the packet (T1 until a kernel stamp comes).
    pub wall: Wall,
    /// Whether a kernel transmit stamp was asked for.
    pub stamped: bool,
    /// Generation of the wall clock; see [`InFlight::reply`].
    pub clock_epoch: u8,
}

/// The ring.
#[derive(Debug)]
pub struct InFlight;

impl InFlight {
    /// A ring for `capacity` probes (rounded up to a power of two) of `flows` flows.
    pub fn new(_capacity: usize, _flows: usize, _loss_threshold: Duration, _first: Seq, _limit: usize) -> InFlight {
        todo!()
    }

    /// The sequence number the next probe will have; `None` while `limit` probes are in flight.
    pub fn next(&self) -> Option<Seq> {
        todo!()
    }

    /// Takes the probe `next()` named; records `Sent`.
    pub fn depart(&mut self, _probe: Departure, _record: &mut impl FnMut(Record)) -> Seq {
        todo!()
    }

    /// The kernel transmit stamp of a probe.
    pub fn transmitted(&mut self, _seq: Seq, _at: Timestamp, _record: &mut impl FnMut(Record)) {
        todo!()
    }

    /// A reply that came for flow `flow` (`None`: the caller cannot tell), received `at`.
    ///
    /// Returns false when it answers no probe the ring remembers.
    pub fn reply(
        &mut self,
        _reply: &Reply,
        _at: Timestamp,
        _clock_epoch: u8,
        _record: &mut impl FnMut(Record),
    ) -> bool {
        todo!()
    }

    /// The flow a remembered probe belongs to: who may answer it.
    pub fn flow_of(&self, _seq: Seq) -> Option<FlowId> {
        todo!()
    }

    /// The newest probe of a flow, when it is still in flight: whom an ICMP error without payload means.
    pub fn newest_of(&self, _flow: FlowId) -> Option<Seq> {
        todo!()
    }

    /// A send that failed, or an ICMP error: ends the probe with `outcome` if it is in flight.
    pub fn fail(&mut self, _seq: Seq, _outcome: super::outcome::Outcome, _record: &mut impl FnMut(Record)) -> bool {
        todo!()
    }

    /// Declares lost what was sent a loss threshold or more before `now`.
    pub fn expire(&mut self, _now: Monotonic, _record: &mut impl FnMut(Record)) {
        todo!()
    }

    /// Probes in flight.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
