//! Reads a dashboard's JSON: what is wrong with its structure, which queries it has, and what Grafana makes of them once
//! variables and macros are filled in. What the queries must give is not known here.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Width of Grafana's grid.
const COLUMNS: u64 = 24;
/// What Grafana fills in itself, in queries and links.
const GRAFANAS: [&str; 11] = [
    "__interval",
    "__rate_interval",
    "__range",
    "__url_time_range",
    "__data.fields",
    "__data.fields.instance",
    "__field.name",
    "timeFilter",
    "__all",
    "datasource",
    "1", // no variable: the first group of label_replace
];

/// A query of a panel or of a variable.
#[derive(Clone, Debug)]
pub struct Query {
    /// Title of its panel, or name of its variable.
    pub of: String,
    /// Its letter in the panel.
    pub letter: String,
    pub text: String,
    /// Asked for one instant or for a table of the whole time; otherwise for a series over time.
    pub instant: bool,
}

/// A dashboard as its file holds it.
pub struct Dashboard(pub Value);

/// What is chosen on the dashboard, and what Grafana fills in: texts by name.
pub type Chosen = BTreeMap<&'static str, String>;

impl Dashboard {
    pub fn read(name: &str) -> Dashboard {
        let path = format!("{}/docs/grafana/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Dashboard(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.0["panels"])
    }

    pub fn variables(&self) -> impl Iterator<Item = &Value> {
        list(&self.0["templating"]["list"])
    }

    /// Every query of every panel.
    pub fn queries(&self) -> Vec<Query> {
        let of_panel = |panel: &Value| -> Vec<Query> {
            let query = |target: &Value| Query {
                of: text(&panel["title"]).to_owned(),
                letter: text(&target["refId"]).to_owned(),
                text: text(target.get("query").unwrap_or(&target["expr"])).to_owned(),
                instant: target["instant"] == true || target["resultFormat"] == "table",
            };
            list(&panel["targets"]).map(query).collect()
        };
        self.panels().flat_map(of_panel).collect()
    }

    /// Every query of a variable.
    pub fn variable_queries(&self) -> Vec<Query> {
        let queries = self.variables().filter(|variable| variable["type"] == "query");
        let query = |variable: &Value| Query {
            of: text(&variable["name"]).to_owned(),
            letter: String::new(),
            text: text(variable["query"].get("query").unwrap_or(&variable["query"])).to_owned(),
            instant: true,
        };
        queries.map(query).collect()
    }

    /// The text behind an option of a custom variable.
    pub fn option(&self, variable: &str, option: &str) -> String {
        let variable = self.variables().find(|one| one["name"] == variable).unwrap();
        let options: Vec<_> = text(&variable["query"]).split(',').map(|one| one.split_once(" : ").unwrap()).collect();
        let (_, value) = options.iter().find(|(name, _)| *name == option).unwrap();
        let listed = list(&variable["options"]).map(|one| (text(&one["text"]), text(&one["value"])));
        assert_eq!(listed.collect::<Vec<_>>(), options, "the options are those of the query");
        (*value).to_owned()
    }

    /// What is wrong with its structure.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        let mut cells = BTreeMap::new();
        let mut known: BTreeSet<&str> = GRAFANAS.into();
        known.extend(self.variables().map(|variable| text(&variable["name"])));
        for variable in self.variables() {
            let name = text(&variable["name"]);
            if variable["label"].as_str().is_none_or(str::is_empty) {
                found.push(format!("variable {name} has no label"));
            }
            if variable["type"] != "datasource" && variable["description"].as_str().is_none_or(str::is_empty) {
                found.push(format!("variable {name} has no description"));
            }
            if variable["type"] == "query" && variable["datasource"]["uid"] != "${datasource}" {
                found.push(format!("variable {name} has a data source of its own"));
            }
        }
        for panel in self.panels() {
            let title = text(&panel["title"]);
            let mut say = |what: &str| found.push(format!("panel {title:?} ({}): {what}", panel["id"]));
            if title.is_empty() {
                say("no title");
            }
            if !titles.insert(title) {
                say("its title is another's");
            }
            if !ids.insert(panel["id"].as_u64()) || panel["id"].is_null() {
                say("its id is another's, or none");
            }
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(0));
            if w == 0 || h == 0 || x + w > COLUMNS {
                say("it is not on the grid");
            }
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                if let Some(other) = cells.insert(cell, title) {
                    say(&format!("it overlaps {other:?}"));
                    break;
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            if panel["description"].as_str().is_none_or(|text| text.len() < 20) {
                say("no description");
            }
            if panel["targets"].as_array().is_none_or(Vec::is_empty) {
                say("no query");
            }
            let mut letters = BTreeSet::new();
            for part in std::iter::once(panel).chain(list(&panel["targets"])) {
                if part["datasource"]["uid"] != "${datasource}" {
                    say("a data source that is not the dashboard's variable");
                }
                if part.get("refId").is_some_and(|letter| !letters.insert(letter.as_str())) {
                    say("two queries with one letter");
                }
            }
        }
        for name in names(&self.0.to_string()).difference(&known.iter().map(|&name| name.to_owned()).collect()) {
            // tags in InfluxDB's legends
            if !name.starts_with("tag_") {
                found.push(format!("${name} is no variable"));
            }
        }
        found
    }
}

