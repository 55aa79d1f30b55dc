//! The screen, as whole texts.

use super::answer::{Flows, Paths, read};
use super::json;
use super::metric::Metric;
use super::samples::{matrix, picture, racks, read_matrix, read_probers};
use super::text;
use super::view::{Options, Picture, render};
use crate::time::Wall;
use serde_json::{Value, json as value};

fn options(metric: Metric, width: usize) -> Options {
    Options { metric, width, ..Options::default() }
}

/// As it is shown without colours; every line fits.
fn shown(picture: &Picture, options: &Options) -> String {
    let text = anstream::adapter::strip_str(&render(picture, options)).to_string();
    let wide: Vec<&str> = text.lines().filter(|line| text::width(line) > options.width).collect();
    assert!(wide.is_empty(), "wider than {}: {wide:#?}", options.width);
    assert!(!text.chars().any(|c| text::steers(c) && c != '\n'), "{text:?}");
    text
}

#[track_caller]
fn is(text: &str, expected: &str) {
    assert!(text == expected, "\n{text}");
}

fn with_worst(mut picture: Picture) -> Picture {
    let paths = value!({"total": 16, "fields": ["id", "src_ip", "dst_ip", "method", "dscp", "group", "tags", "suspects", "sent",
        "lost", "loss_percent", "rtt_p50_ms", "rtt_p99_ms", "percentiles", "flows", "flows_with_loss"],
        "paths": [
            ["1", "192.0.2.3", "198.51.100.2", "udp", 0, "east", {"dst_rack": "b2"}, 0, 500, 500, 100.0, null, null, null, 8, 8],
            ["2", "192.0.2.1", "198.51.100.2", "udp", 46, "east", {"dst_rack": "b2"}, 1, 500, 30, 6.0, 0.2, 0.5, "bound", 8, 1],
            ["3", "192.0.2.1", "198.51.100.1", "udp", 0, "east", {}, 0, 500, 0, 0.0, 0.2, 0.5, "exact", 8, 0]]});
    let flows = value!({"total": 64, "flows": [
        {"path": "1", "source": "192.0.2.3:33001", "target": "198.51.100.2:8100", "dscp": 0, "group": "east", "tags": {},
         "sent": 63, "lost": 63, "loss_percent": 100.0, "lost_forward": 0, "lost_reverse": 0, "rtt_ms": null},
        {"path": "2", "source": "192.0.2.1:33007", "target": "198.51.100.2:8100", "dscp": 46, "group": "east", "tags": {},
         "sent": 63, "lost": 30, "loss_percent": 47.6, "lost_forward": 30, "lost_reverse": 0,
         "rtt_ms": {"samples": 33, "min": 0.1, "mean": 0.2, "max": 0.5}}]});
    picture.paths = Some(read::<Paths>(paths.to_string().as_bytes()).unwrap());
    picture.flows = Some(read::<Flows>(flows.to_string().as_bytes()).unwrap());
    picture
}

#[test]
fn the_whole_screen() {
    is(
        &shown(&with_worst(picture(&racks())), &options(Metric::Loss, 110)),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
16 paths: 106 500 sent, 531 lost (0.50 %)
probers: 2 sound

src_rack \\ dst_rack     b1   b2  b3
a1                       0  3.0   0
a2                   ~0.10    0   ·
a3                       0  100   0
· no data   0 no loss   ~ suspect: may be the prober's own doing

worst of 16 paths
path                      kind     group             sent  lost    loss  rtt p50      p99  lossy flows
192.0.2.3 → 198.51.100.2           east dst_rack=b2   500   500   100 %        –        –          8/8
192.0.2.1 → 198.51.100.2  EF (46)  east dst_rack=b2   500    30  ~6.0 %  ≤200 µs  ≤500 µs          1/8

worst of 64 flows kept
flow                                 kind     group  sent  lost    loss  there/back  rtt mean     max
192.0.2.3:33001 → 198.51.100.2:8100           east     63    63   100 %         0/0         –       –
192.0.2.1:33007 → 198.51.100.2:8100  EF (46)  east     63    30  47.6 %        30/0    200 µs  500 µs
",
    );
}

