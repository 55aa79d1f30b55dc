//! The session-reflector: answers probes, statelessly or with a count per session.
//!
//! A packet's way: [`worker`] takes it off a socket → [`recognise`] says what it is → [`responder`] decides and
//! writes the reply → the worker sends it; [`counters`] say what became of the rest. One worker per core, each
//! with its own sockets on the shared ports; nothing is shared between them but the stop flag. Not
//! responsible for system calls ([`crate::net`]) or packet formats ([`crate::wire`]).
//! Read [`Options`] first, then [`responder`].

pub mod counters;
mod extensions;
pub mod rate;
pub mod recognise;
pub mod responder;
pub mod serve;
mod table;
pub mod worker;

pub use counters::{Answered, DropReason, Published, Totals};

use crate::net::features::IoChoice;
use crate::net::{Network, SocketSpec};
use crate::probe::shape::Key;
use crate::time::SystemClock;
use crate::wire::stamp::{ErrorEstimate, Signer};
use rate::Rate;
use responder::{DscpSet, Responder, Setup};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use worker::Worker;

/// The port a reflector listens on when not told: upstream's.
pub const DEFAULT_PORT: u16 = 8100;

/// What a reflector shall do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; an IPv6 wildcard takes IPv4 too, unless the same port is also listed for IPv4.
    pub listen: Vec<SocketAddr>,
    /// One pinned worker per core listed; `None` is one worker, not pinned.
    pub cores: Option<Vec<usize>>,
    /// Packets per second answered, split evenly over the workers.
    pub max_pps: Option<u64>,
    /// Packets per second answered to one IPv4 address or IPv6 /64; each worker counts for itself.
    pub max_pps_per_source: Option<u64>,
    /// Answer authenticated STAMP with this key, and nothing else: no open STAMP, none of upstream's formats.
    pub key: Option<Key>,
    /// Count replies per session, so that senders can tell forward from reverse loss.
    pub stateful: bool,
    /// Sessions a worker remembers when stateful, rounded up to eight times a power of two; 64 octets each.
    pub sessions: usize,
    /// A session not heard of for this long is forgotten.
    pub session_idle: Duration,
    /// Code points a probe may ask its reply to leave with (RFC 8972 §4.4).
    pub dscps: DscpSet,
    /// Longest packet answered, UDP payload bytes.
    pub longest: usize,
    /// How good the local clock is.
    pub clock: ErrorEstimate,
    /// How datagrams are sent and received.
    pub io: IoChoice,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT)],
            cores: None,
            max_pps: None,
            max_pps_per_source: None,
            key: None,
            stateful: false,
            sessions: 65_536,
            session_idle: Duration::from_secs(300),
            dscps: DscpSet::ALL,
            longest: 2048,
            clock: ErrorEstimate::UNSYNCHRONISED,
            io: IoChoice::Auto,
        }
    }
}

/// Why a reflector does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict themselves.
    #[error("{0}")]
    Options(String),
    /// A worker could not open its sockets.
    #[error("worker {worker} cannot listen on {listen}: {source}{}", remedy(.source, .listen))]
    Open {
        /// Which one, from 0.
        worker: usize,
        /// Its sockets, as listed.
        listen: String,
        /// Why.
        source: io::Error,
    },
    /// A worker's network broke while it ran.
    #[error("worker {worker} stopped: {source}")]
    Broken {
        /// Which one, from 0.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// A worker's thread could not be started, or panicked.
    #[error("worker {0} cannot run: its thread did not start or ended by itself")]
    Thread(usize),
}

fn remedy(source: &io::Error, listen: &str) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => "; another program has the port: stop it or choose another with --listen",
        Some(libc::EACCES) => "; ports below 1024 need CAP_NET_BIND_SERVICE: choose another with --listen",
        Some(libc::EADDRNOTAVAIL) => "; no interface has the address",
        Some(libc::EAFNOSUPPORT) if listen.contains('[') => "; no IPv6 here: try --listen 0.0.0.0:8100",
        _ => "",
    }
}

impl Options {
    /// Workers asked for.
    pub fn workers(&self) -> usize {
        self.cores.as_ref().map_or(1, Vec::len)
    }

