//! Requests to the APIs of collectors and the like, within limits of time and bytes, and to that address only.
//!
//! Not responsible for what an answer means, nor for making the words of others fit for a terminal. Read
//! [`Client::get`]; [`Trouble`] lists what can go wrong.

use std::io::Read;
use std::time::Duration;

/// What a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for all of it.
    pub request: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Connections kept open for the next requests, to all hosts together; one per host.
    pub idle: usize,
    /// Bytes of an answer, unpacked.
    pub body: u64,
    /// Bytes read of an answer with another status than 200.
    pub refusal: u64,
}

/// Why there is no answer. Texts are as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, or it broke.
    Away(String),
    /// No whole answer in time.
    Timeout(Duration),
    /// Another status than 200; what it said is read as far as [`Limits::refusal`].
    Status(u16),
    /// It points somewhere else.
    Redirect(String),
    /// More than [`Limits::body`].
    TooLarge,
    /// No HTTP.
    Garbage(String),
}

/// Asks servers; may be shared by threads.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    limits: Limits,
}

impl Client {
    /// A client that calls itself `name`.
    pub fn new(limits: Limits, name: &str) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // collectors are hosts of one's own; a proxy is for the world outside
            .proxy(None)
            .timeout_global(Some(limits.request))
            .timeout_connect(Some(limits.connect.min(limits.request)))
            .max_idle_connections(limits.idle)
            .max_idle_connections_per_host(1)
            .max_response_header_size(64 << 10)
            .user_agent(name)
            .build()
            .new_agent();
        Client { agent, limits }
    }

    /// What makes requests of other kinds.
    pub fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    /// Reads the answer to `GET URL` into `body`, which is emptied before.
    ///
    /// # Errors
    /// Anything but a whole answer with status 200.
    pub fn get(&self, url: &str, body: &mut Vec<u8>) -> Result<(), Trouble> {
        body.clear();
        let mut response = self.agent.get(url).call().map_err(|error| self.trouble(error))?;
        let status = response.status().as_u16();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if (300..400).contains(&status) {
            return Err(Trouble::Redirect(text("location").unwrap_or("nowhere").to_owned()));
        }
        // refused before a byte of it is read
        let length = text("content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.limits.body) {
            return Err(Trouble::TooLarge);
        }
        let limit = if status == 200 { self.limits.body } else { self.limits.refusal };
        let read = response.body_mut().with_config().limit(limit).reader().read_to_end(body);
        if status != 200 {
            return Err(Trouble::Status(status)); // words that are cut off or missing change nothing
        }
        read.map(drop).map_err(|error| self.trouble(ureq::Error::from(error)))
    }

    /// What an error of a request means.
    pub fn trouble(&self, error: ureq::Error) -> Trouble {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => Trouble::Away("no connection in time".into()),
            ureq::Error::Timeout(_) => Trouble::Timeout(self.limits.request),
            ureq::Error::BodyExceedsLimit(_) => Trouble::TooLarge,
            // what it says of itself is long, and the server is named beside it
            ureq::Error::Io(error) => Trouble::Away(error.to_string()),
            ureq::Error::Protocol(error) => Trouble::Garbage(error.to_string()),
            error => Trouble::Away(error.to_string()),
        }
    }
}
