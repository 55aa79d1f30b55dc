//! Lines as a request's body and back, and a record of the spool that is sent whole or in pieces.
//!
//! Pure but for the work of packing. Read [`Work`].

use crate::sink::spool::Entry;
use crate::time::Wall;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Bytes a record may have unpacked; more was not written by this program.
const UNPACKED_BYTES: u64 = 256 << 20;

/// Lines as a request's body.
///
/// # Errors
/// None in practice: it writes to memory.
pub(super) fn pack(lines: &[u8]) -> io::Result<Arc<[u8]>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    Ok(encoder.finish()?.into())
}

pub(super) fn unpack(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    GzDecoder::new(body).take(UNPACKED_BYTES).read_to_end(&mut lines)?;
    Ok(lines)
}

/// Times of the oldest and the newest point; a line without a time counts as measured `now`.
pub(super) fn times(lines: &[u8], now: Wall) -> (u64, u64) {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let time = |line: &[u8]| -> u64 {
        let digits = line.rsplit(|byte| *byte == b' ').next();
        digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(now.0)
    };
    lines
        .map(time)
        .fold(None, |all, time| match all {
            None => Some((time, time)),
            Some((oldest, newest)) => Some((time.min(oldest), time.max(newest))),
        })
        .unwrap_or((now.0, now.0))
}

/// How many bytes the first `lines` lines have.
fn length_of(text: &[u8], lines: u64) -> usize {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match usize::try_from(lines) {
        Ok(0) => 0,
        Ok(lines) => ends.nth(lines - 1).unwrap_or(text.len()),
        Err(_) => text.len(),
    }
}

/// A record that is being delivered. Its lines have numbers that no other record's lines have.
#[derive(Debug)]
pub(super) struct Work {
    pub entry: Entry,
    body: Arc<[u8]>,
    /// Unpacked when that is needed.
    text: Option<Vec<u8>>,
    /// Bytes of it that are settled.
    at: usize,
    /// Number of the first line that is not settled, and of the line after the last.
    lines: Range<u64>,
}

impl Work {
    /// A record whose first line has the number `first`.
    pub fn new(entry: Entry, body: Vec<u8>, first: u64) -> Work {
        Work { entry, body: body.into(), text: None, at: 0, lines: first..first + entry.lines() }
    }

    /// Numbers of the lines that are not settled.
    pub fn lines(&self) -> Range<u64> {
        self.lines.clone()
    }

    /// The next lines, at most `max`: their numbers and a request's body of them.
    ///
    /// # Errors
    /// The record does not unpack, or to fewer lines than it should.
    pub fn piece(&mut self, max: usize) -> io::Result<(Range<u64>, Arc<[u8]>)> {
        let end = self.lines.end.min(self.lines.start.saturating_add(max as u64));
        let range = self.lines.start..end;
        if end == self.lines.end && self.at == 0 {
            return Ok((range, self.body.clone()));
        }
        let text = self.text(&range)?;
        if text.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let body = pack(text)?;
        Ok((range, body))
    }

    /// The text of the next lines, as [`Work::piece`] numbered them.
    ///
    /// # Errors
    /// The record does not unpack.
    pub fn text(&mut self, range: &Range<u64>) -> io::Result<&[u8]> {
        if self.text.is_none() {
            self.text = Some(unpack(&self.body)?);
        }
        let rest = self.text.as_deref().and_then(|text| text.get(self.at..)).unwrap_or_default();
        Ok(&rest[..length_of(rest, range.end - range.start)])
    }

    /// The lines up to the number `until` are settled. True: all are.
    pub fn settle(&mut self, until: u64) -> bool {
        if let Some(rest) = self.text.as_deref().and_then(|text| text.get(self.at..)) {
            self.at += length_of(rest, until.saturating_sub(self.lines.start));
        }
        self.lines.start = until;
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::spool::{Options, Spool};
    use std::time::Duration;

    #[test]
    fn the_times_of_lines() {
        assert_eq!(times(b"m f=1 5\nm f=1 3\nm,t=a\\ 9 f=1 4\n", Wall(7)), (3, 5));
        assert_eq!(times(b"m f=1 5\nm f=1\n", Wall(7)), (5, 7));
        assert_eq!(times(b"", Wall(7)), (7, 7));
    }

    #[test]
    fn a_record_is_sent_whole_or_in_pieces() {
        let directory = tempfile::tempdir().expect("directory");
        let directory = directory.path().to_path_buf();
        let options = Options { directory, max_bytes: 1 << 20, max_age: Duration::from_secs(1) };
        let mut spool = Spool::open(&options, Wall(0)).expect("spool");
        let text = b"a 1\nb 2\nc 3\nd 4\n";
        let body = pack(text).expect("packed");
        let entry = spool.append(&body, 4, (1, 4), Wall(0)).expect("appended");
        let mut work = Work::new(entry, body.to_vec(), 100);
        assert_eq!(work.piece(9).expect("piece"), (100..104, body.clone()));
        assert_eq!(work.text(&(100..104)).expect("text"), text);

        let piece = |work: &mut Work, max| {
            let (range, body) = work.piece(max).expect("piece");
            (range, unpack(&body).expect("text"))
        };
        assert_eq!(piece(&mut work, 2), (100..102, b"a 1\nb 2\n".to_vec()));
        assert!(!work.settle(102));
        assert_eq!(piece(&mut work, 1), (102..103, b"c 3\n".to_vec()));
        assert!(!work.settle(103));
        assert_eq!(piece(&mut work, 5), (103..104, b"d 4\n".to_vec()));
        assert!(work.settle(104));

        let mut damaged = Work::new(entry, b"no gzip".to_vec(), 0);
        assert!(damaged.piece(1).is_err());
    }
}
