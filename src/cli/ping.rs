//! The report of `llama ping`: from one accumulated summary to a screen of text.
//!
//! Ordered so that what matters stands last, right above the prompt: the prober's own health and the
//! verdict. Read [`Report`] first.

use super::chart;
use super::classes;
use super::layout::{self, BAD, DIM, DOUBT, GOOD, HEAD, Side, paint};
use super::steady::Second;
use super::units::{count, elapsed, percent, rate, time};
use super::values::dscp_name;
use super::verdict::{self, Asked, Grade, Verdict};
use crate::collector::seats::EchoPath;
use crate::probe::shape::{Dscp, MethodKind};
use crate::summary::{Extremes, FlowSummary, Statistics, Summary};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Flows listed at most.
const WORST: usize = 5;
/// Where text begins in a line that has a label.
const INDENT: usize = 12;

/// What a finished measurement is shown from.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The target as typed, without port.
    pub host: &'a str,
    /// The target.
    pub address: SocketAddr,
    /// Payloads of probes, bytes.
    pub sizes: &'a [u16],
    /// Probes per second.
    pub rate: f64,
    /// How long probes were sent.
    pub sending: Duration,
    /// How datagrams went in and out: `io_uring`, `mmsg`.
    pub io: &'a str,
    /// All intervals, classes and sizes, accumulated.
    pub summary: &'a Summary,
    /// All intervals of each class and size, in the order asked for.
    pub variants: &'a [Summary],
    /// All flows.
    pub flows: &'a [FlowSummary],
    /// How ICMP echoes went out, if that was how.
    pub echo: Option<EchoPath>,
    /// Probes and replies, interval by interval of a second.
    pub seconds: &'a [Second],
}

impl Report<'_> {
    /// What happened on the way.
    pub fn network(&self) -> Verdict {
        match self.variants {
            [] | [_] => self.verdict(self.summary, self.flows),
            several => {
                let mut all = Verdict { grade: Grade::Good, says: Vec::new() };
                if several.iter().all(|variant| variant.counts.left() > 0 && variant.counts.unanswered() == 0) {
                    all.says.push(format!("no loss in any of {} classes and sizes", several.len()));
                    return all;
                }
                for variant in several {
                    let Verdict { grade, says } = self.verdict(variant, &variant.worst_flows);
                    let told = if grade == Grade::Good { 1 } else { says.len() };
                    let name = classes::variant_name(variant, several);
                    all.says.extend(says.into_iter().take(told).map(|sentence| format!("{name}: {sentence}")));
                    all.grade = all.grade.max(grade);
                }
                all
            }
        }
    }

    fn verdict(&self, summary: &Summary, flows: &[FlowSummary]) -> Verdict {
        let asked = Asked {
            method: summary.path.method,
            port: self.address.port(),
            size: summary.path.size.or(self.sizes.first().copied()).unwrap_or(0),
            passes: self.passes(summary),
            reporter: summary.reporter,
            mtu: summary.seen.mtu,
            // of one class or size alone they are not known
            seconds: if self.variants.len() > 1 { &[] } else { self.seconds },
        };
        verdict::network(&asked, &summary.counts, flows)
    }

    /// The longest payload, shorter than this one's, of its class that loses less than half as much, beyond doubt.
    fn passes(&self, of: &Summary) -> Option<u16> {
        let loss = |summary: &Summary| verdict::loss_interval(summary.counts.unanswered(), summary.counts.left());
        let shorter = self.variants.iter().filter(|other| {
            other.path.dscp == of.path.dscp && other.path.size < of.path.size && loss(other).1 < loss(of).0 / 2.0
        });
        shorter.filter_map(|other| other.path.size).max()
    }

    /// Classes, each once.
    pub(super) fn classes(&self) -> Vec<Dscp> {
        let mut classes: Vec<Dscp> = self.variants.iter().map(|variant| variant.path.dscp).collect();
        classes.dedup();
        if classes.is_empty() { vec![self.summary.path.dscp] } else { classes }
    }
}