    /// Checks what can be known before a socket is opened.
    ///
    /// # Errors
    /// [`Error::Options`], with value, limit and remedy.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Options(text));
        if self.listen.is_empty() {
            return refuse("listen: no address; give one with --listen ADDR:PORT".into());
        }
        for (at, listen) in self.listen.iter().enumerate() {
            if listen.ip().is_multicast() {
                return refuse(format!(
                    "listen: {listen} is a multicast address; give one of this host, or a wildcard"
                ));
            }
            if self.listen[..at].contains(listen) && listen.port() != 0 {
                return refuse(format!("listen: {listen} is given twice; remove one"));
            }
            if listen.port() == 0 && self.workers() > 1 {
                return refuse(format!(
                    "listen: {listen} lets the system choose a port, but {} workers must share one; name the port",
                    self.workers()
                ));
            }
        }
        if let Some(cores) = &self.cores {
            if cores.is_empty() {
                return refuse("cores: an empty list; name a core or leave it out".into());
            }
            for (at, core) in cores.iter().enumerate() {
                if cores[..at].contains(core) {
                    return refuse(format!("cores: {core} is given twice; each core has one worker"));
                }
            }
        }
        for (name, pps) in [("max-pps", self.max_pps), ("max-pps-per-source", self.max_pps_per_source)] {
            if pps == Some(0) {
                return refuse(format!("{name}: 0 would answer nothing; leave it out for no limit"));
            }
        }
        if let Some(pps) = self.max_pps.filter(|&pps| pps < self.workers() as u64) {
            return refuse(format!(
                "max-pps: {pps} cannot be split over {} workers; raise it or list fewer cores",
                self.workers()
            ));
        }
        if self.key.as_ref().is_some_and(|key| key.0.is_empty()) {
            return refuse("key: it is empty; anybody could sign with it".into());
        }
        if self.stateful && self.sessions == 0 {
            return refuse("sessions: 0 with --stateful; give room for at least one".into());
        }
        let least = if self.key.is_some() { 112 } else { 44 };
        if !(least..=65_507).contains(&self.longest) {
            return refuse(format!("longest: {} bytes asked, {least} to 65507 possible", self.longest));
        }
        Ok(())
    }

    /// The sockets every worker opens, in the order of [`Options::listen`].
    pub fn sockets(&self) -> Vec<SocketSpec> {
        self.listen.iter().map(|&listen| self.socket(listen)).collect()
    }

    fn socket(&self, listen: SocketAddr) -> SocketSpec {
        let wildcard = listen.ip().is_unspecified();
        let taken_by_ipv4 = self.listen.iter().any(|other| other.is_ipv4() && other.port() == listen.port());
        SocketSpec {
            receive_traffic_class: true,
            receive_hop_limit: true,
            receive_destination: wildcard,
            reuse_port: self.workers() > 1,
            dual_stack: listen.is_ipv6() && wildcard && !(taken_by_ipv4 && listen.port() != 0),
            receive_buffer: 4 << 20,
            ..SocketSpec::new(listen)
        }
    }

    /// How the responder of worker `worker` shall behave, once its sockets have their addresses.
    fn setup(&self, worker: usize, locals: &[SocketAddr]) -> Setup {
        let (workers, worker) = (self.workers() as u64, worker as u64);
        let share = |pps: u64| pps / workers + u64::from(worker < pps % workers);
        Setup {
            signer: self.key.as_ref().map(|key| Signer::new(&key.0)),
            sessions: if self.stateful { self.sessions } else { 0 },
            session_idle: self.session_idle,
            rate: self.max_pps.map(|pps| Rate::per_second(share(pps))),
            source_rate: self.max_pps_per_source.map(Rate::per_second),
            longest: self.longest,
            dscps: self.dscps,
            clock: self.clock,
            own_ports: locals.iter().map(SocketAddr::port).collect(),
            seed: RandomState::new().hash_one(worker), // the standard library's source of randomness
            ..Setup::default()
        }
    }
}

/// A worker's task, on the worker's own thread: open the sockets of [`Task::sockets`], then [`Task::serve`].
#[derive(Debug)]
pub struct Task<'a> {
    /// Which worker, from 0.
    pub worker: usize,
    /// The core to pin its thread to.
    pub core: Option<usize>,
    /// The sockets to open, in this order.
    pub sockets: Vec<SocketSpec>,
    /// The options it was made from: [`Options::io`], [`Options::longest`].
    pub options: &'a Options,
    stop: &'a AtomicBool,
    published: &'a Published,
    opened: mpsc::Sender<Vec<SocketAddr>>,
}

impl Task<'_> {
    /// Answers on an open network until the reflector stops.
    ///
    /// # Errors
    /// What breaks the network.
    pub fn serve<N: Network>(self, network: N) -> io::Result<Totals> {
        let locals = network.local_addresses().to_vec();
        let responder = Responder::new(self.options.setup(self.worker, &locals));
        let mut worker = Worker::new(network, SystemClock, responder);
        // nobody listens any more when another worker failed; then the stop flag is up
        let _ = self.opened.send(locals);
        worker.run(self.stop, self.published)
    }
}

