//! Figures by name: the columns of every answer of the matrix.
//!
//! `docs/api.md` documents them. Read [`FIELDS`].

use crate::matrix::{Answer, Figures};
use crate::probe::shape::Dscp;
use crate::sink::rfc3339;
use serde_json::Value;

/// The columns of figures, in their order.
pub(super) const FIELDS: [&str; 50] = [
    "summaries",
    "suspects",
    "sent",
    "lost",
    "loss_percent",
    "lost_forward",
    "lost_reverse",
    "late",
    "duplicates",
    "reordered",
    "not_sent",
    "send_failed",
    "local_drops",
    "rtt_min_ms",
    "rtt_mean_ms",
    "rtt_p50_ms",
    "rtt_p90_ms",
    "rtt_p99_ms",
    "rtt_p999_ms",
    "rtt_max_ms",
    "percentiles",
    "ipdv_mean_ms",
    "ipdv_max_ms",
    "owd_forward_mean_ms",
    "owd_reverse_mean_ms",
    "residence_mean_ms",
    "lateness_p99_ms",
    "lateness_max_ms",
    "flows",
    "flows_with_loss",
    "dscp_changed",
    "syn_acks",
    "resets",
    "corrupted",
    "refused",
    "prohibited",
    "time_exceeded",
    "too_big",
    "unreachable",
    "class_reports",
    "dscp_changed_forward",
    "dscp_changed_reverse",
    "dscp_changed_either",
    "ecn_marked_forward",
    "ecn_marked_reverse",
    "dscp_changed_percent",
    "dscp_seen_forward",
    "dscp_seen_reverse",
    "dscp_seen_either",
    "mtu",
];

/// Milliseconds to the nanosecond; null where nothing was measured.
pub(super) fn ms(ns: Option<f64>) -> Value {
    ns.map(|ns| ns.round() / 1e6).into()
}

/// The values of [`FIELDS`].
pub(super) fn values(figures: &Figures) -> [Value; FIELDS.len()] {
    let (counts, seen) = (&figures.counts, &figures.seen);
    let class = |seen: Option<Dscp>| seen.map(|dscp| dscp.0).into();
    let whole = |ns: Option<i64>| ms(ns.map(|ns| ns as f64));
    let percentiles = figures.percentiles();
    let percentile = |of: fn(&crate::matrix::Percentiles) -> i64| whole(percentiles.as_ref().map(of));
    [
        figures.summaries.into(),
        figures.suspects.into(),
        counts.left().into(),
        counts.unanswered().into(),
        counts.loss_percent().into(),
        counts.lost_forward.into(),
        counts.lost_reverse.into(),
        counts.late.into(),
        counts.duplicates.into(),
        counts.reordered.into(),
        counts.not_sent.into(),
        counts.send_failed.into(),
        figures.local_drops.into(),
        whole(figures.rtt.map(|rtt| rtt.min)),
        ms(figures.rtt.map(|rtt| rtt.mean)),
        percentile(|p| p.p50),
        percentile(|p| p.p90),
        percentile(|p| p.p99),
        percentile(|p| p.p999),
        whole(figures.rtt.map(|rtt| rtt.max)),
        percentiles.map(|p| if p.exact { "exact" } else { "bound" }).into(),
        ms(figures.ipdv.map(|ipdv| ipdv.mean)),
        whole(figures.ipdv.map(|ipdv| ipdv.max)),
        ms(figures.owd_forward.map(|owd| owd.mean)),
        ms(figures.owd_reverse.map(|owd| owd.mean)),
        ms(figures.residence.map(|residence| residence.mean)),
        whole(figures.lateness_p99),
        whole(figures.lateness_max),
        figures.flows.into(),
        figures.flows_with_loss.into(),
        (counts.dscp_changed_forward + counts.dscp_changed_reverse + counts.dscp_changed_either).into(),
        counts.syn_acks.into(),
        counts.resets.into(),
        counts.corrupted.into(),
        counts.refused.into(),
        counts.prohibited.into(),
        counts.time_exceeded.into(),
        counts.too_big.into(),
        counts.unreachable.into(),
        counts.class_reports.into(),
        counts.dscp_changed_forward.into(),
        counts.dscp_changed_reverse.into(),
        counts.dscp_changed_either.into(),
        counts.ecn_marked_forward.into(),
        counts.ecn_marked_reverse.into(),
        counts.dscp_changed_percent().into(),
        class(seen.dscp_forward),
        class(seen.dscp_reverse),
        class(seen.dscp_either),
        seen.mtu.into(),
    ]
}

/// A value as JSON text. None of ours has keys that are no texts, so it cannot fail.
pub(super) fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The time of an answer, as members of an object.
pub(super) fn window<T>(answer: &Answer<T>) -> String {
    let (from, to) = (rfc3339(answer.window.from), rfc3339(answer.window.to));
    format!(r#""from":"{from}","to":"{to}","resolution_s":{}"#, text(&answer.resolution.as_secs_f64()))
}

/// One row of a list: its values, and a comma before it unless it is the first.
pub(super) fn row(position: usize, values: impl IntoIterator<Item = Value>) -> Vec<u8> {
    let mut row = if position == 0 { Vec::new() } else { vec![b','] };
    row.push(b'[');
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            row.push(b',');
        }
        // as in `text`
        let _ = serde_json::to_writer(&mut row, &value);
    }
    row.push(b']');
    row
}
