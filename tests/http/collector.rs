//! A collector with an API, and what it probes.

use crate::client::{get, json, wait_for};
use crate::common::process::{ANSWERING, Process, llama};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

/// A collector process that serves its API on a port of the system's choice.
pub struct Collector {
    pub address: SocketAddr,
    pub process: Process,
    /// Its configuration.
    pub config: PathBuf,
    /// Where `--output` goes.
    pub output: PathBuf,
    _reflector: Option<Process>,
    _silent: Option<UdpSocket>,
    _directory: tempfile::TempDir,
}

/// Interval 1 s, loss threshold 100 ms, 20 cycles per second.
fn start(port: u16, source_ports: u32, reflector: Option<Process>, silent: Option<UdpSocket>) -> Collector {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("matrix.yaml");
    let output = directory.path().join("summaries.json");
    let text = format!(
        "summarization: {{interval: 1}}\n\
         ports: {{default: {{timeout: 100}}, voice: {{timeout: 100, dscp: EF}}}}\n\
         port_groups: {{default: [{{port: default, count: {source_ports}}}, {{port: voice, count: 2}}]}}\n\
         rate_limits: {{default: {{cps: 20}}}}\n\
         targets: {{default: [{{ip: 127.0.0.1, port: {port}, tags: {{rack: a1, note: '<b>&\"é\"'}}}}]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let arguments =
        ["collector", "--config", file.to_str().unwrap(), "--output", output.to_str().unwrap(), "--api", "127.0.0.1:0"];
    let process = llama(&arguments);
    let line = process.wait_for("API at http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    Collector { address, process, config: file, output, _reflector: reflector, _silent: silent, _directory: directory }
}

impl Collector {
    /// One that probes a reflector from this many source ports in class 0 and two in class 46.
    pub fn measuring(source_ports: u32) -> Collector {
        let reflector = llama(&["reflector", "--listen", "127.0.0.1:0"]);
        let line = reflector.wait_for(ANSWERING);
        let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
        let port = address.parse::<SocketAddr>().unwrap().port();
        start(port, source_ports, Some(reflector), None)
    }

    /// One that probes a socket which never answers.
    pub fn idle() -> Collector {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        start(silent.local_addr().unwrap().port(), 1, None, Some(silent))
    }

    /// Fails unless the API answers.
    pub fn check(&self, after: &str) {
        let answer = get(self.address, "/status");
        assert_eq!((answer.status, answer.text()), (200, "ok"), "after {after}");
    }

    /// A counter of the HTTP server.
    pub fn count(&self, name: &str) -> u64 {
        json(self.address, "/api/v1/health")["http"][name].as_u64().unwrap()
    }

    /// Waits for the summaries of an interval.
    pub fn wait_for_interval(&self) {
        wait_for("a summary", || {
            let summaries = json(self.address, "/api/v1/summaries");
            summaries["summaries"].as_array().is_some_and(|list| !list.is_empty()).then_some(())
        });
    }
}
