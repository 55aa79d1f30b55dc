//! `/api/v1/paths`, `/api/v1/paths/{id}/flows`, `/api/v1/targets`: what is probed, and how it went in the
//! latest interval.

use super::query::Parameters;
use super::{State, long_list};
use crate::config::plan::{Plan, Target};
use crate::http::answer::{Refusal, json, json_text};
use crate::http::recent::{Latest, LatestPath, PathId};
use crate::sink::record::{FlowRecord, suspicion_name};
use crate::sink::rfc3339;
use crate::summary::Path;
use axum::extract;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One path of `/api/v1/paths`; of the latest interval what is `null` before the first.
#[derive(Serialize)]
struct PathRecord<'a> {
    id: String,
    src_ip: IpAddr,
    dst_ip: IpAddr,
    method: &'static str,
    dscp: u8,
    size: Option<u16>,
    group: &'a str,
    tags: &'a BTreeMap<String, String>,
    end: Option<String>,
    sent: Option<u64>,
    lost: Option<u64>,
    loss_percent: Option<f64>,
    rtt_ms: Option<f64>,
    flows: Option<u32>,
    flows_with_loss: Option<u32>,
    suspect: Vec<&'static str>,
}

fn path_record<'a>(path: &'a Path, id: PathId, latest: Option<&LatestPath>) -> PathRecord<'a> {
    let summary = latest.map(|latest| &*latest.summary);
    let suspicions = summary.map_or(&[][..], |summary| &summary.suspect);
    PathRecord {
        id: id.to_string(),
        src_ip: path.src,
        dst_ip: path.dst,
        method: path.method.name(),
        dscp: path.dscp.0,
        size: path.size,
        group: &path.group,
        tags: &path.tags,
        end: summary.map(|summary| rfc3339(summary.end)),
        sent: summary.map(|summary| summary.counts.left()),
        lost: summary.map(|summary| summary.counts.unanswered()),
        loss_percent: summary.map(|summary| summary.counts.loss_percent()),
        rtt_ms: summary.and_then(|summary| Some(summary.rtt.as_ref()?.mean.round() / 1e6)),
        flows: summary.map(|summary| summary.flows),
        flows_with_loss: summary.map(|summary| summary.flows_with_loss),
        suspect: suspicions.iter().map(|suspicion| suspicion_name(*suspicion)).collect(),
    }
}

/// `GET /api/v1/paths`: every path of the plan.
pub(super) async fn paths(extract::State(state): extract::State<State>, uri: Uri) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let (plan, latest): (Arc<Plan>, Arc<Latest>) = (state.plan.get(), state.recent.latest());
    let count = plan.paths.len();
    let write = move |position: &usize, out: &mut Vec<u8>| {
        let Some(path) = plan.paths.get(*position) else { return };
        let id = PathId::of(path);
        // texts and numbers only: it cannot fail
        let _ = serde_json::to_writer(out, &path_record(path, id, latest.path(id)));
    };
    Ok(json_text(long_list(r#"{"paths":["#, 0..count, write, "]}")))
}

/// What stands before the flows of a path.
#[derive(Serialize)]
struct FlowsHead<'a> {
    path: String,
    src_ip: IpAddr,
    dst_ip: IpAddr,
    method: &'static str,
    dscp: u8,
    size: Option<u16>,
    group: &'a str,
    start: String,
    end: String,
    interval: u32,
    flows: u32,
    flows_with_loss: u32,
}

/// `GET /api/v1/paths/{id}/flows`: the flows of a path in the latest interval, worst first.
pub(super) async fn flows(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let unknown = |error: String| {
        Refusal::new(StatusCode::NOT_FOUND, error, "GET /api/v1/paths lists the ids; an interval has to end first")
    };
    let Some(parsed) = PathId::parse(&id) else {
        let shown: String = id.chars().take(40).collect();
        return Err(unknown(format!("`{shown}` is no path's id")));
    };
    let latest = state.recent.latest();
    let Some(path) = latest.path(parsed) else {
        return Err(unknown(format!("path {parsed} has no summary in the latest interval")));
    };
    let summary = &path.summary;
    let head = FlowsHead {
        path: parsed.to_string(),
        src_ip: summary.path.src,
        dst_ip: summary.path.dst,
        method: summary.path.method.name(),
        dscp: summary.path.dscp.0,
        size: summary.path.size,
        group: &summary.path.group,
        start: rfc3339(summary.start),
        end: rfc3339(summary.end),
        interval: summary.interval,
        flows: summary.flows,
        flows_with_loss: summary.flows_with_loss,
    };
    let mut text = serde_json::to_string(&head).unwrap_or_default();
    text.pop(); // the list goes before the closing brace
    text.push_str(r#","listed":["#);
    let count = path.flows.len();
    let latest = Arc::clone(&latest);
    let write = move |position: &usize, out: &mut Vec<u8>| {
        let Some(flow) = latest.path(parsed).and_then(|path| path.flows.get(*position)) else { return };
        let _ = serde_json::to_writer(out, &FlowRecord::from(flow));
    };
    Ok(json_text(long_list(&text, 0..count, write, "]}")))
}

/// A target and the tests that probe it.
#[derive(Serialize)]
struct TargetRecord<'a> {
    host: &'a str,
    address: SocketAddr,
    group: &'a str,
    tags: &'a BTreeMap<String, String>,
    probes_per_second: f64,
    tests: Vec<TestRecord<'a>>,
}

/// A test as one of its targets sees it.
#[derive(Clone, Serialize)]
struct TestRecord<'a> {
    port_group: &'a str,
    flows: u32,
    cycles_per_second: f64,
}

