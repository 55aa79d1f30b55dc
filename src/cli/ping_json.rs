//! `llama ping --json`: one object. Delays in milliseconds, names ending in `_ms`; shares in percent.
//!
//! Names and meanings are those of the collector's JSON lines: `sent` is what left this host, `lost` what
//! brought no reply, `corrupted` to `unreachable` are parts of `lost`.

use super::ping::Report;
use super::verdict;
use crate::sink::record::{ExtremesRecord, FlowRecord, StampsRecord, StatisticsRecord, suspicion_name};
use crate::sink::rfc3339;
use crate::summary::Summary;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// The whole object.
#[derive(Debug, Serialize)]
pub struct Json {
    target: String,
    address: SocketAddr,
    src_ip: IpAddr,
    method: &'static str,
    /// `null` when several were asked for.
    dscp: Option<u8>,
    size: Option<u16>,
    rate: f64,
    start: String,
    end: String,
    io: String,
    sent: u64,
    replied: u64,
    syn_acks: u64,
    resets: u64,
    lost: u64,
    loss_percent: f64,
    /// 95 % confidence interval.
    loss_percent_interval: [f64; 2],
    lost_forward: u64,
    lost_reverse: u64,
    late: u64,
    duplicates: u64,
    reordered: u64,
    corrupted: u64,
    refused: u64,
    prohibited: u64,
    time_exceeded: u64,
    too_big: u64,
    unreachable: u64,
    send_failed: u64,
    not_sent: u64,
    clock_stepped: u64,
    stamps_missing: u64,
    #[serde(flatten)]
    class: ClassJson,
    mtu: Option<u32>,
    local_drops: u64,
    rtt_ms: Option<StatisticsRecord>,
    ipdv_ms: Option<ExtremesRecord>,
    residence_ms: Option<ExtremesRecord>,
    owd_forward_ms: Option<ExtremesRecord>,
    owd_reverse_ms: Option<ExtremesRecord>,
    lateness_ms: Option<StatisticsRecord>,
    stamps: StampsRecord,
    /// The node that sent the last ICMP error.
    reporter: Option<IpAddr>,
    suspect: Vec<&'static str>,
    verdict: Vec<String>,
    flows_with_loss: usize,
    flows: Vec<FlowRecord>,
    /// Each class and size, in the order asked for.
    variants: Vec<VariantJson>,
}

/// What became of classes.
#[derive(Debug, Serialize)]
struct ClassJson {
    class_reports: u64,
    dscp_changed_forward: u64,
    dscp_changed_reverse: u64,
    dscp_changed_either: u64,
    dscp_seen_forward: Option<u8>,
    dscp_seen_reverse: Option<u8>,
    dscp_seen_either: Option<u8>,
    ecn_marked_forward: u64,
    ecn_marked_reverse: u64,
}

impl ClassJson {
    fn of(summary: &Summary) -> ClassJson {
        let (c, seen) = (&summary.counts, &summary.seen);
        ClassJson {
            class_reports: c.class_reports,
            dscp_changed_forward: c.dscp_changed_forward,
            dscp_changed_reverse: c.dscp_changed_reverse,
            dscp_changed_either: c.dscp_changed_either,
            dscp_seen_forward: seen.dscp_forward.map(|dscp| dscp.0),
            dscp_seen_reverse: seen.dscp_reverse.map(|dscp| dscp.0),
            dscp_seen_either: seen.dscp_either.map(|dscp| dscp.0),
            ecn_marked_forward: c.ecn_marked_forward,
            ecn_marked_reverse: c.ecn_marked_reverse,
        }
    }
}

/// One class and size.
#[derive(Debug, Serialize)]
struct VariantJson {
    dscp: u8,
    size: Option<u16>,
    sent: u64,
    replied: u64,
    lost: u64,
    loss_percent: f64,
    lost_forward: u64,
    lost_reverse: u64,
    corrupted: u64,
    too_big: u64,
    mtu: Option<u32>,
    reporter: Option<IpAddr>,
    #[serde(flatten)]
    class: ClassJson,
    rtt_ms: Option<StatisticsRecord>,
}

