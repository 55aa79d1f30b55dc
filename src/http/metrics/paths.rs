//! Metrics per path: counters since the start, and the latest interval.
//!
//! Responsible for adding intervals up per path and for the cap on series. Not responsible for flows: those never
//! become series. Read [`Paths`].
//!
//! A path's line is its labels, written once, and some 100 bytes of numbers; lines are made anew by whoever adds
//! an interval and are never changed then, so that a scrape reads them without holding that one up.

use super::page::{Labels, Page};
use super::tags::TagLabels;
use crate::summary::{Counts, Path, Summary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Paths that become series; [`SERIES_PER_PATH`] each.
pub const MOST_PATHS: usize = 10_000;
/// Series of a path.
pub const SERIES_PER_PATH: usize = 21;

/// What every path counts since it was first probed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    sent: u64,
    lost: u64,
    round_trips: u64,
    rtt_seconds: f64,
    /// As in [`RARE`].
    rare: [u64; RARE.len()],
}

/// What few paths ever count: metric, help, value of the label `way`, count.
type Rare = (&'static str, &'static str, &'static str, fn(&Counts) -> u64);

const CHANGED: &str =
    "Probes, replied to or quoted by an ICMP error, whose DSCP, or their replies', was changed on the way.";
const MARKED: &str =
    "Probes, replied to or quoted by an ICMP error, or their replies, marked as having met congestion.";
const RARE: [Rare; 7] = [
    ("llama_path_dscp_changed_total", CHANGED, "forward", |c| c.dscp_changed_forward),
    ("llama_path_dscp_changed_total", CHANGED, "reverse", |c| c.dscp_changed_reverse),
    ("llama_path_dscp_changed_total", CHANGED, "either", |c| c.dscp_changed_either),
    ("llama_path_ecn_marked_total", MARKED, "forward", |c| c.ecn_marked_forward),
    ("llama_path_ecn_marked_total", MARKED, "reverse", |c| c.ecn_marked_reverse),
    ("llama_path_corrupted_total", "Of the lost: the reply had a changed payload.", "", |c| c.corrupted),
    ("llama_path_too_big_total", "Of the lost: larger than what a link carries.", "", |c| c.too_big),
];

/// A path as of the latest interval.
#[derive(Debug)]
struct Line {
    path: Arc<Path>,
    labels: Arc<Labels>,
    totals: Totals,
    sent: u64,
    lost: u64,
    loss_ratio: f64,
    /// Smallest, median, 90th and 99th percentile, largest; NaN without round trips.
    rtt: [f64; 5],
    ipdv: f64,
    suspect: bool,
}

/// The values of the label `quantile`, as in [`Line::rtt`].
const QUANTILES: [&str; 5] = ["0", "0.5", "0.9", "0.99", "1"];

/// All paths, as of the latest interval.
#[derive(Debug, Default)]
struct Latest {
    lines: Vec<Line>,
    tags: TagLabels,
    omitted: usize,
}

/// The paths of a role: one adds intervals, others write pages.
#[derive(Debug)]
pub struct Paths {
    most: usize,
    latest: Mutex<Arc<Latest>>,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths::with_most(MOST_PATHS)
    }
}

fn seconds(ns: f64) -> f64 {
    ns / 1e9
}

impl Line {
    fn new(summary: &Summary, labels: Arc<Labels>, before: Totals) -> Line {
        let (sent, lost) = (summary.counts.left(), summary.counts.unanswered());
        let round_trips = summary.rtt.map_or(0, |rtt| rtt.samples);
        let rtt_sum = summary.rtt.map_or(0.0, |rtt| seconds(rtt.mean * rtt.samples as f64));
        let of_rtt = summary.rtt.map(|rtt| [rtt.min, rtt.p50, rtt.p90, rtt.p99, rtt.max]);
        Line {
            path: Arc::clone(&summary.path),
            labels,
            totals: Totals {
                sent: before.sent + sent,
                lost: before.lost + lost,
                round_trips: before.round_trips + round_trips,
                rtt_seconds: before.rtt_seconds + rtt_sum,
                rare: std::array::from_fn(|at| before.rare[at] + RARE[at].3(&summary.counts)),
            },
            sent,
            lost,
            loss_ratio: if sent == 0 { f64::NAN } else { lost as f64 / sent as f64 },
            rtt: of_rtt.map_or([f64::NAN; 5], |values| values.map(|ns| seconds(ns as f64))),
            ipdv: summary.ipdv.map_or(f64::NAN, |ipdv| seconds(ipdv.mean)),
            suspect: !summary.suspect.is_empty(),
        }
    }
}

fn labels(path: &Path, tags: &TagLabels) -> Labels {
    let fixed = Labels::of(&[
        ("src", &path.src.to_string()),
        ("dst", &path.dst.to_string()),
        ("method", path.method.name()),
        ("dscp", &path.dscp.0.to_string()),
        ("group", &path.group),
    ]);
    let fixed = match path.size {
        Some(size) => fixed.with("size", &size.to_string()),
        None => fixed,
    };
    path.tags.iter().fold(fixed, |labels, (name, value)| match tags.get(name) {
        Some(label) => labels.with(label, value),
        None => labels,
    })
}

