//! InfluxDB and what speaks like it: `/write` of 1.x and `/api/v2/write` of 2.x and 3.x.
//!
//! [`Target`] is where to, [`line`](line::line) what, [`Policy`] when and how much; `shipper.rs` is the thread that
//! decides what is sent next, `courier.rs` the one that waits for the server. A batch is sent until the server says
//! it is stored or refuses it: a point that arrives twice overwrites itself, since measurement, tags and time are
//! the same.

mod batch;
pub(crate) mod courier;
mod delivery;
pub mod detail;
pub(crate) mod line;
mod point;
mod shipper;
#[cfg(test)]
mod shipper_tests;
mod target;

pub use delivery::Policy;
pub use line::{detailed_line, line};
pub use point::{Point, Value};
pub use target::{Target, TargetError};

pub(super) use shipper::Shipper;

use super::spool;
use std::path::PathBuf;

/// An InfluxDB sink's settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to write.
    pub target: Target,
    /// Trusted certificates (PEM) instead of the public ones, for a private authority.
    pub ca_file: Option<PathBuf>,
    /// Retries and batches.
    pub policy: Policy,
    /// Where summaries wait on disk; `None`: in memory only.
    pub spool: Option<spool::Options>,
    /// Whether points also carry the histogram of round trips and all listed flows, as texts.
    pub detail: bool,
}

impl Options {
    /// The target with everything else as it is best for most.
    pub fn new(target: Target) -> Options {
        Options { target, ca_file: None, policy: Policy::default(), spool: None, detail: false }
    }
}
