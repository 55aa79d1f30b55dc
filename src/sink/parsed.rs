//! The way back: from the JSON object of a summary to the summary.
//!
//! Responsible for taking what another collector wrote, of this version or another: keys that are not known
//! are ignored, values that cannot be are refused. Read [`parse`] first; the names are those of
//! [`record`](super::record).
//!
//! Counts, texts, addresses and times come back exactly. Delays come back to the nanosecond as long as they
//! are below 13 days (2^50 ns): they are written as milliseconds, in which JSON's numbers have 53 bits. A
//! mean comes back rounded to the nanosecond, as it is written. The histogram comes back where it was
//! asked for.

use super::calendar::parse_rfc3339;
use super::record::{ExtremesRecord, FlowRecord, StampsRecord, StatisticsRecord, method_of, suspicion_of};
use crate::probe::shape::Dscp;
use crate::summary::{Counts, Extremes, FlowSummary, Path, Seen, Statistics, Summary};
use crate::time::{StampSource, Wall};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// No count is larger: JSON's numbers are exact up to here, and sums of many do not overflow.
const MOST: u64 = 1 << 53;

/// Why an object is no summary.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON, or a key is missing or of another kind.
    #[error("not a summary: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that no summary has.
    #[error("not a summary: {key}: {value} is {wrong}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

/// A summary's JSON object as read, before its values are looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct OwnedRecord {
    /// The number it has in its collector's API; 0 elsewhere.
    #[serde(default)]
    pub sequence: u64,
    start: String,
    end: String,
    interval: u32,
    src_ip: IpAddr,
    dst_ip: IpAddr,
    method: String,
    dscp: u8,
    #[serde(default)]
    size: Option<u16>,
    group: String,
    tags: BTreeMap<String, String>,
    sent: u64,
    replied: u64,
    // what has a default here is not in the records of every version
    #[serde(default)]
    syn_acks: u64,
    #[serde(default)]
    resets: u64,
    lost: u64,
    lost_forward: u64,
    lost_reverse: u64,
    refused: u64,
    #[serde(default)]
    corrupted: u64,
    #[serde(default)]
    prohibited: u64,
    #[serde(default)]
    time_exceeded: u64,
    #[serde(default)]
    too_big: u64,
    unreachable: u64,
    late: u64,
    duplicates: u64,
    reordered: u64,
    send_failed: u64,
    not_sent: u64,
    clock_stepped: u64,
    stamps_missing: u64,
    #[serde(default)]
    class_reports: u64,
    #[serde(default)]
    dscp_changed_forward: u64,
    #[serde(default)]
    dscp_changed_reverse: u64,
    #[serde(default)]
    dscp_changed_either: u64,
    #[serde(default)]
    dscp_seen_forward: Option<u8>,
    #[serde(default)]
    dscp_seen_reverse: Option<u8>,
    #[serde(default)]
    dscp_seen_either: Option<u8>,
    #[serde(default)]
    ecn_marked_forward: u64,
    #[serde(default)]
    ecn_marked_reverse: u64,
    #[serde(default)]
    mtu: Option<u32>,
    local_drops: u64,
    rtt_ms: Option<StatisticsRecord>,
    ipdv_ms: Option<ExtremesRecord>,
    owd_forward_ms: Option<ExtremesRecord>,
    owd_reverse_ms: Option<ExtremesRecord>,
    residence_ms: Option<ExtremesRecord>,
    lateness_ms: Option<StatisticsRecord>,
    flows: u32,
    flows_with_loss: u32,
    worst_flows: Vec<FlowRecord>,
    #[serde(default)]
    reporter: Option<IpAddr>,
    suspect: Vec<String>,
    stamps: StampsRecord,
    #[serde(default)]
    rtt_histogram: Vec<(u64, u64)>,
}

/// One summary from its JSON object.
///
/// # Errors
/// What it is not JSON, or which key has a value that no summary has.
pub fn parse(object: &[u8]) -> Result<Summary, ParseError> {
    serde_json::from_slice::<OwnedRecord>(object)?.try_into()
}

fn wrong(key: &'static str, value: impl ToString, wrong: &'static str) -> ParseError {
    ParseError::Value { key, value: value.to_string(), wrong }
}

