//! What joins of many summaries is known to be: the numbers of a cell of the matrix, of a path over an hour, of a fleet.
//!
//! Responsible for joining without loss what can be joined: counts, means, extremes and histograms. Not responsible
//! for flows (a list is not a number) nor for where summaries come from. Read [`Figures`] first.

use super::histogram::{Bucket, Buckets, nearest_ranks};
use super::{Counts, Extremes, Seen, Summary, Suspicion};

/// Percentiles of a sample of round trips, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Median.
    pub p50: i64,
    /// 90th percentile.
    pub p90: i64,
    /// 99th percentile.
    pub p99: i64,
    /// 99.9th percentile.
    pub p999: i64,
    /// Whether these are percentiles of the whole sample (within 0.8 %), or only not below them: the largest of its
    /// parts' percentiles, where parts came without a histogram.
    pub exact: bool,
}

/// Summaries joined: of one path or many, of one interval or many. Delays in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Summaries joined.
    pub summaries: u64,
    /// Of these, those that may be the prober's own doing, per [`Suspicion::ALL`].
    pub suspect: [u64; Suspicion::ALL.len()],
    /// Of these, those with at least one suspicion.
    pub suspects: u64,
    /// What was counted.
    pub counts: Counts,
    /// Round-trip time.
    pub rtt: Option<Extremes>,
    /// Round trips by value; empty where the source keeps none.
    pub histogram: Buckets,
    /// The largest percentiles of the parts that came without a histogram.
    pub bound: Option<[i64; 4]>,
    /// Absolute ipdv (RFC 3393).
    pub ipdv: Option<Extremes>,
    /// Forward one-way delay, signed.
    pub owd_forward: Option<Extremes>,
    /// Reverse one-way delay, signed.
    pub owd_reverse: Option<Extremes>,
    /// The reflector's residence time.
    pub residence: Option<Extremes>,
    /// The largest 99th percentile of how late the prober sent.
    pub lateness_p99: Option<i64>,
    /// How late the prober sent at most.
    pub lateness_max: Option<i64>,
    /// The most datagrams that one prober's sockets dropped in one interval: every path of a prober tells the same.
    pub local_drops: u64,
    /// Flows: of one path the most of an interval, of several paths their sum.
    pub flows: u64,
    /// Flows that lost a probe, counted like `flows`.
    pub flows_with_loss: u64,
    /// What else was seen last.
    pub seen: Seen,
}

/// The quantiles of [`Percentiles`].
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

impl Figures {
    /// Joins the figures of another time of the same path: flows are the same ones.
    pub fn add_time(&mut self, other: &Figures) {
        self.add(other);
        self.flows = self.flows.max(other.flows);
        self.flows_with_loss = self.flows_with_loss.max(other.flows_with_loss);
    }

    /// Joins the figures of another path: its flows are others.
    pub fn add_path(&mut self, other: &Figures) {
        self.add(other);
        self.flows += other.flows;
        self.flows_with_loss += other.flows_with_loss;
    }

    fn add(&mut self, other: &Figures) {
        self.summaries += other.summaries;
        self.suspect.iter_mut().zip(other.suspect).for_each(|(sum, more)| *sum += more);
        self.suspects += other.suspects;
        self.counts += &other.counts;
        self.rtt = Extremes::of_both(self.rtt, other.rtt);
        self.histogram.join(&other.histogram);
        self.bound = match (self.bound, other.bound) {
            (Some(a), Some(b)) => Some(std::array::from_fn(|n| a[n].max(b[n]))),
            (a, b) => a.or(b),
        };
        self.ipdv = Extremes::of_both(self.ipdv, other.ipdv);
        self.owd_forward = Extremes::of_both(self.owd_forward, other.owd_forward);
        self.owd_reverse = Extremes::of_both(self.owd_reverse, other.owd_reverse);
        self.residence = Extremes::of_both(self.residence, other.residence);
        self.lateness_p99 = self.lateness_p99.max(other.lateness_p99);
        self.lateness_max = self.lateness_max.max(other.lateness_max);
        self.local_drops = self.local_drops.max(other.local_drops);
        self.seen = self.seen.followed_by(other.seen);
    }

