//! Metrics of the shipped program, as a real Prometheus reads them back and as `promtool` judges them.

#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

#[path = "../common/mod.rs"]
mod common;
mod page;
mod server;

use common::process::{ANSWERING, Process, llama};
use page::Page;
use server::{Prometheus, agent, values};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A tag with everything in it that a text format could stumble over.
const HOSTILE: &str = "a\"b\\c}{,=d\\n ü🦙 #x";

/// The address at the end of a URL in a line.
fn address_in(line: &str) -> SocketAddr {
    let rest = line.split_once("http://").unwrap_or_else(|| panic!("{line}")).1;
    rest.split('/').next().unwrap().parse().unwrap()
}

/// A reflector with metrics: its process, where it answers, where its metrics are.
fn reflector() -> (Process, SocketAddr, SocketAddr) {
    let process = llama(&["reflector", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--max-pps", "1000000"]);
    let answers = process.wait_for(ANSWERING);
    let answers = answers.split_whitespace().find_map(|word| word.trim_end_matches([',', ';']).parse().ok()).unwrap();
    let metrics = address_in(&process.wait_for("metrics on"));
    (process, answers, metrics)
}

/// A collector with an API and a file of JSON lines. One path is answered, one is refused (nothing listens).
struct Collector {
    process: Process,
    api: SocketAddr,
    lines: PathBuf,
    _directory: tempfile::TempDir,
}

impl Collector {
    fn start(answers: SocketAddr) -> Collector {
        let directory = tempfile::tempdir().unwrap();
        let (config, lines) = (directory.path().join("matrix.yaml"), directory.path().join("lines.json"));
        let hostile = serde_json::to_string(HOSTILE).unwrap(); // a JSON text is a YAML text
        let text = format!(
            "summarization: {{interval: 0.3}}\n\
             ports: {{p: {{ip: 127.0.0.1, port: 0, tos: 0, timeout: 200}}}}\n\
             port_groups: {{g: [{{port: p, count: 4}}]}}\n\
             rate_limits: {{r: {{cps: 20}}}}\n\
             tests: [{{targets: near, port_group: g, rate_limit: r}}]\n\
             targets:\n  near:\n\
             \x20   - {{ip: 127.0.0.1, port: {}, tags: {{rack: {hostile}, a-b: x, a.b: y}}}}\n\
             \x20   - {{ip: 127.0.0.2, port: 9, tags: {{rack: empty}}}}\n",
            answers.port(),
        );
        std::fs::write(&config, text).unwrap();
        let process = llama(&[
            "collector",
            "--config",
            config.to_str().unwrap(),
            "--api",
            "127.0.0.1:0",
            "--output",
            lines.to_str().unwrap(),
            "--history",
            directory.path().join("history").to_str().unwrap(),
        ]);
        let api = address_in(&process.wait_for("API at"));
        Collector { process, api, lines, _directory: directory }
    }

    /// Waits until a summary of each path was closed.
    fn wait_for_a_summary(&self) {
        let begin = Instant::now();
        while !scrape(self.api, "text/plain").0.contains("\nllama_path_sent{") {
            assert!(begin.elapsed() < Duration::from_secs(30), "no interval was closed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A page, and its content type.
fn scrape(address: SocketAddr, accept: &str) -> (String, String) {
    let request = agent().get(format!("http://{address}/metrics")).header("accept", accept);
    let mut response = request.call().unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    // a page of the tests is small; the limit is there to be told of one that is not
    let text = response.body_mut().with_config().limit(4 << 20).read_to_string().unwrap();
    (text, content_type)
}

/// What `promtool check metrics` says of a page.
fn promtool(page: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start promtool: {error}; apt-get install prometheus"));
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { said } else { format!("{}: {said}", output.status) }
}

/// The sum over all series of a family with these labels.
fn sum(page: &Page, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = page.get(name).unwrap_or_else(|| panic!("no {name}"));
    let fits = |sample: &&page::Sample| {
        labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
    };
    family.samples.iter().filter(fits).map(|sample| sample.value).sum()
}

#[test]
fn prometheus_reads_back_exactly_what_a_reflector_did() {
    let (_reflector, answers, metrics) = reflector();
    let prometheus = Prometheus::start(&[("reflector", metrics)]);
    let target = answers.to_string();
    let ping = llama(&["ping", &target, "--count", "200", "--rate", "1000", "--json"]);
    let ping = ping.finish_within(Duration::from_secs(60)).success().json();
    assert_eq!(ping["sent"], 200, "{ping}");
    // three datagrams of a byte: no format is so short
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        socket.send_to(b"x", answers).unwrap();
    }
    prometheus.wait_for("sum(llama_reflector_received_total)", |received| received >= 203.0);
    assert_eq!(prometheus.value("sum(llama_reflector_received_total)"), Some(203.0));
    assert_eq!(prometheus.value(r#"sum(llama_reflector_replies_total{format="stamp"})"#), Some(200.0));
    assert_eq!(prometheus.value(r#"sum(llama_reflector_dropped_total{reason="too_short"})"#), Some(3.0));
    assert_eq!(prometheus.value("sum(llama_reflector_dropped_total)"), Some(3.0));
    assert_eq!(prometheus.value(r#"llama_reflector_packets_per_second_limit{scope="all"}"#), Some(1e6));
    assert_eq!(prometheus.value(r#"llama_build_info{role="reflector"}"#), Some(1.0));
}

#[test]
fn prometheus_reads_back_what_a_collector_says_elsewhere() {
    let (_reflector, answers, of_reflector) = reflector();
    let collector = Collector::start(answers);
    let prometheus = Prometheus::start(&[("collector", collector.api), ("reflector", of_reflector)]);
    let answered = format!("dst=\"127.0.0.1\",tag_rack={}", serde_json::to_string(HOSTILE).unwrap());
    let [sent, lost] = ["sent", "lost"].map(|what| format!("llama_path_probes_{what}_total"));
    // the hostile tag is matched exactly by the query, and comes back exactly
    prometheus.wait_for(&format!("{sent}{{{answered}}}"), |sent| sent >= 200.0);
    let series = &prometheus.query(&format!("{sent}{{{answered}}}"))[0]["metric"];
    assert_eq!(series["tag_rack"], HOSTILE);
    assert_eq!((&series["tag_a_b"], &series["tag_a_b_2"]), (&"x".into(), &"y".into()), "{series}");
    assert_eq!(
        (&series["src"], &series["method"], &series["group"]),
        (&"127.0.0.1".into(), &"udp".into(), &"near".into())
    );

    // live counters grow between two looks of our own with Prometheus' look between them
    let outcomes = ["sent", "replied", "refused"];
    let now = |outcome| {
        sum(&page::read(&scrape(collector.api, "text/plain").0, false), "llama_probes_total", &[("outcome", outcome)])
    };
    let before = outcomes.map(now);
    for (outcome, before) in outcomes.into_iter().zip(before) {
        let query = format!("sum(llama_probes_total{{outcome=\"{outcome}\"}})");
        let read = prometheus.wait_for(&query, |value| value >= before);
        assert!(read <= now(outcome), "{outcome}: {read} was read, later there were fewer");
    }
    assert!(now("replied") > 0.0 && now("refused") > 0.0);

    collector.process.terminate().success();
    // every value Prometheus saw of a path is a sum of the JSON lines' intervals, from the first on
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&collector.lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for dst in ["127.0.0.1", "127.0.0.2"] {
        let of_path = || lines.iter().filter(|line| line["dst_ip"] == dst);
        for (name, key) in [(&sent, "sent"), (&lost, "lost")] {
            let mut total = 0;
            let mut add = |line: &serde_json::Value| {
                total += line[key].as_u64().unwrap();
                total
            };
            let sums: BTreeSet<u64> = of_path().map(&mut add).collect();
            let seen = prometheus.scraped(&format!("{name}{{dst=\"{dst}\"}}"));
            assert!(seen.iter().all(|value| sums.contains(&(*value as u64))), "{name} of {dst}: {seen:?} in {sums:?}");
        }
        let percentages: Vec<f64> = of_path().map(|line| line["loss_percent"].as_f64().unwrap()).collect();
        let ratios = prometheus.scraped(&format!("llama_path_loss_ratio{{dst=\"{dst}\"}}"));
        let said = |ratio: &f64| percentages.iter().any(|percent| (percent - 100.0 * ratio).abs() < 1e-9);
        assert!(ratios.iter().filter(|ratio| !ratio.is_nan()).all(said), "{dst}: {ratios:?} in {percentages:?}");
        assert!(dst == "127.0.0.1" || ratios.contains(&1.0), "all is refused there: {ratios:?}");
    }
    for series in prometheus.query("{__name__=~\"llama_.*_total\"}[1h]") {
        let values = values(&series);
        assert!(values.is_sorted(), "{} went back: {values:?}", series["metric"]);
    }
    // refused probes bring no round trip
    assert_eq!(prometheus.scraped("llama_path_rtt_seconds_count{dst=\"127.0.0.2\"}").last(), Some(&0.0));
    let medians = prometheus.scraped("llama_path_rtt_seconds{dst=\"127.0.0.1\",quantile=\"0.5\"}");
    assert!(medians.iter().any(|rtt| *rtt > 0.0 && *rtt < 0.2), "{medians:?}");
}

#[test]
fn promtool_has_nothing_to_say_and_both_formats_say_the_same() {
    let (_reflector, answers, of_reflector) = reflector();
    let collector = Collector::start(answers);
    collector.wait_for_a_summary();
    for address in [collector.api, of_reflector] {
        let (text, content_type) = scrape(address, "text/plain");
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(promtool(&text), "", "{text}");
        let (open, content_type) = scrape(address, "application/openmetrics-text; version=1.0.0");
        assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let (text, open) = (page::read(&text, false), page::read(&open, true));
        let names = |page: &Page| -> Vec<String> { page.keys().cloned().collect() };
        assert_eq!(names(&text), names(&open));
        for (name, family) in &text {
            let series = |family: &page::Family| -> BTreeSet<BTreeMap<String, String>> {
                family.samples.iter().map(|sample| sample.labels.clone()).collect()
            };
            assert_eq!((&family.kind, series(family)), (&open[name].kind, series(&open[name])), "{name}");
        }
    }
}

#[test]
fn promtool_notices_what_is_wrong() {
    assert_ne!(promtool("# HELP llama_a_total A.\n# TYPE llama_a_total gauge\nllama_a_total 1\n"), "");
}

/// Type and labels of every metric in the tables of the documentation.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = std::fs::read_to_string("docs/metrics.md").unwrap();
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    // name, type, labels and meaning between an empty beginning and end; alerts have two columns
    rows.filter_map(|row| match row[..] {
        ["", name, kind, labels, _, ""] => Some((name.strip_prefix('`')?.strip_suffix('`')?, kind, labels)),
        _ => None,
    })
    .map(|(name, kind, labels)| {
        let labels = labels.replace("path", "`src`, `dst`, `method`, `dscp`, `group`, `tag_*`");
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        (name.to_owned(), (kind.to_owned(), labels.filter(|label| !label.is_empty()).collect()))
    })
    .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (_reflector, answers, of_reflector) = reflector();
    let stateful = llama(&[
        "reflector",
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--stateful",
        "--max-pps-per-source",
        "9",
    ]);
    let of_stateful = address_in(&stateful.wait_for("metrics on"));
    let collector = Collector::start(answers);
    collector.wait_for_a_summary();
    let mut served: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for address in [collector.api, of_reflector, of_stateful] {
        for (name, family) in page::read(&scrape(address, "text/plain").0, false) {
            let labels = family.samples.iter().flat_map(|sample| sample.labels.keys());
            let labels = labels.map(|label| if label.starts_with("tag_") { "tag_*".into() } else { label.clone() });
            served.entry(name).or_insert_with(|| (family.kind, BTreeSet::new())).1.extend(labels);
        }
    }
    let documented = documented();
    assert!(documented.len() > 80, "only {} metrics were found in the documentation", documented.len());
    let names = |of: &BTreeMap<String, (String, BTreeSet<String>)>| of.keys().cloned().collect::<BTreeSet<_>>();
    let (served_names, documented_names) = (names(&served), names(&documented));
    let missing: Vec<_> = served_names.symmetric_difference(&documented_names).collect();
    assert!(missing.is_empty(), "served or documented, not both: {missing:?}");
    for (name, served) in served {
        assert_eq!(served, documented[&name], "{name}");
    }
}

#[test]
fn a_reflector_tells_its_health_and_build() {
    let (_reflector, _, metrics) = reflector();
    let get = |path: &str| -> serde_json::Value {
        let mut response = agent().get(format!("http://{metrics}{path}")).call().unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    };
    let health = get("/api/v1/health");
    assert_eq!((&health["status"], &health["reasons"]), (&"ok".into(), &serde_json::json!([])), "{health}");
    assert_eq!(get("/api/v1/build")["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_port_that_is_taken_ends_the_reflector_with_the_remedy() {
    let (_reflector, _, metrics) = reflector();
    let second = llama(&["reflector", "--listen", "127.0.0.1:0", "--metrics", &metrics.to_string()]);
    let ended = second.finish_within(Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(1));
    for part in ["--metrics", &metrics.to_string(), "choose another port"] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
}
