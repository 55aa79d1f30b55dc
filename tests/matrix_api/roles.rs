//! The matrix of real roles: what a collector, a scraper and a demo keep, where, what becomes of it when they end, and
//! the same over InfluxDB.

use crate::client::{get, json, wait_for};
use crate::common::process::{ANSWERING, Finished, LLAMA, Process, llama};
use crate::influxd::Influxd;
use crate::objects;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The address at the end of a URL in a line of the log.
fn address_in(line: &str) -> SocketAddr {
    line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
}

/// A directory, a reflector, and the configuration of a collector that probes it in intervals of a second.
struct Place {
    directory: tempfile::TempDir,
    config: PathBuf,
    _reflector: Process,
}

impl Place {
    fn new() -> Place {
        let reflector = llama(&["reflector", "--listen", "127.0.0.1:0"]);
        let line = reflector.wait_for(ANSWERING);
        let words = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
        let port = words.parse::<SocketAddr>().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("matrix.yaml");
        let text = format!(
            "summarization: {{interval: 1}}\n\
             ports: {{default: {{timeout: 100}}, voice: {{timeout: 100, dscp: EF}}}}\n\
             port_groups: {{default: [{{port: default, count: 3}}, {{port: voice, count: 2}}]}}\n\
             rate_limits: {{default: {{cps: 20}}}}\n\
             targets: {{default: [{{ip: 127.0.0.1, port: {port}, tags: {{rack: a1, note: '<b>&\"é\"'}}}}]}}\n"
        );
        std::fs::write(&config, text).unwrap();
        Place { directory, config, _reflector: reflector }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `llama collector` of this configuration with an API and further flags.
    fn collector(&self, further: &[&str]) -> Command {
        let mut command = Command::new(LLAMA);
        command.args(["collector", "--config"]).arg(&self.config).args(["--api", "127.0.0.1:0"]).args(further);
        command
    }
}

/// A role's process and where its API is.
struct Role {
    process: Process,
    api: SocketAddr,
}

impl Role {
    fn start(command: Command) -> Role {
        let process = Process::spawn(command);
        let api = address_in(&process.wait_for("http://"));
        Role { process, api }
    }

    fn extent(&self) -> Value {
        json(self.api, "/api/v1/matrix/extent")
    }

