//! A process that is killed at any moment: what was committed is there, once.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Names the directory to the process that is killed, and says which interval is its first.
const DIRECTORY: &str = "LLAMA_TEST_HISTORY";
const FIRST: &str = "LLAMA_TEST_HISTORY_FIRST";
const PATHS: u32 = 40;
const ROUNDS: u64 = 12;

/// Kills the process however the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what the process that is killed does. Stores intervals, and says which are committed.
#[test]
fn stores_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let history = History::open(options(directory.as_ref())).expect("opens");
    let writer = history.writer();
    let paths: Vec<_> = (0..PATHS).map(path).collect();
    let begin = Instant::now();
    for number in first.. {
        writer.add(&interval(&paths, number));
        let newest = Wall(BEGIN + number * 10 * SECOND);
        wait(&history, "commit", |c| c.newest == newest.0);
        println!("\ncommitted {number}");
        if begin.elapsed() > Duration::from_secs(60) {
            return; // whoever was to kill it is gone
        }
    }
}

#[test]
fn kill_9_in_a_loop_loses_nothing_committed() {
    let directory = tempfile::tempdir().expect("directory");
    let mut newest = 0;
    for round in 1..=ROUNDS {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::stores_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .env(FIRST, (newest + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut child = Killed(child);
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        // enough for slots to be made; where in a commit it is hit is up to the machine
        let until = newest + 10 + round * 7 % 40;
        let mut lines = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
        newest = lines.find(|number: &u64| *number >= until).expect("it commits");
        child.0.kill().expect("killed");
        newest = lines.last().unwrap_or(newest);
        drop(child);
        let history = History::open(options(directory.path())).expect("opens after a kill");
        let counters = history.counters().snapshot();
        assert_eq!((counters.damaged_files, counters.damaged_blocks), (0, 0), "{counters:?}");
        let there = (counters.newest - BEGIN) / (10 * SECOND);
        assert!(there == newest || there == newest + 1, "{there} is newest on disk, {newest} was committed");
        newest = there;
        check(&history, PATHS.into(), newest);
        history.close(Duration::from_secs(60));
    }
    assert!(newest > 30 * 6, "slots of every level were made");
}
