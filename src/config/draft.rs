//! A configuration as read: values checked one by one, names not yet looked up, hosts not yet resolved.
//!
//! Read [`Draft`] first. [`super::file`] makes it from YAML, [`super::plan::Single`] from code, and
//! [`super::assemble`] turns it into a plan.

use super::problem::Place;
use crate::net::FlowLabels;
use crate::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy, Verify};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// A value and where it was written; no place for defaults.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Option<Place>,
}

impl<T> Located<T> {
    pub(super) fn default(value: T) -> Located<T> {
        Located { value, place: None }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// Which local address something binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// Any address; host names prefer this family.
    Any(Option<Family>),
    /// This address.
    Address(IpAddr),
    /// The first address of this host.
    Host(String),
}

/// SYNs per second to one target unless told otherwise. Linux lets 128 connections of a listener be half-open on the
/// smallest of hosts (`tcp_max_syn_backlog`), and each of ours is until the RST that follows the SYN-ACK has come: at this
/// rate up to 128 ms. A router's own protection often begins at about as many packets.
pub(super) const SYN_LIMIT: u32 = 1000;

/// An entry of `ports`.
#[derive(Clone, Debug)]
pub(super) struct PortDraft {
    pub(super) place: Option<Place>,
    pub(super) ip: Located<Bind>,
    /// The interface of a link-local `ip`, by name or number.
    pub(super) zone: Option<String>,
    pub(super) port: u16,
    pub(super) timeout: Located<Duration>,
    /// Of the classes and sizes, the first.
    pub(super) shape: Shape,
    /// Classes, at least one: each is a flow of its own.
    pub(super) classes: Vec<Dscp>,
    /// Payloads, at least one: likewise.
    pub(super) sizes: Vec<u16>,
    /// Whether reflectors are asked for the class that reached them.
    pub(super) verify: Verify,
    pub(super) flow_labels: FlowLabels,
    /// SYNs per second to one target at most.
    pub(super) syn_limit: Located<u32>,
}

impl PortDraft {
    /// The entry that counts when the file has none of this name.
    pub(super) fn built_in(name: &str) -> PortDraft {
        PortDraft {
            place: None,
            ip: Located::default(Bind::Any(Some(Family::V4))),
            zone: None,
            port: 0,
            timeout: Located::default(Duration::from_secs(1)),
            shape: Shape {
                port_name: name.to_string(),
                method: MethodKind::Udp,
                dscp: Dscp(0),
                size: MethodKind::Udp.sizes(false).usual,
                stamps: StampPolicy::Auto,
                key: None,
                class_report: false,
            },
            classes: vec![Dscp(0)],
            sizes: vec![MethodKind::Udp.sizes(false).usual],
            verify: Verify::Auto,
            flow_labels: FlowLabels::Own,
            syn_limit: Located::default(SYN_LIMIT),
        }
    }

    /// What its probes look like: one shape per class and size, and the size that tells its path from others.
    pub(super) fn shapes(&self) -> Vec<(Shape, Option<u16>)> {
        let one = |dscp: Dscp, size: u16| {
            let class_report = self.verify.asks(self.shape.method, self.shape.key.is_some(), size);
            let shape = Shape { dscp, size, class_report, ..self.shape.clone() };
            (shape, (self.sizes.len() > 1).then_some(size))
        };
        self.classes.iter().flat_map(|dscp| self.sizes.iter().map(|size| one(*dscp, *size))).collect()
    }

