//! Configuration files as users write them: what they mean, and what is said when they are wrong.

#![allow(clippy::unwrap_used, missing_docs)]

use llama::config::plan::{Probes, Single, Target};
use llama::config::{self, ConfigError, Costs, Loaded, Plan, PlanReport, Surroundings, keys};
use llama::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// A host with one address per family, and names of its own.
struct Lab;

impl Surroundings for Lab {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let texts: &[&str] = match host {
            "both.example" => &["2001:db8::1", "192.0.2.1"],
            "four.example" => &["192.0.2.4"],
            "wild.example" => &["0.0.0.0"],
            "empty.example" => &[],
            _ => return Err(io::Error::other("no such name")),
        };
        Ok(texts.iter().map(|text| ip(text)).collect())
    }

    fn source_address(&self, to: IpAddr) -> io::Result<IpAddr> {
        match to {
            to if to == ip("203.0.113.9") => Err(io::Error::other("network is unreachable")),
            to if to.is_loopback() => Ok(to),
            IpAddr::V4(_) => Ok(ip("198.51.100.7")),
            IpAddr::V6(_) => Ok(ip("2001:db8::7")),
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn load(yaml: &str) -> Result<Loaded, ConfigError> {
    config::parse(Path::new("a.yaml"), yaml, 8100, &Lab)
}

fn plan(yaml: &str) -> Plan {
    load(yaml).unwrap_or_else(|e| panic!("{e}")).plan
}

fn example(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    config::load(&path, 8100, &Lab).unwrap_or_else(|e| panic!("{e}"))
}

/// Indices are in range, ranges follow each other, and paths are merged.
fn check_integrity(plan: &Plan) {
    let mut next = 0;
    for test in &plan.tests {
        assert_eq!(test.flows.start, next);
        next = test.flows.end;
    }
    assert_eq!(next as usize, plan.flows.len());
    for flow in &plan.flows {
        let source = &plan.sources[flow.source as usize];
        let target = &plan.targets[flow.target as usize];
        let shape = &plan.shapes[flow.shape as usize];
        let path = &plan.paths[flow.path as usize];
        assert_eq!(source.bind.is_ipv4(), target.address.is_ipv4());
        assert_eq!((path.dst, path.method, path.dscp), (target.address.ip(), shape.method, shape.dscp));
        assert!(!path.src.is_unspecified());
        assert!(source.bind.ip().is_unspecified() || source.bind.ip() == path.src);
    }
    let ids: HashSet<_> = plan.paths.iter().map(|path| path.key()).collect();
    assert_eq!(ids.len(), plan.paths.len(), "paths are merged");
    let fixed: Vec<SocketAddr> = plan.sources.iter().map(|s| s.bind).filter(|bind| bind.port() != 0).collect();
    assert_eq!(fixed.iter().collect::<HashSet<_>>().len(), fixed.len(), "fixed ports are shared");
}

// --- what files mean ---

#[test]
fn upstreams_full_form_loads_unchanged() {
    let Loaded { plan, warnings } = example("upstream-full.yaml");
    check_integrity(&plan);
    assert_eq!(warnings.list, []);
    assert_eq!((plan.interval, plan.api), (Duration::from_secs(30), Some("0.0.0.0:5000".parse().unwrap())));
    assert_eq!((plan.flows.len(), plan.sources.len(), plan.targets.len(), plan.paths.len()), (12, 4, 3, 3));
    assert_eq!(plan.rate(), 48.0);
    assert!(plan.sources.iter().all(|s| s.bind == "0.0.0.0:0".parse().unwrap()));
    assert!(plan.sources.iter().all(|s| s.loss_threshold == Duration::from_secs(1)));
    assert_eq!(plan.paths[0].tags["version"], "1.10", "tags are texts as written");
    assert_eq!(plan.paths[2].group, "default");
    let shape = &plan.shapes[0];
    assert_eq!((shape.method, shape.dscp, shape.size, shape.stamps), (MethodKind::Udp, Dscp(0), 44, StampPolicy::Auto));
}

#[test]
fn upstreams_legacy_form_loads_unchanged() {
    let Loaded { plan, warnings } = example("upstream-legacy.yaml");
    check_integrity(&plan);
    assert_eq!(warnings.list, []);
    assert_eq!((plan.flows.len(), plan.rate()), (12, 48.0));
    assert_eq!(plan.api, Some("0.0.0.0:5000".parse().unwrap()));
    let order: Vec<String> = plan.targets.iter().map(|t| t.address.to_string()).collect();
    assert_eq!(order, ["127.0.0.1:8100", "127.0.0.2:8100", "127.0.0.3:8100"]);
    assert_eq!(plan.targets[1].tags["dst_cluster"], "east");
    assert!(plan.targets[2].tags.is_empty());
    let other = config::parse(Path::new("a"), "10.0.0.1: {a: b}", 9000, &Lab).unwrap();
    assert_eq!(other.plan.targets[0].address.port(), 9000);
}

#[test]
fn without_a_file_the_own_host_is_probed() {
    let plan = config::without_file(&Lab).unwrap().plan;
    check_integrity(&plan);
    assert_eq!(plan.targets[0].address, "127.0.0.1:8100".parse().unwrap());
    assert_eq!((plan.flows.len(), plan.rate(), plan.interval), (4, 16.0, Duration::from_secs(30)));
}

#[test]
fn what_is_not_written_has_its_default() {
    let Loaded { plan, warnings } = example("minimal.yaml");
    check_integrity(&plan);
    assert_eq!(warnings.list, []);
    assert_eq!((plan.tests.len(), plan.flows.len(), plan.rate()), (2, 12, 48.0));
    assert_eq!((&*plan.paths[2].group, &*plan.paths[2].tags["rack"]), ("east", "b7"));
    assert_eq!(plan.api, None);
    let nulls = "targets: {a: [{ip: 10.0.0.1, tags: }]}\nports:\ntests: ~\napi: {bind: }\nsummarization: null\n";
    assert_eq!(plan_summary(nulls), (1, 4, 16.0));
}

fn plan_summary(yaml: &str) -> (usize, usize, f64) {
    let plan = plan(yaml);
    check_integrity(&plan);
    (plan.tests.len(), plan.flows.len(), plan.rate())
}

#[test]
fn a_sweep_of_two_families_and_classes() {
    let Loaded { plan, warnings } = example("ecmp-sweep.yaml");
    check_integrity(&plan);
    assert_eq!(warnings.list, []);
    // 64 ports to 2 targets, 8 + 8 ports to 2 targets
    assert_eq!(plan.flows.len(), 128 + 32);
    assert_eq!(plan.rate(), 128.0 * 2.0 + 32.0 * 20.0);
    // 64 of each family; the 8 of the second test are the same sockets; 8 for EF
    assert_eq!(plan.sources.len(), 64 + 64 + 8);
    assert_eq!((plan.tests[0].pacing, plan.tests[1].pacing), (Pacing::Poisson, Pacing::Periodic));
    assert_eq!(plan.shapes[0].stamps, StampPolicy::OneIn(10));
    assert_eq!((plan.shapes[1].dscp, plan.shapes[1].size), (Dscp(46), 200));
    let binds: HashSet<SocketAddr> = plan.sources.iter().map(|s| s.bind).collect();
    for bind in ["0.0.0.0:33000", "0.0.0.0:33063", "[::]:33063", "0.0.0.0:34007"] {
        assert!(binds.contains(&bind.parse().unwrap()), "{bind}");
    }
    // far: one path each; near: two classes each
    assert_eq!(plan.paths.len(), 2 + 4);
}

const TARGETS: &str = "targets: {default: [{ip: 10.0.0.1}]}\n";

#[test]
fn numbers_and_words_are_read_as_upstream_does() {
    let yaml = format!(
        "ports: {{default: {{port: 010, tos: 0xb8, timeout: 1_500, tx_timestamps: off}}}}\nrate_limits: {{default: {{cps: 1e2}}}}\n\
         summarization: {{interval: 10, interval: 20}}\n{TARGETS}"
    );
    let Loaded { plan, warnings } = load(&yaml).unwrap();
    assert_eq!(plan.sources[0].bind.port(), 8);
    assert_eq!(plan.shapes[0].dscp, Dscp(46));
    assert_eq!(plan.shapes[0].stamps, StampPolicy::Off);
    assert_eq!(plan.sources[0].loss_threshold, Duration::from_millis(1500));
    assert_eq!(plan.rate(), 400.0);
    assert_eq!(plan.interval, Duration::from_secs(20), "the last duplicate counts");
    let shown = warnings.to_string();
    assert!(shown.contains("a.yaml:1:25: warning: ports.default.port: 010 is octal"), "{shown}");
    assert!(shown.contains("summarization.interval: given more than once"), "{shown}");
}

#[test]
fn tags_are_texts_and_null_tags_are_left_out() {
    let plan = plan("10.0.0.1: {a: yes, b: 007, c: ~, d: '', e: 1.0, f: \"~\", a: no}\n");
    let tags: Vec<(&str, &str)> = plan.paths[0].tags.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(tags, [("a", "no"), ("b", "007"), ("d", ""), ("e", "1.0"), ("f", "~")]);
}

#[test]
fn one_test_can_have_both_families() {
    let plan = plan("targets: {default: [{ip: 10.0.0.1}, {ip: '[2001:db8::5]'}, {ip: '::ffff:10.0.0.2'}]}\n");
    check_integrity(&plan);
    assert_eq!(plan.sources.len(), 8);
    assert_eq!(plan.flows.len(), 12);
    assert_eq!(
        plan.paths.iter().map(|p| p.src).collect::<Vec<_>>(),
        [ip("198.51.100.7"), ip("2001:db8::7"), ip("198.51.100.7")]
    );
    assert_eq!(plan.targets[2].address, "10.0.0.2:8100".parse().unwrap());
}

#[test]
fn host_names_prefer_the_family_of_the_port() {
    let with = |port: &str| {
        plan(&format!("ports: {{default: {{ip: {port}}}}}\ntargets: {{default: [{{ip: both.example}}]}}\n"))
    };
    for (port, chosen) in [
        ("0.0.0.0", "192.0.2.1"),
        ("'::'", "2001:db8::1"),
        ("''", "2001:db8::1"),
        ("10.0.0.9", "192.0.2.1"),
        ("'2001:db8::9'", "2001:db8::1"),
        ("four.example", "192.0.2.1"),
    ] {
        let plan = with(port);
        check_integrity(&plan);
        assert_eq!((plan.targets[0].address.ip(), &*plan.targets[0].host), (ip(chosen), "both.example"), "{port}");
    }
    assert_eq!(with("four.example").sources[0].bind.ip(), ip("192.0.2.4"));
}

#[test]
fn paths_are_merged_per_addresses_method_and_class() {
    let yaml = "ports: {a: {}, b: {dscp: AF21}}\nport_groups: {a: [{port: a, count: 2}, {port: b}], b: [{port: a}]}\n\
                tests: [{targets: x, port_group: a}, {targets: y, port_group: b}]\n\
                targets: {x: [{ip: 10.0.0.1, tags: {n: 1}}], y: [{ip: 10.0.0.1, port: 9000, tags: {n: 2}}]}\n";
    let Loaded { plan, warnings } = load(yaml).unwrap();
    check_integrity(&plan);
    assert_eq!((plan.paths.len(), plan.targets.len(), plan.flows.len()), (2, 2, 4));
    assert!(plan.paths.iter().all(|path| path.tags["n"] == "2" && path.group == "y"), "the last entry counts");
    assert!(warnings.to_string().contains("10.0.0.1 stands in targets.y[0] too"), "{warnings}");
}

#[test]
fn key_files_are_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "0123456789abcdef\n").unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, format!("ports: {{default: {{key_file: secret}}}}\n{TARGETS}")).unwrap();
    let plan = config::load(&path, 8100, &Lab).unwrap().plan;
    assert_eq!(plan.shapes[0].key.as_ref().unwrap().0, b"0123456789abcdef");
    assert_eq!(plan.shapes[0].size, 112);
    std::fs::write(&path, b"a: \xff\n").unwrap();
    assert!(config::load(&path, 8100, &Lab).unwrap_err().to_string().contains("not UTF-8 in line 1"));
}