impl Paths {
    /// At most `most` paths, the first ones of every interval.
    fn with_most(most: usize) -> Paths {
        Paths { most, latest: Mutex::default() }
    }

    fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over an interval's summaries, one per path. A path that is not among them is no longer shown, and
    /// counts from 0 when it comes back.
    pub fn add(&self, summaries: &[Summary]) {
        let before = self.latest();
        let shown = &summaries[..summaries.len().min(self.most)];
        // the same paths in the same order, but after a reload
        let same = |at: usize, path: &Arc<Path>| before.lines.get(at).filter(|line| Arc::ptr_eq(&line.path, path));
        let unchanged = shown.iter().enumerate().all(|(at, summary)| same(at, &summary.path).is_some());
        let (tags, known) = if unchanged {
            (before.tags.clone(), HashMap::new())
        } else {
            let names = shown.iter().flat_map(|summary| summary.path.tags.keys().map(String::as_str));
            let known = before.lines.iter().map(|line| (line.path.key(), line.totals));
            (TagLabels::of(names), known.collect())
        };
        let lines = shown.iter().enumerate().map(|(at, summary)| match same(at, &summary.path) {
            Some(line) if unchanged => Line::new(summary, Arc::clone(&line.labels), line.totals),
            _ => {
                let totals = known.get(&summary.path.key()).copied().unwrap_or_default();
                Line::new(summary, Arc::new(labels(&summary.path, &tags)), totals)
            }
        });
        let latest = Latest { lines: lines.collect(), tags, omitted: summaries.len() - shown.len() };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(latest);
    }

