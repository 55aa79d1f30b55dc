//! Classes, sizes and payloads proved on real packets: routers that rewrite, links that carry no large packets, a
//! relay that damages payloads, and what the report says of each.
//!
//! Needs root (network namespaces).

#![allow(clippy::unwrap_used, reason = "tests")]

mod classes;
#[path = "../common/mod.rs"]
mod common;
mod ipv6;
mod quotes;
mod sizes;

use common::netns::Namespace;
use common::process::{ANSWERING, Finished, PATIENCE, Process, llama_in};
use serde_json::Value;
use std::time::Duration;

/// Longer than any ping here sends.
const LIMIT: Duration = Duration::from_secs(60);
/// Both ways datagrams go in and out.
const IOS: [&str; 2] = ["uring", "mmsg"];

fn reflector(host: &Namespace, flags: &[&str]) -> Process {
    let reflector = llama_in(host, &[&["reflector"], flags].concat());
    reflector.wait_for(ANSWERING);
    reflector
}

/// `llama ping TARGET FLAGS` in a namespace, to its end.
fn ping(host: &Namespace, target: &str, flags: &[&str]) -> Finished {
    llama_in(host, &[&["ping", target], flags].concat()).finish_within(LIMIT)
}

/// The report of a ping as JSON, checked for what holds of every report: every probe has one fate.
fn report(host: &Namespace, target: &str, flags: &[&str]) -> Value {
    let report = ping(host, target, &[flags, &["--json"]].concat()).json();
    let of = |key| count(&report, key);
    assert_eq!(of("sent"), of("replied") + of("lost"), "{report:#}");
    // a busy machine may leave out probes; then it says so, and sends as many later
    assert_eq!(of("send_failed") + of("duplicates"), 0, "{report:#}");
    let variants = report["variants"].as_array().unwrap();
    for key in ["sent", "replied", "lost", "too_big", "corrupted", "dscp_changed_forward", "dscp_changed_reverse"] {
        let sum: u64 = variants.iter().map(|variant| count(variant, key)).sum();
        assert_eq!(sum, of(key), "{key} in {report:#}");
    }
    report
}

/// What `llama ping` prints, with lines that were too long for it joined.
fn text(host: &Namespace, target: &str, flags: &[&str]) -> String {
    let said = ping(host, target, flags).stdout;
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {report:#}"))
}

fn assert_counts(report: &Value, expected: &[(&str, u64)]) {
    for (key, value) in expected {
        assert_eq!(count(report, key), *value, "{key} in {report:#}");
    }
}

/// That all probes of a part of a report met with this.
fn assert_all(part: &Value, key: &str) {
    let sent = count(part, "sent");
    assert!(sent > 0 && count(part, key) == sent, "{key} in {part:#}");
}

/// The part of a report with this class and size (0 where sizes are not told apart).
fn variant(report: &Value, dscp: u64, size: u64) -> &Value {
    let variants = report["variants"].as_array().unwrap();
    let found = variants.iter().find(|v| v["dscp"] == dscp && v["size"].as_u64().unwrap_or(0) == size);
    found.unwrap_or_else(|| panic!("no variant {dscp} {size} in {report:#}"))
}

/// A rule of nftables at one hook of a namespace; it goes with the namespace.
fn rule(host: &Namespace, hook: &str, rule: &str) {
    let table = format!("table inet proof {{ chain c {{ type filter hook {hook} priority mangle; }}; }}\n");
    host.run_with_input("nft", &["-f", "-"], &format!("{table}add rule inet proof c {rule}\n"));
}

/// Runs a collector of a configuration for some seconds and gives its summaries.
fn collect(host: &Namespace, config: &str, seconds: u32) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let duration = format!("{seconds}s");
    let flags = ["collector", "--config", file.to_str().unwrap(), "--output", "-", "--duration", &duration];
    let limit = PATIENCE + Duration::from_secs(seconds.into());
    let said = llama_in(host, &flags).finish_within(limit).success().stdout;
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
