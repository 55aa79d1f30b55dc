//! A worker's reading half: what its network reports, and which probes in flight that ends.
//!
//! ```text
//! datagram → method.read → is it asked for? → in flight → ledger
//! ICMP error → method.read_quote ─┐
//! refused by the kernel ──────────┴──────────► in flight → ledger
//! what an ICMP error quotes → method.read_quote → class → ledger
//! ```
//!
//! After a reload a socket may get replies to probes of the plan before: then its former readers are asked, after its own.
//! As in [`super::worker`] nothing here allocates, locks or logs. Not responsible for when it is called nor for probes
//! that nothing comes back of. Read [`Parts::take`] first.

use super::ledger::Ledger;
use super::progress::Progress;
use super::samples::Samples;
use super::worker::{BATCH, Parts, Reader, Route};
use crate::net::{Event, IcmpMeaning, Quoted, Received, SocketId, TOO_LONG};
use crate::probe::class::{self, SentBack};
use crate::probe::method::{AnswerKind, Arrived, Unreadable};
use crate::probe::outcome::{Outcome, Record};
use crate::probe::{FlowId, IntervalId, Seq};
use crate::time::Timestamp;
use crate::wire::icmp::Version;
use crate::wire::{ipv4, ipv6};
use std::net::{IpAddr, SocketAddr};

/// Probes longer than this host's interface carries, for a moment: first the kernel refuses them, then it tells the MTU.
#[derive(Debug)]
pub struct TooBig(Vec<(SocketId, FlowId, IntervalId)>);

/// As many as fail in a tick; of others the MTU is not noted.
const TOO_BIG_AT_ONCE: usize = 2 * BATCH;

impl Default for TooBig {
    fn default() -> TooBig {
        TooBig(Vec::with_capacity(TOO_BIG_AT_ONCE))
    }
}

impl TooBig {
    /// Forgets them: sockets are numbered anew, and of these the MTU is not noted.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// A datagram that is no reply to a probe of the plan it was read under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unexpected {
    /// It reads as a reply, which nobody asked for.
    Unasked,
    /// It does not read as a reply.
    Unreadable,
}

/// One record into the tally, the counters and the samples.
#[inline]
pub(super) fn note(record: &Record, ledger: &mut Ledger, progress: &Progress, samples: &mut Option<Samples>) {
    ledger.record(record);
    match record.outcome {
        Outcome::Replied { reordered } => {
            progress.replied.add(1);
            if reordered {
                progress.reordered.add(1);
            }
        }
        Outcome::Lost => progress.lost.add(1),
        Outcome::Corrupted => progress.corrupted.add(1),
        Outcome::TooBig => progress.too_big.add(1),
        Outcome::Refused => progress.refused.add(1),
        Outcome::Prohibited | Outcome::TimeExceeded | Outcome::Unreachable => progress.unreachable.add(1),
        Outcome::SendFailed => progress.send_failed.add(1),
        Outcome::Late => progress.late.add(1),
        Outcome::Duplicate => progress.duplicates.add(1),
        Outcome::StampMissing => progress.stamps_missing.add(1),
        Outcome::Measured(singleton) => {
            if let Some(samples) = samples {
                samples.push(record.flow, &singleton);
            }
        }
        // counted where they happen, or no probe's fate
        Outcome::Sent | Outcome::NotSent | Outcome::ClockStepped | Outcome::LossDirected(_) => {}
        Outcome::AnsweredBy(_)
        | Outcome::ClassReported
        | Outcome::ClassChanged(_)
        | Outcome::Reported(_)
        | Outcome::MtuTold(_) => {}
    }
}

