//! Lines that a server refused, with what it said: kept for people, never sent again.
//!
//! Two files, of which the older one is given up when the newer one is full. Read [`Refused`].

use crate::sink::calendar::rfc3339;
use crate::time::Wall;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes after which a file is full.
const FULL: u64 = 4 << 20;

/// The files of refused lines in a spool's directory.
#[derive(Debug)]
pub(super) struct Refused {
    newer: PathBuf,
    older: PathBuf,
}

impl Refused {
    pub fn new(directory: &Path) -> Refused {
        Refused { newer: directory.join("refused.jsonl"), older: directory.join("refused.1.jsonl") }
    }

    /// Appends lines, each as an object with `time`, `message` and `line`, and gives their number.
    pub fn add(&self, now: Wall, message: &str, lines: &[u8]) -> io::Result<u64> {
        let mut text = Vec::new();
        let mut number = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let object = serde_json::json!({ "time": rfc3339(now), "message": message, "line": line });
            writeln!(text, "{object}")?;
            number += 1;
        }
        let length = std::fs::metadata(&self.newer).map_or(0, |file| file.len());
        if length > 0 && length + text.len() as u64 > FULL {
            std::fs::rename(&self.newer, &self.older)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.newer)?.write_all(&text)?;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_lines_are_kept_with_the_message_and_the_oldest_go_first() {
        let directory = tempfile::tempdir().expect("directory");
        let refused = Refused::new(directory.path());
        assert_eq!(refused.add(Wall(1_000_000_000), "a \"b\"", b"one 1\ntwo \xff\n").expect("written"), 2);
        let text = std::fs::read_to_string(&refused.newer).expect("text");
        let objects: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        assert_eq!(objects[0]["line"], "one 1");
        assert_eq!(objects[0]["message"], "a \"b\"");
        assert_eq!(objects[0]["time"], "1970-01-01T00:00:01.000000000Z");
        assert_eq!(objects[1]["line"], "two \u{fffd}");

        let long = vec![b'x'; 3 << 20];
        for _ in 0..4 {
            refused.add(Wall(0), "", &long).expect("written");
        }
        let bytes = |path: &PathBuf| std::fs::metadata(path).expect("file").len();
        assert!(bytes(&refused.newer) < FULL && bytes(&refused.older) < FULL);
    }
}
