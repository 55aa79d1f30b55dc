//! What is shown of servers that are well.

use super::memory::{self, Memory, NEWEST, path, summary};
use super::{command, run, serve};
use crate::common::process::{PATIENCE, Process};
use serde_json::Value;

#[test]
fn one_screen() {
    let server = serve(&Memory::of(memory::fleet()));
    let finished = run(&format!("http://{}", server.address()), &[]).success();
    let expected = format!(
        "\
loss in %: src_rack × dst_rack
summaries in memory, test at http://{}
2024-02-29 12:30:20 – 12:30:30 UTC, newest interval of each path (10.0 s)
OLD: ",
        server.address()
    );
    assert!(finished.stdout.starts_with(&expected), "{}", finished.stdout);
    let rest = "\
16 paths: 1600 sent, 11 lost (0.69 %)
probers: 2 of 4 SUSPECT: their numbers may be their own doing (~)
  10.0.0.2: local_drops in 4 of 4 summaries, not_sent in 4 of 4 summaries, 12
  not sent, 7 dropped here
  10.0.0.3: local_drops in 4 of 4 summaries, not_sent in 4 of 4 summaries, 12
  not sent, 7 dropped here

src_rack \\ dst_rack  d0   d1
s0                    0  2.8
s1                   ~0   ~0
0 no loss   ~ suspect: may be the prober's own doing

worst of 16 paths
";
    assert!(finished.stdout.contains(rest), "{}", finished.stdout);
    assert!(finished.stdout.contains("\nworst of 32 flows kept\n"), "{}", finished.stdout);
    assert!(finished.stdout.contains("10.0.0.0:33000 → 10.0.1.2:8100"), "{}", finished.stdout);
    assert!(finished.stdout.lines().all(|line| line.chars().count() <= 80), "{}", finished.stdout);
    assert!(!finished.stdout.contains('\x1b'), "no styles where there is no terminal: {:?}", finished.stdout);
}

#[test]
fn colours_where_they_are_forced() {
    let server = serve(&Memory::of(memory::fleet()));
    let mut forced = command(&format!("http://{}", server.address()), &[]);
    forced.env("CLICOLOR_FORCE", "1");
    let finished = Process::spawn(forced).finish_within(PATIENCE).success();
    assert!(finished.stdout.contains("\x1b[48;5;214m2.8\x1b[0m"), "{:?}", finished.stdout);
    assert!(finished.stdout.contains("colours from: "), "{:?}", finished.stdout);
}

fn json(url: &str, arguments: &[&str]) -> Value {
    run(url, &[&["--json"], arguments].concat()).success().json()
}

fn cell<'a>(answer: &'a Value, row: &str, column: &str) -> &'a Value {
    let cells = answer["cells"].as_array().unwrap();
    cells.iter().find(|cell| cell["row"] == row && cell["column"] == column).unwrap_or(&Value::Null)
}

