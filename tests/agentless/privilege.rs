//! Who may probe how: a user with `CAP_NET_RAW` and nothing else, and a user with nothing.

use crate::common::netns::{Namespace, run};
use crate::common::nft::{Hook, Rejecting};
use crate::common::process::{ANSWERING, Finished, LLAMA, Process, llama_in};
use crate::common::topology::TwoHosts;
use crate::{IOS, LIMIT, assert_counts, report};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// `llama ping` as the user nobody, with these capabilities (as setpriv(1) writes them).
pub fn as_nobody(host: &Namespace, capabilities: &str, arguments: &[&str]) -> Finished {
    let inheritable = format!("--inh-caps={capabilities}");
    let ambient = format!("--ambient-caps={capabilities}");
    let bounding = format!("--bounding-set={capabilities}");
    let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", &inheritable, &ambient, &bounding, LLAMA, "ping"];
    Process::spawn(host.command("setpriv", &[&drop[..], arguments].concat())).finish_within(LIMIT)
}

const ONLY_RAW: &str = "-all,+net_raw";
pub const NONE: &str = "-all";

#[test]
fn net_raw_alone_is_enough() {
    let hosts = TwoHosts::new();
    for io in IOS {
        for method in ["tcp-syn", "icmp"] {
            for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
                let target = target.to_string();
                let flags = [&target, "--method", method, "--count", "50", "--io", io, "--json"];
                let report = report(&as_nobody(&hosts.prober, ONLY_RAW, &flags).success());
                assert_counts(&report, &[("sent", 50), ("replied", 50)]);
            }
        }
    }
}

#[test]
fn a_granted_program_needs_nothing_more() {
    let hosts = TwoHosts::new();
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("llama");
    std::fs::copy(LLAMA, &program).unwrap();
    let program = program.to_str().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/grant-caps");
    run(Command::new(script).arg(program));
    let target = TwoHosts::TARGET_V4.to_string();
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let ping = [program, "ping", "--tcp", &target, "--count", "50", "--json"];
    let granted = Process::spawn(hosts.prober.command("setpriv", &[&user[..], &ping].concat()));
    assert_counts(&report(&granted.finish_within(LIMIT).success()), &[("sent", 50), ("resets", 50)]);
}

#[test]
fn without_it_syns_say_what_is_missing_and_the_rest_works() {
    let hosts = TwoHosts::new();
    let reflector = llama_in(&hosts.target, &["reflector"]);
    reflector.wait_for(ANSWERING);
    let target = TwoHosts::TARGET_V4.to_string();

    hosts.prober.sysctl("ipv4/ping_group_range", "\"1 0\"");
    for (method, also) in [("tcp-syn", "udp, llama and llama-python work"), ("icmp", "net.ipv4.ping_group_range")] {
        let refused = as_nobody(&hosts.prober, NONE, &[&target, "--method", method]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        for words in ["CAP_NET_RAW", "scripts/grant-caps", "AmbientCapabilities=CAP_NET_RAW", also] {
            assert!(refused.stderr.contains(words), "{words} in {refused:?}");
        }
    }
    for io in IOS {
        for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
            let target = target.to_string();
            let flags = [&target, "--count", "50", "--dscp", "0,EF", "--size", "64,1400", "--io", io, "--json"];
            let report = report(&as_nobody(&hosts.prober, NONE, &flags).success());
            assert_counts(&report, &[("sent", 50), ("replied", 50)]);
        }
    }
}

#[test]
fn without_it_echoes_go_over_ping_sockets_where_the_system_allows() {
    let hosts = TwoHosts::new();
    hosts.prober.sysctl("ipv4/ping_group_range", "\"0 2147483647\"");
    for io in IOS {
        for target in [TwoHosts::TARGET_V4, TwoHosts::TARGET_V6] {
            let target = target.to_string();
            let flags = [&target, "--icmp", "--count", "64", "--dscp", "EF", "--io", io];
            let finished = as_nobody(&hosts.prober, NONE, &[&flags[..], &["--json"]].concat()).success();
            let report = report(&finished);
            assert_counts(&report, &[("sent", 64), ("replied", 64)]);
            assert_eq!(report["flows_with_loss"], 0);
            let shown = as_nobody(&hosts.prober, NONE, &flags).success();
            assert!(shown.stdout.contains("ping sockets"), "{shown:?}");
        }
    }
    hosts.target.sysctl("ipv4/icmp_echo_ignore_all", "1");
    let target = TwoHosts::TARGET_V4.to_string();
    let silent = as_nobody(&hosts.prober, NONE, &[&target, "--icmp", "--count", "20", "--timeout", "300ms", "--json"]);
    assert_eq!(silent.status.code(), Some(1));
    assert_counts(&report(&silent), &[("sent", 20), ("lost", 20)]);
    // and errors are told of there too
    hosts.target.sysctl("ipv4/icmp_ratelimit", "0");
    let _rejecting =
        Rejecting::start(&hosts.target, Hook::Input, "icmp type echo-request reject with icmp type admin-prohibited");
    let refused = as_nobody(&hosts.prober, NONE, &[&target, "--icmp", "--count", "20", "--timeout", "300ms", "--json"]);
    assert_counts(&report(&refused), &[("sent", 20), ("prohibited", 20)]);
}
