//! One thread's share of a reflector: its sockets, its responder, its loop.
//!
//! Generic over the network and the clock; spawns and pins nothing (see [`super::run`]).

use super::counters::{Published, Totals};
use super::responder::{Arrival, Responder};
use crate::net::{Event, Network, Outbox, Outgoing, Received, Wait};
use crate::time::{Clock, Monotonic};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest wait: how late a stop is noticed and totals are published.
const TICK: Duration = Duration::from_millis(100);

/// A worker, ready to run.
#[derive(Debug)]
pub struct Worker<N, C> {
    network: N,
    clock: C,
    desk: Desk,
}

/// What answering needs beside the outbox.
#[derive(Debug)]
struct Desk {
    responder: Responder,
    locals: Vec<SocketAddr>,
    totals: Totals,
}

impl<N: Network, C: Clock> Worker<N, C> {
    /// A worker for an open network.
    pub fn new(network: N, clock: C, responder: Responder) -> Worker<N, C> {
        let locals = network.local_addresses().to_vec();
        Worker { network, clock, desk: Desk { responder, locals, totals: Totals::default() } }
    }

    /// Answers until `stop`; then hands over what is queued and returns, within a fifth of a second.
    ///
    /// # Errors
    /// Only what breaks the network.
    pub fn run(&mut self, stop: &AtomicBool, published: &Published) -> io::Result<Totals> {
        let Worker { network, clock, desk } = self;
        while !stop.load(Ordering::Relaxed) {
            network.wait(Wait::EventOrUntil(clock.monotonic().after(TICK)))?;
            let now = clock.monotonic(); // for limits and idle sessions: once per batch is enough
            network.drain(|outbox, event| match event {
                Event::Received(packet) => desk.answer(now, &packet, clock, outbox),
                Event::SendFailed { .. } => desk.totals.send_failed += 1,
                Event::Transmitted { .. } | Event::TooBigHere { .. } | Event::Icmp { .. } | Event::Quoted { .. } => {}
            });
            published.store(&desk.totals(network));
        }
        network.wait(Wait::No)?; // the last replies leave
        let totals = desk.totals(network);
        published.store(&totals);
        Ok(totals)
    }
}

impl Desk {
    #[inline]
    fn answer(&mut self, now: Monotonic, packet: &Received<'_>, clock: &impl Clock, outbox: &mut impl Outbox) {
        self.totals.received += 1;
        let local = self.locals.get(usize::from(packet.socket.0));
        let arrival = Arrival {
            bytes: packet.payload,
            from: packet.from,
            to: packet.to,
            local_port: local.map_or(0, SocketAddr::port),
            received: packet.at.wall,
            traffic_class: packet.traffic_class,
            hop_limit: packet.hop_limit,
        };
        let Ok(admitted) = self.responder.admit(now, &arrival) else { return };
        let outgoing = Outgoing {
            socket: packet.socket,
            to: packet.from,
            key: 0,
            stamp: false,
            traffic_class: (admitted.traffic_class != 0).then_some(admitted.traffic_class), // 0 is the socket's own
            // a reply must come from the address the probe went to, or its sender will not know it
            from: packet.to.filter(|_| local.is_some_and(|local| local.ip().is_unspecified())),
            flow_label: 0,
        };
        outbox.send(&outgoing, |out| self.responder.write(&admitted, clock.wall(), out));
        self.totals.replied += 1;
    }

