//! One turn of one collector: from questions to summaries in the sinks and a new position.
//!
//! A new collector is asked page by page for what came after the last summary taken; one that does not know the
//! question is of the first LLAMA, and is asked for its latest interval. Not responsible for threads and turns: see
//! [`super::turns`]. Read [`Follow`] first, then [`pull`].

use super::collector::{Collector, Generation};
use super::fetch::{Failure, Fetcher};
use super::gate::{Gate, NoRoom};
use super::interval::{Interval, Verdict};
use super::page::{self, PAGE, Page};
use super::positions::Position;
use super::upstream::{self, Body};
use crate::history::Measured;
use crate::matrix::influx::read_point;
use crate::sink::influx::Point;
use crate::summary::{Path, PathKey, Summary};
use crate::time::{Clock, SystemClock, Wall};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Pages taken in one turn; a collector that holds more gets its next turn after those who wait.
const PAGES_PER_TURN: usize = 16;
/// Turns after which a collector of the first LLAMA is asked again whether it is a new one by now.
const ASK_AGAIN: u32 = 10;
/// Paths of one collector that are remembered, so that their summaries share them.
const MAX_PATHS: usize = 100_000;

const NS_PER_S: u64 = 1_000_000_000;

/// How far one collector has been pulled, and what its next turn must know.
#[derive(Debug, Default)]
pub struct Follow {
    /// Turns until a collector of the first LLAMA is asked whether it is a new one; `None` while it is a new one.
    ask_again: Option<u32>,
    /// Instance and last sequence number taken of a new one.
    sequence: Option<(String, u64)>,
    /// Its paths, as long as a kept summary has them.
    paths: HashMap<PathKey, Weak<Path>>,
    /// The latest interval of one of the first LLAMA.
    interval: Interval,
    /// Fingerprints of the points with times in its latest answer.
    timed: HashSet<u64>,
}

impl Follow {
    /// From a position that an earlier process stored.
    pub fn from(position: Option<&Position>) -> Follow {
        match position {
            None => Follow::default(),
            Some(Position::Sequence { instance, last }) => {
                Follow { sequence: Some((instance.clone(), *last)), ..Follow::default() }
            }
            Some(Position::Interval { fingerprint, time, sure }) => {
                Follow { interval: Interval::restored(*fingerprint, *time, *sure), ..Follow::default() }
            }
        }
    }

    /// Lets kept summaries of one path share it, across intervals as well: its tags are most of a summary's memory.
    fn share_paths(&mut self, summaries: &mut [Summary]) {
        if self.paths.len() > MAX_PATHS {
            self.paths.retain(|_, path| path.strong_count() > 0);
        }
        if self.paths.len() > MAX_PATHS {
            self.paths.clear(); // sharing begins anew
        }
        for summary in summaries {
            let path = &summary.path;
            let known = self.paths.entry(path.key()).or_default();
            match known.upgrade() {
                Some(same) if *same == **path => summary.path = same,
                _ => *known = Arc::downgrade(path),
            }
        }
    }
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All there was has been taken.
    Current,
    /// There is more: another turn, soon.
    More,
    /// There is more, but the sinks are too far behind: another turn at its time.
    Full,
}

/// What a turn needs besides the collector.
#[derive(Debug)]
pub struct Tools<'a> {
    /// Asks.
    pub fetcher: &'a Fetcher,
    /// Takes.
    pub gate: &'a Gate,
    /// Holds an answer, kept between turns.
    pub body: &'a mut Vec<u8>,
    /// Time between turns.
    pub pause: Duration,
}

/// Pulls one collector.
///
/// # Errors
/// It did not answer as collectors do; what was taken before that is kept.
pub fn pull(collector: &Collector, tools: &mut Tools<'_>) -> Result<Turn, Failure> {
    let mut follow = collector.follow();
    if let Some(turns) = &mut follow.ask_again {
        *turns = turns.saturating_sub(1);
        if *turns > 0 {
            match pull_latest(collector, &mut follow, tools) {
                // it may have been replaced by one that knows nothing of this
                Err(Failure::Status(404, _)) => {}
                turn => return turn,
            }
        }
    }
    match pull_pages(collector, &mut follow, tools) {
        Err(Failure::Status(404, _)) => {
            follow.ask_again = Some(ASK_AGAIN);
            collector.lock().generation = Generation::Upstream;
            pull_latest(collector, &mut follow, tools)
        }
        turn => turn,
    }
}

