//! What is known of one path in one interval, as bytes.
//!
//! Responsible for that figures and flows come back as they were, and that rows of an older program, with fewer
//! columns, and of a newer one, with more, are read. Rows are read in a block, which knows their lengths. Read
//! [`put_figures`] and [`figures`].
//!
//! # A row of figures
//! Groups of columns: a bit per column that is not 0 (or not absent), then the values. Counters, other numbers,
//! suspicions; then extremes, likewise, of four numbers each; then the histogram: its buckets as distances. New
//! columns go to the end of their list, new groups to the end of a row.

use super::number::{Input, columns, folded, put, put_columns, unfolded};
use crate::probe::shape::Dscp;
use crate::summary::figures::Figures;
use crate::summary::histogram::{Bucket, Buckets, LARGEST};
use crate::summary::{Counts, Extremes, FlowSummary, Path, Suspicion};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The columns of [`Counts`]: a new counter is one name more at the end. Without it this does not compile.
macro_rules! count_columns {
    ($($name:ident)*) => {
        const COUNTS: usize = [$(stringify!($name)),*].len();

        fn of_counts(counts: &Counts) -> [u64; COUNTS] {
            let Counts { $($name),* } = *counts;
            [$($name),*]
        }

        fn to_counts(columns: [u64; COUNTS]) -> Counts {
            let [$($name),*] = columns;
            Counts { $($name),* }
        }
    };
}

count_columns! {
    sent replied lost lost_forward lost_reverse late duplicates reordered refused unreachable send_failed not_sent
    clock_stepped stamps_missing
}

/// A suspicion's column; never another one's.
fn column(suspicion: Suspicion) -> usize {
    match suspicion {
        Suspicion::LocalDrops => 0,
        Suspicion::NotSent => 1,
        Suspicion::StampsLost => 2,
        Suspicion::ClockStep => 3,
        Suspicion::TallyDropped => 4,
    }
}

