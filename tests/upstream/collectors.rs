//! Upstream's collectors ask, our reflector answers.

use super::common::netns::Namespace;
use super::common::nft::{Count, Hook};
use super::common::process::{ANSWERING, Process, llama_in};
use super::common::thread::spawn_in;
use super::common::topology::TwoHosts;
use super::{Generation, GoProbe, class, set_tos, socket, total, with_port};
use prost::Message;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const PROBES: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(20);

fn reflector(host: &Namespace, flags: &[&str]) -> Process {
    let reflector = llama_in(host, &[&["reflector"], flags].concat());
    reflector.wait_for(ANSWERING);
    reflector
}

/// SplitMix64, for signatures that are as random as upstream's.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn nanoseconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The probe that a generation's collector sends as number `number`.
fn probe(generation: Generation, tos: u8, number: u64, seed: &mut u64) -> Vec<u8> {
    match generation {
        Generation::Go => {
            let signature = [random(seed).to_be_bytes(), random(seed).to_be_bytes()].concat()[..10].to_vec();
            let sent = nanoseconds();
            GoProbe { signature, tos: vec![tos], sent, padding: vec![0; 1000], ..GoProbe::default() }.encode_to_vec()
        }
        Generation::Python => {
            // `sent` is all that differs between its probes
            let sent = 1_700_000_000_000.0 + number as f64;
            [&b"__llama__\0"[..], &[tos], &sent.to_le_bytes(), &[0; 17]].concat()
        }
    }
}

/// Sends [`PROBES`] as a generation's collector does and takes what comes back: how many replies were their probe,
/// byte for byte, from where it went.
fn collect(generation: Generation, from: IpAddr, to: SocketAddr, tos: u8) -> u64 {
    let socket = socket(from, 0);
    set_tos(&socket, tos);
    let (mut seed, mut waiting) = (nanoseconds(), HashMap::new());
    let key = |probe: &[u8]| match generation {
        Generation::Go => GoProbe::decode(probe).unwrap().signature,
        Generation::Python => probe[11..19].to_vec(),
    };
    let (mut replied, mut buffer) = (0, [0; 2048]);
    let deadline = Instant::now() + PATIENCE;
    for number in 0..PROBES {
        let probe = probe(generation, tos, number, &mut seed);
        socket.send_to(&probe, to).unwrap();
        waiting.insert(key(&probe), probe);
        // at most ten on the way: none is lost for want of room
        while waiting.len() > if number + 1 < PROBES { 10 } else { 0 } && Instant::now() < deadline {
            let Ok((length, by)) = socket.recv_from(&mut buffer) else { continue };
            assert_eq!(by, to, "a reply comes from where the probe went");
            let asked = waiting.remove(&key(&buffer[..length]));
            assert_eq!(asked.as_deref(), Some(&buffer[..length]), "a reply is the probe, once");
            replied += 1;
        }
    }
    replied
}

/// A generation's collector with two classes against our reflector.
fn it_is_answered(generation: Generation, from: IpAddr, to: IpAddr) {
    let hosts = TwoHosts::new();
    let port = generation.port();
    let reflector = reflector(&hosts.target, &["--listen", &format!("[::]:{port}")]);
    // with ECN bits, as somebody writes who takes `tos` for the code point: they do not come back
    for (tos, dscp) in [(46 << 2, 46), (0x29, 10), (0, 0)] {
        let all = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {port}"));
        let replies = Count::start(&hosts.prober, Hook::Input, &format!("udp sport {port} {}", class(from, dscp)));
        let to = SocketAddr::new(to, port);
        let replied = spawn_in(&hosts.prober, None, move || collect(generation, from, to, tos)).join().unwrap();
        assert_eq!((replied, all.packets(), replies.packets()), (PROBES, PROBES, PROBES), "tos {tos}");
    }
    let end = reflector.terminate().success();
    let by_format = ["replied stamp", "replied llama", "replied llama python"].map(|name| total(&end, name));
    let expected = if generation == Generation::Go { [0, 3 * PROBES, 0] } else { [0, 0, 3 * PROBES] };
    assert_eq!(by_format, expected, "{}", end.stdout);
    assert_eq!(total(&end, "dropped"), 0, "{}", end.stdout);
}

#[test]
fn the_go_collector_is_answered_ipv4() {
    it_is_answered(Generation::Go, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4);
}

#[test]
fn the_go_collector_is_answered_ipv6() {
    it_is_answered(Generation::Go, TwoHosts::PROBER_V6, TwoHosts::TARGET_V6);
}

#[test]
fn the_python_collector_is_answered_ipv4() {
    it_is_answered(Generation::Python, TwoHosts::PROBER_V4, TwoHosts::TARGET_V4);
}

#[test]
fn the_python_collector_is_answered_ipv6() {
    it_is_answered(Generation::Python, TwoHosts::PROBER_V6, TwoHosts::TARGET_V6);
}

#[test]
fn all_three_are_answered_on_one_port_at_once() {
    let hosts = TwoHosts::new();
    let reflector = reflector(&hosts.target, &["--stateful"]);
    let to = SocketAddr::new(TwoHosts::TARGET_V4, 8100);
    let old = [Generation::Go, Generation::Python, Generation::Go]
        .map(|generation| spawn_in(&hosts.prober, None, move || collect(generation, TwoHosts::PROBER_V4, to, 0x28)));
    let target = TwoHosts::TARGET_V4.to_string();
    let ping = llama_in(&hosts.prober, &["ping", &target, "--json", "--count", "500", "--rate", "500"]);
    let ping = ping.finish_within(PATIENCE).success().json();
    assert_eq!((ping["replied"].as_u64(), ping["lost"].as_u64()), (Some(500), Some(0)), "{ping:#}");
    assert!(old.into_iter().all(|collector| collector.join().unwrap() == PROBES));
    let end = reflector.terminate().success();
    let numbers = ["replied stamp", "replied llama", "replied llama python", "answered", "received"];
    let expected = [500, 2 * PROBES, PROBES, 500 + 3 * PROBES, 500 + 3 * PROBES];
    assert_eq!(numbers.map(|name| total(&end, name)), expected, "{}", end.stdout);
}

