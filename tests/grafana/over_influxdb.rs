//! The InfluxDB dashboard over a real InfluxDB: exact numbers.

use super::dashboard::{Chosen, Dashboard, Query, fill, list, text, unnoticed};
use super::fleet::{Fleet, Line, SOURCE, TARGETS};
use super::known::{Known, Probes, Row, label, number};
use super::prometheus::agent;
use serde_json::Value;

/// The rows of a query, those of all series one after another, with the series' tags.
fn rows(fleet: &Fleet, query: &str) -> Vec<Row> {
    let url = format!("http://{}/query", fleet.influx.address());
    let request = agent().post(&url).query("db", "llama").query("epoch", "ms");
    let answer = request.send_form([("q", query)]).unwrap_or_else(|error| panic!("{query}: {error}"));
    let answer: Value = serde_json::from_str(&answer.into_body().read_to_string().unwrap()).unwrap();
    let result = &answer["results"][0];
    assert!(
        answer["error"].is_null() && result["error"].is_null() && result["messages"].is_null(),
        "{query}: {answer}"
    );
    let of_series = |series: &Value| -> Vec<Row> {
        let columns: Vec<_> = list(&series["columns"]).map(|name| text(name).to_owned()).collect();
        let tags = series["tags"].as_object().cloned().unwrap_or_default();
        let row = |values: &Value| columns.iter().cloned().zip(list(values).cloned()).chain(tags.clone()).collect();
        list(&series["values"]).map(row).collect()
    };
    list(&result["series"]).flat_map(of_series).collect()
}

/// What Grafana fills in for regular expressions of InfluxQL: special characters lose their meaning.
fn one_of(values: &[&str]) -> String {
    format!("({})", values.join("|").replace('.', "\\."))
}

struct View {
    name: &'static str,
    by_site: bool,
    intervals: &'static str,
    /// Destinations that are chosen; none is all of them.
    only: &'static [usize],
}

impl View {
    fn chosen(&self, fleet: &Fleet, dashboard: &Dashboard) -> Chosen {
        let (row, column) = if self.by_site { ("src_site", "dst_site") } else { ("src_ip", "dst_ip") };
        let mut chosen = Chosen::from([
            ("row", row.into()),
            ("column", column.into()),
            ("intervals", dashboard.option("intervals", self.intervals)),
            ("min_lost", "3".into()),
            ("timeFilter", format!("time >= {}ms and time <= {}ms", fleet.all.0, fleet.all.1)),
            ("__interval", "2s".into()),
        ]);
        for name in ["row_value", "column_value", "group", "method", "dscp", "collector"] {
            let variable = dashboard.variables().find(|variable| variable["name"] == name).unwrap();
            chosen.insert(name, text(&variable["allValue"]).to_owned());
        }
        if !self.only.is_empty() {
            let column = |at: &usize| if self.by_site { TARGETS[*at].1 } else { TARGETS[*at].0 };
            chosen.insert("column_value", one_of(&self.only.iter().map(column).collect::<Vec<_>>()));
            chosen.insert("row_value", one_of(&[if self.by_site { "here" } else { SOURCE }]));
            chosen.insert("method", one_of(&["udp"]));
            chosen.insert("dscp", one_of(&["0"]));
        }
        chosen
    }

    fn shows(&self, line: &Line) -> bool {
        let interval = match self.intervals {
            "sound" => !line.suspect,
            "suspect" => line.suspect,
            _ => true,
        };
        line.sent > 0.0 && interval && self.chooses(line)
    }

    fn chooses(&self, line: &Line) -> bool {
        self.only.is_empty() || self.only.iter().any(|at| TARGETS[*at].0 == line.dst)
    }

    fn known(&self, fleet: &Fleet) -> Known {
        let mut known =
            Known { probes: Default::default(), by_site: self.by_site, rtt_per_second: 1000.0, extrapolated: 1.0 };
        for line in fleet.lines.iter().filter(|line| self.shows(line)) {
            let probes: &mut Probes = known.probes.entry(line.dst.clone()).or_default();
            probes.sent += line.sent;
            probes.lost += line.lost;
        }
        known
    }
}

