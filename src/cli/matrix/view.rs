//! One screen: where the numbers are from, whether to believe them, the matrix, the worst of it.
//!
//! Pure: answers in, text out. Read [`render`].

use super::answer::{Extent, Flows, Matrix, Paths, Prober, Probers};
use super::grid;
use super::look::{Looks, Marks};
use super::metric::Metric;
use super::text::{clean, cut, width, wrapped};
use super::worst;
use crate::cli::layout::{BAD, DIM, DOUBT, GOOD, HEAD, paint};
use crate::cli::units::{count, elapsed, percent, several, time};
use crate::sink::rfc3339;
use crate::time::Wall;
use serde_json::Value;
use std::time::Duration;

/// Suspect probers that are named; the others are counted.
const PROBERS: usize = 3;
/// Age of the newest interval from which on it is told, in intervals, and at least.
const OLD: (u32, Duration) = (3, Duration::from_secs(60));
/// Rows of cells that are shown in however low a terminal.
const LEAST_ROWS: usize = 3;

/// Everything that was answered about one time.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Who was asked.
    pub url: String,
    /// What it has.
    pub extent: Extent,
    /// The matrix, with the one before when changes are asked for.
    pub matrix: Matrix,
    /// Who measured.
    pub probers: Probers,
    /// The worst paths, when they are asked for.
    pub paths: Option<Paths>,
    /// The worst flows.
    pub flows: Option<Flows>,
}

/// How it is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What cells show.
    pub metric: Metric,
    /// Keys and values that paths were chosen by.
    pub filter: Vec<(String, String)>,
    /// Columns of the terminal.
    pub width: usize,
    /// Its lines, where that matters.
    pub height: Option<usize>,
    /// Whether nothing may be higher than that: a frame that is redrawn. Else only the matrix yields.
    pub strict: bool,
    /// Whether there will be colours, which are explained then.
    pub colour: bool,
    /// Whether paths and flows are listed that lost nothing.
    pub list_all: bool,
    /// Whether each path's newest interval is shown, not all of a span.
    pub instant: bool,
    /// Now, where the newest interval is shown: an old one is no news.
    pub now: Option<Wall>,
    /// A last line: what went wrong since.
    pub note: Option<String>,
}

impl Picture {
    /// Paths, probes sent, probes lost, of all cells.
    pub fn totals(&self) -> (u64, u64, u64) {
        self.matrix.cells(&self.matrix.fields).fold((0, 0, 0), |(paths, sent, lost), (_, _, figures)| {
            let add = |sum: u64, name| sum.saturating_add(figures.count(name));
            (add(paths, "paths"), add(sent, "sent"), add(lost, "lost"))
        })
    }
}