impl Parts {
    /// Takes in an event of the network.
    #[inline]
    pub(super) fn take(&mut self, event: Event<'_>, epoch: u8) {
        match event {
            Event::Received(datagram) => self.received(&datagram, epoch),
            Event::Transmitted { socket, key, at } => {
                let reader = self.readers[usize::from(socket.0)];
                if !self.transmitted(reader, Seq(key), at) {
                    let former = (0..self.former.len()).any(|i| {
                        let (of, reader) = self.former[i];
                        of == socket && self.transmitted(reader, Seq(key), at)
                    });
                    self.progress.stray_stamps.add(u64::from(!former));
                }
            }
            Event::SendFailed { socket, key, errno } => self.send_failed(socket, Seq(key), errno),
            Event::TooBigHere { socket, to, mtu } => self.too_big_here(socket, to, mtu),
            Event::Icmp { socket, to, reporter, meaning, quoted } => self.icmp(socket, to, reporter, meaning, quoted),
            Event::Quoted { to, reporter, packet } => self.quoted(to, reporter, &packet),
        }
    }

    #[inline]
    fn transmitted(&mut self, reader: Reader, seq: Seq, at: Timestamp) -> bool {
        let Parts { lanes, ledger, progress, samples, .. } = self;
        let lane = &mut lanes[usize::from(reader.lane)];
        lane.transmitted(seq, at, &mut |record| note(&record, ledger, progress, samples))
    }

    #[inline]
    fn received(&mut self, datagram: &Received<'_>, clock_epoch: u8) {
        let reader = self.readers[usize::from(datagram.socket.0)];
        if let Err(why) = self.read(reader, datagram, clock_epoch) {
            self.unexpected(datagram, clock_epoch, why);
        }
    }

    /// Takes in a reply.
    #[inline]
    fn read(&mut self, reader: Reader, datagram: &Received<'_>, clock_epoch: u8) -> Result<(), Unexpected> {
        let Parts { lanes, methods, routes, ledger, progress, samples, .. } = self;
        let lane = &mut lanes[usize::from(reader.lane)];
        let from = datagram.from.ip();
        let arrived = Arrived { from, to: datagram.to.unwrap_or(from) };
        let answer = match methods[usize::from(reader.method)].read_answer(&arrived, datagram.payload) {
            Ok(answer) => answer,
            Err(Unreadable::Corrupt(Some(seq))) => return self.corrupted(reader, datagram, seq),
            Err(_) => return Err(Unexpected::Unreadable),
        };
        // only the one who was asked may answer, to the socket that asked
        let asked = lane.flow_of(answer.reply.seq).map(|flow| &routes[flow.0 as usize]);
        let asked = asked.filter(|route| route.is_to(datagram.from, answer.ports));
        let Some(route) = asked else { return Err(Unexpected::Unasked) };
        if route.socket != datagram.socket {
            // each raw socket of an address is given a copy: the one that asked takes its own
            return if answer.ports.is_some() { Ok(()) } else { Err(Unexpected::Unasked) };
        }
        let change = datagram.traffic_class.and_then(|byte| class::judge(route.dscp, answer.sent_back, byte));
        lane.reply(&answer.reply, datagram.at, clock_epoch, &mut |record| {
            note(&record, ledger, progress, samples);
            if !matches!(record.outcome, Outcome::Replied { .. }) {
                return;
            }
            if answer.kind != AnswerKind::Reflected {
                ledger.record(&Record { outcome: Outcome::AnsweredBy(answer.kind), ..record });
            }
            if matches!(answer.sent_back, SentBack::Reported { .. }) {
                ledger.record(&Record { outcome: Outcome::ClassReported, ..record });
            }
            if let Some(change) = change {
                ledger.record(&Record { outcome: Outcome::ClassChanged(change), ..record });
            }
        });
        Ok(())
    }

    /// A datagram that is no reply to the present plan's probes: one to the plan's before, or nobody's.
    #[cold]
    fn unexpected(&mut self, datagram: &Received<'_>, clock_epoch: u8, mut why: Unexpected) {
        for i in 0..self.former.len() {
            let (of, reader) = self.former[i];
            if of != datagram.socket {
                continue;
            }
            match self.read(reader, datagram, clock_epoch) {
                Ok(()) => return,
                Err(Unexpected::Unasked) => why = Unexpected::Unasked,
                Err(Unexpected::Unreadable) => {}
            }
        }
        match why {
            Unexpected::Unasked => self.progress.unasked.add(1),
            Unexpected::Unreadable => self.progress.unreadable.add(1),
        }
    }

