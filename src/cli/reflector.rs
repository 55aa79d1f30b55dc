//! What a reflector says: ready, a line of counts now and then, totals at the end.

use super::layout::{self, Side};
use super::units::{count, percent, rate};
use crate::reflector::counters::{self, Answered, DropReason};
use crate::time::Monotonic;
use std::net::SocketAddr;

/// Seconds between two lines of counts, at least.
const EVERY_NS: u64 = 10_000_000_000;

/// Counts of a reflector since its start. Reasons and formats come from the reflector, with its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub received: u64,
    /// Replies handed to the network.
    pub replied: u64,
    /// Replies of those that the network refused.
    pub send_failed: u64,
    /// Those replies by the probe's format.
    pub formats: Vec<(&'static str, u64)>,
    /// Packets not answered, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// What else is worth knowing, such as drops by the sockets.
    pub notes: Vec<(&'static str, u64)>,
}

impl From<&counters::Totals> for Totals {
    fn from(totals: &counters::Totals) -> Totals {
        let dropped = DropReason::ALL.map(|reason| (reason.name(), totals.dropped.of(reason)));
        let formats = Answered::ALL.map(|format| (format.name(), totals.formats.of(format)));
        // the rest of the list: what is neither an answer nor a drop
        let shown = |name: &str| {
            ["received", "replied", "send_failed"].contains(&name)
                || formats.iter().chain(&dropped).any(|(listed, _)| *listed == name)
        };
        Totals {
            received: totals.received,
            replied: totals.replied,
            send_failed: totals.send_failed,
            notes: totals.entries().filter(|(name, _)| !shown(name)).collect(),
            formats: formats.into(),
            dropped: dropped.into(),
        }
    }
}

/// A name out of the counters (`too_short`) for people.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The line that says a reflector answers now; ends in a newline.
pub fn ready(addresses: &[SocketAddr], workers: usize, io: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let workers = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
    format!("answering on {} with {workers}, {io}\n", addresses.join(" and "))
}

/// Decides when a line of counts is due: every ten seconds at most, and only after a change.
#[derive(Clone, Debug)]
pub struct Ticker {
    last: Monotonic,
    shown: Totals,
}

impl Ticker {
    /// A ticker that is first due ten seconds from `now`.
    pub fn new(now: Monotonic) -> Ticker {
        Ticker { last: now, shown: Totals::default() }
    }

    /// The line, when one is due; ends in a newline.
    pub fn tick(&mut self, now: Monotonic, totals: &Totals) -> Option<String> {
        let since = now.since(self.last);
        if since < EVERY_NS || *totals == self.shown {
            return None;
        }
        let seconds = since as f64 / 1e9;
        let new = totals.received.saturating_sub(self.shown.received);
        let dropped: Vec<String> = totals
            .dropped
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(reason, n)| format!("{} {}", words(reason), count(*n)))
            .collect();
        let mut line = format!(
            "received {} ({}), answered {}",
            count(totals.received),
            rate((new as f64 / seconds).round()),
            count(totals.replied)
        );
        if !dropped.is_empty() {
            line += &format!(", dropped: {}", dropped.join(", "));
        }
        self.last = now;
        self.shown = totals.clone();
        Some(line + "\n")
    }
}

