//! Configurations that name several classes or sizes, zones, and what is proved: what they mean, and what is said
//! when they are wrong.

#![allow(clippy::unwrap_used, missing_docs)]

use llama::config::{self, ConfigError, Costs, Loaded, Plan, PlanReport, Surroundings};
use llama::net::FlowLabels;
use llama::probe::shape::Dscp;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// A host with one interface.
struct Lab;

impl Surroundings for Lab {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such name"))
    }

    fn source_address(&self, to: IpAddr) -> io::Result<IpAddr> {
        Ok(if to.is_ipv4() { "198.51.100.7" } else { "2001:db8::7" }.parse().unwrap())
    }

    fn source_address_in(&self, _: IpAddr, _: u32) -> io::Result<IpAddr> {
        Ok("fe80::7".parse().unwrap())
    }

    fn zone(&self, name: &str) -> io::Result<u32> {
        if name == "eth0" { Ok(3) } else { Err(io::Error::other("no such device")) }
    }
}

fn load(yaml: &str) -> Result<Loaded, ConfigError> {
    config::parse(Path::new("a.yaml"), yaml, 8100, &Lab)
}

fn plan(yaml: &str) -> Plan {
    load(yaml).unwrap_or_else(|e| panic!("{e}")).plan
}

fn with_port(port: &str) -> String {
    format!("ports:\n  default: {port}\ntargets:\n  a: [{{ip: 192.0.2.1}}, {{ip: \"2001:db8::1\"}}]\n")
}

/// Class, size, whether it asks for a report, of every shape.
fn shapes(plan: &Plan) -> Vec<(u8, u16, bool)> {
    plan.shapes.iter().map(|shape| (shape.dscp.0, shape.size, shape.class_report)).collect()
}

#[test]
fn every_class_is_a_path_and_a_flow_from_the_same_sockets() {
    let plan = plan(&with_port("{dscp: [0, AF21, EF]}"));
    assert_eq!(shapes(&plan), [(0, 52, true), (18, 52, true), (46, 52, true)]);
    // 4 source ports of 2 families; 3 classes of 2 targets
    assert_eq!((plan.sources.len(), plan.flows.len(), plan.paths.len()), (8, 24, 6));
    assert_eq!(plan.rate(), 24.0 * 4.0);
    assert!(plan.paths.iter().all(|path| path.size.is_none()), "one size needs no name");
    for source in 0..8 {
        let flows: Vec<_> = plan.flows.iter().filter(|flow| flow.source == source).collect();
        let classes: BTreeSet<Dscp> = flows.iter().map(|flow| plan.paths[flow.path as usize].dscp).collect();
        assert_eq!((flows.len(), classes.len()), (3, 3));
        assert!(flows.iter().all(|flow| plan.shapes[flow.shape as usize].dscp == plan.paths[flow.path as usize].dscp));
    }
}

#[test]
fn several_sizes_name_their_paths_and_one_does_not() {
    let several = plan(&with_port("{size: [64, 1400], dscp: EF}"));
    assert_eq!(shapes(&several), [(46, 64, true), (46, 1400, true)]);
    let sizes: BTreeSet<_> = several.paths.iter().map(|path| path.size).collect();
    assert_eq!(sizes, BTreeSet::from([Some(64), Some(1400)]));
    assert_eq!((several.sources.len(), several.flows.len()), (8, 16));
    for one in ["{size: 1400}", "{size: [1400]}"] {
        assert!(plan(&with_port(one)).paths.iter().all(|path| path.size.is_none()), "{one}");
    }
    let both = plan(&with_port("{size: [64, 1400], dscp: [0, EF]}"));
    assert_eq!(shapes(&both), [(0, 64, true), (0, 1400, true), (46, 64, true), (46, 1400, true)]);
}

#[test]
fn room_for_a_report_is_made_where_a_class_asks_for_it() {
    let of = |port: &str| shapes(&plan(&with_port(port)));
    assert_eq!(of("{}"), [(0, 44, false)]);
    assert_eq!(of("{dscp: EF}"), [(46, 52, true)]);
    assert_eq!(of("{dscp: EF, verify_dscp: off}"), [(46, 44, false)]);
    assert_eq!(of("{verify_dscp: on}"), [(0, 52, true)]);
    assert_eq!(of("{dscp: EF, size: 51}"), [(46, 51, false)]);
    assert_eq!(of("{dscp: EF, size: 1400, verify_dscp: off}"), [(46, 1400, false)]);
    assert_eq!(of("{dscp: EF, method: icmp}"), [(46, 56, false)]);
    assert_eq!(of("{dscp: EF, method: llama-python}"), [(46, 36, false)]);
}

#[test]
fn flow_labels_and_zones() {
    let labels = |port: &str| plan(&with_port(port)).sources[0].flow_labels;
    assert_eq!((labels("{}"), labels("{flow_label: zero}")), (FlowLabels::Own, FlowLabels::Zero));
    let near = "targets:\n  a: [{ip: \"fe80::1%eth0\"}]\n";
    let bound = |port: &str| plan(&format!("ports:\n  default: {port}\n{near}")).sources[0].bind;
    let to = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(bound("{ip: \"::\"}"), to("[::]:0"));
    assert_eq!(bound("{ip: \"fe80::7%eth0\"}"), to("[fe80::7%3]:0"));
    assert_eq!(bound("{ip: \"fe80::7\"}"), to("[fe80::7%3]:0"), "the zone of its targets");
}

