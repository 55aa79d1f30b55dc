//! The newest summaries, in memory, to be asked for: by sequence number, by time, or the latest of each path.
//!
//! Responsible for bounded memory and for a lock that is held for moments: summaries are shared, never copied.
//! Not responsible for their JSON (see [`super::api`]). Read [`Recent`] first.

pub use crate::summary::path_id::PathId;
use crate::summary::{FlowSummary, Summary, WORST_FLOWS};
use crate::time::Wall;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is kept at most; beyond it the oldest summaries go, and are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Summaries.
    pub summaries: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { summaries: 100_000, bytes: 128 << 20 }
    }
}

/// Summaries in order of sequence, from one request.
#[derive(Clone, Debug)]
pub struct Page {
    /// Which process: sequence numbers of another one mean something else.
    pub instance: String,
    /// Sequence of the oldest summary kept; 0 when none is.
    pub first: u64,
    /// Sequence of the newest summary; 0 when there was none yet.
    pub newest: u64,
    /// What to ask after next.
    pub next: u64,
    /// Summaries after the one asked for that are kept no more.
    pub lost: u64,
    /// The summaries with their sequence numbers, ascending.
    pub summaries: Vec<(u64, Arc<Summary>)>,
}

/// One path in the latest interval.
#[derive(Clone, Debug)]
pub struct LatestPath {
    /// Its id.
    pub id: PathId,
    /// The summary's sequence number.
    pub sequence: u64,
    /// Its summary.
    pub summary: Arc<Summary>,
    /// Its flows, worst first: all of them, or as many as were listed.
    pub flows: Vec<FlowSummary>,
}

/// The latest interval.
#[derive(Clone, Debug, Default)]
pub struct Latest {
    /// Its paths, in the order of the plan.
    pub paths: Vec<LatestPath>,
    /// Position in `paths` by id.
    positions: HashMap<PathId, usize>,
}

impl Latest {
    /// A path of it.
    pub fn path(&self, id: PathId) -> Option<&LatestPath> {
        self.paths.get(*self.positions.get(&id)?)
    }

    fn is_of(&self, summary: &Summary) -> bool {
        self.paths
            .first()
            .is_some_and(|path| (path.summary.interval, path.summary.end) == (summary.interval, summary.end))
    }
}

/// Which summaries of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Those whose interval ended at this instant or later.
    pub from: Wall,
    /// Those whose interval ended before this instant.
    pub to: Wall,
    /// Those of this path only.
    pub path: Option<PathId>,
}

/// Counters of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentCounters {
    /// Summaries kept now.
    pub held: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Summaries that made room for newer ones.
    pub evicted: u64,
}

/// The newest summaries.
#[derive(Debug)]
pub struct Recent {
    limits: Limits,
    instance: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Oldest first; sequences without gaps.
    kept: VecDeque<Kept>,
    bytes: usize,
    newest: u64,
    evicted: u64,
    latest: Arc<Latest>,
}

/// What a search needs stands beside the summary, so that searching touches no summary.
#[derive(Clone, Debug)]
struct Kept {
    sequence: u64,
    end: Wall,
    path: PathId,
    bytes: usize,
    summary: Arc<Summary>,
}

impl Recent {
    /// Nothing kept yet, under a new random instance.
    pub fn new(limits: Limits) -> Recent {
        let instance = format!("{:016x}", RandomState::new().build_hasher().finish());
        Recent { limits, instance, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 16 hexadecimal digits that differ from process to process.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What is kept at most.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Adds an interval's summaries. They get the next sequence numbers, from 1 on.
    ///
    /// Of the interval that is the latest all flows a summary lists are kept, of others [`WORST_FLOWS`].
    /// Summaries of the interval that is the latest already join it; others replace it.
    pub fn add(&self, summaries: Vec<Summary>) {
        let Some(first) = summaries.first() else { return };
        let joins = self.lock().latest.is_of(first);
        let mut latest = if joins { Latest::clone(&self.lock().latest) } else { Latest::default() };
        let start = latest.paths.len();
        for mut summary in summaries {
            let flows = summary.worst_flows;
            summary.worst_flows = flows.iter().take(WORST_FLOWS).cloned().collect();
            let id = PathId::of(&summary.path);
            latest.positions.insert(id, latest.paths.len());
            latest.paths.push(LatestPath { id, sequence: 0, summary: Arc::new(summary), flows });
        }
        let mut gone = Vec::new();
        {
            let mut inner = self.lock();
            for path in &mut latest.paths[start..] {
                inner.newest += 1;
                path.sequence = inner.newest;
                let summary = Arc::clone(&path.summary);
                let bytes = bytes(&summary);
                inner.bytes += bytes;
                inner.kept.push_back(Kept { sequence: path.sequence, end: summary.end, path: path.id, bytes, summary });
            }
            while inner.kept.len() > self.limits.summaries || inner.bytes > self.limits.bytes {
                let Some(oldest) = inner.kept.pop_front() else { break };
                inner.bytes -= oldest.bytes;
                inner.evicted += 1;
                gone.push(oldest);
            }
            let before = std::mem::replace(&mut inner.latest, Arc::new(latest));
            drop(inner);
            drop(before); // freeing thousands of summaries takes longer than the lock is to be held
        }
        drop(gone);
    }

    /// Up to `limit` summaries that came after the one with this sequence number.
    pub fn after(&self, sequence: u64, limit: usize) -> Page {
        let inner = self.lock();
        let first = inner.kept.front().map_or(0, |kept| kept.sequence);
        let oldest = inner.newest + 1 - inner.kept.len() as u64;
        let from = sequence.saturating_add(1).max(oldest);
        let skip = (from - oldest) as usize;
        let summaries: Vec<_> =
            inner.kept.iter().skip(skip).take(limit).map(|kept| (kept.sequence, Arc::clone(&kept.summary))).collect();
        Page {
            instance: self.instance.clone(),
            first,
            newest: inner.newest,
            next: summaries.last().map_or(sequence.min(inner.newest), |(sequence, _)| *sequence),
            lost: oldest.saturating_sub(sequence.saturating_add(1)),
            summaries,
        }
    }

    /// The latest interval's summaries of every path; a path that is probed no more is not among them.
    pub fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.lock().latest)
    }

