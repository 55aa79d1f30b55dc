//! What became of a probe.

use super::class::ClassChange;
use super::method::AnswerKind;
use super::{FlowId, IntervalId, Seq};
use crate::time::{Delay, StampSource, Wall};
use std::net::IpAddr;

/// Which way a lost probe was lost, when the reflector counts (stateful STAMP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From collector to reflector.
    Forward,
    /// From reflector to collector.
    Reverse,
}

/// One measured round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Singleton {
    /// Sequence number of the probe.
    pub seq: Seq,
    /// T1: when the probe left, by `sent_by`.
    pub sent: Wall,
    /// Round-trip time without the reflector's residence time, RFC 2681.
    pub rtt: Delay,
    /// The reflector's residence time T3 − T2; zero when the reflector gives no stamps.
    pub residence: Delay,
    /// T2 − T1; true only as far as both clocks agree (RFC 7679).
    pub owd_forward: Option<Delay>,
    /// T4 − T3.
    pub owd_reverse: Option<Delay>,
    /// Difference to the previous measured round trip of this flow (RFC 3393).
    pub ipdv: Option<Delay>,
    /// Where T1 was taken.
    pub sent_by: StampSource,
    /// Where T4 was taken.
    pub received_by: StampSource,
}

/// One thing that became known about a probe. `Sent` comes first; exactly one of `Replied`, `Lost`,
/// `Corrupted`, `Refused`, `Prohibited`, `TimeExceeded`, `TooBig`, `Unreachable`, `SendFailed` follows; the others are additional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handed to the network.
    Sent,
    /// A reply came within the loss threshold.
    Replied {
        /// A reply to a later probe of the same flow came before (RFC 4737).
        reordered: bool,
    },
    /// How the reply to a replied probe answers; not of reflectors' replies.
    AnsweredBy(AnswerKind),
    /// The reflector of a replied probe says which class reached it.
    ClassReported,
    /// The class of a replied probe, or of its reply, was changed on the way; or of a probe that an ICMP error quotes.
    ClassChanged(ClassChange),
    /// The round trip of a probe that was replied to (once its transmit stamp is there).
    Measured(Singleton),
    /// A replied probe gave no round trip: its transmit stamp never came.
    StampMissing,
    /// A replied probe gave no round trip: a clock stepped during its flight.
    ClockStepped,
    /// No reply within the loss threshold.
    Lost,
    /// The direction of a probe already counted as lost became known.
    LossDirected(Direction),
    /// A reply came after the loss threshold; the probe stays lost (RFC 7680).
    Late,
    /// One more reply to a probe that had one (RFC 5560).
    Duplicate,
    /// A reply came in time whose payload had been changed: neither a round trip to trust nor a loss.
    Corrupted,
    /// An ICMP port unreachable came back.
    Refused,
    /// An ICMP error came back: a firewall or a policy forbids the probe.
    Prohibited,
    /// An ICMP time exceeded came back.
    TimeExceeded,
    /// Larger than what a link carries: an ICMP error says so, or this host's own interface.
    TooBig,
    /// Another ICMP error came back.
    Unreachable,
    /// The node that sent the ICMP error which ended this probe.
    Reported(IpAddr),
    /// Of a probe that was too big: the MTU that was told, bytes.
    MtuTold(u32),
    /// The kernel did not take it.
    SendFailed,
    /// Was due, but the prober could not send it in time.
    NotSent,
}

/// An outcome with the flow and the interval (of sending) it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Flow of the worker.
    pub flow: FlowId,
    /// Interval in which the probe was sent.
    pub interval: IntervalId,
    /// What became known.
    pub outcome: Outcome,
}
