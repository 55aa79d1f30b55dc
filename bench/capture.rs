//! What went over the wire, as a capture on the interface saw it.
//!
//! Responsible for running `tcpdump` and reading its file: classic pcap with nanoseconds, Ethernet,
//! IPv4. Not responsible for what the packets mean. Read [`Capture`] first.
//!
//! Clock and place: with `-j host` the stamps are the kernel's, `CLOCK_REALTIME`, as are the prober's.
//! A packet that leaves is stamped where it is handed to the driver (`dev_queue_xmit_nit`), just before
//! the driver takes the transmit timestamp. Between the two the kernel copies the packet for the capture:
//! tcpdump is left to be woken per block, for a wake-up per packet (`--immediate-mode`) would come in
//! between as well, some 3 µs. A packet that comes in carries the one stamp that the
//! socket reports too. So a capture is independent of the prober, and on receive agrees to the nanosecond.

use crate::common::netns::Namespace;
use crate::common::process::{PATIENCE, Process};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes kept of a packet: the base of any probe.
const SNAP: &str = "192";

/// A running capture.
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

/// An IPv4 packet that was seen.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each bench uses its part of it")]
pub struct Seen {
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
    /// Source port, for UDP.
    pub source_port: u16,
    /// Destination port, for UDP.
    pub destination_port: u16,
    /// What follows the UDP or the (8 byte) ICMP header; may be cut short.
    pub payload: Vec<u8>,
    /// The first byte after the IP header: for ICMP its type.
    pub first: u8,
    /// All after the IP header; may be cut short.
    pub transport: Vec<u8>,
}

impl Capture {
    /// Starts to capture what fits `filter` on `device`; returns when it captures.
    pub fn start(namespace: &Namespace, device: &str, filter: &str) -> Capture {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("wire.pcap");
        let mut arguments = vec!["-n", "-i", device, "-j", "host", "--time-stamp-precision=nano", "-s", SNAP, "-U"];
        // root stays root: the file is written where only root may
        arguments.extend(["-B", "1024", "-Z", "root", "-w", file.to_str().unwrap()]);
        arguments.extend(filter.split_whitespace());
        let tcpdump = Process::spawn(namespace.command("tcpdump", &arguments));
        tcpdump.wait_for("listening on");
        Capture { tcpdump, file, _directory: directory }
    }

    /// Waits until `packets` were seen, at most [`PATIENCE`], ends the capture and gives what was seen in order.
    ///
    /// # Panics
    /// When the kernel dropped packets of the capture: it would prove nothing.
    pub fn stop(self, packets: usize) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        // what tcpdump has not read when it is told to end is lost to it
        while parse(&std::fs::read(&self.file).unwrap()).len() < packets && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let end = self.tcpdump.terminate().success();
        let said = end.stderr;
        assert!(said.contains("\n0 packets dropped by kernel"), "the capture is incomplete: {said}");
        parse(&std::fs::read(&self.file).unwrap())
    }
}

/// Reads a capture file, without an unfinished packet at its end; what is not IPv4 over Ethernet is left out.
fn parse(file: &[u8]) -> Vec<Seen> {
    if file.len() < 24 {
        return Vec::new();
    }
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(u32_at(0), 0xa1b2_3c4d, "not a little-endian pcap file with nanoseconds");
    assert_eq!(u32_at(20), 1, "not Ethernet");
    let mut seen = Vec::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        let at_ns = i64::from(u32_at(at)) * 1_000_000_000 + i64::from(u32_at(at + 4));
        let length = u32_at(at + 8) as usize;
        let Some(packet) = file.get(at + 16..at + 16 + length) else { break };
        at += 16 + length;
        if packet.len() < 42 || packet[12..14] != [0x08, 0x00] {
            continue;
        }
        let transport = &packet[14 + usize::from(packet[14] & 0x0f) * 4..];
        seen.push(Seen {
            at_ns,
            source_port: u16::from_be_bytes([transport[0], transport[1]]),
            destination_port: u16::from_be_bytes([transport[2], transport[3]]),
            payload: transport[8..].to_vec(),
            first: transport[0],
            transport: transport.to_vec(),
        });
    }
    seen
}
