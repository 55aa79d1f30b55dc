//! Collectors of the first LLAMA: a body that stays the same between intervals, and no time.

use super::fake::{Answer, Fake, influxdata, unknown};
use super::server::own_address;
use super::*;
use llama::scraper::positions::{self, Position};
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn an_interval_is_written_once_however_often_it_is_seen() {
    let (server, url) = database();
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 5, 1.5));
    let scraper = Scraper::start(&fake.address.to_string(), &["--influx", &url]);
    scraper.wait_pulled(fake.address, 5);
    scraper.wait_turns(fake.address, 3);
    fake.upstream(&influxdata(ip, 5, 1.6));
    scraper.wait_pulled(fake.address, 10);
    scraper.wait_turns(fake.address, 3);
    assert_eq!(scraper.collector(fake.address)["generation"], "upstream");
    scraper.wait(fake.address, "up", |one| one["state"] == "up");
    scraper.process.terminate().success();

    expect_points(&server, 10);
    let rows = server.rows("SELECT * FROM raw_stats WHERE dst_ip = '10.0.0.3'");
    assert_eq!(rows.len(), 2);
    for (row, rtt) in rows.iter().zip([1.5, 1.6]) {
        assert_eq!(row["rtt"], rtt);
        assert_eq!((&row["loss"], &row["lost"], &row["sent"]), (&0.416667.into(), &2.into(), &480.into()));
        assert_eq!((&row["dst_metro"], &row["src_ip"]), (&"fra".into(), &ip.to_string().into()));
        let time = row["time"].as_u64().expect("time");
        assert_eq!(time % 1_000_000_000, 0, "whole seconds");
        assert_eq!(row.as_object().expect("row").len(), 8, "nothing is added: {row}");
    }
}

#[test]
fn an_outage_goes_on_in_the_database() {
    let (server, url) = database();
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    // nothing comes back: one interval looks like the next
    fake.upstream(&influxdata(ip, 1, 0.0));
    let scraper = Scraper::every("1s", &fake.address.to_string(), &["--influx", &url]);
    scraper.wait(fake.address, "three intervals", |one| one["summaries"].as_u64() >= Some(3));
    wait_for("points", || (points(&server) >= 3).then_some(()));
    fake.upstream(&influxdata(ip, 1, 2.5));
    wait_for("the end of the outage", || {
        (server.rows("SELECT rtt FROM raw_stats").last()?["rtt"] == 2.5).then_some(())
    });
    scraper.process.terminate().success();
}

#[test]
fn a_scraper_killed_in_between_repeats_nothing() {
    let (mut server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let positions = directory.path().join("positions");
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 3, 1.5));
    let flags = ["--influx", &url, "--positions", text(&positions)];
    let stored = |sure: &str| {
        std::fs::read_to_string(&positions)
            .is_ok_and(|text| text.lines().any(|line| line.ends_with(&format!(" {sure}"))))
    };
    let scraper = Scraper::start(&fake.address.to_string(), &flags);
    wait_for("a sure position", || stored("sure").then_some(()));
    scraper.kill();

    // delivered and known to be: not written again
    let scraper = Scraper::start(&fake.address.to_string(), &flags);
    scraper.wait_turns(fake.address, 3);
    assert_eq!(scraper.collector(fake.address)["summaries"], 0);

    // taken, but the database is away: written again with the same time
    server.stop();
    fake.upstream(&influxdata(ip, 3, 1.6));
    scraper.wait_pulled(fake.address, 3);
    wait_for("an unsure position", || stored("unsure").then_some(()));
    scraper.kill();
    server.run();
    let scraper = Scraper::start(&fake.address.to_string(), &flags);
    expect_points(&server, 6);
    wait_for("a sure position", || stored("sure").then_some(()));
    scraper.wait_turns(fake.address, 3);
    scraper.process.terminate().success();
    expect_points(&server, 6);
}

#[test]
fn a_stored_time_far_ahead_does_not_rule_the_next_ones() {
    let (server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("positions");
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 3, 1.5));
    let address = fake.address.to_string().parse().expect("address");
    let in_2036 = Position::Interval { fingerprint: 7, time: 2_082_758_400, sure: true };
    positions::write(&file, [(&address, &in_2036)].into_iter()).expect("file");
    let scraper = Scraper::start(&fake.address.to_string(), &["--influx", &url, "--positions", text(&file)]);
    scraper.process.wait_for("s ahead of this host's clock");
    scraper.wait_pulled(fake.address, 3);
    expect_points(&server, 3);
    scraper.process.terminate().success();
    let time = server.rows("SELECT rtt FROM raw_stats")[0]["time"].as_u64().expect("time");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_nanos() as u64;
    assert!(time <= now, "{time}");
    let stored = &positions::read(&file).expect("file")[&address];
    assert!(matches!(stored, Position::Interval { time, .. } if *time <= now / 1_000_000_000), "{stored:?}");
}

#[test]
fn the_python_generation_names_times_and_no_measurement_twice() {
    let (server, url) = database();
    let body = |ns: u64| {
        format!(
            "[{{\"measurement\":\"rtt\",\"tags\":{{\"dst_cluster\":\"b\"}},\"fields\":{{\"value\":0.25}},\"time\":{ns}}},\
              {{\"measurement\":\"loss\",\"tags\":{{\"dst_cluster\":\"b\"}},\"fields\":{{\"value\":0.0}},\"time\":{ns}}}]"
        )
    };
    let fake = Fake::start(own_address(), |_| unknown());
    fake.upstream(&body(1_709_209_800_000_000_000));
    let scraper = Scraper::start(&fake.address.to_string(), &["--influx", &url]);
    scraper.wait_pulled(fake.address, 2);
    scraper.wait_turns(fake.address, 3);
    fake.upstream(&body(1_709_209_830_000_000_000));
    scraper.wait_pulled(fake.address, 4);
    scraper.wait_turns(fake.address, 12);
    scraper.wait_pulled(fake.address, 4);
    scraper.process.terminate().success();
    let times: Vec<_> = server.rows("SELECT value FROM rtt").iter().map(|row| row["time"].as_u64()).collect();
    assert_eq!(times, [Some(1_709_209_800_000_000_000), Some(1_709_209_830_000_000_000)]);
    assert_eq!(server.rows("SELECT value FROM loss").len(), 2);
}

#[test]
fn an_old_collector_is_asked_rarely_what_it_does_not_know() {
    let ip = own_address();
    let body = influxdata(ip, 1, 1.5);
    let fake = Fake::start(ip, move |question| match question {
        "/influxdata" => Answer::Ok(body.as_bytes().into()),
        _ => unknown(),
    });
    let scraper = Scraper::every("100ms", &fake.address.to_string(), &[]);
    scraper.wait_turns(fake.address, 30);
    let (known, unknown) = (fake.asked("/influxdata"), fake.asked("/api/v1/summaries"));
    assert!(unknown >= 2 && unknown * 5 < known, "{unknown} of {known}");
    drop(scraper);
}
