//! The answer of `llama check`: what a configuration will do and cost.
//!
//! Not responsible for the numbers: see [`crate::config::report`].

use super::layout::{self, DIM, DOUBT, GOOD, HEAD, Side, paint};
use super::units::{bytes, count, elapsed, percent, rate};
use crate::config::PlanReport;
use crate::config::report::{Memory, TestReport};
use std::time::Duration;

/// The report on the plan of `file`, ending in a newline.
pub fn report(file: &str, plan: &PlanReport, width: usize) -> String {
    let mut lines = Vec::new();
    let doubts = plan.warnings.list.len() + plan.warnings.more;
    lines.push(match doubts {
        0 => paint(GOOD, &format!("{file}: fine")),
        1 => paint(DOUBT, &format!("{file}: can be run, with 1 warning")),
        n => paint(DOUBT, &format!("{file}: can be run, with {n} warnings")),
    });
    if doubts > 0 {
        lines.extend(plan.warnings.to_string().lines().map(str::to_owned));
    }
    lines.push(String::new());
    lines.extend(totals(plan));
    lines.push(String::new());
    let mut tests = tests(&plan.tests).into_iter();
    lines.extend(tests.next().map(|head| paint(HEAD, &head)));
    lines.extend(tests);
    lines.push(String::new());
    lines.extend(coverage(&plan.tests, width));
    lines.join("\n") + "\n"
}

/// The report as one JSON object, ending in a newline.
///
/// # Errors
/// Never in practice: the object holds numbers and text only.
pub fn json(plan: &PlanReport) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(plan)? + "\n")
}

fn totals(plan: &PlanReport) -> Vec<String> {
    let megabits = plan.ip_bytes_per_second * 8.0 / 1e6;
    let row = |name: &str, value: String, note: String| vec![name.to_owned(), value, note];
    let n = |n: usize| count(n as u64);
    let busiest = plan.tests.iter().map(|test| test.probes_per_second_per_target).fold(0.0, f64::max);
    let mut rows = vec![
        row("probes", rate(plan.probes_per_second), format!("{megabits:.1} Mbit/s of IP packets, and as much back")),
        row("per target", rate(busiest), "at most, of one test".into()),
        row("targets", n(plan.targets), String::new()),
        row(
            "paths",
            n(plan.paths),
            format!("a summary each every {}", elapsed(Duration::from_secs_f64(plan.interval_s))),
        ),
        row("flows", n(plan.flows), String::new()),
        row("sockets", n(plan.sockets), String::new()),
        row("in flight", n(plan.in_flight_slots), "probes remembered at most".into()),
        row("memory", bytes(plan.memory.total as u64), memory(&plan.memory)),
    ];
    if let Some(limit) = plan.syn_limit {
        let note = "to one target, the limit; SYNs need CAP_NET_RAW (scripts/grant-caps)";
        rows.insert(2, row("SYNs", rate(limit.into()), note.into()));
    }
    // without headings: the first line is blank
    layout::columns(0, &[("", Side::Left), ("", Side::Right), ("", Side::Left)], &rows).split_off(1)
}

/// The three largest parts of the sum.
fn memory(memory: &Memory) -> String {
    let mut parts = [
        ("counters", memory.tallies),
        ("in flight", memory.in_flight),
        ("flows", memory.flows),
        ("paths", memory.paths),
        ("sockets", memory.sources),
        ("receive buffers", memory.buffers),
        ("base", memory.base),
    ];
    parts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    parts[..3].iter().map(|(name, n)| format!("{name} {}", bytes(*n as u64))).collect::<Vec<_>>().join(", ")
}

fn name(test: &TestReport) -> String {
    format!("{} → {}", test.port_group, test.targets_name)
}

fn tests(tests: &[TestReport]) -> Vec<String> {
    const SIZES: usize = 7;
    let mut heads = vec![
        ("test", Side::Left),
        ("targets", Side::Right),
        ("source ports", Side::Right),
        ("flows", Side::Right),
        ("cycles", Side::Right),
        ("probes", Side::Right),
        ("classes", Side::Left),
        ("sizes", Side::Left),
        ("method", Side::Left),
        ("pacing", Side::Left),
    ];
    let row = |test: &TestReport| {
        vec![
            name(test),
            count(test.targets as u64),
            count(test.source_ports as u64),
            count(test.flows as u64),
            rate(test.cycles_per_second),
            rate(test.probes_per_second),
            test.classes.join(" "),
            test.sizes.iter().map(u16::to_string).collect::<Vec<_>>().join(" "),
            test.methods.join(" "),
            test.pacing.to_owned(),
        ]
    };
    let mut rows: Vec<Vec<String>> = tests.iter().map(row).collect();
    // a size is shown where there is another
    if tests.iter().all(|test| test.sizes.len() < 2) {
        heads.remove(SIZES);
        rows.iter_mut().for_each(|row| _ = row.remove(SIZES));
    }
    layout::columns(0, &heads, &rows)
}

