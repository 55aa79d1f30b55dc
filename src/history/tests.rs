//! The history as a whole: what comes out is what went in, at every level, in any order, however often.

use super::row::tests::any_figures;
use super::*;
use crate::matrix::{Filter, Key, Moment, PathFigures, Source, Window};
use crate::sink::record::samples;
use crate::summary::figures::Figures;
use crate::summary::path_id::PathId;
use crate::summary::{Counts, Extremes, FlowSummary, Path, Statistics};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

const SECOND: u64 = 1_000_000_000;
/// A Tuesday in 2023, at a multiple of every level's period.
const BEGIN: u64 = 1_700_006_400 / 259_200 * 259_200 * SECOND;

fn path(n: u32, tag: &str) -> Arc<Path> {
    let tags = BTreeMap::from([("rack".to_string(), tag.to_string())]);
    let dst = std::net::Ipv4Addr::from(0x0a01_0000 + n).into();
    let src = [10, 0, 0, (n % 2) as u8].into();
    Arc::new(Path { src, dst, tags: Arc::new(tags), ..(*samples::full().path).clone() })
}

/// A summary that ended so many seconds after the beginning.
fn summary(path: &Arc<Path>, second: u64, lost: u64) -> Summary {
    let values = [300_000 + lost as i64, 310_000 + second as i64];
    let rtt = Statistics {
        samples: 2,
        mean: (values[0] + values[1]) as f64 / 2.0,
        min: values[0],
        p50: values[0],
        p90: values[1],
        p99: values[1],
        p999: values[1],
        max: values[1],
    };
    Summary {
        path: path.clone(),
        start: Wall(BEGIN + (second - 10) * SECOND),
        end: Wall(BEGIN + second * SECOND),
        counts: Counts { sent: 2 + lost, replied: 2, lost, ..Counts::default() },
        rtt: Some(rtt),
        rtt_histogram: values.map(|ns| (ns as u64, 1)).to_vec(),
        ..samples::full()
    }
}