// --- what is said when they are wrong ---

/// A file and a part of what is said about it.
fn said(yaml: &str) -> String {
    match load(yaml) {
        Ok(loaded) => panic!("no error in {yaml}; warnings: {}", loaded.warnings),
        Err(e) => e.to_string(),
    }
}

#[test]
fn mistakes_are_named_with_place_and_remedy() {
    let port = |body: &str| format!("ports:\n  default:\n    {body}\n{TARGETS}");
    let cases: Vec<(String, &str)> = vec![
        (port("dscp: 64"), "a.yaml:3:11: ports.default.dscp: 64 asked, 0 to 63 possible; correct it"),
        (port("dscp: EFF"), "3:11: ports.default.dscp: `EFF` is no code point (did you mean `EF`?)"),
        (port("{dscp: EF, tos: 0}"), "ports.default.dscp: EF is 46, tos 0 is 0 (DF); remove one of the two"),
        (port("tos: 256"), "3:10: ports.default.tos: 256 asked, 0 to 255 possible; lower it"),
        (port("timeout: 0"), "ports.default.timeout: 0 ms asked, 0.001 to 60000 possible; raise it"),
        (port("timeout: 1h"), "ports.default.timeout: `1h` is no number, 0.001 to 60000 ms possible"),
        (port("timeout: [1]"), "ports.default.timeout: a list found, a single value expected"),
        (port("port: 65536"), "ports.default.port: 65536 asked, 0 to 65535 possible"),
        (port("port: 1.5"), "ports.default.port: 1.5 asked, whole numbers"),
        (port("port: 65534"), "port_groups.default[0].count: source ports 65534 to 65537 asked, 65535 is the last"),
        (port("size: 43"), "ports.default.size: 43 bytes asked, 44 to 9000 possible; raise it"),
        (port("size: 9001"), "ports.default.size: 9001 bytes asked, 8 to 9000 possible; lower it"),
        (
            port("{size: 111, key_file: /nonexistent}"),
            "ports.default.size: 111 bytes asked, an authenticated probe has 112",
        ),
        (port("key_file: /nonexistent"), "ports.default.key_file: cannot read /nonexistent"),
        (port("{method: tcp-syn, size: 44}"), "ports.default.size: 44 bytes asked, a SYN has no payload; remove it"),
        ("targets: {default: [{ip: 'fe80::1'}]}".into(), "fe80::1 is link-local: it says nothing without"),
        (port("method: upd"), "ports.default.method: `upd` is unknown (did you mean `udp`?); use udp"),
        (port("tx_timestamps: 0"), "ports.default.tx_timestamps: `0` asked, all, auto, off, or one in 1"),
        (port("ip: 10.0.0.300"), "ports.default.ip: `10.0.0.300` is neither an address nor a host name"),
        (port("ip: none.example"), "3:9: ports.default.ip: cannot resolve `none.example`: no such name"),
        (
            port("ip: '2001:db8::9'"),
            "4:26: targets.default[0].ip: 10.0.0.1 is IPv4, ports.default.ip 2001:db8::9 is IPv6",
        ),
        (port("[a]"), "ports.default: a list found, a map expected"),
        (format!("ports: 5\n{TARGETS}"), "1:8: ports: `5` found, a map expected"),
        (format!("port_groups: {{default: {{}}}}\n{TARGETS}"), "port_groups.default: a map found, a list expected"),
        (format!("port_groups: {{default: []}}\n{TARGETS}"), "port_groups.default: has no port; add one"),
        (
            format!("port_groups: {{default: [{{count: 70000}}]}}\n{TARGETS}"),
            "port_groups.default[0].count: 70000 asked, 1 to 64512 possible; lower it",
        ),
        (
            format!("port_groups: {{default: [{{count: 0}}]}}\n{TARGETS}"),
            "port_groups.default[0].count: 0 asked, 1 to 64512 possible; raise it",
        ),
        (
            format!("port_groups: {{default: [{{port: defualt}}]}}\n{TARGETS}"),
            "port_groups.default[0].port: `defualt` is not in ports (did you mean `default`?)",
        ),
        (format!("rate_limits: {{default: {{cps: 0}}}}\n{TARGETS}"), "rate_limits.default.cps: 0 cycles/s asked"),
        (format!("rate_limits: {{default: {{cps: -1}}}}\n{TARGETS}"), "rate_limits.default.cps: -1 cycles/s asked"),
        (format!("rate_limits: {{default: {{cps: .inf}}}}\n{TARGETS}"), "rate_limits.default.cps: `.inf` is no number"),
        (
            format!("summarization: {{interval: 0}}\n{TARGETS}"),
            "summarization.interval: 0 s asked, 0.1 to 86400 possible",
        ),
        (format!("api: {{bind: 5000}}\n{TARGETS}"), "api.bind: `5000` is no ADDRESS:PORT"),
        (format!("tests: []\n{TARGETS}"), "1:8: tests: no test; add a test"),
        (format!("tests: [{{targets: wset}}]\n{TARGETS}"), "1:19: tests[0].targets: `wset` is not in targets;"),
        (format!("tests: [{{port_group: x}}]\n{TARGETS}"), "tests[0].port_group: `x` is not in port_groups"),
        (
            format!("tests: [{{rate_limit: defaults}}]\n{TARGETS}"),
            "tests[0].rate_limit: `defaults` is not in rate_limits (did you mean `default`?)",
        ),
        (
            format!("tests: [{{pacing: even}}]\n{TARGETS}"),
            "tests[0].pacing: `even` is unknown; use periodic or poisson",
        ),
        ("".into(), "targets: nothing to probe; list hosts under targets.default"),
        ("api: {}".into(), "targets: nothing to probe"),
        ("[a, b]".into(), "a list found, a map expected"),
        ("targets: {default: []}".into(), "1:11: targets.default: has no target"),
        ("targets: {default: [{}]}".into(), "1:21: targets.default[0].ip: missing; add an address"),
        ("targets: {default: [{IP: 10.0.0.1}]}".into(), "targets.default[0].ip: missing (did you mean `ip`?)"),
        ("targets: {default: [{ip: 0.0.0.0}]}".into(), "targets.default[0].ip: 0.0.0.0 is the wildcard address"),
        ("targets: {default: [{ip: 224.0.0.1}]}".into(), "224.0.0.1 is a multicast address"),
        (
            "targets: {default: [{ip: 10.0.0.1, port: 0}]}".into(),
            "targets.default[0].port: 0 asked, 1 to 65535 possible",
        ),
        (
            "targets: {default: [{ip: none.example}]}".into(),
            "targets.default[0].ip: cannot resolve `none.example`: no such name",
        ),
        ("targets: {default: [{ip: empty.example}]}".into(), "cannot resolve `empty.example`: no address"),
        ("targets: {default: [{ip: wild.example}]}".into(), "`wild.example` resolves to 0.0.0.0, the wildcard address"),
        ("targets: {default: [{ip: 203.0.113.9}]}".into(), "no way to 203.0.113.9: network is unreachable"),
        (
            "targets: {default: [{ip: 10.0.0.1, tags: {a: [1]}}]}".into(),
            "targets.default[0].tags.a: a list found, a text expected",
        ),
        ("10.0.0.1: {a: {b: c}}".into(), "10.0.0.1.a: a map found, a text expected"),
        ("10.0.0.999: {a: b}".into(), "1:1: 10.0.0.999: `10.0.0.999` is neither an address nor a host name"),
        ("a: 1\n  b: [\n".into(), "not YAML"),
    ];
    for (yaml, expected) in cases {
        let said = said(&yaml);
        assert!(said.contains(expected), "for {yaml:?}\nexpected {expected:?}\nsaid     {said:?}");
        assert!(said.starts_with("a.yaml:"), "{said}");
    }
}

