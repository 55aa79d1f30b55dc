//! `llama demo`: reflectors and a collector on this machine's loopback.

use super::LOOK;
use super::collector::{Outlets, Show, run};
use super::history::{self, Role};
use crate::cli::args::{DemoArgs, LogArgs};
use crate::cli::exit::Ended;
use crate::cli::{http, signals};
use crate::collector::Options;
use crate::config::System;
use crate::config::plan::{Single, Target};
use crate::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use crate::reflector::{self, serve};
use crate::sink::{Limits, Sinks};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Groups of targets, and the racks in each; each rack has one target, a loopback address of its own.
const GROUPS: [(&str, &[u8]); 3] = [("frankfurt", &[11, 12]), ("london", &[21, 22]), ("paris", &[31, 32])];
/// Source ports: flows per target.
const SOURCE_PORTS: u32 = 8;
/// Where the matrix is served unless asked for elsewhere: on this machine only.
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const LOSS_THRESHOLD: Duration = Duration::from_millis(500);

/// Stops the reflectors however the demo ends.
struct Reflectors {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Reflectors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs the demo until a signal or `--duration`.
///
/// # Errors
/// As the reflector and the collector.
pub fn demo(args: &DemoArgs, log: &LogArgs) -> Ended {
    let stop = signals::stop_flag()?; // before any thread is started: they inherit the blocked signals
    let addresses: Vec<IpAddr> = GROUPS
        .iter()
        .flat_map(|(_, hosts)| hosts.iter().map(|host| IpAddr::V4(Ipv4Addr::new(127, 0, 0, *host))))
        .collect();
    let (_reflectors, listening) = start_reflectors(&addresses, args)?;
    let mut targets = Vec::new();
    let mut listening = listening.into_iter();
    for (group, hosts) in GROUPS {
        for (rack, address) in hosts.iter().zip(listening.by_ref()) {
            let tags = BTreeMap::from([("rack".to_string(), rack.to_string())]);
            targets.push(Target { host: address.ip().to_string(), address, group: group.into(), tags: Arc::new(tags) });
        }
    }
    let flows = targets.len() as f64 * f64::from(SOURCE_PORTS);
    let single = Single {
        targets,
        source_ports: SOURCE_PORTS,
        cycles_per_second: args.rate / flows,
        pacing: Pacing::Periodic,
        shape: Shape {
            port_name: String::new(),
            method: MethodKind::Udp,
            dscp: Dscp(0),
            size: 64,
            stamps: StampPolicy::Auto,
            key: None,
        },
        bind: None,
        loss_threshold: LOSS_THRESHOLD.min(args.interval),
        interval: args.interval,
    };
    let (plan, _) = single.plan(&System)?;
    let options = Options { io: args.io, duration: args.duration, ..Options::default() };
    let mut sinks = Sinks::new();
    if args.json {
        sinks.add_json_lines(Path::new("-"), Limits::default())?;
    }
    let show = match (args.json || log.quiet, std::io::IsTerminal::is_terminal(&std::io::stdout())) {
        (true, _) => Show::Nothing,
        (false, true) => Show::Table,
        (false, false) => Show::Lines,
    };
    let history = history::open(&args.history, Role::Demo)?;
    let (bind, any_port) = (args.api.unwrap_or(API), args.api.is_none());
    let api = http::Options { bind, any_port, reload: None, remote_reload: false };
    run(&Arc::new(plan), &options, Outlets { sinks, history, show }, Some(&api), None, &stop)
}

/// One reflector process's worth of listeners, on ports that the system chooses.
fn start_reflectors(addresses: &[IpAddr], args: &DemoArgs) -> anyhow::Result<(Reflectors, Vec<SocketAddr>)> {
    let options = reflector::Options {
        listen: addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect(),
        stateful: true,
        sessions: 1024,
        io: args.io,
        ..reflector::Options::default()
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (out, started) = mpsc::channel();
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let listening = out.clone();
            let served = serve::serve(&options, &stop, |running, _| {
                let _ = listening.send(Ok(running.addresses));
            });
            if let Err(error) = served {
                let _ = out.send(Err(error));
            }
        }
    });
    let reflectors = Reflectors { stop, thread: Some(thread) };
    match started.recv_timeout(100 * LOOK) {
        Ok(Ok(listening)) => Ok((reflectors, listening)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(anyhow!("the reflectors did not start within {:?}", 100 * LOOK)),
    }
}
