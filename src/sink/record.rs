//! A summary as people's tools see it: the JSON object of one summary, names and units included.
//!
//! The one place that maps [`Summary`] to JSON; `docs/outputs.md` documents it, and a test compares
//! the two. Read [`SummaryRecord`]. Line protocol has its own mapping in
//! [`influx`](super::influx), since its names are upstream's.

use super::calendar::rfc3339;
use crate::probe::shape::MethodKind;
use crate::summary::{Extremes, FlowSummary, Statistics, Summary, Suspicion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub use super::parsed::{OwnedRecord, ParseError, parse};

/// One summary, ready to be serialised. Times in milliseconds, counts in probes.
///
/// `sent` = `replied` + `lost`; `corrupted` to `unreachable` are parts of `lost`, `send_failed` is
/// not part of `sent`. Values that were not measured are `null`.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryRecord<'a> {
    /// When the interval began, RFC 3339 with nanoseconds, UTC.
    pub start: String,
    /// When the interval ended.
    pub end: String,
    /// Number of the interval since the collector's start.
    pub interval: u32,
    /// Source address.
    pub src_ip: IpAddr,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// How it was probed.
    pub method: &'static str,
    /// Class, 0 to 63.
    pub dscp: u8,
    /// Bytes of payload, where the configuration names several sizes.
    pub size: Option<u16>,
    /// The target's group.
    pub group: &'a str,
    /// The target's tags.
    pub tags: &'a BTreeMap<String, String>,
    /// Probes that left this host.
    pub sent: u64,
    /// Probes replied to within the loss threshold.
    pub replied: u64,
    /// Of `replied`: by a SYN-ACK.
    pub syn_acks: u64,
    /// Of `replied`: by a RST.
    pub resets: u64,
    /// Probes that left and brought no reply within the loss threshold.
    pub lost: u64,
    /// 100 · `lost` / `sent`; 0 when nothing was sent.
    pub loss_percent: f64,
    /// Of `lost`: known to be lost on the way to the reflector.
    pub lost_forward: u64,
    /// Of `lost`: known to be lost on the way back.
    pub lost_reverse: u64,
    /// Of `lost`: their reply came in time with a changed payload.
    pub corrupted: u64,
    /// Of `lost`: answered by ICMP port unreachable.
    pub refused: u64,
    /// Of `lost`: answered by an ICMP error that says forbidden.
    pub prohibited: u64,
    /// Of `lost`: answered by ICMP time exceeded.
    pub time_exceeded: u64,
    /// Of `lost`: larger than what a link carries.
    pub too_big: u64,
    /// Of `lost`: answered by another ICMP error.
    pub unreachable: u64,
    /// Replies after the loss threshold; their probes are in `lost`.
    pub late: u64,
    /// Replies beyond a probe's first.
    pub duplicates: u64,
    /// Replies overtaken by a later probe's reply.
    pub reordered: u64,
    /// Probes the kernel did not take.
    pub send_failed: u64,
    /// Probes that were due and not sent in time.
    pub not_sent: u64,
    /// Replies without a round trip because a clock stepped.
    pub clock_stepped: u64,
    /// Replies without a round trip because the transmit stamp never came.
    pub stamps_missing: u64,
    /// Of `replied`: the reflector says which class reached it.
    pub class_reports: u64,
    /// Of `replied`: the probe's DSCP was changed on the way to the reflector.
    pub dscp_changed_forward: u64,
    /// Of `replied`: the reply's DSCP was changed on the way back.
    pub dscp_changed_reverse: u64,
    /// Of `replied`: came back in another class; which way changed it is not known.
    pub dscp_changed_either: u64,
    /// The last DSCP that reached the reflector in place of `dscp`.
    pub dscp_seen_forward: Option<u8>,
    /// The last DSCP that came back in place of the one the reply left with.
    pub dscp_seen_reverse: Option<u8>,
    /// The last DSCP of `dscp_changed_either`.
    pub dscp_seen_either: Option<u8>,
    /// Of `replied`: the probe was marked as having met congestion.
    pub ecn_marked_forward: u64,
    /// Of `replied`: the reply was.
    pub ecn_marked_reverse: u64,
    /// The MTU last told with a probe that was too big, bytes.
    pub mtu: Option<u32>,
    /// Datagrams dropped by the prober's own sockets.
    pub local_drops: u64,
    /// Round-trip time without the reflector's residence time.
    pub rtt_ms: Option<StatisticsRecord>,
    /// Absolute difference of successive round trips of a flow.
    pub ipdv_ms: Option<ExtremesRecord>,
    /// Forward one-way delay; signed, true as far as the clocks agree.
    pub owd_forward_ms: Option<ExtremesRecord>,
    /// Reverse one-way delay.
    pub owd_reverse_ms: Option<ExtremesRecord>,
    /// Time the probes spent in the reflector.
    pub residence_ms: Option<ExtremesRecord>,
    /// How late the prober sent.
    pub lateness_ms: Option<StatisticsRecord>,
    /// Flows of the path.
    pub flows: u32,
    /// Flows that lost at least one probe.
    pub flows_with_loss: u32,
    /// The worst flows, most lost first.
    pub worst_flows: Vec<FlowRecord>,
    /// The node that sent the last ICMP error.
    pub reporter: Option<IpAddr>,
    /// Why the numbers may be the prober's own doing; empty when sound.
    pub suspect: Vec<&'static str>,
    /// Where the round trips' timestamps were taken.
    pub stamps: StampsRecord,
    /// Round trips by value: (ns, count), ascending; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_histogram: Option<&'a [(u64, u64)]>,
}

