//! Answers for the views' tests.

use super::answer::{Matrix, Probers, read};
use super::view::Picture;
use serde_json::{Value, json};

/// One cell: row, column, sent, lost, suspects, further values by name.
pub type Cell = (usize, usize, u64, u64, u64, Value);

/// A matrix over ten seconds of a leap day.
pub fn matrix(rows: &[&str], columns: &[&str], cells: &[Cell]) -> Value {
    let fields = [
        "row",
        "column",
        "paths",
        "suspects",
        "sent",
        "lost",
        "loss_percent",
        "rtt_mean_ms",
        "rtt_p99_ms",
        "percentiles",
        "dscp_changed_percent",
    ];
    let cells = cells.iter().map(|(row, column, sent, lost, suspects, more)| {
        let loss = if *sent > 0 { json!(100.0 * *lost as f64 / *sent as f64) } else { Value::Null };
        let named = |name: &str| more.get(name).cloned().unwrap_or(Value::Null);
        json!([
            row,
            column,
            2,
            suspects,
            sent,
            lost,
            loss,
            named("rtt_mean_ms"),
            named("rtt_p99_ms"),
            named("percentiles"),
            named("dscp_changed_percent")
        ])
    });
    json!({
        "from": "2024-02-29T12:30:00.000000000Z", "to": "2024-02-29T12:30:10.000000000Z", "resolution_s": 10.0,
        "rows": {"key": "src_rack", "values": rows}, "columns": {"key": "dst_rack", "values": columns},
        "left_out": 0, "fields": fields, "cells": cells.collect::<Vec<_>>(), "before": null
    })
}

/// A picture of a matrix, with two sound probers.
pub fn picture(matrix: &Value) -> Picture {
    let probers = json!({"probers": [
        {"src_ip": "192.0.2.1", "paths": 2, "newest": null, "summaries": 4, "suspects": 0, "suspect": {}},
        {"src_ip": "192.0.2.2", "paths": 2, "newest": null, "summaries": 4, "suspects": 0, "suspect": {}}
    ]});
    let extent =
        json!({"source": "history in /var/lib/llama", "role": "collector", "newest": matrix["to"], "interval_s": 10.0});
    Picture {
        url: "http://127.0.0.1:5000".into(),
        extent: read(extent.to_string().as_bytes()).unwrap(),
        matrix: self::read_matrix(matrix),
        probers: read_probers(&probers),
        paths: None,
        flows: None,
    }
}

pub fn read_matrix(matrix: &Value) -> Matrix {
    read(matrix.to_string().as_bytes()).unwrap()
}

pub fn read_probers(probers: &Value) -> Probers {
    read(probers.to_string().as_bytes()).unwrap()
}

/// Three racks: one pair loses, one is suspect, one is not measured.
pub fn racks() -> Value {
    let rtt = |mean: f64| json!({"rtt_mean_ms": mean, "rtt_p99_ms": mean * 2.0, "percentiles": "exact"});
    matrix(
        &["a1", "a2", "a3"],
        &["b1", "b2", "b3"],
        &[
            (0, 0, 1000, 0, 0, rtt(0.2)),
            (0, 1, 1000, 30, 0, rtt(0.3)),
            (0, 2, 1000, 0, 0, rtt(0.21)),
            (1, 0, 1000, 1, 2, json!({"rtt_mean_ms": 4.0, "rtt_p99_ms": 9.5, "percentiles": "bound"})),
            (1, 1, 1000, 0, 0, rtt(0.2)),
            (2, 0, 1000, 0, 0, rtt(0.2)),
            (2, 1, 500, 500, 0, json!({})),
            (2, 2, 100_000, 0, 0, rtt(0.2)),
        ],
    )
}
