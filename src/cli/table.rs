//! The live table of a collector: one row per path, redrawn every interval.
//!
//! [`Board`] keeps the last interval and the recent losses of every path; what it shows is a function of
//! that and a width. Not responsible for drawing in place: see [`super::screen`].

use super::chart::spark;
use super::layout::{self, BAD, DIM, DOUBT, HEAD, Side, paint};
use super::units::{clock, count, percent, several, time};
use super::values::dscp_name;
use crate::sink::record::suspicion_name;
use crate::summary::{Path, PathKey, Summary};
use crate::time::Wall;
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, VecDeque};

/// Intervals a sparkline looks back.
const HISTORY: usize = 20;
/// Rows shown at most: with the headings and the footer they fit a terminal of 24 lines.
pub const ROWS: usize = 18;
/// Characters of a path's group and tags.
const LABEL: usize = 24;

/// A path as the table knows it.
#[derive(Debug)]
struct Row {
    label: String,
    key: PathKey,
    sent: u64,
    loss: f64,
    p50: String,
    p99: String,
    ipdv: String,
    flows: String,
    suspect: String,
    losses: VecDeque<Option<f64>>,
    /// Whether the interval being taken in mentioned it.
    fresh: bool,
}

/// Everything the live table shows.
#[derive(Debug, Default)]
pub struct Board {
    rows: Vec<Row>,
    index: HashMap<PathKey, usize>,
    intervals: u64,
    left: u64,
    unanswered: u64,
    end: Wall,
}

impl Board {
    /// An empty board.
    pub fn new() -> Board {
        Board::default()
    }

    /// Takes in the summaries of one interval.
    pub fn update<S: Borrow<Summary>>(&mut self, summaries: &[S]) {
        self.intervals += 1;
        for row in &mut self.rows {
            row.fresh = false;
        }
        for summary in summaries {
            let summary = summary.borrow();
            self.left += summary.counts.left();
            self.unanswered += summary.counts.unanswered();
            self.end = self.end.max(summary.end);
            let key = summary.path.key();
            let at = *self.index.entry(key).or_insert_with(|| {
                self.rows.push(Row::new(key));
                self.rows.len() - 1
            });
            self.rows[at].take(summary);
        }
        for row in self.rows.iter_mut().filter(|row| !row.fresh) {
            row.push(None);
        }
    }

    /// Forgets all paths but these: the others were removed by a reload.
    pub fn keep(&mut self, paths: &[Path]) {
        let probed: HashSet<PathKey> = paths.iter().map(Path::key).collect();
        if self.rows.iter().any(|row| !probed.contains(&row.key)) {
            self.rows.retain(|row| probed.contains(&row.key));
            self.index = self.rows.iter().enumerate().map(|(at, row)| (row.key, at)).collect();
        }
    }

    /// The table, at most `width` characters wide and `rows` rows high (besides three lines around it).
    pub fn render(&self, width: usize, rows: usize) -> String {
        let mut shown: Vec<&Row> = self.rows.iter().collect();
        if shown.len() > rows {
            // no room for all: the worst first, otherwise in their own order
            shown.sort_by(|a, b| b.trouble().total_cmp(&a.trouble()));
        }
        let hidden = shown.split_off(shown.len().min(rows));
        let mut lines = fitted(&shown, width).into_iter();
        let mut text = paint(HEAD, &lines.next().unwrap_or_default()) + "\n";
        for (row, line) in shown.iter().zip(lines) {
            let style = match row {
                row if row.loss > 0.0 && row.suspect.is_empty() => BAD,
                row if row.loss > 0.0 || !row.suspect.is_empty() => DOUBT,
                _ => anstyle::Style::new(),
            };
            text += &format!("{style}{line}{style:#}\n");
        }
        if !hidden.is_empty() {
            let lossy = hidden.iter().filter(|row| row.loss > 0.0).count();
            let which = if lossy > 0 { format!("{lossy} of them with loss") } else { "without loss".to_owned() };
            text += &paint(
                DIM,
                &layout::cut(&format!("and {}, {which}", several(hidden.len() as u64, "more path")), width),
            );
            text.push('\n');
        }
        text += &paint(DIM, &layout::cut(&self.footer(), width));
        text.push('\n');
        text
    }

