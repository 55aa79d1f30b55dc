//! We ask, upstream's reflectors answer.

use super::common::netns::Namespace;
use super::common::nft::{Count, Drops, Hook, Which};
use super::common::process::{Finished, llama_in};
use super::common::thread::spawn_in;
use super::common::topology::TwoHosts;
use super::{Generation, GoProbe, class, set_tos, socket, with_port};
use prost::Message;
use serde_json::Value;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A running reflector of upstream's; ends when dropped.
struct Old {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Old {
    fn start(host: &Namespace, generation: Generation, address: IpAddr) -> Old {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, bound) = std::sync::mpsc::channel();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = spawn_in(host, None, move || {
            let socket = socket(address, generation.port());
            told.send(()).unwrap();
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let probe = &buffer[..length];
                let tos = match generation {
                    // it ends here, as upstream's does, when a probe has no `tos`
                    Generation::Go => match GoProbe::decode(probe) {
                        Ok(probe) => probe.tos[0],
                        Err(_) => continue,
                    },
                    Generation::Python if length == 36 => probe[10],
                    Generation::Python => continue,
                };
                set_tos(&socket, tos);
                socket.send_to(probe, from).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        bound.recv().unwrap();
        Old { stop, answered, thread: Some(thread) }
    }

    /// Ends it and tells how many probes it answered.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("an old reflector ended by a probe of ours");
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn method(generation: Generation) -> &'static str {
    match generation {
        Generation::Go => "llama",
        Generation::Python => "llama-python",
    }
}

/// Probes in all; a slow rate, for the old one is a thread with a call per packet.
const SENT: u64 = 2_000;

fn ping(host: &Namespace, generation: Generation, target: IpAddr, flags: &[&str]) -> Finished {
    let target = target.to_string(); // with the generation's own port
    let common = ["--method", method(generation), "--json", "--count", "2000", "--rate", "1000", "--dscp", "EF"];
    llama_in(host, &[&["ping", &target], &common[..], flags].concat()).finish_within(LIMIT)
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {report:#}"))
}

fn assert_measured(report: &Value) {
    let rtt = |key: &str| report["rtt_ms"][key].as_f64().unwrap();
    assert_eq!(report["rtt_ms"]["samples"].as_u64().unwrap(), count(report, "replied"), "{report:#}");
    assert!(rtt("min") > 0.0 && rtt("min") <= rtt("mean") && rtt("max") < 10_000.0, "{report:#}");
    for unknown in ["residence_ms", "owd_forward_ms", "owd_reverse_ms"] {
        assert!(report[unknown].is_null(), "{unknown} in {report:#}");
    }
}

fn it_answers(generation: Generation, from: IpAddr, to: IpAddr, flags: &[&str]) {
    let hosts = TwoHosts::new();
    let old = Old::start(&hosts.target, generation, to);
    let port = generation.port();
    let probes = Count::start(&hosts.target, Hook::Input, &format!("udp dport {port} {}", class(from, 46)));
    let replies = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {port} {}", class(from, 46)));
    // it ends with the last reply; so long that none is late on a busy machine
    let flags = [&["--timeout", "10s"], flags].concat();
    let report = ping(&hosts.prober, generation, to, &flags).success().json();
    assert_eq!(count(&report, "sent"), SENT, "{report:#}");
    assert_eq!(probes.packets(), SENT, "class EF on the way there");
    let answered = old.end();
    assert_eq!(replies.packets(), answered, "class EF on the way back");
    assert_eq!((answered, count(&report, "replied")), (SENT, SENT), "{report:#}");
    assert_eq!(report["method"], method(generation), "{report:#}");
    assert_measured(&report);
}

#[test]
fn the_go_reflector_answers_ipv4() {
    it_answers(Generation::Go, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &[]);
}

#[test]
fn the_go_reflector_answers_ipv6_with_a_size_and_mmsg() {
    it_answers(Generation::Go, TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, &["--size", "155", "--io", "mmsg"]);
}

#[test]
fn the_python_reflector_answers_ipv4() {
    it_answers(Generation::Python, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, &[]);
}

#[test]
fn the_python_reflector_answers_ipv6() {
    it_answers(Generation::Python, TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, &["--tx-timestamps", "all"]);
}

fn loss_is_counted(generation: Generation) {
    let hosts = TwoHosts::new();
    let old = Old::start(&hosts.target, generation, TwoHosts::TARGET_V4);
    let port = generation.port();
    let drops = |host, hook: &str, one_in| {
        Drops::start(host, Hook::Input, &format!("udp {hook} {port}"), Which { one_in, among_first: u32::MAX })
    };
    let forward = drops(&hosts.target, "dport", 7);
    let reverse = drops(&hosts.prober, "sport", 11);
    let arrived = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {port}"));
    let report = ping(&hosts.prober, generation, TwoHosts::TARGET_V4, &["--timeout", "2s"]).success().json();
    let answered = old.end();
    let (forward, reverse) = (forward.stop(), reverse.stop());
    assert!(forward > 200 && reverse > 50, "the rules dropped {forward} and {reverse}");
    assert_eq!(answered, SENT - forward, "the old one answers what it gets");
    assert_eq!(count(&report, "sent"), SENT, "{report:#}");
    assert_eq!(count(&report, "lost"), forward + reverse, "{report:#} of {} arrived", arrived.packets());
    assert_eq!(count(&report, "replied"), SENT - forward - reverse, "{report:#}");
    // nobody counted on the way: its direction is not known
    assert_eq!((count(&report, "lost_forward"), count(&report, "lost_reverse")), (0, 0), "{report:#}");
    assert_measured(&report);
}

#[test]
fn loss_to_the_go_reflector_is_counted_exactly() {
    loss_is_counted(Generation::Go);
}

#[test]
fn loss_to_the_python_reflector_is_counted_exactly() {
    loss_is_counted(Generation::Python);
}

#[test]
fn a_collector_probes_both_and_a_new_one_side_by_side() {
    let hosts = TwoHosts::new();
    let old = [Generation::Go, Generation::Python].map(|old| Old::start(&hosts.target, old, TwoHosts::TARGET_V4));
    let new = with_port(TwoHosts::TARGET_V4, 8620);
    let new = llama_in(&hosts.target, &["reflector", "--listen", &new]);
    new.wait_for(super::common::process::ANSWERING);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "summarization: {{interval: 1}}
ports:
  go: {{method: llama, dscp: AF41, timeout: 2000}}
  python: {{method: llama-python, timeout: 2000}}
  stamp: {{timeout: 2000}}
port_groups: {{go: [{{port: go, count: 4}}], python: [{{port: python, count: 4}}], stamp: [{{port: stamp, count: 4}}]}}
rate_limits: {{default: {{cps: 25}}}}
tests:
  - {{targets: go, port_group: go}}
  - {{targets: python, port_group: python}}
  - {{targets: stamp, port_group: stamp}}
targets:
  go: [{{ip: {0}, port: 8100}}]
  python: [{{ip: {0}, port: 60000}}]
  stamp: [{{ip: {0}, port: 8620}}]
",
        TwoHosts::TARGET_V4
    )
    .unwrap();
    let drops = Drops::start(&hosts.target, Hook::Input, "udp dport 8100", Which { one_in: 5, among_first: u32::MAX });
    let path = file.path().to_str().unwrap();
    let end = llama_in(&hosts.prober, &["collector", "--config", path, "--output", "-", "--duration", "3s"]);
    let end = end.finish_within(LIMIT).success();
    let lost = drops.stop();
    let answered = old.map(Old::end);
    let summaries: Vec<Value> = end.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let sum = |method: &str, key: &str| {
        summaries.iter().filter(|summary| summary["method"] == method).map(|summary| count(summary, key)).sum::<u64>()
    };
    for name in ["llama", "llama-python", "udp"] {
        assert!(sum(name, "sent") > 50, "{name}: {}", end.stdout);
    }
    assert!(lost > 10, "the rule dropped {lost}");
    assert_eq!((sum("llama", "lost"), sum("llama", "replied")), (lost, answered[0]), "{}", end.stdout);
    assert_eq!((sum("llama-python", "lost"), sum("llama-python", "replied")), (0, answered[1]), "{}", end.stdout);
    assert_eq!(sum("udp", "lost"), 0, "{}", end.stdout);
    assert_eq!(super::total(&new.terminate().success(), "answered"), sum("udp", "replied"));
}
