//! The command line as typed by the user, and everything shown on a terminal.
//!
//! Responsible for flags ([`args`], [`values`]), views (pure functions from results to text:
//! [`ping`], [`table`], [`check`], [`diff`], [`reflector`], [`collectors`], [`matrix`], [`verdict`], [`chart`]), the progress
//! bar, logging and signals. Not responsible for any measurement: a subcommand of [`roles`] hands typed
//! arguments to a role and prints what comes back. Read [`args`] first, then [`roles`].

pub mod args;
pub mod chart;
pub mod check;
pub mod classes;
pub mod collectors;
pub mod diff;
pub mod exit;
pub mod generate;
pub mod http;
pub mod layout;
pub mod logging;
pub mod matrix;
pub mod ping;
mod ping_args;
pub mod ping_json;
pub mod progress;
pub mod reflector;
pub mod roles;
pub mod samples;
pub mod screen;
pub mod signals;
pub mod steady;
pub mod table;
pub mod units;
pub mod values;
pub mod verdict;
