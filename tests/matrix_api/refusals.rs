//! What is refused, with which words, and what a source that fails comes to.

use crate::client::{get, request};
use crate::memory::{Memory, fleet};
use crate::{any_port, serve};
use llama::http::matrix::{self, ENDPOINTS};
use llama::http::server::{Limits, Server};
use llama::matrix::SourceError;

#[test]
fn parameters_that_cannot_be() {
    let server = serve(&Memory::of(fleet()));
    let flow = "path=0123456789abcdef&source=10.0.0.1:1&target=10.0.0.2:2&dscp=0";
    for (path, remedy) in [
        ("extent?rows=a", "use at, from"),
        ("extent?at=x", "RFC 3339"),
        ("extent?where=a%3D1", "use at, from"),
        ("?rows=", "group or a tag"),
        ("?rows=a&rows=b", "once"),
        ("?before=0", "whole number"),
        ("?before=yesterday", "whole number"),
        ("?where=rack", "KEY=VALUE"),
        ("?to=5", "add from="),
        ("?from=5&to=4", "earlier instant"),
        ("?at=5&from=4", "at= span="),
        ("?nonsense=1", "use rows, columns, before, at"),
        ("paths?order=worst", "loss, lost, rtt_mean"),
        ("paths?limit=0", "1 to 10000"),
        ("paths?limit=10001", "1 to 10000"),
        ("paths?path=7", "16 hexadecimal digits"),
        ("flows?order=lost", "loss, rtt"),
        ("flows?limit=-1", "1 to 10000"),
        ("series?points=3001", "1 to 3000"),
        ("series?step=1", "use points"),
        ("flow", "name a flow"),
        (&format!("flow?{flow}&where=a%3D1"), "use path, source"),
        (&format!("flow?{}", flow.replace("10.0.0.1:1", "10.0.0.1")), "ADDR:PORT"),
        (&format!("flow?{}", flow.replace("dscp=0", "dscp=64")), "0 to 63"),
        (&format!("flow?{}", flow.replace("dscp=0", "at=1")), "dscp="),
        (&format!("flow?{}", flow.replace("path=0123456789abcdef&", "")), "path="),
        ("probers?path=0123456789abcdef", "use at, from"),
        ("/../events?last=1", "no parameters"),
    ] {
        let separator = if path.starts_with('?') { "" } else { "/" };
        let path = match path.strip_prefix("/../") {
            Some(other) => format!("/api/v1/{other}"),
            None => format!("/api/v1/matrix{separator}{path}"),
        };
        let said = get(server.address(), &path).refusal(400);
        assert!(said.contains(remedy), "{path}: {said}");
    }
    for endpoint in ENDPOINTS {
        request(server.address(), &format!("POST {}", endpoint.path), "Content-Length: 0\r\n").refusal(405);
    }
}

#[test]
fn without_a_history_each_endpoint_says_how_to_get_one() {
    let server = Server::start(any_port(), matrix::router(None), Limits::default(), "test").unwrap();
    for endpoint in ENDPOINTS {
        assert_eq!(get(server.address(), endpoint.path).refusal(404), "start with --history DIR", "{}", endpoint.path);
    }
}

#[test]
fn a_source_that_fails_is_told_with_its_words() {
    let memory = Memory::of(fleet());
    let server = serve(&memory);
    for (error, status) in [
        (SourceError::Away("the database is asleep".into()), 503),
        (SourceError::TooMuch("10 days asked, 5 possible".into()), 400),
        (SourceError::Broken("block 7 is damaged".into()), 503),
    ] {
        *memory.fails.lock().unwrap() = Some(error.clone());
        for path in ["", "/extent", "/paths", "/flows", "/series", "/probers"] {
            let answer = get(server.address(), &format!("/api/v1/matrix{path}"));
            answer.refusal(status);
            assert_eq!(answer.json()["error"], error.to_string());
        }
        get(server.address(), "/api/v1/events").refusal(status);
    }
    *memory.fails.lock().unwrap() = None;
    assert_eq!(get(server.address(), "/api/v1/matrix").status, 200);
}
