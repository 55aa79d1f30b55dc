//! Signals as operators and service managers send them, to the program itself, on loopback: the first
//! ends a run in order, with everything it measured; the second ends it at once.
#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

mod common;

use common::process::{ANSWERING, Finished, LLAMA, PATIENCE, Process, llama};
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::time::Duration;

/// Within which a stopped role has ended, its loss threshold included.
const SOON: Duration = Duration::from_secs(1);

/// A reflector on a port of its own, and its address.
fn reflector() -> (Process, String) {
    let reflector = llama(&["reflector", "--listen", "127.0.0.1:0"]);
    let line = reflector.wait_for(ANSWERING);
    let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).expect("an address").to_owned();
    (reflector, address)
}

fn stopped(process: Process, signal: Signal) -> Finished {
    process.signal(signal);
    let finished = process.finish_within(SOON);
    assert_eq!(finished.status.code(), Some(0), "{signal}: {}\n{}", finished.stdout, finished.stderr);
    finished
}

#[test]
fn a_reflector_prints_totals_and_frees_its_port() {
    let (first, address) = reflector();
    let ping = llama(&["ping", &address, "--count", "20", "--rate", "1000", "--json"]);
    assert_eq!(ping.finish_within(PATIENCE).success().json()["replied"], 20);
    let totals = stopped(first, Signal::SIGTERM).stdout;
    let words: Vec<&str> = totals.split_whitespace().collect();
    assert!(words.windows(2).any(|pair| pair == ["answered", "20"]), "{totals}");
    // the same port, at once
    let second = llama(&["reflector", "--listen", &address]);
    second.wait_for(ANSWERING);
    stopped(second, Signal::SIGINT);
}

#[test]
fn a_collector_delivers_the_interval_it_is_stopped_in() {
    let (_reflector, address) = reflector();
    let port = address.rsplit(':').next().expect("a port");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("matrix.yaml");
    let text = format!(
        "summarization: {{interval: 1}}\nports: {{default: {{timeout: 100}}}}\nrate_limits: {{default: {{cps: 100}}}}\n\
         targets: {{default: [{{ip: 127.0.0.1, port: {port}}}]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // with a sink, whose thread must not be the one that takes the signal
        let collector = llama(&["collector", "--config", file.to_str().unwrap(), "--output", "-"]);
        // written a loss threshold after the interval's end: the next one has probes by then
        collector.wait_for("\"interval\":0");
        let finished = stopped(collector, signal);
        let last = finished.stdout.lines().last().expect("a line");
        let summary: serde_json::Value = serde_json::from_str(last).expect("JSON");
        assert_ne!(summary["interval"], 0, "{summary}");
        assert!(summary["sent"].as_u64() > Some(0), "{summary}");
        assert_eq!(summary["sent"], summary["replied"], "{summary}");
    }
}

/// A ping to a port that never answers, and the port; at least one probe has come.
fn unanswered_ping(timeout: &str) -> (Process, UdpSocket) {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ping = llama(&["ping", &address, "--count", "1000000", "--timeout", timeout, "--json"]);
    silent.recv(&mut [0; 64]).unwrap();
    (ping, silent)
}

#[test]
fn a_ping_reports_what_it_has() {
    let (ping, _silent) = unanswered_ping("100ms");
    ping.signal(Signal::SIGINT);
    let finished = ping.finish_within(SOON);
    assert_eq!(finished.status.code(), Some(1), "all was lost: {}", finished.stderr);
    let report = finished.json();
    assert!(report["sent"].as_u64() > Some(0), "{report}");
    assert_eq!(report["sent"], report["lost"], "{report}");
}

#[test]
fn the_second_signal_ends_at_once() {
    let (ping, _silent) = unanswered_ping("60s");
    // two of a kind could be merged into one while the first is pending
    ping.signal(Signal::SIGINT);
    ping.signal(Signal::SIGTERM);
    let finished = ping.finish_within(SOON);
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(130), ""), "{}", finished.stderr);
}

#[test]
fn a_demo_ends_at_the_first_signal() {
    let demo = llama(&["demo", "--interval", "100ms"]);
    demo.wait_for("group=paris");
    let finished = stopped(demo, Signal::SIGINT);
    assert!(finished.stdout.trim_end().ends_with("0 lost (0 %)"), "{}", finished.stdout);
}

#[test]
fn a_run_whose_only_reader_went_away_ends() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(LLAMA);
    command.args(["demo", "--json", "--interval", "100ms"]).stdout(writer).stderr(std::process::Stdio::null());
    command.env("LLAMA_HISTORY", "none");
    let mut child = command.spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