#[test]
fn sockets_shared_by_entries_must_agree() {
    let two = |a: &str, b: &str| {
        format!("ports: {{a: {{{a}}}, b: {{{b}}}}}\nport_groups: {{default: [{{port: a}}, {{port: b}}]}}\n{TARGETS}")
    };
    let shared = plan(&two("port: 4000, dscp: EF", "port: 4000, size: 100"));
    check_integrity(&shared);
    assert_eq!((shared.sources.len(), shared.flows.len(), shared.paths.len(), shared.shapes.len()), (1, 2, 2, 2));
    let clash = said(&two("port: 4000", "port: 4000, timeout: 5"));
    assert!(
        clash.contains("ports.b.timeout: source port 4000 is also that of ports.a, with another timeout"),
        "{clash}"
    );
    let clash = said(&two("port: 4000", "port: 4000, ip: 10.0.0.9"));
    assert!(clash.contains("source port 4000 is bound to 0.0.0.0 and to 10.0.0.9"), "{clash}");
    let twice = load(&two("port: 4000", "port: 4000")).unwrap();
    assert_eq!(twice.warnings.list, [], "two shapes on one socket are two flows");
    let twice = load(&format!("ports: {{default: {{port: 4000}}}}\nport_groups: {{default: [{{}}, {{}}]}}\n{TARGETS}"))
        .unwrap();
    assert!(twice.warnings.to_string().contains("source port 4000 is used twice in one test"), "{}", twice.warnings);
}