/// A running reflector, as its starter sees it.
#[derive(Clone, Debug)]
pub struct Running {
    /// The local addresses, in the order of [`Options::listen`].
    pub addresses: Vec<SocketAddr>,
    published: Arc<[Published]>,
}

impl Running {
    /// Totals of all workers, at most a tick old.
    pub fn totals(&self) -> Totals {
        sum(self.published.iter().map(Published::load))
    }
}

fn listed(options: &Options) -> String {
    options.listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn sum(parts: impl Iterator<Item = Totals>) -> Totals {
    parts.fold(Totals::default(), |mut sum, part| {
        sum.merge(&part);
        sum
    })
}

/// Raises the stop flag when dropped: however one worker ends, by a panic too, the others end with it.
struct StopAll<'a>(&'a AtomicBool);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a reflector until `stop` and returns its totals; `started` is called once all workers listen.
///
/// `work` does a worker's whole work on its own thread: pin it to [`Task::core`], open a network with
/// [`Task::sockets`], hand it to [`Task::serve`]. (It cannot just return a network: a ring belongs to
/// the thread that made it.) When one worker fails, all stop.
///
/// # Errors
/// Options that cannot be, sockets that cannot be opened, a network that broke.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    work: impl Fn(Task<'_>) -> io::Result<Totals> + Sync,
    started: impl FnOnce(Running),
) -> Result<Totals, Error> {
    options.check()?;
    let published: Arc<[Published]> = (0..options.workers()).map(|_| Published::default()).collect();
    std::thread::scope(|scope| {
        let (opened_by, opened) = mpsc::channel();
        let mut threads = Vec::with_capacity(options.workers());
        let mut failed = None;
        for (worker, published) in published.iter().enumerate() {
            let task = Task {
                worker,
                core: options.cores.as_ref().map(|cores| cores[worker]),
                sockets: options.sockets(),
                options,
                stop,
                published,
                opened: opened_by.clone(),
            };
            let work = &work;
            let run = move || {
                let _end = StopAll(stop);
                work(task)
            };
            match std::thread::Builder::new().name(format!("reflect-{worker}")).spawn_scoped(scope, run) {
                Ok(thread) => threads.push(thread),
                Err(_) => {
                    stop.store(true, Ordering::Relaxed);
                    failed = Some(Error::Thread(worker));
                    break;
                }
            }
        }
        drop(opened_by);
        // ends early when a worker failed before it listened: then all end, and their senders are dropped
        let locals: Vec<_> = opened.iter().take(threads.len()).collect();
        let listening = locals.len() == options.workers();
        if listening && let Some(addresses) = locals.into_iter().next() {
            started(Running { addresses, published: published.clone() });
        }
        for (worker, thread) in threads.into_iter().enumerate() {
            let error = match thread.join() {
                Ok(Ok(_)) => continue,
                Ok(Err(source)) if listening => Error::Broken { worker, source },
                Ok(Err(source)) => Error::Open { worker, listen: listed(options), source },
                Err(_) => Error::Thread(worker),
            };
            failed.get_or_insert(error);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(sum(published.iter().map(Published::load))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Event, NetCounters, Outbox, Outgoing, Wait};

    fn listen(addresses: &[&str]) -> Options {
        let listen = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Options { listen, ..Options::default() }
    }

    /// A network on which nothing ever arrives.
    struct Silent(Vec<SocketAddr>, Deaf);

    struct Deaf;

    impl Outbox for Deaf {
        fn send(&mut self, _: &Outgoing, _: impl FnOnce(&mut [u8]) -> usize) {}
    }

    impl Network for Silent {
        type Outbox = Deaf;
        fn outbox(&mut self) -> &mut Deaf {
            &mut self.1
        }
        fn wait(&mut self, _: Wait) -> io::Result<()> {
            std::thread::yield_now();
            Ok(())
        }
        fn drain(&mut self, _: impl FnMut(&mut Deaf, Event<'_>)) {}
        fn local_addresses(&self) -> &[SocketAddr] {
            &self.0
        }
        fn counters(&self) -> NetCounters {
            NetCounters { unstamped: 1, ..NetCounters::default() }
        }
    }

    fn silent(task: Task<'_>) -> io::Result<Totals> {
        let locals = task.sockets.iter().map(|socket| socket.bind).collect();
        task.serve(Silent(locals, Deaf))
    }

    #[test]
    fn the_default_listens_on_both_families() {
        let options = Options::default();
        assert!(options.check().is_ok());
        let sockets = options.sockets();
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets[0].bind, "[::]:8100".parse().unwrap());
        assert!(sockets[0].dual_stack && sockets[0].receive_destination);
        assert!(sockets[0].receive_traffic_class && sockets[0].receive_hop_limit);
        assert!(!sockets[0].reuse_port);
    }

    #[test]
    fn families_listed_apart_stay_apart_and_workers_share_ports() {
        let options = Options { cores: Some(vec![0, 1]), ..listen(&["[::]:862", "0.0.0.0:862", "192.0.2.1:8100"]) };
        let sockets = options.sockets();
        assert!(sockets.iter().all(|socket| socket.reuse_port && !socket.dual_stack));
        assert_eq!(sockets.iter().map(|socket| socket.receive_destination).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn options_that_cannot_be_are_refused_with_a_remedy() {
        let key = |bytes: &[u8]| Some(Key(bytes.to_vec()));
        let cases = [
            (listen(&[]), "listen: no address"),
            (listen(&["224.0.0.1:8100"]), "multicast"),
            (listen(&["[::]:8100", "[::]:8100"]), "given twice"),
            (Options { cores: Some(vec![0, 1]), ..listen(&["[::]:0"]) }, "name the port"),
            (Options { cores: Some(vec![]), ..Options::default() }, "empty list"),
            (Options { cores: Some(vec![1, 1]), ..Options::default() }, "cores: 1 is given twice"),
            (Options { max_pps: Some(0), ..Options::default() }, "max-pps: 0"),
            (Options { max_pps_per_source: Some(0), ..Options::default() }, "max-pps-per-source: 0"),
            (Options { max_pps: Some(1), cores: Some(vec![0, 1]), ..Options::default() }, "split over 2 workers"),
            (Options { key: key(b""), ..Options::default() }, "key: it is empty"),
            (Options { stateful: true, sessions: 0, ..Options::default() }, "sessions: 0"),
            (Options { longest: 43, ..Options::default() }, "44 to 65507"),
            (Options { longest: 100, key: key(b"secret"), ..Options::default() }, "112 to 65507"),
        ];
        for (options, expected) in cases {
            let stop = AtomicBool::new(true);
            let error = run(&options, &stop, silent, |_| panic!("started")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_common_limit_is_split_without_a_rest() {
        let options = Options { max_pps: Some(1001), cores: Some(vec![0, 1]), ..Options::default() };
        assert_eq!(options.setup(0, &[]).rate, Some(Rate::per_second(501)));
        assert_eq!(options.setup(1, &[]).rate, Some(Rate::per_second(500)));
    }

    #[test]
    fn all_workers_start_stop_and_add_up() {
        let options = Options { cores: Some(vec![4, 7]), ..listen(&["127.0.0.1:9999"]) };
        let stop = AtomicBool::new(false);
        let cores = std::sync::Mutex::new(Vec::new());
        let work = |task: Task<'_>| {
            cores.lock().unwrap().push((task.worker, task.core));
            silent(task)
        };
        let mut started = None;
        let totals = run(&options, &stop, work, |running| {
            stop.store(true, Ordering::Relaxed);
            started = Some(running);
        })
        .unwrap();
        assert_eq!(totals.network.unstamped, 2);
        let running = started.unwrap();
        assert_eq!(running.addresses, options.listen);
        assert_eq!(running.totals(), totals);
        let mut cores = cores.into_inner().unwrap();
        cores.sort_unstable();
        assert_eq!(cores, [(0, Some(4)), (1, Some(7))]);
    }

    #[test]
    fn one_worker_that_cannot_listen_stops_all() {
        let options = Options { cores: Some(vec![0, 1]), ..Options::default() };
        let stop = AtomicBool::new(false);
        let work = |task: Task<'_>| match task.worker {
            1 => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
            _ => silent(task),
        };
        let error = run(&options, &stop, work, |_| panic!("started")).unwrap_err();
        assert!(matches!(error, Error::Open { worker: 1, .. }));
        let text = error.to_string();
        assert!(text.contains("[::]:8100") && text.contains("another program has the port"), "{text}");
    }

    #[test]
    fn a_worker_that_panics_stops_all() {
        let options = Options { cores: Some(vec![0, 1]), ..Options::default() };
        let stop = AtomicBool::new(false);
        let work = |task: Task<'_>| match task.worker {
            0 => panic!("on purpose"),
            _ => silent(task),
        };
        assert!(matches!(run(&options, &stop, work, |_| {}), Err(Error::Thread(0))));
    }
}
