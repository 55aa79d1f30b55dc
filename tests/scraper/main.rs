//! The scraper as a process: against collectors of the first LLAMA, new ones, real ones and bad ones, into a real
//! InfluxDB. What collectors closed is in the database once, whoever was killed in between.

#[path = "../common/mod.rs"]
mod common;
mod fake;
mod load;
mod mixed;
mod new;
mod real;
#[path = "../influx/server.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod server;
mod shown;
mod unwell;
mod upstream;

use common::process::{LLAMA, Process};
use serde_json::Value;
use server::Influxd;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen; far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` gives something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A scraper's process with its API.
struct Scraper {
    process: Process,
    api: SocketAddr,
}

impl Scraper {
    /// `llama scraper --collectors LIST --interval 200ms` and further flags, with an API on a port of its own.
    fn start(collectors: &str, further: &[&str]) -> Scraper {
        Scraper::every("200ms", collectors, further)
    }

    fn every(interval: &str, collectors: &str, further: &[&str]) -> Scraper {
        let mut command = Command::new(LLAMA);
        command.args(["scraper", "--collectors", collectors, "--interval", interval, "--api", "127.0.0.1:0"]);
        command.args(further).env_remove("INFLUX_URL").env_remove("INFLUX_TOKEN").env("NO_COLOR", "1");
        Scraper::spawn(command, "API at http://")
    }

    /// A process that says so where its API is.
    fn spawn(command: Command, says: &str) -> Scraper {
        let process = Process::spawn(command);
        let line = process.wait_for(says);
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("address");
        Scraper { api: address.parse().expect("address"), process }
    }

    /// The answer of its API.
    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).expect("JSON")
    }

    fn text(&self, path: &str) -> String {
        let agent = ureq::Agent::config_builder().proxy(None).timeout_global(Some(PATIENCE)).build().new_agent();
        let mut response = agent.get(format!("http://{}{path}", self.api)).call().expect("answer");
        response.body_mut().with_config().limit(1 << 30).read_to_string().expect("text")
    }

    /// What it says of one collector.
    fn collector(&self, address: impl ToString) -> Value {
        let all = self.get("/api/v1/collectors");
        let found = all["collectors"].as_array().expect("a list").iter();
        found.clone().find(|one| one["collector"] == address.to_string()).cloned().unwrap_or(Value::Null)
    }

    /// Waits until what it says of a collector is as `done` says.
    fn wait(&self, address: SocketAddr, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            last = self.collector(address);
            if done(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("waited a minute for {what}: {last}");
    }

    /// Waits until `summaries` were taken from a collector.
    fn wait_pulled(&self, address: SocketAddr, summaries: u64) -> Value {
        self.wait(address, &format!("{summaries} summaries"), |one| one["summaries"] == summaries)
    }

    /// Waits until a collector was pulled `more` times more, with success.
    fn wait_turns(&self, address: SocketAddr, more: u64) {
        let pulls = |one: &Value| one["pulls"].as_u64().unwrap_or(0);
        let before = pulls(&self.collector(address));
        self.wait(address, "more turns", |one| pulls(one) >= before + more);
    }

    /// Kills it with SIGKILL.
    fn kill(self) {
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.process.finish_within(PATIENCE);
    }
}

/// A real InfluxDB with database `llama`, and its `--influx` URL.
fn database() -> (Influxd, String) {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let url = format!("http://{}?db=llama", server.address());
    (server, url)
}

/// Points of `raw_stats` in the database.
fn points(server: &Influxd) -> u64 {
    server.rows("SELECT count(sent) FROM raw_stats").first().map_or(0, |row| row["count"].as_u64().expect("count"))
}

/// Waits until the database holds `expected` points, and then for as long as nothing more may come.
fn expect_points(server: &Influxd, expected: u64) {
    let mut last = 0;
    wait_for("points in the database", || {
        last = points(server);
        assert!(last <= expected, "{last} points, {expected} expected");
        (last == expected).then_some(())
    });
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
