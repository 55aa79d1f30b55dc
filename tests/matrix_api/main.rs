//! The endpoints of the matrix over real sockets: what they answer to whom, and what they refuse; over summaries in
//! memory, whose figures the tests know, and over the history of real roles.
#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

#[path = "../http/client.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod client;
#[path = "../common/mod.rs"]
mod common;

mod answers;
mod bounds;
mod documented;
mod events;
#[path = "../influx/server.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod influxd;
mod instants;
mod memory;
mod refusals;
mod roles;

use client::json;
use llama::http::matrix::{self, Shown};
use llama::http::server::{Limits, Server};
use memory::Memory;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A server of the matrix over these summaries.
fn serve(memory: &Arc<Memory>) -> Server {
    let source: Arc<dyn llama::matrix::Source> = Arc::clone(memory) as _;
    let shown = Shown::new(source, "test", Duration::from_millis(250));
    Server::start(any_port(), matrix::router(Some(shown)), Limits::default(), "test").unwrap()
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A text as it stands in a URL.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// `?where=KEY=VALUE` of one condition.
fn condition(key: &str, value: &str) -> String {
    format!("where={}", encoded(&format!("{key}={value}")))
}

/// The rows of a list, each as an object by the answer's `fields`.
fn objects(answer: &Value, list: &str) -> Vec<Value> {
    let fields: Vec<&str> = answer["fields"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
    let rows = answer[list].as_array().unwrap();
    let object = |row: &Value| {
        let row = row.as_array().unwrap();
        assert_eq!(row.len(), fields.len(), "{row:?}");
        fields.iter().map(|field| field.to_string()).zip(row.iter().cloned()).collect::<serde_json::Map<_, _>>().into()
    };
    rows.iter().map(object).collect()
}

/// The answer of `/api/v1/matrix` and what follows it in `path`.
fn ask(server: &Server, path: &str) -> Value {
    json(server.address(), &format!("/api/v1/matrix{path}"))
}