#[test]
fn one_run_finds_every_mistake() {
    let e = load(
        "ports: {a: {dscp: 99, timeout: x}}\nport_groups: {g: [{port: b}]}\ntests:\n- {targets: t, port_group: h}\n\
         targets: {t: [{ip: 1.2.3}, {port: 0, ip: 10.0.0.1}], u: 5}\nrate_limit: {}\n",
    )
    .unwrap_err();
    let places: Vec<_> = e.problems.iter().map(|p| (p.place.unwrap().line, &*p.key)).collect();
    let expected = [
        (1, "ports.a.dscp"),
        (1, "ports.a.timeout"),
        (2, "port_groups.g[0].port"),
        (4, "tests[0].port_group"),
        (5, "targets.t[0].ip"),
        (5, "targets.t[1].port"),
        (5, "targets.u"),
    ];
    let mut places_sorted = places.clone();
    places_sorted.sort();
    assert_eq!(places_sorted, expected);
    assert!(places.is_sorted_by_key(|p| p.0));
    assert!(e.to_string().contains("rate_limit: unknown key (did you mean `rate_limits`?), ignored"), "{e}");
}

#[test]
fn limits_are_checked_before_memory_is_taken() {
    let many: String = (0..50).map(|_| "{port: default, count: 64512},").collect();
    let said = said(&format!("port_groups: {{default: [{many}]}}\n{TARGETS}"));
    assert!(said.contains("129024 source ports asked with this entry, 60000 sockets possible"), "{said}");
    assert!(said.contains("1032192 flows asked with this entry, 1000000 possible"), "{said}");
    let e = load(&format!(
        "rate_limits: {{default: {{cps: 1000000}}}}\nport_groups: {{default: [{{count: 11}}]}}\n{TARGETS}"
    ));
    assert!(e.unwrap_err().to_string().contains("11000000 probes/s asked by all tests, 10000000 possible"));
    let yaml = format!(
        "rate_limits: {{default: {{cps: 900000}}}}\nports: {{default: {{timeout: 60000}}}}\n\
         summarization: {{interval: 60}}\nport_groups: {{default: [{{count: 1}}]}}\n{TARGETS}"
    );
    assert!(load(&yaml).unwrap_err().to_string().contains("134217728 probes in flight asked, 67108864 possible"));
    let yaml = format!("port_groups: {{default: [{{count: 60001}}]}}\n{TARGETS}");
    assert!(load(&yaml).unwrap_err().to_string().contains("60001 sockets asked, 60000 possible"));
    let tests: String = (0..1001).map(|_| "{},").collect();
    let e = load(&format!("tests: [{tests}]\n{TARGETS}")).unwrap_err();
    assert!(e.to_string().contains("1001 tests asked, 1000 possible"));
}

