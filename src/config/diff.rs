//! What a reload changes: which sockets and flows two plans have in common, and the difference for people.
//!
//! # What is the same
//! A socket (of TCP and ICMP: a source port, an identifier): of the same protocol, bound to the same address, for the
//! `ports` entry of the same name, the n-th of its test (targets and port group by name; of any test, when that finds
//! none). A socket bound to a port by number is the same whatever uses it. A flow: the same socket, target address, loss threshold and everything that `ports` says about the
//! probe, so that of several classes and sizes each is a flow of its own. Rates, pacing, tags, groups and names of hosts may change, and the flow stays.
//!
//! Not responsible for carrying it out ([`crate::collector::reload`]). Read [`Matching`] first.

use super::dscp;
use super::plan::{Flow, Plan, Source, Test};
use super::report::PlanReport;
use crate::net::FlowLabels;
use crate::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use crate::summary::{Path, PathKey};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

/// Which parts of a plan are in the one before it: positions there, by position here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// Per shape.
    pub shapes: Vec<Option<u32>>,
    /// Per source.
    pub sources: Vec<Option<u32>>,
    /// Per flow.
    pub flows: Vec<Option<u32>>,
}

/// What sources are for: protocol, bound address, `ports` entry, and test.
type Purpose<'p> = (MethodKind, SocketAddr, &'p str, Option<(&'p str, &'p str)>);
/// What a source is called within a plan: its purpose, and which of those with the same one it is.
type SourceName<'p> = (Purpose<'p>, u32);

impl Matching {
    /// Nothing of `plan` was there before.
    pub fn none(plan: &Plan) -> Matching {
        Matching {
            shapes: vec![None; plan.shapes.len()],
            sources: vec![None; plan.sources.len()],
            flows: vec![None; plan.flows.len()],
        }
    }

    /// What `new` has of `old`. Pairs are one to one, but that several shapes may be the same.
    pub fn of(old: &Plan, new: &Plan) -> Matching {
        let shape = |shape| old.shapes.iter().position(|known| known == shape).map(|at| at as u32);
        let shapes: Vec<Option<u32>> = new.shapes.iter().map(shape).collect();
        let sources = sources(old, new);
        let flows = flows(old, new, &shapes, &sources);
        Matching { shapes, sources, flows }
    }
}

fn sources(old: &Plan, new: &Plan) -> Vec<Option<u32>> {
    let mut found = vec![None; new.sources.len()];
    let mut taken = vec![false; old.sources.len()];
    for of_its_test in [true, false] {
        let free = |i: &usize| !taken[*i];
        let known: HashMap<SourceName<'_>, u32> =
            names(old, of_its_test, free).into_iter().map(|(i, name)| (name, i as u32)).collect();
        let open: Vec<bool> = found.iter().map(Option::is_none).collect();
        for (i, name) in names(new, of_its_test, |i| open[*i]) {
            if let Some(&old) = known.get(&name) {
                found[i] = Some(old);
                taken[old as usize] = true;
            }
        }
    }
    found
}

/// The names of the sources that `counts` lets through, with or without the test they first stand in.
fn names<'p>(plan: &'p Plan, of_its_test: bool, counts: impl Fn(&usize) -> bool) -> Vec<(usize, SourceName<'p>)> {
    let mut test_of: Vec<Option<&Test>> = vec![None; plan.sources.len()];
    for (test, flow) in plan.flows_by_test() {
        test_of[flow.source as usize].get_or_insert(test);
    }
    let mut so_far: HashMap<Purpose<'_>, u32> = HashMap::new();
    let sources = plan.sources.iter().enumerate().filter(|(i, _)| counts(i));
    let named = sources.map(|(i, source)| {
        let mut port = plan.shapes[source.shape as usize].port_name.as_str();
        let mut test = test_of[i].filter(|_| of_its_test).map(|test| (&*test.targets, &*test.port_group));
        if source.bind.port() != 0 {
            (port, test) = ("", None);
        }
        let method = plan.shapes[source.shape as usize].method;
        let protocol = if method.is_udp() { MethodKind::Udp } else { method };
        let purpose = (protocol, source.bind, port, test);
        let number = so_far.entry(purpose).or_default();
        *number += 1;
        (i, (purpose, *number))
    });
    named.collect()
}

