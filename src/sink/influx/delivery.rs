//! What a server's answer means and what to do next. Pure: no clock, no socket, no randomness of
//! its own. Read [`Delivery`].
//!
//! - Stored: go on.
//! - Refused (400, 422, by a database): it found something wrong in the lines. The batch is halved down
//!   to the bad line, which is given up, so that one bad line costs no other. When it refuses line after
//!   line, one is tried now and then only: it may be the server that is wrong.
//! - Too large (413): halved as well, and later batches begin smaller.
//! - Away (no connection, timeout, 408, 429, 5xx) or the database is missing (404): the same lines
//!   again, after an exponential backoff with full jitter, or when the server said (`Retry-After`).
//! - Denied (401, 403) or not understood (other answers, and those of no database): the same lines again, rarely; somebody
//!   must change something.

use crate::sink::calendar::parse_http_date;
use crate::time::Wall;
use std::ops::Range;
use std::time::Duration;

/// When to try again, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Longest first pause after a failure; doubles with each further one.
    pub backoff: Duration,
    /// Longest pause of the backoff.
    pub backoff_max: Duration,
    /// Pause while the server denies or does not understand; half of it to all of it.
    pub denied: Duration,
    /// Longest `Retry-After` that is obeyed.
    pub retry_after_max: Duration,
    /// Longest time for a request, from resolving the name to the end of the answer.
    pub request: Duration,
    /// Longest time to connect.
    pub connect: Duration,
    /// Lines per request, 1 or more.
    pub batch_lines: usize,
    /// Bytes per request before compression; one line is sent whatever its size.
    pub batch_bytes: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            denied: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
            request: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            batch_lines: 5000,
            batch_bytes: 4 << 20,
        }
    }
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Stored.
    Stored,
    /// Something in the lines is wrong; `lines` of them by the server's own count, if it gave one.
    Refused { lines: Option<u64> },
    /// More than the server takes at once.
    TooLarge,
    /// The server is away or busy, or the database is not there yet.
    Later { retry_after: Option<Duration> },
    /// Nothing will change before somebody changes something.
    Denied,
}

/// What to do with the lines of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// They are stored.
    Delivered,
    /// It was one line and it is refused: give it up, after this pause.
    Refused(Duration),
    /// Try again after this pause, as many as [`Delivery::lines`] says then.
    Again(Duration),
}

/// Refused attempts in a row that are made without a pause. A batch of 5000 with one bad line needs 13.
const FREE_REFUSALS: u32 = 256;
/// Pause between refused attempts after these, to spare a server that refuses everything.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);
/// Single lines refused in a row, with none stored in between, after which one is given up per pause of
/// [`Policy::denied`] only: who refuses everything must not empty queue and spool at full speed.
pub(super) const REFUSED_IN_ROW: u32 = 100;
/// Stored batches after which a batch that was too large may grow again.
const GROW_AFTER: u32 = 16;

/// Where lines come from: each numbers its own, and cuts its own batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The queue in memory.
    Memory,
    /// The spool.
    Spool,
}

/// A refused batch that is being cut down to its bad lines.
#[derive(Debug, Default)]
struct Cutting {
    /// Ends of the pieces, the next one last.
    pieces: Vec<u64>,
    /// Refusals since the last time no piece was left.
    refusals: u32,
}

/// The state between attempts.
#[derive(Debug)]
pub(super) struct Delivery {
    policy: Policy,
    memory: Cutting,
    spool: Cutting,
    /// Lines per batch at present.
    batch_lines: usize,
    /// Stored batches since that last changed.
    stored: u32,
    /// Failures in a row.
    failures: u32,
    /// Single lines refused since something was stored.
    refused_in_row: u32,
}

impl Delivery {
    pub(super) fn new(policy: Policy) -> Delivery {
        let batch_lines = policy.batch_lines.max(1);
        Delivery {
            policy,
            memory: Cutting::default(),
            spool: Cutting::default(),
            batch_lines,
            stored: 0,
            failures: 0,
            refused_in_row: 0,
        }
    }

    fn cutting(&mut self, lane: Lane) -> &mut Cutting {
        match lane {
            Lane::Memory => &mut self.memory,
            Lane::Spool => &mut self.spool,
        }
    }

    /// True when the next attempt repeats a failed one.
    pub(super) fn is_retry(&mut self, lane: Lane) -> bool {
        self.failures > 0 || !self.cutting(lane).pieces.is_empty()
    }

