//! `llama reflector`.

use super::{LOOK, cores, io_word, key};
use crate::cli::args::{LogArgs, ReflectorArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::{reflector as view, signals};
use crate::config::keys;
use crate::http;
use crate::http::server::Server;
use crate::net::features::Features;
use crate::net::{clock_state, thread};
use crate::reflector::{Error, Options, Running, metrics, serve};
use crate::time::{Clock, SystemClock};
use crate::wire::stamp::ErrorEstimate;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Answers probes until a signal or `--duration`.
///
/// # Errors
/// Options that cannot be are usage errors; addresses that cannot be bound, cores that do not exist.
pub fn reflector(args: &ReflectorArgs, log: &LogArgs) -> Ended {
    let options = options(args)?;
    let stop = signals::stop_flag()?;
    let lines = !log.quiet && (args.stats || std::io::stderr().is_terminal());
    let ended = AtomicBool::new(false);
    let mut server = None;
    let served = std::thread::scope(|scope| {
        let (started_out, started) = mpsc::channel();
        scope.spawn(|| look_after(started, args, &stop, &ended, lines));
        let served = serve::serve(&options, &stop, |running, features| {
            tracing::debug!("{features}");
            let health = Arc::new(metrics::Health::new(running.clone()));
            if let Some(bind) = args.metrics {
                server = Some(show(bind, Arc::clone(&health), &options, features));
                if let Some(Err(_)) = server {
                    return stop.store(true, Ordering::Relaxed);
                }
            }
            let ready = view::ready(&running.addresses, options.workers(), io_word(features.io));
            let _ = exit::print(&ready); // nobody reads it: the replies go out all the same
            let _ = started_out.send((running, health));
        });
        ended.store(true, Ordering::Relaxed);
        served
    });
    let totals = served.map_err(|error| match error {
        Error::Options(_) => Failure::usage(error),
        _ => error.into(),
    })?;
    server.transpose()?;
    exit::print(&view::totals(&(&totals).into()))?;
    Ok(Done::Fine)
}

/// Serves the reflector's metrics, and says where.
fn show(
    bind: SocketAddr,
    health: Arc<metrics::Health>,
    options: &Options,
    features: &Features,
) -> Result<Server, http::server::Error> {
    let started = http::metrics::server::Started::default();
    let router = metrics::router(health, options, features, Arc::clone(&started));
    let server = Server::start(bind, router, http::server::Limits::default(), "--metrics")?;
    started.get_or_init(|| server.counters());
    let _ = exit::print(&format!("metrics on http://{}/metrics\n", server.address())); // as below
    Ok(server)
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
    started: mpsc::Receiver<(Running, Arc<metrics::Health>)>,
    args: &ReflectorArgs,
    stop: &AtomicBool,
    ended: &AtomicBool,
    lines: bool,
) {
    let Ok((running, health)) = started.recv() else { return };
    let start = SystemClock.monotonic();
    let end = args.duration.map(|duration| start.after(duration));
    let mut ticker = view::Ticker::new(start);
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let now = SystemClock.monotonic();
        health.look();
        if end.is_some_and(|end| now >= end) {
            stop.store(true, Ordering::Relaxed);
        }
        if lines && let Some(line) = ticker.tick(now, &(&running.totals()).into()) {
            anstream::eprint!("{line}");
        }
    }
}
