//! A collector's file read again, on SIGHUP or when asked, and what is said about it.

use super::allow_sockets;
use crate::cli::exit::Failure;
use crate::cli::http::{self, Shown};
use crate::cli::units::several;
use crate::collector::demand::Demand;
use crate::collector::metrics::ReloadResult;
use crate::collector::reload::{ReloadError, Reloaded, Reloader};
use crate::config::diff::api_needs_restart;
use crate::config::{self, ConfigError, Loaded, Plan};
use crate::http::api::{Refused, Reload};
use crate::time::{Clock, SystemClock};
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
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
}

/// What is reloaded, and who shows it.
struct Running {
    reloader: Reloader,
    shown: Option<Shown>,
}

/// Reads a collector's configuration again and puts the collector under it, whoever asks for it.
pub struct Reloading {
    origin: Origin,
    /// Where the API is served as the configuration asked; `None` when a flag said where.
    served: Option<Option<SocketAddr>>,
    /// Set once the collector runs.
    running: OnceLock<Running>,
}

impl Reloading {
    /// For a collector that is yet to start; `served` is where its plan asks for the API, unless a flag says where.
    pub fn new(origin: Origin, served: Option<Option<SocketAddr>>) -> Reloading {
        Reloading { origin, served, running: OnceLock::new() }
    }

    /// What a client of the API calls.
    pub fn for_clients(self: &Arc<Self>) -> Reload {
        let reloading = Arc::clone(self);
        Arc::new(move || {
            let running =
                reloading.running.get().ok_or_else(|| Refused::Busy("the collector is just starting".into()))?;
            let reloaded = reloading.reload(running)?;
            serde_json::to_value(&reloaded).map_err(|error| Refused::Busy(error.to_string()))
        })
    }

    /// Reloads; returns when the plan is in effect or refused, and says which in the log and the metrics.
    fn reload(&self, running: &Running) -> Result<Reloaded, Refused> {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let result = self.load_and_apply(&running.reloader);
        let counted = match &result {
            Ok(reloaded) => {
                tracing::info!("{}", said(reloaded));
                for what in &reloaded.needs_restart {
                    tracing::warn!("needs a restart: {what}");
                }
                if reloaded.changed { ReloadResult::Applied } else { ReloadResult::Unchanged }
            }
            Err(Refused::Configuration(error) | Refused::Busy(error)) => {
                tracing::error!("not reloaded, the plan before goes on: {error}");
                ReloadResult::Refused
            }
        };
        if let Some(shown) = &running.shown {
            shown.plan.set(running.reloader.plan());
            shown.metrics.reloads.count(counted, SystemClock.wall());
        }
        notify(&[NotifyState::Ready]);
        result
    }

    fn load_and_apply(&self, reloader: &Reloader) -> Result<Reloaded, Refused> {
        let loaded = self.origin.load().map_err(|error| Refused::Configuration(error.to_string()))?;
        for warning in &loaded.warnings.list {
            tracing::warn!("{warning}");
        }
        // those of the plan before stay open until their last probe is decided
        let workers = reloader.workers().len();
        let sockets = |plan: &Plan| Demand::most_sockets(plan, workers);
        allow_sockets(sockets(&reloader.plan()) + sockets(&loaded.plan) + http::connections()).map_err(|failure| {
            match failure {
                Failure::Usage(error) | Failure::Run(error) => Refused::Configuration(format!("{error:#}")),
            }
        })?;
        let api = self.served.and_then(|served| api_needs_restart(served, &loaded.plan));
        let mut reloaded = reloader.reload(&Arc::new(loaded.plan)).map_err(|error| match error {
            ReloadError::Unsettled | ReloadError::Silent | ReloadError::Ended => Refused::Busy(error.to_string()),
            _ => Refused::Configuration(error.to_string()),
        })?;
        reloaded.needs_restart.extend(api);
        Ok(reloaded)
    }
}

/// Reloads a collector whenever SIGHUP has come.
pub struct OnHangup {
    reloading: Arc<Reloading>,
    hangups: Arc<AtomicU64>,
    /// Those that were heeded.
    heeded: u64,
    /// A reload on its way: it may wait for a name server.
    under_way: Option<JoinHandle<()>>,
}

impl OnHangup {
    /// For hangups counted from now on.
    pub fn new(reloading: Arc<Reloading>, hangups: Arc<AtomicU64>) -> OnHangup {
        OnHangup { reloading, hangups, heeded: 0, under_way: None }
    }

    /// Tells it what to reload, and what shows it.
    pub fn running(&self, reloader: &Reloader, shown: Option<Shown>) {
        let _ = self.reloading.running.set(Running { reloader: reloader.clone(), shown });
    }

    /// Starts a reload when one is asked for and none is on its way; those that are asked for meanwhile are one.
    pub fn look(&mut self) {
        if self.under_way.as_ref().is_some_and(|reload| !reload.is_finished()) {
            return;
        }
        let asked = self.hangups.load(Ordering::Relaxed);
        if asked == self.heeded {
            return;
        }
        self.heeded = asked;
        let reloading = Arc::clone(&self.reloading);
        let thread = std::thread::Builder::new().name("llama-reload".into()).spawn(move || {
            if let Some(running) = reloading.running.get() {
                let _ = reloading.reload(running); // it has said how it ended
            }
        });
        match thread {
            Ok(thread) => self.under_way = Some(thread),
            Err(error) => tracing::error!("not reloaded, the plan before goes on: no thread: {error}"),
        }
    }
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
