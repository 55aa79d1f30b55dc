//! Collectors that misbehave: each is named with the reason, none holds up the others.

use super::fake::{Answer, Fake, Modern, ok, summary};
use super::server::own_address;
use super::*;
use llama::scraper::PULLERS;

/// A collector that answers so is down, with an error like this, while another one is pulled.
fn is_down(answer: fn() -> Answer, says: &str) {
    let ip = own_address();
    let (bad, good) = (Fake::start(ip, move |_| answer()), Modern::start(ip, 1000));
    let scraper = Scraper::every("1s", &format!("{},{}", bad.address, good.address), &[]);
    let status = scraper.wait(bad.address, "down", |one| one["failures"].as_u64() >= Some(2));
    assert_eq!((&status["state"], &status["summaries"]), (&"down".into(), &0.into()));
    let error = status["last_error"].as_str().expect("error");
    assert!(error.contains(says), "{error}");
    good.recent.add(vec![summary(ip, 1, 1)]);
    scraper.wait_pulled(good.address, 1);
    // and when it comes to its senses
    bad.upstream(&fake::influxdata(ip, 2, 1.5));
    scraper.wait(bad.address, "up", |one| one["state"] == "up" && one["summaries"] == 2);
    let said = scraper.process.terminate().success().stderr;
    let collector = format!("collector={}", bad.address);
    let lines = |what: &str| said.lines().filter(|line| line.contains(what) && line.contains(&collector)).count();
    assert_eq!((lines(" down: "), lines("up again")), (1, 1), "said once: {said}");
}

#[test]
fn one_that_hangs() {
    is_down(|| Answer::Hang, "no whole answer within 0.5 s");
}

#[test]
fn one_that_drips() {
    is_down(|| Answer::Drip, "no whole answer within 0.5 s");
}

#[test]
fn one_that_answers_garbage() {
    is_down(|| ok("<html>no collector\u{1b}[2J"), "answers what no collector does");
    is_down(|| Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "");
    is_down(|| Answer::Raw(vec![0xff; 300]), "");
}

#[test]
fn one_that_breaks_off() {
    is_down(|| Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[{\"fields\":".to_vec()), "no answer: ");
    is_down(|| ok("{\"instance\":\"aa\",\"summaries\":[{\"sequence\":1,"), "answers what no collector does");
}

#[test]
fn one_that_fails() {
    is_down(|| Answer::Status("500 Internal Server Error", "out of llamas"), "answered 500: out of llamas");
    is_down(|| Answer::Status("404 Not Found", "nothing here"), "is this a collector's API?");
}

#[test]
fn one_that_points_elsewhere() {
    is_down(
        || Answer::Status("302 Found\r\nLocation: http://192.0.2.1/", ""),
        "points to http://192.0.2.1/, which is not followed",
    );
}

#[test]
fn one_that_answers_a_hundred_megabytes() {
    const HUGE: u64 = 100 << 20;
    let ip = own_address();
    let (told, untold) = (
        Fake::start(ip, |_| Answer::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n[").into_bytes())),
        Fake::start(ip, |_| Answer::Huge(HUGE)),
    );
    // long enough to read much more than the limit
    let scraper = Scraper::every("20s", &format!("{},{}", told.address, untold.address), &[]);
    for bad in [&told, &untold] {
        let status = scraper.wait(bad.address, "down", |one| one["state"] == "down");
        assert!(status["last_error"].as_str().expect("error").contains("more than 16 MiB"), "{status}");
    }
    let memory = peak_memory(scraper.process.id());
    assert!(memory < 80 << 20, "{} MiB", memory >> 20);
    scraper.process.terminate().success();
}

/// Most memory a process had so far, bytes.
pub fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("number") << 10
}

#[test]
fn a_site_that_hangs_delays_nobody_else() {
    let ip = own_address();
    let hanging: Vec<Fake> = (0..4 * PULLERS).map(|_| Fake::start(ip, |_| Answer::Hang)).collect();
    let good = Modern::start(ip, 100_000);
    let mut list: Vec<String> = hanging.iter().map(|fake| fake.address.to_string()).collect();
    list.push(good.address.to_string());
    // each that hangs keeps a thread for half of every second: they need twice as many as there are
    let scraper = Scraper::every("1s", &list.join(","), &[]);
    for fake in &hanging {
        scraper.wait(fake.address, "down", |one| one["state"] == "down");
    }
    let before = scraper.collector(good.address)["pulls"].as_u64().expect("pulls");
    let least = scraper.collector(hanging[0].address)["failures"].as_u64().expect("failures");
    scraper.wait(hanging[0].address, "more turns", |one| one["failures"].as_u64() >= Some(least + 3));
    let turns = scraper.collector(good.address)["pulls"].as_u64().expect("pulls") - before;
    assert!(turns >= 5, "the good one had {turns} turns while a hanging one had 3");
    scraper.process.terminate().success();
}
