//! The examples of `docs/api.md`, and what of them can be compared with what is served.

use serde_json::Value;
use std::collections::BTreeSet;

/// The page.
pub fn page() -> &'static str {
    include_str!("../../docs/api.md")
}

/// The section of an endpoint, named as in its heading: `GET /status`.
pub fn section(endpoint: &str) -> &'static str {
    let start = page().find(&format!("\n## `{endpoint}`")).unwrap_or_else(|| panic!("docs/api.md lacks `{endpoint}`"));
    let rest = &page()[start + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The first JSON example of a section.
pub fn example(endpoint: &str) -> Value {
    let section = section(endpoint);
    let text = section.split("```json\n").nth(1).unwrap_or_else(|| panic!("{endpoint}: no example"));
    let text = text.split("```").next().unwrap();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{endpoint}: {error}: {text}"))
}

/// Every key with those it stands below; lists count by their first item, lists of names (`fields`) by all of theirs.
/// What is below keys that end like one of `open` depends on the configuration and the host.
pub fn keys_of(value: &Value, open: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(value, open, "", &mut found);
    found
}

fn keys(value: &Value, open: &[&str], at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = format!("{at}.{key}");
                if !open.iter().any(|open| key.ends_with(open)) {
                    keys(value, open, &key, found);
                }
                found.insert(key);
            }
        }
        Value::Array(list) if at.ends_with(".fields") => {
            found.extend(list.iter().map(|name| format!("{at}.{}", name.as_str().unwrap())));
        }
        Value::Array(list) => {
            list.first().into_iter().for_each(|first| keys(first, open, &format!("{at}[]"), found));
        }
        _ => {}
    }
}