/// How likely the flows of each test are to cross every one of several equal paths.
fn coverage(tests: &[TestReport], width: usize) -> Vec<String> {
    let Some(first) = tests.first() else { return Vec::new() };
    let widths: Vec<String> = first.coverage.iter().map(|c| c.ecmp_paths.to_string()).collect();
    let mut heads = vec![("equal paths", Side::Left)];
    heads.extend(widths.iter().map(|w| (w.as_str(), Side::Right)));
    let row = |test: &TestReport| {
        let mut row = vec![name(test)];
        row.extend(test.coverage.iter().map(|c| percent((100.0 * c.every_path).min(99.94)).replace(">99.9", "99.9")));
        row
    };
    let mut lines = layout::columns(0, &heads, &tests.iter().map(row).collect::<Vec<_>>());
    if let Some(head) = lines.first_mut() {
        *head = paint(HEAD, head);
    }
    let note = "chance that the flows to a target cross every one of that many equal-cost paths";
    lines.extend(layout::wrap(note, width).iter().map(|line| paint(DIM, line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::report::coverage as chance;
    use crate::config::{Problem, Warnings};

    fn plan() -> PlanReport {
        let test = TestReport {
            targets_name: "far".into(),
            port_group: "wide".into(),
            targets: 40,
            source_ports: 64,
            flows: 2560,
            cycles_per_second: 4.0,
            pacing: "periodic",
            sizes: vec![44],
            classes: vec!["EF".into(), "DF".into()],
            methods: vec!["udp"],
            probes_per_second_per_target: 256.0,
            probes_per_second_per_source_port: 160.0,
            probes_per_second: 10_240.0,
            coverage: vec![chance(64, 4), chance(64, 16), chance(64, 64)],
        };
        let part = |n: usize| n << 20;
        PlanReport {
            interval_s: 30.0,
            api: None,
            tests: vec![test],
            targets: 40,
            paths: 80,
            flows: 2560,
            sockets: 128,
            probes_per_second: 10_240.0,
            syn_limit: None,
            ip_bytes_per_second: 737_280.0,
            in_flight_slots: 16_384,
            memory: Memory {
                tallies: part(3),
                in_flight: part(1),
                flows: 100,
                paths: 200,
                sources: 300,
                buffers: 400,
                base: part(8),
                total: part(12),
            },
            warnings: Warnings::default(),
        }
    }

    #[test]
    fn a_plan_on_one_screen() {
        let shown = anstream::adapter::strip_str(&report("matrix.yaml", &plan(), 80)).to_string();
        let expected = "\
matrix.yaml: fine

probes      10 240/s  5.9 Mbit/s of IP packets, and as much back
per target     256/s  at most, of one test
targets           40
paths             80  a summary each every 30.0 s
flows           2560
sockets          128
in flight     16 384  probes remembered at most
memory      12.0 MiB  base 8.00 MiB, counters 3.00 MiB, in flight 1.00 MiB

test        targets  source ports  flows  cycles    probes  classes  method  pacing
wide → far       40            64   2560     4/s  10 240/s  EF DF    udp     periodic

equal paths       4      16        64
wide → far   99.9 %  76.5 %  <0.001 %
chance that the flows to a target cross every one of that many equal-cost paths
";
        assert!(shown == expected, "{shown}");
    }

    #[test]
    fn warnings_stand_first() {
        let mut plan = plan();
        plan.warnings.list.push(Problem {
            file: Some("matrix.yaml".into()),
            place: None,
            key: "ports.wide.sise".into(),
            what: "unknown key".into(),
            remedy: "did you mean size".into(),
        });
        let shown = anstream::adapter::strip_str(&report("matrix.yaml", &plan, 80)).to_string();
        assert!(
            shown.starts_with("matrix.yaml: can be run, with 1 warning\nmatrix.yaml: warning: ports.wide.sise"),
            "{shown}"
        );
    }

    #[test]
    fn json_has_the_sums() {
        let json: serde_json::Value = serde_json::from_str(&json(&plan()).unwrap()).unwrap();
        assert_eq!(json["flows"], 2560);
        assert_eq!(json["memory"]["total"], 12 << 20);
    }
}
