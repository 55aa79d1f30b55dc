//! Who may reload, and what comes of it.

use crate::client::{Answer, exchange};
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