/// The screen. Every line fits the width and ends in a newline.
pub fn render(picture: &Picture, options: &Options) -> String {
    let looks = Looks::of(&picture.matrix, options.metric);
    let mut lines = header(picture, options, &looks);
    lines.push(String::new());
    let below = legend(&looks, options);
    let note = options.note.iter().map(|note| paint(BAD, &cut(note, options.width)));
    let mut lists = Vec::new();
    let both = [
        picture.paths.as_ref().map(|paths| worst::paths(paths, options.list_all, options.width)),
        picture.flows.as_ref().map(|flows| worst::flows(flows, options.list_all, options.width)),
    ];
    let both: Vec<Vec<String>> = both.into_iter().flatten().filter(|list| !list.is_empty()).collect();

    // what is left of the height: half of it is the matrix', and what the lists do not need
    let most_rows = options.height.map_or(usize::MAX, |height| {
        let left = height.saturating_sub(lines.len() + below.len() + options.note.iter().count() + 1);
        let wanted: usize = both.iter().map(|list| list.len() + 1).sum();
        // headings and notes of the matrix take lines, too
        let others = grid::lay_out(&picture.matrix, &looks, options.metric, options.width, 1).len();
        left.saturating_sub(wanted).max(left / 2).saturating_sub(others).max(LEAST_ROWS)
    });
    lines.extend(grid::lay_out(&picture.matrix, &looks, options.metric, options.width, most_rows));
    lines.extend(below);
    for list in both {
        let left = options.height.filter(|_| options.strict).map_or(usize::MAX, |height| {
            height.saturating_sub(lines.len() + lists.len() + options.note.iter().count() + 1)
        });
        // a blank line, a title, headings, and at least one of the worst
        if left > 3 {
            lists.push(String::new());
            lists.extend(list.into_iter().take(left - 1));
        }
    }
    lines.extend(lists);
    if let (true, Some(height)) = (options.strict, options.height) {
        lines.truncate(height.saturating_sub(1 + options.note.iter().count()));
    }
    lines.extend(note);
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn header(picture: &Picture, options: &Options, looks: &Looks) -> Vec<String> {
    let (matrix, width) = (&picture.matrix, options.width);
    let mut title = format!("{}: {} × {}", looks.scale.title(), clean(&matrix.rows.key), clean(&matrix.columns.key));
    for (at, (key, value)) in options.filter.iter().enumerate() {
        title += &format!("{} {}={}", if at == 0 { " where" } else { "," }, clean(key), clean(value));
    }
    let role =
        if picture.extent.role.is_empty() { String::new() } else { format!(", {}", clean(&picture.extent.role)) };
    let source = format!("{}{role} at {}", clean(&picture.extent.source), clean(&picture.url));
    let mut lines = vec![paint(HEAD, &cut(&title, width)), paint(DIM, &cut(&source, width))];
    lines.extend(window(picture, options.instant).iter().flat_map(|line| wrapped(line, width)));
    if let Some(age) = age(picture, options.now) {
        lines
            .push(paint(DOUBT, &cut(&format!("OLD: nothing newer for {}, by this host's clock", elapsed(age)), width)));
    }
    let (paths, sent, lost) = picture.totals();
    let loss = if sent == 0 { 0.0 } else { 100.0 * lost as f64 / sent as f64 };
    let mut total =
        format!("{}: {} sent, {} lost ({})", several(paths, "path"), count(sent), count(lost), percent(loss));
    if matrix.left_out > 0 {
        total += &format!("; {} left out: too many rows or columns", count(matrix.left_out));
    }
    let style = match (sent, lost) {
        (0, _) => DIM,
        (_, 0) => GOOD,
        _ => BAD,
    };
    lines.extend(wrapped(&total, width).iter().map(|line| paint(style, line)));
    lines.extend(probers(&picture.probers.probers, width));
    lines
}

/// `2024-02-29 12:30:00 – 12:30:10 UTC, interval 10.0 s`, and what it is compared with.
fn window(picture: &Picture, instant: bool) -> Vec<String> {
    let interval = picture.extent.interval_s.and_then(seconds).filter(|interval| !interval.is_zero());
    let interval = interval.map_or(String::new(), |interval| format!(", interval {}", elapsed(interval)));
    let span = &picture.matrix.span;
    let Some((from, to)) = span.ends().filter(|(from, to)| from < to) else {
        return vec![format!("no interval has ended yet{interval}")];
    };
    let resolution = span.resolution_s.and_then(seconds).filter(|_| span.resolution_s != picture.extent.interval_s);
    let resolution = resolution.map_or(String::new(), |time| format!(", in steps of {}", elapsed(time)));
    let what = match (instant, interval.strip_prefix(", interval ")) {
        (true, Some(length)) => format!(", newest interval of each path ({length})"),
        _ => interval,
    };
    let mut lines = vec![format!("{} UTC{what}{resolution}", between(from, to))];
    let before = picture.matrix.before.as_ref().and_then(|before| before.span.ends());
    lines.extend(before.map(|(from, to)| format!("against {} UTC", between(from, to))));
    lines
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// Two instants, the day once where it is the same, fractions where there are some.
fn between(from: Wall, to: Wall) -> String {
    let shown = |wall: Wall| {
        let text = rfc3339(wall);
        let (day, time) = text.trim_end_matches('Z').split_at(10);
        let (time, fraction) = time[1..].split_at(8);
        let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
        (day.to_owned(), format!("{time}{}", fraction.get(..4).unwrap_or(fraction)))
    };
    let ((day, from), (to_day, to)) = (shown(from), shown(to));
    if day == to_day { format!("{day} {from} – {to}") } else { format!("{day} {from} – {to_day} {to}") }
}

/// How old the newest interval is, when that is more than usual.
fn age(picture: &Picture, now: Option<Wall>) -> Option<Duration> {
    let (_, to) = picture.matrix.span.ends()?;
    let age = Duration::from_nanos(now?.0.checked_sub(to.0)?);
    let interval = picture.extent.interval_s.and_then(seconds).unwrap_or_default();
    (age > OLD.1.max(interval.saturating_mul(OLD.0))).then_some(age)
}

fn probers(probers: &[Prober], width: usize) -> Vec<String> {
    let suspect: Vec<&Prober> = probers.iter().filter(|prober| prober.suspects > 0).collect();
    if suspect.is_empty() {
        let line = if probers.is_empty() {
            "probers: none"
        } else {
            &format!("probers: {} sound", count(probers.len() as u64))
        };
        let mut lines = vec![paint(if probers.is_empty() { DIM } else { GOOD }, &cut(line, width))];
        let refused: Vec<(&Prober, u64)> =
            probers.iter().map(|prober| (prober, sends_failed(prober))).filter(|(_, n)| *n > 0).collect();
        for (prober, n) in refused.iter().take(PROBERS) {
            let text = format!(
                "{}: {} sends failed, not measured: no route, no buffer or a firewall there",
                clean(&prober.src_ip),
                count(*n)
            );
            lines.extend(wrapped(&text, width.saturating_sub(2)).iter().map(|line| paint(DOUBT, &format!("  {line}"))));
        }
        if refused.len() > PROBERS {
            let more = several((refused.len() - PROBERS) as u64, "more prober");
            lines.push(paint(DOUBT, &cut(&format!("  … {more} whose sends failed"), width)));
        }
        return lines;
    }
    let line = format!(
        "probers: {} of {} SUSPECT: their numbers may be their own doing (~)",
        count(suspect.len() as u64),
        count(probers.len() as u64)
    );
    let mut lines: Vec<String> = wrapped(&line, width).iter().map(|line| paint(DOUBT, line)).collect();
    for prober in suspect.iter().take(PROBERS) {
        let text = format!("{}: {}", clean(&prober.src_ip), reasons(prober));
        lines.extend(wrapped(&text, width.saturating_sub(2)).iter().map(|line| paint(DOUBT, &format!("  {line}"))));
    }
    if suspect.len() > PROBERS {
        lines.push(paint(
            DOUBT,
            &cut(&format!("  … {}", several((suspect.len() - PROBERS) as u64, "more prober")), width),
        ));
    }
    lines
}

/// Probes that the prober's own kernel did not take: not loss, and not measured either.
fn sends_failed(prober: &Prober) -> u64 {
    prober.others.get("send_failed").and_then(Value::as_u64).unwrap_or(0)
}

/// `local_drops in 3 of 12 summaries, 4 not sent, 12.0 ms late at most`
fn reasons(prober: &Prober) -> String {
    let of = several(prober.summaries, "summary").replace("summarys", "summaries");
    let mut reasons: Vec<String> = (prober.suspect.iter().filter(|(_, n)| **n > 0))
        .map(|(reason, n)| format!("{} in {} of {of}", clean(reason), count(*n)))
        .collect();
    for (name, words) in [("not_sent", "not sent"), ("send_failed", "sends failed"), ("local_drops", "dropped here")] {
        let n = prober.others.get(name).and_then(Value::as_u64).unwrap_or(0);
        reasons.extend((n > 0).then(|| format!("{} {words}", count(n))));
    }
    let late = prober.others.get("lateness_max_ms").and_then(Value::as_f64);
    reasons.extend(late.map(|ms| format!("{} late at most", time(ms * 1e6))));
    reasons.join(", ")
}

/// What the marks in the matrix mean, those that are there.
fn legend(looks: &Looks, options: &Options) -> Vec<String> {
    if looks.cells.is_empty() {
        return Vec::new();
    }
    let Marks { no_data, no_value, suspect, bound, new } = looks.marks;
    let changes = looks.changes;
    let parts = [
        (no_data, "· no data"),
        (options.metric == Metric::Loss, if changes { "0 no change" } else { "0 no loss" }),
        (options.metric == Metric::Dscp, if changes { "0 no change" } else { "0 not changed, as far as can be told" }),
        (no_value, if options.metric == Metric::Loss { "– nothing was sent" } else { "– nothing came back" }),
        (suspect, "~ suspect: may be the prober's own doing"),
        (bound && !changes, "≤ not above"),
        (bound && changes, "≈ of values that are only bounds"),
        (new, "* not there before: its value"),
    ];
    let mut texts = vec![String::new()];
    for (_, part) in parts.into_iter().filter(|(is, _)| *is) {
        match texts.last_mut() {
            Some(text) if text.is_empty() => text.push_str(part),
            Some(text) if width(text) + 3 + width(part) <= options.width => *text += &format!("   {part}"),
            _ => texts.push(part.to_owned()),
        }
    }
    let mut lines: Vec<String> = texts.iter().map(|text| paint(DIM, &cut(text, options.width))).collect();
    let key = looks.scale.key();
    let plain = anstream::adapter::strip_str(&key).to_string();
    if options.colour && !key.is_empty() && width(&plain) <= options.width {
        lines.push(key);
    }
    lines.retain(|line| !line.is_empty());
    lines
}