    /// True when the server refuses line after line and stores none.
    pub(super) fn refuses_all(&self) -> bool {
        self.refused_in_row >= REFUSED_IN_ROW
    }

    /// How many lines to send at most when the oldest that waits has the number `first`.
    pub(super) fn lines(&mut self, lane: Lane, first: u64) -> usize {
        let most = self.batch_lines;
        let cutting = self.cutting(lane);
        cutting.forget_until(first);
        match cutting.pieces.last() {
            Some(end) => most.min(usize::try_from(end - first).unwrap_or(usize::MAX)),
            None => most,
        }
    }

    /// What to do after the lines `sent` (at least one) were answered with `reply`; `random` is
    /// uniform in 0..1.
    pub(super) fn after(&mut self, lane: Lane, sent: &Range<u64>, reply: &Reply, random: f64) -> Step {
        let lines = sent.end.saturating_sub(sent.start);
        match *reply {
            Reply::Stored => {
                self.failures = 0;
                self.refused_in_row = 0;
                self.grow();
                self.cutting(lane).forget_until(sent.end);
                Step::Delivered
            }
            Reply::Refused { .. } | Reply::TooLarge if lines <= 1 => {
                self.failures = 0;
                self.refused_in_row = self.refused_in_row.saturating_add(1);
                let pause = self.cutting(lane).refusal_pause();
                self.cutting(lane).forget_until(sent.end);
                if !self.refuses_all() {
                    return Step::Refused(pause);
                }
                // the next attempt is a whole batch, so that a server that is mended is seen at once
                *self.cutting(lane) = Cutting::default();
                Step::Refused(self.denied_pause(random))
            }
            Reply::Refused { lines: Some(refused) } if refused == lines => {
                self.failures = 0;
                let pause = self.cutting(lane).refusal_pause();
                self.cutting(lane).forget_until(sent.end);
                Step::Refused(pause)
            }
            Reply::Refused { .. } => {
                self.failures = 0;
                let pause = self.cutting(lane).refusal_pause();
                let pieces = &mut self.cutting(lane).pieces;
                if pieces.last() != Some(&sent.end) {
                    pieces.push(sent.end);
                }
                pieces.push(sent.start + lines / 2);
                Step::Again(pause)
            }
            Reply::TooLarge => {
                self.failures = 0;
                self.stored = 0;
                self.batch_lines = usize::try_from(lines / 2).unwrap_or(1).max(1);
                Step::Again(Duration::ZERO)
            }
            Reply::Later { retry_after } => {
                let backoff = self.backoff().mul_f64(random);
                self.failures = self.failures.saturating_add(1);
                Step::Again(match retry_after {
                    // not before the server said, and not all collectors at the same moment
                    Some(wait) => wait.min(self.policy.retry_after_max) + self.policy.backoff.mul_f64(random),
                    None => backoff,
                })
            }
            Reply::Denied => {
                self.failures = self.failures.saturating_add(1);
                Step::Again(self.denied_pause(random))
            }
        }
    }

    fn denied_pause(&self, random: f64) -> Duration {
        self.policy.denied.mul_f64(0.5 + random / 2.0)
    }

    /// The longest pause after one more failure.
    fn backoff(&self) -> Duration {
        self.policy.backoff.saturating_mul(1 << self.failures.min(30)).min(self.policy.backoff_max)
    }

    fn grow(&mut self) {
        if self.batch_lines < self.policy.batch_lines {
            self.stored += 1;
            if self.stored >= GROW_AFTER {
                self.stored = 0;
                self.batch_lines = (self.batch_lines * 2).min(self.policy.batch_lines);
            }
        }
    }
}

impl Cutting {
    /// Pieces up to `first` are settled, or had to make room in the queue.
    fn forget_until(&mut self, first: u64) {
        while self.pieces.last().is_some_and(|&end| end <= first) {
            self.pieces.pop();
        }
        if self.pieces.is_empty() {
            self.refusals = 0;
        }
    }

    fn refusal_pause(&mut self) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > FREE_REFUSALS { REFUSAL_PAUSE } else { Duration::ZERO }
    }
}

