//! What one worker counted in one interval.

use crate::probe::outcome::Record;
use crate::probe::{FlowId, IntervalId};

/// Which paths and flows a worker's tallies cover: shared by all its tallies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Per flow of the worker: its path, as position in `paths`.
    pub flow_paths: Vec<u32>,
    /// Per flow of the worker: its index in the plan.
    pub flows: Vec<u32>,
    /// Per path of the worker: its index in the plan.
    pub paths: Vec<u32>,
}

/// Counters of one worker and one interval. Allocated at start, reused for ever.
#[derive(Debug)]
pub struct Tally;

impl Tally {
    /// An empty tally; all memory is allocated here.
    pub fn new(_layout: &std::sync::Arc<Layout>, _worker: u16) -> Tally {
        todo!()
    }

    /// Bytes a tally of this layout takes.
    pub fn memory(_layout: &Layout) -> usize {
        todo!()
    }

    /// Empties it for a new interval.
    pub fn open(&mut self, _interval: IntervalId) {
        todo!()
    }

    /// The interval it counts.
    pub fn interval(&self) -> IntervalId {
        todo!()
    }

    /// Counts one record of this interval.
    pub fn record(&mut self, _record: &Record) {
        todo!()
    }

    /// Counts how late a probe was handed to the network.
    pub fn sent_late_by(&mut self, _lateness_ns: u64) {
        todo!()
    }

    /// Adds datagrams that the worker's sockets dropped.
    pub fn local_drops(&mut self, _datagrams: u64) {
        todo!()
    }

    /// Notes that the wall clock stepped in this interval.
    pub fn clock_stepped(&mut self) {
        todo!()
    }

    /// The path of a flow, for callers that need it.
    pub fn path_of(&self, _flow: FlowId) -> u32 {
        todo!()
    }
}
