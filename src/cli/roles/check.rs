//! `llama check`.

use crate::cli::args::CheckArgs;
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::{check, layout};
use crate::config;
use crate::summary::tally::Tally;

/// Says what a configuration will do.
///
/// # Errors
/// A configuration that is wrong is a usage error.
pub fn check(args: &CheckArgs) -> Ended {
    let loaded = config::load(&args.file, args.dst_port, &config::System).map_err(Failure::usage)?;
    let costs = config::Costs::of(&loaded.plan, Tally::memory);
    let report = config::PlanReport::new(&loaded.plan, &loaded.warnings, &costs);
    exit::print(&if args.json {
        check::json(&report)?
    } else {
        check::report(&args.file.display().to_string(), &report, layout::terminal_width())
    })?;
    Ok(Done::Fine)
}