#[test]
fn doubts_are_warnings() {
    let cases = [
        (
            format!("ports: {{default: {{timeuot: 5}}}}\n{TARGETS}"),
            "a.yaml:1:19: warning: ports.default.timeuot: unknown key (did you mean `timeout`?), ignored",
        ),
        (format!("ports: {{default: {{size: 1473}}}}\n{TARGETS}"), "1473 bytes are more than 1472"),
        (format!("ports: {{default: {{tos: 185}}}}\n{TARGETS}"), "185 has ECN bits 01"),
        (
            format!("ports: {{default: {{timeout: 31000}}}}\n{TARGETS}"),
            "ports.default.timeout: 31 s is longer than the interval, 30 s",
        ),
        (format!("ports: {{x: {{}}}}\n{TARGETS}"), "ports.x: is not used"),
        (
            format!("ports: {{default: {{port: 1}}, default: {{}}}}\n{TARGETS}"),
            "ports.default: given again further down",
        ),
        (format!("{TARGETS}---\nb: 1\n"), "a.yaml:2:1: warning: a second document starts here"),
        (
            "targets: {default: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]}".into(),
            "targets.default[1]: 10.0.0.1:8100 stands in this group twice",
        ),
        ("10.0.0.1: {dst_ip: x}".into(), "10.0.0.1.dst_ip: every summary has a tag of this name"),
    ];
    for (yaml, expected) in cases {
        let loaded = load(&yaml).unwrap_or_else(|e| panic!("{e}"));
        let shown = loaded.warnings.to_string();
        assert!(shown.contains(expected), "for {yaml:?}\nexpected {expected:?}\nsaid     {shown:?}");
    }
}

