//! `docs/api.md` against the program: each endpoint is documented with an example, and the names in the
//! examples are those that are served.

use crate::client::{get, json, request, wait_for};
use crate::collector::Collector;
use llama::http::api::ENDPOINTS;
use serde_json::Value;
use std::collections::BTreeSet;

fn page() -> &'static str {
    include_str!("../../docs/api.md")
}

/// The section of an endpoint.
fn section(endpoint: &str) -> &'static str {
    let start = page().find(&format!("\n## `{endpoint}`")).unwrap_or_else(|| panic!("docs/api.md lacks `{endpoint}`"));
    let rest = &page()[start + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The first JSON example of a section.
fn example(endpoint: &str) -> Value {
    let section = section(endpoint);
    let text = section.split("```json\n").nth(1).unwrap_or_else(|| panic!("{endpoint}: no example"));
    let text = text.split("```").next().unwrap();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{endpoint}: {error}: {text}"))
}

/// Every key with the keys it stands below; lists count by their first item. What is below tags, features
/// and reasons depends on the configuration and the host.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = format!("{at}.{key}");
                if !["tags", "features", "reasons"].iter().any(|open| key.ends_with(open)) {
                    keys(value, &key, found);
                }
                found.insert(key);
            }
        }
        Value::Array(list) => {
            if let Some(first) = list.first() {
                keys(first, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

fn keys_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(value, "", &mut found);
    found
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
