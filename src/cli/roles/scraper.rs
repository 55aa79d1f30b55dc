//! `llama scraper`.

use crate::cli::args::{LogArgs, ScraperArgs};
use crate::cli::exit::{Done, Ended};

/// Pulls collectors until a signal or `--duration`.
///
/// # Errors
/// Options that cannot be are usage errors.
pub fn scraper(_args: &ScraperArgs, _log: &LogArgs) -> Ended {
    Ok(Done::Fine)
}
