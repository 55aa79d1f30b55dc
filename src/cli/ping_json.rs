//! `llama ping --json`: one object. Delays in milliseconds, names ending in `_ms`; shares in percent.
//!
//! Names and meanings are those of the collector's JSON lines: `sent` is what left this host, `lost` what
//! brought no reply, `refused` to `unreachable` are parts of `lost`.

use super::ping::Report;
use super::verdict;
use crate::sink::record::{ExtremesRecord, FlowRecord, StampsRecord, StatisticsRecord, method_name, suspicion_name};
use crate::sink::rfc3339;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// The whole object.
#[derive(Debug, Serialize)]
pub struct Json {
    target: String,
    address: SocketAddr,
    src_ip: IpAddr,
    method: &'static str,
    dscp: u8,
    size: u16,
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
    refused: u64,
    prohibited: u64,
    time_exceeded: u64,
    unreachable: u64,
    send_failed: u64,
    not_sent: u64,
    clock_stepped: u64,
    stamps_missing: u64,
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
        method: method_name(s.path.method),
        dscp: s.path.dscp.0,
        size: report.size,
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
        refused: c.refused,
        prohibited: c.prohibited,
        time_exceeded: c.time_exceeded,
        unreachable: c.unreachable,
        send_failed: c.send_failed,
        not_sent: c.not_sent,
        clock_stepped: c.clock_stepped,
        stamps_missing: c.stamps_missing,
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
