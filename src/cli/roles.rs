//! One function per role: typed arguments in, the role's run, its view out.
//!
//! No logic of its own: what to measure is the role's, how to show it the view's.

use super::args::{CheckArgs, CollectorArgs, DemoArgs, LogArgs, PingArgs, ReflectorArgs};
use super::exit::{self, Done, Ended, Failure};
use super::{check, layout};
use crate::config;
use crate::summary::tally::Tally;
use anyhow::anyhow;

/// `llama ping`: measures one target once. [`Done::AllLost`] when nothing came back.
///
/// # Errors
/// A target that does not resolve or a key file that cannot be read is a usage error.
pub fn ping(args: &PingArgs, log: &LogArgs) -> Ended {
    // PLUG IN: collector::run with a plan of one target; `progress::Bar` gets its counters, then
    // `ping::report` or `ping_json::report` prints the accumulated summary
    let _ = (args, log);
    Err(anyhow!("ping is not wired up yet").into())
}

/// `llama reflector`: answers probes until a signal.
///
/// # Errors
/// Addresses that cannot be bound, cores that do not exist.
pub fn reflector(args: &ReflectorArgs, log: &LogArgs) -> Ended {
    // PLUG IN: reflector::run; `reflector::ready`, `reflector::Ticker`, `reflector::totals` print
    let _ = (args, log);
    Err(anyhow!("the reflector is not wired up yet").into())
}

/// `llama collector`: probes until a signal or `--duration`.
///
/// # Errors
/// A configuration that is wrong is a usage error.
pub fn collector(args: &CollectorArgs, log: &LogArgs) -> Ended {
    // PLUG IN: collector::run; a `table::Board` and a `screen::Screen` show each interval
    let _ = (args, log);
    Err(anyhow!("the collector is not wired up yet").into())
}

/// `llama check`: says what a configuration will do.
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

/// `llama demo`: reflectors and a collector on loopback.
///
/// # Errors
/// As the reflector and the collector.
pub fn demo(args: &DemoArgs, log: &LogArgs) -> Ended {
    // PLUG IN: collector::demo::run; shown as the collector's
    let _ = (args, log);
    Err(anyhow!("the demo is not wired up yet").into())
}