#[test]
fn json_has_the_servers_numbers() {
    let server = serve(&Memory::of(memory::fleet()));
    let url = format!("http://{}/", server.address());
    let newest = json(&url, &[]);
    assert_eq!(newest["to"], "2024-02-29T12:30:30.000000000Z");
    assert_eq!(cell(&newest, "s0", "d1")["lost"], 11);
    assert_eq!(cell(&newest, "s0", "d1")["rtt_mean_ms"], 5.0);
    assert_eq!(cell(&newest, "s1", "d0")["suspects"], 4);
    assert_eq!(cell(&newest, "s0", "d1")["dscp_changed_percent"], 0.0);
    assert!(cell(&newest, "s0", "d1")["mtu"].is_null());
    assert_eq!(newest["worst"]["paths"][0]["too_big"], 0);
    assert_eq!(newest["total"]["lost"], 11);
    assert_eq!(newest["worst"]["flows"][0]["source"], "10.0.0.0:33000");
    assert_eq!(newest["worst"]["paths"].as_array().unwrap().len(), 5);
    assert_eq!(newest["probers"][2]["suspect"]["local_drops"], 4);

    let flat =
        json(&url, &["--rows", "src_ip", "--columns", "dst_ip", "--where", "src_rack=s0", "--where", "src_rack=none"]);
    assert_eq!(flat["rows"]["values"], serde_json::json!(["10.0.0.0", "10.0.0.1"]));
    assert_eq!(cell(&flat, "10.0.0.0", "10.0.1.2")["lost"], 10);

    let minute = json(&url, &["--span", "1m", "--before", "1d", "--where", &format!("note={}", memory::NASTY)]);
    assert_eq!((&minute["total"]["lost"], &minute["total"]["sent"]), (&16.into(), &9600.into()));
    assert_eq!(cell(&minute["before"], "s0", "d1")["lost"], 0);
    assert_eq!(cell(&minute["before"], "s0", "d1")["sent"], 2400);

    let earlier = json(&url, &["--at", &(NEWEST - 10).to_string(), "--worst", "2", "--metric", "p99"]);
    assert_eq!((&earlier["total"]["lost"], &earlier["worst"]["paths"][1]["rtt_p99_ms"]), (&1.into(), &5.0.into()));
    assert!(json(&url, &["--worst", "0"])["worst"]["paths"].is_null());
}

#[test]
fn changes_are_shown() {
    let server = serve(&Memory::of(memory::fleet()));
    let finished = run(&format!("http://{}", server.address()), &["--before", "1d"]).success();
    assert!(finished.stdout.contains("\ns0                    0  +2.8\n"), "{}", finished.stdout);
    assert!(finished.stdout.contains("against 2024-02-28 12:30:20 – 12:30:30 UTC\n"), "{}", finished.stdout);
}

#[test]
fn a_limit_of_loss_is_for_scripts() {
    let memory = Memory::of(memory::fleet());
    let server = serve(&memory);
    let url = format!("http://{}", server.address());
    let above = run(&url, &["--fail-above", "2.5"]);
    assert_eq!(above.status.code(), Some(1));
    assert!(above.stderr.contains("s0 × d1 with 2.8 %") && above.stdout.contains("worst of"), "{}", above.stderr);
    run(&url, &["--fail-above", "2.75"]).success();
    run(&url, &["--fail-above", "0", "--where", "src_rack=s1"]).success();
    let nothing = run(&url, &["--fail-above", "50", "--where", "src_rack=nowhere"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(nothing.stderr.contains("nothing was measured"), "{}", nothing.stderr);
}

#[test]
fn before_the_first_interval_there_is_nothing_to_show() {
    let server = serve(&Memory::of(Vec::new()));
    let finished = run(&format!("http://{}", server.address()), &[]).success();
    assert!(finished.stdout.contains("no interval has ended yet"), "{}", finished.stdout);
    assert!(finished.stdout.contains("nothing was measured"), "{}", finished.stdout);
}

#[test]
fn nasty_tags_are_text() {
    let mut nasty = (*path(0, 0)).clone();
    let tags = [("src_rack", "\x1b[2J\x1b]0;owned\x07"), ("dst_rack", "\u{202e}\u{9b}31m\n<b>")];
    nasty.tags = std::sync::Arc::new(tags.map(|(key, value)| (key.to_string(), value.to_string())).into());
    let server = serve(&Memory::of(vec![summary(&std::sync::Arc::new(nasty), NEWEST, 1, 1)]));
    let url = format!("http://{}", server.address());
    let keys = ["--rows", "src_rack", "--columns", "dst_rack"];
    let text = run(&url, &keys).success().stdout;
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    assert!(text.contains("�[2J�]0;owned�") && text.contains("��31m�<b>"), "{text}");
    let line = run(&url, &[&keys[..], &["--json"]].concat()).success();
    assert!(!line.stdout.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", line.stdout);
    assert_eq!(line.json()["cells"][0]["row"], "\x1b[2J\x1b]0;owned\x07");
}
