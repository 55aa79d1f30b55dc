//! Asking a server: one request, its answer read chunk by chunk, every way it can go wrong named.
//!
//! Not responsible for what is asked. Read [`Client::ask`].

use super::answer::{Chunk, Series};
use super::{Options, REQUESTS};
use crate::matrix::source::SourceError;
use crate::sink::influx::Target;
use crate::sink::influx::courier::{agent, shorten};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

/// Bytes of one chunk at most.
const CHUNK_BYTES: u64 = 64 << 20;
/// Bytes of an error's text that are read.
const ERROR_BYTES: u64 = 64 << 10;

/// A server to ask.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    target: Target,
    url: String,
    request: Duration,
    answer_bytes: u64,
    /// Holds one entry per request under way.
    under_way: (Sender<()>, Receiver<()>),
}

/// A request under way, while it lives.
struct Permit<'a>(&'a Receiver<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_recv(); // the entry that was put there for this one
    }
}

impl Client {
    /// A client of the options' target.
    ///
    /// # Errors
    /// It cannot be asked, or the certificates cannot be used.
    pub fn new(options: &Options) -> Result<Client, SourceError> {
        let target = options.target.clone();
        let Some(url) = target.query_url().map(str::to_string) else {
            return Err(SourceError::Broken(
                "influx: the matrix is asked for in InfluxDB 1.x' query language, which a bucket does not have; map a \
                 database to it (influx v1 dbrp create) and give ?db=NAME&token=TOKEN"
                    .into(),
            ));
        };
        let agent = agent(&target, options.ca_file.as_deref(), options.connect)
            .map_err(|error| SourceError::Broken(error.to_string()))?;
        let (request, answer_bytes) = (options.request, options.answer_bytes);
        Ok(Client { agent, target, url, request, answer_bytes, under_way: bounded(REQUESTS) })
    }

    /// Where it asks, for people.
    pub fn place(&self) -> String {
        self.target.place()
    }

    fn text(&self, what: &str) -> String {
        self.target.without_secrets(&format!("{}: {what}", self.target))
    }

    fn away(&self, what: &str) -> SourceError {
        SourceError::Away(self.text(what))
    }

    fn broken(&self, what: &str) -> SourceError {
        SourceError::Broken(self.text(what))
    }

    /// Asks all statements at once and gives each series of the answer to `each`, with its statement's position. A
    /// series with many rows comes in several pieces.
    ///
    /// # Errors
    /// The server is away, does not answer in time, is none, does not know the database, refuses; the answer is too
    /// large or damaged; what `each` says.
    pub fn ask(
        &self,
        statements: &[String],
        each: &mut dyn FnMut(usize, Series) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let (enter, leave) = &self.under_way;
        if enter.send_timeout((), self.request).is_err() {
            let limit = self.request.as_secs_f64();
            return Err(self.away(&format!("{REQUESTS} questions are under way since {limit} s; ask again later")));
        }
        let _permit = Permit(leave);
        let mut request = self.agent.post(&self.url).config().timeout_global(Some(self.request)).build();
        if let Some(authorization) = self.target.authorization() {
            request = request.header("Authorization", authorization);
        }
        let response = request.send_form([("q", statements.join("; "))]);
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let named = response.headers().contains_key("x-influxdb-version");
        let body = response.body_mut().with_config().limit(u64::MAX).reader();
        if status != 200 {
            let mut text = Vec::new();
            let _ = body.take(ERROR_BYTES).read_to_end(&mut text); // what came of it has to do
            return Err(self.refused(status, named, &String::from_utf8_lossy(&text)));
        }
        self.read(body, statements.len(), each)
    }

    fn unreachable(&self, error: &ureq::Error) -> SourceError {
        match error {
            ureq::Error::Timeout(_) => self.slow(),
            error => self.away(&format!("{error}; check that the server runs, host and port, http or https")),
        }
    }

    fn slow(&self) -> SourceError {
        let limit = self.request.as_secs_f64();
        self.away(&format!("no answer within {limit} s; ask for less time or fewer paths, or look after the server"))
    }

