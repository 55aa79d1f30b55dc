//! One collector as the scraper knows it: what people and machines are told of it.
//!
//! Not responsible for pulling: see [`super::pull`]. Read [`Status`] and [`State`].

use super::fetch::Failure;
use super::list::Address;
use super::pull::Follow;
use crate::sink::rfc3339;
use crate::time::Wall;
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Intervals of a collector after which its newest summary is late; the pause between pulls comes on top.
const LATE_INTERVALS: u64 = 3;
/// Grace on top of that: a summary closes after the collector's loss threshold.
const GRACE_NS: u64 = 5_000_000_000;

/// How a collector does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The latest pull failed.
    Down,
    /// It answers, but its newest summary is old, or there is more than one pull could take.
    Lagging,
    /// It has not been pulled yet.
    Unknown,
    /// All is well.
    Up,
}

impl State {
    /// All of them, and what they are called everywhere.
    pub const ALL: [(State, &'static str); 4] =
        [(State::Down, "down"), (State::Lagging, "lagging"), (State::Unknown, "unknown"), (State::Up, "up")];

    /// Its name.
    pub fn name(self) -> &'static str {
        State::ALL.into_iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }
}

/// Which program answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Not known yet.
    #[default]
    Unknown,
    /// Ours: it answers by sequence.
    New,
    /// The first LLAMA: it answers its latest interval.
    Upstream,
}

impl Generation {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Generation::Unknown => "unknown",
            Generation::New => "new",
            Generation::Upstream => "upstream",
        }
    }
}

/// What is known of one collector.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Which program answers.
    pub generation: Generation,
    /// Pulls that worked.
    pub pulls: u64,
    /// Pulls that failed.
    pub failures: u64,
    /// Whether the latest failed.
    pub failing: bool,
    /// Since when it is as it is: answering, or not.
    pub since: Wall,
    /// When it was last pulled.
    pub last_pull: Option<Wall>,
    /// The latest failure, kept after recovery.
    pub last_error: Option<String>,
    /// Summaries (of upstream's: points) taken from it.
    pub summaries: u64,
    /// Summaries that it had dropped before they were pulled.
    pub missed: u64,
    /// Restarts of it that were noticed.
    pub restarts: u64,
    /// Summaries of it that were not understood.
    pub unreadable: u64,
    /// Points of it that name no path, and so are not in the history.
    pub without_path: u64,
    /// Bytes of its answers, unpacked.
    pub bytes: u64,
    /// How long the latest pull took.
    pub duration: Duration,
    /// End of its newest interval: what its newest summary says, or when upstream's answer last changed.
    pub newest: Option<Wall>,
    /// Its reporting interval, as far as it is known.
    pub interval: Option<Duration>,
    /// It holds more than the latest pull could take.
    pub behind: bool,
}

impl Status {
    /// Age of its newest summary.
    pub fn lag(&self, now: Wall) -> Option<Duration> {
        Some(Duration::from_nanos(now.0.saturating_sub(self.newest?.0)))
    }

    /// How it does at `now`; `pause` is the time between pulls.
    pub fn state(&self, now: Wall, pause: Duration) -> State {
        if self.failing {
            return State::Down;
        }
        if self.pulls == 0 {
            return State::Unknown;
        }
        let interval = self.interval.unwrap_or(pause).as_nanos() as u64;
        let allowed = interval.saturating_mul(LATE_INTERVALS) + pause.as_nanos() as u64 + GRACE_NS;
        let late = self.lag(now).is_some_and(|lag| lag.as_nanos() as u64 > allowed);
        if late || self.behind { State::Lagging } else { State::Up }
    }

    /// Takes in how a pull went; says in the log when the collector went or came back.
    pub fn pulled(&mut self, address: &Address, at: Wall, took: Duration, failure: Option<&Failure>) {
        self.last_pull = Some(at);
        self.duration = took;
        let failing = failure.is_some();
        if failing != self.failing || self.pulls + self.failures == 0 {
            self.since = at;
        }
        match failure {
            Some(failure) => {
                self.failures += 1;
                let text = failure.to_string();
                if !self.failing {
                    tracing::warn!(collector = %address, "down: {text}");
                }
                self.last_error = Some(text);
            }
            None => {
                self.pulls += 1;
                if self.failing {
                    tracing::info!(collector = %address, "up again");
                }
            }
        }
        self.failing = failing;
    }
}

