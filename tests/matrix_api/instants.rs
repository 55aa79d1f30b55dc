//! An instant means the newest interval of each path: never two of one, never none of one that is measured.

use crate::client::json;
use crate::memory::{INTERVAL, Memory, NEWEST, S, path, summary};
use crate::{ask, condition, objects, serve};
use llama::history::{History, Options};
use llama::matrix::{Extent, Filter, Moment, REACH, Source};
use llama::summary::path_id::PathId;
use llama::summary::{FlowSummary, Summary};
use llama::time::Wall;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The interval of a path that ended so many nanoseconds before [`NEWEST`], and is so long.
fn ended(src: u8, dst: u8, before_ns: u64, length_ns: u64, lost: u64) -> Summary {
    let end = NEWEST * S - before_ns;
    Summary { start: Wall(end - length_ns), end: Wall(end), ..summary(&path(src, dst), NEWEST, lost, 1) }
}

/// Two collectors, out of phase and of different lengths: 10 s, whose ends jitter, and 30 s; and one that is gone.
fn out_of_phase() -> Vec<Summary> {
    let jitter = [0, 50_000, 0, 100_000, 20_000];
    let tens = (0..5).map(|n| (n as u64 * 10 * S + jitter[n], 10 * S));
    let first = tens.flat_map(|(before, length)| [0, 1].map(|dst| ended(0, dst, before, length, before / (10 * S))));
    let second = (0..3).flat_map(|n| [0, 2].map(|dst| ended(1, dst, 24 * S + n * 30 * S, 30 * S, 20 + n)));
    let gone = (0..3).map(|n| ended(2, 0, (30 + n * 10) * S, 10 * S, 50));
    first.chain(second).chain(gone).collect()
}

