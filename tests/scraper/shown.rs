//! What people and machines are told: mistakes, the API, metrics, lines, the list of collectors as it changes.

use super::fake::{Answer, Fake, Modern, influxdata, summary, unknown};
use super::server::own_address;
use super::*;
use common::process::llama;
use llama::scraper::positions;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;

/// What the program says when it is called like this: it must be a mistake.
fn refused(arguments: &[&str]) -> String {
    let all: Vec<&str> = ["scraper"].iter().chain(arguments).copied().collect();
    let finished = llama(&all).finish_within(PATIENCE);
    assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}", finished.stderr);
    finished.stderr
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let list = directory.path().join("hosts.txt");
    std::fs::write(&list, "host1\n# fine\nhttp://host2:5000\n").expect("list");
    let at_list = format!("@{}", list.display());
    for (arguments, says) in [
        (&["--interval", "1s"][..], "--collectors"),
        (&["--collectors", "a:b:c"], "--collectors: `a:b:c` is not an IPv6 address"),
        (&["--collectors", &at_list], "hosts.txt:3: `http://host2:5000` is a URL; write HOST or HOST:PORT"),
        (&["--collectors", "@/no/such/list"], "name a file that can be read after @"),
        (&["--collectors", "a", "--interval", "1ms"], "100ms to 1h"),
        (&["--collectors", "a", "--influx", "http://db"], "?db=NAME"),
        (&["--collectors", "a", "--spool", "/tmp"], "--influx"),
        (&["--collectors", "a", "--influx-token", "x"], "add --influx URL"),
        (
            &["--collectors", "a", "--positions", "/no/such/dir/p", "--output", "/dev/null"],
            "positions cannot be stored",
        ),
        (&["--collectors", "a", "--positions", "p"], "add --influx URL or --output FILE, or leave --positions out"),
        (&["--collectors", "a", "--output", "/no/such/dir/o"], "output: cannot open"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

#[test]
fn the_list_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().expect("directory");
    let list = directory.path().join("hosts.txt");
    let ip = own_address();
    let (first, second) = (Modern::start(ip, 1000), Modern::start(ip, 1000));
    for modern in [&first, &second] {
        modern.recent.add(vec![summary(ip, 1, 1)]);
    }
    let write = |text: &str| {
        let beside = directory.path().join("new");
        std::fs::write(&beside, text).expect("list");
        std::fs::rename(&beside, &list).expect("list");
    };
    write(&format!("{}\n", first.address));
    let scraper = Scraper::start(&format!("@{}", list.display()), &[]);
    scraper.wait_pulled(first.address, 1);
    write(&format!("{} # the other\n{0}\n{}\n", second.address, first.address));
    scraper.wait_pulled(second.address, 1);
    scraper.process.wait_for("is named twice");
    // what was known of the first is still known
    assert_eq!(scraper.collector(first.address)["summaries"], 1);
    // a mistake leaves all as it is
    write("a:b:c\n");
    scraper.process.wait_for("the old one stays");
    scraper.wait_turns(first.address, 2);
    write(&format!("{}\n", second.address));
    wait_for("the first to be gone", || scraper.collector(first.address).is_null().then_some(()));
    scraper.wait_turns(second.address, 2);
    // its only summary is years old
    wait_for("its state", || (scraper.get("/api/v1/health")["collectors"]["lagging"] == 1).then_some(()));
    scraper.process.terminate().success();
}

#[test]
fn a_file_of_positions_has_one_scraper() {
    let directory = tempfile::tempdir().expect("directory");
    let (file, output) = (directory.path().join("positions"), directory.path().join("output"));
    let modern = Modern::start(own_address(), 1000);
    modern.recent.add(vec![summary(modern.address.ip(), 1, 1)]);
    let address = modern.address.to_string();
    let flags = ["--positions", text(&file), "--output", text(&output)];
    let first = Scraper::start(&address, &flags);
    first.wait_pulled(modern.address, 1);
    let said = refused(&[&["--collectors", &address][..], &flags].concat());
    let says = format!("{}: another scraper stores its positions there; end it, or give", file.display());
    assert!(said.contains(&says), "{said}");
    first.process.terminate().success();
    // what the first stored is still there
    assert_eq!(positions::read(&file).expect("file").len(), 1);
    // nor does one that was killed keep others out
    Scraper::start(&address, &flags).kill();
    Scraper::start(&address, &flags).process.terminate().success();
}

#[test]
fn a_hangup_reads_the_list_again() {
    let directory = tempfile::tempdir().expect("directory");
    let list = directory.path().join("hosts.txt");
    let (first, second) = (Modern::start(own_address(), 1000), Modern::start(own_address(), 1000));
    std::fs::write(&list, format!("{}\n", first.address)).expect("list");
    let scraper = Scraper::start(&format!("@{}", list.display()), &[]);
    scraper.wait_turns(first.address, 1);
    // nothing changed: only the signal makes it read
    scraper.process.signal(Signal::SIGHUP);
    scraper.process.wait_for("was read again: 1 now, 0 new, 0 gone");
    std::fs::remove_file(&list).expect("list");
    scraper.process.signal(Signal::SIGHUP);
    scraper.process.wait_for("the old one stays");
    scraper.wait_turns(first.address, 2);
    std::fs::write(&list, format!("{}\n{}\n", first.address, second.address)).expect("list");
    scraper.process.signal(Signal::SIGHUP);
    scraper.wait_turns(second.address, 1);
    scraper.process.terminate().success();
}

#[test]
fn a_hangup_says_that_a_typed_list_cannot_be_read_again() {
    let modern = Modern::start(own_address(), 1000);
    let scraper = Scraper::start(&modern.address.to_string(), &[]);
    scraper.process.signal(Signal::SIGHUP);
    scraper.process.wait_for("there is nothing to read again");
    scraper.wait_turns(modern.address, 2);
    scraper.process.terminate().success();
}

#[test]
fn everything_that_was_pulled_can_be_asked_for() {
    let ip = own_address();
    let (first, second) = (Modern::start(ip, 1000), Modern::start(ip, 1000));
    first.recent.add((0..3).map(|path| summary(ip, path, 1)).collect());
    second.recent.add((10..12).map(|path| summary(ip, path, 1)).collect());
    let scraper = Scraper::start(&format!("{},{}", first.address, second.address), &[]);
    scraper.wait_pulled(first.address, 3);
    scraper.wait_pulled(second.address, 2);
    let page = scraper.get("/api/v1/summaries?after=0");
    let destinations: BTreeSet<&str> =
        page["summaries"].as_array().expect("list").iter().filter_map(|s| s["dst_ip"].as_str()).collect();
    assert_eq!(destinations, BTreeSet::from(["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.10", "10.0.0.11"]));
    // so a scraper can be pulled by a scraper
    let above = Scraper::start(&scraper.api.to_string(), &[]);
    above.wait_pulled(scraper.api, 5);
    let page = above.get("/api/v1/summaries?after=0&histogram=1");
    for summary in page["summaries"].as_array().expect("list") {
        assert_eq!(summary["rtt_histogram"].to_string(), "[[20,400],[40,78]]", "histograms come along");
    }
    above.process.terminate().success();
    assert_eq!(scraper.text("/status"), "ok");
    for (path, _) in llama::scraper::api::ENDPOINTS {
        assert!(!scraper.text(path).is_empty(), "{path}");
    }
    let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
    let mut answer = agent.get(format!("http://{}/nothing", scraper.api)).call().expect("answer");
    assert_eq!(answer.status().as_u16(), 404);
    assert!(answer.body_mut().read_to_string().expect("text").contains("/api/v1/ lists what there is"));
    scraper.process.terminate().success();
}

#[test]
fn metrics_are_those_of_the_documentation() {
    let ip = own_address();
    let (old, bad, new) = (Fake::start(ip, |_| unknown()), Fake::start(ip, |_| unknown()), Modern::start(ip, 1000));
    old.upstream(&influxdata(ip, 2, 1.5));
    new.recent.add(vec![summary(ip, 1, 1)]);
    let scraper = Scraper::start(&format!("{},{},{}", old.address, bad.address, new.address), &[]);
    scraper.wait_pulled(old.address, 2);
    scraper.wait_pulled(new.address, 1);
    scraper.wait(bad.address, "down", |one| one["state"] == "down");
    let page = scraper.text("/metrics");
    for line in [
        "llama_scraper_collectors{state=\"down\"} 1".to_owned(),
        format!("llama_scraper_collector_up{{collector=\"{}\"}} 1", old.address),
        format!("llama_scraper_collector_up{{collector=\"{}\"}} 0", bad.address),
        format!("llama_scraper_summaries_total{{collector=\"{}\"}} 2", old.address),
    ] {
        assert!(page.contains(&line), "{line}\n{page}");
    }
    let ours = |name: &str| name.starts_with("llama_scraper_");
    let served: BTreeSet<&str> = (page.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| ours(name))
        .collect();
    let documented = include_str!("../../docs/scraper.md");
    let documented: BTreeSet<&str> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|n| ours(n))
        .collect();
    assert_eq!(served, documented);
    scraper.process.terminate().success();
}

