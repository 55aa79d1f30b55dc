//! Single round trips for whoever wants them all (`llama ping --samples`): a bounded channel the
//! worker never waits for.

use super::progress::Cell;
use crate::probe::FlowId;
use crate::probe::outcome::Singleton;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;

/// One round trip and whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The worker's flow.
    pub flow: FlowId,
    /// What was measured.
    pub singleton: Singleton,
}

/// The worker's end.
#[derive(Clone, Debug)]
pub struct Samples {
    out: Sender<Sample>,
    /// Samples that found the channel full.
    pub dropped: Arc<Cell>,
}

/// Samples that may wait for the writer.
pub const QUEUE: usize = 65_536;

/// A channel for samples.
pub fn channel() -> (Samples, Receiver<Sample>) {
    let (out, taken) = bounded(QUEUE);
    (Samples { out, dropped: Arc::default() }, taken)
}

impl Samples {
    /// Hands one over, or counts it as dropped.
    #[inline]
    pub fn push(&self, flow: FlowId, singleton: &Singleton) {
        if self.out.try_send(Sample { flow, singleton: *singleton }).is_err() {
            self.dropped.add(1);
        }
    }
}
