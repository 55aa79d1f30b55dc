//! What a collector that measures answers, against what it writes to its file.

use crate::client::{connect, get, json, request, wait_for};
use crate::collector::Collector;
use crate::common::process::{PATIENCE, llama};
use llama::http::api::summaries::ReceivedPage;
use llama::sink::record::{SummaryRecord, parse};
use llama::summary::Summary;
use serde_json::Value;
use std::net::TcpListener;

/// Lines of the collector's file, whole ones.
fn lines(collector: &Collector) -> Vec<Value> {
    let text = std::fs::read_to_string(&collector.output).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn summaries_are_those_of_the_file_and_come_back_as_summaries() {
    let collector = Collector::measuring(3);
    let lines = wait_for("three intervals of two paths", || Some(lines(&collector)).filter(|lines| lines.len() >= 6));
    let address = collector.address;
    let mut page = json(address, "/api/v1/summaries?after=0&limit=6");
    assert_eq!((&page["first"], &page["next"], &page["lost"]), (&1.into(), &6.into(), &0.into()));
    for (number, line) in lines.iter().take(6).enumerate() {
        let summary = page["summaries"][number].as_object_mut().unwrap();
        assert_eq!(summary.remove("sequence"), Some((number + 1).into()));
        assert_eq!(page["summaries"][number], *line);
    }
    // the rest of it, page by page, without a gap or a repeat
    let mut next = 0;
    for expected in (1..=6).step_by(2) {
        let page = json(address, &format!("/api/v1/summaries?after={next}&limit=2"));
        let list = page["summaries"].as_array().unwrap();
        let sequences: Vec<u64> = list.iter().map(|summary| summary["sequence"].as_u64().unwrap()).collect();
        assert_eq!(sequences, [expected, expected + 1]);
        next = page["next"].as_u64().unwrap();
    }
    // as a scraper takes it
    let answer = get(address, "/api/v1/summaries?after=0&limit=6&histogram=1");
    let page: ReceivedPage = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(Some(page.instance.as_str()), json(address, "/api/v1/summaries")["instance"].as_str());
    for (record, line) in page.summaries.into_iter().zip(&lines) {
        let summary = Summary::try_from(record).unwrap();
        assert_eq!(serde_json::to_value(SummaryRecord::from(&summary)).unwrap(), *line);
        let counted: u64 = summary.rtt_histogram.iter().map(|(_, count)| count).sum();
        assert_eq!(Some(counted), summary.rtt.map(|rtt| rtt.samples));
        assert!(parse(line.to_string().as_bytes()).is_ok());
    }
    // by time
    let end = lines[2]["end"].as_str().unwrap();
    let of_one = |query: &str| json(address, &format!("/api/v1/summaries?{query}"))["summaries"].clone();
    let first: Vec<Value> = of_one(&format!("to={end}")).as_array().unwrap().clone();
    assert_eq!(first.iter().map(|summary| summary["interval"].clone()).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(of_one(&format!("from={end}&limit=1"))[0]["interval"], 1);
    let path = json(address, "/api/v1/paths")["paths"][1]["id"].as_str().unwrap().to_owned();
    let of_path = of_one(&format!("path={path}"));
    assert!(of_path.as_array().unwrap().iter().all(|summary| summary["dscp"] == 46), "{of_path}");
}

#[test]
fn upstream_endpoints_add_the_paths_of_a_pair() {
    let collector = Collector::measuring(2);
    collector.wait_for_interval();
    // both in one interval: the latest may change in between
    let (point, latency, summaries) = wait_for("one interval", || {
        let before = json(collector.address, "/api/v1/summaries");
        let answers = (get(collector.address, "/influxdata"), json(collector.address, "/latency"));
        (before == json(collector.address, "/api/v1/summaries")).then_some((answers.0, answers.1, before))
    });
    let list = summaries["summaries"].as_array().unwrap();
    let sum = |key: &str| list.iter().map(|summary| summary[key].as_f64().unwrap()).sum::<f64>();
    let samples = |summary: &Value| summary["rtt_ms"]["samples"].as_f64().unwrap_or(0.0);
    let weighted: f64 = list.iter().map(|s| s["rtt_ms"]["mean"].as_f64().unwrap_or(0.0) * samples(s)).sum();
    let rtt = weighted / list.iter().map(samples).sum::<f64>();
    let points = point.json();
    assert_eq!(points.as_array().unwrap().len(), 1);
    let fields = &points[0]["fields"];
    assert_eq!((fields["sent"].as_f64().unwrap(), fields["lost"].as_f64().unwrap()), (sum("sent"), sum("lost")));
    assert!((fields["rtt"].as_f64().unwrap() - rtt).abs() < 2e-6, "{fields} {rtt}");
    assert_eq!(points[0]["time"], list[0]["end"]);
    assert_eq!(points[0]["measurement"], "raw_stats");
    let text = point.text();
    let tags =
        r#""tags":{"dst_ip":"127.0.0.1","note":"\u003cb\u003e\u0026\"é\"","rack":"a1","src_ip":"127.0.0.1"},"time":""#;
    assert!(text.starts_with(r#"[{"fields":{"loss":"#) && text.contains(tags), "{text}");
    assert_eq!(latency[0]["tags"]["rack"], "a1");
    assert_eq!((&latency[0]["data"][0][0], &latency[0]["data"][1][0]), (&"loss".into(), &"rtt".into()));
    assert_eq!(latency[0]["data"][1][1].as_f64(), fields["rtt"].as_f64());
}

#[test]
fn paths_and_all_their_flows() {
    let collector = Collector::measuring(30);
    let before = json(collector.address, "/api/v1/paths");
    assert_eq!(before["paths"].as_array().unwrap().len(), 2, "known before the first interval");
    collector.wait_for_interval();
    let paths = json(collector.address, "/api/v1/paths");
    let path = &paths["paths"][0];
    assert_eq!((&path["dscp"], &path["flows"], &path["tags"]["rack"]), (&0.into(), &30.into(), &"a1".into()));
    let flows = json(collector.address, &format!("/api/v1/paths/{}/flows", path["id"].as_str().unwrap()));
    assert_eq!(flows["path"], path["id"]);
    let listed = flows["listed"].as_array().unwrap();
    assert_eq!((listed.len(), flows["flows"].as_u64()), (30, Some(30)));
    let rank = |flow: &Value| (flow["lost"].as_u64().unwrap(), flow["rtt_ms"]["mean"].as_f64().unwrap_or(0.0));
    // means are those of whole nanoseconds where flows are compared
    assert!(listed.windows(2).all(|pair| rank(&pair[0]).0 >= rank(&pair[1]).0), "worst first");
    assert!(
        listed
            .windows(2)
            .all(|pair| rank(&pair[0]).0 > rank(&pair[1]).0 || rank(&pair[0]).1 + 2e-6 >= rank(&pair[1]).1)
    );
    let line = wait_for("a line", || lines(&collector).into_iter().next());
    assert_eq!(line["worst_flows"].as_array().unwrap().len(), 8, "others get the worst only");
    let targets = json(collector.address, "/api/v1/targets");
    assert_eq!(targets["targets"][0]["probes_per_second"], 640.0);
    assert_eq!(targets["targets"][0]["tests"][0]["flows"], 32);
    assert!(get(collector.address, "/api/v1/paths/0123456789abcdef/flows").refusal(404).contains("/api/v1/paths"));
    get(collector.address, "/api/v1/paths/%3Cscript%3E/flows").refusal(404);
}

#[test]
fn health_says_what_is_wrong() {
    let collector = Collector::measuring(1);
    collector.wait_for_interval();
    let health = wait_for("features", || {
        Some(json(collector.address, "/api/v1/health")).filter(|health| health["features"]["io"].is_string())
    });
    assert_eq!((&health["paths"], &health["flows"], &health["interval_s"]), (&2.into(), &3.into(), &1.0.into()));
    let degraded = health["reasons"].as_array().unwrap().iter().any(|reason| reason["now"] == true);
    assert_eq!(health["status"] == "degraded", degraded);
    assert_eq!(health["sinks"].as_array().unwrap().len(), 1);
    assert_eq!(json(collector.address, "/api/v1/build")["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn head_and_wrong_methods_and_wrong_parameters() {
    let collector = Collector::idle();
    let address = collector.address;
    for path in ["/status", "/influxdata", "/api/v1/health", "/"] {
        let answer = request(address, &format!("HEAD {path}"), "");
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{path}");
        for method in ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "NONSENSE"] {
            let answer = request(address, &format!("{method} {path}"), "");
            answer.refusal(405);
            assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method} {path}");
        }
    }
    assert_eq!(request(address, "GET /api/v1/reload", "").header("allow"), Some("POST"));
    for path in ["/nothing", "/api/v1/paths/", "/api/v2/", "/api/v1/../status", "/%2e%2e/etc/passwd", "//status"] {
        get(address, path).refusal(404);
    }
    for (query, remedy) in [
        ("after=x", "whole number"),
        ("after=1&from=0", "by sequence or by time"),
        ("from=yesterday", "RFC 3339"),
        ("from=2&to=1", "earlier instant as from"),
        ("path=1", "/api/v1/paths"),
        ("limit=0", "1 to 20000"),
        ("limit=20001", "1 to 20000"),
        ("histogram=perhaps", "1 or 0"),
        ("limit=1&limit=2", "once"),
        ("sort=loss", "use after, limit"),
    ] {
        let said = get(address, &format!("/api/v1/summaries?{query}")).refusal(400);
        assert!(said.contains(remedy), "{query}: {said}");
    }
    assert!(get(address, "/").text().contains("href=\"/api/v1/\""));
    collector.check("all of these");
}

#[test]
fn a_port_in_use_ends_the_run_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("legacy.yaml");
    std::fs::write(&file, format!("api: {{bind: '{address}'}}\ntargets: {{t: [{{ip: 127.0.0.1}}]}}\n")).unwrap();
    let file = file.to_str().unwrap();
    // the key of the file, and the flag that wins
    for arguments in [&["collector", "--config", file][..], &["collector", "--api", &address]] {
        let finished = llama(arguments).finish_within(PATIENCE);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
        let said = format!("cannot listen on {address}");
        assert!(finished.stderr.contains(&said) && finished.stderr.contains("another port"), "{}", finished.stderr);
    }
    let free = ["collector", "--config", file, "--api", "127.0.0.1:0", "--duration", "100ms"];
    llama(&free).finish_within(PATIENCE).success();
}

#[test]
fn open_connections_do_not_hold_up_the_end() {
    let collector = Collector::idle();
    let _idle: Vec<_> = (0..5).map(|_| connect(collector.address)).collect();
    // Process::terminate has a deadline of its own
    collector.process.terminate().success();
}