/// Statistics of delays, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatisticsRecord {
    /// Size of the sample.
    pub samples: u64,
    /// Smallest.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// Mean and extremes of delays, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExtremesRecord {
    /// Size of the sample.
    pub samples: u64,
    /// Smallest.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

/// One flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Local address and port.
    pub source: SocketAddr,
    /// Remote address and port.
    pub target: SocketAddr,
    /// Class, 0 to 63.
    pub dscp: u8,
    /// Probes sent.
    pub sent: u64,
    /// Probes that brought no reply.
    pub lost: u64,
    /// 100 · `lost` / `sent`; 0 when nothing was sent.
    pub loss_percent: f64,
    /// Of `lost`: forward, where known.
    pub lost_forward: u64,
    /// Of `lost`: reverse, where known.
    pub lost_reverse: u64,
    /// Probes whose DSCP was changed on the way to the reflector.
    #[serde(default)]
    pub dscp_changed_forward: u64,
    /// Replies whose DSCP was changed on the way back.
    #[serde(default)]
    pub dscp_changed_reverse: u64,
    /// Round-trip time.
    pub rtt_ms: Option<ExtremesRecord>,
}

/// Where timestamps were taken: `hardware`, `kernel` or `user`; the farthest from the wire when mixed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StampsRecord {
    /// Of sending.
    pub sent_by: Option<String>,
    /// Of receiving.
    pub received_by: Option<String>,
}

/// Milliseconds to the nanosecond, so that no tail of binary digits is written.
fn ms(ns: f64) -> f64 {
    ns.round() / 1e6
}

impl From<&Statistics> for StatisticsRecord {
    fn from(s: &Statistics) -> StatisticsRecord {
        let [min, p50, p90, p99, p999, max] = [s.min, s.p50, s.p90, s.p99, s.p999, s.max].map(|ns| ms(ns as f64));
        StatisticsRecord { samples: s.samples, min, mean: ms(s.mean), p50, p90, p99, p999, max }
    }
}

impl From<&Extremes> for ExtremesRecord {
    fn from(e: &Extremes) -> ExtremesRecord {
        ExtremesRecord { samples: e.samples, min: ms(e.min as f64), mean: ms(e.mean), max: ms(e.max as f64) }
    }
}

impl StampsRecord {
    /// Where the stamps of a summary's round trips were taken.
    pub fn of(summary: &Summary) -> StampsRecord {
        StampsRecord {
            sent_by: summary.sent_by.map(|source| source.to_string()),
            received_by: summary.received_by.map(|source| source.to_string()),
        }
    }
}

impl From<&FlowSummary> for FlowRecord {
    fn from(flow: &FlowSummary) -> FlowRecord {
        FlowRecord {
            source: flow.source,
            target: flow.target,
            dscp: flow.dscp.0,
            sent: flow.sent,
            lost: flow.lost,
            loss_percent: flow.loss_percent(),
            lost_forward: flow.lost_forward,
            lost_reverse: flow.lost_reverse,
            dscp_changed_forward: flow.dscp_changed_forward,
            dscp_changed_reverse: flow.dscp_changed_reverse,
            rtt_ms: flow.rtt.as_ref().map(ExtremesRecord::from),
        }
    }
}

/// The method of a name; `None` when this version has none of it.
pub(crate) fn method_of(name: &str) -> Option<MethodKind> {
    MethodKind::ALL.into_iter().find(|method| method.name() == name)
}

/// The suspicion of a name; `None` when this version has none of it.
pub(crate) fn suspicion_of(name: &str) -> Option<Suspicion> {
    Suspicion::ALL.into_iter().find(|suspicion| suspicion_name(*suspicion) == name)
}