/// One collector.
#[derive(Debug)]
pub struct Collector {
    /// Where it answers.
    pub address: Address,
    /// Set while a thread has it or it waits for one.
    pub(super) busy: AtomicBool,
    /// Set when it is no longer listed.
    pub(super) gone: AtomicBool,
    status: Mutex<Status>,
    follow: Mutex<Follow>,
}

impl Collector {
    /// A collector that has not been pulled yet.
    pub(super) fn new(address: Address, follow: Follow, now: Wall) -> Collector {
        let status = Mutex::new(Status { since: now, ..Status::default() });
        Collector {
            address,
            busy: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            status,
            follow: Mutex::new(follow),
        }
    }

    /// What is known of it.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has been pulled; for the one thread that pulls it.
    pub(super) fn follow(&self) -> MutexGuard<'_, Follow> {
        self.follow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collector's status as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StatusRecord {
    /// Where it answers.
    pub collector: String,
    /// How it does.
    pub state: &'static str,
    /// Which program answers.
    pub generation: &'static str,
    /// Since when it answers, or does not, RFC 3339.
    pub since: String,
    /// When it was last pulled.
    pub last_pull: Option<String>,
    /// The latest failure, kept after recovery.
    pub last_error: Option<String>,
    /// Age of its newest summary, seconds.
    pub lag_s: Option<f64>,
    /// Its reporting interval, seconds.
    pub interval_s: Option<f64>,
    /// Whether it holds more than the latest pull could take.
    pub behind: bool,
    /// Pulls that worked.
    pub pulls: u64,
    /// Pulls that failed.
    pub failures: u64,
    /// Summaries taken from it.
    pub summaries: u64,
    /// Summaries that it had dropped before they were pulled.
    pub missed: u64,
    /// Restarts of it that were noticed.
    pub restarts: u64,
    /// Summaries of it that were not understood.
    pub unreadable: u64,
    /// Points of it that name no path, and so are not in the history.
    pub without_path: u64,
    /// Bytes of its answers.
    pub bytes: u64,
    /// How long the latest pull took, seconds.
    pub pull_s: f64,
}

impl StatusRecord {
    /// The record of `collector` at `now`.
    pub fn of(collector: &Collector, now: Wall, pause: Duration) -> StatusRecord {
        let s = collector.status();
        StatusRecord {
            collector: collector.address.to_string(),
            state: s.state(now, pause).name(),
            generation: s.generation.name(),
            since: rfc3339(s.since),
            last_pull: s.last_pull.map(rfc3339),
            lag_s: s.lag(now).map(|lag| lag.as_millis() as f64 / 1e3),
            interval_s: s.interval.map(|interval| interval.as_secs_f64()),
            last_error: s.last_error,
            behind: s.behind,
            pulls: s.pulls,
            failures: s.failures,
            summaries: s.summaries,
            missed: s.missed,
            restarts: s.restarts,
            unreadable: s.unreadable,
            without_path: s.without_path,
            bytes: s.bytes,
            pull_s: s.duration.as_micros() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        const S: u64 = 1_000_000_000;
        let pause = Duration::from_secs(10);
        let mut status = Status::default();
        assert_eq!(status.state(Wall(0), pause), State::Unknown);
        let address: Address = "a".parse().unwrap();
        status.pulled(&address, Wall(S), pause, Some(&Failure::TooLarge));
        assert_eq!((status.state(Wall(S), pause), status.since), (State::Down, Wall(S)));
        status.pulled(&address, Wall(2 * S), pause, Some(&Failure::TooLarge));
        assert_eq!(status.since, Wall(S));
        status.pulled(&address, Wall(3 * S), pause, None);
        assert_eq!((status.state(Wall(3 * S), pause), status.since), (State::Up, Wall(3 * S)));
        assert!(status.last_error.is_some());
        status.newest = Some(Wall(100 * S));
        status.interval = Some(Duration::from_secs(30));
        assert_eq!(status.state(Wall(205 * S), pause), State::Up);
        assert_eq!(status.state(Wall(205 * S + 1), pause), State::Lagging);
        // a clock that is behind the collector's
        assert_eq!(status.state(Wall(50 * S), pause), State::Up);
        status.behind = true;
        assert_eq!(status.state(Wall(110 * S), pause), State::Lagging);
    }
}
