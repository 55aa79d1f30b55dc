//! The lists below the matrix: the worst paths and the worst flows.
//!
//! Read [`paths`] and [`flows`].

use super::answer::{Figures, Flows, Paths};
use super::text::{self, class, clean, cut, fit, wrapped};
use crate::cli::layout::{self, BAD, DOUBT, HEAD, Side, paint};
use crate::cli::units::{count, percent, several, time};
use serde_json::{Map, Value};

/// Columns of a path's group and tags.
const LABEL: usize = 28;
/// Fewer say nothing.
const LABEL_LEAST: usize = 12;
/// What their heading says.
const GROUP: &str = "group";

/// A row of a list.
struct Row {
    cells: Vec<String>,
    suspect: bool,
    /// What is said of it on a line of its own; empty for none.
    said: String,
}

/// A list: what it is called, its heading, its lines. Empty where nothing is to be shown.
fn list(title: &str, heads: &[(&str, Side)], rows: &[Row], width: usize) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    // a column that says nothing anywhere is left out, but for the numbers
    let told = |at: &usize| heads[*at].1 == Side::Right || rows.iter().any(|row| !row.cells[*at].is_empty());
    let kept: Vec<usize> = (0..heads.len()).filter(told).collect();
    let heads: Vec<_> = kept.iter().map(|at| heads[*at]).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| kept.iter().map(|at| row.cells[*at].clone()).collect()).collect();
    let mut lines = fitted(heads, cells, width).into_iter().map(|line| cut(&line, width));
    let mut shown = vec![paint(HEAD, &cut(title, width))];
    shown.extend(lines.next().map(|heading| paint(HEAD, &heading)));
    for (line, row) in lines.zip(rows) {
        let style = if row.suspect { DOUBT } else { BAD };
        shown.push(paint(style, &line));
        if !row.said.is_empty() {
            let said = wrapped(&row.said, width.saturating_sub(2));
            shown.extend(said.iter().map(|line| paint(style, &format!("  {line}"))));
        }
    }
    shown
}

/// Heading and lines of a list. Where they are wider than `width`, groups are shortened, then left out: numbers matter more.
fn fitted(mut heads: Vec<(&str, Side)>, mut cells: Vec<Vec<String>>, width: usize) -> Vec<String> {
    let lines = layout::columns(0, &heads, &cells);
    let excess = lines.iter().map(|line| text::width(line)).max().unwrap_or(0).saturating_sub(width);
    let Some(at) = heads.iter().position(|(head, _)| *head == GROUP).filter(|_| excess > 0) else { return lines };
    let room = cells.iter().map(|row| text::width(&row[at])).max().unwrap_or(0).saturating_sub(excess);
    if room < LABEL_LEAST {
        heads.remove(at);
        cells.iter_mut().for_each(|row| drop(row.remove(at)));
    } else {
        cells.iter_mut().for_each(|row| row[at] = fit(&row[at], room));
    }
    layout::columns(0, &heads, &cells)
}

fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| time(ms * 1e6))
}

fn tags(of: Option<&Value>) -> String {
    let Some(Value::Object(tags)) = of else { return String::new() };
    let tags = tags.iter().map(|(name, value)| format!(" {name}={}", value.as_str().unwrap_or_default()));
    tags.collect()
}

/// Group and tags in one text.
fn label(group: Option<&str>, of: Option<&Value>) -> String {
    fit(&clean((group.unwrap_or_default().to_owned() + &tags(of)).trim()), LABEL)
}

/// What is not usual: the method, the class, a size.
fn kind(method: Option<&str>, dscp: Option<u64>, size: Option<u64>) -> String {
    let method = method.filter(|method| *method != "udp").map(clean);
    let dscp = dscp.filter(|dscp| *dscp != 0).map(class);
    let size = size.map(|size| format!("{size} B"));
    method.into_iter().chain(dscp).chain(size).collect::<Vec<_>>().join(" ")
}

/// What came of the probes of a path that are counted as lost, and of its class: `12 refused, 3 too big (MTU 1400)`.
fn outcomes(path: &Figures) -> String {
    let told = |name, what: String| (path.count(name), what);
    let mtu = path.value("mtu").and_then(Value::as_u64).map_or(String::new(), |mtu| format!(" (MTU {mtu})"));
    let kinds = [
        told("refused", "refused".into()),
        told("prohibited", "prohibited".into()),
        told("time_exceeded", "hop limit reached".into()),
        told("too_big", format!("too big{mtu}")),
        told("corrupted", "corrupted".into()),
        told("unreachable", "unreachable".into()),
    ];
    let known: u64 = kinds.iter().fold(0, |sum, (n, _)| sum.saturating_add(*n));
    let mut parts: Vec<String> =
        kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(n))).collect();
    let silent = path.count("lost").saturating_sub(known);
    let directed = path.count("lost_forward").max(path.count("lost_reverse")) > 0;
    // that there was no answer, and no more, is what loss means anyway
    if silent > 0 && (directed || known > 0) {
        let ways = [("lost_forward", "there"), ("lost_reverse", "back")];
        let ways = ways.into_iter().map(|(name, way)| (path.count(name), way)).filter(|(n, _)| *n > 0);
        let ways: Vec<String> = ways.map(|(n, way)| format!("{} {way}", count(n))).collect();
        let ways = if ways.is_empty() { String::new() } else { format!(" ({})", ways.join(", ")) };
        parts.push(format!("{} no answer{ways}", count(silent)));
    }
    let asked = path.value("dscp").and_then(Value::as_u64).map_or("class".to_owned(), class);
    for (changed, seen, arrived, way) in [
        ("dscp_changed_forward", "dscp_seen_forward", "arrived", "forward"),
        ("dscp_changed_reverse", "dscp_seen_reverse", "came back", "reverse"),
        ("dscp_changed_either", "dscp_seen_either", "came back", "way unknown"),
    ] {
        let n = path.count(changed);
        let seen = path.value(seen).and_then(Value::as_u64).map_or("another class".to_owned(), class);
        parts.extend((n > 0).then(|| format!("{} of {asked} {arrived} as {seen} ({way})", count(n))));
    }
    parts.join(", ")
}

