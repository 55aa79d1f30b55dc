//! What becomes of summaries with a spool, for everything a database may answer, and for a spool that is not well.

use super::common::process::{LLAMA, PATIENCE, Process, llama};
use super::server::Influxd;
use super::stub::{Answer, STORED, Stub};
use super::*;
use llama::sink::spool;
use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;

/// A spool's directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("spool")
    }

    fn options(&self) -> spool::Options {
        let max_age = Duration::from_secs(100 * 365 * 86_400);
        spool::Options { directory: self.path(), max_bytes: 64 << 20, max_age }
    }

    fn sinks(&self, address: &str, policy: Policy) -> Sinks {
        let target = Target::parse(&format!("http://{address}?db=llama"), None).expect("target");
        let mut sinks = Sinks::new();
        let options = Options { policy, spool: Some(self.options()), ..Options::new(target) };
        sinks.add_influx(options, Limits::default()).expect("sink");
        sinks
    }

    fn segments(&self, ending: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.path()).expect("directory").map(|file| file.expect("file").path());
        let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
        found.sort();
        found
    }
}

fn summaries(range: std::ops::Range<u32>) -> Vec<Summary> {
    range.map(|n| summary(n, &[])).collect()
}

/// Times of the points in requests that were answered well, in the order they came.
fn times(requests: &[super::stub::Request]) -> Vec<u64> {
    let lines = requests.iter().flat_map(|request| request.body.lines());
    lines.map(|line| line.rsplit(' ').next().and_then(|time| time.parse().ok()).expect("time")).collect()
}

fn expected(range: std::ops::Range<u32>) -> Vec<u64> {
    range.map(|n| T0 + u64::from(n) * 30_000_000_000 + 1).collect()
}

/// A port that nobody listens on.
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").to_string()
}

#[test]
fn a_server_that_is_busy_away_or_denies_has_summaries_wait_on_disk() {
    for head in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests\r\nRetry-After: 1",
        "503 Service Unavailable",
        "302 Found\r\nLocation: https://db.example/write",
        // of no database: it says nothing about the lines
        "400 Bad Request",
        "422 Unprocessable Entity",
    ] {
        let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let turned = well.clone();
        let stub = Stub::start(move |_, _| match turned.load(std::sync::atomic::Ordering::Relaxed) {
            false => Answer::Say(head, "not now"),
            true => STORED,
        });
        let place = Place::new();
        let sinks = place.sinks(stub.address(), quick());
        sinks.deliver(&summaries(0..3));
        wait_for(&sinks, "the disk", |c| (c.queued, c.spool_summaries) == (0, 3));
        // later ones do not wait for another attempt to fail
        sinks.deliver(&summaries(3..5));
        let waiting = wait_for(&sinks, "the disk", |c| (c.queued, c.spool_summaries) == (0, 5));
        assert_eq!((waiting.spooled, waiting.delivered, waiting.spool_segments), (5, 0, 1), "{head}: {waiting:?}");
        assert_eq!(waiting.spool_oldest, T0 + 1);
        assert!(waiting.last_error.expect("error").contains(&head[..3]));
        let before = stub.requests().len();
        well.store(true, std::sync::atomic::Ordering::Relaxed);
        let end = wait_for(&sinks, "delivery", |c| c.delivered == 5 && c.spool_summaries == 0);
        assert_eq!((end.spool_delivered, end.spool_bytes), (5, 0), "{head}: {end:?}");
        // an attempt may have been under way when the server became well
        let stored = times(&stub.requests()[before..]);
        assert_eq!(stored[stored.len() - 5..], expected(0..5), "{head}: in order");
        if head.contains("Retry-After") {
            let requests = stub.requests();
            assert!(requests.windows(2).take(1).all(|two| two[1].at - two[0].at >= Duration::from_secs(1)));
        }
        assert!(place.segments("segment").is_empty());
    }
}

#[test]
fn what_refuses_without_being_a_database_costs_no_line() {
    for body in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
    ] {
        let stub = Stub::start(move |n, _| if n < 5 { Answer::Say("400 Bad Request", body) } else { STORED });
        let place = Place::new();
        let sinks = place.sinks(stub.address(), quick());
        sinks.deliver(&summaries(0..40));
        let end = wait_for(&sinks, "delivery", |c| c.delivered == 40 && c.spool_summaries == 0);
        assert_eq!((end.refused, end.dropped, end.spool_summaries), (0, 0, 0), "{end:?}");
        assert!(end.last_error.as_ref().is_some_and(|e| e.contains("check http or https")), "{end:?}");
    }
}

