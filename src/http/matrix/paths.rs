//! `/api/v1/matrix/paths` and `/api/v1/matrix/probers`: the figures of each path, and of each source address.
//!
//! Read [`answer`], then [`answer_probers`].

use super::Shown;
use super::question::{Asked, TIME, Time, word};
use super::records::{FIELDS, ms, row, text, values, window};
use crate::http::answer::{Refusal, joined, json_text};
use crate::http::api::query::Parameters;
use crate::matrix::{Figures, Filter, Key, PathFigures};
use crate::sink::record::suspicion_name;
use crate::sink::rfc3339;
use crate::summary::Suspicion;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::iter::once;
use std::net::IpAddr;

/// Paths, and flows, of an answer unless another limit is asked for, and at most.
pub(super) const LIMITS: (u64, u64) = (100, 10_000);

/// How bad a path is: larger is worse, by the first number, then by the second; NaN stands for not measured.
type Badness = fn(&Figures) -> (f64, f64);

fn lateness(figures: &Figures) -> f64 {
    figures.lateness_p99.map_or(f64::NAN, |ns| ns as f64)
}

/// What paths can be ordered by, worst first.
const ORDERS: [(&str, Badness); 8] = [
    ("loss", |f| (f.counts.loss_percent(), f.counts.unanswered() as f64)),
    ("lost", |f| (f.counts.unanswered() as f64, f.counts.loss_percent())),
    ("rtt_mean", |f| (f.rtt.map_or(f64::NAN, |rtt| rtt.mean), 0.0)),
    ("rtt_p50", |f| (f.percentiles().map_or(f64::NAN, |p| p.p50 as f64), 0.0)),
    ("rtt_p99", |f| (f.percentiles().map_or(f64::NAN, |p| p.p99 as f64), 0.0)),
    ("ipdv", |f| (f.ipdv.map_or(f64::NAN, |ipdv| ipdv.mean), 0.0)),
    ("lateness", |f| (lateness(f), 0.0)),
    ("dscp_changed", |f| (f.counts.dscp_changed_percent().unwrap_or(f64::NAN), f.counts.loss_percent())),
];

/// The worse one first; what was not measured last.
pub(super) fn worse_first(a: (f64, f64), b: (f64, f64)) -> Ordering {
    let one = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(&a),
        (a, b) => a.cmp(&b),
    };
    one(a.0, b.0).then_with(|| one(a.1, b.1))
}

/// A question for paths.
pub(super) struct Question {
    asked: Asked,
    order: Badness,
    limit: usize,
}

pub(super) fn parse(uri: &Uri) -> Result<Question, Refusal> {
    let (asked, parameters) = Asked::of(uri, &["order", "limit"])?;
    let order = word(&parameters, "order", &ORDERS)?.unwrap_or(ORDERS[0].1);
    let limit = parameters.number("limit", 1..=LIMITS.1)?.unwrap_or(LIMITS.0) as usize;
    Ok(Question { asked, order, limit })
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
        Key::Size.of(path).parse::<u64>().ok().into(),
        path.group.clone().into(),
        json!(*path.tags),
        rfc3339(one.newest).into(),
    ]
}

/// `GET /api/v1/matrix/paths`.
pub(super) fn answer(question: Question, shown: &Shown) -> Result<Response, Refusal> {
    let source = shown.source();
    let asked = question.asked;
    let answer = asked.time.when(&source.extent()?).figures(source, &asked.filter)?;
    let (window, total) = (window(&answer), answer.value.len());
    // percentiles take time: once for each path
    let mut ordered: Vec<((f64, f64), PathFigures)> =
        answer.value.into_iter().map(|one| ((question.order)(&one.figures), one)).collect();
    ordered.sort_by(|(a, _), (b, _)| worse_first(*a, *b));
    ordered.truncate(question.limit);
    let fields: Vec<&str> = NAMES.into_iter().chain(FIELDS).collect();
    let head = format!(r#"{{{window},"total":{total},"fields":{},"paths":["#, text(&fields));
    let one = |(position, (_, one)): (usize, ((f64, f64), PathFigures))| {
        row(position, named(&one).into_iter().chain(values(&one.figures)))
    };
    let rows = ordered.into_iter().enumerate().map(one);
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
    let mut probers: BTreeMap<IpAddr, Prober> = BTreeMap::new();
    for one in &answer.value {
        let new = || Prober { paths: HashSet::new(), newest: one.newest, figures: Figures::default() };
        let prober = probers.entry(one.path.src).or_insert_with(new);
        prober.paths.insert(PathId::of(&one.path));
        prober.newest = prober.newest.max(one.newest);
        // delays are the network's: only what the prober itself did is joined
        prober.figures.add_path(&Figures { histogram: Default::default(), rtt: None, ..one.figures.clone() });
    }
    let records: Vec<Value> = probers.iter().map(|(src, prober)| prober.record(*src)).collect();
    Ok(json_text(format!(r#"{{{},"probers":{}}}"#, window(&answer), text(&records))))
}
