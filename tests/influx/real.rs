//! Against a real server: what is written is what is read back.

use super::server::{Influxd, VictoriaMetrics};
use super::*;
use serde_json::json;

/// Tags that line protocol carries unchanged.
const NASTY: [(&str, &str); 8] = [
    ("comma,key", "a,b"),
    ("equals=key", "a=b"),
    ("space key", " a b "),
    ("quotes", "\"a\" 'b'"),
    ("unicode ü", "日本 🦙"),
    ("hash", "#no comment"),
    ("end", "comma,"),
    ("brackets", "a{b=\"c\"} #[x]"),
];

/// Tags that it cannot carry, and what becomes of their values.
const CHANGED: [(&str, &str, &str); 4] = [
    ("newline", "a\nb\r\nc", "a b  c"),
    ("backslash", "C:\\dir\\", "C:/dir/"),
    ("escape", "a\\,b\\ c\\=d", "a/,b/ c/=d"),
    ("nul", "a\0b", "a b"),
];

/// All of these, one that is empty, and one with a name that is taken.
fn nasty_summary() -> Summary {
    let changed = CHANGED.map(|(key, value, _)| (key, value));
    let tags: Vec<_> = NASTY.into_iter().chain(changed).chain([("empty", ""), ("time", "noon")]).collect();
    summary(0, &tags)
}

/// What is to be read back.
fn nasty_tags() -> impl Iterator<Item = (&'static str, &'static str)> {
    NASTY.into_iter().chain(CHANGED.map(|(key, _, value)| (key, value))).chain([("tag_time", "noon")])
}

fn url(server: &Influxd) -> String {
    format!("http://{}?db=llama", server.address())
}

#[test]
fn summaries_are_read_back_by_query() {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = sinks(&url(&server), None, quick(), Limits::default());
    sinks.deliver(&[summary(0, &[("dst_metro", "fra"), ("loss", "users")]), silent(1)]);
    wait_for(&sinks, "both", |c| c.delivered == 2);

    let rows = server.rows("SELECT * FROM raw_stats");
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (column, value) in [
        ("time", json!(T0 + 1)),
        ("src_ip", json!("10.0.0.1")),
        ("dst_ip", json!("2001:db8::2")),
        ("method", json!("udp")),
        ("dscp", json!("46")),
        ("dst_metro", json!("fra")),
        ("tag_loss", json!("users")),
        ("rtt", json!(1.5)),
        ("loss", json!(10)),
        ("lost", json!(10)),
        ("sent", json!(100)),
        ("rtt_p99", json!(2)),
        ("owd_forward_min", json!(-0.000003)),
        ("replied", json!(90)),
        ("suspect", json!(true)),
        ("suspect_reasons", json!("not_sent")),
        ("sent_by", json!("kernel")),
        ("worst_flow", json!("10.0.0.1:40000 > 10.0.0.2:8100 dscp 46")),
        ("worst_flow_loss", json!(25)),
    ] {
        assert_eq!(rows[0][column], value, "{column}");
    }
    for (column, value) in [
        ("time", json!(T0 + 30_000_000_001)),
        ("rtt", json!(0)),
        ("loss", json!(100)),
        ("lost", json!(10)),
        ("sent", json!(10)),
        ("rtt_p99", json!(null)),
        ("suspect", json!(false)),
    ] {
        assert_eq!(rows[1][column], value, "{column}");
    }
    let types = server.rows("SHOW FIELD KEYS FROM raw_stats");
    for upstream in ["rtt", "loss", "lost", "sent"] {
        assert!(types.contains(&json!({"fieldKey": upstream, "fieldType": "float"})), "{upstream}: {types:?}");
    }
    assert_eq!(sinks.close(Duration::from_secs(5)), vec![]);
}

#[test]
fn nasty_tags_come_back_as_text() {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = sinks(&url(&server), None, quick(), Limits::default());
    sinks.deliver(&[nasty_summary()]);
    let counters = wait_for(&sinks, "one", |c| c.queued == 0);
    assert_eq!(counters.delivered, 1, "{counters:?}");

    let rows = server.rows("SELECT * FROM raw_stats");
    assert_eq!(rows.len(), 1);
    for (key, value) in nasty_tags() {
        assert_eq!(rows[0][key], value, "{key}: {}", rows[0]);
    }
    assert!(rows[0].get("empty").is_none());
}

