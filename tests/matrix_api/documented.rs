//! `docs/api.md` against what is served: every endpoint has an example, whose names are those of a real answer.

use crate::client::json;
use crate::common::documented;
use crate::memory::{Memory, fleet};
use crate::serve;
use llama::http::matrix::ENDPOINTS;
use serde_json::Value;
use std::collections::BTreeSet;

/// The example of an endpoint.
fn example(endpoint: &str) -> Value {
    documented::example(&format!("GET {endpoint}"))
}

/// What of an answer is documented.
fn keys_of(value: &Value) -> BTreeSet<String> {
    documented::keys_of(value, &[".tags"])
}

#[test]
fn the_names_in_the_examples_are_those_that_are_served() {
    let server = serve(&Memory::of(fleet()));
    let flow = &json(server.address(), "/api/v1/matrix/flows")["flows"][0];
    let of_flow = ["path", "source", "target", "dscp"].map(|name| format!("{name}={}", flow[name]).replace('"', ""));
    for endpoint in ENDPOINTS.iter().map(|endpoint| endpoint.path).filter(|path| *path != "/api/v1/events") {
        let query = match endpoint {
            "/api/v1/matrix" => "?before=86400".into(),
            "/api/v1/matrix/flow" => format!("?{}", of_flow.join("&")),
            _ => String::new(),
        };
        let served = json(server.address(), &format!("{endpoint}{query}"));
        assert_eq!(keys_of(&example(endpoint)), keys_of(&served), "{endpoint}");
    }
}

#[test]
fn rows_of_the_examples_are_as_long_as_their_fields() {
    for (endpoint, list) in [("", "cells"), ("/paths", "paths"), ("/series", "points")] {
        let example = example(&format!("/api/v1/matrix{endpoint}"));
        let rows = crate::objects(&example, list);
        assert!(!rows.is_empty(), "{endpoint}");
    }
}

#[test]
fn the_example_check_can_fail() {
    let keys = |text: &str| keys_of(&serde_json::from_str(text).unwrap());
    assert_ne!(keys(r#"{"fields": ["a", "b"]}"#), keys(r#"{"fields": ["a", "c"]}"#));
    assert_ne!(keys(r#"{"a": [{"b": 1}]}"#), keys(r#"{"a": [{"c": 1}]}"#));
    assert_eq!(keys(r#"{"tags": {"b": 1}}"#), keys(r#"{"tags": {}}"#));
}
