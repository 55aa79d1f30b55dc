//! The endpoints of upstream's collectors, for the scrapers and scripts that a fleet has.
//!
//! `/influxdata` is the Go generation's, `/latency` the Python generation's: its JSON of tags and data.
//! Upstream summarises per source and destination address only; here the paths of a pair (by method, class
//! and group) are joined. Read [`pairs`] first.

use super::{State, long_list};
use crate::http::answer::json_text;
use crate::http::recent::Latest;
use crate::sink::rfc3339;
use crate::summary::{Counts, Extremes, Path};
use crate::time::Wall;
use axum::extract;
use axum::response::Response;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Name of upstream's measurement.
const MEASUREMENT: &str = "raw_stats";
const NS_PER_MS: f64 = 1e6;
const NS_PER_S: u64 = 1_000_000_000;

/// One source and destination in one interval.
#[derive(Clone, Debug)]
struct Pair {
    path: Arc<Path>,
    counts: Counts,
    rtt: Option<Extremes>,
    end: Wall,
}

/// The latest interval by source and destination, in the order of the plan.
fn pairs(latest: &Latest) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::with_capacity(latest.paths.len());
    let mut positions: HashMap<(IpAddr, IpAddr), usize> = HashMap::with_capacity(latest.paths.len());
    for path in &latest.paths {
        let summary = &path.summary;
        let rtt = summary.rtt.map(Extremes::from);
        let position = *positions.entry((summary.path.src, summary.path.dst)).or_insert(pairs.len());
        match pairs.get_mut(position) {
            Some(pair) => {
                pair.counts += &summary.counts;
                pair.end = pair.end.max(summary.end);
                pair.rtt = Extremes::of_both(pair.rtt, rtt);
            }
            None => {
                let path = Arc::clone(&summary.path);
                pairs.push(Pair { path, counts: summary.counts, rtt, end: summary.end });
            }
        }
    }
    pairs
}

/// Compact JSON with the characters escaped that Go's encoder escapes.
struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            let Some(character) = special.chars().next() else { break };
            write!(writer, "{plain}\\u{:04x}", u32::from(character))?;
            rest = &special[character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }
}

/// Appends a map of texts; those of `more` win.
fn write_tags(tags: &BTreeMap<String, String>, more: [(&str, String); 2], out: &mut Vec<u8>) {
    let mut all: BTreeMap<&str, &str> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    all.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    // keys are texts and a Vec takes every byte: it cannot fail
    let _ = all.serialize(&mut serde_json::Serializer::with_formatter(out, Escaping(CompactFormatter)));
}

