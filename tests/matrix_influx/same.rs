//! The same numbers as joined directly from the summaries, whichever way they are joined.

use super::fleet::{PATHS, summaries, summary};
use super::*;
use llama::matrix::{FlowAt, Key};
use llama::summary::path_id::PathId;
use llama::summary::{Extremes, FlowSummary, Seen};
use std::collections::BTreeMap;

/// How much is known of percentiles.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Exactly,
    Bound,
}

fn same_extremes(what: &str, a: Option<Extremes>, b: Option<Extremes>) {
    let whole = |extremes: Extremes| (extremes.samples, extremes.min, extremes.max);
    assert_eq!(a.map(whole), b.map(whole), "{what}");
    if let (Some(a), Some(b)) = (a, b) {
        // sums of floats, in another order
        assert!((a.mean - b.mean).abs() <= b.mean.abs() * 1e-9 + 1e-6, "{what}: {} is not {}", a.mean, b.mean);
    }
}

/// `found` is `right`, number by number.
fn same(what: &str, found: &Figures, right: &Figures, known: Known) {
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
        seen,
    } = found;
    assert_eq!((*summaries, *suspects, *suspect), (right.summaries, right.suspects, right.suspect), "{what}");
    assert_eq!(*counts, right.counts, "{what}");
    assert_eq!((*lateness_p99, *lateness_max), (right.lateness_p99, right.lateness_max), "{what}");
    let whole = (*local_drops, *flows, *flows_with_loss);
    assert_eq!(whole, (right.local_drops, right.flows, right.flows_with_loss), "{what}");
    // which of several paths' is the last has no order
    let present = |seen: &Seen| {
        [seen.dscp_forward.is_some(), seen.dscp_reverse.is_some(), seen.dscp_either.is_some(), seen.mtu.is_some()]
    };
    assert_eq!(present(seen), present(&right.seen), "{what}");
    same_extremes(&format!("{what}: rtt"), *rtt, right.rtt);
    same_extremes(&format!("{what}: ipdv"), *ipdv, right.ipdv);
    same_extremes(&format!("{what}: forward"), *owd_forward, right.owd_forward);
    same_extremes(&format!("{what}: reverse"), *owd_reverse, right.owd_reverse);
    same_extremes(&format!("{what}: residence"), *residence, right.residence);
    let (Some(percentiles), Some(exact)) = (found.percentiles(), right.percentiles()) else {
        assert_eq!(found.percentiles(), right.percentiles(), "{what}");
        return;
    };
    match known {
        Known::Exactly => {
            assert_eq!((histogram, bound), (&right.histogram, &right.bound), "{what}");
            assert_eq!(percentiles, exact, "{what}");
        }
        Known::Bound => {
            assert!(histogram.counts().is_empty() && percentiles.exact == (*summaries == 1), "{what}");
            let pairs = [
                (percentiles.p50, exact.p50),
                (percentiles.p90, exact.p90),
                (percentiles.p99, exact.p99),
                (percentiles.p999, exact.p999),
            ];
            // a bucket's width is what percentiles are true to
            assert!(pairs.iter().all(|(bound, exact)| *bound as f64 >= *exact as f64 * 0.992), "{what}: {pairs:?}");
        }
    }
}

fn in_window(window: Window, filter: &Filter) -> Vec<Summary> {
    let within = |summary: &&Summary| window.holds(summary.end) && filter.takes(&summary.path);
    summaries().iter().filter(within).cloned().collect()
}

/// The figures of each path, joined from the summaries, with their newest ends.
fn by_path(summaries: &[Summary]) -> BTreeMap<PathId, (Figures, Wall)> {
    let mut paths: BTreeMap<PathId, (Figures, Wall)> = BTreeMap::new();
    for summary in summaries {
        let (figures, newest) = paths.entry(PathId::of(&summary.path)).or_default();
        figures.add_time(&Figures::from(summary));
        *newest = (*newest).max(summary.end);
    }
    paths
}