    fn refused(&self, status: u16, named: bool, text: &str) -> SourceError {
        let error = serde_json::from_str::<Chunk>(text).ok().and_then(|chunk| chunk.error);
        let said = match &error {
            Some(serde_json::Value::String(said)) => shorten(said),
            _ => shorten(text),
        };
        match status {
            401 | 403 => {
                self.away(&format!("answered {status}: {said}; check user and password, and the right to read"))
            }
            400 if named => self.broken(&format!("did not understand the question: {said}; is it InfluxDB 1.x?")),
            429 | 500..=599 => self.away(&format!("answered {status}: {said}; ask again later")),
            _ => self.broken(&format!(
                "answered {status}: {said}; this is no InfluxDB 1.x, check host, port and path of the URL"
            )),
        }
    }

    /// An error of a statement.
    fn failed(&self, said: &str) -> SourceError {
        let said = shorten(said);
        if said.starts_with("database not found") || said.starts_with("retention policy not found") {
            return self.away(&format!("{said}; check ?db= and &rp= of the URL, or wait until a collector writes"));
        }
        if said.contains("limit") || said.contains("timeout") || said.contains("max-") {
            return SourceError::TooMuch(self.text(&format!("{said}; ask for less time or fewer paths")));
        }
        if said.contains("authoriz") || said.contains("authoris") {
            return self.away(&format!("{said}; give the user the right to read the database"));
        }
        self.broken(&format!("{said}; the server's log may say more"))
    }

    fn read(
        &self,
        body: impl Read,
        statements: usize,
        each: &mut dyn FnMut(usize, Series) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let not_one = |what: &str| self.broken(&format!("{what}; this is no InfluxDB's answer, check host and port"));
        let mut body = BufReader::with_capacity(64 << 10, body);
        let (mut line, mut total, mut more) = (Vec::new(), 0, true);
        loop {
            line.clear();
            let taken = (&mut body).take(CHUNK_BYTES).read_until(b'\n', &mut line).map_err(|error| self.cut(&error))?;
            if taken == 0 {
                break;
            }
            total += taken as u64;
            if total > self.answer_bytes || (taken as u64 == CHUNK_BYTES && !line.ends_with(b"\n")) {
                let limit = if total > self.answer_bytes { self.answer_bytes } else { CHUNK_BYTES } >> 20;
                let text = format!("the answer has more than {limit} MiB; ask for less time or fewer paths");
                return Err(SourceError::TooMuch(self.text(&text)));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let chunk: Chunk = serde_json::from_slice(&line).map_err(|error| {
                let begin = shorten(&String::from_utf8_lossy(&line[..line.len().min(80)]));
                not_one(&format!("cannot read {begin:?}: {error}"))
            })?;
            match (chunk.error, chunk.results) {
                (Some(serde_json::Value::String(said)), _) => return Err(self.failed(&said)),
                (Some(other), _) => return Err(self.failed(&other.to_string())),
                (None, None) => return Err(not_one("it has no results")),
                (None, Some(results)) => {
                    for outcome in results {
                        if let Some(said) = &outcome.error {
                            return Err(self.failed(said));
                        }
                        if outcome.statement_id >= statements {
                            return Err(not_one("it answers what was not asked"));
                        }
                        more = outcome.partial || outcome.statement_id + 1 < statements;
                        for series in outcome.series {
                            if series.values.iter().any(|row| row.len() != series.columns.len()) {
                                return Err(not_one("a row has not as many values as there are columns"));
                            }
                            each(outcome.statement_id, series)?;
                        }
                    }
                }
            }
        }
        if more { Err(self.away("the answer ends early; ask again, or look after the server")) } else { Ok(()) }
    }

    fn cut(&self, error: &std::io::Error) -> SourceError {
        let timeout = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        if matches!(timeout, Some(ureq::Error::Timeout(_))) || error.kind() == std::io::ErrorKind::TimedOut {
            return self.slow();
        }
        self.away(&format!("the answer broke off: {error}; ask again, or look after the server"))
    }
}
