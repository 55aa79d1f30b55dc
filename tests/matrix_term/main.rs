//! `llama matrix --url` as a process: over the shipped endpoints, whose figures are known, and over servers that are not
//! well.
#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

#[path = "../common/mod.rs"]
mod common;
#[path = "../scraper/fake.rs"]
#[allow(dead_code, reason = "the tests of the scraper take the rest")]
mod fake;
#[path = "../matrix_api/memory.rs"]
#[allow(dead_code, reason = "the tests of the API take the rest")]
mod memory;

mod real;
mod shown;
mod unwell;
mod watched;

use common::process::{Finished, LLAMA, PATIENCE, Process};
use llama::http::matrix::{self, Shown};
use llama::http::server::{Limits, Server};
use memory::Memory;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The shipped endpoints over these summaries.
fn serve(memory: &Arc<Memory>) -> Server {
    let source: Arc<dyn llama::matrix::Source> = Arc::clone(memory) as _;
    let shown = Shown::new(source, "test", Duration::from_millis(250));
    Server::start("127.0.0.1:0".parse().unwrap(), matrix::router(Some(shown)), Limits::default(), "test").unwrap()
}

/// `llama matrix --url URL` and further arguments, away from the environment that could change what it does.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(LLAMA);
    command.args(["matrix", "--url", url]).args(arguments);
    for name in ["LLAMA_LOG", "NO_COLOR", "CLICOLOR_FORCE", "http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
fn run(url: &str, arguments: &[&str]) -> Finished {
    // a server that says nothing is waited for, 15 s
    Process::spawn(command(url, arguments)).finish_within(3 * PATIENCE)
}
