//! From outcomes to one result per path and interval.
//!
//! A record's way: a worker's [`tally::Tally`] → [`interval::Merger`] joins the workers' tallies of an
//! interval → a [`Summary`] per path → [`accumulator::Accumulator`] joins intervals or paths. Not
//! responsible for where summaries go (see [`crate::sink`]). Read [`Summary`] and [`Counts`] first.

pub mod accumulator;
pub mod figures;
pub mod histogram;
pub mod interval;
pub mod path_id;
pub mod tally;

use crate::probe::shape::{Dscp, MethodKind};
use crate::time::{StampSource, Wall};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What one summary is about: upstream's (source address, destination address), per method and class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Source address; never a wildcard (resolved by asking the routing table at start).
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// How it is probed.
    pub method: MethodKind,
    /// In which class.
    pub dscp: Dscp,
    /// Payload of its probes, bytes, where the configuration names several sizes to compare; else any.
    pub size: Option<u16>,
    /// The target's group.
    pub group: String,
    /// The target's tags.
    pub tags: Arc<BTreeMap<String, String>>,
}

/// What makes two paths the same: group and tags may change with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// How it is probed.
    pub method: MethodKind,
    /// In which class.
    pub dscp: Dscp,
    /// See [`Path::size`].
    pub size: Option<u16>,
}

impl Path {
    /// Its identity.
    pub fn key(&self) -> PathKey {
        PathKey { src: self.src, dst: self.dst, method: self.method, dscp: self.dscp, size: self.size }
    }
}

/// Counts of one path (or one flow) in one interval.
///
/// `sent` = `replied` + `lost` + `corrupted` + `refused` + `prohibited` + `time_exceeded` + `too_big` + `unreachable` +
/// `send_failed` once the interval is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes handed to the network.
    pub sent: u64,
    /// Probes replied to within the loss threshold.
    pub replied: u64,
    /// Of `replied`: by a SYN-ACK.
    pub syn_acks: u64,
    /// Of `replied`: by a RST.
    pub resets: u64,
    /// Probes without any answer within the loss threshold.
    pub lost: u64,
    /// Of `lost`: known to be lost on the way to the reflector.
    pub lost_forward: u64,
    /// Of `lost`: known to be lost on the way back.
    pub lost_reverse: u64,
    /// Replies after the loss threshold.
    pub late: u64,
    /// Replies beyond the first.
    pub duplicates: u64,
    /// Replies overtaken by a later probe's reply.
    pub reordered: u64,
    /// Probes whose reply came in time with a changed payload.
    pub corrupted: u64,
    /// Probes answered by ICMP port unreachable.
    pub refused: u64,
    /// Probes answered by an ICMP error that says forbidden.
    pub prohibited: u64,
    /// Probes answered by ICMP time exceeded.
    pub time_exceeded: u64,
    /// Probes larger than what a link carries.
    pub too_big: u64,
    /// Probes answered by another ICMP error.
    pub unreachable: u64,
    /// Probes the kernel did not take.
    pub send_failed: u64,
    /// Probes that were due and not sent in time.
    pub not_sent: u64,
    /// Replied probes without a round trip because a clock stepped.
    pub clock_stepped: u64,
    /// Replied probes without a round trip because their transmit stamp never came.
    pub stamps_missing: u64,
    /// Of `replied`: the reflector says which class reached it.
    pub class_reports: u64,
    /// Of `replied`: the probe's DSCP was changed on the way to the reflector.
    pub dscp_changed_forward: u64,
    /// Of `replied`: the reply's DSCP was changed on the way back.
    pub dscp_changed_reverse: u64,
    /// Of `replied`: the reply has not the probe's DSCP, and which way changed it is not known.
    pub dscp_changed_either: u64,
    /// Of `replied`: the probe was marked as having met congestion (ECN).
    pub ecn_marked_forward: u64,
    /// Of `replied`: the reply was.
    pub ecn_marked_reverse: u64,
}

impl Counts {
    /// Probes that left this host.
    pub fn left(&self) -> u64 {
        self.sent - self.send_failed
    }

    /// Probes that left and brought no reply: upstream's `lost`.
    pub fn unanswered(&self) -> u64 {
        self.lost + self.corrupted + self.too_big + self.reported()
    }

    /// Probes that an ICMP error came back for, other than that they are too big.
    pub fn reported(&self) -> u64 {
        self.refused + self.prohibited + self.time_exceeded + self.unreachable
    }

    /// Upstream's `loss`: percent of the probes that left, 0 when none did.
    pub fn loss_percent(&self) -> f64 {
        if self.left() == 0 { 0.0 } else { 100.0 * self.unanswered() as f64 / self.left() as f64 }
    }

    /// Probes whose answer tells in which class they got to where it comes from: class reports, and ICMP errors, which
    /// quote the probe.
    pub fn class_told_forward(&self) -> u64 {
        self.class_reports + self.reported() + self.too_big
    }