#[test]
fn every_endpoint_shows_the_newest_interval_of_each_path() {
    let server = serve(&Memory::of(out_of_phase()));
    let answer = ask(&server, "?rows=src_ip&columns=group");
    assert_eq!(
        (&answer["from"], &answer["to"]),
        (&json!("2024-02-29T12:29:36.000000000Z"), &json!("2024-02-29T12:30:30.000000000Z"))
    );
    assert_eq!(answer["rows"]["values"], json!(["10.0.0.0", "10.0.0.1"]), "not the one that is gone");
    let cells = objects(&answer, "cells");
    let shown: Vec<_> =
        cells.iter().map(|cell| ["paths", "summaries", "sent", "lost"].map(|k| cell[k].clone())).collect();
    assert_eq!(shown, [[2, 2, 200, 0].map(|n| json!(n)), [2, 2, 200, 40].map(|n| json!(n))]);
    assert_eq!(cells[0]["stalest"], "2024-02-29T12:30:30.000000000Z");
    assert_eq!(cells[1]["stalest"], "2024-02-29T12:30:06.000000000Z");
    let columns = ask(&server, "?rows=group&columns=method");
    assert_eq!(objects(&columns, "cells")[0]["stalest"], "2024-02-29T12:30:06.000000000Z", "the oldest of its paths");

    let paths = objects(&ask(&server, "/paths?limit=100"), "paths");
    assert_eq!(paths.len(), 4);
    assert!(paths.iter().all(|path| path["summaries"] == 1 && path["sent"] == 100), "{paths:?}");
    let flows = ask(&server, "/flows");
    assert_eq!(flows["total"], 8);
    assert!(flows["flows"].as_array().unwrap().iter().all(|flow| flow["intervals"] == 1), "{flows}");
    let probers = ask(&server, "/probers");
    let newest: Vec<_> = probers["probers"].as_array().unwrap().iter().map(|one| one["newest"].clone()).collect();
    assert_eq!(newest, ["2024-02-29T12:30:30.000000000Z", "2024-02-29T12:30:06.000000000Z"]);

    // 10 s and 50 µs before the newest interval another one ended; a millisecond later it is the newest
    let lost = |query: &str| {
        let answer = ask(&server, &format!("/paths?{query}&{}", condition("src_ip", "10.0.0.0")));
        objects(&answer, "paths").iter().map(|path| path["lost"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(lost("at=1709209820"), [1, 1]);
    assert_eq!(lost("at=1709209819"), [2, 2]);
    let long = ask(&server, &format!("/paths?span=20&{}", condition("src_ip", "10.0.0.0")));
    assert_eq!(objects(&long, "paths")[0]["summaries"], 2, "a span is a span");
}

#[test]
fn a_comparison_is_with_the_instant_that_much_earlier() {
    let server = serve(&Memory::of(out_of_phase()));
    let answer = ask(&server, "?rows=src_ip&columns=dst_ip&before=30");
    let lost = |cells: &serde_json::Value| {
        let fields = answer["fields"].as_array().unwrap();
        let at = fields.iter().position(|field| field == "lost").unwrap();
        cells.as_array().unwrap().iter().map(|cell| cell[at].clone()).collect::<Vec<_>>()
    };
    assert_eq!(lost(&answer["cells"]), [0, 0, 20, 20]);
    // the one that is gone was there then; of the first, the interval that ended 100 µs before
    assert_eq!(lost(&answer["before"]["cells"]), [3, 3, 21, 21, 50]);
    assert_eq!(answer["before"]["to"], "2024-02-29T12:30:00.000000000Z");
}

#[test]
fn paths_without_flows_have_none_at_an_instant() {
    let mut all = out_of_phase();
    all.iter_mut().filter(|s| s.end.0 == NEWEST * S).for_each(|s| s.worst_flows = Vec::new());
    let server = serve(&Memory::of(all));
    assert_eq!(ask(&server, "/flows")["total"], 4, "not those of an older interval");
}

#[test]
fn the_history_says_the_same_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let (history, memory) = (stored(directory.path(), &out_of_phase()), Memory::of(out_of_phase()));
    let shown = |source: Arc<dyn Source>| {
        let shown = llama::http::matrix::Shown::new(source, "test", Duration::from_millis(250));
        let router = llama::http::matrix::router(Some(shown));
        let limits = llama::http::server::Limits::default();
        llama::http::server::Server::start(crate::any_port(), router, limits, "test").unwrap()
    };
    let (a, b) = (shown(history.reader()), shown(memory));
    for question in ["?rows=src_ip&columns=dst_ip&before=30", "/paths", "/flows", "/probers", "/paths?at=1709209819"] {
        let of = |server: &llama::http::server::Server| {
            let mut answer = json(server.address(), &format!("/api/v1/matrix{question}"));
            answer.as_object_mut().unwrap().retain(|name, _| !["resolution_s", "from"].contains(&name.as_str()));
            answer["before"]["from"] = json!(null); // begins are known to the millisecond
            answer["before"]["resolution_s"] = json!(null);
            for list in ["paths", "flows"] {
                // those that are as bad have no order
                answer[list].as_array_mut().into_iter().for_each(|list| list.sort_by_key(|one| one.to_string()));
            }
            answer
        };
        assert_eq!(of(&a), of(&b), "{question}");
    }
    let extent = ask(&a, "/extent");
    assert_eq!(extent["interval_s"], 30.0, "the longest that is measured in");
}

/// A history of these summaries, written in their order.
fn stored(directory: &std::path::Path, summaries: &[Summary]) -> History {
    let options = Options { spacing: Duration::ZERO, ..Options::new(directory.to_path_buf()) };
    let history = History::open(options).unwrap();
    let writer = history.writer();
    summaries.chunks(7).for_each(|batch| writer.add(batch));
    let begin = Instant::now();
    loop {
        let counters = history.counters().snapshot();
        if counters.committed == summaries.len() as u64 {
            return history;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{counters:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One collector of the property: where and how it measures.
#[derive(Clone, Debug)]
struct Prober {
    src: u8,
    seconds: u64,
    phase: u64,
    jitter: Vec<i64>,
    /// After so many intervals it starts again, so much later.
    restart: Option<(usize, u64)>,
    /// After so many it is gone.
    gone: Option<usize>,
}

/// How far an interval's end is from where it should be, in ns.
const JITTER: i64 = 50_000;
/// How long is measured, in seconds.
const TIME: u64 = 130;

fn prober() -> impl Strategy<Value = Prober> {
    let seconds = prop::sample::select(vec![1_u64, 2, 5, 10, 30]);
    let restart = prop::option::weighted(0.4, (1..6_usize, 1..40 * S));
    let gone = prop::option::weighted(0.3, 1..10_usize);
    let jitter = prop::collection::vec(-JITTER..=JITTER, 160);
    (0..3_u8, seconds, 0..30 * S, jitter, restart, gone).prop_map(|(src, seconds, phase, jitter, restart, gone)| {
        Prober { src, seconds, phase: phase % (seconds * S), jitter, restart, gone }
    })
}

/// What it measures: of two paths, one of which has no flows; what was sent says which interval it is.
fn measured(number: u8, prober: &Prober) -> Vec<Summary> {
    let base = (NEWEST - TIME) * S + prober.phase;
    let mut made = Vec::new();
    let mut pause = 0;
    for k in 0..prober.gone.unwrap_or(usize::MAX).min(prober.jitter.len() - 1) {
        pause += prober.restart.filter(|(after, _)| *after == k).map_or(0, |(_, pause)| pause);
        let nominal = base + pause + (k as u64 + 1) * prober.seconds * S;
        if nominal > NEWEST * S {
            break;
        }
        let jittered = |at: u64, k: usize| Wall(at.saturating_add_signed(prober.jitter[k]));
        for dst in [2 * number, 2 * number + 1] {
            let mut one = summary(&path(prober.src, dst), NEWEST, 0, 1);
            (one.start, one.end) = (jittered(nominal - prober.seconds * S, k), jittered(nominal, k + 1));
            (one.counts.sent, one.counts.replied) = (1000 + k as u64, 1000 + k as u64);
            let flow = FlowSummary { sent: one.counts.sent, ..one.worst_flows[0].clone() };
            one.worst_flows = if dst % 2 == 0 { vec![flow] } else { Vec::new() };
            made.push(one);
        }
    }
    made
}

/// Of each path: what was sent in its newest interval, and whether that must be there, or need not be because it ended
/// some three intervals ago.
fn expected(all: &[Summary], probers: &[Prober], at: u64) -> BTreeMap<PathId, (u64, bool)> {
    let mut newest: BTreeMap<PathId, &Summary> = BTreeMap::new();
    for summary in all.iter().filter(|s| s.end.0 <= at) {
        let known = newest.entry(PathId::of(&summary.path)).or_insert(summary);
        if known.end < summary.end {
            *known = summary;
        }
    }
    let of = |(id, summary): (PathId, &Summary)| {
        let own = (summary.end.0 - summary.start.0 + S / 2) / S;
        let of_source = probers.iter().filter(|p| address_of(p) == summary.path.src).map(|p| p.seconds).max().unwrap();
        let age = at - summary.end.0;
        let slack = S / 1000;
        let reach = |seconds: u64| u64::from(REACH) * seconds * S;
        (age < reach(of_source) + slack).then_some((id, (summary.counts.sent, age + slack < reach(own))))
    };
    newest.into_iter().filter_map(of).collect()
}

fn address_of(prober: &Prober) -> std::net::IpAddr {
    [10, 0, 0, prober.src].into()
}

fn check(source: &dyn Source, all: &[Summary], probers: &[Prober], at: u64) -> Result<(), TestCaseError> {
    // what the longest of them is says nothing about any one
    let moment = Moment { at: Wall(at), interval: Duration::from_secs(1) };
    let answer = source.instant(moment, &Filter::all()).expect("an answer");
    let expected = expected(all, probers, at);
    let mut seen = BTreeSet::new();
    for one in &answer.value {
        let id = PathId::of(&one.path);
        prop_assert!(seen.insert(id), "a path is there once");
        prop_assert_eq!(Some(one.figures.counts.sent), expected.get(&id).map(|(sent, _)| *sent), "{:?}", one.path);
        prop_assert_eq!(one.figures.summaries, 1);
        prop_assert!(answer.window.holds(one.newest), "{:?} {:?}", answer.window, one.newest);
    }
    for (id, (_, must)) in &expected {
        prop_assert!(!must || seen.contains(id), "{} is not there", id);
    }
    let flows = source.instant_flows(moment, &Filter::all()).expect("flows");
    prop_assert_eq!(flows.window, answer.window);
    let sent: BTreeMap<PathId, u64> = flows.value.iter().map(|at| (PathId::of(&at.path), at.flow.sent)).collect();
    prop_assert_eq!(sent.len(), flows.value.len(), "one flow of a path");
    let with_flows =
        answer.value.iter().filter(|one| matches!(one.path.dst, std::net::IpAddr::V4(dst) if dst.octets()[3] % 2 == 0));
    let right: BTreeMap<PathId, u64> = with_flows.map(|one| (PathId::of(&one.path), one.figures.counts.sent)).collect();
    prop_assert_eq!(sent, right);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Collectors of any phase and length, some on one address, restarted or gone; summaries that come in any order.
    #[test]
    fn no_path_doubles_nor_drops(
        probers in prop::collection::vec(prober(), 1..5),
        order in any::<u64>(),
        times in prop::collection::vec(0..=TIME * S, 12),
        ends in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u64), 12),
    ) {
        let mut all: Vec<Summary> =
            (0..).zip(&probers).flat_map(|(number, prober)| measured(number, prober)).collect();
        prop_assume!(!all.is_empty());
        // late data: by a number without a pattern
        all.sort_by_key(|s| ((s.end.0 / S) ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(s.counts.sent as u32));
        let directory = tempfile::tempdir().expect("directory");
        let (history, memory) = (stored(directory.path(), &all), Memory::of(all.clone()));
        let exact = ends.iter().map(|(index, more)| index.get(&all).end.0 + more - 1);
        for at in times.iter().map(|time| NEWEST * S - time).chain(exact) {
            check(&*memory, &all, &probers, at)?;
            check(&*history.reader(), &all, &probers, at)?;
        }
        let Extent { newest, interval, .. } = history.reader().extent().expect("an extent");
        prop_assert_eq!(newest, all.iter().map(|s| s.end).max());
        prop_assert!(probers.iter().any(|p| Duration::from_secs(p.seconds) == interval), "{:?}", interval);
    }
}

#[test]
fn the_interval_is_what_it_was_meant_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let history = stored(directory.path(), &[ended(0, 0, 0, INTERVAL * S - 50_000, 0)]);
    assert_eq!(history.reader().extent().unwrap().interval, Duration::from_secs(INTERVAL));
}
