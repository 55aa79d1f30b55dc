//! Another configuration by SIGHUP, under load: raw sockets take other ports, targets, address families, classes, flow
//! labels and loss thresholds while probes are in flight, and nothing is lost, counted twice or sent from another port.

use crate::IOS;
use crate::common::frames::{Frames, Kind, Packet};
use crate::common::process::{LLAMA, Process};
use crate::common::thread::spawn_in;
use crate::common::topology::TwoHosts;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// The first of the ports, or identifiers, that are configured.
const FIXED: u16 = 33_000;
const ALL: [&str; 3] = ["192.0.2.2", "192.0.2.3", "2001:db8::2"];

/// What differs from configuration to configuration.
struct Variant {
    targets: &'static [&'static str],
    /// Ports of the system's choice.
    chosen: u32,
    /// Loss thresholds in ms of those, and of the two fixed ones.
    timeouts: (u32, u32),
    classes: &'static str,
    /// Flow labels of the former; the latter have one per flow.
    labels: &'static str,
}

const USUAL: Variant =
    Variant { targets: &["192.0.2.2"], chosen: 4, timeouts: (500, 500), classes: "DF", labels: "per-flow" };

/// What comes one after the other; the first is the last as well.
const VARIANTS: [Variant; 9] = [
    USUAL,
    Variant { targets: &["192.0.2.2", "192.0.2.3"], ..USUAL },
    // more ports, and another family's socket
    Variant { targets: &["192.0.2.2", "2001:db8::2"], chosen: 7, ..USUAL },
    // which has to be two for two kinds of labels
    Variant { targets: &["192.0.2.2", "2001:db8::2"], chosen: 7, labels: "zero", ..USUAL },
    Variant { chosen: 2, ..USUAL },
    // a second socket gets ports of the first
    Variant { chosen: 2, timeouts: (500, 800), classes: "[DF, EF]", ..USUAL },
    // and the first one's other ports as well
    Variant { chosen: 2, timeouts: (800, 800), classes: "[EF, DF]", ..USUAL },
    // the socket stays, its loss threshold does not
    Variant { chosen: 2, timeouts: (650, 650), classes: "EF", ..USUAL },
    USUAL,
];
/// Loss thresholds that are new when they come: each begins a series of numbers.
const SERIES: usize = 4;

impl Variant {
    fn text(&self, method: &str) -> String {
        let (chosen, fixed) = self.timeouts;
        let Variant { classes, labels, .. } = self;
        let targets: String = self.targets.iter().map(|target| format!("    - {{ip: '{target}'}}\n")).collect();
        format!(
            "summarization: {{interval: 0.4}}\n\
             ports:\n  chosen: {{method: {method}, timeout: {chosen}, dscp: {classes}, flow_label: {labels}}}\n  \
             fixed: {{method: {method}, port: {FIXED}, timeout: {fixed}, dscp: {classes}}}\n\
             port_groups:\n  all: [{{port: chosen, count: {}}}, {{port: fixed, count: 2}}]\n\
             rate_limits: {{fast: {{cps: 100}}}}\n\
             tests: [{{targets: all, port_group: all, rate_limit: fast}}]\n\
             targets:\n  all:\n{targets}",
            self.chosen
        )
    }
}

struct Run {
    directory: tempfile::TempDir,
    hosts: TwoHosts,
}

impl Run {
    fn new() -> Run {
        let run = Run { directory: tempfile::tempdir().unwrap(), hosts: TwoHosts::new() };
        // for a user without privileges
        std::fs::set_permissions(run.directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        run.hosts.target.address(TwoHosts::DEVICE, "192.0.2.3/24");
        run
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file("matrix.yaml"), text).unwrap();
    }

