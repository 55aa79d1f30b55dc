//! Answers of servers that are busy, strict or wrong.

use super::stub::{Answer, STORED, Stub};
use super::*;

fn url(stub: &Stub) -> String {
    format!("http://{}?db=llama", stub.address())
}

#[test]
fn requests_are_what_both_generations_expect() {
    let stub = Stub::start(|_, _| STORED);
    let one = sinks(&url(&stub), None, quick(), Limits::default());
    one.deliver(&[summary(0, &[])]);
    wait_for(&one, "1.x", |c| c.delivered == 1);
    let bucket = format!("http://{}/prefix/?org=my%20org&bucket=b", stub.address());
    let two = sinks(&bucket, Some("t0ken"), quick(), Limits::default());
    two.deliver(&[summary(0, &[])]);
    wait_for(&two, "2.x", |c| c.delivered == 1);

    let requests = stub.requests();
    assert_eq!(requests[0].line, "POST /write?db=llama&precision=ns HTTP/1.1");
    assert_eq!(requests[1].line, "POST /prefix/api/v2/write?org=my%20org&bucket=b&precision=ns HTTP/1.1");
    assert!(!requests[0].headers.iter().any(|h| h.starts_with("authorization")));
    assert!(requests[1].headers.contains(&"authorization: Token t0ken".to_string()), "{:?}", requests[1].headers);
    assert!(requests[0].body.starts_with("raw_stats,dscp=46,"));
}

#[test]
fn batches_have_a_limit_of_lines_and_of_bytes() {
    let stub = Stub::start(|_, _| STORED);
    let lines = vec!["raw_stats rtt=1 1\n"; 12_000];
    let by_lines = sinks(&url(&stub), None, quick(), Limits::default());
    by_lines.deliver_lines(&lines);
    wait_for(&by_lines, "delivery", |c| c.delivered == 12_000);
    assert_eq!(stub.requests().iter().map(|r| r.lines()).collect::<Vec<_>>(), [5000, 5000, 2000]);

    let stub = Stub::start(|_, _| STORED);
    let policy = Policy { batch_bytes: 100, ..quick() };
    let by_bytes = sinks(&url(&stub), None, policy, Limits::default());
    by_bytes.deliver_lines(&lines[..12]);
    wait_for(&by_bytes, "delivery", |c| c.delivered == 12);
    assert_eq!(stub.requests().iter().map(|r| r.lines()).collect::<Vec<_>>(), [5, 5, 2]);
}

#[test]
fn retry_after_is_waited_for() {
    for head in ["429 Too Many Requests\r\nRetry-After: 1", "503 Service Unavailable\r\nRetry-After: 1"] {
        let stub = Stub::start(move |n, _| if n == 0 { Answer::Say(head, "busy") } else { STORED });
        let sinks = sinks(&url(&stub), None, quick(), Limits::default());
        sinks.deliver(&[summary(0, &[])]);
        let end = wait_for(&sinks, "delivery", |c| c.delivered == 1);
        assert_eq!((end.attempts, end.failed_attempts, end.retried), (2, 1, 1));
        assert!(end.last_error.as_ref().is_some_and(|e| e.contains(&head[..3]) && e.contains("busy")), "{end:?}");
        let requests = stub.requests();
        assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
        assert_eq!(requests[0].body, requests[1].body);
    }
}

#[test]
fn a_retry_after_beyond_the_limit_is_cut() {
    let stub = Stub::start(|n, _| match n {
        0 => Answer::Say("429 Too Many Requests\r\nRetry-After: 86400", ""),
        _ => STORED,
    });
    let policy = Policy { retry_after_max: Duration::from_millis(100), ..quick() };
    let sinks = sinks(&url(&stub), None, policy, Limits::default());
    sinks.deliver(&[summary(0, &[])]);
    wait_for(&sinks, "delivery", |c| c.delivered == 1);
}