fn instant(key: &'static str, text: &str) -> Result<Wall, ParseError> {
    parse_rfc3339(text).ok_or_else(|| wrong(key, text, "no time like 2024-02-29T12:30:00Z"))
}

fn class(key: &'static str, dscp: u8) -> Result<Dscp, ParseError> {
    if dscp < 64 { Ok(Dscp(dscp)) } else { Err(wrong(key, dscp, "above 63")) }
}

fn stamps(key: &'static str, text: Option<String>) -> Result<Option<StampSource>, ParseError> {
    let sources = [StampSource::Hardware, StampSource::Kernel, StampSource::User];
    let known = |text: String| sources.into_iter().find(|source| source.to_string() == text).ok_or(text);
    text.map(known).transpose().map_err(|text| wrong(key, text, "neither hardware, kernel nor user"))
}

/// Nanoseconds of milliseconds.
fn ns(ms: f64) -> i64 {
    (ms * 1e6).round() as i64
}

fn mean(ms: f64) -> f64 {
    (ms * 1e6).round()
}

fn statistics(s: StatisticsRecord) -> Statistics {
    let [min, p50, p90, p99, p999, max] = [s.min, s.p50, s.p90, s.p99, s.p999, s.max].map(ns);
    Statistics { samples: s.samples, mean: mean(s.mean), min, p50, p90, p99, p999, max }
}

fn extremes(e: ExtremesRecord) -> Extremes {
    Extremes { samples: e.samples, mean: mean(e.mean), min: ns(e.min), max: ns(e.max) }
}

fn flow(flow: FlowRecord) -> Result<FlowSummary, ParseError> {
    Ok(FlowSummary {
        source: flow.source,
        target: flow.target,
        dscp: class("worst_flows[].dscp", flow.dscp)?,
        sent: flow.sent,
        lost: flow.lost,
        lost_forward: flow.lost_forward,
        lost_reverse: flow.lost_reverse,
        dscp_changed_forward: flow.dscp_changed_forward,
        dscp_changed_reverse: flow.dscp_changed_reverse,
        rtt: flow.rtt_ms.map(extremes),
    })
}

impl OwnedRecord {
    fn counts(&self) -> Result<Counts, ParseError> {
        let counts = [
            ("sent", self.sent),
            ("replied", self.replied),
            ("syn_acks", self.syn_acks),
            ("resets", self.resets),
            ("lost", self.lost),
            ("lost_forward", self.lost_forward),
            ("lost_reverse", self.lost_reverse),
            ("corrupted", self.corrupted),
            ("refused", self.refused),
            ("prohibited", self.prohibited),
            ("time_exceeded", self.time_exceeded),
            ("too_big", self.too_big),
            ("unreachable", self.unreachable),
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("reordered", self.reordered),
            ("send_failed", self.send_failed),
            ("not_sent", self.not_sent),
            ("clock_stepped", self.clock_stepped),
            ("stamps_missing", self.stamps_missing),
            ("local_drops", self.local_drops),
            ("class_reports", self.class_reports),
            ("dscp_changed_forward", self.dscp_changed_forward),
            ("dscp_changed_reverse", self.dscp_changed_reverse),
            ("dscp_changed_either", self.dscp_changed_either),
            ("ecn_marked_forward", self.ecn_marked_forward),
            ("ecn_marked_reverse", self.ecn_marked_reverse),
        ];
        if let Some((key, count)) = counts.into_iter().find(|(_, count)| *count > MOST) {
            return Err(wrong(key, count, "above 2^53"));
        }
        let reported = self.refused + self.prohibited + self.time_exceeded + self.unreachable;
        let known = reported + self.corrupted + self.too_big;
        let without_answer = self.lost.checked_sub(known);
        Ok(Counts {
            sent: self.sent + self.send_failed,
            replied: self.replied,
            syn_acks: self.syn_acks,
            resets: self.resets,
            lost: without_answer.ok_or_else(|| wrong("lost", self.lost, "less than its parts"))?,
            lost_forward: self.lost_forward,
            lost_reverse: self.lost_reverse,
            late: self.late,
            duplicates: self.duplicates,
            reordered: self.reordered,
            corrupted: self.corrupted,
            refused: self.refused,
            prohibited: self.prohibited,
            time_exceeded: self.time_exceeded,
            too_big: self.too_big,
            unreachable: self.unreachable,
            send_failed: self.send_failed,
            not_sent: self.not_sent,
            clock_stepped: self.clock_stepped,
            stamps_missing: self.stamps_missing,
            class_reports: self.class_reports,
            dscp_changed_forward: self.dscp_changed_forward,
            dscp_changed_reverse: self.dscp_changed_reverse,
            dscp_changed_either: self.dscp_changed_either,
            ecn_marked_forward: self.ecn_marked_forward,
            ecn_marked_reverse: self.ecn_marked_reverse,
        })
    }
}