fn wait(history: &History, done: impl Fn(&HistorySnapshot) -> bool) -> HistorySnapshot {
    let begin = Instant::now();
    loop {
        let counters = history.counters().snapshot();
        if done(&counters) {
            return counters;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{counters:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn settled(history: &History) -> HistorySnapshot {
    wait(history, |c| c.queued == 0 && c.added == c.committed + c.dropped + c.refused)
}

fn window(from: u64, to: u64) -> Window {
    Window { from: Wall(BEGIN + from * SECOND), to: Wall(BEGIN + to * SECOND) }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Equal but for the last bits of means, which depend on the order of joining.
fn same(a: &Figures, b: &Figures) -> bool {
    let means =
        |f: &Figures| [f.rtt, f.ipdv, f.owd_forward, f.owd_reverse, f.residence].map(|e| e.map_or(0.0, |e| e.mean));
    let without = |f: &Figures| {
        let bare = |e: &Option<Extremes>| e.map(|e| Extremes { mean: 0.0, ..e });
        Figures {
            rtt: bare(&f.rtt),
            ipdv: bare(&f.ipdv),
            owd_forward: bare(&f.owd_forward),
            owd_reverse: bare(&f.owd_reverse),
            residence: bare(&f.residence),
            ..f.clone()
        }
    };
    without(a) == without(b) && means(a).into_iter().zip(means(b)).all(|(a, b)| close(a, b))
}

/// All levels' answers about a window agree with summaries joined.
fn check(history: &History, given: &BTreeMap<(u32, u64), Summary>, from: u64, to: u64) {
    let reader = history.reader();
    let mut expected: BTreeMap<PathId, Figures> = BTreeMap::new();
    for ((_, end), summary) in given {
        if from < *end && *end <= to {
            expected.entry(PathId::of(&summary.path)).or_default().add_time(&Figures::from(summary));
        }
    }
    let answer = reader.figures(window(from, to), &Filter::all()).expect("an answer");
    let found: BTreeMap<PathId, Figures> =
        answer.value.iter().map(|one| (PathId::of(&one.path), one.figures.clone())).collect();
    assert_eq!(found.len(), answer.value.len(), "a path is there once");
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (id, figures) in &found {
        assert!(same(figures, &expected[id]), "{id}: {figures:?}\n{:?}", expected[id]);
    }
    for step in [10, 300, 900, 3600, 7200] {
        let mut filter = Filter::all();
        for which in ["all", "by a filter that takes all"] {
            let answer = reader.series(window(from, to), &filter, Duration::from_secs(step)).expect("an answer");
            let found: BTreeMap<u64, u64> =
                answer.value.iter().map(|p| ((p.end.0 - BEGIN) / SECOND, p.figures.counts.lost)).collect();
            let mut points: BTreeMap<u64, u64> = BTreeMap::new();
            for ((_, end), summary) in given.iter().filter(|(_, summary)| answer.window.holds(summary.end)) {
                *points.entry(end.div_ceil(step) * step).or_default() += summary.counts.lost;
            }
            assert_eq!(found, points, "{which}, step {step} s, {:?}", answer.resolution);
            filter.add(Key::Group, samples::full().path.group.clone());
        }
    }
}

#[test]
fn what_goes_in_comes_out_at_every_level_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let options = Options::new(directory.path().join("history"));
    let history = History::open(options.clone()).expect("opens");
    let paths: Vec<_> = (1..=24).map(|n| path(n, "r1")).collect();
    let mut given = BTreeMap::new();
    let writer = history.writer();
    for second in (30..=2 * 3600 + 600).step_by(30) {
        let batch: Vec<_> = (0..).zip(&paths).map(|(n, path)| summary(path, second, (n + second) % 7)).collect();
        writer.add(&batch);
        given.extend(batch.into_iter().enumerate().map(|(n, summary)| ((n as u32, second), summary)));
        if second % 600 == 0 {
            settled(&history);
        }
    }
    let counters = settled(&history);
    assert_eq!((counters.committed, counters.paths, counters.refused), (260 * 24, 24, 0), "{counters:?}");
    assert!(counters.commits > 0);
    let newest = Some(Wall(counters.newest));
    assert_eq!(newest, Some(Wall(BEGIN + 7800 * SECOND)));
    let all = |history: &History| {
        check(history, &given, 0, 7800);
        check(history, &given, 3600, 7200);
        let extent = history.reader().extent().expect("an extent");
        assert_eq!((extent.oldest, extent.newest), (Some(Wall(BEGIN + 30 * SECOND)), newest));
        assert_eq!(extent.interval, Duration::from_secs(10));
        let levels: Vec<u64> = extent.levels.iter().map(|level| level.resolution.as_secs()).collect();
        assert_eq!(levels, [10, 300, 3600]);
        let latest = extent.latest().expect("there is one");
        assert_eq!(history.reader().paths(extent.at(latest.at)).expect("paths").len(), 24);
        let flows = history.reader().instant_flows(latest, &Filter::all()).expect("flows").value;
        assert_eq!(flows.len(), 24 * samples::full().worst_flows.len());
        assert_eq!(flows[0].flow, samples::full().worst_flows[0]);
        let one = Filter { path: Some(PathId::of(&paths[14])), ..Filter::all() };
        let series = history.reader().series(window(0, 7800), &one, Duration::from_secs(10)).expect("a series");
        let lost: Vec<u64> = series.value.iter().map(|point| point.figures.counts.lost).collect();
        assert_eq!(lost, (1..=260).map(|n| (14 + 30 * n) % 7).collect::<Vec<_>>());
    };
    all(&history);
    let reader = history.reader();
    let counters = history.counters();
    assert_eq!(history.close(Duration::from_secs(60)), 0);
    assert!(reader.extent().is_err(), "it is closed");
    let counters = counters.snapshot();
    let history = History::open(options).expect("opens again");
    assert_eq!(history.counters().snapshot().bytes, counters.bytes, "what it holds is known at once");
    all(&history);
}

#[test]
fn what_comes_twice_late_or_from_elsewhere_counts_once() {
    let directory = tempfile::tempdir().expect("directory");
    let history = History::open(Options::new(directory.path().into())).expect("opens");
    let paths: Vec<_> = (1..=6).map(|n| path(n, "r1")).collect();
    let mut given = BTreeMap::new();
    let mut add = |n: u32, second: u64, lost: u64| {
        let summary = summary(&paths[n as usize], second, lost);
        history.writer().add(std::slice::from_ref(&summary));
        given.insert((n, second), summary);
    };
    for second in (10..=4000).step_by(10) {
        (0..4).for_each(|n| add(n, second, 1));
    }
    settled(&history);
    // slots of every level were made by now; then come others, and the same again
    for second in (10..=1000).step_by(30) {
        add(4, second, 2); // another path of the same intervals
        add(5, second + 3, 3); // intervals that end elsewhere
        add(1, second, 5); // a summary that says otherwise
    }
    (10..=4000).step_by(10).for_each(|second| add(0, second, 1)); // everything again
    settled(&history);
    check(&history, &given, 0, 4000);
    check(&history, &given, 300, 600);
}

#[test]
fn the_interval_is_the_longest_of_late_in_whatever_order_they_come() {
    let directory = tempfile::tempdir().expect("directory");
    let history = History::open(Options::new(directory.path().into())).expect("opens");
    let add = |n: u32, second: u64, length: u64| {
        let one = summary(&path(n, "r1"), second, 0);
        history.writer().add(&[Summary { start: Wall(one.end.0 - length * SECOND), ..one }]);
        settled(&history);
        history.reader().extent().expect("an extent").interval.as_secs()
    };
    assert_eq!(add(1, 100, 10), 10);
    assert_eq!(add(2, 95, 30), 30, "it is older than the newest");
    assert_eq!([add(1, 110, 10), add(1, 120, 10), add(2, 125, 30), add(1, 130, 10)], [30; 4]);
    assert_eq!([add(1, 210, 10), add(1, 220, 10)], [30, 10], "the slow one has gone");
    assert_eq!(add(2, 60, 30), 10, "it caught up with what was long ago");
}

#[test]
fn a_path_whose_tags_change_stays_one_path() {
    let directory = tempfile::tempdir().expect("directory");
    let history = History::open(Options::new(directory.path().into())).expect("opens");
    history.writer().add(&[summary(&path(1, "old"), 10, 1), summary(&path(2, "old"), 10, 1)]);
    history.writer().add(&[summary(&path(1, "new"), 20, 2)]);
    settled(&history);
    let all = history.reader().figures(window(0, 20), &Filter::all()).expect("an answer").value;
    let lost: Vec<_> = all.iter().map(|one| (one.path.tags["rack"].as_str(), one.figures.counts.lost)).collect();
    assert_eq!(lost, [("new", 3), ("old", 1)]);
    let mut old = Filter::all();
    old.add(Key::Tag("rack".into()), "old".into());
    let old = history.reader().figures(window(0, 20), &old).expect("an answer").value;
    assert_eq!(old.iter().map(|one| one.figures.counts.lost).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(history.reader().paths(window(0, 20)).expect("paths").len(), 2);
}

/// Path, what it lost, and end in seconds of each path at an instant.
fn at(history: &History, second: u64) -> (Vec<(u8, u64, u64)>, Window, Duration) {
    let moment = Moment { at: Wall(BEGIN + second * SECOND), interval: Duration::from_secs(10) };
    let answer = history.reader().instant(moment, &Filter::all()).expect("an answer");
    let one = |one: &PathFigures| {
        let IpAddr::V4(dst) = one.path.dst else { panic!("{:?}", one.path) };
        (dst.octets()[3], one.figures.counts.lost, (one.newest.0 - BEGIN) / SECOND)
    };
    (answer.value.iter().map(one).collect(), answer.window, answer.resolution)
}

#[test]
fn an_instant_shows_newest_tags_and_no_older_interval() {
    let directory = tempfile::tempdir().expect("directory");
    let history = History::open(Options::new(directory.path().into())).expect("opens");
    // series come and go between those that stay, more than fit into one block
    for second in [10, 20, 30] {
        let stay = (1..=250).step_by(2).map(|n| summary(&path(n, "old"), second, second));
        let gone = (2..=250).step_by(2).filter(|_| second == 10).map(|n| summary(&path(n, "old"), second, 1));
        history.writer().add(&stay.chain(gone).collect::<Vec<_>>());
    }
    history.writer().add(&[summary(&path(1, "new"), 40, 40), summary(&path(3, "old"), 40, 40)]);
    settled(&history);
    let (now, window_of, resolution) = at(&history, 41);
    assert_eq!((now.len(), resolution), (125, Duration::from_secs(10)), "what ended 31 s ago is no data");
    assert!(now.iter().all(|(n, lost, end)| lost == end && *end == if *n <= 3 { 40 } else { 30 }), "{now:?}");
    assert_eq!(window_of, window(20, 40));
    assert_eq!(at(&history, 39).0.len(), 250);
    let moment = Moment { at: Wall(BEGIN + 40 * SECOND), interval: Duration::from_secs(10) };
    let all = history.reader().instant(moment, &Filter::all()).expect("an answer").value;
    assert_eq!(all.iter().filter(|one| one.path.tags["rack"] == "new").count(), 1);
    let one = |n: u32| Filter { path: Some(PathId::of(&path(n, ""))), ..Filter::all() };
    assert_eq!(history.reader().instant(moment, &one(1)).expect("an answer").value[0].figures.counts.lost, 40);
    assert_eq!(history.reader().instant(moment, &one(2)).expect("an answer").value, []);
    assert_eq!(at(&history, 9).0, []);
    assert_eq!(at(&history, 1000).1, window(990, 1000), "an interval of nothing");
}

/// Waits until nothing as it came is older than this second: what is too old goes a piece at a time.
fn aged(history: &History, second: u64) -> HistorySnapshot {
    let is_gone = |level: &crate::matrix::Level| level.oldest.0 >= BEGIN + second * SECOND;
    wait(history, |_| history.reader().extent().is_ok_and(|extent| extent.levels.first().is_some_and(is_gone)))
}

#[test]
fn an_instant_of_long_ago_is_a_slot() {
    let directory = tempfile::tempdir().expect("directory");
    let mut options = Options::new(directory.path().into());
    options.max_age = Duration::from_secs(3600);
    let history = History::open(options).expect("opens");
    let path = path(1, "r1");
    for second in (10..=9000).step_by(10) {
        history.writer().add(&[summary(&path, second, 1)]);
    }
    settled(&history);
    aged(&history, 5400);
    assert_eq!(at(&history, 1205), (vec![(1, 30, 1500)], window(1200, 1500), Duration::from_secs(300)));
    assert_eq!(at(&history, 9000), (vec![(1, 1, 9000)], window(8990, 9000), Duration::from_secs(10)));
}

#[test]
fn what_is_too_old_or_from_the_future_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let mut options = Options::new(directory.path().into());
    options.max_age = Duration::from_secs(3600);
    let history = History::open(options).expect("opens");
    let path = path(1, "r1");
    let mut future = summary(&path, 10, 1);
    future.end = Wall(u64::MAX / 2);
    history.writer().add(&[future]);
    for second in (600..=9000).step_by(600) {
        history.writer().add(&[summary(&path, second, 1)]);
        settled(&history);
    }
    assert_eq!(aged(&history, 5400).refused, 1);
    history.writer().add(&[summary(&path, 300, 1)]);
    assert_eq!(settled(&history).refused, 2);
    // what is no longer there as it came is there as it was joined
    let answer = history.reader().figures(window(0, 9000), &Filter::all()).expect("an answer");
    assert_eq!((answer.resolution, answer.value[0].figures.counts.lost), (Duration::from_secs(300), 15));
    let extent = history.reader().extent().expect("an extent");
    assert!(extent.levels[0].oldest.0 >= BEGIN + 5400 * SECOND, "{extent:?}");
}

#[test]
fn a_full_history_lets_the_oldest_fine_entries_go() {
    let directory = tempfile::tempdir().expect("directory");
    let mut options = Options::new(directory.path().into());
    options.max_bytes = Some(SMALLEST);
    let history = History::open(options.clone()).expect("opens");
    let paths: Vec<_> = (1..=220).map(|n| path(n, "r1")).collect();
    let large = |path| Summary { rtt_histogram: (1..200).map(|n| (n << 20, 1000)).collect(), ..summary(path, 60, 1) };
    let mut most = 0;
    for second in (60..=7200).step_by(60) {
        let end = Wall(BEGIN + second * SECOND);
        history.writer().add(&paths.iter().map(|path| Summary { end, ..large(path) }).collect::<Vec<_>>());
        if second % 300 == 0 {
            most = most.max(settled(&history).file_bytes);
        }
    }
    let counters = settled(&history);
    assert!(counters.evicted_bytes > 0 && counters.evicted_age == 0, "{counters:?}");
    assert!(counters.bytes <= SMALLEST && counters.short, "{counters:?}");
    assert!(most <= 2 * SMALLEST, "{most} bytes on disk");
    let answer = history.reader().series(window(0, 7200), &Filter::all(), Duration::from_secs(3600)).expect("a series");
    let lost: Vec<u64> = answer.value.iter().map(|point| point.figures.counts.lost).collect();
    assert_eq!(lost, [220 * 60, 220 * 60], "the coarse levels have all of it");
}

/// A summary of ten probes of each of two flows, with so many of them lost.
fn with_flows(path: &Arc<Path>, second: u64, lost: [u64; 2]) -> Summary {
    let flow = |n: usize| FlowSummary {
        source: (path.src, 40_000 + n as u16).into(),
        target: (path.dst, 8100).into(),
        sent: 10,
        lost: lost[n],
        dscp_changed_forward: 0,
        dscp_changed_reverse: 0,
        ..samples::full().worst_flows[0].clone()
    };
    Summary { worst_flows: vec![flow(0), flow(1)], ..summary(path, second, lost[0] + lost[1]) }
}

#[test]
fn flows_that_say_nothing_are_kept_for_an_hour_and_joined_for_a_day() {
    let directory = tempfile::tempdir().expect("directory");
    let history = History::open(Options::new(directory.path().join("history"))).expect("opens");
    let (sound, lossy, late) = (path(1, "r1"), path(3, "r1"), path(5, "r1"));
    let hours = 30;
    for second in (100..=hours * 3600).step_by(100) {
        let lost = u64::from(second % 1000 == 200);
        history.writer().add(&[with_flows(&sound, second, [0, 0]), with_flows(&lossy, second, [0, lost])]);
        if second % 3600 == 0 {
            settled(&history);
        }
    }
    settled(&history);
    let end = hours * 3600;
    // resolution, and of each flow its end, the probes it sent and lost
    let asked = |from: u64, to: u64, path: &Arc<Path>| {
        let one = Filter { path: Some(PathId::of(path)), ..Filter::all() };
        let answer = history.reader().flows(window(from, to), &one).expect("an answer");
        let flows = answer.value.iter().map(|at| ((at.end.0 - BEGIN) / SECOND, at.flow.sent, at.flow.lost));
        (answer.resolution.as_secs(), flows.collect::<Vec<_>>())
    };
    // the newest interval: all
    assert_eq!(asked(end - 100, end, &sound).1, [(end, 10, 0); 2]);
    // hours ago: those of an interval with loss as they came, of one without as joined to 5 minutes
    wait(&history, |_| asked(7100, 7200, &sound).0 == 300);
    assert_eq!(asked(end - 14_400, end - 14_300, &sound), (300, vec![(end - 14_100, 30, 0); 2]));
    let at = end - 13_800; // 94 200 s
    assert_eq!(asked(at - 100, at, &lossy), (10, vec![(at, 10, 0), (at, 10, 1)]));
    assert_eq!(asked(at - 200, at - 100, &lossy), (300, vec![(at, 30, 1), (at, 30, 0)]));
    let (resolution, flows) = asked(end - 14_400, end - 10_800, &lossy);
    assert_eq!((resolution, flows.len(), flows.iter().map(|flow| flow.1).sum::<u64>()), (300, 24, 720));
    // yesterday: by the hour, but for 5 minutes with loss
    wait(&history, |_| asked(3600, 3700, &sound) == (3600, vec![(7200, 360, 0); 2]));
    assert_eq!(asked(3900, 4200, &lossy), (300, vec![(4200, 30, 1), (4200, 30, 0)]));
    // what comes late makes a slot anew, and what it was made of is not forgotten
    let before = asked(end - 14_400, end - 14_300, &sound);
    history.writer().add(&[with_flows(&late, end - 14_200, [0, 0])]);
    history.writer().add(&[with_flows(&sound, end - 14_200, [0, 0])]);
    settled(&history);
    wait(&history, |_| !asked(end - 14_400, end - 14_100, &late).1.is_empty());
    history.writer().add(&[with_flows(&lossy, end + 100, [0, 0])]);
    settled(&history);
    wait(&history, |_| asked(end - 14_400, end - 14_300, &sound) == before);
    check_sums(&history, end + 100);
}

/// Every level has all probes.
fn check_sums(history: &History, end: u64) {
    for step in [300, 3600] {
        let all = history.reader().series(window(0, end), &Filter::all(), Duration::from_secs(step)).expect("a series");
        let summaries: u64 = all.value.iter().map(|point| point.figures.summaries).sum();
        assert_eq!(summaries, 2 * (end / 100 - 1) + 2, "step {step}");
    }
}

#[test]
fn questions_beyond_the_limits_are_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let mut options = Options::new(directory.path().into());
    options.levels.clear();
    let history = History::open(options).expect("opens");
    let batch: Vec<_> = (1..=60).map(|n| summary(&path(n, "r1"), 10, 1)).collect();
    history.writer().add(&batch);
    history.writer().add(&[summary(&path(1, "r1"), 400_000, 1)]);
    settled(&history);
    let error = history.reader().figures(window(0, 400_000), &Filter::all()).expect_err("too much");
    assert!(matches!(&error, crate::matrix::SourceError::TooMuch(text) if text.contains("1000000 at most")), "{error}");
    assert!(history.reader().figures(window(0, 4000), &Filter::all()).is_ok());
    let backwards = history.reader().figures(window(4000, 0), &Filter::all()).expect("an answer");
    assert_eq!(backwards.value, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    /// Whatever comes in whatever order, slots say what their intervals say.
    #[test]
    fn a_slot_is_its_intervals_joined(
        given in prop::collection::vec((0..5_u32, 1..60_u64, any_figures()), 1..60),
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let mut options = Options::new(directory.path().into());
        options.levels = [60, 300].map(|s| Coarser { resolution: Duration::from_secs(s), max_age: options.max_age }).into();
        let store = Store::open(options).expect("opens");
        let mut expected: BTreeMap<(u32, u64), Figures> = BTreeMap::new();
        for (n, at, figures) in given {
            // summaries cannot say all that figures can: take what they can
            let mut summary = summary(&path(n, "r1"), at * 10, 0);
            summary.counts = Counts { sent: figures.counts.sent % 1000, lost: figures.counts.lost % 1000, ..Counts::default() };
            summary.rtt_histogram = figures.histogram.values().into_iter().map(|(ns, count)| (ns, count % 1000 + 1)).collect();
            summary.local_drops = figures.local_drops;
            summary.flows = figures.flows as u32;
            store.with(|database| frame::commit(&store, database, &[Measured::from(&summary)])).expect("commits");
            expected.insert((n, at * 10), Figures::from(&summary));
            store.with(|database| {
                let transaction = store::begin(database)?;
                let slots = rollup::due(&transaction, &store.layout, BEGIN + at * 10 * SECOND)?;
                for slot in slots {
                    rollup::make(&transaction, &store.layout, &store.catalogue(), &Default::default(), slot)?;
                }
                transaction.commit()?;
                Ok(())
            }).expect("makes slots");
        }
        let reader = Reader::new(Arc::new(store));
        for slot in [60, 300] {
            let mut slots: BTreeMap<(u32, u64), Figures> = BTreeMap::new();
            for ((n, at), figures) in &expected {
                slots.entry((*n, at.div_ceil(slot) * slot)).or_default().add_time(figures);
            }
            for n in 0..5 {
                let one = Filter { path: Some(PathId::of(&path(n, "r1"))), ..Filter::all() };
                let found = reader.series(window(0, 600), &one, Duration::from_secs(slot)).expect("a series");
                let found: BTreeMap<(u32, u64), Figures> =
                    found.value.into_iter().map(|p| ((n, (p.end.0 - BEGIN) / SECOND), p.figures)).collect();
                let of_path: Vec<_> = slots.iter().filter(|((of, _), _)| *of == n).collect();
                prop_assert_eq!(found.len(), of_path.len());
                for (key, figures) in of_path {
                    prop_assert!(same(&found[key], figures), "{:?} {:?} {:?}", key, found[key], figures);
                }
            }
        }
    }
}