    /// Waits until so many intervals are kept, of the first path.
    fn wait_for_intervals(&self, n: u64) -> Value {
        wait_for("intervals in the history", || {
            let answer = json(self.api, "/api/v1/matrix/paths?span=3600");
            let path = objects(&answer, "paths").into_iter().next()?;
            (path["summaries"].as_u64()? >= n).then_some(path)
        })
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_a_collector_kept_is_there_after_it_was_started_again() {
    let place = Place::new();
    let directory = place.path("history");
    let start = || Role::start(place.collector(&["--history", text(&directory)]));
    let first = start();
    // told at once, and when there is more
    let mut events = crate::client::connect(first.api);
    events.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let told = BufReader::new(events).lines().map_while(Result::ok).filter(|line| line.starts_with("data: "));
    let told: Vec<String> = told.take(3).collect();
    assert_eq!(told.len(), 3);
    assert!(told[1] < told[2] && told[2].contains("\"interval_s\":1.0"), "{told:?}");
    first.wait_for_intervals(2);
    let extent = first.extent();
    assert_eq!(
        (&extent["role"], &extent["paths"], &extent["interval_s"]),
        (&"collector".into(), &2.into(), &1.0.into())
    );
    assert_eq!(extent["source"], format!("history in {}", directory.display()));
    let by_class = json(first.api, "/api/v1/matrix?rows=rack&columns=dscp");
    assert_eq!(
        (&by_class["rows"]["values"], &by_class["columns"]["values"]),
        (&serde_json::json!(["a1"]), &serde_json::json!(["0", "46"]))
    );
    let health = json(first.api, "/api/v1/health");
    let reasons = health["reasons"].as_array().unwrap();
    assert!(!reasons.iter().any(|reason| reason["name"].as_str().unwrap().starts_with("history")), "{health}");
    let page = get(first.api, "/metrics");
    assert!(page.text().contains("\nllama_history_summaries_total{result=\"dropped\"} 0\n"), "{}", page.text());
    assert!(page.text().contains("\nllama_matrix_streams "), "{}", page.text());
    first.process.terminate().success();

    let second = start();
    second.wait_for_intervals(3);
    assert_eq!(second.extent()["oldest"], extent["oldest"], "what the first one measured is still there");
    let flow = &json(second.api, "/api/v1/matrix/flows?span=3600&where=dscp%3D46")["flows"][0];
    let one = format!(
        "/api/v1/matrix/flow?path={}&source={}&target={}&dscp=46&span=3600",
        flow["path"].as_str().unwrap(),
        flow["source"].as_str().unwrap(),
        flow["target"].as_str().unwrap()
    );
    let points = json(second.api, &one)["points"].as_array().unwrap().len() as u64;
    assert!(points >= flow["intervals"].as_u64().unwrap(), "{points} of {flow}");

    // one at a time
    let third = Process::spawn(place.collector(&["--history", text(&directory)]));
    let refused = third.finish_within(crate::client::PATIENCE);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("in use by another process"), "{}", refused.stderr);
}

/// How a collector without `--history` ends that has this in its environment.
fn by_default(place: &Place, state: &Path) -> Finished {
    let mut command = place.collector(&["--duration", "1500ms"]);
    command.env("STATE_DIRECTORY", state).env_remove("LLAMA_HISTORY");
    Process::spawn(command).finish_within(crate::client::PATIENCE).success()
}

#[test]
fn the_default_directory_is_used_when_it_can_be() {
    let place = Place::new();
    let state = place.path("state");
    std::fs::create_dir(&state).unwrap();
    let said = by_default(&place, &state).stderr;
    assert!(said.contains(&format!("history in {}", state.join("history").display())), "{said}");
    assert!(std::fs::read_dir(state.join("history")).unwrap().count() > 0);
    let file = place.path("file");
    std::fs::write(&file, "").unwrap();
    let said = by_default(&place, &file).stderr;
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("going on without a history")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("--history DIR"), "{said}");
}

#[test]
fn a_directory_asked_for_that_cannot_be_used_is_refused() {
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, "").unwrap();
    for (further, remedy) in [
        (["--history", text(&file), "--history-age", "1h"], "name a directory"),
        (["--history", text(&place.path("a")), "--history-max-bytes", "1M"], "allow at least 16M"),
    ] {
        let refused = Process::spawn(place.collector(&further)).finish_within(crate::client::PATIENCE);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(remedy), "{}", refused.stderr);
    }
}

#[test]
fn without_a_history_the_rest_goes_on() {
    let place = Place::new();
    let role = Role::start(place.collector(&["--history", "none"]));
    assert_eq!(get(role.api, "/api/v1/matrix").refusal(404), "start with --history DIR");
    assert_eq!(get(role.api, "/status").text(), "ok");
    assert!(!get(role.api, "/metrics").text().contains("llama_history"));
}

#[test]
fn a_scraper_keeps_what_its_collectors_say() {
    let place = Place::new();
    let collector = Role::start(place.collector(&["--history", "none"]));
    let mut command = Command::new(LLAMA);
    command.args([
        "scraper",
        "--collectors",
        &collector.api.to_string(),
        "--interval",
        "200ms",
        "--api",
        "127.0.0.1:0",
    ]);
    command.args(["--history", text(&place.path("history"))]);
    let scraper = Role::start(command);
    let path = scraper.wait_for_intervals(2);
    assert_eq!((&path["tags"]["rack"], &scraper.extent()["role"]), (&"a1".into(), &"scraper".into()));
    let listed = json(scraper.api, "/api/v1/");
    let listed: Vec<&str> =
        listed["endpoints"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert!(listed.contains(&"/api/v1/collectors") && listed.contains(&"/api/v1/matrix"), "{listed:?}");
    assert!(get(scraper.api, "/metrics").text().contains("\nllama_history_paths 2\n"));
    let ended = scraper.process.terminate().success();
    assert!(!ended.stderr.contains("nothing is stored"), "{}", ended.stderr);
}

#[test]
fn a_demo_serves_its_matrix_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let demo = |further: &[&str]| {
        let mut command = Command::new(LLAMA);
        command.args(["demo", "--interval", "500ms"]).args(further);
        command.env("TMPDIR", place.path()).env_remove("LLAMA_HISTORY");
        Role::start(command)
    };
    let role = demo(&["--api", "127.0.0.1:0"]);
    role.wait_for_intervals(2);
    let extent = role.extent();
    assert_eq!((&extent["role"], &extent["paths"]), (&"demo".into(), &6.into()));
    assert_eq!((&extent["suggested"]["rows"], &extent["suggested"]["columns"]), (&"group".into(), &"rack".into()));
    assert_eq!(json(role.api, "/api/v1/matrix")["cells"].as_array().unwrap().len(), 6);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    role.process.terminate().success();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);

    // two that choose by themselves do not meet
    let roles = [demo(&[]), demo(&[])];
    assert_ne!(roles[0].api, roles[1].api);
    for role in &roles {
        assert!(role.api.ip().is_loopback() && get(role.api, "/status").status == 200);
    }
}