impl OwnedRecord {
    fn seen(&self) -> Result<Seen, ParseError> {
        let seen = |key, dscp: Option<u8>| dscp.map(|dscp| class(key, dscp)).transpose();
        Ok(Seen {
            dscp_forward: seen("dscp_seen_forward", self.dscp_seen_forward)?,
            dscp_reverse: seen("dscp_seen_reverse", self.dscp_seen_reverse)?,
            dscp_either: seen("dscp_seen_either", self.dscp_seen_either)?,
            mtu: self.mtu,
        })
    }
}

impl TryFrom<OwnedRecord> for Summary {
    type Error = ParseError;

    fn try_from(record: OwnedRecord) -> Result<Summary, ParseError> {
        let counts = record.counts()?;
        let seen = record.seen()?;
        let method = method_of(&record.method);
        let path = Path {
            src: record.src_ip,
            dst: record.dst_ip,
            method: method.ok_or_else(|| wrong("method", &record.method, "no method of this version"))?,
            dscp: class("dscp", record.dscp)?,
            size: record.size,
            group: record.group,
            tags: Arc::new(record.tags),
        };
        Ok(Summary {
            path: Arc::new(path),
            interval: record.interval,
            start: instant("start", &record.start)?,
            end: instant("end", &record.end)?,
            counts,
            rtt: record.rtt_ms.map(statistics),
            ipdv: record.ipdv_ms.map(extremes),
            owd_forward: record.owd_forward_ms.map(extremes),
            owd_reverse: record.owd_reverse_ms.map(extremes),
            residence: record.residence_ms.map(extremes),
            rtt_histogram: record.rtt_histogram,
            sent_by: stamps("stamps.sent_by", record.stamps.sent_by)?,
            received_by: stamps("stamps.received_by", record.stamps.received_by)?,
            lateness: record.lateness_ms.map(statistics),
            local_drops: record.local_drops,
            flows: record.flows,
            flows_with_loss: record.flows_with_loss,
            worst_flows: record.worst_flows.into_iter().map(flow).collect::<Result<_, _>>()?,
            reporter: record.reporter,
            seen,
            // a suspicion of a later version cannot be named here; the summary is worth more than its name
            suspect: record.suspect.iter().filter_map(|name| suspicion_of(name)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::{SummaryRecord, samples};
    use crate::summary::Suspicion;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::net::SocketAddr;

    fn back(summary: &Summary) -> Summary {
        let text = serde_json::to_vec(&SummaryRecord::with_histogram(summary)).expect("JSON");
        parse(&text).expect("a summary")
    }

    /// Everything of a summary, as text that differs where summaries differ.
    fn all(summary: &Summary) -> String {
        format!("{summary:?}")
    }

    #[test]
    fn there_and_back() {
        for summary in [samples::full(), samples::silent()] {
            assert_eq!(all(&back(&summary)), all(&summary));
        }
    }

    #[test]
    fn without_a_histogram_and_with_unknown_keys() {
        let summary = samples::full();
        let mut object = serde_json::to_value(SummaryRecord::from(&summary)).expect("JSON");
        assert!(object.get("rtt_histogram").is_none());
        object["later"] = json!({"version": 2});
        object["suspect"] = json!(["solar_flare", "clock_step"]);
        let parsed = parse(object.to_string().as_bytes()).expect("a summary");
        let expected = Summary { rtt_histogram: Vec::new(), suspect: vec![Suspicion::ClockStep], ..samples::full() };
        assert_eq!(all(&parsed), all(&expected));
    }

    #[test]
    fn what_older_versions_did_not_count_is_none() {
        let older = r#"{
            "start": "2024-02-29T12:30:00.000000000Z", "end": "2024-02-29T12:30:30.000000001Z", "interval": 7,
            "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "method": "udp", "dscp": 46, "group": "far",
            "tags": {"dst_metro": "fra"}, "sent": 100, "replied": 90, "lost": 10, "loss_percent": 10.0,
            "lost_forward": 2, "lost_reverse": 1, "refused": 3, "unreachable": 2, "late": 12, "duplicates": 13,
            "reordered": 14, "send_failed": 1, "not_sent": 15, "clock_stepped": 16, "stamps_missing": 17,
            "local_drops": 18, "rtt_ms": null, "ipdv_ms": null, "owd_forward_ms": null, "owd_reverse_ms": null,
            "residence_ms": null, "lateness_ms": null, "flows": 16, "flows_with_loss": 4,
            "worst_flows": [{
                "source": "10.0.0.1:40000", "target": "10.0.0.2:8100", "dscp": 46, "sent": 8, "lost": 4,
                "loss_percent": 50.0, "lost_forward": 2, "lost_reverse": 1, "rtt_ms": null
            }],
            "suspect": ["local_drops"], "stamps": {"sent_by": "kernel", "received_by": "user"}
        }"#;
        let Summary { path, counts, seen, worst_flows, reporter, .. } = parse(older.as_bytes()).expect("a summary");
        let expected = Counts {
            sent: 101,
            replied: 90,
            lost: 5,
            lost_forward: 2,
            lost_reverse: 1,
            refused: 3,
            unreachable: 2,
            late: 12,
            duplicates: 13,
            reordered: 14,
            send_failed: 1,
            not_sent: 15,
            clock_stepped: 16,
            stamps_missing: 17,
            ..Counts::default()
        };
        assert_eq!((counts, seen, path.size, reporter), (expected, Seen::default(), None, None));
        assert_eq!((worst_flows[0].dscp_changed_forward, worst_flows[0].dscp_changed_reverse), (0, 0));
    }

    #[test]
    fn values_that_cannot_be() {
        let object = serde_json::to_value(SummaryRecord::from(&samples::full())).expect("JSON");
        let with = |key: &str, value: Value| {
            let mut object = object.clone();
            object[key] = value;
            parse(object.to_string().as_bytes()).expect_err(key).to_string()
        };
        for (key, value, said) in [
            ("method", json!("pigeon"), "method: pigeon is no method"),
            ("dscp", json!(64), "dscp: 64 is above 63"),
            ("start", json!("yesterday"), "start: yesterday is no time"),
            ("lost", json!(4), "lost: 4 is less than its parts"),
            ("sent", json!(u64::MAX), "sent: 18446744073709551615 is above 2^53"),
            ("sent", json!(-1), "invalid value"),
            ("sent", Value::Null, "invalid type"),
            ("stamps", json!({"sent_by": "sundial", "received_by": null}), "stamps.sent_by: sundial is neither"),
        ] {
            let error = with(key, value);
            assert!(error.contains(said), "{error}");
        }
        assert!(parse(b"").is_err() && parse(b"[]").is_err());
    }

    prop_compose! {
        fn an_extremes()(samples in 1u64..1 << 40, mean in -1i64 << 50..1 << 50, min in -1i64 << 50..1 << 50,
                         max in -1i64 << 50..1 << 50) -> Extremes {
            Extremes { samples, mean: mean as f64, min, max }
        }
    }

    prop_compose! {
        fn a_statistics()(e in an_extremes(), p in prop::array::uniform4(-1i64 << 50..1 << 50)) -> Statistics {
            Statistics { samples: e.samples, mean: e.mean, min: e.min, max: e.max, p50: p[0], p90: p[1], p99: p[2], p999: p[3] }
        }
    }

    prop_compose! {
        fn a_summary()(
            counts in prop::array::uniform25(0u64..1 << 50),
            statistics in prop::array::uniform2(prop::option::of(a_statistics())),
            extremes in prop::array::uniform5(prop::option::of(an_extremes())),
            addresses in prop::array::uniform4(any::<IpAddr>()),
            ports in prop::array::uniform2(any::<u16>()),
            tags in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4),
            times in prop::array::uniform2(any::<u64>()),
            group in ".{0,12}",
            (interval, flows, flows_with_loss, dscp) in (any::<u32>(), any::<u32>(), any::<u32>(), 0u8..64),
            histogram in prop::collection::vec(any::<(u64, u64)>(), 0..5),
            stamps in prop::array::uniform2(prop::option::of(0usize..3)),
            suspect in prop::collection::vec(0usize..5, 0..5),
        ) -> Summary {
            use Suspicion::*;
            let stamp = |index: usize| [StampSource::Hardware, StampSource::Kernel, StampSource::User][index];
            let [replied, syn_acks, resets, lost, lost_forward, lost_reverse, late, duplicates, reordered, refused, prohibited, time_exceeded,
                unreachable, send_failed, not_sent, clock_stepped, stamps_missing, corrupted, too_big, class_reports, dscp_changed_forward,
                dscp_changed_reverse, dscp_changed_either, ecn_marked_forward, ecn_marked_reverse] = counts;
            let counts = Counts {
                sent: (replied + lost + send_failed) & ((1 << 53) - 1) | send_failed, replied, syn_acks, resets, lost: lost >> 1,
                lost_forward, lost_reverse, late, duplicates, reordered, refused, prohibited, time_exceeded, unreachable,
                send_failed, not_sent, clock_stepped, stamps_missing, corrupted, too_big, class_reports, dscp_changed_forward,
                dscp_changed_reverse, dscp_changed_either, ecn_marked_forward, ecn_marked_reverse,
            };
            let mut path = (*samples::path(&[])).clone();
            (path.src, path.dst, path.group, path.dscp) = (addresses[0], addresses[1], group, Dscp(dscp));
            path.tags = Arc::new(tags);
            path.size = stamps[1].map(|size| size as u16);
            let seen = Seen {
                dscp_forward: stamps[0].map(|_| Dscp(dscp)), dscp_reverse: stamps[1].map(|_| Dscp(63 - dscp)),
                dscp_either: stamps[1].map(|_| Dscp(dscp)), mtu: stamps[0].map(|_| flows),
            };
            let flow = FlowSummary {
                source: SocketAddr::new(addresses[2], ports[0]), target: SocketAddr::new(addresses[3], ports[1]),
                dscp: Dscp(dscp), sent: replied, lost, lost_forward, lost_reverse, dscp_changed_forward, dscp_changed_reverse, rtt: extremes[4],
            };
            Summary {
                path: Arc::new(path), interval, start: Wall(times[0]), end: Wall(times[1]), counts,
                rtt: statistics[0], lateness: statistics[1],
                ipdv: extremes[0], owd_forward: extremes[1], owd_reverse: extremes[2], residence: extremes[3],
                rtt_histogram: histogram, sent_by: stamps[0].map(stamp), received_by: stamps[1].map(stamp),
                local_drops: late, flows, flows_with_loss, worst_flows: vec![flow],
                reporter: stamps[0].map(|_| addresses[1]), seen,
                suspect: suspect.into_iter().map(|i| [LocalDrops, NotSent, StampsLost, ClockStep, TallyDropped][i]).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn any_summary_comes_back(summary in a_summary()) {
            prop_assert_eq!(all(&back(&summary)), all(&summary));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_value_is_taken_or_refused(key in 0usize..60, number in any::<f64>(), text in ".{0,20}") {
            let object = serde_json::to_value(SummaryRecord::with_histogram(&samples::full())).expect("JSON");
            let Some(name) = object.as_object().and_then(|object| object.keys().nth(key)).cloned() else { return Ok(()) };
            for value in [json!(number), json!(text), json!([]), json!({})] {
                let mut object = object.clone();
                object[&name] = value;
                let _ = parse(object.to_string().as_bytes());
            }
        }
    }
}
