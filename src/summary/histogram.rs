//! Histograms of delays that share one pool of memory: about 1 KB for a path instead of 10.
//!
//! Responsible for counting values per path and for percentiles of the counts. Not responsible for
//! sums, extremes and means, which are exact and kept beside it. Read [`Pages`] and [`Buckets`] first.
//!
//! # Resolution
//! Values below 64 ns have a bucket each; above, every octave [2^o, 2^(o+1)) has 64 buckets, so a bucket
//! is at most 1/64 = 1.6 % wide and its middle at most 0.8 % from any value in it. The range ends at
//! [`LARGEST`]; larger values count there.
//!
//! # Memory
//! A path's round-trip times stay within a few octaves. So an octave is a page of 64 counters, taken from
//! a pool when its first value comes. When the pool is empty, the value goes to the edge of the nearest page
//! the path has, so that ranks stay true, and is counted in [`Pages::displaced`]; a path without any page
//! has no histogram then, only its exact extremes and mean.

/// Counters of a page: buckets per octave.
const BUCKETS: usize = 64;
/// Pages a path can have: below 64 ns, and the octaves from 2^6 to 2^36.
pub const OCTAVES: usize = 32;
/// The largest value told apart, in ns: 137 s.
pub const LARGEST: u64 = (1 << 37) - 1;

/// A value's bucket: octave × 64 + position; ascending with the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u16);

impl Bucket {
    /// The bucket `value_ns` counts in.
    #[inline]
    pub fn of(value_ns: u64) -> Bucket {
        let value = value_ns.min(LARGEST);
        if value < BUCKETS as u64 {
            return Bucket(value as u16);
        }
        let shift = value.ilog2() - 6;
        let position = (value >> shift) as u16 & 63;
        Bucket((shift as u16 + 1) * BUCKETS as u16 + position)
    }

    /// The middle of the bucket, in ns.
    pub fn middle(self) -> u64 {
        let (page, position) = (u64::from(self.0) / 64, u64::from(self.0) % 64);
        match page {
            0 => position,
            _ => {
                let shift = page - 1;
                ((64 + position) << shift) + ((1 << shift) >> 1)
            }
        }
    }

    fn page(self) -> usize {
        usize::from(self.0) / BUCKETS
    }

    fn position(self) -> usize {
        usize::from(self.0) % BUCKETS
    }
}

/// Histograms of a fixed number of paths over one pool of pages.
#[derive(Debug)]
pub struct Pages {
    /// Per path and octave: 1 + number of the page, 0 when it has none.
    directory: Vec<[u32; OCTAVES]>,
    pool: Vec<[u32; BUCKETS]>,
    /// Pages taken: the first so many of the pool.
    used: usize,
    displaced: u64,
}

impl Pages {
    /// Histograms for `paths` paths, all memory taken here.
    pub fn new(paths: usize) -> Pages {
        Pages::with_pool(paths, Pages::pool(paths))
    }

    fn with_pool(paths: usize, pages: usize) -> Pages {
        Pages { directory: vec![[0; OCTAVES]; paths], pool: vec![[0; BUCKETS]; pages], used: 0, displaced: 0 }
    }

    /// Pages in the pool for so many paths: four each, and 256 for those that vary more.
    fn pool(paths: usize) -> usize {
        (4 * paths + 256).min(OCTAVES * paths)
    }

    /// Bytes the histograms of `paths` paths take.
    pub fn memory(paths: usize) -> usize {
        paths * size_of::<[u32; OCTAVES]>() + Pages::pool(paths) * size_of::<[u32; BUCKETS]>()
    }

    /// Counts a value of a path; unknown paths are ignored.
    #[inline]
    pub fn record(&mut self, path: u32, value_ns: u64) {
        let bucket = Bucket::of(value_ns);
        let Some(pages) = self.directory.get_mut(path as usize) else { return };
        let page = match pages[bucket.page()] {
            0 if self.used < self.pool.len() => {
                self.used += 1;
                pages[bucket.page()] = self.used as u32;
                self.used
            }
            0 => return self.displace(path, bucket),
            page => page as usize,
        };
        if let Some(counters) = self.pool.get_mut(page - 1) {
            counters[bucket.position()] = counters[bucket.position()].saturating_add(1);
        }
    }

