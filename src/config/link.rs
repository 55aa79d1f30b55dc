//! Looks up the names of a [`Draft`] and counts what its tests will need, before anything is allocated.
//!
//! Not responsible for hosts and sockets ([`super::assemble`]). Read [`link`] first, then [`bounds`].

use super::draft::{Draft, Located};
use super::plan;
use super::problem::{Place, Problems, did_you_mean};
use crate::wire::REFLECTOR_PORTS;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A test with its names looked up: positions in the draft.
pub(super) struct Linked {
    pub(super) index: usize,
    pub(super) targets: usize,
    pub(super) group: usize,
    /// The ports of the group's items.
    pub(super) ports: Vec<usize>,
    pub(super) cps: f64,
}

/// Looks up the names of every test.
pub(super) fn link(draft: &Draft, problems: &mut Problems) -> Vec<Linked> {
    let ports = Names::of("ports", draft.ports.iter().map(|p| &*p.shape.port_name));
    let groups = Names::of("port_groups", draft.groups.iter().map(|g| &*g.name));
    let rates = Names::of("rate_limits", draft.rates.iter().map(|r| &*r.name));
    let targets = Names::of("targets", draft.targets.iter().map(|t| &*t.name));
    if draft.targets.is_empty() {
        if !problems.failed() {
            // else what could not be read was perhaps them
            problems.error(None, "targets", "nothing to probe", "list hosts under targets.default");
        }
        return Vec::new();
    }
    // ports are looked up for every group, tested or not: a mistake is a mistake
    let mut used_ports = BTreeSet::new();
    let mut group_ports = Vec::new();
    for group in &draft.groups {
        let mut found = Vec::new();
        for (i, item) in group.items.iter().enumerate() {
            found.extend(ports.find(&item.port, || format!("port_groups.{}[{i}].port", group.name), problems));
        }
        used_ports.extend(found.iter().copied());
        group_ports.push(found);
    }
    let (mut used_groups, mut used_rates, mut used_targets) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut linked = Vec::new();
    for (index, test) in draft.tests.iter().enumerate() {
        let found = (
            targets.find(&test.targets, || format!("tests[{index}].targets"), problems),
            groups.find(&test.port_group, || format!("tests[{index}].port_group"), problems),
            rates.find(&test.rate_limit, || format!("tests[{index}].rate_limit"), problems),
        );
        used_targets.extend(found.0);
        used_groups.extend(found.1);
        used_rates.extend(found.2);
        if let (Some(targets), Some(group), Some(rate)) = found {
            let ports = group_ports[group].clone();
            linked.push(Linked { index, targets, group, ports, cps: draft.rates[rate].cps });
        }
    }
    for (i, group) in draft.groups.iter().enumerate() {
        if group.items.is_empty() && used_groups.contains(&i) {
            problems.error(
                group.place,
                &format!("port_groups.{}", group.name),
                "has no port",
                "add one, or remove its test",
            );
        }
    }
    for (i, group) in draft.targets.iter().enumerate() {
        if group.targets.is_empty() && used_targets.contains(&i) {
            problems.error(
                group.place,
                &format!("targets.{}", group.name),
                "has no target",
                "add one, or remove its test",
            );
        }
    }
    let mut unused = |section: &str, name: &str, place: Option<Place>, used: bool| {
        // what is built in is nobody's mistake
        if let (false, Some(place)) = (used, place) {
            problems.warning(place, &format!("{section}.{name}"), "is not used", "use it in a test, or remove it");
        }
    };
    for (i, port) in draft.ports.iter().enumerate() {
        unused("ports", &port.shape.port_name, port.place, used_ports.contains(&i));
    }
    for (i, group) in draft.groups.iter().enumerate() {
        unused("port_groups", &group.name, group.place, used_groups.contains(&i));
    }
    for (i, rate) in draft.rates.iter().enumerate() {
        unused("rate_limits", &rate.name, rate.place, used_rates.contains(&i));
    }
    for (i, group) in draft.targets.iter().enumerate() {
        unused("targets", &group.name, group.place, used_targets.contains(&i));
    }
    for &i in &used_ports {
        let port = &draft.ports[i];
        if port.timeout.value > draft.interval.value {
            let (timeout, interval) = (port.timeout.value.as_secs_f64(), draft.interval.value.as_secs_f64());
            problems.warning(
                port.timeout.place.or(draft.interval.place),
                &format!("ports.{}.timeout", port.shape.port_name),
                format!("{timeout} s is longer than the interval, {interval} s: summaries come late"),
                "lower it, or raise summarization.interval",
            );
        }
    }
    linked
}