    /// Up to `limit` kept summaries of a range, oldest first, and whether there were more.
    pub fn range(&self, range: &Range, limit: usize) -> (Vec<(u64, Arc<Summary>)>, bool) {
        let inner = self.lock();
        let inside = |kept: &&Kept| {
            range.from <= kept.end && kept.end < range.to && range.path.is_none_or(|path| path == kept.path)
        };
        let mut found = inner.kept.iter().filter(inside).map(|kept| (kept.sequence, Arc::clone(&kept.summary)));
        let summaries: Vec<_> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        (summaries, more)
    }

    /// What is kept now and what made room.
    pub fn counters(&self) -> RecentCounters {
        let inner = self.lock();
        RecentCounters { held: inner.kept.len() as u64, bytes: inner.bytes as u64, evicted: inner.evicted }
    }
}

/// Cuts the flows that summaries list to [`WORST_FLOWS`]: what every destination but [`Recent`] gets.
pub fn cut_flows(summaries: &[Summary]) -> Vec<Summary> {
    let cut = |summary: &Summary| Summary {
        worst_flows: summary.worst_flows.iter().take(WORST_FLOWS).cloned().collect(),
        path: Arc::clone(&summary.path),
        rtt_histogram: summary.rtt_histogram.clone(),
        suspect: summary.suspect.clone(),
        ..*summary
    };
    summaries.iter().map(cut).collect()
}