fn flows(old: &Plan, new: &Plan, shapes: &[Option<u32>], sources: &[Option<u32>]) -> Vec<Option<u32>> {
    // by what makes a flow, in the old plan's positions; flows that are there twice are paired in their order
    type Known = (u32, (SocketAddr, Option<IpAddr>, bool), u32, u32);
    // what goes to an address; unless the kernel makes the whole header, from which; and whether with a flow label
    let addresses = |plan: &Plan, flow: &Flow| {
        let method = plan.shapes[flow.shape as usize].method;
        let from = (!method.is_udp()).then(|| plan.paths[flow.path as usize].src);
        let to = plan.targets[flow.target as usize].address;
        (to, from, to.is_ipv6() && plan.sources[flow.source as usize].flow_labels != FlowLabels::Zero)
    };
    let mut first_of_kind: Vec<u32> = (0..old.shapes.len() as u32).collect();
    for (i, shape) in old.shapes.iter().enumerate() {
        first_of_kind[i] = old.shapes.iter().position(|known| known == shape).unwrap_or(i) as u32;
    }
    let mut known: Vec<Known> = (0..)
        .zip(&old.flows)
        .map(|(i, flow)| (flow.source, addresses(old, flow), first_of_kind[flow.shape as usize], i))
        .collect();
    let mut wanted: Vec<Known> = (0..)
        .zip(&new.flows)
        .filter_map(|(i, flow)| {
            let (source, shape) = (sources[flow.source as usize]?, shapes[flow.shape as usize]?);
            let threshold = new.sources[flow.source as usize].loss_threshold;
            let to = addresses(new, flow);
            (old.sources[source as usize].loss_threshold == threshold).then_some((source, to, shape, i))
        })
        .collect();
    known.sort_unstable();
    wanted.sort_unstable();
    let mut found = vec![None; new.flows.len()];
    let mut known = known.into_iter().peekable();
    for (source, to, shape, i) in wanted {
        let what = (source, to, shape);
        while known.next_if(|(source, to, shape, _)| (*source, *to, *shape) < what).is_some() {}
        let pair = known.next_if(|(source, to, shape, _)| (*source, *to, *shape) == what);
        found[i as usize] = pair.map(|(.., old)| old);
    }
    found
}

/// A number before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Both<T> {
    /// Before.
    pub old: T,
    /// After.
    pub new: T,
}

/// How many stay, come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// In both.
    pub kept: usize,
    /// Only in the new plan.
    pub added: usize,
    /// Only in the old plan.
    pub removed: usize,
}

/// Which stay, come and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// How many are in both.
    pub kept: usize,
    /// Only in the new plan.
    pub added: Vec<String>,
    /// Only in the old plan.
    pub removed: Vec<String>,
}

/// Something that has a name and another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Altered {
    /// Its key, as in the configuration.
    pub key: String,
    /// Before; absent when it was not there.
    pub old: Option<String>,
    /// After; absent when it is gone.
    pub new: Option<String>,
}

/// What a reload would change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// Whether it would change nothing.
    pub unchanged: bool,
    /// Seconds per summary.
    pub interval_s: Both<f64>,
    /// Probes per second.
    pub probes_per_second: Both<f64>,
    /// Probes in flight that can be remembered.
    pub in_flight_slots: Both<usize>,
    /// Bytes, while both are there the sum of both at most.
    pub memory: Both<usize>,
    /// Targets: group and address.
    pub targets: Names,
    /// Paths: source, destination and class.
    pub paths: Names,
    /// Paths in both whose group or tags differ.
    pub relabelled: usize,
    /// Sockets, each with its source port.
    pub sockets: Numbers,
    /// Flows.
    pub flows: Numbers,
    /// Of the flows in both: those probed at another rate.
    pub flows_at_another_rate: usize,
    /// Tests and kinds of probes that differ.
    pub altered: Vec<Altered>,
    /// What a reload leaves as it is, and the remedy.
    pub needs_restart: Vec<String>,
}