/// Packets that are nearly probes, and the reason by which each is dropped.
fn nearly_probes() -> Vec<(&'static str, Vec<u8>)> {
    let mut seed = 1;
    let go = probe(Generation::Go, 0x28, 0, &mut seed);
    let python = probe(Generation::Python, 0x28, 0, &mut seed);
    let without = |change: fn(&mut GoProbe)| {
        let mut probe = GoProbe::decode(&go[..]).unwrap();
        change(&mut probe);
        probe.encode_to_vec()
    };
    vec![
        ("empty tos", without(|probe| probe.tos.clear())),
        ("empty tos", [&go[..12], &[0x12, 0], &go[15..]].concat()),
        ("field past end", go[..go.len() - 1].to_vec()),
        ("field past end", [&go[..25], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
        ("field past end", [&go[..25], &[0x3a], &[0xff; 9][..], &[1]].concat()),
        ("long varint", [&go[..15], &[0x18], &[0xff; 11][..]].concat()),
        ("long varint", [&go[..15], &[0x18], &[0x80; 40][..]].concat()),
        ("malformed field", [&go[..], &[0x47]].concat()),
        ("malformed field", [&go[..], &[0x44]].concat()),
        ("wrong signature", without(|probe| probe.signature.truncate(9))),
        ("wrong signature", without(|probe| probe.signature.push(0))),
        ("wrong size", python[..35].to_vec()),
        ("wrong size", [&python[..], &[1]].concat()),
        ("too short", python[1..].to_vec()),
        ("too short", Vec::new()),
        ("unrecognised", vec![b'x'; 100]),
    ]
}

#[test]
fn what_ended_the_old_reflector_is_dropped_and_counted_by_ours() {
    let hosts = TwoHosts::new();
    let reflector = reflector(&hosts.target, &["--cores", "0"]);
    let to = SocketAddr::new(TwoHosts::TARGET_V6, 8100);
    let replied = spawn_in(&hosts.prober, None, move || {
        let socket = socket(TwoHosts::PROBER_V6, 0);
        for (_, bytes) in nearly_probes() {
            socket.send_to(&bytes, to).unwrap();
        }
        // what is answered after them shows that all have been read: one worker, one socket, one queue
        let replied = collect(Generation::Go, TwoHosts::PROBER_V6, to, 0x28);
        assert!(socket.recv_from(&mut [0; 2048]).is_err(), "none of them is answered");
        replied
    });
    assert_eq!(replied.join().unwrap(), PROBES, "it lives on");
    let end = reflector.terminate().success();
    let mut expected: HashMap<&str, u64> = HashMap::new();
    for (reason, _) in nearly_probes() {
        *expected.entry(reason).or_default() += 1;
    }
    for (reason, count) in expected {
        assert_eq!(total(&end, reason), count, "{reason}: {}", end.stdout);
    }
    assert_eq!(total(&end, "dropped"), nearly_probes().len() as u64, "{}", end.stdout);
    assert_eq!(total(&end, "answered"), PROBES, "{}", end.stdout);
}

#[test]
fn a_reflector_with_a_key_answers_no_old_collector_and_none_answers_another_reflector() {
    let hosts = TwoHosts::new();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "one-key-for-both-ends-of-a-test!").unwrap();
    let keyed = with_port(TwoHosts::TARGET_V4, 8101);
    let with_key = ["--key-file", key.path().to_str().unwrap()];
    let keyed = reflector(&hosts.target, &[&["--cores", "0", "--listen", &keyed], &with_key[..]].concat());
    let open = reflector(&hosts.target, &["--cores", "0", "--listen", &with_port(TwoHosts::TARGET_V4, 8102)]);
    let pairs = [(8101, 0), (8102, 8100), (8102, 60_000), (8102, 8102)];
    spawn_in(&hosts.prober, None, move || {
        for (to, from) in pairs {
            let socket = socket(TwoHosts::PROBER_V4, from);
            for generation in [Generation::Go, Generation::Python] {
                let probe = probe(generation, 0, 0, &mut 7);
                socket.send_to(&probe, SocketAddr::new(TwoHosts::TARGET_V4, to)).unwrap();
            }
            assert!(socket.recv_from(&mut [0; 2048]).is_err(), "from {from} to {to}");
        }
    })
    .join()
    .unwrap();
    // what is answered after them shows that all have been read
    for (port, flags) in [(8101, &with_key[..]), (8102, &[])] {
        let target = with_port(TwoHosts::TARGET_V4, port);
        let ping = llama_in(&hosts.prober, &[&["ping", &target, "--count", "1"], flags].concat());
        ping.finish_within(PATIENCE).success();
    }
    let end = keyed.terminate().success();
    assert_eq!((total(&end, "not authenticated"), total(&end, "answered")), (2, 1), "{}", end.stdout);
    let end = open.terminate().success();
    assert_eq!((total(&end, "other reflector"), total(&end, "answered")), (6, 1), "{}", end.stdout);
}