    /// A reply whose bytes were changed: it ends the probe it names, provided that it comes from where that one went.
    #[cold]
    fn corrupted(&mut self, reader: Reader, datagram: &Received<'_>, seq: Seq) -> Result<(), Unexpected> {
        let Parts { lanes, routes, .. } = &*self;
        let asked = lanes[usize::from(reader.lane)].flow_of(seq).map(|flow| &routes[flow.0 as usize]);
        let is_asked = |route: &Route| {
            // what is not UDP has no port in its address, and bytes that were changed are no word for one
            let ports = (datagram.from.port() == 0).then_some(route.addressing.ports);
            route.is_to(datagram.from, ports) && route.socket == datagram.socket
        };
        if !asked.is_some_and(is_asked) {
            return Err(Unexpected::Unreadable);
        }
        self.end_probe(reader, seq, Outcome::Corrupted, None);
        Ok(())
    }

    #[cold]
    fn send_failed(&mut self, socket: SocketId, seq: Seq, errno: i32) {
        let outcome = if errno == TOO_LONG { Outcome::TooBig } else { Outcome::SendFailed };
        if outcome == Outcome::SendFailed {
            self.progress.last_send_error.set(errno.unsigned_abs().into());
        }
        let Parts { lanes, readers, former, routes, ledger, progress, samples, too_big, .. } = self;
        for reader in readers_of(readers, former, socket) {
            let lane = &mut lanes[usize::from(reader.lane)];
            let (Some(flow), Some(interval)) = (lane.flow_of(seq), lane.interval_of(seq)) else { continue };
            let is_its = routes[flow.0 as usize].socket == socket;
            if is_its && lane.fail(seq, outcome, &mut |record| note(&record, ledger, progress, samples)) {
                if outcome == Outcome::TooBig && too_big.0.len() < TOO_BIG_AT_ONCE {
                    too_big.0.push((socket, flow, interval));
                }
                return;
            }
        }
    }

    /// The kernel tells the MTU once for every try to send: the first one counts.
    #[cold]
    fn too_big_here(&mut self, socket: SocketId, to: IpAddr, mtu: u32) {
        let TooBig(waiting) = &mut self.too_big;
        let told = |&(of, flow, _): &(SocketId, FlowId, IntervalId)| {
            of == socket && self.routes[flow.0 as usize].to.ip() == to
        };
        if let Some(at) = waiting.iter().position(told) {
            let (_, flow, interval) = waiting.swap_remove(at);
            self.ledger.record(&Record { flow, interval, outcome: Outcome::MtuTold(mtu) });
        }
    }