/// Memory of a summary. Its path is shared with others of the same path.
fn bytes(summary: &Summary) -> usize {
    size_of::<Summary>()
        + size_of::<Kept>()
        + size_of_val(summary.rtt_histogram.as_slice())
        + size_of_val(summary.worst_flows.as_slice())
        + size_of_val(summary.suspect.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use crate::summary::Path;
    use proptest::prelude::*;

    /// An interval's summary of the path to 10.0.0.`dst`.
    fn summary(interval: u32, dst: u8) -> Summary {
        let full = samples::full();
        let path = Path { dst: [10, 0, 0, dst].into(), ..(*full.path).clone() };
        Summary { path: Arc::new(path), interval, end: Wall(u64::from(interval) * 10), ..full }
    }

    fn sequences(summaries: &[(u64, Arc<Summary>)]) -> Vec<u64> {
        summaries.iter().map(|(sequence, _)| *sequence).collect()
    }

    fn of_three(summaries: usize, bytes: usize) -> Recent {
        let recent = Recent::new(Limits { summaries, bytes });
        for interval in 1..=3 {
            recent.add(vec![summary(interval, 1), summary(interval, 2)]);
        }
        recent
    }

    #[test]
    fn by_sequence() {
        let recent = of_three(5, usize::MAX);
        let page = recent.after(0, 2);
        assert_eq!((page.first, page.newest, page.next, page.lost), (2, 6, 3, 1));
        assert_eq!(sequences(&page.summaries), [2, 3]);
        let page = recent.after(3, 100);
        assert_eq!((page.next, page.lost, sequences(&page.summaries)), (6, 0, vec![4, 5, 6]));
        let page = recent.after(6, 100);
        assert_eq!((page.next, page.lost, page.summaries.len()), (6, 0, 0));
        // numbers of another process
        for sequence in [7, u64::MAX] {
            let page = recent.after(sequence, 100);
            assert_eq!((page.next, page.lost, page.summaries.len()), (6, 0, 0));
        }
        let page = Recent::new(Limits::default()).after(0, 1);
        assert_eq!((page.first, page.newest, page.next, page.lost), (0, 0, 0, 0));
    }

    #[test]
    fn by_time_and_path() {
        let recent = of_three(100, usize::MAX);
        let all = Range { from: Wall(0), to: Wall(u64::MAX), path: None };
        assert_eq!(sequences(&recent.range(&all, 100).0), [1, 2, 3, 4, 5, 6]);
        let range = Range { from: Wall(10), to: Wall(30), ..all };
        assert_eq!(sequences(&recent.range(&range, 100).0), [1, 2, 3, 4]);
        let (some, more) = recent.range(&range, 3);
        assert_eq!((sequences(&some), more), (vec![1, 2, 3], true));
        let range = Range { path: Some(PathId::of(&summary(1, 2).path)), ..all };
        assert_eq!(sequences(&recent.range(&range, 100).0), [2, 4, 6]);
    }

    #[test]
    fn the_latest_of_each_path() {
        let recent = of_three(100, usize::MAX);
        assert_eq!(recent.latest().paths.iter().map(|path| path.sequence).collect::<Vec<_>>(), [5, 6]);
        // the rest of the same interval joins; a path that is probed no more goes
        recent.add(vec![summary(3, 3)]);
        assert_eq!(recent.latest().paths.iter().map(|path| path.sequence).collect::<Vec<_>>(), [5, 6, 7]);
        recent.add(vec![summary(4, 2)]);
        let latest = recent.latest();
        assert_eq!(latest.paths.len(), 1);
        assert!(latest.path(PathId::of(&summary(4, 1).path)).is_none());
        assert_eq!(latest.path(PathId::of(&summary(4, 2).path)).map(|path| path.sequence), Some(8));
        recent.add(Vec::new());
        assert_eq!(recent.latest().paths.len(), 1);
    }

    #[test]
    fn all_flows_of_the_latest_interval_only() {
        let recent = Recent::new(Limits::default());
        let mut summary = summary(1, 1);
        summary.worst_flows = vec![summary.worst_flows[0].clone(); 3 * WORST_FLOWS];
        assert_eq!(cut_flows(std::slice::from_ref(&summary))[0].worst_flows.len(), WORST_FLOWS);
        recent.add(vec![summary]);
        let latest = recent.latest();
        assert_eq!((latest.paths[0].flows.len(), latest.paths[0].summary.worst_flows.len()), (24, WORST_FLOWS));
        assert_eq!(recent.after(0, 1).summaries[0].1.worst_flows.len(), WORST_FLOWS);
    }

    #[test]
    fn ids_are_stable_and_tell_paths_apart() {
        let path = samples::path(&[("a", "b")]);
        // printf '10.0.0.1\n10.0.0.2\nudp\n46\nfar' | sha256sum | cut -c 1-16
        assert_eq!(PathId::of(&path).to_string(), "f01a0b651c94a8e5");
        assert_eq!(PathId::of(&path), PathId::of(&samples::path(&[])), "tags change, the path stays");
        let other = Path { group: "near".into(), ..(*path).clone() };
        assert_ne!(PathId::of(&path), PathId::of(&other));
        assert_eq!(PathId::parse(&PathId::of(&path).to_string()), Some(PathId::of(&path)));
        for wrong in ["", "0", "+123456789abcdef", "00000000000000000", "gggggggggggggggg"] {
            assert_eq!(PathId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instances_differ() {
        let [a, b] = [(); 2].map(|()| Recent::new(Limits::default()));
        assert_ne!(a.instance(), b.instance());
        assert_eq!(a.instance().len(), 16);
    }

    proptest! {
        #[test]
        fn bounded_and_without_gaps(
            batches in prop::collection::vec(0u8..20, 1..20), most in 0usize..40, memory in 0usize..40
        ) {
            let limits = Limits { summaries: most, bytes: memory * bytes(&summary(0, 0)) };
            let recent = Recent::new(limits);
            let mut added = 0;
            for (interval, batch) in batches.iter().enumerate() {
                recent.add((0..*batch).map(|dst| summary(interval as u32, dst)).collect());
                added += u64::from(*batch);
                let counters = recent.counters();
                prop_assert_eq!(counters.held + counters.evicted, added);
                prop_assert!(counters.held as usize <= most && counters.bytes as usize <= limits.bytes);
                prop_assert_eq!(counters.held as usize, most.min(memory).min(added as usize));
                let page = recent.after(0, usize::MAX);
                prop_assert_eq!(page.lost, counters.evicted);
                prop_assert_eq!(sequences(&page.summaries), (counters.evicted + 1..=added).collect::<Vec<_>>());
            }
        }
    }
}
