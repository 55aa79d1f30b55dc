//! Puts a running collector under another plan without a gap.
//!
//! ```text
//! match plans → deal → rosters, outfits → open sockets → workers get ready → one moment for all → taken
//!                                                               … probes of the old plan decided → settled
//! ```
//! What can fail does so before the moment is set, and then the old plan goes on untouched. Not responsible for
//! reading configurations. Read [`Reloader::reload`] first; `docs/decisions/0017-reload.md` has the reasons.

use super::WorkerInfo;
use super::ledger::{Segment, Timetable};
use super::outfit::{Outfit, Port};
use super::progress::Progress;
use super::roster::{Roster, Settings, Succession, TooMany};
use super::seats;
use super::share;
use super::station::Cpu;
use super::summaries::Coverage;
use super::turn::{Answer, Change, Turn};
use crate::config::diff::{self, Numbers};
use crate::config::plan::Source;
use crate::config::{Matching, Plan};
use crate::net::{Limits, raw, thread};
use crate::probe::IntervalId;
use crate::probe::random::Random;
use crate::probe::shape::MethodKind;
use crate::sink::rfc3339;
use crate::time::{Clock, Monotonic, SystemClock, Wall};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Plans that the summary thread may not have looked at.
pub const PLANS: usize = 4;
/// From the moment's being set to the moment itself: a worker looks every 100 ms, and new sockets begin to stamp.
const AHEAD: Duration = Duration::from_millis(110);
/// Within which workers answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a reload waits for the one before to be settled.
const UNSETTLED_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the old plan's probes are decided.
const LOOK: Duration = Duration::from_millis(20);

/// Why a plan was not taken; the old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is nothing to probe.
    #[error("the plan has no flows: give tests a target and a port")]
    Empty,
    /// This process may not send what the plan asks for.
    #[error("{0}")]
    Privilege(String),
    /// There are not enough ICMP identifiers.
    #[error(
        "{asked} ICMP identifiers asked, 65535 possible while the old plan's probes are in flight; change less at once"
    )]
    Identifiers {
        /// How many.
        asked: usize,
    },
    /// Probes of the plan before the present one are not all decided.
    #[error("the reload before still waits for probes of removed flows, for a loss threshold at most; try again then")]
    Unsettled,
    /// A worker cannot number what both plans need together.
    #[error("worker {worker}: {source}")]
    TooMany {
        /// Which.
        worker: usize,
        /// What, with the limit.
        source: TooMany,
    },
    /// A socket could not be opened, or a worker not get ready.
    #[error("worker {worker}: {source}")]
    Refused {
        /// Which.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// A worker did not answer.
    #[error("a worker did not answer within {PATIENCE:?}: it has no time; lower the rate, or restart")]
    Silent,
    /// The collector has ended.
    #[error("the collector has ended")]
    Ended,
}

/// What a reload did.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// False when the plan is the one that runs already: then nothing was touched.
    pub changed: bool,
    /// Plans this collector has had, the first included.
    pub generation: u32,
    /// When the plan took effect, RFC 3339; of one that runs already: when it was asked for.
    pub took_effect: String,
    /// The first interval of the plan.
    pub first_interval: u32,
    /// Flows.
    pub flows: Numbers,
    /// Sockets.
    pub sockets: Numbers,
    /// The longest time in which a worker sent nothing, ns; what came in waited, with its stamps.
    pub pause_ns: u64,
    /// What the plan wants and only a restart gives.
    pub needs_restart: Vec<String>,
}

/// A running collector, as a reload sees it.
#[derive(Debug)]
pub struct Running {
    /// The plan it is under.
    pub plan: Arc<Plan>,
    /// Its workers, for people.
    pub workers: Vec<WorkerInfo>,
    /// What its workers have.
    pub rosters: Vec<Roster>,
    /// By worker: its ports.
    pub ports: Vec<Vec<Port>>,
    /// What the process may do.
    pub privilege: raw::Privilege,
    /// When intervals are.
    pub timetable: Timetable,
    /// What is the same for all workers.
    pub settings: Settings,
    /// Where the workers run.
    pub cpus: Vec<Cpu>,
    /// To the workers.
    pub changes: Vec<Sender<Box<Change>>>,
    /// To the summary thread.
    pub plans: Sender<(Segment, Coverage)>,
    /// From the workers.
    pub progress: Vec<Arc<Progress>>,
}