    fn footer(&self) -> String {
        let loss = if self.left == 0 { 0.0 } else { 100.0 * self.unanswered as f64 / self.left as f64 };
        format!(
            "{} UTC  {}  in all: {} sent, {} lost ({})",
            clock(self.end),
            several(self.rows.len() as u64, "path"),
            count(self.left),
            count(self.unanswered),
            percent(loss)
        )
    }

    /// The totals of the whole run as a line, for the end.
    pub fn total(&self) -> String {
        format!("{}  {}\n", several(self.intervals, "interval"), self.footer())
    }
}

impl Row {
    fn new(key: PathKey) -> Row {
        Row {
            label: String::new(),
            key,
            sent: 0,
            loss: 0.0,
            p50: String::new(),
            p99: String::new(),
            ipdv: String::new(),
            flows: String::new(),
            suspect: String::new(),
            losses: VecDeque::with_capacity(HISTORY),
            fresh: false,
        }
    }

    fn take(&mut self, summary: &Summary) {
        let dash = || "–".to_owned();
        self.fresh = true;
        self.label = label(&summary.path); // a reload may give other tags
        self.sent = summary.counts.left();
        self.loss = summary.counts.loss_percent();
        self.p50 = summary.rtt.map_or_else(dash, |rtt| time(rtt.p50 as f64));
        self.p99 = summary.rtt.map_or_else(dash, |rtt| time(rtt.p99 as f64));
        self.ipdv = summary.ipdv.map_or_else(dash, |ipdv| time(ipdv.mean));
        self.flows = format!("{}/{}", summary.flows_with_loss, summary.flows);
        self.suspect = suspicions(summary);
        self.push((summary.counts.left() > 0).then_some(self.loss));
    }

