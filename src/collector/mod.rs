//! The session-sender's role: start workers over a plan, merge their tallies, hand summaries on.
//!
//! Read [`Collector`] first, then [`worker`] (the hot loop). Not responsible for where summaries go
//! ([`crate::sink`]) nor for what a terminal shows ([`crate::cli`]).

pub mod clock_watch;
pub mod ledger;
pub mod metrics;
pub mod progress;
pub mod samples;
pub mod seats;
pub mod share;
pub mod stats;
pub mod summaries;
pub mod worker;

use crate::config::Plan;
use crate::net::features::{Features, Io, IoChoice, StampPath};
use crate::net::mmsg::MmsgNetwork;
use crate::net::socket::{self, Socket};
use crate::net::uring::{self, UringNetwork};
use crate::net::{FlowLabels, Limits, clock_state, flow_label, raw, thread};
use crate::probe::Seq;
use crate::probe::inflight::{self, InFlight};
use crate::probe::method::{Addressing, Method};
use crate::probe::random::Random;
use crate::probe::schedule::Schedule;
use crate::probe::shape::MethodKind;
use crate::summary::Summary;
use crate::summary::tally::{Layout, Tally};
use crate::time::{Clock, Monotonic, SystemClock};
use crate::wire::stamp::ErrorEstimate;
use crossbeam_channel::{Receiver, Sender, bounded};
use ledger::{Closed, Ledger, Timetable};
use progress::{Intervals, Progress};
use samples::Samples;
use seats::{EchoPath, Opened, Seats};
use share::Share;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use worker::{Parts, Reader, Route, TooBig, Worker};

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
    /// How ICMP echoes go out, when there are some.
    pub echo: Option<EchoPath>,
    /// Its workers.
    pub workers: Vec<WorkerInfo>,
    /// Local addresses of the flows of worker 0, by its flow number.
    pub flow_sources: Vec<SocketAddr>,
    progress: Vec<Arc<Progress>>,
    intervals: Arc<Intervals>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    summaries: JoinHandle<()>,
}

/// A worker's answer that it is set up: the local addresses of its sockets.
type Ready = (usize, io::Result<Vec<SocketAddr>>);

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
        let echo = allowed(plan, raw::privilege()).map_err(Error::Privilege)?;
        let cpus = cpus(plan, options).map_err(|source| Error::Start { worker: 0, source })?;
        let shares = share::deal(plan, cpus.len());
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_out, ready) = bounded::<Ready>(shares.len());
        let (closed_out, closed) = bounded::<Closed>(TALLIES_WAITING * shares.len());
        let mut collector = Collector {
            features: features.clone(),
            echo,
            workers: Vec::new(),
            flow_sources: Vec::new(),
            progress: Vec::new(),
            intervals: Arc::default(),
            stop: Arc::clone(&stop),
            threads: Vec::new(),
            summaries: std::thread::spawn(|| {}),
        };
        let (mut starts, mut backs, mut layouts) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (share, cpu)) in shares.iter().zip(&cpus).enumerate() {
            let setup = Setup::new(number, plan, share, *cpu, options, &features, echo);
            let (start_out, start) = bounded::<Timetable>(1);
            let (back_out, back) = bounded::<Tally>(setup.tallies + 1);
            collector.workers.push(setup.info(options));
            layouts.push(Arc::clone(&setup.layout));
            backs.push(back_out);
            starts.push(start_out);
            let progress = Arc::new(Progress::default());
            collector.progress.push(Arc::clone(&progress));
            let ends = Ends { ready: ready_out.clone(), start, closed: closed_out.clone(), back };
            let (stop, options) = (Arc::clone(&stop), options.clone());
            let thread = std::thread::Builder::new()
                .name(format!("llama-worker-{number}"))
                .spawn(move || setup.run(ends, &options, progress, stop))
                .map_err(|source| Error::Start { worker: number, source })?;
            collector.threads.push(thread);
        }
        drop((ready_out, closed_out));
        let mut locals = vec![Vec::new(); shares.len()];
        for (worker, result) in ready.iter().take(shares.len()) {
            locals[worker] = result.map_err(|source| Error::Start { worker, source })?;
        }
        let sockets = &shares[0].flow_sockets;
        collector.flow_sources = sockets.iter().filter_map(|s| locals[0].get(usize::from(*s)).copied()).collect();
        let start = SystemClock.monotonic().after(WARM_UP);
        let timetable = Timetable { start, interval: plan.interval };
        for start in starts {
            let _ = start.send(timetable); // a worker that is gone tells why when it is joined
        }
        let intervals = Arc::clone(&collector.intervals);
        let mut merger =
            summaries::Summaries::new(plan, &shares, &locals, layouts, timetable, options.duration, intervals);
        if let Some(flows) = options.flows_listed {
            merger = merger.listing(flows);
        }
        collector.summaries = std::thread::Builder::new()
            .name("llama-summary".into())
            .spawn(move || merger.run(&closed, &backs, deliver))
            .map_err(|source| Error::Start { worker: 0, source })?;
        Ok(collector)
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

