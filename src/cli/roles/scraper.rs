//! `llama scraper`.

use super::history::{self, Keeper, Role};
use super::{LOOK, destinations};
use crate::cli::args::{LogArgs, ScraperArgs};
use crate::cli::collectors::{self, Row};
use crate::cli::exit::{self, Ended, Failure};
use crate::cli::http::Kept;
use crate::cli::screen::Screen;
use crate::cli::units::several;
use crate::cli::{layout, signals};
use crate::http::matrix;
use crate::http::metrics::{self, process, server as server_metrics, sinks as sink_metrics};
use crate::http::recent::{self, Recent};
use crate::http::server::{Limits as ServerLimits, Server};
use crate::scraper::gate::Room;
use crate::scraper::list::Source;
use crate::scraper::{self, Error, Keep, Options, Scraper, View};
use crate::sink::Limits;
use crate::time::{Clock, Monotonic, SystemClock, nanos};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often the table is redrawn and health looked at.
const REDRAW: Duration = Duration::from_secs(1);
/// The file of positions in the spool's directory.
const POSITIONS: &str = "scraper-positions";

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Nothing,
    Lines,
    Table,
}

/// Pulls collectors until a signal or `--duration`; SIGHUP reads the file of collectors again.
///
/// # Errors
/// Options that cannot be are usage errors; the API's address is taken.
pub fn scraper(args: &ScraperArgs, log: &LogArgs) -> Ended {
    let source = Source::of_flag(&args.collectors);
    // before anything is opened: a list that is wrong changes nothing
    let listed = source.read().map_err(Failure::usage)?;
    let stores = args.destinations.influx.is_some() || args.destinations.output.is_some();
    if args.positions.is_some() && !stores {
        return Err(Failure::usage(anyhow::anyhow!(
            "--positions: without a destination everything would count as delivered, and nothing is stored; add --influx \
             URL or --output FILE, or leave --positions out"
        )));
    }
    // before any thread is started, those of the destinations too: they inherit the blocked signals
    let (stop, hangups) = signals::stop_flag_and_hangups()?;
    let limits = Limits::default();
    let sinks = destinations::open(&args.destinations, limits)?;
    let history = history::open(&args.history, Role::Scraper)?;
    let kept = history.as_ref().map(Keeper::kept);
    let to_stdout = destinations::use_stdout(&args.destinations);
    let show = match std::io::stdout().is_terminal() {
        _ if log.quiet || to_stdout => Show::Nothing,
        true => Show::Table,
        false if sinks.is_empty() => Show::Lines,
        false => Show::Nothing,
    };
    let positions = args
        .positions
        .clone()
        .or_else(|| args.destinations.spool.directory.as_ref().map(|directory| directory.join(POSITIONS)));
    let spool_bytes = args.destinations.spool.directory.as_ref().map(|_| args.destinations.spool.max_bytes);
    let keep = |keeper: &Keeper| Keep { writer: keeper.writer(), counters: keeper.kept().counters };
    let options = Options {
        source,
        interval: args.interval,
        positions,
        room: Room { limits, spool_bytes },
        history: history.as_ref().map(keep),
    };
    let recent = args.api.map(|_| Arc::new(Recent::new(recent::Limits::default())));
    let scraper = Scraper::start(options, sinks, recent).map_err(|error| match error {
        Error::List(_) | Error::Positions { .. } | Error::Locked(_) => Failure::usage(error),
        Error::Thread(_) => error.into(),
    })?;
    let view = scraper.view();
    let server = args.api.map(|bind| serve(bind, &view, kept)).transpose()?;
    let collectors = several(listed.collectors.len() as u64, "collector");
    tracing::info!("{collectors}, each pulled every {:?}, {} at a time", args.interval, scraper::PULLERS);
    if !stores && history.is_none() {
        tracing::warn!("nothing is stored: give --influx or --output");
    }

    let end = args.duration.map(|duration| SystemClock.monotonic().after(duration));
    let mut answered = 0;
    let shown = run(&view, show, end, || {
        let asked = hangups.load(Ordering::Relaxed);
        if asked != answered {
            answered = asked;
            if !scraper.read_list_again() {
                tracing::warn!(
                    "SIGHUP: there is nothing to read again, the list was given on the command line; name a file as \
                     --collectors @FILE"
                );
            }
        }
        stop.load(Ordering::Relaxed)
    });
    let left = scraper.stop(destinations::FLUSH);
    if let Some(server) = server {
        server.stop();
    }
    if let Some(history) = history {
        history.close();
    }
    shown?;
    if show != Show::Nothing {
        exit::print(&format!("{}\n", collectors::total(&rows(&view), SystemClock.wall(), view.pause())))?;
    }
    destinations::ended(&left)
}

/// Serves the scraper's state and metrics.
fn serve(bind: SocketAddr, view: &View, kept: Option<Kept>) -> Result<Server, Failure> {
    let started = server_metrics::Started::new(OnceLock::new());
    let sources: Vec<metrics::Source> = vec![
        Box::new(|page| process::write_build(page, "scraper")),
        Box::new({
            let (view, kept) = (view.clone(), kept.clone());
            move |page| {
                scraper::metrics::write(page, &view);
                sink_metrics::write(page, view.sinks());
                if let Some(recent) = view.recent() {
                    server_metrics::write_recent(page, recent);
                }
                if let Some(kept) = &kept {
                    metrics::history::write(page, &kept.counters);
                    kept.shown.write(page);
                }
            }
        }),
        Box::new({
            let started = Arc::clone(&started);
            move |page| server_metrics::write(page, &started)
        }),
        Box::new(process::write),
    ];
    let router = scraper::api::router(view.clone())
        .merge(metrics::router(sources))
        .merge(matrix::router(kept.map(|kept| kept.shown)));
    let server = Server::start(bind, router, ServerLimits::default(), "--api")?;
    let _ = started.set(server.counters());
    tracing::info!("API at http://{}/", server.address());
    Ok(server)
}

/// Shows the collectors until the end.
fn run(view: &View, show: Show, end: Option<Monotonic>, mut stopped: impl FnMut() -> bool) -> std::io::Result<()> {
    let mut screen = Screen::stdout();
    let (mut drawn, mut printed) = (None::<Monotonic>, SystemClock.monotonic());
    loop {
        let now = SystemClock.monotonic();
        // as `scraper --output - | head -1` expects
        if stopped() || end.is_some_and(|end| now >= end) || view.all_gone() {
            return Ok(());
        }
        let wall = SystemClock.wall();
        if drawn.is_none_or(|drawn| now.since(drawn) >= nanos(REDRAW)) {
            drawn = Some(now);
            // so that the API can say since when
            let _ = view.reasons(wall);
            if show == Show::Table {
                let width = layout::terminal_width();
                screen.draw(&collectors::render(&rows(view), wall, view.pause(), width, collectors::ROWS))?;
            }
        }
        if show == Show::Lines && now.since(printed) >= nanos(view.pause()) {
            printed = now;
            exit::print(&collectors::plain(&rows(view), wall, view.pause()))?;
        }
        std::thread::sleep(LOOK);
    }
}

fn rows(view: &View) -> Vec<Row> {
    view.collectors().iter().map(|collector| (collector.address.to_string(), collector.status())).collect()
}
