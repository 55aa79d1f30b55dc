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
