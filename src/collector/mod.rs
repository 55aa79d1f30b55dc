//! The session-sender's role: start workers over a plan, merge their tallies, hand summaries on.
//!
//! Read [`Collector`] first, then [`worker`] (the hot loop). Not responsible for where summaries go
//! ([`crate::sink`]) nor for what a terminal shows ([`crate::cli`]).

pub mod clock_watch;
pub mod demand;
pub mod ledger;
pub mod metrics;
pub mod outfit;
pub mod progress;
pub mod reading;
pub mod reload;
pub mod roster;
pub mod samples;
pub mod seats;
pub mod share;
pub mod station;
pub mod stats;
pub mod summaries;
pub mod turn;
pub mod worker;

use crate::config::Plan;
use crate::net::features::{Features, IoChoice, StampPath};
use crate::net::{Limits, clock_state, raw, thread};
use crate::probe::shape::StampPolicy;
use crate::summary::Summary;
use crate::summary::tally::Tally;
use crate::time::{Clock, SystemClock};
use crate::wire::stamp::ErrorEstimate;
use crossbeam_channel::bounded;
use ledger::{Closed, Ledger, Timetable};
use progress::{Intervals, Progress};
use reload::Reloader;
use roster::{Roster, Settings};
use samples::Samples;
use seats::EchoPath;
use station::{Cpu, Ready, SetUp, Station};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use summaries::{Coverage, Summaries};
use turn::Change;
use worker::Parts;

/// Probes per second one worker is given before another core is used.
pub const WORKER_RATE: f64 = 150_000.0;
/// From opening the sockets to the first probe: the kernel starts stamping a moment after it is asked to.
const WARM_UP: Duration = Duration::from_millis(100);

/// Closed tallies per worker that may wait for the summary thread.
const TALLIES_WAITING: usize = 2;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which network.
    pub io: IoChoice,
    /// CPUs, one worker each; empty: as many as the rate asks for, pinned only when they spin.
    pub cores: Vec<usize>,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Stop after this many probes; with one worker only.
    pub count: Option<u64>,
    /// Where single round trips go; with one worker only.
    pub samples: Option<Samples>,
    /// Flows listed per summary, instead of the few worst.
    pub flows_listed: Option<usize>,
    /// Probes in flight at most, instead of what the rate and the loss threshold ask for.
    pub in_flight: Option<usize>,
}

/// Why a collector did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker could not be set up.
    #[error("worker {worker}: {source}")]
    Start {
        /// Which.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// Neither network is to be had as asked.
    #[error(transparent)]
    Features(io::Error),
    /// A worker's network broke while it ran.
    #[error("worker {worker} stopped: {source}")]
    Broken {
        /// Which.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// This process may not send what the plan asks for.
    #[error("{0}")]
    Privilege(String),
    /// There is nothing to probe.
    #[error("the plan has no flows: give tests a target and a port")]
    Empty,
    /// A thread died of a bug.
    #[error("{0} ended by a panic")]
    Panicked(String),
}

/// One worker, for people.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Its sockets.
    pub sockets: usize,
    /// Its flows.
    pub flows: usize,
    /// Its probes per second.
    pub rate: f64,
    /// Whether it spins.
    pub spin: bool,
    /// One probe in this many gets a kernel transmit stamp; 0: none.
    pub stamp_one_in: u32,
    /// Bytes of its rings, tallies and buffers.
    pub memory: usize,
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    /// What the kernel lets it do.
    pub features: Features,
    /// How ICMP echoes go out, when there are some at the start.
    pub echo: Option<EchoPath>,
    /// Its workers under the plan it was started with; [`Reloader::workers`] has those of now.
    pub workers: Vec<WorkerInfo>,
    /// Local addresses of the flows of worker 0, by its flow number.
    pub flow_sources: Vec<SocketAddr>,
    progress: Vec<Arc<Progress>>,
    intervals: Arc<Intervals>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    summaries: JoinHandle<()>,
    reloader: Reloader,
}

