//! `/api/v1/matrix/paths` and `/api/v1/matrix/probers`: the figures of each path, and of each source address.
//!
//! Read [`answer`], then [`answer_probers`].

use super::Shown;
use super::question::{TIME, Time};
use super::records::{FIELDS, ms, row, text, values, window};
use super::worst::{Badness, Worst};
use crate::http::answer::{Refusal, joined, json_text};
use crate::http::api::query::Parameters;
use crate::matrix::{Figures, Filter, PathFigures};
use crate::sink::record::suspicion_name;
use crate::sink::rfc3339;
use crate::summary::Suspicion;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::iter::once;
use std::net::IpAddr;

fn lateness(figures: &Figures) -> f64 {
    figures.lateness_p99.map_or(f64::NAN, |ns| ns as f64)
}

/// What paths can be ordered by, worst first.
const ORDERS: [(&str, Badness<Figures>); 8] = [
    ("loss", |f| (f.counts.loss_percent(), f.counts.unanswered() as f64)),
    ("lost", |f| (f.counts.unanswered() as f64, f.counts.loss_percent())),
    ("rtt_mean", |f| (f.rtt.map_or(f64::NAN, |rtt| rtt.mean), 0.0)),
    ("rtt_p50", |f| (f.percentiles().map_or(f64::NAN, |p| p.p50 as f64), 0.0)),
    ("rtt_p99", |f| (f.percentiles().map_or(f64::NAN, |p| p.p99 as f64), 0.0)),
    ("ipdv", |f| (f.ipdv.map_or(f64::NAN, |ipdv| ipdv.mean), 0.0)),
    ("lateness", |f| (lateness(f), 0.0)),
    ("dscp_changed", |f| (f.counts.dscp_changed_percent().unwrap_or(f64::NAN), f.counts.loss_percent())),
];

pub(super) fn parse(uri: &Uri) -> Result<Worst<Figures>, Refusal> {
    Worst::of(uri, &ORDERS)
}

/// What names a path: the columns before its figures.
const NAMES: [&str; 9] = ["id", "src_ip", "dst_ip", "method", "dscp", "size", "group", "tags", "newest"];

fn named(one: &PathFigures) -> [Value; NAMES.len()] {
    let path = &one.path;
    [
        PathId::of(path).to_string().into(),
        path.src.to_string().into(),
        path.dst.to_string().into(),
        path.method.name().into(),
        path.dscp.0.into(),
        path.size.into(),
        path.group.clone().into(),
        json!(*path.tags),
        rfc3339(one.newest).into(),
    ]
}

/// `GET /api/v1/matrix/paths`.
pub(super) fn answer(question: Worst<Figures>, shown: &Shown) -> Result<Response, Refusal> {
    let source = shown.source();
    let asked = &question.asked;
    let answer = asked.time.when(&source.extent()?).figures(source, &asked.filter)?;
    let (window, total) = (window(&answer), answer.value.len());
    let worst = question.pick(answer.value, |one| &one.figures);
    let fields: Vec<&str> = NAMES.into_iter().chain(FIELDS).collect();
    let head = format!(r#"{{{window},"total":{total},"fields":{},"paths":["#, text(&fields));
    let one =
        |(position, one): (usize, PathFigures)| row(position, named(&one).into_iter().chain(values(&one.figures)));
    let rows = worst.into_iter().enumerate().map(one);
    Ok(json_text(joined(once(head.into_bytes()).chain(rows).chain(once(b"]}".to_vec())))))
}

pub(super) fn parse_probers(uri: &Uri) -> Result<Time, Refusal> {
    Time::of(&Parameters::of(uri, &TIME)?)
}

/// One source address.
struct Prober {
    paths: HashSet<PathId>,
    newest: Wall,
    figures: Figures,
}

impl Prober {
    fn record(&self, src: IpAddr) -> Value {
        let whole = |ns: Option<i64>| ms(ns.map(|ns| ns as f64));
        let figures = &self.figures;
        let suspect: BTreeMap<&str, u64> =
            Suspicion::ALL.into_iter().map(suspicion_name).zip(figures.suspect).collect();
        json!({
            "src_ip": src.to_string(),
            "paths": self.paths.len(),
            "newest": rfc3339(self.newest),
            "summaries": figures.summaries,
            "suspects": figures.suspects,
            "suspect": suspect,
            "not_sent": figures.counts.not_sent,
            "send_failed": figures.counts.send_failed,
            "local_drops": figures.local_drops,
            "lateness_p99_ms": whole(figures.lateness_p99),
            "lateness_max_ms": whole(figures.lateness_max),
        })
    }
}

/// `GET /api/v1/matrix/probers`.
pub(super) fn answer_probers(time: Time, shown: &Shown) -> Result<Response, Refusal> {
    let source = shown.source();
    let answer = time.when(&source.extent()?).figures(source, &Filter::all())?;
    let window = window(&answer);
    let mut probers: BTreeMap<IpAddr, Prober> = BTreeMap::new();
    for one in answer.value {
        let new = || Prober { paths: HashSet::new(), newest: one.newest, figures: Figures::default() };
        let prober = probers.entry(one.path.src).or_insert_with(new);
        prober.paths.insert(PathId::of(&one.path));
        prober.newest = prober.newest.max(one.newest);
        // delays are the network's: only what the prober itself did is joined
        prober.figures.add_path(&Figures { histogram: Default::default(), rtt: None, ..one.figures });
    }
    let records: Vec<Value> = probers.iter().map(|(src, prober)| prober.record(*src)).collect();
    Ok(json_text(format!(r#"{{{window},"probers":{}}}"#, text(&records))))
}