/// The suspicion's name in every output.
pub fn suspicion_name(suspicion: Suspicion) -> &'static str {
    match suspicion {
        Suspicion::LocalDrops => "local_drops",
        Suspicion::NotSent => "not_sent",
        Suspicion::StampsLost => "stamps_lost",
        Suspicion::ClockStep => "clock_step",
        Suspicion::TallyDropped => "tally_dropped",
    }
}

impl<'a> From<&'a Summary> for SummaryRecord<'a> {
    fn from(s: &'a Summary) -> SummaryRecord<'a> {
        SummaryRecord {
            start: rfc3339(s.start),
            end: rfc3339(s.end),
            interval: s.interval,
            src_ip: s.path.src,
            dst_ip: s.path.dst,
            method: s.path.method.name(),
            dscp: s.path.dscp.0,
            size: s.path.size,
            group: &s.path.group,
            tags: &s.path.tags,
            sent: s.counts.left(),
            replied: s.counts.replied,
            syn_acks: s.counts.syn_acks,
            resets: s.counts.resets,
            lost: s.counts.unanswered(),
            loss_percent: s.counts.loss_percent(),
            lost_forward: s.counts.lost_forward,
            lost_reverse: s.counts.lost_reverse,
            corrupted: s.counts.corrupted,
            refused: s.counts.refused,
            prohibited: s.counts.prohibited,
            time_exceeded: s.counts.time_exceeded,
            too_big: s.counts.too_big,
            unreachable: s.counts.unreachable,
            late: s.counts.late,
            duplicates: s.counts.duplicates,
            reordered: s.counts.reordered,
            send_failed: s.counts.send_failed,
            not_sent: s.counts.not_sent,
            clock_stepped: s.counts.clock_stepped,
            stamps_missing: s.counts.stamps_missing,
            class_reports: s.counts.class_reports,
            dscp_changed_forward: s.counts.dscp_changed_forward,
            dscp_changed_reverse: s.counts.dscp_changed_reverse,
            dscp_changed_either: s.counts.dscp_changed_either,
            dscp_seen_forward: s.seen.dscp_forward.map(|dscp| dscp.0),
            dscp_seen_reverse: s.seen.dscp_reverse.map(|dscp| dscp.0),
            dscp_seen_either: s.seen.dscp_either.map(|dscp| dscp.0),
            ecn_marked_forward: s.counts.ecn_marked_forward,
            ecn_marked_reverse: s.counts.ecn_marked_reverse,
            mtu: s.seen.mtu,
            local_drops: s.local_drops,
            rtt_ms: s.rtt.as_ref().map(StatisticsRecord::from),
            ipdv_ms: s.ipdv.as_ref().map(ExtremesRecord::from),
            owd_forward_ms: s.owd_forward.as_ref().map(ExtremesRecord::from),
            owd_reverse_ms: s.owd_reverse.as_ref().map(ExtremesRecord::from),
            residence_ms: s.residence.as_ref().map(ExtremesRecord::from),
            lateness_ms: s.lateness.as_ref().map(StatisticsRecord::from),
            flows: s.flows,
            flows_with_loss: s.flows_with_loss,
            worst_flows: s.worst_flows.iter().map(FlowRecord::from).collect(),
            reporter: s.reporter,
            suspect: s.suspect.iter().map(|&reason| suspicion_name(reason)).collect(),
            stamps: StampsRecord::of(s),
            rtt_histogram: None,
        }
    }
}

impl<'a> SummaryRecord<'a> {
    /// The record with all that is needed to make the summary again: see [`parse`].
    pub fn with_histogram(summary: &'a Summary) -> SummaryRecord<'a> {
        SummaryRecord { rtt_histogram: Some(&summary.rtt_histogram), ..SummaryRecord::from(summary) }
    }
}

/// Appends the summary's JSON object and a newline.
pub(super) fn json_line(summary: &Summary, out: &mut Vec<u8>) {
    // no map with other keys than strings, and a Vec takes every byte: it cannot fail; a float that
    // is not finite becomes null
    let _ = serde_json::to_writer(&mut *out, &SummaryRecord::from(summary));
    out.push(b'\n');
}

/// Summaries for the tests of this folder.
#[cfg(test)]
pub(crate) mod samples {
    use crate::probe::shape::{Dscp, MethodKind};
    use crate::summary::*;
    use crate::time::{StampSource, Wall};
    use std::sync::Arc;

