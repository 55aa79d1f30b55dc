//! Another plan on its way to a worker, and when it is the worker's turn to take it.
//!
//! The thread that reloads sends every worker a [`Change`]; each gets ready and says so; then the moment is set for all
//! of them at once, so that an interval is of one plan. Read [`Turn`] first.

use super::ledger::Segment;
use super::outfit::{Leftovers, Outfit};
use crate::time::Monotonic;
use crossbeam_channel::Sender;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const UNDECIDED: u64 = u64::MAX;
const WITHDRAWN: u64 = 0;

/// When a change takes effect: decided once, for all workers.
#[derive(Debug)]
pub struct Turn {
    at: AtomicU64,
    cut: OnceLock<Segment>,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { at: AtomicU64::new(UNDECIDED), cut: OnceLock::new() }
    }
}

impl Turn {
    /// The instant that stands for "at the next tick".
    pub const AT_ONCE: Monotonic = Monotonic(1);

    /// It takes effect where the new plan's intervals begin.
    pub fn begin(&self, cut: Segment) {
        let _ = self.cut.set(cut); // decided once
        self.at.store(cut.start.0, Ordering::Release);
    }

    /// It takes effect at each worker's next tick; intervals go on.
    pub fn begin_at_once(&self) {
        self.at.store(Turn::AT_ONCE.0, Ordering::Release);
    }

    /// It does not take effect.
    pub fn withdraw(&self) {
        self.at.store(WITHDRAWN, Ordering::Release);
    }

    /// When; a very late instant while that is undecided, `None` when it was withdrawn.
    #[inline]
    pub fn at(&self) -> Option<Monotonic> {
        match self.at.load(Ordering::Acquire) {
            WITHDRAWN => None,
            at => Some(Monotonic(at)),
        }
    }

    /// Where the new plan's intervals begin, if they are new.
    pub fn cut(&self) -> Option<Segment> {
        self.cut.get().copied()
    }
}

/// What a worker says about a change.
#[derive(Debug)]
pub enum Answer {
    /// It can be taken at any time now, or not, and why.
    Ready(io::Result<()>),
    /// It was taken.
    Taken {
        /// For so long nothing was sent; what came in waited, with its stamps.
        pause: Duration,
        /// What is of no use any more.
        leftovers: Leftovers,
    },
}

/// Another plan for a worker.
#[derive(Debug)]
pub struct Change {
    /// What it is given.
    pub outfit: Outfit,
    /// When.
    pub turn: Arc<Turn>,
    /// Where answers go, with the worker's number.
    pub answers: Sender<(u16, Answer)>,
}
