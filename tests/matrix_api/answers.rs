//! The numbers of every endpoint, over a fleet whose figures are known.

use crate::client::{get, request};
use crate::memory::{INTERVAL, Memory, NASTY, NEWEST, S, fleet, path, summary};
use crate::{ask, condition, encoded, objects, serve};
use llama::probe::shape::Dscp;
use llama::summary::path_id::PathId;
use llama::summary::{Counts, Path, Seen, Summary};
use llama::time::Wall;
use serde_json::{Value, json};
use std::sync::Arc;

const TO: &str = "2024-02-29T12:30:30.000000000Z";
const FROM: &str = "2024-02-29T12:30:20.000000000Z";

fn id(src: u8, dst: u8) -> String {
    PathId::of(&path(src, dst)).to_string()
}

#[test]
fn the_extent_says_what_is_there_and_what_to_show_first() {
    let server = serve(&Memory::of(fleet()));
    let extent = ask(&server, "/extent");
    assert_eq!((&extent["source"], &extent["role"]), (&json!("summaries in memory"), &json!("test")));
    assert_eq!((&extent["newest"], &extent["oldest"]), (&json!(TO), &json!("2024-02-28T12:29:40.000000000Z")));
    assert_eq!((&extent["interval_s"], &extent["paths"]), (&json!(10.0), &json!(16)));
    assert_eq!(extent["levels"], json!([{"resolution_s": 10.0, "oldest": "2024-02-28T12:29:40.000000000Z"}]));
    assert_eq!(extent["suggested"], json!({"rows": "src_rack", "columns": "dst_rack"}));
    let key = |name: &str| extent["keys"].as_array().unwrap().iter().find(|key| key["name"] == name).unwrap().clone();
    assert_eq!(key("dst_rack"), json!({"name": "dst_rack", "values": ["d0", "d1"], "count": 2}));
    assert_eq!(key("note")["values"], json!([NASTY]));
    assert_eq!((&key("src_ip")["count"], &key("size")["values"]), (&json!(4), &json!([])));
    // at a time of which there is nothing
    assert_eq!(ask(&server, "/extent?at=1000000000")["paths"], 0);
}

