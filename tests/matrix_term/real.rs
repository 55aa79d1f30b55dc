//! The real thing: a demo's reflectors, collector, history and API, and the matrix of it.

use super::{command, run};
use crate::common::process::{LLAMA, Process};
use std::process::Command;

#[test]
fn a_demos_matrix() {
    let mut demo = Command::new(LLAMA);
    demo.args(["demo", "--api", "127.0.0.1:0", "--interval", "200ms", "--rate", "600"]).env_remove("LLAMA_HISTORY");
    let demo = Process::spawn(demo);
    let line = demo.wait_for("http://127.0.0.1:");
    let at = line.find("http://127.0.0.1:").unwrap();
    let url = line[at..].split([' ', '/']).take(3).collect::<Vec<_>>().join("/");

    let watched = Process::spawn(command(&url, &["--watch", "--json", "--rows", "src_ip", "--columns", "rack"]));
    watched.wait_for_nth("\"role\":\"demo\"", 3);
    let finished = watched.terminate().success();
    let newest: serde_json::Value = serde_json::from_str(finished.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(newest["columns"]["values"].as_array().unwrap().len(), 6, "{newest}");
    assert_eq!(newest["total"]["paths"], 6, "{newest}");
    assert!(newest["cells"][0]["rtt_p50_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{newest}");

    // a host too busy to send is no reason to fail: it is marked then
    let text =
        run(&url, &["--metric", "p99", "--columns", "group", "--rows", "src_ip", "--where", "group=paris"]).success();
    assert!(text.stdout.contains("99th percentile of rtt in ") && text.stdout.contains("paris"), "{}", text.stdout);
    assert!(!text.stdout.contains("london") && text.stdout.contains("\n2 paths: "), "{}", text.stdout);
    demo.terminate().success();
}