/// Asks a new collector for what came since.
fn pull_pages(collector: &Collector, follow: &mut Follow, tools: &mut Tools<'_>) -> Result<Turn, Failure> {
    for _ in 0..PAGES_PER_TURN {
        if !tools.gate.has_room() {
            collector.lock().behind = true;
            return Ok(Turn::Full);
        }
        let last = follow.sequence.as_ref().map_or(0, |(_, last)| *last);
        let question = format!("/api/v1/summaries?after={last}&limit={PAGE}&histogram=1");
        tools.fetcher.get(&collector.address, &question, tools.body)?;
        let page = page::parse(tools.body).map_err(Failure::Garbage)?;
        follow.ask_again = None;
        {
            let mut status = collector.lock();
            status.generation = Generation::New;
            status.bytes += tools.body.len() as u64;
        }
        let known = follow.sequence.is_some();
        if follow.sequence.as_ref().is_none_or(|(instance, _)| *instance != page.instance) {
            follow.sequence = Some((page.instance.clone(), 0));
            if known {
                collector.lock().restarts += 1;
                tracing::info!(collector = %collector.address, "it was restarted; pulling all it holds");
            }
            // its numbers began anew: what was asked for meant others
            if last > 0 {
                continue;
            }
        }
        match take_page(collector, follow, tools, page, known, last)? {
            Some(turn) => return Ok(turn),
            None => continue,
        }
    }
    collector.lock().behind = true;
    Ok(Turn::More)
}

/// Hands a page on; `None` when there is another one.
fn take_page(
    collector: &Collector,
    follow: &mut Follow,
    tools: &mut Tools<'_>,
    page: Page,
    known: bool,
    last: u64,
) -> Result<Option<Turn>, Failure> {
    let Some((first, newest)) = page.span else {
        collector.lock().behind = false;
        return Ok(Some(Turn::Current));
    };
    if first <= last {
        return Err(Failure::Garbage(format!("asked for what came after {last}, got {first}")));
    }
    let Page { instance, mut summaries, objects, unreadable, reason, .. } = page;
    if tools.gate.keeps_recent() {
        follow.share_paths(&mut summaries);
    }
    let taken = summaries.len() as u64;
    let end = summaries.iter().map(|summary| summary.end).max();
    let interval = summaries.last().map(|s| Duration::from_nanos(s.end.0.saturating_sub(s.start.0)));
    let position = Position::Sequence { instance: instance.clone(), last: newest };
    if let Err(NoRoom) = tools.gate.summaries(&collector.address, summaries, position) {
        collector.lock().behind = true;
        return Ok(Some(Turn::Full));
    }
    follow.sequence = Some((instance, newest));
    let current = objects < PAGE;
    let mut status = collector.lock();
    status.summaries += taken;
    // of one that is met for the first time nothing was expected
    if known {
        status.missed += first - last - 1;
    }
    status.unreadable += unreadable;
    if let (Some(reason), true) = (reason, status.unreadable == unreadable) {
        tracing::warn!(collector = %collector.address, "summaries that are not understood are left out: {reason}");
    }
    status.newest = status.newest.max(end);
    status.interval = interval.or(status.interval);
    status.behind = !current;
    Ok(current.then_some(Turn::Current))
}

