//! A reflector on the kernel's sockets: opens them in the workers' order, steers packets to cores,
//! pins threads and builds each worker's network.

use super::{Error, Options, Running, Task, Totals};
use crate::net::features::{Features, Io, IoChoice};
use crate::net::mmsg::MmsgNetwork;
use crate::net::socket::{self, Socket};
use crate::net::uring::{self, UringNetwork};
use crate::net::{Limits, thread};
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Datagrams sent per call, and completions looked at before the next; small, so that T3 is taken
/// close to the sending.
const BATCH: u16 = 64;
/// Datagrams that may wait in a worker's buffers; what is beyond waits in the sockets.
const BUFFERS: u16 = 4096;

/// Runs a reflector until `stop` and returns its totals; `started` is called once all workers listen.
///
/// # Errors
/// Options that cannot be, io_uring demanded and not to be had, sockets that cannot be opened, a network that broke.
pub fn serve(options: &Options, stop: &AtomicBool, started: impl FnOnce(Running, &Features)) -> Result<Totals, Error> {
    options.check()?;
    // a reflector needs no transmit stamps, and without them a call per batch is the cheaper way, in time and in
    // memory (docs/decisions/0013-reflector-on-mmsg.md)
    let choice = if options.io == IoChoice::Auto { IoChoice::Mmsg } else { options.io };
    let mut features = Features::detect(choice).map_err(|error| Error::Options(error.to_string()))?;
    if options.io == IoChoice::Auto {
        features.io_reason = Some("the cheaper way to reflect".into());
    }
    let sockets: Vec<Mutex<Vec<Socket>>> = open(options)?.into_iter().map(Mutex::new).collect();
    let work = |task: Task<'_>| {
        let sockets = match sockets[task.worker].lock() {
            Ok(mut sockets) => std::mem::take(&mut *sockets),
            Err(_) => Vec::new(), // poisoned: another thread panicked while it held the list
        };
        work(task, sockets, &features)
    };
    super::run(options, stop, work, |running| started(running, &features))
}

/// Opens all workers' sockets, worker by worker: steering counts sockets of a port in the order of binding.
fn open(options: &Options) -> Result<Vec<Vec<Socket>>, Error> {
    let mut workers = Vec::new();
    for worker in 0..options.workers() {
        let opened: io::Result<Vec<Socket>> = options.sockets().iter().map(socket::open).collect();
        workers.push(opened.map_err(|source| Error::Open { worker, listen: super::listed(options), source })?);
    }
    let steer = match (&options.cores, options.stateful) {
        (Some(cores), false) if cores.len() > 1 => cores,
        // a session must stay with the worker that counts it: the kernel's own hash of the flow does that
        _ => return Ok(workers),
    };
    for socket in workers.first().into_iter().flatten() {
        socket::steer_by_cpu(socket.fd.as_fd(), steer).map_err(|source| Error::Open {
            worker: 0,
            listen: super::listed(options),
            source,
        })?;
    }
    Ok(workers)
}

/// A worker's whole life, on its own thread.
fn work(task: Task<'_>, sockets: Vec<Socket>, features: &Features) -> io::Result<Totals> {
    if let Some(core) = task.core {
        thread::pin(core)?;
    }
    let limits = Limits { batch: BATCH, buffers: BUFFERS, datagram: task.options.longest };
    match features.io {
        Io::Uring => {
            let mut ring = uring::open_ring(&limits)?;
            let network = UringNetwork::new(&mut ring, sockets, &limits, features)?;
            task.serve(network)
        }
        Io::Mmsg => task.serve(MmsgNetwork::new(sockets, &limits, features)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Seq;
    use crate::probe::method::Method;
    use crate::probe::shape::{Dscp, MethodKind, Shape, StampPolicy};
    use crate::time::{Clock, SystemClock};
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    fn ask(to: SocketAddr) {
        let shape = Shape {
            port_name: String::new(),
            method: MethodKind::Udp,
            dscp: Dscp(0),
            size: 64,
            stamps: StampPolicy::Off,
            key: None,
            class_report: false,
        };
        let method = Method::new(&shape, 7);
        let socket = UdpSocket::bind((to.ip(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut bytes = [0; 64];
        let length = method.write(Seq(5), SystemClock.wall(), &mut bytes);
        socket.send_to(&bytes[..length], to).unwrap();
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(from, to);
        let reply = method.read(&bytes[..length]).unwrap();
        assert_eq!((length, reply.seq), (64, Seq(5)));
        assert!(reply.received <= reply.sent);
    }

    #[test]
    fn it_answers_over_each_network_and_frees_its_port() {
        let mut port = 0;
        for (io, stateful) in [(IoChoice::Uring, false), (IoChoice::Mmsg, true), (IoChoice::Uring, true)] {
            let listen = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port)];
            // the same port again at once: the one before must have freed it
            let options = Options { listen, io, stateful, ..Options::default() };
            let stop = AtomicBool::new(false);
            let totals = serve(&options, &stop, |running, features| {
                assert_eq!(features.io == Io::Uring, io == IoChoice::Uring);
                port = running.addresses[0].port();
                ask(running.addresses[0]);
                stop.store(true, Ordering::Relaxed);
            })
            .unwrap();
            assert_eq!((totals.received, totals.replied), (1, 1), "{io:?}");
        }
    }

    #[test]
    fn workers_share_a_port() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cores = Some(thread::allowed_cpus().unwrap());
        let options = Options { listen: vec![free], cores, ..Options::default() };
        let stop = AtomicBool::new(false);
        let totals = serve(&options, &stop, |running, _| {
            for _ in 0..20 {
                ask(running.addresses[0]);
            }
            stop.store(true, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(totals.replied, 20);
    }
}
