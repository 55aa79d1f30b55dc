//! `llama collector`.

use super::history::{self, Keeper, Role};
use super::reload::{self, OnHangup, Origin, Reloading};
use super::{LOOK, allow_sockets, cores, destinations};
use crate::cli::args::{CollectorArgs, LogArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::http::{self, Serving};
use crate::cli::screen::Screen;
use crate::cli::table::Board;
use crate::cli::units::several;
use crate::cli::{layout, signals, steady, table};
use crate::collector::demand::Demand;
use crate::collector::progress::Progress;
use crate::collector::stats::Meter;
use crate::collector::{self, Collector, Error, Options};
use crate::config::Plan;
use crate::http::recent::cut_flows;
use crate::sink::{Limits, Sinks};
use crate::summary::Summary;
use sd_notify::NotifyState;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Probes until a signal or `--duration`.
///
/// # Errors
/// A configuration that is wrong is a usage error.
pub fn collector(args: &CollectorArgs, log: &LogArgs) -> Ended {
    let origin = Origin { file: args.config.clone(), dst_port: args.dst_port };
    let loaded = origin.load().map_err(Failure::usage)?;
    for warning in &loaded.warnings.list {
        tracing::warn!("{warning}");
    }
    // before any thread is started, those of the destinations too: they inherit the blocked signals
    let (stop, hangups) = signals::stop_flag_and_hangups()?;
    let sinks = destinations::open(&args.destinations, Limits::default())?;
    let history = history::open(&args.history, Role::Collector)?;
    let to_stdout = destinations::use_stdout(&args.destinations);
    let options =
        Options { io: args.io, cores: cores(args.cores.as_ref())?, duration: args.duration, ..Options::default() };
    let show = if args.no_table || log.quiet || to_stdout {
        Show::Nothing
    } else if std::io::stdout().is_terminal() {
        Show::Table
    } else if sinks.is_empty() {
        Show::Lines
    } else {
        Show::Nothing
    };
    let plan = Arc::new(loaded.plan);
    let reloading = Arc::new(Reloading::new(origin, args.api.is_none().then_some(plan.api)));
    let api = args.api.or(plan.api).map(|bind| http::Options {
        bind,
        any_port: false,
        reload: Some(reloading.for_clients()),
        remote_reload: args.allow_remote_reload,
    });
    let hangup = OnHangup::new(reloading, hangups);
    run(&plan, &options, Outlets { sinks, history, show }, api.as_ref(), Some(hangup), &stop)
}

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// A line per path and interval.
    Lines,
    /// The live table.
    Table,
}

/// Where a collector's summaries go.
pub struct Outlets {
    /// The destinations.
    pub sinks: Sinks,
    /// What is kept here.
    pub history: Option<Keeper>,
    /// What is shown at once.
    pub show: Show,
}

