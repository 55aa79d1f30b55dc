//! `--watch`: a new matrix with each interval, also when events do not come or the server is away for a while.

use super::fake::{Answer, Fake, ok, unknown};
use super::memory::{self, Memory, NEWEST, path, summary};
use super::{command, serve};
use crate::common::process::Process;
use llama::http::server::Server;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

fn watch(url: &str, arguments: &[&str]) -> Process {
    Process::spawn(command(url, &[&["--watch"], arguments].concat()))
}

/// One more interval of one path, in which it lost so many.
fn next(memory: &Memory, n: u64, lost: u64) {
    memory.add(vec![summary(&path(0, 2), NEWEST + 10 * n, lost, 5)]);
}

#[test]
fn events_bring_the_next_matrix_and_an_interrupt_ends_it_well() {
    let memory = Memory::of(memory::fleet());
    let server = serve(&memory);
    let lines = watch(&format!("http://{}", server.address()), &["--json"]);
    lines.wait_for("\"to\":\"2024-02-29T12:30:30.000000000Z\"");
    next(&memory, 1, 40);
    let line = lines.wait_for("\"to\":\"2024-02-29T12:30:40.000000000Z\"");
    let matrix: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(matrix["total"]["lost"], 41, "of paths that are not there yet, what they had");
    next(&memory, 2, 0);
    lines.wait_for("\"to\":\"2024-02-29T12:30:50.000000000Z\"");
    lines.signal(Signal::SIGINT);
    let finished = lines.finish_within(crate::common::process::PATIENCE).success();
    let ends: Vec<String> = (finished.stdout.lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["to"].as_str().unwrap()[17..19].to_owned())
        .collect();
    assert_eq!(ends, ["30", "40", "50"], "each interval once");
}

#[test]
fn text_is_appended_where_there_is_no_terminal() {
    let memory = Memory::of(memory::fleet());
    let server = serve(&memory);
    let frames = watch(&format!("http://{}", server.address()), &["--metric", "rtt"]);
    frames.wait_for("12:30:20 – 12:30:30 UTC");
    let all = (0..4).flat_map(|src| (0..4).map(move |dst| summary(&path(src, dst), NEWEST + 10, 100, 5)));
    memory.add(all.collect());
    frames.wait_for("12:30:30 – 12:30:40 UTC, newest interval of each path");
    let finished = frames.terminate().success();
    assert!(
        finished.stdout.contains("– nothing came back") && !finished.stdout.contains('\x1b'),
        "{}",
        finished.stdout
    );
}

/// What a server answers.
fn fetched(server: &Server, question: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "GET {question} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    llama_answer(&answer)
}

#[path = "../http/client.rs"]
#[allow(dead_code, reason = "one function of it")]
mod client;

fn llama_answer(bytes: &[u8]) -> String {
    client::Answer::first(bytes, false).unwrap().0.text().to_owned()
}

#[test]
fn without_events_it_asks_and_an_outage_is_told_once_and_outlived() {
    let memory = Memory::of(memory::fleet());
    let server = Arc::new(serve(&memory));
    let behind = Arc::clone(&server);
    let well = move |question: &str| match question {
        "/api/v1/events" => unknown(),
        // an interval that is soon over, so that the next question comes soon
        "/api/v1/matrix/extent" => ok(fetched(&behind, question).replace("\"interval_s\":10.0", "\"interval_s\":1.0")),
        _ => ok(fetched(&behind, question)),
    };
    let front = Fake::start(Ipv4Addr::LOCALHOST.into(), well.clone());
    let lines = watch(&format!("http://{}", front.address), &["--json"]);
    lines.wait_for("12:30:30.000000000Z\",\"resolution_s\"");
    next(&memory, 1, 0);
    lines.wait_for("12:30:40.000000000Z\",\"resolution_s\"");
    front.behave(|_| Answer::Status("503 Busy", r#"{"error":"too much is asked","remedy":"ask later"}"#));
    lines.wait_for("too much is asked; ask later");
    next(&memory, 2, 0);
    front.behave(well);
    lines.wait_for("12:30:50.000000000Z\",\"resolution_s\"");
    let finished = lines.terminate().success();
    assert_eq!(finished.stderr.matches("too much is asked").count(), 1, "{}", finished.stderr);
    assert!(front.asked("/api/v1/events") > 0);
}