#[test]
fn mistakes_are_named() {
    let sizes: Vec<String> = (100..117).map(|size| size.to_string()).collect();
    let many = format!("{{size: [{}]}}", sizes.join(", "));
    for (port, said) in [
        (
            "{dscp: [EF, 46]}",
            "a.yaml:2:24: ports.default.dscp: 46 is 46, which is named already; remove one of the two",
        ),
        ("{dscp: [EF, 64]}", "ports.default.dscp: 64 asked, 0 to 63 possible"),
        ("{dscp: [EF, 0], tos: 0}", "ports.default.dscp: EF is 46, tos 0 is 0 (DF); remove tos"),
        ("{dscp: [EF, [0]]}", "ports.default.dscp: a list found, a single value expected"),
        ("{dscp: []}", "ports.default.dscp: an empty list; name at least one, or remove the key"),
        ("{size: [64, 64]}", "ports.default.size: 64 is named already"),
        ("{size: [64, 43]}", "ports.default.size: 43 bytes asked, 44 to 9000 possible"),
        (&many, "ports.default.size: 17 sizes asked, 16 possible"),
        ("{size: 44, verify_dscp: on}", "ports.default.size: 44 bytes asked, with verify_dscp a probe has 52 or more"),
        ("{method: icmp, verify_dscp: on}", "ports.default.verify_dscp: probes of method icmp have no room"),
        ("{verify_dscp: maybe}", "ports.default.verify_dscp: `maybe` is unknown; use auto or on or off"),
        ("{flow_label: some}", "ports.default.flow_label: `some` is unknown"),
        ("{ip: \"fe80::7%eth9\"}", "ports.default.ip: `eth9` is no interface of this host"),
    ] {
        let targets = if port.contains("fe80") { "targets:\n  a: [{ip: \"2001:db8::1\"}]\n" } else { "" };
        let yaml = match targets {
            "" => with_port(port),
            targets => format!("ports:\n  default: {port}\n{targets}"),
        };
        let e = load(&yaml).map(|loaded| loaded.plan.shapes.len()).unwrap_err().to_string();
        assert!(e.contains(said), "{said}\n{e}");
    }
}

#[test]
fn kinds_of_probes_are_limited_and_flows_counted_before_they_are_made() {
    let classes: Vec<String> = (0..64).map(|class| class.to_string()).collect();
    let list = classes.join(", ");
    let fits = format!("{{dscp: [{list}], size: [64, 65, 66, 67]}}");
    assert_eq!(plan(&with_port(&fits)).shapes.len(), 256);
    let more = format!("{{dscp: [{list}], size: [64, 65, 66, 67, 68]}}");
    let e = load(&with_port(&more)).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("320 kinds of probes asked, classes times sizes of all, 256 possible"), "{e}");
    let wide = format!("{}port_groups:\n  default: [{{port: default, count: 10000}}]\n", with_port(&fits));
    let e = load(&wide).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("5120000 flows asked with this entry, 1000000 possible"), "{e}");
}

#[test]
fn a_fixed_port_has_one_kind_of_flow_label() {
    let e = load(
        "ports:\n  a: {port: 33000}\n  b: {port: 33000, flow_label: zero}\nport_groups:\n  default: [{port: a}, {port: b}]\n\
         targets:\n  a: [{ip: 192.0.2.1}]\n",
    );
    let e = e.map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("ports.b.flow_label: source port 33000 is also that of ports.a"), "{e}");
}

#[test]
fn a_check_lists_classes_and_sizes() {
    let plan = plan(&with_port("{size: [64, 1400], dscp: [0, EF]}"));
    let costs = Costs { tally: 0, tallies: 0, slot: 0, flow: 0, path: 0, socket: 0, sockets: 0, buffers: 0, base: 0 };
    let report = PlanReport::new(&plan, &Default::default(), &costs);
    assert_eq!(
        (&*report.tests[0].classes, &*report.tests[0].sizes),
        (&["DF".to_string(), "EF".into()][..], &[64, 1400][..])
    );
    assert_eq!(report.tests[0].source_ports, 4, "one to the routers' hash");
    // each of 4 source ports, 4 times a second: 2 classes of 2 sizes over both families
    let bytes = 4.0 * 4.0 * 2.0 * ((28.0 + 64.0) + (28.0 + 1400.0) + (48.0 + 64.0) + (48.0 + 1400.0));
    assert_eq!(report.ip_bytes_per_second, bytes);
}

#[test]
fn a_target_without_a_port_is_one_to_every_method() {
    let yaml = "ports: {t: {method: tcp-syn}, i: {method: icmp}, u: {}}\n\
                port_groups: {default: [{port: t}, {port: i}, {port: u}]}\n\
                targets: {default: [{ip: 127.0.0.1}, {ip: '::1'}]}\n";
    let loaded = load(yaml).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings.list, []);
    let twice = load(&yaml.replace("'::1'", "127.0.0.1")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(twice.warnings.list.len(), 1, "{:?}", twice.warnings);
}
