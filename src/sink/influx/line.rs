//! One summary as one line of line protocol.
//!
//! Names and types are a promise: `rtt`, `loss`, `lost`, `sent` keep upstream's meaning and are
//! floats, and no field ever changes its type, since a server refuses the line then. `docs/outputs.md`
//! documents them, and a test compares the two.
//!
//! Texts are cleaned as in [`point`](super::point), which builds other points; this one is rendered straight into
//! its line, ten thousand at a time.

use super::detail;
use super::point::{SERVERS, add_tag, clean};
use crate::sink::record::suspicion_name;
use crate::summary::Summary;
use influxdb_line_protocol::LineProtocolBuilder;
use influxdb_line_protocol::builder::AfterField;
use std::collections::BTreeMap;

/// The measurement, as upstream.
pub(crate) const MEASUREMENT: &str = "raw_stats";

/// Tags of every point; a user's tag with such a name becomes `tag_NAME`.
pub(crate) const OWN_TAGS: [&str; 6] = ["dscp", "dst_ip", "group", "method", "size", "src_ip"];

/// All our fields. A tag named as a field would hide the field from queries.
const FIELDS: [&str; 73] = [
    "rtt",
    "loss",
    "lost",
    "sent",
    "rtt_samples",
    "rtt_min",
    "rtt_p50",
    "rtt_p90",
    "rtt_p99",
    "rtt_p999",
    "rtt_max",
    "ipdv_samples",
    "ipdv_mean",
    "ipdv_min",
    "ipdv_max",
    "owd_forward_samples",
    "owd_forward_mean",
    "owd_forward_min",
    "owd_forward_max",
    "owd_reverse_samples",
    "owd_reverse_mean",
    "owd_reverse_min",
    "owd_reverse_max",
    "residence_samples",
    "residence_mean",
    "residence_min",
    "residence_max",
    "lateness_p50",
    "lateness_p99",
    "lateness_max",
    "replied",
    "syn_acks",
    "resets",
    "lost_forward",
    "lost_reverse",
    "corrupted",
    "refused",
    "prohibited",
    "time_exceeded",
    "too_big",
    "unreachable",
    "late",
    "duplicates",
    "reordered",
    "send_failed",
    "not_sent",
    "clock_stepped",
    "stamps_missing",
    "class_reports",
    "dscp_changed_forward",
    "dscp_changed_reverse",
    "dscp_changed_either",
    "dscp_seen_forward",
    "dscp_seen_reverse",
    "dscp_seen_either",
    "ecn_marked_forward",
    "ecn_marked_reverse",
    "mtu",
    "local_drops",
    "flows",
    "flows_with_loss",
    "interval_s",
    "suspect",
    "suspect_reasons",
    "reporter",
    "sent_by",
    "received_by",
    "worst_flow",
    "worst_flow_loss",
    "worst_flow_sent",
    "worst_flow_lost",
    "rtt_histogram",
    "worst_flows",
];

/// Whether a user's tag of this name is written as `tag_NAME`.
fn is_taken(name: &str) -> bool {
    OWN_TAGS.contains(&name) || FIELDS.contains(&name) || SERVERS.contains(&name)
}

/// The name under which a user's tag stands in the database, unless another tag of the target has it already.
pub fn written_tag(name: &str) -> String {
    let name = clean(name);
    if is_taken(&name) { format!("tag_{name}") } else { name }
}

/// The user's tag that stands in the database under this name, which is none of [`OWN_TAGS`].
pub fn read_tag(name: &str) -> &str {
    name.strip_prefix("tag_").filter(|name| is_taken(name)).unwrap_or(name)
}

type Fields = LineProtocolBuilder<Vec<u8>, AfterField>;

/// The target's tags under names that collide neither with ours nor with each other.
fn tags(summary: &Summary) -> BTreeMap<String, String> {
    let path = &summary.path;
    let mut tags = BTreeMap::from([
        ("src_ip".to_string(), path.src.to_string()),
        ("dst_ip".to_string(), path.dst.to_string()),
        ("method".to_string(), path.method.name().to_string()),
        ("dscp".to_string(), path.dscp.0.to_string()),
    ]);
    if let Some(size) = path.size {
        tags.insert("size".to_string(), size.to_string());
    }
    add_tag(&mut tags, "group", &path.group, |_| false);
    for (key, value) in path.tags.iter() {
        add_tag(&mut tags, key, value, is_taken);
    }
    tags
}

/// Appends fields, leaving out what is no number.
struct Writer(Fields);

impl Writer {
    fn float(self, key: &str, value: f64) -> Writer {
        if value.is_finite() { Writer(self.0.field(key, value)) } else { self }
    }

    fn millis(self, key: &str, ns: f64) -> Writer {
        self.float(key, ns / 1e6)
    }

