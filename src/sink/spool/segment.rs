//! One segment file: what waits in it, where its next record is, what of it is damaged.
//!
//! Not responsible for which segment is written or read next ([`Spool`](super::Spool)). A file is opened for each
//! operation; nothing of it is kept in memory but sums and a cursor. Read [`Segment`].

use super::record::{self, Header, MARK_AT, RECORD_HEADER, SEGMENT_HEADER, Start};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ending of a segment's name.
const ENDING: &str = ".segment";
/// Ending of a segment that is set aside.
const DAMAGED: &str = ".damaged";

/// Reads of a segment in a row that the disk may refuse, about one a second, before the segment is set aside.
const READ_TRIES: u32 = 10;
/// Bytes that are read at once when the next record is looked for.
const CHUNK: usize = 16 << 10;

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
    /// Reads in a row that the disk refused.
    failed_reads: u32,
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

/// What of a segment could not be taken over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Lines that are damaged.
    pub damaged: u64,
    /// The disk did not read all of it.
    pub unread: bool,
    /// Where an unfinished end begins.
    cut: Option<u64>,
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
            failed_reads: 0,
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

    /// Takes over a segment of an earlier run.
    ///
    /// Of the `last` segment an unfinished end is cut off: the host, or the process, ended within a write. A file that
    /// the disk does not read is left as it is; what stands before that place is delivered.
    ///
    /// # Errors
    /// It is of another version, or cannot be opened.
    pub fn scan(directory: &Path, number: u64, last: bool) -> Result<(Segment, Found), ScanError> {
        let mut segment = Segment::new(directory, number);
        let file = OpenOptions::new().read(true).write(true).open(&segment.path)?;
        let end = file.metadata()?.len();
        let mut found = Found::default();
        match segment.look_through(&file, end, last, &mut found) {
            Err(ScanError::Io(_)) => {
                found.unread = true;
                found.cut = None;
                // how many lines stand there nobody knows; the file is set aside when the others are delivered
                found.damaged += 1;
                segment.damaged = true;
            }
            result => result?,
        }
        if let Some(cut) = found.cut {
            file.set_len(cut)?;
            file.sync_all()?;
            segment.bytes = cut;
        }
        Ok((segment, found))
    }

    /// Finds the records in `file`, which has `end` bytes. Changes nothing of it.
    fn look_through(&mut self, file: &impl FileExt, end: u64, last: bool, found: &mut Found) -> Result<(), ScanError> {
        let segment = self;
        segment.bytes = end;
        let mut start = [0; SEGMENT_HEADER];
        let read = read_at(file, &mut start, 0)?;
        let known = match record::segment_start(&start[..read]) {
            Start::Unknown(version) => return Err(ScanError::Version(version)),
            Start::Known => true,
            // its records may be sound
            Start::Damaged => false,
        };
        segment.damaged = !known && end > SEGMENT_HEADER as u64;
        let (mut at, mut newest_record) = (segment.cursor, None);
        loop {
            match segment.piece(file, at)? {
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
                    found.damaged += lines.unwrap_or(1);
                    if last && until == end {
                        found.cut = Some(at);
                        return Ok(());
                    }
                    segment.damaged = true;
                    at = until;
                }
                Piece::End => break,
            }
        }
        // a write that was cut short by a power loss may have its length and not its bytes
        if let Some((entry, false)) = newest_record.filter(|_| last) {
            match body(file, end, &entry) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    segment.lines -= entry.lines();
                    found.damaged += entry.lines();
                    found.cut = Some(entry.offset);
                }
                // it is tried again when its turn comes
                Err(_) => found.unread = true,
            }
        }
        Ok(())
    }

    /// What stands at `offset`.
    ///
    /// # Errors
    /// The disk does not read it now, which says nothing about what stands there.
    fn piece(&self, file: &impl FileExt, offset: u64) -> io::Result<Piece> {
        if offset >= self.bytes {
            return Ok(Piece::End);
        }
        let mut bytes = [0; RECORD_HEADER];
        let read = read_at(file, &mut bytes, offset)?;
        let parsed = Header::parse(&bytes[..read]);
        if let Some((header, done)) = parsed
            && offset + header.record_bytes() <= self.bytes
        {
            return Ok(Piece::Record(Entry { segment: self.number, offset, header }, done));
        }
        let rest = rest_of(file, offset + 1, self.bytes)?;
        let until = record::next_header(&rest, 0).map_or(self.bytes, |at| offset + 1 + at as u64);
        Ok(Piece::Damage { until, lines: parsed.map(|(header, _)| u64::from(header.lines)) })
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
    /// The file cannot be opened or read now.
    pub fn front(&mut self) -> io::Result<Option<Entry>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        loop {
            let piece = self.piece(&file, self.cursor);
            match piece.inspect_err(|_| self.failed_reads = self.failed_reads.saturating_add(1))? {
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

    /// The body of a record; `None` when it is gone or its checksum is wrong.
    ///
    /// # Errors
    /// The file cannot be opened or read now.
    pub fn body(&mut self, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => {
                let file = file?;
                let body = body(&file, file.metadata()?.len(), entry);
                self.failed_reads = if body.is_ok() { 0 } else { self.failed_reads.saturating_add(1) };
                body
            }
        }
    }

    /// Whether the disk refused so many reads in a row that no more are tried.
    pub fn is_unreadable(&self) -> bool {
        self.failed_reads >= READ_TRIES
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
fn read_at(file: &impl FileExt, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
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

/// The bytes from `from` to `end`, or to where the file ends.
fn rest_of(file: &impl FileExt, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; CHUNK];
    while from + (bytes.len() as u64) < end {
        let left = usize::try_from(end - from - bytes.len() as u64).map_or(CHUNK, |left| left.min(CHUNK));
        let read = read_at(file, &mut chunk[..left], from + bytes.len() as u64)?;
        bytes.extend_from_slice(&chunk[..read]);
        if read < left {
            break;
        }
    }
    Ok(bytes)
}

/// The body of a record in a file of `end` bytes; `None` when it is not what was written.
fn body(file: &impl FileExt, end: u64, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
    let at = entry.offset + RECORD_HEADER as u64;
    let length = entry.header.length as usize;
    // the file may have become shorter since: do not ask for memory that it cannot fill
    if at + length as u64 > end {
        return Ok(None);
    }
    let mut body = vec![0; length];
    let read = read_at(file, &mut body, at)?;
    Ok((read == length && crc32fast::hash(&body) == entry.header.crc).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    /// A file on a disk that does not read from `bad` on, as long as that is set.
    struct Failing {
        bytes: Vec<u8>,
        bad: Option<u64>,
    }

    impl FileExt for Failing {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.bytes.get(offset as usize..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            if self.bad.is_some_and(|bad| offset + length as u64 > bad) {
                return Err(Errno::EIO.into());
            }
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(Errno::EROFS.into())
        }
    }

    /// A segment of three records of two lines each; its last `torn` bytes are missing.
    fn three(torn: usize) -> Failing {
        let mut bytes = record::segment_header(1).to_vec();
        for n in 0..3 {
            let body = [n; 100];
            let header = Header { length: 100, lines: 2, oldest: 1, newest: 2, crc: crc32fast::hash(&body) };
            bytes.extend(header.bytes());
            bytes.extend(body);
        }
        bytes.truncate(bytes.len() - torn);
        Failing { bytes, bad: None }
    }

    #[test]
    fn what_the_disk_does_not_read_is_no_damage_and_is_never_cut() {
        for (torn, cut) in [(0, None), (10, Some(304)), (130, Some(304))] {
            let mut file = three(torn);
            let end = file.bytes.len() as u64;
            let look = |file: &Failing| {
                let (mut segment, mut found) = (Segment::new(Path::new("/nowhere"), 1), Found::default());
                let result = segment.look_through(file, end, true, &mut found);
                (result.is_err() || found.unread, segment.lines, found)
            };
            let (unread, lines, found) = look(&file);
            assert_eq!((unread, found.cut, lines), (false, cut, if torn == 0 { 6 } else { 4 }));
            for bad in 0..end {
                file.bad = Some(bad);
                let (unread, lines, found) = look(&file);
                assert!(unread, "{torn} missing, bad from {bad}");
                assert_eq!((found.cut, found.damaged), (None, 0), "{torn} missing, bad from {bad}");
                // records whose headers are read
                let sound = (0..3).filter(|n| 24 + 140 * n + 40 <= bad && 24 + 140 * (n + 1) <= end).count() as u64;
                assert_eq!(lines, 2 * sound, "{torn} missing, bad from {bad}");
            }
        }
    }
}
