//! The shipped collector as the other end; and upstream's scraper, emulated, in the place of ours.

use super::server::own_address;
use super::*;
use common::process::{ANSWERING, llama};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// A reflector and the configuration of collectors that probe it at four addresses.
struct Probed {
    _reflector: Process,
    directory: tempfile::TempDir,
}

/// Paths of such a collector.
const PATHS: usize = 4;

impl Probed {
    fn start() -> Probed {
        let reflector = llama(&["reflector", "--listen", "0.0.0.0:0", "--cores", "0"]);
        let line = reflector.wait_for(ANSWERING);
        let port = line.split_whitespace().find_map(|word| word.strip_prefix("0.0.0.0:")).expect("a port");
        let port: u16 = port.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a port");
        let directory = tempfile::tempdir().expect("directory");
        let targets: Vec<String> =
            (1..=PATHS).map(|n| format!("{{ip: 127.0.9.{n}, port: {port}, tags: {{rack: r{n}}}}}")).collect();
        let text = format!(
            "summarization: {{interval: 1}}\nports: {{default: {{timeout: 100}}}}\nrate_limits: {{default: {{cps: 20}}}}\n\
             targets: {{default: [{}]}}\n",
            targets.join(", ")
        );
        std::fs::write(directory.path().join("matrix.yaml"), text).expect("configuration");
        Probed { _reflector: reflector, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A collector that serves at `api` and writes what it closes to `output` as well.
    fn collector(&self, api: &str, output: &str) -> (Process, SocketAddr) {
        let (config, output) = (self.file("matrix.yaml"), self.file(output));
        let process =
            llama(&["collector", "--config", text(&config), "--output", text(&output), "--api", api, "--no-table"]);
        let line = process.wait_for("API at http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("address");
        let address = address.parse().expect("address");
        (process, address)
    }

    /// Destination and end of all that collectors closed, by their own files.
    fn closed(&self, outputs: &[&str]) -> BTreeSet<(String, u64)> {
        let mut found = BTreeSet::new();
        for name in outputs {
            for line in std::fs::read_to_string(self.file(name)).expect("output").lines() {
                let object: Value = serde_json::from_str(line).expect("JSON");
                let end = llama::sink::parse_rfc3339(object["end"].as_str().expect("end")).expect("time");
                assert!(found.insert((object["dst_ip"].as_str().expect("address").to_owned(), end.0)));
            }
        }
        found
    }
}

/// Destination and time of all points in the database; fails when one is there twice.
fn stored(server: &Influxd) -> BTreeSet<(String, u64)> {
    let rows = server.rows("SELECT dst_ip, sent FROM raw_stats");
    let keys: Vec<_> = (rows.iter())
        .map(|row| (row["dst_ip"].as_str().expect("address").to_owned(), row["time"].as_u64().expect("time")))
        .collect();
    let found: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(found.len(), keys.len(), "stored twice");
    found
}

#[test]
fn all_that_collectors_closed_is_stored_once_whoever_is_killed() {
    let (mut server, url) = database();
    let probed = Probed::start();
    let directory = tempfile::tempdir().expect("directory");
    let spool = directory.path().join("spool");
    let ip: IpAddr = own_address();
    let (first, address) = probed.collector(&format!("{ip}:0"), "first");
    let flags = ["--influx", url.as_str(), "--spool", text(&spool)];
    let list = address.to_string();
    let closed = |least: usize, outputs: &[&str]| {
        wait_for("closed intervals", || (probed.closed(outputs).len() >= least * PATHS).then_some(()));
    };
    // the scraper is killed and comes back
    let scraper = Scraper::start(&list, &flags);
    scraper.wait(address, "summaries", |one| one["summaries"].as_u64() >= Some(PATHS as u64));
    scraper.kill();
    closed(3, &["first"]);
    let scraper = Scraper::start(&list, &flags);
    scraper.wait(address, "new summaries", |one| one["summaries"].as_u64() >= Some(PATHS as u64));
    // the database goes, the scraper is killed, both come back
    server.stop();
    let before = scraper.collector(address)["summaries"].as_u64().expect("number");
    scraper.wait(address, "summaries without a database", |one| {
        one["summaries"].as_u64() >= Some(before + 2 * PATHS as u64)
    });
    scraper.kill();
    server.run();
    let scraper = Scraper::start(&list, &flags);
    closed(8, &["first"]);
    // the collector is restarted in place; what it closed last was pulled, then it is killed
    let newest = |output: &str| probed.closed(&[output]).len();
    wait_for("the newest", || (stored(&server).len() >= newest("first")).then_some(()));
    first.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = first.finish_within(PATIENCE);
    let (second, _) = probed.collector(&list, "second");
    closed(3, &["second"]);
    let status = scraper.wait(address, "its restart", |one| one["restarts"] == 1);
    assert_eq!(status["missed"], 0, "{status}");
    wait_for("all", || (stored(&server).len() >= newest("first") + newest("second")).then_some(()));
    second.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = second.finish_within(PATIENCE);
    // an interval may close between the last pull and the kill: nobody can pull that
    let (stored, closed) = (stored(&server), probed.closed(&["first", "second"]));
    assert!(stored.is_subset(&closed), "{:?}", stored.difference(&closed));
    let lost: Vec<_> = closed.difference(&stored).collect();
    let last_of = |output: &str| probed.closed(&[output]).into_iter().map(|(_, end)| end).max();
    let lasts = [last_of("first"), last_of("second")];
    assert!(lost.iter().all(|(_, end)| lasts.contains(&Some(*end))), "{lost:?}");
    scraper.process.terminate().success();
}

#[test]
fn points_are_those_the_collector_would_have_written() {
    let (server, url) = database();
    let (own, own_url) = database();
    let probed = Probed::start();
    let config = probed.file("matrix.yaml");
    let collector =
        llama(&["collector", "--config", text(&config), "--influx", &own_url, "--api", "127.0.0.1:0", "--no-table"]);
    let line = collector.wait_for("API at http://");
    let list = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("address");
    let scraper = Scraper::start(list, &["--influx", &url]);
    wait_for("three intervals", || (points(&server) >= 3 * PATHS as u64).then_some(()));
    wait_for("three intervals", || (points(&own) >= 3 * PATHS as u64).then_some(()));
    let select = "SELECT * FROM raw_stats WHERE dst_ip = '127.0.9.2' ORDER BY time LIMIT 3";
    let (by_scraper, by_collector) = (server.rows(select), own.rows(select));
    for (one, other) in by_scraper.iter().zip(&by_collector) {
        for (column, value) in other.as_object().expect("row") {
            match (one[column].as_f64(), value.as_f64()) {
                // a mean passes through JSON, which has it to the nanosecond
                (Some(a), Some(b)) => assert!((a - b).abs() <= 0.000_001, "{column}: {a} and {b}"),
                _ => assert_eq!(one[column], *value, "{column}"),
            }
        }
        assert_eq!(one.as_object().map(|row| row.len()), other.as_object().map(|row| row.len()));
    }
    scraper.process.terminate().success();
    collector.terminate().success();
}

/// What upstream's scraper does once per interval: it asks for `/influxdata`, and passes every point on with the
/// time it says, in whole seconds.
fn upstream_scraper(collector: SocketAddr, server: &Influxd) {
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let mut answer = agent.get(format!("http://{collector}/influxdata")).call().expect("answer");
    let points: Value = serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON");
    let mut lines = String::new();
    for point in points.as_array().expect("an array") {
        assert_eq!(point.as_object().expect("object").keys().collect::<Vec<_>>().len(), 4);
        lines += point["measurement"].as_str().expect("measurement");
        for (key, value) in point["tags"].as_object().expect("tags") {
            lines += &format!(",{key}={}", value.as_str().expect("text"));
        }
        let fields = point["fields"].as_object().expect("fields").iter();
        let fields: Vec<String> =
            fields.map(|(key, value)| format!("{key}={}", value.as_f64().expect("float"))).collect();
        let time = llama::sink::parse_rfc3339(point["time"].as_str().expect("time")).expect("RFC 3339");
        lines += &format!(" {} {}\n", fields.join(","), time.0 / 1_000_000_000);
    }
    if !lines.is_empty() {
        let url = format!("http://{}/write?db=llama&precision=s", server.address());
        agent.post(url).send(lines).expect("stored");
    }
}

#[test]
fn upstreams_scraper_reads_our_collector() {
    let (server, _) = database();
    let probed = Probed::start();
    let (collector, address) = probed.collector("127.0.0.1:0", "out");
    wait_for("three intervals", || {
        upstream_scraper(address, &server);
        (points(&server) >= 3 * PATHS as u64).then_some(())
    });
    collector.terminate().success();
    let seconds = |keys: BTreeSet<(String, u64)>| -> BTreeSet<(String, u64)> {
        keys.into_iter().map(|(ip, ns)| (ip, ns / 1_000_000_000)).collect()
    };
    let (stored, closed) = (seconds(stored(&server)), seconds(probed.closed(&["out"])));
    assert!(stored.is_subset(&closed), "{stored:?} {closed:?}");
    let row = &server.rows("SELECT * FROM raw_stats WHERE dst_ip = '127.0.9.3' ORDER BY time LIMIT 1")[0];
    assert_eq!(row["rack"], "r3");
    let number = |field: &str| row[field].as_f64().expect("number");
    assert!(number("sent") > 0.0 && (number("loss") - 100.0 * number("lost") / number("sent")).abs() < 1e-6, "{row}");
}