#[derive(Debug)]
struct Shared {
    /// Locked while a reload is carried out.
    running: Mutex<Running>,
    /// Locked for a moment.
    shown: Mutex<Shown>,
    generation: AtomicU32,
}

/// What is in effect, for whoever wants to know.
#[derive(Clone, Debug)]
struct Shown {
    plan: Arc<Plan>,
    workers: Vec<WorkerInfo>,
}

/// Puts a collector under other plans. Clones are of one collector.
#[derive(Clone, Debug)]
pub struct Reloader(Arc<Shared>);

impl Reloader {
    /// For a collector that was just started.
    pub fn new(running: Running) -> Reloader {
        let shown = Mutex::new(running.shown());
        Reloader(Arc::new(Shared { running: Mutex::new(running), shown, generation: AtomicU32::new(1) }))
    }

    /// The plan in effect. Does not wait for a reload that is under way.
    pub fn plan(&self) -> Arc<Plan> {
        self.shown().plan.clone()
    }

    /// The workers under the plan in effect.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.shown().workers.clone()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans the collector has had, the first included: whoever shows the plan looks whether it is another one.
    pub fn generation(&self) -> u32 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// Puts the collector under `plan`; returns when it is in effect, after some tenths of a second. A reload that is
    /// under way is waited for, and the probes of flows that it removed, up to 5 s.
    ///
    /// Flows in both plans (see [`Matching`]) keep their socket, their sequence and what is known of them. The running
    /// interval ends early, the next is of the new plan. Probes of flows that are gone are waited for.
    ///
    /// # Errors
    /// Why the plan was not taken; then nothing has changed.
    pub fn reload(&self, plan: &Arc<Plan>) -> Result<Reloaded, ReloadError> {
        if plan.flows.is_empty() {
            return Err(ReloadError::Empty);
        }
        let end = Instant::now() + UNSETTLED_PATIENCE;
        let mut running = self.lock();
        while running.rosters.iter().any(Roster::has_leaving) {
            if Instant::now() >= end {
                return Err(ReloadError::Unsettled);
            }
            drop(running); // another thread settles it
            std::thread::sleep(LOOK);
            running = self.lock();
        }
        let mut reloaded = running.change(plan)?;
        if reloaded.changed {
            *self.shown() = running.shown();
            self.0.generation.fetch_add(1, Ordering::Relaxed);
            if running.rosters.iter().any(Roster::has_leaving) {
                let reloader = self.clone();
                let settling = std::thread::Builder::new().name("llama-settle".into()).spawn(move || reloader.settle());
                if let Err(error) = settling {
                    drop(running);
                    tracing::warn!("no thread to settle the reload, its caller waits: {error}");
                    self.settle();
                }
            }
        }
        reloaded.generation = self.generation();
        Ok(reloaded)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // what a thread that panicked has left is a whole plan: it is replaced in one step
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the probes of the old plan are decided, then lets go of what only they needed. Ends with the
    /// collector at the latest.
    fn settle(&self) {
        loop {
            let mut running = self.lock();
            if running.is_decided() {
                match running.settle() {
                    Ok(()) | Err(ReloadError::Ended) => return,
                    Err(error) => tracing::debug!("settling a reload, once more: {error}"),
                }
            }
            drop(running);
            std::thread::sleep(LOOK);
        }
    }
}

impl Running {
    fn shown(&self) -> Shown {
        Shown { plan: Arc::clone(&self.plan), workers: self.workers.clone() }
    }

    /// Whether no probe of the plan before is in flight.
    fn is_decided(&self) -> bool {
        let first = u64::from(self.timetable.last().first.0);
        self.progress.iter().all(|progress| progress.oldest_open.get() >= first)
    }

