//! A collector's file read again, on SIGHUP or when asked, and what is said about it.

use super::allow_sockets;
use crate::cli::exit::Failure;
use crate::cli::units::several;
use crate::collector::reload::{Reloaded, Reloader};
use crate::config::{self, ConfigError, Loaded};
use anyhow::anyhow;
use sd_notify::NotifyState;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where a collector's plan comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configuration file; none: what counts without one.
    pub file: Option<PathBuf>,
    /// Destination port of the legacy form's targets.
    pub dst_port: u16,
}

impl Origin {
    /// Reads the plan.
    ///
    /// # Errors
    /// Every mistake in the file.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        match &self.file {
            Some(file) => config::load(file, self.dst_port, &config::System),
            None => config::without_file(&config::System),
        }
    }

    /// Reads the plan and puts a running collector under it; returns when it is in effect.
    ///
    /// # Errors
    /// What is wrong with the file, or what the collector or the kernel refused; the plan before goes on untouched.
    pub fn reload(&self, reloader: &Reloader) -> anyhow::Result<Reloaded> {
        let loaded = self.load()?;
        for warning in &loaded.warnings.list {
            tracing::warn!("{warning}");
        }
        // those of the plan before stay open until their last probe is decided
        allow_sockets(reloader.plan().sources.len() + loaded.plan.sources.len()).map_err(|failure| match failure {
            Failure::Usage(error) | Failure::Run(error) => error,
        })?;
        Ok(reloader.reload(&Arc::new(loaded.plan))?)
    }
}

/// Reloads a collector whenever SIGHUP has come.
#[derive(Debug)]
pub struct OnHangup {
    origin: Origin,
    hangups: Arc<AtomicU64>,
    /// Those that were heeded.
    heeded: u64,
    /// A reload on its way: it may wait for a name server.
    running: Option<JoinHandle<()>>,
}

impl OnHangup {
    /// For hangups counted from now on.
    pub fn new(origin: Origin, hangups: Arc<AtomicU64>) -> OnHangup {
        OnHangup { origin, hangups, heeded: 0, running: None }
    }

    /// Starts a reload when one is asked for and none is on its way; those that are asked for meanwhile are one.
    pub fn look(&mut self, reloader: &Reloader) {
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let asked = self.hangups.load(Ordering::Relaxed);
        if asked == self.heeded {
            return;
        }
        self.heeded = asked;
        let (origin, reloader) = (self.origin.clone(), reloader.clone());
        let thread = std::thread::Builder::new().name("llama-reload".into()).spawn(move || hang_up(&origin, &reloader));
        match thread {
            Ok(thread) => self.running = Some(thread),
            Err(error) => tracing::error!("not reloaded, the plan before goes on: no thread: {error}"),
        }
    }
}

fn hang_up(origin: &Origin, reloader: &Reloader) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match origin.reload(reloader) {
        Ok(reloaded) => {
            tracing::info!("{}", said(&reloaded));
            for what in &reloaded.needs_restart {
                tracing::warn!("needs a restart: {what}");
            }
        }
        Err(error) => tracing::error!("not reloaded, the plan before goes on: {:#}", anyhow!(error)),
    }
    notify(&[NotifyState::Ready]);
}

/// What a reload did, in a line.
fn said(reloaded: &Reloaded) -> String {
    if !reloaded.changed {
        return "reloaded: nothing has changed".to_owned();
    }
    let Reloaded { flows, sockets, first_interval, pause_ns, .. } = reloaded;
    format!(
        "reloaded: {} kept, {} added, {} removed; {} kept, {} added, {} removed; from interval {first_interval} on, {:?} without sending",
        several(flows.kept as u64, "flow"),
        flows.added,
        flows.removed,
        several(sockets.kept as u64, "socket"),
        sockets.added,
        sockets.removed,
        Duration::from_nanos(*pause_ns)
    )
}

/// Tells a service manager, if there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}