/// A matrix role over a database.
fn over(influx: &Influxd) -> Role {
    let mut command = Command::new(LLAMA);
    command.args(["matrix", "--influx", &format!("http://{}?db=llama", influx.address()), "--api", "127.0.0.1:0"]);
    let process = Process::spawn(command);
    let api = address_in(&process.wait_for(" at http://127.0.0.1:"));
    Role { process, api }
}

/// Numbers alike to the nanosecond, texts alike.
fn alike(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-6,
        _ => a == b,
    }
}

#[test]
fn a_database_answers_as_the_history_does() {
    let place = Place::new();
    let mut influx = Influxd::start();
    influx.query("CREATE DATABASE llama");
    let url = format!("http://{}?db=llama", influx.address());
    let collector =
        Role::start(place.collector(&["--history", text(&place.path("history")), "--influx", &url, "--influx-detail"]));
    let matrix = over(&influx);
    assert_eq!(matrix.extent()["role"], "matrix");
    let path = collector.wait_for_intervals(3);
    let to = path["newest"].as_str().unwrap();
    wait_for("the interval in the database", || {
        let newest = matrix.extent()["newest"].as_str()?.to_owned();
        (newest.as_str() >= to).then_some(())
    });
    for question in ["paths", "flows", "probers", "series"] {
        let ask = |role: &Role| json(role.api, &format!("/api/v1/matrix/{question}?span=2&at={to}"));
        let (kept, stored) = (ask(&collector), ask(&matrix));
        let rows = |answer: &Value| match question {
            "paths" => objects(answer, "paths"),
            "series" => objects(answer, "points"),
            list => answer[list].as_array().unwrap().clone(),
        };
        let by = |row: &Value| format!("{}{}{}{}", row["id"], row["path"], row["source"], row["end"]);
        let (mut kept, mut stored) = (rows(&kept), rows(&stored));
        kept.sort_by_key(by);
        stored.sort_by_key(by);
        assert_eq!(kept.len(), stored.len(), "{question}: {kept:?} {stored:?}");
        for (kept, stored) in kept.iter().zip(&stored) {
            for (name, value) in kept.as_object().unwrap() {
                if name == "rtt_ms" {
                    let same = ["samples", "min", "mean", "max"].iter().all(|of| alike(&value[of], &stored[name][of]));
                    assert!(same, "{question}: {name}: {value} {}", stored[name]);
                } else {
                    assert!(alike(value, &stored[name]), "{question}: {name}: {value} {}", stored[name]);
                }
            }
        }
    }
    let texts = json(matrix.api, &format!("/api/v1/matrix?rows=note&columns=dscp&at={to}"));
    assert_eq!(texts["rows"]["values"], serde_json::json!(["<b>&\"é\""]));

    // away for a while: said, and not for good
    influx.stop();
    let refusal = get(matrix.api, "/api/v1/matrix");
    refusal.refusal(503);
    influx.run();
    wait_for("the database again", || (get(matrix.api, "/api/v1/matrix").status == 200).then_some(()));
    assert!(get(matrix.api, "/metrics").text().contains("\nllama_matrix_failed_total "));
    assert!(get(matrix.api, "/api/v1/").text().contains("/api/v1/matrix/extent"));
    assert!(get(matrix.api, "/").text().contains("<title>LLAMA"));
    matrix.process.terminate().success();
}

#[test]
fn a_bucket_is_no_database_to_ask() {
    let refused = llama(&["matrix", "--influx", "http://127.0.0.1:1?org=a&bucket=b", "--api", "127.0.0.1:0"]);
    let refused = refused.finish_within(crate::client::PATIENCE);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
}
