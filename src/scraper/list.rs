//! Which collectors to pull: a list on the command line, or a file that may change while the scraper runs.
//!
//! Read [`Source`]. Not responsible for names being resolvable: a collector may come later.

use crate::config::endpoint;
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

/// The port of a collector's API when none is named, as upstream's.
pub const DEFAULT_PORT: u16 = 5000;
/// Collectors of one scraper at most.
pub const MAX_COLLECTORS: usize = 4096;
/// Bytes of a file of collectors at most.
const MAX_FILE: u64 = 1 << 20;

/// Where one collector answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Address or name in small letters, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        endpoint::write(f, &self.host, Some(self.port))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.contains("://") {
            return Err(format!("`{text}` is a URL; write HOST or HOST:PORT"));
        }
        let (host, port) = endpoint::host_and_port(text, 1, DEFAULT_PORT, "TCP port")?;
        // the name becomes part of a URL
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if let Some(odd) = host.chars().find(|c| !fits(*c)) {
            return Err(format!("`{host}` has `{odd}` in it, which no host name has; write HOST or HOST:PORT"));
        }
        Ok(Address { host: host.to_ascii_lowercase(), port: port.unwrap_or(DEFAULT_PORT) })
    }
}

/// What is wrong with a list, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ListError {
    /// The flag, or file and line.
    pub place: String,
    /// What is wrong and what to do.
    pub reason: String,
}

/// A list that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Each collector once, in the order of the list.
    pub collectors: Vec<Address>,
    /// What looks odd: place and reason.
    pub warnings: Vec<String>,
}

/// Where the list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `HOST[:PORT],…` as typed.
    Typed(String),
    /// A file, one collector per line, `#` begins a comment.
    File(PathBuf),
}

/// What tells whether a file was changed.
pub type Stamp = (SystemTime, u64);

impl Source {
    /// Takes the value of `--collectors` apart.
    pub fn of_flag(text: &str) -> Source {
        match text.strip_prefix('@') {
            Some(path) => Source::File(PathBuf::from(path)),
            None => Source::Typed(text.to_owned()),
        }
    }

    /// Reads the list.
    ///
    /// # Errors
    /// The first mistake, or why the file cannot be read; also a list of nobody or of too many.
    pub fn read(&self) -> Result<Listed, ListError> {
        match self {
            Source::Typed(text) => parse(text.split(',').map(|entry| ("--collectors".to_owned(), entry))),
            Source::File(path) => {
                let text = read_file(path)?;
                let place = |line: usize| format!("{}:{}", path.display(), line + 1);
                let entries = text.lines().enumerate().filter_map(|(number, line)| {
                    let entry = line.split('#').next().unwrap_or_default().trim();
                    (!entry.is_empty()).then(|| (place(number), entry))
                });
                let listed = parse(entries)?;
                if listed.collectors.is_empty() {
                    let reason = "names no collector; write one per line, HOST or HOST:PORT".into();
                    return Err(ListError { place: path.display().to_string(), reason });
                }
                Ok(listed)
            }
        }
    }

    /// The file's time and size; `None` for a typed list and while there is no file.
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Source::Typed(_) => None,
            Source::File(path) => {
                let metadata = std::fs::metadata(path).ok()?;
                Some((metadata.modified().ok()?, metadata.len()))
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, ListError> {
    let wrong = |reason: String| ListError { place: path.display().to_string(), reason };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(|error| {
        wrong(format!("cannot read the list of collectors: {error}; name a file that can be read after @"))
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(format!("more than {MAX_FILE} bytes, no list of collectors; is it the right file?")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("not text in UTF-8; is it the right file?".into()))
}

fn parse<'a>(entries: impl Iterator<Item = (String, &'a str)>) -> Result<Listed, ListError> {
    let (mut listed, mut seen) = (Listed::default(), HashSet::new());
    for (place, entry) in entries {
        let address: Address = match entry.trim().parse() {
            Ok(address) => address,
            Err(reason) => return Err(ListError { place, reason }),
        };
        if !seen.insert(address.clone()) {
            listed.warnings.push(format!("{place}: {address} is named twice; it is pulled once"));
            continue;
        }
        if listed.collectors.len() == MAX_COLLECTORS {
            let reason = format!("more than {MAX_COLLECTORS} collectors; share them among several scrapers");
            return Err(ListError { place, reason });
        }
        listed.collectors.push(address);
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let listed = Source::of_flag(text).read().map_err(|error| error.to_string())?;
        Ok(listed.collectors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_typed_list() {
        assert_eq!(
            read("a, B:7 ,[2001:db8::1]:9,2001:db8::1").unwrap(),
            ["a:5000", "b:7", "[2001:db8::1]:9", "[2001:db8::1]:5000"]
        );
        for (text, says) in [
            ("", "neither an address nor a host name"),
            ("a,,b", "neither an address nor a host name"),
            ("a:0", "not a TCP port"),
            ("a:70000", "leave it out for 5000"),
            ("http://a:5000/", "is a URL; write HOST"),
            ("fe80::1%eth0", "has `%` in it"),
            ("a?b", "has `?` in it"),
            ("[::1", "in brackets"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("--collectors: ") && error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_names_the_line_that_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let flag = format!("@{}", path.display());
        std::fs::write(&path, "# ours\n a \n\n[::1]:7 # there\nA:5000\n").unwrap();
        let listed = Source::of_flag(&flag).read().unwrap();
        assert_eq!(listed.collectors.len(), 2);
        assert_eq!(listed.warnings.len(), 1);
        assert!(listed.warnings[0].ends_with("hosts:5: a:5000 is named twice; it is pulled once"), "{listed:?}");
        std::fs::write(&path, "a\nb:x\n").unwrap();
        assert!(read(&flag).unwrap_err().contains("hosts:2: `x` is not a TCP port"));
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(read(&flag).unwrap_err().contains("names no collector"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&flag).unwrap_err().contains("UTF-8"));
        assert!(read("@/no/such/file").unwrap_err().starts_with("/no/such/file: cannot read"));
    }

    #[test]
    fn a_list_has_a_limit() {
        let text: Vec<String> = (0..=MAX_COLLECTORS).map(|n| format!("h{n}")).collect();
        assert!(read(&text.join(",")).unwrap_err().contains("4096"));
        assert_eq!(read(&text[1..].join(",")).unwrap().len(), MAX_COLLECTORS);
    }

    proptest! {
        #[test]
        fn addresses_print_as_they_are_read(ip: std::net::IpAddr, port in 1u16..) {
            let address = Address { host: ip.to_string(), port };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,30}") {
            let _ = Source::Typed(text).read();
        }
    }
}