// --- what a plan will do ---

#[test]
fn the_report_adds_up() {
    let Loaded { plan, warnings } = example("ecmp-sweep.yaml");
    let costs = Costs { flow: 10, path: 100, socket: 7, base: 5000, ..Costs::of(&plan, (136, 900), |_| 1000) };
    let report = PlanReport::new(&plan, &warnings, &costs);
    assert_eq!((report.flows, report.sockets, report.paths, report.targets), (160, 136, 6, 4));
    assert_eq!(report.probes_per_second, 896.0);
    let [far, near] = &report.tests[..] else { panic!("{:?}", report.tests) };
    assert_eq!((far.source_ports, far.targets, far.probes_per_second_per_target), (64, 2, 128.0));
    assert_eq!((near.source_ports, near.probes_per_second_per_source_port), (16, 40.0));
    assert_eq!((&near.classes[..], near.pacing), (&["DF".to_string(), "EF".to_string()][..], "periodic"));
    assert_eq!((far.coverage[3].given_path * 100.0).round(), 98.0);
    // 64 flows over IPv4 and IPv6 at 2/s with 44 bytes; 16 flows at 20/s with 44 and 16 with 200
    let bytes = 64.0 * 2.0 * (72.0 + 92.0) + 16.0 * 20.0 * (72.0 + 228.0);
    assert_eq!(report.ip_bytes_per_second, bytes);
    // 896/s for 0.5 s and 0.2 s of a held-up reader's, and a batch; twice: 2 × 692 → 2048
    assert_eq!(report.in_flight_slots, 2048);
    let memory = report.memory;
    assert_eq!(memory.total, 4000 + 2048 * 64 + 1600 + 600 + 136 * 7 + 900 + 5000);
    let m = memory;
    let parts = [m.tallies, m.in_flight, m.flows, m.paths, m.sources, m.buffers, m.base];
    assert_eq!(memory.total, parts.iter().sum::<usize>());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tests"][0]["coverage"][0]["ecmp_paths"], 2);
}

