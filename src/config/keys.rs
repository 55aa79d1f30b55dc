//! Every key of the configuration file, in one table.
//!
//! The table drives reading (range, default), the detection of unknown keys and the check that
//! `docs/configuration.md` is complete. Read [`Key`] first. Not responsible for conditions between keys.

use crate::probe::shape::{LEAST_ECHO, LONGEST, MethodKind, Verify};

/// Who defined a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Upstream LLAMA's collector.
    Upstream,
    /// Upstream's; read and without effect here.
    UpstreamIgnored,
    /// This program.
    Ours,
}

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// A whole number from .0 to .1.
    Whole(f64, f64),
    /// A number from .0 to .1, fractions allowed.
    Number(f64, f64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// Anything this says.
    Text(&'static str),
}

/// A key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands, `NAME` for a name the user chooses and `[]` for an item: `ports.NAME`.
    pub section: &'static str,
    /// Its own name.
    pub name: &'static str,
    /// Unit of a number, else empty.
    pub unit: &'static str,
    /// What it may hold.
    pub range: Range,
    /// What counts when it is missing, as one would write it; or a description in parentheses.
    pub default: &'static str,
    /// Who defined it.
    pub origin: Origin,
}

impl Key {
    /// The whole key: `ports.NAME.dscp`.
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_string() } else { format!("{}.{}", self.section, self.name) }
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    range: Range,
    default: &'static str,
    origin: Origin,
) -> Key {
    Key { section, name, unit, range, default, origin }
}

/// Payload of a probe at most.
pub const MAX_SIZE: u16 = LONGEST as u16;
/// Payload of the shortest probe of any method; each has its own limits: [`MethodKind::sizes`].
pub const MIN_SIZE: u16 = LEAST_ECHO as u16;
/// Sizes of one entry of `ports` at most.
pub const MAX_SIZES: usize = 16;
/// SYNs per second to one target at most, whatever is asked.
pub const MAX_SYN_LIMIT: u64 = 10_000_000;
/// UDP ports from 1024 up: source ports one address can have without privileges.
pub const MAX_COUNT: u32 = 65_536 - 1_024;

use Origin::{Ours, Upstream, UpstreamIgnored};
use Range::{Number, Text, Whole, Words};

/// Names of the methods.
const METHODS: &[&str] = &[
    MethodKind::ALL[0].name(),
    MethodKind::ALL[1].name(),
    MethodKind::ALL[2].name(),
    MethodKind::ALL[3].name(),
    MethodKind::ALL[4].name(),
];

/// Sections whose keys are fixed, as they appear in [`Key::section`].
pub(super) const ROOT: &str = "";
pub(super) const SUMMARIZATION: &str = "summarization";
pub(super) const API: &str = "api";
pub(super) const PORT: &str = "ports.NAME";
pub(super) const GROUP_ENTRY: &str = "port_groups.NAME[]";
pub(super) const RATE_LIMIT: &str = "rate_limits.NAME";
pub(super) const TEST: &str = "tests[]";
pub(super) const TARGET: &str = "targets.NAME[]";

/// The table, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key(ROOT, "summarization", "", Text("map"), "(its keys' defaults)", Upstream),
    key(ROOT, "api", "", Text("map"), "(its keys' defaults)", Upstream),
    key(ROOT, "ports", "", Text("map of names"), "(an entry `default`)", Upstream),
    key(ROOT, "port_groups", "", Text("map of names"), "(an entry `default`)", Upstream),
    key(ROOT, "rate_limits", "", Text("map of names"), "(an entry `default`)", Upstream),
    key(ROOT, "tests", "", Text("list"), "(one test per group of targets)", Upstream),
    key(ROOT, "targets", "", Text("map of names"), "(required)", Upstream),
    key(SUMMARIZATION, "interval", "s", Number(0.1, 86_400.0), "30", Upstream),
    key(SUMMARIZATION, "handlers", "", Text("anything"), "(no effect)", UpstreamIgnored),
    key(API, "bind", "", Text("ADDRESS:PORT"), "(none)", Upstream),
    key(PORT, "ip", "", Text("address, host name, or wildcard"), "0.0.0.0", Upstream),
    key(PORT, "port", "", Whole(0.0, 65_535.0), "0", Upstream),
    key(PORT, "tos", "", Whole(0.0, 255.0), "0", Upstream),
    key(PORT, "timeout", "ms", Number(0.001, 60_000.0), "1000", Upstream),
    key(PORT, "dscp", "", Text("0 to 63 or a name, or a list of them"), "DF", Ours),
    key(PORT, "size", "bytes", Whole(MIN_SIZE as f64, MAX_SIZE as f64), "44", Ours),
    key(PORT, "verify_dscp", "", Words(&[Verify::NAMES[0].1, Verify::NAMES[1].1, Verify::NAMES[2].1]), "auto", Ours),
    key(PORT, "flow_label", "", Words(&["per-flow", "zero"]), "per-flow", Ours),
    key(PORT, "tx_timestamps", "", Text("all, auto, off, or 1 to 1000000"), "auto", Ours),
    key(PORT, "method", "", Words(METHODS), "udp", Ours),
    key(PORT, "key_file", "", Text("path"), "(none)", Ours),
    key(PORT, "syn_limit", "SYNs/s", Whole(1.0, MAX_SYN_LIMIT as f64), "1000", Ours),
    key(GROUP_ENTRY, "port", "", Text("name in ports"), "default", Upstream),
    key(GROUP_ENTRY, "count", "", Whole(1.0, MAX_COUNT as f64), "1", Upstream),
    key(RATE_LIMIT, "cps", "cycles/s", Number(0.000_01, 1_000_000.0), "4.0", Upstream),
    key(TEST, "targets", "", Text("name in targets"), "default", Upstream),
    key(TEST, "port_group", "", Text("name in port_groups"), "default", Upstream),
    key(TEST, "rate_limit", "", Text("name in rate_limits"), "default", Upstream),
    key(TEST, "pacing", "", Words(&["periodic", "poisson"]), "periodic", Ours),
    key(TARGET, "ip", "", Text("address or host name"), "(required)", Upstream),
    key(TARGET, "port", "", Whole(1.0, 65_535.0), "8100", Upstream),
    key(TARGET, "tags", "", Text("map of texts"), "{}", Upstream),
];

/// The keys of a section.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_is_listed_twice() {
        let paths: HashSet<String> = KEYS.iter().map(Key::path).collect();
        assert_eq!(paths.len(), KEYS.len());
    }

    #[test]
    fn defaults_lie_in_their_ranges() {
        for key in KEYS {
            match key.range {
                Whole(min, max) | Number(min, max) => {
                    let default: f64 = key.default.parse().unwrap();
                    assert!((min..=max).contains(&default), "{}", key.path());
                }
                Words(words) => assert!(words.contains(&key.default), "{}", key.path()),
                Text(_) => {}
            }
        }
    }
}