    pub fn path(tags: &[(&str, &str)]) -> Arc<Path> {
        Arc::new(Path {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: None,
            group: "far".into(),
            tags: Arc::new(tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        })
    }

    /// Names in the first column of the tables of one section of `docs/outputs.md`.
    pub fn documented(section: &str) -> Vec<String> {
        let text = include_str!("../../docs/outputs.md");
        let body = text.split(&format!("\n## {section}\n")).nth(1).expect("section");
        let body = body.split("\n## ").next().unwrap_or_default();
        body.lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|row| row.split(" | ").next().unwrap_or_default().split(", "))
            .map(|name| name.trim_matches('`').to_string())
            .collect()
    }

    /// Every value different and present.
    pub fn full() -> Summary {
        let extremes = |n: i64| Some(Extremes { samples: 2, mean: n as f64 * 1e6, min: -n, max: n * 2_000_000 });
        let statistics = Statistics {
            samples: 90,
            mean: 1_500_000.0,
            min: 1_000_000,
            p50: 1_400_000,
            p90: 1_900_000,
            p99: 2_000_000,
            p999: 2_100_000,
            max: 2_250_000,
        };
        Summary {
            path: path(&[("dst_metro", "fra")]),
            interval: 7,
            start: Wall(1_709_209_800_000_000_000),
            end: Wall(1_709_209_830_000_000_001),
            counts: Counts {
                sent: 101,
                replied: 90,
                syn_acks: 60,
                resets: 30,
                lost: 3,
                lost_forward: 2,
                lost_reverse: 1,
                late: 12,
                duplicates: 13,
                reordered: 14,
                corrupted: 1,
                refused: 1,
                prohibited: 1,
                time_exceeded: 1,
                too_big: 1,
                unreachable: 2,
                send_failed: 1,
                not_sent: 15,
                clock_stepped: 16,
                stamps_missing: 17,
                class_reports: 24,
                dscp_changed_forward: 19,
                dscp_changed_reverse: 20,
                dscp_changed_either: 21,
                ecn_marked_forward: 22,
                ecn_marked_reverse: 23,
            },
            rtt: Some(statistics),
            ipdv: extremes(1),
            owd_forward: extremes(3),
            owd_reverse: extremes(5),
            residence: extremes(7),
            rtt_histogram: vec![(1_000_000, 90)],
            sent_by: Some(StampSource::Kernel),
            received_by: Some(StampSource::User),
            lateness: Some(Statistics { p99: 50_000, max: 60_000, ..statistics }),
            local_drops: 18,
            flows: 16,
            flows_with_loss: 4,
            worst_flows: vec![FlowSummary {
                source: ([10, 0, 0, 1], 40_000).into(),
                target: ([10, 0, 0, 2], 8100).into(),
                dscp: Dscp(46),
                sent: 8,
                lost: 4,
                lost_forward: 2,
                lost_reverse: 1,
                dscp_changed_forward: 3,
                dscp_changed_reverse: 5,
                rtt: None,
            }],
            reporter: Some([192, 0, 2, 9].into()),
            seen: Seen {
                dscp_forward: Some(Dscp(0)),
                dscp_reverse: Some(Dscp(8)),
                dscp_either: Some(Dscp(10)),
                mtu: Some(1400),
            },
            suspect: vec![Suspicion::LocalDrops, Suspicion::NotSent],
        }
    }