    fn change(&mut self, plan: &Arc<Plan>) -> Result<Reloaded, ReloadError> {
        let same = Matching::of(&self.plan, plan);
        let mut reloaded = Reloaded {
            changed: false,
            generation: 0,
            took_effect: rfc3339(SystemClock.wall()),
            first_interval: self.timetable.last().first.0,
            flows: Numbers::new(self.plan.flows.len(), &same.flows),
            sockets: Numbers::new(self.plan.sources.len(), &same.sources),
            pause_ns: 0,
            needs_restart: needs_restart(plan, self.rosters.len()).into_iter().collect(),
        };
        if diff::is_same(&self.plan, plan) {
            return Ok(reloaded);
        }
        seats::allowed(plan, self.privilege).map_err(ReloadError::Privilege)?;
        let (rosters, mut outfits) = self.outfits(plan, &same)?;
        let mut ports = Vec::with_capacity(outfits.len());
        for (worker, (outfit, had)) in outfits.iter_mut().zip(&self.ports).enumerate() {
            ports.push(outfit.open(had).map_err(|source| ReloadError::Refused { worker, source })?);
        }
        let limits: Vec<Limits> = outfits.iter().map(|outfit| outfit.limits).collect();
        let coverage = Coverage::new(plan, &rosters, &ports);
        let handed = self.hand_out(outfits.into_iter().enumerate().collect())?;
        // no step from here on can fail
        let at = SystemClock.monotonic().after(AHEAD);
        let cut = self.timetable.cut(at, plan.interval);
        if self.plans.send((cut, coverage)).is_err() {
            return Err(handed.withdrawn(ReloadError::Ended));
        }
        handed.turn.begin(cut);
        self.timetable.push(cut, IntervalId(cut.first.0.saturating_sub(1)));
        for (worker, (roster, limits)) in rosters.iter().zip(&limits).enumerate() {
            self.cpus[worker].pinned |= roster.share.rate >= super::worker::SPIN_RATE;
            self.workers[worker] = WorkerInfo::new(plan, roster, &self.settings, &self.cpus[worker], limits);
        }
        (self.rosters, self.ports, self.plan) = (rosters, ports, Arc::clone(plan));
        reloaded.changed = true;
        reloaded.pause_ns = crate::time::nanos(handed.taken());
        reloaded.first_interval = cut.first.0;
        reloaded.took_effect = rfc3339(wall_at(at));
        Ok(reloaded)
    }

    /// What every worker has under the plan, and what brings it there.
    fn outfits(&self, plan: &Plan, same: &Matching) -> Result<(Vec<Roster>, Vec<Outfit>), ReloadError> {
        let mut seat_of = vec![None; self.plan.sources.len()];
        for (worker, roster) in self.rosters.iter().enumerate() {
            roster.share.sources.iter().for_each(|source| seat_of[*source as usize] = Some(worker));
        }
        let seated = same.sources.iter().map(|old| old.and_then(|old| seat_of[old as usize]));
        let shares = share::redeal(plan, self.rosters.len(), &seated.collect::<Vec<_>>());
        let identifiers = self.identifiers(plan, same)?;
        let way = Succession { former: &self.plan, plan, same, identifiers: &identifiers };
        let mut random = Random::new(super::random_seed());
        let (mut rosters, mut outfits) = (Vec::new(), Vec::new());
        for (worker, (roster, share)) in self.rosters.iter().zip(shares).enumerate() {
            let followed = roster.follow(&way, share, &self.settings, &mut random);
            let (roster, outfit) = followed.map_err(|source| ReloadError::TooMany { worker, source })?;
            rosters.push(roster);
            outfits.push(outfit);
        }
        Ok((rosters, outfits))
    }

    /// The identifiers of the plan's echoes: those there are stay with their sources, until the old plan is settled
    /// others get none of them.
    fn identifiers(&self, plan: &Plan, same: &Matching) -> Result<Vec<u16>, ReloadError> {
        let mut port_of = vec![None; self.plan.sources.len()];
        for (roster, ports) in self.rosters.iter().zip(&self.ports) {
            for (source, port) in roster.share.sources.iter().zip(ports) {
                port_of[*source as usize] = Some(port.local.port());
            }
        }
        let known: Vec<Option<u16>> = same.sources.iter().map(|old| port_of[(*old)? as usize]).collect();
        let is_echo = |source: &Source| self.plan.shapes[source.shape as usize].method == MethodKind::Icmp;
        let echoes = self.plan.sources.iter().zip(&port_of).filter(|(source, _)| is_echo(source));
        let taken = echoes.filter_map(|(_, port)| *port);
        seats::identifiers(plan, &known, taken).map_err(|asked| ReloadError::Identifiers { asked })
    }