    /// Percent of the answers that tell of a changed class, on the way on which more do: one probe may be changed on
    /// both. `None` without any answer.
    pub fn dscp_changed_percent(&self) -> Option<f64> {
        // summaries of an older program may lack the reports
        let share = |changed: u64, told: u64| 100.0 * changed as f64 / told.max(changed).max(1) as f64;
        let there = share(self.dscp_changed_forward, self.class_told_forward());
        let back = share(self.dscp_changed_reverse, self.replied);
        let either = share(self.dscp_changed_either, self.replied);
        (self.replied + self.class_told_forward() > 0).then(|| there.max(back).max(either))
    }
}

impl std::ops::AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        // taken apart by name, so that a new counter cannot be forgotten here
        let Counts {
            sent,
            replied,
            syn_acks,
            resets,
            lost,
            lost_forward,
            lost_reverse,
            late,
            duplicates,
            reordered,
            corrupted,
            refused,
            prohibited,
            time_exceeded,
            too_big,
            unreachable,
            send_failed,
            not_sent,
            clock_stepped,
            stamps_missing,
            class_reports,
            dscp_changed_forward,
            dscp_changed_reverse,
            dscp_changed_either,
            ecn_marked_forward,
            ecn_marked_reverse,
        } = other;
        self.sent += sent;
        self.replied += replied;
        self.syn_acks += syn_acks;
        self.resets += resets;
        self.lost += lost;
        self.lost_forward += lost_forward;
        self.lost_reverse += lost_reverse;
        self.late += late;
        self.duplicates += duplicates;
        self.reordered += reordered;
        self.corrupted += corrupted;
        self.refused += refused;
        self.prohibited += prohibited;
        self.time_exceeded += time_exceeded;
        self.too_big += too_big;
        self.unreachable += unreachable;
        self.send_failed += send_failed;
        self.not_sent += not_sent;
        self.clock_stepped += clock_stepped;
        self.stamps_missing += stamps_missing;
        self.class_reports += class_reports;
        self.dscp_changed_forward += dscp_changed_forward;
        self.dscp_changed_reverse += dscp_changed_reverse;
        self.dscp_changed_either += dscp_changed_either;
        self.ecn_marked_forward += ecn_marked_forward;
        self.ecn_marked_reverse += ecn_marked_reverse;
    }
}

/// Statistics of a sample of delays, in nanoseconds. Percentiles: nearest rank, RFC 2330 §11.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Size of the sample, at least 1.
    pub samples: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: i64,
    /// Median.
    pub p50: i64,
    /// 90th percentile.
    pub p90: i64,
    /// 99th percentile.
    pub p99: i64,
    /// 99.9th percentile.
    pub p999: i64,
    /// Largest.
    pub max: i64,
}

/// Mean and extremes of a sample of delays, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extremes {
    /// Size of the sample, at least 1.
    pub samples: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: i64,
    /// Largest.
    pub max: i64,
}

impl Extremes {
    /// Mean and extremes of both samples together.
    pub fn joined(&self, other: &Extremes) -> Extremes {
        let samples = self.samples + other.samples;
        let sum = self.mean * self.samples as f64 + other.mean * other.samples as f64;
        Extremes {
            samples,
            mean: if samples == 0 { 0.0 } else { sum / samples as f64 },
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The same of two samples, either of which may be missing.
    pub fn of_both(a: Option<Extremes>, b: Option<Extremes>) -> Option<Extremes> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.joined(&b)),
            (a, b) => a.or(b),
        }
    }
}

impl From<Statistics> for Extremes {
    fn from(Statistics { samples, mean, min, max, .. }: Statistics) -> Extremes {
        Extremes { samples, mean, min, max }
    }
}

/// Why an interval's numbers may be the prober's own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// The sockets dropped datagrams for want of buffer.
    LocalDrops,
    /// Probes were due and not sent in time.
    NotSent,
    /// Transmit stamps that were asked for never came.
    StampsLost,
    /// The wall clock stepped.
    ClockStep,
    /// A worker's tally of this interval was dropped; the counts are short.
    TallyDropped,
}

impl Suspicion {
    /// All of them.
    pub const ALL: [Suspicion; 5] = [
        Suspicion::LocalDrops,
        Suspicion::NotSent,
        Suspicion::StampsLost,
        Suspicion::ClockStep,
        Suspicion::TallyDropped,
    ];
}

/// One flow of a path in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSummary {
    /// Local address and port.
    pub source: SocketAddr,
    /// Remote address and port.
    pub target: SocketAddr,
    /// Class.
    pub dscp: Dscp,
    /// Probes sent.
    pub sent: u64,
    /// Probes that brought no reply.
    pub lost: u64,
    /// Of `lost`, forward and reverse where known.
    pub lost_forward: u64,
    /// Of `lost`, reverse where known.
    pub lost_reverse: u64,
    /// Probes whose DSCP was changed on the way to the reflector.
    pub dscp_changed_forward: u64,
    /// Replies whose DSCP was changed on the way back.
    pub dscp_changed_reverse: u64,
    /// Round-trip time.
    pub rtt: Option<Extremes>,
}