/// What an HTTP answer means. `retry_after` is the header's value, `body` the answer's text; `named` is true when a
/// header says that a database answers.
pub(super) fn classify(status: u16, retry_after: Option<&str>, named: bool, body: &str, now: Wall) -> Reply {
    match status {
        // a login page or an error as text under a good status is no database's answer
        200..=299 if body.trim_start().starts_with('<') || body.contains("\"error\"") => Reply::Denied,
        200..=299 => Reply::Stored,
        // proxies and other servers answer 400 to whatever they do not like, which says nothing about the lines
        400 | 422 if named || error_text(body).is_some() => Reply::Refused { lines: dropped_lines(body) },
        413 => Reply::TooLarge,
        404 | 408 | 429 | 500..=599 => {
            Reply::Later { retry_after: retry_after.and_then(|text| parse_retry_after(text, now)) }
        }
        _ => Reply::Denied,
    }
}

/// The error text in a database's JSON answer: `error` in 1.x and 3.x, `message` in 2.x.
pub(super) fn error_text(body: &str) -> Option<String> {
    let value = serde_json::from_str::<serde_json::Value>(body).ok()?;
    let field = |name| value.get(name)?.as_str().map(str::to_string);
    field("error").or_else(|| field("message"))
}

/// N of InfluxDB 1.x' `partial write: … dropped=N`: it stored the other lines. 0 is given for lines
/// that do not parse, which it does not count.
fn dropped_lines(body: &str) -> Option<u64> {
    let (_, after) = body.split_once("partial write")?.1.rsplit_once("dropped=")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    after[..digits].parse().ok().filter(|&lines| lines > 0)
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date; one in the past is no time.
fn parse_retry_after(text: &str, now: Wall) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // more digits than fit are a very long time
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = Duration::from_secs(parse_http_date(text)?);
    Some(date.saturating_sub(Duration::from_nanos(now.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const LATER: Reply = Reply::Later { retry_after: None };

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_answers_mean() {
        let partial = r#"{"error":"partial write: field type conflict: input field \"x\" dropped=2"}"#;
        let unparsed = r#"{"error":"partial write: unable to parse 'x': missing fields dropped=0"}"#;
        for (status, body, reply) in [
            (204, "", Reply::Stored),
            (200, "", Reply::Stored),
            (200, "{}", Reply::Stored),
            (200, "<html>login", Reply::Denied),
            (200, "{\"error\":\"timeout\"}", Reply::Denied),
            (400, r#"{"error":"unable to parse"}"#, Reply::Refused { lines: None }),
            (400, r#"{"error":"dropped=2"}"#, Reply::Refused { lines: None }),
            (422, r#"{"code":"unprocessable entity","message":"x"}"#, Reply::Refused { lines: None }),
            (400, partial, Reply::Refused { lines: Some(2) }),
            (400, unparsed, Reply::Refused { lines: None }),
            (400, "", Reply::Denied),
            (400, "Client sent an HTTP request to an HTTPS server.\n", Reply::Denied),
            (400, "<html><head><title>400 Bad Request</title>", Reply::Denied),
            (400, r#"{"error":{"code":400}}"#, Reply::Denied),
            (400, r#"["error"]"#, Reply::Denied),
            (422, "", Reply::Denied),
            (413, "", Reply::TooLarge),
            (404, "", LATER),
            (408, "", LATER),
            (429, "", LATER),
            (500, "", LATER),
            (503, "", LATER),
            (401, "", Reply::Denied),
            (403, "", Reply::Denied),
            (405, "", Reply::Denied),
            (302, "", Reply::Denied),
        ] {
            assert_eq!(classify(status, None, false, body, Wall(0)), reply, "{status} {body}");
        }
        // VictoriaMetrics refuses in plain text, under InfluxDB's header
        let text = "cannot read influx line protocol data: too long line: more than 262144 bytes";
        assert_eq!(classify(400, None, true, text, Wall(0)), Reply::Refused { lines: None });
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Wall(784_111_777 * 1_000_000_000);
        for (text, expected) in [
            ("0", Some(secs(0))),
            (" 120 ", Some(secs(120))),
            ("99999999999999999999", Some(secs(u64::from(u32::MAX)))),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(secs(60))),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(secs(0))),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected, "{text}");
        }
        assert_eq!(classify(429, Some("7"), false, "", now), Reply::Later { retry_after: Some(secs(7)) });
    }

    #[test]
    fn pauses_double_to_their_limit_and_begin_anew_after_success() {
        let mut d = Delivery::new(Policy { backoff: secs(1), backoff_max: secs(9), ..Policy::default() });
        let pauses: Vec<_> = (0..6).map(|_| d.after(Lane::Memory, &(0..5), &LATER, 1.0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 9, 9].map(|s| Step::Again(secs(s))));
        assert_eq!(d.after(Lane::Memory, &(0..5), &LATER, 0.5), Step::Again(secs(9) / 2));
        assert_eq!(d.after(Lane::Memory, &(0..5), &LATER, 0.0), Step::Again(secs(0)));
        assert!(d.is_retry(Lane::Memory));
        assert_eq!(d.after(Lane::Memory, &(0..5), &Reply::Stored, 1.0), Step::Delivered);
        assert!(!d.is_retry(Lane::Memory));
        assert_eq!(d.after(Lane::Memory, &(5..6), &LATER, 1.0), Step::Again(secs(1)));
    }

    #[test]
    fn the_server_says_when_up_to_a_limit() {
        let mut d = Delivery::new(Policy { backoff: secs(1), retry_after_max: secs(100), ..Policy::default() });
        let after = |s| Reply::Later { retry_after: Some(secs(s)) };
        assert_eq!(d.after(Lane::Memory, &(0..5), &after(30), 0.0), Step::Again(secs(30)));
        assert_eq!(d.after(Lane::Memory, &(0..5), &after(30), 1.0), Step::Again(secs(31)));
        assert_eq!(d.after(Lane::Memory, &(0..5), &after(101), 0.0), Step::Again(secs(100)));
    }

    #[test]
    fn denied_is_tried_again_rarely() {
        let mut d = Delivery::new(Policy { denied: secs(60), ..Policy::default() });
        assert_eq!(d.after(Lane::Memory, &(0..5), &Reply::Denied, 0.0), Step::Again(secs(30)));
        assert_eq!(d.after(Lane::Memory, &(0..5), &Reply::Denied, 1.0), Step::Again(secs(60)));
    }

    #[test]
    fn too_large_makes_batches_smaller_until_they_fit_again() {
        let mut d = Delivery::new(Policy { batch_lines: 100, ..Policy::default() });
        assert_eq!(d.after(Lane::Memory, &(0..100), &Reply::TooLarge, 0.0), Step::Again(secs(0)));
        assert_eq!(d.lines(Lane::Memory, 0), 50);
        for i in 0..u64::from(GROW_AFTER) {
            assert_eq!(d.lines(Lane::Memory, i), 50);
            d.after(Lane::Memory, &(i..i + 1), &Reply::Stored, 0.0);
        }
        assert_eq!(d.lines(Lane::Memory, 99), 100);
        assert_eq!(d.after(Lane::Memory, &(99..100), &Reply::TooLarge, 0.0), Step::Refused(secs(0)));
    }

    #[test]
    fn a_server_that_counts_every_line_as_dropped_is_believed() {
        let mut d = Delivery::new(Policy::default());
        assert_eq!(d.after(Lane::Memory, &(0..70), &Reply::Refused { lines: Some(70) }, 0.0), Step::Refused(secs(0)));
        assert_eq!(d.after(Lane::Memory, &(70..140), &Reply::Refused { lines: Some(69) }, 0.0), Step::Again(secs(0)));
        assert_eq!(d.lines(Lane::Memory, 70), 35);
    }

    #[test]
    fn pieces_that_had_to_make_room_are_forgotten() {
        let mut d = Delivery::new(Policy { batch_lines: 100, ..Policy::default() });
        d.after(Lane::Memory, &(0..100), &Reply::Refused { lines: None }, 0.0);
        d.after(Lane::Memory, &(0..50), &Reply::Refused { lines: None }, 0.0);
        assert_eq!(d.lines(Lane::Memory, 0), 25);
        assert_eq!(d.lines(Lane::Memory, 30), 20);
        assert_eq!(d.lines(Lane::Memory, 500), 100);
    }

    #[test]
    fn each_lane_cuts_its_own_batches_and_both_know_of_failures() {
        let mut d = Delivery::new(Policy { batch_lines: 100, ..Policy::default() });
        d.after(Lane::Spool, &(0..100), &Reply::Refused { lines: None }, 0.0);
        assert_eq!((d.lines(Lane::Spool, 0), d.lines(Lane::Memory, 0)), (50, 100));
        assert!(d.is_retry(Lane::Spool) && !d.is_retry(Lane::Memory));
        d.after(Lane::Memory, &(0..100), &LATER, 1.0);
        assert!(d.is_retry(Lane::Spool) && d.is_retry(Lane::Memory));
        d.after(Lane::Memory, &(0..100), &Reply::TooLarge, 1.0);
        assert_eq!((d.lines(Lane::Spool, 0), d.lines(Lane::Memory, 0)), (50, 50));
    }

    #[test]
    fn who_refuses_line_after_line_is_asked_rarely() {
        for reply in [Reply::Refused { lines: None }, Reply::Refused { lines: Some(1) }, Reply::TooLarge] {
            let mut d = Delivery::new(Policy { denied: secs(60), ..Policy::default() });
            let refuse = |d: &mut Delivery, n: u64| d.after(Lane::Spool, &(n..n + 1), &reply, 1.0);
            for n in 0..99 {
                assert_eq!((refuse(&mut d, n), d.refuses_all()), (Step::Refused(secs(0)), false), "{reply:?} {n}");
            }
            for n in 99..110 {
                assert_eq!((refuse(&mut d, n), d.refuses_all()), (Step::Refused(secs(60)), true), "{reply:?} {n}");
            }
            // one that is stored, from whichever lane, and all is as before
            d.after(Lane::Memory, &(0..1), &Reply::Stored, 1.0);
            assert_eq!((refuse(&mut d, 110), d.refuses_all()), (Step::Refused(secs(0)), false));
        }
    }

    #[test]
    fn after_the_pause_a_whole_batch_is_tried() {
        let mut d = Delivery::new(Policy { batch_lines: 500, ..Policy::default() });
        let mut first = 0;
        while !d.refuses_all() {
            let sent = first..first + d.lines(Lane::Memory, first) as u64;
            if let Step::Refused(_) = d.after(Lane::Memory, &sent, &Reply::Refused { lines: None }, 1.0) {
                first = sent.end;
            }
        }
        assert_eq!((first, d.lines(Lane::Memory, first)), (100, 500));
    }

    /// Delivers lines `0..n` to a server that refuses batches with a line of `bad`, and takes at most
    /// `limit` at once. Gives the lines stored, the lines refused, and the number of attempts.
    fn simulate(n: u64, bad: &BTreeSet<u64>, limit: u64, batch_lines: usize) -> (Vec<u64>, Vec<u64>, u64) {
        let mut d = Delivery::new(Policy { batch_lines, ..Policy::default() });
        let (mut first, mut attempts, mut stored, mut refused) = (0, 0, Vec::new(), Vec::new());
        while first < n {
            attempts += 1;
            assert!(attempts <= 40 * n, "no end");
            let sent = first..n.min(first + d.lines(Lane::Memory, first) as u64);
            let reply = if sent.end - sent.start > limit {
                Reply::TooLarge
            } else if bad.range(sent.clone()).next().is_some() {
                Reply::Refused { lines: None }
            } else {
                Reply::Stored
            };
            match d.after(Lane::Memory, &sent, &reply, 0.5) {
                Step::Delivered => stored.extend(sent.clone()),
                Step::Refused(_) => refused.extend(sent.clone()),
                Step::Again(_) => continue,
            }
            first = sent.end;
        }
        (stored, refused, attempts)
    }

    #[test]
    fn one_bad_line_in_5000_costs_few_attempts() {
        for bad in [0, 1, 2500, 4999] {
            let (stored, refused, attempts) = simulate(5000, &[bad].into(), 9999, 5000);
            assert_eq!((stored.len(), refused), (4999, vec![bad]));
            assert!(attempts <= 2 * 13 + 2, "{attempts}");
        }
    }

    proptest! {
        #[test]
        fn bad_lines_cost_only_themselves(
            n in 1u64..300,
            bad in proptest::collection::btree_set(0u64..300, 0..20),
            limit in 1u64..400,
            batch in 1usize..400,
        ) {
            let (stored, refused, _) = simulate(n, &bad, limit, batch);
            let expected: Vec<_> = bad.range(..n).copied().collect();
            prop_assert_eq!(refused, expected);
            let expected: Vec<_> = (0..n).filter(|line| !bad.contains(line)).collect();
            prop_assert_eq!(stored, expected);
        }
    }
}
