//! `llama collector`.

use super::{LOOK, allow_sockets, cores};
use crate::cli::args::{CollectorArgs, LogArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::screen::Screen;
use crate::cli::table::Board;
use crate::cli::units::several;
use crate::cli::{layout, signals, table};
use crate::collector::{Collector, Error, Options};
use crate::config::{self, Plan};
use crate::sink::{Limits, SinkError, Sinks, influx};
use crate::summary::Summary;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the end waits for destinations to take what is queued.
const FLUSH: Duration = Duration::from_secs(5);

/// Probes until a signal or `--duration`.
///
/// # Errors
/// A configuration that is wrong is a usage error.
pub fn collector(args: &CollectorArgs, log: &LogArgs) -> Ended {
    let loaded = match &args.config {
        Some(file) => config::load(file, args.dst_port, &config::System),
        None => config::without_file(&config::System),
    }
    .map_err(Failure::usage)?;
    for warning in &loaded.warnings.list {
        tracing::warn!("{warning}");
    }
    // before any thread is started, those of the destinations too: they inherit the blocked signals
    let stop = signals::stop_flag()?;
    let mut sinks = Sinks::new();
    if let Some(url) = &args.influx {
        let target = influx::Target::parse(url, args.influx_token.as_deref()).map_err(Failure::usage)?;
        sinks.add_influx(influx::Options::new(target), Limits::default()).map_err(of_sink)?;
    }
    if let Some(file) = &args.output {
        sinks.add_json_lines(file, Limits::default()).map_err(of_sink)?;
    }
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
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
    run(&Arc::new(loaded.plan), &options, sinks, show, &stop)
}

/// A destination that cannot be is the command line's fault.
fn of_sink(error: SinkError) -> Failure {
    match error {
        SinkError::Thread { .. } => error.into(),
        _ => Failure::usage(error),
    }
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

/// Runs a collector over a plan until `stop` is set or its duration is over.
///
/// # Errors
/// What the kernel refused, at the start or later.
pub fn run(plan: &Arc<Plan>, options: &Options, sinks: Sinks, show: Show, stop: &AtomicBool) -> Ended {
    allow_sockets(plan.sources.len())?;
    let sinks = Arc::new(sinks);
    let (view_out, view) = crossbeam_channel::bounded::<Vec<Summary>>(4);
    let deliver = {
        let sinks = Arc::clone(&sinks);
        move |summaries: Vec<Summary>| {
            sinks.deliver(&summaries);
            if show != Show::Nothing {
                let _ = view_out.try_send(summaries); // a terminal that is too slow skips an interval
            }
        }
    };
    let collector = Collector::start(plan, options, deliver).map_err(|error| match error {
        Error::Features(_) | Error::Empty => Failure::usage(error),
        _ => error.into(),
    })?;
    announce(plan, &collector);
    let mut board = Board::new();
    let mut screen = Screen::stdout();
    loop {
        match view.recv_timeout(LOOK) {
            Ok(summaries) => {
                board.update(&summaries);
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
        // as `collector --output - | head -1` expects
        let unread = show == Show::Nothing && sinks.all_gone();
        if unread || stop.load(Ordering::Relaxed) {
            collector.stop();
        }
    }
    let health = health(&collector);
    collector.join()?;
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
    let left = sinks.close(FLUSH);
    for left in &left {
        tracing::error!("{left}");
    }
    if left.is_empty() { Ok(Done::Fine) } else { Err(anyhow::anyhow!("not everything was delivered").into()) }
}