#[test]
fn plans_from_code() {
    let target = |address: &str, group: &str| Target {
        host: address.into(),
        address: address.parse().unwrap(),
        group: group.into(),
        tags: Default::default(),
    };
    let shape = Shape {
        port_name: "ping".into(),
        method: MethodKind::Udp,
        dscp: Dscp(46),
        size: 44,
        stamps: StampPolicy::All,
        key: None,
        class_report: false,
    };
    let single = Single {
        targets: vec![target("127.0.0.1:1", "a"), target("127.0.0.2:1", "b"), target("[::1]:1", "a")],
        source_ports: 3,
        cycles_per_second: 2.0,
        pacing: Pacing::Poisson,
        probes: Probes::of(shape.clone()),
        bind: None,
        loss_threshold: Duration::from_millis(200),
        interval: Duration::from_secs(1),
    };
    let (plan, _) = single.clone().plan(&Lab).unwrap();
    check_integrity(&plan);
    assert_eq!((plan.tests.len(), plan.flows.len(), plan.rate()), (2, 9, 18.0));
    assert!(plan.paths.iter().all(|path| path.dscp == Dscp(46)));
    assert_eq!(plan.sources[0].loss_threshold, Duration::from_millis(200));
    assert_eq!((&*plan.paths[0].group, plan.tests[1].pacing), ("a", Pacing::Poisson));
    for (wrong, said) in [
        (Single { source_ports: 0, ..single.clone() }, "source ports: 0 asked"),
        (Single { cycles_per_second: f64::NAN, ..single.clone() }, "rate: NaN probes/s asked"),
        (Single { targets: vec![], ..single.clone() }, "nothing to probe"),
        (Single { bind: Some(ip("127.0.0.1")), ..single.clone() }, "::1 is IPv6"),
        (Single { targets: vec![target("203.0.113.9:1", "a")], ..single.clone() }, "no way to 203.0.113.9"),
    ] {
        let e = wrong.plan(&Lab).unwrap_err().to_string();
        assert!(e.contains(said), "{e}");
    }
}

// --- properties ---

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = load(&text);
    }

    #[test]
    fn no_near_miss_makes_the_loader_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "targets", "ports", "tests", "default", "ip", "port", "count", "tags", "port_groups", ":", ": ", "\n",
                "\n  ", "\n    ", "- ", "{", "}", "[", "]", ",", "10.0.0.1", "::1", "65535", "-1", "1e308", "&a ", "*a",
                "<<: ", "~", "'", "\"", "|", "summarization", "interval", "rate_limits", "cps", "api", "bind", "dscp",
            ]),
            0..60,
        )
    ) {
        let _ = load(&words.concat());
    }

    #[test]
    fn no_damage_makes_the_loader_panic(at in 0usize..700, with in "\\PC{0,3}", cut in 0usize..20) {
        let text = include_str!("../examples/upstream-full.yaml");
        let clamp = |mut i: usize| { i = i.min(text.len()); while !text.is_char_boundary(i) { i -= 1 } i };
        let damaged = format!("{}{with}{}", &text[..clamp(at)], &text[clamp(at + cut)..]);
        let _ = load(&damaged);
    }

    #[test]
    fn flows_are_ports_times_targets_and_rates_add_up(
        groups in prop::collection::vec(prop::collection::vec((0usize..3, 1u32..6), 1..4), 1..4),
        targets in prop::collection::vec((1usize..6, any::<bool>()), 1..4),
        tests in prop::collection::vec((0usize..3, 0usize..3, 1u32..50), 1..5),
        base in prop::sample::select(vec![0u16, 40_000]),
    ) {
        let mut yaml = String::from("ports:\n");
        for i in 0..3 {
            let first = if base == 0 { 0 } else { base + 100 * i };
            yaml += &format!("  p{i}: {{port: {first}, dscp: {i}}}\n");
        }
        yaml += "port_groups:\n";
        for (i, group) in groups.iter().enumerate() {
            yaml += &format!("  g{i}:\n");
            for (port, count) in group {
                yaml += &format!("    - {{port: p{port}, count: {count}}}\n");
            }
        }
        yaml += "targets:\n";
        for (i, (count, mixed)) in targets.iter().enumerate() {
            yaml += &format!("  t{i}:\n");
            for j in 0..*count {
                let ip = if *mixed && j % 2 == 1 { format!("'2001:db8::{i}:{j}'") } else { format!("10.0.{i}.{}", j + 1) };
                yaml += &format!("    - {{ip: {ip}}}\n");
            }
        }
        yaml += "rate_limits:\n";
        for (i, (_, _, cps)) in tests.iter().enumerate() {
            yaml += &format!("  r{i}: {{cps: {cps}}}\n");
        }
        yaml += "tests:\n";
        let (mut flows, mut rate) = (0, 0.0);
        for (i, &(target, group, cps)) in tests.iter().enumerate() {
            let (target, group) = (target % targets.len(), group % groups.len());
            yaml += &format!("  - {{targets: t{target}, port_group: g{group}, rate_limit: r{i}}}\n");
            let ports: u32 = groups[group].iter().map(|(_, count)| count).sum();
            flows += ports as usize * targets[target].0;
            rate += f64::from(ports) * targets[target].0 as f64 * f64::from(cps);
        }
        let plan = load(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}")).plan;
        check_integrity(&plan);
        prop_assert_eq!(plan.flows.len(), flows);
        prop_assert!((plan.rate() - rate).abs() < 1e-6);
        let report = PlanReport::new(&plan, &Default::default(), &Costs::of(&plan, (1, 0), |layout| layout.flows.len()));
        prop_assert!((report.tests.iter().map(|t| t.probes_per_second).sum::<f64>() - rate).abs() < 1e-6);
        prop_assert_eq!(report.tests.iter().map(|t| t.flows).sum::<usize>(), flows);
        let rings: f64 = plan.in_flight().iter().map(|ring| ring.rate).sum();
        prop_assert!((rings - rate).abs() < 1e-6);
        // every target of a test is probed equally often
        for test in &plan.tests {
            let mut per_target: HashMap<u32, usize> = HashMap::new();
            for flow in &plan.flows[test.flows.start as usize..test.flows.end as usize] {
                *per_target.entry(flow.target).or_default() += 1;
            }
            prop_assert_eq!(per_target.values().collect::<HashSet<_>>().len(), 1);
        }
    }
}