/// Appends one object of `/influxdata`.
fn write_point(pair: &Pair, out: &mut Vec<u8>) {
    let (loss, lost, sent) = (pair.counts.loss_percent(), pair.counts.unanswered() as f64, pair.counts.left() as f64);
    let rtt = pair.rtt.map_or(0.0, |rtt| rtt.mean / NS_PER_MS);
    let fields = format!(r#"{{"fields":{{"loss":{loss:.6},"lost":{lost:.6},"rtt":{rtt:.6},"sent":{sent:.6}}},"tags":"#);
    out.extend_from_slice(fields.as_bytes());
    let addresses = [("dst_ip", pair.path.dst.to_string()), ("src_ip", pair.path.src.to_string())];
    write_tags(&pair.path.tags, addresses, out);
    let rest = format!(r#","time":"{}","measurement":"{MEASUREMENT}"}}"#, rfc3339(pair.end));
    out.extend_from_slice(rest.as_bytes());
}

/// Appends one object of `/latency`: data are lists of name, value, and seconds since 1970.
fn write_latency(pair: &Pair, host: &str, out: &mut Vec<u8>) {
    let tag = |name: &str, ours: String| pair.path.tags.get(name).cloned().unwrap_or(ours);
    let hosts = [("dst_host", tag("dst_host", pair.path.dst.to_string())), ("src_host", tag("src_host", host.into()))];
    out.extend_from_slice(br#"{"tags":"#);
    write_tags(&pair.path.tags, hosts, out);
    let loss = pair.counts.loss_percent();
    let rtt = pair.rtt.map_or("null".to_string(), |rtt| format!("{:.6}", rtt.mean / NS_PER_MS));
    let at = pair.end.0 / NS_PER_S;
    out.extend_from_slice(format!(r#","data":[["loss",{loss:.6},{at}],["rtt",{rtt},{at}]]}}"#).as_bytes());
}

/// `GET /influxdata`.
pub(super) async fn influxdata(extract::State(state): extract::State<State>) -> Response {
    json_text(long_list("[", pairs(&state.recent.latest()).into_iter(), write_point, "]"))
}

/// `GET /latency`.
pub(super) async fn latency(extract::State(state): extract::State<State>) -> Response {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let write = move |pair: &Pair, out: &mut Vec<u8>| write_latency(pair, &host, out);
    json_text(long_list("[", pairs(&state.recent.latest()).into_iter(), write, "]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::recent::{Limits, Recent};
    use crate::probe::shape::Dscp;
    use crate::sink::record::samples;
    use crate::summary::{Statistics, Summary};
    use proptest::prelude::*;

    fn written(summaries: Vec<Summary>, write: fn(&Pair, &mut Vec<u8>)) -> Vec<String> {
        let recent = Recent::new(Limits::default());
        recent.add(summaries);
        let one = |pair: &Pair| {
            let mut out = Vec::new();
            write(pair, &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        pairs(&recent.latest()).iter().map(one).collect()
    }

    /// Two classes to one destination, one without a reply, and a destination of which nothing came back.
    fn summaries() -> Vec<Summary> {
        let (full, silent) = (samples::full(), samples::silent());
        let class = |dscp| Arc::new(Path { dscp: Dscp(dscp), ..(*full.path).clone() });
        let rtt = full.rtt.map(|rtt| Statistics { samples: 30, mean: 500_000.0, ..rtt });
        vec![
            Summary { path: class(0), ..full.clone() },
            Summary { path: Arc::new(Path { dst: [10, 0, 0, 3].into(), ..(*silent.path).clone() }), ..silent.clone() },
            Summary { path: class(8), rtt, ..full.clone() },
            Summary { path: class(16), counts: silent.counts, rtt: None, ..full },
        ]
    }

    #[test]
    fn influxdata_byte_for_byte() {
        // sent 100 + 100 + 10, lost 10 + 10 + 10; rtt (90 · 1.5 + 30 · 0.5) / 120
        assert_eq!(
            written(summaries(), write_point),
            [
                r#"{"fields":{"loss":14.285714,"lost":30.000000,"rtt":1.250000,"sent":210.000000},"tags":{"dst_ip":"10.0.0.2","dst_metro":"fra","src_ip":"10.0.0.1"},"time":"2024-02-29T12:30:30.000000001Z","measurement":"raw_stats"}"#,
                r#"{"fields":{"loss":100.000000,"lost":10.000000,"rtt":0.000000,"sent":10.000000},"tags":{"dst_ip":"10.0.0.3","src_ip":"10.0.0.1"},"time":"2024-02-29T12:30:30.000000001Z","measurement":"raw_stats"}"#,
            ]
        );
    }

    #[test]
    fn latency_byte_for_byte() {
        assert_eq!(
            written(summaries(), |pair, out| write_latency(pair, "prober", out)),
            [
                r#"{"tags":{"dst_host":"10.0.0.2","dst_metro":"fra","src_host":"prober"},"data":[["loss",14.285714,1709209830],["rtt",1.250000,1709209830]]}"#,
                r#"{"tags":{"dst_host":"10.0.0.3","src_host":"prober"},"data":[["loss",100.000000,1709209830],["rtt",null,1709209830]]}"#,
            ]
        );
        let tagged = Summary { path: samples::path(&[("dst_host", "far"), ("src_host", "here")]), ..samples::full() };
        let text = &written(vec![tagged], |pair, out| write_latency(pair, "prober", out))[0];
        assert!(text.starts_with(r#"{"tags":{"dst_host":"far","src_host":"here"},"#), "{text}");
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        let path = samples::path(&[("a<b>&\u{2028}\u{2029}", "\"\\\n\u{1}é"), ("src_ip", "forged")]);
        let text = &written(vec![Summary { path, ..samples::full() }], write_point)[0];
        let tags = r#"{"a\u003cb\u003e\u0026\u2028\u2029":"\"\\\n\u0001é","dst_ip":"10.0.0.2","src_ip":"10.0.0.1"}"#;
        assert!(text.contains(tags), "{text}");
    }

    proptest! {
        #[test]
        fn any_tags_come_back(tags in prop::collection::btree_map(".{0,12}", ".{0,12}", 0..5)) {
            let pairs: Vec<(&str, &str)> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let summary = Summary { path: samples::path(&pairs), ..samples::full() };
            let text = &written(vec![summary], write_point)[0];
            let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
            for (key, tag) in tags.iter().filter(|(key, _)| !["src_ip", "dst_ip"].contains(&key.as_str())) {
                prop_assert_eq!(value["tags"][key].as_str(), Some(tag.as_str()));
            }
            prop_assert_eq!(value["tags"]["dst_ip"].as_str(), Some("10.0.0.2"));
        }
    }
}
