//! The history on real disks: killed processes, damaged files, full disks, other processes.

#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

mod damaged;
mod full;
mod killed;

use llama::history::{History, HistorySnapshot, Options};
use llama::matrix::{Filter, Source, Window};
use llama::probe::shape::{Dscp, MethodKind};
use llama::summary::{Counts, Path, Summary};
use llama::time::Wall;
use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;
/// In 2023, at a multiple of every level's period.
const BEGIN: u64 = 1_700_006_400 / 259_200 * 259_200 * SECOND;

fn path(n: u32) -> Arc<Path> {
    Arc::new(Path {
        src: [10, 0, 0, 1].into(),
        dst: std::net::Ipv4Addr::from(0x0a01_0000 + n).into(),
        method: MethodKind::Udp,
        dscp: Dscp(0),
        group: "far".into(),
        tags: Arc::new(BTreeMap::from([("rack".to_string(), format!("r{}", n % 3))])),
    })
}

/// How many probes are sent in an interval: a number that says which interval it is.
fn sent(interval: u64) -> u64 {
    1000 + interval
}

/// One interval of some paths.
fn interval(paths: &[Arc<Path>], number: u64) -> Vec<Summary> {
    let counts = Counts { sent: sent(number), replied: sent(number), ..Counts::default() };
    let one = |path: &Arc<Path>| Summary {
        path: path.clone(),
        interval: number as u32,
        start: Wall(BEGIN + (number - 1) * 10 * SECOND),
        end: Wall(BEGIN + number * 10 * SECOND),
        counts,
        rtt: None,
        ipdv: None,
        owd_forward: None,
        owd_reverse: None,
        residence: None,
        rtt_histogram: vec![(300_000 + number, 1)],
        sent_by: None,
        received_by: None,
        lateness: None,
        local_drops: 0,
        flows: 1,
        flows_with_loss: 0,
        worst_flows: vec![],
        suspect: vec![],
    };
    paths.iter().map(one).collect()
}

fn wait(history: &History, what: &str, done: impl Fn(&HistorySnapshot) -> bool) -> HistorySnapshot {
    let begin = Instant::now();
    loop {
        let counters = history.counters().snapshot();
        if done(&counters) {
            return counters;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "no {what}: {counters:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn options(directory: &FilePath) -> Options {
    Options { spacing: Duration::ZERO, ..Options::new(directory.to_path_buf()) }
}

/// Fails unless the history says of intervals 1 to `newest` what was measured, at every level.
fn check(history: &History, paths: u64, newest: u64) {
    let all = Window { from: Wall(BEGIN), to: Wall(BEGIN + newest * 10 * SECOND) };
    for step in [10, 300, 3600] {
        let answer = history.reader().series(all, &Filter::all(), Duration::from_secs(step)).expect("a series");
        let found: BTreeMap<u64, u64> =
            answer.value.iter().map(|p| ((p.end.0 - BEGIN) / SECOND, p.figures.counts.sent)).collect();
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        for number in 1..=newest {
            *expected.entry((number * 10).div_ceil(step) * step).or_default() += paths * sent(number);
        }
        assert_eq!(found, expected, "steps of {step} s up to interval {newest}");
    }
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("directory");
    let first = History::open(options(directory.path())).expect("opens");
    let error = History::open(options(directory.path())).expect_err("is locked").to_string();
    assert!(error.contains("in use by another process; stop it, or name another directory"), "{error}");
    first.close(Duration::from_secs(60));
    History::open(options(directory.path())).expect("is free");
}