    fn totals(&self, network: &impl Network) -> Totals {
        Totals {
            formats: self.responder.replied,
            dropped: self.responder.dropped,
            notes: self.responder.notes,
            network: network.counters(),
            ..self.totals
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{NetCounters, SocketId};
    use crate::reflector::counters::{Answered, DropReason};
    use crate::reflector::responder::Setup;
    use crate::time::{StampSource, Timestamp, Wall};
    use crate::wire::stamp::{ErrorEstimate, Mode, ReflectedPacket, Sender, SenderPacket};
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::net::IpAddr;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Simulated time, moved on by the network's waits and by one nanosecond per reading.
    #[derive(Clone, Default)]
    struct TestClock(Rc<Cell<u64>>);

    impl Clock for TestClock {
        fn monotonic(&self) -> Monotonic {
            Monotonic(self.0.get())
        }
        fn wall(&self) -> Wall {
            self.0.set(self.0.get() + 1);
            Wall(1_700_000_000_000_000_000 + self.0.get())
        }
    }

    enum Incoming {
        Packet { bytes: Vec<u8>, from: SocketAddr, to: Option<IpAddr>, socket: u16 },
        SendFailed,
    }

    /// Packets that are there from the start, at most two per drain; the stop flag rises when all are answered and one
    /// more wait went by, or `stop_at` comes.
    struct TestNetwork {
        clock: TestClock,
        incoming: VecDeque<Incoming>,
        outbox: TestOutbox,
        locals: Vec<SocketAddr>,
        stop: Arc<AtomicBool>,
        stop_at: Option<u64>,
        flushed: usize,
    }

    #[derive(Default)]
    struct TestOutbox(Vec<(Outgoing, Vec<u8>)>);

    impl Outbox for TestOutbox {
        fn send(&mut self, datagram: &Outgoing, write: impl FnOnce(&mut [u8]) -> usize) {
            let mut bytes = vec![0xa5; 2048];
            let len = write(&mut bytes);
            bytes.truncate(len);
            self.0.push((*datagram, bytes));
        }
    }

    impl Network for TestNetwork {
        type Outbox = TestOutbox;

        fn outbox(&mut self) -> &mut TestOutbox {
            &mut self.outbox
        }

        fn wait(&mut self, wait: Wait) -> io::Result<()> {
            self.flushed = self.outbox.0.len();
            match wait {
                Wait::EventOrUntil(_) if !self.incoming.is_empty() => {}
                Wait::EventOrUntil(until) => {
                    let now = self.clock.0.get();
                    assert!(until.0 > now && until.0 - now <= 200_000_000, "a stop would be noticed late");
                    self.clock.0.set(until.0);
                    if self.stop_at.is_none_or(|at| at <= until.0) {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
                Wait::No => {}
                Wait::Until(_) | Wait::SpinUntil(_) => panic!("an event must end the wait"),
            }
            Ok(())
        }

        fn drain(&mut self, mut on: impl FnMut(&mut TestOutbox, Event<'_>)) {
            for _ in 0..2 {
                let at = Timestamp { wall: Wall(1_700_000_000_000_000_000), source: StampSource::Kernel };
                match self.incoming.pop_front() {
                    None => {}
                    Some(Incoming::SendFailed) => {
                        on(&mut self.outbox, Event::SendFailed { socket: SocketId(0), key: 0, errno: 101 });
                    }
                    Some(Incoming::Packet { bytes, from, to, socket }) => {
                        let packet = Received {
                            socket: SocketId(socket),
                            from,
                            to,
                            payload: &bytes,
                            at,
                            traffic_class: Some(0xb9),
                            hop_limit: Some(60),
                        };
                        on(&mut self.outbox, Event::Received(packet));
                    }
                }
            }
        }

        fn local_addresses(&self) -> &[SocketAddr] {
            &self.locals
        }

        fn counters(&self) -> NetCounters {
            NetCounters { local_drops: 3, ..NetCounters::default() }
        }
    }

    fn probe(seq: u32) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        let value = Sender { seq, timestamp: 1, error_estimate: ErrorEstimate::UNSYNCHRONISED, ssid: 1 };
        value.emit(&mut SenderPacket::new_checked(&mut bytes[..], Mode::Open).unwrap());
        bytes
    }

    fn packet(bytes: Vec<u8>, to: Option<&str>, socket: u16) -> Incoming {
        let from = "192.0.2.1:40000".parse().unwrap();
        Incoming::Packet { bytes, from, to: to.map(|to| to.parse().unwrap()), socket }
    }

    fn worker(incoming: Vec<Incoming>, stop_at: Option<u64>) -> (Worker<TestNetwork, TestClock>, Arc<AtomicBool>) {
        let (clock, stop) = (TestClock::default(), Arc::new(AtomicBool::new(false)));
        let network = TestNetwork {
            clock: clock.clone(),
            incoming: incoming.into(),
            outbox: TestOutbox::default(),
            locals: vec!["[::]:8100".parse().unwrap(), "192.0.2.2:8101".parse().unwrap()],
            stop: stop.clone(),
            stop_at,
            flushed: 0,
        };
        (Worker::new(network, clock, Responder::new(Setup::default())), stop)
    }

    #[test]
    fn every_probe_is_answered_from_where_it_went() {
        let incoming = (0..5).map(|seq| packet(probe(seq), Some("192.0.2.2"), (seq % 2) as u16)).collect();
        let (mut worker, stop) = worker(incoming, None);
        let published = Published::default();
        let totals = worker.run(&stop, &published).unwrap();
        assert_eq!((totals.received, totals.replied, totals.dropped.total()), (5, 5, 0));
        assert_eq!(totals.network.local_drops, 3);
        assert_eq!(published.load(), totals);
        assert_eq!(worker.network.flushed, 5, "the last reply left before the end");
        let mut last_t3 = 0;
        for (seq, (outgoing, bytes)) in worker.network.outbox.0.iter().enumerate() {
            let reply = ReflectedPacket::new_checked(&bytes[..], Mode::Open).unwrap();
            assert_eq!((bytes.len(), reply.sender_seq()), (60, seq as u32));
            assert_eq!(outgoing.to, "192.0.2.1:40000".parse().unwrap());
            assert_eq!(outgoing.traffic_class, Some(0xb8), "the probe's DSCP, ECN cleared");
            assert_eq!(outgoing.socket.0, (seq % 2) as u16);
            let wildcard = seq % 2 == 0;
            assert_eq!(outgoing.from, wildcard.then(|| "192.0.2.2".parse().unwrap()));
            assert_eq!(reply.sender_ttl(), 60);
            assert!(reply.timestamp() > last_t3, "T3 is read for each reply");
            last_t3 = reply.timestamp();
        }
    }

    #[test]
    fn received_is_replied_and_dropped() {
        let from_own_port =
            Incoming::Packet { bytes: probe(0), from: "192.0.2.1:8101".parse().unwrap(), to: None, socket: 1 };
        let python = [&b"__llama__\0\x28"[..], &[0; 25]].concat();
        let incoming = vec![
            packet(probe(0), None, 0),
            packet(python.clone(), None, 1),
            packet(vec![1; 43], None, 0),
            packet(vec![1; 60], None, 1),
            from_own_port,
            Incoming::SendFailed,
        ];
        let (mut worker, stop) = worker(incoming, None);
        let totals = worker.run(&stop, &Published::default()).unwrap();
        assert_eq!((totals.received, totals.replied, totals.send_failed), (5, 2, 1));
        assert_eq!(Answered::ALL.map(|format| totals.formats.of(format)), [1, 0, 1]);
        assert_eq!(totals.dropped.total(), 3);
        for reason in [DropReason::TooShort, DropReason::Unrecognised, DropReason::OtherReflector] {
            assert_eq!(totals.dropped.of(reason), 1, "{reason:?}");
        }
        assert_eq!(worker.network.outbox.0.len(), 2);
        assert_eq!(worker.network.outbox.0[1].1, python, "as it came");
        assert_eq!(worker.network.outbox.0[1].0.traffic_class, Some(0x28), "the class it asked for");
    }

    #[test]
    fn a_stop_is_noticed_within_a_fifth_of_a_second() {
        // the flag rises during an idle wait
        let (mut worker, stop) = worker(Vec::new(), Some(1_000_000_000));
        worker.run(&stop, &Published::default()).unwrap();
        assert!(worker.network.clock.0.get() <= 1_200_000_000);
    }
}
