//! Who may reload, and what comes of it.

use crate::client::{Answer, exchange, get, json as ask, request, wait_for};
use crate::collector::Collector;
use crate::in_process::{any_port, state};
use llama::http::api::{self, Refused, Reload};
use llama::http::recent::{Limits, Recent};
use llama::http::server::{self, Server};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

fn server(reload: Reload) -> Server {
    let state = state(Recent::new(Limits::default()), Some(reload), false);
    Server::start(any_port(), api::router(state), server::Limits::default(), "test").unwrap()
}

fn post(server: &Server, headers: &str) -> Answer {
    let address = server.address();
    let text = format!("POST /api/v1/reload HTTP/1.1\r\nConnection: close\r\nHost: {address}\r\n{headers}\r\n");
    Answer::all(&exchange(address, text.as_bytes())).remove(0)
}

#[test]
fn what_changed_and_what_was_refused() {
    let results = Mutex::new(vec![
        Err(Refused::Busy("an earlier one".into())),
        Err(Refused::Configuration("a.yaml:3:7: no".into())),
        Ok(json!({"paths_added": 2})),
    ]);
    let server = server(Arc::new(move || results.lock().unwrap().pop().unwrap()));
    let answer = post(&server, "");
    assert_eq!((answer.status, answer.json()), (200, json!({"paths_added": 2})));
    let answer = post(&server, "");
    assert!(answer.refusal(422).contains("the old configuration goes on"));
    assert_eq!(answer.json()["error"], "a.yaml:3:7: no");
    assert_eq!(post(&server, "").json()["error"], "an earlier one");
}

#[test]
fn one_at_a_time_and_the_rest_goes_on() {
    let (begun_out, begun) = mpsc::channel();
    let (end_out, end) = mpsc::channel::<()>();
    let end = Mutex::new(end);
    let server = server(Arc::new(move || {
        begun_out.send(()).unwrap();
        end.lock().unwrap().recv().map_err(|_| Refused::Busy("the test has ended".into()))?;
        Ok(json!({}))
    }));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| post(&server, ""));
        begun.recv().unwrap();
        assert!(post(&server, "").refusal(409).contains("ask again"));
        assert_eq!(crate::client::get(server.address(), "/status").text(), "ok");
        end_out.send(()).unwrap();
        assert_eq!(first.join().unwrap().status, 200);
    });
    drop(end_out);
    post(&server, "").refusal(409);
}

#[test]
fn a_bug_in_a_reload_leaves_the_next_one_possible() {
    let calls = AtomicU32::new(0);
    let server = server(Arc::new(move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("a bug for a test"),
        _ => Ok(json!({})),
    }));
    post(&server, "").refusal(500);
    assert_eq!(post(&server, "").status, 200);
}

#[test]
fn no_web_page_can_do_it() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let server = server(Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(json!({}))
    }));
    let address = server.address();
    post(&server, "Origin: http://evil.example\r\n").refusal(403);
    post(&server, "Origin: null\r\n").refusal(403);
    post(&server, "Sec-Fetch-Site: cross-site\r\n").refusal(403);
    for host in ["", "Host: evil.example\r\n", "Host: evil.example:5000\r\nOrigin: http://evil.example:5000\r\n"] {
        let text = format!("POST /api/v1/reload HTTP/1.1\r\nConnection: close\r\n{host}\r\n");
        Answer::all(&exchange(address, text.as_bytes()))[0].refusal(403);
    }
    let text = format!("GET /api/v1/reload HTTP/1.1\r\nConnection: close\r\nHost: {address}\r\n\r\n");
    Answer::all(&exchange(address, text.as_bytes()))[0].refusal(405);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(post(&server, &format!("Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n")).status, 200);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_running_collector_takes_good_configurations_and_refuses_bad_ones() {
    let collector = Collector::measuring(2);
    collector.wait_for_interval();
    let reload = || request(collector.address, "POST /api/v1/reload", "");
    let good = std::fs::read_to_string(&collector.config).unwrap();
    assert_eq!(reload().json()["changed"], false);

    let other = good
        .replace("tags: {rack: a1", "tags: {rack: b2")
        .replace("count: 2}, {port: voice", "count: 3}, {port: voice");
    std::fs::write(&collector.config, &other).unwrap();
    let answer = reload();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["flows"], json!({"kept": 4, "added": 1, "removed": 0}));
    let targets = ask(collector.address, "/api/v1/targets");
    assert_eq!(targets["targets"][0]["tags"]["rack"], "b2", "{targets}");
    wait_for("a summary of the new plan", || {
        let latest = ask(collector.address, "/api/v1/paths");
        let paths = latest["paths"].as_array()?.clone();
        (paths.iter().any(|path| path["flows"] == 3) && paths.iter().all(|path| path["tags"]["rack"] == "b2"))
            .then_some(())
    });

    std::fs::write(&collector.config, other.replace("cps: 20", "cps: none")).unwrap();
    let answer = reload();
    answer.refusal(422);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("matrix.yaml:4:") && error.contains("cps"), "{error}");
    let health = ask(collector.address, "/api/v1/health");
    assert!(health["reasons"].as_array().unwrap().iter().any(|reason| reason["name"] == "reload_refused"), "{health}");
    assert_eq!(ask(collector.address, "/api/v1/targets"), targets);

    std::fs::write(&collector.config, &other).unwrap();
    assert_eq!(reload().json()["changed"], false);
    let health = ask(collector.address, "/api/v1/health");
    assert!(!health["reasons"].as_array().unwrap().iter().any(|reason| reason["name"] == "reload_refused"), "{health}");
    let metrics = get(collector.address, "/metrics");
    for (result, count) in [("applied", 1), ("unchanged", 2), ("refused", 1)] {
        let line = format!("llama_config_reloads_total{{result=\"{result}\"}} {count}");
        assert!(metrics.text().lines().any(|other| other == line), "{line} in {}", metrics.text());
    }
}