/// The worst paths: those that lost or whose class was changed, or all of the answer when `all`.
pub fn paths(answer: &Paths, all: bool, width: usize) -> Vec<String> {
    let heads = [
        ("path", Side::Left),
        ("kind", Side::Left),
        (GROUP, Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("rtt p50", Side::Right),
        ("p99", Side::Right),
        ("lossy flows", Side::Right),
    ];
    let figures = answer.paths.iter().map(|values| answer.fields.of(values));
    let bad = |path: &Figures| path.count("lost") > 0 || path.count("dscp_changed") > 0;
    let rows = figures.filter(|path| all || bad(path)).map(|path| Row {
        cells: path_row(&path),
        suspect: path.count("suspects") > 0,
        said: outcomes(&path),
    });
    let title = format!("worst of {}", several(answer.total, "path"));
    list(&title, &heads, &rows.collect::<Vec<_>>(), width)
}

fn path_row(path: &Figures) -> Vec<String> {
    let ends = format!("{} → {}", path.text("src_ip").unwrap_or("?"), path.text("dst_ip").unwrap_or("?"));
    let bound = if path.text("percentiles") == Some("bound") { "≤" } else { "" };
    let percentile = |name| match path.number(name) {
        Some(ms) => format!("{bound}{}", milliseconds(Some(ms))),
        None => milliseconds(None),
    };
    let doubt = if path.count("suspects") > 0 { "~" } else { "" };
    vec![
        clean(&ends),
        kind(
            path.text("method"),
            path.value("dscp").and_then(Value::as_u64),
            path.value("size").and_then(Value::as_u64),
        ),
        label(path.text("group"), path.value("tags")),
        count(path.count("sent")),
        count(path.count("lost")),
        path.number("loss_percent").map_or("–".to_owned(), |loss| format!("{doubt}{}", percent(loss))),
        percentile("rtt_p50_ms"),
        percentile("rtt_p99_ms"),
        format!("{}/{}", path.count("flows_with_loss"), path.count("flows")),
    ]
}

/// `20 there, 3 back`
fn changed(there: u64, back: u64) -> String {
    let ways = [(there, "there"), (back, "back")].into_iter().filter(|(n, _)| *n > 0);
    ways.map(|(n, way)| format!("{} {way}", count(n))).collect::<Vec<_>>().join(", ")
}

/// The worst flows: those that lost or whose class was changed, or all of the answer when `all`.
pub fn flows(answer: &Flows, all: bool, width: usize) -> Vec<String> {
    let heads = [
        ("flow", Side::Left),
        ("kind", Side::Left),
        (GROUP, Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("there/back", Side::Right),
        ("rtt mean", Side::Right),
        ("max", Side::Right),
        ("class changed", Side::Left),
    ];
    let number = |flow: &Map<String, Value>, name: &str| flow.get(name).and_then(Value::as_u64).unwrap_or(0);
    let bad = |flow: &Map<String, Value>| {
        ["lost", "dscp_changed_forward", "dscp_changed_reverse"].iter().any(|name| number(flow, name) > 0)
    };
    let lossy = answer.flows.iter().filter(|flow| all || bad(flow));
    let rows = lossy.map(|flow| {
        let text = |name: &str| flow.get(name).and_then(Value::as_str);
        let rtt = |name: &str| milliseconds(flow.get("rtt_ms").and_then(|rtt| rtt.get(name)).and_then(Value::as_f64));
        let cells = vec![
            clean(&format!("{} → {}", text("source").unwrap_or("?"), text("target").unwrap_or("?"))),
            kind(text("method"), flow.get("dscp").and_then(Value::as_u64), None),
            label(text("group"), flow.get("tags")),
            count(number(flow, "sent")),
            count(number(flow, "lost")),
            flow.get("loss_percent").and_then(Value::as_f64).map_or("–".to_owned(), percent),
            format!("{}/{}", count(number(flow, "lost_forward")), count(number(flow, "lost_reverse"))),
            rtt("mean"),
            rtt("max"),
            changed(number(flow, "dscp_changed_forward"), number(flow, "dscp_changed_reverse")),
        ];
        Row { cells, suspect: false, said: String::new() }
    });
    list(&format!("worst of {} kept", several(answer.total, "flow")), &heads, &rows.collect::<Vec<_>>(), width)
}
