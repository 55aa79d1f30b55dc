//! Clients that do what no client should, against a collector as it ships: each costs it a connection for a
//! while and nothing else.

use crate::client::{Answer, PATIENCE, connect, exchange, half_open, to_end, wait_for};
use crate::collector::Collector;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const DAWDLE: Duration = Duration::from_millis(200);

fn only(bytes: &[u8]) -> Answer {
    let mut answers = Answer::all(bytes);
    assert_eq!(answers.len(), 1, "{}", String::from_utf8_lossy(bytes));
    answers.remove(0)
}

#[test]
fn clients_that_dawdle_are_closed_and_counted() {
    let collector = Collector::idle();
    let address = collector.address;
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        // says nothing; says a head byte by byte; a second one after a good request
        for start in ["", "GET /status HTTP/1.1\r\nHost: x\r\nX: ", "GET /status HTTP/1.1\r\nHost: x\r\n\r\nGET /"] {
            clients.push(scope.spawn(move || {
                let mut stream = connect(address);
                stream.set_read_timeout(Some(DAWDLE)).unwrap();
                stream.write_all(start.as_bytes()).unwrap();
                let deadline = Instant::now() + PATIENCE;
                let mut taken = Vec::new();
                let mut buffer = [0; 1024];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(length) => taken.extend_from_slice(&buffer[..length]),
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                        Err(_) => {
                            assert!(Instant::now() < deadline, "still open: {start:?}");
                            if !start.is_empty() {
                                let _ = stream.write_all(b"y");
                            }
                        }
                    }
                }
                assert_eq!(Answer::all(&taken).len(), start.matches("\r\n\r\n").count(), "{start:?}");
            }));
        }
        // a body byte by byte
        clients.push(scope.spawn(move || {
            let mut stream = connect(address);
            stream.set_read_timeout(Some(DAWDLE)).unwrap();
            stream.write_all(b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n").unwrap();
            let deadline = Instant::now() + PATIENCE;
            let mut buffer = [0; 4096];
            let length = loop {
                match stream.read(&mut buffer) {
                    Ok(length) => break length,
                    Err(_) => stream.write_all(b"y").unwrap(),
                }
                assert!(Instant::now() < deadline, "no answer");
            };
            let answer = only(&buffer[..length]);
            answer.refusal(408);
            assert_eq!(answer.header("connection"), Some("close"));
        }));
        // asks for ever more and reads nothing of it
        clients.push(scope.spawn(move || {
            let mut stream = connect(address);
            stream.set_write_timeout(Some(DAWDLE)).unwrap();
            let requests = b"GET /api/v1/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
            let deadline = Instant::now() + PATIENCE;
            loop {
                match stream.write(&requests) {
                    Ok(_) => {}
                    Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                    Err(_) => break, // closed
                }
                assert!(Instant::now() < deadline, "still open");
            }
        }));
        for client in clients {
            client.join().unwrap();
            collector.check("a client that dawdles");
        }
    });
    assert_eq!(collector.count("timed_out"), 5);
    wait_for("all closed", || (collector.count("open") == 1).then_some(()));
}

