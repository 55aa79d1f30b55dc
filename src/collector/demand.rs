//! What a plan takes of the operating system: sockets, and buffers to receive into.
//!
//! Responsible for the sizes, before anything is opened. Not responsible for opening it ([`super::outfit`]). Read
//! [`Demand`] first.

use super::seats::{EchoPath, RawUse, Seats};
use super::share::{self, Share};
use super::worker;
use crate::config::Plan;
use crate::net::{Limits, raw};
use crate::probe::shape::{MethodKind, Shape};

/// Room for an ICMP error that quotes one of our small probes filled up to 128 octets, with what follows them (RFC 4884 §4);
/// one that quotes a large probe is at most as long as its reply may be.
const QUOTE_BYTES: usize = 256;
/// Room for a reply in any case.
const LEAST_BYTES: usize = 128;
/// What the network adds to every buffer for addresses and control messages.
const BESIDE: usize = 256;

/// What all workers of a plan take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Sockets: those that send or receive, and those that only hold a TCP port.
    pub sockets: usize,
    /// Bytes of receive buffers in this process.
    pub buffers: usize,
}

impl Demand {
    /// Of a plan on so many workers whose echoes go out so.
    pub fn of(plan: &Plan, workers: usize, echo: EchoPath) -> Demand {
        Demand::of_shares(plan, &share::deal(plan, workers), echo)
    }

    /// Sockets at most, however the echoes go out.
    pub fn most_sockets(plan: &Plan, workers: usize) -> usize {
        let shares = share::deal(plan, workers);
        let of = |echo| Demand::of_shares(plan, &shares, echo).sockets;
        match plan.shapes.iter().any(|shape| shape.method == MethodKind::Icmp) {
            true => of(EchoPath::Raw).max(of(EchoPath::PingSockets)),
            false => of(EchoPath::Raw), // without echoes there is one way: no flow is seated twice
        }
    }

    fn of_shares(plan: &Plan, shares: &[Share], echo: EchoPath) -> Demand {
        shares.iter().map(|share| Demand::of_share(plan, share, echo)).fold(Demand::default(), |sum, of| Demand {
            sockets: sum.sockets + of.sockets,
            buffers: sum.buffers + of.buffers,
        })
    }

    fn of_share(plan: &Plan, share: &Share, echo: EchoPath) -> Demand {
        let (_, lanes) = share.thresholds(plan);
        let seats = Seats::new(plan, share, &lanes, echo);
        let is_held =
            |source: &&u32| plan.shapes[plan.sources[**source as usize].shape as usize].method == MethodKind::TcpSyn;
        let held = share.sources.iter().filter(is_held).count();
        let limits = limits(share.rate, plan.shapes.iter(), &seats, None);
        Demand { sockets: seats.seats.len() + held, buffers: buffer_bytes(&limits) }
    }
}

/// The network's queues for probes of these shapes at a rate; `in_flight` replies at most, where that is limited.
pub fn limits<'a>(
    rate: f64,
    shapes: impl Iterator<Item = &'a Shape>,
    seats: &Seats,
    in_flight: Option<usize>,
) -> Limits {
    let largest = shapes.map(bytes_received).max().unwrap_or(0);
    // 50 ms of replies may wait in the buffers; what is beyond waits in the sockets
    let waiting = (rate * 0.05).clamp(256.0, 16_384.0) as u16;
    let in_flight = in_flight.unwrap_or(usize::MAX).min(usize::from(waiting));
    let hears_routers = seats.seats.iter().any(|seat| matches!(seat.raw, Some((RawUse::Quotes, _))));
    Limits {
        batch: worker::BATCH as u16,
        buffers: in_flight.max(64).next_power_of_two() as u16,
        datagram: largest.max(if hears_routers { QUOTE_BYTES } else { LEAST_BYTES }),
    }
}

/// Bytes of the buffers of a network of this size.
pub fn buffer_bytes(limits: &Limits) -> usize {
    usize::from(limits.buffers) * (limits.datagram + BESIDE)
}

/// Bytes of a reply as it comes out of a socket.
fn bytes_received(shape: &Shape) -> usize {
    let headers = if shape.method.is_udp() { 0 } else { raw::LONGEST_IP_HEADER + shape.method.header_len() };
    usize::from(shape.size) + headers
}
