//! A fleet in the middle of its migration: collectors of the first LLAMA and new ones in one history and one matrix.

use super::fake::{Fake, Modern, influxdata, summary_ending, unknown};
use super::server::own_address;
use super::*;
use llama::time::{Clock, SystemClock};

/// Cells of an answer by the names of their row and column, as fields by name.
fn cells(answer: &Value) -> Vec<(String, String, Value)> {
    let name = |axis: &str, cell: &Value, at: usize| {
        let position = cell[at].as_u64().expect("a position") as usize;
        answer[axis]["values"][position].as_str().expect("a name").to_owned()
    };
    let fields = answer["fields"].as_array().expect("fields");
    let of = |cell: &Value| {
        let named = fields.iter().zip(cell.as_array().expect("a cell")).skip(2);
        let named = named.map(|(field, value)| (field.as_str().expect("a name").to_owned(), value.clone())).collect();
        (name("rows", cell, 0), name("columns", cell, 1), Value::Object(named))
    };
    answer["cells"].as_array().expect("cells").iter().map(of).collect()
}

#[test]
fn one_matrix_shows_old_and_new_collectors_as_the_database_does() {
    let (server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let ip = own_address();
    let (old, new) = (Fake::start(ip, |_| unknown()), Modern::start(ip, 1000));
    old.upstream(&influxdata(ip, 5, 1.5));
    let now = SystemClock.wall();
    new.recent.add((10..13).map(|path| summary_ending(ip, path, 1, now)).collect());
    let list = format!("{},{}", old.address, new.address);
    let history = directory.path().join("history");
    let scraper = Scraper::start(&list, &["--influx", &url, "--influx-detail", "--history", text(&history)]);
    scraper.wait_pulled(old.address, 5);
    scraper.wait_pulled(new.address, 3);
    let asked = "/api/v1/matrix?rows=method&columns=dst_metro";
    let shown = wait_for("both in the matrix", || {
        let shown = cells(&scraper.get(asked));
        (shown.len() == 2).then_some(shown)
    });
    let [(first, metro, of_old), (second, _, of_new)] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((first.as_str(), metro.as_str(), second.as_str()), ("llama", "fra", "udp"));
    for (field, value) in [
        ("paths", Value::from(5)),
        ("summaries", 5.into()),
        ("sent", 2400.into()),
        ("lost", 10.into()),
        ("rtt_mean_ms", 1.5.into()),
        ("rtt_max_ms", 1.5.into()),
        ("rtt_p99_ms", Value::Null),
        ("flows", 0.into()),
    ] {
        assert_eq!(of_old[field], value, "{field}");
    }
    assert_eq!((&of_new["paths"], &of_new["sent"]), (&3.into(), &1440.into()));

    // the database has the points as they came, histograms among them, and says the same
    expect_points(&server, 8);
    let mut command = Command::new(LLAMA);
    command.args(["matrix", "--influx", &url, "--api", "127.0.0.1:0"]).env("NO_COLOR", "1");
    let of_database = Scraper::spawn(command, ") at http://");
    let same = format!("{asked}&span=3600");
    assert_eq!(cells(&of_database.get(&same)), cells(&scraper.get(&same)));

    // only summaries can be pulled by another scraper
    let recent = scraper.get("/api/v1/summaries?after=0");
    assert_eq!(recent["summaries"].as_array().expect("a list").len(), 3);
    assert_eq!(scraper.collector(old.address)["without_path"], 0);
    let metrics = scraper.text("/metrics");
    assert!(metrics.contains("\nllama_history_paths 8\n"), "{metrics}");
    of_database.process.terminate().success();
    scraper.process.terminate().success();
}

#[test]
fn an_old_intervals_length_is_its_own() {
    let directory = tempfile::tempdir().expect("directory");
    let history = directory.path().join("history");
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 2, 1.0));
    let scraper = Scraper::start(&fake.address.to_string(), &["--history", text(&history)]);
    // each answer is seen some turns after the one before, so that whole seconds pass
    let mut pulled = 0;
    for rtt in [1.5, 2.5, 3.5] {
        scraper.wait_turns(fake.address, 12);
        fake.upstream(&influxdata(ip, 2, rtt));
        pulled += 2;
        scraper.wait_pulled(fake.address, pulled + 2);
    }
    let known = scraper.collector(fake.address)["interval_s"].as_f64().expect("an interval");
    let extent = wait_for("all intervals", || {
        let all = scraper.get("/api/v1/matrix?rows=method&columns=dst_metro&span=3600");
        let (_, _, cell) = cells(&all).pop()?;
        (cell["summaries"] == 8).then(|| scraper.get("/api/v1/matrix/extent"))
    });
    assert!(known >= 2.0, "{known}");
    assert_eq!(extent["interval_s"].as_f64(), Some(known));
    scraper.process.terminate().success();
}

#[test]
fn points_without_a_path_are_counted_and_reach_the_database() {
    let (server, url) = database();
    let directory = tempfile::tempdir().expect("directory");
    let history = directory.path().join("history");
    let ip = own_address();
    let fake = Fake::start(ip, |_| unknown());
    fake.upstream(&influxdata(ip, 3, 1.5).replacen("\"dst_ip\":\"10.0.0.0\"", "\"dst_name\":\"host\"", 1));
    let scraper = Scraper::start(&fake.address.to_string(), &["--influx", &url, "--history", text(&history)]);
    let seen = scraper.wait_pulled(fake.address, 3);
    assert_eq!(seen["without_path"], 1);
    expect_points(&server, 3);
    wait_for("the others in the history", || {
        let metrics = scraper.text("/metrics");
        let left_out = format!("llama_scraper_points_without_path_total{{collector=\"{}\"}} 1\n", fake.address);
        assert!(metrics.contains(&left_out), "{metrics}");
        metrics.contains("\nllama_history_paths 2\n").then_some(())
    });
    let ended = scraper.process.terminate().success();
    assert_eq!(ended.stderr.matches("points that name no path").count(), 1, "{}", ended.stderr);
}
