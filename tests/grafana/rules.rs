//! The example alerts, as `promtool` judges them.

use std::path::Path;
use std::process::Command;

const RULES: &str = "llama.rules.yml";
const TESTS: &str = "llama.test.yml";

/// Whether `promtool ARGUMENTS` in a folder has no complaint, and all it says.
fn promtool(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("cannot start promtool: {error}; apt-get install prometheus"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts")
}

#[test]
fn alerts_fire_when_they_should_and_not_otherwise() {
    for arguments in [["check", "rules", RULES], ["test", "rules", TESTS]] {
        let (well, said) = promtool(&folder(), &arguments);
        assert!(well, "{said}");
    }
}

#[test]
fn every_alert_is_tested_and_explained() {
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    let (rules, tests, explained) = (read(RULES), read(TESTS), read("../alerting.md"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} never fires in {TESTS}");
        assert!(explained.contains(alert), "docs/alerting.md does not explain {alert}");
    }
}

/// Every threshold matters to some test: a rule that says something else fails.
#[test]
fn the_tests_of_the_alerts_notice_other_thresholds() {
    let rules = std::fs::read_to_string(folder().join(RULES)).unwrap();
    let tests = std::fs::read_to_string(folder().join(TESTS)).unwrap();
    for (is, other) in [
        ("total[15m]) >= 3\n", "total[15m]) >= 2\n"),
        ("total[15m]) >= 3\n", "total[15m]) >= 4\n"),
        ("> 0.001 * increase", "> 0 * increase"),
        ("for: 2m\n        keep_firing_for: 5m", "for: 2m"),
        (">= 20\n", ">= 2\n"),
        (">= 0.999 *", ">= 0.4 *"),
        ("> 1.5 *", "> 6 *"),
        ("> 0.001 + rate", "> 0 + rate"),
        ("[15m]) >= 100", "[15m]) >= 1"),
        ("offset 1h) >= 100", "offset 1h) >= 1"),
        ("up{job=\"llama-collector\"} == 0\n          or", "vector(0) > 1\n          or"),
        ("> 3 * max", "> 300 * max"),
        ("max by (instance, job) (max_over_time(llama_path_suspect[5m])) == 1\n          or ", ""),
        ("{outcome=~\"not_sent|send_failed\"}[5m])) >= 3", "{outcome=~\"not_sent|send_failed\"}[5m])) >= 300"),
        ("result!=\"delivered\"", "result=\"dropped\""),
        ("unless sum by (instance, job, sink) (increase", "and sum by (instance, job, sink) (increase"),
        ("deriv(llama_sink_spool_queued[15m]) >= 0", "deriv(llama_sink_spool_queued[15m]) < 0"),
        ("llama_config_last_reload_successful == 0", "llama_config_last_reload_successful == 1"),
        ("llama_metrics_paths_omitted > 0", "llama_metrics_paths_omitted > 300"),
    ] {
        let changed = rules.replacen(is, other, 1);
        assert_ne!(changed, rules, "{is:?} is not in {RULES}");
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(RULES), changed).unwrap();
        std::fs::write(copy.path().join(TESTS), &tests).unwrap();
        let (well, said) = promtool(copy.path(), &["test", "rules", TESTS]);
        assert!(!well && said.contains("FAILED"), "{is:?} and {other:?} are the same to {TESTS}: {said}");
    }
}