// --- size ---

#[test]
fn a_hundred_thousand_targets_load() {
    let mut yaml = String::from("targets:\n  default:\n");
    for i in 0..100_000u32 {
        let [_, a, b, c] = i.to_be_bytes();
        yaml += &format!(
            "    - ip: 10.{a}.{b}.{c}\n      port: 8100\n      tags:\n        host: h{i}\n        rack: r{}\n        site: s{}\n",
            i / 40,
            i / 4000
        );
    }
    // the first address ends in .0, which is a host's all the same
    let start = std::time::Instant::now();
    let Loaded { plan, warnings } = load(&yaml).unwrap();
    eprintln!("loaded in {:?}", start.elapsed());
    assert_eq!(warnings.list, []);
    assert_eq!((plan.flows.len(), plan.paths.len(), plan.sources.len()), (400_000, 100_000, 4));
    assert_eq!(plan.paths[99_999].tags["host"], "h99999");
}

// --- the documentation ---

#[test]
fn every_key_is_documented_with_its_default() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let row = |key: &keys::Key| text.lines().find(|line| line.starts_with(&format!("| `{}` |", key.path())));
    for key in keys::KEYS {
        let row = row(key).unwrap_or_else(|| panic!("docs/configuration.md has no row for `{}`", key.path()));
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, unit, range, default, origin, meaning] = cells[..] else { panic!("six cells expected: {row}") };
        assert_eq!(unit, if key.unit.is_empty() { "–" } else { key.unit }, "{row}");
        let shown = match key.range {
            keys::Range::Whole(min, max) | keys::Range::Number(min, max) => format!("{min} to {max}"),
            keys::Range::Words(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
            keys::Range::Text(text) => text.to_string(),
        };
        assert_eq!(range, shown, "{row}");
        let described = key.default.trim_start_matches('(').trim_end_matches(')');
        let expected = if key.default.starts_with('(') { described.to_string() } else { format!("`{}`", key.default) };
        assert!(default.starts_with(&expected), "default {expected}: {row}");
        let expected = match key.origin {
            keys::Origin::Upstream => "upstream",
            keys::Origin::UpstreamIgnored => "upstream, no effect",
            keys::Origin::Ours => "ours",
        };
        assert_eq!(origin, expected, "{row}");
        assert!(meaning.len() > 10, "{row}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 7);
    let known: HashSet<String> = keys::KEYS.iter().map(|key| format!("| `{}` |", key.path())).collect();
    for row in rows {
        assert!(known.iter().any(|start| row.starts_with(start)), "no key, but described: {row}");
    }
}

#[test]
fn every_example_in_the_documentation_loads() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let loaded = load(example).unwrap_or_else(|e| panic!("{e}\n{example}"));
        assert_eq!(loaded.warnings.list, [], "{example}");
    }
}

#[test]
fn every_example_file_is_tested() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".yaml"));
    for name in &names {
        check_integrity(&example(name).plan);
    }
    assert!(names.len() >= 4);
}