/// Asks a collector of the first LLAMA for its latest interval.
fn pull_latest(collector: &Collector, follow: &mut Follow, tools: &mut Tools<'_>) -> Result<Turn, Failure> {
    let fetched = tools.fetcher.get(&collector.address, "/influxdata", tools.body);
    let parsed = fetched.and_then(|()| upstream::parse(tools.body).map_err(Failure::Garbage));
    let body = parsed.inspect_err(|_| follow.interval.missed())?;
    let now = SystemClock.wall();
    let has_times = body.points.iter().any(|point| point.time.is_some());
    if has_times && follow.timed.is_empty() && follow.ask_again.is_some_and(|turns| turns < ASK_AGAIN) {
        // the first LLAMA's Go generation names no times: this is a new one, taking over
        follow.ask_again = Some(0);
        match pull_pages(collector, follow, tools) {
            Err(Failure::Status(404, _)) => follow.ask_again = Some(ASK_AGAIN),
            turn => return turn,
        }
    }
    let verdict = body.fingerprint().map_or(Verdict::Known, |fingerprint| {
        let (now, pause) = (now.0 / NS_PER_S, tools.pause.as_secs().max(1));
        if let Some(ahead) = follow.interval.come_back(now, pause) {
            tracing::warn!(
                collector = %collector.address,
                "its latest points have a time {ahead} s ahead of this host's clock, which was ahead then or is behind; \
                 the next ones get the clock's time"
            );
        }
        follow.interval.judge(fingerprint, body.is_outage(), now, pause)
    });
    let new = new_points(follow, &body, verdict);
    let points: Vec<Point> = new.iter().map(|(point, at)| as_it_came(point, *at)).collect();
    let interval = follow.interval.period().map_or(tools.pause, Duration::from_secs);
    let (measured, without_path) = match tools.gate.keeps_history() {
        true => measured(&new, interval),
        false => (Vec::new(), 0),
    };
    let newest = body.points.iter().filter_map(|point| point.time).max();
    let newest = newest.or(matches!(verdict, Verdict::Write(_)).then_some(now));
    {
        let mut status = collector.lock();
        status.bytes += tools.body.len() as u64;
        status.unreadable += body.unusable;
        if without_path > 0 && status.without_path == 0 {
            tracing::warn!(
                collector = %collector.address,
                "points that name no path (src_ip, dst_ip, sent) are left out of the history; the database gets them"
            );
        }
        status.without_path += without_path;
        status.summaries += points.len() as u64;
        status.newest = status.newest.max(newest);
        status.interval = follow.interval.period().map(Duration::from_secs);
        status.behind = false;
    }
    if !points.is_empty() {
        tools.gate.points(&collector.address, &points, measured, follow.interval.written());
    }
    Ok(Turn::Current)
}

/// Those of an answer that have not been written, with their times.
fn new_points<'a>(follow: &mut Follow, body: &'a Body, verdict: Verdict) -> Vec<(&'a upstream::Point, Wall)> {
    let mut points = Vec::new();
    for point in &body.points {
        let at = match (point.time, verdict) {
            (Some(time), _) if !follow.timed.contains(&point.fingerprint) => time,
            (None, Verdict::Write(seconds)) => Wall(seconds.saturating_mul(NS_PER_S)),
            _ => continue,
        };
        points.push((point, at));
    }
    follow.timed = body.points.iter().filter(|point| point.time.is_some()).map(|point| point.fingerprint).collect();
    points
}

/// A point for the database: tags and fields as they came.
fn as_it_came(point: &upstream::Point, at: Wall) -> Point {
    let tagged = point.tags.iter().fold(Point::new(&point.measurement, at), |made, (key, value)| made.tag(key, value));
    point.fields.iter().fold(tagged, |made, (key, value)| made.field(key, *value))
}

/// Points for the history, and how many of them cannot be kept there because they name no path.
fn measured(points: &[(&upstream::Point, Wall)], interval: Duration) -> (Vec<Measured>, u64) {
    let of = |(point, end): &(&upstream::Point, Wall)| {
        let (path, figures) = read_point(&point.measurement, &point.tags, &point.fields)?;
        Some(Measured { path: Arc::new(path), start: end.before(interval), end: *end, figures, flows: Vec::new() })
    };
    let kept: Vec<Measured> = points.iter().filter_map(of).collect();
    let without_path = (points.len() - kept.len()) as u64;
    (kept, without_path)
}

impl Collector {
    /// Whether its next turn is likely to keep a thread waiting.
    pub(super) fn is_unwell(&self) -> bool {
        self.lock().failing
    }

    /// Whether it is still listed.
    pub(super) fn is_listed(&self) -> bool {
        !self.gone.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;

    #[test]
    fn kept_summaries_share_their_path_until_it_changes() {
        let mut follow = Follow::default();
        let mut pulled = |tag: &str| {
            let mut summaries = [samples::full(), samples::full()];
            summaries.iter_mut().for_each(|summary| summary.path = samples::path(&[("rack", tag)]));
            follow.share_paths(&mut summaries);
            summaries
        };
        let first = pulled("a");
        assert!(Arc::ptr_eq(&first[0].path, &first[1].path));
        let second = pulled("a");
        assert!(Arc::ptr_eq(&first[0].path, &second[0].path));
        let third = pulled("b");
        assert_eq!(third[1].path.tags["rack"], "b");
        assert!(Arc::ptr_eq(&third[0].path, &third[1].path));
        drop((first, second, third));
        assert!(follow.paths.values().all(|path| path.strong_count() == 0), "nothing is kept for its own sake");
    }
}
