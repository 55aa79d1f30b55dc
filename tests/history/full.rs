//! A disk that is full: a small file system of the test's own, in a mount namespace of its own.
//!
//! Needs root, to mount.

use super::*;
use nix::sched::{CloneFlags, unshare};
use std::process::Command;

fn mount(arguments: &[&str]) {
    let out = Command::new("mount").args(arguments).output().expect("mount");
    assert!(out.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Runs `test` in a thread that sees a file system of so many MiB at its argument, and ends with it.
fn with_small_disk(mebibytes: u64, test: impl FnOnce(&FilePath) + Send) {
    let directory = tempfile::tempdir().expect("directory");
    let place = directory.path().to_path_buf();
    std::thread::scope(|scope| {
        let tested = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; run as root");
            mount(&["--make-rprivate", "/"]);
            let at = place.to_str().expect("path");
            mount(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=755"), "tmpfs", at]);
            test(&place);
        });
        if let Err(panic) = tested.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_full_disk_delays_and_loses_nothing_that_has_room_in_memory() {
    with_small_disk(16, |disk| {
        let history = History::open(options(&disk.join("history"))).expect("opens");
        let paths: Vec<_> = (0..500).map(path).collect();
        let writer = history.writer();
        writer.add(&interval(&paths, 1));
        wait(&history, "first commit", |c| c.committed == 500);
        // somebody else fills the disk
        let filling = disk.join("filling");
        let mut file = std::fs::File::create(&filling).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        let mut number = 1;
        let full = loop {
            number += 1;
            writer.add(&interval(&paths, number));
            let settled = wait(&history, "commit or error", |c| c.queued == 0 || c.errors > 0);
            if settled.errors > 0 {
                break settled;
            }
            assert!(number < 2000, "never full: {settled:?}");
        };
        assert!(full.last_error.as_ref().is_some_and(|e| !e.is_empty()), "{full:?}");
        number += 1;
        writer.add(&interval(&paths, number));
        let more = wait(&history, "another attempt", |c| c.errors > full.errors);
        assert_eq!((more.dropped, more.damaged_files), (0, 0), "{more:?}");
        drop(file);
        std::fs::remove_file(&filling).unwrap();
        let end = wait(&history, "room", |c| c.queued == 0 && c.committed == number * 500);
        assert_eq!((end.dropped, end.refused, end.damaged_files), (0, 0, 0), "{end:?}");
        check(&history, 500, number);
        assert_eq!(history.close(Duration::from_secs(60)), 0);
    });
}

#[test]
fn a_history_without_a_limit_leaves_half_of_what_is_free() {
    with_small_disk(64, |disk| {
        let open = |max_bytes| {
            let options = Options { max_bytes, ..Options::new(disk.join("history")) };
            let history = History::open(options).expect("opens");
            let most = history.counters().snapshot().max_bytes;
            assert_eq!(history.close(Duration::from_secs(60)), 0);
            most
        };
        let most = open(None);
        assert!(most > 31 << 20 && most <= 32 << 20, "{most}");
        // its own file counts as free, what others write does not
        let again = open(None);
        assert!(again.abs_diff(most) < 1 << 16, "{again} after {most}");
        std::fs::write(disk.join("others"), vec![1; 20 << 20]).unwrap();
        let less = open(None);
        assert!(less > 20 << 20 && less <= 22 << 20, "{less}");
        assert_eq!(open(Some(1 << 30)), 1 << 30, "who says a number gets it");
    });
}
