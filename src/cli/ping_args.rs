//! Flags of `llama ping`. Read [`PingArgs`].

#![allow(rustdoc::broken_intra_doc_links)] // these texts are shown as help: [ADDR]:PORT is an address there

use super::values::{self, CoreList, DEFAULT_PORT, Destination};
use crate::config::keys::MAX_SIZES;
use crate::net::FlowLabels;
use crate::net::features::IoChoice;
use crate::probe::shape::{Dscp, MethodKind, Sizes, StampPolicy, Verify, report_len};
use crate::wire::REFLECTOR_PORTS;
use crate::wire::llama::python;
use clap::{Args, ValueHint};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Probes sent by `llama ping` when neither `--count` nor `--duration` is given.
pub const PING_COUNT: u64 = 1000;

/// `llama ping`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  llama ping 192.0.2.7
      1000 probes over 16 flows in 5 seconds; a path of one flow that loses 8 % is seen with 99 % certainty
  llama ping web1:862 --count 10000 --rate 2000 --source-ports 115
      Crosses every one of 16 equal paths with 99 % certainty
  llama ping 192.0.2.7 --source-port 40003 --source-ports 1 --duration 1m
      One flow that lost, again
  llama ping 192.0.2.7 --method llama
      The reflector there is of the older LLAMA
  llama ping 2001:db8::7 --dscp EF --size 1400 --json > result.json
      A class of service with large probes, for a script
  llama ping 192.0.2.7 --dscp 0,AF21,EF --size 64,1400
      Three classes and two sizes side by side, and whether each class arrives as it was sent
  llama ping --tcp router1:179
      No agent there: SYNs, answered by a SYN-ACK or a RST; needs CAP_NET_RAW (scripts/grant-caps)
  llama ping --icmp fe80::1%eth0
      No agent there: echo requests, over raw sockets or, without the privilege, ping sockets

