//! The matrix over a real InfluxDB: what collectors wrote is what comes back, number by number; texts of users stay
//! texts; a server that is away or no InfluxDB is named, with what to do.

#[path = "../common/mod.rs"]
mod common;
mod fleet;
mod hostile;
mod instants;
mod old;
mod same;
#[path = "../influx/server.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod server;
mod unwell;

use llama::matrix::influx::{InfluxSource, Options};
use llama::matrix::{Figures, Filter, PathFigures, Source, Window};
use llama::sink::influx::{self, Target};
use llama::sink::{Limits, Sinks};
use llama::summary::Summary;
use llama::time::Wall;
use server::Influxd;
use std::time::Duration;

/// End of interval 0.
const T0: u64 = 1_709_209_800_000_000_000;
/// Length of an interval.
const INTERVAL: u64 = 10_000_000_000;
/// Longer than all that is written.
const ALL: Window = Window { from: Wall(T0 - INTERVAL), to: Wall(T0 + 1000 * INTERVAL) };

fn target(server: &Influxd, database: &str) -> Target {
    Target::parse(&format!("http://{}?db={database}", server.address()), None).expect("target")
}

/// A source over a database of the server that reads up to `row_limit` points itself.
fn source(server: &Influxd, database: &str, row_limit: u64) -> InfluxSource {
    InfluxSource::new(&Options { row_limit, ..Options::new(target(server, database)) }).expect("source")
}

/// Writes summaries as a collector does, into a database of its own.
fn write(server: &Influxd, database: &str, detail: bool, summaries: &[Summary]) {
    server.query(&format!("CREATE DATABASE {database}"));
    let mut sinks = Sinks::new();
    let options = influx::Options { detail, ..influx::Options::new(target(server, database)) };
    sinks.add_influx(options, Limits::default()).expect("sink");
    sinks.deliver(summaries);
    let counters = sinks.counters();
    assert_eq!(sinks.close(Duration::from_secs(120)), vec![]);
    assert_eq!(counters[0].snapshot().delivered, summaries.len() as u64);
}

/// Lines as somebody else wrote them.
fn write_lines(server: &Influxd, lines: &str) {
    server.query("CREATE DATABASE llama");
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    agent.post(format!("http://{}/write?db=llama", server.address())).send(lines).expect("written");
}

fn figures(source: &InfluxSource, filter: &Filter) -> Vec<PathFigures> {
    source.figures(ALL, filter).expect("figures").value
}

/// All paths' figures as one.
fn joined(figures: &[PathFigures]) -> Figures {
    let mut all = Figures::default();
    figures.iter().for_each(|one| all.add_path(&one.figures));
    all
}