    fn push(&mut self, loss: Option<f64>) {
        if self.losses.len() == HISTORY {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
    }

    /// Order of the rows when not all fit.
    fn trouble(&self) -> f64 {
        // a path whose loss was recent stays in sight for a while
        let recent = self.losses.iter().flatten().fold(0.0, |most: f64, loss| most.max(*loss));
        1000.0 * self.loss + recent
    }
}

fn label(path: &Path) -> String {
    let tags = path.tags.iter().map(|(name, value)| format!(" {name}={value}"));
    layout::cut((path.group.clone() + &tags.collect::<String>()).trim(), LABEL)
}

fn suspicions(summary: &Summary) -> String {
    summary.suspect.iter().map(|reason| suspicion_name(*reason)).collect::<Vec<_>>().join(",")
}

/// A column: heading, side, and its cell of a row.
type Column = (&'static str, Side, fn(&Row) -> String);

fn path(row: &Row) -> String {
    format!("{} → {}", row.key.src, row.key.dst)
}

fn sparkline(row: &Row, length: usize) -> String {
    let skip = row.losses.len().saturating_sub(length);
    spark(row.losses.iter().skip(skip).copied())
}

const PATH: Column = ("path", Side::Left, path);
const TARGET: Column = ("target", Side::Left, |row| row.key.dst.to_string());
const GROUP: Column = ("group", Side::Left, |row| row.label.clone());
const CLASS: Column = ("dscp", Side::Right, |row| dscp_name(row.key.dscp));
const METHOD: Column = ("method", Side::Left, |row| row.key.method.name().to_owned());
const SIZE: Column = ("size", Side::Right, |row| row.key.size.map_or(String::new(), |size| size.to_string()));
const SENT: Column = ("sent", Side::Right, |row| count(row.sent));
const LOSS: Column = ("loss", Side::Right, |row| percent(row.loss));
const P50: Column = ("rtt p50", Side::Right, |row| row.p50.clone());
const P99: Column = ("p99", Side::Right, |row| row.p99.clone());
const IPDV: Column = ("ipdv", Side::Right, |row| row.ipdv.clone());
const LOSSY: Column = ("lossy flows", Side::Right, |row| row.flows.clone());
const RECENT: Column = ("recent loss", Side::Left, |row| sparkline(row, HISTORY));
const RECENT_SHORT: Column = ("recent", Side::Left, |row| sparkline(row, 8));
const SUSPECT: Column = ("suspect", Side::Left, |row| row.suspect.clone());

/// Sets of columns, from wide to narrow; the first that fits is taken.
const LAYOUTS: [&[Column]; 7] = [
    &[PATH, GROUP, METHOD, CLASS, SIZE, SENT, LOSS, P50, P99, IPDV, LOSSY, RECENT, SUSPECT],
    &[PATH, GROUP, METHOD, SIZE, SENT, LOSS, P50, P99, IPDV, LOSSY, RECENT, SUSPECT],
    &[PATH, GROUP, METHOD, SIZE, SENT, LOSS, P50, P99, IPDV, LOSSY, RECENT_SHORT, SUSPECT],
    &[TARGET, GROUP, METHOD, SIZE, SENT, LOSS, P50, P99, IPDV, LOSSY, RECENT_SHORT, SUSPECT],
    &[TARGET, SIZE, SENT, LOSS, P50, P99, IPDV, LOSSY, RECENT_SHORT, SUSPECT],
    &[TARGET, SIZE, SENT, LOSS, P50, P99, LOSSY, SUSPECT],
    &[TARGET, SIZE, LOSS, P50, P99, SUSPECT],
];

/// Headings and rows that fit `width`.
fn fitted(rows: &[&Row], width: usize) -> Vec<String> {
    let classes = rows.windows(2).any(|w| w[0].key.dscp != w[1].key.dscp);
    let methods = rows.windows(2).any(|w| w[0].key.method != w[1].key.method);
    let sizes = rows.iter().any(|row| row.key.size.is_some());
    let suspect = rows.iter().any(|row| !row.suspect.is_empty());
    let mut lines = Vec::new();
    // a class or a method that is the same in all rows is not shown
    for layout in LAYOUTS.iter().skip(usize::from(!classes)) {
        let columns = layout
            .iter()
            .filter(|c| (suspect || c.0 != SUSPECT.0) && (methods || c.0 != METHOD.0) && (sizes || c.0 != SIZE.0));
        let columns: Vec<&Column> = columns.collect();
        let heads: Vec<(&str, Side)> = columns.iter().map(|c| (c.0, c.1)).collect();
        let cells: Vec<Vec<String>> = rows.iter().map(|row| columns.iter().map(|c| (c.2)(row)).collect()).collect();
        lines = layout::columns(0, &heads, &cells);
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        if widest <= width {
            break;
        }
    }
    lines.into_iter().map(|line| layout::cut(&line, width)).collect()
}

/// The interval as lines to append where there is no terminal: one per path, words and numbers only.
pub fn plain<S: Borrow<Summary>>(summaries: &[S]) -> String {
    let mut text = String::new();
    for summary in summaries {
        let s = summary.borrow();
        let ms = |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| format!("{:.3}ms", ns / 1e6));
        text += &format!(
            "{}Z {} > {} group={} method={} dscp={} sent={} loss={:.3}% rtt_p50={} rtt_p99={} ipdv={} lossy_flows={}/{}",
            clock(s.end),
            s.path.src,
            s.path.dst,
            s.path.group,
            s.path.method.name(),
            s.path.dscp.0,
            s.counts.left(),
            s.counts.loss_percent(),
            ms(s.rtt.map(|rtt| rtt.p50 as f64)),
            ms(s.rtt.map(|rtt| rtt.p99 as f64)),
            ms(s.ipdv.map(|ipdv| ipdv.mean)),
            s.flows_with_loss,
            s.flows
        );
        if !s.suspect.is_empty() {
            text += &format!(" suspect={}", suspicions(s));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ping::tests::summary;
    use crate::probe::shape::{Dscp, MethodKind};
    use crate::summary::{Counts, Suspicion};
    use std::sync::Arc;

    fn to(last: u8, sent: u64, lost: u64) -> Summary {
        let mut s = summary();
        let mut path = (*s.path).clone();
        path.dst = [10, 0, 0, last].into();
        path.group = "rack-a".into();
        path.dscp = Dscp(0);
        s.path = Arc::new(path);
        s.counts = Counts { sent, replied: sent - lost, lost, ..Counts::default() };
        s.flows_with_loss = u32::from(lost > 0);
        s
    }

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_table() {
        let mut board = Board::new();
        board.update(&[to(2, 1000, 0), to(3, 1000, 0)]);
        board.update(&[to(2, 1000, 0), to(3, 1000, 25)]);
        let expected = "\
path                 group   sent   loss  rtt p50      p99     ipdv  lossy flows  recent loss
10.0.0.1 → 10.0.0.2  rack-a  1000    0 %  24.0 µs  29.9 µs  1.20 µs         0/16  ··
10.0.0.1 → 10.0.0.3  rack-a  1000  2.5 %  24.0 µs  29.9 µs  1.20 µs         1/16  ·▅
22:13:26 UTC  2 paths  in all: 4000 sent, 25 lost (0.62 %)
";
        let shown = bare(&board.render(120, ROWS));
        assert!(shown == expected, "{shown}");
    }

    #[test]
    fn fits_every_width() {
        let mut board = Board::new();
        let mut suspect = to(3, 1000, 25);
        suspect.suspect = vec![Suspicion::LocalDrops];
        board.update(&[to(2, 1000, 0), suspect]);
        for width in [30, 50, 80, 100, 200] {
            let shown = bare(&board.render(width, ROWS));
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{width}:\n{shown}");
            assert!(shown.contains("loss"), "{width}:\n{shown}");
        }
        assert!(bare(&board.render(80, ROWS)).contains("local_drops"));
    }

    #[test]
    fn what_does_not_fit_is_the_best() {
        let mut board = Board::new();
        let many: Vec<Summary> = (1..=100).map(|last| to(last, 1000, u64::from(last == 77) * 10)).collect();
        board.update(&many);
        let shown = bare(&board.render(100, 5));
        assert!(shown.lines().nth(1).unwrap().contains("10.0.0.77"), "{shown}");
        assert!(shown.contains("and 95 more paths, without loss"), "{shown}");
        assert_eq!(shown.lines().count(), 1 + 5 + 2);
    }

    #[test]
    fn an_interval_without_a_path_leaves_a_gap() {
        let mut board = Board::new();
        board.update(&[to(2, 1000, 0), to(3, 1000, 0)]);
        board.update(&[to(2, 1000, 0)]);
        board.update(&[to(2, 1000, 0), to(3, 1000, 1000)]);
        assert!(bare(&board.render(120, ROWS)).contains("· █"));
    }

    #[test]
    fn methods_are_told_apart_where_there_are_several() {
        let mut old = to(2, 1000, 0);
        let mut path = (*old.path).clone();
        path.method = MethodKind::Llama;
        old.path = Arc::new(path);
        let mut board = Board::new();
        board.update(&[to(2, 1000, 0), to(3, 1000, 0)]);
        assert!(!bare(&board.render(120, ROWS)).contains("method"));
        board.update(&[old]);
        let shown = bare(&board.render(120, ROWS));
        assert!(shown.contains("method") && shown.contains("llama") && shown.contains("udp"), "{shown}");
    }

    #[test]
    fn a_path_that_is_not_probed_any_more_goes() {
        let mut board = Board::new();
        let [gone, stays] = [to(2, 1000, 0), to(3, 1000, 0)];
        board.update(&[gone, stays.clone()]);
        let path = Path { tags: Arc::new([("rack".to_owned(), "z".to_owned())].into()), ..(*stays.path).clone() };
        board.keep(std::slice::from_ref(&path));
        board.update(&[Summary { path: Arc::new(path), ..stays }]);
        let shown = bare(&board.render(120, ROWS));
        assert!(!shown.contains("10.0.0.2") && shown.contains("10.0.0.3") && shown.contains("rack=z"), "{shown}");
        assert!(shown.contains("1 path "), "{shown}");
    }

    #[test]
    fn lines_where_there_is_no_terminal() {
        let mut s = to(2, 1000, 25);
        s.suspect = vec![Suspicion::NotSent];
        assert_eq!(
            plain(&[s]),
            "22:13:26Z 10.0.0.1 > 10.0.0.2 group=rack-a method=udp dscp=0 sent=1000 loss=2.500% rtt_p50=0.024ms rtt_p99=0.030ms ipdv=0.001ms lossy_flows=1/16 suspect=not_sent\n"
        );
    }
}
