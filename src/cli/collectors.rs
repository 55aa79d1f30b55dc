//! The scraper's view: one row per collector, worst first where not all fit.
//!
//! Pure: statuses and an instant in, text out. Not responsible for drawing in place: see [`super::screen`].

use super::layout::{self, BAD, DIM, DOUBT, HEAD, Side, paint};
use super::units::{bytes, clock, count, elapsed, several, time};
use crate::scraper::collector::{State, Status};
use crate::time::Wall;
use std::time::Duration;

/// Rows shown at most: with the headings and the footer they fit a terminal of 24 lines.
pub const ROWS: usize = 18;

/// A collector's name and status.
pub type Row = (String, Status);

/// From this width on all columns are shown; below it those that help least are left out.
const WIDE: usize = 110;

/// A column: heading, side, whether it is shown in a narrow table too, and its cell of a row.
type Column = (&'static str, Side, bool, fn(&Row, Wall, State) -> String);

const COLUMNS: [Column; 9] = [
    ("collector", Side::Left, true, |row, _, _| row.0.clone()),
    ("state", Side::Left, true, |_, _, state| state.name().to_owned()),
    ("is", Side::Left, false, |row, _, _| row.1.generation.name().to_owned()),
    ("lag", Side::Right, true, |row, now, _| row.1.lag(now).map_or("–".to_owned(), elapsed)),
    ("pulled", Side::Right, true, |row, _, _| count(row.1.summaries)),
    ("missed", Side::Right, true, |row, _, _| count(row.1.missed)),
    ("bytes", Side::Right, false, |row, _, _| bytes(row.1.bytes)),
    ("took", Side::Right, false, |row, _, _| time(row.1.duration.as_nanos() as f64)),
    // an error that is over is for the API and the log
    ("last error", Side::Left, true, |row, _, _| {
        row.1.last_error.clone().filter(|_| row.1.failing).unwrap_or_default()
    }),
];

/// The table, at most `width` characters wide and `rows` rows high (besides three lines around it).
pub fn render(collectors: &[Row], now: Wall, pause: Duration, width: usize, rows: usize) -> String {
    let state = |row: &Row| row.1.state(now, pause);
    let mut shown: Vec<&Row> = collectors.iter().collect();
    if shown.len() > rows {
        // no room for all: the worst first, otherwise in their own order
        shown.sort_by_key(|row| state(row));
    }
    let hidden = shown.split_off(shown.len().min(rows));
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| width >= WIDE || column.2).collect();
    let heads: Vec<(&str, Side)> = columns.iter().map(|column| (column.0, column.1)).collect();
    let cells: Vec<Vec<String>> =
        shown.iter().map(|row| columns.iter().map(|column| (column.3)(row, now, state(row))).collect()).collect();
    let mut lines = layout::columns(0, &heads, &cells).into_iter().map(|line| layout::cut(&line, width));
    let mut text = paint(HEAD, &lines.next().unwrap_or_default()) + "\n";
    for (row, line) in shown.iter().zip(lines) {
        let style = match state(row) {
            State::Down => BAD,
            State::Lagging => DOUBT,
            State::Unknown => DIM,
            State::Up => anstyle::Style::new(),
        };
        text += &format!("{style}{line}{style:#}\n");
    }
    if !hidden.is_empty() {
        let line = format!("and {}", several(hidden.len() as u64, "more collector"));
        text += &(paint(DIM, &layout::cut(&line, width)) + "\n");
    }
    text + &paint(DIM, &layout::cut(&total(collectors, now, pause), width)) + "\n"
}

/// All collectors in one line.
pub fn total(collectors: &[Row], now: Wall, pause: Duration) -> String {
    let of = |wanted: State| collectors.iter().filter(|(_, status)| status.state(now, pause) == wanted).count();
    let summaries = collectors.iter().map(|(_, status)| status.summaries).sum();
    let missed = collectors.iter().map(|(_, status)| status.missed).sum();
    let states: Vec<String> = (State::ALL.into_iter())
        .filter(|(state, _)| of(*state) > 0)
        .map(|(state, name)| format!("{} {name}", of(state)))
        .collect();
    format!(
        "{} UTC  {}: {}  in all: {} pulled, {} missed",
        clock(now),
        several(collectors.len() as u64, "collector"),
        states.join(", "),
        count(summaries),
        count(missed)
    )
}

/// Lines to append where there is no terminal: one per collector, words and numbers only.
pub fn plain(collectors: &[Row], now: Wall, pause: Duration) -> String {
    let mut text = String::new();
    for (name, status) in collectors {
        let lag = status.lag(now).map_or("-".to_owned(), |lag| format!("{:.1}s", lag.as_secs_f64()));
        text += &format!(
            "{}Z {name} state={} is={} lag={lag} pulled={} missed={} failures={}",
            clock(now),
            status.state(now, pause).name(),
            status.generation.name(),
            status.summaries,
            status.missed,
            status.failures,
        );
        match &status.last_error {
            Some(error) if status.failing => text += &format!(" error={error:?}\n"),
            _ => text.push('\n'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scraper::collector::Generation;

    const S: u64 = 1_000_000_000;
    const PAUSE: Duration = Duration::from_secs(30);

    fn rows() -> Vec<Row> {
        let up = Status {
            generation: Generation::New,
            pulls: 3,
            summaries: 3000,
            bytes: 6_000_000,
            newest: Some(Wall(95 * S)),
            duration: Duration::from_millis(12),
            ..Status::default()
        };
        let down = Status {
            generation: Generation::Upstream,
            failures: 1,
            failing: true,
            last_error: Some("no answer: connection refused".into()),
            ..Status::default()
        };
        vec![("host1:5000".into(), up), ("[2001:db8::1]:5001".into(), down)]
    }

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_table() {
        let expected = "\
collector           state  is          lag  pulled  missed     bytes     took  last error
host1:5000          up     new       5.0 s    3000       0  5.72 MiB  12.0 ms
[2001:db8::1]:5001  down   upstream      –       0       0       0 B     0 ns  no answer: connection refused
00:01:40 UTC  2 collectors: 1 down, 1 up  in all: 3000 pulled, 0 missed
";
        let shown = bare(&render(&rows(), Wall(100 * S), PAUSE, 120, ROWS));
        assert!(shown == expected, "{shown}");
    }

    #[test]
    fn a_narrow_table_still_says_why() {
        let shown = bare(&render(&rows(), Wall(100 * S), PAUSE, 80, ROWS));
        assert!(shown.contains("missed  last error\n") && shown.contains("connection refused"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }

    #[test]
    fn the_worst_are_shown_where_there_is_no_room_for_all() {
        let shown = bare(&render(&rows(), Wall(100 * S), PAUSE, 40, 1));
        assert!(
            shown.contains("2001:db8::1") && !shown.contains("host1") && shown.contains("1 more collector"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
    }

    #[test]
    fn plain_lines() {
        let expected = "\
00:01:40Z host1:5000 state=up is=new lag=5.0s pulled=3000 missed=0 failures=0
00:01:40Z [2001:db8::1]:5001 state=down is=upstream lag=- pulled=0 missed=0 failures=1 error=\"no answer: connection refused\"
";
        assert_eq!(plain(&rows(), Wall(100 * S), PAUSE), expected);
    }
}
