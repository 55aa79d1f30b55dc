//! The plan: what a collector will do, with nothing optional left and every name resolved.
//!
//! Workers share it read-only. Indices are `u32` positions in the plan's own lists.

use crate::probe::shape::{Pacing, Shape};
use crate::summary::Path;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A socket: one source port of one address family.
#[derive(Clone, Debug)]
pub struct Source {
    /// Local address; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// The shape of the probes it sends first; others on the same socket share method and key.
    pub shape: u32,
    /// Loss threshold of its probes.
    pub loss_threshold: Duration,
}

/// Where probes go.
#[derive(Clone, Debug)]
pub struct Target {
    /// As written in the configuration: address or host name.
    pub host: String,
    /// Resolved.
    pub address: SocketAddr,
    /// The `targets` group it stands in.
    pub group: String,
    /// Its tags.
    pub tags: Arc<BTreeMap<String, String>>,
}

/// One five-tuple and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index into [`Plan::sources`].
    pub source: u32,
    /// Index into [`Plan::targets`].
    pub target: u32,
    /// Index into [`Plan::shapes`].
    pub shape: u32,
    /// Index into [`Plan::paths`].
    pub path: u32,
}

/// A test: flows that are swept together, once per cycle each.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its flows: a range of [`Plan::flows`].
    pub flows: Range<u32>,
    /// Cycles per second; each sends one probe on every flow.
    pub cycles_per_second: f64,
    /// When within the cycle.
    pub pacing: Pacing,
}

impl Test {
    /// Probes per second.
    pub fn rate(&self) -> f64 {
        self.flows.len() as f64 * self.cycles_per_second
    }
}

/// What a collector will do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One reporting period.
    pub interval: Duration,
    /// Where upstream's configuration wants the API.
    pub api: Option<SocketAddr>,
    /// What probes look like.
    pub shapes: Vec<Shape>,
    /// Sockets.
    pub sources: Vec<Source>,
    /// Destinations.
    pub targets: Vec<Target>,
    /// Flows, in the order of the tests.
    pub flows: Vec<Flow>,
    /// What is summarised.
    pub paths: Vec<Path>,
    /// Tests.
    pub tests: Vec<Test>,
}

impl Plan {
    /// Probes per second of all tests.
    pub fn rate(&self) -> f64 {
        self.tests.iter().map(Test::rate).sum()
    }
}