/// The totals as a table; what never happened is left out.
pub fn totals(totals: &Totals) -> String {
    let share =
        |n: u64| if totals.received == 0 { String::new() } else { percent(100.0 * n as f64 / totals.received as f64) };
    let row = |name: String, n: u64, share: String| vec![name, count(n), share];
    let parts = |of: &[(&'static str, u64)]| {
        of.iter().filter(|(_, n)| *n > 0).map(|(name, n)| (format!("  {}", words(name)), *n)).collect::<Vec<_>>()
    };
    let dropped: u64 = totals.dropped.iter().map(|(_, n)| n).sum();
    let mut rows = vec![row("received".into(), totals.received, String::new())];
    rows.push(row("answered".into(), totals.replied, share(totals.replied)));
    // what all replies are says nothing new, unless it is what one waits to see the end of
    if totals.formats.iter().any(|(name, n)| *n > 0 && *name != Answered::Stamp.name()) {
        rows.extend(parts(&totals.formats).into_iter().map(|(name, n)| row(name, n, share(n))));
    }
    if totals.send_failed > 0 {
        rows.push(row("  not taken by the network".into(), totals.send_failed, share(totals.send_failed)));
    }
    rows.push(row("dropped".into(), dropped, share(dropped)));
    rows.extend(parts(&totals.dropped).into_iter().map(|(name, n)| row(name, n, share(n))));
    let notes = parts(&totals.notes);
    if !notes.is_empty() {
        rows.push(vec!["besides".into()]);
        rows.extend(notes.into_iter().map(|(name, n)| row(name, n, String::new())));
    }
    let heads = [("packets", Side::Left), ("", Side::Right), ("", Side::Right)];
    layout::columns(0, &heads, &rows).join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(received: u64) -> Totals {
        Totals {
            received,
            replied: received - 3,
            send_failed: 0,
            formats: vec![("replied_stamp", received - 3), ("replied_llama", 0)],
            dropped: vec![("too_short", 3), ("rate_limit", 0)],
            notes: vec![("sessions", 0), ("local_drops", 7)],
        }
    }

    #[test]
    fn ready_names_addresses_workers_and_io() {
        let addresses = ["[::]:8100".parse().unwrap(), "127.0.0.1:862".parse().unwrap()];
        assert_eq!(
            ready(&addresses, 2, "io_uring"),
            "answering on [::]:8100 and 127.0.0.1:862 with 2 workers, io_uring\n"
        );
    }

    #[test]
    fn a_line_at_most_every_ten_seconds_and_only_after_a_change() {
        let s = |n: u64| Monotonic(n * 1_000_000_000);
        let mut ticker = Ticker::new(s(0));
        assert_eq!(ticker.tick(s(9), &after(100)), None);
        assert_eq!(
            ticker.tick(s(10), &after(100)).as_deref(),
            Some("received 100 (10/s), answered 97, dropped: too short 3\n")
        );
        assert_eq!(ticker.tick(s(30), &after(100)), None);
        assert_eq!(
            ticker.tick(s(50), &after(500)).as_deref(),
            Some("received 500 (10/s), answered 497, dropped: too short 3\n")
        );
    }

    #[test]
    fn every_count_of_the_reflector_is_shown_once() {
        let mut all = counters::Totals { received: 100, replied: 90, send_failed: 1, ..counters::Totals::default() };
        all.dropped.count(DropReason::TooShort);
        all.notes.sessions = 5;
        all.network.local_drops = 3;
        let totals = Totals::from(&all);
        assert_eq!(totals.dropped.len(), DropReason::ALL.len());
        assert_eq!(totals.formats.len(), Answered::ALL.len());
        assert_eq!(3 + totals.formats.len() + totals.dropped.len() + totals.notes.len(), all.entries().count());
        assert!(totals.dropped.contains(&("too_short", 1)));
        assert!(totals.notes.contains(&("sessions", 5)) && totals.notes.contains(&("local_drops", 3)));
    }

    #[test]
    fn totals_by_reason() {
        let shown = totals(&after(1000));
        let expected = "\
packets
received       1000
answered        997  99.7 %
dropped           3  0.30 %
  too short       3  0.30 %
besides
  local drops     7
";
        assert!(shown == expected, "{shown}");
    }

    #[test]
    fn old_collectors_are_seen_in_the_totals() {
        let mut all = counters::Totals { received: 10, replied: 9, ..counters::Totals::default() };
        all.formats.count(Answered::Stamp);
        (0..8).for_each(|_| all.formats.count(Answered::LlamaPython));
        all.dropped.count(DropReason::EmptyTos);
        let shown = totals(&Totals::from(&all));
        let expected = "\
packets
received                10
answered                 9  90.0 %
  replied stamp          1  10.0 %
  replied llama python   8  80.0 %
dropped                  1  10.0 %
  empty tos              1  10.0 %
";
        assert!(shown == expected, "{shown}");
    }
}
