//! `llama matrix --url`: the matrix of a running server in the terminal.

use super::LOOK;
use crate::cli::args::{LogArgs, MatrixViewArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::matrix::Metric;
use crate::cli::matrix::answer::{Extent, Flows, Matrix, Paths, Probers};
use crate::cli::matrix::client::{Client, PATIENCE, Refusal};
use crate::cli::matrix::follow::Follower;
use crate::cli::matrix::json;
use crate::cli::matrix::question::Question;
use crate::cli::matrix::text::clean;
use crate::cli::matrix::view::{self, Options, Picture};
use crate::cli::screen::Screen;
use crate::cli::units::{elapsed, percent};
use crate::cli::{layout, signals};
use crate::net::terminal;
use crate::time::{Clock, Monotonic, SystemClock, nanos};
use anyhow::anyhow;
use std::io::{IsTerminal, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Paths and flows that are listed when something was lost and no number was asked for.
const WORST: usize = 5;
/// Shortest time between two matrices of `--watch`, however often a server has news.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// How often is asked while no events arrive: once an interval, within these.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Pause after a failure, doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Shows the matrix once, or with each interval until a signal.
///
/// # Errors
/// The server does not answer, or refuses. Once it has answered, `--watch` goes on asking.
pub fn matrix_view(args: &MatrixViewArgs, log: &LogArgs) -> Ended {
    let Some(url) = &args.url else {
        return Err(Failure::usage(anyhow!("--url: whose matrix is not said; add --url http://HOST:5000")));
    };
    // before any thread is started: they inherit the blocked signals
    let stop = if args.watch { Some(signals::stop_flag()?) } else { None };
    let asker = Asker { client: Client::new(url, PATIENCE), question: question(args), args };
    let refused = |refusal: Refusal| Failure::Run(anyhow!("{}: {refusal}", asker.client.shown()));
    let picture = asker.ask().map_err(refused)?;
    match stop {
        Some(stop) => watch(&asker, picture, log, &stop),
        None => {
            if args.json {
                exit::print(&json::line(&picture)?)?;
            } else {
                exit::print(&view::render(&picture, &asker.options(false)))?;
            }
            Ok(verdict(&picture, args.fail_above))
        }
    }
}

fn question(args: &MatrixViewArgs) -> Question {
    Question {
        rows: args.rows.clone(),
        columns: args.columns.clone(),
        filter: args.filter.clone(),
        at: args.at.clone(),
        span: args.span,
        before: args.before,
    }
}

/// Whether more was lost than `--fail-above` allows; says so, and where most.
fn verdict(picture: &Picture, limit: Option<f64>) -> Done {
    let Some(limit) = limit else { return Done::Fine };
    let matrix = &picture.matrix;
    let lossy = || matrix.cells(&matrix.fields).filter_map(|cell| Some((cell, Metric::Loss.value(&cell.2)?)));
    let Some(((row, column, figures), most)) = lossy().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        tracing::warn!("--fail-above: nothing was measured in this time");
        return Done::TooMuchLost;
    };
    if most <= limit {
        return Done::Fine;
    }
    let cells = lossy().filter(|(_, loss)| *loss > limit).count();
    let (row, column) = (clean(&matrix.rows.values[row]), clean(&matrix.columns.values[column]));
    let suspect = if figures.count("suspects") > 0 { ", which may be the prober's own doing" } else { "" };
    let (most, limit) = (percent(most), percent(limit));
    tracing::warn!("cells that lost more than {limit}: {cells}; most: {row} × {column} with {most}{suspect}");
    Done::TooMuchLost
}

/// Who asks, and what.
struct Asker<'a> {
    client: Client,
    question: Question,
    args: &'a MatrixViewArgs,
}

