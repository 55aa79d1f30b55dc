//! A worker's thread: it opens what the worker needs, lets it run, and puts it under another plan.
//!
//! Another plan means other sockets and other sizes, and a network is of fixed sockets and sizes: so the worker lays
//! its network down, which is closed with everything it has reported, and goes on over a new one. Sockets that stay
//! keep receiving in between. Not responsible for what the plan is ([`super::reload`]). Read [`Station`] first.

use super::ledger::Timetable;
use super::outfit::{Leftovers, Outfit, Port};
use super::reload;
use super::roster::{Roster, Settings, Succession};
use super::seats;
use super::share::Share;
use super::turn::{Answer, Change};
use super::worker::{Bare, Ended, Parts, Worker};
use crate::config::{Matching, Plan};
use crate::net::features::{Features, Io};
use crate::net::mmsg::MmsgNetwork;
use crate::net::socket::Socket;
use crate::net::uring::{self, UringNetwork};
use crate::net::{Limits, Network, thread};
use crate::probe::random::Random;
use crate::time::{Clock, SystemClock};
use crossbeam_channel::{Receiver, Sender};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Where a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: usize,
    /// Whether the worker is bound to it from the start; else when it begins to spin.
    pub pinned: bool,
}

/// A worker that is set up.
#[derive(Debug)]
pub struct SetUp {
    /// What it has.
    pub roster: Roster,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Sizes of its network.
    pub limits: Limits,
}

/// A worker's answer that it is set up, with its number.
pub type Ready = (usize, io::Result<SetUp>);

/// A worker's thread.
#[derive(Debug)]
pub struct Station {
    /// Position among the workers.
    pub number: usize,
    /// Where it runs.
    pub cpu: Cpu,
    /// What the kernel lets it do.
    pub features: Features,
    /// What is the same for all workers.
    pub settings: Settings,
    /// Tells that it is set up.
    pub ready: Sender<Ready>,
    /// Brings the moment to begin.
    pub start: Receiver<Timetable>,
}

impl Station {
    /// Opens what `share` of the plan needs, says so, waits for the start and runs until the worker is done.
    ///
    /// # Errors
    /// The network broke.
    pub fn run(self, plan: &Plan, share: Share, parts: Parts, duration: Option<Duration>) -> io::Result<()> {
        thread::exact_timers();
        match self.prepare(plan, share) {
            Ok((set_up, outfit, sockets)) => {
                let beginning = Beginning { set_up, outfit, parts, duration };
                match self.features.io {
                    Io::Uring => self.over_uring(beginning, sockets),
                    Io::Mmsg => self.over_mmsg(beginning, sockets),
                }
            }
            Err(error) => self.refuse(error),
        }
    }

    fn prepare(&self, plan: &Plan, share: Share) -> io::Result<(SetUp, Outfit, Vec<Socket>)> {
        if self.cpu.pinned {
            thread::pin(self.cpu.number)?;
        }
        let mut random = Random::new(super::random_seed());
        // the same for all workers, which begin with the same number
        let identifiers = seats::identifiers(plan, &[], std::iter::empty());
        let identifiers = identifiers.map_err(|asked| io::Error::other(reload::ReloadError::Identifiers { asked }))?;
        let way = Succession { former: plan, plan, same: &Matching::none(plan), identifiers: &identifiers };
        let nothing = Roster::new(self.number as u16, &mut random);
        let (roster, mut outfit) =
            nothing.follow(&way, share, &self.settings, &mut random).map_err(io::Error::other)?;
        let ports = outfit.open(&[])?;
        let (sockets, _) = outfit.seat(Vec::new())?;
        Ok((SetUp { roster, ports, limits: outfit.limits }, outfit, sockets))
    }

    fn refuse(&self, error: io::Error) -> io::Result<()> {
        let _ = self.ready.send((self.number, Err(error))); // nobody listens: somebody else failed first
        Ok(())
    }

    /// Says that all is ready and waits for the start; `None` when another worker failed to get ready.
    fn begin(&self, beginning: Beginning) -> Option<Bare<SystemClock>> {
        let Beginning { set_up, outfit, mut parts, duration } = beginning;
        let _ = self.ready.send((self.number, Ok(set_up))); // then the start never comes
        let timetable = self.start.recv().ok()?;
        let first = timetable.last();
        parts.end = duration.map(|duration| first.start.after(duration));
        parts.timetable = timetable;
        parts.fit(outfit, Some(first), first.start);
        Some(Bare::new(SystemClock, parts))
    }

