//! What the in-flight ring remembers: a cache line per probe, half of one per flow.

use crate::probe::outcome::{Outcome, Record};
use crate::probe::{FlowId, IntervalId};
use crate::time::{Delay, Monotonic, StampSource, Wall};

/// Where a slot's probe is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Never used.
    Empty,
    /// In flight.
    Waiting,
    /// Replied to, its transmit stamp has not come.
    AwaitingStamp,
    /// Replied to, nothing more to come but duplicates.
    Replied,
    /// Lost.
    Lost,
    /// Refused, unreachable or not sent.
    Failed,
}

/// A transmit stamp was asked for.
pub(super) const STAMP_ASKED: u8 = 1;
/// It has come.
pub(super) const STAMP_CAME: u8 = 2;
/// Known to have been lost forward, if lost.
pub(super) const FORWARD: u8 = 4;
/// Known to have been lost on the way back, if lost.
pub(super) const REVERSE: u8 = 8;
/// The direction has been reported.
pub(super) const DIRECTED: u8 = 16;
/// A reply came after the probe had ended without one.
pub(super) const ANSWERED_LATE: u8 = 32;
/// The pending reply carries T2 / T3.
pub(super) const HAS_T2: u8 = 64;
pub(super) const HAS_T3: u8 = 128;

/// A probe: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// When it departed.
    pub(super) at: Monotonic,
    /// T1: as written into the packet, then the kernel's.
    pub(super) t1: Wall,
    /// The reply that waits for the transmit stamp.
    pub(super) t4: Wall,
    pub(super) t2: Wall,
    pub(super) t3: Wall,
    pub(super) seq: u32,
    pub(super) flow: u32,
    /// The probe before it of the same flow; trusted only after comparing flow and index.
    pub(super) prev: u32,
    /// Number within its flow; wraps.
    pub(super) index: u32,
    pub(super) interval: u32,
    pub(super) state: State,
    pub(super) flags: u8,
    pub(super) clock_epoch: u8,
    /// Where T1 and T4 were taken.
    pub(super) sources: Sources,
}

/// Two [`StampSource`]s in a byte, and in its highest bit whether an ICMP error has told the probe's class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources(pub(super) u8);

impl Sources {
    pub(super) fn new(sent_by: StampSource, received_by: StampSource) -> Sources {
        Sources(sent_by as u8 | (received_by as u8) << 4)
    }

    pub(super) fn source(bits: u8) -> StampSource {
        match bits & 0x7 {
            0 => StampSource::Hardware,
            1 => StampSource::Kernel,
            _ => StampSource::User,
        }
    }

    /// The same with another source of T1.
    pub(super) fn with_sent_by(self, sent_by: StampSource) -> Sources {
        Sources(self.0 & 0xf0 | sent_by as u8)
    }

    /// The same with another source of T4.
    pub(super) fn with_received_by(self, received_by: StampSource) -> Sources {
        Sources(self.0 & !0x70 | (received_by as u8) << 4)
    }

    /// Notes that the class was told; false when it had been.
    pub(super) fn tell_class(&mut self) -> bool {
        let first = self.0 & 0x80 == 0;
        self.0 |= 0x80;
        first
    }

    pub(super) fn sent_by(self) -> StampSource {
        Sources::source(self.0)
    }

    pub(super) fn received_by(self) -> StampSource {
        Sources::source(self.0 >> 4)
    }
}

impl Slot {
    pub(super) const EMPTY: Slot = Slot {
        at: Monotonic(0),
        t1: Wall(0),
        t4: Wall(0),
        t2: Wall(0),
        t3: Wall(0),
        seq: 0,
        flow: 0,
        prev: 0,
        index: 0,
        interval: 0,
        state: State::Empty,
        flags: 0,
        clock_epoch: 0,
        sources: Sources(0),
    };

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn record(&self, outcome: Outcome) -> Record {
        Record { flow: FlowId(self.flow), interval: IntervalId(self.interval), outcome }
    }
}

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowState {
    /// Round-trip time of the last measured probe.
    pub(super) last_rtt: Delay,
    /// Number the next probe will have.
    pub(super) next_index: u32,
    pub(super) newest: u32,
    /// The highest number a reply came for, and the reflector's own count in that reply. Before the
    /// first: −1 and −1, as if a fresh session of the reflector, which counts from 0, had just begun.
    pub(super) last_index: u32,
    pub(super) last_reflector: u32,
    /// Where T1 of `last_rtt` was taken; `None` before the first.
    pub(super) last_sent_by: Option<StampSource>,
    /// The reflector counts its replies itself.
    pub(super) stateful: bool,
}

impl FlowState {
    pub(super) const NEW: FlowState = FlowState {
        last_rtt: Delay(0),
        next_index: 0,
        newest: 0,
        last_index: u32::MAX,
        last_reflector: u32::MAX,
        last_sent_by: None,
        stateful: false,
    };
}