/// Whole, one interval, a part, nothing.
fn windows() -> [Window; 4] {
    let at = |interval: u64| Wall(T0 + interval * INTERVAL);
    [
        ALL,
        Window { from: at(4), to: at(5) },
        Window { from: Wall(at(2).0 + 1), to: Wall(at(9).0 + 2_500_000_001) },
        Window { from: at(500), to: at(600) },
    ]
}

fn filters() -> Vec<Filter> {
    let of = |terms: &[(Key, &str)]| {
        let mut filter = Filter::all();
        terms.iter().for_each(|(key, value)| filter.add(key.clone(), value.to_string()));
        filter
    };
    let path = Filter { path: Some(PathId::of(&fleet::path(8))), ..Filter::all() };
    let tag = |name: &str| Key::Tag(name.into());
    vec![
        Filter::all(),
        path.clone(),
        Filter { path: Some(PathId(1)), ..Filter::all() },
        Filter { terms: of(&[(tag("rack"), "r0")]).terms, ..path },
        of(&[(Key::Group, "group 1"), (Key::Group, "")]),
        of(&[(Key::Method, "udp"), (Key::Method, "llama")]),
        of(&[(Key::Method, "pigeon")]),
        of(&[(Key::Dscp, "46"), (tag("rack"), "r0"), (tag("rack"), "r1")]),
        of(&[(Key::SrcIp, "10.0.0.1")]),
        of(&[(Key::SrcIp, "2001:db8::1"), (Key::DstIp, "2001:db8::1:0:2")]),
        of(&[(tag("metro"), "")]),
        of(&[(tag("group"), "users own 1")]),
        of(&[(tag("no such"), "")]),
        of(&[(tag("no such"), "x")]),
    ]
}

fn figures_are_the_same(source: &InfluxSource, known: Known) {
    for window in windows() {
        for filter in filters() {
            let right = by_path(&in_window(window, &filter));
            let answer = source.figures(window, &filter).expect("figures");
            assert_eq!(answer.window, window);
            let found: Vec<_> = answer.value.iter().map(|one| PathId::of(&one.path)).collect();
            assert_eq!(found.len(), right.len(), "{window:?} {filter:?}");
            for one in &answer.value {
                let (figures, newest) = &right[&PathId::of(&one.path)];
                same(&format!("{window:?} {:?}", one.path), &one.figures, figures, known);
                assert_eq!(one.newest, *newest);
                assert_eq!(answer.resolution, Duration::from_nanos(INTERVAL));
            }
        }
    }
}

fn series_are_the_same(source: &InfluxSource, known: Known) {
    for window in windows() {
        for filter in filters() {
            for step in [10, 30, 7, 3600] {
                let step = Duration::from_secs(step);
                let mut of_paths: BTreeMap<(u64, PathId), Figures> = BTreeMap::new();
                for summary in in_window(window, &filter) {
                    let end = summary.end.0.next_multiple_of(step.as_nanos() as u64);
                    let figures = of_paths.entry((end, PathId::of(&summary.path))).or_default();
                    figures.add_time(&Figures::from(&summary));
                }
                let mut right: BTreeMap<u64, Figures> = BTreeMap::new();
                of_paths.iter().for_each(|((end, _), figures)| right.entry(*end).or_default().add_path(figures));
                let answer = source.series(window, &filter, step).expect("series");
                let ends: Vec<u64> = answer.value.iter().map(|point| point.end.0).collect();
                assert_eq!(ends, right.keys().copied().collect::<Vec<_>>(), "{window:?} {filter:?} {step:?}");
                for point in &answer.value {
                    let what = format!("{window:?} {filter:?} {step:?} {:?}", point.end);
                    same(&what, &point.figures, &right[&point.end.0], known);
                }
            }
        }
    }
}

/// As [`FlowAt`], comparable: time, path, flow.
fn flow_texts(flows: impl IntoIterator<Item = FlowAt>) -> Vec<String> {
    let text = |at: FlowAt| format!("{} {} {:?}", at.end.0, PathId::of(&at.path), at.flow);
    let mut texts: Vec<_> = flows.into_iter().map(text).collect();
    texts.sort();
    texts
}

