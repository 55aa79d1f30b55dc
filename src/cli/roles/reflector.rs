//! `llama reflector`.

use super::{LOOK, cores, io_word, key};
use crate::cli::args::{LogArgs, ReflectorArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::{reflector as view, signals};
use crate::config::keys;
use crate::net::{clock_state, thread};
use crate::reflector::{Error, Options, Running, serve};
use crate::time::{Clock, SystemClock};
use crate::wire::stamp::ErrorEstimate;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Answers probes until a signal or `--duration`.
///
/// # Errors
/// Options that cannot be are usage errors; addresses that cannot be bound, cores that do not exist.
pub fn reflector(args: &ReflectorArgs, log: &LogArgs) -> Ended {
    let options = options(args)?;
    let stop = signals::stop_flag()?;
    let lines = !log.quiet && (args.stats || std::io::stderr().is_terminal());
    let ended = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let (started_out, started) = mpsc::channel();
        scope.spawn(|| look_after(started, args, &stop, &ended, lines));
        let served = serve::serve(&options, &stop, |running, features| {
            tracing::debug!("{features}");
            let ready = view::ready(&running.addresses, options.workers(), io_word(features.io));
            let _ = exit::print(&ready); // nobody reads it: the replies go out all the same
            let _ = started_out.send(running);
        });
        ended.store(true, Ordering::Relaxed);
        served
    });
    let totals = served.map_err(|error| match error {
        Error::Options(_) => Failure::usage(error),
        _ => error.into(),
    })?;
    exit::print(&view::totals(&(&totals).into()))?;
    Ok(Done::Fine)
}

fn options(args: &ReflectorArgs) -> Result<Options, Failure> {
    // one worker cannot share a port that the system chooses
    let any_port = args.listen.iter().any(|listen| listen.port() == 0);
    let cores = match &args.cores {
        Some(_) => Some(cores(args.cores.as_ref())?),
        None if any_port => None,
        None => Some(thread::allowed_cpus()?),
    };
    let clock = clock_state::synchronised_within_ns();
    Ok(Options {
        listen: args.listen.clone(),
        cores,
        max_pps: args.max_pps.map(u64::from),
        max_pps_per_source: args.max_pps_per_source.map(u64::from),
        key: key(args.key_file.as_deref())?,
        stateful: args.stateful,
        clock: clock.map_or(ErrorEstimate::UNSYNCHRONISED, ErrorEstimate::synchronised),
        longest: keys::MAX_SIZE.into(),
        io: args.io,
        ..Options::default()
    })
}

/// Prints lines of counts and ends the reflector after `--duration`.
fn look_after(
    started: mpsc::Receiver<Running>,
    args: &ReflectorArgs,
    stop: &AtomicBool,
    ended: &AtomicBool,
    lines: bool,
) {
    let Ok(running) = started.recv() else { return };
    let start = SystemClock.monotonic();
    let end = args.duration.map(|duration| start.after(duration));
    let mut ticker = view::Ticker::new(start);
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let now = SystemClock.monotonic();
        if end.is_some_and(|end| now >= end) {
            stop.store(true, Ordering::Relaxed);
        }
        if lines && let Some(line) = ticker.tick(now, &(&running.totals()).into()) {
            anstream::eprint!("{line}");
        }
    }
}