/// The CPUs for the workers: as named, or as many as the rate asks for, from the last one down (the
/// first ones serve most interrupts), pinned only when they will spin.
fn cpus(plan: &Plan, options: &Options) -> io::Result<Vec<Option<usize>>> {
    if !options.cores.is_empty() {
        return Ok(options.cores.iter().copied().map(Some).collect());
    }
    let allowed = thread::allowed_cpus()?;
    let wanted = (plan.rate() / WORKER_RATE).ceil().max(1.0) as usize;
    let workers = if options.count.is_some() || options.samples.is_some() { 1 } else { wanted.min(allowed.len()) };
    let pin = plan.rate() / workers as f64 >= worker::SPIN_RATE;
    Ok(allowed.iter().rev().take(workers).map(|cpu| pin.then_some(*cpu)).collect())
}

/// A worker's channel ends.
struct Ends {
    ready: Sender<Ready>,
    start: Receiver<Timetable>,
    closed: Sender<Closed>,
    back: Receiver<Tally>,
}

/// Everything a worker's thread needs to build the worker.
struct Setup {
    number: usize,
    plan: Arc<Plan>,
    share: Share,
    cpu: Option<usize>,
    features: Features,
    layout: Arc<Layout>,
    tallies: usize,
    limits: Limits,
    /// Of each source, its in-flight ring.
    lanes: Vec<u8>,
    thresholds: Vec<Duration>,
    seats: Seats,
}

impl Setup {
    fn new(
        number: usize,
        plan: &Arc<Plan>,
        share: &Share,
        cpu: Option<usize>,
        options: &Options,
        features: &Features,
        echo: Option<EchoPath>,
    ) -> Setup {
        let (thresholds, lanes) = share.thresholds(plan);
        let longest = thresholds.iter().copied().max().unwrap_or_default();
        let largest = plan.shapes.iter().map(bytes_received).max().unwrap_or(0);
        // 50 ms of replies may wait in the buffers; what is beyond waits in the sockets
        let waiting = (share.rate * 0.05).clamp(256.0, 16_384.0) as u16;
        let in_flight = options.in_flight.unwrap_or(usize::MAX).min(usize::from(waiting));
        Setup {
            number,
            plan: Arc::clone(plan),
            layout: Arc::new(layout(plan, share, features)),
            share: share.clone(),
            cpu,
            features: features.clone(),
            tallies: ledger::tallies(plan.interval, longest),
            limits: Limits {
                batch: worker::BATCH as u16,
                buffers: in_flight.max(64).next_power_of_two() as u16,
                datagram: largest.max(128),
            },
            seats: Seats::new(plan, share, &lanes, echo.unwrap_or(EchoPath::Raw)),
            lanes,
            thresholds,
        }
    }

    fn info(&self, options: &Options) -> WorkerInfo {
        let rings: usize = (0..self.thresholds.len())
            .map(|lane| {
                let limit = self.in_flight_limit(lane, self.thresholds[lane], options);
                InFlight::memory(2 * limit, self.share.flows.len())
            })
            .sum();
        let policy = self.plan.shapes.first().map_or(crate::probe::shape::StampPolicy::Off, |shape| shape.stamps);
        WorkerInfo {
            cpu: self.cpu,
            sockets: self.seats.seats.len(),
            flows: self.share.flows.len(),
            rate: self.share.rate,
            spin: self.share.rate >= worker::SPIN_RATE,
            stamp_one_in: if self.features.stamps == StampPath::User { 0 } else { self.share.one_in(policy) },
            memory: rings
                + self.tallies * Tally::memory(&self.layout)
                + self.share.flows.len() * size_of::<Route>()
                + usize::from(self.limits.buffers) * (self.limits.datagram + 256),
        }
    }

    /// Probes in flight at most.
    fn in_flight_limit(&self, lane: usize, threshold: Duration, options: &Options) -> usize {
        let rate = self.share.lane_rate(&self.lanes, lane as u8);
        options.in_flight.unwrap_or_else(|| inflight::room(rate, threshold))
    }

