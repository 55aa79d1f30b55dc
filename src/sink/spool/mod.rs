//! Summaries on disk while a database is away: an append-only queue of ready-made request bodies.
//!
//! Responsible for that what [`Spool::append`] took is there after a crash or a power loss, is given out in order, and
//! is counted whatever happens to it. Not responsible for sending, nor for when something is worth a write. A record
//! is one request's body; records stand in segment files, and a segment without anything that waits is deleted.
//! Read [`Options`], then [`Spool`]; the bytes are in [`record`].

mod record;
mod refused;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use segment::Entry;

use crate::time::Wall;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use record::{Header, SEGMENT_HEADER};
use refused::Refused;
use segment::{ScanError, Segment};
use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a segment after which the next one is begun, unless the whole spool is small.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes a spool must be allowed at least.
const SMALLEST: u64 = 1 << 20;
/// Segments set aside for damage that are kept.
const KEPT_DAMAGED: usize = 4;

/// Where a spool is and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory, made when it is not there. One process at a time.
    pub directory: PathBuf,
    /// Bytes of its segments; beyond them the oldest summaries are dropped and counted. At least 1 MiB.
    pub max_bytes: u64,
    /// Age at which summaries are dropped and counted.
    pub max_age: Duration,
}

/// Why a directory cannot be a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The limit is too low to hold a few requests.
    #[error("spool: {0} bytes are too few for it; allow at least 1M")]
    Small(u64),
    /// The directory cannot be made, read or written.
    #[error("spool: cannot use {directory}: {source}; name a directory that can be written")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("spool: another process uses {0}; end that one, or name another directory")]
    Locked(PathBuf),
    /// Written by another version of this program.
    #[error(
        "spool: a segment in {directory} is of version {version}, this program reads version {}; let the program \
         that wrote it deliver it, or name another directory",
        record::VERSION
    )]
    Version {
        /// The directory.
        directory: PathBuf,
        /// The segment's version.
        version: u32,
    },
}

/// What became of the lines of a spool, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Found when it was opened, the damaged ones included.
    pub found: u64,
    /// Dropped by the limits.
    pub dropped: u64,
    /// Not to be read back.
    pub damaged: u64,
    /// Operations that the disk refused.
    pub errors: u64,
}

/// An open spool. One process has it at a time.
#[derive(Debug)]
pub(super) struct Spool {
    options: Options,
    segment_bytes: u64,
    /// From the oldest to the newest. Only the newest may be without a line that waits.
    segments: VecDeque<Segment>,
    /// The newest segment's file, while records may be appended to it.
    tail: Option<File>,
    next_number: u64,
    figures: Figures,
    refused: Refused,
    /// For tests: appending fails, as on a full disk.
    #[cfg(test)]
    pub full: bool,
    /// Held as long as this lives.
    _lock: Flock<File>,
}