#[test]
fn groups_make_room_for_numbers() {
    let lists = |columns| {
        let text = shown(&with_worst(picture(&racks())), &options(Metric::Loss, columns));
        text.split_once("worst of 16 paths\n").unwrap().1.to_owned()
    };
    let shorter = lists(98);
    assert!(shorter.lines().next().unwrap().ends_with("lossy flows"), "{shorter}");
    assert!(shorter.contains("east d") && shorter.contains('…') && !shorter.contains("dst_rack=b2"), "{shorter}");
    let without = lists(88);
    assert!(without.lines().next().unwrap().ends_with("lossy flows"), "{without}");
    assert!(!without.contains("group") && !without.contains("east"), "{without}");
}

#[test]
fn sends_that_failed_are_told_of_a_sound_prober() {
    let mut picture = picture(&racks());
    let prober = |n: u64, failed: u64| value!({"src_ip": format!("192.0.2.{n}"), "summaries": 12, "suspects": 0, "suspect": {}, "send_failed": failed});
    picture.probers = read_probers(&value!({"probers": [prober(1, 0), prober(2, 1300)]}));
    let text = shown(&picture, &options(Metric::Loss, 80));
    let told =
        "probers: 2 sound\n  192.0.2.2: 1300 sends failed, not measured: no route, no buffer or a firewall\n  there\n";
    assert!(text.contains(told), "{text}");
    assert!(!text.contains("192.0.2.1:"), "{text}");
}

#[test]
fn kinds_of_loss_and_changed_classes_are_said_in_words() {
    let paths = value!({"total": 9, "fields": ["id", "src_ip", "dst_ip", "method", "dscp", "size", "sent", "lost", "loss_percent",
        "lost_forward", "refused", "too_big", "mtu", "dscp_changed", "dscp_changed_forward", "dscp_seen_forward"],
        "paths": [
            ["1", "192.0.2.3", "198.51.100.2", "tcp-syn", 0, null, 500, 500, 100.0, 0, 480, 0, null, 0, 0, null],
            ["2", "192.0.2.1", "198.51.100.2", "udp", 46, 1400, 500, 30, 6.0, 4, 0, 20, 1280, 120, 120, 0],
            ["3", "192.0.2.1", "198.51.100.3", "udp", 18, null, 500, 0, 0.0, 0, 0, 0, null, 2, 2, null],
            ["4", "192.0.2.1", "198.51.100.4", "udp", 0, null, 500, 1, 0.2, 0, 0, 0, null, 0, 0, null],
            ["5", "192.0.2.1", "198.51.100.5", "udp", 0, null, 500, 0, 0.0, 0, 0, 0, null, 0, 0, null]]});
    let shares = matrix(&["a1"], &["46"], &[(0, 0, 500, 30, 0, value!({"dscp_changed_percent": 25.0}))]);
    let shares = value!({"rows": {"key": "size", "values": ["1400"]}, "columns": {"key": "dscp", "values": ["46"]}, "from": shares["from"],
        "to": shares["to"], "resolution_s": 10.0, "left_out": 0, "fields": shares["fields"], "cells": shares["cells"], "before": null});
    let mut picture = picture(&shares);
    picture.paths = Some(read::<Paths>(paths.to_string().as_bytes()).unwrap());
    is(
        &shown(&picture, &options(Metric::Dscp, 80)),
        "\
class changed in %: size × dscp
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
2 paths: 500 sent, 30 lost (6.0 %)
probers: 2 sound

size \\ dscp  EF (46)
1400 B          25.0
0 not changed, as far as can be told

worst of 9 paths
path                      kind            sent  lost    loss  rtt p50  p99  los…
192.0.2.3 → 198.51.100.2  tcp-syn          500   500   100 %        –    –     …
  480 refused, 20 no answer
192.0.2.1 → 198.51.100.2  EF (46) 1400 B   500    30   6.0 %        –    –     …
  20 too big (MTU 1280), 10 no answer (4 there), 120 of EF (46) arrived as 0
  (forward)
192.0.2.1 → 198.51.100.3  AF21 (18)        500     0     0 %        –    –     …
  2 of AF21 (18) arrived as another class (forward)
192.0.2.1 → 198.51.100.4                   500     1  0.20 %        –    –     …
",
    );
}