/// A method for people.
pub fn method_name(method: MethodKind) -> &'static str {
    match method {
        MethodKind::Udp => "STAMP over UDP",
        MethodKind::Llama => "older LLAMA (Go) over UDP",
        MethodKind::LlamaPython => "older LLAMA (Python) over UDP",
        MethodKind::TcpSyn => "TCP SYN",
        MethodKind::Icmp => "ICMP echo",
    }
}

/// The report, `width` characters wide, ending in a newline.
pub fn report(report: &Report<'_>, width: usize) -> String {
    let mut lines = header(report, width);
    lines.push(String::new());
    lines.extend(classes::table(report.variants));
    delays(report.summary, &mut lines);
    histogram(report.summary, width, &mut lines);
    if report.summary.counts.replied > 0 {
        worst(report.flows, &mut lines); // else none is worse than another
    }
    counts(report.summary, &mut lines);
    for (at, line) in classes::class_lines(report.variants).into_iter().enumerate() {
        lines.push(format!("{:INDENT$}{line}", if at == 0 { "classes" } else { "" }));
    }
    if let Some(stamps) = verdict::stamps(report.summary.sent_by, report.summary.received_by) {
        say("timestamps", &stamps, width, &mut lines);
    }
    say("prober", &verdict::prober(report.summary), width, &mut lines);
    say("network", &report.network(), width, &mut lines);
    lines.push(String::new());
    lines.join("\n")
}

/// `64`, `64 and 1400`, `64, 1400 and 9000`.
fn listed(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    match (words.pop(), words.join(", ")) {
        (Some(last), first) if first.is_empty() => last,
        (Some(last), first) => format!("{first} and {last}"),
        (None, _) => String::new(),
    }
}

fn header(report: &Report<'_>, width: usize) -> Vec<String> {
    let path = &report.summary.path;
    let address = match path.method {
        MethodKind::Icmp => path.dst.to_string(),
        _ => report.address.to_string(),
    };
    let what = if path.method == MethodKind::Icmp { "identifier" } else { "source port" };
    let ip = report.address.ip().to_string();
    let target = if report.host == ip { address } else { format!("{} ({address})", report.host) };
    // classes share source ports
    let ports: BTreeSet<u16> = report.flows.iter().map(|flow| flow.source.port()).collect();
    let ports = match (ports.first(), ports.last(), ports.len()) {
        (Some(one), _, 1) => format!(", {what} {one}"),
        (Some(low), Some(high), count) => format!(", {count} {what}s {low}–{high}"),
        _ => String::new(),
    };
    let counts = &report.summary.counts;
    let reached = match counts.not_sent {
        0 => rate(report.rate),
        _ => {
            let real = counts.left() as f64 / report.sending.as_secs_f64().max(1e-3);
            format!("{} of {} asked", rate(real.round()), rate(report.rate))
        }
    };
    let size = match path.method {
        MethodKind::TcpSyn => String::new(), // a SYN has one size
        _ => format!("{} bytes, ", listed(report.sizes.iter().map(u16::to_string))),
    };
    let how = format!(
        "{}, DSCP {}, {size}{reached} for {}, {}{}",
        method_name(path.method),
        listed(report.classes().into_iter().map(dscp_name)),
        elapsed(report.sending),
        report.io,
        report.echo.map(|echo| format!(", {echo}")).unwrap_or_default()
    );
    let mut lines = vec![format!("{}{ports}", paint(HEAD, &format!("{target} from {}", path.src)))];
    lines.extend(layout::wrap(&how, width.max(20)));
    lines
}

