//! The Prometheus dashboard over a real Prometheus: shares are exact, counts are extrapolated.

use super::dashboard::{Chosen, Dashboard, Query, fill, list, text, unnoticed};
use super::fleet::{Fleet, SOURCE, TARGETS};
use super::known::{Known, Probes, Row, label, number};
use super::prometheus::{agent, values};
use serde_json::{Value, json};

/// How much of what was counted may be extrapolated to the window's ends: a scrape at each.
const EXTRAPOLATED: f64 = 1.5;

fn ask(fleet: &Fleet, path: &str, parameters: &[(&str, String)]) -> Value {
    let mut request = agent().get(format!("http://{}/api/v1/{path}", fleet.prometheus.address()));
    for (name, value) in parameters {
        request = request.query(name, value);
    }
    let mut response = request.call().unwrap_or_else(|error| panic!("{path} {parameters:?}: {error}"));
    let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    assert!(answer["status"] == "success" && answer["warnings"].is_null(), "{parameters:?}: {answer}");
    answer["data"].clone()
}

/// The result of a query at the end of the time looked at.
fn at_the_end(fleet: &Fleet, query: &str) -> Vec<Value> {
    let answer = ask(fleet, "query", &[("query", query.into()), ("time", fleet.scraped.1.to_string())]);
    list(&answer["result"]).cloned().collect()
}

/// A query's points with the labels of their series, as a table has them or as a series.
fn rows(fleet: &Fleet, query: &Query, filled: &str) -> Vec<Row> {
    let (begin, end) = fleet.scraped;
    let series = if query.instant {
        at_the_end(fleet, filled)
    } else {
        let parameters = [("query", filled.into()), ("start", begin.to_string()), ("end", end.to_string())];
        let answer = ask(fleet, "query_range", &[parameters.as_slice(), &[("step", "1".into())]].concat());
        list(&answer["result"]).cloned().collect()
    };
    let of_series = |series: &Value| -> Vec<Row> {
        let points = series["values"].as_array().cloned().unwrap_or_else(|| vec![series["value"].clone()]);
        let row = |point: Value| {
            let mut row = series["metric"].as_object().unwrap().clone();
            row.insert("Value".into(), point[1].clone());
            row
        };
        points.into_iter().map(row).collect()
    };
    series.iter().flat_map(of_series).collect()
}

struct View {
    name: &'static str,
    by_site: bool,
    /// Destinations that are chosen; none is all of them.
    only: &'static [usize],
}

/// What Grafana fills in for regular expressions in texts of PromQL: special characters lose their meaning twice.
fn one_of(values: &[&str]) -> String {
    format!("({})", values.join("|").replace('.', "\\\\."))
}