    fn icmp(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        reporter: Option<IpAddr>,
        meaning: IcmpMeaning,
        quoted: &[u8],
    ) {
        let outcome = match meaning {
            IcmpMeaning::Refused => Outcome::Refused,
            IcmpMeaning::Prohibited => Outcome::Prohibited,
            IcmpMeaning::TimeExceeded => Outcome::TimeExceeded,
            IcmpMeaning::TooBig(_) => Outcome::TooBig,
            IcmpMeaning::Unreachable => Outcome::Unreachable,
        };
        let (mut meant, mut others) = (None, false);
        for reader in readers_of(&self.readers, &self.former, socket) {
            let lane = &self.lanes[usize::from(reader.lane)];
            let of = |flow: FlowId, ports| {
                let route = &self.routes[flow.0 as usize];
                route.is_to(to, ports) && route.socket == socket
            };
            let quote = self.methods[usize::from(reader.method)].read_quote(quoted, lane.newest());
            let known = quote.filter(|quote| lane.flow_of(quote.seq).is_some_and(|flow| of(flow, quote.ports)));
            if known.is_none() && quote.is_some_and(|quote| quote.ports.is_some()) {
                others = true; // a raw socket is told of every error that its protocol meets: another program's
                continue;
            }
            let seq = known.map(|quote| quote.seq).or_else(|| {
                // a router may quote no more than the UDP header: then the flow's newest probe is meant, of several
                // that differ by class or size alone the first one's that can be
                let fits = |flow: FlowId| match meaning {
                    IcmpMeaning::TooBig(mtu) => self.packet_len(flow) > mtu as usize,
                    _ => true,
                };
                let of = |flow| of(flow, None) && fits(flow);
                let flow = (0..self.routes.len() as u32).map(FlowId).find(|flow| of(*flow))?;
                lane.newest_of(flow)
            });
            meant = meant.or(seq.map(|seq| (reader, seq)));
        }
        match meant {
            Some((reader, seq)) => {
                let lane = &self.lanes[usize::from(reader.lane)];
                if let (IcmpMeaning::TooBig(mtu @ 1..), Some(flow), Some(interval)) =
                    (meaning, lane.flow_of(seq), lane.interval_of(seq))
                {
                    self.ledger.record(&Record { flow, interval, outcome: Outcome::MtuTold(mtu) });
                }
                self.end_probe(reader, seq, outcome, reporter);
            }
            None if others => {}
            None => self.progress.unasked.add(1),
        }
    }

    /// The class in which a probe reached a node that sent an ICMP error about it. The error itself, which ends the probe, comes
    /// by the probe's own socket, before or after this.
    #[cold]
    fn quoted(&mut self, to: SocketAddr, reporter: IpAddr, packet: &Quoted<'_>) {
        let Parts { lanes, methods, routes, quote_readers, ledger, .. } = self;
        for reader in quote_readers {
            let lane = &mut lanes[usize::from(reader.lane)];
            let method = &methods[usize::from(reader.method)];
            if method.protocol(Version::of(to.ip())) != packet.protocol {
                continue;
            }
            let Some(quote) = method.read_quote(packet.upper, lane.newest()) else { continue };
            let (Some(flow), Some(interval)) = (lane.flow_of(quote.seq), lane.interval_of(quote.seq)) else { continue };
            let route = &routes[flow.0 as usize];
            if !route.is_to(to, quote.ports) || !lane.class_told(quote.seq) {
                continue;
            }
            if let Some(change) = class::judge_quoted(route.dscp, packet.traffic_class) {
                ledger.record(&Record { flow, interval, outcome: Outcome::ClassChanged(change) });
                ledger.record(&Record { flow, interval, outcome: Outcome::Reported(reporter) });
            }
            return;
        }
        // another worker's probe, or another program's packet
    }

    /// Bytes of a flow's packets, the IP header included.
    fn packet_len(&self, flow: FlowId) -> usize {
        let route = &self.routes[flow.0 as usize];
        let ip = if route.to.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let method = &self.methods[usize::from(route.method)];
        ip + method.len_with_header()
    }

    fn end_probe(&mut self, reader: Reader, seq: Seq, outcome: Outcome, reporter: Option<IpAddr>) {
        let Parts { lanes, ledger, progress, samples, .. } = self;
        lanes[usize::from(reader.lane)].fail(seq, outcome, &mut |record| {
            note(&record, ledger, progress, samples);
            if let Some(by) = reporter {
                ledger.record(&Record { outcome: Outcome::Reported(by), ..record });
            }
        });
    }
}

/// What may read a socket's datagrams: its reader, and seldom those it had.
#[inline]
fn readers_of(readers: &[Reader], former: &[(SocketId, Reader)], socket: SocketId) -> impl Iterator<Item = Reader> {
    let others = former.iter().filter(move |(of, _)| *of == socket).map(|(_, reader)| *reader);
    std::iter::once(readers[usize::from(socket.0)]).chain(others)
}