#[test]
fn errors_hangs_and_cut_connections_are_tried_again() {
    let stub = Stub::start(|n, _| match n {
        0 => Answer::Say("500 Internal Server Error", r#"{"error":"engine: cache full"}"#),
        1 => Answer::Hang,
        2 => Answer::Say("no HTTP at all", ""),
        _ => STORED,
    });
    let policy = Policy { request: Duration::from_millis(300), ..quick() };
    let sinks = sinks(&url(&stub), None, policy, Limits::default());
    sinks.deliver(&[summary(0, &[]), summary(1, &[])]);
    let end = wait_for(&sinks, "delivery", |c| c.queued == 0);
    assert_eq!((end.delivered, end.attempts, end.failed_attempts, end.retried), (2, 4, 3, 3), "{end:?}");
    assert!(stub.requests().iter().all(|r| r.lines() == 2));
}

#[test]
fn denied_is_reported_without_the_token_and_tried_again() {
    // a careless server that repeats what it was sent
    let stub = Stub::start(|n, _| match n {
        0 | 1 => Answer::Say("401 Unauthorized", r#"{"code":"unauthorized","message":"bad token t0ken"}"#),
        _ => STORED,
    });
    let bucket = format!("http://{}?org=o&bucket=b", stub.address());
    let sinks = sinks(&bucket, Some("t0ken"), quick(), Limits::default());
    sinks.deliver(&[summary(0, &[])]);
    let end = wait_for(&sinks, "delivery", |c| c.delivered == 1);
    assert_eq!(end.retried, 2);
    let error = end.last_error.expect("error");
    assert!(error.contains("401: bad token …; check"), "{error}");
    assert!(!end.name.contains("t0ken"));
}

#[test]
fn too_large_is_sent_in_smaller_batches() {
    let stub = Stub::start(|_, request| match request.lines() {
        ..=10 => STORED,
        _ => Answer::Say("413 Request Entity Too Large", ""),
    });
    let sinks = sinks(&url(&stub), None, quick(), Limits::default());
    sinks.deliver(&(0..100).map(|n| summary(n, &[])).collect::<Vec<_>>());
    let end = wait_for(&sinks, "delivery", |c| c.queued == 0);
    assert_eq!((end.delivered, end.refused), (100, 0));
    let stored: String = stub.requests().iter().filter(|r| r.lines() <= 10).map(|r| r.body.clone()).collect();
    let times: Vec<_> = stored.lines().map(|l| l.rsplit(' ').next().expect("time").to_string()).collect();
    assert_eq!(times, (0..100).map(|n| (T0 + n * 30_000_000_000 + 1).to_string()).collect::<Vec<_>>());
}

#[test]
fn what_is_no_database_is_not_believed() {
    for (head, body, remedy) in [
        ("302 Found\r\nLocation: https://db.example/write", "", "https://db.example/write"),
        ("200 OK", "<html>please log in", "no database's answer"),
    ] {
        let stub = Stub::start(move |_, _| Answer::Say(head, body));
        let sinks = sinks(&url(&stub), None, quick(), Limits::default());
        sinks.deliver(&[summary(0, &[])]);
        let wrong = wait_for(&sinks, "an error", |c| c.failed_attempts >= 1);
        assert_eq!((wrong.delivered, wrong.queued), (0, 1));
        assert!(wrong.last_error.as_ref().is_some_and(|e| e.contains(remedy)), "{wrong:?}");
    }
}

#[test]
fn closing_delivers_what_waits() {
    let stub = Stub::start(|n, _| if n == 0 { Answer::Say("503 Service Unavailable", "") } else { STORED });
    // without closing, the second attempt would come after up to an hour
    let policy = Policy { backoff: Duration::from_secs(3600), backoff_max: Duration::from_secs(3600), ..quick() };
    let sinks = sinks(&url(&stub), None, policy, Limits::default());
    sinks.deliver(&[summary(0, &[])]);
    wait_for(&sinks, "a failure", |c| c.failed_attempts == 1);
    let counters = sinks.counters();
    assert_eq!(sinks.close(Duration::from_secs(60)), vec![]);
    assert_eq!(counters[0].snapshot().delivered, 1);
}

#[test]
fn closing_ends_at_its_deadline_and_says_what_is_left() {
    let hanging = Stub::start(|_, _| Answer::Hang);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").to_string();
    for address in [hanging.address(), &gone] {
        let sinks = sinks(&format!("http://{address}?db=llama"), None, Policy::default(), Limits::default());
        sinks.deliver(&[summary(0, &[]), summary(1, &[])]);
        wait_for(&sinks, "an attempt", |c| c.attempts > 0);
        let begin = Instant::now();
        let left = sinks.close(Duration::from_millis(300));
        // far below the 30 s of a request
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].counters.queued, 2);
    }
}

#[test]
fn delivering_never_waits_for_the_server() {
    let stub = Stub::start(|_, _| Answer::Hang);
    let sinks = sinks(&url(&stub), None, Policy::default(), Limits { summaries: 100, bytes: 1 << 20 });
    let summaries: Vec<_> = (0..50).map(|n| summary(n, &[])).collect();
    sinks.deliver(&summaries);
    wait_for(&sinks, "an attempt", |c| c.attempts > 0);
    let begin = Instant::now();
    for _ in 0..10 {
        sinks.deliver(&summaries);
    }
    // the request hangs for 30 s
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let full = counters(&sinks);
    assert_eq!((full.accepted, full.attempts), (550, 1));
    assert_eq!(full.queued + full.dropped, 550, "{full:?}");
    assert!(full.dropped >= 400, "{full:?}");
}
