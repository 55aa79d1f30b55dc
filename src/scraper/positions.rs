//! The file that says how far each collector has been pulled, so that a restart neither skips nor repeats.
//!
//! Small, written whole beside the old one and renamed over it, with a checksum: a reader sees the old or the new
//! one, or knows that it is damaged. Not responsible for when a position may be stored: see [`super::book`]. Read
//! [`Position`].

use super::list::Address;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The first line.
const HEAD: &str = "llama scraper positions 1";
/// Bytes of the file at most: every collector has a line.
const MAX_BYTES: u64 = 2 << 20;
/// Characters of an instance's name at most.
pub const MAX_INSTANCE: usize = 64;

/// How far one collector has been pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// All up to this sequence number of this instance (one run of a collector) have been delivered.
    Sequence {
        /// The run, as the collector names it.
        instance: String,
        /// The newest that was delivered.
        last: u64,
    },
    /// The interval with this fingerprint was written with this time.
    Interval {
        /// Of the answer.
        fingerprint: u64,
        /// Seconds since 1970.
        time: u64,
        /// Whether it has arrived for sure.
        sure: bool,
    },
}

/// Whether `text` can be an instance's name: letters and digits, few.
pub fn is_instance(text: &str) -> bool {
    (1..=MAX_INSTANCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The file's text.
fn render<'a>(positions: impl Iterator<Item = (&'a Address, &'a Position)>) -> String {
    let mut text = format!("{HEAD}\n");
    for (address, position) in positions {
        text += &match position {
            Position::Sequence { instance, last } => format!("{address} sequence {instance} {last}\n"),
            Position::Interval { fingerprint, time, sure } => {
                format!("{address} interval {fingerprint:016x} {time} {}\n", if *sure { "sure" } else { "unsure" })
            }
        };
    }
    let sum = crc32fast::hash(text.as_bytes());
    text + &format!("crc32 {sum:08x}\n")
}

/// The positions in a file's text.
fn parse(text: &str) -> Result<HashMap<Address, Position>, &'static str> {
    if !text.starts_with("llama scraper positions ") {
        return Err("it is no file of positions");
    }
    let (body, sum) = text.strip_suffix('\n').and_then(|t| t.rsplit_once("\ncrc32 ")).ok_or("its end is missing")?;
    let body = format!("{body}\n");
    if u32::from_str_radix(sum, 16) != Ok(crc32fast::hash(body.as_bytes())) {
        return Err("its checksum is wrong");
    }
    let mut lines = body.lines();
    if lines.next() != Some(HEAD) {
        return Err("it was written by another version");
    }
    lines.map(line).collect::<Option<_>>().ok_or("a line is not understood")
}

fn line(line: &str) -> Option<(Address, Position)> {
    let mut words = line.split(' ');
    let address = words.next()?.parse().ok()?;
    let position = match (words.next()?, words.next()?, words.next()?, words.next()) {
        ("sequence", instance, last, None) if is_instance(instance) => {
            Position::Sequence { instance: instance.to_owned(), last: last.parse().ok()? }
        }
        ("interval", fingerprint, time, Some(sure @ ("sure" | "unsure"))) => Position::Interval {
            fingerprint: u64::from_str_radix(fingerprint, 16).ok()?,
            time: time.parse().ok()?,
            sure: sure == "sure",
        },
        _ => return None,
    };
    words.next().is_none().then_some((address, position))
}

/// Reads the file; no file is no positions.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn read(path: &Path) -> io::Result<HashMap<Address, Position>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not text"))?;
    parse(&text).map_err(|reason| io::Error::new(ErrorKind::InvalidData, reason))
}

/// Replaces the file. It is on disk when this returns.
///
/// # Errors
/// It cannot be written; the old one is still there then.
pub fn write<'a>(path: &Path, positions: impl Iterator<Item = (&'a Address, &'a Position)>) -> io::Result<()> {
    let text = render(positions);
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // the new name as well
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = Position> {
        prop_oneof![
            ("[0-9a-f]{1,16}", any::<u64>()).prop_map(|(instance, last)| Position::Sequence { instance, last }),
            (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(fingerprint, time, sure)| Position::Interval {
                fingerprint,
                time,
                sure
            }),
        ]
    }

    fn address() -> impl Strategy<Value = Address> {
        ("[a-z0-9.-]{1,12}", 1u16..).prop_map(|(host, port)| Address { host, port })
    }

    #[test]
    fn what_is_written_is_read_back_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions");
        assert!(read(&path).unwrap().is_empty());
        let address = Address { host: "::1".into(), port: 5000 };
        for last in [7, 8] {
            let position = Position::Sequence { instance: "00ff".into(), last };
            write(&path, [(&address, &position)].into_iter()).unwrap();
            assert_eq!(read(&path).unwrap(), HashMap::from([(address.clone(), position)]));
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions");
        let address = Address { host: "a".into(), port: 5000 };
        let position = Position::Sequence { instance: "a".into(), last: 1 };
        write(&path, [(&address, &position)].into_iter()).unwrap();
        std::os::unix::fs::symlink("/dev/full", beside(&path)).unwrap();
        let later = Position::Sequence { instance: "a".into(), last: 2 };
        assert!(write(&path, [(&address, &later)].into_iter()).is_err());
        assert_eq!(read(&path).unwrap()[&address], position);
    }

    proptest! {
        #[test]
        fn a_round_trip(positions in proptest::collection::hash_map(address(), position(), 0..20)) {
            prop_assert_eq!(parse(&render(positions.iter())), Ok(positions));
        }

        #[test]
        fn damage_is_noticed(
            positions in proptest::collection::hash_map(address(), position(), 1..5), at in any::<prop::sample::Index>(), bit in 0u8..7,
        ) {
            let good = render(positions.iter());
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // the checksum is read without regard to case
            let same = String::from_utf8(bytes.clone()).is_ok_and(|text| text.eq_ignore_ascii_case(&good));
            if !same && let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(parse(&text).is_err(), "{}", text);
            }
            prop_assert!(parse(&good[..at]).is_err());
        }
    }
}