impl Asker<'_> {
    /// All answers about one time.
    fn ask(&self) -> Result<Picture, Refusal> {
        let extent: Extent = self.client.ask("/api/v1/matrix/extent")?;
        let matrix: Matrix = self.client.ask(&self.question.matrix())?;
        // what follows is about the same time, also when an interval ends meanwhile
        let window = matrix.span.from.clone().zip(matrix.span.to.clone());
        // an empty window, before the first interval has ended, is none that can be asked for
        let window = window.filter(|_| matrix.span.ends().is_some_and(|(from, to)| from < to));
        let window = window.as_ref().map(|(from, to)| (from.as_str(), to.as_str()));
        let probers: Probers = self.client.ask(&self.question.probers(window))?;
        let mut picture = Picture { url: self.client.shown(), extent, matrix, probers, paths: None, flows: None };
        let (_, _, lost) = picture.totals();
        let (count, metric) = match self.args.worst {
            Some(count) => (usize::from(count), self.args.metric),
            None if lost > 0 => (WORST, Metric::Loss),
            None => (0, Metric::Loss),
        };
        if count > 0 {
            let paths = self.question.worst("paths", metric.paths_order(), count, window);
            picture.paths = Some(self.client.ask::<Paths>(&paths)?);
            let flows = self.question.worst("flows", metric.flows_order(), count, window);
            picture.flows = Some(self.client.ask::<Flows>(&flows)?);
        }
        Ok(picture)
    }

    fn options(&self, strict: bool) -> Options {
        let out = std::io::stdout();
        Options {
            metric: self.args.metric,
            filter: self.args.filter.clone(),
            width: layout::terminal_width(),
            height: if out.is_terminal() { terminal::lines() } else { None },
            strict,
            colour: anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never,
            list_all: self.args.worst.is_some(),
            instant: self.args.span.is_none(),
            now: self.args.at.is_none().then(|| SystemClock.wall()),
            note: None,
        }
    }
}

/// Shows each new interval until `stop`.
fn watch(asker: &Asker, first: Picture, log: &LogArgs, stop: &AtomicBool) -> Ended {
    let follower = Follower::start(asker.client.clone())?;
    let mut show = Show { asker, screen: Screen::stdout(), quiet: log.quiet };
    show.picture(&first, None)?;
    let mut shown = first;
    let mut outage = Outage::default();
    let mut asked = SystemClock.monotonic();
    let mut pause = poll(&shown.extent);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let since = SystemClock.monotonic().since(asked);
        if since < nanos(LEAST_PAUSE) {
            continue; // news that came meanwhile is still there afterwards
        }
        let heard = follower.newest().is_some_and(|newest| Some(newest) != shown.extent.newest);
        // while events arrive there is nothing to ask; after a failure they say nothing about the other questions
        let due = (outage.failures > 0 || !follower.connected()) && since >= nanos(pause);
        if !heard && !due {
            continue;
        }
        match asker.ask() {
            Ok(picture) => {
                let news =
                    picture.extent.newest != shown.extent.newest || picture.matrix.span.to != shown.matrix.span.to;
                if outage.over() || news {
                    show.picture(&picture, None)?;
                }
                pause = poll(&picture.extent);
                shown = picture;
            }
            Err(refusal) => {
                let (note, again) = outage.failed(&refusal, &asker.client.shown());
                pause = again;
                show.failure(&shown, &note, outage.failures == 1)?;
            }
        }
        asked = SystemClock.monotonic();
    }
    Ok(Done::Fine)
}

/// How long to wait for the next interval where no events tell of it.
fn poll(extent: &Extent) -> Duration {
    let interval = extent.interval_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    interval.unwrap_or(POLL.1).clamp(POLL.0, POLL.1)
}

/// A server that does not answer any more.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
    since: Option<Monotonic>,
}

impl Outage {
    /// What to say of a failure, and when to ask again.
    fn failed(&mut self, refusal: &Refusal, whom: &str) -> (String, Duration) {
        let now = SystemClock.monotonic();
        let since = *self.since.get_or_insert(now);
        let again = RETRY.0.saturating_mul(1 << self.failures.min(8)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        let age = elapsed(Duration::from_nanos(now.since(since)));
        (format!("NOT UPDATED for {age}: {whom}: {refusal}"), again)
    }

    /// Ends it; whether there was one.
    fn over(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }
}

/// Where matrices go.
struct Show<'a> {
    asker: &'a Asker<'a>,
    screen: Screen<Stdout>,
    quiet: bool,
}

impl Show<'_> {
    fn picture(&mut self, picture: &Picture, note: Option<String>) -> Result<(), Failure> {
        if self.asker.args.json {
            exit::print(&json::line(picture)?)?;
            return Ok(());
        }
        let in_place = self.screen.in_place();
        let options = Options { note, ..self.asker.options(in_place) };
        let mut frame = view::render(picture, &options);
        if !in_place {
            frame.push('\n'); // frames below each other
        }
        self.screen.draw(&frame)?;
        Ok(())
    }

    /// The last picture with what went wrong since: below it where it is redrawn, else in the log, once.
    fn failure(&mut self, last: &Picture, note: &str, first: bool) -> Result<(), Failure> {
        if self.screen.in_place() && !self.asker.args.json {
            return self.picture(last, Some(note.to_owned()));
        }
        if first && !self.quiet {
            tracing::warn!("{note}");
        }
        Ok(())
    }
}
