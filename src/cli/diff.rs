//! The answer of `llama check --diff`: what a reload would change.
//!
//! Not responsible for the difference itself: see [`crate::config::diff`].

use super::layout::{self, DOUBT, GOOD, HEAD, Side, paint};
use super::units::{bytes, count, elapsed, rate};
use crate::config::Diff;
use crate::config::diff::{Both, Names, Numbers};
use std::time::Duration;

/// Names listed of each kind; the JSON object has all.
const LISTED: usize = 10;

/// The report on a reload from the first file to the second, ending in a newline.
pub fn report(files: (&str, &str), diff: &Diff) -> String {
    let mut lines = Vec::new();
    let what = format!("{} → {}", files.0, files.1);
    if diff.unchanged {
        lines.push(paint(GOOD, &format!("{what}: a reload changes nothing")));
    } else {
        lines.push(paint(HEAD, &format!("{what}: what a reload changes")));
        lines.push(String::new());
        lines.extend(numbers(diff));
        lines.push(String::new());
        lines.extend(values(diff));
        for (what, names) in [("target", &diff.targets), ("path", &diff.paths)] {
            lines.extend(list(what, names));
        }
        if !diff.altered.is_empty() {
            lines.push(String::new());
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
            let rows = diff.altered.iter().take(LISTED).map(|a| vec![a.key.clone(), said(&a.old), said(&a.new)]);
            let heads = [("", Side::Left), ("before", Side::Left), ("after", Side::Left)];
            lines.extend(layout::columns(0, &heads, &rows.collect::<Vec<_>>()));
            lines.extend(more(diff.altered.len()));
        }
    }
    if !diff.needs_restart.is_empty() {
        lines.push(String::new());
        lines.extend(diff.needs_restart.iter().map(|what| paint(DOUBT, &format!("needs a restart: {what}"))));
    }
    lines.join("\n") + "\n"
}

/// The report as one JSON object, ending in a newline.
///
/// # Errors
/// Never in practice: the object holds numbers and text only.
pub fn json(diff: &Diff) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(diff)? + "\n")
}

fn numbers(diff: &Diff) -> Vec<String> {
    let of_names = |names: &Names| Numbers { kept: names.kept, added: names.added.len(), removed: names.removed.len() };
    let row = |name: &str, numbers: Numbers, note: String| {
        let n = |n: usize| count(n as u64);
        vec![name.to_owned(), n(numbers.kept), n(numbers.added), n(numbers.removed), note]
    };
    let note = |n: usize, what: &str| if n == 0 { String::new() } else { format!("{} {what}", count(n as u64)) };
    let rows = [
        row("targets", of_names(&diff.targets), String::new()),
        row("paths", of_names(&diff.paths), note(diff.relabelled, "kept ones with another group or tags")),
        row("sockets", diff.sockets, String::new()),
        row("flows", diff.flows, note(diff.flows_at_another_rate, "kept ones at another rate")),
    ];
    let heads =
        [("", Side::Left), ("kept", Side::Right), ("added", Side::Right), ("removed", Side::Right), ("", Side::Left)];
    layout::columns(0, &heads, &rows)
}

fn values(diff: &Diff) -> Vec<String> {
    let row = |name: &str, old: String, new: String| vec![name.to_owned(), old, new];
    let seconds = |s: f64| elapsed(Duration::from_secs_f64(s));
    let Both { old: was, new: is } = diff.interval_s;
    let (slots, memory) = (diff.in_flight_slots, diff.memory);
    let rows = [
        row("interval", seconds(was), seconds(is)),
        row("probes", rate(diff.probes_per_second.old), rate(diff.probes_per_second.new)),
        row("in flight", count(slots.old as u64), count(slots.new as u64)),
        row("memory", bytes(memory.old as u64), bytes(memory.new as u64)),
    ];
    layout::columns(0, &[("", Side::Left), ("before", Side::Right), ("after", Side::Right)], &rows)
}

fn list(what: &str, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (sign, names) in [("+", &names.added), ("-", &names.removed)] {
        if !names.is_empty() {
            lines.push(String::new());
        }
        lines.extend(names.iter().take(LISTED).map(|name| format!("{sign} {what} {name}")));
        lines.extend(more(names.len()));
    }
    lines
}

/// Says how many were not listed.
fn more(all: usize) -> Option<String> {
    (all > LISTED).then(|| format!("  and {} more (--json lists all)", count((all - LISTED) as u64)))
}