#[test]
fn times_have_one_unit_and_bounds_are_marked() {
    is(
        &shown(&picture(&racks()), &options(Metric::P99, 80)),
        "\
99th percentile of rtt in µs: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
16 paths: 106 500 sent, 531 lost (0.50 %)
probers: 2 sound

src_rack \\ dst_rack      b1   b2   b3
a1                      400  600  420
a2                   ~≤9500  400    ·
a3                      400    –  400
· no data   – nothing came back   ~ suspect: may be the prober's own doing
≤ not above
",
    );
}

#[test]
fn suspect_probers_are_named_and_old_numbers_told() {
    let mut picture = picture(&racks());
    let prober = |n: u64| {
        value!({"src_ip": format!("192.0.2.{n}"), "summaries": 12, "suspects": 3,
        "suspect": {"local_drops": 3, "clock_step": 0}, "not_sent": 40, "local_drops": 7, "lateness_max_ms": 12.5})
    };
    picture.probers = read_probers(&value!({"probers": [prober(1), prober(2), prober(3), prober(4), prober(5)]}));
    let to = picture.matrix.span.ends().unwrap().1;
    let options = Options { now: Some(Wall(to.0 + 61_000_000_000)), ..options(Metric::Loss, 80) };
    is(
        &shown(&picture, &options),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
OLD: nothing newer for 1 min 1 s, by this host's clock
16 paths: 106 500 sent, 531 lost (0.50 %)
probers: 5 of 5 SUSPECT: their numbers may be their own doing (~)
  192.0.2.1: local_drops in 3 of 12 summaries, 40 not sent, 7 dropped here, 12.5
  ms late at most
  192.0.2.2: local_drops in 3 of 12 summaries, 40 not sent, 7 dropped here, 12.5
  ms late at most
  192.0.2.3: local_drops in 3 of 12 summaries, 40 not sent, 7 dropped here, 12.5
  ms late at most
  … 2 more probers

src_rack \\ dst_rack     b1   b2  b3
a1                       0  3.0   0
a2                   ~0.10    0   ·
a3                       0  100   0
· no data   0 no loss   ~ suspect: may be the prober's own doing
",
    );
}

fn squares(rows: usize, columns: usize, cell: impl Fn(usize, usize) -> (u64, u64)) -> Value {
    let name = |side: &str, n: usize| format!("frankfurt-{side}-rack-{n:03}");
    let rows: Vec<String> = (0..rows).map(|n| name("src", n)).collect();
    let columns: Vec<String> = (0..columns).map(|n| name("dst", n)).collect();
    let cells = (0..rows.len()).flat_map(|row| (0..columns.len()).map(move |column| (row, column)));
    let cells: Vec<_> = cells
        .map(|(row, column)| {
            let (sent, lost) = cell(row, column);
            (row, column, sent, lost, 0, value!({"rtt_mean_ms": 1.0 + row as f64}))
        })
        .collect();
    matrix(
        &rows.iter().map(String::as_str).collect::<Vec<_>>(),
        &columns.iter().map(String::as_str).collect::<Vec<_>>(),
        &cells,
    )
}

#[test]
fn narrow_columns_have_names_written_downwards() {
    let answer = squares(3, 12, |row, column| (100, u64::from(row == 1 && column == 7)));
    is(
        &shown(&picture(&answer), &options(Metric::Loss, 80)),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
72 paths: 3600 sent, 1 lost (0.028 %)
probers: 2 sound

columns: frankfurt-dst-rack-…
src_rack \\ dst_rack    000 001 002 003 004 005 006 007 008 009 010 011
frankfurt-src-rack-000   0   0   0   0   0   0   0   0   0   0   0   0
frankfurt-src-rack-001   0   0   0   0   0   0   0 1.0   0   0   0   0
frankfurt-src-rack-002   0   0   0   0   0   0   0   0   0   0   0   0
0 no loss
",
    );
    is(
        &shown(&picture(&answer), &options(Metric::Loss, 30)),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, co…
2024-02-29 12:30:00 – 12:30:10
UTC, interval 10.0 s
72 paths: 3600 sent, 1 lost
(0.028 %)
probers: 2 sound

columns: frankfurt-dst-rack-…
           0 0 0 0 0 0 0   0 0
           0 0 0 0 0 0 0   0 0
src_r…rack 0 1 2 3 4 5 6   7 8
frank…-000 0 0 0 0 0 0 0   0 0
frank…-001 0 0 0 0 0 0 0 1.0 0
frank…-002 0 0 0 0 0 0 0   0 0
… 3 more columns, without loss
0 no loss
",
    );
}

