//! The page in a real browser: Chromium, driven by `tests/web/checks.mjs`, one test per group of checks.
//!
//! Needs `chromium`, `node` and what `scripts/test` installs into `target/web`. Each group prints a line per check; one
//! that fails says what was seen and names a screenshot below `target/web/screenshots/`. [`demo`] is against the real
//! program, the others against the made-up fleet of `tests/web/fleet.mjs`.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

use common::process::{LLAMA, Process};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A group has up to a dozen checks of some seconds each, on a busy machine.
const GROUP: Duration = Duration::from_secs(170);

/// Runs a group of checks and fails with all it printed.
fn checks(arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let driver = root.join("target/web/node_modules/playwright-core");
    assert!(
        driver.is_dir(),
        "no {}: run scripts/test, or: mkdir -p target/web && cp tests/web/package*.json target/web/ && npm ci --prefix target/web",
        driver.display()
    );
    let mut command = Command::new("node");
    command.arg(root.join("tests/web/checks.mjs")).args(arguments);
    let said = Process::spawn(command).finish_within(GROUP);
    println!("{}", said.stdout);
    assert!(said.status.success(), "{}\n{}\n{}", said.status, said.stdout, said.stderr);
    assert!(said.stdout.contains("ok "), "no check ran: {}", said.stdout);
}

#[test]
fn view() {
    checks(&["view"]);
}

#[test]
fn time() {
    checks(&["time"]);
}

#[test]
fn drill() {
    checks(&["drill"]);
}

#[test]
fn texts() {
    checks(&["texts"]);
}

#[test]
fn states() {
    checks(&["states"]);
}

#[test]
fn large() {
    checks(&["large"]);
}

/// The real program: reflectors, a collector, its history and API.
#[test]
fn demo() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(LLAMA);
    command.args(["demo", "--interval", "1s", "--duration", "10m", "--rate", "500", "--api", "127.0.0.1:0"]);
    command.env("LLAMA_HISTORY", directory.path());
    let demo = Process::spawn(command);
    let line = demo.wait_for("API at http://");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches(',');
    checks(&["demo", url]);
    demo.terminate().success();
}

/// A check that cannot pass fails, says what was seen, and leaves a screenshot.
#[test]
fn checks_can_fail() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(root.join("tests/web/checks.mjs")).arg("broken");
    let said = Process::spawn(command).finish_within(GROUP);
    assert_eq!(said.status.code(), Some(1), "{}\n{}", said.stdout, said.stderr);
    for (check, seen) in
        [("a wrong expectation", "expected"), ("a console error", "on purpose"), ("another host", "192.0.2.1")]
    {
        let line = said.stdout.lines().find(|line| line.starts_with("FAILED") && line.contains(check));
        assert!(line.is_some_and(|line| line.contains(seen)), "{check}: {}", said.stdout);
    }
    let shot = said.stdout.lines().find_map(|line| line.trim().strip_prefix("screenshot: ")).unwrap();
    assert!(Path::new(shot).is_file(), "{shot}");
}