    /// Writes all paths.
    pub fn write(&self, page: &mut Page) {
        let latest = self.latest();
        page.gauge("llama_metrics_paths_omitted", "Paths of the latest interval beyond the cap on series.")
            .value(latest.omitted);
        if latest.lines.is_empty() {
            return;
        }
        let mut family = page.counter("llama_path_probes_sent_total", "Probes that left, in intervals closed.");
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.totals.sent));
        let mut family = page.counter("llama_path_probes_lost_total", "Of the probes sent: without a reply in time.");
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.totals.lost));
        let mut family = page.gauge("llama_path_sent", "Probes that left in the latest interval.");
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.sent));
        let mut family = page.gauge("llama_path_lost", "Probes of the latest interval without a reply in time.");
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.lost));
        let help = "Lost of sent in the latest interval; NaN when nothing was sent.";
        let mut family = page.gauge("llama_path_loss_ratio", help);
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.loss_ratio));
        let help = "Round-trip time: quantiles of the latest interval, sum and count since the start.";
        let mut family = page.summary("llama_path_rtt_seconds", help);
        for line in &latest.lines {
            let mut quantiles = [("", 0.0); QUANTILES.len()];
            for (slot, pair) in quantiles.iter_mut().zip(QUANTILES.into_iter().zip(line.rtt)) {
                *slot = pair;
            }
            family.summary(&line.labels, &quantiles, line.totals.rtt_seconds, line.totals.round_trips);
        }
        let help = "Mean absolute difference of successive round trips in the latest interval (RFC 3393).";
        let mut family = page.gauge("llama_path_ipdv_seconds", help);
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.ipdv));
        let mut first = 0;
        for family in RARE.chunk_by(|a, b| a.0 == b.0) {
            let mut out = page.counter(family[0].0, family[0].1);
            for line in &latest.lines {
                for (rare, count) in family.iter().zip(&line.totals.rare[first..]) {
                    let labels = Labels::clone(&line.labels);
                    out.put(&if rare.2.is_empty() { labels } else { labels.with("way", rare.2) }, *count);
                }
            }
            first += family.len();
        }
        let help = "1 when the latest interval may show the prober's own shortcomings.";
        let mut family = page.gauge("llama_path_suspect", help);
        latest.lines.iter().for_each(|line| _ = family.put(&line.labels, line.suspect));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::page::Format;
    use crate::probe::shape::{Dscp, MethodKind};
    use crate::summary::Statistics;
    use crate::time::Wall;

    fn path(last: u8, tags: &[(&str, &str)]) -> Arc<Path> {
        Arc::new(Path {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 1, last].into(),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: None,
            group: "far".into(),
            tags: Arc::new(tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        })
    }

    /// 100 probes left, `lost` of them brought nothing; round trips of `rtt_ns`, unless all were lost.
    fn summary(path: &Arc<Path>, lost: u64, rtt_ns: i64) -> Summary {
        let replied = 100 - lost;
        let rtt = Statistics {
            samples: replied,
            mean: rtt_ns as f64,
            min: rtt_ns,
            p50: rtt_ns,
            p90: rtt_ns,
            p99: rtt_ns,
            p999: rtt_ns,
            max: 2 * rtt_ns,
        };
        Summary {
            path: Arc::clone(path),
            interval: 0,
            start: Wall(0),
            end: Wall(1),
            counts: Counts { sent: 101, send_failed: 1, lost, replied, ..Counts::default() },
            rtt: (replied > 0).then_some(rtt),
            ipdv: None,
            owd_forward: None,
            owd_reverse: None,
            residence: None,
            rtt_histogram: Vec::new(),
            sent_by: None,
            received_by: None,
            lateness: None,
            local_drops: 0,
            flows: 1,
            flows_with_loss: 0,
            worst_flows: Vec::new(),
            reporter: None,
            seen: Default::default(),
            suspect: Vec::new(),
        }
    }

    fn page(paths: &Paths) -> String {
        let mut page = Page::new(Format::Text);
        paths.write(&mut page);
        page.finish()
    }

    /// The lines of one name, without their comments.
    fn lines<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))).collect()
    }

    #[test]
    fn counters_add_up_and_gauges_show_the_latest() {
        let (paths, a) = (Paths::default(), path(1, &[("rack", "r\"1\\\n")]));
        paths.add(&[summary(&a, 10, 2_000_000)]);
        paths.add(&[summary(&a, 100, 0)]);
        let page = page(&paths);
        let labels = r#"src="10.0.0.1",dst="10.0.1.1",method="udp",dscp="46",group="far",tag_rack="r\"1\\\n""#;
        for line in [
            format!("llama_path_probes_sent_total{{{labels}}} 200"),
            format!("llama_path_probes_lost_total{{{labels}}} 110"),
            format!("llama_path_sent{{{labels}}} 100"),
            format!("llama_path_lost{{{labels}}} 100"),
            format!("llama_path_loss_ratio{{{labels}}} 1"),
            format!("llama_path_rtt_seconds{{{labels},quantile=\"0.5\"}} NaN"),
            format!("llama_path_rtt_seconds_sum{{{labels}}} 0.18"),
            format!("llama_path_rtt_seconds_count{{{labels}}} 90"),
            format!("llama_path_ipdv_seconds{{{labels}}} NaN"),
            format!("llama_path_suspect{{{labels}}} 0"),
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\nin\n{page}");
        }
        let series = page.lines().filter(|line| line.starts_with("llama_path_")).count();
        assert_eq!(series, SERIES_PER_PATH);
    }

    #[test]
    fn a_path_keeps_its_counts_across_a_reload_and_loses_them_when_it_is_gone() {
        let (paths, a, b) = (Paths::default(), path(1, &[]), path(2, &[]));
        paths.add(&[summary(&a, 1, 1), summary(&b, 2, 1)]);
        // another order, new objects, new tags
        let (new_a, new_b) = (path(1, &[("x", "y")]), path(2, &[]));
        paths.add(&[summary(&new_b, 2, 1), summary(&new_a, 1, 1)]);
        let both = page(&paths);
        let lost = lines(&both, "llama_path_probes_lost_total");
        assert!(lost[0].contains("10.0.1.2") && lost[0].ends_with(" 4"), "{lost:?}");
        assert!(lost[1].contains("tag_x=\"y\"") && lost[1].ends_with(" 2"), "{lost:?}");
        paths.add(&[summary(&new_b, 0, 1)]);
        assert!(!page(&paths).contains("10.0.1.1\""));
        paths.add(&[summary(&new_b, 0, 1), summary(&new_a, 3, 1)]);
        let back = page(&paths);
        assert!(lines(&back, "llama_path_probes_lost_total")[1].ends_with(" 3"), "{back}");
    }

    #[test]
    fn what_is_rare_is_counted_by_way_and_size() {
        let (paths, a, b) = (Paths::default(), path(1, &[]), Path { size: Some(9000), ..(*path(1, &[])).clone() });
        let b = Arc::new(b);
        let changed = |path, dscp_changed_reverse, too_big| {
            let mut summary = summary(path, 0, 1);
            (summary.counts.dscp_changed_reverse, summary.counts.too_big) = (dscp_changed_reverse, too_big);
            summary
        };
        paths.add(&[changed(&a, 3, 0), changed(&b, 0, 7)]);
        paths.add(&[changed(&a, 2, 0), changed(&b, 0, 0)]);
        let shown = page(&paths);
        let changed = lines(&shown, "llama_path_dscp_changed_total");
        assert_eq!(changed.len(), 6);
        assert!(changed[1].ends_with("group=\"far\",way=\"reverse\"} 5"), "{changed:?}");
        let too_big = lines(&shown, "llama_path_too_big_total");
        assert!(too_big[0].ends_with("group=\"far\"} 0") && too_big[1].ends_with("size=\"9000\"} 7"), "{too_big:?}");
    }

    #[test]
    fn paths_beyond_the_cap_are_counted_and_not_shown() {
        let paths = Paths::with_most(2);
        assert_eq!(page(&paths).lines().last(), Some("llama_metrics_paths_omitted 0"));
        let all: Vec<Summary> = (0..5).map(|last| summary(&path(last, &[]), 0, 1)).collect();
        paths.add(&all);
        let page = page(&paths);
        assert!(page.contains("\nllama_metrics_paths_omitted 3\n"), "{page}");
        assert_eq!(lines(&page, "llama_path_sent").len(), 2);
        assert!(!page.contains("10.0.1.2\""));
    }
}