    /// Percentiles of the round trips; `None` without round trips, or without anything known of their distribution.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let rtt = self.rtt?;
        let within = |ns: i64| ns.clamp(rtt.min, rtt.max);
        let total = self.histogram.total();
        let counted = (total > 0).then(|| {
            let values = self.histogram.values();
            nearest_ranks(values.into_iter(), total, QUANTILES).map(|ns| within(ns as i64))
        });
        let [p50, p90, p99, p999] = match (counted, self.bound) {
            (Some(a), Some(b)) => std::array::from_fn(|n| a[n].max(b[n])),
            (a, b) => a.or(b)?,
        };
        Some(Percentiles { p50, p90, p99, p999, exact: self.bound.is_none() || self.summaries == 1 })
    }
}

impl From<&Summary> for Figures {
    fn from(s: &Summary) -> Figures {
        let mut histogram = Buckets::default();
        histogram.add(s.rtt_histogram.iter().map(|(ns, count)| (Bucket::of(*ns), *count)));
        let without = s.rtt.filter(|_| s.rtt_histogram.is_empty());
        Figures {
            summaries: 1,
            suspect: Suspicion::ALL.map(|suspicion| u64::from(s.suspect.contains(&suspicion))),
            suspects: u64::from(!s.suspect.is_empty()),
            counts: s.counts,
            rtt: s.rtt.map(Extremes::from),
            histogram,
            bound: without.map(|rtt| [rtt.p50, rtt.p90, rtt.p99, rtt.p999]),
            ipdv: s.ipdv,
            owd_forward: s.owd_forward,
            owd_reverse: s.owd_reverse,
            residence: s.residence,
            lateness_p99: s.lateness.map(|lateness| lateness.p99),
            lateness_max: s.lateness.map(|lateness| lateness.max),
            local_drops: s.local_drops,
            flows: u64::from(s.flows),
            flows_with_loss: u64::from(s.flows_with_loss),
            seen: s.seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[u64], lost: u64) -> Figures {
        let mut histogram = Buckets::default();
        values.iter().for_each(|ns| histogram.add(std::iter::once((Bucket::of(*ns), 1))));
        let extremes = values.iter().min().zip(values.iter().max()).map(|(min, max)| Extremes {
            samples: values.len() as u64,
            mean: values.iter().sum::<u64>() as f64 / values.len() as f64,
            min: *min as i64,
            max: *max as i64,
        });
        let counts = Counts { sent: lost + values.len() as u64, lost, ..Counts::default() };
        Figures { summaries: 1, counts, rtt: extremes, histogram, flows: 4, flows_with_loss: 1, ..Figures::default() }
    }

    #[test]
    fn times_and_paths_join() {
        let (a, b) = (figures(&[1000, 2000], 3), figures(&[8000], 4));
        let (mut times, mut paths) = (a.clone(), a.clone());
        times.add_time(&b);
        paths.add_path(&b);
        assert_eq!((times.summaries, times.counts.lost, times.flows, times.flows_with_loss), (2, 7, 4, 1));
        assert_eq!((paths.summaries, paths.counts.lost, paths.flows, paths.flows_with_loss), (2, 7, 8, 2));
        let rtt = times.rtt.expect("round trips");
        assert_eq!((rtt.samples, rtt.min, rtt.max), (3, 1000, 8000));
        assert!((rtt.mean - 11_000.0 / 3.0).abs() < 1e-6);
        let percentiles = times.percentiles().expect("percentiles");
        assert!(percentiles.exact && percentiles.p50.abs_diff(2000) < 20 && percentiles.p99.abs_diff(8000) < 70);
    }

    #[test]
    fn without_histograms_percentiles_are_a_bound() {
        let bare = |p99| Figures {
            histogram: Buckets::default(),
            bound: Some([1000, 2000, p99, 5000]),
            ..figures(&[1000, 5000], 0)
        };
        let mut joined = bare(3000);
        assert!(joined.percentiles().expect("percentiles").exact, "those of a single summary are its own");
        joined.add_time(&bare(3001));
        let percentiles = joined.percentiles().expect("percentiles");
        assert_eq!((percentiles.p99, percentiles.exact), (3001, false));
    }
}