/// Names after `$` and in `${…}`, without formats.
fn names(text: &str) -> BTreeSet<String> {
    let after = text.split('$').skip(1).map(|rest| rest.trim_start_matches('{'));
    let name = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').to_owned()
    };
    after.map(name).filter(|name| !name.is_empty()).collect()
}

/// A query as Grafana would send it.
///
/// # Panics
/// When something is left that Grafana would fill in and `chosen` does not name.
pub fn fill(query: &str, chosen: &Chosen) -> String {
    let mut filled = query.to_owned();
    // longest names first: `$row_value` is not `$row` and something
    let mut names: Vec<_> = chosen.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in names {
        for form in [format!("${{{name}:raw}}"), format!("${{{name}}}"), format!("${name}")] {
            filled = filled.replace(&form, value);
        }
    }
    let left: Vec<_> = self::names(&filled).into_iter().filter(|name| name != "1").collect();
    assert!(left.is_empty(), "{left:?} of {query} were not filled in");
    filled
}

/// Queries of whose answer `check` finds nothing wrong even when it is empty.
pub fn unnoticed(queries: &[Query], check: impl Fn(&Query)) -> Vec<String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ())); // these panics are no news
    let passes = |query: &&Query| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(query))).is_ok();
    let found = queries.iter().filter(passes).map(|query| query.of.clone()).collect();
    std::panic::set_hook(hook);
    found
}

pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn both_dashboards_are_sound() {
    for name in ["influxdb", "prometheus"] {
        let dashboard = Dashboard::read(name);
        assert_eq!(dashboard.complaints(), Vec::<String>::new(), "{name}");
        assert_eq!(dashboard.0["uid"], format!("llama-{name}"));
        assert!(dashboard.0["id"].is_null() && dashboard.0["__inputs"].is_array(), "{name} is ready for import");
        let links = dashboard.0.to_string();
        assert!(links.contains(&format!("\"/d/llama-{name}?")), "cells of {name} lead to itself");
        for wanted in ["row", "column", "group", "method", "dscp"] {
            assert!(dashboard.variables().any(|variable| variable["name"] == wanted), "{name} has no {wanted}");
        }
    }
}

#[test]
fn the_check_of_structure_can_fail() {
    let complaints = |change: &dyn Fn(&mut Value)| {
        let mut dashboard = Dashboard::read("influxdb");
        change(&mut dashboard.0);
        dashboard.complaints().len()
    };
    assert_eq!(complaints(&|_| ()), 0);
    assert!(complaints(&|d| d["panels"][1]["id"] = d["panels"][2]["id"].clone()) == 1);
    assert!(complaints(&|d| d["panels"][1]["title"] = "".into()) == 1);
    assert!(complaints(&|d| d["panels"][1]["description"] = "".into()) == 1);
    assert!(complaints(&|d| d["panels"][1]["datasource"]["uid"] = "abc".into()) == 1);
    assert!(complaints(&|d| d["panels"][1]["targets"][0]["datasource"] = Value::Null) == 1);
    assert!(complaints(&|d| d["panels"][2]["gridPos"] = d["panels"][1]["gridPos"].clone()) == 1);
    assert!(complaints(&|d| d["panels"][1]["targets"][0]["query"] = "SELECT $nothing".into()) == 1);
    assert!(complaints(&|d| d["templating"]["list"][1]["description"] = "".into()) == 1);
}

#[test]
fn variables_are_filled_in_as_grafana_does() {
    let chosen = Chosen::from([("row", "a".into()), ("row_value", "(b|c)".into())]);
    assert_eq!(fill(r#""${row:raw}" =~ /^$row_value$/ "$1""#, &chosen), r#""a" =~ /^(b|c)$/ "$1""#);
    assert!(std::panic::catch_unwind(|| fill("$column", &chosen)).is_err());
}