/// The names of a section.
struct Names<'d> {
    section: &'static str,
    positions: HashMap<&'d str, usize>,
}

impl<'d> Names<'d> {
    fn of(section: &'static str, names: impl Iterator<Item = &'d str>) -> Names<'d> {
        Names { section, positions: names.enumerate().map(|(i, name)| (name, i)).collect() }
    }

    fn find(&self, name: &Located<String>, key: impl Fn() -> String, problems: &mut Problems) -> Option<usize> {
        let found = self.positions.get(&*name.value).copied();
        if found.is_none() {
            let mut known: Vec<&str> = self.positions.keys().copied().collect();
            known.sort_unstable();
            let near = did_you_mean(&name.value, known);
            let what = format!("{} is not in {}{near}", super::yaml::quote(&name.value), self.section);
            problems.error(name.place, &key(), what, format!("add it to {}, or correct the name", self.section));
        }
        found
    }
}

/// Checks the counts of what will be allocated.
pub(super) fn bounds(draft: &Draft, tests: &[Linked], problems: &mut Problems) {
    let targets: usize = draft.targets.iter().map(|group| group.targets.len()).sum();
    if targets > plan::MAX_TARGETS {
        let what = format!("{targets} targets asked, {} possible", plan::MAX_TARGETS);
        problems.error(None, "targets", what, "spread them over several collectors");
    }
    if draft.tests.len() > plan::MAX_TESTS {
        let what = format!("{} tests asked, {} possible", draft.tests.len(), plan::MAX_TESTS);
        problems.error(draft.tests[plan::MAX_TESTS].place, "tests", what, "merge groups of targets");
    }
    let (mut flows, mut sources) = (0u64, 0u64);
    for test in tests {
        let group = &draft.groups[test.group];
        let targets = draft.targets[test.targets].targets.len() as u64;
        for (i, item) in group.items.iter().enumerate() {
            let count = u64::from(item.count.value);
            let each = draft.ports[test.ports[i]].flows_per_leg();
            let key = format!("port_groups.{}[{i}].count", group.name);
            let first = u64::from(draft.ports[test.ports[i]].port);
            if first > 0 && first + count > 65_536 {
                let what = format!("source ports {first} to {} asked, 65535 is the last", first + count - 1);
                let port = &draft.ports[test.ports[i]].shape.port_name;
                problems.error(item.count.place, &key, what, format!("lower it, or ports.{port}.port"));
            }
            let taken = REFLECTOR_PORTS.iter().find(|port| (first..first + count).contains(&u64::from(**port)));
            let is_udp = draft.ports[test.ports[i]].shape.method.is_udp();
            if let (Some(taken), Some(place), true) = (taken, item.count.place, first > 0 && is_udp) {
                let what = format!(
                    "source port {taken} is a reflectors' port: they answer nothing from there, so it would be reported as lost"
                );
                problems.warning(place, &key, what, format!("leave out {REFLECTOR_PORTS:?}"));
            }
            let (before_flows, before_sources) = (flows, sources);
            flows += count * targets * each;
            sources += count;
            if before_flows <= plan::MAX_FLOWS as u64 && flows > plan::MAX_FLOWS as u64 {
                let what = format!("{flows} flows asked with this entry, {} possible", plan::MAX_FLOWS);
                problems.error(
                    item.count.place,
                    &key,
                    what,
                    format!("lower it, or shorten targets.{}", draft.targets[test.targets].name),
                );
            }
            // the same fixed ports in several tests count once, but each test's sources cost memory on the way
            if before_sources <= 2 * plan::MAX_SOURCES as u64 && sources > 2 * plan::MAX_SOURCES as u64 {
                let what =
                    format!("{sources} source ports asked with this entry, {} sockets possible", plan::MAX_SOURCES);
                problems.error(item.count.place, &key, what, "lower it");
            }
        }
    }
    let rate: f64 = tests
        .iter()
        .map(|test| {
            let items = draft.groups[test.group].items.iter().zip(&test.ports);
            let flows: u64 =
                items.map(|(item, port)| u64::from(item.count.value) * draft.ports[*port].flows_per_leg()).sum();
            flows as f64 * draft.targets[test.targets].targets.len() as f64 * test.cps
        })
        .sum();
    if rate > plan::MAX_RATE {
        let what = format!("{rate} probes/s asked by all tests, {} possible", plan::MAX_RATE);
        problems.error(None, "rate_limits", what, "lower cps, or use fewer ports or targets");
    }
}
