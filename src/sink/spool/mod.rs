//! Summaries on disk while a database is away.
//!
//! Read [`Options`].

use std::path::PathBuf;
use std::time::Duration;

/// Where a spool is and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory, made when it is not there. One process at a time.
    pub directory: PathBuf,
    /// Bytes of its segments; beyond them the oldest summaries are dropped and counted. At least 1 MiB.
    pub max_bytes: u64,
    /// Age at which summaries are dropped and counted.
    pub max_age: Duration,
}
