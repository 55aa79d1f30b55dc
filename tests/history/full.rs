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

/// Runs `test` in a thread that sees a file system of 16 MiB at its argument, and ends with it.
fn with_small_disk(test: impl FnOnce(&FilePath) + Send) {
    let directory = tempfile::tempdir().expect("directory");
    let place = directory.path().to_path_buf();
    std::thread::scope(|scope| {
        let tested = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; run as root");
            mount(&["--make-rprivate", "/"]);
            let at = place.to_str().expect("path");
            mount(&["-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", at]);
            test(&place);
        });
        if let Err(panic) = tested.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_full_disk_delays_and_loses_nothing_that_has_room_in_memory() {
    with_small_disk(|disk| {
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