/// A column of a number that is mostly 0.
fn some(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

/// Appends a row.
pub(super) fn put_figures(out: &mut Vec<u8>, figures: &Figures) {
    let Figures {
        summaries,
        suspect,
        suspects,
        counts,
        rtt,
        histogram,
        bound,
        ipdv,
        owd_forward,
        owd_reverse,
        residence,
        lateness_p99,
        lateness_max,
        local_drops,
        flows,
        flows_with_loss,
    } = figures;
    put_columns(out, of_counts(counts).map(some));
    let [p50, p90, p99, p999] = bound.map_or([None; 4], |bound| bound.map(|ns| Some(folded(ns))));
    put_columns(
        out,
        [
            some(summaries.wrapping_sub(1)),
            some(*flows),
            some(*flows_with_loss),
            lateness_p99.map(folded),
            lateness_max.map(|most| folded(most.wrapping_sub(lateness_p99.unwrap_or(0)))),
            some(*local_drops),
            some(*suspects),
            p50,
            p90,
            p99,
            p999,
        ],
    );
    let mut suspicions = [None; Suspicion::ALL.len()];
    for (suspicion, number) in Suspicion::ALL.into_iter().zip(suspect) {
        suspicions[column(suspicion)] = some(*number);
    }
    put_columns(out, suspicions);
    put_extremes(out, [rtt, ipdv, owd_forward, owd_reverse, residence]);
    put(out, histogram.counts().len() as u64);
    let mut before = 0;
    for (bucket, count) in histogram.counts() {
        let distance = u64::from(bucket.0 - before) << 1;
        before = bucket.0;
        match count {
            1 => put(out, distance),
            count => {
                put(out, distance | 1);
                put(out, *count);
            }
        }
    }
}

/// Reads what [`put_figures`] wrote; `None` when it is none.
pub(super) fn figures(row: &[u8]) -> Option<Figures> {
    let mut input = Input(row);
    let counts = columns::<COUNTS>(&mut input)?.map(Option::unwrap_or_default);
    let [summaries, flows, flows_with_loss, p99, most, local_drops, suspects, bound @ ..] = columns::<11>(&mut input)?;
    let of_suspicion = columns::<{ Suspicion::ALL.len() }>(&mut input)?;
    let [rtt, ipdv, owd_forward, owd_reverse, residence] = extremes(&mut input)?;
    let buckets = input.number()?;
    if buckets > Bucket::of(LARGEST).0.into() {
        return None;
    }
    let mut before = 0;
    let mut values = Vec::with_capacity(buckets as usize);
    for _ in 0..buckets {
        let token = input.number()?;
        let bucket = u16::try_from(token >> 1).ok()?.checked_add(before)?;
        before = bucket;
        values.push((Bucket(bucket), if token & 1 == 0 { 1 } else { input.number()? }));
    }
    if before > Bucket::of(LARGEST).0 {
        return None;
    }
    let mut histogram = Buckets::default();
    histogram.add(values.into_iter());
    let lateness_p99 = p99.map(unfolded);
    Some(Figures {
        summaries: summaries.unwrap_or(0).wrapping_add(1),
        suspect: Suspicion::ALL.map(|suspicion| of_suspicion[column(suspicion)].unwrap_or(0)),
        suspects: suspects.unwrap_or(0),
        counts: to_counts(counts),
        rtt,
        histogram,
        bound: match bound {
            [Some(p50), Some(p90), Some(p99), Some(p999)] => Some([p50, p90, p99, p999].map(unfolded)),
            _ => None,
        },
        ipdv,
        owd_forward,
        owd_reverse,
        residence,
        lateness_p99,
        lateness_max: most.map(|most| unfolded(most).wrapping_add(lateness_p99.unwrap_or(0))),
        local_drops: local_drops.unwrap_or(0),
        flows: flows.unwrap_or(0),
        flows_with_loss: flows_with_loss.unwrap_or(0),
    })
}

/// Appends those that are there: a bit each, then sample, mean, smallest and width of each.
///
/// Means are sums of whole nanoseconds divided by the size of the sample; where that gives back the very same mean,
/// the sum's distance from the least it can be is written, otherwise the mean's eight bytes.
fn put_extremes<const N: usize>(out: &mut Vec<u8>, all: [&Option<Extremes>; N]) {
    let present = all.iter().enumerate().filter(|(_, extremes)| extremes.is_some());
    put(out, present.fold(0, |mask, (bit, _)| mask | 1 << bit));
    for Extremes { samples, mean, min, max } in all.into_iter().flatten() {
        let sum = (mean * *samples as f64).round();
        let whole = sum.abs() < 9e15 && (sum / *samples as f64).to_bits() == mean.to_bits();
        put(out, samples << 1 | u64::from(!whole));
        put(out, folded(*min));
        put(out, max.wrapping_sub(*min) as u64);
        match whole {
            true => put(out, folded((sum as i64).wrapping_sub(min.wrapping_mul(*samples as i64)))),
            false => out.extend_from_slice(&mean.to_bits().to_le_bytes()),
        }
    }
}

fn extremes<const N: usize>(input: &mut Input<'_>) -> Option<[Option<Extremes>; N]> {
    let mut found = [None; N];
    let mut mask = input.number()?;
    while mask != 0 {
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let head = input.number()?;
        let samples = head >> 1;
        let min = input.signed()?;
        let max = min.wrapping_add(input.number()? as i64);
        let mean = match head & 1 {
            0 => input.signed()?.wrapping_add(min.wrapping_mul(samples as i64)) as f64 / samples as f64,
            _ => f64::from_bits(u64::from_le_bytes(input.array()?)),
        };
        if let Some(extremes) = found.get_mut(bit) {
            *extremes = Some(Extremes { samples, mean, min, max });
        }
    }
    Some(found)
}

/// Appends the flows of one path in one interval.
pub(super) fn put_flows(out: &mut Vec<u8>, path: &Path, flows: &[FlowSummary]) {
    put(out, flows.len() as u64);
    let mut flow_bytes = Vec::new();
    for flow in flows {
        let FlowSummary { source, target, dscp, sent, lost, lost_forward, lost_reverse, rtt } = flow;
        flow_bytes.clear();
        put_address(&mut flow_bytes, source, path.src);
        put_address(&mut flow_bytes, target, path.dst);
        let other_dscp = (*dscp != path.dscp).then_some(u64::from(dscp.0));
        let numbers = [some(*sent), some(*lost), some(*lost_forward), some(*lost_reverse), other_dscp];
        put_columns(&mut flow_bytes, numbers);
        put_extremes(&mut flow_bytes, [rtt]);
        put(out, flow_bytes.len() as u64);
        out.extend_from_slice(&flow_bytes);
    }
}

/// Reads what [`put_flows`] wrote.
pub(super) fn flows(row: &[u8], path: &Path) -> Option<Vec<FlowSummary>> {
    let mut input = Input(row);
    let number = input.number()?;
    let mut found = Vec::new();
    for _ in 0..number {
        let length = input.number()?;
        let mut input = Input(input.bytes(length)?);
        let source = address(&mut input, path.src)?;
        let target = address(&mut input, path.dst)?;
        let [sent, lost, lost_forward, lost_reverse, dscp] = columns::<5>(&mut input)?;
        let [rtt] = extremes(&mut input)?;
        found.push(FlowSummary {
            source,
            target,
            dscp: match dscp {
                Some(dscp) => Dscp(u8::try_from(dscp).ok()?),
                None => path.dscp,
            },
            sent: sent.unwrap_or(0),
            lost: lost.unwrap_or(0),
            lost_forward: lost_forward.unwrap_or(0),
            lost_reverse: lost_reverse.unwrap_or(0),
            rtt,
        });
    }
    Some(found)
}

/// An address that is mostly the path's: its port, and what else differs.
fn put_address(out: &mut Vec<u8>, address: &SocketAddr, usual: IpAddr) {
    let (kind, extra): (u64, Vec<u8>) = match address {
        address if *address == SocketAddr::new(usual, address.port()) => (0, Vec::new()),
        SocketAddr::V4(v4) => (1, v4.ip().octets().to_vec()),
        SocketAddr::V6(v6) => {
            let (flow, scope) = (v6.flowinfo().to_be_bytes(), v6.scope_id().to_be_bytes());
            (2, [&v6.ip().octets()[..], &flow, &scope].concat())
        }
    };
    put(out, u64::from(address.port()) << 2 | kind);
    out.extend_from_slice(&extra);
}

fn address(input: &mut Input<'_>, usual: IpAddr) -> Option<SocketAddr> {
    let head = input.number()?;
    let port = u16::try_from(head >> 2).ok()?;
    match head & 3 {
        0 => Some(SocketAddr::new(usual, port)),
        1 => Some(SocketAddr::new(IpAddr::from(input.array::<4>()?), port)),
        2 => {
            let ip = input.array::<16>()?.into();
            let flow = u32::from_be_bytes(input.array()?);
            Some(SocketAddrV6::new(ip, port, flow, u32::from_be_bytes(input.array()?)).into())
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sink::record::samples;
    use proptest::prelude::*;

    pub(in crate::history) fn any_extremes() -> impl Strategy<Value = Option<Extremes>> {
        let whole = prop::collection::vec(-1_000_000_000_i64..100_000_000_000, 1..9).prop_map(|values| Extremes {
            samples: values.len() as u64,
            mean: values.iter().sum::<i64>() as f64 / values.len() as f64,
            min: *values.iter().min().expect("one at least"),
            max: *values.iter().max().expect("one at least"),
        });
        let odd = (1..u64::MAX >> 1, -1e18..1e18, any::<i64>(), any::<i64>());
        let odd = odd.prop_map(|(samples, mean, min, max)| Extremes { samples, mean, min, max });
        prop_oneof![Just(None), whole.prop_map(Some), odd.prop_map(Some)]
    }

    pub(in crate::history) fn any_figures() -> impl Strategy<Value = Figures> {
        let number = || prop_oneof![4 => Just(0_u64), 4 => 0..5000_u64, 1 => any::<u64>()];
        let counts = prop::collection::vec(number(), COUNTS);
        let suspect = [number(), number(), number(), number(), number()];
        let histogram = prop::collection::btree_map(0..2048_u16, prop_oneof![Just(1_u64), 1..u64::MAX >> 1], 0..30);
        let bound = prop::option::of(any::<[i64; 4]>());
        let extremes = [any_extremes(), any_extremes(), any_extremes(), any_extremes(), any_extremes()];
        let lateness = prop::option::of((any::<i64>(), any::<i64>()));
        let rest = (number(), number(), number(), number(), number());
        (counts, suspect, histogram, bound, extremes, lateness, rest).prop_map(
            |(counts, suspect, buckets, bound, extremes, lateness, rest)| {
                let mut histogram = Buckets::default();
                histogram.add(buckets.into_iter().map(|(bucket, count)| (Bucket(bucket), count)));
                let [rtt, ipdv, owd_forward, owd_reverse, residence] = extremes;
                let (suspects, local_drops, flows, flows_with_loss, summaries) = rest;
                Figures {
                    summaries,
                    suspect,
                    suspects,
                    counts: to_counts(counts.try_into().expect("as many as there are")),
                    rtt,
                    histogram,
                    bound,
                    ipdv,
                    owd_forward,
                    owd_reverse,
                    residence,
                    lateness_p99: lateness.map(|lateness| lateness.0),
                    lateness_max: lateness.map(|lateness| lateness.1),
                    local_drops,
                    flows,
                    flows_with_loss,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn figures_come_back(given in any_figures(), more in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut row = Vec::new();
            put_figures(&mut row, &given);
            let back = figures(&row);
            prop_assert_eq!(back.as_ref(), Some(&given));
            row.extend(more);
            prop_assert_eq!(figures(&row), Some(given), "what a newer program adds at the end");
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = figures(&bytes);
            let _ = flows(&bytes, &samples::full().path);
        }

        #[test]
        fn flows_come_back(
            sources in prop::collection::vec((any::<SocketAddr>(), any::<SocketAddr>(), any_extremes()), 0..8),
            numbers: [u64; 4],
            dscp in 0..64_u8,
        ) {
            let path = samples::full().path;
            let [sent, lost, lost_forward, lost_reverse] = numbers;
            let given: Vec<FlowSummary> = sources.into_iter().enumerate().map(|(n, (source, target, rtt))| FlowSummary {
                source: if n % 2 == 0 { source } else { SocketAddr::new(path.src, source.port()) },
                target: if n % 2 == 0 { target } else { SocketAddr::new(path.dst, target.port()) },
                dscp: if n % 3 == 0 { path.dscp } else { Dscp(dscp) },
                sent, lost, lost_forward, lost_reverse, rtt,
            }).collect();
            let mut row = Vec::new();
            put_flows(&mut row, &path, &given);
            prop_assert_eq!(flows(&row, &path), Some(given));
        }
    }

    #[test]
    fn every_suspicion_has_a_column_of_its_own() {
        let mut columns = Suspicion::ALL.map(column);
        columns.sort_unstable();
        assert_eq!(columns.to_vec(), (0..Suspicion::ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_without_the_newest_counters_is_read() {
        let mut row = Vec::new();
        put_columns(&mut row, [Some(7), Some(5), Some(2)]); // sent, replied, lost: all that an older program knew
        let mut rest = Vec::new();
        put_figures(&mut rest, &Figures { summaries: 1, ..Figures::default() });
        row.extend_from_slice(&rest[1..]); // after the empty counters
        let read = figures(&row).expect("figures");
        assert_eq!(read.counts, Counts { sent: 7, replied: 5, lost: 2, ..Counts::default() });
    }
}
