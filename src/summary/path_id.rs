//! A path's name: short, and the same everywhere.
//!
//! Read [`PathId`].

use super::Path;
use sha2::{Digest, Sha256};

/// A path's name in URLs: the same in every run and on every host, for the same source, destination,
/// method, class, group and, where several are compared, size.
///
/// The first 64 bits of the SHA-256 of these, separated by newlines, as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u64);

impl PathId {
    /// The id of a path.
    pub fn of(path: &Path) -> PathId {
        let method = path.method.name();
        let size = path.size.map(|size| format!("\n{size}")).unwrap_or_default();
        let text = format!("{}\n{}\n{method}\n{}\n{}{size}", path.src, path.dst, path.dscp.0, path.group);
        let hash = Sha256::digest(text.as_bytes());
        PathId(hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }

    /// The id written like this; `None` when it is not 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<PathId> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(PathId))?
    }
}

impl std::fmt::Display for PathId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