impl Diff {
    /// The difference between two plans, each with its report. `needs_restart` is what the collector cannot change
    /// while it runs.
    pub fn new(old: (&Plan, &PlanReport), new: (&Plan, &PlanReport), needs_restart: Vec<String>) -> Diff {
        let (reports, (old, new)) = ((old.1, new.1), (old.0, new.0));
        let same = Matching::of(old, new);
        let both = |of: fn(&PlanReport) -> usize| Both { old: of(reports.0), new: of(reports.1) };
        let rates = (rates(old), rates(new));
        let other_rate = same.flows.iter().zip(&rates.1).filter(|(kept, rate)| {
            let before = kept.and_then(|kept| rates.0.get(kept as usize).copied());
            before.is_some_and(|before| before != **rate)
        });
        let mut altered = altered(ports(old, old), ports(new, old));
        altered.extend(self::altered(tests(old), tests(new)));
        Diff {
            unchanged: is_same(old, new),
            interval_s: Both { old: reports.0.interval_s, new: reports.1.interval_s },
            probes_per_second: Both { old: old.rate(), new: new.rate() },
            in_flight_slots: both(|report| report.in_flight_slots),
            memory: both(|report| report.memory.total),
            targets: Names::new(&targets(old), &targets(new)),
            paths: Names::new(&paths(old), &paths(new)),
            relabelled: relabelled(old, new),
            sockets: Numbers::new(old.sources.len(), &same.sources),
            flows: Numbers::new(old.flows.len(), &same.flows),
            flows_at_another_rate: other_rate.count(),
            altered,
            needs_restart,
        }
    }
}

/// What is to be said when a plan wants the API elsewhere than where it is served.
pub fn api_needs_restart(served: Option<SocketAddr>, plan: &Plan) -> Option<String> {
    let said = |api: Option<SocketAddr>| api.map_or("none".to_owned(), |api| api.to_string());
    (served != plan.api).then(|| format!("api.bind: {} asked, {} in use", said(plan.api), said(served)))
}

/// Whether a reload from one plan to the other changes nothing. Where the API listens is not a reload's business, and a
/// limit that both keep to makes no difference.
pub fn is_same(old: &Plan, new: &Plan) -> bool {
    let Plan { interval, api: _, shapes, sources, targets, flows, paths, tests, syn_limit: _ } = old;
    (interval, shapes, sources, targets) == (&new.interval, &new.shapes, &new.sources, &new.targets)
        && (flows, paths, tests) == (&new.flows, &new.paths, &new.tests)
}

impl Numbers {
    /// From the number there were and what each that is there now was.
    pub fn new(old: usize, matched: &[Option<u32>]) -> Numbers {
        let kept = matched.iter().flatten().count();
        Numbers { kept, added: matched.len() - kept, removed: old.saturating_sub(kept) }
    }
}

impl Names {
    fn new(old: &BTreeSet<String>, new: &BTreeSet<String>) -> Names {
        Names {
            kept: old.intersection(new).count(),
            added: new.difference(old).cloned().collect(),
            removed: old.difference(new).cloned().collect(),
        }
    }
}

fn targets(plan: &Plan) -> BTreeSet<String> {
    plan.targets.iter().map(|target| format!("{} {}", target.group, target.address)).collect()
}

fn paths(plan: &Plan) -> BTreeSet<String> {
    let named = plan.paths.iter().map(|path| {
        let size = path.size.map_or(String::new(), |size| format!(" {size} bytes"));
        format!("{} → {} {}{size}", path.src, path.dst, class(path.dscp))
    });
    named.collect()
}

fn class(dscp: Dscp) -> String {
    dscp::name(dscp).map_or(dscp.0.to_string(), str::to_string)
}