fn flows_are_the_same(source: &InfluxSource, known: Known) {
    for window in windows() {
        for filter in filters() {
            let of = |summary: Summary| {
                let listed = match known {
                    Known::Exactly => summary.worst_flows,
                    // the one that lost most, and of it the counts
                    Known::Bound => (summary.worst_flows.into_iter().take(1).filter(|flow| flow.lost > 0))
                        .map(|flow| FlowSummary {
                            lost_forward: 0,
                            lost_reverse: 0,
                            dscp_changed_forward: 0,
                            dscp_changed_reverse: 0,
                            rtt: None,
                            ..flow
                        })
                        .collect(),
                };
                let (path, end) = (summary.path, summary.end);
                listed.into_iter().map(move |flow| FlowAt { path: path.clone(), end, flow })
            };
            let right = flow_texts(in_window(window, &filter).into_iter().flat_map(of));
            let found = source.flows(window, &filter).expect("flows").value;
            assert!(found.is_sorted_by_key(|at| at.end));
            assert_eq!(flow_texts(found), right, "{window:?} {filter:?}");
        }
    }
}

#[test]
fn all_numbers_are_those_of_the_summaries() {
    let server = Influxd::start();
    write(&server, "detailed", true, summaries());
    write(&server, "plain", false, summaries());
    for (database, row_limit, known) in [
        ("detailed", 100_000, Known::Exactly),
        ("plain", 100_000, Known::Bound),
        ("plain", 0, Known::Bound),
        ("detailed", 0, Known::Bound),
    ] {
        let source = source(&server, database, row_limit);
        figures_are_the_same(&source, known);
        series_are_the_same(&source, known);
    }
    flows_are_the_same(&source(&server, "detailed", 100_000), Known::Exactly);
    flows_are_the_same(&source(&server, "plain", 100_000), Known::Bound);
    paths_and_extent(&source(&server, "plain", 100_000));
}

fn paths_and_extent(source: &InfluxSource) {
    for window in windows() {
        let right: Vec<_> = by_path(&in_window(window, &Filter::all())).into_keys().collect();
        let paths = source.paths(window).expect("paths");
        assert_eq!(paths, source.paths(window).expect("paths"), "in the same order");
        for path in &paths {
            let made =
                (0..PATHS).map(fleet::path).find(|made| PathId::of(made) == PathId::of(path)).expect("one of ours");
            assert_eq!(*path, made);
        }
        let mut ids: Vec<_> = paths.iter().map(|path| PathId::of(path)).collect();
        ids.sort();
        assert_eq!(ids, right, "{window:?}");
    }
    let extent = source.extent().expect("extent");
    let ends: Vec<Wall> = summaries().iter().map(|summary| summary.end).collect();
    assert_eq!((extent.oldest, extent.newest), (ends.iter().min().copied(), ends.iter().max().copied()));
    assert_eq!(extent.interval, Duration::from_nanos(INTERVAL));
    assert_eq!(extent.levels.len(), 1);
}

#[test]
fn a_path_whose_tags_were_changed_is_one_path() {
    let server = Influxd::start();
    let mut made = vec![summary(1, 0), summary(1, 1)];
    let mut path = (*fleet::path(1)).clone();
    path.tags = std::sync::Arc::new([("rack".to_string(), "moved".to_string())].into());
    made[1].path = std::sync::Arc::new(path);
    write(&server, "moved", true, &made);
    for row_limit in [0, 1000] {
        let source = source(&server, "moved", row_limit);
        let found = figures(&source, &Filter::all());
        assert_eq!((found.len(), found[0].path.tags["rack"].as_str(), found[0].newest), (1, "moved", made[1].end));
        assert_eq!(found[0].figures.summaries, 2);
        assert_eq!(source.paths(ALL).expect("paths").len(), 1);
    }
}

#[test]
fn an_empty_database_has_nothing() {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let source = source(&server, "llama", 1000);
    assert_eq!(source.extent().expect("extent"), Default::default());
    assert_eq!((source.paths(ALL).expect("paths").len(), figures(&source, &Filter::all()).len()), (0, 0));
    assert!(source.series(ALL, &Filter::all(), Duration::from_secs(60)).expect("series").value.is_empty());
    assert!(source.flows(ALL, &Filter::all()).expect("flows").value.is_empty());
}