#[test]
fn of_two_hundred_columns_the_worst_are_shown() {
    let answer =
        squares(200, 200, |row, column| (1000, if row == column && column.is_multiple_of(40) { 10 } else { 0 }));
    let options = Options { height: Some(24), ..options(Metric::Loss, 80) };
    is(
        &shown(&picture(&answer), &options),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
80 000 paths: 40 000 000 sent, 50 lost (<0.001 %)
probers: 2 sound

columns: frankfurt-dst-rack-…
                         0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   1   1
                         0 0 0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1 1 1   4   8   2   6
src_rack \\ dst_rack      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9   0   0   0   0
frankfurt-src-rack-000 1.0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0   0
frankfurt-src-rack-001   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0   0
frankfurt-src-rack-002   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0   0
frankfurt-src-rack-003   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0   0
frankfurt-src-rack-004   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0   0
frankfurt-src-rack-040   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1.0   0   0   0
frankfurt-src-rack-080   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0 1.0   0   0
frankfurt-src-rack-120   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0 1.0   0
frankfurt-src-rack-160   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   0   0   0 1.0
… 191 more rows, without loss
… 176 more columns, without loss
0 no loss
",
    );
    let rtt = shown(&picture(&answer), &Options { metric: Metric::Rtt, ..options });
    assert!(rtt.contains("more rows, none above "), "{rtt}");
}

#[test]
fn changes_against_before() {
    let mut answer = racks();
    let mut before = racks();
    // a2 × b1 lost more, a1 × b2 less, and a3 was not there
    before["cells"][1][5] = value!(100);
    before["cells"][1][6] = value!(10.0);
    before["cells"][3][6] = value!(0.0);
    before["rows"]["values"][2] = value!("gone");
    before["from"] = value!("2024-02-28T12:30:00Z");
    before["to"] = value!("2024-02-28T12:30:10Z");
    before.as_object_mut().unwrap().remove("fields");
    answer["before"] = before;
    is(
        &shown(&picture(&answer), &options(Metric::Loss, 80)),
        "\
change of loss in percentage points: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
against 2024-02-28 12:30:00 – 12:30:10 UTC
16 paths: 106 500 sent, 531 lost (0.50 %)
probers: 2 sound

src_rack \\ dst_rack      b1    b2  b3
a1                        0  -7.0   0
a2                   ~+0.10     0   ·
a3                       *0  *100  *0
· no data   0 no change   ~ suspect: may be the prober's own doing
* not there before: its value
",
    );
    let p99 = shown(&picture(&answer), &options(Metric::P99, 80));
    assert!(
        p99.contains("change of 99th percentile of rtt in µs") && p99.contains("~≈0") && p99.contains("*400"),
        "{p99}"
    );
}

