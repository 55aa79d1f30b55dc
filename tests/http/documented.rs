//! `docs/api.md` against the program: each endpoint is documented with an example, and the names in the
//! examples are those that are served.

use crate::client::{get, json, request, wait_for};
use crate::collector::Collector;
use crate::common::documented::{self, example, page, section};
use llama::http::api::ENDPOINTS;
use serde_json::Value;
use std::collections::BTreeSet;

/// What of an answer is documented.
fn keys_of(value: &Value) -> BTreeSet<String> {
    documented::keys_of(value, &["tags", "features", "reasons"])
}

#[test]
fn every_endpoint_is_documented_and_every_documented_one_is_there() {
    let documented: BTreeSet<&str> =
        page().lines().filter_map(|line| line.strip_prefix("## `")?.split('`').next()).collect();
    let served: BTreeSet<String> =
        ENDPOINTS.iter().chain(&llama::http::matrix::ENDPOINTS).map(|e| format!("{} {}", e.method, e.path)).collect();
    assert_eq!(documented, served.iter().map(String::as_str).collect());
}

#[test]
fn the_names_in_the_examples_are_those_that_are_served() {
    let collector = Collector::measuring(2);
    let address = collector.address;
    // an interval in which something came back, so that nothing that can be null is
    let id = wait_for("a round trip", || {
        let paths = json(address, "/api/v1/paths");
        let path = &paths["paths"][0];
        path["rtt_ms"].is_number().then(|| path["id"].as_str().unwrap().to_owned())
    });
    for (endpoint, path) in [
        ("GET /influxdata", "/influxdata".to_owned()),
        ("GET /latency", "/latency".to_owned()),
        ("GET /api/v1/", "/api/v1/".to_owned()),
        ("GET /api/v1/summaries", "/api/v1/summaries?after=0&histogram=1".to_owned()),
        ("GET /api/v1/paths", "/api/v1/paths".to_owned()),
        ("GET /api/v1/paths/{id}/flows", format!("/api/v1/paths/{id}/flows")),
        ("GET /api/v1/targets", "/api/v1/targets".to_owned()),
        ("GET /api/v1/health", "/api/v1/health".to_owned()),
        ("GET /api/v1/build", "/api/v1/build".to_owned()),
    ] {
        let served = json(address, &path);
        assert_eq!(keys_of(&example(endpoint)), keys_of(&served), "{endpoint}: {served}");
    }
    assert!(get(address, "/").text().contains("<title>LLAMA</title>") && section("GET /").contains("browser"));
    assert!(section("GET /status").contains(&format!("`{}`", get(address, "/status").text())));
    let reloaded = request(address, "POST /api/v1/reload", "");
    assert_eq!(keys_of(&example("POST /api/v1/reload")), keys_of(&reloaded.json()));
}

#[test]
fn the_example_check_can_fail() {
    let keys = |text: &str| keys_of(&serde_json::from_str(text).unwrap());
    assert_ne!(keys(r#"{"a": [{"b": 1}]}"#), keys(r#"{"a": [{"c": 1}]}"#));
    assert_ne!(keys(r#"{"a": {"b": 1}}"#), keys(r#"{"a": {"b": 1}, "c": 2}"#));
    assert_eq!(keys(r#"{"tags": {"b": 1}}"#), keys(r#"{"tags": {}}"#));
}
