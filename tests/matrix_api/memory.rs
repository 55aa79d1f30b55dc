//! Summaries in memory as a source of the matrix, and a fleet whose figures are known.

use llama::matrix::{
    Answer, Extent, Figures, Filter, FlowAt, Level, Moment, PathFigures, Point, REACH, Source, SourceError, Window,
};
use llama::probe::shape::{Dscp, MethodKind};
use llama::summary::path_id::PathId;
use llama::summary::{Counts, Extremes, FlowSummary, Path, Statistics, Summary, Suspicion};
use llama::time::Wall;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub const S: u64 = 1_000_000_000;
/// End of the newest interval of [`fleet`]: 2024-02-29T12:30:30Z.
pub const NEWEST: u64 = 1_709_209_830;
pub const INTERVAL: u64 = 10;
/// A tag's value that is more than a word.
pub const NASTY: &str = "\"</script><b>'; DROP \n\u{2028}ü,=|";

/// A source over a list of summaries.
#[derive(Default)]
pub struct Memory {
    summaries: Mutex<Vec<Summary>>,
    /// What it says instead of an answer.
    pub fails: Mutex<Option<SourceError>>,
    /// How many questions wait here, and whether they are to.
    held: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Memory {
    pub fn of(summaries: Vec<Summary>) -> Arc<Memory> {
        Arc::new(Memory { summaries: Mutex::new(summaries), ..Memory::default() })
    }

    pub fn add(&self, summaries: Vec<Summary>) {
        self.summaries.lock().unwrap().extend(summaries);
    }

    /// Lets questions wait, or go on.
    pub fn hold(&self, hold: bool) {
        self.held.lock().unwrap().1 = hold;
        self.changed.notify_all();
    }

    /// Questions that wait now.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap().0
    }

    fn ready(&self) -> Result<(), SourceError> {
        let mut held = self.held.lock().unwrap();
        held.0 += 1;
        while held.1 {
            held = self.changed.wait(held).unwrap();
        }
        held.0 -= 1;
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn taken(&self, window: Window, filter: &Filter) -> Vec<Summary> {
        let summaries = self.summaries.lock().unwrap();
        summaries.iter().filter(|s| window.holds(s.end) && filter.takes(&s.path)).cloned().collect()
    }

    /// The newest summary of each path, not older than three of its intervals.
    fn newest(&self, moment: Moment, filter: &Filter) -> Vec<Summary> {
        let up_to = self.taken(Window { from: Wall(0), to: moment.at }, filter);
        let newest = by_path(&up_to).into_iter().filter_map(|(_, of)| of.into_iter().max_by_key(|s| s.end));
        let reach = |s: &Summary| moment.at.0 - s.end.0 < u64::from(REACH) * (s.end.0 - s.start.0);
        newest.filter(|s| reach(s)).cloned().collect()
    }

    /// From the begin of the first of these intervals to the end of the last.
    fn answer_at<T>(&self, moment: Moment, of: &[Summary], value: T) -> Answer<T> {
        let mut answer = self.answer(value, Window { from: moment.at, to: moment.at });
        answer.window.from = match of.iter().map(|s| s.start).min() {
            Some(from) => from,
            None => Wall(moment.at.0.saturating_sub(moment.interval.as_nanos() as u64)),
        };
        answer.window.to = of.iter().map(|s| s.end).max().unwrap_or(moment.at);
        answer
    }

    fn answer<T>(&self, value: T, window: Window) -> Answer<T> {
        Answer { value, window, resolution: Duration::from_secs(INTERVAL) }
    }
}

/// Paths by id, in the order of their first summary.
fn by_path(summaries: &[Summary]) -> Vec<(Arc<Path>, Vec<&Summary>)> {
    let mut positions: HashMap<PathId, usize> = HashMap::new();
    let mut paths: Vec<(Arc<Path>, Vec<&Summary>)> = Vec::new();
    for summary in summaries {
        let position = *positions.entry(PathId::of(&summary.path)).or_insert(paths.len());
        if position == paths.len() {
            paths.push((Arc::clone(&summary.path), Vec::new()));
        }
        paths[position].1.push(summary);
    }
    paths
}

fn flows_of(s: &Summary) -> Vec<FlowAt> {
    let flow = |flow: &FlowSummary| FlowAt { path: Arc::clone(&s.path), end: s.end, flow: flow.clone() };
    s.worst_flows.iter().map(flow).collect()
}

impl Source for Memory {
    fn name(&self) -> String {
        "summaries in memory".into()
    }

    fn extent(&self) -> Result<Extent, SourceError> {
        self.ready()?;
        let summaries = self.summaries.lock().unwrap();
        let newest = summaries.iter().max_by_key(|s| s.end);
        let oldest = summaries.iter().map(|s| s.end).min();
        let interval = newest.map_or(Duration::ZERO, |s| Duration::from_nanos(s.end.0 - s.start.0));
        let levels = oldest.map(|oldest| Level { resolution: interval, oldest }).into_iter().collect();
        Ok(Extent { oldest, newest: newest.map(|s| s.end), interval, levels })
    }

    fn paths(&self, window: Window) -> Result<Vec<Arc<Path>>, SourceError> {
        self.ready()?;
        Ok(by_path(&self.taken(window, &Filter::all())).into_iter().map(|(path, _)| path).collect())
    }

    fn figures(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        self.ready()?;
        let taken = self.taken(window, filter);
        let one = |(path, of): (Arc<Path>, Vec<&Summary>)| {
            let mut figures = Figures::default();
            of.iter().for_each(|summary| figures.add_time(&Figures::from(*summary)));
            PathFigures { path, figures, newest: of.iter().map(|s| s.end).max().unwrap() }
        };
        Ok(self.answer(by_path(&taken).into_iter().map(one).collect(), window))
    }