#[test]
fn the_matrix_joins_paths_to_groups() {
    let server = serve(&Memory::of(fleet()));
    let answer = ask(&server, "");
    assert_eq!((&answer["from"], &answer["to"], &answer["resolution_s"]), (&json!(FROM), &json!(TO), &json!(10.0)));
    assert_eq!(answer["rows"], json!({"key": "src_rack", "values": ["s0", "s1"]}));
    assert_eq!(answer["columns"], json!({"key": "dst_rack", "values": ["d0", "d1"]}));
    assert_eq!((&answer["left_out"], &answer["before"]), (&json!(0), &Value::Null));
    let cells = objects(&answer, "cells");
    assert_eq!(cells.len(), 4);
    let bad = &cells[1];
    assert_eq!(
        (&bad["row"], &bad["column"], &bad["paths"], &bad["summaries"]),
        (&json!(0), &json!(1), &json!(4), &json!(4))
    );
    assert_eq!((&bad["sent"], &bad["lost"], &bad["lost_forward"]), (&json!(400), &json!(11), &json!(11)));
    assert_eq!((&bad["loss_percent"], &bad["lost_reverse"]), (&json!(2.75), &json!(0)));
    assert_eq!((&bad["rtt_mean_ms"], &bad["rtt_min_ms"], &bad["rtt_max_ms"]), (&json!(5.0), &json!(5.0), &json!(5.0)));
    assert_eq!((&bad["rtt_p99_ms"], &bad["percentiles"]), (&json!(5.0), &json!("exact")));
    assert_eq!((&bad["owd_forward_mean_ms"], &bad["residence_mean_ms"]), (&Value::Null, &json!(5.0)));
    assert_eq!((&bad["flows"], &bad["flows_with_loss"], &bad["dscp_changed"]), (&json!(8), &json!(2), &json!(0)));
    assert_eq!((&bad["suspects"], &cells[3]["suspects"]), (&json!(0), &json!(4)));
    assert_eq!((&cells[0]["lost"], &cells[0]["rtt_p50_ms"]), (&json!(0), &json!(1.0)));

    // other groups, other paths, a longer time, and the day before
    let rack = condition("dst_rack", "d1");
    let answer = ask(&server, &format!("?rows=src_ip&columns=group&span=60&before=86400&{rack}"));
    assert_eq!(answer["from"], "2024-02-29T12:29:30.000000000Z");
    assert_eq!(answer["rows"]["values"], json!(["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    let cells = objects(&answer, "cells");
    assert_eq!((cells.len(), &cells[0]["sent"], &cells[0]["lost"]), (4, &json!(1200), &json!(16)));
    let before = &answer["before"];
    assert_eq!(
        (&before["from"], &before["to"]),
        (&json!("2024-02-28T12:29:30.000000000Z"), &json!("2024-02-28T12:30:30.000000000Z"))
    );
    assert_eq!(before["rows"]["values"], answer["rows"]["values"]);
    let row = before["cells"][0].as_array().unwrap();
    assert_eq!((&row[2], &row[6], &row[7]), (&json!(2), &json!(1200), &json!(0)), "paths, sent, lost");
}

#[test]
fn conditions_choose_and_times_end_inclusive() {
    let server = serve(&Memory::of(fleet()));
    let paths = |query: &str| ask(&server, &format!("/paths?{query}"))["total"].as_u64().unwrap();
    let all = [
        (String::new(), 16),
        (condition("src_ip", "10.0.0.1"), 4),
        (format!("{}&{}", condition("src_ip", "10.0.0.1"), condition("src_ip", "10.0.0.2")), 8),
        (format!("{}&{}", condition("src_ip", "10.0.0.1"), condition("dst_rack", "d1")), 2),
        (condition("note", NASTY), 16),
        (condition("note", "' OR 1=1 --"), 0),
        (condition("absent", ""), 16),
        (condition("note", ""), 0),
        (condition("method", "udp"), 16),
        (condition("dscp", "46"), 0),
        (format!("path={}", id(3, 3)), 1),
        (format!("at={NEWEST}"), 16),
        (format!("at={}", NEWEST - 5), 16),
        (format!("at={}", NEWEST + 29), 16),
        (format!("at={}", NEWEST + 30), 0),
        (format!("at={}", NEWEST - 600), 0),
    ];
    for (query, expected) in all {
        assert_eq!(paths(&query), expected, "{query}");
    }
    let summaries = |query: &str| objects(&ask(&server, &format!("/paths?{query}")), "paths")[0]["summaries"].clone();
    let from = NEWEST - 2 * INTERVAL;
    assert_eq!(summaries(&format!("from={from}&to={NEWEST}")), 2, "the interval that ended at from is not in");
    assert_eq!(summaries(&format!("from={from}")), 2);
    assert_eq!(summaries(&format!("from={}&to={}", from - 1, NEWEST - 1)), 2);
    assert_eq!(summaries("span=60"), 6);
    assert_eq!(summaries(&format!("span=20&at={}", NEWEST - 10)), 2);
}

#[test]
fn paths_are_ordered_worst_first() {
    let server = serve(&Memory::of(fleet()));
    let first = |order: &str| {
        let answer = ask(&server, &format!("/paths?order={order}&limit=2&span=60"));
        assert_eq!(answer["total"], 16);
        let paths = objects(&answer, "paths");
        assert_eq!(paths.len(), 2);
        paths
    };
    let loss = first("loss");
    assert_eq!((&loss[0]["id"], &loss[0]["lost"]), (&json!(id(0, 2)), &json!(10)));
    assert_eq!((&loss[1]["id"], &loss[1]["lost"]), (&json!(id(0, 3)), &json!(6)));
    assert_eq!(loss[0]["tags"], json!({"src_rack": "s0", "dst_rack": "d1", "note": NASTY}));
    assert_eq!((&loss[0]["src_ip"], &loss[0]["dst_ip"]), (&json!("10.0.0.0"), &json!("10.0.1.2")));
    assert_eq!((&loss[0]["method"], &loss[0]["dscp"], &loss[0]["size"]), (&json!("udp"), &json!(0), &Value::Null));
    assert_eq!((&loss[0]["group"], &loss[0]["newest"]), (&json!("far"), &json!(TO)));
    assert_eq!(first("lost")[0]["id"], loss[0]["id"]);
    for order in ["rtt_mean", "rtt_p50", "rtt_p99", "ipdv", "lateness"] {
        let slowest = &first(order)[0];
        assert_eq!(slowest["rtt_mean_ms"], if order == "lateness" { 1.0 } else { 5.0 }, "{order}");
    }
}

#[test]
fn kinds_of_loss_and_changed_classes_are_columns() {
    let mut told = summary(&path(0, 1), NEWEST, 40, 5);
    told.path = Arc::new(Path { dscp: Dscp(46), size: Some(1400), ..(*told.path).clone() });
    let counts =
        Counts { corrupted: 1, refused: 2, prohibited: 3, time_exceeded: 4, too_big: 5, unreachable: 6, ..told.counts };
    told.counts = Counts {
        lost: 19,
        lost_forward: 7,
        syn_acks: 8,
        resets: 9,
        class_reports: 60,
        dscp_changed_forward: 40,
        dscp_changed_reverse: 11,
        dscp_changed_either: 12,
        ecn_marked_forward: 13,
        ecn_marked_reverse: 14,
        ..counts
    };
    told.seen = Seen { dscp_forward: Some(Dscp(0)), dscp_reverse: Some(Dscp(8)), dscp_either: None, mtu: Some(1400) };
    for flow in &mut told.worst_flows {
        (flow.dscp, flow.dscp_changed_forward, flow.dscp_changed_reverse) = (Dscp(46), 20, 3);
    }
    let silent = Counts { sent: 100, lost: 100, ..Counts::default() };
    let silent = Summary { counts: silent, ..summary(&path(1, 1), NEWEST, 100, 1) };
    let mut earlier = told.clone();
    (earlier.start, earlier.end) = (Wall((NEWEST - 2 * INTERVAL) * S), Wall((NEWEST - INTERVAL) * S));
    let server = serve(&Memory::of(vec![earlier, summary(&path(2, 1), NEWEST, 0, 1), silent, told]));
    let paths = objects(&ask(&server, "/paths?order=dscp_changed"), "paths");
    let (first, last) = (&paths[0], &paths[2]);
    for (name, expected) in [
        ("size", json!(1400)),
        ("lost", json!(40)),
        ("syn_acks", json!(8)),
        ("resets", json!(9)),
        ("corrupted", json!(1)),
        ("refused", json!(2)),
        ("prohibited", json!(3)),
        ("time_exceeded", json!(4)),
        ("too_big", json!(5)),
        ("unreachable", json!(6)),
        ("class_reports", json!(60)),
        ("dscp_changed", json!(63)),
        ("dscp_changed_forward", json!(40)),
        ("dscp_changed_reverse", json!(11)),
        ("dscp_changed_either", json!(12)),
        ("ecn_marked_forward", json!(13)),
        ("ecn_marked_reverse", json!(14)),
        ("dscp_changed_percent", json!(50.0)), // 40 of 60 reports and 20 errors
        ("dscp_seen_forward", json!(0)),
        ("dscp_seen_reverse", json!(8)),
        ("dscp_seen_either", Value::Null),
        ("mtu", json!(1400)),
    ] {
        assert_eq!(first[name], expected, "{name}");
    }
    assert_eq!((&last["id"], &last["dscp_changed_percent"]), (&json!(id(1, 1)), &Value::Null), "nothing came back");
    let sizes = ask(&server, "?rows=dscp&columns=size");
    assert_eq!((&sizes["rows"]["values"], &sizes["columns"]["values"]), (&json!(["0", "46"]), &json!(["", "1400"])));
    let flow = &ask(&server, "/flows?span=60&where=dscp%3D46")["flows"][0];
    assert_eq!((&flow["dscp_changed_forward"], &flow["dscp_changed_reverse"]), (&json!(40), &json!(6)));
    let of = ["path", "source", "target", "dscp"].map(|name| format!("{name}={}", flow[name]).replace('"', ""));
    let points = &ask(&server, &format!("/flow?span=60&{}", of.join("&")))["points"];
    let changed = |n: usize| (points[n]["dscp_changed_forward"].clone(), points[n]["dscp_changed_reverse"].clone());
    assert_eq!([changed(0), changed(1)], [(json!(20), json!(3)), (json!(20), json!(3))]);
}

#[test]
fn flows_join_over_time_and_one_is_followed() {
    let server = serve(&Memory::of(fleet()));
    let answer = ask(&server, "/flows?span=60&limit=3");
    assert_eq!((&answer["total"], answer["flows"].as_array().unwrap().len()), (&json!(32), 3));
    let worst = &answer["flows"][0];
    assert_eq!(worst["path"], id(0, 2));
    assert_eq!((&worst["source"], &worst["target"]), (&json!("10.0.0.0:33000"), &json!("10.0.1.2:8100")));
    assert_eq!((&worst["sent"], &worst["lost"], &worst["intervals"]), (&json!(300), &json!(10), &json!(6)));
    assert_eq!((&worst["lost_forward"], &worst["tags"]["note"]), (&json!(10), &json!(NASTY)));
    assert_eq!(worst["rtt_ms"], json!({"samples": 290, "min": 5.0, "mean": 5.0, "max": 5.0}));
    assert_eq!(ask(&server, "/flows?order=rtt&limit=1")["flows"][0]["rtt_ms"]["mean"], 5.0);

    let flow =
        format!("path={}&source={}&target={}&dscp=0", id(0, 2), encoded("10.0.0.0:33000"), encoded("10.0.1.2:8100"));
    let answer = ask(&server, &format!("/flow?{flow}&span=60"));
    assert_eq!((&answer["path"], &answer["source"]), (&json!(id(0, 2)), &json!("10.0.0.0:33000")));
    let points = answer["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[5]["end"]), (6, &json!(TO)));
    assert_eq!(
        (&points[4]["lost"], &points[5]["lost"], &points[5]["loss_percent"]),
        (&json!(0), &json!(10), &json!(20.0))
    );
    assert_eq!(points[5]["rtt_ms"]["samples"], 40);
    let none = ask(&server, &format!("/flow?{}", flow.replace("33000", "33009")));
    assert_eq!(none["points"], json!([]));
}

#[test]
fn a_series_joins_paths_step_by_step() {
    let server = serve(&Memory::of(fleet()));
    let answer = ask(&server, "/series?span=60");
    assert_eq!((&answer["step_s"], &answer["resolution_s"]), (&json!(10.0), &json!(10.0)));
    let points = objects(&answer, "points");
    assert_eq!(points.len(), 6);
    assert_eq!((&points[5]["end"], &points[5]["sent"], &points[5]["lost"]), (&json!(TO), &json!(1600), &json!(11)));
    assert_eq!((&points[0]["lost"], &points[0]["flows"]), (&json!(1), &json!(32)));
    let total = &answer["total"];
    assert_eq!((&total["sent"], &total["lost"], &total["flows"]), (&json!(9600), &json!(16), &json!(32)));
    let histogram = total["rtt_histogram"].as_array().unwrap();
    assert_eq!(histogram.iter().map(|pair| pair[1].as_u64().unwrap()).sum::<u64>(), 9600 - 16);
    assert_eq!(histogram.len(), 2);

    let coarse = ask(&server, "/series?span=60&points=2");
    assert_eq!((&coarse["step_s"], coarse["points"].as_array().unwrap().len()), (&json!(30.0), 2));
    let racks = ask(&server, &format!("/series?{}", condition("dst_rack", "d0")));
    assert_eq!((&racks["total"]["lost"], &racks["total"]["sent"]), (&json!(0), &json!(800)));
}

#[test]
fn probers_say_what_they_did_themselves() {
    let server = serve(&Memory::of(fleet()));
    let answer = ask(&server, "/probers?span=60");
    let probers = answer["probers"].as_array().unwrap();
    assert_eq!(probers.len(), 4);
    let (fine, bad) = (&probers[0], &probers[2]);
    assert_eq!((&fine["src_ip"], &fine["paths"], &fine["suspects"]), (&json!("10.0.0.0"), &json!(4), &json!(0)));
    assert_eq!((&fine["summaries"], &fine["newest"]), (&json!(24), &json!(TO)));
    assert_eq!((&bad["suspects"], &bad["not_sent"]), (&json!(4), &json!(12)));
    let reasons = json!({"local_drops": 4, "not_sent": 4, "stamps_lost": 0, "clock_step": 0, "tally_dropped": 0});
    assert_eq!(bad["suspect"], reasons);
    assert_eq!(bad["local_drops"], 7, "every path of a prober tells the same drops");
    assert_eq!(bad["lateness_p99_ms"], Value::Null);
}

#[test]
fn nothing_measured_is_no_mistake() {
    let server = serve(&Memory::of(Vec::new()));
    let extent = ask(&server, "/extent");
    assert_eq!((&extent["newest"], &extent["oldest"], &extent["paths"]), (&Value::Null, &Value::Null, &json!(0)));
    for (path, list) in
        [("", "cells"), ("/paths", "paths"), ("/flows", "flows"), ("/series", "points"), ("/probers", "probers")]
    {
        let answer = ask(&server, path);
        assert_eq!(answer[list], json!([]), "{path}");
        assert!(answer["to"].is_string() && answer["resolution_s"].is_number(), "{path}: {answer}");
    }
}

#[test]
fn texts_come_back_as_texts() {
    let server = serve(&Memory::of(fleet()));
    let path = format!("/api/v1/matrix?rows=note&columns={}", encoded(NASTY));
    let answer = get(server.address(), &path);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let object = answer.json();
    assert_eq!(object["rows"], json!({"key": "note", "values": [NASTY]}));
    assert_eq!(object["columns"], json!({"key": NASTY, "values": [""]}), "no path has this tag");
    let head = request(server.address(), &format!("HEAD {path}"), "");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
