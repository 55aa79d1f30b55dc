//! The lists below the matrix: the worst paths and the worst flows.
//!
//! Read [`paths`] and [`flows`].

use super::answer::{Figures, Flows, Paths};
use super::text::{clean, cut, fit};
use crate::cli::layout::{self, BAD, DOUBT, HEAD, Side, paint};
use crate::cli::units::{count, percent, several, time};
use serde_json::{Map, Value};

/// Columns of a path's group and tags.
const LABEL: usize = 28;

/// A list: what it is called, its heading, its lines. Empty where nothing is to be shown.
fn list(title: &str, heads: &[(&str, Side)], rows: Vec<(Vec<String>, bool)>, width: usize) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let (cells, suspect): (Vec<_>, Vec<bool>) = rows.into_iter().unzip();
    // a column that says nothing anywhere is left out, but for the numbers
    let told = |at: &usize| heads[*at].1 == Side::Right || cells.iter().any(|row: &Vec<String>| !row[*at].is_empty());
    let kept: Vec<usize> = (0..heads.len()).filter(told).collect();
    let heads: Vec<_> = kept.iter().map(|at| heads[*at]).collect();
    let cells: Vec<Vec<String>> = cells.iter().map(|row| kept.iter().map(|at| row[*at].clone()).collect()).collect();
    let lines = layout::columns(0, &heads, &cells).into_iter().map(|line| cut(&line, width));
    let mut shown = vec![paint(HEAD, &cut(title, width))];
    for (at, line) in lines.enumerate() {
        let style = match at.checked_sub(1) {
            None => HEAD,
            Some(row) if suspect[row] => DOUBT,
            Some(_) => BAD,
        };
        shown.push(paint(style, &line));
    }
    shown
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

/// What is not usual: the method, the class.
fn kind(method: Option<&str>, dscp: Option<u64>) -> String {
    let method = method.filter(|method| *method != "udp").map(clean);
    let dscp = dscp.filter(|dscp| *dscp != 0).map(|dscp| format!("dscp {dscp}"));
    method.into_iter().chain(dscp).collect::<Vec<_>>().join(" ")
}

/// The worst paths: those that lost, or all of the answer when `all`.
pub fn paths(answer: &Paths, all: bool, width: usize) -> Vec<String> {
    let heads = [
        ("path", Side::Left),
        ("kind", Side::Left),
        ("group", Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("rtt p50", Side::Right),
        ("p99", Side::Right),
        ("lossy flows", Side::Right),
    ];
    let figures = answer.paths.iter().map(|values| answer.fields.of(values));
    let rows =
        figures.filter(|path| all || path.count("lost") > 0).map(|path| (path_row(&path), path.count("suspects") > 0));
    let title = format!("worst of {}", several(answer.total, "path"));
    list(&title, &heads, rows.collect(), width)
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
        kind(path.text("method"), path.value("dscp").and_then(Value::as_u64)),
        label(path.text("group"), path.value("tags")),
        count(path.count("sent")),
        count(path.count("lost")),
        path.number("loss_percent").map_or("–".to_owned(), |loss| format!("{doubt}{}", percent(loss))),
        percentile("rtt_p50_ms"),
        percentile("rtt_p99_ms"),
        format!("{}/{}", path.count("flows_with_loss"), path.count("flows")),
    ]
}

/// The worst flows: those that lost, or all of the answer when `all`.
pub fn flows(answer: &Flows, all: bool, width: usize) -> Vec<String> {
    let heads = [
        ("flow", Side::Left),
        ("kind", Side::Left),
        ("group", Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("there/back", Side::Right),
        ("rtt mean", Side::Right),
        ("max", Side::Right),
    ];
    let number = |flow: &Map<String, Value>, name: &str| flow.get(name).and_then(Value::as_u64).unwrap_or(0);
    let lossy = answer.flows.iter().filter(|flow| all || number(flow, "lost") > 0);
    let rows = lossy.map(|flow| {
        let text = |name: &str| flow.get(name).and_then(Value::as_str);
        let rtt = |name: &str| milliseconds(flow.get("rtt_ms").and_then(|rtt| rtt.get(name)).and_then(Value::as_f64));
        let row = vec![
            clean(&format!("{} → {}", text("source").unwrap_or("?"), text("target").unwrap_or("?"))),
            kind(text("method"), flow.get("dscp").and_then(Value::as_u64)),
            label(text("group"), flow.get("tags")),
            count(number(flow, "sent")),
            count(number(flow, "lost")),
            flow.get("loss_percent").and_then(Value::as_f64).map_or("–".to_owned(), percent),
            format!("{}/{}", count(number(flow, "lost_forward")), count(number(flow, "lost_reverse"))),
            rtt("mean"),
            rtt("max"),
        ];
        (row, false)
    });
    list(&format!("worst of {} kept", several(answer.total, "flow")), &heads, rows.collect(), width)
}
