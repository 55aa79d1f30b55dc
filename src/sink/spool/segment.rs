//! One segment file: what waits in it, where its next record is, what of it is damaged.
//!
//! Not responsible for which segment is written or read next ([`Spool`](super::Spool)). A file is opened for each
//! operation; nothing of it is kept in memory but sums and a cursor. Read [`Segment`].

use super::record::{self, Header, MARK_AT, RECORD_HEADER, SEGMENT_HEADER, Start};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ending of a segment's name.
const ENDING: &str = ".segment";
/// Ending of a segment that is set aside.
const DAMAGED: &str = ".damaged";

/// A record and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) header: Header,
}

impl Entry {
    /// Lines in the record.
    pub fn lines(&self) -> u64 {
        u64::from(self.header.lines)
    }
}

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    path: PathBuf,
    /// Bytes of the file that are written.
    pub bytes: u64,
    /// Lines that wait.
    pub lines: u64,
    /// Time of the oldest point that waits, as far as it was looked at.
    pub oldest: u64,
    /// Time of the newest point.
    pub newest: u64,
    /// All records before this are settled.
    cursor: u64,
    /// Records after it that are settled.
    settled: BTreeSet<u64>,
    /// Something in it could not be read back.
    pub damaged: bool,
}

/// What stands at a place in a file.
enum Piece {
    Record(Entry, bool),
    /// Nothing that can be read; the next record, or the end, is at `until`.
    Damage {
        until: u64,
        lines: Option<u64>,
    },
    End,
}

/// Why a segment cannot be taken over.
#[derive(Debug)]
pub(super) enum ScanError {
    Version(u32),
    Io(io::Error),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> ScanError {
        ScanError::Io(error)
    }
}

/// The number of a segment file of this name, and whether it is set aside.
pub(super) fn number_of(name: &str) -> Option<(u64, bool)> {
    let (digits, aside) = match name.strip_suffix(ENDING) {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(DAMAGED)?, true),
    };
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?.map(|n| (n, aside))
}

impl Segment {
    fn new(directory: &Path, number: u64) -> Segment {
        Segment {
            number,
            path: directory.join(format!("{number:016}{ENDING}")),
            bytes: SEGMENT_HEADER as u64,
            lines: 0,
            oldest: u64::MAX,
            newest: 0,
            cursor: SEGMENT_HEADER as u64,
            settled: BTreeSet::new(),
            damaged: false,
        }
    }

    /// Makes the file of a new segment. Neither it nor its name is synced.
    pub fn create(directory: &Path, number: u64) -> io::Result<(Segment, File)> {
        let segment = Segment::new(directory, number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&segment.path)?;
        if let Err(error) = file.write_all_at(&record::segment_header(number), 0) {
            segment.remove();
            return Err(error);
        }
        Ok((segment, file))
    }

    /// Takes over a segment of an earlier run; gives the lines that are damaged, too.
    ///
    /// Of the `last` segment an unfinished end is cut off: the host, or the process, ended within a write.
    pub fn scan(directory: &Path, number: u64, last: bool) -> Result<(Segment, u64), ScanError> {
        let mut segment = Segment::new(directory, number);
        let file = OpenOptions::new().read(true).write(true).open(&segment.path)?;
        let end = file.metadata()?.len();
        let mut start = [0; SEGMENT_HEADER];
        let known = match read_at(&file, &mut start, 0).map(|read| record::segment_start(&start[..read])) {
            Ok(Start::Unknown(version)) => return Err(ScanError::Version(version)),
            Ok(Start::Known) => true,
            // its records may be sound
            Ok(Start::Damaged) | Err(_) => false,
        };
        segment.damaged = !known && end > SEGMENT_HEADER as u64;
        segment.bytes = end;
        let (mut at, mut damaged_lines, mut newest_record) = (segment.cursor, 0, None);
        loop {
            match segment.piece(&file, at) {
                Piece::Record(entry, done) => {
                    newest_record = Some((entry, done));
                    if !done {
                        segment.add(&entry);
                    } else if segment.cursor == at {
                        segment.cursor += entry.header.record_bytes();
                    } else {
                        segment.settled.insert(at);
                    }
                    at += entry.header.record_bytes();
                }
                Piece::Damage { until, lines } => {
                    damaged_lines += lines.unwrap_or(1);
                    if last && until == end {
                        file.set_len(at)?;
                        file.sync_all()?;
                        segment.bytes = at;
                        return Ok((segment, damaged_lines));
                    }
                    segment.damaged = true;
                    at = until;
                }
                Piece::End => break,
            }
        }
        // a write that was cut short by a power loss may have its length and not its bytes
        if let Some((entry, false)) = newest_record.filter(|_| last)
            && body(&file, &entry).is_none()
        {
            file.set_len(entry.offset)?;
            file.sync_all()?;
            segment.bytes = entry.offset;
            segment.lines -= entry.lines();
            damaged_lines += entry.lines();
        }
        Ok((segment, damaged_lines))
    }

