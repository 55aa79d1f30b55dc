//! The server alone, with limits of the test's choice and handlers that misbehave.

use crate::client::{Answer, PATIENCE, connect, exchange, get, to_end, wait_for};
use axum::Router;
use axum::routing::get as route;
use llama::config::plan::Plan;
use llama::http::api::{self, CurrentPlan, Health, Reload, State};
use llama::http::recent::{self, Recent};
use llama::http::server::{Limits, Server};
use llama::probe::shape::{Dscp, MethodKind};
use llama::summary::{Counts, Path, Summary};
use llama::time::Wall;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A state with nothing measured.
pub fn state(recent: Recent, reload: Option<Reload>, remote_reload: bool) -> State {
    let plan = Plan {
        interval: Duration::from_secs(1),
        api: None,
        shapes: Vec::new(),
        sources: Vec::new(),
        targets: Vec::new(),
        flows: Vec::new(),
        paths: Vec::new(),
        tests: Vec::new(),
        syn_limit: None,
    };
    State {
        recent: Arc::new(recent),
        plan: CurrentPlan::new(Arc::new(plan)),
        health: Arc::new(Health::default),
        reload,
        remote_reload,
        sinks: Vec::new(),
        started: Wall(0),
    }
}

fn summary(number: u32) -> Summary {
    let path = Path {
        src: [10, 0, 0, 1].into(),
        dst: (0x0a01_0000 + number).to_be_bytes().into(),
        method: MethodKind::Udp,
        dscp: Dscp(0),
        size: None,
        group: "far".into(),
        tags: Arc::default(),
    };
    Summary {
        path: Arc::new(path),
        interval: 1,
        start: Wall(0),
        end: Wall(1_000_000_000),
        counts: Counts { sent: 10, replied: 10, ..Counts::default() },
        rtt: None,
        ipdv: None,
        owd_forward: None,
        owd_reverse: None,
        residence: None,
        rtt_histogram: Vec::new(),
        sent_by: None,
        received_by: None,
        lateness: None,
        local_drops: 0,
        flows: 1,
        flows_with_loss: 0,
        worst_flows: Vec::new(),
        reporter: None,
        seen: Default::default(),
        suspect: Vec::new(),
    }
}

#[test]
fn ten_thousand_paths_while_somebody_reads_slowly() {
    const PATHS: u32 = 10_000;
    let recent = Recent::new(recent::Limits::default());
    recent.add((0..PATHS).map(summary).collect());
    let server = Server::start(any_port(), api::router(state(recent, None, false)), Limits::default(), "test").unwrap();
    let address = server.address();
    let mut slow = connect(address);
    slow.write_all(b"GET /api/v1/summaries HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    slow.read_exact(&mut first).unwrap();
    for _ in 0..3 {
        assert_eq!(get(address, "/status").text(), "ok");
        let points = get(address, "/influxdata").json();
        assert_eq!(points.as_array().unwrap().len(), PATHS as usize);
    }
    let whole = [&first[..], &to_end(&mut slow)].concat();
    let (answer, length) = Answer::first(&whole, false).unwrap();
    assert_eq!(length, whole.len());
    let summaries = answer.json();
    let list = summaries["summaries"].as_array().unwrap();
    assert_eq!((list.len(), &list[9_999]["sequence"]), (PATHS as usize, &10_000.into()));
    assert_eq!(list[9_999]["dst_ip"], "10.1.39.15");
    let counters = server.stop();
    assert!(counters.bytes > whole.len() as u64, "{counters:?}");
    assert_eq!((counters.accepted, counters.answers[1], counters.open), (7, 7, 0));
}

#[test]
fn a_bug_in_a_handler_is_one_answer_of_500() {
    let router = Router::new()
        .route(
            "/bug",
            route(|| async {
                if std::env::args().count() > 0 {
                    panic!("a bug for a test")
                }
            }),
        )
        .route("/fine", route(|| async { "fine" }));
    let server = Server::start(any_port(), router, Limits::default(), "test").unwrap();
    let request = b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\nGET /fine HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = Answer::all(&exchange(server.address(), request));
    assert!(answers[0].refusal(500).contains("report"));
    assert_eq!(answers[1].text(), "fine", "even on the same connection");
    let counters = server.stop();
    assert_eq!((counters.panics, counters.answers), (1, [0, 1, 0, 0, 1]));
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let router = Router::new().route("/never", route(std::future::pending::<()>));
    let limits = Limits { request_time: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(any_port(), router, limits, "test").unwrap();
    assert!(get(server.address(), "/never").refusal(503).contains("later"));
    assert_eq!(server.stop().timed_out, 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let router = Router::new().route("/fine", route(|| async { "fine" }));
    let limits = Limits { idle_time: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(any_port(), router, limits, "test").unwrap();
    let bytes = exchange(server.address(), b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(Answer::all(&bytes).len(), 1);
    assert_eq!(server.stop().timed_out, 1);
}

#[test]
fn stopping_lets_an_answer_under_way_finish_and_no_more() {
    let (begun_out, begun) = std::sync::mpsc::channel();
    let (go_out, go) = tokio::sync::watch::channel(false);
    let handler = move || {
        let (begun, mut go) = (begun_out.clone(), go.clone());
        async move {
            begun.send(()).unwrap();
            go.wait_for(|go| *go).await.unwrap();
            "finished"
        }
    };
    let server =
        Server::start(any_port(), Router::new().route("/slow", route(handler)), Limits::default(), "test").unwrap();
    let address = server.address();
    let client = std::thread::spawn(move || get(address, "/slow"));
    begun.recv_timeout(PATIENCE).unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    // no longer accepted, while the answer is still under way
    wait_for("refusal", || std::net::TcpStream::connect(address).is_err().then_some(()));
    go_out.send(true).unwrap();
    assert_eq!(client.join().unwrap().text(), "finished");
    assert_eq!(stopping.join().unwrap().open, 0);

    // one that never ends does not keep the server
    let router = Router::new().route("/never", route(std::future::pending::<()>));
    let server = Server::start(any_port(), router, Limits::default(), "test").unwrap();
    let mut stream = connect(server.address());
    stream.write_all(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let counters = server.counters();
    wait_for("the request", || (counters.snapshot().accepted == 1).then_some(()));
    let before = Instant::now();
    server.stop();
    assert!(before.elapsed() < PATIENCE);
    assert!(to_end(&mut stream).is_empty());
}

#[test]
fn addresses_that_cannot_be() {
    let start = |bind: &str| {
        let error = Server::start(bind.parse().unwrap(), Router::new(), Limits::default(), "api").unwrap_err();
        error.to_string()
    };
    let error = start("192.0.2.1:80");
    assert!(
        error.starts_with("api: cannot listen on 192.0.2.1:80: ") && error.contains("address of this host"),
        "{error}"
    );
}