    #[cold]
    fn displace(&mut self, path: u32, bucket: Bucket) {
        self.displaced += 1;
        let Some(pages) = self.directory.get(path as usize) else { return };
        let octave = bucket.page();
        let nearest = (0..OCTAVES).filter(|&o| pages[o] != 0).min_by_key(|&o| o.abs_diff(octave));
        let Some(nearest) = nearest else { return };
        let edge = if nearest < octave { BUCKETS - 1 } else { 0 };
        if let Some(counters) = self.pool.get_mut(pages[nearest] as usize - 1) {
            counters[edge] = counters[edge].saturating_add(1);
        }
    }

    /// Values that the pool had no page for.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// The counts of a path that are not 0, ascending.
    pub fn counts(&self, path: u32) -> impl Iterator<Item = (Bucket, u64)> + '_ {
        self.directory.get(path as usize).into_iter().flatten().enumerate().flat_map(move |(octave, &page)| {
            let counters = (page as usize).checked_sub(1).and_then(|page| self.pool.get(page));
            counters
                .into_iter()
                .flatten()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .map(move |(position, &count)| (Bucket((octave * BUCKETS + position) as u16), u64::from(count)))
        })
    }

    /// Forgets the values of one path: only its pages are touched. They return to the pool with
    /// [`Pages::clear_pool`].
    pub fn clear_path(&mut self, path: u32) {
        if let Some(pages) = self.directory.get_mut(path as usize) {
            pages.fill(0);
        }
    }

    /// Returns all pages to the pool, after every path with values was cleared.
    pub fn clear_pool(&mut self) {
        self.pool.iter_mut().take(self.used).for_each(|page| page.fill(0));
        self.used = 0;
        self.displaced = 0;
    }
}

/// The counts of one path, merged from several tallies: only buckets that occur, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(Vec<(Bucket, u64)>);

impl Buckets {
    /// Adds counts, which must be ascending by bucket.
    pub fn add(&mut self, counts: impl Iterator<Item = (Bucket, u64)>) {
        if self.0.is_empty() {
            self.0.extend(counts);
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + 16);
        let mut old = self.0.iter().copied().peekable();
        let mut new = counts.peekable();
        loop {
            let next = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    let sum = (a.0, a.1 + b.1);
                    old.next();
                    new.next();
                    Some(sum)
                }
                (Some(a), Some(b)) if a.0 < b.0 => old.next(),
                (_, Some(_)) => new.next(),
                (Some(_), None) => old.next(),
                (None, None) => break,
            };
            merged.extend(next);
        }
        self.0 = merged;
    }

    /// Adds the counts of another histogram.
    pub fn join(&mut self, other: &Buckets) {
        self.add(other.0.iter().copied());
    }

    /// The counts, ascending by bucket.
    pub fn counts(&self) -> &[(Bucket, u64)] {
        &self.0
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Nearest-rank percentiles (RFC 2330 §11.3), in ns, for ascending `quantiles` from 0 to 1; 0 without values.
    pub fn percentiles<const N: usize>(&self, quantiles: [f64; N]) -> [u64; N] {
        nearest_ranks(self.0.iter().map(|(bucket, count)| (bucket.middle(), *count)), self.total(), quantiles)
    }

    /// (Middle of the bucket in ns, count), ascending.
    pub fn values(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|(bucket, count)| (bucket.middle(), *count)).collect()
    }
}