fn relabelled(old: &Plan, new: &Plan) -> usize {
    let known: HashMap<PathKey, &Path> = old.paths.iter().map(|path| (path.key(), path)).collect();
    let differs = |path: &&Path| known.get(&path.key()).is_some_and(|known| known != path);
    new.paths.iter().filter(differs).count()
}

/// Probes per second of each flow.
fn rates(plan: &Plan) -> Vec<f64> {
    let mut rates = vec![0.0; plan.flows.len()];
    for test in &plan.tests {
        for index in test.flows.clone() {
            rates[index as usize] = test.cycles_per_second;
        }
    }
    rates
}

fn tests(plan: &Plan) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for test in &plan.tests {
        let pacing = match test.pacing {
            Pacing::Periodic => "periodic",
            Pacing::Poisson => "poisson",
        };
        let what = format!("{} flows, {} cycles/s, {pacing}", test.flows.len(), test.cycles_per_second);
        let name = format!("test {} → {}", test.port_group, test.targets);
        let second = (2..).map(|n| format!("{name} ({n})"));
        if let Some(free) = std::iter::once(name.clone()).chain(second).find(|name| !said.contains_key(name)) {
            said.insert(free, what);
        }
    }
    said
}

/// What `ports` says; of a key no more than whether it is the one that `known` has.
fn ports(plan: &Plan, known: &Plan) -> BTreeMap<String, String> {
    let mut entries: BTreeMap<&str, (&Source, Vec<&Shape>)> = BTreeMap::new();
    for (i, shape) in (0..).zip(&plan.shapes) {
        let Some(flow) = plan.flows.iter().find(|flow| flow.shape == i) else { continue };
        let source = &plan.sources[flow.source as usize];
        entries.entry(&shape.port_name).or_insert((source, Vec::new())).1.push(shape);
    }
    let said = entries.into_iter().map(|(name, (source, shapes))| {
        let before = known.shapes.iter().find(|known| known.port_name == name);
        (format!("ports.{name}"), entry(source, &shapes, before))
    });
    said.collect()
}

/// An entry of `ports`: its shapes are one per class and size.
fn entry(source: &Source, shapes: &[&Shape], before: Option<&Shape>) -> String {
    let Some(first) = shapes.first() else { return String::new() };
    let list = |of: &dyn Fn(&Shape) -> String| {
        let mut distinct: Vec<String> = Vec::new();
        for said in shapes.iter().map(|shape| of(shape)) {
            if !distinct.contains(&said) {
                distinct.push(said);
            }
        }
        distinct.join("/")
    };
    let stamps = match first.stamps {
        StampPolicy::Auto => "auto".to_owned(),
        StampPolicy::All => "all".to_owned(),
        StampPolicy::Off => "off".to_owned(),
        StampPolicy::OneIn(n) => format!("1 in {n}"),
    };
    let mut said = format!(
        "{}, timeout {} ms, {}, {} bytes, stamps {stamps}",
        first.method.name(),
        source.loss_threshold.as_secs_f64() * 1e3,
        list(&|shape| class(shape.dscp)),
        list(&|shape| shape.size.to_string()),
    );
    match shapes.iter().filter(|shape| shape.class_report).count() {
        0 => {}
        all if all == shapes.len() => said += ", dscp verified",
        _ => said += ", dscp verified where there is room",
    }
    if source.flow_labels == FlowLabels::Zero {
        said += ", flow label zero";
    }
    match &first.key {
        None => {}
        Some(_) if before.is_some_and(|before| before.key != first.key) => said += ", another key",
        Some(_) => said += ", with a key",
    }
    said
}