    /// The worker's thread: opens what it needs, says so, waits for the start and runs.
    fn run(self, ends: Ends, options: &Options, progress: Arc<Progress>, stop: Arc<AtomicBool>) -> io::Result<()> {
        thread::exact_timers();
        let opened = self.cpu.map_or(Ok(()), thread::pin).and_then(|()| self.open_sockets());
        let Opened { sockets, locals, held: _held } = match opened {
            Ok(opened) => opened,
            Err(error) => return self.refuse(&ends, error),
        };
        let mut ring;
        match self.features.io {
            Io::Uring => {
                ring = match uring::open_ring(&self.limits) {
                    Ok(ring) => ring,
                    Err(error) => return self.refuse(&ends, error),
                };
                match UringNetwork::new(&mut ring, sockets, &self.limits, &self.features) {
                    Ok(network) => self.work(network, locals, ends, options, progress, stop),
                    Err(error) => self.refuse(&ends, error),
                }
            }
            Io::Mmsg => match MmsgNetwork::new(sockets, &self.limits, &self.features) {
                Ok(network) => self.work(network, locals, ends, options, progress, stop),
                Err(error) => self.refuse(&ends, error),
            },
        }
    }

    fn refuse(&self, ends: &Ends, error: io::Error) -> io::Result<()> {
        let _ = ends.ready.send((self.number, Err(error))); // nobody listens: somebody else failed first
        Ok(())
    }

    fn open_sockets(&self) -> io::Result<Opened> {
        let kernel_stamps = self.features.stamps != StampPath::User;
        self.seats.open(&self.plan, &self.share, kernel_stamps, first_identifier())
    }