/// The values with rank ⌈q × total⌉ (at least 1) of ascending (value, count).
pub(super) fn nearest_ranks<const N: usize>(
    values: impl Iterator<Item = (u64, u64)>,
    total: u64,
    quantiles: [f64; N],
) -> [u64; N] {
    let mut found = [0; N];
    let mut wanted = 0;
    let mut passed = 0;
    for (value, count) in values {
        passed += count;
        while let Some(quantile) = quantiles.get(wanted) {
            // quantiles like 0.9 are a little off as f64; ranks below 10^9 are not
            let rank = ((quantile * total as f64 - 1e-6).ceil() as u64).max(1);
            if rank > passed {
                break;
            }
            found[wanted] = value;
            wanted += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = u64> {
        (0u32..38, any::<u64>()).prop_map(|(octave, bits)| bits % (1 << octave))
    }

    #[test]
    fn buckets_at_the_edges() {
        assert_eq!(Bucket::of(0), Bucket(0));
        assert_eq!(Bucket::of(63), Bucket(63));
        assert_eq!(Bucket::of(64), Bucket(64));
        assert_eq!(Bucket::of(127), Bucket(127));
        assert_eq!(Bucket::of(128), Bucket(128));
        assert_eq!(Bucket::of(129), Bucket(128));
        assert_eq!(Bucket::of(u64::MAX), Bucket((OCTAVES * BUCKETS) as u16 - 1));
        assert_eq!(Bucket::of(LARGEST), Bucket::of(u64::MAX));
        for bucket in (0..(OCTAVES * BUCKETS) as u16).map(Bucket) {
            assert_eq!(Bucket::of(bucket.middle()), bucket);
        }
    }

    #[test]
    fn an_empty_pool_keeps_ranks() {
        let mut pages = Pages::with_pool(2, 1);
        pages.record(0, 1000);
        pages.record(0, 50);
        pages.record(0, 5000);
        pages.record(1, 7); // nowhere to go
        pages.record(9, 7); // no such path
        assert_eq!(pages.displaced(), 3);
        let mut of_0 = Buckets::default();
        of_0.add(pages.counts(0));
        assert_eq!(of_0.total(), 3);
        let [low, middle, high] = of_0.percentiles([0.1, 0.5, 1.0]);
        assert!(low == 516 && middle == 1004 && high == 1020, "{low} {middle} {high}");
        assert_eq!(pages.counts(1).count(), 0);
        pages.clear_path(0);
        pages.clear_pool();
        assert_eq!((pages.counts(0).count(), pages.displaced()), (0, 0));
        pages.record(1, 7);
        assert_eq!(pages.counts(1).collect::<Vec<_>>(), [(Bucket(7), 1)]);
    }

    #[test]
    fn a_path_costs_about_a_kilobyte() {
        assert!(Pages::memory(25_000) / 25_000 < 1200);
    }

    proptest! {
        #[test]
        fn a_bucket_is_narrow_and_in_order(a in value(), b in value()) {
            let middle = Bucket::of(a).middle();
            prop_assert!(middle.abs_diff(a) as f64 <= a as f64 / 128.0 + 0.5, "{a} is shown as {middle}");
            prop_assert!(a > b || Bucket::of(a) <= Bucket::of(b));
        }

        #[test]
        fn split_streams_merge_to_the_same(
            values in prop::collection::vec((value(), 0usize..3), 0..300),
        ) {
            let mut whole = Pages::new(1);
            let mut parts = [Pages::new(1), Pages::new(1), Pages::new(1)];
            for &(value, part) in &values {
                whole.record(0, value);
                parts[part].record(0, value);
            }
            let mut merged = Buckets::default();
            parts.iter().for_each(|part| merged.add(part.counts(0)));
            let mut at_once = Buckets::default();
            at_once.add(whole.counts(0));
            prop_assert_eq!(merged, at_once);
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(value(), 1..500)) {
            let mut pages = Pages::new(1);
            values.iter().for_each(|&value| pages.record(0, value));
            let mut buckets = Buckets::default();
            buckets.add(pages.counts(0));
            values.sort_unstable();
            for (quantile, found) in [0.5, 0.9, 0.99, 0.999].into_iter().zip(buckets.percentiles([0.5, 0.9, 0.99, 0.999])) {
                let per_mille = (quantile * 1000.0) as usize;
                let exact = values[(per_mille * values.len()).div_ceil(1000).max(1) - 1];
                prop_assert!(found.abs_diff(exact) as f64 <= exact as f64 / 128.0 + 0.5, "{found} for {exact}");
            }
        }
    }
}
