//! What to send, when, and what an answer means. Pure: instants, randomness and bytes are arguments.
//!
//! A probe's way: [`schedule`] says which flow is due → [`method`] writes it → [`inflight`] keeps it
//! → an answer, an error or the loss threshold turns it into an [`outcome::Outcome`].

pub mod class;
pub mod inflight;
pub mod method;
pub mod outcome;
pub mod random;
pub mod schedule;
pub mod shape;

/// A flow of one worker: its position in the worker's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// Sequence number of a probe, per in-flight ring; wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

/// Number of an interval since the collector's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntervalId(pub u32);
