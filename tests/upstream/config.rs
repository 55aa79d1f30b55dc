//! What a configuration may say about upstream's methods.

use llama::config::report::{Costs, PlanReport};
use llama::config::{self, Loaded, System};

const TARGETS: &str = "targets: {default: [{ip: 127.0.0.1}]}\n";

fn load(yaml: &str) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    std::fs::write(&path, yaml).unwrap();
    config::load(&path, 8100, &System).map_err(|error| error.to_string())
}

#[test]
fn each_method_has_its_usual_size() {
    for (method, size) in [("udp", 44), ("llama", 1028), ("llama-python", 36), ("LLAMA", 1028)] {
        let Loaded { plan, warnings } = load(&format!("ports: {{default: {{method: {method}}}}}\n{TARGETS}")).unwrap();
        assert_eq!((plan.shapes[0].method.name(), plan.shapes[0].size), (&*method.to_lowercase(), size));
        assert_eq!(plan.paths[0].method, plan.shapes[0].method);
        assert_eq!(warnings.list, []);
    }
}

#[test]
fn methods_side_by_side_are_paths_of_their_own() {
    let yaml = "ports: {a: {method: llama, size: 100}, b: {method: llama-python, size: 36}, c: {}}\n\
                port_groups: {default: [{port: a}, {port: b}, {port: c}]}\n\
                targets: {default: [{ip: 127.0.0.1}]}\n";
    let Loaded { plan, warnings } = load(yaml).unwrap();
    assert_eq!(plan.shapes.iter().map(|shape| shape.size).collect::<Vec<_>>(), [100, 36, 44]);
    assert_eq!(plan.paths.len(), 3);
    let report = PlanReport::new(&plan, &warnings, &Costs::of(&plan, (3, 0), |_| 0));
    assert_eq!(report.tests[0].methods, ["udp", "llama", "llama-python"]);
}

#[test]
fn mistakes_are_named_with_remedy() {
    let port = |body: &str| format!("ports: {{default: {body}}}\n{TARGETS}");
    let cases = [
        (port("{method: llama, size: 26}"), "ports.default.size: 26 bytes asked, 27 to 9000 possible; raise it"),
        (
            port("{method: llama-python, size: 44}"),
            "ports.default.size: 44 bytes asked, a probe of method llama-python has 36; remove it",
        ),
        (
            port("{method: llama, key_file: /nonexistent}"),
            "ports.default.key_file: probes of method llama cannot be authenticated; remove it, or use method udp",
        ),
        (port("{method: lama}"), "`lama` is unknown (did you mean `llama`?); use udp or llama or llama-python"),
        (
            format!(
                "ports: {{a: {{port: 4000}}, b: {{port: 4000, method: llama}}}}\n\
                 port_groups: {{default: [{{port: a}}, {{port: b}}]}}\n{TARGETS}"
            ),
            "ports.b.method: source port 4000 is also that of ports.a, with another method",
        ),
    ];
    for (yaml, expected) in cases {
        let error = load(&yaml).err().unwrap_or_else(|| panic!("no error in {yaml}"));
        assert!(error.contains(expected), "{expected}\nin {error}");
    }
}