    /// Flows from one source port to one target.
    pub(super) fn flows_per_leg(&self) -> u64 {
        (self.classes.len() * self.sizes.len()) as u64
    }
}

/// An item of an entry of `port_groups`.
#[derive(Clone, Debug)]
pub(super) struct GroupItem {
    pub(super) port: Located<String>,
    pub(super) count: Located<u32>,
}

/// An entry of `port_groups`.
#[derive(Clone, Debug)]
pub(super) struct GroupDraft {
    pub(super) name: String,
    pub(super) place: Option<Place>,
    pub(super) items: Vec<GroupItem>,
}

/// An entry of `rate_limits`.
#[derive(Clone, Debug)]
pub(super) struct RateDraft {
    pub(super) name: String,
    pub(super) place: Option<Place>,
    pub(super) cps: f64,
}

/// An item of `tests`.
#[derive(Clone, Debug)]
pub(super) struct TestDraft {
    pub(super) place: Option<Place>,
    pub(super) targets: Located<String>,
    pub(super) port_group: Located<String>,
    pub(super) rate_limit: Located<String>,
    pub(super) pacing: Pacing,
}

/// An item of an entry of `targets`.
#[derive(Clone, Debug)]
pub(super) struct TargetDraft {
    pub(super) place: Option<Place>,
    /// As written.
    pub(super) host: String,
    /// When `host` is an address.
    pub(super) ip: Option<IpAddr>,
    /// The interface of a link-local address, by name or number.
    pub(super) zone: Option<String>,
    /// As written.
    pub(super) port: Option<u16>,
    pub(super) tags: Arc<BTreeMap<String, String>>,
}

/// An entry of `targets`.
#[derive(Clone, Debug)]
pub(super) struct TargetGroup {
    pub(super) name: String,
    pub(super) place: Option<Place>,
    pub(super) targets: Vec<TargetDraft>,
}

/// Where the API listens.
#[derive(Clone, Debug)]
pub(super) struct ApiDraft {
    pub(super) ip: Bind,
    pub(super) port: u16,
    pub(super) place: Option<Place>,
}

/// The whole file.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) interval: Located<Duration>,
    pub(super) api: Option<ApiDraft>,
    pub(super) ports: Vec<PortDraft>,
    pub(super) groups: Vec<GroupDraft>,
    pub(super) rates: Vec<RateDraft>,
    pub(super) tests: Vec<TestDraft>,
    pub(super) targets: Vec<TargetGroup>,
}

impl Draft {
    /// The configuration that counts without a file, probing `targets`.
    pub(super) fn built_in(targets: Vec<TargetGroup>) -> Draft {
        let mut draft = Draft {
            interval: Located::default(Duration::from_secs(30)),
            api: Some(ApiDraft { ip: Bind::Address(IpAddr::from([0, 0, 0, 0])), port: 5000, place: None }),
            ports: Vec::new(),
            groups: Vec::new(),
            rates: Vec::new(),
            tests: Vec::new(),
            targets,
        };
        draft.complete();
        draft
    }

    /// Adds what is there without being written: the entries named `default`, and the tests.
    pub(super) fn complete(&mut self) {
        const NAME: &str = "default";
        if !self.ports.iter().any(|p| p.shape.port_name == NAME) {
            self.ports.push(PortDraft::built_in(NAME));
        }
        if !self.groups.iter().any(|g| g.name == NAME) {
            let item = GroupItem { port: Located::default(NAME.into()), count: Located::default(4) };
            self.groups.push(GroupDraft { name: NAME.into(), place: None, items: vec![item] });
        }
        if !self.rates.iter().any(|r| r.name == NAME) {
            self.rates.push(RateDraft { name: NAME.into(), place: None, cps: 4.0 });
        }
        if self.tests.is_empty() {
            self.tests = self.targets.iter().map(|group| TestDraft::of(&group.name)).collect();
        }
    }
}

impl TestDraft {
    /// The test that is there without being written.
    fn of(targets: &str) -> TestDraft {
        TestDraft {
            place: None,
            targets: Located::default(targets.into()),
            port_group: Located::default("default".into()),
            rate_limit: Located::default("default".into()),
            pacing: Pacing::Periodic,
        }
    }
}

/// Reads an address as upstream writes them: IPv6 with or without brackets; IPv4 in IPv6 is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Reads a target's address, with its zone as a name or a number: `fe80::1%eth0`. The zone is `None` where none is
/// written.
pub(super) fn zoned(text: &str) -> Option<(IpAddr, Option<&str>)> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.split_once('%') {
        Some((ip, zone)) if !zone.is_empty() => ip.parse::<Ipv6Addr>().ok().map(|ip| (ip.into(), Some(zone))),
        Some(_) => None,
        None => address(bare).map(|ip| (ip, None)),
    }
}

/// Whether a text can be a host name; keeps a mistyped address from being asked of the DNS.
pub(super) fn is_host_name(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    text.len() <= 253 && text.chars().all(fits) && !last.is_empty() && !last.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        assert_eq!(address("10.0.0.1"), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(address("[::1]"), address("::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_eq!(address("10.0.0"), None);
        assert_eq!(zoned("fe80::1%eth0"), Some(("fe80::1".parse().unwrap(), Some("eth0"))));
        assert_eq!(zoned("[fe80::1%3]"), Some(("fe80::1".parse().unwrap(), Some("3"))));
        assert_eq!((zoned("10.0.0.1%eth0"), zoned("fe80::1%")), (None, None));
        for name in ["a", "host-1.example.", "a_b.example", "bücher.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "10.0.0.256", "10.0.0", "a b", "a:80", "a/b"] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
