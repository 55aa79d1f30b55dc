//! The thread that waits for the server: one request at a time, its answer given back.
//!
//! Nobody else waits for a server, so that what is in memory can be brought to safety while a request hangs. Not
//! responsible for what is sent, nor for what an answer leads to. Read [`Courier`].

use super::Options;
use super::delivery::{Reply, classify, error_text};
use super::target::Target;
use crate::sink::SinkError;
use crate::sink::queue::Queue;
use crate::time::{Clock, SystemClock};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Bytes of a server's answer that are read, and characters of it that are shown.
const ANSWER_BYTES: u64 = 64 << 10;
const ANSWER_CHARS: usize = 400;

/// A request to be made.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Lines, gzip.
    pub body: Arc<[u8]>,
    /// Longest time for it, from resolving the name to the end of the answer.
    pub limit: Duration,
}

/// What a request came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub reply: Reply,
    /// What went wrong, without secrets; empty when nothing did.
    pub message: String,
}

/// The way to the thread and back. Dropping it ends the thread, after the request it is in.
#[derive(Debug)]
pub(super) struct Courier {
    parcels: Sender<Parcel>,
    answers: Receiver<Answer>,
}

impl Courier {
    /// Starts the thread; it nudges `queue` after every answer.
    pub fn start(options: &Options, queue: Arc<Queue>) -> Result<Courier, SinkError> {
        let agent = agent(&options.target, options.ca_file.as_deref(), options.policy.connect)?;
        let connection = Connection { agent, target: options.target.clone() };
        let (parcels, to_send) = bounded::<Parcel>(1);
        let (answered, answers) = bounded(1);
        std::thread::Builder::new()
            .name("sink-request".into())
            .spawn(move || {
                for parcel in to_send {
                    if answered.send(connection.post(&parcel)).is_err() {
                        return;
                    }
                    queue.nudge();
                }
            })
            .map_err(|source| SinkError::Thread { name: options.target.to_string(), source })?;
        Ok(Courier { parcels, answers })
    }

    /// A courier whose requests the test makes.
    #[cfg(test)]
    pub fn by_hand() -> (Courier, Receiver<Parcel>, Sender<Answer>) {
        let (parcels, to_send) = bounded(1);
        let (answered, answers) = bounded(1);
        (Courier { parcels, answers }, to_send, answered)
    }

    /// Hands a request over; there is none under way. False: the thread is gone.
    pub fn send(&self, parcel: Parcel) -> bool {
        self.parcels.try_send(parcel).is_ok()
    }

    /// The answer to the request under way, when it is there.
    pub fn answer(&self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Some(Answer::no_thread()),
        }
    }
}

impl Answer {
    /// What a request comes to that nobody makes.
    pub fn no_thread() -> Answer {
        let message = "the thread that sends has ended; restart the program".into();
        Answer { reply: Reply::Later { retry_after: None }, message }
    }
}

struct Connection {
    agent: ureq::Agent,
    target: Target,
}

/// What makes requests to a target: it follows no redirect, takes every status as an answer, and trusts `ca_file`
/// alone where there is one.
///
/// # Errors
/// The certificates cannot be used.
pub(crate) fn agent(target: &Target, ca_file: Option<&Path>, connect: Duration) -> Result<ureq::Agent, SinkError> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // a redirected POST becomes a GET, whose success stores nothing
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(connect))
        .user_agent(concat!("llama/", env!("CARGO_PKG_VERSION")));
    if target.is_loopback() {
        config = config.proxy(None);
    }
    if let Some(path) = ca_file {
        let wrong = |reason| SinkError::Certificates { path: path.into(), reason };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificates = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(error) => Some(Err(wrong(error.to_string()))),
            })
            .collect::<Result<Vec<Certificate<'static>>, SinkError>>()?;
        if certificates.is_empty() {
            return Err(wrong("it holds no certificate".into()));
        }
        let roots = RootCerts::new_with_certs(&certificates);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().new_agent())
}

impl Connection {
    fn post(&self, parcel: &Parcel) -> Answer {
        let target = &self.target;
        let mut request = self
            .agent
            .post(target.write_url())
            .config()
            .timeout_global(Some(parcel.limit))
            .build()
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Content-Encoding", "gzip");
        if let Some(authorization) = target.authorization() {
            request = request.header("Authorization", authorization);
        }
        let mut response = match request.send(&parcel.body[..]) {
            Ok(response) => response,
            Err(error) => {
                let text = target.without_secrets(&format!("server away: {error}"));
                return Answer { reply: Reply::Later { retry_after: None }, message: text };
            }
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        let (retry_after, location) = (header("retry-after"), header("location"));
        // InfluxDB and VictoriaMetrics
        let named =
            ["x-influxdb-version", "x-influxdb-error"].iter().any(|name| response.headers().contains_key(*name));
        // an answer cut off in its text still has its status
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        let reply = classify(status, retry_after.as_deref(), named, &answer, SystemClock.wall());
        if reply == Reply::Stored {
            return Answer { reply, message: String::new() };
        }
        let remedy = match status {
            401 | 403 => "; check user and password, or the token and its right to write".to_string(),
            404 => format!("; {}", target.remedy_when_missing()),
            300..=399 => format!("; give the address it points to: {}", location.unwrap_or_default()),
            200..=299 => "; this is no database's answer, check host and port".to_string(),
            400 | 422 if reply == Reply::Denied => {
                "; this is no database's answer, check http or https, host and port".to_string()
            }
            _ => String::new(),
        };
        let said = message_of(&answer);
        let text = format!("server answered {status}: {}{remedy}", shorten(&said));
        Answer { reply, message: target.without_secrets(&text) }
    }
}

/// The error text in a database's answer, or all of it.
fn message_of(answer: &str) -> String {
    error_text(answer).as_deref().unwrap_or(answer).trim().to_string()
}

/// `text` on one line and not too long.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String =
        text.trim().chars().take(ANSWER_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(ANSWER_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_messages_are_found_and_shortened() {
        assert_eq!(message_of(r#"{"error":"database not found"}"#), "database not found");
        assert_eq!(message_of(r#"{"code":"invalid","message":"unable to parse"}"#), "unable to parse");
        assert_eq!(message_of(" plain \n"), "plain");
        assert_eq!(shorten("two\nlines\n"), "two lines");
        assert_eq!(shorten(&"ä".repeat(500)).chars().count(), ANSWER_CHARS + 1);
    }

    #[test]
    fn a_certificate_file_without_certificates_is_named() {
        let target = Target::parse("https://db?db=x", None).expect("target");
        for path in ["/no/such/file", "/dev/null"] {
            let error = agent(&target, Some(Path::new(path)), Duration::from_secs(1)).expect_err("error").to_string();
            assert!(error.starts_with(&format!("influx: cannot use the certificates in {path}: ")), "{error}");
        }
    }
}