impl Spool {
    /// Opens the spool and takes over what an earlier run left in it.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it, or it is of another version.
    pub fn open(options: &Options, now: Wall) -> Result<Spool, SpoolError> {
        if options.max_bytes < SMALLEST {
            return Err(SpoolError::Small(options.max_bytes));
        }
        let directory = &options.directory;
        let wrong = |source| SpoolError::Directory { directory: directory.clone(), source };
        let lock = prepare(directory)?;
        let (mut numbers, mut figures) = (Vec::new(), Figures::default());
        let mut next_number = 1;
        for file in std::fs::read_dir(directory).map_err(wrong)? {
            if let Some((number, aside)) = file.map_err(wrong)?.file_name().to_str().and_then(segment::number_of) {
                next_number = next_number.max(number.saturating_add(1));
                if !aside {
                    numbers.push(number);
                }
            }
        }
        numbers.sort_unstable();
        let mut segments = VecDeque::new();
        for number in &numbers {
            let last = numbers.last() == Some(number);
            let (segment, of_it) = Segment::scan(directory, *number, last).map_err(|error| match error {
                ScanError::Version(version) => SpoolError::Version { directory: directory.clone(), version },
                ScanError::Io(source) => wrong(source),
            })?;
            figures.found += segment.lines + of_it.damaged;
            figures.damaged += of_it.damaged;
            figures.errors += u64::from(of_it.unread);
            segments.push_back(segment);
        }
        let mut spool = Spool {
            segment_bytes: (options.max_bytes / 8).min(SEGMENT_BYTES),
            options: options.clone(),
            segments,
            tail: None,
            next_number,
            figures,
            refused: Refused::new(directory),
            #[cfg(test)]
            full: false,
            _lock: lock,
        };
        spool.tidy();
        spool.make_room(0, now);
        Ok(spool)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// What became of its lines.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Lines that wait.
    pub fn lines(&self) -> u64 {
        self.segments.iter().map(|segment| segment.lines).sum()
    }

    /// Bytes of the segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Number of the segments.
    pub fn segments(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Time of the oldest point that waits.
    pub fn oldest(&self) -> Option<u64> {
        self.segments.iter().find(|segment| segment.lines > 0).map(|segment| segment.oldest)
    }

    /// Appends a record and syncs it: when this returns, a power loss does not take it. Makes room before by dropping
    /// what is oldest.
    ///
    /// # Errors
    /// The disk did not take it; nothing of it is left then, and it may be tried again.
    pub fn append(&mut self, body: &[u8], lines: u32, times: (u64, u64), now: Wall) -> io::Result<Entry> {
        self.try_append(body, lines, times, now).inspect_err(|_| self.figures.errors += 1)
    }

    fn try_append(&mut self, body: &[u8], lines: u32, times: (u64, u64), now: Wall) -> io::Result<Entry> {
        #[cfg(test)]
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "a record is larger than the spool may be");
        let header = Header {
            length: u32::try_from(body.len()).map_err(|_| too_large())?,
            lines,
            oldest: times.0,
            newest: times.1,
            crc: crc32fast::hash(body),
        };
        let needed = header.record_bytes() + SEGMENT_HEADER as u64;
        if needed > self.options.max_bytes {
            return Err(too_large());
        }
        self.make_room(needed, now);
        let fits = self.segments.back().is_some_and(|last| last.bytes + header.record_bytes() <= self.segment_bytes);
        let (file, is_new) = match self.tail.take() {
            Some(file) if fits => (file, false),
            _ => {
                let (segment, file) = Segment::create(&self.options.directory, self.next_number)?;
                self.next_number += 1;
                self.segments.push_back(segment);
                (file, true)
            }
        };
        let Some(segment) = self.segments.back_mut() else { return Err(too_large()) };
        let entry = Entry { segment: segment.number, offset: segment.bytes, header };
        let mut bytes = Vec::with_capacity(record::RECORD_HEADER + body.len());
        bytes.extend_from_slice(&header.bytes());
        bytes.extend_from_slice(body);
        let written = file.write_all_at(&bytes, entry.offset).and_then(|()| file.sync_data()).and_then(|()| {
            // without its name a file does not survive either
            if is_new { File::open(&self.options.directory)?.sync_all() } else { Ok(()) }
        });
        if let Err(error) = written {
            // after a failed sync nobody knows what the disk has of this file: it is appended to no more
            let _ = file.set_len(entry.offset);
            self.tidy();
            return Err(error);
        }
        segment.add(&entry);
        self.tail = Some(file);
        Ok(entry)
    }

    /// The oldest record that waits, with its body. Records that cannot be read back, and those that are too old, are
    /// counted and passed over.
    ///
    /// # Errors
    /// A file cannot be opened or read now.
    pub fn front(&mut self, now: Wall) -> io::Result<Option<(Entry, Vec<u8>)>> {
        self.make_room(0, now);
        loop {
            let Some(segment) = self.segments.iter_mut().find(|segment| segment.lines > 0) else { return Ok(None) };
            let found = match segment.front() {
                Err(error) => {
                    self.figures.errors += 1;
                    if !segment.is_unreadable() {
                        return Err(error);
                    }
                    None
                }
                Ok(found) => found,
            };
            let Some(entry) = found else {
                // its sums say that something waits, and there is nothing to be read
                self.figures.damaged += std::mem::take(&mut segment.lines);
                segment.damaged = true;
                self.tidy();
                continue;
            };
            if self.too_old(entry.header.newest, now) {
                self.figures.dropped += self.settle(&entry, entry.lines());
                self.finish(&entry);
            } else if let Some(body) = self.read(&entry)? {
                return Ok(Some((entry, body)));
            }
        }
    }

    /// Whether a record still waits: it may have been settled, or dropped.
    pub fn waits(&self, entry: &Entry) -> bool {
        self.segments.iter().any(|segment| segment.number == entry.segment && segment.waits(entry))
    }

    /// The body of a record; `None` when it was dropped meanwhile, or cannot be read back, which is counted.
    ///
    /// # Errors
    /// Its file cannot be opened or read now.
    pub fn read(&mut self, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
        let found = self.segments.iter_mut().find(|segment| segment.number == entry.segment && segment.waits(entry));
        let Some(segment) = found else { return Ok(None) };
        let body = match segment.body(entry) {
            Err(error) => {
                self.figures.errors += 1;
                if !segment.is_unreadable() {
                    return Err(error);
                }
                None
            }
            Ok(body) => body,
        };
        if body.is_none() {
            self.damage(entry, entry.lines());
        }
        Ok(body)
    }

    /// A record is not what was written: its last `lines` lines are lost.
    pub fn damage(&mut self, entry: &Entry, lines: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == entry.segment) {
            segment.damaged = true;
        }
        self.figures.damaged += self.settle(entry, lines);
        self.finish(entry);
    }

