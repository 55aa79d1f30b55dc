//! Questions to an API over HTTP, within limits of time and bytes.
//!
//! Not responsible for what an answer means. Read [`Client::ask`]; [`Refusal`] lists what can go wrong.

use super::answer::{self, Checked};
use super::text;
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
    agent: ureq::Agent,
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
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // collectors are hosts of one's own; a proxy is for the world outside
            .proxy(None)
            .timeout_global(Some(limit))
            .timeout_connect(Some(CONNECT.min(limit)))
            .max_response_header_size(64 << 10)
            .user_agent(concat!("llama-matrix/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Client { agent, base: base.trim_end_matches('/').to_owned(), limit }
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
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().map_err(|e| self.refusal(e))?;
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if (300..400).contains(&status) {
            return Err(Refusal::Redirect(text::clean(header("location").unwrap_or("nowhere"))));
        }
        if header("content-length").and_then(|length| length.parse::<u64>().ok()).is_some_and(|n| n > MAX_BODY) {
            return Err(Refusal::TooLarge); // before a byte of it is read
        }
        let limit = if status == 200 { MAX_BODY } else { REFUSAL };
        let mut body = Vec::new();
        let read = response.body_mut().with_config().limit(limit).reader().read_to_end(&mut body);
        if status != 200 {
            // words that are cut off or missing change nothing
            return Err(Refusal::Status(status, said(&body)));
        }
        read.map_err(|error| self.refusal(ureq::Error::from(error)))?;
        answer::read(&body).map_err(|reason| Refusal::Garbage(text::clean(&reason)))
    }

    /// The body of the answer to `GET BASE PATH`, for as long as it goes on, `limit` at most.
    ///
    /// # Errors
    /// Anything but status 200 and a stream of events.
    pub fn stream(&self, path: &str, limit: Duration) -> Result<impl Read + use<>, Refusal> {
        let response = self
            .agent
            .get(format!("{}{path}", self.base))
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(self.limit))
            .timeout_recv_body(Some(limit))
            .build()
            .call()
            .map_err(|error| self.refusal(error))?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if status != 200 || !kind.starts_with("text/event-stream") {
            return Err(Refusal::Status(status, text::clean(kind)));
        }
        Ok(response.into_body().into_reader())
    }

    fn refusal(&self, error: ureq::Error) -> Refusal {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => Refusal::Away("no connection in time".into()),
            ureq::Error::Timeout(_) => Refusal::Timeout(self.limit),
            ureq::Error::BodyExceedsLimit(_) => Refusal::TooLarge,
            ureq::Error::Io(error) => Refusal::Away(text::clean(&error.to_string())),
            ureq::Error::Protocol(error) => Refusal::Garbage(text::clean(&error.to_string())),
            error => Refusal::Away(text::clean(&error.to_string())),
        }
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
