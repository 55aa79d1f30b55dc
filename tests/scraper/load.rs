//! Two hundred collectors at once: all arrives once, in bounded memory. Speed is measured by `bench/scraper.rs`.

use super::fake::{Answer, Fake, page, summary};
use super::server::own_address;
use super::unwell::peak_memory;
use super::*;
use std::sync::Arc;

const COLLECTORS: u32 = 200;
/// Fewer than the thousand of the bench, since a debug build takes part.
const SUMMARIES: u32 = 50;

#[test]
fn two_hundred_collectors() {
    let (server, url) = database();
    let ip = own_address();
    let fakes: Vec<Fake> = (0..COLLECTORS)
        .map(|number| {
            // two intervals in two pages
            let of = |interval: u32| {
                let first = u64::from(interval) * u64::from(SUMMARIES) + 1;
                let path = |n: u32| number * SUMMARIES + n;
                let numbered: Vec<_> =
                    (0..SUMMARIES).map(|n| (first + u64::from(n), summary(ip, path(n), interval))).collect();
                page("aa", &numbered)
            };
            let (pages, none) = ([of(0), of(1)], page("aa", &[]));
            Fake::start(ip, move |question| {
                let after = question.split("after=").nth(1).and_then(|rest| rest.split('&').next());
                let index = after.and_then(|after| after.parse::<usize>().ok()).expect("after") / SUMMARIES as usize;
                Answer::Ok(Arc::clone(pages.get(index).unwrap_or(&none)))
            })
        })
        .collect();
    let list: Vec<String> = fakes.iter().map(|fake| fake.address.to_string()).collect();
    let scraper = Scraper::every("5s", &list.join(","), &["--influx", &url]);
    let expected = u64::from(2 * COLLECTORS * SUMMARIES);
    let mut pulled = 0;
    let begin = Instant::now();
    while pulled < expected {
        assert!(begin.elapsed() < 2 * PATIENCE, "{pulled} of {expected}");
        std::thread::sleep(Duration::from_millis(200));
        let all = scraper.get("/api/v1/collectors");
        let all = all["collectors"].as_array().expect("list");
        pulled = all.iter().filter_map(|one| one["summaries"].as_u64()).sum();
    }
    assert_eq!(pulled, expected);
    expect_points(&server, expected);
    // the server shows points before it answers for them
    let sink = wait_for("all points answered for", || {
        let sink = scraper.get("/api/v1/health")["sinks"][0].clone();
        (sink["delivered"] == expected).then_some(sink)
    });
    assert_eq!((&sink["dropped"], &sink["refused"]), (&0.into(), &0.into()));
    let memory = peak_memory(scraper.process.id());
    println!("peak resident memory: {} MiB", memory >> 20);
    assert!(memory < 400 << 20, "{} MiB", memory >> 20);
    scraper.process.terminate().success();
}