The other end runs `llama reflector`, or any STAMP (RFC 8762) or TWAMP Light reflector: port 862 then. With --tcp
and --icmp it is any host.
Exit status: 0 when a reply came, 1 when none did, 2 when the command line is wrong or nothing could be measured.")]
pub struct PingArgs {
    /// Address or name of the reflector, with --tcp and --icmp of any host; [ADDR]:PORT for IPv6 with a port; PORT is 8100 when left out (60000 with
    /// --method llama-python, 0 with --tcp)
    #[arg(value_name = "TARGET[:PORT]", value_hint = ValueHint::Hostname)]
    pub target: Destination,
    /// Probes to send in all, over all flows [default: 1000]
    #[arg(long, short = 'n', value_name = "N", value_parser = values::count, conflicts_with = "duration")]
    pub count: Option<u64>,
    /// How long to send, instead of --count: 10s, 5m, 1h
    #[arg(long, short, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,
    /// Probes per second in all, evenly spread; 0.01 to 10000000
    #[arg(long, short, value_name = "PER_SECOND", value_parser = values::rate, default_value = "200")]
    pub rate: f64,
    /// Flows: source ports to send from, 1 to 60000; more of them cross more equal-cost paths
    #[arg(long, short = 'p', value_name = "N", value_parser = values::source_ports, default_value = "16")]
    pub source_ports: u32,
    /// First source port, the others follow; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value = "0")]
    pub source_port: u16,
    /// Source address [default: what the routing table says]
    #[arg(long, value_name = "ADDR")]
    pub source: Option<IpAddr>,
    /// Class of the probes and of their replies: name (EF, AF41, CS6, LE) or code point 0 to 63; several are measured
    /// side by side
    #[arg(long, value_name = "CLASS[,…]", value_parser = values::dscp, default_value = "0", value_delimiter = ',')]
    pub dscp: Vec<Dscp>,
    /// Ask the reflector which class reached it: on, off, or auto, where there is room
    #[arg(long, value_name = "WHEN", value_parser = values::verify(), default_value = "auto")]
    pub verify_dscp: Verify,
    /// IPv6 flow labels: per-flow, made from port and target, or zero
    #[arg(long, value_name = "HOW", value_parser = values::flow_labels(), default_value = "per-flow")]
    pub flow_label: FlowLabels,
    /// How a probe asks; llama and llama-python are for reflectors of the older LLAMA, written in Go and in Python
    #[arg(long, value_name = "METHOD", value_parser = values::method(), default_value = "udp")]
    pub method: MethodKind,
    /// Send TCP SYNs, as --method tcp-syn: any host answers, by a SYN-ACK or a RST
    #[arg(long, conflicts_with_all = ["icmp", "method"])]
    pub tcp: bool,
    /// Send ICMP echo requests, as --method icmp
    #[arg(long, conflicts_with = "method")]
    pub icmp: bool,
    /// SYNs per second to the target at most, with --tcp; its table of half-open connections is small
    #[arg(long, value_name = "PER_SECOND", value_parser = values::syn_limit, default_value = "1000")]
    pub syn_limit: u32,
    /// Payload of a probe in bytes, 44 to 9000 (from 112 with --key-file, from 27 with --method llama, from 8 with
    /// --icmp); several are measured side by side; never sent in fragments [default: as short as possible, 1028 with
    /// --method llama, 56 with --icmp]
    #[arg(long, short, value_name = "BYTES[,…]", value_parser = values::size, value_delimiter = ',')]
    pub size: Vec<u16>,
    /// Loss threshold: a probe without a reply for so long is lost; 1ms to 60s
    #[arg(long, short, value_name = "TIME", value_parser = values::loss_threshold, default_value = "1s")]
    pub timeout: Duration,
    /// Probes that get a kernel transmit timestamp: all, auto, off, or N for one in N
    #[arg(long, value_name = "WHICH", value_parser = values::stamp_policy, default_value = "auto")]
    pub tx_timestamps: StampPolicy,
    /// Authenticated STAMP: file with the shared key (HMAC-SHA-256)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// Use IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Write every round trip to this file, as CSV
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub samples: Option<PathBuf>,
    /// Print one JSON object instead of the report; times are in milliseconds
    #[arg(long)]
    pub json: bool,
    /// How datagrams go in and out
    #[arg(long, value_name = "HOW", value_parser = values::io(), default_value = "auto")]
    pub io: IoChoice,
    /// CPU to run on [default: the system chooses]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<CoreList>,
}

impl PingArgs {
    /// Probes to send in all: `--count`, or as many as the rate gives in `--duration`, at least 1.
    pub fn probes(&self) -> u64 {
        match (self.count, self.duration) {
            (Some(count), _) => count,
            (None, Some(duration)) => ((duration.as_secs_f64() * self.rate).round() as u64).max(1),
            (None, None) => PING_COUNT,
        }
    }

