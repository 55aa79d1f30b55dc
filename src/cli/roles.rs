//! One function per role: typed arguments in, the role's run, its view out.
//!
//! No logic of its own: what to measure is the role's, how to show it the view's.

use super::args::{CheckArgs, CollectorArgs, DemoArgs, LogArgs, PingArgs, ReflectorArgs};
use super::exit::Ended;
use anyhow::anyhow;

/// `llama ping`: measures one target once. [`Done::AllLost`](super::exit::Done) when nothing came back.
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
    // PLUG IN: config::load, then `check::report`
    let _ = args;
    Err(anyhow!("check is not wired up yet").into())
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
