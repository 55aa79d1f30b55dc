//! One request to a collector, within limits: of time, of bytes, and to that collector only.
//!
//! Not responsible for what an answer means. Read [`Fetcher::get`]; [`Failure`] lists what can go wrong.

use super::list::Address;
use std::fmt;
use std::io::Read;
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
pub struct Fetcher {
    agent: ureq::Agent,
    /// Longest time for one request.
    limit: Duration,
}

impl Fetcher {
    /// For collectors that are pulled once per `interval`: a request has half of it, a connection a quarter.
    pub fn new(interval: Duration) -> Fetcher {
        let limit = (interval / 2).min(LONGEST_REQUEST);
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // collectors are hosts of one's own; a proxy is for the world outside
            .proxy(None)
            .timeout_global(Some(limit))
            .timeout_connect(Some((interval / 4).min(LONGEST_CONNECT)))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(1)
            .max_response_header_size(64 << 10)
            .user_agent(concat!("llama-scraper/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Fetcher { agent, limit }
    }

    /// Reads the answer to `GET http://ADDRESS PATH` into `body`, which is emptied before.
    ///
    /// # Errors
    /// Anything but a whole answer with status 200.
    pub fn get(&self, address: &Address, path: &str, body: &mut Vec<u8>) -> Result<(), Failure> {
        body.clear();
        let mut response =
            self.agent.get(format!("http://{address}{path}")).call().map_err(|error| self.failure(error))?;
        let status = response.status().as_u16();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if (300..400).contains(&status) {
            return Err(Failure::Redirect(shortened(text("location").unwrap_or("nowhere"))));
        }
        // refused before a byte of it is read
        let length = text("content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_BODY) {
            return Err(Failure::TooLarge);
        }
        let limit = if status == 200 { MAX_BODY } else { 4 * SHOWN as u64 };
        let read = response.body_mut().with_config().limit(limit).reader().read_to_end(body);
        if status != 200 {
            // words that are cut off or missing change nothing
            return Err(Failure::Status(status, shortened(&String::from_utf8_lossy(body))));
        }
        read.map(drop).map_err(|error| self.failure(ureq::Error::from(error)))
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => Failure::Away("no connection in time".into()),
            ureq::Error::Timeout(_) => Failure::Timeout(self.limit),
            ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
            // what it says of itself is long, and the collector is named beside it
            ureq::Error::Io(error) => Failure::Away(shortened(&error.to_string())),
            ureq::Error::Protocol(error) => Failure::Garbage(shortened(&error.to_string())),
            error => Failure::Away(shortened(&error.to_string())),
        }
    }
}

/// `text` on one line, without what could steer a terminal, and not too long.
pub fn shortened(text: &str) -> String {
    let plain: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN + 1).collect();
    if plain.chars().count() > SHOWN { plain.chars().take(SHOWN).chain(['…']).collect() } else { plain }
}
