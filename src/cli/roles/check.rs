//! `llama check`.

use crate::cli::args::CheckArgs;
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::{check, diff, layout};
use crate::collector;
use crate::collector::demand::Demand;
use crate::collector::seats::EchoPath;
use crate::config::{self, Loaded, PlanReport};
use crate::net::thread;
use crate::summary::tally::Tally;
use std::path::Path;

/// Says what a configuration will do, or what a reload from it to another one would change.
///
/// # Errors
/// A configuration that is wrong is a usage error.
pub fn check(args: &CheckArgs) -> Ended {
    let (loaded, report) = load(&args.file, args.dst_port)?;
    let width = layout::terminal_width();
    let Some(new_file) = &args.diff else {
        let file = args.file.display().to_string();
        exit::print(&if args.json { check::json(&report)? } else { check::report(&file, &report, width) })?;
        return Ok(Done::Fine);
    };
    let (new, new_report) = load(new_file, args.dst_port)?;
    let workers = collector::workers_wanted(&loaded.plan).min(thread::allowed_cpus()?.len());
    let api = config::diff::api_needs_restart(loaded.plan.api, &new.plan);
    let needs_restart = api.into_iter().chain(collector::reload::needs_restart(&new.plan, workers)).collect();
    let diff = config::Diff::new((&loaded.plan, &report), (&new.plan, &new_report), needs_restart);
    let files = (args.file.display().to_string(), new_file.display().to_string());
    exit::print(&if args.json { diff::json(&diff)? } else { diff::report((&files.0, &files.1), &diff) })?;
    Ok(Done::Fine)
}

fn load(file: &Path, dst_port: u16) -> Result<(Loaded, PlanReport), Failure> {
    let loaded = config::load(file, dst_port, &config::System).map_err(Failure::usage)?;
    let workers = collector::workers_wanted(&loaded.plan).min(thread::allowed_cpus()?.len());
    // SYNs need the privilege, and a service that has it sends echoes over raw sockets too
    let Demand { sockets, buffers } = Demand::of(&loaded.plan, workers, EchoPath::Raw);
    let costs = config::Costs::of(&loaded.plan, (sockets, buffers), Tally::memory);
    let report = config::PlanReport::new(&loaded.plan, &loaded.warnings, &costs);
    Ok((loaded, report))
}
