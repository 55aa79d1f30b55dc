//! JSON lines to a file or to standard output: one object per summary and line.
//!
//! A write that fails is repeated from the byte where it stopped, so that no line is torn or written
//! twice while the disk is full. A reader that went away is final: everything else is dropped, counted.

use super::queue::{Fate, Queue};
use super::{SinkError, Warning};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Lines and bytes of one write.
const BATCH_LINES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;

/// Between two attempts to write.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens the output and gives its name for people.
pub(super) fn open(path: &Path) -> Result<(File, String), SinkError> {
    let wrong = |source| SinkError::Open { path: path.to_path_buf(), source };
    if path.as_os_str() == "-" {
        // a descriptor of its own: std's handle buffers by line and may keep a part after an error
        let descriptor = std::io::stdout().as_fd().try_clone_to_owned().map_err(wrong)?;
        return Ok((File::from(descriptor), "output standard output".into()));
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(wrong)?;
    if unfinished(path) {
        // an earlier run ended within a line: that line is spoiled, the next one must not be
        file.write_all(b"\n").map_err(wrong)?;
    }
    Ok((file, format!("output {}", path.display())))
}

/// True when `path` is a file with something in it whose last byte is no newline.
fn unfinished(path: &Path) -> bool {
    if !path.is_file() {
        return false; // reading from a pipe or a terminal would wait
    }
    let mut last = [b'\n'];
    File::open(path)
        .and_then(|mut file| {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)
        })
        .is_ok()
        && last != [b'\n']
}

/// Writes what is queued until the queue is closed.
pub(super) fn run(queue: &Queue, mut output: impl Write) {
    let mut buffer = Vec::new();
    let mut warning = Warning::default();
    while queue.wait().is_some() {
        queue.begin(BATCH_LINES, BATCH_BYTES, &mut buffer);
        queue.counters().attempts.fetch_add(1, Relaxed);
        let mut rest = buffer.as_slice();
        let fate = loop {
            let error = match output.write(rest) {
                Ok(written) if written == rest.len() => break Some(Fate::Delivered),
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    rest = &rest[written..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let gone = error.kind() == ErrorKind::BrokenPipe;
            let remedy = match error.kind() {
                ErrorKind::BrokenPipe => "; the reader is gone, all further summaries are dropped",
                ErrorKind::StorageFull => "; free some space, writing goes on by itself",
                _ => "",
            };
            let text = format!("cannot write: {error}{remedy}");
            warning.say(queue.counters(), &text);
            queue.counters().failed(text);
            if gone {
                break None;
            }
            if queue.time_left().is_some_and(|left| left.is_zero()) {
                break Some(Fate::Returned);
            }
            queue.pause(PAUSE);
            queue.counters().attempts.fetch_add(1, Relaxed);
            queue.counters().retried.fetch_add(1, Relaxed);
        };
        match fate {
            Some(fate) => queue.end(fate),
            None => {
                queue.clear();
                queue.counters().gone.store(true, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, SinkCounters, Sinks};
    use super::*;
    use crate::sink::record::samples;
    use std::sync::{Arc, Mutex};

    /// Takes what its script says: so many bytes, or an error.
    struct Scripted {
        script: Vec<Result<usize, ErrorKind>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let n = match self.script.pop() {
                Some(Ok(n)) => n.min(bytes.len()),
                Some(Err(kind)) => return Err(kind.into()),
                None => bytes.len(),
            };
            self.written.lock().expect("lock").extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Writes two lines into a scripted output of a queue that is already closed.
    fn write_two(script: Vec<Result<usize, ErrorKind>>) -> (String, crate::sink::SinkSnapshot) {
        let queue = Queue::new(Limits::default(), Arc::new(SinkCounters::new("test".into())));
        queue.push(vec![b"one\n".as_slice().into(), b"two\n".as_slice().into()]);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        queue.close(end);
        run(&queue, Scripted { script: script.into_iter().rev().collect(), written: written.clone() });
        let text = String::from_utf8(written.lock().expect("lock").clone()).expect("text");
        (text, queue.counters().snapshot())
    }

    #[test]
    fn short_writes_and_a_full_disk_tear_no_line() {
        let (text, counters) =
            write_two(vec![Ok(2), Err(ErrorKind::Interrupted), Err(ErrorKind::StorageFull), Ok(3), Ok(9)]);
        assert_eq!(text, "one\ntwo\n");
        assert_eq!((counters.delivered, counters.dropped, counters.queued), (2, 0, 0));
        assert_eq!((counters.attempts, counters.failed_attempts, counters.retried), (2, 1, 1));
        assert!(counters.last_error.expect("error").contains("free some space"));
    }

    #[test]
    fn a_broken_pipe_drops_everything_counted() {
        let (text, counters) = write_two(vec![Ok(4), Err(ErrorKind::BrokenPipe)]);
        assert_eq!(text, "one\n");
        assert_eq!((counters.delivered, counters.dropped, counters.queued), (0, 2, 0));
        assert!(counters.last_error.expect("error").contains("reader is gone"));
    }

    #[test]
    fn a_full_device_is_counted_and_reported_at_the_end() {
        let mut sinks = Sinks::new();
        sinks.add_json_lines(Path::new("/dev/full"), Limits::default()).expect("sink");
        sinks.deliver(&[samples::full()]);
        let left = sinks.close(Duration::from_millis(50));
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].counters.queued, 1);
        assert!(left[0].to_string().contains("1 summaries undelivered; last error: cannot write"), "{}", left[0]);
    }

    #[test]
    fn a_file_is_appended_to_on_a_line_of_its_own() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("out.jsonl");
        std::fs::write(&path, "{\"torn").expect("file");
        for _ in 0..2 {
            let mut sinks = Sinks::new();
            sinks.add_json_lines(&path, Limits::default()).expect("sink");
            sinks.deliver(&[samples::full(), samples::silent()]);
            assert_eq!(sinks.close(Duration::from_secs(60)), vec![]);
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("{\"torn"));
        let sent: Vec<_> =
            lines.map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON")["sent"].clone()).collect();
        assert_eq!(sent, [100, 10, 100, 10]);
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named() {
        let error = Sinks::new().add_json_lines(Path::new("/no/such/dir/x"), Limits::default()).expect_err("error");
        assert!(error.to_string().starts_with("output: cannot open /no/such/dir/x: "), "{error}");
    }
}