impl View {
    fn chosen(&self, fleet: &Fleet, dashboard: &Dashboard) -> Chosen {
        let (row, column) = if self.by_site { ("tag_src_site", "tag_dst_site") } else { ("src", "dst") };
        let collectors = at_the_end(fleet, "llama_intervals_closed_total");
        let collectors: Vec<_> = collectors.iter().map(|series| text(&series["metric"]["instance"])).collect();
        let mut chosen = Chosen::from([
            ("row", row.into()),
            ("column", column.into()),
            ("min_lost", "3".into()),
            ("__range", format!("{}s", fleet.scraped.1 - fleet.scraped.0)),
            ("__rate_interval", "4s".into()),
            // without a value for All, Grafana names all
            ("collector", one_of(&collectors)),
        ]);
        for name in ["row_value", "column_value", "group", "method", "dscp"] {
            let variable = dashboard.variables().find(|variable| variable["name"] == name).unwrap();
            chosen.insert(name, text(&variable["allValue"]).to_owned());
        }
        if !self.only.is_empty() {
            let column = |at: &usize| if self.by_site { TARGETS[*at].1 } else { TARGETS[*at].0 };
            let groups: Vec<_> = self.only.iter().map(|at| format!("{}-{}", TARGETS[*at].2, TARGETS[*at].1)).collect();
            chosen.insert("column_value", one_of(&self.only.iter().map(column).collect::<Vec<_>>()));
            chosen.insert("row_value", one_of(&[if self.by_site { "here" } else { SOURCE }]));
            chosen.insert("method", one_of(&["udp"]));
            chosen.insert("dscp", one_of(&["0"]));
            chosen.insert("group", one_of(&groups.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        chosen
    }

    /// What the counters grew by, from the scraped values alone.
    fn known(&self, fleet: &Fleet) -> Known {
        let range = fleet.scraped.1 - fleet.scraped.0;
        let scraped = |name: &str, dst: &str| {
            let series = at_the_end(fleet, &format!("{name}{{dst=\"{dst}\"}}[{range}s]"));
            assert_eq!(series.len(), 1, "{name} of {dst}: {series:?}");
            values(&series[0])
        };
        let grown = |name: &str, dst: &str| {
            let values = scraped(&format!("llama_path_probes_{name}_total"), dst);
            values.last().unwrap() - values.first().unwrap()
        };
        let chosen = TARGETS.iter().enumerate().filter(|(at, _)| self.only.is_empty() || self.only.contains(at));
        let probes = |dst: &str| {
            let suspect = scraped("llama_path_suspect", dst);
            let share = 100.0 * suspect.iter().sum::<f64>() / suspect.len() as f64;
            Probes { sent: grown("sent", dst), lost: grown("lost", dst), suspect: share }
        };
        Known {
            probes: chosen.map(|(_, (dst, ..))| ((*dst).to_owned(), probes(dst))).collect(),
            by_site: self.by_site,
            rtt_per_second: 1.0,
            extrapolated: EXTRAPOLATED,
        }
    }
}

fn check(fleet: &Fleet, view: &View, query: &Query, rows: &[Row]) {
    let known = view.known(fleet);
    let values = || rows.iter().filter_map(|row| number(row, "Value"));
    let most = || values().fold(f64::NAN, f64::max);
    let all_from_the_collector = || {
        assert!(rows.iter().all(|row| label(row, "instance").starts_with("127.0.0.1:")), "{rows:?}");
        assert!(values().count() > 0, "nothing: {}", query.text);
    };
    let (panel, letter) = (query.of.as_str(), query.letter.as_str());
    if (panel, letter) != ("Loss over time", "C") && known.check(panel, letter, "Value", rows) {
        return;
    }
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs().max(1.0);
    match (panel, letter) {
        ("Suspect paths", _) => assert_eq!(values().count(), 1, "{rows:?}"),
        ("Paths not shown", _) => assert_eq!(values().collect::<Vec<_>>(), [0.0]),
        ("Suspect time by cell", _) => {
            assert_eq!(values().count(), known.probes.len(), "{rows:?}");
            for row in rows {
                let target = TARGETS.iter().find(|(ip, site, _)| [*ip, *site].contains(&label(row, "column")));
                let suspect = known.probes[target.unwrap().0].suspect;
                assert!(close(number(row, "Value").unwrap(), suspect) && suspect > 0.0, "{row:?} is not {suspect}");
            }
        }
        // one for each suspect path, at some moment
        ("Loss over time", _) => assert!(most() >= 1.0, "{rows:?}"),
        ("Worst paths", letter) => known.worst(rows, "dst", letter == "A", |row, probes| {
            let (shown, all) = (number(row, "Value").unwrap(), ["instance", "src", "dst", "method", "dscp", "group"]);
            assert!(all.iter().all(|name| !label(row, name).is_empty()));
            match letter {
                "A" => assert!(close(shown, 100.0 * probes.lost / probes.sent), "{row:?} is not {probes:?}"),
                "B" => assert!(known.counts(shown, probes.lost), "{row:?} is not {probes:?}"),
                "C" => assert!(known.counts(shown, probes.sent), "{row:?} is not {probes:?}"),
                _ => assert!(close(shown, probes.suspect), "{row:?} is not {probes:?}"),
            }
        }),
        ("Worst flows: whom to ask", _) => {
            let lost: f64 = known.probes.values().map(|probes| probes.lost).sum();
            assert!(rows.len() == usize::from(lost >= 3.0), "{rows:?}");
            rows.iter().for_each(|row| assert!(known.counts(number(row, "Value").unwrap(), lost), "{row:?}"));
        }
        ("Collectors", letter) => {
            all_from_the_collector();
            assert_eq!(rows.len(), 1, "{letter}: {rows:?}");
            let (value, expected) = (
                most(),
                match letter {
                    "A" => 0.0..30.0,
                    "B" => 1.0..1.1,
                    "C" => 0.0..3.1,
                    _ => 0.0..1e5,
                },
            );
            assert!(expected.contains(&value), "{letter}: {value}");
        }
        ("Lateness", _) => {
            all_from_the_collector();
            assert!(most() > 0.0, "{rows:?}");
        }
        ("What the prober could not do", "A") | ("Reasons for suspicion", "B") => {
            all_from_the_collector();
            assert!(most() >= 1.0, "{rows:?}");
        }
        ("Delivery", "A") => {
            all_from_the_collector();
            let delivered = rows.iter().filter(|row| label(row, "result") == "delivered");
            assert!(delivered.filter_map(|row| number(row, "Value")).any(|rate| rate > 0.0), "{rows:?}");
        }
        ("What the prober could not do" | "Reasons for suspicion" | "Delivery" | "Waiting points", _) => {
            all_from_the_collector();
        }
        _ => panic!("no test knows what panel {panel:?} must show"),
    }
}

/// What Grafana asks for a variable, and shows of the answer.
fn options(fleet: &Fleet, query: &str) -> Vec<String> {
    let (function, arguments) = query.trim_end_matches(')').split_once('(').unwrap();
    let when = [("start", fleet.scraped.0.to_string()), ("end", fleet.scraped.1.to_string())];
    let (path, metric) = match (function, arguments.split_once(", ")) {
        ("label_names", None) => ("labels".to_owned(), arguments),
        ("label_values", Some((metric, label))) => (format!("label/{label}/values"), metric),
        _ => panic!("{query} is none of Grafana's"),
    };
    let answer = ask(fleet, &path, &[when.as_slice(), &[("match[]", metric.into())]].concat());
    list(&answer).map(|name| text(name).to_owned()).collect()
}

#[test]
fn every_query_of_the_prometheus_dashboard_shows_what_the_collector_served() {
    let (fleet, dashboard) = (Fleet::observed(), Dashboard::read("prometheus"));
    for view in [
        View { name: "as imported", by_site: false, only: &[] },
        View { name: "by site", by_site: true, only: &[] },
        View { name: "two cells", by_site: true, only: &[0, 1] },
        View { name: "one cell by address", by_site: false, only: &[1] },
    ] {
        let chosen = view.chosen(&fleet, &dashboard);
        for query in dashboard.queries() {
            println!("{}: {} {}", view.name, query.of, query.letter);
            check(&fleet, &view, &query, &rows(&fleet, &query, &fill(&query.text, &chosen)));
        }
        let unnoticed = unnoticed(&dashboard.queries(), |query| check(&fleet, &view, query, &[]));
        assert_eq!(unnoticed, Vec::<String>::new(), "may be empty");
        for query in dashboard.variable_queries() {
            let shown = options(&fleet, &fill(&query.text, &chosen));
            match query.of.as_str() {
                "row" | "column" => {
                    for label in ["dscp", "dst", "group", "method", "src", "tag_dst_site", "tag_src_site"] {
                        assert!(shown.iter().any(|name| name == label), "{label} is not in {shown:?}");
                    }
                    // the only one that is no choice is left out by this expression
                    let variable = dashboard.variables().find(|variable| variable["name"] == query.of.as_str());
                    assert_eq!(variable.unwrap()["regex"], json!("/^(?!__name__$).+/"));
                }
                "row_value" => assert_eq!(shown, [if view.by_site { "here" } else { SOURCE }]),
                "column_value" if view.by_site => assert_eq!(shown, ["lossy", "silent", "sound"]),
                "column_value" => assert_eq!(shown, TARGETS.map(|(ip, ..)| ip)),
                "group" => assert_eq!(shown, ["far-lossy", "far-silent", "near-sound"]),
                "method" => assert_eq!(shown, ["udp"]),
                "dscp" => assert_eq!(shown, ["0"]),
                "collector" => assert_eq!(shown.len(), 1, "{shown:?}"),
                other => panic!("no test knows variable {other}"),
            }
        }
    }
}