    /// Nothing came back.
    pub fn silent() -> Summary {
        Summary {
            path: path(&[]),
            counts: Counts { sent: 10, lost: 10, ..Counts::default() },
            rtt: None,
            ipdv: None,
            owd_forward: None,
            owd_reverse: None,
            residence: None,
            rtt_histogram: vec![],
            sent_by: None,
            received_by: None,
            lateness: None,
            worst_flows: vec![],
            reporter: None,
            seen: Seen::default(),
            suspect: vec![],
            ..full()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(summary: &Summary) -> Value {
        let mut line = Vec::new();
        json_line(summary, &mut line);
        assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).expect("JSON")
    }

    #[test]
    fn a_full_summary() {
        let mut expected: Value = serde_json::from_str(
            r#"{
                "start": "2024-02-29T12:30:00.000000000Z", "end": "2024-02-29T12:30:30.000000001Z", "interval": 7,
                "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "method": "udp", "dscp": 46, "size": null, "group": "far",
                "tags": {"dst_metro": "fra"},
                "sent": 100, "replied": 90, "syn_acks": 60, "resets": 30, "lost": 10, "loss_percent": 10.0, "lost_forward": 2, "lost_reverse": 1,
                "corrupted": 1, "refused": 1, "prohibited": 1, "time_exceeded": 1, "too_big": 1, "unreachable": 2, "late": 12, "duplicates": 13, "reordered": 14, "send_failed": 1,
                "not_sent": 15, "clock_stepped": 16, "stamps_missing": 17, "local_drops": 18,
                "class_reports": 24, "dscp_changed_forward": 19, "dscp_changed_reverse": 20, "dscp_changed_either": 21,
                "dscp_seen_forward": 0, "dscp_seen_reverse": 8, "dscp_seen_either": 10,
                "ecn_marked_forward": 22, "ecn_marked_reverse": 23, "mtu": 1400,
                "flows": 16, "flows_with_loss": 4,
                "worst_flows": [{
                    "source": "10.0.0.1:40000", "target": "10.0.0.2:8100", "dscp": 46, "sent": 8, "lost": 4,
                    "loss_percent": 50.0, "lost_forward": 2, "lost_reverse": 1,
                    "dscp_changed_forward": 3, "dscp_changed_reverse": 5, "rtt_ms": null
                }],
                "reporter": "192.0.2.9",
                "suspect": ["local_drops", "not_sent"],
                "stamps": {"sent_by": "kernel", "received_by": "user"}
            }"#,
        )
        .expect("JSON");
        let extremes = |n: f64| json!({"samples": 2, "min": -n / 1e6, "mean": n, "max": n * 2.0});
        expected["ipdv_ms"] = extremes(1.0);
        expected["owd_forward_ms"] = extremes(3.0);
        expected["owd_reverse_ms"] = extremes(5.0);
        expected["residence_ms"] = extremes(7.0);
        expected["rtt_ms"] = json!({"samples": 90, "min": 1.0, "mean": 1.5, "p50": 1.4, "p90": 1.9, "p99": 2.0, "p999": 2.1, "max": 2.25});
        expected["lateness_ms"] = expected["rtt_ms"].clone();
        expected["lateness_ms"]["p99"] = json!(0.05);
        expected["lateness_ms"]["max"] = json!(0.06);
        assert_eq!(object(&samples::full()), expected);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let value = object(&samples::silent());
        for key in ["rtt_ms", "ipdv_ms", "owd_forward_ms", "owd_reverse_ms", "residence_ms", "lateness_ms"] {
            assert_eq!(value.get(key), Some(&Value::Null), "{key}");
        }
        assert_eq!(value["loss_percent"], 100.0);
        for key in ["reporter", "dscp_seen_forward", "dscp_seen_reverse", "dscp_seen_either", "mtu", "size"] {
            assert_eq!(value.get(key), Some(&Value::Null), "{key}");
        }
        assert_eq!(value["suspect"], json!([]));
        assert_eq!(value["stamps"], json!({"sent_by": null, "received_by": null}));
    }

    #[test]
    fn names_come_back() {
        // what is new does not compile here until it is listed
        let method = |method| match method {
            MethodKind::Udp => 0,
            MethodKind::Llama => 1,
            MethodKind::LlamaPython => 2,
            MethodKind::TcpSyn => 3,
            MethodKind::Icmp => 4,
        };
        let suspicion = |suspicion| match suspicion {
            Suspicion::LocalDrops => 0,
            Suspicion::NotSent => 1,
            Suspicion::StampsLost => 2,
            Suspicion::ClockStep => 3,
            Suspicion::TallyDropped => 4,
        };
        for (index, kind) in MethodKind::ALL.into_iter().enumerate() {
            assert_eq!((method(kind), method_of(kind.name())), (index, Some(kind)));
        }
        for (index, kind) in Suspicion::ALL.into_iter().enumerate() {
            assert_eq!((suspicion(kind), suspicion_of(suspicion_name(kind))), (index, Some(kind)));
        }
    }

    #[test]
    fn any_tag_fits_on_one_line() {
        let nasty = "line\nbreak \"quoted\" back\\slash \u{2028} \0";
        let summary = Summary { path: samples::path(&[("nasty", nasty)]), ..samples::full() };
        assert_eq!(object(&summary)["tags"]["nasty"], nasty);
    }

    #[test]
    fn the_documentation_names_every_key_and_no_other() {
        let mut keys = Vec::new();
        let value = object(&samples::full());
        for (key, value) in value.as_object().expect("object") {
            match value {
                Value::Object(inner) if key == "stamps" => {
                    keys.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
                }
                _ => keys.push(key.clone()),
            }
        }
        let flow = &value["worst_flows"][0];
        keys.extend(flow.as_object().expect("object").keys().map(|key| format!("worst_flows[].{key}")));
        let (mut keys, mut documented) = (keys, samples::documented("JSON lines"));
        keys.sort();
        documented.sort();
        assert_eq!(keys, documented);
    }
}
