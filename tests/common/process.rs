//! Processes of the `llama` binary and of its peers.

use super::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a process may take to get ready, and to stop.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Path of the `llama` binary that this test was built with.
pub const LLAMA: &str = env!("CARGO_BIN_EXE_llama");

/// What `llama reflector` says when it answers.
pub const ANSWERING: &str = "answering on";

/// A running process whose output is collected. Dropping it sends SIGTERM, then SIGKILL after [`PATIENCE`].
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

#[derive(Debug, Default)]
struct Output {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    stdout: String,
    stderr: String,
    open: u32,
}

impl Output {
    /// The text, also after a test panicked while it held it: clean-up goes on then.
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text after a change, or after `limit`.
    fn wait<'a>(&self, text: MutexGuard<'a, Text>, limit: Duration) -> MutexGuard<'a, Text> {
        self.changed.wait_timeout(text, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From the signal or the call until its end.
    pub took: Duration,
}

impl Finished {
    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// When it is not JSON, with all the process said.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON value: {error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// This, when the process ended with exit code 0.
    ///
    /// # Panics
    /// When it did not, with all the process said.
    pub fn success(self) -> Finished {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// `llama ARGUMENTS` in a namespace.
pub fn llama_in(namespace: &Namespace, arguments: &[&str]) -> Process {
    Process::spawn(namespace.command(LLAMA, arguments))
}

/// `llama ARGUMENTS` in this process' own namespace.
pub fn llama(arguments: &[&str]) -> Process {
    let mut command = Command::new(LLAMA);
    command.args(arguments);
    Process::spawn(command)
}

/// Turns the history off that roles keep by default, so that no test writes below `/var/lib` or a home.
pub fn without_history(command: &mut Command) {
    if !command.get_envs().any(|(name, _)| name == "LLAMA_HISTORY") {
        command.env("LLAMA_HISTORY", "none");
    }
}

impl Process {
    /// Starts `command` with its output collected, and without a history unless the command sets `LLAMA_HISTORY`.
    pub fn spawn(mut command: Command) -> Process {
        without_history(&mut command);
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        let readers = vec![
            collect(Arc::clone(&output), stdout, |text| &mut text.stdout),
            collect(Arc::clone(&output), stderr, |text| &mut text.stderr),
        ];
        Process { name, child, output, readers, status: None }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of either output contains `words`, and gives that line.
    ///
    /// # Panics
    /// When the process ends or [`PATIENCE`] runs out before, with all it said.
    pub fn wait_for(&self, words: &str) -> String {
        self.wait_for_nth(words, 1)
    }

    /// The same for the n-th such line of one output, counted from 1.
    ///
    /// # Panics
    /// As [`Process::wait_for`].
    pub fn wait_for_nth(&self, words: &str, n: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.output.lock();
        loop {
            // only whole lines: the end of an unfinished one may still be missing
            let whole = |all: &str| {
                let mut lines = all.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(words));
                lines.nth(n - 1).map(str::to_owned)
            };
            if let Some(line) = whole(&text.stdout).or_else(|| whole(&text.stderr)) {
                return line.trim_end().to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                text.open > 0 && !left.is_zero(),
                "{} never said {words:?} {n} times{}\nstdout: {}\nstderr: {}",
                self.name,
                if left.is_zero() { "" } else { " and has ended" },
                text.stdout,
                text.stderr
            );
            text = self.output.wait(text, left);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the process to end by itself within `limit`.
    ///
    /// # Panics
    /// When it does not; it is killed then.
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        self.end(limit)
    }

    /// Sends SIGTERM and waits for the end, at most [`PATIENCE`].
    ///
    /// # Panics
    /// When it does not end; it is killed then.
    pub fn terminate(mut self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.end(PATIENCE)
    }

    fn end(&mut self, limit: Duration) -> Finished {
        let start = Instant::now();
        let status = self.wait_until(start + limit);
        let mut state = String::new();
        if status.is_none() {
            // tells a process that waits from one that was stopped, or that spins
            state = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
        let took = start.elapsed();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let text = self.output.lock();
        let Some(status) = status else {
            panic!(
                "{} still ran after {limit:?} and was killed\nstdout: {}\nstderr: {}\n/proc/…/stat: {state}",
                self.name, text.stdout, text.stderr
            );
        };
        Finished { status, stdout: text.stdout.clone(), stderr: text.stderr.clone(), took }
    }

    /// The exit status, when the process ends by `deadline`.
    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        // its outputs close when it ends: a condition to wait on instead of a poll
        let mut text = self.output.lock();
        while text.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            text = self.output.wait(text, left);
        }
        drop(text);
        self.status = self.child.wait().ok();
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let stopped = self.wait_until(Instant::now() + PATIENCE).is_some();
        if !stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            // whoever reads the failure wants to know what the other end said
            let text = self.output.lock();
            eprintln!("--- {}\n--- stdout\n{}\n--- stderr\n{}", self.name, text.stdout, text.stderr);
        } else {
            assert!(stopped, "{} did not stop within {PATIENCE:?} of SIGTERM", self.name);
        }
    }
}

fn collect(
    output: Arc<Output>,
    pipe: impl Read + Send + 'static,
    part: impl Fn(&mut Text) -> &mut String + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            part(&mut output.lock()).push_str(&String::from_utf8_lossy(&line));
            output.changed.notify_all();
            line.clear();
        }
        output.lock().open -= 1;
        output.changed.notify_all();
    })
}
