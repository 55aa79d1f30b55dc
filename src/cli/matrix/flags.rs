//! Flags of the matrix in the terminal. Read [`MatrixViewArgs`].

use super::Metric;
use crate::cli::values;
use clap::{Args, ValueHint};
use std::time::Duration;

/// Flags of the matrix in the terminal.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "In the terminal")]
pub struct MatrixViewArgs {
    /// API of a collector, scraper or demo: http://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = values::api_url, value_hint = ValueHint::Url)]
    pub url: Option<String>,
    /// Group rows by this: src_ip, dst_ip, method, dscp, size, group or a tag [default: what the server suggests]
    #[arg(long, value_name = "KEY", requires = "url")]
    pub rows: Option<String>,
    /// Group columns by this [default: what the server suggests]
    #[arg(long, value_name = "KEY", requires = "url")]
    pub columns: Option<String>,
    /// What cells show
    #[arg(long, value_name = "METRIC", default_value = "loss", requires = "url")]
    pub metric: Metric,
    /// Only paths with this value, repeatable; the same KEY again: or; another KEY: and; no VALUE: paths without the key
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = values::key_and_value, requires = "url")]
    pub filter: Vec<(String, String)>,
    /// Each path's newest interval at this instant instead of now: 2024-02-29T12:30:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = values::instant, requires = "url")]
    pub at: Option<String>,
    /// All of a window of this length instead of the newest interval: 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = values::whole_seconds, requires = "url")]
    pub span: Option<Duration>,
    /// Show the change against so much earlier: 1h, 1d
    #[arg(long, value_name = "TIME", value_parser = values::whole_seconds, requires = "url")]
    pub before: Option<Duration>,
    /// List so many of the worst paths and flows, 0 to 1000, by the metric [default: 5 that lost, when something did]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1000), requires = "url")]
    pub worst: Option<u16>,
    /// Show it again with each new interval, until Ctrl-C
    #[arg(long, conflicts_with = "at", requires = "url")]
    pub watch: bool,
    /// Print one JSON object per matrix, each on a line; times are in milliseconds
    #[arg(long, requires = "url")]
    pub json: bool,
    /// Exit with 1 when a cell lost more than this, suspect ones too, or when nothing was measured
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, conflicts_with = "watch", requires = "url")]
    pub fail_above: Option<f64>,
}
