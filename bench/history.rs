//! What the embedded history costs: disk, memory, time to store an interval, time to answer.
//!
//! Beside it, in the same run: as many bytes written and synced, and read, by a bare loop. A shorter time than a day
//! is filled and what grows with time is multiplied, unless `--intervals 8640` is said.
//!
//! `cargo bench --bench history -- [--paths N] [--intervals N] [--flows N] [--dir DIR]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

use llama::history::{History, HistorySnapshot, Options, Reader};
use llama::matrix::grid::Grid;
use llama::matrix::{Filter, Key, Source, Window};
use llama::probe::random::Random;
use llama::probe::shape::{Dscp, MethodKind};
use llama::summary::path_id::PathId;
use llama::summary::{Counts, Extremes, FlowSummary, Path, Seen, Statistics, Summary};
use llama::time::{StampSource, Wall};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: [--paths N] [--intervals N] [--flows N] [--dir DIR]";
const SECOND: u64 = 1_000_000_000;
const INTERVAL: u64 = 10 * SECOND;
const DAY: u64 = 86_400 * SECOND / INTERVAL;
const BEGIN: u64 = 1_700_006_400 / 259_200 * 259_200 * SECOND;

fn main() {
    let (mut paths, mut intervals, mut flows, mut place) = (10_000_u32, 720_u64, 8_u16, PathBuf::from("target"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: value missing\n{USAGE}"));
        match argument.as_str() {
            "--paths" => paths = value().parse().expect(USAGE),
            "--intervals" => intervals = value().parse().expect(USAGE),
            "--flows" => flows = value().parse().expect(USAGE),
            "--dir" => place = value().into(),
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let directory = tempfile::tempdir_in(&place).unwrap();
    let options =
        Options { spacing: Duration::ZERO, max_bytes: Some(1 << 40), ..Options::new(directory.path().join("history")) };
    let history = History::open(options.clone()).unwrap();
    let (writer, mut random) = (history.writer(), Random::new(1));
    let paths: Vec<_> = (0..paths).map(path).collect();
    println!("{} paths, {intervals} intervals of 10 s, {flows} flows a path, on {}", paths.len(), place.display());
    let (mut worst, mut handed) = (0_u64, Duration::ZERO);
    let mut before = history.counters().snapshot();
    for n in 1..=intervals {
        let summaries: Vec<_> = paths.iter().map(|path| summary(path, n, flows, &mut random)).collect();
        let begin = Instant::now();
        writer.add(&summaries);
        handed += begin.elapsed();
        let now = wait(&history, |c| c.committed == n * paths.len() as u64);
        worst = worst.max(now.commit_ns - before.commit_ns);
        before = now;
    }
    let reader = history.reader();
    let end = BEGIN + intervals * INTERVAL;
    let last = Window { from: Wall(end - INTERVAL), to: Wall(end) };
    let now = reader.extent().unwrap().latest().unwrap();
    std::thread::sleep(Duration::from_secs(2)); // the coarser slots of the last interval
    let end_of = history.counters().snapshot();
    let whole_day = |value: f64| value * DAY as f64 / intervals as f64;
    let giga = |bytes: u64| bytes as f64 / 1e9;
    let row = |what: &str, value: String, day: String| println!("{what:<58} {value:>14} {day:>14}");
    row("", "measured".into(), "for a day".into());
    let rows = end_of.committed;
    row("rows", rows.to_string(), format!("{:.0}", whole_day(rows as f64)));
    row("disk, entries", format!("{:.2} GB", giga(end_of.bytes)), format!("{:.1} GB", whole_day(giga(end_of.bytes))));
    let file = end_of.file_bytes;
    row("disk, file", format!("{:.2} GB", giga(file)), format!("{:.1} GB", whole_day(giga(file))));
    row("bytes a row, coarser levels included", format!("{:.0}", end_of.bytes as f64 / rows as f64), String::new());
    row("handing over an interval", milliseconds(handed / intervals as u32), String::new());
    row("commit of an interval, mean", milliseconds(nanoseconds(end_of.commit_ns / intervals)), String::new());
    row("commit of an interval, worst", milliseconds(nanoseconds(worst)), String::new());
    row("coarser levels, mean per interval", milliseconds(nanoseconds(end_of.upkeep_ns / intervals)), String::new());
    let per_interval = end_of.bytes / intervals;
    let bare = bare(&directory.path().join("bare"), per_interval);
    row("floor: bare write and sync of as many bytes", milliseconds(bare.0), String::new());
    row("floor: bare read of as many bytes", milliseconds(bare.1), String::new());
    row("memory of the process", memory("VmRSS"), String::new());
    row("memory of the process, most", memory("VmHWM"), String::new());
    let time = best(5, || {
        let figures = reader.instant(now, &Filter::all()).unwrap().value;
        assert_eq!(figures.len(), paths.len());
        Grid::of(&figures, &Key::Tag("src".into()), &Key::Tag("dst_metro".into())).cells.len()
    });
    row("matrix at one instant: figures and grid", milliseconds(time), String::new());
    let time = best(5, || reader.instant(now, &Filter::all()).unwrap().value.len());
    row("of these, figures", milliseconds(time), String::new());
    let time = best(5, || reader.figures(last, &Filter::all()).unwrap().value.len());
    row("figures of a window of one interval", milliseconds(time), String::new());
    let all = Window { from: Wall(BEGIN), to: Wall(end) };
    let one = Filter { path: Some(PathId::of(&paths[paths.len() / 2])), ..Filter::all() };
    for (what, filter) in [("one path", &one), ("whole fleet", &Filter::all())] {
        for (step, level) in [(10, "as it came"), (300, "5 minutes"), (3600, "hours")] {
            series(&reader, what, level, all, filter, step, &row, &whole_day);
        }
    }
    let time = best(3, || reader.instant_flows(now, &one).unwrap().value.len());
    row("flows of one path at an instant", milliseconds(time), String::new());
    // a copy of the file of a running process is what a crash leaves
    let copy = Options { directory: directory.path().join("copy"), ..options.clone() };
    std::fs::create_dir(&copy.directory).unwrap();
    std::fs::copy(options.directory.join("history.redb"), copy.directory.join("history.redb")).unwrap();
    let begin = Instant::now();
    let after = History::open(copy).unwrap();
    row("opening after a crash", milliseconds(begin.elapsed()), String::new());
    let begin = Instant::now();
    after.close(Duration::from_secs(60));
    history.close(Duration::from_secs(60));
    row("closing, twice", milliseconds(begin.elapsed()), String::new());
    let begin = Instant::now();
    History::open(options).unwrap();
    row("opening after an orderly end", milliseconds(begin.elapsed()), String::new());
}

#[expect(clippy::too_many_arguments, reason = "two closures that print")]
fn series(
    reader: &Reader,
    what: &str,
    level: &str,
    window: Window,
    filter: &Filter,
    step: u64,
    row: &dyn Fn(&str, String, String),
    whole_day: &dyn Fn(f64) -> f64,
) {
    let points = reader.series(window, filter, Duration::from_secs(step)).unwrap().value.len();
    let time = best(3, || reader.series(window, filter, Duration::from_secs(step)).unwrap().value.len());
    let day = format!("{:.1} ms", whole_day(1e3 * time.as_secs_f64()));
    row(&format!("series of {what}, {level}: {points} points"), milliseconds(time), day);
}

fn nanoseconds(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", 1e3 * time.as_secs_f64())
}

/// The shortest of some rounds.
fn best<T>(rounds: usize, f: impl Fn() -> T) -> Duration {
    let round = |_| {
        let begin = Instant::now();
        std::hint::black_box(f());
        begin.elapsed()
    };
    (0..rounds).map(round).min().unwrap()
}

fn memory(key: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    format!("{} MiB", kilobytes / 1024)
}

fn wait(history: &History, done: impl Fn(&HistorySnapshot) -> bool) -> HistorySnapshot {
    let begin = Instant::now();
    loop {
        let counters = history.counters().snapshot();
        if done(&counters) {
            return counters;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{counters:?}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Writes and syncs, then reads.
fn bare(path: &std::path::Path, bytes: u64) -> (Duration, Duration) {
    let mut piece = vec![7; bytes as usize];
    let begin = Instant::now();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&piece).unwrap();
    file.sync_data().unwrap();
    let written = begin.elapsed();
    let begin = Instant::now();
    std::fs::File::open(path).unwrap().read_exact(&mut piece).unwrap();
    (written, begin.elapsed())
}

fn path(n: u32) -> Arc<Path> {
    let tags = [("dst_metro", format!("metro{}", n % 40)), ("dst_cluster", format!("cluster{}", n / 40))];
    Arc::new(Path {
        src: [10, 0, 0, 1].into(),
        dst: std::net::Ipv4Addr::from(0x0a01_0000 + n).into(),
        method: MethodKind::Udp,
        dscp: Dscp(0),
        size: None,
        group: "far".into(),
        tags: Arc::new(tags.into_iter().map(|(key, value)| (key.to_string(), value)).collect()),
    })
}

/// Ten round trips, random in their last 100 µs: nothing repeats that would not in a network.
fn summary(path: &Arc<Path>, n: u64, flows: u16, random: &mut Random) -> Summary {
    const SAMPLES: u64 = 10;
    let mut extremes = |least: u64| {
        let mut values: Vec<i64> = (0..SAMPLES).map(|_| (least + random.below(100_000)) as i64).collect();
        values.sort_unstable();
        let mean = values.iter().sum::<i64>() as f64 / SAMPLES as f64;
        (Extremes { samples: SAMPLES, mean, min: values[0], max: values[9] }, values)
    };
    let (ipdv, owd_forward, owd_reverse, residence) =
        (extremes(0).0, extremes(150_000).0, extremes(150_000).0, extremes(5_000).0);
    let (Extremes { samples, mean, min, max }, values) = extremes(300_000);
    let rtt = Statistics { samples, mean, min, p50: values[4], p90: values[8], p99: max, p999: max, max };
    let mut buckets: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    values
        .iter()
        .for_each(|ns| *buckets.entry(llama::summary::histogram::Bucket::of(*ns as u64).middle()).or_default() += 1);
    let flow = |n: u16| FlowSummary {
        source: (path.src, 40_000 + n).into(),
        target: (path.dst, 8100).into(),
        dscp: path.dscp,
        sent: 2,
        lost: 0,
        lost_forward: 0,
        lost_reverse: 0,
        dscp_changed_forward: 0,
        dscp_changed_reverse: 0,
        rtt: Some(Extremes { samples: 2, mean: (values[0] + values[9]) as f64 / 2.0, min: values[0], max: values[9] }),
    };
    Summary {
        path: path.clone(),
        interval: n as u32,
        start: Wall(BEGIN + (n - 1) * INTERVAL),
        end: Wall(BEGIN + n * INTERVAL),
        counts: Counts { sent: SAMPLES, replied: SAMPLES, ..Counts::default() },
        rtt: Some(rtt),
        ipdv: Some(ipdv),
        owd_forward: Some(owd_forward),
        owd_reverse: Some(owd_reverse),
        residence: Some(residence),
        rtt_histogram: buckets.into_iter().collect(),
        sent_by: Some(StampSource::Kernel),
        received_by: Some(StampSource::Kernel),
        lateness: Some(Statistics { p50: 1000, p90: 2000, p99: 60_000, p999: 90_000, ..rtt }),
        local_drops: 0,
        flows: u32::from(flows),
        flows_with_loss: 0,
        worst_flows: (0..flows).map(flow).collect(),
        reporter: None,
        seen: Seen::default(),
        suspect: vec![],
    }
}