impl From<&Summary> for VariantJson {
    fn from(s: &Summary) -> VariantJson {
        VariantJson {
            dscp: s.path.dscp.0,
            size: s.path.size,
            sent: s.counts.left(),
            replied: s.counts.replied,
            lost: s.counts.unanswered(),
            loss_percent: s.counts.loss_percent(),
            lost_forward: s.counts.lost_forward,
            lost_reverse: s.counts.lost_reverse,
            corrupted: s.counts.corrupted,
            too_big: s.counts.too_big,
            mtu: s.seen.mtu,
            reporter: s.reporter,
            class: ClassJson::of(s),
            rtt_ms: s.rtt.as_ref().map(StatisticsRecord::from),
        }
    }
}

/// The object for a finished measurement; flows in the order of the worst list.
pub fn object(report: &Report<'_>) -> Json {
    let s = report.summary;
    let c = &s.counts;
    let (low, high) = verdict::loss_interval(c.unanswered(), c.left());
    Json {
        target: report.host.to_owned(),
        address: report.address,
        src_ip: s.path.src,
        method: s.path.method.name(),
        dscp: <[u8; 1]>::try_from(report.classes().iter().map(|dscp| dscp.0).collect::<Vec<_>>())
            .ok()
            .map(|[dscp]| dscp),
        size: <[u16; 1]>::try_from(report.sizes).ok().map(|[size]| size),
        rate: report.rate,
        start: rfc3339(s.start),
        end: rfc3339(s.end),
        io: report.io.to_owned(),
        sent: c.left(),
        replied: c.replied,
        syn_acks: c.syn_acks,
        resets: c.resets,
        lost: c.unanswered(),
        loss_percent: c.loss_percent(),
        loss_percent_interval: [low, high],
        lost_forward: c.lost_forward,
        lost_reverse: c.lost_reverse,
        late: c.late,
        duplicates: c.duplicates,
        reordered: c.reordered,
        corrupted: c.corrupted,
        refused: c.refused,
        prohibited: c.prohibited,
        time_exceeded: c.time_exceeded,
        too_big: c.too_big,
        unreachable: c.unreachable,
        send_failed: c.send_failed,
        not_sent: c.not_sent,
        clock_stepped: c.clock_stepped,
        stamps_missing: c.stamps_missing,
        class: ClassJson::of(s),
        mtu: s.seen.mtu,
        local_drops: s.local_drops,
        rtt_ms: s.rtt.as_ref().map(StatisticsRecord::from),
        ipdv_ms: s.ipdv.as_ref().map(ExtremesRecord::from),
        residence_ms: s.residence.as_ref().map(ExtremesRecord::from),
        owd_forward_ms: s.owd_forward.as_ref().map(ExtremesRecord::from),
        owd_reverse_ms: s.owd_reverse.as_ref().map(ExtremesRecord::from),
        lateness_ms: s.lateness.as_ref().map(StatisticsRecord::from),
        stamps: StampsRecord::of(s),
        reporter: s.reporter,
        suspect: s.suspect.iter().map(|r| suspicion_name(*r)).collect(),
        verdict: report.network().says,
        flows_with_loss: report.flows.iter().filter(|f| f.lost > 0).count(),
        flows: verdict::worst_first(report.flows).into_iter().map(FlowRecord::from).collect(),
        variants: report.variants.iter().map(VariantJson::from).collect(),
    }
}

/// The object as indented text, ending in a newline.
///
/// # Errors
/// Never in practice: the object holds numbers and text only.
pub fn report(report: &Report<'_>) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&object(report))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ping::tests::{flows_of_summary, report_of, summary};

    #[test]
    fn the_object_has_what_scripts_read() {
        let (mut summary, flows) = (summary(), flows_of_summary());
        let text = report(&report_of(&summary, &flows)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["sent"], 992);
        assert_eq!(json["start"], "2023-11-14T22:13:20.000000000Z");
        assert_eq!(json["lost"], 30);
        assert!((json["loss_percent"].as_f64().unwrap() - 3.024).abs() < 0.001);
        assert_eq!(json["rtt_ms"]["p99"], 0.0299);
        assert_eq!(json["rtt_ms"]["mean"], 0.0245);
        assert_eq!(json["stamps"]["sent_by"], "kernel");
        assert_eq!(json["flows"].as_array().unwrap().len(), 16);
        assert_eq!(json["flows"][0]["source"], "10.0.0.1:40004");
        assert_eq!(json["flows"][0]["lost_forward"], 30);
        summary.rtt = None;
        let json = serde_json::to_value(object(&report_of(&summary, &flows))).unwrap();
        assert!(json["rtt_ms"].is_null(), "no round trip is null, not 0");
    }
}
