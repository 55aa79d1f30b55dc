//! `/api/v1/matrix/flows` and `/api/v1/matrix/flow`: the flows of paths, joined over a time, and one flow over time.
//!
//! Read [`answer`], then [`answer_one`].

use super::Shown;
use super::question::{TIME, Time};
use super::records::{text, window};
use super::worst::{Badness, Worst};
use crate::http::answer::{Refusal, joined, json_text};
use crate::http::api::query::{Parameters, mistake};
use crate::matrix::{Answer, Filter, FlowAt};
use crate::probe::shape::Dscp;
use crate::sink::record::FlowRecord;
use crate::sink::rfc3339;
use crate::summary::path_id::PathId;
use crate::summary::{FlowSummary, Path};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::iter::once;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Entries of one flow in an answer at most.
const ENTRIES: usize = 10_000;

/// What flows can be ordered by, worst first.
const ORDERS: [(&str, Badness<FlowSummary>); 2] = [
    ("loss", |flow| (flow.loss_percent(), flow.lost as f64)),
    ("rtt", |flow| (flow.rtt.map_or(f64::NAN, |rtt| rtt.mean), flow.loss_percent())),
];

pub(super) fn parse(uri: &Uri) -> Result<Worst<FlowSummary>, Refusal> {
    Worst::of(uri, &ORDERS)
}

/// One flow over a time.
struct Joined {
    path: Arc<Path>,
    id: PathId,
    intervals: u64,
    flow: FlowSummary,
}

#[derive(Serialize)]
struct JoinedRecord<'a> {
    path: String,
    src_ip: IpAddr,
    dst_ip: IpAddr,
    method: &'static str,
    group: &'a str,
    tags: &'a BTreeMap<String, String>,
    intervals: u64,
    #[serde(flatten)]
    flow: FlowRecord,
}

/// Joins what is known of each flow.
fn join(entries: &[FlowAt]) -> Vec<Joined> {
    // an id takes a hash of texts: once for each path
    let mut ids: HashMap<*const Path, PathId> = HashMap::new();
    let mut positions: HashMap<(PathId, SocketAddr, SocketAddr, u8), usize> = HashMap::new();
    let mut all: Vec<Joined> = Vec::new();
    for FlowAt { path, flow, .. } in entries {
        let id = *ids.entry(Arc::as_ptr(path)).or_insert_with(|| PathId::of(path));
        let position = *positions.entry((id, flow.source, flow.target, flow.dscp.0)).or_insert(all.len());
        match all.get_mut(position) {
            None => all.push(Joined { path: Arc::clone(path), id, intervals: 1, flow: flow.clone() }),
            Some(joined) => {
                joined.path = Arc::clone(path); // as it was named last
                joined.intervals += 1;
                joined.flow += flow;
            }
        }
    }
    all
}

/// `GET /api/v1/matrix/flows`.
pub(super) fn answer(question: Worst<FlowSummary>, shown: &Shown) -> Result<Response, Refusal> {
    let source = shown.source();
    let asked = &question.asked;
    let answer = asked.time.when(&source.extent()?).flows(source, &asked.filter)?;
    let flows = join(&answer.value);
    let total = flows.len();
    let flows = question.pick(flows, |joined| &joined.flow);
    let head = format!(r#"{{{},"total":{total},"flows":["#, window(&answer));
    let one = |(position, Joined { path, id, intervals, flow }): (usize, Joined)| {
        let record = JoinedRecord {
            path: id.to_string(),
            src_ip: path.src,
            dst_ip: path.dst,
            method: path.method.name(),
            group: &path.group,
            tags: &path.tags,
            intervals,
            flow: FlowRecord::from(&flow),
        };
        format!("{}{}", if position == 0 { "" } else { "," }, text(&record)).into_bytes()
    };
    let flows = flows.into_iter().enumerate().map(one);
    Ok(json_text(joined(once(head.into_bytes()).chain(flows).chain(once(b"]}".to_vec())))))
}

/// A question for one flow.
pub(super) struct One {
    time: Time,
    path: PathId,
    source: SocketAddr,
    target: SocketAddr,
    dscp: Dscp,
}

pub(super) fn parse_one(uri: &Uri) -> Result<One, Refusal> {
    let known: Vec<&str> = ["path", "source", "target", "dscp"].into_iter().chain(TIME).collect();
    let parameters = Parameters::of(uri, &known)?;
    let address = |name: &str| {
        let text = parameters.get(name).unwrap_or_default();
        text.parse::<SocketAddr>()
            .map_err(|_| mistake(name, text, "give ADDR:PORT, [ADDR]:PORT for IPv6, as of a flow"))
    };
    let missing =
        |name: &str| mistake(name, "", "name a flow: path=, source=, target= and dscp=, as /api/v1/matrix/flows");
    Ok(One {
        time: Time::of(&parameters)?,
        path: parameters.path("path")?.ok_or_else(|| missing("path"))?,
        source: address("source")?,
        target: address("target")?,
        dscp: parameters.number("dscp", 0..=63)?.map(|dscp| Dscp(dscp as u8)).ok_or_else(|| missing("dscp"))?,
    })
}

#[derive(Serialize)]
struct EntryRecord {
    end: String,
    sent: u64,
    lost: u64,
    loss_percent: f64,
    lost_forward: u64,
    lost_reverse: u64,
    dscp_changed_forward: u64,
    dscp_changed_reverse: u64,
    rtt_ms: Option<crate::sink::record::ExtremesRecord>,
}

impl From<FlowAt> for EntryRecord {
    fn from(FlowAt { end, flow, .. }: FlowAt) -> EntryRecord {
        let record = FlowRecord::from(&flow);
        EntryRecord {
            end: rfc3339(end),
            sent: record.sent,
            lost: record.lost,
            loss_percent: record.loss_percent,
            lost_forward: record.lost_forward,
            lost_reverse: record.lost_reverse,
            dscp_changed_forward: record.dscp_changed_forward,
            dscp_changed_reverse: record.dscp_changed_reverse,
            rtt_ms: record.rtt_ms,
        }
    }
}

/// `GET /api/v1/matrix/flow`.
pub(super) fn answer_one(question: One, shown: &Shown) -> Result<Response, Refusal> {
    let One { time, path, source, target, dscp } = question;
    let filter = Filter { path: Some(path), terms: Vec::new() };
    let answer = shown.source().flows(time.window(&shown.source().extent()?), &filter)?;
    let time = window(&answer);
    let Answer { value: mut entries, .. } = answer;
    entries.retain(|entry| (entry.flow.source, entry.flow.target, entry.flow.dscp) == (source, target, dscp));
    if entries.len() > ENTRIES {
        let error = format!("{} entries of the flow in this time, {ENTRIES} are shown at most", entries.len());
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error, "ask for a shorter time"));
    }
    let dscp = dscp.0;
    let head = format!(r#"{{{time},"path":"{path}","source":"{source}","target":"{target}","dscp":{dscp},"points":["#);
    let one = |(position, entry): (usize, FlowAt)| {
        format!("{}{}", if position == 0 { "" } else { "," }, text(&EntryRecord::from(entry))).into_bytes()
    };
    let entries = entries.into_iter().enumerate().map(one);
    Ok(json_text(joined(once(head.into_bytes()).chain(entries).chain(once(b"]}".to_vec())))))
}
