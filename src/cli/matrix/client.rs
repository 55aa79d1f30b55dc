//! Questions to an API over HTTP, within limits of time and bytes.
//!
//! Not responsible for what an answer means. Read [`Client::ask`]; [`Refusal`] lists what can go wrong.

use super::answer::{self, Checked};
use super::text;
use crate::http::client as http;
use crate::http::client::Trouble;
use serde::Deserialize;
use std::fmt;
use std::io::Read;
use std::time::Duration;

/// Bytes of an answer at most, unpacked: some 150 000 cells.
pub const MAX_BODY: u64 = 32 << 20;
/// Bytes of a refusal that are read.
const REFUSAL: u64 = 4 << 10;
/// Longest time for one request. The server gives up after ten seconds and says so.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No connection, or it broke.
    Away(String),
    /// No whole answer in time.
    Timeout(Duration),
    /// Another status than 200: what it said, and its remedy.
    Status(u16, String),
    /// It points somewhere else.
    Redirect(String),
    /// More than [`MAX_BODY`].
    TooLarge,
    /// The answer is not understood.
    Garbage(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Away(reason) => {
                write!(f, "no answer: {reason}; is a collector, scraper or demo with --api listening there?")
            }
            Refusal::Timeout(limit) => write!(
                f,
                "no whole answer within {:.1} s; try again, or ask for less with --where or a shorter --span",
                limit.as_secs_f64()
            ),
            Refusal::Status(404, said) if said.is_empty() => f.write_str(
                "no matrix there (404); name the --api address of a collector, scraper or demo with a history",
            ),
            Refusal::Status(status, said) if said.is_empty() => write!(f, "answers {status}; see the server's log"),
            Refusal::Status(status, said) => write!(f, "answers {status}: {said}"),
            Refusal::Redirect(to) => write!(f, "points to {to}, which is not followed; give that address to --url"),
            Refusal::TooLarge => write!(
                f,
                "answers more than {} MiB, which is not read; group by keys with fewer values, or choose with --where",
                MAX_BODY >> 20
            ),
            Refusal::Garbage(reason) => {
                write!(f, "answers what is no matrix: {reason}; is --url the API of a llama of this version?")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Asks one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: http::Client,
    base: String,
    limit: Duration,
}

/// How the API refuses.
#[derive(Default, Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    remedy: String,
}

impl Client {
    /// For the API at `base`, `http://HOST:PORT`; a request may take as long as `limit`.
    pub fn new(base: &str, limit: Duration) -> Client {
        let limits = http::Limits { request: limit, connect: CONNECT, idle: 1, body: MAX_BODY, refusal: REFUSAL };
        let http = http::Client::new(limits, concat!("llama-matrix/", env!("CARGO_PKG_VERSION")));
        Client { http, base: base.trim_end_matches('/').to_owned(), limit }
    }

    /// Where it asks, without a user's name and password.
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.base.split_once("://").unwrap_or(("http", &self.base));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        text::clean(&format!("{scheme}://{host}"))
    }

    /// The answer to `GET BASE PATH`.
    ///
    /// # Errors
    /// Anything but a whole answer with status 200 that is what is asked for.
    pub fn ask<T: Checked + for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, Refusal> {
        let mut body = Vec::new();
        self.http.get(&format!("{}{path}", self.base), &mut body).map_err(|trouble| refusal(trouble, &body))?;
        answer::read(&body).map_err(|reason| Refusal::Garbage(text::clean(&reason)))
    }

    /// The body of the answer to `GET BASE PATH`, for as long as it goes on, `limit` at most.
    ///
    /// # Errors
    /// Anything but status 200 and a stream of events.
    pub fn stream(&self, path: &str, limit: Duration) -> Result<impl Read + use<>, Refusal> {
        let response = self
            .http
            .agent()
            .get(format!("{}{path}", self.base))
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(self.limit))
            .timeout_recv_body(Some(limit))
            .build()
            .call()
            .map_err(|error| refusal(self.http.trouble(error), &[]))?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if status != 200 || !kind.starts_with("text/event-stream") {
            return Err(Refusal::Status(status, text::clean(kind)));
        }
        Ok(response.into_body().into_reader())
    }
}

/// What is told of trouble; `body` is what the server said.
fn refusal(trouble: Trouble, body: &[u8]) -> Refusal {
    match trouble {
        Trouble::Away(reason) => Refusal::Away(text::clean(&reason)),
        Trouble::Timeout(limit) => Refusal::Timeout(limit),
        Trouble::Status(status) => Refusal::Status(status, said(body)),
        Trouble::Redirect(to) => Refusal::Redirect(text::clean(&to)),
        Trouble::TooLarge => Refusal::TooLarge,
        Trouble::Garbage(reason) => Refusal::Garbage(text::clean(&reason)),
    }
}

/// What a refusal says: its error and its remedy. Empty for what is not the API's way to refuse.
fn said(body: &[u8]) -> String {
    let Ok(Refused { error, remedy }) = serde_json::from_slice::<Refused>(body) else { return String::new() };
    let parts = [error, remedy].map(|part| text::clean(part.trim()));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(Client::new("http://me:sesame@h:1/", PATIENCE).shown(), "http://h:1");
        assert_eq!(Client::new("https://h/llama/", PATIENCE).shown(), "https://h/llama");
    }

    #[test]
    fn refusals_say_error_and_remedy() {
        assert_eq!(
            said(br#"{"error":"no history","remedy":"start with --history DIR"}"#),
            "no history; start with --history DIR"
        );
        assert_eq!(said(b"{\"error\":\"a\\u001b[2J\"}"), "a�[2J");
        assert_eq!(said(b"<html>"), "");
    }
}