/// Per target of the plan: its tests, with their flows to it.
fn tests_of(plan: &Plan) -> Vec<Vec<(u32, u32)>> {
    let mut tests: Vec<Vec<(u32, u32)>> = vec![Vec::new(); plan.targets.len()];
    for (number, test) in (0..).zip(&plan.tests) {
        let flows = plan.flows.get(test.flows.start as usize..test.flows.end as usize).unwrap_or_default();
        for flow in flows {
            let Some(of_target) = tests.get_mut(flow.target as usize) else { continue };
            match of_target.last_mut() {
                Some((last, flows)) if *last == number => *flows += 1,
                _ => of_target.push((number, 1)),
            }
        }
    }
    tests
}

fn target_record<'a>(plan: &'a Plan, target: &'a Target, tests: &[(u32, u32)]) -> TargetRecord<'a> {
    let record = |(number, flows): &(u32, u32)| {
        let test = plan.tests.get(*number as usize)?;
        Some(TestRecord { port_group: &test.port_group, flows: *flows, cycles_per_second: test.cycles_per_second })
    };
    let tests: Vec<TestRecord<'a>> = tests.iter().filter_map(record).collect();
    TargetRecord {
        host: &target.host,
        address: target.address,
        group: &target.group,
        tags: &target.tags,
        probes_per_second: tests.iter().map(|test| f64::from(test.flows) * test.cycles_per_second).sum(),
        tests,
    }
}

/// `GET /api/v1/targets`: every target of the plan.
pub(super) async fn targets(extract::State(state): extract::State<State>, uri: Uri) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let plan = state.plan.get();
    let tests = tests_of(&plan);
    let count = plan.targets.len();
    let write = move |position: &usize, out: &mut Vec<u8>| {
        let (Some(target), Some(tests)) = (plan.targets.get(*position), tests.get(*position)) else { return };
        let _ = serde_json::to_writer(out, &target_record(&plan, target, tests));
    };
    Ok(json_text(long_list(r#"{"targets":["#, 0..count, write, "]}")))
}

/// What this program is.
#[derive(Serialize)]
struct Build {
    name: &'static str,
    version: &'static str,
    api: &'static str,
    profile: &'static str,
    architecture: &'static str,
}

/// `GET /api/v1/build`.
pub async fn build(uri: Uri) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    Ok(json(&Build {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        api: "v1",
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        architecture: std::env::consts::ARCH,
    }))
}
