//! An instant over a real server: the newest point of each path, in however long intervals it is measured.

use super::fleet::{self, INTERVALS, PATHS, summary};
use super::*;
use llama::matrix::{Moment, REACH};
use llama::summary::path_id::PathId;
use std::collections::BTreeMap;

/// The fleet, whose collectors are out of phase. Ends jitter by up to 50 µs; every fourth path is measured in
/// intervals three times as long, and path 5 no more after the third.
fn made() -> Vec<Summary> {
    let mut made = Vec::new();
    for (n, interval) in (0..PATHS).flat_map(|n| (0..INTERVALS).map(move |interval| (n, interval))) {
        let long = n % 4 == 3;
        if (long && interval % 3 != 0) || (n == 5 && interval > 2) {
            continue;
        }
        let mut one = summary(n, interval);
        one.end.0 = one.end.0 - 50_000 + (n * 7919 + interval * 104_729) % 100_000;
        one.start = Wall(one.end.0 - if long { 3 } else { 1 } * INTERVAL - interval % 2 * 30_000);
        made.push(one);
    }
    made.reverse(); // what comes late is no other
    made
}

fn newest(made: &[Summary], at: u64, filter: &Filter) -> BTreeMap<PathId, Summary> {
    let mut newest: BTreeMap<PathId, Summary> = BTreeMap::new();
    for one in made.iter().filter(|s| s.end.0 <= at && filter.takes(&s.path)) {
        let known = newest.entry(PathId::of(&one.path)).or_insert(one.clone());
        if known.end < one.end {
            *known = one.clone();
        }
    }
    newest.retain(|_, s| at - s.end.0 < u64::from(REACH) * (s.end.0 - s.start.0));
    newest
}

#[test]
fn each_path_shows_its_newest_point() {
    let server = Influxd::start();
    let made = made();
    write(&server, "instants", true, &made);
    let of_path = |n: u64| Filter { path: Some(PathId::of(&fleet::path(n))), ..Filter::all() };
    let mut group = Filter::all();
    group.add(llama::matrix::Key::Group, "group 1".into());
    for row_limit in [100_000, 0] {
        let source = source(&server, "instants", row_limit);
        let extent = source.extent().expect("extent");
        assert_eq!(extent.interval, Duration::from_secs(30), "the longest that is measured in, without its jitter");
        let ends = [0, 7, 11].map(|k| T0 + k * INTERVAL);
        let times = ends.into_iter().flat_map(|end| [end - 50_000, end, end + 50_000, end + 4_999_999_999]);
        let exactly = made.iter().step_by(17).flat_map(|s| [s.end.0 - 1, s.end.0]);
        for at in times.chain(exactly).chain([T0 + 200 * INTERVAL]) {
            for filter in [Filter::all(), of_path(3), of_path(8), group.clone()] {
                let moment = Moment { at: Wall(at), interval: extent.interval };
                let right = newest(&made, at, &filter);
                let answer = source.instant(moment, &filter).expect("an answer");
                let found: BTreeMap<PathId, _> =
                    answer.value.iter().map(|one| (PathId::of(&one.path), (one.figures.clone(), one.newest))).collect();
                assert_eq!(found.len(), answer.value.len(), "a path is there once");
                assert_eq!(found.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>(), "at {at}, {filter:?}");
                for (id, (figures, newest)) in &found {
                    let right = &right[id];
                    assert_eq!((figures.summaries, *newest), (1, right.end));
                    assert_eq!(figures.counts, right.counts);
                    assert!(answer.window.holds(*newest), "{:?} {newest:?}", answer.window);
                }
                let flows = source.instant_flows(moment, &filter).expect("flows");
                let texts = |flows: Vec<String>| flows.into_iter().collect::<std::collections::BTreeSet<_>>();
                let found = flows.value.iter().map(|at| format!("{} {:?} {:?}", PathId::of(&at.path), at.end, at.flow));
                let flows_of = |(id, s): (&PathId, &Summary)| {
                    let (id, end) = (*id, s.end);
                    s.worst_flows.iter().map(move |flow| format!("{id} {end:?} {flow:?}")).collect::<Vec<_>>()
                };
                assert_eq!(texts(found.collect()), texts(right.iter().flat_map(flows_of).collect()), "at {at}");
            }
        }
    }
}

#[test]
fn a_path_whose_tags_were_changed_shows_the_newer_ones() {
    let server = Influxd::start();
    let mut made = vec![summary(1, 0), summary(1, 1)];
    let mut path = (*fleet::path(1)).clone();
    path.tags = std::sync::Arc::new([("rack".to_string(), "moved".to_string())].into());
    made[1].path = std::sync::Arc::new(path);
    write(&server, "moved", true, &made);
    let source = source(&server, "moved", 1000);
    let moment = source.extent().expect("extent").latest().expect("a point");
    let found = source.instant(moment, &Filter::all()).expect("an answer").value;
    assert_eq!((found.len(), found[0].path.tags["rack"].as_str(), found[0].newest), (1, "moved", made[1].end));
    assert_eq!(found[0].figures.summaries, 1);
}

#[test]
fn points_that_do_not_say_their_interval_have_the_common_one() {
    let server = Influxd::start();
    let point =
        |dst: u8, at: u64| format!("raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.{dst} rtt=1,loss=0,lost=0,sent=20 {at}\n");
    let lines: String =
        (0..3).map(|n| point(2, T0 + n * 30_000_000_000)).chain([point(3, T0 - 31_000_000_000)]).collect();
    write_lines(&server, &lines);
    let source = source(&server, "llama", 1000);
    let moment = source.extent().expect("extent").latest().expect("a point");
    let count = |moment: Moment| source.instant(moment, &Filter::all()).expect("an answer").value.len();
    assert_eq!(count(moment), 1, "the other one is gone");
    assert_eq!(count(moment.earlier(Duration::from_secs(32))), 2);
}