    /// The collector, started by these words before its name.
    fn collector(&self, by: &[&str], io: &str) -> Process {
        let (configuration, output) = (self.file("matrix.yaml"), self.file("summaries.jsonl"));
        let _ = std::fs::remove_file(&output);
        let (configuration, output) = (configuration.to_str().unwrap(), output.to_str().unwrap());
        let own = [LLAMA, "collector", "--config", configuration, "--output", output, "--io", io];
        let words = [by, &own].concat();
        let collector = Process::spawn(self.hosts.prober.command(words[0], &words[1..]));
        collector.wait_for("a summary every");
        collector
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file("summaries.jsonl")).unwrap_or_default()
    }

    fn summaries(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]); // the last one may be being written
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for_more(&self, more: usize) {
        let (end, before) = (Instant::now() + PATIENCE, self.text().lines().count());
        while self.text().lines().count() < before + more {
            assert!(Instant::now() < end, "no more summaries come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn bind(&self, port: u16) -> std::io::Result<()> {
        let address = SocketAddr::new(TwoHosts::PROBER_V4, port);
        spawn_in(&self.hosts.prober, None, move || TcpListener::bind(address).map(drop)).join().unwrap()
    }
}

/// A probe on the wire.
struct Probe {
    to: String,
    /// Its port or identifier.
    port: u16,
    number: u32,
    dscp: u8,
    /// IPv6 flow label.
    label: Option<u32>,
}

fn probe(packet: &Packet) -> Option<Probe> {
    let header = &packet.frame[14..];
    let first = u32::from_be_bytes(header[..4].try_into().unwrap());
    let (len, dscp, label) = match packet.to.is_ipv4() {
        true => (20, header[1] >> 2, None),
        false => (40, (first >> 22 & 0x3f) as u8, Some(first & 0xf_ffff)),
    };
    let (port, number) = match packet.kind {
        Kind::Tcp { ports, seq, flags: (true, false, false), .. } => (ports.0, seq),
        Kind::Icmp(8 | 128) => {
            let echo = &header[len..];
            (u16::from_be_bytes([echo[4], echo[5]]), u32::from_be_bytes(echo[8..12].try_into().unwrap()))
        }
        _ => return None,
    };
    Some(Probe { to: packet.to.to_string(), port, number, dscp, label })
}

/// Runs of numbers that follow each other.
fn runs(mut numbers: Vec<u32>) -> usize {
    numbers.sort_unstable();
    let breaks = numbers.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    let wraps = numbers.first() == Some(&0) && numbers.last() == Some(&u32::MAX);
    breaks + 1 - usize::from(wraps)
}

fn hangups_under_load_lose_nothing(method: &str, by: &[&str], prepare: impl Fn(&TwoHosts)) {
    for io in IOS {
        let run = Run::new();
        prepare(&run.hosts);
        run.write(&VARIANTS[0].text(method));
        let frames = Frames::start(&run.hosts.prober);
        let collector = run.collector(by, io);
        run.wait_for_more(2);
        for (hangups, variant) in (1..).zip(&VARIANTS[1..]) {
            run.write(&variant.text(method));
            collector.signal(Signal::SIGHUP);
            collector.wait_for_nth("reloaded: ", hangups);
            run.wait_for_more(3);
        }
        let ports = |summary: &Value| -> BTreeSet<u16> {
            let flows = summary["worst_flows"].as_array().unwrap();
            let source = |flow: &Value| flow["source"].as_str().unwrap().parse::<SocketAddr>().unwrap().port();
            flows.iter().map(source).collect()
        };
        let end = Instant::now() + PATIENCE;
        let (first, last) = loop {
            let summaries = run.summaries();
            let (first, last) = (&summaries[0], &summaries[summaries.len() - 1]);
            if last["flows"] == 6 {
                break (ports(first), ports(last));
            }
            assert!(Instant::now() < end, "{io}: no summary of the last configuration: {last}");
            std::thread::sleep(Duration::from_millis(10));
        };
        if method == "tcp-syn" {
            for port in &last {
                assert_eq!(run.bind(*port).expect_err("held").kind(), std::io::ErrorKind::AddrInUse, "{io}: {port}");
            }
            for port in first.difference(&last) {
                while run.bind(*port).is_err() {
                    assert!(Instant::now() < end, "{io}: {port} is still held");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        let finished = collector.terminate().success();
        let packets = frames.stop();

        // two ports of the system's choice, and the fixed ones, are there from the first to the last probe
        assert_eq!((first.len(), last.len()), (6, 6), "{io}: {first:?} {last:?}");
        let narrow: Vec<BTreeSet<u16>> =
            run.summaries().iter().filter(|summary| summary["flows"] == 4).map(ports).collect();
        assert!(narrow.len() > 3 && narrow[0].contains(&FIXED) && narrow[0].contains(&(FIXED + 1)), "{io}: {narrow:?}");
        for ports in &narrow {
            assert!(ports == &narrow[0] && ports.is_subset(&first) && ports.is_subset(&last), "{io}: {narrow:?}");
        }
        let probes: Vec<Probe> = packets.iter().filter_map(probe).collect();
        let mut of_port: BTreeMap<u16, usize> = BTreeMap::new();
        probes.iter().for_each(|probe| *of_port.entry(probe.port).or_default() += 1);
        let of_first = of_port.iter().filter(|(port, _)| first.contains(port));
        assert_eq!(of_first.count(), 6, "{io}: {of_port:?}");

        let summaries = run.summaries();
        let sum = |key: &str| summaries.iter().map(|summary| summary[key].as_u64().unwrap()).sum::<u64>();
        let all = &finished.stderr;
        assert_eq!((sum("sent"), sum("lost"), sum("send_failed")), (sum("replied"), 0, 0), "{io}: {all}");
        assert_eq!((sum("late"), sum("duplicates"), sum("local_drops")), (0, 0, 0), "{io}: {all}");
        assert_eq!((sum("stamps_missing"), sum("sent")), (0, probes.len() as u64), "{io}: {all}");
        if method == "tcp-syn" {
            assert_eq!(sum("resets"), sum("replied"), "{io}");
        }
        assert_eq!((sum("dscp_changed_either"), sum("corrupted")), (0, 0), "{io}: {all}");
        for (to, dscp) in [(ALL[0], 0), (ALL[0], 46), (ALL[1], 0), (ALL[2], 0)] {
            let of_path = summaries.iter().filter(|summary| summary["dst_ip"] == to && summary["dscp"] == dscp);
            let counted: u64 = of_path.map(|summary| summary["sent"].as_u64().unwrap()).sum();
            let seen = probes.iter().filter(|probe| probe.to == to && probe.dscp == dscp).count();
            assert!(seen > 50, "{io}: {seen} to {to} of class {dscp}");
            assert_eq!(counted, seen as u64, "{io}: to {to} of class {dscp}");
        }
        let is_fixed = |probe: &&Probe| (FIXED..FIXED + 2).contains(&probe.port);
        let labels = |probes: &mut dyn Iterator<Item = &Probe>| -> (usize, usize) {
            let labels: Vec<u32> = probes.filter_map(|probe| probe.label).collect();
            let none = labels.iter().filter(|label| **label == 0).count();
            (none, labels.len() - none)
        };
        let fixed = labels(&mut probes.iter().filter(is_fixed));
        let chosen = labels(&mut probes.iter().filter(|probe| !is_fixed(probe)));
        assert!(fixed.0 == 0 && fixed.1 > 50 && chosen.0 > 50 && chosen.1 > 50, "{io}: {fixed:?} {chosen:?}");
        // series of numbers that neither skip nor repeat
        assert!(runs(probes.iter().map(|probe| probe.number).collect()) <= SERIES, "{io}");
        for words in ["nobody asked for", "that were no reply", "refused by the kernel"] {
            assert!(!all.contains(words), "{io}: {all}");
        }
    }
}

#[test]
fn hangups_under_load_lose_no_syn() {
    hangups_under_load_lose_nothing("tcp-syn", &[], |_| {});
}

#[test]
fn hangups_under_load_lose_no_echo() {
    hangups_under_load_lose_nothing("icmp", &[], |_| {});
}

#[test]
fn hangups_under_load_lose_no_echo_over_ping_sockets() {
    let nobody =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
    hangups_under_load_lose_nothing("icmp", &nobody, |hosts| {
        hosts.prober.sysctl("ipv4/ping_group_range", "\"0 2147483647\"");
    });
}

#[test]
fn a_port_goes_from_one_protocol_to_another() {
    let run = Run::new();
    let text = |method: &str| Variant { chosen: 1, timeouts: (300, 300), ..USUAL }.text(method);
    run.write(&text("tcp-syn"));
    let collector = run.collector(&[], "uring");
    run.wait_for_more(2);
    for (hangups, method) in (1..).zip(["icmp", "tcp-syn", "icmp"]) {
        run.write(&text(method));
        collector.signal(Signal::SIGHUP);
        let said = collector.wait_for_nth("reloaded: ", hangups);
        assert!(said.contains(" 0 flows kept"), "other flows: {said}");
        run.wait_for_more(3);
    }
    let finished = collector.terminate().success();
    for summary in run.summaries() {
        assert_eq!(summary["sent"], summary["replied"], "{summary:#}\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("nobody asked for"), "{}", finished.stderr);
}