/// Suspect summaries, of which Intervals leaves none out.
fn suspect<'a>(fleet: &'a Fleet, view: &'a View) -> impl Iterator<Item = &'a Line> {
    fleet.lines.iter().filter(|line| line.suspect && line.sent > 0.0 && view.chooses(line))
}

fn check(fleet: &Fleet, view: &View, query: &Query, rows: &[Row]) {
    let (known, panel, letter) = (view.known(fleet), query.of.as_str(), query.letter.as_str());
    let column = match (panel, letter) {
        ("Loss" | "Loss, all" | "Loss over time" | "Loss by $row" | "Loss by $column", _) => "loss",
        ("Lost probes", _) => "lost",
        ("Sent probes", _) => "sent",
        ("Round trip over time", "A") => "p50",
        ("Round trip, worst p99", _) | ("Round trip over time", "B" | "C") => "p99",
        _ => "rtt",
    };
    if (panel, letter) != ("Loss over time", "C") && known.check(panel, letter, column, rows) {
        return;
    }
    let sum = |column: &str| rows.iter().filter_map(|row| number(row, column)).sum::<f64>();
    let suspects = suspect(fleet, view).count() as f64;
    match panel {
        "Suspect summaries" | "Loss over time" => assert_eq!(sum("suspect"), suspects, "{rows:?}"),
        "Without a verdict" => assert_eq!((rows.len(), sum("unknown")), (1, 0.0), "{rows:?}"),
        "Suspect summaries by cell" => {
            assert_eq!(sum("suspect"), suspects, "{rows:?}");
            for row in rows {
                let of_cell = suspect(fleet, view).filter(|line| {
                    let target = TARGETS.iter().find(|(ip, ..)| *ip == line.dst).unwrap();
                    label(row, "column") == if view.by_site { target.1 } else { target.0 }
                });
                assert_eq!(number(row, "suspect"), Some(of_cell.count() as f64), "{row:?}");
            }
        }
        "Worst paths" => known.worst(rows, "dst_ip", false, |row, probes| {
            assert_eq!(number(row, "lost"), Some(probes.lost));
            assert_eq!(number(row, "sent"), Some(probes.sent));
            assert!((number(row, "loss").unwrap() - 100.0 * probes.lost / probes.sent).abs() < 1e-9, "{row:?}");
            assert_eq!([label(row, "src_ip"), label(row, "method"), label(row, "dscp")], [SOURCE, "udp", "0"]);
        }),
        "Worst flows" => {
            assert!(known.probes.values().all(|probes| probes.lost == 0.0) || !rows.is_empty());
            for row in rows {
                let (from, to) = label(row, "worst_flow").split_once(" > ").unwrap_or_else(|| panic!("{row:?}"));
                assert!(from.starts_with(SOURCE) && to.starts_with("127.0.0.") && to.contains("dscp 0"), "{row:?}");
                assert!(number(row, "lost") >= Some(3.0) && number(row, "loss") > Some(0.0), "{row:?}");
                assert_eq!(number(row, "flows"), Some(4.0));
                assert!(number(row, "flows_with_loss") >= Some(1.0));
            }
        }
        "Collectors" => {
            assert_eq!(rows.len(), 1, "{rows:?}");
            assert_eq!(number(&rows[0], "paths"), Some(3.0), "{rows:?}");
            assert!(!label(&rows[0], "collector").is_empty());
            for column in ["sent", "suspect", "not_sent", "send_failed", "local_drops", "given_up", "clock_steps"] {
                assert!(number(&rows[0], column).is_some(), "{column}: {rows:?}");
            }
            for column in ["refused", "dropped", "spooled"] {
                assert_eq!(number(&rows[0], column), Some(0.0), "{column}: {rows:?}");
            }
        }
        "Lateness" => assert!(rows.len() > 2 && sum(if letter == "A" { "p99" } else { "max" }) > 0.0, "{rows:?}"),
        "What the prober could not do" => {
            let name = ["not_sent", "send_failed", "local_drops", "given_up"][(letter.as_bytes()[0] - b'A') as usize];
            assert!(rows.len() > 2, "{name}: {rows:?}");
            if name == "not_sent" {
                // counted when it happens; a summary's are those of its interval
                let known: u64 = fleet.lines.iter().map(|line| line.not_sent).sum();
                assert!(sum(name) >= known as f64 && known > 0, "{} of {known}", sum(name));
            }
        }
        "Suspect summaries by reason" => {
            let reasons = ["local_drops", "not_sent", "stamps_lost", "clock_step", "tally_dropped"];
            let reason = reasons[(letter.as_bytes()[0] - b'A') as usize];
            let known = suspect(fleet, view).filter(|line| line.reasons.iter().any(|is| is == reason)).count();
            assert_eq!(sum("suspect"), known as f64, "{reason}: {rows:?}");
            assert!(reason != "not_sent" || known > 0, "nothing is suspect for {reason}");
        }
        "Delivery" => {
            let name = ["delivered", "refused", "dropped"][(letter.as_bytes()[0] - b'A') as usize];
            assert!(rows.len() > 2 && (sum(name) > 0.0) == (name == "delivered"), "{rows:?}");
        }
        "Waiting points" => assert!(rows.len() > 2, "{rows:?}"),
        _ => panic!("no test knows what panel {panel:?} must show"),
    }
}