    fn work<N: crate::net::Network>(
        &self,
        network: N,
        locals: Vec<SocketAddr>,
        ends: Ends,
        options: &Options,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<()> {
        let tallies = (0..self.tallies).map(|_| Tally::new(&self.layout, self.number as u16)).collect();
        let mut parts = self.parts(tallies, &locals, &ends, options, progress, stop);
        let _ = ends.ready.send((self.number, Ok(locals)));
        let Ok(timetable) = ends.start.recv() else { return Ok(()) }; // another worker failed to start
        parts.timetable = timetable;
        parts.schedule = Schedule::new(&self.share.sweeps, timetable.start, random_seed());
        parts.end = options.duration.map(|duration| timetable.start.after(duration));
        Worker::new(network, SystemClock, parts).run()
    }

    /// The worker's parts; the timetable is filled in when it is known.
    fn parts(
        &self,
        tallies: Vec<Tally>,
        locals: &[SocketAddr],
        ends: &Ends,
        options: &Options,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Parts {
        let (plan, share) = (&self.plan, &self.share);
        let mut random = Random::new(random_seed());
        // one SSID per shape: flows that differ in class alone are sessions of their own to a reflector that counts
        let ssid = random.bits() as u16;
        let clock = clock_state::synchronised_within_ns().map(ErrorEstimate::synchronised);
        let methods: Vec<Method> = plan
            .shapes
            .iter()
            .zip(0..)
            .map(|(shape, number)| {
                let method = Method::new(shape, ssid.wrapping_add(number).max(1));
                clock.map_or(method.clone(), |clock| method.with_clock(clock))
            })
            .collect();
        let rings = self.thresholds.iter().enumerate().map(|(lane, threshold)| {
            let limit = self.in_flight_limit(lane, *threshold, options);
            InFlight::new(2 * limit, share.flows.len(), *threshold, Seq(random.bits() as u32), limit)
        });
        let start = Monotonic(u64::MAX);
        Parts {
            schedule: Schedule::new(&[], start, 0),
            lanes: rings.collect(),
            thresholds: self.thresholds.clone(),
            routes: self.routes(locals),
            readers: (0..self.seats.seats.len())
                .map(|seat| Reader { lane: self.seats.seats[seat].lane, method: self.shape_of_seat(seat) as u8 })
                .collect(),
            methods,
            ledger: Ledger::new(self.number as u16, tallies, ends.closed.clone(), ends.back.clone()),
            timetable: Timetable { start, interval: plan.interval },
            spin: share.rate >= worker::SPIN_RATE,
            max_lateness_ns: crate::time::nanos(worker::max_lateness(share.rate)),
            end: None,
            count: options.count,
            samples: options.samples.clone(),
            too_big: TooBig::default(),
            progress,
            stop,
        }
    }

    /// The shape of the probes that a network socket sends first.
    fn shape_of_seat(&self, seat: usize) -> u32 {
        let first = self.seats.seats[seat].sources.first().map_or(0, |source| usize::from(*source));
        self.plan.sources[self.share.sources[first] as usize].shape
    }

    /// `locals`: of each source, its local address and port.
    fn routes(&self, locals: &[SocketAddr]) -> Vec<Route> {
        let plan = &self.plan;
        let kernel_stamps = self.features.stamps != StampPath::User;
        let flows = self.share.flows.iter().zip(&self.share.flow_sockets).zip(&self.seats.of_flow);
        let routes = flows.map(|((flow, source), seat)| {
            let flow = plan.flows[*flow as usize];
            let shape = &plan.shapes[flow.shape as usize];
            let of_seat = &plan.shapes[self.shape_of_seat(usize::from(*seat)) as usize];
            let of_source = &plan.shapes[plan.sources[flow.source as usize].shape as usize];
            let to = plan.targets[flow.target as usize].address;
            // what the probes leave with, where the source is bound to a wildcard
            let from = SocketAddr::new(plan.paths[flow.path as usize].src, locals[usize::from(*source)].port());
            Route {
                to,
                addressing: Addressing::new(from, to),
                socket: crate::net::SocketId(*seat),
                lane: self.lanes[usize::from(*source)],
                method: flow.shape as u8,
                dscp: shape.dscp,
                flow_label: match plan.sources[flow.source as usize].flow_labels {
                    FlowLabels::Own => flow_label(from.port(), to),
                    FlowLabels::System | FlowLabels::Zero => 0,
                },
                traffic_class: (shape.dscp != of_seat.dscp).then(|| shape.dscp.traffic_class()),
                stamp_one_in: if kernel_stamps { self.share.one_in(of_source.stamps) } else { 0 },
            }
        });
        routes.collect()
    }
}

/// Whether this process may send the plan's probes, and how ICMP echoes go out.
fn allowed(plan: &Plan, privilege: raw::Privilege) -> Result<Option<EchoPath>, String> {
    let has = |method| plan.shapes.iter().any(|shape| shape.method == method);
    if has(MethodKind::TcpSyn) && !privilege.raw {
        let icmp = if privilege.ping { ", and icmp uses ping sockets, which this process may open" } else { "" };
        return Err(format!(
            "method tcp-syn: raw sockets need CAP_NET_RAW, which this process has not; {}. Without it methods udp, llama and llama-python work{icmp}",
            raw::REMEDY
        ));
    }
    match (has(MethodKind::Icmp), privilege) {
        (false, _) => Ok(None),
        (true, raw::Privilege { raw: true, .. }) => Ok(Some(EchoPath::Raw)),
        (true, raw::Privilege { ping: true, .. }) => Ok(Some(EchoPath::PingSockets)),
        (true, _) => Err(format!(
            "method icmp: needs CAP_NET_RAW for raw sockets, or a group within sysctl net.ipv4.ping_group_range for ping sockets, and this process has neither; {}. Without it methods udp, llama and llama-python work",
            raw::REMEDY
        )),
    }
}

/// What a reply to a probe of this shape takes in a receive buffer.
fn bytes_received(shape: &crate::probe::shape::Shape) -> usize {
    let headers = if shape.method.is_udp() { 0 } else { raw::LONGEST_IP_HEADER + shape.method.header_len() };
    usize::from(shape.size) + headers
}

/// What identifiers of echoes over raw sockets are counted from: the same for all workers of this process, another
/// one, most likely, for another process.
fn first_identifier() -> u16 {
    (std::process::id() as u16).wrapping_mul(0x9e37)
}

/// Opens a socket; one whose port the system chooses gets none that reflectors refuse to answer
/// (60000 lies in the range the system chooses from).
fn open_source(spec: &crate::net::SocketSpec) -> io::Result<Socket> {
    let mut refused = Vec::new(); // kept open, so that the system does not choose it again
    loop {
        let socket = socket::open(spec)?;
        if spec.bind.port() != 0 || !crate::wire::REFLECTOR_PORTS.contains(&socket.local.port()) {
            return Ok(socket);
        }
        refused.push(socket);
    }
}

/// What a worker's tallies cover.
fn layout(plan: &Plan, share: &Share, features: &Features) -> Layout {
    let mut local = vec![u32::MAX; plan.paths.len()];
    let mut layout =
        Layout { flow_paths: Vec::new(), flows: share.flows.clone(), paths: Vec::new(), stamped: Vec::new() };
    for index in &share.flows {
        let flow = plan.flows[*index as usize];
        let position = &mut local[flow.path as usize];
        let shape = &plan.shapes[plan.sources[flow.source as usize].shape as usize];
        let stamped = features.stamps != StampPath::User && share.one_in(shape.stamps) != 0;
        if *position == u32::MAX {
            *position = layout.paths.len() as u32;
            layout.paths.push(flow.path);
            layout.stamped.push(stamped);
        }
        // a path with some unstamped flows would mix stamps of both kinds: the stamped ones count
        layout.stamped[*position as usize] |= stamped;
        layout.flow_paths.push(*position);
    }
    layout
}

/// A seed that differs from run to run.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
