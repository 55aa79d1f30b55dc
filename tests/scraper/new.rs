//! New collectors: by sequence, across restarts of either side.

use super::fake::{Fake, Modern, influxdata, summary, unknown};
use super::server::own_address;
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};

/// Adds intervals of `paths` summaries each.
fn close(modern: &Modern, paths: u32, intervals: std::ops::Range<u32>) {
    for interval in intervals {
        modern.recent.add((0..paths).map(|path| summary(modern.address.ip(), path, interval)).collect());
    }
}

/// Path and time of every line of a file of JSON lines; fails when one stands twice.
fn lines(path: &Path) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for line in fs::read_to_string(path).expect("output").lines() {
        let object: Value = serde_json::from_str(line).expect("JSON");
        let key = (object["dst_ip"].to_string(), object["end"].to_string());
        assert!(found.insert(key.clone()), "{key:?} stands twice");
    }
    found
}

#[test]
fn everything_once_from_the_first_to_the_newest() {
    let (server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let output = directory.path().join("out.jsonl");
    let modern = Modern::start(own_address(), 100_000);
    // more than a page and more than one turn takes
    close(&modern, 700, 0..12);
    let scraper = Scraper::start(&modern.address.to_string(), &["--influx", &url, "--output", text(&output)]);
    scraper.wait_pulled(modern.address, 8400);
    close(&modern, 700, 12..13);
    let status = scraper.wait_pulled(modern.address, 9100);
    assert_eq!(
        (&status["generation"], &status["missed"], &status["behind"]),
        (&"new".into(), &0.into(), &false.into())
    );
    scraper.process.terminate().success();
    expect_points(&server, 9100);
    assert_eq!(lines(&output).len(), 9100);
    // as the collector itself would have written it
    let rows = server.rows("SELECT * FROM raw_stats WHERE dst_ip = '10.0.0.9' LIMIT 1");
    let mut line = Vec::new();
    llama::sink::influx::line(&summary(modern.address.ip(), 9, 0), &mut line);
    let line = String::from_utf8(line).expect("text");
    for part in ["dst_cluster=cluster2", "dst_metro=fra", "dscp=46", "method=udp"] {
        let (key, value) = part.split_once('=').expect("tag");
        assert!(line.contains(part), "{line}");
        assert_eq!(rows[0][key], value);
    }
    assert_eq!((&rows[0]["time"], &rows[0]["rtt_p99"]), (&fake::T0.into(), &0.040009.into()));
}

#[test]
fn a_scraper_killed_again_and_again_skips_nothing() {
    let (server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let positions = directory.path().join("positions");
    let modern = Modern::start(own_address(), 100_000);
    let flags = ["--influx", url.as_str(), "--positions", text(&positions)];
    for round in 0..4 {
        close(&modern, 300, round * 4..round * 4 + 4);
        let scraper = Scraper::start(&modern.address.to_string(), &flags);
        // killed with some taken, some not, some on the way
        scraper.wait(modern.address, "some", |one| one["summaries"].as_u64() >= Some(1));
        scraper.kill();
        close(&modern, 300, 100 + round..101 + round);
    }
    let scraper = Scraper::start(&modern.address.to_string(), &flags);
    expect_points(&server, 20 * 300);
    let last = format!(" {}", modern.recent.after(0, 1).newest);
    let stored = || fs::read_to_string(&positions).is_ok_and(|text| text.lines().any(|line| line.ends_with(&last)));
    wait_for("the newest position", || stored().then_some(()));
    scraper.kill();
    // now all is known to be delivered, and a restart takes nothing
    let scraper = Scraper::start(&modern.address.to_string(), &flags);
    scraper.wait_turns(modern.address, 3);
    let status = scraper.collector(modern.address);
    assert_eq!((&status["summaries"], &status["missed"], &status["restarts"]), (&0.into(), &0.into(), &0.into()));
    scraper.process.terminate().success();
}

#[test]
fn a_position_waits_until_the_database_has_it() {
    let (mut server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let positions = directory.path().join("positions");
    let modern = Modern::start(own_address(), 100_000);
    let flags = ["--influx", url.as_str(), "--positions", text(&positions)];
    server.stop();
    close(&modern, 100, 0..3);
    let scraper = Scraper::start(&modern.address.to_string(), &flags);
    scraper.wait_pulled(modern.address, 300);
    scraper.wait_turns(modern.address, 3);
    let stored = fs::read_to_string(&positions).expect("positions");
    assert!(!stored.contains(" sequence "), "{stored}");
    scraper.kill();
    server.run();
    let scraper = Scraper::start(&modern.address.to_string(), &flags);
    expect_points(&server, 300);
    scraper.process.terminate().success();
}

#[test]
fn a_collector_that_was_restarted_is_pulled_from_its_beginning() {
    let (server, url) = database();
    let mut modern = Modern::start(own_address(), 100_000);
    close(&modern, 100, 0..3);
    let scraper = Scraper::start(&modern.address.to_string(), &["--influx", &url]);
    scraper.wait_pulled(modern.address, 300);
    modern.restart();
    // fewer than before, so that its numbers are below the position
    close(&modern, 100, 3..5);
    let status = scraper.wait_pulled(modern.address, 500);
    assert_eq!((&status["restarts"], &status["missed"]), (&1.into(), &0.into()));
    modern.restart();
    close(&modern, 100, 5..15);
    scraper.wait_pulled(modern.address, 1500);
    scraper.process.terminate().success();
    expect_points(&server, 1500);
}

#[test]
fn what_was_dropped_before_it_was_pulled_is_counted() {
    let mut modern = Modern::start(own_address(), 250);
    close(&modern, 100, 0..1);
    let scraper = Scraper::every("1s", &modern.address.to_string(), &[]);
    scraper.wait_pulled(modern.address, 100);
    modern.stop();
    scraper.wait(modern.address, "down", |one| one["state"] == "down");
    close(&modern, 100, 1..11);
    modern.resume();
    let status = scraper.wait_pulled(modern.address, 350);
    assert_eq!((&status["missed"], &status["restarts"]), (&750.into(), &0.into()));
    let health = scraper.get("/api/v1/health");
    let reasons = health["reasons"].as_array().expect("reasons");
    assert!(reasons.iter().any(|r| r["name"] == "summaries_missed" && r["count"] == 750), "{health}");
    let said = scraper.process.terminate().success().stderr;
    assert_eq!((said.matches(" down: ").count(), said.matches("up again").count()), (1, 1), "{said}");
}

#[test]
fn a_full_queue_leaves_summaries_where_they_are() {
    const SUMMARIES: u64 = 8000;
    let directory = tempfile::tempdir().expect("directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    // both ends are open, and nobody reads for now
    let mut reader = fs::File::options().read(true).write(true).open(&pipe).expect("pipe");
    let modern = Modern::start(own_address(), 200_000);
    // a queue takes 64 MiB, and pulling fills half of it: these are more than 64 MB
    for interval in 0..SUMMARIES as u32 / 100 {
        let large = |path| {
            let mut summary = summary(modern.address.ip(), path, interval);
            let mut of = (*summary.path).clone();
            of.tags = std::sync::Arc::new([("note".to_owned(), "x".repeat(8000))].into());
            summary.path = std::sync::Arc::new(of);
            summary
        };
        modern.recent.add((0..100).map(large).collect());
    }
    let scraper = Scraper::every("1s", &modern.address.to_string(), &["--output", text(&pipe)]);
    let waits = |health: &Value| {
        health["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|r| r["name"] == "pulls_put_off"))
    };
    wait_for("pulls that are put off", || waits(&scraper.get("/api/v1/health")).then_some(()));
    let status = scraper.collector(modern.address);
    assert!(status["summaries"].as_u64() < Some(SUMMARIES) && status["state"] == "lagging", "{status}");
    let mut read = BTreeSet::new();
    let mut lines = BufReader::new(&mut reader).lines();
    while read.len() < SUMMARIES as usize {
        let object: Value = serde_json::from_str(&lines.next().expect("a line").expect("read")).expect("JSON");
        assert!(read.insert((object["dst_ip"].to_string(), object["end"].to_string())), "twice: {object}");
    }
    let health = scraper.get("/api/v1/health");
    assert_eq!(health["sinks"][0]["dropped"], 0);
    scraper.process.terminate().success();
}

#[test]
fn an_old_collector_replaced_by_a_new_one_in_place() {
    let (server, url) = database();
    let ip = own_address();
    let modern = Modern::start(ip, 100_000);
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 4, 1.5));
    let scraper = Scraper::start(&fake.address.to_string(), &["--influx", &url]);
    scraper.wait_pulled(fake.address, 4);
    // the same address now answers as the new one does, /influxdata with times included
    close(&modern, 4, 0..2);
    let new = modern.address;
    fake.behave(move |question| match question {
        "/influxdata" => fake::ok(influxdata(ip, 4, 1.7).replace("0001-01-01T00:00:00Z", "2024-02-29T12:30:30Z")),
        question => {
            let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
            let mut answer = agent.get(format!("http://{new}{question}")).call().expect("answer");
            fake::ok(answer.body_mut().read_to_string().expect("text"))
        }
    });
    let status = scraper.wait_pulled(fake.address, 12);
    assert_eq!((&status["generation"], &status["missed"]), (&"new".into(), &0.into()));
    // and back: every step of a migration can be undone
    fake.upstream(&influxdata(ip, 4, 1.8));
    let status = scraper.wait_pulled(fake.address, 16);
    assert_eq!(status["generation"], "upstream");
    scraper.process.terminate().success();
    expect_points(&server, 16);
    let rows = server.rows("SELECT rtt FROM raw_stats WHERE dst_ip = '10.0.0.1' AND method = ''");
    assert_eq!(rows.iter().map(|row| row["rtt"].as_f64()).collect::<Vec<_>>(), [Some(1.5), Some(1.8)]);
}