impl FlowSummary {
    /// Percent of the flow's probes that brought no reply, 0 when none was sent.
    pub fn loss_percent(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { 100.0 * self.lost as f64 / self.sent as f64 }
    }

    /// Whether it is the same flow: of these ends and this class.
    pub fn is_same(&self, other: &FlowSummary) -> bool {
        (self.source, self.target, self.dscp) == (other.source, other.target, other.dscp)
    }

    /// The order of lists: most lost first, then the slowest on average.
    pub fn worse_first(&self, other: &FlowSummary) -> std::cmp::Ordering {
        let mean = |flow: &FlowSummary| flow.rtt.map_or(0.0, |rtt| rtt.mean);
        other.lost.cmp(&self.lost).then(mean(other).total_cmp(&mean(self)))
    }
}

/// Joins the same flow at another time.
impl std::ops::AddAssign<&FlowSummary> for FlowSummary {
    fn add_assign(&mut self, other: &FlowSummary) {
        // taken apart by name, so that a new counter cannot be forgotten here
        let FlowSummary {
            source: _,
            target: _,
            dscp: _,
            sent,
            lost,
            lost_forward,
            lost_reverse,
            dscp_changed_forward,
            dscp_changed_reverse,
            rtt,
        } = other;
        self.sent += sent;
        self.lost += lost;
        self.lost_forward += lost_forward;
        self.lost_reverse += lost_reverse;
        self.dscp_changed_forward += dscp_changed_forward;
        self.dscp_changed_reverse += dscp_changed_reverse;
        self.rtt = Extremes::of_both(self.rtt, *rtt);
    }
}

/// What was seen last of things that are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The DSCP that reached the reflector in place of the one sent.
    pub dscp_forward: Option<Dscp>,
    /// The DSCP that came back in place of the one the reply left with.
    pub dscp_reverse: Option<Dscp>,
    /// The DSCP that came back in place of the probe's, where the way that changed it is not known.
    pub dscp_either: Option<Dscp>,
    /// The MTU told with a probe that was too big, bytes.
    pub mtu: Option<u32>,
}

impl Seen {
    /// What is newer of both, `other` being the newer.
    pub fn followed_by(self, other: Seen) -> Seen {
        Seen {
            dscp_forward: other.dscp_forward.or(self.dscp_forward),
            dscp_reverse: other.dscp_reverse.or(self.dscp_reverse),
            dscp_either: other.dscp_either.or(self.dscp_either),
            mtu: other.mtu.or(self.mtu),
        }
    }
}

/// One path in one interval.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Which path.
    pub path: Arc<Path>,
    /// Number of the interval since the collector's start.
    pub interval: u32,
    /// When the interval began.
    pub start: Wall,
    /// When the interval ended: the time of the point in a database.
    pub end: Wall,
    /// What was counted.
    pub counts: Counts,
    /// Round-trip time; `None` when no round trip was measured.
    pub rtt: Option<Statistics>,
    /// Absolute ipdv (RFC 3393).
    pub ipdv: Option<Extremes>,
    /// Forward one-way delay; signed, true as far as the clocks agree.
    pub owd_forward: Option<Extremes>,
    /// Reverse one-way delay.
    pub owd_reverse: Option<Extremes>,
    /// The reflector's residence time.
    pub residence: Option<Extremes>,
    /// Round-trip histogram: (value in ns, count), ascending, only values that occurred.
    pub rtt_histogram: Vec<(u64, u64)>,
    /// Where T1 of the round trips was taken; `None` without round trips, the farthest when mixed.
    pub sent_by: Option<StampSource>,
    /// Where T4 was taken.
    pub received_by: Option<StampSource>,
    /// How late the workers that probe this path sent (scheduled → handed to the kernel), whole worker.
    pub lateness: Option<Statistics>,
    /// Datagrams dropped by the sockets of the workers that probe this path.
    pub local_drops: u64,
    /// Flows of the path.
    pub flows: u32,
    /// Flows that lost at least one probe.
    pub flows_with_loss: u32,
    /// The worst flows, most lost first; at most [`WORST_FLOWS`].
    pub worst_flows: Vec<FlowSummary>,
    /// The node that sent the last ICMP error.
    pub reporter: Option<IpAddr>,
    /// What else was seen last.
    pub seen: Seen,
    /// Why the numbers may be the prober's own doing; empty when sound.
    pub suspect: Vec<Suspicion>,
}

/// Flows listed per summary at most.
pub const WORST_FLOWS: usize = 8;