fn delays(summary: &Summary, lines: &mut Vec<String>) {
    const HEADS: [(&str, Side); 8] = [
        ("", Side::Left),
        ("min", Side::Right),
        ("mean", Side::Right),
        ("p50", Side::Right),
        ("p90", Side::Right),
        ("p99", Side::Right),
        ("p99.9", Side::Right),
        ("max", Side::Right),
    ];
    let full = |name: &str, s: &Statistics| {
        let mut row = vec![name.to_owned()];
        row.extend([s.min as f64, s.mean].map(time));
        row.extend([s.p50, s.p90, s.p99, s.p999, s.max].map(|ns| time(ns as f64)));
        row
    };
    let short = |name: &str, e: &Extremes| {
        let mut row = vec![name.to_owned(), time(e.min as f64), time(e.mean)];
        row.extend([""; 4].map(str::to_owned));
        row.push(time(e.max as f64));
        row
    };
    let mut rows = Vec::new();
    rows.extend(summary.rtt.as_ref().map(|s| full("round trip", s)));
    rows.extend(summary.ipdv.as_ref().map(|e| short("ipdv", e)));
    rows.extend(summary.residence.as_ref().filter(|e| e.max > 0).map(|e| short("residence", e)));
    if rows.is_empty() {
        return;
    }
    lines.extend(layout::columns(0, &HEADS, &rows));
    lines.push(String::new());
}

fn histogram(summary: &Summary, width: usize, lines: &mut Vec<String>) {
    let bins = chart::bins(&summary.rtt_histogram);
    if bins.is_empty() {
        return;
    }
    lines.extend(chart::draw(&bins, width));
    lines.push(String::new());
}

fn worst(flows: &[FlowSummary], lines: &mut Vec<String>) {
    if flows.len() < 2 {
        return;
    }
    let directed = flows.iter().any(|f| f.lost_forward + f.lost_reverse > 0);
    let classes = flows.iter().any(|f| f.dscp != flows[0].dscp);
    let mut heads = vec![
        (if flows.iter().any(|f| f.lost > 0) { "worst flows" } else { "slowest flows" }, Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("rtt mean", Side::Right),
        ("max", Side::Right),
    ];
    if directed {
        heads.push(("there/back", Side::Right));
    }
    if classes {
        heads.push(("class", Side::Left));
    }
    let row = |flow: &&FlowSummary| {
        let loss = if flow.sent == 0 { 0.0 } else { 100.0 * flow.lost as f64 / flow.sent as f64 };
        let (mean, max) = flow.rtt.map_or(("–".into(), "–".into()), |rtt| (time(rtt.mean), time(rtt.max as f64)));
        let mut row = vec![flow.source.to_string(), count(flow.sent), count(flow.lost), percent(loss), mean, max];
        if directed {
            row.push(format!("{}/{}", count(flow.lost_forward), count(flow.lost_reverse)));
        }
        if classes {
            row.push(classes::class_name(flow.dscp));
        }
        row
    };
    let order = verdict::worst_first(flows);
    let rows: Vec<Vec<String>> = order.iter().take(WORST).map(row).collect();
    let mut table = layout::columns(0, &heads, &rows).into_iter();
    lines.extend(table.next());
    for (flow, line) in order.iter().zip(table) {
        lines.push(if flow.lost > 0 { paint(BAD, &line) } else { line });
    }
    let left = &order[rows.len()..];
    if !left.is_empty() {
        let lossy = left.iter().filter(|f| f.lost > 0).count();
        let which = if lossy > 0 { format!("{lossy} of them with loss") } else { "without loss".to_owned() };
        lines.push(paint(DIM, &format!("and {} more, {which}", left.len())));
    }
    lines.push(String::new());
}

fn counts(summary: &Summary, lines: &mut Vec<String>) {
    let c = &summary.counts;
    let mut words = vec![format!("{} sent", count(c.left())), format!("{} replied", count(c.replied))];
    let lost = format!("{} lost", count(c.unanswered()));
    words.push(if c.unanswered() > 0 { paint(BAD, &lost) } else { lost });
    if c.lost_forward + c.lost_reverse > 0 {
        let unknown = c.lost.saturating_sub(c.lost_forward + c.lost_reverse);
        let rest = if unknown > 0 { format!(", {} unknown", count(unknown)) } else { String::new() };
        words.push(format!("({} there, {} back{rest})", count(c.lost_forward), count(c.lost_reverse)));
    }
    lines.push(format!("{:INDENT$}{}", "probes", words.join("  ")));
    if c.syn_acks + c.resets > 0 {
        let of =
            [(c.syn_acks, "SYN-ACK: the port is open"), (c.resets, "RST: the port is closed, or a filter says so")];
        let said: Vec<String> =
            of.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} by {what}", count(*n))).collect();
        lines.push(format!("{:INDENT$}{}", "answers", said.join(", ")));
    }
    // the ordinary three are always shown: that they are zero is news too
    let mut others: Vec<String> = [(c.duplicates, "duplicates"), (c.reordered, "reordered"), (c.late, "late")]
        .map(|(n, what)| format!("{} {what}", count(n)))
        .into();
    let rare = [
        (c.corrupted, "of the lost corrupted"),
        (c.too_big, "of the lost too big"),
        (c.refused, "of the lost refused"),
        (c.prohibited, "of the lost prohibited"),
        (c.time_exceeded, "of the lost with time exceeded"),
        (c.unreachable, "of the lost unreachable"),
        (c.send_failed, "not taken by the kernel"),
        (c.not_sent, "not sent in time"),
        (c.clock_stepped, "discarded for a clock step"),
        (c.stamps_missing, "without transmit stamp"),
    ];
    others.extend(rare.iter().filter(|(n, _)| *n > 0).map(|(n, what)| paint(DOUBT, &format!("{} {what}", count(*n)))));
    lines.push(format!("{:INDENT$}{}", "", others.join("  ")));
}

