//! A real collector with a sound path, one that loses some probes and one that loses all, seen by a real InfluxDB and
//! a real Prometheus; and what it says of itself in its JSON lines.

use super::common::process::{ANSWERING, Process, llama};
use super::influxd::Influxd;
use super::prometheus::Prometheus;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// Intervals of each path in which the prober did its part, at least.
const SOUND: usize = 4;
/// The source of all paths.
pub const SOURCE: &str = "127.0.0.1";
/// Destination, its tag `dst_site` and its group; each has the tag `src_site` as well.
pub const TARGETS: [(&str, &str, &str); 3] =
    [("127.0.0.1", "sound", "near"), ("127.0.0.2", "lossy", "far"), ("127.0.0.3", "silent", "far")];

/// The summary of a path and interval, as in the JSON lines.
pub struct Line {
    pub dst: String,
    pub sent: f64,
    pub lost: f64,
    pub suspect: bool,
    pub reasons: Vec<String>,
    pub not_sent: u64,
}

/// What was probed and what was seen. The collector has ended; the databases are still there.
pub struct Fleet {
    pub influx: Influxd,
    pub prometheus: Prometheus,
    /// Every summary that was closed.
    pub lines: Vec<Line>,
    /// The time that is looked at through InfluxDB: all of it, ms since 1970.
    pub all: (u64, u64),
    /// The time that is looked at through Prometheus: begins some scrapes after the first, s since 1970.
    pub scraped: (u64, u64),
}

/// A reflector on a port of its own, and that port.
fn reflector(ip: &str, further: &[&str]) -> (Process, u16) {
    let process = llama(&[&["reflector", "--listen", &format!("{ip}:0")], further].concat());
    let line = process.wait_for(ANSWERING);
    let address = line.split_whitespace().find_map(|word| word.trim_end_matches([',', ';']).parse::<SocketAddr>().ok());
    (process, address.unwrap().port())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

impl Fleet {
    pub fn observed() -> Fleet {
        let influx = Influxd::start();
        influx.query("CREATE DATABASE llama");
        let (_sound, sound) = reflector(TARGETS[0].0, &[]);
        // answers half of the probes it gets
        let (_lossy, lossy) = reflector(TARGETS[1].0, &["--max-pps", "40"]);
        let directory = tempfile::tempdir().unwrap();
        let [config, lines, spool] = ["matrix.yaml", "lines.json", "spool"].map(|name| directory.path().join(name));
        // nothing listens on the discard port of the third
        let targets: String = std::iter::zip(TARGETS, [sound, lossy, 9])
            .map(|((ip, site, group), port)| {
                format!("  {group}-{site}: [{{ip: {ip}, port: {port}, tags: {{src_site: here, dst_site: {site}}}}}]\n")
            })
            .collect();
        let text = format!(
            "summarization: {{interval: 1.5}}\n\
             ports: {{p: {{ip: 127.0.0.1, port: 0, tos: 0, timeout: 1000}}}}\n\
             port_groups: {{g: [{{port: p, count: 4}}]}}\n\
             rate_limits: {{r: {{cps: 20}}}}\n\
             tests:\n{}targets:\n{targets}",
            TARGETS
                .map(|(_, site, group)| format!("  - {{targets: {group}-{site}, port_group: g, rate_limit: r}}\n"))
                .concat(),
        );
        std::fs::write(&config, text).unwrap();
        let url = format!("http://{}?db=llama", influx.address());
        let from = now();
        let collector = llama(&[
            "collector",
            "--config",
            config.to_str().unwrap(),
            "--api",
            "127.0.0.1:0",
            "--output",
            lines.to_str().unwrap(),
            "--influx",
            &url,
            "--spool",
            spool.to_str().unwrap(),
        ]);
        let line = collector.wait_for("API at");
        let api = line.split_once("http://").unwrap().1.split('/').next().unwrap().parse().unwrap();
        let prometheus = Prometheus::start(&[("llama-collector", api)]);

        // not from the first scrape on: then no counter is near its zero, where Prometheus extrapolates otherwise
        let seen = "min(count_over_time(llama_path_probes_sent_total[1h]))";
        prometheus.wait_for(seen, |scrapes| scrapes >= 4.0);
        let begin = now().as_secs();
        // a prober that was stopped for longer than it may be late has not sent what was due
        let patience = Instant::now() + PATIENCE;
        let suspect = || {
            let since = now().as_secs() - begin;
            prometheus.value(&format!("min(max_over_time(llama_path_suspect[{since}s]))")) == Some(1.0)
        };
        while {
            collector.signal(Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(1200));
            collector.signal(Signal::SIGCONT);
            let scrapes = prometheus.value(seen).unwrap();
            prometheus.wait_for(seen, |now| now >= scrapes + 3.0);
            !suspect()
        } {
            assert!(Instant::now() < patience, "a prober that was stopped again and again is never suspect");
        }
        let patience = Instant::now() + PATIENCE;
        let sound = |dst| read(&lines).iter().filter(|line| line.dst == dst && !line.suspect).count();
        while TARGETS.iter().any(|(dst, ..)| sound(*dst) < SOUND) {
            assert!(Instant::now() < patience, "not {SOUND} sound intervals of each path");
            std::thread::sleep(Duration::from_millis(100));
        }
        let scrapes = prometheus.value(seen).unwrap();
        prometheus.wait_for(seen, |now| now >= scrapes + 3.0);
        let end = now().as_secs();
        collector.terminate().success();
        let lines = read(&lines);
        Fleet {
            influx,
            prometheus,
            lines,
            all: (from.as_millis() as u64 - 1000, now().as_millis() as u64 + 1000),
            scraped: (begin, end),
        }
    }
}

/// The summaries in a file of JSON lines.
fn read(lines: &Path) -> Vec<Line> {
    let line = |text: &str| -> Line {
        let line: Value = serde_json::from_str(text).unwrap();
        let reasons = line["suspect"].as_array().unwrap();
        Line {
            dst: line["dst_ip"].as_str().unwrap().to_owned(),
            sent: line["sent"].as_f64().unwrap(),
            lost: line["lost"].as_f64().unwrap(),
            suspect: !reasons.is_empty(),
            reasons: reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect(),
            not_sent: line["not_sent"].as_u64().unwrap(),
        }
    };
    let text = std::fs::read_to_string(lines).unwrap();
    // the last line may still be written
    text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().map(line).collect()
}
