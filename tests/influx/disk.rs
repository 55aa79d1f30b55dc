//! A spool on a disk that is full or read-only: small file systems of the test's own, in a mount namespace of its own.
//!
//! Needs root, to mount.

use super::stub::{Answer, STORED, Stub};
use super::*;
use llama::sink::spool;
use nix::sched::{CloneFlags, unshare};
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn mount(arguments: &[&str]) {
    let out = Command::new("mount").args(arguments).output().expect("mount");
    assert!(out.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Runs `test` in a thread that sees a file system of 256 KiB at its argument, and ends with it.
fn with_small_disk(test: impl FnOnce(&FilePath) + Send) {
    let directory = tempfile::tempdir().expect("directory");
    let place: PathBuf = directory.path().to_path_buf();
    std::thread::scope(|scope| {
        let tested = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; run as root");
            mount(&["--make-rprivate", "/"]);
            let at = place.to_str().expect("path");
            mount(&["-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", at]);
            test(&place);
        });
        if let Err(panic) = tested.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn options(directory: &FilePath, address: &str) -> Options {
    let spool = spool::Options {
        directory: directory.join("spool"),
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(100 * 365 * 86_400),
    };
    let target = Target::parse(&format!("http://{address}?db=llama"), None).expect("target");
    Options { policy: quick(), spool: Some(spool), ..Options::new(target) }
}

#[test]
fn a_full_disk_keeps_summaries_in_memory_until_there_is_room() {
    with_small_disk(|disk| {
        let well = Arc::new(AtomicBool::new(false));
        let turned = well.clone();
        let stub = Stub::start(move |_, _| match turned.load(Relaxed) {
            false => Answer::Say("503 Service Unavailable", ""),
            true => STORED,
        });
        let mut sinks = Sinks::new();
        sinks.add_influx(options(disk, stub.address()), Limits::default()).expect("sink");
        // somebody else fills the disk but for a little
        std::fs::write(disk.join("filling"), vec![1; 200 << 10]).expect("filled");
        let mut n = 0;
        let full = loop {
            sinks.deliver(&(n..n + 500).map(|n| summary(n, &[])).collect::<Vec<_>>());
            n += 500;
            let settled = wait_for(&sinks, "disk or error", |c| c.queued == 0 || c.spool_errors > 0);
            if settled.spool_errors > 0 {
                break settled;
            }
            assert!(n < 50_000, "never full: {settled:?}");
        };
        assert!(full.last_error.as_ref().is_some_and(|e| !e.is_empty()), "{full:?}");
        // it is tried again, and nothing is lost meanwhile
        let all = |c: &SinkSnapshot| c.queued + c.spool_summaries == u64::from(n) && c.queued > 0;
        let more = wait_for(&sinks, "another attempt", |c| c.spool_errors > full.spool_errors && all(c));
        assert_eq!((more.dropped, more.delivered), (0, 0), "{more:?}");
        std::fs::remove_file(disk.join("filling")).expect("removed");
        wait_for(&sinks, "room", |c| c.queued == 0 && c.spool_summaries == u64::from(n));
        well.store(true, Relaxed);
        let end = wait_for(&sinks, "delivery", |c| c.spool_summaries == 0);
        assert_eq!((end.delivered, end.spool_damaged), (u64::from(n), 0), "{end:?}");
        let mut times: Vec<String> = Vec::new();
        for request in stub.requests() {
            times.extend(request.body.lines().map(|line| line.rsplit(' ').next().expect("time").to_string()));
        }
        times.sort();
        times.dedup();
        assert_eq!(times.len(), n as usize, "every summary was sent");
        assert_eq!(sinks.close(Duration::from_secs(5)), vec![]);
    });
}

#[test]
fn a_full_disk_does_not_stand_between_summaries_and_a_server_that_is_well() {
    with_small_disk(|disk| {
        let stub = Stub::start(|_, _| STORED);
        let mut sinks = Sinks::new();
        sinks.add_influx(options(disk, stub.address()), Limits::default()).expect("sink");
        // a file system that is full to the last byte takes an error of the one who fills it
        let _ = std::fs::write(disk.join("filling"), vec![1; 1 << 20]);
        sinks.deliver(&[summary(0, &[])]);
        wait_for(&sinks, "delivery", |c| c.delivered == 1);
    });
}

#[test]
fn a_read_only_disk_is_refused_at_the_start() {
    with_small_disk(|disk| {
        std::fs::create_dir(disk.join("spool")).expect("directory");
        mount(&["-o", "remount,ro", disk.to_str().expect("path")]);
        let error = Sinks::new().add_influx(options(disk, "127.0.0.1:1"), Limits::default()).expect_err("read-only");
        assert!(error.to_string().contains("name a directory that can be written"), "{error}");
    });
}