/// A verdict beside its label: the first sentence in the colour of its grade.
fn say(label: &str, verdict: &Verdict, width: usize, lines: &mut Vec<String>) {
    let style = match verdict.grade {
        Grade::Good => GOOD,
        Grade::Doubt => DOUBT,
        Grade::Bad => BAD,
    };
    let mut label = label;
    for (at, sentence) in verdict.says.iter().enumerate() {
        for line in layout::wrap(sentence, width.saturating_sub(INDENT).max(20)) {
            let text = if at == 0 { paint(style, &line) } else { line };
            lines.push(format!("{label:INDENT$}{text}"));
            label = "";
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::verdict::tests::flows;
    use crate::summary::{Counts, Path, Suspicion};
    use crate::time::{StampSource, Wall};
    use std::sync::Arc;

    /// 1000 probes, 30 lost on one flow, round trips of 20 to 30 µs.
    pub fn summary() -> Summary {
        let extremes = |mean: f64, max| Extremes { samples: 970, mean, min: 0, max };
        Summary {
            path: Arc::new(Path {
                src: [10, 0, 0, 1].into(),
                dst: [10, 0, 0, 2].into(),
                method: MethodKind::Udp,
                dscp: Dscp(46),
                size: None,
                group: "ping".into(),
                tags: Arc::default(),
            }),
            interval: 0,
            start: Wall(1_700_000_000_000_000_000),
            end: Wall(1_700_000_006_000_000_000),
            counts: Counts { sent: 992, replied: 962, lost: 30, lost_forward: 30, ..Counts::default() },
            rtt: Some(Statistics {
                samples: 962,
                mean: 24_500.0,
                min: 20_000,
                p50: 24_000,
                p90: 29_000,
                p99: 29_900,
                p999: 30_000,
                max: 30_000,
            }),
            ipdv: Some(extremes(1_200.0, 9_000)),
            owd_forward: None,
            owd_reverse: None,
            residence: Some(extremes(3_000.0, 12_000)),
            rtt_histogram: vec![(20_000, 400), (24_000, 300), (29_000, 262)],
            sent_by: Some(StampSource::Kernel),
            received_by: Some(StampSource::Kernel),
            lateness: Some(Statistics {
                samples: 992,
                mean: 5_000.0,
                min: 100,
                p50: 4_000,
                p90: 9_000,
                p99: 31_000,
                p999: 50_000,
                max: 90_000,
            }),
            local_drops: 0,
            flows: 16,
            flows_with_loss: 1,
            worst_flows: Vec::new(),
            reporter: None,
            seen: Default::default(),
            suspect: Vec::new(),
        }
    }

    pub fn flows_of_summary() -> Vec<FlowSummary> {
        let mut of = vec![(62, 0); 16];
        of[3] = (62, 30);
        let mut flows = flows(&of);
        flows[3].lost_forward = 30;
        for flow in &mut flows {
            flow.rtt = Some(Extremes { samples: 62, mean: 24_500.0, min: 20_000, max: 30_000 });
        }
        flows
    }

    pub fn report_of<'a>(summary: &'a Summary, flows: &'a [FlowSummary]) -> Report<'a> {
        Report {
            host: "web1",
            address: ([10, 0, 0, 2], 8100).into(),
            sizes: &[44],
            rate: 200.0,
            sending: Duration::from_secs(5),
            io: "io_uring",
            summary,
            variants: &[],
            flows,
            echo: None,
            seconds: &[],
        }
    }

    fn shown(summary: &Summary, flows: &[FlowSummary]) -> String {
        anstream::adapter::strip_str(&report(&report_of(summary, flows), 80)).to_string()
    }

    #[test]
    fn one_screen_names_the_bad_flow() {
        let expected = "\
web1 (10.0.0.2:8100) from 10.0.0.1, 16 source ports 40001–40016
STAMP over UDP, DSCP 46 (EF), 44 bytes, 200/s for 5.0 s, io_uring

                min     mean      p50      p90      p99    p99.9      max
round trip  20.0 µs  24.5 µs  24.0 µs  29.0 µs  29.9 µs  30.0 µs  30.0 µs
ipdv           0 ns  1.20 µs                                      9.00 µs
residence      0 ns  3.00 µs                                      12.0 µs

20 – 22 µs  ████████████████████████████████████████  400    41.6 %
22 – 24 µs                                              0    41.6 %
24 – 26 µs  ██████████████████████████████            300    72.8 %
26 – 28 µs                                              0    72.8 %
28 – 30 µs  ██████████████████████████▎               262     100 %

worst flows     sent  lost    loss  rtt mean      max  there/back
10.0.0.1:40004    62    30  48.4 %   24.5 µs  30.0 µs        30/0
10.0.0.1:40001    62     0     0 %   24.5 µs  30.0 µs         0/0
10.0.0.1:40002    62     0     0 %   24.5 µs  30.0 µs         0/0
10.0.0.1:40003    62     0     0 %   24.5 µs  30.0 µs         0/0
10.0.0.1:40005    62     0     0 %   24.5 µs  30.0 µs         0/0
and 11 more, without loss

probes      992 sent  962 replied  30 lost  (30 there, 0 back)
            0 duplicates  0 reordered  0 late
timestamps  T1 kernel, T4 kernel
prober      sound: no local drops, every probe due was sent
            probes left 4.00 µs after they were due (median), p99 31.0 µs, max
            90.0 µs
network     3.0 % lost (95 % sure: 2.1 % to 4.3 %)
            1 of 16 flows loses 48.4 %, the other 15 are clean: one path of
            several is bad, not the whole link
            to repeat the worst flow: --source-port 40004 --source-ports 1
            lost on the way there: 30, none on the way back
";
        let shown = shown(&summary(), &flows_of_summary());
        assert!(shown == expected, "{shown}");
    }

    #[test]
    fn a_prober_that_fell_short_says_so_and_what_to_do() {
        let mut summary = summary();
        summary.suspect = vec![Suspicion::LocalDrops, Suspicion::NotSent];
        summary.local_drops = 12_345;
        summary.counts.not_sent = 7;
        let shown = shown(&summary, &flows_of_summary());
        for part in ["SUSPECT", "dropped 12 345", "net.core.rmem_max", "7 probes were due", "7 not sent in time"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }

    #[test]
    fn nothing_came_back() {
        let mut summary = summary();
        summary.counts = Counts { sent: 992, lost: 992, ..Counts::default() };
        (summary.rtt, summary.ipdv, summary.residence, summary.sent_by, summary.received_by) =
            (None, None, None, None, None);
        summary.rtt_histogram.clear();
        let shown = shown(&summary, &flows(&[(62, 62); 16]));
        assert!(shown.contains("nothing came back on any of 16 flows"), "{shown}");
        assert!(!shown.contains("round trip "), "{shown}");
    }
}
