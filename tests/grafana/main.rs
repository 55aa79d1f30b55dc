//! The dashboards of `docs/grafana/` and the alerts of `docs/alerts/`: every query is taken from the JSON, filled in as
//! Grafana would, and asked of a real InfluxDB or Prometheus that holds what a real collector measured. What it gives
//! is compared with the collector's own JSON lines, or with the counters that were scraped.

#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

#[path = "../common/mod.rs"]
mod common;
mod dashboard;
mod fleet;
#[path = "../influx/server.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod influxd;
mod known;
mod over_influxdb;
mod over_prometheus;
#[path = "../prometheus/server.rs"]
#[allow(dead_code, reason = "every test takes its part of it")]
mod prometheus;
mod rules;