    fn over_uring(mut self, beginning: Beginning, sockets: Vec<Socket>) -> io::Result<()> {
        let features = self.features.clone();
        let limits = beginning.set_up.limits;
        let mut ring = match uring::open_ring(&limits) {
            Ok(ring) => ring,
            Err(error) => return self.refuse(of_ring(error)),
        };
        let network = match UringNetwork::new(&mut ring, sockets, &limits, &features) {
            Ok(network) => network,
            Err(error) => return self.refuse(of_ring(error)),
        };
        let Some(bare) = self.begin(beginning) else { return Ok(()) };
        let mut worker = bare.over(network);
        while let Some((change, next)) = self.attend(&mut worker, uring::open_ring)? {
            let began = SystemClock.monotonic();
            let (network, mut bare) = worker.lay_down();
            let (had, counters) = network.close(|event| bare.take(event))?;
            bare.closed(&counters);
            let taken = self.take(&mut bare, *change, had)?;
            ring = next;
            worker = bare.over(UringNetwork::new(&mut ring, taken.sockets, &taken.limits, &features)?);
            let pause = Duration::from_nanos(SystemClock.monotonic().since(began));
            let _ = taken.answers.send((self.number as u16, Answer::Taken { pause, leftovers: taken.leftovers }));
        }
        Ok(())
    }

    fn over_mmsg(mut self, beginning: Beginning, sockets: Vec<Socket>) -> io::Result<()> {
        let features = self.features.clone();
        let network = match MmsgNetwork::new(sockets, &beginning.set_up.limits, &features) {
            Ok(network) => network,
            Err(error) => return self.refuse(error),
        };
        let Some(bare) = self.begin(beginning) else { return Ok(()) };
        let mut worker = bare.over(network);
        while let Some((change, ())) = self.attend(&mut worker, |_| Ok(()))? {
            let began = SystemClock.monotonic();
            let (network, mut bare) = worker.lay_down();
            let (had, counters) = network.close(|event| bare.take(event));
            bare.closed(&counters);
            let taken = self.take(&mut bare, *change, had)?;
            worker = bare.over(MmsgNetwork::new(taken.sockets, &taken.limits, &features)?);
            let pause = Duration::from_nanos(SystemClock.monotonic().since(began));
            let _ = taken.answers.send((self.number as u16, Answer::Taken { pause, leftovers: taken.leftovers }));
        }
        Ok(())
    }

    /// Lets the worker run until it is time for another plan, for which `prepare` has made something; `None` when the
    /// worker is done.
    fn attend<N: Network, R>(
        &self,
        worker: &mut Worker<N, SystemClock>,
        prepare: impl Fn(&Limits) -> io::Result<R>,
    ) -> io::Result<Option<(Box<Change>, R)>> {
        let mut coming = None;
        loop {
            match worker.run()? {
                Ended::Done => return Ok(None),
                Ended::Asked(change) => {
                    // what can fail is tried while the plan before can still go on
                    let prepared = prepare(&change.outfit.limits);
                    let answer = match prepared {
                        Ok(prepared) => {
                            worker.await_turn(Arc::clone(&change.turn));
                            let answers = change.answers.clone();
                            coming = Some((change, prepared));
                            answers.send((self.number as u16, Answer::Ready(Ok(()))))
                        }
                        Err(error) => change.answers.send((self.number as u16, Answer::Ready(Err(error)))),
                    };
                    let _ = answer; // nobody waits any more: the turn is withdrawn
                }
                Ended::Withdrawn => {
                    worker.forget_turn();
                    coming = None;
                }
                Ended::Due => {
                    if coming.is_some() {
                        return Ok(coming);
                    }
                    worker.forget_turn();
                }
            }
        }
    }

    /// Puts a worker without network under another plan.
    fn take(&mut self, bare: &mut Bare<SystemClock>, change: Change, had: Vec<Socket>) -> io::Result<Taken> {
        let Change { mut outfit, answers, .. } = change;
        let (sockets, spare) = outfit.seat(had)?;
        if outfit.spin && !self.cpu.pinned {
            // unpinned it spins as well, only less evenly
            self.cpu.pinned = thread::pin(self.cpu.number).is_ok();
        }
        let limits = outfit.limits;
        let mut leftovers = bare.fit(outfit);
        leftovers.sockets = spare;
        Ok(Taken { sockets, limits, leftovers, answers })
    }
}

/// What a worker begins with.
struct Beginning {
    set_up: SetUp,
    outfit: Outfit,
    parts: Parts,
    duration: Option<Duration>,
}

/// A change that was taken, but for the network.
struct Taken {
    sockets: Vec<Socket>,
    limits: Limits,
    leftovers: Leftovers,
    answers: Sender<(u16, Answer)>,
}

/// An error of a ring's making, with the remedy where it is known: a small ring was to be had when features were tried.
fn of_ring(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::OutOfMemory => io::Error::new(
            error.kind(),
            "io_uring may not lock as much memory as this rate needs; raise it (ulimit -l, LimitMEMLOCK=), or use --io mmsg",
        ),
        _ => error,
    }
}
