//! From the tags of a series to its path.
//!
//! Points of the first LLAMA have neither method, class nor group: they are shown as method `llama`, which is how they
//! were probed, class 0 and no group; an address that is no address as 0.0.0.0. Read [`path_of`].

use super::condition::UPSTREAMS;
use crate::probe::shape::Dscp;
use crate::sink::influx::line::{OWN_TAGS, read_tag};
use crate::sink::record::method_of;
use crate::summary::Path;
use crate::summary::path_id::PathId;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Stands for an address that is missing or none.
pub(super) const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What tells paths apart: two series of one path, whose tags were changed meanwhile, are one; without addresses the
/// tags are all there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity(PathId, Option<Arc<BTreeMap<String, String>>>);

impl Identity {
    /// Of a path.
    pub fn of(path: &Path) -> Identity {
        let nameless = path.src == NO_ADDRESS || path.dst == NO_ADDRESS;
        Identity(PathId::of(path), nameless.then(|| path.tags.clone()))
    }
}

/// The path of a series' tags; `None` for a method or class that this version does not know.
pub(super) fn path_of(tags: &BTreeMap<String, String>) -> Option<Path> {
    let own = |name: &str| tags.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let address = |name| own(name).and_then(|text| text.parse().ok()).unwrap_or(NO_ADDRESS);
    let users = tags.iter().filter(|(name, value)| !OWN_TAGS.contains(&name.as_str()) && !value.is_empty());
    Some(Path {
        src: address("src_ip"),
        dst: address("dst_ip"),
        method: own("method").map_or(Some(UPSTREAMS), method_of)?,
        dscp: Dscp(own("dscp").map_or(Some(0), |text| text.parse().ok().filter(|dscp| *dscp < 64))?),
        size: own("size").and_then(|text| text.parse().ok()),
        group: own("group").unwrap_or_default().to_string(),
        tags: Arc::new(users.map(|(name, value)| (read_tag(name).to_string(), value.clone())).collect()),
    })
}

/// The order in which paths are given.
pub(super) fn order(a: &Path, b: &Path) -> std::cmp::Ordering {
    let key = |path: &Path| (path.src, path.dst, path.method.name(), path.dscp.0, path.size);
    key(a).cmp(&key(b)).then_with(|| a.group.cmp(&b.group)).then_with(|| a.tags.cmp(&b.tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::shape::MethodKind;

    fn path(tags: &[(&str, &str)]) -> Option<Path> {
        path_of(&tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn own_tags_and_users_tags() {
        let tags = [
            ("src_ip", "10.0.0.1"),
            ("dst_ip", "::2"),
            ("method", "udp"),
            ("dscp", "46"),
            ("group", "far"),
            ("size", "1400"),
        ];
        let users = [("tag_group", "mine"), ("rack", "r1"), ("absent", "")];
        let path = path(&[&tags[..], &users[..]].concat()).expect("path");
        assert_eq!((path.src, path.dst), ("10.0.0.1".parse().expect("ip"), "::2".parse().expect("ip")));
        assert_eq!(
            (path.method, path.dscp, path.size, path.group.as_str()),
            (MethodKind::Udp, Dscp(46), Some(1400), "far")
        );
        let users: Vec<_> = path.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(users, [("group", "mine"), ("rack", "r1")]);
    }

    #[test]
    fn the_first_llamas_points_have_paths_too() {
        let old = path(&[("src_ip", "10.0.0.1"), ("dst_ip", "10.0.0.2"), ("dst_metro", "fra"), ("method", "")]);
        let old = old.expect("path");
        assert_eq!((old.method, old.dscp, old.group.as_str()), (MethodKind::Llama, Dscp(0), ""));
        let (a, b) =
            (path(&[("host", "a")]).expect("path"), path(&[("host", "b"), ("src_ip", "b.example")]).expect("path"));
        assert_eq!((b.src, a.dst), (NO_ADDRESS, NO_ADDRESS));
        assert_ne!(Identity::of(&a), Identity::of(&b));
    }

    #[test]
    fn what_this_version_does_not_know_is_no_path() {
        assert_eq!((path(&[("method", "pigeon")]), path(&[("dscp", "64")])), (None, None));
    }
}
