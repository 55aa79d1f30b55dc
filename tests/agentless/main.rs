//! TCP SYNs and ICMP echoes to hosts that run no agent: the kernel of another namespace is the other end, packet
//! filters and routers are real, and every packet is captured.
//!
//! Needs root (network namespaces); what is tested for users without privileges drops them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod checksums;
#[path = "../common/mod.rs"]
mod common;
mod errors;
mod icmp;
mod privilege;
mod reload;
mod tcp;
mod together;

use common::netns::Namespace;
use common::process::{Finished, llama_in};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// Longer than any ping here sends.
const LIMIT: Duration = Duration::from_secs(60);
/// Both ways datagrams go in and out.
const IOS: [&str; 2] = ["uring", "mmsg"];

/// `llama ping FLAGS TARGET --json` in a namespace, to its end.
fn ping(host: &Namespace, target: &str, flags: &[&str]) -> Finished {
    llama_in(host, &[&["ping", target, "--json"], flags].concat()).finish_within(LIMIT)
}

/// A target with a port as one writes it.
fn with_port(target: IpAddr, port: u16) -> String {
    match target {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

/// The report of a ping, checked for what holds of every report.
fn report(ping: &Finished) -> Value {
    let report = ping.json();
    let of = |key| count(&report, key);
    assert_eq!(of("sent"), of("replied") + of("lost"), "{report:#}");
    let reported = of("refused") + of("prohibited") + of("time_exceeded") + of("unreachable");
    assert!(of("lost") >= reported, "{report:#}");
    assert_eq!(of("send_failed") + of("stamps_missing") + of("duplicates"), 0, "{report:#}");
    if of("replied") > 0 {
        assert_eq!(report["stamps"]["sent_by"], "kernel", "{report:#}");
        assert_eq!(report["stamps"]["received_by"], "kernel", "{report:#}");
        assert_eq!(report["rtt_ms"]["samples"], report["replied"], "{report:#}");
    }
    report
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {report:#}"))
}

fn assert_counts(report: &Value, expected: &[(&str, u64)]) {
    for (key, value) in expected {
        assert_eq!(count(report, key), *value, "{key} in {report:#}");
    }
}