    /// How long sending takes.
    pub fn sending_time(&self) -> Duration {
        Duration::try_from_secs_f64(self.probes() as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// How a probe asks.
    pub fn method(&self) -> MethodKind {
        match (self.tcp, self.icmp) {
            (true, _) => MethodKind::TcpSyn,
            (_, true) => MethodKind::Icmp,
            _ => self.method,
        }
    }

    /// Payloads of probes, bytes; at least one.
    pub fn payloads(&self) -> Vec<u16> {
        if !self.size.is_empty() {
            return self.size.clone();
        }
        vec![self.verify_dscp.usual_size(self.method(), self.key_file.is_some(), &self.dscp)]
    }

    fn sizes(&self) -> Sizes {
        self.method().sizes(self.key_file.is_some())
    }

    /// The target's port; 0 with ICMP.
    pub fn port(&self) -> u16 {
        self.target.port.unwrap_or(match self.method() {
            MethodKind::Udp | MethodKind::Llama => values::DEFAULT_PORT,
            MethodKind::LlamaPython => python::DEFAULT_PORT,
            MethodKind::TcpSyn | MethodKind::Icmp => 0,
        })
    }

    /// What one flag alone cannot tell.
    pub(super) fn check(&self) -> Result<(), String> {
        let last = u32::from(self.source_port) + self.source_ports - 1;
        if self.source_port != 0 && last > 65_535 {
            return Err(format!(
                "--source-ports: {} ports from {} end at {last}, ports end at 65535; lower --source-port or --source-ports",
                self.source_ports, self.source_port
            ));
        }
        self.check_method()?;
        let ports = u32::from(self.source_port)..=last;
        if self.source_port != 0
            && self.method().is_udp()
            && let Some(port) = REFLECTOR_PORTS.iter().find(|port| ports.contains(&u32::from(**port)))
        {
            return Err(format!(
                "--source-port: {port} is a port of reflectors, which answer nothing that comes from there; leave out {REFLECTOR_PORTS:?}"
            ));
        }
        let method = self.method().name();
        if self.key_file.is_some() && self.method() != MethodKind::Udp {
            return Err(format!("--key-file: probes of method {method} cannot be authenticated; drop one of the two"));
        }
        self.check_lists()?;
        self.payloads().into_iter().try_for_each(|size| self.check_size(size))?;
        match self.source {
            Some(IpAddr::V4(ip)) if self.ipv6 => Err(format!("--source {ip} is IPv4, -6 asks for IPv6; drop one")),
            Some(IpAddr::V6(ip)) if self.ipv4 => Err(format!("--source {ip} is IPv6, -4 asks for IPv4; drop one")),
            _ => Ok(()),
        }
    }

    /// Classes and sizes, each once and not too many.
    fn check_lists(&self) -> Result<(), String> {
        let twice =
            |list: &[u16]| list.iter().enumerate().find(|(at, one)| list[..*at].contains(one)).map(|(_, one)| *one);
        let classes: Vec<u16> = self.dscp.iter().map(|class| class.0.into()).collect();
        if let Some(class) = twice(&classes) {
            return Err(format!("--dscp: class {class} is named twice; drop one"));
        }
        if let Some(size) = twice(&self.size) {
            return Err(format!("--size: {size} is named twice; drop one"));
        }
        if self.size.len() > MAX_SIZES {
            return Err(format!("--size: {} sizes asked, {MAX_SIZES} possible; name fewer", self.size.len()));
        }
        if self.verify_dscp == Verify::On && self.method() != MethodKind::Udp {
            let method = self.method().name();
            return Err(format!("--verify-dscp: probes of method {method} have no room for a report; drop it"));
        }
        Ok(())
    }

    fn check_size(&self, size: u16) -> Result<(), String> {
        let (method, Sizes { least, most, .. }) = (self.method().name(), self.sizes());
        let room = report_len(self.key_file.is_some());
        if self.verify_dscp == Verify::On && size < room {
            return Err(format!(
                "--size: {size} bytes asked, with --verify-dscp on a probe has {room} or more; raise it"
            ));
        }
        if self.key_file.is_some() && size < least {
            return Err(format!(
                "--size: {size} bytes asked, an authenticated probe (--key-file) has {least} or more; raise --size"
            ));
        }
        if !(least..=most).contains(&size) {
            return Err(match self.method() {
                MethodKind::TcpSyn => format!("--size: {size} bytes asked, a SYN has no payload; drop it"),
                MethodKind::LlamaPython => {
                    format!("--size: {size} bytes asked, one of method {method} has {most}; drop it")
                }
                _ => format!("--size: {size} bytes asked, {least} to {most} possible with method {method}; change it"),
            });
        }
        Ok(())
    }

    /// Port and rate, as the method has them.
    fn check_method(&self) -> Result<(), String> {
        match (self.method(), self.target.port) {
            (MethodKind::Icmp, Some(port)) => Err(format!("TARGET: ICMP has no ports; leave out :{port}")),
            (method, Some(0)) if method != MethodKind::TcpSyn => {
                Err(format!("TARGET: port 0 is none of UDP; write 1 to 65535, or leave it out for {DEFAULT_PORT}"))
            }
            (MethodKind::TcpSyn, _) if self.rate > f64::from(self.syn_limit) => Err(format!(
                "--rate: {} SYNs/s to one target asked, {} possible; lower it, or raise --syn-limit",
                self.rate, self.syn_limit
            )),
            _ => Ok(()),
        }
    }
}
