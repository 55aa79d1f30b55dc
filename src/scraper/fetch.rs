//! One request to a collector, within limits: of time, of bytes, and to that collector only.
//!
//! Not responsible for what an answer means. Read [`Fetcher::get`]; [`Failure`] lists what can go wrong.

use super::list::Address;
use crate::http::client::{Client, Limits, Trouble};
use std::fmt;
use std::time::Duration;

/// Bytes of an answer at most, unpacked: 500 summaries have about one million.
pub const MAX_BODY: u64 = 16 << 20;
/// Longest time for a request, whatever the interval.
const LONGEST_REQUEST: Duration = Duration::from_secs(15);
/// Longest time to connect, whatever the interval.
const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// Connections that are kept open between pulls, of all threads together.
const IDLE_CONNECTIONS: usize = 64;
/// Characters of a collector's own words that are shown.
const SHOWN: usize = 200;

/// Why a pull brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or it broke.
    Away(String),
    /// No whole answer in time.
    Timeout(Duration),
    /// Another status than 200.
    Status(u16, String),
    /// It points somewhere else.
    Redirect(String),
    /// More than [`MAX_BODY`].
    TooLarge,
    /// The answer is not understood.
    Garbage(String),
}

impl Failure {
    /// Every kind, as metrics name them.
    pub const KINDS: [&str; 6] = ["away", "timeout", "status", "redirect", "too_large", "garbage"];

    /// Position in [`Failure::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Failure::Away(_) => 0,
            Failure::Timeout(_) => 1,
            Failure::Status(..) => 2,
            Failure::Redirect(_) => 3,
            Failure::TooLarge => 4,
            Failure::Garbage(_) => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Away(reason) => write!(f, "no answer: {reason}"),
            Failure::Timeout(limit) => write!(f, "no whole answer within {:.1} s", limit.as_secs_f64()),
            Failure::Status(404, _) => {
                write!(f, "neither /api/v1/summaries nor /influxdata is there; is this a collector's API?")
            }
            Failure::Status(status, said) => write!(f, "answered {status}: {said}"),
            Failure::Redirect(to) => write!(f, "points to {to}, which is not followed; list that address instead"),
            Failure::TooLarge => write!(f, "answers more than {} MiB, which is not read", MAX_BODY >> 20),
            Failure::Garbage(reason) => write!(f, "answers what no collector does: {reason}"),
        }
    }
}

/// Asks collectors; shared by all threads.
#[derive(Debug)]
pub struct Fetcher(Client);

impl Fetcher {
    /// For collectors that are pulled once per `interval`: a request has half of it, a connection a quarter.
    pub fn new(interval: Duration) -> Fetcher {
        let limits = Limits {
            request: (interval / 2).min(LONGEST_REQUEST),
            connect: (interval / 4).min(LONGEST_CONNECT),
            idle: IDLE_CONNECTIONS,
            body: MAX_BODY,
            refusal: 4 * SHOWN as u64,
        };
        Fetcher(Client::new(limits, concat!("llama-scraper/", env!("CARGO_PKG_VERSION"))))
    }

    /// Reads the answer to `GET http://ADDRESS PATH` into `body`, which is emptied before.
    ///
    /// # Errors
    /// Anything but a whole answer with status 200.
    pub fn get(&self, address: &Address, path: &str, body: &mut Vec<u8>) -> Result<(), Failure> {
        self.0.get(&format!("http://{address}{path}"), body).map_err(|trouble| match trouble {
            Trouble::Away(reason) => Failure::Away(shortened(&reason)),
            Trouble::Timeout(limit) => Failure::Timeout(limit),
            Trouble::Status(status) => Failure::Status(status, shortened(&String::from_utf8_lossy(body))),
            Trouble::Redirect(to) => Failure::Redirect(shortened(&to)),
            Trouble::TooLarge => Failure::TooLarge,
            Trouble::Garbage(reason) => Failure::Garbage(shortened(&reason)),
        })
    }
}

/// `text` on one line, without what could steer a terminal, and not too long.
pub fn shortened(text: &str) -> String {
    let plain: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN + 1).collect();
    if plain.chars().count() > SHOWN { plain.chars().take(SHOWN).chain(['…']).collect() } else { plain }
}
