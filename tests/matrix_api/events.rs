//! Streams of events: what they tell, how many there may be, and how they end.

use crate::client::{Answer, connect, get, request, to_end, wait_for};
use crate::memory::{INTERVAL, Memory, NEWEST, fleet, path, summary};
use crate::serve;
use llama::http::events::STREAMS;
use llama::http::server::Server;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A stream as a client hears it.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Asks, and reads the head of the answer.
    fn open(server: &Server) -> (Stream, String) {
        let mut stream = connect(server.address());
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut stream = Stream(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        (stream, head)
    }

    /// The next line that begins like this; fails when the stream ends before.
    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "ended before {start}");
            if line.starts_with(start) {
                return line.trim_end().to_owned();
            }
        }
    }
}

fn event(end: &str) -> String {
    format!(r#"data: {{"newest":"{end}","interval_s":10.0}}"#)
}

#[test]
fn each_new_interval_is_told_once() {
    let memory = Memory::of(fleet());
    let server = serve(&memory);
    let (mut stream, head) = Stream::open(&server);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    assert_eq!(stream.line("retry"), "retry: 2000");
    assert_eq!(stream.line("event"), "event: interval");
    assert_eq!(stream.line("data"), event("2024-02-29T12:30:30.000000000Z"), "what is there is told at once");
    for (n, end) in [(1, "2024-02-29T12:30:40.000000000Z"), (2, "2024-02-29T12:30:50.000000000Z")] {
        memory.add(vec![summary(&path(0, 0), NEWEST + n * INTERVAL, 0, 1)]);
        assert_eq!(stream.line("data"), event(end));
    }
    // one that comes later begins with what is newest then
    let (mut other, _) = Stream::open(&server);
    assert_eq!(other.line("data"), event("2024-02-29T12:30:50.000000000Z"));
    memory.add(vec![summary(&path(0, 0), NEWEST + 3 * INTERVAL, 0, 1)]);
    assert_eq!(other.line("data"), event("2024-02-29T12:31:00.000000000Z"));
    assert_eq!(stream.line("data"), event("2024-02-29T12:31:00.000000000Z"));
}

#[test]
fn without_an_interval_newest_is_null() {
    let memory = Memory::of(Vec::new());
    let server = serve(&memory);
    let (mut stream, _) = Stream::open(&server);
    assert_eq!(stream.line("data"), r#"data: {"newest":null,"interval_s":0.0}"#);
    memory.add(vec![summary(&path(0, 0), NEWEST, 0, 1)]);
    assert_eq!(stream.line("data"), event("2024-02-29T12:30:30.000000000Z"));
}

#[test]
fn streams_are_bounded_and_places_come_back() {
    let memory = Memory::of(fleet());
    let server = serve(&memory);
    let head = request(server.address(), "HEAD /api/v1/events", "");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let mut streams: Vec<_> = (0..STREAMS).map(|_| Stream::open(&server).0).collect();
    assert!(get(server.address(), "/api/v1/events").refusal(503).contains("close another page"));
    streams.truncate(STREAMS - 1);
    let mut back = wait_for("a place", || {
        let (stream, head) = Stream::open(&server);
        head.starts_with("HTTP/1.1 200 ").then_some(stream)
    });
    memory.add(vec![summary(&path(0, 0), NEWEST + INTERVAL, 0, 1)]);
    for stream in streams.iter_mut().chain([&mut back]) {
        assert!(stream.line("data").contains("12:30:"));
    }
}

#[test]
fn a_stream_ends_when_the_server_stops_and_keeps_nobody() {
    let server = serve(&Memory::of(fleet()));
    let mut streams: Vec<_> = (0..3).map(|_| Stream::open(&server).0).collect();
    streams.iter_mut().for_each(|stream| _ = stream.line("data"));
    let mut plain = connect(server.address());
    plain.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let counters = server.counters();
    wait_for("all of them", || (counters.snapshot().open == 4).then_some(()));
    assert_eq!(server.stop().open, 0, "no connection was left when the server had stopped");
    for mut stream in streams {
        let mut rest = String::new();
        stream.0.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("0\r\n\r\n"), "an end in order, as of any answer in chunks: {rest:?}");
    }
    let bytes = to_end(&mut plain);
    assert!(Answer::first(&bytes, false).is_some(), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_source_that_goes_away_is_asked_again() {
    let memory = Memory::of(fleet());
    let server = serve(&memory);
    let (mut stream, _) = Stream::open(&server);
    stream.line("data");
    *memory.fails.lock().unwrap() = Some(llama::matrix::SourceError::Away("asleep".into()));
    memory.add(vec![summary(&path(0, 0), NEWEST + INTERVAL, 0, 1)]);
    get(server.address(), "/api/v1/events").refusal(503);
    *memory.fails.lock().unwrap() = None;
    assert_eq!(stream.line("data"), event("2024-02-29T12:30:40.000000000Z"));
}