    /// What stands at `offset`. Errors of the disk are damage, too.
    fn piece(&self, file: &File, offset: u64) -> Piece {
        if offset >= self.bytes {
            return Piece::End;
        }
        let mut bytes = [0; RECORD_HEADER];
        let read = read_at(file, &mut bytes, offset).unwrap_or(0);
        let parsed = Header::parse(&bytes[..read]);
        if let Some((header, done)) = parsed
            && offset + header.record_bytes() <= self.bytes
        {
            return Piece::Record(Entry { segment: self.number, offset, header }, done);
        }
        let mut rest = Vec::new();
        let until = rest_of(file, offset + 1, self.bytes, &mut rest)
            .ok()
            .and_then(|()| record::next_header(&rest, 0))
            .map_or(self.bytes, |at| offset + 1 + at as u64);
        Piece::Damage { until, lines: parsed.map(|(header, _)| u64::from(header.lines)) }
    }

    /// A record was written at the end, or found.
    pub fn add(&mut self, entry: &Entry) {
        self.lines += entry.lines();
        self.oldest = self.oldest.min(entry.header.oldest);
        self.newest = self.newest.max(entry.header.newest);
        self.bytes = self.bytes.max(entry.offset + entry.header.record_bytes());
    }

    /// The oldest record that waits; `None` when nothing more is to be found. Damage on the way is passed over.
    ///
    /// # Errors
    /// The file cannot be opened now.
    pub fn front(&mut self) -> io::Result<Option<Entry>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        loop {
            match self.piece(&file, self.cursor) {
                Piece::Record(entry, done) => {
                    if !self.settled.remove(&self.cursor) && !done {
                        self.oldest = entry.header.oldest;
                        return Ok(Some(entry));
                    }
                    self.cursor += entry.header.record_bytes();
                }
                Piece::Damage { until, .. } => {
                    self.damaged = true;
                    self.cursor = until;
                }
                Piece::End => return Ok(None),
            }
        }
    }

    /// Whether a record of this segment still waits.
    pub fn waits(&self, entry: &Entry) -> bool {
        entry.offset >= self.cursor && !self.settled.contains(&entry.offset)
    }

    /// The body of a record; `None` when it cannot be read or its checksum is wrong.
    ///
    /// # Errors
    /// The file cannot be opened now.
    pub fn body(&self, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(body(&file?, entry)),
        }
    }

    /// Remembers that a record is settled, here and in the file.
    ///
    /// # Errors
    /// The file could not be marked: after a restart the record counts as waiting.
    pub fn settle(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.offset == self.cursor {
            self.cursor += entry.header.record_bytes();
        } else {
            self.settled.insert(entry.offset);
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(&record::DONE, entry.offset + MARK_AT)
    }

    /// Deletes the file, or sets it aside when something in it is damaged. Gives whether that was done.
    pub fn retire(self) -> bool {
        if self.damaged {
            return std::fs::rename(&self.path, self.path.with_extension(&DAMAGED[1..])).is_ok();
        }
        self.remove();
        false
    }

    fn remove(&self) {
        // what stays behind is delivered again after a restart, which does no harm
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The path of a segment that was set aside.
pub(super) fn aside(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}{DAMAGED}"))
}

/// Reads as much as there is, up to all of `bytes`.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn rest_of(mut file: &File, from: u64, end: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    file.take(end.saturating_sub(from)).read_to_end(bytes)?;
    Ok(())
}

fn body(file: &File, entry: &Entry) -> Option<Vec<u8>> {
    let at = entry.offset + RECORD_HEADER as u64;
    let length = entry.header.length as usize;
    // the file may have become shorter since: do not ask for memory that it cannot fill
    if at + length as u64 > file.metadata().ok()?.len() {
        return None;
    }
    let mut body = vec![0; length];
    let read = read_at(file, &mut body, at).ok()?;
    (read == length && crc32fast::hash(&body) == entry.header.crc).then_some(body)
}