/// Runs a collector over a plan until `stop` is set or its duration is over; reloads it as `hangup` says.
///
/// # Errors
/// What the kernel refused, at the start or later; the API's address is taken.
pub fn run(
    plan: &Arc<Plan>,
    options: &Options,
    outlets: Outlets,
    api: Option<&http::Options>,
    mut hangup: Option<OnHangup>,
    stop: &AtomicBool,
) -> Ended {
    let sockets = Demand::most_sockets(plan, collector::workers(plan, options)?);
    allow_sockets(sockets + api.map_or(0, |_| http::connections()))?;
    let Outlets { sinks, history, show } = outlets;
    let sinks = Arc::new(sinks);
    let kept = history.as_ref().map(Keeper::kept);
    // before the first probe: an address that is taken ends the run
    let mut serving = api.map(|api| Serving::start(api, plan, sinks.counters(), kept)).transpose()?;
    let mut options = options.clone();
    if serving.is_some() {
        options.flows_listed = Some(http::listed(plan));
    }
    let shown = serving.as_ref().map(|serving| (Arc::clone(&serving.recent), Arc::clone(&serving.metrics)));
    let (view_out, view) = crossbeam_channel::bounded::<Vec<Summary>>(4);
    // the workers are there when the first interval ends
    let workers = Arc::new(OnceLock::<Vec<Arc<Progress>>>::new());
    let deliver = {
        let (sinks, workers, mut meter) = (Arc::clone(&sinks), Arc::clone(&workers), Meter::of_this_host());
        let history = history.as_ref().map(Keeper::writer);
        let mut limits = steady::Watch::default();
        move |mut summaries: Vec<Summary>| {
            if let Some(hint) = limits.add(&summaries) {
                tracing::warn!("{hint}");
            }
            if let Some((recent, metrics)) = &shown {
                metrics.paths.add(&summaries);
                let cut = cut_flows(&summaries);
                recent.add(std::mem::replace(&mut summaries, cut));
            }
            sinks.deliver(&summaries);
            if let Some(history) = &history {
                history.add(&summaries);
            }
            if let Some(workers) = workers.get() {
                let states: Vec<_> = sinks.counters().iter().map(|counters| counters.snapshot()).collect();
                sinks.deliver_stats(&meter.read(&summaries, workers, &states));
            }
            if show != Show::Nothing {
                let _ = view_out.try_send(summaries); // a terminal that is too slow skips an interval
            }
        }
    };
    let collector = Collector::start(plan, &options, deliver).map_err(|error| match error {
        Error::Features(_) | Error::Empty => Failure::usage(error),
        _ => error.into(),
    })?;
    let _ = workers.set(collector.progress().to_vec());
    announce(plan, &collector);
    if let Some(serving) = &serving {
        serving.running(&collector);
    }
    let reloader = collector.reloader();
    if let Some(hangup) = &hangup {
        hangup.running(&reloader, serving.as_ref().map(Serving::shown));
    }
    reload::notify(&[NotifyState::Ready]);
    let mut board = Board::new();
    let mut screen = Screen::stdout();
    loop {
        match view.recv_timeout(LOOK) {
            Ok(summaries) => {
                board.update(&summaries);
                if reloader.generation() > 1 {
                    board.keep(&reloader.plan().paths);
                }
                match show {
                    Show::Table => screen.draw(&board.render(layout::terminal_width(), table::ROWS))?,
                    Show::Lines => exit::print(&table::plain(&summaries))?,
                    Show::Nothing => {}
                }
            }
            // ended, and the last interval was shown
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                if collector.is_finished() {
                    break;
                }
                std::thread::sleep(LOOK);
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
        }
        if let Some(serving) = &mut serving {
            serving.look();
        }
        if let Some(hangup) = &mut hangup {
            hangup.look();
        }
        // as `collector --output - | head -1` expects
        let unread = show == Show::Nothing && sinks.all_gone();
        if unread || stop.load(Ordering::Relaxed) {
            collector.stop();
        }
    }
    let health = health(&collector);
    collector.join()?;
    if let Some(serving) = serving {
        serving.stop();
    }
    if let Some(history) = history {
        history.close();
    }
    // the live table's last line says it already
    if show == Show::Lines {
        exit::print(&format!("{}\n", board.total()))?;
    }
    if let Some(health) = health {
        tracing::warn!("{health}");
    }
    close(sinks)
}

/// Says what was started and what the kernel lets it do.
fn announce(plan: &Plan, collector: &Collector) {
    tracing::info!("{}", collector.features);
    for (number, worker) in collector.workers.iter().enumerate() {
        let place = worker.cpu.map_or("any CPU".into(), |cpu| format!("CPU {cpu}"));
        let stamps = match worker.stamp_one_in {
            0 => "no transmit stamps".into(),
            1 => "a transmit stamp per probe".into(),
            n => format!("a transmit stamp on one probe in {n}"),
        };
        tracing::info!(
            "worker {number} on {place}: {} on {}, {:.0} probes/s, {stamps}, {} MiB",
            several(worker.flows as u64, "flow"),
            several(worker.sockets as u64, "socket"),
            worker.rate,
            worker.memory.div_ceil(1 << 20)
        );
    }
    let (paths, interval) = (several(plan.paths.len() as u64, "path"), plan.interval.as_secs_f64());
    tracing::info!("{paths}, a summary every {interval} s");
    if let Some(limit) = plan.syn_limit {
        tracing::info!("SYNs: at most {limit}/s to one target");
    }
    if let Some(echo) = collector.echo {
        tracing::info!("ICMP echoes: over {echo}");
    }
}

/// What went wrong in the prober itself, in one line.
fn health(collector: &Collector) -> Option<String> {
    let sum = |of: fn(&crate::collector::progress::Progress) -> u64| -> u64 {
        collector.progress().iter().map(|progress| of(progress)).sum()
    };
    let parts = [
        (sum(|p| p.not_sent.get()), "probes not sent in time"),
        (sum(|p| p.local_drops.get()), "replies dropped by full sockets"),
        (sum(|p| p.send_failed.get()), "sends refused by the kernel"),
        (sum(|p| p.given_up.get()), "tallies given up"),
        (sum(|p| p.clock_steps.get()), "steps of the wall clock"),
        (sum(|p| p.unreadable.get()), "datagrams that were no reply"),
        (sum(|p| p.unasked.get()), "replies nobody asked for"),
        (sum(|p| p.ring_overflows.get()), "completion queue overflows"),
    ];
    let said: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    (!said.is_empty()).then(|| format!("the prober itself: {}", said.join(", ")))
}

/// Lets the destinations take what is queued; what they do not take in time is said.
fn close(sinks: Arc<Sinks>) -> Ended {
    let Some(sinks) = Arc::into_inner(sinks) else { return Ok(Done::Fine) };
    destinations::ended(&sinks.close(destinations::FLUSH))
}