#[test]
fn heads_that_are_too_large() {
    let collector = Collector::idle();
    let with = |headers: &str| format!("GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let ask = |headers: &str| only(&exchange(collector.address, with(headers).as_bytes()));
    assert_eq!(ask(&format!("X: {}\r\n", "y".repeat(10_000))).status, 200, "a long line fits");
    assert!(ask(&format!("X: {}\r\n", "y".repeat(20_000))).refusal(431).contains("shorter"));
    assert_eq!(ask(&"X: y\r\n".repeat(90)).status, 200, "many lines fit");
    assert!(ask(&"X: y\r\n".repeat(200)).refusal(431).contains("fewer"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(20_000));
    only(&exchange(collector.address, long.as_bytes())).refusal(431);
    let endless = format!("GET /status HTTP/1.1\r\n{}", "X: y\r\n".repeat(100_000));
    exchange(collector.address, endless.as_bytes());
    collector.check("large heads");
    assert_eq!(collector.count("panics"), 0);
}

#[test]
fn bodies_that_are_too_large_or_wrong() {
    let collector = Collector::idle();
    let post = |headers: &str, body: &str| {
        let text = format!("POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\n{headers}\r\n{body}", collector.address);
        only(&exchange(collector.address, text.as_bytes()))
    };
    post("Content-Length: 65537\r\n", "").refusal(413);
    post("Content-Length: 1000000000000000000\r\n", "").refusal(413);
    let chunks = format!("{}0\r\n\r\n", format!("1000\r\n{}\r\n", "y".repeat(0x1000)).repeat(17));
    post("Transfer-Encoding: chunked\r\n", &chunks).refusal(413);
    // what another server could read in another way
    for headers in ["Content-Length: -1\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: 1e3\r\n"] {
        post(headers, "").refusal(400);
    }
    post("Transfer-Encoding: chunked\r\n", "zz\r\n\r\n").refusal(400);
    collector.wait_for_interval(); // one that is starting cannot be reloaded
    let small = post("Connection: close\r\nTransfer-Encoding: chunked\r\n", "1\r\ny\r\n0\r\n\r\n");
    assert_eq!(small.status, 200, "a body of a size that is allowed says nothing to a reload");
    collector.check("large bodies");
}

#[test]
fn what_is_no_request() {
    let collector = Collector::idle();
    for bytes in [
        &b"GET /status\r\n\r\n"[..],
        b"GET /status HTTP/0.9\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"GET  /status HTTP/1.1\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: \0\r\n\r\n",
        b"$8\r\nFLUSHALL\r\n\r\n",
    ] {
        let answer = only(&exchange(collector.address, bytes));
        assert!(answer.refusal(400).contains("HTTP/1.1"), "{}", String::from_utf8_lossy(bytes));
        collector.check("no request");
    }
    // HTTP/2 is not spoken: whoever asks in it understands no answer in HTTP/1.1
    assert!(exchange(collector.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_empty());
    // the end comes within a head: no answer, and no connection kept
    for bytes in [&b""[..], b"GET /sta", b"GET /status HTTP/1.1\r\nHost:"] {
        assert!(half_open(collector.address, bytes).is_empty());
    }
    // the end comes after a request: it is answered
    let whole = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(only(&half_open(collector.address, whole)).text(), "ok");
    // HTTP/1.0 has neither Host nor chunks
    let old = exchange(collector.address, b"GET /influxdata HTTP/1.0\r\n\r\n");
    assert_eq!(Answer::first(&old, false).map(|(answer, _)| answer.status), Some(200));
    collector.check("half-open connections");
    assert_eq!(collector.count("panics"), 0);
}

#[test]
fn any_bytes_are_answered_or_closed() {
    let collector = Collector::idle();
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let head = "(GET|POST|HEAD|X) /[a-z0-9/?=&%.]{0,30} HTTP/1.[01]\r\n([A-Za-z-]{1,20}: ?[ -~]{0,30}\r\n){0,5}(\r\n)?";
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (head, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(head, rest)| [head.as_bytes(), &rest].concat()),
    ];
    runner
        .run(&bytes, |bytes| {
            let answered = half_open(collector.address, &bytes);
            prop_assert!(answered.is_empty() || answered.starts_with(b"HTTP/1."));
            Ok(())
        })
        .unwrap();
    collector.check("any bytes");
    assert_eq!(collector.count("panics"), 0);
}

#[test]
fn requests_one_after_another_without_waiting() {
    let collector = Collector::idle();
    let mut requests = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    requests.extend_from_slice(b"HEAD /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let bytes = exchange(collector.address, &requests);
    let end = bytes.windows(b"connection: close".len()).position(|part| part == b"connection: close").unwrap();
    let start = bytes[..end].windows(5).rposition(|part| part == b"HTTP/").unwrap();
    let answers = Answer::all(&bytes[..start]);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 404].repeat(100));
    collector.check("pipelining");
}

#[test]
fn many_connections_at_once() {
    let collector = Collector::idle();
    let accepted = collector.count("accepted");
    wait_for("only this one", || (collector.count("open") == 1).then_some(()));
    let mut streams: Vec<_> = (0..400).map(|_| connect(collector.address)).collect();
    // those beyond 256 are closed at once; the first ones are served
    for stream in &mut streams[256..] {
        assert!(to_end(stream).is_empty());
    }
    streams[0].write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let health = only(&to_end(&mut streams[0])).json();
    assert_eq!((health["http"]["open"].as_u64(), health["http"]["rejected"].as_u64()), (Some(256), Some(144)));
    drop(streams);
    // closed at the other end too, after which there is room again
    let answer = wait_for("room", || {
        let bytes = exchange(collector.address, b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        Answer::first(&bytes, false)
    });
    assert_eq!(answer.0.text(), "ok");
    wait_for("all closed", || (collector.count("open") == 1).then_some(()));
    assert!(collector.count("accepted") > accepted + 256);
}
