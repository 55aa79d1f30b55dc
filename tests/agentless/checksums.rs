//! Checksums of every kind of packet that leaves, and of what answers it, by another implementation's reckoning.

use crate::common::frames::{Frames, Kind, Packet};
use crate::common::process::{ANSWERING, llama_in};
use crate::common::topology::TwoHosts;
use crate::privilege::{NONE, as_nobody};
use crate::{IOS, ping, report, with_port};
use std::net::IpAddr;

const SYN: (bool, bool, bool) = (true, false, false);
const RST: (bool, bool, bool) = (false, false, true);

fn every_checksum(prober: IpAddr, target: IpAddr, request: u8) {
    let hosts = TwoHosts::new();
    for host in [&hosts.prober, &hosts.target] {
        // else the kernel leaves them to the device, and this one computes none
        host.run("ethtool", &["-K", TwoHosts::DEVICE, "tx", "off"]);
    }
    hosts.prober.sysctl("ipv4/ping_group_range", "\"0 2147483647\"");
    let reflector = llama_in(&hosts.target, &["reflector"]);
    reflector.wait_for(ANSWERING);
    let listener = crate::tcp::listener(&hosts, target);
    let open = with_port(target, listener.local_addr().unwrap().port());
    let (alone, closed, udp) = (target.to_string(), with_port(target, 9), with_port(target, 8100));
    for io in IOS {
        let frames = Frames::start(&hosts.prober);
        let common = ["--count", "24", "--rate", "400", "--io", io];
        let sent = |method: &str, to: &str, more: &[&str]| {
            report(&ping(&hosts.prober, to, &[&common[..], &["--method", method], more].concat()).success());
        };
        sent("udp", &udp, &["--dscp", "0,EF", "--size", "52,53,1400"]);
        sent("llama", &udp, &[]);
        sent("llama-python", &udp, &[]);
        sent("tcp-syn", &open, &["--dscp", "0,EF"]);
        sent("tcp-syn", &closed, &[]);
        sent("icmp", &alone, &["--dscp", "0,EF", "--size", "8,57,1400"]);
        let over_ping_sockets = [&[&*alone, "--icmp", "--json"], &common[..]].concat();
        report(&as_nobody(&hosts.prober, NONE, &over_ping_sockets).success());
        let packets = frames.stop();
        // what the program tries on loopback stays there
        for packet in packets.iter().filter(|packet| !packet.to.is_loopback()) {
            assert!(packet.checksums_are_right(), "{io}: {packet:?}");
        }
        let number = |by: IpAddr, is: &dyn Fn(&Packet) -> bool| {
            packets.iter().filter(|packet| packet.from == by && is(packet)).count()
        };
        assert_eq!(number(prober, &|packet| matches!(packet.kind, Kind::Udp(_, 8100))), 3 * 24, "{io}");
        assert_eq!(number(target, &|packet| matches!(packet.kind, Kind::Udp(8100, _))), 3 * 24, "{io}");
        assert_eq!(number(prober, &|packet| matches!(packet.kind, Kind::Tcp { flags: SYN, .. })), 2 * 24, "{io}");
        // the kernel's, for each SYN-ACK
        assert_eq!(number(prober, &|packet| matches!(packet.kind, Kind::Tcp { flags: RST, .. })), 24, "{io}");
        assert_eq!(number(target, &|packet| matches!(packet.kind, Kind::Tcp { .. })), 2 * 24, "{io}");
        assert_eq!(number(prober, &|packet| packet.kind == Kind::Icmp(request)), 2 * 24, "{io}");
    }
}

#[test]
fn checksums_of_every_kind_of_packet_are_right() {
    every_checksum(TwoHosts::PROBER_V4, TwoHosts::TARGET_V4, 8);
}

#[test]
fn checksums_of_every_kind_of_packet_are_right_ipv6() {
    every_checksum(TwoHosts::PROBER_V6, TwoHosts::TARGET_V6, 128);
}