    /// So many lines of a record wait no more; gives how many did until now, which is none when the record was
    /// dropped meanwhile.
    pub fn settle(&mut self, entry: &Entry, lines: u64) -> u64 {
        match self.segments.iter_mut().find(|segment| segment.number == entry.segment && segment.waits(entry)) {
            Some(segment) => {
                let settled = lines.min(segment.lines);
                segment.lines -= settled;
                settled
            }
            None => 0,
        }
    }

    /// Nothing of a record waits any more: it is marked, and its segment deleted when that is all settled.
    pub fn finish(&mut self, entry: &Entry) {
        if let Some(segment) = self.segments.iter_mut().find(|s| s.number == entry.segment && s.waits(entry))
            && segment.settle(entry).is_err()
        {
            self.figures.errors += 1;
        }
        self.tidy();
    }

    /// Keeps lines that a server refused, with its message, for people. Gives how many were kept.
    pub fn set_aside(&mut self, now: Wall, message: &str, lines: &[u8]) -> u64 {
        self.refused.add(now, message, lines).unwrap_or_else(|_| {
            self.figures.errors += 1;
            0
        })
    }

    fn too_old(&self, newest: u64, now: Wall) -> bool {
        u128::from(newest) + self.options.max_age.as_nanos() < u128::from(now.0)
    }

    /// Drops the oldest segments while they are too old, or until there is room for `needed` bytes more.
    fn make_room(&mut self, needed: u64, now: Wall) {
        while let Some(front) = self.segments.front() {
            if !self.too_old(front.newest, now) && self.bytes() + needed <= self.options.max_bytes {
                return;
            }
            if let Some(front) = self.segments.pop_front() {
                self.figures.dropped += front.lines;
                self.retire(front);
            }
        }
    }

    /// Deletes segments in which nothing waits.
    fn tidy(&mut self) {
        while let Some(empty) = self.segments.iter().position(|segment| segment.lines == 0) {
            if let Some(segment) = self.segments.remove(empty) {
                self.retire(segment);
            }
        }
    }

    /// Ends a segment that is no longer in the list.
    fn retire(&mut self, segment: Segment) {
        if self.segments.back().is_none_or(|last| last.number < segment.number) {
            self.tail = None;
        }
        if !segment.retire() {
            return;
        }
        let mut aside: Vec<u64> = std::fs::read_dir(&self.options.directory)
            .into_iter()
            .flatten()
            .filter_map(|file| segment::number_of(file.ok()?.file_name().to_str()?))
            .filter_map(|(number, aside)| aside.then_some(number))
            .collect();
        aside.sort_unstable();
        for number in &aside[..aside.len().saturating_sub(KEPT_DAMAGED)] {
            let _ = std::fs::remove_file(segment::aside(&self.options.directory, *number));
        }
    }
}

/// Makes the directory when it is not there, and locks it.
fn prepare(directory: &Path) -> Result<Flock<File>, SpoolError> {
    let wrong = |source| SpoolError::Directory { directory: directory.to_path_buf(), source };
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // a directory without its name in the parent does not survive a power loss
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(wrong)?;
        }
    }
    let name = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(name).map_err(wrong)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => SpoolError::Locked(directory.to_path_buf()),
        errno => wrong(errno.into()),
    })
}