#[test]
fn names_that_are_nasty_are_shown_as_text() {
    let answer = matrix(
        &["\u{1b}[2J\u{1b}]0;owned\u{7}", "", "東京-rack-1"],
        &["<b>'\"\n", "\u{202e}gnp.exe", "a\u{9b}31m"],
        &[(0, 0, 10, 1, 0, value!({})), (1, 1, 10, 0, 0, value!({})), (2, 2, 10, 0, 0, value!({}))],
    );
    let mut picture = picture(&answer);
    picture.extent.source = "history in /tmp/\u{1b}[31m".into();
    picture.extent.role = "\r\n".into();
    picture.probers =
        read_probers(&value!({"probers": [{"src_ip": "\u{1b}c", "suspects": 1, "suspect": {"\u{7}": 1}}]}));
    picture.matrix.rows.key = "k\u{1b}".into();
    let options = Options { filter: vec![("a\u{1b}".into(), "b\u{9b}".into())], ..options(Metric::Loss, 80) };
    is(
        &shown(&picture, &options),
        "\
loss in %: k� × dst_rack where a�=b�
history in /tmp/�[31m, �� at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
6 paths: 30 sent, 1 lost (3.3 %)
probers: 1 of 1 SUSPECT: their numbers may be their own doing (~)
  �c: � in 1 of 0 summaries

k� \\ dst_rack   <b>'\"�  �gnp.exe  a�31m
�[2J�]0;owned�    10.0         ·      ·
(none)               ·         0      ·
東京-rack-1          ·         ·      0
· no data   0 no loss
",
    );
    let line = json::line(&picture).unwrap();
    assert!(!line.trim_end().chars().any(text::steers), "{line:?}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["cells"][0]["row"], "\u{1b}[2J\u{1b}]0;owned\u{7}");
    assert_eq!(read["columns"]["values"][2], "a\u{9b}31m");
}

#[test]
fn nothing_measured_is_said() {
    let mut answer = matrix(&[], &[], &[]);
    is(
        &shown(&picture(&answer), &options(Metric::Loss, 80)),
        "\
loss in %: src_rack × dst_rack
history in /var/lib/llama, collector at http://127.0.0.1:5000
2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s
0 paths: 0 sent, 0 lost (0 %)
probers: 2 sound

nothing was measured in this time
",
    );
    answer["from"] = Value::Null;
    answer["to"] = Value::Null;
    let text = shown(&picture(&answer), &options(Metric::Loss, 80));
    assert!(text.contains("no interval has ended yet"), "{text}");
}

#[test]
fn a_frame_is_never_higher_than_the_terminal() {
    let answer = squares(40, 4, |row, column| (100, (row * column % 3) as u64));
    for height in [5, 10, 24, 50] {
        let note = Some("NOT UPDATED for 5.0 s: no answer".to_owned());
        let options = Options { height: Some(height), strict: true, note, ..options(Metric::Loss, 80) };
        let text = shown(&with_worst(picture(&answer)), &options);
        assert!(text.lines().count() < height && text.ends_with("no answer\n"), "{height}:\n{text}");
    }
}

#[test]
fn colours_are_explained_where_there_are_some() {
    let options = Options { colour: true, ..options(Metric::Loss, 80) };
    let text = render(&picture(&racks()), &options);
    // 3 % is level 3, all lost is level 5 in bold, no loss has no colour
    assert!(text.contains("\u{1b}[38;5;16m\u{1b}[48;5;214m3.0\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\u{1b}[1m\u{1b}[38;5;231m\u{1b}[48;5;54m100\u{1b}[0m"), "{text:?}");
    assert!(text.contains("colours from: "), "{text:?}");
}

#[test]
fn as_json() {
    let mut answer = racks();
    answer["before"] = racks();
    let line = json::line(&with_worst(picture(&answer))).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["cells"][1]["row"], "a1");
    assert_eq!(read["cells"][1]["column"], "b2");
    assert_eq!(read["cells"][1]["loss_percent"], 3.0);
    assert_eq!(read["cells"].as_array().map(Vec::len), Some(8));
    assert_eq!(read["before"]["cells"][1]["lost"], 30);
    assert_eq!(read["rows"], value!({"key": "src_rack", "values": ["a1", "a2", "a3"]}));
    assert_eq!(read["total"]["lost"], 531);
    assert_eq!(read["worst"]["paths"][0]["flows_with_loss"], 8);
    assert_eq!(read["worst"]["flows"][1]["lost_forward"], 30);
    assert_eq!(read["probers"][1]["src_ip"], "192.0.2.2");
    assert_eq!(read["interval_s"], 10.0);
    assert_eq!(read_matrix(&answer).cells.len(), 8);
}