#[test]
fn keys_of_a_collectors_state_are_those_of_the_documentation() {
    let scraper = Scraper::start(&format!("{}:1", own_address()), &[]);
    let all = scraper.get("/api/v1/collectors");
    let keys: BTreeSet<&str> = all["collectors"][0].as_object().expect("object").keys().map(String::as_str).collect();
    let text = include_str!("../../docs/scraper.md");
    let section =
        text.split("### A collector's state").nth(1).and_then(|rest| rest.split("\n#").next()).expect("section");
    let documented: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(keys, documented);
    scraper.process.terminate().success();
}

#[test]
fn health_names_what_a_destination_says_as_a_collector_does() {
    let ip = own_address();
    let (modern, database) =
        (Modern::start(ip, 1000), Fake::start(ip, |_| Answer::Status("503 Service Unavailable", "no room today")));

    modern.recent.add(vec![summary(ip, 1, 1)]);
    let (url, directory) = (format!("http://{}?db=llama", database.address), tempfile::tempdir().expect("directory"));
    let flags = ["--influx", &url, "--spool", text(directory.path())];
    let scraper = Scraper::start(&modern.address.to_string(), &flags);
    let reason = |name: &str| {
        let health = scraper.get("/api/v1/health");
        health["reasons"].as_array().expect("list").iter().find(|reason| reason["name"] == name).cloned()
    };
    let failures = wait_for("failures", || reason("sink_failures"));
    let meaning = failures["meaning"].as_str().expect("text");
    assert!(meaning.contains("destinations did not take summaries: ") && meaning.contains("503"), "{failures}");
    let spooled = wait_for("the spool", || reason("spooled"));
    assert_eq!((&spooled["count"], &spooled["now"]), (&1.into(), &true.into()));
    drop(scraper);
}

#[test]
fn lines_where_there_is_no_terminal_and_no_destination() {
    let ip = own_address();
    let modern = Modern::start(ip, 1000);
    modern.recent.add(vec![summary(ip, 1, 1)]);
    let scraper = Scraper::start(&modern.address.to_string(), &["--duration", "1h"]);
    scraper.process.wait_for("nothing is stored: give --influx or --output");
    let line = scraper.process.wait_for("is=new");
    assert!(line.contains(&format!("Z {} state=", modern.address)), "{line}");
    assert!(line.contains("pulled=1 missed=0"), "{line}");
    let said = scraper.process.terminate().success().stdout;
    assert!(said.trim_end().ends_with("in all: 1 pulled, 0 missed"), "{said}");
}