    fn count(self, key: &str, value: u64) -> Writer {
        // unsigned values are refused by servers; no count comes near the limit
        Writer(self.0.field(key, i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn text(self, key: &str, value: &str) -> Writer {
        Writer(self.0.field(key, clean(value).as_str()))
    }
}

/// Appends the summary as one line, its newline included.
pub fn line(summary: &Summary, out: &mut Vec<u8>) {
    render(summary, false, out);
}

/// As [`line()`], with the histogram of round trips and the listed flows as texts.
pub fn detailed_line(summary: &Summary, out: &mut Vec<u8>) {
    render(summary, true, out);
}

fn render(summary: &Summary, detail: bool, out: &mut Vec<u8>) {
    let counts = &summary.counts;
    let mut head = LineProtocolBuilder::new_with(std::mem::take(out)).measurement(MEASUREMENT);
    for (key, value) in tags(summary) {
        head = head.tag(&key, &value);
    }
    let mean_ms = summary.rtt.as_ref().map_or(0.0, |rtt| rtt.mean / 1e6);
    let mut w = Writer(head.field("rtt", if mean_ms.is_finite() { mean_ms } else { 0.0 }))
        .float("loss", counts.loss_percent())
        .float("lost", counts.unanswered() as f64)
        .float("sent", counts.left() as f64);
    if let Some(rtt) = &summary.rtt {
        w = w
            .count("rtt_samples", rtt.samples)
            .millis("rtt_min", rtt.min as f64)
            .millis("rtt_p50", rtt.p50 as f64)
            .millis("rtt_p90", rtt.p90 as f64)
            .millis("rtt_p99", rtt.p99 as f64)
            .millis("rtt_p999", rtt.p999 as f64)
            .millis("rtt_max", rtt.max as f64);
    }
    for ([samples, mean, min, max], extremes) in [
        (["ipdv_samples", "ipdv_mean", "ipdv_min", "ipdv_max"], &summary.ipdv),
        (["owd_forward_samples", "owd_forward_mean", "owd_forward_min", "owd_forward_max"], &summary.owd_forward),
        (["owd_reverse_samples", "owd_reverse_mean", "owd_reverse_min", "owd_reverse_max"], &summary.owd_reverse),
        (["residence_samples", "residence_mean", "residence_min", "residence_max"], &summary.residence),
    ] {
        if let Some(extremes) = extremes {
            w = w
                .count(samples, extremes.samples)
                .millis(mean, extremes.mean)
                .millis(min, extremes.min as f64)
                .millis(max, extremes.max as f64);
        }
    }
    if let Some(lateness) = &summary.lateness {
        w = w
            .millis("lateness_p50", lateness.p50 as f64)
            .millis("lateness_p99", lateness.p99 as f64)
            .millis("lateness_max", lateness.max as f64);
    }
    w = w
        .count("replied", counts.replied)
        .count("syn_acks", counts.syn_acks)
        .count("resets", counts.resets)
        .count("lost_forward", counts.lost_forward)
        .count("lost_reverse", counts.lost_reverse)
        .count("corrupted", counts.corrupted)
        .count("refused", counts.refused)
        .count("prohibited", counts.prohibited)
        .count("time_exceeded", counts.time_exceeded)
        .count("too_big", counts.too_big)
        .count("unreachable", counts.unreachable)
        .count("late", counts.late)
        .count("duplicates", counts.duplicates)
        .count("reordered", counts.reordered)
        .count("send_failed", counts.send_failed)
        .count("not_sent", counts.not_sent)
        .count("clock_stepped", counts.clock_stepped)
        .count("stamps_missing", counts.stamps_missing)
        .count("class_reports", counts.class_reports)
        .count("dscp_changed_forward", counts.dscp_changed_forward)
        .count("dscp_changed_reverse", counts.dscp_changed_reverse)
        .count("dscp_changed_either", counts.dscp_changed_either)
        .count("ecn_marked_forward", counts.ecn_marked_forward)
        .count("ecn_marked_reverse", counts.ecn_marked_reverse)
        .count("local_drops", summary.local_drops)
        .count("flows", u64::from(summary.flows))
        .count("flows_with_loss", u64::from(summary.flows_with_loss))
        .float("interval_s", summary.end.0.saturating_sub(summary.start.0) as f64 / 1e9);
    w = Writer(w.0.field("suspect", !summary.suspect.is_empty()));
    if !summary.suspect.is_empty() {
        let reasons: Vec<_> = summary.suspect.iter().map(|&reason| suspicion_name(reason)).collect();
        w = w.text("suspect_reasons", &reasons.join(","));
    }
    if let Some(reporter) = summary.reporter {
        w = w.text("reporter", &reporter.to_string());
    }
    let seen = &summary.seen;
    for (key, dscp) in [
        ("dscp_seen_forward", seen.dscp_forward),
        ("dscp_seen_reverse", seen.dscp_reverse),
        ("dscp_seen_either", seen.dscp_either),
    ] {
        if let Some(dscp) = dscp {
            w = w.count(key, dscp.0.into());
        }
    }
    if let Some(mtu) = seen.mtu {
        w = w.count("mtu", mtu.into());
    }
    if let Some(source) = summary.sent_by {
        w = w.text("sent_by", &source.to_string());
    }
    if let Some(source) = summary.received_by {
        w = w.text("received_by", &source.to_string());
    }
    if let Some(worst) = summary.worst_flows.first().filter(|flow| flow.lost > 0) {
        w = w
            .text("worst_flow", &format!("{} > {} dscp {}", worst.source, worst.target, worst.dscp.0))
            .float("worst_flow_loss", worst.loss_percent())
            .count("worst_flow_sent", worst.sent)
            .count("worst_flow_lost", worst.lost);
    }
    if detail && !summary.rtt_histogram.is_empty() {
        w = w.text("rtt_histogram", &detail::histogram(&summary.rtt_histogram));
    }
    if detail && !summary.worst_flows.is_empty() {
        w = w.text("worst_flows", &detail::flows(&summary.worst_flows));
    }
    let at = i64::try_from(summary.end.0).unwrap_or(i64::MAX);
    *out = w.0.timestamp(at).close_line().build();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
    use proptest::prelude::*;

    fn text(summary: &Summary) -> String {
        rendered(summary, line)
    }

    fn rendered(summary: &Summary, render: fn(&Summary, &mut Vec<u8>)) -> String {
        let mut out = b"before\n".to_vec();
        render(summary, &mut out);
        String::from_utf8(out).expect("text").strip_prefix("before\n").expect("appended").to_string()
    }

    fn parse(text: &str) -> ParsedLine<'_> {
        let mut lines: Vec<_> = parse_lines(text).collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines.remove(0).expect("line")
    }

    fn tag_map(parsed: &ParsedLine<'_>) -> BTreeMap<String, String> {
        let tags = parsed.series.tag_set.iter().flatten();
        tags.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn tagged(tags: &[(&str, &str)]) -> Summary {
        Summary { path: samples::path(tags), ..samples::full() }
    }

    #[test]
    fn a_full_summary() {
        assert_eq!(
            text(&samples::full()),
            "raw_stats,dscp=46,dst_ip=10.0.0.2,dst_metro=fra,group=far,method=udp,src_ip=10.0.0.1 \
             rtt=1.5,loss=10,lost=10,sent=100,rtt_samples=90i,rtt_min=1,rtt_p50=1.4,rtt_p90=1.9,rtt_p99=2,\
             rtt_p999=2.1,rtt_max=2.25,ipdv_samples=2i,ipdv_mean=1,ipdv_min=-0.000001,ipdv_max=2,\
             owd_forward_samples=2i,owd_forward_mean=3,owd_forward_min=-0.000003,owd_forward_max=6,\
             owd_reverse_samples=2i,owd_reverse_mean=5,owd_reverse_min=-0.000005,owd_reverse_max=10,\
             residence_samples=2i,residence_mean=7,residence_min=-0.000007,residence_max=14,\
             lateness_p50=1.4,lateness_p99=0.05,lateness_max=0.06,replied=90i,syn_acks=60i,resets=30i,lost_forward=2i,lost_reverse=1i,\
             corrupted=1i,refused=1i,prohibited=1i,time_exceeded=1i,too_big=1i,unreachable=2i,late=12i,duplicates=13i,reordered=14i,send_failed=1i,not_sent=15i,\
             clock_stepped=16i,stamps_missing=17i,class_reports=24i,dscp_changed_forward=19i,dscp_changed_reverse=20i,dscp_changed_either=21i,\
             ecn_marked_forward=22i,ecn_marked_reverse=23i,local_drops=18i,flows=16i,flows_with_loss=4i,\
             interval_s=30.000000001,suspect=true,suspect_reasons=\"local_drops,not_sent\",\
             reporter=\"192.0.2.9\",dscp_seen_forward=0i,dscp_seen_reverse=8i,dscp_seen_either=10i,mtu=1400i,\
             sent_by=\"kernel\",received_by=\"user\",\
             worst_flow=\"10.0.0.1:40000 > 10.0.0.2:8100 dscp 46\",worst_flow_loss=50,\
             worst_flow_sent=8i,worst_flow_lost=4i 1709209830000000001\n"
        );
    }

    #[test]
    fn detail_is_two_texts_more() {
        let (plain, detailed) = (text(&samples::full()), rendered(&samples::full(), detailed_line));
        let more = ",rtt_histogram=\"1000000:90\",worst_flows=\"10.0.0.1:40000>10.0.0.2:8100,46,8,4,2,1,3,5\" 17092098";
        assert_eq!(detailed, plain.replace(" 17092098", more));
        assert_eq!(rendered(&samples::silent(), detailed_line), text(&samples::silent()));
    }

    #[test]
    fn tags_are_read_as_they_were_written() {
        for name in ["rack", "group", "loss", "time", "tag_x", "ü", "a b", "'; DROP SERIES FROM raw_stats; --"] {
            assert_eq!(read_tag(&written_tag(name)), name);
        }
        assert_eq!((written_tag("group").as_str(), read_tag("tag_group")), ("tag_group", "group"));
    }

    #[test]
    fn nothing_came_back_is_rtt_zero_and_no_percentiles() {
        let text = text(&samples::silent());
        assert!(text.contains(" rtt=0,loss=100,lost=10,sent=10,replied=0i,"), "{text}");
        for absent in
            ["rtt_", "ipdv", "owd", "residence", "lateness", "sent_by", "worst", "reasons", "reporter", "_seen_", "mtu"]
        {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        assert!(text.contains(",suspect=false "), "{text}");
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        let mut summary = samples::full();
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            if let (Some(rtt), Some(ipdv)) = (&mut summary.rtt, &mut summary.ipdv) {
                (rtt.mean, ipdv.mean) = (wrong, wrong);
            }
            let text = text(&summary);
            assert!(text.contains(" rtt=0,") && !text.contains("ipdv_mean") && text.contains("ipdv_max"), "{text}");
        }
    }

    #[test]
    fn a_users_tag_never_hides_ours() {
        let text = text(&tagged(&[
            ("src_ip", "mine"),
            ("group", "mine"),
            ("loss", "x"),
            ("owd_forward_min", "x"),
            ("time", "x"),
            ("a\nb", "first"),
            ("a b", "second"),
            ("empty", ""),
            ("", "no key"),
        ]));
        let expected = [
            ("a b", "first"),
            ("a b_", "second"),
            ("dscp", "46"),
            ("dst_ip", "10.0.0.2"),
            ("group", "far"),
            ("method", "udp"),
            ("src_ip", "10.0.0.1"),
            ("tag_group", "mine"),
            ("tag_loss", "x"),
            ("tag_owd_forward_min", "x"),
            ("tag_src_ip", "mine"),
            ("tag_time", "x"),
        ];
        // "a\nb" sorts before "a b", so it is the one that keeps the cleaned name
        assert_eq!(tag_map(&parse(&text)), expected.map(|(k, v)| (k.to_string(), v.to_string())).into());
    }

    #[test]
    fn no_field_can_be_hidden_by_a_tag() {
        let text = rendered(&samples::full(), detailed_line);
        let fields: Vec<_> = parse(&text).field_set.iter().map(|(name, _)| name.to_string()).collect();
        let mut all = FIELDS.map(str::to_string).to_vec();
        all.sort();
        let mut written = fields.clone();
        written.sort();
        assert_eq!(written, all);
        for field in fields {
            let renamed = tag_map(&parse(&super::tests::text(&tagged(&[(&field, "x")]))));
            assert!(!renamed.contains_key(&field) && renamed.contains_key(&format!("tag_{field}")), "{field}");
        }
    }

    #[test]
    fn the_documentation_names_every_field_with_its_type_and_no_other() {
        let text = rendered(&samples::full(), detailed_line);
        let parsed = parse(&text);
        let mut fields: Vec<_> = parsed.field_set.iter().map(|(name, _)| name.to_string()).collect();
        let mut documented = samples::documented("InfluxDB");
        fields.sort();
        documented.sort();
        assert_eq!(fields, documented);
        let docs = include_str!("../../../docs/outputs.md").split("\n## InfluxDB\n").nth(1).expect("section");
        for (name, value) in &parsed.field_set {
            let kind = match value {
                FieldValue::F64(_) => "float",
                FieldValue::I64(_) => "integer",
                FieldValue::Boolean(_) => "boolean",
                FieldValue::String(_) => "text",
                FieldValue::U64(_) => "unsigned",
            };
            let row =
                docs.lines().find(|row| row.starts_with("| ") && row.contains(&format!("`{name}`"))).expect("row");
            assert!(row.contains(&format!("| {kind} |")), "{name} is {kind}: {row}");
        }
    }

    proptest! {
        #[test]
        fn any_tags_make_one_line_that_parses_to_the_cleaned_texts(
            pairs in proptest::collection::btree_map("\\PC{0,3}[\\\\ ,=\n\"a]{0,3}", ".{0,4}[\\\\ ,=\n\"a]{0,3}", 0..5),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let summary = tagged(&pairs);
            let text = text(&summary);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(tag_map(&parse(&text)), tags(&summary));
        }
    }
}