#[test]
fn a_database_that_refuses_everything_does_not_empty_the_spool() {
    let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let turned = well.clone();
    let stub = Stub::start(move |_, _| match turned.load(std::sync::atomic::Ordering::Relaxed) {
        false => Answer::Say("400 Bad Request", r#"{"error":"not today"}"#),
        true => STORED,
    });
    let place = Place::new();
    let policy = Policy { denied: Duration::from_secs(3), ..quick() };
    let sinks = place.sinks(stub.address(), policy);
    sinks.deliver(&summaries(0..1000));
    // the hundredth is followed by a pause, and all others are brought to the disk meanwhile
    let slow = wait_for(&sinks, "a pause", |c| c.refused >= 100 && c.queued == 0);
    assert!(slow.spool_summaries > 800, "{slow:?}");
    assert!(slow.last_error.as_ref().is_some_and(|e| e.contains("none was stored")), "{slow:?}");
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    let end = wait_for(&sinks, "delivery", |c| c.spool_summaries == 0 && c.queued == 0);
    assert_eq!((end.delivered + end.refused, end.dropped), (1000, 0), "{end:?}");
    assert!(end.delivered > 800, "{end:?}");
}

#[test]
fn a_server_that_hangs_has_summaries_on_disk_within_seconds() {
    let hanging = Stub::start(|_, _| Answer::Hang);
    let place = Place::new();
    let sinks = place.sinks(hanging.address(), Policy::default());
    sinks.deliver(&summaries(0..3));
    wait_for(&sinks, "an attempt", |c| c.attempts == 1);
    sinks.deliver(&summaries(3..5));
    let saved = wait_for(&sinks, "the disk", |c| c.spool_summaries == 5 && c.queued == 0);
    // the request has 30 s
    assert_eq!((saved.queued, saved.failed_attempts, saved.attempts), (0, 0, 1), "{saved:?}");
    // the end does not wait for it either, and nothing is undelivered: it is kept
    let counters = sinks.counters();
    assert_eq!(sinks.close(Duration::from_secs(20)), vec![]);
    assert_eq!((counters[0].snapshot().spool_summaries, hanging.requests().len()), (5, 1));

    let stub = Stub::start(|_, _| STORED);
    let next = place.sinks(stub.address(), quick());
    let end = wait_for(&next, "delivery", |c| c.delivered == 5 && c.spool_summaries == 0);
    assert_eq!((end.spool_found, end.accepted, end.spool_delivered), (5, 0, 5));
    assert_eq!(times(&stub.requests()), expected(0..5));
}

#[test]
fn refused_lines_are_kept_with_the_servers_words() {
    let away = nobody();
    let place = Place::new();
    let before = place.sinks(&away, quick());
    let lines: Vec<String> = (0..50).map(|n| format!("raw_stats,n={n} rtt=1.5 {}\n", T0 + n)).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.insert(20, "not line protocol\n");
    before.deliver_lines(&lines);
    wait_for(&before, "the disk", |c| c.spool_summaries == 51);
    assert_eq!(before.close(Duration::from_secs(2)), vec![]);

    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = place.sinks(&server.address().to_string(), quick());
    let end = wait_for(&sinks, "the end", |c| c.spool_summaries == 0);
    assert_eq!((end.delivered, end.refused, end.spool_refused), (50, 1, 1), "{end:?}");
    assert_eq!(server.rows("SELECT rtt FROM raw_stats").len(), 50);
    let text = std::fs::read_to_string(place.path().join("refused.jsonl")).expect("refused lines");
    let object: serde_json::Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(object["line"], "not line protocol");
    assert!(object["message"].as_str().expect("message").contains("server answered 400: "), "{object}");
}

#[test]
fn too_large_is_sent_in_smaller_batches_from_the_disk_too() {
    let place = Place::new();
    let before = place.sinks(&nobody(), quick());
    before.deliver(&summaries(0..100));
    wait_for(&before, "the disk", |c| c.spool_summaries == 100);
    drop(before);

    let stub = Stub::start(|_, request| match request.lines() {
        ..=10 => STORED,
        _ => Answer::Say("413 Request Entity Too Large", ""),
    });
    // the one before ends by itself: until then it has the directory
    let begin = Instant::now();
    let sinks = loop {
        let target = Target::parse(&format!("http://{}?db=llama", stub.address()), None).expect("target");
        let options = Options { policy: quick(), spool: Some(place.options()), ..Options::new(target) };
        let mut sinks = Sinks::new();
        match sinks.add_influx(options, Limits::default()) {
            Ok(()) => break sinks,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let end = wait_for(&sinks, "delivery", |c| c.spool_summaries == 0);
    assert_eq!((end.delivered, end.refused), (100, 0), "{end:?}");
    let stored: Vec<_> = stub.requests().into_iter().filter(|request| request.lines() <= 10).collect();
    assert_eq!(times(&stored), expected(0..100));
}

#[test]
fn a_spool_damaged_in_the_middle_costs_the_damaged_record_only() {
    let place = Place::new();
    let policy = Policy { batch_lines: 10, ..quick() };
    let before = place.sinks(&nobody(), policy);
    before.deliver(&summaries(0..50));
    wait_for(&before, "the disk", |c| c.spool_summaries == 50);
    assert_eq!(before.close(Duration::from_secs(2)), vec![]);
    let segments = place.segments("segment");
    let mut bytes = std::fs::read(&segments[0]).expect("segment");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20].fill(0xa5);
    std::fs::write(&segments[0], &bytes).expect("written");

    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = place.sinks(&server.address().to_string(), policy);
    let end = wait_for(&sinks, "the end", |c| c.spool_summaries == 0);
    assert_eq!((end.spool_found, end.delivered, end.spool_damaged), (50, 40, 10), "{end:?}");
    assert!(end.last_error.expect("error").contains("cannot be read back"));
    let rows = server.rows("SELECT sent FROM raw_stats");
    let times: BTreeSet<u64> = rows.iter().map(|row| row["time"].as_u64().expect("time")).collect();
    assert_eq!(times.len(), 40);
    assert!(times.is_subset(&expected(0..50).into_iter().collect()));
    assert_eq!((place.segments("segment").len(), place.segments("damaged").len()), (0, 1));
}

/// `llama collector` with a spool, and no database.
fn collector(spool: &FilePath, more: &[&str]) -> Vec<String> {
    let influx = format!("http://{}?db=llama", nobody());
    let spool = spool.to_str().expect("path");
    let flags = ["collector", "--influx", &influx, "--spool", spool, "--api", "127.0.0.1:0"];
    flags.iter().chain(more).map(|flag| flag.to_string()).collect()
}

/// What a collector says that does not start, with exit status 2.
fn refused(spool: &FilePath, more: &[&str]) -> String {
    let out = Command::new(LLAMA).args(collector(spool, more)).output().expect("llama");
    let said = String::from_utf8(out.stderr).expect("text");
    assert_eq!(out.status.code(), Some(2), "{said}");
    said
}

#[test]
fn a_collector_refuses_a_spool_it_cannot_use() {
    let place = Place::new();
    let file = place.0.path().join("file");
    std::fs::write(&file, "").expect("file");
    assert!(refused(&file, &[]).contains("spool: cannot use"));
    assert!(refused(&place.path(), &["--spool-max-bytes", "1K"]).contains("allow at least 1M"));

    let arguments = collector(&place.path(), &["--duration", "30s", "--log-level", "info"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let running: Process = llama(&arguments);
    running.wait_for("a summary every");
    assert!(refused(&place.path(), &[]).contains("another process uses"));
    running.terminate().success();

    let arguments = collector(&place.path(), &["--duration", "1s"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    llama(&arguments).finish_within(6 * PATIENCE).success();
    let segments = place.segments("segment");
    let mut bytes = std::fs::read(&segments[0]).expect("segment");
    bytes[8] = 7;
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segments[0], bytes).expect("written");
    let said = refused(&place.path(), &[]);
    assert!(said.contains("is of version 7, this program reads version 1"), "{said}");
}

#[test]
fn a_collector_without_its_database_ends_well_when_it_has_a_spool() {
    let place = Place::new();
    let arguments = collector(&place.path(), &["--duration", "1s", "--log-level", "info"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let end = llama(&arguments).finish_within(6 * PATIENCE).success();
    assert!(end.stderr.contains("points wait in"), "{}", end.stderr);
    let stub = Stub::start(|_, _| STORED);
    let sinks = place.sinks(stub.address(), quick());
    let found = wait_for(&sinks, "delivery", |c| c.spool_summaries == 0);
    // one path, and the collector's own state
    assert_eq!((found.spool_found, found.delivered), (2, 2), "{found:?}");
    let bodies: Vec<_> = stub.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.concat().contains("collector_stats,collector="), "{bodies:?}");
}