    fn settle(&mut self) -> Result<(), ReloadError> {
        let (mut given, mut rosters, mut ports) = (Vec::new(), self.rosters.clone(), self.ports.clone());
        for (worker, roster) in self.rosters.iter().enumerate().filter(|(_, roster)| roster.has_leaving()) {
            let (settled, mut outfit) = roster.settled(&self.plan, &self.settings);
            ports[worker] =
                outfit.open(&self.ports[worker]).map_err(|source| ReloadError::Refused { worker, source })?;
            rosters[worker] = settled;
            given.push((worker, outfit));
        }
        let handed = self.hand_out(given)?;
        handed.turn.begin_at_once();
        (self.rosters, self.ports) = (rosters, ports);
        handed.taken();
        Ok(())
    }

    /// Gives workers their outfits and waits until all are ready for them; withdraws them when one is not.
    fn hand_out(&self, given: Vec<(usize, Outfit)>) -> Result<Handed, ReloadError> {
        let (answers, heard) = bounded(2 * given.len().max(1));
        let handed = Handed { turn: Arc::default(), count: given.len(), heard };
        for (worker, outfit) in given {
            let change = Change { outfit, turn: Arc::clone(&handed.turn), answers: answers.clone() };
            match self.changes[worker].try_send(Box::new(change)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(handed.withdrawn(ReloadError::Silent)),
                Err(TrySendError::Disconnected(_)) => return Err(handed.withdrawn(ReloadError::Ended)),
            }
        }
        drop(answers);
        let end = Instant::now() + PATIENCE;
        for _ in 0..handed.count {
            match handed.heard.recv_deadline(end) {
                Ok((_, Answer::Ready(Ok(())))) => {}
                Ok((worker, Answer::Ready(Err(source)))) => {
                    return Err(handed.withdrawn(ReloadError::Refused { worker: worker.into(), source }));
                }
                Ok((_, Answer::Taken { .. })) | Err(_) => return Err(handed.withdrawn(ReloadError::Silent)),
            }
        }
        Ok(handed)
    }
}

/// Outfits that workers are getting ready for.
struct Handed {
    turn: Arc<Turn>,
    count: usize,
    heard: Receiver<(u16, Answer)>,
}

impl Handed {
    /// Tells the workers that it is not to be, for this reason.
    fn withdrawn(&self, reason: ReloadError) -> ReloadError {
        self.turn.withdraw();
        reason
    }

    /// Waits until all are taken; the longest pause. What the workers have no use for is dropped here.
    fn taken(self) -> Duration {
        let end = Instant::now() + AHEAD + PATIENCE;
        let mut longest = Duration::ZERO;
        for _ in 0..self.count {
            match self.heard.recv_deadline(end) {
                Ok((_, Answer::Taken { pause, leftovers })) => {
                    longest = longest.max(pause);
                    drop(leftovers);
                }
                // it ended, or takes it later: the moment is set
                Ok((_, Answer::Ready(_))) | Err(_) => break,
            }
        }
        longest
    }
}

fn wall_at(at: Monotonic) -> Wall {
    let (now, wall) = (SystemClock.monotonic(), SystemClock.wall());
    Wall(wall.0.wrapping_add(at.0).wrapping_sub(now.0))
}

/// What `workers` workers cannot do of a plan until they are started anew.
pub fn needs_restart(plan: &Plan, workers: usize) -> Option<String> {
    let cpus = thread::allowed_cpus().map_or(usize::MAX, |cpus| cpus.len());
    let wanted = super::workers_wanted(plan).min(cpus);
    (wanted > workers)
        .then(|| format!("rate_limits: {:.0} probes/s want {wanted} workers, there are {workers}", plan.rate()))
}