    fn instant(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        self.ready()?;
        let newest = self.newest(moment, filter);
        let one = |s: &Summary| PathFigures { path: Arc::clone(&s.path), figures: Figures::from(s), newest: s.end };
        Ok(self.answer_at(moment, &newest, newest.iter().map(one).collect()))
    }

    fn instant_flows(&self, moment: Moment, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        self.ready()?;
        let newest = self.newest(moment, filter);
        Ok(self.answer_at(moment, &newest, newest.iter().flat_map(flows_of).collect()))
    }

    fn series(&self, window: Window, filter: &Filter, step: Duration) -> Result<Answer<Vec<Point>>, SourceError> {
        self.ready()?;
        let step = step.as_nanos() as u64;
        let mut steps: BTreeMap<u64, Vec<Summary>> = BTreeMap::new();
        for summary in self.taken(window, filter) {
            steps.entry(summary.end.0.div_ceil(step) * step).or_default().push(summary);
        }
        let point = |(end, summaries): (u64, Vec<Summary>)| {
            let mut figures = Figures::default();
            for (_, of) in by_path(&summaries) {
                let mut path = Figures::default();
                of.iter().for_each(|summary| path.add_time(&Figures::from(*summary)));
                figures.add_path(&path);
            }
            Point { end: Wall(end), figures }
        };
        Ok(self.answer(steps.into_iter().map(point).collect(), window))
    }

    fn flows(&self, window: Window, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        self.ready()?;
        let taken = self.taken(window, filter);
        Ok(self.answer(taken.iter().flat_map(flows_of).collect(), window))
    }
}

/// A path from `10.0.0.src` to `10.0.1.dst`, in racks of two hosts.
pub fn path(src: u8, dst: u8) -> Arc<Path> {
    let tags = [
        ("src_rack".to_string(), format!("s{}", src / 2)),
        ("dst_rack".to_string(), format!("d{}", dst / 2)),
        ("note".to_string(), NASTY.to_string()),
    ];
    Arc::new(Path {
        src: [10, 0, 0, src].into(),
        dst: [10, 0, 1, dst].into(),
        method: MethodKind::Udp,
        dscp: Dscp(0),
        size: None,
        group: "far".into(),
        tags: Arc::new(tags.into()),
    })
}

/// One path's interval: 100 probes over two flows, of which the first lost `lost`, all of them on the way there.
/// Replies take `rtt_ms`.
pub fn summary(path: &Arc<Path>, end_s: u64, lost: u64, rtt_ms: u64) -> Summary {
    let ns = rtt_ms * 1_000_000;
    let rtt = |samples| Extremes { samples, mean: ns as f64, min: ns as i64, max: ns as i64 };
    let all = (lost < 100).then(|| rtt(100 - lost));
    let statistics = |e: Extremes| Statistics {
        samples: e.samples,
        mean: e.mean,
        min: e.min,
        p50: e.min,
        p90: e.min,
        p99: e.min,
        p999: e.min,
        max: e.max,
    };
    let flow = |port: u16, lost: u64| FlowSummary {
        source: (path.src, port).into(),
        target: (path.dst, 8100).into(),
        dscp: Dscp(0),
        sent: 50,
        lost,
        lost_forward: lost,
        lost_reverse: 0,
        dscp_changed_forward: 0,
        dscp_changed_reverse: 0,
        rtt: (lost < 50).then(|| rtt(50 - lost)),
    };
    Summary {
        path: Arc::clone(path),
        interval: 1,
        start: Wall((end_s - INTERVAL) * S),
        end: Wall(end_s * S),
        counts: Counts { sent: 100, replied: 100 - lost, lost, lost_forward: lost, ..Counts::default() },
        rtt: all.map(statistics),
        ipdv: all,
        owd_forward: None,
        owd_reverse: None,
        residence: all,
        rtt_histogram: all.map(|rtt| (ns, rtt.samples)).into_iter().collect(),
        sent_by: None,
        received_by: None,
        lateness: None,
        local_drops: 0,
        flows: 2,
        flows_with_loss: u32::from(lost > 0),
        worst_flows: vec![flow(33_000, lost.min(50)), flow(33_001, lost.saturating_sub(50))],
        reporter: None,
        seen: llama::summary::Seen::default(),
        suspect: Vec::new(),
    }
}

/// Four sources × four destinations, a minute and the same minute a day before. Paths to `d1` take 5 ms, others 1 ms.
/// The path 0 → 2 loses 10 of 100 in the newest interval, 0 → 3 one in each; a day before nothing was lost.
/// What the sources 2 and 3 say is suspect in the newest interval.
pub fn fleet() -> Vec<Summary> {
    let mut all = Vec::new();
    for (day, end) in [(86_400, 0), (0, 0)].into_iter().flat_map(|(day, _)| (0..6).map(move |n| (day, n))) {
        for (src, dst) in (0..4).flat_map(|src| (0..4).map(move |dst| (src, dst))) {
            let end_s = NEWEST - day - (5 - end) * INTERVAL;
            let newest = end_s == NEWEST;
            let lost = match (day, src, dst) {
                (0, 0, 2) if newest => 10,
                (0, 0, 3) => 1,
                _ => 0,
            };
            let mut summary = summary(&path(src, dst), end_s, lost, if dst < 2 { 1 } else { 5 });
            if src >= 2 && newest {
                summary.suspect = vec![Suspicion::LocalDrops, Suspicion::NotSent];
                (summary.local_drops, summary.counts.not_sent) = (7, 3);
            }
            all.push(summary);
        }
    }
    all
}
