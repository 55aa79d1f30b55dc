//! InfluxDB and what speaks like it: `/write` of 1.x and `/api/v2/write` of 2.x and 3.x.
//!
//! [`Target`] is where to, [`line`](line::line) what, [`Policy`] when and how much; this file is
//! the thread that sends. A batch is sent until the server says it is stored or refuses it: a point
//! that arrives twice overwrites itself, since measurement, tags and time are the same.

mod delivery;
mod line;
mod point;
mod target;

pub use delivery::Policy;
pub use line::line;
pub use point::{Point, Value};
pub use target::{Target, TargetError};

use super::queue::{Fate, Queue};
use super::{SinkError, Warning, spool};
use crate::time::{Clock, SystemClock};
use delivery::{Delivery, Reply, Step, classify};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// An InfluxDB sink's settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to write.
    pub target: Target,
    /// Trusted certificates (PEM) instead of the public ones, for a private authority.
    pub ca_file: Option<PathBuf>,
    /// Retries and batches.
    pub policy: Policy,
    /// Where summaries wait on disk; `None`: in memory only.
    pub spool: Option<spool::Options>,
}

impl Options {
    /// The target with everything else as it is best for most.
    pub fn new(target: Target) -> Options {
        Options { target, ca_file: None, policy: Policy::default(), spool: None }
    }
}

/// Bytes of a server's answer that are read, and characters of it that are shown.
const ANSWER_BYTES: u64 = 64 << 10;
const ANSWER_CHARS: usize = 400;

/// Sends what is queued.
pub(super) struct Shipper {
    options: Options,
    agent: ureq::Agent,
    delivery: Delivery,
    random: Random,
}

impl Shipper {
    pub(super) fn new(options: Options) -> Result<Shipper, SinkError> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // a redirected POST becomes a GET, whose success stores nothing
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(options.policy.connect))
            .user_agent(concat!("llama/", env!("CARGO_PKG_VERSION")));
        if options.target.is_loopback() {
            config = config.proxy(None);
        }
        if let Some(path) = &options.ca_file {
            let wrong = |reason| SinkError::Certificates { path: path.clone(), reason };
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
        let delivery = Delivery::new(options.policy);
        Ok(Shipper { agent: config.build().new_agent(), delivery, random: Random::new(), options })
    }

    /// Sends until the queue is closed.
    pub(super) fn run(&mut self, queue: &Queue) {
        let mut lines = Vec::new();
        let mut warning = Warning::default();
        let mut failing = false;
        while let Some(first) = queue.wait() {
            if self.delivery.is_retry() {
                queue.counters().retried.fetch_add(1, Relaxed);
            }
            let max_lines = self.delivery.lines(first);
            let sent = queue.begin(max_lines, self.options.policy.batch_bytes, &mut lines);
            let limit = queue.time_left().map_or(self.options.policy.request, |left| {
                left.clamp(Duration::from_millis(1), self.options.policy.request)
            });
            let (reply, message) = self.send(&lines, limit);
            let step = self.delivery.after(&sent, &reply, self.random.uniform());
            if reply == Reply::Stored {
                if std::mem::take(&mut failing) {
                    tracing::info!(sink = queue.counters().name(), "delivering again");
                    warning = Warning::default();
                }
            } else {
                let what = match step {
                    Step::Refused(_) if sent.end - sent.start == 1 => {
                        format!("{message}; refused line: {}", shorten(&String::from_utf8_lossy(&lines)))
                    }
                    _ => message,
                };
                // while a refused batch is being cut the server is well; only its end is worth a line
                if !matches!((&reply, step), (Reply::Refused { .. } | Reply::TooLarge, Step::Again(_))) {
                    warning.say(queue.counters(), &what);
                    failing |= matches!(step, Step::Again(_));
                }
                queue.counters().failed(what);
            }
            let (fate, pause) = match step {
                Step::Delivered => (Fate::Delivered, Duration::ZERO),
                Step::Refused(pause) => (Fate::Refused, pause),
                Step::Again(pause) => (Fate::Returned, pause),
            };
            queue.end(fate);
            if !pause.is_zero() {
                queue.pause(pause);
            }
        }
    }

    /// One request. The text says what went wrong, without secrets; empty when nothing did.
    fn send(&self, lines: &[u8], limit: Duration) -> (Reply, String) {
        let target = &self.options.target;
        let body = match compress(lines) {
            Ok(body) => body,
            // writing to memory does not fail
            Err(error) => return (Reply::Later { retry_after: None }, error.to_string()),
        };
        let mut request = self
            .agent
            .post(target.write_url())
            .config()
            .timeout_global(Some(limit))
            .build()
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Content-Encoding", "gzip");
        if let Some(authorization) = target.authorization() {
            request = request.header("Authorization", authorization);
        }
        let mut response = match request.send(&body[..]) {
            Ok(response) => response,
            Err(error) => {
                let text = target.without_secrets(&format!("server away: {error}"));
                return (Reply::Later { retry_after: None }, text);
            }
        };
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        let (retry_after, location) = (header("retry-after"), header("location"));
        // an answer cut off in its text still has its status
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        let reply = classify(status, retry_after.as_deref(), &answer, SystemClock.wall());
        if reply == Reply::Stored {
            return (reply, String::new());
        }
        let remedy = match status {
            401 | 403 => "; check user and password, or the token and its right to write".to_string(),
            404 => format!("; {}", target.remedy_when_missing()),
            300..=399 => format!("; give the address it points to: {}", location.unwrap_or_default()),
            200..=299 => "; this is no database's answer, check host and port".to_string(),
            _ => String::new(),
        };
        let said = message_of(&answer);
        let text = format!("server answered {status}: {}{remedy}", shorten(&said));
        (reply, target.without_secrets(&text))
    }
}

fn compress(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    encoder.finish()
}

/// The error text in a server's JSON answer (`error` in 1.x and 3.x, `message` in 2.x), or all of it.
fn message_of(answer: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(answer).ok();
    let field = |name| parsed.as_ref().and_then(|value| value.get(name)?.as_str());
    field("error").or_else(|| field("message")).unwrap_or(answer).trim().to_string()
}

/// `text` on one line and not too long.
fn shorten(text: &str) -> String {
    let mut short: String =
        text.trim().chars().take(ANSWER_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(ANSWER_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// Random numbers for jitter: splitmix64, seeded by the standard library's per-process randomness.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(RandomState::new().hash_one(0))
    }

    /// Uniform in 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
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
    fn jitter_covers_its_range() {
        let mut random = Random::new();
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            tenths[(random.uniform() * 10.0) as usize] += 1;
        }
        // 1000 each, standard deviation 30: 10 of them away is no chance
        assert!(tenths.iter().all(|n| (700..1300).contains(n)), "{tenths:?}");
    }

    #[test]
    fn a_certificate_file_without_certificates_is_named() {
        let options = |path: &str| Options {
            ca_file: Some(path.into()),
            ..Options::new(Target::parse("https://db?db=x", None).expect("target"))
        };
        for path in ["/no/such/file", "/dev/null"] {
            let error = Shipper::new(options(path)).err().expect("error").to_string();
            assert!(error.starts_with(&format!("influx: cannot use the certificates in {path}: ")), "{error}");
        }
    }
}