fn altered(old: BTreeMap<String, String>, mut new: BTreeMap<String, String>) -> Vec<Altered> {
    let mut found = Vec::new();
    for (key, was) in old {
        match new.remove(&key) {
            Some(is) if is == was => {}
            is => found.push(Altered { key, old: Some(was), new: is }),
        }
    }
    found.extend(new.into_iter().map(|(key, is)| Altered { key, old: None, new: Some(is) }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, System};
    use std::path::Path;

    fn plan(text: &str) -> Plan {
        config::parse(Path::new("a.yaml"), text, 8100, &System).unwrap_or_else(|error| panic!("{error}")).plan
    }

    const BASE: &str = "\
ports: {a: {ip: 127.0.0.1}, b: {ip: 127.0.0.1, port: 33000, size: 100}}
port_groups: {g: [{port: a, count: 2}, {port: b, count: 1}], h: [{port: a, count: 2}]}
rate_limits: {r: {cps: 4}}
tests:
  - {targets: x, port_group: g, rate_limit: r}
  - {targets: y, port_group: h, rate_limit: r}
targets:
  x: [{ip: 127.0.0.2, port: 1}, {ip: 127.0.0.3, port: 1}]
  y: [{ip: 127.0.0.4, port: 1}]
";

    /// Flows kept, added and removed, and sockets kept.
    type Counts = (usize, usize, usize, usize);

    /// From `BASE` to what `change` makes of it.
    fn after(change: impl FnOnce(&str) -> String) -> Counts {
        let text = change(BASE);
        assert_ne!(text, BASE, "nothing was changed");
        let (old, new) = (plan(BASE), plan(&text));
        let same = Matching::of(&old, &new);
        for (new_flow, old_flow) in new.flows.iter().zip(&same.flows) {
            let Some(old_flow) = old_flow.map(|old_flow| old.flows[old_flow as usize]) else { continue };
            assert_eq!(same.sources[new_flow.source as usize], Some(old_flow.source));
            let to = |plan: &Plan, flow: &super::super::plan::Flow| plan.targets[flow.target as usize].address;
            assert_eq!(to(&new, new_flow), to(&old, &old_flow));
        }
        let mut kept: Vec<u32> = same.flows.iter().flatten().copied().collect();
        kept.sort_unstable();
        kept.dedup();
        let numbers = Numbers::new(old.flows.len(), &same.flows);
        assert_eq!(kept.len(), numbers.kept, "one to one");
        (numbers.kept, numbers.added, numbers.removed, same.sources.iter().flatten().count())
    }

    #[test]
    fn what_makes_another_flow_and_what_does_not() {
        let replace = |from: &'static str, to: &'static str| move |text: &str| text.replace(from, to);
        // 2 + 1 sources to two targets, 2 to one: 8 flows on 5 sockets
        let cases: [(&str, Counts); 14] = [
            ("another rate", after(replace("cps: 4", "cps: 9"))),
            ("another pacing", after(replace("x, port_group: g", "x, pacing: poisson, port_group: g"))),
            ("tags", after(replace("{ip: 127.0.0.4, port: 1}", "{ip: 127.0.0.4, port: 1, tags: {k: v}}"))),
            (
                "a target more",
                after(replace("{ip: 127.0.0.4, port: 1}", "{ip: 127.0.0.4, port: 1}, {ip: 127.0.0.5, port: 1}")),
            ),
            (
                "the targets' order",
                after(replace(
                    "[{ip: 127.0.0.2, port: 1}, {ip: 127.0.0.3, port: 1}]",
                    "[{ip: 127.0.0.3, port: 1}, {ip: 127.0.0.2, port: 1}]",
                )),
            ),
            ("a source port less", after(replace("g: [{port: a, count: 2}", "g: [{port: a, count: 1}"))),
            (
                "a group of targets by another name",
                after(|text| text.replace("x:", "z:").replace("targets: x", "targets: z")),
            ),
            ("another loss threshold", after(replace("{ip: 127.0.0.1}", "{ip: 127.0.0.1, timeout: 500}"))),
            ("another size", after(replace("size: 100", "size: 101"))),
            ("a class more", after(replace("size: 100", "size: 100, dscp: [EF, DF]"))),
            ("a size more", after(replace("size: 100", "size: [1400, 100]"))),
            ("no class reports", after(replace("size: 100", "size: 100, verify_dscp: off"))),
            (
                "no flow labels, which IPv4 has not",
                after(replace("{ip: 127.0.0.1}", "{ip: 127.0.0.1, flow_label: zero}")),
            ),
            (
                "the first test gone",
                after(|text| {
                    let tests = text.replace("  - {targets: x, port_group: g, rate_limit: r}\n", "");
                    assert!(plan(&tests).tests.len() == 1);
                    tests
                }),
            ),
        ];
        let expected = [
            (8, 0, 0, 5),
            (8, 0, 0, 5),
            (8, 0, 0, 5),
            (8, 2, 0, 5),
            (8, 0, 0, 5),
            (6, 0, 2, 4),
            (8, 0, 0, 5),
            (2, 6, 6, 5),
            (6, 2, 2, 5),
            (8, 2, 0, 5),
            (8, 2, 0, 5),
            (6, 2, 2, 5),
            (8, 0, 0, 5),
            (2, 0, 6, 2),
        ];
        for ((what, found), expected) in cases.iter().zip(expected) {
            assert_eq!(*found, expected, "{what}");
        }
    }

    #[test]
    fn other_flow_labels_make_other_flows_on_the_same_sockets() {
        let text = "port_groups: {default: [{port: a, count: 2}]}\ntargets: {default: [{ip: \"::1\"}]}\nports: {a: {ip: \"::1\"";
        let (old, new) = (plan(&format!("{text}}}}}\n")), plan(&format!("{text}, flow_label: zero}}}}\n")));
        let same = Matching::of(&old, &new);
        assert_eq!((same.sources, same.flows), (vec![Some(0), Some(1)], vec![None, None]));
        assert!(!is_same(&old, &new));
        let said = format!("{:?}", altered(ports(&old, &old), ports(&new, &old)));
        assert!(said.contains("stamps auto\")") && said.contains("flow label zero"), "{said}");
    }

    #[test]
    fn classes_and_sizes_are_said_once_per_entry() {
        let one = plan(BASE);
        let several = plan(&BASE.replace("size: 100", "size: [44, 1400], dscp: [DF, EF]"));
        let altered = altered(ports(&one, &one), ports(&several, &one));
        assert_eq!(altered.len(), 1);
        let said = altered[0].new.as_deref().unwrap_or_default();
        let expected = "udp, timeout 1000 ms, DF/EF, 44/1400 bytes, stamps auto, dscp verified where there is room";
        assert_eq!(said, expected);
        let named = paths(&several);
        assert!(named.contains("127.0.0.1 → 127.0.0.2 EF 1400 bytes"), "{named:?}");
        let other_tags = BASE.replace("size: 100", "size: [44, 1400], dscp: [DF, EF]");
        let other_tags =
            plan(&other_tags.replace("{ip: 127.0.0.4, port: 1}", "{ip: 127.0.0.2, port: 1, tags: {k: v}}"));
        // by class and size, and what the other entry sends to it
        assert_eq!(relabelled(&several, &other_tags), 4 + 1);
    }

    #[test]
    fn a_plan_is_itself() {
        let base = plan(BASE);
        let same = Matching::of(&base, &plan(BASE));
        assert!(same.flows.iter().zip(0..).all(|(old, new)| *old == Some(new)));
        assert!(is_same(&base, &plan(BASE)));
        assert!(
            is_same(&base, &plan(&format!("{BASE}api: {{bind: \"127.0.0.1:5000\"}}\n"))),
            "not a reload's business"
        );
        assert!(!is_same(&base, &plan(&BASE.replace("cps: 4", "cps: 5"))));
    }

    #[test]
    fn secrets_differ_without_being_shown() {
        let mut old = plan(BASE);
        let mut new = old.clone();
        for (plan, key) in [(&mut old, "sesame"), (&mut new, "simsim")] {
            plan.shapes[0].key = Some(std::sync::Arc::new(crate::probe::shape::Key(key.as_bytes().to_vec())));
        }
        let altered = altered(ports(&old, &old), ports(&new, &old));
        let said = format!("{altered:?}");
        assert!(said.contains("another key") && !said.contains("sesame") && !said.contains("simsim"), "{said}");
    }
}