#[test]
fn victoria_metrics_stores_the_same() {
    let server = VictoriaMetrics::start();
    let address = server.address();
    for url in [format!("http://{address}?db=llama"), format!("http://{address}?org=o&bucket=b")] {
        let sinks = sinks(&url, Some("token"), quick(), Limits::default());
        sinks.deliver(&[nasty_summary()]);
        let counters = wait_for(&sinks, "one", |c| c.queued == 0);
        assert_eq!(counters.delivered, 1, "{counters:?}");
    }
    let series = server.export("raw_stats_rtt_p50", |series| series.len() == 2);
    // 1.x' database becomes a label
    assert_eq!(series.len(), 2, "{series:?}; the server says\n{}", server.account());
    for one in &series {
        assert_eq!((&one["values"], &one["timestamps"]), (&json!([1.4]), &json!([T0 / 1_000_000])));
        for (key, value) in nasty_tags() {
            assert_eq!(one["metric"][key], value, "{key}: {one}");
        }
        assert!(one["metric"]["empty"].is_null());
        assert_eq!((&one["metric"]["src_ip"], &one["metric"]["dscp"]), (&json!("10.0.0.1"), &json!("46")));
    }
}

#[test]
fn nothing_is_lost_while_the_server_is_away() {
    let mut server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = sinks(&url(&server), None, quick(), Limits::default());
    let some = |range: std::ops::Range<u32>| range.map(|n| summary(n, &[])).collect::<Vec<_>>();
    sinks.deliver(&some(0..10));
    wait_for(&sinks, "before", |c| c.delivered == 10);

    server.stop();
    sinks.deliver(&some(10..40));
    let away = wait_for(&sinks, "failed attempts", |c| c.failed_attempts >= 2);
    assert_eq!((away.delivered, away.queued, away.dropped), (10, 30, 0));
    assert!(away.last_error.expect("error").starts_with("server away: "));
    sinks.deliver(&some(40..60));

    server.run();
    sinks.deliver(&some(60..70));
    let back = wait_for(&sinks, "after", |c| c.queued == 0);
    assert_eq!((back.delivered, back.refused, back.dropped), (70, 0, 0));
    assert!(back.retried >= 1);
    let rows = server.rows("SELECT sent FROM raw_stats");
    let times: Vec<_> = rows.iter().map(|row| row["time"].as_u64().expect("time")).collect();
    assert_eq!(times, (0..70).map(|n| T0 + n * 30_000_000_000 + 1).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_keeps_the_newest_and_counts_the_rest() {
    let mut server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = sinks(&url(&server), None, quick(), Limits { summaries: 20, bytes: usize::MAX });
    server.stop();
    for n in 0..50 {
        sinks.deliver(&[summary(n, &[])]);
    }
    wait_for(&sinks, "drops", |c| c.dropped == 30 && c.queued == 20);
    server.run();
    let back = wait_for(&sinks, "after", |c| c.queued == 0);
    assert_eq!((back.accepted, back.delivered, back.dropped), (50, 20, 30));
    let rows = server.rows("SELECT sent FROM raw_stats");
    let times: Vec<_> = rows.iter().map(|row| row["time"].as_u64().expect("time")).collect();
    assert_eq!(times, (30..50).map(|n| T0 + n * 30_000_000_000 + 1).collect::<Vec<_>>());
}

#[test]
fn refused_lines_cost_no_others() {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    let sinks = sinks(&url(&server), None, quick(), Limits::default());
    let good: Vec<String> = (0..200).map(|n| format!("raw_stats,n={n} rtt=1.5 {}\n", T0 + n)).collect();
    sinks.deliver_lines(&[good[0].as_str()]);
    wait_for(&sinks, "the first", |c| c.delivered == 1);
    let bad = [
        (3, "raw_stats,n=bad rtt=5u 1709209800000000000\n"),
        (4, "raw_stats,n=bad rtt=NaN 1709209800000000000\n"),
        (90, "raw_stats,n= rtt=1 1709209800000000000\n"),
        (91, "raw_stats,n=bad\\ rtt=1 1709209800000000000\n"),
        // types are kept per shard, so its time must be near the others'
        (120, "raw_stats,n=bad rtt=\"a field of another type\" 1709209800000000000\n"),
        (200, "not line protocol\n"),
    ];
    let mut lines: Vec<&str> = good.iter().map(String::as_str).collect();
    for (at, line) in bad.into_iter().rev() {
        lines.insert(at, line);
    }
    sinks.deliver_lines(&lines);
    let end = wait_for(&sinks, "the end", |c| c.queued == 0);
    assert_eq!((end.delivered, end.refused, end.dropped), (201, bad.len() as u64, 0), "{end:?}");
    assert!(end.last_error.as_ref().expect("error").contains("refused line: not line protocol"), "{end:?}");
    assert_eq!(server.rows("SELECT rtt FROM raw_stats").len(), 200);
    assert_eq!(server.rows("SELECT rtt FROM raw_stats WHERE n = 'bad'").len(), 0);
}

#[test]
fn a_database_that_is_missing_may_come_later() {
    let server = Influxd::start();
    let sinks = sinks(&url(&server), None, quick(), Limits::default());
    sinks.deliver(&[summary(0, &[])]);
    let missing = wait_for(&sinks, "an error", |c| c.failed_attempts >= 2);
    let error = missing.last_error.expect("error");
    assert!(error.contains("404") && error.contains("CREATE DATABASE \"llama\""), "{error}");
    assert_eq!(missing.queued, 1);
    server.query("CREATE DATABASE llama");
    wait_for(&sinks, "delivery", |c| c.delivered == 1);
    assert_eq!(server.rows("SELECT rtt FROM raw_stats").len(), 1);
}

#[test]
fn user_and_password_open_a_guarded_server() {
    let server = Influxd::start_with_login("admin", "se@cret");
    server.query("CREATE DATABASE llama");
    let url = |password: &str| format!("http://admin:{password}@{}?db=llama", server.address());
    let wrong = sinks(&url("wr0ng"), None, quick(), Limits::default());
    wrong.deliver(&[summary(0, &[])]);
    let denied = wait_for(&wrong, "an error", |c| c.failed_attempts >= 2);
    let error = denied.last_error.expect("error");
    assert!(error.contains("401") && error.contains("check user and password"), "{error}");
    assert!(!error.contains("wr0ng") && !denied.name.contains("wr0ng"), "{error}");

    let right = sinks(&url("se%40cret"), None, quick(), Limits::default());
    right.deliver(&[summary(0, &[])]);
    wait_for(&right, "delivery", |c| c.delivered == 1);
    assert_eq!(server.rows("SELECT rtt FROM raw_stats").len(), 1);
}

#[test]
fn tls_needs_an_authority_that_is_trusted() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/influx");
    let server = Influxd::start_with_tls(&data.join("server.pem"));
    let sink = |host: &str, ca_file: Option<&str>| {
        let url = format!("https://{host}:{}?db=llama", server.address().port());
        let target = Target::parse(&url, None).expect("target");
        let ca_file = ca_file.map(|name| data.join(name));
        let mut sinks = Sinks::new();
        let options = Options { ca_file, policy: quick(), ..Options::new(target) };
        sinks.add_influx(options, Limits::default()).expect("sink");
        sinks.deliver(&[summary(0, &[])]);
        sinks
    };
    let untrusted = sink("localhost", None);
    let error = wait_for(&untrusted, "an error", |c| c.failed_attempts >= 2).last_error.expect("error");
    assert!(error.contains("certificate"), "{error}");
    for host in ["localhost", "127.0.0.1"] {
        // there is no database: the answer itself shows that the server was trusted
        let trusted = sink(host, Some("ca.pem"));
        let error = wait_for(&trusted, "an answer", |c| c.failed_attempts >= 1).last_error.expect("error");
        assert!(error.starts_with("server answered 404"), "{error}");
    }
}