#[test]
fn every_query_of_the_influxdb_dashboard_shows_what_the_collector_measured() {
    let (fleet, dashboard) = (Fleet::observed(), Dashboard::read("influxdb"));
    for view in [
        View { name: "as imported", by_site: false, intervals: "sound", only: &[] },
        View { name: "all intervals by site", by_site: true, intervals: "all", only: &[] },
        View { name: "suspect intervals by site", by_site: true, intervals: "suspect", only: &[] },
        View { name: "two cells", by_site: true, intervals: "sound", only: &[0, 1] },
        View { name: "one cell by address", by_site: false, intervals: "all", only: &[1] },
    ] {
        let chosen = view.chosen(&fleet, &dashboard);
        for query in dashboard.queries() {
            println!("{}: {} {}", view.name, query.of, query.letter);
            check(&fleet, &view, &query, &rows(&fleet, &fill(&query.text, &chosen)));
        }
        // reasons that did not occur bring nothing
        let unnoticed = unnoticed(&dashboard.queries(), |query| check(&fleet, &view, query, &[]));
        assert!(unnoticed.iter().all(|panel| panel == "Suspect summaries by reason"), "may be empty: {unnoticed:?}");
        for query in dashboard.variable_queries() {
            let rows = rows(&fleet, &fill(&query.text, &chosen));
            let column = if query.text.contains("KEYS") { "tagKey" } else { "value" };
            let mut shown: Vec<_> = rows.iter().map(|row| label(row, column)).collect();
            shown.sort_unstable();
            match query.of.as_str() {
                "row" | "column" => {
                    for tag in ["dscp", "dst_ip", "dst_site", "method", "src_ip", "src_site"] {
                        assert!(shown.contains(&tag), "{tag} is not in {shown:?}");
                    }
                }
                "row_value" => assert_eq!(shown, [if view.by_site { "here" } else { SOURCE }]),
                "column_value" if view.by_site => assert_eq!(shown, ["lossy", "silent", "sound"]),
                "column_value" => assert_eq!(shown, TARGETS.map(|(ip, ..)| ip)),
                "method" => assert_eq!(shown, ["udp"]),
                "dscp" => assert_eq!(shown, ["0"]),
                // points of a database may have no such tag
                "group" => assert!(shown.is_empty() || shown == ["far-lossy", "far-silent", "near-sound"], "{shown:?}"),
                "collector" => assert_eq!(shown.len(), 1, "{shown:?}"),
                other => panic!("no test knows variable {other}"),
            }
        }
    }
    the_documentation_asks_what_can_be_asked(&fleet);
}

/// Queries in the page about alerts.
fn the_documentation_asks_what_can_be_asked(fleet: &Fleet) {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerting.md")).unwrap();
    let blocks: Vec<_> = page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 2, "queries are not found any more");
    for query in blocks.iter().flat_map(|block| block.split(";\n")).filter(|query| !query.trim().is_empty()) {
        assert!(!rows(fleet, query).is_empty(), "nothing comes of {query}");
    }
}
