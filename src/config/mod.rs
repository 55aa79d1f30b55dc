//! From a configuration file to a checked, frozen [`Plan`].
//!
//! A file's way: `yaml` makes a tree with places → `file` reads the sections of [`keys`] into a `draft`
//! → `link` looks up names and counts → `assemble` resolves hosts and lists flows and paths. Everything
//! that is wrong is collected by [`problem`]; [`report`] says what a plan will do and cost, [`diff`] what a
//! reload changes. Prints
//! nothing and opens no socket that stays. Read [`load`] and [`Plan`] first.

mod assemble;
pub mod diff;
mod draft;
pub mod dscp;
pub mod endpoint;
mod file;
pub mod key_file;
pub mod keys;
mod link;
pub mod plan;
pub mod problem;
mod reader;
pub mod report;
mod scalar;
pub mod surroundings;
mod yaml;

pub use diff::{Diff, Matching};
pub use plan::Plan;
pub use problem::{ConfigError, Problem, Warnings};
pub use report::{Costs, PlanReport};
pub use surroundings::{Surroundings, System};

use draft::{Draft, TargetDraft, TargetGroup};
use problem::Problems;
use reader::Reader;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Destination port of UDP probes when none is written: upstream's reflector.
pub const DEFAULT_PORT: u16 = 8100;
/// Bytes of a configuration file at most.
pub const MAX_FILE: u64 = 256 << 20;

/// A plan and the doubts about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What will be done.
    pub plan: Plan,
    /// What looks odd.
    pub warnings: Warnings,
}

/// Reads a configuration file of either form. `legacy_port` is the destination port of the legacy form.
///
/// # Errors
/// Every mistake in the file, or why it cannot be read.
pub fn load(path: &Path, legacy_port: u16, surroundings: &impl Surroundings) -> Result<Loaded, ConfigError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let unreadable = |what: String, remedy: &str| {
        let mut problems = Problems::new(Some(path));
        problems.error(None, "", what, remedy);
        problems.finish::<Loaded>(None).map(|(loaded, _)| loaded)
    };
    match read {
        Err(e) => return unreadable(format!("cannot be read: {e}"), "give a readable file"),
        Ok(_) if bytes.len() as u64 > MAX_FILE => {
            return unreadable(format!("has more than {MAX_FILE} bytes"), "make it smaller");
        }
        Ok(_) => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text, legacy_port, surroundings),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..good].iter().filter(|&&b| b == b'\n').count() + 1;
            unreadable(format!("is not UTF-8 in line {line}"), "save it as UTF-8")
        }
    }
}

/// Reads a configuration from `text`; `path` is shown in errors, and key files are found beside it.
///
/// # Errors
/// Every mistake found.
pub fn parse(
    path: &Path,
    text: &str,
    legacy_port: u16,
    surroundings: &impl Surroundings,
) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::new(Some(path));
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(e) => {
            problems.error(e.place, "", e.what, e.remedy);
            return problems.finish::<Loaded>(None).map(|(loaded, _)| loaded);
        }
    };
    if let Some(place) = document.more_documents {
        problems.warning(place, "", "a second document starts here, only the first counts", "remove it");
    }
    let mut reader = Reader { problems };
    let directory = path.parent().unwrap_or(Path::new(""));
    let draft = file::read(&document.root, directory, legacy_port, &mut reader);
    // the tree of a large file is large: free it before the plan is made
    drop(document);
    finish(&draft, reader.problems, surroundings)
}

/// The plan without a file: one target, 127.0.0.1:8100.
///
/// # Errors
/// The host has no loopback address.
pub fn without_file(surroundings: &impl Surroundings) -> Result<Loaded, ConfigError> {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let target = TargetDraft {
        place: None,
        host: ip.to_string(),
        ip: Some(ip),
        zone: None,
        port: None,
        tags: Default::default(),
    };
    let draft = Draft::built_in(vec![TargetGroup { name: "default".into(), place: None, targets: vec![target] }]);
    finish(&draft, Problems::new(None), surroundings)
}

fn finish(draft: &Draft, mut problems: Problems, surroundings: &impl Surroundings) -> Result<Loaded, ConfigError> {
    let plan = if problems.failed() {
        // names are looked up all the same: one run finds every mistake in the file
        link::link(draft, &mut problems);
        None
    } else {
        assemble::assemble(draft, surroundings, &mut problems)
    };
    problems.finish(plan).map(|(plan, warnings)| Loaded { plan, warnings })
}