impl Collector {
    /// Starts the workers and the thread that merges their tallies; `deliver` gets every interval's
    /// summaries, in order, on that thread.
    ///
    /// # Errors
    /// What the kernel refused, with the worker.
    pub fn start(
        plan: &Arc<Plan>,
        options: &Options,
        deliver: impl FnMut(Vec<Summary>) + Send + 'static,
    ) -> Result<Collector, Error> {
        if plan.flows.is_empty() {
            return Err(Error::Empty);
        }
        let features = Features::detect(options.io).map_err(Error::Features)?;
        let privilege = raw::privilege();
        let echo = seats::allowed(plan, privilege).map_err(Error::Privilege)?;
        let mut cpus = cpus(plan, options).map_err(|source| Error::Start { worker: 0, source })?;
        let shares = share::deal(plan, cpus.len());
        let count = shares.len();
        cpus.truncate(count);
        let settings = Settings {
            kernel_stamps: features.stamps != StampPath::User,
            in_flight: options.in_flight,
            echo: if privilege.raw { EchoPath::Raw } else { EchoPath::PingSockets },
            clock: clock_state::synchronised_within_ns().map(ErrorEstimate::synchronised),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_out, ready) = bounded::<Ready>(count);
        let (closed_out, closed) = bounded::<Closed>(TALLIES_WAITING * count);
        let (mut threads, mut progress) = (Vec::new(), Vec::new());
        let (mut starts, mut backs, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (share, cpu)) in shares.into_iter().zip(&cpus).enumerate() {
            let (start_out, start) = bounded::<Timetable>(1);
            let (back_out, back) = bounded::<Tally>(ledger::MOST_OPEN + 3);
            let (change_out, change) = bounded::<Box<Change>>(1);
            backs.push(back_out);
            starts.push(start_out);
            changes.push(change_out);
            let ledger = Ledger::new(number as u16, closed_out.clone(), back);
            let parts = Parts::new(ledger, options, Arc::clone(&stop), change);
            progress.push(Arc::clone(&parts.progress));
            let (features, settings, ready) = (features.clone(), settings.clone(), ready_out.clone());
            let station = Station { number, cpu: *cpu, features, settings, ready, start };
            let (plan, duration) = (Arc::clone(plan), options.duration);
            let thread = std::thread::Builder::new()
                .name(format!("llama-worker-{number}"))
                .spawn(move || station.run(&plan, share, parts, duration))
                .map_err(|source| Error::Start { worker: number, source })?;
            threads.push(thread);
        }
        drop((ready_out, closed_out));
        let mut set_up: Vec<Option<SetUp>> = (0..count).map(|_| None).collect();
        for (worker, result) in ready.iter().take(count) {
            set_up[worker] = Some(result.map_err(|source| Error::Start { worker, source })?);
        }
        let (mut workers, mut rosters, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for (worker, (set_up, cpu)) in set_up.into_iter().zip(&cpus).enumerate() {
            let Some(SetUp { roster, ports: own, limits }) = set_up else {
                return Err(Error::Panicked(format!("worker {worker}"))); // neither ready nor refused
            };
            workers.push(WorkerInfo::new(plan, &roster, &settings, cpu, &limits));
            rosters.push(roster);
            ports.push(own);
        }
        let sources = rosters[0].share.flow_sockets.iter();
        let flow_sources = sources.filter_map(|port| Some(ports[0].get(usize::from(*port))?.local)).collect();
        let timetable = Timetable::new(SystemClock.monotonic().after(WARM_UP), plan.interval);
        for start in starts {
            let _ = start.send(timetable.clone()); // a worker that is gone tells why when it is joined
        }
        let (plans_out, plans) = bounded(reload::PLANS);
        let coverage = Coverage::new(plan, &rosters, &ports);
        let intervals = Arc::new(Intervals::default());
        let mut merger = Summaries::new(coverage, timetable.clone(), plans, options.duration, Arc::clone(&intervals));
        if let Some(flows) = options.flows_listed {
            merger = merger.listing(flows);
        }
        let summaries = std::thread::Builder::new()
            .name("llama-summary".into())
            .spawn(move || merger.run(&closed, &backs, deliver))
            .map_err(|source| Error::Start { worker: 0, source })?;
        let reloader = Reloader::new(reload::Running {
            plan: Arc::clone(plan),
            workers: workers.clone(),
            rosters,
            ports,
            privilege,
            timetable,
            settings,
            cpus,
            changes,
            plans: plans_out,
            progress: progress.clone(),
        });
        Ok(Collector { features, echo, workers, flow_sources, progress, intervals, stop, threads, summaries, reloader })
    }

    /// What puts the collector under another plan while it runs; may be kept and used by any thread.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Asks the workers to send no more; they end when their last probe is decided.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Each worker's counters, readable at any time, also after the end.
    pub fn progress(&self) -> &[Arc<Progress>] {
        &self.progress
    }

    /// The summary thread's counters, readable at any time, also after the end.
    pub fn intervals(&self) -> &Arc<Intervals> {
        &self.intervals
    }

    /// Whether all workers have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the workers' and the summary thread's end.
    ///
    /// # Errors
    /// The first worker whose network broke.
    pub fn join(self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (worker, thread) in self.threads.into_iter().enumerate() {
            let ended = match thread.join() {
                Ok(result) => result.map_err(|source| Error::Broken { worker, source }),
                Err(_) => Err(Error::Panicked(format!("worker {worker}"))),
            };
            outcome = outcome.and(ended);
        }
        let merged = self.summaries.join().map_err(|_| Error::Panicked("the summary thread".into()));
        outcome.and(merged)
    }
}

impl WorkerInfo {
    fn new(plan: &Plan, roster: &Roster, settings: &Settings, cpu: &Cpu, limits: &Limits) -> WorkerInfo {
        let share = &roster.share;
        let policy = plan.shapes.first().map_or(StampPolicy::Off, |shape| shape.stamps);
        WorkerInfo {
            cpu: cpu.pinned.then_some(cpu.number),
            sockets: roster.sockets(),
            flows: share.flows.len(),
            rate: share.rate,
            spin: share.rate >= worker::SPIN_RATE,
            stamp_one_in: if settings.kernel_stamps { share.one_in(policy) } else { 0 },
            memory: roster.memory(plan, limits),
        }
    }
}

/// Workers a plan asks for.
pub fn workers_wanted(plan: &Plan) -> usize {
    (plan.rate() / WORKER_RATE).ceil().max(1.0) as usize
}

/// Workers a plan gets with these options, at most.
///
/// # Errors
/// The kernel does not tell the CPUs.
pub fn workers(plan: &Plan, options: &Options) -> io::Result<usize> {
    Ok(cpus(plan, options)?.len())
}

/// The CPUs for the workers: as named, or as many as the rate asks for, from the last one down (the
/// first ones serve most interrupts), pinned only when they will spin.
fn cpus(plan: &Plan, options: &Options) -> io::Result<Vec<Cpu>> {
    if !options.cores.is_empty() {
        return Ok(options.cores.iter().map(|number| Cpu { number: *number, pinned: true }).collect());
    }
    let allowed = thread::allowed_cpus()?;
    let single = options.count.is_some() || options.samples.is_some();
    let workers = if single { 1 } else { workers_wanted(plan).min(allowed.len()) };
    let pinned = plan.rate() / workers as f64 >= worker::SPIN_RATE;
    Ok(allowed.iter().rev().take(workers).map(|number| Cpu { number: *number, pinned }).collect())
}

/// A seed that differs from run to run.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
